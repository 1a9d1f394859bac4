/* Carries out what the machines ask for, and feeds them the answers. */
#include "delivery/job.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json_out.h"
#include "base/log.h"

static struct pipeline *pipeline_of(const struct job *job)
{
    return job->pipeline;
}

static void start_renew_timer(struct job *job)
{
    struct pipeline *p = pipeline_of(job);

    loop_timer_start(p->parts.loop, &job->renew_timer, p->settings.policy.lease_ms / 3);
}

/* ---- store operations ---- */

static void do_claim(struct job *job);

static void store_op_over(struct job *job)
{
    job->store_ops--;
    if (job->claim_wanted && job->store_ops == 0 && !job->over)
        do_claim(job);
    pipeline_maybe_reap(job);
}

static void on_claim(void *ctx, const struct claim_answer *answer)
{
    struct job *job = ctx;
    const struct machine_input input = {.kind = INPUT_CLAIM, .claim = answer};

    job->claim_unanswered = answer->verdict == CLAIM_UNAVAILABLE;
    job->in_doubt |= answer->verdict == CLAIM_TAKEN_OVER;
    if (answer->verdict == CLAIM_WON || answer->verdict == CLAIM_TAKEN_OVER)
        start_renew_timer(job);
    report_claim(job, answer);
    job_feed(job, &input);
    store_op_over(job);
}

static bool is_expired(const struct job *job)
{
    return job->event.has_expires_at && clock_unix_ms() > job->event.expires_at_unix_ms;
}

static void feed_store(struct job *job, enum machine_input_kind kind, enum store_answer answer)
{
    const struct machine_input input = {
        .kind = kind, .store = answer, .expired = kind == INPUT_FENCE && is_expired(job)};

    job_feed(job, &input);
    store_op_over(job);
}

static void on_renewed(void *ctx, enum store_answer answer)
{
    struct job *job = ctx;

    job->renewing = false;
    feed_store(job, INPUT_RENEW, answer);
}

/* The D stands for a lease from when the store wrote it, which was after we asked. Whoever reads
 * the answer later than that (stopped, or on a machine that stood still) may find the mail taken
 * over and sent: no dot, as if the store had been silent. */
static void on_fenced(void *ctx, enum store_answer answer)
{
    const struct job *job = ctx;
    const struct machine_policy *policy = &pipeline_of(job)->settings.policy;
    const uint64_t waited_us = clock_monotonic_us() - job->fence_asked_us;

    if (answer == STORE_DONE && waited_us >= policy->lease_ms * 1000)
        answer = policy->fail_open ? STORE_LOST : STORE_UNAVAILABLE;
    feed_store(ctx, INPUT_FENCE, answer);
}

static void on_released(void *ctx, enum store_answer answer)
{
    feed_store(ctx, INPUT_RELEASED, answer);
}

static void on_marked(void *ctx, enum store_answer answer)
{
    struct job *job = ctx;

    report_marked(job, answer);
    feed_store(job, INPUT_MARKED, answer);
}

void job_on_renew_timer(void *ctx)
{
    struct job *job = ctx;
    struct pipeline *p = pipeline_of(job);

    if (!machine_needs_renewal(&job->machine))
        return;
    if (!job->renewing) {
        job->renewing = true;
        job->store_ops++;
        store_renew(p->parts.store, &job->claim, on_renewed, job);
    }
    start_renew_timer(job);
}

static bool is_redriven(const struct record *r)
{
    for (size_t i = 0; i < r->headers_len; i++)
        if (slice_is(r->headers[i].name, "dlq-redriven"))
            return true;
    return false;
}

