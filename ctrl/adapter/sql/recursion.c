/*
 * WITH RECURSIVE and WITH MUTUALLY RECURSIVE.
 *
 * The engine has one thing: bodies evaluated over and over, each variable standing for what its
 * body gave before, until nothing changes (plan.h). The mutual form is just that: bodies in the
 * order written, each seeing those before it as they are in this iteration and itself and those
 * behind it as they were in the one before.
 *
 * PostgreSQL's form is a loop over a working table: what the step gives is the next working table,
 * and all of them together are the result. Maintained as the data changes, that is a fixpoint only
 * where the step treats rows one by one (step(A + B) = step(A) + step(B), nothing of nothing):
 *
 *   seed UNION ALL step    R = seed + step(R): as multisets, when the loop ends
 *   seed UNION step        R = distinct(seed + step(R)); the step may also be distinct itself
 *
 * is_linear decides it by what stands between the step's root and the variable; the rest is 0A000.
 * What PostgreSQL refuses itself is refused before, with its words: find_reference walks the parse
 * tree as its checkWellFormedRecursion does.
 *
 * Without a limit of its own a recursion ends with an error after ITERATIONS_MAX: one that never
 * ends is easily written.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "ctrl/adapter/sql/typing.h"

enum { ITERATIONS_MAX = 100000 };

static struct recursion *new_recursion(struct az *az, uint32_t len)
{
    ASSERT(len > 0);
    struct recursion *r = ARENA_NEW(az->arena, struct recursion);
    *r = (struct recursion){.len = len, .limit = ITERATIONS_MAX, .limit_error = true};
    return r;
}

/* A body that refers to the query around it would be another one for each row there. */
static err_t check_alone(struct az *az, const PgQuery__CommonTableExpr *def, const struct rel *body)
{
    if (rel_is_correlated(body)) {
        return AZ_UNSUPPORTED(az, def->location,
                              "a recursive query that refers to the query around it is not "
                              "supported");
    }
    return ERR_OK;
}

/* ---- references ------------------------------------------------------------------------------ */

/* Where PostgreSQL's rules allow no reference; CAN_BE: where they do. */
enum place { CAN_BE, IN_SEED, IN_SUBQUERY, IN_OUTER_JOIN, IN_INTERSECT, IN_EXCEPT };

struct reference {
    const char *name;
    enum place place;
    uint32_t count;
    enum place wrong; /* of the first one that stands where none may */
    int location;     /* of it, or of the second */
    bool failed;
};

static bool look(void *arg, ProtobufCMessage *message);

static void look_in(struct reference *r, void *message, enum place place)
{
    enum place saved = r->place;
    if (message != NULL) {
        r->place = place;
        sql_tree_walk(message, look, r);
        r->place = saved;
    }
}

static void note_reference(struct reference *r, const PgQuery__RangeVar *var)
{
    ASSERT(var->relname != NULL && r->name != NULL);
    if (strcmp(var->relname, r->name) != 0 || var->schemaname[0] != '\0') {
        return;
    }
    r->count++;
    if (!r->failed && (r->place != CAN_BE || r->count > 1)) {
        r->failed = true;
        r->wrong = r->place;
        r->location = var->location;
    }
}

/*
 * True: a query of the clause has the name, so that what the clause is of refers to that one. Those
 * up to it do not see it yet: theirs are references, unless the clause is recursive.
 */
static bool look_shadowed(struct reference *r, const PgQuery__WithClause *with)
{
    size_t at = 0, len = with != NULL ? with->n_ctes : 0;
    while (at < len && strcmp(with->ctes[at]->common_table_expr->ctename, r->name) != 0) {
        at++;
    }
    for (size_t i = 0; at < len && !with->recursive && i <= at; i++) {
        look_in(r, with->ctes[i]->common_table_expr->ctequery, r->place);
    }
    return at < len;
}

