/* Reads the JSON object of a final mark: just enough of RFC 8259 to check its form and pick its
 * members, without copying and without a JSON library. Pure. */
#ifndef IDEMPOTENCY_CLAIM_OBJECT_H
#define IDEMPOTENCY_CLAIM_OBJECT_H

#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

struct claim_object { /* slices point into the text, escapes undecoded; absent where the member is
                       */
    struct slice state, token, fp, topic, reason, dead_at;
    int64_t partition, offset, published; /* -1 where absent or no integer */
};

/* False where text is no JSON object (nested deeper than 32 counts as none). The last of equal
 * names counts, as in Redis' cjson. */
BASE_CHECK bool claim_object_parse(struct slice text, struct claim_object *out);

#endif
