"""Blocking calls of the standard library, a thread for each end and each read in flight."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from ..rows import places
from .base import Peer, expect, in_threads, tcp_connection

Read = Callable[[int], bytes]
Write = Callable[[bytes], object]


class BlockingThreads(Peer):
    name = "blocking threads"

    def tcp_ping(self, turns: int, size: int) -> float:
        with tcp_connection() as (near, far):
            return _ping((near.recv, near.sendall), (far.recv, far.sendall), turns, size)

    def pipe_ping(self, turns: int, size: int) -> float:
        with _pipe() as (near_read, far_write), _pipe() as (far_read, near_write):
            return _ping((near_read, near_write), (far_read, far_write), turns, size)

    def pipe_bulk(self, blocks: int, size: int) -> float:
        block = bytes(size)

        def send() -> None:
            for _ in range(blocks):
                expect_written = size
                while expect_written:
                    expect_written -= write(block[:expect_written])

        def receive() -> None:
            left = blocks * size
            while left:
                left -= len(read(size))

        with _pipe() as (read, write):
            return in_threads(send, receive)

    def file_reads(self, reads: int, size: int, depth: int, path: str) -> float:
        def read(slot: int) -> Callable[[], None]:
            file = stack.enter_context(open_file(path))
            offsets = places(slot, reads, size, depth)

            def run() -> None:
                for offset in offsets:
                    expect(read_at(file, size, offset), size)

            return run

        with contextlib.ExitStack() as stack:
            return in_threads(*[read(slot) for slot in range(depth)])


def _ping(near: tuple[Read, Write], far: tuple[Read, Write], turns: int, size: int) -> float:
    message = bytes(size)

    def call() -> None:
        read, write = near
        for _ in range(turns):
            write(message)
            expect(read(size), size)

    def answer() -> None:
        read, write = far
        for _ in range(turns):
            received = read(size)
            expect(received, size)
            write(received)

    return in_threads(call, answer)


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[Read, Callable[[bytes], int]]]:
    reader, writer = os.pipe()
    try:
        yield lambda size: os.read(reader, size), lambda data: os.write(writer, data)
    finally:
        os.close(reader)
        os.close(writer)


@contextlib.contextmanager
def open_file(path: str) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY | os.O_BINARY)
    try:
        yield file
    finally:
        os.close(file)


def read_at(file: int, size: int, offset: int) -> bytes:
    """Windows Pythons have no os.pread: each reader needs a file of its own."""
    os.lseek(file, offset, os.SEEK_SET)
    return os.read(file, size)
