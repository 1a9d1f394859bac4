#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "email/address.h"

#define SIXTY_FOUR "llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll"
#define LABEL_62 "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"

struct good {
    const char *text, *name, *spec;
    size_t local_len;
    bool utf8_local;
};

static const struct good good[] = {
    {"a@example.com", "", "a@example.com", 1, false},
    {"Ann.Lee+tag@EXAMPLE.Com", "", "Ann.Lee+tag@example.com", 11, false},
    {"!#$%&'*+-/=?^_`{|}~@x", "", "!#$%&'*+-/=?^_`{|}~@x", 19, false},
    {"<a@example.com>", "", "a@example.com", 1, false},
    {"Ann Lee <a@example.com>", "Ann Lee", "a@example.com", 1, false},
    {"Ann Lee<a@example.com>", "Ann Lee", "a@example.com", 1, false},
    {"Ann   <a@example.com>", "Ann", "a@example.com", 1, false},
    {"Lee, A. (x) @home <a@example.com>", "Lee, A. (x) @home", "a@example.com", 1, false},
    {"J\xc3\xb6rg \xf0\x9f\x91\x8b <a@b.c>", "J\xc3\xb6rg \xf0\x9f\x91\x8b", "a@b.c", 1, false},
    {"\"Lee, Ann\" <a@b.c>", "Lee, Ann", "a@b.c", 1, false},
    {"\"A \\\"B\\\" \\\\ <C>\"<a@b.c>", "A \"B\" \\ <C>", "a@b.c", 1, false},
    {"\"\" <a@b.c>", "", "a@b.c", 1, false},
    {"Ann \"B\" <a@b.c>", "Ann \"B\"", "a@b.c", 1, false},
    {"\"a b\"@b.c", "", "\"a b\"@b.c", 5, false},
    {"\"a@\\\"b<>\"@b.c", "", "\"a@\\\"b<>\"@b.c", 9, false},
    {"N <\"a>b\"@b.c>", "N", "\"a>b\"@b.c", 5, false},
    {"j\xc3\xb6rg@b.c", "", "j\xc3\xb6rg@b.c", 5, true},
    {"a@b\xc3\xbc\x63her.example", "", "a@xn--bcher-kva.example", 1, false},
    {"a@B\xc3\x9c\x43HER.EXAMPLE", "", "a@xn--bcher-kva.example", 1, false},
    {"a@bu\xcc\x88\x63her.example", "", "a@xn--bcher-kva.example", 1, false}, /* u, combining ¨ */
    {"a@stra\xc3\x9f\x65.example", "", "a@xn--strae-oqa.example", 1,
     false}, /* non-transitional ß */
    {"a@\xe4\xbe\x8b\xe3\x80\x82\xe6\xb5\x8b\xe8\xaf\x95", "", "a@xn--fsq.xn--0zwm56d", 1, false},
    {"a@XN--BCHER-KVA.example", "", "a@xn--bcher-kva.example", 1, false},
    {"a@localhost", "", "a@localhost", 1, false},
    {"a@r3---sn-4g5e6nls.example.com", "", "a@r3---sn-4g5e6nls.example.com", 1, false},
    {"a@1.2-3.example", "", "a@1.2-3.example", 1, false},
    {SIXTY_FOUR "@example.com", "", SIXTY_FOUR "@example.com", 64, false},
    {SIXTY_FOUR "@" LABEL_62 "." LABEL_62 "." LABEL_62 "d", "",
     SIXTY_FOUR "@" LABEL_62 "." LABEL_62 "." LABEL_62 "d", 64, false}, /* 254 bytes */
};

static void assert_slice(struct slice got, const char *wanted, const char *text)
{
    if (!got.ptr || !slice_is(got, wanted))
        fail_msg("%s: \"%.*s\" instead of \"%s\"", text, SLICE_ARG(got), wanted);
}

static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct error err = {0};
        struct arena arena;
        struct address a;

        arena_init(&arena);
        if (!address_parse(&arena, slice_str(good[i].text), &a, &err))
            fail_msg("%s: %s", good[i].text, err.text);
        assert_slice(a.name, good[i].name, good[i].text);
        assert_slice(a.spec, good[i].spec, good[i].text);
        assert_int_equal(a.local_len, good[i].local_len);
        assert_int_equal(a.utf8_local, good[i].utf8_local);
        assert_slice(address_domain(&a), good[i].spec + good[i].local_len + 1, good[i].text);
        assert_false(err.set);
        arena_cleanup(&arena);
    }
}

