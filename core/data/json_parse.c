/*
 * JSON text to the canonical text of a jsonb, as PostgreSQL prints it: keys without duplicates (the
 * last wins), sorted by length and then bytes; numbers in full decimal digits, keeping the zeros of
 * their fraction. A parser of our own because the libraries at hand lose the digits of numbers; see
 * docs/decisions.
 *
 *   {"bb":1,"a":2,"a":3}       {"a": 3, "bb": 1}
 *   [1e3, 1.50, -0, 2E-2]      [1000, 1.50, 0, 0.02]
 *   "\u0061\u00e9\/\n"         "aé/\n"
 *   {"a":\u0000}               22P02;  "\u0000" 22P05;  1e999999 22003
 *
 * Invariant: p->out grows by one canonical value per parse_value; keys and members are stacks, cut
 * back to where they were when an object ends. Errors leave them as they are: json_parse clears all
 * at its start.
 *
 * Input is hostile: depth is bounded, numbers have bounded digits (an exponent cannot make the
 * output more than 131,072 digits longer than the input), and every read is checked against the
 * end. One thread a parser.
 */
#include "core/base/utf8.h"
#include "core/data/json.h"

/* A member of an object that is being parsed, for sorting. Offsets, as the buffers may move. */
struct json_member {
    size_t key_at;   /* in keys */
    size_t key_len;
    size_t text_at;  /* in out: "key": value */
    size_t text_len;
    size_t order;    /* of appearance */
    const uint8_t *keys;
};

/* Where parsing is. depth counts values within values. */
struct cursor {
    struct json_parser *p;
    const char *at;
    const char *end;
    int depth;
};

enum { JSON_EXPONENT_MAX = 131072, JSON_FRACTION_MAX = 16383 }; /* PostgreSQL's numeric */

/* PostgreSQL shows a piece of the input as context; we say how far from its end. */
static err_t syntax_error(const struct cursor *c)
{
    err_t err = err_sql(ERR_INVALID, "22P02", "invalid input syntax for type json");
    if (c->at >= c->end) {
        return err_detail(err, "The input string ended unexpectedly.");
    }
    return err_detail(err, "Unexpected character at byte %zu from the end.",
                      (size_t)(c->end - c->at));
}

/* The four characters of RFC 8259, no others. */
static void skip_space(struct cursor *c)
{
    while (c->at < c->end &&
           (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r')) {
        c->at++;
    }
}

/* Takes ch if it is next. */
static bool take(struct cursor *c, char ch)
{
    if (c->at < c->end && *c->at == ch) {
        c->at++;
        return true;
    }
    return false;
}

/* ---- strings --------------------------------------------------------------------------------- */

/* Digits in either case. */
static bool take_hex4(struct cursor *c, uint32_t *out)
{
    ASSERT(c->at <= c->end && c->depth <= JSON_DEPTH_MAX);
    if (c->end - c->at < 4) {
        return false;
    }
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        char ch = c->at[i];
        uint32_t digit = 0;
        if (ch >= '0' && ch <= '9') {
            digit = (uint32_t)(ch - '0');
        } else if ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'f') {
            digit = (uint32_t)((ch | 0x20) - 'a') + 10;
        } else {
            return false;
        }
        v = v * 16 + digit;
    }
    c->at += 4;
    *out = v;
    return true;
}

static void append_utf8(struct buf *out, uint32_t cp)
{
    char s[4];
    buf_append(out, s, utf8_put(cp, s));
}

/*
 * Behind \u. Code points beyond 16 bits come as a pair of surrogates; a surrogate alone is no
 * character, and NUL cannot be stored.
 */
static err_t parse_unicode(struct cursor *c, struct buf *out)
{
    ASSERT(c->at <= c->end && c->depth <= JSON_DEPTH_MAX);
    uint32_t cp = 0;
    uint32_t low = 0;
    if (!take_hex4(c, &cp)) {
        return err_detail(err_sql(ERR_INVALID, "22P02", "invalid input syntax for type json"),
                          "\"\\u\" must be followed by four hexadecimal digits.");
    }
    if (cp == 0) {
        return err_detail(err_sql(ERR_INVALID, "22P05", "unsupported Unicode escape sequence"),
                          "\\u0000 cannot be converted to text.");
    }
    if (cp >= 0xD800 && cp < 0xDC00) {
        bool pair = take(c, '\\') && take(c, 'u') && take_hex4(c, &low) && low >= 0xDC00 &&
                    low < 0xE000;
        if (!pair) {
            return err_detail(err_sql(ERR_INVALID, "22P02", "invalid input syntax for type json"),
                              "Unicode low surrogate must follow a high surrogate.");
        }
        cp = 0x10000 + ((cp - 0xD800) << 10) + (low - 0xDC00);
    } else if (cp >= 0xDC00 && cp < 0xE000) {
        return err_detail(err_sql(ERR_INVALID, "22P02", "invalid input syntax for type json"),
                          "Unicode low surrogate must follow a high surrogate.");
    }
    append_utf8(out, cp);
    return ERR_OK;
}

