/* Keys and values with a lifetime, in memory: as much of Redis as the memory store needs.
 *
 * There are two lifetimes, each with its own length, so that entries of one expire in the order
 * they were written in and sweeping costs nothing but what it frees. Not thread-safe. */
#ifndef IDEMPOTENCY_MEMORY_TABLE_H
#define IDEMPOTENCY_MEMORY_TABLE_H

#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

enum memory_lifetime { MEMORY_LEASE, MEMORY_TTL, MEMORY_LIFETIMES };

struct memory_table;

BASE_CHECK struct memory_table *memory_table_new(uint64_t lease_ms, uint64_t ttl_ms,
                                                 struct error *err);
void memory_table_destroy(struct memory_table *t); /* NULL is fine */

/* The value (valid until the next change), absent where there is none or it has expired; *left_ms,
 * which may be NULL, is what it has still to live. */
struct slice memory_table_get(struct memory_table *t, struct slice key, uint64_t now_ms,
                              uint64_t *left_ms);
/* Writes, with a fresh lifetime. counted: see memory_table_counted. False, and nothing changed,
 * where memory is out. */
BASE_CHECK bool memory_table_set(struct memory_table *t, struct slice key, struct slice value,
                                 enum memory_lifetime lifetime, bool counted, uint64_t now_ms);
void memory_table_delete(struct memory_table *t, struct slice key);

/* Frees what has expired. */
void memory_table_sweep(struct memory_table *t, uint64_t now_ms);
/* How many entries are held, expired ones that were not swept yet included. */
size_t memory_table_size(const struct memory_table *t);
/* How many of the counted ones have not expired. Walks only what a sweep would free. */
size_t memory_table_counted(const struct memory_table *t, uint64_t now_ms);

#endif
