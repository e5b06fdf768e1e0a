/* The catalog: what was created is there after a restart, a crash, and never by halves. */
#include "core/base/assert.h"
#include "core/io/sim.h"
#include "ctrl/adapter/catalog/catalog_internal.h"
#include "tests/unit/harness.h"

#include <stdio.h>

/* One life of a process that works on the catalog. */
struct life {
    struct sim *sim;
    struct sim_process *process;
    void (*work)(struct catalog *c, void *arg);
    void *arg;
    err_t err;
    bool ran;
    struct catalog *catalog;
    bool keep; /* leave it open until the process dies */
};

static void on_start(struct io_loop *loop, void *arg)
{
    struct life *life = arg;
    const struct catalog_config config = {.loop = loop, .directory = "data/catalog"};
    life->err = catalog_open(&config, &life->catalog);
    if (life->err == ERR_OK && life->work != NULL) {
        life->work(life->catalog, life->arg);
    }
    life->ran = true;
    if (!life->keep) {
        catalog_close(life->catalog);
        life->catalog = NULL;
    }
}

/* The process died: its memory goes. */
static void on_destroy(void *arg)
{
    struct life *life = arg;
    catalog_close(life->catalog);
    life->catalog = NULL;
}

static void live(struct sim *sim, void (*work)(struct catalog *c, void *arg), void *arg)
{
    struct life life = {.sim = sim, .work = work, .arg = arg};
    life.process = sim_process_start(sim, "host", "environmentd", on_start, on_destroy, &life);
    sim_run_until(sim, sim_now_us(sim) + 1000000);
    CU_ASSERT_TRUE(life.ran);
    CU_ASSERT_PTR_NULL(life.err);
    if (life.err != ERR_OK) {
        printf("%s\n", err_text(life.err));
    }
    err_free(life.err);
    sim_process_kill(sim, life.process);
}

static const struct catalog_item *create(struct catalog *c, enum catalog_kind kind,
                                         const char *name, uint64_t depends, uint64_t replaces,
                                         const char *sqlstate)
{
    const char *names[] = {"a", "b"};
    const char *defaults[] = {NULL, "'x'"};
    struct type types[] = {type_of(TYPE_INT4), type_of(TYPE_TEXT)};
    uint32_t keys[] = {1, 0};
    types[0].nullable = false;
    struct catalog_item spec = {.kind = kind,
                                .name = name,
                                .schema = catalog_schema(c, "tailrace", "public")->id,
                                .create_sql = "CREATE ...",
                                .definition = kind == CATALOG_VIEW ? "SELECT 1" : NULL,
                                .columns = {2, types, names},
                                .defaults = defaults,
                                .depends = &depends,
                                .depends_len = depends != 0 ? 1 : 0};
    if (kind == CATALOG_INDEX) {
        spec.on = depends;
        spec.keys = keys;
        spec.keys_len = 2;
        spec.cluster = catalog_cluster(c, "default")->id;
        spec.memory_limit = 5ULL << 30;
    } else if (kind == CATALOG_SOURCE) {
        spec.source = (struct catalog_source){"/tmp/x.csv", 1, true, 3, ';', true};
    }
    const struct catalog_item *item = NULL;
    err_t err = catalog_create_item(c, &spec, replaces, &item);
    CU_ASSERT_STRING_EQUAL(err != ERR_OK ? err_sqlstate(err) : "", sqlstate);
    err_free(err);
    return item;
}

static void fill(struct catalog *c, void *arg)
{
    const struct catalog_item *t = create(c, CATALOG_TABLE, "t", 0, 0, "");
    const struct catalog_item *v = create(c, CATALOG_VIEW, "v", t->id, 0, "");
    create(c, CATALOG_VIEW, "w", v->id, 0, "");
    create(c, CATALOG_INDEX, "i", t->id, 0, "");
    create(c, CATALOG_SOURCE, "s", 0, 0, "");
    create(c, CATALOG_TABLE, "t", 0, 0, "42P07");
    CU_ASSERT_PTR_NULL(catalog_comment(c, t->id, "a table"));
    CU_ASSERT_PTR_NULL(catalog_create_database(c, "other"));
    const struct catalog_cluster spec = {
        .name = "big", .size = "2-2", .scale = 2, .workers = 2, .replicas = 3};
    const struct catalog_cluster *k = NULL;
    CU_ASSERT_PTR_NULL(catalog_create_cluster(c, &spec, &k));
    err_t err = catalog_create_schema(c, catalog_database(c, "other")->id, "pg_bad");
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_STRING_EQUAL(err_sqlstate(err), "42939");
    err_free(err);
}

