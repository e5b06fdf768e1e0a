/*
 * Functions that are not the engine's: values of the session, and functions of pg_catalog, which
 * are SQL over catalog tables or constants. psql and drivers ask for them; one table lists all.
 *
 *   pg_get_userbyid($1)  ->  coalesce((SELECT rolname::text FROM pg_catalog.pg_roles
 *                                      WHERE oid = $1), 'unknown (OID=' || $1::text || ')')
 *
 * A macro's body is parsed and analysed with $n as the columns of a scope of its own, then the
 * call's arguments are put in their place (az_macro). So a catalog function in a query over
 * pg_class is a join with pg_roles, planned with everything else, and no part of the engine knows
 * the catalog. An argument that is used twice is computed twice; none has effects.
 *
 * Values of the session (current_user, now(), current_setting) become literals at planning: now()
 * is the transaction's time by PostgreSQL's rules. In a maintained view they are refused where they
 * would change later.
 *
 * Also here: names in quotes that stand for oids ('t'::regclass), and array literals.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "core/data/array.h"

#include "ctrl/adapter/sql/typing.h"

#include <ctype.h>

struct macro {
    const char *name;
    uint32_t args_min, args_max;
    const char *body; /* SQL over $1..$n; missing arguments are NULL */
};

/*
 * Where there is nothing behind a function here (privileges, sizes, rules) it says what an
 * environment without that says: allowed, 0, NULL.
 */
