/*
 * A shard: the updates of one collection on one worker. Module-private.
 *
 *     base part            entries, in order of time
 *     [consolidated,       [delta part blocks][log records, oldest ... newest]
 *      at base_time]                                                        upper
 *
 * An entry is what one log record (or one block of a delta part) holds for this shard. All entries
 * are durable: they are added when their commit group is. Their bytes may also be in memory; the
 * oldest are let go when there are too many, and are then read from their file.
 *
 * Physical compaction never passes what a cursor still has to tell apart: entries are folded into
 * the base only below shard_hold(), their times moved to shard_hold() - 1.
 */
#ifndef TAILRACE_CORE_STORAGE_SHARD_H
#define TAILRACE_CORE_STORAGE_SHARD_H

#include "core/base/map.h"
#include "core/storage/file_set.h"
#include "core/storage/part.h"
#include "core/storage/storage.h"

/* The bytes of one batch, in a file and perhaps in memory. len 0: none. */
struct storage_blob {
    void *data;
    uint64_t offset;
    uint32_t len;
    uint32_t crc;
    uint32_t rows;
};

/* Immutable once it is in a shard, but for its bytes in memory, which may go. */
struct storage_entry {
    uint32_t refs;
    uint64_t seq;   /* of the log record; 0: in a delta part */
    uint64_t lower; /* times of the updates lie in [lower, upper) */
    uint64_t upper;
    struct storage_blob blob[STREAMS];
    struct storage_file *file;
    uint8_t *files; /* changes of the source's file set that came with the record; may be NULL */
    uint32_t files_len;
};

/* A consolidated part: every row once, at one time. */
struct storage_base {
    uint32_t refs;
    struct storage_file *file;
    uint64_t time;
    uint64_t rows;
};

struct storage_schema {
    uint32_t refs;
    struct type *types;
    char **names;
    uint8_t *kinds;
    size_t cols;
};

struct file_source;

struct storage_shard {
    struct storage_worker *storage;
    uint64_t id; /* of the collection */
    char *dir;
    struct storage_collection desc; /* owned copy */
    struct storage_schema *schema;
    struct buf desc_bytes; /* encoded description: what "the same" means */
    uint64_t since;
    uint64_t upper; /* published */
    uint64_t ready; /* see storage_ready */
    bool sealed;    /* durably: upper is empty */
    bool dropped; /* its files are gone; kept until the log has answered */
    uint32_t pending; /* log records under way */
    enum storage_status status;

    struct storage_base *base; /* NULL: empty */
    uint64_t folded; /* updates below are in the base, at time folded - 1 */
    struct storage_entry **entries;
    size_t entries_len;
    size_t entries_cap;
    size_t evicted;       /* entries[0, evicted) have no bytes in memory */
    size_t memory_bytes; /* of entries that are not evicted */
    uint64_t entry_rows; /* of all entries, both streams */
    uint64_t entry_bytes;
    uint64_t flushed_seq; /* log records below are in parts */
    uint64_t next_part;   /* number */
    struct file_set files_flushed; /* file set as of flushed_seq */
    struct storage_cursor *cursors; /* open ones, in no order */
    bool compacting; /* storage->compaction works on it */
    uint64_t compact_after_us; /* back-off after a failure */

    struct file_source *source; /* STORAGE_FILE */
};

struct storage_schema *schema_ref(struct storage_schema *schema);
void schema_unref(struct storage_schema *schema);
/* Column kinds of one of the two streams. */
const uint8_t *schema_kinds(const struct storage_schema *schema, enum storage_stream stream,
                            size_t *len);

/* Copies the description; desc_bytes is its encoding. No directory is touched. */
struct storage_shard *shard_new(struct storage_worker *storage,
                                const struct storage_collection *desc,
                                const struct buf *desc_bytes);
void shard_free(struct storage_shard *shard);

struct storage_entry *entry_new(uint64_t lower, uint64_t upper);
struct storage_entry *entry_ref(struct storage_entry *entry);
void entry_unref(struct storage_entry *entry);
/* A view of the entry's batch. Without bytes in memory they are read and checked, into *loaded,
 * which the caller frees. cols has room for the schema's columns. rows 0 when there is none. */
err_t entry_open(struct storage_entry *entry, const struct storage_schema *schema,
                 enum storage_stream stream, struct batch_col *cols, size_t cols_cap,
                 struct batch *out, void **loaded);

/* About the bytes one row takes: its texts, and a word for every column. */
size_t shard_row_bytes(const struct batch *batch, uint32_t row);

struct storage_base *base_new(struct storage_file *file, uint64_t time, uint64_t rows);
struct storage_base *base_ref(struct storage_base *base);
void base_unref(struct storage_base *base);

/* Takes over a durable entry; its times are not below the ones there. Lets go of old bytes. */
void shard_add_entry(struct storage_shard *shard, struct storage_entry *entry);
/*
 * Replaces the first n entries (folded into the base, or rewritten as entries of a delta part).
 * Their rows are the same, elsewhere: readers who hold the old entries go on with them.
 */
void shard_replace_entries(struct storage_shard *shard, size_t n, struct storage_entry **with,
                           size_t with_len);
/* Index of the first entry with updates at or beyond time. */
size_t shard_find(const struct storage_shard *shard, uint64_t time);
/* The time below which nobody, reader or since, tells times apart. */
uint64_t shard_hold(const struct storage_shard *shard);
uint64_t shard_rows(const struct storage_shard *shard);
uint64_t shard_bytes(const struct storage_shard *shard);

#endif
