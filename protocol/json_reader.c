/* json_reader.c -- validates a JSON text in one pass and says where its values lie.
 *
 * Every scan_ function takes a pointer to the first byte of something and returns the byte behind it, or
 * NULL after reject().  None compares with the end of the text: the byte there is a control character (in
 * a span that was validated before, a bracket, comma or white space), which no token but white space
 * contains, so every token stops at it; only skip_space() looks where the end is.  Blocks of 16 bytes may
 * be read across the end, hence the padding.
 *
 * Nesting is a bit a level, set for an object; 64 words of it are on the C stack, more come from malloc.
 *
 * Start reading at json_scan_value(), then scan_container().
 */
#include "json_reader.h"

#include <stdlib.h>

#include "number.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Cold and out of line, so that the callers stay small.  Always NULL. */
__attribute__((cold, noinline)) static const char *reject(struct json_cursor *cursor, const char *at,
                                                          const char *message)
{
    cursor->error = (struct json_error){.offset = (size_t)(at - cursor->start), .message = message};
    cursor->at = cursor->end;
    return NULL;
}

/* ---- white space ---- */

static inline bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

const char *json_skip_space(const struct json_cursor *cursor, const char *p)
{
#ifdef __SSE2__
    while (cursor->end - p >= 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i blank = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(' ')),
                                     _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\n')));
        __m128i other = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\t')),
                                     _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\r')));
        int stops = _mm_movemask_epi8(_mm_or_si128(blank, other)) ^ 0xffff;
        if (stops) {
            return p + __builtin_ctz((unsigned)stops);
        }
        p += 16;
    }
#endif
    while (p < cursor->end && is_space(*p)) {
        p++;
    }
    return p;
}

/* The first byte from p on that is no white space, cursor->end at the latest. */
static inline const char *skip_space(const struct json_cursor *cursor, const char *p)
{
    if ((unsigned char)*p > ' ') {
        return p;
    }
    if (*p == ' ' && (unsigned char)p[1] > ' ') {
        return p + 1;
    }
    return json_skip_space(cursor, p);
}

/* ---- strings ---- */

static inline bool is_continuation(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

/* The bytes of one well-formed UTF-8 sequence of two or more at p; 0: it is none. */
static size_t utf8_len(const char *p)
{
    unsigned char lead = (unsigned char)p[0];
    unsigned char next = (unsigned char)p[1];
    if (lead < 0xc2 || lead > 0xf4 || !is_continuation(p[1])) {
        return 0;
    }
    if (lead < 0xe0) {
        return 2;
    }
    if (!is_continuation(p[2])) {
        return 0;
    }
    if (lead < 0xf0) { /* not overlong, no surrogate */
        return (lead == 0xe0 && next < 0xa0) || (lead == 0xed && next >= 0xa0) ? 0 : 3;
    }
    if (!is_continuation(p[3]) || (lead == 0xf0 && next < 0x90) || (lead == 0xf4 && next >= 0x90)) {
        return 0; /* overlong, or above U+10FFFF */
    }
    return 4;
}

/* -1: no hexadecimal digit. */
static inline int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits of a \u escape; -1: they are none.  Looks at no digit behind one that is wrong. */
static int hex_quad(const char *p)
{
    int code = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(p[i]);
        if (digit < 0) {
            return -1;
        }
        code = code << 4 | digit;
    }
    return code;
}

static inline bool is_high_surrogate(int code)
{
    return (code & ~0x3ff) == 0xd800;
}

static inline bool is_low_surrogate(int code)
{
    return (code & ~0x3ff) == 0xdc00;
}