/* True: its parts are walked as they come. */
static bool look_select(struct reference *r, PgQuery__SelectStmt *s)
{
    enum place left = r->place, right = r->place;
    if (look_shadowed(r, s->with_clause)) {
        return false;
    }
    if (s->op == PG_QUERY__SET_OPERATION__SETOP_INTERSECT && s->all) {
        left = right = IN_INTERSECT;
    } else if (s->op == PG_QUERY__SET_OPERATION__SETOP_EXCEPT) {
        left = s->all ? IN_EXCEPT : left;
        right = IN_EXCEPT;
    } else {
        return true;
    }
    look_in(r, s->larg, r->place == CAN_BE ? left : r->place);
    look_in(r, s->rarg, r->place == CAN_BE ? right : r->place);
    return false;
}

static bool look_join(struct reference *r, PgQuery__JoinExpr *j)
{
    bool left = j->jointype == PG_QUERY__JOIN_TYPE__JOIN_LEFT;
    bool right = j->jointype == PG_QUERY__JOIN_TYPE__JOIN_RIGHT;
    bool full = j->jointype == PG_QUERY__JOIN_TYPE__JOIN_FULL;
    enum place outer = r->place == CAN_BE ? IN_OUTER_JOIN : r->place;
    look_in(r, j->larg, right || full ? outer : r->place);
    look_in(r, j->rarg, left || full ? outer : r->place);
    look_in(r, j->quals, r->place);
    return false;
}

static bool look(void *arg, ProtobufCMessage *message)
{
    struct reference *r = arg;
    const ProtobufCMessageDescriptor *d = message->descriptor;
    if (d == &pg_query__range_var__descriptor) {
        note_reference(r, (PgQuery__RangeVar *)message);
    } else if (d == &pg_query__select_stmt__descriptor) {
        return look_select(r, (PgQuery__SelectStmt *)message);
    } else if (d == &pg_query__join_expr__descriptor) {
        return look_join(r, (PgQuery__JoinExpr *)message);
    } else if (d == &pg_query__sub_link__descriptor) {
        PgQuery__SubLink *link = (PgQuery__SubLink *)message;
        look_in(r, link->subselect, r->place == IN_SEED ? IN_SEED : IN_SUBQUERY);
        look_in(r, link->testexpr, r->place);
        return false;
    }
    return true;
}

static bool refers(void *query, const char *name)
{
    struct reference r = {.name = name};
    look_in(&r, query, CAN_BE);
    return r.count > 0;
}

/* PostgreSQL's errors about one reference to itself. */
static err_t check_references(struct az *az, const PgQuery__CommonTableExpr *def)
{
    static const char *const places[] = {[IN_SEED] = "its non-recursive term",
                                         [IN_SUBQUERY] = "a subquery",
                                         [IN_OUTER_JOIN] = "an outer join",
                                         [IN_INTERSECT] = "INTERSECT",
                                         [IN_EXCEPT] = "EXCEPT"};
    PgQuery__SelectStmt *s = def->ctequery->select_stmt;
    ASSERT(s->op == PG_QUERY__SET_OPERATION__SETOP_UNION);
    struct reference r = {.name = def->ctename};
    look_in(&r, s->larg, IN_SEED);
    if (!r.failed) {
        r.count = 0;
        look_in(&r, s->rarg, CAN_BE);
    }
    if (!r.failed) {
        return ERR_OK;
    }
    if (r.wrong == CAN_BE) {
        return az_err(az, r.location, ERR_INVALID, "42P19",
                      "recursive reference to query \"%s\" must not appear more than once",
                      def->ctename);
    }
    return az_err(az, r.location, ERR_INVALID, "42P19",
                  "recursive reference to query \"%s\" must not appear within %s", def->ctename,
                  places[r.wrong]);
}

