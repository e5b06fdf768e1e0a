/*
 * Hand-written loops. See loops.h.
 *
 * One table with linear probing, at most 70 % full; keys are never removed. Counting workloads keep
 * the count before the round beside the count, and visit the keys a round touched once at its end.
 * The join keeps a list of rows per key and side, and puts pairs out as it goes: pairs that come
 * and go within one round are not cancelled, which only its number of updates shows.
 *
 * What is left out on purpose, because a programmer with only this to do would leave it out:
 * types, an error path, other workers, history, and readers that come later. So the ratio to it is
 * what generality costs, and it is the number to bring down.
 */
#include "bench/loops.h"

#include "bench/bfs.h"

#include "core/base/hash.h"
#include "core/base/mem.h"

struct slot {
    uint64_t key;
    int64_t count; /* sum of the signs so far */
    union {
        int64_t before;   /* the round */
        uint32_t list[2]; /* join: first row of each side; 0: none */
    };
    uint32_t round; /* that touched it last; 0: the slot is empty */
};

/* A row of one side, in the list of its key. */
struct row {
    uint64_t value;
    uint32_t next; /* 0: the last; of a freed one the next freed */
};

/* How many keys have a certain count. */
struct tally {
    int64_t keys, before;
    uint32_t round; /* that touched it last */
};

struct loop {
    enum workload_kind kind;
    struct slot *slots;             /* the table */
    size_t slots_cap, slots_len;    /* cap: a power of two */
    uint32_t round;                 /* under way; from 1 */
    uint32_t *touched;              /* slots of this round, each once */
    size_t touched_len, touched_cap;
    struct row *rows;               /* join; row 0 is unused */
    size_t rows_len, rows_cap;
    uint32_t free_row;              /* first of the freed ones; 0: none */
    struct tally *tallies;          /* distribution: by count */
    size_t tallies_len;
    uint64_t *changed;              /* counts whose tally this round touched, each once */
    size_t changed_len, changed_cap;
    struct bfs *bfs;                /* bfs, instead of all that */
    struct outcome outcome;
};

/* Row 0 stays unused, so that 0 can mean none. */
struct loop *loop_new(enum workload_kind kind)
{
    struct loop *loop = MEM_NEW(struct loop);
    loop->kind = kind;
    loop->slots_cap = 1024;
    loop->slots = mem_zalloc(loop->slots_cap * sizeof(*loop->slots));
    loop->rows_len = 1;
    loop->bfs = kind == WORKLOAD_BFS ? bfs_new() : NULL;
    return loop;
}

void loop_free(struct loop *loop)
{
    ASSERT(loop != NULL);
    if (loop->bfs != NULL) {
        bfs_free(loop->bfs);
    }
    free(loop->slots);
    free(loop->touched);
    free(loop->rows);
    free(loop->tallies);
    free(loop->changed);
    free(loop);
}

/* The key's slot, or the empty one where it belongs. Ends because the table is never full. */
static struct slot *find(struct loop *loop, uint64_t key)
{
    size_t mask = loop->slots_cap - 1;
    ASSERT(loop->slots_len < loop->slots_cap);
    for (size_t at = hash_u64(key) & mask;; at = (at + 1) & mask) {
        struct slot *slot = &loop->slots[at];
        if (slot->round == 0 || slot->key == key) {
            return slot;
        }
    }
}

/* Doubles the table; what this round touched has moved, and is listed anew. */
static void grow(struct loop *loop)
{
    struct slot *old = loop->slots;
    size_t old_cap = loop->slots_cap;
    ASSERT((loop->slots_cap & (loop->slots_cap - 1)) == 0);
    loop->slots_cap = old_cap * 2;
    loop->slots = mem_zalloc(loop->slots_cap * sizeof(*old));
    loop->touched_len = 0;
    for (size_t i = 0; i < old_cap; i++) {
        if (old[i].round == 0) {
            continue;
        }
        struct slot *slot = find(loop, old[i].key);
        *slot = old[i];
        if (slot->round == loop->round && loop->kind != WORKLOAD_JOIN) {
            loop->touched[loop->touched_len++] = (uint32_t)(slot - loop->slots);
        }
    }
    free(old);
}

