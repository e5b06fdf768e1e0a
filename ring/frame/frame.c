/*
 * Wire frames: see frame.h. A header is 48 bytes, little endian, at these places:
 *
 *    0 magic   4 length   8 kind   9 flags  10 zero  12 from  14 to  16 stream  20 c
 *   24 a      32 b       40 total  44 crc: CRC-32C of bytes 0 to 43 and the payload
 *
 * A message longer than a frame goes in several, each with the same total: FIRST is on the first,
 * LAST on the last, both on a frame that is a whole message. What one header may say is checked
 * here, on the way out as an assertion and on the way in as the peer's error; how headers follow
 * each other is the carrier's business (tcp.c).
 *
 * The parser is fed bytes as they come, cut anywhere. Its states are head_len < FRAME_HEADER_LEN
 * (in a header) and place_len < header.length (in a payload, being written to `place`, which its
 * owner chose when the header was whole: so a payload is copied once). The sum is known only behind
 * the payload; until then nobody may believe the header more than that memory was reserved for it,
 * within the limits.
 */
#include "ring/frame/frame.h"

#include "core/base/assert.h"
#include "core/base/hash.h"

#include <string.h>

/* Bytes are copied and then summed up in pieces that are still in the nearest cache. */
enum { PIECE = 16 * 1024 };
STATIC_ASSERT(FRAME_CRC_AT + 4 == FRAME_HEADER_LEN, "the sum ends the header");
STATIC_ASSERT(FRAME_FRAGMENT <= FRAME_PAYLOAD_MAX, "what we send is taken");

STATIC_ASSERT(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are written as they are");

/* A header may lie anywhere in what was read, so all goes through memcpy, which is a plain move. */
static void put16(uint8_t *at, uint16_t v)
{
    memcpy(at, &v, sizeof(v));
}

static void put32(uint8_t *at, uint32_t v)
{
    memcpy(at, &v, sizeof(v));
}

static void put64(uint8_t *at, uint64_t v)
{
    memcpy(at, &v, sizeof(v));
}

static uint16_t get16(const uint8_t *at)
{
    uint16_t v;
    memcpy(&v, at, sizeof(v));
    return v;
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t v;
    memcpy(&v, at, sizeof(v));
    return v;
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof(v));
    return v;
}

/* The rules a header obeys, on both sides of the wire. NULL when it does. */
static const char *header_wrong(const struct frame_header *h)
{
    if (h->length > FRAME_PAYLOAD_MAX) {
        return "frame longer than the limit";
    }
    if (h->total > FRAME_MESSAGE_MAX) {
        return "message longer than the limit";
    }
    if (h->kind == 0 || (h->flags & ~(FRAME_FLAGS | FRAME_SEALED)) != 0) {
        return "unknown frame kind or flags";
    }
    if (h->length > h->total) {
        return "frame longer than its message";
    }
    bool whole = (h->flags & FRAME_FLAGS) == FRAME_FLAGS;
    if (whole != (h->length == h->total)) {
        return "frame and message length disagree";
    }
    if (h->kind < FRAME_KIND_USER && !whole) {
        return "control frame in fragments";
    }
    if (!whole && h->length == 0) {
        return "empty fragment";
    }
    return NULL;
}

void frame_encode(uint8_t out[FRAME_HEADER_LEN], const struct frame_header *h, const void *payload)
{
    ASSERT(header_wrong(h) == NULL);
    ASSERT(h->length == 0 || payload != NULL);
    put32(out, FRAME_MAGIC);
    put32(out + 4, h->length);
    out[8] = h->kind;
    out[9] = h->flags;
    put16(out + 10, 0);
    put16(out + 12, h->from);
    put16(out + 14, h->to);
    put32(out + 16, h->stream);
    put32(out + 20, h->c);
    put64(out + 24, h->a);
    put64(out + 32, h->b);
    put32(out + 40, h->total);
    uint32_t crc = hash_crc32c(0, out, FRAME_CRC_AT);
    bool summed = (h->flags & FRAME_SEALED) == 0;
    put32(out + FRAME_CRC_AT, summed ? hash_crc32c(crc, payload, h->length) : crc);
}

