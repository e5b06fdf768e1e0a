/*
 * See dict.h. A hash table from bytes to number and references, and an array from number to entry.
 * Entries do not move (htable.h), so the array needs no upkeep.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/dict.h"

#include "core/base/hash.h"

void dict_init(struct dict *dict, struct account *account)
{
    ASSERT(account != NULL);
    *dict = (struct dict){.account = account};
    pool_init(&dict->pool, account);
    htable_init(&dict->table, sizeof(struct dict_entry), &dict->pool, account);
}

static size_t array_bytes(const struct dict *dict)
{
    return dict->entries_cap * sizeof(dict->entries[0]) + dict->free_cap * sizeof(dict->free[0]);
}

static void free_arrays(struct dict *dict)
{
    account_add(dict->account, -(int64_t)array_bytes(dict));
    free(dict->entries);
    free(dict->free);
    dict->entries = NULL;
    dict->free = NULL;
    dict->entries_len = dict->entries_cap = dict->free_len = dict->free_cap = 0;
}

void dict_free(struct dict *dict)
{
    free_arrays(dict);
    htable_clear(&dict->table);
    pool_clear(&dict->pool);
}

/* A free number, with its place in the array. */
static uint32_t new_number(struct dict *dict)
{
    if (dict->free_len > 0) {
        return dict->free[--dict->free_len];
    }
    size_t before = array_bytes(dict);
    *VEC_PUSH(dict, entries) = NULL;
    account_add(dict->account, (int64_t)array_bytes(dict) - (int64_t)before);
    ASSERT(dict->entries_len <= UINT32_MAX);
    return (uint32_t)(dict->entries_len - 1);
}

static struct dict_entry *entry_of(const struct dict *dict, uint32_t number)
{
    ASSERT(number < dict->entries_len && dict->entries[number] != NULL);
    return htable_payload(dict->entries[number]);
}

uint32_t dict_hold(struct dict *dict, const void *data, uint32_t len)
{
    uint64_t hash = hash_bytes(data, len);
    struct htable_entry *found = htable_find(&dict->table, hash, data, len);
    if (found != NULL) {
        struct dict_entry *entry = htable_payload(found);
        ASSERT(entry->refs > 0 && entry->refs < UINT32_MAX);
        ASSERT(dict->entries[entry->number] == found);
        entry->refs++;
        return entry->number;
    }
    found = htable_add(&dict->table, hash, data, len);
    struct dict_entry *entry = htable_payload(found);
    *entry = (struct dict_entry){.number = new_number(dict), .refs = 1};
    ASSERT(dict->entries[entry->number] == NULL);
    dict->entries[entry->number] = found;
    return entry->number;
}

void dict_ref(struct dict *dict, uint32_t number)
{
    struct dict_entry *entry = entry_of(dict, number);
    ASSERT(entry->refs > 0 && entry->refs < UINT32_MAX);
    entry->refs++;
}

void dict_unref(struct dict *dict, uint32_t number)
{
    struct dict_entry *entry = entry_of(dict, number);
    ASSERT(entry->refs > 0);
    if (--entry->refs > 0) {
        return;
    }
    htable_remove(&dict->table, dict->entries[number]);
    dict->entries[number] = NULL;
    if (dict->table.len == 0) {
        free_arrays(dict);
        return;
    }
    size_t before = array_bytes(dict);
    *VEC_PUSH(dict, free) = number;
    account_add(dict->account, (int64_t)array_bytes(dict) - (int64_t)before);
}
