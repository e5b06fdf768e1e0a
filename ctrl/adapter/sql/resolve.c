/*
 * Which function or operator a call means: PostgreSQL's candidate selection (manual, sections 10.2
 * "Operators" and 10.3 "Functions"; func_select_candidate in parse_func.c) over the catalogue of
 * core/data. In short:
 *
 *   1. exactly the argument types: that one. An operator with one untyped literal first tries
 *      the other side's type for it (date '2020-01-01' < 'x' parses 'x' as a date).
 *   2. drop those to which some argument cannot be converted implicitly.
 *   3. keep those with the most exact arguments, then those with the most preferred types of the
 *      arguments' categories (float8 among numbers, text among strings).
 *   4. for each untyped literal: text if some candidate takes a string there, else the one category
 *      all agree on, and its preferred type if some candidate has that.
 *   5. if all known arguments are of one type, take it for the untyped ones.
 *   6. one left: that one; several: 42725; none: 42883.
 *
 *   1 + '2'            step 1: int4 + int4, the literal read as one
 *   length('abc')      step 4: text, though bytea has a length, too
 *   power(2, 3)        step 3: float8, preferred among numbers, over numeric
 *
 * An untyped literal (TYPE_UNKNOWN) converts to anything, so it never excludes a candidate.
 * Polymorphic parameters (kind 0: comparison, greatest) take the kind the arguments agree on.
 *
 * Entry points: az_operator, az_function, and the aggregates' table at the end.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "ctrl/adapter/sql/typing.h"

#include <ctype.h>

enum { CANDIDATES_MAX = 256, CALL_ARGS_MAX = EXPR_ARGS_MAX };

/* A call being resolved: the candidates shrink from step to step, in place. */
struct call {
    const char *name;
    struct sx **args;
    uint32_t len;
    uint8_t kinds[CALL_ARGS_MAX]; /* of the arguments; TYPE_UNKNOWN for literals */
    const struct func *candidates[CANDIDATES_MAX];
    uint32_t candidates_len;
};

/* The last parameter of a variadic function repeats. */
static uint8_t param_kind(const struct func *f, uint32_t i)
{
    ASSERT(f->args_len > 0);
    uint32_t last = (uint32_t)f->args_len - 1;
    return f->args[i < last ? i : last];
}

/* No default arguments: overloads are entries of their own in the catalogue. */
static bool arity_fits(const struct func *f, uint32_t len)
{
    if ((f->flags & FUNC_VARIADIC) != 0) {
        return f->args_len > 0 && len >= f->args_len;
    }
    return f->args_len == len;
}

/* The kind the polymorphic arguments agree on; 0 when they do not. */
static uint8_t polymorphic_kind(const struct func *f, const uint8_t *kinds, uint32_t len)
{
    ASSERT(len > 0);
    uint8_t common = TYPE_UNKNOWN;
    for (uint32_t i = 0; i < len; i++) {
        if (param_kind(f, i) != 0 || kinds[i] == TYPE_UNKNOWN || kinds[i] == common) {
            continue;
        }
        if (common == TYPE_UNKNOWN) {
            common = kinds[i];
        } else if (kind_can_coerce(common, kinds[i], CAST_IMPLICIT)) {
            common = kinds[i];
        } else if (!kind_can_coerce(kinds[i], common, CAST_IMPLICIT)) {
            return 0;
        }
    }
    return common == TYPE_UNKNOWN ? TYPE_TEXT : common;
}

/* Must "any" arguments be of one type? Yes when the result is, or when they are compared. */
static bool is_agreeing(const struct func *f)
{
    return f->result == 0 || (f->flags & FUNC_PREDICATE_NULLSAFE) != 0;
}

/* The kind argument i is converted to; 0: polymorphic arguments that do not agree. */
static uint8_t target_kind(const struct func *f, const uint8_t *kinds, uint32_t len, uint32_t i)
{
    ASSERT(i < len);
    uint8_t kind = param_kind(f, i);
    if (kind == 0 && !is_agreeing(f)) {
        return kinds[i] == TYPE_UNKNOWN ? TYPE_TEXT : kinds[i];
    }
    return kind != 0 ? kind : polymorphic_kind(f, kinds, len);
}

