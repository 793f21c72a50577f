/* name.c -- the global namespace: bound names in byte order, each with one reference.
 *
 *   node "bit 12"             a crit-bit tree: an inner node says at which bit its two halves first
 *    |-- node "bit 20"        differ, a leaf is a name
 *    |    |-- leaf "ab"
 *    |    `-- leaf "ac"
 *    `-- leaf "b"
 *
 * Nothing is ever rehashed or balanced: binding, finding and unbinding go down one path, which is as long as
 * the logarithm of the number of names for most sets of names, and never longer than their bits.
 *
 * A name's bits are nine a byte: a 1 for "there is a byte", then the byte from the top bit down; behind the
 * end come 0s.  So names may contain NUL, a name comes before those it begins, and the order of the leaves is
 * that of the bytes, which for UTF-8 is that of the code points.
 *
 * The other way round, the names of one object are a list, newest first, that starts in a map from handle
 * slots; so to ask for an object's names costs what they are, and a name leaves its list in one step.
 *
 * Each name owns one reference of its object, counted in the refcount and in the roots of the handle entry.
 * Invariants: the bits of the inner nodes on a path ascend; heap->name_count is the number of leaves; each
 * leaf is on the list of its slot, and on no other.
 * Checker: name_check().   Start at heap_name_bind().
 */
#include "visit.h"

/* ---- the tree ---- */

/* A bit of a name.  Ordered by byte, then from flag 0x100, "there is a byte", down to 0x01. */
struct bit {
    uint16_t byte; /* number of the byte */
    uint16_t flag; /* one bit of 0x1FF */
};

/* An inner node or a leaf: `flag` tells. */
struct node {
    struct bit bit; /* flag 0: a leaf */
};

struct inner {
    struct node head;
    struct node *half[2]; /* names whose bit is 0, 1 */
};

struct leaf {
    struct node head;
    uint32_t ref;  /* the object */
    uint32_t slot; /* its handle slot */
    uint32_t len;
    struct leaf *newer, *older; /* names of the same object; NULL: none */
    char text[];                /* `len` bytes */
};

struct name_table {
    struct node *root; /* NULL: no names */
    /* Handle slot -> address of the newest name of its object: a map32 has 32 bits, so each keeps a half. */
    struct map32 newest_low, newest_high;
};

/* A name that is asked for. */
struct key {
    const char *text;
    size_t len;
};

static bool is_leaf(const struct node *node)
{
    return node->bit.flag == 0;
}

static struct leaf *leaf_of(struct node *node)
{
    return (struct leaf *)node;
}

static struct inner *inner_of(struct node *node)
{
    return (struct inner *)node;
}

/* The nine bits of byte i. */
static unsigned key_byte(struct key key, size_t i)
{
    return i < key.len ? 0x100u | (unsigned char)key.text[i] : 0;
}

static unsigned key_side(struct key key, struct bit bit)
{
    return (key_byte(key, bit.byte) & bit.flag) != 0;
}

static bool bit_before(struct bit a, struct bit b)
{
    return a.byte != b.byte ? a.byte < b.byte : a.flag > b.flag;
}

static struct key leaf_key(const struct leaf *leaf)
{
    return (struct key){.text = leaf->text, .len = leaf->len};
}

static bool key_equals(struct key key, const struct leaf *leaf)
{
    return key.len == leaf->len && memcmp(key.text, leaf->text, key.len) == 0;
}

/* The first bit in which two names differ.  false: they are equal. */
static bool first_difference(struct bit *bit, struct key a, struct key b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    size_t i = 0;
    while (i < shorter && a.text[i] == b.text[i]) {
        i++;
    }
    unsigned differ = key_byte(a, i) ^ key_byte(b, i);
    if (differ == 0) {
        return false;
    }
    *bit = (struct bit){.byte = (uint16_t)i, .flag = (uint16_t)(1u << (31 - __builtin_clz(differ)))};
    return true;
}

/* The only leaf that the key could be. */
static struct leaf *best_leaf(struct node *node, struct key key)
{
    while (!is_leaf(node)) {
        node = inner_of(node)->half[key_side(key, node->bit)];
    }
    return leaf_of(node);
}

