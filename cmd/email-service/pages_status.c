#include "pages_status.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "pages_status_css.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- pieces of HTML ---- */

static const char *entity_of(char c)
{
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

/* Safe as text and in quoted attributes, whatever the bytes are. */
static void add_text(struct buf *b, const char *text)
{
    struct slice rest = slice_str(text);

    while (rest.len) {
        const char *entity = entity_of(*rest.ptr);
        uint32_t code = 0;
        unsigned len = utf8_decode(rest, &code);

        if (entity)
            buf_add_str(b, entity);
        else if (len && code >= 0x20 && (code < 0x7F || code > 0x9F))
            buf_add(b, rest.ptr, len);
        else
            buf_add_str(b, "\xEF\xBF\xBD");
        len = len ? len : 1;
        rest = slice_of(rest.ptr + len, rest.len - len);
    }
}

/* 1234567 as "1 234 567", with thin spaces that do not break. */
static void add_number(struct buf *b, uint64_t value)
{
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%" PRIu64, value);

    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            buf_add_str(b, "&#8239;");
        buf_add_char(b, digits[i]);
    }
}

static void add_bytes(struct buf *b, uint64_t bytes)
{
    if (bytes < 1024)
        buf_addf(b, "%" PRIu64 " B", bytes);
    else if (bytes < 1024 * 1024)
        buf_addf(b, "%.1f KiB", (double)bytes / 1024);
    else
        buf_addf(b, "%.1f MiB", (double)bytes / (1024 * 1024));
}

/* The two largest units that matter: "3 d 4 h", "12 min 5 s". */
static void add_span(struct buf *b, int64_t ms)
{
    int64_t s = ms > 0 ? ms / 1000 : 0;

    if (s >= 86400)
        buf_addf(b, "%" PRId64 " d %" PRId64 " h", s / 86400, s % 86400 / 3600);
    else if (s >= 3600)
        buf_addf(b, "%" PRId64 " h %" PRId64 " min", s / 3600, s % 3600 / 60);
    else if (s >= 60)
        buf_addf(b, "%" PRId64 " min %" PRId64 " s", s / 60, s % 60);
    else
        buf_addf(b, "%" PRId64 " s", s);
}

static void add_clock(struct buf *b, int64_t unix_ms)
{
    char text[RFC3339_SIZE];

    rfc3339_format(unix_ms, text);
    buf_addf(b, "<time datetime=\"%s\" title=\"%s\">%.8s</time>", text, text, text + 11);
}

static void add_pill(struct buf *b, const char *class, const char *text)
{
    buf_addf(b, "<span class=\"pill %s\">%s</span>", class, text);
}

/* ---- header and footer ---- */

static void add_head(struct buf *b, const struct snapshot *s)
{
    buf_add_str(b, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                   "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
                   "<meta http-equiv=\"refresh\" content=\"5\"><title>email-service");
    buf_add_str(b, snapshot_ready(s) ? "" : " (not ready)");
    buf_add_str(b, "</title><style>");
    buf_add_str(b, pages_status_css);
    buf_add_str(b, "</style></head><body>\n");
}

static void add_overall(struct buf *b, const struct snapshot *s)
{
    if (s->shutting_down)
        add_pill(b, "warn", "shutting down");
    else if (snapshot_ready(s))
        add_pill(b, "ok", "ready");
    else if (s->kafka.up && s->redis.up && s->smtp.up)
        add_pill(b, "warn", "waiting for partitions");
    else
        add_pill(b, "bad", "not ready");
}

static void add_header(struct buf *b, const struct snapshot *s)
{
    buf_add_str(b, "<header><div><h1>email-service</h1>");
    add_overall(b, s);
    if (s->dev)
        add_pill(b, "info", "development mode");
    if (strcmp(s->mode, "log") == 0)
        add_pill(b, "info", "log mode: no mail is sent");
    buf_add_str(b, "<span class=\"grow\"></span><span class=\"soft small\">version ");
    add_text(b, s->version);
    buf_add_str(b, " &middot; ");
    add_text(b, s->instance);
    buf_add_str(b, " &middot; up ");
    add_span(b, s->now_unix_ms - s->started_unix_ms);
    buf_add_str(b, "</span></div></header>\n");
}

