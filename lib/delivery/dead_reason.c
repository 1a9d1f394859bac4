#include "delivery/dead_reason.h"

const char *dead_reason_name(enum dead_reason reason)
{
    switch (reason) {
    case DEAD_INVALID_EVENT: return "invalid_event";
    case DEAD_TOO_LARGE: return "too_large";
    case DEAD_EXPIRED: return "expired";
    case DEAD_TEMPLATE_ERROR: return "template_error";
    case DEAD_REJECTED: return "rejected";
    case DEAD_RETRIES_EXHAUSTED: return "retries_exhausted";
    case DEAD_ID_CONFLICT: return "id_conflict";
    case DEAD_AMBIGUOUS: return "ambiguous";
    }
    return "unknown";
}
