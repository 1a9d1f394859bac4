#include "producer/event_json.h"

#include "base/clock.h"
#include "base/json_out.h"
#include "email/mime_base64.h"

#define MAX_EXPIRES_SECONDS (100ll * 366 * 24 * 3600)

/* json_out_string mends what is not UTF-8; a mail must say what its sender wrote. */
static bool put_text(struct buf *b, const char *field, const char *text, struct error *err)
{
    return json_out_string(b, slice_str(text)) || error_set(err, "%s: not valid UTF-8", field);
}

static bool put_field(struct buf *b, const char *name, const char *text, struct error *err)
{
    if (!text)
        return true;
    json_out_name(b, name);
    return put_text(b, name, text, err);
}

static bool put_list(struct buf *b, const char *name, const char *one, const char *const *list,
                     struct error *err)
{
    if (!one && !list)
        return true;
    json_out_name(b, name);
    buf_add_char(b, '[');
    if (one && !put_text(b, name, one, err))
        return false;
    for (; list && *list; list++) {
        json_out_comma(b);
        if (!put_text(b, name, *list, err))
            return false;
    }
    buf_add_char(b, ']');
    return true;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Index behind the string that begins before `at`. */
static size_t string_end(struct slice s, size_t at)
{
    while (at < s.len && s.ptr[at] != '"')
        at += s.ptr[at] == '\\' ? 2 : 1;
    return at < s.len ? at + 1 : s.len;
}

/* True where the bracket that opens s closes with its last byte, so that nothing can follow the
 * object. Whether it is well-formed inside is for the parser of the whole to say. */
static bool is_one_object(struct slice s)
{
    size_t at = 0, depth = 0;

    if (!s.len || s.ptr[0] != '{' || s.ptr[s.len - 1] != '}')
        return false;
    while (at < s.len) {
        const char c = s.ptr[at++];
        if (c == '"')
            at = string_end(s, at);
        else if (c == '{' || c == '[')
            depth++;
        else if ((c == '}' || c == ']') && --depth == 0)
            return at == s.len;
    }
    return false;
}

static bool put_object(struct buf *b, const char *name, const char *json, struct error *err)
{
    struct slice s = slice_str(json);

    if (!json)
        return true;
    while (s.len && is_space(s.ptr[0]))
        s = slice_of(s.ptr + 1, s.len - 1);
    while (s.len && is_space(s.ptr[s.len - 1]))
        s.len--;
    if (!is_one_object(s))
        return error_set(err, "%s: not one JSON object", name);
    json_out_name(b, name);
    buf_add_slice(b, s);
    return true;
}

static bool put_attachment(struct buf *b, const email_attachment *a, struct error *err)
{
    json_out_comma(b);
    buf_add_char(b, '{');
    if (!put_field(b, "filename", a->filename, err) ||
        !put_field(b, "contentType", a->content_type, err) ||
        !put_field(b, "contentID", a->content_id, err))
        return false;
    if (a->content_len && !a->content)
        return error_set(err, "attachments: content_len without content");
    json_out_name(b, "content");
    buf_add_char(b, '"');
    if (a->content_len > SIZE_MAX / 4)
        return error_set(err, "attachments: too large");
    if (a->content_len && buf_reserve(b, mime_base64_len(a->content_len)))
        b->len = (size_t)(mime_base64_put(b->ptr + b->len, a->content, a->content_len) - b->ptr);
    buf_add_str(b, "\"}");
    return true;
}

static bool put_attachments(struct buf *b, const email_event *event, struct error *err)
{
    if (!event->attachments_len)
        return true;
    if (!event->attachments)
        return error_set(err, "attachments: attachments_len without attachments");
    json_out_name(b, "attachments");
    buf_add_char(b, '[');
    for (size_t i = 0; i < event->attachments_len; i++)
        if (!put_attachment(b, &event->attachments[i], err))
            return false;
    buf_add_char(b, ']');
    return true;
}

static bool put_headers(struct buf *b, const email_event *event, struct error *err)
{
    if (!event->headers_len)
        return true;
    if (!event->headers)
        return error_set(err, "headers: headers_len without headers");
    json_out_name(b, "headers");
    buf_add_char(b, '{');
    for (size_t i = 0; i < event->headers_len; i++) {
        const email_header *h = &event->headers[i];
        if (!h->name || !h->value)
            return error_set(err, "headers: a name or a value is missing");
        json_out_comma(b);
        if (!put_text(b, "headers", h->name, err))
            return false;
        buf_add_char(b, ':');
        if (!put_text(b, "headers", h->value, err))
            return false;
    }
    buf_add_char(b, '}');
    return true;
}

static void put_instant(struct buf *b, const char *name, int64_t unix_ms)
{
    char text[RFC3339_SIZE];

    rfc3339_format(unix_ms, text);
    json_out_field_str(b, name, slice_str(text));
}

static bool put_times(struct buf *b, const email_event *event, int64_t now_unix_ms,
                      struct error *err)
{
    put_instant(b, "createdAt", now_unix_ms);
    if (event->expires_in_seconds < 0 || event->expires_in_seconds > MAX_EXPIRES_SECONDS)
        return error_set(err, "expires_in_seconds: negative, or more than a hundred years");
    if (event->expires_in_seconds > 0)
        put_instant(b, "expiresAt", now_unix_ms + event->expires_in_seconds * 1000);
    return true;
}

bool event_json_write(struct buf *out, const email_event *event, struct slice message_id,
                      int64_t now_unix_ms, struct error *err)
{
    bool good;

    buf_add_char(out, '{');
    good = put_field(out, "messageID", message_id.ptr, err) &&
           put_field(out, "type", event->type, err) &&
           put_list(out, "to", event->to, event->to_list, err) &&
           put_list(out, "cc", NULL, event->cc_list, err) &&
           put_list(out, "bcc", NULL, event->bcc_list, err) &&
           put_field(out, "from", event->from, err) &&
           put_field(out, "replyTo", event->reply_to, err) &&
           put_field(out, "subject", event->subject, err) &&
           put_field(out, "text", event->text, err) && put_field(out, "html", event->html, err) &&
           put_field(out, "template", event->template_name, err) &&
           put_field(out, "locale", event->locale, err) &&
           put_object(out, "data", event->data_json, err) && put_attachments(out, event, err) &&
           put_headers(out, event, err) && put_times(out, event, now_unix_ms, err) &&
           put_object(out, "metadata", event->metadata_json, err);
    buf_add_char(out, '}');
    return good;
}

void event_json_add_created_at(struct buf *out, struct slice json, int64_t now_unix_ms)
{
    const char *brace = memchr(json.ptr, '{', json.len);
    const size_t head = brace ? (size_t)(brace - json.ptr) + 1 : json.len;

    buf_add(out, json.ptr, head);
    put_instant(out, "createdAt", now_unix_ms);
    if (head < json.len)
        buf_add_char(out, ',');
    buf_add(out, json.ptr + head, json.len - head);
}
