/*
 * The engine's life: rendering plans, scheduling operators within fuel, dropping dataflows.
 *
 * Scheduling: dataflows with work stand in a ready list, first come, first served; within a
 * dataflow the lowest active operator runs next, so that a change flows from the sources to the
 * exports in one go and a pass of a join sees all that its inputs have to say. A step ends when
 * there is nothing to do or the fuel is spent; whoever has bits left is queued again, at the end.
 *
 * Dropping: callbacks may drop dataflows, even the one that runs, so a drop only marks (dropped)
 * and queues (doomed); reap frees outside of steps. Invariant: a dataflow is freed once, when it is
 * dropped and no importer is left, and users are freed before what they import from.
 *
 * Runs on the engine's thread only; never re-entered by engine_step.
 */
#include "core/base/log.h"
#include "core/engine/clock.h"
#include "core/engine/place.h"

/* ---- fuel ------------------------------------------------------------------------------------ */

/* A simulated clock stands still during a step: there only the units count. */
bool engine_check_fuel(struct engine *engine)
{
    engine->next_check = engine->spent + FUEL_CHECK;
    if (engine->spent >= FUEL_UNITS_MAX) {
        engine->exhausted = true;
    } else if (engine->config.loop != NULL) {
        engine->exhausted = io_now_us(engine->config.loop) >= engine->deadline_us;
    }
    return engine->exhausted;
}

/* Without a loop (some tests) there is no clock: fuel is counted in units. */
static uint64_t now_us(const struct engine *engine)
{
    return engine->config.loop != NULL ? io_now_us(engine->config.loop) : 0;
}

/* Of operators' busy time; the simulated clock stands still within a step. */
static uint64_t now_ns(const struct engine *engine)
{
    return engine->config.loop != NULL ? io_mono_ns(engine->config.loop) : 0;
}

/* At the start of each step. */
static void refuel(struct engine *engine)
{
    uint64_t fuel = engine->config.fuel_us > 0 ? engine->config.fuel_us : FUEL_US_DEFAULT;
    engine->deadline_us = now_us(engine) + fuel;
    engine->clock_ns = now_ns(engine);
    engine->spent = 0;
    engine->next_check = FUEL_CHECK;
    engine->exhausted = false;
}

/* ---- life ------------------------------------------------------------------------------------ */

/* config->host and what it refers to must outlive the engine; the config is copied. */
struct engine *engine_new(const struct engine_config *config)
{
    ASSERT(config->workers > 0 && config->worker < config->workers);
    ASSERT(config->host != NULL);
    struct engine *engine = MEM_NEW(struct engine);
    engine->config = *config;
    engine->out = mem_zalloc(config->workers * sizeof(struct buf));
    ASSERT(engine->account.bytes == 0);
    return engine;
}

/* Not at once: the caller may be amid a list the callback could change. err is taken. */
void engine_answer(struct engine *engine, uint64_t peek_id, err_t err)
{
    ASSERT(err != ERR_OK);
    *VEC_PUSH(engine, answers) = (struct answer){.peek_id = peek_id, .err = err};
}

/* Each is taken off the list before the callback, which may ask for more. */
static void deliver_answers(struct engine *engine)
{
    while (engine->answers_len > 0) {
        struct answer answer = engine->answers[0];
        engine->answers_len--;
        memmove(engine->answers, engine->answers + 1, engine->answers_len * sizeof(answer));
        engine->config.host->peek_done(engine->config.ctx, answer.peek_id, NULL, answer.err);
    }
}

/* ---- dropping -------------------------------------------------------------------------------- */

/* At most once per dataflow: when it is dropped without importers, or when the last one goes. */
static void doom(struct dataflow *dataflow)
{
    ASSERT(dataflow->dropped && dataflow->importers == 0);
    struct engine *engine = dataflow->engine;
    ASSERT(dataflow->ops_len >= dataflow->plan->nodes_len + dataflow->plan->exports_len);
    *VEC_PUSH(engine, doomed) = dataflow;
}

/* The list is singly linked: dropping is rare, queueing is not. */
static void unqueue(struct dataflow *dataflow)
{
    struct engine *engine = dataflow->engine;
    struct dataflow *prev = NULL;
    for (struct dataflow *at = engine->ready_first; at != NULL; prev = at, at = at->ready_next) {
        if (at == dataflow) {
            *(prev != NULL ? &prev->ready_next : &engine->ready_first) = at->ready_next;
            engine->ready_last = engine->ready_last == at ? prev : engine->ready_last;
            break;
        }
    }
    dataflow->queued = false;
}

/* Its ports are about to be freed; the other workers hear of the end instead. */
static void forget_moved(struct engine *engine, uint64_t dataflow_id)
{
    size_t kept = 0;
    for (size_t i = 0; i < engine->moved_len; i++) {
        if (engine->moved[i].dataflow_id != dataflow_id) {
            engine->moved[kept++] = engine->moved[i];
        }
    }
    engine->moved_len = kept;
}

/* State first: it may refer to ports and builders. */
static void op_release_state(struct op *op)
{
    if (op->class != NULL && op->class->release != NULL) {
        op->class->release(op);
    }
}

