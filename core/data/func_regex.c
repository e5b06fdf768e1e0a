/*
 * LIKE and regular expressions.
 *
 * LIKE has a matcher of its own over bytes: in UTF-8 equal characters are equal bytes, so only _
 * and the way back after a % need to know where characters begin. ILIKE folds both sides first, the
 * pattern once if it is constant.
 *
 *   'abc' LIKE 'a%'          true
 *   'a%c' LIKE 'a\%c'        true
 *   'ÀB' ILIKE 'àb'          true
 *   'foobar' ~ '^f.*r$'      true
 *   'abc' LIKE 'abc\'        22025: the pattern ends with its escape character
 *   'abc' ~ '('              2201B
 *
 * Regular expressions are PCRE2's (regex.h); a node keeps the last pattern it compiled. Patterns
 * from a column are compiled when they change. Beyond the bound of steps the row fails.
 */
#include "core/data/regex.h"

#include "core/data/kernel.h"

#include <unicode/uchar.h>

static const struct fault fault_like_escape = {"22025",
                                               "LIKE pattern must not end with escape character"};
static const struct fault fault_escape_string = {"22025", "invalid escape string"};

/* ---- LIKE ------------------------------------------------------------------------------------ */

enum like { LIKE_TRUE, LIKE_FALSE, LIKE_BAD };

/*
 * One literal element of the pattern, or _: does it match at s? *p moves behind it. A backslash
 * makes the next character literal; at the end of the pattern it is an error.
 */
static bool match_one(const char **p, const char *p_end, const char **s, bool *bad)
{
    ASSERT(*p < p_end);
    if (**p == '_') {
        (*p)++;
        *s += regex_char_len(*s);
        return true;
    }
    if (**p == '\\') {
        (*p)++;
        if (*p == p_end) {
            *bad = true;
            return false;
        }
    }
    return *(*p)++ == *(*s)++;
}

/*
 * Where what stands behind a % can begin at the earliest: a plain character begins with its own
 * first byte, which no byte within another character equals.
 */
static const char *next_start(const char *s, const char *s_end, const char *p, const char *p_end)
{
    if (p == p_end || *p == '%' || *p == '_' || *p == '\\') {
        return s;
    }
    const char *found = memchr(s, *p, (size_t)(s_end - s));
    return found != NULL ? found : s_end;
}

/*
 * Greedy with one point of return: after a % the last one is enough to come back to, so the time is
 * at most the product of the lengths.
 */
static enum like like_match(struct slice text, struct slice pattern)
{
    const char *s = text.s;
    const char *s_end = s + text.len;
    const char *p = pattern.s;
    const char *p_end = p + pattern.len;
    const char *back_p = NULL;
    const char *back_s = NULL;
    bool bad = false;
    while (s < s_end) {
        if (p < p_end && *p == '%') {
            back_p = ++p;
            s = back_s = next_start(s, s_end, p, p_end);
            continue;
        }
        if (p < p_end && match_one(&p, p_end, &s, &bad)) {
            continue;
        }
        if (bad) {
            return LIKE_BAD;
        }
        if (back_p == NULL) {
            return LIKE_FALSE;
        }
        back_s += regex_char_len(back_s);
        s = back_s = next_start(back_s, s_end, back_p, p_end);
        p = back_p;
    }
    while (p < p_end && *p == '%') {
        p++;
    }
    return p == p_end ? LIKE_TRUE : LIKE_FALSE;
}

/*
 * Lower case into the bump memory; ASCII in place of ICU where that is enough. Lower case may have
 * more bytes than upper case, but never twice as many.
 */
static struct slice fold(struct eval *ev, struct slice s)
{
    if (eval_over(ev)) {
        return (struct slice){"", 0};
    }
    char *out = eval_alloc(ev, s.len * 2 + 1);
    size_t len = 0;
    for (size_t k = 0; k < s.len;) {
        uint8_t ch = (uint8_t)s.s[k];
        if (ch < 0x80) {
            out[len++] = (char)(ch >= 'A' && ch <= 'Z' ? ch | 0x20 : ch);
            k++;
            continue;
        }
        size_t n = regex_char_len(s.s + k);
        uint32_t cp = ch & (0x7Fu >> n);
        for (size_t j = 1; j < n; j++) {
            cp = cp << 6 | ((uint8_t)s.s[k + j] & 0x3F);
        }
        len += utf8_put((uint32_t)u_tolower((UChar32)cp), out + len);
        k += n;
    }
    return (struct slice){out, len};
}

