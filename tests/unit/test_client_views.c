/* test_client_views.c -- what heapctl's own commands make of replies: trees, bars, changes, pictures, events.
 *
 * The replies are canned, in the words of the protocol; the commands against a live daemon are in
 * tests/integration/test_heapctl_live.c and test_heapctl_leaks.c.  As in test_client.c the files under test are
 * included whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../client/cli_bind.c"
#include "../../client/cli_clients.c"
#include "../../client/cli_command.c"
#include "../../client/cli_complete.c"
#include "../../client/cli_event.c"
#include "../../client/cli_graph.c"
#include "../../client/cli_grid.c"
#include "../../client/cli_help.c"
#include "../../client/cli_json.c"
#include "../../client/cli_map.c"
#include "../../client/cli_method.c"
#include "../../client/cli_monitor.c"
#include "../../client/cli_nearest.c"
#include "../../client/cli_picture.c"
#include "../../client/cli_print.c"
#include "../../client/cli_replay.c"
#include "../../client/cli_session.c"
#include "../../client/cli_stats.c"
#include "../../client/cli_top.c"
#include "../../client/cli_trace.c"
#include "../../client/cli_types.c"
#include "../../client/cli_watch.c"
#include "../../client/cli_who.c"
#include "../../client/cli_why.c"
#include "../../client/cli_words.c"

static const struct cli_style plain_style = {.width = 80};

/* What is written between begin() and assert_written(). */
struct written {
    char *text;
    size_t len;
    FILE *out;
};

static FILE *begin(struct written *written)
{
    written->out = open_memstream(&written->text, &written->len);
    assert_non_null(written->out);
    return written->out;
}

static void assert_written(struct written *written, const char *expected)
{
    fclose(written->out);
    assert_string_equal(written->text, expected);
    free(written->text);
}

/* ' stands for ". */
static json_t *json(const char *text)
{
    char *copy = strdup(text);
    for (char *at = copy; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at == '`' ? '\'' : *at;
    }
    json_error_t error;
    json_t *j_value = json_loads(copy, JSON_DECODE_ANY, &error);
    if (j_value == NULL) {
        fail_msg("%s: %s", copy, error.text);
    }
    free(copy);
    return j_value;
}

/* ---- why ---- */

static void test_client_views_why_is_a_tree(void **state)
{
    (void)state;
    struct written written;
    json_t *j_path = json("[{'root':'name','name':'cache'},{'object':12},{'object':17,'edge':'[`k`]'},"
                          "{'object':40,'edge':'[3]'}]");
    json_t *j_types = json("['dict','list','Point']");
    json_t *j_facts = json("{'object':40,'refcount':1,'size':64}");
    cli_why_put(begin(&written), 80, j_path, j_types, j_facts, NULL);
    assert_written(&written, "name cache\n"
                             "  dict 12\n"
                             "    ['k']  list 17\n"
                             "      [3]  Point 40   refcount 1, 64 bytes\n");
    json_decref(j_path);
    json_decref(j_types);
    json_decref(j_facts);
}

static void test_client_views_why_names_every_root(void **state)
{
    (void)state;
    static const struct {
        const char *root, *expected;
    } roots[] = {
        {"{'root':'session','session':3}", "session 3 (client 7, tcp 127.0.0.1:40112, holds 10000)\n"},
        {"{'root':'session','session':4}", "session 4 (leased, nobody is connected, holds 2)\n"},
        {"{'root':'session','session':5}", "session 5 (gone)\n"},
        {"{'root':'garbage'}", "gc.garbage\n"},
        {"{'root':'frozen'}", "frozen\n"},
        {"{'root':'immortal'}", "immortal\n"},
        {"{'root':'name','name':'a\\u001b[31m\\n'}", "name a\\u001b[31m\\n\n"},
    };
    json_t *j_clients = json("{'clients':[{'client':7,'session':3,'transport':'tcp','peer':'127.0.0.1:40112',"
                             "'holds':10000},{'client':null,'session':4,'holds':2}]}");
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        struct written written;
        json_t *j_root = json(roots[i].root);
        put_root(begin(&written), j_root, j_clients);
        assert_written(&written, roots[i].expected);
        json_decref(j_root);
    }
    json_decref(j_clients);
}

