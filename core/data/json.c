/*
 * Walking canonical JSON text: members, elements, order, containment. The text is trusted:
 * json_parse made it or json_is_canonical accepted it, so strings end, brackets balance, and
 * between things stand exactly ", " and ": ".
 *
 * That makes walking simple: a value is skipped by counting brackets outside of strings, a member's
 * value starts two bytes behind its key. Nesting is bounded by JSON_DEPTH_MAX when text comes in,
 * which bounds the recursion here. No function allocates, except containment of objects, which
 * unescapes keys.
 *
 * Functions here keep no state; any thread.
 */
#include "core/data/json.h"

/* The first character decides. */
enum json_kind json_kind(struct json v)
{
    ASSERT(v.len > 0);
    switch (v.s[0]) {
    case 'n':
        return JSON_NULL;
    case '"':
        return JSON_STRING;
    case 't':
    case 'f':
        return JSON_BOOL;
    case '[':
        return JSON_ARRAY;
    case '{':
        return JSON_OBJECT;
    default:
        return JSON_NUMBER;
    }
}

const char *json_kind_name(enum json_kind kind)
{
    static const char *const names[] = {"null", "string", "number", "boolean", "array", "object"};
    ASSERT(kind < ARRAY_LEN(names));
    return names[kind];
}

/*
 * Just behind the string that starts at s. A backslash takes the next character along, also in \\
 * and \".
 */
static const char *skip_string(const char *s)
{
    for (s++; *s != '"'; s++) {
        if (*s == '\\') {
            s++;
        }
    }
    return s + 1;
}

/*
 * Just behind the value that starts at s: strings aside, brackets balance. Ends at the comma or
 * bracket that follows the value, without taking it.
 */
static const char *skip_value(const char *s, const char *end)
{
    size_t depth = 0;
    while (s < end) {
        if (*s == '"') {
            s = skip_string(s);
            if (depth == 0) {
                return s;
            }
            continue;
        }
        if (*s == '{' || *s == '[') {
            depth++;
        } else if (*s == '}' || *s == ']') {
            if (depth == 0) {
                return s;
            }
            if (--depth == 0) {
                return s + 1;
            }
        } else if (*s == ',' && depth == 0) {
            return s;
        }
        s++;
    }
    return s;
}

/* *at is the offset behind the value returned last: the comma, or the closing bracket. */
bool json_next(struct json v, size_t *at, struct json *key, struct json *value)
{
    ASSERT(v.len > 0 && v.s != NULL);
    ASSERT(v.len >= 2 && (v.s[0] == '[' || v.s[0] == '{'));
    size_t i = *at == 0 ? 1 : *at;
    if (i >= v.len - 1) {
        return false;
    }
    const char *s = v.s + i;
    const char *end = v.s + v.len;
    if (*s == ',') {
        s += 2;
    }
    if (v.s[0] == '{') {
        const char *key_end = skip_string(s);
        if (key != NULL) {
            *key = (struct json){s, (size_t)(key_end - s)};
        }
        s = key_end + 2;
    }
    const char *value_end = skip_value(s, end);
    *value = (struct json){s, (size_t)(value_end - s)};
    *at = (size_t)(value_end - v.s);
    return true;
}

/* Walks all of it. */
size_t json_count(struct json v)
{
    ASSERT(v.len > 0 && v.s != NULL);
    size_t at = 0;
    size_t n = 0;
    struct json value;
    while (json_next(v, &at, NULL, &value)) {
        n++;
    }
    return n;
}

/* The next character of a JSON string body; escapes in canonical text stand for one byte. */
static uint8_t next_char(const char **s)
{
    static const char from[] = "bfnrt";
    static const char to[] = "\b\f\n\r\t";
    char ch = *(*s)++;
    if (ch != '\\') {
        return (uint8_t)ch;
    }
    ch = *(*s)++;
    if (ch == 'u') {
        /* \u00XX of a control character: nothing else is escaped this way. */
        uint8_t hi = (uint8_t)((*s)[2] - '0');
        uint8_t lo = (uint8_t)((*s)[3] <= '9' ? (*s)[3] - '0' : (*s)[3] - 'a' + 10);
        *s += 4;
        return (uint8_t)(hi * 16 + lo);
    }
    const char *found = strchr(from, ch);
    return (uint8_t)(found != NULL ? to[found - from] : ch);
}

/* Compares without unescaping into memory. */
bool json_string_equal(struct json string, const char *s, size_t len)
{
    const char *at = string.s + 1;
    const char *end = string.s + string.len - 1;
    size_t i = 0;
    while (at < end && i < len) {
        if (next_char(&at) != (uint8_t)s[i++]) {
            return false;
        }
    }
    return at == end && i == len;
}

