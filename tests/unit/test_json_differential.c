/* test_json_differential.c -- the reader of JSON, the envelope and literals beside jansson, on every input.
 *
 *   reader     json_reader.c and number.c: the same verdict, the same value
 *   line       envelope.c: what a line is answered with follows from jansson's tree of it
 *   literals   create and get: what jansson reads of the text is what comes back, members in the same order
 *
 * Inputs are made by a grammar and damaged, the files of JSONTestSuite as they are and damaged, and the real files.
 * SEED=n repeats a run; LONG=1 takes 40 times as many.
 *
 * Intended differences, which json_oracle.h and expect_request() know; nothing else may differ:
 *   raw ids           a reply has the very bytes of the id, where jansson knows only what they mean
 *   numbers           an int beyond 64 bits and a float too large for a double are JSON to us, and fine as an id or in
 *                     a member that is ignored; in a literal they are value_error.  jansson refuses the text
 *   \u0000            is fine in names, too; jansson refuses it there, and in strings unless it is told otherwise
 *   NUL bytes         are no JSON anywhere; jansson overlooks some
 *   duplicates        a member given twice is invalid_request in an envelope, invalid_params in params; in a literal the
 *                     last wins at the place of the first, as in jansson
 *   depth             limit_exceeded beyond max-depth; jansson goes 2,048 deep and no deeper
 *   blank lines       no text at all is an error to jansson, and no line to us
 */
#include "rpc_fixture.h"

#include "../../protocol/json_reader.h"
#include "../../protocol/number.h"
#include "json_inputs.h"
#include "json_oracle.h"

#define MEMBERS_MAX 64

struct differential {
    struct rpc_fixture *fixture;
    struct process_random random;
    struct corpus corpus;
    uint64_t texts, good, lines, results, values; /* how many came to what */
};

static int setup(void **state)
{
    struct differential *d = calloc(1, sizeof *d);
    assert_non_null(d);
    struct rpc_limits limits;
    rpc_limits_default(&limits);
    limits.max_depth = 100;
    d->fixture = fixture_open(&limits);
    process_random_init(&d->random);
    corpus_load(&d->corpus);
    *state = d;
    return 0;
}

static int teardown(void **state)
{
    struct differential *d = *state;
    fixture_close(d->fixture);
    free(d->corpus.inputs);
    free(d);
    return 0;
}

static int rounds(int n)
{
    return process_rounds(n, 40);
}

/* ---- the reader ---- */

/* The text as a reader wants it: in a block that ends where the padding ends, with what would mislead a reader that runs
 * over the end.  Freed by the caller. */
static char *padded(const char *text, size_t len)
{
    char *copy = malloc(len + 1 + JSON_PADDING_BYTES);
    assert_non_null(copy);
    memcpy(copy, text, len);
    copy[len] = '\n';
    memset(copy + len + 1, '"', JSON_PADDING_BYTES);
    return copy;
}

static char *meaning_of(const struct json_string *string, size_t *len)
{
    char *text = malloc(string->len + 1);
    assert_non_null(text);
    *len = json_unescape(text, string);
    assert_true(*len <= string->len);
    text[*len] = '\0';
    assert_true(json_string_equals(string, text, *len));
    assert_false(json_string_equals(string, text, *len + 1));
    return text;
}

/* A number as both of our ways of reading see it, which must agree. */
static json_t *number_of(const struct json_value *value)
{
    const char *at = value->text;
    int64_t integer = 0;
    double within = 0, alone = 0;
    double too_large = *value->text == '-' ? -ORACLE_TOO_LARGE : ORACLE_TOO_LARGE;
    enum number_kind kind = number_read(&at, &integer, &within);
    assert_ptr_equal(at, value->text + value->len);
    if (value->kind == JSON_KIND_INT) {
        assert_int_equal(kind, value->overflow ? NUMBER_INT_TOO_LARGE : NUMBER_INT);
        assert_true(value->overflow || integer == value->integer);
        return value->overflow ? json_real(too_large) : json_integer(value->integer);
    }
    bool fits = number_read_double(&alone, value->text, value->len);
    assert_int_equal(kind, fits ? NUMBER_FLOAT : NUMBER_FLOAT_TOO_LARGE);
    assert_true(!fits || memcmp(&alone, &within, sizeof alone) == 0);
    return json_real(fits ? alone : too_large);
}

