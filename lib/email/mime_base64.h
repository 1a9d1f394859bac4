/* base64 (RFC 2045 section 6.8). Pure. */
#ifndef EMAIL_MIME_BASE64_H
#define EMAIL_MIME_BASE64_H

#include "base/buf.h"

static inline size_t mime_base64_len(size_t bytes)
{
    return (bytes + 2) / 3 * 4;
}

/* Encodes without line breaks into mime_base64_len(len) bytes of out; returns the new end. */
char *mime_base64_put(char *out, const char *bytes, size_t len);

/* Bytes as they are, in lines of 76 characters, CRLF between the lines and not after the last. */
void mime_base64_bytes(struct buf *out, struct slice bytes);

/* The same for text, whose line ends (LF or CRLF) are brought to CRLF first, as RFC 2045
 * section 6.8 demands. */
void mime_base64_text(struct buf *out, struct slice text);

#endif
