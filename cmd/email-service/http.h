/* The HTTP server: GET and HEAD on the loop's thread, by libmicrohttpd. Nothing in it blocks, and
 * no client can hold on to it: every connection has an absolute deadline, and where all places are
 * taken the one that has waited longest makes room for a new one. Not thread-safe. */
#ifndef HTTP_H
#define HTTP_H

#include "base/buf.h"
#include "base/loop.h"

struct http;

struct http_answer {
    unsigned status;          /* 0, as it comes: there is no such page */
    const char *content_type; /* a constant */
    struct buf body;          /* empty as it comes; taken over */
};

/* Fills the answer to a GET for `path`, which is without query string. Called from the loop; must
 * not destroy the server. */
typedef void (*http_answer_fn)(void *ctx, const char *path, struct http_answer *answer);

struct http_limits {
    unsigned max_connections;
    uint64_t request_timeout_ms; /* from the connection, or a later request's headers, to the
                                    answer's last byte */
    uint64_t idle_timeout_ms;    /* from an answer to the next request's headers */
};

/* Listens on `listen`, an IPv4 or IPv6 address (in brackets or without) or a name, which is
 * resolved here and now; port 0 takes a free one. `limits` may be NULL for 256 connections, 5 s and
 * 10 s. */
BASE_CHECK struct http *http_new(struct loop *loop, const char *listen, unsigned port,
                                 const struct http_limits *limits, http_answer_fn answer, void *ctx,
                                 struct error *err);
unsigned http_port(const struct http *h);
/* Drops what is under way; NULL is fine. Not from within the answer function. */
void http_destroy(struct http *h);

#endif