/* Step 1. */
static bool is_exact(const struct func *f, const uint8_t *kinds, uint32_t len)
{
    ASSERT(arity_fits(f, len));
    for (uint32_t i = 0; i < len; i++) {
        if (target_kind(f, kinds, len, i) != kinds[i]) {
            return false;
        }
    }
    return true;
}

/* Step 2. */
static bool is_possible(const struct func *f, const uint8_t *kinds, uint32_t len)
{
    ASSERT(arity_fits(f, len));
    for (uint32_t i = 0; i < len; i++) {
        uint8_t to = target_kind(f, kinds, len, i);
        if (to == 0 || !kind_can_coerce(kinds[i], to, CAST_IMPLICIT)) {
            return false;
        }
    }
    return true;
}

/* All of the name and arity. Casts share the name "cast" and are found by cast_find only. */
static void collect(struct call *c)
{
    ASSERT(c->candidates_len == 0);
    size_t len = 0;
    const struct func *all = func_catalog(&len);
    for (size_t i = 0; i < len && c->candidates_len < CANDIDATES_MAX; i++) {
        if (strcmp(all[i].name, c->name) == 0 && (all[i].flags & FUNC_CAST) == 0 &&
            arity_fits(&all[i], c->len)) {
            c->candidates[c->candidates_len++] = &all[i];
        }
    }
}

/* The one with exactly these kinds; there can be only one. */
static const struct func *exact_match(const struct call *c, const uint8_t *kinds)
{
    for (uint32_t i = 0; i < c->candidates_len; i++) {
        if (is_exact(c->candidates[i], kinds, c->len)) {
            return c->candidates[i];
        }
    }
    return NULL;
}

/*
 * Keeps the candidates with the highest score. Step 3: keeps the candidates with the highest score.
 * Two passes, as the score is not remembered.
 */
static void keep_best(struct call *c, bool count_preferred)
{
    uint32_t best = 0, kept = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < c->candidates_len; i++) {
            uint32_t score = 0;
            for (uint32_t a = 0; a < c->len; a++) {
                uint8_t to = target_kind(c->candidates[i], c->kinds, c->len, a);
                bool exact = c->kinds[a] != TYPE_UNKNOWN && to == c->kinds[a];
                bool preferred = count_preferred && c->kinds[a] != TYPE_UNKNOWN &&
                                 type_is_preferred(to) &&
                                 type_category(to) == type_category(c->kinds[a]);
                score += exact || preferred ? 1 : 0;
            }
            if (pass == 0 && score > best) {
                best = score;
            } else if (pass == 1 && score == best) {
                c->candidates[kept++] = c->candidates[i];
            }
        }
    }
    c->candidates_len = kept;
    ASSERT(kept > 0);
}

/*
 * The category unknown arguments are taken for at position a; 0 when undecided. Step 4: the
 * category untyped arguments are taken for at position a; 0 when undecided.
 */
static char unknown_category(const struct call *c, uint32_t a)
{
    ASSERT(a < c->len && c->kinds[a] == TYPE_UNKNOWN);
    char category = 0;
    bool mixed = false;
    for (uint32_t i = 0; i < c->candidates_len; i++) {
        char here = type_category(target_kind(c->candidates[i], c->kinds, c->len, a));
        if (here == 'S') {
            return 'S';
        }
        mixed = mixed || (category != 0 && category != here);
        category = here;
    }
    return mixed ? 0 : category;
}

