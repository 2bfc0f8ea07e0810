"""A peer, and what several of them need."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

PATIENCE = 60.0  # seconds, after which a turn is taken for stuck


class Peer:
    """One way of doing workloads: each that it can do is a method, which does the given number of operations and
    returns how many seconds they took, without making and closing what they were done on."""

    name: str

    def can(self, workload: str) -> bool:
        return hasattr(self, workload)

    def run(self, workload: str, operations: int, **parameters: Any) -> float:
        seconds: float = getattr(self, workload)(operations, **parameters)
        return seconds


@contextlib.contextmanager
def tcp_connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection on the loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield near, far


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
