/* Writing JSON text (RFC 8259) into a buffer. Strings are escaped so that the result is one line of
 * valid UTF-8: control characters (C1 and direction marks too) become \uXXXX, ill-formed UTF-8
 * becomes U+FFFD. Failure is the buffer's. */
#ifndef BASE_JSON_OUT_H
#define BASE_JSON_OUT_H

#include "base/buf.h"

/* With its quotes; an absent slice is null. False where it was ill-formed. */
bool json_out_string(struct buf *b, struct slice text);

/* `"name":`, with a comma before it unless the last byte opens an object or an array. */
void json_out_name(struct buf *b, const char *name);
void json_out_comma(struct buf *b); /* a comma unless the last byte is { [ : or , or b is empty */

/* JSON text of somebody else's writing, with the same characters escaped. */
void json_out_json(struct buf *b, struct slice json);

/* Shorthands: name and value. */
void json_out_field_str(struct buf *b, const char *name, struct slice value);
void json_out_field_i64(struct buf *b, const char *name, int64_t value);
void json_out_field_bool(struct buf *b, const char *name, bool value);

#endif