/* Step 4: those of the category; of them those of its preferred type, when there are any. */
static void keep_category(struct call *c, uint32_t a, char category)
{
    ASSERT(a < c->len && c->candidates_len > 0);
    bool preferred = false;
    for (uint32_t i = 0; i < c->candidates_len; i++) {
        uint8_t to = target_kind(c->candidates[i], c->kinds, c->len, a);
        preferred = preferred || (type_category(to) == category && type_is_preferred(to));
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->candidates_len; i++) {
        uint8_t to = target_kind(c->candidates[i], c->kinds, c->len, a);
        if (type_category(to) == category && (!preferred || type_is_preferred(to))) {
            c->candidates[kept++] = c->candidates[i];
        }
    }
    if (kept > 0) {
        c->candidates_len = kept;
    }
}

/*
 * Last resort: unknown arguments are taken for the type all known ones have. Step 5, the last
 * resort.
 */
static const struct func *assume_known(const struct call *c)
{
    uint8_t known = TYPE_UNKNOWN;
    for (uint32_t i = 0; i < c->len; i++) {
        if (c->kinds[i] != TYPE_UNKNOWN) {
            if (known != TYPE_UNKNOWN && known != c->kinds[i]) {
                return NULL;
            }
            known = c->kinds[i];
        }
    }
    if (known == TYPE_UNKNOWN) {
        return NULL;
    }
    const struct func *found = NULL;
    for (uint32_t i = 0; i < c->candidates_len; i++) {
        bool fits = true;
        for (uint32_t a = 0; a < c->len; a++) {
            uint8_t to = target_kind(c->candidates[i], c->kinds, c->len, a);
            fits = fits && kind_can_coerce(known, to, CAST_IMPLICIT);
        }
        if (fits && found != NULL) {
            return NULL;
        }
        found = fits ? c->candidates[i] : found;
    }
    return found;
}

/* The one function the call means; *ambiguous when several remain. Steps 2 to 6. */
static const struct func *select_candidate(struct call *c, bool *ambiguous)
{
    ASSERT(ambiguous != NULL && !*ambiguous);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->candidates_len; i++) {
        if (is_possible(c->candidates[i], c->kinds, c->len)) {
            c->candidates[kept++] = c->candidates[i];
        }
    }
    c->candidates_len = kept;
    if (kept <= 1) {
        return kept == 1 ? c->candidates[0] : NULL;
    }
    keep_best(c, false);
    if (c->candidates_len > 1) {
        keep_best(c, true);
    }
    for (uint32_t a = 0; a < c->len && c->candidates_len > 1; a++) {
        char category = c->kinds[a] == TYPE_UNKNOWN ? unknown_category(c, a) : 0;
        if (category != 0) {
            keep_category(c, a, category);
        }
    }
    if (c->candidates_len == 1) {
        return c->candidates[0];
    }
    const struct func *found = assume_known(c);
    *ambiguous = found == NULL;
    return found;
}

/* ---- building the call ----------------------------------------------------------------------- */

/* Operators and functions that give NULL for a NULL argument only. To say "may be NULL" wrongly
 * costs a null-safe comparison; to say "never" wrongly would give wrong answers, so what is not
 * listed may be. */
static bool result_nullable(const struct func *f, struct sx *const *args, uint32_t len)
{
    ASSERT(len == 0 || args != NULL);
    static const char *const total[] = {
        "=",  "<>",    "<",     "<=",     ">",   ">=",    "+",    "-",
        "*",  "/",     "%",     "~~",     "!~~", "~",     "!~",   "~~*",
        "||", "lower", "upper", "length", "abs", "floor", "ceil", "round"};
    if ((f->flags & FUNC_PREDICATE_NULLSAFE) != 0) {
        return false;
    }
    bool known = (f->flags & FUNC_CAST) != 0 && f->args[0] != TYPE_JSONB;
    for (size_t i = 0; i < ARRAY_LEN(total) && !known; i++) {
        known = strcmp(f->name, total[i]) == 0;
    }
    bool nullable = !known || (f->flags & FUNC_NOT_STRICT) != 0;
    for (uint32_t i = 0; i < len; i++) {
        nullable = nullable || args[i]->type.nullable || args[i]->type.kind == TYPE_JSONB;
    }
    return nullable;
}

/*
 * The call with its arguments converted. The result of a polymorphic function is what they agreed
 * on.
 */
