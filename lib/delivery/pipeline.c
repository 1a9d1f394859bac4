#include "delivery/pipeline.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "delivery/job.h"

/* What a job costs beside its record's bytes; keeps tiny events from making the byte window
 * meaningless. */
enum { JOB_OVERHEAD_BYTES = 1024 };

/* The record's copy, and about as much for what is decoded from it: one allocation for nearly every
 * event. */
static size_t arena_size(const struct record *record)
{
    return record->value.len * 2 + record->key.len + JOB_OVERHEAD_BYTES;
}

/* How often the relay is probed in an outage: whichever event does it, so that events with few
 * attempts and short delays don't run into the dead-letter topic one after another. */
enum { PROBE_FIRST_MS = 1000, PROBE_LONGEST_MS = 10000 };

static void run_gate(void *ctx);

uint64_t pipeline_random(struct pipeline *p) /* xorshift64*: jitter needs no more */
{
    p->random_state ^= p->random_state >> 12;
    p->random_state ^= p->random_state << 25;
    p->random_state ^= p->random_state >> 27;
    return p->random_state * 0x2545F4914F6CDD1Du;
}

/* Both are asked for on every record, so they are kept here. */
static void look_at_parts(struct pipeline *p)
{
    struct store_state store;
    struct transport_state transport;

    store_state(p->parts.store, &store);
    transport_state(p->parts.transport, &transport);
    p->store_up = store.up;
    p->relay_up = transport.up;
}

struct pipeline *pipeline_new(const struct pipeline_settings *settings,
                              const struct pipeline_parts *parts,
                              const struct pipeline_callbacks *callbacks, void *ctx,
                              struct error *err)
{
    struct pipeline *p = calloc(1, sizeof(*p));

    if (!p)
        goto failed;
    p->settings = *settings;
    p->parts = *parts;
    p->callbacks = *callbacks;
    p->ctx = ctx;
    if (getrandom(&p->random_state, sizeof(p->random_state), 0) < 0 || p->random_state == 0)
        p->random_state = clock_monotonic_us() | 1;
    p->key_lanes = lanes_new();
    p->id_lanes = lanes_new();
    if (!p->key_lanes || !p->id_lanes)
        goto failed;
    loop_timer_init(&p->probe_timer, run_gate, p);
    look_at_parts(p);
    return p;

failed:
    error_set(err, "out of memory");
    pipeline_destroy(p);
    return NULL;
}

static void free_job(struct job *job)
{
    message_cleanup(&job->message);
    arena_cleanup(&job->arena);
    free(job);
}

static void reap(void *ctx)
{
    struct pipeline *p = ctx;

    while (p->dead_jobs) {
        struct job *job = p->dead_jobs;
        p->dead_jobs = job->ready_after;
        free_job(job);
    }
}

void pipeline_destroy(struct pipeline *p)
{
    if (!p)
        return;
    loop_timer_stop(p->parts.loop, &p->probe_timer);
    loop_undefer(p->parts.loop, &p->gate_task);
    loop_undefer(p->parts.loop, &p->room_task);
    loop_undefer(p->parts.loop, &p->reap_task);
    loop_undefer(p->parts.loop, &p->empty_task);
    reap(p);
    while (p->first) {
        struct job *next = p->first->after;
        loop_timer_stop(p->parts.loop, &p->first->timer);
        loop_timer_stop(p->parts.loop, &p->first->renew_timer);
        free_job(p->first);
        p->first = next;
    }
    lanes_destroy(p->key_lanes);
    lanes_destroy(p->id_lanes);
    free(p);
}

void pipeline_counts(const struct pipeline *p, struct pipeline_counts *out)
{
    *out = p->counts;
}

struct assignment {
    int32_t partition;
    uint64_t generation;
};

/* Feeds `kind` to every job, or to those of one assignment. Jobs that end on the way stay in
 * memory, with their links, until the end of the tick, so that the walk goes on. */
static void feed_all(struct pipeline *p, enum machine_input_kind kind,
                     const struct assignment *assignment)
{
    const struct machine_input input = {.kind = kind};
    struct job *next;

    for (struct job *job = p->first; job; job = next) {
        next = job->after;
        if (job->over || (assignment && (job->record.partition != assignment->partition ||
                                         job->record.generation != assignment->generation)))
            continue;
        job_feed(job, &input);
    }
}

/* ---- room ---- */

static bool store_usable(const struct pipeline *p)
{
    return p->store_up || p->settings.policy.fail_open;
}

/* So many at the gate keep it busy: the rest waits in Kafka, which has the memory. */
static size_t enough_ready(const struct pipeline *p)
{
    return p->settings.max_active / 4 + 16;
}