static void op_free(struct op *op)
{
    for (uint32_t p = 0; p < op->ports_len; p++) {
        op_port_free(&op->ports[p]);
    }
    free(op->ports);
    free(op->users);
    free(op->kinds);
    batch_builder_free(op->ok);
    batch_builder_free(op->err);
    ASSERT(op->account.bytes == 0);
}

/* Users go before their inputs, so chunks and holds are given back before what they refer to. */
static void dataflow_free(struct dataflow *dataflow)
{
    struct engine *engine = dataflow->engine;
    ASSERT(dataflow->importers == 0 && dataflow->dropped);
    unqueue(dataflow);
    forget_moved(engine, dataflow->id);
    ASSERT(!engine->stepping);
    for (uint32_t i = dataflow->ops_len; i-- > 0;) {
        op_release_state(&dataflow->ops[i]);
        op_free(&dataflow->ops[i]);
    }
    ASSERT(dataflow->account.bytes == 0);
    free(dataflow->ops);
    free(dataflow->sources);
    free(dataflow->parts);
    free(dataflow->active);
    free(dataflow->wanted);
    places_free(dataflow->places);
    err_free(dataflow->failed);
    plan_free(dataflow->plan);
    free(dataflow);
}

/* A loop: freeing an importer may doom what it imported from. */
static void reap(struct engine *engine)
{
    ASSERT(!engine->stepping);
    while (engine->doomed_len > 0) {
        struct dataflow *dataflow = engine->doomed[--engine->doomed_len];
        uint64_t id = dataflow->id;
        dataflow_free(dataflow); /* may doom what it imported from */
        engine_exchange_end(engine, id);
    }
}

void engine_release_import(struct dataflow *dataflow)
{
    ASSERT(dataflow != NULL && dataflow->ops != NULL);
    ASSERT(dataflow->importers > 0);
    dataflow->importers--;
    if (dataflow->dropped && dataflow->importers == 0) {
        doom(dataflow);
    }
}

/*
 * Idempotent. Its exports' ids are free at once, for a new dataflow that may be created before this
 * one is freed; an id that another dataflow took since is left alone.
 */
static void dataflow_drop(struct dataflow *dataflow)
{
    struct engine *engine = dataflow->engine;
    if (dataflow->dropped) {
        return;
    }
    dataflow->dropped = true;
    for (uint32_t i = 0; i < dataflow->plan->exports_len; i++) {
        const struct plan_export *export = &dataflow->plan->exports[i];
        struct op *op = &dataflow->ops[dataflow->plan->nodes_len + i];
        if (u64map_get(&engine->exports, export->id) == op) {
            u64map_remove(&engine->exports, export->id);
            u64map_remove(&engine->indexes, export->id);
        }
        if (export->kind == PLAN_EXPORT_INDEX) {
            index_close(op, ERR_NOT_FOUND, "the index was dropped");
        }
    }
    if (dataflow->importers == 0) {
        doom(dataflow);
    }
}

/* Unknown ids are ignored: the dataflow may have failed meanwhile. */
void engine_drop(struct engine *engine, uint64_t dataflow_id)
{
    struct dataflow *dataflow = engine_exchange_find(engine, dataflow_id);
    if (dataflow != NULL) {
        dataflow_drop(dataflow);
    }
    if (!engine->stepping) {
        reap(engine);
    }
}

/* Dropping may free dataflows only after the walk over the map, hence the flag. */
void engine_free(struct engine *engine)
{
    if (engine == NULL) {
        return;
    }
    ASSERT(!engine->stepping);
    engine->closing = true;
    engine->stepping = true; /* no freeing while the map is walked */
    size_t at = 0;
    uint64_t id;
    void *slot;
    while (u64map_next(&engine->slots, &at, &id, &slot)) {
        engine_drop(engine, id);
    }
    engine->stepping = false;
    reap(engine);
    engine_exchange_free(engine);
    ASSERT(engine->clocks == 0 && engine->peeks.len == 0);
    u64map_free(&engine->peeks);
    u64map_free(&engine->indexes);
    u64map_free(&engine->exports);
    for (size_t i = 0; i < engine->answers_len; i++) {
        err_free(engine->answers[i].err);
    }
    for (uint32_t w = 0; w < engine->config.workers; w++) {
        buf_free(&engine->out[w]);
    }
    ASSERT(engine->account.bytes == 0);
    free(engine->out);
    free(engine->answers);
    free(engine->doomed);
    free(engine->restarts);
    free(engine->moved);
    free(engine->hashes);
    free(engine->places);
    free(engine->parts);
    batch_split_free(engine->split);
    free(engine);
}

/* ---- rendering ------------------------------------------------------------------------------- */

