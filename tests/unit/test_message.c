/* The composed message: its fields and structure, and what holds for every message, checked on
 * generated events. */
#include "email/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static struct address address(const char *name, const char *spec)
{
    struct address a = {.name = slice_str(name),
                        .spec = slice_str(spec),
                        .local_len = (size_t)(strrchr(spec, '@') - spec)};

    for (size_t i = 0; i < a.local_len; i++)
        a.utf8_local |= (unsigned char)spec[i] >= 0x80;
    return a;
}

static struct message_settings settings(void)
{
    return (struct message_settings){.from = address("Shop", "shop@example.com")};
}

static struct event event_to(struct address *to)
{
    return (struct event){.message_id = slice_str("m-1"),
                          .to = {.items = to, .len = 1},
                          .subject = slice_str("Hello"),
                          .text = slice_str("Hello\n")};
}

static void check_composed(const struct event *ev, int64_t date_unix_ms, const char *expected)
{
    struct message_settings s = settings();
    struct error err = {0};
    struct message m;

    message_init(&m);
    assert_true(message_compose(&m, ev, &s, date_unix_ms, &err));
    assert_string_equal(m.bytes.ptr, expected);
    message_cleanup(&m);
}

static void test_plain_message(void **state)
{
    struct address to = address("Ann", "ann@example.org");
    struct event ev = event_to(&to);

    (void)state;
    check_composed(&ev, 0,
                   "Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"
                   "From: Shop <shop@example.com>\r\n"
                   "To: Ann <ann@example.org>\r\n"
                   "Subject: Hello\r\n"
                   "Message-ID: <m-1@example.com>\r\n"
                   "MIME-Version: 1.0\r\n"
                   "Content-Type: text/plain; charset=utf-8\r\n"
                   "Content-Transfer-Encoding: 7bit\r\n"
                   "\r\n"
                   "Hello\r\n");
}

static void test_every_field_in_its_place(void **state)
{
    struct address to = address("", "to@example.org"), cc = address("", "cc@example.org");
    struct address bcc = address("", "bcc@example.org");
    struct extra_header extra = {.name = slice_str("X-Tag"), .value = slice_str("a b")};
    struct event ev = event_to(&to);

    (void)state;
    ev.from = address("", "other@example.net");
    ev.reply_to = address("Desk", "desk@example.net");
    ev.cc = (struct address_list){&cc, 1};
    ev.bcc = (struct address_list){&bcc, 1};
    ev.headers = &extra;
    ev.headers_len = 1;
    ev.html = slice_str("<p>Hello");
    check_composed(&ev, -1,
                   "From: other@example.net\r\n"
                   "Reply-To: Desk <desk@example.net>\r\n"
                   "To: to@example.org\r\n"
                   "Cc: cc@example.org\r\n"
                   "Subject: Hello\r\n"
                   "Message-ID: <m-1@example.net>\r\n"
                   "MIME-Version: 1.0\r\n"
                   "X-Tag: a b\r\n"
                   "Content-Type: multipart/alternative; boundary=\"=_b2_alternative\"\r\n"
                   "\r\n"
                   "--=_b2_alternative\r\n"
                   "Content-Type: text/plain; charset=utf-8\r\n"
                   "Content-Transfer-Encoding: 7bit\r\n"
                   "\r\n"
                   "Hello\r\n"
                   "\r\n"
                   "--=_b2_alternative\r\n"
                   "Content-Type: text/html; charset=utf-8\r\n"
                   "Content-Transfer-Encoding: 7bit\r\n"
                   "\r\n"
                   "<p>Hello\r\n"
                   "--=_b2_alternative--\r\n");
}

/* Everything that starts with "Content-Type:" or "--", in order. */
static void check_structure(const struct event *ev, const char *const *expected, size_t len)
{
    struct message_settings s = settings();
    struct message m;
    size_t found = 0;
    char *line, *rest;

    message_init(&m);
    assert_true(message_compose(&m, ev, &s, -1, NULL));
    for (line = strtok_r(m.bytes.ptr, "\r\n", &rest); line; line = strtok_r(NULL, "\r\n", &rest)) {
        if (strncmp(line, "Content-Type: ", 14) == 0)
            line = strtok_r(line + 14, ";", &line);
        else if (strncmp(line, "--", 2) != 0)
            continue;
        assert_true(found < len);
        assert_string_equal(line, expected[found++]);
    }
    assert_int_equal(found, len);
    message_cleanup(&m);
}

