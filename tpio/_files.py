"""Files at an offset."""

from __future__ import annotations

import mmap
import operator
import os
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, SupportsIndex

from . import _tpio
from ._construct import Absent
from ._steps import Steps, steps
from ._tpio import FileHandle, Future, Pool

GENERIC_READ, GENERIC_WRITE = 0x80000000, 0x40000000
CREATE_NEW, CREATE_ALWAYS, OPEN_EXISTING, OPEN_ALWAYS = 1, 2, 3, 4
FILE_FLAG_OVERLAPPED = 0x40000000
FILE_FLAG_NO_BUFFERING = 0x20000000

_MODES = {
    "rb": (GENERIC_READ, OPEN_EXISTING),
    "r+b": (GENERIC_READ | GENERIC_WRITE, OPEN_EXISTING),
    "rb+": (GENERIC_READ | GENERIC_WRITE, OPEN_EXISTING),
    "wb": (GENERIC_WRITE, CREATE_ALWAYS),
    "w+b": (GENERIC_READ | GENERIC_WRITE, CREATE_ALWAYS),
    "wb+": (GENERIC_READ | GENERIC_WRITE, CREATE_ALWAYS),
    "xb": (GENERIC_WRITE, CREATE_NEW),
    "x+b": (GENERIC_READ | GENERIC_WRITE, CREATE_NEW),
    "xb+": (GENERIC_READ | GENERIC_WRITE, CREATE_NEW),
    "ab": (GENERIC_WRITE, OPEN_ALWAYS),
}
_SHARES = {"r": 1, "w": 2, "d": 4}


class File(FileHandle):
    """A file opened for overlapped I/O by `tpio.open`.

    Operations with an offset are independent of each other; any number may be in flight, in any order. Without one they
    are sequential. The system may complete a call at once, and may take its time for it on the caller's thread: data
    that is cached, compressed or encrypted, and writes that extend the file. What must never block the caller belongs
    in Pool.submit. https://learn.microsoft.com/windows/win32/fileio/synchronous-and-asynchronous-i-o
    """

    def __init__(self, obj: Any, *, pool: Pool | None = None, owns: bool = True, name: Any = None) -> None:
        super().__init__(obj, pool=pool, owns=owns)
        self.name = name
        self.alignment = 1  # what offsets, sizes and addresses must be multiples of; more than 1 when unbuffered

    poll_read = Absent()  # a read of a file never waits for a peer, and neither does a write
    poll_write = Absent()

    # Unbuffered files: the system only says "invalid parameter"; here is what is wrong.

    def _check_aligned(self, size: int, offset: int | None, address_of: Any = None) -> None:
        unit = self.alignment
        if offset is None:
            offset = self._position
        if offset % unit:
            raise ValueError(f"an unbuffered file needs an offset that is a multiple of {unit}, not {offset}")
        if size % unit:
            raise ValueError(f"an unbuffered file needs a size that is a multiple of {unit}, not {size}")
        if address_of is not None and _tpio.address_of_buffer(address_of) % unit:
            raise ValueError(
                f"an unbuffered file needs a buffer at an address that is a multiple of {unit}: "
                "tpio.aligned_buffer(size)"
            )

    def read(self, n: SupportsIndex, offset: int | None = None, *, timeout: float | None = None) -> Future[bytes]:
        if self.alignment > 1:
            raise ValueError("an unbuffered file cannot be read into bytes: use read_into(tpio.aligned_buffer(size))")
        return super().read(n, offset, timeout=timeout)

    def read_into(self, buffer: Any, offset: int | None = None, *, timeout: float | None = None) -> Future[int]:
        if self.alignment > 1:
            at_end = offset is None and self._position % self.alignment != 0  # nothing else leaves it there
            if at_end and self._position >= self.size():
                return _tpio.done_future_of(0)
            self._check_aligned(_size_of(buffer), offset, buffer)
        return super().read_into(buffer, offset, timeout=timeout)

    def write(self, data: Any, offset: int | None = None, *, timeout: float | None = None) -> Future[int]:
        if self.alignment > 1:
            self._check_aligned(_size_of(data), offset, data)
        return super().write(data, offset, timeout=timeout)

    read.__doc__ = FileHandle.read.__doc__
    read_into.__doc__ = FileHandle.read_into.__doc__
    write.__doc__ = FileHandle.write.__doc__

    def read_many(self, parts: Iterable[tuple[int, int]]) -> Future[list[bytes]]:
        """Reads at many offsets, given as (offset, n), all at the same time: Future of the bytes of each."""
        wanted = [(_not_negative(offset, "offset"), _not_negative(n, "number of bytes")) for offset, n in parts]
        return _all([partial(self.read, n, offset) for offset, n in wanted])

    def write_many(self, parts: Iterable[tuple[int, Any]]) -> Future[list[int]]:
        """Writes at many offsets, given as (offset, data), all at the same time: Future of the bytes written."""
        wanted = [(_not_negative(offset, "offset"), data) for offset, data in parts]
        for offset, data in wanted:  # all of them, before anything is written
            size = _size_of(data)
            if self.alignment > 1:
                self._check_aligned(size, offset, data)
        return _all([partial(self.write, data, offset) for offset, data in wanted])

    def unlock(self, offset: int, length: int) -> None:
        """Gives back what lock() with the same range has locked.

        https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-unlockfile"""
        _tpio.unlock_file(self.fileno(), offset, length)

    def size(self) -> int:
        """The size in bytes, now."""
        return _tpio.file_size(self.fileno())

    def truncate(self, n: int) -> None:
        """Makes the file n bytes long: cuts it, or extends it with zeros. Blocks."""
        _tpio.set_file_size(self.fileno(), _not_negative(n, "size"))

    def flush(self) -> None:
        """Writes what the system has cached to the disk. Blocks, as there is no overlapped form: Pool.submit it if that
        must not be. https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-flushfilebuffers"""
        _tpio.flush_file(self.fileno())

    def __repr__(self) -> str:
        return f"<tpio.File {self.name!r}{' closed' if self.closed else ''}>"


