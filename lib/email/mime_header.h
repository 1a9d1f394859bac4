/* The header fields of a message. Pure. Whatever the values hold, no field can start another: what
 * a field's grammar doesn't take as it is gets encoded. */
#ifndef EMAIL_MIME_HEADER_H
#define EMAIL_MIME_HEADER_H

#include <stdint.h>

#include "base/buf.h"
#include "email/address.h"

/* Unstructured text, UTF-8 (Subject). It reads back to the same text: what folding, unfolding or a
 * decoder would alter (white space at the ends or in runs, long words, "=?") is sent as
 * encoded-words. */
void mime_header_text(struct buf *out, struct slice name, struct slice value);

/* A field whose grammar is not known. ASCII is written as it is, folded at its white space, because
 * encoded-words would break structured fields (List-Unsubscribe, References). Only what cannot be
 * sent otherwise becomes encoded-words: other characters than visible ASCII and blanks, something
 * that looks like an encoded-word, and words that no line can hold. White space around the value
 * means nothing and is dropped. */
void mime_header_raw(struct buf *out, struct slice name, struct slice value);

/* Whether mime_header_raw would write the value as it is. */
bool mime_header_is_raw(struct slice name, struct slice value);

/* An address list (RFC 5322 section 3.4), folded between addresses. A UTF-8 local part is written
 * raw (RFC 6532). */
void mime_header_addresses(struct buf *out, struct slice name, const struct address *items,
                           size_t len);

/* Date (RFC 5322 section 3.3) in UTC; nothing where the time is before 1970 or beyond the year
 * 9999. */
void mime_header_date(struct buf *out, int64_t unix_ms);

#endif
