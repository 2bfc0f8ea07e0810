"""TLS from Windows itself (Schannel): the system's implementation, its trusted roots, its certificates and keys. No OpenSSL.

    stream = await tpio.tls.connect(("example.org", 443))
    await stream.write(b"GET / HTTP/1.0\\r\\nHost: example.org\\r\\n\\r\\n")
    print(await stream.read(65536))

See docs/tls.md.
"""

from __future__ import annotations

import atexit
import enum
import io
import ipaddress
import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError
from functools import partial
from typing import Any, Literal, Self, TypeVar
from weakref import WeakSet

from . import _pem, _tpio
from ._sockets import Address, Socket, open_connection
from ._sockets import listen as _listen
from ._steps import FINISHED, Steps, steps, with_timeout
from ._tpio import CertificateVerificationError, Future, Handle, Pool, TLSError, TLSTruncatedError
from ._verbs import handle_of

T = TypeVar("T")


class Version(enum.IntEnum):
    """Versions of TLS, by their number in the protocol."""

    TLSv1_0 = 0x0301
    TLSv1_1 = 0x0302
    TLSv1_2 = 0x0303
    TLSv1_3 = 0x0304


# SP_PROT_*, by which the system knows them: (client, server).
_PROTOCOLS = {
    Version.TLSv1_0: (0x80, 0x40),
    Version.TLSv1_1: (0x200, 0x100),
    Version.TLSv1_2: (0x800, 0x400),
    Version.TLSv1_3: (0x2000, 0x1000),
}
_REVOCATION = {"off": 0, "cached": 1, "full": 2}
_ALPN = 2  # SecApplicationProtocolNegotiationExt_ALPN


