"""What makes calls and allocations fail: the hooks of the build of --faults (src/tpio_faults.c)."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Self

import support
import tpio

hooks = ctypes.CDLL(tpio._tpio.__file__)
ENOUGH_MEMORY_IS = 8  # ERROR_NOT_ENOUGH_MEMORY


class Faults:
    """Arms the n-th call; afterwards tells which it was."""

    def __init__(self, nth: int) -> None:
        self.nth, self.calls, self.function, self.error = nth, 0, "", 0

    def __enter__(self) -> Self:
        hooks.tpio_faults_function.restype = ctypes.c_char_p
        hooks.tpio_faults_arm(self.nth)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.calls = hooks.tpio_faults_disarm()
        self.function = hooks.tpio_faults_function().decode()
        self.error = hooks.tpio_faults_error()


class NoMemory(Faults):
    """Python's n-th allocation fails, of this thread or (elsewhere) of all others together."""

    function = "an allocation of Python's"
    error = ENOUGH_MEMORY_IS

    def __init__(self, nth: int, elsewhere: bool) -> None:
        self.nth, self.calls, self.elsewhere = nth, 0, elsewhere

    def __enter__(self) -> Self:
        hooks.tpio_faults_arm_memory(self.nth, self.elsewhere)
        return self

    def __exit__(self, *exc_info: object) -> None:
        while True:
            try:
                self.calls = hooks.tpio_faults_disarm_memory()
                break
            except MemoryError:  # it was just this one
                pass
        if self.calls < self.nth:
            self.function = ""


# Functions of Python's that do not survive it when they get no memory, in any program, and how near to the allocation they
# are. A function with a closure that is not made makes Python crash later; a lock whose __exit__ gets no tuple for its
# arguments stays locked for good.
FRAIL = {"PyFunction_NewWithQualName": 24, "_PyObject_MakeTpCall": 8}
# Without a GIL Python does not survive it at all when a pure Python call gets no memory (3.13: a loop of
# contextlib.ExitStack().callback(f) is enough). There only what is allocated inside of tpio can fail.
INTERPRETER = "_PyEval_EvalFrameDefault"


class Allocator(ctypes.Structure):
    """PyMemAllocatorEx."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("context", "malloc", "calloc", "realloc", "free")]


_spared: list[str] = []


@contextlib.contextmanager
def wrapped_allocators() -> Iterator[None]:
    """Python's allocations can fail. The objects' domain and that of other memory; what is beneath them is the process's."""
    if not _spared:
        for name, depth in FRAIL.items():
            hooks.tpio_faults_spare_python(ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p), depth)
            _spared.append(name)
        if not support.gil:
            hooks.tpio_faults_spare_interpreter(ctypes.cast(getattr(ctypes.pythonapi, INTERPRETER), ctypes.c_void_p))
    before = []
    for number, domain in enumerate((1, 2)):
        allocator = Allocator()
        ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(allocator))
        before.append(Allocator.from_buffer_copy(allocator))
        hooks.tpio_faults_wrap(number, ctypes.byref(allocator))
        ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(allocator))
    try:
        yield
    finally:
        _restore(before)


def _restore(before: list[Allocator]) -> None:
    for domain, allocator in zip((1, 2), before, strict=True):
        ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(allocator))
