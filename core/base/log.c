/*
 * Structured log lines: see log.h. A line is put together in memory and written at once. Threshold,
 * format, process name and sink are set before threads start and only read afterwards, so they need
 * no lock. A line that cannot be written is lost: logging never stops the program.
 */
#include "core/base/log.h"

#include "core/base/buf.h"
#include "core/base/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum log_level threshold = LOG_LEVEL_INFO;
static enum log_format format = LOG_FORMAT_LOGFMT;
static char process_name[64] = "tailrace";
static void (*line_sink)(void *ctx, const char *line, size_t len);
static void *line_sink_ctx;

/* By enum log_level. */
static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

/* Once, before threads start; see the head of this file. */
void log_configure(enum log_level level, enum log_format log_format, const char *process)
{
    ASSERT(level <= LOG_LEVEL_OFF && process != NULL);
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

/* The macros ask first: a line below the threshold costs no formatting. */
enum log_level log_threshold(void)
{
    return threshold;
}

/* For tests that read what was logged. */
void log_set_sink(void (*sink)(void *ctx, const char *line, size_t len), void *ctx)
{
    line_sink = sink;
    line_sink_ctx = ctx;
}

/* Stands as it is in logfmt: nothing in it ends a value, steers a terminal or is not UTF-8. */
static bool plain(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c <= ' ' || c == '=' || c == '"' || c == '\\' || c == 0x7f) {
            return false;
        }
    }
    return len > 0 && utf8_valid(s, len);
}

/* One character of a quoted value, as JSON escapes it; logfmt readers understand the same. */
static size_t append_escaped(struct buf *out, const char *s, size_t left)
{
    unsigned char c = (unsigned char)s[0];
    size_t len = utf8_sequence_len(s, left);
    if (c == '"' || c == '\\') {
        buf_append_byte(out, '\\');
        buf_append_byte(out, c);
    } else if (c == '\n') {
        buf_append_str(out, "\\n");
    } else if (c < 0x20 || c == 0x7f) {
        buf_printf(out, "\\u%04x", c);
    } else if (len == 0) { /* not UTF-8: each such byte becomes the replacement character */
        buf_append_str(out, "\\ufffd");
    } else {
        buf_append(out, s, len);
    }
    return len > 0 ? len : 1;
}

/* always: JSON, where every text is quoted. */
static void append_quoted(struct buf *out, const char *s, bool always)
{
    size_t len = strlen(s);
    if (!always && plain(s, len)) {
        buf_append(out, s, len);
        return;
    }
    buf_append_byte(out, '"');
    for (size_t at = 0; at < len;) {
        at += append_escaped(out, s + at, len - at);
    }
    buf_append_byte(out, '"');
}

/* JSON has no word for what is not finite: it goes as a text there. */
static void append_double(struct buf *out, double value)
{
    const char *quote = format == LOG_FORMAT_JSON && !isfinite(value) ? "\"" : "";
    buf_printf(out, "%s%.9g%s", quote, value, quote);
}

/* The same text in both formats, but for the quotes. */
static void append_value(struct buf *out, const struct log_field *field)
{
    switch (field->kind) {
    case LOG_FIELD_STR:
        append_quoted(out, field->str != NULL ? field->str : "", format == LOG_FORMAT_JSON);
        break;
    case LOG_FIELD_U64: buf_printf(out, "%llu", (unsigned long long)field->u64); break;
    case LOG_FIELD_I64: buf_printf(out, "%lld", (long long)field->i64); break;
    case LOG_FIELD_F64: append_double(out, field->f64); break;
    }
}

/* key=value or "key":value, with what separates it from the one before. */
static void append_pair(struct buf *out, const struct log_field *field)
{
    ASSERT(field->key != NULL);
    if (format == LOG_FORMAT_JSON) {
        if (out->len > 1) { /* more than the opening brace */
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

/* One write() as a rule: a pipe or a full disk may take less. */
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
    ASSERT(level < LOG_LEVEL_OFF && module != NULL && message != NULL && fields != NULL);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm tm;
    gmtime_r(&now.tv_sec, &tm);
    char stamp[40];
    size_t n = strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(stamp + n, sizeof(stamp) - n, ".%06ldZ", now.tv_nsec / 1000);

    /* One line in one write: lines of several threads and processes do not mix in a pipe. */
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

uint64_t log_clock_ms(void)
{
    struct timespec now;
    ASSERT(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 + 1; /* never 0 */
}

/*
 * So many lines of one place in the code per window; what was withheld is counted and told with the
 * next line that is admitted, so that nothing vanishes without a trace.
 */
enum log_admission log_limit_admit(struct log_limit *limit, uint64_t now_ms, uint64_t *suppressed)
{
    ASSERT(now_ms > 0 && suppressed != NULL);
    *suppressed = 0;
    enum log_admission admission = LOG_WITHHELD;
    ASSERT(pthread_mutex_lock(&limit->lock) == 0);
    /* Threads may come here in another order than they looked at the clock. */
    if (limit->window_ms == 0 ||
        (now_ms > limit->window_ms && now_ms - limit->window_ms >= LOG_LIMIT_MS)) {
        limit->window_ms = now_ms;
        limit->lines = 0;
    }
    ASSERT(limit->lines <= LOG_LIMIT_LINES);
    if (limit->lines < LOG_LIMIT_LINES) {
        limit->lines++;
        admission = limit->lines == LOG_LIMIT_LINES ? LOG_ADMITTED_LAST : LOG_ADMITTED;
        *suppressed = limit->suppressed;
        limit->suppressed = 0;
    } else {
        limit->suppressed++;
    }
    ASSERT(pthread_mutex_unlock(&limit->lock) == 0);
    return admission;
}
