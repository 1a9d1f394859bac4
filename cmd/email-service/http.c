#include "http.h"

#include "base/clock.h"
#include "base/log.h"
#include "http_listen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

enum {
    MAX_CONNECTIONS = 256,
    REQUEST_TIMEOUT_MS = 5000,
    IDLE_TIMEOUT_MS = 10000,
    ACCEPTS_A_TICK = 32,
    /* However many connections and requests come, the loop belongs to the mails: beyond so much
     * work HTTP rests, twice as long as it has worked. */
    WORK_US = 5000,
    REST_SHARE = 2,
    MAX_REST_MS = 50,
    ACCEPT_PAUSE_MS = 100,     /* while file descriptors or memory are out */
    CONNECTION_MEMORY = 16384, /* of libmicrohttpd, request line and headers included */
    MAX_DISCARDED_BODY = 65536
};

struct client_list;

/* One connection. It belongs to libmicrohttpd, which tells us of its beginning and its end. */
struct client {
    struct client *prev, *next;
    struct client_list *list; /* NULL once it was shut down */
    int fd;
    bool served; /* a request was answered before */
    uint64_t deadline_ms;
    size_t discarded; /* bytes of the present request's body */
};

/* In the order of deadlines, which is that of entering, as all clients of a list get the same time.
 */
struct client_list {
    struct client *first, *last;
};

struct http {
    struct loop *loop;
    struct MHD_Daemon *daemon;
    http_answer_fn answer;
    void *ctx;
    struct http_limits limits;
    int listen_fd;
    unsigned port;
    struct loop_fd listen_watch, daemon_watch;
    struct loop_timer run_timer, deadline_timer, accept_timer, rest_timer;
    bool resting;
    uint64_t work_us, work_noted_us; /* work that is not rested from yet, as of then */
    struct client_list asking, idle; /* a request is awaited or under way; between two requests */
    unsigned connections;            /* in both lists */
};

/* ---- deadlines ---- */

static void client_unlink(struct http *h, struct client *c)
{
    if (!c->list)
        return;
    *(c->prev ? &c->prev->next : &c->list->first) = c->next;
    *(c->next ? &c->next->prev : &c->list->last) = c->prev;
    c->prev = c->next = NULL;
    c->list = NULL;
    h->connections--;
}

static void client_enter(struct http *h, struct client *c, struct client_list *list,
                         uint64_t timeout_ms)
{
    client_unlink(h, c);
    c->deadline_ms = loop_now_ms(h->loop) + timeout_ms;
    c->list = list;
    c->prev = list->last;
    *(list->last ? &list->last->next : &list->first) = c;
    list->last = c;
    h->connections++;
}

/* libmicrohttpd sees the end of the connection the next time it runs, and closes it. */
static void client_cut(struct http *h, struct client *c)
{
    client_unlink(h, c);
    (void)shutdown(c->fd, SHUT_RDWR);
}

static const struct client *next_due(const struct http *h)
{
    const struct client *a = h->asking.first, *b = h->idle.first;

    if (!a || !b)
        return a ? a : b;
    return a->deadline_ms <= b->deadline_ms ? a : b;
}

static void arm_deadline(struct http *h)
{
    const struct client *c = next_due(h);
    uint64_t now_ms = loop_now_ms(h->loop);

    if (!c)
        loop_timer_stop(h->loop, &h->deadline_timer);
    else
        loop_timer_start(h->loop, &h->deadline_timer,
                         c->deadline_ms > now_ms ? c->deadline_ms - now_ms : 0);
}

/* ---- rest ---- */

static void watch(struct http *h, struct loop_fd *w, bool on)
{
    if (!loop_fd_change(h->loop, w, on ? EPOLLIN : 0))
        log_error("epoll failed for the HTTP port", LOG_STR("error", strerror(errno)));
}

