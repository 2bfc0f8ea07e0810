#ifndef WIN32SIM_MSWSOCK_H
#define WIN32SIM_MSWSOCK_H

#include "winsock2.h"

typedef BOOL (*LPFN_ACCEPTEX)(SOCKET, SOCKET, void *, DWORD, DWORD, DWORD, DWORD *, OVERLAPPED *);
typedef BOOL (*LPFN_CONNECTEX)(SOCKET, const struct sockaddr *, int, void *, DWORD, DWORD *, OVERLAPPED *);
typedef BOOL (*LPFN_DISCONNECTEX)(SOCKET, OVERLAPPED *, DWORD, DWORD);
typedef BOOL (*LPFN_TRANSMITFILE)(SOCKET, HANDLE, DWORD, DWORD, OVERLAPPED *, void *, DWORD);

/* The first field is enough to tell them apart here. */
#define WSAID_ACCEPTEX {0xb5367df1, 0, 0, {0}}
#define WSAID_CONNECTEX {0x25a207b9, 0, 0, {0}}
#define WSAID_DISCONNECTEX {0x7fda2e11, 0, 0, {0}}
#define WSAID_TRANSMITFILE {0xb5367df0, 0, 0, {0}}

#endif
