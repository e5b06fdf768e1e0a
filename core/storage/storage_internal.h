/*
 * The worker, as the sources of this module see it. Nobody else's. All of it belongs to the
 * worker's loop; there is no lock and no atomic in this module.
 */
#ifndef TAILRACE_CORE_STORAGE_STORAGE_INTERNAL_H
#define TAILRACE_CORE_STORAGE_STORAGE_INTERNAL_H

#include "core/storage/manifest.h"
#include "core/storage/record.h"
#include "core/storage/shard.h"
#include "core/storage/wal.h"

struct table_append;
struct compaction;

enum {
    STORAGE_LEASE_US = 1000000,       /* how far ahead of the clock sources' uppers are reserved */
    STORAGE_TABLES_LEASE_US = 300000, /* how far ahead of their writer's, those of tables */
    STORAGE_ACTIVE_US = 200000,       /* how long quiet sources follow closely after an event */
    STORAGE_IDLE_TICK_US = 100000,    /* how often they advance when nothing happens */
    STORAGE_MAINTAIN_US = 100000,     /* how often compaction looks for work */
    STORAGE_IDLE_MAINTAIN_US = 1000000, /* the same when nothing happens */
    STORAGE_RETRY_US = 100000,        /* after a full disk, a missing file */
    STORAGE_APPEND_MAX = 512 << 20,   /* bytes of appends waiting for the disk */
    STORAGE_ROW_MAX = 32 << 20, /* bytes of a row: it must fit a message to a reader (64 MiB) */
};

/* Counters and gauges of this worker; names and texts stand in register_metrics. */
struct storage_metrics {
    struct metric *rows;
    struct metric *bytes;
    struct metric *commits;
    struct metric *sync_seconds;
    struct metric *log_bytes;
    struct metric *shard_bytes;
    struct metric *lag_us; /* clock minus the upper of quiet sources */
    struct metric *compactions;
};

struct storage_worker {
    struct storage_config config; /* with defaults filled in */
    char *dir; /* <data>/worker-<n>, without a slash at its end */
    struct wal *wal; /* one log for all shards: one sync for all that came meanwhile */
    struct u64map shards; /* id -> shard */
    struct u64map dropping; /* dropped, with log records under way */
    struct storage_shard **order; /* those of shards, by id */
    size_t order_len;
    size_t order_cap;
    struct wal_context durable; /* leases that are on disk */

    /* Tables share one upper. */
    uint64_t tables_upper; /* published */
    uint64_t tables_next;  /* lowest time the next append may take */
    uint64_t tables_want;  /* advance asked for, beyond the lease */
    uint64_t tables_ahead; /* the furthest the writer has been in this run */
    struct table_append *appends; /* under way, oldest first */
    struct table_append **appends_last;
    struct table_append *refused; /* to be answered from the loop */
    struct table_append **refused_last;
    struct io_timer refuse_timer;

    uint64_t stamped; /* the latest time given to a source's updates, or published */
    struct wal_commit lease;
    bool lease_pending; /* a lease record is in the log's hands */
    uint64_t lease_after_us; /* not asked for again before: the disk is full */
    uint64_t lease_sources; /* asked for */
    uint64_t lease_tables;

    uint64_t active_us; /* when something happened last */
    uint64_t told_us;   /* when the host was told of it last */
    struct io_timer tick; /* quiet sources; armed while there is a source */
    struct io_timer maintain; /* compaction and gauges; always armed */
    struct compaction *compaction; /* the one under way */
    struct storage_metrics metrics;
    bool own_metrics; /* nobody gave us a registry */
    bool recovering; /* nothing is told to the host yet */
};

/* Publishes a new upper (never below the old one) and tells the host. */
void storage_publish(struct storage_shard *shard, uint64_t upper);
/* Tells the host of a changed health. Repeated calls with the same status and reason are told once
 * each: the caller compares. */
void storage_report(struct storage_shard *shard, enum storage_status status, const char *reason,
                    const char *hint);
/* A time for updates of a source: beyond every time published or given out before. */
uint64_t storage_stamp(struct storage_worker *storage);
/* Asks for a longer lease when one is short. */
void storage_renew_lease(struct storage_worker *storage);
/* A dropped shard's last log record is done. */
void storage_release_shard(struct storage_shard *shard);
/* Arms the tick when a source needs it. */
void storage_arm_tick(struct storage_worker *storage);
/* Data was published: the other collections are to pass its time soon. */
void storage_active(struct storage_worker *storage);
/* A source has read what there was at first: publishes that, and that it is all. */
void storage_source_looked(struct storage_shard *shard);

/* tables.c */
void tables_init(struct storage_worker *storage);
void tables_free(struct storage_worker *storage);
/* The lease grew: publishes what waited for it. */
void tables_lease_grew(struct storage_worker *storage);

/* compact.c: starts a compaction of the shard that needs one most, if none is under way. */
void compaction_look(struct storage_worker *storage);
/* Gives up the one under way (shard NULL: any; else only of this shard). */
void compaction_cancel(struct storage_worker *storage, const struct storage_shard *shard);
/* Writes the first manifest of a new shard, durably. Synchronous. */
err_t compaction_create(struct storage_shard *shard);
/* Path of a part: free() it. */
char *compaction_part_path(const struct storage_shard *shard, uint64_t number);

#endif
