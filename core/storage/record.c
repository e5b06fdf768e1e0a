/*
 * Append records: see record.h for the layout. The encoder's output is what the decoder accepts;
 * the decoder is given bytes whose checksum holds, and still trusts none of their lengths.
 */
#include "core/storage/record.h"

#include "core/base/hash.h"

enum { RECORD_TABLES = 1, SECTION_SEAL = 1, SECTION_HEADER = 40 };

size_t record_section_size(const struct storage_entry *entry)
{
    return SECTION_HEADER + entry->files_len + entry->blob[STREAM_OK].len +
           entry->blob[STREAM_ERR].len;
}

void record_begin(struct buf *out, const struct record *record)
{
    ASSERT(record->time <= TIME_MAX / 2);
    buf_append_u32(out, record->tables ? RECORD_TABLES : 0);
    buf_append_u32(out, record->sections);
    buf_append_u64(out, record->time);
}

/*
 * The batches' own checksums are made here, because readers read a batch from the log without the
 * rest of its record. Offsets are relative to the payload until the commit says where that lies.
 */
void record_add(struct buf *out, size_t start, uint64_t id, bool seal, struct storage_entry *entry)
{
    size_t before = out->len;
    ASSERT(start <= before && before >= start + RECORD_HEADER);
    buf_reserve(out, record_section_size(entry));
    buf_append_u64(out, id);
    buf_append_u32(out, seal ? SECTION_SEAL : 0);
    buf_append_u32(out, entry->files_len);
    for (int s = 0; s < STREAMS; s++) {
        struct storage_blob *blob = &entry->blob[s];
        ASSERT((blob->len == 0) == (blob->data == NULL) && (blob->len == 0) == (blob->rows == 0));
        blob->crc = hash_crc32c(0, blob->data, blob->len);
        buf_append_u32(out, blob->len);
        buf_append_u32(out, blob->rows);
        buf_append_u32(out, blob->crc);
    }
    buf_append(out, entry->files, entry->files_len);
    for (int s = 0; s < STREAMS; s++) {
        entry->blob[s].offset = out->len - start;
        buf_append(out, entry->blob[s].data, entry->blob[s].len);
    }
    ASSERT(out->len - before == record_section_size(entry));
}

/* The number of sections is bounded by the bytes there are, so that nobody loops for a lie. */
err_t record_open(struct reader *r, struct record *out)
{
    uint32_t flags = reader_u32(r);
    out->sections = reader_u32(r);
    out->time = reader_u64(r);
    out->tables = flags == RECORD_TABLES;
    if (r->failed || flags > RECORD_TABLES || out->time > TIME_MAX / 2 ||
        out->sections > reader_left(r) / SECTION_HEADER) {
        return err_new(ERR_CORRUPT, "malformed append record");
    }
    return ERR_OK;
}

err_t record_next(struct reader *r, struct record_section *out)
{
    *out = (struct record_section){.id = reader_u64(r)};
    uint32_t flags = reader_u32(r);
    out->files_len = reader_u32(r);
    out->seal = flags == SECTION_SEAL;
    for (int s = 0; s < STREAMS; s++) {
        out->blob[s].len = reader_u32(r);
        out->blob[s].rows = reader_u32(r);
        out->blob[s].crc = reader_u32(r);
    }
    out->files = reader_bytes(r, out->files_len);
    for (int s = 0; s < STREAMS; s++) {
        out->blob[s].offset = r->at;
        out->data[s] = reader_bytes(r, out->blob[s].len);
    }
    bool bad = r->failed || flags > SECTION_SEAL;
    for (int s = 0; s < STREAMS && !bad; s++) {
        bad = out->blob[s].crc != hash_crc32c(0, out->data[s], out->blob[s].len) ||
              (out->blob[s].len == 0) != (out->blob[s].rows == 0);
    }
    return bad ? err_new(ERR_CORRUPT, "malformed append record: section of collection %llu",
                         (unsigned long long)out->id)
               : ERR_OK;
}
