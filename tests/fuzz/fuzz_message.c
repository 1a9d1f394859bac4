/* The composer: a valid event built from the input, composed twice, and read back by mime_reader.
 * All that was put in comes out again, nothing else does, and the wire's rules hold. */
#include "fuzz.h"

#include <jansson.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "email/message.h"
#include "mime_reader.h"

enum { MAX_LIST = 6, MAX_TEXT = 3000 };

/* ---- an event from the tape ---- */

/* Well-formed UTF-8 without NUL, of at most `most` bytes; in `line` without control characters. */
static json_t *take_text(struct tape *t, size_t most, bool line)
{
    struct slice bytes = tape_bytes(t, tape_number(t, (uint32_t)most + 1));
    char *copy = malloc(bytes.len * 2 + 1);
    size_t len = 0;
    json_t *out;

    REQUIRE(copy);
    for (size_t at = 0; at < bytes.len;) {
        const struct slice rest = slice_of(bytes.ptr + at, bytes.len - at);
        const unsigned char c = (unsigned char)rest.ptr[0];
        const unsigned n = utf8_decode(rest, NULL);
        if (n == 0 || c == 0 || (line && (c < 0x20 || c == 0x7F)))
            copy[len++] = (char)('A' + c % 58 % 26);
        else
            memcpy(copy + len, rest.ptr, n), len += n;
        at += n ? n : 1;
    }
    out = json_stringn(copy, len);
    free(copy);
    REQUIRE(out);
    return out;
}

static json_t *take_address(struct tape *t)
{
    static const char *const specs[] = {
        "a@example.com",
        "bob.x@sub.example.org",
        "j\xc3\xbcrgen@example.com",
        "\"q\"@example.net",
        "c@m\xc3\xbcnchen.example",
        "very.long.local.part.of.an.address.that.fills.the.line@long.example.com"};
    const uint8_t what = tape_byte(t);
    json_t *address;

    if (what % 4 == 0)
        return json_string(specs[what / 4 % 6]);
    address = json_object();
    json_object_set_new(address, "email", json_string(specs[what / 4 % 6]));
    json_object_set_new(address, "name", take_text(t, what % 4 == 1 ? 20 : 255, true));
    return address;
}

static json_t *take_addresses(struct tape *t, size_t least)
{
    json_t *list = json_array();

    for (size_t n = least + tape_number(t, MAX_LIST); n > 0; n--)
        json_array_append_new(list, take_address(t));
    return list;
}

static json_t *take_attachment(struct tape *t)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char *const types[] = {"application/pdf", "text/plain; charset=\"x;y\"",
                                        "image/png; name=a", "application/x-very-long-type"};
    const uint8_t what = tape_byte(t);
    json_t *attachment = json_object();
    char content[401], id[16];
    size_t groups = tape_number(t, 101);

    for (size_t i = 0; i < groups * 4; i++)
        content[i] = digits[tape_byte(t) % 64];
    if (groups && what & 1) /* one byte short of a group */
        memcpy(content + groups * 4 - 2, "A=", 2);
    content[groups * 4] = '\0';
    json_object_set_new(attachment, "content", json_string(content));
    json_object_set_new(attachment, "contentType", json_string(types[what / 4 % 4]));
    json_object_set_new(attachment, "filename", take_text(t, 255, true));
    snprintf(id, sizeof(id), "%u@x", tape_byte(t));
    if (what & 2)
        json_object_set_new(attachment, "contentID", json_string(id));
    return attachment;
}

static json_t *take_event(struct tape *t)
{
    const uint8_t bodies = tape_byte(t), extras = tape_byte(t);
    json_t *event = json_object(), *list;
    char name[24];

    json_object_set_new(event, "messageID", take_text(t, 200, true));
    json_object_set_new(event, "to", take_addresses(t, 1));
    json_object_set_new(event, "subject", take_text(t, 300, true));
    if (bodies % 3 != 1)
        json_object_set_new(event, "text", take_text(t, MAX_TEXT, false));
    if (bodies % 3 != 0)
        json_object_set_new(event, "html", take_text(t, MAX_TEXT, false));
    if (extras & 1)
        json_object_set_new(event, "cc", take_addresses(t, 0));
    if (extras & 2)
        json_object_set_new(event, "bcc", take_addresses(t, 0));
    if (extras & 4)
        json_object_set_new(event, "from", take_address(t));
    if (extras & 8)
        json_object_set_new(event, "replyTo", take_address(t));
    if (extras & 16) {
        json_object_set_new(event, "attachments", list = json_array());
        for (size_t n = tape_number(t, MAX_LIST); n > 0; n--)
            json_array_append_new(list, take_attachment(t));
    }
    if (extras & 32) {
        json_object_set_new(event, "headers", list = json_object());
        for (unsigned n = tape_number(t, MAX_LIST); n > 0; n--) {
            snprintf(name, sizeof(name), "%s-%u", n % 2 ? "X-A" : "List-Unsubscribe", n);
            json_object_set_new(list, name, take_text(t, 1200, true));
        }
    }
    return event;
}

