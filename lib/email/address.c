#include "email/address.h"

#include <idn2.h>

#include "base/utf8.h"
#include "email/syntax.h"

static enum address_status invalid(struct error *err, const char *why)
{
    error_set(err, "%s", why);
    return ADDRESS_INVALID;
}

static enum address_status no_memory(struct error *err)
{
    error_set(err, "out of memory");
    return ADDRESS_NO_MEMORY;
}

/* Dot-string (RFC 5321 section 4.1.2), widened by UTF8-non-ascii (RFC 6531 section 3.3). */
static bool is_dot_string(struct slice text)
{
    bool atom_open = false;

    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c == '.' && !atom_open)
            return false;
        if (c != '.' && c < 0x80 && !syntax_is_atext(c))
            return false;
        atom_open = c != '.';
    }
    return atom_open;
}

/* Length of the quoted string at the start of the text with both its quotes, 0 where there is none.
 * Control characters have been refused before. */
static size_t quoted_len(struct slice text)
{
    if (text.len == 0 || text.ptr[0] != '"')
        return 0;
    for (size_t i = 1; i < text.len; i++) {
        if (text.ptr[i] == '"')
            return i + 1;
        if (text.ptr[i] == '\\')
            i++;
    }
    return 0;
}

static bool is_local_part(struct slice text)
{
    return is_dot_string(text) || (text.len && quoted_len(text) == text.len);
}

