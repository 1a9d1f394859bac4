/* The pure parts of emailctl: flags, times, tables, progress, letters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "instant.h"
#include "letter.h"
#include "line_reader.h"
#include "options.h"
#include "plain_text.h"
#include "progress.h"

enum { NOW_MS = 1000000000 };

/* ---- instants ---- */

static void test_instants(void **state)
{
    static const struct {
        const char *text;
        int64_t ago_ms;
    } good[] = {{"90s", 90000}, {"15m", 900000}, {"2h", 7200000}, {"3d", 259200000}, {"0s", 0}};
    static const char *const bad[] = {"", "h", "2", "2x", "-2h", "2 h", "9999999999d", "2hh"};
    int64_t ms;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(instant_parse(slice_str(good[i].text), NOW_MS, &ms));
        assert_int_equal(ms, NOW_MS - good[i].ago_ms);
    }
    assert_true(instant_parse(slice_str("1970-01-01T00:00:01Z"), NOW_MS, &ms));
    assert_int_equal(ms, 1000);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(instant_parse(slice_str(bad[i]), NOW_MS, &ms));
}

/* ---- options ---- */

struct parsed {
    struct arena arena;
    struct buf mistakes;
    struct options o;
};

static void parse(struct parsed *p, int argc, const char *const *argv)
{
    *p = (struct parsed){0};
    options_parse(&p->o, argc, (char **)(uintptr_t)argv, NOW_MS, &p->arena, &p->mistakes);
}

static void drop(struct parsed *p)
{
    buf_cleanup(&p->mistakes);
    arena_cleanup(&p->arena);
}

#define PARSE(p, ...)                                                                              \
    do {                                                                                           \
        const char *const args[] = {"emailctl", __VA_ARGS__};                                      \
        parse(p, sizeof(args) / sizeof(args[0]), args);                                            \
    } while (0)

static void test_flags_of_ours_and_of_the_configuration(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, "--kafka-brokers", "a:1", "dlq", "redrive", "--reason", "rejected",
          "--reason=expired", "--rate", "5", "--redis-db=3", "--since", "2h", "--force", "4:77");
    assert_int_equal(p.mistakes.len, 0);
    assert_int_equal(p.o.command, CTL_DLQ_REDRIVE);
    assert_int_equal(p.o.reason.len, 2);
    assert_string_equal(p.o.reason.items[1], "expired");
    assert_int_equal(p.o.rate, 5);
    assert_int_equal(p.o.max_redrives, 3);
    assert_true(p.o.force && p.o.since.set && !p.o.until.set);
    assert_string_equal(p.o.operand, "4:77");
    assert_int_equal(p.o.argc, 4);
    assert_string_equal(p.o.argv[2], "a:1");
    assert_string_equal(p.o.argv[3], "--redis-db=3");
    drop(&p);
}

static void test_mistakes_are_all_told(void **state)
{
    struct parsed p;

    (void)state;
    PARSE(&p, "publish", "--limit", "3", "surplus", "--expires-in", "x", "--to");
    assert_non_null(strstr(p.mistakes.ptr, "--limit"));
    assert_null(strstr(p.mistakes.ptr, "\n3"));
    assert_non_null(strstr(p.mistakes.ptr, "surplus"));
    assert_non_null(strstr(p.mistakes.ptr, "--expires-in"));
    assert_non_null(strstr(p.mistakes.ptr, "--to: a value must follow"));
    drop(&p);
}

static void test_positions(void **state)
{
    static const char *const bad[] = {"",     "1",   ":",    "1:",   ":1",
                                      "1:2:", "a:1", "1:-2", "1 :2", "9999999999:1"};
    int32_t partition;
    int64_t offset;

    (void)state;
    assert_true(options_parse_position("3:4200000000", &partition, &offset));
    assert_int_equal(partition, 3);
    assert_int_equal(offset, 4200000000);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(options_parse_position(bad[i], &partition, &offset));
}

/* ---- tables ---- */

static void test_table_is_aligned_by_characters(void **state)
{
    static const char *const cells[] = {"A", "LONG", "C", "größe", "", "x\x1b[2J\xff y"};
    struct table t;
    struct buf out = {0};

    (void)state;
    table_init(&t, 3);
    for (size_t i = 0; i < 6; i++)
        table_cell(&t, slice_str(cells[i]));
    assert_true(table_render(&t, &out));
    assert_string_equal(out.ptr, "A      LONG  C\n"
                                 "größe  -     x?[2J? y\n");
    buf_cleanup(&out);
    table_cleanup(&t);
}

