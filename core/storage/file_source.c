/*
 * Following files: see file_source.h. A look compares every file with what was ingested of it:
 *
 *   grown               the new complete records are read, parsed and committed;
 *   same                nothing, or after a touch the ingested bytes are verified;
 *   replaced or shrunk  or found to differ: rebuild (file_rebuild.c).
 *
 * The state of a file (offset, checksums) is committed in the log record of its rows. Whatever
 * happens in between, work starts again from what is durable: that is why each line is ingested
 * once.
 *
 *     IDLE -look-> READ | VERIFY -> (READ) -> COMMIT -> READ ... -> IDLE
 *             \-> OLD -> NEW -> EMIT -> COMMIT -> IDLE                       (rebuild)
 *     COMMIT -no space-> RETRY -> IDLE;   sealed, failed, dropped: STOPPED
 *
 * One timer carries the source from turn to turn (poll, retry, next piece), one op is its only
 * read; a commit under way is the log's. All on the worker's loop, each turn bounded.
 *
 * What the user sees: source_status is told when a file cannot be read (STALLED, with reason and
 * hint) and when all is well again. A refused content is remembered by inode, size and mtime, and
 * is not looked at again before one of them changes.
 */
#include "core/storage/file_source_internal.h"

#include "core/base/hash.h"
#include "core/base/log.h"

#include <fnmatch.h>
#include <stdio.h>

static void turn_timer(struct io_timer *timer);
static void look(struct file_source *source);
static void read_more(struct file_source *source);

/* ---- small things ---------------------------------------------------------------------------- */

/* What the shell would expand. */
static bool is_glob(const char *path)
{
    return strpbrk(path, "*?[") != NULL;
}

/* "/a/b" of "/a/b/c", "." of "c": free() it. */
static char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return mem_strdup(".");
    }
    return slash == path ? mem_strdup("/") : mem_strndup(path, (size_t)(slash - path));
}

void source_status(struct file_source *source, enum storage_status status, const char *reason,
                   const char *hint)
{
    ASSERT(reason != NULL && hint != NULL);
    struct storage_shard *shard = source->shard;
    bool same = shard->status == status && source->status_text != NULL &&
                strcmp(source->status_text, reason) == 0;
    if (same || shard->dropped) {
        return;
    }
    free(source->status_text);
    source->status_text = mem_strdup(reason);
    storage_report(shard, status, reason, hint);
}

void source_next_turn(struct file_source *source, uint64_t delay_us)
{
    io_timer_start(source->loop, &source->timer, io_now_us(source->loop) + delay_us);
}

/*
 * The watch tells that something happened, not what: look again. Watches merge and invent changes:
 * nothing is concluded from one.
 */
static void changed(void *arg)
{
    struct file_source *source = arg;
    source->look_again = true;
    if (source->phase == SOURCE_IDLE) {
        source_next_turn(source, 0);
    }
}

/*
 * again: there may be more to do, look at once; else when something changes, or the poll timer
 * fires.
 */
void source_idle(struct file_source *source, bool again)
{
    ASSERT(!source->commit_live && source->reader.io == NULL);
    source->phase = SOURCE_IDLE;
    source->looked = source->looked || !again;
    source_next_turn(source, again || source->look_again ? 0 : SOURCE_POLL_US);
    if (source->looked) {
        storage_source_looked(source->shard);
    }
}

bool file_source_looked(const struct file_source *source)
{
    return source->looked || source->phase == SOURCE_RETRY || source->phase == SOURCE_STOPPED ||
           source->shard->status == STORAGE_STALLED;
}

/* What a refused content is recognised by. Never zero, which strmap_get gives for none. */
static uint64_t fingerprint(const struct io_stat *st)
{
    ASSERT(st != NULL);
    return hash_combine(hash_combine(st->inode, st->size), st->mtime_ns) | 1;
}

void source_refuse(struct file_source *source, const char *path, err_t err)
{
    ASSERT(err != ERR_OK);
    struct io_stat st = {0};
    err_t stat_err = io_stat_sync(source->loop, path, &st);
    err_free(stat_err); /* a file that went away is looked at anew when it is back */
    strmap_put(&source->refused, path, (void *)(uintptr_t)fingerprint(&st));
    source_status(source, STORAGE_STALLED, err_message(err), err_hint_get(err));
    err_free(err);
}

