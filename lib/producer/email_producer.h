/* email_producer: publishing email events from a C or C++ program.
 *
 *     email_producer *p = email_producer_new(NULL, error, sizeof(error));   // from the environment
 *     email_event e = EMAIL_EVENT_INIT;
 *     e.to = "ada@example.com"; e.subject = "Your code"; e.text = "123456"; e.type =
 * "verification_code"; email_producer_send(p, &e, on_outcome, my_context, error, sizeof(error));
 *     email_producer_destroy(p, 5000);
 *
 * Events are validated by the very code of the service, and published asynchronously: idempotent
 * producer, acks=all. Where Kafka is out of reach, or ENABLE_KAFKA=false, the library sends
 * directly over SMTP (EMAIL_MODE=log: writes the mail to the log callback), through the same
 * transport, composer and Redis claim as the service. An event that Kafka may have taken is sent
 * directly only under the claim on its messageID, so that Kafka's late copy and the direct one are
 * one mail; without a reachable Redis it is never sent directly.
 *
 * Threads: every function may be called from any thread, unless said otherwise. The library runs
 * one thread of its own for I/O and one for librdkafka's needs; callbacks run on the former: they
 * must not block, and must not call email_producer_flush or email_producer_destroy. Strings are
 * UTF-8, NUL-terminated, and copied before a function returns. */
#ifndef EMAIL_PRODUCER_H
#define EMAIL_PRODUCER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define EMAIL_PRODUCER_API __attribute__((visibility("default")))
#else
#define EMAIL_PRODUCER_API
#endif

typedef struct email_producer email_producer;

enum {
    EMAIL_PRODUCER_ERROR_SIZE = 512,
    EMAIL_PRODUCER_ID_SIZE = 201
}; /* enough room for any error text; for any messageID */

typedef enum email_status {
    EMAIL_QUEUED = 0, /* taken; the callback will tell the outcome */
    EMAIL_INVALID =
        1, /* refused: the error text names the field and says why; nothing was queued */
    EMAIL_QUEUE_FULL = 2, /* refused: too many events are under way; try again later */
    EMAIL_CLOSING = 3,    /* refused: the producer is being destroyed */
    EMAIL_NO_MEMORY = 4   /* refused */
} email_status;

typedef enum email_result {
    EMAIL_PUBLISHED = 0,     /* all in-sync replicas have it: the service will send it */
    EMAIL_SENT_DIRECTLY = 1, /* the relay took the mail (log mode: it was logged) */
    EMAIL_SENT_BEFORE = 2,   /* direct: the claim says that this messageID was sent already */
    EMAIL_FAILED =
        3, /* neither: it is not, and will not be, sent; send it again under the same messageID */
    EMAIL_UNKNOWN = 4 /* Kafka or the relay may or may not have taken it: sending it again under the
                         same messageID is safe with Redis, and may give a second mail without */
} email_result;

/* One outcome for every event that was queued, exactly once, never before email_producer_send
 * returns. Strings are valid during the call. error is "" for PUBLISHED, SENT_DIRECTLY and
 * SENT_BEFORE. */
typedef struct email_outcome {
    email_result result;
    const char *message_id;
    const char *error;
    const char *topic; /* PUBLISHED only, else NULL, with partition and offset -1 */
    int32_t partition;
    int64_t offset;
} email_outcome;

typedef void (*email_outcome_fn)(const email_outcome *outcome, void *context);

/* "level" is "debug", "info", "warn" or "error"; `line` is one JSON object without line break. From
 * the library's thread. */
typedef void (*email_log_fn)(const char *level, const char *line, void *context);

typedef struct email_attachment {
    const char *filename;
    const char *content_type;
    const void *content; /* bytes; the library encodes them */
    size_t content_len;
    const char *content_id; /* NULL: an ordinary attachment */
} email_attachment;

typedef struct email_header {
    const char *name, *value;
} email_header;

/* One email event; see docs/event.md for the fields. NULL: not given. Begin with EMAIL_EVENT_INIT
 * (or email_event_init), so that fields added in later versions are empty. */
