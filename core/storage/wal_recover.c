/*
 * Reading the log back after a restart: see wal.h for the layout and README.md for the argument.
 * Runs once, synchronously, before anybody has a cursor or a commit.
 *
 * Steps: list the segments, open them from the newest down to the oldest its header asks for
 * (open_all), replay their groups in order (replay_segment), settle the end (settle_tail).
 * Everything read is checked as if anybody had written it. There are two kinds of badness and they
 * must not be confused: what was never acknowledged is cut off in silence, what was is ERR_CORRUPT
 * with file and offset, because going on would lose it.
 */
#include "core/storage/wal_internal.h"

#include "core/base/log.h"

#include <stdio.h>

/* Numbers of the segment files there are, ascending (names are listed in order). */
struct found {
    uint64_t *numbers;
    size_t numbers_len;
    size_t numbers_cap;
};

/* Other names are not ours: left alone. */
static err_t note_segment(void *arg, const char *name)
{
    struct found *found = arg;
    unsigned long long number = 0;
    int end = 0;
    if (strlen(name) == 20 && sscanf(name, "%16llx.wal%n", &number, &end) == 1 && end == 20 &&
        number > 0) {
        *VEC_PUSH(found, numbers) = number;
    }
    return ERR_OK;
}

static err_t corrupt(const struct storage_file *file, uint64_t offset, const char *what)
{
    return err_new(ERR_CORRUPT, "%s: %s at offset %llu", file->path, what,
                   (unsigned long long)offset);
}

/* For writing, too: the tail may have to be cut and is written again. */
static err_t open_segment(struct wal *wal, uint64_t number, struct storage_file **out)
{
    char *path = wal_segment_path(wal, number);
    struct io_file *io = NULL;
    uint64_t size = 0;
    err_t err = io_file_open(wal->config.loop, path, IO_OPEN_READ | IO_OPEN_WRITE, &io);
    if (err == ERR_OK) {
        err = io_file_size_sync(io, &size);
        if (err != ERR_OK) {
            io_file_close(io);
        }
    }
    if (err == ERR_OK) {
        *out = storage_file_new(wal->config.loop, path, io, number, size);
    }
    free(path);
    return err;
}

/*
 * A header that is not valid is no error here: whether it is damage depends on what stands behind
 * it.
 */
static err_t read_header(struct wal *wal, struct storage_file *file,
                         struct wal_segment_header *out, bool *valid)
{
    ASSERT(file->number > 0 && wal->page != NULL);
    size_t got = 0;
    TRY(io_file_read_sync(file->io, 0, wal->page, WAL_ALIGN, &got));
    *valid = got == WAL_ALIGN && wal_segment_header_decode(wal->page, got, out) &&
             out->number == file->number;
    return ERR_OK;
}

/* ---- groups ---------------------------------------------------------------------------------- */

/* One pass over all segments. */
struct scan {
    struct wal *wal;
    struct storage_file *file;
    uint64_t salt; /* of the segment: groups of its predecessor in the same blocks have another */
    uint64_t offset; /* of the next group */
    uint64_t last;   /* of the last one */
    struct buf bytes;
};

/* Reads the group at the offset into bytes; *valid false when it is not whole. */
static err_t read_group(struct scan *s, struct wal_group_header *header, bool *valid)
{
    ASSERT(s->offset % WAL_ALIGN == 0 && s->offset >= WAL_ALIGN);
    uint8_t head[WAL_GROUP_HEADER];
    size_t got = 0;
    *valid = false;
    TRY(io_file_read_sync(s->file->io, s->offset, head, sizeof(head), &got));
    if (!wal_group_header_decode(head, got, s->salt, header) ||
        header->first_seq != s->wal->next_seq ||
        header->len > s->file->size - s->offset - WAL_GROUP_HEADER) {
        return ERR_OK;
    }
    buf_clear(&s->bytes);
    buf_reserve(&s->bytes, header->len);
    TRY(io_file_read_sync(s->file->io, s->offset + WAL_GROUP_HEADER, s->bytes.data, header->len,
                          &got));
    s->bytes.len = got;
    if (got != header->len) {
        return ERR_OK;
    }
    struct reader r = reader_of(s->bytes.data, got);
    struct wal_record record;
    for (uint32_t i = 0; i < header->records; i++) {
        if (!wal_record_decode(&r, s->salt, header->first_seq + i, &record)) {
            return ERR_OK;
        }
    }
    *valid = reader_left(&r) == 0;
    return ERR_OK;
}

/*
 * The group's checksums hold, so what the owner refuses now is damage of another kind: content that
 * makes no sense. It is an error, with the place.
 */
