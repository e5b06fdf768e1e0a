/*
 * The text encodings of gRPC over HTTP/2: timeouts, percent-encoded messages, base64 of binary
 * metadata. All input may come from a peer.
 */
#ifndef TAILRACE_CTRL_RPC_TEXT_H
#define TAILRACE_CTRL_RPC_TEXT_H

#include "core/base/buf.h"

/* "100m" and so on: at most 8 digits and a unit H M S m u n. False when malformed. */
bool rpc_timeout_parse(const char *text, size_t len, uint64_t *out_us);
/* The shortest form that is not less than us; NUL-terminated. */
void rpc_timeout_format(uint64_t us, char out[12]);

/* Percent-encoding of grpc-message; decoding keeps what is malformed as it is. */
void rpc_percent_encode(struct buf *out, const char *text);
void rpc_percent_decode(struct buf *out, const char *text, size_t len);

/* Base64 without padding; decoding takes padding too. False when malformed. */
void rpc_base64_encode(struct buf *out, const uint8_t *data, size_t len);
bool rpc_base64_decode(struct buf *out, const char *text, size_t len);

#endif
