/* tailrace-stat: see README.md. */
#include "ctrl/options/options.h"
#include "ctrl/stat/stat.h"

#include "core/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct program {
    struct option_list paths;
    uint64_t interval_ms;
    const char *type;
    bool once;
};

static uint64_t now_us(void)
{
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static err_t print_all(const struct program *p, struct stat_files *files, bool again)
{
    for (size_t i = 0; i < p->paths.items_len; i++) {
        TRY(stat_files_find(files, p->paths.items[i]));
    }
    if (files->items_len == 0) {
        return err_hint(err_new(ERR_NOT_FOUND, "no counters in %s", p->paths.items[0]),
                        "is an environment running there?");
    }
    struct buf out = {0};
    const struct stat_options options = {.type = p->type, .rates = again};
    if (again) {
        buf_append_str(&out, "\n");
    }
    for (size_t i = 0; i < files->items_len; i++) {
        stat_print(&files->items[i], &options, now_us(), &out);
    }
    bool written = fwrite(out.data, 1, out.len, stdout) == out.len && fflush(stdout) == 0;
    buf_free(&out);
    return written ? ERR_OK : err_new(ERR_IO, "standard output cannot be written");
}

static err_t run(const struct program *p)
{
    struct stat_files files = {0};
    err_t err = print_all(p, &files, false);
    while (err == ERR_OK && !p->once) {
        struct timespec pause = {.tv_sec = (time_t)(p->interval_ms / 1000),
                                 .tv_nsec = (long)(p->interval_ms % 1000) * 1000000};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        err = print_all(p, &files, true);
    }
    stat_files_free(&files);
    return err;
}

int main(int argc, char **argv)
{
    struct program p = {.interval_ms = 1000};
    const struct option options[] = {
        {.name = "path", .kind = OPTION_LIST, .target = &p.paths, .argument = "PATH",
         .help = "an environment's data directory, or a counters file; may be repeated",
         .required = true},
        {.name = "interval-ms", .kind = OPTION_U64, .target = &p.interval_ms, .argument = "N",
         .help = "between prints, which show counters per second", .min = 10, .max = 3600000},
        {.name = "type", .kind = OPTION_TEXT, .target = &p.type, .argument = "NAME",
         .help = "only this kind: subscription, reader, source, session_shm, ..."},
        {.name = "once", .kind = OPTION_BOOL, .target = &p.once,
         .help = "print the totals once and end"},
    };
    const struct options_program program = {
        .name = "tailrace-stat",
        .summary = "prints what the processes of an environment are doing right now",
        .options = options, .options_len = ARRAY_LEN(options)};
    bool done = false;
    err_t err = options_parse(&program, argc, argv, &done);
    int status = err != ERR_OK ? 2 : 0;
    if (err == ERR_OK && !done) {
        err = run(&p);
        status = err != ERR_OK ? 1 : 0;
    }
    if (err != ERR_OK) {
        fprintf(stderr, "tailrace-stat: %s\n", err_text(err));
        if (err_hint_get(err) != NULL) {
            fprintf(stderr, "hint: %s\n", err_hint_get(err));
        }
        err_free(err);
    }
    option_list_free(&p.paths);
    return status;
}
