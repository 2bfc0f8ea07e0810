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
    int bind(SOCKET socket, const sockaddr *name, int size)
    int connect(SOCKET socket, const sockaddr *name, int size)
    int getsockname(SOCKET socket, sockaddr *name, int *size)
    int getpeername(SOCKET socket, sockaddr *name, int *size)
    int WSAGetLastError()


class NotNumericError(ValueError):
    """A host that has to be looked up."""


cdef int pack_address(int family, object address, sockaddr_storage *name, int *size) except -1:
    """(host, port[, flowinfo, scope_id]) with a numeric host; NotNumericError for another."""
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
    if "\0" in address[0]:
        raise ValueError("embedded null character")
    memset(name, 0, sizeof(sockaddr_storage))
    if family == AF_INET:
        host = (address[0] or "0.0.0.0").encode("ascii", "replace")
        if host == b"<broadcast>":
            host = b"255.255.255.255"
        four.sin_family = AF_INET
        four.sin_port = htons(<unsigned short>port)
        size[0] = sizeof(sockaddr_in)
        if inet_pton(AF_INET, host, &four.sin_addr) == 1:
            return 0
    elif family == AF_INET6:
        host, _, scope = (address[0] or "::").encode("ascii", "replace").partition(b"%")
        six.sin6_family = AF_INET6
        six.sin6_port = htons(<unsigned short>port)
        six.sin6_flowinfo = htonl(operator_index(address[2])) if len(address) > 2 else 0
        six.sin6_scope_id = operator_index(address[3]) if len(address) > 3 else (int(scope) if scope.isdigit() else 0)
        size[0] = sizeof(sockaddr_in6)
        named = scope and not scope.isdigit()  # the name of an interface: for getaddrinfo
        if not named and inet_pton(AF_INET6, host, &six.sin6_addr) == 1:
            return 0
    else:
        raise ValueError(f"addresses of family {family} are not supported")
    raise NotNumericError(f"not a numeric address: {address[0]!r}")


cdef extern from *:
    """
    typedef struct tpio_sockaddr_un { /* afunix.h, which not every compiler brings */
        unsigned short family;
        char path[108];
    } tpio_sockaddr_un;
    """
    ctypedef struct tpio_sockaddr_un:
        unsigned short family
        char path[108]


cdef enum:
    AF_UNIX = 1


def pack_path(path):
    """The address of an AF_UNIX socket, as bind_packed and connect_packed take it."""
    cdef tpio_sockaddr_un name
    cdef bytes text = os.fsencode(path)
    cdef Py_ssize_t length = len(text)
    if not text or 0 in text:
        raise ValueError("the path of a socket must not be empty or have null characters")
    if length >= <Py_ssize_t>sizeof(name.path):
        raise ValueError(f"the path of a socket must have less than {sizeof(name.path)} bytes: {path!r}")
    memset(&name, 0, sizeof(name))
    name.family = AF_UNIX
    memcpy(name.path, PyBytes_AS_STRING(text), length)
    return PyBytes_FromStringAndSize(<char *>&name, sizeof(name.family) + length + 1)


cdef object unpack_path(sockaddr_storage *name, int size):
    cdef tpio_sockaddr_un *path = <tpio_sockaddr_un *>name
    cdef bytes text = PyBytes_FromStringAndSize(path.path, max(size - <int>sizeof(path.family), 0))
    return os.fsdecode(text.partition(b"\0")[0])


def bind_packed(size_t socket, bytes name):
    """https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-bind"""
    if bind(<SOCKET>socket, <sockaddr *>PyBytes_AS_STRING(name), <int>len(name)) != 0:
        raise winerror(WSAGetLastError())


def connect_packed(size_t socket, bytes name):
    """Blocks. https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-connect"""
    cdef const char *address = PyBytes_AS_STRING(name)
    cdef int size = <int>len(name), error = 0
    with nogil:
        if connect(<SOCKET>socket, <sockaddr *>address, size) != 0:
            error = WSAGetLastError()
    if error != 0:
        raise winerror(error)


def path_name(size_t socket, *, bint peer):
    """The path of an AF_UNIX socket, or of its peer; "" for one that is not bound.

    https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-getsockname
    """
    cdef sockaddr_storage name
    cdef int size = sizeof(name), failed
    memset(&name, 0, sizeof(name))
    if peer:
        failed = getpeername(<SOCKET>socket, <sockaddr *>&name, &size)
    else:
        failed = getsockname(<SOCKET>socket, <sockaddr *>&name, &size)
    if failed:
        raise winerror(WSAGetLastError())
    return unpack_path(&name, size)


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


