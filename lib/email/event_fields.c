#include "email/event_fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "base/clock.h"
#include "email/json_read.h"
#include "email/syntax.h"

/* Where in the event something is wrong: `field`, `field[index]` or `field[index].part`. */
struct place {
    const char *field;
    size_t index; /* NO_INDEX where the field is no array */
    const char *part;
};

#define NO_INDEX SIZE_MAX
#define PLACE(name) ((struct place){(name), NO_INDEX, NULL})

static bool invalid(struct event_decoder *d, struct place at, const char *format, ...)
    BASE_PRINTF(3, 4);

/* Texts never repeat what the event holds: they end up in a header and in the log. */
static bool invalid(struct event_decoder *d, struct place at, const char *format, ...)
{
    char why[160], index[24] = "";
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    if (at.index != NO_INDEX)
        snprintf(index, sizeof(index), "[%zu]", at.index);
    d->status = EVENT_INVALID;
    return error_set(d->err, "%s%s%s%s: %s", at.field, index, at.part ? "." : "",
                     at.part ? at.part : "", why);
}

static bool no_memory(struct event_decoder *d)
{
    d->status = EVENT_NO_MEMORY;
    return error_set(d->err, "out of memory");
}

static bool is_string(const struct json_in *value)
{
    return value->kind == JSON_IN_STRING;
}

static bool is_object(const struct json_in *value)
{
    return value->kind == JSON_IN_OBJECT;
}

static bool is_array(const struct json_in *value)
{
    return value->kind == JSON_IN_ARRAY;
}

/* ---- strings ---- */

/* What the event holds on to. */
static bool keep(struct event_decoder *d, struct slice text, struct slice *out)
{
    const struct slice *lasting = d->lasting;

    if (lasting && (text.ptr < lasting->ptr || text.ptr + text.len > lasting->ptr + lasting->len))
        text = arena_copy(d->arena, text);
    *out = text;
    return text.ptr || no_memory(d);
}

static bool need_string(struct event_decoder *d, struct place at, const struct json_in *value)
{
    if (!value)
        return invalid(d, at, "missing");
    return is_string(value) || invalid(d, at, "must be a string");
}

/* Any string; json_in has refused NUL and ill-formed UTF-8. */
static bool take_text(struct event_decoder *d, struct place at, const struct json_in *value,
                      struct slice *out)
{
    return need_string(d, at, value) && keep(d, value->text, out);
}

/* A string for a header: one line of at most max bytes. */
static bool take_line(struct event_decoder *d, struct place at, const struct json_in *value,
                      size_t max, struct slice *out)
{
    if (!need_string(d, at, value))
        return false;
    if (value->text.len > max)
        return invalid(d, at, "longer than %zu bytes", max);
    if (!syntax_is_line(value->text))
        return invalid(d, at, "has a control character");
    return keep(d, value->text, out);
}

/* A line of the given form. */
static bool take_word(struct event_decoder *d, struct place at, const struct json_in *value,
                      size_t max, bool (*form)(struct slice), const char *wanted, struct slice *out)
{
    struct slice text;

    if (!take_line(d, at, value, max, &text))
        return false;
    if (!form(text))
        return invalid(d, at, "must be %s", wanted);
    *out = text; /* only now: messageID is to be absent where it isn't valid */
    return true;
}

static bool decode_message_id(struct event_decoder *d, const char *name,
                              const struct json_in *value)
{
    return take_word(d, PLACE(name), value, EVENT_MAX_MESSAGE_ID, syntax_is_graphic,
                     "1 to 200 printable ASCII characters without space", &d->ev->message_id);
}

static bool decode_type(struct event_decoder *d, const char *name, const struct json_in *value)
{
    return take_word(d, PLACE(name), value, EVENT_MAX_TYPE, syntax_is_event_type,
                     "lower-case letters, digits, \"_\", \".\" and \"-\"", &d->ev->type);
}