static json_t *value_of(struct json_cursor *cursor);

static json_t *object_of(struct json_cursor *cursor)
{
    json_t *j_object = json_object();
    struct json_string name;
    assert_true(json_enter(cursor));
    while (json_next_member(cursor, &name)) {
        size_t len;
        char *key = meaning_of(&name, &len);
        assert_int_equal(json_object_setn_new(j_object, key, len, value_of(cursor)), 0);
        free(key);
    }
    assert_false(json_failed(cursor));
    return j_object;
}

static json_t *array_of(struct json_cursor *cursor)
{
    json_t *j_array = json_array();
    assert_true(json_enter(cursor));
    while (json_next_item(cursor)) {
        assert_int_equal(json_array_append_new(j_array, value_of(cursor)), 0);
    }
    assert_false(json_failed(cursor));
    return j_array;
}

static json_t *string_of(const struct json_value *value)
{
    struct json_string string = json_string_of(value);
    size_t len;
    char *text = meaning_of(&string, &len);
    json_t *j_string = json_stringn(text, len);
    free(text);
    return j_string;
}

/* What stands at the cursor, as a tree, read with our reader. */
static json_t *value_of(struct json_cursor *cursor)
{
    char first = json_peek(cursor);
    if (first == '{' || first == '[') {
        return first == '{' ? object_of(cursor) : array_of(cursor);
    }
    struct json_value value;
    assert_true(json_scan_value(cursor, &value));
    switch (value.kind) {
    case JSON_KIND_NULL:
        return json_null();
    case JSON_KIND_FALSE:
        return json_false();
    case JSON_KIND_TRUE:
        return json_true();
    case JSON_KIND_STRING:
        return string_of(&value);
    default:
        return number_of(&value);
    }
}

/* The text's value as our reader sees it; NULL: refused.  *error says why. */
static json_t *read_by_reader(const char *text, size_t len, unsigned max_depth, struct json_error *error)
{
    char *copy = padded(text, len);
    struct json_value value;
    json_t *j_value = NULL;
    bool is_good = json_scan(copy, len, max_depth, &value, error);
    assert_int_equal(is_good, error->message == NULL);
    assert_true(is_good || error->offset <= len);
    if (is_good) {
        struct json_cursor cursor;
        json_cursor_init(&cursor, copy, len, max_depth);
        j_value = value_of(&cursor);
        assert_true(json_finish(&cursor));
    }
    free(copy);
    return j_value;
}

/* What differs between our reader and jansson, or NULL. */
static const char *compare_readers(struct differential *d, const char *text, size_t len, unsigned max_depth)
{
    struct json_error error;
    struct oracle_notes notes;
    json_t *j_expected = oracle_load(text, len, &notes);
    json_t *j_got = read_by_reader(text, len, max_depth, &error);
    const char *why = NULL;
    d->texts++;
    d->good += j_got != NULL;
    if (notes.too_deep) {
        why = j_got != NULL ? "taken, and nested deeper than jansson goes" : NULL;
    } else if (j_expected != NULL && oracle_depth(text, len) > max_depth) {
        why = j_got != NULL || !error.too_deep ? "not too deep" : NULL;
    } else if ((j_expected != NULL) != (j_got != NULL)) {
        why = j_got != NULL ? "taken, and jansson refuses it" : error.message;
    } else if (j_got == NULL) {
        why = error.too_deep ? "too deep, and no JSON" : NULL;
    } else if (!notes.hides_nuls && !oracle_same(j_expected, j_got, false)) {
        why = "another value";
    }
    json_decref(j_expected);
    json_decref(j_got);
    return why;
}

