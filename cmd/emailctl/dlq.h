/* Reading the dead letter queue: what list, show, redrive and purge share. */
#ifndef EMAILCTL_DLQ_H
#define EMAILCTL_DLQ_H

#include "ctl.h"
#include "kafka/topic_reader.h"
#include "letter.h"
#include "progress.h"

struct dlq_view {
    const struct ctl *ctl;
    struct topic_reader *reader;
    const struct topic_span *spans;
    struct progress *progress; /* one a span: what was redriven */
    size_t len;
    bool narrowed; /* to one letter */
    int64_t only;
};

/* Complains where it fails. */
BASE_CHECK bool dlq_view_open(struct dlq_view *v, const struct ctl *ctl);
void dlq_view_close(struct dlq_view *v); /* legal on a zeroed struct */

/* Index of a partition's span; `len` where there is none. */
size_t dlq_view_find(const struct dlq_view *v, int32_t partition);
bool dlq_view_redriven(const struct dlq_view *v, const struct letter *letter);

/* Calls fn for each letter that was there when the view was opened, until it returns false. The
 * arena is the letter's alone. False (and complained) where not all of them could be read. */
typedef bool (*dlq_letter_fn)(void *ctx, struct arena *arena, const struct record *record,
                              const struct letter *letter);
BASE_CHECK bool dlq_view_each(struct dlq_view *v, dlq_letter_fn fn, void *ctx);

/* With o->operand only that letter is read. False (and complained) where it cannot be there. */
BASE_CHECK bool dlq_view_narrow(struct dlq_view *v);

#endif
