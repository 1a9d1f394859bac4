#include "base/arena.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { FIRST_BLOCK = 4096, LARGEST_DOUBLING = 65536 };

struct arena_block {
    struct arena_block *next;
    size_t cap;
    size_t len;
    max_align_t bytes[];
};

void arena_init(struct arena *a)
{
    *a = (struct arena){0};
}

void arena_init_sized(struct arena *a, size_t expected)
{
    *a = (struct arena){.first_block = expected};
}

void arena_reset(struct arena *a)
{
    while (a->blocks && a->blocks->next) {
        struct arena_block *block = a->blocks;
        a->blocks = block->next;
        free(block);
    }
    if (a->blocks)
        a->blocks->len = 0;
    a->used = 0;
    a->failed = false;
}

void arena_cleanup(struct arena *a)
{
    struct arena_block *block = a->blocks;

    while (block) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
    *a = (struct arena){0};
}

void arena_wipe(struct arena *a)
{
    for (struct arena_block *block = a->blocks; block; block = block->next)
        explicit_bzero(block->bytes, block->len);
}

static struct arena_block *add_block(struct arena *a, size_t size)
{
    const size_t first = a->first_block ? a->first_block : FIRST_BLOCK - sizeof(struct arena_block);
    size_t cap = a->blocks ? a->blocks->cap * 2 : first;
    struct arena_block *block;

    if (cap > LARGEST_DOUBLING)
        cap = LARGEST_DOUBLING;
    if (cap < size)
        cap = size;
    block = malloc(sizeof(*block) + cap);
    if (!block)
        return NULL;
    block->cap = cap;
    block->len = 0;
    block->next = a->blocks;
    a->blocks = block;
    return block;
}

static void *take(struct arena *a, size_t size)
{
    const size_t align = _Alignof(max_align_t);
    struct arena_block *block = a->blocks;
    void *out;

    if (size > SIZE_MAX / 2) {
        a->failed = true;
        return NULL;
    }
    size = (size + align - 1) / align * align;
    if (!block || size > block->cap - block->len)
        block = add_block(a, size);
    if (!block) {
        a->failed = true;
        return NULL;
    }
    out = (char *)block->bytes + block->len;
    block->len += size;
    a->used += size;
    return out;
}

void *arena_alloc(struct arena *a, size_t size)
{
    void *out = take(a, size);

    return out ? memset(out, 0, size) : NULL;
}

void *arena_alloc_raw(struct arena *a, size_t size)
{
    return take(a, size);
}

struct slice arena_copy(struct arena *a, struct slice s)
{
    char *copy;

    if (!s.ptr)
        return s;
    copy = take(a, s.len + 1);
    if (!copy)
        return slice_of(NULL, 0);
    memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return slice_of(copy, s.len);
}
