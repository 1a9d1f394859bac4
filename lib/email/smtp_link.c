#include "email/smtp_link.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <curl/curl.h>

#include "email/smtp_redact.h"
#include "email/smtp_reply.h"

struct smtp_link {
    struct smtp_curl_transfer transfer;
    struct smtp_curl *curl;
    const struct smtp_settings *settings;
    smtp_link_opened_fn opened;
    void *ctx;
    int fd;

    /* What the relay says while libcurl talks to it. */
    struct smtp_reply_parser parser;
    struct smtp_capabilities capabilities;
    enum smtp_stage stage; /* whose reply comes next */
    bool secured;          /* STARTTLS was agreed */
    bool helo_tried, authenticated;
    bool broken; /* what it says is not SMTP */
    char error[CURL_ERROR_SIZE];

    /* A dot and the envelope behind it make one TLS record. After CURLE_AGAIN OpenSSL wants the
     * very same bytes at the same place. */
    char joined[2048];
    size_t joined_len; /* of a record that is to be offered again */
};

static bool given(const char *text)
{
    return text && *text;
}

static bool tls_is_required(const struct smtp_settings *s)
{
    return s->tls == SMTP_TLS_STARTTLS || s->tls == SMTP_TLS_IMPLICIT;
}

/* ---- following the opening by the replies ---- */

static enum smtp_stage after_ehlo(const struct smtp_link *link)
{
    const bool wants_tls =
        link->settings->tls == SMTP_TLS_STARTTLS || link->settings->tls == SMTP_TLS_OPPORTUNISTIC;

    if (wants_tls && !link->secured &&
        (link->capabilities.starttls || link->settings->tls == SMTP_TLS_STARTTLS))
        return STAGE_STARTTLS;
    return given(link->settings->user) ? STAGE_AUTH : STAGE_EHLO;
}

static void follow(struct smtp_link *link, int code)
{
    const bool yes = code / 100 == 2;

    switch (link->stage) {
    case STAGE_BANNER:
        if (yes)
            link->stage = STAGE_EHLO;
        break;
    case STAGE_EHLO:
        if (yes) /* else libcurl tries HELO */
            link->stage = after_ehlo(link);
        break;
    case STAGE_STARTTLS:
        if (yes) {
            link->secured = true;
            link->stage = STAGE_EHLO;
        } else if (link->settings->tls == SMTP_TLS_OPPORTUNISTIC) {
            link->stage = given(link->settings->user) ? STAGE_AUTH : STAGE_EHLO;
        }
        break;
    case STAGE_AUTH: link->authenticated = code == 235; break;
    default: break;
    }
}

/* CURLOPT_HEADERFUNCTION: one line of a reply. Returning less than was given ends the transfer. */
static size_t take_line(char *bytes, size_t size, size_t count, void *ctx)
{
    struct smtp_link *link = ctx;
    struct slice line = slice_of(bytes, size * count);

    smtp_capabilities_line(&link->capabilities, line);
    while (line.len) {
        size_t used;
        const enum smtp_reply_state state = smtp_reply_feed(&link->parser, line, &used);
        line = slice_of(line.ptr + used, line.len - used);
        if (state == SMTP_REPLY_READY)
            follow(link, link->parser.reply.code);
        link->broken = state == SMTP_REPLY_BROKEN;
        if (link->broken)
            return 0;
    }
    return size * count;
}

/* ---- naming a failure ---- */

static enum smtp_stage stage_of(const struct smtp_link *link)
{
    const bool implicit = link->settings->tls == SMTP_TLS_IMPLICIT;
    curl_off_t connected_us = 0, secured_us = 0;
    long port = 0;

    if (link->stage != STAGE_BANNER || link->parser.reply.code)
        return link->stage;
    curl_easy_getinfo(link->transfer.easy, CURLINFO_CONNECT_TIME_T, &connected_us);
    curl_easy_getinfo(link->transfer.easy, CURLINFO_APPCONNECT_TIME_T, &secured_us);
    curl_easy_getinfo(link->transfer.easy, CURLINFO_PRIMARY_PORT, &port);
    /* With implicit TLS, libcurl 7.88 tells the time of connecting only after the handshake. */
    if (!connected_us && !(implicit && port))
        return STAGE_CONNECT;
    return implicit && !secured_us ? STAGE_STARTTLS : STAGE_BANNER;
}

