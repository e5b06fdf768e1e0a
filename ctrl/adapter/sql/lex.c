/*
 * Tokens of a script, as PostgreSQL's lexer sees them (manual, 4.1 "Lexical Structure"): enough to
 * split statements, to recognise our own ones and to parse those. Everything else is libpg_query's.
 *
 * What matters is where a token ends: a semicolon or parenthesis in a string, a quoted name, a
 * dollar quote or a comment must not count. So 'it''s', E'it\'s', "a""b", $x$ ; $x$ and nested
 * block comments are single tokens, and operators are single bytes, which nobody here puts
 * together. Where the two lexers might see an error differently, libpg_query's word is final: it
 * parses the same text again.
 *
 * The lexer never reads at or behind `end`, and each call takes at least a byte or says END, so
 * every loop over it ends.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include <ctype.h>

/* Bytes of multi-byte characters are letters, as in PostgreSQL. */
static bool ident_start(char c)
{
    return isalpha((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

static bool ident_part(char c)
{
    return ident_start(c) || isdigit((unsigned char)c) || c == '$';
}

/* In PostgreSQL's words: from where it began to the end of the text. */
static err_t lex_error(const struct sql_lexer *lexer, uint32_t at, const char *what)
{
    ASSERT(at <= lexer->end);
    err_t err = err_sql(ERR_INVALID, "42601", "%s at or near \"%.*s\"", what,
                        (int)(lexer->end - at), lexer->text + at);
    return sql_position(err, lexer->text, at);
}

/* White space, -- comments and nested block comments. */
static err_t lex_skip(struct sql_lexer *lexer)
{
    ASSERT(lexer->at <= lexer->end);
    const char *s = lexer->text;
    while (lexer->at < lexer->end) {
        uint32_t at = lexer->at;
        bool pair = at + 1 < lexer->end;
        if (isspace((unsigned char)s[at])) {
            lexer->at++;
        } else if (pair && s[at] == '-' && s[at + 1] == '-') {
            while (lexer->at < lexer->end && s[lexer->at] != '\n') {
                lexer->at++;
            }
        } else if (pair && s[at] == '/' && s[at + 1] == '*') {
            uint32_t depth = 1, i = at + 2;
            while (i + 1 < lexer->end && depth > 0) {
                bool open = s[i] == '/' && s[i + 1] == '*';
                bool shut = s[i] == '*' && s[i + 1] == '/';
                depth += open ? 1 : 0;
                depth -= shut ? 1 : 0;
                i += open || shut ? 2 : 1;
            }
            if (depth > 0) {
                return lex_error(lexer, at, "unterminated /* comment");
            }
            lexer->at = i;
        } else {
            break;
        }
    }
    return ERR_OK;
}

/* The single-letter escapes of E'...'; any other character stands for itself. */
static char lex_escape(char c)
{
    switch (c) {
    case 'n':
        return '\n';
    case 't':
        return '\t';
    case 'r':
        return '\r';
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    default:
        return c;
    }
}

/* Just behind the closing quote of the run that starts at `at`; false when there is none. Quotes
 * may be doubled, and behind a backslash in E'...' any byte is taken. */
static bool quoted_end(const struct sql_lexer *lexer, uint32_t at, char quote, bool escapes,
                       uint32_t *end)
{
    ASSERT(at < lexer->end);
    const char *s = lexer->text;
    for (uint32_t i = at + 1; i < lexer->end; i++) {
        if (escapes && s[i] == '\\') {
            i++;
        } else if (s[i] == quote) {
            if (i + 1 < lexer->end && s[i + 1] == quote) {
                i++;
            } else {
                *end = i + 1;
                return true;
            }
        }
    }
    return false;
}

/* A quoted run from the quote at lexer->at; the quote doubled stands for itself. */
static err_t lex_quoted(struct sql_lexer *lexer, char quote, bool escapes, struct sql_token *out)
{
    const char *s = lexer->text;
    uint32_t end = 0, len = 0;
    ASSERT(s[lexer->at] == quote);
    if (!quoted_end(lexer, lexer->at, quote, escapes, &end)) {
        return lex_error(lexer, out->start,
                         quote == '"' ? "unterminated quoted identifier"
                                      : "unterminated quoted string");
    }
    if (!lexer->skip_strings) {
        char *text = arena_alloc(lexer->arena, end - lexer->at);
        for (uint32_t i = lexer->at + 1; i < end - 1; i++) {
            bool escape = escapes && s[i] == '\\';
            i += escape || s[i] == quote ? 1 : 0;
            text[len++] = escape ? lex_escape(s[i]) : s[i];
        }
        out->text = text;
    }
    lexer->at = end;
    return ERR_OK;
}

/* $tag$ ... $tag$ or $1; false when neither stands here. The closing tag is looked for byte by
 * byte: tags are short, and the text is passed once. */
static bool lex_dollar(struct sql_lexer *lexer, struct sql_token *out, err_t *err)
{
    ASSERT(lexer->text[lexer->at] == '$');
    const char *s = lexer->text;
    uint32_t i = lexer->at + 1;
    if (i < lexer->end && isdigit((unsigned char)s[i])) {
        while (i < lexer->end && isdigit((unsigned char)s[i])) {
            i++;
        }
        out->kind = SQL_TOKEN_PARAM;
        out->text = arena_strndup(lexer->arena, s + lexer->at + 1, i - lexer->at - 1);
        lexer->at = i;
        return true;
    }
    while (i < lexer->end && ident_part(s[i]) && s[i] != '$') {
        i++;
    }
    if (i >= lexer->end || s[i] != '$') {
        return false;
    }
    size_t tag = i + 1 - lexer->at;
    for (uint32_t j = i + 1; j + tag <= lexer->end; j++) {
        if (memcmp(s + j, s + lexer->at, tag) == 0) {
            out->kind = SQL_TOKEN_STRING;
            out->text = arena_strndup(lexer->arena, s + i + 1, j - i - 1);
            lexer->at = j + (uint32_t)tag;
            return true;
        }
    }
    *err = lex_error(lexer, lexer->at, "unterminated dollar-quoted string");
    return true;
}

/* Unquoted names are folded to lower case, ASCII only, as in a UTF-8 database. */
static void lex_word(struct sql_lexer *lexer, struct sql_token *out)
{
    ASSERT(lexer->at < lexer->end);
    uint32_t i = lexer->at;
    while (i < lexer->end && ident_part(lexer->text[i])) {
        i++;
    }
    char *text = arena_strndup(lexer->arena, lexer->text + lexer->at, i - lexer->at);
    for (char *c = text; *c != '\0'; c++) {
        *c = (unsigned char)*c < 0x80 ? (char)tolower((unsigned char)*c) : *c;
    }
    out->kind = SQL_TOKEN_IDENT;
    out->text = text;
    lexer->at = i;
}

/* 123, 1.5, .5, 1e10: a sign is an operator. "1e" without digits is a number and a name. */
static void lex_number(struct sql_lexer *lexer, struct sql_token *out)
{
    ASSERT(lexer->at < lexer->end);
    const char *s = lexer->text;
    uint32_t i = lexer->at;
    while (i < lexer->end && (isdigit((unsigned char)s[i]) || s[i] == '.')) {
        i++;
    }
    if (i + 1 < lexer->end && (s[i] == 'e' || s[i] == 'E')) {
        uint32_t digits = i + (s[i + 1] == '-' || s[i + 1] == '+' ? 2 : 1);
        if (digits < lexer->end && isdigit((unsigned char)s[digits])) {
            i = digits;
            while (i < lexer->end && isdigit((unsigned char)s[i])) {
                i++;
            }
        }
    }
    out->kind = SQL_TOKEN_NUMBER;
    out->text = arena_strndup(lexer->arena, s + lexer->at, i - lexer->at);
    lexer->at = i;
}

/* By its first byte. Prefixes E, B, X, N, U& are part of a string only right before the quote. */
err_t sql_lex(struct sql_lexer *lexer, struct sql_token *out)
{
    ASSERT(lexer->at <= lexer->end);
    TRY(lex_skip(lexer));
    *out = (struct sql_token){.kind = SQL_TOKEN_END, .start = lexer->at, .text = ""};
    err_t err = ERR_OK;
    if (lexer->at < lexer->end) {
        const char *s = lexer->text + lexer->at;
        bool pair = lexer->at + 1 < lexer->end;
        bool prefixed = pair && s[1] == '\'' && strchr("eEbBxXnN", s[0]) != NULL;
        if (s[0] == '\'' || prefixed) {
            out->kind = SQL_TOKEN_STRING;
            lexer->at += prefixed ? 1 : 0;
            err = lex_quoted(lexer, '\'', prefixed && (s[0] == 'e' || s[0] == 'E'), out);
        } else if (s[0] == '"') {
            out->kind = SQL_TOKEN_IDENT;
            out->quoted = true;
            err = lex_quoted(lexer, '"', false, out);
        } else if (ident_start(s[0])) {
            lex_word(lexer, out);
        } else if (isdigit((unsigned char)s[0]) ||
                   (s[0] == '.' && pair && isdigit((unsigned char)s[1]))) {
            lex_number(lexer, out);
        } else if (s[0] != '$' || !lex_dollar(lexer, out, &err)) {
            out->kind = SQL_TOKEN_PUNCT;
            out->punct = s[0];
            lexer->at++;
        }
    }
    out->end = lexer->at;
    return err;
}
