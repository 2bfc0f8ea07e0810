"""tpio with done callbacks: each begins the next operation, on the pool's thread that completed the last."""

from __future__ import annotations

import abc
import socket
from collections.abc import Iterator
from concurrent.futures import Future, wait
from time import perf_counter
from typing import Any

import tpio

from ..rows import make_file, new_files, parts_of_file, places
from .base import (
    LATER,
    PATIENCE,
    THREADS,
    Countdown,
    Peer,
    Receiver,
    Waker,
    events,
    expect,
    nothing,
    set_event,
    shares,
    tcp_connection,
    waves,
)
from .tpio_ends import End, pipe_ends, relayed, tcp_ends, udp_sockets


class TpioCallbacks(Peer):
    name = "tpio, callbacks"

    def tcp_ping(self, turns: int, size: int) -> float:
        return self.pings(turns, size, 1)

    def pings(self, turns: int, size: int, connections: int) -> float:
        with tcp_ends(connections) as ends:
            chains: list[_Chain] = []
            for (near, far), share in zip(ends, shares(turns, connections), strict=True):
                chains += [_Answer(far, share, size), _Call(near, share, size)]
            return _until_done(*chains)

    def wake_ups(self, turns: int) -> float:
        with tcp_connection() as (near, far), tpio.Socket(sock=near) as end:
            return _WakeUp.run(end, far, turns)

    def pipe_ping(self, turns: int, size: int) -> float:
        with pipe_ends() as (near, far):
            return _until_done(_Answer(far, turns, size), _Call(near, turns, size))

    def pipe_bulk(self, blocks: int, size: int) -> float:
        reader, writer = tpio.pipe()
        with reader, writer:
            return _until_done(_Receiver(reader, blocks * size, size), _Sender(writer, blocks, size))

    def relay(self, blocks: int, size: int) -> float:
        return relayed(blocks, size, lambda reader, sink: _until_done(_Relay(reader, sink, blocks * size, size)))

    def file_reads(self, reads: int, size: int, depth: int, path: str) -> float:
        with tpio.open(path) as file:
            return _until_done(*(_Slot(file, size, places(slot, reads, size, depth)) for slot in range(depth)))

    def udp_ping(self, turns: int, size: int) -> float:
        with udp_sockets() as (near, far):
            return _until_done(_UdpAnswer(far, turns, size), _UdpCall(near, far.getsockname(), turns, size))

    def send_file(self, blocks: int, size: int, path: str) -> float:
        total = blocks * size
        with tcp_connection() as (near, far), tpio.Socket(sock=near) as sender, tpio.open(path) as file:
            receiver = Receiver(far, total)
            began = perf_counter()
            _until_done(_FileSender(sender, file, parts_of_file(total)))
            return receiver.ended() - began

    def timers_kept(self, timers: int, pending: int) -> float:
        with tpio.Pool() as pool:
            kept = [tpio.sleep(LATER + number, pool=pool) for number in range(pending)]
            began = perf_counter()
            for _ in range(timers):
                tpio.sleep(LATER, pool=pool).cancel()
            took = perf_counter() - began
            for timer in kept:
                timer.cancel()
            return took

    def timers_fired(self, timers: int) -> float:
        fired = Countdown(timers)
        with tpio.Pool() as pool:
            began = perf_counter()
            for _ in range(timers):
                tpio.sleep(0, pool=pool).add_done_callback(fired)
            fired.wait()
            return perf_counter() - began

    def functions(self, calls: int, depth: int) -> float:
        with tpio.Pool(max_threads=THREADS) as pool:
            return _until_done(*(_Calls(pool, len(range(slot, calls, depth))) for slot in range(depth)))

    def waits(self, waits: int, together: int) -> float:
        with events(together) as handles:
            began = perf_counter()
            for wave in waves(waits, together):
                ended = Countdown(wave)
                for handle in handles[:wave]:
                    tpio.wait_for_handle(handle).add_done_callback(ended)
                for handle in handles[:wave]:
                    set_event(handle)
                ended.wait()
            return perf_counter() - began

    def directory(self, files: int, folder: str) -> float:
        with new_files(files, folder) as names, tpio.watch(folder, recursive=False) as watcher:
            return _until_done(_Directory(watcher, iter(names)))


class _Chain(abc.ABC):
    """Operations of which each begins the next. `done` ends with the last, or with the first exception."""

    def __init__(self, turns: int = 1) -> None:
        self.done: Future[None] = Future()
        self.turns = turns  # that are left

    @abc.abstractmethod
    def begin(self) -> None: ...

    def go_on(self) -> None:
        """A turn is over."""
        self.turns -= 1
        if self.turns:
            self.begin()
        else:
            self.done.set_result(None)


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


class _Answer(_Chain):
    def __init__(self, end: End, turns: int, size: int) -> None:
        super().__init__(turns)
        self.reader, self.writer = end
        self.size = size

    def begin(self) -> None:
        self.reader.read(self.size).add_done_callback(self.on_read)

    def on_read(self, future: tpio.Future[bytes]) -> None:
        try:
            message = future.result()
            expect(message, self.size)
            self.writer.write(message)
            self.go_on()
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
            self.go_on()
        except BaseException as error:
            self.done.set_exception(error)


