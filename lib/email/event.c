#include "email/event.h"

#include "email/event_fields.h"
#include "email/fingerprint.h"

/* For about thirty members; an attachment, or a body without escapes, takes no room beside its own
 * text. */
enum { TREE_BYTES = 3072 };

static bool refuse(struct event_decoder *d, enum event_status status, const char *why)
{
    d->status = status;
    return error_set(d->err, "%s", why);
}

/* ---- JSON ---- */

/* In our words, and without what was found. */
static const char *json_fault(enum json_in_fault fault)
{
    switch (fault) {
    case JSON_IN_FAULT_UTF8: return "not valid UTF-8";
    case JSON_IN_FAULT_END: return "ends too early";
    case JSON_IN_FAULT_TRAILER: return "text after the object";
    case JSON_IN_FAULT_NUL: return "a string holds NUL";
    case JSON_IN_FAULT_TWICE: return "a name stands twice in an object";
    case JSON_IN_FAULT_NUMBER: return "a number is too large";
    default: return "a syntax error";
    }
}

static const struct json_in *load(struct event_decoder *d, struct arena *arena, struct slice value)
{
    struct json_in_error fault;
    const struct json_in *root = json_in_parse(arena, value, EVENT_MAX_JSON_DEPTH, &fault);

    if (root)
        return root;
    if (fault.fault == JSON_IN_FAULT_MEMORY) {
        refuse(d, EVENT_NO_MEMORY, "out of memory");
    } else if (fault.fault == JSON_IN_FAULT_DEPTH) {
        refuse(d, EVENT_INVALID, "not a JSON object: nested deeper than 32 levels");
    } else {
        d->status = EVENT_INVALID;
        error_set(d->err, "not a JSON object: %s at line %zu, column %zu", json_fault(fault.fault),
                  fault.line, fault.column);
    }
    return NULL;
}

/* ---- recipients ---- */

static void add_distinct(struct event *ev, const struct address_list *list)
{
    for (size_t i = 0; i < list->len; i++) {
        size_t known = 0;
        while (known < ev->recipients_len &&
               !slice_equal(ev->recipients[known]->spec, list->items[i].spec))
            known++;
        if (known == ev->recipients_len)
            ev->recipients[ev->recipients_len++] = &list->items[i];
    }
}

/* Quadratic, in at most EVENT_MAX_RECIPIENTS. */
static bool list_recipients(struct event_decoder *d)
{
    struct event *ev = d->ev;
    size_t most = ev->to.len + ev->cc.len + ev->bcc.len;

    ev->recipients = arena_alloc(d->arena, most * sizeof(*ev->recipients));
    if (!ev->recipients)
        return refuse(d, EVENT_NO_MEMORY, "out of memory");
    add_distinct(ev, &ev->to);
    add_distinct(ev, &ev->cc);
    add_distinct(ev, &ev->bcc);
    return true;
}

size_t event_recipients(const struct event *ev)
{
    return ev->recipients_len;
}

const struct address *event_recipient(const struct event *ev, size_t i)
{
    return ev->recipients[i];
}

/* ---- the event ---- */

static bool check_value(struct event_decoder *d, struct slice value, size_t max_event_bytes)
{
    if (!value.ptr)
        return refuse(d, EVENT_INVALID, "the record has no value (a tombstone)");
    if (value.len == 0)
        return refuse(d, EVENT_INVALID, "the value is empty");
    if (value.len > max_event_bytes) {
        d->status = EVENT_TOO_LARGE;
        return error_set(d->err, "%zu bytes, more than the %zu that an event may have", value.len,
                         max_event_bytes);
    }
    return true;
}

static bool decode_object(struct event_decoder *d, const struct json_in *root)
{
    if (root->kind != JSON_IN_OBJECT)
        return refuse(d, EVENT_INVALID, "not a JSON object: an array");
    return event_fields_decode(d, root) && list_recipients(d);
}

/* The tree can be many times as large as the text (a number is two bytes, and a node), so it goes
 * when the event is read; only what is kept of it counts for the window. */
static enum event_status decode_text(struct event_decoder *d, struct slice value)
{
    const struct json_in *root;
    struct arena tree;

    arena_init_sized(&tree, TREE_BYTES + (value.len < TREE_BYTES ? value.len : TREE_BYTES));
    root = load(d, &tree, value);
    if (root && decode_object(d, root)) {
        fingerprint_event(d->ev, d->ev->fingerprint);
        d->status = EVENT_OK;
    }
    arena_cleanup(&tree);
    return d->status;
}

enum event_status event_decode(struct arena *arena, struct slice value, size_t max_event_bytes,
                               struct event *out, struct error *err)
{
    struct event_decoder d = {.arena = arena, .ev = out, .err = err, .lasting = &value};

    *out = (struct event){.type = slice_str("generic")};
    return check_value(&d, value, max_event_bytes) ? decode_text(&d, value) : d.status;
}

enum event_status event_decode_tree(struct arena *arena, const struct json_in *root,
                                    struct event *out, struct error *err)
{
    struct event_decoder d = {.arena = arena, .ev = out, .err = err};

    *out = (struct event){.type = slice_str("generic")};
    return decode_object(&d, root) ? EVENT_OK : d.status;
}