/* ---- which files ----------------------------------------------------------------------------- */

/* One listing of the directory of a pattern. */
struct listing {
    const struct file_source *source;
    const char *dir;
    const char *pattern;
    char **path;
    size_t path_len;
    size_t path_cap;
    size_t matched;
};

/* Every worker lists all files and takes its share, without asking the others. */
static bool ours(const struct file_source *source, const char *path)
{
    ASSERT(source->shard->storage->config.workers > 0);
    const struct storage_config *config = &source->shard->storage->config;
    return hash_bytes(path, strlen(path)) % config->workers == config->worker;
}

/*
 * As the shell: a leading dot is not matched by a wildcard. Paths are as the user would write them.
 */
static err_t list_one(void *arg, const char *name)
{
    struct listing *l = arg;
    if (fnmatch(l->pattern, name, FNM_PERIOD) != 0) {
        return ERR_OK;
    }
    l->matched++;
    struct buf path = {0};
    bool here = strcmp(l->dir, ".") == 0 && strchr(l->source->shard->desc.path, '/') == NULL;
    buf_printf(&path, "%s%s%s", here ? "" : l->dir, here || strcmp(l->dir, "/") == 0 ? "" : "/",
               name);
    if (ours(l->source, buf_cstr(&path))) {
        *VEC_PUSH(l, path) = mem_strdup(buf_cstr(&path));
    }
    buf_free(&path);
    return ERR_OK;
}

void source_free_paths(char **paths, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        free(paths[i]);
    }
    free(paths);
}

/* A directory or file that is missing is an empty listing, not an error: it may come. */
err_t source_list(struct file_source *source, char ***paths, size_t *len, size_t *matched)
{
    const char *path = source->shard->desc.path;
    struct listing l = {.source = source};
    err_t err = ERR_OK;
    if (!source->glob) {
        struct io_stat st;
        err = io_stat_sync(source->loop, path, &st);
        if (err == ERR_OK) {
            l.matched = 1;
            if (ours(source, path)) {
                *VEC_PUSH(&l, path) = mem_strdup(path);
            }
        }
    } else {
        char *dir = directory_of(path);
        const char *slash = strrchr(path, '/');
        l.dir = dir;
        l.pattern = slash != NULL ? slash + 1 : path;
        err = io_dir_list_sync(source->loop, dir, list_one, &l);
        free(dir);
    }
    if (err != ERR_OK && err_code(err) == ERR_NOT_FOUND) {
        err_free(err);
        err = ERR_OK;
    }
    *paths = l.path;
    *len = l.path_len;
    *matched = l.matched;
    return err;
}

/* ---- reading one file ------------------------------------------------------------------------ */

void source_reader_close(struct file_source *source)
{
    struct source_reader *r = &source->reader;
    if (r->io != NULL) {
        io_file_close(r->io);
    }
    free(r->state.path);
    buf_free(&r->carry);
    *r = (struct source_reader){0};
}

err_t source_reader_open(struct file_source *source, const char *path, uint64_t offset)
{
    struct source_reader *r = &source->reader;
    struct io_stat st;
    ASSERT(r->io == NULL);
    r->state.path = mem_strdup(path);
    TRY(io_file_open(source->loop, path, IO_OPEN_READ, &r->io));
    TRY(io_file_stat_sync(r->io, &st));
    if (st.kind != IO_KIND_FILE) {
        return err_hint(err_new(ERR_INVALID, "%s is not a file", path),
                        "Put a file there: ingestion goes on by itself.");
    }
    r->state.inode = st.inode;
    r->state.size = st.size;
    r->state.mtime_ns = st.mtime_ns;
    r->state.offset = offset;
    ASSERT(r->carry.len == 0 && r->tail_len == 0);
    r->read_at = offset;
    return ERR_OK;
}

/*
 * Bytes [offset, offset + n) were ingested: moves offset and checksums on. The window before offset
 * is kept as bytes, because its checksum cannot be made from the one before.
 */
