/*
 * Expressions as data: building, validation of what may be hostile, equality, printing.
 *
 * Programs come from the planner, but travel in plans between processes: what expr_validate accepts
 * is evaluated without further checks. It relies on nothing about the program but its length and
 * that its arrays can be read. What it establishes, in one pass from the first node to the last:
 *
 *   arguments come before their users           no cycle, recursion ends
 *   depth and size of the tree are bounded      no stack overflow, no explosion by sharing
 *   columns exist and have the node's kind      vectors are read as what they are
 *   functions exist and take these kinds        kernels read arguments as what they are
 *   literals are values of their type           no kernel meets a value it cannot handle
 *
 * Functions here keep no state; any thread.
 */
#include "core/data/expr.h"

#include "core/data/vec.h"

/* Evaluation recurses and works on the expression as a tree: both are bounded here. */
enum { EXPR_DEPTH_MAX = 4000, EXPR_TREE_MAX = 65536, EXPR_NODES_MIN_CAP = 8 };

/*
 * The arena does not grow arrays in place, so capacity follows from the length: a power of two, at
 * least EXPR_NODES_MIN_CAP. The node is copied, with its list of arguments; what a literal points
 * to is not: it must live as long as the arena.
 */
uint32_t expr_add(struct arena *arena, struct expr *e, const struct expr_node *node)
{
    uint32_t len = e->nodes_len;
    ASSERT(len < EXPR_NODES_MAX);
    if (len == 0 || (len >= EXPR_NODES_MIN_CAP && (len & (len - 1)) == 0)) {
        uint32_t cap = len == 0 ? EXPR_NODES_MIN_CAP : len * 2;
        struct expr_node *grown = ARENA_ARRAY(arena, struct expr_node, cap);
        if (len > 0) {
            memcpy(grown, e->nodes, len * sizeof(*grown));
        }
        e->nodes = grown;
    }
    struct expr_node *copy = &e->nodes[len];
    *copy = *node;
    if (node->args_len > 0) {
        copy->args = arena_memdup(arena, node->args, node->args_len * sizeof(uint32_t));
    }
    e->nodes_len = len + 1;
    return len;
}

/* ---- validation ------------------------------------------------------------------------------ */

/* The number of the node finds it in a plan that is printed. */
static err_t bad_node(uint32_t at, const char *what)
{
    return err_new(ERR_INVALID, "expression node %u: %s", at, what);
}

/*
 * The result kind must be stated, and be right: users of the node read it. kinds are taken from the
 * arguments' own nodes, which were checked before.
 */
static err_t check_call(const struct expr *e, uint32_t at)
{
    ASSERT(at < e->nodes_len);
    const struct expr_node *n = &e->nodes[at];
    const struct func *f = func_by_id(n->func);
    uint8_t kinds[EXPR_ARGS_MAX];
    uint8_t result;
    if (f == NULL) {
        return err_new(ERR_INVALID, "expression node %u: unknown function %u", at, n->func);
    }
    for (uint32_t i = 0; i < n->args_len; i++) {
        kinds[i] = e->nodes[n->args[i]].type.kind;
    }
    if (!func_accepts(f, kinds, n->args_len, &result)) {
        return err_new(ERR_INVALID, "expression node %u: wrong arguments for %s", at, f->name);
    }
    return result == n->type.kind ? ERR_OK : bad_node(at, "wrong result type");
}

/* Arguments from, from + step, ... must be of one kind. */
static err_t want_kinds(const struct expr *e, uint32_t at, uint32_t from, uint32_t step,
                        uint8_t kind)
{
    ASSERT(step > 0);
    ASSERT(at < e->nodes_len);
    const struct expr_node *n = &e->nodes[at];
    for (uint32_t i = from; i < n->args_len; i += step) {
        if (e->nodes[n->args[i]].type.kind != kind) {
            return bad_node(at, "an argument has the wrong type");
        }
    }
    return ERR_OK;
}

/*
 * when, then, ..., else: conditions boolean, the others of the result's kind. An else is always
 * there: the planner adds a NULL.
 */
static err_t check_case(const struct expr *e, uint32_t at)
{
    ASSERT(at < e->nodes_len);
    const struct expr_node *n = &e->nodes[at];
    if (n->args_len < 3 || n->args_len % 2 == 0) {
        return bad_node(at, "CASE needs pairs and an else");
    }
    for (uint32_t i = 0; i < n->args_len; i++) {
        bool condition = i % 2 == 0 && i + 1 < n->args_len;
        uint8_t want = condition ? TYPE_BOOL : n->type.kind;
        if (e->nodes[n->args[i]].type.kind != want) {
            return bad_node(at, "an argument of CASE has the wrong type");
        }
    }
    return ERR_OK;
}

