/* The log: one JSON object a line on stdout, with level, msg and time first.
 *
 * Lines are gathered in memory and written by log_flush() in pieces that never block: where stdout
 * is a full pipe, delivery goes on, lines are kept up to a bound and dropped (and counted) beyond
 * it. The one global of the product, because a log is; each thread that runs a loop has its own
 * (the producer library's must not meet its host's). Pure modules do not log.
 *
 * Never pass an address, subject, body, code or password at any level but debug (contract §8). */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

enum log_type { LOG_TYPE_NONE, LOG_TYPE_STR, LOG_TYPE_INT, LOG_TYPE_BOOL, LOG_TYPE_JSON };

struct log_field {
    const char *name;
    enum log_type type;
    struct slice text; /* STR: escaped; absent is null. JSON: written as it is */
    int64_t number;
};

#define LOG_STR(n, cstr)                                                                           \
    {                                                                                              \
        .name = (n), .type = LOG_TYPE_STR, .text = slice_str(cstr)                                 \
    }
#define LOG_SLICE(n, s)                                                                            \
    {                                                                                              \
        .name = (n), .type = LOG_TYPE_STR, .text = (s)                                             \
    }
#define LOG_INT(n, v)                                                                              \
    {                                                                                              \
        .name = (n), .type = LOG_TYPE_INT, .number = (int64_t)(v)                                  \
    }
#define LOG_BOOL(n, v)                                                                             \
    {                                                                                              \
        .name = (n), .type = LOG_TYPE_BOOL, .number = (v)                                          \
    }
#define LOG_JSON(n, s)                                                                             \
    {                                                                                              \
        .name = (n), .type = LOG_TYPE_JSON, .text = (s)                                            \
    }

/* log_info("Email sent successfully", LOG_SLICE("messageID", id), LOG_INT("attempt", 1)); */
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_at(level, ...) log_at_(level, __VA_ARGS__, {0})
#define log_at_(level, message, ...)                                                               \
    do {                                                                                           \
        if (log_enabled(level))                                                                    \
            log_write(level, message, (const struct log_field[]){__VA_ARGS__});                    \
    } while (0)

void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/* Queues one line; `fields` ends with one of type NONE. Returns the position of the line's end in
 * the stream of all lines (compare with log_flushed()), or 0 where the line was dropped. */
uint64_t log_write(enum log_level level, const char *message, const struct log_field *fields);

/* Writes what can be written without blocking. Called at the end of every tick. */
void log_flush(void);

uint64_t log_flushed(void);       /* everything up to this position has been taken by stdout */
bool log_broken(void);            /* stdout is closed for good (EPIPE, EBADF, …) */
bool log_pending(void);           /* lines wait for stdout to take them */
uint64_t log_dropped_lines(void); /* since the start */

/* Hands each line (no line break, NUL-terminated) to `fn` at once, instead of writing it to stdout:
 * a library does not write to its host's. For the calling thread's log; NULL: stdout again. */
typedef void (*log_sink_fn)(void *ctx, enum log_level level, struct slice line);
void log_set_sink(log_sink_fn fn, void *ctx);
const char *log_level_name(enum log_level level);

/* Frees the calling thread's log and makes it as at the start. For threads that end before their
 * process. */
void log_cleanup(void);

/* Tries to write everything within max_ms, blocking; for the very end of a program. */
void log_drain(unsigned max_ms);

#endif
