/* tpio_tls_system.c: credentials, certificates and their verification, by the system. */
#include "tpio_tls_system.h"

#include "tpio_internal.h"

#include <ncrypt.h>
#include <stddef.h>
#include <stdlib.h>

/* Not in every header that there is. */
#ifndef CERT_CHAIN_DISABLE_AIA
#define CERT_CHAIN_DISABLE_AIA 0x00002000
#endif

/* ---- the libraries ---------------------------------------------------------------------------------------------- */

/* (name, result, parameters) of all that is called. */
#define CRYPT32(F)                                                                                                    \
    F(CertOpenStore, HCERTSTORE, (LPCSTR, DWORD, HCRYPTPROV_LEGACY, DWORD, const void *))                              \
    F(CertCloseStore, BOOL, (HCERTSTORE, DWORD))                                                                       \
    F(CertAddEncodedCertificateToStore, BOOL, (HCERTSTORE, DWORD, const BYTE *, DWORD, DWORD, PCCERT_CONTEXT *))       \
    F(CertEnumCertificatesInStore, PCCERT_CONTEXT, (HCERTSTORE, PCCERT_CONTEXT))                                       \
    F(CertFindCertificateInStore, PCCERT_CONTEXT, (HCERTSTORE, DWORD, DWORD, DWORD, const void *, PCCERT_CONTEXT))     \
    F(CertDuplicateCertificateContext, PCCERT_CONTEXT, (PCCERT_CONTEXT))                                               \
    F(CertFreeCertificateContext, BOOL, (PCCERT_CONTEXT))                                                              \
    F(CertGetCertificateContextProperty, BOOL, (PCCERT_CONTEXT, DWORD, void *, DWORD *))                               \
    F(CertCompareCertificateName, BOOL, (DWORD, PCERT_NAME_BLOB, PCERT_NAME_BLOB))                                     \
    F(PFXImportCertStore, HCERTSTORE, (CRYPT_DATA_BLOB *, LPCWSTR, DWORD))                                             \
    F(CertCreateCertificateChainEngine, BOOL, (PCERT_CHAIN_ENGINE_CONFIG, HCERTCHAINENGINE *))                         \
    F(CertFreeCertificateChainEngine, VOID, (HCERTCHAINENGINE))                                                        \
    F(CertGetCertificateChain, BOOL, (HCERTCHAINENGINE, PCCERT_CONTEXT, LPFILETIME, HCERTSTORE, PCERT_CHAIN_PARA,      \
                                      DWORD, LPVOID, PCCERT_CHAIN_CONTEXT *))                                          \
    F(CertFreeCertificateChain, VOID, (PCCERT_CHAIN_CONTEXT))                                                          \
    F(CertVerifyCertificateChainPolicy, BOOL, (LPCSTR, PCCERT_CHAIN_CONTEXT, PCERT_CHAIN_POLICY_PARA,                  \
                                               PCERT_CHAIN_POLICY_STATUS))                                             \
    F(CertFindExtension, PCERT_EXTENSION, (LPCSTR, DWORD, CERT_EXTENSION *))                                           \
    F(CryptDecodeObjectEx, BOOL, (DWORD, LPCSTR, const BYTE *, DWORD, DWORD, PCRYPT_DECODE_PARA, void *, DWORD *))
#define ADVAPI32(F) F(CryptAcquireContextW, BOOL, (HCRYPTPROV *, LPCWSTR, LPCWSTR, DWORD, DWORD))
#define NCRYPT(F)                                                                                                     \
    F(NCryptOpenStorageProvider, SECURITY_STATUS, (NCRYPT_PROV_HANDLE *, LPCWSTR, DWORD))                              \
    F(NCryptOpenKey, SECURITY_STATUS, (NCRYPT_PROV_HANDLE, NCRYPT_KEY_HANDLE *, LPCWSTR, DWORD, DWORD))                \
    F(NCryptDeleteKey, SECURITY_STATUS, (NCRYPT_KEY_HANDLE, DWORD))                                                    \
    F(NCryptFreeObject, SECURITY_STATUS, (NCRYPT_HANDLE))

