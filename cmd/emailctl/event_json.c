#include "event_json.h"

#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "base/clock.h"
#include "email/address.h"
#include "email/event.h"
#include "email/json_read.h"
#include "email/mime_base64.h"

/* ---- building ---- */

struct building {
    json_t *event;
    struct error *err;
    bool failed;
};

static void set(struct building *b, const char *name, json_t *value)
{
    if (json_object_set_new(b->event, name, value) == 0)
        return;
    b->failed = true;
    error_set(b->err, "--%s: not UTF-8, or out of memory", name);
}

static void set_text(struct building *b, const char *name, const char *text)
{
    if (text)
        set(b, name, json_string(text));
}

static void set_slice(struct building *b, const char *name, struct slice text)
{
    if (text.ptr)
        set(b, name, json_stringn(text.ptr, text.len));
}

static void set_list(struct building *b, const char *name, const struct text_list *list)
{
    json_t *array = list->len ? json_array() : NULL;

    if (!list->len)
        return;
    for (size_t i = 0; array && i < list->len; i++)
        if (json_array_append_new(array, json_string(list->items[i])) != 0) {
            json_decref(array);
            array = NULL;
        }
    set(b, name, array);
}

static void set_object(struct building *b, const char *name, const char *text)
{
    json_error_t fault;
    bool out_of_memory;
    json_t *value;

    if (!text)
        return;
    value = json_read(slice_str(text), JSON_REJECT_DUPLICATES, &fault, &out_of_memory);
    if (json_is_object(value)) {
        set(b, name, value);
        return;
    }
    json_decref(value);
    b->failed = true;
    error_set(b->err, "--%s: %s", name, out_of_memory ? "out of memory" : "not a JSON object");
}

static void set_headers(struct building *b, const struct text_list *list)
{
    json_t *headers = json_object();

    for (size_t i = 0; i < list->len; i++) {
        const char *colon = strchr(list->items[i], ':');
        const char *value = colon ? colon + 1 + strspn(colon + 1, " ") : NULL;
        char name[EVENT_MAX_HEADER_NAME + 2];
        if (!colon || colon - list->items[i] > EVENT_MAX_HEADER_NAME) {
            b->failed = !error_set(b->err, "--header: not NAME:VALUE");
            break;
        }
        snprintf(name, sizeof(name), "%.*s", (int)(colon - list->items[i]), list->items[i]);
        if (json_object_get(headers, name))
            b->failed = !error_set(b->err, "--header: %s is given twice", name);
        else if (json_object_set_new(headers, name, json_string(value)) != 0)
            b->failed = !error_set(b->err, "--header: not UTF-8, or out of memory");
    }
    if (list->len)
        set(b, "headers", headers);
    else
        json_decref(headers);
}

/* By the name's ending; what nobody knows is octets. */
static const char *content_type_of(const char *name)
{
    static const char *const known[][2] = {
        {".pdf", "application/pdf"},
        {".txt", "text/plain; charset=utf-8"},
        {".csv", "text/csv; charset=utf-8"},
        {".html", "text/html; charset=utf-8"},
        {".png", "image/png"},
        {".jpg", "image/jpeg"},
        {".jpeg", "image/jpeg"},
        {".gif", "image/gif"},
        {".svg", "image/svg+xml"},
        {".zip", "application/zip"},
        {".json", "application/json"},
        {".ics", "text/calendar; charset=utf-8"},
    };
    const char *dot = strrchr(name, '.');

    for (size_t i = 0; dot && i < sizeof(known) / sizeof(known[0]); i++)
        if (strcasecmp(dot, known[i][0]) == 0)
            return known[i][1];
    return "application/octet-stream";
}

static json_t *attachment(const struct event_file *file)
{
    const char *slash = strrchr(file->name, '/');
    const char *name = slash ? slash + 1 : file->name;
    const size_t len = mime_base64_len(file->content.len);
    char *content = malloc(len + 1);
    json_t *object = NULL;

    if (content) {
        mime_base64_put(content, file->content.ptr, file->content.len);
        object = json_pack("{s:s, s:s, s:s#}", "filename", name, "contentType",
                           content_type_of(name), "content", content, (int)len);
    }
    free(content);
    return object;
}

static void set_attachments(struct building *b, const struct event_inputs *in)
{
    json_t *array = in->attachments_len ? json_array() : NULL;

    for (size_t i = 0; i < in->attachments_len; i++)
        if (json_array_append_new(array, attachment(&in->attachments[i])) != 0) {
            json_decref(array);
            array = NULL;
            break;
        }
    if (in->attachments_len)
        set(b, "attachments", array);
}

