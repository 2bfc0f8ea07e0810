# What only sockets and pipes can do. Each verb fills in a Future and submits it; the façade's functions decide the result.

cdef extern from "tpio_win32.h" nogil:
    cdef struct sockaddr_storage:
        unsigned short ss_family
    cdef struct in_addr:
        pass
    cdef struct sockaddr_in:
        unsigned short sin_family
        unsigned short sin_port
        in_addr sin_addr
    cdef struct in6_addr:
        pass
    cdef struct sockaddr_in6:
        unsigned short sin6_family
        unsigned short sin6_port
        unsigned long sin6_flowinfo
        in6_addr sin6_addr
        unsigned long sin6_scope_id
    enum:
        AF_INET
        AF_INET6
    unsigned short htons(unsigned short port)
    unsigned short ntohs(unsigned short port)
    unsigned long htonl(unsigned long value)
    unsigned long ntohl(unsigned long value)
    int inet_pton(int family, const char *text, void *address)
    const char *inet_ntop(int family, const void *address, char *text, size_t size)
    void *memset(void *to, int value, size_t size)


cdef int pack_address(int family, object address, sockaddr_storage *name, int *size) except -1:
    """(host, port[, flowinfo, scope_id]) with a numeric host. ValueError: the host is not numeric."""
    cdef sockaddr_in *four = <sockaddr_in *>name
    cdef sockaddr_in6 *six = <sockaddr_in6 *>name
    cdef bytes host
    cdef long port
    if not isinstance(address, tuple) or len(address) < 2:
        raise TypeError(f"an address is a tuple (host, port), not {address!r}")
    port = operator_index(address[1])
    if port < 0 or port > 65535:
        raise OverflowError("the port must be 0 to 65535")
    if not isinstance(address[0], str):
        raise TypeError(f"the host is a str, not {type(address[0]).__name__!r}")
    memset(name, 0, sizeof(sockaddr_storage))
    if family == AF_INET:
        host = (address[0] or "0.0.0.0").encode("ascii", "replace")
        four.sin_family = AF_INET
        four.sin_port = htons(<unsigned short>port)
        size[0] = sizeof(sockaddr_in)
        if inet_pton(AF_INET, host, &four.sin_addr) == 1:
            return 0
    elif family == AF_INET6:
        host, _, scope = (address[0] or "::").encode("ascii", "replace").partition(b"%")
        six.sin6_family = AF_INET6
        six.sin6_port = htons(<unsigned short>port)
        six.sin6_flowinfo = htonl(address[2]) if len(address) > 2 else 0
        six.sin6_scope_id = address[3] if len(address) > 3 else (int(scope) if scope.isdigit() else 0)
        size[0] = sizeof(sockaddr_in6)
        if inet_pton(AF_INET6, host, &six.sin6_addr) == 1:
            return 0
    else:
        raise ValueError(f"addresses of family {family} are not supported")
    raise ValueError(f"not a numeric address: {address[0]!r}")


cdef object unpack_address(sockaddr_storage *name):
    """As the socket module gives addresses."""
    cdef sockaddr_in *four = <sockaddr_in *>name
    cdef sockaddr_in6 *six = <sockaddr_in6 *>name
    cdef char text[64]
    if name.ss_family == AF_INET:
        inet_ntop(AF_INET, &four.sin_addr, text, sizeof(text))
        return (text.decode("ascii"), ntohs(four.sin_port))
    if name.ss_family == AF_INET6:
        inet_ntop(AF_INET6, &six.sin6_addr, text, sizeof(text))
        return (text.decode("ascii"), ntohs(six.sin6_port), ntohl(six.sin6_flowinfo), six.sin6_scope_id)
    return None


def is_numeric(int family, address):
    """Can the address be used without asking a name server?"""
    cdef sockaddr_storage name
    cdef int size
    try:
        pack_address(family, address, &name, &size)
    except ValueError:
        return False
    return True


cdef class SocketHandle(Handle):
    """What tpio.Socket adds to Handle, in the system's terms. `finish(future, error, count)` makes the result."""

    def _accept(self, size_t socket, finish):
        """AcceptEx into an unconnected socket.

        https://learn.microsoft.com/windows/win32/api/mswsock/nf-mswsock-acceptex
        """
        cdef FutureBase future = self.begin(CUSTOM)
        future.extra = finish
        try:
            future.buffer = new_bytes(2 * TPIO_ADDRESS_SIZE)
        except MemoryError:
            future.settle(CANCELLED, None)
            raise
        future.size = socket
        return future.started(self.submit_accept(future))

    cdef core.tpio_status submit_accept(self, FutureBase future):
        future.submitted = True
        Py_INCREF(future)  # the system's
        return core.tpio_accept(&future.op, self.native, <SOCKET>future.size, PyBytes_AS_STRING(future.buffer), 0)

    def _accept_again(self, FutureBase future, size_t socket):
        """From a finish function: the same future goes on with a fresh socket."""
        future.size = socket
        return future.go_on(self.submit_accept(future))

    def _accepted(self, size_t socket):
        """Makes an accepted socket one that getpeername and the like work on; a winsock error code or 0."""
        return core.tpio_socket_accepted(<SOCKET>socket, <SOCKET>core.tpio_handle_file(self.native))

    def _connect(self, int family, address, finish):
        """ConnectEx; the socket is bound and the address numeric.

        https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_connectex
        """
        cdef sockaddr_storage name
        cdef int size
        cdef FutureBase future
        pack_address(family, address, &name, &size)
        future = self.begin(CUSTOM)
        future.extra = finish
        future.buffer = PyBytes_FromStringAndSize(<char *>&name, size)  # as long as the operation
        future.submitted = True
        Py_INCREF(future)  # the system's
        return future.started(core.tpio_connect(&future.op, self.native,
                                                <sockaddr *>PyBytes_AS_STRING(future.buffer), size))

    def _connected(self):
        """After ConnectEx: as _accepted."""
        return core.tpio_socket_connected(<SOCKET>core.tpio_handle_file(self.native))


cdef class PipeHandle(Handle):
    """What tpio.Pipe adds to Handle."""

    def _adopt(self, size_t handle):
        """Holds a handle that is not overlapped, for a child: it can be inherited and closed, not read or written."""
        self.plain = <HANDLE>handle
        self.owns = True

    def _connect_pipe(self, finish):
        """ConnectNamedPipe: ends when a client has opened this instance.

        https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-connectnamedpipe
        """
        cdef FutureBase future = self.begin(CUSTOM)
        future.extra = finish
        future.submitted = True
        Py_INCREF(future)  # the system's
        return future.started(core.tpio_connect_pipe(&future.op, self.native))