void json_append_unescaped(struct json string, struct buf *out)
{
    ASSERT(string.len > 0 && string.s != NULL);
    ASSERT(string.len >= 2 && string.s[0] == '"');
    const char *at = string.s + 1;
    const char *end = string.s + string.len - 1;
    while (at < end) {
        buf_append_byte(out, next_char(&at));
    }
}

/* Keys are sorted by length and bytes, but the walk is linear anyway: members differ in size. */
bool json_object_get(struct json v, const char *key, size_t key_len, struct json *out)
{
    ASSERT(v.len > 0 && v.s != NULL);
    size_t at = 0;
    struct json k;
    if (json_kind(v) != JSON_OBJECT) {
        return false;
    }
    while (json_next(v, &at, &k, out)) {
        if (json_string_equal(k, key, key_len)) {
            return true;
        }
    }
    return false;
}

/* A negative index takes a walk to count, then one to find. */
bool json_array_get(struct json v, int64_t index, struct json *out)
{
    ASSERT(v.len > 0 && v.s != NULL);
    if (json_kind(v) != JSON_ARRAY) {
        return false;
    }
    if (index < 0) {
        index += (int64_t)json_count(v);
    }
    size_t at = 0;
    for (int64_t i = 0; index >= 0 && json_next(v, &at, NULL, out); i++) {
        if (i == index) {
            return true;
        }
    }
    return false;
}

/* ---- order ----------------------------------------------------------------------------------- */

static int compare_bytes(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int r = memcmp(a, b, a_len < b_len ? a_len : b_len);
    if (r != 0) {
        return r;
    }
    return a_len < b_len ? -1 : a_len > b_len;
}

/* Unescaped characters, as bytes of UTF-8. */
static int compare_strings(struct json a, struct json b)
{
    ASSERT(a.len > 0 && a.s != NULL);
    ASSERT(b.len > 0 && b.s != NULL);
    const char *sa = a.s + 1;
    const char *sb = b.s + 1;
    const char *ea = a.s + a.len - 1;
    const char *eb = b.s + b.len - 1;
    while (sa < ea && sb < eb) {
        uint8_t ca = next_char(&sa);
        uint8_t cb = next_char(&sb);
        if (ca != cb) {
            return ca < cb ? -1 : 1;
        }
    }
    return sa < ea ? 1 : sb < eb ? -1 : 0;
}

/*
 * Length of a number without the zeros that end its fraction. 1.50 is as long as 1.5, 2.00 as 2:
 * for comparing and the normal form.
 */
static size_t number_len(struct json v)
{
    if (memchr(v.s, '.', v.len) == NULL) {
        return v.len;
    }
    size_t len = v.len;
    while (v.s[len - 1] == '0') {
        len--;
    }
    return v.s[len - 1] == '.' ? len - 1 : len;
}

/*
 * Canonical numbers have no exponent and no leading zeros, so more digits before the point is more.
 */
static int compare_magnitudes(const char *a, size_t a_len, const char *b, size_t b_len)
{
    const char *a_dot = memchr(a, '.', a_len);
    const char *b_dot = memchr(b, '.', b_len);
    size_t a_whole = a_dot != NULL ? (size_t)(a_dot - a) : a_len;
    size_t b_whole = b_dot != NULL ? (size_t)(b_dot - b) : b_len;
    if (a_whole != b_whole) {
        return a_whole < b_whole ? -1 : 1;
    }
    return compare_bytes(a, a_len, b, b_len);
}

/* Exact for any number of digits: nothing is converted. */
static int compare_numbers(struct json a, struct json b)
{
    ASSERT(a.len > 0 && a.s != NULL);
    ASSERT(b.len > 0 && b.s != NULL);
    size_t a_len = number_len(a);
    size_t b_len = number_len(b);
    bool a_neg = a.s[0] == '-';
    bool b_neg = b.s[0] == '-';
    if (a_neg != b_neg) {
        return a_neg ? -1 : 1;
    }
    int r = compare_magnitudes(a.s + a_neg, a_len - a_neg, b.s + b_neg, b_len - b_neg);
    return a_neg ? -r : r;
}

/* Of the same kind; null equals null. */
static int compare_scalars(enum json_kind kind, struct json a, struct json b)
{
    ASSERT(a.len > 0 && a.s != NULL);
    ASSERT(b.len > 0 && b.s != NULL);
    switch (kind) {
    case JSON_STRING:
        return compare_strings(a, b);
    case JSON_NUMBER:
        return compare_numbers(a, b);
    case JSON_BOOL:
        return (a.s[0] == 't') - (b.s[0] == 't');
    default:
        return 0;
    }
}

