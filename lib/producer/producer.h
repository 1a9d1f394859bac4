/* One producer; private to producer.c (the caller's threads) and producer_thread.c (the library's).
 *
 * What is below `mutex` belongs to it. What is above is the library's thread's own once that runs,
 * but for what never changes: settings, thread, loop, kafka_path. */
#ifndef PRODUCER_PRODUCER_H
#define PRODUCER_PRODUCER_H

#include <pthread.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/loop.h"
#include "producer/direct.h"
#include "producer/kafka_path.h"
#include "producer/settings.h"

struct entry {                    /* one event without its outcome yet */
    struct direct_item item;      /* first: it comes back by it */
    struct entry *before, *after; /* in `pending`, in the order of the calls */
    struct entry *next_submitted;
    uint64_t number;
    email_outcome_fn fn;
    void *context;
    struct slice message_id, key; /* in the same allocation; message_id ends with a NUL */
    size_t json_len;
    struct slice json; /* a copy; while the event is with Kafka there is none: librdkafka has one */
    bool perhaps_published;
    char kafka_error[160];
};

/* What a thread needs for one call of send. */
struct scratch {
    struct scratch *next;
    struct arena arena;
    struct buf json;
};

enum producer_state { PRODUCER_STARTING, PRODUCER_RUNNING, PRODUCER_FAILED };

struct email_producer {
    struct producer_settings settings;
    pthread_t thread;

    struct loop *loop;
    struct kafka_path *kafka_path; /* NULL with ENABLE_KAFKA=false */
    struct direct *direct;         /* NULL where it cannot send directly */
    bool stopping;
    struct loop_timer grace_timer;

    pthread_mutex_t mutex;
    pthread_cond_t changed; /* state, or the head of pending */
    enum producer_state state;
    struct error start_error;
    bool closing;        /* takes nothing more */
    bool stop_requested; /* the thread is to end */
    struct entry *pending_first, *pending_last;
    struct entry *submitted_first, *submitted_last; /* in `pending` too: not for Kafka */
    size_t pending_len, pending_bytes;
    struct scratch *scratches; /* not in use */
    uint64_t last_number;
};

/* For sending directly. */
BASE_CHECK bool entry_keep_json(struct entry *e, struct slice json);
/* With the mutex: out of `pending`. */
void entry_unlink(struct email_producer *p, struct entry *e);
void entry_free(struct entry *e);

/* The library's thread; arg is the producer. */
void *producer_thread(void *arg);

#endif
