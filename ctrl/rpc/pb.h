/*
 * nanopb as Tailrace uses it. Generated messages (tr_proto) keep scalars in place, strings and
 * repeated fields behind malloc'ed pointers, and `bytes` fields that ask for it (see README.md) as
 * struct rpc_bytes. Decoding takes bytes from peers: everything is bounded before it is allocated.
 * Any thread.
 */
#ifndef TAILRACE_CTRL_RPC_PB_H
#define TAILRACE_CTRL_RPC_PB_H

#include "core/base/buf.h"
#include "core/base/err.h"

#include <pb.h>

/*
 * A `bytes` field without copy or size limit. Encoding reads data; decoding points into the bytes
 * being decoded, which must outlive the message. len 0 is the absent field.
 */
struct rpc_bytes {
    const uint8_t *data;
    size_t len;
};

/* The nanopb callback of such fields, named by the generated code; not called directly. */
bool rpc_pb_bytes(pb_istream_t *input, pb_ostream_t *output, const pb_field_t *field);

/*
 * How deep messages may nest, and how much memory a message of n bytes may take when decoded:
 * RPC_PB_MEMORY_BASE + RPC_PB_MEMORY_FACTOR * n.
 */
enum { RPC_PB_DEPTH_MAX = 100, RPC_PB_MEMORY_FACTOR = 32, RPC_PB_MEMORY_BASE = 16 << 20 };

/* Appends the encoded message to out. Fails (ERR_LIMIT, ERR_INVALID) on what cannot be encoded. */
err_t rpc_pb_encode(const pb_msgdesc_t *fields, const void *message, struct buf *out);
/*
 * Decodes into message, which is zeroed first. On success the caller frees what it points to with
 * rpc_release_pb; on failure (ERR_PROTOCOL) nothing is held. Depth and memory are bounded.
 */
err_t rpc_decode_pb(const pb_msgdesc_t *fields, void *message, const uint8_t *data, size_t len);
/* Frees everything a decoded message points to and zeroes it. */
void rpc_release_pb(const pb_msgdesc_t *fields, void *message);

#endif