/* seed UNION [ALL] step, and nothing around it. */
static err_t check_form(struct az *az, const PgQuery__CommonTableExpr *def)
{
    const PgQuery__SelectStmt *s = def->ctequery->select_stmt;
    if (s->op != PG_QUERY__SET_OPERATION__SETOP_UNION) {
        return az_err(az, def->location, ERR_INVALID, "42P19",
                      "recursive query \"%s\" does not have the form non-recursive-term UNION "
                      "[ALL] recursive-term",
                      def->ctename);
    }
    const pg_node *around = s->n_sort_clause > 0      ? s->sort_clause[0]->sort_by->node
                            : s->limit_offset != NULL ? s->limit_offset
                            : s->limit_count != NULL  ? s->limit_count
                                                      : NULL;
    if (around != NULL) {
        const char *what = s->n_sort_clause > 0      ? "ORDER BY"
                           : s->limit_offset != NULL ? "OFFSET"
                                                     : "LIMIT";
        return AZ_UNSUPPORTED(az, pg_location(around),
                              "%s in a recursive query is not "
                              "implemented", /* PostgreSQL's words */
                              what);
    }
    if (s->with_clause != NULL) {
        return AZ_UNSUPPORTED(az, s->with_clause->location,
                              "WITH around the terms of a recursive query is not supported");
    }
    return check_references(az, def);
}

/* ---- linear steps ---------------------------------------------------------------------------- */

/* A walk over a step. Views in it are shared many times over: each is looked into once. */
struct step_walk {
    const struct recursion *recursion;
    bool distinct;       /* what comes of the step is made distinct */
    const char *why;     /* what is not linear */
    struct u64map known; /* rel -> has_variable, as 1 or 2 */
};

static bool has_variable(struct step_walk *w, const struct rel *rel);

static bool sx_has_variable(struct step_walk *w, const struct sx *sx)
{
    bool found = sx->sub != NULL && has_variable(w, sx->sub);
    for (uint32_t i = 0; i < sx->args_len && !found; i++) {
        found = sx_has_variable(w, sx->args[i]);
    }
    return found;
}

static bool has_variable(struct step_walk *w, const struct rel *rel)
{
    ASSERT(rel != NULL && w->recursion != NULL);
    uintptr_t known = (uintptr_t)u64map_get(&w->known, (uint64_t)(uintptr_t)rel);
    if (known != 0) {
        return known == 2;
    }
    bool found = rel->kind == REL_VARIABLE && rel->recursion == w->recursion;
    for (uint32_t i = 0; i < rel->inputs_len && !found; i++) {
        found = has_variable(w, rel->inputs[i]);
    }
    for (uint32_t i = 0; i < rel->sx_len && !found; i++) {
        found = sx_has_variable(w, rel->sx[i]);
    }
    u64map_put(&w->known, (uint64_t)(uintptr_t)rel, (void *)(uintptr_t)(found ? 2 : 1));
    return found;
}

/* Does the relation treat each row of the variable by itself? When distinct: as sets. */
static bool is_linear(struct step_walk *w, const struct rel *rel)
{
    ASSERT(has_variable(w, rel));
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        if (sx_has_variable(w, rel->sx[i])) {
            w->why = "a subquery over the recursive query";
            return false;
        }
    }
    switch (rel->kind) {
    case REL_VARIABLE:
        return rel->recursion == w->recursion;
    case REL_MAP:
    case REL_FILTER:
    case REL_PROJECT:
    case REL_FLAT_MAP:
        return is_linear(w, rel->inputs[0]);
    case REL_DISTINCT:
        w->why = "DISTINCT or UNION";
        return w->distinct && is_linear(w, rel->inputs[0]);
    case REL_REDUCE:
        w->why = rel->aggs_len > 0 ? "an aggregate" : "GROUP BY";
        return w->distinct && rel->aggs_len == 0 && is_linear(w, rel->inputs[0]);
    case REL_JOIN: {
        bool right = has_variable(w, rel->inputs[1]);
        bool both = right && has_variable(w, rel->inputs[0]); /* of one WITH, twice */
        w->why = both ? "a join of the recursive query with itself" : "an outer join";
        bool allowed = rel->join == REL_JOIN_INNER || (rel->join == REL_JOIN_LEFT && !right);
        return allowed && !both && is_linear(w, rel->inputs[right ? 1 : 0]);
    }
    case REL_UNION:
        for (uint32_t i = 0; i < rel->inputs_len; i++) {
            w->why = "a UNION with a query that is not recursive";
            if (!has_variable(w, rel->inputs[i]) || !is_linear(w, rel->inputs[i])) {
                return false;
            }
        }
        return true;
    case REL_SET: {
        bool right = has_variable(w, rel->inputs[1]);
        w->why = "EXCEPT or INTERSECT";
        bool plain = rel->set == REL_EXCEPT || rel->set == REL_INTERSECT;
        bool both = right && has_variable(w, rel->inputs[0]);
        return w->distinct && plain && !both && is_linear(w, rel->inputs[right ? 1 : 0]);
    }
    case REL_GLOBAL:
        w->why = "an aggregate";
        return false;
    default:
        w->why = rel->kind == REL_WINDOW ? "a window function"
               : rel->kind == REL_TOPK ? "LIMIT or DISTINCT ON"
                                       : "a recursion within it";
        return false;
    }
}

