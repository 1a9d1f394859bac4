/* What the service manager (systemd, Type=notify) is told: ready, stopping, alive. The protocol of
 * sd_notify(3) is one datagram a message; without NOTIFY_SOCKET in the environment nobody is told.
 */
#ifndef EMAIL_SERVICE_MANAGER_H
#define EMAIL_SERVICE_MANAGER_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/error.h"

struct manager {
    int fd; /* -1: nobody listens */
    struct sockaddr_un address;
    socklen_t address_len;
    uint64_t period_ms; /* how often it wants to hear that we are alive */
};

/* False where NOTIFY_SOCKET is set and is none. */
BASE_CHECK bool manager_open(struct manager *m, struct error *err);
void manager_close(struct manager *m); /* legal on a zeroed one */

/* `state` is lines such as "READY=1"; `status` is for people. Never blocks; what the manager's
 * socket doesn't take is lost. */
void manager_tell(const struct manager *m, const char *state, const char *status);

#endif
