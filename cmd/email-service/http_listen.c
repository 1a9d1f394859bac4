#include "http_listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 1024 }; /* bounded by net.core.somaxconn anyway */

static unsigned port_of(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(address);

    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        return 0;
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

static int listen_on(const struct addrinfo *a)
{
    int on = 1, off = 0;
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    /* Without it a restart would fail for as long as old connections linger in TIME_WAIT. "::"
     * takes IPv4 as well. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        (a->ai_family != AF_INET6 ||
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) == 0) &&
        bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

/* "[::1]" is how an IPv6 address is written next to a port. */
static bool strip_brackets(const char *address, char out[256])
{
    size_t len = strlen(address);

    if (len > 2 && address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    }
    if (!len || len > 255)
        return false;
    memcpy(out, address, len);
    out[len] = '\0';
    return true;
}

static struct addrinfo *resolve(const char *address, unsigned port, struct error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char host[256], service[16];
    int rc;

    if (!strip_brackets(address, host)) {
        error_set(err, "cannot listen for HTTP: \"%.64s\" is no address", address);
        return NULL;
    }
    snprintf(service, sizeof(service), "%u", port);
    rc = getaddrinfo(host, service, &hints, &found);
    if (rc == 0)
        return found;
    error_set(err, "cannot listen for HTTP on %.128s: %s", address,
              rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
    return NULL;
}

int http_listen(const char *address, unsigned port, unsigned *bound_port, struct error *err)
{
    struct addrinfo *found = resolve(address, port, err);
    int fd = -1;

    if (!found)
        return -1;
    for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next)
        fd = listen_on(a);
    if (fd < 0)
        error_set(err, "cannot listen for HTTP on %.128s port %u: %s", address, port,
                  strerror(errno));
    else
        *bound_port = port_of(fd);
    freeaddrinfo(found);
    return fd;
}
