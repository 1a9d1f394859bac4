/* Memory that runs out in the producer library: every event that was taken gets its one outcome,
 * nothing hangs, and the host lives on. Each allocation of ours and of jansson's fails in turn,
 * alone and with all that follow. Sends directly, in log mode: librdkafka ends the process without
 * memory.
 */
#include "producer_fixture.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* The linker makes every call of ours to malloc one to __wrap_malloc, see CMakeLists.txt. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);

enum { EVENTS = 3, SHORT_MS = 20, PATIENCE_MS = 30000 };

/* While memory is out an event may wait for it: until it is back, or until the end. */
enum ending { ALL_TOLD, MEMORY_RETURNS, DESTROYED };

static atomic_long allocations, fail_first, fail_last; /* from 1; 0: none fails */

static bool fails(void)
{
    const long number = atomic_fetch_add(&allocations, 1) + 1;

    if (number < atomic_load(&fail_first) || number > atomic_load(&fail_last))
        return false;
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

static const char *const settings[] = {"ENABLE_KAFKA=false", "EMAIL_RETRY_BASE_MS=1",
                                       "EMAIL_RETRY_MAX_MS=1", "EMAIL_MAX_ATTEMPTS=3", NULL};

static unsigned send_some(email_producer *p, struct seen seen[])
{
    email_event e = good_event();
    char error[EMAIL_PRODUCER_ERROR_SIZE], key[] = "k0";
    unsigned taken = 0;

    for (size_t i = 0; i < EVENTS; i++) {
        email_status status;
        key[1] = (char)('0' + i % 2); /* some wait behind others */
        e.key = key;
        status = email_producer_send(p, &e, on_outcome, &seen[i], error, sizeof(error));
        if (status != EMAIL_QUEUED && (status != EMAIL_NO_MEMORY || !error[0]))
            fail_msg("status %d, \"%s\"", status, error);
        taken += status == EMAIL_QUEUED;
    }
    return taken;
}

static void use(email_producer *p, enum ending ending)
{
    struct seen seen[EVENTS] = {SEEN_INIT, SEEN_INIT, SEEN_INIT};
    const unsigned taken = send_some(p, seen);
    unsigned told = 0;

    if (ending != DESTROYED) {
        if (ending == MEMORY_RETURNS) {
            (void)email_producer_flush(p, SHORT_MS); /* some may get theirs even so */
            atomic_store(&fail_last, 0);
        }
        assert_int_equal(email_producer_flush(p, PATIENCE_MS), 0);
    }
    email_producer_destroy(p, 0);
    for (size_t i = 0; i < EVENTS; i++) {
        assert_true(seen[i].outcomes <= 1);
        told += seen[i].outcomes;
        assert_int_equal(seen[i].results[EMAIL_PUBLISHED] + seen[i].results[EMAIL_SENT_BEFORE], 0);
        assert_int_equal(seen[i].error[0] != '\0',
                         seen[i].outcomes && !seen[i].results[EMAIL_SENT_DIRECTLY]);
    }
    assert_int_equal(told, taken);
}

/* From the making to the end of a producer, in which allocations number `first` to `last` fail. */
static void run(long first, long last, enum ending ending)
{
    struct seen log = SEEN_INIT;
    const email_producer_options options = {.struct_size = sizeof(options),
                                            .settings = settings,
                                            .ignore_environment = 1,
                                            .publish_timeout_ms = 1000,
                                            .log = on_log,
                                            .log_context = &log};
    char error[EMAIL_PRODUCER_ERROR_SIZE];
    email_producer *p;

    atomic_store(&allocations, 0);
    atomic_store(&fail_last, last);
    atomic_store(&fail_first, first);
    p = email_producer_new(&options, error, sizeof(error));
    if (p)
        use(p, ending);
    else
        assert_true(error[0]);
    atomic_store(&fail_last, 0);
}

static long allocations_of_a_good_run(void)
{
    run(1, 0, ALL_TOLD);
    return atomic_load(&allocations);
}

static void test_one_fails(void **state)
{
    const long all = allocations_of_a_good_run();

    (void)state;
    assert_true(all > 50);
    for (long n = 1; n <= all; n++)
        run(n, n, ALL_TOLD);
}

/* Not from each one on: most of them wait for the store's second. */
static void test_all_fail_for_a_while(void **state)
{
    const long all = allocations_of_a_good_run();

    (void)state;
    for (long n = 1; n <= all; n += 1 + all / 20)
        run(n, LONG_MAX, MEMORY_RETURNS);
}

static void test_all_fail_to_the_end(void **state)
{
    const long all = allocations_of_a_good_run();

    (void)state;
    for (long n = 1; n <= all; n++)
        run(n, LONG_MAX, DESTROYED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_fails),
        cmocka_unit_test(test_all_fail_for_a_while),
        cmocka_unit_test(test_all_fail_to_the_end),
    };

    json_set_alloc_funcs(__wrap_malloc, free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
