/* psql 15's \d family: every query it sends is planned and answered over a small catalog. */
#include "tests/unit/ctrl/adapter/sql/world.h"
#include "tests/unit/harness.h"

#include <stdio.h>

static void must(err_t err, const char *what)
{
    if (err != ERR_OK) {
        fprintf(stderr, "%s\n  %s %s\n", what, err_sqlstate(err), err_text(err));
        err_free(err);
        CU_FAIL("an error where none is expected");
    }
}

static void load_tables(struct world *w)
{
    FILE *f = fopen("tests/unit/ctrl/adapter/sql/catalog.sql", "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, f) > 0) {
        must(world_virtual(w, "pg_catalog", line), line);
    }
    free(line);
    fclose(f);
    const char *definitions = "create table mz_object_definitions (oid oid, definition text)";
    must(world_virtual(w, "mz_internal", definitions), definitions);
}

/* Tables of users have no array columns, so it could not be created so. */
static void make_array(struct world *w, const char *table, const char *column)
{
    struct schema *columns = &world_find(w, "pg_catalog", table)->relation.columns;
    for (uint32_t c = 0; c < columns->cols; c++) {
        if (strcmp(columns->names[c], column) == 0) {
            columns->types[c].oid = type_array_of(columns->types[c].oid);
        }
    }
}

static struct world *catalog_world(void)
{
    struct world *w = world_new();
    load_tables(w);
    make_array(w, "pg_class", "reloptions");
    static const struct {
        const char *schema, *name, *insert;
    } rows[] = {
        {"pg_catalog", "pg_namespace",
         "insert into pg_catalog.pg_namespace values (2200, 'public', 10, null), "
         "(11, 'pg_catalog', 10, null)"},
        {"pg_catalog", "pg_roles",
         "insert into pg_catalog.pg_roles (rolname, rolsuper, rolcanlogin, oid) values "
         "('tailrace', true, true, 10)"},
        {"pg_catalog", "pg_am", "insert into pg_catalog.pg_am values (2, 'heap', 0, 't')"},
        {"pg_catalog", "pg_class",
         "insert into pg_catalog.pg_class (oid, relname, relnamespace, relowner, relkind, relam, "
         "reltoastrelid, reloftype, relhasindex) values "
         "(16500, 't', 2200, 10, 'r', 2, 0, 0, true), (16501, 'v', 2200, 10, 'v', 0, 0, 0, false), "
         "(16502, 't_idx', 2200, 10, 'i', 0, 0, 0, false), "
         "(16503, 'm', 2200, 10, 'm', 2, 0, 0, false), "
         "(1259, 'pg_class', 11, 10, 'r', 2, 0, 0, false)"},
        {"pg_catalog", "pg_attribute",
         "insert into pg_catalog.pg_attribute (attrelid, attname, atttypid, atttypmod, attnum, "
         "attnotnull, attisdropped, atthasdef, attcollation, attidentity, attgenerated) values "
         "(16500, 'a', 23, -1, 1, true, false, false, 0, '', ''), "
         "(16500, 'b', 1043, 14, 2, false, false, false, 100, '', ''), "
         "(16500, 'c', 1700, 655366, 3, false, false, false, 0, '', '')"},
        {"pg_catalog", "pg_type",
         "insert into pg_catalog.pg_type (oid, typname, typnamespace, typrelid, typelem, typarray, "
         "typcollation) values (23, 'int4', 11, 0, 0, 1007, 0), (1043, 'varchar', 11, 0, 0, 1015, "
         "100)"},
        {"pg_catalog", "pg_index",
         "insert into pg_catalog.pg_index (indexrelid, indrelid, indisprimary, indisunique, "
         "indisvalid) values (16502, 16500, false, false, true)"},
        {"pg_catalog", "pg_database",
         "insert into pg_catalog.pg_database (oid, datname, datdba, encoding, datcollate, "
         "datctype, "
         "datlocprovider) values (1, 'tailrace', 10, 6, 'C', 'C', 'c')"},
        {"mz_internal", "mz_object_definitions",
         "insert into mz_internal.mz_object_definitions values (16501, 'SELECT 1'), "
         "(16502, 'CREATE INDEX t_idx ON t (a)')"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        must(world_fill(w, rows[i].schema, rows[i].name, rows[i].insert), rows[i].insert);
    }
    return w;
}

static void all_queries(void)
{
    struct world *w = catalog_world();
    FILE *f = fopen("tests/unit/ctrl/adapter/sql/psql.sql", "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    struct buf sql = {0};
    char *line = NULL;
    size_t cap = 0;
    int queries = 0;
    while (getline(&line, &cap, f) > 0) {
        if (strncmp(line, "--", 2) != 0) {
            buf_append_str(&sql, line);
            continue;
        }
        if (sql.len > 0) {
            struct world_result r;
            must(world_query(w, buf_cstr(&sql), &r), buf_cstr(&sql));
            world_result_free(&r);
            queries++;
        }
        buf_clear(&sql);
    }
    CU_ASSERT(queries > 40);
    free(line);
    buf_free(&sql);
    fclose(f);
    world_free(w);
}

static void expect(struct world *w, const char *sql, const char *want)
{
    struct world_result r;
    struct buf got = {0};
    must(world_query(w, sql, &r), sql);
    for (size_t i = 0; i < r.rows_len; i++) {
        buf_printf(&got, "%s%s", i > 0 ? ";" : "", r.rows[i]);
    }
    CU_ASSERT_STRING_EQUAL(buf_cstr(&got), want);
    if (strcmp(buf_cstr(&got), want) != 0) {
        fprintf(stderr, "%s\n  got  %s\n  want %s\n", sql, buf_cstr(&got), want);
    }
    buf_free(&got);
    world_result_free(&r);
}

static void answers(void)
{
    struct world *w = catalog_world();
    must(world_exec(w, "create table t (a int)"), "create table");
    expect(w, "select attname, format_type(atttypid, atttypmod) from pg_attribute order by attnum",
           "a|integer;b|character varying(10);c|numeric(10,2)");
    expect(w, "select relname, pg_get_userbyid(relowner) from pg_class where relkind = 'v'",
           "v|tailrace");
    expect(w, "select 16500::regclass, 16500::regclass::text, 99::regclass", "t|t|99");
    expect(w, "select 'pg_class'::regclass::oid = c.oid from pg_class c where relname = 'nosuch'",
           "");
    expect(w, "select pg_get_viewdef(16501), pg_get_indexdef(16502, 0, true)",
           "SELECT 1|CREATE INDEX t_idx ON t (a)");
    expect(w, "select ARRAY(select 1 from pg_auth_members)", "{}");
    expect(w, "select current_user, current_database(), current_schema(), version()",
           "tester|tailrace|public|Tailrace 0");
    expect(w, "select current_setting('server_version'), current_setting('nosuch', true)",
           "15.0|\\N");
    expect(w,
           "select nspname from pg_namespace where nspname = any (current_schemas(true)) "
           "order by 1",
           "pg_catalog;public");
    expect(w, "select now(), current_date", "2023-11-14 22:13:20+00|2023-11-14");
    expect(w,
           "select n.nspname, count(*) from pg_class c join pg_namespace n on n.oid = "
           "c.relnamespace group by 1 order by 1",
           "pg_catalog|1;public|4");
    world_free(w);
}

static const struct test_case cases[] = {{"all queries", all_queries}, {"answers", answers}};
TEST_SUITE("ctrl/adapter/sql psql", cases)
