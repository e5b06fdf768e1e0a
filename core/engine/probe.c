/*
 * Filling and loading of probes. A lookup costs three dependent misses in a table beyond the
 * caches: the slot, the entry, and in an arrangement the list of updates. Each is started for all
 * rows before the next one is looked at, so a block of rows waits about as long as one row did.
 */
#include "core/engine/probe.h"

#include "core/base/hash.h"

/* Encodes the rows listed in probe->rows. */
static void encode(struct probe *probe, const struct batch *b, uint32_t len,
                   const struct probe_spec *spec)
{
    ASSERT(len <= PROBE_ROWS);
    probe->len = len;
    probe->at = 0;
    buf_clear(&probe->keys);
    probe->key_at[0] = probe->bytes_at[0] = 0;
    if (spec->keys_len > 0) {
        batch_encode_rows(b, probe->rows, len, spec->keys, spec->keys_len, true, &probe->keys,
                          probe->key_at + 1);
    } else {
        memset(probe->key_at, 0, (len + 1) * sizeof(probe->key_at[0]));
    }
    ASSERT(probe->key_at[len] == probe->keys.len || spec->keys_len == 0);
    for (uint32_t i = 0; i < len; i++) {
        probe->hash[i] = hash_bytes(probe->keys.data + probe->key_at[i],
                                    probe->key_at[i + 1] - probe->key_at[i]);
    }
    if (spec->whole) {
        buf_clear(&probe->bytes);
        batch_encode_rows(b, probe->rows, len, NULL, 0, false, &probe->bytes,
                          probe->bytes_at + 1);
    } else {
        memset(probe->bytes_at, 0, (len + 1) * sizeof(probe->bytes_at[0]));
    }
}

void probe_fill(struct probe *probe, const struct batch *b, uint32_t first,
                const struct probe_spec *spec)
{
    ASSERT(probe_is_empty(probe) && first < b->rows);
    uint32_t left = b->rows - first;
    uint32_t len = left < PROBE_ROWS ? left : PROBE_ROWS;
    for (uint32_t i = 0; i < len; i++) {
        probe->rows[i] = first + i;
    }
    encode(probe, b, len, spec);
}

void probe_fill_refs(struct probe *probe, const struct intake *intake,
                     const struct intake_ref *refs, size_t refs_len,
                     const struct probe_spec *spec)
{
    ASSERT(probe_is_empty(probe) && refs_len > 0);
    uint32_t len = 0;
    while (len < refs_len && len < PROBE_ROWS && refs[len].chunk == refs[0].chunk) {
        probe->rows[len] = refs[len].row;
        len++;
    }
    encode(probe, intake_batch(intake, refs), len, spec);
}

void probe_fill_next(struct probe *probe, const struct intake *intake,
                     const struct probe_spec *spec)
{
    ASSERT(!intake_is_done(intake));
    if (intake->plain) {
        probe_fill(probe, &intake->list.chunks[intake->chunk]->batch, intake->row, spec);
    } else {
        probe_fill_refs(probe, intake, &intake->refs[intake->at], intake->refs_len - intake->at,
                        spec);
    }
}

void probe_load(const struct probe *probe, const struct htable *table)
{
    ASSERT(probe->at == 0 && probe->len <= PROBE_ROWS);
    for (uint32_t i = 0; i < probe->len; i++) {
        htable_prefetch(table, probe->hash[i]);
    }
    for (uint32_t i = 0; i < probe->len; i++) {
        htable_prefetch_entry(table, probe->hash[i]);
    }
}

void probe_load_arranged(const struct probe *probe, const struct arrange *arrange)
{
    ASSERT(probe->at == 0 && probe->len <= PROBE_ROWS);
    const struct htable_entry *entries[PROBE_ROWS];
    for (uint32_t i = 0; i < probe->len; i++) {
        htable_prefetch(&arrange->table, probe->hash[i]);
    }
    for (uint32_t i = 0; i < probe->len; i++) {
        entries[i] = htable_prefetch_entry(&arrange->table, probe->hash[i]);
    }
    for (uint32_t i = 0; i < probe->len; i++) {
        if (entries[i] != NULL) {
            __builtin_prefetch(arrange_key(entries[i])->data);
        }
    }
}

void probe_free(struct probe *probe)
{
    buf_free(&probe->keys);
    buf_free(&probe->bytes);
    probe->at = probe->len = 0;
}
