/* The part of SSPI that src/tpio_tls.c uses: names, values and layouts are Microsoft's (sspi.h). The rest of Windows is
 * that of tests/win32sim/include. */
#ifndef TLS_MACHINE_SECURITY_H
#define TLS_MACHINE_SECURITY_H

#include <stdint.h>
#include <wchar.h>

typedef uint8_t BYTE;
typedef wchar_t WCHAR;
typedef int32_t SECURITY_STATUS;

typedef struct SecHandle {
    ULONG_PTR dwLower, dwUpper;
} CredHandle, CtxtHandle;
typedef struct SecBuffer {
    ULONG cbBuffer, BufferType;
    void *pvBuffer;
} SecBuffer;
typedef struct SecBufferDesc {
    ULONG ulVersion, cBuffers;
    SecBuffer *pBuffers;
} SecBufferDesc;
typedef struct SecPkgContext_StreamSizes {
    ULONG cbHeader, cbTrailer, cbMaximumMessage, cBuffers, cbBlockSize;
} SecPkgContext_StreamSizes;

typedef struct SecurityFunctionTableW {
    SECURITY_STATUS (*InitializeSecurityContextW)(CredHandle *, CtxtHandle *, WCHAR *, ULONG, ULONG, ULONG,
                                                  SecBufferDesc *, ULONG, CtxtHandle *, SecBufferDesc *, ULONG *, void *);
    SECURITY_STATUS (*AcceptSecurityContext)(CredHandle *, CtxtHandle *, SecBufferDesc *, ULONG, ULONG, CtxtHandle *,
                                             SecBufferDesc *, ULONG *, void *);
    SECURITY_STATUS (*DeleteSecurityContext)(CtxtHandle *);
    SECURITY_STATUS (*ApplyControlToken)(CtxtHandle *, SecBufferDesc *);
    SECURITY_STATUS (*QueryContextAttributesW)(CtxtHandle *, ULONG, void *);
    SECURITY_STATUS (*FreeContextBuffer)(void *);
    SECURITY_STATUS (*EncryptMessage)(CtxtHandle *, ULONG, SecBufferDesc *, ULONG);
    SECURITY_STATUS (*DecryptMessage)(CtxtHandle *, SecBufferDesc *, ULONG, ULONG *);
} SecurityFunctionTableW;

#define SEC_E_OK 0
#define SEC_E_INSUFFICIENT_MEMORY ((SECURITY_STATUS)0x80090300)
#define SEC_E_INVALID_HANDLE ((SECURITY_STATUS)0x80090301)
#define SEC_E_UNSUPPORTED_FUNCTION ((SECURITY_STATUS)0x80090302)
#define SEC_E_INTERNAL_ERROR ((SECURITY_STATUS)0x80090304)
#define SEC_E_INVALID_TOKEN ((SECURITY_STATUS)0x80090308)
#define SEC_E_NO_CREDENTIALS ((SECURITY_STATUS)0x8009030E)
#define SEC_E_MESSAGE_ALTERED ((SECURITY_STATUS)0x8009030F)
#define SEC_E_INCOMPLETE_MESSAGE ((SECURITY_STATUS)0x80090318)
#define SEC_E_ILLEGAL_MESSAGE ((SECURITY_STATUS)0x80090326)
#define SEC_I_CONTINUE_NEEDED 0x00090312
#define SEC_I_CONTEXT_EXPIRED 0x00090317
#define SEC_I_INCOMPLETE_CREDENTIALS 0x00090320
#define SEC_I_RENEGOTIATE 0x00090321

#define SECBUFFER_VERSION 0
#define SECBUFFER_EMPTY 0
#define SECBUFFER_DATA 1
#define SECBUFFER_TOKEN 2
#define SECBUFFER_MISSING 4
#define SECBUFFER_EXTRA 5
#define SECBUFFER_STREAM_TRAILER 6
#define SECBUFFER_STREAM_HEADER 7
#define SECBUFFER_APPLICATION_PROTOCOLS 18
#define SECPKG_ATTR_STREAM_SIZES 4

#define ISC_REQ_REPLAY_DETECT 0x4
#define ISC_REQ_SEQUENCE_DETECT 0x8
#define ISC_REQ_CONFIDENTIALITY 0x10
#define ISC_REQ_USE_SUPPLIED_CREDS 0x80
#define ISC_REQ_ALLOCATE_MEMORY 0x100
#define ISC_REQ_EXTENDED_ERROR 0x4000
#define ISC_REQ_STREAM 0x8000
#define ISC_REQ_MANUAL_CRED_VALIDATION 0x80000
#define ASC_REQ_MUTUAL_AUTH 0x2
#define ASC_REQ_REPLAY_DETECT 0x4
#define ASC_REQ_SEQUENCE_DETECT 0x8
#define ASC_REQ_CONFIDENTIALITY 0x10
#define ASC_REQ_ALLOCATE_MEMORY 0x100
#define ASC_REQ_EXTENDED_ERROR 0x8000
#define ASC_REQ_STREAM 0x10000

#endif
