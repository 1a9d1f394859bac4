#include "http.h"

#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

enum { MAX_CONNECTIONS = 512, MAX_DISCARDED = 65536, IDLE_TIMEOUT_SECONDS = 10, DRAIN_MS = 1000 };

struct http {
    struct MHD_Daemon *daemon;
    http_handler_fn handler;
    void *context;
    unsigned port;
};

/* A request's body as it comes in; lives from the headers to the answer's end. */
struct upload {
    size_t len;       /* of `bytes` */
    size_t discarded; /* what came beyond */
    char bytes[HTTP_MAX_BODY];
};

void http_error(struct http_response *response, unsigned status, const char *text)
{
    response->status = status;
    response->body = json_pack("{ss}", "error", text);
}

static void add_headers(struct MHD_Response *reply, const struct http_response *response)
{
    MHD_add_response_header(reply, "Content-Type", "application/json");
    MHD_add_response_header(reply, "Cache-Control", "no-store");
    if (response->allow)
        MHD_add_response_header(reply, "Allow", response->allow);
    if (response->retry_after_seconds > 0) {
        char seconds[24];
        snprintf(seconds, sizeof(seconds), "%ld", response->retry_after_seconds);
        MHD_add_response_header(reply, "Retry-After", seconds);
    }
}

/* Takes over response->body. */
static enum MHD_Result answer(struct MHD_Connection *connection, struct http_response *response)
{
    char *text = response->body ? json_dumps(response->body, JSON_COMPACT) : NULL;
    json_decref(response->body);
    response->body = NULL;
    if (!text) {
        response->status = MHD_HTTP_INTERNAL_SERVER_ERROR;
        text = strdup("{\"error\":\"out of memory\"}");
        if (!text)
            return MHD_NO;
    }
    struct MHD_Response *reply =
        MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
    if (!reply) {
        free(text);
        return MHD_NO;
    }
    add_headers(reply, response);
    enum MHD_Result queued = MHD_queue_response(connection, response->status, reply);
    MHD_destroy_response(reply);
    return queued;
}

static enum MHD_Result answer_too_large(struct MHD_Connection *connection)
{
    struct http_response response = {0};
    http_error(&response, MHD_HTTP_CONTENT_TOO_LARGE, "the body is too large");
    return answer(connection, &response);
}

static bool announces_too_much(struct MHD_Connection *connection)
{
    const char *length =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return length && strtoull(length, NULL, 10) > HTTP_MAX_BODY;
}

static void take(struct upload *upload, const char *data, size_t len)
{
    if (upload->discarded > 0 || len > sizeof(upload->bytes) - upload->len) {
        upload->discarded += len;
        return;
    }
    memcpy(upload->bytes + upload->len, data, len);
    upload->len += len;
}

/* libmicrohttpd calls this once with the headers, then with each piece of the body, then to be
 * answered. */
static enum MHD_Result on_request(void *context, struct MHD_Connection *connection,
                                  const char *path, const char *method, const char *version,
                                  const char *data, size_t *data_len, void **state)
{
    (void)version;
    struct http *h = context;
    struct upload *upload = *state;
    if (!upload) {
        if (announces_too_much(connection))
            return answer_too_large(connection);
        *state = calloc(1, sizeof(*upload));
        return *state ? MHD_YES : MHD_NO;
    }
    if (*data_len > 0) {
        /* There is no answering before a chunked body's end: one that is far too large is cut off.
         */
        if (upload->discarded > MAX_DISCARDED)
            return MHD_NO;
        take(upload, data, *data_len);
        *data_len = 0;
        return MHD_YES;
    }
    if (upload->discarded > 0)
        return answer_too_large(connection);
    struct http_request request = {method, path, upload->bytes, upload->len};
    struct http_response response = {0};
    h->handler(h->context, &request, &response);
    return answer(connection, &response);
}

static void on_completed(void *context, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    (void)context;
    (void)connection;
    (void)code;
    if (*state)
        explicit_bzero(*state, sizeof(struct upload)); /* codes and addresses are in it */
    free(*state);
    *state = NULL;
}

static int bind_to(const struct addrinfo *address)
{
    int fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC, address->ai_protocol);
    if (fd < 0)
        return -1;
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static int listening_socket(const char *host, unsigned port)
{
    char service[16];
    snprintf(service, sizeof(service), "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *addresses = NULL;
    int failed = getaddrinfo(host, service, &hints, &addresses);
    if (failed) {
        fprintf(stderr, "AUTH_SERVICE_LISTEN: %s: %s\n", host, gai_strerror(failed));
        return -1;
    }
    int fd = bind_to(addresses);
    if (fd < 0)
        fprintf(stderr, "cannot listen on %s, port %u: %s\n", host, port, strerror(errno));
    freeaddrinfo(addresses);
    return fd;
}

struct http *http_start(const char *listen, unsigned port, http_handler_fn handler, void *context)
{
    struct http *h = calloc(1, sizeof(*h));
    if (!h)
        return NULL;
    h->handler = handler;
    h->context = context;
    int fd = listening_socket(listen, port);
    if (fd < 0)
        goto failed;
    h->daemon = MHD_start_daemon(
        MHD_USE_AUTO_INTERNAL_THREAD | MHD_USE_ITC, 0, NULL, NULL, on_request, h,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)MAX_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)IDLE_TIMEOUT_SECONDS, MHD_OPTION_END);
    if (!h->daemon) {
        fprintf(stderr, "cannot start the HTTP server\n");
        close(fd);
        goto failed;
    }
    h->port = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    return h;

failed:
    free(h);
    return NULL;
}

unsigned http_port(const struct http *h)
{
    return h->port;
}

static unsigned connections(const struct http *h)
{
    return MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections;
}

void http_stop(struct http *h)
{
    if (!h)
        return;
    MHD_socket fd = MHD_quiesce_daemon(h->daemon);
    if (fd != MHD_INVALID_SOCKET)
        close(fd);
    for (int waited_ms = 0; waited_ms < DRAIN_MS && connections(h) > 0; waited_ms += 10)
        usleep(10 * 1000);
    MHD_stop_daemon(h->daemon);
    free(h);
}
