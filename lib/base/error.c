#include "base/error.h"

#include <stdio.h>

bool error_set(struct error *err, const char *format, ...)
{
    va_list args;

    if (!err || err->set)
        return false;
    err->set = true;
    va_start(args, format);
    vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    return false;
}

void error_clear(struct error *err)
{
    if (err) {
        err->set = false;
        err->text[0] = '\0';
    }
}
