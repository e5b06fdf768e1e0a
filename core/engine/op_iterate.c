/*
 * Recursion: scopes and what drives them.
 *
 * The operators of a scope are operators like others, but their times are inner ones: base +
 * iteration. Outer times are totally ordered, so they are gone through one at a time (a round), and
 * base is behind all inner times of the rounds before: inner frontiers grow for ever as outer ones
 * do. What enters is held back by an operator of its own (enter) until its round; then it is put
 * out at base. A variable puts out what its body changed an iteration before. All that is left to
 * the fixpoint, which is the last operator of its scope:
 *
 *   OUTSIDE   no round; waits until something is complete
 *   STARTING  what an iteration starts with is put out: what enters, what variables take over
 *   INSIDE    an iteration runs: waits until all bodies are complete through it
 *   ENDING    what the bodies changed is counted, if a limit ends with this iteration
 *   LEAVING   the round's changes of the bodies are put out at the outer time, consolidated
 *
 * Between two of them all workers agree (struct vote). Outside each says up to where its input is
 * complete and without changes, or that it has changes there; the least says what is next: a round,
 * or only a frontier. Behind an iteration each says the next one at which it has anything to do;
 * the least is the next one, none ends the round. What a worker sent in an iteration lies in front
 * of its frontier for it, and who votes has heard the frontiers of all: so nothing is under way
 * when an iteration is over, and no vote can miss it. Lanes are FIFO and nobody votes again before
 * he has everybody's vote, so votes need no numbers; at most two of a worker are unread.
 *
 * Errors go through the scope as everywhere, but not round again: all errors of a round's
 * iterations add up to those of the bodies' last contents, and leave at the outer time.
 */
#include "core/engine/iterate.h"

#include <stdio.h>

enum phase { OUTSIDE, OUTSIDE_VOTED, STARTING, INSIDE, ENDING, INSIDE_VOTED, LEAVING };

enum { VOTES_MAX = 2 };

/* What a worker has to say between two phases. */
struct vote {
    uint64_t time;
    /* Outside: it has changes at that time, and all of them. Inside: no change of the iteration
     * that a limit ends with stands. */
    bool changes;
};

struct votes {
    struct vote vote[VOTES_MAX];
    uint32_t len;
};

/* A variable and its body. */
struct binding {
    struct op *variable;
    bool set;                /* the body puts out no row twice, in all iterations together */
    struct chunk_list next;  /* for the variable */
    struct chunk_list round; /* changes of this round so far */
    /* Changes of the last iteration a limit allows, of all rounds: rows -> int64_t. */
    struct htable beyond;
};

/*
 * Chunks whose equal rows are added up, in steps of a bounded size: first each chunk is divided by
 * the hash of its rows, then part by part is consolidated.
 */
struct sums {
    struct chunk_list list; /* not divided yet from `divided` on */
    size_t divided;
    struct chunk_list *parts;
    uint32_t parts_len, at; /* at: the next part to be consolidated */
    bool open;
};

enum { PART_ROWS = 32768, PARTS_MAX = 1024 };

struct scope {
    enum phase phase;
    uint64_t base, now; /* inner times: of iteration 0, of the one at hand */
    uint64_t done;      /* outer times before are through */
    uint64_t time;      /* outer time of the round */
    bool within;        /* the round ended within the limit, on all workers */
    bool failed;        /* the error of the limit stands */
    struct binding *bindings;
    uint32_t bindings_len;
    struct op **enters, **parts; /* parts: the scope's operators and variables */
    size_t enters_len, enters_cap, parts_len, parts_cap;
    /* Where STARTING or ENDING is: at which of its lists, at which chunk of that. */
    size_t list_at, item_at;
    struct chunk_list entering; /* the list at hand of what enters */
    struct chunk_list errors;   /* of this round */
    uint32_t leaving;         /* the binding that is put out, and the state of that */
    struct sums sums;
    struct votes *votes;      /* per worker */
    struct pool pool;         /* of beyond */
    struct buf row;
};

uint64_t scope_base(const struct op *op)
{
    ASSERT(op->scope != NULL);
    const struct scope *scope = op->scope->state;
    return scope->base;
}

void scope_out_of_range(struct op *op)
{
    op_fail(op, err_sql(ERR_LIMIT, "22003", "bigint out of range"));
}

/* ---- adding up ------------------------------------------------------------------------------- */

