/*
 * The consolidated state of a shard as a stream: the base part with a number of entries added up.
 * A snapshot and a new base part are made in the same way. Module-private.
 *
 * The entries go into a multiset (memory in proportion to them, not to the base); then the base's
 * blocks pass by, each row taking its sum out of the multiset; what is left follows at the end. The
 * work is cut into steps of bounded length.
 */
#ifndef TAILRACE_CORE_STORAGE_MERGE_H
#define TAILRACE_CORE_STORAGE_MERGE_H

#include "core/storage/multiset.h"
#include "core/storage/shard.h"

struct merge {
    struct storage_schema *schema;
    struct storage_base *base; /* NULL: empty */
    struct storage_entry **entries;
    size_t entries_len;
    uint64_t as_of; /* updates beyond it are left out */
    struct multiset set[STREAMS];
    size_t entry; /* being read */
    int stream; /* of the entry being read */
    uint32_t row; /* next of batch */
    void *loaded;
    struct batch batch;
    struct batch_col *cols;
    size_t cols_cap;
    bool open;        /* batch holds the current entry's stream */
    uint64_t base_at; /* offset of the next block */
    size_t rest;      /* next of what is left, of rest_stream */
    int rest_stream; /* STREAMS: nothing is left */
};

/* The first entries_len entries of the shard, and its base; all are kept alive. */
void merge_init(struct merge *merge, const struct storage_shard *shard, size_t entries_len,
                uint64_t as_of);
void merge_free(struct merge *merge);
/* True until output can begin. */
bool merge_reading(const struct merge *merge);
/* A step: may append rows (with their diff, time 0) to out; *done when nothing is left. Errors:
 * ERR_CORRUPT, ERR_IO. */
err_t merge_step(struct merge *merge, struct batch_builder *const out[STREAMS], bool *done);

#endif