static const struct macro macros[] = {
    {"pg_table_is_visible", 1, 1, "true"},
    {"pg_type_is_visible", 1, 1, "true"},
    {"pg_function_is_visible", 1, 1, "true"},
    {"pg_operator_is_visible", 1, 1, "true"},
    {"pg_collation_is_visible", 1, 1, "true"},
    {"pg_opclass_is_visible", 1, 1, "true"},
    {"pg_conversion_is_visible", 1, 1, "true"},
    {"pg_opfamily_is_visible", 1, 1, "true"},
    {"pg_statistics_obj_is_visible", 1, 1, "true"},
    {"pg_ts_config_is_visible", 1, 1, "true"},
    {"pg_ts_dict_is_visible", 1, 1, "true"},
    {"pg_ts_parser_is_visible", 1, 1, "true"},
    {"pg_ts_template_is_visible", 1, 1, "true"},
    {"pg_relation_is_publishable", 1, 1, "false"},
    {"pg_is_in_recovery", 0, 0, "false"},
    {"pg_is_other_temp_schema", 1, 1, "false"},
    {"pg_my_temp_schema", 0, 0, "0::oid"},
    {"has_table_privilege", 2, 3, "true"},
    {"has_schema_privilege", 2, 3, "true"},
    {"has_database_privilege", 2, 3, "true"},
    {"has_column_privilege", 3, 4, "true"},
    {"has_any_column_privilege", 2, 3, "true"},
    {"pg_has_role", 2, 3, "true"},
    {"pg_get_expr", 2, 3, "$1::text"},
    {"pg_get_constraintdef", 1, 2, "NULL::text"},
    {"pg_get_partkeydef", 1, 1, "NULL::text"},
    {"pg_get_ruledef", 1, 2, "NULL::text"},
    {"pg_get_triggerdef", 1, 2, "NULL::text"},
    {"pg_get_statisticsobjdef_columns", 1, 1, "NULL::text"},
    {"pg_get_function_result", 1, 1,
     "(SELECT max(return_type) FROM mz_catalog.mz_functions WHERE oid = $1)"},
    {"pg_get_function_arguments", 1, 1,
     "(SELECT max(argument_types) FROM mz_catalog.mz_functions WHERE oid = $1)"},
    {"pg_get_function_identity_arguments", 1, 1,
     "(SELECT max(argument_types) FROM mz_catalog.mz_functions WHERE oid = $1)"},
    {"pg_get_function_sqlbody", 1, 1, "NULL::text"},
    {"getdatabaseencoding", 0, 0, "'UTF8'::text"},
    {"pg_char_to_encoding", 1, 1, "CASE upper($1::text) WHEN 'UTF8' THEN 6 ELSE -1 END"},
    {"pg_get_serial_sequence", 2, 2, "NULL::text"},
    {"pg_get_functiondef", 1, 1, "NULL::text"},
    {"pg_tablespace_location", 1, 1, "''::text"},
    {"obj_description", 1, 2,
     "(SELECT max(description::text) FROM pg_catalog.pg_description "
     "WHERE objoid = $1 AND objsubid = 0)"},
    {"col_description", 2, 2,
     "(SELECT max(description::text) FROM pg_catalog.pg_description "
     "WHERE objoid = $1 AND objsubid = $2::int4)"},
    {"shobj_description", 2, 2, "NULL::text"},
    {"pg_table_size", 1, 1, "0::int8"},
    {"pg_total_relation_size", 1, 1, "0::int8"},
    {"pg_relation_size", 1, 2, "0::int8"},
    {"pg_indexes_size", 1, 1, "0::int8"},
    {"pg_database_size", 1, 1, "0::int8"},
    {"pg_tablespace_size", 1, 1, "0::int8"},
    {"pg_size_pretty", 1, 1, "$1::text || ' bytes'"},
    {"pg_encoding_to_char", 1, 1, "CASE $1 WHEN 6 THEN 'UTF8' WHEN 0 THEN 'SQL_ASCII' ELSE '' END"},
    {"pg_get_userbyid", 1, 1,
     "coalesce((SELECT rolname::text FROM pg_catalog.pg_roles WHERE oid = $1), "
     "'unknown (OID=' || $1::text || ')')"},
    {"pg_get_viewdef", 1, 2,
     "(SELECT definition FROM mz_internal.mz_object_definitions WHERE oid = $1)"},
    {"pg_get_indexdef", 1, 3,
     "(SELECT definition FROM mz_internal.mz_object_definitions WHERE oid = $1)"},
    {"format_type", 2, 2,
     "CASE $1 WHEN 16 THEN 'boolean' WHEN 17 THEN 'bytea' WHEN 18 THEN '\"char\"' "
     "WHEN 19 THEN 'name' WHEN 20 THEN 'bigint' WHEN 21 THEN 'smallint' WHEN 23 THEN 'integer' "
     "WHEN 25 THEN 'text' WHEN 26 THEN 'oid' WHEN 700 THEN 'real' "
     "WHEN 701 THEN 'double precision' WHEN 1082 THEN 'date' "
     "WHEN 1083 THEN 'time without time zone' WHEN 1114 THEN 'timestamp without time zone' "
     "WHEN 1184 THEN 'timestamp with time zone' WHEN 1186 THEN 'interval' "
     "WHEN 2950 THEN 'uuid' WHEN 3802 THEN 'jsonb' "
     "WHEN 1042 THEN CASE WHEN $2::int4 > 4 THEN 'character(' || ($2::int4 - 4)::text || ')' "
     "ELSE 'character' END "
     "WHEN 1043 THEN CASE WHEN $2::int4 > 4 THEN 'character varying(' || ($2::int4 - 4)::text || "
     "')' "
     "ELSE 'character varying' END "
     "WHEN 1700 THEN CASE WHEN $2::int4 > 4 THEN 'numeric(' || (($2::int4 - 4) / 65536)::text || "
     "',' || "
     "(($2::int4 - 4) % 65536)::text || ')' ELSE 'numeric' END "
     "ELSE coalesce((SELECT typname::text FROM pg_catalog.pg_type WHERE oid = $1), '?' || '?' || "
     "'?') END"},
    {"jsonb_build_array", 0, 0, "'[]'::jsonb"},
    {"jsonb_build_object", 0, 0, "'{}'::jsonb"},
    {"pi", 0, 0, "3.141592653589793::float8"},
    {"array_to_string", 2, 2, "replace(btrim($1::text, '{}'), ',', $2)"},
    {"quote_ident", 1, 1,
     "CASE WHEN $1 ~ '^[a-z_][a-z0-9_]*$' THEN $1 ELSE '\"' || replace($1, '\"', '\"\"') || '\"' "
     "END"},
    {"to_regclass", 1, 1, "$1::regclass"},
    {"mz_environment_id", 0, 0, "''::text"},
};

/* ---- expansion ------------------------------------------------------------------------------- */

/* The call's arguments, for the columns of the body's scope. */
struct macro_args {
    struct sx **args;
    uint32_t len;
};

/* A column of the outermost scope is an argument; the body's own columns are none of these. */
static struct sx *macro_arg(void *arg, struct sx *col, uint32_t level)
{
    struct macro_args *m = arg;
    ASSERT(level == 0 && col->col < m->len);
    return m->args[col->col];
}

