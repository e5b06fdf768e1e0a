/*
 * Map, filter, project over batches. Steps are ordered at compile time: predicates that need no map
 * first, then each predicate as soon as the maps it needs are there, and the maps only the
 * projection needs last, for the rows that are left. A row that fails anywhere goes to the error
 * twin, and only there.
 *
 * Example: maps a = x / y, b = length(s); predicates y <> 0, a > 3; projection (b). Steps: y <> 0,
 * a, a > 3, b. The division never sees y = 0, and lengths are only taken of rows that stay. Maps
 * nobody needs are not computed at all.
 *
 * Batches go through in chunks of VEC_ROWS; columns of fixed width are read where they lie. Output
 * columns are appended whole, times and diffs as runs. One program belongs to one operator and one
 * thread.
 */
#include "core/data/batch_internal.h"
#include "core/data/vec.h"

/*
 * Long texts: a run puts out about RUN_BYTES before its caller has to take them away; a chunk that
 * takes more than EVAL_BYTES to evaluate is run with fewer rows.
 */
enum { RUN_BYTES = 4 << 20, EVAL_BYTES = 64 << 20 };

/* A predicate or a map; the step owns its node. */
struct step {
    struct cnode *node;
    bool predicate;
    uint32_t column; /* of a map: its place among the columns */
};

/*
 * Expanded form of an input column for one chunk. One per input column that is used; kept from
 * chunk to chunk.
 */
struct col_mem {
    uint8_t nulls[VEC_ROWS];
    struct slice slices[]; /* VEC_ROWS, of variable kinds only */
};

/*
 * Everything is sized when it is compiled; running allocates only bump memory and what the builders
 * need.
 */
struct mfp_prog {
    struct eval ev;
    struct step *steps;
    uint32_t steps_len;
    uint32_t input_cols;
    uint32_t cols_len;      /* input and maps */
    uint8_t *kinds;         /* cols_len */
    bool *used;             /* input columns that steps or the projection read */
    struct col_mem **mem;   /* of used input columns */
    uint32_t *project;
    uint32_t project_len;
    char *context;
    uint32_t chunk_rows;    /* of the next chunk: fewer than VEC_ROWS while values are long */
    uint32_t sel_rows[VEC_ROWS];
};

/* ---- validation and printing ----------------------------------------------------------------- */

/* Predicates may read maps: cols holds both. */
static err_t validate_predicates(const struct mfp *mfp, const struct type *cols, size_t len)
{
    for (uint32_t i = 0; i < mfp->predicates_len; i++) {
        const struct expr *e = &mfp->predicates[i];
        TRY(err_wrap(expr_validate(e, cols, len), "predicate %u", i));
        if (e->nodes[e->nodes_len - 1].type.kind != TYPE_BOOL) {
            return err_new(ERR_INVALID, "predicate %u is not boolean", i);
        }
    }
    return ERR_OK;
}

/* Maps are validated in order, each against the columns before it, so none can read itself. */
err_t mfp_validate(const struct mfp *mfp, const struct type *input, size_t input_len,
                   struct arena *arena, struct type **output)
{
    if (mfp->input_cols != input_len || input_len > BATCH_COLS_MAX ||
        mfp->maps_len > BATCH_COLS_MAX || mfp->project_len > BATCH_COLS_MAX ||
        mfp->predicates_len > BATCH_COLS_MAX) {
        return err_new(ERR_INVALID, "mfp: %u columns, %u maps, %u predicates, %u projected",
                       mfp->input_cols, mfp->maps_len, mfp->predicates_len, mfp->project_len);
    }
    size_t len = input_len;
    struct type *cols = ARENA_ARRAY(arena, struct type, input_len + mfp->maps_len);
    if (len > 0) {
        memcpy(cols, input, len * sizeof(*cols));
    }
    for (size_t i = 0; i < len; i++) {
        if (!type_kind_stored(cols[i].kind)) {
            return err_new(ERR_INVALID, "mfp: column %zu has no type", i);
        }
    }
    for (uint32_t i = 0; i < mfp->maps_len; i++) {
        const struct expr *e = &mfp->maps[i];
        TRY(err_wrap(expr_validate(e, cols, len), "map %u", i));
        cols[len++] = e->nodes[e->nodes_len - 1].type;
    }
    TRY(validate_predicates(mfp, cols, len));
    *output = ARENA_ARRAY(arena, struct type, mfp->project_len);
    for (uint32_t i = 0; i < mfp->project_len; i++) {
        if (mfp->project[i] >= len) {
            return err_new(ERR_INVALID, "mfp: projects column %u of %zu", mfp->project[i], len);
        }
        (*output)[i] = cols[mfp->project[i]];
    }
    return ERR_OK;
}

