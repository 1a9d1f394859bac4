/* Drives the transports by hand, for the end-to-end tests. Settings by flags, then commands on
 * stdin, one a line:
 *
 *   mail id=1 to=a@example.com,b@example.com [from=…] [size=N | file=PATH] [utf8] [last]
 * [fence=none|sync|refuse|hold] dot 1 go|no      answers before_dot of a mail with fence=hold
 *   cancel 1         prints whether it could be cancelled
 *   state            prints the transport's state
 *   shutdown
 *
 * Each event is a JSON line on stdout with a field "event". With --count it sends that many mails
 * by itself, prints a summary and ends. */
#include "email/transport.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json_out.h"
#include "base/log.h"

enum fence { FENCE_SYNC, FENCE_NONE, FENCE_REFUSE, FENCE_HOLD };

enum { MAX_RECIPIENTS = 100, MAX_ID = 100000 };

struct job {
    unsigned id;
    enum fence fence;
    struct delivery *delivery;
    char *text;    /* the command, in which the addresses lie */
    char *message; /* owned */
    struct slice recipients[MAX_RECIPIENTS];
    struct mail mail;
    uint64_t started_ms;
};

static struct {
    struct loop *loop;
    struct transport *transport;
    struct loop_fd input;
    struct buf line;
    struct job *jobs[MAX_ID];
    /* --count */
    unsigned count, parallel, size, begun, ended, sent;
    struct slice message, recipient;
} the_tool;

static void put_line(struct buf *b)
{
    buf_add_str(b, "}\n");
    fwrite(b->ptr, 1, b->len, stdout);
    fflush(stdout);
    buf_cleanup(b);
}

static struct buf new_line(const char *event)
{
    struct buf b = {0};

    buf_add_char(&b, '{');
    json_out_field_str(&b, "event", slice_str(event));
    return b;
}

static void print_outcome(const struct job *job, const struct outcome *o)
{
    struct buf b = new_line("finished");

    json_out_field_i64(&b, "id", job->id);
    json_out_field_str(&b, "class", slice_str(outcome_class_name(o->class)));
    json_out_field_str(&b, "reason", slice_str(outcome_reason_name(o->reason)));
    json_out_field_str(&b, "stage", slice_str(outcome_stage_name(o->stage)));
    json_out_field_i64(&b, "code", o->code);
    json_out_field_str(&b, "reply", slice_str(o->reply));
    json_out_field_str(&b, "error", slice_str(o->error));
    json_out_field_bool(&b, "relay_down", o->relay_down);
    json_out_field_i64(&b, "ms", (int64_t)(clock_monotonic_ms() - job->started_ms));
    json_out_name(&b, "refused");
    buf_add_char(&b, '[');
    for (size_t i = 0; i < o->refused_len; i++) {
        json_out_comma(&b);
        buf_add_char(&b, '{');
        json_out_field_i64(&b, "index", (int64_t)o->refused[i].index);
        json_out_field_i64(&b, "code", o->refused[i].code);
        json_out_field_str(&b, "reply", slice_str(o->refused[i].reply));
        buf_add_char(&b, '}');
    }
    buf_add_char(&b, ']');
    put_line(&b);
}

static void print_state(const char *event)
{
    struct buf b = new_line(event);
    struct transport_state s;

    transport_state(the_tool.transport, &s);
    json_out_field_bool(&b, "up", s.up);
    json_out_field_i64(&b, "idle", s.idle);
    json_out_field_i64(&b, "busy", s.busy);
    json_out_field_i64(&b, "connecting", s.connecting);
    json_out_field_i64(&b, "opened", (int64_t)s.sessions_opened);
    json_out_field_i64(&b, "waiting", s.waiting);
    json_out_field_str(&b, "error", slice_str(s.error));
    put_line(&b);
}

static void on_changed(void *ctx)
{
    (void)ctx;
    print_state("changed");
}

/* ---- mails by command ---- */

static void free_job(struct job *job)
{
    the_tool.jobs[job->id] = NULL;
    free(job->message);
    free(job->text);
    free(job);
}

