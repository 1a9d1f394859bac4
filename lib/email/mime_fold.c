#include "email/mime_fold.h"

struct mime_fold mime_fold_begin(struct buf *out, struct slice name)
{
    struct mime_fold f = {.out = out, .line = out->len, .empty = true};

    buf_add_slice(out, name);
    buf_add_char(out, ':');
    return f;
}

size_t mime_fold_column(const struct mime_fold *f)
{
    return f->out->len - f->line;
}

void mime_fold_break(struct mime_fold *f)
{
    buf_add_str(f->out, "\r\n");
    f->line = f->out->len;
}

void mime_fold_spaced(struct mime_fold *f, struct slice space, struct slice token)
{
    if (!f->empty && mime_fold_column(f) + space.len + token.len > MIME_FOLD_COLUMN)
        mime_fold_break(f);
    buf_add_slice(f->out, space);
    buf_add_slice(f->out, token);
    f->empty = false;
}

void mime_fold_token(struct mime_fold *f, struct slice token)
{
    mime_fold_spaced(f, slice_of(" ", 1), token);
}

void mime_fold_end(struct mime_fold *f)
{
    mime_fold_break(f);
}
