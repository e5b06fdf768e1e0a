/*
 * Writing the log: see wal.h for its layout. One group is in flight at a time: its write, then its
 * sync, then the answers. Records that arrive meanwhile gather in a list of groups (group commit),
 * each of at most WAL_GROUP_TARGET bytes unless one record is longer.
 *
 * The machine, on the worker's loop; nothing else touches a struct wal:
 *
 *     IDLE -> [HEADER_WRITE -> HEADER_SYNC ->] GROUP_WRITE -> GROUP_SYNC -> ANSWER -> IDLE
 *                \____________________ no space ____________________/ -> REPAIR -> ANSWER -> IDLE
 *                \____________________ any other error _____________/ -> failed, for ever
 *
 * Entry points: wal_begin and wal_end gather a record, kick() sends a group on its way, answer()
 * tells the owners of its records. An owner is told exactly once, from the loop and never from
 * inside wal_end, in the order of wal_end: so uppers can follow answers.
 */
#include "core/storage/wal_internal.h"

#include "core/base/log.h"

enum { REPAIR_RETRY_US = 100000 };

static void kick(struct wal *wal);

/*
 * Numbers in hexadecimal with leading zeros: the order of names is the order of numbers. free() it.
 */
char *wal_segment_path(const struct wal *wal, uint64_t number)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%016llx.wal", wal->dir, (unsigned long long)number);
    buf_append_byte(&path, '\0');
    return (char *)path.data;
}

/* Empties a group and leaves room for its header, which is known only when it is written. */
static void group_reset(struct wal_group *group)
{
    buf_clear(&group->bytes);
    if (group->bytes.cap > 2 * (size_t)WAL_GROUP_TARGET) {
        buf_free(&group->bytes); /* one huge record must not cost its memory for ever */
    }
    buf_reserve(&group->bytes, WAL_GROUP_HEADER);
    memset(group->bytes.data, 0, WAL_GROUP_HEADER);
    group->bytes.len = WAL_GROUP_HEADER;
    group->next = NULL;
    group->records = 0;
    group->first = NULL;
    group->last = &group->first;
}

static struct wal_group *group_new(void)
{
    struct wal_group *group = MEM_NEW(struct wal_group);
    group_reset(group);
    return group;
}

static void group_free(struct wal_group *group)
{
    ASSERT(group->first == NULL);
    buf_free(&group->bytes);
    free(group);
}

/* The group that has waited longest becomes the one in flight, whose place is empty. */
static void take_waiting(struct wal *wal)
{
    struct wal_group *empty = wal->flying;
    ASSERT(empty->records == 0 && empty->first == NULL && wal->waiting != NULL);
    wal->flying = wal->waiting;
    if (wal->waiting == wal->gather) {
        ASSERT(wal->begun_at == 0); /* a record under construction stays where it was begun */
        wal->waiting = empty;
        wal->gather = empty;
        return;
    }
    wal->waiting = wal->waiting->next;
    wal->flying->next = NULL;
    group_free(empty);
    ASSERT(wal->waiting != NULL);
}

/* ---- answers --------------------------------------------------------------------------------- */

/*
 * Answers every commit of the group in flight, in order; err (owned) NULL when it is durable.
 * Owners may begin new records from inside done: these go to the groups that wait, and nothing is
 * sent on its way before all of this group are answered (the state is not IDLE).
 */
static void answer(struct wal *wal, err_t err)
{
    ASSERT(wal->flying->next == NULL && wal->waiting != NULL);
    struct wal_group *group = wal->flying;
    struct wal_commit *commit = group->first;
    uint64_t first_seq = wal->next_seq - group->records;
    struct wal_segment *segment =
        wal->segments_len > 0 ? &wal->segments[wal->segments_len - 1] : NULL;
    uint64_t base = 0;
    ASSERT(group->bytes.len >= WAL_GROUP_HEADER && wal->next_seq >= group->records);
    if (err == ERR_OK) {
        ASSERT(segment != NULL && wal->writable);
        base = segment->file->size - wal_group_extent(group->bytes.len - WAL_GROUP_HEADER);
    }
    group->first = NULL;
    group->last = &group->first;
    while (commit != NULL) {
        struct wal_commit *next = commit->next;
        if (err == ERR_OK) {
            commit->file = segment->file;
            commit->offset = base + commit->at;
            commit->seq = first_seq + commit->index;
        }
        commit->done(commit, err_copy(err));
        commit = next;
    }
    err_free(err);
    ASSERT(wal->flying == group && wal->pending >= group->bytes.len - WAL_GROUP_HEADER);
    wal->pending -= group->bytes.len - WAL_GROUP_HEADER;
    group_reset(group);
}