static void expect_same_reading(struct differential *d, const char *text, size_t len)
{
    unsigned max_depth = process_random_below(&d->random, 4) > 0 ? 2000 : process_random_below(&d->random, 5);
    const char *why = compare_readers(d, text, len, max_depth);
    if (why != NULL) {
        fail_msg("%s: %.*s", why, (int)len, text);
    }
}

/* ---- the line ---- */

/* What a request, or a line, is answered with. */
struct expectation {
    struct oracle_span id; /* of the reply; text NULL: null */
    bool is_short;         /* without jsonrpc */
    bool is_silent;        /* no reply */
    const char *word;      /* of the error; "" a result; NULL either, but nothing that says that it was not read */
    json_t *j_value;       /* what `get` must say of "v" afterwards; NULL: nothing known */
};

/* The members of a request. */
struct members {
    struct oracle_span jsonrpc, id, method, params; /* text NULL: not there */
    bool has_twins;
};

static bool is_key(json_t *j_key, const char *word)
{
    return json_string_length(j_key) == strlen(word) && memcmp(json_string_value(j_key), word, strlen(word)) == 0;
}

/* Whether two of the keys, of the keys and values, mean the same. */
static bool has_twins(const struct oracle_span *children, size_t count)
{
    bool found = false;
    for (size_t i = 0; i < count && !found; i += 2) {
        json_t *j_key = oracle_value(children[i]);
        for (size_t k = i + 2; k < count && !found; k += 2) {
            json_t *j_other = oracle_value(children[k]);
            found = oracle_same_string(j_key, j_other);
            json_decref(j_other);
        }
        json_decref(j_key);
    }
    return found;
}

static void find_members(struct members *members, struct oracle_span request)
{
    struct oracle_span children[2 * MEMBERS_MAX];
    size_t count = oracle_children(request, children, 2 * MEMBERS_MAX);
    assert_true(count <= 2 * MEMBERS_MAX);
    *members = (struct members){.has_twins = has_twins(children, count)};
    for (size_t i = 0; i < count; i += 2) {
        json_t *j_key = oracle_value(children[i]);
        struct oracle_span *member = is_key(j_key, "jsonrpc")  ? &members->jsonrpc
                                     : is_key(j_key, "id")     ? &members->id
                                     : is_key(j_key, "method") ? &members->method
                                     : is_key(j_key, "params") ? &members->params
                                                               : NULL;
        if (member == &members->id && member->text != NULL) {
            member->len = 0; /* given twice: it is none */
        } else if (member != NULL) {
            *member = children[i + 1];
        }
        json_decref(j_key);
    }
}

/* What is expected of create: exactly known where the params are just a value and the name "v". */
static void expect_create(struct expectation *expected, struct oracle_span params)
{
    struct oracle_span children[4], value = {NULL, 0}, name = {NULL, 0};
    size_t count = params.text == NULL ? 0 : oracle_children(params, children, 4);
    expected->word = NULL;
    if (count == 2 && *params.text == '[') {
        value = children[0];
        name = children[1];
    } else if (count == 4 && *params.text == '{' && !has_twins(children, 4)) {
        for (size_t i = 0; i < 4; i += 2) {
            json_t *j_key = oracle_value(children[i]);
            value = is_key(j_key, "value") ? children[i + 1] : value;
            name = is_key(j_key, "name") ? children[i + 1] : name;
            json_decref(j_key);
        }
    }
    if (value.text == NULL || name.len != 3 || memcmp(name.text, "\"v\"", 3) != 0) {
        return;
    }
    if (*value.text == '{' && oracle_children(value, children, 4) == 2 && children[0].len == 7 &&
        memcmp(children[0].text, "\"$json\"", 7) == 0) {
        value = children[1];
    } else if (oracle_may_have_form(value)) {
        return;
    }
    struct oracle_notes notes;
    json_t *j_value = oracle_load(value.text, value.len, &notes);
    expected->word = notes.too_large ? "value_error" : "";
    expected->j_value = notes.too_large || notes.hides_nuls ? NULL : json_incref(j_value);
    json_decref(j_value);
}