/* crc is that of the header so far, want what it should be behind the payload. */
err_t frame_decode(const uint8_t in[FRAME_HEADER_LEN], struct frame_header *out, uint32_t *crc,
                   uint32_t *want)
{
    if (get32(in) != FRAME_MAGIC) {
        return err_new(ERR_PROTOCOL, "bad frame: wrong magic %08x", get32(in));
    }
    *out = (struct frame_header){
        .length = get32(in + 4),
        .kind = in[8],
        .flags = in[9],
        .from = get16(in + 12),
        .to = get16(in + 14),
        .stream = get32(in + 16),
        .c = get32(in + 20),
        .a = get64(in + 24),
        .b = get64(in + 32),
        .total = get32(in + 40),
    };
    const char *wrong = header_wrong(out);
    if (wrong == NULL && get16(in + 10) != 0) {
        wrong = "reserved bytes are not zero";
    }
    if (wrong != NULL) {
        return err_new(ERR_PROTOCOL, "bad frame: %s (kind %u, flags %u, length %u of %u)", wrong,
                       out->kind, out->flags, out->length, out->total);
    }
    *crc = hash_crc32c(0, in, FRAME_CRC_AT);
    *want = get32(in + FRAME_CRC_AT);
    return ERR_OK;
}

static err_t wrong_sum(const struct frame_parser *p)
{
    return err_new(ERR_PROTOCOL, "bad frame: wrong checksum (kind %u, length %u)", p->header.kind,
                   p->header.length);
}

/* A payload without a sum: only of a peer whose bytes nobody else can have changed. */
static err_t check_sealed(const struct frame_parser *p)
{
    if (!p->sealed) {
        return err_new(ERR_PROTOCOL, "bad frame: without a checksum, outside TLS");
    }
    return p->crc == p->crc_want ? ERR_OK : wrong_sum(p);
}

/* Of the payload, with its sum; what was received into its place stays there. */
static void parse_payload(struct frame_parser *p, const uint8_t *data, size_t len)
{
    uint8_t *place = p->place + p->place_len;
    ASSERT(len <= p->header.length - p->place_len);
    if (place != data) {
        memcpy(place, data, len);
    }
    if ((p->header.flags & FRAME_SEALED) == 0) {
        p->crc = hash_crc32c(p->crc, data, len);
    }
    p->place_len += len;
}

/* Takes header bytes; on the last one decodes and asks for the payload's place. */
static err_t parse_head(struct frame_parser *p, const uint8_t *data, size_t len, size_t *used)
{
    ASSERT(p->head_len < FRAME_HEADER_LEN && len > 0);
    size_t take = FRAME_HEADER_LEN - p->head_len;
    take = take < len ? take : len;
    memcpy(p->head + p->head_len, data, take);
    p->head_len += take;
    ASSERT(p->head_len <= FRAME_HEADER_LEN);
    *used = take;
    if (p->head_len < FRAME_HEADER_LEN) {
        return ERR_OK;
    }
    TRY(frame_decode(p->head, &p->header, &p->crc, &p->crc_want));
    if ((p->header.flags & FRAME_SEALED) != 0) {
        TRY(check_sealed(p));
    }
    p->place_len = 0;
    p->place = NULL;
    if (p->header.length > 0) {
        TRY(p->begin(p->arg, &p->header, &p->place));
        ASSERT(p->place != NULL);
    }
    return ERR_OK;
}

/* Stops behind a frame when end() said so (stop): the bytes that follow are for somebody else. */
err_t frame_parse(struct frame_parser *p, const uint8_t *data, size_t len, size_t *used)
{
    size_t at = 0;
    *used = 0;
    ASSERT(p->begin != NULL && p->end != NULL && !p->stop);
    while (at < len && !p->stop) {
        size_t took = 0;
        if (p->head_len < FRAME_HEADER_LEN) {
            TRY(parse_head(p, data + at, len - at, &took));
            at += took;
            if (p->head_len < FRAME_HEADER_LEN) {
                break;
            }
        }
        ASSERT(p->place_len <= p->header.length);
        took = p->header.length - p->place_len;
        took = took < len - at ? took : len - at;
        took = took < PIECE ? took : PIECE;
        if (took > 0) {
            parse_payload(p, data + at, took);
            at += took;
        }
        if (p->place_len == p->header.length) {
            if (p->crc != p->crc_want) {
                return wrong_sum(p);
            }
            p->head_len = 0;
            TRY(p->end(p->arg, &p->header));
        }
    }
    ASSERT(at <= len);
    *used = at;
    return ERR_OK;
}

uint8_t *frame_parser_place(const struct frame_parser *p, size_t *len)
{
    if (p->head_len < FRAME_HEADER_LEN || p->place_len == p->header.length) {
        return NULL;
    }
    ASSERT(p->place != NULL && p->place_len < p->header.length);
    *len = p->header.length - p->place_len;
    return p->place + p->place_len;
}

/* Between two frames. */
bool frame_parser_clean(const struct frame_parser *parser)
{
    ASSERT(parser->head_len <= FRAME_HEADER_LEN);
    return parser->head_len == 0;
}
