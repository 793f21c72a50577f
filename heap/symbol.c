/* symbol.c -- names of classes, slots and attributes: each text once, by number, counted.
 *
 * A name's number is free again when its last user lets go; the texts are found by hash.
 */
#include "shape.h"

/* ---- numbered tables ---- */

uint32_t numbered_add(struct heap *heap, struct numbered *table, void *entry)
{
    if (table->free != 0) {
        uint32_t number = table->free;
        table->free = (uint32_t)((uintptr_t)table->entries[number] >> 1);
        table->entries[number] = entry;
        return number;
    }
    if (table->count + 1 >= table->room) {
        uint32_t room = table->room == 0 ? 16 : table->room * 2;
        void *moved = pymalloc_table_realloc(&heap->pm, table->entries, table->room * sizeof(void *),
                                             room * sizeof(void *));
        if (moved == NULL) {
            return 0;
        }
        table->entries = moved;
        table->room = room;
    }
    table->entries[++table->count] = entry;
    return table->count;
}

void numbered_remove(struct numbered *table, uint32_t number)
{
    table->entries[number] = (void *)((uintptr_t)table->free << 1 | 1);
    table->free = number;
}

void *numbered_get(const struct numbered *table, uint32_t number)
{
    void *entry = table->entries[number];
    return (uintptr_t)entry & 1 ? NULL : entry;
}

/* ---- symbols ---- */

static size_t symbol_bytes(const struct symbol *symbol)
{
    return sizeof *symbol + symbol->len + 1;
}

bool symbol_is_identifier(const char *text, size_t len)
{
    if (len == 0 || len > HEAP_IDENTIFIER_BYTES_MAX || (text[0] >= '0' && text[0] <= '9')) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_')) {
            return false;
        }
    }
    return true;
}

static uint32_t symbol_hash(const struct heap *heap, const char *text, size_t len)
{
    uint32_t hash = (uint32_t)hash_bytes(heap, text, len);
    return hash != 0 ? hash : 1;
}

static uint32_t find(const struct heap *heap, uint32_t hash, const char *text, size_t len)
{
    const uint32_t *first = map32_find(&heap->classes->symbol_by_hash, hash);
    for (uint32_t n = first != NULL ? *first : 0; n != 0; n = symbol_at(heap, n)->next) {
        if (symbol_at(heap, n)->len == len && memcmp(symbol_at(heap, n)->text, text, len) == 0) {
            return n;
        }
    }
    return 0;
}

uint32_t symbol_find(const struct heap *heap, const char *text, size_t len)
{
    return find(heap, symbol_hash(heap, text, len), text, len);
}

static uint32_t symbol_create(struct heap *heap, uint32_t hash, const char *text, size_t len)
{
    struct class_table *table = heap->classes;
    size_t bytes = sizeof(struct symbol) + len + 1;
    struct symbol *symbol = pymalloc_table_alloc(&heap->pm, bytes);
    if (symbol == NULL) {
        return 0;
    }
    uint32_t number = numbered_add(heap, &table->symbols, symbol);
    if (number == 0) {
        goto fail_number;
    }
    uint32_t *first = map32_put(&table->symbol_by_hash, hash);
    if (first == NULL) {
        goto fail_put;
    }
    *symbol = (struct symbol){.hash = hash, .users = 1, .next = *first, .len = (uint32_t)len};
    memcpy(symbol->text, text, len);
    *first = number;
    return number;

fail_put:
    numbered_remove(&table->symbols, number);
fail_number:
    pymalloc_table_free(&heap->pm, symbol, bytes);
    return 0;
}

enum heap_error symbol_take(uint32_t *symbol, struct heap *heap, const char *text, size_t len)
{
    uint32_t hash = symbol_hash(heap, text, len);
    uint32_t number = find(heap, hash, text, len);
    if (number != 0) {
        symbol_at(heap, number)->users++;
    } else if (!symbol_is_identifier(text, len)) {
        return HEAP_BAD_IDENTIFIER;
    } else {
        number = symbol_create(heap, hash, text, len);
        if (number == 0) {
            return HEAP_MEMORY;
        }
    }
    *symbol = number;
    return HEAP_OK;
}

void symbol_drop(struct heap *heap, uint32_t number)
{
    if (number == 0 || --symbol_at(heap, number)->users > 0) {
        return;
    }
    struct class_table *table = heap->classes;
    struct symbol *symbol = symbol_at(heap, number);
    uint32_t *first = map32_find(&table->symbol_by_hash, symbol->hash), *link = first;
    while (*link != number) {
        link = &symbol_at(heap, *link)->next;
    }
    *link = symbol->next;
    if (*first == 0) {
        map32_remove(&table->symbol_by_hash, symbol->hash);
    }
    numbered_remove(&table->symbols, number);
    pymalloc_table_free(&heap->pm, symbol, symbol_bytes(symbol));
}

void symbol_free_all(struct heap *heap)
{
    struct numbered *symbols = &heap->classes->symbols;
    for (uint32_t n = 1; n <= symbols->count; n++) {
        struct symbol *symbol = numbered_get(symbols, n);
        if (symbol != NULL) {
            pymalloc_table_free(&heap->pm, symbol, symbol_bytes(symbol));
        }
    }
    pymalloc_table_free(&heap->pm, symbols->entries, symbols->room * sizeof(void *));
}