static bool decode_subject(struct event_decoder *d, const char *name, const struct json_in *value)
{
    return take_line(d, PLACE(name), value, EVENT_MAX_SUBJECT, &d->ev->subject);
}

static bool decode_text(struct event_decoder *d, const char *name, const struct json_in *value)
{
    return take_text(d, PLACE(name), value, &d->ev->text);
}

static bool decode_html(struct event_decoder *d, const char *name, const struct json_in *value)
{
    return take_text(d, PLACE(name), value, &d->ev->html);
}

/* ---- times and objects ---- */

static bool take_time(struct event_decoder *d, struct place at, const struct json_in *value,
                      bool *has, int64_t *unix_ms)
{
    if (!need_string(d, at, value))
        return false;
    *has = rfc3339_parse(value->text, unix_ms);
    return *has || invalid(d, at, "must be an RFC 3339 date-time");
}

static bool decode_created_at(struct event_decoder *d, const char *name,
                              const struct json_in *value)
{
    return take_time(d, PLACE(name), value, &d->ev->has_created_at, &d->ev->created_at_unix_ms);
}

static bool decode_expires_at(struct event_decoder *d, const char *name,
                              const struct json_in *value)
{
    return take_time(d, PLACE(name), value, &d->ev->has_expires_at, &d->ev->expires_at_unix_ms);
}

static bool need_object(struct event_decoder *d, struct place at, const struct json_in *value)
{
    return is_object(value) || invalid(d, at, "must be an object");
}

static bool decode_metadata(struct event_decoder *d, const char *name, const struct json_in *value)
{
    return need_object(d, PLACE(name), value);
}

/* ---- template ---- */

static bool decode_template(struct event_decoder *d, const char *name, const struct json_in *value)
{
    return take_word(d, PLACE(name), value, EVENT_MAX_TEMPLATE, syntax_is_template_name,
                     "letters, digits, \"_\" and \"-\"", &d->ev->template_name);
}

static bool decode_locale(struct event_decoder *d, const char *name, const struct json_in *value)
{
    struct slice locale;

    if (!take_word(d, PLACE(name), value, EVENT_MAX_LOCALE, syntax_is_locale,
                   "a language tag such as \"de\" or \"pt-BR\"", &locale))
        return false;
    if (d->ev->template_name.ptr)
        d->ev->locale = locale;
    return true;
}

/* As jansson reads and writes it, since that is what fingerprints have always been made of: a
 * second reading, for the few events that name a template. */
static json_t *load_again(struct slice json, bool *out_of_memory)
{
    json_error_t fault;
    json_t *value = json_read(json, 0, &fault, out_of_memory);

    if (!value && !*out_of_memory) /* an integer beyond 64 bits */
        value = json_read(json, JSON_DECODE_INT_AS_REAL, &fault, out_of_memory);
    return value;
}

/* The result lies in the arena; absent where memory is out. */
static struct slice write_sorted(struct arena *arena, const json_t *value)
{
    /* 15 digits: every decimal of up to 15 comes out as it was written, 9.99 and
     * not 9.9900000000000002. */
    const size_t flags = JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(15);
    const size_t len = json_dumpb(value, NULL, 0, flags);
    char *text = len ? arena_alloc(arena, len + 1) : NULL;

    if (!text || json_dumpb(value, text, len, flags) != len)
        return slice_of(NULL, 0);
    return slice_of(text, len);
}

static bool decode_data(struct event_decoder *d, const char *name, const struct json_in *value)
{
    bool out_of_memory;
    json_t *data;

    if (!need_object(d, PLACE(name), value))
        return false;
    if (!d->ev->template_name.ptr)
        return true;
    data = load_again(value->text, &out_of_memory);
    if (!data && !out_of_memory)
        return invalid(d, PLACE(name), "a number is too large");
    if (data)
        d->ev->data = write_sorted(d->arena, data);
    json_decref(data);
    return d->ev->data.ptr || no_memory(d);
}

