/* Flags and environment variables: what is taken, which wins, and what the errors name. */
#include "ctrl/options/options.h"

#include "core/base/mem.h"
#include "tests/unit/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ARGS_MAX = 8, ARGV_MAX = 16 };

/* One program with a flag of every kind; targets hold the defaults. */
struct settings {
    const char *address;
    const char *carrier;
    const char *data;
    uint64_t workers;
    uint64_t limit;
    bool verbose;
    struct option_list sources;
    struct option options[7];
    struct options_program program;
};

static void settings_init(struct settings *s)
{
    *s = (struct settings){.address = "127.0.0.1:1", .carrier = "auto", .workers = 3};
    const struct option options[] = {
        {.name = "listen-addr", .kind = OPTION_TEXT, .target = &s->address,
         .argument = "HOST:PORT", .help = "where to listen"},
        {.name = "carrier", .kind = OPTION_CHOICE, .target = &s->carrier, .argument = "WORD",
         .help = "how data moves", .choices = "auto|shm|tcp"},
        {.name = "data", .kind = OPTION_TEXT, .target = &s->data, .argument = "PATH",
         .help = "where data lives", .required = true},
        {.name = "workers", .kind = OPTION_U64, .target = &s->workers, .argument = "N",
         .help = "worker threads", .min = 1, .max = 256},
        {.name = "limit", .kind = OPTION_U64, .target = &s->limit, .argument = "N",
         .help = "any number"},
        {.name = "verbose", .kind = OPTION_BOOL, .target = &s->verbose, .help = "says more"},
        {.name = "source", .kind = OPTION_LIST, .target = &s->sources, .argument = "NAME",
         .help = "repeated"},
    };
    memcpy(s->options, options, sizeof(options));
    s->program = (struct options_program){.name = "prog",
                                          .summary = "tests flags",
                                          .options = s->options,
                                          .options_len = ARRAY_LEN(options)};
}

/* Parses "prog" and the arguments up to NULL. Text values point into the arguments. */
static err_t parse(struct settings *s, const char *const args[ARGS_MAX], bool *done)
{
    static char storage[ARGV_MAX][64];
    char *argv[ARGV_MAX] = {storage[0]};
    int argc = 1;
    snprintf(storage[0], sizeof(storage[0]), "prog");
    for (int i = 0; i < ARGS_MAX && args[i] != NULL; i++) {
        snprintf(storage[argc], sizeof(storage[0]), "%s", args[i]);
        argv[argc] = storage[argc];
        argc++;
    }
    return options_parse(&s->program, argc, argv, done);
}

static void clear_environment(void)
{
    static const char *const names[] = {"LISTEN_ADDR", "CARRIER", "DATA", "WORKERS",
                                        "LIMIT",       "VERBOSE", "SOURCE"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char name[64];
        snprintf(name, sizeof(name), "TAILRACE_%s", names[i]);
        unsetenv(name);
    }
}

#define PARSE(s, done, ...) parse(s, (const char *const[ARGS_MAX]){__VA_ARGS__}, done)

static void flags_of_every_kind(void)
{
    clear_environment();
    struct settings s;
    settings_init(&s);
    bool done = true;
    err_t err = PARSE(&s, &done, "--listen-addr", "h:2", "--carrier=tcp", "--data=a=b",
                      "--workers=256", "--limit", "18446744073709551615", "--verbose");
    CU_ASSERT_PTR_NULL_FATAL(err);
    CU_ASSERT_FALSE(done);
    CU_ASSERT_STRING_EQUAL(s.address, "h:2");
    CU_ASSERT_STRING_EQUAL(s.carrier, "tcp");
    CU_ASSERT_STRING_EQUAL(s.data, "a=b"); /* only the first = separates */
    CU_ASSERT_EQUAL(s.workers, 256);
    CU_ASSERT_EQUAL(s.limit, UINT64_MAX);
    CU_ASSERT_TRUE(s.verbose);
    CU_ASSERT_EQUAL(s.sources.items_len, 0);
}

static void defaults_stay(void)
{
    clear_environment();
    struct settings s;
    settings_init(&s);
    bool done = true;
    CU_ASSERT_PTR_NULL_FATAL(PARSE(&s, &done, "--data=d"));
    CU_ASSERT_STRING_EQUAL(s.address, "127.0.0.1:1");
    CU_ASSERT_STRING_EQUAL(s.carrier, "auto");
    CU_ASSERT_STRING_EQUAL(s.data, "d");
    CU_ASSERT_EQUAL(s.workers, 3);
    CU_ASSERT_FALSE(s.verbose);
}

