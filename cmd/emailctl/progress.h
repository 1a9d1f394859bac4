/* Which letters of one partition were redriven: all below an offset, and some beyond it (filters,
 * letters that were skipped). It is kept as a consumer group's committed offset and its metadata.
 * Pure. */
#ifndef EMAILCTL_PROGRESS_H
#define EMAILCTL_PROGRESS_H

#include <stdint.h>

#include "base/buf.h"

enum { PROGRESS_NOTE_MAX = 4000 }; /* brokers take 4096 (offset.metadata.max.bytes) */

struct progress {
    int64_t low, high;   /* the letters that there are: low … high - 1 */
    unsigned char *done; /* one a letter */
};

/* From what was kept; offset -1: nothing. What was kept of a topic that was created anew since is
 * of no use, and dropped. */
BASE_CHECK bool progress_init(struct progress *p, int64_t low, int64_t high, int64_t offset,
                              const char *note, struct error *err);
void progress_cleanup(struct progress *p);

bool progress_has(const struct progress *p, int64_t offset);
void progress_set(struct progress *p, int64_t offset, bool done);

/* What to keep. False where it does not fit: the letters are too scattered. */
BASE_CHECK bool progress_note(const struct progress *p, int64_t *offset, struct buf *note);

#endif
