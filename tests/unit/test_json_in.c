/* The JSON reader: a table, and jansson as the judge of everything that mutation makes of good and
 * bad texts. Both must take the same texts, and read the same in them. */
#include "base/json_in.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/buf.h"

enum { DEPTH = 32, MUTATIONS = 60000, LONGEST = 4096 };

static enum json_in_fault parse(const char *text, size_t *line, size_t *column)
{
    struct json_in_error err;
    struct arena arena;
    const struct json_in *root;

    arena_init(&arena);
    root = json_in_parse(&arena, slice_str(text), DEPTH, &err);
    assert_int_equal(root == NULL, err.fault != JSON_IN_FAULT_NONE);
    arena_cleanup(&arena);
    *line = err.line;
    *column = err.column;
    return err.fault;
}

static void test_faults(void **state)
{
    static const struct {
        const char *text;
        enum json_in_fault fault;
        size_t line, column;
    } cases[] = {
        {"", JSON_IN_FAULT_END, 1, 1},
        {" \n ", JSON_IN_FAULT_END, 2, 2},
        {"x", JSON_IN_FAULT_SYNTAX, 1, 1},
        {"1", JSON_IN_FAULT_SYNTAX, 1, 1},
        {"\"a\"", JSON_IN_FAULT_SYNTAX, 1, 1},
        {"{}x", JSON_IN_FAULT_TRAILER, 1, 3},
        {"{} {}", JSON_IN_FAULT_TRAILER, 1, 4},
        {"{", JSON_IN_FAULT_END, 1, 2},
        {"{\n \"a\"\n:\n}", JSON_IN_FAULT_SYNTAX, 4, 1},
        {"[1,]", JSON_IN_FAULT_SYNTAX, 1, 4},
        {"[,1]", JSON_IN_FAULT_SYNTAX, 1, 2},
        {"[1 2]", JSON_IN_FAULT_SYNTAX, 1, 4},
        {"{\"a\":1,\"a\":2}", JSON_IN_FAULT_TWICE, 1, 14},
        {"[\"a", JSON_IN_FAULT_END, 1, 4},
        {"[\"a\\", JSON_IN_FAULT_END, 1, 5},
        {"[\"a\nb\"]", JSON_IN_FAULT_SYNTAX, 1, 4},
        {"[\"\\x\"]", JSON_IN_FAULT_SYNTAX, 1, 4},
        {"[\"\\u12\"]", JSON_IN_FAULT_SYNTAX, 1, 7},
        {"[\"\\u0000\"]", JSON_IN_FAULT_NUL, 1, 9},
        {"[\"\\ud800\"]", JSON_IN_FAULT_SYNTAX, 1, 9},
        {"[\"\\udc00\"]", JSON_IN_FAULT_SYNTAX, 1, 9},
        {"[\"\\ud800\\u0041\"]", JSON_IN_FAULT_SYNTAX, 1, 15},
        {"[\"\xff\"]", JSON_IN_FAULT_UTF8, 1, 3},
        {"[\"\xc3\"]", JSON_IN_FAULT_UTF8, 1, 3},
        {"[\"\xed\xa0\x80\"]", JSON_IN_FAULT_UTF8, 1, 3},
        {"[01]", JSON_IN_FAULT_SYNTAX, 1, 3},
        {"[-]", JSON_IN_FAULT_SYNTAX, 1, 3},
        {"[1.]", JSON_IN_FAULT_SYNTAX, 1, 4},
        {"[.1]", JSON_IN_FAULT_SYNTAX, 1, 2},
        {"[1e]", JSON_IN_FAULT_SYNTAX, 1, 4},
        {"[1e999]", JSON_IN_FAULT_NUMBER, 1, 7},
        {"[-1e999]", JSON_IN_FAULT_NUMBER, 1, 8},
        {"[1.7976931348623157e308]", JSON_IN_FAULT_NONE, 0, 0},
        {"[-17976931348623157.0E+292]", JSON_IN_FAULT_NONE, 0, 0},
        {"[1.7976931348623158e308]", JSON_IN_FAULT_NONE, 0, 0}, /* DBL_MAX by 17 digits */
        {"[1.79769313486231580793e308]", JSON_IN_FAULT_NONE, 0, 0},
        {"[1.79769313486231580794e308]", JSON_IN_FAULT_NUMBER, 1, 28},
        {"[1.7976931348623159e308]", JSON_IN_FAULT_NUMBER, 1, 24},
        {"[18e307]", JSON_IN_FAULT_NUMBER, 1, 8},
        {"[0.0000001e315]", JSON_IN_FAULT_NONE, 0, 0},
        {"[0.0000001e316]", JSON_IN_FAULT_NUMBER, 1, 15},
        {"[0.000e99999999999999999999,0E999]", JSON_IN_FAULT_NONE, 0, 0},
        {"[1e-99999999999999999999]", JSON_IN_FAULT_NONE, 0, 0},
        {"[1e99999999999999999999]", JSON_IN_FAULT_NUMBER, 1, 24},
        {"[nul]", JSON_IN_FAULT_SYNTAX, 1, 5},
        {"[nulll]", JSON_IN_FAULT_SYNTAX, 1, 6},
        {"[true", JSON_IN_FAULT_END, 1, 6},
        {"\xef\xbb\xbf{}", JSON_IN_FAULT_SYNTAX, 1, 1},
        {"{}", JSON_IN_FAULT_NONE, 0, 0},
        {" [ 1e-999 , -0 , 12345678901234567890123 , \"\\/\" ] \n", JSON_IN_FAULT_NONE, 0, 0},
    };
    size_t line, column;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const enum json_in_fault fault = parse(cases[i].text, &line, &column);
        if (fault != cases[i].fault || line != cases[i].line || column != cases[i].column)
            fail_msg("%s: fault %d at %zu, %zu", cases[i].text, fault, line, column);
    }
}

