/*
 * Private to ctrl/adapter/sql: the typed relational IR and the passes over it.
 *
 * analysis (names, types)  -> rel trees whose expressions may hold subqueries and outer references
 * lowering (decorrelation) -> rel DAGs without either
 * optimisation             -> the same, better
 * emission                 -> struct plan
 *
 * rel and sx nodes live in the arena of their planning context and are immutable once built, so
 * that they may be shared; passes build new nodes. Sharing of a rel by pointer is meaningful: it
 * becomes one node of the plan.
 */
#ifndef TAILRACE_CTRL_ADAPTER_SQL_SQL_INTERNAL_H
#define TAILRACE_CTRL_ADAPTER_SQL_SQL_INTERNAL_H

#include "core/base/map.h"
#include "ctrl/adapter/sql/sql.h"

#include <pg_query/pg_query.pb-c.h>

typedef PgQuery__Node pg_node;

/* ---- statements ------------------------------------------------------------------------------ */

struct sql_column_def {
    const char *name;
    pg_node *type_name; /* PgQuery TypeName */
    int location;
};

/*
 * What the planner needs of a statement and nobody else: trees of libpg_query, in the script's
 * arena, with the offsets that turn their locations into the script's.
 */
struct sql_ast {
    pg_node *node;  /* the PostgreSQL statement, or the query inside one of our own; may be NULL */
    uint32_t base;  /* offset in the script of the text node was parsed from */
    pg_node *as_of; /* expressions, or NULL */
    pg_node *up_to;
    uint32_t as_of_base, up_to_base;
    /* What our own statements carry, by kind. */
    struct sql_name on;  /* CREATE INDEX, SUBSCRIBE, SHOW ... FROM */
    bool has_query;      /* SUBSCRIBE (query) rather than of an object */
    const char *cluster; /* IN CLUSTER */
    const char **names;  /* CREATE MATERIALIZED VIEW v (a, b) IN CLUSTER */
    uint32_t names_len;
    pg_node *columns;    /* CREATE SOURCE: a CreateStmt with the column list, or NULL */
    uint32_t columns_base;
    bool if_not_exists;
    bool is_default;
    bool no_keys; /* CREATE INDEX without a list: DEFAULT */
    const char *path;
    uint8_t format;
    bool header;
    uint32_t csv_columns;
    char delimiter;
    struct sql_options options;
    const char *like;   /* SHOW ... LIKE */
    const char *schema; /* SHOW TABLES FROM schema */
};

/* Parses one PostgreSQL statement out of script->text[start, end); the tree lives as long as the
 * script. Errors carry the position in the script. */
err_t sql_parse_pg(struct sql_script *script, uint32_t start, uint32_t end, pg_node **out);
/* The same for a text of its own, whose first byte counts as offset base of the script. */
err_t sql_parse_text(struct sql_script *script, const char *text, uint32_t len, uint32_t base,
                     pg_node **out);
/* ---- mutual.c: WITH MUTUALLY RECURSIVE ------------------------------------------------------- */

/* Parses text, hiding from `parse` what PostgreSQL's grammar does not know; it is in the tree. */
typedef err_t (*sql_parse_fn)(struct sql_script *script, const char *text, uint32_t base,
                              pg_node **out);
err_t sql_parse_mutual(struct sql_script *script, const char *text, uint32_t len, uint32_t base,
                       sql_parse_fn parse, pg_node **out);
/* A column name of such a WITH, and what stands behind it. */
struct sql_mutual_column {
    const char *name, *type; /* as written */
    bool first;              /* of the clause: with its limit */
    bool returns;            /* at the limit; else it is an error */
    uint64_t limit;          /* 0: none given */
};
/* False: it is a column of another WITH. */
bool sql_mutual_column(struct arena *arena, const char *marked, struct sql_mutual_column *out);
/* A deparsed text with such clauses as they were written. */
const char *sql_mutual_text(struct arena *arena, const char *text);
/* Every message of a tree, outside in; fn returns whether to go into it. */
typedef bool (*sql_tree_fn)(void *arg, ProtobufCMessage *message);
void sql_tree_walk(ProtobufCMessage *message, sql_tree_fn fn, void *arg);

/* Fills a statement from a PostgreSQL parse tree. */
err_t sql_stmt_of_pg(struct sql_script *script, struct sql_stmt *stmt);
/* Parses one of our own statements; *own false when the text is not one of them. */
err_t sql_parse_own(struct sql_script *script, struct sql_stmt *stmt, bool *own);
/* Parses a statement inside another (COPY (...), DECLARE c CURSOR FOR ..., EXPLAIN ...). */
err_t sql_parse_slice(struct sql_script *script, uint32_t start, uint32_t end,
                      struct sql_stmt **out);
/* Cuts AS OF t [UP TO t] off the end of the text [start, *end). */
err_t sql_parse_tail(struct sql_script *script, struct sql_ast *ast, uint32_t start, uint32_t *end);
/* Adds the character position of byte offset `at` in the text. */
err_t sql_position(err_t err, const char *text, uint32_t at);

/* ---- tokens of the script, as PostgreSQL's lexer sees them ----------------------------------- */

