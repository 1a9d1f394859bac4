#include "ctl.h"

#include <signal.h>
#include <stdio.h>

#include "plain_text.h"

static volatile sig_atomic_t interrupted;

void ctl_complain(const char *format, ...)
{
    char text[1024];
    struct buf plain = {0};
    va_list args;

    fflush(stdout); /* in order where both go to the same place */
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    plain_text(&plain, slice_str(text),
               false); /* it may hold what a dead letter or a broker says */
    fprintf(stderr, "emailctl: %s\n", plain.failed || !plain.ptr ? "out of memory" : plain.ptr);
    buf_cleanup(&plain);
}

bool ctl_print(const struct buf *text)
{
    if (!text->failed && fwrite(text->ptr ? text->ptr : "", 1, text->len, stdout) == text->len &&
        fflush(stdout) == 0)
        return true;
    ctl_complain(text->failed ? "out of memory" : "cannot write to stdout");
    return false;
}

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

void ctl_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

    signal(SIGPIPE, SIG_IGN); /* where nobody reads on, writing fails, and that is looked at */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool ctl_interrupted(void)
{
    return interrupted != 0;
}
