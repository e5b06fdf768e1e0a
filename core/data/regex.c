/* See regex.h. */
#include "core/data/regex.h"

enum {
    MATCH_STEPS_MAX = 10 * 1000 * 1000, /* about 0.1 s */
    MATCH_KIB_MAX = 128 * 1024,         /* PCRE2's own bound is 20 GB */
};

static bool is_set(const struct regex *re, struct slice pattern, uint32_t options)
{
    return re->code != NULL && re->options == options && re->pattern_len == pattern.len &&
           memcmp(re->pattern, pattern.s, pattern.len) == 0;
}

/* The context is the same for all patterns. */
static void forget_pattern(struct regex *re)
{
    pcre2_code_free(re->code);
    pcre2_match_data_free(re->match);
    free(re->pattern);
    re->code = NULL;
    re->match = NULL;
    re->pattern = NULL;
}

/* A pattern that does not compile leaves none behind: the next call tries again. */
bool regex_set(struct regex *re, struct slice pattern, uint32_t options,
               char message[REGEX_MESSAGE_MAX])
{
    options |= PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK | PCRE2_NEVER_BACKSLASH_C;
    if (is_set(re, pattern, options)) {
        return true;
    }
    forget_pattern(re);
    if (re->context == NULL) {
        re->context = pcre2_match_context_create(NULL);
        ASSERT(re->context != NULL);
        pcre2_set_match_limit(re->context, MATCH_STEPS_MAX);
        pcre2_set_heap_limit(re->context, MATCH_KIB_MAX);
    }
    int error;
    PCRE2_SIZE at;
    re->code = pcre2_compile((PCRE2_SPTR)pattern.s, pattern.len, options, &error, &at, NULL);
    if (re->code == NULL) {
        pcre2_get_error_message(error, (PCRE2_UCHAR *)message, REGEX_MESSAGE_MAX);
        return false;
    }
    re->match = pcre2_match_data_create_from_pattern(re->code, NULL);
    ASSERT(re->match != NULL);
    re->pattern = mem_strndup(pattern.s, pattern.len);
    re->pattern_len = pattern.len;
    re->options = options;
    return true;
}

/* The text is known to be UTF-8, so PCRE2 need not check it for every call. */
int regex_find(struct regex *re, struct slice s, size_t from)
{
    ASSERT(re->code != NULL && from <= s.len);
    int rc = pcre2_match(re->code, (PCRE2_SPTR)s.s, s.len, from, PCRE2_NO_UTF_CHECK, re->match,
                         re->context);
    if (rc < 0) {
        re->work += rc == PCRE2_ERROR_NOMATCH ? s.len - from : (size_t)MATCH_STEPS_MAX;
        return rc == PCRE2_ERROR_NOMATCH ? 0 : -1;
    }
    size_t end = pcre2_get_ovector_pointer(re->match)[1];
    re->work += end > from ? end - from : 0;
    return 1;
}

size_t regex_after(const struct regex *re, struct slice s)
{
    ASSERT(re->match != NULL);
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(re->match);
    if (at[1] > at[0]) {
        return at[1];
    }
    return at[1] < s.len ? at[1] + regex_char_len(s.s + at[1]) : s.len + 1;
}

/* The letters PostgreSQL has that mean something here. */
bool regex_flags(struct slice flags, uint32_t *options, bool *all)
{
    for (size_t k = 0; k < flags.len; k++) {
        switch (flags.s[k]) {
        case 'g':
            *all = true;
            break;
        case 'i':
            *options |= PCRE2_CASELESS;
            break;
        case 'c':
            *options &= ~(uint32_t)PCRE2_CASELESS;
            break;
        case 'n':
        case 'm':
            *options |= PCRE2_MULTILINE | PCRE2_ALT_CIRCUMFLEX;
            *options &= ~(uint32_t)PCRE2_DOTALL;
            break;
        case 's':
            *options &= ~(uint32_t)PCRE2_MULTILINE;
            break;
        case 'x':
            *options |= PCRE2_EXTENDED;
            break;
        default:
            return false;
        }
    }
    return true;
}

void regex_clear(struct regex *re)
{
    forget_pattern(re);
    pcre2_match_context_free(re->context);
    re->context = NULL;
}