static struct leaf *first_leaf(struct node *node)
{
    while (!is_leaf(node)) {
        node = inner_of(node)->half[0];
    }
    return leaf_of(node);
}

static struct leaf *tree_find(const struct name_table *names, struct key key)
{
    if (names->root == NULL) {
        return NULL;
    }
    struct leaf *leaf = best_leaf(names->root, key);
    return key_equals(key, leaf) ? leaf : NULL;
}

/* The first name after the key; the key itself too if `inclusive`.  NULL: none. */
static struct leaf *tree_after(const struct name_table *names, struct key key, bool inclusive)
{
    if (names->root == NULL) {
        return NULL;
    }
    struct bit differ = {0};
    struct leaf *best = best_leaf(names->root, key);
    bool there = !first_difference(&differ, key, leaf_key(best));
    if (there && inclusive) {
        return best;
    }
    struct node *above = NULL; /* the half with 1 of the last node where the key went to 0 */
    struct node *node = names->root;
    while (!is_leaf(node) && (there || bit_before(node->bit, differ))) {
        unsigned side = key_side(key, node->bit);
        if (side == 0) {
            above = inner_of(node)->half[1];
        }
        node = inner_of(node)->half[side];
    }
    if (!there && key_side(key, differ) == 0) {
        return first_leaf(node); /* the key comes before all that is here */
    }
    return above == NULL ? NULL : first_leaf(above);
}

/* ---- memory ---- */

static size_t leaf_bytes(size_t len)
{
    return sizeof(struct leaf) + len;
}

static void leaf_free(struct heap *heap, struct leaf *leaf)
{
    pymalloc_table_free(&heap->pm, leaf, leaf_bytes(leaf->len));
}

static void inner_free(struct heap *heap, struct inner *inner)
{
    pymalloc_table_free(&heap->pm, inner, sizeof *inner);
}

bool name_init(struct heap *heap)
{
    heap->names = pymalloc_table_alloc(&heap->pm, sizeof *heap->names);
    if (heap->names != NULL) {
        map32_init(&heap->names->newest_low, &heap->pm);
        map32_init(&heap->names->newest_high, &heap->pm);
    }
    return heap->names != NULL;
}

/* Frees the memory; the references are left alone.  A node whose half 0 is no leaf is turned to the right
 * until it is, so the tree becomes a list of leaves while it is freed, without a stack. */
void name_fini(struct heap *heap)
{
    if (heap->names == NULL) {
        return;
    }
    struct node *node = heap->names->root;
    while (node != NULL && !is_leaf(node)) {
        struct inner *inner = inner_of(node);
        struct node *low = inner->half[0];
        if (is_leaf(low)) {
            node = inner->half[1];
            leaf_free(heap, leaf_of(low));
            inner_free(heap, inner);
        } else {
            inner->half[0] = inner_of(low)->half[1];
            inner_of(low)->half[1] = node;
            node = low;
        }
    }
    if (node != NULL) {
        leaf_free(heap, leaf_of(node));
    }
    map32_fini(&heap->names->newest_low);
    map32_fini(&heap->names->newest_high);
    pymalloc_table_free(&heap->pm, heap->names, sizeof *heap->names);
    heap->names = NULL;
}

/* ---- the names of one object ---- */

/* NULL: the object of the slot has no name. */
static struct leaf *newest_of(const struct name_table *names, uint32_t slot)
{
    const uint32_t *low = map32_find(&names->newest_low, slot);
    if (low == NULL) {
        return NULL;
    }
    return (struct leaf *)((uintptr_t)*map32_find(&names->newest_high, slot) << 32 | *low);
}

/* The places of a slot's entry, made with a NULL address if there is none; valid until the next change of the maps.
 * false: no memory. */
struct newest {
    uint32_t *low, *high;
};
static bool newest_reserve(struct newest *newest, struct name_table *names, uint32_t slot)
{
    newest->low = map32_put(&names->newest_low, slot);
    if (newest->low == NULL) {
        return false;
    }
    newest->high = map32_put(&names->newest_high, slot);
    if (newest->high == NULL) {
        map32_remove(&names->newest_low, slot); /* an entry has both: this one was not there */
    }
    return newest->high != NULL;
}

