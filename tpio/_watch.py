"""Watching directories."""

from __future__ import annotations

import os
import struct
import threading
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from . import _tpio
from ._steps import CANCELLED, FAILED, FINISHED
from ._tpio import FileHandle, Future, Pool

FILE_LIST_DIRECTORY = 1
OPEN_EXISTING = 3
FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OVERLAPPED = 0x02000000, 0x40000000
SHARE_ALL = 7
# Names of files and directories, attributes, size, last write, creation, security.
EVERYTHING = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x40 | 0x100
BUFFER_SIZE = 65536  # the most that a watch over the network may have
ERROR_ACCESS_DENIED, ERROR_NOTIFY_ENUM_DIR, ERROR_DELETE_PENDING = 5, 1022, 303

_KINDS = {1: "created", 2: "removed", 3: "modified", 5: "renamed"}
_OLD_NAME = 4


class Change(NamedTuple):
    """One thing that happened below a watched directory.

    kind: "created", "removed", "modified", "renamed", or "overflow". path: the full path (the new one of a rename; the
    directory itself for an overflow). old_path: of a rename, if it was below the directory too.
    """

    kind: str
    path: str
    old_path: str | None = None


class Overflow(Change):
    """Changes came faster than they were taken, and some are lost: look at the directory itself."""

    __slots__ = ()


class Watcher(FileHandle):
    """A directory that is being watched, by `tpio.watch`. Made to be iterated over, or asked for changes()."""

    _may_skip = False  # the success of ReadDirectoryChangesW does not tell whether it is pending

    def __init__(self, path: str, recursive: bool, *, pool: Pool | None = None) -> None:
        flags = FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OVERLAPPED
        handle = _tpio.create_file(path, FILE_LIST_DIRECTORY, SHARE_ALL, OPEN_EXISTING, flags)
        try:
            super().__init__(handle, pool=pool)
        except BaseException:
            _tpio.close_handle(handle)
            raise
        self.path = path
        self.recursive = recursive
        self._lock = threading.Lock()
        self._ready: list[Change] = []  # nobody has asked for them yet
        self._waiting: deque[Future[list[Change]]] = deque()
        self._end: BaseException | None = None
        self._half: str | None = None  # the old name of a rename whose new one has not come yet
        try:
            self._look()
        except BaseException:
            self.close()
            raise

    # The system keeps what happens between two looks, as long as its buffer lasts; so each look is followed by the next
    # before anything else.

    def _look(self) -> None:
        looking = self._watch(BUFFER_SIZE, EVERYTHING, self.recursive, self._seen)
        if looking.done() and (error := looking.exception()) is not None:
            raise error
        looking.add_done_callback(self._looked)

    def _seen(self, future: Future[Any], error: int, count: int) -> list[Change]:
        if error == ERROR_NOTIFY_ENUM_DIR or (error == 0 and count == 0):
            return [Overflow("overflow", self.path)]
        if error != 0:
            raise _tpio.winerror(error, self.path)
        return self._parse(self._watched(future, count))

    def _parse(self, data: bytes) -> list[Change]:
        changes = []
        position = 0
        while True:
            step, action, length = struct.unpack_from("<III", data, position)
            name = data[position + 12 : position + 12 + length].decode("utf-16-le", "surrogatepass")
            path = os.path.join(self.path, name)
            if action == _OLD_NAME:
                self._half = path
            elif action == 5:
                old, self._half = self._half, None
                changes.append(Change("renamed", path, old))
            elif action in _KINDS:
                changes.append(Change(_KINDS[action], path))
            if step == 0:
                return changes
            position += step

    def _looked(self, looking: Future[list[Change]]) -> None:
        if looking.cancelled():
            return self._finish(None)
        if (error := looking.exception()) is not None:
            return self._finish(error)
        changes = looking.result()
        failure: BaseException | None = None
        try:
            self._look()
        except (OSError, ValueError, RuntimeError) as error:
            failure = error
        if changes:
            self._deliver(changes)
        if failure is not None:
            self._finish(failure)

    def _deliver(self, changes: list[Change]) -> None:
        while True:
            with self._lock:
                self._ready += changes
                if not self._waiting:
                    return
                future = self._waiting.popleft()
                changes, self._ready = self._ready, []
            if future._end(FINISHED, changes):
                return
            # That one was cancelled in this very moment: back to the front, for the next.
            with self._lock:
                self._ready = changes + self._ready
            changes = []

    def _finish(self, error: BaseException | None) -> None:
        if isinstance(error, OSError) and error.winerror in (ERROR_ACCESS_DENIED, ERROR_DELETE_PENDING):
            gone = FileNotFoundError(0, "the watched directory was removed", self.path, 3)
            gone.__cause__ = error
            error = gone
        elif isinstance(error, ValueError):  # closed meanwhile
            error = None
        with self._lock:
            self._end = error or ValueError("the watcher is closed")
            waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if error is None:
                future._end(CANCELLED, None)
            else:
                future._end(FAILED, error)

    # ---- public

    def changes(self) -> Future[list[Change]]:
        """Future of the changes since the last call, at least one. Nothing that happens between two calls is lost: what
        the system could not keep is an Overflow. FileNotFoundError when the directory itself is gone.

        https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-readdirectorychangesw
        """
        if self.closed:
            raise ValueError("the watcher is closed")
        future: Future[list[Change]] = Future()
        future._on_cancel = lambda: self._forget(future)
        future._on_give_back = self._give_back
        with self._lock:
            changes, self._ready = self._ready, []
            end = self._end
            if not changes and end is None:
                self._waiting.append(future)
        if changes:
            future._end(FINISHED, changes)
        elif end is not None:
            future._end(FAILED, end)
        return future

    def _forget(self, future: Future[list[Change]]) -> bool:
        with self._lock:
            if future in self._waiting:
                self._waiting.remove(future)
        return future._end(CANCELLED, None)

    def _give_back(self, changes: list[Change]) -> bool:
        with self._lock:
            self._ready = changes + self._ready
        return True

    async def __aiter__(self) -> AsyncIterator[Change]:
        """Every change, one by one; ends when the directory is removed or the watcher closed."""
        while not self.closed:
            try:
                changes = await self.changes()
            except FileNotFoundError:
                return
            for change in changes:
                yield change

    def __repr__(self) -> str:
        return f"<tpio.Watcher {self.path!r}{' closed' if self.closed else ''}>"


def watch(path: str | bytes | os.PathLike[Any], *, recursive: bool = True, pool: Pool | None = None) -> Watcher:
    """Watches a directory, and with `recursive` all below it; raises FileNotFoundError and the like at once.

    Watching begins with this call. A file name's case and length are as the program that made the change wrote them.
    https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-readdirectorychangesw
    """
    name = os.fsdecode(path)
    if os.path.exists(name) and not os.path.isdir(name):
        raise NotADirectoryError(20, "not a directory", name, 267)
    return Watcher(name, recursive, pool=pool)