static err_t build(struct az *az, const struct func *f, struct call *c, int location,
                   struct sx **out)
{
    ASSERT(f != NULL);
    struct sx *args[CALL_ARGS_MAX];
    for (uint32_t i = 0; i < c->len; i++) {
        struct type to = type_of((enum type_kind)target_kind(f, c->kinds, c->len, i));
        if (c->args[i]->type.kind == to.kind) {
            args[i] = c->args[i];
        } else {
            TRY(az_coerce(az, c->args[i], to, CAST_IMPLICIT, &args[i]));
        }
    }
    uint8_t result = f->result != 0 ? f->result : polymorphic_kind(f, c->kinds, c->len);
    ASSERT(result != 0);
    struct type type = type_of((enum type_kind)result);
    if (strcmp(f->name, "string_to_array") == 0) { /* text to the engine */
        type.oid = type_array_of(type.oid);
    }
    type.nullable = result_nullable(f, args, c->len);
    *out = sx_call(az->arena, f, type, args, c->len);
    (*out)->location = location;
    return ERR_OK;
}

/* Begins the resolution: the argument kinds, and all candidates. */
static void start(struct call *c, const char *name, struct sx **args, uint32_t len)
{
    ASSERT(name != NULL);
    ASSERT(len <= CALL_ARGS_MAX);
    *c = (struct call){.name = name, .args = args, .len = len};
    for (uint32_t i = 0; i < len; i++) {
        c->kinds[i] = args[i]->type.kind;
    }
    collect(c);
}

/* As messages show it: "integer, unknown". */
static const char *arg_list(struct az *az, struct sx *const *args, uint32_t len)
{
    const char *text = "";
    for (uint32_t i = 0; i < len; i++) {
        text = arena_printf(az->arena, "%s%s%s", text, i > 0 ? ", " : "",
                            az_type_name(az, &args[i]->type));
    }
    return text;
}

/* 42883 or 42725, with PostgreSQL's hints. */
static err_t operator_error(struct az *az, const char *name, struct sx **args, uint32_t len,
                            int location, bool ambiguous)
{
    ASSERT(len == 1 || len == 2);
    const char *left = len == 2 ? az_type_name(az, &args[0]->type) : "";
    const char *right = az_type_name(az, &args[len - 1]->type);
    err_t err = az_err(az, location, ERR_INVALID, ambiguous ? "42725" : "42883",
                       ambiguous ? "operator is not unique: %s%s%s %s"
                                 : "operator does not exist: %s%s%s %s",
                       left, len == 2 ? " " : "", name, right);
    return err_hint(err,
                    ambiguous ? "Could not choose a best candidate operator. You might need to add "
                                "explicit type casts."
                    : len == 2 ? "No operator matches the given name and argument types. You might "
                                 "need to add explicit type casts."
                               : "No operator matches the given name and argument type. You might "
                                 "need to add an explicit type cast.");
}

/* text || anything, anything || text: the other side is written as text (PostgreSQL has anynonarray
 * || text for that). */
static err_t text_concat(struct az *az, struct sx **args, int location, struct sx **out, bool *done)
{
    ASSERT(!*done);
    uint8_t a = args[0]->type.kind, b = args[1]->type.kind;
    bool texts = a == TYPE_TEXT || b == TYPE_TEXT || a == TYPE_UNKNOWN || b == TYPE_UNKNOWN;
    if (!texts || a == TYPE_BYTEA || b == TYPE_BYTEA) {
        return ERR_OK;
    }
    struct sx *l = NULL, *r = NULL;
    TRY(az_coerce(az, args[0], type_of(TYPE_TEXT), CAST_EXPLICIT, &l));
    TRY(az_coerce(az, args[1], type_of(TYPE_TEXT), CAST_EXPLICIT, &r));
    *done = true;
    return az_operator(az, "||", l, r, location, out);
}

