"""A connection over TLS: what its machine (src/tpio_tls.c) wants is read from the handle, and what it has is written to it."""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError
from functools import partial
from typing import Any, Literal, Self, TypeVar

from . import _tpio
from ._construct import NoPublicConstructor
from ._steps import FINISHED, Steps, steps
from ._tls_context import Context, version_of
from ._tpio import Future, Handle, Pool, Reader, TLSError, Unclaimed

T = TypeVar("T")

READ_AHEAD = 16384  # bytes of one record, at most


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


class TLSStream(metaclass=NoPublicConstructor, made_by="tpio.tls.connect(), wrap() or a TLSListener"):
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
        self._unclaimed = Unclaimed()
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

    def read(self, n: int, *, timeout: float | None = None) -> Future[bytes]:
        """Reads up to n bytes. Future of bytes: b"" when the peer has said that it sends nothing more; TLSTruncatedError
        when the connection ended without that."""
        self._require_open()
        _tpio.timeout_seconds(timeout)
        if (n := _size(n)) == 0:
            return _tpio.done_future_of(b"")
        future = self._read(partial(self._machine.read, n), partial(self._unclaimed.claim_bytes, n))
        future._on_give_back = self._give_back
        return future._limit(timeout, "a read")

    def read_into(self, buffer: Any, *, timeout: float | None = None) -> Future[int]:
        """Reads into a writable buffer. Future of the number of bytes: 0 at the end."""
        self._require_open()
        _tpio.timeout_seconds(timeout)
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
        return future._limit(timeout, "a read")

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
                got = kept()
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
        self._unclaimed.give_back(data)
        return True

    def _kept_into(self, view: memoryview) -> int | None:
        data = self._unclaimed.claim_bytes(view.nbytes)
        if data is None:
            return None
        return io.BytesIO(data).readinto(view)  # whatever its format: a ctypes structure's cannot be cast

    # ---- readers, as those of tpio.Handle

    def readexactly(self, n: int, *, timeout: float | None = None) -> Future[bytes]:
        """See tpio.Handle.readexactly."""
        return self._claim(Reader.exactly(n), timeout, "readexactly()")

    def readuntil(self, separator: Any = b"\n", *, limit: int = 65536, timeout: float | None = None) -> Future[bytes]:
        """See tpio.Handle.readuntil."""
        return self._claim(Reader.until(separator, limit, False), timeout, "readuntil()")

    def readline(self, *, limit: int = 65536, timeout: float | None = None) -> Future[bytes]:
        """See tpio.Handle.readline."""
        return self._claim(Reader.until(b"\n", limit, True), timeout, "readline()")

    def _claim(self, reader: Reader, timeout: float | None, what: str) -> Future[bytes]:
        self._require_open()
        _tpio.timeout_seconds(timeout)
        future = self._read(partial(self._decrypt_for, reader), partial(self._unclaimed.claim, reader))
        future._on_give_back = self._give_back
        return future._limit(timeout, what)

    def _decrypt_for(self, reader: Reader) -> bytes | None:
        """What the reader wants, of what has been received; None: more has to be received."""
        while (data := self._machine.read(READ_AHEAD)) is not None:
            if (got := self._unclaimed.claim(reader, data)) is not None:
                return got
        return None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if not (line := self.readline().result()):
            raise StopIteration
        return line

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not (line := await self.readline()):
            raise StopAsyncIteration
        return line

    def write(self, data: Any, *, timeout: float | None = None) -> Future[int]:
        """Writes the whole of a bytes-like object, which must not change until the future ends. Future of the number of
        bytes."""
        self._require_open()
        _tpio.timeout_seconds(timeout)
        view = memoryview(data)
        if not view.c_contiguous:
            view.release()
            raise BufferError("the buffer is not contiguous")
        return self._write(view)._limit(timeout, "a write")

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
        return version_of(self._machine).name.replace("_", ".")

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


def _size(n: Any) -> int:
    size = n.__index__()
    if size < 0:
        raise ValueError("the number of bytes must not be negative")
    return int(size)