/* ---- what must come back ---- */

/* LF and CRLF are CRLF on the wire. */
static struct slice with_crlf(struct arena *arena, struct slice text)
{
    char *out = arena_alloc(arena, text.len * 2 + 1);
    size_t len = 0;

    REQUIRE(out);
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\n' && (i == 0 || text.ptr[i - 1] != '\r'))
            out[len++] = '\r';
        out[len++] = text.ptr[i];
    }
    return slice_of(out, len);
}

static void check_text(struct arena *arena, const struct mime_entity *part, const char *type,
                       struct slice text, bool ends_message)
{
    const struct slice got = mime_decode_body(arena, part);
    const struct slice wanted = with_crlf(arena, text);
    const bool plain = slice_is(mime_field(part, "Content-Transfer-Encoding"), "7bit");

    REQUIRE(slice_is(mime_field(part, "Content-Type"), type));
    /* The one line end that a plain text gets where it ends the message (mime_body.h). */
    if (ends_message && plain && got.len == wanted.len + 2)
        REQUIRE(memcmp(got.ptr + wanted.len, "\r\n", 2) == 0 &&
                memcmp(got.ptr, wanted.ptr, wanted.len) == 0);
    else
        REQUIRE(slice_equal(got, wanted));
}

static void check_attachment(struct arena *arena, const struct mime_entity *part,
                             const struct attachment *a)
{
    const struct slice disposition = mime_field(part, "Content-Disposition");
    const struct slice id = mime_field(part, "Content-ID");

    REQUIRE(slice_equal(mime_decode_body(arena, part), a->content));
    REQUIRE(slice_equal(mime_field(part, "Content-Type"), a->content_type));
    REQUIRE(slice_equal(mime_parameter(arena, disposition, "filename"), a->filename));
    REQUIRE((id.ptr != NULL) == (a->content_id.len > 0));
    if (id.ptr)
        REQUIRE(id.len == a->content_id.len + 2 &&
                memcmp(id.ptr + 1, a->content_id.ptr, a->content_id.len) == 0);
    REQUIRE(memcmp(disposition.ptr, id.ptr ? "inline" : "attach", 6) == 0);
    REQUIRE(part->headers_len == (id.ptr ? 4 : 3));
}

static bool is_type(const struct mime_entity *e, const char *type)
{
    const struct slice value = mime_field(e, "Content-Type");

    return value.len >= strlen(type) && memcmp(value.ptr, type, strlen(type)) == 0;
}

static struct mime_entity *parse(struct arena *arena, struct slice bytes)
{
    struct mime_entity *e = arena_alloc(arena, sizeof(*e));

    REQUIRE(e && mime_parse(arena, bytes, e));
    return e;
}

static const char plain_type[] = "text/plain; charset=utf-8";
static const char html_type[] = "text/html; charset=utf-8";

/* HTML, alone or with its inline parts. */
static void check_html(struct arena *arena, const struct mime_entity *e, const struct event *ev,
                       size_t related, bool ends_message)
{
    struct slice parts[MIME_READER_MAX_PARTS];
    size_t count, at = 1;

    if (related == 0) {
        check_text(arena, e, html_type, ev->html, ends_message);
        return;
    }
    REQUIRE(is_type(e, "multipart/related;"));
    count = mime_parts(arena, e, parts, MIME_READER_MAX_PARTS);
    REQUIRE(count == related + 1);
    check_text(arena, parse(arena, parts[0]), html_type, ev->html, false);
    for (size_t i = 0; i < ev->attachments_len; i++)
        if (ev->attachments[i].content_id.len)
            check_attachment(arena, parse(arena, parts[at++]), &ev->attachments[i]);
}

static void check_readable(struct arena *arena, const struct mime_entity *e, const struct event *ev,
                           size_t related, bool ends_message)
{
    struct slice parts[3];

    if (!ev->html.ptr) {
        check_text(arena, e, plain_type, ev->text, ends_message);
    } else if (!ev->text.ptr) {
        check_html(arena, e, ev, related, ends_message);
    } else {
        REQUIRE(is_type(e, "multipart/alternative;"));
        REQUIRE(mime_parts(arena, e, parts, 3) == 2);
        check_text(arena, parse(arena, parts[0]), plain_type, ev->text, false);
        check_html(arena, parse(arena, parts[1]), ev, related, false);
    }
}

static void check_content(struct arena *arena, const struct mime_entity *e, const struct event *ev)
{
    struct slice parts[MIME_READER_MAX_PARTS];
    size_t related = 0, at = 1;

    for (size_t i = 0; ev->html.ptr && i < ev->attachments_len; i++)
        related += ev->attachments[i].content_id.len > 0;
    if (related == ev->attachments_len) {
        check_readable(arena, e, ev, related, true);
        return;
    }
    REQUIRE(is_type(e, "multipart/mixed;"));
    REQUIRE(mime_parts(arena, e, parts, MIME_READER_MAX_PARTS) ==
            1 + ev->attachments_len - related);
    check_readable(arena, parse(arena, parts[0]), ev, related, false);
    for (size_t i = 0; i < ev->attachments_len; i++)
        if (!ev->html.ptr || !ev->attachments[i].content_id.len)
            check_attachment(arena, parse(arena, parts[at++]), &ev->attachments[i]);
}