static bool is_letter_or_digit(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A label of RFC 1123 section 2.1: letters, digits and inner hyphens. */
static bool is_label(struct slice label)
{
    if (label.len == 0 || label.len > 63 || label.ptr[0] == '-' || label.ptr[label.len - 1] == '-')
        return false;
    for (size_t i = 0; i < label.len; i++)
        if (!is_letter_or_digit(label.ptr[i]) && label.ptr[i] != '-')
            return false;
    return true;
}

/* Takes the label up to the next dot, or all, off the front; false after the last one. */
static bool next_label(struct slice *rest, struct slice *label)
{
    const char *dot;

    if (!rest->ptr)
        return false;
    dot = memchr(rest->ptr, '.', rest->len);
    *label = slice_of(rest->ptr, dot ? (size_t)(dot - rest->ptr) : rest->len);
    *rest = dot ? slice_of(dot + 1, rest->len - label->len - 1) : slice_of(NULL, 0);
    return true;
}

static bool is_ascii_domain(struct slice domain)
{
    struct slice label;

    if (domain.len > ADDRESS_MAX_DOMAIN)
        return false;
    while (next_label(&domain, &label))
        if (!is_label(label))
            return false;
    return true;
}

/* Whether libidn2 has to look at it: a U-label, or what claims to be an A-label. */
static bool is_internationalised(struct slice domain)
{
    struct slice label;

    if (!utf8_is_ascii(domain))
        return true;
    while (next_label(&domain, &label))
        if (label.len >= 4 &&
            syntax_compare_nocase(slice_of(label.ptr, 4), slice_of("xn--", 4)) == 0)
            return true;
    return false;
}

/* local@domain in one piece, the domain in lower case. */
static enum address_status join(struct arena *arena, struct slice local, struct slice domain,
                                struct address *out, struct error *err)
{
    char *spec;

    if (!is_ascii_domain(domain))
        return invalid(err, "the domain is not valid");
    if (domain.len > ADDRESS_MAX - 1 - local.len)
        return invalid(err, "longer than 254 bytes");
    spec = arena_alloc(arena, local.len + 1 + domain.len + 1);
    if (!spec)
        return no_memory(err);
    memcpy(spec, local.ptr, local.len);
    spec[local.len] = '@';
    for (size_t i = 0; i < domain.len; i++) {
        char c = domain.ptr[i];
        spec[local.len + 1 + i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    out->spec = slice_of(spec, local.len + 1 + domain.len);
    out->local_len = local.len;
    out->utf8_local = !utf8_is_ascii(local);
    return ADDRESS_OK;
}

static enum address_status join_idn(struct arena *arena, struct slice local, struct slice domain,
                                    struct address *out, struct error *err)
{
    char utf8[4 * ADDRESS_MAX_DOMAIN + 1];
    char *ascii = NULL;
    enum address_status status;
    int rc;

    if (domain.len >= sizeof(utf8))
        return invalid(err, "the domain is not valid");
    memcpy(utf8, domain.ptr, domain.len);
    utf8[domain.len] = '\0';
    rc = idn2_to_ascii_8z(utf8, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
    if (rc == IDN2_MALLOC)
        return no_memory(err);
    if (rc != IDN2_OK)
        return invalid(err, "the domain is not a valid internationalised name");
    status = join(arena, local, slice_str(ascii), out, err);
    idn2_free(ascii);
    return status;
}

/* local@domain: the last "@" separates them, since a quoted local part may hold one. */
static enum address_status read_spec(struct arena *arena, struct slice text, struct address *out,
                                     struct error *err)
{
    const char *at = text.len ? memrchr(text.ptr, '@', text.len) : NULL;
    struct slice local, domain;

    if (!at)
        return invalid(err, "not an address: no \"@\"");
    local = slice_of(text.ptr, (size_t)(at - text.ptr));
    domain = slice_of(at + 1, text.len - local.len - 1);
    if (local.len > ADDRESS_MAX_LOCAL)
        return invalid(err, "the part before \"@\" is longer than 64 bytes");
    if (!is_local_part(local))
        return invalid(err, "the part before \"@\" is not valid");
    if (is_internationalised(domain))
        return join_idn(arena, local, domain, out, err);
    return join(arena, local, domain, out, err);
}

static enum address_status take_name(struct arena *arena, struct slice name, struct address *out,
                                     struct error *err)
{
    if (name.len > ADDRESS_MAX_NAME)
        return invalid(err, "the name is longer than 255 bytes");
    out->name = name.len ? arena_copy(arena, name) : slice_of("", 0);
    return out->name.ptr ? ADDRESS_OK : no_memory(err);
}

/* The content of a quoted string: quotes off, backslash pairs resolved (RFC 5322 section 3.2.4). */
static enum address_status take_quoted_name(struct arena *arena, struct slice quoted,
                                            struct address *out, struct error *err)
{
    char plain[ADDRESS_MAX_NAME + 1];
    size_t len = 0;

    for (size_t i = 1; i < quoted.len - 1; i++) {
        if (quoted.ptr[i] == '\\')
            i++;
        if (len == sizeof(plain))
            break;
        plain[len++] = quoted.ptr[i];
    }
    return take_name(arena, slice_of(plain, len), out, err);
}

static enum address_status check_text(struct slice text, struct error *err)
{
    if (!utf8_valid(text))
        return invalid(err, "not valid UTF-8");
    if (!syntax_is_line(text))
        return invalid(err, "has a control character");
    return ADDRESS_OK;
}

/* `… <spec>`: the text behind the name, from the angle bracket on. */
static enum address_status read_angle(struct arena *arena, struct slice text, struct address *out,
                                      struct error *err)
{
    if (text.len < 2 || text.ptr[0] != '<' || text.ptr[text.len - 1] != '>')
        return invalid(err, "not of the form \"Name <address>\"");
    return read_spec(arena, slice_of(text.ptr + 1, text.len - 2), out, err);
}

static struct slice skip_spaces(struct slice text)
{
    while (text.len && text.ptr[0] == ' ')
        text = slice_of(text.ptr + 1, text.len - 1);
    return text;
}

static enum address_status read_quoted_name(struct arena *arena, struct slice text, size_t len,
                                            struct address *out, struct error *err)
{
    enum address_status status = take_quoted_name(arena, slice_of(text.ptr, len), out, err);

    if (status != ADDRESS_OK)
        return status;
    return read_angle(arena, skip_spaces(slice_of(text.ptr + len, text.len - len)), out, err);
}

/* An unquoted name is more than RFC 5322's phrase allows (dots, commas, UTF-8), as people write
 * them. */
static enum address_status read_plain_name(struct arena *arena, struct slice text, size_t len,
                                           struct address *out, struct error *err)
{
    struct slice name = slice_of(text.ptr, len);
    enum address_status status;

    if (len && (name.ptr[0] == ' ' || memchr(name.ptr, '>', len)))
        return invalid(err, "the name is not valid");
    while (name.len && name.ptr[name.len - 1] == ' ')
        name.len--;
    status = take_name(arena, name, out, err);
    if (status != ADDRESS_OK)
        return status;
    return read_angle(arena, slice_of(text.ptr + len, text.len - len), out, err);
}

enum address_status address_read(struct arena *arena, struct slice text, struct address *out,
                                 struct error *err)
{
    enum address_status status = check_text(text, err);
    size_t quoted = quoted_len(text);
    const char *angle;

    *out = (struct address){.name = slice_of("", 0)};
    if (status != ADDRESS_OK)
        return status;
    if (quoted) {
        if (quoted < text.len && text.ptr[quoted] == '@')
            return read_spec(arena, text, out, err);
        return read_quoted_name(arena, text, quoted, out, err);
    }
    angle = text.len ? memchr(text.ptr, '<', text.len) : NULL;
    if (!angle)
        return read_spec(arena, text, out, err);
    if (text.ptr[0] == '"')
        return invalid(err, "the name's quotation mark is not closed");
    return read_plain_name(arena, text, (size_t)(angle - text.ptr), out, err);
}

enum address_status address_read_parts(struct arena *arena, struct slice email, struct slice name,
                                       struct address *out, struct error *err)
{
    enum address_status status = check_text(email, err);

    *out = (struct address){.name = slice_of("", 0)};
    if (status == ADDRESS_OK)
        status = check_text(name, err);
    if (status == ADDRESS_OK)
        status = take_name(arena, name, out, err);
    return status == ADDRESS_OK ? read_spec(arena, email, out, err) : status;
}

bool address_parse(struct arena *arena, struct slice text, struct address *out, struct error *err)
{
    return address_read(arena, text, out, err) == ADDRESS_OK;
}

bool address_from_parts(struct arena *arena, struct slice email, struct slice name,
                        struct address *out, struct error *err)
{
    return address_read_parts(arena, email, name, out, err) == ADDRESS_OK;
}

struct slice address_domain(const struct address *a)
{
    if (!a->spec.ptr)
        return slice_of(NULL, 0);
    return slice_of(a->spec.ptr + a->local_len + 1, a->spec.len - a->local_len - 1);
}
