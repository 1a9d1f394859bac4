/* From the caller's struct to the tree that reading its JSON (event_json.h) would give, without
 * reading it: so that the service's own code can judge the event. Pure. */
#ifndef PRODUCER_EVENT_TREE_H
#define PRODUCER_EVENT_TREE_H

#include "base/json_in.h"
#include "producer/email_producer.h"

/* For an event that event_json_write has written down. It points to the struct's strings. The two
 * times are left out: they are valid by themselves. NULL: the JSON has to be read after all,
 * because there are attachments, a JSON object is not well-formed, or memory is out. */
BASE_CHECK const struct json_in *event_tree_new(struct arena *arena, const email_event *event,
                                                struct slice message_id);

#endif
