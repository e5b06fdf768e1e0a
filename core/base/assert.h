/*
 * Assertions that stay on in release: they guard invariants whose failure means that going on
 * would corrupt state. Input from outside is never asserted, it is validated and refused.
 */
#ifndef TAILRACE_CORE_BASE_ASSERT_H
#define TAILRACE_CORE_BASE_ASSERT_H

#include <stddef.h>

/* Prints where and what, with a backtrace, and aborts. Any thread. */
_Noreturn void assert_failed(const char *file, int line, const char *function, const char *what);

#define ASSERT(condition)                                                                          \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0)) {                                                   \
            assert_failed(__FILE__, __LINE__, __func__, #condition);                               \
        }                                                                                          \
    } while (0)

/* A place the program cannot reach. */
#define UNREACHABLE() assert_failed(__FILE__, __LINE__, __func__, "unreachable")

/* Evaluated at compile time. */
#define STATIC_ASSERT(condition, message) _Static_assert(condition, message)

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))
#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))

#endif