static void advance(struct source_reader *r, const uint8_t *data, size_t n)
{
    ASSERT(r->tail_len <= FILE_STATE_WINDOW);
    struct file_state *s = &r->state;
    if (s->offset < FILE_STATE_WINDOW) {
        uint64_t room = FILE_STATE_WINDOW - s->offset;
        s->head_crc = hash_crc32c(s->head_crc, data, n < room ? n : room);
    }
    s->crc = hash_crc32c(s->crc, data, n);
    s->offset += n;
    size_t keep = FILE_STATE_WINDOW - (n < FILE_STATE_WINDOW ? n : FILE_STATE_WINDOW);
    keep = keep < r->tail_len ? keep : r->tail_len;
    memmove(r->tail, r->tail + r->tail_len - keep, keep);
    size_t add = n < FILE_STATE_WINDOW ? n : FILE_STATE_WINDOW;
    memcpy(r->tail + keep, data + n - add, add);
    r->tail_len = keep + add;
    s->tail_crc = hash_crc32c(0, r->tail, r->tail_len);
}

/*
 * What is not a whole record yet stays in carry, and is not ingested: a writer may be in the middle
 * of a line.
 */
err_t source_reader_take(struct file_source *source, const uint8_t *data, size_t len)
{
    struct source_reader *r = &source->reader;
    buf_append(&r->carry, data, len);
    r->read_at += len;
    /* What is read once must be read to its very end. */
    r->end = source->shard->desc.tail ? len < SOURCE_READ_BYTES : len == 0;
    bool last = r->end && !source->shard->desc.tail;
    const struct rows_place place = {
        .path = r->state.path, .first = r->state.offset == 0, .lines = r->state.lines};
    size_t consumed = 0;
    uint64_t lines = 0;
    err_t err =
        rows_parse(&source->rows, &place, r->carry.data, r->carry.len, last, &consumed, &lines);
    ASSERT(consumed <= r->carry.len);
    if (consumed > 0) {
        advance(r, r->carry.data, consumed);
        buf_consume(&r->carry, consumed);
    }
    r->state.lines += lines;
    r->state.complete = last;
    return err;
}

/* Reads the windows at both ends of what was ingested; *same when they are as they were. */
static err_t check_windows(struct file_source *source, const struct file_state *known, bool *same)
{
    struct source_reader *r = &source->reader;
    ASSERT(known->offset > 0 && r->state.size >= known->offset);
    size_t window = known->offset < FILE_STATE_WINDOW ? known->offset : FILE_STATE_WINDOW;
    size_t got = 0;
    TRY(io_file_read_sync(r->io, 0, r->tail, window, &got));
    *same = got == window && hash_crc32c(0, r->tail, window) == known->head_crc;
    TRY(io_file_read_sync(r->io, known->offset - window, r->tail, window, &got));
    *same = *same && got == window && hash_crc32c(0, r->tail, window) == known->tail_crc;
    r->tail_len = window;
    return ERR_OK;
}

/* ---- committing ------------------------------------------------------------------------------ */

static void free_states(struct file_source *source)
{
    ASSERT(!source->commit_live);
    for (size_t i = 0; i < source->states_len; i++) {
        free(source->states[i].path);
    }
    source->states_len = 0;
}

/*
 * A change within the same tick of the file system's clock leaves the same mtime: a small file that
 * changed just now is verified once more.
 */
static void doubt_recent(const struct file_source *source, struct file_state *state)
{
    uint64_t now_ns = io_now_us(source->loop) * 1000;
    if (state->mtime_ns + SOURCE_RECENT_NS > now_ns && state->offset <= SOURCE_VERIFY_MAX &&
        !state->complete) {
        state->mtime_ns = 0;
    }
}

/* The commit did not come about: what was read is forgotten, the next look begins anew. */
static void commit_failed(struct file_source *source, struct storage_entry *entry, err_t err)
{
    bool full = err != ERR_OK && err_code(err) == ERR_NO_SPACE;
    bool cancelled = err != ERR_OK && err_code(err) == ERR_CANCELLED;
    entry_unref(entry);
    free_states(source);
    err_free(err); /* the log has told the host */
    source_reader_close(source);
    rows_reset(&source->rows);
    source->seal = false;
    if (source->phase != SOURCE_STOPPED) {
        source->phase = full ? SOURCE_RETRY : SOURCE_STOPPED;
        if (full) {
            source_next_turn(source, STORAGE_RETRY_US);
        }
    }
    if (!source->shard->dropped && !cancelled) {
        storage_source_looked(source->shard); /* whoever waits for the content need not wait now */
    }
    storage_release_shard(source->shard);
}