enum sql_token_kind {
    SQL_TOKEN_END,
    SQL_TOKEN_IDENT,  /* lower-cased unless quoted */
    SQL_TOKEN_STRING, /* '...' or E'...' or $$...$$, decoded */
    SQL_TOKEN_NUMBER,
    SQL_TOKEN_PARAM, /* $1 */
    SQL_TOKEN_PUNCT, /* one byte of punctuation */
};

/* One token: bytes [start, end) of the script. */
struct sql_token {
    uint8_t kind;
    bool quoted; /* "ident" */
    char punct;
    uint32_t start, end;
    const char *text; /* IDENT, STRING, NUMBER, PARAM: NUL-terminated, in the arena */
};

/* A position in the script; copied to look ahead. */
struct sql_lexer {
    struct arena *arena;
    const char *text;
    uint32_t end; /* stops here */
    uint32_t at;
    bool skip_strings; /* strings and quoted names come without their text */
};
/* The next token; errors (unterminated string or comment) are 42601 with position. */
err_t sql_lex(struct sql_lexer *lexer, struct sql_token *out);

/* ---- scalar expressions ---------------------------------------------------------------------- */

enum sx_kind {
    SX_COL = 1, /* column col of the relation `level` scopes up (0: the input) */
    SX_LIT, /* lit; a NULL of type unknown until something decides */
    SX_PARAM, /* $n without a value yet: only while describing */
    SX_CALL, /* func over args */
    SX_AND, /* two arguments or more, three-valued, like OR */
    SX_OR,
    SX_NOT, /* one argument */
    SX_IS_NULL,
    SX_CASE, /* when1, then1, ..., else */
    SX_COALESCE, /* the first that is not NULL */
    SX_RELABEL, /* same bytes, another type of the same layout */
    SX_EXISTS,  /* subquery has rows */
    SX_SCALAR,  /* the one value of a subquery, NULL when it has no row */
    SX_AGG,     /* only between analysis of a SELECT's expressions and its grouping */
    SX_NOW,     /* mz_now() of what is maintained: see temporal.c */
    SX_WINDOW,  /* likewise; its args are columns of a window operator then: see window.c */
    SX_TABLE,   /* only in analysis: a set-returning function in a select list, see table.c */
};

/* A window function: what is not among the args. */
struct sx_window {
    struct plan_window_call call; /* its columns are unused */
    uint32_t keys_len, order_len;
    struct plan_order *order; /* order_len; col unused */
};

/*
 * An expression of type `type`. Immutable once another node refers to it; parts may be shared.
 * Which of the fields count depends on the kind; sx_same and the passes rely on the others being 0.
 */
struct sx {
    uint8_t kind;
    struct type type;
    int location; /* byte offset in the analysed text; -1: none */
    uint32_t col; /* SX_TABLE: which of the function's */
    uint32_t level;
    const struct func *func;
    struct sx **args; /* SX_AGG: arguments, expressions of its order, the filter: see agg.c */
    uint32_t args_len;
    struct datum lit;
    uint32_t size;   /* of the tree, where shared parts count every time; 0: see sx_measure */
    struct rel *sub; /* SX_EXISTS, SX_SCALAR; its expressions see this input one level up */
    struct {
        uint8_t func; /* enum agg_func */
        bool distinct;
        bool has_filter;
        struct plan_order *order; /* order_len; of the args behind the arguments; col unused */
        uint32_t order_len;
    } agg;
    struct sx_window *window; /* SX_WINDOW */
    const struct table_func *table; /* SX_TABLE */
};

/* ---- relations ------------------------------------------------------------------------------- */

enum rel_kind {
    REL_GET = 1, /* a collection or index */
    REL_CONSTANT, /* rows known now, with multiplicities diffs */
    REL_MAP,     /* input columns, then sx */
    REL_FILTER,  /* all of sx true */
    REL_PROJECT, /* columns cols of the input */
    REL_JOIN,    /* see below */
    REL_REDUCE,  /* columns: keys, then aggs. No keys: no row for an empty input */
    REL_GLOBAL,  /* analysis only: aggregation without GROUP BY, exactly one row */
    REL_DISTINCT, /* every row once whose multiplicity is positive */
    REL_THRESHOLD, /* rows of positive multiplicity, as often as they are there */
    REL_NEGATE, /* every multiplicity with the other sign */
    REL_UNION, /* the sum of the inputs: UNION ALL */
    REL_TOPK, /* per key: rows offset .. offset + limit in the order */
    REL_WINDOW, /* the input's columns, then one for each of calls */
    REL_FLAT_MAP, /* the input's columns cols, then those of set-returning functions */
    /* Of joins by lookups, once they are expanded (lookup.c). */
    REL_ARRANGE, /* by cols; only for REL_LOOKUP to look up in */
    REL_LOOKUP,  /* inputs: rows, and where they are looked up, by the rows' cols */
    REL_SET, /* analysis only: EXCEPT, INTERSECT */
    REL_VARIABLE, /* of a recursion, within its bodies */
    REL_FIXPOINT, /* a recursion: the inputs are its bodies; no columns, read by REL_LEAVE only */
    REL_LEAVE,    /* what the body of a variable gave last; its input is the fixpoint */
};

