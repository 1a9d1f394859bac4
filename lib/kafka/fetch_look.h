/* When to look after a partition whose queue ran dry although the broker has more of it: every 5 ms
 * at first (a look reaches any one of the brokers, perhaps not the partition's), then after 10, 20,
 * … while no record comes. What is left may be no records at all (transaction markers, a compacted
 * tail), so after a second that is all. Pure. */
#ifndef KAFKA_FETCH_LOOK_H
#define KAFKA_FETCH_LOOK_H

#include <stdbool.h>
#include <stdint.h>

enum { FETCH_LOOK_MS = 5, FETCH_LOOK_OFTEN = 16, FETCH_LOOK_LONGEST_MS = 1000 };

struct fetch_look { /* zeroed: nothing was looked for yet */
    int64_t next_offset;
    uint64_t due_ms;
    unsigned looks;
};

/* The partition is dry, and next_offset (1 or more) is what it waits for. True: look now. */
bool fetch_look_now(struct fetch_look *l, int64_t next_offset, uint64_t now_ms);

/* How long until the next look for the same offset; 0: none. */
uint64_t fetch_look_delay_ms(const struct fetch_look *l, uint64_t now_ms);

#endif
