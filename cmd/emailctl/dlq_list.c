/* emailctl dlq list: the oldest letter first. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/json_out.h"
#include "dlq.h"
#include "plain_text.h"

struct entry {
    struct letter letter;
    bool redriven;
};

struct listing {
    struct dlq_view view;
    const struct options *o;
    struct arena arena; /* of the entries' slices */
    struct entry *entries;
    size_t len, cap;
    bool failed;
};

static bool keep(struct listing *l, const struct letter *letter, bool redriven)
{
    struct slice *parts[] = {NULL, NULL, NULL, NULL, NULL, NULL};
    struct entry *e;

    if (l->len == l->cap) {
        const size_t cap = l->cap ? l->cap * 2 : 256;
        struct entry *grown = realloc(l->entries, cap * sizeof(*grown));
        if (!grown)
            return false;
        l->entries = grown;
        l->cap = cap;
    }
    e = &l->entries[l->len++];
    *e = (struct entry){*letter, redriven};
    parts[0] = &e->letter.reason;
    parts[1] = &e->letter.error;
    parts[2] = &e->letter.smtp_reply;
    parts[3] = &e->letter.recipients;
    parts[4] = &e->letter.message_id;
    parts[5] = &e->letter.type;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        const bool there = parts[i]->ptr != NULL;
        *parts[i] = arena_copy(&l->arena, *parts[i]);
        if (there && !parts[i]->ptr)
            return false;
    }
    return true;
}

static bool on_letter(void *ctx, struct arena *arena, const struct record *record,
                      const struct letter *letter)
{
    struct listing *l = ctx;

    (void)arena;
    (void)record;
    if (letter_matches(letter, l->o))
        l->failed = !keep(l, letter, dlq_view_redriven(&l->view, letter));
    return !l->failed && !ctl_interrupted();
}

static int compare(const void *a, const void *b)
{
    const struct letter *x = &((const struct entry *)a)->letter;
    const struct letter *y = &((const struct entry *)b)->letter;

    if (x->failed_at_unix_ms != y->failed_at_unix_ms)
        return x->failed_at_unix_ms < y->failed_at_unix_ms ? -1 : 1;
    if (x->partition != y->partition)
        return x->partition < y->partition ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static void add_json(struct buf *out, const struct entry *e)
{
    const struct letter *l = &e->letter;
    char time[RFC3339_SIZE];

    rfc3339_format(l->failed_at_unix_ms, time);
    buf_add_char(out, '{');
    json_out_field_str(out, "time", slice_str(time));
    json_out_field_i64(out, "partition", l->partition);
    json_out_field_i64(out, "offset", l->offset);
    json_out_field_str(out, "reason", l->reason);
    json_out_field_i64(out, "attempts", (int64_t)l->attempts);
    json_out_field_str(out, "type", l->type);
    json_out_field_str(out, "messageID", l->message_id);
    json_out_field_str(out, "error", l->error);
    json_out_field_str(out, "smtpReply", l->smtp_reply);
    json_out_field_str(out, "recipients", l->recipients);
    json_out_field_i64(out, "redrives", (int64_t)l->redriven);
    json_out_field_bool(out, "redriven", e->redriven);
    buf_add_str(out, "}\n");
}

static void add_cells(struct table *t, const struct entry *e)
{
    const struct letter *l = &e->letter;
    char time[RFC3339_SIZE], position[40], attempts[24];

    rfc3339_format(l->failed_at_unix_ms, time);
    snprintf(position, sizeof(position), "%d:%lld", l->partition, (long long)l->offset);
    snprintf(attempts, sizeof(attempts), "%llu", (unsigned long long)l->attempts);
    table_cell(t, slice_str(time));
    table_cell(t, slice_str(position));
    table_cell(t, l->reason);
    table_cell(t, slice_str(attempts));
    table_cell(t, slice_str(e->redriven ? "redriven" : "waiting"));
    table_cell(t, l->type);
    table_cell(t, l->message_id);
    table_cell(t, l->error);
}

static bool add_table(struct buf *out, const struct listing *l, size_t shown)
{
    static const char *const titles[] = {"TIME",  "POSITION", "REASON",     "ATTEMPTS",
                                         "STATE", "TYPE",     "MESSAGE-ID", "ERROR"};
    enum { COLUMNS = sizeof(titles) / sizeof(titles[0]) };
    struct table t;
    bool good;

    table_init(&t, COLUMNS);
    for (size_t i = 0; i < COLUMNS; i++)
        table_cell(&t, slice_str(titles[i]));
    for (size_t i = 0; i < shown; i++)
        add_cells(&t, &l->entries[i]);
    good = table_render(&t, out);
    table_cleanup(&t);
    return good;
}

static bool show(const struct listing *l)
{
    const size_t shown = l->o->limit && l->o->limit < l->len ? l->o->limit : l->len;
    struct buf out = {0};
    bool good;

    if (l->len)
        qsort(l->entries, l->len, sizeof(*l->entries), compare);
    if (l->o->json)
        for (size_t i = 0; i < shown; i++)
            add_json(&out, &l->entries[i]);
    else if (!shown)
        buf_add_str(&out, "No dead letters.\n");
    else if (!add_table(&out, l, shown))
        out.failed = true;
    if (!l->o->json && shown < l->len)
        buf_addf(&out, "… and %zu more\n", l->len - shown);
    good = ctl_print(&out);
    buf_cleanup(&out);
    return good;
}

enum ctl_exit ctl_dlq_list(const struct ctl *ctl)
{
    struct listing l = {.o = ctl->options};
    bool good = dlq_view_open(&l.view, ctl);

    arena_init(&l.arena);
    good = good && dlq_view_each(&l.view, on_letter, &l);
    if (l.failed)
        ctl_complain("out of memory");
    good = good && !l.failed && show(&l);
    free(l.entries);
    arena_cleanup(&l.arena);
    dlq_view_close(&l.view);
    return good ? CTL_DONE : CTL_FAILED;
}
