/* Where the values come from: flags, environment, .env file, files named by NAME_FILE. */
#include "base/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config_check.h"
#include "base/config_table.h"

enum { MAX_FILE = 1024 * 1024, LAYERS = 3 };

struct setting {
    struct slice name, value;
};

struct settings { /* one layer: flags, environment or file */
    struct setting *items;
    size_t len, cap;
};

struct loading {
    struct config *c;
    const struct config_sources *sources;
    struct buf *mistakes;
    struct settings layers[LAYERS]; /* flags, environment, file: earlier ones win */
    const char *env_file;
    bool help, version, check;
};

static void mistake_memory(struct loading *l)
{
    config_mistake(l->mistakes, "configuration", "out of memory");
}

static void add_setting(struct loading *l, size_t layer, struct slice name, struct slice value)
{
    struct settings *s = &l->layers[layer];

    if (value.len == 0)
        return; /* empty counts as not given */
    if (s->len == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 64;
        struct setting *grown = realloc(s->items, cap * sizeof(*grown));
        if (!grown) {
            mistake_memory(l);
            return;
        }
        s->items = grown;
        s->cap = cap;
    }
    s->items[s->len++] = (struct setting){name, value};
}

/* The last one given wins within a layer, as with flags and shells. */
static const struct setting *find_setting(const struct settings *s, struct slice name)
{
    for (size_t i = s->len; i > 0; i--)
        if (slice_equal(s->items[i - 1].name, name))
            return &s->items[i - 1];
    return NULL;
}

/* ---- files ---- */

/* Reads a whole file into the arena; absent and errno set on failure. */
static struct slice read_file(struct arena *arena, const char *path)
{
    struct buf content = {0};
    struct slice out = {NULL, 0};
    char piece[4096];
    FILE *file = fopen(path, "re");
    size_t n;

    if (!file)
        return out;
    setvbuf(file, NULL, _IONBF, 0); /* no copy in a buffer that is freed as it is */
    while ((n = fread(piece, 1, sizeof(piece), file)) > 0 && content.len <= MAX_FILE)
        buf_add(&content, piece, n);
    if (ferror(file))
        errno = errno ? errno : EIO;
    else if (content.failed || content.len > MAX_FILE)
        errno = content.failed ? ENOMEM : EFBIG;
    else
        out = arena_copy(arena, buf_slice(&content));
    fclose(file);
    if (content.ptr)
        explicit_bzero(content.ptr, content.cap); /* it may hold a secret */
    explicit_bzero(piece, sizeof(piece));
    buf_cleanup(&content);
    return out;
}

static void load_env_file(struct loading *l)
{
    const char *path = l->env_file ? l->env_file : ".env";
    struct slice text, line, name, value;
    unsigned number = 0;

    if (l->sources->no_env_file)
        return;
    errno = 0;
    text = read_file(&l->c->arena, path);
    if (!text.ptr) {
        if (l->env_file || errno != ENOENT)
            config_mistake(l->mistakes, "--env-file", "%s: %s", path, strerror(errno));
        return;
    }
    while (text.len) {
        const char *end = memchr(text.ptr, '\n', text.len);
        size_t len = end ? (size_t)(end - text.ptr) : text.len;
        line = slice_of(text.ptr, len);
        text = slice_of(text.ptr + len + (end != NULL), text.len - len - (end != NULL));
        number++;
        if (!config_parse_env_line(line, &l->c->arena, &name, &value))
            config_mistake(l->mistakes, "--env-file", "%s, line %u: not NAME=value", path, number);
        else if (name.len)
            add_setting(l, 2, name, value);
    }
}

/* The content of the file that NAME_FILE names, without its final line break. */
static struct slice secret_from_file(struct loading *l, struct slice name, struct slice path)
{
    struct slice path_copy = arena_copy(&l->c->arena, path), text;
    char label[160];

    snprintf(label, sizeof(label), "%.*s_FILE", SLICE_ARG(name));
    errno = path_copy.ptr ? 0 : ENOMEM;
    text = path_copy.ptr ? read_file(&l->c->arena, path_copy.ptr) : path_copy;
    if (!text.ptr) {
        config_mistake(l->mistakes, label, "%s: %s", path_copy.ptr ? path_copy.ptr : "",
                       strerror(errno));
        return text;
    }
    while (text.len && (text.ptr[text.len - 1] == '\n' || text.ptr[text.len - 1] == '\r'))
        text.len--;
    if (text.len == 0)
        config_mistake(l->mistakes, label, "%s is empty", path_copy.ptr);
    return text;
}

