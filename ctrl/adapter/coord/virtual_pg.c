/*
 * The rows of pg_catalog: what clients of PostgreSQL look up about our objects.
 *
 * psql, JDBC, DataGrip and their like join these tables by oid, so the oids agree between them, and
 * those PostgreSQL fixes (pg_class is 1259) are PostgreSQL's. What does not exist here has no rows;
 * what exists in another form is shown as the nearest thing clients know: a source as a table, an
 * arrangement's key as a btree index. Only the session's database is shown.
 */
#include "core/base/assert.h"
#include "ctrl/adapter/coord/virtual_internal.h"

/* Oids that PostgreSQL gives in every installation: some clients compare with them. */
enum {
    OID_AM_HEAP = 2,
    OID_AM_BTREE = 403,
    OID_COLLATION_DEFAULT = 100,
    OID_COLLATION_C = 950,
    OID_TABLESPACE_DEFAULT = 1663,
    OID_LANGUAGE_INTERNAL = 12,
    OID_FUNCTION_FIRST = 10000, /* func ids follow */
};

/* Every filler begins here: the sink knows its session, the session its coordinator. */
static const struct catalog *catalog_of(const struct virtual_sink *sink)
{
    return sink->session->coord->catalog;
}

/* An item's schema exists as long as the item does: DROP SCHEMA takes its items first. */
static uint32_t schema_oid(const struct virtual_sink *sink, uint64_t id)
{
    const struct catalog_schema *schema = catalog_schema_id(catalog_of(sink), id);
    ASSERT(schema != NULL);
    return schema->oid;
}

/* The same, for the tables that give names instead of oids. */
static const char *schema_name(const struct virtual_sink *sink, uint64_t id)
{
    const struct catalog_schema *schema = catalog_schema_id(catalog_of(sink), id);
    ASSERT(schema != NULL);
    return schema->name;
}

/* The schema of a catalog table; the catalog makes the four at its first start. */
static uint32_t system_schema_oid(const struct virtual_sink *sink, const char *name)
{
    const struct catalog_schema *schema = catalog_schema(catalog_of(sink), NULL, name);
    ASSERT(schema != NULL);
    return schema->oid;
}

/* pg_class.relkind: sources are shown as tables, which is what one does with them. */
static const char *relkind(enum catalog_kind kind)
{
    switch (kind) {
    case CATALOG_TABLE:
    case CATALOG_SOURCE: return "r";
    case CATALOG_VIEW: return "v";
    case CATALOG_MATERIALIZED_VIEW: return "m";
    case CATALOG_INDEX: return "i";
    }
    UNREACHABLE();
}

/* The session's database's schemas, and the system's, which are in every database. */
void virtual_pg_namespace(struct virtual_sink *sink)
{
    const struct catalog *c = catalog_of(sink);
    const struct catalog_database *db = catalog_database(c, vars_get(sink->session, "database"));
    const struct catalog_schema *schema;
    for (size_t i = 0; (schema = catalog_schema_at(c, i)) != NULL; i++) {
        if (schema->database == 0 || (db != NULL && schema->database == db->id)) {
            virtual_begin(sink);
            virtual_int(sink, "oid", schema->oid);
            virtual_text(sink, "nspname", schema->name);
            virtual_int(sink, "nspowner", CATALOG_OID_SUPERUSER);
        }
    }
}

/* What a relation of any kind has. reltuples -1 is PostgreSQL's "never analysed". The access method
 * only serves psql's \d+, which prints its name. */
static void class_common(struct virtual_sink *sink, uint32_t oid, const char *name,
                         uint32_t schema, const char *kind, uint32_t columns)
{
    ASSERT(kind[1] == '\0');
    virtual_begin(sink);
    virtual_int(sink, "oid", oid);
    virtual_text(sink, "relname", name);
    virtual_int(sink, "relnamespace", schema);
    virtual_int(sink, "relowner", CATALOG_OID_SUPERUSER);
    virtual_text(sink, "relkind", kind);
    virtual_int(sink, "relnatts", columns);
    virtual_text(sink, "relpersistence", "p");
    virtual_text(sink, "relreplident", "d");
    virtual_bool(sink, "relispopulated", true);
    virtual_int(sink, "reltuples", -1);
    virtual_int(sink, "relam", kind[0] == 'i'   ? OID_AM_BTREE
                               : kind[0] == 'v' ? 0
                                                : OID_AM_HEAP);
}

