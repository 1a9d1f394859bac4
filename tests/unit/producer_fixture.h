/* Producers for the unit tests: nothing from the environment, outcomes and log lines counted. */
#ifndef PRODUCER_FIXTURE_H
#define PRODUCER_FIXTURE_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "producer/email_producer.h"

enum { RESULTS = EMAIL_UNKNOWN + 1 };

struct seen { /* what the callbacks told */
    pthread_mutex_t mutex;
    unsigned outcomes, results[RESULTS], mails, warnings;
    char error[512], message_id[EMAIL_PRODUCER_ID_SIZE], topic[64], mail[4096];
    pthread_t thread;
    int64_t offset;
};

#define SEEN_INIT                                                                                  \
    {                                                                                              \
        .mutex = PTHREAD_MUTEX_INITIALIZER                                                         \
    }

static inline void on_outcome(const email_outcome *outcome, void *context)
{
    struct seen *seen = context;

    pthread_mutex_lock(&seen->mutex);
    seen->outcomes++;
    seen->results[outcome->result]++;
    seen->thread = pthread_self();
    seen->offset = outcome->offset;
    snprintf(seen->error, sizeof(seen->error), "%s", outcome->error);
    snprintf(seen->message_id, sizeof(seen->message_id), "%s", outcome->message_id);
    snprintf(seen->topic, sizeof(seen->topic), "%s", outcome->topic ? outcome->topic : "");
    pthread_mutex_unlock(&seen->mutex);
}

static inline void on_log(const char *level, const char *line, void *context)
{
    struct seen *seen = context;

    assert_null(strchr(line, '\n'));
    pthread_mutex_lock(&seen->mutex);
    seen->warnings += strcmp(level, "warn") == 0;
    if (strstr(line, "\"msg\":\"Email\",")) {
        seen->mails++;
        snprintf(seen->mail, sizeof(seen->mail), "%s", line);
    }
    pthread_mutex_unlock(&seen->mutex);
}

static inline email_event good_event(void)
{
    email_event e = EMAIL_EVENT_INIT;

    e.to = "Ada <Ada@Example.com>";
    e.subject = "Your code";
    e.text = "123456";
    e.type = "verification_code";
    return e;
}

static inline email_producer *start_with(const char *const *settings, struct seen *seen,
                                         size_t max_queued, int64_t publish_timeout_ms)
{
    const email_producer_options options = {.struct_size = sizeof(options),
                                            .settings = settings,
                                            .ignore_environment = 1,
                                            .max_queued = max_queued,
                                            .publish_timeout_ms = publish_timeout_ms,
                                            .log = seen ? on_log : NULL,
                                            .log_context = seen};
    char error[EMAIL_PRODUCER_ERROR_SIZE];
    email_producer *p = email_producer_new(&options, error, sizeof(error));

    if (!p)
        print_error("email_producer_new: %s\n", error);
    assert_non_null(p);
    return p;
}

#endif
