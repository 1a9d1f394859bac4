/* The public functions: what runs on the callers' threads. */
#include "producer/producer.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "email/event.h"
#include "producer/event_json.h"
#include "producer/event_tree.h"

enum { ID_BYTES = 16, MOST_KEPT = 65536 };

static const char failed_client[] = "the Kafka producer failed and is being made anew";

static void say(char *error, size_t error_size, const char *text)
{
    if (error && error_size)
        snprintf(error, error_size, "%s", text);
}

/* ---- creating ---- */

static bool init_locks(email_producer *p)
{
    pthread_condattr_t attributes;

    if (pthread_condattr_init(&attributes) != 0)
        return false;
    if (pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) != 0 ||
        pthread_cond_init(&p->changed, &attributes) != 0) {
        pthread_condattr_destroy(&attributes);
        return false;
    }
    pthread_condattr_destroy(&attributes);
    if (pthread_mutex_init(&p->mutex, NULL) == 0)
        return true;
    pthread_cond_destroy(&p->changed);
    return false;
}

/* With every signal blocked: signals are the host's business, and a blocked SIGPIPE becomes EPIPE.
 */
static bool start_thread(email_producer *p)
{
    sigset_t all, before;
    int code;

    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
        return false;
    code = pthread_create(&p->thread, NULL, producer_thread, p);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL); /* a mask that was in force is valid */
    return code == 0;
}

static bool wait_started(email_producer *p)
{
    bool good;

    pthread_mutex_lock(&p->mutex);
    while (p->state == PRODUCER_STARTING)
        pthread_cond_wait(&p->changed, &p->mutex);
    good = p->state == PRODUCER_RUNNING;
    pthread_mutex_unlock(&p->mutex);
    return good;
}

static void free_scratches(email_producer *p)
{
    struct scratch *next;

    for (struct scratch *s = p->scratches; s; s = next) {
        next = s->next;
        arena_cleanup(&s->arena);
        buf_cleanup(&s->json);
        free(s);
    }
}

static void free_producer(email_producer *p)
{
    free_scratches(p);
    loop_destroy(p->loop);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->mutex);
    producer_settings_cleanup(&p->settings);
    free(p);
}

static email_producer *start_producer(email_producer *p, char *error, size_t error_size)
{
    if (!init_locks(p)) {
        say(error, error_size, "out of resources");
        producer_settings_cleanup(&p->settings);
        free(p);
        return NULL;
    }
    if (!start_thread(p)) {
        say(error, error_size, "no thread could be started");
        free_producer(p);
        return NULL;
    }
    if (wait_started(p))
        return p;
    (void)pthread_join(p->thread, NULL); /* ours, and joinable */
    say(error, error_size, p->start_error.text);
    free_producer(p);
    return NULL;
}

email_producer *email_producer_new(const email_producer_options *options, char *error,
                                   size_t error_size)
{
    email_producer *p = calloc(1, sizeof(*p));
    struct buf mistakes = {0};

    say(error, error_size, p ? "" : "out of memory");
    if (!p)
        return NULL;
    if (producer_settings_load(&p->settings, options, &mistakes)) {
        buf_cleanup(&mistakes);
        return start_producer(p, error, error_size);
    }
    if (mistakes.len && mistakes.ptr[mistakes.len - 1] == '\n')
        mistakes.ptr[mistakes.len - 1] = '\0';
    say(error, error_size, mistakes.failed || !mistakes.ptr ? "out of memory" : mistakes.ptr);
    buf_cleanup(&mistakes);
    producer_settings_cleanup(&p->settings);
    free(p);
    return NULL;
}

/* ---- sending ---- */

struct submission { /* what one call of send gives */
    struct slice json;
    const char *key;
    email_outcome_fn fn;
    void *context;
    char *message_id; /* NULL: not asked for */
};

/* NULL where memory is out. */
static struct scratch *take_scratch(email_producer *p, bool *closing)
{
    struct scratch *s;

    pthread_mutex_lock(&p->mutex);
    *closing = p->closing;
    s = p->scratches;
    if (s)
        p->scratches = s->next;
    pthread_mutex_unlock(&p->mutex);
    return s ? s : calloc(1, sizeof(*s));
}

static void give_scratch_back(email_producer *p, struct scratch *s)
{
    if (!s)
        return;
    arena_reset(&s->arena);
    if (s->json.cap > MOST_KEPT)
        buf_cleanup(&s->json);
    buf_clear(&s->json);
    pthread_mutex_lock(&p->mutex);
    s->next = p->scratches;
    p->scratches = s;
    pthread_mutex_unlock(&p->mutex);
}

