#include "email/outcome.h"

#include <stdarg.h>
#include <stdio.h>

const char *outcome_class_name(enum outcome_class c)
{
    switch (c) {
    case OUTCOME_SENT: return "sent";
    case OUTCOME_RETRY: return "retry";
    case OUTCOME_REJECTED: return "rejected";
    case OUTCOME_AMBIGUOUS: return "ambiguous";
    case OUTCOME_CANCELLED: return "cancelled";
    }
    return "unknown";
}

const char *outcome_stage_name(enum smtp_stage stage)
{
    switch (stage) {
    case STAGE_NONE: return "none";
    case STAGE_QUEUE: return "queue";
    case STAGE_CONNECT: return "connect";
    case STAGE_BANNER: return "banner";
    case STAGE_EHLO: return "ehlo";
    case STAGE_STARTTLS: return "starttls";
    case STAGE_AUTH: return "auth";
    case STAGE_MAIL: return "mail";
    case STAGE_RCPT: return "rcpt";
    case STAGE_DATA: return "data";
    case STAGE_BODY: return "body";
    case STAGE_FENCE: return "fence";
    case STAGE_DOT: return "dot";
    case STAGE_RSET: return "rset";
    case STAGE_QUIT: return "quit";
    case STAGE_LOG: return "log";
    }
    return "unknown";
}

const char *outcome_reason_name(enum outcome_reason reason)
{
    switch (reason) {
    case REASON_NONE: return "none";
    case REASON_REPLY: return "reply";
    case REASON_TIMEOUT: return "timeout";
    case REASON_REFUSED: return "refused";
    case REASON_LOST: return "lost";
    case REASON_TLS: return "tls";
    case REASON_AUTH: return "auth";
    case REASON_PROTOCOL: return "protocol";
    case REASON_OUTAGE: return "outage";
    case REASON_CAPABILITY: return "capability";
    case REASON_FENCE: return "fence";
    case REASON_CANCELLED: return "cancelled";
    case REASON_INTERNAL: return "internal";
    }
    return "unknown";
}

static bool is_transaction_stage(enum smtp_stage stage)
{
    return stage == STAGE_MAIL || stage == STAGE_RCPT || stage == STAGE_DATA || stage == STAGE_DOT;
}

bool outcome_is_login_wanted(enum smtp_stage stage, int code)
{
    return stage == STAGE_MAIL && (code == 530 || code == 534 || code == 535 || code == 538);
}

enum outcome_class outcome_of_reply(enum smtp_stage stage, int code)
{
    if (code >= 200 && code <= 299)
        return OUTCOME_SENT;
    if (outcome_is_login_wanted(stage, code))
        return OUTCOME_RETRY;
    if (code >= 500 && code <= 599 && is_transaction_stage(stage))
        return OUTCOME_REJECTED;
    return OUTCOME_RETRY;
}

void outcome_set(struct outcome *out, enum outcome_class class, enum outcome_reason reason,
                 enum smtp_stage stage, const char *format, ...)
{
    va_list args;

    out->class = class;
    out->reason = reason;
    out->stage = stage;
    out->code = 0;
    out->reply[0] = '\0';
    out->relay_down = false;
    out->refused = NULL;
    out->refused_len = 0;
    va_start(args, format);
    vsnprintf(out->error, sizeof(out->error), format, args);
    va_end(args);
}
