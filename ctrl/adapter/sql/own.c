/*
 * Our own statements, those PostgreSQL's grammar does not know: sources, clusters, IN CLUSTER,
 * SUBSCRIBE, EXPLAIN <stage>, SHOW <objects>. Recursive descent over the script's tokens; queries
 * and column lists inside them are libpg_query's again.
 *
 *   CREATE SOURCE s (a int) FROM FILE '/x' (FORMAT CSV)
 *                   ^^^^^^^  handed over as "CREATE TABLE x (a int)"
 *
 * A piece is handed over behind a prefix that makes a statement of it. The prefix is not longer
 * than what stands before the piece in the script, so that positions only need an offset: the
 * piece's place minus the prefix's length (ast->base and its like).
 *
 * Whether a statement is ours is decided by looking ahead over a copy of the parser, before
 * anything is taken: what is not, PostgreSQL's grammar parses from its first token, with its own
 * errors. CREATE INDEX and CREATE MATERIALIZED VIEW are ours only when they say something
 * PostgreSQL does not know (IN CLUSTER, no column list).
 *
 * Everything here is syntax: names are resolved and options understood in ddl.c. Entry point:
 * sql_parse_own.
 */
#include "ctrl/adapter/sql/sql_internal.h"

/*
 * The statement under construction and one token of lookahead. Copied to look further ahead: a copy
 * advances alone, the tokens' texts stay in the script's arena.
 */
struct parser {
    struct sql_script *script;
    struct sql_stmt *stmt;
    struct sql_ast *ast;
    struct sql_lexer lexer;
    struct sql_token t;    /* the next token */
    struct sql_token prev; /* the one before */
};

static struct arena *arena_of(struct parser *p)
{
    return &p->script->arena;
}

/* One token of lookahead is all these grammars need. */
static err_t next(struct parser *p)
{
    p->prev = p->t;
    return sql_lex(&p->lexer, &p->t);
}

/* In PostgreSQL's words, at the token where it is stuck. */
static err_t syntax_error(const struct parser *p)
{
    ASSERT(p->t.start <= p->t.end);
    const struct sql_token *t = &p->t;
    err_t err = t->kind == SQL_TOKEN_END
                    ? err_sql(ERR_INVALID, "42601", "syntax error at end of input")
                    : err_sql(ERR_INVALID, "42601", "syntax error at or near \"%.*s\"",
                              (int)(t->end - t->start), p->script->text + t->start);
    return sql_position(err, p->script->text, t->start);
}

/* Our keywords are reserved nowhere: "create" in quotes is a name. */
static bool at_word(const struct parser *p, const char *word)
{
    return p->t.kind == SQL_TOKEN_IDENT && !p->t.quoted && strcmp(p->t.text, word) == 0;
}

static bool at_punct(const struct parser *p, char punct)
{
    return p->t.kind == SQL_TOKEN_PUNCT && p->t.punct == punct;
}

/* Takes the word when it stands here; *yes says so. */
static err_t accept(struct parser *p, const char *word, bool *yes)
{
    ASSERT(word != NULL && yes != NULL);
    *yes = at_word(p, word);
    return *yes ? next(p) : ERR_OK;
}

static err_t accept_punct(struct parser *p, char punct, bool *yes)
{
    ASSERT(yes != NULL);
    *yes = at_punct(p, punct);
    return *yes ? next(p) : ERR_OK;
}

/* Takes the word or fails. */
static err_t expect(struct parser *p, const char *word)
{
    ASSERT(word != NULL);
    return at_word(p, word) ? next(p) : syntax_error(p);
}

static err_t expect_punct(struct parser *p, char punct)
{
    return at_punct(p, punct) ? next(p) : syntax_error(p);
}

static err_t expect_end(struct parser *p)
{
    return p->t.kind == SQL_TOKEN_END ? ERR_OK : syntax_error(p);
}

/* Any name, keyword or not. */
static err_t ident(struct parser *p, const char **out)
{
    ASSERT(out != NULL);
    if (p->t.kind != SQL_TOKEN_IDENT) {
        return syntax_error(p);
    }
    *out = p->t.text;
    return next(p);
}

static err_t string(struct parser *p, const char **out)
{
    ASSERT(out != NULL);
    if (p->t.kind != SQL_TOKEN_STRING) {
        return syntax_error(p);
    }
    *out = p->t.text;
    return next(p);
}

