#undef NDEBUG
#include "codes.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const struct codes_limits limits = {
    .max_addresses = 3, .per_address = 2, .window_ms = 1000, .lifetime_ms = 500, .max_tries = 3};

static enum codes_verdict check(struct codes *c, const char *address, int64_t now_ms)
{
    int64_t wait_ms;
    return codes_check(c, address, now_ms, &wait_ms);
}

static void test_make(void)
{
    char code[CODES_SIZE];
    assert(codes_make(0, code) && strcmp(code, "000000") == 0);
    assert(codes_make(42, code) && strcmp(code, "000042") == 0);
    assert(codes_make(1000000 + 7, code) && strcmp(code, "000007") == 0);
    assert(codes_make(4293999999U, code) && strcmp(code, "999999") == 0);
    assert(!codes_make(4294000000U, code));
    assert(!codes_make(UINT32_MAX, code));
}

static void test_verify(void)
{
    struct codes *c = codes_new(&limits);
    assert(!codes_verify(c, "a@x", "123456", 0)); /* never asked for */
    assert(codes_put(c, "a@x", "123456", 0));
    assert(!codes_verify(c, "b@x", "123456", 1));
    assert(!codes_verify(c, "a@x", "", 1));
    assert(!codes_verify(c, "a@x", "12345", 1));
    assert(!codes_verify(c, "a@x", "1234567", 1));
    assert(!codes_verify(c, "a@x", "123457", 1));
    assert(codes_verify(c, "a@x", "123456", 1));
    assert(!codes_verify(c, "a@x", "123456", 1)); /* once */
    codes_destroy(c);
}

static void test_tries(void)
{
    struct codes *c = codes_new(&limits);
    assert(codes_put(c, "a@x", "123456", 0));
    for (unsigned i = 0; i < limits.max_tries; i++)
        assert(!codes_verify(c, "a@x", "000000", 1));
    assert(!codes_verify(c, "a@x", "123456", 1));
    assert(codes_put(c, "a@x", "654321", 2)); /* a new code, new tries */
    assert(codes_verify(c, "a@x", "654321", 3));
    codes_destroy(c);
}

static void test_expiry(void)
{
    struct codes *c = codes_new(&limits);
    assert(codes_put(c, "a@x", "111111", 0));
    assert(codes_put(c, "b@x", "222222", 0));
    assert(codes_verify(c, "a@x", "111111", 499));
    assert(!codes_verify(c, "b@x", "222222", 500));
    codes_destroy(c);
}

static void test_latest_counts(void)
{
    struct codes *c = codes_new(&limits);
    assert(codes_put(c, "a@x", "111111", 0));
    assert(codes_put(c, "a@x", "222222", 1));
    assert(!codes_verify(c, "a@x", "111111", 2));
    assert(codes_verify(c, "a@x", "222222", 2));
    codes_destroy(c);
}

/* Never more than two in any 1000 ms, wherever that second begins. */
static void test_rate(void)
{
    struct codes *c = codes_new(&limits);
    int64_t wait_ms;
    assert(codes_put(c, "a@x", "111111", 0));
    assert(codes_put(c, "a@x", "111111", 900));
    assert(codes_check(c, "a@x", 950, &wait_ms) == CODES_TOO_MANY && wait_ms == 50);
    assert(codes_check(c, "a@x", 1000, &wait_ms) == CODES_ALLOWED && wait_ms == 0);
    assert(codes_put(c, "a@x", "111111", 1000));
    assert(codes_check(c, "a@x", 1001, &wait_ms) == CODES_TOO_MANY && wait_ms == 899);
    assert(check(c, "b@x", 1001) == CODES_ALLOWED);
    codes_destroy(c);
}

static void test_using_a_code_frees_no_request(void)
{
    struct codes *c = codes_new(&limits);
    assert(codes_put(c, "a@x", "111111", 0) && codes_verify(c, "a@x", "111111", 0));
    assert(codes_put(c, "a@x", "222222", 0) && codes_verify(c, "a@x", "222222", 0));
    assert(check(c, "a@x", 1) == CODES_TOO_MANY);
    codes_destroy(c);
}

static void test_bounded(void)
{
    struct codes *c = codes_new(&limits);
    assert(codes_put(c, "a@x", "111111", 0));
    assert(codes_put(c, "b@x", "111111", 1));
    assert(codes_put(c, "c@x", "111111", 2));
    assert(check(c, "d@x", 3) == CODES_FULL);
    assert(check(c, "a@x", 3) == CODES_ALLOWED); /* known already */
    assert(codes_put(c, "a@x", "222222", 4));
    assert(check(c, "d@x", 1001) == CODES_ALLOWED); /* b is forgotten, a is not: it asked again */
    assert(codes_addresses(c) == 2);
    assert(check(c, "d@x", 2000) == CODES_ALLOWED);
    assert(codes_addresses(c) == 0);
    codes_destroy(c);
}

static void test_many(void)
{
    struct codes_limits wide = limits;
    wide.max_addresses = 20000;
    struct codes *c = codes_new(&wide);
    char address[32], code[CODES_SIZE];
    for (unsigned i = 0; i < wide.max_addresses; i++) {
        snprintf(address, sizeof(address), "user%u@example.com", i);
        assert(codes_make(i, code) && check(c, address, 0) == CODES_ALLOWED);
        assert(codes_put(c, address, code, 0));
    }
    for (unsigned i = 0; i < wide.max_addresses; i++) {
        snprintf(address, sizeof(address), "user%u@example.com", i);
        assert(codes_make(i, code) && codes_verify(c, address, code, 1));
    }
    assert(check(c, "one-more@example.com", 1) == CODES_FULL);
    codes_destroy(c);
}

int main(void)
{
    codes_destroy(NULL);
    test_make();
    test_verify();
    test_tries();
    test_expiry();
    test_latest_counts();
    test_rate();
    test_using_a_code_frees_no_request();
    test_bounded();
    test_many();
    puts("test_codes: all passed");
    return 0;
}