/* A chain of a thousand: the first and the last objects, and how many are between. */
static void test_client_views_why_leaves_out_the_middle(void **state)
{
    (void)state;
    struct written written;
    json_t *j_path = json("[{'root':'name','name':'chain'}]");
    for (int i = 1; i <= 1000; i++) {
        json_array_append_new(j_path, json_pack("{s:i,s:s}", "object", i, "edge", "[0]"));
    }
    json_t *j_objects = shown_objects(j_path);
    assert_int_equal(json_array_size(j_objects), STEPS_MAX);
    assert_int_equal(json_integer_value(json_array_get(j_objects, STEPS_FIRST - 1)), STEPS_FIRST);
    assert_int_equal(json_integer_value(json_array_get(j_objects, STEPS_FIRST)), 981);
    assert_int_equal(json_integer_value(json_array_get(j_objects, STEPS_MAX - 1)), 1000);
    cli_why_put(begin(&written), 80, j_path, NULL, NULL, NULL);
    fclose(written.out);
    assert_non_null(strstr(written.text, "[0]  object 20\n"));
    assert_non_null(strstr(written.text, ".. 960 more objects ..\n"));
    assert_null(strstr(written.text, "object 500\n"));
    assert_non_null(strstr(written.text, "[0]  object 1000\n"));
    for (const char *line = written.text; *line != '\0'; line = strchr(line, '\n') + 1) {
        assert_true(strcspn(line, "\n") <= 80);
    }
    free(written.text);
    json_decref(j_objects);
    json_decref(j_path);
}

/* ---- tables ---- */

static void test_client_views_top_scales_its_bars(void **state)
{
    (void)state;
    struct written written;
    json_t *j_rows = json("[{'object':12,'type':'dict','objects':10002,'bytes':1048576},"
                          "{'object':17,'type':'list','objects':3,'bytes':524288},"
                          "{'object':18,'type':'Node','objects':1,'bytes':64}]");
    json_t *j_facts = json("[{'names':['cache','c'],'sessions':[]},{'names':[],'sessions':[{'session':3,"
                           "'holds':2}]},null]");
    cli_top_put(begin(&written), &plain_style, j_rows, j_facts, 2097152);
    assert_written(&written, "share   retained                        objects  type  id  known as\n"
                             "50.0%    1.0 MiB  ####################    10002  dict  12  name cache\n"
                             "25.0%  512.0 KiB  ##########                  3  list  17  session 3\n"
                             " 0.0%       64 B  #                           1  Node  18\n");
    json_decref(j_rows);
    json_decref(j_facts);
}

static void test_client_views_types_show_changes(void **state)
{
    (void)state;
    struct written written;
    json_t *j_before =
        json("[{'type':'list','objects':5,'bytes':4000},{'type':'int','objects':2,'bytes':32}]");
    json_t *j_now = json("[{'type':'list','objects':3,'bytes':2000},{'type':'str','objects':1,'bytes':48}]");
    cli_types_put(begin(&written), &plain_style, j_now, NULL);
    assert_written(&written, "type  objects    bytes\n"
                             "list        3  2.0 KiB\n"
                             "str         1     48 B\n");
    cli_types_put(begin(&written), &plain_style, j_now, j_before);
    fclose(written.out);
    assert_non_null(strstr(written.text, "-2"));
    assert_non_null(strstr(written.text, "-2.0 KiB"));
    assert_non_null(strstr(written.text, "+48 B"));
    assert_non_null(strstr(written.text, "-32 B"));
    free(written.text);
    cli_types_put(begin(&written), &plain_style, j_now, j_now);
    fclose(written.out);
    assert_null(strstr(written.text, "+"));
    assert_null(strstr(written.text, "-"));
    free(written.text);
    json_decref(j_before);
    json_decref(j_now);
}