/*
 * Answers whatever there is with this error (owned), in order. Owners may add records meanwhile;
 * groups begun since are left alone.
 */
static void answer_all(struct wal *wal, err_t err)
{
    const struct wal_group *last = wal->gather;
    bool more = true;
    ASSERT(err != ERR_OK && wal->begun_at == 0);
    answer(wal, err_copy(err));
    while (more) {
        more = wal->waiting != last;
        take_waiting(wal);
        answer(wal, err_copy(err));
    }
    err_free(err);
}

/* The log ends here: nothing is acknowledged any more, what waits is told why. */
static void fail(struct wal *wal, err_t err)
{
    ASSERT(err != ERR_OK && wal->failed == NULL);
    LOG_ERROR("storage", "the log refuses further writes", LOG_STR("dir", wal->dir), LOG_ERR(err));
    wal->failed = err;
    wal->state = WAL_IDLE;
    answer_all(wal, err_copy(err));
    wal->config.failed(wal->config.ctx, err);
}

/* Told once when it becomes full and once when a group was durable again, not for every group. */
static void set_full(struct wal *wal, bool full)
{
    ASSERT(wal->config.full != NULL);
    if (wal->full != full) {
        wal->full = full;
        wal->config.full(wal->config.ctx, full);
    }
}

/* ---- a full disk ----------------------------------------------------------------------------- */

/*
 * After a write or sync that found no space, part of the group or all of it may be on the disk. It
 * is cut off, durably, before anybody is told that nothing was appended: a crash must not replay
 * what was refused.
 */
static void repair(struct wal *wal)
{
    ASSERT(wal->flying->records > 0 && wal->failed == NULL);
    ASSERT(wal->state == WAL_REPAIR);
    err_t err = ERR_OK;
    if (wal->writable) {
        struct storage_file *file = wal->segments[wal->segments_len - 1].file;
        err = io_file_truncate_sync(file->io, file->size);
        if (err == ERR_OK) {
            err = io_file_sync_sync(file->io);
        }
    }
    if (err != ERR_OK && err_code(err) == ERR_NO_SPACE) {
        err_free(err);
        io_timer_start(wal->config.loop, &wal->timer,
                       io_now_us(wal->config.loop) + REPAIR_RETRY_US);
        return;
    }
    err_t why = wal->group_err;
    ASSERT(why != ERR_OK);
    wal->group_err = NULL;
    if (err != ERR_OK) {
        err_free(why);
        fail(wal, err_wrap(err, "cutting off a failed write"));
        return;
    }
    wal->state = WAL_ANSWER;
    ASSERT(wal->flying->records > 0);
    answer(wal, why);
    wal->state = WAL_IDLE;
    kick(wal);
}

static void repair_timer(struct io_timer *timer)
{
    repair(CONTAINER_OF(timer, struct wal, timer));
}

/*
 * The group in flight, or the segment made for it, could not be written. Owns err. A lack of space
 * is the one error after which the log goes on: the file system says so before it has promised
 * anything. After any other error, and after a failed sync above all, nobody knows what is on the
 * disk: Linux marks the pages clean and reports the error once.
 */
static void group_failed(struct wal *wal, err_t err)
{
    ASSERT(err != ERR_OK && wal->group_err == ERR_OK);
    ASSERT(wal->flying->records > 0);
    if (wal->fresh != NULL) {
        wal->fresh->obsolete = true;
        storage_file_unref(wal->fresh);
        wal->fresh = NULL;
    }
    if (err_code(err) != ERR_NO_SPACE) {
        fail(wal, err_wrap(err, "writing the log"));
        return;
    }
    wal->state = WAL_REPAIR;
    wal->group_err = err;
    set_full(wal, true);
    repair(wal);
}

