/* email-service: the daemon. See docs/EMAIL_SERVICE_KAFKA.md. */
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/process_guard.h"
#include "health_check.h"
#include "idempotency/store.h"
#include "kafka/kafka_settings.h"
#include "service.h"

static const char usage[] =
    "Usage: email-service [options]\n"
    "       email-service --health-check [options]\n\n"
    "Consumes email events from Kafka, and sends each once, over SMTP or to the log.\n"
    "--health-check (the first argument) asks the daemon that runs with the same options for its\n"
    "/health instead, prints the answer, and exits 0 where it is healthy, else 1.\n";

static const char default_sender[] = "no-reply@localhost"; /* log mode only */

static bool print(const struct buf *text, FILE *to)
{
    return !text->failed && fwrite(text->ptr ? text->ptr : "", 1, text->len, to) == text->len &&
           fflush(to) == 0;
}

/* What only other modules can judge. */
static void check_modules(const struct config *c, struct arena *arena, struct address *from,
                          struct buf *mistakes)
{
    struct error err = {0};

    for (size_t i = 0; i < c->properties_len; i++) {
        const struct kafka_property property = {c->properties[i].name, c->properties[i].value};
        error_clear(&err);
        if (!kafka_property_check(&property, &err))
            config_mistake(mistakes, c->properties[i].variable, "%s", err.text);
    }
    error_clear(&err);
    if (!address_from_parts(arena, slice_str(c->smtp_from ? c->smtp_from : default_sender),
                            slice_str(c->smtp_from_name), from, &err))
        config_mistake(mistakes, "SMTP_FROM", "%s%s", err.text,
                       c->smtp_from && strchr(c->smtp_from, '<')
                           ? " (the display name goes into SMTP_FROM_NAME)"
                           : "");
    if (c->redis_tls && !redis_store_has_tls())
        config_mistake(mistakes, "REDIS_URL",
                       "rediss:// needs a build with hiredis 1.0 or later and its TLS library");
}

static int say_mistakes(const struct buf *mistakes)
{
    fputs("email-service: the configuration is wrong:\n", stderr);
    if (!print(mistakes, stderr))
        fputs("out of memory\n", stderr);
    return 2;
}

/* The buffers of Kafka's fetches and of large events go back to the system as soon as they are
 * free, and what librdkafka's threads allocate and we free is not kept for each of them apart. */
static void keep_memory_small(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 128 * 1024);
    (void)mallopt(M_ARENA_MAX, 1);
}

/* Before anything is read that is worth hiding. */
static bool guard(void)
{
    struct error err = {0};

    if (process_guard(&err))
        return true;
    fprintf(stderr, "email-service: %s\n", err.text);
    return false;
}

static int run_service(const struct service_options *options)
{
    struct error err = {0};

    log_set_level(options->config->log_level);
    if (options->config->core_dumps && !process_unguard(&err))
        log_warn("Core dumps stay off", LOG_STR("error", err.text));
    return service_run(options);
}

int main(int argc, char **argv)
{
    const bool asks_health = argc > 1 && strcmp(argv[1], "--health-check") == 0;
    const struct config_sources sources = {.program = CONFIG_SERVICE,
                                           .argc = argc - asks_health,
                                           .argv = argv + asks_health,
                                           .environ = environ};
    struct config config;
    struct buf text = {0};
    struct arena arena;
    struct service_options options = {.config = &config};
    enum config_result result;
    int code = 0;

    keep_memory_small();
    if (!guard())
        return 1;
    result = config_load(&config, &sources, &text);
    config_hide_secrets(&sources);
    arena_init(&arena);
    if (result == CONFIG_HELP) {
        config_help(&text, CONFIG_SERVICE, usage);
        code = print(&text, stdout) ? 0 : 1;
    } else if (result == CONFIG_VERSION) {
        code = printf("email-service %s\n", EMAIL_VERSION) > 0 ? 0 : 1;
    } else {
        check_modules(&config, &arena, &options.from, &text);
        if (text.len || text.failed)
            code = say_mistakes(&text);
        else if (result == CONFIG_CHECK)
            code = puts("The configuration is right.") >= 0 ? 0 : 1;
    }
    if (result == CONFIG_OK && code == 0 && asks_health) {
        code = health_check(&config) ? 0 : 1;
    } else if (result == CONFIG_OK && code == 0) {
        code = run_service(&options);
    }
    buf_cleanup(&text);
    arena_cleanup(&arena);
    config_cleanup(&config);
    return code;
}