/*
 * Data first, then the state of the files, then the upper: a cursor that is woken by the upper
 * finds the data.
 */
static void committed(struct wal_commit *commit, err_t err)
{
    struct file_source *source = CONTAINER_OF(commit, struct file_source, commit);
    struct storage_shard *shard = source->shard;
    struct storage_entry *entry = source->entry;
    ASSERT(source->commit_live && shard->pending > 0);
    source->commit_live = false;
    source->entry = NULL;
    shard->pending--;
    if (err != ERR_OK || shard->dropped) {
        commit_failed(source, entry, err);
        return;
    }
    entry->file = storage_file_ref(commit->file);
    entry->seq = commit->seq;
    for (int s = 0; s < STREAMS; s++) {
        entry->blob[s].offset += commit->offset;
        metric_add(shard->storage->metrics.rows, entry->blob[s].rows);
    }
    uint64_t upper = entry->upper;
    ASSERT(upper > shard->upper || shard->upper == 0);
    shard_add_entry(shard, entry);
    for (size_t i = 0; i < source->states_len; i++) {
        doubt_recent(source, &source->states[i]);
        file_set_put(&source->files, &source->states[i]);
    }
    free_states(source);
    bool seal = source->seal;
    if (source->phase != SOURCE_STOPPED) {
        source->phase = SOURCE_READ;
        source_next_turn(source, 0);
    }
    if (seal) {
        shard->sealed = true;
        source->phase = SOURCE_STOPPED;
        io_timer_cancel(source->loop, &source->timer);
        source_status(source, STORAGE_RUNNING, "", "");
    }
    if (shard->status == STORAGE_STALLED && source->refused.len == 0) {
        source_status(source, STORAGE_RUNNING, "", ""); /* what was missing is there */
    }
    storage_publish(shard, seal ? FRONTIER_EMPTY : upper);
    storage_active(shard->storage);
    if (seal) {
        storage_source_looked(shard);
    }
}

/* The rows built, as one batch at the record's time. */
static void take_blob(struct rows_parser *rows, int stream, uint64_t time,
                      struct storage_blob *blob)
{
    struct batch_builder *b = rows->builder[stream];
    if (batch_builder_rows(b) == 0) {
        return;
    }
    size_t size = 0;
    ASSERT(stream < STREAMS);
    batch_builder_set_time(b, time);
    blob->rows = batch_builder_rows(b);
    blob->data = batch_builder_finish_new(b, &size);
    ASSERT(size <= PART_BLOCK_MAX);
    blob->len = (uint32_t)size;
}

void source_commit(struct file_source *source)
{
    struct storage_shard *shard = source->shard;
    ASSERT(!source->commit_live && shard->pending == 0 && !shard->sealed);
    uint64_t time = storage_stamp(shard->storage);
    struct storage_entry *entry = entry_new(time, time + 1);
    for (int s = 0; s < STREAMS; s++) {
        take_blob(&source->rows, s, time, &entry->blob[s]);
    }
    rows_reset(&source->rows);
    struct buf files = {0};
    file_set_encode(source->states, source->states_len, &files);
    entry->files = files.data;
    entry->files_len = (uint32_t)files.len;
    struct buf *out =
        wal_begin(shard->storage->wal, RECORD_HEADER + record_section_size(entry));
    size_t start = out->len;
    struct record record = {.time = time, .sections = 1};
    record_begin(out, &record);
    record_add(out, start, shard->id, source->seal, entry);
    source->phase = SOURCE_COMMIT;
    source->entry = entry;
    source->commit_live = true;
    source->commit = (struct wal_commit){.done = committed};
    shard->pending++;
    wal_end(shard->storage->wal, WAL_APPEND, &source->commit);
}

/*
 * Adds the state of the file being read to the next commit. The state the file will have once what
 * was read of it is durable.
 */