/* The first recipient, lower-cased: one person's mails stay on one partition, and in order. */
static struct slice default_key(struct arena *arena, const struct event *ev)
{
    struct slice key = arena_copy(arena, event_recipient(ev, 0)->spec);
    char *bytes = (char *)(uintptr_t)key.ptr;

    for (size_t i = 0; bytes && i < key.len; i++)
        bytes[i] = (char)(bytes[i] >= 'A' && bytes[i] <= 'Z' ? bytes[i] | 0x20 : bytes[i]);
    return key;
}

static char *put(char *at, struct slice *to, struct slice from)
{
    if (from.len)
        memcpy(at, from.ptr, from.len);
    at[from.len] = '\0';
    *to = slice_of(at, from.len);
    return at + from.len + 1;
}

static struct entry *new_entry(const struct submission *s, struct slice message_id,
                               struct slice key)
{
    struct entry *e;
    char *at;

    e = malloc(sizeof(*e) + message_id.len + key.len + 2);
    if (!e)
        return NULL;
    *e = (struct entry){.item.given_unix_ms = clock_unix_ms(),
                        .fn = s->fn,
                        .context = s->context,
                        .json_len = s->json.len};
    at = put((char *)(e + 1), &e->message_id, message_id);
    put(at, &e->key, key);
    return e;
}

/* An event of any size is taken where nothing else is under way. */
static bool has_room(const email_producer *p, const struct entry *e)
{
    const uint64_t most = p->settings.config.max_in_flight_bytes;

    if (p->pending_len == 0)
        return true;
    return p->pending_len < p->settings.max_queued && p->pending_bytes < most &&
           e->json_len <= most - p->pending_bytes;
}

/* To the library's thread, for sending directly. */
static void hand_over(email_producer *p, struct entry *e)
{
    const bool was_empty = !p->submitted_first;

    *(was_empty ? &p->submitted_first : &p->submitted_last->next_submitted) = e;
    p->submitted_last = e;
    if (was_empty)
        loop_wake(p->loop);
}

static void append(email_producer *p, struct entry *e)
{
    e->number = ++p->last_number;
    e->before = p->pending_last;
    *(p->pending_last ? &p->pending_last->after : &p->pending_first) = e;
    p->pending_last = e;
    p->pending_len++;
    p->pending_bytes += e->json_len;
}

static email_status no_memory(struct error *err)
{
    error_set(err, "out of memory");
    return EMAIL_NO_MEMORY;
}

/* On the caller's thread, so that no other has to wake up for it; librdkafka has its own. The event
 * is no longer ours where it is taken: its report may have come. */
static email_status publish(email_producer *p, struct entry *e, struct slice json,
                            struct error *err)
{
    struct error why = {0};
    bool kept;

    if (kafka_path_publish(p->kafka_path, e->key, json, e, &why))
        return EMAIL_QUEUED;
    snprintf(e->kafka_error, sizeof(e->kafka_error), "%.150s", why.text);
    kept = entry_keep_json(e, json);
    pthread_mutex_lock(&p->mutex);
    if (kept)
        hand_over(p, e);
    else
        entry_unlink(p, e);
    pthread_mutex_unlock(&p->mutex);
    return kept ? EMAIL_QUEUED : no_memory(err);
}

/* With the mutex. *for_kafka: publish it, and leave the path. */
static email_status take(email_producer *p, struct entry *e, struct slice json, bool *for_kafka,
                         struct error *err)
{
    *for_kafka = false;
    if (p->closing) {
        error_set(err, "the producer is being destroyed");
        return EMAIL_CLOSING;
    }
    if (!has_room(p, e)) {
        error_set(err, "too many events are under way");
        return EMAIL_QUEUE_FULL;
    }
    *for_kafka = p->kafka_path && kafka_path_enter(p->kafka_path);
    if (!*for_kafka && !entry_keep_json(e, json))
        return no_memory(err);
    append(p, e);
    if (*for_kafka)
        return EMAIL_QUEUED;
    if (p->kafka_path)
        snprintf(e->kafka_error, sizeof(e->kafka_error), "%s", failed_client);
    hand_over(p, e);
    return EMAIL_QUEUED;
}

static email_status queue(email_producer *p, struct entry *e, struct slice json, struct error *err)
{
    email_status status;
    bool for_kafka;

    pthread_mutex_lock(&p->mutex);
    status = take(p, e, json, &for_kafka, err);
    pthread_mutex_unlock(&p->mutex);
    if (!for_kafka)
        return status;
    status = publish(p, e, json, err);
    kafka_path_leave(p->kafka_path);
    return status;
}

