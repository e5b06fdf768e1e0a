/*
 * The simulated disk: inodes, names, what a crash leaves. See disk.h.
 *
 * One thread, and no events: every function takes its effect at once. When that is, is file.c's
 * business. References are counted by hand; sim_disk_free asserts that all were given back.
 */
#include "core/io/sim/disk.h"

#include <errno.h>

/* ---- names ----------------------------------------------------------------------------------- */

/* The position of name, or where it would be. */
static size_t names_at(const struct sim_names *names, const char *name, bool *there)
{
    ASSERT(name != NULL);
    size_t low = 0;
    size_t high = names->entries_len;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(names->entries[middle].name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *there = low < names->entries_len && strcmp(names->entries[low].name, name) == 0;
    return low;
}

struct sim_inode *sim_names_get(const struct sim_names *names, const char *name)
{
    bool there;
    size_t at = names_at(names, name, &there);
    return there ? names->entries[at].inode : NULL;
}

/* Nothing when it is not there: two views may have lost it at different times. */
static void names_remove(struct sim_names *names, const char *name)
{
    bool there;
    size_t at = names_at(names, name, &there);
    if (!there) {
        return;
    }
    struct sim_entry entry = names->entries[at];
    memmove(names->entries + at, names->entries + at + 1,
            (names->entries_len - at - 1) * sizeof(entry));
    names->entries_len--;
    free(entry.name);
    sim_inode_unref(entry.inode);
}

/* Replaces what was there under the name. */
static void names_put(struct sim_names *names, const char *name, struct sim_inode *inode)
{
    ASSERT(name[0] != '\0');
    sim_inode_ref(inode);
    char *copy = mem_strdup(name);
    names_remove(names, name);
    bool there;
    size_t at = names_at(names, copy, &there);
    (void)VEC_PUSH(names, entries);
    memmove(names->entries + at + 1, names->entries + at,
            (names->entries_len - 1 - at) * sizeof(names->entries[0]));
    names->entries[at] = (struct sim_entry){copy, inode};
}

/* Back to front, so that nothing is moved. */
static void names_clear(struct sim_names *names)
{
    while (names->entries_len > 0) {
        struct sim_entry entry = names->entries[--names->entries_len];
        free(entry.name);
        sim_inode_unref(entry.inode);
    }
    free(names->entries);
    *names = (struct sim_names){0};
}

/* to becomes like from; inodes are shared. */
static void names_copy(struct sim_names *to, const struct sim_names *from)
{
    ASSERT(to != from);
    struct sim_names fresh = {0};
    for (size_t i = 0; i < from->entries_len; i++) {
        names_put(&fresh, from->entries[i].name, from->entries[i].inode);
    }
    names_clear(to);
    *to = fresh;
}

/* ---- inodes ---------------------------------------------------------------------------------- */

/* Without a reference: its first name takes one. */
static struct sim_inode *inode_new(struct sim_disk *disk, bool directory)
{
    struct sim_inode *inode = MEM_NEW(struct sim_inode);
    inode->number = ++disk->inodes;
    sim_link_add(&disk->all, &inode->all);
    inode->directory = directory;
    inode->mtime_us = disk->sim->now;
    return inode;
}

/* Each reference is given back with sim_inode_unref. */
void sim_inode_ref(struct sim_inode *inode)
{
    inode->refs++;
}

/* The last reference frees the inode, and what only it refers to. */
void sim_inode_unref(struct sim_inode *inode)
{
    ASSERT(inode->refs > 0);
    if (--inode->refs > 0) {
        return;
    }
    sim_link_remove(&inode->all);
    names_clear(&inode->seen_names);
    names_clear(&inode->durable_names);
    buf_free(&inode->seen);
    buf_free(&inode->durable);
    free(inode->dirty);
    free(inode);
}

/* Rounded up: the last may be used in part. */
static size_t sectors(size_t bytes)
{
    return (bytes + SIM_SECTOR - 1) / SIM_SECTOR;
}

/* Bytes from to to (excluded) differ from the medium. */
static void dirty_mark(struct sim_disk *disk, struct sim_inode *inode, size_t from, size_t to)
{
    ASSERT(from < to);
    uint64_t number = ++disk->writes;
    size_t need = sectors(to);
    if (need > inode->dirty_cap) {
        size_t cap = need * 2;
        inode->dirty = mem_realloc(inode->dirty, cap * sizeof(uint64_t));
        memset(inode->dirty + inode->dirty_cap, 0, (cap - inode->dirty_cap) * sizeof(uint64_t));
        inode->dirty_cap = cap;
    }
    for (size_t i = from / SIM_SECTOR; i < need; i++) {
        /* The first write counts: a sync that was asked for before it does not cover it. */
        if (inode->dirty[i] == 0) {
            inode->dirty[i] = number;
        }
    }
}

/* Grows with zeros. */
static void content_extend(struct buf *content, size_t len)
{
    if (content->len < len) {
        buf_reserve(content, len - content->len);
        memset(content->data + content->len, 0, len - content->len);
        content->len = len;
    }
}

void sim_inode_write(struct sim_disk *disk, struct sim_inode *inode, uint64_t offset,
                     const void *data, size_t len)
{
    ASSERT(offset + len >= offset);
    ASSERT(!inode->directory);
    if (len == 0) {
        return;
    }
    /* A write behind the end makes the gap dirty too: its zeros are not on the medium. */
    size_t from = offset < inode->seen.len ? (size_t)offset : inode->seen.len;
    content_extend(&inode->seen, (size_t)offset + len);
    memcpy(inode->seen.data + offset, data, len);
    dirty_mark(disk, inode, from, (size_t)offset + len);
    inode->mtime_us = disk->sim->now;
}

/* Stops short at the end. */
size_t sim_inode_read(const struct sim_inode *inode, uint64_t offset, void *data, size_t len)
{
    ASSERT(!inode->directory);
    if (offset >= inode->seen.len) {
        return 0;
    }
    size_t left = inode->seen.len - (size_t)offset;
    len = len < left ? len : left;
    if (len > 0) {
        memcpy(data, inode->seen.data + offset, len);
    }
    return len;
}

/* Bytes that come back after a shrink are zero, on the medium too once synced. */
void sim_inode_truncate(struct sim_disk *disk, struct sim_inode *inode, uint64_t size)
{
    ASSERT(!inode->directory);
    size_t was = inode->seen.len;
    if (size > was) {
        content_extend(&inode->seen, (size_t)size);
        dirty_mark(disk, inode, was, (size_t)size);
    } else if (size < was) {
        inode->seen.len = (size_t)size;
        for (size_t i = sectors((size_t)size); i < inode->dirty_cap; i++) {
            inode->dirty[i] = 0;
        }
        /* Something has to be dirty for the new size to be synced: the last byte that is left. */
        if (size > 0) {
            dirty_mark(disk, inode, (size_t)size - 1, (size_t)size);
        }
    }
    inode->mtime_us = disk->sim->now;
}

/* As much of it as to has; missing bytes of from are zero. */
static void sector_copy(struct buf *to, const struct buf *from, size_t sector)
{
    size_t at = sector * SIM_SECTOR;
    size_t end = at + SIM_SECTOR;
    for (size_t i = at; i < end && i < to->len; i++) {
        to->data[i] = i < from->len ? from->data[i] : 0;
    }
}

/*
 * mark is the number of the last write when the sync was asked for. Writes after it may stay dirty,
 * although the sync completes later: a user that counts on them has a bug this finds.
 */
void sim_inode_sync(struct sim_inode *inode, uint64_t mark, bool fails)
{
    ASSERT(!inode->directory || inode->dirty_cap == 0);
    if (!fails) {
        content_extend(&inode->durable, inode->seen.len);
        inode->durable.len = inode->seen.len;
    }
    for (size_t i = 0; i < inode->dirty_cap; i++) {
        if (inode->dirty[i] != 0 && inode->dirty[i] <= mark) {
            /* After a failed sync the kernel holds the pages for clean: they are lost with the
             * power, however often one syncs again. */
            if (!fails) {
                sector_copy(&inode->durable, &inode->seen, i);
            }
            inode->dirty[i] = 0;
        }
    }
}

/* ---- paths ----------------------------------------------------------------------------------- */

/* Follows the names as processes see them. */
struct sim_inode *sim_disk_find(struct sim_disk *disk, const char *path, int *error)
{
    struct sim_inode *at = disk->root;
    char name[256];
    while (*path != '\0') {
        size_t len = strcspn(path, "/");
        if (len >= sizeof(name)) {
            *error = ENAMETOOLONG;
            return NULL;
        }
        memcpy(name, path, len);
        name[len] = '\0';
        path += len + (path[len] == '/' ? 1 : 0);
        if (len == 0 || strcmp(name, ".") == 0) {
            continue;
        }
        if (!at->directory) {
            *error = ENOTDIR;
            return NULL;
        }
        at = sim_names_get(&at->seen_names, name);
        if (at == NULL) {
            *error = ENOENT;
            return NULL;
        }
    }
    return at;
}

/* Trailing slashes are ignored. */
struct sim_inode *sim_disk_parent(struct sim_disk *disk, const char *path, char **name, int *error)
{
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/') {
        end--;
    }
    size_t start = end;
    while (start > 0 && path[start - 1] != '/') {
        start--;
    }
    *name = NULL;
    if (start == end) {
        *error = EINVAL;
        return NULL;
    }
    char *directory = mem_strndup(path, start);
    struct sim_inode *parent = sim_disk_find(disk, directory, error);
    free(directory);
    if (parent != NULL && !parent->directory) {
        *error = ENOTDIR;
        parent = NULL;
    }
    if (parent != NULL) {
        *name = mem_strndup(path + start, end - start);
    }
    return parent;
}

