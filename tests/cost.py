"""What each kind of operation costs inside tpio, counted: `python dev.py cost`.

    python -m tests.cost [--write]      compares with docs/cost.md, and fails when a count has grown; or writes it

For the build that counts (src/tpio_counts.h). Nothing here is a time: a count is the same on every machine and in every run.
An operation is done many times, each with the same counts, or the run fails. The calling thread counts while it is in the
call that begins the operation; what it is waiting for is brought about by other means than tpio, and the pool's threads count
until the future has ended.
"""

from __future__ import annotations

import _winapi
import contextlib
import ctypes
import os
import socket
import sys
import tempfile
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tpio
import tpio.aio

from . import support

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cost.md"
TIMES = 20
WARM_UP = 5
SIZE = 64
MOST_MEMORY = 2048  # bytes for each idle connection
COUNTED = ("allocations", "objects", "GIL", "calls", "switches")

_counts = ctypes.CDLL(tpio._tpio.__file__)
Begin = Callable[[], Any]
Cause = Callable[[], object]


def nothing(*args: object) -> None:
    pass


# ---- the operations: each yields how it is begun, and what then ends it (None: it is done at once) -------------------

KINDS: list[tuple[str, Callable[[contextlib.ExitStack], tuple[Begin, Cause | None]]]] = []


