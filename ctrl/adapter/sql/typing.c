/*
 * PostgreSQL's type rules: names, coercion by context, common types of UNION and CASE. How they
 * choose is described in PostgreSQL's manual, chapter 10 "Type Conversion".
 *
 * A struct type has a kind, which is how the engine lays values out, and an OID, which is what the
 * SQL user sees: varchar, name and arrays are text in the engine, regclass is an oid. Coercion
 * changes the kind by a cast function; between types of one kind it only relabels (SX_RELABEL), and
 * applies the length or precision the target has (apply_typmod):
 *
 *   x::varchar(3)   x int   ->   varchar(cast(x), 3, explicit)      a function call each
 *   n::text         n name  ->   relabel                            nothing to compute
 *
 * Contexts widen: implicit (an operator's argument), assignment (INSERT), explicit (CAST). An
 * untyped literal is read by the target's own input syntax, with that type's error and the
 * literal's position; an untyped parameter takes the type of its first use, as in PostgreSQL.
 *
 * Entry points: az_type, az_coerce, az_settle, az_to_bool, az_common_type.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "ctrl/adapter/sql/typing.h"

/* A SQL type without a kind of its own. */
struct pseudo_type {
    const char *name;
    uint8_t kind;
    uint32_t oid;
};

/* Types that exist for the SQL user but are laid out as another kind. */
static const struct pseudo_type pseudo_types[] = {
    {"char", TYPE_TEXT, 18},
    {"name", TYPE_TEXT, 19},
    {"regproc", TYPE_OID, 24},
    {"oid", TYPE_OID, 26},
    {"xid", TYPE_OID, 28},
    {"regprocedure", TYPE_OID, 2202},
    {"regclass", TYPE_OID, OID_REGCLASS},
    {"regtype", TYPE_OID, OID_REGTYPE},
    {"regrole", TYPE_OID, OID_REGROLE},
    {"regnamespace", TYPE_OID, OID_REGNAMESPACE},
    {"pg_node_tree", TYPE_TEXT, 194},
    {"aclitem", TYPE_TEXT, 1033},
    {"int2vector", TYPE_TEXT, 22},
    {"oidvector", TYPE_TEXT, 30},
    {"cstring", TYPE_TEXT, 2275},
    {"json", TYPE_JSONB, 3802},
};

/* oid and xid themselves are numbers. */
bool type_is_reg(const struct type *type)
{
    return type->kind == TYPE_OID && type->oid != 26 && type->oid != 28 && type->oid != 0;
}

/* Of comparisons and tests. */
struct type type_bool(bool nullable)
{
    struct type type = type_of(TYPE_BOOL);
    type.nullable = nullable;
    return type;
}

/* An untyped literal, or a parameter nothing has decided about. */
bool type_is_unknown(const struct sx *sx)
{
    return sx->type.kind == TYPE_UNKNOWN;
}

/* As format_type has it, without the modifier: messages about types never show it. */
const char *az_type_name(const struct az *az, const struct type *type)
{
    ASSERT(type != NULL);
    if (type->kind == TYPE_UNKNOWN) {
        return "unknown";
    }
    for (size_t i = 0; i < ARRAY_LEN(pseudo_types); i++) {
        if (pseudo_types[i].oid == type->oid && type->oid != 3802) {
            return type->oid == 18 ? "\"char\"" : pseudo_types[i].name;
        }
    }
    struct type plain = *type;
    plain.typmod = -1;
    uint32_t element = type_element_of(type->oid);
    if (element != 0) {
        struct type of = plain;
        of.oid = element;
        if (type_of_oid(element, -1, &of)) {
            return arena_printf(az->arena, "%s[]", type_format(az->arena, &of));
        }
    }
    return type_format(az->arena, &plain);
}

/* ---- type names ------------------------------------------------------------------------------ */

/* Modifiers are small integers for all types here. */
static err_t typmod_value(struct az *az, const pg_node *node, int location, int *out)
{
    if (node->node_case == PG_QUERY__NODE__NODE_A_CONST &&
        node->a_const->val_case == PG_QUERY__A__CONST__VAL_IVAL) {
        *out = node->a_const->ival->ival;
        return ERR_OK;
    }
    return az_err(az, location, ERR_INVALID, "22023",
                  "type modifiers must be simple constants or identifiers");
}