/* The first call of an aggregate in the step: what PostgreSQL points at. */
static bool find_aggregate(void *arg, ProtobufCMessage *message)
{
    int *location = arg;
    enum agg_func func;
    if (message->descriptor == &pg_query__func_call__descriptor) {
        const PgQuery__FuncCall *call = (PgQuery__FuncCall *)message;
        const char *name = pg_name(call->funcname, call->n_funcname, NULL);
        if (*location < 0 && call->over == NULL && name != NULL && agg_of_name(name, &func)) {
            *location = call->location;
        }
    }
    return true;
}

static err_t check_step(struct az *az, const PgQuery__CommonTableExpr *def, struct step_walk *w,
                       const struct rel *step)
{
    if (!has_variable(w, step)) {
        return AZ_UNSUPPORTED(az, def->location, "the reference of query \"%s\" to itself stands "
                              "where it is not supported", def->ctename);
    }
    if (is_linear(w, step)) {
        return ERR_OK;
    }
    if (strcmp(w->why, "an aggregate") == 0) {
        int location = -1;
        sql_tree_walk((ProtobufCMessage *)def->ctequery->select_stmt->rarg, find_aggregate,
                      &location);
        return az_err(az, location, ERR_INVALID, "42P19",
                      "aggregate functions are not allowed in a recursive query's recursive term");
    }
    return err_hint(AZ_UNSUPPORTED(az, def->location,
                                   "%s in the recursive term of query \"%s\" is not supported",
                                   w->why, def->ctename),
                    "WITH MUTUALLY RECURSIVE takes any query, which it evaluates until nothing "
                    "changes.");
}

static err_t check_linear(struct az *az, const PgQuery__CommonTableExpr *def,
                          const struct rel *step, const struct recursion *r, bool distinct)
{
    struct step_walk w = {.recursion = r, .distinct = distinct, .why = ""};
    err_t err = check_step(az, def, &w, step);
    u64map_free(&w.known);
    return err;
}

/* ---- WITH RECURSIVE -------------------------------------------------------------------------- */

/* What an arm's column is before it is finished: its literals may have no type yet. */
static struct sx *arm_column(struct az *az, const struct query *q, uint32_t i)
{
    return q->targets != NULL ? q->targets[i] : sx_col(az->arena, i, q->rel->types[i]);
}

/* The type both would have in a UNION, its modifier only where they agree. Strings of all kinds are
 * one to the engine: PostgreSQL stays with the first one's type. */
static err_t overall_type(struct az *az, const struct type *seed, struct sx *step,
                          struct type *out)
{
    struct sx *both[2] = {sx_col(az->arena, 0, *seed), step};
    TRY(az_common_type(az, both, 2, "UNION", out));
    if (seed->kind == TYPE_TEXT && step->type.kind == TYPE_TEXT) {
        *out = *seed;
    }
    bool agree = step->type.oid == out->oid && seed->oid == out->oid &&
                 step->type.typmod == seed->typmod;
    out->typmod = agree ? seed->typmod : -1;
    return ERR_OK;
}