/* Methods that damage may make of the words in the inputs. */
static bool is_other_method(json_t *j_method)
{
    static const char *const words[] = {"ref", "unref", "get", "type", "stats", "auth", "collect", NULL};
    bool found = false;
    for (unsigned i = 0; words[i] != NULL; i++) {
        found = found || is_key(j_method, words[i]);
    }
    return found;
}

static bool is_empty_container(struct oracle_span params)
{
    struct oracle_span child;
    return params.text == NULL || oracle_children(params, &child, 1) == 0;
}

/* What the text, a value that is JSON, is answered with as a request. */
static void expect_request(struct expectation *expected, struct oracle_span request)
{
    struct members members;
    *expected = (struct expectation){.word = "invalid_request"};
    if (*request.text != '{') {
        return;
    }
    find_members(&members, request);
    json_t *j_version = oracle_value(members.jsonrpc), *j_method = oracle_value(members.method);
    bool has_id = members.id.text != NULL;
    bool good_id = has_id && members.id.len > 0 && strchr("\"-0123456789n", *members.id.text) != NULL;
    expected->id = good_id ? members.id : (struct oracle_span){NULL, 0};
    bool is_valid = !members.has_twins && good_id == has_id && json_is_string(j_method) &&
                    (members.jsonrpc.text == NULL || (json_is_string(j_version) && is_key(j_version, "2.0"))) &&
                    (members.params.text == NULL || *members.params.text == '[' || *members.params.text == '{');
    if (is_valid) {
        expected->is_silent = !has_id;
        expected->is_short = members.jsonrpc.text == NULL;
        if (is_key(j_method, "ping")) {
            expected->word = is_empty_container(members.params) ? "" : "invalid_params";
        } else if (is_key(j_method, "create")) {
            expect_create(expected, members.params);
        } else {
            expected->word = is_other_method(j_method) ? NULL : "method_not_found";
        }
    }
    json_decref(j_version);
    json_decref(j_method);
}

/* Whether the reply is that: its beginning byte for byte, then a result, or an error with this word. */
static const char *compare_reply(const struct expectation *expected, struct oracle_span reply)
{
    char start[INPUT_MAX + 64], word[64] = "";
    int len = snprintf(start, sizeof start, "{%s\"id\":%.*s,", expected->is_short ? "" : "\"jsonrpc\":\"2.0\",",
                       expected->id.text == NULL ? 4 : (int)expected->id.len,
                       expected->id.text == NULL ? "null" : expected->id.text);
    if (reply.len < (size_t)len || memcmp(reply.text, start, (size_t)len) != 0) {
        return "the reply begins otherwise";
    }
    static const char result[] = "\"result\":", error[] = "\"error\":";
    bool is_result = memcmp(reply.text + len, result, strlen(result)) == 0;
    if (!is_result && memcmp(reply.text + len, error, strlen(error)) != 0) {
        return "neither a result nor an error";
    }
    const char *data = strstr(reply.text + len, "\"data\":{\"error\":\"");
    if (!is_result && data != NULL) {
        sscanf(data + strlen("\"data\":{\"error\":\""), "%63[a-z_]", word);
    }
    if (expected->word != NULL) {
        return strcmp(word, expected->word) == 0 && is_result == (*word == '\0') ? NULL : "another error or result";
    }
    static const char *const unread[] = {"parse_error", "invalid_request", "method_not_found", "limit_exceeded",
                                         "internal_error", NULL};
    for (unsigned i = 0; unread[i] != NULL; i++) {
        if (strcmp(word, unread[i]) == 0) {
            return "an error that says that it was not read";
        }
    }
    return NULL;
}

/* ---- a line, with all that it contains ---- */

struct script {
    struct expectation expected[MEMBERS_MAX];
    size_t count;
    bool is_batch;
    json_t *j_value; /* what "v" is afterwards; NULL: not known, or nothing */
};

