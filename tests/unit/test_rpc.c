/* test_rpc.c -- the envelope, batches, limits and turns, with bytes and without a socket.
 *
 * test_methods.c has what the methods do.
 */
#include "rpc_fixture.h"

#include <pthread.h>

#include "../support/process.h"

#define PING "{\"id\":1,\"method\":\"ping\"}\n"
#define PONG "{\"id\":1,\"result\":\"pong\"}\n"

/* ---- the examples of the JSON-RPC 2.0 specification, with our method names ---- */

static void test_rpc_spec_calls(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "{\"value\":[42,23],\"name\":\"pair\"}", "<object>");
    tell(f, "{\"jsonrpc\":\"2.0\",\"method\":\"list.getitem\",\"params\":[\"pair\",1,false,0],\"id\":1}",
         "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"object\":<int>,\"value\":23}}");
    tell(f,
         "{\"jsonrpc\":\"2.0\",\"method\":\"list.getitem\",\"params\":{\"index\":0,\"object\":\"pair\","
         "\"depth\":0},\"id\":3}",
         "{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{\"object\":<int>,\"value\":42}}");
    tell(f, "{\"jsonrpc\":\"2.0\",\"method\":\"list.append\",\"params\":[\"pair\",5]}", NULL);
    tell(f, "{\"jsonrpc\":\"2.0\",\"method\":\"foobar\"}", NULL);
    tell(f, "{\"jsonrpc\":\"2.0\",\"method\":\"foobar\",\"id\":\"1\"}",
         "{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"error\":<error method_not_found {\"nearest\":[]}>}");
    tell(f, "{\"jsonrpc\":\"2.0\",\"method\":\"foobar, \"params\":\"bar\",\"baz]",
         "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error parse_error {\"line\":<int>,\"column\":<int>}>}");
    tell(f, "{\"jsonrpc\":\"2.0\",\"method\":1,\"params\":\"bar\"}",
         "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error invalid_request>}");
    call(f, "get", "[\"pair\"]", "[42,23,5]");
}

static void test_rpc_spec_batches(void **state)
{
    struct rpc_fixture *f = *state;
    const char *invalid = "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error invalid_request>}";
    char wanted[1024];
    tell(f, "[{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"id\":\"1\"},{\"jsonrpc\":\"2.0\",\"method\"]",
         "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error parse_error>}");
    tell(f, "[]", invalid);
    snprintf(wanted, sizeof(wanted), "[%s]", invalid);
    tell(f, "[1]", wanted);
    tell(f, "[[]]", wanted);
    snprintf(wanted, sizeof(wanted), "[%s,%s,%s]", invalid, invalid, invalid);
    tell(f, "[1,2,3]", wanted);
    snprintf(wanted, sizeof(wanted),
             "[{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"result\":<object>},%s,"
             "{\"jsonrpc\":\"2.0\",\"id\":\"5\",\"error\":<error "
             "method_not_found>},{\"id\":\"9\",\"result\":\"pong\"}]",
             invalid);
    tell(f,
         "[{\"jsonrpc\":\"2.0\",\"method\":\"create\",\"params\":[[1]],\"id\":\"1\"},"
         "{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"params\":[7]},{\"foo\":\"boo\"},"
         "{\"jsonrpc\":\"2.0\",\"method\":\"foo.get\",\"params\":{\"name\":\"myself\"},\"id\":\"5\"},"
         "{\"method\":\"ping\",\"id\":\"9\"}]",
         wanted);
    tell(f,
         "[{\"jsonrpc\":\"2.0\",\"method\":\"ping\"},{\"jsonrpc\":\"2.0\",\"method\":\"nope\",\"params\":[7]}]",
         NULL);
}

/* ---- the envelope ---- */

static void test_rpc_echoes_ids_byte_for_byte(void **state)
{
    struct rpc_fixture *f = *state;
    static const char *const ids[] = {"1.0",
                                      "-0",
                                      "1e3",
                                      "\"\\u0041\"",
                                      "12345678901234567890",
                                      "\"\"",
                                      "null",
                                      "9007199254740993",
                                      "\"\\ud83d\\ude00\"",
                                      "0.10000"};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        char line[128], wanted[128];
        snprintf(line, sizeof(line), "{\"id\":%s,\"method\":\"ping\"}\n", ids[i]);
        snprintf(wanted, sizeof(wanted), "{\"id\":%s,\"result\":\"pong\"}\n", ids[i]);
        assert_string_equal(say(f, line), wanted);
        snprintf(line, sizeof(line), "{\"jsonrpc\":\"2.0\",\"id\":%s,\"method\":\"none\"}\n", ids[i]);
        snprintf(wanted, sizeof(wanted), "{\"jsonrpc\":\"2.0\",\"id\":%s,\"error\":{", ids[i]);
        assert_memory_equal(say(f, line), wanted, strlen(wanted));
    }
}

