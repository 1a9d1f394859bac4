#include "email/smtp_session.h"

#include <stdlib.h>
#include <sys/epoll.h>

enum { RECEIVE_BYTES = 4096, QUIT_WAIT_MS = 2000 };

static const char quit_command[] = "QUIT\r\n";

/* ---- the transactions ---- */

static struct smtp_transaction *present(struct smtp_session *s)
{
    return &s->transactions[s->present];
}

static struct smtp_transaction *other(struct smtp_session *s)
{
    return &s->transactions[!s->present];
}

const struct smtp_transaction *smtp_session_transaction(const struct smtp_session *s)
{
    return &s->transactions[s->present];
}

/* True where the queued mail's turn has come, or comes once settle() has told of the present one.
 */
static bool queued_is_next(struct smtp_session *s)
{
    return s->queued && !s->queued_dropped && present(s)->phase == SMTP_PHASE_OVER &&
           present(s)->reusable;
}

/* Whose reply comes next; the last one that was over where none is awaited. */
static struct smtp_transaction *receiver(struct smtp_session *s)
{
    return queued_is_next(s) ? other(s) : present(s);
}

/* ---- deadlines ---- */

/* Most deadlines are met: they are moved by storing an instant, and the timer catches up when it
 * fires. */
static void set_deadline(struct smtp_session *s, uint64_t delay_ms)
{
    s->deadline_ms = loop_now_ms(s->loop) + delay_ms;
    if (loop_timer_running(&s->timer) && s->timer.due_ms <= s->deadline_ms)
        return;
    loop_timer_start(s->loop, &s->timer, delay_ms);
}

/* ---- the end of it ---- */

void smtp_session_drop(struct smtp_session *s)
{
    if (s->state == SESSION_DEAD)
        return;
    s->state = SESSION_DEAD;
    loop_fd_remove(s->loop, &s->watch);
    loop_timer_stop(s->loop, &s->timer);
    loop_undefer(s->loop, &s->settle_task);
    loop_undefer(s->loop, &s->quit_task);
    smtp_link_close(s->link);
    s->link = NULL;
}

void smtp_session_free(struct smtp_session *s)
{
    smtp_session_drop(s);
    smtp_transaction_cleanup(&s->transactions[0]);
    smtp_transaction_cleanup(&s->transactions[1]);
    free(s);
}

static void close_quietly(struct smtp_session *s)
{
    smtp_session_drop(s);
    s->events->closed(s->owner, s);
}

/* The connection is of no more use. A mail under way gets its outcome by settle(). */
static void lose(struct smtp_session *s, enum outcome_reason reason, const char *what)
{
    if (s->state == SESSION_BUSY)
        smtp_transaction_fail(receiver(s), reason, what);
    else if (s->state == SESSION_IDLE || s->state == SESSION_QUITTING)
        close_quietly(s);
}

/* ---- reading ---- */

static void on_reply(struct smtp_session *s)
{
    if (s->state == SESSION_BUSY)
        smtp_transaction_reply(receiver(s), &s->parser.reply);
    else
        close_quietly(s); /* the answer to QUIT */
}

static bool receiving(struct smtp_session *s)
{
    return s->state != SESSION_DEAD &&
           !(s->state == SESSION_BUSY && receiver(s)->phase == SMTP_PHASE_OVER);
}

static void take_bytes(struct smtp_session *s, struct slice bytes)
{
    if (s->state == SESSION_IDLE) { /* unasked, most likely a 421 */
        close_quietly(s);
        return;
    }
    while (bytes.len && s->state != SESSION_DEAD) {
        size_t used;
        const enum smtp_reply_state state = smtp_reply_feed(&s->parser, bytes, &used);
        bytes = slice_of(bytes.ptr + used, bytes.len - used);
        if (state == SMTP_REPLY_READY)
            on_reply(s);
        else if (state == SMTP_REPLY_BROKEN) {
            lose(s, REASON_PROTOCOL, "the relay's reply is none");
            return;
        }
        if (!receiving(s)) {
            /* More than it was asked for: who knows what the next reply would belong to. */
            if (bytes.len)
                receiver(s)->reusable = false;
            return;
        }
    }
}

static void receive(struct smtp_session *s)
{
    char bytes[RECEIVE_BYTES];

    while (receiving(s)) {
        size_t len;
        switch (smtp_link_receive(s->link, bytes, sizeof(bytes), &len)) {
        case SMTP_IO_OK: take_bytes(s, slice_of(bytes, len)); break;
        case SMTP_IO_AGAIN: return;
        case SMTP_IO_EOF: lose(s, REASON_LOST, "the relay closed the connection"); return;
        case SMTP_IO_FAILED: lose(s, REASON_LOST, "the connection was lost"); return;
        }
        if (len < sizeof(bytes) && s->link && !smtp_link_may_be_tls(s->link))
            return; /* drained: what comes later makes the fd readable again */
    }
}

