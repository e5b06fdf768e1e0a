/*
 * Session variables: SHOW, SET, RESET, and which of them clients are told of.
 *
 * A variable's value is, first that is there: SET LOCAL's (until the transaction ends), SET's, the
 * initial one. Values are texts in a canonical form, checked when they are set, so that readers
 * need not handle bad ones. Variables that PostgreSQL's clients set at start and that make no
 * difference here are accepted; those whose other values we could not honour are fixed, with an
 * error that says so.
 */
#include "core/base/assert.h"
#include "ctrl/adapter/coord/coord_internal.h"

#include <strings.h>

#define VARS_DURATION_MAX_US 2147483647000.0 /* INT_MAX milliseconds, PostgreSQL's bound */

/* What values are accepted: see check(). */
enum var_kind {
    VAR_TEXT,
    VAR_BOOL,
    VAR_INT,
    VAR_DURATION,
    VAR_SIZE,
    VAR_FIXED,
    VAR_ISOLATION,
    VAR_UTF8,
};

struct var {
    const char *name; /* as PostgreSQL spells it; compared without case */
    const char *initial; /* in canonical form */
    enum var_kind kind;
    bool reported; /* ParameterStatus */
    const char *description; /* for SHOW ALL */
};

static const struct var vars[] = {
    {"application_name", "", VAR_TEXT, true, "Name the application gave itself."},
    {"bytea_output", "hex", VAR_FIXED, false, "Output format of bytea."},
    {"client_encoding", "UTF8", VAR_UTF8, true, "Encoding of the client."},
    {"client_min_messages", "notice", VAR_TEXT, false, "Least severe message sent to the client."},
    {"cluster", "default", VAR_TEXT, false, "Where queries run and objects are made."},
    {"cluster_replica", "", VAR_TEXT, false, "Replica that queries are sent to."},
    {"database", "tailrace", VAR_TEXT, false, "Current database."},
    {"dataflow_memory_limit", "0", VAR_SIZE, false,
     "Most memory of a query's dataflow on a worker; 0: no limit of its own."},
    {"DateStyle", "ISO, MDY", VAR_TEXT, true, "Display of dates: always ISO."},
    {"default_transaction_isolation", "strict serializable", VAR_ISOLATION, false,
     "Isolation of new transactions."},
    {"default_transaction_read_only", "off", VAR_BOOL, true, "Whether transactions only read."},
    {"escape_string_warning", "on", VAR_BOOL, false, "Accepted, without effect."},
    {"extra_float_digits", "1", VAR_INT, false, "Digits of floats: always shortest exact."},
    {"idle_in_transaction_session_timeout", "0", VAR_DURATION, false,
     "Longest a client may be silent in a transaction; 0: no limit."},
    {"idle_session_timeout", "0", VAR_DURATION, false,
     "Longest a client may be silent outside a transaction; 0: no limit."},
    {"in_hot_standby", "off", VAR_FIXED, true, "Never in recovery."},
    {"integer_datetimes", "on", VAR_FIXED, true, "Timestamps are 64-bit integers."},
    {"IntervalStyle", "postgres", VAR_TEXT, true, "Display of intervals: always postgres."},
    {"introspection_rows", "10000", VAR_INT, false,
     "Most rows of a kind that a process tells of what it counts."},
    {"introspection_timeout", "1s", VAR_DURATION, false,
     "Longest to wait for a process to say what it counts."},
    {"is_superuser", "on", VAR_FIXED, true, "Whether the user may do everything."},
    {"jit", "off", VAR_BOOL, false, "Accepted, without effect."},
    {"lock_timeout", "0", VAR_DURATION, false, "Accepted, without effect."},
    {"max_identifier_length", "255", VAR_FIXED, false, "Bytes of an identifier."},
    {"row_security", "on", VAR_BOOL, false, "Accepted, without effect."},
    {"search_path", "public", VAR_TEXT, false, "Schemas where names are looked for."},
    {"server_encoding", "UTF8", VAR_FIXED, true, "Encoding of the server."},
    {"server_version", "15.0", VAR_FIXED, true, "PostgreSQL version the dialect follows."},
    {"server_version_num", "150000", VAR_FIXED, false, "The same as a number."},
    {"session_authorization", "tailrace", VAR_FIXED, true, "User of the session."},
    {"standard_conforming_strings", "on", VAR_FIXED, true, "Backslashes are plain characters."},
    {"statement_timeout", "60s", VAR_DURATION, false, "Longest a statement may run; 0: no limit."},
    {"TimeZone", "UTC", VAR_TEXT, true, "Time zone: always UTC."},
    {"transaction_isolation", "strict serializable", VAR_ISOLATION, false,
     "Isolation of the transaction."},
    {"transaction_read_only", "off", VAR_BOOL, false, "Whether the transaction only reads."},
    {"xmloption", "content", VAR_TEXT, false, "Accepted, without effect."},
};

