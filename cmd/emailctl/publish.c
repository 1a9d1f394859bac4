/* emailctl publish: one event from flags, or one a line from stdin. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "ctl.h"
#include "email/event.h"
#include "event_json.h"
#include "kafka/publisher.h"
#include "line_reader.h"
#include "progress_bar.h"

struct publishing {
    const struct ctl *ctl;
    struct publisher *publisher; /* NULL with --dry-run */
    struct progress_bar bar;
    uint64_t good, refused, acknowledged, failed;
};

static void say_line(struct publishing *p, uint64_t line, const char *why)
{
    progress_bar_hide(&p->bar);
    if (line)
        ctl_complain("line %llu: %s", (unsigned long long)line, why);
    else
        ctl_complain("%s", why);
}

static void on_outcome(void *ctx, uint64_t tag, const char *error)
{
    struct publishing *p = ctx;
    char text[400];

    if (!*error) {
        p->acknowledged++;
        return;
    }
    p->failed++;
    snprintf(text, sizeof(text), "not published: %s", error);
    say_line(p, tag, text);
}

/* The first recipient's address in lower case, so that one person's mail stays on one partition. */
static struct slice key_of(struct arena *arena, const struct options *o, const struct event *event)
{
    const struct slice spec = event_recipient(event, 0)->spec;
    char *key;

    if (o->key)
        return *o->key ? slice_str(o->key) : slice_of(NULL, 0);
    key = arena_alloc(arena, spec.len + 1);
    for (size_t i = 0; key && i < spec.len; i++)
        key[i] =
            spec.ptr[i] >= 'A' && spec.ptr[i] <= 'Z' ? (char)(spec.ptr[i] | 0x20) : spec.ptr[i];
    return slice_of(key, spec.len);
}

/* `line` is 0 for the event of the flags. False where it was not even queued. */
static bool publish_one(struct publishing *p, struct arena *arena, struct slice json, uint64_t line,
                        struct event *event)
{
    struct record record = {.value = json};
    struct error err = {0};

    if (event_decode(arena, json, p->ctl->config->max_event_bytes, event, &err) != EVENT_OK) {
        p->refused++;
        say_line(p, line, err.text);
        return false;
    }
    p->good++;
    if (!p->publisher)
        return true;
    record.key = key_of(arena, p->ctl->options, event);
    if (publisher_send(p->publisher, &record, line, &err))
        return true;
    on_outcome(p, line, err.text);
    return false;
}

static bool open_publisher(struct publishing *p)
{
    const struct ctl *ctl = p->ctl;
    struct error err = {0};

    if (ctl->options->dry_run)
        return true;
    p->publisher = publisher_open(&ctl->kafka, ctl->config->kafka_topic_events, ctl->timeout_ms,
                                  on_outcome, p, &err);
    if (!p->publisher)
        ctl_complain("%s", err.text);
    return p->publisher != NULL;
}

/* ---- from flags ---- */

static bool read_file(struct arena *arena, const char *flag, const char *path, size_t max,
                      struct slice *out)
{
    struct buf content = {0};
    char piece[16384];
    FILE *file = fopen(path, "re");
    size_t n = 0;
    bool good;

    errno = file ? 0 : errno;
    while (file && content.len <= max && (n = fread(piece, 1, sizeof(piece), file)) > 0)
        buf_add(&content, piece, n);
    good = file && !ferror(file) && !content.failed && content.len <= max;
    if (good) {
        if (!content.len)
            buf_add_str(&content, "");
        *out = arena_copy(arena, content.ptr ? buf_slice(&content) : slice_of("", 0));
        good = out->ptr != NULL;
    }
    if (!good)
        ctl_complain("--%s: %s: %s", flag, path,
                     content.len > max ? "larger than an event may be"
                     : errno           ? strerror(errno)
                                       : "out of memory");
    if (file)
        fclose(file);
    buf_cleanup(&content);
    return good;
}

static bool take_body(struct arena *arena, const char *flag, const char *text, const char *path,
                      size_t max, struct slice *out)
{
    *out = slice_str(text);
    return !path || read_file(arena, flag, path, max, out);
}

static bool new_message_id(struct arena *arena, const char **id)
{
    unsigned char random[16];
    struct buf text = {0};

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        ctl_complain("no random numbers: %s", strerror(errno));
        return false;
    }
    buf_add_str(&text, "ctl-");
    for (size_t i = 0; i < sizeof(random); i++)
        buf_addf(&text, "%02x", random[i]);
    *id = text.failed ? NULL : arena_copy(arena, buf_slice(&text)).ptr;
    buf_cleanup(&text);
    return *id != NULL;
}

static bool read_inputs(struct arena *arena, const struct ctl *ctl, struct event_inputs *in)
{
    const struct options *o = ctl->options;
    const size_t max = ctl->config->max_event_bytes;
    struct event_file *files = arena_alloc(arena, (o->attach.len + 1) * sizeof(*files));

    *in = (struct event_inputs){.o = o,
                                .message_id = o->message_id,
                                .now_unix_ms = clock_unix_ms(),
                                .attachments = files,
                                .attachments_len = o->attach.len};
    if (!files || !take_body(arena, "text-file", o->text, o->text_file, max, &in->text) ||
        !take_body(arena, "html-file", o->html, o->html_file, max, &in->html))
        return false;
    for (size_t i = 0; i < o->attach.len; i++) {
        files[i].name = o->attach.items[i];
        if (!read_file(arena, "attach", files[i].name, max, &files[i].content))
            return false;
    }
    return in->message_id || new_message_id(arena, &in->message_id);
}