enum rel_join {
    REL_JOIN_INNER = 1, /* any number of inputs */
    REL_JOIN_LEFT, /* left rows without partner padded with NULLs */
    REL_JOIN_FULL, /* analysis only */
    REL_JOIN_SEMI, /* output: left columns */
    REL_JOIN_ANTI, /* left rows without partner; output: left columns */
};

enum rel_set { REL_EXCEPT = 1, REL_EXCEPT_ALL, REL_INTERSECT, REL_INTERSECT_ALL };

struct rel_lookups; /* lookup.c */

/*
 * A recursion; its variables are numbered like its bodies. By its address its relations belong
 * together, whatever pass has copied them.
 */
struct recursion {
    uint32_t len;
    uint64_t limit;   /* of iterations */
    bool limit_error; /* more are an error; else what the last one gave is the result */
};

/*
 * A relation: an operator over others, with the columns `types`. Immutable once another refers to
 * it; shared by address, and what is shared becomes one operator. Which fields count depends on the
 * kind, as noted.
 */
struct rel {
    uint8_t kind;
    uint8_t join; /* enum rel_join */
    uint8_t set;  /* enum rel_set */
    uint32_t cols_len;
    struct type *types;
    struct rel **inputs;
    uint32_t inputs_len;
    /*
     * MAP: new columns. FILTER: predicates. JOIN: predicates over the concatenated columns. During
     * analysis the right input of a JOIN sees its left input as one level up (LATERAL).
     */
    struct sx **sx;
    uint32_t sx_len;
    /* PROJECT: columns; REDUCE, TOPK, WINDOW: keys; FLAT_MAP: kept columns, keys_len of them */
    uint32_t *cols;
    uint32_t keys_len;
    struct plan_agg *aggs; /* REDUCE, GLOBAL: columns of the input */
    uint32_t aggs_len;
    struct plan_order *order; /* TOPK, WINDOW */
    uint32_t order_len;
    int64_t limit, offset;
    bool ties; /* TOPK: and the peers of the last; without offset */
    struct plan_window_call *calls; /* WINDOW; its partition and order are keys and order */
    uint32_t calls_len;
    struct plan_table_call *tables; /* FLAT_MAP */
    uint32_t tables_len;
    bool ordinality, outer;
    struct datum *rows; /* CONSTANT: rows_len * cols_len */
    int64_t *diffs;     /* NULL: all 1 */
    uint32_t rows_len;
    struct recursion *recursion; /* VARIABLE, FIXPOINT, LEAVE */
    uint32_t binding;            /* VARIABLE, LEAVE: which variable */
    uint64_t id; /* GET */
    bool is_index;
    bool closed; /* refers to nothing outside: walks for references need not enter */
    bool dead;   /* when closed: known to have no rows */
    const struct rel_lookups *lookups; /* JOIN, once it is physical: done by lookups; else NULL */
    bool before, later; /* LOOKUP: as in core/engine/plan.h */
    bool errors_once;   /* UNION: likewise */
    const struct sql_relation *relation; /* GET, and CONSTANT of a catalog table: for EXPLAIN */
};

/* ---- the planning context -------------------------------------------------------------------- */

/* Ids without order, each once. */
struct idset {
    uint64_t *ids;
    size_t ids_len, ids_cap;
};

/*
 * The context of planning one statement: everything analysis and lowering must know that is not in
 * the tree. On the stack of an entry point (az_init ... az_release); one thread. Fields that
 * describe what is being analysed (text, ctes, macro, dead...) are saved and set around views,
 * catalog functions and subqueries, and are as before when an analysis returns, also with an error.
 */
struct az {
    struct arena *arena;
    const struct sql_context *cx;
    const char *text; /* what locations refer to; NULL: no positions (view bodies) */
    uint32_t base;    /* of the tree's locations in text */
    struct type *param_types;
    uint32_t params_len;
    bool describe;        /* parameters may have no value */
    bool symbolic_now;    /* mz_now() is no literal: what is planned goes on for more than a time */
    bool needs_now;       /* it is one, and was asked for */
    bool maintained;      /* for a view: nothing that depends on the session or the clock */
    uint32_t depth;       /* nesting of expressions, queries and views */
    uint32_t dead;        /* inside a SELECT that is known to have no rows: see sql_dead */
    struct idset depends; /* relations named directly in the statement (not through views) */
    uint32_t view_depth;
    bool qualify;     /* write resolved names into the parse tree: normalised definitions */
    bool macro;       /* $n are the arguments of a catalog function: columns of the root scope */
    struct cte *ctes; /* visible common table expressions, innermost first */
    struct u64map relations;     /* id -> struct rel: a view or catalog table is read once */
    struct sql_script **scripts; /* texts parsed on the way: their trees are referred to */
    size_t scripts_len, scripts_cap;
};

void az_init(struct az *az, struct arena *arena, const struct sql_context *cx,
             const struct sql_stmt *stmt);
void az_release(struct az *az);

/* Levels of recursion, some 2 KiB of stack each; and what the protocol can count. */
enum { AZ_DEPTH_MAX = 400, AZ_PARAMS_MAX = 65535 };

/* A new error with SQLSTATE and the position of a location in the analysed text. */
err_t az_err(const struct az *az, int location, enum err_code code, const char *sqlstate,
             const char *format, ...) __attribute__((format(printf, 5, 6)));