static void test_client_views_diff_has_signs(void **state)
{
    (void)state;
    struct written written;
    json_t *j_diff = json("{'types':[{'type':'list','objects':10000,'bytes':1600000},"
                          "{'type':'str','objects':-3,'bytes':-150}],"
                          "'sessions':[{'session':3,'objects':10000,'bytes':1600000}]}");
    json_t *j_clients = json("{'clients':[{'client':7,'session':3,'transport':'unix','peer':'','holds':1}]}");
    cli_diff_put(begin(&written), &plain_style, j_diff, j_clients);
    assert_written(&written, "type  objects     bytes\n"
                             "list   +10000  +1.5 MiB\n"
                             "str        -3    -150 B\n"
                             "\n"
                             "session                              objects     bytes\n"
                             "session 3 (client 7, unix, holds 1)   +10000  +1.5 MiB\n");
    json_decref(j_diff);
    j_diff = json("{'types':[],'sessions':[]}");
    cli_diff_put(begin(&written), &plain_style, j_diff, NULL);
    assert_written(&written, "Nothing has changed.\n");
    json_decref(j_diff);
    json_decref(j_clients);
}

static void test_client_views_stats_are_rates(void **state)
{
    (void)state;
    struct written written;
    json_t *j_stats = json("{'server':{'requests':100,'connections':3},'objects':{'live':50,'bytes':2048,"
                           "'created':1000,'freed':950},'gc':{'generations':[{'collections':4},"
                           "{'collections':2},{'collections':1}],'pauses':{'max_us':1500}}}");
    struct look before = cli_stats_look(j_stats, 10), now = before;
    assert_int_equal(before.requests, 100);
    assert_int_equal(before.collections, 7);
    now.requests += 300;
    now.created += 50;
    now.freed += 7;
    now.at_s += 2;
    cli_stats_put(begin(&written), "12:00:01", &before, NULL);
    assert_written(&written, "12:00:01           -           -           -          50     2.0 KiB"
                             "              -     1.5 ms            3\n");
    cli_stats_put(begin(&written), "12:00:03", &now, &before);
    assert_written(&written, "12:00:03         150          25           4          50     2.0 KiB"
                             "              0     1.5 ms            3\n");
    json_decref(j_stats);
}

/* ---- events ---- */

static void test_client_views_events_are_lines(void **state)
{
    (void)state;
    static const struct {
        const char *params, *expected;
    } events[] = {
        {"{'event':'gc','phase':'start','generation':2,'automatic':false}", "gc: start of generation 2\n"},
        {"{'event':'gc','phase':'stop','generation':0,'automatic':true,'unreachable':4,'uncollectable':0,"
         "'freed':9,'elapsed_us':1200}",
         "gc: stop of automatic generation 0: unreachable 4, uncollectable 0, freed 9, elapsed_us 1.2 ms\n"},
        {"{'event':'finalized','object':17,'token':null,'resurrected':true}",
         "finalized: object 17, token -, resurrected true\n"},
        {"{'event':'journal','line':'{\\'method\\':\\'collect\\'}'}", "{\"method\":\"collect\"}\n"},
        {"{'event':'lost','count':12}", "lost: count 12\n"},
        {"{'event':'fin\\u001b','x':1}", "fin\\u001b: x 1\n"},
    };
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        struct written written;
        json_t *j_params = json(events[i].params);
        cli_event_put(begin(&written), &plain_style, j_params);
        assert_written(&written, events[i].expected);
        json_decref(j_params);
    }
    struct written written;
    json_t *j_params = json("{'event':'lost','count':12}");
    cli_event_put_json(begin(&written), &plain_style, j_params);
    assert_written(&written, "{\"event\":\"lost\",\"count\":12}\n");
    json_decref(j_params);
}