static void sums_close(struct sums *sums)
{
    chunk_list_free(&sums->list);
    for (uint32_t p = 0; p < sums->parts_len; p++) {
        chunk_list_free(&sums->parts[p]);
    }
    free(sums->parts);
    *sums = (struct sums){0};
}

/* Takes the list's chunks. */
static void sums_open(struct sums *sums, struct chunk_list *list)
{
    ASSERT(!sums->open && sums->parts == NULL);
    uint64_t rows = 0;
    for (size_t i = 0; i < list->chunks_len; i++) {
        rows += list->chunks[i]->batch.rows;
    }
    uint64_t parts = rows / PART_ROWS + 1;
    sums->open = true;
    sums->list = *list;
    sums->parts_len = parts < PARTS_MAX ? (uint32_t)parts : PARTS_MAX;
    sums->parts = mem_zalloc(sums->parts_len * sizeof(*sums->parts));
    *list = (struct chunk_list){0};
    if (sums->parts_len == 1) {
        sums->parts[0] = sums->list;
        sums->list = (struct chunk_list){0};
    }
}

/* The next chunk's rows go to the parts of their hashes. */
static void sums_divide(struct sums *sums)
{
    struct chunk *chunk = sums->list.chunks[sums->divided++];
    const struct batch *b = &chunk->batch;
    uint64_t *hashes = mem_alloc(b->rows * sizeof(*hashes));
    void **places = mem_zalloc(sums->parts_len * sizeof(*places));
    size_t *sizes = mem_zalloc(sums->parts_len * sizeof(*sizes));
    struct batch_split *split = batch_split_new();
    batch_hash_rows(b, NULL, 0, hashes);
    for (uint32_t i = 0; i < b->rows; i++) {
        hashes[i] <<= 32; /* by the upper half rows were divided among the workers already */
    }
    batch_split_begin(split, b, hashes, sums->parts_len);
    for (uint32_t p = 0; p < sums->parts_len; p++) {
        if (batch_split_rows(split, p) > 0) {
            sizes[p] = batch_split_size(split, p);
            places[p] = aligned_alloc(BATCH_ALIGN, sizes[p]);
            ASSERT(places[p] != NULL);
        }
    }
    batch_split_write(split, places);
    for (uint32_t p = 0; p < sums->parts_len; p++) {
        if (places[p] != NULL) {
            chunk_list_push(&sums->parts[p],
                            chunk_take(places[p], sizes[p], b->cols, chunk->account));
        }
    }
    batch_split_free(split);
    free(sizes);
    free(places);
    free(hashes);
}

/* Whether a row's diffs could come to more than they can say: all of them together would. */
static bool are_too_many(const struct batch *b, unsigned __int128 *total)
{
    for (uint32_t row = 0; b->diffs != NULL && row < b->rows; row++) {
        *total += trail_size(b->diffs[row]);
    }
    *total += b->diffs == NULL ? (unsigned __int128)trail_size(b->diff_const) * b->rows : 0;
    return *total > INT64_MAX;
}

static void consolidate_into(struct op *op, const struct chunk_list *list,
                             struct batch_builder *out)
{
    const struct batch **batches = mem_alloc(list->chunks_len * sizeof(*batches));
    unsigned __int128 total = 0;
    bool too_many = false;
    for (size_t i = 0; i < list->chunks_len; i++) {
        batches[i] = &list->chunks[i]->batch;
        too_many = too_many || are_too_many(batches[i], &total);
    }
    if (too_many) {
        scope_out_of_range(op);
    }
    batch_consolidate(batches, list->chunks_len, 0, out);
    free(batches);
}

/* One step; true when a part was added to out. At the end it is closed. */
static bool sums_step(struct op *op, struct sums *sums, struct batch_builder *out)
{
    ASSERT(sums->open && sums->at < sums->parts_len);
    if (sums->divided < sums->list.chunks_len) {
        sums_divide(sums);
        return false;
    }
    struct chunk_list *part = &sums->parts[sums->at++];
    if (part->chunks_len > 0) {
        consolidate_into(op, part, out);
    }
    chunk_list_free(part);
    if (sums->at == sums->parts_len) {
        sums_close(sums);
    }
    return true;
}

/* ---- votes ----------------------------------------------------------------------------------- */

bool scope_takes_votes(const struct op *op)
{
    return op->node != NULL && op->node->op == PLAN_FIXPOINT;
}

