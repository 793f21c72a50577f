/* method.c -- finding a method by its name, or the ones nearest to a name that is none.
 *
 * The index is a hash table of the table's row numbers with room to spare, so a name is found with one
 * comparison nearly always: of its ends, which are all there is of most.  method_table.c is the table.
 */
#include "method.h"

static struct method_ends ends_of(const char *name, size_t len)
{
    struct method_ends ends = {0, 0};
    if (len >= sizeof(ends.first)) {
        memcpy(&ends.first, name, sizeof(ends.first));
        memcpy(&ends.last, name + len - sizeof(ends.last), sizeof(ends.last));
    } else {
        for (size_t i = 0; i < len; i++) {
            ends.first = ends.first << 8 | (unsigned char)name[i];
        }
    }
    return ends;
}

/* The ends and the length tell the methods apart. */
static uint32_t hash_name(struct method_ends ends, size_t len)
{
    return (uint32_t)(((ends.first ^ ends.last * 31 ^ len) * UINT64_C(0x9e3779b97f4a7c15)) >> 56) % METHOD_INDEX_SIZE;
}

void method_index_init(struct method_index *index)
{
    memset(index, 0, sizeof(*index));
    for (unsigned i = 0; i < METHOD_COUNT; i++) {
        size_t len = strlen(METHODS[i].name);
        struct method_ends ends = ends_of(METHODS[i].name, len);
        uint32_t slot = hash_name(ends, len);
        while (index->slots[slot].number != 0) {
            slot = (slot + 1) % METHOD_INDEX_SIZE;
        }
        index->slots[slot].ends = ends;
        index->slots[slot].number = (uint8_t)(i + 1);
        index->slots[slot].name_len = (uint8_t)len;
    }
}

const struct method *method_find(const struct method_index *index, const char *name, size_t len)
{
    struct method_ends ends = ends_of(name, len);
    uint32_t slot = hash_name(ends, len);
    for (; index->slots[slot].number != 0; slot = (slot + 1) % METHOD_INDEX_SIZE) {
        const struct method_ends *known = &index->slots[slot].ends;
        if (index->slots[slot].name_len != len || known->first != ends.first || known->last != ends.last) {
            continue;
        }
        const struct method *method = &METHODS[index->slots[slot].number - 1];
        if (len <= sizeof(ends) || memcmp(method->name, name, len) == 0) {
            return method;
        }
    }
    return NULL;
}

const char *method_role_word(enum method_role role)
{
    static const char *const WORDS[] = {
        [ROLE_ANY] = "any", [ROLE_READ] = "read", [ROLE_WRITE] = "write", [ROLE_ADMIN] = "admin"};
    return WORDS[role];
}

bool method_changes(const struct method *method, const method_arg *args)
{
    bool changes = method->role == ROLE_WRITE;
    for (unsigned i = 0; i < method->param_count; i++) {
        const struct param *param = &method->params[i];
        bool fallback = param->fallback != NULL && strcmp(param->fallback, "true") == 0;
        changes |= param->changes && arg_bool(&args[i], fallback);
    }
    return changes;
}

bool method_is_kept(const struct method *method)
{
    return method->lasts == LASTS || method->lasts == LASTS_IF_SEEN;
}

const char *method_kind_word(enum param_kind kind)
{
    static const char *const WORDS[] = {
        [PARAM_TARGET] = "target", [PARAM_VALUE] = "value",   [PARAM_KEY] = "key",   [PARAM_STR] = "str",
        [PARAM_INT] = "int",       [PARAM_BOOL] = "bool",     [PARAM_ENUM] = "enum", [PARAM_WORDS] = "list",
        [PARAM_OBJECT] = "object", [PARAM_SECONDS] = "seconds"};
    return WORDS[kind];
}

/* ---- nearest ---- */

/* Names longer than this are near to nothing. */
#define NEAR_BYTES_MAX 40u
#define NEAREST_MAX 3u

/* How many characters must be inserted, deleted, replaced or swapped with a neighbour to get from a to b. */
static unsigned edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    unsigned rows[3][NEAR_BYTES_MAX + 1];
    unsigned *before = rows[0], *above = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b_len; j++) {
        above[j] = (unsigned)j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best) {
                best = before[j - 2] + 1;
            }
            row[j] = best;
        }
        unsigned *oldest = before;
        before = above;
        above = row;
        row = oldest;
    }
    return above[b_len];
}

/* Whether `name` is the last part of the method's name: "append" of "list.append". */
static bool is_last_part(const struct method *method, const char *name, size_t len)
{
    const char *dot = strrchr(method->name, '.');
    return dot != NULL && strlen(dot + 1) == len && memcmp(dot + 1, name, len) == 0;
}

/* How far the name is from the method's; above NEAR_BYTES_MAX: too far to be meant. */
static unsigned distance_to(const struct method *method, const char *name, size_t len)
{
    size_t method_len = strlen(method->name);
    if (len == 0 || len > NEAR_BYTES_MAX) {
        return NEAR_BYTES_MAX + 1;
    }
    if (is_last_part(method, name, len)) {
        return 0;
    }
    unsigned distance = edit_distance(name, len, method->name, method_len);
    unsigned allowed = method_len < 6 ? 1 : method_len < 12 ? 3 : 4;
    return distance <= allowed ? distance : NEAR_BYTES_MAX + 1;
}

void method_nearest(struct out *out, const char *name, size_t len)
{
    const struct method *nearest[NEAREST_MAX];
    unsigned distances[NEAREST_MAX], count = 0;
    for (unsigned i = 0; i < METHOD_COUNT; i++) {
        unsigned distance = distance_to(&METHODS[i], name, len);
        if (distance > NEAR_BYTES_MAX || (count == NEAREST_MAX && distance >= distances[count - 1])) {
            continue;
        }
        unsigned at = count < NEAREST_MAX ? count++ : count - 1;
        for (; at > 0 && distances[at - 1] > distance; at--) {
            nearest[at] = nearest[at - 1];
            distances[at] = distances[at - 1];
        }
        nearest[at] = &METHODS[i];
        distances[at] = distance;
    }
    out_char(out, '[');
    for (unsigned i = 0; i < count; i++) {
        if (i > 0) {
            out_char(out, ',');
        }
        out_json_string(out, nearest[i]->name, strlen(nearest[i]->name));
    }
    out_char(out, ']');
}