/* IS NULL takes any kind; the others booleans. */
static err_t check_logic(const struct expr *e, uint32_t at)
{
    ASSERT(at < e->nodes_len);
    const struct expr_node *n = &e->nodes[at];
    if (n->type.kind != TYPE_BOOL) {
        return bad_node(at, "must be boolean");
    }
    switch (n->kind) {
    case EXPR_NOT:
    case EXPR_IS_NULL:
        if (n->args_len != 1) {
            return bad_node(at, "needs one argument");
        }
        return n->kind == EXPR_NOT ? want_kinds(e, at, 0, 1, TYPE_BOOL) : ERR_OK;
    default:
        if (n->args_len == 0) {
            return bad_node(at, "needs arguments");
        }
        return want_kinds(e, at, 0, 1, TYPE_BOOL);
    }
}

/* What the node is; its shape has been checked. */
static err_t check_node(const struct expr *e, uint32_t at, const struct type *input,
                        size_t input_len)
{
    ASSERT(at < e->nodes_len);
    const struct expr_node *n = &e->nodes[at];
    switch (n->kind) {
    case EXPR_COLUMN:
        if (n->column >= input_len || input[n->column].kind != n->type.kind) {
            return bad_node(at, "no such column of this type");
        }
        return ERR_OK;
    case EXPR_LITERAL:
        return datum_valid(n->type.kind, &n->literal)
                   ? ERR_OK
                   : bad_node(at, "the literal is not a value of its type");
    case EXPR_CALL:
        return check_call(e, at);
    case EXPR_CASE:
        return check_case(e, at);
    case EXPR_COALESCE:
        if (n->args_len == 0) {
            return bad_node(at, "needs arguments");
        }
        return want_kinds(e, at, 0, 1, n->type.kind);
    case EXPR_AND:
    case EXPR_OR:
    case EXPR_NOT:
    case EXPR_IS_NULL:
        return check_logic(e, at);
    default:
        return bad_node(at, "unknown kind");
    }
}

/*
 * References point backwards; depth and size of the tree they span are bounded. size counts a
 * shared node once per use, as evaluation copies it.
 */
static err_t check_shape(const struct expr *e, uint32_t at, uint32_t *depth, uint32_t *size)
{
    ASSERT(at < e->nodes_len);
    const struct expr_node *n = &e->nodes[at];
    bool leaf = n->kind == EXPR_COLUMN || n->kind == EXPR_LITERAL;
    if (!type_kind_stored(n->type.kind)) {
        return bad_node(at, "has no type");
    }
    if (n->args_len > EXPR_ARGS_MAX || (n->args_len > 0 && (leaf || n->args == NULL))) {
        return bad_node(at, "has a wrong number of arguments");
    }
    depth[at] = 1;
    size[at] = 1;
    for (uint32_t i = 0; i < n->args_len; i++) {
        uint32_t arg = n->args[i];
        if (arg >= at) {
            return bad_node(at, "refers to a later node");
        }
        depth[at] = depth[arg] + 1 > depth[at] ? depth[arg] + 1 : depth[at];
        size[at] += size[arg];
        if (size[at] > EXPR_TREE_MAX || depth[at] > EXPR_DEPTH_MAX) {
            return bad_node(at, "the expression is too large");
        }
    }
    return ERR_OK;
}

/* input: the kinds of the columns, maps included. Linear in the program. */
err_t expr_validate(const struct expr *e, const struct type *input, size_t input_len)
{
    if (e->nodes_len == 0 || e->nodes_len > EXPR_NODES_MAX || e->nodes == NULL) {
        return err_new(ERR_INVALID, "expression has %u nodes", e->nodes_len);
    }
    uint32_t *depth = mem_alloc(e->nodes_len * 2 * sizeof(uint32_t));
    uint32_t *size = depth + e->nodes_len;
    err_t err = ERR_OK;
    for (uint32_t i = 0; i < e->nodes_len && err == ERR_OK; i++) {
        err = check_shape(e, i, depth, size);
        if (err == ERR_OK) {
            err = check_node(e, i, input, input_len);
        }
    }
    free(depth);
    return err;
}

/*
 * The same program, node by node; literals by SQL equality. Two programs that compute the same in
 * different ways are different.
 */
bool expr_equal(const struct expr *a, const struct expr *b)
{
    if (a->nodes_len != b->nodes_len) {
        return false;
    }
    for (uint32_t i = 0; i < a->nodes_len; i++) {
        const struct expr_node *x = &a->nodes[i];
        const struct expr_node *y = &b->nodes[i];
        bool same = x->kind == y->kind && x->type.kind == y->type.kind &&
                    x->type.oid == y->type.oid && x->type.typmod == y->type.typmod &&
                    x->type.nullable == y->type.nullable && x->column == y->column &&
                    x->func == y->func && x->args_len == y->args_len;
        if (!same || (x->args_len > 0 &&
                      memcmp(x->args, y->args, x->args_len * sizeof(uint32_t)) != 0)) {
            return false;
        }
        if (x->kind == EXPR_LITERAL && !datum_equal(x->type.kind, &x->literal, &y->literal)) {
            return false;
        }
    }
    return true;
}