class TruncatedError(OSError):
    """A datagram was longer than asked for, and its end is lost. `data`: what was received; `address`: who sent it.

    Also of Handle.ioctl: there was more to put out than output_size; `data`: what was put out.
    """

    data = b""
    address = None


cdef object truncated(int code, object data, object address):
    error = TruncatedError(0, _format(code), None, code)
    error.data = data
    error.address = address
    return error


cdef object truncated_future(FutureBase future, int code, Py_ssize_t count):
    """The error of a receive, or a device control, for which the buffer was too small."""
    if future.kind == SCATTERED:
        data = (<Buffers>future.extra).collect(count)
    else:
        data = PyBytes_FromStringAndSize(future.address(), min(count, future.size))
    return truncated(ERROR_MORE_DATA if future.kind == OUTPUT else WSAEMSGSIZE, data, address_of(future))


cdef object address_of(FutureBase future):
    """Who sent the datagram that a future has received."""
    if future.name is None or future.op.args.message.name_size == 0:
        return None
    return unpack_address(<sockaddr_storage *>PyBytes_AS_STRING(future.name))


def is_numeric(int family, address):
    """Can the address be used without asking a name server?"""
    cdef sockaddr_storage name
    cdef int size
    try:
        pack_address(family, address, &name, &size)
    except NotNumericError:
        return False
    return True


cdef extern from "<winternl.h>" nogil:
    unsigned long RtlNtStatusToDosError(LONG status)


cdef core.tpio_status submit_poll(FutureBase future) noexcept:
    """Polls a socket that is bound here through its own handle, and any other through a device of the pool."""
    if future.handle is not None:
        return core.tpio_poll_handle(&future.op, future.handle.native, future.flags)
    return core.tpio_poll(&future.op, future.pool.native, <HANDLE>future.size, future.flags)


def poll_socket(obj, bint writable):
    """For the façade: polls the socket of an object with fileno(), which is bound elsewhere or not at all. Returns None when
    it is not a socket."""
    cdef SOCKET socket = <SOCKET>check_handle(handle_value(obj))
    cdef PoolBase pool
    cdef FutureBase future
    cdef HANDLE base
    cdef DWORD error = core.tpio_socket_base(socket, &base)
    if error == WSAENOTSOCK:
        return None
    if error != 0:
        raise winerror(error)
    pool = default_pool()
    future = pool.launch(POLLED)
    future.extra = obj  # keeps it open
    future.size = <Py_ssize_t>base
    future.flags = TPIO_POLL_WRITABLE if writable else TPIO_POLL_READABLE
    return future.started(submit_poll(future))


