#include "base/process_guard.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static bool set(int dumpable, rlim_t size, struct error *err)
{
    struct rlimit limit;

    if (prctl(PR_SET_DUMPABLE, dumpable, 0, 0, 0) < 0)
        return error_set(err, "prctl(PR_SET_DUMPABLE): %s", strerror(errno));
    if (getrlimit(RLIMIT_CORE, &limit) < 0)
        return error_set(err, "getrlimit(RLIMIT_CORE): %s", strerror(errno));
    /* The hard limit stays, so that it can be taken back. */
    limit.rlim_cur = size < limit.rlim_max ? size : limit.rlim_max;
    if (setrlimit(RLIMIT_CORE, &limit) < 0)
        return error_set(err, "setrlimit(RLIMIT_CORE): %s", strerror(errno));
    return true;
}

bool process_guard(struct error *err)
{
    return set(0, 0, err);
}

bool process_unguard(struct error *err)
{
    return set(1, RLIM_INFINITY, err);
}
