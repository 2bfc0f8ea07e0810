"""What the process uses: memory, handles, threads."""

from __future__ import annotations

import ctypes
import sys
from typing import NamedTuple

import support

_kernel32 = ctypes.WinDLL("kernel32")
_kernel32.GetCurrentProcess.restype = ctypes.c_void_p


class Sample(NamedTuple):
    seconds: float
    memory: int  # bytes committed
    handles: int
    threads: int
    objects: int  # blocks that Python has allocated


class _Memory(ctypes.Structure):
    _fields_ = (("cb", ctypes.c_ulong), ("faults", ctypes.c_ulong), *((name, ctypes.c_size_t) for name in "abcdefgh"))


def memory() -> int:
    counters = _Memory(cb=ctypes.sizeof(_Memory))
    query = _kernel32.K32GetProcessMemoryInfo
    query.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulong]
    if not query(_kernel32.GetCurrentProcess(), ctypes.byref(counters), counters.cb):
        raise ctypes.WinError()
    return int(counters.b if support.wine else counters.g)  # Wine has no private bytes: the working set


def take(seconds: float) -> Sample:
    return Sample(seconds, memory(), support.os_handles(), len(support.native_threads()), sys.getallocatedblocks())