size_t pipeline_room(const struct pipeline *p)
{
    const struct pipeline_settings *s = &p->settings;

    if (p->draining || p->counts.in_flight >= s->max_in_flight ||
        p->counts.in_flight_bytes >= s->max_in_flight_bytes)
        return 0;
    if (p->ready_len >= enough_ready(p))
        return 0;
    if (!store_usable(p))
        return 0;
    if (p->probers > 0 && !p->relay_up)
        return 0; /* an outage must not empty the topic: the one that is here probes */
    return s->max_in_flight_bytes - p->counts.in_flight_bytes;
}

static void tell_room(void *ctx)
{
    struct pipeline *p = ctx;

    if (pipeline_room(p) > 0)
        p->callbacks.room_again(p->ctx);
}

static void tell_empty(void *ctx)
{
    struct pipeline *p = ctx;

    if (p->counts.jobs == 0 && !p->empty_told) {
        p->empty_told = true;
        p->callbacks.empty(p->ctx);
    }
}

/* ---- the gate: claims are made in the order of arrival, and no more than can be worked on ---- */

static bool may_pass(const struct pipeline *p, const struct job *job)
{
    if (p->relay_up)
        return p->active < p->settings.max_active;
    return !loop_timer_running(&p->probe_timer) && (p->probe == NULL || p->probe == job);
}

static void run_gate(void *ctx)
{
    static const struct machine_input open = {.kind = INPUT_GATE_OPEN};
    struct pipeline *p = ctx;

    if (!store_usable(p))
        return;
    while (p->ready_first && may_pass(p, p->ready_first)) {
        struct job *job = p->ready_first;
        if (!p->probe && !p->relay_up)
            p->probe = job;
        pipeline_leave_gate(job);
        job_feed(job, &open);
    }
}

void pipeline_probe_failed(struct pipeline *p)
{
    if (p->relay_up)
        return;
    p->probe_delay_ms = p->probe_delay_ms ? p->probe_delay_ms * 2 : PROBE_FIRST_MS;
    if (p->probe_delay_ms > PROBE_LONGEST_MS)
        p->probe_delay_ms = PROBE_LONGEST_MS;
    loop_timer_start(p->parts.loop, &p->probe_timer, p->probe_delay_ms);
}

static void wake_gate(struct pipeline *p)
{
    if (p->ready_first)
        loop_defer(p->parts.loop, &p->gate_task, run_gate, p);
}

void pipeline_enter_gate(struct job *job)
{
    struct pipeline *p = job->pipeline;
    const bool to_front = job == p->probe;

    job->is_ready = true;
    p->ready_len++;
    job->ready_before = to_front ? NULL : p->ready_last;
    job->ready_after = to_front ? p->ready_first : NULL;
    if (job->ready_before)
        job->ready_before->ready_after = job;
    else
        p->ready_first = job;
    if (job->ready_after)
        job->ready_after->ready_before = job;
    else
        p->ready_last = job;
    wake_gate(p);
}

void pipeline_leave_gate(struct job *job)
{
    struct pipeline *p = job->pipeline;

    if (!job->is_ready)
        return;
    job->is_ready = false;
    if (p->ready_len-- == enough_ready(p))
        loop_defer(p->parts.loop, &p->room_task, tell_room, p);
    if (job->ready_before)
        job->ready_before->ready_after = job->ready_after;
    else
        p->ready_first = job->ready_after;
    if (job->ready_after)
        job->ready_after->ready_before = job->ready_before;
    else
        p->ready_last = job->ready_before;
    job->ready_before = job->ready_after = NULL;
}

void pipeline_recount(struct job *job)
{
    struct pipeline *p = job->pipeline;
    const bool active = machine_is_active(&job->machine);
    const bool may_probe = job->started && job->in_flight && machine_may_probe(&job->machine);
    const bool waiting =
        job->machine.state == MACHINE_RETRY_WAIT || job->machine.state == MACHINE_AMBIGUOUS_WAIT;

    if (active != job->active) {
        p->active += active ? 1 : (size_t)-1;
        job->active = active;
        if (!active)
            wake_gate(p);
    }
    if (may_probe != job->may_probe) {
        p->probers += may_probe ? 1 : (size_t)-1;
        job->may_probe = may_probe;
        if (!may_probe && p->probe == job) /* the next one may try */
            p->probe = NULL;
        if (!may_probe && !p->relay_up) {
            wake_gate(p);
            loop_defer(p->parts.loop, &p->room_task, tell_room, p);
        }
    }
    if (waiting != job->retry_waiting) {
        p->counts.retry_waiting += waiting ? 1 : (size_t)-1;
        job->retry_waiting = waiting;
    }
}