/* Maps have no names: they print as #n. */
static const char **extend_names(const struct mfp *mfp, const char *const *names)
{
    uint32_t len = mfp->input_cols + mfp->maps_len;
    const char **all = mem_zalloc(len * sizeof(*all));
    for (uint32_t i = 0; names != NULL && i < mfp->input_cols; i++) {
        all[i] = names[i];
    }
    return all;
}

/* filter=(#1 > 3) map=#2: (#0 + 1) project=(#0, #2) */
void mfp_print(const struct mfp *mfp, const char *const *names, struct buf *out)
{
    const char **all = extend_names(mfp, names);
    const char *between = "";
    if (mfp->predicates_len > 0) {
        buf_append_str(out, "filter=");
        for (uint32_t i = 0; i < mfp->predicates_len; i++) {
            buf_append_str(out, i > 0 ? " and " : "");
            expr_print(&mfp->predicates[i], all, out);
        }
        between = " ";
    }
    for (uint32_t i = 0; i < mfp->maps_len; i++) {
        buf_printf(out, "%smap=#%u: ", between, mfp->input_cols + i);
        expr_print(&mfp->maps[i], all, out);
        between = " ";
    }
    buf_printf(out, "%sproject=(", between);
    for (uint32_t i = 0; i < mfp->project_len; i++) {
        uint32_t c = mfp->project[i];
        buf_append_str(out, i > 0 ? ", " : "");
        if (all[c] != NULL) {
            buf_append_str(out, all[c]);
        } else {
            buf_printf(out, "#%u", c);
        }
    }
    buf_append_byte(out, ')');
    free(all);
}

/* ---- compiling ------------------------------------------------------------------------------- */

/* State of ordering the steps. */
struct planner {
    struct mfp_prog *prog;
    struct cnode **maps; /* NULL once scheduled */
    struct cnode **predicates;
    uint32_t maps_len;
    uint32_t predicates_len;
    bool **reads; /* of each map: which columns */
};

static void add_step(struct mfp_prog *prog, struct cnode *node, bool predicate, uint32_t column)
{
    ASSERT(node != NULL);
    prog->steps[prog->steps_len++] =
        (struct step){.node = node, .predicate = predicate, .column = column};
}

/*
 * Schedules the maps among the columns, and what they need, in order. The maps needed by needed
 * maps are found from the last to the first; they are added from the first to the last.
 */
static void schedule_maps(struct planner *p, const bool *needed)
{
    uint32_t inputs = p->prog->input_cols;
    uint32_t cols = inputs + p->maps_len;
    bool *all = mem_alloc(cols);
    memcpy(all, needed, cols);
    for (uint32_t m = p->maps_len; m > 0; m--) { /* maps use earlier ones only */
        for (uint32_t c = 0; all[inputs + m - 1] && c < cols; c++) {
            all[c] |= p->reads[m - 1][c];
        }
    }
    for (uint32_t m = 0; m < p->maps_len; m++) {
        if (all[inputs + m] && p->maps[m] != NULL) {
            add_step(p->prog, p->maps[m], false, inputs + m);
            p->maps[m] = NULL;
        }
    }
    free(all);
}