err_t az_position(const struct az *az, err_t err, int location);
#define AZ_UNSUPPORTED(az, location, ...) \
    az_err((az), (location), ERR_UNSUPPORTED, "0A000", __VA_ARGS__)
/* Guards recursion: 54001. */
err_t az_enter(struct az *az);
static inline void az_leave(struct az *az)
{
    ASSERT(az->depth > 0);
    az->depth--;
}
bool idset_add(struct idset *set, uint64_t id);

/* ---- sx.c: building and walking expressions -------------------------------------------------- */

struct sx *sx_new(struct arena *arena, enum sx_kind kind, struct type type);
struct sx *sx_col(struct arena *arena, uint32_t col, struct type type);
struct sx *sx_lit(struct arena *arena, struct type type, struct datum value);
struct sx *sx_bool(struct arena *arena, bool value);
struct sx *sx_null(struct arena *arena, struct type type);
struct sx *sx_text(struct arena *arena, const char *text);
struct sx *sx_int8(struct arena *arena, int64_t value);
struct sx *sx_call(struct arena *arena, const struct func *func, struct type type, struct sx **args,
                   uint32_t args_len);
/* AND, OR, NOT, IS NULL, COALESCE with the usual simplifications of constants. */
struct sx *sx_and(struct arena *arena, struct sx *a, struct sx *b);
struct sx *sx_or(struct arena *arena, struct sx *a, struct sx *b);
struct sx *sx_not(struct arena *arena, struct sx *a);
struct sx *sx_is_null(struct arena *arena, struct sx *a);
struct sx *sx_coalesce(struct arena *arena, struct sx *a, struct sx *b);
struct sx *sx_if(struct arena *arena, struct sx *when, struct sx *then, struct sx *otherwise);
/* a = b, or the null-safe form; both of one kind. */
struct sx *sx_equal(struct arena *arena, struct sx *a, struct sx *b, bool null_safe);
/*
 * Nodes of the expression as a tree. Passes walk it as one, so it is bounded: analysis refuses more
 * than SX_SIZE_MAX, and passes that substitute stop at SX_SUBST_MAX.
 */
enum { SX_SIZE_MAX = 200000, SX_SUBST_MAX = 5000 };
uint32_t sx_measure(struct sx *sx);
/* Where the expression begins: an operator's own location is behind its left operand. */
int sx_location(const struct sx *sx);
bool sx_same(const struct sx *a, const struct sx *b);
bool sx_is_lit(const struct sx *sx);
bool sx_is_true(const struct sx *sx);
/* Literal NULL or false: a predicate that keeps nothing. */
bool sx_is_false_or_null(const struct sx *sx);
bool sx_is_op(const struct sx *sx, const char *name);
bool sx_has_subquery(const struct sx *sx);
bool sx_can_fail(const struct sx *sx);
/* Replaces nodes: fn returns the replacement, or NULL to descend. Shares what does not change.
 * Does not enter subqueries. */
typedef struct sx *(*sx_fn)(void *arg, struct sx *sx);
struct sx *sx_rewrite(struct arena *arena, struct sx *sx, sx_fn fn, void *arg);
/* Columns of level 0 become map[col] (columns, or expressions). */
struct sx *sx_remap(struct arena *arena, struct sx *sx, const uint32_t *map);
struct sx *sx_shift(struct arena *arena, struct sx *sx, int64_t delta);
struct sx *sx_subst(struct arena *arena, struct sx *sx, struct sx *const *exprs);
/* Sets used[c] for every column of level 0. */
void sx_columns(const struct sx *sx, bool *used);
/* Constant folding, bottom up; expressions that fail stay. */
struct sx *sx_fold(struct arena *arena, struct sx *sx);
/* A parameter, be it cast: a constant whose value describing does not know. */
bool sx_is_param(const struct sx *sx);
/* Splits a conjunction into out (VEC-like, arena). A list that grows in the arena. */
struct sxvec {
    struct sx **items;
    uint32_t len, cap;
};
void sxvec_push(struct arena *arena, struct sxvec *vec, struct sx *sx);
void sx_conjuncts(struct arena *arena, struct sx *sx, struct sxvec *out);

/* References that leave the rel or sx: calls fn(arg, level >= 1 relative to it, col). */
typedef void (*free_fn)(void *arg, uint32_t level, uint32_t col, struct type type);
void rel_free_refs(const struct rel *rel, free_fn fn, void *arg);
/* Rewrites every column reference of level >= 1 that leaves the rel: fn gets level as seen from
 * just inside (1: the nearest) and returns the replacement with that same convention, or NULL. */
typedef struct sx *(*outer_fn)(void *arg, struct sx *col, uint32_t level);
struct rel *rel_map_outer(struct arena *arena, struct rel *rel, outer_fn fn, void *arg);
/* The same for an expression: references of level >= 0 (0: its own input). */
struct sx *sx_map_outer(struct arena *arena, struct sx *sx, outer_fn fn, void *arg);
/* Every reference that leaves counts `by` scopes more (or fewer): the rel or sx moved there. */
struct rel *rel_shift_levels(struct arena *arena, struct rel *rel, int64_t by);
struct sx *sx_shift_levels(struct arena *arena, struct sx *sx, int64_t by);
/* Does anything in the rel refer outside? */
bool rel_is_correlated(const struct rel *rel);

