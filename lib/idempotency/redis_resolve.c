#include "idempotency/redis_resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

struct job { /* the thread's */
    int fd;
    char host[];
};

/* What goes through the pipe: less than PIPE_BUF, so that it arrives in one piece. */
struct posting {
    struct redis_addresses found;
    char error[128];
};

_Static_assert(sizeof(struct posting) <= 4096, "a posting must be written atomically");

static void ask(const char *host, struct posting *p)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(host, NULL, &hints, &list);

    if (rc != 0) {
        snprintf(p->error, sizeof(p->error), "%s",
                 rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
        return;
    }
    for (struct addrinfo *a = list; a && p->found.count < REDIS_ADDRESSES; a = a->ai_next)
        if (getnameinfo(a->ai_addr, a->ai_addrlen, p->found.text[p->found.count],
                        REDIS_ADDRESS_SIZE, NULL, 0, NI_NUMERICHOST) == 0)
            p->found.count++;
    freeaddrinfo(list);
    if (!p->found.count)
        snprintf(p->error, sizeof(p->error), "no usable address");
}

static void *resolver_thread(void *arg)
{
    struct job *job = arg;
    struct posting p = {0};
    ssize_t written;

    ask(job->host, &p);
    do
        written = write(job->fd, &p, sizeof(p)); /* EPIPE: nobody waits for it any more */
    while (written < 0 && errno == EINTR);
    close(job->fd);
    free(job);
    return NULL;
}

static void on_posting(void *ctx, uint32_t events)
{
    struct redis_resolve *r = ctx;
    struct posting p = {0};
    ssize_t got = read(r->fd, &p, sizeof(p));

    (void)events;
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got != (ssize_t)sizeof(p)) {
        p = (struct posting){0};
        snprintf(p.error, sizeof(p.error), "the resolver gave no answer");
    }
    redis_resolve_cancel(r);
    r->fn(r->ctx, &p.found, p.error);
}

bool redis_resolve_numeric(const char *host, struct redis_addresses *out)
{
    unsigned char binary[sizeof(struct in6_addr)];
    int len;

    if (inet_pton(AF_INET, host, binary) != 1 && inet_pton(AF_INET6, host, binary) != 1)
        return false;
    len = snprintf(out->text[0], REDIS_ADDRESS_SIZE, "%s", host);
    out->count = 1;
    return len < REDIS_ADDRESS_SIZE;
}

/* Signals are the loop's business; a blocked SIGPIPE becomes EPIPE. */
static int start_thread(struct job *job)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;
    int rc = pthread_attr_init(&attr);

    if (rc != 0)
        return rc;
    sigfillset(&all);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&thread, &attr, resolver_thread, job);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

bool redis_resolve_start(struct redis_resolve *r, struct loop *loop, const char *host,
                         redis_resolve_fn fn, void *ctx, struct error *err)
{
    size_t host_size = strlen(host) + 1;
    struct job *job = malloc(sizeof(*job) + host_size);
    int ends[2] = {-1, -1}, rc;

    *r = (struct redis_resolve){.loop = loop, .fd = -1, .fn = fn, .ctx = ctx};
    if (!job)
        return error_set(err, "out of memory");
    memcpy(job->host, host, host_size);
    if (pipe2(ends, O_CLOEXEC) < 0 || fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0) {
        error_set(err, "pipe: %s", strerror(errno));
        goto failed;
    }
    if (!loop_fd_add(loop, &r->watcher, ends[0], EPOLLIN, on_posting, r, err))
        goto failed;
    r->fd = ends[0];
    job->fd = ends[1];
    rc = start_thread(job);
    if (rc == 0)
        return true;
    error_set(err, "pthread_create: %s", strerror(rc));
    loop_fd_remove(loop, &r->watcher);

failed:
    if (ends[0] >= 0)
        close(ends[0]);
    if (ends[1] >= 0)
        close(ends[1]);
    free(job);
    return false;
}

void redis_resolve_cancel(struct redis_resolve *r)
{
    if (!r->watcher.active)
        return;
    loop_fd_remove(r->loop, &r->watcher);
    close(r->fd);
    r->fd = -1;
}