static err_t replay_group(struct scan *s, const struct wal_group_header *header)
{
    ASSERT(header->records > 0 && header->len == s->bytes.len);
    struct reader r = reader_of(s->bytes.data, s->bytes.len);
    struct wal_record record;
    ASSERT(header->first_seq == s->wal->next_seq);
    for (uint32_t i = 0; i < header->records; i++) {
        bool ok = wal_record_decode(&r, s->salt, header->first_seq + i, &record);
        ASSERT(ok);
        uint64_t at = s->offset + WAL_GROUP_HEADER + (uint64_t)(record.payload - s->bytes.data);
        ASSERT(record.payload >= s->bytes.data && record.len <= s->bytes.len);
        err_t err = s->wal->config.replay(s->wal->config.ctx, &record, s->file, at);
        if (err != ERR_OK) {
            return err_wrap(err, "%s: record at offset %llu", s->file->path,
                            (unsigned long long)at);
        }
    }
    return ERR_OK;
}

/* Is there a group of this segment behind a bad one? Then the bad one had been acknowledged. */
static err_t later_group(struct scan *s, bool *found)
{
    ASSERT(s->offset % WAL_ALIGN == 0);
    *found = false;
    for (uint64_t at = s->offset + WAL_ALIGN; at + WAL_GROUP_HEADER <= s->file->size && !*found;
         at += WAL_ALIGN) {
        uint8_t head[WAL_GROUP_HEADER];
        struct wal_group_header header;
        size_t got = 0;
        TRY(io_file_read_sync(s->file->io, at, head, sizeof(head), &got));
        *found = wal_group_header_decode(head, got, s->salt, &header) &&
                 header.first_seq > s->wal->next_seq;
    }
    return ERR_OK;
}

/*
 * The groups of one segment, up to stop_seq: where its successor begins. What stands behind that is
 * the write of a process that was fenced off.
 */
static err_t replay_segment(struct scan *s, uint64_t stop_seq)
{
    ASSERT(s->file->number > 0);
    s->offset = WAL_ALIGN;
    s->last = WAL_ALIGN;
    while (s->wal->next_seq < stop_seq && s->offset < s->file->size) {
        struct wal_group_header header;
        bool valid = false;
        bool found = false;
        TRY(read_group(s, &header, &valid));
        if (!valid) {
            TRY(later_group(s, &found));
            if (found || stop_seq != UINT64_MAX) {
                return corrupt(s->file, s->offset, "damaged commit group");
            }
            break;
        }
        TRY(replay_group(s, &header));
        s->wal->next_seq += header.records;
        s->last = s->offset;
        s->offset += wal_group_extent(header.len);
        ASSERT(s->last < s->offset);
    }
    if (stop_seq != UINT64_MAX && s->wal->next_seq != stop_seq) {
        return corrupt(s->file, s->offset, "records are missing");
    }
    return ERR_OK;
}

/* ---- segments -------------------------------------------------------------------------------- */

/* Writes the same bytes again, so that they are certain to be dirty and reach the disk. */
static err_t rewrite(struct scan *s, uint64_t from, uint64_t to)
{
    size_t got = 0;
    ASSERT(from < to && from % WAL_ALIGN == 0 && to % WAL_ALIGN == 0);
    buf_clear(&s->bytes);
    buf_reserve(&s->bytes, to - from);
    TRY(io_file_read_sync(s->file->io, from, s->bytes.data, to - from, &got));
    /* The padding of the last group may be missing. */
    memset(s->bytes.data + got, 0, to - from - got);
    return io_file_write_sync(s->file->io, from, s->bytes.data, to - from);
}

/*
 * The end of the last segment. A torn tail was never acknowledged and is cut off. What stands
 * before it may have been written, and read by us just now, without being on the disk: the process
 * that wrote it was killed before its sync, or its sync failed and the kernel holds the pages for
 * clean. So the header and the last group, the only ones that can be concerned, are written again,
 * with the same bytes, and synced, before anybody relies on them.
 */
static err_t settle_tail(struct scan *s)
{
    uint64_t size = 0;
    ASSERT(s->last <= s->offset && s->offset >= WAL_ALIGN);
    TRY(io_file_size_sync(s->file->io, &size));
    if (size > s->offset) {
        LOG_INFO("storage", "cut off a write that was never acknowledged",
                 LOG_STR("path", s->file->path), LOG_U64("offset", s->offset),
                 LOG_U64("bytes", size - s->offset));
        TRY(io_file_truncate_sync(s->file->io, s->offset));
    }
    TRY(rewrite(s, 0, WAL_ALIGN));
    if (s->offset > s->last) {
        TRY(rewrite(s, s->last, s->offset));
    }
    TRY(io_file_sync_sync(s->file->io));
    s->file->size = s->offset;
    return io_dir_sync_sync(s->wal->config.loop, s->wal->dir);
}

