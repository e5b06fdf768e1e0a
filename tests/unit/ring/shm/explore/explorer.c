/* The scheduler, the store buffers, and what stands in for the sanitizer's runtime: explorer.h. */
#include "tests/unit/ring/shm/explore/explorer.h"

#include "core/base/assert.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum {
    STACK = 128 * 1024,
    HEAP = 512 * 1024,
    PENDING = 256, /* stores on their way, of one thread */
    STORE_MAX = 64,
    TAPE = 4096, /* choices in a schedule */
    STEPS_MAX = 20000,
};

enum store_kind { STORE_PLAIN, STORE_RELAXED, STORE_RELEASE };

struct store {
    uint8_t *at;
    uint32_t size;
    enum store_kind kind;
    uint8_t before[STORE_MAX];
    uint8_t after[STORE_MAX];
};

enum thread_state { READY, ASLEEP, JOINING, ENDED, KILLED };

struct thread {
    enum thread_state state;
    bool started;
    bool told; /* that somebody died */
    const uint32_t *words[EXPLORE_WORDS]; /* it sleeps on */
    uint32_t joins;
    ucontext_t context; /* its first entry */
    jmp_buf at;
    uint8_t *stack;
    struct store pending[PENDING];
    uint32_t pending_len;
    uint32_t open; /* so many of the last ones are being made */
};

/* Which of the stores on their way arrive at a switch. */
enum arrival { ARRIVE_ALL, ARRIVE_NONE, ARRIVE_LAST, ARRIVE_FIRST, ARRIVALS };

static struct explorer {
    bool active; /* a thread of the scenario is running */
    const struct explore_scenario *scenario;
    struct explore_bounds bounds;
    struct explore_result result;
    uint8_t *shared;
    size_t shared_len;
    struct thread threads[EXPLORE_THREADS];
    uint32_t current;
    ucontext_t main_first;
    jmp_buf main_at;
    uint32_t left; /* of bounds.preemptions */
    uint32_t steps;
    bool failed;
    bool killed;
    uint64_t random;
    uint8_t tape[TAPE]; /* choices, and out of how many */
    uint8_t tape_of[TAPE];
    uint32_t tape_len; /* known */
    uint32_t tape_at;
    _Alignas(64) uint8_t heap[HEAP];
    size_t heap_used;
} x;

/* ---- choices --------------------------------------------------------------------------------- */

/* One of n; 0 is the ordinary course. */
static uint32_t choose(uint32_t n)
{
    ASSERT(n > 0 && n < 256 && x.tape_at < TAPE);
    if (n == 1) {
        return 0;
    }
    uint32_t i = x.tape_at++;
    if (i >= x.tape_len) {
        x.tape[i] = 0;
        if (x.bounds.random != 0) {
            x.random = x.random * 6364136223846793005ULL + 1442695040888963407ULL;
            x.tape[i] = (x.random >> 40) % 12 == 0 ? (uint8_t)((x.random >> 48) % n) : 0;
        }
        x.tape_of[i] = (uint8_t)n;
        x.tape_len = i + 1;
    }
    ASSERT(x.tape_of[i] == n);
    return x.tape[i];
}

/* The next schedule in order; false: that was the last. */
static bool tape_next(void)
{
    if (x.bounds.random != 0) {
        x.tape_len = 0;
        return true;
    }
    x.tape_len = x.tape_at;
    while (x.tape_len > 0 && x.tape[x.tape_len - 1] + 1U >= x.tape_of[x.tape_len - 1]) {
        x.tape_len--;
    }
    if (x.tape_len == 0) {
        return false;
    }
    x.tape[x.tape_len - 1]++;
    return true;
}

static void tape_print(char *to, size_t size)
{
    size_t len = 0;
    for (uint32_t i = 0; i < x.tape_at && len + 16 < size; i++) {
        if (x.tape[i] != 0) {
            len += (size_t)snprintf(to + len, size - len, "%u:%u ", i, x.tape[i]);
        }
    }
}

/* ---- stores on their way --------------------------------------------------------------------- */

static bool is_shared(const volatile void *at)
{
    return (size_t)((const uint8_t *)at - x.shared) < x.shared_len;
}

/* The stores announced last have been made by now. */
static void store_close(struct thread *t)
{
    ASSERT(t->open <= t->pending_len);
    for (; t->open > 0; t->open--) {
        struct store *s = &t->pending[t->pending_len - t->open];
        memcpy(s->after, s->at, s->size);
    }
}