/* Behind the backslash. */
static err_t parse_escape(struct cursor *c, struct buf *out)
{
    ASSERT(c->at <= c->end && c->depth <= JSON_DEPTH_MAX);
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    if (c->at >= c->end) {
        return syntax_error(c);
    }
    char ch = *c->at++;
    if (ch == 'u') {
        return parse_unicode(c, out);
    }
    const char *found = ch != '\0' ? strchr(from, ch) : NULL;
    if (found == NULL) {
        c->at--;
        return syntax_error(c);
    }
    buf_append_byte(out, (uint8_t)to[found - from]);
    return ERR_OK;
}

/*
 * The characters behind the opening quote, unescaped, to out. Control characters must be escaped.
 */
static err_t parse_string(struct cursor *c, struct buf *out)
{
    ASSERT(c->at <= c->end && c->depth <= JSON_DEPTH_MAX);
    for (;;) {
        const char *start = c->at;
        while (c->at < c->end && *c->at != '"' && *c->at != '\\' && (uint8_t)*c->at >= 0x20) {
            c->at++;
        }
        buf_append(out, start, (size_t)(c->at - start));
        if (c->at >= c->end || (uint8_t)*c->at < 0x20) {
            return syntax_error(c);
        }
        if (*c->at++ == '"') {
            return ERR_OK;
        }
        TRY(parse_escape(c, out));
    }
}

/* PostgreSQL's choice: only quote, backslash and control characters; / stays bare. */
void json_append_escaped(const char *s, size_t len, struct buf *out)
{
    ASSERT(s != NULL || len == 0);
    static const char *const named[0x20] = {['\b'] = "\\b", ['\f'] = "\\f", ['\n'] = "\\n",
                                            ['\r'] = "\\r", ['\t'] = "\\t"};
    buf_append_byte(out, '"');
    for (size_t i = 0; i < len; i++) {
        uint8_t ch = (uint8_t)s[i];
        if (ch == '"' || ch == '\\') {
            buf_append_byte(out, '\\');
            buf_append_byte(out, ch);
        } else if (ch >= 0x20) {
            buf_append_byte(out, ch);
        } else if (named[ch] != NULL) {
            buf_append_str(out, named[ch]);
        } else {
            buf_printf(out, "\\u%04x", ch);
        }
    }
    buf_append_byte(out, '"');
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* How many there were, 0 included. */
static size_t take_digits(struct cursor *c)
{
    ASSERT(c->at <= c->end && c->depth <= JSON_DEPTH_MAX);
    const char *start = c->at;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9') {
        c->at++;
    }
    return (size_t)(c->at - start);
}

/* Stops counting beyond any exponent that could matter: no overflow however many digits. */
static err_t parse_exponent(struct cursor *c, int64_t *out)
{
    ASSERT(c->at <= c->end && c->depth <= JSON_DEPTH_MAX);
    *out = 0;
    if (!take(c, 'e') && !take(c, 'E')) {
        return ERR_OK;
    }
    bool negative = take(c, '-');
    if (!negative) {
        take(c, '+');
    }
    const char *digits = c->at;
    size_t len = take_digits(c);
    if (len == 0) {
        return syntax_error(c);
    }
    int64_t e = 0;
    for (size_t i = 0; i < len && e <= JSON_EXPONENT_MAX * 10; i++) {
        e = e * 10 + (digits[i] - '0');
    }
    *out = negative ? -e : e;
    return ERR_OK;
}

/*
 * Digits with the point moved by the exponent, as numeric prints them. point: where the decimal
 * point stands among the digits; it may lie before the first or behind the last: 15 with point -1
 * is 0.015, with point 4 it is 1500.
 */
static void append_number(struct buf *out, const char *digits, int64_t len, int64_t point,
                          bool negative)
{
    ASSERT(len > 0 && point <= JSON_EXPONENT_MAX && len - point <= JSON_FRACTION_MAX);
    int64_t first = 0;
    while (first < len && digits[first] == '0') {
        first++;
    }
    if (negative && first < len) {
        buf_append_byte(out, '-');
    }
    if (point <= first || first == len) {
        buf_append_byte(out, '0');
    }
    for (int64_t i = first; i < point && first < len; i++) {
        buf_append_byte(out, (uint8_t)(i < len ? digits[i] : '0'));
    }
    if (point < len) {
        buf_append_byte(out, '.');
        for (int64_t i = point; i < len; i++) {
            buf_append_byte(out, (uint8_t)(i < 0 ? '0' : digits[i]));
        }
    }
}

