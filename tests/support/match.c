/* match.c -- reads an expectation and a reply into trees and compares them.
 *
 * Invariant: nodes point into the texts they were read from and are freed all together, as one tree.
 * This is a reader of JSON of its own, on purpose: the daemon's replies hold numbers that jansson changes
 * or refuses, and ids that must come back byte for byte.
 * Start at match_reply().
 */
#include "match.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum node_kind { NODE_SCALAR, NODE_STRING, NODE_ARRAY, NODE_OBJECT, NODE_PLACEHOLDER };

struct node {
    enum node_kind kind;
    const char *text; /* as written; of a placeholder: what stands between < and > before its argument */
    size_t len;
    struct node *key;   /* member of an object: its name */
    struct node *child; /* first element or member; argument of a placeholder */
    struct node *next;  /* sibling */
};

struct reader {
    const char *at;
    const char *end;
    bool placeholders; /* whether <..> may stand for a value */
};

/* code and word of PROTOCOL section 9 */
static const struct {
    const char *word;
    const char *code;
} error_codes[] = {
    {"parse_error", "-32700"},     {"invalid_request", "-32600"}, {"method_not_found", "-32601"},
    {"invalid_params", "-32602"},  {"internal_error", "-32603"},  {"not_found", "-32001"},
    {"not_held", "-32002"},        {"type_error", "-32003"},      {"name_error", "-32004"},
    {"index_error", "-32005"},     {"key_error", "-32005"},       {"attribute_error", "-32005"},
    {"value_error", "-32006"},     {"memory_error", "-32007"},    {"limit_exceeded", "-32008"},
    {"unauthenticated", "-32009"}, {"forbidden", "-32010"},       {"unavailable", "-32011"},
};

/* ---- reading ---- */

static void node_free(struct node *node)
{
    while (node != NULL) {
        struct node *next = node->next;
        node_free(node->key);
        node_free(node->child);
        free(node);
        node = next;
    }
}

static struct node *node_new(enum node_kind kind, const char *text)
{
    struct node *node = calloc(1, sizeof *node);
    if (node == NULL) {
        abort();
    }
    node->kind = kind;
    node->text = text;
    return node;
}

static void skip_space(struct reader *in)
{
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\t' || *in->at == '\r' || *in->at == '\n')) {
        in->at++;
    }
}

static bool next_is(const struct reader *in, char c)
{
    return in->at < in->end && *in->at == c;
}

/* How many bytes the UTF-8 sequence at `p` has; 0: it is none. */
static size_t utf8_length(const char *p, const char *end)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)*p;
    size_t n = first < 0x80   ? 1
               : first < 0xc2 ? 0
               : first < 0xe0 ? 2
               : first < 0xf0 ? 3
               : first < 0xf5 ? 4
                              : 0;
    if (n <= 1 || (size_t)(end - p) < n) {
        return n == 1 ? 1 : 0;
    }
    unsigned code = first & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if (((unsigned char)p[i] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | ((unsigned char)p[i] & 0x3f);
    }
    return code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : n;
}

/* The four digits after \u, or -1. */
static int hex4(const char *p, const char *end)
{
    int value = 0;
    if (end - p < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *digit = p[i] == '\0' ? NULL : strchr(digits, p[i] | (p[i] > '9' ? 0x20 : 0));
        if (digit == NULL) {
            return -1;
        }
        value = value * 16 + (int)(digit - digits);
    }
    return value;
}

/* Moves behind the escape whose backslash is at in->at; writes what it stands for to `out` (4 bytes of
 * room; NULL: nobody wants it) and returns how many bytes that is, 0 for a bad escape. */
static size_t read_escape(struct reader *in, char *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char scratch[4];
    out = out == NULL ? scratch : out;
    if (in->end - in->at < 2 || in->at[1] == '\0') {
        return 0;
    }
    const char *plain = strchr(from, in->at[1]);
    if (plain != NULL) {
        *out = to[plain - from];
        in->at += 2;
        return 1;
    }
    int code = in->at[1] == 'u' ? hex4(in->at + 2, in->end) : -1;
    in->at += 6;
    if (code >= 0xd800 && code < 0xdc00) {
        int low =
            in->end - in->at >= 6 && in->at[0] == '\\' && in->at[1] == 'u' ? hex4(in->at + 2, in->end) : -1;
        code = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00) : -1;
        in->at += 6;
    }
    if (code < 0 || (code >= 0xd800 && code < 0xe000)) {
        return 0;
    }
    size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; code >>= 6) {
        out[i] = (char)(0x80 | (code & 0x3f));
    }
    out[0] = (char)(n == 1 ? code : (int)(0xf00u >> n & 0xff) | code);
    return n;
}

