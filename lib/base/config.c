#include "base/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/config_table.h"
#include "base/plain_text.h"

void config_mistake(struct buf *mistakes, const char *variable, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    plain_text(mistakes, slice_str(variable), false);
    buf_add_str(mistakes, ": ");
    plain_text(mistakes, slice_str(text), false);
    buf_add_char(mistakes, '\n');
}

/* ---- values ---- */

static void *field_of(struct config *c, const struct config_entry *entry)
{
    return (char *)c + entry->offset;
}

static bool parse_number(struct slice text, uint64_t *out)
{
    uint64_t value = 0;

    if (text.len == 0)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned)((unsigned char)text.ptr[i] - '0');
        if (digit > 9 || value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

static bool parse_bool(struct slice text, bool *out)
{
    static const char *const yes[] = {"true", "1", "yes", "on"};
    static const char *const no[] = {"false", "0", "no", "off"};

    for (size_t i = 0; i < 4; i++) {
        if (text.len == strlen(yes[i]) && strncasecmp(text.ptr, yes[i], text.len) == 0)
            return *out = true;
        if (text.len == strlen(no[i]) && strncasecmp(text.ptr, no[i], text.len) == 0) {
            *out = false;
            return true;
        }
    }
    return false;
}

static bool parse_choice(struct slice text, const char *const *choices, unsigned *out)
{
    for (unsigned i = 0; choices[i]; i++)
        if (text.len && text.len == strlen(choices[i]) &&
            strncasecmp(text.ptr, choices[i], text.len) == 0) {
            *out = i;
            return true;
        }
    return false;
}

static void apply_number(struct config *c, const struct config_entry *entry, struct slice text,
                         struct buf *mistakes)
{
    uint64_t number;

    if (!parse_number(text, &number) || number < entry->min || number > entry->max)
        config_mistake(mistakes, entry->name, "'%.*s' is not a whole number from %llu to %llu",
                       SLICE_ARG(text), (unsigned long long)entry->min,
                       (unsigned long long)entry->max);
    else
        *(uint64_t *)field_of(c, entry) = number;
}

static void apply_choice(struct config *c, const struct config_entry *entry, struct slice text,
                         struct buf *mistakes)
{
    struct buf names = {0};

    if (parse_choice(text, entry->choices, field_of(c, entry)))
        return;
    for (unsigned i = 0; entry->choices[i]; i++)
        if (entry->choices[i][0])
            buf_addf(&names, "%s%s", names.len ? ", " : "", entry->choices[i]);
    config_mistake(mistakes, entry->name, "'%.*s' is none of %s", SLICE_ARG(text),
                   names.failed ? "the choices" : names.ptr);
    buf_cleanup(&names);
}

static void apply_string(struct config *c, const struct config_entry *entry, struct slice text,
                         struct buf *mistakes)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < 0x20 || text.ptr[i] == 0x7F) {
            config_mistake(mistakes, entry->name, "contains a control character");
            return;
        }
    text = arena_copy(&c->arena, text);
    if (!text.ptr)
        config_mistake(mistakes, entry->name, "out of memory");
    else
        *(const char **)field_of(c, entry) = text.ptr;
}

void config_apply(struct config *c, const struct config_entry *entry, struct slice text,
                  struct buf *mistakes)
{
    switch (entry->type) {
    case CONFIG_STRING: apply_string(c, entry, text, mistakes); break;
    case CONFIG_NUMBER: apply_number(c, entry, text, mistakes); break;
    case CONFIG_CHOICE: apply_choice(c, entry, text, mistakes); break;
    case CONFIG_BOOL:
        if (!parse_bool(text, field_of(c, entry)))
            config_mistake(mistakes, entry->name, "'%.*s' is neither true nor false",
                           SLICE_ARG(text));
        break;
    }
}

/* ---- REDIS_URL ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decodes into the arena; NULL where that is ill-formed, or gives a NUL. */
static const char *percent_decode(struct arena *arena, struct slice text)
{
    char *out = arena_alloc(arena, text.len + 1);
    size_t len = 0;

    for (size_t i = 0; out && i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '%') {
            int high = text.len - i > 2 ? hex_digit(text.ptr[i + 1]) : -1;
            int low = text.len - i > 2 ? hex_digit(text.ptr[i + 2]) : -1;
            if (high < 0 || low < 0)
                return NULL;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (c == '\0')
            return NULL;
        out[len++] = c;
    }
    return out;
}

