/*
 * The counters file: see counters.h.
 *
 *   page 0   struct file_head: who wrote it, the table of types
 *   then     struct counters_slot [slots]
 *
 * Two readers matter: a tool in another process, and whoever shows metrics in this one. Both take a
 * slot as a sequence lock does: version (acquire), the contents, a fence, version again; unchanged
 * and odd means that the copy is of one life of the slot. Values may be of slightly different
 * moments, which is all right for numbers to look at.
 *
 * The table of types grows under the lock; types_len is stored with release after an entry is
 * complete and loaded with acquire, and entries never change.
 */
#include "core/base/counters.h"

#include "core/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILE_MAGIC 0x53524E5443525254ULL /* "TRRCTNRS" */

enum { FILE_VERSION = 1, HEAD_BYTES = 12288, SLOTS_MAX = 1 << 22 };

/* A type as the file has it; an empty name is none. */
struct file_type {
    char name[COUNTERS_NAME_MAX];
    char ids[COUNTERS_IDS][COUNTERS_NAME_MAX];
    char values[COUNTERS_VALUES][COUNTERS_NAME_MAX];
    uint32_t gauges;
    uint32_t zero;
};

/* Of the file. Plain fields are written before the magic and never again; atomics as said. */
struct file_head {
    uint64_t magic;
    uint32_t version;
    uint32_t slots; /* that the file has room for */
    uint64_t pid; /* of the writer */
    uint64_t started_us; /* since the Unix epoch */
    _Atomic uint64_t refused; /* openings that found no slot */
    _Atomic uint32_t ended; /* 1: in order */
    _Atomic uint32_t used; /* slots that were ever open: none beyond is looked at */
    _Atomic uint32_t types_len; /* entries of types that are complete */
    uint32_t zero;
    struct file_type types[COUNTERS_TYPES_MAX];
};

STATIC_ASSERT(sizeof(struct counters_slot) == 128, "two lines");
STATIC_ASSERT(sizeof(struct file_head) <= HEAD_BYTES, "the head fits its pages");

/* The writing side: one per process. Slots belong to whoever opened them. */
struct counters {
    pthread_mutex_t lock; /* guards free and types, and opening and closing */
    struct file_head *head; /* the file, or private memory of the same layout */
    struct counters_slot *slots;
    const struct counters_type *types[COUNTERS_TYPES_MAX];
    uint32_t *free; /* slots that were closed */
    size_t free_len;
    size_t free_cap;
    struct counters_slot unseen; /* what is handed out when the file is full */
    size_t bytes;
    bool mapped; /* head is a file: unmapped, not freed */
};

/* For callers without counters. Many threads write it: relaxed atomics, nobody reads it. */
static struct counters_slot nowhere;

