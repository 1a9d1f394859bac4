/* One event under way; private to pipeline*.c. */
#ifndef JOB_H
#define JOB_H

#include "delivery/lanes.h"
#include "delivery/pipeline.h"

struct job {
    struct pipeline *pipeline;
    struct job *before, *after;             /* among all jobs, in the order they were taken */
    struct job *ready_before, *ready_after; /* in the queue before the gate */
    bool is_ready;

    struct arena arena;   /* everything below that is a slice */
    struct record record; /* a copy of our own: the consumer's memory is gone */
    struct event event;
    size_t bytes;      /* what it counts for in the window */
    uint64_t taken_us; /* monotonic */

    struct lane_member key_lane, id_lane;
    struct machine machine;
    bool in_flight;           /* counted in the window: not settled, not abandoned */
    bool active;              /* counted in pipeline.active */
    bool dead_on_arrival;     /* the event is invalid; machine.reason says how */
    bool started;             /* its predecessors are finished */
    bool may_probe;           /* counted in pipeline.probers */
    bool retry_waiting;       /* counted */
    bool over;                /* freed once nothing is under way for it any more */
    bool reaped;              /* … which is at the end of this tick */
    int64_t accepted_unix_ms; /* when the relay took it; 0: not yet */
    uint32_t accepted_recipients;
    bool in_doubt;        /* an attempt ended without the relay's reply */
    bool unreadable_told; /* the alarm about a foreign value was raised */

    struct slice identity; /* its key's name: the messageID, or its place where none can be read */
    struct claim claim;    /* of the present attempt */
    unsigned store_ops;    /* under way; a new claim waits until there are none */
    bool claim_wanted, renewing;
    bool claim_unanswered;   /* the same token is tried again: it may stand there */
    uint64_t fence_asked_us; /* monotonic */
    struct loop_timer timer, renew_timer;

    struct message message;
    struct mail mail;
    struct slice *recipients;
    struct delivery *delivery;
    bool burying; /* a dead letter is being produced */

    char error[384]; /* of the last failure, for the dead letter; without mail content */
    char reply[OUTCOME_MAX_REPLY + 1];
    struct slice
        refused_json; /* recipients that were refused while others were not; absent otherwise */
};

struct pipeline {
    struct pipeline_settings settings;
    struct pipeline_parts parts;
    struct pipeline_callbacks callbacks;
    void *ctx;

    struct job *first, *last;
    struct job *ready_first, *ready_last;
    size_t ready_len;
    uint64_t probe_delay_ms;       /* 0: no outage */
    struct loop_timer probe_timer; /* until the relay may be probed again */
    struct job *probe;             /* the one event that tries the relay while it is in outage */
    struct lanes *key_lanes, *id_lanes;
    struct pipeline_counts counts;
    size_t active;
    size_t probers; /* jobs that will tell whether the relay is back */
    uint64_t random_state;
    bool draining, empty_told;
    bool store_up, relay_up;

    struct job *dead_jobs; /* to be freed at the end of the tick (linked by ready_after) */
    struct loop_task gate_task, room_task, reap_task, empty_task;
};

/* pipeline_actions.c: carries out what a machine asks for. */
void job_feed(struct job *job, const struct machine_input *input);
void job_on_renew_timer(void *ctx);

/* pipeline.c */
void pipeline_enter_gate(struct job *job);
void pipeline_leave_gate(struct job *job);
void pipeline_settled(struct job *job);  /* leaves window and lanes */
void pipeline_job_over(struct job *job); /* leaves everything, freed later */
void pipeline_recount(struct job *job);  /* after a change of the machine's state */
void pipeline_maybe_reap(struct job *job);
void pipeline_probe_failed(struct pipeline *p); /* the relay as a whole is still failing */
uint64_t pipeline_random(struct pipeline *p);

/* pipeline_report.c: what the log and the metrics are told. */
void report_consumed(const struct job *job);
void report_claim(struct job *job, const struct claim_answer *answer);
void report_outcome(const struct job *job, const struct outcome *outcome);
void report_will_retry(const struct job *job, const struct outcome *outcome);
void report_marked(const struct job *job, enum store_answer answer);
/* What the dead letter says as dlq-error. */
const char *report_why_dead(const struct job *job, enum dead_reason reason);
void report_buried(const struct job *job, enum dead_reason reason);
void report_bury_failed(const struct job *job, const char *error);
void report_settled(const struct job *job, enum machine_result result);

#endif