static void test_rpc_reads_members_in_any_order(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "{\"value\":[7],\"name\":\"a\"}", "<object>");
    tell(f,
         "{\"params\":{\"index\":0,\"object\":\"a\",\"depth\":0},\"more\":{\"$x\":[]},\"method\":\"list."
         "getitem\",\"id\":2}",
         "{\"id\":2,\"result\":{\"object\":<int>,\"value\":7}}");
    tell(f, " { \"p\\u0061rams\" : [ \"a\" ] , \"\\u006dethod\" : \"g\\u0065t\" , \"id\" : 3 } ",
         "{\"id\":3,\"result\":[7]}");
}

static void test_rpc_refuses_what_is_no_request(void **state)
{
    struct rpc_fixture *f = *state;
    static const char *const lines[][2] = {
        {"1", "null"},
        {"\"ping\"", "null"},
        {"{}", "null"},
        {"{\"id\":4}", "4"},
        {"{\"id\":4,\"method\":null}", "4"},
        {"{\"id\":[4],\"method\":\"ping\"}", "null"},
        {"{\"id\":true,\"method\":\"ping\"}", "null"},
        {"{\"id\":5,\"method\":\"ping\",\"params\":null}", "5"},
        {"{\"id\":5,\"method\":\"ping\",\"params\":\"x\"}", "5"},
        {"{\"id\":6,\"method\":\"ping\",\"jsonrpc\":\"1.0\"}", "6"},
        {"{\"id\":6,\"method\":\"ping\",\"jsonrpc\":2.0}", "6"},
        {"{\"id\":7,\"method\":\"ping\",\"method\":\"ping\"}", "7"},
        {"{\"id\":8,\"id\":8,\"method\":\"ping\"}", "null"},
        {"{\"id\":9,\"method\":\"ping\",\"params\":[],\"params\":[]}", "9"},
        {"{\"method\":\"ping\",\"params\":1}", "null"},
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char wanted[128];
        snprintf(wanted, sizeof(wanted), "{\"jsonrpc\":\"2.0\",\"id\":%s,\"error\":<error invalid_request>}",
                 lines[i][1]);
        tell(f, lines[i][0], wanted);
    }
}

static void test_rpc_tells_line_and_column(void **state)
{
    struct rpc_fixture *f = *state;
    say(f, "\n  \r\n" PING "{\"id\":1,}\n");
    char *second = strchr(f->said, '\n');
    assert_non_null(second);
    f->said[f->said_len - 1] = '\0';
    fixture_match(f, "line 4",
                  "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error parse_error {\"line\":4,\"column\":9}>}",
                  second + 1);
    tell(f, "\xef\xbb\xbf{\"id\":1,\"method\":\"ping\"}",
         "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error parse_error {\"line\":5,\"column\":1}>}");
    tell(f, "\"\xff\"",
         "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error parse_error {\"line\":6,\"column\":2}>}");
    say_bytes(f, "{\"id\":\0}\n", 9);
    assert_non_null(strstr(f->said, "\"line\":7,\"column\":7"));
    tell(f, "{\"id\":1,\"method\":\"ping\"}{}",
         "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error parse_error {\"line\":8}>}");
}

static void test_rpc_finds_nearest_methods(void **state)
{
    struct rpc_fixture *f = *state;
    fail_call(f, "list.apend", "[]", "method_not_found",
              "{\"nearest\":[\"list.append\",\"list.extend\",\"list.len\"]}");
    fail_call(f, "append", "[]", "method_not_found", "{\"nearest\":[\"list.append\"]}");
    fail_call(f, "creat", "[]", "method_not_found", "{\"nearest\":[\"create\"]}");
    fail_call(f, "rpc.nothing", "[]", "method_not_found", NULL);
    fail_call(f, "", "[]", "method_not_found", "{\"nearest\":[]}");
    fail_call(f, "gc\\u002ecollect\\u0000", "[]", "method_not_found", NULL);
}

/* ---- parameters ---- */

