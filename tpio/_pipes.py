"""Pipes: anonymous pairs, and named ones with their listener.

Windows' anonymous pipes cannot do overlapped I/O; ours are named pipes with a name that nobody can guess.
"""

from __future__ import annotations

import itertools
import math
import operator
import os
import re
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Literal, Self

from . import _tpio
from ._steps import CANCELLED, FAILED, FINISHED, timed_out
from ._tpio import Future, IncompleteReadError, PipeHandle, Pool, default_pool, pool_of

GENERIC_READ, GENERIC_WRITE = 0x80000000, 0x40000000
FILE_WRITE_ATTRIBUTES = 0x0100  # for SetNamedPipeHandleState, by which a program makes its input non-blocking
# Both without FILE_CREATE_PIPE_INSTANCE: what a client needs, and what is not enough to pose as the server.
CLIENT_ACCESS = 0x0012019B
OPEN_EXISTING = 3
FILE_FLAG_OVERLAPPED = 0x40000000
SECURITY_SQOS_PRESENT, SECURITY_IDENTIFICATION = 0x00100000, 0x00010000
PIPE_UNLIMITED_INSTANCES = 255
ERROR_NO_DATA, ERROR_PIPE_BUSY = 232, 231
ERROR_PIPE_CONNECTED = 535

BUFFER_SIZE = 65536  # what a writer may be ahead of its reader


class Pipe(PipeHandle):
    """One end of a pipe.

    A pipe of bytes is read by `read` and the readers, and `read` gives b"" at the end alone. A message pipe
    (`PipeListener(message=True)`) is read by `read_message` or `messages`, which keep the boundaries of the messages.
    """

    def messages(self) -> Messages:
        """Returns an iterator of the messages, for `for` and `async for`. It ends with the pipe. See read_message."""
        return Messages(self)

    @property
    def client_pid(self) -> int:
        """The process at the other end of a connection that a listener has accepted. It may have ended, and its number
        be another's by now.

        https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeclientprocessid"""
        return _tpio.pipe_client_pid(self.fileno())

    def impersonate(self) -> AbstractContextManager[None]:
        """The client in whose name this thread acts, inside the `with`:

            with connection.impersonate():
                open(name)                  # with the client's rights

        For a connection that a listener has accepted, and after something has been read from it. How far it goes is the
        client's choice: those that open_pipe makes can be identified, but not acted for (OSError 1346 from whatever
        asks for rights). Do not await inside: the thread's other tasks would act in the client's name too. Should the
        end of it raise, the thread still does: end the process.
        https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-impersonatenamedpipeclient
        """
        return _impersonation(self.fileno())

    def __init__(self, obj: Any, *, pool: Pool | None = None, owns: bool = True) -> None:
        self._require_new()
        self._seat: int | None = None  # of a listener's connection
        self._anchor: Any = None  # what lives as long as the system has an operation of this pipe
        super().__init__(obj, pool=pool, owns=owns)  # last: when it has the handle, nothing fails any more

    @classmethod
    def _for_child(cls, handle: int) -> Pipe:
        try:
            pipe = cls.__new__(cls)
            pipe._seat = None
            pipe._adopt(handle)
        except BaseException:
            _tpio.close_handle(handle)
            raise
        return pipe

    def _leave_listener(self) -> None:
        seat, self._seat = self._seat, None
        if seat is not None:
            _leave(seat)

    def close(self) -> None:
        self._leave_listener()
        super().close()

    close.__doc__ = PipeHandle.close.__doc__

    def detach(self) -> int:
        self._leave_listener()
        return super().detach()

    detach.__doc__ = PipeHandle.detach.__doc__

    def __del__(self) -> None:
        # Not here: garbage may be collected anywhere, also while the listener's lock is held.
        if getattr(self, "_seat", None) is not None:
            try:
                self.pool.submit(self.close)
            except RuntimeError:  # the pool is closed, and so is the listener
                pass


