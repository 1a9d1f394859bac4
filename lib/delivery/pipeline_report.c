/* What the log (contract §8) and the metrics (§9) are told about an event. No address, subject,
 * body, code or password may pass through here. */
#include "delivery/job.h"

#include "base/clock.h"
#include "base/log.h"

#define JOB_ID(job) LOG_SLICE("messageID", (job)->event.message_id)

static struct metrics_event metrics_event(const struct job *job)
{
    return (struct metrics_event){.now_unix_ms = clock_unix_ms(),
                                  .message_id = job->event.message_id,
                                  .type = job->event.type};
}

static double seconds_since_taken(const struct job *job)
{
    return (double)(clock_monotonic_us() - job->taken_us) / 1e6;
}

static double seconds_end_to_end(const struct job *job)
{
    if (job->record.timestamp_unix_ms < 0)
        return METRICS_UNKNOWN;
    return (double)(job->accepted_unix_ms - job->record.timestamp_unix_ms) / 1e3;
}

/* False for what the producer library sends itself. */
static bool from_kafka(const struct job *job)
{
    return job->record.partition >= 0;
}

void report_consumed(const struct job *job)
{
    if (!from_kafka(job)) {
        log_info("Email event is sent directly", JOB_ID(job), LOG_SLICE("type", job->event.type));
        return;
    }
    log_info("Email event consumed", JOB_ID(job), LOG_SLICE("type", job->event.type),
             LOG_SLICE("topic", job->record.topic), LOG_INT("partition", job->record.partition),
             LOG_INT("offset", job->record.offset));
}

void report_claim(struct job *job, const struct claim_answer *answer)
{
    if (answer->verdict == CLAIM_UNREADABLE && !job->unreadable_told) {
        job->unreadable_told = true;
        log_error("Unreadable value in the idempotency key, waiting until it is gone", JOB_ID(job));
    } else if (answer->verdict == CLAIM_BUSY) {
        log_debug("Email event is claimed by another attempt, waiting", JOB_ID(job),
                  LOG_INT("waitMs", answer->wait_ms));
    } else if (answer->verdict == CLAIM_TAKEN_OVER) {
        log_warn("Taking over an attempt whose outcome is unknown", JOB_ID(job),
                 LOG_INT("takeovers", answer->takeovers));
    }
}

void report_outcome(const struct job *job, const struct outcome *outcome)
{
    struct metrics *m = job->pipeline->parts.metrics;

    if (outcome->class == OUTCOME_AMBIGUOUS)
        metrics_ambiguous(m);
    if (outcome->class != OUTCOME_SENT)
        return;
    log_info("Email sent successfully", JOB_ID(job), LOG_SLICE("type", job->event.type),
             LOG_INT("attempt", job->machine.attempts + 1),
             LOG_INT("recipients", job->mail.recipients_len - outcome->refused_len),
             LOG_INT("durationMs", seconds_since_taken(job) * 1e3));
}

void report_will_retry(const struct job *job, const struct outcome *outcome)
{
    const struct metrics_event event = metrics_event(job);

    if (outcome->reason == REASON_OUTAGE ||
        (job->machine.state == MACHINE_RELEASING && job->machine.after_release != ACTION_WAIT))
        return; /* not tried at all, or not tried again here */
    metrics_retry(job->pipeline->parts.metrics, &event, outcome->reason);
    log_warn("Email delivery failed, will retry", JOB_ID(job),
             LOG_INT("attempt", job->machine.attempts),
             LOG_STR("outcome", outcome_class_name(outcome->class)),
             LOG_STR("reason", outcome_reason_name(outcome->reason)),
             LOG_STR("stage", outcome_stage_name(outcome->stage)),
             LOG_INT("replyCode", outcome->code), LOG_STR("error", outcome->error));
}

void report_marked(const struct job *job, enum store_answer answer)
{
    const bool sent = job->machine.state == MACHINE_MARKING;

    if (answer == STORE_UNAVAILABLE)
        log_warn("The mark of an email's outcome is not written yet, the idempotency store is away",
                 JOB_ID(job));
    else if (answer == STORE_LOST)
        log_warn("Another attempt's outcome stands in the idempotency key", JOB_ID(job));
    else if (sent)
        log_info("Marked email as processed", JOB_ID(job));
}

const char *report_why_dead(const struct job *job, enum dead_reason reason)
{
    switch (reason) {
    case DEAD_ID_CONFLICT:
        return "this messageID was used before, with different recipients or content";
    case DEAD_AMBIGUOUS:
        return "the relay was lost after the final dot: it may or may not have taken the mail";
    default: break;
    }
    if (job->error[0])
        return job->error;
    return "an attempt ended without the relay's reply too often: the mail may have been delivered";
}

void report_buried(const struct job *job, enum dead_reason reason)
{
    const struct metrics_event event = metrics_event(job);

    metrics_dead_letter(job->pipeline->parts.metrics, &event, reason,
                        job->machine.partial ? METRICS_UNKNOWN : seconds_since_taken(job));
    if (!from_kafka(job)) {
        log_error(job->machine.partial ? "Email was refused for some of its recipients"
                                       : "Email could not be sent directly",
                  JOB_ID(job), LOG_STR("reason", dead_reason_name(reason)),
                  LOG_STR("error", report_why_dead(job, reason)),
                  LOG_INT("attempts", job->machine.attempts + job->machine.partial));
        return;
    }
    log_error("Email moved to dead letter queue", JOB_ID(job),
              LOG_STR("reason", dead_reason_name(reason)),
              LOG_STR("error", report_why_dead(job, reason)),
              LOG_INT("attempts", job->machine.attempts + job->machine.partial),
              LOG_INT("partition", job->record.partition), LOG_INT("offset", job->record.offset));
}

void report_bury_failed(const struct job *job, const char *error)
{
    log_error("The dead letter topic does not take an email, trying again", JOB_ID(job),
              LOG_STR("error", error ? error : ""));
}

void report_settled(const struct job *job, enum machine_result result)
{
    const struct metrics_event event = metrics_event(job);
    struct metrics *m = job->pipeline->parts.metrics;

    switch (result) {
    case RESULT_SENT:
        metrics_sent(m, &event, seconds_since_taken(job), seconds_end_to_end(job));
        break;
    case RESULT_DUPLICATE:
        metrics_duplicate(m, &event, seconds_since_taken(job));
        log_warn("Duplicate email event detected, skipping", JOB_ID(job),
                 LOG_INT("partition", job->record.partition),
                 LOG_INT("offset", job->record.offset));
        break;
    case RESULT_DEAD: break; /* told when it was acknowledged */
    case RESULT_DEAD_BEFORE:
        log_warn("The dead letter of this record was written before, skipping", JOB_ID(job),
                 LOG_INT("partition", job->record.partition),
                 LOG_INT("offset", job->record.offset));
        break;
    }
}
