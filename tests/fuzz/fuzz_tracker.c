/* The offset tracker against a model that remembers every offset and looks through all of them. */
#include "fuzz.h"

#include "kafka/tracker.h"

enum { MAX_OFFSETS = 2048 };

enum fate { UNDER_WAY, DONE, ABANDONED };

struct model {
    int64_t offsets[MAX_OFFSETS];
    enum fate fates[MAX_OFFSETS];
    size_t len;
};

static struct model model;

/* The lowest offset without an outcome, where everything before it has one; but a gap in front of
 * it (compaction) counts with what is behind the last finished one. */
static int64_t expected_watermark(void)
{
    for (size_t i = 0; i < model.len; i++)
        if (model.fates[i] != DONE)
            return i == 0 ? model.offsets[0] : model.offsets[i - 1] + 1;
    return model.len ? model.offsets[model.len - 1] + 1 : -1;
}

static size_t expected_under_way(void)
{
    size_t count = 0;

    for (size_t i = 0; i < model.len; i++)
        count += model.fates[i] == UNDER_WAY;
    return count;
}

static int64_t last_offset(void)
{
    return model.len ? model.offsets[model.len - 1] : -1;
}

/* `ahead` of the last one; the end of the numbers is the end. */
static int64_t offset_ahead(int64_t ahead)
{
    const int64_t last = last_offset();

    return last > INT64_MAX - ahead ? INT64_MAX : last + ahead;
}

static void begin(struct tracker *t, int64_t offset)
{
    const bool legal = offset >= 0 && offset > last_offset() && offset != INT64_MAX;

    if (model.len == MAX_OFFSETS)
        return;
    REQUIRE(tracker_begin(t, offset) == legal);
    if (!legal)
        return;
    model.offsets[model.len] = offset;
    model.fates[model.len++] = UNDER_WAY;
}

static void end(struct tracker *t, int64_t offset, enum fate fate)
{
    size_t at = 0;
    bool legal, done;

    while (at < model.len && model.offsets[at] != offset)
        at++;
    legal = at < model.len && model.fates[at] == UNDER_WAY;
    done = fate == DONE ? tracker_done(t, offset) : tracker_abandon(t, offset);
    REQUIRE(done == legal);
    if (legal)
        model.fates[at] = fate;
}

/* One that began, mostly: the how-many-th decides; else any number. */
static int64_t some_offset(struct tape *tape)
{
    const uint32_t pick = tape_number(tape, 65536);

    if (model.len && pick % 16 != 0)
        return model.offsets[pick / 16 % model.len];
    return offset_ahead(pick / 16 % 16) - 8;
}

static void step(struct tracker *t, struct tape *tape, int64_t *before)
{
    const uint8_t what = tape_byte(tape);
    int64_t watermark;

    switch (what % 8) {
    case 0: begin(t, offset_ahead(1 + tape_number(tape, 1000))); break; /* a gap */
    case 1: begin(t, offset_ahead(tape_number(tape, 6)) - 3); break;
    case 2:
        for (unsigned n = what / 8; n > 0; n--)
            begin(t, offset_ahead(1));
        break;
    case 3:
        for (unsigned n = what / 8; n > 0; n--)
            end(t, some_offset(tape), DONE);
        break;
    case 4: end(t, some_offset(tape), what / 8 % 8 ? DONE : ABANDONED); break;
    case 5:
        if (what / 8 == 31)
            begin(t, INT64_MAX - tape_number(tape, 3));
        break;
    default: end(t, some_offset(tape), DONE); break;
    }
    watermark = tracker_watermark(t);
    REQUIRE(watermark == expected_watermark());
    REQUIRE(watermark >= *before); /* what is committed is never taken back */
    REQUIRE(tracker_under_way(t) == expected_under_way());
    *before = watermark;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tape tape = tape_of(data, size);
    struct tracker *t = tracker_new();
    int64_t before = -1;

    REQUIRE(t);
    model.len = 0;
    if (tape_flag(&tape))
        begin(t, (int64_t)tape_number(&tape, 1 << 20) * 4096);
    while (!tape_ended(&tape))
        step(t, &tape, &before);
    tracker_destroy(t);
    return 0;
}