/* ---- addresses ---- */

/* Turns what the address parser said into a fault of this place. */
static bool address_done(struct event_decoder *d, struct place at, enum address_status status,
                         const struct error *why)
{
    if (status == ADDRESS_NO_MEMORY)
        return no_memory(d);
    return status == ADDRESS_OK || invalid(d, at, "%s", why->text);
}

static bool take_address_object(struct event_decoder *d, struct place at,
                                const struct json_in *value, struct address *out)
{
    const struct json_in *name = json_in_get(value, "name");
    const struct json_in *email = json_in_get(value, "email");
    struct error why = {0};

    at.part = "name";
    if (name && !need_string(d, at, name))
        return false;
    at.part = "email";
    if (!need_string(d, at, email))
        return false;
    at.part = NULL;
    return address_done(
        d, at,
        address_read_parts(d->arena, email->text, name ? name->text : slice_of(NULL, 0), out, &why),
        &why);
}

static bool take_address(struct event_decoder *d, struct place at, const struct json_in *value,
                         struct address *out)
{
    struct error why = {0};

    if (is_object(value))
        return take_address_object(d, at, value, out);
    if (!is_string(value))
        return invalid(d, at, "must be an address: a string or an object");
    return address_done(d, at, address_read(d->arena, value->text, out, &why), &why);
}

static bool take_address_array(struct event_decoder *d, const char *name,
                               const struct json_in *array, struct address_list *list)
{
    const size_t len = array->len;
    size_t i = 0;

    if (len > EVENT_MAX_RECIPIENTS - d->ev->to.len - d->ev->cc.len - d->ev->bcc.len)
        return invalid(d, PLACE(name), "more than %d recipients in all", EVENT_MAX_RECIPIENTS);
    if (len == 0)
        return true;
    list->items = arena_alloc(d->arena, len * sizeof(*list->items));
    if (!list->items)
        return no_memory(d);
    for (const struct json_in *item = array->first; item; item = item->next, i++)
        if (!take_address(d, (struct place){name, i, NULL}, item, &list->items[i]))
            return false;
    list->len = len;
    return true;
}

static bool take_addresses(struct event_decoder *d, const char *name, const struct json_in *value,
                           struct address_list *list)
{
    if (is_array(value))
        return take_address_array(d, name, value, list);
    if (d->ev->to.len + d->ev->cc.len + d->ev->bcc.len == EVENT_MAX_RECIPIENTS)
        return invalid(d, PLACE(name), "more than %d recipients in all", EVENT_MAX_RECIPIENTS);
    list->items = arena_alloc(d->arena, sizeof(*list->items));
    if (!list->items)
        return no_memory(d);
    list->len = 1;
    return take_address(d, PLACE(name), value, list->items);
}

static bool decode_to(struct event_decoder *d, const char *name, const struct json_in *value)
{
    if (!value)
        return invalid(d, PLACE(name), "missing");
    return take_addresses(d, name, value, &d->ev->to) &&
           (d->ev->to.len > 0 || invalid(d, PLACE(name), "names no recipient"));
}

static bool decode_cc(struct event_decoder *d, const char *name, const struct json_in *value)
{
    return take_addresses(d, name, value, &d->ev->cc);
}

static bool decode_bcc(struct event_decoder *d, const char *name, const struct json_in *value)
{
    return take_addresses(d, name, value, &d->ev->bcc);
}

static bool decode_from(struct event_decoder *d, const char *name, const struct json_in *value)
{
    return take_address(d, PLACE(name), value, &d->ev->from);
}

static bool decode_reply_to(struct event_decoder *d, const char *name, const struct json_in *value)
{
    return take_address(d, PLACE(name), value, &d->ev->reply_to);
}

/* ---- attachments ---- */

