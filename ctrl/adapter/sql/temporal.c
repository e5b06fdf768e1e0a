/*
 * mz_now(): the logical time a query is answered for.
 *
 * A query that is answered once has one such time: mz_now() is a literal, whatever it stands in.
 * The session chooses the time by what the query reads, so it may have to plan again (needs_now).
 *
 * In what is maintained the time moves, and mz_now() stays itself (SX_NOW). To the passes it is an
 * expression without columns whose value nobody knows: all they do holds at each time by itself,
 * so conditions with it move like any other. What the engine can maintain is decided at the end, in
 * emission: a condition that compares it with something else is a bound of a temporal filter.
 *
 *   WHERE a > 1 AND mz_now() <= ts + INTERVAL '5 minutes'
 *
 *   Temporal filter mz_now() <= #2 over MFP: filter a > 1, map ts + INTERVAL '5 minutes'
 *
 * Types: times are microseconds since 1970, as timestamps and AS OF. Where mz_now() is compared
 * with a timestamp or a bigint, it becomes one and not the other way round: that never fails, so
 * that a row of before 1970 is no error.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "ctrl/adapter/sql/typing.h"

/* ---- analysis -------------------------------------------------------------------------------- */

struct sx *az_now(struct az *az)
{
    struct type type = type_of(TYPE_MZ_TIMESTAMP);
    type.nullable = false;
    if (az->symbolic_now || az->maintained) {
        return sx_new(az->arena, SX_NOW, type);
    }
    az->needs_now = true;
    ASSERT(az->cx->mz_now <= INT64_MAX);
    return sx_lit(az->arena, type, (struct datum){.i = (int64_t)az->cx->mz_now});
}

/* mz_now(), or a time that could be its value. */
static bool is_now(const struct sx *sx)
{
    return sx->type.kind == TYPE_MZ_TIMESTAMP &&
           (sx->kind == SX_NOW || (sx->kind == SX_LIT && !sx->lit.null && sx->lit.i >= 0));
}

/* '2024-01-01' is a timestamp beside mz_now(), '1700000000000000' a time as it stands. */
static bool is_timestamp_text(const struct sx *sx)
{
    bool digits = true;
    if (!type_is_unknown(sx) || sx->kind != SX_LIT || sx->lit.null) {
        return false;
    }
    for (uint32_t i = 0; i < sx->lit.len; i++) {
        digits = digits && sx->lit.s[i] >= '0' && sx->lit.s[i] <= '9';
    }
    return !digits;
}

/* What mz_now() is compared as with a value of such a kind; 0: as itself. */
static enum type_kind compared_as(const struct sx *other)
{
    if (is_timestamp_text(other)) {
        return TYPE_TIMESTAMPTZ;
    }
    switch (other->type.kind) {
    case TYPE_DATE:
    case TYPE_TIMESTAMP:
        return TYPE_TIMESTAMP;
    case TYPE_TIMESTAMPTZ:
        return TYPE_TIMESTAMPTZ;
    case TYPE_INT2:
    case TYPE_INT4:
    case TYPE_INT8:
        return TYPE_INT8;
    default:
        return 0;
    }
}

struct sx *sx_now_as(struct arena *arena, const struct sx *sx, enum type_kind kind)
{
    ASSERT(is_now(sx) && plan_temporal_takes(kind));
    struct sx *copy = arena_memdup(arena, sx, sizeof(*sx));
    copy->type = type_of(kind);
    copy->type.nullable = false;
    return copy;
}

err_t az_now_operands(struct az *az, const char *name, struct sx **args)
{
    static const char *const comparisons[] = {"=", "<>", "<", "<=", ">", ">="};
    bool compares = false;
    for (size_t i = 0; i < ARRAY_LEN(comparisons); i++) {
        compares = compares || strcmp(name, comparisons[i]) == 0;
    }
    for (int s = 0; compares && s < 2; s++) {
        enum type_kind kind = is_now(args[s]) ? compared_as(args[1 - s]) : 0;
        if (kind != 0) {
            args[s] = sx_now_as(az->arena, args[s], kind);
            return az_coerce(az, args[1 - s], type_of(kind), CAST_IMPLICIT, &args[1 - s]);
        }
    }
    return ERR_OK;
}

/* ---- emission -------------------------------------------------------------------------------- */

bool sx_has_now(const struct sx *sx)
{
    bool found = sx->kind == SX_NOW;
    for (uint32_t i = 0; i < sx->args_len && !found; i++) {
        found = sx_has_now(sx->args[i]);
    }
    return found;
}

/* mz_now() op bound; swapped: bound op mz_now(); negated: NOT of it. 0: it has no such form. */
static uint8_t cmp_of(const char *op, bool swapped, bool negated)
{
    static const struct {
        const char *op;
        uint8_t plain, swapped;
    } ops[] = {{"<", PLAN_TEMPORAL_BEFORE, PLAN_TEMPORAL_AFTER},
               {"<=", PLAN_TEMPORAL_UNTIL, PLAN_TEMPORAL_FROM},
               {">", PLAN_TEMPORAL_AFTER, PLAN_TEMPORAL_BEFORE},
               {">=", PLAN_TEMPORAL_FROM, PLAN_TEMPORAL_UNTIL},
               {"=", PLAN_TEMPORAL_AT, PLAN_TEMPORAL_AT}};
    static const uint8_t opposite[PLAN_TEMPORAL_CMP_MAX + 1] = {
        [PLAN_TEMPORAL_BEFORE] = PLAN_TEMPORAL_FROM,
        [PLAN_TEMPORAL_UNTIL] = PLAN_TEMPORAL_AFTER,
        [PLAN_TEMPORAL_AFTER] = PLAN_TEMPORAL_UNTIL,
        [PLAN_TEMPORAL_FROM] = PLAN_TEMPORAL_BEFORE};
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        if (strcmp(ops[i].op, op) == 0) {
            uint8_t cmp = swapped ? ops[i].swapped : ops[i].plain;
            return negated ? opposite[cmp] : cmp;
        }
    }
    return 0;
}

bool sx_temporal(const struct sx *sx, uint8_t *cmp, struct sx **bound)
{
    ASSERT(cmp != NULL && bound != NULL);
    bool negated = sx->kind == SX_NOT;
    const struct sx *call = negated ? sx->args[0] : sx;
    if (call->kind != SX_CALL || call->args_len != 2) {
        return false;
    }
    bool swapped = call->args[1]->kind == SX_NOW;
    const struct sx *now = call->args[swapped ? 1 : 0];
    *bound = call->args[swapped ? 0 : 1];
    *cmp = cmp_of(call->func->name, swapped, negated);
    return now->kind == SX_NOW && *cmp != 0 && !sx_has_now(*bound) &&
           now->type.kind == (*bound)->type.kind && plan_temporal_takes((*bound)->type.kind);
}

err_t sx_now_refused(void)
{
    return err_hint(err_sql(ERR_UNSUPPORTED, "0A000",
                            "mz_now() is not supported here in what is maintained"),
                    "It can be compared, by =, <, <=, > or >=, with an expression without it, in a "
                    "condition that is not under OR: mz_now() <= created_at + INTERVAL '1 hour'.");
}
