/*
 * Hash maps: see map.h. The invariant behind linear probing: between a key's home slot and the slot
 * it is in, no slot is empty. So a search may stop at the first empty slot, and a removal must not
 * leave a hole in somebody's way: it shifts back what probed over it (Knuth 6.4, algorithm R),
 * which leaves no tombstones and needs no rehash however often keys come and go.
 */
#include "core/base/map.h"

#include "core/base/hash.h"
#include "core/base/mem.h"

enum { MAP_CAP_MIN = 16 };

/* Where the search for a key begins. */
static size_t u64map_home(const struct u64map *map, uint64_t key)
{
    ASSERT(map->cap > 0);
    return hash_u64(key) & (map->cap - 1);
}

/* Slots in their order, so that the new order too depends on nothing else. */
static void u64map_grow(struct u64map *map)
{
    struct u64map old = *map;
    map->cap = old.cap == 0 ? MAP_CAP_MIN : old.cap * 2;
    map->slots = mem_zalloc(map->cap * sizeof(map->slots[0]));
    map->len = 0;
    for (size_t i = 0; i < old.cap; i++) {
        if (old.slots[i].value != NULL) {
            u64map_put(map, old.slots[i].key, old.slots[i].value);
        }
    }
    ASSERT(map->len == old.len && (map->cap & (map->cap - 1)) == 0);
    free(old.slots);
}

/* Ends: the map is never full (see u64map_put), so there is an empty slot on every way. */
void *u64map_get(const struct u64map *map, uint64_t key)
{
    if (map->len == 0) {
        return NULL;
    }
    for (size_t i = u64map_home(map, key);; i = (i + 1) & (map->cap - 1)) {
        if (map->slots[i].value == NULL) {
            return NULL;
        }
        if (map->slots[i].key == key) {
            return map->slots[i].value;
        }
    }
}

/* Grows at three quarters: beyond that linear probing's runs become long. */
void *u64map_put(struct u64map *map, uint64_t key, void *value)
{
    ASSERT(value != NULL); /* NULL marks an empty slot */
    if ((map->len + 1) * 4 > map->cap * 3) {
        u64map_grow(map);
    }
    for (size_t i = u64map_home(map, key);; i = (i + 1) & (map->cap - 1)) {
        struct u64map_slot *slot = &map->slots[i];
        if (slot->value == NULL) {
            *slot = (struct u64map_slot){.key = key, .value = value};
            map->len++;
            return NULL;
        }
        if (slot->key == key) {
            void *old = slot->value;
            slot->value = value;
            return old;
        }
    }
}

/* Closes the hole at index i by shifting back the entries that probed over it. */
static void u64map_close(struct u64map *map, size_t i)
{
    ASSERT(i < map->cap && map->slots[i].value != NULL);
    size_t mask = map->cap - 1;
    for (size_t j = (i + 1) & mask; map->slots[j].value != NULL; j = (j + 1) & mask) {
        size_t home = u64map_home(map, map->slots[j].key);
        /* Its way from home to j leads over i: it must move, or it would not be found. */
        if (((j - home) & mask) >= ((j - i) & mask)) {
            map->slots[i] = map->slots[j];
            i = j;
        }
    }
    map->slots[i] = (struct u64map_slot){0};
}

/* Moves other entries: pointers into slots do not survive a removal, values do. */
void *u64map_remove(struct u64map *map, uint64_t key)
{
    if (map->len == 0) {
        return NULL;
    }
    for (size_t i = u64map_home(map, key);; i = (i + 1) & (map->cap - 1)) {
        if (map->slots[i].value == NULL) {
            return NULL;
        }
        if (map->slots[i].key == key) {
            void *value = map->slots[i].value;
            u64map_close(map, i);
            ASSERT(map->len > 0);
            map->len--;
            return value;
        }
    }
}

/* In slot order, which is the same for the same history of puts and removals. */
bool u64map_next(const struct u64map *map, size_t *at, uint64_t *key, void **value)
{
    ASSERT(*at <= map->cap); /* larger: the map was changed meanwhile */
    for (; *at < map->cap; (*at)++) {
        if (map->slots[*at].value != NULL) {
            *key = map->slots[*at].key;
            *value = map->slots[*at].value;
            (*at)++;
            return true;
        }
    }
    return false;
}

