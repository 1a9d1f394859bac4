#include "dlq.h"

#include <stdlib.h>

static bool read_progress(struct dlq_view *v, struct error *err)
{
    v->len = topic_reader_spans(v->reader, &v->spans);
    v->progress = calloc(v->len, sizeof(*v->progress));
    if (!v->progress)
        return error_set(err, "out of memory");
    for (size_t i = 0; i < v->len; i++) {
        const struct topic_span *s = &v->spans[i];
        if (!progress_init(&v->progress[i], s->low, s->high, s->note_offset, s->note, err))
            return false;
    }
    return true;
}

bool dlq_view_open(struct dlq_view *v, const struct ctl *ctl)
{
    struct error err = {0};

    *v = (struct dlq_view){.ctl = ctl};
    v->reader = topic_reader_open(&ctl->kafka, ctl->config->kafka_topic_dlq, CTL_REDRIVE_GROUP,
                                  ctl->timeout_ms, &err);
    if (v->reader && read_progress(v, &err))
        return true;
    ctl_complain("%s", err.text);
    dlq_view_close(v);
    return false;
}

void dlq_view_close(struct dlq_view *v)
{
    for (size_t i = 0; v->progress && i < v->len; i++)
        progress_cleanup(&v->progress[i]);
    free(v->progress);
    topic_reader_close(v->reader);
    *v = (struct dlq_view){0};
}

size_t dlq_view_find(const struct dlq_view *v, int32_t partition)
{
    size_t i = 0;

    while (i < v->len && v->spans[i].partition != partition)
        i++;
    return i;
}

bool dlq_view_redriven(const struct dlq_view *v, const struct letter *letter)
{
    const size_t i = dlq_view_find(v, letter->partition);

    return i < v->len && progress_has(&v->progress[i], letter->offset);
}

bool dlq_view_narrow(struct dlq_view *v)
{
    int32_t partition = 0;
    int64_t offset = 0;
    size_t i;

    if (!v->ctl->options->operand)
        return true;
    if (options_parse_position(v->ctl->options->operand, &partition, &offset)) {
        i = dlq_view_find(v, partition);
        v->narrowed = true;
        v->only = offset;
        if (i < v->len && offset >= v->spans[i].low && offset < v->spans[i].high)
            return topic_reader_only(v->reader, partition, offset);
    }
    ctl_complain("no dead letter at %s", v->ctl->options->operand);
    return false;
}

bool dlq_view_each(struct dlq_view *v, dlq_letter_fn fn, void *ctx)
{
    struct error err = {0};
    enum topic_read result = TOPIC_READ_RECORD;
    struct record record;
    bool more = true;

    while (more && (result = topic_reader_next(v->reader, &record, &err)) == TOPIC_READ_RECORD) {
        struct arena arena;
        struct letter letter;
        if (v->narrowed && record.offset != v->only)
            break; /* not every offset has a record */
        arena_init(&arena);
        more = letter_read(&arena, &record, &letter);
        if (!more)
            error_set(&err, "out of memory");
        more = more && fn(ctx, &arena, &record, &letter);
        arena_cleanup(&arena);
    }
    if (result != TOPIC_READ_FAILED && !err.set)
        return true;
    ctl_complain("%s", err.text);
    return false;
}