static void note_work(struct http *h, uint64_t begin_us)
{
    const uint64_t most_us = (uint64_t)MAX_REST_MS * 1000 / REST_SHARE;
    const uint64_t now_us = clock_monotonic_us();
    const uint64_t rested_us = (begin_us - h->work_noted_us) / REST_SHARE;

    h->work_us = (h->work_us > rested_us ? h->work_us - rested_us : 0) + (now_us - begin_us);
    h->work_us = h->work_us < most_us ? h->work_us : most_us;
    h->work_noted_us = now_us;
    if (h->resting || h->work_us < WORK_US)
        return;
    h->resting = true;
    watch(h, &h->listen_watch, false);
    watch(h, &h->daemon_watch, false);
    loop_timer_stop(h->loop, &h->run_timer);
    loop_timer_start(h->loop, &h->rest_timer, h->work_us * REST_SHARE / 1000);
}

/* ---- driving libmicrohttpd ---- */

static void run(struct http *h)
{
    const uint64_t begin_us = clock_monotonic_us();
    MHD_UNSIGNED_LONG_LONG timeout_ms;

    if (MHD_run(h->daemon) != MHD_YES)
        log_error("libmicrohttpd failed to run");
    if (MHD_get_timeout(h->daemon, &timeout_ms) != MHD_YES || h->resting)
        loop_timer_stop(h->loop, &h->run_timer);
    else
        loop_timer_start(h->loop, &h->run_timer, timeout_ms);
    arm_deadline(h);
    note_work(h, begin_us);
}

static void on_rest_timer(void *ctx)
{
    struct http *h = ctx;

    h->resting = false;
    watch(h, &h->daemon_watch, true);
    watch(h, &h->listen_watch, !loop_timer_running(&h->accept_timer));
    run(h);
}

static void on_daemon(void *ctx, uint32_t events)
{
    (void)events;
    run(ctx);
}

static void on_run_timer(void *ctx)
{
    run(ctx);
}

static void on_deadline(void *ctx)
{
    struct http *h = ctx;
    const struct client *c;

    while ((c = next_due(h)) && c->deadline_ms <= loop_now_ms(h->loop))
        client_cut(h, c->list->first);
    run(h);
}

/* ---- taking connections ----
 * We accept them, not libmicrohttpd: at its limit it would leave new ones in the backlog, behind
 * however many clients that stall. */

static void make_room(struct http *h)
{
    client_cut(h, h->idle.first ? h->idle.first : h->asking.first);
}

static void on_accept_timer(void *ctx)
{
    struct http *h = ctx;

    watch(h, &h->listen_watch, !h->resting);
}

/* The listening socket stays readable while nothing can be accepted, so looking away saves a busy
 * loop. */
static void pause_accepting(struct http *h, int reason)
{
    log_warn("HTTP connections cannot be accepted for the moment",
             LOG_STR("error", strerror(reason)));
    if (h->connections)
        make_room(h);
    loop_timer_start(h->loop, &h->accept_timer, ACCEPT_PAUSE_MS);
    watch(h, &h->listen_watch, false);
}

static bool accept_one(struct http *h)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    int fd = accept4(h->listen_fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            pause_accepting(h, errno);
        /* What is left are EAGAIN and clients that went away while they waited. */
        return errno == ECONNABORTED || errno == EINTR || errno == EPROTO;
    }
    while (h->connections >= h->limits.max_connections)
        make_room(h);
    /* On failure the socket has been closed for us. */
    if (MHD_add_connection(h->daemon, fd, (struct sockaddr *)&address, len) != MHD_YES)
        log_warn("An HTTP connection was refused", LOG_STR("error", strerror(errno)));
    return true;
}

static void on_listen(void *ctx, uint32_t events)
{
    struct http *h = ctx;
    const uint64_t begin_us = clock_monotonic_us();

    (void)events;
    for (unsigned i = 0; i < ACCEPTS_A_TICK && accept_one(h); i++)
        ;
    note_work(h, begin_us);
    run(h);
}

