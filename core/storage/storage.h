/*
 * Storage of one worker: shards (durable, definite logs of updates), the tables and sources that
 * fill them, and the cursors that read them. One storage_worker belongs to one worker thread (one
 * io_loop) and one directory; workers share nothing.
 *
 * A collection is spread over all storage workers; the part a worker holds is its shard:
 * <dir>/<collection id>/. A shard is a sequence of updates (row, time, diff), ok and err, with
 * since and upper; exact reads exist for since <= t < upper. What a cursor returned once it
 * returns for ever (until since passes): acknowledged and published means durable, and a restart
 * resumes with the same history.
 */
#ifndef TAILRACE_CORE_STORAGE_STORAGE_H
#define TAILRACE_CORE_STORAGE_STORAGE_H

#include "core/base/metrics.h"
#include "core/data/batch.h"
#include "core/io/io.h"

struct storage_worker;

/*
 * STARTING until the first word; PAUSED: the disk is full, goes on by itself; STALLED: a file is
 * missing or makes no sense, goes on by itself once that changes (or, after a disk error, a
 * restart).
 */
enum storage_status { STORAGE_STARTING, STORAGE_RUNNING, STORAGE_PAUSED, STORAGE_STALLED,
                      STORAGE_DROPPED };
/* The words of Materialize's mz_source_statuses. Any thread. */
const char *storage_status_name(enum storage_status status);
/* Of several workers' or processes' statuses of one collection the worst is told: one may wait for
 * a file that the others have nothing to do with. Grows with what is worse; >= 0. Any thread. */
int storage_status_badness(enum storage_status status);

struct storage_host {
    /* The collection's shard here has new data or a new upper: cursors of it can go on. */
    void (*advanced)(void *ctx, uint64_t collection, uint64_t upper);
    /* Data came after a quiet time, or still comes: sources of other workers should pass its times
     * closely, see storage_wake. At most a few times a second. May be NULL. */
    void (*active)(void *ctx);
    /* Health of an ingestion changed. reason "" when fine; hint says what to do. */
    void (*status)(void *ctx, uint64_t collection, enum storage_status status, const char *reason,
                   const char *hint);
};

struct storage_config {
    struct io_loop *loop;
    const char *directory;  /* of this worker; made when missing */
    uint32_t worker;        /* global index */
    uint32_t workers;       /* of the whole storage */
    uint64_t epoch;         /* fencing: a directory opened with a higher epoch refuses lower ones */
    const struct storage_host *host;
    void *ctx;
    struct metrics_registry *metrics; /* may be NULL */
    uint64_t tick_us;       /* how often quiet sources advance while something happens; 0: 5 ms */
    uint64_t segment_bytes; /* size at which the log rolls; 0: default 64 MiB */
    uint64_t memory_tail_bytes; /* recent updates kept in memory per shard; 0: default 64 MiB */
};

/*
 * Opens (recovers) the directory: every shard's log is scanned, a torn tail (never acknowledged)
 * is cut off, damage elsewhere is ERR_CORRUPT naming file and offset. Synchronous.
 */
err_t storage_open(const struct storage_config *config, struct storage_worker **out);
/* Frees memory; nothing acknowledged needs it. Also on a dead env. */
void storage_free(struct storage_worker *storage);

/* ---- collections --------------------------------------------------------------------------- */

enum storage_kind { STORAGE_TABLE = 1, STORAGE_FILE = 2 };
enum storage_format { STORAGE_CSV = 1, STORAGE_JSON_LINES = 2 };

/*
 * What is ingested, and how. All strings and arrays are copied by storage_run. Two descriptions
 * that differ in anything are different collections: to change one, drop it and create another.
 */
struct storage_collection {
    uint64_t id;
    enum storage_kind kind;
    const struct type *types; /* schema; nullable false: NOT NULL is enforced by ingestion */
    const char *const *names;
    size_t cols;
    /* STORAGE_FILE: */
    const char *path;         /* a file, or a glob; a file belongs to worker hash(path) % workers */
    enum storage_format format;
    bool tail;                /* follow appends, truncation, replacement; else read once and seal */
    bool csv_header;          /* skip (and check the names of) the first line */
    char csv_delimiter;
    char csv_quote;
    const char *csv_null;     /* text of NULL when unquoted; NULL pointer: the empty string */
};

/*
 * Starts (or, after a restart, resumes) a collection on this worker. The same id with the same
 * description again is a no-op; with another one ERR_EXISTS. A file that is missing stalls the
 * collection with a status and is retried, it is not an error here.
 *
 * A file source is ingested exactly once: offsets are stored with the data. Bad lines (wrong
 * number of fields, bad value, invalid UTF-8) go to the error twin with file and line; they vanish
 * when the line does. When a tailed file is replaced or truncated, its new content is compared with
 * what the shard holds of it and exactly the difference is published, at one time.
 */