/* The number is kept exactly, whatever its size: only its form changes. */
static err_t parse_number(struct cursor *c)
{
    ASSERT(c->at <= c->end && c->depth <= JSON_DEPTH_MAX);
    struct buf *digits = &c->p->sorted; /* free between objects */
    bool negative = take(c, '-');
    const char *start = c->at;
    size_t whole = take_digits(c);
    if (whole == 0 || (whole > 1 && *start == '0')) {
        return syntax_error(c);
    }
    buf_clear(digits);
    buf_append(digits, start, whole);
    if (take(c, '.')) {
        start = c->at;
        size_t fraction = take_digits(c);
        if (fraction == 0) {
            return syntax_error(c);
        }
        buf_append(digits, start, fraction);
    }
    int64_t exponent = 0;
    TRY(parse_exponent(c, &exponent));
    int64_t point = (int64_t)whole + exponent;
    int64_t len = (int64_t)digits->len;
    if (point > JSON_EXPONENT_MAX || len - point > JSON_FRACTION_MAX) {
        return err_sql(ERR_INVALID, "22003", "value overflows numeric format");
    }
    append_number(&c->p->out, (const char *)digits->data, len, point, negative);
    return ERR_OK;
}

/* ---- values ---------------------------------------------------------------------------------- */

static err_t parse_value(struct cursor *c);

/* true, false and null are in the output what they are in the input. */
static err_t parse_word(struct cursor *c, const char *word)
{
    ASSERT(c->at <= c->end && c->depth <= JSON_DEPTH_MAX);
    size_t len = strlen(word);
    if ((size_t)(c->end - c->at) < len || memcmp(c->at, word, len) != 0) {
        return syntax_error(c);
    }
    c->at += len;
    buf_append(&c->p->out, word, len);
    return ERR_OK;
}

/* Behind the bracket. */
static err_t parse_array(struct cursor *c)
{
    ASSERT(c->at <= c->end && c->depth <= JSON_DEPTH_MAX);
    struct buf *out = &c->p->out;
    buf_append_byte(out, '[');
    skip_space(c);
    if (!take(c, ']')) {
        for (;;) {
            TRY(parse_value(c));
            if (take(c, ']')) {
                break;
            }
            if (!take(c, ',')) {
                return syntax_error(c);
            }
            buf_append(out, ", ", 2);
        }
    }
    buf_append_byte(out, ']');
    return ERR_OK;
}

/* PostgreSQL's order of keys: by length, then by bytes. Equal keys in order of appearance. */
static int compare_members(const void *pa, const void *pb)
{
    const struct json_member *a = pa;
    const struct json_member *b = pb;
    if (a->key_len != b->key_len) {
        return a->key_len < b->key_len ? -1 : 1;
    }
    int r = memcmp(a->keys + a->key_at, b->keys + b->key_at, a->key_len);
    if (r != 0) {
        return r;
    }
    return a->order < b->order ? -1 : a->order > b->order;
}

static bool same_key(const struct json_member *a, const struct json_member *b)
{
    return a->key_len == b->key_len &&
           memcmp(a->keys + a->key_at, b->keys + b->key_at, a->key_len) == 0;
}

/*
 * Replaces the members' text in out, from start on, by the sorted one without duplicates. Most
 * objects come in order already (ours do): then nothing is moved. The last of equal keys wins.
 */
static void order_members(struct json_parser *p, size_t start, size_t members_at)
{
    struct json_member *m = (struct json_member *)(p->members.data + members_at);
    size_t len = (p->members.len - members_at) / sizeof(*m);
    bool ordered = true;
    for (size_t i = 0; i < len; i++) {
        m[i].keys = p->keys.data;
        ordered &= i == 0 || (compare_members(&m[i - 1], &m[i]) < 0 && !same_key(&m[i - 1], &m[i]));
    }
    if (ordered) {
        return;
    }
    qsort(m, len, sizeof(*m), compare_members);
    buf_clear(&p->sorted);
    for (size_t i = 0; i < len; i++) {
        if (i + 1 < len && same_key(&m[i], &m[i + 1])) {
            continue;
        }
        if (p->sorted.len > 0) {
            buf_append(&p->sorted, ", ", 2);
        }
        buf_append(&p->sorted, p->out.data + m[i].text_at, m[i].text_len);
    }
    ASSERT(start + p->sorted.len <= p->out.len);
    p->out.len = start;
    buf_append(&p->out, p->sorted.data, p->sorted.len);
}

