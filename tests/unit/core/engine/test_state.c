/*
 * The data structures below the operators against simple twins: arrangement, hash table, ordered
 * multiset, order-preserving encoding, exact sums, pool.
 */
#include "core/base/hash.h"
#include "core/engine/acc.h"
#include "core/engine/arrange.h"
#include "core/engine/cells.h"
#include "core/engine/dict.h"
#include "core/engine/order.h"
#include "core/engine/oset.h"
#include "core/engine/kept.h"
#include "core/engine/wset.h"
#include "tests/unit/core/engine/host.h"
#include "tests/unit/harness.h"

#include <math.h>

/* ---- pool ------------------------------------------------------------------------------------ */

static void test_pool(void)
{
    struct account total = {0};
    struct pool pool;
    struct rng rng = {3};
    void *objects[500] = {0};
    size_t sizes[500];
    pool_init(&pool, &total);
    for (int i = 0; i < 20000; i++) {
        size_t at = rng_below(&rng, 500);
        if (objects[at] != NULL) {
            for (size_t b = 0; b < sizes[at]; b += 97) {
                CU_ASSERT_FATAL(((uint8_t *)objects[at])[b] == (uint8_t)at);
            }
            pool_free(&pool, objects[at], sizes[at]);
            objects[at] = NULL;
        } else {
            sizes[at] = rng_below(&rng, 50) == 0 ? rng_below(&rng, 60000) : rng_below(&rng, 300);
            objects[at] = pool_alloc(&pool, sizes[at]);
            CU_ASSERT_FATAL((uintptr_t)objects[at] % 16 == 0);
            CU_ASSERT_FATAL(pool_usable(sizes[at]) >= sizes[at]);
            memset(objects[at], (int)at, pool_usable(sizes[at]));
        }
    }
    CU_ASSERT(total.bytes > 0);
    for (size_t at = 0; at < 500; at++) {
        if (objects[at] != NULL) {
            pool_free(&pool, objects[at], sizes[at]);
        }
    }
    CU_ASSERT_EQUAL(total.bytes, 0);
}

/* Beyond 16 MiB pages are large ones; all of them go back as well. */
static void test_pool_large(void)
{
    enum { OBJECTS = 24 * 1024, SIZE = 1000 };
    struct account total = {0};
    struct pool pool;
    uint8_t **objects = mem_alloc(OBJECTS * sizeof(*objects));
    for (int round = 0; round < 2; round++) {
        pool_init(&pool, &total);
        for (uint32_t i = 0; i < OBJECTS; i++) {
            objects[i] = pool_alloc(&pool, SIZE);
            memset(objects[i], (int)i, SIZE);
        }
        CU_ASSERT(total.bytes >= (uint64_t)OBJECTS * SIZE);
        for (uint32_t i = 0; i < OBJECTS; i++) {
            CU_ASSERT_FATAL(objects[i][0] == (uint8_t)i && objects[i][SIZE - 1] == (uint8_t)i);
            if (round == 0) {
                pool_free(&pool, objects[i], SIZE);
            }
        }
        CU_ASSERT(round == 1 || total.bytes == 0);
        pool_clear(&pool);
        CU_ASSERT_EQUAL(total.bytes, 0);
    }
    free(objects);
}

/* ---- hash table: growth, removal, scans while it changes ------------------------------------- */

static void test_htable(void)
{
    enum { KEYS = 20000 };
    struct account total = {0};
    struct pool pool;
    struct htable table;
    struct rng rng = {4};
    bool *there = mem_zalloc(KEYS);
    pool_init(&pool, &total);
    htable_init(&table, 8, &pool, &total);
    for (int i = 0; i < 100000; i++) {
        uint64_t key = rng_below(&rng, KEYS);
        uint64_t hash = hash_u64(key) & (key % 7 == 0 ? 0xff00ffULL : UINT64_MAX); /* collide */
        struct htable_entry *entry = htable_find(&table, hash, &key, sizeof(key));
        CU_ASSERT_FATAL((entry != NULL) == there[key]);
        if (entry != NULL) {
            htable_remove(&table, entry);
        } else {
            htable_add(&table, hash, &key, sizeof(key));
        }
        there[key] = !there[key];
    }
    uint64_t live = 0;
    for (uint64_t key = 0; key < KEYS; key++) {
        live += there[key];
    }
    CU_ASSERT_EQUAL(table.len, live);
    htable_clear(&table);
    pool_clear(&pool);
    CU_ASSERT_EQUAL(total.bytes, 0);
    free(there);
}

/* Entries that are there all the time are visited exactly once. */
static void test_htable_scan(void)
{
    enum { KEYS = 3000 };
    struct account total = {0};
    struct pool pool;
    struct htable table;
    uint32_t *visits = mem_zalloc(KEYS * sizeof(*visits));
    pool_init(&pool, &total);
    htable_init(&table, 8, &pool, &total);
    for (uint64_t key = 0; key < KEYS; key++) {
        htable_add(&table, hash_u64(key + 1), &key, sizeof(key));
    }
    struct htable_cursor cursor = {0};
    const struct htable_segment *segment;
    uint64_t extra = KEYS;
    while ((segment = htable_scan(&table, &cursor)) != NULL) {
        for (uint32_t i = 0; i < segment->cap; i++) {
            const struct htable_entry *entry = segment->slots[i].entry;
            if (entry != NULL && entry->hash >= cursor.from) {
                uint64_t key;
                memcpy(&key, htable_key(&table, entry), sizeof(key));
                if (key < KEYS) {
                    visits[key]++;
                }
            }
        }
        for (int i = 0; i < 3000 && extra < 60000; i++, extra++) { /* splits segments */
            htable_add(&table, hash_u64(extra + 1), &extra, sizeof(extra));
        }
    }
    for (uint64_t key = 0; key < KEYS; key++) {
        CU_ASSERT_FATAL(visits[key] == 1);
    }
    htable_clear(&table);
    pool_clear(&pool);
    free(visits);
}