/* Our own catalog tables are left out: psql would show them among the user's objects. */
static bool listed(const struct virtual_table *t)
{
    return strncmp(t->spec->schema, "mz_", 3) != 0;
}

/* User objects first. relhasindex makes psql ask for indexes at all; relhasrules for a view's
 * definition. */
void virtual_pg_class(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, false, &at)) != NULL;) {
        bool index = item->kind == CATALOG_INDEX;
        class_common(sink, item->oid, item->name, schema_oid(sink, item->schema),
                     relkind(item->kind), index ? item->keys_len : item->columns.cols);
        virtual_bool(sink, "relhasindex", catalog_index_on(catalog_of(sink), item->id, 0) != NULL);
        virtual_bool(sink, "relhasrules", item->kind == CATALOG_VIEW);
    }
    const struct virtual_table *t;
    for (size_t i = 0; (t = virtual_at(sink->session->coord, i)) != NULL; i++) {
        if (!listed(t)) {
            continue;
        }
        class_common(sink, t->spec->oid, t->spec->name,
                     system_schema_oid(sink, t->spec->schema), "v", t->relation.columns.cols);
    }
}

/* name compares by bytes in PostgreSQL as well, hence another collation than text. */
static int64_t collation_of(const struct type *type)
{
    return type->kind != TYPE_TEXT ? 0 : type->oid == 19 ? OID_COLLATION_C : OID_COLLATION_DEFAULT;
}

/* pg_type.typlen and pg_attribute.attlen: bytes of a value, -1 for variable. */
static int64_t length_of(const struct type *type)
{
    size_t width = type_width((enum type_kind)type->kind);
    if (type->kind == TYPE_OID) {
        return 4;
    }
    if (type->oid == 19) {
        return 64;
    }
    return width == 0 || type->kind == TYPE_NUMERIC ? -1 : (int64_t)width;
}

/* One column. attnum counts from 1; negative ones (system columns) do not exist here. Alignment and
 * storage are filled in as PostgreSQL would for most types: tools print them, nobody uses them. */
static void add_attribute(struct virtual_sink *sink, uint32_t relation, uint32_t position,
                          const char *name, const struct type *type, bool has_default)
{
    ASSERT(position > 0);
    virtual_begin(sink);
    virtual_int(sink, "attrelid", relation);
    virtual_text(sink, "attname", name);
    virtual_int(sink, "atttypid", type->oid);
    virtual_int(sink, "attlen", length_of(type));
    virtual_int(sink, "attnum", position);
    virtual_int(sink, "attstattarget", -1);
    virtual_int(sink, "attcacheoff", -1);
    virtual_int(sink, "atttypmod", type->typmod);
    virtual_text(sink, "attalign", "i");
    virtual_text(sink, "attstorage", length_of(type) < 0 ? "x" : "p");
    virtual_bool(sink, "attnotnull", !type->nullable);
    virtual_bool(sink, "atthasdef", has_default);
    virtual_bool(sink, "attislocal", true);
    virtual_int(sink, "attcollation", collation_of(type));
}

/* An index's columns are the keys, under the names they have in the relation: \d of an index lists
 * them. */
static void add_index_attributes(struct virtual_sink *sink, const struct catalog_item *index)
{
    const struct catalog_item *on = catalog_item_id(catalog_of(sink), index->on);
    ASSERT(on != NULL);
    for (uint32_t i = 0; i < index->keys_len; i++) {
        uint32_t key = index->keys[i];
        add_attribute(sink, index->oid, i + 1, on->columns.names[key], &on->columns.types[key],
                      false);
    }
}

/* Indexes have attributes too. Catalog tables that psql lists are described as well, so that \d
 * pg_class works. */
void virtual_pg_attribute(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, false, &at)) != NULL;) {
        if (item->kind == CATALOG_INDEX) {
            add_index_attributes(sink, item);
            continue;
        }
        for (uint32_t i = 0; i < item->columns.cols; i++) {
            bool has_default = item->defaults != NULL && item->defaults[i] != NULL;
            add_attribute(sink, item->oid, i + 1, item->columns.names[i], &item->columns.types[i],
                          has_default);
        }
    }
    const struct virtual_table *t;
    for (size_t i = 0; (t = virtual_at(sink->session->coord, i)) != NULL; i++) {
        for (uint32_t j = 0; listed(t) && j < t->relation.columns.cols; j++) {
            add_attribute(sink, t->spec->oid, j + 1, t->relation.columns.names[j],
                          &t->relation.columns.types[j], false);
        }
    }
}

