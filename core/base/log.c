/* Structured log lines: see log.h. */
#include "core/base/log.h"

#include "core/base/buf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum log_level threshold = LOG_LEVEL_INFO;
static enum log_format format = LOG_FORMAT_LOGFMT;
static char process_name[64] = "tailrace";
static void (*line_sink)(void *ctx, const char *line, size_t len);
static void *line_sink_ctx;

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

void log_configure(enum log_level level, enum log_format log_format, const char *process)
{
    threshold = level;
    format = log_format;
    snprintf(process_name, sizeof(process_name), "%s", process);
}

err_t log_level_parse(const char *text, enum log_level *out)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return ERR_OK;
        }
    }
    return err_new(ERR_INVALID, "unknown log level \"%s\": use debug, info, warn, error or off",
                   text);
}

enum log_level log_threshold(void)
{
    return threshold;
}

void log_set_sink(void (*sink)(void *ctx, const char *line, size_t len), void *ctx)
{
    line_sink = sink;
    line_sink_ctx = ctx;
}

static void append_quoted(struct buf *out, const char *s, bool always)
{
    if (!always && s[0] != '\0' && strpbrk(s, " =\"\n\t\\") == NULL) {
        buf_append_str(out, s);
        return;
    }
    buf_append_byte(out, '"');
    for (const char *p = s; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\') {
            buf_append_byte(out, '\\');
            buf_append_byte(out, c);
        } else if (c == '\n') {
            buf_append_str(out, "\\n");
        } else if (c < 0x20) {
            buf_printf(out, "\\u%04x", c);
        } else {
            buf_append_byte(out, c);
        }
    }
    buf_append_byte(out, '"');
}

static void append_value(struct buf *out, const struct log_field *field)
{
    switch (field->kind) {
    case LOG_FIELD_STR:
        append_quoted(out, field->str != NULL ? field->str : "", format == LOG_FORMAT_JSON);
        break;
    case LOG_FIELD_U64: buf_printf(out, "%llu", (unsigned long long)field->u64); break;
    case LOG_FIELD_I64: buf_printf(out, "%lld", (long long)field->i64); break;
    case LOG_FIELD_F64: buf_printf(out, "%.9g", field->f64); break;
    }
}

static void append_pair(struct buf *out, const struct log_field *field)
{
    if (format == LOG_FORMAT_JSON) {
        if (out->len > 1) {
            buf_append_byte(out, ',');
        }
        append_quoted(out, field->key, true);
        buf_append_byte(out, ':');
    } else {
        if (out->len > 0) {
            buf_append_byte(out, ' ');
        }
        buf_append_str(out, field->key);
        buf_append_byte(out, '=');
    }
    append_value(out, field);
}

static void write_all(const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, data, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return; /* nowhere left to say it */
        }
        data += n;
        len -= (size_t)n;
    }
}

void log_write(enum log_level level, const char *module, const char *message,
               const struct log_field *fields)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm tm;
    gmtime_r(&now.tv_sec, &tm);
    char stamp[40];
    size_t n = strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(stamp + n, sizeof(stamp) - n, ".%06ldZ", now.tv_nsec / 1000);

    struct buf line = {0};
    if (format == LOG_FORMAT_JSON) {
        buf_append_byte(&line, '{');
    }
    append_pair(&line, &LOG_STR("ts", stamp));
    append_pair(&line, &LOG_STR("level", level_names[level]));
    append_pair(&line, &LOG_STR("process", process_name));
    append_pair(&line, &LOG_STR("module", module));
    append_pair(&line, &LOG_STR("msg", message));
    for (const struct log_field *f = fields; f->key != NULL; f++) {
        append_pair(&line, f);
    }
    if (format == LOG_FORMAT_JSON) {
        buf_append_byte(&line, '}');
    }
    buf_append_byte(&line, '\n');
    if (line_sink != NULL) {
        line_sink(line_sink_ctx, (const char *)line.data, line.len);
    } else {
        write_all((const char *)line.data, line.len);
    }
    buf_free(&line);
}
