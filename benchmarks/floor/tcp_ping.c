/* tcp_ping TURNS SIZE: messages to and fro over a TCP connection of the loopback interface. */
#include "ping.h"

static SOCKET tcp_socket(void)
{
    SOCKET socket = WSASocketW(AF_INET, SOCK_STREAM, IPPROTO_TCP, NULL, 0, WSA_FLAG_OVERLAPPED);

    CHECK(socket != INVALID_SOCKET);
    return socket;
}

static HANDLE tcp_without_delay(SOCKET socket)
{
    BOOL on = TRUE;

    CHECK(setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, (char *)&on, sizeof on) == 0);
    return (HANDLE)socket;
}

static void ping_make(ping_end *near_end, ping_end *far_end)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct sockaddr *name = (struct sockaddr *)&address;
    int size = sizeof address;
    SOCKET listener, client;
    WSADATA data;

    CHECK(WSAStartup(MAKEWORD(2, 2), &data) == 0);
    listener = tcp_socket();
    client = tcp_socket();
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(listener, name, size) == 0 && listen(listener, 1) == 0 && getsockname(listener, name, &size) == 0);
    CHECK(connect(client, name, size) == 0);
    near_end->read_file = near_end->write_file = tcp_without_delay(client);
    far_end->read_file = far_end->write_file = tcp_without_delay(accept(listener, NULL, NULL));
    closesocket(listener);
}

static DWORD ping_read(ping_end *end)
{
    WSABUF buffer = {ping_size, end->buffer};
    DWORD flags = 0;

    if (WSARecv((SOCKET)end->read_file, &buffer, 1, NULL, &flags, &end->reading, NULL) == 0)
        return ERROR_SUCCESS;
    return (DWORD)WSAGetLastError();
}

static DWORD ping_write(ping_end *end)
{
    WSABUF buffer = {ping_size, end->buffer};

    if (WSASend((SOCKET)end->write_file, &buffer, 1, NULL, 0, &end->writing, NULL) == 0)
        return ERROR_SUCCESS;
    return (DWORD)WSAGetLastError();
}
