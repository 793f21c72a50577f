/* match.h -- compares a reply line with what a test expects of it.
 *
 * The expectation is a JSON text in which a value may also be a placeholder:
 *
 *   <any>  <int>  <float>  <str>  <bool>  <list>  <object>   any value, or any of that kind
 *   <id:NAME>             an integer: the first one met is bound to NAME, later ones must be equal to it;
 *                         different names stand for different integers
 *   <min N>               an integer that is at least N
 *   <error WORD>          an error object: the code of WORD (PROTOCOL section 9), a message, data.error
 *   <error WORD|WORD>     the same, one of these words: where the contract leaves the choice
 *   <error WORD {..}>     the same, and data has at least these members
 *   <has {..}>            an object with at least these members
 *   <ordered V>           V, with the members of its objects in this order
 *   <unordered [..]>      a list with these elements in any order
 *
 * Numbers are compared as they are written, strings after unescaping, members of objects in any order.
 * In the envelope (the text itself, or the elements of a batch) members come in the order expected and
 * the id is compared byte for byte.  Replies are read strictly: what is no JSON text does not match.
 * Start at match_reply().
 */
#ifndef HEAPD_TESTS_MATCH_H
#define HEAPD_TESTS_MATCH_H

#include <stdbool.h>
#include <stddef.h>

#define MATCH_BINDINGS_MAX 64
#define MATCH_NAME_BYTES 24
#define MATCH_WHY_BYTES 512

/* What the <id:NAME> placeholders of one conversation stand for. */
struct match_bindings {
    size_t count;
    struct {
        char name[MATCH_NAME_BYTES];
        char digits[MATCH_NAME_BYTES]; /* the integer as it was written */
    } at[MATCH_BINDINGS_MAX];
};

/* Whether `reply` is as expected.  If not, `why` (MATCH_WHY_BYTES) says where they differ. */
bool match_reply(struct match_bindings *bindings, const char *expected, size_t expected_len,
                 const char *reply, size_t reply_len, char *why);

/* Whether the bytes are one JSON text (of any depth). */
bool match_is_json(const char *text, size_t len);

/* The integer bound to a name, or NULL. */
const char *match_bound(const struct match_bindings *bindings, const char *name);

/* `text` with each <id:NAME> replaced by its integer, malloc'ed, NUL at its end; NULL if one is not bound. */
char *match_substitute(const struct match_bindings *bindings, const char *text, size_t len, size_t *out_len);

#endif