static const char *const bad[] = {
    "",
    "a",
    "@",
    "a@",
    "@b.c",
    "a@b@c",
    "a b@c",
    " a@b.c",
    "a@b.c ",
    "a@b.c\n",
    "a@b.c\r\nX: y",
    "a\t@b.c",
    "a\x7f@b.c",
    ".a@b.c",
    "a.@b.c",
    "a..b@c",
    "a,b@c",
    "a(b)@c",
    "a@b.c (Ann)",
    "a;b@c",
    "a:b@c",
    "a\\b@c",
    "[a]@b.c",
    "a@[127.0.0.1]",
    "a@[IPv6:::1]",
    "a@b.",
    "a@.b",
    "a@b..c",
    "a@-b",
    "a@b-",
    "a@b_c",
    "a@b c",
    "a@b!c",
    "a@b.c,d@e.f",
    "a@b.c, d@e.f",
    "group:a@b.c;",
    "<@r:a@b.c>",
    "<>",
    "<a>",
    "<a@b.c",
    "a@b.c>",
    "<a@b.c> ",
    "<a@b.c>x",
    "<<a@b.c>>",
    "N <a@b.c> <d@e.f>",
    "N> <a@b.c>",
    " N <a@b.c>",
    "N <a@b.c>\n",
    "N\r\n <a@b.c>",
    "\"N <a@b.c>",
    "\"N\\\" <a@b.c>",
    "\"N\" x <a@b.c>",
    "\"N\"",
    "\"N\" a@b.c",
    "\"a\"b@c.d",
    "\"a@b.c",
    "\"a\\\"@b.c",
    "a\"b@c",
    "\xff@b.c",
    "a@\xff.c",
    "N\xc0\x80 <a@b.c>",
    "a@xn--a",
    "a@xn--",
    "a@xn--\xc3\xbc",
    "a@\xe2\x98\x83\xe2\x80\x8d.c",
    "a@\xc2\xad",
    "a@b\xef\xbc\xa0\x63",
    "a@b\xe3\x80\x82",
    "a@\xe2\x92\x88",
    SIXTY_FOUR "l@b.c",
    "a@" SIXTY_FOUR,
    SIXTY_FOUR "@" LABEL_62 "." LABEL_62 "." LABEL_62 ".d",
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error err = {0};
        struct arena arena;
        struct address a;

        arena_init(&arena);
        if (address_read(&arena, slice_str(bad[i]), &a, &err) != ADDRESS_INVALID)
            fail_msg("\"%s\" is taken", bad[i]);
        assert_null(a.spec.ptr);
        assert_true(err.set);
        if (strlen(bad[i]) > 4)
            assert_null(strstr(err.text, bad[i]));
        arena_cleanup(&arena);
    }
}

static void test_nul_is_refused(void **state)
{
    struct arena arena;
    struct address a;

    (void)state;
    arena_init(&arena);
    assert_false(address_parse(&arena, slice_of("a@b\0c", 5), &a, NULL));
    assert_false(address_parse(&arena, slice_of("a\0@b", 4), &a, NULL));
    assert_false(address_parse(&arena, slice_of("N\0 <a@b>", 8), &a, NULL));
    assert_false(address_parse(&arena, slice_of(NULL, 0), &a, NULL));
    assert_false(address_from_parts(&arena, slice_str("a@b"), slice_of("N\0", 2), &a, NULL));
    arena_cleanup(&arena);
}

static void test_parts(void **state)
{
    struct error err = {0};
    struct arena arena;
    struct address a;

    (void)state;
    arena_init(&arena);
    assert_true(address_from_parts(&arena, slice_str("a@B.c"), slice_of(NULL, 0), &a, &err));
    assert_slice(a.spec, "a@b.c", "no name");
    assert_slice(a.name, "", "no name");
    assert_true(
        address_from_parts(&arena, slice_str("a@b.c"), slice_str(" \"N\" <x@y> "), &a, &err));
    assert_slice(a.name, " \"N\" <x@y> ", "a name is taken as it is");
    assert_false(address_from_parts(&arena, slice_str("N <a@b.c>"), slice_str("N"), &a, NULL));
    assert_false(address_from_parts(&arena, slice_str("a@b.c"), slice_str("N\n"), &a, NULL));
    assert_false(address_from_parts(&arena, slice_str("a@b.c\n"), slice_str("N"), &a, NULL));
    assert_false(address_from_parts(&arena, slice_str("a@b.c"), slice_str("\xff"), &a, NULL));
    arena_cleanup(&arena);
}

static void test_name_bound(void **state)
{
    char name[ADDRESS_MAX_NAME + 2], text[sizeof(name) + 16];
    struct arena arena;
    struct address a;

    (void)state;
    arena_init(&arena);
    memset(name, 'n', sizeof(name));
    for (size_t len = ADDRESS_MAX_NAME; len <= ADDRESS_MAX_NAME + 1; len++) {
        bool fits = len <= ADDRESS_MAX_NAME;
        assert_int_equal(
            address_from_parts(&arena, slice_str("a@b"), slice_of(name, len), &a, NULL), fits);
        memcpy(text, name, len);
        memcpy(text + len, "<a@b>", 5);
        assert_int_equal(address_parse(&arena, slice_of(text, len + 5), &a, NULL), fits);
        text[0] = '"';
        memcpy(text + 1, name, len);
        memcpy(text + 1 + len, "\"<a@b>", 6);
        assert_int_equal(address_parse(&arena, slice_of(text, len + 7), &a, NULL), fits);
    }
    arena_cleanup(&arena);
}

static void test_result_outlives_the_text(void **state)
{
    char text[] = "\"N\\N\" <a@b.c>";
    struct arena arena;
    struct address a;

    (void)state;
    arena_init(&arena);
    assert_true(address_parse(&arena, slice_str(text), &a, NULL));
    memset(text, 'x', sizeof(text));
    assert_slice(a.name, "NN", "quoted");
    assert_slice(a.spec, "a@b.c", "quoted");
    arena_cleanup(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),           cmocka_unit_test(test_bad),
        cmocka_unit_test(test_nul_is_refused), cmocka_unit_test(test_parts),
        cmocka_unit_test(test_name_bound),     cmocka_unit_test(test_result_outlives_the_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