/* ---- cells: growth, removal, marks ----------------------------------------------------------- */

enum { CELL_KEYS = 12000 };

/* The words of a key by its number. Of two words and more some have one hash in common: the second
 * undoes what the first did to it. */
static void cell_key(uint32_t number, uint32_t words, uint64_t *key, uint32_t *nulls)
{
    memset(key, 0, CELLS_KEYS_MAX * sizeof(*key));
    *nulls = words > 0 && number % 5 == 0 ? 1 : 0;
    for (uint32_t w = 0; w < words; w++) {
        key[w] = w == 0 && *nulls != 0 ? number / 5 % 2 : number;
    }
    if (words == 2 && number % 11 == 3 && *nulls == 0) {
        key[1] = cells_hash(key, 1, 0) ^ 77;
    }
}

static void check_cells(struct cells *table, uint32_t words, const int64_t *model)
{
    uint64_t live = 0;
    for (uint32_t number = 0; number < CELL_KEYS; number++) {
        uint64_t key[CELLS_KEYS_MAX];
        uint32_t nulls;
        cell_key(number, words, key, &nulls);
        uint64_t *cell = cells_find(table, cells_hash(key, words, nulls), key, nulls);
        CU_ASSERT_FATAL((cell != NULL) == (model[number] != 0));
        if (cell != NULL) {
            CU_ASSERT_FATAL(cells_nulls(cell) == nulls);
            CU_ASSERT_FATAL((int64_t)cells_payload(table, cell)[1] == model[number]);
            live++;
        }
    }
    CU_ASSERT_EQUAL(table->len, live);
}

/* Adds or removes one key; while it is there its payload says what the model says. */
static void change_cell(struct cells *table, uint32_t words, uint32_t number, int64_t *model)
{
    uint64_t key[CELLS_KEYS_MAX];
    uint32_t nulls;
    cell_key(number, words, key, &nulls);
    uint64_t hash = cells_hash(key, words, nulls);
    uint64_t *cell = cells_find(table, hash, key, nulls);
    CU_ASSERT_FATAL((cell != NULL) == (model[number] != 0));
    if (cell == NULL) {
        cell = cells_add(table, hash, key, nulls);
        CU_ASSERT_FATAL((cell[0] & CELL_MARK) == 0 && cells_payload(table, cell)[0] == 0);
        model[number] = 1 + number;
        cells_payload(table, cell)[1] = (uint64_t)model[number];
        cell[0] |= number + 1;
        CU_ASSERT_FATAL(cells_find_mark(table, hash, number + 1) == cell);
    } else {
        CU_ASSERT_FATAL(cells_find_mark(table, hash, number + 1) == cell);
        cells_remove(table, hash, cell);
        model[number] = 0;
    }
}

static void test_cells(void)
{
    struct rng rng = {5};
    int64_t *model = mem_zalloc(CELL_KEYS * sizeof(*model));
    for (uint32_t words = 1; words <= CELLS_KEYS_MAX; words++) {
        struct account total = {0};
        struct cells table;
        cells_init(&table, words, 2, &total);
        CU_ASSERT(cells_find(&table, 0, NULL, 0) == NULL);
        uint32_t keys = words == 1 ? CELL_KEYS - 1 : CELL_KEYS;
        for (int i = 0; i < 60000; i++) {
            /* A NULL in the only word: at most one number is that key. */
            uint32_t number = (uint32_t)rng_below(&rng, keys);
            if (words > 1 || number % 5 != 0 || number == 10) {
                change_cell(&table, words, number, model);
            }
        }
        if (words > 1) {
            check_cells(&table, words, model);
        }
        CU_ASSERT(total.bytes > table.len * (3 + words) * 8);
        for (uint32_t number = 0; number < CELL_KEYS; number++) {
            if (model[number] != 0) {
                change_cell(&table, words, number, model);
            }
        }
        CU_ASSERT_EQUAL(total.bytes, 0); /* an empty one holds nothing */
        change_cell(&table, words, 3, model);
        cells_clear(&table);
        model[3] = 0;
        CU_ASSERT_EQUAL(total.bytes, 0);
    }
    free(model);
}

/* So many that segments are cut from large pages: half of them go, others come in their place. */
static void test_cells_large(void)
{
    enum { LARGE_KEYS = 600000 };
    struct account total = {0};
    struct cells table;
    cells_init(&table, 1, 2, &total);
    for (int round = 0; round < 2; round++) {
        for (uint64_t key = 0; key < LARGE_KEYS; key++) {
            uint64_t hash = cells_hash(&key, 1, 0);
            uint64_t *cell = cells_find(&table, hash, &key, 0);
            CU_ASSERT_FATAL((cell != NULL) == (round == 1 && key % 2 == 1));
            cell = cell != NULL ? cell : cells_add(&table, hash, &key, 0);
            cells_payload(&table, cell)[1] = key;
        }
        CU_ASSERT_PTR_NOT_NULL(table.pages);
        for (uint64_t key = 0; key < LARGE_KEYS; key++) {
            uint64_t hash = cells_hash(&key, 1, 0);
            uint64_t *cell = cells_find(&table, hash, &key, 0);
            CU_ASSERT_FATAL(cell != NULL && cells_payload(&table, cell)[1] == key);
            if (round == 1 || key % 2 == 0) {
                cells_remove(&table, hash, cell);
            }
        }
    }
    CU_ASSERT(table.len == 0 && table.pages == NULL && table.bytes == 0);
    CU_ASSERT_EQUAL(total.bytes, 0);
}

