"""pywin32: overlapped calls, and a completion port from which one thread takes."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import pywintypes
import win32con
import win32file

from ..rows import places
from .base import Peer, expect

_PATIENCE = 60_000  # milliseconds
ERROR_IO_PENDING = 997


class Pywin32(Peer):
    name = "pywin32, completion port"

    def file_reads(self, reads: int, size: int, depth: int, path: str) -> float:
        sharing = win32con.FILE_SHARE_READ | win32con.FILE_SHARE_WRITE | win32con.FILE_SHARE_DELETE
        flags = win32con.FILE_FLAG_OVERLAPPED
        file = win32file.CreateFile(path, win32con.GENERIC_READ, sharing, None, win32con.OPEN_EXISTING, flags, None)
        try:
            port = win32file.CreateIoCompletionPort(file, None, 0, 1)
            offsets = iter(places(0, reads, size, 1))
            began = perf_counter()
            # pywin32 does not keep what the system has.
            pending = {_begin(file, size, next(offsets)) for _ in range(depth)}
            for _ in range(reads):
                error, count, _, overlapped = win32file.GetQueuedCompletionStatus(port, _PATIENCE)
                if error:
                    raise pywintypes.error(error)
                pending.remove(overlapped)
                expect(bytes(overlapped.object[:count]), size)
                if (offset := next(offsets, None)) is not None:
                    pending.add(_begin(file, size, offset))
            return perf_counter() - began
        finally:
            file.Close()


def _begin(file: Any, size: int, offset: int) -> Any:
    overlapped = pywintypes.OVERLAPPED()
    overlapped.Offset = offset & 0xFFFFFFFF
    overlapped.OffsetHigh = offset >> 32
    overlapped.object = win32file.AllocateReadBuffer(size)
    win32file.ReadFile(file, overlapped.object, overlapped)
    return overlapped
