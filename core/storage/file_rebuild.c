/*
 * A file was replaced, shrunk, changed where it had been read, or is gone from a pattern. The shard
 * does not say which row came from which file, so everything is compared: what the shard holds now
 * is counted negative, what the files of this worker hold positive, and what does not cancel is the
 * difference. It is committed at one time with the new states of all files, so a reader sees the
 * old content or the new one and nothing between.
 *
 * Example: the shard holds a, b, c, c; the file now says c, a, d. The sums are a 0, b -1, c -1, d
 * +1: three updates, whatever the order of the lines and however long the file.
 *
 * Memory is in proportion to the distinct rows; the work is cut into turns. Nothing else changes
 * the shard meanwhile: the source is the only writer, and its phase says that it is here. Until the
 * commit the shard stays as it is, so giving up at any point is harmless.
 */
#include "core/storage/file_source_internal.h"

enum { STEPS_PER_TURN = 8, EMIT_ROWS_PER_TURN = 2048, EMIT_BYTES_PER_TURN = 1 << 20 };

/* At any phase, and when there is none. */
void source_rebuild_free(struct file_source *source)
{
    if (source->merge.schema != NULL) {
        merge_free(&source->merge);
    }
    for (int s = 0; s < STREAMS; s++) {
        multiset_free(&source->set[s]);
    }
    free(source->cols);
    source->cols = NULL;
    source_free_paths(source->paths, source->paths_len);
    source->paths = NULL;
    source->paths_len = 0;
    source->paths_cap = 0;
}

/*
 * Rows that were read and not committed are forgotten: all files are read again from their
 * beginning.
 */
void source_rebuild_begin(struct file_source *source)
{
    struct storage_shard *shard = source->shard;
    ASSERT(shard->pending == 0 && source->reader.io == NULL && source->merge.schema == NULL);
    rows_reset(&source->rows);
    merge_init(&source->merge, shard, shard->entries_len, TIME_MAX);
    source->cols = mem_alloc(source->merge.cols_cap * sizeof(source->cols[0]));
    for (int s = 0; s < STREAMS; s++) {
        size_t len = 0;
        const uint8_t *kinds = schema_kinds(shard->schema, s, &len);
        multiset_init(&source->set[s], kinds, len);
    }
    source->phase = SOURCE_OLD;
    source_next_turn(source, 0);
}

/* Whatever goes wrong, the shard stays as it is, and the next look begins again. */
static void give_up(struct file_source *source, const char *path, err_t err)
{
    ASSERT(err != ERR_OK && !source->commit_live);
    source_refuse(source, path, err);
    source_reader_close(source);
    source_rebuild_free(source);
    rows_reset(&source->rows);
    for (size_t i = 0; i < source->states_len; i++) {
        free(source->states[i].path);
    }
    source->states_len = 0;
    source->phase = SOURCE_RETRY;
    source_next_turn(source, SOURCE_POLL_US);
}

/* Moves the rows of the builders to the multisets. */
static void count_rows(struct file_source *source, int64_t sign)
{
    ASSERT(sign == 1 || sign == -1);
    for (int s = 0; s < STREAMS; s++) {
        struct batch_builder *b = source->rows.builder[s];
        if (batch_builder_rows(b) == 0) {
            continue;
        }
        size_t size = 0;
        void *data = batch_builder_finish_new(b, &size);
        struct batch batch;
        batch_view(data, size, source->cols, source->merge.cols_cap, &batch);
        for (uint32_t row = 0; row < batch.rows; row++) {
            multiset_add(&source->set[s], &batch, row, sign * batch_diff(&batch, row));
        }
        free(data);
        batch_builder_reset(b);
    }
}

/* ---- what the shard holds -------------------------------------------------------------------- */

/* The files are listed after the shard was read; what changes from here on is found by the next
 * look, because each state has the size and mtime from before its file was read. */
static void list_files(struct file_source *source)
{
    ASSERT(source->phase == SOURCE_OLD && source->paths == NULL);
    size_t matched = 0;
    err_t err = source_list(source, &source->paths, &source->paths_len, &matched);
    if (err != ERR_OK) {
        give_up(source, source->shard->desc.path, err);
        return;
    }
    source->path_at = 0;
    source->phase = SOURCE_NEW;
    source_next_turn(source, 0);
}

/* The shard's state, consolidated, counts negative. */
static void add_old(struct file_source *source)
{
    ASSERT(source->phase == SOURCE_OLD);
    bool done = false;
    for (int i = 0; i < STEPS_PER_TURN && !done; i++) {
        err_t err = merge_step(&source->merge, source->rows.builder, &done);
        if (err != ERR_OK) {
            give_up(source, source->shard->desc.path, err);
            return;
        }
        count_rows(source, -1);
    }
    if (done) {
        list_files(source);
    } else {
        source_next_turn(source, 0);
    }
}