static void script_add(struct script *script, const char *word, struct oracle_span request)
{
    assert_true(script->count < MEMBERS_MAX);
    struct expectation *expected = &script->expected[script->count++];
    if (word != NULL) {
        *expected = (struct expectation){.word = word};
    } else {
        expect_request(expected, request);
    }
    json_decref(script->j_value);
    script->j_value = json_incref(expected->j_value);
}

/* What a line is answered with. */
static void script_write(struct script *script, const char *line, size_t len, unsigned max_depth)
{
    struct oracle_notes notes;
    struct oracle_span text = oracle_trim(line, line + len), items[MEMBERS_MAX];
    *script = (struct script){0};
    if (text.len == 0) {
        return;
    }
    json_t *j_line = oracle_load(text.text, text.len, &notes);
    if (j_line == NULL) {
        script_add(script, "parse_error", text);
    } else if (oracle_depth(text.text, text.len) > max_depth) {
        script_add(script, "limit_exceeded", text);
    } else if (*text.text != '[') {
        script_add(script, NULL, text);
    } else {
        size_t count = oracle_children(text, items, MEMBERS_MAX);
        assert_true(count <= MEMBERS_MAX);
        script->is_batch = count > 0;
        for (size_t i = 0; i < count; i++) {
            script_add(script, NULL, items[i]);
        }
        if (count == 0) {
            script_add(script, "invalid_request", text);
        }
    }
    json_decref(j_line);
}

static void script_forget(struct script *script)
{
    for (size_t i = 0; i < script->count; i++) {
        json_decref(script->expected[i].j_value);
    }
    json_decref(script->j_value);
}

/* Whether what was said is what is expected. */
static const char *compare_said(struct script *script, const char *said, size_t len)
{
    struct oracle_span replies[MEMBERS_MAX], all = oracle_trim(said, said + len);
    size_t count = 0, loud = 0;
    for (size_t i = 0; i < script->count; i++) {
        loud += !script->expected[i].is_silent;
    }
    if (loud == 0 || len == 0) {
        return loud == 0 && len == 0 ? NULL : loud == 0 ? "a reply where none is due" : "no reply";
    }
    if (memchr(said, '\n', len) != said + len - 1 || (*said == '[') != script->is_batch) {
        return "not one line of its kind";
    }
    count = script->is_batch ? oracle_children(all, replies, MEMBERS_MAX) : 1;
    replies[0] = script->is_batch ? replies[0] : all;
    if (count != loud) {
        return "another number of replies";
    }
    count = 0;
    for (size_t i = 0; i < script->count; i++) {
        const char *why = script->expected[i].is_silent ? NULL : compare_reply(&script->expected[i], replies[count++]);
        if (why != NULL) {
            return why;
        }
    }
    return NULL;
}

