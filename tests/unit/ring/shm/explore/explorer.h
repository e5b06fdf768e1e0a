/*
 * Runs a few threads of real code under every schedule with a bounded number of preemptions (CHESS:
 * Musuvathi and Qadeer, 2007), on one thread of the machine. The code under test is compiled with
 * -fsanitize=thread, but linked with explorer.c in place of the sanitizer: so each access to shared
 * memory passes through here, without a change of the code.
 *
 * Memory. What a thread stores into the shared range is its own at first. At a preemption, or when
 * it waits or dies, some of its stores may still be on their way: all of them have arrived, none,
 * or only those that its orderings allow to arrive alone (a release store arrives after everything
 * before it; a seq_cst fence waits for all). Each word that is stored to has one writing thread, so
 * that its view of memory is memory itself while it runs; others may exchange it, which reads and
 * writes memory at once. Loads happen in program order.
 *
 * Time. Memory that the code allocates comes from a heap that is emptied between schedules, so that
 * a killed thread leaves nothing behind.
 */
#ifndef TAILRACE_TESTS_UNIT_RING_SHM_EXPLORE_EXPLORER_H
#define TAILRACE_TESTS_UNIT_RING_SHM_EXPLORE_EXPLORER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXPLORE_THREADS = 3, EXPLORE_WORDS = 3 };

/* What is broken on purpose, to see that it is found. */
enum explore_fault {
    EXPLORE_NO_FAULT,
    EXPLORE_NO_FENCE,      /* fences do nothing */
    EXPLORE_PLAIN_RELEASE, /* release stores do not wait for what is before them */
    EXPLORE_BLIND,         /* loads of one word give 0 */
    EXPLORE_NO_KERNEL,     /* the kernel does not compare the word before it lets a thread sleep */
};

struct explore_scenario {
    const char *name;
    uint32_t threads;
    uint32_t killable;  /* bits: which threads may be killed */
    void (*reset)(void);
    void (*run)(uint32_t thread);
    /* All have ended: is everything as it must be? Calls explore_fail if not. */
    void (*check)(void);
};

struct explore_bounds {
    uint32_t preemptions;  /* and kills, and stores that are late: in sum */
    uint64_t schedules;    /* stops there; 0: when all are done */
    uint64_t random;       /* != 0: schedules drawn at random from this seed instead of in order */
    enum explore_fault fault;
    const void *blind;     /* for EXPLORE_BLIND */
};

struct explore_result {
    uint64_t schedules;
    uint64_t full; /* of them, used up all their preemptions: those of no smaller bound */
    bool complete; /* there are no more within the bounds */
    uint64_t steps; /* switch points, of all */
    uint64_t killed; /* schedules in which somebody was */
    char failure[200]; /* of the first schedule that failed; "" */
    char schedule[400]; /* it */
};

/* The memory all threads see. */
void explore_share(void *base, size_t size);
/* It is what explore_alloc gives, and so what the code allocates. */
void explore_share_heap(void);
struct explore_result explore(const struct explore_scenario *s, const struct explore_bounds *b);

/* ---- for the scenario's threads -------------------------------------------------------------- */

/* What was expected does not hold: this schedule ends. */
_Noreturn void explore_fail(const char *what, ...) __attribute__((format(printf, 1, 2)));
/* Another thread may run here. */
void explore_point(void);
/* The thread is about to fill this memory. */
void explore_written(void *at, size_t size);
/* Waits until explore_wake for one of the words, or once the death of anybody, and only if each
 * word is what was seen still. */
void explore_sleep(const uint32_t *const *words, const uint32_t *seen, uint32_t len);
void explore_wake(const uint32_t *word);
/* Waits until the thread has ended or died. */
void explore_join(uint32_t thread);
bool explore_died(uint32_t thread); /* false when there is none of that number */
/* This schedule's, see above. */
void *explore_alloc(size_t size);

#endif