static struct node *read_string(struct reader *in)
{
    const char *start = in->at++;
    while (in->at < in->end && *in->at != '"') {
        size_t n = 0;
        if (*in->at == '\\') {
            if (read_escape(in, NULL) == 0 || in->at > in->end) {
                return NULL;
            }
        } else if ((unsigned char)*in->at < 0x20 || (n = utf8_length(in->at, in->end)) == 0) {
            return NULL;
        }
        in->at += n;
    }
    if (in->at >= in->end) {
        return NULL;
    }
    in->at++;
    struct node *node = node_new(NODE_STRING, start);
    node->len = (size_t)(in->at - start);
    return node;
}

static size_t skip_digits(struct reader *in)
{
    const char *start = in->at;
    while (in->at < in->end && *in->at >= '0' && *in->at <= '9') {
        in->at++;
    }
    return (size_t)(in->at - start);
}

static bool skip_number(struct reader *in)
{
    in->at += next_is(in, '-');
    bool zero = next_is(in, '0');
    size_t n = skip_digits(in);
    if (n == 0 || (zero && n > 1)) {
        return false;
    }
    if (next_is(in, '.')) {
        in->at++;
        if (skip_digits(in) == 0) {
            return false;
        }
    }
    if (next_is(in, 'e') || next_is(in, 'E')) {
        in->at++;
        in->at += next_is(in, '-') || next_is(in, '+');
        if (skip_digits(in) == 0) {
            return false;
        }
    }
    return true;
}

static struct node *read_scalar(struct reader *in)
{
    static const char *const words[] = {"null", "true", "false"};
    const char *start = in->at;
    for (size_t i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(in->end - start) >= n && memcmp(start, words[i], n) == 0) {
            in->at += n;
        }
    }
    if (in->at == start && !skip_number(in)) {
        return NULL;
    }
    struct node *node = node_new(NODE_SCALAR, start);
    node->len = (size_t)(in->at - start);
    return node;
}

static struct node *read_value(struct reader *in);

/* Elements or members up to `close`; the opening bracket is at in->at. */
static struct node *read_container(struct reader *in, enum node_kind kind, char close)
{
    struct node *node = node_new(kind, in->at++);
    struct node **tail = &node->child;
    skip_space(in);
    while (!next_is(in, close)) {
        struct node *key = NULL;
        if (node->child != NULL) {
            if (!next_is(in, ',')) {
                goto fail;
            }
            in->at++;
            skip_space(in);
        }
        if (kind == NODE_OBJECT) {
            key = next_is(in, '"') ? read_string(in) : NULL;
            skip_space(in);
            if (key == NULL || !next_is(in, ':')) {
                node_free(key);
                goto fail;
            }
            in->at++;
        }
        *tail = read_value(in);
        if (*tail == NULL) {
            node_free(key);
            goto fail;
        }
        (*tail)->key = key;
        tail = &(*tail)->next;
        skip_space(in);
    }
    in->at++;
    node->len = (size_t)(in->at - node->text);
    return node;
fail:
    node_free(node);
    return NULL;
}

/* <WORD>, <error WORD>, <WORD VALUE>, <error WORD VALUE> */
static struct node *read_placeholder(struct reader *in)
{
    struct node *node = node_new(NODE_PLACEHOLDER, ++in->at);
    size_t words = strncmp(in->at, "error ", 6) == 0 ? 2 : 1;
    while (in->at < in->end && *in->at != '>') {
        if (*in->at == ' ' && --words == 0) {
            node->len = (size_t)(in->at - node->text);
            node->child = read_value(in);
            skip_space(in);
            if (node->child == NULL || !next_is(in, '>')) {
                node_free(node);
                return NULL;
            }
            in->at++;
            return node;
        }
        in->at++;
    }
    node->len = (size_t)(in->at - node->text);
    in->at++;
    return node;
}

static struct node *read_value(struct reader *in)
{
    skip_space(in);
    if (in->at >= in->end) {
        return NULL;
    }
    switch (*in->at) {
    case '"':
        return read_string(in);
    case '[':
        return read_container(in, NODE_ARRAY, ']');
    case '{':
        return read_container(in, NODE_OBJECT, '}');
    case '<':
        return in->placeholders ? read_placeholder(in) : NULL;
    default:
        return read_scalar(in);
    }
}

