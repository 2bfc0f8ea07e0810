"""A peer, and what several of them need."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Executor
from time import perf_counter, sleep
from typing import Any

PATIENCE = 60.0  # seconds, after which a turn is taken for stuck
LATER = 3600.0  # seconds: a timer that is not due while anything is measured
THREADS = 4  # of an executor

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_kernel32.CreateEventW.restype = ctypes.c_void_p
_kernel32.SetEvent.argtypes = _kernel32.CloseHandle.argtypes = [ctypes.c_void_p]


class Peer:
    """One way of doing workloads: each that it can do is a method, which does the given number of operations and
    returns how many seconds they took, without making and closing what they were done on."""

    name: str
    in_this_process = True
    cannot: Collection[str] = ()  # although it has the method

    def can(self, workload: str) -> bool:
        return hasattr(self, workload) and workload not in self.cannot

    def run(self, workload: str, operations: int, **parameters: Any) -> float:
        seconds: float = getattr(self, workload)(operations, **parameters)
        return seconds


@contextlib.contextmanager
def tcp_connections(count: int) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Both ends of each, on the loopback interface."""
    with contextlib.ExitStack() as stack:
        connections = []
        with listener() as listening:
            address = listening.getsockname()
            for _ in range(count):
                near = stack.enter_context(socket.create_connection(address))
                far = stack.enter_context(listening.accept()[0])
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections.append((near, far))
        yield connections


@contextlib.contextmanager
def tcp_connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    with tcp_connections(1) as [ends]:
        yield ends


def shares(total: int, parts: int) -> list[int]:
    """Of each of so many, which are together the total."""
    return [total // parts + (number < total % parts) for number in range(parts)]


@contextlib.contextmanager
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def import_time(package: str) -> float:
    program = f"from time import perf_counter as now; began = now(); import {package}; print(now() - began)"
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE
    )
    return float(done.stdout)


class Waker:
    """A thread that sends a byte, again and again, each time that a receiver waits for it."""

    def __init__(self, end: socket.socket, turns: int) -> None:
        self.sent_at = 0.0
        self._end = end
        self._turns = turns
        self._waiting = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def begun(self) -> None:
        """The receiver is about to wait."""
        self._waiting.release()

    def _run(self) -> None:
        for _ in range(self._turns):
            self._waiting.acquire()
            sleep(0.001)  # until it sleeps
            self.sent_at = perf_counter()
            self._end.send(b"x")


CHILD = ["cmd.exe", "/c", "echo hello"]


@contextlib.contextmanager
def udp_ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets on the loopback interface, each connected to the other."""
    with socket.socket(type=socket.SOCK_DGRAM) as near, socket.socket(type=socket.SOCK_DGRAM) as far:
        for end in (near, far):
            end.bind(("127.0.0.1", 0))
        yield near, far


@contextlib.contextmanager
def filled(write: Callable[[bytes], object], blocks: int, size: int) -> Iterator[None]:
    """A thread writes so many blocks meanwhile."""

    def run() -> None:
        block = bytes(size)
        for _ in range(blocks):
            write(block)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join(PATIENCE)


class Receiver:
    """A thread that receives so many bytes and does nothing with them."""

    def __init__(self, end: socket.socket, size: int) -> None:
        self._end = end
        self._left = size
        self._ended = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        buffer = bytearray(1 << 18)
        while self._left:
            count = self._end.recv_into(buffer)
            if not count:
                return
            self._left -= count
        self._ended = perf_counter()

    def ended(self) -> float:
        """Waits for the last byte; the time at which it came."""
        self._thread.join(PATIENCE)
        if self._left:
            raise EOFError(f"{self._left} bytes have not come")
        return self._ended


@contextlib.contextmanager
def events(count: int) -> Iterator[list[int]]:
    """Handles of events that are not set, and that are reset by the wait that they end."""
    handles = [_kernel32.CreateEventW(None, False, False, None) for _ in range(count)]
    try:
        yield handles
    finally:
        for handle in handles:
            _kernel32.CloseHandle(handle)


def set_event(handle: int) -> None:
    if not _kernel32.SetEvent(handle):
        raise ctypes.WinError(ctypes.get_last_error())


def waves(total: int, together: int) -> Iterator[int]:
    """How many at a time, so that there are so many in all."""
    while total:
        wave = min(total, together)
        yield wave
        total -= wave


def nothing() -> None:
    """What functions and timers do."""


def submit_and_wait(executor: Executor, calls: int, depth: int) -> float:
    """One thread for all: it waits for the oldest call, then submits another."""
    began = perf_counter()
    submitted = deque(executor.submit(nothing) for _ in range(depth))
    for _ in range(calls - depth):
        submitted.popleft().result(PATIENCE)
        submitted.append(executor.submit(nothing))
    for future in submitted:
        future.result(PATIENCE)
    return perf_counter() - began


class Countdown:
    """Counts calls, from any thread, and knows when there have been enough."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._lock = threading.Lock()
        self._over = threading.Event()

    def __call__(self, *args: object) -> None:
        with self._lock:
            self._left -= 1
            over = self._left == 0
        if over:
            self._over.set()

    def wait(self) -> None:
        if not self._over.wait(PATIENCE):
            raise TimeoutError(f"not done after {PATIENCE:.0f} seconds")


def in_threads(*functions: Callable[[], None]) -> float:
    """Runs each function in a thread of its own; seconds from when all threads were there until all had returned."""
    began = 0.0
    errors: list[BaseException] = []

    def begin() -> None:
        nonlocal began
        began = perf_counter()

    together = threading.Barrier(len(functions), begin)

    def run(function: Callable[[], None]) -> None:
        together.wait()
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=[function], daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    deadline = perf_counter() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - perf_counter()))
    took = perf_counter() - began
    if errors:
        raise errors[0]
    if any(thread.is_alive() for thread in threads):
        raise TimeoutError(f"not done after {PATIENCE:.0f} seconds")
    return took


def expect(data: bytes, size: int) -> None:
    if len(data) != size:
        raise EOFError(f"{len(data)} bytes instead of {size}")