/*
 * The number of the last map a predicate reads; 0 when it reads none. A predicate can run once that
 * map is there: maps only read earlier ones.
 */
static uint32_t last_map(const struct cnode *node, uint32_t inputs, uint32_t cols, bool *scratch)
{
    memset(scratch, 0, cols);
    cnode_columns(node, scratch);
    for (uint32_t c = cols; c > inputs; c--) {
        if (scratch[c - 1]) {
            return c - inputs;
        }
    }
    return 0;
}

/* Level m holds the predicates whose last map is the m-th. */
static void schedule(struct planner *p)
{
    struct mfp_prog *prog = p->prog;
    uint32_t cols = prog->cols_len;
    bool *needed = mem_alloc(cols);
    for (uint32_t level = 0; level <= p->maps_len; level++) {
        for (uint32_t i = 0; i < p->predicates_len; i++) {
            if (last_map(p->predicates[i], prog->input_cols, cols, needed) == level) {
                schedule_maps(p, needed);
                add_step(prog, p->predicates[i], true, 0);
            }
        }
    }
    memset(needed, 0, cols);
    for (uint32_t i = 0; i < prog->project_len; i++) {
        needed[prog->project[i]] = true;
    }
    schedule_maps(p, needed);
    memcpy(prog->used, needed, prog->input_cols);
    for (uint32_t i = 0; i < prog->steps_len; i++) {
        memset(needed, 0, cols);
        cnode_columns(prog->steps[i].node, needed);
        for (uint32_t c = 0; c < prog->input_cols; c++) {
            prog->used[c] |= needed[c];
        }
    }
    free(needed);
}

/* What predicates and maps have in common is computed once a row. */
static void share_steps(struct mfp_prog *prog)
{
    struct cnode ***roots = mem_alloc(prog->steps_len * sizeof(*roots));
    for (uint32_t s = 0; s < prog->steps_len; s++) {
        roots[s] = &prog->steps[s].node;
    }
    cnode_share(roots, prog->steps_len);
    free(roots);
}

/* reads is computed once per map: quadratic in the columns otherwise. */
static void compile_steps(struct mfp_prog *prog, const struct mfp *mfp)
{
    struct planner p = {
        .prog = prog, .maps_len = mfp->maps_len, .predicates_len = mfp->predicates_len};
    p.maps = mem_zalloc(p.maps_len * sizeof(*p.maps));
    p.reads = mem_zalloc(p.maps_len * sizeof(*p.reads));
    p.predicates = mem_zalloc(p.predicates_len * sizeof(*p.predicates));
    for (uint32_t i = 0; i < p.maps_len; i++) {
        p.maps[i] = cnode_compile(&mfp->maps[i]);
        p.reads[i] = mem_zalloc(prog->cols_len);
        cnode_columns(p.maps[i], p.reads[i]);
        prog->kinds[prog->input_cols + i] = cnode_kind(p.maps[i]);
    }
    for (uint32_t i = 0; i < p.predicates_len; i++) {
        p.predicates[i] = cnode_compile(&mfp->predicates[i]);
    }
    schedule(&p);
    for (uint32_t i = 0; i < p.maps_len; i++) {
        cnode_free(p.maps[i]); /* nobody needs it */
        free(p.reads[i]);
    }
    free(p.maps);
    free(p.reads);
    free(p.predicates);
    share_steps(prog);
}

