/* The status page for people at "/": one HTML document, no scripts, nothing loaded from elsewhere.
 * Pure. */
#ifndef PAGES_STATUS_H
#define PAGES_STATUS_H

#include "base/buf.h"
#include "delivery/metrics.h"
#include "snapshot.h"

void pages_status(const struct snapshot *s, const struct metrics *m, struct buf *body);

#endif
