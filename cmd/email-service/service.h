/* The daemon as a whole: makes the parts, connects them, and takes them down in order. */
#ifndef SERVICE_H
#define SERVICE_H

#include "base/config.h"
#include "email/address.h"

struct service_options {
    const struct config *config; /* loaded and checked; must outlive the call */
    struct address from;         /* the default sender */
};

/* Runs until SIGTERM, SIGINT or a fatal error. Returns the process' exit code. */
int service_run(const struct service_options *options);

#endif
