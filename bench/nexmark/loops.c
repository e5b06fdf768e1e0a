/*
 * Hand-written loops. See loops.h.
 *
 * Left out on purpose, as a programmer with one query to serve would: types, an error path,
 * retractions of events, other workers, history, and readers that come later. Not left out: the
 * answer's changes, each as the row that goes and the row that comes, with their strings.
 */
#include "bench/nexmark/loops.h"

#include "core/base/hash.h"
#include "core/base/mem.h"

#include <string.h>
#include <time.h>

/* Columns, in the order of nexmark_tables. */
enum { PERSON_ID, PERSON_NAME, PERSON_CITY = 4, PERSON_STATE };
enum { AUCTION_ID, AUCTION_TIME = 5, AUCTION_EXPIRES, AUCTION_SELLER, AUCTION_CATEGORY };
enum { BID_AUCTION, BID_PRICE = 2, BID_TIME = 5 };

enum { Q3_CATEGORY = 10, Q4_CATEGORIES = 64 };
#define DAY_US 86400000000

/* ---- a table of states by key ---------------------------------------------------------------- */

/* Linear probing, at most 70 % full; states lie in the slots. Keys are not 0 and never removed. */
struct table {
    uint8_t *slots; /* each a key and the state behind it */
    size_t slot_bytes;
    size_t cap; /* a power of two */
    size_t len;
};

static void table_init(struct table *table, size_t slot_bytes)
{
    ASSERT(slot_bytes >= sizeof(uint64_t) && slot_bytes % sizeof(uint64_t) == 0);
    *table = (struct table){.slot_bytes = slot_bytes, .cap = 1024};
    table->slots = mem_zalloc(table->cap * slot_bytes);
}

/* The key's slot, or the empty one where it belongs. */
static inline __attribute__((always_inline)) void *table_find(const struct table *table,
                                                              uint64_t key, size_t slot_bytes)
{
    size_t mask = table->cap - 1;
    for (size_t at = hash_u64(key) & mask;; at = (at + 1) & mask) {
        uint64_t *slot = (uint64_t *)(table->slots + at * slot_bytes);
        if (*slot == key || *slot == 0) {
            return slot;
        }
    }
}

/* Doubles. Slots move: pointers into the table are not valid after it. */
static void table_grow(struct table *table)
{
    struct table old = *table;
    ASSERT((old.cap & (old.cap - 1)) == 0);
    table->cap *= 2;
    table->slots = mem_zalloc(table->cap * table->slot_bytes);
    for (size_t i = 0; i < old.cap; i++) {
        const uint64_t *slot = (const uint64_t *)(old.slots + i * old.slot_bytes);
        if (*slot != 0) {
            memcpy(table_find(table, *slot, table->slot_bytes), slot, table->slot_bytes);
        }
    }
    free(old.slots);
}

/* May move every slot. */
static inline __attribute__((always_inline)) void *table_add(struct table *table, uint64_t key,
                                                             size_t slot_bytes)
{
    ASSERT(key != 0);
    if ((table->len + 1) * 10 > table->cap * 7) {
        table_grow(table);
    }
    uint64_t *slot = table_find(table, key, slot_bytes);
    if (*slot == 0) {
        *slot = key;
        table->len++;
    }
    return slot;
}

/* ---- what all loops share -------------------------------------------------------------------- */

struct loop_ops;

/* What waits for a person or an auction to come: stream's ids run ahead a little. */
struct waiting {
    int64_t id, price, time;
    uint32_t next; /* 0: the last */
};

struct category {
    int64_t sum, count;
    int64_t old_sum, old_count; /* before the round */
};

struct nexmark_loop {
    const struct loop_ops *ops;
    struct nexmark_outcome outcome;
    struct table table;
    uint64_t text_hash; /* strings put out are read, into this */
    uint64_t round;     /* under way; from 1 */
    struct waiting *waiting; /* the first is unused */
    size_t waiting_len, waiting_cap;
    struct category categories[Q4_CATEGORIES];
    uint64_t *touched; /* Q17: keys of this round, each once */
    size_t touched_len, touched_cap;
};

