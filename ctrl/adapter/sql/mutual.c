/*
 * WITH MUTUALLY RECURSIVE, which PostgreSQL's grammar does not know.
 *
 *   WITH MUTUALLY RECURSIVE (RETURN AT RECURSION LIMIT 9) t (a int, b text) AS (...)
 *   WITH          RECURSIVE                               t (a    , b     ) AS (...)
 *
 * Before libpg_query parses a text, what it would not understand is overwritten by blanks, so that
 * all positions stay. Afterwards it is put into the tree, behind the columns' names and a byte that
 * stands in no name a user would write: "a\1int\1return 9" (the limit behind the first one only).
 * So it goes where the tree goes; when the tree is deparsed the names come out with it, and are
 * made what they were again.
 *
 * The text comes from a user: whatever is not as it should be is a syntax error, and types are
 * parsed as such when the query is analysed, not before.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#define MARK '\1'

/* A WITH clause that was found: where, and what goes to its columns' names, in their order. */
struct found {
    uint32_t at;
    const char **behind;
    size_t behind_len, behind_cap;
};

struct hider {
    struct sql_script *script;
    char *text;    /* blanks go here */
    uint32_t base; /* of text in the script */
    struct sql_lexer lexer;
    struct found *found;
    size_t found_len, found_cap;
};

/* ---- hiding ---------------------------------------------------------------------------------- */

static err_t unexpected(const struct hider *h, const struct sql_token *t)
{
    err_t err = t->kind == SQL_TOKEN_END
                    ? err_sql(ERR_INVALID, "42601", "syntax error at end of input")
                    : err_sql(ERR_INVALID, "42601", "syntax error at or near \"%.*s\"",
                              (int)(t->end - t->start), h->lexer.text + t->start);
    return sql_position(err, h->script->text, h->base + t->start);
}

static void blank(struct hider *h, uint32_t start, uint32_t end)
{
    ASSERT(start <= end && end <= h->lexer.end);
    for (uint32_t i = start; i < end; i++) {
        h->text[i] = h->text[i] == '\n' ? '\n' : ' ';
    }
}

static bool is_word(const struct sql_token *t, const char *word)
{
    return t->kind == SQL_TOKEN_IDENT && !t->quoted && strcmp(t->text, word) == 0;
}

static bool is_punct(const struct sql_token *t, char c)
{
    return t->kind == SQL_TOKEN_PUNCT && t->punct == c;
}

static err_t expect_word(struct hider *h, const char *word)
{
    struct sql_token t;
    TRY(sql_lex(&h->lexer, &t));
    return is_word(&t, word) ? ERR_OK : unexpected(h, &t);
}

/* ([RETURN AT | ERROR AT] RECURSION LIMIT n), if it is there; *out: "return 9", "error 9" or "". */
static err_t hide_limit(struct hider *h, const char **out)
{
    ASSERT(out != NULL && h->lexer.at <= h->lexer.end);
    struct sql_lexer before = h->lexer;
    struct sql_token open, t;
    *out = "";
    TRY(sql_lex(&h->lexer, &open));
    if (!is_punct(&open, '(')) {
        h->lexer = before;
        return ERR_OK;
    }
    TRY(sql_lex(&h->lexer, &t));
    bool returns = is_word(&t, "return");
    if (returns || is_word(&t, "error")) {
        TRY(expect_word(h, "at"));
        TRY(sql_lex(&h->lexer, &t));
    }
    if (!is_word(&t, "recursion")) {
        return unexpected(h, &t);
    }
    TRY(expect_word(h, "limit"));
    TRY(sql_lex(&h->lexer, &t));
    char *end = NULL;
    unsigned long long limit = t.kind == SQL_TOKEN_NUMBER ? strtoull(t.text, &end, 10) : 0;
    if (limit == 0 || limit > INT32_MAX || *end != '\0') {
        return t.kind == SQL_TOKEN_NUMBER
                   ? sql_position(err_sql(ERR_INVALID, "22023",
                                          "a recursion limit is a number from 1 to %d", INT32_MAX),
                                  h->script->text, h->base + t.start)
                   : unexpected(h, &t);
    }
    *out = arena_printf(&h->script->arena, "%s %llu", returns ? "return" : "error", limit);
    TRY(sql_lex(&h->lexer, &t));
    if (!is_punct(&t, ')')) {
        return unexpected(h, &t);
    }
    blank(h, open.start, t.end);
    return ERR_OK;
}