#define DECLARE(name, result, parameters) result(WINAPI *name) parameters;
static struct {
    SRWLOCK lock;
    BOOL loaded;
    const SecurityFunctionTableW *sspi;
    CRYPT32(DECLARE)
    ADVAPI32(DECLARE)
    NCRYPT(DECLARE)
} libraries = {.lock = SRWLOCK_INIT};

static BOOL library__find(HMODULE library, const char *name, void *function, size_t size)
{
    FARPROC found = library != NULL ? GetProcAddress(library, name) : NULL;

    memcpy(function, &found, size);
    return found != NULL;
}

/* They are never let go, as any other user of TLS in the process needs them too. */
static DWORD libraries__load(void)
{
    const DWORD from = LOAD_LIBRARY_SEARCH_SYSTEM32; /* and from nowhere else */
    DWORD error = 0;

    AcquireSRWLockExclusive(&libraries.lock);
    if (!libraries.loaded) {
        HMODULE secur32 = LoadLibraryExW(L"secur32.dll", NULL, from);
        HMODULE crypt32 = secur32 != NULL ? LoadLibraryExW(L"crypt32.dll", NULL, from) : NULL;
        HMODULE advapi32 = crypt32 != NULL ? LoadLibraryExW(L"advapi32.dll", NULL, from) : NULL;
        HMODULE ncrypt = advapi32 != NULL ? LoadLibraryExW(L"ncrypt.dll", NULL, from) : NULL;
        const SecurityFunctionTableW *(WINAPI * table)(void) = NULL;
        BOOL all = ncrypt != NULL && library__find(secur32, "InitSecurityInterfaceW", &table, sizeof table);

#define FIND(library, name) all = all && library__find(library, #name, &libraries.name, sizeof libraries.name);
#define FIND_CRYPT32(name, result, parameters) FIND(crypt32, name)
#define FIND_ADVAPI32(name, result, parameters) FIND(advapi32, name)
#define FIND_NCRYPT(name, result, parameters) FIND(ncrypt, name)
        CRYPT32(FIND_CRYPT32)
        ADVAPI32(FIND_ADVAPI32)
        NCRYPT(FIND_NCRYPT)
        if (all)
            libraries.sspi = table();
        libraries.loaded = all && libraries.sspi != NULL;
        if (!libraries.loaded)
            error = GetLastError() != 0 ? GetLastError() : ERROR_PROC_NOT_FOUND;
    }
    ReleaseSRWLockExclusive(&libraries.lock);
    return error;
}

const SecurityFunctionTableW *tpio_tls_sspi(DWORD *error)
{
    *error = libraries__load();
    return *error == 0 ? libraries.sspi : NULL;
}

BOOL tpio_tls_close_is_silent(void)
{
    return tpio__on_wine();
}

static DWORD system__last_error(void)
{
    DWORD error = GetLastError();

    return error != 0 ? error : (DWORD)CRYPT_E_NOT_FOUND; /* Wine does not always say why */
}

/* ---- stores ----------------------------------------------------------------------------------------------------- */

DWORD tpio_tls_store_create(HCERTSTORE *store)
{
    DWORD error = libraries__load();

    if (error != 0)
        return error;
    *store = libraries.CertOpenStore(CERT_STORE_PROV_MEMORY, 0, 0, 0, NULL);
    return *store != NULL ? 0 : system__last_error();
}

DWORD tpio_tls_store_add(HCERTSTORE store, const void *der, DWORD size)
{
    SetLastError(0);
    return libraries.CertAddEncodedCertificateToStore(store, X509_ASN_ENCODING, der, size, CERT_STORE_ADD_USE_EXISTING,
                                                      NULL)
               ? 0
               : system__last_error();
}

void tpio_tls_store_close(HCERTSTORE store)
{
    libraries.CertCloseStore(store, 0);
}