static void check(struct catalog *c, void *arg)
{
    const struct catalog_schema *schema = catalog_schema(c, "tailrace", "public");
    CU_ASSERT_PTR_NOT_NULL_FATAL(schema);
    const struct catalog_item *t = catalog_item(c, schema->id, "t");
    const struct catalog_item *i = catalog_item(c, schema->id, "i");
    const struct catalog_item *s = catalog_item(c, schema->id, "s");
    CU_ASSERT_FATAL(t != NULL && i != NULL && s != NULL);
    CU_ASSERT_EQUAL_FATAL(t->columns.cols, 2);
    CU_ASSERT_FALSE(t->columns.types[0].nullable);
    CU_ASSERT_EQUAL(t->columns.types[1].kind, TYPE_TEXT);
    CU_ASSERT_STRING_EQUAL(t->columns.names[1], "b");
    CU_ASSERT_STRING_EQUAL(t->defaults[1], "'x'");
    CU_ASSERT_PTR_NULL(t->defaults[0]);
    CU_ASSERT_STRING_EQUAL(t->comment, "a table");
    CU_ASSERT_TRUE(i->on == t->id && i->keys_len == 2 && i->keys[0] == 1 && i->keys[1] == 0);
    CU_ASSERT_EQUAL(i->memory_limit, arg != NULL ? 0 : 5ULL << 30);
    CU_ASSERT_EQUAL(t->memory_limit, 0);
    CU_ASSERT_PTR_EQUAL(catalog_index_on(c, t->id, 0), i);
    CU_ASSERT_PTR_NULL(catalog_index_on(c, t->id, 1));
    CU_ASSERT_EQUAL(catalog_count(c, CATALOG_TABLE), 1);
    CU_ASSERT_EQUAL(catalog_count(c, CATALOG_VIEW), 2);
    CU_ASSERT_EQUAL(catalog_count(c, CATALOG_INDEX), 1);
    CU_ASSERT_TRUE(s->source.tail && s->source.delimiter == ';' && s->source.csv_columns == 3);
    CU_ASSERT_PTR_NOT_NULL(catalog_schema(c, "other", "public"));
    CU_ASSERT_PTR_NOT_NULL(catalog_schema(c, "other", "pg_catalog"));
    CU_ASSERT_PTR_NULL(catalog_schema(c, "nowhere", "public"));
    CU_ASSERT_EQUAL(catalog_cluster(c, "big")->replicas, 3);
    struct catalog_ids ids = {0};
    *VEC_PUSH(&ids, ids) = t->id;
    catalog_dependants(c, &ids);
    CU_ASSERT_EQUAL(ids.ids_len, 4); /* t, v, w, i */
    free(ids.ids);
}

static void empty_out(struct catalog *c, void *arg)
{
    const struct catalog_schema *schema = catalog_schema(c, "tailrace", "public");
    uint64_t id = catalog_item(c, schema->id, "w")->id;
    CU_ASSERT_PTR_NULL(catalog_drop_items(c, &id, 1));
    CU_ASSERT_PTR_NULL(catalog_item_id(c, id));
    CU_ASSERT_EQUAL(catalog_count(c, CATALOG_VIEW), 1);
    uint64_t table = catalog_item(c, schema->id, "t")->id;
    create(c, CATALOG_INDEX, "j", table, 0, "");
    CU_ASSERT_STRING_EQUAL(catalog_index_on(c, table, 1)->name, "j");
    id = catalog_item(c, schema->id, "i")->id;
    CU_ASSERT_PTR_NULL(catalog_drop_items(c, &id, 1));
    CU_ASSERT_STRING_EQUAL(catalog_index_on(c, table, 0)->name, "j");
    CU_ASSERT_PTR_NULL(catalog_index_on(c, table, 1));
    create(c, CATALOG_VIEW, "v", catalog_item(c, schema->id, "t")->id,
           catalog_item(c, schema->id, "v")->id, "");
    CU_ASSERT_PTR_NULL(catalog_drop_database(c, catalog_database(c, "other")->id));
    CU_ASSERT_PTR_NULL(catalog_drop_cluster(c, catalog_cluster(c, "big")->id));
}

static void check_emptied(struct catalog *c, void *arg)
{
    const struct catalog_schema *schema = catalog_schema(c, "tailrace", "public");
    CU_ASSERT_PTR_NULL(catalog_item(c, schema->id, "w"));
    CU_ASSERT_PTR_NOT_NULL(catalog_item(c, schema->id, "v"));
    CU_ASSERT_PTR_NULL(catalog_database(c, "other"));
    CU_ASSERT_PTR_NULL(catalog_cluster(c, "big"));
    CU_ASSERT_EQUAL(catalog_epoch(c), 4);
}