/* Do equal values of the type have one text? Then so do equal arrays of it. */
static bool prints_equals_alike(uint32_t oid)
{
    struct type type;
    return type_of_oid(oid, -1, &type) && type.kind != TYPE_NUMERIC && type.kind != TYPE_FLOAT4 &&
           type.kind != TYPE_FLOAT8 && type.kind != TYPE_INTERVAL && type.kind != TYPE_JSONB;
}

/*
 * Arrays are text to the engine, and equal when their texts are, as far as their elements are: no
 * other operator may take them for text. ARRAY(subquery), which psql asks for, is never anything
 * but empty.
 */
static err_t check_no_arrays(struct az *az, const char *name, struct sx **args, uint32_t len,
                             int location)
{
    bool equality = strcmp(name, "=") == 0 || strcmp(name, "<>") == 0;
    uint32_t a = type_element_of(args[0]->type.oid);
    uint32_t b = len == 2 ? type_element_of(args[1]->type.oid) : 0;
    bool alike = (a == 0 || prints_equals_alike(a)) && (b == 0 || prints_equals_alike(b));
    bool free = equality && alike;
    if (equality && a != 0 && b != 0 && a != b) {
        return operator_error(az, name, args, len, location, false);
    }
    for (uint32_t i = 0; i < len; i++) {
        free = free || (type_element_of(args[i]->type.oid) != 0 && sx_has_subquery(args[i]));
    }
    for (uint32_t i = 0; i < len && !free; i++) {
        if (type_element_of(args[i]->type.oid) != 0) {
            return AZ_UNSUPPORTED(az, location, "operator %s of arrays is not supported", name);
        }
    }
    return ERR_OK;
}

/* As char(n) is stored: without the blanks at the end. */
static err_t without_blanks(struct az *az, struct sx *sx, struct sx **out)
{
    static const uint8_t kinds[] = {TYPE_TEXT};
    struct type to = type_of(TYPE_TEXT);
    to.oid = OID_BPCHAR;
    if (sx->type.oid == OID_BPCHAR && sx->type.typmod >= 0) {
        *out = sx; /* they are gone already */
        return ERR_OK;
    }
    TRY(az_coerce(az, sx, to, CAST_IMPLICIT, &sx));
    ASSERT(sx->type.kind == TYPE_TEXT);
    to.nullable = sx->type.nullable;
    if (sx->kind == SX_LIT) {
        struct sx *lit = arena_memdup(az->arena, sx, sizeof(*sx));
        while (!lit->lit.null && lit->lit.len > 0 && lit->lit.s[lit->lit.len - 1] == ' ') {
            lit->lit.len--;
        }
        *out = lit;
        return ERR_OK;
    }
    const struct func *trim = func_find("rtrim", kinds, ARRAY_LEN(kinds));
    ASSERT(trim != NULL);
    int location = sx->location;
    *out = sx_call(az->arena, trim, to, &sx, 1);
    (*out)->location = location;
    return ERR_OK;
}

err_t az_blank_operands(struct az *az, const char *name, struct sx **args)
{
    static const char *const comparisons[] = {"=", "<>", "<", "<=", ">", ">="};
    bool compares = false, padded = false;
    for (size_t i = 0; i < ARRAY_LEN(comparisons); i++) {
        compares = compares || strcmp(name, comparisons[i]) == 0;
    }
    for (int i = 0; compares && i < 2; i++) {
        uint32_t oid = args[i]->type.oid;
        padded = padded || oid == OID_BPCHAR;
        compares = oid == OID_BPCHAR || oid == OID_VARCHAR || type_is_unknown(args[i]);
    }
    if (!compares || !padded) {
        return ERR_OK;
    }
    TRY(without_blanks(az, args[0], &args[0]));
    return without_blanks(az, args[1], &args[1]);
}

