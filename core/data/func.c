/* The catalogue: lookup, matching of arguments, casts and aggregates. */
#include "core/data/kernel.h"

enum {
    ANY = 0,
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
    MZT = TYPE_MZ_TIMESTAMP,
    FAIL = FUNC_CAN_FAIL,
    CAST = FUNC_CAST,
    LOOSE = FUNC_NOT_STRICT,
    VARIADIC = FUNC_VARIADIC,
    SAFE = FUNC_PREDICATE_NULLSAFE,
    FUNC_ID_END = 1000,
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

bool func_accepts(const struct func *f, const uint8_t *kinds, size_t len, uint8_t *result)
{
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

/* Where pg_cast says 'i'. */
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
        ok = false;
        break;
    }
    if (ok) {
        *out = type_of(kind);
        out->nullable = agg != AGG_COUNT_ALL && agg != AGG_COUNT;
    }
    return ok;
}