static void add_footer(struct buf *b, const struct snapshot *s)
{
    buf_add_str(b, "<footer>Since the start of this process, as of ");
    add_clock(b, s->now_unix_ms);
    buf_add_str(b, " UTC; refreshed every 5 seconds. For machines: <a href=\"/health\">health</a>, "
                   "<a href=\"/ready\">ready</a>, <a href=\"/live\">live</a>, "
                   "<a href=\"/stats\">stats</a>, <a href=\"/metrics\">metrics</a></footer>"
                   "</body></html>\n");
}

/* ---- the three neighbours ---- */

static void neighbour_begin(struct buf *b, const char *name, bool up, const char *down_word,
                            const char *error)
{
    buf_addf(b, "<section><div class=\"row\"><h2>%s</h2>", name);
    add_pill(b, up ? "ok" : "bad", up ? "up" : down_word);
    buf_add_str(b, "</div>");
    if (*error) {
        buf_add_str(b, "<p>");
        add_text(b, error);
        buf_add_str(b, "</p>");
    }
    buf_add_str(b, "<p class=\"soft small\">");
}

static void neighbour_end(struct buf *b)
{
    buf_add_str(b, "</p></section>\n");
}

static void add_kafka(struct buf *b, const struct snapshot *s)
{
    neighbour_begin(b, "Kafka", s->kafka.up, "unreachable", s->kafka.error);
    add_text(b, s->events_topic);
    buf_addf(b, " &middot; %u partition%s assigned &middot; lag ", s->kafka.assigned,
             s->kafka.assigned == 1 ? "" : "s");
    add_number(b, (uint64_t)snapshot_lag(s));
    neighbour_end(b);
}

static void add_redis(struct buf *b, const struct snapshot *s)
{
    neighbour_begin(b, s->dev ? "Idempotency (in memory)" : "Redis", s->redis.up, "unreachable",
                    s->redis.error);
    if (s->redis.records >= 0)
        add_number(b, (uint64_t)s->redis.records);
    else
        buf_add_str(b, "unknown number of");
    buf_addf(b, " mails marked sent, kept for %u h", s->ttl_hours);
    if (s->redis.evicts) {
        buf_add_str(b, " ");
        add_pill(b, "warn", "may evict records");
        buf_add_str(b, " maxmemory-policy is ");
        add_text(b, s->redis.eviction_policy);
    }
    neighbour_end(b);
}

static void add_relay(struct buf *b, const struct snapshot *s)
{
    bool log_mode = strcmp(s->mode, "log") == 0;

    neighbour_begin(b, log_mode ? "Log" : "SMTP relay", s->smtp.up, "in outage", s->smtp.error);
    if (log_mode)
        buf_add_str(b, "Mails are written to the log");
    else
        buf_addf(b, "Sessions: %u busy, %u idle, %u connecting &middot; %u mails waiting for one",
                 s->smtp.busy, s->smtp.idle, s->smtp.connecting, s->smtp.waiting);
    neighbour_end(b);
}

/* ---- numbers ---- */

static void add_tile(struct buf *b, const char *name, uint64_t value)
{
    buf_addf(b, "<section><div class=\"soft small\">%s</div><div class=\"num\">", name);
    add_number(b, value);
    buf_add_str(b, "</div></section>");
}

static void add_in_flight(struct buf *b, const struct snapshot *s)
{
    buf_add_str(b, "<section><div class=\"soft small\">In flight</div><div class=\"num\">");
    add_number(b, s->in_flight);
    buf_addf(b,
             "</div><progress max=\"%" PRIu64 "\" value=\"%" PRIu64
             "\" aria-label=\"share of the window\"></progress><div class=\"soft small\">of ",
             s->max_in_flight ? s->max_in_flight : 1, s->in_flight);
    add_number(b, s->max_in_flight);
    buf_add_str(b, ", ");
    add_bytes(b, s->in_flight_bytes);
    buf_add_str(b, "</div></section>");
}

