/* auth-service: mails six-digit codes, and checks them. An example of the producer library in a
 * service. */
#include "api.h"
#include "codes.h"
#include "http.h"
#include "log.h"
#include "settings.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <email_producer.h>

enum { EXIT_USAGE = 2, CODE_TRIES = 5 };

static const char USAGE[] =
    "usage: auth-service [--help | --version]\n"
    "Mails verification codes. Configured by the environment:\n"
    "  AUTH_SERVICE_PORT              8080\n"
    "  AUTH_SERVICE_LISTEN            0.0.0.0\n"
    "  AUTH_CODES_PER_ADDRESS         3       codes for one address in any window\n"
    "  AUTH_CODES_WINDOW_SECONDS      600\n"
    "  AUTH_MAX_ADDRESSES             100000  addresses remembered at the most\n"
    "  AUTH_MAX_QUEUED                10000   mails under way at the most\n"
    "  AUTH_PUBLISH_TIMEOUT_MS        5000    how long Kafka may take before mail goes directly\n"
    "  AUTH_SHUTDOWN_TIMEOUT_SECONDS  25\n"
    "and the producer library's variables: KAFKA_BROKERS, REDIS_HOST, EMAIL_MODE, SMTP_HOST, ...\n";

/* Blocked before the first thread starts, so that all threads inherit it and only sigwait() sees
 * them. */
static void block_stop_signals(sigset_t *stop)
{
    sigemptyset(stop);
    sigaddset(stop, SIGTERM);
    sigaddset(stop, SIGINT);
    pthread_sigmask(SIG_BLOCK, stop, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static email_producer *new_producer(const struct settings *settings)
{
    char error[4096];
    email_producer_options options = {
        .struct_size = sizeof(options),
        .max_queued = (size_t)settings->max_queued,
        .publish_timeout_ms = settings->publish_timeout_ms,
        .log = log_library_line,
    };
    email_producer *producer = email_producer_new(&options, error, sizeof(error));
    if (!producer)
        fprintf(stderr, "%s\n", error);
    return producer;
}

static struct codes *new_codes(const struct settings *settings)
{
    struct codes_limits limits = {
        .max_addresses = (size_t)settings->max_addresses,
        .per_address = (unsigned)settings->codes_per_address,
        .window_ms = settings->codes_window_seconds * 1000,
        .lifetime_ms = API_CODE_LIFETIME_SECONDS * 1000,
        .max_tries = CODE_TRIES,
    };
    return codes_new(&limits);
}

static void run_until_stopped(const struct http *http, const sigset_t *stop)
{
    char port[32];
    int number;
    snprintf(port, sizeof(port), "port %u", http_port(http));
    log_line("info", "auth-service is listening", NULL, port);
    sigwait(stop, &number);
    log_line("info", "auth-service is stopping", NULL, NULL);
    pthread_sigmask(SIG_UNBLOCK, stop, NULL); /* the next one ends it at once */
}

static int serve(const struct settings *settings)
{
    int status = EXIT_FAILURE;
    struct http *http = NULL;
    sigset_t stop;
    block_stop_signals(&stop);

    email_producer *producer = new_producer(settings);
    if (!producer)
        return EXIT_USAGE;
    struct api api = {producer, new_codes(settings)};
    if (api.codes)
        http = http_start(settings->listen, (unsigned)settings->port, api_handle, &api);
    if (http) {
        run_until_stopped(http, &stop);
        status = EXIT_SUCCESS;
    }
    /* In this order: nothing new comes in, then what was promised goes out. */
    http_stop(http);
    email_producer_destroy(producer, settings->shutdown_timeout_seconds * 1000);
    codes_destroy(api.codes);
    return status;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(USAGE, stdout);
        return EXIT_SUCCESS;
    }
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        printf("auth-service, email_producer %s\n", email_producer_version());
        return EXIT_SUCCESS;
    }
    struct settings settings;
    if (argc > 1) {
        fputs(USAGE, stderr);
        return EXIT_USAGE;
    }
    if (!settings_load(&settings))
        return EXIT_USAGE;
    return serve(&settings);
}