/* ---- the layers ---- */

static void load_environment(struct loading *l)
{
    for (char **env = l->sources->environ; env && *env; env++) {
        const char *equals = strchr(*env, '=');
        if (equals)
            add_setting(l, 1, slice_of(*env, (size_t)(equals - *env)), slice_str(equals + 1));
    }
}

/* "--kafka-brokers" → "KAFKA_BROKERS" */
static struct slice variable_of_flag(struct arena *arena, struct slice flag)
{
    char *name = arena_alloc(arena, flag.len + 1);

    for (size_t i = 0; name && i < flag.len; i++)
        name[i] = flag.ptr[i] == '-'                         ? '_'
                  : flag.ptr[i] >= 'a' && flag.ptr[i] <= 'z' ? (char)(flag.ptr[i] & ~0x20)
                                                             : flag.ptr[i];
    return slice_of(name, name ? flag.len : 0);
}

static bool is_known_variable(const struct loading *l, struct slice name)
{
    static const char suffix[] = "_FILE";
    const size_t suffix_len = sizeof(suffix) - 1;

    for (size_t i = 0; i < config_table_len; i++) {
        const struct config_entry *entry = &config_table[i];
        const size_t len = strlen(entry->name);
        if (!(entry->programs & l->sources->program))
            continue;
        if (slice_is(name, entry->name))
            return true;
        if (entry->flags & CONFIG_SECRET && name.len == len + suffix_len &&
            memcmp(name.ptr, entry->name, len) == 0 &&
            memcmp(name.ptr + len, suffix, suffix_len) == 0)
            return true;
    }
    return false;
}

/* --kafka-config security.protocol=ssl becomes the setting KAFKA_CONFIG_security.protocol. */
static void add_kafka_flag(struct loading *l, struct slice pair)
{
    const char *equals = memchr(pair.ptr, '=', pair.len);
    struct buf name = {0};
    struct slice copy;

    if (!equals) {
        config_mistake(l->mistakes, "--kafka-config", "it takes name=value");
        return;
    }
    buf_add_str(&name, "KAFKA_CONFIG_");
    buf_add(&name, pair.ptr, (size_t)(equals - pair.ptr)); /* in small letters: as it is */
    copy = arena_copy(&l->c->arena, buf_slice(&name));
    if (name.failed || !copy.ptr)
        mistake_memory(l);
    else
        add_setting(l, 0, copy, slice_str(equals + 1));
    buf_cleanup(&name);
}

static void take_flag(struct loading *l, struct slice flag, struct slice value)
{
    struct slice name;

    if (slice_is(flag, "env-file")) {
        l->env_file = value.ptr; /* argv strings end with a NUL */
    } else if (slice_is(flag, "kafka-config")) {
        add_kafka_flag(l, value);
    } else {
        name = variable_of_flag(&l->c->arena, flag);
        if (name.ptr)
            add_setting(l, 0, name, value);
        else
            mistake_memory(l);
    }
}

static bool take_switch(struct loading *l, struct slice flag)
{
    if (slice_is(flag, "help"))
        return l->help = true;
    if (slice_is(flag, "version"))
        return l->version = true;
    if (slice_is(flag, "check-config"))
        return l->check = true;
    if (slice_is(flag, "dev") && l->sources->program == CONFIG_SERVICE)
        return l->c->dev = true;
    return false;
}

static bool takes_value(struct loading *l, struct slice flag)
{
    struct slice name;

    if (slice_is(flag, "env-file") || slice_is(flag, "kafka-config"))
        return true;
    name = variable_of_flag(&l->c->arena, flag);
    return name.ptr && is_known_variable(l, name);
}

/* Without what follows "=": it may be a secret behind a misspelt name. */
static void say_unknown(struct loading *l, const char *arg, const char *equals)
{
    char flag[64];

    snprintf(flag, sizeof(flag), "%.*s", equals ? (int)(equals - arg) : (int)strlen(arg), arg);
    config_mistake(l->mistakes, flag,
                   arg[0] == '-' ? "unknown flag, see --help" : "unexpected argument, see --help");
}