/* The mfp must have been validated against these kinds. */
struct mfp_prog *mfp_compile(const struct mfp *mfp, const uint8_t *input_kinds,
                             const char *context)
{
    struct mfp_prog *prog = MEM_NEW(struct mfp_prog);
    prog->input_cols = mfp->input_cols;
    prog->cols_len = mfp->input_cols + mfp->maps_len;
    prog->kinds = mem_zalloc(prog->cols_len);
    memcpy(prog->kinds, input_kinds, mfp->input_cols);
    prog->used = mem_zalloc(mfp->input_cols);
    prog->mem = mem_zalloc(mfp->input_cols * sizeof(prog->mem[0]));
    prog->ev.cols = mem_zalloc(prog->cols_len * sizeof(struct vec));
    prog->project = mem_alloc(mfp->project_len * sizeof(uint32_t));
    if (mfp->project_len > 0) {
        memcpy(prog->project, mfp->project, mfp->project_len * sizeof(uint32_t));
    }
    prog->project_len = mfp->project_len;
    prog->steps = mem_zalloc((mfp->maps_len + mfp->predicates_len) * sizeof(struct step));
    prog->chunk_rows = VEC_ROWS;
    prog->context = mem_strdup(context != NULL ? context : "");
    compile_steps(prog, mfp);
    for (uint32_t c = 0; c < prog->input_cols; c++) {
        if (prog->used[c]) {
            size_t slices = type_is_variable(prog->kinds[c]) ? VEC_ROWS * sizeof(struct slice) : 0;
            prog->mem[c] = mem_alloc(sizeof(struct col_mem) + slices);
        }
    }
    return prog;
}

const bool *mfp_prog_reads(const struct mfp_prog *prog)
{
    ASSERT(prog->used != NULL);
    return prog->used;
}

/* NULL is allowed. */
void mfp_prog_free(struct mfp_prog *prog)
{
    if (prog == NULL) {
        return;
    }
    for (uint32_t i = 0; i < prog->steps_len; i++) {
        cnode_free(prog->steps[i].node);
    }
    for (uint32_t c = 0; c < prog->input_cols; c++) {
        free(prog->mem[c]);
    }
    free(prog->ev.cols);
    eval_free(&prog->ev);
    free(prog->steps);
    free(prog->kinds);
    free(prog->used);
    free(prog->mem);
    free(prog->project);
    free(prog->context);
    free(prog);
}

/* ---- running --------------------------------------------------------------------------------- */

/* A byte a row, 1 is NULL. Returns whether any is: most columns of a chunk have none. */
static bool expand_nulls(const struct batch_col *col, uint32_t first, uint32_t n, uint8_t *nulls)
{
    ASSERT(n <= VEC_ROWS && col->validity != NULL);
    const uint64_t *words = col->validity + first / 64;
    uint32_t shift = first % 64;
    bool any = false;
    for (uint32_t w = 0; w * 64 < n; w++) {
        uint32_t len = n - w * 64 < 64 ? n - w * 64 : 64;
        uint64_t valid = words[w] >> shift;
        if (shift + len > 64) { /* the chunk starts within a word */
            valid |= words[w + 1] << (64 - shift);
        }
        uint64_t bits = ~valid & (len == 64 ? UINT64_MAX : (1ULL << len) - 1);
        any |= bits != 0;
        for (uint32_t i = 0; i < len; i++) {
            nulls[w * 64 + i] = (uint8_t)(bits >> i & 1);
        }
    }
    return any;
}

/* Fixed widths are not copied: the vector points into the batch. Strings become slices. */
static void load_column(struct mfp_prog *prog, uint32_t c, const struct batch_col *col,
                        uint32_t first, uint32_t n)
{
    struct col_mem *mem = prog->mem[c];
    struct vec *v = &prog->ev.cols[c];
    ASSERT(col->kind == prog->kinds[c]);
    *v = (struct vec){.mask = UINT32_MAX};
    if (col->validity != NULL && expand_nulls(col, first, n, mem->nulls)) {
        v->nulls = mem->nulls;
    }
    size_t width = type_width(col->kind);
    if (width > 0) {
        v->values = (const uint8_t *)col->values + first * width;
        return;
    }
    const uint32_t *offsets = col->offsets + first;
    for (uint32_t i = 0; i < n; i++) {
        mem->slices[i] = (struct slice){(const char *)col->bytes + offsets[i],
                                        offsets[i + 1] - offsets[i]};
    }
    v->values = mem->slices;
}

