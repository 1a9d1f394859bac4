/* The grammar of the strings that end up in header fields, and strict base64. All refuse rather
 * than repair. Pure. */
#ifndef EMAIL_SYNTAX_H
#define EMAIL_SYNTAX_H

#include "base/slice.h"

/* One line: no C0 control character (so no CR, LF, NUL or tab) and no DEL. */
bool syntax_is_line(struct slice text);

/* Printable ASCII without space, at least one character. */
bool syntax_is_graphic(struct slice text);

/* atext of RFC 5322 section 3.2.3. */
bool syntax_is_atext(unsigned char c);

/* [a-z0-9][a-z0-9_.-]*, [A-Za-z0-9_-]+ and RFC 5646-like tags (`de`, `pt-BR`, `zh-Hant-TW`). */
bool syntax_is_event_type(struct slice text);
bool syntax_is_template_name(struct slice text);
bool syntax_is_locale(struct slice text);

/* RFC 2045 section 5.1: type/subtype with parameters. Spaces may stand around ";" only. */
bool syntax_is_content_type(struct slice text);

/* A composite type (multipart, message) can't be carried in base64 (RFC 2046 sections 5.1, 5.2). */
bool syntax_is_composite_type(struct slice content_type);

/* A field name of RFC 5322 section 3.6.8: printable ASCII without ":". */
bool syntax_is_header_name(struct slice text);

/* A header that the service, or a relay on the way, sets itself. */
bool syntax_is_reserved_header(struct slice name);

/* Bytes of the longest run without a space: where it exceeds a line, the value can't be folded. */
size_t syntax_longest_word(struct slice text);

/* Like strcmp, ASCII letters compared without case, whatever the locale. */
int syntax_compare_nocase(struct slice a, struct slice b);

/* RFC 4648 section 4, strictly: padded, nothing but the alphabet, unused bits zero. Decodes to
 * `out`, which has room for text.len / 4 * 3 bytes; false where the text is no base64. */
bool syntax_base64_decode(struct slice text, unsigned char *out, size_t *out_len);

#endif