/* left NULL: a prefix operator. != is another spelling of <>. */
err_t az_operator(struct az *az, const char *name, struct sx *left, struct sx *right, int location,
                  struct sx **out)
{
    ASSERT(right != NULL);
    struct sx *args[2] = {left, right};
    uint32_t len = left == NULL ? 1 : 2;
    struct sx **from = left == NULL ? args + 1 : args;
    if (strcmp(name, "!=") == 0) {
        name = "<>";
    }
    for (uint32_t i = 0; i < 2 && len == 2; i++) { /* an untyped literal beside an array is one */
        const struct sx *other = args[1 - i];
        if (type_is_unknown(args[i]) && type_element_of(other->type.oid) != 0) {
            TRY(az_coerce(az, args[i], other->type, CAST_IMPLICIT, &args[i]));
        }
    }
    TRY(check_no_arrays(az, name, from, len, location));
    if (len == 2) {
        TRY(az_now_operands(az, name, args));
        TRY(az_blank_operands(az, name, args));
    }
    struct call c;
    start(&c, name, from, len);
    const struct func *f = exact_match(&c, c.kinds);
    /*
     * Step 1's second half: the literal is of the other side's type, if there is such an operator.
     */
    if (f == NULL && len == 2 && (c.kinds[0] == TYPE_UNKNOWN) != (c.kinds[1] == TYPE_UNKNOWN)) {
        uint8_t known = c.kinds[0] == TYPE_UNKNOWN ? c.kinds[1] : c.kinds[0];
        uint8_t both[2] = {known, known};
        f = exact_match(&c, both);
    }
    bool ambiguous = false;
    if (f == NULL) {
        f = select_candidate(&c, &ambiguous);
    }
    if (f == NULL && strcmp(name, "||") == 0 && len == 2) {
        bool done = false;
        TRY(text_concat(az, args, location, out, &done));
        if (done) {
            return ERR_OK;
        }
    }
    if (f == NULL) {
        return operator_error(az, name, from, len, location, ambiguous);
    }
    return build(az, f, &c, location, out);
}

/* type(x) is a cast when no such function exists: int4('5'), text(1). *out NULL: it is none. */
static err_t function_as_cast(struct az *az, const char *name, struct sx *arg, struct sx **out)
{
    struct type to;
    *out = NULL;
    if (type_of_name(name, -1, &to) && az_can_coerce(arg, to, CAST_EXPLICIT)) {
        return az_coerce(az, arg, to, CAST_EXPLICIT, out);
    }
    return ERR_OK;
}

/* A function by name; aggregates and catalog functions were looked for before. */
/*
 * As check_no_arrays, for functions. One that takes any type compares or converts values; one of
 * texts is none of arrays to PostgreSQL. concat writes its arguments as text, which arrays are.
 */
static err_t check_array_args(struct az *az, const struct func *f, struct sx *const *args,
                              uint32_t len, int location)
{
    static const char *const of_any[] = {"greatest", "least", "to_jsonb", "jsonb_build_array",
                                         "jsonb_build_object"};
    bool array = false, any = false;
    ASSERT(f != NULL);
    for (uint32_t i = 0; i < len; i++) {
        array = array || (type_element_of(args[i]->type.oid) != 0 && !sx_has_subquery(args[i]));
    }
    if (!array || strncmp(f->name, "concat", strlen("concat")) == 0) {
        return ERR_OK;
    }
    for (size_t i = 0; i < ARRAY_LEN(of_any); i++) {
        any = any || strcmp(f->name, of_any[i]) == 0;
    }
    return any ? AZ_UNSUPPORTED(az, location, "%s of arrays is not supported", f->name)
               : az_no_function(az, f->name, args, len, location);
}