/* ---- rows of words: two sides of a join ------------------------------------------------------ */

/* Key 0 gets rows by the hundred, others a few. */
enum { R_KEYS = 40, R_ROWS = 300 };

/* Side 0 has a number, which is NULL now and then, and texts; side 1 has no values, so that all its
 * rows are equal. */
struct kept_model {
    struct kept rows;
    bool texts; /* the row's number is a text; else a word */
    struct batch_builder *builder;
    void *data;
    struct batch_col cols[2];
    struct batch batch; /* a row a number */
    int64_t sum[2][R_KEYS][R_ROWS];
};

static bool is_null_row(uint64_t number)
{
    return number % 3 == 0;
}

/* Texts of the numbers: some long, one column NULL where the number's word is. */
static void make_texts(struct kept_model *model)
{
    static const uint8_t kinds[2] = {TYPE_TEXT, TYPE_UUID};
    size_t size;
    model->builder = batch_builder_new(kinds, 2);
    for (uint32_t n = 0; n < R_ROWS; n++) {
        char text[128];
        int len = snprintf(text, sizeof(text), "%u %*s", n, (int)(n % 100), "");
        struct datum d = {.s = text, .len = (uint32_t)len};
        batch_builder_datum(model->builder, 0, &d);
        struct datum id = {.null = is_null_row(n), .uuid = {(uint8_t)(n % 7)}};
        batch_builder_datum(model->builder, 1, &id);
        batch_builder_end_row(model->builder, 0, 1);
    }
    model->data = batch_builder_finish_new(model->builder, &size);
    batch_view(model->data, size, model->cols, 2, &model->batch);
}

static struct kept_model *kept_model_new(bool texts, struct account *total)
{
    struct kept_model *model = MEM_NEW(struct kept_model);
    const uint32_t values[2] = {2, 0};
    const uint32_t rest[2] = {texts ? 2 : 0, 0};
    model->texts = texts;
    make_texts(model);
    kept_init(&model->rows, 1, values, rest, total);
    return model;
}

static void kept_model_free(struct kept_model *model)
{
    kept_free(&model->rows);
    batch_builder_free(model->builder);
    free(model->data);
    free(model);
}

static uint32_t row_values(struct kept_model *model, uint32_t side, uint32_t number,
                           uint64_t *values)
{
    static const uint32_t cols[2] = {0, 1};
    values[0] = is_null_row(number) ? 0 : model->texts ? 1 : number;
    values[1] = number;
    if (side == 0 && model->texts) {
        rest_make(&model->rows.pool, &model->batch, cols, 2, &number, 1, &values[1], 2);
    }
    return side == 0 && is_null_row(number) ? 1 : 0;
}

/* Which number a row of side 0 has, by its text or its word. */
static uint64_t number_of(struct kept_model *model, const uint64_t *row)
{
    if (!model->texts) {
        return row[2];
    }
    uint64_t number = strtoul((const char *)&rest_of(row[2])->ends[2], NULL, 10);
    static const uint8_t kinds[2] = {TYPE_TEXT, TYPE_UUID};
    struct batch_builder *out = batch_builder_new(kinds, 2);
    rest_put(out, 0, &row[2], 1, 2, 0);
    rest_put(out, 1, &row[2], 1, 2, 1);
    batch_builder_end_row(out, 0, 1);
    size_t size;
    void *data = batch_builder_finish_new(out, &size);
    struct batch_col cols[2];
    struct batch one;
    batch_view(data, size, cols, 2, &one);
    struct buf have = {0};
    struct buf want = {0};
    CU_ASSERT_FATAL(number < R_ROWS);
    batch_encode_row(&one, 0, NULL, 0, false, &have);
    batch_encode_row(&model->batch, (uint32_t)number, NULL, 0, false, &want);
    CU_ASSERT_FATAL(have.len == want.len && memcmp(have.data, want.data, have.len) == 0);
    buf_free(&have);
    buf_free(&want);
    free(data);
    batch_builder_free(out);
    return number;
}

static void sum_span(struct kept_model *model, uint32_t side, struct kept_span span, int64_t *sum)
{
    for (uint32_t i = 0; i < span.len; i++) {
        const uint64_t *row = span.row + i * (1UL + model->rows.values[side]);
        uint64_t number = side == 0 ? number_of(model, row) : 0;
        CU_ASSERT_FATAL(number < R_ROWS && kept_diff(row) != 0);
        CU_ASSERT_FATAL(kept_nulls(row) == (side == 0 && is_null_row(number) ? 1 : 0));
        sum[number] = (int64_t)((uint64_t)sum[number] + (uint64_t)kept_diff(row));
    }
}

