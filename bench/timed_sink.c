/* An SMTP server that notes when it has taken each mail:
 *
 *   bench_timed_sink COUNT
 *
 * Says the port that it listens on, takes COUNT mails to userN@…, with N from 0 to COUNT - 1, and
 * prints a line with N and CLOCK_MONOTONIC's microseconds for each, in the order of their coming.
 * The instant is that of its 250 to the final dot. It answers at once and pipelines; it does no
 * more of SMTP than that. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"

enum { BATCH = 64, CHUNK = 65536 };

struct client {
    int fd;
    bool in_data;
    size_t number; /* of the recipient */
    struct buf in, out;
};

struct taken {
    size_t number;
    uint64_t at_us;
};

static struct taken *mails;
static size_t count, had;

static void die(const char *what)
{
    fprintf(stderr, "bench_timed_sink: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int listen_on_loopback(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, 1024) < 0 || getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        die("listening");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void take_mail(struct client *c)
{
    if (had < count)
        mails[had++] = (struct taken){c->number, clock_monotonic_us()};
    c->in_data = false;
    buf_add_str(&c->out, "250 taken\r\n");
}

static void answer(struct client *c, const char *line)
{
    static const char user[] = "RCPT TO:<user";

    if (strncasecmp(line, "EHLO", 4) == 0) {
        buf_add_str(&c->out, "250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n");
    } else if (strncasecmp(line, "DATA", 4) == 0) {
        c->in_data = true;
        buf_add_str(&c->out, "354 go on\r\n");
    } else if (strncasecmp(line, "QUIT", 4) == 0) {
        buf_add_str(&c->out, "221 bye\r\n");
    } else {
        if (strncasecmp(line, user, sizeof(user) - 1) == 0)
            c->number = strtoul(line + sizeof(user) - 1, NULL, 10);
        buf_add_str(&c->out, "250 ok\r\n");
    }
}

/* Takes what is complete; returns how many bytes that was. */
static size_t work(struct client *c)
{
    const char *begin = c->in.ptr, *at = begin, *const stop = begin + c->in.len, *end;

    while (at < stop && (end = memchr(at, '\n', (size_t)(stop - at)))) {
        const size_t len = (size_t)(end - at) + 1;
        if (!c->in_data)
            answer(c, at);
        else if (len == 3 && memcmp(at, ".\r\n", 3) == 0)
            take_mail(c);
        at += len;
    }
    return (size_t)(at - begin);
}

/* On loopback the few bytes of replies always fit. */
static bool flush(struct client *c)
{
    const bool good = send(c->fd, c->out.ptr, c->out.len, MSG_NOSIGNAL) == (ssize_t)c->out.len;

    buf_clear(&c->out);
    return good;
}

static bool serve(struct client *c)
{
    ssize_t len;

    if (!buf_reserve(&c->in, CHUNK))
        die("memory");
    len = recv(c->fd, c->in.ptr + c->in.len, CHUNK - 1, 0);
    if (len <= 0)
        return false;
    c->in.len += (size_t)len;
    c->in.ptr[c->in.len] = '\0';
    buf_consume(&c->in, work(c));
    return c->out.len == 0 || flush(c);
}

static void close_client(struct client *c)
{
    close(c->fd);
    buf_cleanup(&c->in);
    buf_cleanup(&c->out);
    free(c);
}

static void greet(int epoll_fd, int listener)
{
    const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), one = 1;
    struct client *c = calloc(1, sizeof(*c));
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};

    if (fd < 0 || !c)
        die("accepting");
    c->fd = fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    buf_add_str(&c->out, "220 sink ESMTP\r\n");
    if (!flush(c) || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
        close_client(c);
}

int main(int argc, char **argv)
{
    const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event batch[BATCH], listening = {.events = EPOLLIN, .data.ptr = NULL};
    int listener;

    count = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;
    mails = count ? calloc(count, sizeof(*mails)) : NULL;
    if (!mails) {
        fprintf(stderr, "usage: bench_timed_sink COUNT\n");
        return 2;
    }
    listener = listen_on_loopback();
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &listening) < 0)
        die("epoll");
    while (had < count) {
        const int n = epoll_wait(epoll_fd, batch, BATCH, -1);
        for (int i = 0; i < n; i++) {
            struct client *c = batch[i].data.ptr;
            if (!c)
                greet(epoll_fd, listener);
            else if (!serve(c))
                close_client(c);
        }
    }
    for (size_t i = 0; i < count; i++)
        printf("%zu %llu\n", mails[i].number, (unsigned long long)mails[i].at_us);
    return 0;
}
