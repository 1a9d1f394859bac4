/* emailctl dlq redrive: dead letters go back to the topic of events.
 *
 * In batches: letters are produced, all of them are waited for, and only then is it kept (as the
 * committed offsets of the group CTL_REDRIVE_GROUP) that they were redriven. A crash between the
 * two redrives a batch again under the same messageIDs, which the service tells apart from new
 * mails. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "dlq.h"
#include "event_json.h"
#include "kafka/publisher.h"

enum {
    BATCH = 100,
    KEEP_MS = 500,
    NOTE_PER_LETTER = 16 /* a letter may split a run: two more lengths, of 8 characters at most */
};

struct sent { /* a letter of the batch */
    size_t span;
    int64_t offset;
    size_t unacknowledged; /* events of it; most letters are one */
    bool failed;
    char id[256]; /* for people */
};

struct redriving {
    struct dlq_view view;
    const struct ctl *ctl;
    const struct options *o;
    struct publisher *publisher; /* NULL with --dry-run */
    struct sent *batch;
    size_t len;
    bool *changed;    /* per span: progress to keep */
    size_t *note_len; /* per span: of what was kept last */
    uint64_t kept_ms; /* when progress was kept last */
    uint64_t next_ms; /* --rate: not before that */
    uint64_t redriven, skipped, already, failed, taken;
    bool broken; /* no use going on */
};

static void on_outcome(void *ctx, uint64_t tag, const char *error)
{
    struct redriving *r = ctx;
    struct sent *sent = &r->batch[tag];

    sent->unacknowledged--;
    if (!*error)
        return;
    if (!sent->failed)
        ctl_complain("%s: not redriven: %s", sent->id, error);
    sent->failed = true;
}

/* ---- keeping progress ---- */

static bool add_note(struct redriving *r, size_t i, struct topic_span *note, struct error *err)
{
    struct buf text = {0};
    bool good;

    *note = r->view.spans[i];
    good = progress_note(&r->view.progress[i], &note->note_offset, &text);
    if (!good)
        error_set(err, "partition %d: what was redriven is too scattered to be remembered",
                  note->partition);
    note->note = good ? strdup(text.ptr ? text.ptr : "") : NULL;
    r->note_len[i] = text.len;
    buf_cleanup(&text);
    return note->note || error_set(err, "out of memory");
}

static bool keep(struct redriving *r)
{
    struct topic_span *notes = calloc(r->view.len + 1, sizeof(*notes));
    struct error err = {0};
    bool good = notes || error_set(&err, "out of memory");
    size_t len = 0;

    for (size_t i = 0; good && i < r->view.len; i++)
        if (r->changed[i])
            good = add_note(r, i, &notes[len++], &err);
    good = good && (len == 0 || topic_reader_keep(r->view.reader, notes, len, &err));
    for (size_t i = 0; i < len; i++)
        free((char *)(uintptr_t)notes[i].note);
    free(notes);
    if (!good)
        ctl_complain("the progress cannot be kept: %s", err.text);
    for (size_t i = 0; good && i < r->view.len; i++)
        r->changed[i] = false;
    r->kept_ms = clock_monotonic_ms();
    return good;
}

static void say_redriven(struct redriving *r, const struct sent *sent)
{
    r->redriven++;
    printf("%s redriven\n", sent->id);
}

/* Waits for the batch, then keeps what became of it. */
static void end_batch(struct redriving *r)
{
    if (!r->len)
        return;
    publisher_flush(r->publisher);
    for (size_t i = 0; i < r->len; i++) {
        const struct sent *sent = &r->batch[i];
        if (sent->failed || sent->unacknowledged) {
            r->failed++;
            r->broken = true; /* the next ones would hardly fare better */
            continue;
        }
        progress_set(&r->view.progress[sent->span], sent->offset, true);
        r->changed[sent->span] = true;
        say_redriven(r, sent);
    }
    r->len = 0;
    if (!keep(r) || fflush(stdout) != 0)
        r->broken = true;
}

/* Whether progress can still be kept after one more letter: to be known before it goes out. Close
 * to the bound by trying it, which takes a look at all letters. */