/* May move every slot: pointers from before are not valid after it. */
static struct slot *find_or_add(struct loop *loop, uint64_t key)
{
    if ((loop->slots_len + 1) * 10 > loop->slots_cap * 7) {
        grow(loop);
    }
    struct slot *slot = find(loop, key);
    if (slot->round == 0) {
        slot->key = key;
        loop->slots_len++;
    }
    return slot;
}

/* ---- counting workloads ---------------------------------------------------------------------- */

/* Of counts above 0, as a key without rows is not there. Counts are small: an array. */
static void tally(struct loop *loop, int64_t count, int64_t diff)
{
    if (count <= 0) {
        return;
    }
    size_t at = (size_t)count;
    if (at >= loop->tallies_len) {
        loop->tallies = mem_realloc(loop->tallies, (at + 1) * 2 * sizeof(*loop->tallies));
        memset(loop->tallies + loop->tallies_len, 0,
               ((at + 1) * 2 - loop->tallies_len) * sizeof(*loop->tallies));
        loop->tallies_len = (at + 1) * 2;
    }
    struct tally *tally = &loop->tallies[at];
    if (tally->round != loop->round) {
        tally->round = loop->round;
        tally->before = tally->keys;
        *VEC_PUSH(loop, changed) = at;
    }
    tally->keys += diff;
}

/* The change of one key in this round: what an incremental view would tell its readers. */
static void put_out(struct loop *loop, const struct slot *slot)
{
    uint64_t record[2] = {slot->key, (uint64_t)slot->count};
    ASSERT(slot->count != slot->before);
    switch (loop->kind) {
    case WORKLOAD_COUNT:
        if (slot->before > 0) {
            uint64_t old[2] = {slot->key, (uint64_t)slot->before};
            outcome_add(&loop->outcome, workload_hash(old, 2), -1);
        }
        if (slot->count > 0) {
            outcome_add(&loop->outcome, workload_hash(record, 2), 1);
        }
        break;
    case WORKLOAD_DISTINCT:
        if ((slot->count > 0) != (slot->before > 0)) {
            outcome_add(&loop->outcome, workload_hash(record, 1), slot->count > 0 ? 1 : -1);
        }
        break;
    case WORKLOAD_CONSOLIDATE:
        outcome_add(&loop->outcome, workload_hash(record, 1), slot->count - slot->before);
        break;
    case WORKLOAD_DISTRIBUTION:
        tally(loop, slot->before, -1);
        tally(loop, slot->count, 1);
        break;
    case WORKLOAD_JOIN:
    case WORKLOAD_BFS:
        UNREACHABLE();
    }
}

/* The second half of a round of the distribution: the tallies that are not what they were. */
static void put_out_tallies(struct loop *loop)
{
    for (size_t i = 0; i < loop->changed_len; i++) {
        const struct tally *tally = &loop->tallies[loop->changed[i]];
        uint64_t old[2] = {loop->changed[i], (uint64_t)tally->before};
        uint64_t record[2] = {loop->changed[i], (uint64_t)tally->keys};
        if (tally->keys == tally->before) {
            continue;
        }
        if (tally->before > 0) {
            outcome_add(&loop->outcome, workload_hash(old, 2), -1);
        }
        if (tally->keys > 0) {
            outcome_add(&loop->outcome, workload_hash(record, 2), 1);
        }
    }
    loop->changed_len = 0;
}

/* Two passes: apply, then say what changed, so that what comes and goes within the round is
 * silent. */
