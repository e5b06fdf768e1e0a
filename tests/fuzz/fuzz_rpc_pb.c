/*
 * Hostile message bytes against rpc_decode_pb; what decodes must encode and decode again to the
 * same. The first byte chooses the message type.
 */
#include "ctrl/rpc/pb.h"

#include "proto/grpc/health/v1/health.pb.h"
#include "proto/grpc/reflection/v1/reflection.pb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const pb_msgdesc_t *const types[] = {
    grpc_reflection_v1_ServerReflectionRequest_fields,
    grpc_reflection_v1_ServerReflectionResponse_fields,
    grpc_health_v1_HealthCheckResponse_fields,
};

union any {
    grpc_reflection_v1_ServerReflectionRequest request;
    grpc_reflection_v1_ServerReflectionResponse response;
    grpc_health_v1_HealthCheckResponse health;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    const pb_msgdesc_t *type = types[data[0] % ARRAY_LEN(types)];
    union any first = {0};
    union any second = {0};
    err_t err = rpc_decode_pb(type, &first, data + 1, size - 1);
    if (err != ERR_OK) {
        ASSERT(err_code(err) == ERR_PROTOCOL);
        err_free(err);
        return 0;
    }
    struct buf once = {0};
    struct buf twice = {0};
    ASSERT(rpc_pb_encode(type, &first, &once) == ERR_OK);
    ASSERT(rpc_decode_pb(type, &second, once.data, once.len) == ERR_OK);
    ASSERT(rpc_pb_encode(type, &second, &twice) == ERR_OK);
    ASSERT(once.len == twice.len &&
           (once.len == 0 || memcmp(once.data, twice.data, once.len) == 0));
    rpc_release_pb(type, &first);
    rpc_release_pb(type, &second);
    buf_free(&once);
    buf_free(&twice);
    return 0;
}
