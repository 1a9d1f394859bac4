/* Text bodies in the transfer encoding that suits them, always 7-bit on the wire. Pure.
 *
 * A body's last line end: within a multipart, the line end before the boundary belongs to the
 * boundary (RFC 2046 section 5.1.1), so a text without one comes back without one. A body that ends
 * the message has to end with a line end: in quoted-printable a text without one ends with a soft
 * line break, in base64 the line end is outside the data, and a text that is fit for 7bit gets one,
 * rather than be encoded for its sake alone. So every text comes back exactly, but for LF that
 * became CRLF and that one line end. */
#ifndef EMAIL_MIME_BODY_H
#define EMAIL_MIME_BODY_H

#include "base/buf.h"

enum { MIME_MAX_7BIT_LINE = 996 /* 998 with its CRLF */ };

/* What boundaries start with; neither quoted-printable nor base64 can hold it ("=" is always
 * followed by a hexadecimal digit, CR, "=" or the end), and no 7bit body has a line that starts
 * with "--" and this. */
#define MIME_BOUNDARY_START "=_"

enum mime_encoding { MIME_7BIT, MIME_QUOTED_PRINTABLE, MIME_BASE64 };

enum mime_position { MIME_WITHIN_MULTIPART, MIME_ENDS_MESSAGE };

struct mime_text_plan {
    enum mime_encoding encoding;
    size_t encoded; /* bytes that quoted-printable has to encode */
    size_t lines;
};

/* 7bit where nothing on the way can alter the text; else quoted-printable or base64, whichever is
 * shorter. */
struct mime_text_plan mime_plan_text(struct slice text);

void mime_write_text(struct buf *out, struct slice text, const struct mime_text_plan *plan,
                     enum mime_position position);

/* The value of Content-Transfer-Encoding. */
const char *mime_encoding_name(enum mime_encoding encoding);

#endif