static void test_rpc_binds_params(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[[1,2,3],\"a\",null]", "<object>");
    call(f, "get", "[\"a\",null,null]", "[1,2,3]");
    call(f, "list.append", "{\"object\":\"a\",\"value\":null}", "null");
    call(f, "get", "[\"a\"]", "[1,2,3,null]");
    call(f, "list.pop", "{\"object\":\"a\",\"index\":-0,\"depth\":0,\"hold\":false}",
         "{\"object\":<int>,\"value\":1}");
    call(f, "name.list", "{\"prefix\":\"\\u0061\"}",
         "{\"names\":[{\"name\":\"a\",\"object\":<int>}],\"next\":null}");
}

static void test_rpc_refuses_params(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[[],\"a\"]", "<object>");
    static const char *const wrong[][3] = {
        {"ping", "[1]", "\"[0]\""},
        {"get", "[\"a\",1,\"ref\",0]", "\"[3]\""},
        {"get", "[]", "\"object\""},
        {"get", "{\"depth\":1}", "\"object\""},
        {"get", "{\"object\":\"a\",\"de\\u0070\":1}", "\"dep\""},
        {"get", "{\"object\":\"a\",\"object\":\"a\"}", "\"object\""},
        {"get", "[null]", "\"object\""},
        {"get", "[1.0]", "\"object\""},
        {"get", "[0]", "\"object\""},
        {"get", "[-1]", "\"object\""},
        {"get", "[9007199254740992]", "\"object\""},
        {"get", "[99999999999999999999]", "\"object\""},
        {"get", "[\"a\",1.0]", "\"depth\""},
        {"get", "[\"a\",-2]", "\"depth\""},
        {"get", "[\"a\",1,\"LET\"]", "\"shared\""},
        {"get", "[\"a\",1,1]", "\"shared\""},
        {"create", "[1,2]", "\"name\""},
        {"create", "[1,\"x\",1]", "\"hold\""},
        {"create", "[1,null,false]", "\"hold\""},
        {"create", "[{\"$nope\":1}]", "\"value\""},
        {"create", "[{\"a\":1,\"$ref\":1}]", "\"value\""},
        {"list.insert", "[\"a\",9223372036854775808,1]", "\"index\""},
        {"name.list", "{\"limit\":0}", "\"limit\""},
        {"name.list", "{\"limit\":100001}", "\"limit\""},
        {"collect", "[3]", "\"generation\""},
        {"stats", "[\"nothing\"]", "\"section\""},
        {"gc.set_threshold", "[]", "\"t0\""},
        {"gc.set_threshold", "[2147483648]", "\"t0\""},
        {"sys.setswitchinterval", "[0]", "\"seconds\""},
        {"sys.setswitchinterval", "[10.5]", "\"seconds\""},
        {"sys.setswitchinterval", "[\"1\"]", "\"seconds\""},
        {"sys.intern", "[1]", "\"value\""},
        {"dict.incr", "[\"a\",1,1.5]", "\"by\""},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char data[64];
        snprintf(data, sizeof(data), "{\"param\":%s}", wrong[i][2]);
        fail_call(f, wrong[i][0], wrong[i][1], "invalid_params", data);
    }
}

/* What is wrong is told in the order of section 9, also when the method comes after its params. */
static void test_rpc_orders_errors(void **state)
{
    struct rpc_fixture *f = *state;
    tell(f, "{\"params\":[0],\"method\":\"get\",\"id\":1}", "{\"id\":1,\"error\":<error invalid_params>}");
    tell(f, "{\"params\":[0],\"method\":\"git\",\"id\":1}", "{\"id\":1,\"error\":<error method_not_found>}");
    tell(f, "{\"method\":\"get\",\"params\":[0],\"id\":1,\"jsonrpc\":\"3\"}",
         "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":<error invalid_request>}");
    tell(f, "{\"method\":\"get\",\"params\":[0],\"id\":1",
         "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error parse_error>}");
    tell(f, "{\"method\":\"list.append\",\"params\":[4711,{\"$nope\":1}],\"id\":1}",
         "{\"id\":1,\"error\":<error invalid_params>}");
    fail_call(f, "list.append", "[4711,{\"$ref\":4712}]", "not_found", "{\"object\":4711}");
}

/* ---- how bytes come ---- */

static void test_rpc_reads_one_byte_at_a_time(void **state)
{
    struct rpc_fixture *f = *state;
    const char *lines =
        "{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[\"\xc3\xa9\"],\"name\":\"a\"}}\r\n\n"
        "[{\"id\":2,\"method\":\"get\",\"params\":[\"a\"]},{\"id\":3,\"method\":\"ping\"}]\n";
    fixture_forget(f);
    for (const char *at = lines; *at != '\0'; at++) {
        fixture_feed(f->conn, at, 1);
        fixture_run(f);
    }
    assert_non_null(strstr(f->said, "[{\"id\":2,\"result\":[\"\xc3\xa9\"]},{\"id\":3,\"result\":\"pong\"}]\n"));
}