/*
 * Drops failed rows, and those where v (if given) is not true. Without a branch: every row is
 * written, only the place moves.
 */
static uint32_t keep_rows(struct mfp_prog *prog, const struct vec *v, const uint32_t *sel,
                          uint32_t n)
{
    const uint8_t *failed = prog->ev.failed;
    const uint8_t *values = v != NULL ? v->values : NULL;
    uint32_t kept = 0;
    for (uint32_t j = 0; j < n; j++) {
        uint32_t i = sel != NULL ? sel[j] : j;
        bool keep = !failed[i];
        if (v != NULL) {
            keep &= values[i & v->mask] == 1;
            keep &= v->nulls == NULL || v->nulls[i & v->mask] == 0;
        }
        prog->sel_rows[kept] = i;
        kept += keep;
    }
    return kept;
}

/*
 * Runs the steps; returns how many rows are left, *sel NULL while that is all of them. A map that
 * made rows fail drops them at once: later steps must not see them.
 */
static uint32_t run_steps(struct mfp_prog *prog, uint32_t n, const uint32_t **sel)
{
    struct eval *ev = &prog->ev;
    uint32_t left = n;
    for (uint32_t s = 0; s < prog->steps_len && left > 0; s++) {
        struct step *step = &prog->steps[s];
        struct vec v;
        size_t failures = ev->failures_len;
        cnode_eval(ev, step->node, *sel, left, &v);
        if (step->predicate) {
            uint32_t kept = keep_rows(prog, &v, *sel, left);
            cnode_release(ev, step->node);
            *sel = kept < left ? prog->sel_rows : *sel;
            left = kept;
            continue;
        }
        ev->cols[step->column] = v;
        if (ev->failures_len > failures) {
            left = keep_rows(prog, NULL, *sel, left);
            *sel = prog->sel_rows;
        }
    }
    return left;
}

/* Strings without NULLs: room for all of them at once. */
static void append_slices(struct build_col *to, const struct vec *v, const uint32_t *sel,
                          uint32_t n)
{
    ASSERT(to->rows <= BATCH_ROWS_MAX && type_kind_stored(to->kind));
    const struct slice *s = v->values;
    size_t total = 0;
    for (uint32_t j = 0; j < n; j++) {
        total += s[(sel != NULL ? sel[j] : j) & v->mask].len;
    }
    build_col_reserve_bytes(to, total);
    for (uint32_t j = 0; j < n; j++) {
        struct slice one = s[(sel != NULL ? sel[j] : j) & v->mask];
        if (one.len > 0) {
            memcpy(to->bytes + to->bytes_len, one.s, one.len);
            to->bytes_len += one.len;
        }
        to->offsets[to->rows + j + 1] = (uint32_t)to->bytes_len;
    }
    build_col_grew(to, n);
}

/*
 * One copy where the vector is dense and without NULLs. Constants have one value for all rows:
 * their mask is 0.
 */
static void append_vec(struct build_col *to, const struct vec *v, const uint32_t *sel, uint32_t n)
{
    ASSERT(to->rows <= BATCH_ROWS_MAX && type_kind_stored(to->kind));
    build_col_reserve(to, n);
    if (to->width == 0 && v->nulls == NULL) {
        append_slices(to, v, sel, n);
        return;
    }
    if (to->width > 0 && v->nulls == NULL && sel == NULL && v->mask != 0) {
        memcpy(to->values + (size_t)to->rows * to->width, v->values, (size_t)n * to->width);
        build_col_grew(to, n);
        return;
    }
    for (uint32_t j = 0; j < n; j++) {
        uint32_t i = (sel != NULL ? sel[j] : j) & v->mask;
        if (v->nulls != NULL && v->nulls[i]) {
            build_col_null(to);
        } else if (to->width > 0) {
            build_col_fixed(to, (const uint8_t *)v->values + (size_t)i * to->width);
        } else {
            const struct slice *s = (const struct slice *)v->values + i;
            build_col_bytes(to, s->s, s->len);
        }
    }
}