void tpio_tls_certificate_free(PCCERT_CONTEXT certificate)
{
    libraries.CertFreeCertificateContext(certificate);
}

static BOOL certificate__has_key(PCCERT_CONTEXT certificate)
{
    DWORD size = 0;

    return libraries.CertGetCertificateContextProperty(certificate, CERT_KEY_PROV_INFO_PROP_ID, NULL, &size) ||
           libraries.CertGetCertificateContextProperty(certificate, CERT_KEY_CONTEXT_PROP_ID, NULL, &size);
}

/* Has it issued another one of its store? Wine says of those, too, that there is a key. */
static BOOL certificate__is_issuer(HCERTSTORE store, PCCERT_CONTEXT certificate)
{
    PCCERT_CONTEXT other = NULL;
    BOOL found = FALSE;

    while (!found && (other = libraries.CertEnumCertificatesInStore(store, other)) != NULL) {
        BOOL itself = libraries.CertCompareCertificateName(X509_ASN_ENCODING, &other->pCertInfo->Subject,
                                                           &certificate->pCertInfo->Subject);

        found = !itself && libraries.CertCompareCertificateName(X509_ASN_ENCODING, &other->pCertInfo->Issuer,
                                                                &certificate->pCertInfo->Subject);
    }
    if (other != NULL)
        libraries.CertFreeCertificateContext(other);
    return found;
}

DWORD tpio_tls_store_import(const void *pfx, DWORD size, const WCHAR *password, HCERTSTORE *store,
                            PCCERT_CONTEXT *certificate)
{
    CRYPT_DATA_BLOB blob = {size, (BYTE *)pfx};
    PCCERT_CONTEXT each = NULL;
    DWORD error = libraries__load();

    if (error != 0)
        return error;
    SetLastError(0);
    /* With the providers of the older kind, which are the default, Schannel fails within TLS 1.3. */
    *store = libraries.PFXImportCertStore(&blob, password, CRYPT_USER_KEYSET | PKCS12_ALWAYS_CNG_KSP);
    if (*store == NULL) /* keys that the newer ones do not take; and Wine, which has no others */
        *store = libraries.PFXImportCertStore(&blob, password, CRYPT_USER_KEYSET);
    if (*store == NULL)
        return system__last_error();
    while ((each = libraries.CertEnumCertificatesInStore(*store, each)) != NULL) {
        if (certificate__has_key(each) && !certificate__is_issuer(*store, each)) {
            *certificate = each;
            return 0;
        }
    }
    tpio_tls_store_delete_keys(*store);
    libraries.CertCloseStore(*store, 0);
    *store = NULL;
    return (DWORD)CRYPT_E_NO_KEY_PROPERTY;
}

static void key__delete(const CRYPT_KEY_PROV_INFO *key)
{
    DWORD machine = key->dwFlags & CRYPT_MACHINE_KEYSET;
    NCRYPT_PROV_HANDLE provider;
    NCRYPT_KEY_HANDLE handle;
    HCRYPTPROV gone;

    if (key->dwProvType != 0) { /* of the older kind */
        libraries.CryptAcquireContextW(&gone, key->pwszContainerName, key->pwszProvName, key->dwProvType,
                                       CRYPT_DELETEKEYSET | CRYPT_SILENT | machine);
        return;
    }
    if (libraries.NCryptOpenStorageProvider(&provider, key->pwszProvName, 0) != 0)
        return;
    if (libraries.NCryptOpenKey(provider, &handle, key->pwszContainerName, key->dwKeySpec,
                                NCRYPT_SILENT_FLAG | machine) == 0 &&
        libraries.NCryptDeleteKey(handle, NCRYPT_SILENT_FLAG) != 0) /* which frees it, too */
        libraries.NCryptFreeObject(handle);
    libraries.NCryptFreeObject(provider);
}