static void add_tiles(struct buf *b, const struct snapshot *s, const struct metrics *m)
{
    buf_add_str(b, "<div class=\"grid tiles\">");
    add_tile(b, "Sent", m->sent);
    add_in_flight(b, s);
    add_tile(b, "Waiting for a retry", s->retry_waiting);
    add_tile(b, "Duplicates skipped", m->duplicates);
    add_tile(b, "Attempts repeated", m->retries_total);
    add_tile(b, "Dead letters", m->dead_total);
    buf_add_str(b, "</div>\n");
}

/* ---- the last hour ---- */

enum { BAR_WIDTH = 10, CHART_HEIGHT = 90 };

static uint64_t busiest(const struct metrics *m, int64_t newest)
{
    uint64_t most = 0;

    for (int64_t i = newest - METRICS_MINUTES + 1; i <= newest; i++) {
        struct minute minute = metrics_minute(m, i);
        if (minute.sent + minute.dead > most)
            most = minute.sent + minute.dead;
    }
    return most;
}

/* Pixels of `count` where `most` fills the chart; what happened at all is always to be seen. */
static unsigned bar_height(uint64_t count, uint64_t most)
{
    unsigned height;

    if (!count)
        return 0;
    height = (unsigned)((double)count * (CHART_HEIGHT - 4) / (double)most);
    return height ? height : 1;
}

static void add_bar(struct buf *b, const char *class, unsigned x, unsigned bottom, unsigned height)
{
    if (height)
        buf_addf(b, "<rect class=\"%s\" x=\"%u\" y=\"%u\" width=\"%d\" height=\"%u\"/>", class,
                 x + 1, bottom - height, BAR_WIDTH - 2, height);
}

static void add_minute(struct buf *b, unsigned x, struct minute minute, uint64_t most)
{
    unsigned dead = bar_height(minute.dead, most), sent = bar_height(minute.sent, most);
    char time[RFC3339_SIZE];

    if (!dead && !sent)
        return;
    rfc3339_format(minute.index * 60000, time);
    buf_addf(b,
             "<g><title>%.5s UTC: %" PRIu64 " sent, %" PRIu64 " dead letters, %" PRIu64
             " retries, %" PRIu64 " duplicates</title>",
             time + 11, minute.sent, minute.dead, minute.retries, minute.duplicates);
    add_bar(b, "dead", x, CHART_HEIGHT, dead);
    add_bar(b, "sent", x, CHART_HEIGHT - dead, sent);
    buf_add_str(b, "</g>");
}

static void add_chart(struct buf *b, const struct snapshot *s, const struct metrics *m)
{
    int64_t newest = s->now_unix_ms / 60000;
    uint64_t most = busiest(m, newest);

    buf_add_str(b, "<section><div class=\"row\"><h2>Last hour, by the minute</h2>"
                   "<span class=\"soft small\">peak ");
    add_number(b, most);
    buf_addf(b,
             "/min<span class=\"key sent\"></span>sent<span class=\"key dead\"></span>dead letters"
             "</span></div><svg viewBox=\"0 0 %d %d\" preserveAspectRatio=\"none\" role=\"img\" "
             "aria-label=\"mails per minute\"><line class=\"base\" x1=\"0\" y1=\"%d\" x2=\"%d\" "
             "y2=\"%d\"/>",
             METRICS_MINUTES * BAR_WIDTH, CHART_HEIGHT, CHART_HEIGHT, METRICS_MINUTES * BAR_WIDTH,
             CHART_HEIGHT);
    for (unsigned i = 0; i < METRICS_MINUTES; i++)
        add_minute(b, i * BAR_WIDTH, metrics_minute(m, newest - METRICS_MINUTES + 1 + i), most);
    buf_add_str(b, "</svg></section>\n");
}

/* ---- tables ---- */

static void add_cell(struct buf *b, int64_t value)
{
    buf_add_str(b, "<td class=\"n\">");
    if (value >= 0)
        add_number(b, (uint64_t)value);
    else
        buf_add_str(b, "unknown");
    buf_add_str(b, "</td>");
}

