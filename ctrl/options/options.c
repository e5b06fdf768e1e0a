/*
 * Flags and environment variables: see options.h. One pass over the environment, then one over the
 * command line, so that what is named later wins; required options are checked at the end. The
 * program's table of options is its own and constant: what it gets wrong is asserted, what a user
 * gets wrong is an ERR_INVALID that names the flag and says what it takes.
 */
#include "ctrl/options/options.h"

#include "core/base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

/* By the whole name: abbreviations would break with the next flag. len excludes "=value". */
static const struct option *find_option(const struct options_program *program, const char *name,
                                        size_t len)
{
    ASSERT(name != NULL && len <= strlen(name));
    for (size_t i = 0; i < program->options_len; i++) {
        const struct option *option = &program->options[i];
        if (strlen(option->name) == len && strncmp(option->name, name, len) == 0) {
            return option;
        }
    }
    return NULL;
}

/* "sql-listen-addr" -> "TAILRACE_SQL_LISTEN_ADDR". */
static void environment_name(const struct option *option, char out[128])
{
    int len = snprintf(out, 128, "TAILRACE_%s", option->name);
    ASSERT(len > 0 && len < 128);
    for (char *p = out; *p != '\0'; p++) {
        *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    }
}

/* choices is "a|b|c"; the whole word counts, and the empty one is none. */
static bool word_in(const char *choices, const char *value)
{
    ASSERT(choices != NULL && value != NULL);
    size_t len = strlen(value);
    for (const char *p = choices; *p != '\0';) {
        size_t word = strcspn(p, "|");
        if (word == len && strncmp(p, value, len) == 0) {
            return true;
        }
        p += word + (p[word] == '|' ? 1 : 0);
    }
    return false;
}

/* Decimal, 64 bits, and within the option's bounds where it has some. */
static err_t set_number(const struct option *option, const char *value)
{
    ASSERT(option->target != NULL && option->min <= option->max);
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    /* strtoull takes blanks and signs, and wraps "-1" around: digits only. */
    if (errno != 0 || end == value || *end != '\0' || !isdigit((unsigned char)value[0])) {
        return err_new(ERR_INVALID, "--%s takes a whole number, not \"%s\"", option->name, value);
    }
    /* Both 0 is how a table says that there are no bounds. */
    bool bounded = option->min != 0 || option->max != 0;
    if (bounded && (number < option->min || number > option->max)) {
        return err_new(ERR_INVALID, "--%s takes a number from %llu to %llu, not %llu",
                       option->name, (unsigned long long)option->min,
                       (unsigned long long)option->max, number);
    }
    *(uint64_t *)option->target = number;
    return ERR_OK;
}

/* Texts are not copied: they lie in argv or the environment, which stay. */
static err_t set_option(const struct option *option, const char *value)
{
    ASSERT(option->target != NULL && value != NULL);
    ASSERT((option->kind == OPTION_CHOICE) == (option->choices != NULL));
    switch (option->kind) {
    case OPTION_CHOICE:
        if (!word_in(option->choices, value)) {
            return err_new(ERR_INVALID, "--%s takes %s, not \"%s\"", option->name, option->choices,
                           value);
        }
        *(const char **)option->target = value;
        return ERR_OK;
    case OPTION_TEXT:
        if (option->required && value[0] == '\0') { /* "--data-directory=$UNSET" would be "/" */
            return err_new(ERR_INVALID, "--%s needs a value: %s", option->name, option->help);
        }
        *(const char **)option->target = value;
        return ERR_OK;
    case OPTION_U64: return set_number(option, value);
    case OPTION_LIST: {
        struct option_list *list = option->target;
        *VEC_PUSH(list, items) = value;
        return ERR_OK;
    }
    case OPTION_BOOL:
        if (!word_in("true|false|1|0|yes|no", value)) {
            return err_new(ERR_INVALID, "--%s takes true or false, not \"%s\"", option->name,
                           value);
        }
        *(bool *)option->target = word_in("true|1|yes", value);
        return ERR_OK;
    }
    UNREACHABLE();
}