def open(
    path: str | bytes | os.PathLike[Any],
    mode: str = "rb",
    *,
    share: str = "rwd",
    flags: int = 0,
    pool: Pool | None = None,
) -> File:
    """Opens a file for overlapped I/O; raises FileNotFoundError, PermissionError and the like at once.

    mode: rb, r+b, wb, w+b, xb, x+b, ab, as in the built-in open. share: what others may do meanwhile: letters of
    r(ead), w(rite), d(elete or rename). flags: more FILE_FLAG_* of CreateFileW, such as 0x20000000 (no buffering).
    https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew
    """
    name = os.fsdecode(path)
    if mode not in _MODES:
        raise ValueError(f"invalid mode {mode!r}: one of {', '.join(_MODES)}")
    if not set(share) <= set(_SHARES):
        raise ValueError(f"invalid share {share!r}: letters of 'rwd'")
    extra = _tpio.flags_of(flags, "flags")
    where = _tpio.pool_of(pool)  # before a file is made or emptied
    access, disposition = _MODES[mode]
    sharing = sum(_SHARES[letter] for letter in set(share))
    handle = _tpio.create_file(name, access, sharing, disposition, extra | FILE_FLAG_OVERLAPPED)
    try:
        file = File(handle, pool=where, name=name)
    except BaseException:
        _tpio.close_handle(handle)
        raise
    # Each write says so. FILE_APPEND_DATA without FILE_WRITE_DATA would do it too, but could neither lock nor truncate.
    file._appends = mode == "ab"
    if extra & FILE_FLAG_NO_BUFFERING:
        file.alignment = _tpio.sector_size(handle)
    return file


def _not_negative(value: int, what: str) -> int:
    number = operator.index(value)
    if number < 0:
        raise ValueError(f"the {what} must not be negative")
    return number