static void on_connection(void *ctx, struct MHD_Connection *connection, void **slot,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http *h = ctx;
    struct client *c = *slot;
    const union MHD_ConnectionInfo *info;

    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (c)
            client_unlink(h, c);
        free(c);
        *slot = NULL;
        return;
    }
    info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    c = calloc(1, sizeof(*c));
    if (!c || !info) {
        /* A connection without a deadline must not live. */
        if (info)
            (void)shutdown(info->connect_fd, SHUT_RDWR);
        free(c);
        return;
    }
    c->fd = info->connect_fd;
    *slot = c;
    client_enter(h, c, &h->asking, h->limits.request_timeout_ms);
}

/* ---- requests ---- */

static void fill_error(struct http_answer *a, unsigned status, const char *text)
{
    a->status = status;
    a->content_type = "application/json";
    buf_clear(&a->body);
    buf_addf(&a->body, "{\"error\":\"%s\"}\n", text);
}

/* RFC 9112 section 3.2.2: a server must accept "GET http://host/path" too. */
static const char *path_of(const char *url)
{
    const char *path;

    if (strncasecmp(url, "http://", 7) != 0)
        return url;
    path = strchr(url + 7, '/');
    return path ? path : "/";
}

static void fill_answer(struct http *h, const char *url, const char *method, struct http_answer *a)
{
    h->answer(h->ctx, path_of(url), a);
    if (a->body.failed)
        fill_error(a, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
    else if (a->status == 0)
        fill_error(a, MHD_HTTP_NOT_FOUND, "not found");
    else if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        fill_error(a, MHD_HTTP_METHOD_NOT_ALLOWED, "method not allowed");
}

static bool add_headers(struct MHD_Response *r, const struct http_answer *a, bool close_after)
{
    /* The pages are for eyes and programs, never to be framed, cached or made to load anything. */
    static const char policy[] = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
                                 "form-action 'none'; frame-ancestors 'none'";

    if (a->status == MHD_HTTP_METHOD_NOT_ALLOWED &&
        MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD") != MHD_YES)
        return false;
    if (close_after && MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close") != MHD_YES)
        return false;
    return MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, a->content_type) == MHD_YES &&
           MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") == MHD_YES &&
           MHD_add_response_header(r, "X-Content-Type-Options", "nosniff") == MHD_YES &&
           MHD_add_response_header(r, "Referrer-Policy", "no-referrer") == MHD_YES &&
           MHD_add_response_header(r, "Content-Security-Policy", policy) == MHD_YES;
}

/* MHD_NO closes the connection without an answer, for want of memory for one. */
static enum MHD_Result reply(struct http *h, struct MHD_Connection *connection, const char *url,
                             const char *method, bool close_after)
{
    struct http_answer a = {0};
    struct MHD_Response *r = NULL;
    enum MHD_Result result = MHD_NO;

    fill_answer(h, url, method, &a);
    if (a.body.ptr && !a.body.failed)
        r = MHD_create_response_from_buffer(a.body.len, a.body.ptr, MHD_RESPMEM_MUST_FREE);
    if (!r) {
        buf_cleanup(&a.body);
        return MHD_NO;
    }
    /* The body is the response's from here on. */
    if (add_headers(r, &a, close_after))
        result = MHD_queue_response(connection, a.status, r);
    MHD_destroy_response(r);
    return result;
}

static bool body_is_large(struct MHD_Connection *connection)
{
    const char *length =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);

    return length && strtoull(length, NULL, 10) > MAX_DISCARDED_BODY;
}

/* libmicrohttpd's three steps: headers, any number of body pieces, end. */
static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_len, void **slot)
{
    struct http *h = ctx;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct client *c = info ? info->socket_context : NULL;

    (void)version;
    (void)upload;
    if (!c || !c->list)
        return MHD_NO; /* it was cut */
    if (!*slot) {
        *slot = c;
        c->discarded = 0;
        if (c->served)
            client_enter(h, c, &h->asking, h->limits.request_timeout_ms);
        return body_is_large(connection) ? reply(h, connection, url, method, true) : MHD_YES;
    }
    if (*upload_len) {
        if (*upload_len > MAX_DISCARDED_BODY - c->discarded)
            return MHD_NO;
        c->discarded += *upload_len;
        *upload_len = 0;
        return MHD_YES;
    }
    return reply(h, connection, url, method, false);
}

