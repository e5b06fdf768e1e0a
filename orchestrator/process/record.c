/* Records of processes on disk, and processes found without one. See process_internal.h. */
#include "core/base/buf.h"
#include "core/base/hash.h"
#include "orchestrator/process/process_internal.h"

#include <inttypes.h>
#include <stdio.h>

#define MAGIC "tailrace-process 1"
#define SUFFIX ".process"

enum { RECORD_MAX = 16384, CMDLINE_MAX = 128 * 1024, EXEC_WAIT_MS = 200 };

/* ---- writing and reading --------------------------------------------------------------------- */

/* Replaces the file at once: a reader finds the old record or the new one. */
err_t po_record_write(struct io_loop *loop, const char *path, const struct po_record *record)
{
    ASSERT(record->executable != NULL && strchr(record->executable, '\n') == NULL);
    struct buf text = {0};
    buf_printf(&text, MAGIC "\npid %d\nstart_ticks %" PRIu64 "\nexecutable %s\n", (int)record->pid,
               record->start_ticks, record->executable);
    buf_printf(&text, "arguments %016" PRIx64 "\n", record->arguments);
    for (size_t i = 0; i < record->ports_len; i++) {
        buf_printf(&text, "port %s %u\n", record->ports[i].name, record->ports[i].number);
    }
    err_t err = io_write_whole_sync(loop, path, text.data, text.len, 0600);
    buf_free(&text);
    return err_wrap(err, "recording a process in %s", path);
}

/*
 * Takes one line out of *at and returns what follows "key "; NULL when it is another key. Cuts the
 * text in place.
 */
static char *take_line(char **at, const char *key)
{
    size_t len = strlen(key);
    char *line = *at;
    char *end = strchr(line, '\n');
    if (end == NULL || strncmp(line, key, len) != 0 || line[len] != ' ') {
        return NULL;
    }
    *end = '\0';
    *at = end + 1;
    return line + len + 1;
}

/* Digits only, within max. */
static bool parse_number(const char *text, int base, uint64_t max, uint64_t *out)
{
    ASSERT(out != NULL);
    char *end;
    if (text == NULL || text[0] < '0' || text[0] > 'f') { /* no sign, no space */
        return false;
    }
    *out = strtoull(text, &end, base);
    return end != text && *end == '\0' && *out <= max;
}

/* "name number". */
static bool parse_port(struct po_record *record, char *text)
{
    ASSERT(text != NULL);
    char *space = strchr(text, ' ');
    uint64_t number;
    if (space == NULL || space == text || !parse_number(space + 1, 10, UINT16_MAX, &number)) {
        return false;
    }
    *space = '\0';
    struct po_port *port = VEC_PUSH(record, ports);
    port->name = mem_strdup(text);
    port->number = (uint16_t)number;
    return number > 0;
}

/* Every line in its order and nothing else: half a record is none. */
static bool parse(char *text, struct po_record *out)
{
    ASSERT(text != NULL);
    uint64_t pid;
    char *at = text;
    char *magic = take_line(&at, "tailrace-process");
    if (magic == NULL || strcmp(magic, "1") != 0 ||
        !parse_number(take_line(&at, "pid"), 10, INT32_MAX, &pid) ||
        !parse_number(take_line(&at, "start_ticks"), 10, UINT64_MAX, &out->start_ticks)) {
        return false;
    }
    out->pid = (pid_t)pid;
    char *executable = take_line(&at, "executable");
    if (executable == NULL || executable[0] == '\0') {
        return false;
    }
    out->executable = mem_strdup(executable);
    if (!parse_number(take_line(&at, "arguments"), 16, UINT64_MAX, &out->arguments)) {
        return false;
    }
    char *port;
    while ((port = take_line(&at, "port")) != NULL) {
        if (!parse_port(out, port)) {
            return false;
        }
    }
    return *at == '\0';
}

err_t po_record_read(struct io_loop *loop, const char *path, struct po_record *out)
{
    ASSERT(path != NULL && out != NULL);
    *out = (struct po_record){0};
    struct buf text = {0};
    TRY(io_read_whole_sync(loop, path, RECORD_MAX, &text.data, &text.len));
    text.cap = text.len;
    /* The text as a C string; a NUL inside ends it early and then does not parse. */
    buf_cstr(&text);
    bool ok = strlen((char *)text.data) == text.len && parse((char *)text.data, out);
    buf_free(&text);
    if (!ok) {
        po_record_free(out);
        return err_new(ERR_CORRUPT, "%s is not the record of a process", path);
    }
    return ERR_OK;
}

/* Leaves an empty record. */
void po_record_free(struct po_record *record)
{
    ASSERT(record != NULL);
    for (size_t i = 0; i < record->ports_len; i++) {
        free(record->ports[i].name);
        free(record->ports[i].address);
    }
    free(record->ports);
    free(record->executable);
    *record = (struct po_record){0};
}

/*
 * The number stands behind the last dash; service names may contain some.
 * "cluster-8-replica-0-1.process" is process 1 of "cluster-8-replica-0".
 */
