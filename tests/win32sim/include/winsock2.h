#ifndef WIN32SIM_WINSOCK2_H
#define WIN32SIM_WINSOCK2_H

#include "windows.h"

typedef struct WSABUF {
    ULONG len;
    char *buf;
} WSABUF;
struct sockaddr {
    uint16_t sa_family;
    char sa_data[14];
};
struct linger {
    unsigned short l_onoff, l_linger;
};
struct sockaddr_storage {
    uint16_t ss_family;
    char padding[126];
};

#define INVALID_SOCKET ((SOCKET)-1)
#define SOL_SOCKET 0xFFFF
#define SO_LINGER 0x80
#define SO_UPDATE_ACCEPT_CONTEXT 0x700B
#define SO_UPDATE_CONNECT_CONTEXT 0x7010
#define SIO_BASE_HANDLE 0x48000022
#define SIO_GET_EXTENSION_FUNCTION_POINTER 0xC8000006
#define WSAEWOULDBLOCK 10035
#define WSAENOTSOCK 10038
#define WSAEMSGSIZE 10040
#define WSAEOPNOTSUPP 10045
#define WSAECONNRESET 10054
#define WSAENOBUFS 10055

int WSAGetLastError(void);
int WSARecv(SOCKET socket, WSABUF *list, DWORD count, DWORD *bytes, DWORD *flags, OVERLAPPED *overlapped, void *routine);
int WSASend(SOCKET socket, WSABUF *list, DWORD count, DWORD *bytes, DWORD flags, OVERLAPPED *overlapped, void *routine);
int WSARecvFrom(SOCKET socket, WSABUF *list, DWORD count, DWORD *bytes, DWORD *flags, struct sockaddr *name,
                int *name_size, OVERLAPPED *overlapped, void *routine);
int WSASendTo(SOCKET socket, WSABUF *list, DWORD count, DWORD *bytes, DWORD flags, const struct sockaddr *name,
              int name_size, OVERLAPPED *overlapped, void *routine);
int WSAIoctl(SOCKET socket, DWORD code, void *input, DWORD input_size, void *output, DWORD output_size, DWORD *bytes,
             OVERLAPPED *overlapped, void *routine);
int closesocket(SOCKET socket);
int setsockopt(SOCKET socket, int level, int name, const char *value, int size);

#endif