/*
 * A constant %literal% is a search for the literal, by far the most common pattern. False when the
 * pattern is of another form: then nothing was done.
 */
static bool like_search(struct call *c, bool negate)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    struct slice p = ARG(c, 1, struct slice, 0);
    if (!arg_is_const(c, 1) || p.len < 3 || p.s[0] != '%' || p.s[p.len - 1] != '%') {
        return false;
    }
    for (size_t k = 1; k + 1 < p.len; k++) {
        if (p.s[k] == '%' || p.s[k] == '_' || p.s[k] == '\\') {
            return false;
        }
    }
    FOR_ROWS(c, i) {
        struct slice s = ARG(c, 0, struct slice, i);
        bool found = memmem(s.s, s.len, p.s + 1, p.len - 2) != NULL;
        ((uint8_t *)c->out)[i] = found != negate;
    }
    return true;
}

/* negate: NOT LIKE; a NULL never gets here. */
static void like(struct call *c, bool negate, bool ignore_case)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    struct slice folded = {0};
    if (!ignore_case && like_search(c, negate)) {
        return;
    }
    if (ignore_case && arg_is_const(c, 1)) {
        folded = fold(c->ev, ARG(c, 1, struct slice, 0));
    }
    FOR_ROWS(c, i) {
        struct slice s = ARG(c, 0, struct slice, i);
        struct slice p = ARG(c, 1, struct slice, i);
        if (ignore_case) {
            s = fold(c->ev, s);
            p = arg_is_const(c, 1) ? folded : fold(c->ev, p);
        }
        enum like m = like_match(s, p);
        ((uint8_t *)c->out)[i] = (m == LIKE_TRUE) != negate;
        if (m == LIKE_BAD) {
            call_fail(c, i, &fault_like_escape);
        }
    }
}

KERNEL(k_like, 2, 2, TYPE_BOOL, like(c, false, false))
KERNEL(k_not_like, 2, 2, TYPE_BOOL, like(c, true, false))
KERNEL(k_ilike, 2, 2, TYPE_BOOL, like(c, false, true))
KERNEL(k_not_ilike, 2, 2, TYPE_BOOL, like(c, true, true))

/*
 * like_escape(pattern, escape): the pattern with backslash as its escape character. x LIKE p ESCAPE
 * 'e' becomes x LIKE like_escape(p, 'e').
 */
void k_like_escape(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        struct slice p = ARG(c, 0, struct slice, i);
        struct slice e = ARG(c, 1, struct slice, i);
        if (e.len > 0 && regex_char_len(e.s) != e.len) {
            call_fail(c, i, &fault_escape_string);
            continue;
        }
        bool same = e.len == 1 && e.s[0] == '\\';
        struct buf *buf = &c->ev->buf;
        buf_clear(buf);
        bool after_escape = false;
        for (size_t k = 0; k < p.len;) {
            size_t n = regex_char_len(p.s + k);
            bool is_escape = e.len == n && memcmp(p.s + k, e.s, n) == 0;
            if (is_escape && !after_escape && !same) {
                buf_append_byte(buf, '\\');
                after_escape = true;
            } else if (p.s[k] == '\\' && !same) {
                buf_append_str(buf, after_escape ? "\\" : "\\\\");
                after_escape = false;
            } else {
                buf_append(buf, p.s + k, n);
                after_escape = false;
            }
            k += n;
        }
        call_text(c, i, buf->data, buf->len);
    }
}

/* ---- SIMILAR TO ------------------------------------------------------------------------------ */

/*
 * An SQL regular expression as one of the other kind: % is any text, _ any character, parentheses
 * only group; what is special there and not in SQL is escaped. In [...] all but a backslash stands
 * for itself. As PostgreSQL's similar_escape_internal. False: separators, which only SUBSTRING has.
 */
