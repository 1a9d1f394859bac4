/* Character classes of the mail grammars, one table for all encoders, and small things they share.
 * Pure. */
#ifndef EMAIL_MIME_CHARS_H
#define EMAIL_MIME_CHARS_H

#include <stdint.h>

#include "base/buf.h"

enum {
    MIME_ATEXT = 1 << 0,     /* RFC 5322 section 3.2.3: atoms */
    MIME_7BIT_OK = 1 << 1,   /* may stand in a 7bit body: visible, blank, tab */
    MIME_QP_OK = 1 << 2,     /* RFC 2045 section 6.7: stands for itself in quoted-printable */
    MIME_WORD_OK = 1 << 3,   /* RFC 2047 section 4.2: for itself in a Q encoded-word in text */
    MIME_PHRASE_OK = 1 << 4, /* RFC 2047 section 5 (3): the same in a phrase */
    MIME_ATTR_OK = 1 << 5,   /* RFC 2231 section 7, attribute-char */
    MIME_VISIBLE = 1 << 6    /* RFC 5322 VCHAR */
};

extern const uint8_t mime_class[256];
extern const char mime_hex[16]; /* upper case, as RFC 2045 demands */

static inline bool mime_is(char c, unsigned classes)
{
    return (mime_class[(unsigned char)c] & classes) != 0;
}

static inline bool mime_is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Writes lead, then the byte as two hexadecimal digits; returns the new end. */
static inline char *mime_put_hex(char *out, char lead, char byte)
{
    *out++ = lead;
    *out++ = mime_hex[(unsigned char)byte >> 4];
    *out++ = mime_hex[(unsigned char)byte & 15];
    return out;
}

/* Ends a direct write into memory that buf_reserve made room for. */
static inline void mime_commit(struct buf *out, char *end)
{
    out->len = (size_t)(end - out->ptr);
    *end = '\0';
}

/* Bytes of the character at the start of text (not empty); 1 for a byte that belongs to none. */
size_t mime_char_len(struct slice text);

const char *mime_find(struct slice text, const char *what); /* NULL where it isn't there */

#endif