static void test_nesting(void **state)
{
    static const char *const all[] = {
        "multipart/mixed",      "--=_b1_mixed",   "multipart/alternative",
        "--=_b2_alternative",   "text/plain",     "--=_b2_alternative",
        "multipart/related",    "--=_b3_related", "text/html",
        "--=_b3_related",       "image/png",      "--=_b3_related--",
        "--=_b2_alternative--", "--=_b1_mixed",   "application/pdf",
        "--=_b1_mixed--"};
    static const char *const html_with_image[] = {"multipart/related", "--=_b3_related",
                                                  "text/html",         "--=_b3_related",
                                                  "image/png",         "--=_b3_related--"};
    static const char *const text_with_image[] = {"multipart/mixed", "--=_b1_mixed",
                                                  "text/plain",      "--=_b1_mixed",
                                                  "image/png",       "--=_b1_mixed--"};
    struct attachment files[] = {
        {slice_str("logo.png"), slice_str("image/png"), slice_str("png"), slice_str("logo")},
        {slice_str("a.pdf"), slice_str("application/pdf"), slice_str("pdf"), slice_str(NULL)}};
    struct address to = address("", "to@example.org");
    struct event ev = event_to(&to);

    (void)state;
    ev.html = slice_str("<img src=\"cid:logo\">");
    ev.attachments = files;
    ev.attachments_len = 2;
    check_structure(&ev, all, COUNT(all));
    ev.attachments_len = 1;
    ev.text = slice_str(NULL);
    check_structure(&ev, html_with_image, COUNT(html_with_image));
    ev.text = ev.html;
    ev.html = slice_str(NULL);
    check_structure(&ev, text_with_image, COUNT(text_with_image));
}

static void test_attachment_fields(void **state)
{
    struct attachment files[] = {
        {slice_str("a"), slice_str("message/rfc822"), slice_str("x"), slice_str("a<b>")},
        {slice_str("b"), slice_str("text/plain\r\nBcc: b@example.org"), slice_str("y"),
         slice_str(NULL)}};
    struct address to = address("", "to@example.org");
    struct message_settings s = settings();
    struct event ev = event_to(&to);
    struct message m;

    (void)state;
    ev.attachments = files;
    ev.attachments_len = 2;
    message_init(&m);
    assert_true(message_compose(&m, &ev, &s, -1, NULL));
    assert_non_null(strstr(m.bytes.ptr, "--=_b1_mixed\r\n"
                                        "Content-Type: application/octet-stream\r\n"
                                        "Content-Transfer-Encoding: base64\r\n"
                                        "Content-Disposition: inline; filename=\"a\"\r\n"
                                        "Content-ID: <a%3Cb%3E>\r\n"
                                        "\r\n"
                                        "eA==\r\n"
                                        "--=_b1_mixed\r\n"
                                        "Content-Type: application/octet-stream\r\n"
                                        "Content-Transfer-Encoding: base64\r\n"
                                        "Content-Disposition: attachment; filename=\"b\"\r\n"
                                        "\r\n"
                                        "eQ==\r\n"
                                        "--=_b1_mixed--\r\n"));
    message_cleanup(&m);
}

static void check_message_id(const char *id, const char *expected)
{
    struct buf out;

    buf_init(&out);
    message_id_header(slice_str(id), slice_str("example.com"), &out);
    assert_string_equal(buf_slice(&out).ptr, expected);
    buf_cleanup(&out);
}

static void test_message_id(void **state)
{
    (void)state;
    check_message_id("order-1.a!#$&'*+/=?^_`{|}~", "<order-1.a!#$&'*+/%3D?^_`{|}~@example.com>");
    check_message_id("a=b", "<a=b@example.com>");
    check_message_id(".a..b.", "<%2Ea.%2Eb%2E@example.com>");
    check_message_id("...", "<%2E%2E%2E@example.com>");
    check_message_id("a@b<c>\"d\"(e),;:\\[]",
                     "<a%40b%3Cc%3E%22d%22%28e%29%2C%3B%3A%5C%5B%5D@example.com>");
    check_message_id("%2E", "<%252E@example.com>");
}

