/* test_metrics.c -- the page of metrics: well formed, well named, complete, and never waited for. */
#include "rpc_fixture.h"

#include "../../protocol/rpc_internal.h"
#include "../support/promtext.h"

#include <jansson.h>

static char *metrics_of(struct rpc_fixture *f)
{
    size_t len;
    char *text = rpc_service_metrics(f->service, &len);
    assert_non_null(text);
    char *copy = malloc(len + 1);
    assert_non_null(copy);
    memcpy(copy, text, len);
    copy[len] = '\0';
    free(text);
    assert_int_equal(strlen(copy), len);
    return copy;
}

static double value_of(const char *text, const char *sample)
{
    double value = -1;
    if (!promtext_value(&value, text, sample)) {
        fail_msg("there is no %s", sample);
    }
    return value;
}

static void test_metrics_are_well_formed_and_well_named(void **state)
{
    struct rpc_fixture *f = *state;
    char why[PROMTEXT_WHY_BYTES];
    call(f, "create", "{\"value\":[1000,\"a\",{\"b\":[]}]}", "<object>");
    call(f, "collect", "{}", "<object>");
    char *text = metrics_of(f);
    if (!promtext_check(text, why)) {
        fail_msg("%s", why);
    }
    assert_true(promtext_families(text) > 60);
    free(text);
}

/* The checker finds what it is there to find. */
static void test_metrics_checker_finds_faults(void **state)
{
    static const char *const faults[] = {
        "heapd_a 1\n",                                                                    /* no TYPE */
        "# TYPE heapd_a gauge\nheapd_a 1\n",                                              /* no HELP */
        "# HELP heapd_a x\n# TYPE heapd_a gauge\n",                                       /* no sample */
        "# HELP heapd_a x\n# TYPE heapd_a counter\nheapd_a 1\n",                          /* no _total */
        "# HELP heapd_a_total x\n# TYPE heapd_a_total gauge\nheapd_a_total 1\n",          /* _total */
        "# HELP heapd_a_ms x\n# TYPE heapd_a_ms gauge\nheapd_a_ms 1\n",                   /* unit */
        "# HELP heapd_a x\n# TYPE heapd_a gauge\nheapd_a 1",                              /* no newline */
        "# HELP heapd_a x\n# TYPE heapd_a gauge\nheapd_a 1\nheapd_a 2\n",                 /* twice */
        "# HELP heapd_a x\n# TYPE heapd_a gauge\nheapd_a{b=1} 1\n",                       /* label */
        "# HELP heapd_a x\n# TYPE heapd_a gauge\nheapd_a one\n",                          /* value */
        "# HELP heapd_a x\n# TYPE heapd_a gauge\nheapd_b 1\n",                            /* another's */
        "# HELP heapd_a \n# TYPE heapd_a gauge\nheapd_a 1\n",                             /* says nothing */
        "# HELP heapd_a_count x\n# TYPE heapd_a_count gauge\nheapd_a_count 1\n",          /* suffix */
        "# HELP heapd_a x\n# TYPE heapd_a histogram\nheapd_a_bucket{le=\"1\"} 2\nheapd_a_bucket{le=\"+Inf\"} 1\n"
        "heapd_a_sum 1\nheapd_a_count 1\n",                                               /* falls */
        "# HELP heapd_a x\n# TYPE heapd_a histogram\nheapd_a_bucket{le=\"1\"} 2\nheapd_a_sum 1\nheapd_a_count 2\n",
        "# HELP heapd_a x\n# TYPE heapd_a gauge\nheapd_a 1\n# HELP heapd_b x\n# TYPE heapd_b gauge\nheapd_b 1\n"
        "# HELP heapd_a x\n# TYPE heapd_a gauge\nheapd_a{c=\"d\"} 1\n",                   /* in two pieces */
    };
    char why[PROMTEXT_WHY_BYTES];
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        if (promtext_check(faults[i], why)) {
            fail_msg("no fault was found with:\n%s", faults[i]);
        }
    }
    assert_true(promtext_check("# HELP heapd_a x\n# TYPE heapd_a gauge\nheapd_a{b=\"c\\\"\"} 1e3\n", why));
}