static bool take_content_type(struct event_decoder *d, struct place at, const struct json_in *value,
                              struct slice *out)
{
    return take_word(d, at, value, EVENT_MAX_CONTENT_TYPE, syntax_is_content_type,
                     "a media type such as \"application/pdf\"", out) &&
           (!syntax_is_composite_type(*out) ||
            invalid(d, at, "multipart and message types can't be attached"));
}

static bool take_content(struct event_decoder *d, struct place at, const struct json_in *value,
                         struct slice *out)
{
    unsigned char *bytes;
    size_t len;

    if (!need_string(d, at, value))
        return false;
    bytes = arena_alloc(d->arena, value->text.len / 4 * 3 + 1);
    if (!bytes)
        return no_memory(d);
    if (!syntax_base64_decode(value->text, bytes, &len))
        return invalid(d, at, "not valid base64");
    *out = slice_of((char *)bytes, len);
    return true;
}

static bool is_content_id(struct slice text)
{
    return syntax_is_graphic(text) && !memchr(text.ptr, '<', text.len) &&
           !memchr(text.ptr, '>', text.len);
}

static bool take_content_id(struct event_decoder *d, struct place at, const struct json_in *value,
                            struct slice *out)
{
    if (!take_word(d, at, value, EVENT_MAX_CONTENT_ID, is_content_id,
                   "printable ASCII characters without space, \"<\" and \">\"", out))
        return false;
    for (size_t i = 0; i < at.index; i++)
        if (d->ev->attachments[i].content_id.ptr &&
            slice_equal(d->ev->attachments[i].content_id, *out))
            return invalid(d, at, "the same as that of attachments[%zu]", i);
    return true;
}

static bool take_filename(struct event_decoder *d, struct place at, const struct json_in *value,
                          struct slice *out)
{
    return take_line(d, at, value, EVENT_MAX_FILENAME, out) &&
           (out->len > 0 || invalid(d, at, "empty"));
}

static bool take_attachment(struct event_decoder *d, struct place at, const struct json_in *value,
                            struct attachment *out)
{
    const struct json_in *content_id = json_in_get(value, "contentID");

    if (!need_object(d, at, value))
        return false;
    at.part = "filename";
    if (!take_filename(d, at, json_in_get(value, at.part), &out->filename))
        return false;
    at.part = "contentType";
    if (!take_content_type(d, at, json_in_get(value, at.part), &out->content_type))
        return false;
    at.part = "content";
    if (!take_content(d, at, json_in_get(value, at.part), &out->content))
        return false;
    at.part = "contentID";
    return !content_id || take_content_id(d, at, content_id, &out->content_id);
}

static bool decode_attachments(struct event_decoder *d, const char *name,
                               const struct json_in *value)
{
    const size_t len = value->len;
    size_t i = 0;

    if (!is_array(value))
        return invalid(d, PLACE(name), "must be an array");
    if (len > EVENT_MAX_ATTACHMENTS)
        return invalid(d, PLACE(name), "more than %d", EVENT_MAX_ATTACHMENTS);
    if (len == 0)
        return true;
    d->ev->attachments = arena_alloc(d->arena, len * sizeof(*d->ev->attachments));
    if (!d->ev->attachments)
        return no_memory(d);
    for (const struct json_in *item = value->first; item; item = item->next, i++)
        if (!take_attachment(d, (struct place){name, i, NULL}, item, &d->ev->attachments[i]))
            return false;
    d->ev->attachments_len = len;
    return true;
}

/* ---- extra headers ---- */

/* A header's name helps whoever reads the dead letter, and one of letters, digits and hyphens is
 * harmless. Others could be anything, even an address. */
static const char *name_to_tell(const char *name)
{
    for (const char *c = name; *c; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
              *c == '-'))
            return "(a name)";
    return name;
}

static bool take_header(struct event_decoder *d, const char *field, const struct json_in *value,
                        struct extra_header *out)
{
    const struct slice name = value->name;
    struct place at = PLACE(field);