static void load_flags(struct loading *l)
{
    for (int i = 1; i < l->sources->argc; i++) {
        const char *arg = l->sources->argv[i];
        const char *equals = strchr(arg, '=');
        struct slice flag;
        if (strcmp(arg, "-h") == 0 || strcmp(arg, "-V") == 0) {
            (void)take_switch(l, slice_str(arg[1] == 'h' ? "help" : "version"));
            continue;
        }
        flag = strncmp(arg, "--", 2) != 0 ? slice_of("", 0)
               : equals                   ? slice_of(arg + 2, (size_t)(equals - arg) - 2)
                                          : slice_str(arg + 2);
        if (!equals && take_switch(l, flag))
            continue;
        if (flag.len == 0 || !takes_value(l, flag)) {
            say_unknown(l, arg, equals);
            /* What follows a misspelt flag may be a secret: not to be complained of by itself. */
            if (arg[0] == '-' && !equals && i + 1 < l->sources->argc &&
                l->sources->argv[i + 1][0] != '-')
                i++;
        } else if (equals) {
            take_flag(l, flag, slice_str(equals + 1));
        } else if (i + 1 < l->sources->argc) {
            take_flag(l, flag, slice_str(l->sources->argv[++i]));
        } else {
            config_mistake(l->mistakes, arg, "a value must follow");
        }
    }
}

/* ---- from the layers to the struct ---- */

/* A file may hold anything; a string that ends at a NUL would be another value. */
static struct slice without_nul(struct loading *l, const char *name, struct slice value)
{
    if (!value.ptr || !memchr(value.ptr, '\0', value.len))
        return value;
    config_mistake(l->mistakes, name, "holds a NUL character");
    return slice_of(NULL, 0);
}

/* The value of `name` from the first layer that has it, as itself or as a file. */
static struct slice look_up(struct loading *l, struct slice name, bool secret)
{
    char own_name[128], file_name[128];

    snprintf(own_name, sizeof(own_name), "%.*s", SLICE_ARG(name));
    snprintf(file_name, sizeof(file_name), "%.*s_FILE", SLICE_ARG(name));
    for (size_t i = 0; i < LAYERS; i++) {
        const struct setting *direct = find_setting(&l->layers[i], name);
        const struct setting *file =
            secret ? find_setting(&l->layers[i], slice_str(file_name)) : NULL;
        if (direct && file)
            config_mistake(l->mistakes, file_name, "%.*s is given as well", SLICE_ARG(name));
        if (direct)
            return without_nul(l, own_name, direct->value);
        if (file)
            return without_nul(l, file_name, secret_from_file(l, name, file->value));
    }
    return slice_of(NULL, 0);
}

static void apply_table(struct loading *l)
{
    for (size_t i = 0; i < config_table_len; i++) {
        const struct config_entry *entry = &config_table[i];
        struct slice value = slice_of(NULL, 0);
        if (entry->initial)
            config_apply(l->c, entry, slice_str(entry->initial), l->mistakes);
        if (entry->programs & l->sources->program)
            value = look_up(l, slice_str(entry->name), entry->flags & CONFIG_SECRET);
        if (value.len)
            config_apply(l->c, entry, value, l->mistakes);
        if (value.len &&
            (strcmp(entry->name, "REDIS_HOST") == 0 || strcmp(entry->name, "REDIS_URL") == 0))
            l->c->redis_given = true;
    }
}

static bool has_property(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->properties_len; i++)
        if (strcmp(c->properties[i].name, name) == 0)
            return true;
    return false;
}

static void add_property(struct loading *l, struct slice variable)
{
    static const char suffix[] = "_FILE";
    struct config *c = l->c;
    struct slice value;
    char *name;

    if (variable.len > sizeof(suffix) && memcmp(variable.ptr + variable.len - 5, suffix, 5) == 0)
        variable.len -= 5;
    name = config_property_name(&c->arena, variable);
    if (!name || has_property(c, name))
        return;
    value = arena_copy(&c->arena, look_up(l, variable, true));
    if (value.ptr)
        c->properties[c->properties_len++] =
            (struct config_property){arena_copy(&c->arena, variable).ptr, name, value.ptr};
}

static void apply_properties(struct loading *l)
{
    size_t most = 0;

    for (size_t i = 0; i < LAYERS; i++)
        most += l->layers[i].len;
    l->c->properties = arena_alloc(&l->c->arena, (most + 1) * sizeof(struct config_property));
    if (!l->c->properties) {
        mistake_memory(l);
        return;
    }
    for (size_t i = 0; i < LAYERS; i++)
        for (size_t k = 0; k < l->layers[i].len; k++)
            add_property(l, l->layers[i].items[k].name);
}

