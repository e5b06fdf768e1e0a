/*
 * Error values: see err.h for the contract. An error is built once, where it arises, and then only
 * grows context on its way up; it is one allocation for the struct and one for each text, since
 * errors are rare and a success (NULL) costs nothing. Any thread may make one; no state is shared.
 *
 * Every text is owned by the struct and replaced, never changed in place, so that the cache behind
 * err_text is the only one that can be stale; whatever adds context drops it (err_touch).
 */
#include "core/base/err.h"

#include "core/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Owned by whoever holds the err_t; one thread at a time. */
struct err {
    enum err_code code;
    char sqlstate[6]; /* five characters and a NUL */
    int position;     /* 1-based, in characters of the statement; 0: none */
    char *message;    /* never NULL */
    char *detail;     /* NULL when none */
    char *hint;       /* likewise */
    char *context; /* outermost first, joined by ": ", NULL when none */
    char *text;    /* cache of err_text */
};

/* Longer than any buffer we would choose: a message may quote a whole statement. */
static char *format_string(const char *format, va_list args)
{
    char *out = NULL;
    int len = vasprintf(&out, format, args);
    ASSERT(len >= 0 && out != NULL);
    return out;
}

/* PostgreSQL's codes (its appendix A), the nearest to what each of ours tells a client to do. */
static const char *default_sqlstate(enum err_code code)
{
    switch (code) {
    case ERR_INTERNAL: return "XX000";
    case ERR_INVALID: return "22023";
    case ERR_NOT_FOUND: return "42704";
    case ERR_EXISTS: return "42710";
    case ERR_UNSUPPORTED: return "0A000";
    case ERR_PERMISSION: return "42501";
    case ERR_FENCED: return "57P01";
    case ERR_UNAVAILABLE: return "57P03";
    case ERR_TIMEOUT: return "57014";
    case ERR_CANCELLED: return "57014";
    case ERR_CLOSED: return "08003";
    case ERR_PROTOCOL: return "08P01";
    case ERR_CORRUPT: return "XX001";
    case ERR_LIMIT: return "54000";
    case ERR_NO_SPACE: return "53100";
    case ERR_IO: return "58030";
    }
    return "XX000";
}

const char *err_code_name(enum err_code code)
{
    static const char *const names[] = {
        [ERR_INTERNAL] = "internal",       [ERR_INVALID] = "invalid",
        [ERR_NOT_FOUND] = "not-found",     [ERR_EXISTS] = "exists",
        [ERR_UNSUPPORTED] = "unsupported", [ERR_PERMISSION] = "permission",
        [ERR_FENCED] = "fenced",           [ERR_UNAVAILABLE] = "unavailable",
        [ERR_TIMEOUT] = "timeout",         [ERR_CANCELLED] = "cancelled",
        [ERR_CLOSED] = "closed",           [ERR_PROTOCOL] = "protocol",
        [ERR_CORRUPT] = "corrupt",         [ERR_LIMIT] = "limit",
        [ERR_NO_SPACE] = "no-space",       [ERR_IO] = "io",
    };
    STATIC_ASSERT(ARRAY_LEN(names) == ERR_IO + 1, "every code has a name");
    if (code < ERR_INTERNAL || code > ERR_IO) { /* a code that came from another process */
        return "unknown";
    }
    return names[code];
}

/* Takes the message over. */
static err_t err_make(enum err_code code, const char *sqlstate, char *message)
{
    ASSERT(code >= ERR_INTERNAL && code <= ERR_IO);
    ASSERT(message != NULL);
    ASSERT(strlen(sqlstate) == 5);
    struct err *err = MEM_NEW(struct err);
    err->code = code;
    memcpy(err->sqlstate, sqlstate, 6);
    err->message = message;
    return err;
}

/* The usual one: the SQLSTATE follows from the code. */
err_t err_new(enum err_code code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *message = format_string(format, args);
    va_end(args);
    return err_make(code, default_sqlstate(code), message);
}

/* Where PostgreSQL has a more exact SQLSTATE than the code's own. */
err_t err_sql(enum err_code code, const char *sqlstate, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *message = format_string(format, args);
    va_end(args);
    return err_make(code, sqlstate, message);
}

