/* The fingerprint of what is mailed: two events with the same messageID but different fingerprints
 * are a mistake of the publisher (dead letter id_conflict). XXH3, 128 bits, over a canonical,
 * length-prefixed form of the recipients, sender, subject, bodies, template with data and locale,
 * attachments and headers; not of type, timestamps or metadata. Stable for ever: it is compared
 * with values written by other versions. Pure. */
#ifndef EMAIL_FINGERPRINT_H
#define EMAIL_FINGERPRINT_H

#include "email/event.h"

/* Writes EVENT_FINGERPRINT_LEN lower-case hexadecimal digits and a NUL. */
void fingerprint_event(const struct event *ev, char out[EVENT_FINGERPRINT_LEN + 1]);

#endif