/* ---- pictures ---- */

static void test_client_views_picture_keeps_each_object_and_edge_once(void **state)
{
    (void)state;
    struct cli_picture picture;
    assert_true(cli_picture_init(&picture));
    for (json_int_t object = 1; object <= 100; object++) {
        assert_int_equal(cli_picture_add(&picture, object * 7, 0), object - 1);
    }
    assert_int_equal(cli_picture_add(&picture, 14, 5), 1);
    assert_int_equal(picture.node_count, 100);
    assert_int_equal(cli_picture_find(&picture, 700), 99);
    assert_int_equal(cli_picture_find(&picture, 8), 100);
    cli_picture_link(&picture, 0, 1, "[0]", CLI_EDGE_PATH);
    cli_picture_link(&picture, 0, 1, "[0]", CLI_EDGE_PLAIN);
    cli_picture_link(&picture, 0, 1, "[1]", CLI_EDGE_PLAIN);
    cli_picture_link(&picture, 0, 100, "[2]", CLI_EDGE_PLAIN);
    assert_int_equal(picture.edge_count, 2);
    assert_int_equal(picture.edges[0].kind, CLI_EDGE_PATH);
    cli_picture_link(&picture, 0, 1, "[1]", CLI_EDGE_PATH);
    assert_int_equal(picture.edges[1].kind, CLI_EDGE_PATH);
    assert_true(cli_picture_is_linked(&picture, 0, 1));
    assert_false(cli_picture_is_linked(&picture, 1, 0));
    cli_picture_fini(&picture);
}

/* Whatever texts are in the heap, the text for dot has balanced quotes, and none of them breaks out. */
static void test_client_views_picture_escapes_everything(void **state)
{
    (void)state;
    struct cli_picture picture;
    struct written written;
    assert_true(cli_picture_init(&picture));
    cli_picture_add(&picture, 1, 0);
    cli_picture_add(&picture, 2, 1);
    picture.nodes[0].j_facts = json("{'type':'dict','size':64,'refcount':1,'referents':1,'immortal':false,"
                                    "'names':['x\\'];\\nevil [label=\\'\\\\'],"
                                    "'sessions':[{'session':3,'holds':2}]}");
    picture.nodes[1].j_facts = json("{'type':'str','immortal':true}");
    picture.nodes[1].text = strdup("\"<b>&lt;\\N\"");
    cli_picture_link(&picture, 0, 1, "['\x1b']", CLI_EDGE_PATH);
    cli_picture_write(&picture, begin(&written));
    fclose(written.out);
    assert_non_null(strstr(written.text, "name x\\\"];\\\\nevil [label=\\\"\\\\\"];\n"));
    assert_non_null(strstr(written.text, "label=\"\\\"<b>&amp;lt;\\\\N\\\"\""));
    assert_non_null(strstr(written.text, "['\\\\u001b']"));
    assert_non_null(strstr(written.text, "session 3\\n2 holds"));
    /* An immortal atom is a leaf of its edge. */
    assert_non_null(strstr(written.text, "n0 -> i0 "));
    free(written.text);
    cli_picture_fini(&picture);
}

static void test_client_views_picture_cuts_long_texts_between_characters(void **state)
{
    (void)state;
    struct written written;
    char text[3 * LABEL_BYTES + 1] = "";
    for (int i = 0; i < LABEL_BYTES; i++) {
        strcat(text, "\u20ac");
    }
    put_escaped(begin(&written), text, strlen(text));
    fclose(written.out);
    assert_int_equal(written.len, LABEL_BYTES + 2);
    assert_string_equal(written.text + LABEL_BYTES, "..");
    free(written.text);
}

