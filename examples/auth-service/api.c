#include "api.h"
#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum {
    MAX_EMAIL = 320, /* 64 octets, @, 255 octets: RFC 5321, section 4.5.3.1 */
    BUSY_RETRY_SECONDS = 5,
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME,
                  &now); /* counts on while the machine sleeps, as the expiry in the mail does */
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool new_code(char code[CODES_SIZE])
{
    uint32_t random;
    do {
        ssize_t got = getrandom(&random, sizeof(random), 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got != sizeof(random))
            return false;
        if (codes_make(random, code))
            return true;
    } while (true);
}

/* ---- the mail ---- */

static const char TEXT[] =
    "Your verification code is %s.\n"
    "\n"
    "It is valid for ten minutes. If you did not ask for it, ignore this mail.\n";

static const char HTML[] =
    "<!DOCTYPE html>\n"
    "<html lang=\"en\"><body style=\"font-family: sans-serif; color: #222\">\n"
    "<p>Your verification code is</p>\n"
    "<p style=\"font-size: 32px; font-weight: bold; letter-spacing: 6px\">%s</p>\n"
    "<p>It is valid for ten minutes. If you did not ask for it, ignore this mail.</p>\n"
    "</body></html>\n";

/* Told once for every mail that was queued, from the library's thread: long after the user got an
 * answer. Nobody is left to tell but the log; the user, whose mail does not come, asks for another
 * code. The text of the error stays out: a relay's reply may quote the address. */
static void on_outcome(const email_outcome *outcome, void *context)
{
    (void)context;
    switch (outcome->result) {
    case EMAIL_PUBLISHED:
        log_line("info", "Verification code published", outcome->message_id, NULL);
        break;
    case EMAIL_SENT_DIRECTLY:
    case EMAIL_SENT_BEFORE:
        log_line("info", "Verification code sent directly", outcome->message_id, NULL);
        break;
    case EMAIL_FAILED:
        log_line("error", "Verification code not sent", outcome->message_id, NULL);
        break;
    case EMAIL_UNKNOWN:
        log_line("warn", "Verification code may not have been sent", outcome->message_id, NULL);
        break;
    }
}

/* Queues the mail; message_id and error are the library's. */
static email_status send_code(email_producer *producer, const char *address, const char *code,
                              char *message_id, char *error)
{
    char text[sizeof(TEXT) + CODES_SIZE], html[sizeof(HTML) + CODES_SIZE];
    snprintf(text, sizeof(text), TEXT, code);
    snprintf(html, sizeof(html), HTML, code);

    email_event event = EMAIL_EVENT_INIT;
    event.type = "verification_code";
    event.to = address;
    event.subject = "Your verification code";
    event.text = text;
    event.html = html;
    event.expires_in_seconds =
        API_CODE_LIFETIME_SECONDS; /* a code that is no good any more is not mailed */
    email_status status = email_producer_send_id(producer, &event, on_outcome, NULL, message_id,
                                                 error, EMAIL_PRODUCER_ERROR_SIZE);
    explicit_bzero(text, sizeof(text));
    explicit_bzero(html, sizeof(html));
    return status;
}

/* ---- requests ---- */

/* A string field of the body; NULL, and a 400, where there is none. */
static const char *field(const json_t *body, const char *name, struct http_response *response)
{
    const char *value = json_string_value(json_object_get(body, name));
    if (value)
        return value;
    char text[64];
    snprintf(text, sizeof(text), "%s: missing, or not a string", name);
    http_error(response, 400, text);
    return NULL;
}

/* The body's email, lower-cased: A@example.com and a@example.com share their codes and their limit.
 * Only the bare form is taken: "Name <a@example.com>" is good in an event, but would let strangers
 * write into our mail's To line, and give one mailbox many limits. Whether it is an address at all
 * is for the library to judge. */
static bool take_email(const json_t *body, char email[MAX_EMAIL + 1],
                       struct http_response *response)
{
    const char *value = field(body, "email", response);
    if (!value)
        return false;
    size_t len = strlen(value);
    if (len > MAX_EMAIL || strpbrk(value, " \t<>()\"\\,;:")) {
        http_error(response, 400, "email: not a plain address like ada@example.com");
        return false;
    }
    for (size_t i = 0; i <= len; i++)
        email[i] = value[i] >= 'A' && value[i] <= 'Z' ? (char)(value[i] - 'A' + 'a') : value[i];
    return true;
}

static void refuse(struct http_response *response, enum codes_verdict verdict, int64_t wait_ms)
{
    if (verdict == CODES_TOO_MANY)
        http_error(response, 429, "too many codes were asked for, try again later");
    else
        http_error(response, 503, "busy, try again later");
    response->retry_after_seconds = (long)((wait_ms + 999) / 1000);
}