/* ---- temporal.c: mz_now() -------------------------------------------------------------------- */

struct sx *az_now(struct az *az);
/* A comparison's operands, when one of them is mz_now(): both of the kind they are compared as. */
err_t az_now_operands(struct az *az, const char *name, struct sx **args);
/* Compared with char(n), varchar(n) and untyped literals are char too: their blanks at the end do
 * not count. Beside text it is the other way round: char(n) is text, without them. */
err_t az_blank_operands(struct az *az, const char *name, struct sx **args);
/* mz_now(), or such a literal, as bigint or a timestamp. */
struct sx *sx_now_as(struct arena *arena, const struct sx *sx, enum type_kind kind);
bool sx_has_now(const struct sx *sx);
/* Is the condition a bound of a temporal filter? *cmp: enum plan_temporal_cmp. */
bool sx_temporal(const struct sx *sx, uint8_t *cmp, struct sx **bound);
/* 0A000: it stands where the engine cannot maintain it. */
err_t sx_now_refused(void);

/* ---- rel.c: building relations --------------------------------------------------------------- */

struct rel *rel_new(struct arena *arena, enum rel_kind kind, uint32_t cols_len);
/* One row without columns. */
struct rel *rel_unit(struct arena *arena);
struct rel *rel_empty(struct arena *arena, const struct type *types, uint32_t cols_len);
struct rel *rel_map(struct arena *arena, struct rel *in, struct sx **sx, uint32_t sx_len);
struct rel *rel_filter(struct arena *arena, struct rel *in, struct sx **sx, uint32_t sx_len);
struct rel *rel_filter1(struct arena *arena, struct rel *in, struct sx *sx);
struct rel *rel_project(struct arena *arena, struct rel *in, const uint32_t *cols, uint32_t len);
/* The first `len` columns. */
struct rel *rel_prefix(struct arena *arena, struct rel *in, uint32_t len);
struct rel *rel_join2(struct arena *arena, enum rel_join join, struct rel *left, struct rel *right,
                      struct sx **preds, uint32_t preds_len);
struct rel *rel_union2(struct arena *arena, struct rel *a, struct rel *b);
struct rel *rel_negate(struct arena *arena, struct rel *in);
struct rel *rel_threshold(struct arena *arena, struct rel *in);
struct rel *rel_distinct(struct arena *arena, struct rel *in);
struct rel *rel_reduce(struct arena *arena, struct rel *in, const uint32_t *keys, uint32_t keys_len,
                       const struct plan_agg *aggs, uint32_t aggs_len);
struct rel *rel_topk(struct arena *arena, struct rel *in, const uint32_t *keys, uint32_t keys_len,
                     const struct plan_order *order, uint32_t order_len, int64_t limit,
                     int64_t offset);
struct rel *rel_window(struct arena *arena, struct rel *in, const uint32_t *keys, uint32_t keys_len,
                       const struct plan_order *order, uint32_t order_len,
                       const struct plan_window_call *calls, uint32_t calls_len);
/* The aggregate over columns map[col] (NULL: col + shift), for a relation that has them there. */
struct plan_agg agg_remap(struct arena *arena, const struct plan_agg *agg, const uint32_t *map,
                          uint32_t shift);
struct plan_window_call call_remap(const struct plan_window_call *call, const uint32_t *map,
                                   uint32_t shift);
/* kept: columns of the input; types: of the functions' columns. Ordinality and outer: off. */
struct rel *rel_flat_map(struct arena *arena, struct rel *in, const uint32_t *kept,
                         uint32_t kept_len, const struct plan_table_call *tables,
                         uint32_t tables_len, const struct type *types);
/* With a last column that counts an input row's rows; with a row of NULLs for one that has none. */
struct rel *rel_flat_map_ordinality(struct arena *arena, const struct rel *flat);
struct rel *rel_flat_map_outer(struct arena *arena, const struct rel *flat);
/* The functions over columns map[col] (NULL: col + shift). */
struct plan_table_call *tables_remap(struct arena *arena, const struct plan_table_call *tables,
                                     uint32_t len, const uint32_t *map, uint32_t shift);
/* A variable of a recursion; its columns may be NULL, whatever the bodies say. */
struct rel *rel_variable(struct arena *arena, struct recursion *recursion, uint32_t binding,
                         const struct type *types, uint32_t cols_len);
struct rel *rel_fixpoint(struct arena *arena, struct recursion *recursion, struct rel **bodies);
struct rel *rel_leave(struct arena *arena, struct rel *fixpoint, const struct rel *variable);
/* A copy to be changed before anyone else sees it. */
struct rel *rel_copy(struct arena *arena, const struct rel *rel);
/* Marks a relation that is shared by many (a view, a common table expression) when nothing in it
 * refers outside, so that walks do not multiply. */
void rel_close(struct rel *rel);
bool rel_is_empty(const struct rel *rel);
bool rel_is_unit(const struct rel *rel);

/* ---- typing.c: PostgreSQL's type rules ------------------------------------------------------- */

