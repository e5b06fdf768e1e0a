/*
 * What is in each event of the Nexmark stream. See stream.h.
 *
 * Everything is drawn from one generator seeded with the event's number, so the order of draws is
 * part of the format: fields are drawn in the order they stand here.
 */
#include "bench/nexmark/stream.h"

#include "bench/nexmark/random.h"
#include "core/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    BIDS_FROM = NEXMARK_PERSONS + NEXMARK_AUCTIONS, /* place of the first bid in a period */
    FIRST_ID = 1000,                                /* of persons and of auctions */
    FIRST_CATEGORY = 10,
    CATEGORIES = 5,
    ID_LEAD = 10,         /* ids that do not exist yet are referred to now and then */
    ACTIVE_PERSONS = 1000,
    AUCTIONS_IN_FLIGHT = 100,
    HOT_GROUP = 100,      /* of so many ids one is hot: */
    HOT_AUCTION = 2,      /* all but one of so many references go to it */
    HOT_SELLER = 4,
    HOT_BIDDER = 4,
    HOT_CHANNEL = 2,
    HOT_CHANNELS = 4,
    CHANNELS = 10000,
    URL_MAX = 128,
    PERSON_BYTES = 200,   /* average sizes of whole events: extra fills up to them */
    AUCTION_BYTES = 500,
    BID_BYTES = 100,
    DEFAULT_INTERVAL_US = 100,
    /* Events in which as many auctions begin as are under way at a time: how far an auction's end
     * lies ahead. */
    FLIGHT_EVENTS = AUCTIONS_IN_FLIGHT * NEXMARK_PERIOD / NEXMARK_AUCTIONS,
};

struct channel {
    char name[16];
    char url[URL_MAX];
    uint32_t name_len;
    uint32_t url_len;
};

struct nexmark {
    struct nexmark_config config;
    struct channel hot[HOT_CHANNELS];
    struct channel cold[CHANNELS];
};

static const char *const first_names[] = {"peter", "paul", "luke", "john", "saul", "vicky",
                                          "kate", "julie", "sarah", "deiter", "walter"};
static const char *const last_names[] = {"shultz", "abrams", "spencer", "white", "bartels",
                                         "walton", "smith", "jones", "noris"};
static const char *const cities[] = {"phoenix", "los angeles", "san francisco", "boise", "portland",
                                     "bend", "redmond", "seattle", "kent", "cheyenne"};
static const char *const states[] = {"az", "ca", "id", "or", "wa", "wy"};
static const char *const hot_names[HOT_CHANNELS] = {"Google", "Facebook", "Baidu", "Apple"};

#define COUNT(array) ((uint32_t)(sizeof(array) / sizeof((array)[0])))

/* ---- strings --------------------------------------------------------------------------------- */

/* Where an event's next string goes. */
struct writer {
    char *at;
    const char *end;
};

/* A copy among the event's strings. */
static struct nexmark_text put(struct writer *writer, const char *data, size_t len)
{
    ASSERT(len <= (size_t)(writer->end - writer->at));
    struct nexmark_text text = {.data = writer->at, .len = (uint32_t)len};
    memcpy(writer->at, data, len);
    writer->at += len;
    return text;
}

/* Text from begin to where the writer is now. */
static struct nexmark_text since(const struct writer *writer, const char *begin)
{
    ASSERT(begin <= writer->at);
    return (struct nexmark_text){.data = begin, .len = (uint32_t)(writer->at - begin)};
}

static struct nexmark_text put_letters(struct writer *writer, struct nexmark_random *random,
                                       uint64_t len)
{
    ASSERT(len <= (uint64_t)(writer->end - writer->at));
    char *begin = writer->at;
    for (uint64_t i = 0; i < len; i++) {
        *writer->at++ = nexmark_letter(random);
    }
    return since(writer, begin);
}

static const char *pick(struct nexmark_random *random, const char *const *from, uint32_t len)
{
    return from[nexmark_below32(random, len)];
}

/* Letters that bring an event of `bytes` to about `wanted`, give or take a fifth of what is
 * missing. */
static struct nexmark_text put_extra(struct writer *writer, struct nexmark_random *random,
                                     uint32_t bytes, uint32_t wanted)
{
    if (bytes > wanted) {
        return since(writer, writer->at);
    }
    uint32_t missing = wanted - bytes;
    uint32_t spread = (missing + 2) / 5;
    uint64_t len = missing - spread;
    if (spread > 0) {
        len += nexmark_below64(random, 2 * (uint64_t)spread);
    }
    return put_letters(writer, random, len);
}

/* ---- channels -------------------------------------------------------------------------------- */