static struct slice cut(struct slice *rest, const char *end)
{
    struct slice head = slice_of(rest->ptr, (size_t)(end - rest->ptr));

    *rest = slice_of(end + 1, rest->len - head.len - 1);
    return head;
}

static bool parse_redis_login(struct config *c, struct slice login, struct error *err)
{
    const char *colon = memchr(login.ptr, ':', login.len);
    struct slice user = login, password = slice_of(NULL, 0);

    if (colon) {
        password = login;
        user = cut(&password, colon);
    } else { /* redis://password@host, as redis-cli reads it, is a user without a password: refuse
              */
        return error_set(err, "the part before '@' must be user:password or :password");
    }
    c->redis_user = user.len ? percent_decode(&c->arena, user) : NULL;
    c->redis_password = percent_decode(&c->arena, password);
    if ((user.len && !c->redis_user) || !c->redis_password)
        return error_set(err, "user or password is badly percent-encoded");
    return true;
}

static bool parse_redis_address(struct config *c, struct slice address, struct error *err)
{
    const char *colon = memrchr(address.ptr, ':', address.len);
    const char *bracket = memrchr(address.ptr, ']', address.len);
    struct slice host = address;

    if (colon && (!bracket || colon > bracket)) {
        struct slice port = address;
        host = cut(&port, colon);
        if (!parse_number(port, &c->redis_port) || c->redis_port < 1 || c->redis_port > 65535)
            return error_set(err, "the port is not a number from 1 to 65535");
    }
    if (host.len > 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
        host = slice_of(host.ptr + 1, host.len - 2);
    if (host.len == 0)
        return error_set(err, "there is no host in it");
    c->redis_host = arena_copy(&c->arena, host).ptr;
    return c->redis_host || error_set(err, "out of memory");
}

bool config_parse_redis_url(struct config *c, struct slice url, struct error *err)
{
    static const char plain[] = "redis://", secure[] = "rediss://";
    const char *at, *slash;

    c->redis_port = 6379;
    c->redis_db = 0;
    c->redis_user = c->redis_password = NULL;
    c->redis_tls =
        url.len >= sizeof(secure) - 1 && memcmp(url.ptr, secure, sizeof(secure) - 1) == 0;
    if (c->redis_tls)
        url = slice_of(url.ptr + sizeof(secure) - 1, url.len - (sizeof(secure) - 1));
    else if (url.len >= sizeof(plain) - 1 && memcmp(url.ptr, plain, sizeof(plain) - 1) == 0)
        url = slice_of(url.ptr + sizeof(plain) - 1, url.len - (sizeof(plain) - 1));
    else
        return error_set(err, "it starts neither with redis:// nor with rediss://");
    at = memrchr(url.ptr, '@', url.len);
    if (at && !parse_redis_login(c, cut(&url, at), err))
        return false;
    slash = memchr(url.ptr, '/', url.len);
    if (slash) {
        struct slice db = url;
        url = cut(&db, slash);
        if (db.len && !parse_number(db, &c->redis_db))
            return error_set(err, "the database after '/' is not a number");
    }
    return parse_redis_address(c, url, err);
}

/* ---- .env ---- */

static struct slice trim(struct slice s)
{
    while (s.len && strchr(" \t\r", s.ptr[0]))
        s = slice_of(s.ptr + 1, s.len - 1);
    while (s.len && strchr(" \t\r", s.ptr[s.len - 1]))
        s.len--;
    return s;
}

static bool is_name(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
        if (!letter && (i == 0 || c < '0' || c > '9'))
            return false;
    }
    return s.len > 0;
}

/* After a closing quote only a comment may follow. */
static bool only_comment(struct slice rest)
{
    rest = trim(rest);
    return rest.len == 0 || rest.ptr[0] == '#';
}

static bool unquote(struct slice text, struct arena *arena, struct slice *out)
{
    const char quote = text.ptr[0];
    char *copy = arena_alloc(arena, text.len);
    size_t i, len = 0;

    if (!copy)
        return false;
    for (i = 1; i < text.len && text.ptr[i] != quote; i++) {
        char c = text.ptr[i];
        if (quote == '"' && c == '\\' && text.len - i > 1) {
            c = text.ptr[++i];
            c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
        }
        copy[len++] = c;
    }
    if (i == text.len || !only_comment(slice_of(text.ptr + i + 1, text.len - i - 1)))
        return false;
    *out = slice_of(copy, len);
    return true;
}