static void store_open(void *at, size_t size, enum store_kind kind)
{
    struct thread *t = &x.threads[x.current];
    ASSERT(size <= STORE_MAX && t->pending_len < PENDING);
    struct store *s = &t->pending[t->pending_len++];
    s->at = at;
    s->size = (uint32_t)size;
    s->kind = kind;
    memcpy(s->before, at, size);
    t->open++;
}

static void arrive_all(struct thread *t)
{
    t->pending_len = 0;
    t->open = 0;
}

static uint32_t atomics(const struct thread *t, uint32_t *first, uint32_t *last)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->pending_len; i++) {
        if (t->pending[i].kind != STORE_PLAIN) {
            *first = n++ == 0 ? i : *first;
            *last = i;
        }
    }
    return n;
}

/* How many of enum arrival differ, for what this thread has on its way. */
static uint32_t arrivals(const struct thread *t)
{
    uint32_t first = 0;
    uint32_t last = 0;
    uint32_t n = atomics(t, &first, &last);
    if (n == 0 || x.left == 0) {
        return 1; /* nobody looks at the others before one of these has arrived */
    }
    return n == 1 && t->pending_len == 1 ? ARRIVE_LAST : ARRIVALS;
}

/* Does the store at i have to wait for the one at j, before it? */
static bool waits(const struct thread *t, uint32_t i, uint32_t j)
{
    const struct store *a = &t->pending[j];
    const struct store *b = &t->pending[i];
    bool same = a->at < b->at + b->size && b->at < a->at + a->size;
    return same || (b->kind == STORE_RELEASE && x.bounds.fault != EXPLORE_PLAIN_RELEASE);
}

/* The thread stops: memory becomes what the others see. */
static void stores_leave(struct thread *t, enum arrival how)
{
    store_close(t);
    if (how == ARRIVE_ALL) {
        arrive_all(t);
        return;
    }
    uint32_t first = 0;
    uint32_t last = 0;
    uint32_t n = atomics(t, &first, &last);
    uint32_t one = how == ARRIVE_NONE || n == 0 ? UINT32_MAX : how == ARRIVE_LAST ? last : first;
    for (uint32_t i = t->pending_len; i-- > 0;) {
        memcpy(t->pending[i].at, t->pending[i].before, t->pending[i].size);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->pending_len; i++) {
        if (i == one || (one != UINT32_MAX && i < one && waits(t, one, i))) {
            memcpy(t->pending[i].at, t->pending[i].after, t->pending[i].size);
        } else {
            t->pending[kept++] = t->pending[i];
        }
    }
    t->pending_len = kept;
}

/* It goes on: memory becomes what it sees. */
static void stores_return(struct thread *t)
{
    for (uint32_t i = 0; i < t->pending_len; i++) {
        memcpy(t->pending[i].before, t->pending[i].at, t->pending[i].size);
        memcpy(t->pending[i].at, t->pending[i].after, t->pending[i].size);
    }
}

/* Whatever happens, in the end all of it arrives. */
static void stores_settle(struct thread *t)
{
    stores_return(t);
    arrive_all(t);
}

/* ---- switching ------------------------------------------------------------------------------- */

static bool over(const struct thread *t)
{
    return t->state == ENDED || t->state == KILLED;
}

static bool ready(const struct thread *t)
{
    return t->state == READY || (t->state == JOINING && over(&x.threads[t->joins]));
}

static void thread_main(void)
{
    x.scenario->run(x.current);
    x.threads[x.current].state = ENDED;
    uint32_t n = arrivals(&x.threads[x.current]);
    enum arrival how = (enum arrival)choose(n);
    x.left -= how != ARRIVE_ALL ? 1 : 0;
    stores_leave(&x.threads[x.current], how);
    _longjmp(x.main_at, 1);
}

/* From the scheduler, into a thread until it stops. */
static void enter(uint32_t i)
{
    struct thread *t = &x.threads[i];
    ASSERT(ready(t));
    t->state = READY;
    x.current = i;
    stores_return(t);
    if (_setjmp(x.main_at) != 0) {
        x.active = false;
        return;
    }
    x.active = true;
    if (t->started) {
        _longjmp(t->at, 1);
    }
    t->started = true;
    setcontext(&t->context);
    UNREACHABLE();
}

/* From a thread to the scheduler. */
static void stop(enum arrival how)
{
    struct thread *t = &x.threads[x.current];
    stores_leave(t, how);
    if (_setjmp(t->at) == 0) {
        _longjmp(x.main_at, 1);
    }
}

