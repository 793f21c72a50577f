/* json_reader.h -- one pass over a JSON text, without a document tree.
 *
 * A cursor walks a text and validates as it goes (RFC 8259, strict).  Whoever knows the outer shape
 * (rpc.c: the envelope and params) enters the outer objects itself and lets json_scan_value() jump over
 * each member's value, which says where the value lies and what it is:
 *
 *   struct json_cursor c;
 *   json_cursor_init(&c, line, len, max_depth);
 *   if (json_peek(&c) == '{' && json_enter(&c)) {
 *       while (json_next_member(&c, &name)) {
 *           if (!json_scan_value(&c, &value)) { break; }
 *           ... remember the span ...
 *       }
 *   }
 *   if (!json_finish(&c)) { ... c.error ... }
 *
 * After a syntax error every function returns false and does nothing; json_finish() tells.  Nesting
 * beyond the limit is no syntax error: the walk goes on, so that a text that is malformed as well is
 * called malformed, and json_finish() reports it at the end.
 *
 * The same functions walk a span that was validated before: json_cursor_within().
 * Start reading at json_scan_value().
 */
#ifndef HEAPD_PROTOCOL_JSON_READER_H
#define HEAPD_PROTOCOL_JSON_READER_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Bytes that must be readable (their content does not matter) behind the byte that ends a text. */
#define JSON_PADDING_BYTES 64

struct json_error {
    size_t offset;       /* of the byte that is wrong, from 0 */
    const char *message; /* static, what is wrong there; NULL: no error */
    bool too_deep;       /* a JSON text, but nested deeper than allowed; offset is that of the bracket */
};

/* JSON_KIND_INT is a number without fraction and exponent.  (JSON_NULL and its like are jansson's.) */
enum json_kind {
    JSON_KIND_NULL,
    JSON_KIND_FALSE,
    JSON_KIND_TRUE,
    JSON_KIND_INT,
    JSON_KIND_FLOAT,
    JSON_KIND_STRING,
    JSON_KIND_ARRAY,
    JSON_KIND_OBJECT
};

/* Where a value lies and what it is.  Valid while the text is. */
struct json_value {
    const char *text; /* its first byte: the quote, the bracket, the first digit or sign */
    size_t len;       /* bytes, quotes and brackets included */
    int64_t integer;  /* of a JSON_KIND_INT that does not overflow; else 0 */
    enum json_kind kind;
    bool overflow;    /* a JSON_KIND_INT outside 64 bits */
    bool has_escapes; /* a JSON_KIND_STRING with a backslash */
    bool has_dollar;  /* in an array or object: somewhere a member's name starts with `$` */
};

/* The inside of a string: what stands between the quotes. */
struct json_string {
    const char *text;
    size_t len;
    bool has_escapes; /* text is not yet what it means: json_unescape() */
};

struct json_cursor {
    const char *at;          /* the next byte to read */
    const char *end;         /* one behind the text */
    const char *start;       /* of the text, for offsets */
    unsigned depth;          /* containers entered and not left */
    unsigned max_depth;      /* deepest nesting allowed */
    bool first;              /* nothing was read yet in the container entered last */
    bool has_dollar;         /* a name that json_next_member() or json_scan_value() passed starts with `$` */
    const char *deep;        /* the first bracket nested deeper than max_depth; NULL: none so far */
    struct json_error error; /* message NULL: none so far */
};

/* ---- walking ---- */

/* text[len] must be a control character (the newline that ended the line, or a NUL), with
 * JSON_PADDING_BYTES readable bytes behind it. */
static inline void json_cursor_init(struct json_cursor *cursor, const char *text, size_t len, unsigned max_depth)
{
    assert((unsigned char)text[len] < 0x20);
    *cursor = (struct json_cursor){.at = text, .start = text, .end = text + len, .max_depth = max_depth};
}
/* For a span that json_scan_value() gave: no error is possible, nothing needs to stand behind it. */
void json_cursor_within(struct json_cursor *cursor, const struct json_value *value);