static void count_vote(struct scope *scope, uint32_t from, uint64_t time, bool changes)
{
    struct votes *votes = &scope->votes[from];
    ASSERT(votes->len < VOTES_MAX);
    votes->vote[votes->len++] = (struct vote){.time = time, .changes = changes};
}

/* More than there can be unread: the sender does not wait for others' votes. */
void scope_vote(struct op *op, uint32_t from, uint64_t time, bool changes)
{
    struct scope *scope = op->state;
    ASSERT(from < op->engine->config.workers && from != op->engine->config.worker);
    if (scope->votes[from].len == VOTES_MAX) {
        op_fail(op, err_new(ERR_PROTOCOL, "too many votes from worker %u", from));
        return;
    }
    count_vote(scope, from, time, changes);
    op_activate(op);
}

static void vote(struct op *op, uint64_t time, bool changes)
{
    uint32_t self = op->engine->config.worker;
    for (uint32_t w = 0; w < op->engine->config.workers; w++) {
        if (w != self) {
            engine_exchange_vote(op, w, time, changes);
        }
    }
    count_vote(op->state, self, time, changes);
}

/* Takes a vote of each worker; false while one is missing. *out: the least time, and whether all
 * who have nothing before it are complete there. */
static bool decide(struct op *op, struct vote *out)
{
    struct scope *scope = op->state;
    uint32_t workers = op->engine->config.workers;
    for (uint32_t w = 0; w < workers; w++) {
        if (scope->votes[w].len == 0) {
            return false;
        }
    }
    *out = (struct vote){.time = FRONTIER_EMPTY, .changes = true};
    for (uint32_t w = 0; w < workers; w++) {
        struct votes *votes = &scope->votes[w];
        struct vote first = votes->vote[0];
        votes->vote[0] = votes->vote[1];
        votes->len--;
        if (first.time < out->time) {
            *out = first;
        } else if (first.time == out->time) {
            out->changes &= first.changes;
        }
    }
    return true;
}

/* ---- a round --------------------------------------------------------------------------------- */

/* Outer times before are through. */
static void advance_outside(struct op *op, uint64_t frontier)
{
    struct scope *scope = op->state;
    ASSERT(frontier > scope->done);
    scope->done = frontier;
    for (size_t u = 0; u < op->users_len; u++) {
        op_advance(op->users[u].op, frontier);
    }
}

static uint64_t least_time(const struct chunk_list *list, uint64_t least)
{
    for (size_t i = 0; i < list->chunks_len; i++) {
        uint64_t time = list->chunks[i]->time_min;
        least = time < least ? time : least;
    }
    return least;
}

/* The own vote outside; false when there is nothing new to say. */
static bool vote_outside(struct op *op)
{
    struct scope *scope = op->state;
    uint64_t frontier = FRONTIER_EMPTY;
    uint64_t first = FRONTIER_EMPTY;
    for (size_t e = 0; e < scope->enters_len; e++) {
        const struct port *port = &scope->enters[e]->ports[0];
        frontier = port->frontier < frontier ? port->frontier : frontier;
        first = least_time(&port->err, least_time(&port->ok, first));
    }
    ASSERT(first >= scope->done);
    if (frontier <= scope->done) {
        return false;
    }
    vote(op, first < frontier ? first : frontier, first < frontier);
    return true;
}

/*
 * An operator of the scope puts out a list of chunks at this iteration. False when out of fuel
 * before the end: where ports are fed by key, a chunk is divided and copied at once.
 */
static bool put_in(struct op *op, struct op *from, struct chunk_list *list, bool err)
{
    struct scope *scope = op->state;
    bool copied = op->engine->config.workers > 1;
    while (scope->item_at < list->chunks_len) {
        struct chunk *chunk = list->chunks[scope->item_at++];
        op_emit(from, chunk_at(chunk, scope->now), err);
        if (fuel_spend(op->engine, copied ? 1 + chunk->batch.rows / 4 : 1)) {
            return false;
        }
    }
    chunk_list_clear(list);
    scope->item_at = 0;
    return true;
}

/* Rows and errors that enter at one place. They are taken once. */
static bool put_entered(struct op *op, struct op *enter, bool err)
{
    struct scope *scope = op->state;
    if (scope->entering.chunks_len == 0) {
        op_port_take(enter, &enter->ports[0], err, scope->time + 1, &scope->entering);
    }
    return put_in(op, enter, &scope->entering, err);
}

