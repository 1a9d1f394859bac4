/* The tree of an event's struct is what reading its JSON gives: whatever the fields say, the one is
 * taken where the other is, and says the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "email/event.h"
#include "producer/event_json.h"
#include "producer/event_tree.h"

enum { ROUNDS = 20000, MAX_EVENT = 1 << 20, NOW = 1700000000 };

static uint64_t seed = 0x9e3779b97f4a7c15u;

static size_t below(size_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (size_t)(seed % n);
}

static char deep[2][200]; /* 31 and 32 levels below the event's own */
static char long_subject[10002];

static const char *const texts[] = {"",
                                    "x",
                                    "Your code is 123456.\n",
                                    "a\tb \"q\" \\ \x01\x7f",
                                    "Z\xc3\xbcrich \xe2\x80\xae \xf0\x9f\x98\x80",
                                    "a\r\nb",
                                    long_subject};
static const char *const addresses[] = {"ada@example.com",
                                        "Ada <ada@Example.com>",
                                        "ada",
                                        "\"a\\\"b\" <c@example.com>",
                                        "j\xc3\xb6rg@example.com",
                                        "ada@\xc3\xbc.example",
                                        "a\n@example.com",
                                        ""};
static const char *const types[] = {"welcome", "Welcome", "a.b-c_d", ""};
static const char *const ids[] = {"m-1", "m 1", "", "m\xc3\xbc"};
static const char *const locales[] = {"de", "pt-BR", "de_DE"};
static const char *const templates[] = {"welcome", "no dots."};
static const char *const objects[] = {"{}",
                                      " {\"a\":[1,2.50,null,{\"b\":\"\\u00fc\"}]} ",
                                      "{\"a\":1,\"a\":2}",
                                      "{\"a\":}",
                                      deep[0],
                                      deep[1],
                                      "{\"n\":1e999}",
                                      "{\"s\":\"\\u0000\"}"};
static const char *const names[] = {"X-One", "x-one", "Subject", "X Two", "List-Unsubscribe", ""};

#define ONE_OF(list) (list)[below(sizeof(list) / sizeof(*(list)))]
#define MAYBE(list) (below(3) ? NULL : ONE_OF(list))

static void fill_list(const char *list[4])
{
    const size_t len = below(4);

    for (size_t i = 0; i < len; i++)
        list[i] = addresses[below(3)]; /* mostly good ones */
    list[len] = NULL;
}

struct made {
    email_event event;
    const char *to[4], *cc[4], *bcc[4];
    email_header headers[2];
};

static void make(struct made *m)
{
    m->event = (email_event)EMAIL_EVENT_INIT;
    m->event.message_id = below(8) ? "m-1" : ONE_OF(ids);
    m->event.to = below(8) ? "ada@example.com" : MAYBE(addresses);
    m->event.subject = below(4) ? "Hello" : MAYBE(texts);
    m->event.text = below(4) ? "Hello" : MAYBE(texts);
    m->event.html = MAYBE(texts);
    m->event.type = below(4) ? NULL : ONE_OF(types);
    m->event.from = below(4) ? NULL : ONE_OF(addresses);
    m->event.reply_to = below(4) ? NULL : ONE_OF(addresses);
    m->event.locale = MAYBE(locales);
    m->event.template_name = MAYBE(templates);
    m->event.data_json = MAYBE(objects);
    m->event.metadata_json = MAYBE(objects);
    fill_list(m->to);
    fill_list(m->cc);
    fill_list(m->bcc);
    m->event.to_list = below(3) ? NULL : m->to;
    m->event.cc_list = below(3) ? NULL : m->cc;
    m->event.bcc_list = below(3) ? NULL : m->bcc;
    m->event.headers_len = below(3);
    m->event.headers = m->headers;
    for (size_t i = 0; i < m->event.headers_len; i++)
        m->headers[i] = (email_header){.name = ONE_OF(names), .value = ONE_OF(texts)};
}

static void same_text(struct slice a, struct slice b)
{
    assert_int_equal(a.ptr != NULL, b.ptr != NULL);
    assert_true(slice_equal(a, b));
}

static void same_event(const struct event *a, const struct event *b)
{
    same_text(a->message_id, b->message_id);
    same_text(a->type, b->type);
    same_text(a->from.spec, b->from.spec);
    same_text(a->reply_to.spec, b->reply_to.spec);
    same_text(a->subject, b->subject);
    same_text(a->text, b->text);
    same_text(a->html, b->html);
    same_text(a->template_name, b->template_name);
    same_text(a->locale, b->locale);
    same_text(a->data, b->data);
    assert_int_equal(event_recipients(a), event_recipients(b));
    for (size_t i = 0; i < event_recipients(a); i++)
        same_text(event_recipient(a, i)->spec, event_recipient(b, i)->spec);
    assert_int_equal(a->headers_len, b->headers_len);
    for (size_t i = 0; i < a->headers_len; i++) {
        same_text(a->headers[i].name, b->headers[i].name);
        same_text(a->headers[i].value, b->headers[i].value);
    }
}

/* Whether it was taken. */
static bool judge_both(const email_event *event)
{
    struct slice id = slice_str(event->message_id);
    struct event by_tree, by_json;
    const struct json_in *tree;
    enum event_status status;
    struct arena arena;
    struct buf json = {0};
    bool good;

    arena_init(&arena);
    if (!event_json_write(&json, event, id, NOW, NULL)) {
        buf_cleanup(&json);
        return false;
    }
    status = event_decode(&arena, buf_slice(&json), MAX_EVENT, &by_json, NULL);
    tree = event_tree_new(&arena, event, id);
    good = tree && event_decode_tree(&arena, tree, &by_tree, NULL) == EVENT_OK;
    if (good != (status == EVENT_OK))
        fail_msg("the tree is %s, the JSON is not: %s", good ? "taken" : "refused", json.ptr);
    if (good)
        same_event(&by_tree, &by_json);
    arena_cleanup(&arena);
    buf_cleanup(&json);
    return good;
}

static void test_tree_is_what_the_json_says(void **state)
{
    size_t taken = 0;
    struct made m;

    (void)state;
    for (size_t i = 0; i < ROUNDS; i++) {
        make(&m);
        taken += judge_both(&m.event);
    }
    assert_in_range(taken, ROUNDS / 20, ROUNDS * 19 / 20); /* both happened, and often */
}

static void test_attachments_are_read_from_the_json(void **state)
{
    const email_attachment attachment = {
        .filename = "a.txt", .content_type = "text/plain", .content = "a", .content_len = 1};
    email_event event = EMAIL_EVENT_INIT;
    struct arena arena;

    (void)state;
    event.to = "ada@example.com";
    event.attachments = &attachment;
    event.attachments_len = 1;
    arena_init(&arena);
    assert_null(event_tree_new(&arena, &event, slice_str("m-1")));
    arena_cleanup(&arena);
}

static void nest(char *to, size_t levels)
{
    to += sprintf(to, "{\"a\":");
    for (size_t i = 1; i < levels; i++)
        *to++ = '[';
    for (size_t i = 1; i < levels; i++)
        *to++ = ']';
    if (levels == 1)
        *to++ = '1';
    sprintf(to, "}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree_is_what_the_json_says),
        cmocka_unit_test(test_attachments_are_read_from_the_json),
    };

    nest(deep[0], EVENT_MAX_JSON_DEPTH - 1);
    nest(deep[1], EVENT_MAX_JSON_DEPTH);
    memset(long_subject, 's', sizeof(long_subject) - 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