static void test_plain_text_keeps_lines_where_asked(void **state)
{
    struct buf out = {0};

    (void)state;
    plain_text(&out,
               slice_str("a\n\tb\r\xc2\x9b"
                         "c"),
               true);
    assert_string_equal(out.ptr, "a\n\tb??c");
    buf_cleanup(&out);
}

/* ---- progress ---- */

static void check_round_trip(const struct progress *p, int64_t low, int64_t high)
{
    struct progress again;
    struct buf note = {0};
    int64_t offset;

    assert_true(progress_note(p, &offset, &note));
    assert_true(progress_init(&again, low, high, offset, note.ptr ? note.ptr : "", NULL));
    for (int64_t i = low - 2; i < high + 2; i++)
        assert_int_equal(progress_has(&again, i), i >= low && i < high && progress_has(p, i));
    progress_cleanup(&again);
    buf_cleanup(&note);
}

static void test_progress_round_trips(void **state)
{
    struct progress p;
    uint32_t seed = 1;

    (void)state;
    for (int round = 0; round < 200; round++) {
        assert_true(progress_init(&p, 100, 400, -1, "", NULL));
        for (int64_t i = 100; i < 400; i++) {
            seed = seed * 1664525u + 1013904223u;
            progress_set(&p, i, (seed >> 24) < (unsigned)round);
        }
        check_round_trip(&p, 100, 400);
        check_round_trip(&p, 250, 500); /* meanwhile purged, and more came */
        check_round_trip(&p, 100, 300);
        progress_cleanup(&p);
    }
}

static void test_progress_of_one_run(void **state)
{
    struct progress p;
    struct buf note = {0};
    int64_t offset;

    (void)state;
    assert_true(progress_init(&p, 10, 20, 15, "", NULL));
    assert_true(progress_has(&p, 14) && !progress_has(&p, 15) && !progress_has(&p, 9));
    assert_true(progress_note(&p, &offset, &note));
    assert_int_equal(offset, 15);
    assert_int_equal(note.len, 0);
    buf_cleanup(&note);
    progress_cleanup(&p);
}

static void test_progress_of_another_topic_is_dropped(void **state)
{
    struct progress p;

    (void)state;
    assert_true(progress_init(&p, 0, 5, 1000, "", NULL)); /* created anew since */
    assert_false(progress_has(&p, 0));
    progress_cleanup(&p);
}

static void test_progress_that_is_unreadable(void **state)
{
    static const char *const bad[] = {"2:AB", "junk", "1:A!", "1:ggggggggggggggA"};
    struct progress p;
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        error_clear(&err);
        assert_false(progress_init(&p, 0, 500, 0, bad[i], &err));
        assert_true(err.set);
        progress_cleanup(&p);
    }
    /* A length beyond the end is cut. */
    assert_true(progress_init(&p, 0, 5, 0, "1:B___f", NULL));
    assert_true(!progress_has(&p, 0) && progress_has(&p, 4));
    progress_cleanup(&p);
}

static void test_progress_too_scattered(void **state)
{
    struct progress p;
    struct buf note = {0};
    int64_t offset;

    (void)state;
    assert_true(progress_init(&p, 0, 10000, -1, "", NULL));
    for (int64_t i = 1; i < 10000; i += 2)
        progress_set(&p, i, true);
    assert_false(progress_note(&p, &offset, &note));
    buf_cleanup(&note);
    progress_cleanup(&p);
}

/* ---- letters ---- */

#define EVENT(more)                                                                                \
    "{\"messageID\":\"m-1\",\"to\":\"a@example.com\",\"subject\":\"s\",\"text\":\"t\"" more "}"

struct mail_fixture {
    struct arena arena;
    struct record record;
    struct record_header headers[8];
    struct letter letter;
    struct options o;
};

static struct mail_fixture with(const char *value, const char *name, const char *text)
{
    struct mail_fixture f = {.record = {.partition = 2, .offset = 5, .timestamp_unix_ms = 77}};

    f.record.value = slice_str(value);
    f.headers[0] = (struct record_header){slice_str("dlq-reason"), slice_str("rejected")};
    f.headers[1] = (struct record_header){slice_str("mine"), slice_of(NULL, 0)};
    f.headers[2] = (struct record_header){slice_str(name), slice_str(text)};
    f.record.headers_len = 3;
    f.o.max_redrives = 3;
    return f;
}

