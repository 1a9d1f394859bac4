/* A small JSON-over-HTTP server (libmicrohttpd) on one thread of its own. */
#ifndef AUTH_HTTP_H
#define AUTH_HTTP_H

#include <stddef.h>

#include <jansson.h>

enum { HTTP_MAX_BODY = 4096 };

struct http_request {
    const char *method, *path; /* path: without query string */
    const char *body;
    size_t body_len; /* at most HTTP_MAX_BODY: a larger one is answered by the server, with 413 */
};

struct http_response {
    unsigned status;
    json_t *body;             /* taken over; NULL: 500 instead */
    long retry_after_seconds; /* 0: no such header */
    const char *allow;        /* the Allow header; NULL: none */
};

/* Called from the server's thread, one request at a time. */
typedef void (*http_handler_fn)(void *context, const struct http_request *request,
                                struct http_response *response);

struct http;

/* NULL on failure, with the reason on stderr. Port 0 takes a free one. */
struct http *http_start(const char *listen, unsigned port, http_handler_fn handler, void *context);
unsigned http_port(const struct http *h);
/* Takes no new connection, lets answers under way go out for a moment, ends the thread and frees.
 * NULL is fine. */
void http_stop(struct http *h);

/* {"error": text} */
void http_error(struct http_response *response, unsigned status, const char *text);

#endif