/* The values are the caller's. */
void u64map_free(struct u64map *map)
{
    free(map->slots);
    *map = (struct u64map){0};
}

/* The key is new and there is room. */
static void strmap_insert(struct strmap *map, struct strmap_slot entry)
{
    ASSERT(entry.key != NULL && map->len < map->cap);
    size_t i = entry.hash & (map->cap - 1);
    while (map->slots[i].key != NULL) {
        i = (i + 1) & (map->cap - 1);
    }
    map->slots[i] = entry;
    map->len++;
}

/* Keys move with their slots; hashes are kept, so no key is hashed twice. */
static void strmap_grow(struct strmap *map)
{
    struct strmap old = *map;
    map->cap = old.cap == 0 ? MAP_CAP_MIN : old.cap * 2;
    map->slots = mem_zalloc(map->cap * sizeof(map->slots[0]));
    map->len = 0;
    for (size_t i = 0; i < old.cap; i++) {
        if (old.slots[i].key != NULL) {
            strmap_insert(map, old.slots[i]);
        }
    }
    ASSERT(map->len == old.len);
    free(old.slots);
}

/* The slot that holds the key, or NULL. */
static struct strmap_slot *strmap_find(const struct strmap *map, const char *key, uint64_t hash)
{
    if (map->len == 0) {
        return NULL;
    }
    for (size_t i = hash & (map->cap - 1); map->slots[i].key != NULL;
         i = (i + 1) & (map->cap - 1)) {
        if (map->slots[i].hash == hash && strcmp(map->slots[i].key, key) == 0) {
            return &map->slots[i];
        }
    }
    return NULL;
}

void *strmap_get(const struct strmap *map, const char *key)
{
    struct strmap_slot *slot = strmap_find(map, key, hash_bytes(key, strlen(key)));
    return slot != NULL ? slot->value : NULL;
}

/* The key is copied when it is new; a known key keeps its first copy. */
void *strmap_put(struct strmap *map, const char *key, void *value)
{
    ASSERT(value != NULL);
    uint64_t hash = hash_bytes(key, strlen(key));
    struct strmap_slot *slot = strmap_find(map, key, hash);
    if (slot != NULL) {
        void *old = slot->value;
        slot->value = value;
        return old;
    }
    if ((map->len + 1) * 4 > map->cap * 3) {
        strmap_grow(map);
    }
    strmap_insert(map,
                  (struct strmap_slot){.key = mem_strdup(key), .hash = hash, .value = value});
    return NULL;
}

/* As u64map_close; the key at i is freed already. */
static void strmap_close(struct strmap *map, size_t i)
{
    ASSERT(i < map->cap && map->slots[i].key != NULL);
    size_t mask = map->cap - 1;
    for (size_t j = (i + 1) & mask; map->slots[j].key != NULL; j = (j + 1) & mask) {
        size_t home = map->slots[j].hash & mask;
        if (((j - home) & mask) >= ((j - i) & mask)) {
            map->slots[i] = map->slots[j];
            i = j;
        }
    }
    map->slots[i] = (struct strmap_slot){0};
}

/* key may be the map's own copy: it is not looked at after it was freed. */
void *strmap_remove(struct strmap *map, const char *key)
{
    struct strmap_slot *slot = strmap_find(map, key, hash_bytes(key, strlen(key)));
    if (slot == NULL) {
        return NULL;
    }
    void *value = slot->value;
    free(slot->key);
    strmap_close(map, (size_t)(slot - map->slots));
    ASSERT(map->len > 0);
    map->len--;
    return value;
}

bool strmap_next(const struct strmap *map, size_t *at, const char **key, void **value)
{
    ASSERT(*at <= map->cap);
    for (; *at < map->cap; (*at)++) {
        if (map->slots[*at].key != NULL) {
            *key = map->slots[*at].key;
            *value = map->slots[*at].value;
            (*at)++;
            return true;
        }
    }
    return false;
}

/* The keys are ours, the values the caller's. */
void strmap_free(struct strmap *map)
{
    for (size_t i = 0; i < map->cap; i++) {
        free(map->slots[i].key);
    }
    free(map->slots);
    *map = (struct strmap){0};
}
