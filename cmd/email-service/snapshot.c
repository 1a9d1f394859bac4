#include "snapshot.h"

bool snapshot_ready(const struct snapshot *s)
{
    return s->kafka.up && s->kafka.assigned > 0 && s->redis.up && s->smtp.up && !s->shutting_down;
}

int64_t snapshot_lag(const struct snapshot *s)
{
    int64_t lag = 0;

    for (size_t i = 0; i < s->partitions_len; i++)
        if (s->partitions[i].lag > 0)
            lag += s->partitions[i].lag;
    return lag;
}