/* A column's type, up to the comma or the parenthesis behind it, which is taken: *last. */
static err_t hide_type(struct hider *h, size_t found, const char *limit, bool *last)
{
    struct sql_token t, first;
    uint32_t depth = 0, end = 0;
    ASSERT(found < h->found_len && limit != NULL);
    TRY(sql_lex(&h->lexer, &first));
    for (t = first;;) {
        bool close = is_punct(&t, ')') || is_punct(&t, ']');
        if (t.kind == SQL_TOKEN_END ||
            (t.start == first.start && (close || is_punct(&t, ',')))) {
            return unexpected(h, &t);
        }
        if (depth == 0 && (is_punct(&t, ',') || is_punct(&t, ')'))) {
            break;
        }
        depth += is_punct(&t, '(') || is_punct(&t, '[');
        depth -= close && depth > 0;
        end = t.end;
        TRY(sql_lex(&h->lexer, &t));
    }
    *last = is_punct(&t, ')');
    *VEC_PUSH(&h->found[found], behind) =
        arena_printf(&h->script->arena, "%c%.*s%s%s", MARK, (int)(end - first.start),
                     h->lexer.text + first.start, limit[0] != '\0' ? "\1" : "", limit);
    blank(h, first.start, end);
    return ERR_OK;
}

static err_t hide_within(struct hider *h, bool parenthesis);

/* name (column type, ...) AS (query); *more: a comma follows. */
static err_t hide_binding(struct hider *h, size_t found, const char *limit, bool *more)
{
    struct sql_token t;
    bool last = false;
    TRY(sql_lex(&h->lexer, &t));
    if (t.kind != SQL_TOKEN_IDENT) {
        return unexpected(h, &t);
    }
    TRY(sql_lex(&h->lexer, &t));
    if (!is_punct(&t, '(')) {
        return err_hint(unexpected(h, &t), "The columns' names and types are expected: t (a int).");
    }
    while (!last) {
        TRY(sql_lex(&h->lexer, &t));
        if (t.kind != SQL_TOKEN_IDENT) {
            return unexpected(h, &t);
        }
        TRY(hide_type(h, found, limit, &last));
        limit = "";
    }
    TRY(expect_word(h, "as"));
    TRY(sql_lex(&h->lexer, &t));
    if (!is_punct(&t, '(')) {
        return unexpected(h, &t);
    }
    TRY(hide_within(h, true));
    struct sql_lexer behind = h->lexer;
    TRY(sql_lex(&h->lexer, &t));
    *more = is_punct(&t, ',');
    h->lexer = *more ? h->lexer : behind;
    return ERR_OK;
}

/* Behind WITH; nothing is taken when it is another WITH. */
static err_t hide_clause(struct hider *h, uint32_t at)
{
    struct sql_lexer before = h->lexer;
    struct sql_token mutually, recursive;
    TRY(sql_lex(&h->lexer, &mutually));
    TRY(sql_lex(&h->lexer, &recursive));
    if (!is_word(&mutually, "mutually") || !is_word(&recursive, "recursive")) {
        h->lexer = before;
        return ERR_OK;
    }
    blank(h, mutually.start, mutually.end);
    size_t found = h->found_len;
    *VEC_PUSH(h, found) = (struct found){.at = at};
    const char *limit = "";
    TRY(hide_limit(h, &limit));
    limit = limit[0] == '\0' ? "none" : limit; /* that it is there marks the clause */
    for (bool more = true; more; limit = "") {
        TRY(hide_binding(h, found, limit, &more));
    }
    return ERR_OK;
}

/* To the end of the text, or to the parenthesis that closes. Nesting was bounded before. */
static err_t hide_within(struct hider *h, bool parenthesis)
{
    struct sql_token t;
    for (uint32_t depth = 0;;) {
        TRY(sql_lex(&h->lexer, &t));
        if (t.kind == SQL_TOKEN_END || (parenthesis && depth == 0 && is_punct(&t, ')'))) {
            return t.kind == SQL_TOKEN_END && parenthesis ? unexpected(h, &t) : ERR_OK;
        }
        depth += is_punct(&t, '(');
        depth -= is_punct(&t, ')') && depth > 0;
        if (is_word(&t, "with")) {
            TRY(hide_clause(h, t.start));
        }
    }
}