/* Lines that grow through many reads, with and without turns between them, arrive whole. */
static void test_rpc_reads_long_lines(void **state)
{
    struct rpc_fixture *f = *state;
    for (size_t size = 1000; size < 3000000; size = size * 3 + 7) {
        char *line = malloc(size + 128);
        assert_non_null(line);
        int head = sprintf(line, PING "{\"id\":2,\"method\":\"ping\",\"pad\":\"");
        memset(line + head, 'x', size);
        strcpy(line + head + size, "\"}\n{\"id\":3,\"met");
        size_t len = (size_t)head + size + strlen("\"}\n{\"id\":3,\"met");
        fixture_forget(f);
        for (size_t at = 0; at < len; at += 50000) {
            fixture_feed(f->conn, line + at, len - at < 50000 ? len - at : 50000);
            if (size % 2 == 0) {
                fixture_run(f);
            }
        }
        fixture_feed(f->conn, "hod\":\"ping\"}\n", 13);
        fixture_run(f);
        assert_string_equal(f->said, PONG "{\"id\":2,\"result\":\"pong\"}\n{\"id\":3,\"result\":\"pong\"}\n");
        free(line);
    }
}

static void test_rpc_answers_last_line_at_eof(void **state)
{
    struct rpc_fixture *f = *state;
    fixture_forget(f);
    fixture_feed(f->conn, PING "{\"id\":2,\"method\":\"gc.isenabled\"}", strlen(PING) + 32);
    rpc_conn_received_eof(f->conn);
    assert_false(rpc_conn_is_finished(f->conn));
    fixture_run(f);
    assert_string_equal(f->said, PONG "{\"id\":2,\"result\":true}\n");
    assert_true(rpc_conn_is_finished(f->conn));
}

static void test_rpc_notices_eof_without_requests(void **state)
{
    struct rpc_fixture *f = *state;
    rpc_conn_received_eof(f->conn);
    assert_false(rpc_thread_run(f->thread));
    assert_ptr_equal(rpc_thread_next(f->thread), f->conn);
    assert_null(rpc_thread_next(f->thread));
    assert_true(rpc_conn_is_finished(f->conn));
}

static void test_rpc_closes_on_tls_hello(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *conn = rpc_conn_create(f->thread, 9, &fixture_peer, f);
    fixture_feed(conn, "\x16", 1);
    assert_null(rpc_conn_must_close(conn));
    fixture_feed(conn, "\x03", 1);
    assert_non_null(rpc_conn_must_close(conn));
    fixture_feed(conn, "\x01\n", 2);
    assert_false(rpc_thread_run(f->thread));
    assert_ptr_equal(rpc_thread_next(f->thread), conn);
    rpc_conn_destroy(conn, "end of test");
}

/* ---- limits ---- */

static struct rpc_limits small_limits(void)
{
    struct rpc_limits limits;
    rpc_limits_default(&limits);
    limits.max_request = 200;
    limits.max_depth = 6;
    limits.max_batch = 3;
    limits.max_output = 2000;
    limits.max_holds = 2;
    limits.max_names = 2;
    return limits;
}

static void test_rpc_keeps_line_limits(void **state)
{
    (void)state;
    struct rpc_limits limits = small_limits();
    struct rpc_fixture *f = fixture_open(&limits);
    char line[1024];
    memset(line, 'x', sizeof(line));
    memcpy(line + 900, "\n" PING, strlen(PING) + 2);
    say(f, line);
    f->said[f->said_len - strlen(PONG) - 1] = '\0';
    fixture_match(f, "a long line",
                  "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error limit_exceeded "
                  "{\"limit\":\"max-request\",\"max\":200}>}",
                  f->said);
    assert_string_equal(f->said + f->said_len - strlen(PONG), PONG);
    tell(f, "[[[[[[[]]]]]]]",
         "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error limit_exceeded "
         "{\"limit\":\"max-depth\",\"max\":6}>}");
    tell(f, "[[[[[[[]]]]]]", "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error parse_error>}");
    tell(f, "[1,2,3,4]",
         "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error limit_exceeded "
         "{\"limit\":\"max-batch\",\"max\":3}>}");
    tell(f, "[1,2,3,4", "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error parse_error>}");
    tell(f, "{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[[[[1]]]]}}",
         "{\"id\":1,\"result\":{\"object\":<int>,\"type\":\"list\",\"refcount\":1}}");
    fixture_close(f);
}