class _WakeUp(_Chain):
    def __init__(self, end: tpio.Socket, waker: Waker, turns: int) -> None:
        super().__init__(turns)
        self.end = end
        self.waker = waker
        self.took = 0.0

    @classmethod
    def run(cls, end: tpio.Socket, far: socket.socket, turns: int) -> float:
        chain = cls(end, Waker(far, turns), turns)
        _until_done(chain)
        return chain.took

    def begin(self) -> None:
        self.end.recv(1).add_done_callback(self.on_received)
        self.waker.begun()

    def on_received(self, future: tpio.Future[bytes]) -> None:
        try:
            self.took += perf_counter() - self.waker.sent_at
            future.result()
            self.go_on()
        except BaseException as error:
            self.done.set_exception(error)


class _Sender(_Chain):
    def __init__(self, writer: tpio.Handle, blocks: int, size: int) -> None:
        super().__init__(blocks)
        self.writer = writer
        self.block = bytes(size)

    def begin(self) -> None:
        self.writer.write(self.block).add_done_callback(self.on_written)

    def on_written(self, future: tpio.Future[int]) -> None:
        try:
            future.result()
            self.go_on()
        except BaseException as error:
            self.done.set_exception(error)


class _Receiver(_Chain):
    def __init__(self, reader: tpio.Handle, total: int, size: int) -> None:
        super().__init__()
        self.reader = reader
        self.left = total
        self.buffer = bytearray(size)

    def begin(self) -> None:
        self.reader.read_into(self.buffer).add_done_callback(self.on_read)

    def on_read(self, future: tpio.Future[int]) -> None:
        self.on_moved(future)

    def on_moved(self, future: tpio.Future[int]) -> None:
        try:
            self.left -= future.result()
            if self.left:
                self.begin()
            else:
                self.done.set_result(None)
        except BaseException as error:
            self.done.set_exception(error)


class _Relay(_Receiver):
    """Sends on what it has received, and only then goes on."""

    def __init__(self, reader: tpio.Handle, sink: tpio.Socket, total: int, size: int) -> None:
        super().__init__(reader, total, size)
        self.sink = sink

    def on_read(self, future: tpio.Future[int]) -> None:
        try:
            self.sink.send(memoryview(self.buffer)[: future.result()]).add_done_callback(self.on_moved)
        except BaseException as error:
            self.done.set_exception(error)


class _UdpAnswer(_Chain):
    def __init__(self, end: tpio.Socket, turns: int, size: int) -> None:
        super().__init__(turns)
        self.end = end
        self.size = size

    def begin(self) -> None:
        self.end.recvfrom(self.size).add_done_callback(self.on_received)

    def on_received(self, future: tpio.Future[tuple[bytes, Any]]) -> None:
        try:
            message, sender = future.result()
            expect(message, self.size)
            self.end.sendto(message, sender)
            self.go_on()
        except BaseException as error:
            self.done.set_exception(error)


class _UdpCall(_UdpAnswer):
    def __init__(self, end: tpio.Socket, peer: Any, turns: int, size: int) -> None:
        super().__init__(end, turns, size)
        self.peer = peer

    def begin(self) -> None:
        self.end.sendto(bytes(self.size), self.peer)
        super().begin()

    def on_received(self, future: tpio.Future[tuple[bytes, Any]]) -> None:
        try:
            expect(future.result()[0], self.size)
            self.go_on()
        except BaseException as error:
            self.done.set_exception(error)


class _FileSender(_Chain):
    def __init__(self, sender: tpio.Socket, file: tpio.File, parts: Iterator[int]) -> None:
        super().__init__()
        self.sender = sender
        self.file = file
        self.parts = parts

    def begin(self) -> None:
        part = next(self.parts, None)
        if part is None:
            self.done.set_result(None)
        else:
            self.sender.sendfile(self.file, 0, part).add_done_callback(self.on_sent)

    def on_sent(self, future: tpio.Future[int]) -> None:
        try:
            future.result()
            self.begin()
        except BaseException as error:
            self.done.set_exception(error)


class _Calls(_Chain):
    def __init__(self, pool: tpio.Pool, calls: int) -> None:
        super().__init__(calls)
        self.pool = pool

    def begin(self) -> None:
        self.pool.submit(nothing).add_done_callback(self.on_called)

    def on_called(self, future: tpio.Future[None]) -> None:
        try:
            future.result()
            self.go_on()
        except BaseException as error:
            self.done.set_exception(error)


class _Directory(_Chain):
    """Makes a file, sees it among the changes, makes the next."""

    def __init__(self, watcher: tpio.Watcher, names: Iterator[str]) -> None:
        super().__init__()
        self.watcher = watcher
        self.names = names
        self.name: str | None = None

    def begin(self) -> None:
        self.watcher.changes().add_done_callback(self.on_changes)
        self.make()

    def make(self) -> None:
        self.name = next(self.names, None)
        if self.name is None:
            self.done.set_result(None)
        else:
            make_file(self.name)

    def on_changes(self, future: tpio.Future[list[tpio.Change]]) -> None:
        try:
            if future.cancelled():  # the watcher was closed
                return
            changes = future.result()
            self.watcher.changes().add_done_callback(self.on_changes)
            for change in changes:
                if change.kind == "created" and change.path == self.name:
                    self.make()
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