void explore_fail(const char *what, ...)
{
    if (!x.failed) {
        va_list list;
        va_start(list, what);
        vsnprintf(x.result.failure, sizeof(x.result.failure), what, list);
        va_end(list);
        tape_print(x.result.schedule, sizeof(x.result.schedule));
        x.failed = true;
    }
    _longjmp(x.main_at, 1);
}

static void wake_all(void)
{
    for (uint32_t i = 0; i < x.scenario->threads; i++) {
        if (x.threads[i].state == ASLEEP) {
            x.threads[i].state = READY;
            x.threads[i].told = true;
        }
    }
}

static uint32_t next_thread; /* which the scheduler enters; its choice was made where one stopped */

void explore_point(void)
{
    if (!x.active) {
        return;
    }
    struct thread *t = &x.threads[x.current];
    store_close(t);
    x.result.steps++;
    if (++x.steps > STEPS_MAX || x.tape_at + 8 > TAPE) {
        explore_fail("no end");
    }
    if (x.left == 0) {
        return;
    }
    uint32_t others[EXPLORE_THREADS];
    uint32_t others_len = 0;
    for (uint32_t i = 0; i < x.scenario->threads; i++) {
        if (i != x.current && ready(&x.threads[i])) {
            others[others_len++] = i;
        }
    }
    uint32_t ways = arrivals(t);
    bool mortal = (x.scenario->killable >> x.current & 1) != 0 && !x.killed;
    uint32_t choice = choose(1 + others_len * ways + (mortal ? ways : 0));
    if (choice == 0) {
        return;
    }
    x.left--;
    choice--;
    if (choice < others_len * ways) {
        next_thread = others[choice / ways];
        stop((enum arrival)(choice % ways));
        return;
    }
    t->state = KILLED;
    x.killed = true;
    wake_all();
    stop((enum arrival)(choice - others_len * ways));
}

static void wait_as(enum thread_state state)
{
    struct thread *t = &x.threads[x.current];
    store_close(t);
    enum arrival how = (enum arrival)choose(arrivals(t));
    x.left -= how != ARRIVE_ALL ? 1 : 0;
    t->state = state;
    stop(how);
}

void explore_sleep(const uint32_t *const *words, const uint32_t *seen, uint32_t len)
{
    ASSERT(len > 0 && len <= EXPLORE_WORDS);
    explore_point();
    for (uint32_t i = 0; i < EXPLORE_WORDS; i++) {
        const uint32_t *word = i < len ? words[i] : NULL;
        if (word != NULL && *word != seen[i] && x.bounds.fault != EXPLORE_NO_KERNEL) {
            return;
        }
        x.threads[x.current].words[i] = word;
    }
    struct thread *t = &x.threads[x.current];
    if (x.killed && !t->told) { /* the connection to who died has ended meanwhile */
        t->told = true;
        return;
    }
    wait_as(ASLEEP);
}

void explore_wake(const uint32_t *word)
{
    explore_point();
    for (uint32_t i = 0; i < x.scenario->threads; i++) {
        struct thread *t = &x.threads[i];
        for (uint32_t k = 0; k < EXPLORE_WORDS && t->state == ASLEEP; k++) {
            t->state = t->words[k] == word ? READY : ASLEEP;
        }
    }
}

void explore_join(uint32_t thread)
{
    ASSERT(thread < x.scenario->threads && thread != x.current);
    x.threads[x.current].joins = thread;
    if (!over(&x.threads[thread])) {
        wait_as(JOINING);
    }
}

bool explore_died(uint32_t thread)
{
    return thread < x.scenario->threads && x.threads[thread].state == KILLED;
}

void explore_written(void *at, size_t size)
{
    if (x.active) {
        store_close(&x.threads[x.current]);
    }
    for (size_t done = 0; x.active && done < size; done += STORE_MAX) {
        size_t len = size - done < STORE_MAX ? size - done : STORE_MAX;
        store_open((uint8_t *)at + done, len, STORE_PLAIN);
    }
}

void *explore_alloc(size_t size)
{
    size = (size + 63) & ~(size_t)63;
    ASSERT(size <= HEAP - x.heap_used);
    void *p = x.heap + x.heap_used;
    x.heap_used += size;
    return p;
}

/* ---- schedules ------------------------------------------------------------------------------- */

static void threads_reset(void)
{
    for (uint32_t i = 0; i < x.scenario->threads; i++) {
        struct thread *t = &x.threads[i];
        t->state = READY;
        t->started = t->told = false;
        t->pending_len = 0;
        t->open = 0;
        t->context.uc_stack.ss_sp = t->stack;
        t->context.uc_stack.ss_size = STACK;
        t->context.uc_link = NULL;
        makecontext(&t->context, thread_main, 0);
    }
}