static void do_claim(struct job *job)
{
    struct pipeline *p = pipeline_of(job);

    /* The claim is shared with the operations under way, which still mean the former token. */
    job->claim_wanted = job->store_ops > 0;
    if (job->claim_wanted)
        return;
    if (!job->claim_unanswered) /* else that one may have been set, and is ours then */
        store_new_token(job->claim.token);
    job->claim.message_id = job->identity;
    memcpy(job->claim.fp, job->event.fingerprint, sizeof(job->claim.fp));
    /* No topic, no record: a dead mark without one settles nothing but its own attempt. */
    job->claim.record =
        (struct coordinates){.topic = job->record.topic.len ? job->record.topic : slice_of(NULL, 0),
                             .partition = job->record.partition,
                             .offset = job->record.offset,
                             .published_unix_ms = job->record.timestamp_unix_ms,
                             .on_purpose = is_redriven(&job->record)};
    job->store_ops++;
    store_claim(p->parts.store, &job->claim, on_claim, job);
}

static void do_mark_sent(struct job *job)
{
    const struct sent_mark mark = {.sent_at_unix_ms = clock_unix_ms(),
                                   .attempts = job->machine.attempts + 1,
                                   .recipients = job->accepted_recipients};

    job->store_ops++;
    store_mark_sent(pipeline_of(job)->parts.store, &job->claim, &mark, on_marked, job);
}

static void do_mark_dead(struct job *job)
{
    const struct dead_mark mark = {.dead_at_unix_ms = clock_unix_ms(),
                                   .reason = dead_reason_name(job->machine.reason)};

    job->store_ops++;
    store_mark_dead(pipeline_of(job)->parts.store, &job->claim, &mark, on_marked, job);
}

/* ---- preparing ---- */

/* Composes the message and the envelope. False where memory is out. */
static bool compose(struct job *job)
{
    const struct event *ev = &job->event;
    const size_t n = event_recipients(ev);
    const int64_t date_unix_ms =
        ev->has_created_at ? ev->created_at_unix_ms : job->record.timestamp_unix_ms;
    struct error err = {0};

    if (!message_compose(&job->message, ev, &pipeline_of(job)->settings.message, date_unix_ms,
                         &err))
        return false;
    if (!job->recipients)
        job->recipients = arena_alloc(&job->arena, n * sizeof(*job->recipients));
    if (!job->recipients)
        return false;
    for (size_t i = 0; i < n; i++)
        job->recipients[i] = event_recipient(ev, i)->spec;
    job->mail = (struct mail){.sender = job->message.from->spec,
                              .recipients = job->recipients,
                              .recipients_len = n,
                              .message = buf_slice(&job->message.bytes),
                              .utf8 = job->message.utf8,
                              .message_id = ev->message_id,
                              .type = ev->type,
                              .subject = ev->subject,
                              .text = ev->text,
                              .html = ev->html};
    return true;
}

static void set_error(struct job *job, const char *text)
{
    snprintf(job->error, sizeof(job->error), "%s", text);
    job->reply[0] = '\0';
}

static void set_expired(struct job *job)
{
    set_error(job, job->machine.attempts || job->machine.inherited
                       ? "expiresAt passed before an attempt succeeded for certain"
                       : "expiresAt had passed when its turn came");
}

static void do_prepare(struct job *job)
{
    struct machine_input input = {.kind = INPUT_PREPARED};

    if (job->dead_on_arrival) {
        input.is_dead = true;
        input.dead = job->machine.reason;
    } else if (is_expired(job)) {
        set_expired(job);
        input.is_dead = true;
        input.dead = DEAD_EXPIRED;
    } else if (job->event.template_name.ptr) {
        set_error(job, "the event names a template, and this version knows none");
        input.is_dead = true;
        input.dead = DEAD_TEMPLATE_ERROR;
    }
    if (!input.is_dead && !compose(job))
        job->mail = (struct mail){0}; /* do_send turns that into a retry */
    job_feed(job, &input);
}

/* ---- sending ---- */

static void on_before_dot(void *ctx, struct delivery *delivery)
{
    struct job *job = ctx;
    /* It may have waited for the relay since it was composed. */
    const struct machine_input input = {.kind = INPUT_BEFORE_DOT, .expired = is_expired(job)};

    (void)delivery;
    job_feed(job, &input);
}

