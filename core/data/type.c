/*
 * Kinds, widths, PostgreSQL OIDs, names and typmods: the static description of every type.
 *
 * One kind may stand for several SQL types (text, varchar, bpchar, name and "char" are all TEXT);
 * which one the user sees is the OID. Lookups are linear: the table is short and only planning uses
 * it. type_width alone is asked per batch and has an array.
 */
#include "core/data/type.h"

#include "core/data/data_internal.h"

/* One SQL type. */
struct type_info {
    uint8_t kind;
    uint8_t width;      /* 0: variable */
    uint32_t oid;
    const char *name;   /* as libpg_query spells it */
    const char *format; /* as format_type() prints it without typmod */
};

/* The first entry of a kind is the type SQL gives it by default. */
static const struct type_info types[] = {
    {TYPE_BOOL, 1, 16, "bool", "boolean"},
    {TYPE_INT2, 2, 21, "int2", "smallint"},
    {TYPE_INT4, 4, 23, "int4", "integer"},
    {TYPE_INT8, 8, 20, "int8", "bigint"},
    {TYPE_FLOAT4, 4, 700, "float4", "real"},
    {TYPE_FLOAT8, 8, 701, "float8", "double precision"},
    {TYPE_NUMERIC, sizeof(struct numeric), OID_NUMERIC, "numeric", "numeric"},
    {TYPE_TEXT, 0, 25, "text", "text"},
    {TYPE_TEXT, 0, OID_VARCHAR, "varchar", "character varying"},
    {TYPE_TEXT, 0, OID_BPCHAR, "bpchar", "character"},
    {TYPE_TEXT, 0, OID_NAME, "name", "name"},
    {TYPE_TEXT, 0, OID_CHAR, "char", "\"char\""},
    {TYPE_BYTEA, 0, 17, "bytea", "bytea"},
    {TYPE_DATE, 4, 1082, "date", "date"},
    {TYPE_TIMESTAMP, 8, 1114, "timestamp", "timestamp without time zone"},
    {TYPE_TIMESTAMPTZ, 8, 1184, "timestamptz", "timestamp with time zone"},
    {TYPE_INTERVAL, sizeof(struct interval), 1186, "interval", "interval"},
    {TYPE_JSONB, 0, 3802, "jsonb", "jsonb"},
    {TYPE_UUID, 16, 2950, "uuid", "uuid"},
    {TYPE_OID, 8, 26, "oid", "oid"},
    {TYPE_TIME, 8, 1083, "time", "time without time zone"},
    /* In the range above PostgreSQL's own objects: drivers treat an unknown type as text. */
    {TYPE_MZ_TIMESTAMP, 8, 16552, "mz_timestamp", "mz_timestamp"},
    {TYPE_UNKNOWN, 0, 705, "unknown", "unknown"},
};

STATIC_ASSERT(sizeof(struct numeric) == 24, "numeric is 24 bytes on disk");
STATIC_ASSERT(sizeof(struct interval) == 16, "interval is 16 bytes on disk");

static const uint8_t widths[TYPE_KIND_MAX] = {
    [TYPE_BOOL] = 1,       [TYPE_INT2] = 2,      [TYPE_INT4] = 4,         [TYPE_INT8] = 8,
    [TYPE_FLOAT4] = 4,     [TYPE_FLOAT8] = 8,    [TYPE_NUMERIC] = 24,     [TYPE_DATE] = 4,
    [TYPE_TIMESTAMP] = 8,  [TYPE_TIMESTAMPTZ] = 8, [TYPE_INTERVAL] = 16,  [TYPE_UUID] = 16,
    [TYPE_OID] = 8,        [TYPE_TIME] = 8,      [TYPE_MZ_TIMESTAMP] = 8,
};

size_t type_width(enum type_kind kind)
{
    ASSERT(kind > 0 && kind < TYPE_KIND_MAX);
    return widths[kind];
}

bool type_is_variable(enum type_kind kind)
{
    return type_width(kind) == 0;
}

/* UNKNOWN is the type of a literal before the planner has decided: no column has it. */
bool type_kind_stored(uint8_t kind)
{
    return kind > 0 && kind < TYPE_UNKNOWN;
}

/* Nullable until somebody knows better. */
static void set_type(const struct type_info *info, int32_t typmod, struct type *out)
{
    *out = (struct type){
        .kind = info->kind, .nullable = true, .typmod = typmod, .oid = info->oid};
}