/* ---- printing -------------------------------------------------------------------------------- */

/* For programs that were validated: recursion is bounded, names are there for all columns. */
static void print_node(const struct expr *e, uint32_t at, const char *const *names,
                       struct buf *out);

/* As SQL would read it back: quotes doubled, the type behind what is not obvious. */
static void print_literal(const struct expr_node *n, struct buf *out)
{
    bool bare = n->type.kind == TYPE_INT4 || n->type.kind == TYPE_INT8 ||
                n->type.kind == TYPE_INT2 || n->type.kind == TYPE_NUMERIC;
    if (n->literal.null) {
        buf_append_str(out, "null");
        return;
    }
    if (n->type.kind == TYPE_BOOL) {
        buf_append_str(out, n->literal.b ? "true" : "false");
        return;
    }
    if (bare) {
        datum_print(&n->type, &n->literal, out);
        return;
    }
    struct buf text = {0};
    datum_print(&n->type, &n->literal, &text);
    buf_append_byte(out, '\'');
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '\'') {
            buf_append_byte(out, '\'');
        }
        buf_append_byte(out, text.data[i]);
    }
    buf_append_byte(out, '\'');
    buf_free(&text);
    if (n->type.kind != TYPE_TEXT) {
        struct arena arena = {0};
        buf_printf(out, "::%s", type_format(&arena, &n->type));
        arena_free(&arena);
    }
}

static void print_list(const struct expr *e, const struct expr_node *n, const char *between,
                       const char *const *names, struct buf *out)
{
    for (uint32_t i = 0; i < n->args_len; i++) {
        if (i > 0) {
            buf_append_str(out, between);
        }
        print_node(e, n->args[i], names, out);
    }
}

/* Operators are functions with such a name. */
static bool is_operator(const char *name)
{
    return strchr("+-*/<>=~!@#%^&|?", name[0]) != NULL;
}

/* (a + b), f(a, b), a::type */
static void print_call(const struct expr *e, const struct expr_node *n, const char *const *names,
                       struct buf *out)
{
    ASSERT(n->kind == EXPR_CALL);
    const struct func *f = func_by_id(n->func);
    const char *name = f != NULL ? f->name : "?";
    if (f != NULL && (f->flags & FUNC_CAST) != 0) {
        print_list(e, n, "", names, out);
        buf_printf(out, "::%s", type_kind_name(n->type.kind));
    } else if (is_operator(name) && n->args_len == 2) {
        buf_append_byte(out, '(');
        print_node(e, n->args[0], names, out);
        buf_printf(out, " %s ", name);
        print_node(e, n->args[1], names, out);
        buf_append_byte(out, ')');
    } else {
        buf_printf(out, "%s(", name);
        print_list(e, n, ", ", names, out);
        buf_append_byte(out, ')');
    }
}

static void print_case(const struct expr *e, const struct expr_node *n, const char *const *names,
                       struct buf *out)
{
    ASSERT(n->kind == EXPR_CASE && n->args_len % 2 == 1);
    buf_append_str(out, "case");
    for (uint32_t i = 0; i < n->args_len; i++) {
        bool last = i + 1 == n->args_len;
        buf_append_str(out, last ? " else " : i % 2 == 0 ? " when " : " then ");
        print_node(e, n->args[i], names, out);
    }
    buf_append_str(out, " end");
}

static void print_node(const struct expr *e, uint32_t at, const char *const *names,
                       struct buf *out)
{
    ASSERT(at < e->nodes_len);
    const struct expr_node *n = &e->nodes[at];
    switch (n->kind) {
    case EXPR_COLUMN:
        if (names != NULL && names[n->column] != NULL) {
            buf_append_str(out, names[n->column]);
        } else {
            buf_printf(out, "#%u", n->column);
        }
        break;
    case EXPR_LITERAL:
        print_literal(n, out);
        break;
    case EXPR_CALL:
        print_call(e, n, names, out);
        break;
    case EXPR_CASE:
        print_case(e, n, names, out);
        break;
    case EXPR_IS_NULL:
        buf_append_byte(out, '(');
        print_list(e, n, "", names, out);
        buf_append_str(out, " is null)");
        break;
    case EXPR_NOT:
    case EXPR_COALESCE:
        buf_append_str(out, n->kind == EXPR_NOT ? "not(" : "coalesce(");
        print_list(e, n, ", ", names, out);
        buf_append_byte(out, ')');
        break;
    default:
        buf_append_byte(out, '(');
        print_list(e, n, n->kind == EXPR_AND ? " and " : " or ", names, out);
        buf_append_byte(out, ')');
        break;
    }
}

/* Appends. */
void expr_print(const struct expr *e, const char *const *names, struct buf *out)
{
    ASSERT(e->nodes_len > 0);
    print_node(e, e->nodes_len - 1, names, out);
}
