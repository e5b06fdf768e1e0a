/*
 * Catalog tables: from their descriptions to relations, and rows on demand.
 *
 * A query over pg_class is planned with pg_class's present rows as constants (virtual_rows) and
 * runs on the engine in this process. So it is a snapshot of the moment it is planned, in one
 * transaction or many: like PostgreSQL's own catalog snapshots, not at the transaction's time.
 *
 * Fillers (virtual_pg.c, virtual_is.c, virtual_mz.c) set columns by name; a name that the
 * description lacks is a mistake of ours and asserts, in the first test that reads the table. What
 * is not set is zero, "" or NULL by type, as PostgreSQL has it in columns that do not apply.
 */
#include "core/base/assert.h"
#include "ctrl/adapter/coord/virtual_internal.h"

#include <stdarg.h>
#include <stdio.h>

/* Catalog tables have ids no user object can have, for plans never see them. */
#define VIRTUAL_ID_BIT (1ULL << 62)

enum { OID_TEXT_ARRAY = 1009 };

/* ---- descriptions ---------------------------------------------------------------------------- */

/* The type behind the colon of a description; len since it ends at a space. name is text with an
 * oid of its own, char is a one-letter text: pg_catalog has both everywhere. */
static struct type column_type(const char *name, size_t len)
{
    static const struct {
        const char *name;
        uint8_t kind;
        uint32_t oid; /* 0: the kind's own */
    } types[] = {{"oid", TYPE_OID, 0},   {"name", TYPE_TEXT, 19},
                 {"char", TYPE_TEXT, 0}, {"text", TYPE_TEXT, 0},
                 {"text[]", TYPE_TEXT, OID_TEXT_ARRAY},
                 {"bool", TYPE_BOOL, 0}, {"int2", TYPE_INT2, 0},
                 {"int4", TYPE_INT4, 0}, {"int8", TYPE_INT8, 0},
                 {"float4", TYPE_FLOAT4, 0}, {"float8", TYPE_FLOAT8, 0},
                 {"timestamptz", TYPE_TIMESTAMPTZ, 0},
                 {"interval", TYPE_INTERVAL, 0}};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strlen(types[i].name) == len && memcmp(types[i].name, name, len) == 0) {
            struct type t = type_of((enum type_kind)types[i].kind);
            t.oid = types[i].oid != 0 ? types[i].oid : t.oid;
            t.nullable = true;
            t.typmod = -1;
            return t;
        }
    }
    UNREACHABLE();
}

/* Columns whose absence is NULL; the others are zero or empty. text is NULL when not set; name and
 * char never are NULL in PostgreSQL's catalog. */
static bool absent_is_null(const struct type *type)
{
    return type->kind == TYPE_TIMESTAMPTZ || type->kind == TYPE_INTERVAL ||
           (type->kind == TYPE_TEXT &&
            (type->oid == type_of(TYPE_TEXT).oid || type->oid == OID_TEXT_ARRAY));
}

/* "oid:oid relname:name" to a relation. The id has a bit that no item's has; the oid is what
 * pg_class says of the table itself. */
static void describe(struct virtual_table *t)
{
    const char *at = t->spec->columns;
    uint32_t n = 1;
    ASSERT(t->relation.columns.cols == 0);
    for (const char *p = at; *p != '\0'; p++) {
        n += *p == ' ';
    }
    struct schema *s = &t->relation.columns;
    s->types = ARENA_ARRAY(&t->arena, struct type, n);
    s->names = ARENA_ARRAY(&t->arena, const char *, n);
    while (*at != '\0') {
        size_t len = strcspn(at, " ");
        const char *colon = memchr(at, ':', len);
        ASSERT(colon != NULL && s->cols < n);
        s->names[s->cols] = arena_strndup(&t->arena, at, (size_t)(colon - at));
        s->types[s->cols++] = column_type(colon + 1, len - (size_t)(colon - at) - 1);
        at += len + (at[len] == ' ');
    }
    t->relation.id = VIRTUAL_ID_BIT | t->spec->oid;
    t->relation.oid = t->spec->oid;
    t->relation.kind = SQL_REL_VIRTUAL;
    t->relation.schema = t->spec->schema;
    t->relation.name = t->spec->name;
}