/* ---- what hangs together ---- */

static void check_smtp(struct loading *l)
{
    struct config *c = l->c;

    if (c->smtp_tls == CONFIG_TLS_DEFAULT)
        c->smtp_tls = c->smtp_port == 465 ? CONFIG_TLS_TLS : CONFIG_TLS_STARTTLS;
    if (c->mode != CONFIG_MODE_SMTP)
        return;
    if (!c->smtp_host)
        config_mistake(l->mistakes, "SMTP_HOST", "needed with EMAIL_MODE=smtp");
    if (!c->smtp_from)
        config_mistake(l->mistakes, "SMTP_FROM", "needed with EMAIL_MODE=smtp");
    if (c->smtp_user && !c->smtp_password)
        config_mistake(l->mistakes, "SMTP_PASSWORD", "needed with SMTP_USER");
    if (c->smtp_password && !c->smtp_user)
        config_mistake(l->mistakes, "SMTP_USER", "needed with SMTP_PASSWORD");
}

/* One value that a function of config_check.h judges; nothing where it is not set. */
static void check_text(struct loading *l, const char *variable, const char *value,
                       bool (*check)(const char *value, struct error *err))
{
    struct error err = {0};

    if (value && !check(value, &err))
        config_mistake(l->mistakes, variable, "%s", err.text);
}

static bool check_host(const char *host, struct error *err)
{
    return config_check_host(slice_str(host), err);
}

static void check_values(struct loading *l)
{
    const struct config *c = l->c;

    check_text(l, "KAFKA_BROKERS", c->kafka_brokers, config_check_brokers);
    check_text(l, "KAFKA_TOPIC_EMAIL_EVENTS", c->kafka_topic_events, config_check_topic);
    check_text(l, "KAFKA_TOPIC_EMAIL_DLQ", c->kafka_topic_dlq, config_check_topic);
    check_text(l, "REDIS_HOST", c->redis_host, check_host);
    check_text(l, "EMAIL_SERVICE_LISTEN", c->http_listen, config_check_listen);
    if (c->mode != CONFIG_MODE_SMTP)
        return;
    check_text(l, "SMTP_HOST", c->smtp_host, check_host);
    check_text(l, "SMTP_CA_FILE", c->smtp_ca_file, config_check_ca_file);
}

static void check_service(struct loading *l)
{
    struct config *c = l->c;
    struct error err = {0};

    if (c->redis_url && !config_parse_redis_url(c, slice_str(c->redis_url), &err))
        config_mistake(l->mistakes, "REDIS_URL", "%s", err.text);
    if (c->dev)
        c->mode = CONFIG_MODE_LOG;
    check_smtp(l);
    check_values(l);
    if (c->lease_seconds >= c->ttl_hours * 3600)
        config_mistake(l->mistakes, "IDEMPOTENCY_LEASE_SECONDS",
                       "not shorter than IDEMPOTENCY_TTL_HOURS");
    if (strcmp(c->kafka_topic_events, c->kafka_topic_dlq) == 0)
        config_mistake(l->mistakes, "KAFKA_TOPIC_EMAIL_DLQ",
                       "the same topic as KAFKA_TOPIC_EMAIL_EVENTS");
}

enum config_result config_load(struct config *c, const struct config_sources *sources,
                               struct buf *mistakes)
{
    struct loading l = {.c = c, .sources = sources, .mistakes = mistakes};

    *c = (struct config){0};
    load_flags(&l);
    if (!l.help && !l.version) {
        load_environment(&l);
        load_env_file(&l);
        apply_table(&l);
        apply_properties(&l);
        if (c->arena.failed || mistakes->failed) /* else a setting could be missing, unnoticed */
            mistake_memory(&l);
        else if (c->kafka_topic_events && c->kafka_topic_dlq)
            check_service(&l);
    }
    for (size_t i = 0; i < LAYERS; i++)
        free(l.layers[i].items);
    if (mistakes->len || mistakes->failed)
        return CONFIG_WRONG;
    return l.help ? CONFIG_HELP : l.version ? CONFIG_VERSION : l.check ? CONFIG_CHECK : CONFIG_OK;
}

void config_cleanup(struct config *c)
{
    arena_wipe(&c->arena);
    arena_cleanup(&c->arena);
    *c = (struct config){0};
}