err_t az_function(struct az *az, const char *name, struct sx **args, uint32_t args_len,
                  int location, struct sx **out)
{
    ASSERT(name != NULL && (args_len == 0 || args != NULL));
    if (args_len > CALL_ARGS_MAX) {
        return az_err(az, location, ERR_INVALID, "54023",
                      "cannot pass more than %d arguments to a function", CALL_ARGS_MAX);
    }
    struct call c;
    start(&c, name, args, args_len);
    bool ambiguous = false;
    const struct func *f = exact_match(&c, c.kinds);
    if (f == NULL && args_len == 1) {
        struct sx *cast = NULL;
        TRY(function_as_cast(az, name, args[0], &cast));
        if (cast != NULL && (c.candidates_len == 0 || type_is_unknown(args[0]))) {
            *out = cast;
            return ERR_OK;
        }
    }
    if (f == NULL) {
        f = select_candidate(&c, &ambiguous);
    }
    if (f != NULL) {
        TRY(check_array_args(az, f, args, args_len, location));
        return build(az, f, &c, location, out);
    }
    err_t err =
        az_err(az, location, ERR_INVALID, ambiguous ? "42725" : "42883", "function %s(%s) %s", name,
               arg_list(az, args, args_len), ambiguous ? "is not unique" : "does not exist");
    return err_hint(err, ambiguous
                             ? "Could not choose a best candidate function. You might need to add "
                               "explicit type casts."
                             : "No function matches the given name and argument types. You might "
                               "need to add explicit type casts.");
}

/* ---- set-returning functions ----------------------------------------------------------------- */

bool az_is_table_function(const char *name)
{
    const struct table_func *func;
    bool found = false;
    for (uint32_t id = 1; !found && (func = table_func_by_id(id)) != NULL; id++) {
        found = strcmp(func->name, name) == 0;
    }
    return found;
}

/* They take part in the selection as if they were plain ones of the same arguments. */
static void collect_tables(struct az *az, struct call *c)
{
    const struct table_func *func;
    c->candidates_len = 0;
    for (uint32_t id = 1; (func = table_func_by_id(id)) != NULL; id++) {
        if (strcmp(func->name, c->name) != 0 || func->args_len != c->len) {
            continue;
        }
        STATIC_ASSERT((int)TABLE_FUNC_ARGS_MAX <= (int)FUNC_ARGS_MAX, "arguments fit");
        struct func *plain = ARENA_NEW(az->arena, struct func);
        *plain = (struct func){
            .id = id, .name = func->name, .args_len = func->args_len, .result = TYPE_TEXT};
        memcpy(plain->args, func->args, sizeof(func->args));
        c->candidates[c->candidates_len++] = plain;
    }
}

/* The elements' type is known here only: to the engine an array is text. */
static err_t resolve_unnest(struct az *az, struct call *c, int location,
                            const struct table_func **func, struct type *types)
{
    uint32_t element = type_element_of(c->args[0]->type.oid);
    *func = table_func_by_id(c->candidates[0]->id);
    if (type_is_unknown(c->args[0])) {
        err_t err = az_err(az, location, ERR_INVALID, "42725",
                           "function unnest(unknown) is not unique");
        return err_hint(err, "Could not choose a best candidate function. You might need to add "
                             "explicit type casts.");
    }
    if (element == 0 || !type_of_oid(element, -1, &types[0])) {
        return az_no_function(az, c->name, c->args, 1, location);
    }
    return ERR_OK;
}

/* Types of the columns: the catalogue's, unless they are an array's elements. */
static void table_types(const struct table_func *func, struct type *types)
{
    for (uint32_t i = 0; i < func->cols_len; i++) {
        if (func->cols[i] != 0) {
            types[i] = type_of((enum type_kind)func->cols[i]);
        }
        types[i].oid = func->array != 0 ? func->array : types[i].oid;
        types[i].nullable = func->nullable;
    }
}

