/* Checks of single values, for config_load: everything that would fail at the first use anyway
 * shall be said at the start. All of them return false with an error that says what is wrong; none
 * logs. They may read files and resolve names. */
#ifndef BASE_CONFIG_CHECK_H
#define BASE_CONFIG_CHECK_H

#include "base/error.h"
#include "base/slice.h"

/* Kafka's own rule for topics' names. */
BASE_CHECK bool config_check_topic(const char *topic, struct error *err);
/* host:port, separated by commas. */
BASE_CHECK bool config_check_brokers(const char *brokers, struct error *err);
BASE_CHECK bool config_check_host(struct slice host, struct error *err);
/* An address to listen on, or a name that resolves to one. */
BASE_CHECK bool config_check_listen(const char *listen, struct error *err);
/* A readable file with at least one PEM certificate. */
BASE_CHECK bool config_check_ca_file(const char *path, struct error *err);

#endif