static void set_times(struct building *b, const struct event_inputs *in)
{
    char text[RFC3339_SIZE];

    rfc3339_format(in->now_unix_ms, text);
    set_text(b, "createdAt", text);
    if (!in->o->expires_in_s)
        return;
    rfc3339_format(in->now_unix_ms + (int64_t)in->o->expires_in_s * 1000, text);
    set_text(b, "expiresAt", text);
}

/* Not json_dumps: out of memory it leaves members' names out, and goes on. */
static bool dump(struct arena *arena, const json_t *value, size_t flags, struct slice *text)
{
    const size_t len = json_dumpb(value, NULL, 0, flags);
    char *out = len ? arena_alloc(arena, len + 1) : NULL;

    *text = slice_of(out, len);
    return out && json_dumpb(value, out, len, flags) == len;
}

bool event_json_build(struct arena *arena, const struct event_inputs *in, struct slice *json,
                      struct error *err)
{
    const struct options *o = in->o;
    struct building b = {.event = json_object(), .err = err};
    bool good;

    set_text(&b, "messageID", in->message_id);
    set_text(&b, "type", o->type);
    set_list(&b, "to", &o->to);
    set_list(&b, "cc", &o->cc);
    set_list(&b, "bcc", &o->bcc);
    set_text(&b, "from", o->from);
    set_text(&b, "replyTo", o->reply_to);
    set_text(&b, "subject", o->subject);
    set_slice(&b, "text", in->text);
    set_slice(&b, "html", in->html);
    set_text(&b, "template", o->template_name);
    set_object(&b, "data", o->data);
    set_text(&b, "locale", o->locale);
    set_attachments(&b, in);
    set_headers(&b, &o->header);
    set_times(&b, in);
    set_object(&b, "metadata", o->metadata);
    good =
        !b.failed && (dump(arena, b.event, JSON_COMPACT, json) || error_set(err, "out of memory"));
    json_decref(b.event);
    return good;
}

/* ---- narrowing ---- */

static const char *const lists[] = {"to", "cc", "bcc"};

enum { TO, CC, BCC, LISTS };

struct narrowing {
    json_t *event, *refused;
    json_t *kept[LISTS]; /* arrays of the addresses as they were written */
};

static bool read_address(struct arena *arena, const json_t *value, struct address *out)
{
    const json_t *email = json_object_get(value, "email");

    if (json_is_string(value))
        return address_parse(arena, slice_of(json_string_value(value), json_string_length(value)),
                             out, NULL);
    return json_is_string(email) &&
           address_from_parts(arena, slice_of(json_string_value(email), json_string_length(email)),
                              slice_of(NULL, 0), out, NULL);
}

static bool is_refused(struct arena *arena, const json_t *refused, const json_t *value)
{
    struct address ours, theirs;

    if (!read_address(arena, value, &ours))
        return false;
    for (size_t i = 0; i < json_array_size(refused); i++)
        if (read_address(arena, json_array_get(refused, i), &theirs) &&
            slice_equal(ours.spec, theirs.spec))
            return true;
    return false;
}

static bool keep_refused(struct arena *arena, struct narrowing *n, int list)
{
    json_t *given = json_object_get(n->event, lists[list]);
    const size_t len = json_is_array(given) ? json_array_size(given) : given ? 1 : 0;

    n->kept[list] = json_array();
    for (size_t i = 0; i < len; i++) {
        json_t *value = json_is_array(given) ? json_array_get(given, i) : given;
        if (is_refused(arena, n->refused, value) && json_array_append(n->kept[list], value) != 0)
            return false;
    }
    return n->kept[list] && !arena->failed; /* an address that was not read may be a refused one */
}

static void narrowing_end(struct narrowing *n)
{
    for (int i = 0; i < LISTS; i++)
        json_decref(n->kept[i]);
    json_decref(n->event);
    json_decref(n->refused);
}

static bool narrowing_begin(struct arena *arena, struct slice value, struct slice refused,
                            struct narrowing *n, struct error *err)
{
    json_error_t fault;
    bool no_event, no_list; /* memory is out */

