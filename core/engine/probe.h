/*
 * The next rows of a pass: their keys encoded and hashed a column at a time, and the places they
 * will look at loaded ahead, so that the misses of many rows overlap instead of following each
 * other. Operators with state go through their input so.
 *
 * Contract with the operator: it takes the rows in order, one probe_next a row, and fills the probe
 * again when it is empty. What is loaded is only a hint: between filling and taking, tables may
 * change at will.
 *
 * Owned by an operator; the engine's thread.
 */
#ifndef TAILRACE_CORE_ENGINE_PROBE_H
#define TAILRACE_CORE_ENGINE_PROBE_H

#include "core/engine/arrange.h"
#include "core/engine/engine_internal.h"

/*
 * Rows at a time. Enough to keep all of a core's misses in flight, few enough that what was loaded
 * is still in the first-level cache when its row comes: 64 rows of three lines in two tables are
 * 24 KiB.
 */
enum { PROBE_ROWS = 64 };

struct probe_span {
    const uint8_t *data;
    uint32_t len; /* bytes */
};

struct probe {
    uint32_t len, at; /* rows filled, rows taken */
    uint64_t hash[PROBE_ROWS];
    uint32_t rows[PROBE_ROWS];         /* of the batch */
    uint32_t key_at[PROBE_ROWS + 1];   /* offsets in keys */
    uint32_t bytes_at[PROBE_ROWS + 1]; /* offsets in bytes */
    struct buf keys;                   /* canonical key columns, row after row */
    struct buf bytes;                  /* whole rows, when asked for */
};

/* What is encoded of a row. */
struct probe_spec {
    const uint32_t *keys; /* columns */
    uint32_t keys_len;    /* 0: the empty key */
    bool whole;           /* the rows' bytes too */
};

/* The rows of b from first on, as many as fit. */
void probe_fill(struct probe *probe, const struct batch *b, uint32_t first,
                const struct probe_spec *spec);
/* The next updates of an intake by time, as far as they lie in one chunk. */
void probe_fill_next(struct probe *probe, const struct intake *intake,
                     const struct probe_spec *spec);
/* The first of these updates of an intake, as far as they lie in one chunk. */
void probe_fill_refs(struct probe *probe, const struct intake *intake,
                     const struct intake_ref *refs, size_t refs_len,
                     const struct probe_spec *spec);

/* Starts loading the entries of all rows; an arrangement's lists of updates too. */
void probe_load(const struct probe *probe, const struct htable *table);
void probe_load_arranged(const struct probe *probe, const struct arrange *arrange);

static inline bool probe_is_empty(const struct probe *probe)
{
    return probe->at == probe->len;
}

/* The key of the row at hand. */
static inline struct probe_span probe_key(const struct probe *probe)
{
    ASSERT(probe->at < probe->len);
    uint32_t start = probe->key_at[probe->at];
    return (struct probe_span){probe->keys.data + start, probe->key_at[probe->at + 1] - start};
}

/* The bytes of the row at hand. */
static inline struct probe_span probe_bytes(const struct probe *probe)
{
    ASSERT(probe->at < probe->len);
    uint32_t start = probe->bytes_at[probe->at];
    return (struct probe_span){probe->bytes.data + start, probe->bytes_at[probe->at + 1] - start};
}

static inline uint64_t probe_hash(const struct probe *probe)
{
    return probe->hash[probe->at];
}

/* The row at hand is done. */
static inline void probe_next(struct probe *probe)
{
    ASSERT(probe->at < probe->len);
    probe->at++;
}

void probe_free(struct probe *probe);

#endif