/* The body as the only target of a SELECT without FROM; its tree lives as long as the planning. */
static err_t macro_analyse(struct az *az, const char *body, struct nsitem *params, struct sx **out)
{
    ASSERT(az->macro && az->text == NULL);
    const char *text = arena_printf(az->arena, "SELECT %s", body);
    struct sql_script *script = NULL;
    TRY(sql_parse(text, strlen(text), &script));
    *VEC_PUSH(az, scripts) = script;
    ASSERT(script->stmts_len == 1);
    const PgQuery__SelectStmt *select = script->stmts[0]->ast->node->select_stmt;
    struct nsitem **items = ARENA_ARRAY(az->arena, struct nsitem *, 1);
    items[0] = params;
    struct scope *scope = ARENA_NEW(az->arena, struct scope);
    scope->items = items;
    scope->items_len = 1;
    scope->no_aggs = "catalog functions";
    return az_expr(az, scope, select->target_list[0]->res_target->val, out);
}

/* The body is analysed once per call with the arguments' types, then they are put in. What the
 * surrounding statement has (its text, WITH, positions, an empty catalog table) does not concern
 * it. Also used for columns' defaults, which have no arguments. */
err_t az_macro(struct az *az, const char *body, struct sx **args, uint32_t args_len,
               struct sx **out)
{
    ASSERT(body != NULL);
    struct schema columns = {.cols = args_len};
    columns.types = ARENA_ARRAY(az->arena, struct type, args_len);
    columns.names = ARENA_ARRAY(az->arena, const char *, args_len);
    for (uint32_t i = 0; i < args_len; i++) {
        TRY(az_settle(az, args[i], &args[i]));
        columns.types[i] = args[i]->type;
        columns.names[i] = "";
    }
    struct nsitem *params = az_nsitem(az, NULL, NULL, &columns);
    params->cols_visible = false;
    const char *saved_text = az->text;
    struct cte *ctes = az->ctes;
    bool macro = az->macro, qualify = az->qualify;
    uint32_t dead = az->dead;
    az->text = NULL;
    az->ctes = NULL;
    az->macro = true;
    az->qualify = false;
    az->dead = 0;
    az->view_depth++;
    struct sx *value = NULL;
    err_t err = az_enter(az);
    if (err == ERR_OK) {
        err = macro_analyse(az, body, params, &value);
        az_leave(az);
    }
    az->view_depth--;
    az->dead = dead;
    az->text = saved_text;
    az->ctes = ctes;
    az->macro = macro;
    az->qualify = qualify;
    TRY(err);
    TRY(az_settle(az, value, &value));
    struct macro_args m = {.args = args, .len = args_len};
    *out = sx_map_outer(az->arena, value, macro_arg, &m);
    return ERR_OK;
}

/* ---- values of the session ------------------------------------------------------------------- */

/* NULL stays NULL. */
static struct sx *text_value(struct az *az, const char *text)
{
    return text == NULL ? sx_null(az->arena, type_of(TYPE_TEXT)) : sx_text(az->arena, text);
}

/* Of type name (19), as PostgreSQL describes it. */
static struct sx *name_value(struct az *az, const char *text)
{
    struct sx *sx = text_value(az, text);
    sx->type.oid = 19;
    return sx;
}

/*
 * Of the statement's now; the time zone is UTC, so all kinds are the same instant. Days are rounded
 * down, for times before 1970 too.
 */
static struct sx *time_value(struct az *az, enum type_kind kind)
{
    ASSERT(kind == TYPE_DATE || kind == TYPE_TIME || kind == TYPE_TIMESTAMP ||
           kind == TYPE_TIMESTAMPTZ);
    int64_t us = az->cx->now_us;
    int64_t day = 86400LL * 1000000;
    int64_t days = us / day - (us % day < 0 ? 1 : 0);
    int64_t value = kind == TYPE_DATE ? days : kind == TYPE_TIME ? us - days * day : us;
    return sx_lit(az->arena, type_of(kind), (struct datum){.i = value});
}