/* The sequence and the context begin with the oldest header: what came before is in parts. */
static err_t replay_all(struct wal *wal, const struct wal_segment_header *headers)
{
    ASSERT(wal->segments_len > 0 && wal->config.context != NULL);
    struct scan s = {.wal = wal};
    err_t err = ERR_OK;
    for (size_t i = 0; i < wal->segments_len && err == ERR_OK; i++) {
        bool last = i + 1 == wal->segments_len;
        s.file = wal->segments[i].file;
        s.salt = headers[i].salt;
        if (i == 0) {
            wal->next_seq = headers[0].first_seq;
            *wal->config.context = headers[0].context;
        }
        err = replay_segment(&s, last ? UINT64_MAX : headers[i + 1].first_seq);
        if (err == ERR_OK && last) {
            err = settle_tail(&s);
        } else if (err == ERR_OK) {
            s.file->size = s.offset;
        }
    }
    buf_free(&s.bytes);
    return err;
}

/* Drops a segment whose creation was torn: it cannot hold a group. */
static err_t drop_torn(struct wal *wal, struct storage_file *file)
{
    if (file->size > WAL_ALIGN) {
        err_t err = corrupt(file, 0, "damaged segment header");
        storage_file_unref(file);
        return err;
    }
    LOG_INFO("storage", "deleted a segment without a header", LOG_STR("path", file->path));
    file->obsolete = true;
    storage_file_unref(file);
    return io_dir_sync_sync(wal->config.loop, wal->dir);
}

/* Opens segments from the newest down to the oldest that is needed; headers in the same order. */
static err_t open_all(struct wal *wal, const struct found *found,
                      struct wal_segment_header *headers)
{
    uint64_t oldest = 0;
    size_t kept = 0;
    for (size_t i = found->numbers_len; i-- > 0;) {
        struct storage_file *file = NULL;
        bool valid = false;
        TRY(open_segment(wal, found->numbers[i], &file));
        if (kept > 0 && file->number < oldest) {
            file->obsolete = true; /* its deletion was not durable */
            storage_file_unref(file);
            continue;
        }
        err_t err = read_header(wal, file, &headers[i], &valid);
        if (err != ERR_OK) {
            storage_file_unref(file);
            return err;
        }
        if (!valid && i + 1 == found->numbers_len) {
            TRY(drop_torn(wal, file));
            continue;
        }
        struct wal_segment *segment = VEC_PUSH(wal, segments);
        segment->file = file;
        if (!valid) {
            return corrupt(file, 0, "damaged segment header");
        }
        segment->first_seq = headers[i].first_seq;
        oldest = kept == 0 ? headers[i].oldest : oldest;
        kept++;
    }
    if (kept > 0 && (wal->segments[kept - 1].file->number != oldest ||
                     wal->segments[0].file->number - oldest + 1 != kept)) {
        return err_new(ERR_CORRUPT, "%s: segments are missing between %016llx and %016llx",
                       wal->dir, (unsigned long long)oldest,
                       (unsigned long long)wal->segments[0].file->number);
    }
    return ERR_OK;
}

/* open_all found them newest first. */
static void reverse(struct wal *wal)
{
    for (size_t i = 0, j = wal->segments_len; i + 1 < j; i++) {
        j--;
        struct wal_segment swap = wal->segments[i];
        wal->segments[i] = wal->segments[j];
        wal->segments[j] = swap;
    }
}

/* An empty directory is a new log: sequences begin at 1, so that 0 can mean none. */
err_t wal_recover(struct wal *wal)
{
    struct found found = {0};
    err_t err = io_dir_list_sync(wal->config.loop, wal->dir, note_segment, &found);
    struct wal_segment_header *headers = mem_zalloc((found.numbers_len + 1) * sizeof(*headers));
    wal->next_seq = 1;
    wal->next_number = 1;
    if (err == ERR_OK && found.numbers_len > 0) {
        /* Numbers are not used twice, not even a torn segment's. */
        wal->next_number = found.numbers[found.numbers_len - 1] + 1;
        err = open_all(wal, &found, headers);
        reverse(wal);
    }
    if (err == ERR_OK && wal->segments_len > 0) {
        size_t first = 0;
        while (found.numbers[first] != wal->segments[0].file->number) {
            first++;
        }
        wal->next_number = wal->segments[wal->segments_len - 1].file->number + 1;
        err = replay_all(wal, headers + first);
    }
    free(headers);
    free(found.numbers);
    return err;
}
