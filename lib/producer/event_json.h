/* From the caller's struct to the record's value: the JSON of docs/event.md. Pure: time and
 * messageID are parameters. What the JSON says is judged by event_decode, the service's own code.
 */
#ifndef PRODUCER_EVENT_JSON_H
#define PRODUCER_EVENT_JSON_H

#include "base/buf.h"
#include "producer/email_producer.h"

/* False where a string is not UTF-8, data_json or metadata_json is no single JSON object, or a
 * number is out of range: what would not come out of the JSON as it went in. Memory is out where
 * out->failed. */
BASE_CHECK bool event_json_write(struct buf *out, const email_event *event, struct slice message_id,
                                 int64_t now_unix_ms, struct error *err);

/* A copy of a JSON object that has no createdAt, with one. */
void event_json_add_created_at(struct buf *out, struct slice json, int64_t now_unix_ms);

#endif