static void on_finished(void *ctx, const struct outcome *outcome)
{
    struct job *job = ctx;

    print_outcome(job, outcome);
    free_job(job);
}

static void on_before_dot(void *ctx, struct delivery *delivery)
{
    struct job *job = ctx;
    struct buf b = new_line("before_dot");

    json_out_field_i64(&b, "id", job->id);
    put_line(&b);
    if (job->fence == FENCE_SYNC || job->fence == FENCE_REFUSE)
        transport_dot(delivery, job->fence == FENCE_SYNC);
}

static char *read_file(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    char *bytes = NULL;

    if (f && fstat(fileno(f), &st) == 0 && (bytes = malloc((size_t)st.st_size + 1)))
        *len = fread(bytes, 1, (size_t)st.st_size, f);
    if (f)
        fclose(f);
    return bytes;
}

/* Lines of 72 characters after a small header. */
static char *make_message(size_t size, size_t *len)
{
    struct buf b = {0};

    buf_add_str(&b, "Subject: test\r\nMessage-ID: <test@example.com>\r\n\r\n");
    while (b.len + 74 <= size)
        buf_add_str(&b,
                    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrst\r\n");
    buf_add_str(&b, "end\r\n");
    *len = b.len;
    return b.ptr;
}

static void take_recipients(struct job *job, char *list)
{
    char *state, *address = strtok_r(list, ",", &state);

    for (; address && job->mail.recipients_len < MAX_RECIPIENTS;
         address = strtok_r(NULL, ",", &state))
        job->recipients[job->mail.recipients_len++] = slice_str(address);
}

static enum fence fence_of(const char *name)
{
    return strcmp(name, "none") == 0     ? FENCE_NONE
           : strcmp(name, "refuse") == 0 ? FENCE_REFUSE
           : strcmp(name, "hold") == 0   ? FENCE_HOLD
                                         : FENCE_SYNC;
}

static void take_word(struct job *job, char *word)
{
    char *value = strchr(word, '=');
    size_t len = 0;

    if (value)
        *value++ = '\0';
    if (strcmp(word, "utf8") == 0)
        job->mail.utf8 = true;
    else if (strcmp(word, "last") == 0)
        job->mail.last_attempt = true;
    else if (!value)
        fprintf(stderr, "unknown word: %s\n", word);
    else if (strcmp(word, "id") == 0)
        job->id = (unsigned)atoi(value) % MAX_ID;
    else if (strcmp(word, "to") == 0)
        take_recipients(job, value);
    else if (strcmp(word, "from") == 0)
        job->mail.sender = slice_str(value);
    else if (strcmp(word, "fence") == 0)
        job->fence = fence_of(value);
    else if (strcmp(word, "file") == 0)
        job->mail.message = slice_of(job->message = read_file(value, &len), len);
    else if (strcmp(word, "size") == 0)
        job->mail.message = slice_of(job->message = make_message((size_t)atol(value), &len), len);
    job->mail.message.len = job->message ? (len ? len : job->mail.message.len) : 0;
}

static void command_mail(const char *words)
{
    struct job *job = calloc(1, sizeof(*job));
    struct delivery_callbacks callbacks = {on_before_dot, on_finished};
    char *state, *word;
    size_t len;

    if (!job || !(job->text = strdup(words)))
        abort();
    job->mail.sender = slice_str("sender@example.com");
    job->mail.recipients = job->recipients;
    job->mail.message_id = slice_str("test-1");
    job->mail.type = slice_str("generic");
    job->started_ms = clock_monotonic_ms();
    for (word = strtok_r(job->text, " ", &state); word; word = strtok_r(NULL, " ", &state))
        take_word(job, word);
    if (!job->message) {
        job->message = make_message(300, &len);
        job->mail.message = slice_of(job->message, len);
    }
    if (job->fence == FENCE_NONE)
        callbacks.before_dot = NULL;
    the_tool.jobs[job->id] = job;
    job->delivery = transport_send(the_tool.transport, &job->mail, &callbacks, job);
    if (!job->delivery)
        abort();
}

static void command(char *line)
{
    char verb[16] = "", answer[8] = "";
    unsigned id = 0;

    sscanf(line, "%15s %u %7s", verb, &id, answer);
    if (strcmp(verb, "mail") == 0) {
        command_mail(line + 5);
    } else if (strcmp(verb, "state") == 0) {
        print_state("state");
    } else if (strcmp(verb, "shutdown") == 0) {
        transport_shutdown(the_tool.transport);
    } else if (id >= MAX_ID || !the_tool.jobs[id]) {
        struct buf b = new_line("gone");
        json_out_field_i64(&b, "id", id);
        put_line(&b);
    } else if (strcmp(verb, "dot") == 0) {
        transport_dot(the_tool.jobs[id]->delivery, strcmp(answer, "go") == 0);
    } else if (strcmp(verb, "cancel") == 0) {
        struct buf b = new_line("cancel");
        json_out_field_i64(&b, "id", id);
        json_out_field_bool(&b, "cancelled", transport_cancel(the_tool.jobs[id]->delivery));
        put_line(&b);
    }
}

static void on_input(void *ctx, uint32_t events)
{
    char bytes[4096];
    const ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
    char *newline;

    (void)ctx;
    (void)events;
    if (n <= 0) {
        loop_stop(the_tool.loop);
        return;
    }
    buf_add(&the_tool.line, bytes, (size_t)n);
    while (the_tool.line.len && (newline = memchr(the_tool.line.ptr, '\n', the_tool.line.len))) {
        *newline = '\0';
        command(the_tool.line.ptr);
        buf_consume(&the_tool.line, (size_t)(newline + 1 - the_tool.line.ptr));
    }
}

/* ---- mails by number ---- */

static void send_more(void);

static void on_counted(void *ctx, const struct outcome *outcome)
{
    (void)ctx;
    the_tool.ended++;
    if (outcome->class == OUTCOME_SENT)
        the_tool.sent++;
    send_more();
    if (the_tool.ended == the_tool.count)
        loop_stop(the_tool.loop);
}

static void permit(void *ctx, struct delivery *delivery)
{
    (void)ctx;
    transport_dot(delivery, true);
}

static void send_more(void)
{
    static const struct delivery_callbacks callbacks = {permit, on_counted};

    while (the_tool.begun < the_tool.count && the_tool.begun - the_tool.ended < the_tool.parallel) {
        const struct mail mail = {.sender = slice_str("sender@example.com"),
                                  .recipients = &the_tool.recipient,
                                  .recipients_len = 1,
                                  .message = the_tool.message,
                                  .message_id = slice_str("test-1"),
                                  .type = slice_str("generic")};
        the_tool.begun++;
        if (!transport_send(the_tool.transport, &mail, &callbacks, NULL))
            abort();
    }
}

static double cpu_seconds(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static void print_summary(uint64_t started_us, double cpu_before)
{
    const double seconds = (double)(clock_monotonic_us() - started_us) / 1e6;
    struct buf b = new_line("summary");
    struct transport_state s;

    transport_state(the_tool.transport, &s);
    json_out_field_i64(&b, "sent", the_tool.sent);
    json_out_field_i64(&b, "opened", (int64_t)s.sessions_opened);
    json_out_field_i64(&b, "mails_per_second", (int64_t)(the_tool.ended / seconds));
    json_out_field_i64(&b, "cpu_ns_per_mail",
                       (int64_t)((cpu_seconds() - cpu_before) * 1e9 / the_tool.ended));
    put_line(&b);
}

/* ---- main ---- */

static enum smtp_tls tls_of(const char *name)
{
    return strcmp(name, "starttls") == 0        ? SMTP_TLS_STARTTLS
           : strcmp(name, "tls") == 0           ? SMTP_TLS_IMPLICIT
           : strcmp(name, "opportunistic") == 0 ? SMTP_TLS_OPPORTUNISTIC
                                                : SMTP_TLS_NONE;
}

static bool take_flag(struct smtp_settings *s, const char *name, const char *value)
{
    if (strcmp(name, "--host") == 0)
        s->host = value;
    else if (strcmp(name, "--port") == 0)
        s->port = (unsigned)atoi(value);
    else if (strcmp(name, "--user") == 0)
        s->user = value;
    else if (strcmp(name, "--password") == 0)
        s->password = value;
    else if (strcmp(name, "--tls") == 0)
        s->tls = tls_of(value);
    else if (strcmp(name, "--ca") == 0)
        s->ca_file = value;
    else if (strcmp(name, "--helo") == 0)
        s->helo_name = value;
    else if (strcmp(name, "--connections") == 0)
        s->max_connections = (unsigned)atoi(value);
    else if (strcmp(name, "--connect-timeout") == 0)
        s->connect_timeout_ms = (uint64_t)atol(value);
    else if (strcmp(name, "--timeout") == 0)
        s->timeout_ms = (uint64_t)atol(value);
    else if (strcmp(name, "--idle-timeout") == 0)
        s->idle_timeout_ms = (uint64_t)atol(value);
    else if (strcmp(name, "--messages") == 0)
        s->messages_per_connection = (unsigned)atoi(value);
    else if (strcmp(name, "--rate") == 0)
        s->mails_per_second = strtoul(value, NULL, 10);
    else if (strcmp(name, "--failures") == 0)
        s->breaker_failures = (unsigned)atoi(value);
    else if (strcmp(name, "--count") == 0)
        the_tool.count = (unsigned)atoi(value);
    else if (strcmp(name, "--parallel") == 0)
        the_tool.parallel = (unsigned)atoi(value);
    else if (strcmp(name, "--size") == 0)
        the_tool.size = (unsigned)atoi(value);
    else
        return false;
    return true;
}

static void flush_log(void *ctx)
{
    (void)ctx;
    log_flush();
}

static bool run(struct error *err)
{
    const uint64_t started_us = clock_monotonic_us();
    const double cpu_before = cpu_seconds();
    bool ok;

    if (!the_tool.count) {
        if (!loop_fd_add(the_tool.loop, &the_tool.input, STDIN_FILENO, EPOLLIN, on_input, NULL,
                         err))
            return false;
        return loop_run(the_tool.loop, err);
    }
    the_tool.message.ptr = make_message(the_tool.size, &the_tool.message.len);
    the_tool.recipient = slice_str("recipient@example.com");
    send_more();
    ok = loop_run(the_tool.loop, err);
    print_summary(started_us, cpu_before);
    free((char *)the_tool.message.ptr);
    return ok;
}

int main(int argc, char **argv)
{
    struct smtp_settings settings = {.host = "127.0.0.1",
                                     .port = 25,
                                     .max_connections = 4,
                                     .connect_timeout_ms = 5000,
                                     .timeout_ms = 5000,
                                     .idle_timeout_ms = 60000,
                                     .breaker_failures = 5,
                                     .changed = on_changed};
    struct error err = {0};
    bool to_log = false, ok;

    the_tool.parallel = 64;
    the_tool.size = 2000;
    for (int i = 1; i < argc; i += to_log && i + 1 == argc ? 1 : 2)
        if (strcmp(argv[i], "--log") == 0)
            to_log = true; /* the last flag */
        else if (i + 1 == argc || !take_flag(&settings, argv[i], argv[i + 1]))
            return fprintf(stderr, "bad flag: %s\n", argv[i]), 2;
    the_tool.loop = loop_new(&err);
    if (!the_tool.loop || !loop_at_tick_end(the_tool.loop, flush_log, NULL))
        return fprintf(stderr, "%s\n", err.text), 1;
    the_tool.transport = to_log ? log_transport_new(the_tool.loop, &err)
                                : smtp_transport_new(the_tool.loop, &settings, &err);
    if (!the_tool.transport)
        return fprintf(stderr, "%s\n", err.text), 1;
    ok = run(&err);
    transport_destroy(the_tool.transport);
    for (unsigned i = 0; i < MAX_ID; i++)
        if (the_tool.jobs[i])
            free_job(the_tool.jobs[i]);
    buf_cleanup(&the_tool.line);
    loop_destroy(the_tool.loop);
    log_drain(1000);
    if (!ok)
        fprintf(stderr, "%s\n", err.text);
    return ok ? 0 : 1;
}