/* The importer relies on the index's rows having exactly the columns its plan says. */
static err_t check_import(struct engine *engine, const struct plan *plan,
                          const struct plan_node *node)
{
    const struct op *index = index_find(engine, node->import.id);
    unsigned long long id = node->import.id & ~PLAN_ID_TRANSIENT;
    if (index == NULL) {
        return err_new(ERR_NOT_FOUND, "index %llu is not on this cluster", id);
    }
    if (index_since(index) > plan->as_of) {
        return err_new(ERR_INVALID, "index %llu is readable from %llu, not as of %llu", id,
                       (unsigned long long)index_since(index), (unsigned long long)plan->as_of);
    }
    uint32_t keys_len;
    const uint32_t *keys = index_keys(index, &keys_len);
    if (node->import.keys_len > 0 &&
        (node->import.keys_len != keys_len ||
         memcmp(node->import.keys, keys, keys_len * sizeof(*keys)) != 0)) {
        return err_new(ERR_INVALID, "index %llu has other keys", id);
    }
    bool same = index->cols == node->schema.cols;
    for (uint32_t c = 0; same && c < index->cols; c++) {
        same = index->kinds[c] == node->schema.types[c].kind;
    }
    return same ? ERR_OK : err_new(ERR_INVALID, "index %llu has other columns", id);
}

/*
 * Whatever can be wrong with creating this dataflow here and now. The plan itself has been
 * validated (plan_validate); what is checked here depends on what lives on this worker.
 */
static err_t check_plan(struct engine *engine, const struct plan *plan, size_t parts_len)
{
    size_t sources = 0;
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        sources += plan->nodes[i].op == PLAN_SOURCE;
        if (plan->nodes[i].op == PLAN_INDEX) {
            TRY(check_import(engine, plan, &plan->nodes[i]));
        }
    }
    if (sources != parts_len) {
        return err_new(ERR_INVALID, "parts of %zu sources, the plan has %zu", parts_len, sources);
    }
    for (uint32_t i = 0; i < plan->exports_len; i++) {
        if (u64map_get(&engine->exports, plan->exports[i].id) != NULL) {
            return err_new(ERR_EXISTS, "export %llu exists",
                           (unsigned long long)(plan->exports[i].id & ~PLAN_ID_TRANSIENT));
        }
    }
    return ERR_OK;
}

/* Of any length, zero too; free with free(). */
static uint8_t *kinds_of(const struct schema *schema)
{
    uint8_t *kinds = mem_alloc(schema->cols);
    for (uint32_t c = 0; c < schema->cols; c++) {
        kinds[c] = schema->types[c].kind;
    }
    return kinds;
}

/*
 * The part all operators share: output like a schema, one port per input. Ports start at the
 * dataflow's as_of, as does the output's frontier: nothing before it exists.
 */
static void set_up(struct dataflow *dataflow, uint32_t index, const struct schema *schema,
                   const uint32_t *inputs, uint32_t inputs_len)
{
    ASSERT(schema->cols <= BATCH_COLS_MAX);
    ASSERT(index < dataflow->ops_len);
    struct op *op = &dataflow->ops[index];
    op->dataflow = dataflow;
    op->engine = dataflow->engine;
    op->index = index;
    op->frontier = dataflow->as_of;
    op->pending = FRONTIER_EMPTY;
    op->cols = schema->cols;
    op->kinds = kinds_of(schema);
    for (uint32_t c = 0; c < op->cols; c++) {
        op->texts = op->texts || type_is_variable(op->kinds[c]);
    }
    op->account.parent = &dataflow->account;
    op->ports_len = inputs_len;
    op->ports = mem_zalloc(inputs_len * sizeof(*op->ports));
    for (uint32_t p = 0; p < inputs_len; p++) {
        ASSERT(inputs[p] < index);
        struct op *input = &dataflow->ops[inputs[p]];
        op->ports[p].frontier = dataflow->as_of;
        op->ports[p].cols = input->cols;
        op->ports[p].kinds = kinds_of(&dataflow->plan->nodes[inputs[p]].schema);
        *VEC_PUSH(input, users) = (struct user){.op = op, .port = p};
    }
}

/* What only a recursion has, and operators with state, which have another form in one; false: it is
 * another operator. */
static bool make_recursive(struct op *op)
{
    switch (op->node->op) {
    case PLAN_VARIABLE:
        op_make_variable(op);
        return true;
    case PLAN_FIXPOINT:
        op_make_fixpoint(op);
        return true;
    case PLAN_LEAVE:
        op_make_leave(op);
        return true;
    case PLAN_JOIN:
        if (op->scope != NULL) {
            op_make_iterate_join(op);
        }
        return op->scope != NULL;
    case PLAN_REDUCE:
    case PLAN_DISTINCT:
    case PLAN_THRESHOLD:
    case PLAN_TOPK:
        if (op->scope != NULL) {
            op_make_iterate_reduce(op);
        }
        return op->scope != NULL;
    default:
        return false;
    }
}

