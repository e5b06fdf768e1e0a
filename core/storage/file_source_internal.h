/*
 * State of a file source, shared by file_source.c (looking, reading, committing) and
 * file_rebuild.c (comparing what files hold with what the shard holds).
 */
#ifndef TAILRACE_CORE_STORAGE_FILE_SOURCE_INTERNAL_H
#define TAILRACE_CORE_STORAGE_FILE_SOURCE_INTERNAL_H

#include "core/storage/file_source.h"
#include "core/storage/merge.h"
#include "core/storage/rows.h"
#include "core/storage/storage_internal.h"

enum source_phase {
    SOURCE_IDLE,    /* waiting for a change or the poll timer */
    SOURCE_READ,    /* reading what is new of one file */
    SOURCE_VERIFY,  /* reading what was ingested of one file, to see whether it is still so */
    SOURCE_COMMIT,  /* a log record is under way */
    SOURCE_RETRY,   /* a commit failed: waiting to start over from what is durable */
    SOURCE_OLD,     /* rebuild: adding up the shard */
    SOURCE_NEW,     /* rebuild: reading the files */
    SOURCE_EMIT,    /* rebuild: gathering the difference */
    SOURCE_STOPPED, /* sealed, failed or freed */
};

enum {
    SOURCE_READ_BYTES = 64 << 10,    /* per turn: about half a millisecond of parsing */
    SOURCE_COMMIT_BYTES = 1 << 20,   /* built rows that make a commit */
    SOURCE_POLL_US = 250000,         /* looks without being told of a change */
    SOURCE_VERIFY_MAX = 64 << 10,    /* ingested files up to this are read again before going on */
    SOURCE_RECENT_NS = 50000000,     /* a change this fresh may precede one of the same mtime */
    SOURCE_DIFF_MAX = 512 << 20,     /* bytes of the difference a replaced file may make */
};

/*
 * A file being read from some offset on, with the state it will have. The one file being read.
 * offset and checksums of state move on as records are taken; what is durable stands in
 * file_source.files until the commit.
 */
struct source_reader {
    struct io_file *io; /* NULL: none */
    struct file_state state; /* path owned */
    struct buf carry; /* bytes read and not yet taken: the beginning of a record */
    uint64_t read_at; /* offset of the next byte to read: offset + carry */
    uint8_t tail[FILE_STATE_WINDOW]; /* the last bytes before state.offset */
    size_t tail_len;
    bool end; /* the file ended here when it was read last */
};

/* A file source's whole state, owned by its shard, on the worker's loop. */
struct file_source {
    struct storage_shard *shard;
    struct io_loop *loop;
    bool glob;
    enum source_phase phase;
    bool look_again;  /* something changed meanwhile */
    bool looked;      /* everything that was there has been read or refused */
    char *last;       /* path worked on last: the next look goes on behind it */
    struct file_set files; /* as durable; size and mtime as last seen */
    struct rows_parser rows; /* rows built and not committed */
    struct source_reader reader;
    uint8_t *chunk; /* SOURCE_READ_BYTES */
    struct io_op op; /* the read under way */
    struct io_timer timer; /* poll, retry, or the next turn */
    struct io_watch *watch;
    struct strmap refused; /* path -> mtime + size of content that was refused, as a hash */
    char *status_text;
    /* The commit under way. */
    struct wal_commit commit;
    struct storage_entry *entry;
    struct file_state *states; /* that it brings; paths owned */
    size_t states_len;
    size_t states_cap;
    bool seal; /* the commit under way says that nothing follows */
    bool commit_live; /* the log holds commit: nothing of this may be freed */
    /* Rebuild. */
    struct merge merge;
    struct multiset set[STREAMS];
    struct batch_col *cols;
    char **paths; /* to read */
    size_t paths_len;
    size_t paths_cap;
    size_t path_at;
    size_t emit_at;
    int emit_stream;
};

/* reader (file_source.c) */
err_t source_reader_open(struct file_source *source, const char *path, uint64_t offset);
void source_reader_close(struct file_source *source);
/* Parses what was read; *more: there is perhaps more to read. */
err_t source_reader_take(struct file_source *source, const uint8_t *data, size_t len);
/* The next turn, from the loop. */
void source_next_turn(struct file_source *source, uint64_t delay_us);
/* Commits what the row builders and states hold, at one new time. */
void source_commit(struct file_source *source);
void source_status(struct file_source *source, enum storage_status status, const char *reason,
                   const char *hint);
/* The content of path as it is now is no good: says why, and waits for it to change. Owns err. */
void source_refuse(struct file_source *source, const char *path, err_t err);
/* Paths of the collection on this worker that exist, in order. *matched counts other workers'. */
err_t source_list(struct file_source *source, char ***paths, size_t *len, size_t *matched);
void source_free_paths(char **paths, size_t len);
/* Back to looking. */
void source_idle(struct file_source *source, bool again);

/* rebuild (file_rebuild.c) */
void source_rebuild_begin(struct file_source *source);
/* A turn in one of the rebuild phases. */
void source_rebuild_turn(struct file_source *source);
/* SOURCE_NEW: bytes of the file being read arrived. */
void source_rebuild_read(struct file_source *source, const uint8_t *data, size_t len);
void source_rebuild_free(struct file_source *source);

#endif
