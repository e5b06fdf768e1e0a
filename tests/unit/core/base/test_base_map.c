/* Hash maps against a model: an array that is searched from the front. */
#include "core/base/hash.h"
#include "core/base/map.h"
#include "core/base/mem.h"
#include "tests/unit/harness.h"

#include <stdio.h>
#include <string.h>

enum { KEYS = 300, STEPS = 60000 };

static uint64_t state;

static uint64_t next(void)
{
    state += 0x9E3779B97F4A7C15ULL;
    return hash_u64(state);
}

static int values[STEPS + 1];

/* Keys that share their home slot, so that runs and their repair are long. */
static void keys_make(uint64_t *keys, bool colliding)
{
    size_t len = 0;
    for (uint64_t key = 0; len < KEYS; key++) {
        if (!colliding || (hash_u64(key) & 63) < 2) {
            keys[len++] = key;
        }
    }
}

static void u64map_check(const struct u64map *map, const uint64_t *keys, void **model)
{
    size_t len = 0;
    for (size_t i = 0; i < KEYS; i++) {
        CU_ASSERT(u64map_get(map, keys[i]) == model[i]);
        len += model[i] != NULL ? 1 : 0;
    }
    CU_ASSERT(map->len == len);
    size_t at = 0;
    size_t seen = 0;
    uint64_t key;
    void *value;
    while (u64map_next(map, &at, &key, &value)) {
        CU_ASSERT(u64map_get(map, key) == value);
        seen++;
    }
    CU_ASSERT(seen == len);
}

static void u64map_random(bool colliding)
{
    uint64_t keys[KEYS];
    void *model[KEYS] = {0};
    struct u64map map = {0};
    keys_make(keys, colliding);
    CU_ASSERT(u64map_get(&map, 1) == NULL && u64map_remove(&map, 1) == NULL);
    for (int step = 0; step < STEPS; step++) {
        size_t i = next() % KEYS;
        bool growing = step / 5000 % 2 == 0;
        if (next() % 10 < (growing ? 7 : 3)) {
            CU_ASSERT(u64map_put(&map, keys[i], &values[step]) == model[i]);
            model[i] = &values[step];
        } else {
            CU_ASSERT(u64map_remove(&map, keys[i]) == model[i]);
            model[i] = NULL;
        }
        if (step % 500 == 0) {
            u64map_check(&map, keys, model);
        }
    }
    u64map_check(&map, keys, model);
    u64map_free(&map);
    CU_ASSERT(map.len == 0 && u64map_get(&map, keys[0]) == NULL);
}

static void u64map_spread(void)
{
    u64map_random(false);
}

static void u64map_colliding(void)
{
    u64map_random(true);
}

/* The empty string is a key too. */
static void key_make(char key[32], size_t i)
{
    key[0] = '\0';
    if (i > 0) {
        snprintf(key, 32, "key-%zu", i);
    }
}

static void strmap_random(void)
{
    void *model[KEYS] = {0};
    struct strmap map = {0};
    char key[32];
    CU_ASSERT(strmap_get(&map, "") == NULL && strmap_remove(&map, "") == NULL);
    for (int step = 0; step < STEPS; step++) {
        size_t i = next() % KEYS;
        key_make(key, i); /* copied by the map */
        if (next() % 10 < (step / 5000 % 2 == 0 ? 7 : 3)) {
            CU_ASSERT(strmap_put(&map, key, &values[step]) == model[i]);
            model[i] = &values[step];
        } else {
            CU_ASSERT(strmap_remove(&map, key) == model[i]);
            model[i] = NULL;
        }
    }
    size_t at = 0;
    size_t seen = 0;
    const char *name;
    void *value;
    while (strmap_next(&map, &at, &name, &value)) {
        CU_ASSERT(strmap_get(&map, name) == value);
        seen++;
    }
    size_t len = 0;
    for (size_t i = 0; i < KEYS; i++) {
        key_make(key, i);
        CU_ASSERT(strmap_get(&map, key) == model[i]);
        len += model[i] != NULL ? 1 : 0;
    }
    CU_ASSERT(seen == len && map.len == len);
    strmap_free(&map);
}

static void same_order(void)
{
    uint64_t order[2][KEYS];
    for (int run = 0; run < 2; run++) {
        struct u64map map = {0};
        for (uint64_t i = 0; i < KEYS; i++) {
            u64map_put(&map, i * 31, mem_alloc(run == 0 ? 16 : 48)); /* other addresses */
        }
        size_t at = 0;
        size_t n = 0;
        void *value;
        while (u64map_next(&map, &at, &order[run][n], &value)) {
            free(value);
            n++;
        }
        CU_ASSERT(n == KEYS);
        u64map_free(&map);
    }
    CU_ASSERT(memcmp(order[0], order[1], sizeof(order[0])) == 0);
}

static const struct test_case cases[] = {
    {"u64map, random keys", u64map_spread},
    {"u64map, colliding keys", u64map_colliding},
    {"strmap", strmap_random},
    {"iteration order does not depend on addresses", same_order},
};
TEST_SUITE("core/base/map", cases)