static void note_state(struct file_source *source)
{
    struct file_state *state = VEC_PUSH(source, states);
    *state = source->reader.state;
    state->path = mem_strdup(source->reader.state.path);
    if (!source->reader.end) {
        state->mtime_ns = 0; /* more is to come: whoever resumes must not take it for unchanged */
    }
}

/* ---- phases: reading, verifying -------------------------------------------------------------- */

/*
 * The bytes of a file arrived and were taken; err: it is no good from here on. Commits when the
 * file ends here, or enough is built; an error of the parser ends the file for now, after what came
 * before it.
 */
static void after_read(struct file_source *source, err_t err)
{
    struct source_reader *r = &source->reader;
    ASSERT(source->phase == SOURCE_READ && !source->commit_live);
    const struct file_state *known = file_set_find(&source->files, r->state.path);
    bool news = r->state.offset != (known != NULL ? known->offset : 0) || r->state.complete;
    if (err != ERR_OK) {
        source_refuse(source, r->state.path, err);
        err = ERR_OK;
        r->end = true;
    }
    if (news && (r->end || rows_built(&source->rows) >= SOURCE_COMMIT_BYTES)) {
        note_state(source);
        source_commit(source);
    } else if (r->end && (source->shard->desc.tail ||
                          strmap_get(&source->refused, r->state.path) != NULL)) {
        /* Nothing new: an unfinished line, perhaps. Seen once is enough. */
        struct file_state seen = known != NULL ? *known : (struct file_state){0};
        seen.path = r->state.path;
        seen.size = r->state.size;
        seen.mtime_ns = r->state.mtime_ns;
        seen.inode = r->state.inode;
        file_set_put(&source->files, &seen);
        source_reader_close(source);
        source_idle(source, true);
    } else {
        read_more(source);
    }
}

/* The ingested bytes are as they were: remembers as what they were seen. */
static void verified(struct file_source *source)
{
    ASSERT(source->phase == SOURCE_VERIFY);
    struct source_reader *r = &source->reader;
    struct file_state *known = file_set_find(&source->files, r->state.path);
    ASSERT(known != NULL);
    known->size = r->state.size;
    known->mtime_ns = r->state.mtime_ns;
    doubt_recent(source, known);
    bool again = known->mtime_ns != 0;
    source_reader_close(source);
    source_idle(source, again);
}

/* The bytes ingested once, read again: a different checksum means that they were rewritten. */
static void verify(struct file_source *source, const uint8_t *data, size_t len)
{
    ASSERT(source->phase == SOURCE_VERIFY && len <= SOURCE_READ_BYTES);
    struct source_reader *r = &source->reader;
    const struct file_state *known = file_set_find(&source->files, r->state.path);
    ASSERT(known != NULL);
    advance(r, data, len);
    r->read_at += len;
    ASSERT(r->read_at <= known->offset);
    if (len > 0 && r->read_at < known->offset) {
        read_more(source);
        return;
    }
    if (r->read_at != known->offset || r->state.crc != known->crc) {
        source_reader_close(source);
        source_rebuild_begin(source);
        return;
    }
    r->state.lines = known->lines;
    if (r->state.size > known->offset) {
        source->phase = SOURCE_READ;
        read_more(source);
    } else {
        verified(source);
    }
}

static void read_done(struct io_op *op, err_t err, size_t result)
{
    struct file_source *source = CONTAINER_OF(op, struct file_source, op);
    ASSERT(source->reader.io != NULL);
    if (err != ERR_OK) {
        err = err_hint(err, "The file cannot be read: check it and its permissions.");
        source_refuse(source, source->reader.state.path, err);
        source_reader_close(source);
        source_rebuild_free(source);
        rows_reset(&source->rows);
        source->phase = SOURCE_RETRY;
        source_next_turn(source, SOURCE_POLL_US);
    } else if (source->phase == SOURCE_VERIFY) {
        verify(source, source->chunk, result);
    } else if (source->phase == SOURCE_NEW) {
        source_rebuild_read(source, source->chunk, result);
    } else {
        ASSERT(source->phase == SOURCE_READ);
        after_read(source, source_reader_take(source, source->chunk, result));
    }
}

