/* json_oracle.h -- what jansson says of a text, for test_json_differential.c.
 *
 * jansson refuses some texts that are JSON, because it cannot hold what they say.  oracle_load() gives it a copy in
 * which such a piece is replaced by one of the same kind and length, and begins again, so that its verdict is about the
 * grammar alone; where a number stood that is too large, the tree has ORACLE_TOO_LARGE with its sign.
 *
 * Where values and members lie in a text that is known to be JSON is found by counting brackets (oracle_children()),
 * independently of the reader under test.
 */
#ifndef HEAPD_TESTS_JSON_ORACLE_H
#define HEAPD_TESTS_JSON_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

/* In the tree of a number that is too large; inputs do not contain it. */
#define ORACLE_TOO_LARGE 6e66
#define ORACLE_TOO_LARGE_TEXT "6e66"

struct oracle_span {
    const char *text;
    size_t len;
};

/* ---- verdict and tree ---- */

/* Replaces all `\u0000` by another escape of that length. */
static inline void oracle_hide_nuls(char *text, size_t len)
{
    for (size_t i = 0; i + 6 <= len; i++) {
        if (memcmp(text + i, "\\u0000", 6) == 0) {
            memcpy(text + i, "\\ue001", 6);
        }
    }
}

static inline bool oracle_is_e(char c)
{
    return c == 'e' || c == 'E';
}

/* Replaces the number that ends at `end`, but for its sign, which ends whatever stands before it. */
static inline void oracle_hide_number(char *text, size_t end)
{
    size_t start = end;
    while (start > 0 && (strchr(".0123456789", text[start - 1]) != NULL || oracle_is_e(text[start - 1]) ||
                         (start > 1 && strchr("+-", text[start - 1]) != NULL && oracle_is_e(text[start - 2])))) {
        start--;
    }
    memset(text + start, ' ', end - start);
    memcpy(text + start, ORACLE_TOO_LARGE_TEXT, strlen(ORACLE_TOO_LARGE_TEXT));
}

/* What there is to know of a text besides its tree. */
struct oracle_notes {
    bool too_deep;   /* nested deeper than jansson goes: it has no verdict */
    bool hides_nuls; /* names with NULs are written otherwise in the tree */
    bool too_large;  /* a number is, perhaps one that a later member of that name has replaced */
};

/* The tree of the text, new; NULL: it is no JSON, or too deep. */
static inline json_t *oracle_load(const char *original, size_t len, struct oracle_notes *notes)
{
    json_t *j_value = NULL;
    json_error_t j_error;
    *notes = (struct oracle_notes){0};
    bool again = memchr(original, '\0', len) == NULL; /* a NUL byte is no JSON; jansson overlooks some */
    char *text = malloc(len + 1);
    if (text == NULL) {
        abort();
    }
    memcpy(text, original, len);
    while (again) {
        j_value = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &j_error);
        enum json_error_code code = j_value == NULL ? json_error_code(&j_error) : json_error_unknown;
        again = false;
        if (code == json_error_numeric_overflow) {
            oracle_hide_number(text, (size_t)j_error.position);
            notes->too_large = again = true;
        } else if (code == json_error_null_byte_in_key || code == json_error_null_character) {
            oracle_hide_nuls(text, len);
            again = !notes->hides_nuls;
            notes->hides_nuls = true;
        } else if (code == json_error_stack_overflow) {
            notes->too_deep = true;
        }
    }
    free(text);
    return j_value;
}

/* The tree of a span; NULL too where there is none. */
static inline json_t *oracle_value(struct oracle_span span)
{
    struct oracle_notes notes;
    return span.text == NULL ? NULL : oracle_load(span.text, span.len, &notes);
}

static inline json_t *oracle_text(const char *text)
{
    return oracle_value((struct oracle_span){text, strlen(text)});
}

/* ---- where things are, in what is JSON ---- */

/* The byte behind the string at p. */
static inline const char *oracle_behind_string(const char *p)
{
    for (p++; *p != '"'; p++) {
        p += *p == '\\';
    }
    return p + 1;
}

static inline bool oracle_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static inline struct oracle_span oracle_trim(const char *text, const char *end)
{
    while (text < end && oracle_is_space(*text)) {
        text++;
    }
    while (end > text && oracle_is_space(end[-1])) {
        end--;
    }
    return (struct oracle_span){text, (size_t)(end - text)};
}

/* How deep arrays and objects nest. */
static inline unsigned oracle_depth(const char *text, size_t len)
{
    unsigned depth = 0, deepest = 0;
    for (const char *p = text; p < text + len;) {
        depth += *p == '[' || *p == '{';
        depth -= *p == ']' || *p == '}';
        deepest = depth > deepest ? depth : deepest;
        p = *p == '"' ? oracle_behind_string(p) : p + 1;
    }
    return deepest;
}