static bool has_room(struct redriving *r, size_t span, int64_t offset)
{
    struct progress *progress = &r->view.progress[span];
    const bool before = progress_has(progress, offset);
    struct buf note = {0};
    int64_t at;
    bool room;

    if (r->note_len[span] + (r->len + 1) * NOTE_PER_LETTER <= PROGRESS_NOTE_MAX)
        return true;
    end_batch(r); /* so that only this letter is not in it yet */
    progress_set(progress, offset, true);
    room = progress_note(progress, &at, &note);
    progress_set(progress, offset, before);
    buf_cleanup(&note);
    return room;
}

/* ---- one letter ---- */

static void skip(struct redriving *r, const struct letter *letter, const char *why)
{
    r->skipped++;
    ctl_complain("%d:%lld %.*s skipped: %s", letter->partition, (long long)letter->offset,
                 SLICE_ARG(letter->message_id.ptr ? letter->message_id : slice_str("-")), why);
}

static void wait_for_rate(struct redriving *r)
{
    uint64_t now_ms = clock_monotonic_ms();

    if (!r->o->rate || !r->publisher) /* --dry-run spares nobody */
        return;
    while (now_ms < r->next_ms && !ctl_interrupted()) {
        if (now_ms - r->kept_ms >= KEEP_MS)
            end_batch(r);
        publisher_poll(r->publisher, r->next_ms - now_ms < 50 ? (int)(r->next_ms - now_ms) : 50);
        now_ms = clock_monotonic_ms();
    }
}

/* In microseconds there would be no drift; in milliseconds a burst a millisecond does. */
static void charge_rate(struct redriving *r)
{
    const uint64_t now_ms = clock_monotonic_ms();

    if (!r->o->rate)
        return;
    if (r->taken % (r->o->rate > 1000 ? r->o->rate / 1000 : 1) == 0)
        r->next_ms = now_ms + (r->o->rate > 1000 ? 1 : 1000 / r->o->rate);
}

struct outgoing {
    struct record record;
    struct slice id;
};

/* The events that a letter is sent as, in the arena; NULL where it can't be (err). */
static struct outgoing *prepare(struct arena *arena, const struct record *record,
                                const struct letter *letter, size_t *len, struct error *err)
{
    struct outgoing *out;
    struct record base = {.key = record->key, .value = record->value};

    *len = 1;
    if (!letter_redrive_headers(arena, letter, record, &base.headers, &base.headers_len)) {
        error_set(err, "out of memory");
        return NULL;
    }
    if (letter->recipients.ptr &&
        !event_json_parts(arena, record->value, letter->recipients, len, err))
        return NULL;
    if (*len == 0) {
        error_set(err, "none of the refused recipients is one of the event's");
        return NULL;
    }
    out = arena_alloc(arena, *len * sizeof(*out));
    for (size_t i = 0; out && i < *len; i++) {
        out[i] = (struct outgoing){base, letter->message_id};
        if (letter->recipients.ptr &&
            !event_json_narrow(arena, record->value, letter->recipients, letter->redriven + 1, i,
                               &out[i].record.value, &out[i].id, err))
            return NULL;
    }
    if (!out)
        error_set(err, "out of memory");
    return out;
}

static void name_sent(struct sent *sent, const struct letter *letter, const struct outgoing *out)
{
    const struct slice id = letter->message_id.ptr ? letter->message_id : slice_str("-");

    snprintf(
        sent->id, sizeof(sent->id), "%d:%lld %.*s%s%.*s", letter->partition,
        (long long)letter->offset, (int)(id.len < 100 ? id.len : 100), id.ptr,
        slice_equal(id, out->id) || !out->id.ptr ? "" : " as ",
        slice_equal(id, out->id) || !out->id.ptr ? 0 : (int)(out->id.len < 100 ? out->id.len : 100),
        out->id.ptr ? out->id.ptr : "");
    for (char *c = sent->id; *c; c++)
        if (*c < 0x20 || *c > 0x7E) /* no messageID has such, but a dead letter can hold anything */
            *c = '?';
}

static void send(struct redriving *r, const struct letter *letter, const struct outgoing *out,
                 size_t len)
{
    struct sent *sent = &r->batch[r->len];
    struct error err = {0};

    *sent =
        (struct sent){.span = dlq_view_find(&r->view, letter->partition), .offset = letter->offset};
    name_sent(sent, letter, &out[0]);
    if (!r->publisher) {
        r->redriven++;
        printf("%s would be redriven\n", sent->id);
        return;
    }
    for (size_t i = 0; i < len && !sent->failed; i++) {
        sent->unacknowledged++;
        if (publisher_send(r->publisher, &out[i].record, r->len, &err))
            continue;
        on_outcome(r, r->len, err.text);
    }
    r->len++;
}

