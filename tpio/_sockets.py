"""Sockets: overlapped operations on the system's sockets; the rest is the standard library's."""

from __future__ import annotations

import operator
import os
import socket
from concurrent.futures import CancelledError
from typing import Any, TypeVar, cast, overload

from . import _tpio
from ._steps import Steps, steps
from ._tpio import Future, Pool, SocketHandle, default_pool, pool_of

T = TypeVar("T")
Address = Any  # what the socket module takes and gives for the family; for AF_UNIX a path

AF_UNIX = 1  # Windows has it since 10.1803, its Python does not

WSAEINVAL = 10022
# A client that was gone before its connection could be accepted.
GONE = {59, 64, 10053, 10054, 1236, 10057, 121, 10060}


def take_one(kept: list[T]) -> T | None:
    """The oldest of what was given back; None: there is none, or another thread was faster."""
    try:
        return kept.pop(0) if kept else None
    except IndexError:
        return None


class Socket(SocketHandle):
    """A socket. `read`/`recv` and `write`/`send` are the same; `sock` wraps an existing socket, which is detached.

    What is not overlapped (bind, listen, setsockopt, ...) is as in the socket module.
    """

    def __init__(
        self,
        family: int = socket.AF_INET,
        type: int = socket.SOCK_STREAM,
        proto: int = 0,
        *,
        sock: socket.socket | None = None,
        pool: Pool | None = None,
    ) -> None:
        if sock is not None and not isinstance(sock, socket.socket):
            raise TypeError(f"a socket.socket is needed, not {sock.__class__.__name__!r}")
        self._prepare()
        inner = socket.socket(family, type, proto) if sock is None else sock
        try:
            if sock is None:
                self._sock = inner
            super().__init__(inner.fileno(), pool=pool)
        except BaseException:
            if sock is None:
                inner.close()
            raise
        if sock is not None:  # from here on it is ours
            self._sock = socket.socket(inner.family, inner.type, inner.proto, fileno=inner.detach())
        self._survive_icmp()

    _sock: socket.socket

    def _prepare(self) -> None:
        """Before there is a handle: when memory runs out, it must be clear whose it is."""
        self._require_new()
        self._sock = cast(socket.socket, None)
        self._given_back: list[tuple[Socket, Address, bytes]] = []  # a deque would take more than the socket

    def _survive_icmp(self) -> None:
        if self._sock.type == socket.SOCK_DGRAM:
            _tpio.ignore_port_unreachable(self._sock.fileno())

    @classmethod
    def _borrow(cls, sock: socket.socket) -> Socket:
        """A binding for a socket that stays the caller's."""
        self = cls.__new__(cls)
        self._prepare()
        SocketHandle.__init__(self, sock.fileno(), owns=False)
        self._sock = socket.socket(sock.family, sock.type, sock.proto, fileno=sock.fileno())
        self._survive_icmp()
        return self

    family = property(lambda self: self._sock.family, doc="The address family.")
    type = property(lambda self: self._sock.type, doc="The socket type.")
    proto = property(lambda self: self._sock.proto, doc="The protocol.")

    # ---- overlapped

    @overload
    def accept(self, *, timeout: float | None = None) -> Future[tuple[Socket, Address]]: ...
    @overload
    def accept(self, *, receive: int, timeout: float | None = None) -> Future[tuple[Socket, Address, bytes]]: ...
    def accept(self, *, receive: int = 0, timeout: float | None = None) -> Future[Any]:
        """The next connection of a listening socket: (Socket, address). A client that has gone before it was accepted
        is passed over.

        receive: waits until the client has sent something too, and gives up to that many bytes of it: (Socket, address,
        data); b"" from a client that has closed. One that sends nothing keeps its place in the accept: have several
        under way, or a timeout.
        https://learn.microsoft.com/windows/win32/api/mswsock/nf-mswsock-acceptex
        """
        self._require_open()
        _tpio.timeout_seconds(timeout)
        receive = operator.index(receive)
        if receive < 0:
            raise ValueError("the number of bytes must not be negative")
        if (kept := take_one(self._given_back)) is not None:
            return self._accept_given_back(kept, receive)._limit(timeout, "accept()")
        candidate = socket.socket(self.family, self.type, self.proto)

        def finish(future: Future[Any], error: int, count: int) -> Any:
            nonlocal candidate
            with candidate:  # closed, unless the connection has taken it over
                if error == 0:
                    error = self._accepted(candidate.fileno())
                if error == 0:
                    try:
                        address = _peer_name(candidate)
                        connection = Socket(sock=candidate, pool=self.pool)
                        return (
                            (connection, address, self._accept_data(future, count))
                            if receive
                            else (connection, address)
                        )
                    except OSError as failure:
                        error = failure.winerror
            if error not in GONE:
                raise _tpio.winerror(error)
            candidate = socket.socket(self.family, self.type, self.proto)
            again = self._accept_again(future, candidate.fileno())
            if self.closed:
                candidate.close()
            return again

        try:
            return self._accept(candidate.fileno(), finish, receive)._limit(timeout, "accept()")
        except BaseException:
            candidate.close()
            raise

    def poll_read(self, *, timeout: float | None = None) -> Future[None]:
        """Returns a Future of None that ends when a receive or an accept would not wait. See Handle.poll_read."""
        self._require_open()
        return _tpio.done_future_of(None) if self._given_back else super().poll_read(timeout=timeout)

    def _give_back(self, result: Any) -> bool:
        if not isinstance(result, tuple):
            return False
        connection, address, *data = result
        if self.closed:
            connection.close()
        else:
            self._given_back.append((connection, address, data[0] if data else b""))
        return True

    def _accept_given_back(self, kept: tuple[Socket, Address, bytes], receive: int) -> Future[Any]:
        connection, address, data = kept
        if data:
            connection._put_back(data)
        if not receive:
            return _tpio.done_future_of((connection, address))
        whole = self._receive_first(connection, address, receive)
        whole._on_give_back = self._give_back
        return whole

    @steps
    def _receive_first(self, connection: Socket, address: Address, size: int) -> Steps[Any]:
        try:
            return connection, address, (yield connection.recv(size))
        except CancelledError:
            self._give_back((connection, address))
            raise
        except BaseException:
            connection.close()
            raise

    def connect(self, address: Address, *, timeout: float | None = None) -> Future[None]:
        """Connects to (host, port). A host name is looked up on the pool, and its first address of this family is used;
        see open_connection for all of them. https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_connectex
        """
        self._require_open()
        _tpio.timeout_seconds(timeout)
        if self.family == AF_UNIX:
            connecting = self._connect_path(_tpio.pack_path(address))
        elif _tpio.is_numeric(self.family, address):
            connecting = self._connect_to(address)
        else:
            connecting = self._look_up_and_connect(address)
        return connecting._limit(timeout, f"connecting to {address}")

    @steps
    def _connect_path(self, packed: bytes) -> Steps[None]:
        # ConnectEx is not for AF_UNIX. A connect is brief there: the peer is on this machine.
        yield default_pool().submit(_tpio.connect_packed, self._sock.fileno(), packed)

    @steps
    def _look_up_and_connect(self, address: Address) -> Steps[None]:
        found = yield default_pool().submit(_getaddrinfo, address[0], address[1], self.family, self.type, self.proto)
        yield self._connect_to(found[0][4])

    def _connect_to(self, address: Address) -> Future[None]:
        if self.type != socket.SOCK_STREAM:
            self._sock.connect(address)  # sends nothing
            return _tpio.done_future_of(None)
        try:
            self._sock.bind(("", 0) if self.family == socket.AF_INET else ("::", 0))
        except OSError as error:
            if error.winerror != WSAEINVAL:  # bound already
                raise
        return self._connect(self.family, address, self._finish_connect)

    def _finish_connect(self, future: Future[Any], error: int, count: int) -> None:
        error = error or self._connected()
        if error:
            raise _tpio.winerror(error)

    def recv(self, n: int, *, timeout: float | None = None) -> Future[bytes]:
        """As read(n)."""
        return self.read(n, timeout=timeout)

    def recv_into(self, buffer: Any, *, timeout: float | None = None) -> Future[int]:
        """As read_into(buffer)."""
        return self.read_into(buffer, timeout=timeout)

    def send(self, data: Any, *, timeout: float | None = None) -> Future[int]:
        """As write(data): the whole of it."""
        return self.write(data, timeout=timeout)

    def sendto(self, data: Any, address: Address, *, timeout: float | None = None) -> Future[int]:
        """Sends one datagram to (host, port); a host name is looked up on the pool. Future of the number of bytes.
        https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsasendto"""
        self._require_open()
        _tpio.timeout_seconds(timeout)
        if _tpio.is_numeric(self.family, address):
            return self._sendto(self.family, data, address)._limit(timeout, "sendto()")
        with memoryview(data):  # what is no buffer is refused at once
            return self._look_up_and_send(data, address)._limit(timeout, "sendto()")

    @steps
    def _look_up_and_send(self, data: Any, address: Address) -> Steps[int]:
        found = yield getaddrinfo(address[0], address[1], family=self.family, type=self.type)
        sent: int = yield self._sendto(self.family, data, found[0][4])
        return sent

    def sendfile(
        self, file: Any, offset: int = 0, count: int | None = None, *, timeout: float | None = None
    ) -> Future[int]:
        """Sends `count` bytes of a file (None: to its end) from `offset` on, without their passing through Python.
        Future of the number of bytes sent, which is less than asked for when the file is shorter, or becomes so.

        file: a tpio.File or a file object of the standard library, of which the file position does not matter.
        Windows' editions for workstations send two files at a time; a third one waits.
        https://learn.microsoft.com/windows/win32/api/mswsock/nf-mswsock-transmitfile
        """
        self._require_open()
        _tpio.timeout_seconds(timeout)
        offset = operator.index(offset)
        count = None if count is None else operator.index(count)
        if offset < 0 or (count is not None and count < 0):
            raise ValueError("offset and count must not be negative")
        handle = _tpio.handle_value(file)
        if not _tpio.is_disk_file(handle):
            raise ValueError("only files on a disk can be sent")
        left = max(_tpio.file_size(handle) - offset, 0)
        size = left if count is None else min(count, left)
        sending = self._transmit(handle, offset, size) if size else _tpio.done_future_of(0)
        return sending._limit(timeout, "sendfile()")

    # ---- the rest

    def _require_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed socket")

    def bind(self, address: Address) -> None:
        """As socket.socket.bind, and nobody else can bind the address of a stream socket (SO_EXCLUSIVEADDRUSE), unless
        SO_REUSEADDR was set before; for AF_UNIX a path, of which the file stays when the socket is closed.
        https://learn.microsoft.com/windows/win32/winsock/using-so-reuseaddr-and-so-exclusiveaddruse"""
        self._require_open()
        if self.family == AF_UNIX:
            _tpio.bind_packed(self._sock.fileno(), _tpio.pack_path(address))
        else:
            kind, exclusive, shared = socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, socket.SO_REUSEADDR
            if self.type == socket.SOCK_STREAM and not self._sock.getsockopt(kind, shared):
                self._sock.setsockopt(kind, exclusive, 1)
            self._sock.bind(address)

    def listen(self, backlog: int | None = None) -> None:
        """As socket.socket.listen; None: the system's maximum."""
        self._require_open()
        self._sock.listen(socket.SOMAXCONN if backlog is None else backlog)

    def shutdown(self, how: int) -> None:
        """As socket.socket.shutdown: SHUT_WR ends what the peer reads."""
        self._require_open()
        self._sock.shutdown(how)

    def getsockname(self) -> Address:
        """As socket.socket.getsockname."""
        self._require_open()
        if self.family == AF_UNIX:
            return _tpio.path_name(self._sock.fileno(), peer=False)
        return self._sock.getsockname()

    def getpeername(self) -> Address:
        """As socket.socket.getpeername."""
        self._require_open()
        return _peer_name(self._sock)

    def setsockopt(self, *args: Any) -> None:
        """As socket.socket.setsockopt."""
        self._require_open()
        self._sock.setsockopt(*args)

    def getsockopt(self, *args: Any) -> Any:
        """As socket.socket.getsockopt."""
        self._require_open()
        return self._sock.getsockopt(*args)

    def close(self) -> None:
        given_back, self._given_back = self._given_back, []
        self._sock.detach()  # the handle is ours; and from here on nobody uses its value any more
        super().close()
        for connection, _, _ in given_back:
            connection.close()

    close.__doc__ = SocketHandle.close.__doc__

    def detach(self) -> int:
        self._sock.detach()
        return super().detach()

    detach.__doc__ = SocketHandle.detach.__doc__

    def share(self, pid: int) -> bytes:
        """Gives the socket to another process, and up here: bytes from which Socket.from_share makes it there.

        pid: of the process, which must be running. See Handle.detach and docs/handover.md.
        https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsaduplicatesocketw
        """
        self._require_open()
        if self._has_leftover or self._given_back:
            raise ValueError("data or connections that were received have not been taken")
        plain = self._sock
        data = plain.share(pid)
        socket.close(self.detach())
        return data

    @classmethod
    def from_share(cls, data: bytes, *, pool: Pool | None = None) -> Socket:
        """The socket that another process has given with share()."""
        plain = socket.fromshare(data)
        try:
            return cls(sock=plain, pool=pool)
        except BaseException:
            plain.close()
            raise

    def __del__(self) -> None:
        inner = getattr(self, "_sock", None)
        if inner is not None:
            inner.detach()  # the base class closes the handle


