/*
 * The CA on disk, and the certificates of processes. In its directory:
 *
 *     ca.crt, ca.key            made together at first start; the key never leaves this directory
 *     <role>-<name>.crt, .key   one process each
 *
 * A pair is written key first, certificate second, each atomically: a certificate without its key
 * cannot be, and a key without its certificate is what an interrupted start leaves; it is made
 * anew. A renewal that is interrupted between the two leaves a new key beside an old certificate,
 * which pki_read_pem refuses, and the next look makes both anew.
 *
 * The CA is never repaired or replaced silently: every process of the environment trusts it, and a
 * new one would lock them all out. What is wrong with it is an error with a hint.
 *
 * Runs on one loop (environmentd's), synchronously: a few small files, at start, when a process
 * starts, and when a certificate is due. Keys in memory are wiped when they are given back.
 *
 * Entry points: pki_init, pki_issue, pki_retire.
 */
#include "ctrl/pki/pki_internal.h"

#include "core/base/log.h"

#include <openssl/x509v3.h>

/* Of a PEM file, far above any of ours; of a leaf; between two looks at what is due. */
enum { FILE_MAX = 64 * 1024, LIFETIME_S = 365 * 86400, LOOK_EVERY_MAX_S = 86400 };

/* A certificate that is kept current. */
struct issued {
    char *uri; /* who it names */
    char *certificate_path;
    char *key_path;
};

/* One loop's; nobody else writes the directory while it lives. */
struct pki {
    struct io_loop *loop;
    char *dir;
    char *environment_id; /* checked by pki_word_ok */
    char *ca_path; /* of ca.crt, which every process reads */
    struct pki_pair ca; /* its key signs; both NULL before open_ca */
    uint64_t lifetime_s; /* of certificates issued from now on */
    struct issued *issued; /* in no order; searched by certificate path, of which there are few */
    size_t issued_len;
    size_t issued_cap;
    struct io_timer renewal; /* armed while something is issued */
};

/* "<dir>/<stem><suffix>". Stems are made of words (pki_word_ok): no slash can be in them. */
static char *path_of(const char *dir, const char *stem, const char *suffix)
{
    ASSERT(dir != NULL && stem != NULL);
    struct buf text = {0};
    buf_printf(&text, "%s/%s%s", dir, stem, suffix);
    char *path = mem_strdup(buf_cstr(&text));
    buf_free(&text);
    return path;
}

/* Seconds since 1970, as X.509 counts. */
static uint64_t now_s(struct io_loop *loop)
{
    return io_now_us(loop) / 1000000;
}

/* ---- pairs on disk --------------------------------------------------------------------------- */

/* The key first: a certificate on disk always has its key. */
static err_t write_pair(struct io_loop *loop, const struct pki_pair *pair, const char *crt,
                        const char *key)
{
    ASSERT(pair->certificate != NULL && pair->key != NULL);
    struct buf certificate_pem = {0};
    struct buf key_pem = {0};
    err_t err = pki_write_pem(pair, &certificate_pem, &key_pem);
    if (err == ERR_OK) {
        err = io_write_whole_sync(loop, key, key_pem.data, key_pem.len, 0600);
    }
    if (err == ERR_OK) {
        err = io_write_whole_sync(loop, crt, certificate_pem.data, certificate_pem.len, 0600);
    }
    buf_free(&certificate_pem);
    pki_wipe(&key_pem);
    return err_wrap(err, "writing %s", crt);
}

/* NOT_FOUND when one of the files is not there. */
static err_t read_pair(struct io_loop *loop, const char *crt, const char *key, struct pki_pair *out)
{
    ASSERT(out != NULL);
    struct buf certificate_pem = {0};
    struct buf key_pem = {0};
    err_t err =
        io_read_whole_sync(loop, crt, FILE_MAX, &certificate_pem.data, &certificate_pem.len);
    if (err == ERR_OK) {
        err = io_read_whole_sync(loop, key, FILE_MAX, &key_pem.data, &key_pem.len);
        key_pem.cap = key_pem.len;
    }
    if (err == ERR_OK) {
        err =
            pki_read_pem(certificate_pem.data, certificate_pem.len, key_pem.data, key_pem.len, out);
    }
    buf_free(&certificate_pem);
    pki_wipe(&key_pem);
    return err_wrap(err, "reading %s and %s", crt, key);
}

/* ---- the CA ---------------------------------------------------------------------------------- */

/* The CA on disk must be of this environment, intact and valid; nothing is repaired silently. */
static err_t check_ca(struct pki *pki)
{
    ASSERT(pki->ca.certificate != NULL);
    char *wanted = pki_identity_uri(pki->environment_id, "ca", "ca");
    char *found = pki_uri_of(pki->ca.certificate);
    err_t err = ERR_OK;
    if (found == NULL || strcmp(found, wanted) != 0) {
        err = err_new(ERR_INVALID, "%s is the CA of %s and not of environment \"%s\"", pki->ca_path,
                      found == NULL ? "something else" : found, pki->environment_id);
    } else if (!pki_is_current(pki->ca.certificate, &pki->ca, wanted, now_s(pki->loop))) {
        err = err_hint(
            err_new(ERR_CORRUPT, "%s has expired or is not signed by its own key", pki->ca_path),
            "move %s away: a new CA is made and every process gets a new certificate", pki->dir);
    }
    free(wanted);
    free(found);
    return err;
}