/* One piece: the loop has other work between two of them. */
static void read_more(struct file_source *source)
{
    struct source_reader *r = &source->reader;
    size_t len = SOURCE_READ_BYTES;
    ASSERT(r->io != NULL);
    if (source->phase == SOURCE_VERIFY) {
        const struct file_state *known = file_set_find(&source->files, r->state.path);
        uint64_t left = known->offset - r->read_at;
        len = left < len ? left : len;
    }
    source->op = (struct io_op){.done = read_done};
    io_file_read(r->io, r->read_at, source->chunk, len, &source->op);
}

/* ---- looking --------------------------------------------------------------------------------- */

/* Begins to read or verify a file. */
static void begin_file(struct file_source *source, const char *path)
{
    ASSERT(source->phase == SOURCE_IDLE);
    struct source_reader *r = &source->reader;
    const struct file_state *known = file_set_find(&source->files, path);
    uint64_t offset = known != NULL ? known->offset : 0;
    err_t err = source_reader_open(source, path, offset);
    if (err != ERR_OK) {
        source_reader_close(source);
        source_refuse(source, path, err);
        source_idle(source, false);
        return;
    }
    strmap_remove(&source->refused, path);
    if (offset == 0) {
        source->phase = SOURCE_READ;
        read_more(source);
        return;
    }
    bool same = r->state.inode == known->inode && r->state.size >= offset;
    if (same) {
        err = check_windows(source, known, &same);
    }
    if (err != ERR_OK) {
        source_reader_close(source);
        source_refuse(source, path, err);
        source_idle(source, false);
    } else if (!same) {
        source_reader_close(source);
        source_rebuild_begin(source);
    } else if (r->state.size == offset || offset <= SOURCE_VERIFY_MAX) {
        r->state.offset = 0; /* read again from the beginning, up to what was ingested */
        r->read_at = 0;
        r->tail_len = 0;
        source->phase = SOURCE_VERIFY;
        read_more(source);
    } else {
        r->state.crc = known->crc;
        r->state.head_crc = known->head_crc;
        r->state.tail_crc = known->tail_crc;
        r->state.lines = known->lines;
        source->phase = SOURCE_READ;
        read_more(source);
    }
}

enum verdict { FILE_SAME, FILE_CHANGED, FILE_MISSING };

/*
 * From what stat says alone; reading is for files that have changed. FILE_MISSING: it went between
 * the listing and now; the next look finds out.
 */
static enum verdict judge(struct file_source *source, const char *path)
{
    const struct file_state *known = file_set_find(&source->files, path);
    struct io_stat st;
    err_t err = io_stat_sync(source->loop, path, &st);
    if (err != ERR_OK) {
        bool missing = err_code(err) == ERR_NOT_FOUND;
        if (!missing) {
            source_refuse(source, path, err);
            return FILE_SAME;
        }
        err_free(err);
        return FILE_MISSING;
    }
    if ((uintptr_t)strmap_get(&source->refused, path) == (uintptr_t)fingerprint(&st)) {
        return FILE_SAME; /* refused, and it has not changed since */
    }
    if (known != NULL && known->complete) {
        return FILE_SAME;
    }
    bool same = known != NULL && known->inode == st.inode && known->size == st.size &&
                known->mtime_ns == st.mtime_ns;
    return same ? FILE_SAME : FILE_CHANGED;
}

static void tell_missing(struct file_source *source, const char *path)
{
    ASSERT(path != NULL);
    struct buf reason = {0};
    buf_printf(&reason, source->glob ? "no file matches %s" : "%s does not exist", path);
    source_status(source, STORAGE_STALLED, buf_cstr(&reason),
                  "Create it, or check the path: ingestion starts by itself.");
    buf_free(&reason);
}

/* A one-shot source has read all its files: nothing follows. */
static void seal(struct file_source *source)
{
    ASSERT(!source->shard->desc.tail && source->states_len == 0);
    source->seal = true;
    source_commit(source);
}

/*
 * Nothing has changed. Says how the source is. A one-shot source seals here, when all its files are
 * complete: an empty commit says durably that nothing follows.
 */