/* A number's length is no reason to refuse it. */
static void test_long_numbers(void **state)
{
    enum { DIGITS = 10000 };
    char text[DIGITS + 64];
    size_t line, column;

    (void)state;
    memset(text, '9', sizeof(text));
    text[0] = '[';
    strcpy(text + DIGITS, "]");
    assert_int_equal(parse(text, &line, &column), JSON_IN_FAULT_NUMBER);
    snprintf(text + DIGITS, 64, "e-%d]", DIGITS);
    assert_int_equal(parse(text, &line, &column), JSON_IN_FAULT_NONE);
    snprintf(text + DIGITS, 64, "e-%d]", DIGITS - 400);
    assert_int_equal(parse(text, &line, &column), JSON_IN_FAULT_NUMBER);
    memset(text + 1, '0', DIGITS);
    text[2] = '.';
    strcpy(text + DIGITS, "7e10300]");
    assert_int_equal(parse(text, &line, &column), JSON_IN_FAULT_NONE);
    strcpy(text + DIGITS, "7e10400]");
    assert_int_equal(parse(text, &line, &column), JSON_IN_FAULT_NUMBER);
}

static void test_values(void **state)
{
    static const char text[] = "{\"a\":\"x\\u00fc\\ud83d\\ude00\\n\",\"b\":[1,-2.5e3,true,null,{}],"
                               "\"\":{\"c\\u0041\":false}}";
    struct json_in_error err;
    struct arena arena;
    const struct json_in *root, *item;

    (void)state;
    arena_init(&arena);
    root = json_in_parse(&arena, slice_of(text, sizeof(text) - 1), DEPTH, &err);
    assert_non_null(root);
    assert_int_equal(root->len, 3);
    assert_string_equal(json_in_get(root, "a")->text.ptr, "x\xc3\xbc\xf0\x9f\x98\x80\n");
    item = json_in_get(root, "b");
    assert_int_equal(item->len, 5);
    item = item->first->next;
    assert_true(slice_equal(item->text, slice_str("-2.5e3")));
    item = json_in_get(root, "");
    assert_string_equal(item->first->name.ptr, "cA");
    assert_true(slice_equal(item->text, slice_str("{\"c\\u0041\":false}")));
    assert_null(json_in_get(root, "c"));
    assert_null(json_in_get(item->first, "c"));
    assert_null(json_in_get(NULL, "c"));
    arena_cleanup(&arena);
}

static void test_depth_and_many_names(void **state)
{
    char deep[2 * DEPTH + 4];
    struct buf many = {0};
    size_t line, column;

    (void)state;
    memset(deep, '[', DEPTH);
    memset(deep + DEPTH, ']', DEPTH);
    deep[2 * DEPTH] = '\0';
    assert_int_equal(parse(deep, &line, &column), JSON_IN_FAULT_NONE);
    memset(deep, '[', DEPTH + 1);
    assert_int_equal(parse(deep, &line, &column), JSON_IN_FAULT_DEPTH);
    for (unsigned twice = 0; twice < 2; twice++) {
        buf_clear(&many);
        buf_add_char(&many, '{');
        for (unsigned i = 0; i < 100000; i++)
            buf_addf(&many, "\"%x\":0,", i);
        buf_addf(&many, "\"%s\":0}", twice ? "1234" : "x");
        assert_int_equal(parse(many.ptr, &line, &column),
                         twice ? JSON_IN_FAULT_TWICE : JSON_IN_FAULT_NONE);
    }
    buf_cleanup(&many);
}

/* ---- jansson as the judge ---- */