void tpio_tls_store_delete_keys(HCERTSTORE store)
{
    PCCERT_CONTEXT each = NULL;

    while ((each = libraries.CertEnumCertificatesInStore(store, each)) != NULL) {
        CRYPT_KEY_PROV_INFO *key;
        DWORD size = 0;

        if (!libraries.CertGetCertificateContextProperty(each, CERT_KEY_PROV_INFO_PROP_ID, NULL, &size))
            continue;
        key = calloc(1, size);
        if (key != NULL && libraries.CertGetCertificateContextProperty(each, CERT_KEY_PROV_INFO_PROP_ID, key, &size))
            key__delete(key);
        free(key);
    }
}

DWORD tpio_tls_store_find(const WCHAR *name, BOOL machine, const BYTE *thumbprint, const WCHAR *subject,
                          HCERTSTORE *store, PCCERT_CONTEXT *certificate)
{
    CRYPT_HASH_BLOB hash = {20, (BYTE *)thumbprint};
    DWORD kind = thumbprint != NULL ? CERT_FIND_SHA1_HASH : CERT_FIND_SUBJECT_STR_W;
    const void *wanted = thumbprint != NULL ? (const void *)&hash : (const void *)subject;
    PCCERT_CONTEXT found = NULL;
    DWORD error = libraries__load();

    if (error != 0)
        return error;
    SetLastError(0);
    *store = libraries.CertOpenStore(CERT_STORE_PROV_SYSTEM_W, 0, 0,
                                     (machine ? CERT_SYSTEM_STORE_LOCAL_MACHINE : CERT_SYSTEM_STORE_CURRENT_USER) |
                                         CERT_STORE_READONLY_FLAG | CERT_STORE_OPEN_EXISTING_FLAG,
                                     name);
    if (*store == NULL)
        return system__last_error();
    while ((found = libraries.CertFindCertificateInStore(*store, X509_ASN_ENCODING, 0, kind, wanted, found)) != NULL) {
        if (certificate__has_key(found)) {
            *certificate = found;
            return 0;
        }
    }
    libraries.CertCloseStore(*store, 0);
    *store = NULL;
    return (DWORD)CRYPT_E_NOT_FOUND;
}

/* ---- credentials ------------------------------------------------------------------------------------------------ */

/* SCH_CREDENTIALS and TLS_PARAMETERS, which headers hide or do not have.
 * https://learn.microsoft.com/windows/win32/api/schannel/ns-schannel-sch_credentials */
typedef struct tls_parameters {
    DWORD cAlpnIds;
    void *rgstrAlpnIds;
    DWORD grbitDisabledProtocols;
    DWORD cDisabledCrypto;
    void *pDisabledCrypto;
    DWORD dwFlags;
} tls_parameters;

typedef struct newer_credentials {
    DWORD dwVersion, dwCredFormat;
    DWORD cCreds;
    PCCERT_CONTEXT *paCred;
    HCERTSTORE hRootStore;
    DWORD cMappers;
    void **aphMappers;
    DWORD dwSessionLifespan;
    DWORD dwFlags;
    DWORD cTlsParameters;
    tls_parameters *pTlsParameters;
} newer_credentials;

