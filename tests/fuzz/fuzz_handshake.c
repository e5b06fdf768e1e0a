/* The handshake's message: any bytes decode to a hello that encodes to the same bytes, or fail with
 * a refusal. */
#include "core/base/mem.h"
#include "ring/frame/hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hello hello;
    enum hello_refusal refusal = 0;
    err_t err = hello_decode(data, size, &hello, &refusal);
    if (err != ERR_OK) {
        ASSERT(refusal >= REFUSE_MAGIC && refusal <= REFUSE_LAST);
        err_free(err);
        return 0;
    }
    struct buf again = {0};
    hello_encode(&again, &hello);
    ASSERT(again.len == size && memcmp(again.data, data, size) == 0);
    struct hello ours = hello;
    ours.protocol = HELLO_BOUNDARY;
    err_free(hello_check(&hello, &ours, HELLO_COMPUTE, &refusal));
    buf_free(&again);
    return 0;
}
