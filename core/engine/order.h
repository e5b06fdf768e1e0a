/*
 * Values as bytes whose memcmp order is the SQL order (type.h: datum_compare), so that ordered
 * state compares without types. Self-delimiting: encodings of several columns can be concatenated.
 * Equal values have equal bytes (1.0 and 1.00), so the bytes are for order, not for keeping values.
 * jsonb is ordered by its text.
 */
#ifndef TAILRACE_CORE_ENGINE_ORDER_H
#define TAILRACE_CORE_ENGINE_ORDER_H

#include "core/data/batch.h"

/* Appends; desc complements the value's bytes. */
void order_encode(uint8_t kind, const struct datum *value, bool desc, bool nulls_first,
                  struct buf *out);
/* A value as batch_encode_row writes it, for the kinds aggregates compute. */
void order_append_datum(uint8_t kind, const struct datum *value, struct buf *out);

#endif
