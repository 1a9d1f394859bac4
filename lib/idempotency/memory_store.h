/* The table behind a memory store, for tests that put values there as somebody else would. */
#ifndef IDEMPOTENCY_MEMORY_STORE_H
#define IDEMPOTENCY_MEMORY_STORE_H

#include "idempotency/memory_table.h"
#include "idempotency/store.h"

struct memory_table *memory_store_table(struct store *s);

#endif
