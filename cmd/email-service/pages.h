/* What each path answers, from a snapshot and the metrics. Pure. */
#ifndef PAGES_H
#define PAGES_H

#include "base/buf.h"
#include "delivery/metrics.h"
#include "snapshot.h"

/* Writes the page at `path` into `body`, which is empty. Returns its HTTP status and sets its
 * content type (a constant); 0, with nothing written, where there is no such page. Memory failure
 * is the buffer's. */
unsigned pages_render(const char *path, const struct snapshot *s, const struct metrics *m,
                      struct buf *body, const char **content_type);

#endif
