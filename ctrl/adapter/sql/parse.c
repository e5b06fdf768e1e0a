/*
 * Scripts: splitting into statements, AS OF at a query's end, and the call into libpg_query with
 * the guards it needs.
 *
 *   text --next_slice--> [start, end) of each statement, by its semicolons
 *        --parse_slice--> AS OF cut off; our own grammar (own.c) or libpg_query (parse_pg.c)
 *        --count_params--> the highest $n, which the protocol must know before anything is planned
 *
 * Text is copied once and never changed: statements are ranges of it, and positions are counted
 * from its beginning, in characters, because that is what clients show. It comes from whoever can
 * connect: UTF-8 is checked first, length and nesting are bounded before libpg_query sees it. Its C
 * code keeps per-thread memory only, so parsing may run on any thread.
 *
 * Entry points: sql_parse; inside the module sql_parse_slice, sql_parse_pg, sql_parse_text,
 * sql_parse_tail.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "core/base/utf8.h"

#include <pg_query.h>

enum {
    SCRIPT_BYTES_MAX = 256 << 20,
    NESTING_MAX = 1000,
    PAREN_MAX = 1000,
    STATEMENTS_DEEP_MAX = 4, /* COPY (SUBSCRIBE ...), EXPLAIN CREATE ... AS SELECT */
};

/* Clients count characters from 1. */
err_t sql_position(err_t err, const char *text, uint32_t at)
{
    ASSERT(err != ERR_OK);
    return err_position(err, (int)utf8_chars(text, at) + 1);
}

/* ---- libpg_query ----------------------------------------------------------------------------- */