def _size_of(data: Any) -> int:
    with memoryview(data) as view:
        return view.nbytes


def aligned_buffer(size: int) -> memoryview:
    """A writable buffer of zeros at an address that suits unbuffered files: the start of a page."""
    if size <= 0:
        raise ValueError("the size must be positive")
    return memoryview(mmap.mmap(-1, size))


def _all(starts: list[Callable[[], Future[Any]]]) -> Future[list[Any]]:
    """Starts operations together. The first to fail makes the whole fail, after all have ended. When one cannot even be
    started, it is raised here, and those before it are cancelled."""
    started: list[Future[Any]] = []
    try:
        for start in starts:
            started.append(start())  # noqa: PERF401 - what has started is needed when another cannot
    except BaseException:
        for future in started:
            future.cancel()
        raise
    return _gather(started)


@steps
def _gather(futures: list[Future[Any]]) -> Steps[list[Any]]:
    results: list[Any] = []
    failure: BaseException | None = None
    for future in futures:
        try:
            results.append((yield future))
        except BaseException as error:
            if failure is None:
                failure = error
                for other in futures:
                    other.cancel()
    if failure is None:
        return results
    try:
        raise failure
    finally:
        del failure, futures, future  # the traceback refers to this frame: no cycle through it


def copy_file(
    src: str | bytes | os.PathLike[Any],
    dst: str | bytes | os.PathLike[Any],
    *,
    depth: int = 8,
    block: int = 1 << 20,
    progress: Callable[[int, int], Any] | None = None,
    pool: Pool | None = None,
) -> Future[int]:
    """Copies the content of a file, `depth` blocks of `block` bytes at a time: Future of the number of bytes.

    dst is made anew or overwritten, and after an error or a cancel incomplete. progress(copied, total) is called after
    each block, one call at a time, on pool threads. Errors of opening are raised at once.
    """
    depth, block = operator.index(depth), operator.index(block)
    if depth < 1 or block < 1:
        raise ValueError("depth and block must be positive")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be callable, not {type(progress).__name__!r}")
    source = open(src, "rb", pool=pool)
    try:
        if os.path.exists(dst) and os.path.samefile(src, dst):
            raise ValueError("source and destination are the same file")
        target = open(dst, "wb", pool=pool)
    except BaseException:
        source.close()
        raise
    return _Copy(source, target, block, progress).run(depth)


class _Copy:
    """A copy under way: some workers take the next block each until there is none."""

    def __init__(self, source: File, target: File, block: int, progress: Callable[[int, int], Any] | None) -> None:
        self.source, self.target, self.progress = source, target, progress
        self.total = source.size()
        self.block = min(block, max(self.total, 1))  # there is room for a block that is much longer than the file
        self.copied = 0
        self.end = self.total  # sooner, if the source is cut meanwhile
        self.lock = threading.Lock()
        self.offsets = iter(range(0, self.total, self.block))

    @steps
    def run(self, depth: int) -> Steps[int]:
        try:
            yield self.source.pool  # what follows may block, and must not block the caller
            if self.total:
                self.target.truncate(self.total)  # writes that extend a file are synchronous
            yield _gather([self.worker() for _ in range(min(depth, -(-self.total // self.block)))])
            if self.end < self.total:
                self.target.truncate(self.end)
            return self.end
        finally:
            self.source.close()
            self.target.close()

    @steps
    def worker(self) -> Steps[None]:
        yield self.source.pool  # reads and writes may be done at once: each worker has its thread
        while True:
            with self.lock:
                offset = next(self.offsets, None)
            if offset is None:
                return
            data = yield self.source.read(self.block, offset)
            yield self.target.write(data, offset)
            with self.lock:
                self.copied += len(data)
                if len(data) < min(self.block, self.total - offset):
                    self.end = min(self.end, offset + len(data))
                if self.progress is not None:
                    self.progress(self.copied, self.total)