/* varchar(n), char(n): n + 4, as PostgreSQL stores it (VARHDRSZ). */
static err_t length_typmod(struct az *az, const char *name, int n, int location, int32_t *out)
{
    ASSERT(name != NULL && out != NULL);
    const char *shown = strcmp(name, "bpchar") == 0 ? "char" : name;
    if (n < 1) {
        return az_err(az, location, ERR_INVALID, "22023", "length for type %s must be at least 1",
                      shown);
    }
    if (n > 10485760) {
        return az_err(az, location, ERR_INVALID, "22023",
                      "length for type %s cannot exceed 10485760", shown);
    }
    *out = n + 4;
    return ERR_OK;
}

/* numeric(p, s): (p << 16 | s) + 4. The engine has 38 digits, where PostgreSQL allows 1,000. */
static err_t numeric_typmod(struct az *az, const int *n, size_t len, int location, int32_t *out)
{
    ASSERT(len >= 1);
    if (n[0] < 1 || n[0] > 38) {
        return az_err(az, location, ERR_INVALID, "22023",
                      "NUMERIC precision %d must be between 1 and 38", n[0]);
    }
    int scale = len > 1 ? n[1] : 0;
    if (scale < 0 || scale > n[0]) {
        return az_err(az, location, ERR_INVALID, "22023",
                      "NUMERIC scale %d must be between 0 and precision %d", scale, n[0]);
    }
    *out = ((n[0] << 16) | (scale & 0x7ff)) + 4;
    return ERR_OK;
}

/*
 * The modifier in parentheses; -1: none. Precisions of times above 6 become 6 (PostgreSQL warns).
 */
static err_t type_modifier(struct az *az, const PgQuery__TypeName *name, const char *type,
                           int32_t *out)
{
    *out = -1;
    if (name->n_typmods == 0) {
        return ERR_OK;
    }
    int n[2] = {0, 0};
    for (size_t i = 0; i < name->n_typmods && i < 2; i++) {
        TRY(typmod_value(az, name->typmods[i], name->location, &n[i]));
    }
    if (strcmp(type, "varchar") == 0 || strcmp(type, "bpchar") == 0) {
        return length_typmod(az, type, n[0], name->location, out);
    }
    if (strcmp(type, "numeric") == 0) {
        return numeric_typmod(az, n, name->n_typmods, name->location, out);
    }
    if (strcmp(type, "timestamp") == 0 || strcmp(type, "timestamptz") == 0 ||
        strcmp(type, "time") == 0) {
        /* Microseconds are all there is. */
        *out = n[0] > 6 ? 6 : n[0];
        return ERR_OK;
    }
    if (strcmp(type, "interval") == 0) {
        *out = interval_typmod(n[0], name->n_typmods > 1, n[1]);
        return ERR_OK;
    }
    return az_err(az, name->location, ERR_INVALID, "42601",
                  "type modifier is not allowed for type \"%s\"", type);
}

/* A type's name as the grammar gives it: int is int4 there already. */
static bool type_by_name(const char *name, int32_t typmod, struct type *out)
{
    for (size_t i = 0; i < ARRAY_LEN(pseudo_types); i++) {
        if (strcmp(pseudo_types[i].name, name) == 0) {
            *out = type_of((enum type_kind)pseudo_types[i].kind);
            out->oid = pseudo_types[i].oid;
            return true;
        }
    }
    return type_of_name(name, typmod, out);
}

/* A type as written: name, modifier, [] for an array. Types live in pg_catalog only. */
err_t az_type(struct az *az, const PgQuery__TypeName *name, struct type *out)
{
    ASSERT(name != NULL && name->n_names > 0);
    const char *schema = NULL;
    const char *type = pg_name(name->names, name->n_names, &schema);
    ASSERT(type != NULL);
    int32_t typmod = -1;
    bool known = schema == NULL || strcmp(schema, "pg_catalog") == 0;
    if (known) {
        TRY(type_modifier(az, name, type, &typmod));
        known = type_by_name(type, typmod, out);
    }
    if (!known) {
        return az_err(az, name->location, ERR_INVALID, "42704", "type \"%s%s%s\" does not exist",
                      schema == NULL ? "" : schema, schema == NULL ? "" : ".", type);
    }
    /* Dimensions and bounds are not part of a type, as in PostgreSQL. */
    if (name->n_array_bounds > 0) {
        uint32_t oid = type_array_of(out->oid);
        if (oid == 0) {
            return AZ_UNSUPPORTED(az, name->location, "arrays of type %s are not supported",
                                  az_type_name(az, out));
        }
        *out = type_of(TYPE_TEXT);
        out->oid = oid;
    }
    return ERR_OK;
}

