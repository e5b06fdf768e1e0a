/* State of the log, shared by wal.c (writing) and wal_recover.c (reading). Nobody else's. */
#ifndef TAILRACE_CORE_STORAGE_WAL_INTERNAL_H
#define TAILRACE_CORE_STORAGE_WAL_INTERNAL_H

#include "core/storage/wal.h"

struct wal_segment {
    struct storage_file *file; /* file->size: end of the last durable group */
    uint64_t first_seq;
};

enum wal_state {
    WAL_IDLE,
    WAL_HEADER_WRITE, /* a new segment's header page is being written */
    WAL_HEADER_SYNC,
    WAL_GROUP_WRITE,
    WAL_GROUP_SYNC,
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

struct wal {
    struct wal_config config;
    char *dir;
    char *epoch_path;
    uint64_t epoch_inode;
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
    uint64_t next_number;
    uint64_t made_number; /* a segment file this run made, perhaps left behind by a failure */
    struct storage_file *fresh; /* the segment whose header is on its way */
    struct wal_segment_header fresh_header;
    uint8_t *page;
    struct wal_group *flying;  /* on its way, being answered, or empty; never NULL */
    struct wal_group *waiting; /* the next to fly; the last of the list takes new records */
    struct wal_group *gather;  /* that last one; never NULL */
    size_t pending;  /* bytes of all groups */
    size_t begun_at; /* offset in gather of the record under construction, 0 when none */
    err_t group_err; /* why the group under repair failed */
    struct io_op op;
    struct io_timer timer;
    uint64_t sync_began_ns;
};

/* Reads all segments: fills segments, next_seq, next_number; cuts a torn tail. */
err_t wal_recover(struct wal *wal);
char *wal_segment_path(const struct wal *wal, uint64_t number);

#endif