/* name, schema.name or database.schema.name */
static err_t name(struct parser *p, struct sql_name *out)
{
    ASSERT(out != NULL);
    const char *parts[3] = {NULL, NULL, NULL};
    int n = 0;
    bool dot = true;
    *out = (struct sql_name){.location = (int)p->t.start};
    while (dot) {
        if (n == 3) {
            return syntax_error(p);
        }
        TRY(ident(p, &parts[n++]));
        TRY(accept_punct(p, '.', &dot));
    }
    out->name = parts[n - 1];
    out->schema = n >= 2 ? parts[n - 2] : NULL;
    out->database = n == 3 ? parts[0] : NULL;
    return ERR_OK;
}

/* IF NOT EXISTS, or nothing. */
static err_t if_not_exists(struct parser *p)
{
    TRY(accept(p, "if", &p->ast->if_not_exists));
    if (p->ast->if_not_exists) {
        TRY(expect(p, "not"));
        TRY(expect(p, "exists"));
    }
    return ERR_OK;
}

/* IN CLUSTER name, or nothing: the session's cluster is meant then. */
static err_t in_cluster(struct parser *p)
{
    bool in = false;
    TRY(accept(p, "in", &in));
    if (in) {
        TRY(expect(p, "cluster"));
        TRY(ident(p, &p->ast->cluster));
    }
    return ERR_OK;
}

/* What sql_stmt promises of every statement. */
static void set(struct parser *p, enum sql_stmt_kind kind, const char *tag, bool rows)
{
    ASSERT(tag != NULL && kind >= SQL_SELECT && kind <= SQL_EMPTY);
    p->stmt->kind = (uint8_t)kind;
    p->stmt->tag = tag;
    p->stmt->returns_rows = rows;
}

/* ---- options --------------------------------------------------------------------------------- */

/* Grows while parsing; goes to the arena when complete. */
struct option_list {
    struct sql_option *items;
    size_t items_len, items_cap;
};

/* One or more words name an option (REPLICATION FACTOR): joined by '_'. TRUE, FALSE, ON and OFF end
 * the name, so that SNAPSHOT false needs no '='. The value is a string, a number, or a word; which
 * of them an option takes is checked where it is understood. */
static err_t option(struct parser *p, struct sql_option *out)
{
    ASSERT(out != NULL);
    *out = (struct sql_option){.location = (int)p->t.start};
    TRY(ident(p, &out->name));
    while (p->t.kind == SQL_TOKEN_IDENT && !at_word(p, "true") && !at_word(p, "false") &&
           !at_word(p, "on") && !at_word(p, "off")) {
        out->name = arena_printf(arena_of(p), "%s_%s", out->name, p->t.text);
        TRY(next(p));
    }
    bool equals = false, minus = false;
    TRY(accept_punct(p, '=', &equals));
    TRY(accept_punct(p, '-', &minus));
    bool value = p->t.kind == SQL_TOKEN_STRING || p->t.kind == SQL_TOKEN_NUMBER ||
                 p->t.kind == SQL_TOKEN_IDENT;
    if (value) {
        out->value = minus ? arena_printf(arena_of(p), "-%s", p->t.text) : p->t.text;
        return next(p);
    }
    return equals || minus ? syntax_error(p) : ERR_OK;
}

/* One or more, separated by commas. */
static err_t option_items(struct parser *p, struct option_list *list)
{
    bool more = true;
    while (more) {
        TRY(option(p, VEC_PUSH(list, items)));
        TRY(accept_punct(p, ',', &more));
    }
    return ERR_OK;
}

/* name [=] value, ... with parentheses around when parens. */
static err_t options(struct parser *p, bool parens, struct sql_options *out)
{
    ASSERT(out != NULL);
    struct option_list list = {0};
    err_t err = parens ? expect_punct(p, '(') : ERR_OK;
    if (err == ERR_OK && !(parens && at_punct(p, ')'))) {
        err = option_items(p, &list);
    }
    if (err == ERR_OK && parens) {
        err = expect_punct(p, ')');
    }
    if (err == ERR_OK) {
        out->items = arena_memdup(arena_of(p), list.items, list.items_len * sizeof(list.items[0]));
        out->len = (uint32_t)list.items_len;
    }
    free(list.items);
    return err;
}

/* WITH (...), or WITH ... without parentheses, or nothing. */
static err_t with_options(struct parser *p, struct sql_options *out)
{
    ASSERT(out->len == 0);
    bool with = false;
    TRY(accept(p, "with", &with));
    if (!with) {
        return ERR_OK;
    }
    return options(p, at_punct(p, '('), out);
}

