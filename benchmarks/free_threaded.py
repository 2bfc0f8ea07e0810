"""Callbacks that compute: what two processors are good for with a GIL, and without.

    python -m benchmarks.free_threaded SECONDS

Prints a JSON object: operations per second of each row. For devtools/bench_threads.py, which compares two Pythons.
"""

from __future__ import annotations

import abc
import contextlib
import json
import os
import socket
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import tpio

BLOCK = 4096
FILE = 1 << 24
DEPTH = 32
CONNECTIONS = 64
MESSAGE = 64
PATIENCE = 60.0


def compute(data: bytes, times: int = 1) -> int:
    """Some 50 microseconds of Python, or so many times that."""
    total = 0
    for byte in data[:MESSAGE] * (8 * times):
        total = (total * 31 + byte) & 0xFFFFFFFF
    return total


class Count:
    """Of operations, each lane's by itself: they share nothing that would be fought for."""

    def __init__(self, lanes: int) -> None:
        self.done = [0] * lanes
        self.stopped = False
        self.over = threading.Semaphore(0)  # a lane has ended
        self.failures: list[BaseException] = []

    def rate(self, seconds: float) -> float:
        """Of `seconds`, the lanes having begun; waits until they have ended."""
        before, began = sum(self.done), perf_counter()
        threading.Event().wait(seconds)
        rate = (sum(self.done) - before) / (perf_counter() - began)
        self.stopped = True
        for _ in self.done:
            if not self.over.acquire(timeout=PATIENCE):
                raise TimeoutError("a lane does not end")
        if self.failures:
            raise self.failures[0]
        return rate

    def end_of(self, error: BaseException | None) -> None:
        if error is not None:
            self.failures.append(error)
        self.over.release()


class Lane(abc.ABC):
    """One operation after the other, until the count is stopped."""

    def __init__(self, count: Count, lane: int) -> None:
        self.count, self.lane = count, lane

    @abc.abstractmethod
    def go_on(self) -> None: ...

    def turn_over(self) -> None:
        self.count.done[self.lane] += 1
        if self.count.stopped:
            self.count.end_of(None)
        else:
            self.go_on()


class Reader(Lane):
    """Reads blocks of a file, one after the other."""

    def __init__(self, count: Count, lane: int, file: tpio.File, times: int) -> None:
        super().__init__(count, lane)
        self.file, self.times = file, times
        self.offset = lane * BLOCK
        self.go_on()

    def go_on(self) -> None:
        self.offset = (self.offset + DEPTH * BLOCK) % FILE
        self.file.read(BLOCK, self.offset).add_done_callback(self.on_read)

    def on_read(self, future: tpio.Future[bytes]) -> None:
        try:
            compute(future.result(), self.times)
            self.turn_over()
        except BaseException as error:
            self.count.end_of(error)


class Echo(Lane):
    """A message goes to and fro on a connection; the server computes."""

    def __init__(self, count: Count, lane: int, client: tpio.Socket, server: tpio.Socket) -> None:
        super().__init__(count, lane)
        self.client, self.server = client, server
        self.message = os.urandom(MESSAGE)
        self.go_on()

    def go_on(self) -> None:
        self.server.recv(MESSAGE).add_done_callback(self.on_asked)
        self.client.recv(MESSAGE).add_done_callback(self.on_answered)
        self.client.send(self.message)

    def on_asked(self, future: tpio.Future[bytes]) -> None:
        try:
            message = future.result()
            compute(message)
            self.server.send(message)
        except BaseException as error:
            self.count.end_of(error)

    def on_answered(self, future: tpio.Future[bytes]) -> None:
        try:
            if future.result() != self.message:
                raise AssertionError("another message came back")
            self.turn_over()
        except BaseException as error:
            self.count.end_of(error)


def file_reads(seconds: float, times: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(os.urandom(FILE))
        with tpio.open(path) as file:
            count = Count(DEPTH)
            lanes = [Reader(count, lane, file, times) for lane in range(DEPTH)]
            try:
                return count.rate(seconds)
            finally:
                lanes.clear()


def echo(seconds: float) -> float:
    with contextlib.ExitStack() as stack:
        count = Count(CONNECTIONS)
        lanes = []
        for lane in range(CONNECTIONS):
            ends: Any = [stack.enter_context(tpio.Socket(sock=end)) for end in socket.socketpair()]
            lanes.append(Echo(count, lane, *ends))
        return count.rate(seconds)


ROWS = {
    "file reads of 4 KiB, depth 32, 50 µs": partial(file_reads, times=1),
    "file reads of 4 KiB, depth 32, 200 µs": partial(file_reads, times=4),
    "echo on 64 connections, 50 µs": echo,
}

if __name__ == "__main__":
    print(json.dumps({name: row(float(sys.argv[1])) for name, row in ROWS.items()}))
