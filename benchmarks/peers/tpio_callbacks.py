"""tpio with done callbacks: each begins the next operation, on the pool's thread that completed the last."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, wait
from time import perf_counter

import tpio

from ..rows import places
from .base import PATIENCE, Peer, expect
from .tpio_ends import End, pipe_ends, tcp_ends


class TpioCallbacks(Peer):
    name = "tpio, callbacks"

    def tcp_ping(self, turns: int, size: int) -> float:
        with tcp_ends() as (near, far):
            return _ping(near, far, turns, size)

    def pipe_ping(self, turns: int, size: int) -> float:
        with pipe_ends() as (near, far):
            return _ping(near, far, turns, size)

    def pipe_bulk(self, blocks: int, size: int) -> float:
        reader, writer = tpio.pipe()
        with reader, writer:
            return _until_done(_Receiver(reader, blocks * size, size), _Sender(writer, blocks, size))

    def file_reads(self, reads: int, size: int, depth: int, path: str) -> float:
        with tpio.open(path) as file:
            return _until_done(*(_Slot(file, size, places(slot, reads, size, depth)) for slot in range(depth)))


class _Chain:
    """Operations of which each begins the next. `done` ends with the last, or with the first exception."""

    def __init__(self) -> None:
        self.done: Future[None] = Future()

    def begin(self) -> None:
        raise NotImplementedError


def _until_done(*chains: _Chain) -> float:
    began = perf_counter()
    for chain in chains:
        chain.begin()
    ended, pending = wait([chain.done for chain in chains], PATIENCE)
    took = perf_counter() - began
    for done in ended:
        done.result()
    if pending:
        raise TimeoutError(f"not done after {PATIENCE:.0f} seconds")
    return took


def _ping(near: End, far: End, turns: int, size: int) -> float:
    return _until_done(_Answer(far, turns, size), _Call(near, turns, size))


class _Answer(_Chain):
    def __init__(self, end: End, turns: int, size: int) -> None:
        super().__init__()
        self.reader, self.writer = end
        self.turns = turns
        self.size = size

    def begin(self) -> None:
        self.reader.read(self.size).add_done_callback(self.on_read)

    def on_read(self, future: tpio.Future[bytes]) -> None:
        try:
            message = future.result()
            expect(message, self.size)
            self.writer.write(message)
            self.turns -= 1
            if self.turns:
                self.reader.read(self.size).add_done_callback(self.on_read)
            else:
                self.done.set_result(None)
        except BaseException as error:
            self.done.set_exception(error)


class _Call(_Answer):
    def begin(self) -> None:
        self.writer.write(bytes(self.size))
        super().begin()

    def on_read(self, future: tpio.Future[bytes]) -> None:
        try:
            message = future.result()
            expect(message, self.size)
            self.turns -= 1
            if self.turns:
                self.writer.write(message)
                self.reader.read(self.size).add_done_callback(self.on_read)
            else:
                self.done.set_result(None)
        except BaseException as error:
            self.done.set_exception(error)


class _Sender(_Chain):
    def __init__(self, writer: tpio.Handle, blocks: int, size: int) -> None:
        super().__init__()
        self.writer = writer
        self.left = blocks
        self.block = bytes(size)

    def begin(self) -> None:
        self.writer.write(self.block).add_done_callback(self.on_written)

    def on_written(self, future: tpio.Future[int]) -> None:
        try:
            future.result()
            self.left -= 1
            if self.left:
                self.writer.write(self.block).add_done_callback(self.on_written)
            else:
                self.done.set_result(None)
        except BaseException as error:
            self.done.set_exception(error)


class _Receiver(_Chain):
    def __init__(self, reader: tpio.Handle, total: int, size: int) -> None:
        super().__init__()
        self.reader = reader
        self.left = total
        self.size = size

    def begin(self) -> None:
        self.reader.read(self.size).add_done_callback(self.on_read)

    def on_read(self, future: tpio.Future[bytes]) -> None:
        try:
            self.left -= len(future.result())
            if self.left:
                self.reader.read(self.size).add_done_callback(self.on_read)
            else:
                self.done.set_result(None)
        except BaseException as error:
            self.done.set_exception(error)


class _Slot(_Chain):
    """One of several reads that are in flight."""

    def __init__(self, file: tpio.Handle, size: int, offsets: list[int]) -> None:
        super().__init__()
        self.file = file
        self.size = size
        self.offsets: Iterator[int] = iter(offsets)

    def begin(self) -> None:
        self.next()

    def next(self) -> None:
        offset = next(self.offsets, None)
        if offset is None:
            self.done.set_result(None)
        else:
            self.file.read(self.size, offset).add_done_callback(self.on_read)

    def on_read(self, future: tpio.Future[bytes]) -> None:
        try:
            expect(future.result(), self.size)
            self.next()
        except BaseException as error:
            self.done.set_exception(error)