/* Once in the life of an environment. */
static err_t make_ca(struct pki *pki, const char *key_path)
{
    ASSERT(pki->ca.certificate == NULL);
    struct io_env *env = io_loop_env(pki->loop);
    TRY(pki_make_ca(env, pki->environment_id, now_s(pki->loop), &pki->ca));
    TRY(write_pair(pki->loop, &pki->ca, pki->ca_path, key_path));
    LOG_INFO("pki", "made the environment's certificate authority", LOG_STR("path", pki->ca_path),
             LOG_STR("environment", pki->environment_id));
    return ERR_OK;
}

/*
 * Only a missing certificate makes a new CA: a key that is missing, or anything that cannot be
 * read, is an error for a person to look at.
 */
static err_t open_ca(struct pki *pki)
{
    ASSERT(pki->dir != NULL && pki->ca_path != NULL);
    TRY(io_mkdir_durable_sync(pki->loop, pki->dir, 0700));
    char *key_path = path_of(pki->dir, "ca", ".key");
    struct io_stat stat;
    err_t err = io_stat_sync(pki->loop, pki->ca_path, &stat);
    if (err != ERR_OK && err_code(err) == ERR_NOT_FOUND) {
        err_free(err);
        err = make_ca(pki, key_path);
    } else if (err == ERR_OK) {
        err = read_pair(pki->loop, pki->ca_path, key_path, &pki->ca);
        if (err == ERR_OK) {
            err = check_ca(pki);
        }
    }
    free(key_path);
    return err;
}

static void renewal_fired(struct io_timer *timer);

err_t pki_init(struct io_loop *loop, const char *dir, const char *environment_id, struct pki **out)
{
    ASSERT(loop != NULL && dir != NULL && environment_id != NULL && out != NULL);
    if (io_env_simulated(io_loop_env(loop))) {
        return err_new(ERR_UNSUPPORTED, "there are no certificates in the simulator");
    }
    if (!pki_word_ok(environment_id, strlen(environment_id))) {
        return err_new(ERR_INVALID,
                       "environment id \"%s\": 1 to 64 letters, digits, '-', '_' and '.'",
                       environment_id);
    }
    struct pki *pki = MEM_NEW(struct pki);
    pki->loop = loop;
    pki->lifetime_s = LIFETIME_S;
    pki->renewal.fire = renewal_fired;
    pki->dir = mem_strdup(dir);
    pki->environment_id = mem_strdup(environment_id);
    pki->ca_path = path_of(dir, "ca", ".crt");
    err_t err = open_ca(pki);
    if (err != ERR_OK) {
        pki_free(pki);
        return err_wrap(err, "certificate authority in %s", dir);
    }
    *out = pki;
    return ERR_OK;
}

/* The entry itself is a place of the array. */
static void issued_free(struct issued *issued)
{
    ASSERT(issued->uri != NULL);
    free(issued->uri);
    free(issued->certificate_path);
    free(issued->key_path);
}

/* Also of a pki whose pki_init failed half-way. Nothing on disk changes. */
void pki_free(struct pki *pki)
{
    if (pki == NULL) {
        return;
    }
    io_timer_cancel(pki->loop, &pki->renewal);
    for (size_t i = 0; i < pki->issued_len; i++) {
        issued_free(&pki->issued[i]);
    }
    free(pki->issued);
    pki_pair_free(&pki->ca);
    free(pki->dir);
    free(pki->environment_id);
    free(pki->ca_path);
    free(pki);
}

const char *pki_ca_path(const struct pki *pki)
{
    ASSERT(pki != NULL);
    return pki->ca_path;
}

/* ---- certificates of processes --------------------------------------------------------------- */

void pki_files_free(struct pki_files *files)
{
    ASSERT(files != NULL);
    free(files->certificate_path);
    free(files->key_path);
    free(files->ca_path);
    *files = (struct pki_files){0};
}

/* True when the files hold a certificate that can be used for a good while yet. */
static bool have_current(struct pki *pki, const char *uri, const char *crt, const char *key)
{
    ASSERT(uri != NULL);
    struct pki_pair pair;
    err_t err = read_pair(pki->loop, crt, key, &pair);
    if (err != ERR_OK) {
        if (err_code(err) != ERR_NOT_FOUND) { /* a new one heals whatever it is */
            LOG_WARN("pki", "a certificate is made anew", LOG_STR("identity", uri), LOG_ERR(err));
        }
        err_free(err);
        return false;
    }
    bool current =
        pki_is_current(pair.certificate, &pki->ca, uri, now_s(pki->loop) + pki->lifetime_s / 3);
    pki_pair_free(&pair);
    return current;
}

