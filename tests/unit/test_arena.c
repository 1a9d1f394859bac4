#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/arena.h"

/* Pieces of every size are aligned, zeroed and apart from one another. */
static void test_alloc(void **state)
{
    enum { PIECES = 600 };
    unsigned char *pieces[PIECES];
    struct arena a;

    (void)state;
    arena_init(&a);
    for (size_t i = 0; i < PIECES; i++) {
        size_t size = i * 37 % 5000;
        pieces[i] = arena_alloc(&a, size);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
        for (size_t at = 0; at < size; at++)
            assert_int_equal(pieces[i][at], 0);
        memset(pieces[i], (int)(i % 255 + 1), size);
    }
    for (size_t i = 0; i < PIECES; i++)
        for (size_t at = 0; at < i * 37 % 5000; at++)
            assert_int_equal(pieces[i][at], i % 255 + 1);
    assert_true(a.used > 0);
    arena_cleanup(&a);
    assert_int_equal(a.used, 0);
    arena_cleanup(&a);
}

static void test_large(void **state)
{
    struct arena a;
    char *small, *large;

    (void)state;
    arena_init(&a);
    small = arena_alloc(&a, 1);
    large = arena_alloc(&a, 1 << 20);
    assert_non_null(small);
    assert_non_null(large);
    memset(large, 'x', 1 << 20);
    assert_int_equal(*small, 0);
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX / 2 + 1));
    assert_non_null(arena_alloc(&a, 10)); /* a refused request does no harm */
    arena_cleanup(&a);
}

static void test_copy(void **state)
{
    char text[] = "ab\0c";
    struct arena a;
    struct slice copy;

    (void)state;
    arena_init(&a);
    copy = arena_copy(&a, slice_of(text, 4));
    text[0] = 'x';
    assert_int_equal(copy.len, 4);
    assert_memory_equal(copy.ptr, "ab\0c", 5); /* with the NUL behind it */
    copy = arena_copy(&a, slice_of("", 0));
    assert_non_null(copy.ptr);
    assert_int_equal(copy.len, 0);
    assert_null(arena_copy(&a, slice_of(NULL, 0)).ptr);
    arena_cleanup(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_copy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