struct type type_of(enum type_kind kind)
{
    ASSERT(kind > 0 && kind < TYPE_KIND_MAX);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (types[i].kind == kind) {
            struct type type;
            set_type(&types[i], -1, &type);
            return type;
        }
    }
    UNREACHABLE();
}

/* As drivers send them with parameters, and as the catalog stores them. */
bool type_of_oid(uint32_t oid, int32_t typmod, struct type *out)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (types[i].oid == oid) {
            set_type(&types[i], typmod, out);
            return true;
        }
    }
    return false;
}

/* libpg_query has already resolved aliases: integer is int4 by then. */
bool type_of_name(const char *name, int32_t typmod, struct type *out)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strcmp(types[i].name, name) == 0) {
            set_type(&types[i], typmod, out);
            return true;
        }
    }
    return false;
}

/* By kind and OID; an OID that does not belong to the kind falls back to the kind's own type. */
static const struct type_info *info_of(const struct type *type)
{
    const struct type_info *by_kind = NULL;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (types[i].kind != type->kind) {
            continue;
        }
        if (types[i].oid == type->oid) {
            return &types[i];
        }
        if (by_kind == NULL) {
            by_kind = &types[i];
        }
    }
    ASSERT(by_kind != NULL);
    return by_kind;
}

const char *type_kind_name(uint8_t kind)
{
    struct type type = type_of(kind);
    return info_of(&type)->format;
}

/*
 * For error messages, EXPLAIN and pg_catalog. The result is static where nothing has to be put in.
 * numeric(10,2), timestamp(3) without time zone, character varying(10), bpchar
 */
const char *type_format(struct arena *arena, const struct type *type)
{
    ASSERT(type->kind > 0 && type->kind < TYPE_KIND_MAX);
    const struct type_info *info = info_of(type);
    int32_t mod = type->typmod;
    switch (info->kind) {
    case TYPE_TEXT:
        if (mod >= TYPMOD_HEADER && (info->oid == OID_VARCHAR || info->oid == OID_BPCHAR)) {
            return arena_printf(arena, "%s(%d)", info->format, mod - TYPMOD_HEADER);
        }
        if (info->oid == OID_BPCHAR) {
            return "bpchar";
        }
        break;
    case TYPE_NUMERIC:
        if (mod >= TYPMOD_HEADER) {
            return arena_printf(arena, "numeric(%d,%d)", typmod_precision(mod), typmod_scale(mod));
        }
        break;
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMPTZ:
    case TYPE_TIME:
        if (mod >= 0) {
            /* The precision stands after the first word: timestamp(3) without time zone. */
            const char *space = strchr(info->format, ' ');
            ASSERT(space != NULL);
            return arena_printf(arena, "%.*s(%d)%s", (int)(space - info->format), info->format,
                                mod, space);
        }
        break;
    default:
        break;
    }
    return info->format;
}

/* ---- arrays ---------------------------------------------------------------------------------- */

static const struct {
    uint32_t element, array;
} array_oids[] = {
    {16, 1000},   {17, 1001},   {18, 1002},   {19, 1003},   {20, 1016},   {21, 1005},
    {23, 1007},   {25, 1009},   {26, 1028},   {700, 1021},  {701, 1022},  {1033, 1034},
    {1042, 1014}, {1043, 1015}, {1082, 1182}, {1083, 1183}, {1114, 1115}, {1184, 1185},
    {1186, 1187}, {1700, 1231}, {2205, 2210}, {2950, 2951}, {3802, 3807},
};

/* pg_type.typarray; 0 when the type has no arrays here. */
uint32_t type_array_of(uint32_t element)
{
    for (size_t i = 0; i < ARRAY_LEN(array_oids); i++) {
        if (array_oids[i].element == element) {
            return array_oids[i].array;
        }
    }
    return 0;
}

/* pg_type.typelem; int2vector and oidvector are arrays under other names. */
uint32_t type_element_of(uint32_t array)
{
    STATIC_ASSERT(ARRAY_LEN(array_oids) > 20, "every type of a column has its array");
    for (size_t i = 0; i < ARRAY_LEN(array_oids); i++) {
        if (array_oids[i].array == array) {
            return array_oids[i].element;
        }
    }
    return array == 22 ? 21 : array == 30 ? 26 : 0;
}