def _peer_name(sock: socket.socket) -> Address:
    return _tpio.path_name(sock.fileno(), peer=True) if sock.family == AF_UNIX else sock.getpeername()


def getaddrinfo(
    host: str | None,
    port: str | int | None,
    *,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
    pool: Pool | None = None,
) -> Future[list[Any]]:
    """socket.getaddrinfo on a thread of the pool: Future of its list."""
    return pool_of(pool).submit(_getaddrinfo, host, port, family, type, proto, flags)


def _getaddrinfo(*args: Any) -> list[Any]:
    try:
        return socket.getaddrinfo(*args)
    except socket.gaierror as error:
        error.winerror = error.errno or 0  # it is the system's code
        raise


def listen(
    address: Address, *, backlog: int | None = None, family: int | None = None, pool: Pool | None = None
) -> Socket:
    """A socket that listens at (host, port), and is alone there (see Socket.bind). Port 0: any free one. A path
    (str or os.PathLike) is an AF_UNIX socket's, which must not exist yet.

    family: None takes AF_INET6 for an IPv6 address and AF_INET otherwise. A host name is looked up, which may block.
    """
    if isinstance(address, (str, os.PathLike)):
        family = AF_UNIX
    elif family is None:
        family = socket.AF_INET6 if ":" in _host_and_port(address)[0] else socket.AF_INET
    if family != AF_UNIX and not _tpio.is_numeric(family, address):
        address = _getaddrinfo(address[0], address[1], family, socket.SOCK_STREAM)[0][4]
    sock = Socket(family, socket.SOCK_STREAM, pool=pool)
    try:
        sock.bind(address)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def open_connection(address: Address, *, timeout: float | None = None, pool: Pool | None = None) -> Future[Socket]:
    """Connects to (host, port) by TCP: looks the host up on the pool, tries every address in turn, and fails with the
    last one's error. A path (str or os.PathLike) is an AF_UNIX socket's. timeout: seconds for all of it (TimeoutError).
    """
    timeout = _tpio.timeout_seconds(timeout)
    pool = pool_of(pool)
    if isinstance(address, (str, os.PathLike)):
        packed = _tpio.pack_path(address)
        opening = _open_path(Socket(AF_UNIX, pool=pool), packed)
        return opening._limit(timeout, f"connecting to {os.fspath(address)}")
    host, port = _host_and_port(address)
    return _open_connection(host, port, pool)._limit(timeout, f"connecting to {host}:{port}")


def _host_and_port(address: Any) -> tuple[Any, Any]:
    if not isinstance(address, tuple) or not 2 <= len(address) <= 4:
        raise TypeError(f"an address is a tuple (host, port), not {address!r}")
    host, port = address[:2]
    if not isinstance(host, str):
        raise TypeError(f"a host is a str, not {type(host).__name__!r}")
    return host, port


@steps
def _open_path(sock: Socket, packed: bytes) -> Steps[Socket]:
    try:
        yield sock._connect_path(packed)
        return sock
    except BaseException:
        sock.close()
        raise


@steps
def _open_connection(host: str, port: int, pool: Pool) -> Steps[Socket]:
    found = yield pool.submit(_getaddrinfo, host, port, socket.AF_UNSPEC, socket.SOCK_STREAM)
    last: OSError = OSError(f"no address for {host!r}")
    for family, kind, proto, _, resolved in found:
        try:
            sock = Socket(family, kind, proto, pool=pool)
        except OSError as error:  # a family that this system does not have
            last = error
            continue
        try:
            yield sock._connect_to(resolved)
            return sock
        except OSError as error:
            sock.close()
            last = error
        except BaseException:
            sock.close()
            raise
    raise last
