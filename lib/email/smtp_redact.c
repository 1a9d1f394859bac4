#include "email/smtp_redact.h"

#include <stdint.h>

enum {
    MAX = OUTCOME_MAX_REPLY,
    SLOTS = 1024, /* of the table of runs; a power of two, and more than a reply has runs */
    SHORTEST = 3, /* private text that is looked for */
    CODE_WORD = 4,
    CODE_WORDS = 16, /* looked for; beyond these they are all hidden */
    BLOB_WORD = 16,  /* longer than what relays say, but for host names and base64 */
    MAX_SECRET = 512
};

static const char replacement[] = "<redacted>";

struct redaction {
    struct smtp_reply *reply;
    char lower[MAX + 1];
    bool fixed[MAX + 1]; /* reply codes and enhanced status codes */
    bool hide[MAX + 1];
    /* Where each run of REDACT_RUN characters of the reply begins, by its hash: 1 + position. */
    uint16_t slots[SLOTS], next[MAX + 1];
};

static char lower_of(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(char c)
{
    return is_digit(c) || (lower_of(c) >= 'a' && lower_of(c) <= 'z');
}

/* ---- what stays ---- */

/* "5.7.1" (RFC 3463) at `at`: its length, 0 where there is none. */
static size_t status_code(const char *text, size_t at)
{
    size_t i = at;

    if (text[i] < '2' || text[i] > '5' || text[i + 1] != '.')
        return 0;
    for (int part = 0; part < 2; part++) {
        size_t digits = 0;
        i++;
        if (part == 0 && text[i] == '.')
            i++;
        while (is_digit(text[i]) && digits < 3) {
            i++;
            digits++;
        }
        if (digits == 0 || (part == 0 && text[i] != '.'))
            return 0;
    }
    return is_word(text[i]) || text[i] == '.' ? 0 : i - at;
}

static void fix(struct redaction *r)
{
    const char *text = r->reply->text;
    size_t at = 0;

    while (at < r->reply->len && at < 4)
        r->fixed[at++] = true;
    for (; at && at < r->reply->len; at++) {
        const bool line_begins = at == 4 || (at >= 3 && memcmp(text + at - 3, " / ", 3) == 0);
        const size_t len = line_begins ? status_code(text, at) : 0;
        for (size_t i = 0; i < len; i++)
            r->fixed[at + i] = true;
    }
}

static void hide_span(struct redaction *r, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        r->hide[i] = !r->fixed[i];
}

/* ---- runs in common ---- */

/* The hash of a run, rolled on by one character: the run's first goes, `in` comes. */
enum { BASE = 257 };

static uint32_t power_of_base(void)
{
    uint32_t power = 1;

    for (int i = 1; i < REDACT_RUN; i++)
        power *= BASE;
    return power;
}

static void index_runs(struct redaction *r)
{
    for (size_t at = 0; at + REDACT_RUN <= r->reply->len; at++) {
        uint32_t hash = 0;
        uint16_t *slot;
        for (size_t i = 0; i < REDACT_RUN; i++)
            hash = hash * BASE + (unsigned char)r->lower[at + i];
        slot = &r->slots[hash % SLOTS];
        r->next[at] = *slot;
        *slot = (uint16_t)(at + 1);
    }
}

struct roller {
    struct redaction *r;
    char last[REDACT_RUN]; /* a ring */
    size_t count;
    uint32_t hash, power;
};

static void hide_run(struct roller *roll)
{
    struct redaction *r = roll->r;
    char run[REDACT_RUN];

    if (!r->slots[roll->hash % SLOTS])
        return;
    for (size_t i = 0; i < REDACT_RUN; i++)
        run[i] = roll->last[(roll->count + i) % REDACT_RUN];
    for (size_t at = r->slots[roll->hash % SLOTS]; at; at = r->next[at - 1])
        if (memcmp(r->lower + at - 1, run, REDACT_RUN) == 0)
            hide_span(r, at - 1, at - 1 + REDACT_RUN);
}

static void roll_on(struct roller *roll, char c)
{
    char *place = &roll->last[roll->count % REDACT_RUN];

    if (roll->count >= REDACT_RUN)
        roll->hash -= (unsigned char)*place * roll->power;
    c = lower_of(c);
    *place = c;
    roll->hash = roll->hash * BASE + (unsigned char)c;
    roll->count++;
    if (roll->count >= REDACT_RUN)
        hide_run(roll);
}

/* One byte as the reply's parser writes it. */
static size_t escaped(unsigned char c, char out[4])
{
    static const char hex[] = "0123456789ABCDEF";

    out[0] = (char)c;
    if (c >= 0x20 && c < 0x7F && c != '\\')
        return 1;
    out[0] = '\\';
    out[1] = 'x';
    out[2] = hex[c >> 4];
    out[3] = hex[c & 15];
    return 4;
}

static void hide_runs(struct redaction *r, struct slice text)
{
    struct roller roll = {.r = r, .power = power_of_base()};
    char piece[4];

    for (size_t i = 0; i < text.len; i++) {
        const size_t len = escaped((unsigned char)text.ptr[i], piece);
        for (size_t k = 0; k < len; k++)
            roll_on(&roll, piece[k]);
    }
}

/* ---- short texts and codes ---- */

/* Where words: not within a longer word. */
static void hide_short(struct redaction *r, struct slice text, bool words)
{
    char wanted[4 * REDACT_RUN];
    size_t len = 0;

    if (text.len < SHORTEST || text.len >= REDACT_RUN)
        return;
    for (size_t i = 0; i < text.len; i++)
        len += escaped((unsigned char)text.ptr[i], wanted + len);
    for (size_t i = 0; i < len; i++)
        wanted[i] = lower_of(wanted[i]);
    for (size_t at = 0; at + len <= r->reply->len; at++) {
        const bool apart = !(at && is_word(r->lower[at - 1]) && is_word(wanted[0])) &&
                           !(is_word(r->lower[at + len]) && is_word(wanted[len - 1]));
        if ((apart || !words) && memcmp(r->lower + at, wanted, len) == 0)
            hide_span(r, at, at + len);
    }
}

typedef bool (*holds_fn)(const void *ctx, struct slice word);

/* Each word with a digit in it that is not hidden yet. */
static void hide_codes(struct redaction *r, holds_fn holds, const void *ctx)
{
    const char *text = r->reply->text;
    size_t at = 0, end, looked = 0;

    for (; at < r->reply->len; at = end) {
        bool digit = false, open = true;
        for (end = at; end < r->reply->len && is_word(text[end]); end++) {
            digit |= is_digit(text[end]);
            open &= !r->fixed[end] && !r->hide[end];
        }
        if (end == at) {
            end++;
            continue;
        }
        if (digit && open && end - at >= CODE_WORD &&
            (looked++ >= CODE_WORDS || holds(ctx, slice_of(text + at, end - at))))
            hide_span(r, at, end);
    }
}

/* ---- what needs no knowledge ---- */

static bool in_address(char c)
{
    return c && !strchr(" <>()[],;:\"'", c);
}

static void hide_addresses(struct redaction *r)
{
    const char *text = r->reply->text;

    for (const char *at = strchr(text, '@'); at; at = strchr(at + 1, '@')) {
        size_t from = (size_t)(at - text), to = from + 1;
        if (from && text[from - 1] == '"') { /* a quoted local part */
            const char *quote = memrchr(text, '"', from - 1);
            from = quote ? (size_t)(quote - text) : from - 1;
        }
        while (from && in_address(text[from - 1]))
            from--;
        while (in_address(text[to]) || (text[to] == '[' && text[to - 1] == '@'))
            to++;
        hide_span(r, from, to);
    }
}

static void hide_blobs(struct redaction *r)
{
    const char *text = r->reply->text;
    size_t at = 0, end;

    for (; at < r->reply->len; at = end + 1) {
        for (end = at; end < r->reply->len && text[end] &&
                       (is_word(text[end]) || strchr("+/=_-", text[end]));)
            end++;
        if (end - at >= BLOB_WORD)
            hide_span(r, at, end);
    }
}

/* What was cut at the reply's bound may be the beginning of anything. */
static void hide_cut_word(struct redaction *r)
{
    const size_t len = r->reply->len;
    size_t from = len;

    if (len + 4 <= MAX) /* an escape is kept whole */
        return;
    while (from && r->reply->text[from - 1] != ' ')
        from--;
    hide_span(r, from, len);
}

/* ---- begin and end ---- */

static void begin(struct redaction *r, struct smtp_reply *reply)
{
    *r = (struct redaction){.reply = reply};
    for (size_t i = 0; i < reply->len; i++)
        r->lower[i] = lower_of(reply->text[i]);
    fix(r);
    index_runs(r);
    hide_addresses(r);
    hide_cut_word(r);
}

/* "<ada@example.com>" becomes "<redacted>", not "<<redacted>>". */
static void hide_brackets(struct redaction *r)
{
    const char *text = r->reply->text;
    size_t to;

    for (size_t at = 1; at < r->reply->len; at++) {
        if (!r->hide[at] || r->hide[at - 1])
            continue;
        for (to = at; to < r->reply->len && r->hide[to];)
            to++;
        if (text[at - 1] == '<' && text[to] == '>')
            hide_span(r, at - 1, to + 1);
    }
}

/* Writes the reply anew. The replacement can be longer than what it stands for: then the end is
 * cut. */
static void end(struct redaction *r)
{
    struct smtp_reply *reply = r->reply;
    char out[MAX + 1];
    size_t len = 0, at = 0;

    hide_brackets(r);
    while (at < reply->len) {
        const char *piece = r->hide[at] ? replacement : reply->text + at;
        const size_t piece_len = r->hide[at] ? sizeof(replacement) - 1 : 1;
        const bool hidden = r->hide[at];
        if (piece_len > MAX - len)
            break;
        memcpy(out + len, piece, piece_len);
        len += piece_len;
        do
            at++;
        while (hidden && at < reply->len && r->hide[at]);
    }
    memcpy(reply->text, out, len);
    reply->text[len] = '\0';
    reply->len = len;
}

/* ---- mails ---- */

static void hide_text(struct redaction *r, struct slice text)
{
    if (!text.ptr)
        return;
    hide_short(r, text, true);
    hide_runs(r, text);
}

static bool mail_holds(const void *ctx, struct slice word)
{
    const struct mail *mail = ctx;
    const struct slice texts[] = {mail->message, mail->subject, mail->text, mail->html,
                                  mail->sender};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (texts[i].ptr && memmem(texts[i].ptr, texts[i].len, word.ptr, word.len))
            return true;
    for (size_t i = 0; i < mail->recipients_len; i++)
        if (memmem(mail->recipients[i].ptr, mail->recipients[i].len, word.ptr, word.len))
            return true;
    return false;
}

void smtp_redact_mail(struct smtp_reply *reply, const struct mail *mail)
{
    struct redaction r;

    begin(&r, reply);
    hide_text(&r, mail->sender);
    for (size_t i = 0; i < mail->recipients_len; i++)
        hide_text(&r, mail->recipients[i]);
    hide_text(&r, mail->subject);
    hide_text(&r, mail->text);
    hide_text(&r, mail->html);
    hide_text(&r, mail->message);
    hide_codes(&r, mail_holds, mail);
    end(&r);
}

/* ---- logins ---- */

static void put_base64(struct slice bytes, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < bytes.len; i += 3) {
        uint32_t group = 0;
        for (size_t k = 0; k < 3; k++)
            group = group << 8 | (i + k < bytes.len ? (unsigned char)bytes.ptr[i + k] : 0);
        for (size_t k = 0; k < 4; k++)
            *out++ = i + k > bytes.len ? '=' : digits[group >> (18 - 6 * k) & 63];
    }
    *out = '\0';
}

static void hide_secret(struct redaction *r, const char *secret)
{
    const struct slice text = slice_str(secret);
    char base64[(MAX_SECRET + 2) / 3 * 4 + 1];

    if (!text.len)
        return;
    hide_short(r, text, false);
    hide_runs(r, text);
    if (text.len > MAX_SECRET)
        return; /* its base64 is a long word */
    put_base64(text, base64);
    hide_short(r, slice_str(base64), false);
    hide_runs(r, slice_str(base64));
    explicit_bzero(base64, sizeof(base64));
}

void smtp_redact_login(struct smtp_reply *reply, const char *user, const char *password)
{
    struct redaction r;

    begin(&r, reply);
    hide_secret(&r, user);
    hide_secret(&r, password);
    hide_blobs(&r);
    end(&r);
}