/* NULL takes the entry away; else it is there. */
static void newest_set(struct name_table *names, uint32_t slot, struct leaf *leaf)
{
    if (leaf == NULL) {
        map32_remove(&names->newest_low, slot);
        map32_remove(&names->newest_high, slot);
    } else {
        *map32_find(&names->newest_low, slot) = (uint32_t)(uintptr_t)leaf;
        *map32_find(&names->newest_high, slot) = (uint32_t)((uintptr_t)leaf >> 32);
    }
}

/* Puts a leaf in front of the names of its slot, whose entry has been reserved. */
static void names_link(struct newest newest, struct leaf *leaf)
{
    leaf->newer = NULL;
    leaf->older = (struct leaf *)((uintptr_t)*newest.high << 32 | *newest.low);
    if (leaf->older != NULL) {
        leaf->older->newer = leaf;
    }
    *newest.low = (uint32_t)(uintptr_t)leaf;
    *newest.high = (uint32_t)((uintptr_t)leaf >> 32);
}

static void names_unlink(struct name_table *names, struct leaf *leaf)
{
    if (leaf->older != NULL) {
        leaf->older->newer = leaf->newer;
    }
    if (leaf->newer != NULL) {
        leaf->newer->older = leaf->older;
    } else {
        newest_set(names, leaf->slot, leaf->older);
    }
}

void heap_names_of(struct heap *heap, heap_ref obj, void (*row)(void *arg, const char *name, size_t len), void *arg)
{
    GIL_ASSERT_HELD(heap);
    uint32_t slot = handle_slot_if_any(heap, obj);
    const struct leaf *leaf = slot == 0 ? NULL : newest_of(heap->names, slot);
    while (leaf != NULL && leaf->older != NULL) {
        leaf = leaf->older;
    }
    for (; leaf != NULL; leaf = leaf->newer) {
        row(arg, leaf->text, leaf->len);
    }
}

/* ---- finding ---- */

heap_ref heap_name_find(struct heap *heap, const char *name, size_t len)
{
    GIL_ASSERT_HELD(heap);
    struct leaf *leaf = tree_find(heap->names, (struct key){.text = name, .len = len});
    return leaf == NULL ? 0 : gc_meet(heap, leaf->ref);
}

bool heap_name_next(struct heap *heap, const char *prefix, size_t prefix_len, const char *after,
                    size_t after_len, const char **name, size_t *name_len, heap_ref *obj)
{
    GIL_ASSERT_HELD(heap);
    size_t common = prefix_len < after_len ? prefix_len : after_len;
    int order = common == 0 ? 0 : memcmp(after, prefix, common);
    bool from_prefix = order < 0 || (order == 0 && after_len < prefix_len) || after_len == 0;
    struct key start = from_prefix ? (struct key){.text = prefix, .len = prefix_len}
                                   : (struct key){.text = after, .len = after_len};
    struct leaf *leaf = tree_after(heap->names, start, from_prefix);
    if (leaf == NULL || leaf->len < prefix_len ||
        (prefix_len > 0 && memcmp(leaf->text, prefix, prefix_len) != 0)) {
        return false;
    }
    if (gc_meet(heap, leaf->ref) == 0) {
        return false;
    }
    *name = leaf->text;
    *name_len = leaf->len;
    *obj = leaf->ref;
    return true;
}

/* ---- binding ---- */

/* Takes the reference of a name; the slot has been made and the refcount been found to have room. */
static void take(struct heap *heap, heap_ref obj, uint32_t slot)
{
    object_incref(heap, obj);
    handle_root_add(heap, slot, 1);
}

static void drop(struct heap *heap, heap_ref obj, uint32_t slot)
{
    handle_root_drop(heap, slot, 1);
    object_decref(heap, obj);
}

/* Puts a leaf with a new name into the tree; `inner`, not needed for the first, becomes the node above it. */
static void tree_insert(struct name_table *names, struct leaf *leaf, struct inner *inner)
{
    if (names->root == NULL) {
        names->root = &leaf->head;
        return;
    }
    struct key key = leaf_key(leaf);
    struct bit differ = {0};
    bool new = first_difference(&differ, key, leaf_key(best_leaf(names->root, key)));
    HEAP_ASSERT(new);
    struct node **place = &names->root;
    while (!is_leaf(*place) && bit_before((*place)->bit, differ)) {
        place = &inner_of(*place)->half[key_side(key, (*place)->bit)];
    }
    unsigned side = key_side(key, differ);
    inner->head.bit = differ;
    inner->half[side] = &leaf->head;
    inner->half[1 - side] = *place;
    *place = &inner->head;
}

