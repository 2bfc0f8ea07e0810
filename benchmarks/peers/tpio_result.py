"""tpio with threads that block in result()."""

from __future__ import annotations

import socket
from collections import deque
from itertools import islice
from time import perf_counter

import tpio

from ..rows import places
from .base import (
    CHILD,
    PATIENCE,
    THREADS,
    Peer,
    Waker,
    events,
    expect,
    import_time,
    in_threads,
    listener,
    set_event,
    submit_and_wait,
    tcp_connection,
    waves,
)
from .tpio_ends import End, pipe_ends, tcp_ends, udp_sockets


class TpioResult(Peer):
    name = "tpio, result()"

    def tcp_ping(self, turns: int, size: int) -> float:
        with tcp_ends(1) as [(near, far)]:
            return _ping(near, far, turns, size)

    def wake_ups(self, turns: int) -> float:
        with tcp_connection() as (near, far), tpio.Socket(sock=near) as end:
            waker = Waker(far, turns)
            took = 0.0
            for _ in range(turns):
                future = end.recv(1)
                waker.begun()
                future.result(PATIENCE)
                took += perf_counter() - waker.sent_at
            return took

    def accepts(self, connections: int) -> float:
        with listener() as listening, tpio.Socket(sock=listening) as ours:
            address = ours.getsockname()
            began = perf_counter()
            for _ in range(connections):
                accepting = ours.accept()
                with socket.create_connection(address), accepting.result(PATIENCE)[0]:
                    pass
            return perf_counter() - began

    def spawns(self, children: int) -> float:
        began = perf_counter()
        for _ in range(children):
            child = tpio.spawn(CHILD, stdout=tpio.PIPE)
            expect(child.communicate().result(PATIENCE)[0].strip(), 5)
        return perf_counter() - began

    def imports(self, times: int) -> float:
        return sum(import_time("tpio") for _ in range(times))

    def pipe_ping(self, turns: int, size: int) -> float:
        with pipe_ends() as (near, far):
            return _ping(near, far, turns, size)

    def pipe_bulk(self, blocks: int, size: int) -> float:
        reader, writer = tpio.pipe()

        def send() -> None:
            block = bytes(size)
            for _ in range(blocks):
                writer.write(block).result()

        def receive() -> None:
            left = blocks * size
            buffer = bytearray(size)
            while left:
                left -= reader.read_into(buffer).result()

        with reader, writer:
            return in_threads(send, receive)

    def file_reads(self, reads: int, size: int, depth: int, path: str) -> float:
        """One thread for all: it waits for the oldest read, then begins another."""
        offsets = iter(places(0, reads, size, 1))
        with tpio.open(path) as file:
            began = perf_counter()
            in_flight = deque(file.read(size, offset) for offset in islice(offsets, depth))
            while in_flight:
                expect(in_flight.popleft().result(PATIENCE), size)
                if (offset := next(offsets, None)) is not None:
                    in_flight.append(file.read(size, offset))
            return perf_counter() - began

    def udp_ping(self, turns: int, size: int) -> float:
        with udp_sockets() as (near, far):
            peer = far.getsockname()

            def call() -> None:
                message = bytes(size)
                for _ in range(turns):
                    near.sendto(message, peer).result()
                    expect(near.recvfrom(size).result()[0], size)

            def answer() -> None:
                for _ in range(turns):
                    message, sender = far.recvfrom(size).result()
                    expect(message, size)
                    far.sendto(message, sender).result()

            return in_threads(call, answer)

    def functions(self, calls: int, depth: int) -> float:
        with tpio.Pool(max_threads=THREADS) as pool:
            return submit_and_wait(pool, calls, depth)

    def waits(self, waits: int, together: int) -> float:
        with events(together) as handles:
            began = perf_counter()
            for wave in waves(waits, together):
                waiting = [tpio.wait_for_handle(handle) for handle in handles[:wave]]
                for handle in handles[:wave]:
                    set_event(handle)
                for future in waiting:
                    future.result(PATIENCE)
            return perf_counter() - began


def _ping(near: End, far: End, turns: int, size: int) -> float:
    def call() -> None:
        reader, writer = near
        message = bytes(size)
        for _ in range(turns):
            writer.write(message).result()
            expect(reader.read(size).result(), size)

    def answer() -> None:
        reader, writer = far
        for _ in range(turns):
            received = reader.read(size).result()
            expect(received, size)
            writer.write(received).result()

    return in_threads(call, answer)
