/* Events into columns. See rounds.h. */
#include "bench/nexmark/rounds.h"

#include "core/base/mem.h"

#include <stdio.h>

/* Kinds of the columns, in the order of nexmark_tables. */
static const struct {
    uint32_t cols;
    uint8_t kinds[NEXMARK_COLS_MAX];
} shapes[NEXMARK_TABLES] = {
    [NEXMARK_TABLE_PERSON] = {8, {TYPE_INT8, TYPE_TEXT, TYPE_TEXT, TYPE_TEXT, TYPE_TEXT, TYPE_TEXT,
                                  TYPE_TIMESTAMP, TYPE_TEXT}},
    [NEXMARK_TABLE_AUCTION] = {10, {TYPE_INT8, TYPE_TEXT, TYPE_TEXT, TYPE_INT8, TYPE_INT8,
                                    TYPE_TIMESTAMP, TYPE_TIMESTAMP, TYPE_INT8, TYPE_INT8,
                                    TYPE_TEXT}},
    [NEXMARK_TABLE_BID] = {7, {TYPE_INT8, TYPE_INT8, TYPE_INT8, TYPE_TEXT, TYPE_TEXT,
                               TYPE_TIMESTAMP, TYPE_TEXT}},
    [NEXMARK_TABLE_SIDE_INPUT] = {2, {TYPE_INT8, TYPE_TEXT}},
};

/* A row being appended: values go to the columns in turn. */
struct row {
    struct batch_builder *builder;
    size_t col;
};

/* Ids and prices of the stream have fewer than 63 bits. */
static void number(struct row *row, uint64_t value)
{
    ASSERT(value <= INT64_MAX);
    struct datum d = {.i = (int64_t)value};
    batch_builder_datum(row->builder, row->col++, &d);
}

/* The builder copies it. */
static void text(struct row *row, struct nexmark_text value)
{
    ASSERT(value.len <= NEXMARK_TEXT_MAX);
    struct datum d = {.s = value.data, .len = value.len};
    batch_builder_datum(row->builder, row->col++, &d);
}

/* Event times are milliseconds, columns microseconds. */
static void timestamp(struct row *row, uint64_t ms)
{
    number(row, ms * 1000);
}

static void put_person(struct row *row, const struct nexmark_event *event)
{
    number(row, event->person.id);
    text(row, event->person.name);
    text(row, event->person.email);
    text(row, event->person.credit_card);
    text(row, event->person.city);
    text(row, event->person.state);
    timestamp(row, event->time_ms);
    text(row, event->extra);
}

static void put_auction(struct row *row, const struct nexmark_event *event)
{
    number(row, event->auction.id);
    text(row, event->auction.item);
    text(row, event->auction.description);
    number(row, event->auction.initial_bid);
    number(row, event->auction.reserve);
    timestamp(row, event->time_ms);
    timestamp(row, event->auction.expires_ms);
    number(row, event->auction.seller);
    number(row, event->auction.category);
    text(row, event->extra);
}

static void put_bid(struct row *row, const struct nexmark_event *event)
{
    number(row, event->bid.auction);
    number(row, event->bid.bidder);
    number(row, event->bid.price);
    text(row, event->bid.channel);
    text(row, event->bid.url);
    timestamp(row, event->time_ms);
    text(row, event->extra);
}

/* A row of the table its kind belongs to; each put_ function has one value for each column. */
static void put_event(struct batch_builder *const *builders, const struct nexmark_event *event,
                      uint64_t time)
{
    static const struct {
        enum nexmark_table table;
        void (*put)(struct row *row, const struct nexmark_event *event);
    } kinds[] = {
        [NEXMARK_PERSON] = {NEXMARK_TABLE_PERSON, put_person},
        [NEXMARK_AUCTION] = {NEXMARK_TABLE_AUCTION, put_auction},
        [NEXMARK_BID] = {NEXMARK_TABLE_BID, put_bid},
    };
    struct row row = {.builder = builders[kinds[event->kind].table]};
    kinds[event->kind].put(&row, event);
    ASSERT(row.col == shapes[kinds[event->kind].table].cols);
    batch_builder_end_row(row.builder, time, 1);
}

/* Q13's table, whole, at time 0. */
static void put_side_input(struct batch_builder *builder)
{
    ASSERT(batch_builder_rows(builder) == 0);
    for (uint64_t key = 0; key < NEXMARK_SIDE_ROWS; key++) {
        char value[24];
        int len = snprintf(value, sizeof(value), "side_%llu", (unsigned long long)key);
        struct row row = {.builder = builder};
        number(&row, key);
        text(&row, (struct nexmark_text){value, (uint32_t)len});
        batch_builder_end_row(builder, 0, 1);
    }
}

/* What was built becomes a batch; the builder is empty again. */
static void finish(struct batch_builder *builder, struct nexmark_batch *out)
{
    size_t size;
    if (batch_builder_rows(builder) == 0) {
        return;
    }
    out->data = batch_builder_finish_new(builder, &size);
    batch_view(out->data, size, out->cols, NEXMARK_COLS_MAX, &out->view);
    ASSERT(out->view.rows == batch_builder_rows(builder));
    batch_builder_reset(builder);
}

struct nexmark_rounds *nexmark_rounds_new(const struct nexmark *nexmark, uint64_t events,
                                          uint64_t per_round)
{
    struct nexmark_rounds *rounds = MEM_NEW(struct nexmark_rounds);
    struct batch_builder *builders[NEXMARK_TABLES];
    struct nexmark_event event;
    ASSERT(events > 0 && per_round > 0);
    rounds->events = events;
    rounds->per_round = per_round;
    rounds->len = (events + per_round - 1) / per_round;
    rounds->batches = mem_zalloc(rounds->len * sizeof(rounds->batches[0]));
    for (uint32_t t = 0; t < NEXMARK_TABLES; t++) {
        builders[t] = batch_builder_new(shapes[t].kinds, shapes[t].cols);
    }
    put_side_input(builders[NEXMARK_TABLE_SIDE_INPUT]);
    for (size_t round = 0; round < rounds->len; round++) {
        for (uint64_t n = round * per_round; n < (round + 1) * per_round && n < events; n++) {
            nexmark_event(nexmark, n, &event);
            put_event(builders, &event, round);
        }
        for (uint32_t t = 0; t < NEXMARK_TABLES; t++) {
            finish(builders[t], &rounds->batches[round][t]);
        }
    }
    for (uint32_t t = 0; t < NEXMARK_TABLES; t++) {
        batch_builder_free(builders[t]);
    }
    return rounds;
}

void nexmark_rounds_free(struct nexmark_rounds *rounds)
{
    for (size_t round = 0; round < rounds->len; round++) {
        for (uint32_t t = 0; t < NEXMARK_TABLES; t++) {
            free(rounds->batches[round][t].data);
        }
    }
    free(rounds->batches);
    free(rounds);
}
