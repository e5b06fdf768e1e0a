/*
 * Bytes of the log: see wal.h. Little endian, fixed places, a CRC-32C over each piece. Every
 * checksum covers the segment's random salt, so bytes that an older file left in the same blocks of
 * the disk are not taken for ours. Encoders assert, decoders refuse: what they read may be
 * anything.
 */
#include "core/storage/wal.h"

#include "core/base/hash.h"

static const uint64_t SEGMENT_MAGIC = 0x314C415752544C54; /* "TLTRWAL1" */
static const uint32_t GROUP_MAGIC = 0x50524754;           /* "TGRP" */

/* magic 8, crc 4, zero 4, number, oldest, first_seq, epoch, salt, context 24: 80 bytes. */
enum { SEGMENT_USED = 80 };
STATIC_ASSERT((int)SEGMENT_USED <= (int)WAL_ALIGN, "the header fits its page");
STATIC_ASSERT(WAL_GROUP_HEADER % 8 == 0 && WAL_RECORD_HEADER % 8 == 0, "headers are words");
STATIC_ASSERT((WAL_ALIGN & (WAL_ALIGN - 1)) == 0, "groups are aligned with a mask");

/* The rest of the page is zero: nothing of our memory goes to the disk by accident. */
void wal_segment_header_encode(const struct wal_segment_header *h, uint8_t out[WAL_ALIGN])
{
    ASSERT(h->oldest <= h->number && h->oldest > 0);
    const uint64_t words[] = {h->number,
                              h->oldest,
                              h->first_seq,
                              h->epoch,
                              h->salt,
                              h->context.sources_lease,
                              h->context.tables_lease,
                              h->context.last_append};
    STATIC_ASSERT(sizeof(words) == SEGMENT_USED - 16, "places");
    memset(out, 0, WAL_ALIGN);
    memcpy(out, &SEGMENT_MAGIC, 8);
    memcpy(out + 16, words, sizeof(words));
    uint32_t crc = hash_crc32c(0, out + 16, SEGMENT_USED - 16);
    memcpy(out + 8, &crc, 4);
}

/* len may be a whole page: only the used bytes are looked at. */
bool wal_segment_header_decode(const uint8_t *data, size_t len, struct wal_segment_header *out)
{
    if (len < SEGMENT_USED) {
        return false;
    }
    struct reader r = reader_of(data, SEGMENT_USED);
    uint64_t magic = reader_u64(&r);
    uint32_t crc = reader_u32(&r);
    uint32_t zero = reader_u32(&r);
    out->number = reader_u64(&r);
    out->oldest = reader_u64(&r);
    out->first_seq = reader_u64(&r);
    out->epoch = reader_u64(&r);
    out->salt = reader_u64(&r);
    out->context.sources_lease = reader_u64(&r);
    out->context.tables_lease = reader_u64(&r);
    out->context.last_append = reader_u64(&r);
    return magic == SEGMENT_MAGIC && zero == 0 &&
           crc == hash_crc32c(0, data + 16, SEGMENT_USED - 16) && out->oldest > 0 &&
           out->oldest <= out->number;
}

/* magic 4, crc 4, first_seq 8, len 8, records 4, zero 4, salt 8. */
void wal_group_header_encode(const struct wal_group_header *h, uint64_t salt,
                             uint8_t out[WAL_GROUP_HEADER])
{
    ASSERT(h->first_seq > 0);
    ASSERT(h->records > 0 && h->len <= WAL_GROUP_MAX);
    memset(out, 0, WAL_GROUP_HEADER);
    memcpy(out, &GROUP_MAGIC, 4);
    memcpy(out + 8, &h->first_seq, 8);
    memcpy(out + 16, &h->len, 8);
    memcpy(out + 24, &h->records, 4);
    memcpy(out + 32, &salt, 8);
    uint32_t crc = hash_crc32c(0, out + 8, WAL_GROUP_HEADER - 8);
    memcpy(out + 4, &crc, 4);
}

bool wal_group_header_decode(const uint8_t *data, size_t len, uint64_t salt,
                             struct wal_group_header *out)
{
    if (len < WAL_GROUP_HEADER) {
        return false;
    }
    struct reader r = reader_of(data, WAL_GROUP_HEADER);
    uint32_t magic = reader_u32(&r);
    uint32_t crc = reader_u32(&r);
    out->first_seq = reader_u64(&r);
    out->len = reader_u64(&r);
    out->records = reader_u32(&r);
    uint32_t zero = reader_u32(&r);
    uint64_t its_salt = reader_u64(&r);
    return magic == GROUP_MAGIC && crc == hash_crc32c(0, data + 8, WAL_GROUP_HEADER - 8) &&
           zero == 0 && its_salt == salt && out->records > 0 && out->len <= WAL_GROUP_MAX;
}

/* The sequence is part of it: a record in another's place is noticed. */
static uint32_t record_crc(uint64_t salt, uint64_t seq, uint32_t kind, const uint8_t *payload,
                           uint64_t len)
{
    const uint64_t head[4] = {salt, seq, kind, len};
    uint32_t crc = hash_crc32c(0, head, sizeof(head));
    return hash_crc32c(crc, payload, len);
}

void wal_record_header_encode(uint64_t salt, uint64_t seq, uint32_t kind, const uint8_t *payload,
                              uint64_t len, uint8_t out[WAL_RECORD_HEADER])
{
    ASSERT(len <= WAL_RECORD_MAX && (payload != NULL || len == 0));
    ASSERT(kind > 0 && kind < WAL_KIND_MAX);
    uint32_t crc = record_crc(salt, seq, kind, payload, len);
    memcpy(out, &crc, 4);
    memcpy(out + 4, &kind, 4);
    memcpy(out + 8, &len, 8);
}

bool wal_record_decode(struct reader *r, uint64_t salt, uint64_t seq, struct wal_record *out)
{
    uint32_t crc = reader_u32(r);
    uint32_t kind = reader_u32(r);
    uint64_t len = reader_u64(r);
    if (r->failed || len > reader_left(r) || kind == 0 || kind >= WAL_KIND_MAX) {
        return false;
    }
    *out = (struct wal_record){.kind = (enum wal_kind)kind, .seq = seq, .len = len};
    out->payload = reader_bytes(r, len);
    ASSERT(out->payload != NULL);
    return crc == record_crc(salt, seq, kind, out->payload, len);
}

uint64_t wal_group_extent(uint64_t records_len)
{
    ASSERT(records_len <= WAL_GROUP_MAX);
    return (records_len + WAL_GROUP_HEADER + WAL_ALIGN - 1) & ~(uint64_t)(WAL_ALIGN - 1);
}
