#include "email/message.h"

#include "email/mime_base64.h"
#include "email/mime_body.h"
#include "email/mime_chars.h"
#include "email/mime_fold.h"
#include "email/mime_header.h"
#include "email/mime_param.h"
#include "email/syntax.h"

/* Nesting is fixed (mixed around related or alternative), so one boundary for each kind is enough.
 */
#define BOUNDARY_MIXED MIME_BOUNDARY_START "b1_mixed"
#define BOUNDARY_ALTERNATIVE MIME_BOUNDARY_START "b2_alternative"
#define BOUNDARY_RELATED MIME_BOUNDARY_START "b3_related"

void message_init(struct message *m)
{
    *m = (struct message){0};
    buf_init(&m->bytes);
}

void message_cleanup(struct message *m)
{
    buf_cleanup(&m->bytes);
    *m = (struct message){0};
}

/* "=?" is legal in dot-atoms, but loose decoders take it for an encoded-word wherever it stands. */
static bool id_char_stands(struct slice id, size_t i)
{
    bool last = i + 1 == id.len;

    if (id.ptr[i] == '.')
        return i > 0 && !last && id.ptr[i - 1] != '.';
    if (id.ptr[i] == '=')
        return last || id.ptr[i + 1] != '?';
    return id.ptr[i] != '%' && mime_is(id.ptr[i], MIME_ATEXT);
}

void message_id_header(struct slice message_id, struct slice domain, struct buf *out)
{
    char escaped[3];

    buf_add_char(out, '<');
    for (size_t i = 0, run; i < message_id.len; i += run) {
        for (run = 0; i + run < message_id.len && id_char_stands(message_id, i + run);)
            run++;
        buf_add(out, message_id.ptr + i, run);
        if (i + run < message_id.len) {
            mime_put_hex(escaped, '%', message_id.ptr[i + run++]);
            buf_add(out, escaped, sizeof(escaped));
        }
    }
    buf_add_char(out, '@');
    buf_add_slice(out, domain);
    buf_add_char(out, '>');
}

static bool is_inline(const struct attachment *a)
{
    return a->content_id.len != 0;
}

/* Inline parts need an HTML body to stand in; without one they are ordinary attachments. */
static bool goes_into_related(const struct event *ev, const struct attachment *a)
{
    return ev->html.ptr && is_inline(a);
}

static size_t count_related(const struct event *ev)
{
    size_t count = 0;

    for (size_t i = 0; i < ev->attachments_len; i++)
        count += goes_into_related(ev, &ev->attachments[i]);
    return count;
}

static void write_multipart(struct buf *out, const char *subtype, const char *boundary,
                            const char *param)
{
    buf_add_str(out, "Content-Type: multipart/");
    buf_add_str(out, subtype);
    buf_add_str(out, "; boundary=\"");
    buf_add_str(out, boundary);
    buf_add_str(out, "\"");
    buf_add_str(out, param);
    buf_add_str(out, "\r\n\r\n--");
    buf_add_str(out, boundary);
    buf_add_str(out, "\r\n");
}

static void write_delimiter(struct buf *out, const char *boundary)
{
    buf_add_str(out, "\r\n--");
    buf_add_str(out, boundary);
    buf_add_str(out, "\r\n");
}

/* Without a line end: in a nested multipart it belongs to the outer boundary. */
static void write_close(struct buf *out, const char *boundary)
{
    buf_add_str(out, "\r\n--");
    buf_add_str(out, boundary);
    buf_add_str(out, "--");
}

static void write_text(struct buf *out, const char *subtype, struct slice text,
                       enum mime_position position)
{
    struct mime_text_plan plan = mime_plan_text(text);

    buf_add_str(out, "Content-Type: text/");
    buf_add_str(out, subtype);
    buf_add_str(out, "; charset=utf-8\r\nContent-Transfer-Encoding: ");
    buf_add_str(out, mime_encoding_name(plan.encoding));
    buf_add_str(out, "\r\n\r\n");
    mime_write_text(out, text, &plan, position);
}

/* The content has to arrive byte for byte, so a type that base64 may not be used with (RFC 2046
 * sections 5.1 and 5.2), or that cannot stand in a header, travels as plain bytes. */
static struct slice attachment_type(const struct attachment *a)
{
    struct slice type = a->content_type;

    if (!type.len || syntax_is_composite_type(type) ||
        !mime_header_is_raw(slice_str("Content-Type"), type))
        return slice_str("application/octet-stream");
    return type;
}

static void write_disposition(struct buf *out, const struct attachment *a)
{
    struct mime_fold f = mime_fold_begin(out, slice_str("Content-Disposition"));

    mime_fold_token(&f, slice_str(is_inline(a) ? "inline" : "attachment"));
    if (a->filename.len)
        mime_param_write(&f, "filename", a->filename);
    mime_fold_end(&f);
}

/* As it stands, so that "cid:" URLs find it; what an event can't hold is percent-encoded, as in
 * those URLs (RFC 2392). */
static void write_content_id(struct buf *out, struct slice id)
{
    char escaped[3];

    buf_add_str(out, "Content-ID: <");
    for (size_t i = 0; i < id.len; i++) {
        if (mime_is(id.ptr[i], MIME_VISIBLE) && id.ptr[i] != '<' && id.ptr[i] != '>') {
            buf_add_char(out, id.ptr[i]);
        } else {
            mime_put_hex(escaped, '%', id.ptr[i]);
            buf_add(out, escaped, sizeof(escaped));
        }
    }
    buf_add_str(out, ">\r\n");
}

