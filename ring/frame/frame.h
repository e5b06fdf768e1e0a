/*
 * Wire frames: what every byte between two processes is cut into, on every carrier. A frame is a
 * fixed little-endian header and at most FRAME_PAYLOAD_MAX bytes. A message is one frame or
 * several (first ... last) of the same (from, to, stream), between which frames of other streams
 * may lie: that is how a big batch does not hold up a small one.
 *
 * Header layout, 48 bytes:
 *    0 u32 magic        4 u32 length       8 u8 kind      9 u8 flags     10 u16 zero
 *   12 u16 from worker 14 u16 to worker   16 u32 stream  20 u32 c
 *   24 u64 a           32 u64 b           40 u32 total   44 u32 CRC-32C of bytes 0..43 and payload
 * or, with FRAME_SEALED, of bytes 0..43 only: TLS has summed the payload up already, and better.
 * a, b and c belong to the kind of message; total is the length of the whole message.
 *
 * Everything here is pure and single-threaded; input is hostile and never asserted on.
 */
#ifndef TAILRACE_RING_FRAME_FRAME_H
#define TAILRACE_RING_FRAME_FRAME_H

#include "core/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FRAME_HEADER_LEN = 48,
    FRAME_CRC_AT = 44,
    FRAME_PAYLOAD_MAX = 1 << 20,  /* of one frame */
    FRAME_FRAGMENT = 256 * 1024,  /* of the frames we send */
    FRAME_MESSAGE_MAX = 64 << 20, /* of a whole message */
    FRAME_MAGIC = 0x31465254,     /* "TRF1" */
};

/* Kinds below FRAME_KIND_USER are the carrier's own; the others belong to the layer above. */
enum frame_kind {
    FRAME_HELLO = 1,    /* payload: hello */
    FRAME_WELCOME = 2,  /* payload: hello */
    FRAME_REFUSE = 3,   /* a: enum hello_refusal, c: enum err_code, payload: text */
    FRAME_ATTACH = 4,   /* shared memory: descriptors and sizes */
    FRAME_PING = 5,     /* nothing: the sender lives */
    FRAME_GOODBYE = 6,  /* c: enum err_code, payload: text; the session is over */
    FRAME_DETACHED = 7, /* shared memory: the sender reads and writes it no more */
    FRAME_BELLS = 8,    /* shared memory: descriptors of the sender's next doorbells */
    FRAME_KIND_USER = 16,
};

enum frame_flags {
    FRAME_FIRST = 1, /* first frame of its message */
    FRAME_LAST = 2,  /* last frame of its message */
    FRAME_FLAGS = 3, /* a whole message */
    FRAME_SEALED = 4, /* the payload is not in the checksum; only where the stream is sealed */
};

struct frame_header {
    uint32_t length; /* payload bytes of this frame */
    uint8_t kind;
    uint8_t flags;
    uint16_t from;
    uint16_t to;
    uint32_t stream;
    uint32_t c;
    uint64_t a;
    uint64_t b;
    uint32_t total;
};

/* Writes the header, with the checksum over it and the payload (length bytes). */
void frame_encode(uint8_t out[FRAME_HEADER_LEN], const struct frame_header *h,
                  const void *payload);

/* Reads and checks a header; ERR_PROTOCOL with a reason. The checksum is the caller's to check:
 * *crc is that of the header so far, *want what it must be once the payload is added. */
err_t frame_decode(const uint8_t in[FRAME_HEADER_LEN], struct frame_header *out, uint32_t *crc,
                   uint32_t *want);

/*
 * Cuts a byte stream into frames. begin gives the place for the h->length bytes of payload (not
 * called when there are none), end runs when they are there and the checksum holds. Either may
 * fail, which ends the parse.
 */
struct frame_parser {
    err_t (*begin)(void *arg, const struct frame_header *h, uint8_t **place);
    err_t (*end)(void *arg, const struct frame_header *h);
    void *arg;
    bool stop; /* set by end(): leave the bytes that follow */
    bool sealed; /* the stream authenticates every byte: FRAME_SEALED is allowed */
    /* private */
    uint8_t head[FRAME_HEADER_LEN];
    size_t head_len;
    struct frame_header header;
    uint8_t *place;
    size_t place_len; /* payload bytes there */
    uint32_t crc;
    uint32_t crc_want;
};

/* Feeds bytes; *used says how many were taken (all, unless stop was set or it failed). */
err_t frame_parse(struct frame_parser *parser, const uint8_t *data, size_t len, size_t *used);
/* Where the rest of the payload that is being read goes, and how long it is; NULL: in a header.
 * Bytes that are written there before frame_parse is given them are not copied. */
uint8_t *frame_parser_place(const struct frame_parser *parser, size_t *len);
/* Between two frames? (Otherwise the stream ended inside one.) */
bool frame_parser_clean(const struct frame_parser *parser);

#endif
