/* Lanes: order within a key, independence between keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "delivery/lanes.h"

static void one_after_another(void **state)
{
    struct lanes *l = lanes_new();
    struct lane_member a = {0}, b = {0}, c = {0}, other = {0};

    (void)state;
    assert_non_null(l);
    assert_int_equal(lanes_enter(l, &a, slice_str("k"), &a), LANE_FIRST);
    assert_int_equal(lanes_enter(l, &b, slice_str("k"), &b), LANE_BEHIND);
    assert_int_equal(lanes_enter(l, &c, slice_str("k"), &c), LANE_BEHIND);
    assert_int_equal(lanes_enter(l, &other, slice_str("kk"), &other), LANE_FIRST);
    assert_int_equal(lanes_count(l), 2);
    assert_ptr_equal(lanes_leave(l, &a), &b);
    assert_null(lanes_leave(l, &a)); /* twice is fine */
    assert_ptr_equal(lanes_leave(l, &b), &c);
    assert_null(lanes_leave(l, &c));
    assert_null(lanes_leave(l, &other));
    assert_int_equal(lanes_count(l), 0);
    lanes_destroy(l);
}

static void leaving_from_the_middle_starts_nobody(void **state)
{
    struct lanes *l = lanes_new();
    struct lane_member a = {0}, b = {0}, c = {0};

    (void)state;
    assert_int_equal(lanes_enter(l, &a, slice_of("", 0), &a),
                     LANE_FIRST); /* the empty key is a key */
    assert_int_equal(lanes_enter(l, &b, slice_of("", 0), &b), LANE_BEHIND);
    assert_int_equal(lanes_enter(l, &c, slice_of("", 0), &c), LANE_BEHIND);
    assert_null(lanes_leave(l, &b));
    assert_ptr_equal(lanes_leave(l, &a), &c);
    assert_null(lanes_leave(l, &c));
    lanes_destroy(l);
}

static void keys_outlive_their_first_member(void **state)
{
    struct lanes *l = lanes_new();
    struct lane_member a = {0}, b = {0}, c = {0};
    char *first = strdup("key"), *second = strdup("key");

    (void)state;
    assert_int_equal(lanes_enter(l, &a, slice_str(first), &a), LANE_FIRST);
    assert_int_equal(lanes_enter(l, &b, slice_str(second), &b), LANE_BEHIND);
    assert_ptr_equal(lanes_leave(l, &a), &b);
    memset(first, 'x', 3);
    free(first);
    assert_int_equal(lanes_enter(l, &c, slice_str("key"), &c), LANE_BEHIND);
    assert_ptr_equal(lanes_leave(l, &b), &c);
    free(second);
    lanes_destroy(l); /* with a member left */
}

static void many_keys(void **state)
{
    enum { N = 20000 };
    struct lanes *l = lanes_new();
    struct lane_member *m = calloc(N, sizeof(*m));
    char(*keys)[16] = calloc(N, sizeof(*keys));

    (void)state;
    for (int i = 0; i < N; i++) {
        snprintf(keys[i], sizeof(keys[i]), "k%d", i / 2);
        assert_int_equal(lanes_enter(l, &m[i], slice_str(keys[i]), &m[i]),
                         i % 2 ? LANE_BEHIND : LANE_FIRST);
    }
    assert_int_equal(lanes_count(l), N / 2);
    for (int i = 0; i < N; i++)
        assert_ptr_equal(lanes_leave(l, &m[i]), i % 2 ? NULL : &m[i + 1]);
    assert_int_equal(lanes_count(l), 0);
    free(m);
    free(keys);
    lanes_destroy(l);
    lanes_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_after_another),
        cmocka_unit_test(leaving_from_the_middle_starts_nobody),
        cmocka_unit_test(keys_outlive_their_first_member),
        cmocka_unit_test(many_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
