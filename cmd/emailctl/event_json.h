/* Events as JSON text: made from flags, narrowed to the recipients that were refused, shown. The
 * one file of emailctl that knows the JSON library. Pure. */
#ifndef EMAILCTL_EVENT_JSON_H
#define EMAILCTL_EVENT_JSON_H

#include "base/arena.h"
#include "options.h"

struct event_file { /* read by the caller */
    const char *name;
    struct slice content;
};

struct event_inputs {
    const struct options *o;
    const char *message_id;
    int64_t now_unix_ms;
    struct slice text, html; /* absent: none */
    const struct event_file *attachments;
    size_t attachments_len;
};

/* The event that flags describe; not validated beyond being JSON. False names the flag. */
BASE_CHECK bool event_json_build(struct arena *arena, const struct event_inputs *in,
                                 struct slice *json, struct error *err);

/* How many events it takes to send `value` to the refused recipients (a JSON array of addresses)
 * alone: one, but for several that were in bcc only, who must not see each other: one each. 0 where
 * none of them is a recipient. False where one of the two is not what it should be. */
BASE_CHECK bool event_json_parts(struct arena *arena, struct slice value, struct slice refused,
                                 size_t *parts, struct error *err);

/* The part-th of them (from 0). Its messageID is the event's with "-r" and `redrive` (".", and part
 * + 1 where there are several): the same each time, so that a part that is redriven twice by
 * accident is one mail. */
BASE_CHECK bool event_json_narrow(struct arena *arena, struct slice value, struct slice refused,
                                  uint64_t redrive, size_t part, struct slice *json,
                                  struct slice *message_id, struct error *err);

/* Indented text, or on one line where `indent` is false; false where it is no JSON. */
BASE_CHECK bool event_json_show(struct arena *arena, struct slice value, bool indent,
                                struct slice *text);

#endif