def _file(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read()


_identities: WeakSet[_tpio.TLSIdentity] = WeakSet()


@atexit.register
def _delete_keys() -> None:
    """What is still there then, nobody deletes otherwise."""
    for identity in list(_identities):
        identity.delete_keys()


class Certificate:
    """A certificate with its private key: what a server shows, or a client that is asked for one.

    From a PFX or PEM: the key is put into the user's key store, as Schannel, which works in another process, has to find it
    there; it is deleted with the last context and connection that use it, or at the interpreter's exit. The keys of
    certificates in the Windows store, those in hardware too, stay where they are.
    """

    def __init__(self, identity: _tpio.TLSIdentity) -> None:
        self._identity = identity
        _identities.add(identity)

    @classmethod
    def from_pfx(cls, data: bytes | str | os.PathLike[str], password: str | None = None) -> Certificate:
        """From a PFX (PKCS #12): its bytes, or the path of the file.
        https://learn.microsoft.com/windows/win32/api/wincrypt/nf-wincrypt-pfximportcertstore"""
        pfx = bytes(data) if isinstance(data, (bytes, bytearray, memoryview)) else _file(data)
        return cls(_tpio.TLSIdentity.from_pfx(pfx, password or ""))

    @classmethod
    def from_pem(
        cls,
        certfile: bytes | str | os.PathLike[str],
        keyfile: bytes | str | os.PathLike[str] | None = None,
        password: str | None = None,
    ) -> Certificate:
        """From PEM: bytes, or the path of a file, with the certificate and those of its issuers, and with the key, which
        may be in the same file. Keys: PKCS #8, encrypted too, PKCS #1, SEC 1."""
        certificate = certfile if isinstance(certfile, bytes) else _file(certfile)
        key = certificate if keyfile is None else keyfile if isinstance(keyfile, bytes) else _file(keyfile)
        return cls(_tpio.TLSIdentity.from_pfx(*_pem.pfx(certificate, key, password)))

    @classmethod
    def from_store(
        cls,
        *,
        thumbprint: str | bytes | None = None,
        subject: str | None = None,
        store: str = "MY",
        machine: bool = False,
    ) -> Certificate:
        """From a certificate store of the user, or of the machine: by its SHA-1 thumbprint, or by a part of its subject.
        https://learn.microsoft.com/windows/win32/api/wincrypt/nf-wincrypt-certfindcertificateinstore"""
        if (thumbprint is None) == (subject is None):
            raise ValueError("a thumbprint or a subject is needed, and not both")
        if isinstance(thumbprint, str):
            thumbprint = bytes.fromhex(thumbprint.replace(":", ""))
        if thumbprint is not None and len(thumbprint) != 20:
            raise ValueError("a thumbprint has 20 bytes (SHA-1)")
        if subject == "":
            raise ValueError("an empty subject would be in every certificate")
        return cls(_tpio.TLSIdentity.from_store(store, machine, thumbprint, subject))

    @property
    def der(self) -> bytes:
        """The certificate."""
        return self._identity.der


class Context:
    """How TLS is to be spoken, for any number of connections.

    server: for the side that accepts; it needs a certificate. minimum_version, maximum_version: None is no limit but the
    system's. alpn: names of protocols, the best first. verify: is the peer to show a certificate that is good? None: a
    server is, a client is not; True for a server: it asks clients for theirs. cafile, cadata: certificates, PEM or DER,
    that are trusted instead of the system's roots. check_hostname: the server's certificate has to be for the name.
    revocation: "off", "cached" (what the system has at hand; what it does not know counts as good) or "full" (it asks,
    over the network; what cannot be found out is refused).
    """

    def __init__(
        self,
        *,
        server: bool = False,
        certificate: Certificate | None = None,
        verify: bool | None = None,
        check_hostname: bool = True,
        cafile: str | os.PathLike[str] | None = None,
        cadata: str | bytes | None = None,
        alpn: Iterable[str] = (),
        minimum_version: Version = Version.TLSv1_2,
        maximum_version: Version | None = None,
        revocation: Literal["off", "cached", "full"] = "off",
    ) -> None:
        if server and certificate is None:
            raise ValueError("a server needs a certificate")
        if certificate is not None and not isinstance(certificate, Certificate):
            raise TypeError(f"a tpio.tls.Certificate is needed, not {type(certificate).__name__!r}")
        if revocation not in _REVOCATION:
            raise ValueError('revocation is "off", "cached" or "full"')
        self.server = bool(server)
        self.verify = not server if verify is None else bool(verify)
        self.check_hostname = bool(check_hostname) and not server
        self.certificate = certificate
        self.minimum_version = Version(minimum_version)
        self.maximum_version = None if maximum_version is None else Version(maximum_version)
        if self.maximum_version is not None and self.maximum_version < self.minimum_version:
            raise ValueError("the maximum version is below the minimum")
        if isinstance(alpn, (str, bytes)):
            raise TypeError("alpn is a list of names")
        self.alpn = tuple(alpn)
        self._protocols = _alpn_list(self.alpn)
        self._revocation = _REVOCATION[revocation]
        self._roots = self._own_roots(cafile, cadata)
        self._credentials: _tpio.TLSCredentials | None = None
        self._lock = threading.Lock()

    @staticmethod
    def _own_roots(cafile: str | os.PathLike[str] | None, cadata: str | bytes | None) -> _tpio.TLSRoots | None:
        if cafile is None and cadata is None:
            return None
        ders = []
        if cafile is not None:
            ders += _pem.certificates(_file(cafile))
        if cadata is not None:
            ders += _pem.certificates(cadata.encode("ascii") if isinstance(cadata, str) else bytes(cadata))
        return _tpio.TLSRoots(ders)

    def _acquire(self) -> _tpio.TLSCredentials:
        """May block. Connections share them, and with them the system's cache of sessions."""
        with self._lock:
            if self._credentials is None:
                allowed = 0
                for version, protocols in _PROTOCOLS.items():
                    if self.minimum_version <= version <= (self.maximum_version or version):
                        allowed |= protocols[self.server]
                newest = self.maximum_version is None
                identity = None if self.certificate is None else self.certificate._identity
                self._credentials = _tpio.TLSCredentials(self.server, allowed, newest, identity)
            return self._credentials

    def _machine(self, hostname: str | None) -> _tpio.TLSMachine:
        """For one connection. May block."""
        target = None if self.server else _names(hostname)[1]
        mutual = self.server and self.verify
        return _tpio.TLSMachine(self._acquire(), mutual=mutual, target=target, protocols=self._protocols)

    def _check(self, machine: _tpio.TLSMachine, hostname: str | None, *, offline: bool = False) -> None:
        """Is what the handshake has brought good? May block, unless it is to be offline: then nothing is fetched."""
        version = _version_of(machine)
        if (
            not self.minimum_version <= version <= (self.maximum_version or version)
        ):  # not every system heeds its limits
            raise TLSError(0, f"{version.name} was agreed on, which the context does not allow", None, 0)
        if self.verify:
            name, _, address = _names(hostname) if self.check_hostname else (None, None, b"")
            machine.verify(self._roots, name, address, self._revocation, offline)

    def wrap_bio(
        self,
        incoming: Any,
        outgoing: Any,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: Any = None,
    ) -> Any:
        """As ssl.SSLContext.wrap_bio: what asyncio asks a context for. So this one can be the `ssl` of
        `loop.create_connection`, `asyncio.open_connection` and `start_server`, on every loop; and on tpio.aio's that of
        `start_tls`. The loop's thread does the work, and for its sake nothing is fetched over the network. Errors are
        ssl.SSLError as well as TLSError."""
        from ._ssl_object import SSLObject

        return SSLObject(self, incoming, outgoing, server_side, server_hostname)


def _alpn_list(names: tuple[str, ...]) -> bytes:
    """SEC_APPLICATION_PROTOCOLS with one list."""
    if not names:
        return b""
    encoded = [name.encode("ascii") for name in names]
    if any(not 0 < len(name) < 256 for name in encoded):
        raise ValueError("the name of a protocol has 1 to 255 characters")
    protocols = b"".join(bytes([len(name)]) + name for name in encoded)
    if len(protocols) > 0xFFFF:
        raise ValueError("there are too many protocols")
    return struct.pack("<IIH", 6 + len(protocols), _ALPN, len(protocols)) + protocols


_default: Context | None = None


def _default_context() -> Context:
    global _default
    if _default is None:
        _default = Context()
    return _default


class _Turn:
    """One at a time, in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[Future[None]] = deque()

    def take(self) -> Future[None] | None:
        """None: it is yours. Otherwise it is when the future has ended."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return None
            turn: Future[None] = Future()
            self._waiting.append(turn)
            return turn

    def give(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._taken = False
                    return
                turn = self._waiting.popleft()
            if turn._end(FINISHED, None):  # unless it was cancelled
                return


class TLSStream:
    """A connection over TLS. Operations return futures, as those of tpio.Handle do; any number may be in flight, of which
    the reads take place one after the other, and so do the writes.

    A cancelled read loses nothing, and the stream stays usable. So it does after a cancelled write that had not begun; one
    that is cut off within a record leaves nothing that could go on, and closes the stream.
    """

    def __init__(self, transport: Handle, context: Context, server_hostname: str | None) -> None:
        self._transport: Any = transport
        self._context = context
        self._hostname = server_hostname
        self._reading = _Turn()
        self._writing = _Turn()
        self._given_back: deque[bytes] = deque()
        self._why_closed = "I/O operation on closed TLS stream"
        self._machine: _tpio.TLSMachine

    # ---- the handshake

    @steps
    def _connect(self) -> Steps[TLSStream]:
        try:
            yield self._transport.pool
            self._machine = machine = self._context._machine(self._hostname)
            while True:
                failure = done = None
                try:
                    done = machine.handshake()
                    if done:
                        self._context._check(machine, self._hostname)
                except TLSError as error:
                    failure = error
                try:
                    yield from self._send()
                except OSError:
                    if failure is None:
                        raise
                if failure is not None:
                    raise failure
                if done:
                    return self
                yield from self._receive()
                yield self._transport.pool  # it may take long: keys in hardware, revocation over the network
        except BaseException:
            self._transport.close()
            raise

    # ---- bytes

    def _receive(self) -> Generator[Future[Any], Any, None]:
        """More of the peer's bytes."""
        step = self._transport.read_into(self._machine.input)
        try:
            count = yield step
        except CancelledError:
            if step.done() and not step.cancelled() and step.exception() is None:  # it was faster
                self._machine.received(step.result())
            raise
        self._machine.received(count)

    def _send(self) -> Generator[Future[Any], Any, None]:
        """All output. Whoever sends has the turn of writing."""
        while (output := self._machine.take_output()) is not None:
            step = self._transport.write(output)
            try:
                yield step
            except CancelledError:
                if step.cancelled() or step.exception() is not None:
                    self._why_closed = "the TLS stream is closed: a write was cancelled within a record"
                    self._transport.close()
                raise

    @steps
    def _flush(self) -> Steps[None]:
        """Sends what the machine answers by itself (TLS 1.3's key updates). Nobody waits for it, nor is told: what cannot
        be sent fails the next write."""
        yield from self._take(self._writing)
        try:
            yield from self._send()
        finally:
            self._writing.give()

    def _take(self, turn: _Turn) -> Generator[Future[Any] | Pool, Any, None]:
        waiting = turn.take()
        if waiting is None:
            return
        try:
            yield waiting
            yield self._transport.pool  # not within that of the one before
        except BaseException:
            if waiting.done() and not waiting.cancelled():
                turn.give()
            raise

    # ---- data

    def read(self, n: int) -> Future[bytes]:
        """Reads up to n bytes. Future of bytes: b"" when the peer has said that it sends nothing more; TLSTruncatedError
        when the connection ended without that."""
        self._require_open()
        if (n := _size(n)) == 0:
            return _tpio.done_future_of(b"")
        future = self._read(partial(self._machine.read, n), partial(self._kept, n))
        future._on_give_back = self._give_back
        return future

    def read_into(self, buffer: Any) -> Future[int]:
        """Reads into a writable buffer. Future of the number of bytes: 0 at the end."""
        self._require_open()
        view = memoryview(buffer)
        if view.readonly:
            view.release()
            raise TypeError(f"a writable buffer is needed, not {type(buffer).__name__!r}")
        if not view.c_contiguous:
            view.release()
            raise BufferError("the buffer is not contiguous")
        if view.nbytes == 0:
            view.release()
            return _tpio.done_future_of(0)
        future = self._read_view(view)
        future._on_give_back = lambda count: self._give_back(memoryview(buffer).tobytes()[:count])
        return future

    @steps
    def _read_view(self, view: memoryview) -> Steps[int]:
        with view:
            count: int = yield self._read(partial(self._machine.read_into, view), partial(self._kept_into, view))
            return count

    @steps
    def _read(self, take: Callable[[], T | None], kept: Callable[[], T | None]) -> Steps[T]:
        yield from self._take(self._reading)
        try:
            while True:
                got = kept() if self._given_back else None
                if got is None:
                    try:
                        got = take()
                    finally:
                        if self._machine.unsent and not self.closed:
                            self._flush()
                if got is not None:
                    return got
                yield from self._receive()
        finally:
            self._reading.give()

    def _give_back(self, data: bytes) -> bool:
        """What a cancelled await had received; the next read gets it."""
        if data:
            self._given_back.append(data)
        return True

    def _kept(self, n: int) -> bytes | None:
        data = self._given_back.popleft()
        if len(data) > n:
            self._given_back.appendleft(data[n:])
        return data[:n]

    def _kept_into(self, view: memoryview) -> int | None:
        data = self._kept(view.nbytes)
        assert data is not None
        return io.BytesIO(data).readinto(view)  # whatever its format: a ctypes structure's cannot be cast

    def write(self, data: Any) -> Future[int]:
        """Writes the whole of a bytes-like object, which must not change until the future ends. Future of the number of
        bytes."""
        self._require_open()
        view = memoryview(data)
        if not view.c_contiguous:
            view.release()
            raise BufferError("the buffer is not contiguous")
        return self._write(view)

    @steps
    def _write(self, view: memoryview) -> Steps[int]:
        with view:
            yield from self._take(self._writing)
            try:
                self._require_open()
                written, size = 0, view.nbytes
                while written < size:
                    written += self._machine.write(view, written)
                    yield from self._send()
                return size
            finally:
                self._writing.give()

    # ---- the end

    @steps
    def unwrap(self) -> Steps[Handle]:
        """Says that nothing more will be sent (close_notify), waits for the peer to say so, and gives up the handle, on
        which one can go on without TLS. Future of the handle. Data of the peer's that was not read is an error: read to
        the end first."""
        self._require_open()
        yield from self._take(self._writing)
        try:
            self._require_open()
            self._machine.shut()
            yield from self._send()
        finally:
            self._writing.give()
        rest = yield self.read(1)
        if rest:
            self._give_back(rest)
            raise TLSError(0, "the peer has sent data that was not read", None, 0)
        transport: Handle = self._transport
        self._transport = _Gone(transport.pool)
        self._why_closed = "the TLS stream was unwrapped"
        if rest := self._machine.rest():
            transport._put_back(rest)
        return transport

    def close(self) -> None:
        """Closes the connection; what is pending is cancelled. The peer is told (close_notify) if that can be sent at once.
        Idempotent."""
        if self.closed:
            return
        turn = self._writing.take()
        if turn is not None:  # a write is under way
            turn.cancel()
            self._transport.close()
            return
        try:
            self._machine.shut()
            if (output := self._machine.take_output()) is not None:
                self._transport.write(output)
        except (OSError, ValueError):
            pass
        finally:
            self._transport.close()
            self._writing.give()

    @property
    def closed(self) -> bool:
        """True after close(), unwrap(), or the close of its handle."""
        return bool(self._transport.closed)

    def _require_open(self) -> None:
        if self._transport.closed:
            raise ValueError(self._why_closed)

    def __enter__(self) -> Self:
        self._require_open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<tpio.tls.TLSStream {'closed' if self.closed else f'{self.version} on {self._transport!r}'}>"

    # ---- what was agreed on

    @property
    def handle(self) -> Handle:
        """What it goes over: a tpio.Socket or Pipe. Reading or writing it breaks the stream."""
        handle: Handle = self._transport
        return handle

    @property
    def context(self) -> Context:
        return self._context

    @property
    def server_hostname(self) -> str | None:
        return self._hostname

    @property
    def version(self) -> str:
        """As ssl has it: "TLSv1.2"."""
        return _version_of(self._machine).name.replace("_", ".")

    @property
    def cipher(self) -> tuple[str, str, int]:
        """(name, version, bits of the key). The name is empty where the system does not tell it."""
        name, bits = self._machine.cipher
        return name, self.version, bits

    @property
    def alpn(self) -> str | None:
        """The protocol that both sides have agreed on."""
        return self._machine.alpn.decode("ascii", "backslashreplace") or None

    @property
    def peer_certificate(self) -> bytes | None:
        """In DER; ssl.DER_cert_to_PEM_cert makes PEM of it."""
        return self._machine.peer_certificate

    def channel_binding(
        self, kind: Literal["tls-server-end-point", "tls-unique"] = "tls-server-end-point"
    ) -> bytes | None:
        """What ties a log-in to this connection (RFC 5929), without the prefix that names its kind; None when the system
        does not give it: tls-unique does not exist within TLS 1.3."""
        if kind not in ("tls-server-end-point", "tls-unique"):
            raise ValueError("there is tls-server-end-point and tls-unique")
        data = self._machine.binding(kind == "tls-server-end-point")
        return None if data is None else data.removeprefix(f"{kind}:".encode())


class _Gone:
    """In the place of a handle that was given up."""

    closed = True

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def close(self) -> None:
        pass


class TLSListener:
    """Accepts connections of a listening socket or pipe, and speaks TLS with them."""

    def __init__(self, listener: Any, context: Context, *, handshake_timeout: float | None = 60) -> None:
        _check_context(context, server=True)
        self.listener = listener
        self.context = context
        self._timeout = _tpio.timeout_seconds(handshake_timeout)
        self._given_back: deque[Any] = deque()

    def accept(self) -> Future[Any]:
        """The next connection with which TLS can be spoken: (TLSStream, address), of a pipe a TLSStream. A client that
        fails, or takes longer than the time limit, is passed over; have several accepts under way, so that nobody waits
        for a slow one."""
        if self._given_back:
            return _tpio.done_future_of(self._given_back.popleft())
        future = self._accept()
        future._on_give_back = self._give_back
        return future

    def _give_back(self, accepted: Any) -> bool:
        """What a cancelled await had accepted; the next accept gets it."""
        self._given_back.append(accepted)
        return True

    @steps
    def _accept(self) -> Steps[Any]:
        while True:
            step = self.listener.accept()
            try:
                accepted = yield step
            except CancelledError:
                if step.done() and not step.cancelled() and step.exception() is None:  # it was faster
                    self.listener._give_back(step.result())
                raise
            connection = accepted[0] if isinstance(accepted, tuple) else accepted
            try:
                stream = yield wrap(connection, self.context, timeout=self._timeout)
            except (OSError, ValueError):
                connection.close()
                if self.listener.closed:
                    raise
                continue
            except BaseException:
                connection.close()
                raise
            return (stream, *accepted[1:]) if isinstance(accepted, tuple) else stream

    def getsockname(self) -> Address:
        """Of its socket."""
        return self.listener.getsockname()

    @property
    def closed(self) -> bool:
        return bool(self.listener.closed)

    def close(self) -> None:
        """Closes the listener; connections that were accepted stay."""
        self.listener.close()
        while self._given_back:
            given = self._given_back.popleft()
            (given[0] if isinstance(given, tuple) else given).close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _version_of(machine: _tpio.TLSMachine) -> Version:
    protocol = machine.protocol
    for version, bits in _PROTOCOLS.items():
        if protocol & (bits[0] | bits[1]):
            return version
    raise TLSError(0, f"the system speaks a protocol that is not known here: {protocol:#x}", None, 0)


# ---- names


def _names(hostname: str | None) -> tuple[str | None, str | None, bytes]:
    """(what the certificate's names are compared with, what the server is told, the address that the certificate must
    have). A name may end with the dot of the root, which is in no certificate."""
    if hostname is None:
        return None, None, b""
    try:
        address = ipaddress.ip_address(hostname.partition("%")[0])
    except ValueError:
        pass
    else:
        return None, str(address), address.packed
    name = hostname.removesuffix(".")
    try:
        name.encode("ascii")
    except UnicodeEncodeError:
        name = name.encode("idna").decode("ascii")
    return name, name, b""


def _size(n: Any) -> int:
    size = n.__index__()
    if size < 0:
        raise ValueError("the number of bytes must not be negative")
    return int(size)


def _check_context(context: Any, *, server: bool) -> None:
    if not isinstance(context, Context):
        raise TypeError(f"a tpio.tls.Context is needed, not {type(context).__name__!r}")
    if context.server != server:
        raise ValueError(f"a context for a {'server' if server else 'client'} is needed")


# ---- making streams


def wrap(
    handle: Any,
    context: Context | None = None,
    *,
    server_hostname: str | None = None,
    timeout: float | None = None,
) -> Future[TLSStream]:
    """TLS over what is connected: a tpio.Socket or Pipe, or a socket.socket. The context says which side it is on.

    server_hostname: of a client whose context checks it. timeout: seconds for the handshake (TimeoutError). When that
    fails, or is cancelled, the handle is closed; a socket.socket stays its owner's to close.
    """
    context = _default_context() if context is None else context
    _check_context(context, server=isinstance(context, Context) and context.server)
    timeout = _tpio.timeout_seconds(timeout)
    if context.server and server_hostname is not None:
        raise ValueError("server_hostname is for clients")
    if not context.server and context.verify and context.check_hostname and not server_hostname:
        raise ValueError("the certificate cannot be checked without server_hostname")
    _names(server_hostname)
    transport = handle_of(handle)
    if transport.closed:
        raise ValueError("I/O operation on closed handle")
    return with_timeout(TLSStream(transport, context, server_hostname)._connect(), timeout, "the TLS handshake")


def connect(
    address: Address,
    *,
    server_hostname: str | None = None,
    context: Context | None = None,
    timeout: float | None = None,
    pool: Pool | None = None,
) -> Future[TLSStream]:
    """Connects to (host, port) and speaks TLS. server_hostname: what the certificate is to be for; None: the host.
    timeout: seconds for all of it. See tpio.open_connection."""
    context = _default_context() if context is None else context
    _check_context(context, server=False)
    timeout = _tpio.timeout_seconds(timeout)
    if server_hostname is None and isinstance(address, tuple) and address:
        server_hostname = address[0]
    if context.verify and context.check_hostname and not server_hostname:
        raise ValueError("the certificate cannot be checked without server_hostname")
    _names(server_hostname)
    return with_timeout(
        _open(open_connection(address, pool=pool), context, server_hostname), timeout, f"connecting to {address}"
    )


@steps
def _open(connection: Future[Socket], context: Context, server_hostname: str | None) -> Steps[TLSStream]:
    sock = yield connection
    stream: TLSStream = yield wrap(sock, context, server_hostname=server_hostname)
    return stream


def listen(address: Address, context: Context, **options: Any) -> TLSListener:
    """A listener at (host, port), with the options of tpio.listen."""
    _check_context(context, server=True)
    return TLSListener(_listen(address, **options), context)


__all__ = [
    "Certificate",
    "CertificateVerificationError",
    "Context",
    "TLSError",
    "TLSListener",
    "TLSStream",
    "TLSTruncatedError",
    "Version",
    "connect",
    "listen",
    "wrap",
]
