/* A bump allocator: everything that belongs to one event is taken from one arena and freed at once.
 * Not thread-safe. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/slice.h"

struct arena_block;

struct arena {
    struct arena_block *blocks;
    size_t used; /* bytes handed out, for accounting */
    size_t first_block;
    bool failed; /* memory was out at least once */
};

void arena_init(struct arena *a);
/* Its first block has room for about `expected` bytes. */
void arena_init_sized(struct arena *a, size_t expected);
/* For the next event: everything taken from it is gone, its first block is kept. */
void arena_reset(struct arena *a);
void arena_cleanup(struct arena *a); /* frees all; legal on a zeroed struct, and twice */

/* Overwrites all that was handed out with zeros (secrets); the memory stays allocated. */
void arena_wipe(struct arena *a);

/* `size` bytes aligned for any type, zeroed; NULL where memory is out. Freed by arena_cleanup only.
 */
void *arena_alloc(struct arena *a, size_t size);

void *arena_alloc_raw(struct arena *a, size_t size); /* not zeroed */

/* A copy followed by a NUL that is not counted; ptr is NULL where memory is out, or where s.ptr
 * was. */
struct slice arena_copy(struct arena *a, struct slice s);

#endif