static enum heap_error bind_new(struct heap *heap, struct key key, heap_ref obj, uint32_t slot)
{
    if (heap->limits.max_names != 0 && counter_read(&heap->name_count) >= heap->limits.max_names) {
        return HEAP_LIMIT_NAMES;
    }
    struct name_table *names = heap->names;
    struct leaf *leaf = pymalloc_table_alloc(&heap->pm, leaf_bytes(key.len));
    if (leaf == NULL) {
        return HEAP_MEMORY;
    }
    *leaf = (struct leaf){.ref = obj, .slot = slot, .len = (uint32_t)key.len};
    memcpy(leaf->text, key.text, key.len);
    struct inner *inner = NULL;
    if (names->root != NULL) {
        inner = pymalloc_table_alloc(&heap->pm, sizeof *inner);
        if (inner == NULL) {
            goto fail_inner;
        }
    }
    struct newest newest;
    if (!newest_reserve(&newest, names, slot)) {
        goto fail_newest;
    }
    tree_insert(names, leaf, inner);
    names_link(newest, leaf);
    take(heap, obj, slot);
    counter_add(&heap->name_count, 1);
    return HEAP_OK;

fail_newest:
    if (inner != NULL) {
        inner_free(heap, inner);
    }
fail_inner:
    leaf_free(heap, leaf);
    return HEAP_MEMORY;
}

/* A name that is bound gets another object. */
static enum heap_error bind_again(struct heap *heap, struct leaf *leaf, heap_ref obj, uint32_t slot)
{
    struct name_table *names = heap->names;
    heap_ref old = leaf->ref;
    uint32_t old_slot = leaf->slot;
    struct newest newest;
    if (!newest_reserve(&newest, names, slot)) {
        return HEAP_MEMORY;
    }
    take(heap, obj, slot);
    if (slot != old_slot) {
        struct leaf before = *leaf; /* its neighbours on the old list */
        leaf->ref = obj;
        leaf->slot = slot;
        names_link(newest, leaf);
        names_unlink(names, &before);
    }
    drop(heap, old, old_slot);
    return HEAP_OK;
}

enum heap_error name_bind(struct heap *heap, const char *name, size_t len, heap_ref obj)
{
    if (len == 0 || len > HEAP_NAME_BYTES_MAX) {
        return HEAP_BAD_NAME;
    }
    if (object_is_full(object_at(heap, obj))) {
        return HEAP_LIMIT_REFS;
    }
    uint32_t slot = handle_slot(heap, obj);
    if (slot == 0) {
        return HEAP_MEMORY;
    }
    struct key key = {.text = name, .len = len};
    struct leaf *leaf = tree_find(heap->names, key);
    visit_before_change(heap, obj);
    if (leaf != NULL) {
        visit_before_change(heap, leaf->ref);
    }
    return leaf == NULL ? bind_new(heap, key, obj, slot) : bind_again(heap, leaf, obj, slot);
}

/* Whether the name may be changed: not while it is being decided if its object lives; heap->wait says so then. */
static bool may_change(struct heap *heap, struct key key)
{
    const struct leaf *leaf = tree_find(heap->names, key);
    return leaf == NULL || gc_meet(heap, leaf->ref) != 0;
}

enum heap_error heap_name_bind(struct heap *heap, const char *name, size_t len, heap_ref obj)
{
    GIL_ASSERT_HELD(heap);
    if (unlikely(heap->gc.state != GC_IDLE) && !may_change(heap, (struct key){.text = name, .len = len})) {
        return HEAP_NAME;
    }
    return name_bind(heap, name, len, obj);
}