    *n = (struct narrowing){0};
    n->event = json_read(value, JSON_REJECT_DUPLICATES, &fault, &no_event);
    n->refused = json_read(refused, 0, &fault, &no_list);
    if (no_event || no_list)
        return error_set(err, "out of memory");
    if (!json_is_object(n->event))
        return error_set(err, "the event is not a JSON object");
    if (!json_is_array(n->refused))
        return error_set(err, "dlq-recipients is not a JSON array");
    for (int i = 0; i < LISTS; i++)
        if (!keep_refused(arena, n, i))
            return error_set(err, "out of memory");
    return true;
}

static size_t kept(const struct narrowing *n, int list)
{
    return json_array_size(n->kept[list]);
}

static size_t count_parts(const struct narrowing *n)
{
    return kept(n, TO) || kept(n, CC) ? 1 : kept(n, BCC);
}

bool event_json_parts(struct arena *arena, struct slice value, struct slice refused, size_t *parts,
                      struct error *err)
{
    struct narrowing n;
    const bool good = narrowing_begin(arena, value, refused, &n, err);

    if (good)
        *parts = count_parts(&n);
    narrowing_end(&n);
    return good;
}

/* An event needs a `to`: those in cc were seen by all, and a single one in bcc sees but himself. */
static bool address_part(struct narrowing *n, size_t part)
{
    json_t *alone = NULL;
    bool good = true;

    for (int i = 0; i < LISTS; i++)
        json_object_del(n->event, lists[i]);
    if (!kept(n, TO) && !kept(n, CC)) {
        alone = json_pack("[O]", json_array_get(n->kept[BCC], part));
        return json_object_set_new(n->event, lists[TO], alone) == 0;
    }
    good = json_object_set(n->event, lists[TO], n->kept[kept(n, TO) ? TO : CC]) == 0;
    if (kept(n, TO) && kept(n, CC))
        good = good && json_object_set(n->event, lists[CC], n->kept[CC]) == 0;
    if (kept(n, BCC))
        good = good && json_object_set(n->event, lists[BCC], n->kept[BCC]) == 0;
    return good;
}

/* FNV-1a: tells long messageIDs apart that are cut to make room. */
static uint64_t digest(struct slice text)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ (unsigned char)text.ptr[i]) * 0x100000001b3u;
    return hash;
}

static struct slice new_id(struct arena *arena, struct slice id, uint64_t redrive, size_t part,
                           size_t parts)
{
    char suffix[48], text[EVENT_MAX_MESSAGE_ID + 1];
    size_t room;

    if (parts > 1)
        snprintf(suffix, sizeof(suffix), "-r%llu.%zu", (unsigned long long)redrive, part + 1);
    else
        snprintf(suffix, sizeof(suffix), "-r%llu", (unsigned long long)redrive);
    room = EVENT_MAX_MESSAGE_ID - strlen(suffix);
    if (id.len <= room)
        snprintf(text, sizeof(text), "%.*s%s", SLICE_ARG(id), suffix);
    else
        snprintf(text, sizeof(text), "%.*s~%016llx%s", (int)(room - 17), id.ptr,
                 (unsigned long long)digest(id), suffix);
    return arena_copy(arena, slice_str(text));
}

bool event_json_narrow(struct arena *arena, struct slice value, struct slice refused,
                       uint64_t redrive, size_t part, struct slice *json, struct slice *message_id,
                       struct error *err)
{
    struct narrowing n;
    bool good = narrowing_begin(arena, value, refused, &n, err);
    const json_t *id = good ? json_object_get(n.event, "messageID") : NULL;
    const size_t parts = good ? count_parts(&n) : 0;

    if (good && (!json_is_string(id) || part >= parts))
        good = error_set(err, "it has no messageID, or none of its recipients was refused");
    if (good) {
        *message_id = new_id(arena, slice_of(json_string_value(id), json_string_length(id)),
                             redrive, part, parts);
        good = (message_id->ptr && address_part(&n, part) &&
                json_object_set_new(n.event, "messageID",
                                    json_stringn(message_id->ptr, message_id->len)) == 0 &&
                dump(arena, n.event, JSON_COMPACT, json)) ||
               error_set(err, "out of memory");
    }
    narrowing_end(&n);
    return good;
}

/* ---- showing ---- */

bool event_json_show(struct arena *arena, struct slice value, bool indent, struct slice *text)
{
    json_error_t fault;
    bool out_of_memory;
    json_t *loaded = json_read(value, JSON_ALLOW_NUL | JSON_DECODE_ANY, &fault, &out_of_memory);
    const bool good =
        loaded &&
        dump(arena, loaded, JSON_ENCODE_ANY | (indent ? JSON_INDENT(2) : JSON_COMPACT), text);

    json_decref(loaded);
    return good;
}