static void rest(struct file_source *source, char *const *paths, size_t len, size_t matched)
{
    const struct storage_collection *desc = &source->shard->desc;
    bool complete = matched > 0;
    ASSERT(len <= matched);
    for (size_t i = 0; i < len; i++) {
        const struct file_state *known = file_set_find(&source->files, paths[i]);
        complete = complete && known != NULL && known->complete;
    }
    bool not_ours = !source->glob && !ours(source, desc->path);
    if (!desc->tail && source->refused.len == 0 && (complete || not_ours)) {
        seal(source);
        return;
    }
    if (matched == 0 && !not_ours && source->files.file_len == 0) {
        tell_missing(source, desc->path);
    } else if (source->refused.len == 0 && source->shard->status != STORAGE_PAUSED) {
        source_status(source, STORAGE_RUNNING, "", "");
    }
    source_idle(source, false);
}

static bool contains(char *const *paths, size_t len, const char *path)
{
    bool found = false;
    for (size_t i = 0; i < len && !found; i++) {
        found = strcmp(paths[i], path) == 0;
    }
    return found;
}

/* A file that was ingested is gone. Of a pattern its rows go, too; a single one is awaited. */
static bool look_for_missing(struct file_source *source, char *const *paths, size_t len)
{
    bool missing = false;
    for (size_t i = 0; i < source->files.file_len && !missing; i++) {
        const struct file_state *known = &source->files.file[i];
        missing = known->inode != 0 && !known->complete && !contains(paths, len, known->path);
        if (missing && !source->glob) {
            tell_missing(source, known->path);
        }
    }
    return missing;
}

/* Watching saves waiting for the poll; where it cannot be had, polling is enough. */
static void open_watch(struct file_source *source)
{
    if (source->watch != NULL) {
        return;
    }
    const char *path = source->shard->desc.path;
    char *dir = directory_of(path);
    err_t err =
        io_watch_open(source->loop, source->glob ? dir : path, changed, source, &source->watch);
    if (err != ERR_OK) {
        /* Not there yet, perhaps; polling goes on. */
        LOG_DEBUG("storage", "cannot watch", LOG_STR("path", path), LOG_ERR(err));
        err_free(err);
        source->watch = NULL;
    }
    free(dir);
}

/* A file that is gone is not refused any more. */
static void forget_refused(struct file_source *source, char *const *paths, size_t len)
{
    size_t at = 0;
    const char *path = NULL;
    void *value = NULL;
    while (strmap_next(&source->refused, &at, &path, &value)) {
        if (!contains(paths, len, path)) {
            strmap_remove(&source->refused, path);
            return; /* the others with the next look */
        }
    }
}

/*
 * The file to work on: the next changed one behind the one before, in turns, so that a file that
 * never stops growing does not keep the others from being read. A file whose turn comes again was
 * read to its end since: by then all were, once.
 */
static const char *next_changed(struct file_source *source, char *const *paths, size_t len)
{
    size_t first = 0;
    while (source->last != NULL && first < len && strcmp(paths[first], source->last) <= 0) {
        first++;
    }
    for (size_t i = 0; i < len; i++) {
        size_t at = (first + i) % len;
        if (judge(source, paths[at]) == FILE_CHANGED) {
            if (source->last != NULL && first + i >= len && !source->looked) {
                source->looked = true;
                storage_source_looked(source->shard);
            }
            return paths[at];
        }
    }
    return NULL;
}

/* Finds a file with work to do and begins it; when it is done comes the next look. */
static void look(struct file_source *source)
{
    ASSERT(source->phase == SOURCE_IDLE && source->reader.io == NULL);
    char **paths = NULL;
    size_t len = 0;
    size_t matched = 0;
    source->look_again = false;
    open_watch(source);
    err_t err = source_list(source, &paths, &len, &matched);
    if (err != ERR_OK) {
        source_status(source, STORAGE_STALLED, err_message(err), "Check the path.");
        err_free(err);
        source_free_paths(paths, len);
        source_idle(source, false);
        return;
    }
    const char *work = next_changed(source, paths, len);
    forget_refused(source, paths, len);
    bool missing = look_for_missing(source, paths, len);
    if (work != NULL) {
        free(source->last);
        source->last = mem_strdup(work);
        begin_file(source, source->last);
    } else if (missing && source->glob) {
        source_rebuild_begin(source);
    } else if (missing) {
        source_idle(source, false);
    } else {
        rest(source, paths, len, matched);
    }
    source_free_paths(paths, len);
}

