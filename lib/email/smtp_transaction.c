#include "email/smtp_transaction.h"

#include <stdio.h>
#include <stdlib.h>

#include "email/smtp_redact.h"

enum {
    GATHER_BYTES = 16384, /* a stuffed body goes out in pieces of about this size */
    DEADLINE_BYTES =
        1 << 20,       /* each of them gets a deadline of its own (RFC 5321 section 4.5.3.2.5) */
    REDACT_WHOLLY = 4, /* refusals; see is_worth_a_search() */
    CODE_CLOSING = 421 /* may be the reply to anything (RFC 5321 section 3.8) */
};

void smtp_transaction_cleanup(struct smtp_transaction *t)
{
    buf_cleanup(&t->out);
    free(t->refused);
    *t = (struct smtp_transaction){0};
}

enum smtp_stage smtp_transaction_stage(const struct smtp_transaction *t)
{
    switch (t->phase) {
    case SMTP_PHASE_ENVELOPE:
        if (t->answered == 0)
            return STAGE_MAIL;
        return t->answered <= t->mail->recipients_len ? STAGE_RCPT : STAGE_DATA;
    case SMTP_PHASE_BODY: return STAGE_BODY;
    case SMTP_PHASE_FENCE: return STAGE_FENCE;
    case SMTP_PHASE_DOT: return t->dot_started ? STAGE_DOT : STAGE_FENCE;
    case SMTP_PHASE_RSET: return STAGE_RSET;
    case SMTP_PHASE_OVER: break;
    }
    return STAGE_NONE;
}

static void enter(struct smtp_transaction *t, enum smtp_phase phase)
{
    t->phase = phase;
    t->progress++;
}

static void finish(struct smtp_transaction *t, bool reusable)
{
    t->reusable = reusable;
    buf_clear(&t->out);
    t->out_at = 0;
    enter(t, SMTP_PHASE_OVER);
}

static void fail_without_reply(struct smtp_transaction *t, enum outcome_class class,
                               enum outcome_reason reason, const char *what)
{
    outcome_set(&t->outcome, class, reason, smtp_transaction_stage(t), "%s (stage %s)", what,
                outcome_stage_name(smtp_transaction_stage(t)));
    t->decided = true;
}

void smtp_transaction_fail(struct smtp_transaction *t, enum outcome_reason reason, const char *what)
{
    if (t->phase == SMTP_PHASE_OVER)
        return;
    if (!t->decided)
        fail_without_reply(t, t->dot_started ? OUTCOME_AMBIGUOUS : OUTCOME_RETRY, reason, what);
    finish(t, false);
}

/* ---- what the mail needs ---- */

/* Every line ends with CRLF and has no other CR or LF in it: the relay and we must agree on where
 * the message ends (SMTP smuggling, CVE-2023-51764). *dots: some line begins with a dot. */
static bool well_formed_message(struct slice message, bool *dots)
{
    const char *at = message.ptr, *end = message.ptr + message.len;

    *dots = false;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        if (*at == '.')
            *dots = true;
        if (!newline || newline == at || newline[-1] != '\r' ||
            memchr(at, '\r', (size_t)(newline - 1 - at)))
            return false;
        at = newline + 1;
    }
    return message.len > 0;
}

static bool well_formed_address(struct slice a, bool utf8)
{
    for (size_t i = 0; i < a.len; i++) {
        const unsigned char c = (unsigned char)a.ptr[i];
        if (c < 0x20 || c == 0x7F || (c > 0x7F && !utf8))
            return false;
    }
    return true;
}

static bool well_formed_mail(const struct mail *mail, bool *dots)
{
    if (!mail->recipients_len || !well_formed_address(mail->sender, mail->utf8))
        return false;
    for (size_t i = 0; i < mail->recipients_len; i++)
        if (!mail->recipients[i].len || !well_formed_address(mail->recipients[i], mail->utf8))
            return false;
    return well_formed_message(mail->message, dots);
}

/* Decides about what needs no relay. */
static void check_mail(struct smtp_transaction *t)
{
    const struct mail *mail = t->mail;

    if (!well_formed_mail(mail, &t->stuffing))
        fail_without_reply(t, OUTCOME_REJECTED, REASON_INTERNAL,
                           "the mail is not fit for SMTP: bad line ends or envelope");
    else if (mail->utf8 && !(t->relay.smtputf8 && t->relay.eightbitmime))
        fail_without_reply(t, OUTCOME_REJECTED, REASON_CAPABILITY,
                           "the relay does not offer SMTPUTF8, which the mail needs");
    else if (t->relay.size && t->relay.max_size && mail->message.len > t->relay.max_size)
        fail_without_reply(t, OUTCOME_REJECTED, REASON_CAPABILITY,
                           "the message is larger than the relay takes");
}

