/*
 * Structured logs: one line an event on standard error, logfmt by default or JSON, with time,
 * level, module, message and key=value fields. Any thread; a line is written with one write(), so
 * that lines of several threads do not mix. Values may come from a hostile peer: they cannot forge
 * a field or a line, and a line is valid UTF-8 (and JSON) whatever bytes they hold.
 *
 *     LOG_INFO("storage", "shard opened", LOG_U64("shard", id), LOG_STR("path", path));
 *
 * A line which a peer can cause at will goes through LOG_LIMITED, so that nobody fills our disk:
 *
 *     LOG_LIMITED(LOG_LEVEL_WARN, "door", "peer refused", LOG_STR("peer", p), LOG_ERR(err));
 */
#ifndef TAILRACE_CORE_BASE_LOG_H
#define TAILRACE_CORE_BASE_LOG_H

#include "core/base/err.h"

#include <pthread.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR, LOG_LEVEL_OFF };
enum log_format { LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };

enum log_field_kind { LOG_FIELD_STR, LOG_FIELD_U64, LOG_FIELD_I64, LOG_FIELD_F64 };

/* Lives in the caller's statement; nothing is kept of it. */
struct log_field {
    const char *key; /* a plain word of ours, not escaped; NULL ends a list */
    enum log_field_kind kind;
    union {
        const char *str;
        uint64_t u64;
        int64_t i64;
        double f64;
    };
};

#define LOG_STR(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_STR, .str = (v)})
#define LOG_U64(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_U64, .u64 = (v)})
#define LOG_I64(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_I64, .i64 = (v)})
#define LOG_F64(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_F64, .f64 = (v)})
#define LOG_ERR(e) LOG_STR("error", err_text(e))

#define LOG_AT(level, module, message, ...)                                                        \
    do {                                                                                           \
        if ((level) >= log_threshold()) {                                                          \
            const struct log_field log_fields_[] = {__VA_ARGS__ __VA_OPT__(, ) LOG_STR(NULL, "")}; \
            log_write((level), (module), (message), log_fields_);                                  \
        }                                                                                          \
    } while (0)
#define LOG_DEBUG(module, ...) LOG_AT(LOG_LEVEL_DEBUG, module, __VA_ARGS__)
#define LOG_INFO(module, ...) LOG_AT(LOG_LEVEL_INFO, module, __VA_ARGS__)
#define LOG_WARN(module, ...) LOG_AT(LOG_LEVEL_WARN, module, __VA_ARGS__)
#define LOG_ERROR(module, ...) LOG_AT(LOG_LEVEL_ERROR, module, __VA_ARGS__)

/*
 * Bounds the lines of one place in the code: a burst of LOG_LIMIT_LINES in each LOG_LIMIT_MS. The
 * last line of a burst says that more will be withheld, the first of the next how many were. Any
 * thread.
 */
enum { LOG_LIMIT_LINES = 10, LOG_LIMIT_MS = 10000 };
struct log_limit {
    pthread_mutex_t lock;  /* guards the rest */
    uint64_t window_ms;    /* when the present window began, monotonic; 0: none has */
    uint32_t lines;        /* let through in it */
    uint64_t suppressed;   /* withheld since the last line that was let through */
};
#define LOG_LIMIT_INIT {.lock = PTHREAD_MUTEX_INITIALIZER}
enum log_admission {
    LOG_WITHHELD,
    LOG_ADMITTED,
    LOG_ADMITTED_LAST, /* and no further one in this window */
};
/* Decides on one line; *suppressed becomes how many were withheld before it. */
enum log_admission log_limit_admit(struct log_limit *limit, uint64_t now_ms, uint64_t *suppressed);
uint64_t log_clock_ms(void);

#define LOG_LIMITED(level, module, message, ...)                                                   \
    do {                                                                                           \
        static struct log_limit log_limit_ = LOG_LIMIT_INIT;                                       \
        uint64_t log_suppressed_ = 0;                                                              \
        enum log_admission log_admission_ =                                                        \
            (level) >= log_threshold()                                                             \
                ? log_limit_admit(&log_limit_, log_clock_ms(), &log_suppressed_)                   \
                : LOG_WITHHELD;                                                                    \
        if (log_admission_ != LOG_WITHHELD) {                                                      \
            const struct log_field log_fields_[] = {                                               \
                __VA_ARGS__ __VA_OPT__(, ) LOG_U64("suppressed", log_suppressed_),                 \
                log_admission_ == LOG_ADMITTED_LAST ? LOG_STR("further", "withheld for a while")   \
                                                    : LOG_STR(NULL, ""),                           \
                LOG_STR(NULL, "")};                                                                \
            log_write((level), (module), (message), log_fields_);                                  \
        }                                                                                          \
    } while (0)

/* Levels: debug info warn error off. Set at start-up, before threads. */
void log_configure(enum log_level level, enum log_format format, const char *process);
err_t log_level_parse(const char *text, enum log_level *out);
enum log_level log_threshold(void);
/* fields ends with a NULL key. */
void log_write(enum log_level level, const char *module, const char *message,
               const struct log_field *fields);

/* Tests take the lines: sink(ctx, line, len), from any thread; NULL restores standard error. */
void log_set_sink(void (*sink)(void *ctx, const char *line, size_t len), void *ctx);

#endif
