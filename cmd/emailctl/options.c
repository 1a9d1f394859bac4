#include "options.h"

#include <stdio.h>

#include "base/config.h"
#include "instant.h"

enum kind { SWITCH, TEXT, LIST, NUMBER, INSTANT };

#define BIT(command) (1u << (command))
#define PUBLISH BIT(CTL_PUBLISH)
#define LETTERS (BIT(CTL_DLQ_LIST) | BIT(CTL_DLQ_REDRIVE))
#define DLQ (LETTERS | BIT(CTL_DLQ_SHOW) | BIT(CTL_DLQ_PURGE))
#define FIELD(f) offsetof(struct options, f)

struct flag {
    const char *name;
    unsigned commands;
    enum kind kind;
    size_t offset;
    uint64_t min, max; /* NUMBER */
    bool event;        /* describes the event to publish */
};

static const struct flag flags[] = {
    {"timeout", PUBLISH | DLQ | BIT(CTL_CHECK), NUMBER, FIELD(timeout_s), 1, 3600, false},
    {"json", BIT(CTL_DLQ_LIST) | BIT(CTL_DLQ_SHOW) | BIT(CTL_CHECK), SWITCH, FIELD(json), 0, 0,
     false},
    {"dry-run", PUBLISH | BIT(CTL_DLQ_REDRIVE) | BIT(CTL_DLQ_PURGE), SWITCH, FIELD(dry_run), 0, 0,
     false},

    {"to", PUBLISH, LIST, FIELD(to), 0, 0, true},
    {"cc", PUBLISH, LIST, FIELD(cc), 0, 0, true},
    {"bcc", PUBLISH, LIST, FIELD(bcc), 0, 0, true},
    {"from", PUBLISH, TEXT, FIELD(from), 0, 0, true},
    {"reply-to", PUBLISH, TEXT, FIELD(reply_to), 0, 0, true},
    {"subject", PUBLISH, TEXT, FIELD(subject), 0, 0, true},
    {"text", PUBLISH, TEXT, FIELD(text), 0, 0, true},
    {"html", PUBLISH, TEXT, FIELD(html), 0, 0, true},
    {"text-file", PUBLISH, TEXT, FIELD(text_file), 0, 0, true},
    {"html-file", PUBLISH, TEXT, FIELD(html_file), 0, 0, true},
    {"template", PUBLISH, TEXT, FIELD(template_name), 0, 0, true},
    {"data", PUBLISH, TEXT, FIELD(data), 0, 0, true},
    {"locale", PUBLISH, TEXT, FIELD(locale), 0, 0, true},
    {"attach", PUBLISH, LIST, FIELD(attach), 0, 0, true},
    {"header", PUBLISH, LIST, FIELD(header), 0, 0, true},
    {"expires-in", PUBLISH, NUMBER, FIELD(expires_in_s), 1, 10ull * 366 * 86400, true},
    {"metadata", PUBLISH, TEXT, FIELD(metadata), 0, 0, true},
    {"type", PUBLISH, TEXT, FIELD(type), 0, 0, true},
    {"message-id", PUBLISH, TEXT, FIELD(message_id), 0, 0, true},
    {"key", PUBLISH, TEXT, FIELD(key), 0, 0, false},

    {"type", LETTERS, TEXT, FIELD(type), 0, 0, false},
    {"message-id", LETTERS | BIT(CTL_DLQ_SHOW), TEXT, FIELD(message_id), 0, 0, false},
    {"reason", LETTERS, LIST, FIELD(reason), 0, 0, false},
    {"since", LETTERS, INSTANT, FIELD(since), 0, 0, false},
    {"until", LETTERS, INSTANT, FIELD(until), 0, 0, false},
    {"limit", LETTERS, NUMBER, FIELD(limit), 1, UINT32_MAX, false},

    {"rate", BIT(CTL_DLQ_REDRIVE), NUMBER, FIELD(rate), 1, 1000000, false},
    {"max-redrives", BIT(CTL_DLQ_REDRIVE), NUMBER, FIELD(max_redrives), 1, 1000000, false},
    {"again", BIT(CTL_DLQ_REDRIVE), SWITCH, FIELD(again), 0, 0, false},
    {"force", BIT(CTL_DLQ_REDRIVE), SWITCH, FIELD(force), 0, 0, false},

    {"before", BIT(CTL_DLQ_PURGE), INSTANT, FIELD(before), 0, 0, false},
    {"all", BIT(CTL_DLQ_PURGE), SWITCH, FIELD(all), 0, 0, false},
    {"yes", BIT(CTL_DLQ_PURGE), SWITCH, FIELD(yes), 0, 0, false},
};