class Messages:
    """The messages of a pipe, one by one."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        try:
            return self._pipe.read_message().result()
        except IncompleteReadError:
            raise
        except EOFError:
            raise StopIteration from None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._pipe.read_message()
        except IncompleteReadError:
            raise
        except EOFError:
            raise StopAsyncIteration from None


@contextmanager
def _impersonation(handle: int) -> Iterator[None]:
    _tpio.impersonate_pipe_client(handle)
    try:
        yield
    finally:
        _tpio.revert_to_self()


def _owner_only() -> str:
    """A security descriptor: the current user may do everything, and nobody else anything."""
    return f"D:P(A;;GA;;;{_tpio.user_sid()})"


def _descriptor(security: str | Iterable[str] | None) -> str:
    if security is None:
        return _owner_only()
    if isinstance(security, str):
        return security
    entries = []
    for sid in security:
        if not isinstance(sid, str):
            raise TypeError(f"a SID is a str, not {type(sid).__name__!r}")
        if not re.fullmatch(r"S-1(-(0x[0-9a-f]+|[0-9]+))+|[A-Z]{2}", sid, re.IGNORECASE | re.ASCII):
            raise ValueError(f"not a SID: {sid!r}")
        entries.append(f"(A;;{CLIENT_ACCESS:#x};;;{sid})")
    return _owner_only() + "".join(entries)


def _own(handle: int, pool: Pool | None = None) -> Pipe:
    try:
        return Pipe(handle, pool=pool)
    except BaseException:
        _tpio.close_handle(handle)
        raise


def pipe(*, inherit: Literal["read", "write"] | None = None, pool: Pool | None = None) -> tuple[Pipe, Pipe]:
    """A pipe: (read end, write end).

    inherit: "read" or "write" makes that end one for a child process: inheritable and synchronous, as programs expect
    of their standard handles. Pass its fileno() on, then close it; it cannot be read or written here (BindError).
    https://learn.microsoft.com/windows/win32/ipc/anonymous-pipe-operations
    """
    if inherit not in (None, "read", "write"):
        raise ValueError(f"inherit must be 'read', 'write' or None, not {inherit!r}")
    name = rf"\\.\pipe\tpio-{os.getpid()}-{secrets.token_hex(16)}"
    # The server's end is ours: the client's can be made synchronous and inheritable.
    ours_reads = inherit != "read"
    server = _tpio.create_named_pipe(
        name,
        "r" if ours_reads else "w",
        first=True,
        message=False,
        instances=1,
        buffer_size=BUFFER_SIZE,
        sddl=_owner_only(),
    )
    try:
        flags = SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION
        client = _tpio.create_file(
            name,
            GENERIC_WRITE if ours_reads else GENERIC_READ | FILE_WRITE_ATTRIBUTES,
            0,
            OPEN_EXISTING,
            flags if inherit else flags | FILE_FLAG_OVERLAPPED,
            inherit=inherit is not None,
        )
    except BaseException:
        _tpio.close_handle(server)
        raise
    try:
        theirs = Pipe._for_child(client) if inherit else _own(client, pool)
    except BaseException:
        _tpio.close_handle(server)
        raise
    try:
        ours = _own(server, pool)
    except BaseException:
        theirs.close()
        raise
    return (ours, theirs) if ours_reads else (theirs, ours)


class PipeListener:
    """A server of a named pipe. An instance is always listening, also while nobody waits in accept().

    name: \\\\.\\pipe\\NAME, or just NAME. message: the pipe keeps message boundaries. max_instances: connections at a
    time, at most 254 (None: unlimited). listening: instances that wait for a client at the same time; more than one
    lets that many clients connect without a wait between them. security: who may connect; None: the current user
    alone; a list of SIDs ("S-1-5-32-545", or "BU" as in SDDL): they too; a str: a whole security descriptor as SDDL.
    Clients on other machines are refused.
    https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew
    """

    def __init__(
        self,
        name: str,
        *,
        message: bool = False,
        max_instances: int | None = None,
        listening: int = 1,
        security: str | Iterable[str] | None = None,
        pool: Pool | None = None,
    ) -> None:
        max_instances = None if max_instances is None else operator.index(max_instances)
        listening = operator.index(listening)
        if max_instances is not None and not 1 <= max_instances <= 254:
            raise ValueError("max_instances must be 1 to 254, or None")
        if not 1 <= listening <= 254:
            raise ValueError("listening must be 1 to 254")
        self.name = full_name(name)
        self._message = message
        self._most = max_instances
        self._wanted = listening
        self._security = _descriptor(security)
        self._pool = pool_of(pool)
        self._lock = threading.Lock()
        self._listening: set[Pipe] = set()  # the instances that wait for a client
        self._seats: set[int] = set()  # one for each connection that is open
        self._ready: deque[Pipe] = deque()  # connected, and nobody has asked yet
        self._waiting: deque[Future[Pipe]] = deque()
        self._guard: Future[None] | None = None
        self._closed = False
        try:
            self._listen(first=True)
        except BaseException:
            self.close()
            raise

    # ---- the instances that listen

    def _listen(self, first: bool = False) -> None:
        """Makes the instances that are missing, each waiting for its client. At the limit of connections: when one of
        them is closed, just before, so that there is no moment without any instance."""
        while self._listen_once(first):
            first = False

    def _listen_once(self, first: bool) -> bool:
        with self._lock:
            full = self._most is not None and len(self._seats) + len(self._listening) >= self._most
            if self._closed or len(self._listening) >= self._wanted or full:
                return False
            handle = _tpio.create_named_pipe(
                self.name,
                "rw",
                first=first,
                message=self._message,
                instances=PIPE_UNLIMITED_INSTANCES
                if self._most is None
                else min(self._most + self._wanted, PIPE_UNLIMITED_INSTANCES),
                buffer_size=BUFFER_SIZE,
                sddl=self._security,
            )
            instance = _own(handle, self._pool)
            arrived = partial(_arrived, weakref.ref(self), instance)
            self._listening.add(instance)
        try:
            with self._lock:
                self._keep_alive()
            connected = instance._connect_pipe(self._connected)
        except ValueError:  # closed meanwhile, with the listener or with the pool
            self.close()
            return False
        except BaseException:  # no memory: nobody would hear of its client
            with self._lock:
                self._listening.discard(instance)
            instance.close()
            raise
        connected.add_done_callback(arrived)
        return True

    @staticmethod
    def _connected(future: Future[Any], error: int, count: int) -> None:
        # A client that has connected, written and gone again: what it wrote can be read.
        if error not in (0, ERROR_PIPE_CONNECTED, ERROR_NO_DATA):
            raise _tpio.winerror(error)

    def _keep_alive(self) -> None:
        """A listener that is waited for lives as long as it listens; one that is not goes with its last reference."""
        for instance in self._listening:
            instance._anchor = self if self._waiting else None

    def _guard_waiting(self) -> None:
        """At the limit of connections somebody waits here and nothing in the pool, so that the pool's close would end
        nothing: then a sleep without an end stands for it. It keeps the listener, as one that listens would."""
        with self._lock:
            guard = self._guard
            needed = bool(self._waiting) and not self._listening and not self._closed
            if needed == (guard is not None):
                return
            self._guard = None
            if needed:
                try:
                    self._guard = _tpio.call_after(self._pool_closed, math.inf, 0, self._pool)
                except RuntimeError:  # it is closed
                    pass
            unguarded = needed and self._guard is None
        if guard is not None:
            guard.cancel()
        if unguarded:
            self.close()

    def _pool_closed(self, guard: Future[None]) -> None:
        with self._lock:
            closed = guard is self._guard  # else it was we who cancelled it
        if closed:
            self.close()

    def _take(self, instance: Pipe, connected: Future[Any]) -> None:
        """A client has come, or the instance is spoilt: the next one listens before anything else is done."""
        if connected.cancelled():  # nobody cancels it but by closing
            self.close()
            return
        instance._anchor = None
        good = connected.exception() is None
        future = None
        try:
            with self._lock:
                self._listening.discard(instance)
                if self._closed:
                    good = False
                if good:
                    instance._seat = seat = next(_seat_numbers)
                    self._seats.add(seat)
                    _listeners[seat] = weakref.ref(self)
                    future = self._place(instance)
        except MemoryError as error:
            instance.close()
            self._fail(error)
            return
        self._listen_again()
        if good:
            self._hand_out(instance, future)
        else:
            instance.close()
        self._guard_waiting()

    def _listen_again(self) -> None:
        try:
            self._listen()
        except RuntimeError:  # the pool is closed
            self.close()
        except (OSError, MemoryError) as error:
            # Somebody else's instances: the next close or accept tries again.
            if getattr(error, "winerror", None) != ERROR_PIPE_BUSY:
                self._fail(error)

    def _fail(self, error: OSError | MemoryError) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
            self._keep_alive()
        for future in waiting:
            future._end(FAILED, error)

    def _place(self, instance: Pipe) -> Future[Pipe] | None:
        """Whose connection it is: the future that has waited longest; None: it is kept. With the lock."""
        if self._waiting:
            future = self._waiting.popleft()
            self._keep_alive()
            return future
        self._ready.append(instance)
        return None

    def _hand_out(self, instance: Pipe, future: Future[Pipe] | None) -> None:
        while future is not None and not future._end(FINISHED, instance):
            with self._lock:
                closed = self._closed
                future = None if closed else self._place(instance)
            if closed:
                instance.close()

    # ---- public

    def accept(self, *, timeout: float | None = None) -> Future[Pipe]:
        """The next connection. Connections that come while nobody waits are kept for the next accept, as is one that
        comes in spite of a cancel. ValueError when closed."""
        _tpio.timeout_seconds(timeout)
        future: Future[Pipe] = Future()
        future._on_cancel = lambda: self._forget(future)
        future._on_give_back = self._give_back
        with self._lock:
            if self._closed:
                raise ValueError("the listener is closed")
            ready = self._ready.popleft() if self._ready else None
            if ready is None:
                self._waiting.append(future)
                self._keep_alive()
        if ready is not None:
            future._end(FINISHED, ready)
        else:
            self._listen_again()
            self._guard_waiting()
        return future._limit(timeout, "accept()")

    def _forget(self, future: Future[Pipe]) -> bool:
        with self._lock:
            if future in self._waiting:
                self._waiting.remove(future)
                self._keep_alive()
        self._guard_waiting()
        return future._end(CANCELLED, None)

    def _give_back(self, instance: Pipe) -> bool:
        with self._lock:
            if not self._closed:
                self._ready.appendleft(instance)
                return True
        return False

    def close(self) -> None:
        """Stops listening. Pending accepts end cancelled; connections that nobody took are closed; those that were
        handed out stay. Idempotent."""
        with self._lock:
            self._closed = True
            listening, self._listening = self._listening, set()
            ready, self._ready = self._ready, deque()
            waiting, self._waiting = self._waiting, deque()
        for instance in ready:
            instance.close()
        for instance in listening:
            instance.close()
        for future in waiting:
            future._end(CANCELLED, None)
        self._guard_waiting()

    @property
    def closed(self) -> bool:
        """True after close()."""
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    def __repr__(self) -> str:
        return f"<tpio.PipeListener {self.name!r}{' closed' if self._closed else ''}>"


def _arrived(listener: weakref.ref[PipeListener], instance: Pipe, connected: Future[Any]) -> None:
    alive = listener()
    if alive is not None:
        alive._take(instance, connected)
    else:
        instance.close()


# Whose seat it is. Not a weak reference in the connection: those in garbage are cleared before anything's __del__ is run.
_listeners: dict[int, weakref.ref[PipeListener]] = {}
_seat_numbers = itertools.count()


def _leave(seat: int) -> None:
    """A connection is about to be closed: there is room for another."""
    found = _listeners.pop(seat, None)  # None: another thread closes the same connection
    listener = found() if found is not None else None
    if listener is not None:
        with listener._lock:
            listener._seats.discard(seat)
        listener._listen_again()
        listener._guard_waiting()


def full_name(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a pipe is a str, not {type(name).__name__!r}")
    if "\0" in name:
        raise ValueError("embedded null character")
    if not name:
        raise ValueError("the name of a pipe must not be empty")
    return name if name.startswith("\\\\") else rf"\\.\pipe\{name}"


# ms of one WaitNamedPipe: how late it may be noticed that the pool is closed, or that a cancel came just before the wait
WAIT_SLICE = 250


def open_pipe(name: str, *, timeout: float | None = None, pool: Pool | None = None) -> Future[Pipe]:
    """Opens a named pipe as its client, for reading and writing. FileNotFoundError if there is no such pipe; waits
    while every instance is busy, at most `timeout` seconds (TimeoutError).

    The server can see who the client is, but cannot act in its name. A pipe with messages is read by messages.
    https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-waitnamedpipew
    """
    full = full_name(name)
    timeout = _tpio.timeout_seconds(timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    where = pool_of(pool)
    future: Future[Pipe] = Future()
    waiting = _Waiting()

    def connect() -> None:
        try:
            instance = _open_client(full, deadline, waiting, where)
        except BaseException as error:
            future._end(FAILED, error)
        else:
            if instance is None:
                future._end(CANCELLED, None)
            elif not future._end(FINISHED, instance):
                instance.close()

    def stopped(work: Future[None]) -> None:  # the pool was closed before it began, or there was no memory to
        if work.cancelled():
            future._end(CANCELLED, None)
        elif (error := work.exception()) is not None:
            future._end(FAILED, error)

    future._on_cancel = waiting.cancel
    # Opening has no overlapped form, and waiting for an instance even less. On the default pool, which has threads to
    # spare: the server that is waited for may be on `pool`.
    default_pool().submit(connect).add_done_callback(stopped)
    return future


class _Waiting:
    """A thread that may be waiting for an instance, and whom a cancel ends the wait."""

    def __init__(self) -> None:
        self.cancelled = False
        self._lock = threading.Lock()  # while it is held, the thread does not leave the wait
        self._thread = 0

    def cancel(self) -> bool:
        with self._lock:
            self.cancelled = True
            if self._thread:
                _tpio.cancel_blocking_call(self._thread)  # not yet in it: the end of its slice
        return True

    def wait(self, name: str, milliseconds: int) -> None:
        with self._lock:
            if self.cancelled:
                return
            self._thread = threading.get_native_id()
        try:
            _tpio.wait_named_pipe(name, milliseconds)
        finally:
            with self._lock:
                self._thread = 0


def _open_client(name: str, deadline: float | None, waiting: _Waiting, pool: Pool) -> Pipe | None:
    handle = _open_client_handle(name, deadline, waiting, pool)
    if handle is None:
        return None
    try:
        if _tpio.is_message_pipe(handle):
            _tpio.set_message_mode(handle)
    except BaseException:
        _tpio.close_handle(handle)
        raise
    return _own(handle, pool)


def _open_client_handle(name: str, deadline: float | None, waiting: _Waiting, pool: Pool) -> int | None:
    """Blocks until there is an instance; None: cancelled, or the pool is closed. deadline: by time.monotonic()."""
    flags = FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION
    while not waiting.cancelled and not pool.closed:
        try:
            return _tpio.create_file(name, CLIENT_ACCESS, 0, OPEN_EXISTING, flags)
        except OSError as error:
            if error.winerror != ERROR_PIPE_BUSY:
                raise
        patience: float = WAIT_SLICE
        if deadline is not None:
            patience = min(patience, (deadline - time.monotonic()) * 1000 + 1)
            if patience < 1:
                raise timed_out(f"every instance of {name} is busy")
        waiting.wait(name, int(patience))
    return None