/* ---- commands ---- */

static void put_mail(struct smtp_transaction *t)
{
    struct buf *out = &t->out;

    buf_add_str(out, "MAIL FROM:<");
    buf_add_slice(out, t->mail->sender);
    buf_add_char(out, '>');
    if (t->relay.size) {
        buf_add_str(out, " SIZE=");
        buf_add_u64(out, t->mail->message.len);
    }
    if (t->mail->utf8)
        buf_add_str(out, " BODY=8BITMIME SMTPUTF8");
    buf_add_str(out, "\r\n");
}

static void put_command(struct smtp_transaction *t)
{
    const size_t command = t->issued++;

    if (command == 0) {
        put_mail(t);
    } else if (command <= t->mail->recipients_len) {
        buf_add_str(&t->out, "RCPT TO:<");
        buf_add_slice(&t->out, t->mail->recipients[command - 1]);
        buf_add_str(&t->out, ">\r\n");
    } else {
        buf_add_str(&t->out, "DATA\r\n");
    }
}

/* Once DATA is accepted the recipients accepted so far can't be taken back but by dropping the
 * connection. So DATA rides along only with a single recipient; with several it waits for what
 * becomes of them. */
static bool may_pipeline_next(const struct smtp_transaction *t)
{
    const size_t n = t->mail->recipients_len;

    return t->relay.pipelining && (t->issued <= n || (t->issued == n + 1 && n == 1));
}

static void put_commands(struct smtp_transaction *t)
{
    put_command(t);
    while (may_pipeline_next(t))
        put_command(t);
    if (t->out.failed)
        smtp_transaction_fail(t, REASON_INTERNAL, "out of memory");
}

void smtp_transaction_begin(struct smtp_transaction *t, const struct mail *mail,
                            const struct smtp_capabilities *relay)
{
    t->phase = SMTP_PHASE_ENVELOPE;
    t->mail = mail;
    t->relay = *relay;
    t->reusable = t->decided = t->stuffing = t->dot_started = t->heard = t->mail_accepted = false;
    t->issued = t->answered = t->accepted = t->deferred = t->refused_len = 0;
    t->out_at = t->body_at = t->body_mark = 0;
    t->first_refusal.code = t->first_deferral.code = 0;
    t->progress++;
    buf_clear(&t->out);
    check_mail(t);
    if (t->decided)
        finish(t, true);
    else
        put_commands(t);
}

/* ---- output ---- */

/* Puts the next lines of the body into `out`, with a dot before each that begins with one (RFC
 * 5321 4.5.2). */
static void gather_stuffed(struct smtp_transaction *t)
{
    const struct slice message = t->mail->message;

    while (t->body_at < message.len && t->out.len < GATHER_BYTES) {
        const char *at = message.ptr + t->body_at;
        const char *newline = memchr(at, '\n', message.len - t->body_at);
        const size_t len = newline ? (size_t)(newline + 1 - at) : message.len - t->body_at;
        if (*at == '.')
            buf_add_char(&t->out, '.');
        buf_add(&t->out, at, len);
        t->body_at += len;
    }
    if (t->out.failed)
        smtp_transaction_fail(t, REASON_INTERNAL, "out of memory");
}

struct slice smtp_transaction_output(struct smtp_transaction *t)
{
    if (t->phase == SMTP_PHASE_BODY && t->stuffing && t->out.len == 0)
        gather_stuffed(t);
    if (t->out_at < t->out.len)
        return slice_of(t->out.ptr + t->out_at, t->out.len - t->out_at);
    if (t->phase == SMTP_PHASE_BODY) /* nothing to stuff: straight from the caller's memory */
        return slice_of(t->mail->message.ptr + t->body_at, t->mail->message.len - t->body_at);
    return slice_of("", 0);
}

void smtp_transaction_writing(struct smtp_transaction *t)
{
    if (t->phase == SMTP_PHASE_DOT)
        t->dot_started = true;
}

static void body_sent(struct smtp_transaction *t)
{
    if (t->body_at - t->body_mark >= DEADLINE_BYTES) {
        t->body_mark = t->body_at;
        t->progress++;
    }
    if (t->body_at == t->mail->message.len && t->out.len == 0)
        enter(t, SMTP_PHASE_FENCE);
}

void smtp_transaction_sent(struct smtp_transaction *t, size_t len)
{
    if (len == 0)
        return;
    smtp_transaction_writing(t);
    if (t->out_at < t->out.len) {
        t->out_at += len;
        if (t->out_at == t->out.len) {
            buf_clear(&t->out);
            t->out_at = 0;
        }
    } else {
        t->body_at += len;
    }
    if (t->phase == SMTP_PHASE_BODY)
        body_sent(t);
}