/* ---- the tree -------------------------------------------------------------------------------- */

void sql_tree_walk(ProtobufCMessage *message, sql_tree_fn fn, void *arg)
{
    const ProtobufCMessageDescriptor *d = message->descriptor;
    ASSERT(d != NULL && d->magic == PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC);
    uint8_t *bytes = (uint8_t *)message;
    if (!fn(arg, message)) {
        return;
    }
    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &d->fields[i];
        if (field->type != PROTOBUF_C_TYPE_MESSAGE) {
            continue;
        }
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            ProtobufCMessage **list = *(ProtobufCMessage ***)(bytes + field->offset);
            size_t len = *(size_t *)(bytes + field->quantifier_offset);
            for (size_t k = 0; k < len; k++) {
                sql_tree_walk(list[k], fn, arg);
            }
            continue;
        }
        bool oneof = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
        ProtobufCMessage *one = *(ProtobufCMessage **)(bytes + field->offset);
        if ((!oneof || *(uint32_t *)(bytes + field->quantifier_offset) == field->id) &&
            one != NULL) {
            sql_tree_walk(one, fn, arg);
        }
    }
}

static void put_behind(struct hider *h, const struct found *f, PgQuery__WithClause *with)
{
    size_t at = 0;
    for (size_t i = 0; i < with->n_ctes; i++) {
        PgQuery__CommonTableExpr *def = with->ctes[i]->common_table_expr;
        for (size_t c = 0; c < def->n_aliascolnames && at < f->behind_len; c++) {
            PgQuery__String *name = def->aliascolnames[c]->string;
            name->sval = arena_printf(&h->script->arena, "%s%s", name->sval, f->behind[at++]);
        }
    }
    ASSERT(at == f->behind_len); /* as many columns as were read from the same text */
}

static bool reveal(void *arg, ProtobufCMessage *message)
{
    struct hider *h = arg;
    if (message->descriptor == &pg_query__with_clause__descriptor) {
        PgQuery__WithClause *with = (PgQuery__WithClause *)message;
        for (size_t i = 0; i < h->found_len; i++) {
            if ((int64_t)h->found[i].at == with->location) {
                put_behind(h, &h->found[i], with);
            }
        }
    }
    return true;
}

/* Names that hold the mark already: bytes a user sent, which must not be taken for ours. */
static err_t refuse_marks(struct sql_script *script, const char *text, uint32_t len)
{
    struct sql_lexer lexer = {.arena = &script->arena, .text = text, .end = len};
    struct sql_token t = {.kind = SQL_TOKEN_PUNCT};
    while (strchr(text, MARK) != NULL && t.kind != SQL_TOKEN_END) {
        TRY(sql_lex(&lexer, &t));
        if (t.kind == SQL_TOKEN_IDENT && strchr(t.text, MARK) != NULL) {
            return err_sql(ERR_INVALID, "42602", "a name holds an invalid byte");
        }
    }
    return ERR_OK;
}

/* Strings of a tree; constants are none. */
static bool has_mark(void *arg, ProtobufCMessage *message)
{
    bool *found = arg;
    const ProtobufCMessageDescriptor *d = message->descriptor;
    for (unsigned i = 0; i < d->n_fields && !*found; i++) {
        const ProtobufCFieldDescriptor *field = &d->fields[i];
        if (field->type == PROTOBUF_C_TYPE_STRING &&
            field->label != PROTOBUF_C_LABEL_REPEATED) {
            const char *string = *(char **)((uint8_t *)message + field->offset);
            *found = string != NULL && strchr(string, MARK) != NULL;
        }
    }
    return !*found && d != &pg_query__a__const__descriptor;
}

/* U&"\0001" is a name with the mark that no byte of the text shows. */
static err_t refuse_escaped(const char *text, pg_node *tree)
{
    bool found = false;
    if (strcasestr(text, "u&\"") != NULL && tree != NULL) {
        sql_tree_walk((ProtobufCMessage *)tree, has_mark, &found);
    }
    return found ? err_sql(ERR_INVALID, "42602", "a name holds an invalid byte") : ERR_OK;
}

static void hider_free(struct hider *h)
{
    for (size_t i = 0; i < h->found_len; i++) {
        free(h->found[i].behind);
    }
    free(h->found);
}

