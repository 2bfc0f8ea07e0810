"""asyncio on the Windows thread pool: the standard ProactorEventLoop on a proactor of tpio's.

    tpio.aio.run(main())                                  # instead of asyncio.run(main())
    asyncio.Runner(loop_factory=tpio.aio.EventLoop)

The proactor is replaced; transports, streams, servers and subprocesses are asyncio's own, but for what goes wrong there at the
end of a connection (see _transports.py). Handles are bound to the process and not to the loop, so that a socket can be used
from several loops. What a cancelled operation had received is there for the next one.

connect_read_pipe and connect_write_pipe take tpio's pipes, and files of every kind, such as sys.stdin and sys.stdout: those
that were not opened for overlapped I/O, which is what programs are given, are read and written on threads of the default
pool.
"""

from __future__ import annotations

import _winapi
import asyncio
import contextvars
import errno
import msvcrt
import os
import socket
import threading
from asyncio import sslproto, windows_utils
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar, cast
from weakref import WeakSet

from . import _files, _pipes, _tpio, _transports, _verbs
from ._blocking import BlockingFile, blocking_file_of, known_blocking_file
from ._pipe_streams import PipeServer, open_pipe, serve_pipe
from ._sockets import GONE, Socket, take_one
from ._ssl_object import Disguise
from ._subprocesses import SpawnedTransport, create_subprocess_exec
from ._tls_context import Context
from ._tpio import Future, Handle, ProactorInbox, Sink, default_pool
from ._verbs import handle_of

__all__ = [
    "EventLoop",
    "PipeServer",
    "Proactor",
    "create_subprocess_exec",
    "open_file",
    "open_pipe",
    "run",
    "serve_pipe",
]

T = TypeVar("T")

ERROR_INVALID_HANDLE = 6
PATIENCE = 1.0  # seconds for an operation that is being cancelled

# By handle, for all loops: a cancelled read or accept that has not ended yet. The next one waits for what it brings.
_ending: dict[Handle, Sink] = {}
_ending_lock = threading.Lock()


class _OperationFuture(asyncio.Future[Any]):
    """An asyncio future whose cancel cancels the operation behind it."""

    _ov = None  # asyncio's loop looks at this attribute of its self-reading future
    _sink: Sink | None = None
    _proactor: Proactor | None = None

    def cancel(self, msg: Any = None) -> bool:
        sink, self._sink = self._sink, None
        proactor, self._proactor = self._proactor, None
        if sink is not None and proactor is not None:
            proactor._abandon(sink)
        return super().cancel(msg)


