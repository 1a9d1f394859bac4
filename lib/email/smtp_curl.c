#include "email/smtp_curl.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include <curl/curl.h>

struct socket_watch {
    struct loop_fd fd;
    struct smtp_curl *curl;
    struct socket_watch *next, **link; /* in `watches` or `spare` */
};

struct smtp_curl {
    struct loop *loop;
    CURLM *multi;
    struct loop_timer timer;
    struct socket_watch *watches;
    /* Not freed before the end: libcurl gives a socket up from inside that socket's own callback.
     */
    struct socket_watch *spare;
};

static void push(struct socket_watch **list, struct socket_watch *w)
{
    w->next = *list;
    w->link = list;
    if (w->next)
        w->next->link = &w->next;
    *list = w;
}

static void unlink_watch(struct socket_watch *w)
{
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
}

/* Transfers may be removed from inside `done`. */
static void report_done(struct smtp_curl *c)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(c->multi, &left))) {
        struct smtp_curl_transfer *t = NULL;
        const int code = (int)message->data.result;
        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        t->done(t->ctx, code);
    }
}

static void act(struct smtp_curl *c, curl_socket_t s, int events)
{
    int running;

    curl_multi_socket_action(c->multi, s, events, &running);
    report_done(c);
}

static void on_socket(void *ctx, uint32_t events)
{
    struct socket_watch *w = ctx;
    int what = 0;

    if (events & EPOLLIN)
        what |= CURL_CSELECT_IN;
    if (events & EPOLLOUT)
        what |= CURL_CSELECT_OUT;
    if (events & (EPOLLERR | EPOLLHUP))
        what |= CURL_CSELECT_ERR;
    act(w->curl, w->fd.fd, what);
}

static void on_timer(void *ctx)
{
    act(ctx, CURL_SOCKET_TIMEOUT, 0);
}

static void drop_watch(struct smtp_curl *c, struct socket_watch *w)
{
    if (!w)
        return;
    loop_fd_remove(c->loop, &w->fd);
    unlink_watch(w);
    push(&c->spare, w);
}

static struct socket_watch *take_watch(struct smtp_curl *c)
{
    struct socket_watch *w = c->spare;

    if (w)
        unlink_watch(w);
    else
        w = calloc(1, sizeof(*w));
    if (w)
        push(&c->watches, w);
    return w;
}

/* CURLMOPT_SOCKETFUNCTION. A failure here ends the transfer (libcurl ≥ 7.84 hands -1 on). */
static int watch_socket(CURL *easy, curl_socket_t s, int what, void *ctx, void *socket_ctx)
{
    struct smtp_curl *c = ctx;
    struct socket_watch *w = socket_ctx;
    uint32_t events = 0;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        drop_watch(c, w);
        return 0;
    }
    events |= what & CURL_POLL_IN ? (uint32_t)EPOLLIN : 0;
    events |= what & CURL_POLL_OUT ? (uint32_t)EPOLLOUT : 0;
    if (w)
        return loop_fd_change(c->loop, &w->fd, events) ? 0 : -1;
    w = take_watch(c);
    if (!w)
        return -1;
    w->curl = c;
    if (!loop_fd_add(c->loop, &w->fd, s, events, on_socket, w, NULL)) {
        drop_watch(c, w);
        return -1;
    }
    curl_multi_assign(c->multi, s, w);
    return 0;
}

/* CURLMOPT_TIMERFUNCTION: -1 deletes the timer. 0 waits for the loop as well, since libcurl must
 * not be entered from inside its own callback. */
static int set_timer(CURLM *multi, long timeout_ms, void *ctx)
{
    struct smtp_curl *c = ctx;

    (void)multi;
    if (timeout_ms >= 0)
        loop_timer_start(c->loop, &c->timer, (uint64_t)timeout_ms);
    else
        loop_timer_stop(c->loop, &c->timer);
    return 0;
}

/* OpenSSL writes to sockets with write(2): a lost connection would be the end of the process. A
 * thread that blocks the signal is safe already (the producer library's: its host's handlers are
 * none of its business). */
static void ignore_sigpipe(void)
{
    sigset_t blocked;

    sigemptyset(&blocked);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &blocked); /* cannot fail: it only asks */
    if (!sigismember(&blocked, SIGPIPE))
        signal(SIGPIPE, SIG_IGN);
}

struct smtp_curl *smtp_curl_new(struct loop *loop, struct error *err)
{
    struct smtp_curl *c = calloc(1, sizeof(*c));

    if (!c) {
        error_set(err, "out of memory");
        return NULL;
    }
    ignore_sigpipe();
    c->loop = loop;
    loop_timer_init(&c->timer, on_timer, c);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        error_set(err, "libcurl can't be initialised");
        free(c);
        return NULL;
    }
    c->multi = curl_multi_init();
    if (!c->multi) {
        error_set(err, "curl_multi_init failed");
        smtp_curl_destroy(c);
        return NULL;
    }
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
    return c;
}

static void free_watches(struct smtp_curl *c, struct socket_watch *w)
{
    while (w) {
        struct socket_watch *next = w->next;
        loop_fd_remove(c->loop, &w->fd);
        free(w);
        w = next;
    }
}

void smtp_curl_destroy(struct smtp_curl *c)
{
    if (!c)
        return;
    if (c->multi)
        curl_multi_cleanup(c->multi);
    loop_timer_stop(c->loop, &c->timer);
    free_watches(c, c->watches);
    free_watches(c, c->spare);
    curl_global_cleanup();
    free(c);
}

bool smtp_curl_add(struct smtp_curl *c, struct smtp_curl_transfer *t, struct error *err)
{
    CURLMcode code;

    curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
    code = curl_multi_add_handle(c->multi, t->easy);
    if (code != CURLM_OK)
        return error_set(err, "curl_multi_add_handle: %s", curl_multi_strerror(code));
    return true;
}

void smtp_curl_remove(struct smtp_curl *c, struct smtp_curl_transfer *t)
{
    curl_multi_remove_handle(c->multi, t->easy);
}
