"""Files that were not opened for overlapped I/O, for tpio.aio: read and written on threads of the default pool.

What a program is given as its standard input and output is like that: an ordinary pipe, a file, a console. A read occupies a
thread until there is something. When nobody waits for it any more it is ended (CancelSynchronousIo), and what it has brought
all the same is for the next one.
"""

from __future__ import annotations

import _winapi
import io
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from . import _tpio
from ._steps import CANCELLED, FAILED, FINISHED
from ._tpio import Future, default_pool

CHUNK = 65536
ERROR_OPERATION_ABORTED = 995


class _Way:
    """In or out: what waits for its turn, and the thread of the pool that does one after the other."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Future[Any], Any, memoryview | None]] = deque()
        self.running = False  # a thread has been asked for, and has not gone
        # The thread's own, from when something waits until just before the last of it ends. The owner may close the file
        # meanwhile: its number may be another file's then, and to close its only handle waits for what the thread is in.
        self.handle = 0


class BlockingFile:
    """What the proactor wants of a Handle. Reads are done one after the other, and so are writes."""

    def __init__(self, obj: Any) -> None:
        self._handle = _tpio.handle_value(obj)
        raw = getattr(getattr(obj, "buffer", obj), "raw", None)
        # A console speaks UTF-16; the standard library's object for it speaks UTF-8.
        self._console = raw if isinstance(raw, getattr(io, "_WindowsConsoleIO", ())) else None
        self._lock = threading.Lock()
        self._reads = _Way()
        self._leftover = b""
        self._thread = 0  # that is in the system's read
        self._writes = _Way()

    # ---- their threads

    def _add(self, way: _Way, item: tuple[Future[Any], Any, memoryview | None]) -> bool:
        """With the lock, while the file is open. True: its thread is to be started."""
        if not way.handle and self._console is None:
            way.handle = _tpio.duplicate_handle(self._handle)
        way.waiting.append(item)
        start, way.running = not way.running, True
        return start

    def _start(self, way: _Way, work: Callable[[], None]) -> None:
        try:
            running = default_pool().submit(work)
        except BaseException as error:
            self._give_up(way, FAILED, error)
            raise
        running.add_done_callback(partial(self._stopped, way))

    def _stopped(self, way: _Way, work: Future[None]) -> None:
        if work.cancelled():  # the pool was closed before it began
            self._give_up(way, CANCELLED, None)
        elif (error := work.exception()) is not None:
            self._give_up(way, FAILED, error)

    def _give_up(self, way: _Way, state: int, error: BaseException | None) -> None:
        with self._lock:
            waiting, way.waiting = way.waiting, deque()
            way.running = False
            unused = self._unused(way)
        _close(unused)
        for item in waiting:
            item[0]._end(state, error)

    def _unused(self, way: _Way) -> int:
        """With the lock: the handle that nothing waits for, which is to be closed without it; or 0."""
        if way.waiting:
            return 0
        unused, way.handle = way.handle, 0
        return unused

    def _withdraw(self, way: _Way, item: tuple[Future[Any], Any, memoryview | None]) -> bool:
        """With the lock. False: its turn has come."""
        if item not in way.waiting:
            return False
        way.waiting.remove(item)
        return True

    # ---- reading

    def _recv(self, n: int, flags: int = 0) -> Future[bytes]:
        return self._begin_read(n, None)

    def _recv_into(self, buffer: Any, flags: int = 0) -> Future[int]:
        view = memoryview(buffer).cast("B")
        return self._begin_read(len(view), view)

    def _begin_read(self, size: int, view: memoryview | None) -> Future[Any]:
        future: Future[Any] = Future()
        read = (future, size, view)
        future._on_cancel = partial(self._cancel_read, read)
        start = False
        with self._lock:
            data = self._take_leftover(size) if not self._reads.waiting else b""
            if not data:
                start = self._add(self._reads, read)
        if data:
            self._end_read(read, data)
        elif start:
            self._start(self._reads, self._read_on)
        return future

    def _take_leftover(self, size: int) -> bytes:
        data, self._leftover = self._leftover[:size], self._leftover[size:]
        return data

    def _read_on(self) -> None:
        """On a thread of the pool, as long as somebody wants something."""
        way = self._reads
        while True:
            with self._lock:
                if not way.waiting:
                    way.running = False
                    unused = self._unused(way)
                    break
                handle, size = way.handle, way.waiting[0][1]
                needed = not self._leftover  # else it was read for one that was cancelled by then
                if needed:
                    self._thread = threading.get_native_id()
            data, error, read = b"", None, None
            if needed:
                try:
                    data = self._read(handle, size)
                except Exception as failure:
                    error = failure
            with self._lock:
                self._thread = 0
                if getattr(error, "winerror", None) != ERROR_OPERATION_ABORTED:
                    self._leftover += data
                    if way.waiting:  # perhaps not the one that it was read for
                        read = way.waiting.popleft()
                        data = self._take_leftover(read[1])
                unused = self._unused(way)
            _close(unused)
            if read is None:
                continue
            if error is not None:
                read[0]._end(FAILED, error)
            else:
                self._end_read(read, data)
        _close(unused)

    def _read(self, handle: int, size: int) -> bytes:
        if self._console is not None:
            return bytes(self._console.read(size) or b"")
        try:
            return _winapi.ReadFile(handle, min(size, CHUNK))[0]
        except BrokenPipeError:
            return b""

    def _end_read(self, read: tuple[Future[Any], Any, memoryview | None], data: bytes) -> None:
        future, _, view = read
        future._on_give_back = partial(self._give_back, data)
        if view is None:
            future._end(FINISHED, data)
        else:
            view[: len(data)] = data
            future._end(FINISHED, len(data))

    def _give_back(self, data: bytes, result: Any) -> bool:
        with self._lock:
            self._leftover = data + self._leftover
        return True

    def _cancel_read(self, read: tuple[Future[Any], Any, memoryview | None]) -> bool:
        with self._lock:
            if not self._withdraw(self._reads, read):
                return False  # it has been read for, and is about to end
            if not self._reads.waiting and self._thread:
                _tpio.cancel_blocking_call(self._thread)
        return read[0]._end(CANCELLED, None)

    # ---- writing

    def _send(self, data: Any, flags: int = 0) -> Future[int]:
        future: Future[int] = Future()
        write = (future, bytes(data), None)
        future._on_cancel = partial(self._cancel_write, write)
        with self._lock:
            start = self._add(self._writes, write)
        if start:
            self._start(self._writes, self._write_on)
        return future

    def _write_on(self) -> None:
        way = self._writes
        while True:
            with self._lock:
                if not way.waiting:
                    way.running = False
                    unused = self._unused(way)
                    break
                handle = way.handle
                future, data, _ = way.waiting.popleft()
            error = None
            try:
                self._write(handle, data)
            except Exception as failure:
                error = failure
            with self._lock:
                unused = self._unused(way)
            _close(unused)
            if error is not None:
                future._end(FAILED, error)
            else:
                future._end(FINISHED, len(data))
        _close(unused)

    def _write(self, handle: int, data: bytes) -> None:
        left = memoryview(data)
        while left:
            if self._console is not None:
                done = self._console.write(left[:CHUNK]) or 0
            else:
                done = _winapi.WriteFile(handle, left[:CHUNK])[0]
            left = left[done:]

    def _cancel_write(self, write: tuple[Future[Any], Any, memoryview | None]) -> bool:
        """One that has begun goes on."""
        with self._lock:
            if not self._withdraw(self._writes, write):
                return False
        return write[0]._end(CANCELLED, None)


def _close(handle: int) -> None:
    if handle:
        _tpio.close_handle(handle)


_known: WeakKeyDictionary[Any, tuple[int, BlockingFile]] = WeakKeyDictionary()
_known_lock = threading.Lock()


def known_blocking_file(obj: Any, number: int) -> BlockingFile | None:
    """What blocking_file_of has made for it, if its fileno() is still that one."""
    try:
        with _known_lock:
            known = _known.get(obj)
    except TypeError:  # it has no hash
        return None
    return known[1] if known is not None and known[0] == number else None


def blocking_file_of(obj: Any) -> BlockingFile:
    """The same one as long as the object lives and has the same handle."""
    number = obj.fileno()
    with _known_lock:
        known = _known.get(obj)
        if known is None or known[0] != number:
            known = _known[obj] = (number, BlockingFile(obj))
        return known[1]