/* The time and diff are those of the input row: when it is retracted, so is its error. */
static void append_failures(struct mfp_prog *prog, const struct batch *in, uint32_t first,
                            uint32_t end, struct batch_builder *err)
{
    ASSERT(in->rows <= BATCH_ROWS_MAX && in->cols <= BATCH_COLS_MAX);
    for (size_t f = 0; f < prog->ev.failures_len; f++) {
        const struct failure *failure = &prog->ev.failures[f];
        uint32_t row = first + failure->row;
        if (row >= end) {
            continue;
        }
        build_col_bytes(&err->col[ERR_COL_SQLSTATE], failure->sqlstate, strlen(failure->sqlstate));
        build_col_bytes(&err->col[ERR_COL_MESSAGE], failure->message, strlen(failure->message));
        build_col_bytes(&err->col[ERR_COL_CONTEXT], prog->context, strlen(prog->context));
        batch_builder_end_row(err, batch_time(in, row), batch_diff(in, row));
    }
}

/* Bytes of the values in rows from to to - 1 of the selection. */
static size_t slice_bytes(const struct vec *v, const uint32_t *sel, uint32_t from, uint32_t to)
{
    ASSERT(from <= to && to <= VEC_ROWS);
    const struct slice *s = v->values;
    size_t total = 0;
    for (uint32_t j = from; j < to; j++) {
        uint32_t i = (sel != NULL ? sel[j] : j) & v->mask;
        total += v->nulls == NULL || v->nulls[i] == 0 ? s[i].len : 0;
    }
    return total;
}

/* Likewise of all projected columns; only texts count: what has a fixed width is small. */
static size_t projected_bytes(const struct mfp_prog *prog, const uint32_t *sel, uint32_t from,
                              uint32_t to)
{
    ASSERT(from <= to && to <= VEC_ROWS);
    size_t total = 0;
    for (uint32_t p = 0; p < prog->project_len; p++) {
        uint32_t col = prog->project[p];
        if (type_is_variable(prog->kinds[col])) {
            total += slice_bytes(&prog->ev.cols[col], sel, from, to);
        }
    }
    return total;
}

/* How many of the rows that are left fit into room bytes; at least one. *bytes: of those. */
static uint32_t rows_that_fit(const struct mfp_prog *prog, const uint32_t *sel, uint32_t left,
                              size_t room, size_t *bytes)
{
    *bytes = projected_bytes(prog, sel, 0, left);
    if (*bytes <= room || left <= 1) {
        return left;
    }
    uint32_t fit = 0;
    *bytes = 0;
    while (fit == 0 || *bytes <= room) {
        *bytes += projected_bytes(prog, sel, fit, fit + 1);
        fit++;
    }
    ASSERT(fit <= left);
    return fit;
}

static void append_left(struct mfp_prog *prog, const struct batch *in, uint32_t first,
                        const uint32_t *sel, uint32_t left, struct batch_builder *ok)
{
    ASSERT(left <= VEC_ROWS && first <= in->rows);
    for (uint32_t p = 0; p < prog->project_len && left > 0; p++) {
        append_vec(&ok->col[p], &prog->ev.cols[prog->project[p]], sel, left);
    }
    if (left > 0) {
        builder_end_rows(ok, in->times != NULL ? in->times + first : NULL,
                         in->diffs != NULL ? in->diffs + first : NULL, in->time_const,
                         in->diff_const, sel, left);
    }
}

/*
 * Rows that are left go to ok, those that failed to err; results are released at the end, since
 * columns of the projection may lie in them. Returns how many rows of the batch are done: fewer
 * than n when room, which shrinks by what was appended, is used up; none when evaluating so many
 * rows took too much memory.
 */
