/*
 * The catalogue: lookup, matching of arguments, casts and aggregates.
 *
 * func_list.inc is the one list of all functions. It is included twice here: once as descriptions,
 * once as kernels by id; kernel.h includes it a third time, for the kernels' declarations. So a
 * function that has no kernel, or a kernel that no function names, does not build or link.
 *
 * The planner resolves names and inserts casts; here only exact kinds match. Which casts it may
 * insert follows pg_cast:
 *
 *   implicit     anywhere: int2 -> int4 -> int8 -> numeric -> float4 -> float8,
 *                date -> timestamp(tz), timestamp -> timestamptz, time -> interval,
 *                integers -> oid and mz_timestamp, untyped literals -> anything
 *   assignment   on the way into a column: the other numeric casts, timestamptz -> timestamp,
 *                anything -> text
 *   explicit     only by CAST: from text, from and to boolean, out of jsonb
 *
 * Aggregates are listed here by their result type alone; the engine computes them.
 *
 * Constant tables; any thread.
 */
#include "core/data/kernel.h"

enum {
    ANY = 0, /* any kind; see same_kinds */
    BOOL = TYPE_BOOL,
    I2 = TYPE_INT2,
    I4 = TYPE_INT4,
    I8 = TYPE_INT8,
    F4 = TYPE_FLOAT4,
    F8 = TYPE_FLOAT8,
    NUM = TYPE_NUMERIC,
    TXT = TYPE_TEXT,
    BYT = TYPE_BYTEA,
    DAT = TYPE_DATE,
    TS = TYPE_TIMESTAMP,
    TZ = TYPE_TIMESTAMPTZ,
    IV = TYPE_INTERVAL,
    JSN = TYPE_JSONB,
    UID = TYPE_UUID,
    OID = TYPE_OID,
    TIM = TYPE_TIME,
    MZT = TYPE_MZ_TIMESTAMP, /* the names above and below are those of func_list.inc */
    FAIL = FUNC_CAN_FAIL, /* may give an error for some rows */
    CAST = FUNC_CAST,
    LOOSE = FUNC_NOT_STRICT, /* is called with NULL arguments */
    VARIADIC = FUNC_VARIADIC,
    SAFE = FUNC_PREDICATE_NULLSAFE, /* its result is never NULL */
    FUNC_ID_END = 1000, /* ids are below */
};

#define F(id_, kernel_, name_, flags_, result_, ...)                                               \
    {.id = id_,                                                                                    \
     .name = name_,                                                                                \
     .args_len = sizeof((const uint8_t[]){__VA_ARGS__}),                                           \
     .args = {__VA_ARGS__},                                                                        \
     .result = result_,                                                                            \
     .flags = flags_},
static const struct func catalog[] = {
#include "core/data/func_list.inc"
};
#undef F

#define F(id_, kernel_, name_, flags_, result_, ...) [id_] = kernel_,
static const kernel_fn kernels[FUNC_ID_END] = {
#include "core/data/func_list.inc"
};
#undef F

/* The array is static: it lives for ever. */
const struct func *func_catalog(size_t *len)
{
    *len = ARRAY_LEN(catalog);
    return catalog;
}

/* The list is ordered by id. */
const struct func *func_by_id(uint32_t id)
{
    size_t lo = 0;
    size_t hi = ARRAY_LEN(catalog);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (catalog[mid].id < id) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < ARRAY_LEN(catalog) && catalog[lo].id == id ? &catalog[lo] : NULL;
}

/* The id must exist: func_by_id has been asked. */
kernel_fn func_kernel(uint32_t id)
{
    ASSERT(id < FUNC_ID_END && kernels[id] != NULL);
    return kernels[id];
}

/* Must polymorphic arguments agree? Yes, when the result follows them or they are compared. */
static bool same_kinds(const struct func *f)
{
    return f->result == ANY || (f->flags & FUNC_PREDICATE_NULLSAFE) != 0;
}

/* *result is only set when it does. A variadic function repeats its last argument's kind. */
bool func_accepts(const struct func *f, const uint8_t *kinds, size_t len, uint8_t *result)
{
    ASSERT(f->args_len > 0 && f->args_len <= FUNC_ARGS_MAX);
    bool variadic = (f->flags & FUNC_VARIADIC) != 0;
    if (variadic ? len < f->args_len : len != f->args_len) {
        return false;
    }
    uint8_t any = ANY;
    for (size_t i = 0; i < len; i++) {
        uint8_t want = f->args[i < f->args_len ? i : f->args_len - 1u];
        if (want != ANY) {
            if (kinds[i] != want) {
                return false;
            }
            continue;
        }
        if (any != ANY && any != kinds[i] && same_kinds(f)) {
            return false;
        }
        any = kinds[i];
    }
    *result = f->result != ANY ? f->result : any;
    return true;
}

/*
 * The first in the list wins, so polymorphic entries stand behind the exact ones. Casts are not
 * found by name.
 */
const struct func *func_find(const char *name, const uint8_t *args, size_t args_len)
{
    for (size_t i = 0; i < ARRAY_LEN(catalog); i++) {
        uint8_t result;
        if (catalog[i].name[0] == name[0] && strcmp(catalog[i].name, name) == 0 &&
            (catalog[i].flags & FUNC_CAST) == 0 &&
            func_accepts(&catalog[i], args, args_len, &result)) {
            return &catalog[i];
        }
    }
    return NULL;
}

/* ---- casts ----------------------------------------------------------------------------------- */

