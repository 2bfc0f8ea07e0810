"""Files, their locks and copies, and directories that are watched."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import struct
import threading
from concurrent.futures import CancelledError
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import support
import tpio

from .base import WAIT, maybe_follow, some_path, tally
from .streams import tcp_pair

SET_SPARSE = 0x900C4  # FSCTL_SET_SPARSE
NO_BUFFERING = 0x20000000  # FILE_FLAG_NO_BUFFERING


def files(chance: random.Random) -> None:
    path = some_path()
    block = chance.choice((512, 4096, 50000))
    count = chance.randint(1, 12)
    content = [chance.randbytes(block) for _ in range(count)]
    with tpio.open(path, "w+b") as file:
        order = chance.sample(range(count), count)
        writes = [maybe_follow(chance, file.write(content[i], i * block)) for i in order]
        for future in writes:
            assert future.result(WAIT) == block
        assert file.size() == count * block
        file.lock(0, block).result(WAIT)
        file.unlock(0, block)
        reads = []
        for i in chance.sample(range(count), count):
            reads.append((i, maybe_follow(chance, file.read(block, i * block))))
            if chance.random() < 0.1:
                reads[-1][1].cancel()
        for i, future in reads:
            with suppress(CancelledError):
                assert future.result(WAIT) == content[i]
                tally.moved(block)
        for part in content:  # sequential
            assert file.read(block).result(WAIT) == part
        assert file.read(1).result(WAIT) == b""
    with tpio.open(path, "ab") as file:
        assert file.write(b"the end").result(WAIT) == 7
    if chance.random() < 0.5:
        _sendfile(chance, path, b"".join(content) + b"the end")
    path.unlink()


def _sendfile(chance: random.Random, path: Path, content: bytes) -> None:
    one, other = tcp_pair()
    offset = chance.randrange(len(content))
    with one, other, tpio.open(path) as file:
        sending = one.sendfile(file, offset)
        received = b""
        while len(received) < len(content) - offset:
            part = other.read(65536).result(WAIT)
            assert part
            received += part
        assert sending.result(WAIT) == len(received)
    assert received == content[offset:]
    tally.moved(len(received))


def many_parts(chance: random.Random) -> None:
    """write_many and read_many, in any order, and a device control on the file meanwhile."""
    path = some_path()
    content = chance.randbytes(chance.choice((1, 5000, 200_000)))
    cuts = sorted({0, len(content), *(chance.randrange(len(content)) for _ in range(chance.randint(0, 20)))})
    places = list(itertools.pairwise(cuts))
    with tpio.open(path, "w+b") as file:
        shuffled = chance.sample(places, len(places))
        writing = maybe_follow(chance, file.write_many((begin, content[begin:end]) for begin, end in shuffled))
        assert file.ioctl(SET_SPARSE).result(WAIT) == b""
        assert writing.result(WAIT) == [end - begin for begin, end in shuffled]
        for _ in range(chance.randint(1, 3)):
            shuffled = chance.sample(places, len(places))
            reading = maybe_follow(chance, file.read_many((begin, end - begin) for begin, end in shuffled))
            if chance.random() < 0.2:
                reading.cancel()
            with suppress(CancelledError):
                assert reading.result(WAIT) == [content[begin:end] for begin, end in shuffled]
                tally.moved(len(content))
    assert path.read_bytes() == content
    path.unlink()


def unbuffered(chance: random.Random) -> None:
    path = some_path()
    path.write_bytes(b"")
    with tpio.open(path, "r+b", flags=NO_BUFFERING) as file:
        unit = file.alignment
        count = chance.randint(1, 10)
        content = chance.randbytes(count * unit)
        written = tpio.aligned_buffer(len(content))
        written[:] = content
        order = chance.sample(range(count), count)
        writes = [maybe_follow(chance, file.write(written[i * unit : (i + 1) * unit], i * unit)) for i in order]
        assert [future.result(WAIT) for future in writes] == [unit] * count
        into = tpio.aligned_buffer(len(content))
        for i in chance.sample(range(count), count):
            reading = maybe_follow(chance, file.read_into(into[i * unit : (i + 1) * unit], i * unit))
            if chance.random() < 0.1:
                reading.cancel()
            with suppress(CancelledError):
                assert reading.result(WAIT) == unit
                assert into[i * unit : (i + 1) * unit] == content[i * unit : (i + 1) * unit]
                tally.moved(unit)
        assert file.read_into(into, len(content)).result(WAIT) == 0
    assert path.read_bytes() == content
    path.unlink()


def watched(chance: random.Random) -> None:
    folder = some_path()
    folder.mkdir()
    with tpio.watch(folder) as watcher:
        wanted = {str(folder / f"file {i}") for i in range(chance.randint(1, 10))}
        seen: set[str] = set()
        for name in sorted(wanted):
            Path(name).write_bytes(b"x")
            if chance.random() < 0.5:
                os.rename(name, f"{name} renamed")
                wanted.add(f"{name} renamed")
        while not wanted <= seen:
            asked = watcher.changes()
            if chance.random() < 0.3:
                asked.cancel()
            with suppress(CancelledError):
                for change in asked.result(WAIT):
                    if isinstance(change, tpio.Overflow):
                        wanted = set()
                    seen.add(change.path)
        tally.follow(watcher.changes())
    shutil.rmtree(folder)


def copies(chance: random.Random) -> None:
    source, target = some_path(), some_path()
    content = chance.randbytes(chance.choice((0, 1, 8192, 300_001)))
    source.write_bytes(content)
    copying = maybe_follow(chance, tpio.copy_file(source, target, block=chance.choice((1000, 8192, 1 << 20))))
    if chance.random() < 0.3:
        copying.cancel()
    with suppress(CancelledError):
        assert copying.result(WAIT) == len(content)
        assert target.read_bytes() == content
        tally.moved(len(content))
    target.unlink()
    source.unlink()


def locks(chance: random.Random) -> None:
    """Several handles count a number up that stands in a file; without the lock some steps would be lost."""
    path = some_path()
    path.write_bytes(struct.pack("<Q", 0))
    steps = chance.randint(1, 8)
    # Wine: a lock that has to wait never completes.
    turn: Any = threading.Lock() if support.wine else nullcontext()

    def count(seed: int) -> None:
        own = random.Random(seed)
        with tpio.open(path, "r+b") as file:
            for _ in range(steps):
                if not support.wine and own.random() < 0.2:
                    impatient = file.lock(0, 8)
                    impatient.cancel()
                    with suppress(CancelledError):
                        impatient.result(WAIT)
                        file.unlock(0, 8)
                with turn:
                    file.lock(0, 8).result(WAIT)
                    (value,) = struct.unpack("<Q", file.read(8, 0).result(WAIT))
                    file.write(struct.pack("<Q", value + 1), 0).result(WAIT)
                    file.unlock(0, 8)

    support.at_once(*(partial(count, chance.getrandbits(32)) for _ in range(3)))
    assert struct.unpack("<Q", path.read_bytes()) == (3 * steps,)
    tally.moved(8 * 3 * steps)
    with tpio.open(path) as one, tpio.open(path) as other:
        for file in (one, other):
            file.lock(0, 8, exclusive=False).result(WAIT)
    path.unlink()
