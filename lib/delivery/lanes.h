/* Lanes: events with the same key go one after another, in the order they came; different keys go
 * in parallel. Used for record keys and for messageIDs. Pure; lookups are O(1), leaving too. */
#ifndef LANES_H
#define LANES_H

#include "base/error.h"
#include "base/slice.h"

struct lanes;
struct lane;

struct lane_member {   /* embedded by the owner; zero it before the first use */
    struct lane *lane; /* NULL: in no lane */
    struct slice key;
    struct lane_member *before, *after;
    void *owner;
};

BASE_CHECK struct lanes *lanes_new(void);
void lanes_destroy(struct lanes *l); /* members that are left are forgotten; NULL is fine */

enum lane_entry { LANE_FIRST, LANE_BEHIND, LANE_NO_MEMORY };

/* Joins the lane of `key` at its end. `key` must stay valid until the member leaves. */
enum lane_entry lanes_enter(struct lanes *l, struct lane_member *m, struct slice key, void *owner);

/* Leaves; fine where it is in no lane. Returns the owner whose turn it is now because of that, or
 * NULL. */
void *lanes_leave(struct lanes *l, struct lane_member *m);

size_t lanes_count(const struct lanes *l); /* keys that are in use */

#endif
