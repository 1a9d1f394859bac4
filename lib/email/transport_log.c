/* The log backend of transport.h: for development, and wherever mail is to be seen and not sent. A
 * mail counts as sent once stdout has taken its line. */
#include <stdlib.h>
#include <strings.h>

#include "base/buf.h"
#include "base/json_out.h"
#include "base/log.h"
#include "email/transport_impl.h"

enum { POLL_MS = 10 };

enum log_step {
    LOG_STEP_QUEUED,
    LOG_STEP_ASKED,  /* before_dot was called */
    LOG_STEP_WRITTEN /* waiting for stdout to take the line */
};

struct log_delivery {
    struct delivery base;
    struct log_delivery *next;
    struct mail mail;
    struct delivery_callbacks callbacks;
    void *ctx;
    enum log_step step;
    bool permitted, cancelled, refused;
    uint64_t position; /* of the line's end in the log; 0: it was dropped */
};

struct log_transport {
    struct transport transport;
    struct loop *loop;
    struct log_delivery *first, *last;
    struct log_delivery *finishing; /* off the list, their callbacks still to be called */
    unsigned len;
    struct loop_task task;
    struct loop_timer timer;
};

/* ---- the line ---- */

static void put_recipients(struct buf *to, const struct mail *mail)
{
    buf_add_char(to, '[');
    for (size_t i = 0; i < mail->recipients_len; i++) {
        json_out_comma(to);
        json_out_string(to, mail->recipients[i]);
    }
    buf_add_char(to, ']');
}

/* Past the log's level: in this mode the line is the delivery. What the mail says stands in it
 * readably, and the message as it would have been sent. */
static uint64_t write_mail(const struct mail *mail)
{
    struct buf recipients = {0};
    uint64_t position = 0;

    put_recipients(&recipients, mail);
    if (!recipients.failed) {
        const struct log_field fields[] = {LOG_SLICE("messageID", mail->message_id),
                                           LOG_SLICE("type", mail->type),
                                           LOG_SLICE("from", mail->sender),
                                           LOG_JSON("to", buf_slice(&recipients)),
                                           LOG_SLICE("subject", mail->subject),
                                           LOG_SLICE("text", mail->text),
                                           LOG_SLICE("html", mail->html),
                                           LOG_SLICE("message", mail->message),
                                           {0}};
        position = log_write(LOG_INFO, "Email", fields);
    }
    buf_cleanup(&recipients);
    return position;
}

/* ---- deliveries ---- */

/* Returns false where the outcome is still open. */
static bool outcome_of(const struct log_delivery *d, struct outcome *out)
{
    if (d->refused)
        outcome_set(out, OUTCOME_CANCELLED, REASON_FENCE, STAGE_FENCE,
                    "the final dot was not permitted");
    else if (d->cancelled)
        outcome_set(out, OUTCOME_CANCELLED, REASON_CANCELLED,
                    d->step == LOG_STEP_ASKED ? STAGE_FENCE : STAGE_QUEUE,
                    "cancelled before the log took it");
    else if (d->step != LOG_STEP_WRITTEN)
        return false;
    else if (d->position && log_flushed() >= d->position)
        outcome_set(out, OUTCOME_SENT, REASON_NONE, STAGE_LOG, "%s", "");
    else if (!d->position || log_broken())
        outcome_set(out, OUTCOME_RETRY, REASON_INTERNAL, STAGE_LOG, "stdout does not take the log");
    else
        return false;
    return true;
}

/* Returns true where it wrote a line. */
static bool step(struct log_delivery *d)
{
    if (d->step == LOG_STEP_QUEUED && !d->cancelled) {
        d->step = LOG_STEP_ASKED;
        if (d->callbacks.before_dot)
            d->callbacks.before_dot(d->ctx, &d->base);
        else
            d->permitted = true;
    }
    if (d->step != LOG_STEP_ASKED || !d->permitted || d->cancelled)
        return false;
    d->position = write_mail(&d->mail);
    d->step = LOG_STEP_WRITTEN;
    return true;
}

/* Takes those off the list whose outcome is known; *waiting tells whether lines are yet to be taken
 * by stdout. */