static uint32_t run_chunk(struct mfp_prog *prog, const struct batch *in, uint32_t first, uint32_t n,
                          struct batch_builder *ok, struct batch_builder *err, size_t *room)
{
    ASSERT(n > 0 && n <= VEC_ROWS && in->cols <= BATCH_COLS_MAX);
    const uint32_t *sel = NULL;
    eval_reset(&prog->ev);
    prog->ev.budget = n > 1 ? EVAL_BYTES : 0; /* one row has to do, whatever it takes */
    for (uint32_t c = 0; c < prog->input_cols; c++) {
        if (prog->used[c]) {
            load_column(prog, c, &in->col[c], first, n);
        }
    }
    uint32_t left = run_steps(prog, n, &sel);
    uint32_t done = 0;
    if (!eval_over(&prog->ev)) {
        size_t bytes;
        uint32_t fit = rows_that_fit(prog, sel, left, *room, &bytes);
        done = fit == left ? n : sel != NULL ? sel[fit] : fit;
        append_left(prog, in, first, sel, fit, ok);
        append_failures(prog, in, first, first + done, err);
        *room -= bytes < *room ? bytes : *room;
    }
    for (uint32_t s = 0; s < prog->steps_len; s++) {
        cnode_release(&prog->ev, prog->steps[s].node);
    }
    eval_forget_shared(&prog->ev);
    return done;
}

/*
 * Chunks shrink when what they give is too long, so that rows are not evaluated in vain again and
 * again, and grow back slowly.
 */
uint32_t mfp_run(struct mfp_prog *prog, const struct batch *in, uint32_t first,
                 struct batch_builder *ok, struct batch_builder *err)
{
    ASSERT(first <= in->rows && in->rows <= BATCH_ROWS_MAX && in->cols <= BATCH_COLS_MAX);
    ASSERT(in->cols == prog->input_cols && ok->cols == prog->project_len);
    ASSERT(err->cols == ERR_COLS);
    size_t room = RUN_BYTES;
    while (first < in->rows && room > 0) {
        uint32_t rows = in->rows - first;
        uint32_t n = rows < prog->chunk_rows ? rows : prog->chunk_rows;
        uint32_t done = run_chunk(prog, in, first, n, ok, err, &room);
        ASSERT(done <= n && (done > 0 || n > 1));
        if (done == 0) {
            prog->chunk_rows = n / 4 > 0 ? n / 4 : 1;
        } else if (done < n) {
            prog->chunk_rows = done;
        } else if (n == prog->chunk_rows && n < VEC_ROWS && prog->ev.taken < EVAL_BYTES / 4) {
            prog->chunk_rows = 2 * n < VEC_ROWS ? 2 * n : (uint32_t)VEC_ROWS;
        }
        first += done;
    }
    return first;
}

/* ---- constants ------------------------------------------------------------------------------- */

/*
 * The same code that runs over batches: a constant folded by the planner is what the engine would
 * have computed.
 */
err_t expr_eval_const(const struct expr *e, struct arena *arena, struct datum *out)
{
    struct eval ev = {0};
    struct vec v;
    err_t err = ERR_OK;
    TRY(expr_validate(e, NULL, 0));
    struct cnode *node = cnode_compile(e);
    cnode_eval(&ev, node, NULL, 1, &v);
    if (ev.failures_len > 0) {
        err = err_sql(ERR_INVALID, ev.failures[0].sqlstate, "%s", ev.failures[0].message);
    } else {
        vec_datum(&v, cnode_kind(node), 0, out);
        if (!out->null && type_is_variable(cnode_kind(node))) {
            out->s = arena_memdup(arena, out->s, out->len);
        }
    }
    cnode_release(&ev, node);
    cnode_free(node);
    eval_free(&ev);
    return err;
}
