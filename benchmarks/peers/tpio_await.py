"""tpio awaited, on tpio's own event loop or under asyncio's default one."""

from __future__ import annotations

from typing import Any

import tpio

from ..rows import places
from .asyncio_loops import _OnLoop, timed
from .base import expect
from .tpio_ends import End, pipe_ends, tcp_ends, udp_sockets


class TpioAwait(_OnLoop):
    def tcp_ping(self, turns: int, size: int) -> float:
        with tcp_ends() as (near, far):
            return self._run(_ping(near, far, turns, size))

    def pipe_ping(self, turns: int, size: int) -> float:
        with pipe_ends() as (near, far):
            return self._run(_ping(near, far, turns, size))

    def pipe_bulk(self, blocks: int, size: int) -> float:
        reader, writer = tpio.pipe()

        async def send() -> None:
            block = bytes(size)
            for _ in range(blocks):
                await writer.write(block)

        async def receive() -> None:
            left = blocks * size
            while left:
                left -= len(await reader.read(size))

        with reader, writer:
            return self._run(timed(send(), receive()))

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
                await end.send_to(message, peer)
                expect((await end.recv_from(size))[0], size)

        async def answer(end: tpio.Socket) -> None:
            for _ in range(turns):
                message, sender = await end.recv_from(size)
                expect(message, size)
                await end.send_to(message, sender)

        with udp_sockets() as (near, far):
            return self._run(timed(call(near, far.getsockname()), answer(far)))


async def _ping(near: End, far: End, turns: int, size: int) -> float:
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

    return await timed(call(), answer())
