/* Configuration: any flags, environment and .env file. What is wrong is said, and only then; the
 * result is the same each time; a secret is never repeated. Nothing is looked up or read but what
 * the input brings: fopen and getaddrinfo are wrapped by the linker. */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/config.h"
#include "base/config_check.h"
#include "base/config_table.h"

enum { MAX_ITEMS = 24, MAX_ITEM = 200 };

static const char canary[] = "CANARY-31415";

/* ---- the world outside ---- */

static bool inside;       /* config_load is running */
static int env_file = -1; /* a file in memory */

FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);
int __real_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found);
int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found);

/* Only the .env file, under this name; its content also serves as every NAME_FILE's. */
FILE *__wrap_fopen(const char *path, const char *mode)
{
    if (!inside)
        return __real_fopen(path, mode);
    if (strcmp(path, "env") != 0) {
        errno = ENOENT;
        return NULL;
    }
    REQUIRE(lseek(env_file, 0, SEEK_SET) == 0);
    return fdopen(dup(env_file), "r");
}

/* Numbers only: no name server is asked. */
int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found)
{
    struct addrinfo numeric = *hints;

    numeric.ai_flags |= AI_NUMERICHOST;
    return __real_getaddrinfo(node, service, inside ? &numeric : hints, found);
}

static void write_env_file(struct slice content)
{
    if (env_file < 0)
        env_file = memfd_create("env", MFD_CLOEXEC);
    REQUIRE(env_file >= 0 && ftruncate(env_file, 0) == 0);
    REQUIRE(pwrite(env_file, content.ptr, content.len, 0) == (ssize_t)content.len);
}

/* ---- pure parts ---- */

static void check_env_line(struct slice line)
{
    struct slice name, value;
    struct arena arena;

    arena_init(&arena);
    if (config_parse_env_line(line, &arena, &name, &value)) {
        for (size_t i = 0; i < name.len; i++)
            REQUIRE(name.ptr[i] == '_' || (name.ptr[i] >= '0' && name.ptr[i] <= '9') ||
                    (name.ptr[i] >= 'A' && name.ptr[i] <= 'Z') ||
                    (name.ptr[i] >= 'a' && name.ptr[i] <= 'z'));
        REQUIRE(value.len <= line.len);
    }
    arena_cleanup(&arena);
}

static void check_redis_url(struct slice url)
{
    struct config c = {0};
    struct error err = {0};

    if (memchr(url.ptr, '\0', url.len)) /* config_apply lets no control character through */
        return;
    arena_init(&c.arena);
    if (config_parse_redis_url(&c, url, &err))
        REQUIRE(!err.set && c.redis_host && *c.redis_host && c.redis_port - 1 < 65535);
    else
        REQUIRE(err.set);
    config_cleanup(&c);
}

static void check_property(struct slice variable)
{
    struct arena arena;
    char *name;

    arena_init(&arena);
    name = config_property_name(&arena, variable);
    if (name)
        REQUIRE(strlen(name) <= variable.len - strlen("KAFKA_CONFIG_"));
    arena_cleanup(&arena);
}

static void check_pure(struct tape *t)
{
    const uint8_t which = tape_byte(t);
    const struct slice text = heap_copy(tape_rest(t));

    switch (which % 4) {
    case 0: check_env_line(text); break;
    case 1: check_redis_url(text); break;
    case 2: check_property(text); break;
    default:
        if (!memchr(text.ptr, '\0', text.len)) {
            struct arena arena = {0};
            const char *string = arena_copy(&arena, text).ptr;
            struct error err = {0};
            REQUIRE(string);
            REQUIRE(config_check_topic(string, &err) != err.set);
            err = (struct error){0};
            REQUIRE(config_check_brokers(string, &err) != err.set);
            arena_cleanup(&arena);
        }
    }
    heap_free(text);
}

/* ---- all of it ---- */

struct given {
    char *argv[MAX_ITEMS + 3], *environ[MAX_ITEMS + 1];
    int argc;
};

