"""What the process uses: memory, handles, threads."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import NamedTuple

import support

_kernel32 = ctypes.WinDLL("kernel32")
_kernel32.GetCurrentProcess.restype = ctypes.c_void_p
_kernel32.CreateToolhelp32Snapshot.restype = ctypes.c_void_p
_kernel32.CloseHandle.argtypes = [ctypes.c_void_p]


class Sample(NamedTuple):
    seconds: float
    memory: int  # bytes committed
    handles: int
    threads: int
    objects: int  # blocks that Python has allocated


class _Memory(ctypes.Structure):
    _fields_ = (("cb", ctypes.c_ulong), ("faults", ctypes.c_ulong), *((name, ctypes.c_size_t) for name in "abcdefgh"))


class _Thread(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_ulong) for name in ("size", "usage", "id", "owner", "base", "delta", "flags"))


def memory() -> int:
    counters = _Memory(cb=ctypes.sizeof(_Memory))
    query = _kernel32.K32GetProcessMemoryInfo
    query.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulong]
    if not query(_kernel32.GetCurrentProcess(), ctypes.byref(counters), counters.cb):
        raise ctypes.WinError()
    return int(counters.b if support.wine else counters.g)  # Wine has no private bytes: the working set


def threads() -> int:
    snapshot = ctypes.c_void_p(_kernel32.CreateToolhelp32Snapshot(4, 0))
    entry = _Thread(size=ctypes.sizeof(_Thread))
    mine = 0
    more = _kernel32.Thread32First(snapshot, ctypes.byref(entry))
    while more:
        mine += entry.owner == os.getpid()
        more = _kernel32.Thread32Next(snapshot, ctypes.byref(entry))
    _kernel32.CloseHandle(snapshot)
    return mine


def take(seconds: float) -> Sample:
    return Sample(seconds, memory(), support.os_handles(), threads(), sys.getallocatedblocks())