static void on_completed(void *ctx, struct MHD_Connection *connection, void **slot,
                         enum MHD_RequestTerminationCode code)
{
    struct http *h = ctx;
    struct client *c = *slot;

    (void)connection;
    if (!c || !c->list || code != MHD_REQUEST_TERMINATED_COMPLETED_OK)
        return;
    c->served = true;
    client_enter(h, c, &h->idle, h->limits.idle_timeout_ms);
}

/* ---- start and end ---- */

static size_t leave_escaped(void *ctx, struct MHD_Connection *connection, char *text)
{
    (void)ctx;
    (void)connection;
    return strlen(text);
}

static bool start_daemon(struct http *h, struct error *err)
{
    const union MHD_DaemonInfo *info;

    /* Our paths need no decoding, and "%00" must not cut one short. */
    h->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL,
                                 on_request, h, MHD_OPTION_CONNECTION_LIMIT,
                                 /* Those that were cut still count until libmicrohttpd runs. */
                                 2 * h->limits.max_connections + ACCEPTS_A_TICK,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
                                 MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
                                 MHD_OPTION_NOTIFY_COMPLETED, on_completed, h,
                                 MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL, MHD_OPTION_END);
    if (!h->daemon)
        return error_set(err, "cannot start libmicrohttpd: %s", strerror(errno));
    info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info || info->epoll_fd < 0)
        return error_set(err, "this libmicrohttpd has no epoll");
    return loop_fd_add(h->loop, &h->daemon_watch, info->epoll_fd, EPOLLIN, on_daemon, h, err);
}

struct http *http_new(struct loop *loop, const char *listen, unsigned port,
                      const struct http_limits *limits, http_answer_fn answer, void *ctx,
                      struct error *err)
{
    static const struct http_limits usual = {MAX_CONNECTIONS, REQUEST_TIMEOUT_MS, IDLE_TIMEOUT_MS};
    struct http *h = calloc(1, sizeof(*h));

    if (!h) {
        error_set(err, "out of memory");
        return NULL;
    }
    h->loop = loop;
    h->answer = answer;
    h->ctx = ctx;
    h->limits = limits ? *limits : usual;
    loop_timer_init(&h->run_timer, on_run_timer, h);
    loop_timer_init(&h->deadline_timer, on_deadline, h);
    loop_timer_init(&h->accept_timer, on_accept_timer, h);
    loop_timer_init(&h->rest_timer, on_rest_timer, h);
    h->listen_fd = http_listen(listen, port, &h->port, err);
    if (h->listen_fd >= 0 && start_daemon(h, err) &&
        loop_fd_add(loop, &h->listen_watch, h->listen_fd, EPOLLIN, on_listen, h, err))
        return h;
    http_destroy(h);
    return NULL;
}

unsigned http_port(const struct http *h)
{
    return h->port;
}

void http_destroy(struct http *h)
{
    if (!h)
        return;
    loop_timer_stop(h->loop, &h->run_timer);
    loop_timer_stop(h->loop, &h->deadline_timer);
    loop_timer_stop(h->loop, &h->accept_timer);
    loop_timer_stop(h->loop, &h->rest_timer);
    loop_fd_remove(h->loop, &h->listen_watch);
    loop_fd_remove(h->loop, &h->daemon_watch);
    if (h->listen_fd >= 0)
        close(h->listen_fd);
    if (h->daemon)
        MHD_stop_daemon(h->daemon);
    free(h);
}