static bool similar_pattern(struct slice p, struct slice e, struct buf *out)
{
    bool in_class = false, after_escape = false;
    buf_append_str(out, "^(?:");
    for (size_t k = 0; k < p.len;) {
        size_t n = regex_char_len(p.s + k);
        char ch = n == 1 ? p.s[k] : 'x';
        if (after_escape) {
            if (ch == '"' && !in_class) {
                return false;
            }
            buf_append_byte(out, '\\');
            buf_append(out, p.s + k, n);
            after_escape = false;
        } else if (e.len == n && memcmp(p.s + k, e.s, n) == 0) {
            after_escape = true;
        } else if (in_class) {
            buf_append_str(out, ch == '\\' ? "\\" : "");
            buf_append(out, p.s + k, n);
            in_class = ch != ']';
        } else if (ch == '%' || ch == '_' || ch == '(') {
            buf_append_str(out, ch == '%' ? ".*" : ch == '_' ? "." : "(?:");
        } else {
            buf_append_str(out, strchr("\\.^$", ch) != NULL ? "\\" : "");
            buf_append(out, p.s + k, n);
            in_class = ch == '[';
        }
        k += n;
    }
    buf_append_str(out, ")$");
    return true;
}

/* similar_to_escape(pattern [, escape]): the escape character is a backslash by default. */
void k_similar_to_escape(struct call *c)
{
    ASSERT(c->args_len == 1 || c->args_len == 2);
    ASSERT(c->out_kind == TYPE_TEXT && c->n <= VEC_ROWS);
    FOR_ROWS(c, i) {
        struct slice e = c->args_len == 2 ? ARG(c, 1, struct slice, i) : (struct slice){"\\", 1};
        struct buf *buf = &c->ev->buf;
        if (e.len > 0 && regex_char_len(e.s) != e.len) {
            call_fail(c, i, &fault_escape_string);
            continue;
        }
        buf_clear(buf);
        if (similar_pattern(ARG(c, 0, struct slice, i), e, buf)) {
            call_text(c, i, buf->data, buf->len);
        } else {
            call_failf(c, i, "0A000", "separators in a regular expression are not supported");
        }
    }
}

/* ---- regular expressions --------------------------------------------------------------------- */

/* What a node keeps. */
struct regex_state {
    struct kernel_state state;
    struct regex re;
};

/* Called when the node's program is freed. */
static void regex_free(struct kernel_state *state)
{
    struct regex_state *kept = (struct regex_state *)state;
    regex_clear(&kept->re);
    free(kept);
}

/* Made when the node first runs. */
static struct regex *regex_of_call(struct call *c)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    if (*c->state == NULL) {
        struct regex_state *kept = MEM_NEW(struct regex_state);
        kept->state.free = regex_free;
        *c->state = kept;
    }
    return &((struct regex_state *)*c->state)->re;
}

/* The regex of row i, or NULL and the row failed. */
static struct regex *regex_compile(struct call *c, uint32_t i, struct slice pattern,
                                   uint32_t options)
{
    struct regex *re = regex_of_call(c);
    char message[REGEX_MESSAGE_MAX];
    if (!regex_set(re, pattern, options, message)) {
        call_failf(c, i, "2201B", "invalid regular expression: %s", message);
        return NULL;
    }
    return re;
}

/* 1, 0, or -1 when the row failed. */
static int regex_match(struct call *c, uint32_t i, struct regex *re, struct slice s, size_t from)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    int found = regex_find(re, s, from);
    if (found < 0) {
        call_failf(c, i, "2201B", "regular expression is too complex for the text");
    }
    return found;
}

/* x ~ p and its variants. */
static void match_rows(struct call *c, bool negate, uint32_t options)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    FOR_ROWS(c, i) {
        struct regex *re = regex_compile(c, i, ARG(c, 1, struct slice, i), options);
        if (re != NULL) {
            int m = regex_match(c, i, re, ARG(c, 0, struct slice, i), 0);
            ((uint8_t *)c->out)[i] = (m == 1) != negate;
        }
    }
}

