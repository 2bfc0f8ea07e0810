"""tpio awaited, on tpio's own event loop or under asyncio's default one."""

from __future__ import annotations

import socket
from collections.abc import Coroutine
from time import perf_counter
from typing import Any

import tpio

from ..rows import places
from .asyncio_loops import _OnLoop, timed
from .base import CHILD, Waker, expect, listener, shares, tcp_connection
from .tpio_ends import End, pipe_ends, relayed, tcp_ends, udp_sockets


class TpioAwait(_OnLoop):
    def tcp_ping(self, turns: int, size: int) -> float:
        return self.pings(turns, size, 1)

    def pings(self, turns: int, size: int, connections: int) -> float:
        async def main() -> float:
            halves = [
                half
                for (near, far), share in zip(ends, shares(turns, connections), strict=True)
                for half in _halves(near, far, share, size)
            ]
            return await timed(*halves)

        with tcp_ends(connections) as ends:
            return self._run(main())

    def wake_ups(self, turns: int) -> float:
        async def main() -> float:
            waker = Waker(far, turns)
            took = 0.0
            for _ in range(turns):
                future = end.recv(1)
                waker.begun()
                await future
                took += perf_counter() - waker.sent_at
            return took

        with tcp_connection() as (near, far), tpio.Socket(sock=near) as end:
            return self._run(main())

    def accepts(self, connections: int) -> float:
        async def main() -> float:
            address = ours.getsockname()
            began = perf_counter()
            for _ in range(connections):
                accepting = ours.accept()
                with socket.create_connection(address), (await accepting)[0]:
                    pass
            return perf_counter() - began

        with listener() as listening, tpio.Socket(sock=listening) as ours:
            return self._run(main())

    def spawns(self, children: int) -> float:
        async def main() -> float:
            began = perf_counter()
            for _ in range(children):
                child = tpio.spawn(CHILD, stdout=tpio.PIPE)
                expect((await child.communicate())[0].strip(), 5)
            return perf_counter() - began

        return self._run(main())

    def pipe_ping(self, turns: int, size: int) -> float:
        with pipe_ends() as (near, far):
            return self._run(timed(*_halves(near, far, turns, size)))

    def pipe_bulk(self, blocks: int, size: int) -> float:
        reader, writer = tpio.pipe()

        async def send() -> None:
            block = bytes(size)
            for _ in range(blocks):
                await writer.write(block)

        async def receive() -> None:
            left = blocks * size
            buffer = bytearray(size)
            while left:
                left -= await reader.read_into(buffer)

        with reader, writer:
            return self._run(timed(send(), receive()))

    def relay(self, blocks: int, size: int) -> float:
        async def main(reader: tpio.Handle, sink: tpio.Socket) -> None:
            left = blocks * size
            block = memoryview(bytearray(size))
            while left:
                count = await reader.read_into(block)
                left -= await sink.send(block[:count])

        return relayed(blocks, size, lambda reader, sink: self._run(timed(main(reader, sink))))

    def file_reads(self, reads: int, size: int, depth: int, path: str) -> float:
        async def read(offsets: list[int]) -> None:
            for offset in offsets:
                expect(await file.read(size, offset), size)

        with tpio.open(path) as file:
            return self._run(timed(*(read(places(slot, reads, size, depth)) for slot in range(depth))))

    def udp_ping(self, turns: int, size: int) -> float:
        async def call(end: tpio.Socket, peer: Any) -> None:
            message = bytes(size)
            for _ in range(turns):
                await end.sendto(message, peer)
                expect((await end.recvfrom(size))[0], size)

        async def answer(end: tpio.Socket) -> None:
            for _ in range(turns):
                message, sender = await end.recvfrom(size)
                expect(message, size)
                await end.sendto(message, sender)

        with udp_sockets() as (near, far):
            return self._run(timed(call(near, far.getsockname()), answer(far)))


def _halves(near: End, far: End, turns: int, size: int) -> tuple[Coroutine[Any, Any, None], Coroutine[Any, Any, None]]:
    async def call() -> None:
        reader, writer = near
        message = bytes(size)
        for _ in range(turns):
            await writer.write(message)
            expect(await reader.read(size), size)

    async def answer() -> None:
        reader, writer = far
        for _ in range(turns):
            received = await reader.read(size)
            expect(received, size)
            await writer.write(received)

    return call(), answer()
