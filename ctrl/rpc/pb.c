/*
 * nanopb with bounds. nanopb checks lengths but neither how deep recursive messages nest (it
 * recurses on the C stack) nor how much memory small input expands to, nor text encoding; a walk
 * over the bytes, guided by the same descriptors, decides that before anything is allocated.
 */
#include "ctrl/rpc/pb.h"

#include "core/base/utf8.h"

#include <pb_common.h>
#include <pb_decode.h>
#include <pb_encode.h>

/* ---- encoding -------------------------------------------------------------------------------- */

static bool append_to_buf(pb_ostream_t *stream, const pb_byte_t *data, size_t len)
{
    ASSERT(stream->state != NULL);
    buf_append(stream->state, data, len);
    return true;
}

err_t rpc_pb_encode(const pb_msgdesc_t *fields, const void *message, struct buf *out)
{
    ASSERT(fields != NULL && message != NULL);
    size_t before = out->len;
    pb_ostream_t stream = {.callback = append_to_buf, .state = out, .max_size = SIZE_MAX};
    if (!pb_encode(&stream, fields, message)) {
        out->len = before;
        return err_new(ERR_INVALID, "cannot encode a message: %s", PB_GET_ERROR(&stream));
    }
    ASSERT(out->len - before == stream.bytes_written);
    return ERR_OK;
}

static bool encode_bytes(pb_ostream_t *output, const pb_field_t *field)
{
    ASSERT(field->pData != NULL);
    const struct rpc_bytes *bytes = field->pData;
    if (bytes->len == 0) {
        return true;
    }
    ASSERT(bytes->data != NULL);
    return pb_encode_tag_for_field(output, field) &&
           pb_encode_string(output, bytes->data, bytes->len);
}

/* The walk made sure that this is a length-delimited value inside the caller's bytes. */
static bool decode_bytes(pb_istream_t *input, const pb_field_t *field)
{
    ASSERT(input->state != NULL || input->bytes_left == 0);
    struct rpc_bytes *bytes = field->pData;
    bytes->data = input->state;
    bytes->len = input->bytes_left;
    return pb_read(input, NULL, input->bytes_left);
}

bool rpc_pb_bytes(pb_istream_t *input, pb_ostream_t *output, const pb_field_t *field)
{
    ASSERT(PB_LTYPE(field->type) == PB_LTYPE_BYTES);
    ASSERT(field->data_size == sizeof(struct rpc_bytes));
    if (output != NULL) {
        return encode_bytes(output, field);
    }
    return decode_bytes(input, field);
}

/* ---- decoding -------------------------------------------------------------------------------- */

enum wire_type { WIRE_VARINT = 0, WIRE_64BIT = 1, WIRE_BYTES = 2, WIRE_32BIT = 5 };

/* What malloc takes around each block, roughly; counted so that many tiny ones are bounded too. */
enum { BLOCK_OVERHEAD = 32 };

struct walk {
    size_t memory; /* bytes decoding will allocate at most */
    size_t memory_max;
    const char *problem; /* NULL: none yet */
};

/* At most ten bytes; a longer one is broken. */
static uint64_t read_varint(struct reader *r)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = reader_u8(r);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            return value;
        }
    }
    r->failed = true;
    return 0;
}

/* Kinds that have a length on the wire; numbers may come packed, with one, or alone. */
static bool is_length_delimited(const pb_field_iter_t *field)
{
    switch (PB_LTYPE(field->type)) {
    case PB_LTYPE_BYTES:
    case PB_LTYPE_STRING:
    case PB_LTYPE_SUBMESSAGE:
    case PB_LTYPE_SUBMSG_W_CB:
    case PB_LTYPE_FIXED_LENGTH_BYTES:
        return true;
    default:
        return false;
    }
}

static bool walk_message(struct walk *walk, const pb_msgdesc_t *fields, struct reader r,
                         unsigned depth);

static bool fail(struct walk *walk, const char *problem)
{
    walk->problem = problem;
    return false;
}

/* Counts what decoding will allocate, before it does. */
static bool charge(struct walk *walk, size_t bytes)
{
    walk->memory += bytes + BLOCK_OVERHEAD;
    return walk->memory <= walk->memory_max || fail(walk, "it expands to too much memory");
}

/* A length-delimited value of a known field. */
static bool walk_delimited(struct walk *walk, const pb_field_iter_t *field, struct reader value,
                           unsigned depth)
{
    switch (PB_LTYPE(field->type)) {
    case PB_LTYPE_SUBMESSAGE:
    case PB_LTYPE_SUBMSG_W_CB:
        return charge(walk, field->data_size) &&
               walk_message(walk, field->submsg_desc, value, depth + 1);
    case PB_LTYPE_STRING:
        if (memchr(value.data, '\0', value.len) != NULL) {
            return fail(walk, "a string contains a NUL byte");
        }
        if (!utf8_valid(value.data, value.len)) {
            return fail(walk, "a string is not valid UTF-8");
        }
        return charge(walk, value.len);
    case PB_LTYPE_BYTES:
    case PB_LTYPE_FIXED_LENGTH_BYTES:
        return charge(walk, PB_ATYPE(field->type) == PB_ATYPE_CALLBACK ? 0 : value.len);
    default: /* a packed array: at least one byte an element */
        return charge(walk, value.len * field->data_size);
    }
}