/* The refused ones of a mail that others got, for the header dlq-recipients. */
static void keep_refused(struct job *job, const struct outcome *outcome)
{
    struct buf json = {0};

    buf_add_char(&json, '[');
    for (size_t i = 0; i < outcome->refused_len; i++) {
        json_out_comma(&json);
        json_out_string(&json, job->mail.recipients[outcome->refused[i].index]);
    }
    buf_add_char(&json, ']');
    if (!json.failed)
        job->refused_json = arena_copy(&job->arena, buf_slice(&json));
    if (!job->refused_json.ptr) /* out of memory: redriven to nobody, rather than again to all */
        job->refused_json = slice_str("[]");
    buf_cleanup(&json);
    snprintf(job->error, sizeof(job->error), "the relay refused %zu of %zu recipients",
             outcome->refused_len, job->mail.recipients_len);
    snprintf(job->reply, sizeof(job->reply), "%s",
             outcome->refused_len ? outcome->refused[0].reply : "");
}

static void feed_outcome(struct job *job, const struct outcome *outcome)
{
    const struct machine_input input = {
        .kind = INPUT_OUTCOME, .outcome = outcome, .random = pipeline_random(pipeline_of(job))};

    if (outcome->class == OUTCOME_SENT && outcome->refused_len) {
        keep_refused(job, outcome);
    } else if (outcome->class != OUTCOME_SENT) {
        snprintf(
            job->error, sizeof(job->error), "%s%s", outcome->error,
            job->machine.inherited
                ? " (an earlier attempt ended without a reply: the mail may have been delivered)"
                : "");
        memcpy(job->reply, outcome->reply, sizeof(job->reply));
    }
    if (outcome->class == OUTCOME_CANCELLED && job->machine.expired)
        set_expired(job);
    job->in_doubt |= outcome->class == OUTCOME_AMBIGUOUS;
    if (outcome->class == OUTCOME_SENT) {
        job->accepted_unix_ms = clock_unix_ms();
        job->accepted_recipients = (uint32_t)(job->mail.recipients_len - outcome->refused_len);
    }
    /* Not tried, although it was its turn: another one is still at it. */
    if (outcome->relay_down && (outcome->reason != REASON_OUTAGE || job == pipeline_of(job)->probe))
        pipeline_probe_failed(pipeline_of(job));
    report_outcome(job, outcome);
    job_feed(job, &input);
    if (job->machine.state == MACHINE_RELEASING || job->machine.state == MACHINE_RETRY_WAIT ||
        job->machine.state == MACHINE_AMBIGUOUS_WAIT)
        report_will_retry(job, outcome);
}

static void on_finished(void *ctx, const struct outcome *outcome)
{
    struct job *job = ctx;

    job->delivery = NULL;
    feed_outcome(job, outcome);
    message_cleanup(&job->message); /* an event that waits shall not hold two copies of itself */
    pipeline_maybe_reap(job);
}

static void do_send(struct job *job)
{
    static const struct delivery_callbacks callbacks = {.before_dot = on_before_dot,
                                                        .finished = on_finished};
    static const struct outcome no_memory = {.class = OUTCOME_RETRY,
                                             .reason = REASON_INTERNAL,
                                             .stage = STAGE_QUEUE,
                                             .error = "out of memory"};
    struct pipeline *p = pipeline_of(job);

    job->mail.last_attempt = machine_last_attempt(&job->machine, &p->settings.policy);
    if (job->mail.recipients_len > 0)
        job->delivery = transport_send(p->parts.transport, &job->mail, &callbacks, job);
    if (!job->delivery)
        feed_outcome(job, &no_memory);
}

/* ---- dead letters ---- */

static void on_buried(void *ctx, bool acknowledged, const char *error)
{
    struct job *job = ctx;
    const struct machine_input input = {.kind = INPUT_BURIED, .acknowledged = acknowledged};

    job->burying = false;
    if (acknowledged)
        report_buried(job, job->machine.reason);
    else
        report_bury_failed(job, error);
    job_feed(job, &input);
    pipeline_maybe_reap(job);
}