static void test_client_views_graph_names_edges_as_why_does(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        size_t i;
        const char *expected;
    } edges[] = {{"list", 3, "[3]"}, {"tuple", 0, "[0]"},        {"set", 1, "{}"},
                 {"Point", 0, ".x"}, {"Point", 1, ".__class__"}, {"weakref", 0, ""}};
    json_t *j_attrs = json("['x']");
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        char *label = edge_label(edges[i].type, edges[i].i, 2, j_attrs);
        assert_string_equal(label, edges[i].expected);
        free(label);
    }
    json_decref(j_attrs);
    static const struct {
        const char *key, *expected;
    } keys[] = {
        {"'k'", "['k']"}, {"'it`s'", "['it\\'s']"}, {"7", "[7]"}, {"{'$int':'1'}", "[{\"$int\": \"1\"}]"}};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        json_t *j_key = json(keys[i].key);
        char *label = key_label(j_key);
        assert_string_equal(label, keys[i].expected);
        free(label);
        json_decref(j_key);
    }
}

static void test_client_views_graph_knows_formats(void **state)
{
    (void)state;
    assert_string_equal(format_of("a.svg"), "svg");
    assert_string_equal(format_of("a.b/c.d.png"), "png");
    assert_string_equal(format_of(".dot"), "dot");
    assert_null(format_of("svg"));
    assert_null(format_of("a.pdf"));
    assert_null(format_of(""));
}

/* ---- the table of commands ---- */

static struct cli_table *table_with_commands(void)
{
    struct cli_table *table = cli_table_create_steal(
        json("{'openrpc':'1.4.0','methods':[{'name':'stats','params':[{'name':'section','required':false,"
             "'x-kind':'enum','schema':{'type':'string'}}]},{'name':'ping','params':[]}]}"));
    assert_non_null(table);
    assert_true(cli_command_add_all(table));
    return table;
}

static void test_client_views_commands_stand_beside_methods(void **state)
{
    (void)state;
    struct cli_table *table = table_with_commands();
    static const char *const own[] = {"why",   "top", "types",   "mark",  "diff", "clients",
                                      "graph", "map", "monitor", "replay"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        const struct cli_method *method = cli_table_find(table, own[i]);
        assert_non_null(method);
        assert_true(*method->doc != '\0');
        assert_non_null(cli_command_find(own[i]));
    }
    /* The daemon's own method keeps its params, the command's come behind. */
    const struct cli_method *stats = cli_table_find(table, "stats");
    assert_int_equal(stats->param_count, 3);
    assert_string_equal(stats->params[0].name, "section");
    assert_true(stats->params[1].is_local);
    assert_null(cli_command_find("ping"));
    assert_int_equal(table->count, 2 + sizeof own / sizeof own[0]);
    cli_table_destroy(table);
}

/* Binds and gives the params that would be sent, and the value of one that would not. */
static void assert_bound(const struct cli_table *table, char *const *words, size_t count, const char *params,
                         const char *local, const char *value)
{
    struct cli_call call;
    char *problem = NULL;
    if (!cli_bind(&call, &problem, cli_table_find(table, words[0]), count - 1, words + 1, "")) {
        fail_msg("%s: %s", words[0], problem);
    }
    char *sent = cli_call_params(&call);
    const char *found = cli_call_value(&call, local);
    assert_string_equal(sent, params);
    assert_true((found == NULL) == (value == NULL));
    if (value != NULL) {
        assert_string_equal(found, value);
    }
    free(sent);
    cli_call_fini(&call);
}

#define BOUND(params, local, value, ...)                                                                     \
    assert_bound(table, ((char *[]){__VA_ARGS__}), sizeof((char *[]){__VA_ARGS__}) / sizeof(char *), params, \
                 local, value)

