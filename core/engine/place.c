/*
 * Where rows are among the workers. See place.h.
 *
 * A node's rows are *placed* by some of its columns when each row is on the worker that an exchange
 * by these columns would bring it to. An operator that is fed by keys leaves its output placed by
 * them, where they are among its columns; operators that pass rows on keep that, as long as the
 * columns stay. So:
 *
 *   an operator fed by exactly these columns in this order needs no exchange in front of it;
 *   a reduction by more columns than these neither: a group's rows agree in them;
 *   nor does whoever only wants equal rows to meet.
 *
 * Equal values that print differently have one hash (batch_hash_rows), so it does not matter which
 * of them a node puts out. Errors are not placed.
 *
 * A variable of a recursion is placed like its body: put in first as unknown, and then, if the body
 * comes out the same under the assumption, by induction over the iterations.
 */
#include "core/engine/place.h"

enum {
    WAYS = 2,    /* of a join both sides' keys are the output's: two ways to say where a row is */
    ROUNDS = 32, /* through all nodes; each may refute a single one of many variables */
};

struct way {
    const uint32_t *cols;
    uint32_t len; /* 0: all rows are on one worker, whichever */
};

struct place {
    struct way way[WAYS];
    uint32_t ways; /* 0: rows may be anywhere */
};

struct places {
    const struct dataflow *dataflow;
    struct arena arena;  /* columns that the last round found */
    struct arena kept;   /* what rounds have in common: place, and what is assumed of variables */
    struct place *place; /* by node */
};

/* ---- places ---------------------------------------------------------------------------------- */

static void add_way(struct place *place, const uint32_t *cols, uint32_t len)
{
    ASSERT(place->ways < WAYS && (len == 0 || cols != NULL));
    place->way[place->ways++] = (struct way){.cols = cols, .len = len};
}

static struct place by_keys(const uint32_t *cols, uint32_t len)
{
    struct place place = {0};
    add_way(&place, cols, len);
    return place;
}

static bool same_way(const struct way *way, const uint32_t *cols, uint32_t len)
{
    return way->len == len && (len == 0 || memcmp(way->cols, cols, len * sizeof(*cols)) == 0);
}

static bool same_place(const struct place *a, const struct place *b)
{
    bool same = a->ways == b->ways;
    for (uint32_t i = 0; same && i < a->ways; i++) {
        same = same_way(&a->way[i], b->way[i].cols, b->way[i].len);
    }
    return same;
}

/* Where a column went in an output of these columns; its number of columns when it is gone. */
static uint32_t find_col(uint32_t col, const uint32_t *cols, uint32_t len)
{
    uint32_t at = 0;
    while (at < len && cols[at] != col) {
        at++;
    }
    return at;
}

/* The place of rows of which these columns are left, and perhaps others came behind them. */
static struct place project(struct places *places, const struct place *from, const uint32_t *cols,
                            uint32_t len)
{
    struct place place = {0};
    for (uint32_t i = 0; i < from->ways; i++) {
        const struct way *way = &from->way[i];
        uint32_t *to = ARENA_ARRAY(&places->arena, uint32_t, way->len + 1UL);
        bool all = true;
        for (uint32_t k = 0; k < way->len; k++) {
            to[k] = find_col(way->cols[k], cols, len);
            all &= to[k] < len;
        }
        if (all) {
            add_way(&place, to, way->len);
        }
    }
    return place;
}

/* 0, 1, ... */
static const uint32_t *all_cols(struct places *places, uint32_t len)
{
    uint32_t *cols = ARENA_ARRAY(&places->arena, uint32_t, len + 1UL);
    for (uint32_t i = 0; i < len; i++) {
        cols[i] = i;
    }
    return cols;
}

static const uint32_t *shifted(struct places *places, const uint32_t *cols, uint32_t len,
                               uint32_t by)
{
    uint32_t *to = ARENA_ARRAY(&places->arena, uint32_t, len + 1UL);
    for (uint32_t i = 0; i < len; i++) {
        to[i] = cols[i] + by;
    }
    return to;
}

/* Has it a way whose columns are all among these? */
static bool within(const struct place *place, const uint32_t *cols, uint32_t len)
{
    bool any = false;
    for (uint32_t i = 0; i < place->ways; i++) {
        const struct way *way = &place->way[i];
        bool all = true;
        for (uint32_t k = 0; k < way->len; k++) {
            all &= find_col(way->cols[k], cols, len) < len;
        }
        any |= all;
    }
    return any;
}

