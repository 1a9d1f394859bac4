/* Parsing JSON in pieces: the result is jansson's own, wherever the pieces end. */
#include "email/json_read.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

static void same_as_jansson(const char *text, size_t len)
{
    /* Of its own size on the heap, so that AddressSanitizer sees the first byte read beyond. */
    char *copy = malloc(len ? len : 1);
    json_error_t ours = {0}, theirs = {0};
    json_t *read, *wanted;
    bool out_of_memory;

    assert_non_null(copy);
    memcpy(copy, text, len);
    read = json_read(slice_of(copy, len), JSON_REJECT_DUPLICATES, &ours, &out_of_memory);
    wanted = json_loadb(text, len, JSON_REJECT_DUPLICATES, &theirs);
    assert_false(out_of_memory);
    assert_int_equal(read != NULL, wanted != NULL);
    if (read)
        assert_true(json_equal(read, wanted));
    else
        assert_int_equal(json_error_code(&ours), json_error_code(&theirs));
    assert_int_equal(ours.line, theirs.line);
    assert_int_equal(ours.column, theirs.column);
    json_decref(read);
    json_decref(wanted);
    free(copy);
}

/* jansson asks for 1 kB at a time. */
static void test_wherever_a_piece_ends(void **state)
{
    char text[3000];

    (void)state;
    for (int pad = 940; pad < 1040; pad++) {
        const int len = snprintf(
            text, sizeof(text),
            "{\"pad\":\"%0*d\",\"n\":[1,-23,4.5,6e7,-8.9E+10 ,11\n],\"s\":\"12 \\\"3\\\\\","
            "\"t\\u00e4\":123456789012345678,\"e\":\"\"}",
            pad, 7);
        same_as_jansson(text, (size_t)len);
        same_as_jansson(text, (size_t)len - 1); /* cut off */
        text[len - 2] = 'x';
        same_as_jansson(text, (size_t)len);
    }
}

static void test_small_texts(void **state)
{
    static const char *const texts[] = {
        "",       "{",     "{}",   "[]",       "[1",      "[1]",      "[12 ,3]",
        "[1x]",   "[-]",   "[1.]", "[1e]",     "[1.5e]",  "[01]",     "[\"1\",2]",
        "[\"",    "[\"\\", "[1\"", "[1\"a\"]", "[true]",  "[true1]",  "{\"a\":1,\"a\":2}",
        "[1]x",   "[1] 2", "7",    "\"\xff\"", "[2\xff]", "[1,2,3,]", "[99999999999999999999]",
        "[1e400]"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        same_as_jansson(texts[i], strlen(texts[i]));
    same_as_jansson("[1\0]", 4);
}

/* A former failure of somebody else's is none of ours. */
static void test_old_errno(void **state)
{
    json_error_t fault;
    bool out_of_memory;
    json_t *read;

    (void)state;
    errno = ENOMEM;
    read = json_read(slice_str("[1]"), 0, &fault, &out_of_memory);
    assert_non_null(read);
    assert_false(out_of_memory);
    json_decref(read);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wherever_a_piece_ends),
        cmocka_unit_test(test_small_texts),
        cmocka_unit_test(test_old_errno),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
