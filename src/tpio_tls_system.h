/* What TLS needs of the system beside the protocol: credentials, certificates with their keys, and the verification of the
 * peer's certificate. All of it may block (hardware with keys, the network for revocation): call it on a pool's thread.
 *
 * The system's libraries are loaded on first use, so that a program without TLS has nothing of them.
 */
#ifndef TPIO_TLS_SYSTEM_H
#define TPIO_TLS_SYSTEM_H

#include "tpio_tls.h"

#include <wincrypt.h>

/* The table of Schannel and its like; NULL: the system does not have it, and *error says why. */
const SecurityFunctionTableW *tpio_tls_sspi(DWORD *error);

/* This system does not report a peer's close_notify. */
BOOL tpio_tls_close_is_silent(void);

/* ---- stores and certificates; each returns a Win32 error code or HRESULT, 0 for success */

DWORD tpio_tls_store_create(HCERTSTORE *store);
DWORD tpio_tls_store_add(HCERTSTORE store, const void *der, DWORD size);
void tpio_tls_store_close(HCERTSTORE store);

/* Imports a PFX. Its keys go to files of the user's, as Schannel, in another process, has to find them: they are there
 * until tpio_tls_store_delete_keys. The certificate is the one of the store that has a key and has issued no other. */
DWORD tpio_tls_store_import(const void *pfx, DWORD size, const WCHAR *password, HCERTSTORE *store,
                            PCCERT_CONTEXT *certificate);
void tpio_tls_store_delete_keys(HCERTSTORE store);

/* Finds a certificate with a key by its SHA-1 thumbprint, or by a part of its subject. */
DWORD tpio_tls_store_find(const WCHAR *name, BOOL machine, const BYTE *thumbprint, const WCHAR *subject,
                          HCERTSTORE *store, PCCERT_CONTEXT *certificate);

void tpio_tls_certificate_free(PCCERT_CONTEXT certificate);

/* ---- credentials */

/* protocols: the SP_PROT_* of one side that are allowed. newest: there is no upper limit among them. */
SECURITY_STATUS tpio_tls_credentials_acquire(BOOL server, DWORD protocols, BOOL newest, PCCERT_CONTEXT certificate,
                                             CredHandle *credentials);
void tpio_tls_credentials_free(CredHandle *credentials);

/* ---- verification */

typedef enum tpio_tls_revocation {
    TPIO_TLS_REVOCATION_OFF,
    TPIO_TLS_REVOCATION_CACHED, /* what the system has at hand; what it does not know counts as good */
    TPIO_TLS_REVOCATION_FULL    /* and what cannot be found out does not */
} tpio_tls_revocation;

typedef struct tpio_tls_verification {
    HCERTSTORE roots;         /* exclusively; NULL: the system's */
    BOOL server;              /* what the peer says it is */
    const WCHAR *name;        /* what it must be called; NULL: whatever */
    const BYTE *address;      /* or the IP address that it must have, of 4 or 16 bytes */
    DWORD address_size;
    tpio_tls_revocation revocation;
    BOOL offline;             /* nothing is fetched, so that it does not wait for the network */
    /* What was found: all zero when the certificate is good. */
    DWORD trust;              /* CERT_TRUST_* of the chain */
    DWORD policy;             /* what the policy for TLS says of chain and name: CERT_E_* */
    BOOL other_address;
} tpio_tls_verification;

/* 0, or why it could not be done: then the certificate is not good either. */
DWORD tpio_tls_verify(PCCERT_CONTEXT certificate, tpio_tls_verification *verification);

/* ---- what was agreed on; 0 for what the system does not tell */

DWORD tpio_tls_protocol(tpio_tls *tls);                           /* SP_PROT_* */
DWORD tpio_tls_cipher(tpio_tls *tls, WCHAR name[64]);             /* bits of the key */
DWORD tpio_tls_application_protocol(tpio_tls *tls, BYTE id[255]); /* bytes of its name */
PCCERT_CONTEXT tpio_tls_peer(tpio_tls *tls);                      /* to be freed; NULL: it has shown no certificate */
/* Copies at most `size` bytes of a channel binding (SECPKG_ATTR_*_BINDINGS), and returns how many there are. */
DWORD tpio_tls_binding(tpio_tls *tls, ULONG attribute, BYTE *binding, DWORD size);

#endif