static struct node *read_text(const char *text, size_t len, bool placeholders)
{
    struct reader in = {text, text + len, placeholders};
    struct node *node = read_value(&in);
    skip_space(&in);
    if (node != NULL && in.at != in.end) {
        node_free(node);
        node = NULL;
    }
    return node;
}

bool match_is_json(const char *text, size_t len)
{
    struct node *node = read_text(text, len, false);
    node_free(node);
    return node != NULL;
}

/* ---- comparing ---- */

struct matcher {
    struct match_bindings *bindings;
    char *why;
};

static bool match_node(struct matcher *m, const struct node *want, const struct node *got, bool ordered);

static bool differ(struct matcher *m, const char *what, const struct node *want, const struct node *got)
{
    if (m->why[0] == '\0') {
        snprintf(m->why, MATCH_WHY_BYTES, "%s: expected %.*s, got %.*s", what,
                 want == NULL ? 7 : (int)(want->len > 180 ? 180 : want->len),
                 want == NULL ? "nothing" : want->text,
                 got == NULL ? 7 : (int)(got->len > 180 ? 180 : got->len),
                 got == NULL ? "nothing" : got->text);
    }
    return false;
}

/* The content of a string node, unescaped, malloc'ed. */
static char *unescape(const struct node *string, size_t *len)
{
    struct reader in = {string->text + 1, string->text + string->len - 1, false};
    char *out = malloc(string->len + 4);
    size_t n = 0;
    if (out == NULL) {
        abort();
    }
    while (in.at < in.end) {
        if (*in.at == '\\') {
            n += read_escape(&in, out + n);
        } else {
            out[n++] = *in.at++;
        }
    }
    *len = n;
    return out;
}

static bool same_string(const struct node *a, const struct node *b)
{
    size_t a_len, b_len;
    char *a_text = unescape(a, &a_len), *b_text = unescape(b, &b_len);
    bool same = a_len == b_len && memcmp(a_text, b_text, a_len) == 0;
    free(a_text);
    free(b_text);
    return same;
}