/* Containers: by number of members first, then in order. */
static int compare_values(struct json a, struct json b)
{
    ASSERT(a.len > 0 && a.s != NULL);
    ASSERT(b.len > 0 && b.s != NULL);
    enum json_kind kind = json_kind(a);
    if (kind != json_kind(b)) {
        return kind < json_kind(b) ? -1 : 1;
    }
    if (kind < JSON_ARRAY) {
        return compare_scalars(kind, a, b);
    }
    size_t a_count = json_count(a);
    size_t b_count = json_count(b);
    if (a_count != b_count) {
        return a_count < b_count ? -1 : 1;
    }
    size_t a_at = 0;
    size_t b_at = 0;
    struct json a_key;
    struct json b_key;
    struct json a_value;
    struct json b_value;
    while (json_next(a, &a_at, &a_key, &a_value) && json_next(b, &b_at, &b_key, &b_value)) {
        int r = kind == JSON_OBJECT ? compare_strings(a_key, b_key) : 0;
        r = r != 0 ? r : compare_values(a_value, b_value);
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

/*
 * PostgreSQL stores a top-level scalar as an array of one element, so against an array the number
 * of elements decides first, and only then that it is a scalar.
 */
int json_compare(struct json a, struct json b)
{
    ASSERT(a.len > 0 && a.s != NULL);
    ASSERT(b.len > 0 && b.s != NULL);
    bool a_scalar = json_kind(a) < JSON_ARRAY;
    bool b_scalar = json_kind(b) < JSON_ARRAY;
    if (a_scalar && json_kind(b) == JSON_ARRAY) {
        return json_count(b) == 0 ? 1 : -1;
    }
    if (b_scalar && json_kind(a) == JSON_ARRAY) {
        return json_count(a) == 0 ? -1 : 1;
    }
    return compare_values(a, b);
}

/* ---- containment ----------------------------------------------------------------------------- */

static bool contains(struct json a, struct json b);

/*
 * Is b, a scalar or container, an element of array a? Quadratic for arrays in arrays: as PostgreSQL
 * for small ones.
 */
static bool array_has(struct json a, struct json b)
{
    ASSERT(a.len > 0 && a.s != NULL);
    ASSERT(b.len > 0 && b.s != NULL);
    bool scalar = json_kind(b) < JSON_ARRAY;
    size_t at = 0;
    struct json value;
    while (json_next(a, &at, NULL, &value)) {
        if (json_kind(value) != json_kind(b)) {
            continue;
        }
        if (scalar ? compare_values(value, b) == 0 : contains(value, b)) {
            return true;
        }
    }
    return false;
}

/* Each member of b must be in a under the same key, with a value that contains it. */
static bool object_contains(struct json a, struct json b)
{
    ASSERT(a.len > 0 && a.s != NULL);
    ASSERT(b.len > 0 && b.s != NULL);
    size_t at = 0;
    struct json key;
    struct json value;
    struct json mine;
    struct buf name = {0};
    bool all = true;
    while (all && json_next(b, &at, &key, &value)) {
        buf_clear(&name);
        json_append_unescaped(key, &name);
        all = json_object_get(a, (const char *)name.data, name.len, &mine) &&
              json_kind(mine) == json_kind(value) && contains(mine, value);
    }
    buf_free(&name);
    return all;
}

/*
 * a and b are of one kind. Containment goes down level by level: an object contains another if it
 * has all its members, each containing; an array if each element of the other is somewhere in it,
 * in any order, as often as it likes; a scalar contains its equal.
 */
static bool contains(struct json a, struct json b)
{
    ASSERT(a.len > 0 && a.s != NULL);
    ASSERT(b.len > 0 && b.s != NULL);
    switch (json_kind(b)) {
    case JSON_OBJECT:
        return object_contains(a, b);
    case JSON_ARRAY: {
        size_t at = 0;
        struct json value;
        while (json_next(b, &at, NULL, &value)) {
            if (!array_has(a, value)) {
                return false;
            }
        }
        return true;
    }
    default:
        return compare_values(a, b) == 0;
    }
}

bool json_contains(struct json a, struct json b)
{
    ASSERT(a.len > 0 && a.s != NULL);
    ASSERT(b.len > 0 && b.s != NULL);
    if (json_kind(a) == JSON_ARRAY && json_kind(b) < JSON_ARRAY) {
        return array_has(a, b); /* the one exception: an array contains a bare scalar */
    }
    return json_kind(a) == json_kind(b) && contains(a, b);
}

/* ---- normal form ----------------------------------------------------------------------------- */

/* Strings are copied whole, so that digits within them stay as they are. */
void json_append_normalized(const char *s, size_t len, struct buf *out)
{
    ASSERT(s != NULL || len == 0);
    const char *end = s + len;
    while (s < end) {
        const char *start = s;
        if (*s == '"') {
            s = skip_string(s);
            buf_append(out, start, (size_t)(s - start));
        } else if (*s == '-' || (*s >= '0' && *s <= '9')) {
            while (s < end && *s != ',' && *s != ']' && *s != '}') {
                s++;
            }
            struct json number = {start, (size_t)(s - start)};
            buf_append(out, start, number_len(number));
        } else {
            buf_append_byte(out, (uint8_t)*s++);
        }
    }
}
