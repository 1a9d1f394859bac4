#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"

static void assert_buf(const struct buf *b, const char *wanted)
{
    assert_false(b->failed);
    assert_int_equal(b->len, strlen(wanted));
    assert_string_equal(b->ptr, wanted);
}

static void test_append(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b);
    assert_true(slice_is(buf_slice(&b), ""));
    assert_non_null(buf_slice(&b).ptr);
    buf_add(&b, NULL, 0);
    assert_buf(&b, "");
    buf_add_str(&b, "ab");
    buf_add_slice(&b, slice_of("cde", 2));
    buf_add_char(&b, '|');
    buf_addf(&b, "%d-%s", 42, "x");
    assert_buf(&b, "abcd|42-x");
    assert_true(slice_is(buf_slice(&b), "abcd|42-x"));
    buf_clear(&b);
    assert_buf(&b, "");
    buf_cleanup(&b);
    buf_cleanup(&b);
}

static void test_numbers(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b);
    buf_add_u64(&b, 0);
    buf_add_char(&b, ' ');
    buf_add_u64(&b, UINT64_MAX);
    buf_add_char(&b, ' ');
    buf_add_i64(&b, INT64_MIN);
    buf_add_char(&b, ' ');
    buf_add_i64(&b, INT64_MAX);
    assert_buf(&b, "0 18446744073709551615 -9223372036854775808 9223372036854775807");
    buf_cleanup(&b);
}

/* Every length around the sizes at which it grows; ASan sees what stands behind. */
static void test_growth(void **state)
{
    struct buf b;

    (void)state;
    for (size_t piece = 1; piece < 200; piece++) {
        char bytes[200];
        memset(bytes, 'x', sizeof(bytes));
        buf_init(&b);
        for (size_t total = piece; total < 1000; total += piece) {
            buf_add(&b, bytes, piece);
            assert_int_equal(b.len, total);
            assert_int_equal(strlen(b.ptr), total);
            assert_true(b.cap > b.len);
        }
        buf_cleanup(&b);
    }
    buf_init(&b);
    buf_addf(&b, "%063d", 1); /* 63 and the NUL: exactly the first allocation */
    buf_addf(&b, "%064d", 2);
    assert_int_equal(b.len, 127);
    assert_int_equal(strlen(b.ptr), 127);
    buf_cleanup(&b);
}

static void test_failure_sticks(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b);
    buf_add_str(&b, "ab");
    assert_false(buf_reserve(&b, SIZE_MAX));
    assert_true(b.failed);
    buf_add_str(&b, "cd");
    buf_addf(&b, "%d", 1);
    assert_int_equal(b.len, 2);
    assert_true(b.failed);
    buf_clear(&b);
    assert_false(b.failed);
    buf_add_str(&b, "ef");
    assert_buf(&b, "ef");
    buf_cleanup(&b);
}

static void test_consume(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b);
    buf_consume(&b, 5);
    buf_add_str(&b, "abcdef");
    buf_consume(&b, 0);
    buf_consume(&b, 2);
    assert_buf(&b, "cdef");
    buf_consume(&b, 4);
    assert_buf(&b, "");
    buf_add_str(&b, "gh");
    buf_consume(&b, 100);
    assert_buf(&b, "");
    buf_cleanup(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append),  cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_growth),  cmocka_unit_test(test_failure_sticks),
        cmocka_unit_test(test_consume),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
