/*
 * Makes an environment's CA and certificates for a test:
 *
 *     issue_certificates DIRECTORY ENVIRONMENT ROLE...
 *
 * gives DIRECTORY/ca.crt and DIRECTORY/<role>-test.{crt,key} for each role.
 */
#include "core/base/log.h"
#include "ctrl/pki/pki.h"

#include <stdio.h>

struct arguments {
    char **argv;
    int argc;
    int exit_code;
};

static err_t issue_all(struct io_loop *loop, const struct arguments *arguments)
{
    struct pki *pki;
    TRY(pki_init(loop, arguments->argv[1], arguments->argv[2], &pki));
    err_t err = ERR_OK;
    for (int i = 3; i < arguments->argc && err == ERR_OK; i++) {
        enum pki_role role;
        struct pki_files files = {0};
        err = pki_role_parse(arguments->argv[i], &role);
        if (err == ERR_OK) {
            err = pki_issue(pki, role, "test", &files);
        }
        pki_files_free(&files);
    }
    pki_free(pki);
    return err;
}

static void start(struct io_loop *loop, void *arg)
{
    struct arguments *arguments = arg;
    err_t err = issue_all(loop, arguments);
    if (err != ERR_OK) {
        fprintf(stderr, "issue_certificates: %s\n", err_text(err));
        err_free(err);
        arguments->exit_code = 1;
    }
    io_loop_stop(loop);
}

int main(int argc, char **argv)
{
    struct arguments arguments = {argv, argc, 0};
    struct io_env *env;
    if (argc < 4) {
        fprintf(stderr, "usage: issue_certificates DIRECTORY ENVIRONMENT ROLE...\n");
        return 2;
    }
    log_configure(LOG_LEVEL_WARN, LOG_FORMAT_LOGFMT, "issue_certificates");
    err_t err = io_env_new_real(&env);
    if (err == ERR_OK) {
        err = io_main(env, start, &arguments);
        io_env_free(env);
    }
    if (err != ERR_OK) {
        fprintf(stderr, "issue_certificates: %s\n", err_text(err));
        err_free(err);
        return 1;
    }
    return arguments.exit_code;
}
