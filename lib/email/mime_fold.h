/* Writing one header field, folded (RFC 5322 section 2.2.3) at the column that section 2.1.1
 * recommends. Pure.
 *
 * The first token always stands on the field's first line: many parsers (Python's among them) take
 * the white space of a fold right after the colon for part of the value. */
#ifndef EMAIL_MIME_FOLD_H
#define EMAIL_MIME_FOLD_H

#include "base/buf.h"

enum {
    MIME_MAX_LINE = 996, /* 998 with its CRLF */
    MIME_FOLD_COLUMN =
        76 /* RFC 2047 section 2's limit for lines with encoded-words, and below RFC 5322's 78 */
};

struct mime_fold {
    struct buf *out;
    size_t line; /* where in out the current line starts */
    bool empty;  /* no token yet */
};

/* "Name:" */
struct mime_fold mime_fold_begin(struct buf *out, struct slice name);
size_t mime_fold_column(const struct mime_fold *f);

/* White space and a token; the white space becomes a fold where the token would end beyond the
 * column. */
void mime_fold_spaced(struct mime_fold *f, struct slice space, struct slice token);
void mime_fold_token(struct mime_fold *f, struct slice token); /* with a single space */

void mime_fold_break(struct mime_fold *f); /* ends the line; white space has to follow */
void mime_fold_end(struct mime_fold *f);

#endif
