"""read, write, pump, accept and connect for anything that has a handle.

An object that is not tpio's own is bound on first use, and the binding is remembered while the object lives and its
fileno() stays the same. The object keeps its handle.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, cast
from weakref import ReferenceType, ref

from ._sockets import Socket
from ._tpio import FileHandle, Future, Handle, poll_socket, pump_between

# By the object's id: the object, its fileno() and the binding. Looked at without the lock, many times for each change.
_bound: dict[int, tuple[ReferenceType[Any], int, Handle]] = {}
_lock = threading.RLock()  # a finalizer that runs inside may drop another object


def handle_of(obj: Any, stand_in: Callable[[Any, int], Any] = lambda obj, number: None) -> Handle:
    """The tpio object for obj: itself, or its binding. stand_in(obj, its fileno()): asked before anything is bound, for what
    is to be taken instead."""
    if isinstance(obj, Handle):
        return obj
    if isinstance(obj, int):
        raise TypeError(
            "a bare handle value may be somebody else's after a close that tpio cannot see: wrap it in tpio.Handle"
        )
    if not hasattr(obj, "fileno"):
        raise TypeError(f"a tpio object or one with fileno() is needed, not {type(obj).__name__!r}")
    number = obj.fileno()
    handle = _known(obj, number)
    if handle is not None:
        return handle
    if (instead := stand_in(obj, number)) is not None:
        return cast(Handle, instead)
    with _lock:
        handle = _known(obj, number)
        if handle is not None:
            return handle
        alive = ref(obj, partial(_gone, id(obj)))
        # The binding does not refer to the object, or neither would ever go: whoever uses it has both.
        handle = Socket._borrow(obj) if isinstance(obj, socket.socket) else Handle(_Borrowed(obj), owns=False)
        _bound[id(obj)] = alive, number, handle
        return handle


def _known(obj: Any, number: int) -> Handle | None:
    known = _bound.get(id(obj))
    if known is None or known[0]() is not obj or known[1] != number or known[2].closed:
        return None
    return known[2]


def _gone(key: int, dead: ReferenceType[Any]) -> None:
    with _lock:
        known = _bound.get(key)
        if known is not None and known[0] is dead:  # not what has since come to have the same id
            del _bound[key]
    del known  # not with the lock: what goes with a binding may need one


def forget(obj: Any) -> None:
    """obj has been closed: its binding shall not last as long as it does."""
    known = _bound.get(id(obj))
    if known is not None and known[0]() is obj:
        _gone(id(obj), known[0])


def forget_closed_sockets() -> None:
    """Those that something keeps, though closed: a traceback, say, that free-threaded 3.13 never frees."""
    with _lock:
        known = list(_bound.values())
    for alive, _, _ in known:
        obj = alive()
        if isinstance(obj, socket.socket) and obj.fileno() == -1:
            forget(obj)


class _Borrowed:
    """The handle of an object, without the object."""

    def __init__(self, obj: Any) -> None:
        from ._tpio import handle_value

        self._number = handle_value(obj)

    def fileno(self) -> int:
        return self._number


def read(h: Any, n: int, offset: int | None = None, *, timeout: float | None = None) -> Future[bytes]:
    """Reads up to n bytes from a tpio object, a socket, or any object with fileno(). See Handle.read."""
    return handle_of(h).read(n, offset, timeout=timeout)


def read_into(h: Any, buffer: Any, offset: int | None = None, *, timeout: float | None = None) -> Future[int]:
    """Reads into a writable buffer. See Handle.read_into."""
    return handle_of(h).read_into(buffer, offset, timeout=timeout)


def write(h: Any, data: Any, offset: int | None = None, *, timeout: float | None = None) -> Future[int]:
    """Writes the whole of a bytes-like object. See Handle.write."""
    return handle_of(h).write(data, offset, timeout=timeout)


def poll_read(h: Any) -> Future[None]:
    """Returns a Future of None that ends when a read would not wait, and takes nothing away. See Handle.poll_read.

    h: a tpio object, a socket, or an object with fileno(). A socket is not bound by this: it may be bound to a completion
    port of asyncio or of another library, or be a listening socket that another process shares. While the poll is
    pending it keeps the object alive. It is cancelled when the socket is closed.
    """
    return _poll(h, False)


def poll_write(h: Any) -> Future[None]:
    """Returns a Future of None that ends when a send would not wait. h: a socket, as for poll_read. See Handle.poll_write."""
    return _poll(h, True)


def _poll(h: Any, writable: bool) -> Future[None]:
    polled = None
    # An object that tpio has bound is polled by its binding, because that may hold data which was received and not taken.
    if not isinstance(h, (Handle, int)) and hasattr(h, "fileno") and _known(h, h.fileno()) is None:
        polled = poll_socket(h, writable)
    if polled is not None:
        return polled
    handle = handle_of(h)
    if isinstance(handle, FileHandle):
        raise ValueError("a file cannot be polled: only pipes and sockets can")
    return handle.poll_write() if writable else handle.poll_read()


def pump(source: Any, sink: Any, n: int | None = None, *, block: int = 65536) -> Future[int]:
    """Moves bytes from one handle to another, in any combination of pipes, stream sockets and files, on the pool's threads
    and without Python in between: while one block is written, the next is read. Future of the number of bytes.

    source, sink: tpio objects, sockets, or objects with fileno(); they may be one and the same, which makes an echo.
    n: how many bytes; None: until the source ends. block: bytes of one read, of which two are in memory.

    At the end of the source the sink stays open: shut it down or close it. Files are read and written from their positions
    on, which are moved at the end; meanwhile they should be nobody else's.

    Ends with an OSError when a read or a write fails, and cancelled when it, the source or the sink is cancelled or closed.
    What had been read and not written is then what the source's next read gets; of the block that was being written the sink
    may have got a part. What was read before a failed read is written first. Done callbacks run on a thread of the system.

    https://learn.microsoft.com/windows/win32/api/threadpoolapiset/nf-threadpoolapiset-startthreadpoolio
    """
    return pump_between(handle_of(source), handle_of(sink), n, block)


def _socket_of(obj: Any) -> Socket:
    handle = handle_of(obj)
    if not isinstance(handle, Socket):
        raise TypeError(f"a socket is needed, not {type(obj).__name__!r}")
    return handle


def accept(h: Any, *, timeout: float | None = None) -> Future[tuple[Any, Any]]:
    """The next connection of a listening socket: (connection, address). See Socket.accept."""
    return _socket_of(h).accept(timeout=timeout)


def connect(h: Any, address: Any, *, timeout: float | None = None) -> Future[None]:
    """Connects a socket. See Socket.connect."""
    return _socket_of(h).connect(address, timeout=timeout)
