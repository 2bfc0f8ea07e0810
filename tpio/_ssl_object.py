"""tpio.tls in the place of an ssl.SSLObject, for asyncio's own implementation of TLS over transports (asyncio.sslproto)."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Self

from ._tpio import CertificateVerificationError, TLSError, TLSTruncatedError

if TYPE_CHECKING:
    from ._tls_context import Context


class _SSLError(TLSError, ssl.SSLError):
    pass


class _SSLEOFError(TLSTruncatedError, ssl.SSLEOFError):
    pass


class _SSLCertVerificationError(CertificateVerificationError, ssl.SSLCertVerificationError):  # type: ignore[override]
    pass


def _as_ssl(error: TLSError) -> TLSError:
    """asyncio looks for ssl's classes; programs may look for either."""
    kind: Any = _SSLError
    if isinstance(error, CertificateVerificationError):
        kind = _SSLCertVerificationError
    elif isinstance(error, TLSTruncatedError):
        kind = _SSLEOFError
    other: TLSError = kind(error.errno, error.strerror, None, error.winerror)
    other.__dict__.update(error.__dict__)
    return other


class Disguise(ssl.SSLContext):
    """A context that asyncio's start_tls takes for one of ssl's."""

    _context: Context

    def __new__(cls, context: Context) -> Self:
        self = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        self._context = context
        return self

    def __init__(self, context: Context) -> None:
        pass

    def wrap_bio(self, *args: Any, **options: Any) -> Any:
        return self._context.wrap_bio(*args, **options)


class SSLObject:
    """What asyncio calls of an ssl.SSLObject, over two ssl.MemoryBIO."""

    server_side: bool
    server_hostname: str | None
    session = session_reused = None

    def __init__(
        self, context: Context, incoming: Any, outgoing: Any, server_side: bool, server_hostname: str | None
    ) -> None:
        if context.server != server_side:
            raise ValueError(f"a context for a {'server' if server_side else 'client'} is needed")
        if context._revocation == 2:
            raise ValueError('revocation="full" would block the event loop: use tpio.tls.connect or wrap')
        if context.verify and context.check_hostname and not server_hostname:
            raise ValueError("the certificate cannot be checked without server_hostname")
        self.context = context
        self.server_side, self.server_hostname = server_side, server_hostname
        self._incoming, self._outgoing = incoming, outgoing
        self._machine = context._machine(server_hostname)
        self._shut = self._ended = False

    def _feed(self) -> None:
        """Gives the machine what has come."""
        data = self._incoming.read()
        if not data:
            if not self._incoming.eof:
                raise ssl.SSLWantReadError
            self._machine.received(0)
        while data:
            with memoryview(self._machine.input) as room:
                count = min(len(room), len(data))
                room[:count] = data[:count]
            self._machine.received(count)
            data = data[count:]

    def _put_out(self) -> None:
        while (output := self._machine.take_output()) is not None:
            self._outgoing.write(output)

    def do_handshake(self) -> None:
        while True:
            try:
                done = self._machine.handshake()
                if done:
                    self.context._check(self._machine, self.server_hostname, offline=True)
            except TLSError as error:
                raise _as_ssl(error) from error
            finally:
                self._put_out()
            if done:
                return
            self._feed()

    def read(self, n: int = 1024, buffer: Any = None) -> Any:
        while True:
            try:
                if buffer is None:
                    got: Any = self._machine.read(n)
                else:
                    with memoryview(buffer) as view, view[: n or None] as part:
                        got = self._machine.read_into(part)
            except TLSError as error:
                raise _as_ssl(error) from error
            finally:
                self._put_out()
            if got is not None:
                self._ended = self._ended or (n > 0 and not got)
                return got
            self._feed()

    def write(self, data: Any) -> int:
        try:
            return self._machine.write(data, 0)
        except TLSError as error:
            raise _as_ssl(error) from error
        finally:
            self._put_out()

    def unwrap(self) -> None:
        """close_notify both ways. What still comes before the peer's is dropped, as its owner has gone."""
        if not self._shut:
            self._shut = True
            try:
                self._machine.shut()
            except TLSError as error:
                raise _as_ssl(error) from error
            finally:
                self._put_out()
        while not self._ended:
            self.read(65536)

    def pending(self) -> int:
        return self._machine.unread

    def getpeercert(self, binary_form: bool = False) -> Any:
        """In DER. Not taken apart: what is in it was checked by the system."""
        der = self._machine.peer_certificate
        return der if binary_form or der is None else {}

    def cipher(self) -> tuple[str, str, int]:
        name, bits = self._machine.cipher
        return name, self.version(), bits

    def version(self) -> str:
        from ._tls_context import version_of

        return version_of(self._machine).name.replace("_", ".")

    def compression(self) -> None:
        return None

    def selected_alpn_protocol(self) -> str | None:
        return self._machine.alpn.decode("ascii", "backslashreplace") or None

    def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None:
        if cb_type not in ("tls-server-end-point", "tls-unique"):
            raise ValueError("there is tls-server-end-point and tls-unique")
        data = self._machine.binding(cb_type == "tls-server-end-point")
        return None if data is None else data.removeprefix(f"{cb_type}:".encode())