/* Whether `get` says of "v" what jansson has read. */
static const char *compare_value(struct differential *d, const json_t *j_expected)
{
    static const char start[] = "{\"id\":1,\"result\":";
    const char *said = say(d->fixture, "{\"id\":1,\"method\":\"get\",\"params\":[\"v\",-1]}\n");
    if (strncmp(said, start, strlen(start)) != 0) {
        return "get fails";
    }
    json_t *j_got = json_loadb(said + strlen(start), d->fixture->said_len - strlen(start) - 2,
                               JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    const char *why = oracle_same(j_expected, j_got, true) ? NULL : "get says something else";
    json_decref(j_got);
    d->values++;
    return why;
}

static const char *compare_line(struct differential *d, const char *line, size_t len)
{
    struct script script;
    script_write(&script, line, len, (unsigned)d->fixture->limits.max_depth);
    fixture_forget(d->fixture);
    fixture_feed(d->fixture->conn, line, len);
    fixture_feed(d->fixture->conn, "\n", 1);
    fixture_run(d->fixture);
    const char *why = compare_said(&script, d->fixture->said, d->fixture->said_len);
    d->lines++;
    d->results += strstr(d->fixture->said, "\"result\"") != NULL;
    if (why == NULL && script.j_value != NULL) {
        why = compare_value(d, script.j_value);
    }
    script_forget(&script);
    return why;
}

/* Newlines end a line; where they are white space a tab is, too, and where they are not, neither is. */
static void expect_same_line(struct differential *d, struct input *input)
{
    for (char *p = input->text; (p = memchr(p, '\n', (size_t)(input->text + input->len - p))) != NULL;) {
        *p = '\t';
    }
    const char *why = compare_line(d, input->text, input->len);
    if (why != NULL) {
        fail_msg("%s\n  line: %.*s\n  said: %s", why, (int)input->len, input->text, d->fixture->said);
    }
}

/* The text in places of a line where a value may stand. */
static void expect_same_in_a_line(struct differential *d, const char *text, size_t len)
{
    static const char *const places[][2] = {
        {"", ""},
        {"[", "]"},
        {"{\"id\":", ",\"method\":\"ping\"}"},
        {"{\"id\":1,\"method\":\"ping\",\"params\":", "}"},
        {"{\"id\":1,\"method\":", "}"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"more\":", ",\"method\":\"ping\"}"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"create\",\"params\":{\"value\":", ",\"name\":\"v\"}}"},
        {"{\"id\":1,\"method\":\"create\",\"params\":[{\"$json\":", "},\"v\"]}"},
        {"[{\"id\":1,\"params\":[", ",\"v\"],\"method\":\"create\"}]"},
    };
    uint32_t place = process_random_below(&d->random, sizeof places / sizeof *places + 4);
    place = place < sizeof places / sizeof *places ? place : 6 + place % 3; /* most as literals */
    struct input line;
    line.len = 0;
    if (len > INPUT_MAX - 128) {
        return;
    }
    input_printf(&line, "%s", places[place][0]);
    input_add(&line, text, len);
    input_printf(&line, "%s", places[place][1]);
    expect_same_line(d, &line);
}

/* Each run must have had some of everything. */
static void demand_some(const struct differential *d)
{
    print_message("%llu texts, %llu of them good; %llu lines, %llu with results; %llu values compared\n",
                  (unsigned long long)d->texts, (unsigned long long)d->good, (unsigned long long)d->lines,
                  (unsigned long long)d->results, (unsigned long long)d->values);
    assert_true(d->good > d->texts / 20 && d->good < d->texts);
    assert_true(d->values > d->lines / 100 && d->results < d->lines);
}

/* ---- tests ---- */

static void test_json_differential_made_by_the_grammar(void **state)
{
    struct differential *d = *state;
    struct input input;
    for (int i = 0; i < rounds(50000); i++) {
        input.len = 0;
        input_make_value(&input, &d->random, 5);
        for (uint32_t n = process_random_below(&d->random, 3); n > 0; n--) {
            input_damage(&input, &d->random);
        }
        expect_same_reading(d, input.text, input.len);
        expect_same_in_a_line(d, input.text, input.len);
    }
    demand_some(d);
}

static void test_json_differential_requests(void **state)
{
    struct differential *d = *state;
    struct input input;
    for (int i = 0; i < rounds(50000); i++) {
        input.len = 0;
        input_make_line(&input, &d->random);
        for (uint32_t n = process_random_below(&d->random, 6); n > 4; n--) {
            input_damage(&input, &d->random);
        }
        expect_same_reading(d, input.text, input.len);
        expect_same_line(d, &input);
    }
    demand_some(d);
}

static void test_json_differential_noise(void **state)
{
    struct differential *d = *state;
    struct input input;
    for (int i = 0; i < rounds(200000); i++) {
        input.len = 0;
        input_make_noise(&input, &d->random);
        expect_same_reading(d, input.text, input.len);
        if (i % 8 == 0) {
            expect_same_in_a_line(d, input.text, input.len);
        }
    }
    assert_true(d->good > d->texts / 50);
}

static void test_json_differential_parsing_suite(void **state)
{
    struct differential *d = *state;
    if (d->corpus.count == 0) {
        process_skip("there is no JSONTestSuite in ../shared/data");
    }
    for (size_t i = 0; i < d->corpus.count; i++) {
        struct input input = d->corpus.inputs[i];
        expect_same_reading(d, input.text, input.len);
        for (unsigned k = 0; k < 10; k++) {
            expect_same_in_a_line(d, input.text, input.len);
        }
        for (int n = 0; n < rounds(60); n++) {
            input = d->corpus.inputs[i];
            for (uint32_t times = 1 + process_random_below(&d->random, 3); times > 0; times--) {
                input_damage(&input, &d->random);
            }
            expect_same_reading(d, input.text, input.len);
            expect_same_in_a_line(d, input.text, input.len);
        }
    }
    demand_some(d);
}

/* Sequences of bytes in a string: every two, and random ones of three and four. */
static void test_json_differential_utf8(void **state)
{
    struct differential *d = *state;
    char text[8] = "\"\"";
    for (unsigned first = 0x20; first < 256; first++) {
        for (unsigned second = 0x20; second < 256; second++) {
            text[1] = (char)first;
            text[2] = (char)second;
            text[3] = '"';
            expect_same_reading(d, text, 4);
        }
    }
    for (int i = 0; i < rounds(100000); i++) {
        size_t n = 3 + process_random_below(&d->random, 2);
        text[1] = (char)(0xe0 + process_random_below(&d->random, 24));
        for (size_t k = 2; k <= n; k++) {
            bool is_odd = process_random_below(&d->random, 20) == 0;
            text[k] = (char)(is_odd ? process_random_below(&d->random, 256) : 0x80 + process_random_below(&d->random, 64));
        }
        text[n + 1] = '"';
        expect_same_reading(d, text, n + 2);
    }
}

static void test_json_differential_depth(void **state)
{
    struct differential *d = *state;
    struct input input;
    for (unsigned depth = 90; depth < 110; depth++) {
        for (unsigned damage = 0; damage < 20; damage++) {
            input.len = 0;
            for (unsigned i = 0; i < depth; i++) {
                input_printf(&input, "%s", i % 3 == 1 ? "{\"a\":" : "[");
            }
            input_printf(&input, "1");
            for (unsigned i = depth; i-- > 0;) {
                input_printf(&input, "%s", i % 3 == 1 ? "}" : "]");
            }
            if (damage > 10) {
                input_damage(&input, &d->random);
            }
            expect_same_reading(d, input.text, input.len);
            expect_same_in_a_line(d, input.text, input.len);
        }
    }
    demand_some(d);
}

/* The real files, read, and through the heap and back; create does them in slices. */
static void test_json_differential_real_files(void **state)
{
    struct differential *d = *state;
    static const char *const files[] = {"canada.json", "citm_catalog.json"};
    static const char start[] = "{\"id\":1,\"method\":\"create\",\"params\":{\"name\":\"v\",\"value\":", end[] = "}}";
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[4200];
        size_t len = 0;
        char *text = process_data(path, sizeof path, files[i]) ? process_read_file(path, &len) : NULL;
        if (text == NULL) {
            process_skip("there is no %s in ../shared/data", files[i]);
        }
        expect_same_reading(d, text, len);
        char *line = malloc(len + sizeof start + sizeof end);
        assert_non_null(line);
        size_t n = (size_t)sprintf(line, "%s", start);
        for (size_t k = 0; k < len; k++) {
            line[n++] = text[k] == '\n' ? ' ' : text[k];
        }
        n += (size_t)sprintf(line + n, "%s", end);
        const char *why = compare_line(d, line, n);
        if (why != NULL) {
            fail_msg("%s: %s", files[i], why);
        }
        free(line);
        free(text);
    }
    assert_int_equal(d->values, 2);
}

