#include "delivery/metrics.h"

/* From a fast relay next door (1 ms) to a few retries (5 minutes). */
const double histogram_bounds[HISTOGRAM_BOUNDS] = {
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300};

static void histogram_observe(struct histogram *h, double seconds)
{
    size_t i = 0;

    if (isnan(seconds))
        return;
    if (seconds < 0)
        seconds = 0;
    while (i < HISTOGRAM_BOUNDS && seconds > histogram_bounds[i])
        i++;
    h->counts[i]++;
    h->count++;
    h->sum += seconds;
}

/* The entry to count in. A clock that was set back a little goes on counting in the newest minute;
 * one that had been wrong by more than is kept starts over. */
static struct minute *minute_now(struct metrics *m, int64_t now_unix_ms)
{
    int64_t index = now_unix_ms > 0 ? now_unix_ms / 60000 : 0;
    struct minute *minute;

    if (index < m->newest_minute && m->newest_minute - index < METRICS_MINUTES)
        index = m->newest_minute;
    m->newest_minute = index;
    minute = &m->minutes[index % METRICS_MINUTES];
    if (minute->index != index)
        *minute = (struct minute){.index = index};
    return minute;
}

static void copy_text(char *out, size_t cap, struct slice text)
{
    size_t len = text.len < cap - 1 ? text.len : cap - 1;

    if (len)
        memcpy(out, text.ptr, len);
    out[len] = '\0';
}

static void remember(struct metrics *m, const struct metrics_event *e, enum outcome_kind kind,
                     const char *reason)
{
    struct recent_outcome *r = &m->recent[m->recent_total++ % METRICS_RECENT];

    r->at_unix_ms = e->now_unix_ms;
    r->kind = kind;
    r->reason = reason;
    copy_text(r->message_id, sizeof(r->message_id), e->message_id);
    copy_text(r->type, sizeof(r->type), e->type);
}

void metrics_init(struct metrics *m)
{
    *m = (struct metrics){0};
}

void metrics_consumed(struct metrics *m)
{
    m->consumed++;
}

void metrics_sent(struct metrics *m, const struct metrics_event *e, double delivery_seconds,
                  double end_to_end_seconds)
{
    m->sent++;
    minute_now(m, e->now_unix_ms)->sent++;
    histogram_observe(&m->delivery, delivery_seconds);
    histogram_observe(&m->end_to_end, end_to_end_seconds);
    remember(m, e, OUTCOME_KIND_SENT, "");
}

void metrics_duplicate(struct metrics *m, const struct metrics_event *e, double delivery_seconds)
{
    m->duplicates++;
    minute_now(m, e->now_unix_ms)->duplicates++;
    histogram_observe(&m->delivery, delivery_seconds);
    remember(m, e, OUTCOME_KIND_DUPLICATE, "");
}

void metrics_retry(struct metrics *m, const struct metrics_event *e, enum outcome_reason reason)
{
    /* A retry without a reason would be a mistake of ours; it must still show up in the labelled
     * metric. */
    if (reason <= REASON_NONE || reason > REASON_INTERNAL)
        reason = REASON_INTERNAL;
    m->retries[reason]++;
    m->retries_total++;
    minute_now(m, e->now_unix_ms)->retries++;
    remember(m, e, OUTCOME_KIND_RETRY, outcome_reason_name(reason));
}

void metrics_dead_letter(struct metrics *m, const struct metrics_event *e, enum dead_reason reason,
                         double delivery_seconds)
{
    m->dead[reason]++;
    m->dead_total++;
    minute_now(m, e->now_unix_ms)->dead++;
    histogram_observe(&m->delivery, delivery_seconds);
    remember(m, e, OUTCOME_KIND_DEAD, dead_reason_name(reason));
}

void metrics_ambiguous(struct metrics *m)
{
    m->ambiguous++;
}

const struct recent_outcome *metrics_recent(const struct metrics *m, size_t i)
{
    if (i >= METRICS_RECENT || i >= m->recent_total)
        return NULL;
    return &m->recent[(m->recent_total - 1 - i) % METRICS_RECENT];
}

struct minute metrics_minute(const struct metrics *m, int64_t index)
{
    if (index >= 0 && m->minutes[index % METRICS_MINUTES].index == index)
        return m->minutes[index % METRICS_MINUTES];
    return (struct minute){.index = index};
}

const char *outcome_kind_name(enum outcome_kind kind)
{
    switch (kind) {
    case OUTCOME_KIND_SENT: return "sent";
    case OUTCOME_KIND_DUPLICATE: return "duplicate";
    case OUTCOME_KIND_RETRY: return "retry";
    case OUTCOME_KIND_DEAD: return "dead";
    }
    return "unknown";
}
