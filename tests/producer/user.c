/* A user of the library that does what its standard input says, and tells on its standard output
 * what comes back. One command a line:
 *
 *   send ID TO SUBJECT TEXT…   queue one event ("-" as ID: the library makes one)
 *   json KEY EVENT             queue one event that is JSON ("-" as KEY: the default key)
 *   flush MS, queued
 *   many N                     queue N events, m-0 …, as fast as the queue takes them
 *
 * The end of the input destroys the producer. Arguments: publish timeout in ms, time for destroy in
 * ms. */
#include <email_producer.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;

/* Names of this program that are also the library's own: each must keep to itself. */
int log_write(void);
int log_write(void)
{
    return 7;
}

static const char *result_name(email_result result)
{
    static const char *const names[] = {"PUBLISHED", "SENT_DIRECTLY", "SENT_BEFORE", "FAILED",
                                        "UNKNOWN"};

    return names[result];
}

static void on_outcome(const email_outcome *outcome, void *context)
{
    (void)context;
    pthread_mutex_lock(&output);
    printf("outcome %s %s %s %d %lld %s\n", outcome->message_id, result_name(outcome->result),
           outcome->topic ? outcome->topic : "-", (int)outcome->partition,
           (long long)outcome->offset, outcome->error);
    fflush(stdout);
    pthread_mutex_unlock(&output);
}

static void on_log(const char *level, const char *line, void *context)
{
    (void)context;
    pthread_mutex_lock(&output);
    printf("log %s %s\n", level, line);
    fflush(stdout);
    pthread_mutex_unlock(&output);
}

static void tell(email_status status, const char *id, const char *error)
{
    pthread_mutex_lock(&output);
    printf("status %s %d %s\n", id, (int)status, error);
    fflush(stdout);
    pthread_mutex_unlock(&output);
}

static void do_send(email_producer *p, char *words)
{
    char error[EMAIL_PRODUCER_ERROR_SIZE], id[EMAIL_PRODUCER_ID_SIZE];
    email_event e = EMAIL_EVENT_INIT;
    char *rest = words;

    e.message_id = strsep(&rest, " ");
    e.to = strsep(&rest, " ");
    e.subject = strsep(&rest, " ");
    e.text = rest;
    e.type = "verification_code";
    if (strcmp(e.message_id, "-") == 0)
        e.message_id = NULL;
    tell(email_producer_send_id(p, &e, on_outcome, NULL, id, error, sizeof(error)), id, error);
}

static void do_json(email_producer *p, char *words)
{
    char error[EMAIL_PRODUCER_ERROR_SIZE];
    char *rest = words;
    const char *key = strsep(&rest, " ");

    tell(email_producer_send_json(p, rest, strlen(rest), strcmp(key, "-") ? key : NULL, on_outcome,
                                  NULL, error, sizeof(error)),
         "-", error);
}

static void do_many(email_producer *p, long n)
{
    const struct timespec pause = {0, 1000000};

    for (long i = 0; i < n;) {
        email_event e = EMAIL_EVENT_INIT;
        char id[32], to[64];
        snprintf(id, sizeof(id), "m-%ld", i);
        snprintf(to, sizeof(to), "user%ld@example.com", i % 100);
        e.message_id = id;
        e.to = to;
        e.subject = "Number";
        e.text = id;
        if (email_producer_send(p, &e, on_outcome, NULL, NULL, 0) == EMAIL_QUEUED)
            i++;
        else
            nanosleep(&pause, NULL);
    }
}

static void obey(email_producer *p, char *line)
{
    char *rest = line;
    const char *command = strsep(&rest, " ");

    if (strcmp(command, "send") == 0)
        do_send(p, rest);
    else if (strcmp(command, "json") == 0)
        do_json(p, rest);
    else if (strcmp(command, "many") == 0)
        do_many(p, atol(rest));
    else if (strcmp(command, "flush") == 0)
        tell(EMAIL_QUEUED, "flush", email_producer_flush(p, atol(rest)) ? "left" : "all");
    else if (strcmp(command, "queued") == 0)
        tell(EMAIL_QUEUED, "queued", email_producer_queued(p) ? "some" : "none");
}

int main(int argc, char **argv)
{
    email_producer_options options = {0};
    char error[EMAIL_PRODUCER_ERROR_SIZE];
    email_producer *p;
    size_t cap = 0;
    char *line = NULL;
    ssize_t len;

    options.struct_size = sizeof(options);
    options.publish_timeout_ms = argc > 1 ? atol(argv[1]) : 0;
    options.log = on_log;
    p = email_producer_new(&options, error, sizeof(error));
    if (!p) {
        fprintf(stderr, "%s\n", error);
        return 2;
    }
    while ((len = getline(&line, &cap, stdin)) > 0) {
        line[len - 1] = '\0';
        obey(p, line);
    }
    email_producer_destroy(p, argc > 2 ? atol(argv[2]) : 5000);
    free(line);
    return log_write() == 7 ? 0 : 1;
}
