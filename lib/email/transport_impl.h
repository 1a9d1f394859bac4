/* For the backends of transport.h only: what every delivery begins with, so that transport_dot()
 * and transport_cancel() find its backend. */
#ifndef EMAIL_TRANSPORT_IMPL_H
#define EMAIL_TRANSPORT_IMPL_H

#include "email/transport.h"

struct delivery {
    struct transport *transport;
};

#endif