/* A new key each time: an old certificate and a new one never share one. */
static err_t issue(struct pki *pki, const char *uri, const char *crt, const char *key)
{
    ASSERT(uri != NULL);
    struct pki_pair pair;
    TRY(pki_make_leaf(io_loop_env(pki->loop), &pki->ca, uri, now_s(pki->loop),
                      pki->lifetime_s, &pair));
    err_t err = write_pair(pki->loop, &pair, crt, key);
    pki_pair_free(&pair);
    if (err == ERR_OK) {
        LOG_INFO("pki", "issued a certificate", LOG_STR("identity", uri));
    }
    return err;
}

/* ---- renewal --------------------------------------------------------------------------------- */

/* Often enough that several looks fall into the last third of a lifetime. */
static void renewal_start(struct pki *pki)
{
    uint64_t every_s = pki->lifetime_s / 12;
    every_s = every_s < 1 ? 1 : every_s < LOOK_EVERY_MAX_S ? every_s : LOOK_EVERY_MAX_S;
    io_timer_start(pki->loop, &pki->renewal, io_now_us(pki->loop) + every_s * 1000000);
}

/* A failure (a full disk) is tried again at the next look: there is a third of a lifetime left. */
static void renewal_fired(struct io_timer *timer)
{
    struct pki *pki = CONTAINER_OF(timer, struct pki, renewal);
    for (size_t i = 0; i < pki->issued_len; i++) {
        const struct issued *at = &pki->issued[i];
        if (have_current(pki, at->uri, at->certificate_path, at->key_path)) {
            continue;
        }
        err_t err = issue(pki, at->uri, at->certificate_path, at->key_path);
        if (err != ERR_OK) {
            LOG_ERROR("pki", "a certificate is not renewed", LOG_STR("identity", at->uri),
                      LOG_ERR(err));
            err_free(err);
        }
    }
    renewal_start(pki);
}

/* The place in the list, or its length when it is not there. */
static size_t issued_find(const struct pki *pki, const char *certificate_path)
{
    size_t at = 0;
    while (at < pki->issued_len &&
           strcmp(pki->issued[at].certificate_path, certificate_path) != 0) {
        at++;
    }
    return at;
}

/* Once a certificate, however often it is issued: a process that restarts asks again. */
static void keep_current(struct pki *pki, const char *uri, const struct pki_files *files)
{
    if (issued_find(pki, files->certificate_path) < pki->issued_len) {
        return;
    }
    struct issued *issued = VEC_PUSH(pki, issued);
    issued->uri = mem_strdup(uri);
    issued->certificate_path = mem_strdup(files->certificate_path);
    issued->key_path = mem_strdup(files->key_path);
    if (pki->issued_len == 1) {
        renewal_start(pki);
    }
}

void pki_retire(struct pki *pki, const struct pki_files *files)
{
    ASSERT(pki != NULL && files->certificate_path != NULL);
    /* Not found: retired before, or the issue had failed. */
    size_t at = issued_find(pki, files->certificate_path);
    if (at == pki->issued_len) {
        return;
    }
    ASSERT(pki->issued_len <= pki->issued_cap);
    issued_free(&pki->issued[at]);
    pki->issued[at] = pki->issued[--pki->issued_len];
    if (pki->issued_len == 0) {
        io_timer_cancel(pki->loop, &pki->renewal);
    }
}

/* For tests and for those who want shorter ones; the next look comes sooner with it. */
void pki_set_lifetime(struct pki *pki, uint64_t seconds)
{
    ASSERT(pki != NULL && seconds > 0);
    pki->lifetime_s = seconds;
    if (pki->issued_len > 0) {
        renewal_start(pki);
    }
}

/* On success files is the caller's to free; on failure nothing is held. */
err_t pki_issue(struct pki *pki, enum pki_role role, const char *name, struct pki_files *files)
{
    ASSERT(pki != NULL && name != NULL && files != NULL);
    if (!pki_word_ok(name, strlen(name))) {
        return err_new(ERR_INVALID, "process name \"%s\": 1 to 64 letters, digits, '-', '_', '.'",
                       name);
    }
    struct buf stem = {0};
    buf_printf(&stem, "%s-%s", pki_role_name(role), name);
    char *uri = pki_identity_uri(pki->environment_id, pki_role_name(role), name);
    files->certificate_path = path_of(pki->dir, buf_cstr(&stem), ".crt");
    files->key_path = path_of(pki->dir, buf_cstr(&stem), ".key");
    files->ca_path = mem_strdup(pki->ca_path);
    buf_free(&stem);
    err_t err = have_current(pki, uri, files->certificate_path, files->key_path)
                    ? ERR_OK
                    : issue(pki, uri, files->certificate_path, files->key_path);
    if (err == ERR_OK) {
        keep_current(pki, uri, files);
    } else {
        pki_files_free(files);
        err = err_wrap(err, "certificate of %s", uri);
    }
    free(uri);
    return err;
}