err_t sql_parse_mutual(struct sql_script *script, const char *text, uint32_t len, uint32_t base,
                       sql_parse_fn parse, pg_node **out)
{
    TRY(refuse_marks(script, text, len));
    if (strcasestr(text, "mutually") == NULL) {
        TRY(parse(script, text, base, out));
        return refuse_escaped(text, *out);
    }
    struct hider h = {.script = script, .base = base};
    h.text = arena_strndup(&script->arena, text, len);
    h.lexer = (struct sql_lexer){.arena = &script->arena, .text = text, .end = len};
    err_t err = hide_within(&h, false);
    if (err == ERR_OK) {
        err = parse(script, h.text, base, out);
    }
    err = err == ERR_OK ? refuse_escaped(text, *out) : err;
    if (err == ERR_OK) {
        sql_tree_walk((ProtobufCMessage *)*out, reveal, &h);
    }
    hider_free(&h);
    return err;
}

/* ---- reading and writing --------------------------------------------------------------------- */

bool sql_mutual_column(struct arena *arena, const char *marked, struct sql_mutual_column *out)
{
    ASSERT(marked != NULL);
    const char *type = strchr(marked, MARK);
    if (type == NULL) {
        return false;
    }
    const char *limit = strchr(type + 1, MARK);
    *out = (struct sql_mutual_column){0};
    out->name = arena_strndup(arena, marked, (size_t)(type - marked));
    size_t len = limit != NULL ? (size_t)(limit - type - 1) : strlen(type + 1);
    out->type = arena_strndup(arena, type + 1, len);
    out->first = limit != NULL;
    const char *number = limit != NULL ? strchr(limit, ' ') : NULL;
    if (number != NULL) {
        out->returns = limit[1] == 'r';
        out->limit = strtoull(number + 1, NULL, 10);
    }
    return true;
}

/* The clause as it was: over the text of a deparsed tree, token by token. */
struct writer {
    struct arena *arena;
    const char *text;
    struct buf out;
    uint32_t copied;    /* of the text */
    size_t recursive;   /* in out: where the last RECURSIVE begins, and ends */
    size_t recursive_end;
};

static void insert(struct buf *out, size_t at, const char *text)
{
    ASSERT(at <= out->len);
    size_t len = strlen(text), behind = out->len - at;
    buf_append(out, text, len);
    memmove(out->data + at + len, out->data + at, behind);
    memcpy(out->data + at, text, len);
}

static void write_column(struct writer *w, const struct sql_token *t)
{
    struct sql_mutual_column column;
    if (!sql_mutual_column(w->arena, t->text, &column)) {
        return;
    }
    buf_append(&w->out, w->text + w->copied, t->start - w->copied);
    w->copied = t->end;
    if (column.first) {
        if (column.limit > 0) {
            insert(&w->out, w->recursive_end,
                   arena_printf(w->arena, " (%s AT RECURSION LIMIT %llu)",
                                column.returns ? "RETURN" : "ERROR",
                                (unsigned long long)column.limit));
        }
        insert(&w->out, w->recursive, "MUTUALLY ");
    }
    buf_printf(&w->out, "%s %s", sql_quote_ident(w->arena, column.name), column.type);
}

const char *sql_mutual_text(struct arena *arena, const char *text)
{
    if (strchr(text, MARK) == NULL) {
        return text;
    }
    struct writer w = {.arena = arena, .text = text};
    struct sql_lexer lexer = {.arena = arena, .text = text, .end = (uint32_t)strlen(text)};
    struct sql_token t;
    do {
        err_t err = sql_lex(&lexer, &t);
        ASSERT(err == ERR_OK); /* the deparser wrote it */
        if (is_word(&t, "recursive")) {
            buf_append(&w.out, text + w.copied, t.end - w.copied);
            w.copied = t.end;
            w.recursive_end = w.out.len;
            w.recursive = w.out.len - (t.end - t.start);
        } else if (t.kind == SQL_TOKEN_IDENT && t.quoted) {
            write_column(&w, &t);
        }
    } while (t.kind != SQL_TOKEN_END);
    buf_append_str(&w.out, text + w.copied);
    const char *out = arena_strdup(arena, buf_cstr(&w.out));
    buf_free(&w.out);
    return out;
}