void pipeline_parts_changed(struct pipeline *p)
{
    const bool store_was_up = p->store_up;

    look_at_parts(p);
    if (p->relay_up) {
        p->probe = NULL;
        p->probe_delay_ms = 0;
        loop_timer_stop(p->parts.loop, &p->probe_timer);
    } else if (p->probe_delay_ms == 0) {
        pipeline_probe_failed(p); /* an outage begins */
    }
    if (p->store_up && !store_was_up)
        feed_all(p, INPUT_STORE_UP, NULL);
    wake_gate(p);
    loop_defer(p->parts.loop, &p->room_task, tell_room, p);
}

/* ---- lanes ---- */

static void start(struct job *job)
{
    const struct machine_input begin = {.kind = INPUT_START,
                                        .is_dead = job->dead_on_arrival,
                                        .dead = job->machine.reason,
                                        .has_identity = true};

    job->started = true;
    job_feed(job, &begin);
}

/* A duplicate that is here at the same time waits for its twin's outcome instead of for the lease.
 */
static void enter_id_lane(struct job *job)
{
    if (lanes_enter(job->pipeline->id_lanes, &job->id_lane, job->identity, job) != LANE_BEHIND)
        start(job); /* without memory the claim alone decides */
}

static void enter_key_lane(struct job *job)
{
    if (!job->record.key.ptr ||
        lanes_enter(job->pipeline->key_lanes, &job->key_lane, job->record.key, job) != LANE_BEHIND)
        enter_id_lane(job);
}

static void leave_lanes(struct job *job)
{
    struct job *next = lanes_leave(job->pipeline->id_lanes, &job->id_lane);

    if (next)
        start(next);
    next = lanes_leave(job->pipeline->key_lanes, &job->key_lane);
    if (next)
        enter_id_lane(next);
}

/* ---- taking a record ---- */

static bool copy_headers(struct job *job, const struct record *from)
{
    struct record_header *headers;

    headers = arena_alloc(&job->arena, (from->headers_len + 1) * sizeof(*headers));
    if (!headers)
        return false;
    for (size_t i = 0; i < from->headers_len; i++) {
        headers[i].name = arena_copy(&job->arena, from->headers[i].name);
        headers[i].value = arena_copy(&job->arena, from->headers[i].value);
        if (!headers[i].name.ptr || (from->headers[i].value.ptr && !headers[i].value.ptr))
            return false;
    }
    job->record.headers = headers;
    return true;
}

static bool copy_record(struct job *job, const struct record *from)
{
    job->record = *from;
    job->record.topic = arena_copy(&job->arena, from->topic);
    job->record.key = arena_copy(&job->arena, from->key);
    job->record.value = arena_copy(&job->arena, from->value);
    return job->record.topic.ptr && (job->record.key.ptr || !from->key.ptr) &&
           (job->record.value.ptr || !from->value.ptr) && copy_headers(job, from);
}

static void on_timer(void *ctx)
{
    struct job *job = ctx;
    const struct machine_input input = {.kind = INPUT_TIMER,
                                        .random = pipeline_random(job->pipeline)};

    job_feed(job, &input);
}

static struct job *new_job(struct pipeline *p, const struct record *record)
{
    struct job *job = calloc(1, sizeof(*job));

    if (!job)
        return NULL;
    arena_init_sized(&job->arena, arena_size(record));
    message_init(&job->message);
    machine_init(&job->machine);
    job->pipeline = p;
    job->taken_us = clock_monotonic_us();
    loop_timer_init(&job->timer, on_timer, job);
    loop_timer_init(&job->renew_timer, job_on_renew_timer, job);
    if (!copy_record(job, record)) {
        free_job(job);
        return NULL;
    }
    return job;
}

static void link_job(struct pipeline *p, struct job *job)
{
    job->before = p->last;
    if (p->last)
        p->last->after = job;
    else
        p->first = job;
    p->last = job;
    job->in_flight = true;
    p->counts.jobs++;
    p->counts.in_flight++;
    p->counts.in_flight_bytes += job->bytes;
    p->empty_told = false;
}

/* Stands for the messageID that cannot be read: where the record is. Empty for what came from no
 * record. */
static struct slice place_of(struct job *job)
{
    const struct record *r = &job->record;
    char text[320];

    if (!r->topic.len)
        return slice_of(NULL, 0);
    snprintf(text, sizeof(text), "%.*s/%" PRId32 "/%" PRId64, (int)r->topic.len, r->topic.ptr,
             r->partition, r->offset);
    return arena_copy(&job->arena, slice_str(text));
}