/* protobuf-c builds the tree right in the script's arena. */
static void *tree_alloc(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void tree_free(void *arena, void *pointer)
{
    /* The whole tree goes with the script's arena. */
    (void)arena;
    (void)pointer;
}

/*
 * libpg_query walks its tree recursively without a bound, so a deep one would overflow the stack.
 * What can nest is counted before: open parentheses and, within each, operators and keywords that
 * chain (a comma, AND or OR ends a chain: those make lists).
 */
struct nesting {
    uint32_t chain[PAREN_MAX + 1];
    uint32_t depth;
    uint32_t total;
};

/* False when the bound is passed. */
static bool nesting_token(struct nesting *n, const struct sql_token *t)
{
    ASSERT(n->depth <= PAREN_MAX);
    if (t->kind == SQL_TOKEN_PUNCT && (t->punct == '(' || t->punct == '[')) {
        if (n->depth == PAREN_MAX) {
            return false;
        }
        n->chain[++n->depth] = 1;
        n->total++;
    } else if (t->kind == SQL_TOKEN_PUNCT && (t->punct == ')' || t->punct == ']')) {
        if (n->depth > 0) {
            n->total -= n->chain[n->depth--];
        }
    } else if ((t->kind == SQL_TOKEN_PUNCT && t->punct == ',') ||
               (t->kind == SQL_TOKEN_IDENT && !t->quoted &&
                (strcmp(t->text, "and") == 0 || strcmp(t->text, "or") == 0))) {
        n->total -= n->chain[n->depth];
        n->chain[n->depth] = 0;
    } else if (t->kind == SQL_TOKEN_PUNCT
                   ? t->punct != '.'
                   : t->kind == SQL_TOKEN_IDENT && !t->quoted &&
                         (strcmp(t->text, "not") == 0 || strcmp(t->text, "case") == 0 ||
                          strcmp(t->text, "is") == 0 || strcmp(t->text, "like") == 0 ||
                          strcmp(t->text, "collate") == 0 || strcmp(t->text, "at") == 0 ||
                          strcmp(t->text, "join") == 0 || strcmp(t->text, "union") == 0 ||
                          strcmp(t->text, "except") == 0 || strcmp(t->text, "intersect") == 0)) {
        n->chain[n->depth]++;
        n->total++;
    }
    return n->total <= NESTING_MAX;
}

/*
 * 54001 for what would be too deep for libpg_query. A few levels too strict is fine; too lax is a
 * crash.
 */
static err_t check_nesting(struct sql_script *script, const char *text, uint32_t len)
{
    /* 4 KiB: on the heap, as this runs inside recursion. */
    struct nesting *n = ARENA_NEW(&script->arena, struct nesting);
    struct sql_lexer lexer = {
        .arena = &script->arena, .text = text, .end = len, .skip_strings = true};
    struct sql_token t;
    do {
        err_t err = sql_lex(&lexer, &t);
        if (err != ERR_OK) {
            /* libpg_query will say the same with its own words and position. */
            err_free(err);
            return ERR_OK;
        }
        if (!nesting_token(n, &t)) {
            return err_hint(err_sql(ERR_LIMIT, "54001", "statement is too deeply nested"),
                            "At most %d levels of operators and parentheses.", NESTING_MAX);
        }
    } while (t.kind != SQL_TOKEN_END);
    return ERR_OK;
}

/* libpg_query counts positions in characters of its own text, so the characters before base are
 * added. */
static err_t parse_tree(struct sql_script *script, const char *text, uint32_t base, pg_node **out)
{
    PgQueryProtobufParseResult result = pg_query_parse_protobuf(text);
    if (result.error != NULL) {
        err_t err = err_sql(ERR_INVALID, "42601", "%s", result.error->message);
        if (result.error->cursorpos > 0) {
            size_t before = utf8_chars(script->text, base);
            err = err_position(err, (int)before + result.error->cursorpos);
        }
        pg_query_free_protobuf_parse_result(result);
        return err;
    }
    ProtobufCAllocator allocator = {
        .alloc = tree_alloc, .free = tree_free, .allocator_data = &script->arena};
    PgQuery__ParseResult *tree = pg_query__parse_result__unpack(
        &allocator, result.parse_tree.len, (const uint8_t *)result.parse_tree.data);
    pg_query_free_protobuf_parse_result(result);
    if (tree == NULL) {
        return err_new(ERR_INTERNAL, "the parse tree cannot be decoded");
    }
    if (tree->n_stmts != 1 || tree->stmts[0]->stmt == NULL) {
        return err_sql(ERR_INVALID, "42601", "exactly one statement is expected");
    }
    *out = tree->stmts[0]->stmt;
    return ERR_OK;
}

/* The only statement of text; base: offset in the script of text's first byte, for positions. */
err_t sql_parse_text(struct sql_script *script, const char *text, uint32_t len, uint32_t base,
                     pg_node **out)
{
    ASSERT(len == strlen(text) && base <= script->text_len);
    TRY(check_nesting(script, text, len));
    return sql_parse_mutual(script, text, len, base, parse_tree, out);
}

/* libpg_query wants a NUL behind the text, which a piece of the script has not. */
err_t sql_parse_pg(struct sql_script *script, uint32_t start, uint32_t end, pg_node **out)
{
    ASSERT(start <= end && end <= script->text_len);
    ASSERT(script->text[script->text_len] == '\0');
    char *text = arena_strndup(&script->arena, script->text + start, end - start);
    return sql_parse_text(script, text, end - start, start, out);
}

/* ---- AS OF and UP TO ------------------------------------------------------------------------- */

/* An expression at the end of a query or one of our statements: parsed as the target of a
 * SELECT. */
static err_t parse_expr(struct sql_script *script, uint32_t start, uint32_t end, pg_node **out,
                        uint32_t *base)
{
    static const char prefix[] = "SELECT ";
    /* At least "()as of" stands before, which is as long as the prefix. */
    ASSERT(start >= sizeof(prefix) - 1 && start <= end);
    char *text =
        arena_printf(&script->arena, "%s%.*s", prefix, (int)(end - start), script->text + start);
    pg_node *node = NULL;
    *base = start - (uint32_t)(sizeof(prefix) - 1);
    TRY(sql_parse_text(script, text, (uint32_t)strlen(text), *base, &node));
    PgQuery__SelectStmt *select = node->select_stmt;
    if (node->node_case != PG_QUERY__NODE__NODE_SELECT_STMT || select->n_target_list != 1 ||
        select->n_from_clause != 0 || select->where_clause != NULL) {
        return sql_position(err_sql(ERR_INVALID, "42601", "a single value is expected"),
                            script->text, start);
    }
    *out = select->target_list[0]->res_target->val;
    return ERR_OK;
}

/* A bare word; in quotes it is a name. */
static bool token_is(const struct sql_token *t, const char *word)
{
    return t->kind == SQL_TOKEN_IDENT && !t->quoted && strcmp(t->text, word) == 0;
}

/* Can this token begin the time of AS OF? Nothing else can follow an alias called "of". */
static bool starts_value(const struct sql_token *t)
{
    return t->kind == SQL_TOKEN_NUMBER || t->kind == SQL_TOKEN_STRING ||
           t->kind == SQL_TOKEN_PARAM || token_is(t, "timestamp") || token_is(t, "mz_now") ||
           token_is(t, "now") || token_is(t, "cast");
}

/* Byte offsets of AS and of the value behind AS OF, and of UP TO alike; 0: not there. */
struct tail {
    uint32_t as_of, as_of_value; /* 0: none */
    uint32_t up_to, up_to_value;
};

/*
 * Looks for AS OF value and UP TO value outside of parentheses, three tokens at a time. "of" may be
 * an alias (SELECT a AS of FROM t), but no value can follow an alias, which tells the two apart.
 */
static err_t find_tail(struct sql_script *script, uint32_t start, uint32_t end, struct tail *tail)
{
    ASSERT(start <= end && end <= script->text_len);
    struct sql_lexer lexer = {.arena = &script->arena,
                              .text = script->text,
                              .end = end,
                              .at = start,
                              .skip_strings = true};
    struct sql_token t[3] = {{0}};
    int depth = 0;
    TRY(sql_lex(&lexer, &t[1]));
    TRY(sql_lex(&lexer, &t[2]));
    while (t[1].kind != SQL_TOKEN_END) {
        t[0] = t[1];
        t[1] = t[2];
        TRY(sql_lex(&lexer, &t[2]));
        if (t[0].kind == SQL_TOKEN_PUNCT) {
            depth += t[0].punct == '(' ? 1 : 0;
            depth -= t[0].punct == ')' ? 1 : 0;
        }
        if (depth != 0 || !starts_value(&t[2])) {
            continue;
        }
        if (token_is(&t[0], "as") && token_is(&t[1], "of") && tail->as_of == 0) {
            tail->as_of = t[0].start;
            tail->as_of_value = t[2].start;
        } else if (token_is(&t[0], "up") && token_is(&t[1], "to") && tail->up_to == 0) {
            tail->up_to = t[0].start;
            tail->up_to_value = t[2].start;
        }
    }
    return ERR_OK;
}

/*
 * Cuts AS OF t [UP TO t] off the end of a query, in either order; *end becomes the query's own end.
 */
static err_t parse_tail(struct sql_script *script, struct sql_ast *ast, uint32_t start,
                        uint32_t *end)
{
    ASSERT(start <= *end);
    struct tail tail = {0};
    TRY(find_tail(script, start, *end, &tail));
    uint32_t whole = *end;
    if (tail.up_to != 0) {
        uint32_t to = tail.as_of > tail.up_to ? tail.as_of : whole;
        TRY(parse_expr(script, tail.up_to_value, to, &ast->up_to, &ast->up_to_base));
        *end = tail.up_to;
    }
    if (tail.as_of != 0) {
        uint32_t to = tail.up_to > tail.as_of ? tail.up_to : whole;
        TRY(parse_expr(script, tail.as_of_value, to, &ast->as_of, &ast->as_of_base));
        *end = tail.as_of < *end ? tail.as_of : *end;
    }
    return ERR_OK;
}

/* ---- statements ------------------------------------------------------------------------------ */

/* First and last byte of what is neither white space nor comment; *first is the first token. */
static err_t trim(struct sql_script *script, uint32_t *start, uint32_t *end, bool *empty,
                  struct sql_token *first)
{
    ASSERT(*start <= *end);
    struct sql_lexer lexer = {.arena = &script->arena,
                              .text = script->text,
                              .end = *end,
                              .at = *start,
                              .skip_strings = true};
    struct sql_token t;
    TRY(sql_lex(&lexer, &t));
    *first = t;
    *empty = t.kind == SQL_TOKEN_END;
    *start = t.start;
    while (t.kind != SQL_TOKEN_END) {
        *end = t.end;
        TRY(sql_lex(&lexer, &t));
    }
    return ERR_OK;
}

/* Those may end in AS OF; and none of our own statements begins so. */
static bool starts_query(const struct sql_token *t)
{
    return token_is(t, "select") || token_is(t, "with") || token_is(t, "values") ||
           token_is(t, "table") || (t->kind == SQL_TOKEN_PUNCT && t->punct == '(');
}

/* One statement of text [start, end), without its semicolon. */
static err_t parse_slice(struct sql_script *script, uint32_t start, uint32_t end,
                         struct sql_stmt **out)
{
    ASSERT(start <= end && end <= script->text_len);
    struct sql_stmt *stmt = ARENA_NEW(&script->arena, struct sql_stmt);
    stmt->script = script;
    stmt->ast = ARENA_NEW(&script->arena, struct sql_ast);
    stmt->name.location = -1;
    *out = stmt;
    bool empty = false, own = false;
    struct sql_token first;
    TRY(trim(script, &start, &end, &empty, &first));
    stmt->start = start;
    stmt->end = end;
    stmt->ast->base = start;
    if (empty) {
        stmt->kind = SQL_EMPTY;
        stmt->tag = "";
        return ERR_OK;
    }
    uint32_t body = end;
    if (starts_query(&first)) {
        TRY(parse_tail(script, stmt->ast, start, &body));
    } else {
        TRY(sql_parse_own(script, stmt, &own));
        if (own) {
            return ERR_OK;
        }
    }
    TRY(sql_parse_pg(script, start, body, &stmt->ast->node));
    return sql_stmt_of_pg(script, stmt);
}

/* EXPLAIN PHYSICAL PLAN FOR ...: our own grammar recurses here only. */
err_t sql_parse_slice(struct sql_script *script, uint32_t start, uint32_t end,
                      struct sql_stmt **out)
{
    if (script->depth == STATEMENTS_DEEP_MAX) {
        return sql_position(err_sql(ERR_LIMIT, "54001", "statement is too deeply nested"),
                            script->text, start);
    }
    script->depth++;
    err_t err = parse_slice(script, start, end, out);
    ASSERT(script->depth > 0);
    script->depth--;
    return err;
}

err_t sql_parse_tail(struct sql_script *script, struct sql_ast *ast, uint32_t start, uint32_t *end)
{
    return parse_tail(script, ast, start, end);
}

/* By tokens, as the statement's parts were parsed apart. Inner statements share the numbering. */
static err_t count_params(struct sql_script *script, struct sql_stmt *stmt)
{
    ASSERT(stmt->start <= stmt->end);
    struct sql_lexer lexer = {.arena = &script->arena,
                              .text = script->text,
                              .end = stmt->end,
                              .at = stmt->start,
                              .skip_strings = true};
    struct sql_token t;
    do {
        TRY(sql_lex(&lexer, &t));
        if (t.kind == SQL_TOKEN_PARAM) {
            unsigned long n = strtoul(t.text, NULL, 10);
            if (n == 0 || n > AZ_PARAMS_MAX) {
                return sql_position(
                    err_sql(ERR_INVALID, "42P02", "there is no parameter $%s", t.text),
                    script->text, t.start);
            }
            stmt->params_len = n > stmt->params_len ? (uint32_t)n : stmt->params_len;
        }
    } while (t.kind != SQL_TOKEN_END);
    for (struct sql_stmt *inner = stmt->inner; inner != NULL; inner = inner->inner) {
        inner->params_len = stmt->params_len;
    }
    return ERR_OK;
}

/* From *at to the next semicolon outside of parentheses (CREATE RULE has some inside). */
static err_t next_slice(struct sql_script *script, uint32_t *at, uint32_t *start, uint32_t *end,
                        bool *empty)
{
    ASSERT(*at < script->text_len);
    struct sql_lexer lexer = {.arena = &script->arena,
                              .text = script->text,
                              .end = script->text_len,
                              .at = *at,
                              .skip_strings = true};
    struct sql_token t;
    int depth = 0;
    *start = *at;
    *empty = true;
    while (true) {
        TRY(sql_lex(&lexer, &t));
        if (t.kind == SQL_TOKEN_PUNCT) {
            depth += t.punct == '(' ? 1 : 0;
            depth -= t.punct == ')' && depth > 0 ? 1 : 0;
            if (t.punct == ';' && depth == 0) {
                break;
            }
        }
        if (t.kind == SQL_TOKEN_END) {
            break;
        }
        *empty = false;
    }
    *end = t.start;
    *at = t.end;
    return ERR_OK;
}

/* Grows while parsing; goes to the arena when complete. */
struct stmt_list {
    struct sql_stmt **stmts;
    size_t stmts_len, stmts_cap;
};

/* The first error refuses the whole script: nothing of it has run. */
static err_t parse_all(struct sql_script *script, struct stmt_list *list)
{
    ASSERT(list->stmts_len == 0);
    uint32_t at = 0;
    while (at < script->text_len) {
        uint32_t start, end;
        bool empty;
        TRY(next_slice(script, &at, &start, &end, &empty));
        if (empty) {
            continue;
        }
        struct sql_stmt *stmt = NULL;
        TRY(sql_parse_slice(script, start, end, &stmt));
        TRY(count_params(script, stmt));
        *VEC_PUSH(list, stmts) = stmt;
    }
    return ERR_OK;
}

/* See sql.h. The script owns everything, or nothing is left. */
err_t sql_parse(const char *text, size_t len, struct sql_script **out)
{
    ASSERT(text != NULL || len == 0);
    *out = NULL;
    if (len > SCRIPT_BYTES_MAX) {
        return err_sql(ERR_LIMIT, "54000", "statement of %zu bytes is too long", len);
    }
    if (memchr(text, 0, len) != NULL || !utf8_valid(text, len)) {
        return err_sql(ERR_INVALID, "22021", "invalid byte sequence for encoding \"UTF8\"");
    }
    struct sql_script *script = MEM_NEW(struct sql_script);
    script->text = arena_strndup(&script->arena, text, len);
    script->text_len = (uint32_t)len;
    struct stmt_list list = {0};
    err_t err = parse_all(script, &list);
    if (err == ERR_OK && list.stmts_len > 0) {
        script->stmts =
            arena_memdup(&script->arena, list.stmts, list.stmts_len * sizeof(list.stmts[0]));
        script->stmts_len = (uint32_t)list.stmts_len;
    }
    free(list.stmts);
    if (err != ERR_OK) {
        sql_script_free(script);
        return err;
    }
    *out = script;
    return ERR_OK;
}

void sql_script_free(struct sql_script *script)
{
    if (script == NULL) {
        return;
    }
    arena_free(&script->arena);
    free(script);
}