class Proactor:
    """What asyncio.windows_events.IocpProactor offers, on tpio's futures."""

    _inbox: ProactorInbox | None = None  # if there is none, __del__ needs to know

    def __init__(self) -> None:
        self._loop: Any = None
        self._inbox = ProactorInbox()
        self._pending: set[Sink] = set()
        self._stopped_serving: WeakSet[Any] = WeakSet()
        self._stopping = False  # there may be one in it

    def __repr__(self) -> str:
        return f"<{type(self).__name__} pending={len(self._pending)}{' closed' if self._inbox is None else ''}>"

    def set_loop(self, loop: Any) -> None:
        self._loop = loop
        cast(ProactorInbox, self._inbox).set_loop(loop)

    def wake(self) -> None:
        """Makes the loop look for what call_soon_threadsafe has given it. Any thread."""
        inbox = self._inbox
        if inbox is not None:
            inbox.kick()

    def select(self, timeout: float | None = None) -> list[Any]:
        """Waits for completions and gives each asyncio future its result."""
        self._check_closed()
        for sink in cast(ProactorInbox, self._inbox).select(timeout):
            self._finish(sink)
        return []

    def _check_closed(self) -> None:
        if self._inbox is None:
            raise RuntimeError("the proactor is closed")

    # ---- an operation

    def _finish(self, sink: Sink) -> None:
        self._pending.discard(sink)
        if _ending:
            _forget(sink)
        target = sink.target
        target._sink = target._proactor = None
        if target.done():
            return
        self._resolve(target, sink.operation, sink.source)

    def _resolve(self, target: asyncio.Future[Any], operation: Future[Any], source: Any) -> None:
        if operation.cancelled() or (self._stopping and self._has_stopped(source)):
            target.cancel()
        elif (error := operation.exception()) is not None:
            target.set_exception(error)
        else:
            target.set_result(operation.result())

    def _has_stopped(self, source: Any) -> bool:
        self._stopping = len(self._stopped_serving) > 0
        return source in self._stopped_serving

    def _register(self, operation: Future[Any], source: Any, urgent: bool = False) -> asyncio.Future[Any]:
        """An asyncio future for an operation; one that was done at once is done. urgent: see Sink.hurry."""
        target = _OperationFuture(loop=self._loop)
        if operation.done():
            self._resolve(target, operation, source)
            return target
        sink = Sink(operation, cast(ProactorInbox, self._inbox), target, source)
        if not sink.attach():
            self._resolve(target, operation, source)
        else:
            target._sink = sink
            target._proactor = self
            self._pending.add(sink)
            if urgent:
                sink.hurry()
        return target

    def _abandon(self, sink: Sink) -> None:
        sink.drop()
        handle = sink.reads
        if handle is not None and not sink.operation.done():
            with _ending_lock:
                _ending[handle] = sink

    def _result(self, value: T) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        future.set_result(value)
        return future

    def _failure(self, error: BaseException) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        future.set_exception(error)
        return future

    def _handle(self, obj: Any) -> Any:
        """A Handle, or what stands in for one where overlapped I/O is not possible."""
        self._check_closed()
        try:
            # A file that is known not to be overlapped is not asked again: the system answers when the file's I/O under way
            # has ended.
            return handle_of(obj, known_blocking_file)
        except _tpio.BindError as error:
            if not error.synchronous:
                raise
            return blocking_file_of(obj)
        except ValueError:  # it is closed; asyncio's own code expects what the system says of that
            raise _tpio.winerror(ERROR_INVALID_HANDLE) from None

    def _reader(self, obj: Any) -> Any:
        """The handle for a read or accept, once a cancelled one has given back what it had received."""
        handle = self._handle(obj)
        if _ending:
            with _ending_lock:
                ending = _ending.pop(handle, None)
            if ending is not None:
                cast(ProactorInbox, self._inbox).await_end(ending, PATIENCE)
        return handle

    # ---- streams

    def recv(self, conn: Any, nbytes: int, flags: int = 0) -> asyncio.Future[bytes]:
        return self._register(self._reader(conn)._recv(nbytes, flags), conn)

    def recv_into(self, conn: Any, buf: Any, flags: int = 0) -> asyncio.Future[int]:
        return self._register(self._reader(conn)._recv_into(buf, flags), conn)

    def send(self, conn: Any, buf: Any, flags: int = 0) -> asyncio.Future[int]:
        return self._register(self._handle(conn)._send(buf, flags), conn)

    def sendfile(self, sock: Any, file: Any, offset: int, count: int) -> asyncio.Future[int]:
        handle = cast(Socket, self._handle(sock))
        source = msvcrt.get_osfhandle(file.fileno())
        return self._register(handle._transmit(source, offset, count), sock)

    # ---- datagrams

    def recvfrom(self, conn: Any, nbytes: int, flags: int = 0) -> asyncio.Future[tuple[bytes, Any]]:
        return self._register(cast(Socket, self._reader(conn)).recvfrom(nbytes), conn)

    def recvfrom_into(self, conn: Any, buf: Any, nbytes: int = 0) -> asyncio.Future[tuple[int, Any]]:
        """nbytes: how many at most; 0: as many as there is room for. asyncio's loop gives no flags."""
        with memoryview(buf) as view:
            if not 0 <= nbytes <= view.nbytes:
                raise ValueError(f"a buffer of {view.nbytes} bytes cannot take {nbytes}")
            if 0 < nbytes < view.nbytes:
                buf = view.cast("B")[:nbytes]
        return self._register(cast(Socket, self._reader(conn)).recvfrom_into(buf), conn)

    def sendto(self, conn: Any, buf: Any, flags: int = 0, addr: Any = None) -> asyncio.Future[int]:
        handle = cast(Socket, self._handle(conn))
        try:
            sending = handle._sendto(conn.family, buf, addr)
        except _tpio.NotNumericError:  # the name of a host, say: what the system would say of it
            return self._failure(_tpio.winerror(errno.WSAEINVAL))
        return self._register(sending, conn)

    # ---- connections

    def _get_accept_socket(self, family: int) -> socket.socket:
        # asyncio turns Nagle's algorithm off for what says that it is TCP. The standard proactor's does not, and an answer
        # that is written in two parts takes the client's 40 ms or more.
        tcp = socket.IPPROTO_TCP if family in (socket.AF_INET, socket.AF_INET6) else 0
        sock = socket.socket(family, socket.SOCK_STREAM, tcp)
        sock.settimeout(0)
        return sock

    def accept(self, listener: socket.socket) -> asyncio.Future[tuple[socket.socket, Any]]:
        """A client that has gone before it was accepted is passed over: it does not stop the listener."""
        handle = cast(Socket, self._reader(listener))
        if (kept := take_one(handle._given_back)) is not None:
            connection, address, _ = kept
            return self._result((cast(socket.socket, connection), address))
        candidate = self._get_accept_socket(listener.family)

        def finish(future: Future[Any], error: int, count: int) -> Any:
            nonlocal candidate
            if error == 0:
                error = handle._accepted(candidate.fileno())
            if error == 0:
                try:
                    candidate.settimeout(listener.gettimeout())
                    return candidate, candidate.getpeername()
                except OSError as failure:
                    error = failure.winerror
            candidate.close()
            if error not in GONE:
                raise _tpio.winerror(error)
            candidate = self._get_accept_socket(listener.family)
            return handle._accept_again(future, candidate.fileno())

        try:
            return self._register(handle._accept(candidate.fileno(), finish), listener)
        except BaseException:
            candidate.close()
            raise

    def connect(self, conn: socket.socket, address: Any) -> asyncio.Future[Any]:
        if conn.type == socket.SOCK_DGRAM:
            conn.connect(address)  # sends nothing
            return self._result(None)
        handle = cast(Socket, self._handle(conn))
        try:
            conn.bind(("", 0) if conn.family == socket.AF_INET else ("::", 0))
        except OSError as error:
            if error.winerror != errno.WSAEINVAL:
                raise
            if conn.getsockname()[1] == 0:  # it was not bound before: something else is wrong
                raise

        def finish(future: Future[Any], error: int, count: int) -> socket.socket:
            handle._finish_connect(future, error, count)
            return conn

        try:
            connecting = handle._connect(conn.family, address, finish)
        except _tpio.NotNumericError:  # the name of a host, say: what the system would say of it
            return self._failure(_tpio.winerror(errno.WSAEINVAL))
        return self._register(connecting, conn)

    # ---- pipes

    def accept_pipe(self, pipe: Any) -> asyncio.Future[Any]:
        """A future of the pipe; BrokenPipeError if its client has gone already and has left nothing to read."""

        def finish(future: Future[Any], error: int, count: int) -> Any:
            _pipes.PipeListener._connected(future, error, count)
            if error == _pipes.ERROR_NO_DATA:
                _winapi.PeekNamedPipe(pipe.fileno(), 0)
            return pipe

        return self._register(self._handle(pipe)._connect_pipe(finish), pipe, urgent=True)

    async def connect_pipe(self, address: Any) -> windows_utils.PipeHandle:
        """Waits while every instance is busy, without polling. address: a str or os.PathLike."""
        name = os.fspath(address)
        if not isinstance(name, str):
            raise TypeError(f"the name of a pipe is a str, not {type(name).__name__!r}")
        stop = _pipes._Waiting()
        work = default_pool().submit(_pipes._open_client_handle, name, None, stop, default_pool())
        try:
            handle = await asyncio.shield(asyncio.wrap_future(work))
        except asyncio.CancelledError:
            stop.cancel()
            work.add_done_callback(_close_result)
            raise
        if handle is None:
            raise asyncio.CancelledError()
        return windows_utils.PipeHandle(handle)

    # ---- waiting

    def wait_for_handle(self, handle: int, timeout: float | None = None) -> asyncio.Future[bool]:
        """A future of True, or of False when the time is up."""
        self._check_closed()
        waiting = _tpio.wait_for_handle(handle, timeout)
        if waiting.done() and not waiting.cancelled() and (error := waiting.exception()) is not None:
            raise error  # asyncio takes every end of a future for that of the child
        return self._register(waiting, None)

    # ---- the end

    def _stop_serving(self, obj: Any) -> None:
        """obj is a listener that is about to be closed: its pending accept ends cancelled."""
        self._stopped_serving.add(obj)
        self._stopping = True

    def close(self) -> None:
        """Cancels what is pending and waits until it has ended. Idempotent."""
        inbox = self._inbox
        if inbox is None:
            return
        pending, self._pending = self._pending, set()
        for sink in pending:
            if not sink.target.done():
                sink.target.cancel()
        for sink in pending:
            inbox.await_end(sink, PATIENCE)
            _forget(sink)
        self._inbox = None
        inbox.close()
        _verbs.forget_closed_sockets()  # the loop's own and its listeners, which no transport ends

    def __del__(self) -> None:
        self.close()