/* ---- writing ---- */

static void want_write(struct smtp_session *s, bool wanted)
{
    const uint32_t events = wanted ? EPOLLIN | EPOLLOUT : EPOLLIN;

    if (!loop_fd_change(s->loop, &s->watch, events))
        lose(s, REASON_INTERNAL, "epoll failed");
}

/* What is to be written: of the mail under way, and behind its dot of the queued one. */
static size_t gather(struct smtp_session *s, struct slice out[2])
{
    const bool behind = s->queued && !s->queued_dropped &&
                        (present(s)->phase == SMTP_PHASE_DOT || queued_is_next(s));
    size_t n = 0;

    out[0] = smtp_transaction_output(present(s));
    if (out[0].len)
        n++;
    if (behind)
        out[n] = smtp_transaction_output(other(s));
    if (behind && out[n].len)
        n++;
    return n;
}

static void note_sent(struct smtp_session *s, const struct slice out[2], size_t sent)
{
    struct smtp_transaction *first =
        smtp_transaction_output(present(s)).len ? present(s) : other(s);
    const size_t of_first = sent < out[0].len ? sent : out[0].len;

    smtp_transaction_sent(first, of_first);
    if (sent > of_first)
        smtp_transaction_sent(other(s), sent - of_first);
}

static void write_transactions(struct smtp_session *s)
{
    struct slice out[2];
    size_t n, sent;

    while ((n = gather(s, out))) {
        if (smtp_link_may_be_tls(s->link))
            smtp_transaction_writing(present(s));
        switch (smtp_link_send(s->link, out, n, &sent)) {
        case SMTP_IO_OK: note_sent(s, out, sent); break;
        case SMTP_IO_AGAIN: want_write(s, true); return;
        case SMTP_IO_EOF:
        case SMTP_IO_FAILED:
            /* The relay may have said why before it closed. */
            receive(s);
            lose(s, REASON_LOST, "the connection was lost");
            return;
        }
    }
    want_write(s, false);
}

static void write_quit(struct smtp_session *s)
{
    while (s->quit_sent < sizeof(quit_command) - 1) {
        size_t sent;
        const struct slice rest =
            slice_of(quit_command + s->quit_sent, sizeof(quit_command) - 1 - s->quit_sent);
        switch (smtp_link_send(s->link, &rest, 1, &sent)) {
        case SMTP_IO_OK: s->quit_sent += sent; break;
        case SMTP_IO_AGAIN: want_write(s, true); return;
        case SMTP_IO_EOF:
        case SMTP_IO_FAILED: close_quietly(s); return;
        }
    }
    want_write(s, false);
}

/* ---- driving ---- */

/* Where a session that has taken mails wants a login for another one, that mail may be to blame as
 * well as the relay: an attempt of its own, and a fresh session will tell. */
static void look_whose_fault(struct smtp_session *s, struct smtp_transaction *finished)
{
    struct outcome *o = &finished->outcome;

    if (o->class == OUTCOME_SENT || o->stage > STAGE_MAIL) {
        s->takes_mail = true;
    } else if (o->relay_down && s->takes_mail) {
        o->relay_down = false;
        finished->reusable = false;
    }
}

/* The queued mail takes its turn, or the session is idle. */
static void finish_mail(struct smtp_session *s)
{
    struct smtp_transaction *finished = present(s);
    bool goes_on;

    look_whose_fault(s, finished);
    goes_on = queued_is_next(s);
    s->mails++;
    s->asked = false;
    if (goes_on) {
        s->queued = false;
        s->present = !s->present;
        s->progress = present(s)->progress - 1; /* so that the deadline is set */
    } else {
        s->state = SESSION_IDLE;
        set_deadline(s, s->settings->idle_timeout_ms);
        if (!finished->reusable || s->queued)
            smtp_session_drop(s);
    }
    s->events->finished(s->owner, s, finished);
}

static void follow_progress(struct smtp_session *s)
{
    struct smtp_transaction *t = present(s);

    if (t->phase == SMTP_PHASE_OVER || t->progress == s->progress)
        return;
    s->progress = t->progress;
    set_deadline(s, s->settings->timeout_ms);
}

/* Tells the owner what has come of it. */
static void settle(struct smtp_session *s)
{
    while (s->state == SESSION_BUSY) {
        follow_progress(s);
        if (present(s)->phase == SMTP_PHASE_OVER) {
            finish_mail(s);
            continue;
        }
        if (present(s)->phase == SMTP_PHASE_FENCE && !s->asked) {
            s->asked = true;
            s->events->before_dot(s->owner, s);
        }
        return;
    }
}

