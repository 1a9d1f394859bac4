/* One fixed-size error record. Optional everywhere (NULL is accepted); the first error set wins, so
 * that the cause is kept and not its consequences. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>

#define BASE_CHECK __attribute__((warn_unused_result))
#define BASE_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

struct error {
    bool set;
    char text[256]; /* readable, NUL-terminated, truncated where longer */
};

/* Records a message unless one is there already. Always returns false: `return error_set(err, …)`.
 */
bool error_set(struct error *err, const char *format, ...) BASE_PRINTF(2, 3);

void error_clear(struct error *err);

#endif
