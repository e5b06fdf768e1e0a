/*
 * Structured logs: one line an event on standard error, logfmt by default or JSON, with time,
 * level, module, message and key=value fields. Any thread; a line is written with one write().
 *
 *     LOG_INFO("storage", "shard opened", LOG_U64("shard", id), LOG_STR("path", path));
 */
#ifndef TAILRACE_CORE_BASE_LOG_H
#define TAILRACE_CORE_BASE_LOG_H

#include "core/base/err.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR, LOG_LEVEL_OFF };
enum log_format { LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };

enum log_field_kind { LOG_FIELD_STR, LOG_FIELD_U64, LOG_FIELD_I64, LOG_FIELD_F64 };

struct log_field {
    const char *key;
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

/* Levels: debug info warn error off. Set at start-up, before threads. */
void log_configure(enum log_level level, enum log_format format, const char *process);
err_t log_level_parse(const char *text, enum log_level *out);
enum log_level log_threshold(void);
/* fields ends with a NULL key. */
void log_write(enum log_level level, const char *module, const char *message,
               const struct log_field *fields);

/* The simulator takes the lines and the clock: sink(ctx, line, len); NULL restores stderr. */
void log_set_sink(void (*sink)(void *ctx, const char *line, size_t len), void *ctx);

#endif