/* The oracle tells what differs. */
static void test_json_differential_tells_differences(void **state)
{
    struct differential *d = *state;
    static const char *const different[][2] = {
        {"1", "1.0"},          {"0.0", "-0.0"},   {"0.1", "0.10000000000000002"}, {"[1]", "[1,2]"},
        {"\"a\"", "\"a \""},   {"null", "false"}, {"{\"a\":1}", "{\"b\":1}"},      {"{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}"},
        {"{\"a\":1}", "{}"},   {"[]", "{}"},      {"[[1,[2]]]", "[[1,[3]]]"},      {"{\"a\":{\"b\":1}}", "{\"a\":{\"b\":2}}"},
        {"1e999", "1e308"},    {"\"\\u0000\"", "\"\""},
    };
    for (size_t i = 0; i < sizeof different / sizeof *different; i++) {
        json_t *j_a = oracle_text(different[i][0]), *j_b = oracle_text(different[i][1]);
        assert_non_null(j_a);
        assert_non_null(j_b);
        assert_true(oracle_same(j_a, j_a, false));
        assert_false(oracle_same(j_a, j_b, false));
        json_decref(j_a);
        json_decref(j_b);
    }
    json_t *j_twice = oracle_text("{\"$a\":1,\"b\":2,\"$a\":3}");
    json_t *j_form = oracle_text("{\"$dict\":[[\"$a\",3],[\"b\",2]]}");
    assert_true(oracle_same(j_twice, j_form, true));
    assert_false(oracle_same(j_twice, j_form, false));
    json_decref(j_twice);
    json_decref(j_form);
    static const char *const replies[][3] = {
        /* line, what may be said, what may not */
        {"{\"id\":1.0,\"method\":\"ping\"}", "{\"id\":1.0,\"result\":\"pong\"}\n", "{\"id\":1,\"result\":\"pong\"}\n"},
        {"{\"method\":\"ping\"}", "", "{\"id\":null,\"result\":\"pong\"}\n"},
        {"{\"id\":1,\"id\":1,\"method\":\"ping\"}",
         "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"data\":{\"error\":\"invalid_request\"}}}\n",
         "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"data\":{\"error\":\"invalid_request\"}}}\n"},
        {"{\"id\":1,\"method\":\"create\",\"params\":[1e999,\"v\"]}",
         "{\"id\":1,\"error\":{\"data\":{\"error\":\"value_error\"}}}\n", "{\"id\":1,\"result\":{}}\n"},
        {"[{\"id\":1,\"method\":\"ping\"}]", "[{\"id\":1,\"result\":\"pong\"}]\n", "{\"id\":1,\"result\":\"pong\"}\n"},
        {"[]", "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"data\":{\"error\":\"invalid_request\"}}}\n", "[]\n"},
        {"{", "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"data\":{\"error\":\"parse_error\"}}}\n", ""},
    };
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        struct script script;
        script_write(&script, replies[i][0], strlen(replies[i][0]), 100);
        assert_null(compare_said(&script, replies[i][1], strlen(replies[i][1])));
        assert_non_null(compare_said(&script, replies[i][2], strlen(replies[i][2])));
        script_forget(&script);
    }
    tell(d->fixture, "{\"id\":1,\"method\":\"create\",\"params\":[[1,2.0],\"v\"]}", "{\"id\":1,\"result\":<object>}");
    json_t *j_right = json_pack("[i,f]", 1, 2.0), *j_wrong = json_pack("[i,i]", 1, 2);
    assert_null(compare_value(d, j_right));
    assert_non_null(compare_value(d, j_wrong));
    json_decref(j_right);
    json_decref(j_wrong);
}

#define DIFFERENTIAL(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIFFERENTIAL(test_json_differential_tells_differences),
        DIFFERENTIAL(test_json_differential_made_by_the_grammar),
        DIFFERENTIAL(test_json_differential_requests),
        DIFFERENTIAL(test_json_differential_noise),
        DIFFERENTIAL(test_json_differential_parsing_suite),
        DIFFERENTIAL(test_json_differential_utf8),
        DIFFERENTIAL(test_json_differential_depth),
        DIFFERENTIAL(test_json_differential_real_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