/* The oid only has to be unique among defaults; nobody looks one up by it. adbin is SQL text, which
 * pg_get_expr gives back as it is. */
void virtual_pg_attrdef(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, false, &at)) != NULL;) {
        for (uint32_t i = 0; i < item->columns.cols && item->defaults != NULL; i++) {
            if (item->defaults[i] != NULL) {
                virtual_begin(sink);
                virtual_int(sink, "oid", (int64_t)item->oid * 2000 % UINT32_MAX + i);
                virtual_int(sink, "adrelid", item->oid);
                virtual_int(sink, "adnum", i + 1);
                virtual_text(sink, "adbin", item->defaults[i]);
            }
        }
    }
}

/* Names and categories of the types we have: pg_type.typname, typcategory. */
static const struct pg_type_row {
    uint32_t oid;
    const char *name;
    const char *category;
    uint32_t array;
} pg_types[] = {
    {16, "bool", "B", 1000},         {17, "bytea", "U", 1001},      {18, "char", "Z", 1002},
    {19, "name", "S", 1003},         {20, "int8", "N", 1016},       {21, "int2", "N", 1005},
    {23, "int4", "N", 1007},         {24, "regproc", "N", 1008},    {25, "text", "S", 1009},
    {26, "oid", "N", 1028},          {114, "json", "U", 199},       {700, "float4", "N", 1021},
    {701, "float8", "N", 1022},      {705, "unknown", "X", 0},      {1042, "bpchar", "S", 1014},
    {1043, "varchar", "S", 1015},    {1082, "date", "D", 1182},     {1083, "time", "D", 1183},
    {1114, "timestamp", "D", 1115},  {1184, "timestamptz", "D", 1185},
    {1186, "interval", "T", 1187},   {1700, "numeric", "N", 1231},  {2205, "regclass", "N", 2210},
    {2206, "regtype", "N", 2211},    {2950, "uuid", "U", 2951},     {3802, "jsonb", "U", 3807},
};

/* A base type: everything else (domains, enums, composites) does not exist. Values up to eight
 * bytes are passed by value, which some drivers use to tell fixed from variable. */
static void add_type(struct virtual_sink *sink, const struct pg_type_row *row, int64_t length,
                     int64_t collation)
{
    ASSERT(row->oid != 0);
    virtual_begin(sink);
    virtual_int(sink, "oid", row->oid);
    virtual_text(sink, "typname", row->name);
    virtual_int(sink, "typnamespace", CATALOG_OID_PG_CATALOG);
    virtual_int(sink, "typowner", CATALOG_OID_SUPERUSER);
    virtual_int(sink, "typlen", length);
    virtual_bool(sink, "typbyval", length > 0 && length <= 8);
    virtual_text(sink, "typtype", "b");
    virtual_text(sink, "typcategory", row->category);
    virtual_bool(sink, "typisdefined", true);
    virtual_text(sink, "typdelim", ",");
    virtual_int(sink, "typarray", row->array);
    virtual_text(sink, "typalign", "i");
    virtual_text(sink, "typstorage", length < 0 ? "x" : "p");
    virtual_int(sink, "typtypmod", -1);
    virtual_int(sink, "typcollation", collation);
}

/* Types a driver may meet in a result, or ask for by name at start; those we cannot store (time,
 * regclass) are there because catalog queries cast to them. */
void virtual_pg_type(struct virtual_sink *sink)
{
    bool has_timestamp = false;
    for (size_t i = 0; i < ARRAY_LEN(pg_types); i++) {
        struct type type = type_of(TYPE_INT4);
        bool known = type_of_oid(pg_types[i].oid, -1, &type);
        add_type(sink, &pg_types[i], known ? length_of(&type) : 4,
                 known ? collation_of(&type) : 0);
        has_timestamp |= pg_types[i].oid == type_of(TYPE_MZ_TIMESTAMP).oid;
    }
    if (!has_timestamp) {
        struct pg_type_row row = {type_of(TYPE_MZ_TIMESTAMP).oid, "mz_timestamp", "N", 0};
        add_type(sink, &row, 8, 0);
    }
}