void smtp_transaction_allow(struct smtp_transaction *t, bool go)
{
    if (t->phase != SMTP_PHASE_FENCE)
        return;
    if (!go) {
        fail_without_reply(t, OUTCOME_CANCELLED, REASON_FENCE, "the final dot was not permitted");
        finish(t, false);
        return;
    }
    buf_add_str(&t->out, ".\r\n");
    if (t->out.failed)
        smtp_transaction_fail(t, REASON_INTERNAL, "out of memory");
    else
        enter(t, SMTP_PHASE_DOT);
}

/* ---- replies ---- */

static void decide_by_reply(struct smtp_transaction *t, enum outcome_class class,
                            enum smtp_stage stage, const struct smtp_reply *reply)
{
    const bool login_wanted = outcome_is_login_wanted(stage, reply->code);

    if (class == OUTCOME_SENT)
        outcome_set(&t->outcome, class, REASON_NONE, stage, "%s", "");
    else
        outcome_set(&t->outcome, class, login_wanted ? REASON_AUTH : REASON_REPLY, stage,
                    "the relay replied %d to %s", reply->code, outcome_stage_name(stage));
    t->outcome.relay_down = login_wanted;
    t->outcome.code = reply->code;
    memcpy(t->outcome.reply, reply->text, reply->len + 1);
    t->decided = true;
}

/* Leaves the session ready for the next mail, once all replies that are due have come. */
static void wind_up(struct smtp_transaction *t)
{
    if (t->answered < t->issued)
        return;
    if (!t->mail_accepted) {
        finish(t, true);
        return;
    }
    buf_add_str(&t->out, "RSET\r\n");
    if (t->out.failed)
        finish(t, false);
    else
        enter(t, SMTP_PHASE_RSET);
}

static bool keep_refusal(struct smtp_transaction *t, size_t index, const struct smtp_reply *reply)
{
    struct refused_recipient *r;

    if (t->refused_len == t->refused_cap) {
        const size_t cap = t->refused_cap ? t->refused_cap * 2 : 4;
        struct refused_recipient *grown = realloc(t->refused, cap * sizeof(*grown));
        if (!grown)
            return false;
        t->refused = grown;
        t->refused_cap = cap;
    }
    r = &t->refused[t->refused_len++];
    r->index = index;
    r->code = reply->code;
    snprintf(r->reply, sizeof(r->reply), "%.*s", (int)sizeof(r->reply) - 1, reply->text);
    return true;
}

static void all_recipients_known(struct smtp_transaction *t)
{
    /* Where nobody was accepted and somebody only for now, the mail as a whole is to be retried, on
     * the last attempt too: that is what its dead letter will say. */
    if (t->deferred && (!t->mail->last_attempt || t->accepted == 0))
        decide_by_reply(t, OUTCOME_RETRY, STAGE_RCPT, &t->first_deferral);
    else if (t->accepted == 0)
        decide_by_reply(t, OUTCOME_REJECTED, STAGE_RCPT, &t->first_refusal);
}

static void on_rcpt_reply(struct smtp_transaction *t, size_t index, const struct smtp_reply *reply)
{
    const enum outcome_class class = outcome_of_reply(STAGE_RCPT, reply->code);

    if (class == OUTCOME_SENT) {
        t->accepted++;
    } else if (!keep_refusal(t, index, reply)) {
        smtp_transaction_fail(t, REASON_INTERNAL, "out of memory");
        return;
    } else if (class == OUTCOME_RETRY) {
        if (t->deferred++ == 0)
            t->first_deferral = *reply;
        if (!t->mail->last_attempt)
            decide_by_reply(t, OUTCOME_RETRY, STAGE_RCPT, reply);
    } else if (t->first_refusal.code == 0) {
        t->first_refusal = *reply;
    }
    if (!t->decided && t->answered == t->mail->recipients_len + 1)
        all_recipients_known(t);
}

static void on_data_reply(struct smtp_transaction *t, const struct smtp_reply *reply)
{
    if (reply->code / 100 == 3) {
        enter(t, SMTP_PHASE_BODY);
    } else if (reply->code / 100 == 2) {
        smtp_transaction_fail(t, REASON_PROTOCOL,
                              "the relay's reply to DATA is neither yes nor no");
    } else {
        decide_by_reply(t, outcome_of_reply(STAGE_DATA, reply->code), STAGE_DATA, reply);
    }
}

/* A reply that is due although the outcome is known. */
static void drain(struct smtp_transaction *t, size_t command, const struct smtp_reply *reply)
{
    /* DATA was accepted though no recipient was. RFC 2920 (3.1) would send a lone dot; but a relay
     * that is confused about its recipients might deliver that empty mail, while a dropped
     * connection delivers nothing for certain. */
    if (command == t->mail->recipients_len + 1 && reply->code / 100 == 3)
        finish(t, false);
}