static void command_line_wins(void)
{
    clear_environment();
    setenv("TAILRACE_LISTEN_ADDR", "env:1", 1);
    setenv("TAILRACE_DATA", "/env", 1);
    setenv("TAILRACE_WORKERS", "7", 1);
    setenv("TAILRACE_VERBOSE", "yes", 1);
    struct settings s;
    settings_init(&s);
    bool done = false;
    CU_ASSERT_PTR_NULL_FATAL(PARSE(&s, &done, "--workers=9", "--verbose=false"));
    CU_ASSERT_STRING_EQUAL(s.address, "env:1");
    CU_ASSERT_STRING_EQUAL(s.data, "/env"); /* satisfies required */
    CU_ASSERT_EQUAL(s.workers, 9);
    CU_ASSERT_FALSE(s.verbose);
    clear_environment();
}

static void last_flag_wins(void)
{
    clear_environment();
    struct settings s;
    settings_init(&s);
    bool done = false;
    CU_ASSERT_PTR_NULL_FATAL(PARSE(&s, &done, "--data=1", "--data", "2", "--workers=1",
                                   "--workers=2"));
    CU_ASSERT_STRING_EQUAL(s.data, "2");
    CU_ASSERT_EQUAL(s.workers, 2);
}

static void lists(void)
{
    clear_environment();
    struct settings s;
    settings_init(&s);
    bool done = false;
    CU_ASSERT_PTR_NULL_FATAL(PARSE(&s, &done, "--data=d", "--source=a", "--source", "b"));
    CU_ASSERT_EQUAL_FATAL(s.sources.items_len, 2);
    CU_ASSERT_STRING_EQUAL(s.sources.items[0], "a");
    CU_ASSERT_STRING_EQUAL(s.sources.items[1], "b");
    option_list_free(&s.sources);
    CU_ASSERT_PTR_NULL(s.sources.items);
    CU_ASSERT_EQUAL(s.sources.items_len, 0);
}

/* What the environment says of a list is given up when the command line names the flag. */
static void lists_command_line_wins(void)
{
    clear_environment();
    setenv("TAILRACE_SOURCE", "env", 1);
    struct settings s;
    settings_init(&s);
    bool done = false;
    CU_ASSERT_PTR_NULL_FATAL(PARSE(&s, &done, "--data=d"));
    CU_ASSERT_EQUAL_FATAL(s.sources.items_len, 1);
    CU_ASSERT_STRING_EQUAL(s.sources.items[0], "env");
    option_list_free(&s.sources);
    settings_init(&s);
    CU_ASSERT_PTR_NULL_FATAL(PARSE(&s, &done, "--data=d", "--source=a", "--source=b"));
    CU_ASSERT_EQUAL_FATAL(s.sources.items_len, 2);
    CU_ASSERT_STRING_EQUAL(s.sources.items[0], "a");
    option_list_free(&s.sources);
    clear_environment();
}

/* The error of these arguments is ERR_INVALID and holds every word. */
static void refuses(const char *const args[ARGS_MAX], const char *word, const char *word2)
{
    struct settings s;
    settings_init(&s);
    bool done = true;
    err_t err = parse(&s, args, &done);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_FALSE(done);
    CU_ASSERT_EQUAL(err_code(err), ERR_INVALID);
    if (strstr(err_text(err), word) == NULL || strstr(err_text(err), word2) == NULL) {
        printf("\"%s\" lacks \"%s\" or \"%s\"\n", err_text(err), word, word2);
        CU_FAIL("error text");
    }
    err_free(err);
    option_list_free(&s.sources);
}

#define REFUSES(word, word2, ...)                                                                  \
    refuses((const char *const[ARGS_MAX]){__VA_ARGS__}, word, word2)