/* The seed alone gives the types; the step must not want others. */
static err_t check_types(struct az *az, const PgQuery__CommonTableExpr *def,
                         const struct rel *seed, const int *locations, const struct query *step)
{
    ASSERT(step->targets == NULL && step->cols_len == seed->cols_len);
    for (uint32_t i = 0; i < seed->cols_len; i++) {
        const struct type *own = &seed->types[i];
        struct type type;
        TRY(overall_type(az, own, arm_column(az, step, i), &type));
        if (type.oid == own->oid && type.typmod == own->typmod) {
            continue;
        }
        const char *have = type_format(az->arena, own);
        return err_hint(
            az_err(az, locations[i], ERR_INVALID, "42804",
                   "recursive query \"%s\" column %u has type %s in non-recursive term but type %s "
                   "overall",
                   def->ctename, i + 1, have, type_format(az->arena, &type)),
            "Cast the output of the non-recursive term to the correct type.");
    }
    return ERR_OK;
}

/* A query's columns as these types. */
static err_t convert(struct az *az, struct query *q, const struct type *types,
                     enum cast_context context, struct rel **out)
{
    TRY(az_query_finish(az, q, types));
    struct rel *rel = az_query_rel(az, q);
    ASSERT(rel->cols_len == q->cols_len);
    struct sxvec maps = {0};
    uint32_t *cols = ARENA_ARRAY(az->arena, uint32_t, q->cols_len);
    for (uint32_t i = 0; i < q->cols_len; i++) {
        cols[i] = i;
        if (rel->types[i].kind != types[i].kind || rel->types[i].typmod != types[i].typmod) {
            struct sx *sx = sx_col(az->arena, i, rel->types[i]);
            TRY(az_coerce(az, sx, types[i], context, &sx));
            cols[i] = rel->cols_len + maps.len;
            sxvec_push(az->arena, &maps, sx);
        }
    }
    rel = rel_map(az->arena, rel, maps.items, maps.len);
    *out = rel_project(az->arena, rel, cols, q->cols_len);
    return ERR_OK;
}

static struct cte *new_cte(struct az *az, const char *name, struct rel *rel, const char **names,
                           struct scope *scope)
{
    ASSERT(name != NULL && rel != NULL);
    struct cte *cte = ARENA_NEW(az->arena, struct cte);
    *cte = (struct cte){.name = name, .rel = rel, .names = names, .scope = scope};
    return cte;
}

/* The seed, with the places of its columns for errors. */
static err_t seed_of(struct az *az, PgQuery__SelectStmt *s, struct scope *parent, uint32_t hide,
                     struct query *q, int **locations)
{
    TRY(az_select(az, s->larg, parent, hide, q));
    *locations = ARENA_ARRAY(az->arena, int, q->cols_len + 1);
    for (uint32_t i = 0; i < q->cols_len; i++) {
        (*locations)[i] = q->targets != NULL ? sx_location(q->targets[i]) : -1;
    }
    return az_query_finish(az, q, NULL);
}

/* A query that refers to itself. */
static err_t recursive_query(struct az *az, const PgQuery__CommonTableExpr *def,
                             struct scope *parent, uint32_t hide, struct cte **out)
{
    PgQuery__SelectStmt *s = def->ctequery->select_stmt;
    struct query seed_query, step_query;
    int *locations = NULL;
    TRY(check_form(az, def));
    TRY(seed_of(az, s, parent, hide, &seed_query, &locations));
    struct rel *seed = az_query_rel(az, &seed_query), *step = NULL;
    TRY(check_alone(az, def, seed));
    struct recursion *r = new_recursion(az, 1);
    struct rel *variable = rel_variable(az->arena, r, 0, seed->types, seed->cols_len);
    const char **names = arena_memdup(az->arena, seed_query.names,
                                      seed_query.cols_len * sizeof(names[0]));
    struct cte *cte = new_cte(az, def->ctename, variable, names, parent);
    TRY(az_cte_names(az, def, cte));
    struct cte *before = az->ctes;
    az_add_cte(az, cte);
    err_t err = az_select(az, s->rarg, parent, hide, &step_query);
    az->ctes = before;
    TRY(err);
    if (step_query.cols_len != seed->cols_len) {
        bool any = step_query.cols_len > 0 && step_query.targets != NULL;
        int at = any ? sx_location(step_query.targets[0]) : -1;
        return az_err(az, at, ERR_INVALID, "42601",
                      "each UNION query must have the same number of columns");
    }
    TRY(az_query_finish(az, &step_query, seed->types));
    step = az_query_rel(az, &step_query);
    TRY(check_alone(az, def, step));
    TRY(check_linear(az, def, step, r, !s->all));
    TRY(check_types(az, def, seed, locations, &step_query));
    TRY(convert(az, &step_query, seed->types, CAST_IMPLICIT, &step));
    struct rel *body = rel_union2(az->arena, seed, step);
    body = s->all ? body : rel_distinct(az->arena, body);
    rel_close(body);
    *out = new_cte(az, def->ctename,
                   rel_leave(az->arena, rel_fixpoint(az->arena, r, &body), variable), names,
                   parent);
    rel_close((*out)->rel);
    return ERR_OK;
}