/* The key goes unescaped to keys, for sorting, and escaped to out. */
static err_t parse_member(struct cursor *c, size_t order)
{
    ASSERT(c->at <= c->end && c->depth <= JSON_DEPTH_MAX);
    struct json_parser *p = c->p;
    struct json_member m = {.key_at = p->keys.len, .text_at = p->out.len, .order = order};
    skip_space(c);
    if (!take(c, '"')) {
        return syntax_error(c);
    }
    TRY(parse_string(c, &p->keys));
    m.key_len = p->keys.len - m.key_at;
    json_append_escaped((const char *)p->keys.data + m.key_at, m.key_len, &p->out);
    buf_append(&p->out, ": ", 2);
    skip_space(c);
    if (!take(c, ':')) {
        return syntax_error(c);
    }
    TRY(parse_value(c));
    m.text_len = p->out.len - m.text_at;
    buf_append(&p->members, &m, sizeof(m));
    return ERR_OK;
}

/* Behind the brace. keys and members are cut back at the end: what is left is out alone. */
static err_t parse_object(struct cursor *c)
{
    ASSERT(c->at <= c->end && c->depth <= JSON_DEPTH_MAX);
    struct json_parser *p = c->p;
    buf_append_byte(&p->out, '{');
    size_t start = p->out.len;
    size_t members_at = p->members.len;
    size_t keys_at = p->keys.len;
    skip_space(c);
    if (!take(c, '}')) {
        for (size_t order = 0;; order++) {
            TRY(parse_member(c, order));
            if (take(c, '}')) {
                break;
            }
            if (!take(c, ',')) {
                return syntax_error(c);
            }
            buf_append(&p->out, ", ", 2);
        }
        order_members(p, start, members_at);
    }
    p->members.len = members_at;
    p->keys.len = keys_at;
    buf_append_byte(&p->out, '}');
    return ERR_OK;
}

/* Unescaped and escaped again: "\u0061" becomes "a". */
static err_t parse_scalar_string(struct cursor *c)
{
    ASSERT(c->at <= c->end && c->depth <= JSON_DEPTH_MAX);
    struct buf *keys = &c->p->keys;
    size_t at = keys->len;
    TRY(parse_string(c, keys));
    json_append_escaped((const char *)keys->data + at, keys->len - at, &c->p->out);
    keys->len = at;
    return ERR_OK;
}

/* One value with the space around it. Recursion follows nesting, which depth bounds. */
static err_t parse_value(struct cursor *c)
{
    ASSERT(c->at <= c->end && c->depth <= JSON_DEPTH_MAX);
    if (++c->depth > JSON_DEPTH_MAX) {
        return err_sql(ERR_LIMIT, "54001", "JSON is nested deeper than %d levels", JSON_DEPTH_MAX);
    }
    skip_space(c);
    if (take(c, '{')) {
        TRY(parse_object(c));
    } else if (take(c, '[')) {
        TRY(parse_array(c));
    } else if (take(c, '"')) {
        TRY(parse_scalar_string(c));
    } else if (c->at < c->end && (*c->at == 't' || *c->at == 'f' || *c->at == 'n')) {
        TRY(parse_word(c, *c->at == 't' ? "true" : *c->at == 'f' ? "false" : "null"));
    } else {
        TRY(parse_number(c));
    }
    skip_space(c);
    c->depth--;
    return ERR_OK;
}

/* On error p->out holds nothing of use. p is kept for the next call, with its memory. */
err_t json_parse(struct json_parser *p, const char *s, size_t len)
{
    ASSERT(s != NULL || len == 0);
    buf_clear(&p->out);
    buf_clear(&p->keys);
    buf_clear(&p->members);
    buf_reserve(&p->keys, 1); /* an empty key has an address too */
    if (!utf8_valid(s, len)) {
        return err_sql(ERR_INVALID, "22021", "invalid byte sequence for encoding \"UTF8\"");
    }
    struct cursor c = {.p = p, .at = s, .end = s + len};
    TRY(parse_value(&c));
    return c.at == c.end ? ERR_OK : syntax_error(&c);
}

void json_parser_free(struct json_parser *p)
{
    buf_free(&p->out);
    buf_free(&p->keys);
    buf_free(&p->members);
    buf_free(&p->sorted);
}

/* Parsed and compared: there is no second definition of canonical to get wrong. */
bool json_is_canonical(struct json_parser *p, const char *s, size_t len)
{
    err_t err = json_parse(p, s, len);
    bool same = err == ERR_OK && p->out.len == len && memcmp(p->out.data, s, len) == 0;
    err_free(err);
    return same;
}
