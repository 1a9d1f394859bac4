/* Mail addresses (RFC 5321 section 4.1.2, RFC 5322 section 3.4, RFC 6531 for UTF-8 local parts, RFC
 * 5890 for domains). Pure. libidn2 turns domains into A-labels. */
#ifndef EMAIL_ADDRESS_H
#define EMAIL_ADDRESS_H

#include "base/arena.h"
#include "base/error.h"

enum {
    ADDRESS_MAX_LOCAL = 64,
    ADDRESS_MAX_DOMAIN = 253,
    ADDRESS_MAX = 254,
    ADDRESS_MAX_NAME = 255
};

struct address {
    struct slice name; /* display name as given, UTF-8; empty where there is none */
    struct slice
        spec; /* "local@domain" as sent: domain in lower case A-labels, local part untouched */
    size_t local_len; /* bytes of spec before the last "@" */
    bool utf8_local;  /* the local part is not ASCII: the relay must offer SMTPUTF8 */
};

enum address_status {
    ADDRESS_OK,
    ADDRESS_INVALID,
    ADDRESS_NO_MEMORY /* says nothing about the address: try again */
};

/* Parses `a@example.com`, `Name <a@example.com>` or `"Quoted, name" <a@example.com>`. Refuses CR,
 * LF, NUL and other control characters, ill-formed UTF-8, source routes, groups, comments and
 * domain literals. An unquoted name may hold anything printable but "<" and ">". The result's
 * slices live in the arena (an empty name is static). err says why without repeating the text. */
BASE_CHECK enum address_status address_read(struct arena *arena, struct slice text,
                                            struct address *out, struct error *err);

/* The same for the parts of `{"email": …, "name": …}`; name may be absent. */
BASE_CHECK enum address_status address_read_parts(struct arena *arena, struct slice email,
                                                  struct slice name, struct address *out,
                                                  struct error *err);

/* The same two for who doesn't care why: true is ADDRESS_OK. */
BASE_CHECK bool address_parse(struct arena *arena, struct slice text, struct address *out,
                              struct error *err);
BASE_CHECK bool address_from_parts(struct arena *arena, struct slice email, struct slice name,
                                   struct address *out, struct error *err);

struct slice address_domain(const struct address *a);

#endif
