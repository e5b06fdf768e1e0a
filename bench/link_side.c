/* A side of a link on an io_loop: see link_side.h. One thread a process. */
#include "bench/link_side.h"

#include "core/base/mem.h"

#include <stdio.h>
#include <unistd.h>

enum { SPIN_US = 10 * 1000 * 1000 };

err_t link_side_open(struct link_side *side, struct link *link, const char *name)
{
    ASSERT(side->link == NULL && strchr(name, '/') == NULL);
    side->link = link;
    snprintf(side->secret, sizeof(side->secret), "%s/secret", link->directory);
    for (int i = 0; i < 2; i++) {
        snprintf(side->tcp[i], sizeof(side->tcp[i]), "127.0.0.1:%d", link_free_port());
        snprintf(side->local[i], sizeof(side->local[i]), "unixpacket:%s/%s%u-%d",
                 link->directory, name, link->serial, i);
    }
    return link_write_secret(side->secret);
}

void link_side_close(struct link_side *side)
{
    ASSERT(side->loop == NULL);
    unlink(side->secret);
}

void link_side_end(struct link_side *side, err_t err)
{
    ASSERT(side->loop != NULL);
    if (side->err == ERR_OK) {
        side->err = err;
    } else {
        err_free(err);
    }
    io_loop_stop(side->loop);
}

/* Was the run interrupted? */
static void on_timer(struct io_timer *timer)
{
    struct link_side *side = CONTAINER_OF(timer, struct link_side, timer);
    if (link_interrupted) {
        io_loop_stop(side->loop);
        return;
    }
    io_timer_start(side->loop, timer, io_now_us(side->loop) + LINK_SIDE_WATCH_US);
}

/* An error before the loop runs ends it at once. */
static void begin(struct link_side *side, struct io_loop *loop)
{
    ASSERT(side->loop == NULL && side->load != NULL);
    side->loop = loop;
    err_t err = side->start(side);
    if (err != ERR_OK) {
        link_side_end(side, err);
        return;
    }
    side->timer.fire = on_timer;
    io_timer_start(loop, &side->timer, io_now_us(loop) + LINK_SIDE_WATCH_US);
}

/* io_main's. */
static void begin_one(struct io_loop *loop, void *arg)
{
    begin(arg, loop);
}

static void begin_both(struct io_loop *loop, void *arg)
{
    struct link_side **sides = arg;
    begin(sides[0], loop);
    begin(sides[1], loop);
}

err_t link_side_run(struct link_side *side, struct load *load,
                    err_t (*start)(struct link_side *side))
{
    struct io_env *env;
    ASSERT(side->load == NULL);
    side->load = load;
    side->start = start;
    TRY(io_env_new_real(&env));
    TRY(io_main(env, begin_one, side));
    return side->err;
}

err_t link_side_run_both(struct link_side *sides[2], struct load *loads[2],
                         err_t (*start)(struct link_side *side))
{
    struct io_env *env;
    ASSERT(!loads[0]->parent && loads[1]->parent);
    for (int i = 0; i < 2; i++) {
        sides[i]->load = loads[i];
        sides[i]->start = start;
    }
    TRY(io_env_new_real(&env));
    TRY(io_main(env, begin_both, sides));
    return sides[0]->err != ERR_OK ? sides[0]->err : sides[1]->err;
}

struct boundary_identity link_side_identity(const struct link_side *side)
{
    return (struct boundary_identity){.environment = "tailrace-bench!",
                                      .service = side->load->parent ? 2 : 1, .generation = 1,
                                      .epoch = 1, .node_secret_path = side->secret};
}

void link_side_spin(struct link_side *side)
{
    static const uint32_t spins_us[] = {[LOAD_SPIN] = SPIN_US, [LOAD_SLEEP] = 0};
    enum load_wait wait = side->load->shape->wait;
    ASSERT(side->loop != NULL);
    if (wait != LOAD_ADAPT) {
        io_loop_set_spin(side->loop, spins_us[wait]);
    }
}
