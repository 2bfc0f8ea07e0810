"""Sockets: overlapped operations on the system's sockets; the rest is the standard library's."""

from __future__ import annotations

import socket
from collections import deque
from typing import Any

from . import _tpio
from ._steps import Steps, steps, with_timeout
from ._tpio import Future, Pool, SocketHandle, default_pool

Address = Any  # what the socket module takes and gives for the family

WSAEINVAL = 10022
LARGEST_TRANSMIT = 0x7FFFF000  # TransmitFile sends at most 2 GiB in one call
# A client that was gone before its connection could be accepted.
GONE = {59, 64, 10053, 10054, 1236, 10057, 121, 10060}


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
        inner = socket.socket(family, type, proto) if sock is None else sock
        try:
            super().__init__(inner.fileno(), pool=pool)
        except BaseException:
            if sock is None:
                inner.close()
            raise
        self._set_up(inner)
        if sock is not None:  # from here on it is ours
            self._sock = socket.socket(inner.family, inner.type, inner.proto, fileno=inner.detach())

    def _set_up(self, inner: socket.socket) -> None:
        self._sock = inner
        self._given_back: deque[tuple[Socket, Address]] = deque()
        if inner.type == socket.SOCK_DGRAM:
            _tpio.ignore_port_unreachable(inner.fileno())

    @classmethod
    def _borrow(cls, sock: socket.socket) -> Socket:
        """A binding for a socket that stays the caller's."""
        self = cls.__new__(cls)
        SocketHandle.__init__(self, sock.fileno(), owns=False)
        self._set_up(socket.socket(sock.family, sock.type, sock.proto, fileno=sock.fileno()))
        return self

    family = property(lambda self: self._sock.family, doc="The address family.")
    type = property(lambda self: self._sock.type, doc="The socket type.")
    proto = property(lambda self: self._sock.proto, doc="The protocol.")

    # ---- overlapped

    def accept(self) -> Future[tuple[Socket, Address]]:
        """The next connection of a listening socket: (Socket, address). A client that has gone before it was accepted is
        passed over. https://learn.microsoft.com/windows/win32/api/mswsock/nf-mswsock-acceptex"""
        self._require_open()
        if self._given_back:
            return _tpio.done_future_of(self._given_back.popleft())
        candidate = socket.socket(self.family, self.type, self.proto)

        def finish(future: Future[Any], error: int, count: int) -> Any:
            nonlocal candidate
            with candidate:  # closed, unless the connection has taken it over
                if error == 0:
                    error = self._accepted(candidate.fileno())
                if error == 0:
                    try:
                        address = candidate.getpeername()
                        return Socket(sock=candidate, pool=self.pool), address
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
            return self._accept(candidate.fileno(), finish)
        except BaseException:
            candidate.close()
            raise

    def _give_back(self, result: Any) -> bool:
        if isinstance(result, tuple):
            self._given_back.append(result)
            return True
        return False

    def connect(self, address: Address) -> Future[None]:
        """Connects to (host, port). A host name is looked up on the pool, and its first address of this family is used;
        see open_connection for all of them. https://learn.microsoft.com/windows/win32/api/mswsock/nc-mswsock-lpfn_connectex
        """
        self._require_open()
        if _tpio.is_numeric(self.family, address):
            return self._connect_to(address)
        return self._look_up_and_connect(address)

    @steps
    def _look_up_and_connect(self, address: Address) -> Steps[None]:
        found = yield default_pool().submit(
            socket.getaddrinfo, address[0], address[1], self.family, self.type, self.proto
        )
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

    def recv(self, n: int) -> Future[bytes]:
        """As read(n)."""
        return self.read(n)

    def recv_into(self, buffer: Any) -> Future[int]:
        """As read_into(buffer)."""
        return self.read_into(buffer)

    def send(self, data: Any) -> Future[int]:
        """As write(data): the whole of it."""
        return self.write(data)

    def send_to(self, data: Any, address: Address) -> Future[int]:
        """Sends one datagram to (host, port); a host name is looked up on the pool. Future of the number of bytes.
        https://learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-wsasendto"""
        self._require_open()
        if _tpio.is_numeric(self.family, address):
            return self._send_to(self.family, data, address)
        return self._look_up_and_send(data, address)

    @steps
    def _look_up_and_send(self, data: Any, address: Address) -> Steps[int]:
        found = yield getaddrinfo(address[0], address[1], family=self.family, type=self.type)
        sent: int = yield self._send_to(self.family, data, found[0][4])
        return sent

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> Future[int]:
        """Sends `count` bytes of a file (None: to its end) from `offset` on, without their passing through Python. Future of
        the number of bytes sent, which is less than asked for when the file is shorter.

        file: a tpio.File or a file object of the standard library, of which the file position does not matter.
        https://learn.microsoft.com/windows/win32/api/mswsock/nf-mswsock-transmitfile
        """
        self._require_open()
        handle = _tpio.handle_value(file)
        if offset < 0 or (count is not None and count < 0):
            raise ValueError("offset and count must not be negative")
        left = max(_tpio.file_size(handle) - offset, 0)
        return self._transmit_all(file, handle, offset, left if count is None else min(count, left))

    @steps
    def _transmit_all(self, file: Any, handle: int, offset: int, left: int) -> Steps[int]:
        sent = 0  # `file` is an argument so that it lives as long as this
        while sent < left:
            part = yield self._transmit(handle, offset + sent, min(left - sent, LARGEST_TRANSMIT))
            if part == 0:  # the file has become shorter
                break
            sent += part
        return sent

    # ---- the rest

    def _require_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed socket")

    def bind(self, address: Address) -> None:
        """As socket.socket.bind."""
        self._require_open()
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
        return self._sock.getsockname()

    def getpeername(self) -> Address:
        """As socket.socket.getpeername."""
        self._require_open()
        return self._sock.getpeername()

    def setsockopt(self, *args: Any) -> None:
        """As socket.socket.setsockopt."""
        self._require_open()
        self._sock.setsockopt(*args)

    def getsockopt(self, *args: Any) -> Any:
        """As socket.socket.getsockopt."""
        self._require_open()
        return self._sock.getsockopt(*args)

    def close(self) -> None:
        given_back, self._given_back = self._given_back, deque()
        super().close()
        self._sock.detach()  # the handle was ours, and is closed
        for connection, _ in given_back:
            connection.close()

    close.__doc__ = SocketHandle.close.__doc__

    def detach(self) -> int:
        number = super().detach()
        self._sock.detach()
        return number

    detach.__doc__ = SocketHandle.detach.__doc__

    def __del__(self) -> None:
        inner = getattr(self, "_sock", None)
        if inner is not None:
            inner.detach()  # the base class closes the handle


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
    return (pool or default_pool()).submit(socket.getaddrinfo, host, port, family, type, proto, flags)


