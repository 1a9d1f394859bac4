/* The pure parts by themselves: CPU time a piece, of decoding an event, composing its message, one
 * SMTP transaction, and the offset tracker. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/buf.h"
#include "email/event.h"
#include "email/message.h"
#include "email/smtp_transaction.h"
#include "kafka/tracker.h"

static double cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void check(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "%s failed\n", what);
    exit(1);
}

static void write_event(struct buf *json)
{
    buf_add_str(json, "{\"messageID\":\"5ac0a1e8-6a8e-4bd5-9a0e-4d5a8c0c3a51\",\"type\":"
                      "\"verification_code\",\"to\":\"user@example.com\",\"subject\":"
                      "\"Your verification code 123456\",\"text\":\"");
    for (int i = 0; i < 8; i++)
        buf_add_str(json,
                    "Your code is below. If you didn\xe2\x80\x99t ask for it, ignore this.\\n");
    buf_add_str(json, "\",\"html\":\"");
    for (int i = 0; i < 18; i++)
        buf_add_str(
            json, "<p class=\\\"code\\\">Enter it on the sign-in page, near Z\xc3\xbcrich.</p>\\n");
    buf_add_str(json, "\",\"createdAt\":\"2026-11-21T08:10:42Z\"}");
}

static void decode(struct slice json)
{
    struct arena arena;
    struct event ev;
    struct error err = {0};

    arena_init_sized(&arena, json.len * 2 + 1024);
    check(event_decode(&arena, json, 1 << 20, &ev, &err) == EVENT_OK, "decode");
    arena_cleanup(&arena);
}

static struct event the_event;
static struct message_settings the_settings;

static void compose(struct slice json)
{
    struct message message;
    struct error err = {0};

    (void)json;
    message_init(&message);
    check(message_compose(&message, &the_event, &the_settings, 1795250000000, &err), "compose");
    message_cleanup(&message);
}

static void reply(struct smtp_transaction *t, int code, const char *text)
{
    struct smtp_reply r = {.code = code, .len = strlen(text)};

    memcpy(r.text, text, r.len + 1);
    smtp_transaction_reply(t, &r);
}

static void flush(struct smtp_transaction *t)
{
    struct slice out;

    while ((out = smtp_transaction_output(t)).len)
        smtp_transaction_sent(t, out.len);
}

static struct slice the_message;

static void transact(struct slice json)
{
    static struct smtp_transaction t;
    static const struct smtp_capabilities relay = {.pipelining = true, .size = true};
    const struct slice recipient = slice_str("user@example.com");
    const struct mail mail = {.sender = slice_str("from@example.com"),
                              .recipients = &recipient,
                              .recipients_len = 1,
                              .message = the_message};

    (void)json;
    smtp_transaction_begin(&t, &mail, &relay);
    flush(&t);
    reply(&t, 250, "250 2.1.0 Ok");
    reply(&t, 250, "250 2.1.5 Ok");
    reply(&t, 354, "354 End data with <CR><LF>.<CR><LF>");
    flush(&t);
    smtp_transaction_allow(&t, true);
    flush(&t);
    reply(&t, 250, "250 2.0.0 Ok: queued");
    check(t.phase == SMTP_PHASE_OVER && t.outcome.class == OUTCOME_SENT, "transaction");
}

/* A window of 1000, finished in another order than begun. */
static void track(struct slice json)
{
    static struct tracker *t;
    static int64_t next;

    (void)json;
    if (!t && !(t = tracker_new()))
        check(false, "tracker_new");
    check(tracker_begin(t, next), "tracker_begin");
    if (next >= 1000)
        check(tracker_done(t, (next - 1000) ^ 7), "tracker_done");
    next++;
}

static void measure(const char *name, void (*fn)(struct slice), struct slice json, unsigned n)
{
    double best = 1e9;

    for (unsigned round = 0; round < 5; round++) {
        const double start = cpu_us();
        for (unsigned i = 0; i < n; i++)
            fn(json);
        if ((cpu_us() - start) / n < best)
            best = (cpu_us() - start) / n;
    }
    printf("%-12s %8.2f us\n", name, best);
}

int main(int argc, char **argv)
{
    const unsigned n = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 20000;
    struct buf json = {0};
    struct arena arena;
    struct message message;
    struct error err = {0};

    write_event(&json);
    arena_init(&arena);
    check(n > 0 && event_decode(&arena, buf_slice(&json), 1 << 20, &the_event, &err) == EVENT_OK,
          "the event");
    check(address_from_parts(&arena, slice_str("from@example.com"), slice_str("Example"),
                             &the_settings.from, &err),
          "the sender");
    message_init(&message);
    check(message_compose(&message, &the_event, &the_settings, 1795250000000, &err), "the message");
    the_message = buf_slice(&message.bytes);
    printf("event %zu bytes, message %zu bytes\n", json.len, the_message.len);
    measure("decode", decode, buf_slice(&json), n);
    measure("compose", compose, buf_slice(&json), n);
    measure("transaction", transact, buf_slice(&json), n);
    measure("tracker", track, buf_slice(&json), n);
    message_cleanup(&message);
    arena_cleanup(&arena);
    buf_cleanup(&json);
    return 0;
}
