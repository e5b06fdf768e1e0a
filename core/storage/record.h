/*
 * The payload of an append record: what several shards get at one time. Module-private.
 *
 *     flags u32, sections u32, time u64, sections
 *     section = id u64, flags u32, files_len u32, per stream {len, rows, crc: u32 each},
 *               file set changes, ok batch, err batch
 *
 * Each batch has a checksum of its own, because cursors read batches, not records, from the log.
 */
#ifndef TAILRACE_CORE_STORAGE_RECORD_H
#define TAILRACE_CORE_STORAGE_RECORD_H

#include "core/storage/shard.h"
#include "core/storage/wal.h"

/* The head of a record, for encoding and decoded. */
struct record {
    bool tables; /* from the writer of the tables; else of a source */
    uint64_t time;
    uint32_t sections;
};

/* One shard's share, decoded: pointers are into the record's bytes. */
struct record_section {
    uint64_t id;
    bool seal; /* nothing follows, ever */
    const uint8_t *files;
    uint32_t files_len;
    const uint8_t *data[STREAMS];
    struct storage_blob blob[STREAMS]; /* offset: in the payload; data: NULL */
};

/* Bytes of a record before its sections, and what a section adds. */
enum { RECORD_HEADER = 16 };
size_t record_section_size(const struct storage_entry *entry);
void record_begin(struct buf *out, const struct record *record);
/* Appends a section; sets the entry's blob offsets from the payload's beginning, start. */
void record_add(struct buf *out, size_t start, uint64_t id, bool seal,
                struct storage_entry *entry);

/* Decoding hostile bytes: ERR_CORRUPT. Call record_next exactly record->sections times. */
err_t record_open(struct reader *r, struct record *out);
err_t record_next(struct reader *r, struct record_section *out);

#endif