def listen(
    address: Address, *, backlog: int | None = None, family: int | None = None, pool: Pool | None = None
) -> Socket:
    """A socket that listens at (host, port), and is alone there (SO_EXCLUSIVEADDRUSE). Port 0: any free one.

    family: None takes AF_INET6 for an IPv6 address and AF_INET otherwise. A host name is looked up, which may block.
    """
    if family is None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    if not _tpio.is_numeric(family, address):
        address = socket.getaddrinfo(address[0], address[1], family, socket.SOCK_STREAM)[0][4]
    sock = Socket(family, socket.SOCK_STREAM, pool=pool)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        sock.bind(address)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def open_connection(address: Address, *, timeout: float | None = None, pool: Pool | None = None) -> Future[Socket]:
    """Connects to (host, port) by TCP: looks the host up on the pool, tries every address in turn, and fails with the
    last one's error. timeout: seconds for all of it (TimeoutError)."""
    host, port = address[0], address[1]
    if timeout is not None and not timeout >= 0:
        raise ValueError("the timeout must not be negative")
    return with_timeout(_open_connection(host, port, pool), timeout, f"connecting to {host}:{port}")


@steps
def _open_connection(host: str, port: int, pool: Pool | None) -> Steps[Socket]:
    found = yield (pool or default_pool()).submit(socket.getaddrinfo, host, port, socket.AF_UNSPEC, socket.SOCK_STREAM)
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