err_t az_table_function(struct az *az, const char *name, struct sx **args, uint32_t args_len,
                        int location, const struct table_func **func, struct type *types)
{
    struct call c = {.name = name, .args = args, .len = args_len};
    bool ambiguous = false, array = false;
    if (args_len == 0 || args_len > TABLE_FUNC_ARGS_MAX) {
        return az_no_function(az, name, args, args_len, location);
    }
    for (uint32_t i = 0; i < args_len; i++) {
        c.kinds[i] = args[i]->type.kind;
        array = array || type_element_of(args[i]->type.oid) != 0;
    }
    collect_tables(az, &c);
    if (c.candidates_len > 0 && strcmp(name, "unnest") == 0) {
        TRY(resolve_unnest(az, &c, location, func, types));
        table_types(*func, types);
        return ERR_OK;
    }
    const struct func *found = exact_match(&c, c.kinds);
    found = found != NULL ? found : select_candidate(&c, &ambiguous);
    if (ambiguous) {
        err_t err = az_err(az, location, ERR_INVALID, "42725", "function %s(%s) is not unique",
                           name, arg_list(az, args, args_len));
        return err_hint(err, "Could not choose a best candidate function. You might need to add "
                             "explicit type casts.");
    }
    if (found == NULL || array) {
        return az_no_function(az, name, args, args_len, location);
    }
    for (uint32_t i = 0; i < args_len; i++) {
        if (args[i]->type.kind != found->args[i]) {
            struct type to = type_of((enum type_kind)found->args[i]);
            TRY(az_coerce(az, args[i], to, CAST_IMPLICIT, &args[i]));
        }
    }
    *func = table_func_by_id(found->id);
    table_types(*func, types);
    return ERR_OK;
}

/* ---- aggregates ------------------------------------------------------------------------------ */

/*
 * The aggregates the engine has, by their SQL names. Variances are not here: agg.c writes them with
 * other aggregates, but for floats.
 */
static const struct {
    const char *name;
    enum agg_func func;
} agg_names[] = {
    {"count", AGG_COUNT},
    {"sum", AGG_SUM},
    {"avg", AGG_AVG},
    {"min", AGG_MIN},
    {"max", AGG_MAX},
    {"bool_and", AGG_BOOL_AND},
    {"bool_or", AGG_BOOL_OR},
    {"every", AGG_BOOL_AND},
    {"string_agg", AGG_STRING_AGG},
    {"array_agg", AGG_ARRAY_AGG},
    {"jsonb_agg", AGG_JSONB_AGG},
    {"jsonb_object_agg", AGG_JSONB_OBJECT_AGG},
    {"bit_and", AGG_BIT_AND},
    {"bit_or", AGG_BIT_OR},
    {"bit_xor", AGG_BIT_XOR},
};

bool agg_of_name(const char *name, enum agg_func *out)
{
    for (size_t i = 0; i < ARRAY_LEN(agg_names); i++) {
        if (strcmp(agg_names[i].name, name) == 0) {
            *out = agg_names[i].func;
            return true;
        }
    }
    return false;
}

/* For messages. */
static const char *agg_name(enum agg_func func)
{
    for (size_t i = 0; i < ARRAY_LEN(agg_names); i++) {
        if (agg_names[i].func == func) {
            return agg_names[i].name;
        }
    }
    return "?";
}

/* PostgreSQL's message for a call nothing matches. */
err_t az_no_function(struct az *az, const char *name, struct sx *const *args, uint32_t len,
                     int location)
{
    err_t err = az_err(az, location, ERR_INVALID, "42883", "function %s(%s) does not exist", name,
                       arg_list(az, args, len));
    return err_hint(err, "No function matches the given name and argument types. You might need "
                         "to add explicit type casts.");
}

/* The result type, from core/data. min and max of strings (varchar, name) are text, as in
 * PostgreSQL; other kinds keep their SQL type, without its modifier. */
err_t az_aggregate(struct az *az, enum agg_func func, struct sx *arg, int location,
                   struct type *out)
{
    ASSERT(arg->type.kind != TYPE_UNKNOWN);
    bool best = func == AGG_MIN || func == AGG_MAX;
    if (best && type_element_of(arg->type.oid) != 0) { /* text, to the engine: not their order */
        return AZ_UNSUPPORTED(az, location, "%s of arrays is not supported", agg_name(func));
    }
    if (!agg_result(func, (enum type_kind)arg->type.kind, out)) {
        return az_no_function(az, agg_name(func), &arg, 1, location);
    }
    if (best && out->kind == arg->type.kind &&
        arg->type.kind != TYPE_TEXT) {
        *out = arg->type;
        out->typmod = -1;
    }
    out->nullable = func != AGG_COUNT && func != AGG_COUNT_ALL;
    return ERR_OK;
}
