/*
 * The environment's own certificate authority. environmentd makes it at first start and issues
 * each process a certificate that names environment, role and process as a URI:
 *
 *     tailrace://<environment>/<role>/<name>
 *
 * Peers are judged by that URI, not by host names: addresses move, identities do not. For clients
 * that insist on a host name (gRPC libraries) there is also "<role>.tailrace.internal".
 *
 * Everything is synchronous and small, on files under one directory (0700, keys 0600, every file
 * written atomically). Real env only: the simulator has no TLS. One pki per directory at a time.
 */
#ifndef TAILRACE_CTRL_PKI_PKI_H
#define TAILRACE_CTRL_PKI_PKI_H

#include "core/io/io.h"

enum pki_role { PKI_ENVIRONMENTD, PKI_STORAGED, PKI_COMPUTED, PKI_CLIENT };
enum { PKI_ROLES = 4 };

/* "environmentd", "storaged", "computed", "client". */
const char *pki_role_name(enum pki_role role);
err_t pki_role_parse(const char *text, enum pki_role *out);

struct pki;

/*
 * Opens the CA in dir, making it when there is none (EC P-256, 10 years). ERR_INVALID when dir
 * holds the CA of another environment; ERR_CORRUPT when its files do not belong together.
 * environment_id: letters, digits, '-', '_', '.', at most 64.
 */
err_t pki_init(struct io_loop *loop, const char *dir, const char *environment_id, struct pki **out);
void pki_free(struct pki *pki);

/* Paths valid while pki lives. */
const char *pki_ca_path(const struct pki *pki);

/* Paths of one process's files, as tls_config wants them. */
struct pki_files {
    char *certificate_path;
    char *key_path;
    char *ca_path;
};
void pki_files_free(struct pki_files *files);

/*
 * The certificate of (role, name): the one on disk when it is this CA's, is of this identity and
 * has a third of the lifetime left, else a new key and certificate. name as environment_id. Until
 * pki_retire it is renewed in its place when less is left; whoever uses it loads it anew (tls.h).
 */
err_t pki_issue(struct pki *pki, enum pki_role role, const char *name, struct pki_files *files);

/* The certificate is renewed no more: its process is gone. Its files stay; files is not freed. */
void pki_retire(struct pki *pki, const struct pki_files *files);
/* Of certificates issued from now on; one year unless set. Older ones count as due by it too. */
void pki_set_lifetime(struct pki *pki, uint64_t seconds);

/* The parts of an identity URI; malformed or foreign input is ERR_INVALID. */
struct pki_identity {
    char environment[65];
    enum pki_role role;
    char name[65];
};
err_t pki_identity_parse(const char *uri, struct pki_identity *out);

#define PKI_ROLE_BIT(role) (1U << (role))

/*
 * Judges the authenticated name of a peer (io_stream_peer_name, rpc's authorize): ok when it is of
 * this environment and its role is in roles (PKI_ROLE_BIT). Otherwise ERR_PERMISSION with a reason
 * that names what was found and what was wanted: SQLSTATE 28000 for no identity or a foreign
 * environment, 42501 for the wrong role.
 */
err_t pki_check_peer(const char *peer_name, const char *environment_id, unsigned roles);

#endif