enum { FLAGS = sizeof(flags) / sizeof(flags[0]) };

struct parsing {
    struct options *o;
    int argc, at;
    char **argv;
    int64_t now_unix_ms;
    struct arena *arena;
    struct buf *mistakes;
};

/* ---- words ---- */

static enum ctl_command dlq_command(const char *word)
{
    static const struct {
        const char *word;
        enum ctl_command command;
    } known[] = {{"list", CTL_DLQ_LIST},
                 {"show", CTL_DLQ_SHOW},
                 {"redrive", CTL_DLQ_REDRIVE},
                 {"purge", CTL_DLQ_PURGE}};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(word, known[i].word) == 0)
            return known[i].command;
    return CTL_NONE;
}

static enum ctl_command first_command(const char *word)
{
    return strcmp(word, "publish") == 0 ? CTL_PUBLISH
           : strcmp(word, "dlq") == 0   ? CTL_DLQ
           : strcmp(word, "check") == 0 ? CTL_CHECK
                                        : CTL_NONE;
}

static bool takes_operand(enum ctl_command command, const char *word)
{
    int32_t partition;
    int64_t offset;

    if (command == CTL_PUBLISH)
        return strcmp(word, "-") == 0;
    return (command == CTL_DLQ_SHOW || command == CTL_DLQ_REDRIVE) &&
           options_parse_position(word, &partition, &offset);
}

static void take_word(struct parsing *p, const char *word)
{
    struct options *o = p->o;

    if (o->command == CTL_NONE || o->command == CTL_DLQ) {
        const enum ctl_command next =
            o->command == CTL_DLQ ? dlq_command(word) : first_command(word);
        if (next != CTL_NONE) {
            o->command = next;
            return;
        }
        config_mistake(p->mistakes, word, "no such command, see --help");
    } else if (!o->operand && takes_operand(o->command, word)) {
        o->operand = word;
    } else {
        config_mistake(p->mistakes, word,
                       o->command == CTL_DLQ_SHOW || o->command == CTL_DLQ_REDRIVE
                           ? "expected at most one PARTITION:OFFSET, such as 0:42"
                           : "unexpected argument");
    }
}

/* ---- flags ---- */

static void take_number(struct parsing *p, const struct flag *flag, const char *text,
                        uint64_t *value)
{
    uint64_t number = 0;
    const char *c = text;

    while (*c >= '0' && *c <= '9' && number <= UINT32_MAX)
        number = number * 10 + (uint64_t)(*c++ - '0');
    if (c == text || *c || number < flag->min || number > flag->max) {
        char label[64];
        snprintf(label, sizeof(label), "--%s", flag->name);
        config_mistake(p->mistakes, label, "not a number from %llu to %llu",
                       (unsigned long long)flag->min, (unsigned long long)flag->max);
        return;
    }
    *value = number;
}

static void take_instant(struct parsing *p, const struct flag *flag, const char *text,
                         struct instant *value)
{
    char label[64];

    value->set = instant_parse(slice_str(text), p->now_unix_ms, &value->unix_ms);
    if (value->set)
        return;
    snprintf(label, sizeof(label), "--%s", flag->name);
    config_mistake(p->mistakes, label,
                   "not a time such as 2026-11-21T08:00:00Z, nor a duration such as 90s, 15m, 2h, "
                   "3d or 1w");
}

/* A list never holds more than there are arguments. */
static void take_item(struct parsing *p, const char *text, struct text_list *list)
{
    if (!list->items)
        list->items = arena_alloc(p->arena, (size_t)p->argc * sizeof(*list->items));
    if (list->items)
        list->items[list->len++] = text;
    else
        config_mistake(p->mistakes, "emailctl", "out of memory");
}

