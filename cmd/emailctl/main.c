/* emailctl: see docs/emailctl.md. */
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/process_guard.h"
#include "ctl.h"
#include "idempotency/store.h"

static const char default_sender[] = "no-reply@localhost"; /* log mode only */

/* What only other modules can judge. */
static void check_modules(const struct config *c, struct arena *arena, struct buf *mistakes)
{
    struct address from;
    struct error err = {0};

    if (!address_from_parts(arena, slice_str(c->smtp_from ? c->smtp_from : default_sender),
                            slice_str(c->smtp_from_name), &from, &err))
        config_mistake(mistakes, "SMTP_FROM", "%s", err.text);
    if (c->redis_tls && !redis_store_has_tls())
        config_mistake(mistakes, "REDIS_URL",
                       "rediss:// needs a build with hiredis 1.0 or later and its TLS library");
}

/* The KAFKA_CONFIG_… properties, each checked. */
static void fill_kafka(const struct config *c, struct arena *arena, struct kafka_settings *kafka,
                       struct buf *mistakes)
{
    struct kafka_property *properties =
        arena_alloc(arena, (c->properties_len + 1) * sizeof(*properties));

    *kafka = (struct kafka_settings){
        .brokers = c->kafka_brokers, .client_id = "emailctl", .properties = properties};
    if (!properties) {
        config_mistake(mistakes, "emailctl", "out of memory");
        return;
    }
    kafka->properties_len = c->properties_len;
    for (size_t i = 0; i < c->properties_len; i++) {
        struct error err = {0};
        properties[i] = (struct kafka_property){c->properties[i].name, c->properties[i].value};
        if (!kafka_property_check(&properties[i], &err))
            config_mistake(mistakes, c->properties[i].variable, "%s", err.text);
    }
}

static enum ctl_exit run_command(const struct ctl *ctl)
{
    switch (ctl->options->command) {
    case CTL_PUBLISH: return ctl_publish(ctl);
    case CTL_DLQ_LIST: return ctl_dlq_list(ctl);
    case CTL_DLQ_SHOW: return ctl_dlq_show(ctl);
    case CTL_DLQ_REDRIVE: return ctl_dlq_redrive(ctl);
    case CTL_DLQ_PURGE: return ctl_dlq_purge(ctl);
    case CTL_CHECK: return ctl_check(ctl);
    case CTL_NONE:
    case CTL_DLQ: break;
    }
    ctl_complain("a command is missing, see --help");
    return CTL_WRONG;
}

static enum ctl_exit say_mistakes(const struct buf *mistakes)
{
    ctl_complain("wrong flags or configuration:");
    if (mistakes->failed || fwrite(mistakes->ptr, 1, mistakes->len, stderr) != mistakes->len)
        ctl_complain("out of memory");
    return CTL_WRONG;
}

static enum ctl_exit say(struct buf *text)
{
    return ctl_print(text) ? CTL_DONE : CTL_FAILED;
}

/* Flags of the configuration were left by options_parse; mistakes of both are in `text`. */
static enum ctl_exit run(const struct options *o, struct config *config, struct arena *arena,
                         struct buf *text)
{
    const struct config_sources sources = {
        .program = CONFIG_CTL, .argc = o->argc, .argv = o->argv, .environ = environ};
    struct ctl ctl = {.config = config, .options = o, .timeout_ms = (int)o->timeout_s * 1000};
    const enum config_result result = config_load(config, &sources, text);

    config_hide_secrets(&sources);
    if (result == CONFIG_HELP) {
        ctl_help(text, o->command);
        return say(text);
    }
    if (result == CONFIG_VERSION) {
        buf_addf(text, "emailctl %s\n", EMAIL_VERSION);
        return say(text);
    }
    fill_kafka(config, arena, &ctl.kafka, text);
    check_modules(config, arena, text);
    if (text->len || text->failed)
        return say_mistakes(text);
    if (result == CONFIG_CHECK) {
        buf_add_str(text, "The configuration is right.\n");
        return say(text);
    }
    return run_command(&ctl);
}

int main(int argc, char **argv)
{
    struct options options;
    struct config config = {0};
    struct buf text = {0};
    struct arena arena;
    struct error err = {0};
    enum ctl_exit code;

    if (!process_guard(&err)) {
        ctl_complain("%s", err.text);
        return CTL_FAILED;
    }
    arena_init(&arena);
    options_parse(&options, argc, argv, clock_unix_ms(), &arena, &text);
    code = run(&options, &config, &arena, &text);
    buf_cleanup(&text);
    arena_cleanup(&arena);
    config_cleanup(&config);
    return code;
}
