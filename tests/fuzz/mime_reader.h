/* A small reader of mail (RFC 5322, 2045–2047, 2231), written for the fuzz targets alone and
 * sharing no code with the composer, so that the two don't err in the same way. It understands all
 * that a composer may write, strictly: what it cannot read is a finding. */
#ifndef FUZZ_MIME_READER_H
#define FUZZ_MIME_READER_H

#include "base/arena.h"

enum { MIME_READER_MAX_HEADERS = 160, MIME_READER_MAX_PARTS = 128 };

struct mime_field {
    struct slice name, value; /* unfolded, without the blank behind the colon */
};

struct mime_entity {
    struct mime_field headers[MIME_READER_MAX_HEADERS];
    size_t headers_len;
    struct slice body;
};

struct mime_mailbox {
    struct slice name, spec; /* decoded */
};

/* Aborts unless every line ends with CRLF, holds no other CR or LF and no NUL, is at most 998
 * octets long and, but for `utf8`, is 7-bit. */
void mime_check_wire(struct slice bytes, bool utf8);

/* Splits into header fields and body; false where a line is no header field. */
bool mime_parse(struct arena *arena, struct slice bytes, struct mime_entity *out);

/* The only field of that name (case counts for nothing); absent where there is none. More than one
 * aborts. */
struct slice mime_field(const struct mime_entity *entity, const char *name);

/* Encoded-words decoded, the white space between two of them dropped. */
struct slice mime_decode_words(struct arena *arena, struct slice value);

/* How many mailboxes; aborts where the list is ill-formed or has more than `max`. */
size_t mime_mailboxes(struct arena *arena, struct slice value, struct mime_mailbox *out,
                      size_t max);

/* A parameter of a structured field: token, quoted string or RFC 2231; absent where it is not
 * there. */
struct slice mime_parameter(struct arena *arena, struct slice value, const char *name);

/* The body without its transfer encoding. */
struct slice mime_decode_body(struct arena *arena, const struct mime_entity *entity);

/* The parts of a multipart body; aborts where it is not one or does not end with its boundary. */
size_t mime_parts(struct arena *arena, const struct mime_entity *entity, struct slice *parts,
                  size_t max);

#endif
