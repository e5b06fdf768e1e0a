/*
 * Module-private: a simulated disk. Everything exists twice: as processes see it (the page cache,
 * which survives them), and as it is on the medium (what survives a loss of power). Files go from
 * one to the other by sector with fsync; changes of directories are a journal of operations that
 * dir_sync puts into effect.
 *
 * What a crash may leave is what Linux file systems allow, and no less:
 *
 *     a file's content   each unsynced sector is old or new, independently; the size is old, new,
 *                        or a whole number of sectors between
 *     names              a prefix of each directory's unsynced changes; a change that depends on a
 *                        lost one (its directory, its rename's target) is lost too
 *     after a failed     the pages count as clean and were not written: syncing again does not save
 *     fsync              them (what PostgreSQL learnt in 2018)
 *
 * A rename is atomic on the medium; a new file's content and its name are independent of each
 * other.
 */
#ifndef TAILRACE_CORE_IO_SIM_DISK_H
#define TAILRACE_CORE_IO_SIM_DISK_H

#include "core/io/sim/sim_internal.h"

enum { SIM_SECTOR = 512 };

/* A name in a directory. */
struct sim_entry {
    char *name;
    struct sim_inode *inode; /* a reference is held */
};

/* Names in byte order. */
struct sim_names {
    struct sim_entry *entries;
    size_t entries_len;
    size_t entries_cap;
};

/* A file or directory. Counted, since names of two views and open files refer to it. */
struct sim_inode {
    struct sim_link all; /* of the disk */
    uint64_t number; /* what io_stat tells; never used again */
    unsigned refs; /* names in both views, operations in the journal, open files */
    bool directory;
    uint64_t mtime_us; /* virtual */
    /* Files. dirty[i] is the number of the first write to sector i that is not on the medium, 0
     * when there is none. */
    struct buf seen; /* the content as processes read it */
    struct buf durable; /* the content on the medium */
    uint64_t *dirty;
    size_t dirty_cap; /* sectors dirty[] has room for */
    /* Directories. */
    struct sim_names seen_names; /* as processes see them */
    struct sim_names durable_names; /* as on the medium */
    const void *locked_by; /* an open file, or NULL */
    bool stopped; /* while a crash is worked out: later changes of it are lost */
    uint64_t visit; /* the last walk that came here */
};

enum sim_change_kind { SIM_LINK, SIM_UNLINK, SIM_RENAME };

/* A change of a directory that is not on the medium yet. */
struct sim_change {
    enum sim_change_kind kind;
    struct sim_inode *directory; /* a reference is held, here and below */
    char *name;
    struct sim_inode *to_directory; /* RENAME */
    char *to_name;
    struct sim_inode *inode; /* LINK, RENAME */
    bool wanted; /* to be applied, while changes are being chosen */
};

/* One per host; owned by it. */
struct sim_disk {
    struct sim *sim; /* for time and chance */
    struct sim_inode *root;
    struct sim_link all; /* every inode */
    uint64_t inodes; /* the number of the newest */
    uint64_t writes; /* so many changes of content there were: numbers them */
    uint64_t walks; /* so many walks over inodes there were: see visit */
    uint64_t crashes; /* losses of power: handles from before are no good */
    int error; /* an errno value every operation fails with; 0: healthy */
    struct sim_change *changes; /* not on the medium yet, oldest first */
    size_t changes_len;
    size_t changes_cap;
    struct sim_watch *watches; /* of all processes of the host */
};

/* errno values, 0 for ok. */
int sim_disk_check(const struct sim_disk *disk, bool writing);
/* The inode of a path, or NULL and *error. No reference is taken. */
struct sim_inode *sim_disk_find(struct sim_disk *disk, const char *path, int *error);
/* The directory a path lies in, and its last name (freed by the caller). */
struct sim_inode *sim_disk_parent(struct sim_disk *disk, const char *path, char **name,
                                  int *error);
struct sim_inode *sim_names_get(const struct sim_names *names, const char *name);
/* A new file or directory under a name that is free. */
struct sim_inode *sim_disk_create(struct sim_disk *disk, struct sim_inode *directory,
                                  const char *name, bool is_directory);
int sim_disk_unlink(struct sim_disk *disk, struct sim_inode *directory, const char *name);
int sim_disk_rename(struct sim_disk *disk, struct sim_inode *from, const char *from_name,
                    struct sim_inode *to, const char *to_name);
/* Every change of the directory so far, and whatever they depend on, reaches the medium. */
void sim_disk_dir_sync(struct sim_disk *disk, struct sim_inode *directory);

void sim_inode_ref(struct sim_inode *inode);
void sim_inode_unref(struct sim_inode *inode);
void sim_inode_write(struct sim_disk *disk, struct sim_inode *inode, uint64_t offset,
                     const void *data, size_t len);
size_t sim_inode_read(const struct sim_inode *inode, uint64_t offset, void *data, size_t len);
void sim_inode_truncate(struct sim_disk *disk, struct sim_inode *inode, uint64_t size);
/* What was written up to write number mark reaches the medium, or is forgotten to be dirty. */
void sim_inode_sync(struct sim_inode *inode, uint64_t mark, bool fails);

/* file.c: tells the watches. */
void sim_watches_tell(struct sim_disk *disk, const char *path, const struct sim_inode *inode);

#endif
