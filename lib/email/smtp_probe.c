#include "email/smtp_probe.h"

#include <stdlib.h>

#include "email/smtp_session.h"

enum { TICK_MS = 200 };

struct probe {
    struct smtp_probe_result *result;
    bool over;
};

static void on_opened(void *owner, struct smtp_session *s)
{
    struct probe *probe = owner;

    probe->result->open = true;
    probe->result->capabilities = *smtp_link_capabilities(s->link);
    smtp_session_quit(s);
}

static void on_open_failed(void *owner, struct smtp_session *s, const struct outcome *why)
{
    struct probe *probe = owner;

    (void)s;
    probe->result->failure = *why;
    probe->result->failure.refused = NULL; /* borrowed, and there are none before RCPT */
    probe->result->failure.refused_len = 0;
    probe->over = true;
}

static void on_closed(void *owner, struct smtp_session *s)
{
    struct probe *probe = owner;

    (void)s;
    probe->over = true;
}

/* No mail is started, and QUIT is said as soon as the session is open. */
static const struct smtp_session_events events = {
    .opened = on_opened,
    .open_failed = on_open_failed,
    .closed = on_closed,
};

static bool run(struct loop *loop, struct smtp_curl *curl, const struct smtp_settings *settings,
                const char *url, struct smtp_probe_result *result, struct error *err)
{
    struct probe probe = {.result = result};
    struct smtp_session *s = smtp_session_open(loop, curl, settings, url, &events, &probe, err);
    bool good = s != NULL;

    while (good && !probe.over)
        good = loop_tick(loop, TICK_MS, err);
    if (s)
        smtp_session_free(s);
    return good;
}

bool smtp_probe(const struct smtp_settings *settings, struct smtp_probe_result *result,
                struct error *err)
{
    struct loop *loop = loop_new(err);
    char *url = loop ? smtp_link_url(settings, err) : NULL;
    struct smtp_curl *curl = url ? smtp_curl_new(loop, err) : NULL;
    bool good;

    *result = (struct smtp_probe_result){0};
    good = curl && run(loop, curl, settings, url, result, err);
    smtp_curl_destroy(curl);
    free(url);
    loop_destroy(loop);
    return good;
}
