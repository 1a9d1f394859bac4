/* Reads what is in a topic, from its beginning to where it ended when the reader was opened,
 * without joining a group. Beside it, a note a partition that a group's committed offsets keep (an
 * offset and a text), so that a tool can go on where it stopped. Blocking: for tools, never for the
 * loop. Not thread-safe. */
#ifndef KAFKA_TOPIC_READER_H
#define KAFKA_TOPIC_READER_H

#include "kafka/kafka_settings.h"
#include "kafka/record.h"

struct topic_reader;

struct topic_span { /* one partition; what there was when the reader was opened */
    int32_t partition;
    int64_t low, high;   /* offsets low … high - 1 */
    int64_t note_offset; /* committed by `group`; -1: nothing */
    const char *note;    /* its metadata; "" none. The reader's */
};

/* True once low and high of every partition, and the group's notes, are known. */
BASE_CHECK struct topic_reader *topic_reader_open(const struct kafka_settings *kafka,
                                                  const char *topic, const char *group,
                                                  int timeout_ms, struct error *err);
void topic_reader_close(struct topic_reader *r); /* NULL is fine */

size_t topic_reader_spans(const struct topic_reader *r, const struct topic_span **spans);

/* Narrows what is read, before the first topic_reader_next: one partition, from an offset on.
 * False where there is no such partition. */
BASE_CHECK bool topic_reader_only(struct topic_reader *r, int32_t partition, int64_t offset);

enum topic_read { TOPIC_READ_RECORD, TOPIC_READ_END, TOPIC_READ_FAILED };

/* The next record, partition by partition in offset order; it is valid until the next call. Failed
 * where no record came for timeout_ms. */
BASE_CHECK enum topic_read topic_reader_next(struct topic_reader *r, struct record *out,
                                             struct error *err);

/* Commits the notes of the partitions given; done when it returns true. Fails where the group has
 * members. */
BASE_CHECK bool topic_reader_keep(struct topic_reader *r, const struct topic_span *notes,
                                  size_t len, struct error *err);

#endif