/* The library's text names the event's field, "to: …"; the caller knows ours. All else in the event
 * is good. */
static void refuse_address(struct http_response *response, const char *error)
{
    char text[EMAIL_PRODUCER_ERROR_SIZE + 8];
    const char *colon = strstr(error, ": ");
    snprintf(text, sizeof(text), "email: %s", colon ? colon + 2 : error);
    http_error(response, 400, text);
}

/* The library took it. The answer does not wait for Kafka or the relay: the mail is on its way,
 * directly if need be, and a slow relay must not become a slow login page. */
static void accepted(struct api *api, const char *email, const char *code, const char *message_id,
                     struct http_response *response)
{
    log_line("info", "Verification code queued", message_id, NULL);
    if (!codes_put(api->codes, email, code, now_ms())) {
        /* The code in that mail will never be valid: better than one that is valid unseen. */
        http_error(response, 503, "out of memory, try again later");
        return;
    }
    response->status = 200;
    response->body = json_pack("{ss}", "message", "verification code sent to your email");
}

static void request_code(struct api *api, const json_t *body, struct http_response *response)
{
    char email[MAX_EMAIL + 1], code[CODES_SIZE], message_id[EMAIL_PRODUCER_ID_SIZE];
    char error[EMAIL_PRODUCER_ERROR_SIZE];
    int64_t wait_ms;
    if (!take_email(body, email, response))
        return;
    enum codes_verdict verdict = codes_check(api->codes, email, now_ms(), &wait_ms);
    if (verdict != CODES_ALLOWED) {
        refuse(response, verdict, wait_ms);
        return;
    }
    if (!new_code(code)) {
        http_error(response, 500, "no random numbers");
        return;
    }
    switch (send_code(api->producer, email, code, message_id, error)) {
    case EMAIL_QUEUED: accepted(api, email, code, message_id, response); break;
    case EMAIL_INVALID: refuse_address(response, error); break;
    case EMAIL_QUEUE_FULL:
    case EMAIL_CLOSING:
    case EMAIL_NO_MEMORY:
        http_error(response, 503, "busy, try again later");
        response->retry_after_seconds = BUSY_RETRY_SECONDS;
        break;
    }
    explicit_bzero(code, sizeof(code));
}

static void verify_code(struct api *api, const json_t *body, struct http_response *response)
{
    char email[MAX_EMAIL + 1];
    if (!take_email(body, email, response))
        return;
    const char *code = field(body, "code", response);
    if (!code)
        return;
    /* One answer for wrong, used, expired and never asked for: it tells nobody who has a code. */
    if (!codes_verify(api->codes, email, code, now_ms())) {
        http_error(response, 401, "the code is wrong or no longer valid");
        return;
    }
    response->status = 200;
    response->body = json_pack("{ss}", "message", "email verified");
}

static void health(struct api *api, const json_t *body, struct http_response *response)
{
    (void)body;
    response->status = 200;
    response->body = json_pack("{ss ss sI}", "status", "healthy", "service", "auth-service",
                               "queued_emails", (json_int_t)email_producer_queued(api->producer));
}

/* ---- routes ---- */

static const struct route {
    const char *method, *path;
    void (*handle)(struct api *api, const json_t *body, struct http_response *response);
} routes[] = {
    {"POST", "/auth/request-code", request_code},
    {"POST", "/auth/verify-code", verify_code},
    {"GET", "/health", health},
};

static const struct route *route_of(const char *path)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
        if (strcmp(routes[i].path, path) == 0)
            return &routes[i];
    return NULL;
}

static bool takes(const struct route *route, const char *method)
{
    return strcmp(route->method, method) == 0 ||
           (strcmp(route->method, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

static void handle_post(struct api *api, const struct route *route,
                        const struct http_request *request, struct http_response *response)
{
    /* jansson refuses U+0000 in strings, so that none is longer than it looks. */
    json_t *body = json_loadb(request->body, request->body_len, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(body))
        route->handle(api, body, response);
    else
        http_error(response, 400, "the body is not a JSON object");
    json_decref(body);
}

void api_handle(void *context, const struct http_request *request, struct http_response *response)
{
    const struct route *route = route_of(request->path);
    if (!route) {
        http_error(response, 404, "there is no such page");
    } else if (!takes(route, request->method)) {
        http_error(response, 405, "that method is not for this page");
        response->allow = route->method;
    } else if (strcmp(route->method, "POST") == 0) {
        handle_post(context, route, request, response);
    } else {
        route->handle(context, NULL, response);
    }
}