static bool same(const struct json_in *ours, json_t *theirs)
{
    const struct json_in *item;
    size_t i = 0;

    switch (json_typeof(theirs)) {
    case JSON_NULL: return ours->kind == JSON_IN_NULL;
    case JSON_TRUE: return ours->kind == JSON_IN_BOOL && ours->text.len == 4;
    case JSON_FALSE: return ours->kind == JSON_IN_BOOL && ours->text.len == 5;
    case JSON_INTEGER:
    case JSON_REAL:
        return ours->kind == JSON_IN_NUMBER && !isnan(json_number_value(theirs)) &&
               strtod(ours->text.ptr, NULL) == json_number_value(theirs);
    case JSON_STRING:
        return ours->kind == JSON_IN_STRING &&
               slice_equal(ours->text,
                           slice_of(json_string_value(theirs), json_string_length(theirs)));
    case JSON_ARRAY:
        if (ours->kind != JSON_IN_ARRAY || ours->len != json_array_size(theirs))
            return false;
        for (item = ours->first; item; item = item->next)
            if (!same(item, json_array_get(theirs, i++)))
                return false;
        return i == ours->len;
    case JSON_OBJECT:
        if (ours->kind != JSON_IN_OBJECT || ours->len != json_object_size(theirs))
            return false;
        for (item = ours->first; item; item = item->next, i++) {
            json_t *value = json_object_get(theirs, item->name.ptr);
            if (!value || !same(item, value))
                return false;
        }
        return i == ours->len;
    }
    return false;
}

/* Reals throughout, so that integers beyond 64 bits are none of jansson's business. */
static json_t *judge(struct slice text)
{
    return json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, NULL);
}

/* True where both took it. The text lies in memory of its exact size, for the sanitizers. */
static bool compare(struct slice text)
{
    char *exact = malloc(text.len ? text.len : 1);
    struct json_in_error err;
    struct arena arena;
    const struct json_in *ours;
    json_t *theirs;

    assert_non_null(exact);
    memcpy(exact, text.ptr, text.len);
    arena_init(&arena);
    ours = json_in_parse(&arena, slice_of(exact, text.len), 2048, &err);
    theirs = judge(text);
    if (!ours != !theirs || (ours && !same(ours, theirs)))
        fail_msg("jansson %s it, ours says %d: %.*s", theirs ? "takes" : "refuses", err.fault,
                 (int)text.len, text.ptr);
    json_decref(theirs);
    arena_cleanup(&arena);
    free(exact);
    return ours;
}

static void mutate(char *text, size_t *len)
{
    static const char *const pieces[] = {"\"",
                                         "\\",
                                         "{",
                                         "}",
                                         "[",
                                         "]",
                                         ",",
                                         ":",
                                         "\\u0000",
                                         "\\ud83d\\ude00",
                                         "\\ud83d",
                                         "\xc3",
                                         "\xff",
                                         "\xf0\x9f\x98\x80",
                                         "1e308",
                                         "1e309",
                                         "-",
                                         "0",
                                         ".5",
                                         "null",
                                         "tru",
                                         " ",
                                         "\n",
                                         "\x01",
                                         "\\n",
                                         "\\/",
                                         "{\"a\":0,\"a\":1}",
                                         "{\"a\":0}"};
    const char *piece = pieces[(size_t)rand() % (sizeof(pieces) / sizeof(*pieces))];
    const size_t at = (size_t)rand() % (*len + 1), add = strlen(piece);
    const size_t cut = (size_t)rand() % 3 && at < *len ? 1 : 0;

    if (rand() % 4 == 0 && at < *len) {
        text[at] = (char)rand();
    } else if (*len - cut + add < LONGEST) {
        memmove(text + at + add, text + at + cut, *len - at - cut);
        memcpy(text + at, piece, add);
        *len += add - cut;
    }
}

static void test_against_jansson(void **state)
{
    FILE *file = fopen(TEST_DATA_DIR "/events.jsonl", "r");
    char *line = NULL, text[LONGEST];
    size_t cap = 0, taken = 0, refused = 0, rows = 0;
    ssize_t n;

    (void)state;
    assert_non_null(file);
    srand(1);
    while ((n = getline(&line, &cap, file)) > 0) {
        rows++;
        (void)compare(slice_of(line, (size_t)n));
        if (n >= LONGEST)
            continue;
        for (unsigned i = 0; i < MUTATIONS / 250; i++) {
            size_t len = (size_t)n;
            memcpy(text, line, len);
            for (int changes = 1 + rand() % 3; changes; changes--)
                mutate(text, &len);
            *(compare(slice_of(text, len)) ? &taken : &refused) += 1;
        }
    }
    assert_true(rows > 200 && taken > 5000 && refused > 5000);
    free(line);
    fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_faults),          cmocka_unit_test(test_long_numbers),
        cmocka_unit_test(test_values),          cmocka_unit_test(test_depth_and_many_names),
        cmocka_unit_test(test_against_jansson),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