    if (name.len > EVENT_MAX_HEADER_NAME || !syntax_is_header_name(name))
        return invalid(d, at, "a name is not 1 to 64 printable ASCII characters without \":\"");
    at.part = name_to_tell(name.ptr);
    if (syntax_is_reserved_header(name))
        return invalid(d, at, "can't be set by an event");
    if (!take_line(d, at, value, EVENT_MAX_HEADER_VALUE, &out->value))
        return false;
    if (syntax_longest_word(out->value) > EVENT_MAX_HEADER_WORD)
        return invalid(d, at, "more than %d bytes without a space", EVENT_MAX_HEADER_WORD);
    return keep(d, name, &out->name);
}

static int compare_headers(const void *a, const void *b)
{
    const struct extra_header *left = a, *right = b;

    return syntax_compare_nocase(left->name, right->name);
}

/* A JSON object has no order, so that publishers may write it in any: sorted, the same event gives
 * the same message and the same fingerprint. It also brings names that differ only by case
 * together. */
static bool sort_headers(struct event_decoder *d, const char *field)
{
    struct extra_header *headers = d->ev->headers;

    qsort(headers, d->ev->headers_len, sizeof(*headers), compare_headers);
    for (size_t i = 1; i < d->ev->headers_len; i++)
        if (compare_headers(&headers[i - 1], &headers[i]) == 0)
            return invalid(d, (struct place){field, NO_INDEX, name_to_tell(headers[i].name.ptr)},
                           "given twice");
    return true;
}

static bool decode_headers(struct event_decoder *d, const char *name, const struct json_in *value)
{
    const size_t len = value->len;

    if (!need_object(d, PLACE(name), value))
        return false;
    if (len > EVENT_MAX_HEADERS)
        return invalid(d, PLACE(name), "more than %d", EVENT_MAX_HEADERS);
    if (len == 0)
        return true;
    d->ev->headers = arena_alloc(d->arena, len * sizeof(*d->ev->headers));
    if (!d->ev->headers)
        return no_memory(d);
    for (const struct json_in *item = value->first; item; item = item->next) {
        if (!take_header(d, name, item, &d->ev->headers[d->ev->headers_len]))
            return false;
        d->ev->headers_len++;
    }
    return sort_headers(d, name);
}

/* ---- all of them ---- */

struct field {
    const char *name;
    bool needed; /* the decoder is called with NULL where the field is missing */
    bool (*decode)(struct event_decoder *d, const char *name, const struct json_in *value);
};

/* messageID comes first so that every other fault can be told together with it; template before
 * what fills it. */
static const struct field fields[] = {
    {"messageID", true, decode_message_id},
    {"type", false, decode_type},
    {"to", true, decode_to},
    {"cc", false, decode_cc},
    {"bcc", false, decode_bcc},
    {"from", false, decode_from},
    {"replyTo", false, decode_reply_to},
    {"subject", false, decode_subject},
    {"text", false, decode_text},
    {"html", false, decode_html},
    {"template", false, decode_template},
    {"locale", false, decode_locale},
    {"data", false, decode_data},
    {"attachments", false, decode_attachments},
    {"headers", false, decode_headers},
    {"createdAt", false, decode_created_at},
    {"expiresAt", false, decode_expires_at},
    {"metadata", false, decode_metadata},
};

/* What several fields decide together. */
static bool check_whole(struct event_decoder *d)
{
    const struct event *ev = d->ev;

    if (ev->template_name.ptr)
        return true;
    if (!ev->subject.ptr)
        return invalid(d, PLACE("subject"), "missing, and no template gives it");
    if (!ev->text.ptr && !ev->html.ptr)
        return invalid(d, PLACE("text"), "missing, and so are html and template");
    return true;
}

bool event_fields_decode(struct event_decoder *d, const struct json_in *object)
{
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const struct json_in *value = json_in_get(object, fields[i].name);
        if ((value || fields[i].needed) && !fields[i].decode(d, fields[i].name, value))
            return false;
    }
    return check_whole(d);
}
