/* When counting begins and ends, and the CPU time between. See load.h. */
#include "bench/load.h"

#include <string.h>

enum { LOOK_BYTES = 256 * 1024 }; /* received between two looks at the clock */

void load_init(struct load *load, const struct load_shape *shape, bool parent,
               struct load_figures *figures)
{
    ASSERT(shape->bytes >= LOAD_BYTES_MIN && shape->bytes <= LOAD_BYTES_MAX);
    ASSERT(shape->bytes % sizeof(load_pair) == 0);
    ASSERT(shape->pattern != LOAD_FLOOD || shape->batch > 0);
    ASSERT(shape->pattern != LOAD_PACED || shape->interval_ns > 0);
    *load = (struct load){.shape = shape, .parent = parent, .figures = figures};
    memset(figures, 0, sizeof(*figures));
    for (uint64_t i = 2; i < shape->bytes / sizeof(uint64_t); i++) {
        load->base_sum += i;
    }
    uint64_t every = 1;
    while (every * shape->bytes < LOOK_BYTES && every < 1024) {
        every *= 2;
    }
    load->count_mask = every - 1;
    ASSERT((every & load->count_mask) == 0);
}

/* CPU time of this process and the others', all their threads, so far. */
static uint64_t cpu_ns(const struct load *load)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    uint64_t sum = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    for (size_t i = 0; i < sizeof(load->others) / sizeof(load->others[0]); i++) {
        clockid_t id;
        if (load->others[i] != 0 && clock_getcpuclockid(load->others[i], &id) == 0 &&
            clock_gettime(id, &t) == 0) {
            sum += (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
        }
    }
    return sum;
}

void load_clock(struct load *load, uint64_t now)
{
    ASSERT(load->parent);
    if (load->begin_ns == 0) { /* the first message has come: now the warm-up begins */
        load->begin_ns = now + load->shape->run_ns / LOAD_WARM_UP_SHARE;
    }
    if (!load->counting && now >= load->begin_ns) {
        uint64_t lost = load->figures->lost;
        memset(load->figures, 0, sizeof(*load->figures));
        load->figures->lost = lost; /* a lost one is one too many, whenever it was */
        load->begin_ns = now; /* perhaps well after it was due: the run is as long as promised */
        load->end_ns = now + load->shape->run_ns;
        load->cpu_begin_ns = cpu_ns(load);
        load->received_begin = load->received;
        load->counting = true;
    } else if (load->counting && now >= load->end_ns && !load->over) {
        load->figures->ns = now - load->begin_ns;
        load->figures->messages = load->received - load->received_begin;
        load->figures->cpu_ns = cpu_ns(load) - load->cpu_begin_ns;
        load->over = true;
    }
}
