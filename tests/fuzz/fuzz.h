/* What all fuzz targets share: reading decisions off the input, and assertions that stay in every
 * build. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/slice.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold whatever the input is. */
#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);          \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* The input as a tape: each decision takes the next bytes; behind its end there are zeros. */
struct tape {
    const uint8_t *at, *end;
};

static inline struct tape tape_of(const uint8_t *data, size_t size)
{
    return (struct tape){data, data + size};
}

static inline bool tape_ended(const struct tape *t)
{
    return t->at == t->end;
}

static inline uint8_t tape_byte(struct tape *t)
{
    return t->at < t->end ? *t->at++ : 0;
}

static inline uint32_t tape_number(struct tape *t, uint32_t below)
{
    uint32_t value = tape_byte(t);

    if (below > 256)
        value |= (uint32_t)tape_byte(t) << 8;
    if (below > 65536)
        value |= (uint32_t)tape_byte(t) << 16;
    return value % below;
}

static inline bool tape_flag(struct tape *t)
{
    return tape_byte(t) & 1;
}

/* At most `len` bytes, less at the end. */
static inline struct slice tape_bytes(struct tape *t, size_t len)
{
    const size_t left = (size_t)(t->end - t->at);
    struct slice out = slice_of((const char *)t->at, len < left ? len : left);

    t->at += out.len;
    return out;
}

static inline struct slice tape_rest(struct tape *t)
{
    return tape_bytes(t, SIZE_MAX);
}

/* A copy of its own size on the heap, so that AddressSanitizer sees the first byte read beyond. */
static inline struct slice heap_copy(struct slice s)
{
    char *copy = malloc(s.len ? s.len : 1);

    REQUIRE(copy);
    if (s.len)
        memcpy(copy, s.ptr, s.len);
    return slice_of(copy, s.len);
}

static inline void heap_free(struct slice s)
{
    free((char *)(uintptr_t)s.ptr);
}

#endif