def _forget(sink: Sink) -> None:
    handle = sink.reads
    with _ending_lock:
        if handle is not None and _ending.get(handle) is sink:
            del _ending[handle]


def _close_result(work: Future[Any]) -> None:
    if not work.cancelled() and work.exception() is None and work.result() is not None:
        _tpio.close_handle(work.result())


class EventLoop(asyncio.ProactorEventLoop):
    """asyncio's ProactorEventLoop on the Windows thread pool."""

    _closed = True  # for asyncio's __del__, if there is no proactor for it

    def __init__(self, proactor: Proactor | None = None) -> None:
        super().__init__(proactor if proactor is not None else Proactor())  # type: ignore[arg-type]

    def _make_socket_transport(
        self, sock: Any, protocol: Any, waiter: Any = None, extra: Any = None, server: Any = None
    ) -> Any:
        return _transports.SocketTransport(self, sock, protocol, waiter, extra, server)

    def _make_ssl_transport(
        self,
        rawsock: Any,
        protocol: Any,
        sslcontext: Any,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: Any = None,
        extra: Any = None,
        server: Any = None,
        **timeouts: Any,
    ) -> Any:
        tls = sslproto.SSLProtocol(self, protocol, sslcontext, waiter, server_side, server_hostname, **timeouts)
        _transports.SocketTransport(self, rawsock, tls, extra=extra, server=server)
        return tls._app_transport

    async def start_tls(self, transport: Any, protocol: Any, sslcontext: Any, **options: Any) -> Any:
        """As asyncio's; the context may also be a tpio.tls.Context."""
        if isinstance(sslcontext, Context):
            sslcontext = Disguise(sslcontext)
        return await super().start_tls(transport, protocol, sslcontext, **options)

    def _make_datagram_transport(
        self, sock: Any, protocol: Any, address: Any = None, waiter: Any = None, extra: Any = None
    ) -> Any:
        return _transports.DatagramTransport(self, sock, protocol, address, waiter, extra)

    def _make_duplex_pipe_transport(self, sock: Any, protocol: Any, waiter: Any = None, extra: Any = None) -> Any:
        return _transports.DuplexPipeTransport(self, sock, protocol, waiter, extra)

    def _make_read_pipe_transport(self, sock: Any, protocol: Any, waiter: Any = None, extra: Any = None) -> Any:
        return _transports.ReadPipeTransport(self, sock, protocol, waiter, extra)

    def _make_write_pipe_transport(self, sock: Any, protocol: Any, waiter: Any = None, extra: Any = None) -> Any:
        blocking = isinstance(self._proactor._handle(sock), BlockingFile)  # type: ignore[attr-defined]
        kind = _transports.BlindWritePipeTransport if blocking else _transports.WritePipeTransport
        return kind(self, sock, protocol, waiter, extra)

    def _make_spawned_transport(
        self, protocol: Any, args: Any, stdin: Any, stdout: Any, stderr: Any, waiter: Any, options: dict[str, Any]
    ) -> Any:
        return SpawnedTransport(self, protocol, args, False, stdin, stdout, stderr, 0, waiter, **options)

    def _write_to_self(self) -> None:
        # The proactor waits on an event; nothing needs to go through the loop's socket pair.
        proactor: Any = self._proactor  # type: ignore[attr-defined]
        if proactor is not None:
            proactor.wake()

    def _loop_self_reading(self, f: asyncio.Future[bytes] | None = None) -> None:
        # As asyncio's: takes away what signals write to the socket pair. But the interpreter may be ending, which has
        # closed the pool, while a loop on another thread just begins: that is no error to be logged.
        loop: Any = self
        try:
            if f is not None:
                f.result()
            if loop._self_reading_future is not f:
                return
            reading = loop._proactor.recv(loop._ssock, 4096)
        except (asyncio.CancelledError, RuntimeError, ValueError):  # ValueError: it has closed the socket
            loop._self_reading_future = None
        except OSError as error:
            self.call_exception_handler(
                {"message": "Error on reading from the event loop self pipe", "exception": error, "loop": self}
            )
        else:
            loop._self_reading_future = reading
            reading.add_done_callback(self._loop_self_reading)