/* ---- coercion -------------------------------------------------------------------------------- */

/* pg_type.typcategory: which types are of one family when candidates are compared. */
char type_category(uint8_t kind)
{
    switch (kind) {
    case TYPE_BOOL:
        return 'B';
    case TYPE_INT2:
    case TYPE_INT4:
    case TYPE_INT8:
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
    case TYPE_NUMERIC:
    case TYPE_OID:
        return 'N';
    case TYPE_TEXT:
        return 'S';
    case TYPE_DATE:
    case TYPE_TIME:
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMPTZ:
        return 'D';
    case TYPE_INTERVAL:
        return 'T';
    case TYPE_UNKNOWN:
        return 'X';
    default:
        return 'U';
    }
}

/* pg_type.typispreferred: what a family's ambiguities are settled for. */
bool type_is_preferred(uint8_t kind)
{
    return kind == TYPE_BOOL || kind == TYPE_FLOAT8 || kind == TYPE_TEXT ||
           kind == TYPE_TIMESTAMPTZ || kind == TYPE_INTERVAL || kind == TYPE_OID;
}

/*
 * May `from` become `to` in the context? Casts pg_cast does not list go through text, as
 * PostgreSQL's automatic I/O casts: to strings by assignment, from strings explicitly.
 */
bool kind_can_coerce(uint8_t from, uint8_t to, enum cast_context context)
{
    ASSERT(from < TYPE_KIND_MAX && to < TYPE_KIND_MAX);
    if (from == to || from == TYPE_UNKNOWN) {
        return true;
    }
    if (to == TYPE_UNKNOWN) {
        return false;
    }
    enum cast_context have = cast_context((enum type_kind)from, (enum type_kind)to);
    if (have == CAST_NONE && cast_find((enum type_kind)from, (enum type_kind)to) != NULL) {
        /* Through text: assignment to a string, explicit from one. */
        have = to == TYPE_TEXT ? CAST_ASSIGNMENT : CAST_EXPLICIT;
    }
    return have >= context && have != CAST_NONE;
}

/* By kinds: types of one kind always convert. */
bool az_can_coerce(const struct sx *sx, struct type to, enum cast_context context)
{
    return kind_can_coerce(sx->type.kind, to.kind, context);
}

/* The same bytes under another SQL type; nothing to compute. */
static struct sx *relabel(struct az *az, struct sx *sx, struct type to)
{
    ASSERT(sx->type.kind == to.kind);
    to.nullable = sx->type.nullable;
    if (sx->type.oid == to.oid && sx->type.typmod == to.typmod) {
        return sx;
    }
    if (sx->kind == SX_LIT) {
        struct sx *lit = arena_memdup(az->arena, sx, sizeof(*sx));
        lit->type = to;
        return lit;
    }
    struct sx *r = sx_new(az->arena, SX_RELABEL, to);
    r->location = sx->location;
    r->args = ARENA_ARRAY(az->arena, struct sx *, 1);
    r->args[0] = sx->kind == SX_RELABEL ? sx->args[0] : sx;
    r->args_len = 1;
    return r;
}

/* varchar(n), char(n), numeric(p,s), timestamp(p): the function that enforces the modifier. An
 * explicit cast to varchar(n) cuts, an assignment of what is too long fails (22001): the
 * function is told which. */
static struct sx *apply_typmod(struct az *az, struct sx *sx, struct type to, bool explicit)
{
    ASSERT(sx->type.kind == to.kind);
    if (to.typmod < 0 || (sx->type.typmod == to.typmod && sx->type.oid == to.oid)) {
        return relabel(az, sx, to);
    }
    const char *name = to.oid == OID_VARCHAR         ? "varchar"
                       : to.oid == OID_BPCHAR        ? "bpchar"
                       : to.kind == TYPE_NUMERIC     ? "numeric"
                       : to.kind == TYPE_TIMESTAMP   ? "timestamp"
                       : to.kind == TYPE_TIMESTAMPTZ ? "timestamptz"
                       : to.kind == TYPE_INTERVAL    ? "interval"
                                                     : "";
    uint8_t kinds[3] = {to.kind, TYPE_INT4, TYPE_BOOL};
    /* Strings are told whether the cast is explicit: then what is too long is cut. */
    bool text = to.kind == TYPE_TEXT;
    const struct func *func = func_find(name, kinds, text ? 3 : 2);
    if (func == NULL) {
        return relabel(az, sx, to);
    }
    struct sx *args[3] = {sx, sx_lit(az->arena, type_of(TYPE_INT4), (struct datum){.i = to.typmod}),
                          sx_bool(az->arena, explicit)};
    to.nullable = sx->type.nullable;
    struct sx *call = sx_call(az->arena, func, to, args, text ? 3 : 2);
    call->location = sx->location;
    return call;
}