/* "1 3": int2vector's text, positions from 1. */
static void index_keys(const struct catalog_item *index, struct buf *out)
{
    ASSERT(index->kind == CATALOG_INDEX);
    for (uint32_t i = 0; i < index->keys_len; i++) {
        buf_printf(out, "%s%u", i > 0 ? " " : "", index->keys[i] + 1);
    }
}

/* No index is unique or primary: drivers that look for a key find none, which is true. */
void virtual_pg_index(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, false, &at)) != NULL;) {
        if (item->kind != CATALOG_INDEX) {
            continue;
        }
        /* goes after it */
        const struct catalog_item *on = catalog_item_id(catalog_of(sink), item->on);
        struct buf keys = {0};
        index_keys(item, &keys);
        virtual_begin(sink);
        virtual_int(sink, "indexrelid", item->oid);
        virtual_int(sink, "indrelid", on->oid);
        virtual_int(sink, "indnatts", item->keys_len);
        virtual_int(sink, "indnkeyatts", item->keys_len);
        virtual_bool(sink, "indimmediate", true);
        virtual_bool(sink, "indisvalid", true);
        virtual_bool(sink, "indisready", true);
        virtual_bool(sink, "indislive", true);
        virtual_text(sink, "indkey", buf_cstr(&keys));
        buf_free(&keys);
    }
}

/* Encoding 6 is UTF8 in PostgreSQL's numbering. */
void virtual_pg_database(struct virtual_sink *sink)
{
    const struct catalog_database *d;
    for (size_t i = 0; (d = catalog_database_at(catalog_of(sink), i)) != NULL; i++) {
        virtual_begin(sink);
        virtual_int(sink, "oid", d->oid);
        virtual_text(sink, "datname", d->name);
        virtual_int(sink, "datdba", CATALOG_OID_SUPERUSER);
        virtual_int(sink, "encoding", 6);
        virtual_text(sink, "datlocprovider", "c");
        virtual_bool(sink, "datallowconn", true);
        virtual_int(sink, "datconnlimit", -1);
        virtual_int(sink, "dattablespace", OID_TABLESPACE_DEFAULT);
        virtual_text(sink, "datcollate", "C.UTF-8");
        virtual_text(sink, "datctype", "C.UTF-8");
    }
}

/* A superuser may do everything; there are no others yet. */
static void add_role(struct virtual_sink *sink, const struct catalog_role *role)
{
    ASSERT(role->oid != 0);
    virtual_begin(sink);
    virtual_int(sink, "oid", role->oid);
    virtual_text(sink, "rolname", role->name);
    virtual_bool(sink, "rolsuper", role->superuser);
    virtual_bool(sink, "rolinherit", true);
    virtual_bool(sink, "rolcreaterole", role->superuser);
    virtual_bool(sink, "rolcreatedb", role->superuser);
    virtual_bool(sink, "rolcanlogin", true);
    virtual_int(sink, "rolconnlimit", -1);
}

/* rolpassword stays NULL: the password is the environment's, not a role's. */
void virtual_pg_authid(struct virtual_sink *sink)
{
    const struct catalog_role *role;
    for (size_t i = 0; (role = catalog_role_at(catalog_of(sink), i)) != NULL; i++) {
        add_role(sink, role);
    }
}

/* The same rows; the columns differ by the table's description. */
void virtual_pg_roles(struct virtual_sink *sink)
{
    virtual_pg_authid(sink);
}

/* The old names of the same facts. */
static void add_user(struct virtual_sink *sink, const struct catalog_role *role)
{
    ASSERT(role->oid != 0);
    virtual_begin(sink);
    virtual_text(sink, "usename", role->name);
    virtual_int(sink, "usesysid", role->oid);
    virtual_bool(sink, "usecreatedb", role->superuser);
    virtual_bool(sink, "usesuper", role->superuser);
}

/* pg_user and pg_shadow: see pg_roles. */
void virtual_pg_user(struct virtual_sink *sink)
{
    const struct catalog_role *role;
    for (size_t i = 0; (role = catalog_role_at(catalog_of(sink), i)) != NULL; i++) {
        add_user(sink, role);
    }
}

void virtual_pg_shadow(struct virtual_sink *sink)
{
    virtual_pg_user(sink);
}

