#include "email/smtp_redact.h"

#include <stdint.h>
#include <strings.h>

#include "email/common_pieces.h"

enum {
    MAX = OUTCOME_MAX_REPLY,
    SHORTEST = 3, /* private text that is looked for */
    CODE_WORD = 4,
    BLOB_WORD = 16, /* longer than what relays say, but for host names and base64 */
    MAX_SECRET = 512
};

/* How private a text is: what the reply must have in common with it for being hidden. */
enum kind {
    KIND_EXACT, /* addresses, logins: REDACT_RUN characters */
    KIND_NEAR,  /* subject, header fields: as many of whole words, or somewhat more of any */
    KIND_FAR,   /* bodies: a sentence's worth, or a long thing that is no plain word */
    KINDS = PIECES_GROUPS
};

static const char replacement[] = "<redacted>";

struct redaction {
    struct smtp_reply *reply;
    char lower[MAX + 1];
    bool fixed[MAX + 1];  /* reply codes and enhanced status codes */
    bool public[MAX + 1]; /* not private even where a private text has it */
    bool hide[MAX + 1];
    struct common_pieces pieces; /* of the reply; a group a kind */
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

/* Header fields are more private than a body, and so are those of its parts (a file's name). */
static enum kind kind_of_line(struct slice message, size_t at, enum kind before)
{
    static const char field[] = "content-";

    if (message.ptr[at] == ' ' || message.ptr[at] == '\t')
        return before;
    return message.len - at >= sizeof(field) - 1 &&
                   strncasecmp(message.ptr + at, field, sizeof(field) - 1) == 0
               ? KIND_NEAR
               : KIND_FAR;
}

static void search_on(struct redaction *r, struct pieces_follower *f, struct slice text,
                      enum kind kind)
{
    char piece[4];