/* Descriptions are constants of the program: what is wrong with one is found by any start. */
err_t virtual_init(struct coord *coord)
{
    ASSERT(coord->virtuals == NULL);
    coord->virtuals = mem_zalloc(virtual_specs_len * sizeof(*coord->virtuals));
    coord->virtuals_len = virtual_specs_len;
    for (size_t i = 0; i < virtual_specs_len; i++) {
        coord->virtuals[i].spec = &virtual_specs[i];
        describe(&coord->virtuals[i]);
    }
    return ERR_OK;
}

/* Relations point into their arenas and into the specs. */
void virtual_free(struct coord *coord)
{
    ASSERT(coord != NULL);
    for (size_t i = 0; i < coord->virtuals_len; i++) {
        arena_free(&coord->virtuals[i].arena);
    }
    free(coord->virtuals);
    coord->virtuals = NULL;
    coord->virtuals_len = 0;
}

/* A hundred names, compared one by one: it is done once a name in a statement. */
const struct sql_relation *virtual_find(const struct coord *coord, const char *schema,
                                        const char *name)
{
    ASSERT(schema != NULL && name != NULL);
    for (size_t i = 0; i < coord->virtuals_len; i++) {
        const struct virtual_spec *spec = coord->virtuals[i].spec;
        if (strcmp(spec->name, name) == 0 && strcmp(spec->schema, schema) == 0) {
            return &coord->virtuals[i].relation;
        }
    }
    return NULL;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Rows lie one behind the other, as the planner wants its constants. Growing moves them, so
 * sink->row is only good until the next call. */
void virtual_begin(struct virtual_sink *sink)
{
    const struct schema *s = &sink->relation->columns;
    ASSERT(sink->rows_len <= sink->rows_cap);
    if (sink->rows_len == sink->rows_cap) {
        uint32_t cap = sink->rows_cap == 0 ? 16 : sink->rows_cap * 2;
        struct datum *rows = arena_alloc(sink->arena, (size_t)cap * s->cols * sizeof(*rows));
        if (sink->rows_len > 0) {
            memcpy(rows, sink->rows, (size_t)sink->rows_len * s->cols * sizeof(*rows));
        }
        sink->rows = rows;
        sink->rows_cap = cap;
    }
    sink->row = sink->rows + (size_t)sink->rows_len++ * s->cols;
    for (uint32_t i = 0; i < s->cols; i++) {
        memset(&sink->row[i], 0, sizeof(sink->row[i]));
        sink->row[i].null = absent_is_null(&s->types[i]);
        if (s->types[i].kind == TYPE_TEXT) {
            sink->row[i].s = "";
        }
    }
}

/* By name, linear: tables have tens of columns and hundreds of rows. Setting a column makes it not
 * NULL. */
static struct datum *column(struct virtual_sink *sink, const char *name, uint8_t *kind)
{
    const struct schema *s = &sink->relation->columns;
    ASSERT(sink->row != NULL);
    for (uint32_t i = 0; i < s->cols; i++) {
        if (strcmp(s->names[i], name) == 0) {
            *kind = s->types[i].kind;
            sink->row[i].null = false;
            return &sink->row[i];
        }
    }
    UNREACHABLE();
}

/* NULL sets SQL's NULL, also in a column of type name: mz_ tables use it for "none". */
void virtual_text(struct virtual_sink *sink, const char *name, const char *value)
{
    uint8_t kind;
    struct datum *d = column(sink, name, &kind);
    ASSERT(kind == TYPE_TEXT);
    if (value == NULL) {
        d->null = true;
        return;
    }
    d->s = arena_strdup(sink->arena, value);
    d->len = (uint32_t)strlen(value);
}

/* For ids and lists; the text is copied into the arena. */
void virtual_printf(struct virtual_sink *sink, const char *name, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    ASSERT(n >= 0);
    virtual_text(sink, name, text);
    free(text);
}

/* Any type whose value is a number; whether it fits is the filler's to know. */
void virtual_int(struct virtual_sink *sink, const char *name, int64_t value)
{
    uint8_t kind;
    struct datum *d = column(sink, name, &kind);
    ASSERT(kind == TYPE_INT2 || kind == TYPE_INT4 || kind == TYPE_INT8 || kind == TYPE_OID ||
           kind == TYPE_FLOAT4 || kind == TYPE_FLOAT8 || kind == TYPE_TIMESTAMPTZ);
    if (kind == TYPE_FLOAT4 || kind == TYPE_FLOAT8) {
        d->f = (double)value;
    } else {
        d->i = value;
    }
}

/* PostgreSQL's flags; false when never set. */
void virtual_bool(struct virtual_sink *sink, const char *name, bool value)
{
    uint8_t kind;
    struct datum *d = column(sink, name, &kind);
    ASSERT(kind == TYPE_BOOL);
    d->b = value;
}

/* For numbers, whose default is 0 and not NULL. */
void virtual_null(struct virtual_sink *sink, const char *name)
{
    uint8_t kind;
    column(sink, name, &kind)->null = true;
}

/* 0 is "none", hence NULL. */
void virtual_id(struct virtual_sink *sink, const char *name, uint64_t id)
{
    if (id == 0) {
        virtual_null(sink, name);
    } else if ((id & VIRTUAL_ID_BIT) != 0) {
        virtual_printf(sink, name, "s%llu", (unsigned long long)(id & ~VIRTUAL_ID_BIT));
    } else {
        virtual_printf(sink, name, "u%llu", (unsigned long long)id);
    }
}

/* at is a position in the catalog's list: no definition can run between two calls. */
const struct catalog_item *virtual_next_item(struct virtual_sink *sink, bool every, size_t *at)
{
    struct session *s = sink->session;
    const struct catalog *c = s->coord->catalog;
    const struct catalog_database *db = catalog_database(c, vars_get(s, "database"));
    const struct catalog_item *item;
    while ((item = catalog_item_at(c, (*at)++)) != NULL) {
        const struct catalog_schema *schema = catalog_schema_id(c, item->schema);
        ASSERT(schema != NULL);
        if (every || (db != NULL && schema->database == db->id)) {
            return item;
        }
    }
    return NULL;
}

/* In the order of the specs. */
const struct virtual_table *virtual_at(const struct coord *coord, size_t n)
{
    return n < coord->virtuals_len ? &coord->virtuals[n] : NULL;
}

/* Quoted where a name needs it: the text may be pasted into CREATE INDEX. */
void virtual_key_names(const struct coord *coord, const struct catalog_item *index,
                       struct buf *out)
{
    const struct catalog_item *on = catalog_item_id(coord->catalog, index->on);
    struct arena arena = {0};
    ASSERT(on != NULL);
    for (uint32_t i = 0; i < index->keys_len; i++) {
        buf_printf(out, "%s%s", i > 0 ? ", " : "",
                   sql_quote_ident(&arena, on->columns.names[index->keys[i]]));
    }
    arena_free(&arena);
}

/* Rows as of now, in the arena of the statement that is planned. A table without a filler has
 * none. */
err_t virtual_rows(struct session *s, const struct sql_relation *relation, struct arena *arena,
                   struct datum **rows, uint32_t *rows_len)
{
    ASSERT(relation->kind == SQL_REL_VIRTUAL && (relation->id & VIRTUAL_ID_BIT) != 0);
    struct virtual_table *t = NULL;
    for (size_t i = 0; i < s->coord->virtuals_len && t == NULL; i++) {
        t = s->coord->virtuals[i].spec->oid == relation->oid ? &s->coord->virtuals[i] : NULL;
    }
    ASSERT(t != NULL);
    struct virtual_sink sink = {.session = s, .relation = &t->relation, .arena = arena};
    if (t->spec->fill != NULL) {
        t->spec->fill(&sink);
    }
    *rows = sink.rows;
    *rows_len = sink.rows_len;
    return ERR_OK;
}