/* Its dead letter is to be written once, so it is claimed like any other; its fingerprint is none,
 * so that nobody takes it for another mail's. */
static void take_dead(struct job *job, enum dead_reason reason)
{
    const struct machine_input input = {.kind = INPUT_START, .is_dead = true, .dead = reason};

    job->machine.reason = reason;
    job->dead_on_arrival = true;
    job->identity = job->event.message_id.ptr ? job->event.message_id : place_of(job);
    job->claim.by_place = !job->event.message_id.ptr;
    if (!job->identity.ptr) {
        job_feed(job, &input);
        return;
    }
    memset(job->event.fingerprint, 'x', EVENT_FINGERPRINT_LEN);
    enter_key_lane(job);
}

void pipeline_take(struct pipeline *p, const struct record *record)
{
    struct job *job = new_job(p, record);
    enum event_status status = EVENT_NO_MEMORY;
    struct error err = {0};

    if (job) {
        status = event_decode(&job->arena, job->record.value, p->settings.max_event_bytes,
                              &job->event, &err);
        if (status == EVENT_NO_MEMORY)
            free_job(job);
    }
    if (status == EVENT_NO_MEMORY) {
        /* Not done, not committed: a restart brings it again. Better than a guess about its
         * content. */
        log_error("Out of memory, a record was given up", LOG_INT("partition", record->partition),
                  LOG_INT("offset", record->offset));
        if (p->callbacks.settled)
            p->callbacks.settled(p->ctx, record, PIPELINE_ABANDONED, false);
        p->callbacks.abandoned(p->ctx, record->partition, record->generation, record->offset);
        return;
    }
    job->bytes = job->arena.used + JOB_OVERHEAD_BYTES; /* the record, and what was decoded of it */
    link_job(p, job);
    metrics_consumed(p->parts.metrics);
    report_consumed(job);
    if (status == EVENT_OK) {
        job->identity = job->event.message_id;
        enter_key_lane(job);
        return;
    }
    memcpy(job->error, err.text, sizeof(err.text));
    take_dead(job, status == EVENT_TOO_LARGE ? DEAD_TOO_LARGE : DEAD_INVALID_EVENT);
}

/* ---- leaving ---- */

void pipeline_settled(struct job *job)
{
    struct pipeline *p = job->pipeline;

    if (!job->in_flight)
        return;
    job->in_flight = false;
    p->counts.in_flight--;
    p->counts.in_flight_bytes -= job->bytes;
    if (p->probe == job)
        p->probe = NULL;
    leave_lanes(job);
    wake_gate(p);
    loop_defer(p->parts.loop, &p->room_task, tell_room, p);
}

void pipeline_job_over(struct job *job)
{
    struct pipeline *p = job->pipeline;

    pipeline_settled(job);
    pipeline_leave_gate(job);
    loop_timer_stop(p->parts.loop, &job->timer);
    loop_timer_stop(p->parts.loop, &job->renew_timer);
    job->over = true;
    pipeline_maybe_reap(job);
}

void pipeline_maybe_reap(struct job *job)
{
    struct pipeline *p = job->pipeline;

    if (!job->over || job->reaped || job->store_ops || job->delivery || job->burying)
        return;
    job->reaped = true;
    if (job->before)
        job->before->after = job->after;
    else
        p->first = job->after;
    if (job->after)
        job->after->before = job->before;
    else
        p->last = job->before;
    job->before = NULL; /* `after` stays readable for a loop over the jobs that is under way */
    job->ready_after = p->dead_jobs;
    p->dead_jobs = job;
    p->counts.jobs--;
    loop_defer(p->parts.loop, &p->reap_task, reap, p);
    if (p->draining && p->counts.jobs == 0)
        loop_defer(p->parts.loop, &p->empty_task, tell_empty, p);
}

/* ---- revoke, drain, cancel ---- */

void pipeline_revoke(struct pipeline *p, int32_t partition, uint64_t generation)
{
    const struct assignment assignment = {partition, generation};

    feed_all(p, INPUT_CANCEL, &assignment);
}

void pipeline_drain(struct pipeline *p)
{
    p->draining = true;
    feed_all(p, INPUT_DRAIN, NULL);
    loop_defer(p->parts.loop, &p->empty_task, tell_empty, p);
}

void pipeline_cancel(struct pipeline *p)
{
    p->draining = true;
    feed_all(p, INPUT_CANCEL, NULL);
    loop_defer(p->parts.loop, &p->empty_task, tell_empty, p);
}
