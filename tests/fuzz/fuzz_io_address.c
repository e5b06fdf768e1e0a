/* Addresses as text, from flags and configuration: whatever is accepted can be written and read
 * back as the same address. The first byte says whether it is an address to listen on. */
#include "core/io/uring/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same(const struct uring_address *a, const struct uring_address *b)
{
    return a->kind == b->kind && a->len == b->len && memcmp(&a->storage, &b->storage, a->len) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    char *text = mem_strndup((const char *)data + 1, size - 1);
    struct uring_address address;
    err_t err = uring_address_parse(text, (data[0] & 1) != 0, &address);
    if (err == ERR_OK && address.host[0] == '\0') {
        char written[256];
        struct uring_address again;
        uring_address_format(&address, written, sizeof(written));
        err_t other = uring_address_parse(written, true, &again);
        ASSERT(other == ERR_OK && same(&address, &again));
    } else if (err != ERR_OK) {
        ASSERT(err_code(err) == ERR_INVALID);
    }
    err_free(err);
    free(text);
    return 0;
}