/* parts and *source: the sources are numbered in the order of the nodes. */
static void make_node(struct op *op, uint32_t *source)
{
    if (make_recursive(op)) {
        return;
    }
    switch (op->node->op) {
    case PLAN_SOURCE:
        op->dataflow->sources[*source] = op->index;
        op_make_source(op, op->dataflow->parts[*source]);
        (*source)++;
        break;
    case PLAN_INDEX:
        if (op->state != NULL) { /* of before a restart */
            import_restart(op);
        } else {
            op_make_import(op, index_find(op->engine, op->node->import.id));
        }
        break;
    case PLAN_CONSTANT:
        op_make_constant(op);
        break;
    case PLAN_MFP:
        op_make_mfp(op);
        break;
    case PLAN_UNION:
        op_make_union(op);
        break;
    case PLAN_NEGATE:
        op_make_negate(op);
        break;
    case PLAN_JOIN:
        if (op_join_is_flat(op)) {
            op_make_join_flat(op);
        } else if (op->node->join.kind == PLAN_JOIN_INNER) {
            op_make_join(op);
        } else {
            op_make_outer(op);
        }
        break;
    case PLAN_ARRANGE:
        op_make_arrange(op);
        break;
    case PLAN_LOOKUP:
        op_make_lookup(op);
        break;
    case PLAN_REDUCE:
    case PLAN_DISTINCT:
    case PLAN_THRESHOLD:
        if (op_reduce_is_flat(op)) {
            op_make_reduce_flat(op);
        } else {
            op_make_reduce(op);
        }
        break;
    case PLAN_TOPK:
        op_make_topk(op);
        break;
    case PLAN_WINDOW:
        op_make_window(op);
        break;
    case PLAN_FLAT_MAP:
        op_make_flat_map(op);
        break;
    case PLAN_TEMPORAL:
        op_make_temporal(op);
        break;
    default:
        UNREACHABLE();
    }
}

/* Of a dataflow that begins anew the state of an index is there. */
static void make_export(struct op *op, const struct plan_export *export)
{
    ASSERT(export->kind == PLAN_EXPORT_INDEX || export->kind == PLAN_EXPORT_SUBSCRIBE);
    if (op->state != NULL) {
        index_restart(op);
    } else if (export->kind == PLAN_EXPORT_INDEX) {
        op_make_index(op, export);
    } else {
        op_make_subscribe(op, export);
    }
}

static void announce_exports(struct dataflow *dataflow)
{
    struct engine *engine = dataflow->engine;
    for (uint32_t i = 0; i < dataflow->plan->exports_len; i++) {
        const struct plan_export *export = &dataflow->plan->exports[i];
        struct op *op = &dataflow->ops[dataflow->plan->nodes_len + i];
        ASSERT(u64map_get(&engine->exports, export->id) == NULL);
        u64map_put(&engine->exports, export->id, op);
        if (export->kind == PLAN_EXPORT_INDEX) {
            u64map_put(&engine->indexes, export->id, op);
        }
    }
}

/*
 * Makes the operators of a new dataflow, or of one that begins anew. Cannot fail: all that could
 * was checked. Every operator is activated once, so that frontiers that are known from the start
 * (constants, sources without parts) get moving.
 */
static void make_ops(struct dataflow *dataflow, const uint32_t *scopes)
{
    const struct plan *plan = dataflow->plan;
    uint32_t source = 0;
    dataflow->given = plan->as_of + 1;
    dataflow->alarm = FRONTIER_EMPTY;
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        const struct plan_node *node = &plan->nodes[i];
        set_up(dataflow, i, &node->schema, node->inputs, node->inputs_len);
        dataflow->ops[i].node = node;
        dataflow->ops[i].scope = scopes[i] < SCOPE_NOWHERE ? &dataflow->ops[scopes[i]] : NULL;
        if (scopes[i] == SCOPE_NOWHERE) {
            op_make_nowhere(&dataflow->ops[i]);
        } else {
            make_node(&dataflow->ops[i], &source);
        }
    }
    for (uint32_t i = 0; i < plan->exports_len; i++) {
        const struct plan_export *export = &plan->exports[i];
        uint32_t at = plan->nodes_len + i;
        set_up(dataflow, at, &plan->nodes[export->node].schema, &export->node, 1);
        make_export(&dataflow->ops[at], export);
    }
    ASSERT(source == dataflow->sources_len);
    scope_render(dataflow, scopes);
    for (uint32_t i = 0; i < dataflow->ops_len; i++) {
        ASSERT(dataflow->ops[i].class != NULL && dataflow->ops[i].frontier <= plan->as_of);
        op_activate(&dataflow->ops[i]);
    }
}

