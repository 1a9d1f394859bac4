/* What emailctl reads: dead letters with any headers and value, the event narrowed to the refused,
 * instants, lines, flags; and what it shows of them on a terminal. */
#include "fuzz.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "email/event.h"
#include "event_json.h"
#include "instant.h"
#include "letter.h"
#include "line_reader.h"
#include "plain_text.h"

enum { MAX_HEADERS = 8, MAX_LINE = 64, MAX_ARGS = 24 };

static const int64_t now_unix_ms = 1795240000000;

/* ---- dead letters ---- */

static bool is_recipient(const struct event *ev, struct slice spec)
{
    for (size_t i = 0; i < event_recipients(ev); i++)
        if (slice_equal(event_recipient(ev, i)->spec, spec))
            return true;
    return false;
}

/* The part of a valid event is a valid event, to some of its recipients, under an id of its own. */
static void check_part(struct arena *arena, const struct event *whole, struct slice value,
                       struct slice refused, size_t part)
{
    struct slice json, id;
    struct event ev;

    REQUIRE(event_json_narrow(arena, value, refused, 1, part, &json, &id, NULL));
    REQUIRE(event_decode(arena, json, SIZE_MAX, &ev, NULL) == EVENT_OK);
    REQUIRE(slice_equal(ev.message_id, id) && !slice_equal(id, whole->message_id));
    REQUIRE(event_recipients(&ev) <= event_recipients(whole));
    for (size_t i = 0; i < event_recipients(&ev); i++)
        REQUIRE(is_recipient(whole, event_recipient(&ev, i)->spec));
    REQUIRE(slice_equal(ev.subject, whole->subject) && slice_equal(ev.text, whole->text));
}

static void check_narrowing(struct arena *arena, struct slice value, struct slice refused)
{
    struct event ev;
    struct error err = {0};
    size_t parts = 0;
    const bool good = event_json_parts(arena, value, refused, &parts, &err);

    REQUIRE(good != err.set);
    if (!good || event_decode(arena, value, SIZE_MAX, &ev, NULL) != EVENT_OK)
        return;
    REQUIRE(parts <= EVENT_MAX_RECIPIENTS);
    for (size_t i = 0; i < parts; i++)
        check_part(arena, &ev, value, refused, i);
    REQUIRE(!event_json_narrow(arena, value, refused, 1, parts, &value, &refused, NULL));
}

static void check_redrive(struct arena *arena, const struct letter *letter,
                          const struct record *record)
{
    const struct record_header *headers;
    size_t len, redriven = 0;

    REQUIRE(letter_redrive_headers(arena, letter, record, &headers, &len));
    REQUIRE(len >= 1 && len <= record->headers_len + 1);
    for (size_t i = 0; i < len; i++) {
        const struct slice name = headers[i].name;
        const bool ours = name.len >= 4 && memcmp(name.ptr, "dlq-", 4) == 0;
        REQUIRE(!ours || slice_is(name, "dlq-redriven"));
        redriven += ours;
    }
    REQUIRE(redriven == 1);
}

static void check_letter(struct tape *t)
{
    static const char *const names[] = {"dlq-reason",    "dlq-error",     "dlq-attempts",
                                        "dlq-redriven",  "dlq-failed-at", "dlq-recipients",
                                        "dlq-truncated", "dlq-topic",     "x-own"};
    static const char *const reasons[] = {"rejected"};
    struct record_header headers[MAX_HEADERS];
    struct record record = {.topic = slice_str("email-events-dlq"),
                            .partition = 1,
                            .offset = 2,
                            .timestamp_unix_ms = 3,
                            .headers = headers,
                            .headers_len = tape_number(t, MAX_HEADERS)};
    struct options o = {.max_redrives = 3, .reason = {.items = (const char **)(uintptr_t)reasons}};
    struct letter letter;
    struct arena arena;

    arena_init(&arena);
    for (size_t i = 0; i < record.headers_len; i++) {
        const uint8_t which = tape_byte(t);
        headers[i].name =
            which < 9 ? slice_str(names[which]) : heap_copy(tape_bytes(t, which % 16));
        if (which < 9)
            headers[i].name = heap_copy(headers[i].name);
        headers[i].value = heap_copy(tape_bytes(t, tape_byte(t)));
    }
    record.value = heap_copy(tape_rest(t));
    o.reason.len = record.value.len % 2;
    REQUIRE(letter_read(&arena, &record, &letter));
    (void)letter_matches(&letter, &o);
    if (!letter_obstacle(&arena, &letter, &record, &o, SIZE_MAX, now_unix_ms)) {
        struct event ev;
        REQUIRE(letter.whole && letter.redriven < o.max_redrives);
        REQUIRE(event_decode(&arena, record.value, SIZE_MAX, &ev, NULL) == EVENT_OK);
    }
    check_redrive(&arena, &letter, &record);
    check_narrowing(&arena, record.value, letter.recipients);
    for (size_t i = 0; i < record.headers_len; i++) {
        heap_free(headers[i].name);
        heap_free(headers[i].value);
    }
    heap_free(record.value);
    arena_cleanup(&arena);
}

/* ---- times ---- */