/* Runs before anything was parsed: what the targets hold is the defaults. */
static void print_help(const struct options_program *program)
{
    printf("%s: %s\n\nusage: %s [flags]\n\n", program->name, program->summary, program->name);
    for (size_t i = 0; i < program->options_len; i++) {
        const struct option *option = &program->options[i];
        printf("  --%s%s%s%s\n      %s%s%s", option->name, option->argument != NULL ? " " : "",
               option->argument != NULL ? option->argument : "",
               option->required ? " (required)" : "", option->help,
               option->choices != NULL ? ": " : "",
               option->choices != NULL ? option->choices : "");
        bool text = option->kind == OPTION_TEXT || option->kind == OPTION_CHOICE;
        if (text && *(const char **)option->target != NULL) {
            printf(" [%s]", *(const char **)option->target);
        } else if (option->kind == OPTION_U64) {
            printf(" [%llu]", (unsigned long long)*(uint64_t *)option->target);
        }
        printf("\n");
    }
    printf("  --help, --version\n\nEach flag may also be set in the environment: --%s is ",
           program->options[0].name);
    char name[128];
    environment_name(&program->options[0], name);
    printf("%s.\n", name);
}

/* A list takes one item here; the command line may name more, and then replaces it. */
static err_t parse_environment(const struct options_program *program, bool *given)
{
    for (size_t i = 0; i < program->options_len; i++) {
        char name[128];
        environment_name(&program->options[i], name);
        const char *value = getenv(name); /* set to "" is set */
        if (value == NULL) {
            continue;
        }
        TRY(err_wrap(set_option(&program->options[i], value), "environment variable %s", name));
        given[i] = true;
    }
    return ERR_OK;
}

/* The first flag of a list on the command line replaces what the environment said. */
static void forget_list(const struct option *option)
{
    ASSERT(option->kind == OPTION_LIST);
    struct option_list *list = option->target;
    list->items_len = 0;
}

/* One argument at *at; moves *at past its value. */
static err_t parse_argument(const struct options_program *program, int argc, char **argv, int *at,
                            bool *named)
{
    const char *argument = argv[*at];
    if (strncmp(argument, "--", 2) != 0 || argument[2] == '\0' || argument[2] == '=') {
        return err_new(ERR_INVALID, "unexpected argument \"%s\": see %s --help", argument,
                       program->name);
    }
    const char *name = argument + 2;
    size_t len = strcspn(name, "=");
    const struct option *option = find_option(program, name, len);
    if (option == NULL) {
        return err_new(ERR_INVALID, "unknown flag --%.*s: see %s --help", (int)len, name,
                       program->name);
    }
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    /* A switch never takes the next argument: "--verbose file" would be ambiguous. */
    if (value == NULL && option->kind == OPTION_BOOL) {
        value = "true";
    } else if (value == NULL) {
        if (*at + 1 >= argc) {
            return err_new(ERR_INVALID, "--%s needs a value: %s", option->name, option->help);
        }
        value = argv[++*at];
    }
    size_t index = (size_t)(option - program->options);
    ASSERT(index < program->options_len);
    if (option->kind == OPTION_LIST && !named[index]) {
        forget_list(option);
    }
    named[index] = true;
    return set_option(option, value);
}

/* in_environment and named: one flag an option, where a value of it came from. */
static err_t parse_all(const struct options_program *program, int argc, char **argv,
                       bool *in_environment, bool *named)
{
    TRY(parse_environment(program, in_environment));
    for (int at = 1; at < argc; at++) {
        TRY(parse_argument(program, argc, argv, &at, named));
    }
    for (size_t i = 0; i < program->options_len; i++) {
        if (program->options[i].required && !in_environment[i] && !named[i]) {
            return err_new(ERR_INVALID, "--%s is required: %s", program->options[i].name,
                           program->options[i].help);
        }
    }
    return ERR_OK;
}

err_t options_parse(const struct options_program *program, int argc, char **argv, bool *done)
{
    ASSERT(program->options != NULL && argv != NULL && done != NULL);
    *done = false;
    /* First of all: help must come out whatever else is wrong on the command line. */
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(program);
            *done = true;
            return ERR_OK;
        }
        if (strcmp(argv[i], "--version") == 0) {
            printf("%s %s\n", program->name, TAILRACE_VERSION);
            *done = true;
            return ERR_OK;
        }
    }
    size_t len = program->options_len;
    ASSERT(len > 0);
    /* Two arrays in one: given by the environment, named on the command line. */
    bool *given = mem_zalloc(2 * len * sizeof(bool));
    err_t err = parse_all(program, argc, argv, given, given + len);
    free(given);
    return err;
}

void option_list_free(struct option_list *list)
{
    ASSERT(list != NULL && list->items_len <= list->items_cap);
    free(list->items); /* the items themselves are argv's */
    *list = (struct option_list){0};
}
