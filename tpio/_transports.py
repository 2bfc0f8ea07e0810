"""asyncio's proactor transports, with what they get wrong at the end of a connection put right."""

from __future__ import annotations

import errno
import socket
from asyncio import proactor_events
from contextlib import suppress
from typing import Any

from . import _verbs

_standard: Any = proactor_events  # the type stubs do not know what these classes are made of


class _Ending(_standard._ProactorBasePipeTransport):  # type: ignore[misc]
    """Once it has ended, nothing of its handle is left, however long somebody keeps the transport: in a traceback, say."""

    _sock: Any
    _empty_waiter: Any = None  # which asyncio looks at when a read fails, and gives to those only that write

    def _call_connection_lost(self, exc: Any) -> None:
        closed = self._sock
        if closed is not None:
            self._sock = _LastSeen(closed)
        try:
            super()._call_connection_lost(exc)
        finally:
            if closed is not None and self._sock is None:
                _verbs.forget(closed)

    def __repr__(self) -> str:
        try:
            return str(super().__repr__())
        except ValueError:  # somebody has closed the handle, and so it has no number
            return f"<{type(self).__name__} of a closed handle>"


class _LastSeen:
    """What asyncio closes in place of a handle. It would shut a socket down itself, which Windows refuses when the peer has
    reset the connection, and with that the transport would stay half ended and its socket open.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def fileno(self) -> int:
        return int(self._handle.fileno())

    def close(self) -> None:
        if hasattr(self._handle, "shutdown") and self._handle.fileno() != -1:
            with suppress(OSError):
                self._handle.shutdown(socket.SHUT_RDWR)
        self._handle.close()


class _Reading(_Ending, _standard._ProactorReadPipeTransport):  # type: ignore[misc]
    """Once it is closing, its protocol hears of connection_lost and of nothing else.

    The standard one still delivers a read that had ended before: the end of the file that came right behind a TLS record
    that cannot be read, say, and the protocol takes the one for the reason instead of the other.
    """

    def _data_received(self, data: Any, length: int) -> None:
        if not self._closing:
            super()._data_received(data, length)


class _Held:
    """Stands for a write that has ended: in its place, what is written now waits for what else this turn of the loop brings."""

    def done(self) -> bool:
        return True

    def cancel(self, msg: Any = None) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def exception(self) -> None:
        return None

    def result(self) -> None:
        return None


_HELD = _Held()
_WORTH_HOLDING = 16384  # bytes: copying more than this costs as much as a call


class _Writing(_Ending, _standard._ProactorBaseWritePipeTransport):  # type: ignore[misc]
    """close() ends the connection when everything is written, also what the protocol writes when it hears that there is
    room again, as in the selector loop. The standard one drops that: the end of a TLS session, for one.

    Small writes of one turn of the loop go out as one: a call for the head of an answer and another for its body would cost
    twice as much.
    """

    _write_fut: Any
    _buffer: Any
    _conn_lost: int

    def close(self) -> None:
        unwritten = not self._closing and self._write_fut is not None
        lost = self._conn_lost
        super().close()
        if unwritten:
            self._conn_lost = lost  # write() goes on until all is written

    def _loop_writing(self, f: Any = None, data: Any = None) -> None:
        if f is None and data and self._write_fut is None and len(data) <= _WORTH_HOLDING:
            self._write_fut = _HELD
            self._buffer = bytearray(data)
            self._loop.call_soon(self._send_held)
            return
        last = f is not None and f is self._write_fut and self._closing and not self._buffer
        if not last or f.cancelled() or f.exception() is not None:
            super()._loop_writing(f, data)
            return
        self._write_fut = None
        self._pending_write = 0
        self._maybe_resume_protocol()
        if self._write_fut is not None:  # it had something to say yet
            return
        self._conn_lost += 1
        self._loop.call_soon(self._call_connection_lost, None)
        if self._eof_written:
            with suppress(OSError):  # the peer has reset the connection, which ends all the same
                self._sock.shutdown(socket.SHUT_WR)
        if self._empty_waiter is not None:
            self._empty_waiter.set_result(None)

    def _send_held(self) -> None:
        if self._write_fut is not _HELD:  # aborted
            return
        data, self._buffer = self._buffer, None
        try:
            self._write_fut = sending = self._loop._proactor.send(self._sock, data)
        except OSError as error:
            self._write_fut = None
            self._fatal_error(error, "Fatal write error on pipe transport")
            return
        if sending.done():
            self._loop_writing(sending)
        else:
            self._pending_write = len(data)
            sending.add_done_callback(self._loop_writing)
            self._maybe_pause_protocol()


class SocketTransport(_Reading, _Writing, _standard._ProactorSocketTransport):  # type: ignore[misc]
    """A connected stream socket."""

    def __init__(self, *args: Any, **options: Any) -> None:
        try:
            super().__init__(*args, **options)
        except OSError:
            # The very last step turns Nagle's algorithm off: of a client that has gone, which reading will tell. The server
            # would take it for the end of its listener.
            if getattr(self, "_paused", True):  # it was an earlier step
                raise


class DuplexPipeTransport(_Reading, _Writing, _standard._ProactorDuplexPipeTransport):  # type: ignore[misc]
    """A pipe that is read and written."""


class ReadPipeTransport(_Reading):
    """A pipe that is read."""


class WritePipeTransport(_Writing, _standard._ProactorWritePipeTransport):  # type: ignore[misc]
    """A pipe that is written, whose protocol hears when the reader goes, if the pipe lets itself be read for that."""

    def _pipe_closed(self, fut: Any) -> None:
        if not fut.cancelled() and isinstance(fut.exception(), PermissionError):
            self._read_fut = None
        else:
            super()._pipe_closed(fut)


class BlindWritePipeTransport(_Writing):
    """A file that is written on threads: a read, to see when the reader goes, would keep the writes from the file."""


# What is said of one datagram, and with it is gone: ERROR_PORT_UNREACHABLE, WSAEMSGSIZE, WSAENETRESET, WSAECONNRESET.
_OF_ONE_DATAGRAM = {1234, 10040, 10052, 10054}
_PAUSE = 1.0  # seconds until a read that the system has refused is tried again


class DatagramTransport(_Ending, _standard._ProactorDatagramTransport):  # type: ignore[misc]
    """Goes on after an error, which the protocol hears of, and close() sends what has been given to it.

    The standard one stops reading for good at the first error, and never ends when it is closed while it writes. It reads
    from a socket that has no address yet, which fails; and where it is given a remote address without a connection, for
    broadcasts, it neither sends nor receives.
    """

    _write_fut: Any
    _conn_lost: int
    _address: Any
    _refused: Any = None  # a read that failed at once
    _receiver: Any = None  # of all that is sent, of a socket that is not connected to it

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        peer = self._extra.get("peername")
        if peer is None:
            self._receiver, self._address = self._address, None
        elif self._address is None:  # a socket that the program has connected
            self._address = peer

    def sendto(self, data: Any, addr: Any = None) -> None:
        if self._receiver is not None:
            if addr not in (None, self._receiver):
                raise ValueError(f"Invalid address: must be None or {self._receiver}")
            addr = self._receiver
        super().sendto(data, addr)

    def close(self) -> None:
        unwritten = not self._closing and self._write_fut is not None
        lost = self._conn_lost
        super().close()
        if unwritten:
            self._conn_lost = lost

    def _loop_writing(self, fut: Any = None) -> None:
        super()._loop_writing(fut)
        if _failed(fut) and self._write_fut is None and not self._conn_lost:
            self._loop_writing()

    def _loop_reading(self, fut: Any = None) -> None:
        if fut is None:
            if self._closing:
                return
            self._bind()
        super()._loop_reading(fut)
        reading = self._read_fut
        if reading is not None:
            if _failed(reading) and reading.exception().winerror not in _OF_ONE_DATAGRAM:
                self._refused = reading
        elif _failed(fut) and not self._closing:
            if fut is self._refused:  # as the next one would be, and so on for ever
                self._loop.call_later(_PAUSE, self._loop_reading)
            else:
                self._loop_reading()

    def _bind(self) -> None:
        """A socket that nobody has bound and that has not sent yet gets its address here: it could not receive."""
        try:
            self._sock.getsockname()
        except OSError as error:
            if error.winerror == errno.WSAEINVAL:
                with suppress(OSError):  # the read says it again
                    self._sock.bind(("", 0) if self._sock.family == socket.AF_INET else ("::", 0))
                    self._extra["sockname"] = self._sock.getsockname()


def _failed(future: Any) -> bool:
    if future is None or not future.done() or future.cancelled():
        return False
    return isinstance(future.exception(), OSError)