    for (size_t i = 0; i < text.len; i++) {
        const size_t len = escaped((unsigned char)text.ptr[i], piece);
        for (size_t k = 0; k < len; k++)
            common_pieces_follow(&r->pieces, f, lower_of(piece[k]), kind);
    }
}

static void search(struct redaction *r, struct slice text, enum kind kind)
{
    search_on(r, &(struct pieces_follower){.state = 1}, text, kind);
}

static void search_message(struct redaction *r, struct slice message)
{
    struct pieces_follower f = {.state = 1};
    enum kind kind = KIND_NEAR;
    bool header = true;

    for (size_t at = 0, next; at < message.len; at = next) {
        const char *newline = memchr(message.ptr + at, '\n', message.len - at);
        next = newline ? (size_t)(newline + 1 - message.ptr) : message.len;
        header = header && next - at > 2;
        kind = header ? KIND_NEAR : kind_of_line(message, at, kind);
        search_on(r, &f, slice_of(message.ptr + at, next - at), kind);
    }
}

/* ---- which of the runs are hidden ---- */

/* Between two characters of a word. */
static bool within_word(const struct redaction *r, size_t at)
{
    return at && at < r->reply->len && is_word(r->lower[at - 1]) && is_word(r->lower[at]);
}

struct span {
    size_t from, to;
};

static struct span without_spaces(const struct redaction *r, struct span s)
{
    while (s.from < s.to && r->lower[s.from] == ' ')
        s.from++;
    while (s.to > s.from && r->lower[s.to - 1] == ' ')
        s.to--;
    return s;
}

/* Half words at the ends go. */
static struct span shrunk(const struct redaction *r, struct span s)
{
    while (s.from < s.to && within_word(r, s.from))
        s.from++;
    while (s.to > s.from && within_word(r, s.to))
        s.to--;
    return without_spaces(r, s);
}

/* Half words at the ends become whole ones. */
static struct span grown(const struct redaction *r, struct span s)
{
    s = without_spaces(r, s);
    while (s.from < s.to && within_word(r, s.from))
        s.from--;
    while (s.from < s.to && within_word(r, s.to))
        s.to++;
    return s;
}

static void hide_private(struct redaction *r, struct span s)
{
    for (size_t i = s.from; i < s.to; i++)
        r->hide[i] |= !r->fixed[i] && !r->public[i];
}

/* File names, links, tokens: long, without a space, and more than letters. */
static void hide_things(struct redaction *r, struct span s)
{
    size_t at = s.from, end;

    for (; at < s.to; at = end + 1) {
        bool plain = true;
        for (end = at; end < s.to && r->lower[end] != ' '; end++)
            plain &=
                !is_digit(r->lower[end]) &&
                !(end > at && end + 1 < s.to && !is_word(r->lower[end]) && r->lower[end] != '\'' &&
                  is_word(r->lower[end - 1]) && r->lower[end + 1] != ' ');
        if (!plain && end - at >= REDACT_RUN)
            hide_private(r, (struct span){at, end});
    }
}

/* The reply was cut at its bound: what goes beyond is not known. */
static bool is_cut(const struct redaction *r)
{
    return r->reply->len + 4 > MAX; /* an escape is kept whole */
}

static void hide_run(struct redaction *r, struct span s, enum kind kind)
{
    const size_t len = s.to - s.from;
    const struct span words = shrunk(r, s);

    if (kind == KIND_EXACT)
        hide_private(r, s);
    else if (len >= (kind == KIND_NEAR ? REDACT_NEAR : REDACT_FAR) ||
             (s.to == r->reply->len && is_cut(r)) ||
             (kind == KIND_NEAR && words.to - words.from >= REDACT_RUN))
        hide_private(r, grown(r, s));
    else if (kind == KIND_FAR)
        hide_things(r, words);
}

static void hide_runs(struct redaction *r, enum kind kind)
{
    uint16_t run[MAX + 1];

    common_pieces_longest(&r->pieces, kind, run);
    for (size_t end = REDACT_RUN; end <= r->reply->len; end++) {
        const bool goes_on = end < r->reply->len && run[end + 1] == run[end] + 1;
        if (run[end] >= REDACT_RUN && !goes_on)
            hide_run(r, (struct span){end - run[end], end}, kind);
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

/* Each word with a digit in it that a private text holds. */
static void hide_codes(struct redaction *r)
{
    uint16_t run[KINDS][MAX + 1];
    size_t at = 0, end;

    for (enum kind kind = 0; kind < KINDS; kind++)
        common_pieces_longest(&r->pieces, kind, run[kind]);
    for (; at < r->reply->len; at = end) {
        bool digit = false, open = true, held = false;
        for (end = at; end < r->reply->len && is_word(r->lower[end]); end++) {
            digit |= is_digit(r->lower[end]);
            open &= !r->fixed[end] && !r->hide[end] && !r->public[end];
        }
        for (enum kind kind = 0; kind < KINDS; kind++)
            held |= run[kind][end] >= end - at;
        if (end == at)
            end++;
        else if (digit && open && held && end - at >= CODE_WORD)
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

    if (!is_cut(r))
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
    common_pieces_index(&r->pieces, r->lower, reply->len);
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

/* Where `word` stands alone: not within a longer word or name. */
static void set_public(struct redaction *r, struct slice word)
{
    for (size_t at = 4; word.len && at + word.len <= r->reply->len; at++) {
        const char before = r->lower[at - 1], after = r->lower[at + word.len];
        const bool apart = !is_word(before) && !strchr("@.-_", before) && !is_word(after) &&
                           after != '-' && after != '_';
        if (apart && strncasecmp(r->lower + at, word.ptr, word.len) == 0)
            memset(r->public + at, true, word.len + (after == ':'));
    }
}

/* The sender's domain, and what every mail of ours has in its header fields. */
static void set_all_public(struct redaction *r, struct slice sender)
{
    static const char *const common[] = {
        "Content-Transfer-Encoding",
        "Content-Disposition",
        "Content-Type",
        "MIME-Version",
        "Message-ID",
        "Auto-Submitted",
        "List-Unsubscribe",
        "Reply-To",
        "quoted-printable",
        "multipart/alternative",
        "multipart/mixed",
        "multipart/related",
    };
    const char *sign = sender.ptr ? memrchr(sender.ptr, '@', sender.len) : NULL;
    const size_t domain = sign ? (size_t)(sign + 1 - sender.ptr) : sender.len;

    if (domain < sender.len && memchr(sign, '.', sender.len - domain))
        set_public(r, slice_of(sender.ptr + domain, sender.len - domain));
    for (size_t i = 0; i < sizeof(common) / sizeof(common[0]); i++)
        set_public(r, slice_str(common[i]));
}

static void add_text(struct redaction *r, struct slice text, enum kind kind)
{
    if (!text.ptr)
        return;
    hide_short(r, text, true);
    search(r, text, kind);
}

size_t smtp_redact_mail(struct smtp_reply *reply, const struct mail *mail)
{
    struct redaction r;

    begin(&r, reply);
    set_all_public(&r, mail->sender);
    add_text(&r, mail->sender, KIND_EXACT);
    for (size_t i = 0; i < mail->recipients_len; i++)
        add_text(&r, mail->recipients[i], KIND_EXACT);
    add_text(&r, mail->subject, KIND_NEAR);
    add_text(&r, mail->text, KIND_FAR);
    add_text(&r, mail->html, KIND_FAR);
    search_message(&r, mail->message);
    for (enum kind kind = 0; kind < KINDS; kind++)
        hide_runs(&r, kind);
    hide_codes(&r);
    end(&r);
    return r.pieces.steps;
}

void smtp_redact_whole(struct smtp_reply *reply)
{
    struct redaction r;

    begin(&r, reply);
    hide_span(&r, 0, reply->len);
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
    search(r, text, KIND_EXACT);
    if (text.len > MAX_SECRET)
        return; /* its base64 is a long word */
    put_base64(text, base64);
    hide_short(r, slice_str(base64), false);
    search(r, slice_str(base64), KIND_EXACT);
    explicit_bzero(base64, sizeof(base64));
}

void smtp_redact_login(struct smtp_reply *reply, const char *user, const char *password)
{
    struct redaction r;

    begin(&r, reply);
    hide_secret(&r, user);
    hide_secret(&r, password);
    hide_runs(&r, KIND_EXACT);
    hide_blobs(&r);
    end(&r);
}