enum heap_error heap_name_unbind(struct heap *heap, const char *name, size_t len)
{
    GIL_ASSERT_HELD(heap);
    if (unlikely(heap->gc.state != GC_IDLE) && !may_change(heap, (struct key){.text = name, .len = len})) {
        return HEAP_NAME;
    }
    struct key key = {.text = name, .len = len};
    struct node **place = &heap->names->root, **above = NULL;
    if (*place == NULL) {
        return HEAP_NAME;
    }
    while (!is_leaf(*place)) {
        above = place;
        place = &inner_of(*place)->half[key_side(key, (*place)->bit)];
    }
    struct leaf *leaf = leaf_of(*place);
    if (!key_equals(key, leaf)) {
        return HEAP_NAME;
    }
    visit_before_change(heap, leaf->ref);
    if (above == NULL) {
        heap->names->root = NULL;
    } else { /* the other half takes the place of the node above */
        struct inner *inner = inner_of(*above);
        *above = inner->half[place == &inner->half[0]];
        inner_free(heap, inner);
    }
    heap_ref obj = leaf->ref;
    uint32_t slot = leaf->slot;
    names_unlink(heap->names, leaf);
    leaf_free(heap, leaf);
    counter_sub(&heap->name_count, 1);
    drop(heap, obj, slot);
    return HEAP_OK;
}

/* ---- checking ---- */

void name_count_roots(struct heap *heap, uint32_t *roots)
{
    struct leaf *leaf = tree_after(heap->names, (struct key){.text = "", .len = 0}, true);
    while (leaf != NULL) {
        roots[leaf->slot]++;
        leaf = tree_after(heap->names, leaf_key(leaf), false);
    }
}

/* The bits on the way to a name ascend. */
static bool path_ascends(struct node *node, struct key key)
{
    while (!is_leaf(node)) {
        struct node *below = inner_of(node)->half[key_side(key, node->bit)];
        if (!is_leaf(below) && !bit_before(node->bit, below->bit)) {
            return false;
        }
        node = below;
    }
    return true;
}

/* Its neighbours on the list of its object know it, or the map does when it is the newest. */
static bool is_listed(const struct name_table *names, const struct leaf *leaf)
{
    const struct leaf *newer = leaf->newer, *older = leaf->older;
    bool newer_ok = newer != NULL ? newer->older == leaf && newer->slot == leaf->slot
                                  : newest_of(names, leaf->slot) == leaf;
    return newer_ok && (older == NULL || (older->newer == leaf && older->slot == leaf->slot));
}

uint32_t name_check(struct heap *heap, FILE *why)
{
    const struct name_table *names = heap->names;
    uint32_t problems = map32_check(&names->newest_low, why) + map32_check(&names->newest_high, why);
    uint64_t count = 0, newest = 0;
    uint64_t limit = counter_read(&heap->name_count);
    struct leaf *leaf = tree_after(heap->names, (struct key){.text = "", .len = 0}, true);
    for (; leaf != NULL && count <= limit; count++) {
        if (!path_ascends(heap->names->root, leaf_key(leaf)) ||
            tree_find(heap->names, leaf_key(leaf)) != leaf) {
            fprintf(why, "the name %.*s is not found where it is\n", (int)leaf->len, leaf->text);
            return problems + 1;
        }
        if (handle_slot_if_any(heap, leaf->ref) != leaf->slot || object_at(heap, leaf->ref)->refcount == 0) {
            fprintf(why, "the name %.*s is bound to %#x, which is not alive under its id\n", (int)leaf->len,
                    leaf->text, leaf->ref);
            problems++;
        }
        if (!is_listed(names, leaf)) {
            fprintf(why, "the name %.*s is not on the list of its object's names\n", (int)leaf->len, leaf->text);
            problems++;
        }
        newest += leaf->newer == NULL;
        struct leaf *next = tree_after(heap->names, leaf_key(leaf), false);
        leaf = next;
    }
    if (newest != names->newest_low.count || newest != names->newest_high.count) {
        fprintf(why, "%llu objects have names, the map says %u and %u\n", (unsigned long long)newest,
                names->newest_low.count, names->newest_high.count);
        problems++;
    }
    if (count != limit) {
        fprintf(why, "there are %s names than the %llu counted\n", count > limit ? "more" : "fewer",
                (unsigned long long)limit);
        problems++;
    }
    return problems;
}