static int hex_digit(char c)
{
    return c <= '9' ? c - '0' : c - 'A' + 10;
}

/* Injective because %XX can be undone. */
static void test_message_id_can_be_undone(void **state)
{
    char id[95 + 1], back[sizeof(id)];
    struct buf out;
    size_t len = 0;

    (void)state;
    buf_init(&out);
    for (size_t i = 0; i < 94; i++)
        id[i] = (char)(0x21 + (i * 37) % 94);
    id[94] = '\0';
    message_id_header(slice_str(id), slice_str("d"), &out);
    for (size_t i = 1; i + 3 < out.len; i++) {
        if (out.ptr[i] == '%') {
            back[len++] = (char)(hex_digit(out.ptr[i + 1]) << 4 | hex_digit(out.ptr[i + 2]));
            i += 2;
        } else {
            back[len++] = out.ptr[i];
        }
    }
    back[len] = '\0';
    assert_string_equal(back, id);
    buf_cleanup(&out);
}

static void test_what_cannot_be_composed(void **state)
{
    struct address to = address("", "to@example.org");
    struct message_settings s = settings(), no_sender = {0};
    struct event ev = event_to(&to);
    struct error err = {0};
    struct message m;

    (void)state;
    message_init(&m);
    assert_false(message_compose(&m, &ev, &no_sender, -1, &err));
    assert_string_equal(err.text, "message: no sender");
    error_clear(&err);
    ev.text = slice_str(NULL);
    assert_false(message_compose(&m, &ev, &s, -1, &err));
    assert_string_equal(err.text, "message: neither text nor html");
    ev.text = slice_str("");
    assert_true(message_compose(&m, &ev, &s, -1, NULL));
    message_cleanup(&m);
    message_cleanup(&m);
}

static void check_utf8(const struct event *ev, bool expected)
{
    struct message_settings s = settings();
    struct message m;

    message_init(&m);
    assert_true(message_compose(&m, ev, &s, -1, NULL));
    assert_int_equal(m.utf8, expected);
    message_cleanup(&m);
}

static void test_smtputf8_is_asked_for_only_where_needed(void **state)
{
    struct address to = address("\xC3\xA9", "to@xn--exmple-cua.com");
    struct address other = address("", "\xC3\xA9@example.org");
    struct event ev = event_to(&to);

    (void)state;
    check_utf8(&ev, false);
    ev.bcc = (struct address_list){&other, 1};
    check_utf8(&ev, true);
    ev.bcc.len = 0;
    ev.cc = (struct address_list){&other, 1};
    check_utf8(&ev, true);
    ev.cc.len = 0;
    ev.reply_to = other;
    check_utf8(&ev, true);
    ev.reply_to = (struct address){0};
    ev.from = other;
    check_utf8(&ev, true);
}

static void test_sender(void **state)
{
    struct address to = address("", "to@example.org");
    struct message_settings s = settings();
    struct event ev = event_to(&to);
    struct message m;

    (void)state;
    message_init(&m);
    assert_true(message_compose(&m, &ev, &s, -1, NULL));
    assert_ptr_equal(m.from, &s.from);
    ev.from = address("", "me@example.net");
    assert_true(message_compose(&m, &ev, &s, -1, NULL));
    assert_ptr_equal(m.from, &ev.from);
    message_cleanup(&m);
}

/* ---- generated events ---- */

static uint64_t random_state;

static unsigned random_below(unsigned bound)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((random_state >> 33) % bound);
}

/* Nasty on purpose, beyond what event_decode lets through: composing is the second guard. */
static struct slice random_text(struct arena *arena, bool may_be_utf8)
{
    static const char *const pieces[] = {"a",
                                         "Hello ",
                                         "world",
                                         " ",
                                         "  ",
                                         "\t",
                                         "\r\n",
                                         "\n",
                                         "\r",
                                         "\r\nBcc: b@example.org\r\n",
                                         "\r\n\r\n",
                                         ".",
                                         "\r\n.\r\n",
                                         "From ",
                                         "=?utf-8?q?x?=",
                                         "=?",
                                         "?=",
                                         "\"",
                                         "\\",
                                         ",",
                                         "<a@b>",
                                         "(c)",
                                         ";",
                                         ":",
                                         "%",
                                         "--=_b1_mixed",
                                         "--=_b2_alternative--",
                                         "\x01",
                                         "\x7F",
                                         "<https://example.com/?u=1&v=abcdef>",
                                         "a-word-of-fifty-characters-without-any-white-space",
                                         "\xC3\xA9",
                                         "\xE6\x97\xA5\xE6\x9C\xAC",
                                         "\xF0\x9F\x98\x80",
                                         "\xD7\xA9\xD7\x9C",
                                         "\xE2\x80\xA8"};
    struct buf text;
    struct slice copy;