/* An escape, p at its backslash. */
static const char *scan_escape(struct json_cursor *cursor, const char *p)
{
    switch (p[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return p + 2;
    case 'u':
        break;
    default:
        return reject(cursor, p, "no such escape; a backslash is written \\\\");
    }
    int code = hex_quad(p + 2);
    if (code < 0) {
        return reject(cursor, p, "\\u needs four hexadecimal digits");
    }
    if (is_low_surrogate(code)) {
        return reject(cursor, p, "half a surrogate pair; write the character itself or both halves");
    }
    if (!is_high_surrogate(code)) {
        return p + 6;
    }
    if (p[6] != '\\' || p[7] != 'u' || !is_low_surrogate(hex_quad(p + 8))) {
        return reject(cursor, p, "half a surrogate pair; write the character itself or both halves");
    }
    return p + 12;
}

/* A string, p at its quote. */
static inline const char *scan_string(struct json_cursor *cursor, const char *p, bool *has_escapes)
{
    *has_escapes = false;
    for (p = json_skip_plain(p + 1); *p != '"'; p = json_skip_plain(p)) {
        if (*p == '\\') {
            *has_escapes = true;
            p = scan_escape(cursor, p);
            if (!p) {
                return NULL;
            }
        } else if ((unsigned char)*p >= 0x80) {
            do { /* text in other scripts stays in here */
                size_t n = utf8_len(p);
                if (n == 0) {
                    return reject(cursor, p, "this is not UTF-8");
                }
                p += n;
            } while ((unsigned char)*p >= 0x80);
        } else if (p >= cursor->end) {
            return reject(cursor, p, "the string has no closing quote");
        } else {
            return reject(cursor, p, "a control character in a string; write it as an escape, like \\n");
        }
    }
    return p + 1;
}

/* Whether the inside of a string begins with what means `$`. */
static inline bool starts_with_dollar(const char *text)
{
    return *text == '$' || (*text == '\\' && memcmp(text, "\\u0024", 6) == 0);
}

/* ---- numbers ---- */

static inline bool is_digit(char c)
{
    return (unsigned char)(c - '0') <= 9;
}

static inline const char *skip_digits(const char *p)
{
#ifdef __SSE2__
    for (;; p += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i values = _mm_sub_epi8(bytes, _mm_set1_epi8('0'));
        __m128i digits = _mm_cmpeq_epi8(_mm_min_epu8(values, _mm_set1_epi8(9)), values);
        int stops = _mm_movemask_epi8(digits) ^ 0xffff;
        if (stops) {
            return p + __builtin_ctz((unsigned)stops);
        }
    }
#else
    while (is_digit(*p)) {
        p++;
    }
    return p;
#endif
}

/* A number, p at its sign or first digit. */
static inline const char *scan_number(struct json_cursor *cursor, const char *p, enum json_kind *kind)
{
    *kind = JSON_KIND_INT;
    p += *p == '-';
    if (!is_digit(*p)) {
        return reject(cursor, p, "a digit is missing");
    }
    if (*p == '0') {
        p++;
    } else {
        do { /* most ints are short */
            p++;
        } while (is_digit(*p));
    }
    if (*p == '.') {
        *kind = JSON_KIND_FLOAT;
        if (!is_digit(p[1])) {
            return reject(cursor, p + 1, "a digit is missing behind the decimal point");
        }
        p = skip_digits(p + 2);
    }
    if (*p == 'e' || *p == 'E') {
        *kind = JSON_KIND_FLOAT;
        p++;
        p += *p == '+' || *p == '-';
        if (!is_digit(*p)) {
            return reject(cursor, p, "a digit is missing in the exponent");
        }
        p = skip_digits(p);
    }
    return p;
}

/* ---- values ---- */

__attribute__((cold, noinline)) static const char *reject_value(struct json_cursor *cursor, const char *p)
{
    if (p >= cursor->end) {
        return reject(cursor, p, "the text ends where a value is expected");
    }
    if ((unsigned char)p[0] == 0xef && (unsigned char)p[1] == 0xbb) {
        return reject(cursor, p, "a byte order mark is not allowed; send plain UTF-8");
    }
    if (*p == '\0') {
        return reject(cursor, p, "a NUL byte is not allowed");
    }
    return reject(cursor, p, "a value is expected here");
}

/* Anything but an array or object; p at its first byte. */
static inline const char *scan_scalar(struct json_cursor *cursor, const char *p, enum json_kind *kind,
                                      bool *has_escapes)
{
    switch (*p) {
    case '"':
        *kind = JSON_KIND_STRING;
        return scan_string(cursor, p, has_escapes);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return scan_number(cursor, p, kind);
    case 't':
        *kind = JSON_KIND_TRUE;
        return memcmp(p, "true", 4) == 0 ? p + 4 : reject_value(cursor, p);
    case 'f':
        *kind = JSON_KIND_FALSE;
        return memcmp(p, "false", 5) == 0 ? p + 5 : reject_value(cursor, p);
    case 'n':
        *kind = JSON_KIND_NULL;
        return memcmp(p, "null", 4) == 0 ? p + 4 : reject_value(cursor, p);
    default:
        return reject_value(cursor, p);
    }
}

/* The kinds of the containers that scan_container() is in. */
#define NEST_WORDS 32
struct nest {
    uint64_t *words; /* bit d % 64 of word d / 64: level d is an object; `first`, or from malloc */
    size_t depth;    /* levels in use */
    size_t room;     /* levels that fit */
    uint64_t first[NEST_WORDS];
};

/* false: no memory. */
static bool nest_grow(struct nest *nest)
{
    size_t words = nest->room / 64;
    uint64_t *grown = malloc(words * 2 * sizeof *grown);
    if (!grown) {
        return false;
    }
    memcpy(grown, nest->words, words * sizeof *grown);
    if (nest->words != nest->first) {
        free(nest->words);
    }
    nest->words = grown;
    nest->room *= 2;
    return true;
}

static inline void nest_set(struct nest *nest, size_t level, bool object)
{
    uint64_t bit = UINT64_C(1) << (level & 63);
    uint64_t *word = &nest->words[level >> 6];
    *word = object ? *word | bit : *word & ~bit;
}

static inline bool nest_is_object(const struct nest *nest, size_t level)
{
    return nest->words[level >> 6] >> (level & 63) & 1;
}

/* The name and colon of a member, p at the quote; returns the first byte of the value. */
static inline const char *scan_name(struct json_cursor *cursor, const char *p, bool *has_escapes,
                                    const char **end)
{
    if (*p != '"') {
        return reject(cursor, p,
                      p >= cursor->end ? "the object is not closed" : "a member name in quotes is expected");
    }
    const char *name = p + 1;
    p = scan_string(cursor, p, has_escapes);
    if (!p) {
        return NULL;
    }
    *end = p - 1;
    cursor->has_dollar |= starts_with_dollar(name);
    p = skip_space(cursor, p);
    if (*p != ':') {
        return reject(cursor, p, "a colon is expected behind the member name");
    }
    return skip_space(cursor, p + 1);
}

__attribute__((cold, noinline)) static const char *reject_separator(struct json_cursor *cursor, const char *p,
                                                                    bool object)
{
    if (p >= cursor->end) {
        return reject(cursor, p, object ? "the object is not closed" : "the array is not closed");
    }
    return reject(cursor, p, object ? "`,` or `}` is expected" : "`,` or `]` is expected");
}

/* Goes down one level at the bracket p; false: no memory to remember it. */
static inline bool nest_push(struct json_cursor *cursor, struct nest *nest, const char *p, bool object)
{
    if (nest->depth == nest->room && !nest_grow(nest)) {
        reject(cursor, p, "nested deeper than there is memory for");
        cursor->error.too_deep = true;
        return false;
    }
    nest_set(nest, nest->depth++, object);
    if (cursor->depth + nest->depth > cursor->max_depth && !cursor->deep) {
        cursor->deep = p;
    }
    return true;
}

/* An array or object of any depth, p at its bracket.  At the top of the loop p is where a value starts
 * that the containers in `nest` contain. */
static const char *scan_levels(struct json_cursor *cursor, struct nest *nest, const char *p)
{
    bool has_escapes;
    enum json_kind kind;
    const char *end;
    for (;;) {
        if (*p == '{' || *p == '[') {
            bool opens_object = *p == '{';
            if (!nest_push(cursor, nest, p, opens_object)) {
                return NULL;
            }
            p = skip_space(cursor, p + 1);
            if (*p != (opens_object ? '}' : ']')) {
                if (opens_object) {
                    p = scan_name(cursor, p, &has_escapes, &end);
                    if (!p) {
                        return NULL;
                    }
                }
                continue;
            }
        } else {
            p = scan_scalar(cursor, p, &kind, &has_escapes);
            if (!p) {
                return NULL;
            }
            p = skip_space(cursor, p);
        }
        /* p is at what follows a value or an opening bracket: close whatever ends here. */
        bool object = nest_is_object(nest, nest->depth - 1);
        while (*p == (object ? '}' : ']')) {
            if (--nest->depth == 0) {
                return p + 1;
            }
            object = nest_is_object(nest, nest->depth - 1);
            p = skip_space(cursor, p + 1);
        }
        if (*p != ',') {
            return reject_separator(cursor, p, object);
        }
        p = skip_space(cursor, p + 1);
        if (object) {
            p = scan_name(cursor, p, &has_escapes, &end);
            if (!p) {
                return NULL;
            }
        }
    }
}

static const char *scan_container(struct json_cursor *cursor, const char *p)
{
    struct nest nest;
    nest.words = nest.first;
    nest.depth = 0;
    nest.room = NEST_WORDS * 64;
    p = scan_levels(cursor, &nest, p);
    if (nest.words != nest.first) {
        free(nest.words);
    }
    return p;
}

/* The value of an int of JSON's grammar. */
static inline void read_integer(struct json_value *value)
{
    if (value->len > 18) {
        value->overflow = !number_read_i64(&value->integer, value->text, value->len);
        return;
    }
    bool negative = *value->text == '-';
    int64_t sum = 0;
    for (size_t i = negative; i < value->len; i++) {
        sum = sum * 10 + (value->text[i] - '0');
    }
    value->integer = negative ? -sum : sum;
}

bool json_scan_any_value(struct json_cursor *cursor, struct json_value *value)
{
    if (json_failed(cursor)) {
        return false;
    }
    const char *start = skip_space(cursor, cursor->at), *p;
    *value = (struct json_value){.text = start};
    if (*start == '{' || *start == '[') {
        bool had_dollar = cursor->has_dollar;
        cursor->has_dollar = false;
        p = scan_container(cursor, start);
        value->kind = *start == '{' ? JSON_KIND_OBJECT : JSON_KIND_ARRAY;
        value->has_dollar = cursor->has_dollar;
        cursor->has_dollar |= had_dollar;
    } else {
        p = scan_scalar(cursor, start, &value->kind, &value->has_escapes);
    }
    if (!p) {
        return false;
    }
    cursor->at = p;
    value->len = (size_t)(p - start);
    if (value->kind == JSON_KIND_INT) {
        read_integer(value);
    }
    return true;
}

/* ---- walking ---- */

void json_cursor_within(struct json_cursor *cursor, const struct json_value *value)
{
    *cursor = (struct json_cursor){
        .at = value->text, .start = value->text, .end = value->text + value->len, .max_depth = UINT32_MAX};
}

bool json_enter_slowly(struct json_cursor *cursor)
{
    if (json_failed(cursor)) {
        return false;
    }
    cursor->at = skip_space(cursor, cursor->at);
    if (*cursor->at != '{' && *cursor->at != '[') {
        return reject_value(cursor, cursor->at);
    }
    return json_enter(cursor);
}

/* Moves to the next item of the container entered last, or leaves it: NULL then and after an error. */
static inline const char *step(struct json_cursor *cursor, bool object)
{
    if (json_failed(cursor)) {
        return NULL;
    }
    const char *p = skip_space(cursor, cursor->at);
    bool first = cursor->first;
    cursor->first = false;
    if (*p == (object ? '}' : ']')) {
        cursor->at = p + 1;
        cursor->depth--;
        return NULL;
    }
    if (first) {
        return p;
    }
    if (*p != ',') {
        return reject_separator(cursor, p, object);
    }
    return skip_space(cursor, p + 1);
}

bool json_next_member_slowly(struct json_cursor *cursor, struct json_string *name)
{
    const char *p = step(cursor, true);
    const char *end = NULL;
    bool has_escapes = false;
    const char *value = p ? scan_name(cursor, p, &has_escapes, &end) : NULL;
    if (!value) {
        return false;
    }
    *name = (struct json_string){p + 1, (size_t)(end - p - 1), has_escapes};
    cursor->at = value;
    return true;
}

bool json_next_item_slowly(struct json_cursor *cursor)
{
    const char *p = step(cursor, false);
    if (!p) {
        return false;
    }
    cursor->at = p;
    return true;
}

bool json_finish_slowly(struct json_cursor *cursor)
{
    if (json_failed(cursor)) {
        return false;
    }
    const char *p = skip_space(cursor, cursor->at);
    if (p < cursor->end) {
        return reject(cursor, p, "one JSON text is complete, and more follows it");
    }
    if (cursor->deep) {
        reject(cursor, cursor->deep, "nested too deep");
        cursor->error.too_deep = true;
        return false;
    }
    return true;
}

bool json_scan(const char *text, size_t len, unsigned max_depth, struct json_value *value,
               struct json_error *error)
{
    struct json_cursor cursor;
    json_cursor_init(&cursor, text, len, max_depth);
    bool good = json_scan_value(&cursor, value) && json_finish(&cursor);
    *error = cursor.error;
    return good;
}

/* ---- what a string means ---- */

/* The UTF-8 of a code point; returns its length. */
static size_t write_utf8(char *dst, int code)
{
    if (code < 0x80) {
        dst[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        dst[0] = (char)(0xc0 | code >> 6);
        dst[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        dst[0] = (char)(0xe0 | code >> 12);
        dst[1] = (char)(0x80 | (code >> 6 & 0x3f));
        dst[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    dst[0] = (char)(0xf0 | code >> 18);
    dst[1] = (char)(0x80 | (code >> 12 & 0x3f));
    dst[2] = (char)(0x80 | (code >> 6 & 0x3f));
    dst[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* Writes what the escape at *p means (at most 4 bytes) and moves *p behind it; returns how many bytes. */
static size_t read_escape(char *dst, const char **p)
{
    static const char meanings[] = "b\bf\fn\nr\rt\t";
    char letter = (*p)[1];
    if (letter != 'u') {
        const char *found = strchr(meanings, letter); /* quote, backslash and slash mean themselves */
        dst[0] = found ? found[1] : letter;
        *p += 2;
        return 1;
    }
    int code = hex_quad(*p + 2);
    *p += 6;
    if (is_high_surrogate(code)) {
        code = 0x10000 + ((code & 0x3ff) << 10 | (hex_quad(*p + 2) & 0x3ff));
        *p += 6;
    }
    return write_utf8(dst, code);
}

size_t json_unescape(char *dst, const struct json_string *string)
{
    const char *p = string->text;
    const char *end = p + string->len;
    char *start = dst;
    for (;;) {
        const char *backslash = memchr(p, '\\', (size_t)(end - p));
        size_t run = (size_t)((backslash ? backslash : end) - p);
        memmove(dst, p, run);
        dst += run;
        if (!backslash) {
            return (size_t)(dst - start);
        }
        p = backslash;
        dst += read_escape(dst, &p);
    }
}

bool json_string_equals(const struct json_string *string, const char *word, size_t len)
{
    if (!string->has_escapes) {
        return string->len == len && memcmp(string->text, word, len) == 0;
    }
    const char *p = string->text;
    const char *end = p + string->len;
    size_t seen = 0; /* what was read so far means word[0..seen) */
    while (p < end) {
        char meaning[4];
        size_t n = 1;
        if (*p == '\\') {
            n = read_escape(meaning, &p);
        } else {
            meaning[0] = *p++;
        }
        if (n > len - seen || memcmp(word + seen, meaning, n) != 0) {
            return false;
        }
        seen += n;
    }
    return seen == len;
}
