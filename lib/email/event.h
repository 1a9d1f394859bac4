/* The email event: what stands in a record's value (docs/event.md), decoded and validated. Pure.
 *
 * Everything an event points to lives in the arena that was given to event_decode, or in the value
 * itself: both must live as long as the event. */
#ifndef EMAIL_EVENT_H
#define EMAIL_EVENT_H

#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "email/address.h"

enum {
    EVENT_MAX_MESSAGE_ID = 200,
    EVENT_MAX_TYPE = 64,
    EVENT_MAX_RECIPIENTS = 100,
    EVENT_MAX_JSON_DEPTH = 32,
    EVENT_MAX_SUBJECT = 10000, /* bytes, as all that follow */
    EVENT_MAX_TEMPLATE = 64,
    EVENT_MAX_LOCALE = 35,
    EVENT_MAX_ATTACHMENTS = 100, /* pieces */
    EVENT_MAX_FILENAME = 255,
    EVENT_MAX_CONTENT_TYPE = 255,
    EVENT_MAX_CONTENT_ID = 200,
    EVENT_MAX_HEADERS = 100, /* pieces */
    EVENT_MAX_HEADER_NAME = 64,
    EVENT_MAX_HEADER_VALUE = 8192,
    EVENT_MAX_HEADER_WORD = 900, /* without a space, so that every line can be folded below 998 */
    EVENT_FINGERPRINT_LEN = 32   /* hexadecimal digits */
};

struct address_list {
    struct address *items;
    size_t len;
};

struct attachment {
    struct slice filename;     /* UTF-8 */
    struct slice content_type; /* "type/subtype" with parameters, by RFC 2045's grammar */
    struct slice content;      /* decoded bytes */
    struct slice content_id;   /* without angle brackets; absent: not inline */
};

struct extra_header {
    struct slice name;
    struct slice value; /* UTF-8, one line */
};

struct event {
    struct slice message_id;
    struct slice type;
    struct address_list to, cc, bcc;
    struct address from, reply_to; /* spec.ptr is NULL where absent */
    struct slice subject;          /* absent only where a template is named */
    struct slice text, html;       /* absent or content */
    struct slice template_name;
    struct slice locale, data; /* absent without a template; data: compact JSON, sorted keys */
    struct attachment *attachments;
    size_t attachments_len;
    struct extra_header *headers; /* sorted by name without case: a JSON object has no order */
    size_t headers_len;
    bool has_created_at, has_expires_at;
    int64_t created_at_unix_ms, expires_at_unix_ms;
    const struct address **recipients; /* distinct ones, see event_recipients */
    size_t recipients_len;
    char fingerprint[EVENT_FINGERPRINT_LEN + 1]; /* of what is mailed, see fingerprint.h */
};

enum event_status { EVENT_OK, EVENT_INVALID, EVENT_TOO_LARGE, EVENT_NO_MEMORY };

/* Decodes and validates one record value. value.ptr == NULL (a tombstone) is invalid. On
 * EVENT_INVALID and EVENT_TOO_LARGE err says which field and why, without repeating its content (it
 * ends up in a header and in the log); out->message_id is set where it could be read and is valid
 * by itself, else absent. EVENT_NO_MEMORY says nothing about the event: try again. Bodies are
 * normalised to nothing: text and html are the very bytes of the JSON strings. */
BASE_CHECK enum event_status event_decode(struct arena *arena, struct slice value,
                                          size_t max_event_bytes, struct event *out,
                                          struct error *err);

/* The same for a JSON text that was read already, or need not be: `root` is what reading it gives.
 * Nothing is said of the text's length, and the fingerprint is left empty. */
struct json_in;
BASE_CHECK enum event_status event_decode_tree(struct arena *arena, const struct json_in *root,
                                               struct event *out, struct error *err);

/* The envelope: how many distinct recipients there are, and the i-th of them (to, then cc, then
 * bcc). An address that stands in several places is listed once; the lists themselves are kept as
 * given. */
size_t event_recipients(const struct event *ev);
const struct address *event_recipient(const struct event *ev, size_t i);

#endif