static void test_rpc_keeps_heap_limits(void **state)
{
    (void)state;
    struct rpc_limits limits = small_limits();
    struct rpc_fixture *f = fixture_open(&limits);
    call(f, "create", "[[1]]", "<object>");
    call(f, "create", "[[[2]],\"a\"]", "<object>");
    call(f, "ref", "[\"a\"]", "<object>");
    fail_call(f, "ref", "[\"a\"]", "limit_exceeded", "{\"limit\":\"max-holds\",\"max\":2}");
    fail_call(f, "create", "[[3]]", "limit_exceeded", "{\"limit\":\"max-holds\",\"max\":2}");
    fail_call(f, "list.pop", "[\"a\"]", "limit_exceeded", "{\"limit\":\"max-holds\"}");
    fail_call(f, "list.getitem", "[\"a\",0,true]", "limit_exceeded", "{\"limit\":\"max-holds\"}");
    call(f, "get", "[\"a\",-1]", "[[2]]");
    call(f, "create", "[5000,\"b\"]", "<object>");
    fail_call(f, "create", "[5001,\"c\"]", "limit_exceeded", "{\"limit\":\"max-names\",\"max\":2}");
    fail_call(f, "name.bind", "[\"c\",\"a\"]", "limit_exceeded",
              "{\"limit\":\"max-names\",\"max\":2,\"name\":\"c\"}");
    call(f, "name.bind", "[\"b\",\"a\"]", "{\"name\":\"b\",\"object\":<int>,\"refcount\":3,\"freed\":1}");
    fixture_close(f);
}

static void test_rpc_keeps_output_limit_of_a_reply(void **state)
{
    (void)state;
    struct rpc_limits limits = small_limits();
    limits.max_request = 100000;
    struct rpc_fixture *f = fixture_open(&limits);
    char line[4096], text[2001];
    memset(text, 'y', 2000);
    text[2000] = '\0';
    snprintf(line, sizeof(line), "{\"id\":1,\"method\":\"create\",\"params\":[[\"%s\"],\"big\"]}", text);
    tell(f, line, "{\"id\":1,\"result\":<object>}");
    fail_call(f, "get", "[\"big\"]", "limit_exceeded", "{\"limit\":\"max-output\",\"max\":2000}");
    fail_call(f, "list.pop", "{\"object\":\"big\",\"depth\":0}", "limit_exceeded",
              "{\"limit\":\"max-output\",\"max\":2000}");
    call(f, "list.len", "[\"big\"]", "{\"len\":1}");
    fail_call(f, "rpc.discover", "[]", "limit_exceeded", "{\"limit\":\"max-output\"}");
    fixture_close(f);
}

/* Out of memory is an answer: garbage is collected first, and what fails leaves nothing behind. */
static void test_rpc_tells_memory_errors(void **state)
{
    (void)state;
    struct rpc_limits limits;
    rpc_limits_default(&limits);
    limits.max_memory = 8 << 20;
    struct rpc_fixture *f = fixture_open(&limits);
    size_t size = 3 << 20;
    char *line = malloc(size + 256);
    assert_non_null(line);
    int head =
        sprintf(line, "{\"id\":1,\"method\":\"create\",\"params\":[{\"$let\":{\"c\":[{\"$label\":\"c\"},\"");
    memset(line + head, 'm', size);
    strcpy(line + head + size, "\"]},\"in\":{\"$label\":\"c\"}},\"a\"]}\n");
    call(f, "gc.disable", "[]", "null");
    for (int i = 0; i < 10; i++) {
        say(f, line);
        assert_non_null(strstr(f->said, "\"type\":\"list\""));
        call(f, "name.unbind", "[\"a\"]", "<has {\"refcount\":1}>"); /* a cycle: it stays until collected */
    }
    say(f, line);
    call(f, "name.bind", "[\"b\",\"a\"]", "<object>");
    say(f, line);
    call(f, "name.bind", "[\"c\",\"a\"]", "<object>");
    say(f, line);
    f->said[f->said_len - 1] = '\0';
    fixture_match(f, "a string too many",
                  "{\"id\":1,\"error\":<error memory_error {\"limit\":\"max-memory\",\"max\":8388608}>}",
                  f->said);
    call(f, "name.unbind", "[\"b\"]", "<object>");
    call(f, "name.unbind", "[\"c\"]", "<object>");
    free(line);
    fixture_close(f);
}

