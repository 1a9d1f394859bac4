#include "instant.h"

#include "base/clock.h"

enum { MAX_DIGITS = 9 };

static int64_t unit_ms(char unit)
{
    switch (unit) {
    case 's': return 1000;
    case 'm': return 60 * 1000;
    case 'h': return 3600 * 1000;
    case 'd': return 24 * 3600 * 1000LL;
    case 'w': return 7 * 24 * 3600 * 1000LL;
    default: return 0;
    }
}

bool instant_parse(struct slice text, int64_t now_unix_ms, int64_t *unix_ms)
{
    const size_t digits = text.len ? text.len - 1 : 0;
    int64_t number = 0, unit;

    if (rfc3339_parse(text, unix_ms))
        return true;
    if (digits == 0 || digits > MAX_DIGITS)
        return false;
    for (size_t i = 0; i < digits; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        number = number * 10 + (text.ptr[i] - '0');
    }
    unit = unit_ms(text.ptr[digits]);
    *unix_ms = now_unix_ms - number * unit;
    return unit > 0;
}