static void check_kept(struct kept_model *model)
{
    uint64_t live = 0;
    const struct kept *rows = &model->rows;
    for (uint64_t k = 0; k < R_KEYS; k++) {
        uint64_t *cell = cells_find(&rows->table, cells_hash(&k, 1, 0), &k, 0);
        for (uint32_t side = 0; side < 2; side++) {
            int64_t sum[R_ROWS] = {0};
            uint32_t parts = cell != NULL ? kept_parts(rows, cell, side) : 0;
            for (uint32_t part = 0; part < parts;) {
                uint64_t one[1 + KEPT_VALUES_MAX];
                struct kept_span span = kept_part(rows, cell, side, part, &part, one);
                live += span.len;
                sum_span(model, side, span, sum);
            }
            CU_ASSERT_FATAL(memcmp(sum, model->sum[side][k], sizeof(sum)) == 0);
        }
    }
    CU_ASSERT_EQUAL(rows->len, live);
}

static void change_row(struct kept_model *model, uint32_t side, uint64_t k, uint32_t number,
                       int64_t diff)
{
    uint64_t values[2];
    struct kept *rows = &model->rows;
    uint32_t nulls = row_values(model, side, number, values);
    const struct kept_key key = {cells_hash(&k, 1, 0), &k, 0};
    uint64_t *cell = cells_find(&rows->table, key.hash, &k, 0);
    kept_change(rows, side, &key, cell, values, nulls, diff);
    if (number % 5 == 0) {
        kept_bury(rows);
    }
    int64_t *sum = &model->sum[side][k][number];
    *sum = (int64_t)((uint64_t)*sum + (uint64_t)diff);
}

/* Insertions, retractions of what is there, and now and then a diff no head has room for. */
static void random_change(struct kept_model *model, struct rng *rng)
{
    uint32_t side = (uint32_t)rng_below(rng, 2);
    uint64_t k = rng_below(rng, 2) == 0 ? 0 : rng_below(rng, R_KEYS);
    uint32_t number = side == 1 ? 0 : (uint32_t)rng_below(rng, k == 0 ? R_ROWS : 4);
    int64_t there = model->sum[side][k][number];
    int64_t diff = (int64_t)rng_below(rng, 4) - 1;
    if (rng_below(rng, 2) == 0) {
        diff = (int64_t)(0 - (uint64_t)there);
    } else if (rng_below(rng, 50) == 0) {
        diff = (int64_t)rng_next(rng);
    }
    change_row(model, side, k, number, diff);
}

/* part_max: rows of a list before it becomes several. */
static void run_kept(bool texts, uint32_t part_max)
{
    struct account total = {0};
    struct rng rng = {6};
    struct kept_model *model = kept_model_new(texts, &total);
    model->rows.part_max = part_max;
    for (uint64_t i = 0; i < test_scaled(40000); i++) {
        random_change(model, &rng);
        if (i % 500 == 0) {
            check_kept(model);
        }
    }
    check_kept(model);
    CU_ASSERT(total.bytes > 0);
    for (uint32_t side = 0; side < 2; side++) {
        for (uint64_t k = 0; k < R_KEYS; k++) {
            for (uint32_t number = 0; number < R_ROWS; number++) {
                uint64_t there = (uint64_t)model->sum[side][k][number];
                change_row(model, side, k, number, (int64_t)(0 - there));
            }
        }
    }
    CU_ASSERT(model->rows.len == 0 && model->rows.table.len == 0);
    kept_bury(&model->rows);
    CU_ASSERT_EQUAL(total.bytes, 0); /* lists and rests too */
    change_row(model, 0, 3, 7, 1);
    kept_model_free(model);
    CU_ASSERT_EQUAL(total.bytes, 0);
}

static void test_kept(void)
{
    run_kept(false, KEPT_PART_MAX);
    run_kept(false, 40);
    run_kept(false, 3);
}

static void test_kept_texts(void)
{
    run_kept(true, KEPT_PART_MAX);
    run_kept(true, 20);
}

/*
 * Lists about as long as those that are searched, changed and emptied over and over, in any order:
 * wherever a list is added up on the way, nothing may be left of rows that cancel.
 */
static void test_kept_cancels(void)
{
    struct account total = {0};
    struct rng rng = {7};
    struct kept_model *model = kept_model_new(false, &total);
    for (uint64_t round = 0; round < test_scaled(3000); round++) {
        uint32_t numbers = 4 + (uint32_t)rng_below(&rng, 40);
        for (uint64_t i = rng_below(&rng, 200); i > 0; i--) {
            uint32_t number = (uint32_t)rng_below(&rng, numbers);
            int64_t there = model->sum[0][0][number];
            bool gone = there != 0 && rng_below(&rng, 3) > 0;
            change_row(model, 0, 0, number, gone ? -there : 1);
        }
        for (uint32_t i = 0, first = (uint32_t)rng_below(&rng, numbers); i < numbers; i++) {
            uint32_t number = (first + i) % numbers;
            change_row(model, 0, 0, number, -model->sum[0][0][number]);
        }
        CU_ASSERT_FATAL(model->rows.len == 0 && model->rows.table.len == 0);
        CU_ASSERT_FATAL(total.bytes == 0);
        model->rows.part_max = round % 3 == 0 ? KEPT_PART_MAX : 2 + (uint32_t)rng_below(&rng, 30);
    }
    kept_model_free(model);
}

