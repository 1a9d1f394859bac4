/* Composing the message (RFC 5322, MIME) from an event. Pure and deterministic: the same event and
 * settings give the same bytes on every attempt, on every machine, so that a copy sent twice is
 * byte-identical. Hence no clock, no randomness, and 7-bit transfer encodings whatever the relay
 * offers. */
#ifndef EMAIL_MESSAGE_H
#define EMAIL_MESSAGE_H

#include "base/buf.h"
#include "email/event.h"

struct message_settings {
    struct address from; /* the default sender with its display name: SMTP_FROM, SMTP_FROM_NAME */
};

struct message {
    struct buf bytes; /* header and body, CRLF line ends, ends with CRLF, not dot-stuffed */
    const struct address *from; /* envelope sender: the event's, else the default; borrowed */
    bool utf8;                  /* SMTPUTF8 (RFC 6531) is needed */
};

void message_init(struct message *m);
void message_cleanup(struct message *m);

/* Composes into m (which is cleared first and keeps its memory). date_unix_ms is the Date header
 * (the event's createdAt, else the record's timestamp); negative or beyond the year 9999: no Date
 * header, the relay adds one. The event must have text or html (a template must be filled in
 * before), and there must be a sender: false where that is not so, or where memory is out; m then
 * holds nothing to be sent. m->from points into ev or settings.
 *
 * Text and html read back as they were given, but for line ends: LF and CRLF are both CRLF on the
 * wire. A plain ASCII text that ends the message gets the line end that it lacks (mime_body.h).
 * Attachments read back byte for byte. */
BASE_CHECK bool message_compose(struct message *m, const struct event *ev,
                                const struct message_settings *settings, int64_t date_unix_ms,
                                struct error *err);

/* "<…@domain>": a pure, injective function of the messageID and the sender's domain
 * (docs/event.md). What RFC 5322 doesn't allow in the left side, "%", and "=" before "?" (loose
 * decoders see encoded-words everywhere) is written as %XX. */
void message_id_header(struct slice message_id, struct slice domain, struct buf *out);

#endif
