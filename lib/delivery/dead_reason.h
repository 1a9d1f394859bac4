/* Why an event ended in the dead letter queue (contract: docs/EMAIL_SERVICE_KAFKA.md). Pure. */
#ifndef DEAD_REASON_H
#define DEAD_REASON_H

enum dead_reason {
    DEAD_INVALID_EVENT,
    DEAD_TOO_LARGE,
    DEAD_EXPIRED,
    DEAD_TEMPLATE_ERROR,
    DEAD_REJECTED, /* a 5xx reply, for the mail or for some of its recipients */
    DEAD_RETRIES_EXHAUSTED,
    DEAD_ID_CONFLICT, /* the same messageID with different recipients or content */
    DEAD_AMBIGUOUS    /* only with SMTP_AMBIGUOUS_POLICY=park */
};

enum { DEAD_REASONS = DEAD_AMBIGUOUS + 1 };

/* As in the header dlq-reason, the metric's label and the logs: "invalid_event", … */
const char *dead_reason_name(enum dead_reason reason);

#endif