SECURITY_STATUS tpio_tls_credentials_acquire(BOOL server, DWORD protocols, BOOL newest, PCCERT_CONTEXT certificate,
                                             CredHandle *credentials)
{
    const DWORD servers = SP_PROT_TLS1_0_SERVER | SP_PROT_TLS1_1_SERVER | SP_PROT_TLS1_2_SERVER | SP_PROT_TLS1_3_SERVER;
    const DWORD clients = SP_PROT_TLS1_0_CLIENT | SP_PROT_TLS1_1_CLIENT | SP_PROT_TLS1_2_CLIENT | SP_PROT_TLS1_3_CLIENT;
    const DWORD newer = SP_PROT_TLS1_3_SERVER | SP_PROT_TLS1_3_CLIENT;
    const DWORD old = server ? SP_PROT_SSL2_SERVER | SP_PROT_SSL3_SERVER : SP_PROT_SSL2_CLIENT | SP_PROT_SSL3_CLIENT;
    /* The peer's certificate is ours to verify, and no certificate is the system's to choose. */
    const DWORD flags = SCH_USE_STRONG_CRYPTO | (server ? SCH_CRED_NO_SYSTEM_MAPPER
                                                        : SCH_CRED_MANUAL_CRED_VALIDATION | SCH_CRED_NO_DEFAULT_CREDS);
    WCHAR package[] = UNISP_NAME_W;
    ULONG use = server ? SECPKG_CRED_INBOUND : SECPKG_CRED_OUTBOUND;
    tls_parameters parameters = {0};
    newer_credentials recent = {0};
    SCHANNEL_CRED legacy = {0};
    SECURITY_STATUS status;
    DWORD error = libraries__load();

    if (error != 0)
        return SEC_E_UNSUPPORTED_FUNCTION;
    /* Versions that are still to come are not among those that are known. */
    parameters.grbitDisabledProtocols = newest ? ((server ? servers : clients) & ~protocols) | old : ~protocols;
    recent.dwVersion = 5; /* SCH_CREDENTIALS_VERSION */
    recent.dwFlags = flags;
    recent.cTlsParameters = 1;
    recent.pTlsParameters = &parameters;
    legacy.dwVersion = SCHANNEL_CRED_VERSION;
    legacy.dwFlags = flags;
    legacy.grbitEnabledProtocols = protocols & ~newer; /* it knows nothing of TLS 1.3 */
    if (certificate != NULL) {
        recent.cCreds = legacy.cCreds = 1;
        recent.paCred = legacy.paCred = &certificate;
    }
    /* Since Windows 10 1809. Wine takes it, and ignores what it says of versions. */
    if (!tpio__on_wine()) {
        status = libraries.sspi->AcquireCredentialsHandleW(NULL, package, use, NULL, &recent, NULL, NULL, credentials,
                                                           NULL);
        if (status == SEC_E_OK || legacy.grbitEnabledProtocols == 0)
            return status;
    }
    if (legacy.grbitEnabledProtocols == 0) /* 0 would be the system's choice */
        return SEC_E_ALGORITHM_MISMATCH;
    return libraries.sspi->AcquireCredentialsHandleW(NULL, package, use, NULL, &legacy, NULL, NULL, credentials, NULL);
}

void tpio_tls_credentials_free(CredHandle *credentials)
{
    libraries.sspi->FreeCredentialsHandle(credentials);
}

/* ---- verification ----------------------------------------------------------------------------------------------- */

/* Is the address among the certificate's alternative names? The system's policy is not asked: what it makes of an address
 * depends on its version. */
static BOOL certificate__has_address(PCCERT_CONTEXT certificate, const BYTE *address, DWORD size)
{
    PCERT_EXTENSION extension = libraries.CertFindExtension(szOID_SUBJECT_ALT_NAME2, certificate->pCertInfo->cExtension,
                                                            certificate->pCertInfo->rgExtension);
    CERT_ALT_NAME_INFO *names = NULL;
    DWORD decoded = 0, i;
    BOOL found = FALSE;

    if (extension == NULL ||
        !libraries.CryptDecodeObjectEx(X509_ASN_ENCODING, X509_ALTERNATE_NAME, extension->Value.pbData,
                                       extension->Value.cbData, CRYPT_DECODE_ALLOC_FLAG, NULL, (void *)&names,
                                       &decoded))
        return FALSE;
    for (i = 0; i < names->cAltEntry && !found; i++) {
        const CERT_ALT_NAME_ENTRY *name = &names->rgAltEntry[i];

        found = name->dwAltNameChoice == CERT_ALT_NAME_IP_ADDRESS && name->IPAddress.cbData == size &&
                memcmp(name->IPAddress.pbData, address, size) == 0;
    }
    LocalFree(names);
    return found;
}