/* libcurl calls it "could not connect" or "could not resolve" too. */
static bool out_of_descriptors(void)
{
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    if (fd >= 0)
        close(fd);
    return fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM);
}

static enum outcome_reason reason_of(const struct smtp_link *link, CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT: return out_of_descriptors() ? REASON_INTERNAL : REASON_REFUSED;
    case CURLE_OPERATION_TIMEDOUT: return REASON_TIMEOUT;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_USE_SSL_FAILED:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS: return REASON_TLS;
    case CURLE_LOGIN_DENIED:
    case CURLE_AUTH_ERROR: return REASON_AUTH;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_REMOTE_ACCESS_DENIED:
        return link->parser.reply.code >= 400 ? REASON_REPLY : REASON_PROTOCOL;
    case CURLE_WRITE_ERROR: return REASON_PROTOCOL; /* our own take_line() */
    case CURLE_OUT_OF_MEMORY:
    case CURLE_FAILED_INIT:
    case CURLE_BAD_FUNCTION_ARGUMENT: return REASON_INTERNAL;
    default: return REASON_LOST;
    }
}

static void add_reply(const struct smtp_link *link, struct outcome *out)
{
    struct smtp_reply reply = link->parser.reply;

    if (!link->parser.complete || reply.code < 400)
        return;
    smtp_redact_login(&reply, link->settings->user, link->settings->password);
    out->code = reply.code;
    memcpy(out->reply, reply.text, reply.len + 1);
}

static void describe_failure(const struct smtp_link *link, CURLcode code, struct outcome *out)
{
    const enum outcome_reason reason = link->broken ? REASON_PROTOCOL : reason_of(link, code);
    const char *what = link->broken                ? "the relay does not speak SMTP"
                       : reason == REASON_INTERNAL ? "out of file descriptors or memory"
                       : link->error[0] && code != CURLE_WRITE_ERROR ? link->error
                                                                     : curl_easy_strerror(code);
    const enum smtp_stage stage = stage_of(link);

    outcome_set(out, OUTCOME_RETRY, reason, stage, "%s (stage %s)", what,
                outcome_stage_name(stage));
    out->relay_down = reason != REASON_INTERNAL;
    add_reply(link, out);
}

void smtp_link_timed_out(const struct smtp_link *link, struct outcome *out)
{
    const enum smtp_stage stage = stage_of(link);

    outcome_set(out, OUTCOME_RETRY, REASON_TIMEOUT, stage,
                "no session with the relay in time (stage %s)", outcome_stage_name(stage));
    out->relay_down = true;
}

/* ---- opening ---- */

static void on_done(void *ctx, int code)
{
    struct smtp_link *link = ctx;
    struct outcome failure;
    curl_socket_t fd = CURL_SOCKET_BAD;

    if (code != CURLE_OK) {
        describe_failure(link, (CURLcode)code, &failure);
        link->opened(link->ctx, &failure);
        return;
    }
    if (given(link->settings->user) && !link->authenticated) {
        /* libcurl goes on without authentication where the relay offers none that it knows. */
        outcome_set(&failure, OUTCOME_RETRY, REASON_AUTH, STAGE_AUTH,
                    "credentials are set, but the relay offers no authentication that fits");
        failure.relay_down = true;
        link->opened(link->ctx, &failure);
        return;
    }
    curl_easy_getinfo(link->transfer.easy, CURLINFO_ACTIVESOCKET, &fd);
    if (fd == CURL_SOCKET_BAD) {
        describe_failure(link, CURLE_RECV_ERROR, &failure);
        link->opened(link->ctx, &failure);
        return;
    }
    link->fd = fd;
    link->opened(link->ctx, NULL);
}