/* The items of an array, or keys and values of an object in turn; how many those are.  At most `room` are written. */
static inline size_t oracle_children(struct oracle_span container, struct oracle_span *children, size_t room)
{
    size_t count = 0;
    unsigned depth = 0;
    const char *p = container.text + 1, *end = container.text + container.len - 1, *start = p;
    while (p <= end) {
        bool ends = p == end || (depth == 0 && (*p == ',' || *p == ':'));
        if (ends) {
            struct oracle_span child = oracle_trim(start, p);
            if (child.len > 0 && count < room) {
                children[count] = child;
            }
            count += child.len > 0;
            start = ++p;
        } else {
            depth += *p == '[' || *p == '{';
            depth -= *p == ']' || *p == '}';
            p = *p == '"' ? oracle_behind_string(p) : p + 1;
        }
    }
    return count;
}

/* ---- the same value ---- */

static inline bool oracle_same_string(const json_t *j_a, const json_t *j_b)
{
    size_t len = json_string_length(j_a);
    return len == json_string_length(j_b) && memcmp(json_string_value(j_a), json_string_value(j_b), len) == 0;
}

static inline bool oracle_has_dollar(const json_t *j_object)
{
    const char *key;
    size_t len;
    json_t *j_value;
    json_object_keylen_foreach((json_t *)(uintptr_t)j_object, key, len, j_value)
    {
        if (len > 0 && key[0] == '$') {
            return true;
        }
    }
    return false;
}

static inline bool oracle_same(const json_t *j_expected, const json_t *j_got, bool as_literal);

/* The object, with its members in this order, as [key, value] pairs. */
static inline bool oracle_same_pairs(const json_t *j_expected, const json_t *j_pairs, bool as_literal)
{
    const char *key;
    size_t len, i = 0;
    json_t *j_value;
    if (json_array_size(j_pairs) != json_object_size(j_expected)) {
        return false;
    }
    json_object_keylen_foreach((json_t *)(uintptr_t)j_expected, key, len, j_value)
    {
        const json_t *j_pair = json_array_get(j_pairs, i++), *j_key = json_array_get(j_pair, 0);
        if (json_array_size(j_pair) != 2 || !json_is_string(j_key) || json_string_length(j_key) != len ||
            memcmp(json_string_value(j_key), key, len) != 0 ||
            !oracle_same(j_value, json_array_get(j_pair, 1), as_literal)) {
            return false;
        }
    }
    return true;
}

static inline bool oracle_same_object(const json_t *j_expected, const json_t *j_got, bool as_literal)
{
    if (as_literal && oracle_has_dollar(j_expected)) {
        return json_object_size(j_got) == 1 && oracle_same_pairs(j_expected, json_object_get(j_got, "$dict"), true);
    }
    void *a = json_object_iter((json_t *)(uintptr_t)j_expected), *b = json_object_iter((json_t *)(uintptr_t)j_got);
    for (; a != NULL && b != NULL; a = json_object_iter_next((json_t *)(uintptr_t)j_expected, a),
                                   b = json_object_iter_next((json_t *)(uintptr_t)j_got, b)) {
        size_t len = json_object_iter_key_len(a);
        if (len != json_object_iter_key_len(b) || memcmp(json_object_iter_key(a), json_object_iter_key(b), len) != 0 ||
            !oracle_same(json_object_iter_value(a), json_object_iter_value(b), as_literal)) {
            return false;
        }
    }
    return a == NULL && b == NULL;
}

/* Same types, the same bits of floats, members in the same order.  `as_literal`: `got` is what `get` writes, where a dict
 * with a key that begins with `$` is a form. */
static inline bool oracle_same(const json_t *j_expected, const json_t *j_got, bool as_literal)
{
    if (j_expected == NULL || j_got == NULL || json_typeof(j_expected) != json_typeof(j_got)) {
        return false;
    }
    double a, b;
    switch (json_typeof(j_expected)) {
    case JSON_OBJECT:
        return oracle_same_object(j_expected, j_got, as_literal);
    case JSON_ARRAY:
        if (json_array_size(j_expected) != json_array_size(j_got)) {
            return false;
        }
        for (size_t i = 0; i < json_array_size(j_expected); i++) {
            if (!oracle_same(json_array_get(j_expected, i), json_array_get(j_got, i), as_literal)) {
                return false;
            }
        }
        return true;
    case JSON_STRING:
        return oracle_same_string(j_expected, j_got);
    case JSON_INTEGER:
        return json_integer_value(j_expected) == json_integer_value(j_got);
    case JSON_REAL:
        a = json_real_value(j_expected);
        b = json_real_value(j_got);
        return memcmp(&a, &b, sizeof a) == 0;
    default:
        return true;
    }
}

/* Whether a name in the text may begin with `$`: some string does. */
static inline bool oracle_may_have_form(struct oracle_span text)
{
    for (size_t i = 0; i + 1 < text.len; i++) {
        if (text.text[i] == '"' &&
            (text.text[i + 1] == '$' || (text.len - i > 6 && memcmp(text.text + i + 1, "\\u0024", 6) == 0))) {
            return true;
        }
    }
    return false;
}

#endif
