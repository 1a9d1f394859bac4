/* One mail over a session, with a relay that the input directs: an honest one, whose knowledge of
 * what it took is compared with the outcome; or a hostile one, that says any bytes at any time. */
#include "fuzz.h"

#include "email/smtp_transaction.h"

enum { MAX_RECIPIENTS = 5, MAX_STEPS = 3000, NO_REPLY = 0 };

enum peer_state { PEER_COMMANDS, PEER_DATA };

struct session {
    struct tape tape;
    struct smtp_capabilities caps;
    struct slice recipients[MAX_RECIPIENTS];
    struct mail mail;
    struct smtp_transaction t;
    struct smtp_reply_parser parser;
    bool hostile, allowed, refused_dot;

    /* the relay */
    enum peer_state peer;
    struct buf line;  /* what has come since the last line end */
    struct buf body;  /* of the mail, dots taken out again */
    struct buf reply; /* what it has said, not yet heard */
    bool saw_mail, saw_dot, in_step;
    size_t rcpts_seen, rcpts_taken, rcpts_deferred, commands;
    unsigned took;        /* messages that it took */
    size_t took_for;      /* … for how many */
    int dot_code;         /* its reply to the dot; NO_REPLY: none yet */
    bool dot_reply_heard; /* … and it reached us whole */
};

static bool is_over(const struct session *s)
{
    return s->t.phase == SMTP_PHASE_OVER;
}

/* ---- the relay's side ---- */

static void say(struct session *s, int code)
{
    static const char *const texts[] = {"ok", "2.1.5 fine", "", "5.7.1 no\x07 \xff way"};

    if (tape_byte(&s->tape) % 8 == 7)
        buf_addf(&s->reply, "%d-first line\r\n", code);
    buf_addf(&s->reply, "%d %s\r\n", code, texts[tape_byte(&s->tape) % 4]);
}

static int some_code(struct session *s, int good)
{
    static const int codes[] = {450, 550, 421, 452, 554, 251};
    const uint8_t how = tape_byte(&s->tape);

    return how % 4 ? good : codes[how / 4 % 6];
}

static int take_rcpt(struct session *s)
{
    const int code = some_code(s, 250);
    char expected[80];

    REQUIRE(s->rcpts_seen < s->mail.recipients_len);
    snprintf(expected, sizeof(expected), "RCPT TO:<%.*s>", SLICE_ARG(s->recipients[s->rcpts_seen]));
    s->rcpts_seen++;
    REQUIRE(slice_is(buf_slice(&s->line), expected));
    s->rcpts_taken += code / 100 == 2;
    s->rcpts_deferred += code / 100 == 4;
    return code;
}

static bool line_begins(const struct session *s, const char *with)
{
    return s->line.len >= strlen(with) && memcmp(s->line.ptr, with, strlen(with)) == 0;
}

static void on_command(struct session *s)
{
    s->commands++;
    if (line_begins(s, "MAIL FROM:<")) {
        REQUIRE(!s->saw_mail);
        s->saw_mail = true;
        say(s, some_code(s, 250));
    } else if (line_begins(s, "RCPT TO:<")) {
        say(s, take_rcpt(s));
    } else if (slice_is(buf_slice(&s->line), "DATA")) {
        const int code = some_code(s, 354);
        REQUIRE(s->rcpts_seen == s->mail.recipients_len);
        say(s, code);
        s->peer = code == 354 ? PEER_DATA : PEER_COMMANDS;
    } else {
        REQUIRE(slice_is(buf_slice(&s->line), "RSET"));
        say(s, some_code(s, 250));
    }
}

static void on_dot(struct session *s)
{
    REQUIRE(s->allowed && !s->saw_dot);
    REQUIRE(slice_equal(buf_slice(&s->body), s->mail.message));
    /* Nobody was taken, or somebody only for now: there must be nothing to deliver. */
    REQUIRE(s->hostile || s->rcpts_taken > 0);
    REQUIRE(s->hostile || s->mail.last_attempt || s->rcpts_deferred == 0);
    s->saw_dot = true;
    s->peer = PEER_COMMANDS;
    s->dot_code = some_code(s, 250);
    if (s->dot_code / 100 == 2) {
        s->took++;
        s->took_for = s->rcpts_taken;
    }
    say(s, s->dot_code);
}

static void on_line(struct session *s)
{
    if (s->peer == PEER_COMMANDS) {
        on_command(s);
    } else if (slice_is(buf_slice(&s->line), ".")) {
        on_dot(s);
    } else {
        const size_t dot = s->line.len && s->line.ptr[0] == '.' ? 1 : 0;
        buf_add(&s->body, s->line.ptr + dot, s->line.len - dot);
        buf_add_str(&s->body, "\r\n");
    }
    buf_clear(&s->line);
}

