/* /metrics: the Prometheus text format, version 0.0.4. Pure. */
#ifndef PAGES_METRICS_H
#define PAGES_METRICS_H

#include "base/buf.h"
#include "delivery/metrics.h"
#include "snapshot.h"

void pages_metrics(const struct snapshot *s, const struct metrics *m, struct buf *body);

#endif
