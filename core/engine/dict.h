/*
 * Strings as numbers: equal strings have one number while anybody holds it. So that rows with
 * strings are words where only equality counts: keys of groups, values counted once.
 *
 * Numbers are given out in the order of arrival and again when they are free: a function of the
 * calls alone, not of addresses. Owned by an operator; the engine's thread.
 */
#ifndef TAILRACE_CORE_ENGINE_DICT_H
#define TAILRACE_CORE_ENGINE_DICT_H

#include "core/engine/htable.h"

struct dict {
    struct htable table; /* payload: struct dict_entry */
    struct pool pool;
    struct htable_entry **entries; /* by number; NULL: the number is free */
    size_t entries_len, entries_cap;
    uint32_t *free;      /* numbers below entries_len, to be given out again */
    size_t free_len, free_cap;
    struct account *account;
};

struct dict_entry {
    uint32_t number;
    uint32_t refs;
};

struct dict_string {
    const char *data; /* valid while the number is held */
    uint32_t len;
};

/* An empty one holds no memory. */
void dict_init(struct dict *dict, struct account *account);
void dict_free(struct dict *dict);
/* The string's number, with a reference for the caller. */
uint32_t dict_hold(struct dict *dict, const void *data, uint32_t len);
/* One more reference to a number that is held. */
void dict_ref(struct dict *dict, uint32_t number);
/* With its last reference the string is forgotten. */
void dict_unref(struct dict *dict, uint32_t number);

static inline struct dict_string dict_string(const struct dict *dict, uint32_t number)
{
    ASSERT(number < dict->entries_len && dict->entries[number] != NULL);
    const struct htable_entry *entry = dict->entries[number];
    return (struct dict_string){(const char *)htable_key(&dict->table, entry), entry->key_len};
}

#endif