/* A key that had many rows and has few has few lists, since all of them are gone through. */
static void test_kept_fewer(void)
{
    enum { PART = 8 };
    struct account total = {0};
    struct kept_model *model = kept_model_new(false, &total);
    model->rows.part_max = PART;
    for (uint32_t number = 0; number < R_ROWS; number++) {
        change_row(model, 0, 0, number, 1);
    }
    const uint64_t k = 0;
    for (uint32_t number = 0; number < R_ROWS; number++) {
        uint64_t *cell = cells_find(&model->rows.table, cells_hash(&k, 1, 0), &k, 0);
        uint32_t lists = 0, left = R_ROWS - number;
        uint32_t parts = kept_parts(&model->rows, cell, 0);
        for (uint32_t part = 0; part < parts; lists++) {
            uint64_t one[1 + KEPT_VALUES_MAX];
            kept_part(&model->rows, cell, 0, part, &part, one);
        }
        CU_ASSERT(lists >= left / (2 * PART) && lists <= 1 + left);
        change_row(model, 0, 0, number, -1);
    }
    CU_ASSERT(model->rows.table.len == 0);
    kept_model_free(model);
    CU_ASSERT_EQUAL(total.bytes, 0);
}

/* ---- arrangement ----------------------------------------------------------------------------- */

enum { A_KEYS = 5, A_ROWS = 12, A_TIMES = 40 };

struct sums {
    int64_t of[A_ROWS];
};

static void on_row(void *arg, const uint8_t *row, uint32_t len, int64_t diff)
{
    struct sums *sums = arg;
    CU_ASSERT_FATAL(len == 3 && row[0] < A_ROWS && sums->of[row[0]] == 0);
    sums->of[row[0]] = diff;
}

static void check_arrange(struct arrange *a, int64_t (*diffs)[A_ROWS][A_TIMES], uint64_t time)
{
    for (uint8_t k = 0; k < A_KEYS; k++) {
        struct sums want = {0};
        struct sums have = {0};
        for (uint32_t row = 0; row < A_ROWS; row++) {
            for (uint64_t t = 0; t <= time; t++) {
                want.of[row] += diffs[k][row][t];
            }
        }
        struct htable_entry *entry = arrange_find(a, hash_u64(k), &k, 1);
        if (entry != NULL) {
            arrange_read(a, entry, time, on_row, &have);
        }
        CU_ASSERT_FATAL(memcmp(&want, &have, sizeof(want)) == 0);
    }
}

static void test_arrange(void)
{
    static int64_t diffs[A_KEYS][A_ROWS][A_TIMES];
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct account total = {0};
        struct arrange a;
        struct rng rng = {seed};
        memset(diffs, 0, sizeof(diffs));
        arrange_init(&a, &total);
        for (uint64_t t = 0; t < A_TIMES; t++) {
            uint64_t n = rng_below(&rng, 60);
            for (uint64_t i = 0; i < n; i++) {
                uint8_t key = (uint8_t)rng_below(&rng, A_KEYS);
                uint8_t row[3] = {(uint8_t)rng_below(&rng, A_ROWS), 1, 2};
                int64_t diff = (int64_t)rng_below(&rng, 5) - 2;
                arrange_insert(&a, hash_u64(key), &key, 1, row, 3, t, diff);
                diffs[key][row[0]][t] += diff;
            }
            if (rng_below(&rng, 3) == 0) {
                uint64_t since = a.since + rng_below(&rng, t + 1 - a.since);
                arrange_set_since(&a, since);
                arrange_maintain(&a, rng_below(&rng, 2) == 0 ? 5 : SIZE_MAX);
            }
            for (uint64_t at = a.since; at <= t; at++) {
                check_arrange(&a, diffs, at);
            }
        }
        /* Everything is taken away: nothing is left once since has passed. */
        for (uint8_t key = 0; key < A_KEYS; key++) {
            for (uint8_t r = 0; r < A_ROWS; r++) {
                int64_t sum = 0;
                for (uint64_t t = 0; t < A_TIMES; t++) {
                    sum += diffs[key][r][t];
                }
                uint8_t row[3] = {r, 1, 2};
                arrange_insert(&a, hash_u64(key), &key, 1, row, 3, A_TIMES, -sum);
            }
        }
        arrange_set_since(&a, A_TIMES);
        arrange_maintain(&a, SIZE_MAX);
        CU_ASSERT_EQUAL(a.updates, 0);
        CU_ASSERT_EQUAL(a.table.len, 0);
        CU_ASSERT_EQUAL(a.pool.objects, 0);
        arrange_free(&a);
        CU_ASSERT_EQUAL(total.bytes, 0);
    }
}

/* ---- ordered multiset ------------------------------------------------------------------------ */

struct walk {
    int64_t *counts;
    int64_t position;
    int64_t skip, left;
    uint8_t last;
    bool ok;
};

static void on_node(void *arg, const struct oset_node *node, int64_t copies)
{
    struct walk *walk = arg;
    walk->ok &= copies > 0 && node->bytes[0] >= walk->last;
    walk->last = node->bytes[0];
    walk->position += copies;
}

