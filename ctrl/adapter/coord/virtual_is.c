/*
 * The rows of information_schema: the SQL standard's view of what pg_catalog says, in the columns
 * PostgreSQL 15 gives. BI tools and JDBC's getTables/getColumns ask here. Every relation of the
 * session's database is shown to everybody, for there are no rights.
 */
#include "core/base/assert.h"
#include "ctrl/adapter/coord/virtual_internal.h"

/* The standard calls a database a catalog. */
static const char *database_of(const struct virtual_sink *sink)
{
    return vars_get(sink->session, "database");
}

/* An item's schema exists as long as the item does. */
static const char *schema_of(const struct virtual_sink *sink, const struct catalog_item *item)
{
    const struct catalog_schema *schema =
        catalog_schema_id(sink->session->coord->catalog, item->schema);
    ASSERT(schema != NULL);
    return schema->name;
}

/* insertable: whether INSERT works; tools grey out what does not. */
static void add_table(struct virtual_sink *sink, const char *schema, const char *name,
                      const char *type, bool insertable)
{
    ASSERT(schema != NULL && name != NULL);
    virtual_begin(sink);
    virtual_text(sink, "table_catalog", database_of(sink));
    virtual_text(sink, "table_schema", schema);
    virtual_text(sink, "table_name", name);
    virtual_text(sink, "table_type", type);
    virtual_text(sink, "is_insertable_into", insertable ? "YES" : "NO");
    virtual_text(sink, "is_typed", "NO");
}

/* Clients show the words as they are; those that only know BASE TABLE and VIEW skip the others. */
static const char *table_type(enum catalog_kind kind)
{
    switch (kind) {
    case CATALOG_TABLE: return "BASE TABLE";
    case CATALOG_SOURCE: return "SOURCE";
    case CATALOG_VIEW: return "VIEW";
    case CATALOG_MATERIALIZED_VIEW: return "MATERIALIZED VIEW";
    case CATALOG_INDEX: break;
    }
    UNREACHABLE();
}

/* Users' relations, then the catalog's own, as PostgreSQL lists pg_catalog. */
void virtual_is_tables(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, false, &at)) != NULL;) {
        if (item->kind != CATALOG_INDEX) {
            add_table(sink, schema_of(sink, item), item->name, table_type(item->kind),
                      item->kind == CATALOG_TABLE);
        }
    }
    const struct virtual_table *t;
    for (size_t i = 0; (t = virtual_at(sink->session->coord, i)) != NULL; i++) {
        add_table(sink, t->spec->schema, t->spec->name, "VIEW", false);
    }
}

/* Precision in bits for binary numbers, in digits for numeric(p, s). numeric's typmod is ((p << 16)
 * | s) + 4, with an 11-bit scale, as PostgreSQL packs it; without one nothing is said. */
static void numeric_facts(struct virtual_sink *sink, const struct type *type)
{
    ASSERT(type->kind != 0);
    static const struct {
        uint8_t kind;
        int bits;
    } widths[] = {{TYPE_INT2, 16}, {TYPE_INT4, 32}, {TYPE_INT8, 64}, {TYPE_FLOAT4, 24},
                  {TYPE_FLOAT8, 53}};
    for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
        if (type->kind == widths[i].kind) {
            virtual_int(sink, "numeric_precision", widths[i].bits);
            virtual_int(sink, "numeric_precision_radix", 2);
            if (type->kind <= TYPE_INT8) {
                virtual_int(sink, "numeric_scale", 0);
            }
            return;
        }
    }
    virtual_null(sink, "numeric_precision");
    virtual_null(sink, "numeric_precision_radix");
    virtual_null(sink, "numeric_scale");
    if (type->kind == TYPE_NUMERIC && type->typmod >= 4) {
        virtual_int(sink, "numeric_precision", (type->typmod - 4) >> 16 & 0xffff);
        virtual_int(sink, "numeric_precision_radix", 10);
        virtual_int(sink, "numeric_scale", (type->typmod - 4) & 0x7ff);
    }
}

/* data_type is the type without its parameters; udt_name would be the name in pg_type. NULL where
 * PostgreSQL has NULL: clients tell "no limit" from "limit 0" by it. */
