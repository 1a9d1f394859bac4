/* The settings of the pipeline's parts, from the configuration. Pure; strings stay the
 * configuration's. */
#ifndef DELIVERY_SETTINGS_H
#define DELIVERY_SETTINGS_H

#include "base/config.h"
#include "email/transport.h"
#include "idempotency/store.h"
#include "delivery/machine.h"

/* Without `changed`, which is the caller's. */
struct store_settings delivery_store_settings(const struct config *c);
/* Likewise; helo_name: what we call ourselves. */
struct smtp_settings delivery_smtp_settings(const struct config *c, const char *helo_name);
struct machine_policy delivery_policy(const struct config *c);
/* How many events are worked on at once. */
size_t delivery_max_active(const struct config *c);

#endif