static void test_client_views_commands_bind_periods_and_letters(void **state)
{
    (void)state;
    struct cli_table *table = table_with_commands();
    char stats[] = "stats", gc[] = "gc", watch[] = "--watch", watch_2[] = "--watch=0.5", graph[] = "graph",
         letter[] = "-o", svg[] = "a.svg", both[] = "-oa.svg", id[] = "17", why[] = "why", unknown[] = "-x",
         long_one[] = "--output", never[] = "--watch=0", nan[] = "--watch=nan";
    BOUND("{\"section\":\"gc\"}", "watch", NULL, stats, gc);
    BOUND("{\"section\":\"gc\"}", "watch", "1", stats, watch, gc);
    BOUND("{}", "watch", "0.5", stats, watch_2);
    BOUND("{\"object\":17,\"output\":\"a.svg\"}", "output", "\"a.svg\"", graph, id, letter, svg);
    BOUND("{\"object\":17,\"output\":\"a.svg\"}", "output", "\"a.svg\"", graph, both, id);
    BOUND("{\"object\":17,\"output\":\"a.svg\"}", "output", "\"a.svg\"", graph, id, long_one, svg);
    struct {
        char *words[4];
        size_t count;
        const char *problem;
    } wrong[] = {{{why, id, unknown}, 3, "-x"},
                 {{graph, id, letter}, 3, "needs a value"},
                 {{graph, id}, 2, "output"},
                 {{stats, never}, 2, "must be seconds"},
                 {{stats, nan}, 2, "must be seconds"},
                 {{stats, gc, id}, 3, "must be an int"},
                 {{graph, letter, svg, both}, 4, "twice"}};
    /* A period is never taken by position: the word behind the section is the count. */
    wrong[5].words[2] = gc;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct cli_call call;
        char *problem = NULL;
        const struct cli_method *method = cli_table_find(table, wrong[i].words[0]);
        assert_false(cli_bind(&call, &problem, method, wrong[i].count - 1, wrong[i].words + 1, ""));
        assert_non_null(problem);
        if (strstr(problem, wrong[i].problem) == NULL) {
            fail_msg("%s, expected %s", problem, wrong[i].problem);
        }
        free(problem);
    }
    cli_table_destroy(table);
}

static void test_client_views_commands_complete(void **state)
{
    (void)state;
    struct cli_table *table = table_with_commands();
    char stats[] = "stats", dash[] = "--w", mo[] = "mo";
    json_t *j_found = cli_complete(table, NULL, 2, (char *[]){stats, dash});
    assert_int_equal(json_array_size(j_found), 1);
    assert_string_equal(json_string_value(json_array_get(j_found, 0)), "--watch");
    json_decref(j_found);
    j_found = cli_complete(table, NULL, 1, (char *[]){mo});
    assert_string_equal(json_string_value(json_array_get(j_found, 0)), "monitor");
    json_decref(j_found);
    cli_table_destroy(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client_views_why_is_a_tree),
        cmocka_unit_test(test_client_views_why_names_every_root),
        cmocka_unit_test(test_client_views_why_leaves_out_the_middle),
        cmocka_unit_test(test_client_views_top_scales_its_bars),
        cmocka_unit_test(test_client_views_types_show_changes),
        cmocka_unit_test(test_client_views_diff_has_signs),
        cmocka_unit_test(test_client_views_stats_are_rates),
        cmocka_unit_test(test_client_views_events_are_lines),
        cmocka_unit_test(test_client_views_picture_keeps_each_object_and_edge_once),
        cmocka_unit_test(test_client_views_picture_escapes_everything),
        cmocka_unit_test(test_client_views_picture_cuts_long_texts_between_characters),
        cmocka_unit_test(test_client_views_graph_names_edges_as_why_does),
        cmocka_unit_test(test_client_views_graph_knows_formats),
        cmocka_unit_test(test_client_views_commands_stand_beside_methods),
        cmocka_unit_test(test_client_views_commands_bind_periods_and_letters),
        cmocka_unit_test(test_client_views_commands_complete),
    };
    return cmocka_run_group_tests_name("client_views", tests, NULL, NULL);
}