/* An error was found and the walk is over. */
static inline bool json_failed(const struct json_cursor *cursor)
{
    return cursor->error.message != NULL;
}

/* The first byte from p on that is no white space, the end of the text at the latest. */
const char *json_skip_space(const struct json_cursor *cursor, const char *p);
/* Skips white space; the next byte, or 0 at the end of the text or after an error. */
static inline char json_peek(struct json_cursor *cursor)
{
    if ((unsigned char)*cursor->at <= ' ') {
        cursor->at = json_skip_space(cursor, cursor->at);
    }
    return cursor->at < cursor->end ? *cursor->at : '\0';
}
/* json_enter() where white space or an error may come first. */
bool json_enter_slowly(struct json_cursor *cursor);
/* Goes into the array or object whose bracket json_peek() has shown. */
static inline bool json_enter(struct json_cursor *cursor)
{
    if (*cursor->at != '{' && *cursor->at != '[') {
        return json_enter_slowly(cursor);
    }
    if (++cursor->depth > cursor->max_depth && cursor->deep == NULL) {
        cursor->deep = cursor->at;
    }
    cursor->at++;
    cursor->first = true;
    return true;
}
/* Whether the bracket that closes the container entered last stands right here; then it is left. */
static inline bool json_take_end(struct json_cursor *cursor, char bracket)
{
    if (*cursor->at != bracket) {
        return false;
    }
    cursor->at++;
    cursor->depth--;
    cursor->first = false;
    return true;
}
/* In an object: reads the next member's name and colon; its value must be read or entered next.
 * false: the object has ended (and is left), or an error. */
bool json_next_member_slowly(struct json_cursor *cursor, struct json_string *name);
static inline bool json_next_member(struct json_cursor *cursor, struct json_string *name)
{
    return !json_take_end(cursor, '}') && json_next_member_slowly(cursor, name);
}
/* In an object: whether the next member's name and colon are exactly this text, written the usual way; then they are
 * read.  A guess that costs next to nothing: else nothing has happened, and json_next_member() says what is
 * there. */
static inline bool json_take_member_text(struct json_cursor *cursor, const char *text, size_t len)
{
    const char *p = cursor->at;
    if (!cursor->first && *p++ != ',') {
        return false;
    }
    if (memcmp(p, text, len) != 0) {
        return false;
    }
    cursor->first = false;
    cursor->at = p + len;
    return true;
}
/* The same with a constant of at most 29 plain characters, none of them `$`. */
#define json_take_member(cursor, name) json_take_member_text((cursor), "\"" name "\":", sizeof(name) + 2)
/* The same with a text of 16 bytes, zeros behind `"name":`. */
#define JSON_MEMBER_BYTES 16
static inline bool json_take_member_padded(struct json_cursor *cursor, const char member[JSON_MEMBER_BYTES])
{
    const char *p = cursor->at;
    if (!cursor->first && *p++ != ',') {
        return false;
    }
#ifdef __SSE2__
    __m128i wanted = _mm_loadu_si128((const __m128i *)(const void *)member);
    __m128i padding = _mm_cmpeq_epi8(wanted, _mm_setzero_si128());
    __m128i same = _mm_cmpeq_epi8(wanted, _mm_loadu_si128((const __m128i *)(const void *)p));
    if (_mm_movemask_epi8(_mm_or_si128(padding, same)) != 0xffff) {
        return false;
    }
    size_t len = (size_t)__builtin_ctz((unsigned)_mm_movemask_epi8(padding) | 1u << JSON_MEMBER_BYTES);
#else
    size_t len = strnlen(member, JSON_MEMBER_BYTES);
    if (memcmp(p, member, len) != 0) {
        return false;
    }
#endif
    cursor->first = false;
    cursor->at = p + len;
    return true;
}
/* Whether the next value is exactly this constant scalar, without white space before it; then it is read. */
#define json_take_value(cursor, text)                                                                          \
    (memcmp((cursor)->at, "" text, sizeof(text) - 1) == 0 && ((cursor)->at += sizeof(text) - 1, true))