bool config_parse_env_line(struct slice line, struct arena *arena, struct slice *name,
                           struct slice *value)
{
    const char *equals;

    *name = *value = slice_of("", 0);
    line = trim(line);
    if (line.len == 0 || line.ptr[0] == '#')
        return true;
    if (line.len > 7 && memcmp(line.ptr, "export ", 7) == 0)
        line = trim(slice_of(line.ptr + 7, line.len - 7));
    equals = memchr(line.ptr, '=', line.len);
    if (!equals)
        return false;
    *value = line;
    *name = trim(cut(value, equals));
    *value = trim(*value);
    if (!is_name(*name))
        return false;
    if (value->len && (value->ptr[0] == '"' || value->ptr[0] == '\''))
        return unquote(*value, arena, value);
    for (size_t i = 0; i < value->len; i++)
        if (value->ptr[i] == '#' &&
            (i == 0 || value->ptr[i - 1] == ' ' || value->ptr[i - 1] == '\t'))
            value->len = i;
    *value = trim(*value);
    return true;
}

/* ---- KAFKA_CONFIG_… ---- */

/* The only property that a user would set with an underscore in its name. */
static const char log_level[] = "log_level";

char *config_property_name(struct arena *arena, struct slice variable)
{
    static const char prefix[] = "KAFKA_CONFIG_";
    const size_t prefix_len = sizeof(prefix) - 1;
    bool literal = false; /* given by --kafka-config */
    char *name;

    if (variable.len <= prefix_len || memcmp(variable.ptr, prefix, prefix_len) != 0)
        return NULL;
    name = arena_alloc(arena, variable.len - prefix_len + 1);
    for (size_t i = prefix_len; i < variable.len; i++)
        literal |= variable.ptr[i] >= 'a' && variable.ptr[i] <= 'z';
    for (size_t i = prefix_len; name && i < variable.len; i++) {
        char c = variable.ptr[i];
        name[i - prefix_len] = literal                ? c
                               : c == '_'             ? '.'
                               : c >= 'A' && c <= 'Z' ? (char)(c | 0x20)
                                                      : c;
    }
    if (name && strcmp(name, "log.level") == 0)
        memcpy(name, log_level, sizeof(log_level));
    return name;
}

/* ---- --help ---- */

static void help_flag(struct buf *out, const struct config_entry *entry)
{
    char flag[64] = "--";
    size_t i;

    for (i = 0; entry->name[i] && i < sizeof(flag) - 3; i++)
        flag[i + 2] = entry->name[i] == '_' ? '-' : (char)(entry->name[i] | 0x20);
    flag[i + 2] = '\0';
    buf_addf(out, "  %-32s %-34s %s", entry->name, flag, entry->help);
    if (entry->initial)
        buf_addf(out, " (default: %s)", entry->initial);
    if (entry->flags & CONFIG_SECRET)
        buf_addf(out, " [or %s_FILE]", entry->name);
    buf_add_char(out, '\n');
}

void config_help(struct buf *out, enum config_program program, const char *usage)
{
    buf_add_str(out, usage);
    buf_add_str(
        out, "\nOptions:\n"
             "  --env-file PATH       file of variables to read (default: ./.env where it exists)\n"
             "  --check-config        check the configuration, say all mistakes, do no more\n"
             "  --kafka-config N=V    any librdkafka property, e.g. security.protocol=ssl\n");
    if (program == CONFIG_SERVICE)
        buf_add_str(
            out, "  --dev                 everything in one process: in-process Kafka, in-memory\n"
                 "                        store, log mode; for trying out\n");
    buf_add_str(
        out, "  --help, --version\n\n"
             "Variables, and the flags that override them (flag over environment over .env over\n"
             "default; [or NAME_FILE]: the value may be read from a file):\n");
    for (size_t i = 0; i < config_table_len; i++)
        if (config_table[i].programs & program)
            help_flag(out, &config_table[i]);
    buf_addf(out, "  %-32s %-34s %s\n", "KAFKA_CONFIG_…", "--kafka-config name=value",
             "any librdkafka property: KAFKA_CONFIG_SECURITY_PROTOCOL is security.protocol");
    buf_add_str(out,
                "\nExit codes: 0 done, 1 failed while running, 2 wrong flags or configuration.\n");
}