static void add_partitions(struct buf *b, const struct snapshot *s)
{
    buf_add_str(b, "<section><h2>Partitions</h2>");
    if (!s->partitions_len) {
        buf_add_str(b, "<p class=\"soft\">None assigned.</p></section>");
        return;
    }
    buf_add_str(b, "<div class=\"scroll\"><table><tr><th>Partition</th><th class=\"n\">Lag</th>"
                   "<th class=\"n\">Under way</th><th class=\"n\">Position</th></tr>");
    for (size_t i = 0; i < s->partitions_len; i++) {
        const struct partition_state *p = &s->partitions[i];
        buf_addf(b, "<tr><td>%" PRId32 "</td>", p->partition);
        add_cell(b, p->lag);
        add_cell(b, (int64_t)p->under_way);
        add_cell(b, p->watermark);
        buf_add_str(b, "</tr>");
    }
    buf_add_str(b, "</table></div></section>");
}

static void add_dead_letters(struct buf *b, const struct snapshot *s, const struct metrics *m)
{
    buf_add_str(b, "<section><h2>Dead letters by reason</h2>");
    if (!m->dead_total)
        buf_add_str(b, "<p class=\"soft\">None.");
    else {
        buf_add_str(b, "<table>");
        for (int i = 0; i < DEAD_REASONS; i++)
            if (m->dead[i]) {
                buf_addf(b, "<tr><td>%s</td>", dead_reason_name((enum dead_reason)i));
                add_cell(b, (int64_t)m->dead[i]);
                buf_add_str(b, "</tr>");
            }
        buf_add_str(b, "</table><p class=\"soft small\">In the topic ");
        add_text(b, s->dlq_topic);
    }
    buf_add_str(b, "</p></section>");
}

static const char *pill_of(enum outcome_kind kind)
{
    switch (kind) {
    case OUTCOME_KIND_SENT: return "ok";
    case OUTCOME_KIND_DUPLICATE: return "info";
    case OUTCOME_KIND_RETRY: return "warn";
    case OUTCOME_KIND_DEAD: return "bad";
    }
    return "info";
}

static void add_outcome(struct buf *b, const struct recent_outcome *r)
{
    buf_add_str(b, "<tr><td>");
    add_clock(b, r->at_unix_ms);
    buf_add_str(b, "</td><td>");
    add_pill(b, pill_of(r->kind), outcome_kind_name(r->kind));
    buf_add_str(b, "</td><td class=\"id\">");
    add_text(b, *r->message_id ? r->message_id : "(none)");
    buf_add_str(b, "</td><td>");
    add_text(b, r->type);
    buf_add_str(b, "</td><td>");
    add_text(b, r->reason);
    buf_add_str(b, "</td></tr>");
}

static void add_recent(struct buf *b, const struct metrics *m)
{
    const struct recent_outcome *r;

    buf_add_str(b, "<section><h2>Recent outcomes</h2>");
    if (!m->recent_total) {
        buf_add_str(b, "<p class=\"soft\">No event has been handled yet.</p></section>\n");
        return;
    }
    buf_add_str(b, "<div class=\"scroll\"><table><tr><th>Time (UTC)</th><th>Outcome</th>"
                   "<th>messageID</th><th>Type</th><th>Reason</th></tr>");
    for (size_t i = 0; (r = metrics_recent(m, i)); i++)
        add_outcome(b, r);
    buf_add_str(b, "</table></div></section>\n");
}

void pages_status(const struct snapshot *s, const struct metrics *m, struct buf *body)
{
    add_head(body, s);
    add_header(body, s);
    buf_add_str(body, "<main><div class=\"grid\">");
    add_kafka(body, s);
    add_redis(body, s);
    add_relay(body, s);
    buf_add_str(body, "</div>\n");
    add_tiles(body, s, m);
    add_chart(body, s, m);
    buf_add_str(body, "<div class=\"grid halves\">");
    add_partitions(body, s);
    add_dead_letters(body, s, m);
    buf_add_str(body, "</div>\n");
    add_recent(body, m);
    buf_add_str(body, "</main>");
    add_footer(body, s);
}
