/* Addresses: whatever is accepted is one line, has the form that SMTP needs, reads back as itself,
 * and can be written into a header without becoming two fields. */
#include "fuzz.h"

#include "base/utf8.h"
#include "email/address.h"
#include "email/mime_header.h"
#include "mime_reader.h"

static void check_spec(const struct address *a)
{
    struct slice local = slice_of(a->spec.ptr, a->local_len);
    struct slice domain = address_domain(a);
    bool ascii = true;

    REQUIRE(a->spec.len <= ADDRESS_MAX && a->local_len <= ADDRESS_MAX_LOCAL);
    REQUIRE(a->local_len > 0 && a->local_len < a->spec.len && a->spec.ptr[a->local_len] == '@');
    REQUIRE(domain.len > 0 && domain.len <= ADDRESS_MAX_DOMAIN);
    REQUIRE(utf8_valid(local));
    for (size_t i = 0; i < local.len; i++) {
        const unsigned char c = (unsigned char)local.ptr[i];
        REQUIRE(c >= 0x20 && c != 0x7F);
        ascii = ascii && c < 0x80;
    }
    REQUIRE(a->utf8_local == !ascii);
    for (size_t i = 0; i < domain.len; i++) {
        const char c = domain.ptr[i];
        REQUIRE((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.');
    }
}

static void check_name(struct slice name)
{
    REQUIRE(name.len <= ADDRESS_MAX_NAME && utf8_valid(name));
    for (size_t i = 0; i < name.len; i++)
        REQUIRE((unsigned char)name.ptr[i] >= 0x20 && name.ptr[i] != 0x7F);
}

/* The canonical address is accepted, and is itself. */
static void check_reads_back(struct arena *arena, const struct address *a)
{
    struct address again;

    REQUIRE(address_read_parts(arena, a->spec, a->name, &again, NULL) == ADDRESS_OK);
    REQUIRE(slice_equal(again.spec, a->spec) && slice_equal(again.name, a->name));
    REQUIRE(again.local_len == a->local_len && again.utf8_local == a->utf8_local);
    REQUIRE(address_read(arena, a->spec, &again, NULL) == ADDRESS_OK);
    REQUIRE(slice_equal(again.spec, a->spec) && again.name.len == 0);
}

static void check_header(struct arena *arena, const struct address *a)
{
    const struct address twice[] = {*a, *a};
    struct buf out = {0};
    struct mime_entity entity;
    struct mime_mailbox boxes[3];

    mime_header_addresses(&out, slice_str("To"), twice, 2);
    buf_add_str(&out, "\r\n");
    REQUIRE(!out.failed);
    mime_check_wire(buf_slice(&out), a->utf8_local);
    REQUIRE(mime_parse(arena, buf_slice(&out), &entity) && entity.headers_len == 1);
    REQUIRE(mime_mailboxes(arena, entity.headers[0].value, boxes, 3) == 2);
    for (size_t i = 0; i < 2; i++) {
        REQUIRE(slice_equal(boxes[i].spec, a->spec));
        REQUIRE(slice_equal(boxes[i].name, a->name));
    }
    buf_cleanup(&out);
}

static void check(struct arena *arena, enum address_status status, const struct address *a,
                  const struct error *err)
{
    REQUIRE(status != ADDRESS_NO_MEMORY);
    REQUIRE(err->set == (status != ADDRESS_OK));
    if (status != ADDRESS_OK)
        return;
    check_spec(a);
    check_name(a->name);
    check_reads_back(arena, a);
    check_header(arena, a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tape tape = tape_of(data, size);
    const bool parts = tape_flag(&tape);
    const struct slice name =
        parts ? heap_copy(tape_bytes(&tape, tape_byte(&tape))) : slice_of(NULL, 0);
    const struct slice text = heap_copy(tape_rest(&tape));
    struct arena arena;
    struct address a;
    struct error err = {0};

    arena_init(&arena);
    if (parts)
        check(&arena, address_read_parts(&arena, text, name, &a, &err), &a, &err);
    else
        check(&arena, address_read(&arena, text, &a, &err), &a, &err);
    arena_cleanup(&arena);
    heap_free(text);
    heap_free(name);
    return 0;
}
