/* Private to ctrl/adapter/sql: facts about types that typing.c, resolve.c and others share. */
#ifndef TAILRACE_CTRL_ADAPTER_SQL_TYPING_H
#define TAILRACE_CTRL_ADAPTER_SQL_TYPING_H

#include "ctrl/adapter/sql/sql_internal.h"

enum { OID_REGCLASS = 2205, OID_REGTYPE = 2206, OID_REGNAMESPACE = 4089, OID_REGROLE = 4096 };
enum { OID_BPCHAR = 1042, OID_VARCHAR = 1043 };

/* typcategory and typispreferred of pg_type. */
char type_category(uint8_t kind);
bool type_is_preferred(uint8_t kind);
bool kind_can_coerce(uint8_t from, uint8_t to, enum cast_context context);
struct type type_bool(bool nullable);
/* regclass, regtype...: an oid that is written as a name. */
bool type_is_reg(const struct type *type);
/* INTERVAL DAY TO SECOND(3): the typmod of its fields and precision. */
int32_t interval_typmod(int mask, bool precise, int precision);
bool interval_has_fields(const struct type *type);
/* A literal of such a type. */
err_t interval_parse_fields(struct arena *arena, const struct type *type, const char *text,
                            struct datum *out);

#endif