static void write_attachment(struct buf *out, const struct attachment *a)
{
    mime_header_raw(out, slice_str("Content-Type"), attachment_type(a));
    buf_add_str(out, "Content-Transfer-Encoding: base64\r\n");
    write_disposition(out, a);
    if (is_inline(a))
        write_content_id(out, a->content_id);
    buf_add_str(out, "\r\n");
    mime_base64_bytes(out, a->content);
}

/* The HTML body, within multipart/related (RFC 2387) where it has inline parts. */
static void write_html(struct buf *out, const struct event *ev, enum mime_position position)
{
    if (count_related(ev) == 0) {
        write_text(out, "html", ev->html, position);
        return;
    }
    write_multipart(out, "related", BOUNDARY_RELATED, ";\r\n type=\"text/html\"");
    write_text(out, "html", ev->html, MIME_WITHIN_MULTIPART);
    for (size_t i = 0; i < ev->attachments_len; i++)
        if (goes_into_related(ev, &ev->attachments[i])) {
            write_delimiter(out, BOUNDARY_RELATED);
            write_attachment(out, &ev->attachments[i]);
        }
    write_close(out, BOUNDARY_RELATED);
}

static void write_readable(struct buf *out, const struct event *ev, enum mime_position position)
{
    if (!ev->html.ptr) {
        write_text(out, "plain", ev->text, position);
    } else if (!ev->text.ptr) {
        write_html(out, ev, position);
    } else {
        write_multipart(out, "alternative", BOUNDARY_ALTERNATIVE, "");
        write_text(out, "plain", ev->text, MIME_WITHIN_MULTIPART);
        write_delimiter(out, BOUNDARY_ALTERNATIVE);
        write_html(out, ev, MIME_WITHIN_MULTIPART);
        write_close(out, BOUNDARY_ALTERNATIVE);
    }
}

static void write_content(struct buf *out, const struct event *ev)
{
    if (count_related(ev) == ev->attachments_len) {
        write_readable(out, ev, MIME_ENDS_MESSAGE);
    } else {
        write_multipart(out, "mixed", BOUNDARY_MIXED, "");
        write_readable(out, ev, MIME_WITHIN_MULTIPART);
        for (size_t i = 0; i < ev->attachments_len; i++)
            if (!goes_into_related(ev, &ev->attachments[i])) {
                write_delimiter(out, BOUNDARY_MIXED);
                write_attachment(out, &ev->attachments[i]);
            }
        write_close(out, BOUNDARY_MIXED);
    }
    if (ev->attachments_len || (ev->text.ptr && ev->html.ptr))
        buf_add_str(out, "\r\n");
}

/* Never Bcc. */
static void write_header(struct buf *out, const struct event *ev, const struct address *from,
                         int64_t date_unix_ms)
{
    mime_header_date(out, date_unix_ms);
    mime_header_addresses(out, slice_str("From"), from, 1);
    if (ev->reply_to.spec.ptr)
        mime_header_addresses(out, slice_str("Reply-To"), &ev->reply_to, 1);
    if (ev->to.len)
        mime_header_addresses(out, slice_str("To"), ev->to.items, ev->to.len);
    if (ev->cc.len)
        mime_header_addresses(out, slice_str("Cc"), ev->cc.items, ev->cc.len);
    if (ev->subject.ptr)
        mime_header_text(out, slice_str("Subject"), ev->subject);
    buf_add_str(out, "Message-ID: ");
    message_id_header(ev->message_id, address_domain(from), out);
    buf_add_str(out, "\r\nMIME-Version: 1.0\r\n");
    for (size_t i = 0; i < ev->headers_len; i++)
        mime_header_raw(out, ev->headers[i].name, ev->headers[i].value);
}

static bool any_utf8_local(const struct address *items, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (items[i].utf8_local)
            return true;
    return false;
}

/* Bcc recipients count: the envelope needs the extension as well. */
static bool needs_smtputf8(const struct event *ev, const struct address *from)
{
    return from->utf8_local || (ev->reply_to.spec.ptr && ev->reply_to.utf8_local) ||
           any_utf8_local(ev->to.items, ev->to.len) || any_utf8_local(ev->cc.items, ev->cc.len) ||
           any_utf8_local(ev->bcc.items, ev->bcc.len);
}

/* Enough for nearly every message, so that it is copied by no further growth. */
static size_t estimate(const struct event *ev)
{
    size_t size = 2048 + (ev->to.len + ev->cc.len) * 64;

    size += ev->text.len + ev->text.len / 4 + ev->html.len + ev->html.len / 4;
    for (size_t i = 0; i < ev->attachments_len; i++)
        size += 512 + ev->attachments[i].content.len / 2 * 3;
    return size;
}

bool message_compose(struct message *m, const struct event *ev,
                     const struct message_settings *settings, int64_t date_unix_ms,
                     struct error *err)
{
    buf_clear(&m->bytes);
    m->from = ev->from.spec.ptr ? &ev->from : &settings->from;
    if (!ev->text.ptr && !ev->html.ptr)
        return error_set(err, "message: neither text nor html");
    if (!m->from->spec.ptr)
        return error_set(err, "message: no sender");
    m->utf8 = needs_smtputf8(ev, m->from);
    buf_reserve(&m->bytes, estimate(ev));
    write_header(&m->bytes, ev, m->from, date_unix_ms);
    write_content(&m->bytes, ev);
    if (m->bytes.failed)
        return error_set(err, "message: out of memory");
    return true;
}
