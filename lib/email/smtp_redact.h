/* A relay's reply may repeat what it was told: addresses, the subject, pieces of the body, a code,
 * even the login. Replies end up in dead letters and in error texts, so this takes such pieces out
 * and leaves "<redacted>". Pure.
 *
 * Hidden are: whatever looks like an address; every run of REDACT_RUN characters or more that
 * stands in a private text too, upper and lower case being the same; a private text that is shorter
 * than that, where it stands as a word; and words with a digit in them (codes) that a private text
 * holds. The reply code, and the enhanced status codes, always stay. */
#ifndef EMAIL_SMTP_REDACT_H
#define EMAIL_SMTP_REDACT_H

#include "email/smtp_reply.h"
#include "email/transport.h"

enum { REDACT_RUN = 12 };

/* Of a reply to a mail's transaction: envelope, subject, bodies and the message as it went out. */
void smtp_redact_mail(struct smtp_reply *reply, const struct mail *mail);

/* Of a reply while the session is opened: user and password, also in base64, and any long word that
 * might be base64. Either may be NULL. */
void smtp_redact_login(struct smtp_reply *reply, const char *user, const char *password);

#endif
