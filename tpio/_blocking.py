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
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from . import _tpio
from ._steps import CANCELLED, FAILED, FINISHED
from ._tpio import Future, default_pool

CHUNK = 65536
ERROR_OPERATION_ABORTED = 995


class BlockingFile:
    """What the proactor wants of a Handle. Reads are done one after the other, and so are writes."""

    def __init__(self, obj: Any) -> None:
        self._handle = _tpio.handle_value(obj)
        raw = getattr(getattr(obj, "buffer", obj), "raw", None)
        # A console speaks UTF-16; the standard library's object for it speaks UTF-8.
        self._console = raw if isinstance(raw, getattr(io, "_WindowsConsoleIO", ())) else None
        self._lock = threading.Lock()
        self._reads: deque[tuple[Future[Any], int, memoryview | None]] = deque()
        self._leftover = b""
        self._reading = False
        self._thread = 0  # that is in the system's read
        self._writes: deque[tuple[Future[int], bytes]] = deque()
        self._writing = False

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
        with self._lock:
            data = self._take_leftover(size) if not self._reads else b""
            if not data:
                self._reads.append(read)
                start = not self._reading
                self._reading = True
        if data:
            self._end_read(read, data)
        elif start:
            default_pool().submit(self._read_on)
        return future

    def _take_leftover(self, size: int) -> bytes:
        data, self._leftover = self._leftover[:size], self._leftover[size:]
        return data

    def _read_on(self) -> None:
        """On a thread of the pool, as long as somebody wants something."""
        while True:
            with self._lock:
                if not self._reads:
                    self._reading = False
                    return
                late = None
                if self._leftover:  # it was read for one that was cancelled by then
                    late = self._reads.popleft()
                    data = self._take_leftover(late[1])
                else:
                    size = self._reads[0][1]
                    self._thread = threading.get_native_id()
            if late is not None:
                self._end_read(late, data)
                continue
            data, error = b"", None
            try:
                data = self._read(size)
            except OSError as failure:
                error = failure
            with self._lock:
                self._thread = 0
                if error is not None and error.winerror == ERROR_OPERATION_ABORTED:
                    continue
                read = self._reads.popleft() if self._reads else None
                if read is None:
                    self._leftover += data
                elif len(data) > read[1]:  # the one that it was read for was cancelled
                    data, self._leftover = data[: read[1]], data[read[1] :]
            if read is None:
                continue
            if error is not None:
                read[0]._end(FAILED, error)
            else:
                self._end_read(read, data)

    def _read(self, size: int) -> bytes:
        if self._console is not None:
            return bytes(self._console.read(size) or b"")
        try:
            return _winapi.ReadFile(self._handle, min(size, CHUNK))[0]
        except BrokenPipeError:
            return b""

    def _end_read(self, read: tuple[Future[Any], int, memoryview | None], data: bytes) -> None:
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

    def _cancel_read(self, read: tuple[Future[Any], int, memoryview | None]) -> bool:
        with self._lock:
            if read not in self._reads:
                return False  # it has been read for, and is about to end
            self._reads.remove(read)
            if not self._reads and self._thread:
                _tpio.cancel_blocking_call(self._thread)
        return read[0]._end(CANCELLED, None)

    # ---- writing

    def _send(self, data: Any, flags: int = 0) -> Future[int]:
        future: Future[int] = Future()
        write = (future, bytes(data))
        future._on_cancel = partial(self._cancel_write, write)
        with self._lock:
            self._writes.append(write)
            start = not self._writing
            self._writing = True
        if start:
            default_pool().submit(self._write_on)
        return future

    def _write_on(self) -> None:
        while True:
            with self._lock:
                if not self._writes:
                    self._writing = False
                    return
                future, data = self._writes.popleft()
            try:
                self._write(data)
            except OSError as error:
                future._end(FAILED, error)
            else:
                future._end(FINISHED, len(data))

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            if self._console is not None:
                done = self._console.write(left[:CHUNK]) or 0
            else:
                done = _winapi.WriteFile(self._handle, left[:CHUNK])[0]
            left = left[done:]

    def _cancel_write(self, write: tuple[Future[int], bytes]) -> bool:
        """One that has begun goes on."""
        with self._lock:
            if write not in self._writes:
                return False
            self._writes.remove(write)
        return write[0]._end(CANCELLED, None)


_known: WeakKeyDictionary[Any, tuple[int, BlockingFile]] = WeakKeyDictionary()
_known_lock = threading.Lock()


def blocking_file_of(obj: Any) -> BlockingFile:
    """The same one as long as the object lives and has the same handle."""
    number = obj.fileno()
    with _known_lock:
        known = _known.get(obj)
        if known is None or known[0] != number:
            known = _known[obj] = (number, BlockingFile(obj))
        return known[1]