static void on_fd(void *ctx, uint32_t events)
{
    struct smtp_session *s = ctx;

    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        receive(s);
    if (s->state == SESSION_BUSY)
        write_transactions(s);
    else if (s->state == SESSION_QUITTING)
        write_quit(s);
    settle(s);
}

static void on_settle_task(void *ctx)
{
    settle(ctx);
}

/* From the owner's calls: writes at once, but tells nothing before the call has returned. */
static void write_now(struct smtp_session *s)
{
    write_transactions(s);
    follow_progress(s);
    if (present(s)->phase == SMTP_PHASE_OVER || present(s)->phase == SMTP_PHASE_FENCE)
        loop_defer(s->loop, &s->settle_task, on_settle_task, s);
}

static void on_timer(void *ctx)
{
    struct smtp_session *s = ctx;
    const uint64_t now_ms = loop_now_ms(s->loop);
    struct outcome why;

    if (now_ms < s->deadline_ms) {
        set_deadline(s, s->deadline_ms - now_ms);
        return;
    }
    switch (s->state) {
    case SESSION_CONNECTING:
        smtp_link_timed_out(s->link, &why);
        smtp_session_drop(s);
        s->events->open_failed(s->owner, s, &why);
        break;
    case SESSION_IDLE: s->events->expired(s->owner, s); break;
    case SESSION_BUSY:
        smtp_transaction_fail(present(s), REASON_TIMEOUT, "the relay took too long");
        settle(s);
        break;
    case SESSION_QUITTING: close_quietly(s); break;
    case SESSION_DEAD: break;
    }
}

static void on_link_opened(void *ctx, const struct outcome *failure)
{
    struct smtp_session *s = ctx;
    struct error err = {0};
    struct outcome why;

    if (!failure &&
        !loop_fd_add(s->loop, &s->watch, smtp_link_fd(s->link), EPOLLIN, on_fd, s, &err)) {
        outcome_set(&why, OUTCOME_RETRY, REASON_INTERNAL, STAGE_CONNECT, "%s", err.text);
        failure = &why;
    }
    if (failure) {
        smtp_session_drop(s);
        s->events->open_failed(s->owner, s, failure);
        return;
    }
    s->state = SESSION_IDLE;
    set_deadline(s, s->settings->idle_timeout_ms);
    s->events->opened(s->owner, s);
}

/* ---- the owner's calls ---- */

struct smtp_session *smtp_session_open(struct loop *loop, struct smtp_curl *curl,
                                       const struct smtp_settings *settings, const char *url,
                                       const struct smtp_session_events *events, void *owner,
                                       struct error *err)
{
    struct smtp_session *s = calloc(1, sizeof(*s));

    if (!s) {
        error_set(err, "out of memory");
        return NULL;
    }
    s->loop = loop;
    s->settings = settings;
    s->events = events;
    s->owner = owner;
    s->state = SESSION_CONNECTING;
    smtp_reply_parser_init(&s->parser);
    loop_timer_init(&s->timer, on_timer, s);
    set_deadline(s, settings->connect_timeout_ms);
    s->link = smtp_link_open(curl, settings, url, on_link_opened, s, err);
    if (s->link)
        return s;
    loop_timer_stop(loop, &s->timer);
    free(s);
    return NULL;
}

void smtp_session_start(struct smtp_session *s, const struct mail *mail)
{
    s->state = SESSION_BUSY;
    smtp_transaction_begin(present(s), mail, smtp_link_capabilities(s->link));
    s->progress = present(s)->progress - 1; /* so that the deadline is set */
    write_now(s);
}

void smtp_session_allow(struct smtp_session *s, bool go)
{
    if (s->state != SESSION_BUSY || !s->asked)
        return;
    /* What came while we waited for the permission is no answer to the dot. */
    receive(s);
    if (go && present(s)->phase == SMTP_PHASE_FENCE && smtp_link_capabilities(s->link)->pipelining)
        s->events->may_queue(s->owner, s);
    smtp_transaction_allow(present(s), go);
    write_now(s);
}

void smtp_session_queue(struct smtp_session *s, const struct mail *mail)
{
    s->queued = true;
    s->queued_dropped = false;
    smtp_transaction_begin(other(s), mail, smtp_link_capabilities(s->link));
}

void smtp_session_drop_queued(struct smtp_session *s)
{
    s->queued_dropped = s->queued;
}

static void on_quit_task(void *ctx)
{
    struct smtp_session *s = ctx;

    if (s->state == SESSION_QUITTING)
        write_quit(s);
}

void smtp_session_quit(struct smtp_session *s)
{
    s->state = SESSION_QUITTING;
    s->quit_said = true;
    set_deadline(s, QUIT_WAIT_MS);
    loop_defer(s->loop, &s->quit_task, on_quit_task, s);
}

bool smtp_session_past_dot(const struct smtp_session *s)
{
    return s->state == SESSION_BUSY && smtp_session_transaction(s)->dot_started;
}