/* ---- what the files hold --------------------------------------------------------------------- */

/*
 * Files that are gone lose their state. A state of zeros: offset 0 is a file that was never read.
 */
static void forget_missing(struct file_source *source)
{
    ASSERT(source->path_at == source->paths_len);
    for (size_t i = 0; i < source->files.file_len; i++) {
        const char *path = source->files.file[i].path;
        bool present = false;
        for (size_t k = 0; k < source->states_len && !present; k++) {
            present = strcmp(source->states[k].path, path) == 0;
        }
        if (!present) {
            struct file_state *state = VEC_PUSH(source, states);
            state->path = mem_strdup(path);
        }
    }
}

/*
 * The next file, or the difference when there is none left. In order of the listing; one that went
 * meanwhile ends the attempt.
 */
static void open_next(struct file_source *source)
{
    if (source->path_at == source->paths_len) {
        forget_missing(source);
        source->emit_stream = 0;
        source->emit_at = 0;
        source->phase = SOURCE_EMIT;
        source_next_turn(source, 0);
        return;
    }
    ASSERT(source->phase == SOURCE_NEW && source->path_at < source->paths_len);
    const char *path = source->paths[source->path_at];
    err_t err = source_reader_open(source, path, 0);
    if (err != ERR_OK) {
        give_up(source, path, err);
        return;
    }
    strmap_remove(&source->refused, path);
    source_rebuild_turn(source);
}

/* Read to its very end: only len 0 ends a file, since it may have grown while it was read. */
void source_rebuild_read(struct file_source *source, const uint8_t *data, size_t len)
{
    struct source_reader *r = &source->reader;
    ASSERT(source->phase == SOURCE_NEW && r->io != NULL);
    err_t err = source_reader_take(source, data, len);
    if (err != ERR_OK) {
        give_up(source, source->paths[source->path_at], err);
        return;
    }
    count_rows(source, 1);
    if (len == 0) {
        *VEC_PUSH(source, states) = r->state;
        r->state.path = NULL;
        source_reader_close(source);
        source->path_at++;
    }
    source_next_turn(source, 0);
}

/* ---- the difference -------------------------------------------------------------------------- */

/*
 * What did not cancel out becomes the rows of one commit. The difference of one stream, then of the
 * other, then the commit.
 */
static void emit(struct file_source *source)
{
    struct multiset *set = &source->set[source->emit_stream];
    ASSERT(source->emit_stream < STREAMS && source->emit_at <= set->row_len);
    size_t left = set->row_len - source->emit_at;
    size_t end = source->emit_at + (left > EMIT_ROWS_PER_TURN ? EMIT_ROWS_PER_TURN : left);
    for (size_t bytes = 0; source->emit_at < end && bytes < EMIT_BYTES_PER_TURN;
         source->emit_at++) {
        if (set->row[source->emit_at].diff != 0) {
            bytes += set->row[source->emit_at].len;
            multiset_emit(set, source->emit_at, 0, source->rows.builder[source->emit_stream]);
        }
    }
    /* One record holds the difference, and one batch each of its streams. */
    if (rows_built(&source->rows) > SOURCE_DIFF_MAX ||
        batch_builder_rows(source->rows.builder[source->emit_stream]) >
            BATCH_ROWS_MAX - EMIT_ROWS_PER_TURN) {
        give_up(source, source->shard->desc.path,
                err_hint(err_sql(ERR_LIMIT, "54000",
                                 "%s was replaced by a file that differs in too much: the limit is "
                                 "%d MiB or %d rows",
                                 source->shard->desc.path, SOURCE_DIFF_MAX >> 20, BATCH_ROWS_MAX),
                         "Drop the source and create it again."));
        return;
    }
    if (source->emit_at == set->row_len) {
        source->emit_at = 0;
        source->emit_stream++;
    }
    if (source->emit_stream < STREAMS) {
        source_next_turn(source, 0);
        return;
    }
    source_rebuild_free(source);
    source_commit(source);
}

static void read_done(struct io_op *op, err_t err, size_t result)
{
    struct file_source *source = CONTAINER_OF(op, struct file_source, op);
    if (err != ERR_OK) {
        give_up(source, source->paths[source->path_at], err);
        return;
    }
    source_rebuild_read(source, source->chunk, result);
}

void source_rebuild_turn(struct file_source *source)
{
    ASSERT(!source->commit_live);
    if (source->phase == SOURCE_OLD) {
        add_old(source);
    } else if (source->phase == SOURCE_EMIT) {
        emit(source);
    } else if (source->reader.io == NULL) {
        open_next(source);
    } else {
        source->op = (struct io_op){.done = read_done};
        io_file_read(source->reader.io, source->reader.read_at, source->chunk, SOURCE_READ_BYTES,
                     &source->op);
    }
}
