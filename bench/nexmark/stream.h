/*
 * The Nexmark stream: persons, auctions and bids of an online auction house, as the Rust crate
 * `nexmark` 0.2 makes it, byte for byte.
 *
 * An event is a pure function of its number and the configuration, since the generator is seeded
 * with the number. So a stream is random access: any number of threads may make any parts of it in
 * any order, and a retraction needs no memory of what was inserted. Of 50 events in a row the first
 * is a person, three are auctions, the rest are bids.
 *
 * Sources: P. Tucker et al., NEXMark: a benchmark for queries over data streams (2008); the random
 * numbers are xoshiro256++ (Blackman and Vigna, 2019) seeded through PCG32 (O'Neill, 2014), ranges
 * by Lemire's multiplication (2019).
 *
 * Threads: a struct nexmark is read only once it is made; share it.
 */
#ifndef TAILRACE_BENCH_NEXMARK_STREAM_H
#define TAILRACE_BENCH_NEXMARK_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum nexmark_kind { NEXMARK_PERSON, NEXMARK_AUCTION, NEXMARK_BID };

enum {
    NEXMARK_PERIOD = 50,      /* events until kinds repeat: */
    NEXMARK_PERSONS = 1,      /* so many persons first, */
    NEXMARK_AUCTIONS = 3,     /* then auctions, then bids */
    NEXMARK_TEXT_MAX = 1024,  /* bytes of an event's strings together, at most */
    NEXMARK_JSON_MAX = 2048,  /* bytes of an event as JSON with its newline, at most */
};

struct nexmark_config {
    uint64_t base_ms;     /* time of event 0, milliseconds since the epoch */
    uint32_t interval_us; /* from one event to the next; 0: 100, which is 10,000 a second */
    /* Event times in 64 bits. False: in single precision, as the crate does, where above 2^24
     * events neighbours share times; needed for the crate's bytes. */
    bool wide_times;
};

/* Not terminated. */
struct nexmark_text {
    const char *data;
    uint32_t len;
};

/* Money is in cents, times are in milliseconds since the epoch. */
struct nexmark_event {
    enum nexmark_kind kind;
    uint64_t time_ms;
    struct nexmark_text extra; /* filler, for a realistic size */
    union {
        struct {
            uint64_t id;
            struct nexmark_text name, email, credit_card, city, state;
        } person;
        struct {
            uint64_t id, initial_bid, reserve, expires_ms, seller, category;
            struct nexmark_text item, description;
        } auction;
        struct {
            uint64_t auction, bidder, price;
            struct nexmark_text channel, url;
        } bid;
    };
    char text[NEXMARK_TEXT_MAX]; /* what the texts point to, unless to the generator's tables */
};

struct nexmark;

/* Makes the tables of channels and their URLs, about 2 MB. */
struct nexmark *nexmark_new(const struct nexmark_config *config);
void nexmark_free(struct nexmark *nexmark);

enum nexmark_kind nexmark_kind_of(uint64_t number);
/* Event `number`. Texts point into out and nexmark: out must not be moved while they are used. */
void nexmark_event(const struct nexmark *nexmark, uint64_t number, struct nexmark_event *out);
/* As a line of JSON, as the crate's serde writes it; returns its length. `to` has room for
 * NEXMARK_JSON_MAX. */
size_t nexmark_json(const struct nexmark_event *event, char *to);

#endif