def run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = EventLoop,
) -> T:
    """asyncio.run(main) on an EventLoop of tpio's."""
    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main, context=contextvars.copy_context())


class _Opening:
    """What open_file returns: to be awaited, or to be entered."""

    def __init__(self, path: Any, mode: str, options: dict[str, Any]) -> None:
        self._open = partial(_files.open, path, mode, **options)
        self._file: _files.File | None = None

    def __await__(self) -> Generator[Any, Any, _files.File]:
        opening = default_pool().submit(self._open)
        try:
            return (yield from opening.__await__())
        except asyncio.CancelledError:
            opening.add_done_callback(_close_file)  # opened by a thread that could not be stopped
            raise

    async def __aenter__(self) -> _files.File:
        self._file = await self
        return self._file

    async def __aexit__(self, *exc_info: object) -> None:
        cast(_files.File, self._file).close()


def _close_file(opening: Future[Any]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def open_file(path: Any, mode: str = "rb", **options: Any) -> _Opening:
    """Opens a file without blocking the loop, for reads and writes at an offset that are awaited:

        async with tpio.aio.open_file(path) as file:
            data = await file.read(4096, offset)

    or file = await tpio.aio.open_file(path). The file is a tpio.File; for the arguments see tpio.open. Opening has no
    overlapped form: a thread of the default pool does it.
    """
    return _Opening(path, mode, options)
