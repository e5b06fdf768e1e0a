/* ReportStats over a counters file of 100,000 slots: answered in pages, with turns of the loop
 * between them, bounded; parts, cancelled and refused questions. */
#include "ctrl/runtime/stats.h"

#include "core/base/mem.h"
#include "tests/unit/harness.h"

enum { SUBSCRIPTIONS = 100000, LOOPS = 3 };

static const struct counters_type subscription_type = {
    .name = "subscription", .ids = {"dataflow", "source"}, .values = {"bytes", "lag"}};
static const struct counters_type loop_type = {
    .name = "loop", .ids = {"worker"}, .values = {"spins"}};

/* What came, of all pages of one question. */
struct answer {
    uint64_t rows, omitted, pages, page_rows_max;
    uint64_t sum; /* of dataflow ids */
    bool last;
    err_t err;
};

struct world {
    struct io_loop *loop;
    struct stats stats;
    struct counters *counters;
    struct counters_slot *first;
    struct answer answers[STATS_QUESTIONS_MAX + 2]; /* by the asker's id */
    struct io_task turn; /* counts the loop's turns while answers come */
    uint64_t turns;
    void (*after)(struct world *world); /* each turn; stops the loop when it is content */
};

static void take_table(struct answer *a, const tailrace_v1_CounterTable *table, uint64_t *rows)
{
    size_t width = (size_t)table->ids_count + table->values_count;
    CU_ASSERT_EQUAL_FATAL(table->numbers_count % width, 0);
    *rows += table->numbers_count / width;
    if (strcmp(table->name, "subscription") == 0) {
        CU_ASSERT_EQUAL(width, 4);
        for (size_t i = 0; i < table->numbers_count; i += width) {
            a->sum += table->numbers[i];
        }
    } else {
        CU_ASSERT_STRING_EQUAL(table->name, "loop");
        CU_ASSERT_EQUAL(width, 2);
    }
}

static void on_page(void *ctx, const tailrace_v1_Stats *page)
{
    struct world *world = ctx;
    CU_ASSERT_FATAL(page->id < ARRAY_LEN(world->answers));
    struct answer *a = &world->answers[page->id];
    CU_ASSERT_FALSE(a->last);
    uint64_t rows = 0;
    for (size_t i = 0; i < page->counters_count; i++) {
        take_table(a, &page->counters[i], &rows);
    }
    a->pages++;
    a->rows += rows;
    a->page_rows_max = rows > a->page_rows_max ? rows : a->page_rows_max;
    a->omitted += page->omitted;
    a->last = page->last;
    if (page->has_error) {
        a->err = err_new(ERR_LIMIT, "%s", page->error.message);
    }
}

static void on_turn(struct io_task *task)
{
    struct world *world = CONTAINER_OF(task, struct world, turn);
    world->turns++;
    world->after(world);
    if (world->after != NULL) {
        io_post(world->loop, &world->turn);
    }
}

static void stop(struct world *world)
{
    world->after = NULL;
    io_loop_stop(world->loop);
}

static uint64_t ask(struct world *world, uint64_t id, uint32_t rows_max, uint32_t parts)
{
    const tailrace_v1_ReportStats question = {.id = id, .counters = true, .rows_max = rows_max};
    return stats_ask(&world->stats, &question, parts);
}

static void open_slots(struct world *world)
{
    CU_ASSERT_PTR_NULL_FATAL(counters_new(NULL, SUBSCRIPTIONS + LOOPS, &world->counters));
    for (uint64_t i = 0; i < LOOPS; i++) {
        counters_open(world->counters, &loop_type, (uint64_t[COUNTERS_IDS]){i});
    }
    for (uint64_t i = 0; i < SUBSCRIPTIONS; i++) {
        struct counters_slot *slot = counters_open(world->counters, &subscription_type,
                                                   (uint64_t[COUNTERS_IDS]){i, 7});
        world->first = i == 0 ? slot : world->first;
    }
}

static void run(struct world *world, void (*start)(struct io_loop *loop, void *arg))
{
    struct io_env *env = NULL;
    open_slots(world);
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL(io_main(env, start, world));
    io_env_free(env);
    counters_free(world->counters);
}

static void begin(struct world *world, struct io_loop *loop, void (*after)(struct world *world))
{
    world->loop = loop;
    world->after = after;
    world->turn.run = on_turn;
    stats_init(&world->stats, loop, world->counters, on_page, world);
    io_post(loop, &world->turn);
}

