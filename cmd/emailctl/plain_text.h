/* Text of unknown origin (headers, events) on a terminal, and tables of it. Pure. */
#ifndef EMAILCTL_PLAIN_TEXT_H
#define EMAILCTL_PLAIN_TEXT_H

#include "base/buf.h"

/* Control characters, C1 ones too, and ill-formed UTF-8 become "?": nothing that a dead letter
 * holds moves the cursor. Line breaks and tabs stay where `lines` says so. */
void plain_text(struct buf *out, struct slice text, bool lines);

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
