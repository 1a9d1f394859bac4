#include "email/mime_header.h"

#include "email/mime_chars.h"
#include "email/mime_fold.h"
#include "email/mime_word.h"

enum { MAX_PLAIN_NAME = 64, MAX_QUOTED_NAME = 2 * MAX_PLAIN_NAME + 2 };

enum name_form {
    NAME_ABSENT,
    NAME_ATOMS,
    NAME_QUOTED,
    NAME_ENCODED /* also where white space would not survive as it is */
};

static enum name_form choose_form(struct slice name)
{
    enum name_form form = NAME_ATOMS;

    if (!name.len)
        return NAME_ABSENT;
    if (name.len > MAX_PLAIN_NAME || mime_word_is_imitated(name) || name.ptr[name.len - 1] == ' ')
        return NAME_ENCODED;
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == ' ' ? i == 0 || name.ptr[i - 1] == ' '
                               : !mime_is(name.ptr[i], MIME_VISIBLE))
            return NAME_ENCODED;
        if (name.ptr[i] != ' ' && !mime_is(name.ptr[i], MIME_ATEXT))
            form = NAME_QUOTED;
    }
    return form;
}

static struct slice quote(struct slice name, char out[MAX_QUOTED_NAME])
{
    char *end = out;

    *end++ = '"';
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == '"' || name.ptr[i] == '\\')
            *end++ = '\\';
        *end++ = name.ptr[i];
    }
    *end++ = '"';
    return slice_of(out, (size_t)(end - out));
}

static void write_bracketed(struct buf *out, struct slice spec)
{
    buf_add_str(out, " <");
    buf_add_slice(out, spec);
    buf_add_char(out, '>');
}

/* after: what has to stand on the same line behind the address, a comma or nothing. */
static void write_address(struct mime_fold *f, const struct address *a, size_t after)
{
    char quoted[MAX_QUOTED_NAME];
    enum name_form form = choose_form(a->name);
    struct slice name = form == NAME_QUOTED ? quote(a->name, quoted) : a->name;
    size_t whole = 1 + name.len + 3 + a->spec.len + after;

    if (form == NAME_ABSENT)
        whole = 1 + a->spec.len + after;
    if (!f->empty && (form == NAME_ENCODED || mime_fold_column(f) + whole > MIME_FOLD_COLUMN))
        mime_fold_break(f);
    f->empty = false;
    if (form == NAME_ENCODED) {
        mime_word_write(f, a->name, MIME_WORD_IN_PHRASE);
    } else {
        buf_add_char(f->out, ' ');
        buf_add_slice(f->out, form == NAME_ABSENT ? a->spec : name);
    }
    if (form == NAME_ABSENT)
        return;
    if (mime_fold_column(f) + a->spec.len + 3 + after > MIME_FOLD_COLUMN)
        mime_fold_break(f);
    write_bracketed(f->out, a->spec);
}

void mime_header_addresses(struct buf *out, struct slice name, const struct address *items,
                           size_t len)
{
    struct mime_fold f = mime_fold_begin(out, name);

    for (size_t i = 0; i < len; i++) {
        bool last = i + 1 == len;
        write_address(&f, &items[i], !last);
        if (!last)
            buf_add_char(out, ',');
    }
    mime_fold_end(&f);
}
