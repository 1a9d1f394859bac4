/* The timers that are running, the earliest first: a pairing heap whose links are in the timers
 * themselves, so that no timer's start can ever fail for want of memory. */
#ifndef BASE_TIMER_HEAP_H
#define BASE_TIMER_HEAP_H

#include "base/loop.h"

/* `first` is the earliest one, NULL where there is none; equal instants go by `seq`. */
void timer_heap_add(struct loop_timer **first, struct loop_timer *t);
void timer_heap_remove(struct loop_timer **first, struct loop_timer *t); /* one that is in it */

#endif