struct loop_ops {
    const char *query;
    size_t slot_bytes;
    void (*run)(struct nexmark_loop *loop, const struct nexmark_batch *batches);
};

static inline const int64_t *ints(const struct nexmark_batch *batch, uint32_t col)
{
    return batch->cols[col].values;
}

static inline struct nexmark_text text_of(const struct nexmark_batch *batch, uint32_t col,
                                          uint32_t row)
{
    const struct batch_col *c = &batch->cols[col];
    return (struct nexmark_text){(const char *)c->bytes + c->offsets[row],
                                 c->offsets[row + 1] - c->offsets[row]};
}

/* A row comes (1) or goes (-1); ints: the sum of its bigint columns. */
static inline void put_out(struct nexmark_loop *loop, int64_t diff, int64_t ints)
{
    loop->outcome.updates++;
    loop->outcome.rows += diff;
    loop->outcome.ints += (uint64_t)(diff * ints);
}

static inline void put_text(struct nexmark_loop *loop, struct nexmark_text text)
{
    loop->text_hash += hash_bytes(text.data, text.len);
}

/* In front of the list that begins with *first. */
static void wait(struct nexmark_loop *loop, uint32_t *first, int64_t id, int64_t price,
                 int64_t time)
{
    struct waiting *waiting = VEC_PUSH(loop, waiting);
    *waiting = (struct waiting){.id = id, .price = price, .time = time, .next = *first};
    *first = (uint32_t)(loop->waiting_len - 1);
}

/* ---- Q3: who sells in a category, of three states -------------------------------------------- */

struct seller {
    uint64_t id;
    uint32_t waiting; /* auctions */
    bool known;
    struct nexmark_text name, city, state; /* in the rounds, which live longer */
};

/* A row of the answer: never taken back, since persons and auctions only come. */
static void q3_pair(struct nexmark_loop *loop, const struct seller *seller, int64_t auction)
{
    put_text(loop, seller->name);
    put_text(loop, seller->city);
    put_text(loop, seller->state);
    put_out(loop, 1, auction);
}

static bool q3_wanted(struct nexmark_text state)
{
    static const char *const states[] = {"or", "id", "ca"};
    for (int i = 0; i < 3; i++) {
        if (state.len == 2 && memcmp(state.data, states[i], 2) == 0) {
            return true;
        }
    }
    return false;
}

/* One who is wanted meets the auctions that came before him. */
static void q3_person(struct nexmark_loop *loop, const struct nexmark_batch *persons, uint32_t row)
{
    struct nexmark_text state = text_of(persons, PERSON_STATE, row);
    if (!q3_wanted(state)) {
        return;
    }
    uint64_t id = (uint64_t)ints(persons, PERSON_ID)[row];
    struct seller *seller = table_add(&loop->table, id, sizeof(*seller));
    ASSERT(!seller->known); /* ids are unique */
    seller->known = true;
    seller->name = text_of(persons, PERSON_NAME, row);
    seller->city = text_of(persons, PERSON_CITY, row);
    seller->state = state;
    for (uint32_t at = seller->waiting; at != 0; at = loop->waiting[at].next) {
        q3_pair(loop, seller, loop->waiting[at].id);
    }
}

static void q3_run(struct nexmark_loop *loop, const struct nexmark_batch *batches)
{
    const struct nexmark_batch *persons = &batches[NEXMARK_TABLE_PERSON];
    const struct nexmark_batch *auctions = &batches[NEXMARK_TABLE_AUCTION];
    for (uint32_t row = 0; row < persons->view.rows; row++) {
        q3_person(loop, persons, row);
    }
    for (uint32_t row = 0; row < auctions->view.rows; row++) {
        if (ints(auctions, AUCTION_CATEGORY)[row] != Q3_CATEGORY) {
            continue;
        }
        int64_t id = ints(auctions, AUCTION_ID)[row];
        uint64_t seller_id = (uint64_t)ints(auctions, AUCTION_SELLER)[row];
        struct seller *seller = table_add(&loop->table, seller_id, sizeof(*seller));
        if (seller->known) {
            q3_pair(loop, seller, id);
        } else {
            wait(loop, &seller->waiting, id, 0, 0);
        }
    }
}

