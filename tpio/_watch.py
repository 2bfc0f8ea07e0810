"""Watching directories."""

from __future__ import annotations

import itertools
import os
import struct
import threading
import weakref
from collections import deque
from typing import Any, NamedTuple, Self

from . import _tpio
from ._construct import NoPublicConstructor
from ._steps import CANCELLED, FAILED, FINISHED
from ._tpio import FileHandle, Future, Pool

FILE_LIST_DIRECTORY = 1
OPEN_EXISTING = 3
FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OVERLAPPED = 0x02000000, 0x40000000
SHARE_ALL = 7
# Names of files and directories, attributes, size, last write, creation, security.
EVERYTHING = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x40 | 0x100
BUFFER_SIZE = 65536  # the most that a watch over the network may have
MOST_KEPT = 65536  # changes that nobody has asked for
ERROR_ACCESS_DENIED, ERROR_NOTIFY_ENUM_DIR, ERROR_DELETE_PENDING = 5, 1022, 303
# Wine, when the thread that has asked ends just then. What has happened has not been taken yet: the next look brings it.
ERROR_ALERTED = 739

_KINDS = {1: "created", 2: "removed", 3: "modified"}
_OLD_NAME, _NEW_NAME = 4, 5


class Change(NamedTuple):
    """One thing that happened below a watched directory.

    kind: "created", "removed", "modified", "renamed", or "overflow". path: the full path (the new one of a rename; the
    directory itself for an overflow). old_path: of a rename, if it was below the directory too.
    """

    kind: str
    path: str
    old_path: str | None = None


class Overflow(Change):
    """Changes came faster than the system could keep them, or 65,536 had come that nobody had asked for. Those before it
    that had not been taken are lost: look at the directory itself. Those after it are told as ever."""

    __slots__ = ()


class _Directory(FileHandle):
    """The handle of a watched directory. The system's operation keeps it alive, and it keeps the watcher while somebody
    waits: one that was dropped, and that nobody waits for, ends."""

    _may_skip = False  # the success of ReadDirectoryChangesW does not tell whether it is pending

    def __init__(self, watcher: Watcher, pool: Pool | None) -> None:
        flags = FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OVERLAPPED
        handle = _tpio.create_file(watcher.path, FILE_LIST_DIRECTORY, SHARE_ALL, OPEN_EXISTING, flags)
        try:
            super().__init__(handle, pool=pool)
        except BaseException:
            _tpio.close_handle(handle)
            raise
        self.anchor: Watcher | None = None
        self._watcher = weakref.ref(watcher)
        self._path = watcher.path
        self._recursive = watcher.recursive
        self._half: str | None = None  # the old name of a rename whose new one has not come yet

    def look(self) -> None:
        """Waits for the next changes. The system keeps what happens between two looks, as long as its buffer lasts."""
        self._watch(BUFFER_SIZE, EVERYTHING, self._recursive, self._seen).add_done_callback(self._looked)

    def _seen(self, future: Future[Any], error: int, count: int) -> list[Change]:
        if error == ERROR_NOTIFY_ENUM_DIR or (error == 0 and count == 0):
            self._half = None
            return [Overflow("overflow", self._path)]
        if error == ERROR_ALERTED:
            return []
        if error != 0:
            raise _tpio.winerror(error, self._path)
        return self._parse(self._watched(future, count))

    def _parse(self, data: bytes) -> list[Change]:
        changes = []
        position = 0
        while True:
            step, action, length = struct.unpack_from("<III", data, position)
            name = data[position + 12 : position + 12 + length].decode("utf-16-le", "surrogatepass")
            path = os.path.join(self._path, name)
            old, self._half = self._half, None
            if old is not None and action != _NEW_NAME:
                changes.append(Change("removed", old))
            if action == _OLD_NAME:
                self._half = path
            elif action == _NEW_NAME:
                changes.append(Change("renamed", path, old))
            elif action in _KINDS:
                changes.append(Change(_KINDS[action], path))
            if step == 0:
                return changes
            position += step

    def _looked(self, looking: Future[list[Change]]) -> None:
        watcher = self._watcher()
        if watcher is None:
            self.close()
        else:
            watcher._looked(looking)


