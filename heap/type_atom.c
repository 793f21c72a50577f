/* type_atom.c -- None, bool, int, float, str, bytes, and the immortals among them.
 *
 *   number   [ header 8 | value 8 ]
 *   text     [ header 8 | hash 4 | len 4 | bytes .. ]   str, bytes
 *   text     [ header 8 | hash 4 | len 4 | pointer ]    a str whose bytes do not fit a block
 *   bytes    [ header 8 | length and pointer ]          a bytes of which the same is true
 *   bigint   [ header 8 | limbs .. ]                    ints beyond 64 bits
 *   bigint   [ header 8 | pointer ]                     when the limbs do not fit a block
 *
 * Layer +3: None, the bools, ints -5..256, "" and the Latin-1 characters, b"" and the single bytes exist
 * once and for ever; intern.c has one str a text for the keys of plain JSON objects.
 */
#include "heap_internal.h"

/* ---- hashing text ---- */

static uint64_t fold_multiply(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t load64(const char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* The last 0..8 bytes as one word. */
static uint64_t load_tail(const char *p, size_t n)
{
    uint64_t word = 0;
    memcpy(&word, p, n);
    return word;
}

/* hash_bytes -- keyed with the heap's random seed, so that clients cannot choose keys that collide.
 * Multiply-and-fold over 16 bytes a round, as in Wang Yi's wyhash. */
uint64_t hash_bytes(const struct heap *heap, const void *bytes, size_t len)
{
    const char *p = bytes;
    uint64_t k0 = heap->hash_seed[0], k1 = heap->hash_seed[1];
    uint64_t state = k0 ^ len * 0x9E3779B97F4A7C15u;
    while (len > 16) {
        state = fold_multiply(load64(p) ^ k1, load64(p + 8) ^ state);
        p += 16;
        len -= 16;
    }
    uint64_t low = len >= 8 ? load64(p) : load_tail(p, len);
    uint64_t high = len > 8 ? load_tail(p + 8, len - 8) : 0;
    return fold_multiply(fold_multiply(low ^ k1, high ^ state), k0 | 1);
}

uint32_t text_hash_short(uint64_t hash)
{
    uint32_t shorter = (uint32_t)(hash >> 32);
    return shorter != 0 ? shorter : 1;
}

uint32_t text_hash(struct heap *heap, struct text *t)
{
    if (text_is_long_bytes(t)) {
        return text_hash_short(hash_bytes(heap, text_bytes(t), text_len(t)));
    }
    if (t->hash == 0) {
        t->hash = text_hash_short(hash_bytes(heap, text_bytes(t), t->len));
    }
    return t->hash;
}

/* ---- making atoms ---- */

static struct text *text_create(struct heap *heap, enum heap_type type, const void *bytes, size_t len)
{
    if (len <= TEXT_INLINE_MAX) {
        struct text *t = (struct text *)object_atom_create(heap, type, TEXT_HEAD_BYTES + (uint32_t)len);
        if (t != NULL) {
            t->hash = 0;
            t->len = (uint32_t)len;
            memcpy(t->u.bytes, bytes, len);
        }
        return t;
    }
    char *elsewhere = object_buffer_alloc(heap, type, len);
    if (elsewhere == NULL) {
        return NULL;
    }
    size_t block_bytes = type == HEAP_T_BYTES ? sizeof(struct long_bytes) : sizeof(struct text);
    struct text *t = (struct text *)object_atom_create(heap, type, (uint32_t)block_bytes);
    if (t == NULL) {
        object_buffer_free(heap, type, elsewhere, len);
        return NULL;
    }
    memcpy(elsewhere, bytes, len);
    t->head.flags = FLAG_OUT_OF_LINE;
    if (type == HEAP_T_BYTES) {
        HEAP_ASSERT((uintptr_t)elsewhere >> LONG_BYTES_ADDRESS_BITS == 0);
        t->head.n = (uint16_t)len;
        ((struct long_bytes *)(void *)t)->place =
            (uint64_t)(len >> 16) << LONG_BYTES_ADDRESS_BITS | (uintptr_t)elsewhere;
    } else {
        t->hash = 0;
        t->len = (uint32_t)len;
        t->u.elsewhere = elsewhere;
    }
    return t;
}

/* *limbs: where to put them. */
static struct bigint *bigint_create(uint32_t **limbs, struct heap *heap, uint32_t count)
{
    struct bigint *b;
    if (count <= BIGINT_INSIDE_MAX) {
        b = (struct bigint *)object_atom_create(heap, HEAP_T_INT, (uint32_t)sizeof b->head + 4 * count);
        if (b != NULL) {
            *limbs = b->u.limbs;
        }
    } else {
        uint32_t *elsewhere = object_buffer_alloc(heap, HEAP_T_INT, 4 * (size_t)count);
        if (elsewhere == NULL) {
            return NULL;
        }
        b = (struct bigint *)object_atom_create(heap, HEAP_T_INT, sizeof *b);
        if (b == NULL) {
            object_buffer_free(heap, HEAP_T_INT, elsewhere, 4 * (size_t)count);
            return NULL;
        }
        b->head.flags = FLAG_OUT_OF_LINE;
        b->u.elsewhere = *limbs = elsewhere;
    }
    if (b != NULL) {
        b->head.flags |= FLAG_BIG;
        b->head.n = (uint16_t)count;
    }
    return b;
}

size_t atom_payload_bytes(const struct object *o)
{
    if (!(o->flags & FLAG_OUT_OF_LINE)) {
        return 0;
    }
    return o->type == HEAP_T_INT ? 4 * (size_t)o->n : text_len((const struct text *)o);
}

void atom_free_payload_only(struct heap *heap, struct object *o)
{
    if (o->flags & FLAG_OUT_OF_LINE) {
        const void *payload = o->type == HEAP_T_INT ? (const void *)bigint_limbs((struct bigint *)o)
                                                    : (const void *)text_bytes((struct text *)o);
        object_buffer_free(heap, (enum heap_type)o->type, (void *)(uintptr_t)payload, atom_payload_bytes(o));
    }
}

/* What an atom has besides its block: its payload and its place in the interned table. */
void atom_free_payload(struct heap *heap, struct object *o)
{
    if (o->flags & FLAG_INTERNED) {
        intern_remove(heap, (struct text *)o);
    }
    atom_free_payload_only(heap, o);
}

static enum heap_error number_create(heap_ref *obj, struct heap *heap, enum heap_type type, struct number value)
{
    struct number *number = (struct number *)object_atom_create(heap, type, sizeof *number);
    if (unlikely(number == NULL)) {
        return HEAP_MEMORY;
    }
    number->value = value.value;
    *obj = object_ref(heap, number);
    return HEAP_OK;
}

enum heap_error heap_int_create(heap_ref *obj, struct heap *heap, int64_t value)
{
    GIL_ASSERT_HELD(heap);
    if (value >= SMALL_INT_MIN && value <= SMALL_INT_MAX) {
        *obj = heap->small_ints[value - SMALL_INT_MIN];
        return HEAP_OK;
    }
    return number_create(obj, heap, HEAP_T_INT, (struct number){.value.i = value});
}

/* An int beyond 64 bits from its digits, sign stripped. */
static enum heap_error big_create(heap_ref *obj, struct heap *heap, const char *digits, size_t len, bool negative)
{
    uint32_t limbs[BIGINT_LIMBS_MAX], used;
    bigint_from_digits(limbs, &used, digits, len);
    if (used <= 2) { /* it may fit after all, leading zeros and all */
        uint64_t magnitude = (used > 0 ? limbs[0] : 0) | (uint64_t)(used > 1 ? limbs[1] : 0) << 32;
        if (magnitude <= INT64_MAX || (negative && magnitude == (uint64_t)INT64_MAX + 1)) {
            return heap_int_create(obj, heap, (int64_t)(negative ? -magnitude : magnitude));
        }
    }
    uint32_t *place;
    struct bigint *b = bigint_create(&place, heap, used);
    if (b == NULL) {
        return HEAP_MEMORY;
    }
    memcpy(place, limbs, used * sizeof *limbs);
    b->head.flags |= negative ? FLAG_NEGATIVE : 0;
    *obj = object_ref(heap, b);
    return HEAP_OK;
}

enum heap_error heap_int_parse(heap_ref *obj, struct heap *heap, const char *digits, size_t len)
{
    GIL_ASSERT_HELD(heap);
    bool negative = len > 0 && digits[0] == '-';
    digits += negative;
    len -= negative;
    if (len < 1 || len > 4300) {
        return HEAP_BAD_INT;
    }
    for (size_t i = 0; i < len; i++) {
        if (digits[i] < '0' || digits[i] > '9') {
            return HEAP_BAD_INT;
        }
    }
    return big_create(obj, heap, digits, len, negative);
}

enum heap_error heap_float_create(heap_ref *obj, struct heap *heap, double value)
{
    GIL_ASSERT_HELD(heap);
    return number_create(obj, heap, HEAP_T_FLOAT, (struct number){.value.f = value});
}

uint32_t str_shared(const struct heap *heap, const char *text, size_t len)
{
    if (len == 0) {
        return heap->empty_str;
    }
    if (len == 1) {
        return heap->latin1[(unsigned char)text[0]];
    }
    if (len == 2 && ((unsigned char)text[0] & 0xFCu) == 0xC0) {
        return heap->latin1[((unsigned char)text[0] & 3u) << 6 | ((unsigned char)text[1] & 0x3Fu)];
    }
    return 0;
}

enum heap_error str_create(heap_ref *obj, struct heap *heap, const char *text, size_t len)
{
    if (len > UINT32_MAX) {
        return HEAP_TOO_LONG;
    }
    struct text *t = text_create(heap, HEAP_T_STR, text, len);
    if (t == NULL) {
        return HEAP_MEMORY;
    }
    *obj = object_ref(heap, t);
    return HEAP_OK;
}

enum heap_error heap_str_create(heap_ref *obj, struct heap *heap, const char *text, size_t len)
{
    GIL_ASSERT_HELD(heap);
    uint32_t shared = len <= 2 ? str_shared(heap, text, len) : 0;
    if (shared != 0) {
        *obj = shared;
        return HEAP_OK;
    }
    return str_create(obj, heap, text, len);
}

enum heap_error heap_bytes_create(heap_ref *obj, struct heap *heap, const void *bytes, size_t len)
{
    GIL_ASSERT_HELD(heap);
    if (len > UINT32_MAX) {
        return HEAP_TOO_LONG;
    }
    if (len <= 1) {
        *obj = len == 0 ? heap->empty_bytes : heap->byte1[*(const unsigned char *)bytes];
        return HEAP_OK;
    }
    struct text *t = text_create(heap, HEAP_T_BYTES, bytes, len);
    if (t == NULL) {
        return HEAP_MEMORY;
    }
    *obj = object_ref(heap, t);
    return HEAP_OK;
}

/* ---- immortals ---- */

/* Makes a fresh object immortal and stores it.  0 is no object: no memory. */
static bool keep(struct heap *heap, uint32_t *place, enum heap_error error, heap_ref made)
{
    if (error != HEAP_OK) {
        return false;
    }
    object_at(heap, made)->refcount = REFCOUNT_IMMORTAL;
    *place = made;
    return true;
}

static bool keep_text(struct heap *heap, uint32_t *place, enum heap_type type, const char *bytes, size_t len)
{
    struct text *t = text_create(heap, type, bytes, len);
    return keep(heap, place, t != NULL ? HEAP_OK : HEAP_MEMORY, t != NULL ? object_ref(heap, t) : 0);
}

static bool keep_number(struct heap *heap, uint32_t *place, enum heap_type type, int64_t value)
{
    heap_ref made = 0;
    enum heap_error error = number_create(&made, heap, type, (struct number){.value.i = value});
    return keep(heap, place, error, made);
}

bool atoms_create_immortals(struct heap *heap)
{
    bool ok = keep_number(heap, &heap->none, HEAP_T_NONE, 0) && keep_number(heap, &heap->truth[0], HEAP_T_BOOL, 0) &&
              keep_number(heap, &heap->truth[1], HEAP_T_BOOL, 1) &&
              keep_text(heap, &heap->empty_str, HEAP_T_STR, "", 0) &&
              keep_text(heap, &heap->empty_bytes, HEAP_T_BYTES, "", 0);
    for (int64_t i = 0; ok && i < SMALL_INTS; i++) {
        ok = keep_number(heap, &heap->small_ints[i], HEAP_T_INT, i + SMALL_INT_MIN);
    }
    for (unsigned c = 0; ok && c < 256; c++) {
        char utf8[2] = {(char)(c < 128 ? c : 0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))};
        char byte = (char)c;
        ok = keep_text(heap, &heap->latin1[c], HEAP_T_STR, utf8, c < 128 ? 1 : 2) &&
             keep_text(heap, &heap->byte1[c], HEAP_T_BYTES, &byte, 1);
    }
    if (ok) {
        struct container *empty = object_stub_create(heap, HEAP_T_TUPLE, sizeof(struct tuple));
        ok = keep(heap, &heap->empty_tuple, empty != NULL ? HEAP_OK : HEAP_MEMORY,
                  empty != NULL ? object_ref(heap, empty) : 0);
    }
    return ok;
}

heap_ref heap_none(const struct heap *heap)
{
    return heap->none;
}

heap_ref heap_bool(const struct heap *heap, bool value)
{
    return heap->truth[value];
}

heap_ref heap_empty_tuple(const struct heap *heap)
{
    return heap->empty_tuple;
}

/* ---- reading atoms ---- */

bool heap_bool_value(const struct heap *heap, heap_ref obj)
{
    return ((const struct number *)object_at(heap, obj))->value.i != 0;
}

bool heap_int_value(int64_t *value, const struct heap *heap, heap_ref obj)
{
    const struct number *number = (const struct number *)object_at(heap, obj);
    HEAP_ASSERT(number->head.type == HEAP_T_INT);
    if (number->head.flags & FLAG_BIG) {
        return false;
    }
    *value = number->value.i;
    return true;
}

size_t heap_int_digits(const struct heap *heap, heap_ref obj, char *buf)
{
    int64_t value;
    if (heap_int_value(&value, heap, obj)) {
        return (size_t)snprintf(buf, HEAP_INT_DIGITS_MAX, "%lld", (long long)value);
    }
    const struct bigint *b = (const struct bigint *)object_at(heap, obj);
    uint32_t limbs[BIGINT_LIMBS_MAX];
    memcpy(limbs, bigint_limbs(b), 4 * (size_t)b->head.n);
    size_t sign = 0;
    if (b->head.flags & FLAG_NEGATIVE) {
        buf[sign++] = '-';
    }
    size_t len = sign + bigint_to_digits(buf + sign, limbs, b->head.n);
    buf[len] = '\0';
    return len;
}

double heap_float_value(const struct heap *heap, heap_ref obj)
{
    const struct number *number = (const struct number *)object_at(heap, obj);
    HEAP_ASSERT(number->head.type == HEAP_T_FLOAT);
    return number->value.f;
}

const char *heap_text(const struct heap *heap, heap_ref obj, size_t *len)
{
    const struct text *t = ((const struct text *)object_at(heap, obj));
    HEAP_ASSERT(t->head.type == HEAP_T_STR || t->head.type == HEAP_T_BYTES);
    *len = text_len(t);
    return text_bytes(t);
}