static void test_oset(void)
{
    struct account total = {0};
    struct pool pool;
    struct oset set = {0};
    struct rng rng = {5};
    int64_t counts[64] = {0};
    pool_init(&pool, &total);
    for (int i = 0; i < 30000; i++) {
        uint8_t bytes[2] = {(uint8_t)rng_below(&rng, 64), 9};
        int64_t diff = (int64_t)rng_below(&rng, 7) - 3;
        int64_t before = oset_update(&set, &pool, bytes, 2, 1, diff);
        CU_ASSERT_FATAL(before == counts[bytes[0]]);
        counts[bytes[0]] += diff;
        int64_t rank = 0;
        int64_t sum = 0;
        int64_t negative = 0;
        int first = -1;
        int last = -1;
        for (int k = 0; k < 64; k++) {
            rank += k < bytes[0] ? oset_copies(counts[k]) : 0;
            sum += oset_copies(counts[k]);
            negative += counts[k] < 0;
            first = first < 0 && counts[k] > 0 ? k : first;
            last = counts[k] > 0 ? k : last;
        }
        CU_ASSERT_FATAL(oset_rank(&set, bytes, 2) == rank && oset_total(&set) == sum);
        CU_ASSERT_FATAL(set.negative == negative);
        const struct oset_node *a = oset_first(&set);
        const struct oset_node *z = oset_last(&set);
        CU_ASSERT_FATAL(first < 0 ? a == NULL : a->bytes[0] == first);
        CU_ASSERT_FATAL(last < 0 ? z == NULL : z->bytes[0] == last);
        const struct oset_node *of = oset_first_of(&set, bytes, 1);
        CU_ASSERT_FATAL((of != NULL) == (counts[bytes[0]] > 0));
        int64_t from = (int64_t)rng_below(&rng, 20);
        int64_t to = from + (int64_t)rng_below(&rng, 20);
        struct walk walk = {.ok = true};
        oset_range(&set, from, to, on_node, &walk);
        int64_t covered = (to < sum ? to : sum) - (from < sum ? from : sum);
        CU_ASSERT_FATAL(walk.ok && walk.position == covered);
    }
    oset_clear(&set, &pool);
    CU_ASSERT_EQUAL(total.bytes, 0);
}

static void collect_node(void *arg, const struct oset_node *node, int64_t copies)
{
    struct buf *out = arg;
    buf_append_u64(out, (uint64_t)copies);
    buf_append_u32(out, node->len);
    buf_append(out, node->bytes, node->len);
}

/* The same changes of elements in one piece and in two: the same sets, and what is gone as well. */
static void test_oset_parts(void)
{
    enum { LEN_MAX = 24 };
    struct account total = {0};
    struct pool pool;
    struct oset one = {0}, two = {0};
    struct rng rng = {6};
    struct buf a = {0}, b = {0};
    pool_init(&pool, &total);
    for (int i = 0; i < 20000; i++) {
        uint8_t bytes[LEN_MAX];
        uint32_t len = (uint32_t)rng_below(&rng, LEN_MAX + 1);
        uint32_t differ = (uint32_t)rng_below(&rng, LEN_MAX);
        memset(bytes, 0, sizeof(bytes));
        bytes[differ] = (uint8_t)rng_below(&rng, 3) * 127;
        uint32_t sort_len = (uint32_t)rng_below(&rng, len + 1);
        const struct oset_parts parts = {.sort = bytes, .sort_len = sort_len,
                                         .data = bytes + sort_len, .data_len = len - sort_len};
        int64_t diff = (int64_t)rng_below(&rng, 5) - 2;
        struct oset_node *gone;
        int64_t before = oset_update(&one, &pool, bytes, len, sort_len, diff);
        CU_ASSERT_FATAL(oset_change(&two, &pool, &parts, diff, &gone) == before);
        CU_ASSERT_FATAL((gone != NULL) == (before != 0 && before + diff == 0));
        if (gone != NULL) {
            CU_ASSERT_FATAL(gone->len == len && memcmp(gone->bytes, bytes, len) == 0);
            oset_free_node(&pool, gone);
        }
    }
    oset_range(&one, 0, INT64_MAX, collect_node, &a);
    oset_range(&two, 0, INT64_MAX, collect_node, &b);
    CU_ASSERT(a.len == b.len && a.len > 0 && memcmp(a.data, b.data, a.len) == 0);
    CU_ASSERT(one.negative == two.negative && one.negative > 0);
    oset_clear(&one, &pool);
    oset_clear(&two, &pool);
    CU_ASSERT_EQUAL(total.bytes, 0);
    buf_free(&a);
    buf_free(&b);
}

/* ---- sets of words --------------------------------------------------------------------------- */

/* Words in random, ascending or descending order; then all are taken back. */
static void wset_walk(uint32_t words, int order, uint64_t seed)
{
    struct account total = {0};
    struct pool pool;
    struct wset set = {0};
    struct rng rng = {seed};
    int64_t *counts = mem_zalloc(words * sizeof(*counts));
    uint32_t steps = words * 6;
    pool_init(&pool, &total);
    for (uint32_t i = 0; i < steps + words; i++) {
        uint32_t at = order == 0 ? (uint32_t)rng_below(&rng, words) : i % words;
        at = i >= steps ? i - steps : order == 2 ? words - 1 - at : at;
        int64_t diff = i >= steps ? -counts[at] : (int64_t)rng_below(&rng, 5) - 2;
        wset_update(&set, &pool, wset_word((int64_t)at - words / 2), diff);
        counts[at] += diff;
        if (i % 16 == 0 || i >= steps + words - 4) {
            int64_t first = -1, last = -1, negative = 0;
            for (uint32_t w = 0; w < words; w++) {
                first = first < 0 && counts[w] != 0 ? w : first;
                last = counts[w] != 0 ? w : last;
                negative += counts[w] < 0;
            }
            CU_ASSERT_FATAL((set.root == NULL) == (first < 0) && set.negative == negative);
            CU_ASSERT_FATAL(first < 0 || wset_value(wset_first(&set)) == first - words / 2);
            CU_ASSERT_FATAL(first < 0 || wset_value(wset_last(&set)) == last - words / 2);
        }
    }
    CU_ASSERT_PTR_NULL(set.root);
    CU_ASSERT_EQUAL(total.bytes, 0);
    free(counts);
}