def kind(title: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        KINDS.append((title, function))
        return function

    return add


def _tcp(stack: contextlib.ExitStack) -> tuple[tpio.Socket, socket.socket]:
    near, far = map(stack.enter_context, socket.socketpair())
    return stack.enter_context(tpio.Socket(sock=near)), far


def _pipe(stack: contextlib.ExitStack) -> tuple[tpio.Pipe, Cause]:
    """A pipe's end, and what puts SIZE bytes into it."""
    reader, other = map(stack.enter_context, tpio.pipe(inherit="write"))
    return reader, lambda: _winapi.WriteFile(other.fileno(), bytes(SIZE))


@kind("TCP: recv that waits")
def _(stack):
    near, far = _tcp(stack)
    return lambda: near.recv(SIZE), lambda: far.sendall(bytes(SIZE))


@kind("TCP: recv that waits, and less comes than was asked for")
def _(stack):
    near, far = _tcp(stack)
    return lambda: near.recv(4096), lambda: far.sendall(bytes(SIZE))


@kind("TCP: recv_into that waits")
def _(stack):
    near, far = _tcp(stack)
    buffer = bytearray(SIZE)
    return lambda: near.recv_into(buffer), lambda: far.sendall(bytes(SIZE))


@kind("TCP: recv that waits, with a callback")
def _(stack):
    near, far = _tcp(stack)
    return lambda: _with_callback(near.recv(SIZE)), lambda: far.sendall(bytes(SIZE))


def _with_callback(future):
    future.add_done_callback(nothing)
    return future


@kind("TCP: recv of what is there")
def _(stack):
    near, far = _tcp(stack)
    far.sendall(bytes(SIZE * (TIMES + WARM_UP + 1)))
    near.poll_read().result(support.WAIT)
    return lambda: near.recv(SIZE), None


@kind("TCP: send")
def _(stack):
    near, _ = _tcp(stack)
    data = bytes(SIZE)
    return lambda: near.send(data), None


@kind("TCP: poll_write")
def _(stack):
    near, _ = _tcp(stack)
    return near.poll_write, None


@kind("TCP: poll_write of a socket that is bound nowhere")
def _(stack):
    near, _ = map(stack.enter_context, socket.socketpair())
    return lambda: tpio.poll_write(near), None


@kind("UDP: recvfrom that waits")
def _(stack):
    near, far = (stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(2))
    near.bind(("127.0.0.1", 0))
    address = near.getsockname()
    ours = stack.enter_context(tpio.Socket(sock=near))
    return lambda: ours.recvfrom(SIZE), lambda: far.sendto(bytes(SIZE), address)


@kind("Pipe: read that waits")
def _(stack):
    reader, put = _pipe(stack)
    return lambda: reader.read(SIZE), put


@kind("Pipe: read of what is there")
def _(stack):
    reader, put = _pipe(stack)
    for _ in range(TIMES + WARM_UP):
        put()
    return lambda: reader.read(SIZE), None


@kind("Pipe: write")
def _(stack):
    _, writer = map(stack.enter_context, tpio.pipe())
    data = bytes(SIZE)
    return lambda: writer.write(data), None


@kind("File: read of 4 KiB at an offset")
def _(stack):
    file = stack.enter_context(tpio.open(_file(stack)))
    return lambda: file.read(4096, 4096), None


@kind("File: write of 4 KiB at an offset")
def _(stack):
    file = stack.enter_context(tpio.open(_file(stack), "r+b"))
    data = bytes(4096)
    return lambda: file.write(data, 4096), None


def _file(stack: contextlib.ExitStack) -> Path:
    path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "data"
    path.write_bytes(bytes(16384))
    return path


@kind("Timer: sleep(0)")
def _(stack):
    return lambda: tpio.sleep(0), nothing


@kind("Wait for an event")
def _(stack):
    event = _winapi.CreateEventW(0, False, False, None)
    stack.callback(_winapi.CloseHandle, event)
    return lambda: tpio.wait_for_handle(event), lambda: _winapi.SetEvent(event)


@kind("Pump: one block from a pipe that waits to a TCP connection, from its beginning to its end")
def _(stack):
    reader, put = _pipe(stack)
    near, _ = _tcp(stack)
    return lambda: tpio.pump(reader, near, SIZE), put


@kind("Function: submit")
def _(stack):
    pool = stack.enter_context(tpio.Pool(max_threads=1))
    return lambda: pool.submit(nothing), nothing


# ---- counting -------------------------------------------------------------------------------------------------------


class _Allocator(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("context", "malloc", "calloc", "realloc", "free")]


def _hook_python() -> list[_Allocator]:
    """Python's allocators and its object tracer count too, from now on. The result has to stay."""
    python = ctypes.pythonapi

    def function(name: str) -> int | None:
        return ctypes.cast(getattr(_counts, f"tpio_counts_{name}"), ctypes.c_void_p).value

    real = [_Allocator(), _Allocator()]
    for domain, allocator in enumerate(real, 1):  # those of objects and of what they have; not that behind these two
        python.PyMem_GetAllocator(domain, ctypes.byref(allocator))
        names = ("malloc", "calloc", "realloc", "free")
        python.PyMem_SetAllocator(domain, ctypes.byref(_Allocator(ctypes.addressof(allocator), *map(function, names))))
    python.PyRefTracer_SetTracer(ctypes.c_void_p(function("tracer")), None)
    return real


@dataclass(frozen=True)
class Cost:
    caller: tuple[int, ...]
    pool: tuple[int, ...]
    calls: tuple[str, str]  # of the caller and of the pool: names of functions of Windows, and where the GIL is taken

    def cells(self) -> list[str]:
        return [f"{own} + {other}" if other else str(own) for own, other in zip(self.caller, self.pool, strict=True)]

    @property
    def sums(self) -> list[int]:
        return [own + other for own, other in zip(self.caller, self.pool, strict=True)]


def _end(less: Cost | None = None) -> Cost:
    numbers = list(_counts.tpio_counts_end()[: 2 * len(COUNTED)])
    own = numbers[: len(COUNTED)]
    if less is not None:
        own = [count - empty for count, empty in zip(own, less.caller, strict=True)]
    caller, pool = (", ".join(_counts.tpio_counts_names(where).decode().split()) for where in range(2))
    return Cost(tuple(own), tuple(numbers[len(COUNTED) :]), (caller, pool))


def _once(begin: Begin, cause: Cause | None, less: Cost | None) -> Cost:
    start, pause = _counts.tpio_counts_begin, _counts.tpio_counts_pause
    start()
    future = begin()
    pause()
    if cause is not None:
        if cause is not nothing:
            time.sleep(0.002)  # the call that begins it has to be over everywhere
            cause()
    if future is not None and not support.eventually(lambda: future._state == "FINISHED"):
        raise TimeoutError("the operation does not end")
    time.sleep(0.002)  # until the pool's thread has left as well
    return _end(less)


def measure(title: str, make: Callable[[contextlib.ExitStack], tuple[Begin, Cause | None]]) -> Cost:
    with contextlib.ExitStack() as stack:
        empty = [_once(lambda: None, None, None) for _ in range(WARM_UP)][-1]
        begin, cause = make(stack)
        costs = [_once(begin, cause, empty) for _ in range(WARM_UP + TIMES)][WARM_UP:]
    return _usual(title, costs)


def _usual(title: str, costs: list[Cost]) -> Cost:
    """What most runs cost; of the switches the fewest, as they depend on who was faster where the threads do not wait."""

    def own(cost: Cost) -> tuple[Any, ...]:
        return cost.caller[:-1], cost.pool[:-1], cost.calls

    counts = Counter(map(own, costs))
    usual, times = counts.most_common(1)[0]
    if times <= len(costs) // 2:
        raise AssertionError(f"{title}: the counts differ from run to run: {counts}")
    return min((cost for cost in costs if own(cost) == usual), key=lambda cost: cost.caller[-1] + cost.pool[-1])


def measure_await() -> Cost:
    """A recv that a task awaits on tpio.aio's loop, from the call until the task goes on: what asyncio needs for that too."""

    async def main() -> Cost:
        near, far = socket.socketpair()
        costs = []
        with near, far, tpio.Socket(sock=near) as reader:
            for _ in range(WARM_UP + TIMES):
                empty = _once(lambda: None, None, None)
                sender = threading.Timer(0.01, far.sendall, [bytes(SIZE)])
                sender.start()
                _counts.tpio_counts_begin()
                await reader.recv(SIZE)
                _counts.tpio_counts_pause()
                sender.join()
                costs.append(_end(empty))
        return _usual("await", costs[WARM_UP:])

    return tpio.aio.run(main())


def measure_load(reads: int = 1000) -> float:
    """How often the pool's threads take the GIL for each of many operations that end while the program has it."""
    pool = tpio.default_pool()
    reader, writer = tpio.pipe()
    interval = sys.getswitchinterval()
    with reader, writer:
        futures = [reader.read(SIZE) for _ in range(reads)]
        ended = pool.stats().completed + reads
        deadline = time.monotonic() + support.WAIT
        sys.setswitchinterval(support.WAIT)
        _counts.tpio_counts_begin()
        _counts.tpio_counts_pause()
        writer.write(bytes(SIZE * reads))
        while pool.stats().completed < ended and time.monotonic() < deadline:
            pass
        sys.setswitchinterval(interval)
        for future in futures:
            future.result(support.WAIT)
        return _end().pool[COUNTED.index("GIL")] / reads


def measure_memory(connections: int = 200) -> tuple[int, int]:
    """Bytes for each idle connection, and what of that is for the read that it waits in."""
    with contextlib.ExitStack() as stack:
        pairs = [tuple(map(stack.enter_context, socket.socketpair())) for _ in range(connections)]
        tracemalloc.start()
        began = tracemalloc.get_traced_memory()[0]
        ends = [stack.enter_context(tpio.Socket(sock=near)) for near, _ in pairs]
        opened = tracemalloc.get_traced_memory()[0]
        reads = [end.recv(1) for end in ends]
        reading = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        for _, far in pairs:
            far.send(b"x")
        for read in reads:
            read.result(support.WAIT)
        pending = (reading - opened) // connections
        return (opened - began) // connections + _counts.tpio_counts_handle_size() + pending, pending


# ---- the page -------------------------------------------------------------------------------------------------------

HEAD = """\
# What an operation costs

Counted, not timed, by `python dev.py cost --write`; `python dev.py cost` fails when a count has grown. On Python 3.13 with a
GIL, under Wine. `a + b`: a on the thread that begins the operation, b on the pool's threads.

- **allocations**: of memory, through Python's allocators and the C library's. A read has two: its future, inside which the
  operation is, and the result's bytes.
- **objects**: Python objects that are made, also those that come from a free list.
- **GIL**: how often it is taken. Where the call may wait for the disk, it is released around it.
- **calls**: of Windows. The least that plain C can do is StartThreadpoolIo and the call itself, and CancelThreadpoolIo when
  that was done at once. DisassociateCurrentThreadFromCallback, which stays in the process, is what lets a handle be closed
  while callbacks run.
- **switches**: how often another thread goes on with it.

The last row is the whole of an `await`, with what asyncio's task and loop do.

"""


def page(costs: dict[str, Cost], load: float, memory: tuple[int, int]) -> str:
    lines = [f"| | {' | '.join(COUNTED)} |", "|---|" + "---:|" * len(COUNTED)]
    lines += [f"| {title} | {' | '.join(cost.cells())} |" for title, cost in costs.items()]
    lines += [
        "",
        "When 1,000 reads of a pipe end while the program has the GIL, the pool's threads take it"
        f" {'less than 0.2 times' if load < 0.2 else f'{load:.2f} times'} for each.",
        "",
        f"An idle TCP connection that is being read from takes {memory[0]:,} bytes of tpio's and Python's memory, of which"
        f" {memory[1]:,} are for the read that waits (with a buffer of one byte); what Windows needs is not known.",
        "",
        "## The calls",
        "",
        *(f"- {title}: {' + '.join(filter(None, cost.calls))}" for title, cost in costs.items()),
    ]
    return HEAD + "\n".join(lines) + "\n"


def known() -> dict[str, list[int]]:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if "| " in line]
    return {row[0]: [sum(map(int, cell.split(" + "))) for cell in row[1:]] for row in rows if row[1][:1].isdigit()}