/* As PostgreSQL's options take them; case does not matter. */
bool sql_bool_of_text(const char *text, bool *out)
{
    static const char *const yes[] = {"true", "on", "1", "yes"};
    static const char *const no[] = {"false", "off", "0", "no"};
    STATIC_ASSERT(ARRAY_LEN(yes) == ARRAY_LEN(no), "each has its opposite");
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        *out = text == NULL || strcasecmp(text, yes[i]) == 0;
        if (*out || strcasecmp(text, no[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- CREATE SOURCE --------------------------------------------------------------------------- */

/* Skips a parenthesised list; the text between is [*start, *end), parentheses included. Strings and
 * comments are tokens already, so a parenthesis in one does not count. */
static err_t parens(struct parser *p, uint32_t *start, uint32_t *end)
{
    ASSERT(at_punct(p, '('));
    int depth = 0;
    *start = p->t.start;
    do {
        if (p->t.kind == SQL_TOKEN_END) {
            return syntax_error(p);
        }
        depth += at_punct(p, '(') ? 1 : 0;
        depth -= at_punct(p, ')') ? 1 : 0;
        *end = p->t.end;
        TRY(next(p));
    } while (depth > 0);
    return ERR_OK;
}

/* The column list, through PostgreSQL's grammar: CREATE TABLE x (...). None: the format says. */
static err_t source_columns(struct parser *p)
{
    static const char prefix[] = "CREATE TABLE x";
    uint32_t start = 0, end = 0;
    if (!at_punct(p, '(')) {
        return ERR_OK;
    }
    TRY(parens(p, &start, &end));
    const char *text =
        arena_printf(arena_of(p), "%s%.*s", prefix, (int)(end - start), p->script->text + start);
    /* The prefix is not longer than what stands before the list: CREATE SOURCE x (. */
    ASSERT(start >= sizeof(prefix) - 1);
    p->ast->columns_base = start - (uint32_t)(sizeof(prefix) - 1);
    return sql_parse_text(p->script, text, (uint32_t)strlen(text), p->ast->columns_base,
                          &p->ast->columns);
}

/* WITH HEADER | WITH n COLUMNS, then DELIMITED BY 'c'; both optional. */
static err_t csv_format(struct parser *p)
{
    ASSERT(p->ast->format == 0);
    bool with = false, delimited = false;
    p->ast->format = SQL_FORMAT_CSV;
    p->ast->delimiter = ',';
    TRY(accept(p, "with", &with));
    if (with && at_word(p, "header")) {
        p->ast->header = true;
        TRY(next(p));
    } else if (with) {
        if (p->t.kind != SQL_TOKEN_NUMBER) {
            return syntax_error(p);
        }
        unsigned long n = strtoul(p->t.text, NULL, 10);
        if (n < 1 || n > BATCH_COLS_MAX) {
            return sql_position(err_sql(ERR_INVALID, "22023",
                                        "a CSV source has between 1 and %d columns",
                                        BATCH_COLS_MAX),
                                p->script->text, p->t.start);
        }
        p->ast->csv_columns = (uint32_t)n;
        TRY(next(p));
        TRY(expect(p, "columns"));
    }
    TRY(accept(p, "delimited", &delimited));
    if (delimited) {
        const char *text = NULL;
        TRY(expect(p, "by"));
        uint32_t at = p->t.start;
        TRY(string(p, &text));
        if (strlen(text) != 1) {
            return sql_position(
                err_sql(ERR_INVALID, "22023", "the delimiter must be a single one-byte character"),
                p->script->text, at);
        }
        p->ast->delimiter = text[0];
    }
    return ERR_OK;
}

/* (FORMAT CSV ... | JSON), parentheses optional */
static err_t source_format(struct parser *p)
{
    bool paren = false, csv = false;
    TRY(accept_punct(p, '(', &paren));
    TRY(expect(p, "format"));
    TRY(accept(p, "csv", &csv));
    if (csv) {
        TRY(csv_format(p));
    } else {
        TRY(expect(p, "json"));
        p->ast->format = SQL_FORMAT_JSON;
    }
    return paren ? expect_punct(p, ')') : ERR_OK;
}

/* CREATE SOURCE [IF NOT EXISTS] name [(columns)] FROM FILE 'path' (FORMAT ...) [WITH (...)] */
static err_t create_source(struct parser *p)
{
    ASSERT(p->stmt->kind == 0);
    set(p, SQL_CREATE_SOURCE, "CREATE SOURCE", false);
    TRY(if_not_exists(p));
    TRY(name(p, &p->stmt->name));
    TRY(source_columns(p));
    TRY(in_cluster(p));
    TRY(expect(p, "from"));
    TRY(expect(p, "file"));
    TRY(string(p, &p->ast->path));
    TRY(source_format(p));
    TRY(with_options(p, &p->ast->options));
    return expect_end(p);
}

/* ---- clusters, indexes, materialized views --------------------------------------------------- */

/* CREATE CLUSTER c SIZE '1' and CREATE CLUSTER c (SIZE = '1', REPLICATION FACTOR = 2) */
static err_t create_cluster(struct parser *p)
{
    ASSERT(p->stmt->kind == 0);
    set(p, SQL_CREATE_CLUSTER, "CREATE CLUSTER", false);
    TRY(if_not_exists(p));
    p->stmt->name.location = (int)p->t.start;
    TRY(ident(p, &p->stmt->name.name));
    if (at_punct(p, '(')) {
        TRY(options(p, true, &p->ast->options));
    } else if (p->t.kind != SQL_TOKEN_END) {
        TRY(options(p, false, &p->ast->options));
    }
    return expect_end(p);
}

/*
 * CREATE INDEX through PostgreSQL's grammar, without IN CLUSTER: the tree has the columns. CREATE
 * [DEFAULT] INDEX [name] [IN CLUSTER c] ON relation [(columns)]: the list through PostgreSQL's
 * grammar, without IN CLUSTER. No list is what DEFAULT means: all columns, or what suits best.
 */
static err_t create_index(struct parser *p)
{
    ASSERT(p->stmt->kind == 0);
    set(p, SQL_CREATE_INDEX, "CREATE INDEX", false);
    bool on = false;
    if (!p->ast->is_default) {
        TRY(if_not_exists(p));
    }
    if (!at_word(p, "in") && !at_word(p, "on")) {
        p->stmt->name.location = (int)p->t.start;
        TRY(ident(p, &p->stmt->name.name));
    }
    TRY(in_cluster(p));
    TRY(accept(p, "on", &on));
    if (!on) {
        return syntax_error(p);
    }
    TRY(name(p, &p->ast->on));
    /* The end of the statement right behind the relation. */
    p->ast->no_keys = p->t.kind == SQL_TOKEN_END;
    if (p->ast->no_keys) {
        p->ast->is_default = true;
        return ERR_OK;
    }
    if (!at_punct(p, '(')) {
        return syntax_error(p);
    }
    uint32_t start = 0, end = 0;
    TRY(parens(p, &start, &end));
    TRY(with_options(p, &p->ast->options));
    TRY(expect_end(p));
    static const char prefix[] = "CREATE INDEX ON x";
    const char *text =
        arena_printf(arena_of(p), "%s%.*s", prefix, (int)(end - start), p->script->text + start);
    ASSERT(start >= sizeof(prefix) - 1);
    p->ast->base = start - (uint32_t)(sizeof(prefix) - 1);
    return sql_parse_text(p->script, text, (uint32_t)strlen(text), p->ast->base, &p->ast->node);
}

/*
 * AS query, to the statement's end; AS OF at its end is no part of a definition and is cut off by
 * sql_parse_slice like anywhere.
 */
static err_t view_query(struct parser *p)
{
    ASSERT(!p->ast->has_query);
    TRY(expect(p, "as"));
    uint32_t start = p->t.start;
    struct sql_stmt *query = NULL;
    TRY(sql_parse_slice(p->script, start, p->stmt->end, &query));
    if (query->kind != SQL_SELECT) {
        return sql_position(err_sql(ERR_INVALID, "42601", "a view is defined by a query"),
                            p->script->text, start);
    }
    p->ast->node = query->ast->node;
    p->ast->base = query->ast->base;
    p->ast->has_query = true;
    return ERR_OK;
}

/* (a, b): names for the first columns of a view. */
static err_t view_names(struct parser *p)
{
    ASSERT(p->ast->names_len == 0);
    const char **names = ARENA_ARRAY(arena_of(p), const char *, BATCH_COLS_MAX);
    bool more = true;
    TRY(expect_punct(p, '('));
    while (more) {
        if (p->ast->names_len == BATCH_COLS_MAX) {
            return syntax_error(p);
        }
        TRY(ident(p, &names[p->ast->names_len++]));
        TRY(accept_punct(p, ',', &more));
    }
    p->ast->names = names;
    return expect_punct(p, ')');
}

/*
 * CREATE MATERIALIZED VIEW name [(columns)] [IN CLUSTER c] [WITH (...)] AS query. Only the form
 * with IN CLUSTER comes here; the others are PostgreSQL's.
 */
static err_t create_materialized_view(struct parser *p)
{
    ASSERT(p->stmt->kind == 0);
    set(p, SQL_CREATE_MATERIALIZED_VIEW, "CREATE MATERIALIZED VIEW", false);
    TRY(if_not_exists(p));
    TRY(name(p, &p->stmt->name));
    if (at_punct(p, '(')) {
        TRY(view_names(p));
    }
    TRY(in_cluster(p));
    TRY(with_options(p, &p->ast->options));
    return view_query(p);
}

/*
 * Does the statement say IN CLUSTER before AS or a parenthesis? Behind those stands a query, or a
 * list, in which IN is an operator. The column names of a materialized view are passed over.
 */
static err_t mentions_cluster(struct parser *p, bool *yes)
{
    ASSERT(yes != NULL);
    struct parser ahead = *p;
    bool names = at_word(p, "materialized");
    *yes = false;
    while (ahead.t.kind != SQL_TOKEN_END && !at_word(&ahead, "as")) {
        if (at_punct(&ahead, '(') && !names) {
            break;
        }
        if (at_word(&ahead, "in")) {
            TRY(next(&ahead));
            *yes = *yes || at_word(&ahead, "cluster");
            continue;
        }
        names = names && !at_punct(&ahead, ')');
        TRY(next(&ahead));
    }
    return ERR_OK;
}

/* CREATE INDEX without a column list is ours, too. */
static err_t lacks_columns(struct parser *p, bool *yes)
{
    struct parser ahead = *p;
    *yes = true;
    while (ahead.t.kind != SQL_TOKEN_END) {
        *yes = *yes && !at_punct(&ahead, '(');
        TRY(next(&ahead));
    }
    return ERR_OK;
}

/* Decides by lookahead whether the statement is ours before it takes anything. */
static err_t create(struct parser *p, bool *own)
{
    ASSERT(p->stmt->kind == 0 && !*own);
    bool yes = false, cluster = false;
    TRY(accept(p, "source", own));
    if (*own) {
        return create_source(p);
    }
    TRY(accept(p, "cluster", own));
    if (*own) {
        return create_cluster(p);
    }
    if (at_word(p, "default")) {
        *own = true;
        p->ast->is_default = true;
        TRY(next(p));
        TRY(expect(p, "index"));
        return create_index(p);
    }
    TRY(mentions_cluster(p, &cluster));
    if (at_word(p, "index")) {
        TRY(next(p));
        TRY(lacks_columns(p, &yes));
        *own = cluster || yes;
        return *own ? create_index(p) : ERR_OK;
    }
    if (at_word(p, "materialized") && cluster) {
        TRY(next(p));
        *own = true;
        TRY(expect(p, "view"));
        return create_materialized_view(p);
    }
    return ERR_OK;
}

/* ---- DROP ------------------------------------------------------------------------------------ */

/* One or more names; CASCADE and RESTRICT are words behind them. */
static err_t drop_names(struct parser *p)
{
    ASSERT(p->stmt->kind == SQL_DROP);
    struct name_list {
        struct sql_name *items;
        size_t items_len, items_cap;
    } list = {0};
    bool more = true;
    err_t err = ERR_OK;
    while (more && err == ERR_OK) {
        err = name(p, VEC_PUSH(&list, items));
        if (err == ERR_OK) {
            err = accept_punct(p, ',', &more);
        }
    }
    p->stmt->drop.names =
        arena_memdup(arena_of(p), list.items, list.items_len * sizeof(list.items[0]));
    p->stmt->drop.names_len = (uint32_t)list.items_len;
    free(list.items);
    return err;
}

/* DROP SOURCE and DROP CLUSTER; the rest PostgreSQL knows. */
static err_t drop(struct parser *p, bool *own)
{
    ASSERT(p->stmt->kind == 0);
    bool restrict_ = false;
    *own = at_word(p, "source") || at_word(p, "cluster");
    if (!*own) {
        return ERR_OK;
    }
    bool source = at_word(p, "source");
    set(p, SQL_DROP, source ? "DROP SOURCE" : "DROP CLUSTER", false);
    p->stmt->drop.object = source ? SQL_OBJECT_SOURCE : SQL_OBJECT_CLUSTER;
    TRY(next(p));
    TRY(accept(p, "if", &p->stmt->drop.if_exists));
    if (p->stmt->drop.if_exists) {
        TRY(expect(p, "exists"));
    }
    TRY(drop_names(p));
    TRY(accept(p, "cascade", &p->stmt->drop.cascade));
    TRY(accept(p, "restrict", &restrict_));
    return expect_end(p);
}

/* ---- SUBSCRIBE ------------------------------------------------------------------------------- */

/* SNAPSHOT and PROGRESS, both boolean. */
static err_t subscribe_options(struct parser *p)
{
    ASSERT(p->stmt->kind == SQL_SUBSCRIBE);
    TRY(with_options(p, &p->stmt->subscribe.options));
    p->stmt->subscribe.snapshot = true;
    for (uint32_t i = 0; i < p->stmt->subscribe.options.len; i++) {
        const struct sql_option *o = &p->stmt->subscribe.options.items[i];
        bool *flag = strcmp(o->name, "snapshot") == 0   ? &p->stmt->subscribe.snapshot
                     : strcmp(o->name, "progress") == 0 ? &p->stmt->subscribe.progress
                                                        : NULL;
        err_t err = flag == NULL ? err_sql(ERR_INVALID, "22023",
                                           "unrecognized SUBSCRIBE option \"%s\"", o->name)
                    : sql_bool_of_text(o->value, flag)
                        ? ERR_OK
                        : err_sql(ERR_INVALID, "22023",
                                  "SUBSCRIBE option \"%s\" requires a Boolean value", o->name);
        if (err != ERR_OK) {
            return sql_position(err, p->script->text, (uint32_t)o->location);
        }
    }
    return ERR_OK;
}

/*
 * SUBSCRIBE [TO] name | (query) [WITH (...)] [AS OF t] [UP TO t]. The tail is found first, by its
 * tokens, and the lexer stops before it: AS could begin an alias otherwise.
 */
static err_t subscribe(struct parser *p)
{
    ASSERT(p->stmt->kind == 0);
    bool to = false;
    uint32_t tail = p->stmt->end;
    set(p, SQL_SUBSCRIBE, "SUBSCRIBE", true);
    TRY(sql_parse_tail(p->script, p->ast, p->stmt->start, &tail));
    p->lexer.end = tail;
    /* SUBSCRIBE AS OF 5: the lookahead was taken before the tail was known. */
    if (p->t.start >= tail) {
        p->t = (struct sql_token){.kind = SQL_TOKEN_END, .start = tail, .end = tail, .text = ""};
    }
    p->lexer.at = p->lexer.at < tail ? p->lexer.at : tail;
    TRY(accept(p, "to", &to));
    if (at_punct(p, '(')) {
        uint32_t start = 0, end = 0;
        TRY(parens(p, &start, &end));
        TRY(sql_parse_pg(p->script, start + 1, end - 1, &p->ast->node));
        p->ast->base = start + 1;
        p->ast->has_query = true;
        if (p->ast->node->node_case != PG_QUERY__NODE__NODE_SELECT_STMT) {
            return sql_position(err_sql(ERR_INVALID, "42601", "SUBSCRIBE needs a query"),
                                p->script->text, start + 1);
        }
    } else {
        TRY(name(p, &p->ast->on));
    }
    TRY(subscribe_options(p));
    return expect_end(p);
}

/* ---- EXPLAIN, SHOW, COPY, DECLARE, FETCH ----------------------------------------------------- */

/*
 * A statement inside this one, text [start, end): never empty, never deeper than sql_parse_slice
 * allows.
 */
static err_t inner_statement(struct parser *p, uint32_t start, uint32_t end)
{
    ASSERT(start <= end && end <= p->script->text_len);
    TRY(sql_parse_slice(p->script, start, end, &p->stmt->inner));
    if (p->stmt->inner->kind == SQL_EMPTY) {
        return syntax_error(p);
    }
    p->ast->base = p->stmt->inner->ast->base;
    return ERR_OK;
}

/* EXPLAIN ANALYZE [FOR] INDEX i, MATERIALIZED VIEW v: of what runs. Of a query it is in
 * PostgreSQL's grammar. */
static err_t analyzes_object(struct parser *p, bool *yes)
{
    struct parser ahead = *p;
    *yes = false;
    if (!at_word(&ahead, "analyze")) {
        return ERR_OK;
    }
    bool skipped = false;
    TRY(next(&ahead));
    TRY(accept(&ahead, "for", &skipped));
    *yes = at_word(&ahead, "index") || at_word(&ahead, "materialized");
    if (*yes) {
        *p = ahead;
    }
    return ERR_OK;
}

/*
 * Plain EXPLAIN query is PostgreSQL's; a stage (PHYSICAL PLAN FOR, OPTIMIZED PLAN FOR) or an object
 * (VIEW v, INDEX i) makes it ours.
 */
static err_t explain(struct parser *p, bool *own)
{
    ASSERT(p->stmt->kind == 0);
    bool analyze = false;
    TRY(analyzes_object(p, &analyze));
    bool stage = at_word(p, "physical") || at_word(p, "optimized");
    bool object = at_word(p, "view") || at_word(p, "materialized") || at_word(p, "index");
    struct sql_token first = p->t;
    *own = stage || object || at_word(p, "subscribe");
    if (!*own) {
        return ERR_OK;
    }
    bool yes = false;
    set(p, SQL_EXPLAIN, "EXPLAIN", true);
    p->stmt->explain.stage = analyze                     ? SQL_EXPLAIN_ANALYZE
                             : at_word(p, "optimized") ? SQL_EXPLAIN_OPTIMIZED
                                                       : SQL_EXPLAIN_PHYSICAL;
    if (stage) {
        TRY(next(p));
        TRY(expect(p, "plan"));
        TRY(accept(p, "for", &yes));
        object = at_word(p, "view") || at_word(p, "materialized") || at_word(p, "index");
        first = p->t;
    }
    if (!object) {
        return inner_statement(p, first.start, p->stmt->end);
    }
    p->stmt->explain.of_object = true;
    p->stmt->object = at_word(p, "view")    ? SQL_OBJECT_VIEW
                      : at_word(p, "index") ? SQL_OBJECT_INDEX
                                            : SQL_OBJECT_MATERIALIZED_VIEW;
    bool materialized = at_word(p, "materialized");
    TRY(next(p));
    if (materialized) {
        TRY(expect(p, "view"));
    }
    TRY(name(p, &p->stmt->name));
    return expect_end(p);
}

/* The words of SHOW and the objects they list. */
struct show_word {
    const char *first, *second;
    uint8_t object;
};

static const struct show_word show_words[] = {
    {"tables", NULL, SQL_OBJECT_TABLE},
    {"sources", NULL, SQL_OBJECT_SOURCE},
    {"views", NULL, SQL_OBJECT_VIEW},
    {"materialized", "views", SQL_OBJECT_MATERIALIZED_VIEW},
    {"indexes", NULL, SQL_OBJECT_INDEX},
    {"clusters", NULL, SQL_OBJECT_CLUSTER},
    {"cluster", "replicas", SQL_OBJECT_CLUSTER_REPLICA},
    {"schemas", NULL, SQL_OBJECT_SCHEMA},
    {"databases", NULL, SQL_OBJECT_DATABASE},
    {"columns", NULL, SQL_OBJECT_COLUMN},
    {"objects", NULL, SQL_OBJECT_ANY},
};

/* [FROM schema or relation] [IN CLUSTER c] [LIKE 'pattern'] */
static err_t show_tail(struct parser *p)
{
    ASSERT(p->stmt->kind == SQL_SHOW_OBJECTS && p->stmt->object != 0);
    bool yes = false;
    TRY(accept(p, "from", &yes));
    if (!yes) {
        TRY(accept(p, "on", &yes));
    }
    if (yes) {
        TRY(name(p, &p->ast->on));
    } else if (p->stmt->object == SQL_OBJECT_COLUMN) {
        return syntax_error(p);
    }
    TRY(in_cluster(p));
    TRY(accept(p, "like", &yes));
    if (yes) {
        TRY(string(p, &p->ast->like));
    }
    return expect_end(p);
}

/* SHOW CREATE TABLE | SOURCE | [MATERIALIZED] VIEW | INDEX | CLUSTER name */
static err_t show_create(struct parser *p)
{
    set(p, SQL_SHOW_CREATE, "SHOW", true);
    static const struct {
        const char *word;
        uint8_t object;
    } words[] = {{"table", SQL_OBJECT_TABLE},
                 {"source", SQL_OBJECT_SOURCE},
                 {"view", SQL_OBJECT_VIEW},
                 {"index", SQL_OBJECT_INDEX},
                 {"cluster", SQL_OBJECT_CLUSTER}};
    bool materialized = false;
    TRY(accept(p, "materialized", &materialized));
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (at_word(p, words[i].word)) {
            p->stmt->object = words[i].object;
        }
    }
    if (p->stmt->object == 0 || (materialized && p->stmt->object != SQL_OBJECT_VIEW)) {
        return syntax_error(p);
    }
    p->stmt->object = materialized ? SQL_OBJECT_MATERIALIZED_VIEW : p->stmt->object;
    TRY(next(p));
    TRY(name(p, &p->stmt->name));
    return expect_end(p);
}

/* SHOW <objects> and SHOW CREATE are ours, SHOW <variable> is PostgreSQL's. SHOW cluster is a
 * variable, SHOW cluster replicas are objects. */
static err_t show(struct parser *p, bool *own)
{
    ASSERT(p->stmt->kind == 0);
    TRY(accept(p, "create", own));
    if (*own) {
        return show_create(p);
    }
    for (size_t i = 0; i < ARRAY_LEN(show_words); i++) {
        struct parser ahead = *p;
        if (!at_word(p, show_words[i].first)) {
            continue;
        }
        TRY(next(&ahead));
        if (show_words[i].second != NULL) {
            if (!at_word(&ahead, show_words[i].second)) {
                continue; /* SHOW cluster: the session variable */
            }
            TRY(next(&ahead));
        }
        *own = true;
        *p = ahead;
        set(p, SQL_SHOW_OBJECTS, "SHOW", true);
        p->stmt->object = show_words[i].object;
        return show_tail(p);
    }
    return ERR_OK;
}

/* COPY (SUBSCRIBE ...) TO STDOUT [...]: PostgreSQL parses it with another query in its place,
 * which gives it COPY's options. */
static err_t copy_subscribe(struct parser *p, bool *own)
{
    ASSERT(p->stmt->kind == 0);
    struct parser ahead = *p;
    if (!at_punct(p, '(')) {
        return ERR_OK;
    }
    TRY(next(&ahead));
    *own = at_word(&ahead, "subscribe");
    if (!*own) {
        return ERR_OK;
    }
    uint32_t start = 0, end = 0;
    TRY(parens(p, &start, &end));
    static const char prefix[] = "COPY (SELECT 1)";
    const char *text = arena_printf(arena_of(p), "%s%.*s", prefix, (int)(p->stmt->end - end),
                                    p->script->text + end);
    ASSERT(end >= sizeof(prefix) - 1);
    TRY(sql_parse_text(p->script, text, (uint32_t)strlen(text),
                       end - (uint32_t)(sizeof(prefix) - 1), &p->ast->node));
    TRY(sql_stmt_of_pg(p->script, p->stmt));
    if (p->stmt->kind != SQL_COPY_TO) {
        return syntax_error(p);
    }
    return inner_statement(p, start + 1, end - 1);
}

/*
 * DECLARE c [NO SCROLL] CURSOR [WITHOUT HOLD] FOR SUBSCRIBE ...: with any other query it is
 * PostgreSQL's, whatever words stand before FOR.
 */
static err_t declare(struct parser *p, bool *own)
{
    ASSERT(p->stmt->kind == 0);
    const char *cursor = NULL;
    TRY(ident(p, &cursor));
    while (p->t.kind == SQL_TOKEN_IDENT && !at_word(p, "for")) {
        TRY(next(p));
    }
    bool is_for = false;
    TRY(accept(p, "for", &is_for));
    *own = is_for && at_word(p, "subscribe");
    if (!*own) {
        return ERR_OK;
    }
    set(p, SQL_DECLARE, "DECLARE CURSOR", false);
    p->stmt->cursor.name = cursor;
    return inner_statement(p, p->t.start, p->stmt->end);
}

/* FETCH [FORWARD] [n | ALL] [FROM | IN] cursor [WITH (timeout = '1s')]; ours when it says WITH. */
static err_t fetch(struct parser *p, bool *own)
{
    ASSERT(p->stmt->kind == 0);
    struct parser ahead = *p;
    bool yes = false, with = false;
    while (ahead.t.kind != SQL_TOKEN_END) {
        with = with || at_word(&ahead, "with");
        TRY(next(&ahead));
    }
    *own = with;
    if (!with) {
        return ERR_OK;
    }
    set(p, SQL_FETCH, "FETCH", true);
    p->stmt->cursor.count = 1;
    TRY(accept(p, "forward", &yes));
    if (p->t.kind == SQL_TOKEN_NUMBER) {
        p->stmt->cursor.count = strtoll(p->t.text, NULL, 10);
        TRY(next(p));
    } else if (at_word(p, "all")) {
        p->stmt->cursor.count = INT64_MAX;
        TRY(next(p));
    }
    TRY(accept(p, "from", &yes));
    if (!yes) {
        TRY(accept(p, "in", &yes));
    }
    TRY(ident(p, &p->stmt->cursor.name));
    TRY(with_options(p, &p->stmt->cursor.options));
    return expect_end(p);
}

/* By its first word, which the functions above find taken already. */
err_t sql_parse_own(struct sql_script *script, struct sql_stmt *stmt, bool *own)
{
    ASSERT(stmt->start <= stmt->end && stmt->ast != NULL);
    struct parser p = {.script = script, .stmt = stmt, .ast = stmt->ast};
    bool yes = false;
    p.lexer = (struct sql_lexer){
        .arena = &script->arena, .text = script->text, .end = stmt->end, .at = stmt->start};
    *own = false;
    TRY(next(&p));
    static const struct {
        const char *word;
        err_t (*parse)(struct parser *p, bool *own);
    } words[] = {{"create", create}, {"drop", drop},           {"explain", explain},
                 {"show", show},     {"copy", copy_subscribe}, {"declare", declare},
                 {"fetch", fetch}};
    TRY(accept(&p, "subscribe", own));
    if (*own) {
        return subscribe(&p);
    }
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        TRY(accept(&p, words[i].word, &yes));
        if (yes) {
            return words[i].parse(&p, own);
        }
    }
    return ERR_OK;
}