static void test_wset(void)
{
    for (uint64_t seed = 1; seed < 20; seed++) {
        wset_walk(3 + (uint32_t)seed * 17, (int)(seed % 3), seed);
    }
    for (int order = 0; order < 3; order++) {
        wset_walk(3000, order, 7);
    }
}

/* ---- dictionary ------------------------------------------------------------------------------ */

/* A number is a string's as long as it is held, and nobody else's. */
static void test_dict(void)
{
    enum { STRINGS = 300 };
    struct account total = {0};
    struct dict dict;
    struct rng rng = {6};
    uint32_t numbers[STRINGS];
    uint32_t held[STRINGS] = {0};
    dict_init(&dict, &total);
    for (int i = 0; i < 30000; i++) {
        char text[16];
        uint32_t at = (uint32_t)rng_below(&rng, STRINGS);
        uint32_t len = at == 0 ? 0 : (uint32_t)snprintf(text, sizeof(text), "string %u", at);
        if (held[at] == 0 || rng_below(&rng, 2) == 0) {
            uint32_t number = dict_hold(&dict, text, len);
            CU_ASSERT_FATAL(held[at] == 0 || number == numbers[at]);
            numbers[at] = number;
            held[at]++;
        } else {
            struct dict_string s = dict_string(&dict, numbers[at]);
            CU_ASSERT_FATAL(s.len == len && memcmp(s.data, text, len) == 0);
            dict_unref(&dict, numbers[at]);
            held[at]--;
        }
        CU_ASSERT_FATAL(dict.entries_len <= STRINGS);
    }
    for (uint32_t at = 0; at < STRINGS; at++) {
        while (held[at]-- > 0) {
            dict_unref(&dict, numbers[at]);
        }
    }
    CU_ASSERT_EQUAL(total.bytes, 0);
    dict_free(&dict);
    CU_ASSERT_EQUAL(total.bytes, 0);
}

/* ---- order ----------------------------------------------------------------------------------- */

static struct datum random_datum(struct rng *rng, uint8_t kind, char *text)
{
    struct datum d = {0};
    switch (kind) {
    case TYPE_BOOL:
        d.b = rng_below(rng, 2) == 0;
        break;
    case TYPE_FLOAT8: {
        static const double some[] = {0.0, -0.0, NAN, INFINITY, -INFINITY, 5e-324, 1.5, -1e300};
        d.f = rng_below(rng, 2) == 0 ? some[rng_below(rng, 8)]
                                     : (double)(int64_t)rng_next(rng) / 1e9;
        break;
    }
    case TYPE_NUMERIC: {
        d.n.special = rng_below(rng, 8) == 0 ? (uint16_t)rng_below(rng, 4) : 0;
        if (d.n.special == 0) {
            __int128 v = (__int128)(int64_t)(rng_next(rng) >> rng_below(rng, 64));
            v = rng_below(rng, 2) == 0 ? -v : v;
            v = rng_below(rng, 4) == 0 ? v * 1000000 : v;
            d.n.lo = (uint64_t)v;
            d.n.hi = (int64_t)(v >> 64);
            d.n.scale = (int16_t)rng_below(rng, 39);
        }
        break;
    }
    case TYPE_INTERVAL:
        d.iv = (struct interval){(int32_t)rng_below(rng, 5) - 2, (int32_t)rng_below(rng, 61) - 30,
                                 (int64_t)rng_below(rng, 3) * 43200000000LL};
        break;
    case TYPE_TEXT:
    case TYPE_BYTEA:
        d.len = (uint32_t)rng_below(rng, 4);
        d.s = text;
        for (uint32_t i = 0; i < d.len; i++) {
            text[i] = (kind == TYPE_TEXT ? "abb" : "\0\1\xff")[rng_below(rng, 3)];
        }
        break;
    default:
        d.i = rng_below(rng, 2) == 0 ? (int64_t)rng_below(rng, 5) - 2 : (int64_t)rng_next(rng);
        break;
    }
    return d;
}

static int sign(int v)
{
    return (v > 0) - (v < 0);
}

static int compare_bufs(const struct buf *a, const struct buf *b)
{
    size_t len = a->len < b->len ? a->len : b->len;
    int order = memcmp(a->data, b->data, len);
    return order != 0 ? sign(order) : (a->len > b->len) - (a->len < b->len);
}

/* memcmp of the encodings is datum_compare, also when something follows. */
static void test_order(void)
{
    static const uint8_t kinds[] = {TYPE_BOOL,    TYPE_INT8,     TYPE_FLOAT8, TYPE_NUMERIC,
                                    TYPE_INTERVAL, TYPE_TEXT, TYPE_BYTEA};
    struct rng rng = {6};
    struct buf a = {0};
    struct buf b = {0};
    for (int i = 0; i < 60000; i++) {
        char text[2][8];
        uint8_t kind = kinds[i % 7];
        struct datum x = random_datum(&rng, kind, text[0]);
        struct datum y = rng_below(&rng, 5) == 0 ? x : random_datum(&rng, kind, text[1]);
        bool desc = rng_below(&rng, 2) == 0;
        bool nulls_first = rng_below(&rng, 2) == 0;
        x.null = rng_below(&rng, 10) == 0;
        y.null = rng_below(&rng, 10) == 0;
        int want;
        if (x.null || y.null) {
            want = x.null == y.null ? 0 : (x.null == nulls_first ? -1 : 1);
        } else {
            want = sign(datum_compare((enum type_kind)kind, &x, &y)) * (desc ? -1 : 1);
        }
        buf_clear(&a);
        buf_clear(&b);
        order_encode(kind, &x, desc, nulls_first, &a);
        order_encode(kind, &y, desc, nulls_first, &b);
        CU_ASSERT_FATAL(compare_bufs(&a, &b) == want);
        buf_append_byte(&a, (uint8_t)rng_below(&rng, 256));
        buf_append_byte(&b, (uint8_t)rng_below(&rng, 256));
        CU_ASSERT_FATAL(want == 0 || compare_bufs(&a, &b) == want);
    }
    buf_free(&a);
    buf_free(&b);
}

