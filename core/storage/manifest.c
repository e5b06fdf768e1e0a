/*
 * Manifests and descriptions as bytes: see manifest.h. A checksum covers all behind it; the
 * decoders still take what they read for hostile, because a description also comes back in another
 * process' life, perhaps of another version. Two descriptions are the same collection when their
 * bytes are equal, so the encoding has one form for each.
 */
#include "core/storage/manifest.h"

#include "core/base/hash.h"

static const uint64_t MANIFEST_MAGIC = 0x314E414D52544C54; /* "TLTRMAN1" */

/* ---- descriptions ---------------------------------------------------------------------------- */

/* NULL and the empty string are different: a length of all ones is NULL. */
static void put_text(struct buf *out, const char *s)
{
    uint32_t len = s == NULL ? UINT32_MAX : (uint32_t)strlen(s);
    buf_append_u32(out, len);
    if (s != NULL) {
        buf_append(out, s, len);
    }
}

/* NULL also when the bytes end too early: the reader has noted it. */
static const char *get_text(struct reader *r, struct arena *arena)
{
    uint32_t len = reader_u32(r);
    if (r->failed || len == UINT32_MAX) {
        return NULL;
    }
    const char *s = reader_bytes(r, len);
    return s == NULL ? NULL : arena_strndup(arena, s, len);
}

void description_encode(const struct storage_collection *desc, struct buf *out)
{
    ASSERT(desc->cols > 0 && desc->cols <= BATCH_COLS_MAX);
    buf_append_u64(out, desc->id);
    buf_append_byte(out, (uint8_t)desc->kind);
    buf_append_byte(out, (uint8_t)desc->format);
    buf_append_byte(out, desc->tail ? 1 : 0);
    buf_append_byte(out, desc->csv_header ? 1 : 0);
    buf_append_byte(out, (uint8_t)desc->csv_delimiter);
    buf_append_byte(out, (uint8_t)desc->csv_quote);
    put_text(out, desc->csv_null);
    put_text(out, desc->path);
    buf_append_u32(out, (uint32_t)desc->cols);
    for (size_t c = 0; c < desc->cols; c++) {
        buf_append_byte(out, desc->types[c].kind);
        buf_append_byte(out, desc->types[c].nullable ? 1 : 0);
        buf_append_u32(out, (uint32_t)desc->types[c].typmod);
        buf_append_u32(out, desc->types[c].oid);
        put_text(out, desc->names[c]);
    }
}

/* TYPE_UNKNOWN is a literal's type during planning, never a column's. */
static bool column_valid(const struct type *type, const char *name)
{
    return name != NULL && type->kind > 0 && type->kind < TYPE_KIND_MAX &&
           type->kind != TYPE_UNKNOWN;
}

/* Strings are copied to the arena; types and names are arrays there. */
err_t description_decode(const uint8_t *data, size_t len, struct arena *arena,
                         struct storage_collection *out)
{
    struct reader r = reader_of(data, len);
    *out = (struct storage_collection){.id = reader_u64(&r)};
    out->kind = reader_u8(&r);
    out->format = reader_u8(&r);
    out->tail = reader_u8(&r) == 1;
    out->csv_header = reader_u8(&r) == 1;
    out->csv_delimiter = (char)reader_u8(&r);
    out->csv_quote = (char)reader_u8(&r);
    out->csv_null = get_text(&r, arena);
    out->path = get_text(&r, arena);
    out->cols = reader_u32(&r);
    bool bad = r.failed || out->cols > BATCH_COLS_MAX ||
               (out->kind != STORAGE_TABLE && out->kind != STORAGE_FILE) ||
               (out->kind == STORAGE_FILE && out->path == NULL);
    size_t cols = bad ? 0 : out->cols;
    struct type *types = ARENA_ARRAY(arena, struct type, cols);
    const char **names = ARENA_ARRAY(arena, const char *, cols);
    for (size_t c = 0; c < cols && !bad; c++) {
        types[c].kind = reader_u8(&r);
        types[c].nullable = reader_u8(&r) == 1;
        types[c].typmod = (int32_t)reader_u32(&r);
        types[c].oid = reader_u32(&r);
        names[c] = get_text(&r, arena);
        bad = !column_valid(&types[c], names[c]);
    }
    out->types = types;
    out->names = names;
    if (bad || r.failed || reader_left(&r) != 0) {
        return err_new(ERR_CORRUPT, "malformed description of a collection");
    }
    return ERR_OK;
}