/* ---- groups ---------------------------------------------------------------------------------- */

/*
 * A newer owner of the directory has replaced the epoch file before it read the log. Whatever we
 * sync before that it has read, and whatever after that we do not acknowledge.
 */
static err_t check_epoch(struct wal *wal)
{
    ASSERT(wal->epoch_path != NULL);
    struct io_stat st;
    err_t err = io_stat_sync(wal->config.loop, wal->epoch_path, &st);
    if (err != ERR_OK && err_code(err) != ERR_NOT_FOUND) {
        return err;
    }
    if (err == ERR_OK && st.inode == wal->epoch_inode && st.mtime_ns == wal->epoch_mtime_ns) {
        return ERR_OK;
    }
    err_free(err);
    return err_new(ERR_FENCED, "another process with a newer epoch took over %s", wal->dir);
}

/* The group is durable. Only now, and only while the directory is still ours, does the log grow. */
static void group_synced(struct io_op *op, err_t err, size_t result)
{
    struct wal *wal = CONTAINER_OF(op, struct wal, op);
    ASSERT(wal->state == WAL_GROUP_SYNC);
    if (err != ERR_OK) {
        group_failed(wal, err);
        return;
    }
    err = check_epoch(wal);
    if (err != ERR_OK) {
        fail(wal, err);
        return;
    }
    struct wal_group *group = wal->flying;
    uint64_t extent = wal_group_extent(group->bytes.len - WAL_GROUP_HEADER);
    wal->segments[wal->segments_len - 1].file->size += extent;
    ASSERT(wal->segments[wal->segments_len - 1].file->size % WAL_ALIGN == 0);
    wal->next_seq += group->records;
    if (wal->config.sync_seconds != NULL) {
        metric_observe_us(wal->config.sync_seconds,
                          (io_mono_ns(wal->config.loop) - wal->sync_began_ns) / 1000);
        metric_add(wal->config.commits, 1);
        metric_add(wal->config.bytes, extent);
    }
    wal->state = WAL_ANSWER;
    set_full(wal, false);
    answer(wal, ERR_OK);
    wal->state = WAL_IDLE;
    kick(wal);
}

/* Written is not durable: nobody is told anything yet. */
static void group_written(struct io_op *op, err_t err, size_t result)
{
    struct wal *wal = CONTAINER_OF(op, struct wal, op);
    ASSERT(wal->state == WAL_GROUP_WRITE);
    if (err != ERR_OK) {
        group_failed(wal, err);
        return;
    }
    wal->state = WAL_GROUP_SYNC;
    wal->op = (struct io_op){.done = group_synced};
    io_file_sync(wal->segments[wal->segments_len - 1].file->io, &wal->op);
}

/* Fills in what depends on the segment and the sequence: headers and checksums. */
static void group_seal(struct wal *wal, struct wal_group *group)
{
    ASSERT(group->records > 0 && group->bytes.len > WAL_GROUP_HEADER);
    uint8_t *data = group->bytes.data;
    size_t at = WAL_GROUP_HEADER;
    for (uint32_t i = 0; i < group->records; i++) {
        uint32_t kind;
        uint64_t len;
        memcpy(&kind, data + at + 4, 4);
        memcpy(&len, data + at + 8, 8);
        wal_record_header_encode(wal->salt, wal->next_seq + i, kind, data + at + WAL_RECORD_HEADER,
                                 len, data + at);
        at += WAL_RECORD_HEADER + len;
    }
    ASSERT(at == group->bytes.len);
    struct wal_group_header header = {
        .first_seq = wal->next_seq, .len = at - WAL_GROUP_HEADER, .records = group->records};
    wal_group_header_encode(&header, wal->salt, data);
}

/*
 * The padding makes the next group begin at a page of its own: a torn write of that one cannot
 * damage this one.
 */
