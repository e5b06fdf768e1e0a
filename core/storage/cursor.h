/* Cursors as the rest of the module sees them. Module-private; the public part is in storage.h. */
#ifndef TAILRACE_CORE_STORAGE_CURSOR_H
#define TAILRACE_CORE_STORAGE_CURSOR_H

#include "core/storage/merge.h"

enum cursor_phase {
    CURSOR_WAIT,     /* for the shard's upper to pass as_of */
    CURSOR_SNAPSHOT, /* merge is on its way */
    CURSOR_CHANGES,
};

struct storage_cursor {
    struct storage_shard *shard; /* NULL once the collection or the worker is gone */
    struct storage_cursor *next; /* of the shard */
    struct storage_cursor **link;
    struct storage_schema *schema;
    enum cursor_phase phase;
    uint64_t as_of; /* of the snapshot; with resume only what the caller said */
    uint64_t pos; /* changes: everything below was returned */
    struct merge merge;
    struct batch_builder *builder[STREAMS]; /* rows of the chunk being made */
    const struct storage_place *place; /* during storage_cursor_next: the reader's, or NULL */
    uint8_t *out[STREAMS]; /* bytes of the chunk returned last, where they are ours */
    size_t out_cap[STREAMS]; /* bytes */
    struct storage_entry *held; /* the chunk returned last points into it */
    void *loaded[STREAMS]; /* bytes of held that were read from disk */
    struct batch_col *cols;
    size_t cols_cap;
    struct storage_entry *split; /* an entry too big for one chunk, on its way */
    int split_stream; /* of split: what comes next */
    uint32_t split_row;
};

/* Times below are told apart by nobody on behalf of this cursor. */
uint64_t cursor_hold(const struct storage_cursor *cursor);
/* The shard goes away: the cursor stays valid and answers ERR_NOT_FOUND. */
void cursor_detach(struct storage_cursor *cursor);

#endif