/* The operators in between run before the fixpoint is called again: they come before it. False when
 * out of fuel before the end. */
static bool start_iteration(struct op *op)
{
    struct scope *scope = op->state;
    size_t variables = scope->bindings_len;
    size_t lists = variables + (scope->now == scope->base ? 2 * scope->enters_len : 0);
    ASSERT(scope->now >= scope->base && scope->now < TIME_MAX);
    for (; scope->list_at < lists; scope->list_at++) {
        size_t at = scope->list_at;
        size_t e = (at - variables) / 2;
        bool done = at < variables
                        ? put_in(op, scope->bindings[at].variable, &scope->bindings[at].next, false)
                        : put_entered(op, scope->enters[e], (at - variables) % 2 == 1);
        if (!done) {
            return false;
        }
    }
    scope->list_at = 0;
    for (uint32_t k = 0; k < scope->bindings_len; k++) {
        op_advance(scope->bindings[k].variable, scope->now + 1);
    }
    for (size_t e = 0; e < scope->enters_len; e++) {
        op_advance(scope->enters[e], scope->now + 1);
    }
    return true;
}

static void start_round(struct scope *scope, uint64_t time)
{
    scope->time = time;
    note_given(scope->bindings[0].variable->dataflow, time); /* maybe to another worker */
    scope->now = scope->base;
    scope->phase = STARTING;
}

/* ---- an iteration ---------------------------------------------------------------------------- */

static void count_beyond(struct scope *scope, struct binding *binding, const struct batch *b)
{
    for (uint32_t row = 0; row < b->rows; row++) {
        buf_clear(&scope->row);
        batch_encode_row(b, row, NULL, 0, false, &scope->row);
        uint64_t hash = hash_bytes(scope->row.data, scope->row.len);
        struct htable_entry *entry =
            htable_find(&binding->beyond, hash, scope->row.data, scope->row.len);
        if (entry == NULL) {
            entry = htable_add(&binding->beyond, hash, scope->row.data, scope->row.len);
        }
        int64_t *count = htable_payload(entry);
        *count = trail_plus(*count, batch_diff(b, row));
        if (*count == 0) {
            htable_remove(&binding->beyond, entry);
        }
    }
}

/* What changes in the last iteration that a limit allows did not end by then, and goes round no
 * more. False when out of fuel before the end. */
static bool end_iteration(struct op *op)
{
    struct scope *scope = op->state;
    const struct plan_fixpoint *plan = &op->node->fixpoint;
    bool last = plan->limit > 0 && scope->now - scope->base + 1 >= plan->limit;
    for (; last && scope->list_at < scope->bindings_len; scope->list_at++) {
        struct binding *binding = &scope->bindings[scope->list_at];
        while (plan->limit_error && scope->item_at < binding->next.chunks_len) {
            const struct batch *b = &binding->next.chunks[scope->item_at++]->batch;
            count_beyond(scope, binding, b);
            if (fuel_spend(op->engine, b->rows)) {
                return false;
            }
        }
        chunk_list_clear(&binding->next);
        scope->item_at = 0;
    }
    scope->list_at = 0;
    return true;
}

/* What the bodies changed in this iteration. */
static void collect(struct op *op)
{
    struct scope *scope = op->state;
    for (uint32_t k = 0; k < scope->bindings_len; k++) {
        struct binding *binding = &scope->bindings[k];
        struct port *port = &op->ports[k];
        ASSERT(binding->next.chunks_len == 0);
        op_port_take(op, port, false, scope->now + 1, &binding->next);
        for (size_t i = 0; i < binding->next.chunks_len; i++) {
            chunk_list_push(&binding->round, chunk_ref(binding->next.chunks[i]));
        }
        for (size_t i = 0; i < port->err.chunks_len; i++) {
            chunk_list_push(&scope->errors, port->err.chunks[i]);
        }
        port->err.chunks_len = 0;
    }
}

static bool is_within(const struct scope *scope)
{
    bool within = true;
    for (uint32_t k = 0; k < scope->bindings_len; k++) {
        within &= scope->bindings[k].beyond.len == 0;
    }
    return within;
}

