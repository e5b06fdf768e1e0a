/*
 * Counters as tables: a line per slot, a column per number, as wide as its widest entry. All slots
 * of a file are read first, so that one print is of one moment as nearly as can be.
 */
#include "ctrl/stat/stat.h"

#include "core/base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { COLUMNS_MAX = COUNTERS_IDS + COUNTERS_VALUES, CELL_MAX = 32 };

static int columns_of(const struct counters_reading *r, const char *names[COLUMNS_MAX])
{
    int len = 0;
    for (int i = 0; i < COUNTERS_IDS && r->id_names[i] != NULL; i++) {
        names[len++] = r->id_names[i];
    }
    for (int i = 0; i < COUNTERS_VALUES && r->value_names[i] != NULL; i++) {
        names[len++] = r->value_names[i];
    }
    return len;
}

static bool is_frontier(const char *name)
{
    return strcmp(name, "frontier") == 0 || strcmp(name, "upper") == 0;
}

/* A frontier is a time in microseconds since the epoch: how long ago says more. */
static void frontier_cell(uint64_t value, uint64_t now_us, char cell[CELL_MAX])
{
    if (value == UINT64_MAX) {
        snprintf(cell, CELL_MAX, "sealed");
    } else if (value == 0) {
        snprintf(cell, CELL_MAX, "none yet");
    } else {
        snprintf(cell, CELL_MAX, "%.1f ms ago", ((double)now_us - (double)value) / 1000);
    }
}

/* Other times: what they are counted in, for a cell of a readable size. Their names carry no unit,
 * as Prometheus wants seconds and nothing else there. */
static bool time_cell(const char *name, uint64_t value, char cell[CELL_MAX])
{
    if (strcmp(name, "lag") == 0) { /* microseconds */
        snprintf(cell, CELL_MAX, "%.1fms", (double)value / 1000);
    } else if (strcmp(name, "wake_cost") == 0) { /* nanoseconds */
        snprintf(cell, CELL_MAX, "%.1fus", (double)value / 1000);
    } else {
        return false;
    }
    return true;
}

/* The same slot's reading at the last print, or NULL. Readings are in the order of slots. */
static const struct counters_reading *before_of(const struct stat_file *file,
                                                const struct counters_reading *r)
{
    size_t low = 0;
    size_t high = file->before_len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (file->before[middle].slot < r->slot) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    const struct counters_reading *b = &file->before[low];
    bool same = low < file->before_len && b->slot == r->slot && strcmp(b->type, r->type) == 0 &&
                memcmp(b->ids, r->ids, sizeof(r->ids)) == 0; /* else the slot was used again */
    return same ? b : NULL;
}

static void value_cell(const struct stat_file *file, const struct stat_options *options,
                       const struct counters_reading *r, int value, uint64_t now_us,
                       char cell[CELL_MAX])
{
    const struct counters_reading *before = options->rates ? before_of(file, r) : NULL;
    bool counts = (r->gauges >> value & 1) == 0;
    if (is_frontier(r->value_names[value])) {
        frontier_cell(r->values[value], now_us, cell);
    } else if (time_cell(r->value_names[value], r->values[value], cell)) {
        return;
    } else if (counts && before != NULL && now_us > file->before_us &&
               r->values[value] >= before->values[value]) {
        double seconds = (double)(now_us - file->before_us) / 1e6;
        snprintf(cell, CELL_MAX, "%.0f/s",
                 (double)(r->values[value] - before->values[value]) / seconds);
    } else {
        snprintf(cell, CELL_MAX, "%" PRIu64, r->values[value]);
    }
}

/* One line's cells, in the order of columns_of. */
static void line_cells(const struct stat_file *file, const struct stat_options *options,
                       const struct counters_reading *r, uint64_t now_us,
                       char cells[COLUMNS_MAX][CELL_MAX])
{
    int at = 0;
    for (int i = 0; i < COUNTERS_IDS && r->id_names[i] != NULL; i++) {
        snprintf(cells[at++], CELL_MAX, "%" PRIu64, r->ids[i]);
    }
    for (int i = 0; i < COUNTERS_VALUES && r->value_names[i] != NULL; i++) {
        value_cell(file, options, r, i, now_us, cells[at++]);
    }
}