/* Three or four letters, one in thirteen of them a line below. */
static size_t put_word(struct nexmark_random *random, char *to)
{
    size_t len = 3 + nexmark_below64(random, 2);
    for (size_t i = 0; i < len; i++) {
        to[i] = nexmark_below32(random, 13) == 0 ? '_' : nexmark_letter(random);
    }
    to[len] = '\0';
    return len;
}

/* Three words by a generator of their own, seeded with the channel's index. */
static void channel_url(struct channel *channel, uint64_t seed)
{
    struct nexmark_random random;
    char words[3][8];
    nexmark_random_seed(&random, seed);
    for (int i = 0; i < 3; i++) {
        size_t len = put_word(&random, words[i]);
        ASSERT(len < sizeof(words[i]));
    }
    int len = snprintf(channel->url, sizeof(channel->url),
                       "https://www.nexmark.com/%s/%s/%s/item.htm?query=1", words[0], words[1],
                       words[2]);
    ASSERT(len > 0 && (size_t)len < sizeof(channel->url));
    channel->url_len = (uint32_t)len;
}

static uint32_t reversed_bits(uint32_t x)
{
    uint32_t out = 0;
    for (int i = 0; i < 32; i++) {
        out |= (x >> i & 1) << (31 - i);
    }
    return out;
}

/* Nine in ten URLs name the channel by a number, for queries that look for it. */
static void channel_id(struct channel *channel, uint32_t index)
{
    struct nexmark_random random;
    nexmark_random_seed(&random, index);
    if (nexmark_below32(&random, 10) == 0) {
        return;
    }
    int64_t id = (int32_t)reversed_bits(index);
    int len = snprintf(channel->url + channel->url_len, sizeof(channel->url) - channel->url_len,
                       "&channel_id=%lld", (long long)(id < 0 ? -id : id));
    ASSERT(len > 0 && (size_t)len < sizeof(channel->url) - channel->url_len);
    channel->url_len += (uint32_t)len;
}

static void channel_name(struct channel *channel, const char *name)
{
    int len = snprintf(channel->name, sizeof(channel->name), "%s", name);
    ASSERT(len > 0 && (size_t)len < sizeof(channel->name));
    channel->name_len = (uint32_t)len;
}

struct nexmark *nexmark_new(const struct nexmark_config *config)
{
    struct nexmark *nexmark = mem_zalloc(sizeof(*nexmark));
    nexmark->config = *config;
    if (nexmark->config.interval_us == 0) {
        nexmark->config.interval_us = DEFAULT_INTERVAL_US;
    }
    for (uint32_t i = 0; i < HOT_CHANNELS; i++) {
        channel_name(&nexmark->hot[i], hot_names[i]);
        channel_url(&nexmark->hot[i], i);
    }
    for (uint32_t i = 0; i < CHANNELS; i++) {
        char name[sizeof(nexmark->cold[i].name)];
        snprintf(name, sizeof(name), "channel-%u", i);
        channel_name(&nexmark->cold[i], name);
        channel_url(&nexmark->cold[i], i);
        channel_id(&nexmark->cold[i], i);
    }
    return nexmark;
}

void nexmark_free(struct nexmark *nexmark)
{
    free(nexmark);
}

/* ---- numbers and times ----------------------------------------------------------------------- */

enum nexmark_kind nexmark_kind_of(uint64_t number)
{
    uint64_t place = number % NEXMARK_PERIOD;
    return place < NEXMARK_PERSONS ? NEXMARK_PERSON
           : place < BIDS_FROM     ? NEXMARK_AUCTION
                                   : NEXMARK_BID;
}

/* Milliseconds after the base. */
static uint64_t time_of(const struct nexmark *nexmark, uint64_t number)
{
    uint32_t interval_us = nexmark->config.interval_us;
    if (nexmark->config.wide_times) {
        return (number * interval_us + 500) / 1000;
    }
    return (uint64_t)roundf((float)number * (float)interval_us / 1000.0f);
}

/* Index of the youngest person when this event happens. */
static uint64_t last_person(uint64_t number)
{
    return number / NEXMARK_PERIOD;
}

/* The same of auctions. Before the first there is none: callers do not ask then. */
static uint64_t last_auction(uint64_t number)
{
    uint64_t period = number / NEXMARK_PERIOD;
    uint64_t place = number % NEXMARK_PERIOD;
    ASSERT(place >= NEXMARK_PERSONS);
    uint64_t last = place < BIDS_FROM ? place - NEXMARK_PERSONS : NEXMARK_AUCTIONS - 1;
    return period * NEXMARK_AUCTIONS + last;
}

/* One of the persons that were active lately, or will be soon. */
static uint64_t some_person(struct nexmark_random *random, uint64_t number)
{
    uint64_t persons = last_person(number) + 1;
    uint64_t active = persons < ACTIVE_PERSONS ? persons : ACTIVE_PERSONS;
    return persons - active + nexmark_below64(random, active + ID_LEAD);
}