/* The next inner time at which anything is left to do here. */
static uint64_t next_time(struct op *op)
{
    struct scope *scope = op->state;
    uint64_t next = FRONTIER_EMPTY;
    for (size_t i = 0; i < scope->parts_len; i++) {
        const struct op *part = scope->parts[i];
        next = part->pending < next ? part->pending : next;
        for (uint32_t p = 0; p < part->ports_len; p++) {
            next = least_time(&part->ports[p].ok, next);
        }
    }
    for (uint32_t k = 0; k < scope->bindings_len; k++) {
        next = least_time(&op->ports[k].ok, next);
        next = scope->bindings[k].next.chunks_len > 0 ? scope->now + 1 : next;
    }
    ASSERT(next > scope->now);
    return next;
}

/* ---- leaving --------------------------------------------------------------------------------- */

/* A set to which rows were only added has each of them once. */
static bool is_consolidated(const struct binding *binding)
{
    const struct chunk_list *round = &binding->round;
    if (round->chunks_len == 1) {
        return true;
    }
    for (size_t i = 0; binding->set && i < round->chunks_len; i++) {
        const struct batch *b = &round->chunks[i]->batch;
        for (uint32_t row = 0; row < b->rows; row++) {
            if (batch_diff(b, row) < 0) {
                return false;
            }
        }
    }
    return binding->set;
}

/* To all who use the binding; takes the reference. */
static void emit_change(struct op *op, uint32_t k, struct chunk *chunk)
{
    struct scope *scope = op->state;
    for (size_t u = 0; u < op->users_len; u++) {
        struct op *leave = op->users[u].op;
        if (leave->node->leave.binding == k) {
            op_emit(leave, chunk_at(chunk, scope->time), false);
        }
    }
    chunk_unref(chunk);
}

/* One step of putting out a binding's changes of the round; true when they are all out. */
static bool emit_binding(struct op *op, uint32_t k)
{
    struct scope *scope = op->state;
    struct binding *binding = &scope->bindings[k];
    struct chunk_list *round = &binding->round;
    if (!scope->sums.open && is_consolidated(binding)) {
        for (size_t i = 0; i < round->chunks_len; i++) {
            emit_change(op, k, round->chunks[i]);
        }
        round->chunks_len = 0;
        return true;
    }
    if (!scope->sums.open) {
        for (size_t i = 0; i < round->chunks_len; i++) { /* equal rows have equal times then */
            struct chunk *chunk = chunk_at(round->chunks[i], scope->base);
            chunk_unref(round->chunks[i]);
            round->chunks[i] = chunk;
        }
        sums_open(&scope->sums, round);
    }
    const struct op *variable = binding->variable;
    struct batch_builder *out = batch_builder_new(variable->kinds, variable->cols);
    if (sums_step(op, &scope->sums, out)) {
        struct chunk *chunk =
            chunk_from_builder(out, variable->cols, &op->dataflow->account);
        if (chunk != NULL) {
            emit_change(op, k, chunk);
        }
    }
    batch_builder_free(out);
    return !scope->sums.open;
}

/* The error of the limit, or its end. */
static void emit_limit(struct op *op, struct op *leave, bool failed)
{
    struct scope *scope = op->state;
    char text[128];
    const char *name = op->dataflow->plan->name;
    snprintf(text, sizeof(text), "a recursive query did not end within %llu iterations",
             (unsigned long long)op->node->fixpoint.limit);
    op_error(leave, "54000", text, name != NULL ? name : "", scope->time, failed ? 1 : -1);
}

/* Everything of the round, at its outer time. False when out of fuel before the end. */
static bool leave_round(struct op *op)
{
    struct scope *scope = op->state;
    while (scope->leaving < scope->bindings_len) {
        bool done = emit_binding(op, scope->leaving);
        scope->leaving += done;
        if (fuel_spend(op->engine, done ? 1 : PART_ROWS / 8)) {
            return false;
        }
    }
    scope->leaving = 0;
    bool failed = !scope->within && op->engine->config.worker == 0; /* one says so for all */
    for (size_t u = 0; u < op->users_len; u++) {
        struct op *leave = op->users[u].op;
        ASSERT(leave->node->op == PLAN_LEAVE);
        for (size_t i = 0; i < scope->errors.chunks_len; i++) {
            op_emit(leave, chunk_at(scope->errors.chunks[i], scope->time), true);
        }
        if (failed != scope->failed) {
            emit_limit(op, leave, failed);
        }
    }
    scope->failed = failed;
    chunk_list_clear(&scope->errors);
    scope->base = scope->now + 1;
    return true;
}

/* ---- the fixpoint ---------------------------------------------------------------------------- */