/* Positions are stable while the process runs: sessions index their values by them. */
size_t vars_count(void)
{
    return ARRAY_LEN(vars);
}

/* In PostgreSQL's spelling, sorted without regard to case. */
const char *vars_name(size_t i)
{
    ASSERT(i < ARRAY_LEN(vars));
    return vars[i].name;
}

/* For SHOW ALL and pg_settings. */
const char *vars_description(size_t i)
{
    ASSERT(i < ARRAY_LEN(vars));
    return vars[i].description;
}

/* SQL's own spellings ("time zone", "names") are aliases. Names compare without case. */
static const struct var *find(const char *name)
{
    ASSERT(name != NULL);
    static const struct {
        const char *alias, *name;
    } aliases[] = {{"time zone", "TimeZone"},
                   {"timezone", "TimeZone"},
                   {"transaction isolation level", "transaction_isolation"},
                   {"schema", "search_path"},
                   {"names", "client_encoding"}};
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++) {
        if (strcasecmp(aliases[i].alias, name) == 0) {
            name = aliases[i].name;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(vars); i++) {
        if (strcasecmp(vars[i].name, name) == 0) {
            return &vars[i];
        }
    }
    return NULL;
}

/* Borrowed until the variable is set again. */
const char *vars_at(const struct session *s, size_t i)
{
    ASSERT(i < ARRAY_LEN(vars));
    if (s->vars[i].local != NULL) {
        return s->vars[i].local;
    }
    if (s->vars[i].value != NULL) {
        return s->vars[i].value;
    }
    return strcmp(vars[i].name, "session_authorization") == 0 ? s->user : vars[i].initial;
}

/* Linear over some tens of names, a few times a statement. */
const char *vars_get(const struct session *s, const char *name)
{
    ASSERT(s->vars != NULL);
    const struct var *v = find(name);
    return v == NULL ? NULL : vars_at(s, (size_t)(v - vars));
}

/* "500ms", "2s", "1min", "1h", "1d"; a plain number is milliseconds. False: neither. PostgreSQL's
 * units; fractions are allowed, as there. */
static bool parse_duration(const char *text, uint64_t *us)
{
    ASSERT(text != NULL && us != NULL);
    static const struct {
        const char *unit;
        uint64_t us;
    } units[] = {{"", 1000},        {"us", 1},           {"ms", 1000},          {"s", 1000000},
                 {"min", 60000000}, {"h", 3600000000ULL}, {"d", 86400000000ULL}};
    char *end = NULL;
    double number = strtod(text, &end);
    while (*end == ' ') {
        end++;
    }
    if (end == text || !(number >= 0 && number <= 1e9)) {
        return false; /* also for what is not a number */
    }
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (strcmp(end, units[i].unit) == 0) {
            double value = number * (double)units[i].us;
            *us = value <= VARS_DURATION_MAX_US ? (uint64_t)value : 0;
            return value <= VARS_DURATION_MAX_US;
        }
    }
    return false;
}

/* Microseconds; the value was checked when it was set. */
uint64_t vars_duration_us(const struct session *s, const char *name)
{
    uint64_t us = 0;
    const char *text = vars_get(s, name);
    ASSERT(text != NULL);
    bool ok = parse_duration(text, &us);
    ASSERT(ok);
    return us;
}

/* Bytes; checked when it was set, too. */
uint64_t vars_size(const struct session *s, const char *name)
{
    uint64_t bytes = 0;
    bool ok = sql_parse_size(vars_get(s, name), &bytes);
    ASSERT(ok);
    return bytes;
}

/* The words PostgreSQL takes, to its canonical two; NULL for any other. */
static const char *parse_bool(const char *text)
{
    static const char *const yes[] = {"on", "true", "yes", "1", "t", "y"};
    static const char *const no[] = {"off", "false", "no", "0", "f", "n"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (strcasecmp(text, yes[i]) == 0) {
            return "on";
        }
        if (strcasecmp(text, no[i]) == 0) {
            return "off";
        }
    }
    return NULL;
}

/* 22023, in PostgreSQL's words. */
static err_t bad_value(const struct var *v, const char *value)
{
    return err_sql(ERR_INVALID, "22023", "invalid value for parameter \"%s\": \"%s\"", v->name,
                   value);
}

