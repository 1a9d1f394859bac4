/* What others on the machine can see of this process' memory. */
#ifndef BASE_PROCESS_GUARD_H
#define BASE_PROCESS_GUARD_H

#include "base/error.h"

/* No core dump, not even through a pipe of kernel.core_pattern, and no debugger or reader of
 * /proc/PID/mem and /proc/PID/environ of the same user: mails and passwords are in there. */
BASE_CHECK bool process_guard(struct error *err);

/* Takes that back, for debugging. */
BASE_CHECK bool process_unguard(struct error *err);

#endif