static void redrive(struct redriving *r, struct arena *arena, const struct record *record,
                    const struct letter *letter)
{
    const char *obstacle = letter_obstacle(arena, letter, record, r->o,
                                           r->ctl->config->max_event_bytes, clock_unix_ms());
    struct error err = {0};
    struct outgoing *out;
    size_t len;

    if (obstacle) {
        skip(r, letter, obstacle);
        return;
    }
    out = prepare(arena, record, letter, &len, &err);
    if (!out) {
        skip(r, letter, err.text);
        return;
    }
    if (r->publisher && !has_room(r, dlq_view_find(&r->view, letter->partition), letter->offset)) {
        ctl_complain("what was redriven would be too scattered to be remembered: redrive without "
                     "filters, or purge old letters first");
        r->failed++;
        r->broken = true;
        return;
    }
    wait_for_rate(r);
    if (ctl_interrupted() || r->broken)
        return;
    r->taken++;
    send(r, letter, out, len);
    charge_rate(r);
    if (r->len == BATCH)
        end_batch(r);
}

static bool on_letter(void *ctx, struct arena *arena, const struct record *record,
                      const struct letter *letter)
{
    struct redriving *r = ctx;

    if (letter_matches(letter, r->o)) {
        if (!r->o->again && dlq_view_redriven(&r->view, letter))
            r->already++;
        else
            redrive(r, arena, record, letter);
    }
    return !r->broken && !ctl_interrupted() && !r->o->operand &&
           !(r->o->limit && r->taken >= r->o->limit);
}

/* ---- the command ---- */

static bool open_publisher(struct redriving *r)
{
    struct error err = {0};

    if (r->o->dry_run)
        return true;
    r->publisher = publisher_open(&r->ctl->kafka, r->ctl->config->kafka_topic_events,
                                  r->ctl->timeout_ms, on_outcome, r, &err);
    if (!r->publisher)
        ctl_complain("%s", err.text);
    return r->publisher != NULL;
}

static bool prepare_memory(struct redriving *r)
{
    r->batch = calloc(BATCH, sizeof(*r->batch));
    r->changed = calloc(r->view.len + 1, sizeof(*r->changed));
    r->note_len = calloc(r->view.len + 1, sizeof(*r->note_len));
    r->kept_ms = clock_monotonic_ms();
    if (!r->batch || !r->changed || !r->note_len) {
        ctl_complain("out of memory");
        return false;
    }
    for (size_t i = 0; i < r->view.len; i++)
        r->note_len[i] = strlen(r->view.spans[i].note);
    return true;
}

static bool say_summary(const struct redriving *r)
{
    printf("%s %llu dead letters to %s", r->o->dry_run ? "Would redrive" : "Redrove",
           (unsigned long long)r->redriven, r->ctl->config->kafka_topic_events);
    if (r->skipped)
        printf(", %llu skipped", (unsigned long long)r->skipped);
    if (r->already)
        printf(", %llu redriven before", (unsigned long long)r->already);
    if (r->failed)
        printf(", %llu failed", (unsigned long long)r->failed);
    return printf("\n") == 1 && fflush(stdout) == 0;
}

enum ctl_exit ctl_dlq_redrive(const struct ctl *ctl)
{
    struct redriving r = {.ctl = ctl, .o = ctl->options};
    bool good = dlq_view_open(&r.view, ctl) && dlq_view_narrow(&r.view) && prepare_memory(&r) &&
                open_publisher(&r);

    if (good) {
        ctl_catch_signals();
        good = dlq_view_each(&r.view, on_letter, &r);
        if (r.publisher)
            end_batch(&r);
        if (ctl_interrupted())
            ctl_complain("interrupted: run it again to go on");
        good = say_summary(&r) && good && !r.broken && !r.failed && !ctl_interrupted();
    }
    publisher_close(r.publisher);
    free(r.batch);
    free(r.changed);
    free(r.note_len);
    dlq_view_close(&r.view);
    return good ? CTL_DONE : CTL_FAILED;
}