/* heap for relations, btree for indexes: what the names in \d+ and pg_get_indexdef need. */
void virtual_pg_am(struct virtual_sink *sink)
{
    virtual_begin(sink);
    virtual_int(sink, "oid", OID_AM_HEAP);
    virtual_text(sink, "amname", "heap");
    virtual_text(sink, "amtype", "t");
    virtual_begin(sink);
    virtual_int(sink, "oid", OID_AM_BTREE);
    virtual_text(sink, "amname", "btree");
    virtual_text(sink, "amtype", "i");
}

/* Both are byte order; a column has "default" unless its type is name. */
void virtual_pg_collation(struct virtual_sink *sink)
{
    static const struct {
        uint32_t oid;
        const char *name, *provider;
    } rows[] = {{OID_COLLATION_DEFAULT, "default", "d"}, {OID_COLLATION_C, "C", "c"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        virtual_begin(sink);
        virtual_int(sink, "oid", rows[i].oid);
        virtual_text(sink, "collname", rows[i].name);
        virtual_int(sink, "collnamespace", CATALOG_OID_PG_CATALOG);
        virtual_int(sink, "collowner", CATALOG_OID_SUPERUSER);
        virtual_text(sink, "collprovider", rows[i].provider);
        virtual_bool(sink, "collisdeterministic", true);
        virtual_int(sink, "collencoding", -1);
        virtual_text(sink, "collcollate", "C.UTF-8");
        virtual_text(sink, "collctype", "C.UTF-8");
    }
}

/* Every function is the system's own. */
void virtual_pg_language(struct virtual_sink *sink)
{
    virtual_begin(sink);
    virtual_int(sink, "oid", OID_LANGUAGE_INTERNAL);
    virtual_text(sink, "lanname", "internal");
    virtual_int(sink, "lanowner", CATALOG_OID_SUPERUSER);
}

/* Where things are stored is not the client's business, but databases refer to one. */
void virtual_pg_tablespace(struct virtual_sink *sink)
{
    virtual_begin(sink);
    virtual_int(sink, "oid", OID_TABLESPACE_DEFAULT);
    virtual_text(sink, "spcname", "pg_default");
    virtual_int(sink, "spcowner", CATALOG_OID_SUPERUSER);
}

/* classid 1259 is pg_class: both ends are relations. "n" is an ordinary dependence, which DROP
 * without CASCADE respects. */
void virtual_pg_depend(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, false, &at)) != NULL;) {
        for (size_t i = 0; i < item->depends_len; i++) {
            const struct catalog_item *on = catalog_item_id(catalog_of(sink), item->depends[i]);
            if (on != NULL) {
                virtual_begin(sink);
                virtual_int(sink, "classid", 1259);
                virtual_int(sink, "objid", item->oid);
                virtual_int(sink, "refclassid", 1259);
                virtual_int(sink, "refobjid", on->oid);
                virtual_text(sink, "deptype", "n");
            }
        }
    }
}

/* Comments on relations (classoid 1259, objsubid 0); columns have none. */
void virtual_pg_description(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, false, &at)) != NULL;) {
        if (item->comment != NULL) {
            virtual_begin(sink);
            virtual_int(sink, "objoid", item->oid);
            virtual_int(sink, "classoid", 1259);
            virtual_text(sink, "description", item->comment);
        }
    }
}

/* A parameter that takes any type is PostgreSQL's pseudo-type "any". */
static uint32_t kind_oid(uint8_t kind)
{
    return kind == 0 ? 2276 /* any */ : type_of((enum type_kind)kind).oid;
}

void virtual_pg_proc(struct virtual_sink *sink)
{
    size_t len = 0;
    const struct func *funcs = func_catalog(&len);
    for (size_t i = 0; i < len; i++) {
        const struct func *f = &funcs[i];
        bool word = (f->name[0] >= 'a' && f->name[0] <= 'z') || f->name[0] == '_';
        if (!word || (f->flags & FUNC_CAST) != 0) {
            continue; /* operators and casts have no name a user could call */
        }
        struct buf types = {0};
        for (uint8_t a = 0; a < f->args_len; a++) {
            buf_printf(&types, "%s%u", a > 0 ? " " : "", kind_oid(f->args[a]));
        }
        virtual_begin(sink);
        virtual_int(sink, "oid", OID_FUNCTION_FIRST + (int64_t)f->id);
        virtual_text(sink, "proname", f->name);
        virtual_int(sink, "pronamespace", CATALOG_OID_PG_CATALOG);
        virtual_int(sink, "proowner", CATALOG_OID_SUPERUSER);
        virtual_int(sink, "prolang", OID_LANGUAGE_INTERNAL);
        virtual_text(sink, "prokind", "f");
        virtual_bool(sink, "proisstrict", (f->flags & FUNC_NOT_STRICT) == 0);
        virtual_text(sink, "provolatile", (f->flags & FUNC_VOLATILE) != 0 ? "v" : "i");
        virtual_text(sink, "proparallel", "s");
        virtual_int(sink, "pronargs", f->args_len);
        virtual_int(sink, "prorettype", kind_oid(f->result));
        virtual_text(sink, "proargtypes", buf_cstr(&types));
        virtual_text(sink, "prosrc", f->name);
        buf_free(&types);
    }
}

