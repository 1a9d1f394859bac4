/* Whether the relay would take mails from us: opens one session (resolve, connect, TLS, greeting,
 * EHLO, login) and says QUIT, without a mail. Blocking, on a loop of its own: for tools. */
#ifndef EMAIL_SMTP_PROBE_H
#define EMAIL_SMTP_PROBE_H

#include "email/smtp_capabilities.h"
#include "email/transport.h"

struct smtp_probe_result {
    bool open;                             /* the session came as far as a first MAIL would */
    struct outcome failure;                /* why not; says nothing where it is open */
    struct smtp_capabilities capabilities; /* what the relay offered last */
};

/* Bounded by settings->connect_timeout_ms. False where the probe itself failed (memory, epoll). */
BASE_CHECK bool smtp_probe(const struct smtp_settings *settings, struct smtp_probe_result *result,
                           struct error *err);

#endif
