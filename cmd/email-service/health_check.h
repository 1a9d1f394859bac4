/* Asks a running daemon how it is: the container's health check, with nothing else installed. */
#ifndef SERVICE_HEALTH_CHECK_H
#define SERVICE_HEALTH_CHECK_H

#include "base/config.h"

/* GET /health where `config` says that the daemon listens. Prints the answer's body, or to stderr
 * what went wrong; true where the daemon says 200 within five seconds. Blocks. */
BASE_CHECK bool health_check(const struct config *config);

#endif