/* The i-th query, when all it refers to is known. */
static err_t one_query(struct az *az, const PgQuery__CommonTableExpr *def, struct scope *parent,
                       uint32_t hide)
{
    struct cte *cte = NULL;
    if (def->ctequery->node_case == PG_QUERY__NODE__NODE_SELECT_STMT &&
        refers(def->ctequery->select_stmt, def->ctename)) {
        TRY(recursive_query(az, def, parent, hide, &cte));
    } else {
        TRY(az_cte_query(az, def, parent, hide, &cte));
    }
    az_add_cte(az, cte);
    return ERR_OK;
}

/* Which other queries of the clause one refers to. */
struct uses {
    uint32_t *items;
    uint32_t len;
};

/* Tables named in a query that may be queries of the clause: each once. */
struct mentions {
    struct strmap *names; /* of the clause -> index + 1 */
    bool *seen;           /* by index */
    struct uses uses;
    uint32_t cap;
    struct arena *arena;
};

static bool mention(void *arg, ProtobufCMessage *message)
{
    struct mentions *m = arg;
    if (message->descriptor == &pg_query__range_var__descriptor) {
        uintptr_t at = (uintptr_t)strmap_get(m->names, ((PgQuery__RangeVar *)message)->relname);
        if (at != 0 && !m->seen[at - 1]) {
            m->seen[at - 1] = true;
            if (m->uses.len == m->cap) {
                uint32_t *items = ARENA_ARRAY(m->arena, uint32_t, 2 * m->cap + 4);
                for (uint32_t i = 0; i < m->uses.len; i++) {
                    items[i] = m->uses.items[i];
                }
                m->uses.items = items;
                m->cap = 2 * m->cap + 4;
            }
            m->uses.items[m->uses.len++] = (uint32_t)at - 1;
        }
    }
    return true;
}

/* By name first, so that queries are not walked for each other query. */
static struct uses *uses_of(struct az *az, const PgQuery__WithClause *with)
{
    struct strmap names = {0};
    struct uses *out = ARENA_ARRAY(az->arena, struct uses, with->n_ctes);
    for (size_t i = 0; i < with->n_ctes; i++) {
        strmap_put(&names, with->ctes[i]->common_table_expr->ctename, (void *)(uintptr_t)(i + 1));
    }
    struct mentions m = {.names = &names, .arena = az->arena};
    m.seen = ARENA_ARRAY(az->arena, bool, with->n_ctes);
    for (size_t i = 0; i < with->n_ctes; i++) {
        pg_node *query = with->ctes[i]->common_table_expr->ctequery;
        m.uses = (struct uses){0};
        m.cap = 0;
        sql_tree_walk((ProtobufCMessage *)query, mention, &m);
        out[i].items = m.uses.items;
        for (uint32_t k = 0; k < m.uses.len; k++) {
            uint32_t j = m.uses.items[k];
            m.seen[j] = false;
            if (j != i && refers(query, with->ctes[j]->common_table_expr->ctename)) {
                out[i].items[out[i].len++] = j;
            }
        }
    }
    strmap_free(&names);
    return out;
}

/* Does it refer to one that is not known yet? */
static bool must_wait(const struct uses *uses, const bool *done)
{
    bool waits = false;
    for (uint32_t k = 0; k < uses->len && !waits; k++) {
        waits = !done[uses->items[k]];
    }
    return waits;
}

