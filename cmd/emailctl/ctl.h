/* What the commands share. */
#ifndef EMAILCTL_CTL_H
#define EMAILCTL_CTL_H

#include "base/config.h"
#include "email/address.h"
#include "kafka/kafka_settings.h"
#include "options.h"

enum ctl_exit { CTL_DONE = 0, CTL_FAILED = 1, CTL_WRONG = 2 };

struct ctl {
    const struct config *config;
    const struct options *options;
    struct kafka_settings kafka;
    int timeout_ms;
};

enum ctl_exit ctl_publish(const struct ctl *ctl);
enum ctl_exit ctl_dlq_list(const struct ctl *ctl);
enum ctl_exit ctl_dlq_show(const struct ctl *ctl);
enum ctl_exit ctl_dlq_redrive(const struct ctl *ctl);
enum ctl_exit ctl_dlq_purge(const struct ctl *ctl);
enum ctl_exit ctl_check(const struct ctl *ctl);

/* "emailctl: …" on stderr. */
void ctl_complain(const char *format, ...) BASE_PRINTF(1, 2);

/* All of it, or false: stdout is closed or full. */
BASE_CHECK bool ctl_print(const struct buf *text);

/* The text of --help of the command. */
void ctl_help(struct buf *out, enum ctl_command command);

/* From now on the first SIGINT or SIGTERM is only remembered, so that what was begun is finished;
 * the second one ends the program. */
void ctl_catch_signals(void);
bool ctl_interrupted(void);

/* Progress of the redrive is kept under this group's name. */
#define CTL_REDRIVE_GROUP "emailctl-redrive"

#endif