static DWORD chain__check(PCCERT_CHAIN_CONTEXT chain, tpio_tls_verification *verification)
{
    SSL_EXTRA_CERT_CHAIN_POLICY_PARA tls = {0};
    CERT_CHAIN_POLICY_PARA parameters = {0};
    CERT_CHAIN_POLICY_STATUS status = {0};
    DWORD tolerated = 0;

    if (verification->revocation == TPIO_TLS_REVOCATION_CACHED) {
        tolerated = CERT_TRUST_REVOCATION_STATUS_UNKNOWN | CERT_TRUST_IS_OFFLINE_REVOCATION;
        parameters.dwFlags = 0x00000F00;     /* CERT_CHAIN_POLICY_IGNORE_ALL_REV_UNKNOWN_FLAGS */
        tls.fdwChecks |= 0x00000080;         /* SECURITY_FLAG_IGNORE_REVOCATION: what is revoked, the chain says */
    }
    /* The policy alone is not enough: not every system's refuses a chain that leads to no root. */
    verification->trust = chain->TrustStatus.dwErrorStatus & ~tolerated;
    tls.cbSize = sizeof tls;
    tls.dwAuthType = verification->server ? AUTHTYPE_SERVER : AUTHTYPE_CLIENT;
    tls.pwszServerName = (WCHAR *)verification->name;
    if (verification->name == NULL)
        tls.fdwChecks |= 0x00001000; /* SECURITY_FLAG_IGNORE_CERT_CN_INVALID */
    parameters.cbSize = sizeof parameters;
    parameters.pvExtraPolicyPara = &tls;
    status.cbSize = sizeof status;
    SetLastError(0);
    if (!libraries.CertVerifyCertificateChainPolicy(CERT_CHAIN_POLICY_SSL, chain, &parameters, &status))
        return system__last_error();
    verification->policy = status.dwError;
    return 0;
}

DWORD tpio_tls_verify(PCCERT_CONTEXT certificate, tpio_tls_verification *verification)
{
    char server_use[] = szOID_PKIX_KP_SERVER_AUTH, client_use[] = szOID_PKIX_KP_CLIENT_AUTH;
    LPSTR use = verification->server ? server_use : client_use;
    CERT_CHAIN_ENGINE_CONFIG config = {0};
    CERT_CHAIN_PARA parameters = {0};
    HCERTCHAINENGINE engine = NULL;
    PCCERT_CHAIN_CONTEXT chain = NULL;
    DWORD flags = 0, error = 0;

    if (verification->roots != NULL) {
        /* As it was in Windows 7, without what came later, which Wine does not take. */
        config.cbSize = offsetof(CERT_CHAIN_ENGINE_CONFIG, hExclusiveRoot) + 2 * sizeof(HCERTSTORE);
        config.hExclusiveRoot = verification->roots;
        SetLastError(0);
        if (!libraries.CertCreateCertificateChainEngine(&config, &engine))
            return system__last_error();
    }
    /* What a peer has forgotten to send is fetched only for a client, and from where the system's own roots say. */
    if (verification->roots != NULL || !verification->server)
        flags |= CERT_CHAIN_DISABLE_AIA;
    if (verification->offline)
        flags |= CERT_CHAIN_CACHE_ONLY_URL_RETRIEVAL;
    if (verification->revocation != TPIO_TLS_REVOCATION_OFF)
        flags |= CERT_CHAIN_REVOCATION_CHECK_CHAIN_EXCLUDE_ROOT;
    if (verification->revocation == TPIO_TLS_REVOCATION_CACHED)
        flags |= CERT_CHAIN_REVOCATION_CHECK_CACHE_ONLY;
    parameters.cbSize = sizeof parameters;
    parameters.RequestedUsage.dwType = USAGE_MATCH_TYPE_OR;
    parameters.RequestedUsage.Usage.cUsageIdentifier = 1;
    parameters.RequestedUsage.Usage.rgpszUsageIdentifier = &use;
    SetLastError(0);
    if (!libraries.CertGetCertificateChain(engine, certificate, NULL, certificate->hCertStore, &parameters, flags, NULL,
                                           &chain)) {
        error = system__last_error();
        goto done;
    }
    error = chain__check(chain, verification);
    libraries.CertFreeCertificateChain(chain);
    if (verification->address_size != 0)
        verification->other_address = !certificate__has_address(certificate, verification->address,
                                                                verification->address_size);
done:
    if (engine != NULL)
        libraries.CertFreeCertificateChainEngine(engine);
    return error;
}