static void take_value(struct parsing *p, const struct flag *flag, const char *text)
{
    char *field = (char *)p->o + flag->offset;

    p->o->has_event_flags = p->o->has_event_flags || flag->event;
    switch (flag->kind) {
    case SWITCH: *(bool *)field = true; break;
    case TEXT: *(const char **)(void *)field = text; break;
    case LIST: take_item(p, text, (struct text_list *)(void *)field); break;
    case NUMBER: take_number(p, flag, text, (uint64_t *)(void *)field); break;
    case INSTANT: take_instant(p, flag, text, (struct instant *)(void *)field); break;
    }
}

static const struct flag *find_flag(unsigned commands, struct slice name)
{
    for (size_t i = 0; i < FLAGS; i++)
        if (flags[i].commands & commands && slice_is(name, flags[i].name))
            return &flags[i];
    return NULL;
}

/* A flag of config_load's, and the value that follows it; it says what is wrong with them. */
static void leave_flag(struct parsing *p, const char *arg, bool has_value)
{
    static const char *const switches[] = {"--help", "-h", "--version", "-V", "--check-config"};

    p->o->argv[p->o->argc++] = p->argv[p->at];
    for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++)
        if (strcmp(arg, switches[i]) == 0)
            return;
    if (!has_value && p->at + 1 < p->argc && strncmp(p->argv[p->at + 1], "--", 2) != 0)
        p->o->argv[p->o->argc++] = p->argv[++p->at];
}

static void take_flag(struct parsing *p, const char *arg)
{
    const char *equals = strchr(arg, '=');
    const struct slice name =
        slice_of(arg + 2, equals ? (size_t)(equals - arg) - 2 : strlen(arg) - 2);
    const struct flag *flag = find_flag(BIT(p->o->command), name);

    if (!flag && find_flag(~0u, name)) {
        char label[64];
        snprintf(label, sizeof(label), "--%.*s", SLICE_ARG(name));
        config_mistake(p->mistakes, label, "not a flag of this command, see --help");
        if (find_flag(~0u, name)->kind != SWITCH && !equals && p->at + 1 < p->argc)
            p->at++;
    } else if (!flag) {
        leave_flag(p, arg, equals != NULL);
    } else if (flag->kind == SWITCH && equals) {
        config_mistake(p->mistakes, arg, "it takes no value");
    } else if (flag->kind == SWITCH) {
        take_value(p, flag, NULL);
    } else if (equals) {
        take_value(p, flag, equals + 1);
    } else if (p->at + 1 < p->argc) {
        take_value(p, flag, p->argv[++p->at]);
    } else {
        config_mistake(p->mistakes, arg, "a value must follow");
    }
}

void options_parse(struct options *o, int argc, char **argv, int64_t now_unix_ms,
                   struct arena *arena, struct buf *mistakes)
{
    struct parsing p = {.o = o,
                        .argc = argc,
                        .argv = argv,
                        .now_unix_ms = now_unix_ms,
                        .arena = arena,
                        .mistakes = mistakes};

    *o = (struct options){.timeout_s = 10, .max_redrives = 3};
    o->argv = arena_alloc(arena, ((size_t)argc + 1) * sizeof(*o->argv));
    if (!o->argv) {
        config_mistake(mistakes, "emailctl", "out of memory");
        return;
    }
    o->argv[o->argc++] = argc ? argv[0] : NULL;
    for (p.at = 1; p.at < argc; p.at++) {
        const char *arg = argv[p.at];
        if (arg[0] == '-' && arg[1] == '-' && arg[2])
            take_flag(&p, arg);
        else if (arg[0] == '-' && arg[1])
            leave_flag(&p, arg, true);
        else
            take_word(&p, arg);
    }
}

bool options_parse_position(const char *text, int32_t *partition, int64_t *offset)
{
    int64_t numbers[2] = {0, 0};
    const char *c = text;

    for (int i = 0; i < 2; i++) {
        const char *begin = c;
        while (*c >= '0' && *c <= '9' && c - begin < 18)
            numbers[i] = numbers[i] * 10 + (*c++ - '0');
        if (c == begin || *c != (i == 0 ? ':' : '\0'))
            return false;
        c++;
    }
    if (numbers[0] > INT32_MAX)
        return false;
    *partition = (int32_t)numbers[0];
    *offset = numbers[1];
    return true;
}
