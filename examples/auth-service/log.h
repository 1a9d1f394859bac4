/* The log: one JSON object a line on stdout. Never pass a code or an address. */
#ifndef AUTH_LOG_H
#define AUTH_LOG_H

/* level: "info", "warn" or "error". message_id and detail may be NULL. From any thread. */
void log_line(const char *level, const char *msg, const char *message_id, const char *detail);

/* Lines that the producer library made; an email_log_fn. */
void log_library_line(const char *level, const char *line, void *context);

#endif