/* Who runs when the one before stopped without naming a successor: any, by choice. */
static bool pick(uint32_t *out)
{
    uint32_t able[EXPLORE_THREADS];
    uint32_t len = 0;
    for (uint32_t i = 0; i < x.scenario->threads; i++) {
        if (ready(&x.threads[i])) {
            able[len++] = i;
        }
    }
    if (len == 0) {
        return false;
    }
    *out = able[choose(len)];
    return true;
}

/* Nobody can run: what was late arrives, and everybody who sleeps stays asleep, or all are done. */
static bool all_over(void)
{
    bool yes = true;
    for (uint32_t i = 0; i < x.scenario->threads; i++) {
        stores_settle(&x.threads[i]);
        yes = yes && over(&x.threads[i]);
    }
    return yes;
}

static void check_end(void)
{
    if (_setjmp(x.main_at) != 0) {
        return; /* explore_fail */
    }
    if (!all_over()) {
        char states[EXPLORE_THREADS + 1] = {0};
        for (uint32_t i = 0; i < x.scenario->threads; i++) {
            states[i] = "RSJEK"[x.threads[i].state];
        }
        explore_fail("somebody sleeps for ever: %s", states); /* S; Ended, Killed */
    }
    x.scenario->check();
}

static void run_one(void)
{
    x.heap_used = 0;
    x.steps = 0;
    x.tape_at = 0;
    x.failed = x.killed = false;
    x.left = x.bounds.preemptions;
    next_thread = UINT32_MAX;
    x.scenario->reset();
    threads_reset();
    for (;;) {
        uint32_t i = next_thread;
        next_thread = UINT32_MAX;
        if (i == UINT32_MAX && !pick(&i)) {
            break;
        }
        enter(i);
        if (x.failed) {
            return;
        }
    }
    check_end();
}

void explore_share(void *base, size_t size)
{
    x.shared = base;
    x.shared_len = size;
}

void explore_share_heap(void)
{
    explore_share(x.heap, sizeof(x.heap));
}

struct explore_result explore(const struct explore_scenario *s, const struct explore_bounds *b)
{
    ASSERT(s->threads > 0 && s->threads <= EXPLORE_THREADS);
    x.scenario = s;
    x.bounds = *b;
    x.random = b->random;
    x.result = (struct explore_result){0};
    x.tape_len = 0;
    for (uint32_t i = 0; i < s->threads; i++) {
        if (x.threads[i].stack == NULL) {
            x.threads[i].stack = aligned_alloc(64, STACK);
        }
        ASSERT(x.threads[i].stack != NULL && getcontext(&x.threads[i].context) == 0);
    }
    do {
        run_one();
        x.result.schedules++;
        x.result.full += x.left == 0 ? 1 : 0;
        x.result.killed += x.killed ? 1 : 0;
        if (x.failed || (b->schedules != 0 && x.result.schedules >= b->schedules)) {
            return x.result;
        }
    } while (tape_next());
    x.result.complete = true;
    return x.result;
}

/* ---- the code's accesses --------------------------------------------------------------------- */

/* The names and types are the compiler's (the ABI of libtsan). */
void __tsan_init(void);
void __tsan_func_entry(void *pc);
void __tsan_func_exit(void);
void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_signal_fence(int order);
void __tsan_read_range(void *at, size_t size);
void __tsan_write_range(void *at, size_t size);

void __tsan_init(void)
{
}

void __tsan_func_entry(void *pc)
{
}

void __tsan_func_exit(void)
{
}

void __tsan_atomic_thread_fence(int order)
{
    if (!x.active || x.bounds.fault == EXPLORE_NO_FENCE) {
        return;
    }
    explore_point();
    ASSERT(order == memory_order_seq_cst);
    arrive_all(&x.threads[x.current]);
}

void __tsan_atomic_signal_fence(int order)
{
}

void __tsan_read_range(void *at, size_t size)
{
}

void __tsan_write_range(void *at, size_t size)
{
    if (x.active && is_shared(at)) {
        explore_written(at, size);
    }
}

static void plain_write(void *at, size_t size)
{
    if (x.active && is_shared(at)) {
        explore_written(at, size);
    }
}