static struct dataflow *render(struct engine *engine, struct plan *plan, const uint32_t *parts,
                               size_t parts_len)
{
    ASSERT(plan->nodes_len > 0 && plan->as_of <= TIME_MAX);
    struct dataflow *dataflow = MEM_NEW(struct dataflow);
    dataflow->engine = engine;
    dataflow->plan = plan;
    dataflow->id = plan->id;
    dataflow->as_of = plan->as_of;
    if (engine->config.workers > 1) {
        dataflow->wanted = mem_zalloc(engine->config.workers * sizeof(bool));
    }
    uint64_t limit = engine->config.memory_limit; /* the smaller one, of those there are */
    dataflow->memory_limit = plan->memory_limit > 0 && (limit == 0 || plan->memory_limit < limit)
                                 ? plan->memory_limit
                                 : limit;
    dataflow->account.parent = &engine->account;
    uint32_t *scopes = mem_alloc(plan->nodes_len * sizeof(*scopes));
    dataflow->ops_len = plan->nodes_len + plan->exports_len + scope_enters(plan, scopes);
    dataflow->ops = mem_zalloc(dataflow->ops_len * sizeof(struct op));
    dataflow->active = mem_zalloc((dataflow->ops_len / 64 + 1) * sizeof(uint64_t));
    dataflow->sources = mem_zalloc(parts_len * sizeof(uint32_t));
    dataflow->parts = mem_zalloc(parts_len * sizeof(uint32_t));
    for (size_t i = 0; i < parts_len; i++) {
        dataflow->parts[i] = parts[i];
    }
    dataflow->sources_len = (uint32_t)parts_len;
    dataflow->exports_live = plan->exports_len;
    dataflow->places = places_new(dataflow);
    make_ops(dataflow, scopes);
    announce_exports(dataflow);
    free(scopes);
    return dataflow;
}

/*
 * What other workers sent for it before it was created here is delivered at the end; if that is
 * malformed the dataflow fails, as it would have later.
 */
err_t engine_create(struct engine *engine, struct plan *plan, const uint32_t *parts,
                    size_t parts_len)
{
    if (engine_exchange_find(engine, plan->id) != NULL) {
        err_t err = err_new(ERR_EXISTS, "dataflow %llu exists", (unsigned long long)plan->id);
        plan_free(plan);
        return err;
    }
    err_t err = check_plan(engine, plan, parts_len);
    if (err != ERR_OK) {
        /* On the other workers it may exist: this incarnation of the id ends here at once. */
        engine_exchange_end(engine, plan->id);
        plan_free(plan);
        return err_wrap(err, "creating dataflow");
    }
    struct dataflow *dataflow = render(engine, plan, parts, parts_len);
    engine_exchange_begin(engine, dataflow);
    err = engine_exchange_deliver_pending(dataflow);
    if (err != ERR_OK) {
        op_fail(&dataflow->ops[0], err);
    }
    return ERR_OK;
}

/* ---- beginning anew -------------------------------------------------------------------------- */

void engine_want_restart(struct dataflow *dataflow)
{
    struct engine *engine = dataflow->engine;
    if (!dataflow->restart) {
        dataflow->restart = true;
        *VEC_PUSH(engine, restarts) = dataflow->id;
        op_activate(&dataflow->ops[0]); /* so that there is a step, at whose end it happens */
    }
}

/* An index stays for those who hold it, an import's hold on another dataflow stays. */
static bool stays(const struct op *op)
{
    const struct plan *plan = op->dataflow->plan;
    if (op->node != NULL) {
        return op->node->op == PLAN_INDEX && op->ports_len > 0; /* none: nobody needs it */
    }
    uint32_t export = op->index - plan->nodes_len;
    return export < plan->exports_len && plan->exports[export].kind == PLAN_EXPORT_INDEX;
}

/* What was complete beyond the as_of was seen, and an index may have forgotten what was then. */
static err_t check_restart(const struct dataflow *dataflow)
{
    const struct plan *plan = dataflow->plan;
    if (dataflow->dropped) { /* the host feeds it no more, so who imports would wait for ever */
        return err_new(ERR_UNAVAILABLE, "a source begins anew, the dataflow was dropped");
    }
    if (!engine_exchange_can_restart(dataflow)) {
        return err_new(ERR_LIMIT, "a source begins anew, but no restart is left");
    }
    for (uint32_t i = 0; i < plan->exports_len; i++) {
        if (dataflow->ops[plan->nodes_len + i].frontier > dataflow->as_of) {
            return err_new(ERR_UNAVAILABLE, "a source begins anew, export %u is complete", i);
        }
    }
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        if (stays(&dataflow->ops[i]) && !import_can_restart(&dataflow->ops[i])) {
            return err_new(ERR_UNAVAILABLE, "a source begins anew, index %llu does not reach back",
                           (unsigned long long)plan->nodes[i].import.id);
        }
    }
    return ERR_OK;
}

/* Users before their inputs, as in dataflow_free. */
static void clear_ops(struct dataflow *dataflow)
{
    const struct engine *engine = dataflow->engine;
    for (uint32_t i = dataflow->ops_len; i-- > 0;) {
        struct op *op = &dataflow->ops[i];
        const struct op_class *class = stays(op) ? op->class : NULL;
        void *state = stays(op) ? op->state : NULL;
        if (state == NULL) {
            op_release_state(op);
        } else if (op->node == NULL) {
            index_clear(op);
        }
        op_free(op);
        *op = (struct op){.class = class, .state = state};
    }
    ASSERT(dataflow->account.bytes == 0 && !dataflow->rests);
    dataflow->clocked = dataflow->reported = dataflow->wants = false;
    dataflow->wanted_by = 0;
    if (dataflow->wanted != NULL) {
        memset(dataflow->wanted, 0, engine->config.workers * sizeof(bool));
    }
    memset(dataflow->active, 0, (dataflow->ops_len / 64 + 1) * sizeof(uint64_t));
    dataflow->behind = 0;
}

