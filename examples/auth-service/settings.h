/* The service's own settings, from the environment; the mail's (KAFKA_BROKERS, SMTP_HOST, …) are
 * the library's. */
#ifndef AUTH_SETTINGS_H
#define AUTH_SETTINGS_H

#include <stdbool.h>

struct settings {
    const char *listen;            /* AUTH_SERVICE_LISTEN */
    long port;                     /* AUTH_SERVICE_PORT */
    long codes_per_address;        /* AUTH_CODES_PER_ADDRESS */
    long codes_window_seconds;     /* AUTH_CODES_WINDOW_SECONDS */
    long max_addresses;            /* AUTH_MAX_ADDRESSES */
    long max_queued;               /* AUTH_MAX_QUEUED */
    long publish_timeout_ms;       /* AUTH_PUBLISH_TIMEOUT_MS */
    long shutdown_timeout_seconds; /* AUTH_SHUTDOWN_TIMEOUT_SECONDS */
};

/* Reports every mistake on stderr; false where there was one. */
bool settings_load(struct settings *settings);

#endif
