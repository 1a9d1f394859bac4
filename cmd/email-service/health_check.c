#include "health_check.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

enum { HEALTH_TIMEOUT_MS = 5000 };

static const char request[] = "GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n";

/* The address that the daemon listens on. Where that is all of them (0.0.0.0, ::), Linux takes it
 * as the loopback address. */
static struct addrinfo *find_address(const struct config *config)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char host[256], port[16];
    size_t len = strlen(config->http_listen);
    const bool brackets = len > 2 && config->http_listen[0] == '[';
    int code;

    snprintf(host, sizeof(host), "%.*s", (int)(brackets ? len - 2 : len),
             config->http_listen + brackets);
    snprintf(port, sizeof(port), "%llu", (unsigned long long)config->http_port);
    code = getaddrinfo(host, port, &hints, &found);
    if (code == 0)
        return found;
    if (code != EAI_SYSTEM)
        errno = EADDRNOTAVAIL;
    return NULL;
}

static bool wait_for(int fd, short events, uint64_t deadline_ms)
{
    struct pollfd watched = {.fd = fd, .events = events};
    const uint64_t now_ms = clock_monotonic_ms();
    int ready;

    if (now_ms >= deadline_ms) {
        errno = ETIMEDOUT;
        return false;
    }
    ready = poll(&watched, 1, (int)(deadline_ms - now_ms));
    if (ready == 0)
        errno = ETIMEDOUT;
    return ready > 0 || (ready < 0 && errno == EINTR);
}

static bool connect_to(int fd, const struct addrinfo *to, uint64_t deadline_ms)
{
    int failure = 0;
    socklen_t len = sizeof(failure);

    if (connect(fd, to->ai_addr, to->ai_addrlen) == 0)
        return true;
    if (errno != EINPROGRESS || !wait_for(fd, POLLOUT, deadline_ms) ||
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &len) < 0)
        return false;
    errno = failure;
    return failure == 0;
}

static bool transfer(int fd, char *answer, size_t cap, uint64_t deadline_ms)
{
    size_t len = 0;
    ssize_t n = send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL);

    if (n != (ssize_t)sizeof(request) - 1)
        return false; /* so few bytes fit into any new socket's buffer */
    while (len < cap - 1) {
        n = recv(fd, answer + len, cap - 1 - len, 0);
        if (n == 0)
            break;
        if (n > 0)
            len += (size_t)n;
        else if ((errno != EAGAIN && errno != EINTR) || !wait_for(fd, POLLIN, deadline_ms))
            return false;
    }
    answer[len] = '\0';
    return true;
}

static bool ask(const struct addrinfo *to, char *answer, size_t cap)
{
    const uint64_t deadline_ms = clock_monotonic_ms() + HEALTH_TIMEOUT_MS;
    const int fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool good;

    if (fd < 0)
        return false;
    good = connect_to(fd, to, deadline_ms) && transfer(fd, answer, cap, deadline_ms);
    close(fd);
    return good;
}

/* The body of a whole answer, NULL where it is none. */
static const char *read_answer(const char *answer, unsigned *status)
{
    const char *body = strstr(answer, "\r\n\r\n");
    unsigned minor;

    if (!body || sscanf(answer, "HTTP/1.%1u %3u", &minor, status) != 2)
        return NULL;
    return body + 4;
}

bool health_check(const struct config *config)
{
    struct addrinfo *address = find_address(config);
    char answer[8192];
    const char *body;
    unsigned status;

    if (!address || !ask(address, answer, sizeof(answer))) {
        fprintf(stderr, "email-service: no answer from %s, port %llu: %s\n", config->http_listen,
                (unsigned long long)config->http_port, strerror(errno));
        if (address)
            freeaddrinfo(address);
        return false;
    }
    freeaddrinfo(address);
    body = read_answer(answer, &status);
    if (!body) {
        fputs("email-service: what answers does not speak HTTP\n", stderr);
        return false;
    }
    return printf("%s\n", body) > 0 && fflush(stdout) == 0 && status == 200;
}