/* Also casts that only an explicit CAST may use. */
const struct func *cast_find(enum type_kind from, enum type_kind to)
{
    for (size_t i = 0; i < ARRAY_LEN(catalog); i++) {
        if ((catalog[i].flags & FUNC_CAST) != 0 && catalog[i].args[0] == from &&
            catalog[i].result == to) {
            return &catalog[i];
        }
    }
    return NULL;
}

static bool in(enum type_kind kind, const uint8_t *set, size_t len)
{
    return memchr(set, kind, len) != NULL;
}

#define IN(kind, ...)                                                                              \
    in((kind), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/*
 * Where pg_cast says 'i'. PostgreSQL converts so without being asked, in any expression: only where
 * nothing is lost but digits of a float. What has no cast function here either needs none or is
 * planned otherwise.
 */
static bool is_implicit(enum type_kind from, enum type_kind to)
{
    switch (from) {
    case TYPE_INT2:
        return IN(to, I4, I8, F4, F8, NUM, OID);
    case TYPE_INT4:
        return IN(to, I8, F4, F8, NUM, OID, MZT);
    case TYPE_INT8:
        return IN(to, F4, F8, NUM, OID, MZT);
    case TYPE_NUMERIC:
        return IN(to, F4, F8);
    case TYPE_FLOAT4:
        return to == TYPE_FLOAT8;
    case TYPE_DATE:
        return IN(to, TS, TZ);
    case TYPE_TIMESTAMP:
        return to == TYPE_TIMESTAMPTZ;
    case TYPE_TIME:
        return to == TYPE_INTERVAL;
    case TYPE_UNKNOWN:
        return true;
    default:
        return false;
    }
}

/*
 * PostgreSQL casts anything to text on assignment; from text, to and from booleans, and out of
 * jsonb only explicitly.
 */
enum cast_context cast_context(enum type_kind from, enum type_kind to)
{
    if (from == to || is_implicit(from, to)) {
        return CAST_IMPLICIT;
    }
    if (to == TYPE_UNKNOWN || cast_find(from, to) == NULL) {
        return CAST_NONE;
    }
    bool explicit_only = from == TYPE_JSONB || from == TYPE_TEXT || from == TYPE_BOOL ||
                         to == TYPE_BOOL;
    if (explicit_only && to != TYPE_TEXT) {
        return CAST_EXPLICIT;
    }
    return CAST_ASSIGNMENT;
}

/* ---- aggregates ------------------------------------------------------------------------------ */

/* Sums of small integers are bigint, of bigint numeric: as PostgreSQL, to put off overflow. */
static bool sum_result(enum type_kind arg, uint8_t *kind)
{
    switch (arg) {
    case TYPE_INT2:
    case TYPE_INT4:
        *kind = TYPE_INT8;
        return true;
    case TYPE_INT8:
        *kind = TYPE_NUMERIC;
        return true;
    case TYPE_NUMERIC:
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
    case TYPE_INTERVAL:
        *kind = (uint8_t)arg;
        return true;
    default:
        return false;
    }
}

/* Averages of integers are numeric: they have fractions. */
static bool avg_result(enum type_kind arg, uint8_t *kind)
{
    switch (arg) {
    case TYPE_INT2:
    case TYPE_INT4:
    case TYPE_INT8:
    case TYPE_NUMERIC:
        *kind = TYPE_NUMERIC;
        return true;
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
        *kind = TYPE_FLOAT8;
        return true;
    case TYPE_INTERVAL:
        *kind = TYPE_INTERVAL;
        return true;
    default:
        return false;
    }
}

/* An array is text here: its element type is the planner's to know. */
static bool further_result(enum agg_func agg, enum type_kind arg, uint8_t *kind)
{
    *kind = (uint8_t)arg;
    switch (agg) {
    case AGG_STRING_AGG:
        return arg == TYPE_TEXT || arg == TYPE_BYTEA;
    case AGG_ARRAY_AGG:
        *kind = TYPE_TEXT;
        return type_kind_stored((uint8_t)arg);
    case AGG_JSONB_AGG:
    case AGG_JSONB_OBJECT_AGG:
        return arg == TYPE_JSONB;
    case AGG_BIT_AND:
    case AGG_BIT_OR:
    case AGG_BIT_XOR:
        return arg == TYPE_INT2 || arg == TYPE_INT4 || arg == TYPE_INT8;
    case AGG_VAR_POP:
    case AGG_VAR_SAMP:
    case AGG_STDDEV_POP:
    case AGG_STDDEV_SAMP:
        return arg == TYPE_FLOAT8;
    default:
        return false;
    }
}

/* count is never NULL; the others are NULL when there is no value. */
bool agg_result(enum agg_func agg, enum type_kind arg, struct type *out)
{
    uint8_t kind = TYPE_INT8;
    bool ok = true;
    switch (agg) {
    case AGG_COUNT_ALL:
    case AGG_COUNT:
        break;
    case AGG_SUM:
        ok = sum_result(arg, &kind);
        break;
    case AGG_AVG:
        ok = avg_result(arg, &kind);
        break;
    case AGG_MIN:
    case AGG_MAX:
        kind = (uint8_t)arg;
        ok = type_kind_stored(kind);
        break;
    case AGG_BOOL_AND:
    case AGG_BOOL_OR:
        kind = TYPE_BOOL;
        ok = arg == TYPE_BOOL;
        break;
    default:
        ok = further_result(agg, arg, &kind);
        break;
    }
    if (ok) {
        *out = type_of(kind);
        out->nullable = agg != AGG_COUNT_ALL && agg != AGG_COUNT;
    }
    return ok;
}