static struct log_delivery *take_done(struct log_transport *t, bool *waiting)
{
    struct log_delivery *done = NULL, **done_end = &done, **link = &t->first;
    struct outcome outcome;

    t->last = NULL;
    while (*link) {
        struct log_delivery *d = *link;
        if (outcome_of(d, &outcome)) {
            *link = d->next;
            d->next = NULL;
            *done_end = d;
            done_end = &d->next;
        } else {
            *waiting |= d->step == LOG_STEP_WRITTEN;
            t->last = d;
            link = &d->next;
        }
    }
    return done;
}

static void finish_all(struct log_transport *t, struct log_delivery *done)
{
    struct outcome outcome;

    t->finishing = done;
    while (t->finishing) {
        struct log_delivery *d = t->finishing;
        t->finishing = d->next;
        t->len--;
        if (outcome_of(d, &outcome)) /* always; it may have been cancelled meanwhile */
            d->callbacks.finished(d->ctx, &outcome);
        free(d);
    }
}

static void go_on(void *ctx);

static void go_on_soon(struct log_transport *t)
{
    loop_defer(t->loop, &t->task, go_on, t);
}

static void go_on(void *ctx)
{
    struct log_transport *t = ctx;
    bool written = false, waiting = false;

    for (struct log_delivery *d = t->first; d; d = d->next)
        written |= step(d);
    finish_all(t, take_done(t, &waiting));
    /* The log is flushed at the end of the tick: look again in the next one, and then now and then.
     */
    if (written)
        go_on_soon(t);
    else if (waiting)
        loop_timer_start(t->loop, &t->timer, POLL_MS);
}

/* ---- the transport's interface ---- */

static struct delivery *log_send(struct transport *transport, const struct mail *mail,
                                 const struct delivery_callbacks *callbacks, void *ctx)
{
    struct log_transport *t = (struct log_transport *)transport;
    struct log_delivery *d = calloc(1, sizeof(*d));

    if (!d)
        return NULL;
    d->base.transport = transport;
    d->mail = *mail;
    d->callbacks = *callbacks;
    d->ctx = ctx;
    *(t->last ? &t->last->next : &t->first) = d;
    t->last = d;
    t->len++;
    go_on_soon(t);
    return &d->base;
}

static void log_dot(struct delivery *base, bool go)
{
    struct log_delivery *d = (struct log_delivery *)base;

    if (d->step != LOG_STEP_ASKED || d->cancelled)
        return;
    d->permitted = go;
    d->refused = !go;
    go_on_soon((struct log_transport *)base->transport);
}

static bool log_cancel(struct delivery *base)
{
    struct log_delivery *d = (struct log_delivery *)base;

    if (d->step == LOG_STEP_WRITTEN)
        return false;
    d->cancelled = true;
    d->refused = false;
    go_on_soon((struct log_transport *)base->transport);
    return true;
}

static void log_state(const struct transport *transport, struct transport_state *out)
{
    const struct log_transport *t = (const struct log_transport *)transport;

    *out = (struct transport_state){.up = true, .waiting = t->len};
}

static void log_shutdown(struct transport *transport)
{
    (void)transport; /* it holds nothing open */
}

static void free_list(struct log_delivery *d)
{
    while (d) {
        struct log_delivery *next = d->next;
        free(d);
        d = next;
    }
}

static void log_destroy(struct transport *transport)
{
    struct log_transport *t = (struct log_transport *)transport;

    loop_undefer(t->loop, &t->task);
    loop_timer_stop(t->loop, &t->timer);
    free_list(t->first);
    free_list(t->finishing);
    free(t);
}

struct transport *log_transport_new(struct loop *loop, struct error *err)
{
    static const struct transport_ops ops = {log_send,  log_dot,      log_cancel,
                                             log_state, log_shutdown, log_destroy};
    struct log_transport *t = calloc(1, sizeof(*t));

    if (!t) {
        error_set(err, "out of memory");
        return NULL;
    }
    t->transport.ops = &ops;
    t->loop = loop;
    loop_timer_init(&t->timer, go_on, t);
    return &t->transport;
}
