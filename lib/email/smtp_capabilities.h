/* What the relay offers: the lines of its reply to EHLO (RFC 5321 section 4.1.1.1). Pure. */
#ifndef EMAIL_SMTP_CAPABILITIES_H
#define EMAIL_SMTP_CAPABILITIES_H

#include <stdint.h>

#include "base/slice.h"

struct smtp_capabilities {
    bool pipelining;     /* RFC 2920 */
    bool eightbitmime;   /* RFC 6152 */
    bool smtputf8;       /* RFC 6531 */
    bool starttls;       /* RFC 3207 */
    bool auth;           /* RFC 4954 */
    bool enhanced_codes; /* RFC 2034 */
    bool size;           /* RFC 1870 */
    uint64_t max_size;   /* 0: no limit named */
    bool in_reply;       /* private: between the first and the last line of a reply */
};

/* Takes each line that the relay says before the first MAIL, with or without its line end. Each 250
 * reply replaces what the one before it said (the last EHLO counts, RFC 3207 section 4.2), and so
 * does a 220. */
void smtp_capabilities_line(struct smtp_capabilities *c, struct slice line);

#endif