/* atoi of a type in messages: "integer", "unknown". */
const char *az_type_name(const struct az *az, const struct type *type);
bool type_is_unknown(const struct sx *sx);
/* Can a value of sx be used where `to` is wanted, by the rules of the context? */
bool az_can_coerce(const struct sx *sx, struct type to, enum cast_context context);
/* Converts; 42804/42846/22P02... context CAST_EXPLICIT: written by the user. */
err_t az_coerce(struct az *az, struct sx *sx, struct type to, enum cast_context context,
                struct sx **out);
/* Result columns, grouping keys and the like: unknown literals become text. */
err_t az_settle(struct az *az, struct sx *sx, struct sx **out);
err_t az_to_bool(struct az *az, struct sx *sx, const char *what, struct sx **out);
/* UNION, CASE, COALESCE...: the common type; `what` for messages ("CASE", "UNION"). */
err_t az_common_type(struct az *az, struct sx *const *items, uint32_t len, const char *what,
                     struct type *out);
err_t az_operator(struct az *az, const char *name, struct sx *left, struct sx *right, int location,
                  struct sx **out); /* left NULL: prefix */
err_t az_function(struct az *az, const char *name, struct sx **args, uint32_t args_len,
                  int location, struct sx **out);
/* A set-returning function: its arguments converted, the types of its columns. *func NULL: no such
 * name. unnest has one argument. */
err_t az_table_function(struct az *az, const char *name, struct sx **args, uint32_t args_len,
                        int location, const struct table_func **func, struct type *types);
bool az_is_table_function(const char *name);
err_t az_aggregate(struct az *az, enum agg_func func, struct sx *arg, int location,
                   struct type *out);
/* 42883 */
err_t az_no_function(struct az *az, const char *name, struct sx *const *args, uint32_t len,
                     int location);
bool agg_of_name(const char *name, enum agg_func *out);
/* A TypeName of the parse tree. */
err_t az_type(struct az *az, const PgQuery__TypeName *name, struct type *out);

/* ---- analysis -------------------------------------------------------------------------------- */

/* A column as names see it. */
struct nscol {
    const char *name;
    struct type type;
    uint32_t at; /* column of the FROM relation */
};

/* A name in FROM and its columns. */
struct nsitem {
    const char *schema; /* of relations without an alias */
    const char *alias;  /* NULL: an unnamed join */
    const char *name;   /* of the relation behind the alias; may be NULL */
    struct nscol *cols;
    uint32_t cols_len;
    bool cols_visible; /* unqualified and in * */
    bool rel_visible;  /* alias.column */
    bool is_value;     /* a function that gives values: its alias stands for the one column */
};

/*
 * What names in an expression may mean: the FROM of its query, then of those around. Lives on the
 * stack of whoever analyses the query; temporary ones stand for the left side of a join.
 */
struct scope {
    struct scope *parent;
    uint32_t hide; /* so many scopes above are LATERAL ones this one may not see */
    struct nsitem **items;
    size_t items_len, items_cap;
    const char *no_aggs; /* aggregates are not allowed here: "WHERE"; NULL: they are */
    uint32_t aggs_seen;
    bool has_windows;       /* window functions are allowed at all */
    bool has_tables;        /* set-returning functions likewise */
    bool in_window;         /* their arguments are being analysed */
    const char *no_windows; /* they are not allowed here: "HAVING" */
    pg_node **windows;      /* WINDOW's definitions */
    size_t windows_len;
};

/* A common table expression while its query is analysed; a stack in az->ctes. */
struct cte {
    struct cte *next;
    const char *name;
    struct rel *rel;
    const char **names;
    struct scope *scope; /* what its query's parent was: its outer references count from there */
};

/*
 * A query analysed. Its columns are targets over rel: the visible ones, then hidden ones that
 * ORDER BY needs; az_query_finish maps them (then targets is NULL and rel has the columns). Until
 * then untyped literals among them may still take the type of where they go.
 */
struct query {
    struct rel *rel;
    struct sx **targets;
    uint32_t targets_len; /* with the hidden ones */
    uint32_t cols_len;    /* visible */
    const char **names;
    struct plan_order *order;
    uint32_t order_len;
    int64_t limit; /* -1: none */
    int64_t offset;
    bool ties; /* the limit keeps the peers of its last row; false once finished */
};
/* want: types of the visible columns to convert to (assignment), or NULL: their own. */
err_t az_query_finish(struct az *az, struct query *query, const struct type *want);
/* The query as a relation of its visible columns, with its LIMIT. Finished. */
struct rel *az_query_rel(struct az *az, const struct query *query);

err_t az_expr(struct az *az, struct scope *scope, const pg_node *node, struct sx **out);
/* A query expression; parent: what it may refer to outside. */
err_t az_query(struct az *az, const pg_node *node, struct scope *parent, uint32_t hide,
               struct query *out);
err_t az_select(struct az *az, PgQuery__SelectStmt *stmt, struct scope *parent, uint32_t hide,
                struct query *out);
/* Is this relation known to have no rows? */
bool az_is_dead(const struct rel *rel);
/* The FROM list: its items go to the scope, *out has their columns. */
err_t az_from(struct az *az, struct scope *scope, pg_node **items, size_t len, struct rel **out);
err_t az_with(struct az *az, const PgQuery__WithClause *with, struct scope *parent, uint32_t hide);
/* The same for WITH RECURSIVE and WITH MUTUALLY RECURSIVE: recursion.c. */
err_t az_with_recursive(struct az *az, const PgQuery__WithClause *with, struct scope *parent,
                        uint32_t hide);
