/* One connection to the relay, opened by libcurl (resolve, connect, TLS or STARTTLS, EHLO, AUTH)
 * and then ours to talk over. Never blocks.
 *
 * What the modes of smtp_settings.tls promise: STARTTLS and IMPLICIT verify the relay's certificate
 * and host name or fail. OPPORTUNISTIC takes TLS where it is offered and verifies nothing: whoever
 * can forge a certificate can take STARTTLS away as well, so refusing would cost delivery and win
 * nothing (RFC 7435). It protects the mail, and the credentials, from listeners only. NONE never
 * uses TLS, and sends credentials in clear. */
#ifndef EMAIL_SMTP_LINK_H
#define EMAIL_SMTP_LINK_H

#include "base/slice.h"
#include "email/smtp_capabilities.h"
#include "email/smtp_curl.h"
#include "email/transport.h"

struct smtp_link;

/* failure is NULL where the link is open, else why not (OUTCOME_RETRY); then only smtp_link_close
 * is left to do. */
typedef void (*smtp_link_opened_fn)(void *ctx, const struct outcome *failure);

/* The address to connect to, from host, port, TLS mode and name to greet with; an owned string. */
BASE_CHECK char *smtp_link_url(const struct smtp_settings *settings, struct error *err);

/* `opened` is called once, never from inside this call. NULL where memory is out. */
BASE_CHECK struct smtp_link *smtp_link_open(struct smtp_curl *curl,
                                            const struct smtp_settings *settings, const char *url,
                                            smtp_link_opened_fn opened, void *ctx,
                                            struct error *err);
void smtp_link_close(struct smtp_link *link); /* at once, without a QUIT; NULL is fine */

/* What to call it that opening it took too long: OUTCOME_RETRY, and the stage that it had reached.
 */
void smtp_link_timed_out(const struct smtp_link *link, struct outcome *out);

/* ---- once it is open ---- */

int smtp_link_fd(const struct smtp_link *link); /* for watching only */
bool smtp_link_may_be_tls(const struct smtp_link *link);
const struct smtp_capabilities *smtp_link_capabilities(const struct smtp_link *link);

enum smtp_io { SMTP_IO_OK, SMTP_IO_AGAIN, SMTP_IO_EOF, SMTP_IO_FAILED };

/* Pieces of output, one behind the other; at least one, and none empty. *sent may end anywhere.
 * After SMTP_IO_AGAIN the same bytes must be offered again, at least as many. */
enum { SMTP_LINK_PIECES = 2 };
enum smtp_io smtp_link_send(struct smtp_link *link, const struct slice *pieces, size_t n,
                            size_t *sent);

/* With TLS, data may be waiting that the fd does not show: read until SMTP_IO_AGAIN. */
enum smtp_io smtp_link_receive(struct smtp_link *link, char *to, size_t cap, size_t *received);

#endif