/* What we sent, byte by byte; a bare CR or LF is nothing that we ever send. */
static void relay_hears(struct session *s, struct slice bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        const char c = bytes.ptr[i];
        const bool after_cr = s->line.len && s->line.ptr[s->line.len - 1] == '\r';
        REQUIRE((c == '\n') == after_cr);
        if (c != '\n') {
            buf_add_char(&s->line, c);
            continue;
        }
        s->line.ptr[--s->line.len] = '\0';
        on_line(s);
    }
}

/* ---- our side ---- */

static void write_some(struct session *s)
{
    const struct slice out = smtp_transaction_output(&s->t);
    const struct slice again = smtp_transaction_output(&s->t);
    const size_t len = out.len ? 1 + tape_number(&s->tape, 4096) % out.len : 0;

    REQUIRE(out.len == again.len && (out.len == 0 || out.ptr == again.ptr));
    if (s->t.phase == SMTP_PHASE_FENCE)
        REQUIRE(out.len == 0); /* the dot waits for its permission */
    if (!len)
        return;
    smtp_transaction_writing(&s->t);
    if (s->hostile) { /* it only reads along, for the dot's sake */
        buf_add(&s->body, out.ptr, len);
        s->saw_dot = s->saw_dot || s->t.phase == SMTP_PHASE_DOT;
    } else {
        relay_hears(s, slice_of(out.ptr, len));
    }
    smtp_transaction_sent(&s->t, len);
}

static void hear(struct session *s, struct slice bytes)
{
    size_t used;

    while (bytes.len && !is_over(s)) {
        const enum smtp_reply_state state = smtp_reply_feed(&s->parser, bytes, &used);
        REQUIRE(used > 0 && used <= bytes.len);
        bytes = slice_of(bytes.ptr + used, bytes.len - used);
        if (state == SMTP_REPLY_BROKEN) {
            REQUIRE(s->hostile);
            smtp_transaction_fail(&s->t, REASON_PROTOCOL, "no reply");
            return;
        }
        if (state == SMTP_REPLY_MORE)
            return;
        REQUIRE(s->parser.reply.code >= 200 && s->parser.reply.code <= 599);
        REQUIRE(s->parser.reply.len == strlen(s->parser.reply.text));
        if (s->t.phase == SMTP_PHASE_DOT && s->saw_dot)
            s->dot_reply_heard = true;
        smtp_transaction_reply(&s->t, &s->parser.reply);
    }
}

static void read_some(struct session *s)
{
    const size_t len = 1 + tape_number(&s->tape, 64);
    const struct slice bytes =
        heap_copy(s->hostile ? tape_bytes(&s->tape, len)
                             : slice_of(s->reply.ptr, len < s->reply.len ? len : s->reply.len));

    if (!s->hostile)
        buf_consume(&s->reply, bytes.len);
    hear(s, bytes);
    heap_free(bytes);
}

static void hear_code(struct session *s)
{
    static const char *const replies[] = {"250 ok\r\n", "354 go\r\n", "550 no\r\n", "450 later\r\n",
                                          "421 bye\r\n"};

    hear(s, slice_str(replies[tape_byte(&s->tape) % 5]));
}

static void permit(struct session *s)
{
    const bool go = tape_byte(&s->tape) % 8 != 7;

    if (s->t.phase != SMTP_PHASE_FENCE)
        return;
    s->allowed = go;
    s->refused_dot = !go;
    smtp_transaction_allow(&s->t, go);
    REQUIRE(go || (is_over(s) && s->t.outcome.class == OUTCOME_CANCELLED));
}

static void step(struct session *s)
{
    const unsigned progress = s->t.progress;

    switch (tape_byte(&s->tape) % 8) {
    case 0:
    case 1: write_some(s); break;
    case 2:
    case 3: read_some(s); break;
    case 4: permit(s); break;
    case 5:
        if (s->hostile)
            hear_code(s);
        else
            write_some(s);
        break;
    case 6:
        if (s->hostile)
            hear_code(s);
        break;
    default:
        if (tape_byte(&s->tape) % 16 == 0)
            smtp_transaction_fail(&s->t, REASON_TIMEOUT, "no reply in time");
    }
    REQUIRE(s->t.progress >= progress);
    REQUIRE(s->t.answered <= s->t.issued && s->t.issued <= s->mail.recipients_len + 2);
}

/* ---- the outcome ---- */

static void check_text(const char *text)
{
    for (; *text; text++)
        REQUIRE(*text >= ' ' && *text <= '~');
}

/* The honest relay knows better than anybody. */
static void check_against_relay(const struct session *s)
{
    const struct outcome *o = &s->t.outcome;

    switch (o->class) {
    case OUTCOME_SENT:
        REQUIRE(s->took == 1 && s->took_for + o->refused_len == s->mail.recipients_len);
        break;
    case OUTCOME_AMBIGUOUS: REQUIRE(s->allowed && !s->dot_reply_heard); break;
    default: REQUIRE(s->took == 0); break;
    }
}

