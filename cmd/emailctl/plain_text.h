/* Tables of text of unknown origin on a terminal. Pure. */
#ifndef EMAILCTL_PLAIN_TEXT_H
#define EMAILCTL_PLAIN_TEXT_H

#include "base/plain_text.h"

/* Rows of cells, each column as wide as its widest cell (in code points) but for the last. */
struct table {
    struct buf cells; /* NUL after each */
    size_t columns, count;
};

void table_init(struct table *t, size_t columns);
void table_cleanup(struct table *t);
void table_cell(struct table *t, struct slice text); /* row by row; "" is shown as "-" */

/* False where memory is out. */
BASE_CHECK bool table_render(const struct table *t, struct buf *out);

#endif