/* ---- all of it, in pages --------------------------------------------------------------------- */

static void when_told(struct world *world)
{
    if (world->answers[1].last && world->answers[2].last) {
        stats_clear(&world->stats);
        stop(world);
    }
}

static void start_all(struct io_loop *loop, void *arg)
{
    struct world *world = arg;
    begin(world, loop, when_told);
    ask(world, 1, SUBSCRIPTIONS, 0);
    ask(world, 2, 10, 0);
    CU_ASSERT_EQUAL(world->answers[1].pages, 0); /* never from inside the call */
    counters_close(world->counters, world->first);
}

static void test_pages(void)
{
    struct world world = {0};
    run(&world, start_all);
    const struct answer *all = &world.answers[1];
    CU_ASSERT_EQUAL(all->rows, SUBSCRIPTIONS - 1 + LOOPS);
    CU_ASSERT_EQUAL(all->sum, (uint64_t)SUBSCRIPTIONS * (SUBSCRIPTIONS - 1) / 2);
    CU_ASSERT_EQUAL(all->omitted, 0);
    CU_ASSERT(all->page_rows_max <= STATS_PAGE_ROWS);
    CU_ASSERT(world.turns >= SUBSCRIPTIONS / STATS_PAGE_ROWS); /* others had their turns */
    const struct answer *few = &world.answers[2];
    CU_ASSERT_EQUAL(few->rows, 10 + LOOPS);
    CU_ASSERT_EQUAL(few->omitted, SUBSCRIPTIONS - 1 - 10);
}

/* ---- parts, and the end of a session --------------------------------------------------------- */

static void owe_parts(struct world *world)
{
    if (world->turns == 500) { /* the walk is over: the parts are still owed */
        CU_ASSERT_FALSE(world->answers[1].last);
        stats_part(&world->stats, 1);
        tailrace_v1_Stats page = {.omitted = 3, .last = true};
        stats_page(&world->stats, 1, &page);
        CU_ASSERT_FALSE(world->answers[1].last);
        stats_part(&world->stats, 1);
        CU_ASSERT_TRUE(world->answers[1].last);
        stats_part(&world->stats, 1); /* of a question that is over */
        uint64_t number = ask(world, 2, SUBSCRIPTIONS, 1);
        CU_ASSERT_NOT_EQUAL(number, 0);
        stats_clear(&world->stats); /* amid its walk */
        stats_part(&world->stats, number);
        stats_page(&world->stats, number, &page);
    } else if (world->turns == 600) {
        CU_ASSERT_EQUAL(world->answers[2].pages, 0);
        stop(world);
    }
}

static void start_parts(struct io_loop *loop, void *arg)
{
    begin(arg, loop, owe_parts);
    CU_ASSERT_EQUAL(ask(arg, 1, SUBSCRIPTIONS, 2), 1);
}

static void test_parts(void)
{
    struct world world = {0};
    run(&world, start_parts);
    CU_ASSERT_EQUAL(world.answers[1].rows, SUBSCRIPTIONS + LOOPS);
    CU_ASSERT_EQUAL(world.answers[1].omitted, 3);
}

/* ---- too many -------------------------------------------------------------------------------- */

static void when_refused(struct world *world)
{
    stats_clear(&world->stats);
    stop(world);
}

static void start_many(struct io_loop *loop, void *arg)
{
    struct world *world = arg;
    begin(world, loop, when_refused);
    for (uint64_t i = 1; i <= STATS_QUESTIONS_MAX; i++) {
        CU_ASSERT_NOT_EQUAL(ask(world, i, 1, 0), 0);
    }
    CU_ASSERT_EQUAL(ask(world, STATS_QUESTIONS_MAX + 1, 1, 0), 0);
}

static void test_refused(void)
{
    struct world world = {0};
    run(&world, start_many);
    struct answer *refused = &world.answers[STATS_QUESTIONS_MAX + 1];
    CU_ASSERT_TRUE(refused->last);
    CU_ASSERT_PTR_NOT_NULL_FATAL(refused->err);
    CU_ASSERT_PTR_NOT_NULL(strstr(err_text(refused->err), "under way already"));
    err_free(refused->err);
}

static const struct test_case cases[] = {
    {"pages", test_pages},
    {"parts", test_parts},
    {"refused", test_refused},
};
TEST_SUITE("runtime/stats", cases)
