"""What the scenarios share: what is counted, and bytes that tell where they are from."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import tpio

WAIT = 60  # seconds: longer than anything takes that works


class Tally:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.scenarios: Counter[str] = Counter()
        self.compared: Counter[str] = Counter()  # bytes, by the scenario that moved them
        self.started = self.ended = self.doubled = 0

    def count(self) -> None:
        with self.lock:
            self.scenarios[scenario.get()] += 1

    def moved(self, size: int) -> None:
        """So many bytes came through and were right."""
        with self.lock:
            self.compared[scenario.get()] += size

    def follow(self, future: tpio.Future[Any]) -> tpio.Future[Any]:
        """Its callback must be called, once."""
        calls = 0

        def called(_: object) -> None:
            nonlocal calls
            with self.lock:
                calls += 1
                if calls == 1:
                    self.ended += 1
                else:
                    self.doubled += 1

        with self.lock:
            self.started += 1
        future.add_done_callback(called)
        return future


tally = Tally()
scenario: ContextVar[str] = ContextVar("scenario")  # what this thread or task is at
_folder = Path()


@contextmanager
def workspace() -> Iterator[None]:
    global _folder
    _folder = Path(tempfile.mkdtemp(prefix="tpio-soak-"))
    try:
        yield
    finally:
        shutil.rmtree(_folder, ignore_errors=True)


_numbers = threading.local()


def some_path() -> Path:
    """One that this worker does not use now. There are few of them: pathlib interns names, and free-threaded Python never
    frees what is interned."""
    _numbers.last = (getattr(_numbers, "last", 0) + 1) % 10
    return _folder / f"{threading.current_thread().name}, {_numbers.last}"


# ---- bytes that tell where they are from

LENGTH = 1048573  # a prime: a block that is doubled, lost or out of place does not look right
_RANDOM = random.Random(0).randbytes(LENGTH) * 2


class Flow:
    """A stream of known bytes; the sender and the receiver each have one from the same start."""

    def __init__(self, start: int) -> None:
        self.at = start

    def take(self, size: int) -> bytes:
        place = self.at % LENGTH
        self.at += size
        return _RANDOM[place : place + size]

    def check(self, data: bytes) -> None:
        """The next bytes that the receiver has got."""
        at = self.at
        wanted = self.take(len(data))
        if data != wanted:
            found = _RANDOM.find(data[:16])
            raise AssertionError(f"wrong bytes at {at}: {len(data)}, which begin like those at {found} (of {LENGTH})")
        tally.moved(len(data))


def flows(chance: random.Random) -> tuple[Flow, Flow]:
    start = chance.randrange(LENGTH)
    return Flow(start), Flow(start)


def pick_size(chance: random.Random) -> int:
    return chance.choice((1, 7, 64, 1000, 4096, 8191, 8192, 8193, 20000, 65536, 200000))


def maybe_follow(chance: random.Random, future: tpio.Future[Any]) -> tpio.Future[Any]:
    return tally.follow(future) if chance.random() < 0.5 else future


def outcome(future: tpio.Future[Any]) -> Any:
    """The result; b"" for an operation that was cancelled or failed. One that does not end is an error."""
    try:
        error = future.exception(WAIT)
    except CancelledError:
        return b""
    if error is None:
        return future.result()
    assert isinstance(error, OSError), repr(error)
    return b""


def some_name(chance: random.Random) -> str:
    return f"tpio-soak-{os.getpid()}-{chance.getrandbits(64):x}"
