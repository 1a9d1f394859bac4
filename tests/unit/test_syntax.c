#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "email/syntax.h"

typedef bool (*predicate)(struct slice);

static void all(predicate p, bool wanted, const char *const *texts)
{
    for (; *texts; texts++)
        if (p(slice_str(*texts)) != wanted)
            fail_msg("\"%s\" is %s", *texts, wanted ? "refused" : "taken");
}

static void test_content_type(void **state)
{
    (void)state;
    all(syntax_is_content_type, true,
        (const char *const[]){"a/b", "text/plain", "application/vnd.a+json", "a/b;c=d",
                              "a/b ; c=\"d\\\"; e\"", "a/b; c=d; e=f", "a/b;c=\"\"", NULL});
    all(syntax_is_content_type, false,
        (const char *const[]){"",
                              "a",
                              "a/",
                              "/b",
                              "a/b/c",
                              "a /b",
                              "a/b ",
                              "a/b;",
                              "a/b;c",
                              "a/b;c=",
                              "a/b; c =d",
                              "a/b;c=\"d",
                              "a/b;c=\"d\\",
                              "a/b;c=\"\x80\"",
                              "a/b;c=\"\n\"",
                              "a/b\n",
                              "a/b c=d",
                              "a/b;;c=d",
                              "a/b;c=d e",
                              "a/\xc3\xbc",
                              NULL});
    all(syntax_is_composite_type, true,
        (const char *const[]){"multipart/mixed", "MESSAGE/rfc822", NULL});
    all(syntax_is_composite_type, false,
        (const char *const[]){"multipartx/a", "text/plain", "m", NULL});
}

static void test_headers(void **state)
{
    (void)state;
    all(syntax_is_header_name, true, (const char *const[]){"X", "X-A_b.c!~", "\"<>", NULL});
    all(syntax_is_header_name, false,
        (const char *const[]){"", "X:", "X ", "X\n", "\x7f", "\xc3\xbc", NULL});
    all(syntax_is_reserved_header, true,
        (const char *const[]){"From", "FROM", "message-id", "Content-", "content-X", "resent-from",
                              NULL});
    all(syntax_is_reserved_header, false,
        (const char *const[]){"X-From", "Fro", "Froms", "Content", "References", "", NULL});
}

static void test_words(void **state)
{
    (void)state;
    all(syntax_is_locale, true,
        (const char *const[]){"de", "pt-BR", "zh-Hant-TW", "x-12345678", NULL});
    all(syntax_is_locale, false,
        (const char *const[]){"", "-", "de-", "-de", "de--at", "de_AT", "abcdefghi", "d\xc3\xa9",
                              NULL});
    all(syntax_is_event_type, true, (const char *const[]){"a", "0", "a_b.c-d", NULL});
    all(syntax_is_event_type, false,
        (const char *const[]){"", "_a", ".a", "-a", "A", "a b", "a\n", NULL});
    all(syntax_is_template_name, true, (const char *const[]){"A", "-", "a_1", NULL});
    all(syntax_is_template_name, false, (const char *const[]){"", "a.b", "a/b", "a\n", NULL});
    assert_int_equal(syntax_longest_word(slice_str("")), 0);
    assert_int_equal(syntax_longest_word(slice_str("ab abc a")), 3);
    assert_int_equal(syntax_longest_word(slice_str("a bcde")), 4);
    assert_true(syntax_compare_nocase(slice_str("aB"), slice_str("Ab")) == 0);
    assert_true(syntax_compare_nocase(slice_str("a"), slice_str("AB")) < 0);
    assert_true(syntax_compare_nocase(slice_str("C"), slice_str("ab")) > 0);
}

static void base64(const char *text, const char *wanted)
{
    unsigned char *out =
        malloc(strlen(text) / 4 * 3 + 1); /* exact, so that ASan sees one byte more */
    size_t len = 0;
    bool good;

    assert_non_null(out);
    good = syntax_base64_decode(slice_str(text), out, &len);
    if (good != (wanted != NULL))
        fail_msg("\"%s\" is %s", text, good ? "taken" : "refused");
    if (wanted) {
        assert_int_equal(len, strlen(wanted));
        assert_memory_equal(out, wanted, len);
    }
    free(out);
}

static void test_base64(void **state)
{
    static const char *const refused[] = {"Z",          "Zg",        "Zg=",  "Zh==",      "Zm9=",
                                          "====",       "Z===",      "=Zg=", "Zg==Zg==",  "Zm9v\n",
                                          "Zm 9v",      "Zm9v Zg==", "_-_-", "Zm9v====",  "Zg=a",
                                          "\xc3\xbc==", "Zm9vZ===",  "=",    "Z\x80\x80Z"};

    (void)state;
    base64("", "");
    base64("Zg==", "f");
    base64("Zm8=", "fo");
    base64("Zm9v", "foo");
    base64("Zm9vYg==", "foob");
    base64("Zm9vYmE=", "fooba");
    base64("Zm9vYmFy", "foobar");
    base64("+/+/", "\xfb\xff\xbf");
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        base64(refused[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_content_type),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_base64),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