/* A query of WITH as a relation that later ones can name; az_add_cte makes it visible. */
err_t az_cte_query(struct az *az, const PgQuery__CommonTableExpr *def, struct scope *parent,
                   uint32_t hide, struct cte **out);
void az_add_cte(struct az *az, struct cte *cte);
/* 42P10: more names in parentheses than columns. */
err_t az_cte_names(struct az *az, const PgQuery__CommonTableExpr *def, struct cte *cte);
/* More would take the coordinator's thread too long: each name is looked up among all. */
enum { WITH_ITEMS_MAX = 1000 };
/* 42712: two queries of one name. 54001: too many queries. */
err_t az_cte_twice(struct az *az, const PgQuery__WithClause *with, size_t i);
err_t az_relation(struct az *az, const char *database, const char *schema, const char *name,
                  int location, const struct sql_relation **out);
/* The relation as a rel: an index, a source, a view's body or constant rows. */
err_t az_relation_rel(struct az *az, const struct sql_relation *relation, struct rel **out);
struct nsitem *az_nsitem(struct az *az, const char *schema, const char *alias,
                         const struct schema *columns);
err_t az_column(struct az *az, struct scope *scope, const char *schema, const char *table,
                const char *name, int location, struct sx **out);
/* 42P01: the table is not in FROM, or is hidden there. */
err_t az_no_table(struct az *az, const struct scope *scope, const char *table, int location);
err_t az_func_call(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                   struct sx **out);
/* An aggregate; *out NULL when the name is none. */
err_t az_agg_call(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                  const char *name, struct sx **out);
/* A window function that is no aggregate; *out NULL when the name is none. */
err_t az_window_call(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                     const char *name, struct sx **out);
/* May an aggregate with OVER stand here? Then, agg as it is without OVER becomes one with it. */
err_t az_window_agg_place(struct az *az, const struct scope *scope, const PgQuery__FuncCall *call);
err_t az_window_agg(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                    struct sx *agg, struct sx **out);
/* Window operators over *rel for the window functions of the targets, which become its columns. */
void az_windows(struct az *az, struct sxvec *targets, struct rel **rel);
/* A set-returning function in an expression; field: of (f(x)).field, or NULL. */
err_t az_table_call(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                    const char *name, const char *field, struct sx **out);
/* (f(x)).field: of set-returning functions only. */
err_t az_func_field(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                    const char *field, struct sx **out);
/* Flat maps over *rel for the set-returning functions of the targets, which become its columns. */
err_t az_tables(struct az *az, struct sxvec *targets, struct rel **rel);
/* Those of the groups alone, wherever they stand in targets and *having (which may be NULL). */
err_t az_group_tables(struct az *az, struct sxvec *groups, struct sxvec *targets,
                      struct sx **having, struct rel **rel);
/* A function in FROM. */
struct table_item {
    struct rel *rel;
    const char **names; /* of its columns */
    const char *name;   /* of the first function */
};
err_t az_range_function(struct az *az, struct scope *scope, const PgQuery__RangeFunction *range,
                        struct table_item *out);
/* A column for the expression: itself when it is one, else one more map. */
uint32_t az_column_for(struct az *az, const struct rel *rel, struct sxvec *maps, struct sx *sx);
/* ASC, DESC, NULLS FIRST, NULLS LAST. */
err_t az_sort_flags(struct az *az, const PgQuery__SortBy *by, struct plan_order *out);
/* 0A000 for what has no order in the engine. */
err_t az_check_sortable(struct az *az, const struct sx *sx);
/* 0A000: what the engine chooses or numbers rows by. It orders jsonb by the text, not the value. */
err_t az_check_kept_order(struct az *az, const struct type *type, int location);
err_t az_sublink(struct az *az, struct scope *scope, const PgQuery__SubLink *link, struct sx **out);
err_t az_refuse_if(struct az *az, struct sx *condition, const char *what, struct sx **out);
err_t az_limit(struct az *az, const pg_node *node, const char *what, int64_t *out);
/* Session functions, catalog functions and macros: *out NULL when the name is none of them. */
err_t az_catalog_function(struct az *az, struct scope *scope, const char *schema, const char *name,
                          struct sx **args, uint32_t args_len, int location, struct sx **out);
/* Parses and analyses an expression over the macro's arguments $1.. */
err_t az_macro(struct az *az, const char *body, struct sx **args, uint32_t args_len,
               struct sx **out);
err_t az_reg_literal(struct az *az, const char *text, uint32_t oid, int location,
                     struct datum *out);
/* VALUES; want: column types to convert to (assignment), or NULL: common types. */
err_t az_values(struct az *az, struct scope *scope, pg_node **lists, size_t len,
                const struct type *want, uint32_t want_len, struct rel **out);
/* len rows of cols typed expressions: a constant when all of them are. */
err_t az_cells(struct az *az, struct sx **cells, size_t len, uint32_t cols, struct rel **out);
/* A select list (of RETURNING). */
err_t az_targets(struct az *az, struct scope *scope, pg_node **list, size_t len, struct sxvec *out,
                 const char ***names);