/* In an array: true when an item follows, which must be read or entered next.
 * false: the array has ended (and is left), or an error. */
bool json_next_item_slowly(struct json_cursor *cursor);
static inline bool json_next_item(struct json_cursor *cursor)
{
    const char *p = cursor->at;
    if (*p == ',' && !cursor->first && (unsigned char)p[1] > ' ') {
        cursor->at = p + 1;
        return true;
    }
    return !json_take_end(cursor, ']') && json_next_item_slowly(cursor);
}
/* The first byte from p on that a string does not simply contain: a quote, a backslash, a control
 * character, or a byte over 0x7f. */
static inline const char *json_skip_plain(const char *p)
{
#ifdef __SSE2__
    for (;; p += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
        /* As signed bytes, everything over 0x7f is below 0x20 too. */
        __m128i outside = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20));
        __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
        __m128i backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
        int stops = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), outside));
        if (stops) {
            return p + __builtin_ctz((unsigned)stops);
        }
    }
#else
    while ((unsigned char)*p - 0x20u < 0x60 && *p != '"' && *p != '\\') {
        p++;
    }
    return p;
#endif
}

bool json_scan_any_value(struct json_cursor *cursor, struct json_value *value);
/* Validates the one value, of any size, that follows, and leaves the cursor behind it.  Common scalars right at the
 * cursor are read here: plain strings of ASCII, whole numbers from 1 on of at most 18 digits.  After an error the
 * cursor is at a control character, so at none of them.  The cursor is written last: then the compiler knows where it
 * is, and what is read next need not wait for memory. */
static inline bool json_scan_value(struct json_cursor *cursor, struct json_value *value)
{
    const char *start = cursor->at, *p = start;
    int64_t sum = 0;
    enum json_kind kind = JSON_KIND_STRING;
    if (*p == '"') {
        p = json_skip_plain(p + 1);
        if (*p++ != '"') {
            return json_scan_any_value(cursor, value);
        }
    } else {
        while ((unsigned char)(*p - '0') <= 9 && p - start < 18) {
            sum = sum * 10 + (*p++ - '0');
        }
        if (*start == '0' || p == start || (unsigned char)(*p - '0') <= 9 || *p == '.' || (*p | 0x20) == 'e') {
            return json_scan_any_value(cursor, value);
        }
        kind = JSON_KIND_INT;
    }
    *value = (struct json_value){.text = start, .len = (size_t)(p - start), .integer = sum, .kind = kind};
    cursor->at = p;
    return true;
}
/* After the outermost value: only white space may be left.  Returns whether the text is one JSON text
 * within the limits; else cursor->error says what is wrong first (a syntax error before too_deep). */
bool json_finish_slowly(struct json_cursor *cursor);
static inline bool json_finish(struct json_cursor *cursor)
{
    bool is_plain = cursor->at == cursor->end && !json_failed(cursor) && cursor->deep == NULL;
    return is_plain || json_finish_slowly(cursor);
}

/* ---- whole texts ---- */

/* Whether the bytes are exactly one JSON text nested at most max_depth deep, white space around it
 * allowed; text[len] as for json_cursor_init().  `value` is the text's value. */
bool json_scan(const char *text, size_t len, unsigned max_depth, struct json_value *value,
               struct json_error *error);

/* ---- strings ---- */

/* The inside of a JSON_KIND_STRING. */
static inline struct json_string json_string_of(const struct json_value *value)
{
    return (struct json_string){value->text + 1, value->len - 2, value->has_escapes};
}

/* What the inside of a validated string means, in UTF-8, into `dst`, which has room for string->len
 * bytes.  Returns its length. */
size_t json_unescape(char *dst, const struct json_string *string);

/* Whether the string means exactly `word`. */
bool json_string_equals(const struct json_string *string, const char *word, size_t len);

/* json_string_equals() with a string constant. */
#define json_string_is(string, constant) json_string_equals((string), "" constant, sizeof(constant) - 1)

#endif
