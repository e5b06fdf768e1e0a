/*
 * Errors are values. NULL is success; anything else is owned by whoever holds it, who handles it
 * (err_free) or passes it on with context (err_wrap). No function swallows one silently.
 *
 * An error carries a code (what the program does about it), a SQLSTATE (what a SQL user sees), a
 * message, and optionally detail, hint and a position in the statement; each level it passes adds
 * a line of context. Any thread; one error is used by one thread at a time.
 */
#ifndef TAILRACE_CORE_BASE_ERR_H
#define TAILRACE_CORE_BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct err *err_t;

/* In the order of err.c's table of names; new ones go to the end. */
enum err_code {
    ERR_INTERNAL = 1,     /* a bug: say it, refuse the operation */
    ERR_INVALID,          /* the input is wrong: the sender must change it */
    ERR_NOT_FOUND,        /* no object of that name */
    ERR_EXISTS,           /* there is one already */
    ERR_UNSUPPORTED,      /* valid, and we do not do it */
    ERR_PERMISSION,       /* this peer or user may not */
    ERR_FENCED,           /* a newer epoch or generation took over */
    ERR_UNAVAILABLE,      /* try again: the peer is away, not yet ready */
    ERR_TIMEOUT,          /* the deadline passed */
    ERR_CANCELLED,        /* the asker withdrew */
    ERR_CLOSED,           /* the stream ended in order */
    ERR_PROTOCOL,         /* the peer broke the protocol: close the connection */
    ERR_CORRUPT,          /* a checksum or a bound does not hold in durable data */
    ERR_LIMIT,            /* a configured bound would be passed */
    ERR_NO_SPACE,         /* the disk is full */
    ERR_IO,               /* the operating system refused */
};

/* ok */
#define ERR_OK ((err_t)NULL)

/* A new error; the SQLSTATE is a default for the code (XX000, 22000, 42704, 0A000, ...). */
err_t err_new(enum err_code code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A new error with the five-character SQLSTATE a user will see. */
err_t err_sql(enum err_code code, const char *sqlstate, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* From an errno value (positive, as errno holds it and not negated as the kernel returns it): code
 * by errno, message "what: strerror". */
err_t err_errno(int errno_value, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Adds a line of context ("opening shard u3 of worker 1"); returns err. NULL stays NULL. */
err_t err_wrap(err_t err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Optional parts; each returns err. position: 1-based character offset in the statement. */
err_t err_detail(err_t err, const char *format, ...) __attribute__((format(printf, 2, 3)));
err_t err_hint(err_t err, const char *format, ...) __attribute__((format(printf, 2, 3)));
err_t err_position(err_t err, int position);

/* A deep copy, owned by the caller. */
err_t err_copy(const struct err *err);

/* Frees err; NULL is allowed. */
void err_free(err_t err);

enum err_code err_code(const struct err *err);
const char *err_sqlstate(const struct err *err);
const char *err_code_name(enum err_code code);
/* The innermost message, without context. */
const char *err_message(const struct err *err);
const char *err_detail_get(const struct err *err); /* "" when none */
const char *err_hint_get(const struct err *err);   /* "" when none */
const char *err_context_get(const struct err *err); /* what err_wrap added; "" when none */
int err_position_get(const struct err *err);       /* 0 when none */
/* "outer context: inner context: message"; valid until err changes or is freed. */
const char *err_text(err_t err);

/* Passes an error on: if (expr) fails, return it. */
#define TRY(expression)                                                                            \
    do {                                                                                           \
        err_t try_err_ = (expression);                                                             \
        if (__builtin_expect(try_err_ != ERR_OK, 0)) {                                             \
            return try_err_;                                                                       \
        }                                                                                          \
    } while (0)

#endif
