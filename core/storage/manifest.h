/*
 * The manifest of a shard: its description and what its parts hold. Module-private. Replaced as a
 * whole: temporary file, sync, rename, sync of the directory. A collection exists on this worker
 * when its manifest does.
 */
#ifndef TAILRACE_CORE_STORAGE_MANIFEST_H
#define TAILRACE_CORE_STORAGE_MANIFEST_H

#include "core/base/arena.h"
#include "core/storage/file_set.h"
#include "core/storage/storage.h"

/* A part file by number and the bytes of it that count; what stands behind them was never named. */
struct manifest_part {
    uint64_t number;
    uint64_t size;
};

struct manifest {
    const uint8_t *desc; /* encoded description */
    uint32_t desc_len;
    uint64_t since;
    uint64_t upper; /* no update below it is missing from parts and log */
    bool sealed;
    uint64_t flushed_seq;
    uint64_t next_part;
    struct manifest_part base; /* number 0: none */
    uint64_t folded; /* updates below are in the base */
    uint64_t base_rows;
    const struct manifest_part *deltas; /* oldest first */
    uint32_t deltas_len;
    struct file_set files;
};

enum { MANIFEST_BYTES_MAX = 64 << 20 };

void description_encode(const struct storage_collection *desc, struct buf *out);
/* Checks everything (hostile bytes); memory from the arena. ERR_CORRUPT. */
err_t description_decode(const uint8_t *data, size_t len, struct arena *arena,
                         struct storage_collection *out);

void manifest_encode(const struct manifest *manifest, struct buf *out);
/* desc points into data, deltas into the arena; the caller frees files. ERR_CORRUPT. */
err_t manifest_decode(const uint8_t *data, size_t len, struct arena *arena, struct manifest *out);

#endif