/* ---- Q4: the average closing price of each category ------------------------------------------ */

struct sale {
    uint64_t id;
    int64_t begins, expires; /* 0: the auction has not come yet */
    int64_t highest;         /* 0: no bid so far */
    uint32_t category;
    uint32_t waiting; /* bids */
};

/* Does it raise the auction's closing price? Then the category's sum moves by the difference. */
static inline void q4_bid(struct nexmark_loop *loop, struct sale *sale, int64_t price, int64_t time)
{
    if (time < sale->begins || time > sale->expires || price <= sale->highest) {
        return;
    }
    struct category *category = &loop->categories[sale->category];
    category->sum += price - sale->highest;
    category->count += sale->highest == 0;
    sale->highest = price;
}

static void q4_auctions(struct nexmark_loop *loop, const struct nexmark_batch *auctions)
{
    for (uint32_t row = 0; row < auctions->view.rows; row++) {
        uint64_t id = (uint64_t)ints(auctions, AUCTION_ID)[row];
        struct sale *sale = table_add(&loop->table, id, sizeof(*sale));
        sale->begins = ints(auctions, AUCTION_TIME)[row];
        sale->expires = ints(auctions, AUCTION_EXPIRES)[row];
        sale->category = (uint32_t)ints(auctions, AUCTION_CATEGORY)[row];
        ASSERT(sale->category < Q4_CATEGORIES && sale->expires > 0);
        for (uint32_t at = sale->waiting; at != 0; at = loop->waiting[at].next) {
            q4_bid(loop, sale, loop->waiting[at].price, loop->waiting[at].time);
        }
    }
}

/* The average as two integers: the reader divides. */
static void q4_changes(struct nexmark_loop *loop)
{
    for (uint32_t c = 0; c < Q4_CATEGORIES; c++) {
        struct category *category = &loop->categories[c];
        if (category->sum == category->old_sum && category->count == category->old_count) {
            continue;
        }
        if (category->old_count > 0) {
            put_out(loop, -1, c);
        }
        put_out(loop, 1, c);
        category->old_sum = category->sum;
        category->old_count = category->count;
    }
}

static void q4_run(struct nexmark_loop *loop, const struct nexmark_batch *batches)
{
    const struct nexmark_batch *bids = &batches[NEXMARK_TABLE_BID];
    const int64_t *auctions = ints(bids, BID_AUCTION), *prices = ints(bids, BID_PRICE);
    const int64_t *times = ints(bids, BID_TIME);
    q4_auctions(loop, &batches[NEXMARK_TABLE_AUCTION]);
    for (uint32_t row = 0; row < bids->view.rows; row++) {
        struct sale *sale = table_add(&loop->table, (uint64_t)auctions[row], sizeof(*sale));
        if (sale->expires != 0) {
            q4_bid(loop, sale, prices[row], times[row]);
        } else {
            wait(loop, &sale->waiting, 0, prices[row], times[row]);
        }
    }
    q4_changes(loop);
}

/* ---- Q17: statistics of each auction and day ------------------------------------------------- */

struct statistics {
    int64_t bids, ranks[3], least, most, sum;
};

struct daily {
    uint64_t key; /* auction and day */
    uint64_t round;
    struct statistics now, before; /* before the round */
};

/* Auctions have fewer than 44 bits. */
static inline uint64_t q17_key(int64_t auction, int64_t time)
{
    return (uint64_t)auction << 20 | (uint64_t)(time / DAY_US);
}

