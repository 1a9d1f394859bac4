/* What the tests of the HTTP server share: a server on a loop in this process, and clients over
 * real sockets. */
#ifndef HTTP_FIXTURE_H
#define HTTP_FIXTURE_H

#include "http.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { BIG_PAGE = 4 * 1024 * 1024 };

struct fixture {
    struct loop *loop;
    struct http *http;
    unsigned answered;
    char last_path[64];
};

/* ---- the server under test ---- */

static inline void answer(void *ctx, const char *path, struct http_answer *a)
{
    struct fixture *f = ctx;

    f->answered++;
    snprintf(f->last_path, sizeof(f->last_path), "%s", path);
    a->content_type = "text/plain";
    if (strcmp(path, "/hello") == 0) {
        a->status = 200;
        buf_add_str(&a->body, "hello");
    } else if (strcmp(path, "/empty") == 0) {
        a->status = 200;
        buf_add_str(&a->body, "");
    } else if (strcmp(path, "/down") == 0) {
        a->status = 503;
        buf_add_str(&a->body, "down");
    } else if (strcmp(path, "/memory") == 0) {
        a->status = 200;
        a->body.failed = true;
    } else if (strcmp(path, "/big") == 0 && buf_reserve(&a->body, BIG_PAGE)) {
        a->status = 200;
        for (int i = 0; i < BIG_PAGE; i++)
            buf_add_char(&a->body, 'x');
    }
}

static inline void start(struct fixture *f, const struct http_limits *limits)
{
    struct error err = {0};

    *f = (struct fixture){0};
    f->loop = loop_new(&err);
    assert_non_null(f->loop);
    f->http = http_new(f->loop, "127.0.0.1", 0, limits, answer, f, &err);
    if (!f->http)
        fail_msg("%s", err.text);
    assert_int_not_equal(http_port(f->http), 0);
}

static inline void stop(struct fixture *f)
{
    http_destroy(f->http);
    loop_destroy(f->loop);
}

static inline void tick(struct fixture *f, int max_wait_ms)
{
    struct error err = {0};

    if (!loop_tick(f->loop, max_wait_ms, &err))
        fail_msg("%s", err.text);
}

/* ---- clients ---- */

static inline int dial(struct fixture *f)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    to.sin_port = htons((uint16_t)http_port(f->http));
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static inline void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* What arrives until `enough` bytes of it are there, the server closes (then *closed), or max_ms
 * are over. The caller frees. */
static inline char *hear(struct fixture *f, int fd, size_t enough, unsigned max_ms, bool *closed)
{
    uint64_t end_ms = clock_monotonic_ms() + max_ms;
    struct buf got = {0};

    *closed = false;
    while (got.len < enough && !*closed && clock_monotonic_ms() < end_ms) {
        char piece[4096];
        ssize_t n;
        tick(f, 5);
        while ((n = recv(fd, piece, sizeof(piece), MSG_DONTWAIT)) > 0)
            buf_add(&got, piece, (size_t)n);
        *closed = n == 0 || (n < 0 && errno == ECONNRESET);
    }
    buf_add_char(&got, '\0');
    assert_false(got.failed);
    return got.ptr;
}

struct reply {
    int status;
    char head[2048];
    char body[256];
    size_t body_len; /* announced */
};

/* Reads one answer to GET. HEAD's has no body, whatever it announces. */
static inline void read_reply(struct fixture *f, int fd, bool head_only, unsigned max_ms,
                              struct reply *r)
{
    uint64_t end_ms = clock_monotonic_ms() + max_ms;
    struct buf got = {0};

    *r = (struct reply){0};
    for (;;) {
        char byte;
        ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
        const char *end = got.ptr ? strstr(got.ptr, "\r\n\r\n") : NULL;
        if (end) {
            const char *length = strcasestr(got.ptr, "\r\nContent-Length: ");
            r->body_len = length ? strtoul(length + 18, NULL, 10) : 0;
            if (head_only || got.len - (size_t)(end + 4 - got.ptr) >= r->body_len) {
                r->status = atoi(got.ptr + 9);
                snprintf(r->head, sizeof(r->head), "%.*s", (int)(end + 2 - got.ptr), got.ptr);
                snprintf(r->body, sizeof(r->body), "%s", end + 4);
                if (n > 0)
                    fail_msg("more than one answer came: %s%c", got.ptr, byte);
                buf_cleanup(&got);
                return;
            }
        }
        if (n > 0)
            buf_add_char(&got, byte);
        else if (n == 0)
            fail_msg("closed after: %s", got.ptr ? got.ptr : "nothing");
        else if (clock_monotonic_ms() > end_ms)
            fail_msg("no answer in time, only: %s", got.ptr ? got.ptr : "nothing");
        else
            tick(f, 5);
    }
}

static inline struct reply ask(struct fixture *f, const char *request)
{
    struct reply r;
    int fd = dial(f);

    say(fd, request);
    read_reply(f, fd, strncmp(request, "HEAD", 4) == 0, 2000, &r);
    close(fd);
    return r;
}

static inline void assert_header(const struct reply *r, const char *line)
{
    char wanted[256];

    snprintf(wanted, sizeof(wanted), "\r\n%s\r\n", line);
    if (!strcasestr(r->head, wanted))
        fail_msg("no \"%s\" in: %s", line, r->head);
}

#endif