/* ---- what was agreed on ----------------------------------------------------------------------------------------- */

/* https://learn.microsoft.com/windows/win32/api/schannel/ns-schannel-secpkgcontext_cipherinfo */
typedef struct cipher_info {
    DWORD dwVersion, dwProtocol, dwCipherSuite, dwBaseCipherSuite;
    WCHAR szCipherSuite[64], szCipher[64];
    DWORD dwCipherLen, dwCipherBlockLen;
    WCHAR szHash[64];
    DWORD dwHashLen;
    WCHAR szExchange[64];
    DWORD dwMinExchangeLen, dwMaxExchangeLen;
    WCHAR szCertificate[64];
    DWORD dwKeyType;
} cipher_info;

DWORD tpio_tls_protocol(tpio_tls *tls)
{
    SecPkgContext_ConnectionInfo info = {0};

    return tpio_tls_query(tls, SECPKG_ATTR_CONNECTION_INFO, &info) == SEC_E_OK ? info.dwProtocol : 0;
}

DWORD tpio_tls_cipher(tpio_tls *tls, WCHAR name[64])
{
    SecPkgContext_ConnectionInfo older = {0};
    cipher_info info = {0};

    name[0] = 0;
    info.dwVersion = 1; /* SECPKGCONTEXT_CIPHERINFO_V1 */
    if (tpio_tls_query(tls, SECPKG_ATTR_CIPHER_INFO, &info) == SEC_E_OK) {
        memcpy(name, info.szCipherSuite, sizeof info.szCipherSuite);
        return info.dwCipherLen;
    }
    return tpio_tls_query(tls, SECPKG_ATTR_CONNECTION_INFO, &older) == SEC_E_OK ? older.dwCipherStrength : 0;
}

DWORD tpio_tls_application_protocol(tpio_tls *tls, BYTE id[255])
{
    SecPkgContext_ApplicationProtocol protocol = {0};

    if (tpio_tls_query(tls, SECPKG_ATTR_APPLICATION_PROTOCOL, &protocol) != SEC_E_OK ||
        protocol.ProtoNegoStatus != SecApplicationProtocolNegotiationStatus_Success)
        return 0;
    memcpy(id, protocol.ProtocolId, protocol.ProtocolIdSize);
    return protocol.ProtocolIdSize;
}

PCCERT_CONTEXT tpio_tls_peer(tpio_tls *tls)
{
    PCCERT_CONTEXT certificate = NULL;

    return tpio_tls_query(tls, SECPKG_ATTR_REMOTE_CERT_CONTEXT, &certificate) == SEC_E_OK ? certificate : NULL;
}

DWORD tpio_tls_binding(tpio_tls *tls, ULONG attribute, BYTE *binding, DWORD size)
{
    SecPkgContext_Bindings found = {0};
    DWORD length = 0;

    if (tpio_tls_query(tls, attribute, &found) != SEC_E_OK || found.Bindings == NULL)
        return 0;
    if (found.BindingsLength >= sizeof *found.Bindings &&
        found.Bindings->dwApplicationDataOffset <= found.BindingsLength &&
        found.Bindings->cbApplicationDataLength <= found.BindingsLength - found.Bindings->dwApplicationDataOffset) {
        length = found.Bindings->cbApplicationDataLength;
        memcpy(binding, (const BYTE *)found.Bindings + found.Bindings->dwApplicationDataOffset,
               length < size ? length : size);
    }
    libraries.sspi->FreeContextBuffer(found.Bindings);
    return length;
}
