"""TLS from Windows itself (Schannel): the system's implementation, its trusted roots, its certificates and keys. No OpenSSL.

    stream = await tpio.tls.connect(("example.org", 443))
    await stream.write(b"GET / HTTP/1.0\\r\\nHost: example.org\\r\\n\\r\\n")
    print(await stream.read(65536))

See docs/tls.md.
"""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any, Self

from . import _tpio
from ._sockets import Address, Socket, open_connection, take_one
from ._sockets import listen as _listen
from ._steps import Steps, steps
from ._tls_context import Certificate, Context, Version, names
from ._tls_stream import TLSStream
from ._tpio import CertificateVerificationError, Future, Pool, TLSError, TLSTruncatedError
from ._verbs import handle_of

_default: Context | None = None


def _default_context() -> Context:
    global _default
    if _default is None:
        _default = Context()
    return _default


def _check_context(context: Any, *, server: bool) -> None:
    if not isinstance(context, Context):
        raise TypeError(f"a tpio.tls.Context is needed, not {type(context).__name__!r}")
    if context.server != server:
        raise ValueError(f"a context for a {'server' if server else 'client'} is needed")


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
    names(server_hostname)
    transport = handle_of(handle)
    if transport.closed:
        raise ValueError("I/O operation on closed handle")
    stream = TLSStream._create(transport, context, server_hostname)
    return stream._connect()._limit(timeout, "the TLS handshake")


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
    names(server_hostname)
    opening = _open(open_connection(address, pool=pool), context, server_hostname)
    return opening._limit(timeout, f"connecting to {address}")


@steps
def _open(connection: Future[Socket], context: Context, server_hostname: str | None) -> Steps[TLSStream]:
    sock = yield connection
    stream: TLSStream = yield wrap(sock, context, server_hostname=server_hostname)
    return stream


# ---- servers


class TLSListener:
    """Accepts connections of a listening socket or pipe, and speaks TLS with them."""

    def __init__(self, listener: Any, context: Context, *, handshake_timeout: float | None = 60) -> None:
        _check_context(context, server=True)
        self.listener = listener
        self.context = context
        self._timeout = _tpio.timeout_seconds(handshake_timeout)
        self._given_back: list[Any] = []

    def accept(self, *, timeout: float | None = None) -> Future[Any]:
        """The next connection with which TLS can be spoken: (TLSStream, address), of a pipe a TLSStream. A client that
        fails, or takes longer than the time limit, is passed over; have several accepts under way, so that nobody waits
        for a slow one."""
        _tpio.timeout_seconds(timeout)
        if (kept := take_one(self._given_back)) is not None:
            return _tpio.done_future_of(kept)
        future = self._accept()
        future._on_give_back = self._give_back
        return future._limit(timeout, "accept()")

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
        while (given := take_one(self._given_back)) is not None:
            (given[0] if isinstance(given, tuple) else given).close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


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
