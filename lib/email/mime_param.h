/* Parameters of structured fields (RFC 2045 section 5.1, RFC 2231). Pure. */
#ifndef EMAIL_MIME_PARAM_H
#define EMAIL_MIME_PARAM_H

#include "email/mime_fold.h"

/* Writes ";" and the parameter with a UTF-8 value: as a quoted string where it is short ASCII, else
 * in RFC 2231's percent encoding, split into numbered sections where it is long. name: at most 16
 * characters. */
void mime_param_write(struct mime_fold *f, const char *name, struct slice value);

#endif