err_t storage_run(struct storage_worker *storage, const struct storage_collection *collection);
/* Gives up reads below since; FRONTIER_EMPTY drops the collection and deletes its files. */
err_t storage_allow_compaction(struct storage_worker *storage, uint64_t id, uint64_t since);
err_t storage_frontiers(const struct storage_worker *storage, uint64_t id, uint64_t *since,
                        uint64_t *upper);
/*
 * What a source's files held when it was first looked at lies below this time and is durable; 0:
 * not yet, or no such collection. Of files that cannot be read it is what could be: the status says
 * why. A table is ready at once. Not remembered across restarts: the first look answers again.
 */
uint64_t storage_ready(const struct storage_worker *storage, uint64_t id);
/*
 * Readers or writers are busy: quiet sources advance now, and each tick_us for a fifth of a second.
 * Without this, and without data, they advance ten times a second only, because each time costs
 * every process that reads them something.
 */
void storage_wake(struct storage_worker *storage);
/*
 * Calls each for every collection, in order of id. For metrics and for telling a new session what
 * there is.
 */
void storage_collections(const struct storage_worker *storage,
                         void (*each)(void *arg, uint64_t id, uint64_t since, uint64_t upper,
                                      uint64_t rows, uint64_t bytes),
                         void *arg);

/* ---- tables -------------------------------------------------------------------------------- */

/*
 * Appends to tables, all at one time, atomically over the tables named (one log record): batches
 * hold rows and diffs, their times are ignored. done(arg, err) once durable, the uppers of ALL
 * tables then being time + 1. ERR_FENCED when time < a table's upper (the writer must take a later
 * time). Group commit: appends asked for while a sync is under way share the next one. A full disk
 * is ERR_NO_SPACE: nothing was appended, later appends may succeed. ERR_LIMIT: this append alone is
 * refused, because a row is longer than any reader could be sent (32 MiB), it has too many rows, or
 * too much (512 MiB) waits for the disk already.
 */
struct storage_write {
    uint64_t id;
    const struct batch *batch; /* copied before return */
};
void storage_append(struct storage_worker *storage, uint64_t time,
                    const struct storage_write *writes, size_t writes_len,
                    void (*done)(void *arg, err_t err), void *arg);
/* The writer promises no write below upper: all tables advance (in order after earlier appends). */
void storage_advance_tables(struct storage_worker *storage, uint64_t upper);
/*
 * Time of the last durable append (0: none), across restarts and compaction. The uppers of tables
 * do not tell: after a restart they may be up to a second beyond what was published before.
 */
uint64_t storage_last_append(const struct storage_worker *storage);

/* ---- cursors ------------------------------------------------------------------------------- */

/*
 * A read of one shard, in order: first (snapshot) the consolidated state at as_of, its times set to
 * as_of; then every change after. With resume: no snapshot, exactly the updates at times >= resume
 * (resume_from > as_of). Refusals: ERR_NOT_FOUND (no such collection), ERR_INVALID naming since and
 * upper (as_of < since, or resume below since). as_of >= upper is fine: the snapshot is returned
 * when complete.
 */
struct storage_cursor;
err_t storage_cursor_open(struct storage_worker *storage, uint64_t id, uint64_t as_of,
                          const uint64_t *resume_from, struct storage_cursor **out);
/* NULL is allowed. Lets compaction go on past what this reader still had to tell apart. */
void storage_cursor_close(struct storage_cursor *cursor);

/* Updates in [lower, upper); ok/err are bytes of finished batches (see batch.h) or NULL when
 * there are none; valid until the next call on the cursor. */
struct storage_chunk {
    uint64_t lower;
    uint64_t upper;
    const void *ok;
    size_t ok_len;
    const void *err;
    size_t err_len;
};
/* Whoever reads may say where a chunk is to be built that has to be put together: take gives
 * memory, aligned as batches are, for batches of these lengths (0: none of that kind, and no
 * memory). Called at most once a call, when the chunk is sure to come. What lies in memory or was
 * read whole is pointed to instead. */
struct storage_place {
    void (*take)(void *arg, size_t ok_len, size_t err_len, uint8_t **ok, uint8_t **err);
    void *arg;
};
/*
 * The next chunk of at most about max_bytes; place: NULL: in memory of the cursor. One snapshot may
 * take several chunks: all but the last have upper == lower (nothing complete yet); so may changes
 * that were all made at one time and are more than max_bytes. Returns false in *more and an empty
 * chunk when the cursor is at the end: wait for host.advanced. An empty chunk with *more true: a
 * part of a longer work is done, call again (later, if the loop has other work). Tail from memory,
 * what lies behind from disk (ERR_IO / ERR_CORRUPT possible). After the collection was dropped:
 * ERR_NOT_FOUND.
 */
err_t storage_cursor_next(struct storage_cursor *cursor, size_t max_bytes,
                          const struct storage_place *place, struct storage_chunk *out,
                          bool *more);
/* Moves a cursor that has given all below lower, and nothing else, on to upper, as if it had given
 * what another one of the collection gave for [lower, upper). False: it stands elsewhere, and
 * nothing was done. */
bool storage_cursor_skip(struct storage_cursor *cursor, uint64_t lower, uint64_t upper);

#endif
