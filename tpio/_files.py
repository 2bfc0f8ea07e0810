"""Files at an offset."""

from __future__ import annotations

import os
from typing import Any

from . import _tpio
from ._tpio import Handle, Pool

GENERIC_READ, GENERIC_WRITE = 0x80000000, 0x40000000
# FILE_GENERIC_WRITE without FILE_WRITE_DATA: the system itself then writes at the end, whoever else writes.
APPEND_ONLY = 0x00120116 & ~0x0002
CREATE_NEW, CREATE_ALWAYS, OPEN_EXISTING, OPEN_ALWAYS = 1, 2, 3, 4
FILE_FLAG_OVERLAPPED = 0x40000000

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
    "ab": (APPEND_ONLY, OPEN_ALWAYS),
}
_SHARES = {"r": 1, "w": 2, "d": 4}


class File(Handle):
    """A file opened for overlapped I/O by `tpio.open`.

    Operations with an offset are independent of each other; any number may be in flight, in any order. Without one they
    are sequential. The system may complete a call at once, and may take its time for it on the caller's thread: data
    that is cached, compressed or encrypted, and writes that extend the file. What must never block the caller belongs
    in Pool.submit. https://learn.microsoft.com/windows/win32/fileio/synchronous-and-asynchronous-i-o
    """

    def __init__(self, obj: Any, *, pool: Pool | None = None, owns: bool = True, name: Any = None) -> None:
        super().__init__(obj, pool=pool, owns=owns)
        self.name = name

    def size(self) -> int:
        """The size in bytes, now."""
        return _tpio.file_size(self.fileno())

    def truncate(self, n: int) -> None:
        """Makes the file n bytes long: cuts it, or extends it with zeros. Blocks."""
        if n < 0:
            raise ValueError("the size must not be negative")
        _tpio.set_file_size(self.fileno(), n)

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

    mode: rb, r+b, wb, w+b, xb, x+b, ab, as in the built-in open. share: what others may do meanwhile: letters of r(ead),
    w(rite), d(elete or rename). flags: more FILE_FLAG_* of CreateFileW, such as 0x20000000 (no buffering).
    https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew
    """
    name = os.fsdecode(path)
    if mode not in _MODES:
        raise ValueError(f"invalid mode {mode!r}: one of {', '.join(_MODES)}")
    if not set(share) <= set(_SHARES):
        raise ValueError(f"invalid share {share!r}: letters of 'rwd'")
    access, disposition = _MODES[mode]
    sharing = sum(_SHARES[letter] for letter in set(share))
    handle = _tpio.create_file(name, access, sharing, disposition, flags | FILE_FLAG_OVERLAPPED)
    try:
        file = File(handle, pool=pool, name=name)
    except BaseException:
        _tpio.close_handle(handle)
        raise
    file._appends = access == APPEND_ONLY
    return file
