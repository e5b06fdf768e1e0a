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

/* Values in the order they were given; free with option_list_free. */
struct option_list {
    const char **items; /* each borrowed from argv or the environment */
    size_t items_len;
    size_t items_cap;
};

/* One flag. The table is static; target is the program's own variable, of the kind's type. */
struct option {
    const char *name; /* without the dashes */
    enum option_kind kind;
    void *target;        /* holds the default before parsing */
    const char *argument; /* what stands for the value in --help: "HOST:PORT" */
    const char *help; /* one line, of what the flag is for */
    const char *choices; /* OPTION_CHOICE: "a|b|c"; else NULL */
    bool required; /* must come from the command line or the environment */
    uint64_t min, max; /* OPTION_U64; both 0: no bounds */
};

/* What --help tells of, and options_parse looks in. */
struct options_program {
    const char *name;
    const char *summary; /* one line */
    const struct option *options;
    size_t options_len; /* at least one */
};

/*
 * Parses. *done is set when --help or --version was asked for and printed: exit 0 then. Text values
 * point into argv and the environment. ERR_INVALID names the flag and says what it takes.
 */
err_t options_parse(const struct options_program *program, int argc, char **argv, bool *done);
/* Also of a list that stayed empty. */
void option_list_free(struct option_list *list);

#endif
