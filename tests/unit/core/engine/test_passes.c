/* What passes take from a queue: which rows, in which order, and how often rows are copied. */
#include "core/engine/engine_internal.h"
#include "tests/unit/harness.h"

enum { ROWS = 20002, ROWS_A_TIME = 3, ENOUGH = 100, TIMES_A_PASS = 7 };

static const uint8_t kinds[] = {TYPE_INT8};

/* A queue with one chunk, of times in order or, with swapped, in order but for two rows. */
struct rig {
    struct engine engine;
    struct op op;
    struct port port;
    struct account account;
    struct chunk_list seen; /* all that ever were, kept so that no address comes again */
    uint64_t copied;        /* rows of chunks that passes made */
};

static struct chunk *long_chunk(struct rig *rig, bool swapped)
{
    struct batch_builder *builder = batch_builder_new(kinds, 1);
    for (int64_t i = 0; i < ROWS; i++) {
        int64_t row = swapped && i >= ROWS - 2 ? 2 * ROWS - 3 - i : i;
        struct datum d = {.i = row};
        batch_builder_datum(builder, 0, &d);
        batch_builder_end_row(builder, (uint64_t)row / ROWS_A_TIME, 1);
    }
    struct chunk *chunk = chunk_from_builder(builder, 1, &rig->account);
    batch_builder_free(builder);
    return chunk;
}

static void rig_init(struct rig *rig, bool swapped)
{
    *rig = (struct rig){.engine.config.pass_rows = ENOUGH};
    rig->op.engine = &rig->engine;
    rig->port = (struct port){.kinds = (uint8_t *)(uintptr_t)kinds,
                              .cols = 1,
                              .frontier = FRONTIER_EMPTY};
    chunk_list_push(&rig->port.ok, long_chunk(rig, swapped));
    chunk_list_push(&rig->seen, chunk_ref(rig->port.ok.chunks[0]));
}

static void rig_free(struct rig *rig)
{
    chunk_list_free(&rig->port.ok);
    chunk_list_free(&rig->seen);
    CU_ASSERT_EQUAL(rig->account.bytes, 0);
}

/* Counts the rows of chunks that were not there before. */
static void count_new(struct rig *rig, const struct chunk_list *list)
{
    for (size_t i = 0; i < list->chunks_len; i++) {
        bool known = false;
        for (size_t s = rig->seen.chunks_len; s > 0 && !known; s--) {
            known = rig->seen.chunks[s - 1] == list->chunks[i];
        }
        if (!known) {
            chunk_list_push(&rig->seen, chunk_ref(list->chunks[i]));
            rig->copied += list->chunks[i]->batch.rows;
        }
    }
}

/* The rows a pass took are those of its times, each once, those of a time in their order. */
static void check_taken(const struct chunk_list *out, uint64_t lower, uint64_t upper, bool swapped)
{
    int64_t next = (int64_t)lower * ROWS_A_TIME;
    for (size_t i = 0; i < out->chunks_len; i++) {
        const struct batch *b = &out->chunks[i]->batch;
        for (uint32_t row = 0; row < b->rows; row++, next++) {
            struct datum d;
            batch_datum(&b->col[0], row, &d);
            bool moved = swapped && next >= ROWS - 2;
            CU_ASSERT_FATAL(d.i == (moved ? 2 * ROWS - 3 - next : next));
            CU_ASSERT_FATAL(batch_time(b, row) >= lower && batch_time(b, row) < upper);
        }
    }
    int64_t end = (int64_t)upper * ROWS_A_TIME;
    CU_ASSERT_EQUAL(next, end < ROWS ? end : ROWS);
}

static void run_passes(struct rig *rig, bool swapped, uint64_t *passes)
{
    uint64_t times = (ROWS + ROWS_A_TIME - 1) / ROWS_A_TIME;
    for (uint64_t lower = 0; lower < times; lower += TIMES_A_PASS) {
        struct chunk_list out = {0};
        op_port_take(&rig->op, &rig->port, false, lower + TIMES_A_PASS, &out);
        count_new(rig, &rig->port.ok);
        count_new(rig, &out);
        check_taken(&out, lower, lower + TIMES_A_PASS, swapped);
        chunk_list_free(&out);
        (*passes)++;
    }
    CU_ASSERT_EQUAL(rig->port.ok.chunks_len, 0);
}

/* Once into pieces; then a pass divides one piece at its end. */
static void long_chunk_is_cut_once(void)
{
    struct rig rig;
    uint64_t passes = 0;
    rig_init(&rig, false);
    run_passes(&rig, false, &passes);
    CU_ASSERT(passes > 900);
    CU_ASSERT(rig.copied >= ROWS);
    CU_ASSERT(rig.copied <= ROWS + passes * (ENOUGH + 2 * ROWS_A_TIME));
    rig_free(&rig);
}

/* Two rows out of order: divided as any other, with the same rows. */
static void out_of_order_is_taken_right(void)
{
    struct rig rig;
    uint64_t passes = 0;
    rig_init(&rig, true);
    run_passes(&rig, true, &passes);
    CU_ASSERT(passes > 900);
    CU_ASSERT(rig.copied > 100 * ROWS); /* it was not in order, else it were cut */
    rig_free(&rig);
}

static const struct test_case cases[] = {
    {"a long chunk is cut once, however short the passes", long_chunk_is_cut_once},
    {"a chunk out of order gives the same rows", out_of_order_is_taken_right},
};
TEST_SUITE("core/engine/passes", cases)
