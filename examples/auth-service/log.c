#include "log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

static void timestamp(char *out, size_t size)
{
    struct timespec now;
    struct tm utc;
    char seconds[24];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out, size, "%s.%03ldZ", seconds, now.tv_nsec / 1000000);
}

/* One call of stdio a line: it takes the stream's lock, so that the lines of two threads don't mix.
 */
static void write_line(const char *line)
{
    printf("%s\n", line);
    fflush(stdout);
}

void log_line(const char *level, const char *msg, const char *message_id, const char *detail)
{
    char time[40];
    timestamp(time, sizeof(time));
    json_t *object = json_pack("{ss ss ss ss* ss*}", "level", level, "msg", msg, "time", time,
                               "messageID", message_id, "detail", detail);
    char *line = object ? json_dumps(object, JSON_COMPACT) : NULL;
    write_line(line ? line : "{\"level\":\"error\",\"msg\":\"Out of memory\",\"time\":\"\"}");
    free(line);
    json_decref(object);
}

void log_library_line(const char *level, const char *line, void *context)
{
    (void)context;
    if (strcmp(level, "debug") != 0)
        write_line(line);
}
