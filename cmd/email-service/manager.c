#include "manager.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { USUAL_PERIOD_MS = 10000 };

/* A path, or with "@" in front an abstract name. */
static bool set_address(struct manager *m, const char *name, struct error *err)
{
    const size_t len = strlen(name);

    if ((name[0] != '/' && name[0] != '@') || len < 2 || len >= sizeof(m->address.sun_path))
        return error_set(err, "NOTIFY_SOCKET is not the address of a socket");
    m->address.sun_family = AF_UNIX;
    memcpy(m->address.sun_path, name, len);
    m->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (name[0] == '@')
        m->address.sun_path[0] = '\0';
    return true;
}

/* Half of WATCHDOG_USEC, which is meant for the process that WATCHDOG_PID names. */
static uint64_t period_of_watchdog(void)
{
    const char *pid = getenv("WATCHDOG_PID"), *usec = getenv("WATCHDOG_USEC");
    const uint64_t half_ms = usec ? strtoull(usec, NULL, 10) / 2000 : 0;

    if (!half_ms || (pid && strtol(pid, NULL, 10) != (long)getpid()))
        return USUAL_PERIOD_MS;
    return half_ms < USUAL_PERIOD_MS ? half_ms : USUAL_PERIOD_MS;
}

bool manager_open(struct manager *m, struct error *err)
{
    const char *name = getenv("NOTIFY_SOCKET");

    *m = (struct manager){.fd = -1};
    if (!name || !*name)
        return true;
    if (!set_address(m, name, err))
        return false;
    m->period_ms = period_of_watchdog();
    m->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return m->fd >= 0 || error_set(err, "NOTIFY_SOCKET: %s", strerror(errno));
}

void manager_close(struct manager *m)
{
    if (m->address_len && m->fd >= 0)
        close(m->fd);
    *m = (struct manager){.fd = -1};
}

void manager_tell(const struct manager *m, const char *state, const char *status)
{
    char text[256];
    const int len = snprintf(text, sizeof(text), "%s\nSTATUS=%s", state, status);

    if (m->fd < 0 || len < 0 || (size_t)len >= sizeof(text))
        return;
    /* A manager that does not listen is nothing that could be mended here. */
    (void)sendto(m->fd, text, (size_t)len, MSG_NOSIGNAL, (const struct sockaddr *)&m->address,
                 m->address_len);
}