/* When a batch's replies are too long, the rest of it is answered and not run. */
static void test_rpc_keeps_output_limit_of_a_batch(void **state)
{
    (void)state;
    struct rpc_limits limits = small_limits();
    limits.max_request = 100000;
    limits.max_batch = 0;
    struct rpc_fixture *f = fixture_open(&limits);
    char text[1501], line[4096];
    memset(text, 'y', 1500);
    text[1500] = '\0';
    snprintf(line, sizeof(line), "{\"id\":1,\"method\":\"create\",\"params\":[\"%s\",\"big\"]}", text);
    tell(f, line, "{\"id\":1,\"result\":<object>}");
    say(f, "[{\"id\":1,\"method\":\"get\",\"params\":[\"big\"]},{\"id\":2,\"method\":\"get\",\"params\":["
           "\"big\"]},"
           "{\"id\":3,\"method\":\"create\",\"params\":[[],\"c\"]},{\"method\":\"create\",\"params\":[[],\"d\"]"
           "}]\n");
    char *third = strstr(f->said, ",{\"id\":3,");
    assert_non_null(third);
    f->said[f->said_len - 2] = '\0';
    fixture_match(f, "the third",
                  "{\"id\":3,\"error\":<error limit_exceeded {\"limit\":\"max-output\",\"max\":2000}>}",
                  third + 1);
    call(f, "name.list", "{}", "{\"names\":[{\"name\":\"big\",\"object\":<int>}],\"next\":null}");
    fixture_close(f);
}

/* A client that does not read is closed above max-output, after the server had its chance to send. */
static void test_rpc_closes_who_does_not_read(void **state)
{
    (void)state;
    struct rpc_limits limits = small_limits();
    struct rpc_fixture *f = fixture_open(&limits);
    struct rpc_conn *deaf = rpc_conn_create(f->thread, 2, &fixture_peer, NULL);
    for (int i = 0; i < 200; i++) {
        fixture_feed(deaf, PING, strlen(PING));
    }
    assert_true(rpc_thread_run(f->thread));
    assert_null(rpc_conn_must_close(deaf));
    size_t len;
    rpc_conn_output(deaf, &len);
    assert_true(len >= 2000 && len < 2100);
    rpc_conn_sent(deaf, 1000);
    assert_true(rpc_thread_run(f->thread));
    assert_null(rpc_conn_must_close(deaf));
    assert_false(rpc_thread_run(f->thread));
    assert_non_null(rpc_conn_must_close(deaf));
    rpc_conn_destroy(deaf, "end of test");
    assert_string_equal(say(f, PING), PONG); /* nobody else notices */
    fixture_close(f);
}

/* Requests that rest stay what they are while the thread reads on. */
static void test_rpc_rests_above_the_high_mark(void **state)
{
    struct rpc_fixture *f = *state;
    char *text = malloc(400001), *line = malloc(500000);
    memset(text, 'z', 400000);
    text[400000] = '\0';
    sprintf(line, "{\"id\":1,\"method\":\"create\",\"params\":[\"%s\",\"big\"]}\n", text);
    say(f, line);
    struct rpc_conn *greedy = rpc_conn_create(f->thread, 2, &fixture_peer, NULL);
    const char *get = "{\"id\":7,\"method\":\"get\",\"params\":[\"big\"]}\n";
    for (int i = 0; i < 10; i++) {
        fixture_feed(greedy, get, strlen(get));
    }
    size_t total = 0, runs = 0, len;
    bool more;
    do {
        fixture_feed(f->conn, PING, strlen(PING));
        more = rpc_thread_run(f->thread);
        rpc_conn_output(greedy, &len);
        assert_true(len < RPC_OUTPUT_HIGH_BYTES + 500000);
        total += len;
        rpc_conn_sent(greedy, len);
        runs++;
    } while (more);
    assert_int_equal(total, 10 * (400000 + strlen("{\"id\":7,\"result\":\"\"}\n")));
    assert_true(runs >= 3);
    rpc_conn_destroy(greedy, "end of test");
    fixture_run(f);
    free(text);
    free(line);
}

/* ---- sessions ---- */

static void test_rpc_releases_holds_of_ended_connections(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *other = rpc_conn_create(f->thread, 2, &fixture_peer, NULL);
    const char *lines =
        "{\"method\":\"create\",\"params\":[[1,[2]],\"a\"]}\n{\"method\":\"ref\",\"params\":[\"a\"]}\n"
        "{\"id\":1,\"method\":\"create\",\"params\":[[1000]]}\n";
    fixture_feed(other, lines, strlen(lines));
    fixture_run(f);
    assert_true(rpc_conn_is_kept(other));
    assert_false(rpc_conn_is_kept(f->conn));
    call(f, "stats", "[\"sessions\"]", "{\"count\":2,\"leased\":0,\"holds\":2}");
    call(f, "stats", "[\"objects\"]", "<has {\"live\":4}>");
    rpc_conn_destroy(other, "end of test");
    assert_false(rpc_thread_run(f->thread));
    call(f, "stats", "[\"sessions\"]", "{\"count\":1,\"leased\":0,\"holds\":0}");
    call(f, "stats", "[\"objects\"]", "<has {\"live\":2}>");
    call(f, "sys.getrefcount", "[\"a\"]", "2");
}

