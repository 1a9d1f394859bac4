/* The flags of emailctl's commands. Those that are none of theirs are left for config_load. Pure.
 */
#ifndef EMAILCTL_OPTIONS_H
#define EMAILCTL_OPTIONS_H

#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"

enum ctl_command {
    CTL_NONE, /* only --help or --version */
    CTL_PUBLISH,
    CTL_DLQ, /* the word alone */
    CTL_DLQ_LIST,
    CTL_DLQ_SHOW,
    CTL_DLQ_REDRIVE,
    CTL_DLQ_PURGE,
    CTL_CHECK
};

struct text_list {
    const char **items; /* argv's */
    size_t len;
};

struct instant {
    bool set;
    int64_t unix_ms;
};

struct options { /* strings are argv's, NULL where not given */
    enum ctl_command command;
    const char *operand; /* "-", or PARTITION:OFFSET */
    bool dry_run, json, again, force, all, yes;
    uint64_t timeout_s;

    struct text_list to, cc, bcc, attach, header;
    const char *from, *reply_to, *subject, *text, *html, *text_file, *html_file;
    const char *type, *message_id, *template_name, *data, *locale, *metadata, *key;
    uint64_t expires_in_s; /* 0: not given */
    bool has_event_flags;

    struct text_list reason;
    struct instant since, until, before;
    uint64_t limit, rate; /* 0: none */
    uint64_t max_redrives;

    int argc; /* what is left for config_load: argv[0] and flags that are not ours */
    char **argv;
};

/* Adds a line for each mistake. Everything it makes is in the arena. */
void options_parse(struct options *o, int argc, char **argv, int64_t now_unix_ms,
                   struct arena *arena, struct buf *mistakes);

/* "3:42" */
BASE_CHECK bool options_parse_position(const char *text, int32_t *partition, int64_t *offset);

#endif