/* What the program does about it decides the code; what is not listed is just an I/O error. */
static enum err_code code_of_errno(int errno_value)
{
    switch (errno_value) {
    case ENOENT: return ERR_NOT_FOUND;
    case EEXIST: return ERR_EXISTS;
    case EACCES:
    case EPERM: return ERR_PERMISSION;
    case ENOSPC:
    case EDQUOT: return ERR_NO_SPACE;
    case ETIMEDOUT: return ERR_TIMEOUT;
    case ECANCELED: return ERR_CANCELLED;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH: return ERR_UNAVAILABLE;
    case ECONNRESET:
    case EPIPE: return ERR_CLOSED;
    case EINVAL: return ERR_INVALID;
    case ENOSYS:
    case EOPNOTSUPP: return ERR_UNSUPPORTED;
    default: return ERR_IO;
    }
}

err_t err_errno(int errno_value, const char *format, ...)
{
    ASSERT(errno_value > 0); /* a negated result of a system call is easily passed by mistake */
    va_list args;
    va_start(args, format);
    char *what = format_string(format, args);
    va_end(args);
    char reason[128];
    char *message = NULL;
    int len = asprintf(&message, "%s: %s", what, strerror_r(errno_value, reason, sizeof(reason)));
    ASSERT(len >= 0);
    free(what);
    enum err_code code = code_of_errno(errno_value);
    return err_make(code, default_sqlstate(code), message);
}

/* The text given out before is void: see err_text. */
static void err_touch(err_t err)
{
    ASSERT(err != NULL);
    free(err->text);
    err->text = NULL;
}

/* Each level puts its line in front: the result reads from what was wanted to what went wrong. */
err_t err_wrap(err_t err, const char *format, ...)
{
    if (err == NULL) {
        return NULL;
    }
    va_list args;
    va_start(args, format);
    char *line = format_string(format, args);
    va_end(args);
    if (err->context != NULL) {
        char *joined = NULL;
        int len = asprintf(&joined, "%s: %s", line, err->context);
        ASSERT(len >= 0);
        free(line);
        free(err->context);
        line = joined;
    }
    err->context = line;
    err_touch(err);
    return err;
}

err_t err_detail(err_t err, const char *format, ...)
{
    ASSERT(err != NULL);
    va_list args;
    va_start(args, format);
    free(err->detail);
    err->detail = format_string(format, args);
    va_end(args);
    return err;
}

err_t err_hint(err_t err, const char *format, ...)
{
    ASSERT(err != NULL);
    va_list args;
    va_start(args, format);
    free(err->hint);
    err->hint = format_string(format, args);
    va_end(args);
    return err;
}

err_t err_position(err_t err, int position)
{
    ASSERT(err != NULL);
    ASSERT(position >= 0);
    err->position = position;
    return err;
}

/* For those who tell several waiters of one failure. The cached text is not copied. */
err_t err_copy(const struct err *err)
{
    if (err == NULL) {
        return NULL;
    }
    struct err *copy = err_make(err->code, err->sqlstate, mem_strdup(err->message));
    copy->position = err->position;
    copy->detail = err->detail != NULL ? mem_strdup(err->detail) : NULL;
    copy->hint = err->hint != NULL ? mem_strdup(err->hint) : NULL;
    copy->context = err->context != NULL ? mem_strdup(err->context) : NULL;
    return copy;
}

void err_free(err_t err)
{
    if (err == NULL) {
        return;
    }
    free(err->message);
    free(err->detail);
    free(err->hint);
    free(err->context);
    free(err->text);
    free(err);
}

enum err_code err_code(const struct err *err)
{
    ASSERT(err != NULL);
    return err->code;
}

const char *err_sqlstate(const struct err *err)
{
    ASSERT(err != NULL);
    ASSERT(err->sqlstate[5] == '\0');
    return err->sqlstate;
}

const char *err_message(const struct err *err)
{
    ASSERT(err != NULL);
    return err->message;
}

const char *err_detail_get(const struct err *err)
{
    ASSERT(err != NULL);
    return err->detail != NULL ? err->detail : "";
}

const char *err_hint_get(const struct err *err)
{
    ASSERT(err != NULL);
    return err->hint != NULL ? err->hint : "";
}

const char *err_context_get(const struct err *err)
{
    ASSERT(err != NULL);
    return err->context != NULL ? err->context : "";
}

int err_position_get(const struct err *err)
{
    ASSERT(err != NULL);
    return err->position;
}

const char *err_text(err_t err)
{
    if (err == NULL) {
        return "no error";
    }
    if (err->context == NULL) {
        return err->message;
    }
    if (err->text == NULL) { /* joined on demand: most errors are handled, not shown */
        int len = asprintf(&err->text, "%s: %s", err->context, err->message);
        ASSERT(len >= 0);
    }
    return err->text;
}