/* PostgreSQL's input function of the type decides, with its errors. The literal is parsed without
 * the modifier, which is applied afterwards, as PostgreSQL does it. */
static err_t coerce_unknown_literal(struct az *az, struct sx *sx, struct type to,
                                    enum cast_context context, struct sx **out)
{
    ASSERT(sx->kind == SX_LIT && type_is_unknown(sx));
    if (sx->lit.null) {
        *out = sx_null(az->arena, to);
        (*out)->location = sx->location;
        return ERR_OK;
    }
    struct datum value = {0};
    struct type plain = to;
    plain.typmod = -1;
    if (type_is_reg(&to)) {
        TRY(az_reg_literal(az, sx->lit.s, to.oid, sx->location, &value));
    } else if (interval_has_fields(&to)) {
        err_t err = interval_parse_fields(az->arena, &to, sx->lit.s, &value);
        if (err != ERR_OK) {
            return az_position(az, err, sx->location);
        }
        *out = sx_lit(az->arena, plain, value);
        (*out)->location = sx->location;
        return ERR_OK;
    } else {
        err_t err = datum_parse(&plain, sx->lit.s, sx->lit.len, az->arena, &value);
        if (err != ERR_OK) {
            return az_position(az, err, sx->location);
        }
    }
    *out = sx_lit(az->arena, plain, value);
    (*out)->location = sx->location;
    *out = apply_typmod(az, *out, to, context == CAST_EXPLICIT);
    return ERR_OK;
}

/* The first use that needs a type decides it; later ones convert from that. */
static err_t coerce_param(struct az *az, struct sx *sx, struct type to, struct sx **out)
{
    ASSERT(sx->kind == SX_PARAM);
    ASSERT(sx->col < az->params_len);
    struct type *known = &az->param_types[sx->col];
    if (known->kind == 0 || known->kind == TYPE_UNKNOWN) {
        *known = to;
        known->typmod = -1;
        known->nullable = true;
    }
    struct sx *copy = arena_memdup(az->arena, sx, sizeof(*sx));
    copy->type = *known;
    if (known->kind == to.kind) {
        copy->type = to;
        copy->type.nullable = true;
        *out = copy;
        return ERR_OK;
    }
    return az_coerce(az, copy, to, CAST_ASSIGNMENT, out);
}

/* 42846 at the expression. */
static err_t cannot_coerce(struct az *az, struct sx *sx, struct type to)
{
    ASSERT(sx != NULL);
    return az_err(az, sx->location, ERR_INVALID, "42846", "cannot cast type %s to %s",
                  az_type_name(az, &sx->type), az_type_name(az, &to));
}

/*
 * Name of an object for its oid. The name of an object for its oid, or the digits when there is
 * none: a macro over the catalog.
 */
static err_t reg_to_text(struct az *az, struct sx *sx, struct sx **out)
{
    ASSERT(type_is_reg(&sx->type));
    const char *body = "$1::oid::text";
    switch (sx->type.oid) {
    case OID_REGCLASS:
        body = "coalesce((SELECT relname::text FROM pg_catalog.pg_class WHERE oid = $1), "
               "$1::oid::text)";
        break;
    case OID_REGNAMESPACE:
        body = "coalesce((SELECT nspname::text FROM pg_catalog.pg_namespace WHERE oid = $1), "
               "$1::oid::text)";
        break;
    case OID_REGROLE:
        body = "coalesce((SELECT rolname::text FROM pg_catalog.pg_roles WHERE oid = $1), "
               "$1::oid::text)";
        break;
    case OID_REGTYPE:
        body = "coalesce(pg_catalog.format_type($1, NULL), $1::oid::text)";
        break;
    default:
        break;
    }
    struct type oid = type_of(TYPE_OID);
    struct sx *arg = relabel(az, sx, oid);
    return az_macro(az, body, &arg, 1, out);
}