/* ---- manifests ------------------------------------------------------------------------------- */

void manifest_encode(const struct manifest *m, struct buf *out)
{
    ASSERT(m->folded <= m->since && m->desc_len > 0);
    size_t start = out->len;
    ASSERT(m->base.number == 0 || m->folded > 0);
    buf_append_u64(out, MANIFEST_MAGIC);
    buf_append_u32(out, 0); /* the checksum's place */
    buf_append_u32(out, m->desc_len);
    buf_append(out, m->desc, m->desc_len);
    buf_append_u64(out, m->since);
    buf_append_u64(out, m->upper);
    buf_append_u64(out, m->sealed ? 1 : 0);
    buf_append_u64(out, m->flushed_seq);
    buf_append_u64(out, m->next_part);
    buf_append_u64(out, m->base.number);
    buf_append_u64(out, m->base.size);
    buf_append_u64(out, m->folded);
    buf_append_u64(out, m->base_rows);
    buf_append_u32(out, m->deltas_len);
    for (uint32_t i = 0; i < m->deltas_len; i++) {
        buf_append_u64(out, m->deltas[i].number);
        buf_append_u64(out, m->deltas[i].size);
    }
    file_set_encode(m->files.file, m->files.file_len, out);
    uint32_t crc = hash_crc32c(0, out->data + start + 12, out->len - start - 12);
    memcpy(out->data + start + 8, &crc, 4);
}

/*
 * Numbers are given out ascending and never again: one at or beyond next_part was not given out
 * yet.
 */
static bool part_valid(const struct manifest *m, const struct manifest_part *part)
{
    return part->number > 0 && part->number < m->next_part && part->size > 0;
}

/*
 * What the rest of recovery relies on without looking again is checked here: folded below since,
 * part numbers, an upper that time can reach.
 */
err_t manifest_decode(const uint8_t *data, size_t len, struct arena *arena, struct manifest *out)
{
    struct reader r = reader_of(data, len);
    *out = (struct manifest){0};
    bool bad = reader_u64(&r) != MANIFEST_MAGIC;
    uint32_t crc = reader_u32(&r);
    bad = bad || r.failed || crc != hash_crc32c(0, data + 12, len - 12);
    if (bad) {
        return err_new(ERR_CORRUPT, "damaged manifest");
    }
    out->desc_len = reader_u32(&r);
    out->desc = reader_bytes(&r, out->desc_len);
    out->since = reader_u64(&r);
    out->upper = reader_u64(&r);
    out->sealed = reader_u64(&r) == 1;
    out->flushed_seq = reader_u64(&r);
    out->next_part = reader_u64(&r);
    out->base.number = reader_u64(&r);
    out->base.size = reader_u64(&r);
    out->folded = reader_u64(&r);
    out->base_rows = reader_u64(&r);
    out->deltas_len = reader_u32(&r);
    bad = r.failed || out->deltas_len > reader_left(&r) / 16 || out->folded > out->since ||
          out->upper > TIME_MAX / 2 || out->next_part > UINT64_MAX / 2 ||
          (out->base.number != 0 && (!part_valid(out, &out->base) || out->folded == 0));
    struct manifest_part *deltas =
        ARENA_ARRAY(arena, struct manifest_part, bad ? 0 : out->deltas_len);
    for (uint32_t i = 0; i < out->deltas_len && !bad; i++) {
        deltas[i].number = reader_u64(&r);
        deltas[i].size = reader_u64(&r);
        bad = !part_valid(out, &deltas[i]);
    }
    out->deltas = deltas;
    if (bad || !file_set_apply(&out->files, r.data + r.at, reader_left(&r))) {
        file_set_free(&out->files);
        return err_new(ERR_CORRUPT, "malformed manifest");
    }
    return ERR_OK;
}
