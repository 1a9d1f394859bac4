/* Lines of a file, bounded: of a longer one the beginning, and that it was longer. */
#ifndef EMAILCTL_LINE_READER_H
#define EMAILCTL_LINE_READER_H

#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"

struct line_reader {
    FILE *from;
    size_t max; /* bytes of a line */
    struct buf line;
    uint64_t number; /* of the line read last, from 1 */
    uint64_t bytes;  /* read so far */
};

enum line_read { LINE_READ, LINE_TOO_LONG, LINE_END, LINE_FAILED /* errno; ENOMEM too */ };

/* Without its line end (LF or CR LF); valid until the next call. */
enum line_read line_reader_next(struct line_reader *r, struct slice *line);
void line_reader_cleanup(struct line_reader *r);

#endif