/* The one place that says which phase goes on how. */
static void turn_timer(struct io_timer *timer)
{
    struct file_source *source = CONTAINER_OF(timer, struct file_source, timer);
    switch (source->phase) {
    case SOURCE_IDLE:
        look(source);
        break;
    case SOURCE_RETRY:
        source->phase = SOURCE_IDLE;
        look(source);
        break;
    case SOURCE_READ: /* after a commit */
        if (source->reader.io == NULL || source->reader.end) {
            source_reader_close(source);
            source->phase = SOURCE_IDLE;
            look(source);
        } else {
            read_more(source);
        }
        break;
    case SOURCE_OLD:
    case SOURCE_NEW:
    case SOURCE_EMIT:
        source_rebuild_turn(source);
        break;
    default:
        UNREACHABLE();
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

/*
 * The path is checked for sense only: whether there is a file is found out, again and again, later.
 */
err_t file_source_check(const struct storage_collection *desc)
{
    unsigned long long id = desc->id;
    if (desc->kind != STORAGE_FILE || desc->path == NULL || desc->path[0] == '\0' ||
        strlen(desc->path) > 4000) {
        return err_new(ERR_INVALID, "collection %llu: a file source needs a path", id);
    }
    const char *slash = strrchr(desc->path, '/');
    if (slash != NULL) {
        char *dir = directory_of(desc->path);
        bool glob = is_glob(dir);
        free(dir);
        if (glob) {
            return err_new(ERR_UNSUPPORTED, "patterns are supported in the last part of a path: %s",
                           desc->path);
        }
    }
    if (desc->format != STORAGE_CSV && desc->format != STORAGE_JSON_LINES) {
        return err_new(ERR_INVALID, "collection %llu: unknown format", id);
    }
    char d = desc->csv_delimiter;
    if (desc->format == STORAGE_CSV &&
        (d == '\0' || d == '\n' || d == '\r' || d == desc->csv_quote || desc->csv_quote == '\n')) {
        return err_new(ERR_INVALID, "collection %llu: bad CSV delimiter or quote", id);
    }
    return ERR_OK;
}

/* The files' states are what parts hold, and the log's records on top, in order. */
struct file_source *file_source_new(struct storage_shard *shard)
{
    struct file_source *source = MEM_NEW(struct file_source);
    source->shard = shard;
    source->loop = shard->storage->config.loop;
    source->glob = is_glob(shard->desc.path);
    source->timer.fire = turn_timer;
    source->chunk = mem_alloc(SOURCE_READ_BYTES);
    rows_init(&source->rows, &shard->desc);
    file_set_copy(&shard->files_flushed, &source->files);
    for (size_t i = 0; i < shard->entries_len; i++) {
        const struct storage_entry *entry = shard->entries[i];
        bool ok = entry->files == NULL ||
                  file_set_apply(&source->files, entry->files, entry->files_len);
        ASSERT(ok); /* recovery has checked it */
    }
    source->phase = SOURCE_IDLE;
    source_next_turn(source, 0);
    return source;
}

void file_source_stop(struct file_source *source)
{
    if (source == NULL || source->phase == SOURCE_STOPPED) {
        return;
    }
    source->phase = SOURCE_STOPPED;
    io_timer_cancel(source->loop, &source->timer);
    if (source->watch != NULL) {
        io_watch_close(source->watch);
        source->watch = NULL;
    }
    source_reader_close(source);
    source_rebuild_free(source);
}

void file_source_free(struct file_source *source)
{
    if (source == NULL) {
        return;
    }
    ASSERT(!source->commit_live);
    file_source_stop(source);
    if (source->watch != NULL) {
        io_watch_close(source->watch);
    }
    source_reader_close(source);
    source_rebuild_free(source);
    free_states(source);
    free(source->states);
    rows_free(&source->rows);
    file_set_free(&source->files);
    strmap_free(&source->refused);
    free(source->last);
    free(source->status_text);
    free(source->chunk);
    free(source);
}