static size_t check_addresses(struct arena *arena, const struct mime_entity *e, const char *name,
                              const struct address *items, size_t len)
{
    struct mime_mailbox boxes[2 * MAX_LIST];
    const struct slice value = mime_field(e, name);

    REQUIRE((value.ptr != NULL) == (len > 0));
    if (!len)
        return 0;
    REQUIRE(mime_mailboxes(arena, value, boxes, 2 * MAX_LIST) == len);
    for (size_t i = 0; i < len; i++)
        REQUIRE(slice_equal(boxes[i].spec, items[i].spec) &&
                slice_equal(boxes[i].name, items[i].name));
    return 1;
}

static struct slice trimmed(struct slice s)
{
    while (s.len && s.ptr[0] == ' ')
        s = slice_of(s.ptr + 1, s.len - 1);
    while (s.len && s.ptr[s.len - 1] == ' ')
        s.len--;
    return s;
}

/* Each field once, with its value, and none that nobody asked for. */
static void check_header(struct arena *arena, const struct mime_entity *e, const struct event *ev,
                         const struct message *m, int64_t date_unix_ms)
{
    struct buf id = {0};
    char name[EVENT_MAX_HEADER_NAME + 1];
    size_t expected = 4; /* Subject, Message-ID, MIME-Version, Content-Type */

    expected += check_addresses(arena, e, "From", m->from, 1);
    expected += check_addresses(arena, e, "Reply-To", &ev->reply_to, ev->reply_to.spec.ptr != NULL);
    expected += check_addresses(arena, e, "To", ev->to.items, ev->to.len);
    expected += check_addresses(arena, e, "Cc", ev->cc.items, ev->cc.len);
    REQUIRE(slice_equal(mime_decode_words(arena, mime_field(e, "Subject")), ev->subject));
    message_id_header(ev->message_id, address_domain(m->from), &id);
    REQUIRE(slice_equal(mime_field(e, "Message-ID"), buf_slice(&id)));
    buf_cleanup(&id);
    REQUIRE(slice_is(mime_field(e, "MIME-Version"), "1.0"));
    for (size_t i = 0; i < ev->headers_len; i++, expected++) {
        snprintf(name, sizeof(name), "%.*s", SLICE_ARG(ev->headers[i].name));
        REQUIRE(slice_equal(trimmed(mime_decode_words(arena, mime_field(e, name))),
                            trimmed(ev->headers[i].value)));
    }
    REQUIRE((mime_field(e, "Date").ptr != NULL) == (date_unix_ms >= 0));
    expected += date_unix_ms >= 0;
    expected += mime_field(e, "Content-Transfer-Encoding").ptr != NULL;
    REQUIRE(e->headers_len == expected && !mime_field(e, "Bcc").ptr);
}

static bool any_utf8(const struct event *ev, const struct address *from)
{
    bool any = from->utf8_local || (ev->reply_to.spec.ptr && ev->reply_to.utf8_local);

    for (size_t i = 0; i < ev->recipients_len; i++)
        any = any || event_recipient(ev, i)->utf8_local;
    return any;
}

static void check_message(struct arena *arena, const struct event *ev, int64_t date_unix_ms)
{
    struct message_settings settings = {.from = {.name = slice_str("Sender, Inc."),
                                                 .spec = slice_str("noreply@example.com"),
                                                 .local_len = 7}};
    struct message first, second;
    struct mime_entity *e;

    message_init(&first);
    message_init(&second);
    REQUIRE(message_compose(&first, ev, &settings, date_unix_ms, NULL));
    REQUIRE(message_compose(&second, ev, &settings, date_unix_ms, NULL));
    REQUIRE(slice_equal(buf_slice(&first.bytes), buf_slice(&second.bytes)));
    REQUIRE(first.utf8 == any_utf8(ev, first.from));
    mime_check_wire(buf_slice(&first.bytes), first.utf8);
    e = parse(arena, buf_slice(&first.bytes));
    check_header(arena, e, ev, &first, date_unix_ms);
    check_content(arena, e, ev);
    message_cleanup(&first);
    message_cleanup(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tape tape = tape_of(data, size);
    const int64_t date_unix_ms = tape_flag(&tape) ? (int64_t)tape_number(&tape, 1 << 24) << 20 : -1;
    json_t *json = take_event(&tape);
    char *text = json_dumps(json, JSON_COMPACT);
    struct arena arena;
    struct event ev;

    REQUIRE(text);
    arena_init(&arena);
    /* What the validator refuses (an empty messageID, a word too long to fold) is none of the
     * composer's business. */
    if (event_decode(&arena, slice_str(text), SIZE_MAX, &ev, NULL) == EVENT_OK)
        check_message(&arena, &ev, date_unix_ms);
    arena_cleanup(&arena);
    free(text);
    json_decref(json);
    return 0;
}