static void write_group(struct wal *wal)
{
    struct wal_group *group = wal->flying;
    ASSERT(wal->writable && wal->state == WAL_IDLE && group->records > 0);
    group_seal(wal, group);
    size_t len = group->bytes.len;
    size_t extent = wal_group_extent(len - WAL_GROUP_HEADER);
    buf_reserve(&group->bytes, extent - len);
    memset(group->bytes.data + len, 0, extent - len);
    struct storage_file *file = wal->segments[wal->segments_len - 1].file;
    ASSERT(file->size % WAL_ALIGN == 0);
    ASSERT(extent % WAL_ALIGN == 0 && extent >= len);
    wal->state = WAL_GROUP_WRITE;
    wal->sync_began_ns = io_mono_ns(wal->config.loop);
    wal->op = (struct io_op){.done = group_written};
    io_file_write(file->io, file->size, group->bytes.data, extent, &wal->op);
}

/* ---- segments -------------------------------------------------------------------------------- */

/* The first segment something refers to; with writing: the one being written counts as needed. */
static size_t first_needed(const struct wal *wal)
{
    size_t i = 0;
    while (i < wal->segments_len && wal->segments[i].file->refs == 1 &&
           !(wal->writable && i + 1 == wal->segments_len)) {
        i++;
    }
    return i;
}

/*
 * Only after the header that names a later oldest segment is durable: else a crash would find a gap
 * in the numbers, which is how recovery notices a lost segment.
 */
static void drop_older(struct wal *wal, uint64_t oldest)
{
    ASSERT(oldest > 0);
    size_t n = 0;
    while (n < wal->segments_len && wal->segments[n].file->number < oldest) {
        struct storage_file *file = wal->segments[n].file;
        ASSERT(file->refs == 1 && !file->obsolete); /* nobody but the log knows it */
        file->obsolete = true;
        storage_file_unref(file);
        n++;
    }
    memmove(wal->segments, wal->segments + n, (wal->segments_len - n) * sizeof(wal->segments[0]));
    wal->segments_len -= n;
}

/* The segment exists once its name is durable, too. Only then do groups follow. */
static void header_synced(struct io_op *op, err_t err, size_t result)
{
    struct wal *wal = CONTAINER_OF(op, struct wal, op);
    ASSERT(wal->state == WAL_HEADER_SYNC);
    if (err == ERR_OK) {
        err = io_dir_sync_sync(wal->config.loop, wal->dir);
    }
    if (err != ERR_OK) {
        group_failed(wal, err);
        return;
    }
    ASSERT(wal->fresh != NULL && wal->fresh_header.first_seq == wal->next_seq);
    struct wal_segment *segment = VEC_PUSH(wal, segments);
    segment->file = wal->fresh;
    segment->file->size = WAL_ALIGN;
    segment->first_seq = wal->fresh_header.first_seq;
    wal->fresh = NULL;
    wal->writable = true;
    wal->salt = wal->fresh_header.salt;
    wal->next_number = wal->fresh_header.number + 1;
    drop_older(wal, wal->fresh_header.oldest);
    ASSERT(wal->segments_len > 0);
    wal->state = WAL_IDLE;
    write_group(wal);
}

static void header_written(struct io_op *op, err_t err, size_t result)
{
    ASSERT(err != ERR_OK || result == WAL_ALIGN);
    struct wal *wal = CONTAINER_OF(op, struct wal, op);
    ASSERT(wal->state == WAL_HEADER_WRITE);
    if (err != ERR_OK) {
        group_failed(wal, err);
        return;
    }
    wal->state = WAL_HEADER_SYNC;
    wal->op = (struct io_op){.done = header_synced};
    io_file_sync(wal->fresh->io, &wal->op);
}

/*
 * The header is durable before the first group follows, so that a damaged header with groups behind
 * it is damage, not a torn creation.
 */