static void test_restart(void)
{
    struct sim_config config = sim_config_default(1);
    struct sim *sim = sim_new(&config);
    live(sim, fill, NULL);
    live(sim, check, NULL);
    live(sim, empty_out, NULL);
    live(sim, check_emptied, NULL);
    sim_free(sim);
}

/* A second environmentd on the directory: the first is refused from its next change on. */
static void test_fencing(void)
{
    struct sim_config config = sim_config_default(2);
    struct sim *sim = sim_new(&config);
    struct life first = {.sim = sim, .work = fill, .keep = true};
    first.process = sim_process_start(sim, "host", "first", on_start, on_destroy, &first);
    sim_run_until(sim, sim_now_us(sim) + 1000000);
    CU_ASSERT_PTR_NOT_NULL_FATAL(first.catalog);
    live(sim, check, NULL);
    err_t err = catalog_create_database(first.catalog, "late");
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_EQUAL(err_code(err), ERR_FENCED);
    err_free(err);
    CU_ASSERT_PTR_NULL(catalog_database(first.catalog, "late"));
    sim_process_kill(sim, first.process);
    sim_free(sim);
}

/* Creates tables one by one, noting each that was acknowledged. */
struct progress {
    int acknowledged;
    int found;
};

static void create_many(struct catalog *c, void *arg)
{
    struct progress *p = arg;
    for (int i = 0; i < 5; i++) {
        char name[16];
        snprintf(name, sizeof(name), "t%d", p->acknowledged);
        create(c, CATALOG_TABLE, name, 0, 0, "");
        p->acknowledged++;
    }
}

static void count(struct catalog *c, void *arg)
{
    struct progress *p = arg;
    p->found = 0;
    while (catalog_item_at(c, (size_t)p->found) != NULL) {
        p->found++;
    }
}

/* Power is lost after each batch of creations: what was acknowledged is there. */
static void test_power_loss(void)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim_config config = sim_config_default(seed);
        struct sim *sim = sim_new(&config);
        struct progress p = {0};
        for (int round = 0; round < 3; round++) {
            struct life life = {.sim = sim, .work = create_many, .arg = &p, .keep = true};
            life.process = sim_process_start(sim, "host", "environmentd", on_start, on_destroy,
                                             &life);
            sim_run_until(sim, sim_now_us(sim) + 1000000);
            CU_ASSERT_PTR_NULL_FATAL(life.err);
            sim_host_crash(sim, "host");
            live(sim, count, &p);
            CU_ASSERT_EQUAL(p.found, p.acknowledged);
            if (p.found != p.acknowledged) {
                printf("seed %d round %d: %d found of %d\n", (int)seed, round, p.found,
                       p.acknowledged);
            }
        }
        sim_free(sim);
    }
}

/* The disk fails: the statement is refused, memory stays as it was, later ones succeed. */
static void test_disk_failure(void)
{
    struct sim_config config = sim_config_default(3);
    struct sim *sim = sim_new(&config);
    struct life life = {.sim = sim, .work = fill, .keep = true};
    life.process = sim_process_start(sim, "host", "environmentd", on_start, on_destroy, &life);
    sim_run_until(sim, sim_now_us(sim) + 1000000);
    CU_ASSERT_PTR_NOT_NULL_FATAL(life.catalog);
    sim_disk_fail(sim, "host", 28 /* ENOSPC */);
    err_t err = catalog_create_database(life.catalog, "full");
    CU_ASSERT_PTR_NOT_NULL(err);
    err_free(err);
    CU_ASSERT_PTR_NULL(catalog_database(life.catalog, "full"));
    sim_disk_fail(sim, "host", 0);
    err = catalog_create_database(life.catalog, "full");
    CU_ASSERT_PTR_NULL(err);
    err_free(err);
    sim_process_kill(sim, life.process);
    live(sim, check, NULL);
    sim_free(sim);
}

static void open_as(struct io_loop *loop, const char *environment, const char *sqlstate)
{
    const struct catalog_config config = {
        .loop = loop, .directory = "data/catalog", .environment = environment};
    struct catalog *c = NULL;
    err_t err = catalog_open(&config, &c);
    CU_ASSERT_STRING_EQUAL(err != ERR_OK ? err_sqlstate(err) : "", sqlstate);
    err_free(err);
    catalog_close(c);
}