class Watcher(metaclass=NoPublicConstructor, made_by="tpio.watch()"):
    """A directory that is being watched, by `tpio.watch`. Made to be iterated over, or asked for changes()."""

    def __init__(self, path: str, recursive: bool, *, pool: Pool | None = None) -> None:
        self.path = path
        self.recursive = recursive
        # Reentrant: futures end inside it, so that they end in order, and what a cancelled await does not want any more
        # comes back while they do. Callbacks run outside.
        self._lock = threading.RLock()
        self._ready: deque[Change] = deque()  # nobody has asked for them yet
        self._waiting: deque[tuple[Future[list[Change]], bool]] = deque()  # (future, does it iterate?)
        self._settling = False
        self._end: Exception | None = None
        self._directory = _Directory(self, pool)
        try:
            self._directory.look()
            if self._end is not None:  # refused
                raise self._end.__cause__ or self._end
        except BaseException:
            self.close()
            raise

    def _looked(self, looking: Future[list[Change]]) -> None:
        """Puts the changes down before the next look can bring more, and hands them out when it has begun: what is called
        then may take its time."""
        if looking.cancelled():
            self._finish(None)
            return
        error = looking.exception()
        if error is None:
            try:
                with self._lock:
                    self._ready += looking.result()
                    if len(self._ready) > MOST_KEPT and not self._waiting:
                        self._ready.clear()
                        self._ready.append(Overflow("overflow", self.path))
                self._directory.look()
                self._hand_out()
            except (ValueError, RuntimeError):  # closed meanwhile, or its pool
                self._finish(None)
            except Exception as failure:
                error = failure
        if error is not None:
            self._finish(error)

    def _finish(self, error: BaseException | None) -> None:
        """The watching is over: the directory cannot be watched any more, or (no error) it was closed."""
        end: Exception
        if isinstance(error, OSError) and error.winerror in (ERROR_ACCESS_DENIED, ERROR_DELETE_PENDING):
            end = FileNotFoundError(2, "the watched directory was removed", self.path, 3)
            end.__cause__ = error
        elif isinstance(error, Exception):
            end = error
        else:
            end = ValueError("the watcher is closed")
        with self._lock:
            if self._end is None:
                self._end = end
        self._hand_out()

    def _hand_out(self) -> None:
        """To who has waited longest: what is ready, or else the end."""
        while True:
            with self._lock:
                if not self._waiting or not (self._ready or self._end):
                    return
                changes = list(itertools.islice(self._ready, 1 if self._waiting[0][1] else None))  # needs memory
                future, iterates = self._waiting.popleft()
                self._keep_alive()
                self._settling = True
                if changes:
                    for _ in changes:
                        self._ready.popleft()
                    future._settle(FINISHED, changes)
                elif not isinstance(self._end, ValueError):
                    future._settle(FAILED, self._end)
                elif iterates:
                    future._settle(FINISHED, [])
                else:
                    future._settle(CANCELLED, None)
                self._settling = False
            future._run_callbacks()

    def _keep_alive(self) -> None:
        """A watcher that is waited for lives as long as it watches; one that is not goes with its last reference."""
        self._directory.anchor = self if self._waiting else None

    def _give_back(self, changes: list[Change]) -> bool:
        with self._lock:
            self._ready.extendleft(reversed(changes))
            settling = self._settling
        if not settling:
            self._hand_out()
        return True

    # ---- public

    def changes(self, *, timeout: float | None = None) -> Future[list[Change]]:
        """Future of the changes since the last call, at least one. Nothing that happens between two calls is lost without
        a word: what the system could not keep is an Overflow, and so is what nobody has asked for when there are more than
        65,536 of it. FileNotFoundError when the directory itself is gone.

        https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-readdirectorychangesw
        """
        if self.closed:
            raise ValueError("the watcher is closed")
        _tpio.timeout_seconds(timeout)
        return self._next(iterates=False)._limit(timeout, "changes()")

    def _next(self, iterates: bool) -> Future[list[Change]]:
        future: Future[list[Change]] = Future()
        future._on_cancel = lambda: self._forget(future)
        future._on_give_back = self._give_back
        with self._lock:
            self._waiting.append((future, iterates))
            self._keep_alive()
        self._hand_out()
        return future

    def _forget(self, future: Future[list[Change]]) -> bool:
        with self._lock:
            for entry in self._waiting:
                if entry[0] is future:
                    self._waiting.remove(entry)
                    self._keep_alive()
                    future._settle(CANCELLED, None)
                    break
        future._run_callbacks()
        return future.cancelled()

    def __aiter__(self) -> Watcher:
        """Every change, one by one; ends when the directory is removed or the watcher closed."""
        return self

    async def __anext__(self) -> Change:
        if not self.closed:
            try:
                for change in await self._next(iterates=True):
                    return change
            except FileNotFoundError:
                pass
        raise StopAsyncIteration

    def close(self) -> None:
        """Stops watching. Pending changes() end cancelled. Idempotent."""
        self._directory.close()
        self._finish(None)

    @property
    def closed(self) -> bool:
        """True after close(), or the close of its pool."""
        return self._directory.closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_directory"):
            self._directory.close()

    def __repr__(self) -> str:
        return f"<tpio.Watcher {self.path!r}{' closed' if self.closed else ''}>"


def watch(path: str | bytes | os.PathLike[Any], *, recursive: bool = True, pool: Pool | None = None) -> Watcher:
    """Watches a directory, and with `recursive` all below it; raises FileNotFoundError and the like at once.

    Watching begins with this call. A file name's case and length are as the program that made the change wrote them.
    https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-readdirectorychangesw
    """
    name = os.fsdecode(path)
    if name:
        name = os.path.abspath(name)  # changes have full paths, wherever the program may go
    if os.path.exists(name) and not os.path.isdir(name):
        raise NotADirectoryError(20, "not a directory", name, 267)
    return Watcher._create(name, recursive, pool=pool)