static void add_column(struct virtual_sink *sink, const char *schema, const char *table,
                       uint32_t position, const char *name, const struct type *type,
                       const char *default_sql)
{
    struct type bare = *type;
    ASSERT(position > 0 && type->kind != 0);
    bare.typmod = -1;
    virtual_begin(sink);
    virtual_text(sink, "table_catalog", database_of(sink));
    virtual_text(sink, "table_schema", schema);
    virtual_text(sink, "table_name", table);
    virtual_text(sink, "column_name", name);
    virtual_int(sink, "ordinal_position", position);
    virtual_text(sink, "column_default", default_sql);
    virtual_text(sink, "is_nullable", type->nullable ? "YES" : "NO");
    virtual_text(sink, "data_type", type_format(sink->arena, &bare));
    virtual_null(sink, "character_maximum_length");
    virtual_null(sink, "character_octet_length");
    virtual_null(sink, "datetime_precision");
    if ((type->oid == 1043 || type->oid == 1042) && type->typmod >= 4) {
        virtual_int(sink, "character_maximum_length", type->typmod - 4);
    }
    numeric_facts(sink, type);
    virtual_text(sink, "udt_catalog", database_of(sink));
    virtual_text(sink, "udt_schema", "pg_catalog");
    virtual_text(sink, "udt_name", type_format(sink->arena, &bare));
    virtual_text(sink, "is_identity", "NO");
    virtual_text(sink, "is_generated", "NEVER");
    virtual_text(sink, "is_updatable", "YES");
}

/* What JDBC's getColumns reads, for relations of any kind. */
void virtual_is_columns(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, false, &at)) != NULL;) {
        for (uint32_t i = 0; item->kind != CATALOG_INDEX && i < item->columns.cols; i++) {
            add_column(sink, schema_of(sink, item), item->name, i + 1, item->columns.names[i],
                       &item->columns.types[i], item->defaults != NULL ? item->defaults[i] : NULL);
        }
    }
    const struct virtual_table *t;
    for (size_t i = 0; (t = virtual_at(sink->session->coord, i)) != NULL; i++) {
        for (uint32_t j = 0; j < t->relation.columns.cols; j++) {
            add_column(sink, t->spec->schema, t->spec->name, j + 1, t->relation.columns.names[j],
                       &t->relation.columns.types[j], NULL);
        }
    }
}

/* As pg_namespace. */
void virtual_is_schemata(struct virtual_sink *sink)
{
    const struct catalog *c = sink->session->coord->catalog;
    const struct catalog_database *db = catalog_database(c, database_of(sink));
    const struct catalog_schema *schema;
    for (size_t i = 0; (schema = catalog_schema_at(c, i)) != NULL; i++) {
        if (schema->database == 0 || (db != NULL && schema->database == db->id)) {
            virtual_begin(sink);
            virtual_text(sink, "catalog_name", database_of(sink));
            virtual_text(sink, "schema_name", schema->name);
            virtual_text(sink, "schema_owner", "tailrace");
        }
    }
}

/* The standard's views are plain ones: they cannot be written to here. */
void virtual_is_views(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, false, &at)) != NULL;) {
        if (item->kind == CATALOG_VIEW) {
            virtual_begin(sink);
            virtual_text(sink, "table_catalog", database_of(sink));
            virtual_text(sink, "table_schema", schema_of(sink, item));
            virtual_text(sink, "table_name", item->name);
            virtual_text(sink, "view_definition", item->definition);
            virtual_text(sink, "check_option", "NONE");
            virtual_text(sink, "is_updatable", "NO");
            virtual_text(sink, "is_insertable_into", "NO");
        }
    }
}

/* Whoever is connected may act as any role. */
void virtual_is_enabled_roles(struct virtual_sink *sink)
{
    const struct catalog_role *role;
    for (size_t i = 0; (role = catalog_role_at(sink->session->coord->catalog, i)) != NULL; i++) {
        virtual_begin(sink);
        virtual_text(sink, "role_name", role->name);
    }
}

/* PostgreSQL's one row: a database has one encoding. */
void virtual_is_character_sets(struct virtual_sink *sink)
{
    virtual_begin(sink);
    virtual_text(sink, "character_set_name", "UTF8");
    virtual_text(sink, "character_repertoire", "UCS");
    virtual_text(sink, "form_of_use", "UTF8");
    virtual_text(sink, "default_collate_catalog", database_of(sink));
    virtual_text(sink, "default_collate_schema", "pg_catalog");
    virtual_text(sink, "default_collate_name", "default");
}