static uint64_t some_auction(struct nexmark_random *random, uint64_t number)
{
    uint64_t last = last_auction(number);
    uint64_t first = last < AUCTIONS_IN_FLIGHT ? 0 : last - AUCTIONS_IN_FLIGHT;
    return first + nexmark_below64(random, last - first + 1 + ID_LEAD);
}

/* Cents, from one to a million dollars, evenly in magnitude. */
static uint64_t price(struct nexmark_random *random)
{
    return (uint64_t)roundf(powf(10.0f, nexmark_unit(random) * 6.0f) * 100.0f);
}

/* True for all but one of `of` draws. */
static bool is_hot(struct nexmark_random *random, uint64_t of)
{
    return nexmark_below64(random, of) > 0;
}

/* ---- events ---------------------------------------------------------------------------------- */

static struct nexmark_text put_name(struct writer *writer, struct nexmark_random *random)
{
    char *begin = writer->at;
    const char *first = pick(random, first_names, COUNT(first_names));
    const char *last = pick(random, last_names, COUNT(last_names));
    put(writer, first, strlen(first));
    put(writer, " ", 1);
    put(writer, last, strlen(last));
    return since(writer, begin);
}

static struct nexmark_text put_email(struct writer *writer, struct nexmark_random *random)
{
    char *begin = writer->at;
    put_letters(writer, random, 7);
    put(writer, "@", 1);
    put_letters(writer, random, 5);
    put(writer, ".com", 4);
    return since(writer, begin);
}

/* "0123 4567 8901 2345" */
static struct nexmark_text put_credit_card(struct writer *writer, struct nexmark_random *random)
{
    char *begin = writer->at;
    for (int i = 0; i < 4; i++) {
        char digits[16];
        int len = snprintf(digits, sizeof(digits), "%s%04u", i > 0 ? " " : "",
                           nexmark_below32(random, 10000));
        put(writer, digits, (size_t)len);
    }
    return since(writer, begin);
}

/* The size counts id and strings; ids, times and prices count as 8 bytes each in all of them. */
static void person(struct nexmark_random *random, struct writer *writer, uint64_t number,
                   struct nexmark_event *out)
{
    ASSERT(out->kind == NEXMARK_PERSON);
    out->person.id = last_person(number) + FIRST_ID;
    out->person.name = put_name(writer, random);
    out->person.email = put_email(writer, random);
    out->person.credit_card = put_credit_card(writer, random);
    const char *city = pick(random, cities, COUNT(cities));
    const char *state = pick(random, states, COUNT(states));
    out->person.city = put(writer, city, strlen(city));
    out->person.state = put(writer, state, strlen(state));
    uint32_t strings = (uint32_t)(writer->at - out->text);
    out->extra = put_extra(writer, random, 8 + strings, PERSON_BYTES);
}

static void auction(const struct nexmark *nexmark, struct nexmark_random *random,
                    struct writer *writer, uint64_t number, struct nexmark_event *out)
{
    ASSERT(out->kind == NEXMARK_AUCTION);
    out->auction.id = last_auction(number) + FIRST_ID;
    out->auction.item = put_letters(writer, random, 20);
    out->auction.description = put_letters(writer, random, 100);
    out->auction.initial_bid = price(random);
    out->auction.reserve = out->auction.initial_bid + price(random);
    uint64_t now = time_of(nexmark, number);
    uint64_t horizon = time_of(nexmark, number + FLIGHT_EVENTS) - now;
    uint64_t longest = horizon > 0 ? 2 * horizon : 1;
    out->auction.expires_ms = out->time_ms + 1 + nexmark_below64(random, longest);
    uint64_t seller = is_hot(random, HOT_SELLER) ? last_person(number) / HOT_GROUP * HOT_GROUP
                                                 : some_person(random, number);
    out->auction.seller = seller + FIRST_ID;
    out->auction.category = FIRST_CATEGORY + nexmark_below64(random, CATEGORIES);
    uint32_t strings = (uint32_t)(writer->at - out->text);
    out->extra = put_extra(writer, random, 8 + strings + 40, AUCTION_BYTES);
}

/* Half of all bids go to one of a hundred auctions, three in four come from one of a hundred
 * persons: what keeps an engine's hottest keys hot. */