static bool exactly(const struct place *place, const uint32_t *cols, uint32_t len)
{
    bool any = false;
    for (uint32_t i = 0; i < place->ways; i++) {
        any |= len > 0 && same_way(&place->way[i], cols, len);
    }
    return any;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

/* By which columns of its input an operator groups rows; false: it does not, or is not free to
 * take a group wherever it is. */
static bool groups_by(struct places *places, const struct plan_node *node, struct way *out)
{
    switch (node->op) {
    case PLAN_REDUCE:
        *out = (struct way){node->reduce.keys, node->reduce.keys_len};
        return true;
    case PLAN_DISTINCT:
    case PLAN_THRESHOLD:
        *out = (struct way){all_cols(places, node->schema.cols), node->schema.cols};
        return true;
    case PLAN_TOPK:
        *out = (struct way){node->topk.keys, node->topk.keys_len};
        return true;
    case PLAN_WINDOW:
        *out = (struct way){node->window.keys, node->window.keys_len};
        return true;
    default:
        return false;
    }
}

/* Where it was, if that will do, or else by its keys. A reduction's columns are its keys, and
 * aggregates behind them; the others keep the input's in front. */
static struct place of_groups(struct places *places, const struct plan_node *node,
                              const struct place *input, const struct way *keys)
{
    struct place place = *input;
    if (!within(input, keys->cols, keys->len)) {
        place = by_keys(keys->cols, keys->len);
    }
    return node->op == PLAN_REDUCE ? project(places, &place, keys->cols, keys->len) : place;
}

/* Rows without a match have NULLs on the right side. */
static struct place of_join(struct places *places, const struct plan_node *node)
{
    uint32_t len = node->join.keys_len;
    struct place place = by_keys(node->join.left_keys, len);
    if (node->join.kind == PLAN_JOIN_INNER && len > 0) {
        uint32_t left = places->dataflow->plan->nodes[node->inputs[0]].schema.cols;
        add_way(&place, shifted(places, node->join.right_keys, len, left), len);
    }
    return place;
}

/* Inputs that agree; a single worker of each may be another one. */
static struct place of_union(const struct places *places, const struct plan_node *node)
{
    struct place place = places->place[node->inputs[0]];
    for (uint32_t i = 0; i < node->inputs_len; i++) {
        const struct place *other = &places->place[node->inputs[i]];
        bool agree = same_place(&place, other) && place.ways > 0 && place.way[0].len > 0;
        if (!agree) {
            return (struct place){0};
        }
    }
    return place;
}

/* An index that was exchanged by its keys, or needed not to be. */
static struct place of_index(struct places *places, const struct plan_node *node)
{
    const struct op *op = index_find(places->dataflow->engine, node->import.id);
    struct place place = {0};
    uint32_t len = 0;
    const uint32_t *keys = op != NULL ? index_keys(op, &len) : NULL;
    if (len > 0) {
        add_way(&place, arena_memdup(&places->arena, keys, len * sizeof(*keys)), len);
    }
    return place;
}

static struct place place_of(struct places *places, const struct plan_node *node)
{
    const struct plan *plan = places->dataflow->plan;
    const struct place *input = node->inputs_len > 0 ? &places->place[node->inputs[0]] : NULL;
    struct way keys;
    if (groups_by(places, node, &keys)) {
        return of_groups(places, node, input, &keys);
    }
    switch (node->op) {
    case PLAN_INDEX:
        return of_index(places, node);
    case PLAN_MFP:
        return project(places, input, node->mfp.project, node->mfp.project_len);
    case PLAN_FLAT_MAP:
        return project(places, input, node->flat_map.keep, node->flat_map.keep_len);
    case PLAN_TEMPORAL:
        return project(places, input, all_cols(places, node->schema.cols), node->schema.cols);
    case PLAN_NEGATE:
        return *input;
    case PLAN_UNION:
        return of_union(places, node);
    case PLAN_JOIN:
        return of_join(places, node);
    case PLAN_LOOKUP:
        return by_keys(node->lookup.keys, node->lookup.keys_len);
    case PLAN_LEAVE: {
        const struct plan_node *fixpoint = &plan->nodes[node->inputs[0]];
        return places->place[fixpoint->inputs[node->leave.binding]];
    }
    default: /* a variable is set apart; the others' rows may be anywhere, or they have none */
        return (struct place){0};
    }
}

/* ---- recursion ------------------------------------------------------------------------------- */

/* All nodes, with variables as they are assumed to be. Inputs come before who reads them, so no
 * node sees what an earlier round found. */
static void find_places(struct places *places)
{
    const struct plan *plan = places->dataflow->plan;
    arena_free(&places->arena);
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        if (plan->nodes[i].op != PLAN_VARIABLE) {
            places->place[i] = place_of(places, &plan->nodes[i]);
        }
    }
}

