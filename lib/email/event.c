#include "email/event.h"

#include <jansson.h>

#include "email/event_fields.h"
#include "email/fingerprint.h"
#include "email/json_read.h"

static bool refuse(struct event_decoder *d, enum event_status status, const char *why)
{
    d->status = status;
    return error_set(d->err, "%s", why);
}

/* ---- JSON ---- */

/* Counts brackets before jansson, which recurses, sees them. Ill-formed text is left for it to
 * refuse. */
static bool nests_too_deep(struct slice json)
{
    size_t at = 0, depth = 0;

    while (at < json.len) {
        char c = json.ptr[at++];
        if (c == '"')
            at = json_string_end(json, at);
        else if (c == '{' || c == '[')
            depth++;
        else if ((c == '}' || c == ']') && depth > 0)
            depth--;
        if (depth > EVENT_MAX_JSON_DEPTH)
            return true;
    }
    return false;
}

/* In our words: jansson's own texts repeat what they found. */
static const char *json_fault(enum json_error_code code)
{
    switch (code) {
    case json_error_invalid_utf8: return "not valid UTF-8";
    case json_error_premature_end_of_input: return "ends too early";
    case json_error_end_of_input_expected: return "text after the object";
    case json_error_null_character:
    case json_error_null_byte_in_key: return "a string holds NUL";
    case json_error_duplicate_key: return "a name stands twice in an object";
    case json_error_numeric_overflow: return "a number is too large";
    default: return "a syntax error";
    }
}

static json_t *load(struct event_decoder *d, struct slice value)
{
    json_error_t fault;
    bool out_of_memory;
    json_t *root = json_read(value, JSON_REJECT_DUPLICATES, &fault, &out_of_memory);

    if (!root && !out_of_memory && json_error_code(&fault) == json_error_numeric_overflow)
        /* An integer beyond 64 bits, in what we only carry along. */
        root = json_read(value, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &fault,
                         &out_of_memory);
    if (out_of_memory) {
        refuse(d, EVENT_NO_MEMORY, "out of memory");
        return NULL;
    }
    if (root)
        return root;
    d->status = EVENT_INVALID;
    error_set(d->err, "not a JSON object: %s at line %d, column %d",
              json_fault(json_error_code(&fault)), fault.line, fault.column);
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
    if (nests_too_deep(value))
        return refuse(d, EVENT_INVALID, "not a JSON object: nested deeper than 32 levels");
    return true;
}

static bool decode_object(struct event_decoder *d, const json_t *root)
{
    if (!json_is_object(root))
        return refuse(d, EVENT_INVALID, "not a JSON object: an array");
    return event_fields_decode(d, root) && list_recipients(d);
}

enum event_status event_decode(struct arena *arena, struct slice value, size_t max_event_bytes,
                               struct event *out, struct error *err)
{
    struct event_decoder d = {.arena = arena, .ev = out, .err = err};
    json_t *root = NULL;

    *out = (struct event){.type = slice_str("generic")};
    if (check_value(&d, value, max_event_bytes))
        root = load(&d, value);
    if (!root)
        return d.status;
    if (decode_object(&d, root)) {
        fingerprint_event(out, out->fingerprint);
        d.status = EVENT_OK;
    }
    json_decref(root);
    return d.status;
}
