/* TLS as a machine: bytes from the peer go in, bytes for the peer and data for the program come out. It does no I/O.
 *
 * All of the cryptography is the system's (Schannel), reached through a table of functions, so that the same code runs
 * against scripted answers in tests/tls_machine. What is here is the protocol of its calls: what is left over after each,
 * what has to be sent, what has to be fed to which.
 *
 * One thread may read (room, received, handshake, read) while another writes (write, shut, alert, take_output). Nothing here
 * waits for anything but the lock between the two, and the system's own cryptography.
 *
 * https://learn.microsoft.com/windows/win32/secauthn/creating-a-secure-connection-using-schannel
 */
#ifndef TPIO_TLS_H
#define TPIO_TLS_H

#include "tpio_win32.h"

#ifndef SECURITY_WIN32
#define SECURITY_WIN32
#endif
#include <security.h>
#include <schannel.h>

typedef struct tpio_tls tpio_tls;

typedef enum tpio_tls_result {
    TPIO_TLS_OK,
    TPIO_TLS_WANT_INPUT, /* not without more bytes from the peer */
    TPIO_TLS_ENDED,      /* the peer has said that it sends nothing more (close_notify) */
    TPIO_TLS_TRUNCATED,  /* the bytes have ended without that: somebody may have cut the connection */
    TPIO_TLS_REFUSED,    /* the peer wants a handshake anew, within TLS 1.2: not supported */
    TPIO_TLS_FAILED      /* tpio_tls_error says why */
} tpio_tls_result;

typedef struct tpio_tls_config {
    const SecurityFunctionTableW *sspi; /* outlives the machine, as does: */
    CredHandle *credentials;
    BOOL server;
    BOOL mutual;                        /* server: ask for the client's certificate */
    const WCHAR *target;                /* client: the server's name, for SNI and for the system's cache of sessions; copied */
    const void *protocols;              /* SEC_APPLICATION_PROTOCOLS, or NULL; copied */
    DWORD protocols_size;
    BOOL silent_close;                  /* Wine does not report the peer's close_notify: guess it */
} tpio_tls_config;

#define TPIO_TLS_BATCH (256 * 1024)     /* bytes that one write encrypts at most */
#define TPIO_TLS_LARGEST (1024 * 1024)  /* bytes of the peer that may wait for the rest of their message */

tpio_tls *tpio_tls_create(const tpio_tls_config *config); /* NULL: no memory */
void tpio_tls_free(tpio_tls *tls);

/* Where the next bytes of the peer are to go, at least one; FALSE: no memory, or too much of an unfinished message. The
 * room stays where it is until `received`, which says how many there were: 0 for their end. */
BOOL tpio_tls_room(tpio_tls *tls, void **room, DWORD *size);
void tpio_tls_received(tpio_tls *tls, DWORD count);

/* Until it says OK. Whatever it says, there may be output to send: an alert goes out with a failure. */
tpio_tls_result tpio_tls_handshake(tpio_tls *tls);

/* Fills the buffer as far as complete records go; OK with at least one byte. There may be output afterwards. */
tpio_tls_result tpio_tls_read(tpio_tls *tls, void *buffer, size_t size, size_t *count);

/* Puts out records with the first *count bytes, at most TPIO_TLS_BATCH. */
tpio_tls_result tpio_tls_write(tpio_tls *tls, const void *data, size_t size, size_t *count);

/* Put out close_notify, or a fatal alert. */
tpio_tls_result tpio_tls_shut(tpio_tls *tls);
tpio_tls_result tpio_tls_alert(tpio_tls *tls, DWORD number);

/* What is to be sent, in this order and before anything later: it stays until the next take. Returns its size. */
DWORD tpio_tls_take_output(tpio_tls *tls, void **output);

/* Takes bytes of the peer that are no part of TLS any more: they came after its close_notify. Returns how many. */
size_t tpio_tls_take_undecrypted(tpio_tls *tls, void *buffer, size_t size);

/* Bytes of the program, of the peer, and for the peer that are here. */
size_t tpio_tls_unread(tpio_tls *tls);
size_t tpio_tls_undecrypted(tpio_tls *tls);
size_t tpio_tls_unsent(tpio_tls *tls);

SECURITY_STATUS tpio_tls_error(const tpio_tls *tls);
SECURITY_STATUS tpio_tls_query(tpio_tls *tls, ULONG attribute, void *value);

#endif
