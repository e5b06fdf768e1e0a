/*
 * Plans and their parts between the C structures of core/engine/plan.h and the messages of
 * ctrl/proto. Encoding borrows: the message points into the plan and the arena, encode it before
 * either goes. Decoding copies everything into the target arena and validates all of it: what it
 * returns is safe to render, whoever sent it. Any thread.
 *
 * How values travel: literals as the bytes of their member of struct datum, little endian (bool one
 * byte, numeric 24, interval and uuid 16, other fixed kinds 8), variable kinds as their bytes;
 * constant rows as one batch (core/data/batch.h). Numbers of operators, functions, aggregates and
 * kinds are those of the headers of core/data and core/engine, which never change them.
 */
#ifndef TAILRACE_CTRL_PLAN_PLAN_CODEC_H
#define TAILRACE_CTRL_PLAN_PLAN_CODEC_H

#include "core/engine/plan.h"
#include "proto/control.pb.h"
#include "proto/plan.pb.h"

/* The message of a plan, borrowing from plan and arena. */
void plan_codec_encode(const struct plan *plan, struct arena *arena, tailrace_v1_Plan *out);
/*
 * The plan of a message, validated (plan_validate). ERR_PROTOCOL or ERR_INVALID say where. The
 * plan's id and exports may still clash with what lives on a worker: engine_create checks that.
 */
err_t plan_codec_decode(const tailrace_v1_Plan *message, struct plan **out);

/* Borrows from mfp and arena, as plan_codec_encode. */
void plan_codec_encode_mfp(const struct mfp *mfp, struct arena *arena, tailrace_v1_Mfp *out);
/* Decoded, not validated against an input: the caller knows the input (mfp_validate). */
err_t plan_codec_decode_mfp(const tailrace_v1_Mfp *message, struct arena *arena, struct mfp *out);

/* Columns are numbers of the input; whoever renders checks them against it. */
tailrace_v1_Order *plan_codec_encode_order(const struct plan_order *order, size_t len,
                                           struct arena *arena);
struct plan_order *plan_codec_decode_order(const tailrace_v1_Order *message, size_t len,
                                           struct arena *arena);

/* A column without a name travels with an empty one. */
void plan_codec_encode_schema(const struct schema *schema, struct arena *arena,
                              tailrace_v1_Schema *out);
err_t plan_codec_decode_schema(const tailrace_v1_Schema *message, struct arena *arena,
                               struct schema *out);

/*
 * Errors keep code, SQLSTATE, message (with context), detail and hint. err stays the caller's; it
 * must not be ERR_OK.
 */
void plan_codec_encode_err(err_t err, struct arena *arena, tailrace_v1_Error *out);
/*
 * Never fails: what is malformed is replaced (an unknown code by ERR_INTERNAL, a bad SQLSTATE by
 * XX000).
 */
err_t plan_codec_decode_err(const tailrace_v1_Error *message);

/* A view of batch bytes borrowed from a message: copied to aligned memory (*storage, to be freed
 * with free()) and validated against kinds. cols holds kinds_len columns, from the arena. */
err_t plan_codec_open_batch(const struct rpc_bytes *bytes, const uint8_t *kinds, size_t kinds_len,
                            struct arena *arena, void **storage, struct batch *out);

#endif
