/* emailctl dlq show: one letter with all that it holds. */
#include <stdio.h>

#include "base/clock.h"
#include "base/json_out.h"
#include "dlq.h"
#include "event_json.h"
#include "plain_text.h"

struct showing {
    struct dlq_view view;
    const struct options *o;
    uint64_t shown;
    bool failed;
};

static void add_plain(struct buf *out, struct arena *arena, const struct record *record,
                      const struct letter *letter, bool redriven)
{
    char time[RFC3339_SIZE];
    struct slice event;

    rfc3339_format(letter->failed_at_unix_ms, time);
    buf_addf(out, "Position: %d:%lld\nTime:     %s\nState:    %s\nKey:      ", letter->partition,
             (long long)letter->offset, time, redriven ? "redriven" : "waiting");
    plain_text(out, record->key.ptr ? record->key : slice_str("-"), false);
    buf_add_str(out, "\nHeaders:\n");
    for (size_t i = 0; i < record->headers_len; i++) {
        buf_add_str(out, "  ");
        plain_text(out, record->headers[i].name, false);
        buf_add_str(out, ": ");
        plain_text(out, record->headers[i].value, false);
        buf_add_char(out, '\n');
    }
    buf_add_str(out, "Event:\n");
    plain_text(out, event_json_show(arena, record->value, true, &event) ? event : record->value,
               true);
    buf_add_char(out, '\n');
}

static void add_headers(struct buf *out, const struct record *record)
{
    json_out_name(out, "headers");
    buf_add_char(out, '[');
    for (size_t i = 0; i < record->headers_len; i++) {
        json_out_comma(out);
        buf_add_char(out, '{');
        json_out_name(out, "name");
        json_out_string(out, record->headers[i].name);
        json_out_name(out, "value");
        json_out_string(out, record->headers[i].value);
        buf_add_char(out, '}');
    }
    buf_add_char(out, ']');
}

static void add_json(struct buf *out, struct arena *arena, const struct record *record,
                     const struct letter *letter, bool redriven)
{
    char time[RFC3339_SIZE];
    struct slice event;

    rfc3339_format(letter->failed_at_unix_ms, time);
    buf_add_char(out, '{');
    json_out_field_i64(out, "partition", letter->partition);
    json_out_field_i64(out, "offset", letter->offset);
    json_out_field_str(out, "time", slice_str(time));
    json_out_field_bool(out, "redriven", redriven);
    json_out_field_str(out, "key", record->key);
    add_headers(out, record);
    if (event_json_show(arena, record->value, false, &event)) {
        json_out_name(out, "event");
        json_out_json(out, event);
    } else {
        json_out_field_str(out, "value", record->value); /* no JSON: as text */
    }
    buf_add_str(out, "}\n");
}

static bool on_letter(void *ctx, struct arena *arena, const struct record *record,
                      const struct letter *letter)
{
    struct showing *s = ctx;
    const bool redriven = dlq_view_redriven(&s->view, letter);
    struct buf out = {0};

    if (!s->o->operand && !slice_is(letter->message_id, s->o->message_id))
        return !ctl_interrupted();
    if (s->o->json)
        add_json(&out, arena, record, letter, redriven);
    else
        add_plain(&out, arena, record, letter, redriven);
    if (s->shown++ && !s->o->json)
        s->failed = fputc('\n', stdout) == EOF;
    s->failed = s->failed || !ctl_print(&out);
    buf_cleanup(&out);
    return !s->failed && !s->o->operand && !ctl_interrupted();
}

enum ctl_exit ctl_dlq_show(const struct ctl *ctl)
{
    struct showing s = {.o = ctl->options};
    bool good;

    if (!ctl->options->operand == !ctl->options->message_id) {
        ctl_complain("which one? PARTITION:OFFSET or --message-id (see emailctl dlq show --help)");
        return CTL_WRONG;
    }
    good = dlq_view_open(&s.view, ctl) && dlq_view_narrow(&s.view) &&
           dlq_view_each(&s.view, on_letter, &s);
    if (good && !s.shown)
        ctl_complain("no such dead letter");
    dlq_view_close(&s.view);
    return good && s.shown && !s.failed ? CTL_DONE : CTL_FAILED;
}