/* A time that no worker in order could have voted for. */
static bool refuse(struct op *op, uint64_t time)
{
    op_fail(op, err_new(ERR_PROTOCOL, "a vote for %llu in the recursion of node %u",
                        (unsigned long long)time, op->index));
    return false;
}

static bool after_outside(struct op *op)
{
    struct scope *scope = op->state;
    struct vote least;
    if (!decide(op, &least)) {
        return false;
    }
    if (least.time < scope->done || (!least.changes && least.time == scope->done)) {
        return refuse(op, least.time);
    }
    if (least.changes && least.time != FRONTIER_EMPTY) {
        start_round(scope, least.time);
        return true;
    }
    advance_outside(op, least.time);
    scope->phase = OUTSIDE;
    return true;
}

static bool after_inside(struct op *op)
{
    struct scope *scope = op->state;
    struct vote least;
    if (!decide(op, &least)) {
        return false;
    }
    if (least.time == FRONTIER_EMPTY) {
        scope->within = least.changes;
        scope->phase = LEAVING;
        return true;
    }
    if (least.time <= scope->now || least.time >= TIME_MAX) {
        return refuse(op, least.time);
    }
    if (least.time - scope->base >= UINT32_MAX) {
        op_fail(op, err_sql(ERR_LIMIT, "54000", "a recursion of 2^32 iterations"));
        return false;
    }
    scope->now = least.time;
    scope->phase = STARTING;
    return true;
}

/* What has to be done before the next phase; false when out of fuel before the end. */
static bool run_phase(struct op *op)
{
    struct scope *scope = op->state;
    switch (scope->phase) {
    case STARTING:
        return start_iteration(op);
    case ENDING:
        return end_iteration(op);
    default:
        ASSERT(scope->phase == LEAVING);
        return leave_round(op);
    }
}

/* One step of the machine; false when it has to wait. */
static bool advance_scope(struct op *op)
{
    struct scope *scope = op->state;
    bool busy = scope->phase == STARTING || scope->phase == ENDING || scope->phase == LEAVING;
    if (busy && !run_phase(op)) {
        op_activate(op);
        return false;
    }
    switch (scope->phase) {
    case OUTSIDE:
        if (!vote_outside(op)) {
            return false;
        }
        scope->phase = OUTSIDE_VOTED;
        return true;
    case OUTSIDE_VOTED:
        return after_outside(op);
    case STARTING:
        scope->phase = INSIDE;
        return true;
    case INSIDE:
        if (op_input_frontier(op) <= scope->now) {
            return false;
        }
        collect(op);
        scope->phase = ENDING;
        return true;
    case ENDING:
        vote(op, next_time(op), is_within(scope));
        scope->phase = INSIDE_VOTED;
        return true;
    case INSIDE_VOTED:
        return after_inside(op);
    case LEAVING:
        scope->phase = OUTSIDE;
        advance_outside(op, scope->time + 1);
        return true;
    default:
        UNREACHABLE();
    }
}

static bool fixpoint_work(struct op *op)
{
    while (op->dataflow->failed == ERR_OK && advance_scope(op)) {
        if (fuel_spend(op->engine, 1)) {
            return true;
        }
    }
    return false;
}

static void fixpoint_release(struct op *op)
{
    struct scope *scope = op->state;
    for (uint32_t k = 0; k < scope->bindings_len; k++) {
        struct binding *binding = &scope->bindings[k];
        chunk_list_free(&binding->next);
        chunk_list_free(&binding->round);
        htable_clear(&binding->beyond);
    }
    chunk_list_free(&scope->entering);
    chunk_list_free(&scope->errors);
    sums_close(&scope->sums);
    pool_clear(&scope->pool);
    buf_free(&scope->row);
    free(scope->bindings);
    free(scope->enters);
    free(scope->parts);
    free(scope->votes);
    free(scope);
}

/* ---- rendering ------------------------------------------------------------------------------- */

/* Operators that have nothing to do by themselves: the fixpoint uses their output. */
static bool no_work(struct op *op)
{
    return false;
}

/*
 * In front of a body that may put out a row several times in an iteration: adds such rows up, of
 * all workers. What cancels would go round with the rest, and would count as changes at a limit.
 */
