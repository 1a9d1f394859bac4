/* libcurl's multi interface on our loop: sockets and the timer, by curl_multi_socket_action. It
 * only carries sessions to their opening; once a transfer is done its socket is the owner's to
 * watch. */
#ifndef EMAIL_SMTP_CURL_H
#define EMAIL_SMTP_CURL_H

#include "base/loop.h"

struct smtp_curl;

struct smtp_curl_transfer {            /* embedded by the owner of an easy handle */
    void *easy;                        /* CURL *, the owner's */
    void (*done)(void *ctx, int code); /* CURLcode; never from inside a call of libcurl's */
    void *ctx;
};

BASE_CHECK struct smtp_curl *smtp_curl_new(struct loop *loop, struct error *err);
void smtp_curl_destroy(struct smtp_curl *c); /* after the last transfer was removed; NULL is fine */

/* The transfer begins on the next tick. It must stay where it is until it is removed. */
BASE_CHECK bool smtp_curl_add(struct smtp_curl *c, struct smtp_curl_transfer *t, struct error *err);

/* Drops the connection at once, without a QUIT. Not from inside a callback of libcurl's. */
void smtp_curl_remove(struct smtp_curl *c, struct smtp_curl_transfer *t);

#endif