static void test_rpc_counts_what_it_does(void **state)
{
    struct rpc_fixture *f = *state;
    say(f, "{\"method\":\"ping\"}\n{\"id\":1,\"method\":\"none\"}\n{\"id\":1,\"method\":\"ref\",\"params\":[9]}"
           "\n");
    rpc_service_count_bytes(f->service, 100, 50);
    call(f, "stats", "[\"server\"]",
         "<has "
         "{\"name\":\"heapd\",\"version\":\"0.1.0\",\"protocol\":1,\"heap\":<str>,\"pid\":<int>,\"uptime_s\":<"
         "int>,"
         "\"connections\":3,\"connections_total\":7,\"requests\":3,\"notifications\":1,\"bytes_in\":100,"
         "\"bytes_out\":50,"
         "\"errors\":<has {\"method_not_found\":1,\"not_found\":1,\"parse_error\":0}>}>");
}

/* Two services in one process know nothing of each other. */
static void test_rpc_serves_two_heaps(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_limits limits;
    rpc_limits_default(&limits);
    struct rpc_fixture *g = fixture_open(&limits);
    call(f, "create", "[[1],\"a\"]", "<object>");
    fail_call(g, "get", "[\"a\"]", "name_error", "{\"name\":\"a\"}");
    fixture_close(g);
    call(f, "get", "[\"a\"]", "[1]");
}

static void test_rpc_changes_limits_while_running(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_limits limits = f->limits;
    limits.max_batch = 1;
    limits.max_names = 1;
    rpc_service_set_limits(f->service, &limits);
    call(f, "stats", "[\"limits\"]", "<has {\"max-batch\":1,\"max-names\":1,\"max-request\":67108864}>");
    tell(f, "[1,2]", "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error limit_exceeded>}");
    call(f, "create", "[1,\"a\"]", "<object>");
    fail_call(f, "create", "[1,\"b\"]", "limit_exceeded", "{\"limit\":\"max-names\"}");
}

/* ---- random bytes ---- */

/* Lines that mean something, to be cut, spoiled and repeated. */
static const char *const SEEDS[] = {
    "{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[1,{\"k\":2.5},\"\\u00e9\"],\"name\":\"a\"}}\n",
    "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"get\",\"params\":[\"a\",-1]}\r\n",
    "[{\"id\":2,\"method\":\"list.pop\",\"params\":[\"a\"]},{\"method\":\"list.append\",\"params\":[\"a\",{\"$"
    "tuple\":[]}]},3]\n",
    "{\"id\":null,\"method\":\"name.list\"}\n",
    "{\"id\":3,\"method\":\"dict.incr\",\"params\":{\"object\":\"d\",\"key\":\"n\"}}\n",
    "{\"id\":4,\"method\":\"create\",\"params\":[{\"$dict\":[[\"n\",1]]},\"d\"]}\n",
    "{\"id\":5,\"method\":\"unref\",\"params\":[1]}\n",
    "{\"id\":6,\"method\":\"heap.check\"}\n",
    "{\"params\":[[1,[2]]],\"method\":\"create\",\"id\":7}\n",
    " \t\n",
    "{\"id\":8,\"method\":\"session.close\"}\n",
};

/* Fills `text` with such lines, some of them spoiled; returns how many bytes. */
static size_t make_noise(struct process_random *random, char *text, size_t room)
{
    size_t len = 0;
    for (;;) {
        const char *seed = SEEDS[process_random_below(random, sizeof(SEEDS) / sizeof(SEEDS[0]))];
        size_t n = strlen(seed);
        if (len + n > room) {
            return len;
        }
        memcpy(text + len, seed, n);
        for (uint32_t spoil = process_random_below(random, 4); spoil == 1;
             spoil = process_random_below(random, 2)) {
            text[len + process_random_below(random, (uint32_t)n)] =
                "\n\"{}[],:\\01\x80"[process_random_below(random, 13)];
        }
        len += n;
    }
}