static void check_instant(struct slice text)
{
    char formatted[RFC3339_SIZE];
    int64_t at_unix_ms = 0, again = 0;

    if (!instant_parse(text, now_unix_ms, &at_unix_ms))
        return;
    rfc3339_format(at_unix_ms, formatted);
    REQUIRE(rfc3339_parse(slice_str(formatted), &again));
    /* Offsets reach into years that RFC 3339 cannot write. */
    if (at_unix_ms >= -62167219200000 && at_unix_ms <= 253402300799999)
        REQUIRE(again == at_unix_ms);
    REQUIRE(rfc3339_parse(text, &again) || at_unix_ms <= now_unix_ms);
}

/* ---- lines ---- */

/* The line that begins at `text`, found by other means. */
static struct slice next_line(struct slice *text)
{
    const char *end = memchr(text->ptr, '\n', text->len);
    const size_t len = end ? (size_t)(end - text->ptr) : text->len;
    const struct slice line = slice_of(text->ptr, len);

    *text = slice_of(text->ptr + len + (end != NULL), text->len - len - (end != NULL));
    return line;
}

static void check_lines(struct slice text)
{
    FILE *file = text.len ? fmemopen((char *)(uintptr_t)text.ptr, text.len, "r") : NULL;
    struct line_reader reader = {.from = file, .max = MAX_LINE};
    struct slice rest = text, line;
    uint64_t number = 0;

    if (!file)
        return;
    while (rest.len) {
        struct slice wanted = next_line(&rest);
        const enum line_read got = line_reader_next(&reader, &line);
        if (wanted.len && wanted.ptr[wanted.len - 1] == '\r')
            wanted.len--;
        REQUIRE(got == (wanted.len > MAX_LINE ? LINE_TOO_LONG : LINE_READ));
        REQUIRE(reader.number == ++number);
        REQUIRE(got == LINE_TOO_LONG || slice_equal(line, wanted));
    }
    REQUIRE(line_reader_next(&reader, &line) == LINE_END && reader.bytes == text.len);
    line_reader_cleanup(&reader);
    fclose(file);
}

/* ---- the terminal ---- */

static void check_plain(struct slice shown, bool lines)
{
    REQUIRE(utf8_valid(shown));
    for (size_t i = 0; i < shown.len; i++) {
        const unsigned char c = (unsigned char)shown.ptr[i];
        REQUIRE(c >= 0x20 || (lines && (c == '\n' || c == '\t')));
        REQUIRE(c != 0x7F);
        if (c == 0xC2) /* C1 controls are C2 80 … C2 9F */
            REQUIRE(i + 1 < shown.len && (unsigned char)shown.ptr[i + 1] >= 0xA0);
    }
}

static void check_shown(struct tape *t)
{
    const bool lines = tape_flag(t);
    const struct slice text = heap_copy(tape_rest(t));
    struct buf out = {0};
    struct table table;
    struct arena arena;
    struct slice json;

    plain_text(&out, text, lines);
    check_plain(buf_slice(&out), lines);
    buf_clear(&out);
    table_init(&table, 3);
    for (size_t i = 0; i < 6; i++)
        table_cell(&table, slice_of(text.ptr, text.len / (i + 1)));
    REQUIRE(table_render(&table, &out));
    check_plain(buf_slice(&out), true);
    table_cleanup(&table);
    arena_init(&arena);
    if (event_json_show(&arena, text, lines, &json))
        REQUIRE(json.len > 0 && utf8_valid(json));
    arena_cleanup(&arena);
    buf_cleanup(&out);
    heap_free(text);
}

/* ---- flags ---- */

static void check_flags(struct tape *t)
{
    char *argv[MAX_ARGS + 1] = {strdup("emailctl")};
    struct buf mistakes = {0};
    struct options o;
    struct arena arena;
    int argc = 1;

    while (argc < MAX_ARGS && !tape_ended(t)) {
        struct slice word = tape_bytes(t, 1);
        const uint8_t *end = memchr(t->at, '\n', (size_t)(t->end - t->at));
        word.len += tape_bytes(t, end ? (size_t)(end - t->at) : SIZE_MAX).len;
        tape_byte(t);
        argv[argc] = malloc(word.len + 1);
        REQUIRE(argv[argc]);
        memcpy(argv[argc], word.ptr, word.len);
        argv[argc++][word.len] = '\0';
    }
    arena_init(&arena);
    options_parse(&o, argc, argv, now_unix_ms, &arena, &mistakes);
    REQUIRE(o.argc >= 1 && o.argc <= argc && o.argv[0] == argv[0]);
    REQUIRE(o.to.len + o.cc.len + o.bcc.len <= (size_t)argc);
    if (o.operand && *o.operand) {
        int32_t partition;
        int64_t offset;
        if (options_parse_position(o.operand, &partition, &offset))
            REQUIRE(partition >= 0 && offset >= 0);
    }
    arena_cleanup(&arena);
    buf_cleanup(&mistakes);
    while (argc > 0)
        free(argv[--argc]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tape tape = tape_of(data, size);
    struct slice text;

    switch (tape_byte(&tape) % 5) {
    case 0: check_letter(&tape); break;
    case 1:
        text = heap_copy(tape_rest(&tape));
        check_instant(text);
        heap_free(text);
        break;
    case 2: check_lines(tape_rest(&tape)); break;
    case 3: check_shown(&tape); break;
    default: check_flags(&tape); break;
    }
    return 0;
}