KERNEL(k_regex, 2, 2, TYPE_BOOL, match_rows(c, false, REGEX_DEFAULT))
KERNEL(k_regex_icase, 2, 2, TYPE_BOOL, match_rows(c, false, REGEX_DEFAULT | PCRE2_CASELESS))
KERNEL(k_not_regex, 2, 2, TYPE_BOOL, match_rows(c, true, REGEX_DEFAULT))
KERNEL(k_not_regex_icase, 2, 2, TYPE_BOOL, match_rows(c, true, REGEX_DEFAULT | PCRE2_CASELESS))

/*
 * substring(text from pattern): the first group, or the whole match. substring('foobar' from
 * 'o(.)b') = 'o'
 */
void k_substring_regex(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        struct slice s = ARG(c, 0, struct slice, i);
        struct regex *re = regex_compile(c, i, ARG(c, 1, struct slice, i), REGEX_DEFAULT);
        if (re == NULL) {
            continue;
        }
        if (regex_match(c, i, re, s, 0) != 1) {
            call_null(c, i);
            continue;
        }
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(re->match);
        uint32_t group = pcre2_get_ovector_count(re->match) > 1 ? 1 : 0;
        if (at[2 * group] == PCRE2_UNSET) {
            call_null(c, i);
        } else {
            call_slice(c, i, s.s + at[2 * group], at[2 * group + 1] - at[2 * group]);
        }
    }
}

/* Appends the replacement: \1..\9 are groups, \& the match, \\ a backslash. */
static void append_replacement(struct buf *out, struct slice s, struct slice with,
                               const struct regex *re)
{
    ASSERT(re->match != NULL);
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(re->match);
    uint32_t groups = pcre2_get_ovector_count(re->match);
    for (size_t k = 0; k < with.len; k++) {
        if (with.s[k] != '\\' || k + 1 == with.len) {
            buf_append_byte(out, (uint8_t)with.s[k]);
            continue;
        }
        char ch = with.s[++k];
        if (ch == '&' || (ch >= '1' && ch <= '9')) {
            uint32_t group = ch == '&' ? 0 : (uint32_t)(ch - '0');
            if (group < groups && at[2 * group] != PCRE2_UNSET) {
                buf_append(out, s.s + at[2 * group], at[2 * group + 1] - at[2 * group]);
            }
        } else {
            if (ch != '\\') {
                buf_append_byte(out, '\\');
            }
            buf_append_byte(out, (uint8_t)ch);
        }
    }
}

/*
 * false when the row failed. After an empty match the search goes on a character further, which is
 * copied: else it would match there for ever.
 */
static bool replace(struct call *c, uint32_t i, struct regex *re, struct slice s,
                    struct slice with, bool all)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    struct buf *buf = &c->ev->buf;
    size_t copied = 0;
    size_t from = 0;
    buf_clear(buf);
    while (from <= s.len) {
        int m = regex_match(c, i, re, s, from);
        if (m < 0) {
            return false;
        }
        if (m == 0) {
            break;
        }
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(re->match);
        buf_append(buf, s.s + copied, at[0] - copied);
        append_replacement(buf, s, with, re);
        copied = at[1];
        from = regex_after(re, s);
        if (!all || buf->len > TEXT_BYTES_MAX) {
            break;
        }
    }
    buf_append(buf, s.s + copied, s.len - copied);
    return true;
}

/* regexp_replace('Thomas', '.[mN]a.', 'M') = 'ThM' */
void k_regexp_replace(struct call *c)
{
    ASSERT(c->args_len >= 3 && c->args_len <= 4);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        uint32_t options = REGEX_DEFAULT;
        bool all = false;
        if (c->args_len > 3 && !regex_flags(ARG(c, 3, struct slice, i), &options, &all)) {
            struct slice flags = ARG(c, 3, struct slice, i);
            call_failf(c, i, "22023", "invalid regular expression option in \"%.*s\"",
                       (int)flags.len, flags.s);
            continue;
        }
        struct regex *re = regex_compile(c, i, ARG(c, 1, struct slice, i), options);
        if (re != NULL && replace(c, i, re, ARG(c, 0, struct slice, i),
                                  ARG(c, 2, struct slice, i), all)) {
            call_text(c, i, c->ev->buf.data, c->ev->buf.len);
        }
    }
}