static void restart(struct dataflow *dataflow)
{
    struct engine *engine = dataflow->engine;
    ASSERT(!engine->stepping && engine->config.host->restarted != NULL);
    dataflow->restart = false;
    err_t err = check_restart(dataflow);
    if (err != ERR_OK) {
        op_fail(&dataflow->ops[0], err);
        return;
    }
    LOG_INFO("engine", "dataflow begins anew", LOG_U64("dataflow", dataflow->id));
    forget_moved(engine, dataflow->id);
    clear_ops(dataflow);
    engine_exchange_restart(engine, dataflow);
    uint32_t *scopes = mem_alloc(dataflow->plan->nodes_len * sizeof(*scopes));
    uint32_t enters = scope_enters(dataflow->plan, scopes);
    ASSERT(dataflow->ops_len == dataflow->plan->nodes_len + dataflow->plan->exports_len + enters);
    make_ops(dataflow, scopes);
    free(scopes);
    engine->config.host->restarted(engine->config.ctx, dataflow->id);
    err = engine_exchange_deliver_pending(dataflow);
    if (err != ERR_OK) {
        op_fail(&dataflow->ops[0], err);
    }
}

/* The host is called amid it, and may want others to begin anew. */
void engine_run_restarts(struct engine *engine)
{
    while (!engine->stepping && engine->restarts_len > 0) {
        uint64_t id = engine->restarts[--engine->restarts_len];
        struct dataflow *dataflow = engine_exchange_find(engine, id);
        if (dataflow != NULL && dataflow->restart && dataflow->failed == ERR_OK) {
            restart(dataflow);
        }
    }
}

void engine_restart(struct engine *engine, uint64_t dataflow_id)
{
    struct dataflow *dataflow = engine_exchange_find(engine, dataflow_id);
    if (dataflow != NULL && dataflow->failed == ERR_OK) {
        engine_want_restart(dataflow);
        engine_run_restarts(engine);
    }
}

/* ---- input ----------------------------------------------------------------------------------- */

bool engine_is_behind(const struct engine *engine, uint64_t dataflow_id)
{
    const struct dataflow *dataflow =
        engine_exchange_find((struct engine *)(uintptr_t)engine, dataflow_id);
    return dataflow != NULL && dataflow->queued;
}

/* Input for a dataflow that failed is dropped: it will never put out anything again. */
void engine_input(struct engine *engine, uint64_t dataflow_id, uint32_t source_index, uint32_t part,
                  uint64_t lower, uint64_t upper, const struct batch *ok, const struct batch *err)
{
    struct dataflow *dataflow = engine_exchange_find(engine, dataflow_id);
    if (dataflow == NULL || dataflow->failed != ERR_OK) {
        return;
    }
    ASSERT(source_index < dataflow->sources_len && lower <= upper);
    struct op *source = &dataflow->ops[dataflow->sources[source_index]];
    const bool *reads = ok != NULL && ok->cols == source->cols ? source_reads(source) : NULL;
    struct chunk *rows[2] = {chunk_copy(ok, reads, &dataflow->account),
                             chunk_copy(err, NULL, &dataflow->account)};
    source_input(source, part, lower, upper, rows[0], rows[1]);
    chunk_unref(rows[0]);
    chunk_unref(rows[1]);
}

/* The engine's account until a dataflow has them: who holds them may outlive it. */
err_t engine_rows_open(struct engine *engine, const void *bytes, size_t len, const uint8_t *kinds,
                       uint32_t cols, const bool *reads, struct chunk **out)
{
    ASSERT(bytes != NULL && kinds != NULL);
    return chunk_open(bytes, len, kinds, cols, reads, &engine->account, out);
}

const bool *engine_reads(struct engine *engine, uint64_t dataflow_id, uint32_t source_index,
                         uint32_t cols)
{
    struct dataflow *dataflow = engine_exchange_find(engine, dataflow_id);
    if (dataflow == NULL || dataflow->failed != ERR_OK) {
        return NULL;
    }
    ASSERT(source_index < dataflow->sources_len);
    struct op *source = &dataflow->ops[dataflow->sources[source_index]];
    return source->cols == cols ? source_reads(source) : NULL;
}

void engine_rows_times(const struct chunk *rows, uint64_t *min, uint64_t *max)
{
    ASSERT(rows->batch.rows > 0 && rows->time_min <= rows->time_max);
    *min = rows->time_min;
    *max = rows->time_max;
}

void engine_rows_free(struct chunk *rows)
{
    chunk_unref(rows);
}

void engine_input_rows(struct engine *engine, uint64_t dataflow_id, uint32_t source_index,
                       uint32_t part, uint64_t lower, uint64_t upper, struct chunk *ok,
                       struct chunk *err)
{
    struct dataflow *dataflow = engine_exchange_find(engine, dataflow_id);
    if (dataflow == NULL || dataflow->failed != ERR_OK) {
        return;
    }
    ASSERT(source_index < dataflow->sources_len && lower <= upper);
    chunk_charge(ok, &dataflow->account);
    chunk_charge(err, &dataflow->account);
    source_input(&dataflow->ops[dataflow->sources[source_index]], part, lower, upper, ok, err);
}