/* ---- changes of directories ------------------------------------------------------------------ */

/* Notes a change that is not on the medium yet. */
static struct sim_change *change_add(struct sim_disk *disk, enum sim_change_kind kind,
                                     struct sim_inode *directory, const char *name)
{
    ASSERT(directory->directory);
    struct sim_change *change = VEC_PUSH(disk, changes);
    change->kind = kind;
    change->directory = directory;
    sim_inode_ref(directory);
    change->name = mem_strdup(name);
    return change;
}

/* Gives back what change_add and its callers referred to. */
static void change_free(struct sim_change *change)
{
    sim_inode_unref(change->directory);
    if (change->to_directory != NULL) {
        sim_inode_unref(change->to_directory);
    }
    if (change->inode != NULL) {
        sim_inode_unref(change->inode);
    }
    free(change->name);
    free(change->to_name);
}

/* The change reaches the medium. */
static void change_apply(const struct sim_change *change)
{
    ASSERT(change->wanted);
    struct sim_names *names = &change->directory->durable_names;
    switch (change->kind) {
    case SIM_LINK:
        names_put(names, change->name, change->inode);
        break;
    case SIM_UNLINK:
        names_remove(names, change->name);
        break;
    case SIM_RENAME:
        names_remove(names, change->name);
        names_put(&change->to_directory->durable_names, change->to_name, change->inode);
        break;
    }
}

