#include "email/transport_impl.h"

struct delivery *transport_send(struct transport *t, const struct mail *mail,
                                const struct delivery_callbacks *callbacks, void *ctx)
{
    return t->ops->send(t, mail, callbacks, ctx);
}

void transport_dot(struct delivery *d, bool go)
{
    d->transport->ops->dot(d, go);
}

bool transport_cancel(struct delivery *d)
{
    return d->transport->ops->cancel(d);
}

void transport_state(const struct transport *t, struct transport_state *out)
{
    t->ops->state(t, out);
}

void transport_shutdown(struct transport *t)
{
    t->ops->shutdown(t);
}

void transport_destroy(struct transport *t)
{
    if (t)
        t->ops->destroy(t);
}
