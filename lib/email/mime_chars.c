#include "email/mime_chars.h"

#include "base/utf8.h"

const char mime_hex[16] = {'0', '1', '2', '3', '4', '5', '6', '7',
                           '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'};

enum {
    BODY = MIME_7BIT_OK | MIME_QP_OK,
    TEXT = BODY | MIME_VISIBLE | MIME_WORD_OK,
    ALNUM = TEXT | MIME_ATEXT | MIME_PHRASE_OK | MIME_ATTR_OK
};

/* clang-format off */
const uint8_t mime_class[256] = {
    ['0' ... '9'] = ALNUM,
    ['A' ... 'Z'] = ALNUM,
    ['a' ... 'z'] = ALNUM,
    ['\t'] = BODY,
    [' '] = BODY,
    ['!'] = ALNUM,
    ['"'] = TEXT,
    ['#'] = TEXT | MIME_ATEXT | MIME_ATTR_OK,
    ['$'] = TEXT | MIME_ATEXT | MIME_ATTR_OK,
    ['%'] = TEXT | MIME_ATEXT,
    ['&'] = TEXT | MIME_ATEXT | MIME_ATTR_OK,
    ['\''] = TEXT | MIME_ATEXT,
    ['('] = TEXT,
    [')'] = TEXT,
    ['*'] = TEXT | MIME_ATEXT | MIME_PHRASE_OK,
    ['+'] = ALNUM,
    [','] = TEXT,
    ['-'] = ALNUM,
    ['.'] = TEXT | MIME_ATTR_OK,
    ['/'] = TEXT | MIME_ATEXT | MIME_PHRASE_OK,
    [':'] = TEXT,
    [';'] = TEXT,
    ['<'] = TEXT,
    ['='] = MIME_7BIT_OK | MIME_VISIBLE | MIME_ATEXT,
    ['>'] = TEXT,
    ['?'] = BODY | MIME_VISIBLE | MIME_ATEXT,
    ['@'] = TEXT,
    ['['] = TEXT,
    ['\\'] = TEXT,
    [']'] = TEXT,
    ['^'] = TEXT | MIME_ATEXT | MIME_ATTR_OK,
    ['_'] = BODY | MIME_VISIBLE | MIME_ATEXT | MIME_ATTR_OK,
    ['`'] = TEXT | MIME_ATEXT | MIME_ATTR_OK,
    ['{'] = TEXT | MIME_ATEXT | MIME_ATTR_OK,
    ['|'] = TEXT | MIME_ATEXT | MIME_ATTR_OK,
    ['}'] = TEXT | MIME_ATEXT | MIME_ATTR_OK,
    ['~'] = TEXT | MIME_ATEXT | MIME_ATTR_OK,
};
/* clang-format on */

size_t mime_char_len(struct slice text)
{
    unsigned len = utf8_decode(text, NULL);

    return len ? len : 1;
}

const char *mime_find(struct slice text, const char *what)
{
    return text.ptr ? memmem(text.ptr, text.len, what, strlen(what)) : NULL;
}