#define PLAIN(size)                                                                                \
    void __tsan_read##size(void *at);                                                              \
    void __tsan_write##size(void *at);                                                             \
    void __tsan_unaligned_read##size(void *at);                                                    \
    void __tsan_unaligned_write##size(void *at);                                                   \
    void __tsan_read##size(void *at)                                                               \
    {                                                                                              \
    }                                                                                              \
    void __tsan_unaligned_read##size(void *at)                                                     \
    {                                                                                              \
    }                                                                                              \
    void __tsan_write##size(void *at)                                                              \
    {                                                                                              \
        plain_write(at, size);                                                                     \
    }                                                                                              \
    void __tsan_unaligned_write##size(void *at)                                                    \
    {                                                                                              \
        plain_write(at, size);                                                                     \
    }
PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

/* Relaxed everywhere below: one thread of the machine runs all of this. */
#define ATOMIC(bits)                                                                               \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *at, int order);       \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *at, uint##bits##_t v, int order);    \
    uint##bits##_t __tsan_atomic##bits##_fetch_add(volatile uint##bits##_t *at, uint##bits##_t v,  \
                                                   int order);                                     \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *at, int order)        \
    {                                                                                              \
        if (x.active && is_shared(at)) {                                                           \
            explore_point();                                                                       \
            if (x.bounds.fault == EXPLORE_BLIND && at == x.bounds.blind) {                         \
                return 0;                                                                          \
            }                                                                                      \
        }                                                                                          \
        return *at;                                                                                \
    }                                                                                              \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *at, uint##bits##_t v, int order)     \
    {                                                                                              \
        if (x.active && is_shared(at)) {                                                           \
            store_close(&x.threads[x.current]);                                                    \
            store_open((void *)(uintptr_t)at, bits / 8,                                            \
                       order == memory_order_relaxed ? STORE_RELAXED : STORE_RELEASE);             \
        }                                                                                          \
        *at = v;                                                                                   \
    }                                                                                              \
    uint##bits##_t __tsan_atomic##bits##_fetch_add(volatile uint##bits##_t *at, uint##bits##_t v,  \
                                                   int order)                                      \
    {                                                                                              \
        if (x.active && is_shared(at)) {                                                           \
            explore_point();                                                                       \
        }                                                                                          \
        uint##bits##_t old = *at;                                                                  \
        *at = old + v;                                                                             \
        return old;                                                                                \
    }                                                                                              \
    uint##bits##_t __tsan_atomic##bits##_exchange(volatile uint##bits##_t *at, uint##bits##_t v,   \
                                                  int order);                                      \
    uint##bits##_t __tsan_atomic##bits##_exchange(volatile uint##bits##_t *at, uint##bits##_t v,   \
                                                  int order)                                       \
    {                                                                                              \
        if (x.active && is_shared(at)) {                                                           \
            explore_point();                                                                       \
        }                                                                                          \
        uint##bits##_t old = *at;                                                                  \
        *at = v;                                                                                   \
        return old;                                                                                \
    }
ATOMIC(32)
ATOMIC(64)

/* ---- what the code calls instead of the C library (hooks.h) ---------------------------------- */
#include "tests/unit/ring/shm/explore/hooks.h"
#undef memcpy
#undef memset
#undef assert_failed


static void copy_part(uint8_t *to, const uint8_t *from, size_t len)
{
    if (is_shared(to)) {
        explore_written(to, len);
    }
    memcpy(to, from, len);
}

/* What is copied out of shared memory may change in the middle of it. */
void *explore_memcpy(void *to, const void *from, size_t len)
{
    if (!x.active) {
        return memcpy(to, from, len);
    }
    if (!is_shared(from)) {
        copy_part(to, from, len);
        return to;
    }
    explore_point();
    copy_part(to, from, len / 2);
    explore_point();
    copy_part((uint8_t *)to + len / 2, (const uint8_t *)from + len / 2, len - len / 2);
    return to;
}

void *explore_memset(void *to, int value, size_t len)
{
    if (x.active && is_shared(to)) {
        explore_written(to, len);
    }
    return memset(to, value, len);
}

void *explore_malloc(size_t size)
{
    return explore_alloc(size);
}

void *explore_calloc(size_t n, size_t size)
{
    return memset(explore_alloc(n * size), 0, n * size);
}

void *explore_aligned_alloc(size_t align, size_t size)
{
    ASSERT(align <= 64);
    return explore_alloc(size);
}

void explore_free(void *p)
{
}

void explore_assert_failed(const char *file, int line, const char *function, const char *what)
{
    explore_fail("%s:%d: %s: %s", file, line, function, what);
}
