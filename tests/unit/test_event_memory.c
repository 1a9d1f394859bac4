/* Memory that runs out while an event is decoded: the answer is "try again", never "bad event",
 * never a different event. Every allocation of the arena and of jansson fails in turn. (libidn2 has
 * no hook; its own failure maps to the same answer.) */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "email/event.h"

static size_t allocations; /* since the last reset */
static size_t fail_first, fail_last;

static void *limited_malloc(size_t size)
{
    size_t number = ++allocations;

    if (number >= fail_first && number <= fail_last) {
        errno = ENOMEM;
        return NULL;
    }
    return malloc(size);
}

/* The arena, on the limited allocator; the linker takes this copy and leaves the library's out. */
#define malloc(size) limited_malloc(size)
#include "base/arena.c"
#undef malloc

static const char json[] =
    "{\"messageID\":\"m-1\",\"type\":\"welcome\",\"to\":[\"Ann "
    "<ann@example.com>\",\"bob@example.com\"],"
    "\"cc\":{\"email\":\"cc@example.com\",\"name\":\"C\"},\"from\":\"\\\"S\\\\\\\"\\\" "
    "<s@example.com>\","
    "\"subject\":\"Hello\",\"text\":\"a text of some length, so that the lexer's buffer has to "
    "grow\","
    "\"template\":\"t\",\"data\":{\"b\":[\"x\"],\"a\":{}},\"locale\":\"de\",\"headers\":{\"X-B\":"
    "\"1\","
    "\"X-A\":\"2\"},\"attachments\":[{\"filename\":\"a\",\"contentType\":\"a/"
    "b\",\"content\":\"QUJD\","
    "\"contentID\":\"i\"}],\"createdAt\":\"2026-11-21T08:10:42Z\",\"metadata\":{\"k\":[]}}";

static enum event_status decode(size_t first, size_t last, char fingerprint[], struct error *err)
{
    struct arena arena;
    struct event ev;
    enum event_status status;

    *err = (struct error){0};
    allocations = 0;
    fail_first = first;
    fail_last = last;
    arena_init(&arena);
    status = event_decode(&arena, slice_str(json), sizeof(json), &ev, err);
    memcpy(fingerprint, ev.fingerprint, sizeof(ev.fingerprint));
    arena_cleanup(&arena);
    return status;
}

/* Fails allocations number `first` to `last`. */
static void check(size_t first, size_t last, const char *wanted)
{
    char fingerprint[EVENT_FINGERPRINT_LEN + 1];
    struct error err;
    enum event_status status = decode(first, last, fingerprint, &err);

    if (status == EVENT_OK)
        assert_string_equal(fingerprint, wanted);
    else if (status != EVENT_NO_MEMORY || !err.set)
        fail_msg("allocations %zu to %zu fail: status %d, \"%s\"", first, last, status, err.text);
}

static void test_every_allocation_fails(void **state)
{
    char wanted[EVENT_FINGERPRINT_LEN + 1];
    struct error err;
    size_t total;

    (void)state;
    assert_int_equal(decode(SIZE_MAX, SIZE_MAX, wanted, &err), EVENT_OK);
    total = allocations;
    assert_true(total > 15);
    for (size_t i = 1; i <= total; i++) {
        char fingerprint[EVENT_FINGERPRINT_LEN + 1];
        check(i, i, wanted);
        assert_int_equal(decode(i, SIZE_MAX, fingerprint, &err), EVENT_NO_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_allocation_fails),
    };

    json_set_alloc_funcs(limited_malloc, free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