static void bid(const struct nexmark *nexmark, struct nexmark_random *random,
                struct writer *writer, uint64_t number, struct nexmark_event *out)
{
    uint64_t on = is_hot(random, HOT_AUCTION) ? last_auction(number) / HOT_GROUP * HOT_GROUP
                                              : some_auction(random, number);
    uint64_t by = is_hot(random, HOT_BIDDER) ? last_person(number) / HOT_GROUP * HOT_GROUP + 1
                                             : some_person(random, number);
    out->bid.auction = on + FIRST_ID;
    out->bid.bidder = by + FIRST_ID;
    out->bid.price = price(random);
    const struct channel *channel = is_hot(random, HOT_CHANNEL)
                                        ? &nexmark->hot[nexmark_below64(random, HOT_CHANNELS)]
                                        : &nexmark->cold[nexmark_below32(random, CHANNELS)];
    out->bid.channel = (struct nexmark_text){channel->name, channel->name_len};
    out->bid.url = (struct nexmark_text){channel->url, channel->url_len};
    out->extra = put_extra(writer, random, 32, BID_BYTES); /* without its strings, in the crate */
}

void nexmark_event(const struct nexmark *nexmark, uint64_t number, struct nexmark_event *out)
{
    struct nexmark_random random;
    struct writer writer = {.at = out->text, .end = out->text + sizeof(out->text)};
    nexmark_random_seed(&random, number);
    out->kind = nexmark_kind_of(number);
    out->time_ms = nexmark->config.base_ms + time_of(nexmark, number);
    switch (out->kind) {
    case NEXMARK_PERSON: person(&random, &writer, number, out); return;
    case NEXMARK_AUCTION: auction(nexmark, &random, &writer, number, out); return;
    case NEXMARK_BID: bid(nexmark, &random, &writer, number, out); return;
    }
    UNREACHABLE();
}

/* ---- JSON ------------------------------------------------------------------------------------ */

/* Nothing here needs escaping: letters, digits, spaces and URLs. */
struct json {
    char *at;
    const char *end;
    bool first; /* the next member is the object's first */
};

static void json_raw(struct json *json, const char *data, size_t len)
{
    ASSERT(len <= (size_t)(json->end - json->at));
    memcpy(json->at, data, len);
    json->at += len;
}

static void json_key(struct json *json, const char *key)
{
    if (!json->first) {
        json_raw(json, ",", 1);
    }
    json_raw(json, "\"", 1);
    json_raw(json, key, strlen(key));
    json_raw(json, "\":", 2);
    json->first = false;
}

static void json_text(struct json *json, const char *key, struct nexmark_text text)
{
    json_key(json, key);
    json_raw(json, "\"", 1);
    json_raw(json, text.data, text.len);
    json_raw(json, "\"", 1);
}

static void json_number(struct json *json, const char *key, uint64_t number)
{
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)number);
    json_key(json, key);
    json_raw(json, digits, (size_t)len);
}

static void json_person(struct json *json, const struct nexmark_event *event)
{
    json_number(json, "id", event->person.id);
    json_text(json, "name", event->person.name);
    json_text(json, "email_address", event->person.email);
    json_text(json, "credit_card", event->person.credit_card);
    json_text(json, "city", event->person.city);
    json_text(json, "state", event->person.state);
    json_number(json, "date_time", event->time_ms);
}

static void json_auction(struct json *json, const struct nexmark_event *event)
{
    json_number(json, "id", event->auction.id);
    json_text(json, "item_name", event->auction.item);
    json_text(json, "description", event->auction.description);
    json_number(json, "initial_bid", event->auction.initial_bid);
    json_number(json, "reserve", event->auction.reserve);
    json_number(json, "date_time", event->time_ms);
    json_number(json, "expires", event->auction.expires_ms);
    json_number(json, "seller", event->auction.seller);
    json_number(json, "category", event->auction.category);
}

static void json_bid(struct json *json, const struct nexmark_event *event)
{
    json_number(json, "auction", event->bid.auction);
    json_number(json, "bidder", event->bid.bidder);
    json_number(json, "price", event->bid.price);
    json_text(json, "channel", event->bid.channel);
    json_text(json, "url", event->bid.url);
    json_number(json, "date_time", event->time_ms);
}

size_t nexmark_json(const struct nexmark_event *event, char *to)
{
    static const struct {
        const char *name;
        void (*members)(struct json *json, const struct nexmark_event *event);
    } kinds[] = {
        [NEXMARK_PERSON] = {"Person", json_person},
        [NEXMARK_AUCTION] = {"Auction", json_auction},
        [NEXMARK_BID] = {"Bid", json_bid},
    };
    struct json json = {.at = to, .end = to + NEXMARK_JSON_MAX, .first = true};
    ASSERT(event->kind < COUNT(kinds));
    json_raw(&json, "{", 1);
    json_key(&json, kinds[event->kind].name);
    json_raw(&json, "{", 1);
    json.first = true;
    kinds[event->kind].members(&json, event);
    json_text(&json, "extra", event->extra);
    json_raw(&json, "}}\n", 3);
    return (size_t)(json.at - to);
}
