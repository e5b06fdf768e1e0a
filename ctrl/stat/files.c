/* Finding counters files: see stat.h. */
#include "ctrl/stat/stat.h"

#include "core/base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#define SUFFIX ".counters"

static void file_close(struct stat_file *file)
{
    counters_view_close(file->view);
    free(file->before);
    file->view = NULL;
    file->before = NULL;
    file->before_len = 0;
}

/* A new process makes a new file of the same name: who started when tells them apart. */
static err_t open_one(struct stat_files *files, const char *path)
{
    struct counters_view *view = NULL;
    TRY(counters_view_open(path, &view));
    struct counters_owner owner = counters_view_owner(view);
    for (size_t i = 0; i < files->items_len; i++) {
        struct stat_file *file = &files->items[i];
        if (strcmp(file->path, path) != 0) {
            continue;
        }
        struct counters_owner old = counters_view_owner(file->view);
        if (old.pid == owner.pid && old.started_us == owner.started_us) {
            counters_view_close(file->view); /* the table of types may have grown */
        } else {
            file_close(file);
        }
        file->view = view;
        return ERR_OK;
    }
    *VEC_PUSH(files, items) = (struct stat_file){.path = mem_strdup(path), .view = view};
    return ERR_OK;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_counters(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);
    return len > strlen(SUFFIX) && strcmp(entry->d_name + len - strlen(SUFFIX), SUFFIX) == 0;
}

static err_t open_folder(struct stat_files *files, const char *folder)
{
    struct dirent **entries = NULL;
    int len = scandir(folder, &entries, is_counters, by_name);
    if (len < 0) {
        return err_hint(err_errno(errno, "folder %s", folder),
                        "--path takes an environment's data directory or a counters file");
    }
    err_t err = ERR_OK;
    for (int i = 0; i < len; i++) {
        struct buf path = {0};
        buf_printf(&path, "%s/%s", folder, entries[i]->d_name);
        if (err == ERR_OK) {
            err = open_one(files, buf_cstr(&path));
        }
        buf_free(&path);
        free(entries[i]);
    }
    free(entries);
    return err;
}

err_t stat_files_find(struct stat_files *files, const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0) {
        return err_hint(err_errno(errno, "%s", path),
                        "--path takes an environment's data directory or a counters file");
    }
    if (!S_ISDIR(status.st_mode)) {
        return open_one(files, path);
    }
    struct buf folder = {0};
    buf_printf(&folder, "%s/run", path);
    err_t err = open_folder(files, buf_cstr(&folder));
    buf_free(&folder);
    return err;
}

void stat_files_free(struct stat_files *files)
{
    for (size_t i = 0; i < files->items_len; i++) {
        file_close(&files->items[i]);
        free(files->items[i].path);
    }
    free(files->items);
    *files = (struct stat_files){0};
}
