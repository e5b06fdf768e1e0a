/* UTF-8 validation of bytes from outside. */
#ifndef TAILRACE_CORE_BASE_UTF8_H
#define TAILRACE_CORE_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* True when data is well-formed UTF-8 (Unicode 15, table 3-7: no surrogates, no overlongs). */
bool utf8_valid(const void *data, size_t len);
/* Bytes of the well-formed character at data, of which left > 0 bytes are there; 0 when none is. */
size_t utf8_sequence_len(const void *data, size_t left);
/* Number of characters of a valid string. */
size_t utf8_chars(const void *data, size_t len);

#endif