static void run_counts(struct loop *loop, const struct update *updates, size_t len)
{
    ASSERT(loop->touched_cap >= len);
    loop->touched_len = 0;
    for (size_t i = 0; i < len; i++) {
        struct slot *slot = find_or_add(loop, updates[i].key);
        if (slot->round != loop->round) {
            slot->round = loop->round;
            slot->before = slot->count;
            loop->touched[loop->touched_len++] = (uint32_t)(slot - loop->slots);
        }
        slot->count += updates[i].diff;
    }
    for (size_t i = 0; i < loop->touched_len; i++) {
        const struct slot *slot = &loop->slots[loop->touched[i]];
        if (slot->count != slot->before) {
            put_out(loop, slot);
        }
    }
    put_out_tallies(loop);
}

/* ---- join ------------------------------------------------------------------------------------ */

/* A freed one, or a new one at the end. */
static uint32_t new_row(struct loop *loop)
{
    uint32_t row = loop->free_row;
    ASSERT(loop->rows_len > 0);
    if (row != 0) {
        loop->free_row = loop->rows[row].next;
        return row;
    }
    if (loop->rows_len >= loop->rows_cap) {
        loop->rows_cap = loop->rows_cap == 0 ? 1024 : 2 * loop->rows_cap;
        loop->rows = mem_realloc(loop->rows, loop->rows_cap * sizeof(*loop->rows));
    }
    return (uint32_t)loop->rows_len++;
}

/* Insert at the front, or take the one with that value out. Lists are short: keys are many. */
static void change_list(struct loop *loop, uint32_t *list, uint64_t value, int64_t diff)
{
    ASSERT(diff == 1 || diff == -1);
    if (diff > 0) {
        uint32_t row = new_row(loop);
        loop->rows[row] = (struct row){.value = value, .next = *list};
        *list = row;
        return;
    }
    while (*list != 0 && loop->rows[*list].value != value) {
        list = &loop->rows[*list].next;
    }
    ASSERT(*list != 0); /* only what is there is retracted */
    uint32_t row = *list;
    *list = loop->rows[row].next;
    loop->rows[row].next = loop->free_row;
    loop->free_row = row;
}

/* Each update meets the other side's rows of its key at once. */
static void run_join(struct loop *loop, const struct update *updates, size_t len)
{
    ASSERT(loop->kind == WORKLOAD_JOIN);
    for (size_t i = 0; i < len; i++) {
        const struct update *update = &updates[i];
        struct slot *slot = find_or_add(loop, update->key);
        slot->round = loop->round;
        change_list(loop, &slot->list[update->side], update->value, update->diff);
        for (uint32_t r = slot->list[1 - update->side]; r != 0; r = loop->rows[r].next) {
            uint64_t record[3] = {update->key, update->value, loop->rows[r].value};
            if (update->side == 1) {
                record[1] = loop->rows[r].value;
                record[2] = update->value;
            }
            outcome_add(&loop->outcome, workload_hash(record, 3), update->diff);
        }
    }
}

/* ---- rounds ---------------------------------------------------------------------------------- */

/* A round: stamps it, so that slots know whether they were touched in it. */
void loop_run(struct loop *loop, const struct update *updates, size_t len)
{
    ASSERT(loop->round < UINT32_MAX);
    loop->round++;
    if (loop->bfs != NULL) {
        bfs_run(loop->bfs, updates, len, &loop->outcome);
        return;
    }
    if (loop->kind == WORKLOAD_JOIN) {
        run_join(loop, updates, len);
        return;
    }
    if (loop->touched_cap < len) {
        loop->touched_cap = len;
        loop->touched = mem_realloc(loop->touched, len * sizeof(*loop->touched));
    }
    run_counts(loop, updates, len);
}

struct outcome loop_outcome(const struct loop *loop)
{
    return loop->outcome;
}

/* What the tables take, in bytes, used or not. */
uint64_t loop_memory(const struct loop *loop)
{
    ASSERT(loop->slots_cap >= loop->slots_len);
    if (loop->bfs != NULL) {
        return bfs_memory(loop->bfs);
    }
    return loop->slots_cap * sizeof(*loop->slots) + loop->touched_cap * sizeof(*loop->touched) +
           loop->rows_cap * sizeof(*loop->rows) + loop->tallies_len * sizeof(*loop->tallies);
}