def main() -> int:
    if not hasattr(_counts, "tpio_counts_begin"):
        print("this build does not count; use python dev.py cost", file=sys.stderr)
        return 2
    _counts.tpio_counts_end.restype = ctypes.POINTER(ctypes.c_long)
    _counts.tpio_counts_names.restype = ctypes.c_char_p
    hooked = _hook_python()
    costs = {title: measure(title, make) for title, make in KINDS}
    costs["TCP: recv that waits, awaited on tpio.aio"] = measure_await()
    load = measure_load()
    memory = measure_memory()
    assert hooked
    if "--write" in sys.argv:
        PAGE.write_text(page(costs, load, memory), encoding="utf-8", newline="\n")
    else:
        print(page(costs, load, memory))
    limits = known()
    grown = [
        f"{title}: {name} {count}, not {limit}"
        for title, cost in costs.items()
        for name, count, limit in zip(COUNTED, cost.sums, limits.get(title, [0] * len(COUNTED)), strict=True)
        if count > limit
    ]
    if load >= 0.2:
        grown.append(f"under load the GIL is taken {load:.2f} times for each completion")
    if memory[0] > MOST_MEMORY:
        grown.append(f"an idle connection takes {memory[0]} bytes")
    for line in grown:
        print(f"costs more than docs/cost.md says: {line}", file=sys.stderr)
    return 1 if grown else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # the interpreter's end would free what the hooked allocators still use