/* The wall clock, once, for people: core/io's clocks do not exist yet at this point. */
static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* The new file takes the place of an old one at once, which readers that have it mapped keep. */
static err_t map_file(const char *path, size_t bytes, void **out)
{
    struct buf temporary = {0};
    buf_printf(&temporary, "%s.new", path);
    const char *name = buf_cstr(&temporary);
    int fd = open(name, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0644);
    err_t err = ERR_OK;
    void *base = MAP_FAILED;
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) {
        err = err_errno(errno, "counters file %s", name);
    } else {
        base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (base == MAP_FAILED || rename(name, path) != 0) {
            err = err_errno(errno, "counters file %s", path);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    if (err != ERR_OK && base != MAP_FAILED) {
        munmap(base, bytes);
    }
    buf_free(&temporary);
    *out = base;
    return err;
}

err_t counters_new(const char *path, uint32_t slots, struct counters **out)
{
    ASSERT(slots > 0 && slots <= SLOTS_MAX);
    struct counters *c = MEM_NEW(struct counters);
    c->bytes = HEAD_BYTES + (size_t)slots * sizeof(struct counters_slot);
    void *base = NULL;
    if (path != NULL) {
        err_t err = map_file(path, c->bytes, &base);
        if (err != ERR_OK) {
            free(c);
            return err_hint(err, "give a path that can be written, or none");
        }
        c->mapped = true;
    } else {
        base = mem_zalloc(c->bytes);
    }
    ASSERT(pthread_mutex_init(&c->lock, NULL) == 0);
    c->head = base;
    c->slots = (struct counters_slot *)((uint8_t *)base + HEAD_BYTES);
    c->head->version = FILE_VERSION;
    c->head->slots = slots;
    c->head->pid = (uint64_t)getpid();
    c->head->started_us = now_us();
    c->head->magic = FILE_MAGIC; /* last: what a reader finds before is no counters file */
    *out = c;
    return ERR_OK;
}

void counters_free(struct counters *c)
{
    if (c == NULL) {
        return;
    }
    /* Release: a reader that sees it sees the last values. */
    atomic_store_explicit(&c->head->ended, 1, memory_order_release);
    if (c->mapped) {
        munmap(c->head, c->bytes);
    } else {
        free(c->head);
    }
    ASSERT(pthread_mutex_destroy(&c->lock) == 0);
    free(c->free);
    free(c);
}

/* Into memory that is zero: what is not named stays empty. */
static void copy_names(char (*to)[COUNTERS_NAME_MAX], const char *const *from, size_t len)
{
    for (size_t i = 0; i < len && from[i] != NULL; i++) {
        ASSERT(strlen(from[i]) < COUNTERS_NAME_MAX);
        snprintf(to[i], COUNTERS_NAME_MAX, "%s", from[i]);
    }
}

/* Under the lock. */
static uint32_t type_index(struct counters *c, const struct counters_type *type)
{
    /* Relaxed: only changed under the lock. */
    uint32_t len = atomic_load_explicit(&c->head->types_len, memory_order_relaxed);
    for (uint32_t i = 0; i < len; i++) {
        if (c->types[i] == type) {
            return i;
        }
    }
    ASSERT(len < COUNTERS_TYPES_MAX && strlen(type->name) < COUNTERS_NAME_MAX);
    struct file_type *entry = &c->head->types[len];
    snprintf(entry->name, sizeof(entry->name), "%s", type->name);
    copy_names(entry->ids, type->ids, COUNTERS_IDS);
    copy_names(entry->values, type->values, COUNTERS_VALUES);
    entry->gauges = type->gauges;
    c->types[len] = type;
    /* Release: pairs with the acquire in view_check; the entry is complete. */
    atomic_store_explicit(&c->head->types_len, len + 1, memory_order_release);
    return len;
}

/* Under the lock: a slot nobody has, or NULL. */
static struct counters_slot *take_slot(struct counters *c)
{
    if (c->free_len > 0) {
        return &c->slots[c->free[--c->free_len]];
    }
    /* Relaxed: only changed under the lock. */
    uint32_t used = atomic_load_explicit(&c->head->used, memory_order_relaxed);
    if (used == c->head->slots) {
        return NULL;
    }
    /* Release: whoever sees it finds the slot closed, or opened later. */
    atomic_store_explicit(&c->head->used, used + 1, memory_order_release);
    return &c->slots[used];
}

struct counters_slot *counters_open(struct counters *c, const struct counters_type *type,
                                    const uint64_t ids[COUNTERS_IDS])
{
    if (c == NULL) {
        return &nowhere;
    }
    ASSERT(pthread_mutex_lock(&c->lock) == 0);
    uint32_t index = type_index(c, type);
    struct counters_slot *slot = take_slot(c);
    if (slot == NULL) {
        /* Relaxed: a number to look at. */
        atomic_fetch_add_explicit(&c->head->refused, 1, memory_order_relaxed);
        slot = &c->unseen;
    } else {
        /* Relaxed, all: changed under the lock only; version, below, publishes them. */
        uint32_t version = atomic_load_explicit(&slot->version, memory_order_relaxed);
        ASSERT(version % 2 == 0);
        atomic_store_explicit(&slot->type, index, memory_order_relaxed);
        for (int i = 0; i < COUNTERS_IDS; i++) {
            atomic_store_explicit(&slot->ids[i], ids[i], memory_order_relaxed);
        }
        for (int i = 0; i < COUNTERS_VALUES; i++) {
            atomic_store_explicit(&slot->values[i], 0, memory_order_relaxed);
        }
        /* Odd: open. Release: pairs with the first acquire in slot_read. */
        atomic_store_explicit(&slot->version, version + 1, memory_order_release);
    }
    ASSERT(pthread_mutex_unlock(&c->lock) == 0);
    return slot;
}

void counters_close(struct counters *c, struct counters_slot *slot)
{
    if (c == NULL || slot == &c->unseen) {
        return;
    }
    ASSERT(slot >= c->slots && slot < c->slots + c->head->slots);
    ASSERT(pthread_mutex_lock(&c->lock) == 0);
    /* Relaxed: changed under the lock only. */
    uint32_t version = atomic_load_explicit(&slot->version, memory_order_relaxed);
    ASSERT(version % 2 == 1);
    /* Relaxed is enough here: the next opening's fence below keeps its stores behind this one. */
    atomic_store_explicit(&slot->version, version + 1, memory_order_relaxed);
    /* Pairs with the fence in slot_read: who reads what the next life stores reads this version. */
    atomic_thread_fence(memory_order_release);
    *VEC_PUSH(c, free) = (uint32_t)(slot - c->slots);
    ASSERT(pthread_mutex_unlock(&c->lock) == 0);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* One life of a slot; false: it is closed, or changed meanwhile. types: how many the table has. */
static bool slot_read(const struct counters_slot *slot, uint32_t types, uint32_t *type,
                      uint64_t *ids, uint64_t *values)
{
    /* Acquire: pairs with the release in counters_open. */
    uint32_t version = atomic_load_explicit(&slot->version, memory_order_acquire);
    /* Relaxed, all: between the acquire above and the fence below. */
    *type = atomic_load_explicit(&slot->type, memory_order_relaxed);
    for (int i = 0; i < COUNTERS_IDS; i++) {
        ids[i] = atomic_load_explicit(&slot->ids[i], memory_order_relaxed);
    }
    for (int i = 0; i < COUNTERS_VALUES; i++) {
        values[i] = atomic_load_explicit(&slot->values[i], memory_order_relaxed);
    }
    /* Pairs with the fence in counters_close. */
    atomic_thread_fence(memory_order_acquire);
    return version % 2 == 1 && *type < types &&
           atomic_load_explicit(&slot->version, memory_order_relaxed) == version;
}

/* A file of another process, mapped read-only: its bytes may change at any moment. */
struct counters_view {
    const struct file_head *head;
    const struct counters_slot *slots;
    uint32_t slots_len; /* as the size of the file allows */
    size_t bytes;
    uint32_t types_len;
    struct file_type types[COUNTERS_TYPES_MAX]; /* a copy: checked once */
};

/* Names of another process: at most so long, terminated, and nothing but [a-z0-9_]. */
static bool name_valid(const char *name)
{
    size_t len = strnlen(name, COUNTERS_NAME_MAX);
    return len < COUNTERS_NAME_MAX && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == len;
}

/* Unused names are empty, which name_valid allows; the type itself must have one. */
static bool type_valid(const struct file_type *type)
{
    bool valid = name_valid(type->name) && type->name[0] != '\0';
    for (int i = 0; i < COUNTERS_IDS; i++) {
        valid = valid && name_valid(type->ids[i]);
    }
    for (int i = 0; i < COUNTERS_VALUES; i++) {
        valid = valid && name_valid(type->values[i]);
    }
    return valid;
}

/*
 * Everything is read once into the view and checked there. The writer may be hostile or broken:
 * sizes bound what is looked at later, and names are checked in our copy, not in the file.
 */
static err_t view_check(struct counters_view *view, const char *path)
{
    const struct file_head *head = view->head;
    if (head->magic != FILE_MAGIC) {
        return err_new(ERR_INVALID, "%s is not a counters file", path);
    }
    if (head->version != FILE_VERSION) {
        return err_new(ERR_INVALID, "%s has version %u, this program reads %u", path,
                       head->version, FILE_VERSION);
    }
    uint32_t slots = head->slots;
    /* Acquire: pairs with the release in type_index. */
    uint32_t types = atomic_load_explicit(&head->types_len, memory_order_acquire);
    if (slots > (view->bytes - HEAD_BYTES) / sizeof(struct counters_slot) ||
        types > COUNTERS_TYPES_MAX) {
        return err_new(ERR_INVALID, "%s is damaged: %u slots, %u types in %zu bytes", path, slots,
                       types, view->bytes);
    }
    ASSERT(view->slots_len == 0 && view->types_len == 0);
    view->slots_len = slots;
    view->types_len = types;
    memcpy(view->types, head->types, sizeof(view->types));
    for (uint32_t i = 0; i < types; i++) {
        if (!type_valid(&view->types[i])) {
            return err_new(ERR_INVALID, "%s is damaged: the name of type %u", path, i);
        }
    }
    return ERR_OK;
}

err_t counters_view_open(const char *path, struct counters_view **out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        err_t err = err_errno(errno, "counters file %s", path);
        if (fd >= 0) {
            close(fd);
        }
        return err;
    }
    if (!S_ISREG(status.st_mode) || status.st_size < HEAD_BYTES) {
        close(fd);
        return err_new(ERR_INVALID, "%s is not a counters file", path);
    }
    struct counters_view *view = MEM_NEW(struct counters_view);
    view->bytes = (size_t)status.st_size;
    void *base = mmap(NULL, view->bytes, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (base == MAP_FAILED) {
        free(view);
        return err_errno(errno, "counters file %s", path);
    }
    view->head = base;
    view->slots = (const struct counters_slot *)((const uint8_t *)base + HEAD_BYTES);
    err_t err = view_check(view, path);
    if (err != ERR_OK) {
        counters_view_close(view);
        return err;
    }
    *out = view;
    return ERR_OK;
}

/* Names in readings of this view are void then. */
void counters_view_close(struct counters_view *view)
{
    if (view == NULL) {
        return;
    }
    munmap((void *)(uintptr_t)view->head, view->bytes);
    free(view);
}

struct counters_owner counters_view_owner(const struct counters_view *view)
{
    const struct file_head *head = view->head;
    uint64_t pid = head->pid; /* once: it is another process' */
    bool one = pid > 0 && pid <= INT32_MAX;
    return (struct counters_owner){
        .pid = pid,
        .alive = one && (kill((pid_t)pid, 0) == 0 || errno == EPERM),
        .started_us = head->started_us,
        /* Relaxed: a number to look at. */
        .refused = atomic_load_explicit(&head->refused, memory_order_relaxed),
        /* Acquire: pairs with the release in counters_free. */
        .ended = atomic_load_explicit(&head->ended, memory_order_acquire) != 0,
    };
}

/* NULL for an unused name, as struct counters_reading promises. */
static const char *shown(const char *name)
{
    return name[0] != '\0' ? name : NULL;
}

/* What the type says of a slot that was read. */
static void name_reading(const struct file_type *names, uint32_t slot, struct counters_reading *out)
{
    out->type = names->name;
    out->gauges = names->gauges;
    out->slot = slot;
    for (int i = 0; i < COUNTERS_IDS; i++) {
        out->id_names[i] = shown(names->ids[i]);
    }
    for (int i = 0; i < COUNTERS_VALUES; i++) {
        out->value_names[i] = shown(names->values[i]);
    }
}

bool counters_view_next(const struct counters_view *view, uint32_t *at,
                        struct counters_reading *out)
{
    /* Acquire: pairs with the release in take_slot. */
    uint32_t used = atomic_load_explicit(&view->head->used, memory_order_acquire);
    used = used < view->slots_len ? used : view->slots_len;
    while (*at < used) {
        uint32_t type;
        if (slot_read(&view->slots[(*at)++], view->types_len, &type, out->ids, out->values)) {
            name_reading(&view->types[type], *at - 1, out);
            return true;
        }
    }
    return false;
}

uint32_t counters_used(const struct counters *c)
{
    /* Acquire: pairs with the release in take_slot. */
    return c != NULL ? atomic_load_explicit(&c->head->used, memory_order_acquire) : 0;
}

bool counters_next(const struct counters *c, uint32_t *at, uint32_t end,
                   struct counters_reading *out)
{
    ASSERT(end <= counters_used(c));
    while (*at < end) {
        uint32_t type;
        /* The slot's version (acquire) was stored after its type's entry: any type is complete. */
        if (slot_read(&c->slots[(*at)++], COUNTERS_TYPES_MAX, &type, out->ids, out->values)) {
            name_reading(&c->head->types[type], *at - 1, out);
            return true;
        }
    }
    return false;
}

/* ---- Prometheus ------------------------------------------------------------------------------ */

/* A copy, so that the values of one slot are of one reading. */
struct shown_slot {
    uint64_t ids[COUNTERS_IDS];
    uint64_t values[COUNTERS_VALUES];
};

/* One metric of the text format: its type, then a line for each slot. */
static void expose_value(const struct counters_type *type, int value,
                         const struct shown_slot *slots, size_t len, struct buf *out)
{
    bool gauge = (type->gauges >> value & 1) != 0;
    const char *suffix = gauge ? "" : "_total";
    buf_printf(out, "# HELP tailrace_%s_%s%s Of each %s, as in the counters file.\n"
               "# TYPE tailrace_%s_%s%s %s\n", type->name, type->values[value], suffix, type->name,
               type->name, type->values[value], suffix, gauge ? "gauge" : "counter");
    for (size_t i = 0; i < len; i++) {
        buf_printf(out, "tailrace_%s_%s%s{", type->name, type->values[value], suffix);
        for (int id = 0; id < COUNTERS_IDS && type->ids[id] != NULL; id++) {
            buf_printf(out, "%s%s=\"%llu\"", id > 0 ? "," : "", type->ids[id],
                       (unsigned long long)slots[i].ids[id]);
        }
        buf_printf(out, "} %llu\n", (unsigned long long)slots[i].values[value]);
    }
}

/* All slots of one type, read once; then value by value, as the format wants them together. */
static void expose_type(struct counters *c, uint32_t index, size_t max, struct buf *out)
{
    const struct counters_type *type = c->types[index];
    struct shown_slot *slots = mem_alloc(max * sizeof(slots[0]));
    size_t len = 0;
    size_t left_out = 0;
    uint32_t used = atomic_load_explicit(&c->head->used, memory_order_relaxed); /* locked */
    for (uint32_t i = 0; i < used; i++) {
        struct shown_slot slot;
        uint32_t of;
        if (!slot_read(&c->slots[i], COUNTERS_TYPES_MAX, &of, slot.ids, slot.values) ||
            of != index) {
            continue;
        }
        if (len == max) {
            left_out++;
        } else {
            slots[len++] = slot;
        }
    }
    for (int value = 0; len > 0 && value < COUNTERS_VALUES && type->values[value] != NULL;
         value++) {
        expose_value(type, value, slots, len, out);
    }
    if (left_out > 0) {
        buf_printf(out, "# HELP tailrace_%s_left_out How many of them are not shown here.\n"
                   "# TYPE tailrace_%s_left_out gauge\ntailrace_%s_left_out %zu\n", type->name,
                   type->name, type->name, left_out);
    }
    free(slots);
}

void counters_expose(struct counters *c, size_t max, struct buf *out)
{
    if (c == NULL) {
        return;
    }
    ASSERT(max > 0 && pthread_mutex_lock(&c->lock) == 0);
    uint32_t types = atomic_load_explicit(&c->head->types_len, memory_order_relaxed); /* locked */
    for (uint32_t i = 0; i < types; i++) {
        expose_type(c, i, max, out);
    }
    ASSERT(pthread_mutex_unlock(&c->lock) == 0);
}
