/* The way of an event through the house: record → event → claim → message → relay → outcome →
 * commit or dead letter. The one place that knows all of lib/. It owns the events under way
 * ("jobs") and drives each one's machine; the parts it uses are its owner's. Everything runs on the
 * loop's thread. */
#ifndef PIPELINE_H
#define PIPELINE_H

#include "base/loop.h"
#include "email/message.h"
#include "email/transport.h"
#include "idempotency/store.h"
#include "kafka/dead_letter.h"
#include "kafka/record.h"
#include "delivery/machine.h"
#include "delivery/metrics.h"

struct pipeline;

struct pipeline_settings {
    struct machine_policy policy;
    struct message_settings message; /* the default sender */
    size_t max_event_bytes;
    size_t max_in_flight; /* events */
    size_t max_in_flight_bytes;
    size_t max_active; /* events that are being worked on (claimed, with the relay) at once */
};

struct pipeline_parts { /* borrowed; must outlive the pipeline */
    struct loop *loop;
    struct store *store;
    struct transport *transport;
    /* Brings a dead letter to where it belongs; answers as dlq_produce does. */
    void (*bury)(void *ctx, const struct dead_letter *letter, dlq_fn fn, void *fn_ctx);
    void *bury_ctx;
    struct metrics *metrics;
};

/* What became of one record, for makers of records that want to know. */
enum pipeline_result {
    PIPELINE_SENT,
    PIPELINE_DUPLICATE, /* a mark says that it was sent */
    PIPELINE_DEAD,      /* buried, or it was before */
    PIPELINE_ABANDONED  /* given up without an outcome */
};

struct pipeline_callbacks {
    /* May be NULL. Before done or abandoned. in_doubt: an attempt ended without the relay's reply,
     * so that it may have been sent whatever the result says. */
    void (*settled)(void *ctx, const struct record *record, enum pipeline_result result,
                    bool in_doubt);
    /* The record has its final outcome / is given up for this assignment. */
    void (*done)(void *ctx, int32_t partition, uint64_t generation, int64_t offset);
    void (*abandoned)(void *ctx, int32_t partition, uint64_t generation, int64_t offset);
    void (*room_again)(void *ctx); /* pipeline_room() may be above zero again */
    void (*empty)(void *ctx); /* the last job is gone, marks that waited for the store included */
};

struct pipeline_counts {
    size_t in_flight, in_flight_bytes; /* taken, no final outcome yet */
    size_t retry_waiting;
    size_t jobs; /* in flight, or settled with the mark still to be written */
};

BASE_CHECK struct pipeline *pipeline_new(const struct pipeline_settings *settings,
                                         const struct pipeline_parts *parts,
                                         const struct pipeline_callbacks *callbacks, void *ctx,
                                         struct error *err);
void pipeline_destroy(struct pipeline *p); /* only when the parts call back no more; NULL is fine */

/* How many bytes of records may come now: 0 while the window is full, the store is away, the relay
 * is in outage (but for one probe) or the pipeline drains. */
size_t pipeline_room(const struct pipeline *p);

/* Takes one record (copies it). */
void pipeline_take(struct pipeline *p, const struct record *record);

/* The store or the transport changed between up and down. */
void pipeline_parts_changed(struct pipeline *p);

/* A partition is taken away: gives up all of its events that have not reached their final dot. */
void pipeline_revoke(struct pipeline *p, int32_t partition, uint64_t generation);

/* Takes nothing more, lets nothing wait, finishes what is being worked on; `empty` follows (also
 * where it is so already). */
void pipeline_drain(struct pipeline *p);
/* Time is up: gives up all that has not reached its final dot. */
void pipeline_cancel(struct pipeline *p);

void pipeline_counts(const struct pipeline *p, struct pipeline_counts *out);

#endif
