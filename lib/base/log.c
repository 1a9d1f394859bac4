#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json_out.h"

enum {
    KEEP_BYTES = 4 * 1024 * 1024,
    /* POSIX promises that a pipe which polls writable takes PIPE_BUF bytes without blocking. */
    PIECE = 4096
};

static _Thread_local struct {
    enum log_level level;
    log_sink_fn sink;
    void *sink_ctx;
    struct buf lines;
    size_t written;         /* of lines.ptr */
    uint64_t flushed;       /* position in the stream of all lines */
    uint64_t dropped, told; /* lines dropped; how many of them were reported */
    bool broken;
} the_log = {.level = LOG_INFO};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_set_level(enum log_level level)
{
    the_log.level = level;
}

bool log_enabled(enum log_level level)
{
    return level >= the_log.level;
}

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

void log_set_sink(log_sink_fn fn, void *ctx)
{
    the_log.sink = fn;
    the_log.sink_ctx = ctx;
}

static void put_field(struct buf *b, const struct log_field *f)
{
    json_out_name(b, f->name);
    switch (f->type) {
    case LOG_TYPE_INT: buf_add_i64(b, f->number); break;
    case LOG_TYPE_BOOL: buf_add_str(b, f->number ? "true" : "false"); break;
    case LOG_TYPE_JSON: buf_add_slice(b, f->text); break;
    case LOG_TYPE_STR:
    case LOG_TYPE_NONE: json_out_string(b, f->text); break;
    }
}

static void put_line(enum log_level level, const char *message, const struct log_field *fields)
{
    struct buf *b = &the_log.lines;
    char now[RFC3339_SIZE];

    rfc3339_format(clock_unix_ms(), now);
    buf_add_str(b, "{\"level\":\"");
    buf_add_str(b, level_names[level]);
    buf_add_str(b, "\",\"msg\":");
    json_out_string(b, slice_str(message));
    buf_add_str(b, ",\"time\":\"");
    buf_add_str(b, now);
    buf_add_char(b, '"');
    for (; fields->type != LOG_TYPE_NONE; fields++)
        put_field(b, fields);
    buf_add_str(b, "}\n");
}

static void report_drops(void)
{
    const struct log_field fields[] = {LOG_INT("dropped", the_log.dropped - the_log.told),
                                       LOG_INT("droppedTotal", the_log.dropped),
                                       {0}};

    the_log.told = the_log.dropped;
    put_line(LOG_WARN, "Log lines were dropped, because stdout did not take them", fields);
}

static void hand_to_sink(enum log_level level)
{
    struct buf *b = &the_log.lines;
    const struct slice line = slice_of(b->ptr, b->len - 1);

    b->ptr[line.len] = '\0'; /* instead of the line break */
    the_log.flushed += b->len;
    the_log.sink(the_log.sink_ctx, level, line);
    buf_clear(b);
}

uint64_t log_write(enum log_level level, const char *message, const struct log_field *fields)
{
    size_t before = the_log.lines.len;

    if (the_log.broken || before - the_log.written > KEEP_BYTES) {
        the_log.dropped++;
        return 0;
    }
    if (the_log.dropped != the_log.told && !the_log.sink)
        report_drops(); /* a sink takes one line at a time, and loses none but for memory */
    put_line(level, message, fields);
    if (the_log.lines.failed) {
        /* Out of memory half-way through a line: take the half back. */
        the_log.lines.failed = false;
        the_log.lines.len = before;
        the_log.dropped++;
        return 0;
    }
    if (the_log.sink) {
        hand_to_sink(level);
        return the_log.flushed;
    }
    return the_log.flushed + (the_log.lines.len - the_log.written);
}

static bool stdout_ready(int wait_ms)
{
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};

    return poll(&p, 1, wait_ms) == 1;
}

/* The lines that were still to be written are lost, too; a line break in a text is escaped. */
static void break_log(void)
{
    const struct buf *b = &the_log.lines;

    for (size_t i = the_log.written; i < b->len; i++)
        the_log.dropped += b->ptr[i] == '\n';
    the_log.broken = true;
    buf_clear(&the_log.lines);
    the_log.written = 0;
}

void log_flush(void)
{
    struct buf *b = &the_log.lines;

    while (the_log.written < b->len && stdout_ready(0)) {
        size_t left = b->len - the_log.written;
        ssize_t n = write(STDOUT_FILENO, b->ptr + the_log.written, left < PIECE ? left : PIECE);
        if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOSPC))
            break; /* a full disk may have room again: the lines wait like those of a full pipe */
        if (n < 0) {
            break_log();
            return;
        }
        the_log.written += (size_t)n;
        the_log.flushed += (uint64_t)n;
    }
    if (the_log.written == b->len) {
        buf_clear(b);
        the_log.written = 0;
    } else if (the_log.written > KEEP_BYTES / 4) {
        buf_consume(b, the_log.written);
        the_log.written = 0;
    }
}

uint64_t log_flushed(void)
{
    return the_log.flushed;
}

bool log_broken(void)
{
    return the_log.broken;
}

bool log_pending(void)
{
    return the_log.written < the_log.lines.len;
}

uint64_t log_dropped_lines(void)
{
    return the_log.dropped;
}

void log_cleanup(void)
{
    buf_cleanup(&the_log.lines);
    the_log.level = LOG_INFO;
    the_log.sink = NULL;
    the_log.written = 0;
    the_log.flushed = the_log.dropped = the_log.told = 0;
    the_log.broken = false;
}

void log_drain(unsigned max_ms)
{
    const uint64_t end_ms = clock_monotonic_ms() + max_ms;

    log_flush();
    while (log_pending()) {
        const uint64_t now_ms = clock_monotonic_ms();
        if (now_ms >= end_ms || !stdout_ready((int)(end_ms - now_ms)))
            break;
        log_flush();
    }
}