static void do_bury(struct job *job, enum dead_reason reason)
{
    struct pipeline *p = pipeline_of(job);
    const struct dead_letter letter = {
        .record = &job->record,
        .reason = dead_reason_name(reason),
        .error = report_why_dead(job, reason),
        .attempts = job->machine.attempts + job->machine.partial,
        .failed_at_unix_ms = clock_unix_ms(),
        .smtp_reply = job->reply,
        .recipients_json = job->refused_json.ptr,
    };

    job->burying = true;
    p->parts.bury(p->parts.bury_ctx, &letter, on_buried, job);
}

/* ---- the machine ---- */

static void tell_settled(const struct job *job, enum pipeline_result result)
{
    const struct pipeline *p = job->pipeline;

    if (p->callbacks.settled)
        p->callbacks.settled(p->ctx, &job->record, result, job->in_doubt);
}

static void do_settle(struct job *job, const struct machine_action *action)
{
    static const enum pipeline_result results[] = {[RESULT_SENT] = PIPELINE_SENT,
                                                   [RESULT_DUPLICATE] = PIPELINE_DUPLICATE,
                                                   [RESULT_DEAD] = PIPELINE_DEAD,
                                                   [RESULT_DEAD_BEFORE] = PIPELINE_DEAD};
    struct pipeline *p = pipeline_of(job);
    const struct record *r = &job->record;

    report_settled(job, action->result);
    tell_settled(job, results[action->result]);
    p->callbacks.done(p->ctx, r->partition, r->generation, r->offset);
    pipeline_settled(job);
}

static void do_abandon(struct job *job)
{
    struct pipeline *p = pipeline_of(job);
    const struct record *r = &job->record;

    tell_settled(job, PIPELINE_ABANDONED);
    p->callbacks.abandoned(p->ctx, r->partition, r->generation, r->offset);
    pipeline_settled(job);
}

static void carry_out(struct job *job, const struct machine_action *action)
{
    struct pipeline *p = pipeline_of(job);

    switch (action->kind) {
    case ACTION_ENTER_GATE: pipeline_enter_gate(job); break;
    case ACTION_CLAIM: do_claim(job); break;
    case ACTION_PREPARE: do_prepare(job); break;
    case ACTION_SEND: do_send(job); break;
    case ACTION_FENCE:
        job->fence_asked_us = clock_monotonic_us();
        job->store_ops++;
        store_fence(p->parts.store, &job->claim, on_fenced, job);
        break;
    case ACTION_DOT:
        if (job->delivery)
            transport_dot(job->delivery, action->go);
        break;
    case ACTION_CANCEL_DELIVERY:
        /* False: the dot is on its way, and the true outcome follows. */
        if (job->delivery)
            (void)transport_cancel(job->delivery);
        break;
    case ACTION_RELEASE:
        job->store_ops++;
        store_release(p->parts.store, &job->claim, on_released, job);
        break;
    case ACTION_WAIT:
    case ACTION_WAIT_STORE: loop_timer_start(p->parts.loop, &job->timer, action->delay_ms); break;
    case ACTION_BURY: do_bury(job, action->reason); break;
    case ACTION_MARK_SENT: do_mark_sent(job); break;
    case ACTION_MARK_DEAD: do_mark_dead(job); break;
    case ACTION_SETTLE: do_settle(job, action); break;
    case ACTION_ABANDON: do_abandon(job); break;
    case ACTION_FREE: pipeline_job_over(job); break;
    }
}

void job_feed(struct job *job, const struct machine_input *input)
{
    const struct machine_policy *policy = &pipeline_of(job)->settings.policy;
    const enum machine_state before = job->machine.state;
    struct machine_actions actions = machine_step(&job->machine, policy, input);

    if (before != job->machine.state)
        log_debug("Event state", LOG_SLICE("messageID", job->event.message_id),
                  LOG_STR("from", machine_state_name(before)),
                  LOG_STR("to", machine_state_name(job->machine.state)));
    if (before != job->machine.state && job->machine.state != MACHINE_OVER)
        loop_timer_stop(pipeline_of(job)->parts.loop, &job->timer);
    for (unsigned i = 0; i < actions.len; i++)
        carry_out(job, &actions.list[i]);
    pipeline_recount(job);
}
