/* See queries.h. generated/nexmark_sql.h is made of sql/ by CMake: a string a file. */
#include "bench/nexmark/queries.h"

#include "generated/nexmark_sql.h"

const char *const nexmark_tables[NEXMARK_TABLES] = {
    [NEXMARK_TABLE_PERSON] =
        "CREATE TABLE person (id bigint, name text, email_address text, credit_card text, "
        "city text, state text, date_time timestamp, extra text)",
    [NEXMARK_TABLE_AUCTION] =
        "CREATE TABLE auction (id bigint, item_name text, description text, initial_bid bigint, "
        "reserve bigint, date_time timestamp, expires timestamp, seller bigint, category bigint, "
        "extra text)",
    [NEXMARK_TABLE_BID] =
        "CREATE TABLE bid (auction bigint, bidder bigint, price bigint, channel text, url text, "
        "date_time timestamp, extra text)",
    [NEXMARK_TABLE_SIDE_INPUT] = "CREATE TABLE side_input (key bigint, value text)",
};

const struct nexmark_query nexmark_queries[] = {
    {"q0", nexmark_sql_q0, 92000, 920000},
    {"q1", nexmark_sql_q1, 92000, 920000},
    {"q2", nexmark_sql_q2, 366, 6852},
    {"q3", nexmark_sql_q3, 676, 6197},
    {"q4", nexmark_sql_q4, 5, 5},
    {"q5", nexmark_sql_q5, 14, 63},
    {"q6", nexmark_sql_q6, 5608, 55999},
    {"q7", nexmark_sql_q7, 2, 11},
    {"q8", nexmark_sql_q8, 923, 8483},
    {"q9", nexmark_sql_q9, 5608, 55999},
    {"q11", nexmark_sql_q11, 1917, 19914},
    {"q13", nexmark_sql_q13, 92000, 920000},
    {"q14", nexmark_sql_q14, 26060, 261257},
    {"q15", nexmark_sql_q15, 1, 1},
    {"q16", nexmark_sql_q16, 9892, 10004},
    {"q17", nexmark_sql_q17, 6000, 59972},
    {"q18", nexmark_sql_q18, 28380, 292586},
    {"q19", nexmark_sql_q19, 43964, 441389},
    {"q20", nexmark_sql_q20, 15016, 171425},
    {"q21", nexmark_sql_q21, 87856, 877335},
    {"q22", nexmark_sql_q22, 92000, 920000},
    {"q23", nexmark_sql_q23, 169951, 1247304},
};

const size_t nexmark_queries_len = sizeof(nexmark_queries) / sizeof(nexmark_queries[0]);