cdef class SocketHandle(Handle):
    """What tpio.Socket adds to Handle, in the system's terms. `finish(future, error, count)` makes the result."""

    def _accept(self, size_t socket, finish, receive=0):
        """AcceptEx into an unconnected socket, with the first `receive` bytes of what it sends.

        https://learn.microsoft.com/windows/win32/api/mswsock/nf-mswsock-acceptex
        """
        cdef FutureBase future = self.begin(CUSTOM)
        future.extra = finish
        try:
            future.at = as_size(receive)
            if future.at > LARGEST:
                raise ValueError("more than 2 GiB in one call")
            future.buffer = new_bytes(future.at + 2 * TPIO_ADDRESS_SIZE)
        except BaseException:
            future.settle(CANCELLED, None)
            raise
        future.size = socket
        return future.started(self.submit_accept(future))

    cdef core.tpio_status submit_accept(self, FutureBase future):
        future.submitted = True
        Py_INCREF(future)  # the system's
        return core.tpio_accept(&future.op, self.native, <SOCKET>future.size, PyBytes_AS_STRING(future.buffer),
                                <DWORD>future.at)

    def _accept_data(self, FutureBase future, Py_ssize_t count):
        """From a finish function: what the new connection has sent."""
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(future.buffer), count)

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
        packed = PyBytes_FromStringAndSize(<char *>&name, size)
        future = self.begin(CUSTOM)
        future.extra = finish
        future.buffer = packed  # as long as the operation
        future.submitted = True
        Py_INCREF(future)  # the system's
        return future.started(core.tpio_connect(&future.op, self.native,
                                                <sockaddr *>PyBytes_AS_STRING(future.buffer), size))

    def _connected(self):
        """After ConnectEx: as _accepted."""
        return core.tpio_socket_connected(<SOCKET>core.tpio_handle_file(self.native))

    # ---- datagrams

    cdef FutureBase receive_from(self, FutureBase future, char *address):
        future.name = PyBytes_FromStringAndSize(NULL, sizeof(sockaddr_storage))
        memset(PyBytes_AS_STRING(future.name), 0, sizeof(sockaddr_storage))  # a connection does not tell its sender
        future.submitted = True
        Py_INCREF(future)  # the system's
        return future.started(core.tpio_recv_from(&future.op, self.native, address, one_call(future.size), 0,
                                                  <sockaddr *>PyBytes_AS_STRING(future.name), sizeof(sockaddr_storage)))

    def recvfrom(self, n, *, timeout=None):
        """Receives one datagram of up to n bytes: Future of (bytes, address). One that is longer is a TruncatedError.

        https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsarecvfrom
        """
        cdef double limit = time_limit(timeout)
        cdef Py_ssize_t size = as_size(n)
        cdef FutureBase future
        cdef char *address
        self.require_bound()
        if (future := self.read_leftover(size, True)) is not None:
            return future
        future = self.begin(DATAGRAM)
        try:
            future.buffer = new_bytes(size)
            future.size = size
            address = PyBytes_AS_STRING(future.buffer)
            return in_time(self.receive_from(future, address), limit, "recvfrom()")
        except BaseException:
            future.settle(CANCELLED, None)
            raise

    def recvfrom_into(self, buffer, *, timeout=None):
        """Receives one datagram into a writable buffer: Future of (number of bytes, address)."""
        cdef double limit = time_limit(timeout)
        cdef FutureBase future = self.begin(DATAGRAM_INTO)
        try:
            future.pin(buffer, True)
            if self.end_with_leftover(future, True):
                return future
            return in_time(self.receive_from(future, future.address()), limit, "recvfrom_into()")
        except BaseException:
            future.release_buffer()
            future.settle(CANCELLED, None)
            raise

    def _sendto(self, int family, data, address):
        """One datagram to a numeric address: Future of the number of bytes.

        https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsasendto
        """
        cdef sockaddr_storage name
        cdef int size
        cdef FutureBase future
        pack_address(family, address, &name, &size)
        future = self.begin(COUNT)
        try:
            future.pin(data, False)
            if self.is_too_long(future, future.size):
                return future
            future.name = PyBytes_FromStringAndSize(<char *>&name, size)
            self.count_outgoing(future)
            future.submitted = True
            Py_INCREF(future)  # the system's
            return future.started(core.tpio_send_to(&future.op, self.native, future.address(), <DWORD>future.size, 0,
                                                    <sockaddr *>PyBytes_AS_STRING(future.name), size))
        except BaseException:
            future.release_buffer()
            future.settle(CANCELLED, None)
            raise

    # ---- many buffers

    def sendmsg(self, buffers, *, timeout=None):
        """Writes many bytes-like objects in one call: Future of the number of bytes, all of them.

        https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsasend
        """
        cdef double limit = time_limit(timeout)
        return in_time(self.many(buffers, False), limit, "sendmsg()")

    def recvmsg_into(self, buffers, *, timeout=None):
        """Reads into many writable buffers, one after the other: Future of the number of bytes, 0 at the end.

        https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsarecv
        """
        cdef double limit = time_limit(timeout)
        return in_time(self.many(buffers, True), limit, "recvmsg_into()")

    cdef FutureBase many(self, object buffers, bint writable):
        cdef Buffers list
        cdef FutureBase future
        self.require_bound()
        list = Buffers(buffers, writable)
        if list.total == 0 and not self.datagrams:
            return done_future(0)
        if writable and (future := self.read_leftover(list.total, False)) is not None:
            if future.state == FAILED:
                list.fill(future.value.data)
            else:
                future.value = list.fill(future.value)
            return future
        future = self.begin(SCATTERED if writable else COUNT)
        try:
            if not writable and self.is_too_long(future, list.total):
                return future
        except BaseException:
            future.settle(CANCELLED, None)
            raise
        future.extra = list  # as long as the operation
        if not writable:
            return self.begin_write(future)
        future.submitted = True
        Py_INCREF(future)  # the system's
        return future.started(core.tpio_recv_list(&future.op, self.native, list.list, list.count, 0))

    # ---- the rest

    def _transmit(self, size_t file, uint64_t offset, Py_ssize_t size):
        """TransmitFile, with a handle of its own for the file: Future of the number of bytes.

        https://learn.microsoft.com/windows/win32/api/mswsock/nf-mswsock-transmitfile
        """
        cdef Duplicate source = Duplicate(file)  # nobody can close it before the last part is sent
        cdef FutureBase future = self.begin(TRANSMITTED)
        future.buffer = source
        future.at = offset
        future.size = size
        try:
            return self.begin_write(future)
        except BaseException:
            future.release_buffer()
            future.settle(CANCELLED, None)
            raise

    def disconnect(self, *, timeout=None):
        """Ends the connection once all that was sent is on its way: Future of None. The socket can only be closed then.

        https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_disconnectex
        """
        cdef double limit = time_limit(timeout)
        cdef FutureBase future = self.begin(NOTHING)
        future.submitted = True
        Py_INCREF(future)  # the system's
        return in_time(future.started(core.tpio_disconnect(&future.op, self.native)), limit, "disconnect()")


