/* Points in time as an operator writes them. Pure. */
#ifndef EMAILCTL_INSTANT_H
#define EMAILCTL_INSTANT_H

#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

/* RFC 3339 ("2026-11-21T08:10:42Z"), or how long ago: "90s", "15m", "2h", "3d", "1w". */
BASE_CHECK bool instant_parse(struct slice text, int64_t now_unix_ms, int64_t *unix_ms);

#endif
