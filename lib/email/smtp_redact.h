/* A relay's reply may repeat what it was told: addresses, the subject, pieces of the body, a code,
 * even the login. Replies end up in dead letters and in error texts, so this takes such pieces out
 * and leaves "<redacted>". Pure.
 *
 * Hidden are: whatever looks like an address; what the reply has in common with a private text,
 * upper and lower case being the same; a private text shorter than REDACT_RUN, where it stands as a
 * word; and words with a digit in them (codes) that a private text holds. In common means:
 * REDACT_RUN characters with an address or a login; as many in whole words, or REDACT_NEAR, with
 * the subject or a header field; REDACT_FAR with a body, since relays and mails use the same
 * phrases, or REDACT_RUN that are no plain words (a file's name, a link). The reply code, the
 * enhanced status codes and, but in addresses, the sender's domain always stay. */
#ifndef EMAIL_SMTP_REDACT_H
#define EMAIL_SMTP_REDACT_H

#include "email/smtp_reply.h"
#include "email/transport.h"

enum { REDACT_RUN = 12, REDACT_NEAR = 16, REDACT_FAR = 24 };

/* Of a reply to a mail's transaction: envelope, subject, bodies and the message as it went out.
 * Takes time in proportion to the texts, whatever they are. Returns the steps of the search: no
 * more than two for each character, escaped as in replies. */
size_t smtp_redact_mail(struct smtp_reply *reply, const struct mail *mail);

/* All but the codes. */
void smtp_redact_whole(struct smtp_reply *reply);

/* Of a reply while the session is opened: user and password, also in base64, and any long word that
 * might be base64. Either may be NULL. */
void smtp_redact_login(struct smtp_reply *reply, const char *user, const char *password);

#endif