typedef struct email_event {
    size_t struct_size;     /* set by EMAIL_EVENT_INIT */
    const char *message_id; /* NULL: the library makes a unique one (see email_producer_send_id) */
    const char *type;
    const char *to;             /* one address, "a@b.example" or "Name <a@b.example>" */
    const char *const *to_list; /* or several: NULL-terminated; both may be given */
    const char *const *cc_list, *const *bcc_list;
    const char *from, *reply_to;
    const char *subject, *text, *html;
    const char *template_name, *data_json, *locale; /* data_json: one JSON object */
    const email_attachment *attachments;
    size_t attachments_len;
    const email_header *headers;
    size_t headers_len;
    int64_t expires_in_seconds; /* 0: never; counted from now */
    const char *metadata_json;  /* one JSON object */
    const char *key;            /* record key; NULL: the first recipient's address, lower-cased */
} email_event;

EMAIL_PRODUCER_API void email_event_init(email_event *event);
#define EMAIL_EVENT_INIT                                                                           \
    {                                                                                              \
        sizeof(email_event), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0         \
    }

typedef struct email_producer_options {
    size_t struct_size; /* sizeof(email_producer_options) */
    const char *const
        *settings; /* NULL-terminated "NAME=value", over the environment (docs/configuration.md) */
    int ignore_environment;     /* nonzero: settings and defaults only; no .env file either */
    size_t max_queued;          /* events under way at the most; 0: 10000 */
    int64_t publish_timeout_ms; /* how long Kafka may take before the fallback is considered; 0:
                                   10000 */
    email_log_fn log;           /* NULL: the library says nothing (and log mode is refused) */
    void *log_context;
} email_producer_options;

/* Configured by the environment variables of docs/configuration.md (KAFKA_BROKERS, …), and options.
 * Never waits for Kafka. NULL where the configuration is wrong (error: all mistakes, one a line) or
 * memory is out. Owned by the caller: email_producer_destroy. error may be NULL. */
EMAIL_PRODUCER_API email_producer *email_producer_new(const email_producer_options *options,
                                                      char *error, size_t error_size);

/* Validates and queues one event. Does not block. fn may be NULL. error (may be NULL) gets the
 * reason where the result is not EMAIL_QUEUED. Order: events with the same key are published in the
 * order of the calls of one thread. */
EMAIL_PRODUCER_API email_status email_producer_send(email_producer *p, const email_event *event,
                                                    email_outcome_fn fn, void *context, char *error,
                                                    size_t error_size);

/* The same, and tells the event's messageID (EMAIL_PRODUCER_ID_SIZE bytes), to correlate with the
 * service's logs. */
EMAIL_PRODUCER_API email_status email_producer_send_id(email_producer *p, const email_event *event,
                                                       email_outcome_fn fn, void *context,
                                                       char message_id[EMAIL_PRODUCER_ID_SIZE],
                                                       char *error, size_t error_size);

/* The same for an event that is JSON already (UTF-8, `len` bytes); key may be NULL as above. */
EMAIL_PRODUCER_API email_status email_producer_send_json(email_producer *p, const char *json,
                                                         size_t len, const char *key,
                                                         email_outcome_fn fn, void *context,
                                                         char *error, size_t error_size);

/* Waits until every event queued so far has its outcome, at most timeout_ms (-1: for ever). Returns
 * how many have none yet. Not from a callback. */
EMAIL_PRODUCER_API size_t email_producer_flush(email_producer *p, int64_t timeout_ms);

/* Events under way. */
EMAIL_PRODUCER_API size_t email_producer_queued(email_producer *p);

/* Takes nothing more, flushes for at most timeout_ms, gives the rest its outcome (EMAIL_FAILED
 * where it was certainly neither published nor sent, else EMAIL_UNKNOWN), and frees. NULL is fine.
 * No other call may be under way or follow; not from a callback. */
EMAIL_PRODUCER_API void email_producer_destroy(email_producer *p, int64_t timeout_ms);

/* "0.1.0" */
EMAIL_PRODUCER_API const char *email_producer_version(void);

#ifdef __cplusplus
}
#endif

#endif
