"""Blocking calls of the standard library, a thread for each end and each read in flight."""

from __future__ import annotations

import _winapi
import contextlib
import io
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from ..rows import make_file, new_files, parts_of_file, places
from .base import (
    CHILD,
    PATIENCE,
    THREADS,
    Countdown,
    Peer,
    Receiver,
    Waker,
    events,
    expect,
    filled,
    in_threads,
    listener,
    set_event,
    submit_and_wait,
    tcp_connection,
    udp_ends,
    waves,
)

Read = Callable[[int], bytes | None]
Write = Callable[[bytes], object]


class BlockingThreads(Peer):
    name = "blocking threads"

    def tcp_ping(self, turns: int, size: int) -> float:
        with tcp_connection() as (near, far):
            return _ping((near.recv, near.sendall), (far.recv, far.sendall), turns, size)

    def wake_ups(self, turns: int) -> float:
        with tcp_connection() as (near, far):
            waker = Waker(far, turns)
            took = 0.0
            for _ in range(turns):
                waker.begun()
                near.recv(1)
                took += perf_counter() - waker.sent_at
            return took

    def accepts(self, connections: int) -> float:
        with listener() as listening:
            address = listening.getsockname()
            began = perf_counter()
            for _ in range(connections):
                with socket.create_connection(address), listening.accept()[0]:
                    pass
            return perf_counter() - began

    def spawns(self, children: int) -> float:
        began = perf_counter()
        for _ in range(children):
            expect(subprocess.run(CHILD, stdout=subprocess.PIPE, check=True).stdout.strip(), 5)
        return perf_counter() - began

    def pipe_ping(self, turns: int, size: int) -> float:
        with _pipe() as (near_read, far_write), _pipe() as (far_read, near_write):
            return _ping((near_read.read, near_write.write), (far_read.read, far_write.write), turns, size)

    def pipe_bulk(self, blocks: int, size: int) -> float:
        block = bytes(size)

        def send() -> None:
            for _ in range(blocks):
                left = size
                while left:
                    left -= writer.write(block[-left:])

        def receive() -> None:
            left = blocks * size
            buffer = bytearray(size)
            while left:
                left -= reader.readinto(buffer)

        with _pipe() as (reader, writer):
            return in_threads(send, receive)

    def relay(self, blocks: int, size: int) -> float:
        with _pipe() as (reader, writer), tcp_connection() as (near, far):
            receiver = Receiver(far, blocks * size)
            left = blocks * size
            block = memoryview(bytearray(size))
            began = perf_counter()
            with filled(writer.write, blocks, size):
                while left:
                    count = reader.readinto(block)
                    near.sendall(block[:count])
                    left -= count
                return receiver.ended() - began

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

    def udp_ping(self, turns: int, size: int) -> float:
        with udp_ends() as (near, far):
            peer = far.getsockname()

            def call() -> None:
                message = bytes(size)
                for _ in range(turns):
                    near.sendto(message, peer)
                    expect(near.recvfrom(size)[0], size)

            def answer() -> None:
                for _ in range(turns):
                    message, sender = far.recvfrom(size)
                    expect(message, size)
                    far.sendto(message, sender)

            return in_threads(call, answer)

    def send_file(self, blocks: int, size: int, path: str) -> float:
        """Read, send, read, send: which is also what socket.sendfile does on Windows."""
        total = blocks * size
        with tcp_connection() as (near, far), open(path, "rb", buffering=0) as file:
            receiver = Receiver(far, total)
            began = perf_counter()
            for part in parts_of_file(total):
                file.seek(0)
                for block in waves(part, size):
                    near.sendall(file.read(block))
            return receiver.ended() - began

    def timers_fired(self, timers: int) -> float:
        """threading.Timer: a thread for each."""
        fired = Countdown(timers)
        began = perf_counter()
        for _ in range(timers):
            threading.Timer(0, fired).start()
        fired.wait()
        return perf_counter() - began

    def functions(self, calls: int, depth: int) -> float:
        with ThreadPoolExecutor(THREADS) as executor:
            return submit_and_wait(executor, calls, depth)

    def waits(self, waits: int, together: int) -> float:
        """A thread for each."""
        with events(together) as handles:
            began = perf_counter()
            for wave in waves(waits, together):
                ended = Countdown(wave)
                threads = [
                    threading.Thread(target=_wait, args=(handle, ended), daemon=True) for handle in handles[:wave]
                ]
                for thread in threads:
                    thread.start()
                for handle in handles[:wave]:
                    set_event(handle)
                ended.wait()
            took = perf_counter() - began
            for thread in threads:
                thread.join(PATIENCE)
            return took

    def directory(self, files: int, folder: str) -> float:
        """Polls, and without a pause: as soon as can be seen by looking."""
        known = set(os.listdir(folder))
        with new_files(files, folder) as names:
            began = perf_counter()
            for name in names:
                make_file(name)
                while known.issuperset(seen := os.listdir(folder)):
                    pass
                known.update(seen)
            return perf_counter() - began


def _wait(handle: int, ended: Countdown) -> None:
    _winapi.WaitForSingleObject(handle, _winapi.INFINITE)
    ended()


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
def _pipe() -> Iterator[tuple[io.FileIO, io.FileIO]]:
    reader, writer = os.pipe()
    with io.FileIO(reader, "r") as reads, io.FileIO(writer, "w") as writes:
        yield reads, writes


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