/*
 * The cast as a call; NULL when the catalogue has none for these kinds. A JSON null makes casts
 * from jsonb nullable even of what is not NULL.
 */
static struct sx *cast_call(struct az *az, struct sx *sx, struct type to)
{
    ASSERT(sx->type.kind != to.kind);
    const struct func *func = cast_find((enum type_kind)sx->type.kind, (enum type_kind)to.kind);
    if (func == NULL) {
        return NULL;
    }
    struct type plain = to;
    plain.typmod = -1;
    plain.nullable = sx->type.nullable || sx->type.kind == TYPE_JSONB;
    struct sx *call = sx_call(az->arena, func, plain, &sx, 1);
    call->location = sx->location;
    return call;
}

/* Untyped literals and parameters first, then names of objects, then relabelling, then casts. */
/* Are the elements' texts of one type read as they are by the other? */
static bool reads_elements(uint32_t from, uint32_t to)
{
    struct type a, b;
    if (!type_of_oid(from, -1, &a) || !type_of_oid(to, -1, &b)) {
        return false;
    }
    bool widens = type_category(a.kind) == 'N' && type_category(b.kind) == 'N' &&
                  kind_can_coerce(a.kind, b.kind, CAST_IMPLICIT);
    return a.kind == b.kind || a.kind == TYPE_TEXT || b.kind == TYPE_TEXT || widens;
}

/* To an array from a text or from another array, element by element; *out NULL: it is neither. */
static err_t coerce_array(struct az *az, struct sx *sx, struct type to, enum cast_context context,
                          struct sx **out)
{
    uint32_t from = type_element_of(sx->type.oid), element = type_element_of(to.oid);
    *out = NULL;
    if (sx->type.kind != TYPE_TEXT || element == 0 || from == element ||
        type_array_of(element) != to.oid || context != CAST_EXPLICIT) {
        return ERR_OK;
    }
    if (from != 0 && !reads_elements(from, element)) {
        return AZ_UNSUPPORTED(az, sx->location, "casts from %s to %s are not supported",
                              az_type_name(az, &sx->type), az_type_name(az, &to));
    }
    static const uint8_t kinds[] = {TYPE_TEXT, TYPE_OID};
    const struct func *func = func_find("array_cast", kinds, 2);
    ASSERT(func != NULL);
    struct sx *args[2] = {sx, sx_lit(az->arena, type_of(TYPE_OID), (struct datum){.i = element})};
    to.nullable = sx->type.nullable;
    *out = sx_call(az->arena, func, to, args, 2);
    (*out)->location = sx->location;
    return ERR_OK;
}

err_t az_coerce(struct az *az, struct sx *sx, struct type to, enum cast_context context,
                struct sx **out)
{
    ASSERT(to.kind != TYPE_UNKNOWN && to.kind != 0);
    bool explicit = context == CAST_EXPLICIT;
    if (type_is_unknown(sx)) {
        if (sx->kind == SX_LIT) {
            return coerce_unknown_literal(az, sx, to, context, out);
        }
        if (sx->kind == SX_PARAM) {
            return coerce_param(az, sx, to, out);
        }
    }
    if (sx->kind == SX_NOW && (to.kind == TYPE_TIMESTAMP || to.kind == TYPE_TIMESTAMPTZ) &&
        sx->type.kind == TYPE_MZ_TIMESTAMP && context == CAST_EXPLICIT) {
        sx = sx_now_as(az->arena, sx, (enum type_kind)to.kind);
    }
    /* Fields change how a literal is read; casting an interval to them would have to cut it. */
    if (interval_has_fields(&to)) {
        return AZ_UNSUPPORTED(az, sx->location, "interval fields are supported for literals only");
    }
    /* A name, not digits. */
    if (type_is_reg(&sx->type) && to.kind == TYPE_TEXT) {
        return reg_to_text(az, sx, out);
    }
    if (sx->type.kind == TYPE_TEXT && type_is_reg(&to) && sx->kind == SX_LIT && !sx->lit.null) {
        struct datum value = {0};
        TRY(az_reg_literal(az, sx->lit.s, to.oid, sx->location, &value));
        *out = sx_lit(az->arena, to, value);
        return ERR_OK;
    }
    TRY(coerce_array(az, sx, to, context, out));
    if (*out != NULL) {
        return ERR_OK;
    }
    if (sx->type.kind == to.kind) {
        *out = apply_typmod(az, sx, to, explicit);
        return ERR_OK;
    }
    if (!kind_can_coerce(sx->type.kind, to.kind, context)) {
        return cannot_coerce(az, sx, to);
    }
    struct sx *call = cast_call(az, sx, to);
    /* Binary compatible (int4 and oid): the same bytes under another kind. */
    if (call == NULL && sx->kind == SX_LIT) {
        /* Binary compatible: the same bytes under another kind. */
        call = arena_memdup(az->arena, sx, sizeof(*sx));
        call->type = to;
        call->type.typmod = -1;
    }
    if (call == NULL) {
        return cannot_coerce(az, sx, to);
    }
    *out = apply_typmod(az, call, to, explicit);
    return ERR_OK;
}