static email_status submit(email_producer *p, struct arena *arena, const struct submission *s,
                           const struct event *ev, struct error *err)
{
    struct slice key = s->key ? slice_str(s->key) : default_key(arena, ev);
    struct entry *e = key.ptr ? new_entry(s, ev->message_id, key) : NULL;
    email_status status;

    if (!e)
        return no_memory(err);
    if (s->message_id) /* EVENT_MAX_MESSAGE_ID fits */
        snprintf(s->message_id, EMAIL_PRODUCER_ID_SIZE, "%s", e->message_id.ptr);
    status = queue(p, e, s->json, err);
    if (status != EMAIL_QUEUED)
        entry_free(e);
    return status;
}

/* The service's own judgement. */
static email_status judge(const email_producer *p, struct arena *arena, struct slice json,
                          struct event *ev, struct error *err)
{
    switch (event_decode(arena, json, p->settings.config.max_event_bytes, ev, err)) {
    case EVENT_OK: return EMAIL_QUEUED;
    case EVENT_NO_MEMORY: return no_memory(err);
    default: return EMAIL_INVALID;
    }
}

/* ---- events that are a struct ---- */

static bool new_message_id(char out[EMAIL_PRODUCER_ID_SIZE], struct error *err)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[ID_BYTES];
    char *at = out + snprintf(out, EMAIL_PRODUCER_ID_SIZE, "evt-");

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return error_set(err, "no random numbers for a messageID: %s", strerror(errno));
    for (size_t i = 0; i < sizeof(bytes); i++) {
        *at++ = digits[bytes[i] >> 4];
        *at++ = digits[bytes[i] & 15];
    }
    *at = '\0';
    return true;
}

void email_event_init(email_event *event)
{
    if (event)
        *event = (email_event)EMAIL_EVENT_INIT;
}

static email_status build(const email_event *event, struct buf *json, struct slice message_id,
                          struct error *err)
{
    if (!event_json_write(json, event, message_id, clock_unix_ms(), err))
        return EMAIL_INVALID;
    return json->failed ? no_memory(err) : EMAIL_QUEUED;
}

/* What judging the JSON says, mostly without reading what was just written. */
static email_status judge_struct(const email_producer *p, struct arena *arena,
                                 const email_event *event, struct slice message_id,
                                 struct slice json, struct event *decoded, struct error *err)
{
    const struct json_in *tree = NULL;

    /* The tree of what is far too large would be a multiple of it. */
    if (json.len <= p->settings.config.max_event_bytes)
        tree = event_tree_new(arena, event, message_id);
    if (tree && event_decode_tree(arena, tree, decoded, NULL) == EVENT_OK)
        return EMAIL_QUEUED;
    return judge(p, arena, json, decoded, err); /* and what is wrong, if anything */
}

static email_status send_struct(email_producer *p, const email_event *event, struct submission *s,
                                struct scratch *scratch, struct error *err)
{
    char made[EMAIL_PRODUCER_ID_SIZE];
    struct slice message_id;
    struct event decoded;
    email_status status;

    if (!event->message_id && !new_message_id(made, err))
        return EMAIL_NO_MEMORY;
    message_id = slice_str(event->message_id ? event->message_id : made);
    status = build(event, &scratch->json, message_id, err);
    s->json = buf_slice(&scratch->json);
    s->key = event->key;
    if (status == EMAIL_QUEUED)
        status = judge_struct(p, &scratch->arena, event, message_id, s->json, &decoded, err);
    if (status == EMAIL_QUEUED)
        status = submit(p, &scratch->arena, s, &decoded, err);
    return status;
}

/* The caller's struct may be of an earlier version, and shorter. */
static email_status send_known_part(email_producer *p, const email_event *event,
                                    struct submission *s, struct scratch *scratch,
                                    struct error *err)
{
    email_event known = EMAIL_EVENT_INIT;

    if (!event || event->struct_size <= sizeof(event->struct_size)) {
        error_set(err, "event: begin with EMAIL_EVENT_INIT");
        return EMAIL_INVALID;
    }
    memcpy(&known, event, event->struct_size < sizeof(known) ? event->struct_size : sizeof(known));
    return send_struct(p, &known, s, scratch, err);
}

