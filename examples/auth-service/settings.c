#include "settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* An empty variable counts as not given, as it does for the library. */
static const char *text(const char *name, const char *fallback)
{
    const char *value = getenv(name);
    return value && *value ? value : fallback;
}

static bool number(const char *name, long fallback, long min, long max, long *out)
{
    const char *value = text(name, NULL);
    *out = fallback;
    if (!value)
        return true;
    char *end;
    errno = 0;
    *out = strtol(value, &end, 10);
    if (!errno && end != value && !*end && *out >= min && *out <= max)
        return true;
    fprintf(stderr, "%s: must be a number from %ld to %ld\n", name, min, max);
    return false;
}

bool settings_load(struct settings *s)
{
    bool good = true;
    s->listen = text("AUTH_SERVICE_LISTEN", "0.0.0.0");
    good &= number("AUTH_SERVICE_PORT", 8080, 0, 65535, &s->port);
    good &= number("AUTH_CODES_PER_ADDRESS", 3, 1, 1000, &s->codes_per_address);
    good &= number("AUTH_CODES_WINDOW_SECONDS", 600, 1, 86400, &s->codes_window_seconds);
    good &= number("AUTH_MAX_ADDRESSES", 100000, 1, 10000000, &s->max_addresses);
    good &= number("AUTH_MAX_QUEUED", 10000, 1, 1000000, &s->max_queued);
    good &= number("AUTH_PUBLISH_TIMEOUT_MS", 5000, 100, 600000, &s->publish_timeout_ms);
    good &= number("AUTH_SHUTDOWN_TIMEOUT_SECONDS", 25, 0, 3600, &s->shutdown_timeout_seconds);
    return good;
}