bool po_record_name_parse(const char *file, char service[65], uint32_t *process)
{
    ASSERT(file != NULL && service != NULL && process != NULL);
    size_t len = strlen(file);
    size_t suffix = strlen(SUFFIX);
    const char *dash = strrchr(file, '-');
    if (len <= suffix || strcmp(file + len - suffix, SUFFIX) != 0 || dash == NULL || dash == file ||
        dash - file > 64) {
        return false;
    }
    char digits[16];
    size_t digits_len = (size_t)(file + len - suffix - (dash + 1));
    if (digits_len == 0 || digits_len >= sizeof(digits)) {
        return false;
    }
    memcpy(digits, dash + 1, digits_len);
    digits[digits_len] = '\0';
    if (digits[0] == '0' && digits_len > 1) { /* one name a process */
        return false;
    }
    uint64_t number;
    if (!parse_number(digits, 10, 65535, &number)) {
        return false;
    }
    memcpy(service, file, (size_t)(dash - file));
    service[dash - file] = '\0';
    *process = (uint32_t)number;
    return true;
}

/* ---- finding a process by what it runs ------------------------------------------------------- */

/*
 * Words with a NUL behind each, as the kernel shows them. The kernel's form of a command line, so
 * that both can be compared.
 */
uint64_t po_arguments_hash(const char *const *argv)
{
    ASSERT(argv != NULL && argv[0] != NULL);
    struct buf line = {0};
    for (size_t i = 0; argv[i] != NULL; i++) {
        buf_append(&line, argv[i], strlen(argv[i]) + 1);
    }
    uint64_t hash = hash_bytes(line.data, line.len);
    buf_free(&line);
    return hash;
}

/*
 * A file about a process that may be gone by now. Read whole: these files have no size before they
 * are read.
 */
static bool read_proc(struct io_loop *loop, const char *pid, const char *file, struct buf *out)
{
    ASSERT(pid != NULL && file != NULL);
    char path[64];
    snprintf(path, sizeof(path), "/proc/%s/%s", pid, file);
    err_t err = io_read_whole_sync(loop, path, CMDLINE_MAX, &out->data, &out->len);
    out->cap = out->len;
    bool ok = err == ERR_OK;
    err_free(err); /* it has ended, or is another user's: not ours either way */
    return ok;
}

/* Fields of /proc/<pid>/stat, counted from 1 as in proc(5). */
enum { STAT_START_TICKS = 22, STAT_MEMORY_BYTES = 23 };

/* A number there; the second field is a name in parentheses that may hold anything. */
static bool read_stat(struct io_loop *loop, const char *pid, int wanted, uint64_t *out)
{
    ASSERT(wanted > 2);
    struct buf text = {0};
    bool ok = read_proc(loop, pid, "stat", &text);
    const char *at = ok ? strrchr(buf_cstr(&text), ')') : NULL;
    for (int field = 2; at != NULL && field < wanted; field++) {
        at = strchr(at + 1, ' ');
    }
    if (at != NULL) {
        *out = strtoull(at + 1, NULL, 10);
    }
    buf_free(&text);
    return at != NULL;
}

struct search {
    struct io_loop *loop;
    uint64_t arguments;
    pid_t pid;
    uint64_t start_ticks;
    bool in_exec; /* one has no command line yet, and may be the one */
};

/*
 * Within exec there is a moment when the old command line is gone, descriptors that are
 * close-on-exec are closed (so the directory's lock no longer tells) and the new command line is
 * not there yet. Such a process has memory; a kernel thread and a zombie have none.
 */
static bool may_be_in_exec(struct io_loop *loop, const char *pid)
{
    uint64_t memory_bytes;
    return read_stat(loop, pid, STAT_MEMORY_BYTES, &memory_bytes) && memory_bytes > 0;
}

/* One entry of /proc. The first that matches; there is at most one (README.md). */
static err_t look_at(void *arg, const char *name)
{
    ASSERT(name != NULL);
    struct search *search = arg;
    uint64_t pid;
    if (search->pid != 0 || !parse_number(name, 10, INT32_MAX, &pid)) {
        return ERR_OK;
    }
    struct buf line = {0};
    bool ok = read_proc(search->loop, name, "cmdline", &line);
    if (ok && line.len == 0) {
        search->in_exec = search->in_exec || may_be_in_exec(search->loop, name);
    } else if (ok && hash_bytes(line.data, line.len) == search->arguments &&
               read_stat(search->loop, name, STAT_START_TICKS, &search->start_ticks)) {
        search->pid = (pid_t)pid;
    }
    buf_free(&line);
    return ERR_OK;
}

bool po_find_process(struct io_loop *loop, uint64_t arguments, pid_t *pid, uint64_t *start_ticks)
{
    ASSERT(pid != NULL && start_ticks != NULL);
    struct search search = {.loop = loop, .arguments = arguments};
    uint64_t begin = io_mono_ns(loop);
    do { /* again while one is within exec: microseconds, unless one hides its words for good */
        search.in_exec = false;
        err_free(io_dir_list_sync(loop, "/proc", look_at, &search)); /* no /proc: not found */
    } while (search.pid == 0 && search.in_exec &&
             io_mono_ns(loop) - begin < EXEC_WAIT_MS * 1000000ULL);
    *pid = search.pid;
    *start_ticks = search.start_ticks;
    return search.pid != 0;
}