/* What nothing has given a type is text. */
err_t az_settle(struct az *az, struct sx *sx, struct sx **out)
{
    ASSERT(sx != NULL);
    if (!type_is_unknown(sx)) {
        *out = sx;
        return ERR_OK;
    }
    return az_coerce(az, sx, type_of(TYPE_TEXT), CAST_IMPLICIT, out);
}

/* WHERE, AND, CASE WHEN...: booleans only, PostgreSQL converts nothing to one implicitly. */
err_t az_to_bool(struct az *az, struct sx *sx, const char *what, struct sx **out)
{
    ASSERT(what != NULL);
    if (!type_is_unknown(sx) && sx->type.kind != TYPE_BOOL) {
        return az_err(az, sx_location(sx), ERR_INVALID, "42804",
                      "argument of %s must be type boolean, not type %s", what,
                      az_type_name(az, &sx->type));
    }
    return az_coerce(az, sx, type_of(TYPE_BOOL), CAST_IMPLICIT, out);
}

/* ---- common types ---------------------------------------------------------------------------- */

/*
 * The type of UNION, CASE, COALESCE, VALUES, ARRAY (manual, 10.5): untyped literals do not count;
 * all must be of one category; the first type wins unless it converts implicitly to a later one
 * that does not convert back, and preferred types stay. 1 UNION 2.5 is numeric, text literals alone
 * are text.
 */
err_t az_common_type(struct az *az, struct sx *const *items, uint32_t len, const char *what,
                     struct type *out)
{
    ASSERT(len > 0);
    bool found = false;
    bool nullable = false;
    for (uint32_t i = 0; i < len; i++) {
        struct type t = items[i]->type;
        nullable = nullable || t.nullable;
        if (t.kind == TYPE_UNKNOWN) {
            continue;
        }
        /* The first with a type is what the others are measured against. */
        if (!found) {
            *out = t;
            found = true;
        } else if (t.kind == out->kind) {
            if (t.oid != out->oid) {
                *out = type_of((enum type_kind)t.kind);
            } else if (t.typmod != out->typmod) {
                out->typmod = -1;
            }
        } else if (type_category(t.kind) != type_category(out->kind)) {
            return az_err(az, sx_location(items[i]), ERR_INVALID, "42804",
                          "%s types %s and %s cannot be matched", what, az_type_name(az, out),
                          az_type_name(az, &t));
        } else if (!type_is_preferred(out->kind) &&
                   kind_can_coerce(out->kind, t.kind, CAST_IMPLICIT) &&
                   !kind_can_coerce(t.kind, out->kind, CAST_IMPLICIT)) {
            *out = t;
        }
    }
    if (!found) {
        *out = type_of(TYPE_TEXT);
    }
    for (uint32_t i = 0; i < len; i++) {
        if (items[i]->type.kind != out->kind && items[i]->type.kind != TYPE_UNKNOWN) {
            out->typmod = -1;
            if (!kind_can_coerce(items[i]->type.kind, out->kind, CAST_IMPLICIT)) {
                return az_err(az, sx_location(items[i]), ERR_INVALID, "42846",
                              "%s could not convert type %s to %s", what,
                              az_type_name(az, &items[i]->type), az_type_name(az, out));
            }
        }
    }
    out->nullable = nullable;
    return ERR_OK;
}