static void begin_segment(struct wal *wal)
{
    ASSERT(wal->state == WAL_IDLE && wal->fresh == NULL);
    uint64_t number = wal->next_number;
    /* A file a failed attempt of ours left behind is used again; anybody else's is an error. */
    int how = number == wal->made_number ? IO_OPEN_TRUNCATE : IO_OPEN_EXCLUSIVE;
    char *path = wal_segment_path(wal, number);
    struct io_file *io = NULL;
    err_t err = io_file_open(wal->config.loop, path,
                             IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE | how, &io);
    if (err != ERR_OK) {
        free(path);
        group_failed(wal, err);
        return;
    }
    wal->made_number = number;
    wal->fresh = storage_file_new(wal->config.loop, path, io, number, 0);
    free(path);
    size_t needed = first_needed(wal);
    ASSERT(needed <= wal->segments_len);
    /* The segment filled last is not being written to any more. */
    if (wal->writable && needed + 1 == wal->segments_len &&
        wal->segments[needed].file->refs == 1) {
        needed++;
    }
    struct wal_segment_header *header = &wal->fresh_header;
    *header = (struct wal_segment_header){
        .number = number,
        .oldest = needed < wal->segments_len ? wal->segments[needed].file->number : number,
        .first_seq = wal->next_seq,
        .epoch = wal->config.epoch,
        .salt = io_random_u64(io_loop_env(wal->config.loop)),
        .context = *wal->config.context};
    wal_segment_header_encode(header, wal->page);
    wal->state = WAL_HEADER_WRITE;
    wal->op = (struct io_op){.done = header_written};
    io_file_write(wal->fresh->io, 0, wal->page, WAL_ALIGN, &wal->op);
}

/* A segment is ended early when that frees at least two older ones. */
static bool roll_due(const struct wal *wal)
{
    ASSERT(wal->writable && wal->segments_len > 0);
    const struct storage_file *file = wal->segments[wal->segments_len - 1].file;
    return file->size >= wal->config.segment_bytes ||
           (first_needed(wal) >= 2 && file->size > 16 * WAL_ALIGN);
}

/* Sends the next group on its way, when none is and there is one. */
static void kick(struct wal *wal)
{
    bool open = wal->waiting == wal->gather && wal->begun_at != 0;
    if (wal->state != WAL_IDLE || wal->failed != NULL || wal->waiting->records == 0 || open) {
        return;
    }
    take_waiting(wal);
    if (!wal->writable || roll_due(wal)) {
        begin_segment(wal);
    } else {
        write_group(wal);
    }
}

/* ---- public ---------------------------------------------------------------------------------- */

struct buf *wal_begin(struct wal *wal, size_t len)
{
    ASSERT(wal->begun_at == 0 && len <= WAL_RECORD_MAX);
    struct wal_group *group = wal->gather;
    static const uint8_t room[WAL_RECORD_HEADER];
    if (group->records > 0 && group->bytes.len + sizeof(room) + len > WAL_GROUP_TARGET) {
        group->next = group_new();
        group = group->next;
        wal->gather = group;
    }
    wal->begun_at = group->bytes.len;
    ASSERT(wal->begun_at >= WAL_GROUP_HEADER && group->next == NULL);
    buf_reserve(&group->bytes, sizeof(room) + len);
    buf_append(&group->bytes, room, sizeof(room));
    return &group->bytes;
}

/* Records that came after the failure. */
static void late_failure(struct io_timer *timer)
{
    struct wal *wal = CONTAINER_OF(timer, struct wal, timer);
    ASSERT(wal->failed != NULL);
    answer_all(wal, err_copy(wal->failed));
}

/*
 * The checksum, and all else that depends on the segment and the sequence, is filled in by
 * group_seal: it is not known yet where the record will lie.
 */