static void set_tls(CURL *easy, const struct smtp_settings *s)
{
    const long verify = tls_is_required(s) ? 1L : 0L;
    const char *ca = given(s->ca_file) ? s->ca_file : curl_version_info(CURLVERSION_NOW)->cainfo;

    curl_easy_setopt(easy, CURLOPT_USE_SSL,
                     s->tls == SMTP_TLS_STARTTLS        ? (long)CURLUSESSL_ALL
                     : s->tls == SMTP_TLS_OPPORTUNISTIC ? (long)CURLUSESSL_TRY
                                                        : (long)CURLUSESSL_NONE);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, verify);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, verify * 2);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    /* Where nothing is verified the certificates need not be parsed, on each connect anew. */
    curl_easy_setopt(easy, CURLOPT_CAINFO, verify ? ca : NULL);
    /* A CA directory beside the file turns libcurl's cache of parsed certificates off: 24 ms of CPU
     * a connect. */
    curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
}

static void set_options(struct smtp_link *link, const char *url)
{
    const struct smtp_settings *s = link->settings;
    CURL *easy = link->transfer.easy;
    /* A bound for libcurl's own waiting; the session's deadline is sooner. */
    const long wait_s = (long)(s->connect_timeout_ms / 1000) + 1;

    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 4096L); /* kept for as long as the connection */
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* not even from the environment */
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, wait_s);
    curl_easy_setopt(easy, CURLOPT_SERVER_RESPONSE_TIMEOUT, wait_s);
    /* Giving up while a name is being resolved must not wait for the resolver's thread. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, link->error);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_line);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, link);
    if (given(s->user)) {
        curl_easy_setopt(easy, CURLOPT_USERNAME, s->user);
        curl_easy_setopt(easy, CURLOPT_PASSWORD, s->password ? s->password : "");
    }
    set_tls(easy, s);
}

struct smtp_link *smtp_link_open(struct smtp_curl *curl, const struct smtp_settings *settings,
                                 const char *url, smtp_link_opened_fn opened, void *ctx,
                                 struct error *err)
{
    struct smtp_link *link = calloc(1, sizeof(*link));

    if (!link) {
        error_set(err, "out of memory");
        return NULL;
    }
    link->curl = curl;
    link->settings = settings;
    link->opened = opened;
    link->ctx = ctx;
    link->fd = -1;
    link->stage = STAGE_BANNER;
    smtp_reply_parser_init(&link->parser);
    link->transfer =
        (struct smtp_curl_transfer){.easy = curl_easy_init(), .done = on_done, .ctx = link};
    if (!link->transfer.easy) {
        error_set(err, "curl_easy_init failed");
        free(link);
        return NULL;
    }
    set_options(link, url);
    if (smtp_curl_add(curl, &link->transfer, err))
        return link;
    curl_easy_cleanup(link->transfer.easy);
    free(link);
    return NULL;
}

void smtp_link_close(struct smtp_link *link)
{
    if (!link)
        return;
    /* With CONNECT_ONLY libcurl neither says QUIT nor waits for an answer to it. */
    smtp_curl_remove(link->curl, &link->transfer);
    curl_easy_cleanup(link->transfer.easy);
    free(link);
}

static bool set_url_parts(CURLU *url, const struct smtp_settings *s)
{
    char host[300], port[16];
    const bool ipv6 = strchr(s->host, ':') && s->host[0] != '[';
    const int len = snprintf(host, sizeof(host), ipv6 ? "[%s]" : "%s", s->host);
    const char *scheme = s->tls == SMTP_TLS_IMPLICIT ? "smtps" : "smtp";

    snprintf(port, sizeof(port), "%u", s->port);
    if (len < 0 || (size_t)len >= sizeof(host) ||
        curl_url_set(url, CURLUPART_SCHEME, scheme, 0) != CURLUE_OK ||
        curl_url_set(url, CURLUPART_HOST, host, 0) != CURLUE_OK ||
        curl_url_set(url, CURLUPART_PORT, port, 0) != CURLUE_OK)
        return false;
    return !given(s->helo_name) ||
           curl_url_set(url, CURLUPART_PATH, s->helo_name, CURLU_URLENCODE) == CURLUE_OK;
}

