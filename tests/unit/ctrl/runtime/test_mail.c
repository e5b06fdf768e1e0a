/* Mail between loops: runs once, in order, on the target; released whatever happens. */
#include "ctrl/runtime/mail.h"

#include "core/base/mem.h"
#include "tests/unit/harness.h"

#include <pthread.h>
#include <stdatomic.h>

enum { MAILS = 5000 };

struct world {
    struct mailroom room;
    struct io_loop *main, *other;
    uint32_t received, answered; /* received: the other thread only, until it is joined */
    uint32_t disordered_there, disordered_back; /* of the other thread; of main's */
    _Atomic uint32_t released;
    pthread_t other_thread;
    bool wrong_thread, joined;
};

struct note {
    struct mail mail;
    struct world *world;
    uint32_t number;
    char *owned;
};

static void release(struct mail *mail)
{
    struct note *note = CONTAINER_OF(mail, struct note, mail);
    free(note->owned);
    /* relaxed: read after both loops ended */
    atomic_fetch_add_explicit(&note->world->released, 1, memory_order_relaxed);
}

static void send(struct world *world, struct io_loop *target, uint32_t number, mail_fn run)
{
    struct note *note = MEM_NEW(struct note);
    note->world = world;
    note->number = number;
    note->owned = mem_strdup("owned");
    mail_send(&world->room, target, &note->mail, run, release);
}

static void on_answer(struct mail *mail)
{
    struct note *note = CONTAINER_OF(mail, struct note, mail);
    struct world *world = note->world;
    world->disordered_back += note->number != world->answered ? 1 : 0;
    world->answered++;
    if (world->answered == MAILS) {
        io_loop_stop(world->main); /* stops and joins the other thread too */
    }
}

static void on_note(struct mail *mail)
{
    struct note *note = CONTAINER_OF(mail, struct note, mail);
    struct world *world = note->world;
    if (!pthread_equal(pthread_self(), world->other_thread)) {
        world->wrong_thread = true;
    }
    world->disordered_there += note->number != world->received ? 1 : 0;
    world->received++;
    send(world, world->main, note->number, on_answer);
}

static void on_ready(struct mail *mail)
{
    struct note *note = CONTAINER_OF(mail, struct note, mail);
    for (uint32_t i = 0; i < MAILS; i++) {
        send(note->world, note->world->other, i, on_note);
    }
}

static void other_start(struct io_loop *loop, void *arg)
{
    struct world *world = arg;
    world->other = loop;
    world->other_thread = pthread_self();
    send(world, world->main, 0, on_ready);
}

static void other_done(void *arg)
{
    ((struct world *)arg)->joined = true;
}

static void main_start(struct io_loop *loop, void *arg)
{
    struct world *world = arg;
    world->main = loop;
    CU_ASSERT_PTR_NULL_FATAL(io_thread_start(loop, "other", -1, other_start, other_done, world));
}

static void there_and_back(void)
{
    struct world world = {0};
    struct io_env *env = NULL;
    mailroom_init(&world.room);
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL_FATAL(io_main(env, main_start, &world));
    mailroom_free(&world.room);
    io_env_free(env);
    CU_ASSERT_EQUAL(world.received, MAILS);
    CU_ASSERT_EQUAL(world.answered, MAILS);
    CU_ASSERT_EQUAL(world.disordered_there, 0);
    CU_ASSERT_EQUAL(world.disordered_back, 0);
    CU_ASSERT_FALSE(world.wrong_thread);
    CU_ASSERT_EQUAL(atomic_load_explicit(&world.released, memory_order_relaxed), 2 * MAILS + 1);
}

static void never_runs(struct mail *mail)
{
    CU_FAIL("a message ran on a loop that had stopped");
}

static void stop_first(struct io_loop *loop, void *arg)
{
    struct world *world = arg;
    world->main = loop;
    for (uint32_t i = 0; i < 10; i++) {
        send(world, loop, i, never_runs);
    }
    io_loop_stop(loop);
    send(world, loop, 10, never_runs);
}

/* What was under way when the loop stopped is freed with the room, without being run. */
static void under_way(void)
{
    struct world world = {0};
    struct io_env *env = NULL;
    mailroom_init(&world.room);
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL_FATAL(io_main(env, stop_first, &world));
    CU_ASSERT_EQUAL(atomic_load_explicit(&world.released, memory_order_relaxed), 0);
    mailroom_free(&world.room);
    io_env_free(env);
    CU_ASSERT_EQUAL(atomic_load_explicit(&world.released, memory_order_relaxed), 11);
}

static const struct test_case cases[] = {
    {"there and back", there_and_back},
    {"under way", under_way},
};
TEST_SUITE("ctrl/runtime mail", cases)