/* Applies the wanted changes in order and forgets them. */
static void changes_apply(struct sim_disk *disk)
{
    size_t kept = 0;
    ASSERT(disk->changes_len <= disk->changes_cap);
    for (size_t i = 0; i < disk->changes_len; i++) {
        if (disk->changes[i].wanted) {
            change_apply(&disk->changes[i]);
            change_free(&disk->changes[i]);
        } else {
            disk->changes[kept++] = disk->changes[i];
        }
    }
    disk->changes_len = kept;
}

void sim_disk_dir_sync(struct sim_disk *disk, struct sim_inode *directory)
{
    ASSERT(directory->directory);
    /* Backwards: a change is wanted when it touches a directory that a later wanted one needs. */
    uint64_t walk = ++disk->walks;
    directory->visit = walk;
    for (size_t i = disk->changes_len; i > 0; i--) {
        struct sim_change *change = &disk->changes[i - 1];
        struct sim_inode *to = change->to_directory;
        change->wanted = change->directory->visit == walk || (to != NULL && to->visit == walk);
        if (change->wanted) {
            change->directory->visit = walk;
            if (to != NULL) {
                to->visit = walk;
            }
        }
    }
    changes_apply(disk);
}

struct sim_inode *sim_disk_create(struct sim_disk *disk, struct sim_inode *directory,
                                  const char *name, bool is_directory)
{
    ASSERT(directory->directory && sim_names_get(&directory->seen_names, name) == NULL);
    struct sim_inode *inode = inode_new(disk, is_directory);
    names_put(&directory->seen_names, name, inode);
    struct sim_change *change = change_add(disk, SIM_LINK, directory, name);
    change->inode = inode;
    sim_inode_ref(inode);
    return inode;
}