static void check_hostile(const struct session *s)
{
    const struct outcome *o = &s->t.outcome;

    if (o->class == OUTCOME_SENT)
        REQUIRE(s->allowed && s->saw_dot && s->dot_reply_heard && o->code / 100 == 2);
    if (o->class == OUTCOME_AMBIGUOUS)
        REQUIRE(s->allowed);
    if (s->saw_dot && !s->dot_reply_heard)
        REQUIRE(o->class == OUTCOME_AMBIGUOUS);
    if (!s->allowed && s->body.ptr)
        REQUIRE(!memmem(s->body.ptr, s->body.len, "\r\n.\r\n", 5));
}

static void check_over(const struct session *s)
{
    const struct outcome *o = &s->t.outcome;

    REQUIRE(smtp_transaction_output((struct smtp_transaction *)&s->t).len == 0);
    REQUIRE((o->class == OUTCOME_CANCELLED) == s->refused_dot);
    REQUIRE(o->refused_len == 0 || o->class == OUTCOME_SENT);
    REQUIRE(o->refused_len < s->mail.recipients_len);
    for (size_t i = 0; i < o->refused_len; i++) {
        REQUIRE(o->refused[i].index < s->mail.recipients_len);
        check_text(o->refused[i].reply);
    }
    check_text(o->reply);
    check_text(o->error);
    REQUIRE((o->error[0] == '\0') == (o->class == OUTCOME_SENT));
    REQUIRE(!strchr(o->error, '@'));
    if (s->hostile)
        check_hostile(s);
    else
        check_against_relay(s);
}

/* ---- the mail ---- */

static struct slice take_message(struct tape *t, struct buf *out)
{
    static const char *const lines[] = {"", ".", "..", ".a", "hello", "a.b", "...", "Subject: x"};

    do {
        const uint8_t what = tape_byte(t);
        if (what % 16 == 15 && out->len < 1000) /* more than is stuffed at a time */
            for (unsigned i = 0; i < 1300; i++)
                buf_add_str(out, ".0123456789\r\n");
        else
            buf_add_str(out, lines[what % 8]);
        buf_add_str(out, "\r\n");
        if (what & 0x80)
            break;
    } while (!tape_ended(t));
    return buf_slice(out);
}

static void take_mail(struct session *s, struct buf *message)
{
    static const char *const names[] = {"a@example.com", "b@example.com", "c@example.org",
                                        "d@example.net", "j\xc3\xbc@example.com"};
    const uint8_t how = tape_byte(&s->tape), caps = tape_byte(&s->tape);

    s->hostile = how & 1;
    s->mail = (struct mail){.sender = slice_str(how & 2 ? "from@example.com" : ""),
                            .recipients = s->recipients,
                            .recipients_len = 1 + how / 4 % MAX_RECIPIENTS,
                            .last_attempt = how & 0x80,
                            .utf8 = how & 0x40};
    for (size_t i = 0; i < s->mail.recipients_len; i++)
        s->recipients[i] = slice_str(names[i % (s->mail.utf8 ? 5 : 4)]);
    s->caps = (struct smtp_capabilities){.pipelining = caps & 1,
                                         .eightbitmime = caps & 2,
                                         .smtputf8 = caps & 4,
                                         .size = caps & 8,
                                         .max_size = caps & 16 ? 20000 : 0};
    s->mail.message = take_message(&s->tape, message);
}

/* EHLO's reply, as it comes from the network. */
static void fuzz_capabilities(struct tape *t)
{
    struct smtp_capabilities c = {0};

    while (!tape_ended(t)) {
        const struct slice line = heap_copy(tape_bytes(t, tape_byte(t)));
        smtp_capabilities_line(&c, line);
        heap_free(line);
        REQUIRE(c.size || c.max_size == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct session s = {.tape = tape_of(data, size)};
    struct buf message = {0};

    if (size && data[0] == 0xFF) {
        fuzz_capabilities(&s.tape);
        return 0;
    }
    take_mail(&s, &message);
    smtp_reply_parser_init(&s.parser);
    smtp_transaction_begin(&s.t, &s.mail, &s.caps);
    for (int steps = 0; !is_over(&s) && !tape_ended(&s.tape) && steps < MAX_STEPS; steps++)
        step(&s);
    smtp_transaction_fail(&s.t, REASON_LOST, "the connection is lost");
    REQUIRE(is_over(&s));
    check_over(&s);
    smtp_transaction_cleanup(&s.t);
    buf_cleanup(&message);
    buf_cleanup(&s.line);
    buf_cleanup(&s.body);
    buf_cleanup(&s.reply);
    return 0;
}