    buf_init(&text);
    buf_add_str(&text, "");
    for (unsigned i = random_below(random_below(6) ? 8 : 200); i > 0; i--)
        buf_add_str(&text, pieces[random_below(may_be_utf8 ? COUNT(pieces) : COUNT(pieces) - 5)]);
    copy = arena_copy(arena, buf_slice(&text));
    assert_non_null(copy.ptr);
    buf_cleanup(&text);
    return copy;
}

static struct slice random_name(struct arena *arena)
{
    struct slice name = random_text(arena, true);

    return random_below(2) ? slice_str("Plain Name")
                           : slice_of(name.ptr, name.len > 4000 ? 0 : name.len);
}

static struct address_list random_addresses(struct arena *arena, size_t at_least)
{
    struct address_list list = {.len = at_least + random_below(random_below(8) ? 3 : 100)};

    list.items = arena_alloc(arena, (list.len + 1) * sizeof(*list.items));
    assert_non_null(list.items);
    for (size_t i = 0; i < list.len; i++) {
        list.items[i] = random_below(2) ? address("", "someone@example.org")
                                        : address("", "\"so me\"@a-long-domain-name.example.org");
        list.items[i].name = random_name(arena);
    }
    return list;
}

static void random_attachments(struct arena *arena, struct event *ev)
{
    ev->attachments_len = random_below(4);
    ev->attachments = arena_alloc(arena, 4 * sizeof(*ev->attachments));
    assert_non_null(ev->attachments);
    for (size_t i = 0; i < ev->attachments_len; i++) {
        struct attachment *a = &ev->attachments[i];
        a->filename = random_text(arena, true);
        a->content_type = random_below(3) ? slice_str("text/csv; charset=utf-8; header=present")
                                          : random_text(arena, false);
        a->content = random_text(arena, true);
        if (random_below(2)) {
            a->content_id = random_text(arena, true);
            if (a->content_id.len > 200)
                a->content_id.len = 200;
        }
    }
}

static void random_headers(struct arena *arena, struct event *ev)
{
    static const char *const names[] = {
        "X-Tag", "References", "X-A-Name-That-Is-Nearly-As-Long-As-Names-Of-Headers-May-Be-In-It"};

    ev->headers_len = random_below(4);
    ev->headers = arena_alloc(arena, 4 * sizeof(*ev->headers));
    assert_non_null(ev->headers);
    for (size_t i = 0; i < ev->headers_len; i++) {
        ev->headers[i].name = slice_str(names[i]);
        ev->headers[i].value = random_text(arena, random_below(2));
    }
}

static struct event random_event(struct arena *arena)
{
    struct event ev = {.message_id = slice_str("id%..x"), .to = random_addresses(arena, 1)};

    ev.cc = random_addresses(arena, 0);
    ev.subject = random_text(arena, random_below(2));
    if (random_below(2))
        ev.text = random_text(arena, random_below(2));
    if (!ev.text.ptr || random_below(2))
        ev.html = random_text(arena, random_below(2));
    if (random_below(2)) {
        ev.reply_to = address("", "reply@example.org");
        ev.reply_to.name = random_name(arena);
    }
    if (random_below(2))
        random_attachments(arena, &ev);
    random_headers(arena, &ev);
    return ev;
}