/* Checks a value and gives its canonical form. */
static err_t check(const struct var *v, const char *value, const char **out)
{
    static const char *const levels[] = {"strict serializable", "serializable", "repeatable read",
                                         "read committed", "read uncommitted"};
    uint64_t us = 0;
    char *end = NULL;
    ASSERT(value != NULL && out != NULL);
    *out = value;
    switch (v->kind) {
    case VAR_TEXT: return ERR_OK;
    case VAR_BOOL:
        *out = parse_bool(value);
        return *out == NULL ? bad_value(v, value) : ERR_OK;
    case VAR_INT:
        (void)strtol(value, &end, 10);
        return end == value || *end != '\0' ? bad_value(v, value) : ERR_OK;
    case VAR_SIZE: return sql_parse_size(value, &us) ? ERR_OK : bad_value(v, value);
    case VAR_DURATION: return parse_duration(value, &us) ? ERR_OK : bad_value(v, value);
    case VAR_FIXED:
        if (strcasecmp(value, v->initial) == 0) {
            return ERR_OK;
        }
        return err_sql(ERR_INVALID, "55P02", "parameter \"%s\" cannot be changed", v->name);
    case VAR_ISOLATION:
        /* Weaker levels are accepted; what is given is always the strongest. */
        for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
            if (strcasecmp(value, levels[i]) == 0) {
                *out = levels[i];
                return ERR_OK;
            }
        }
        return bad_value(v, value);
    case VAR_UTF8:
        if (strcasecmp(value, "utf8") == 0 || strcasecmp(value, "utf-8") == 0 ||
            strcasecmp(value, "unicode") == 0) {
            *out = "UTF8";
            return ERR_OK;
        }
        return err_sql(ERR_UNSUPPORTED, "0A000", "client_encoding \"%s\" is not supported", value);
    }
    UNREACHABLE();
}

/* A value is another: ParameterStatus for those the protocol says clients must hear of, at once and
 * not at commit; pgwire itself minds idle clients. */
static void report(struct session *s, const struct var *v)
{
    ASSERT(v >= vars && v < vars + ARRAY_LEN(vars));
    if (s->conn == NULL) {
        return;
    }
    if (v->reported) {
        pgwire_send_parameter(s->conn, v->name, vars_at(s, (size_t)(v - vars)));
    }
    if (v->kind == VAR_DURATION && strncmp(v->name, "idle_", 5) == 0) {
        pgwire_set_idle(s->conn, vars_duration_us(s, "idle_session_timeout"),
                        vars_duration_us(s, "idle_in_transaction_session_timeout"));
    }
}

/* value NULL resets. local: until the transaction ends, in which case the session's value stays
 * behind it. */
err_t vars_set(struct session *s, const char *name, const char *value, bool local)
{
    ASSERT(s->vars != NULL && name != NULL);
    const struct var *v = find(name);
    if (v == NULL) {
        /* Names with a dot are the application's own; nobody reads them here. */
        return strchr(name, '.') != NULL
                   ? ERR_OK
                   : err_sql(ERR_NOT_FOUND, "42704", "unrecognized configuration parameter \"%s\"",
                             name);
    }
    struct var_value *slot = &s->vars[v - vars];
    const char *canonical = NULL;
    if (value != NULL) {
        TRY(check(v, value, &canonical));
    }
    char *copy = canonical != NULL ? mem_strdup(canonical) : NULL;
    free(slot->local);
    slot->local = NULL;
    if (local) {
        slot->local = copy;
    } else {
        free(slot->value);
        slot->value = copy;
    }
    report(s, v);
    return ERR_OK;
}

/* The database stays: it is where the connection is, not a preference. */
void vars_reset_all(struct session *s)
{
    for (size_t i = 0; i < ARRAY_LEN(vars); i++) {
        bool keep = strcmp(vars[i].name, "database") == 0;
        if (!keep && (s->vars[i].value != NULL || s->vars[i].local != NULL)) {
            free(s->vars[i].value);
            free(s->vars[i].local);
            s->vars[i] = (struct var_value){0};
            report(s, &vars[i]);
        }
    }
}

/* Clients hear of values that come back. */
void vars_end_transaction(struct session *s)
{
    for (size_t i = 0; i < ARRAY_LEN(vars); i++) {
        if (s->vars[i].local != NULL) {
            free(s->vars[i].local);
            s->vars[i].local = NULL;
            report(s, &vars[i]);
        }
    }
}

/* At the start of a session: drivers wait for these. */
void vars_report(struct session *s)
{
    for (size_t i = 0; i < ARRAY_LEN(vars); i++) {
        report(s, &vars[i]);
    }
}

/* Once, with the session. */
void vars_free(struct session *s)
{
    for (size_t i = 0; i < ARRAY_LEN(vars); i++) {
        free(s->vars[i].value);
        free(s->vars[i].local);
    }
    free(s->vars);
    s->vars = NULL;
}