/* Every number of `stats` is on the page: as many as there are, by section, and some by value. */
static void test_metrics_have_the_figures_of_stats(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "{\"value\":[1000,2000,\"text\"],\"name\":\"a\"}", "<object>");
    fail_call(f, "get", "{\"object\":\"nobody\"}", "name_error", NULL);
    char *text = metrics_of(f);
    say(f, "{\"id\":1,\"method\":\"stats\"}\n");
    json_t *j_stats = json_loads(f->said, 0, NULL);
    json_int_t live, created, names, arenas, pools, bytes, limit;
    assert_int_equal(json_unpack(j_stats, "{s:{s:{s:I, s:I, s:I}, s:{s:I}, s:{s:I, s:I}, s:{s:I}}}", "result", "objects",
                                 "live", &live, "created", &created, "bytes", &bytes, "names", "count", &names,
                                 "allocator", "arenas", &arenas, "pools", &pools, "limits", "max-depth", &limit),
                     0);
    assert_true(value_of(text, "heapd_objects") == (double)live);
    assert_true(value_of(text, "heapd_objects_created_total") == (double)created);
    assert_true(value_of(text, "heapd_objects_bytes") == (double)bytes);
    assert_true(value_of(text, "heapd_names") == (double)names);
    assert_true(value_of(text, "heapd_arenas") == (double)arenas);
    assert_true(value_of(text, "heapd_pools") == (double)pools);
    assert_true(value_of(text, "heapd_limit_max_depth") == (double)limit);
    assert_true(value_of(text, "heapd_connections") == 3);
    assert_true(value_of(text, "heapd_connections_accepted_total") == 7);
    assert_true(value_of(text, "heapd_errors_total{error=\"name_error\"}") == 1);
    assert_true(value_of(text, "heapd_type_objects{type=\"int\"}") == 2);
    assert_true(value_of(text, "heapd_requests_total") == 2);
    assert_true(value_of(text, "heapd_gil_hold_seconds_count") > 0);
    assert_true(value_of(text, "heapd_layer_bytes{layer=\"resident\"}") > 0);
    json_decref(j_stats);
    free(text);
}

/* A class's name, which a client chooses, is no label. */
static void test_metrics_have_no_labels_from_clients(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "{\"value\":{\"$class\":\"Node\"},\"name\":\"Node\"}", "<object>");
    call(f, "create", "{\"value\":{\"$instance\":\"Node\"}}", "<object>");
    char *text = metrics_of(f);
    assert_null(strstr(text, "Node"));
    assert_true(value_of(text, "heapd_type_objects{type=\"instance\"}") == 1);
    free(text);
}

struct busy {
    struct heap *heap;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool has_gil, may_go;
};

static void *hold_gil(void *arg)
{
    struct busy *busy = arg;
    heap_enter(busy->heap);
    pthread_mutex_lock(&busy->mutex);
    busy->has_gil = true;
    pthread_cond_signal(&busy->changed);
    while (!busy->may_go) {
        pthread_cond_wait(&busy->changed, &busy->mutex);
    }
    pthread_mutex_unlock(&busy->mutex);
    heap_leave(busy->heap);
    return NULL;
}

/* Somebody holds the GIL all the time: the page is there before it is let go. */
static void test_metrics_do_not_wait_for_the_gil(void **state)
{
    struct rpc_fixture *f = *state;
    struct busy busy = {.heap = f->service->heap,
                        .mutex = PTHREAD_MUTEX_INITIALIZER,
                        .changed = PTHREAD_COND_INITIALIZER};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, hold_gil, &busy), 0);
    pthread_mutex_lock(&busy.mutex);
    while (!busy.has_gil) {
        pthread_cond_wait(&busy.changed, &busy.mutex);
    }
    pthread_mutex_unlock(&busy.mutex);
    free(metrics_of(f));
    pthread_mutex_lock(&busy.mutex);
    assert_false(busy.may_go);
    busy.may_go = true;
    pthread_cond_signal(&busy.changed);
    pthread_mutex_unlock(&busy.mutex);
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_metrics_are_well_formed_and_well_named),
        cmocka_unit_test(test_metrics_checker_finds_faults),
        fixture_test(test_metrics_have_the_figures_of_stats),
        fixture_test(test_metrics_have_no_labels_from_clients),
        fixture_test(test_metrics_do_not_wait_for_the_gil),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
