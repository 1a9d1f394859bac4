/* The listening socket of the HTTP server. */
#ifndef HTTP_LISTEN_H
#define HTTP_LISTEN_H

#include "base/error.h"

/* A listening, non-blocking socket and the port it is bound to; -1 on failure. Names are resolved,
 * blocking. */
BASE_CHECK int http_listen(const char *address, unsigned port, unsigned *bound_port,
                           struct error *err);

#endif
