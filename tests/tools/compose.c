/* Composes one event the way the service does: `compose SENDER [DATE_UNIX_MS] < event.json >
 * message.eml`. Without a date the event's createdAt is used, and without that there is no Date
 * header. Exits 1 with the error on stderr where the event is bad, 2 where the arguments are. */
#include "email/message.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_EVENT_BYTES = 1048576, CHUNK = 65536 };

static bool read_all(FILE *in, struct buf *out)
{
    size_t got;

    do {
        if (!buf_reserve(out, CHUNK))
            return false;
        got = fread(out->ptr + out->len, 1, CHUNK, in);
        out->len += got;
    } while (got);
    return !ferror(in);
}

static bool parse_date(const char *text, int64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0';
}

static bool compose(struct arena *arena, struct slice json, const struct message_settings *settings,
                    const int64_t *date_unix_ms, struct error *err)
{
    struct message m;
    struct event ev;
    int64_t date = -1;
    bool ok = false;

    message_init(&m);
    if (event_decode(arena, json, MAX_EVENT_BYTES, &ev, err) == EVENT_OK) {
        if (date_unix_ms)
            date = *date_unix_ms;
        else if (ev.has_created_at)
            date = ev.created_at_unix_ms;
        ok = message_compose(&m, &ev, settings, date, err);
    }
    if (ok && fwrite(m.bytes.ptr, 1, m.bytes.len, stdout) != m.bytes.len)
        ok = error_set(err, "cannot write the message");
    message_cleanup(&m);
    return ok;
}

int main(int argc, char **argv)
{
    struct message_settings settings = {0};
    struct arena arena;
    struct buf json;
    struct error err = {0};
    int64_t date;
    int status = 1;

    arena_init(&arena);
    buf_init(&json);
    if (argc < 2 || argc > 3 || (argc == 3 && !parse_date(argv[2], &date)) ||
        !address_parse(&arena, slice_str(argv[1]), &settings.from, &err)) {
        fprintf(stderr, "usage: compose SENDER [DATE_UNIX_MS] < event.json: %s\n", err.text);
        status = 2;
    } else if (!read_all(stdin, &json)) {
        fprintf(stderr, "compose: cannot read the event\n");
    } else if (!compose(&arena, buf_slice(&json), &settings, argc == 3 ? &date : NULL, &err)) {
        fprintf(stderr, "compose: %s\n", err.text);
    } else if (fflush(stdout) == 0) {
        status = 0;
    }
    buf_cleanup(&json);
    arena_cleanup(&arena);
    return status;
}
