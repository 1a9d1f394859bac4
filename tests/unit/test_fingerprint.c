/* The fingerprint is kept in Redis and compared across versions: the pinned values below must never
 * change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "email/fingerprint.h"

static const char full[] = "{\"messageID\":\"m-1\",\"to\":[\"Ann "
                           "<ann@example.com>\",\"bob@example.com\"],\"cc\":\"cc@example.com\","
                           "\"bcc\":\"bcc@example.com\",\"from\":\"Shop "
                           "<shop@example.com>\",\"replyTo\":\"help@example.com\","
                           "\"subject\":\"Hello\",\"text\":\"Hi\",\"html\":\"<p>Hi\",\"template\":"
                           "\"t\",\"data\":{\"a\":1,\"b\":2},"
                           "\"locale\":\"de\",\"attachments\":[{\"filename\":\"f\",\"contentType\":"
                           "\"a/b\",\"content\":\"QUJD\","
                           "\"contentID\":\"i\"}],\"headers\":{\"X-A\":\"1\",\"X-B\":\"2\"}}";

static void fingerprint_of(const char *json, char out[EVENT_FINGERPRINT_LEN + 1])
{
    struct error err = {0};
    struct arena arena;
    struct event ev;

    arena_init(&arena);
    if (event_decode(&arena, slice_str(json), 1000000, &ev, &err) != EVENT_OK)
        fail_msg("%s: %s", json, err.text);
    memcpy(out, ev.fingerprint, EVENT_FINGERPRINT_LEN + 1);
    arena_cleanup(&arena);
}

/* The full event with one piece of its text replaced. */
static void fingerprint_with(const char *old, const char *new, char out[EVENT_FINGERPRINT_LEN + 1])
{
    const char *at = strstr(full, old);
    char json[2 * sizeof(full)];

    assert_non_null(at);
    assert_null(strstr(at + 1, old));
    snprintf(json, sizeof(json), "%.*s%s%s", (int)(at - full), full, new, at + strlen(old));
    fingerprint_of(json, out);
}

static void test_pinned(void **state)
{
    char got[EVENT_FINGERPRINT_LEN + 1];

    (void)state;
    fingerprint_of(
        "{\"messageID\":\"m\",\"to\":\"a@example.com\",\"subject\":\"s\",\"text\":\"t\"}", got);
    assert_string_equal(got, "50456cbbefaed2b1fee8fc8ae48cc15c");
    fingerprint_of(full, got);
    assert_string_equal(got, "687f537665458e3ab3e3df254e8f2803");
}

/* All pinned values were computed independently of fingerprint.c: its canonical form written out by
 * hand, hashed in one piece. */
static void test_pinned_empty(void **state)
{
    const struct event empty = {0};
    char got[EVENT_FINGERPRINT_LEN + 1];

    (void)state;
    fingerprint_event(&empty, got);
    assert_string_equal(got, "0fcd7d79c4625b7c1ba0a05f26b58f11");
}

