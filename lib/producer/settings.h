/* What a producer is configured by: the options' settings over the environment over .env, checked
 * like the service's own. */
#ifndef PRODUCER_SETTINGS_H
#define PRODUCER_SETTINGS_H

#include "base/config.h"
#include "email/address.h"
#include "kafka/kafka_settings.h"
#include "producer/email_producer.h"

struct producer_settings {
    struct config config;
    struct arena arena;
    struct address from;
    struct kafka_property *properties; /* config's, as lib/kafka wants them */
    char host[128], client_id[192];
    size_t max_queued;
    uint64_t publish_timeout_ms;
    email_log_fn log;
    void *log_context;
    bool can_send_directly; /* smtp mode, or log mode with somewhere to log to */
};

/* False where anything is wrong; mistakes holds one line each. */
BASE_CHECK bool producer_settings_load(struct producer_settings *s,
                                       const email_producer_options *options, struct buf *mistakes);
void producer_settings_cleanup(struct producer_settings *s); /* legal on a zeroed struct */

#endif