static bool gather_work(struct op *op)
{
    struct sums *sums = op->state;
    op_forward_errors(op);
    if (!sums->open) {
        struct chunk_list list = {0};
        uint64_t upper = op_input_frontier(op);
        if (upper <= op->frontier) {
            return false;
        }
        op_port_take(op, &op->ports[0], false, upper, &list);
        if (list.chunks_len == 0) {
            op_advance(op, upper);
            return false;
        }
        sums_open(sums, &list);
    }
    while (sums->open) {
        sums_step(op, sums, op_ok(op));
        op_row_done(op);
        if (sums->open && fuel_spend(op->engine, PART_ROWS / 8)) {
            break;
        }
    }
    if (!sums->open) { /* an iteration's frontier moves on when all has seen it */
        op_advance(op, op_input_frontier(op));
    }
    return sums->open;
}

static void gather_release(struct op *op)
{
    sums_close(op->state);
    free(op->state);
}

static bool enter_work(struct op *op)
{
    op_activate(op->scope);
    return false;
}

void op_make_variable(struct op *op)
{
    static const struct op_class class = {"variable", no_work, NULL};
    op->class = &class;
}

void op_make_leave(struct op *op)
{
    static const struct op_class class = {"leave", no_work, NULL};
    op->class = &class;
}

void op_make_fixpoint(struct op *op)
{
    static const struct op_class class = {"fixpoint", fixpoint_work, fixpoint_release};
    struct scope *scope = MEM_NEW(struct scope);
    const struct plan_node *node = op->node;
    struct dataflow *dataflow = op->dataflow;
    op->class = &class;
    op->state = scope;
    scope->done = dataflow->as_of;
    scope->base = 1; /* inner frontiers start before */
    scope->bindings_len = node->inputs_len;
    scope->bindings = mem_zalloc(node->inputs_len * sizeof(struct binding));
    scope->votes = mem_zalloc(op->engine->config.workers * sizeof(struct votes));
    pool_init(&scope->pool, &op->account);
    for (uint32_t k = 0; k < node->inputs_len; k++) {
        uint8_t body = dataflow->plan->nodes[node->inputs[k]].op;
        bool inside = dataflow->ops[node->inputs[k]].scope == op;
        struct binding *binding = &scope->bindings[k];
        binding->variable = &dataflow->ops[node->fixpoint.variables[k]];
        binding->set = inside && (body == PLAN_DISTINCT || body == PLAN_REDUCE);
        htable_init(&binding->beyond, sizeof(int64_t), &scope->pool, &op->account);
    }
}

/* An operator of a scope counts inner times from 0 on. */
static void start_inside(struct op *op)
{
    op->frontier = 0;
    for (uint32_t p = 0; p < op->ports_len; p++) {
        struct port *port = &op->ports[p];
        port->frontier = 0;
        for (uint32_t w = 0; port->from != NULL && w < op->engine->config.workers; w++) {
            port->from[w] = 0;
        }
    }
}

static bool nowhere_work(struct op *op)
{
    for (uint32_t p = 0; p < op->ports_len; p++) {
        chunk_list_clear(&op->ports[p].ok);
        chunk_list_clear(&op->ports[p].err);
    }
    return false;
}

void op_make_nowhere(struct op *op)
{
    static const struct op_class class = {"unused", nowhere_work, NULL};
    op->class = &class;
    start_inside(op);
}

/* Nodes of a scope that no body needs lie nowhere: nobody would wait for them. */
static void find_nowhere(const struct plan *plan, uint32_t *scopes)
{
    bool *live = mem_zalloc(plan->nodes_len);
    for (uint32_t i = plan->nodes_len; i-- > 0;) {
        const struct plan_node *node = &plan->nodes[i];
        bool needed = live[i] || node->op == PLAN_FIXPOINT || node->op == PLAN_VARIABLE;
        for (uint32_t p = 0; needed && p < node->inputs_len; p++) {
            live[node->inputs[p]] = true;
        }
        if (!needed && scopes[i] != UINT32_MAX) {
            scopes[i] = SCOPE_NOWHERE;
        }
    }
    free(live);
}

/* Operators of a scope whose output has each row once an iteration. */
static bool is_gathered(const struct plan *plan, const uint32_t *scopes, uint32_t fixpoint,
                        uint32_t k)
{
    uint32_t body = plan->nodes[fixpoint].inputs[k];
    uint8_t op = plan->nodes[body].op;
    return scopes[body] == fixpoint && (op == PLAN_REDUCE || op == PLAN_DISTINCT ||
                                        op == PLAN_THRESHOLD || op == PLAN_TOPK);
}

