/*
 * The write-ahead log of one worker directory, shared by all its shards. Module-private.
 *
 * Layout. <dir>/<number, 16 hex digits>.wal are segments. A segment is one header page and commit
 * groups, each starting at a multiple of WAL_ALIGN and padded to it, so that a byte once
 * acknowledged is never written again. A group holds the records that share one sync:
 *
 *     group  = {header 64 bytes, record...}, zero padding
 *     record = {crc, kind, len, payload}
 *
 * Only one group is in flight at a time, and a group is written only when the one before it is
 * durable. So a damaged group with a later group behind it was acknowledged (ERR_CORRUPT), and one
 * with nothing behind it was not (a torn tail, cut off).
 *
 * Records are numbered by sequence; the group header carries the first one's. A segment header
 * carries the state that must outlive older segments, and the number of the oldest segment that
 * recovery needs; older ones are deleted once that header is durable.
 *
 * Why one log for all shards: a worker with a hundred busy tables pays one sync a group, not a
 * hundred, and an append to several tables is atomic because it is one record. The price is that a
 * shard that is seldom written keeps an old segment alive: compaction moves it out (compact.c).
 */
#ifndef TAILRACE_CORE_STORAGE_WAL_H
#define TAILRACE_CORE_STORAGE_WAL_H

#include "core/base/buf.h"
#include "core/base/metrics.h"
#include "core/io/io.h"
#include "core/storage/part.h"

enum {
    WAL_ALIGN = 4096,
    WAL_GROUP_HEADER = 64,
    WAL_RECORD_HEADER = 16,
    WAL_GROUP_MAX = 1 << 30, /* bytes of one group's records: the format's bound */
    WAL_RECORD_MAX = WAL_GROUP_MAX - WAL_RECORD_HEADER, /* of one payload: the caller checks */
    WAL_GROUP_TARGET = 16 << 20, /* records beyond it wait for the next group */
};

enum wal_kind { WAL_APPEND = 1, WAL_LEASE = 2, WAL_KIND_MAX };

/* What outlives segments: restated in each segment's header. Times in microseconds. */
struct wal_context {
    uint64_t sources_lease; /* no upper that follows the clock was published beyond this */
    uint64_t tables_lease;  /* the same for tables */
    uint64_t last_append;   /* time of the last table append */
};

struct wal_segment_header {
    uint64_t number;
    uint64_t oldest; /* the oldest segment that recovery needs */
    uint64_t first_seq;
    uint64_t epoch;
    uint64_t salt; /* random: a group of another segment's past life is not taken for ours */
    struct wal_context context;
};

/* Without salt and checksum, which encoder and decoder handle. */
struct wal_group_header {
    uint64_t first_seq;
    uint64_t len; /* of the records */
    uint32_t records;
};

/* A record as it was read back; payload points into the group's bytes. */
struct wal_record {
    enum wal_kind kind;
    uint64_t seq;
    const uint8_t *payload;
    size_t len;
};

/* Formats (wal_format.c). Decoders take hostile bytes: false when they are not what they should. */
void wal_segment_header_encode(const struct wal_segment_header *h, uint8_t out[WAL_ALIGN]);
bool wal_segment_header_decode(const uint8_t *data, size_t len, struct wal_segment_header *out);
void wal_group_header_encode(const struct wal_group_header *h, uint64_t salt,
                             uint8_t out[WAL_GROUP_HEADER]);
bool wal_group_header_decode(const uint8_t *data, size_t len, uint64_t salt,
                             struct wal_group_header *out);
void wal_record_header_encode(uint64_t salt, uint64_t seq, uint32_t kind, const uint8_t *payload,
                              uint64_t len, uint8_t out[WAL_RECORD_HEADER]);
/* The next record of a group's bytes; seq counts up from first_seq. */
bool wal_record_decode(struct reader *r, uint64_t salt, uint64_t seq, struct wal_record *out);
/* Bytes of a group with its padding. */
uint64_t wal_group_extent(uint64_t records_len);

struct wal;

/*
 * One record's wait for durability, embedded by its owner. done runs from the loop: with ERR_OK,
 * file, offset (of the payload) and seq say where the record lies; with ERR_NO_SPACE the record is
 * certainly not in the log; with another error its fate is known only after a restart.
 */
struct wal_commit {
    void (*done)(struct wal_commit *commit, err_t err); /* owns err */
    struct storage_file *file;
    uint64_t offset;
    uint64_t seq;
    /* wal.c */
    struct wal_commit *next;
    uint32_t index;
    size_t at;
};

struct wal_config {
    struct io_loop *loop;
    const char *dir;        /* exists */
    const char *epoch_path; /* its identity is checked before every acknowledgement */
    uint64_t epoch;
    uint64_t segment_bytes;
    struct wal_context *context; /* the owner's; read when a segment starts */
    /* Replays one record of recovery. payload is valid during the call. */
    err_t (*replay)(void *ctx, const struct wal_record *record, struct storage_file *file,
                    uint64_t payload_offset);
    /* The log refuses for good (an error copy is passed), or is full / no longer full. */
    void (*failed)(void *ctx, const struct err *err);
    void (*full)(void *ctx, bool full);
    void *ctx;
    struct metric *sync_seconds; /* may be NULL */
    struct metric *commits;
    struct metric *bytes;
};

/* Recovers the log, replaying every record still in it, in order. Synchronous. */
err_t wal_open(const struct wal_config *config, struct wal **out);
/* Answers waiting commits with ERR_CANCELLED, from inside the call. */
void wal_free(struct wal *wal);

/*
 * Starts a record: the caller appends its payload, of exactly len bytes (<= WAL_RECORD_MAX), to the
 * buffer returned, then calls wal_end. The length is wanted first because it decides to which group
 * the record goes.
 */
struct buf *wal_begin(struct wal *wal, size_t len);
/* Ends it; commit may be NULL. Records are committed in the order of wal_end. */
void wal_end(struct wal *wal, enum wal_kind kind, struct wal_commit *commit);
/* Bytes of all records that are not answered yet. */
size_t wal_pending(const struct wal *wal);
/* Sequence the next record to become durable will have; the ones below are durable. */
uint64_t wal_durable_seq(const struct wal *wal);
/* The error that ended the log, or NULL. */
const struct err *wal_failed(const struct wal *wal);
bool wal_full(const struct wal *wal);
/* Segments on disk, and how many of the oldest nothing needs any more. */
void wal_segments(const struct wal *wal, size_t *segments, size_t *unneeded, uint64_t *bytes);
/* Numbers of the oldest segment still needed that is not the newest, and of the newest; 0: none. */
uint64_t wal_oldest_needed(const struct wal *wal);
uint64_t wal_newest(const struct wal *wal);

#endif
