/*
 * Wire frames and the messages of the boundary inside them: any bytes either parse or give an
 * error. The input is fed in two pieces, cut where its first byte says, or as a stream feeds it
 * that receives into places. A second pass repairs the checksums, so that what lies behind them is
 * reached as well.
 */
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "ring/boundary/protocol.h"

static uint8_t *place_now;

static err_t frame_place(void *arg, const struct frame_header *h, uint8_t **place)
{
    ASSERT(h->length > 0 && h->length <= FRAME_PAYLOAD_MAX && h->total <= FRAME_MESSAGE_MAX);
    free(place_now);
    *place = place_now = mem_alloc(h->length);
    return ERR_OK;
}

static err_t frame_there(void *arg, const struct frame_header *h)
{
    struct carrier_message m = {.kind = h->kind, .stream = h->stream, .c = h->c, .a = h->a,
                                .b = h->b, .data = place_now, .len = h->length};
    struct boundary_request request;
    struct boundary_chunk chunk;
    err_free(boundary_request_decode(m.data, m.len, &request));
    err_free(boundary_refusal_decode(&m));
    uint32_t *ids;
    size_t ids_len;
    err_t bad_list = boundary_readers_decode(&m, &ids, &ids_len);
    ASSERT(bad_list == ERR_OK || ids == NULL);
    for (size_t i = 1; bad_list == ERR_OK && i < ids_len; i++) {
        ASSERT(ids[i - 1] < ids[i]);
    }
    free(ids);
    err_free(bad_list);
    err_t err = boundary_chunk_decode(&m, &chunk);
    if (err == ERR_OK) {
        ASSERT(chunk.lower <= chunk.upper && boundary_chunk_len(&chunk) <= m.len);
        ASSERT(chunk.err_len == 0 ||
               (const uint8_t *)chunk.err + chunk.err_len == m.data + m.len);
    }
    err_free(err);
    return ERR_OK;
}

static void parse(const uint8_t *data, size_t len, size_t cut)
{
    struct frame_parser parser = {.begin = frame_place, .end = frame_there, .sealed = cut % 2 == 1};
    size_t used = 0;
    err_t err = frame_parse(&parser, data, cut, &used);
    if (err == ERR_OK) {
        ASSERT(used == cut);
        err = frame_parse(&parser, data + cut, len - cut, &used);
    }
    err_free(err);
    free(place_now);
    place_now = NULL;
}

/* A payload goes where the parser wants it before it is parsed. */
static void parse_placed(const uint8_t *data, size_t len, size_t step)
{
    struct frame_parser parser = {
        .begin = frame_place, .end = frame_there, .sealed = step % 2 == 1};
    err_t err = ERR_OK;
    for (size_t at = 0, used = 0; at < len && err == ERR_OK; at += used) {
        size_t most = step;
        uint8_t *place = frame_parser_place(&parser, &most);
        most = most < step ? most : step;
        most = most < len - at ? most : len - at;
        if (place != NULL) {
            memcpy(place, data + at, most);
        }
        err = frame_parse(&parser, place != NULL ? place : data + at, most, &used);
        ASSERT(err != ERR_OK || used == most);
    }
    err_free(err);
    free(place_now);
    place_now = NULL;
}

/* Makes every frame's magic and checksum right, as long as lengths make sense. */
static void repair(uint8_t *data, size_t len)
{
    size_t at = 0;
    while (len - at >= FRAME_HEADER_LEN) {
        uint32_t magic = FRAME_MAGIC;
        uint32_t length;
        memcpy(data + at, &magic, 4);
        memcpy(&length, data + at + 4, 4);
        if (length > len - at - FRAME_HEADER_LEN) {
            return;
        }
        uint32_t crc = hash_crc32c(0, data + at, FRAME_CRC_AT);
        if ((data[at + 9] & FRAME_SEALED) == 0) { /* flags: see frame.h */
            crc = hash_crc32c(crc, data + at + FRAME_HEADER_LEN, length);
        }
        memcpy(data + at + FRAME_CRC_AT, &crc, 4);
        at += FRAME_HEADER_LEN + length;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    size_t cut = data[0] % size;
    uint8_t *copy = mem_alloc(size - 1);
    memcpy(copy, data + 1, size - 1);
    cut = cut < size - 1 ? cut : size - 1;
    parse(copy, size - 1, cut);
    repair(copy, size - 1);
    parse(copy, size - 1, cut);
    parse_placed(copy, size - 1, (size_t)data[0] + 1);
    free(copy);
    return 0;
}
