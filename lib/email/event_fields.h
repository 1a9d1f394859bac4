/* The fields of an event, one decoder each: from JSON values to struct event. Internal to event.c.
 */
#ifndef EMAIL_EVENT_FIELDS_H
#define EMAIL_EVENT_FIELDS_H

#include "base/json_in.h"
#include "email/event.h"

struct event_decoder {
    struct arena *arena;
    struct event *ev;
    struct error *err;
    enum event_status status; /* why the last step failed */
    /* The values outlive the decoding only where they lie in this text; NULL: all of them do. */
    const struct slice *lasting;
};

/* Decodes every known field of the object; messageID first, so that a bad event can be named. False
 * with d->status and d->err set. */
BASE_CHECK bool event_fields_decode(struct event_decoder *d, const struct json_in *object);

#endif
