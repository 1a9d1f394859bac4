#include "base/plain_text.h"

#include "base/utf8.h"

void plain_text(struct buf *out, struct slice text, bool lines)
{
    while (text.len) {
        uint32_t code = 0;
        unsigned len = utf8_decode(text, &code);
        if (lines && (text.ptr[0] == '\n' || text.ptr[0] == '\t'))
            buf_add_char(out, text.ptr[0]);
        else if (len == 0 || utf8_is_unsafe(code))
            buf_add_char(out, '?');
        else
            buf_add(out, text.ptr, len);
        len = len ? len : 1;
        text = slice_of(text.ptr + len, text.len - len);
    }
}