/* One field: its wire type must be what the descriptor says; unknown fields are passed over. */
static bool walk_field(struct walk *walk, const pb_msgdesc_t *fields, struct reader *r,
                       unsigned depth)
{
    ASSERT(depth <= RPC_PB_DEPTH_MAX);
    uint64_t tag = read_varint(r);
    if (r->failed || tag >> 3 == 0 || tag > UINT32_MAX) {
        return fail(walk, "a tag is broken");
    }
    pb_field_iter_t field;
    /* A descriptor without fields has no begin: all of its content is unknown then. */
    bool known = pb_field_iter_begin(&field, fields, NULL) &&
                 pb_field_iter_find(&field, (uint32_t)(tag >> 3));
    enum wire_type wire = tag & 7;
    if (known && is_length_delimited(&field) && wire != WIRE_BYTES) {
        return fail(walk, "a field has the wrong wire type");
    }
    if (wire == WIRE_BYTES) {
        uint64_t len = read_varint(r);
        const uint8_t *data = reader_bytes(r, len);
        if (data == NULL) {
            return fail(walk, "a length passes the end");
        }
        return !known || walk_delimited(walk, &field, reader_of(data, len), depth);
    }
    switch (wire) {
    case WIRE_VARINT:
        read_varint(r);
        break;
    case WIRE_64BIT:
        reader_u64(r);
        break;
    case WIRE_32BIT:
        reader_u32(r);
        break;
    default:
        return fail(walk, "a wire type is unknown");
    }
    return known && PB_HTYPE(field.type) == PB_HTYPE_REPEATED ? charge(walk, field.data_size)
                                                              : true;
}

/*
 * r covers exactly the message's bytes, so no field can reach beyond its parent. The recursion is
 * bounded by RPC_PB_DEPTH_MAX, which also bounds nanopb's own: it follows the same fields.
 */
static bool walk_message(struct walk *walk, const pb_msgdesc_t *fields, struct reader r,
                         unsigned depth)
{
    ASSERT(fields != NULL);
    if (depth > RPC_PB_DEPTH_MAX) {
        return fail(walk, "it is nested too deeply");
    }
    while (reader_left(&r) > 0) {
        if (!walk_field(walk, fields, &r, depth)) {
            return false;
        }
        if (r.failed) {
            return fail(walk, "it is cut short");
        }
    }
    return true;
}

/* nanopb leaves callback fields as they are: an absent `bytes` would be what stood there before. */
static void clear_bytes_fields(const pb_msgdesc_t *fields, void *message)
{
    pb_field_iter_t field;
    if (!pb_field_iter_begin(&field, fields, message)) {
        return; /* a message without fields */
    }
    do {
        if (PB_ATYPE(field.type) == PB_ATYPE_CALLBACK) {
            memset(field.pData, 0, field.data_size);
        } else if (PB_ATYPE(field.type) == PB_ATYPE_STATIC && PB_LTYPE_IS_SUBMSG(field.type) &&
                   PB_HTYPE(field.type) != PB_HTYPE_ONEOF) {
            clear_bytes_fields(field.submsg_desc, field.pData);
        }
    } while (pb_field_iter_next(&field));
}

/* Bytes of the C struct a descriptor describes are the caller's; only what hangs on it counts. */
err_t rpc_decode_pb(const pb_msgdesc_t *fields, void *message, const uint8_t *data, size_t len)
{
    ASSERT(fields != NULL && message != NULL);
    struct walk walk = {.memory_max = RPC_PB_MEMORY_BASE + len * RPC_PB_MEMORY_FACTOR};
    if (!walk_message(&walk, fields, reader_of(data, len), 0)) {
        return err_new(ERR_PROTOCOL, "malformed message of %zu bytes: %s", len, walk.problem);
    }
    clear_bytes_fields(fields, message);
    pb_istream_t stream = pb_istream_from_buffer(data, len);
    /* pb_decode sets every field to its default first, and releases everything when it fails. */
    if (!pb_decode(&stream, fields, message)) {
        return err_new(ERR_PROTOCOL, "malformed message of %zu bytes: %s", len,
                       PB_GET_ERROR(&stream));
    }
    return ERR_OK;
}

void rpc_release_pb(const pb_msgdesc_t *fields, void *message)
{
    ASSERT(fields != NULL && message != NULL);
    pb_release(fields, message);
}
