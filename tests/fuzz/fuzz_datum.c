/*
 * Text and binary input of every type: the first byte chooses the type, the second the form. What
 * is accepted must print, and the print must be accepted and print the same.
 */
#include "core/data/type.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct type type = type_of((enum type_kind)(1 + data[0] % (TYPE_UNKNOWN - 1)));
    struct arena arena = {0};
    struct buf first = {0};
    struct buf second = {0};
    struct datum d;
    struct datum again;
    err_t err = data[1] & 1 ? datum_recv(&type, data + 2, size - 2, &arena, &d)
                            : datum_parse(&type, (const char *)data + 2, size - 2, &arena, &d);
    if (err == ERR_OK) {
        datum_print(&type, &d, &first);
        err = datum_parse(&type, (const char *)first.data, first.len, &arena, &again);
        if (err != ERR_OK) {
            abort();
        }
        datum_print(&type, &again, &second);
        bool same = first.len == second.len &&
                    (first.len == 0 || memcmp(first.data, second.data, first.len) == 0);
        if (!same) {
            abort();
        }
    }
    err_free(err);
    buf_free(&first);
    buf_free(&second);
    arena_free(&arena);
    return 0;
}
