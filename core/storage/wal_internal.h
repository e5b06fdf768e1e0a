/* State of the log, shared by wal.c (writing) and wal_recover.c (reading). Nobody else's. */
#ifndef TAILRACE_CORE_STORAGE_WAL_INTERNAL_H
#define TAILRACE_CORE_STORAGE_WAL_INTERNAL_H

#include "core/storage/wal.h"

/*
 * A segment file and where its records begin. Entries of shards hold references to the file, too:
 * what only the log refers to is not needed any more.
 */
struct wal_segment {
    struct storage_file *file; /* file->size: end of the last durable group */
    uint64_t first_seq;
};

enum wal_state {
    WAL_IDLE, /* nothing is under way; a group may wait only while one is being built */
    WAL_HEADER_WRITE, /* a new segment's header page is being written */
    WAL_HEADER_SYNC,
    WAL_GROUP_WRITE, /* the group in flight is being written behind the last durable one */
    WAL_GROUP_SYNC, /* written; not yet to be relied on */
    WAL_ANSWER, /* telling the owners of the group's records; they may add records */
    WAL_REPAIR, /* a group failed for lack of space and is not yet known to be gone */
};

/*
 * Records gathered for one group; bytes begin with room for the group's header. Groups wait in a
 * list: a group is closed, and the next one begun, when one more record would make it longer than
 * WAL_GROUP_TARGET. So a burst of large appends neither makes one huge write that everybody waits
 * for, nor a group longer than its header can say.
 */
struct wal_group {
    struct wal_group *next; /* in the list of those that wait; NULL: the one that gathers */
    struct buf bytes;
    uint32_t records;
    struct wal_commit *first; /* in order of their records */
    struct wal_commit **last;
};

/*
 * One worker's log. Everything here belongs to the worker's loop.
 *
 * Invariants. Records below next_seq are durable, the ones above are in flying, then waiting, in
 * order. segments are numbered without a gap; only the last one is written, and only when this run
 * made it, so that bytes of an earlier run are never followed by ours under another salt. pending
 * is the sum over all groups.
 */
struct wal {
    struct wal_config config; /* strings are copied below */
    char *dir;
    char *epoch_path;
    uint64_t epoch_inode; /* of the epoch file when we took it: replaced means that we are fenced */
    uint64_t epoch_mtime_ns;
    enum wal_state state;
    err_t failed; /* the log refuses for good */
    bool full;
    uint64_t next_seq; /* of the next record to be written; below: durable */
    struct wal_segment *segments; /* oldest first; the last one is written to when writable */
    size_t segments_len;
    size_t segments_cap;
    bool writable; /* the last segment was made by this run */
    uint64_t salt; /* of it */
    uint64_t next_number; /* of the next segment made */
    uint64_t made_number; /* a segment file this run made, perhaps left behind by a failure */
    struct storage_file *fresh; /* the segment whose header is on its way */
    struct wal_segment_header fresh_header;
    uint8_t *page; /* WAL_ALIGN bytes, for the header on its way */
    struct wal_group *flying;  /* on its way, being answered, or empty; never NULL */
    struct wal_group *waiting; /* the next to fly; the last of the list takes new records */
    struct wal_group *gather;  /* that last one; never NULL */
    size_t pending;  /* bytes of all groups */
    size_t begun_at; /* offset in gather of the record under construction, 0 when none */
    err_t group_err; /* why the group under repair failed */
    struct io_op op; /* one operation at a time */
    struct io_timer timer; /* a repair that is tried again; after a failure, late answers */
    uint64_t sync_began_ns;
};

/* Reads all segments: fills segments, next_seq, next_number; cuts a torn tail. */
err_t wal_recover(struct wal *wal);
char *wal_segment_path(const struct wal *wal, uint64_t number);

#endif