static struct place keep(struct places *places, const struct place *from)
{
    struct place place = {0};
    for (uint32_t i = 0; i < from->ways; i++) {
        const struct way *way = &from->way[i];
        size_t size = way->len * sizeof(*way->cols);
        add_way(&place, size > 0 ? arena_memdup(&places->kept, way->cols, size) : NULL, way->len);
    }
    return place;
}

/* What becomes of variables, given their bodies' places. */
enum binding {
    ASSUME, /* they are placed alike */
    REFUTE, /* those that are not do without a place */
    CLEAR,  /* all do without one: the least that can be known of them */
};

/* True when a variable lost its place. */
static bool bind_variables(struct places *places, enum binding binding)
{
    const struct plan *plan = places->dataflow->plan;
    bool any = false;
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        const struct plan_node *node = &plan->nodes[i];
        for (uint32_t v = 0; node->op == PLAN_FIXPOINT && v < node->inputs_len; v++) {
            struct place *variable = &places->place[node->fixpoint.variables[v]];
            const struct place *body = &places->place[node->inputs[v]];
            if (binding == ASSUME) {
                *variable = keep(places, body);
            } else if (variable->ways > 0 && (binding == CLEAR || !same_place(variable, body))) {
                *variable = (struct place){0};
                any = true;
            }
        }
    }
    return any;
}

struct places *places_new(const struct dataflow *dataflow)
{
    if (dataflow->engine->config.workers == 1) {
        return NULL;
    }
    struct places *places = MEM_NEW(struct places);
    places->dataflow = dataflow;
    places->place = ARENA_ARRAY(&places->kept, struct place, dataflow->plan->nodes_len);
    find_places(places);
    bind_variables(places, ASSUME);
    find_places(places);
    for (uint32_t round = 1; bind_variables(places, round < ROUNDS ? REFUTE : CLEAR); round++) {
        ASSERT(round <= ROUNDS); /* without places there is nothing to refute */
        find_places(places);
    }
    return places;
}

void places_free(struct places *places)
{
    if (places != NULL) {
        arena_free(&places->arena);
        arena_free(&places->kept);
        free(places);
    }
}

/* ---- ports ----------------------------------------------------------------------------------- */

/* The node whose rows come to a port, directly or through what a scope puts in between. */
static const struct place *place_at(const struct places *places, const struct op *op, uint32_t port)
{
    const struct dataflow *dataflow = places->dataflow;
    const struct plan *plan = dataflow->plan;
    if (op->index < plan->nodes_len) {
        return &places->place[plan->nodes[op->index].inputs[port]];
    }
    if (op->index < plan->nodes_len + plan->exports_len) {
        return &places->place[plan->exports[op->index - plan->nodes_len].node];
    }
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        for (size_t u = 0; u < dataflow->ops[i].users_len; u++) {
            if (dataflow->ops[i].users[u].op == op) {
                return &places->place[i];
            }
        }
    }
    static const struct place anywhere;
    return &anywhere;
}

bool places_stay(struct places *places, const struct op *op, uint32_t port, enum route route,
                 const uint32_t *keys, uint32_t keys_len)
{
    struct way group;
    ASSERT(port < op->ports_len && route != ROUTE_LOCAL);
    const struct place *place = place_at(places, op, port);
    if (route == ROUTE_ROW) {
        return place->ways > 0;
    }
    if (op->node != NULL && groups_by(places, op->node, &group)) {
        ASSERT(same_way(&group, keys, keys_len)); /* of_groups counts on it */
        return within(place, keys, keys_len);
    }
    return exactly(place, keys, keys_len);
}