cdef class Duplicate:
    """A second handle of the same object, closed with the last reference to this."""

    cdef HANDLE handle

    def __cinit__(self, size_t handle):
        self.handle = <HANDLE><uintptr_t>duplicate_handle(handle)

    def __dealloc__(self):
        if self.handle != NULL:
            CloseHandle(self.handle)


cdef class Buffers:
    """Many buffers, held while the system has them."""

    cdef tuple objects
    cdef Py_buffer *views
    cdef WSABUF *list
    cdef DWORD count             # that are held
    cdef Py_ssize_t total

    def __cinit__(self, buffers, bint writable):
        cdef Py_ssize_t length
        buffers = tuple(buffers)
        length = len(buffers)
        self.objects = buffers
        self.views = <Py_buffer *>PyMem_Calloc(length + 1, sizeof(Py_buffer))
        self.list = <WSABUF *>PyMem_Calloc(length + 1, sizeof(WSABUF))
        if self.views == NULL or self.list == NULL:
            raise MemoryError()
        for buffer in buffers:
            try:
                PyObject_GetBuffer(buffer, &self.views[self.count], PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
            except BufferError:
                if writable and memoryview(buffer).readonly:
                    raise TypeError(f"a writable buffer is needed, not {type(buffer).__name__!r}") from None
                raise
            self.list[self.count].buf = <char *>self.views[self.count].buf
            self.list[self.count].len = <unsigned long>self.views[self.count].len
            self.total += self.views[self.count].len
            self.count += 1
            if self.total > LARGEST:
                raise ValueError("more than 2 GiB in one call")

    cdef Py_ssize_t fill(self, bytes data):
        """Spreads data over the buffers."""
        cdef Py_ssize_t done = 0, part
        cdef DWORD i
        for i in range(self.count):
            part = min(<Py_ssize_t>self.list[i].len, PyBytes_GET_SIZE(data) - done)
            memcpy(self.list[i].buf, PyBytes_AS_STRING(data) + done, part)
            done += part
        return done

    cdef bytes collect(self, Py_ssize_t size):
        """The first bytes that are in the buffers, which may have been released."""
        return b"".join([copy_of(each) for each in self.objects])[:size]

    cdef void release(self) noexcept:
        cdef DWORD i, held = self.count
        self.count = 0
        for i in range(held):
            PyBuffer_Release(&self.views[i])

    def __dealloc__(self):
        self.release()
        PyMem_Free(self.views)
        PyMem_Free(self.list)


cdef class PipeHandle(Handle):
    """What tpio.Pipe adds to Handle."""

    def _adopt(self, size_t handle):
        """Holds a handle that is not overlapped, for a child: it can be inherited and closed, not read or written."""
        self.plain = <HANDLE>handle
        self.owns = True

    def read_message(self, *, limit=16777216, timeout=None):
        """Reads one whole message of a message pipe. Future of bytes: b"" is an empty message; EOFError at the end;
        LimitOverrunError for a message of more than `limit` bytes, of which the next read gets what has been received.

        Several calls take turns. A cancel, a time-out or an error loses nothing. ValueError for a pipe without messages.
        https://learn.microsoft.com/windows/win32/ipc/named-pipe-type-read-and-wait-modes
        """
        cdef double seconds = time_limit(timeout)
        cdef Reader reader = Reader.message(limit)
        self.require_bound()
        if not self.is_message_pipe():
            raise ValueError("the pipe has no messages: its listener was made without message=True")
        return in_time(self.begin_reader(reader), seconds, "read_message()")