static void check_wire(struct slice wire)
{
    size_t column = 0;

    assert_true(wire.len > 2 && memcmp(wire.ptr + wire.len - 2, "\r\n", 2) == 0);
    for (size_t i = 0; i < wire.len; i++) {
        char c = wire.ptr[i];
        assert_true((unsigned char)c < 0x80);
        assert_true((unsigned char)c >= 0x20 || c == '\t' || c == '\r' || c == '\n');
        assert_true(c != 0x7F);
        assert_true(c != '\n' || (i > 0 && wire.ptr[i - 1] == '\r'));
        assert_true(c != '\r' || wire.ptr[i + 1] == '\n');
        assert_true(c != '.' || column > 0);
        assert_true(c != '\r' || column == 0 ||
                    (wire.ptr[i - 1] != ' ' && wire.ptr[i - 1] != '\t'));
        column = c == '\n' ? 0 : column + 1;
        assert_true(column <= 998);
    }
}

/* The header block holds exactly these fields, in this order. */
static void check_names(struct slice wire, const struct slice *names, size_t len)
{
    size_t found = 0;
    const char *at = wire.ptr;

    while (memcmp(at, "\r\n", 2) != 0) {
        const char *colon = strchr(at, ':');
        if (*at != ' ' && *at != '\t') {
            assert_non_null(colon);
            assert_true(found < len);
            assert_true(slice_equal(slice_of(at, (size_t)(colon - at)), names[found]));
            found++;
        }
        at = strstr(at, "\r\n") + 2;
    }
    assert_int_equal(found, len);
}

static size_t expected_names(const struct event *ev, struct slice names[16])
{
    bool multipart = ev->attachments_len || (ev->text.ptr && ev->html.ptr);
    size_t len = 0;

    names[len++] = slice_str("Date");
    names[len++] = slice_str("From");
    if (ev->reply_to.spec.ptr)
        names[len++] = slice_str("Reply-To");
    names[len++] = slice_str("To");
    if (ev->cc.len)
        names[len++] = slice_str("Cc");
    names[len++] = slice_str("Subject");
    names[len++] = slice_str("Message-ID");
    names[len++] = slice_str("MIME-Version");
    for (size_t i = 0; i < ev->headers_len; i++)
        names[len++] = ev->headers[i].name;
    names[len++] = slice_str("Content-Type");
    if (!multipart)
        names[len++] = slice_str("Content-Transfer-Encoding");
    return len;
}

static size_t count_lines(struct slice wire, const char *line)
{
    const char *at = wire.ptr;
    size_t count = 0;

    while (at) {
        at = strstr(at, "\r\n");
        at = at ? at + 2 : NULL;
        count += at && strncmp(at, line, strlen(line)) == 0;
    }
    return count;
}

/* Only our own delimiters look like delimiters. */
static void check_boundaries(struct slice wire, const struct event *ev)
{
    size_t related = 0, ordinary, expected = 0;

    for (size_t i = 0; i < ev->attachments_len; i++)
        related += ev->html.ptr && ev->attachments[i].content_id.len;
    ordinary = ev->attachments_len - related;
    expected += ordinary ? ordinary + 2 : 0;
    expected += related ? related + 2 : 0;
    expected += ev->text.ptr && ev->html.ptr ? 3 : 0;
    assert_int_equal(count_lines(wire, "--=_"), expected);
}

static void test_generated_events(void **state)
{
    struct message_settings s = settings();
    struct message m, again;
    struct slice names[16];

    (void)state;
    random_state = 7;
    message_init(&m);
    for (unsigned i = 0; i < 5000; i++) {
        struct arena arena;
        struct event ev;
        arena_init(&arena);
        message_init(&again);
        ev = random_event(&arena);
        assert_true(message_compose(&m, &ev, &s, 1700000000000, NULL));
        assert_true(message_compose(&again, &ev, &s, 1700000000000, NULL));
        assert_true(slice_equal(buf_slice(&m.bytes), buf_slice(&again.bytes)));
        check_wire(buf_slice(&m.bytes));
        check_names(buf_slice(&m.bytes), names, expected_names(&ev, names));
        check_boundaries(buf_slice(&m.bytes), &ev);
        message_cleanup(&again);
        arena_cleanup(&arena);
    }
    message_cleanup(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_message),
        cmocka_unit_test(test_every_field_in_its_place),
        cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_attachment_fields),
        cmocka_unit_test(test_message_id),
        cmocka_unit_test(test_message_id_can_be_undone),
        cmocka_unit_test(test_what_cannot_be_composed),
        cmocka_unit_test(test_smtputf8_is_asked_for_only_where_needed),
        cmocka_unit_test(test_sender),
        cmocka_unit_test(test_generated_events),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