static void on_envelope_reply(struct smtp_transaction *t, const struct smtp_reply *reply)
{
    const size_t command = t->answered++;

    if (command == 0)
        t->mail_accepted = reply->code / 100 == 2;
    if (t->decided)
        drain(t, command, reply);
    else if (reply->code / 100 == 3 && command <= t->mail->recipients_len)
        smtp_transaction_fail(t, REASON_PROTOCOL, "the relay's reply is neither yes nor no");
    else if (command == 0 && !t->mail_accepted)
        decide_by_reply(t, outcome_of_reply(STAGE_MAIL, reply->code), STAGE_MAIL, reply);
    else if (command > t->mail->recipients_len)
        on_data_reply(t, reply);
    else if (command > 0)
        on_rcpt_reply(t, command - 1, reply);
    if (t->phase != SMTP_PHASE_ENVELOPE)
        return;
    if (t->decided)
        wind_up(t);
    else if (t->answered == t->issued)
        put_commands(t);
}

static void on_dot_reply(struct smtp_transaction *t, const struct smtp_reply *reply)
{
    if (reply->code / 100 == 3) {
        smtp_transaction_fail(t, REASON_PROTOCOL,
                              "the relay's reply to the final dot is neither yes nor no");
        return;
    }
    decide_by_reply(t, outcome_of_reply(STAGE_DOT, reply->code), STAGE_DOT, reply);
    if (t->outcome.class == OUTCOME_SENT && t->refused_len) {
        t->outcome.refused = t->refused;
        t->outcome.refused_len = t->refused_len;
    }
    finish(t, reply->code != CODE_CLOSING && t->out.len == 0);
}

/* Nobody asked: the relay is giving up on us, or out of step. Before the dot nothing is taken. */
static void on_unexpected_reply(struct smtp_transaction *t, const struct smtp_reply *reply)
{
    decide_by_reply(t, OUTCOME_RETRY, smtp_transaction_stage(t), reply);
    finish(t, false);
}

static bool is_asked(const struct smtp_transaction *t)
{
    return t->phase == SMTP_PHASE_ENVELOPE ? t->answered < t->issued
           : t->phase == SMTP_PHASE_DOT    ? t->dot_started
                                           : t->phase == SMTP_PHASE_RSET;
}

static void take_reply(struct smtp_transaction *t, const struct smtp_reply *reply)
{
    const enum smtp_stage stage = smtp_transaction_stage(t);

    t->heard = true;
    t->progress++;
    if (t->phase == SMTP_PHASE_OVER)
        return;
    if (reply->code == CODE_CLOSING && t->phase != SMTP_PHASE_DOT) {
        if (!t->decided)
            decide_by_reply(t, OUTCOME_RETRY, stage, reply);
        finish(t, false);
    } else if (!is_asked(t)) {
        on_unexpected_reply(t, reply);
    } else if (t->phase == SMTP_PHASE_ENVELOPE) {
        on_envelope_reply(t, reply);
    } else if (t->phase == SMTP_PHASE_DOT) {
        on_dot_reply(t, reply);
    } else {
        finish(t, reply->code / 100 == 2 && t->out.len == 0);
    }
}

/* Whether anything of the reply's text goes any further than take_reply(). */
static bool is_text_kept(const struct smtp_transaction *t, const struct smtp_reply *reply)
{
    if (t->phase == SMTP_PHASE_OVER || t->decided)
        return false;
    return reply->code >= 400 || !is_asked(t); /* what is asked and granted repeats nothing */
}

/* A search costs time in proportion to the mail, and there may be a hundred refusals. The first
 * ones, and all that may become the outcome, are searched; of the others only the codes are kept.
 */
static bool is_worth_a_search(const struct smtp_transaction *t, const struct smtp_reply *reply)
{
    const bool later = outcome_of_reply(STAGE_RCPT, reply->code) == OUTCOME_RETRY
                           ? t->deferred > 0
                           : t->first_refusal.code != 0;

    return smtp_transaction_stage(t) != STAGE_RCPT || reply->code == CODE_CLOSING || !later ||
           t->refused_len < REDACT_WHOLLY;
}

void smtp_transaction_reply(struct smtp_transaction *t, const struct smtp_reply *reply)
{
    struct smtp_reply redacted;

    if (!is_text_kept(t, reply)) {
        take_reply(t, reply);
        return;
    }
    redacted = *reply;
    if (is_worth_a_search(t, reply))
        smtp_redact_mail(&redacted, t->mail);
    else
        smtp_redact_whole(&redacted);
    take_reply(t, &redacted);
}