/* Everything is a text to us; "user" is PostgreSQL's word for what a session may set. */
void virtual_pg_settings(struct virtual_sink *sink)
{
    for (size_t i = 0; i < vars_count(); i++) {
        virtual_begin(sink);
        virtual_text(sink, "name", vars_name(i));
        virtual_text(sink, "setting", vars_at(sink->session, i));
        virtual_text(sink, "category", "Session");
        virtual_text(sink, "short_desc", vars_description(i));
        virtual_text(sink, "context", "user");
        virtual_text(sink, "vartype", "string");
        virtual_text(sink, "source", "default");
    }
}

/* The first three columns of pg_tables, pg_views, pg_matviews, whose names differ. */
static void common_view(struct virtual_sink *sink, const struct catalog_item *item,
                        const char *name_column, const char *owner_column)
{
    ASSERT(item->kind != CATALOG_INDEX);
    virtual_begin(sink);
    virtual_text(sink, "schemaname", schema_name(sink, item->schema));
    virtual_text(sink, name_column, item->name);
    virtual_text(sink, owner_column, "tailrace");
}

/* Sources are listed as tables: one selects from them like from one. */
void virtual_pg_tables(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, false, &at)) != NULL;) {
        if (item->kind == CATALOG_TABLE || item->kind == CATALOG_SOURCE) {
            common_view(sink, item, "tablename", "tableowner");
            virtual_bool(sink, "hasindexes",
                         catalog_index_on(catalog_of(sink), item->id, 0) != NULL);
        }
    }
}

/* definition is what CREATE VIEW ... AS had behind it. */
void virtual_pg_views(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, false, &at)) != NULL;) {
        if (item->kind == CATALOG_VIEW) {
            common_view(sink, item, "viewname", "viewowner");
            virtual_text(sink, "definition", item->definition);
        }
    }
}

/* Always populated: a read waits until it is. */
void virtual_pg_matviews(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, false, &at)) != NULL;) {
        if (item->kind == CATALOG_MATERIALIZED_VIEW) {
            common_view(sink, item, "matviewname", "matviewowner");
            virtual_bool(sink, "ispopulated", true);
            virtual_text(sink, "definition", item->definition);
        }
    }
}

/* indexdef is the statement that made the index, as the user wrote it. */
void virtual_pg_indexes(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, false, &at)) != NULL;) {
        if (item->kind == CATALOG_INDEX) {
            const struct catalog_item *on = catalog_item_id(catalog_of(sink), item->on);
            virtual_begin(sink);
            virtual_text(sink, "schemaname", schema_name(sink, item->schema));
            virtual_text(sink, "tablename", on->name);
            virtual_text(sink, "indexname", item->name);
            virtual_text(sink, "indexdef", item->create_sql);
        }
    }
}

/* What a pooler or an administrator looks at: idle in transaction holds history back. */
void virtual_pg_stat_activity(struct virtual_sink *sink)
{
    for (const struct session *s = sink->session->coord->sessions; s != NULL; s = s->next) {
        if (s->conn == NULL) {
            continue;
        }
        virtual_begin(sink);
        virtual_text(sink, "datname", vars_get(s, "database"));
        virtual_int(sink, "pid", s->pid);
        virtual_text(sink, "usename", s->user);
        virtual_text(sink, "application_name", vars_get(s, "application_name"));
        virtual_text(sink, "state", s->run.state != RUN_NONE     ? "active"
                                    : s->tx.status == 'I' ? "idle"
                                                          : "idle in transaction");
        virtual_text(sink, "backend_type", "client backend");
    }
}