static void test_what_is_mailed_counts(void **state)
{
    static const char *const changes[][2] = {
        {"\"Ann <ann@", "\"Amy <ann@"},
        {"\"Ann <ann@example.com>\"", "\"ann@example.com\""},
        {"<ann@example.com>", "<ann@example.org>"},
        {"\"Ann <ann@example.com>\",\"bob@example.com\"",
         "\"bob@example.com\",\"Ann <ann@example.com>\""},
        {",\"bob@example.com\"]", "]"},
        {"\"cc\":\"cc@example.com\",", ""},
        {"\"cc\":\"cc@example.com\",\"bcc\":\"bcc@example.com\"",
         "\"cc\":\"bcc@example.com\",\"bcc\":\"cc@example.com\""},
        {"\"bcc\":\"bcc@example.com\",", ""},
        {"\"bob@example.com\"],\"cc\":\"cc@example.com\"",
         "\"bob@example.com\",\"cc@example.com\"]"},
        {"\"from\":\"Shop <shop@example.com>\",", ""},
        {"Shop <shop@", "Shap <shop@"},
        {"\"replyTo\":\"help@example.com\",", ""},
        {"\"subject\":\"Hello\"", "\"subject\":\"Hello \""},
        {"\"subject\":\"Hello\"", "\"subject\":\"\""},
        {"\"subject\":\"Hello\",", ""},
        {"\"text\":\"Hi\"", "\"text\":\"Hi\\n\""},
        {"\"text\":\"Hi\"", "\"text\":\"\""},
        {"\"text\":\"Hi\",", ""},
        {"\"text\":\"Hi\",\"html\":\"<p>Hi\"", "\"text\":\"<p>Hi\",\"html\":\"Hi\""},
        {"\"html\":\"<p>Hi\",", ""},
        {"\"template\":\"t\"", "\"template\":\"u\""},
        {"\"template\":\"t\",\"data\":{\"a\":1,\"b\":2},\"locale\":\"de\",", ""},
        {"\"data\":{\"a\":1,\"b\":2}", "\"data\":{\"a\":1,\"b\":3}"},
        {"\"data\":{\"a\":1,\"b\":2},", ""},
        {"\"locale\":\"de\"", "\"locale\":\"en\""},
        {"\"filename\":\"f\"", "\"filename\":\"g\""},
        {"\"contentType\":\"a/b\"", "\"contentType\":\"a/c\""},
        {"\"content\":\"QUJD\"", "\"content\":\"QUJE\""},
        {",\"contentID\":\"i\"", ""},
        {"\"contentID\":\"i\"}", "\"contentID\":\"i\"},{\"filename\":\"\xc3\xbc\",\"contentType\":"
                                 "\"a/b\",\"content\":\"\"}"},
        {"\"X-A\":\"1\"", "\"X-A\":\"3\""},
        {"\"X-A\":\"1\"", "\"X-C\":\"1\""},
        {"\"X-A\":\"1\",\"X-B\":\"2\"", ""},
    };
    enum { CHANGES = sizeof(changes) / sizeof(changes[0]) };
    char seen[CHANGES + 1][EVENT_FINGERPRINT_LEN + 1];

    (void)state;
    fingerprint_of(full, seen[CHANGES]);
    for (size_t i = 0; i < CHANGES; i++)
        fingerprint_with(changes[i][0], changes[i][1], seen[i]);
    for (size_t i = 0; i <= CHANGES; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(seen[i], seen[j]) == 0)
                fail_msg("changes %zu and %zu have the same fingerprint", j, i);
}

static void test_what_is_not_mailed_does_not(void **state)
{
    static const char *const changes[][2] = {
        {"\"m-1\"", "\"m-2\""},
        {"\"m-1\"", "\"m-1\",\"type\":\"welcome\""},
        {"\"m-1\"", "\"m-1\",\"createdAt\":\"2026-11-21T08:10:42Z\""},
        {"\"m-1\"", "\"m-1\",\"expiresAt\":\"2026-11-21T08:10:42Z\""},
        {"\"m-1\"", "\"m-1\",\"metadata\":{\"a\":1}"},
        {"\"m-1\"", "\"m-1\",\"unknown\":{\"a\":1}"},
        {"\"m-1\",", "  \"m-1\" ,\n"},
        {"\"a\":1,\"b\":2", "\"b\":2, \"a\":1"},
        {"\"X-A\":\"1\",\"X-B\":\"2\"", "\"X-B\":\"2\",\"X-A\":\"1\""},
        {"\"cc\":\"cc@example.com\"", "\"cc\":[{\"email\":\"cc@Example.com\",\"name\":\"\"}]"},
        {"\"Ann <ann@example.com>\"", "\"\\\"Ann\\\" <ann@example.com>\""},
    };
    char wanted[EVENT_FINGERPRINT_LEN + 1], got[EVENT_FINGERPRINT_LEN + 1];

    (void)state;
    fingerprint_of(full, wanted);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        fingerprint_with(changes[i][0], changes[i][1], got);
        assert_string_equal(got, wanted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pinned),
        cmocka_unit_test(test_pinned_empty),
        cmocka_unit_test(test_what_is_mailed_counts),
        cmocka_unit_test(test_what_is_not_mailed_does_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