/* ---- exact sums ------------------------------------------------------------------------------ */

static void test_float_sums(void)
{
    struct account total = {0};
    struct pool pool;
    struct acc_exact acc = {0};
    struct rng rng = {7};
    double f;
    pool_init(&pool, &total);
    /* What a running double loses comes back. */
    acc_add_double(&acc, &pool, 1e300, 1);
    acc_add_double(&acc, &pool, 0.1, 3);
    acc_add_double(&acc, &pool, 5e-324, 1);
    acc_add_double(&acc, &pool, 1e300, -1);
    acc_add_double(&acc, &pool, 0.1, -3);
    CU_ASSERT(acc_double(&acc, &f) && f == 5e-324);
    acc_add_double(&acc, &pool, 5e-324, -1);
    CU_ASSERT(acc_double(&acc, &f) && f == 0 && acc.parts == NULL);
    /* One value, many times, and its exact product. */
    acc_add_double(&acc, &pool, 0.1, 1000003);
    CU_ASSERT(acc_double(&acc, &f) && f == (double)(0.1L * 1000003));
    acc_add_double(&acc, &pool, 0.1, -1000003);
    /* Correctly rounded against long double where that is exact enough. */
    for (int round = 0; round < 2000; round++) {
        double x = (double)(int64_t)rng_next(&rng) * pow(2, (double)rng_below(&rng, 8) - 70);
        double y = (double)(int64_t)rng_next(&rng) * pow(2, (double)rng_below(&rng, 8) - 70);
        acc_add_double(&acc, &pool, x, 1);
        acc_add_double(&acc, &pool, y, 1);
        CU_ASSERT_FATAL(acc_double(&acc, &f) && f == x + y);
        acc_add_double(&acc, &pool, x, -1);
        acc_add_double(&acc, &pool, y, -1);
    }
    CU_ASSERT_EQUAL(total.bytes, 0);
    /* Overflow is not infinity; infinities and NaN are. */
    acc_add_double(&acc, &pool, 1.7e308, 2);
    CU_ASSERT(!acc_double(&acc, &f));
    acc_add_double(&acc, &pool, INFINITY, 1);
    CU_ASSERT(acc_double(&acc, &f) && isinf(f) && f > 0);
    acc_add_double(&acc, &pool, -INFINITY, 1);
    CU_ASSERT(acc_double(&acc, &f) && isnan(f));
    acc_add_double(&acc, &pool, INFINITY, -1);
    acc_add_double(&acc, &pool, -INFINITY, -1);
    acc_add_double(&acc, &pool, 1.7e308, -3);
    CU_ASSERT(acc_double(&acc, &f) && f == -1.7e308);
    acc_clear(&acc, &pool);
    CU_ASSERT_EQUAL(total.bytes, 0);
}

static void test_numeric_sums(void)
{
    struct account total = {0};
    struct pool pool;
    struct acc_exact acc = {0};
    struct numeric one_50 = {.lo = 150, .scale = 2};
    struct numeric half = {.lo = 5, .scale = 1};
    struct numeric big = {.lo = 0x098a223fffffffff, .hi = 0x4b3b4ca85a86c47a, .scale = 0};
    struct numeric sum;
    pool_init(&pool, &total);
    acc_add_numeric(&acc, &pool, &one_50, 2);
    acc_add_numeric(&acc, &pool, &half, 1);
    CU_ASSERT(acc_numeric(&acc, &sum) && sum.lo == 350 && sum.scale == 2);
    acc_add_numeric(&acc, &pool, &one_50, -2);
    CU_ASSERT(acc_numeric(&acc, &sum) && sum.lo == 5 && sum.scale == 1); /* the scale goes too */
    acc_add_numeric(&acc, &pool, &big, 1000000);
    CU_ASSERT(!acc_numeric(&acc, &sum));
    acc_add_numeric(&acc, &pool, &big, -1000000);
    acc_add_numeric(&acc, &pool, &half, -1);
    CU_ASSERT(acc_numeric(&acc, &sum) && sum.lo == 0 && sum.hi == 0 && sum.scale == 0);
    CU_ASSERT_EQUAL(total.bytes, 0);
}

static const struct test_case cases[] = {
    {"pool", test_pool},
    {"pool_large", test_pool_large},
    {"htable", test_htable},
    {"htable_scan", test_htable_scan},
    {"cells", test_cells},
    {"cells, large pages", test_cells_large},
    {"kept", test_kept},
    {"kept texts", test_kept_texts},
    {"kept rows that cancel", test_kept_cancels},
    {"kept lists get fewer", test_kept_fewer},
    {"arrange", test_arrange},
    {"oset", test_oset},
    {"oset_parts", test_oset_parts},
    {"wset", test_wset},
    {"dict", test_dict},
    {"order", test_order},
    {"float_sums", test_float_sums},
    {"numeric_sums", test_numeric_sums},
};
TEST_SUITE("core/engine state", cases)