static bool is_any(const char *name, const char *const *names, size_t len)
{
    ASSERT(name != NULL);
    for (size_t i = 0; i < len; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/*
 * now() and its relatives; NULL when the name is none of them. clock_timestamp() stands still
 * during a statement, which here is a moment.
 */
static struct sx *clock_function(struct az *az, const char *name)
{
    static const char *const nows[] = {"now", "transaction_timestamp", "statement_timestamp",
                                       "clock_timestamp", "current_timestamp"};
    if (is_any(name, nows, ARRAY_LEN(nows))) {
        return time_value(az, TYPE_TIMESTAMPTZ);
    }
    return strcmp(name, "current_date") == 0     ? time_value(az, TYPE_DATE)
           : strcmp(name, "localtimestamp") == 0 ? time_value(az, TYPE_TIMESTAMP)
           : strcmp(name, "localtime") == 0      ? time_value(az, TYPE_TIME)
                                                 : NULL;
}

/* Who, where, which version; NULL when the name is none of them. */
static struct sx *session_function(struct az *az, const char *name)
{
    const struct sql_context *cx = az->cx;
    static const char *const users[] = {"current_user", "session_user", "user", "current_role"};
    if (is_any(name, users, ARRAY_LEN(users))) {
        return name_value(az, cx->user);
    }
    if (strcmp(name, "current_database") == 0 || strcmp(name, "current_catalog") == 0) {
        return name_value(az, cx->database);
    }
    if (strcmp(name, "current_schema") == 0) {
        return name_value(az, cx->schema);
    }
    if (strcmp(name, "version") == 0) {
        return text_value(az, cx->version);
    }
    if (strcmp(name, "pg_backend_pid") == 0) {
        return sx_lit(az->arena, type_of(TYPE_INT4), (struct datum){.i = cx->backend_pid});
    }
    if (strcmp(name, "pg_postmaster_start_time") == 0) {
        return time_value(az, TYPE_TIMESTAMPTZ);
    }
    return NULL;
}

/*
 * current_setting(name [, missing_ok]): constant names only, as the session answers while planning.
 */
static err_t setting(struct az *az, struct sx **args, uint32_t len, int location, struct sx **out)
{
    ASSERT(len >= 1);
    struct sx *name = NULL;
    TRY(az_coerce(az, args[0], type_of(TYPE_TEXT), CAST_IMPLICIT, &name));
    name = sx_fold(az->arena, name);
    if (name->kind != SX_LIT || name->lit.null) {
        return AZ_UNSUPPORTED(az, location, "current_setting needs a constant name");
    }
    const char *key = arena_strndup(az->arena, name->lit.s, name->lit.len);
    const struct sql_catalog *catalog = az->cx->catalog;
    const char *value =
        catalog->setting != NULL ? catalog->setting(az->cx->catalog_ctx, key) : NULL;
    if (value == NULL && len == 1) {
        return az_err(az, location, ERR_NOT_FOUND, "42704",
                      "unrecognized configuration parameter \"%s\"", key);
    }
    *out = text_value(az, value);
    return ERR_OK;
}

/* current_schemas(true|false): the search path as a name array. */
static struct sx *schemas(struct az *az)
{
    const char *own = az->cx->schema;
    struct sx *sx = sx_text(
        az->arena, own == NULL ? "{pg_catalog}" : arena_printf(az->arena, "{pg_catalog,%s}", own));
    sx->type.oid = 1003;
    return sx;
}

/*
 * Session values first, then macros; *out NULL when the name is none of them, with these many
 * arguments: then core/data's catalogue is asked.
 */
err_t az_catalog_function(struct az *az, struct scope *scope, const char *schema, const char *name,
                          struct sx **args, uint32_t args_len, int location, struct sx **out)
{
    ASSERT(name != NULL);
    (void)scope;
    *out = NULL;
    if (schema != NULL && strcmp(schema, "pg_catalog") != 0 && strcmp(schema, "mz_catalog") != 0 &&
        strcmp(schema, "mz_internal") != 0) {
        return ERR_OK;
    }
    if (args_len == 0) {
        struct sx *now = clock_function(az, name);
        if (now != NULL && az->maintained) {
            return err_hint(
                AZ_UNSUPPORTED(az, location, "a view cannot depend on the clock (%s)", name),
                "Rows that come and go with the time are selected by comparing it: mz_now() <= "
                "created_at + INTERVAL '1 hour'.");
        }
        *out = now != NULL                    ? now
               : strcmp(name, "mz_now") == 0 ? az_now(az)
                                             : session_function(az, name);
    } else if (strcmp(name, "current_setting") == 0 && args_len <= 2) {
        TRY(setting(az, args, args_len, location, out));
    } else if (strcmp(name, "current_schemas") == 0 && args_len == 1) {
        *out = schemas(az);
    }
    for (size_t i = 0; i < ARRAY_LEN(macros) && *out == NULL; i++) {
        if (strcmp(macros[i].name, name) == 0 && args_len >= macros[i].args_min &&
            args_len <= macros[i].args_max) {
            TRY(az_macro(az, macros[i].body, args, args_len, out));
        }
    }
    if (*out != NULL) {
        (*out)->location = location;
    }
    return ERR_OK;
}

/* ---- 'name'::regclass ------------------------------------------------------------------------ */

/* Splits a possibly quoted, possibly qualified name; returns how many parts there are. */
static uint32_t split_name(struct az *az, const char *text, const char *parts[3])
{
    ASSERT(text != NULL);
    uint32_t n = 0;
    const char *s = text;
    while (n < 3) {
        char *part = arena_alloc(az->arena, strlen(s) + 1);
        size_t len = 0;
        bool quoted = *s == '"';
        s += quoted ? 1 : 0;
        while (*s != '\0' && (quoted || *s != '.')) {
            if (quoted && *s == '"') {
                if (s[1] != '"') {
                    s++;
                    break;
                }
                s++;
            }
            part[len++] = quoted ? *s : (char)tolower((unsigned char)*s);
            s++;
        }
        parts[n++] = part;
        if (*s != '.') {
            break;
        }
        s++;
    }
    return n;
}

/* By the search path, like a name in FROM. */
static err_t regclass_literal(struct az *az, const char *text, int location, struct datum *out)
{
    ASSERT(az->cx->catalog != NULL);
    const char *parts[3];
    uint32_t n = split_name(az, text, parts);
    const struct sql_relation *relation = NULL;
    uint32_t view_depth = az->view_depth++; /* an oid is no dependency */
    err_t err = az_relation(az, n == 3 ? parts[0] : NULL, n >= 2 ? parts[n - 2] : NULL,
                            parts[n - 1], location, &relation);
    az->view_depth = view_depth;
    TRY(err);
    *out = (struct datum){.i = relation->oid};
    return ERR_OK;
}

/* 'name'::regclass: an oid. Digits are the oid itself, "-" is 0. */
err_t az_reg_literal(struct az *az, const char *text, uint32_t oid, int location, struct datum *out)
{
    ASSERT(text != NULL);
    char *end = NULL;
    long value = strtol(text, &end, 10);
    *out = (struct datum){.i = value};
    if (end != text && *end == '\0') {
        return ERR_OK;
    }
    if (strcmp(text, "-") == 0) {
        out->i = 0;
        return ERR_OK;
    }
    if (oid == OID_REGCLASS) {
        return regclass_literal(az, text, location, out);
    }
    if (oid == OID_REGTYPE) {
        const char *parts[3];
        uint32_t n = split_name(az, text, parts);
        struct type type;
        if (type_of_name(parts[n - 1], -1, &type)) {
            out->i = type.oid;
            return ERR_OK;
        }
        return az_err(az, location, ERR_NOT_FOUND, "42704", "type \"%s\" does not exist", text);
    }
    return AZ_UNSUPPORTED(az, location, "a constant \"%s\" of this type is not supported", text);
}

/* ---- array literals -------------------------------------------------------------------------- */

/* One dimension; an item that is NULL is a null pointer. */
err_t az_array_items(struct az *az, const char *text, int location, const char ***items,
                     uint32_t *len)
{
    ASSERT(text != NULL);
    struct array_reader reader = array_open(text, strlen(text));
    *items = ARENA_ARRAY(az->arena, const char *, reader.len + 1);
    *len = 0;
    struct buf item = {0};
    enum array_next next;
    while ((next = array_next(&reader, &item)) == ARRAY_ITEM || next == ARRAY_NULL) {
        (*items)[(*len)++] = next == ARRAY_NULL ? NULL
                                                : arena_strndup(az->arena, (char *)item.data,
                                                                item.len);
    }
    buf_free(&item);
    if (next == ARRAY_BAD) {
        return az_err(az, location, ERR_INVALID, "22P02", "malformed array literal: \"%.*s\"",
                      (int)array_shown(text, strlen(text)), text);
    }
    if (reader.nested) {
        return AZ_UNSUPPORTED(az, location, "multidimensional arrays are not supported");
    }
    return ERR_OK;
}
