#include "plain_text.h"

#include <stdlib.h>

enum { GAP = 2 };

void table_init(struct table *t, size_t columns)
{
    *t = (struct table){.columns = columns};
}

void table_cleanup(struct table *t)
{
    buf_cleanup(&t->cells);
}

void table_cell(struct table *t, struct slice text)
{
    plain_text(&t->cells, text.len ? text : slice_str("-"), false);
    buf_add_char(&t->cells, '\0');
    t->count++;
}

static size_t width_of(const char *cell)
{
    size_t width = 0;

    for (; *cell; cell++)
        width += ((unsigned char)*cell & 0xc0) != 0x80; /* well-formed by now */
    return width;
}

static void render_row(const struct table *t, const size_t *widths, const char **cell,
                       struct buf *out)
{
    for (size_t i = 0; i < t->columns; i++) {
        buf_add_str(out, *cell);
        for (size_t pad = width_of(*cell); i + 1 < t->columns && pad < widths[i] + GAP; pad++)
            buf_add_char(out, ' ');
        *cell += strlen(*cell) + 1;
    }
    buf_add_char(out, '\n');
}

bool table_render(const struct table *t, struct buf *out)
{
    size_t *widths = calloc(t->columns, sizeof(*widths));
    const char *cell = t->cells.ptr;

    if (!widths || t->cells.failed) {
        free(widths);
        return false;
    }
    for (size_t i = 0; i < t->count; i++, cell += strlen(cell) + 1)
        if (width_of(cell) > widths[i % t->columns])
            widths[i % t->columns] = width_of(cell);
    cell = t->cells.ptr;
    for (size_t row = 0; row < t->count / t->columns; row++)
        render_row(t, widths, &cell, out);
    free(widths);
    return !out->failed;
}