static void errors_name_the_flag(void)
{
    clear_environment();
    REFUSES("--data is required", "where data lives", NULL);
    REFUSES("--nothing", "unknown", "--data=d", "--nothing=1");
    REFUSES("--list", "unknown", "--data=d", "--list=1"); /* no prefixes */
    REFUSES("\"stray\"", "unexpected", "--data=d", "stray");
    REFUSES("\"-x\"", "unexpected", "--data=d", "-x");
    REFUSES("\"--\"", "unexpected", "--data=d", "--");
    REFUSES("\"\"", "unexpected", "--data=d", "");
    REFUSES("--=1", "unexpected", "--=1");
    REFUSES("--data", "needs a value", "--data");
    REFUSES("--data", "needs a value", "--data="); /* required: empty is no value */
    REFUSES("--carrier", "auto|shm|tcp", "--data=d", "--carrier=udp");
    REFUSES("--carrier", "auto|shm|tcp", "--data=d", "--carrier=");
    REFUSES("--carrier", "auto|shm|tcp", "--data=d", "--carrier=auto|shm");
    REFUSES("--carrier", "auto|shm|tcp", "--data=d", "--carrier=au");
    REFUSES("--verbose", "\"maybe\"", "--data=d", "--verbose=maybe");
}

static void numbers_out_of_bounds(void)
{
    clear_environment();
    REFUSES("--workers", "from 1 to 256", "--data=d", "--workers=0");
    REFUSES("--workers", "from 1 to 256", "--data=d", "--workers=257");
    static const char *const bad[] = {"",    "-1",  "1x", "0x10", "1.5", " 7", "+7",
                                      "7 ", " -1", "18446744073709551616", "--7"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char flag[64];
        snprintf(flag, sizeof(flag), "--limit=%s", bad[i]);
        REFUSES("--limit", "whole number", "--data=d", flag);
    }
}

static void errors_name_the_variable(void)
{
    clear_environment();
    setenv("TAILRACE_WORKERS", "many", 1);
    REFUSES("TAILRACE_WORKERS", "\"many\"", "--data=d");
    setenv("TAILRACE_WORKERS", "1000", 1);
    REFUSES("TAILRACE_WORKERS", "from 1 to 256", "--data=d");
    clear_environment();
}

/* Standard output of a parse that prints. */
static void capture(const char *flag, char *out, size_t cap)
{
    struct settings s;
    settings_init(&s);
    fflush(stdout);
    FILE *file = tmpfile();
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    int saved = dup(STDOUT_FILENO);
    dup2(fileno(file), STDOUT_FILENO);
    bool done = false;
    err_t err = PARSE(&s, &done, "--workers=0", flag); /* help comes first, errors after */
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    CU_ASSERT_PTR_NULL(err);
    CU_ASSERT_TRUE(done);
    rewind(file);
    out[fread(out, 1, cap - 1, file)] = '\0';
    fclose(file);
}

static void help_and_version(void)
{
    clear_environment();
    char text[4096];
    capture("--version", text, sizeof(text));
    CU_ASSERT_STRING_EQUAL(text, "prog " TAILRACE_VERSION "\n");
    capture("--help", text, sizeof(text));
    static const char *const words[] = {
        "prog: tests flags", "usage: prog [flags]", "--listen-addr HOST:PORT",
        "[127.0.0.1:1]",     "--data PATH (required)", "auto|shm|tcp [auto]",
        "worker threads [3]", "--version", "TAILRACE_LISTEN_ADDR"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strstr(text, words[i]) == NULL) {
            printf("--help lacks \"%s\"\n", words[i]);
            CU_FAIL("help");
        }
    }
    capture("-h", text, sizeof(text));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "usage: prog"));
}

/* A value that looks like --help belongs to the flag before it only with "=". */
static void help_as_a_value(void)
{
    clear_environment();
    struct settings s;
    settings_init(&s);
    bool done = true;
    CU_ASSERT_PTR_NULL_FATAL(PARSE(&s, &done, "--data=--help"));
    CU_ASSERT_FALSE(done);
    CU_ASSERT_STRING_EQUAL(s.data, "--help");
}

static const struct test_case cases[] = {
    {"flags of every kind", flags_of_every_kind},
    {"defaults stay", defaults_stay},
    {"command line wins", command_line_wins},
    {"last flag wins", last_flag_wins},
    {"lists", lists},
    {"lists: command line wins", lists_command_line_wins},
    {"errors name the flag", errors_name_the_flag},
    {"numbers out of bounds", numbers_out_of_bounds},
    {"errors name the variable", errors_name_the_variable},
    {"help and version", help_and_version},
    {"help as a value", help_as_a_value},
};
TEST_SUITE("ctrl/options", cases)