email_status email_producer_send_id(email_producer *p, const email_event *event,
                                    email_outcome_fn fn, void *context,
                                    char message_id[EMAIL_PRODUCER_ID_SIZE], char *error,
                                    size_t error_size)
{
    struct submission s = {.fn = fn, .context = context, .message_id = message_id};
    struct error err = {0};
    struct scratch *scratch;
    email_status status;
    bool closing;

    say(error, error_size, "");
    if (message_id)
        message_id[0] = '\0';
    scratch = take_scratch(p, &closing);
    if (closing) {
        error_set(&err, "the producer is being destroyed");
        status = EMAIL_CLOSING;
    } else {
        status = scratch ? send_known_part(p, event, &s, scratch, &err) : no_memory(&err);
    }
    give_scratch_back(p, scratch);
    if (status != EMAIL_QUEUED)
        say(error, error_size, err.text);
    return status;
}

email_status email_producer_send(email_producer *p, const email_event *event, email_outcome_fn fn,
                                 void *context, char *error, size_t error_size)
{
    return email_producer_send_id(p, event, fn, context, NULL, error, error_size);
}

/* ---- events that are JSON ---- */

/* createdAt is the mail's Date: with it Kafka's copy and the direct one are the same bytes. Valid
 * without one, the event has no member of that name (null is refused), and stays what it was judged
 * to be. One that has no room for it goes as it is. */
static void complete(const email_producer *p, struct slice *json, struct buf *with_date)
{
    event_json_add_created_at(with_date, *json, clock_unix_ms());
    if (!with_date->failed && with_date->len <= p->settings.config.max_event_bytes)
        *json = buf_slice(with_date);
}

static email_status send_text(email_producer *p, struct submission *s, struct scratch *scratch,
                              struct error *err)
{
    struct event ev;
    const email_status status = judge(p, &scratch->arena, s->json, &ev, err);

    if (status != EMAIL_QUEUED)
        return status;
    if (!ev.has_created_at)
        complete(p, &s->json, &scratch->json);
    return submit(p, &scratch->arena, s, &ev, err);
}

email_status email_producer_send_json(email_producer *p, const char *json, size_t len,
                                      const char *key, email_outcome_fn fn, void *context,
                                      char *error, size_t error_size)
{
    struct submission s = {.json = slice_of(json, len), .key = key, .fn = fn, .context = context};
    struct error err = {0};
    struct scratch *scratch;
    email_status status;
    bool closing; /* told only of an event that could be sent */

    say(error, error_size, "");
    scratch = take_scratch(p, &closing);
    status = scratch ? send_text(p, &s, scratch, &err) : no_memory(&err);
    give_scratch_back(p, scratch);
    if (status != EMAIL_QUEUED)
        say(error, error_size, err.text);
    return status;
}

/* ---- waiting and ending ---- */

static struct timespec after_ms(int64_t ms)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

static bool has_up_to(const email_producer *p, uint64_t number)
{
    return p->pending_first && p->pending_first->number <= number;
}

size_t email_producer_flush(email_producer *p, int64_t timeout_ms)
{
    const struct timespec deadline = after_ms(timeout_ms > 0 ? timeout_ms : 0);
    /* From a callback nobody would ever wake it. */
    bool expired = timeout_ms == 0 || pthread_equal(pthread_self(), p->thread);
    size_t left = 0;
    uint64_t last;

    pthread_mutex_lock(&p->mutex);
    last = p->last_number;
    while (!expired && has_up_to(p, last)) {
        if (timeout_ms < 0)
            pthread_cond_wait(&p->changed, &p->mutex);
        else
            expired = pthread_cond_timedwait(&p->changed, &p->mutex, &deadline) == ETIMEDOUT;
    }
    for (const struct entry *e = p->pending_first; e && e->number <= last; e = e->after)
        left++;
    pthread_mutex_unlock(&p->mutex);
    return left;
}

size_t email_producer_queued(email_producer *p)
{
    size_t len;

    pthread_mutex_lock(&p->mutex);
    len = p->pending_len;
    pthread_mutex_unlock(&p->mutex);
    return len;
}

void email_producer_destroy(email_producer *p, int64_t timeout_ms)
{
    if (!p || pthread_equal(pthread_self(), p->thread))
        return;
    pthread_mutex_lock(&p->mutex);
    p->closing = true;
    pthread_mutex_unlock(&p->mutex);
    (void)email_producer_flush(p, timeout_ms); /* what is left gets its outcome below */
    pthread_mutex_lock(&p->mutex);
    p->stop_requested = true;
    loop_wake(p->loop);
    pthread_mutex_unlock(&p->mutex);
    (void)pthread_join(p->thread, NULL); /* ours, and joinable */
    free_producer(p);
}

const char *email_producer_version(void)
{
    return EMAIL_VERSION;
}
