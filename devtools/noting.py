"""A plugin of pytest, in the Windows Python: says on the real standard error which test is about to run, for dev.py,
which reads there what Wine says of the heaps; and has Wine look at them after each test."""

from __future__ import annotations

import ctypes
import os
import sys

MARK = "dev.py: the next test is "

if sys.platform == "win32":
    _stderr = os.dup(2)  # a plugin comes before pytest takes the descriptor away
    _kernel32 = ctypes.WinDLL("kernel32")
    _kernel32.GetProcessHeaps.argtypes = (ctypes.c_ulong, ctypes.POINTER(ctypes.c_void_p))
    _kernel32.HeapValidate.argtypes = (ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p)

    def pytest_runtest_logstart(nodeid: str) -> None:
        os.write(_stderr, f"{MARK}{nodeid}\n".encode())

    def pytest_runtest_logfinish(nodeid: str) -> None:
        look_at_heaps()

    def look_at_heaps() -> None:
        """Wine says what it finds."""
        room = _kernel32.GetProcessHeaps(0, None)
        heaps = (ctypes.c_void_p * room)()
        for heap in heaps[: min(room, _kernel32.GetProcessHeaps(room, heaps))]:
            _kernel32.HeapValidate(heap, 0, None)