static const char *obstacle(struct mail_fixture *f)
{
    f->record.headers = f->headers;
    assert_true(letter_read(&f->arena, &f->record, &f->letter));
    return letter_obstacle(&f->arena, &f->letter, &f->record, &f->o, 10000, NOW_MS);
}

static void check_obstacle(struct mail_fixture f, bool there, bool forced)
{
    assert_int_equal(obstacle(&f) != NULL, there);
    f.o.force = true;
    assert_int_equal(obstacle(&f) != NULL, forced);
    arena_cleanup(&f.arena);
}

static void test_obstacles(void **state)
{
    (void)state;
    check_obstacle(with(EVENT(""), "x", "y"), false, false);
    check_obstacle(with(EVENT(""), "dlq-redriven", "2"), false, false);
    check_obstacle(with(EVENT(""), "dlq-redriven", "3"), true, false);
    check_obstacle(with(EVENT(""), "dlq-redriven", "many"), false, false);
    check_obstacle(with(EVENT(""), "dlq-reason", "invalid_event"), true, false);
    check_obstacle(with("{", "x", "y"), true, false);
    check_obstacle(with(EVENT(",\"expiresAt\":\"1970-01-01T00:00:00Z\""), "x", "y"), true, false);
    check_obstacle(with(EVENT(",\"expiresAt\":\"2970-01-01T00:00:00Z\""), "x", "y"), false, false);
    check_obstacle(with(EVENT(""), "dlq-truncated", "5"), true, true);
}

static void test_letter_and_its_headers(void **state)
{
    struct mail_fixture f = with(EVENT(""), "dlq-redriven", "1");
    const struct record_header *headers;
    size_t len;

    (void)state;
    assert_null(obstacle(&f));
    assert_true(slice_is(f.letter.message_id, "m-1") && slice_is(f.letter.type, "generic"));
    assert_int_equal(f.letter.failed_at_unix_ms, 77);
    assert_true(letter_redrive_headers(&f.arena, &f.letter, &f.record, &headers, &len));
    assert_int_equal(len, 2);
    assert_true(slice_is(headers[0].name, "mine") && !headers[0].value.ptr);
    assert_true(slice_is(headers[1].name, "dlq-redriven") && slice_is(headers[1].value, "2"));
    arena_cleanup(&f.arena);
}

/* ---- lines ---- */

/* Found by fuzzing: a line that was one byte too long passed. */
static void test_lines_of_about_the_longest_length(void **state)
{
    static char text[] = "1234\n12345\n1234\r\n12345\r\n123456\n\nlast";
    static const struct {
        enum line_read result;
        const char *line;
    } wanted[] = {{LINE_READ, "1234"},   {LINE_TOO_LONG, NULL}, {LINE_READ, "1234"},
                  {LINE_TOO_LONG, NULL}, {LINE_TOO_LONG, NULL}, {LINE_READ, ""},
                  {LINE_READ, "last"},   {LINE_END, NULL}};
    struct line_reader r = {.from = fmemopen(text, sizeof(text) - 1, "r"), .max = 4};
    struct slice line;

    (void)state;
    assert_non_null(r.from);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        assert_int_equal(line_reader_next(&r, &line), wanted[i].result);
        assert_true(!wanted[i].line || slice_is(line, wanted[i].line));
    }
    assert_int_equal(r.bytes, sizeof(text) - 1);
    line_reader_cleanup(&r);
    fclose(r.from);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_instants),
        cmocka_unit_test(test_lines_of_about_the_longest_length),
        cmocka_unit_test(test_flags_of_ours_and_of_the_configuration),
        cmocka_unit_test(test_mistakes_are_all_told),
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_table_is_aligned_by_characters),
        cmocka_unit_test(test_plain_text_keeps_lines_where_asked),
        cmocka_unit_test(test_progress_round_trips),
        cmocka_unit_test(test_progress_of_one_run),
        cmocka_unit_test(test_progress_of_another_topic_is_dropped),
        cmocka_unit_test(test_progress_that_is_unreadable),
        cmocka_unit_test(test_progress_too_scattered),
        cmocka_unit_test(test_obstacles),
        cmocka_unit_test(test_letter_and_its_headers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