uint32_t scope_enters(const struct plan *plan, uint32_t *scopes)
{
    uint32_t enters = 0;
    plan_scopes(plan, scopes);
    find_nowhere(plan, scopes);
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        const struct plan_node *node = &plan->nodes[i];
        uint32_t scope = node->op == PLAN_FIXPOINT ? i : scopes[i];
        for (uint32_t p = 0; scope < SCOPE_NOWHERE && p < node->inputs_len; p++) {
            enters += scopes[node->inputs[p]] != scope;
            enters += node->op == PLAN_FIXPOINT && !is_gathered(plan, scopes, i, p);
        }
    }
    return enters;
}

/* An operator between one and the port it is used by; it has the scope of the latter. */
static void insert_between(struct op *between, struct op *from, struct op *user, uint32_t port)
{
    struct dataflow *dataflow = user->dataflow;
    *between = (struct op){.dataflow = dataflow, .engine = user->engine,
                           .index = (uint32_t)(between - dataflow->ops), .cols = from->cols,
                           .scope = user->scope != NULL ? user->scope : user, .ports_len = 1,
                           .pending = FRONTIER_EMPTY, .account.parent = &dataflow->account};
    between->kinds = mem_alloc(from->cols);
    memcpy(between->kinds, from->kinds, from->cols);
    between->ports = mem_zalloc(sizeof(*between->ports));
    between->ports[0].frontier = from->frontier;
    between->ports[0].cols = from->cols;
    between->ports[0].kinds = mem_alloc(from->cols);
    memcpy(between->ports[0].kinds, from->kinds, from->cols);
    *VEC_PUSH(between, users) = (struct user){.op = user, .port = port};
    bool found = false;
    for (size_t u = 0; u < from->users_len && !found; u++) {
        found = from->users[u].op == user && from->users[u].port == port;
        if (found) {
            from->users[u] = (struct user){.op = between, .port = 0};
        }
    }
    ASSERT(found);
}

/* What enters a port of a scope from outside is put out by an operator of its own from now on. */
static void insert_enter(struct op *enter, struct op *outside, struct op *user, uint32_t port)
{
    static const struct op_class class = {"enter", enter_work, NULL};
    insert_between(enter, outside, user, port);
    struct scope *scope = enter->scope->state;
    enter->class = &class;
    *VEC_PUSH(scope, enters) = enter;
}

static void insert_gather(struct op *gather, struct op *body, struct op *fixpoint, uint32_t port)
{
    static const struct op_class class = {"gather", gather_work, gather_release};
    insert_between(gather, body, fixpoint, port);
    struct scope *scope = fixpoint->state;
    gather->class = &class;
    gather->state = MEM_NEW(struct sums);
    *VEC_PUSH(scope, parts) = gather;
    engine_exchange_set_up(gather, 0, ROUTE_ROW, NULL, 0, false);
    start_inside(gather);
}

/* Both kinds of operators in front of a node's ports; returns the next free place. */
static struct op *insert_before(struct op *op, const uint32_t *scopes, struct op *free_place)
{
    struct dataflow *dataflow = op->dataflow;
    const struct plan_node *node = op->node;
    bool fixpoint = node->op == PLAN_FIXPOINT;
    uint32_t scope = fixpoint ? op->index : scopes[op->index];
    for (uint32_t p = 0; p < node->inputs_len; p++) {
        struct op *from = &dataflow->ops[node->inputs[p]];
        if (scopes[node->inputs[p]] != scope) {
            insert_enter(free_place, from, op, p);
            from = free_place++;
        }
        if (fixpoint && !is_gathered(dataflow->plan, scopes, op->index, p)) {
            insert_gather(free_place++, from, op, p);
        }
    }
    return free_place;
}

void scope_render(struct dataflow *dataflow, const uint32_t *scopes)
{
    const struct plan *plan = dataflow->plan;
    struct op *place = &dataflow->ops[plan->nodes_len + plan->exports_len];
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        struct op *op = &dataflow->ops[i];
        bool fixpoint = op->node->op == PLAN_FIXPOINT;
        if (scopes[i] >= SCOPE_NOWHERE && !fixpoint) {
            continue;
        }
        start_inside(op);
        place = insert_before(op, scopes, place);
        if (!fixpoint) {
            struct scope *scope = op->scope->state;
            *VEC_PUSH(scope, parts) = op;
        }
    }
    ASSERT(place == &dataflow->ops[dataflow->ops_len]);
}
