#include "email/fingerprint.h"

/* Inlined: the streaming state can live on the stack, and its size is no matter of the library's
 * ABI. The hash itself is stable since xxHash 0.8.0. */
#define XXH_INLINE_ALL
#include <xxhash.h>

/* The canonical form: every item is its length (8 bytes, little-endian) and its bytes, an absent
 * one has the length ABSENT alone; every list starts with its count, written like a length. */
static const uint64_t ABSENT = UINT64_MAX;

static void put_number(XXH3_state_t *hash, uint64_t number)
{
    unsigned char bytes[8];

    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(number >> (8 * i));
    XXH3_128bits_update(hash, bytes, sizeof(bytes));
}

static void put(XXH3_state_t *hash, struct slice item)
{
    put_number(hash, item.ptr ? item.len : ABSENT);
    if (item.ptr && item.len)
        XXH3_128bits_update(hash, item.ptr, item.len);
}

static void put_address(XXH3_state_t *hash, const struct address *a)
{
    put(hash, a->spec);
    put(hash, slice_of(a->name.ptr ? a->name.ptr : "", a->name.len));
}

static void put_addresses(XXH3_state_t *hash, const struct address_list *list)
{
    put_number(hash, list->len);
    for (size_t i = 0; i < list->len; i++)
        put_address(hash, &list->items[i]);
}

static void put_attachments(XXH3_state_t *hash, const struct event *ev)
{
    put_number(hash, ev->attachments_len);
    for (size_t i = 0; i < ev->attachments_len; i++) {
        put(hash, ev->attachments[i].filename);
        put(hash, ev->attachments[i].content_type);
        put(hash, ev->attachments[i].content_id);
        put(hash, ev->attachments[i].content);
    }
}

static void put_headers(XXH3_state_t *hash, const struct event *ev)
{
    put_number(hash, ev->headers_len);
    for (size_t i = 0; i < ev->headers_len; i++) {
        put(hash, ev->headers[i].name);
        put(hash, ev->headers[i].value);
    }
}

void fingerprint_event(const struct event *ev, char out[EVENT_FINGERPRINT_LEN + 1])
{
    static const char digits[] = "0123456789abcdef";
    XXH128_canonical_t bytes;
    XXH3_state_t hash;

    XXH3_INITSTATE(&hash);
    XXH3_128bits_reset(&hash);
    put_addresses(&hash, &ev->to);
    put_addresses(&hash, &ev->cc);
    put_addresses(&hash, &ev->bcc);
    put_address(&hash, &ev->from);
    put_address(&hash, &ev->reply_to);
    put(&hash, ev->subject);
    put(&hash, ev->text);
    put(&hash, ev->html);
    put(&hash, ev->template_name);
    put(&hash, ev->locale);
    put(&hash, ev->data);
    put_attachments(&hash, ev);
    put_headers(&hash, ev);
    XXH128_canonicalFromHash(&bytes, XXH3_128bits_digest(&hash));
    for (size_t i = 0; i < sizeof(bytes.digest); i++) {
        *out++ = digits[bytes.digest[i] >> 4];
        *out++ = digits[bytes.digest[i] & 15];
    }
    *out = '\0';
}
