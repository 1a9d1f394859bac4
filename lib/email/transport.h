/* Handing a mail to the relay (or to the log): one interface, two backends.
 *
 * The caller keeps every slice of a mail alive until `finished`. Callbacks run on the loop's
 * thread, never before transport_send returns, and `finished` runs exactly once for every mail,
 * last. After it the delivery is gone. Not thread-safe. */
#ifndef EMAIL_TRANSPORT_H
#define EMAIL_TRANSPORT_H

#include <stdint.h>

#include "base/loop.h"
#include "base/slice.h"
#include "email/outcome.h"

struct mail {
    struct slice sender;            /* envelope sender, without angle brackets */
    const struct slice *recipients; /* envelope recipients, likewise; at least one */
    size_t recipients_len;
    struct slice message; /* CRLF line ends, not dot-stuffed */
    bool utf8;            /* needs SMTPUTF8 and 8BITMIME */
    bool last_attempt;    /* a recipient refused with 4xx counts as refused for good */
    /* For the log transport's line, as the event has them; absent where it has none. */
    struct slice message_id, type, subject, text, html;
};

struct delivery; /* one mail under way */

struct delivery_callbacks {
    /* The body is with the relay and only the final dot is missing: the caller puts up its fence
     * and then calls transport_dot(delivery, true | false), from here or later. May be NULL (then
     * the dot goes at once). */
    void (*before_dot)(void *ctx, struct delivery *delivery);
    void (*finished)(void *ctx, const struct outcome *outcome);
};

struct transport_state {
    bool up;                         /* false: the relay as a whole is failing (breaker open) */
    unsigned idle, busy, connecting; /* sessions */
    uint64_t sessions_opened;
    unsigned waiting; /* mails that wait for a session */
    char error[256];  /* why it is down; "" while up */
};

struct transport;

struct transport_ops {
    struct delivery *(*send)(struct transport *t, const struct mail *mail,
                             const struct delivery_callbacks *callbacks, void *ctx);
    void (*dot)(struct delivery *d, bool go);
    bool (*cancel)(struct delivery *d);
    void (*state)(const struct transport *t, struct transport_state *out);
    void (*shutdown)(struct transport *t);
    void (*destroy)(struct transport *t);
};

struct transport { /* first member of each backend */
    const struct transport_ops *ops;
};

/* Starts a delivery. NULL only where memory is out (no callback then). While the relay is in outage
 * one mail at a time probes it; every other one comes back soon as OUTCOME_RETRY with
 * REASON_OUTAGE, without having been tried. */
struct delivery *transport_send(struct transport *t, const struct mail *mail,
                                const struct delivery_callbacks *callbacks, void *ctx);

/* The answer to before_dot: go, or drop the connection (then OUTCOME_CANCELLED with REASON_FENCE).
 */
void transport_dot(struct delivery *d, bool go);

/* Gives a delivery up. True: it had not reached its final dot; `finished` follows with
 * OUTCOME_CANCELLED, never from inside this call. False: the dot is on its way, the true outcome
 * follows. */
bool transport_cancel(struct delivery *d);

void transport_state(const struct transport *t, struct transport_state *out);

/* Closes idle sessions politely (QUIT) and opens no new ones; deliveries under way go on. */
void transport_shutdown(struct transport *t);
void transport_destroy(
    struct transport *t); /* drops what is left, without callbacks; NULL is fine */

/* Tells the transport's owner that `up` changed, or that a mail finished (state worth another
 * look). */
typedef void (*transport_changed_fn)(void *ctx);

/* ---- backends ---- */

enum smtp_tls { SMTP_TLS_NONE, SMTP_TLS_OPPORTUNISTIC, SMTP_TLS_STARTTLS, SMTP_TLS_IMPLICIT };

struct smtp_settings { /* strings are borrowed and must outlive the transport */
    const char *host;
    unsigned port;
    const char *user, *password; /* NULL or "": no authentication */
    enum smtp_tls tls;
    const char *ca_file;   /* NULL or "": the system's store */
    const char *helo_name; /* what we call ourselves; NULL: the host's name */
    unsigned max_connections;
    uint64_t connect_timeout_ms; /* resolve, connect, TLS, greeting, EHLO, AUTH, all together */
    uint64_t timeout_ms;         /* for each stage of a transaction, in all */
    uint64_t idle_timeout_ms;    /* an unused session is closed after it */
    unsigned messages_per_connection; /* 0: no bound */
    uint64_t mails_per_second;        /* begun, over all connections; 0: no bound */
    unsigned breaker_failures;        /* this many failures in a row open the breaker */
    transport_changed_fn changed;     /* may be NULL */
    void *changed_ctx;
};

BASE_CHECK struct transport *
smtp_transport_new(struct loop *loop, const struct smtp_settings *settings, struct error *err);

/* Writes each mail to the log (level info, msg "Email", with recipients, subject header and the
 * message's text) and counts it as sent once stdout has taken the line. before_dot is honoured
 * likewise. */
BASE_CHECK struct transport *log_transport_new(struct loop *loop, struct error *err);

#endif