/* Each sees all others, so they are taken in an order in which they can be. */
static err_t in_order(struct az *az, const PgQuery__WithClause *with, struct scope *parent,
                      uint32_t hide)
{
    ASSERT(with->recursive);
    bool *done = ARENA_ARRAY(az->arena, bool, with->n_ctes);
    const struct uses *uses = uses_of(az, with);
    for (size_t taken = 0; taken < with->n_ctes; taken++) {
        size_t next = 0;
        while (next < with->n_ctes && (done[next] || must_wait(&uses[next], done))) {
            next++;
        }
        if (next == with->n_ctes) {
            for (next = 0; done[next]; next++) {
            }
            return err_hint(AZ_UNSUPPORTED(az, with->ctes[next]->common_table_expr->location,
                                           "mutual recursion between WITH items is not "
                                           "implemented"),
                            "WITH MUTUALLY RECURSIVE has it.");
        }
        TRY(one_query(az, with->ctes[next]->common_table_expr, parent, hide));
        done[next] = true;
    }
    return ERR_OK;
}

/* ---- WITH MUTUALLY RECURSIVE ----------------------------------------------------------------- */

/* A type's text, parsed as what it is cast to; in parentheses, so that no clause follows. */
static err_t type_of_text(struct az *az, const char *text, int location, struct type *out)
{
    struct sql_script *script = NULL;
    const char *select = arena_printf(az->arena, "SELECT (NULL::%s)", text);
    err_t err = sql_parse(select, strlen(select), &script);
    if (err != ERR_OK) {
        err_free(err);
        return az_err(az, location, ERR_INVALID, "42601", "\"%s\" is not a type", text);
    }
    *VEC_PUSH(az, scripts) = script;
    const pg_node *node = script->stmts_len == 1 ? script->stmts[0]->ast->node : NULL;
    const PgQuery__SelectStmt *s =
        node != NULL && node->node_case == PG_QUERY__NODE__NODE_SELECT_STMT ? node->select_stmt
                                                                            : NULL;
    const pg_node *value = s != NULL && s->n_target_list == 1 && s->n_from_clause == 0 &&
                                   s->where_clause == NULL && s->n_sort_clause == 0 &&
                                   s->target_list[0]->res_target->name[0] == '\0'
                               ? s->target_list[0]->res_target->val
                               : NULL;
    if (value == NULL || value->node_case != PG_QUERY__NODE__NODE_TYPE_CAST ||
        value->type_cast->arg->node_case != PG_QUERY__NODE__NODE_A_CONST ||
        value->type_cast->type_name->setof) {
        return az_err(az, location, ERR_INVALID, "42601", "\"%s\" is not a type", text);
    }
    const char *saved = az->text;
    az->text = NULL;
    err = az_type(az, value->type_cast->type_name, out);
    az->text = saved;
    out->nullable = true;
    return err;
}

/* The variable of a binding: its columns as they are declared. */
static err_t declared(struct az *az, const PgQuery__CommonTableExpr *def, struct recursion *r,
                      uint32_t binding, struct cte **out)
{
    size_t n = def->n_aliascolnames;
    struct type *types = ARENA_ARRAY(az->arena, struct type, n);
    const char **names = ARENA_ARRAY(az->arena, const char *, n);
    for (size_t i = 0; i < n; i++) {
        struct sql_mutual_column column;
        bool marked = sql_mutual_column(az->arena, pg_string(def->aliascolnames[i]), &column);
        ASSERT(marked); /* the parser put it there */
        names[i] = column.name;
        TRY(type_of_text(az, column.type, def->location, &types[i]));
        if (column.first && column.limit > 0) {
            r->limit = column.limit;
            r->limit_error = !column.returns;
        }
    }
    *out = new_cte(az, def->ctename, rel_variable(az->arena, r, binding, types, (uint32_t)n), names,
                   NULL);
    return ERR_OK;
}

