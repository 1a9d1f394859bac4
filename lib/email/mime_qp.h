/* quoted-printable (RFC 2045 section 6.7) for text. Pure. */
#ifndef EMAIL_MIME_QP_H
#define EMAIL_MIME_QP_H

#include "base/buf.h"

/* The next line of a text, cut off its start. */
struct mime_text_line {
    struct slice text; /* without the line end */
    bool ended;        /* by LF or CRLF; false only for what follows the last line end */
};

/* False where nothing is left. A CR that no LF follows belongs to the line. */
bool mime_next_line(struct slice *rest, struct mime_text_line *line);

/* Whether this text at the start of a line would be altered on the way: a dot that SMTP has to
 * stuff (RFC 5321 section 4.5.2), or "From " that mailboxes write as ">From ". */
bool mime_line_start_is_unsafe(struct slice text);

/* Line ends become CRLF; a lone CR and all other control characters are encoded, and so is whatever
 * a relay could alter: blanks at line ends, a dot or "From " at line starts. No output line exceeds
 * 76 characters. Where the text does not end with a line end, neither does the output; with
 * soft_end it then ends with a soft line break, which closes the line and decodes to nothing.
 * encoded: how many bytes of the lines are not MIME_QP_OK; lines: how many lines there are, both
 * from mime_next_line. */
void mime_qp_text(struct buf *out, struct slice text, size_t encoded, size_t lines, bool soft_end);

#endif
