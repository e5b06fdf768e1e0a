/*
 * Command-line flags of the daemons and tools: --name value, --name=value, --switch; each also as
 * an environment variable (--sql-listen-addr is TAILRACE_SQL_LISTEN_ADDR), the command line wins.
 * --help and --version are understood everywhere. main()'s thread, at start.
 */
#ifndef TAILRACE_CTRL_OPTIONS_OPTIONS_H
#define TAILRACE_CTRL_OPTIONS_OPTIONS_H

#include "core/base/err.h"

enum option_kind {
    OPTION_TEXT,   /* const char * */
    OPTION_U64,    /* uint64_t */
    OPTION_BOOL,   /* bool: a switch, or --name=false */
    OPTION_CHOICE, /* const char *, one of the words in choices ("a|b|c") */
    OPTION_LIST,   /* struct option_list: the flag may be repeated */
};

struct option_list {
    const char **items;
    size_t items_len;
    size_t items_cap;
};

struct option {
    const char *name; /* without the dashes */
    enum option_kind kind;
    void *target;        /* holds the default before parsing */
    const char *argument; /* what stands for the value in --help: "HOST:PORT" */
    const char *help;
    const char *choices;
    bool required;
    uint64_t min, max; /* OPTION_U64; both 0: no bounds */
};

struct options_program {
    const char *name;
    const char *summary; /* one line */
    const struct option *options;
    size_t options_len;
};

/*
 * Parses. *done is set when --help or --version was asked for and printed: exit 0 then. Text values
 * point into argv and the environment. ERR_INVALID names the flag and says what it takes.
 */
err_t options_parse(const struct options_program *program, int argc, char **argv, bool *done);
void option_list_free(struct option_list *list);

#endif
