/* Module-private: tailrace-stat in its three files. One thread. */
#ifndef TAILRACE_CTRL_STAT_STAT_H
#define TAILRACE_CTRL_STAT_STAT_H

#include "core/base/counters.h"

/* A counters file, and what it said the last time. */
struct stat_file {
    char *path;
    struct counters_view *view;
    struct counters_reading *before; /* the slots of the last print, in order */
    size_t before_len;
    uint64_t before_us;
};

struct stat_files {
    struct stat_file *items;
    size_t items_len;
    size_t items_cap;
};

/* Adds path, or what the run folder of a data directory at path holds; files already there are
 * opened anew when a process has replaced them. */
err_t stat_files_find(struct stat_files *files, const char *path);
void stat_files_free(struct stat_files *files);

/* What to print. */
struct stat_options {
    const char *type; /* only slots of this type; NULL: all */
    bool rates;       /* counters per second since the last print */
};

/* Prints a file's header and a table per type to out, and remembers what it saw. */
void stat_print(struct stat_file *file, const struct stat_options *options, uint64_t now_us,
                struct buf *out);

#endif