static void environments(struct io_loop *loop, void *arg)
{
    open_as(loop, "0f0e0d0c-0b0a-0908-0706-050403020100", "");
    open_as(loop, NULL, "");
    open_as(loop, "0f0e0d0c-0b0a-0908-0706-050403020100", "");
    open_as(loop, "1f0e0d0c-0b0a-0908-0706-050403020100", "22023");
    open_as(loop, "nonsense", "22023");
    /* Not a database at all. */
    CU_ASSERT_PTR_NULL(io_write_whole_sync(loop, "data/catalog/catalog.sqlite",
                                           "this is not a catalog, it is a text of some length",
                                           50, 0600));
    open_as(loop, NULL, "XX001");
}

/* Rows nobody wrote that way: the catalog is refused, whatever they would have led to. */
static void damage(struct catalog *c, void *arg)
{
    CU_ASSERT_PTR_NULL(catalog_store_run(&c->store, arg, ""));
}

static void open_damaged(struct io_loop *loop, void *arg)
{
    open_as(loop, NULL, "XX001");
}

static void test_damage(void)
{
    static const char *const statements[] = {
        "UPDATE keys SET col = 2 WHERE position = 0",
        "UPDATE items SET on_id = 12345 WHERE name = 'i'",
        "UPDATE items SET on_id = 1 WHERE name = 't'",
        "UPDATE items SET schema_id = 12345 WHERE name = 'v'",
        "UPDATE items SET kind = 9 WHERE name = 'v'",
        "UPDATE items SET path = NULL WHERE name = 's'",
        "UPDATE items SET id = 99999 WHERE name = 's'",
        "UPDATE columns SET kind = 200 WHERE position = 1",
        "UPDATE columns SET position = 7 WHERE position = 1",
        "UPDATE schemas SET database_id = 777 WHERE name = 'public'",
        "INSERT INTO depends VALUES (4242, 1)",
        "UPDATE clusters SET workers = 0 WHERE name = 'big'",
        "DELETE FROM meta WHERE key = 'next_id'",
        "UPDATE meta SET value = 'not a uuid' WHERE key = 'environment'",
    };
    for (size_t i = 0; i < ARRAY_LEN(statements); i++) {
        struct sim_config config = sim_config_default(5 + i);
        struct sim *sim = sim_new(&config);
        live(sim, fill, NULL);
        live(sim, damage, (void *)statements[i]);
        struct sim_process *p = sim_process_start(sim, "host", "environmentd", open_damaged, NULL,
                                                  NULL);
        sim_run_until(sim, sim_now_us(sim) + 1000000);
        sim_process_kill(sim, p);
        sim_free(sim);
    }
}

/* What version 1 wrote: it had no limits of memory. */
static void make_version_1(struct catalog *c, void *arg)
{
    CU_ASSERT_PTR_NULL(catalog_store_run(&c->store, "ALTER TABLE items DROP COLUMN memory_limit",
                                         ""));
    CU_ASSERT_PTR_NULL(catalog_store_set_meta(&c->store, "schema_version", 1));
}

static void make_version_3(struct catalog *c, void *arg)
{
    CU_ASSERT_PTR_NULL(catalog_store_set_meta(&c->store, "schema_version", 3));
}

static void open_newer(struct io_loop *loop, void *arg)
{
    open_as(loop, NULL, "22023");
}

/* An earlier version is migrated once and stays so; a later one is left alone. */
static void test_versions(void)
{
    struct sim_config config = sim_config_default(6);
    struct sim *sim = sim_new(&config);
    char migrated[] = "migrated";
    live(sim, fill, NULL);
    live(sim, make_version_1, NULL);
    live(sim, check, migrated);
    live(sim, check, migrated);
    live(sim, make_version_3, NULL);
    struct sim_process *p = sim_process_start(sim, "host", "environmentd", open_newer, NULL, NULL);
    sim_run_until(sim, sim_now_us(sim) + 1000000);
    sim_process_kill(sim, p);
    sim_free(sim);
}

static void test_environments(void)
{
    struct sim_config config = sim_config_default(4);
    struct sim *sim = sim_new(&config);
    struct sim_process *p = sim_process_start(sim, "host", "environmentd", environments, NULL,
                                              NULL);
    sim_run_until(sim, sim_now_us(sim) + 1000000);
    sim_process_kill(sim, p);
    sim_free(sim);
}

static const struct test_case cases[] = {
    {"restart", test_restart},
    {"fencing", test_fencing},
    {"power loss", test_power_loss},
    {"disk failure", test_disk_failure},
    {"environments", test_environments},
    {"damage", test_damage},
    {"versions", test_versions},
};
TEST_SUITE("catalog", cases)
