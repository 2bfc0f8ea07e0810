"""What several test files need: bounds on time, the state of the process, other interpreters."""

from __future__ import annotations

import ctypes
import gc
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tpio

WAIT = 60  # seconds: longer than anything takes that works, on a loaded machine too

_ntdll = ctypes.WinDLL("ntdll")
_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_kernel32.GetCurrentProcess.restype = ctypes.c_void_p
_kernel32.GetProcessHandleCount.argtypes = (ctypes.c_void_p, ctypes.POINTER(ctypes.c_ulong))

wine = hasattr(_ntdll, "wine_get_version")
long = os.environ.get("TPIO_LONG") == "1"  # the full number of tries in the storms
_never = threading.Event()  # one for all: before Python 3.13 its lock has a handle, and some conditions count those
gil = getattr(sys, "_is_gil_enabled", lambda: True)()


def eventually(condition: Callable[[], Any], timeout: float = WAIT) -> Any:
    """For what has no event to wait for: the condition's value once it is true, or what it is when the time is up."""
    deadline = time.monotonic() + timeout
    pause = 0.0005
    while not (value := condition()) and time.monotonic() < deadline:
        _never.wait(pause)
        pause = min(2 * pause, 0.05)
    return value


def goes(condition: Callable[[], Any], timeout: float = WAIT) -> Any:
    """eventually, for what goes with its last reference. Without a GIL an object that another thread has made, idle now,
    goes when that thread runs again or garbage is collected (Python 3.15 no longer waits for that)."""
    return eventually(lambda: (gil or gc.collect() >= 0) and condition(), timeout)


def pools() -> list[tpio.Pool]:
    """All that exist."""
    return list(tpio._tpio._pools)


def pending() -> int:
    return sum(pool.stats().pending for pool in pools())


def bound_handles() -> int:
    return sum(pool.stats().handles for pool in pools())


class _Thread(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_ulong) for name in ("size", "usage", "id", "owner", "base", "delta", "flags"))


def native_threads() -> set[int]:
    """The process's threads, those too of which Python does not know."""
    _kernel32.CreateToolhelp32Snapshot.restype = ctypes.c_void_p
    snapshot = ctypes.c_void_p(_kernel32.CreateToolhelp32Snapshot(4, 0))
    entry = _Thread(size=ctypes.sizeof(_Thread))
    mine = set()
    more = _kernel32.Thread32First(snapshot, ctypes.byref(entry))
    while more:
        if entry.owner == os.getpid():
            mine.add(entry.id)
        more = _kernel32.Thread32Next(snapshot, ctypes.byref(entry))
    _kernel32.CloseHandle(snapshot)
    return mine


def os_handles() -> int:
    """The number of the process's handles."""
    gc.collect()
    count = ctypes.c_ulong()
    if not wine:
        if not _kernel32.GetProcessHandleCount(_kernel32.GetCurrentProcess(), ctypes.byref(count)):
            raise ctypes.WinError(ctypes.get_last_error())
        return count.value
    # Wine has no count; it has the list of all handles of all processes.
    extended_handle_information, entry = 64, struct.Struct("QQQIHHII")
    size, length_mismatch = 1 << 18, 0xC0000004
    while True:
        buffer = ctypes.create_string_buffer(size)
        status = _ntdll.NtQuerySystemInformation(extended_handle_information, buffer, size, ctypes.byref(count))
        if status & 0xFFFFFFFF != length_mismatch:
            break
        size *= 2
    assert status == 0, hex(status & 0xFFFFFFFF)
    (number,) = struct.unpack_from("Q", buffer)
    mine = os.getpid()
    return sum(fields[1] == mine for fields in entry.iter_unpack(buffer[16 : 16 + number * entry.size]))


@contextmanager
def thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[threading.Thread]:
    """Runs the function on a thread of its own meanwhile; joins it, and raises what it raised."""
    failure: list[BaseException] = []

    def run() -> None:
        try:
            function(*args, **kwargs)
        except BaseException as error:
            failure.append(error)

    running = threading.Thread(target=run, daemon=True)
    running.start()
    try:
        yield running
    finally:
        running.join(WAIT)
        stuck = running.is_alive()
    assert not stuck, "the thread does not end"
    if failure:
        raise failure[0]


@contextmanager
def largest_call(size: int) -> Iterator[None]:
    """One system call moves at most that many bytes, as if it were the two gigabytes of Windows."""
    previous = tpio._tpio.set_largest_call(size)
    try:
        yield
    finally:
        tpio._tpio.set_largest_call(previous)


def at_once(*functions: Callable[[], Any]) -> list[Any]:
    """Calls each function on a thread of its own, all at the same time; their results, or the first exception."""
    barrier = threading.Barrier(len(functions))
    results: list[Any] = [None] * len(functions)
    failures: list[BaseException] = []

    def run(index: int, function: Callable[[], Any]) -> None:
        try:
            barrier.wait(WAIT)
            results[index] = function()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in enumerate(functions)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(WAIT)
    assert not any(each.is_alive() for each in threads), "a thread does not end"
    if failures:
        raise failures[0]
    return results


def python(code: str, *args: str, timeout: float = WAIT, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs code in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, *args, "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        **options,
    )