/* Grouping sets: which of the groups (bit i: groups[i]) each has. len 0: one set, of all. */
enum { GROUP_SETS_GROUPS_MAX = 64, GROUP_SETS_MAX = 4096 };
struct group_sets {
    uint64_t *masks;
    uint32_t len;
};
/* agg.func of GROUPING (...), which is an aggregate to the analysis: constant within a set. */
enum { AGG_GROUPING = 0 };
/* Aggregation: rewrites the targets and HAVING to columns of an aggregated *rel. */
err_t az_group(struct az *az, struct scope *scope, struct sxvec *groups, bool grouped,
               const struct group_sets *sets, struct sxvec *targets, struct sx **having,
               struct rel **rel);
/* Array literals '{a,"b"}' -> items (NULL pointers for NULL). */
err_t az_array_items(struct az *az, const char *text, int location, const char ***items,
                     uint32_t *len);

const char *pg_string(const pg_node *node); /* String node's text or NULL */
int pg_location(const pg_node *node);
/* The last of a list of String nodes; schema (may be NULL) gets the one before. */
const char *pg_name(pg_node *const *list, size_t len, const char **schema);

/* ---- lowering, optimisation, emission -------------------------------------------------------- */

/* Decorrelates; the result has the columns of rel. */
err_t rel_lower(struct az *az, struct rel *rel, struct rel **out);
/* Predicate pushdown, folding, join flattening, projection pushdown. */
struct rel *rel_optimize(struct arena *arena, struct rel *rel);
struct rel *rel_push_filters(struct arena *arena, struct rel *rel);
struct rel *rel_physical(struct arena *arena, struct rel *rel);
/* What a join by lookups keeps: rows (of the guesses) to be arranged; inputs read from indexes. */
struct lookup_cost {
    double rows;
    uint32_t indexed;
};
/*
 * The inner join of inputs (with guesses of their rows) on predicates over all their columns, by
 * lookups; its columns are the inputs'. NULL: equalities of columns do not connect all inputs.
 */
struct rel *rel_lookup_join(struct arena *arena, struct rel *const *inputs, const double *rows,
                            uint32_t n, struct sx *const *preds, uint32_t preds_len,
                            struct lookup_cost *cost);
/* Is an input of such a join read from indexes, and so all of its columns? */
bool rel_reads_index(const struct rel *join, uint32_t input);
struct rel *rel_expand_lookups(struct arena *arena, struct rel *rel);
/* Joins within recursions as inner ones. */
struct rel *rel_recursive_joins(struct arena *arena, struct rel *rel);
struct rel *rel_prune(struct arena *arena, struct rel *rel);
/* Asserts what holds of lowered relations, between the passes. */
void rel_check(struct arena *arena, const struct rel *rel);
void sx_check(const struct sx *sx, const struct type *types, uint32_t cols);
/*
 * Appends the nodes of rel to the plan; *node is the root's. Collects what is read. What a plan
 * reads, for holds and timestamps.
 */
struct emit_reads {
    struct idset collections;
    struct idset indexes;
};
err_t rel_emit(struct arena *scratch, struct rel *rel, struct plan *plan, uint32_t *node,
               struct emit_reads *reads);
/* One expression in the form of plans; 0A000 when it is too large. */
err_t sx_emit(struct arena *arena, const struct sx *sx, struct expr *out);

/* ---- rel_print.c ----------------------------------------------------------------------------- */

/* The tree of a relation that was lowered, a line each. */
void rel_print(struct arena *arena, const struct rel *rel, struct buf *out);
/* A chain of MAP, FILTER, PROJECT over *base as one mfp. */
err_t rel_mfp(struct arena *scratch, struct arena *arena, struct rel *rel, struct rel **base,
              struct mfp *out);

/* ---- query.c: from statements to struct sql_query -------------------------------------------- */

/* Fills kind, plan, peek or constant of out from an analysed relation. */
err_t query_plan(struct az *az, struct rel *rel, bool subscribe, bool snapshot,
                 struct sql_query *out);
/* The rows of a relation that depends on nothing, when there are at most `most`; *out NULL: it is
 * not such a one. */
err_t query_constant_rows(struct arena *arena, struct rel *rel, uint32_t most, struct rel **out);
/* The query of a statement analysed and finished; kinds that are queries only. */
err_t query_analyse(struct az *az, const struct sql_stmt *stmt, struct query *out);
/* RETURNING's columns, and the types of a writing statement's parameters. */
err_t write_describe(struct az *az, const struct sql_stmt *stmt, struct schema *columns);
/* A copy of names and types for the caller, in its arena. */
struct schema schema_copy(struct arena *arena, const char *const *names, const struct type *types,
                          uint32_t cols);
/* The SELECT a SHOW statement stands for; 42P01 for SHOW COLUMNS FROM what is not there. */
err_t sql_show_text(struct az *az, const struct sql_stmt *stmt, const char **out);
/* The value of a boolean option as PostgreSQL spells them; NULL (only the name was given) is true.
 * False when the text is none. */
bool sql_bool_of_text(const char *text, bool *out);
/* SQL text of a parse tree, its names as they stand there now. */
err_t sql_deparse(struct arena *arena, pg_node *node, const char **out);

#endif