static bool same_bytes(const struct node *a, const struct node *b)
{
    return a->kind == b->kind && a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

static bool key_is(const struct node *member, const char *name)
{
    return member->key->len == strlen(name) + 2 && memcmp(member->key->text + 1, name, strlen(name)) == 0;
}

static const struct node *find_member(const struct node *object, const struct node *key)
{
    const struct node *member = object->child;
    while (member != NULL && !same_string(member->key, key)) {
        member = member->next;
    }
    return member;
}

/* Every member of `want` is in `got`; with `exact` nothing else is. */
static bool match_members(struct matcher *m, const struct node *want, const struct node *got, bool exact)
{
    size_t wanted = 0, there = 0;
    if (got->kind != NODE_OBJECT) {
        return differ(m, "not an object", want, got);
    }
    for (const struct node *member = want->child; member != NULL; member = member->next, wanted++) {
        const struct node *found = find_member(got, member->key);
        if (found == NULL) {
            return differ(m, "member missing", member->key, got);
        }
        if (!match_node(m, member, found, false)) {
            return false;
        }
    }
    for (const struct node *member = got->child; member != NULL; member = member->next) {
        there++;
    }
    return !exact || wanted == there || differ(m, "other members", want, got);
}

/* Elements or members one beside the other. */
static bool match_sequence(struct matcher *m, const struct node *want, const struct node *got, bool ordered)
{
    if (want->kind != got->kind) {
        return differ(m, "another kind", want, got);
    }
    const struct node *w = want->child, *g = got->child;
    for (; w != NULL && g != NULL; w = w->next, g = g->next) {
        if (w->key != NULL && !same_string(w->key, g->key)) {
            return differ(m, "another member", w->key, g->key);
        }
        if (!match_node(m, w, g, ordered)) {
            return false;
        }
    }
    return (w == NULL && g == NULL) || differ(m, "another length", want, got);
}

static bool match_unordered(struct matcher *m, const struct node *want, const struct node *got)
{
    size_t n = 0, i;
    for (const struct node *g = got->child; got->kind == NODE_ARRAY && g != NULL; g = g->next) {
        n++;
    }
    bool *taken = calloc(n + 1, sizeof *taken), ok = got->kind == NODE_ARRAY;
    for (const struct node *w = want->child; ok && w != NULL; w = w->next) {
        const struct node *g = got->child;
        struct matcher trial = {m->bindings, (char[MATCH_WHY_BYTES]){0}};
        for (i = 0; g != NULL && (taken[i] || !match_node(&trial, w, g, false)); i++) {
            g = g->next;
        }
        ok = g != NULL;
        taken[i] = true;
    }
    for (i = 0; ok && i < n; i++) {
        ok = taken[i];
    }
    free(taken);
    return ok || differ(m, "other elements", want, got);
}

static bool is_integer(const struct node *node)
{
    size_t digits = strspn(node->text + (*node->text == '-'), "0123456789") + (*node->text == '-');
    return node->kind == NODE_SCALAR && node->len > 0 && digits >= node->len &&
           (*node->text == '-' || (*node->text >= '0' && *node->text <= '9'));
}

const char *match_bound(const struct match_bindings *bindings, const char *name)
{
    for (size_t i = 0; i < bindings->count; i++) {
        if (strcmp(bindings->at[i].name, name) == 0) {
            return bindings->at[i].digits;
        }
    }
    return NULL;
}

static bool match_id(struct matcher *m, const struct node *want, const struct node *got)
{
    struct match_bindings *b = m->bindings;
    char name[MATCH_NAME_BYTES], digits[MATCH_NAME_BYTES];
    snprintf(name, sizeof name, "%.*s", (int)want->len - 3, want->text + 3);
    if (!is_integer(got) || got->len >= sizeof digits) {
        return differ(m, "not an id", want, got);
    }
    snprintf(digits, sizeof digits, "%.*s", (int)got->len, got->text);
    const char *bound = match_bound(b, name);
    if (bound != NULL) {
        return strcmp(bound, digits) == 0 || differ(m, "another id", want, got);
    }
    for (size_t i = 0; i < b->count; i++) {
        if (strcmp(b->at[i].digits, digits) == 0) {
            return differ(m, "the id of another object", want, got);
        }
    }
    if (b->count == MATCH_BINDINGS_MAX) {
        return differ(m, "too many names", want, got);
    }
    memcpy(b->at[b->count].name, name, sizeof name);
    memcpy(b->at[b->count].digits, digits, sizeof digits);
    b->count++;
    return true;
}

/* Whether `word` is one of the words of `list`, which are separated by |. */
static bool word_among(const char *word, size_t len, const char *list, size_t list_len)
{
    for (const char *end = list + list_len; list < end;) {
        const char *bar = memchr(list, '|', (size_t)(end - list));
        size_t n = (size_t)((bar != NULL ? bar : end) - list);
        if (n == len && memcmp(list, word, len) == 0) {
            return true;
        }
        list += n + 1;
    }
    return false;
}

static bool match_error(struct matcher *m, const struct node *want, const struct node *got)
{
    const char *word = want->text + 6;
    size_t word_len = want->len - 6;
    const struct node *code = NULL, *message = NULL, *data = NULL, *said = NULL;
    for (const struct node *member = got->kind == NODE_OBJECT ? got->child : NULL; member != NULL;
         member = member->next) {
        code = key_is(member, "code") ? member : code;
        message = key_is(member, "message") ? member : message;
        data = key_is(member, "data") ? member : data;
    }
    for (const struct node *member = data != NULL && data->kind == NODE_OBJECT ? data->child : NULL;
         member != NULL; member = member->next) {
        said = key_is(member, "error") ? member : said;
    }
    if (code == NULL || message == NULL || message->kind != NODE_STRING || message->len <= 2 ||
        said == NULL) {
        return differ(m, "no error object with code, message and data.error", want, got);
    }
    if (!word_among(said->text + 1, said->len - 2, word, word_len)) {
        return differ(m, "another error", want, got);
    }
    for (size_t i = 0; i < sizeof error_codes / sizeof *error_codes; i++) {
        if (word_among(said->text + 1, said->len - 2, error_codes[i].word, strlen(error_codes[i].word))) {
            bool same = strlen(error_codes[i].code) == code->len &&
                        memcmp(error_codes[i].code, code->text, code->len) == 0;
            return same ? want->child == NULL || match_members(m, want->child, data, false)
                        : differ(m, "another code", want, got);
        }
    }
    return differ(m, "a word that does not exist", want, got);
}

static bool word_is(const struct node *placeholder, const char *word)
{
    return placeholder->len == strlen(word) && memcmp(placeholder->text, word, placeholder->len) == 0;
}

static bool match_placeholder(struct matcher *m, const struct node *want, const struct node *got)
{
    bool ok = false;
    if (want->len > 3 && memcmp(want->text, "id:", 3) == 0) {
        return match_id(m, want, got);
    }
    if (want->len > 6 && memcmp(want->text, "error ", 6) == 0) {
        return match_error(m, want, got);
    }
    if (word_is(want, "has")) {
        return match_members(m, want->child, got, false);
    }
    if (word_is(want, "ordered")) {
        return match_node(m, want->child, got, true);
    }
    if (word_is(want, "unordered")) {
        return match_unordered(m, want->child, got);
    }
    if (word_is(want, "min")) {
        ok = is_integer(got) && strtoll(got->text, NULL, 10) >= strtoll(want->child->text, NULL, 10);
        return ok || differ(m, "not at least", want->child, got);
    }
    ok = word_is(want, "any") || (word_is(want, "int") && is_integer(got)) ||
         (word_is(want, "float") && got->kind == NODE_SCALAR && !is_integer(got) &&
          strchr("-0123456789", *got->text)) ||
         (word_is(want, "str") && got->kind == NODE_STRING) ||
         (word_is(want, "list") && got->kind == NODE_ARRAY) ||
         (word_is(want, "object") && got->kind == NODE_OBJECT) ||
         (word_is(want, "bool") && got->kind == NODE_SCALAR && (*got->text == 't' || *got->text == 'f'));
    return ok || differ(m, "another kind", want, got);
}

static bool match_node(struct matcher *m, const struct node *want, const struct node *got, bool ordered)
{
    switch (want->kind) {
    case NODE_PLACEHOLDER:
        return match_placeholder(m, want, got);
    case NODE_STRING:
        return (got->kind == NODE_STRING && same_string(want, got)) || differ(m, "another value", want, got);
    case NODE_SCALAR:
        return same_bytes(want, got) || differ(m, "another value", want, got);
    case NODE_OBJECT:
        return ordered ? match_sequence(m, want, got, true) : match_members(m, want, got, true);
    case NODE_ARRAY:
        return match_sequence(m, want, got, ordered);
    }
    return false;
}

/* A reply or event: members in order, the id byte for byte. */
static bool match_envelope(struct matcher *m, const struct node *want, const struct node *got)
{
    if (want->kind != NODE_OBJECT || got->kind != NODE_OBJECT) {
        return match_node(m, want, got, false);
    }
    const struct node *w = want->child, *g = got->child;
    for (; w != NULL && g != NULL; w = w->next, g = g->next) {
        if (!same_bytes(w->key, g->key)) {
            return differ(m, "another member of the envelope", w->key, g->key);
        }
        if (key_is(w, "id") && w->kind != NODE_PLACEHOLDER && !same_bytes(w, g)) {
            return differ(m, "another id", w, g);
        }
        if (!match_node(m, w, g, false)) {
            return false;
        }
    }
    return (w == NULL && g == NULL) || differ(m, "other members of the envelope", want, got);
}

bool match_reply(struct match_bindings *bindings, const char *expected, size_t expected_len,
                 const char *reply, size_t reply_len, char *why)
{
    struct matcher m = {bindings, why};
    struct node *want = read_text(expected, expected_len, true), *got = read_text(reply, reply_len, false);
    bool ok = false;
    why[0] = '\0';
    if (want == NULL) {
        snprintf(why, MATCH_WHY_BYTES, "the expectation cannot be read");
    } else if (got == NULL) {
        snprintf(why, MATCH_WHY_BYTES, "the reply is no JSON text");
    } else if (want->kind == NODE_ARRAY && got->kind == NODE_ARRAY) {
        const struct node *w = want->child, *g = got->child;
        for (ok = true; ok && w != NULL && g != NULL; w = w->next, g = g->next) {
            ok = match_envelope(&m, w, g);
        }
        ok = ok && ((w == NULL && g == NULL) || differ(&m, "another length of the batch", want, got));
    } else {
        ok = match_envelope(&m, want, got);
    }
    node_free(want);
    node_free(got);
    return ok;
}

/* ---- substitution ---- */

char *match_substitute(const struct match_bindings *bindings, const char *text, size_t len, size_t *out_len)
{
    char *out = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&out, &size);
    const char *end = text + len;
    while (text < end) {
        const char *mark = memmem(text, (size_t)(end - text), "<id:", 4);
        const char *close = mark == NULL ? NULL : memchr(mark, '>', (size_t)(end - mark));
        if (close == NULL) {
            break;
        }
        char name[MATCH_NAME_BYTES];
        snprintf(name, sizeof name, "%.*s", (int)(close - mark) - 4, mark + 4);
        const char *digits = match_bound(bindings, name);
        if (digits == NULL) {
            fclose(stream);
            free(out);
            return NULL;
        }
        fwrite(text, 1, (size_t)(mark - text), stream);
        fputs(digits, stream);
        text = close + 1;
    }
    fwrite(text, 1, (size_t)(end - text), stream);
    fclose(stream);
    *out_len = size;
    return out;
}