/* Values become what is declared as an INSERT would make them. */
static err_t mutual_body(struct az *az, const PgQuery__CommonTableExpr *def, struct scope *parent,
                         uint32_t hide, const struct rel *variable, struct rel **out)
{
    struct query q;
    ASSERT(variable->kind == REL_VARIABLE);
    TRY(az_query(az, def->ctequery, parent, hide, &q));
    if (q.cols_len != variable->cols_len) {
        return az_err(az, def->location, ERR_INVALID, "42601",
                      "query \"%s\" has %u columns, %u are declared", def->ctename, q.cols_len,
                      variable->cols_len);
    }
    for (uint32_t i = 0; i < q.cols_len; i++) {
        const struct sx *sx = arm_column(az, &q, i);
        if (!type_is_unknown(sx) && !az_can_coerce(sx, variable->types[i], CAST_ASSIGNMENT)) {
            return az_err(az, def->location, ERR_INVALID, "42804",
                          "query \"%s\" column %u has type %s, but %s is declared", def->ctename,
                          i + 1, az_type_name(az, &sx->type),
                          az_type_name(az, &variable->types[i]));
        }
    }
    TRY(convert(az, &q, variable->types, CAST_ASSIGNMENT, out));
    TRY(check_alone(az, def, *out));
    rel_close(*out);
    return ERR_OK;
}

/* Bodies behind a body name it itself, those before it and its own name its variable; outside it is
 * what it gave last. */
static err_t mutual(struct az *az, const PgQuery__WithClause *with, struct scope *parent,
                    uint32_t hide)
{
    uint32_t n = (uint32_t)with->n_ctes;
    if (with->n_ctes > PLAN_INPUTS_MAX) {
        return az_err(az, with->location, ERR_LIMIT, "54001",
                      "WITH MUTUALLY RECURSIVE has %zu queries, at most %d are supported",
                      with->n_ctes, PLAN_INPUTS_MAX);
    }
    struct recursion *r = new_recursion(az, n);
    struct cte **ctes = ARENA_ARRAY(az->arena, struct cte *, n);
    struct rel **variables = ARENA_ARRAY(az->arena, struct rel *, n);
    struct rel **bodies = ARENA_ARRAY(az->arena, struct rel *, n);
    for (uint32_t i = 0; i < n; i++) {
        TRY(declared(az, with->ctes[i]->common_table_expr, r, i, &ctes[i]));
        ctes[i]->scope = parent;
        variables[i] = ctes[i]->rel;
        az_add_cte(az, ctes[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        TRY(mutual_body(az, with->ctes[i]->common_table_expr, parent, hide, variables[i],
                        &bodies[i]));
        ctes[i]->rel = bodies[i];
    }
    struct rel *fixpoint = rel_fixpoint(az->arena, r, bodies);
    for (uint32_t i = 0; i < n; i++) {
        ctes[i]->rel = rel_leave(az->arena, fixpoint, variables[i]);
        rel_close(ctes[i]->rel);
    }
    return ERR_OK;
}

static bool is_mutual(struct az *az, const PgQuery__WithClause *with)
{
    const PgQuery__CommonTableExpr *first = with->ctes[0]->common_table_expr;
    struct sql_mutual_column column;
    return first->n_aliascolnames > 0 &&
           sql_mutual_column(az->arena, pg_string(first->aliascolnames[0]), &column);
}

err_t az_with_recursive(struct az *az, const PgQuery__WithClause *with, struct scope *parent,
                        uint32_t hide)
{
    ASSERT(with->recursive && with->n_ctes > 0);
    for (size_t i = 0; i < with->n_ctes; i++) {
        const PgQuery__CommonTableExpr *def = with->ctes[i]->common_table_expr;
        TRY(az_cte_twice(az, with, i));
        if (def->search_clause != NULL || def->cycle_clause != NULL) {
            return AZ_UNSUPPORTED(az, def->location, "SEARCH and CYCLE are not supported");
        }
        if (def->ctequery->node_case != PG_QUERY__NODE__NODE_SELECT_STMT) {
            return AZ_UNSUPPORTED(az, def->location,
                                  "data-modifying statements in WITH are not supported");
        }
    }
    return is_mutual(az, with) ? mutual(az, with, parent, hide)
                               : in_order(az, with, parent, hide);
}