static enum ctl_exit publish_flags(struct publishing *p, struct arena *arena)
{
    struct event_inputs in;
    struct event event;
    struct error err = {0};
    struct slice json;

    if (!read_inputs(arena, p->ctl, &in))
        return CTL_FAILED;
    if (!event_json_build(arena, &in, &json, &err)) {
        ctl_complain("%s", err.text);
        return CTL_WRONG;
    }
    if (!p->publisher && !publish_one(p, arena, json, 0, &event))
        return CTL_FAILED;
    if (!p->publisher)
        return printf("The event is valid: %.*s\n", SLICE_ARG(event.message_id)) > 0 &&
                       fflush(stdout) == 0
                   ? CTL_DONE
                   : CTL_FAILED;
    if (!publish_one(p, arena, json, 0, &event))
        return CTL_FAILED;
    publisher_flush(p->publisher);
    if (p->acknowledged != 1)
        return CTL_FAILED;
    return printf("%.*s\n", SLICE_ARG(event.message_id)) > 0 && fflush(stdout) == 0 ? CTL_DONE
                                                                                    : CTL_FAILED;
}

/* ---- from stdin ---- */

static bool is_blank(struct slice line)
{
    for (size_t i = 0; i < line.len; i++)
        if (line.ptr[i] != ' ' && line.ptr[i] != '\t')
            return false;
    return true;
}

static uint64_t size_of_stdin(void)
{
    struct stat info;

    return fstat(STDIN_FILENO, &info) == 0 && S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
}

static void publish_line(struct publishing *p, const struct line_reader *lines, struct slice line,
                         bool too_long)
{
    struct arena arena;
    struct event event;

    if (too_long) {
        char why[80];
        snprintf(why, sizeof(why), "more than the %llu bytes that an event may have",
                 (unsigned long long)p->ctl->config->max_event_bytes);
        p->refused++;
        say_line(p, lines->number, why);
        return;
    }
    if (is_blank(line))
        return;
    arena_init(&arena);
    (void)publish_one(p, &arena, line, lines->number, &event); /* counted there */
    arena_cleanup(&arena);
}

/* False where stdin could not be read to its end. */
static bool publish_all(struct publishing *p, struct line_reader *lines)
{
    enum line_read result = LINE_READ;
    struct slice line;

    while (!ctl_interrupted()) {
        result = line_reader_next(lines, &line);
        if (result == LINE_END || result == LINE_FAILED)
            break;
        publish_line(p, lines, line, result == LINE_TOO_LONG);
        progress_bar_update(&p->bar, lines->bytes, p->good + p->refused);
    }
    if (ctl_interrupted())
        say_line(p, 0, "interrupted: what follows on stdin was not published");
    else if (result == LINE_FAILED)
        ctl_complain("stdin: %s", strerror(errno));
    return !ctl_interrupted() && result == LINE_END;
}

static bool say_summary(const struct publishing *p)
{
    const unsigned long long all = p->good + p->refused;

    if (p->publisher)
        printf("Published %llu of %llu events to %s", (unsigned long long)p->acknowledged, all,
               p->ctl->config->kafka_topic_events);
    else
        printf("%llu of %llu events are valid", (unsigned long long)p->good, all);
    if (p->refused)
        printf(", %llu refused", (unsigned long long)p->refused);
    if (p->failed)
        printf(", %llu failed", (unsigned long long)p->failed);
    return printf("\n") == 1 && fflush(stdout) == 0;
}

static enum ctl_exit publish_stdin(struct publishing *p)
{
    struct line_reader lines = {.from = stdin, .max = p->ctl->config->max_event_bytes + 2};
    bool good;

    ctl_catch_signals();
    progress_bar_begin(&p->bar, size_of_stdin());
    good = publish_all(p, &lines);
    if (p->publisher)
        publisher_flush(p->publisher);
    progress_bar_hide(&p->bar);
    line_reader_cleanup(&lines);
    return say_summary(p) && good && !p->refused && !p->failed ? CTL_DONE : CTL_FAILED;
}

static enum ctl_exit wrong(const char *why)
{
    ctl_complain("%s (see emailctl publish --help)", why);
    return CTL_WRONG;
}

enum ctl_exit ctl_publish(const struct ctl *ctl)
{
    const struct options *o = ctl->options;
    const bool lines = o->operand || (!o->has_event_flags && isatty(STDIN_FILENO) != 1);
    struct publishing p = {.ctl = ctl};
    struct arena arena;
    enum ctl_exit code;

    if (o->operand && o->has_event_flags)
        return wrong("events come either from flags or from stdin");
    if (!lines && !o->has_event_flags)
        return wrong("no event: give its flags, or JSON lines on stdin");
    if ((o->text && o->text_file) || (o->html && o->html_file))
        return wrong("a body is given twice");
    if (!open_publisher(&p))
        return CTL_FAILED;
    arena_init(&arena);
    code = lines ? publish_stdin(&p) : publish_flags(&p, &arena);
    arena_cleanup(&arena);
    publisher_close(p.publisher);
    return code;
}