/* A variable of the table with a value, or whatever the input says. */
static char *take_item(struct tape *t, bool flag)
{
    const uint8_t which = tape_byte(t);
    const struct slice rest = tape_bytes(t, tape_byte(t) % MAX_ITEM);
    char *item = malloc(MAX_ITEM + 64), *c;
    struct slice value = slice_of(rest.ptr, strnlen(rest.ptr ? rest.ptr : "", rest.len));

    REQUIRE(item);
    if (which >= config_table_len) {
        snprintf(item, MAX_ITEM, "%.*s", SLICE_ARG(value));
        return item;
    }
    snprintf(item, MAX_ITEM + 64, "%s%s=%.*s", flag ? "--" : "", config_table[which].name,
             SLICE_ARG(value));
    if (config_table[which].flags & CONFIG_SECRET)
        snprintf(strchr(item, '='), 64, "=%s%.8s", canary, value.len ? "\n" : "");
    for (c = item; flag && *c && *c != '='; c++)
        *c = *c == '_' ? '-' : *c >= 'A' && *c <= 'Z' ? (char)(*c | 0x20) : *c;
    return item;
}

static void take_given(struct tape *t, struct given *g)
{
    static char program[] = "program", env_flag[] = "--env-file=env";
    const unsigned flags = tape_number(t, MAX_ITEMS), variables = tape_number(t, MAX_ITEMS);

    *g = (struct given){.argv = {program, env_flag}, .argc = 2};
    for (unsigned i = 0; i < flags; i++)
        g->argv[g->argc++] = take_item(t, true);
    for (unsigned i = 0; i < variables; i++)
        g->environ[i] = take_item(t, false);
    write_env_file(tape_rest(t));
}

static void free_given(struct given *g)
{
    for (int i = 2; i < g->argc; i++)
        free(g->argv[i]);
    for (int i = 0; g->environ[i]; i++)
        free(g->environ[i]);
}

static bool in_range(const struct config_entry *entry, const struct config *c)
{
    const uint64_t value = *(const uint64_t *)(const void *)((const char *)c + entry->offset);

    return value >= entry->min && value <= entry->max;
}

static void check_loaded(const struct config *c)
{
    for (size_t i = 0; i < config_table_len; i++)
        if (config_table[i].type == CONFIG_NUMBER && config_table[i].initial)
            REQUIRE(in_range(&config_table[i], c));
    REQUIRE(c->smtp_tls != CONFIG_TLS_DEFAULT);
    REQUIRE(c->mode != CONFIG_MODE_SMTP || (c->smtp_host && c->smtp_from));
    REQUIRE(strcmp(c->kafka_topic_events, c->kafka_topic_dlq) != 0);
    for (size_t i = 0; i < c->properties_len; i++)
        REQUIRE(c->properties[i].name[0] && c->properties[i].value[0]);
}

static void check_load(struct tape *t)
{
    static const enum config_program programs[] = {CONFIG_SERVICE, CONFIG_TOPICS, CONFIG_CTL,
                                                   CONFIG_PRODUCER};
    const enum config_program program = programs[tape_byte(t) % 4];
    struct buf mistakes[2] = {{0}, {0}};
    enum config_result results[2];
    struct given given;
    struct config c;

    take_given(t, &given);
    for (size_t i = 0; i < 2; i++) {
        const struct config_sources sources = {
            .program = program, .argc = given.argc, .argv = given.argv, .environ = given.environ};
        inside = true;
        results[i] = config_load(&c, &sources, &mistakes[i]);
        inside = false;
        if (results[i] == CONFIG_OK || results[i] == CONFIG_CHECK)
            check_loaded(&c);
        config_cleanup(&c);
    }
    REQUIRE((results[0] == CONFIG_WRONG) == (mistakes[0].len > 0));
    REQUIRE(results[0] == results[1]);
    REQUIRE(slice_equal(buf_slice(&mistakes[0]), buf_slice(&mistakes[1])));
    REQUIRE(mistakes[0].len == 0 || !strstr(mistakes[0].ptr, canary));
    buf_cleanup(&mistakes[0]);
    buf_cleanup(&mistakes[1]);
    free_given(&given);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tape tape = tape_of(data, size);

    if (memmem(data, size, canary, 6)) /* nobody else may bring it */
        return 0;
    if (tape_flag(&tape))
        check_load(&tape);
    else
        check_pure(&tape);
    return 0;
}