static void print_type(const struct stat_file *file, const struct stat_options *options,
                       const struct counters_reading *slots, size_t len, const char *type,
                       uint64_t now_us, struct buf *out)
{
    const char *names[COLUMNS_MAX];
    size_t width[COLUMNS_MAX];
    char cells[COLUMNS_MAX][CELL_MAX];
    int columns = -1;
    for (int pass = 0; pass < 2; pass++) { /* first how wide, then print */
        for (size_t i = 0; i < len; i++) {
            if (strcmp(slots[i].type, type) != 0) {
                continue;
            }
            if (columns < 0) {
                columns = columns_of(&slots[i], names);
                for (int c = 0; c < columns; c++) {
                    width[c] = strlen(names[c]);
                }
            }
            line_cells(file, options, &slots[i], now_us, cells);
            for (int c = 0; c < columns; c++) {
                if (pass == 0) {
                    size_t cell = strlen(cells[c]);
                    width[c] = cell > width[c] ? cell : width[c];
                } else {
                    buf_printf(out, "%s%*s", c > 0 ? "  " : "    ", (int)width[c], cells[c]);
                }
            }
            if (pass == 1) {
                buf_append_str(out, "\n");
            }
        }
        if (pass == 0) {
            buf_printf(out, "  %s\n", type);
            for (int c = 0; c < columns; c++) {
                buf_printf(out, "%s%*s", c > 0 ? "  " : "    ", (int)width[c], names[c]);
            }
            buf_append_str(out, "\n");
        }
    }
}

static void print_header(const struct stat_file *file, uint64_t now_us, struct buf *out)
{
    struct counters_owner owner = counters_view_owner(file->view);
    const char *state = owner.ended ? "ended" : owner.alive ? "running" : "killed";
    buf_printf(out, "%s: process %" PRIu64 ", %s, started %.1f s ago\n", file->path, owner.pid,
               state, ((double)now_us - (double)owner.started_us) / 1e6); /* clocks go back */
    if (owner.refused > 0) {
        buf_printf(out, "  (full: %" PRIu64 " slots are not shown)\n", owner.refused);
    }
}

/* A table per type, in the order in which types turn up. */
static void print_types(const struct stat_file *file, const struct stat_options *options,
                        const struct counters_reading *slots, size_t len, uint64_t now_us,
                        struct buf *out)
{
    const char *types[COUNTERS_TYPES_MAX];
    size_t types_len = 0;
    for (size_t i = 0; i < len; i++) {
        size_t t = 0;
        while (t < types_len && strcmp(types[t], slots[i].type) != 0) {
            t++;
        }
        if (t < types_len) {
            continue;
        }
        ASSERT(types_len < COUNTERS_TYPES_MAX); /* the file's table has no more */
        types[types_len++] = slots[i].type;
        if (options->type == NULL || strcmp(options->type, slots[i].type) == 0) {
            print_type(file, options, slots, len, slots[i].type, now_us, out);
        }
    }
}

void stat_print(struct stat_file *file, const struct stat_options *options, uint64_t now_us,
                struct buf *out)
{
    struct counters_reading *slots = NULL;
    size_t len = 0;
    size_t cap = 0;
    uint32_t at = 0;
    struct counters_reading r;
    print_header(file, now_us, out);
    while (counters_view_next(file->view, &at, &r)) {
        if (len == cap) {
            cap = cap > 0 ? 2 * cap : 64;
            slots = mem_realloc(slots, cap * sizeof(slots[0]));
        }
        slots[len++] = r;
    }
    print_types(file, options, slots, len, now_us, out);
    free(file->before);
    file->before = slots;
    file->before_len = len;
    file->before_us = now_us;
}
