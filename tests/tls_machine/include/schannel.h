/* Likewise: schannel.h. */
#ifndef TLS_MACHINE_SCHANNEL_H
#define TLS_MACHINE_SCHANNEL_H

#define SECPKG_ATTR_CONNECTION_INFO 0x5A
#define SP_PROT_TLS1_2_SERVER 0x400
#define SP_PROT_TLS1_2_CLIENT 0x800
#define SP_PROT_TLS1_3_SERVER 0x1000
#define SP_PROT_TLS1_3_CLIENT 0x2000
#define SCHANNEL_SHUTDOWN 1
#define SCHANNEL_ALERT 2
#define TLS1_ALERT_FATAL 2

typedef struct SecPkgContext_ConnectionInfo {
    DWORD dwProtocol, aiCipher, dwCipherStrength, aiHash, dwHashStrength, aiExch, dwExchStrength;
} SecPkgContext_ConnectionInfo;
typedef struct SCHANNEL_ALERT_TOKEN {
    DWORD dwTokenType, dwAlertType, dwAlertNumber;
} SCHANNEL_ALERT_TOKEN;

#endif
