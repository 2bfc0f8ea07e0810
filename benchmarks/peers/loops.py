"""The same program of asyncio streams on one loop or another; both ends of every connection are on it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any

from .asyncio_loops import Streams, _call, _OnLoop, timed

CHILD = """
import os, sys
block = bytes(int(sys.argv[2]))
sys.stdin.buffer.readline()
for _ in range(int(sys.argv[1])):
    os.write(1, block)
"""


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


class LoopStreams(_OnLoop):
    """asyncio's documented ways, but for named pipes, which it has no documented ones for."""

    def streams_echo(self, messages: int, size: int, connections: int) -> float:
        async def main() -> float:
            server = await asyncio.start_server(_echo, "127.0.0.1", 0, backlog=1024)
            address = server.sockets[0].getsockname()
            clients: list[Streams] = [await asyncio.open_connection(*address) for _ in range(connections)]
            try:
                await timed(*(_call(client, 1, size) for client in clients))
                shares = [messages // connections + (number < messages % connections) for number in range(connections)]
                return await timed(*(_call(client, share, size) for client, share in zip(clients, shares, strict=True)))
            finally:
                for _, writer in clients:
                    writer.close()
                server.close()
                await asyncio.sleep(0.05)  # for the server's ends to see it

        return self._run(main())

    def child_output(self, blocks: int, size: int) -> float:
        async def main() -> float:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", CHILD, str(blocks), str(size)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(b"begin\n")
            left = blocks * size
            left -= len(await child.stdout.read(size))  # the child has started
            began = perf_counter()
            while data := await child.stdout.read(1 << 18):
                left -= len(data)
            took = perf_counter() - began
            await child.wait()
            child.stdin.close()
            if left:
                raise EOFError(f"{left} bytes have not come")
            return took

        return self._run(main())

    def named_pipe_echo(self, turns: int, size: int) -> float:
        async def main() -> float:
            async with self._named_pipe() as client:
                return await timed(_call(client, turns, size))

        return self._run(main())

    @contextlib.asynccontextmanager
    async def _named_pipe(self) -> AsyncIterator[Streams]:
        loop: Any = asyncio.get_running_loop()
        name = rf"\\.\pipe\tpio-bench-{secrets.token_hex(8)}"

        def served() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(), _echo)

        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        if isinstance(loop, asyncio.ProactorEventLoop):
            [server] = await loop.start_serving_pipe(served, name)
            transport, _ = await loop.create_pipe_connection(lambda: protocol, name)
        else:  # libuv's sockets of the Unix kind are named pipes here
            server = await loop.create_unix_server(served, name)
            transport, _ = await loop.create_unix_connection(lambda: protocol, name)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            yield reader, writer
        finally:
            writer.close()
            server.close()
            await asyncio.sleep(0.05)
