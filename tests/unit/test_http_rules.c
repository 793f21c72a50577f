/* test_http_rules.c -- who is let in over HTTP: names, origins, types, the bytes of a head, what a head says.
 *
 * Programs of server/ are not linked into unit tests, so the sources under test are included.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../../server/http_request.c"
#include "../../server/http_rules.c"

static const char named[2][256] = {"heap.example.com", "proxy:8080"};

/* A listener on loopback, and one that others reach. */
static const struct http_place loopback = {.is_tcp = true, .is_loopback = true, .address = "127.0.0.1", .port = 7411};
static const struct http_place ip6 = {.is_tcp = true, .is_loopback = true, .address = "[::1]", .port = 7411};
static const struct http_place outside = {
    .is_tcp = true, .address = "192.0.2.7", .port = 7411, .names = named, .name_count = 2};
static const struct http_place secure = {
    .is_tcp = true, .is_tls = true, .is_loopback = true, .address = "127.0.0.1", .port = 7411};
static const struct http_place unix_socket = {.is_tcp = false};

static void test_http_rules_host(void **state)
{
    static const struct {
        const struct http_place *place;
        const char *host;
        bool is_allowed;
    } cases[] = {
        {&loopback, "localhost", true},
        {&loopback, "LocalHost:7411", true},
        {&loopback, "127.0.0.1", true},
        {&loopback, "127.0.0.1:7411", true},
        {&loopback, "[::1]:7411", true},
        {&ip6, "[::1]", true},
        {&ip6, "::1", false},
        {&loopback, "localhost:7412", false},
        {&loopback, "localhost:", false},
        {&loopback, "localhost:74110", false},
        {&loopback, "localhost:7411x", false},
        {&loopback, "localhost:+7411", false},
        {&loopback, "localhost.", false},
        {&loopback, "localhost.evil.com", false},
        {&loopback, "localhost@evil.com", false},
        {&loopback, "evil.com", false},
        {&loopback, "127.0.0.2", false},
        {&loopback, "", false},
        {&outside, "192.0.2.7", true},
        {&outside, "192.0.2.7:7411", true},
        {&outside, "192.0.2.7:80", false},
        {&outside, "localhost", false},
        {&outside, "127.0.0.1", false},
        {&outside, "heap.example.com", true},
        {&outside, "HEAP.example.com:443", true},
        {&outside, "example.com", false},
        {&outside, "heap.example.com.evil.com", false},
        {&outside, "proxy:8080", true},
        {&outside, "proxy", false},
        {&outside, "proxy:8081", false},
        {&unix_socket, "anything", true},
        {&unix_socket, "", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (http_host_is_allowed(cases[i].place, cases[i].host) != cases[i].is_allowed) {
            fail_msg("case %zu, Host: %s", i, cases[i].host);
        }
    }
}

static void test_http_rules_origin(void **state)
{
    static const struct {
        const struct http_place *place;
        const char *origin, *host;
        bool is_own;
    } cases[] = {
        {&loopback, "http://localhost:7411", "localhost:7411", true},
        {&loopback, "HTTP://LOCALHOST:7411", "localhost:7411", true},
        {&loopback, "http://localhost", "localhost:7411", false},
        {&loopback, "http://localhost:3000", "localhost:7411", false},
        {&loopback, "http://127.0.0.1:7411", "localhost:7411", false},
        {&loopback, "https://localhost:7411", "localhost:7411", false},
        {&loopback, "null", "localhost:7411", false},
        {&loopback, "", "localhost:7411", false},
        {&loopback, "localhost:7411", "localhost:7411", false},
        {&loopback, "http://localhost:7411/", "localhost:7411", false},
        {&loopback, "http://evil.com", "localhost:7411", false},
        {&secure, "https://localhost:7411", "localhost:7411", true},
        {&secure, "http://localhost:7411", "localhost:7411", false},
        {&outside, "https://heap.example.com", "heap.example.com", true},
        {&outside, "http://heap.example.com", "heap.example.com", true},
        {&outside, "https://evil.com", "heap.example.com", false},
        {&outside, "https://192.0.2.7", "192.0.2.7", false},
        {&unix_socket, "http://evil.com", "localhost", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (http_origin_is_own(cases[i].place, cases[i].origin, cases[i].host) != cases[i].is_own) {
            fail_msg("case %zu, Origin: %s", i, cases[i].origin);
        }
    }
    assert_true(http_site_is_own("same-origin") && http_site_is_own("none"));
    assert_false(http_site_is_own("same-site") || http_site_is_own("cross-site") || http_site_is_own(""));
}

static void test_http_rules_content_type(void **state)
{
    (void)state;
    assert_true(http_type_is_json("application/json"));
    assert_true(http_type_is_json("Application/JSON; charset=UTF-8"));
    assert_true(http_type_is_json("application/json;charset=\"utf-8\""));
    assert_true(http_type_is_json("application/json ; version=1"));
    assert_false(http_type_is_json("text/plain"));
    assert_false(http_type_is_json("application/jsonx"));
    assert_false(http_type_is_json("application/json, text/plain"));
    assert_false(http_type_is_json("application/json; charset=utf-16"));
    assert_false(http_type_is_json("application/json; charset=utf-16, utf-8"));
    assert_false(http_type_is_json("text/plain; application/json"));
    assert_false(http_type_is_json(""));
}

static void test_http_rules_length_and_lists(void **state)
{
    static const char *const wrong[] = {"",   "+1", "-1", "1 ",  " 1",  "0x1", "1,1",
                                        "1a", "१",  "1.0", "1e3", "9999999999999999999"};
    uint64_t length = 0;
    (void)state;
    assert_true(http_read_length(&length, "0") && length == 0);
    assert_true(http_read_length(&length, "000123") && length == 123);
    assert_true(http_read_length(&length, "999999999999999999") && length == 999999999999999999);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (http_read_length(&length, wrong[i])) {
            fail_msg("'%s' is no length", wrong[i]);
        }
    }
    assert_true(http_list_has("100-continue", "100-continue"));
    assert_true(http_list_has("a , 100-Continue", "100-continue"));
    assert_false(http_list_has("100-continued", "100-continue"));
    assert_false(http_list_has("", "100-continue"));
}

static void test_http_rules_query(void **state)
{
    static const struct {
        const char *query, *value; /* NULL: it is not there, or wrong */
        bool is_there;
    } cases[] = {
        {"events=gc", "gc", true},
        {"events=gc,pressure", "gc,pressure", true},
        {"events=gc%2Cpressure", "gc,pressure", true},
        {"a=b&events=gc&c=d", "gc", true},
        {"events=", "", true},
        {"events", "", true},
        {"events=a+b", "a b", true},
        {"", NULL, false},
        {"event=gc", NULL, false},
        {"xevents=gc", NULL, false},
        {"events=%2", NULL, true},
        {"events=%", NULL, true},
        {"events=%zz", NULL, true},
        {"events=a%00b", NULL, true},
        {"events=0123456789012345", NULL, true}, /* no room for its NUL */
        {"events=012345678901234", "012345678901234", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char value[16];
        bool is_there, ok = http_query_value(value, sizeof value, cases[i].query, "events", &is_there);
        if (ok != (cases[i].value != NULL) || is_there != cases[i].is_there ||
            (ok && strcmp(value, cases[i].value) != 0)) {
            fail_msg("?%s", cases[i].query);
        }
    }
}

/* What becomes of a head that comes in pieces of `step` bytes; *used: how many bytes belong to it. */
static enum http_guard_state look(const char *head, size_t len, size_t step, size_t *used)
{
    struct http_guard guard = {0};
    enum http_guard_state state = HTTP_GUARD_MORE;
    *used = 0;
    for (size_t i = 0; i < len && state == HTTP_GUARD_MORE; i += step) {
        size_t n = len - i < step ? len - i : step, taken;
        state = http_guard_look(&guard, head + i, n, &taken);
        *used += taken;
    }
    return state;
}

static void test_http_rules_guard(void **state)
{
#define HEAD(text, end) {text, sizeof text - 1, end}
    static const struct {
        const char *head;
        size_t len;
        enum http_guard_state state;
    } cases[] = {
        HEAD("GET / HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_GUARD_END),
        HEAD("GET / HTTP/1.1\r\n\r\n", HTTP_GUARD_END),
        HEAD("\r\n\r\nGET / HTTP/1.1\r\n\r\n", HTTP_GUARD_END),
        HEAD("GET / HTTP/1.1\r\nA: b  c\t d \r\n\r\n", HTTP_GUARD_END),
        HEAD("GET / HTTP/1.1\r\nA: \xc3\xa4\r\n\r\n", HTTP_GUARD_END),
        HEAD("GET / HTTP/1.1\r\nHost: a\r\n", HTTP_GUARD_MORE),
        HEAD("\r\n\r\n", HTTP_GUARD_MORE),
        HEAD("GET / HTTP/1.1\n\n", HTTP_GUARD_BAD),
        HEAD("GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", HTTP_GUARD_BAD),
        HEAD("GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n", HTTP_GUARD_BAD),
        HEAD("GET / HTTP/1.1\r\r\n\r\n", HTTP_GUARD_BAD),
        HEAD("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", HTTP_GUARD_BAD),
        HEAD("GET / HTTP/1.1\r\n\tA: b\r\n\r\n", HTTP_GUARD_BAD),
        HEAD(" GET / HTTP/1.1\r\n\r\n", HTTP_GUARD_BAD),
        HEAD("GET  / HTTP/1.1\r\n\r\n", HTTP_GUARD_BAD),
        HEAD("GET / \tHTTP/1.1\r\n\r\n", HTTP_GUARD_BAD),
        HEAD("GET / HTTP/1.1\r\nA: \0\r\n\r\n", HTTP_GUARD_BAD),
        HEAD("GET / HTTP/1.1\r\nA: \x0b\r\n\r\n", HTTP_GUARD_BAD),
        HEAD("GET / HTTP/1.1\r\nA: \x7f\r\n\r\n", HTTP_GUARD_BAD),
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t step = 1; step <= cases[i].len; step++) {
            size_t used;
            if (look(cases[i].head, cases[i].len, step, &used) != cases[i].state) {
                fail_msg("case %zu in steps of %zu", i, step);
            }
            assert_true(cases[i].state == HTTP_GUARD_BAD || used == cases[i].len);
        }
    }
    /* What comes behind the head is not looked at. */
    size_t used;
    assert_int_equal(look("GET / HTTP/1.1\r\n\r\n\n\n", 20, 20, &used), HTTP_GUARD_END);
    assert_int_equal(used, 18);
    struct http_guard trailer = HTTP_GUARD_TRAILER;
    assert_int_equal(http_guard_look(&trailer, "\r\n", 2, &used), HTTP_GUARD_END);
    trailer = HTTP_GUARD_TRAILER;
    assert_int_equal(http_guard_look(&trailer, "\n", 1, &used), HTTP_GUARD_BAD);
}

/* A request with these header lines, `name: value` each, ended by NULL. */
static enum http_problem check_post(struct http_request *request, const char *const lines[])
{
    *request = (struct http_request){.method = HTTP_METHOD_POST, .minor = 1};
    http_request_add_target(request, "/?x=y", 5);
    for (size_t i = 0; lines[i] != NULL; i++) {
        const char *colon = strstr(lines[i], ": ");
        http_request_add_name(request, lines[i], (size_t)(colon - lines[i]));
        http_request_add_value(request, colon + 2, strlen(colon + 2));
        http_request_end_header(request);
    }
    enum http_problem problem = http_request_check_syntax(request);
    problem = problem == HTTP_FINE ? http_request_check_origin(request, &loopback) : problem;
    return problem == HTTP_FINE ? http_request_check_route(request, 100) : problem;
}

#define TYPE "Content-Type: application/json"

static void test_http_request_checks(void **state)
{
    static const struct {
        const char *lines[5];
        enum http_problem problem;
    } cases[] = {
        {{"Host: localhost", TYPE, "Content-Length: 100"}, HTTP_FINE},
        {{"HOST: localhost", TYPE, "Transfer-Encoding: Chunked"}, HTTP_FINE},
        {{TYPE}, HTTP_BAD_HOST},
        {{"Host: localhost", "Host: localhost", TYPE}, HTTP_BAD_HOST},
        {{"Host: evil.com", TYPE}, HTTP_FOREIGN_HOST},
        {{"Host: localhost", TYPE, "Origin: http://localhost"}, HTTP_FINE},
        {{"Host: localhost", TYPE, "Origin: http://localhost", "Origin: http://localhost"}, HTTP_FOREIGN_ORIGIN},
        {{"Host: localhost", TYPE, "Sec-Fetch-Site: cross-site"}, HTTP_FOREIGN_ORIGIN},
        {{"Host: localhost", TYPE, "Sec-Fetch-Site: none", "Sec-Fetch-Site: same-site"}, HTTP_FOREIGN_ORIGIN},
        {{"Host: localhost"}, HTTP_WRONG_TYPE},
        {{"Host: localhost", "Content-Type: text/plain"}, HTTP_WRONG_TYPE},
        {{"Host: localhost", TYPE, "Content-Type: text/plain"}, HTTP_BAD_REQUEST},
        {{"Host: localhost", TYPE, "Content-Encoding: gzip"}, HTTP_WRONG_TYPE},
        {{"Host: localhost", TYPE, "Content-Encoding: identity"}, HTTP_FINE},
        {{"Host: localhost", TYPE, "Content-Length: 101"}, HTTP_TOO_LARGE},
        {{"Host: localhost", TYPE, "Content-Length: 1", "Content-Length: 1"}, HTTP_BAD_LENGTH},
        {{"Host: localhost", TYPE, "Content-Length: 1", "Transfer-Encoding: chunked"}, HTTP_BAD_LENGTH},
        {{"Host: localhost", TYPE, "Transfer-Encoding: chunked", "Content-Length: 1"}, HTTP_BAD_LENGTH},
        {{"Host: localhost", TYPE, "Transfer-Encoding: gzip, chunked"}, HTTP_BAD_LENGTH},
        {{"Host: localhost", TYPE, "Heapd-Session: a", "Heapd-Session: b"}, HTTP_BAD_REQUEST},
        {{"Host: localhost", TYPE, "Authorization: Bearer a", "Authorization: Bearer b"}, HTTP_BAD_REQUEST},
        {{"Host: localhost", TYPE, "Authorization: Basic a", "Authorization: Bearer b"}, HTTP_BAD_REQUEST},
        {{"Host: localhost", "Content-Type: text/plain", TYPE}, HTTP_BAD_REQUEST},
        {{"Host: localhost", TYPE, TYPE}, HTTP_BAD_REQUEST},
    };
    struct http_request request;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum http_problem problem = check_post(&request, cases[i].lines);
        if (problem != cases[i].problem) {
            fail_msg("case %zu: problem %d, not %d", i, problem, cases[i].problem);
        }
    }
    assert_string_equal(request.query, "x=y");
    assert_int_equal(request.route, HTTP_ROUTE_ROOT);
}

static void test_http_request_values(void **state)
{
    struct http_request request;
    const char *const lines[] = {"Host:   localhost \t", "Heapd-Session: 0123 ", "Authorization: bearer  abc",
                                 "Expect: 100-continue", NULL};
    (void)state;
    check_post(&request, lines);
    assert_string_equal(request.host, "localhost");
    assert_string_equal(request.session, "0123");
    assert_string_equal(request.bearer, "abc");
    assert_true(request.expects_continue);
    const char *const others[] = {"Authorization: Basic abc", NULL};
    check_post(&request, others);
    assert_string_equal(request.bearer, "");
}

/* What does not fit its room is taken for nothing that is known, and never cut to something that is. */
static void test_http_request_values_that_are_too_long(void **state)
{
    char line[HTTP_VALUE_BYTES + 64];
    struct http_request request;
    const char *const lines[] = {line, NULL};
    (void)state;
    memset(line, ' ', sizeof line);
    memcpy(line, "Host: localhost", 15);
    line[sizeof line - 1] = '\0';
    check_post(&request, lines);
    assert_false(http_host_is_allowed(&loopback, request.host));
    char target[HTTP_TARGET_BYTES + 1];
    memset(target, '/', sizeof target);
    request = (struct http_request){.minor = 1, .has_host = true};
    http_request_add_target(&request, target, sizeof target);
    assert_int_equal(http_request_check_syntax(&request), HTTP_FINE);
    assert_int_equal(http_request_check_route(&request, 0), HTTP_NO_SUCH_PATH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http_rules_host),
        cmocka_unit_test(test_http_rules_origin),
        cmocka_unit_test(test_http_rules_content_type),
        cmocka_unit_test(test_http_rules_length_and_lists),
        cmocka_unit_test(test_http_rules_query),
        cmocka_unit_test(test_http_rules_guard),
        cmocka_unit_test(test_http_request_checks),
        cmocka_unit_test(test_http_request_values),
        cmocka_unit_test(test_http_request_values_that_are_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