/* The first bid of a round keeps what was before it, for the row that goes. */
static inline void q17_bid(struct nexmark_loop *loop, uint64_t key, int64_t price)
{
    struct daily *daily = table_add(&loop->table, key, sizeof(*daily));
    if (daily->round != loop->round) {
        daily->round = loop->round;
        daily->before = daily->now;
        *VEC_PUSH(loop, touched) = key;
    }
    struct statistics *now = &daily->now;
    ASSERT(price > 0);
    now->least = now->bids == 0 || price < now->least ? price : now->least;
    now->most = price > now->most ? price : now->most;
    now->ranks[price < 10000 ? 0 : price < 1000000 ? 1 : 2]++;
    now->sum += price;
    now->bids++;
}

/* "1970-01-01": the string is part of the row. */
static void q17_day(struct nexmark_loop *loop, uint64_t key)
{
    char day[32];
    time_t seconds = (time_t)(key & ((1 << 20) - 1)) * 86400;
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t len = strftime(day, sizeof(day), "%Y-%m-%d", &tm);
    put_text(loop, (struct nexmark_text){day, (uint32_t)len});
}

/* Average and sum are numeric in SQL: not among the integers compared. */
static void q17_row(struct nexmark_loop *loop, int64_t diff, uint64_t key,
                    const struct statistics *s)
{
    q17_day(loop, key);
    put_out(loop, diff, (int64_t)(key >> 20) + s->bids + s->ranks[0] + s->ranks[1] + s->ranks[2] +
                            s->least + s->most);
}

static void q17_run(struct nexmark_loop *loop, const struct nexmark_batch *batches)
{
    const struct nexmark_batch *bids = &batches[NEXMARK_TABLE_BID];
    const int64_t *auctions = ints(bids, BID_AUCTION), *prices = ints(bids, BID_PRICE);
    const int64_t *times = ints(bids, BID_TIME);
    loop->touched_len = 0;
    for (uint32_t row = 0; row < bids->view.rows; row++) {
        q17_bid(loop, q17_key(auctions[row], times[row]), prices[row]);
    }
    for (size_t i = 0; i < loop->touched_len; i++) {
        const struct daily *daily = table_find(&loop->table, loop->touched[i], sizeof(*daily));
        if (daily->before.bids > 0) {
            q17_row(loop, -1, daily->key, &daily->before);
        }
        q17_row(loop, 1, daily->key, &daily->now);
    }
}

/* ---- the interface --------------------------------------------------------------------------- */

static const struct loop_ops loops[] = {
    {"q3", sizeof(struct seller), q3_run},
    {"q4", sizeof(struct sale), q4_run},
    {"q17", sizeof(struct daily), q17_run},
};

struct nexmark_loop *nexmark_loop_new(const char *query)
{
    for (size_t i = 0; i < sizeof(loops) / sizeof(loops[0]); i++) {
        if (strcmp(loops[i].query, query) == 0) {
            struct nexmark_loop *loop = MEM_NEW(struct nexmark_loop);
            loop->ops = &loops[i];
            table_init(&loop->table, loops[i].slot_bytes);
            VEC_PUSH(loop, waiting);
            return loop;
        }
    }
    return NULL;
}

void nexmark_loop_free(struct nexmark_loop *loop)
{
    free(loop->table.slots);
    free(loop->waiting);
    free(loop->touched);
    free(loop);
}

void nexmark_loop_run(struct nexmark_loop *loop, const struct nexmark_rounds *rounds, size_t round)
{
    ASSERT(round < rounds->len && loop->round == round);
    loop->round++;
    loop->ops->run(loop, rounds->batches[round]);
    /* So that no compiler leaves the reading of strings out. */
    __asm__ volatile("" : : "r"(loop->text_hash) : "memory");
}

struct nexmark_outcome nexmark_loop_outcome(const struct nexmark_loop *loop)
{
    return loop->outcome;
}