/* ---- running --------------------------------------------------------------------------------- */

/* The lowest active operator from one on, or NULL: inputs before users, so a change flows through
 * in one go. */
static struct op *next_active(struct dataflow *dataflow, uint32_t from)
{
    ASSERT(dataflow->ops != NULL && from <= dataflow->ops_len);
    uint64_t mask = UINT64_MAX << (from % 64);
    for (uint32_t w = from / 64; w <= dataflow->ops_len / 64; w++, mask = UINT64_MAX) {
        if ((dataflow->active[w] & mask) != 0) {
            uint32_t index = w * 64 + (uint32_t)__builtin_ctzll(dataflow->active[w] & mask);
            ASSERT(index < dataflow->ops_len);
            return &dataflow->ops[index];
        }
    }
    return NULL;
}

/*
 * Looked at after each activation of an operator, so that the limit is passed by one activation's
 * work at most.
 */
static void check_memory(struct dataflow *dataflow)
{
    uint64_t limit = dataflow->memory_limit;
    if (limit > 0 && dataflow->account.bytes > limit && dataflow->failed == ERR_OK) {
        dataflow->failed = err_hint(
            err_sql(ERR_LIMIT, "53200",
                    "dataflow \"%s\" needs more memory on a worker than its limit of %llu bytes",
                    dataflow->plan->name != NULL ? dataflow->plan->name : "",
                    (unsigned long long)limit),
            "Raise memory_limit of the object (dataflow_memory_limit of the session for queries), "
            "or use a cluster of a larger size, which divides the rows among more workers.");
    }
}

/* The bit is cleared before the work: whatever arrives during it sets it again. */
static void run_op(struct op *op)
{
    ASSERT(op->engine->stepping && op->class != NULL);
    struct dataflow *dataflow = op->dataflow;
    dataflow->active[op->index / 64] &= ~(1ULL << (op->index % 64));
    op->engine->longest = 0;
    op->engine->visits++;
    if (op->class->work(op)) {
        dataflow->active[op->index / 64] |= 1ULL << (op->index % 64);
    }
    uint64_t now = now_ns(op->engine); /* one look at the clock for each run */
    op->busy_ns += now - op->engine->clock_ns;
    op->engine->clock_ns = now;
    op->schedules++;
    op->longest = op->engine->longest > op->longest ? op->engine->longest : op->longest;
    fuel_spend(op->engine, 16);
    check_memory(dataflow);
}

/*
 * Those who import from a failed dataflow fail with it, also when it was dropped and lived on for
 * them alone: then the host hears of theirs only. The drop comes before the callback, which may
 * create the dataflow anew.
 */
static void give_up(struct dataflow *dataflow)
{
    struct engine *engine = dataflow->engine;
    ASSERT(dataflow->failed != ERR_OK);
    LOG_WARN("engine", "dataflow failed", LOG_U64("dataflow", dataflow->id),
             LOG_ERR(dataflow->failed));
    for (uint32_t i = 0; i < dataflow->plan->exports_len; i++) {
        if (dataflow->plan->exports[i].kind == PLAN_EXPORT_INDEX) {
            index_close(&dataflow->ops[dataflow->plan->nodes_len + i], ERR_UNAVAILABLE,
                        "the index's dataflow failed");
        }
    }
    if (dataflow->dropped) {
        return;
    }
    uint64_t id = dataflow->id;
    err_t err = err_copy(dataflow->failed);
    dataflow_drop(dataflow);
    engine->config.host->failed(engine->config.ctx, id, err);
}

/*
 * An operator that has more to do when the fuel is spent lets those behind it take what it gave,
 * each once, before it goes on: else all of it would pile up in their ports.
 */
static void run_dataflow(struct dataflow *dataflow)
{
    struct engine *engine = dataflow->engine;
    ASSERT(engine->ready_first == dataflow && dataflow->queued);
    engine->ready_first = dataflow->ready_next;
    engine->ready_last = engine->ready_first == NULL ? NULL : engine->ready_last;
    dataflow->queued = true; /* activations from within need not queue it */
    uint32_t from = dataflow->behind;
    bool doomed = dataflow->dropped && dataflow->importers == 0;
    engine->visits++;
    dataflow->behind = 0;
    while (!engine->exhausted) {
        doomed = dataflow->dropped && dataflow->importers == 0;
        struct op *op = next_active(dataflow, from);
        from = op != NULL && from > 0 ? op->index + 1 : 0;
        op = op != NULL ? op : next_active(dataflow, 0);
        if (op == NULL || dataflow->failed != ERR_OK || doomed) {
            break;
        }
        run_op(op);
        dataflow->behind = engine->exhausted ? op->index + 1 : 0;
    }
    ASSERT(dataflow->queued && engine->stepping);
    dataflow->queued = false;
    if (dataflow->failed != ERR_OK) {
        give_up(dataflow);
    } else if (!doomed && next_active(dataflow, 0) != NULL) {
        op_activate(next_active(dataflow, 0));
    } else if (!doomed) {
        clock_settle(dataflow);
    }
}

