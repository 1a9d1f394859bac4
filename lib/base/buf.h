/* A growable byte buffer with sticky failure: append as often as needed, look at `failed` once at
 * the end. The bytes are always followed by a NUL that is not counted, so that ptr can be used as a
 * C string where the content has no NUL of its own. Not thread-safe. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

struct buf {
    char *ptr; /* owned; NULL until the first append */
    size_t len;
    size_t cap;
    bool failed; /* an allocation failed; every later append is a no-op */
};

void buf_init(struct buf *b);
void buf_cleanup(struct buf *b); /* frees; legal on a zeroed struct, and twice */
void buf_clear(struct buf *b);   /* empties (failure too) and keeps the memory */

/* Makes room for `extra` more bytes; false (and failed) where memory is out. */
bool buf_reserve(struct buf *b, size_t extra);

void buf_add(struct buf *b, const void *bytes, size_t len);
void buf_add_slice(struct buf *b, struct slice s);
void buf_add_str(struct buf *b, const char *text);
void buf_add_char(struct buf *b, char c);
void buf_add_u64(struct buf *b, uint64_t value); /* decimal */
void buf_add_i64(struct buf *b, int64_t value);
void buf_addf(struct buf *b, const char *format, ...) BASE_PRINTF(2, 3);

/* Drops the first `len` bytes (at most all of them). Costs a memmove. */
void buf_consume(struct buf *b, size_t len);

struct slice buf_slice(const struct buf *b);

#endif