/* Whatever comes, it is answered the same however it is cut, and the heap stays sound. */
static void test_rpc_answers_noise_the_same_in_any_pieces(void **state)
{
    (void)state;
    struct process_random random;
    process_random_init(&random);
    for (int round = process_rounds(30, 50); round > 0; round--) {
        static char noise[20000];
        size_t len = make_noise(&random, noise, sizeof(noise));
        struct rpc_limits limits;
        rpc_limits_default(&limits);
        limits.max_request = 150;
        struct rpc_fixture *whole = fixture_open(&limits), *pieces = fixture_open(&limits);
        fixture_forget(pieces);
        say_bytes(whole, noise, len);
        for (size_t at = 0, n; at < len; at += n) {
            n = 1 + process_random_below(&random, process_random_below(&random, 8) == 0 ? 3000 : 60);
            n = n < len - at ? n : len - at;
            fixture_feed(pieces->conn, noise + at, n);
            if (process_random_below(&random, 2) == 0) {
                fixture_run(pieces);
            }
        }
        fixture_run(pieces);
        assert_string_equal(whole->said, pieces->said);
        rpc_conn_received_eof(whole->conn);
        rpc_conn_received_eof(pieces->conn);
        fixture_run(whole);
        fixture_run(pieces);
        assert_string_equal(whole->said, pieces->said);
        fixture_close(whole);
        fixture_close(pieces);
    }
}

/* ---- threads ---- */

#define ADDS 2000

/* A thread of its own, with a connection that adds to one counter. */
static void *add_on_a_thread(void *arg)
{
    struct rpc_service *service = arg;
    struct rpc_thread *thread = rpc_thread_create(service, NULL);
    struct rpc_conn *conn = rpc_conn_create(thread, 5, &fixture_peer, NULL);
    const char *line = "{\"id\":1,\"method\":\"dict.incr\",\"params\":[\"d\",\"n\"]}\n"
                       "{\"id\":1,\"method\":\"stats\",\"params\":[\"gil\"]}\n";
    for (int i = 0; i < ADDS; i++) {
        size_t len;
        fixture_feed(conn, line, strlen(line));
        while (rpc_thread_run(thread)) {
        }
        rpc_conn_output(conn, &len);
        rpc_conn_sent(conn, len);
    }
    rpc_conn_destroy(conn, "end of test");
    rpc_thread_destroy(thread);
    return NULL;
}

static void test_rpc_serves_several_threads(void **state)
{
    struct rpc_fixture *f = *state;
    pthread_t threads[3];
    call(f, "create", "[{},\"d\"]", "<object>");
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, add_on_a_thread, f->service), 0);
    }
    for (size_t i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    call(f, "get", "[\"d\"]", "{\"n\":6000}");
    call(f, "stats", "[\"server\"]", "<has {\"requests\":12003}>");
}

static void test_rpc_shuts_down(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "server.shutdown", "[]", "null");
    assert_int_equal(f->shutdowns, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_rpc_spec_calls),
        fixture_test(test_rpc_spec_batches),
        fixture_test(test_rpc_echoes_ids_byte_for_byte),
        fixture_test(test_rpc_reads_members_in_any_order),
        fixture_test(test_rpc_refuses_what_is_no_request),
        fixture_test(test_rpc_tells_line_and_column),
        fixture_test(test_rpc_finds_nearest_methods),
        fixture_test(test_rpc_binds_params),
        fixture_test(test_rpc_refuses_params),
        fixture_test(test_rpc_orders_errors),
        fixture_test(test_rpc_reads_one_byte_at_a_time),
        fixture_test(test_rpc_reads_long_lines),
        fixture_test(test_rpc_answers_last_line_at_eof),
        fixture_test(test_rpc_notices_eof_without_requests),
        fixture_test(test_rpc_closes_on_tls_hello),
        cmocka_unit_test(test_rpc_keeps_line_limits),
        cmocka_unit_test(test_rpc_keeps_heap_limits),
        cmocka_unit_test(test_rpc_keeps_output_limit_of_a_reply),
        cmocka_unit_test(test_rpc_keeps_output_limit_of_a_batch),
        cmocka_unit_test(test_rpc_tells_memory_errors),
        cmocka_unit_test(test_rpc_closes_who_does_not_read),
        fixture_test(test_rpc_rests_above_the_high_mark),
        fixture_test(test_rpc_releases_holds_of_ended_connections),
        fixture_test(test_rpc_counts_what_it_does),
        fixture_test(test_rpc_serves_two_heaps),
        fixture_test(test_rpc_changes_limits_while_running),
        fixture_test(test_rpc_shuts_down),
        cmocka_unit_test(test_rpc_answers_noise_the_same_in_any_pieces),
        fixture_test(test_rpc_serves_several_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
