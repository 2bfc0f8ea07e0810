"""The self-check: `python -m tpio` drives the real thing and prints what works, how often a second, and how fast.

Each check is a function that does its work some times, measures each, and raises when something is wrong. The exit code is 0 when all pass.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import platform
import socket
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tpio

WAIT = 30.0  # seconds for what should take microseconds
HANGS = 90.0  # seconds for one check


class Clock:
    """Times of single operations."""

    def __init__(self) -> None:
        self.times: list[float] = []

    @contextmanager
    def time(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.times.append(time.perf_counter() - start)


Check = Callable[[Clock], None]
CHECKS: list[tuple[str, Check]] = []


def check(name: str) -> Callable[[Check], Check]:
    def register(function: Check) -> Check:
        CHECKS.append((name, function))
        return function

    return register


def same(got: Any, wanted: Any) -> None:
    if got != wanted:
        raise AssertionError(f"got {got!r:.80}, not {wanted!r:.80}")


def ping_pong(clock: Clock, left: Any, right: Any, count: int) -> None:
    """One message there and back, again and again."""
    for number in range(count):
        message = b"%064d" % number
        with clock.time():
            answer = left.read(64)
            question = right.read(64)
            left.write(message).result(WAIT)
            same(question.result(WAIT), message)
            right.write(message).result(WAIT)
            same(answer.result(WAIT), message)


# ---- pipes


@check("pipe: write and read")
def _pipe(clock: Clock) -> None:
    reader, writer = tpio.pipe()
    with reader, writer:
        for number in range(500):
            with clock.time():
                reading = reader.read(64)
                writer.write(b"%d" % number).result(WAIT)
                same(reading.result(WAIT), b"%d" % number)
        writer.close()
        same(reader.read(1).result(WAIT), b"")


@check("named pipe: a server with eight clients")
def _named_pipe(clock: Clock) -> None:
    name = f"tpio-self-check-{os.getpid()}-{os.urandom(8).hex()}"
    with tpio.PipeListener(name) as listener:
        clients = [tpio.open_pipe(name, timeout=WAIT) for _ in range(8)]
        servers = [listener.accept() for _ in range(8)]
        ends = [future.result(WAIT) for future in [*clients, *servers]]
        try:
            for client in ends[:8]:
                client.write(b"%d" % id(client)).result(WAIT)
            heard = [server.read(100).result(WAIT) for server in ends[8:]]
            same(sorted(heard), sorted(b"%d" % id(client) for client in ends[:8]))
            for server, text in zip(ends[8:], heard, strict=True):
                server.write(text).result(WAIT)
            for client in ends[:8]:
                for _ in range(1):
                    same(client.read(100).result(WAIT), b"%d" % id(client))
            with tpio.open_pipe(name, timeout=WAIT).result(WAIT) as left:
                with listener.accept().result(WAIT) as right:
                    ping_pong(clock, left, right, 200)
        finally:
            for end in ends:
                end.close()


# ---- sockets


def _tcp(clock: Clock, host: str) -> None:
    with tpio.listen((host, 0)) as listener:
        accepting = listener.accept()
        with tpio.open_connection(listener.getsockname()[:2], timeout=WAIT).result(WAIT) as left:
            right, _ = accepting.result(WAIT)
            with right:
                ping_pong(clock, left, right, 200)
                left.shutdown(socket.SHUT_WR)
                same(right.recv(1).result(WAIT), b"")


@check("TCP over IPv4")
def _tcp4(clock: Clock) -> None:
    _tcp(clock, "127.0.0.1")


@check("TCP over IPv6")
def _tcp6(clock: Clock) -> None:
    _tcp(clock, "::1")


@check("UDP")
def _udp(clock: Clock) -> None:
    with tpio.Socket(type=socket.SOCK_DGRAM) as left, tpio.Socket(type=socket.SOCK_DGRAM) as right:
        left.bind(("127.0.0.1", 0))
        right.bind(("127.0.0.1", 0))
        for number in range(200):
            with clock.time():
                receiving = right.recv_from(100)
                left.send_to(b"%d" % number, right.getsockname()).result(WAIT)
                same(receiving.result(WAIT), (b"%d" % number, left.getsockname()))


# ---- files


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tpio-self-check-") as folder:
        yield Path(folder)


@check("file: write and read at offsets")
def _file(clock: Clock) -> None:
    with scratch() as folder, tpio.open(folder / "data", "w+b") as file:
        blocks = [os.urandom(4096) for _ in range(64)]
        for future in [file.write(block, 4096 * n) for n, block in enumerate(blocks)]:
            same(future.result(WAIT), 4096)
        for n in [*range(63, -1, -1)] * 4:
            with clock.time():
                same(file.read(4096, 4096 * n).result(WAIT), blocks[n])
        same(file.read(10, 4096 * 64).result(WAIT), b"")
        same(file.size(), 4096 * 64)


@check("file: copy")
def _copy(clock: Clock) -> None:
    with scratch() as folder:
        data = os.urandom(3_000_000)
        (folder / "from").write_bytes(data)
        with clock.time():
            same(tpio.copy_file(folder / "from", folder / "to", block=65536).result(WAIT), len(data))
        same((folder / "to").read_bytes(), data)


@check("directory: watch")
def _watch(clock: Clock) -> None:
    with scratch() as folder, tpio.watch(folder) as watcher:
        for number in range(5):
            name = folder / f"new-{number}"
            with clock.time():
                changes = watcher.changes()
                name.mkdir()
                seen = changes.result(WAIT)
            same([change for change in seen if change.path == str(name)][:1], [tpio.Change("created", str(name))])


# ---- cancel


def _cancelled(future: Any, clock: Clock) -> None:
    with clock.time():
        same(future.cancel(), True)
        try:
            future.result(WAIT)
        except CancelledError:
            return
    raise AssertionError("the operation was not cancelled")


@check("cancel: pipe, named pipe, socket, accept, sleep")
def _cancel(clock: Clock) -> None:
    name = f"tpio-self-check-{os.getpid()}-{os.urandom(8).hex()}"
    reader, writer = tpio.pipe()
    with reader, writer, tpio.PipeListener(name) as listener, tpio.listen(("127.0.0.1", 0)) as server:
        accepting = server.accept()
        with tpio.open_pipe(name).result(WAIT) as client, listener.accept().result(WAIT):
            with tpio.open_connection(server.getsockname()).result(WAIT) as connection, accepting.result(WAIT)[0] as peer:
                for _ in range(20):
                    for handle in (reader, client, connection):
                        _cancelled(handle.read(1), clock)
                    _cancelled(server.accept(), clock)
                    _cancelled(listener.accept(), clock)
                    _cancelled(tpio.sleep(WAIT), clock)
                writer.write(b"omg").result(WAIT)
                same(reader.read(10).result(WAIT), b"omg")
                peer.send(b"omg").result(WAIT)
                same(connection.recv(10).result(WAIT), b"omg")


# ---- time, waiting, functions


@check("timer")
def _timer(clock: Clock) -> None:
    for _ in range(20):
        start = time.perf_counter()
        with clock.time():
            tpio.sleep(0.01).result(WAIT)
        if time.perf_counter() - start < 0.01:
            raise AssertionError("the timer was early")


@check("function on the pool")
def _function(clock: Clock) -> None:
    pool = tpio.default_pool()
    for number in range(500):
        with clock.time():
            same(pool.submit(pow, number, 2).result(WAIT), number**2)
    if pool.submit(threading.get_ident).result(WAIT) == threading.get_ident():
        raise AssertionError("the function ran on the caller's thread")


# ---- processes


@check("process: output and exit code")
def _process(clock: Clock) -> None:
    for _ in range(3):
        with clock.time():
            with tpio.spawn([sys.executable, "-c", "print('out'); raise SystemExit(7)"], stdout=tpio.PIPE) as child:
                same(child.communicate(timeout=WAIT).result(WAIT)[0].split(), [b"out"])
                same(child.wait(WAIT).result(WAIT), 7)


@check("process that hangs, while other I/O goes on")
def _hung_process(clock: Clock) -> None:
    program = "import sys, threading; print('ready', flush=True); threading.Event().wait()"
    reader, writer = tpio.pipe()
    with tpio.spawn([sys.executable, "-c", program], stdout=tpio.PIPE) as child, reader, writer:
        assert child.stdout is not None
        said = b""
        while not said.endswith(b"\n"):
            said += child.stdout.read(100).result(WAIT)
        same(said.strip(), b"ready")
        hanging = child.stdout.read(100)
        for _ in range(100):
            with clock.time():
                reading = reader.read(10)
                writer.write(b"meanwhile").result(WAIT)
                same(reading.result(WAIT), b"meanwhile")
        same(hanging.done(), False)
        child.kill()
        same(hanging.result(WAIT), b"")
        child.wait(WAIT).result(WAIT)
        try:
            same(child.wait(0).result(WAIT), 1)
        except TimeoutError:
            raise AssertionError("the child still runs") from None


# ---- the table


def run(name: str, function: Check) -> dict[str, Any]:
    clock = Clock()
    error = None
    faulthandler.dump_traceback_later(HANGS, exit=True)  # says where, and the exit code is not 0
    try:
        function(clock)
    except BaseException as failure:
        if isinstance(failure, KeyboardInterrupt):
            raise
        error = "".join(traceback.format_exception_only(failure)).strip()
    finally:
        faulthandler.cancel_dump_traceback_later()
    row: dict[str, Any] = {"check": name, "passed": error is None, "error": error}
    if clock.times:
        row["per_second"] = round(len(clock.times) / max(sum(clock.times), 1e-9), 1)
        row["median_us"] = round(statistics.median(clock.times) * 1e6, 1)
    return row


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tpio", description="Checks that tpio works on this machine.")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    rows = []
    if not options.json:
        print(f"tpio {tpio.__version__}, Python {platform.python_version()}, {platform.platform()}")
        print(f"{'':50} {'':6} {'per second':>12} {'median µs':>12}")
    for name, function in CHECKS:
        row = run(name, function)
        rows.append(row)
        if not options.json:
            speed = f"{row['per_second']:>12,.0f} {row['median_us']:>12,.0f}" if "median_us" in row else ""
            print(f"{name:50} {'pass' if row['passed'] else 'FAIL':6} {speed}".rstrip(), flush=True)
            if row["error"]:
                print(f"    {row['error']}", flush=True)
    stats = tpio.default_pool().stats()
    passed = all(row["passed"] for row in rows)
    if options.json:
        print(json.dumps({"passed": passed, "checks": rows, "stats": stats._asdict()}))
    else:
        print(f"{'all passed' if passed else 'some FAILED'}; {stats.submitted:,} operations, {stats.pending} pending")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
