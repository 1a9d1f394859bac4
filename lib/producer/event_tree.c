#include "producer/event_tree.h"

#include "email/event.h"

struct builder {
    struct arena *arena;
    bool failed;
};

static struct json_in *new_node(struct builder *b, enum json_in_kind kind)
{
    struct json_in *node = arena_alloc(b->arena, sizeof(*node));

    b->failed = b->failed || !node;
    if (node)
        node->kind = kind;
    return node;
}

/* Members are put in front: their order means nothing in an object. */
static void put_member(struct json_in *object, const char *name, struct json_in *member)
{
    if (!member)
        return;
    member->name = slice_str(name);
    member->next = object->first;
    object->first = member;
    object->len++;
}

static struct json_in *new_string(struct builder *b, const char *text)
{
    struct json_in *node = new_node(b, JSON_IN_STRING);

    if (node)
        node->text = slice_str(text);
    return node;
}

static void put_text(struct builder *b, struct json_in *object, const char *name, const char *text)
{
    if (text)
        put_member(object, name, new_string(b, text));
}

static struct json_in **add_item(struct builder *b, struct json_in *array, struct json_in **link,
                                 const char *text)
{
    *link = new_string(b, text);
    if (!*link)
        return link;
    array->len++;
    return &(*link)->next;
}

static void put_list(struct builder *b, struct json_in *object, const char *name, const char *one,
                     const char *const *list)
{
    struct json_in *array = one || list ? new_node(b, JSON_IN_ARRAY) : NULL;
    struct json_in **link = array ? &array->first : NULL;

    if (!array)
        return;
    if (one)
        link = add_item(b, array, link, one);
    for (; list && *list; list++)
        link = add_item(b, array, link, *list);
    put_member(object, name, array);
}

static void put_headers(struct builder *b, struct json_in *object, const email_event *event)
{
    struct json_in *headers = event->headers_len ? new_node(b, JSON_IN_OBJECT) : NULL;

    if (!headers)
        return;
    for (size_t i = event->headers_len; i-- > 0;)
        put_text(b, headers, event->headers[i].name, event->headers[i].value);
    put_member(object, "headers", headers);
}

/* One level deeper than in the whole. */
static void put_object(struct builder *b, struct json_in *object, const char *name,
                       const char *json)
{
    struct json_in_error fault;
    struct json_in *node;

    if (!json)
        return;
    node = json_in_parse(b->arena, slice_str(json), EVENT_MAX_JSON_DEPTH - 1, &fault);
    b->failed = b->failed || !node;
    put_member(object, name, node);
}

const struct json_in *event_tree_new(struct arena *arena, const email_event *event,
                                     struct slice message_id)
{
    struct builder b = {.arena = arena};
    struct json_in *root = event->attachments_len ? NULL : new_node(&b, JSON_IN_OBJECT);

    if (!root)
        return NULL;
    put_object(&b, root, "metadata", event->metadata_json);
    put_headers(&b, root, event);
    put_object(&b, root, "data", event->data_json);
    put_text(&b, root, "locale", event->locale);
    put_text(&b, root, "template", event->template_name);
    put_text(&b, root, "html", event->html);
    put_text(&b, root, "text", event->text);
    put_text(&b, root, "subject", event->subject);
    put_text(&b, root, "replyTo", event->reply_to);
    put_text(&b, root, "from", event->from);
    put_list(&b, root, "bcc", NULL, event->bcc_list);
    put_list(&b, root, "cc", NULL, event->cc_list);
    put_list(&b, root, "to", event->to, event->to_list);
    put_text(&b, root, "type", event->type);
    put_text(&b, root, "messageID", message_id.ptr);
    return b.failed ? NULL : root;
}