/* Frontiers and data for the other workers leave at its end, in as few payloads as possible. */
bool engine_step(struct engine *engine)
{
    ASSERT(!engine->stepping);
    engine->stepping = true;
    refuel(engine);
    deliver_answers(engine);
    while (engine->ready_first != NULL && !engine->exhausted) {
        run_dataflow(engine->ready_first);
    }
    engine_exchange_flush(engine);
    ASSERT(engine->moved_len == 0);
    engine->stepping = false;
    reap(engine);
    engine_run_restarts(engine);
    return engine->ready_first != NULL || engine->answers_len > 0;
}

/* ---- exports and peeks ----------------------------------------------------------------------- */

/* An unknown index is answered in the next step, like every other peek. */
void engine_peek(struct engine *engine, const struct engine_peek *peek)
{
    struct op *index = index_find(engine, peek->index_id);
    if (index == NULL) {
        engine_answer(engine, peek->peek_id,
                      err_new(ERR_NOT_FOUND, "index %llu is not on this cluster",
                              (unsigned long long)(peek->index_id & ~PLAN_ID_TRANSIENT)));
        return;
    }
    index_add_peek(index, peek);
}

/* Nothing when it was answered. */
void engine_peek_cancel(struct engine *engine, uint64_t peek_id)
{
    struct op *index = u64map_get(&engine->peeks, peek_id);
    if (index != NULL) {
        index_cancel_peek(index, peek_id);
    }
}

/* A dataflow whose last export is given up is dropped whole. */
void engine_allow_compaction(struct engine *engine, uint64_t export_id, uint64_t since)
{
    struct op *op = u64map_get(&engine->exports, export_id);
    if (op == NULL) {
        return;
    }
    struct dataflow *dataflow = op->dataflow;
    if (since == FRONTIER_EMPTY) {
        u64map_remove(&engine->exports, export_id);
        if (u64map_remove(&engine->indexes, export_id) != NULL) {
            index_close(op, ERR_NOT_FOUND, "the index was dropped");
        }
        ASSERT(dataflow->exports_live > 0);
        if (--dataflow->exports_live == 0) {
            engine_drop(engine, dataflow->id);
        }
    } else if (u64map_get(&engine->indexes, export_id) == op) {
        index_set_since(op, since);
    }
}

/* Its id may have been given up, or belong to another dataflow by now. */
bool op_export_live(const struct op *op, uint64_t export_id)
{
    return u64map_get(&op->engine->exports, export_id) == op;
}

void op_export_report(struct op *op, uint64_t export_id, uint64_t frontier)
{
    ASSERT(frontier >= op->dataflow->as_of);
    struct engine *engine = op->engine;
    op->dataflow->reported = true;
    if (op_export_live(op, export_id)) {
        engine->config.host->frontier(engine->config.ctx, export_id, frontier);
    }
}

/* ---- statistics ------------------------------------------------------------------------------ */

/* The root of all accounts but scratch memory. */
uint64_t engine_memory(const struct engine *engine)
{
    return engine->account.bytes;
}

/* Exports follow the plan's nodes, under numbers of their own. */
static void dataflow_stats(const struct dataflow *dataflow,
                           void (*each)(void *arg, const struct engine_operator_stats *stats),
                           void *arg)
{
    /* What lies behind the exports only holds rows back for a recursion. */
    for (uint32_t i = 0; i < dataflow->plan->nodes_len + dataflow->plan->exports_len; i++) {
        const struct op *op = &dataflow->ops[i];
        struct engine_operator_stats stats = {
            .dataflow_id = dataflow->id,
            .node = i,
            .op = op->class->name,
            .rows_in = op->rows_in,
            .rows_out = op->rows_out,
            .batches = op->batches,
            .schedules = op->schedules,
            .busy_ns = op->busy_ns,
            .longest = op->longest,
            .arranged_rows = op->arranged_rows,
            .arranged_bytes = op->account.bytes,
            .dataflow_bytes = dataflow->account.bytes,
        };
        each(arg, &stats);
    }
}

bool engine_dataflow_stats(const struct engine *engine, uint64_t dataflow_id,
                           void (*each)(void *arg, const struct engine_operator_stats *stats),
                           void *arg)
{
    const struct dataflow *dataflow =
        engine_exchange_find((struct engine *)(uintptr_t)engine, dataflow_id);
    if (dataflow != NULL) {
        dataflow_stats(dataflow, each, arg);
    }
    return dataflow != NULL;
}

void engine_stats(const struct engine *engine,
                  void (*each)(void *arg, const struct engine_operator_stats *stats), void *arg)
{
    size_t at = 0;
    uint64_t id;
    void *slot;
    while (u64map_next(&engine->slots, &at, &id, &slot)) {
        engine_dataflow_stats(engine, id, each, arg);
    }
}