void wal_end(struct wal *wal, enum wal_kind kind, struct wal_commit *commit)
{
    ASSERT(wal->begun_at >= WAL_GROUP_HEADER && kind > 0 && kind < WAL_KIND_MAX);
    ASSERT(commit == NULL || commit->done != NULL);
    struct wal_group *group = wal->gather;
    ASSERT(group->next == NULL && group->bytes.len - WAL_GROUP_HEADER <= WAL_GROUP_MAX);
    uint32_t kind32 = kind;
    uint64_t len = group->bytes.len - wal->begun_at - WAL_RECORD_HEADER;
    ASSERT(len <= WAL_RECORD_MAX);
    memcpy(group->bytes.data + wal->begun_at + 4, &kind32, 4);
    memcpy(group->bytes.data + wal->begun_at + 8, &len, 8);
    if (commit != NULL) {
        commit->next = NULL;
        commit->index = group->records;
        commit->at = wal->begun_at + WAL_RECORD_HEADER;
        *group->last = commit;
        group->last = &commit->next;
    }
    group->records++;
    wal->pending += WAL_RECORD_HEADER + len;
    wal->begun_at = 0;
    if (wal->failed != NULL) {
        /* Answered from the loop, like everything. */
        wal->timer.fire = late_failure;
        io_timer_start(wal->config.loop, &wal->timer, io_now_us(wal->config.loop));
        return;
    }
    kick(wal);
}

/* What callers bound their memory with. */
size_t wal_pending(const struct wal *wal)
{
    return wal->pending;
}

uint64_t wal_durable_seq(const struct wal *wal)
{
    return wal->next_seq;
}

const struct err *wal_failed(const struct wal *wal)
{
    return wal->failed;
}

bool wal_full(const struct wal *wal)
{
    return wal->full;
}

void wal_segments(const struct wal *wal, size_t *segments, size_t *unneeded, uint64_t *bytes)
{
    *segments = wal->segments_len;
    *unneeded = first_needed(wal);
    *bytes = 0;
    for (size_t i = 0; i < wal->segments_len; i++) {
        *bytes += wal->segments[i].file->size;
    }
}

uint64_t wal_newest(const struct wal *wal)
{
    ASSERT(!wal->writable || wal->segments_len > 0);
    return wal->segments_len > 0 ? wal->segments[wal->segments_len - 1].file->number : 0;
}

/* The newest segment is never asked to be let go of: it is being written. */
uint64_t wal_oldest_needed(const struct wal *wal)
{
    size_t needed = first_needed(wal);
    return needed + 1 < wal->segments_len ? wal->segments[needed].file->number : 0;
}

err_t wal_open(const struct wal_config *config, struct wal **out)
{
    ASSERT(config->segment_bytes > WAL_ALIGN && config->replay != NULL);
    struct io_stat st;
    TRY(io_stat_sync(config->loop, config->epoch_path, &st));
    struct wal *wal = MEM_NEW(struct wal);
    wal->config = *config;
    wal->dir = mem_strdup(config->dir);
    wal->epoch_path = mem_strdup(config->epoch_path);
    wal->epoch_inode = st.inode;
    wal->epoch_mtime_ns = st.mtime_ns;
    wal->page = part_alloc(WAL_ALIGN);
    wal->timer.fire = repair_timer;
    wal->flying = group_new();
    wal->gather = group_new();
    wal->waiting = wal->gather;
    err_t err = wal_recover(wal);
    if (err != ERR_OK) {
        wal_free(wal);
        return err;
    }
    *out = wal;
    return ERR_OK;
}

void wal_free(struct wal *wal)
{
    if (wal == NULL) {
        return;
    }
    io_timer_cancel(wal->config.loop, &wal->timer);
    /* Closing first: the kernel may still read the group's bytes. Entries keep references, so the
     * last one may go much later. */
    storage_file_unref(wal->fresh);
    for (size_t i = 0; i < wal->segments_len; i++) {
        storage_file_shut(wal->segments[i].file);
        storage_file_unref(wal->segments[i].file);
    }
    wal->segments_len = 0;
    wal->state = WAL_ANSWER;
    answer_all(wal, err_new(ERR_CANCELLED, "storage is closing"));
    ASSERT(wal->waiting == wal->gather && wal->pending == 0);
    group_free(wal->flying);
    group_free(wal->gather);
    err_free(wal->group_err);
    err_free(wal->failed);
    free(wal->segments);
    free(wal->page);
    free(wal->dir);
    free(wal->epoch_path);
    free(wal);
}
