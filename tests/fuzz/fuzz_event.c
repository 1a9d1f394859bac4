/* Events as they come from Kafka, whatever stands in the record: what is accepted keeps the
 * documented rules and can be composed; what is refused is refused in words that fit a header. */
#include "fuzz.h"

#include <jansson.h>

#include "base/utf8.h"
#include "email/event.h"
#include "email/message.h"
#include "email/syntax.h"
#include "mime_reader.h"

enum { MAX_EVENT_BYTES = 1 << 20 };

static void check_address(const struct address *a)
{
    REQUIRE(a->spec.len > 2 && a->spec.len <= ADDRESS_MAX && a->spec.ptr[a->local_len] == '@');
    REQUIRE(syntax_is_line(a->spec) && syntax_is_line(a->name));
}

static void check_recipients(const struct event *ev)
{
    REQUIRE(event_recipients(ev) >= 1 && event_recipients(ev) <= EVENT_MAX_RECIPIENTS);
    REQUIRE(event_recipients(ev) <= ev->to.len + ev->cc.len + ev->bcc.len);
    for (size_t i = 0; i < event_recipients(ev); i++) {
        check_address(event_recipient(ev, i));
        for (size_t k = 0; k < i; k++)
            REQUIRE(!slice_equal(event_recipient(ev, i)->spec, event_recipient(ev, k)->spec));
    }
}

static void check_headers(const struct event *ev)
{
    for (size_t i = 0; i < ev->headers_len; i++) {
        const struct extra_header *h = &ev->headers[i];
        REQUIRE(syntax_is_header_name(h->name) && !syntax_is_reserved_header(h->name));
        REQUIRE(syntax_is_line(h->value) && h->name.len <= EVENT_MAX_HEADER_NAME);
        if (i > 0)
            REQUIRE(syntax_compare_nocase(ev->headers[i - 1].name, h->name) < 0);
    }
}

static void check_attachments(const struct event *ev)
{
    REQUIRE(ev->attachments_len <= EVENT_MAX_ATTACHMENTS);
    for (size_t i = 0; i < ev->attachments_len; i++) {
        const struct attachment *a = &ev->attachments[i];
        REQUIRE(a->filename.len > 0 && syntax_is_line(a->filename));
        REQUIRE(syntax_is_content_type(a->content_type) &&
                !syntax_is_composite_type(a->content_type));
        REQUIRE(!a->content_id.ptr || syntax_is_graphic(a->content_id));
    }
}

static void check_message_id(struct slice id)
{
    REQUIRE(id.len <= EVENT_MAX_MESSAGE_ID && syntax_is_graphic(id));
}

static bool same_as(const json_t *root, const char *name, struct slice value)
{
    const json_t *field = json_object_get(root, name);

    if (!field)
        return !value.ptr;
    return slice_equal(slice_of(json_string_value(field), json_string_length(field)), value);
}

/* Against the JSON itself; and written anew, with its members in another order, it is the same
 * event. */
static void check_against_json(struct slice text, const struct event *ev)
{
    json_t *root = json_loadb(text.ptr, text.len, 0, NULL);
    struct arena arena;
    struct event again;
    char *sorted;

    if (!root) /* an integer beyond 64 bits, which events may carry along */
        return;
    REQUIRE(same_as(root, "messageID", ev->message_id) && same_as(root, "subject", ev->subject));
    REQUIRE(same_as(root, "text", ev->text) && same_as(root, "html", ev->html));
    sorted = json_dumps(root, JSON_SORT_KEYS | JSON_ENSURE_ASCII);
    json_decref(root);
    REQUIRE(sorted);
    arena_init(&arena);
    REQUIRE(event_decode(&arena, slice_str(sorted), SIZE_MAX, &again, NULL) == EVENT_OK);
    REQUIRE(strcmp(again.fingerprint, ev->fingerprint) == 0);
    arena_cleanup(&arena);
    free(sorted);
}

static void check_composes(const struct event *ev)
{
    const struct message_settings settings = {
        .from = {.spec = slice_str("noreply@example.com"), .local_len = 7}};
    struct message m;

    message_init(&m);
    if (ev->text.ptr || ev->html.ptr) {
        REQUIRE(message_compose(&m, ev, &settings, -1, NULL));
        mime_check_wire(buf_slice(&m.bytes), m.utf8);
    }
    message_cleanup(&m);
}

static void check_accepted(struct slice text, const struct event *ev)
{
    check_message_id(ev->message_id);
    REQUIRE(syntax_is_event_type(ev->type) && ev->type.len <= EVENT_MAX_TYPE);
    check_recipients(ev);
    check_headers(ev);
    check_attachments(ev);
    REQUIRE(!ev->subject.ptr || syntax_is_line(ev->subject));
    REQUIRE(ev->template_name.ptr || (ev->subject.ptr && (ev->text.ptr || ev->html.ptr)));
    REQUIRE(strlen(ev->fingerprint) == EVENT_FINGERPRINT_LEN);
    check_against_json(text, ev);
    check_composes(ev);
}

static void check_refused(const struct event *ev, const struct error *err)
{
    REQUIRE(err->set && err->text[0]);
    REQUIRE(syntax_is_line(slice_str(err->text)) && utf8_is_ascii(slice_str(err->text)));
    if (ev->message_id.ptr)
        check_message_id(ev->message_id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct slice text = heap_copy(slice_of((const char *)data, size));
    struct error err = {0};
    struct arena arena;
    struct event ev;
    enum event_status status;

    arena_init(&arena);
    status = event_decode(&arena, text, MAX_EVENT_BYTES, &ev, &err);
    REQUIRE(status == EVENT_OK || status == EVENT_INVALID);
    if (status == EVENT_OK)
        check_accepted(text, &ev);
    else
        check_refused(&ev, &err);
    if (size > 1) {
        err = (struct error){0};
        REQUIRE(event_decode(&arena, text, size - 1, &ev, &err) == EVENT_TOO_LARGE);
        check_refused(&ev, &err);
    }
    arena_cleanup(&arena);
    heap_free(text);
    return 0;
}