/* Open files keep the inode. */
int sim_disk_unlink(struct sim_disk *disk, struct sim_inode *directory, const char *name)
{
    ASSERT(directory->directory);
    struct sim_inode *inode = sim_names_get(&directory->seen_names, name);
    if (inode == NULL) {
        return ENOENT;
    }
    if (inode->directory && inode->seen_names.entries_len > 0) {
        return ENOTEMPTY;
    }
    /* First noted, then removed: the name's reference may be the last one of the seen view. */
    change_add(disk, SIM_UNLINK, directory, name);
    names_remove(&directory->seen_names, name);
    return 0;
}

/* Is to the directory, or somewhere below it? */
static bool holds(const struct sim_inode *directory, const struct sim_inode *to)
{
    ASSERT(directory->directory);
    bool found = directory == to;
    const struct sim_names *names = &directory->seen_names;
    for (size_t i = 0; i < names->entries_len && !found; i++) {
        const struct sim_inode *inode = names->entries[i].inode;
        found = inode->directory && holds(inode, to);
    }
    return found;
}

/* The checks come in the order in which Linux makes them. */
int sim_disk_rename(struct sim_disk *disk, struct sim_inode *from, const char *from_name,
                    struct sim_inode *to, const char *to_name)
{
    ASSERT(from->directory && to->directory);
    struct sim_inode *inode = sim_names_get(&from->seen_names, from_name);
    struct sim_inode *there = sim_names_get(&to->seen_names, to_name);
    if (inode == NULL) {
        return ENOENT;
    }
    if (there == inode) {
        return 0; /* two names of one file: rename(2) does nothing */
    }
    if (inode->directory && holds(inode, to)) {
        return EINVAL; /* into itself */
    }
    if (there != NULL && there->directory != inode->directory) {
        return there->directory ? EISDIR : ENOTDIR;
    }
    if (there != NULL && there->directory && there->seen_names.entries_len > 0) {
        return ENOTEMPTY;
    }
    struct sim_change *change = change_add(disk, SIM_RENAME, from, from_name);
    change->to_directory = to;
    sim_inode_ref(to);
    change->to_name = mem_strdup(to_name);
    change->inode = inode;
    sim_inode_ref(inode);
    /* In this order: the inode keeps a name, and with it a reference, at every moment. */
    names_put(&to->seen_names, to_name, inode);
    names_remove(&from->seen_names, from_name);
    return 0;
}

/* ---- loss of power --------------------------------------------------------------------------- */

/* Some changes made it to the medium. Those of one directory do in order; once one did not, what
 * depends on it did not either. */
static void crash_changes(struct sim_disk *disk)
{
    for (size_t i = 0; i < disk->changes_len; i++) {
        struct sim_change *change = &disk->changes[i];
        struct sim_inode *to = change->to_directory;
        bool stopped = change->directory->stopped || (to != NULL && to->stopped) ||
                       sim_chance(disk->sim, 40);
        change->wanted = !stopped;
        if (stopped) {
            change->directory->stopped = true;
            if (to != NULL) {
                to->stopped = true;
            }
        }
    }
    /* The marks are for this crash alone. */
    for (size_t i = 0; i < disk->changes_len; i++) {
        struct sim_change *change = &disk->changes[i];
        change->directory->stopped = false;
        if (change->to_directory != NULL) {
            change->to_directory->stopped = false;
        }
    }
    changes_apply(disk);
    for (size_t i = 0; i < disk->changes_len; i++) {
        change_free(&disk->changes[i]);
    }
    disk->changes_len = 0;
}

/* The old size, the new one, or some whole number of sectors between. */
static size_t crash_size(struct sim *sim, size_t durable, size_t seen)
{
    uint64_t dice = sim_between(sim, 0, 2);
    size_t low = sectors(durable < seen ? durable : seen);
    size_t high = (durable < seen ? seen : durable) / SIM_SECTOR;
    if (dice == 2 && low <= high) {
        return (size_t)sim_between(sim, low, high) * SIM_SECTOR;
    }
    return dice == 0 ? durable : seen;
}

