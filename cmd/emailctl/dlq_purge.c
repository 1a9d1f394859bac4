/* emailctl dlq purge: Kafka deletes records from a partition's beginning only, so the letters that
 * go are those before the first one that is to stay. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "dlq.h"
#include "kafka/topics.h"

struct cut { /* one a partition */
    int64_t before;
    bool ended; /* the first letter that stays was met */
    uint64_t letters, waiting;
    uint64_t left_behind; /* old enough, but behind one that stays */
};

struct purging {
    struct dlq_view view;
    const struct options *o;
    struct cut *cuts;
};

static bool on_letter(void *ctx, struct arena *arena, const struct record *record,
                      const struct letter *letter)
{
    struct purging *p = ctx;
    struct cut *cut = &p->cuts[dlq_view_find(&p->view, letter->partition)];
    const bool goes = p->o->all || letter->failed_at_unix_ms < p->o->before.unix_ms;

    (void)arena;
    (void)record;
    if (!goes && !cut->ended) {
        cut->ended = true;
        cut->before = letter->offset;
    } else if (goes && !cut->ended) {
        cut->letters++;
        cut->waiting += !dlq_view_redriven(&p->view, letter);
    } else if (goes) {
        cut->left_behind++;
    }
    return true;
}

static uint64_t describe(const struct purging *p)
{
    uint64_t letters = 0;

    for (size_t i = 0; i < p->view.len; i++) {
        const struct cut *cut = &p->cuts[i];
        const struct topic_span *span = &p->view.spans[i];
        letters += cut->letters;
        if (cut->letters)
            printf("partition %d: offsets %lld to %lld, %llu letters, %llu of them not redriven\n",
                   span->partition, (long long)span->low, (long long)cut->before - 1,
                   (unsigned long long)cut->letters, (unsigned long long)cut->waiting);
        if (cut->left_behind)
            printf("partition %d: %llu older letters stay, because they are behind a younger one\n",
                   span->partition, (unsigned long long)cut->left_behind);
    }
    return letters;
}

static bool confirmed(const struct purging *p, uint64_t letters)
{
    char answer[16];

    if (p->o->yes)
        return true;
    printf("Delete these %llu letters of %s for good? Type yes: ", (unsigned long long)letters,
           p->view.ctl->config->kafka_topic_dlq);
    fflush(stdout);
    if (fgets(answer, sizeof(answer), stdin) && strcmp(answer, "yes\n") == 0)
        return true;
    puts("Nothing was deleted.");
    return false;
}

static bool delete_cuts(const struct purging *p, struct topics_admin *admin, struct error *err)
{
    const struct ctl *ctl = p->view.ctl;
    struct topic_cut *cuts = calloc(p->view.len + 1, sizeof(*cuts));
    size_t len = 0;
    bool good;

    for (size_t i = 0; cuts && i < p->view.len; i++)
        if (p->cuts[i].letters)
            cuts[len++] = (struct topic_cut){p->view.spans[i].partition, p->cuts[i].before};
    good = cuts ? topics_delete_records(admin, ctl->config->kafka_topic_dlq, cuts, len,
                                        ctl->timeout_ms, err)
                : error_set(err, "out of memory");
    free(cuts);
    return good;
}

static bool purge(const struct purging *p, uint64_t letters)
{
    const struct ctl *ctl = p->view.ctl;
    struct error err = {0};
    struct topics_admin *admin = topics_connect(&ctl->kafka, ctl->timeout_ms, &err);
    const bool good = admin && delete_cuts(p, admin, &err);

    topics_disconnect(admin);
    if (good)
        printf("Deleted %llu letters.\n", (unsigned long long)letters);
    else
        ctl_complain("not deleted: %s", err.text);
    return good;
}

static bool run(struct purging *p)
{
    uint64_t letters;

    for (size_t i = 0; i < p->view.len; i++)
        p->cuts[i].before = p->view.spans[i].high;
    if (!dlq_view_each(&p->view, on_letter, p))
        return false;
    letters = describe(p);
    if (!letters) {
        puts("Nothing to delete.");
        return true;
    }
    if (p->o->dry_run) {
        printf("Would delete %llu letters.\n", (unsigned long long)letters);
        return true;
    }
    return confirmed(p, letters) && purge(p, letters);
}

enum ctl_exit ctl_dlq_purge(const struct ctl *ctl)
{
    struct purging p = {.o = ctl->options};
    bool good;

    if (ctl->options->all == ctl->options->before.set) {
        ctl_complain("which ones? Either --before TIME or --all (see emailctl dlq purge --help)");
        return CTL_WRONG;
    }
    if (!p.o->yes && !p.o->dry_run && isatty(STDIN_FILENO) != 1) {
        ctl_complain("nobody to ask: --yes deletes without a question, --dry-run only looks");
        return CTL_WRONG;
    }
    good = dlq_view_open(&p.view, ctl);
    p.cuts = good ? calloc(p.view.len + 1, sizeof(*p.cuts)) : NULL;
    if (good && !p.cuts)
        ctl_complain("out of memory");
    good = p.cuts && run(&p);
    free(p.cuts);
    dlq_view_close(&p.view);
    return good && fflush(stdout) == 0 ? CTL_DONE : CTL_FAILED;
}