char *smtp_link_url(const struct smtp_settings *settings, struct error *err)
{
    CURLU *url = curl_url();
    char *text = NULL, *copy = NULL;

    if (!url)
        error_set(err, "out of memory");
    else if (!given(settings->host) || !set_url_parts(url, settings) ||
             curl_url_get(url, CURLUPART_URL, &text, 0) != CURLUE_OK)
        error_set(err, "no address of a relay can be made of its host, port and greeting name");
    else if (!(copy = strdup(text)))
        error_set(err, "out of memory");
    curl_free(text);
    curl_url_cleanup(url);
    return copy;
}

/* ---- once it is open ---- */

int smtp_link_fd(const struct smtp_link *link)
{
    return link->fd;
}

bool smtp_link_may_be_tls(const struct smtp_link *link)
{
    return link->settings->tls != SMTP_TLS_NONE;
}

const struct smtp_capabilities *smtp_link_capabilities(const struct smtp_link *link)
{
    return &link->capabilities;
}

/* libcurl's own send and receive do no more than this where there is no TLS, but one piece at a
 * time. */
static enum smtp_io send_plain(const struct smtp_link *link, const struct slice *pieces, size_t n,
                               size_t *sent)
{
    struct iovec iov[SMTP_LINK_PIECES];
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = n};
    ssize_t rc;

    for (size_t i = 0; i < n; i++)
        iov[i] = (struct iovec){(void *)pieces[i].ptr, pieces[i].len};
    do
        rc = sendmsg(link->fd, &message, MSG_NOSIGNAL);
    while (rc < 0 && errno == EINTR);
    if (rc >= 0)
        *sent = (size_t)rc;
    else if (errno == EAGAIN)
        return SMTP_IO_AGAIN;
    return rc < 0 ? SMTP_IO_FAILED : SMTP_IO_OK;
}

static enum smtp_io receive_plain(const struct smtp_link *link, char *to, size_t cap,
                                  size_t *received)
{
    ssize_t rc;

    do
        rc = recv(link->fd, to, cap, 0);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return errno == EAGAIN ? SMTP_IO_AGAIN : SMTP_IO_FAILED;
    *received = (size_t)rc;
    return rc ? SMTP_IO_OK : SMTP_IO_EOF;
}

static struct slice join(struct smtp_link *link, const struct slice *pieces, size_t n)
{
    if (link->joined_len)
        return slice_of(link->joined, link->joined_len);
    if (n < 2 || pieces[0].len + pieces[1].len > sizeof(link->joined))
        return pieces[0];
    memcpy(link->joined, pieces[0].ptr, pieces[0].len);
    memcpy(link->joined + pieces[0].len, pieces[1].ptr, pieces[1].len);
    return slice_of(link->joined, pieces[0].len + pieces[1].len);
}

static enum smtp_io send_tls(struct smtp_link *link, const struct slice *pieces, size_t n,
                             size_t *sent)
{
    const struct slice bytes = join(link, pieces, n);
    const CURLcode code = curl_easy_send(link->transfer.easy, bytes.ptr, bytes.len, sent);

    link->joined_len = code == CURLE_AGAIN && bytes.ptr == link->joined ? bytes.len : 0;
    if (code == CURLE_AGAIN)
        return SMTP_IO_AGAIN;
    return code == CURLE_OK ? SMTP_IO_OK : SMTP_IO_FAILED;
}

enum smtp_io smtp_link_send(struct smtp_link *link, const struct slice *pieces, size_t n,
                            size_t *sent)
{
    *sent = 0;
    return smtp_link_may_be_tls(link) ? send_tls(link, pieces, n, sent)
                                      : send_plain(link, pieces, n, sent);
}

enum smtp_io smtp_link_receive(struct smtp_link *link, char *to, size_t cap, size_t *received)
{
    *received = 0;
    if (!smtp_link_may_be_tls(link))
        return receive_plain(link, to, cap, received);
    switch (curl_easy_recv(link->transfer.easy, to, cap, received)) {
    case CURLE_OK: return *received ? SMTP_IO_OK : SMTP_IO_EOF;
    case CURLE_AGAIN: return SMTP_IO_AGAIN;
    default: return SMTP_IO_FAILED;
    }
}