/* What was not synced is there, or not, or some sectors of it are. */
static void crash_content(struct sim *sim, struct sim_inode *inode)
{
    ASSERT(!inode->directory);
    /* All lost, all there, each sector by itself: the extremes are where most bugs are. */
    static const unsigned percents[] = {0, 100, 50};
    unsigned kept = percents[sim_between(sim, 0, ARRAY_LEN(percents) - 1)];
    size_t size = crash_size(sim, inode->durable.len, inode->seen.len);
    struct buf after = {0};
    content_extend(&after, size);
    for (size_t i = 0; i < sectors(size); i++) {
        bool dirty = i < inode->dirty_cap && inode->dirty[i] != 0;
        bool fresh = dirty && sim_chance(sim, kept);
        sector_copy(&after, fresh ? &inode->seen : &inode->durable, i);
    }
    inode->seen.len = inode->durable.len = 0;
    buf_append(&inode->seen, after.data, after.len);
    buf_append(&inode->durable, after.data, after.len);
    ASSERT(inode->seen.len == inode->durable.len);
    if (inode->dirty_cap > 0) {
        memset(inode->dirty, 0, inode->dirty_cap * sizeof(uint64_t));
    }
    buf_free(&after);
}

/* The medium's view becomes the one that is seen, from here down. */
static void crash_inode(struct sim_disk *disk, struct sim_inode *inode)
{
    if (inode->visit == disk->walks) {
        return; /* a second name of it */
    }
    inode->visit = disk->walks;
    if (!inode->directory) {
        crash_content(disk->sim, inode);
        return;
    }
    names_copy(&inode->seen_names, &inode->durable_names);
    for (size_t i = 0; i < inode->seen_names.entries_len; i++) {
        crash_inode(disk, inode->seen_names.entries[i].inode);
    }
}

/* Names first: they decide which files there still are. */
void sim_disk_crash(struct sim_disk *disk)
{
    disk->crashes++;
    crash_changes(disk);
    disk->walks++;
    crash_inode(disk, disk->root);
}

/* ---- the disk -------------------------------------------------------------------------------- */

/* A full disk can still be read. */
int sim_disk_check(const struct sim_disk *disk, bool writing)
{
    bool space = disk->error == ENOSPC || disk->error == EDQUOT || disk->error == EROFS;
    return space && !writing ? 0 : disk->error;
}

/* 0: the disk is well again. */
void sim_disk_set_error(struct sim_disk *disk, int errno_value)
{
    ASSERT(errno_value >= 0);
    disk->error = errno_value;
}

/* Empty: a root directory that the disk itself refers to. */
struct sim_disk *sim_disk_new(struct sim *sim)
{
    struct sim_disk *disk = MEM_NEW(struct sim_disk);
    disk->sim = sim;
    sim_link_init(&disk->all);
    disk->root = inode_new(disk, true);
    sim_inode_ref(disk->root);
    return disk;
}

/* Each of the two views is a tree, but both together may go in circles, which keep themselves. */
static void circles_break(struct sim_disk *disk)
{
    for (struct sim_link *at = disk->all.next; at != &disk->all; at = at->next) {
        sim_inode_ref(CONTAINER_OF(at, struct sim_inode, all));
    }
    for (struct sim_link *at = disk->all.next; at != &disk->all; at = at->next) {
        struct sim_inode *inode = CONTAINER_OF(at, struct sim_inode, all);
        names_clear(&inode->seen_names);
        names_clear(&inode->durable_names);
    }
    for (struct sim_link *at = disk->all.next; at != &disk->all;) {
        struct sim_inode *inode = CONTAINER_OF(at, struct sim_inode, all);
        at = at->next;
        sim_inode_unref(inode);
    }
}

/* Every process of the host has been freed: no file is open, nothing watches. */
void sim_disk_free(struct sim_disk *disk)
{
    for (size_t i = 0; i < disk->changes_len; i++) {
        change_free(&disk->changes[i]);
    }
    ASSERT(disk->watches == NULL);
    free(disk->changes);
    circles_break(disk);
    sim_inode_unref(disk->root);
    ASSERT(disk->all.next == &disk->all);
    free(disk);
}
