"""asyncio's own ways, on any of its loops."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import msvcrt
import socket
from asyncio.windows_utils import PipeHandle, pipe
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

from ..rows import parts_of_file, places
from .base import (
    CHILD,
    LATER,
    PATIENCE,
    THREADS,
    Peer,
    Receiver,
    Waker,
    events,
    expect,
    filled,
    import_time,
    listener,
    nothing,
    set_event,
    shares,
    tcp_connection,
    tcp_connections,
    udp_ends,
    waves,
)
from .threads import open_file, read_at

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class _OnLoop(Peer):
    def __init__(self, name: str, loop_factory: LoopFactory | None = None, cannot: Collection[str] = ()) -> None:
        self.name = name
        self.cannot = cannot
        self._loop_factory = loop_factory

    def _run(self, main: Coroutine[Any, Any, float]) -> float:
        return run(main, self._loop_factory)


def run(main: Coroutine[Any, Any, float], loop_factory: LoopFactory | None = None) -> float:
    """Under asyncio's default loop unless told otherwise."""

    async def within_bounds() -> float:
        async with asyncio.timeout(PATIENCE):
            return await main

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(within_bounds())


async def timed(*tasks: Coroutine[Any, Any, None]) -> float:
    began = perf_counter()
    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(task)
    return perf_counter() - began


class AsyncioStreams(_OnLoop):
    """StreamReader and StreamWriter, over sockets and over pipes."""

    def tcp_ping(self, turns: int, size: int) -> float:
        async def main() -> float:
            with tcp_connection() as (near_socket, far_socket):
                near = await asyncio.open_connection(sock=near_socket)
                far = await asyncio.open_connection(sock=far_socket)
                took = await timed(_call(near, turns, size), _answer(far, turns, size))
                for _, writer in (near, far):
                    writer.close()
                    await writer.wait_closed()
                return took

        return self._run(main())

    def pipe_ping(self, turns: int, size: int) -> float:
        async def main() -> float:
            async with _pipe_streams() as (near_reader, far_writer), _pipe_streams() as (far_reader, near_writer):
                return await timed(
                    _call((near_reader, near_writer), turns, size), _answer((far_reader, far_writer), turns, size)
                )

        return self._run(main())

    def pipe_bulk(self, blocks: int, size: int) -> float:
        async def send(writer: asyncio.StreamWriter) -> None:
            block = bytes(size)
            for _ in range(blocks):
                writer.write(block)
                await writer.drain()

        async def receive(reader: asyncio.StreamReader) -> None:
            left = blocks * size
            while left:
                data = await reader.read(size)
                left -= len(data)

        async def main() -> float:
            async with _pipe_streams() as (reader, writer):
                return await timed(send(writer), receive(reader))

        return self._run(main())

    def relay(self, blocks: int, size: int) -> float:
        async def main() -> float:
            read_end, write_end = pipe(duplex=True, overlapped=(True, False))
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, PipeHandle(read_end))
            with (
                io.FileIO(msvcrt.open_osfhandle(write_end, 0), "wb") as written,
                tcp_connection() as (near, far),
            ):
                _, writer = await asyncio.open_connection(sock=near)
                receiver = Receiver(far, blocks * size)
                left = blocks * size
                began = perf_counter()
                with filled(written.write, blocks, size):
                    while left:
                        data = await reader.read(size)
                        writer.write(data)
                        await writer.drain()
                        left -= len(data)
                    took = await asyncio.to_thread(receiver.ended) - began
                writer.close()
                transport.close()
                await writer.wait_closed()
                return took

        return self._run(main())


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _call(streams: Streams, turns: int, size: int) -> None:
    reader, writer = streams
    message = bytes(size)
    for _ in range(turns):
        writer.write(message)
        await writer.drain()
        await reader.readexactly(size)


async def _answer(streams: Streams, turns: int, size: int) -> None:
    reader, writer = streams
    for _ in range(turns):
        writer.write(await reader.readexactly(size))
        await writer.drain()


@contextlib.asynccontextmanager
async def _pipe_streams() -> AsyncIterator[Streams]:
    """The ends of one pipe. Duplex, as in asyncio.subprocess: the loop learns of a closed end by reading."""
    loop = asyncio.get_running_loop()
    read_end, write_end = map(PipeHandle, pipe(duplex=True, overlapped=(True, True)))
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    read_transport, _ = await loop.connect_read_pipe(lambda: protocol, read_end)
    write_transport, _ = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, write_end)
    try:
        yield reader, asyncio.StreamWriter(write_transport, protocol, None, loop)
    finally:
        write_transport.abort()
        read_transport.close()
        await asyncio.sleep(0)


class AsyncioSockets(_OnLoop):
    """loop.sock_recv and loop.sock_sendall."""

    def tcp_ping(self, turns: int, size: int) -> float:
        async def main() -> float:
            loop = asyncio.get_running_loop()
            message = bytes(size)

            async def call() -> None:
                for _ in range(turns):
                    await loop.sock_sendall(near, message)
                    expect(await loop.sock_recv(near, size), size)

            async def answer() -> None:
                for _ in range(turns):
                    received = await loop.sock_recv(far, size)
                    expect(received, size)
                    await loop.sock_sendall(far, received)

            with tcp_connection() as (near, far):
                near.setblocking(False)
                far.setblocking(False)
                return await timed(call(), answer())

        return self._run(main())

    def pings(self, turns: int, size: int, connections: int) -> float:
        async def main() -> float:
            loop = asyncio.get_running_loop()
            message = bytes(size)

            async def call(near: socket.socket, share: int) -> None:
                for _ in range(share):
                    await loop.sock_sendall(near, message)
                    expect(await loop.sock_recv(near, size), size)

            async def answer(far: socket.socket, share: int) -> None:
                for _ in range(share):
                    received = await loop.sock_recv(far, size)
                    expect(received, size)
                    await loop.sock_sendall(far, received)

            halves = []
            for (near, far), share in zip(ends, shares(turns, connections), strict=True):
                near.setblocking(False)
                far.setblocking(False)
                halves += [call(near, share), answer(far, share)]
            return await timed(*halves)

        with tcp_connections(connections) as ends:
            return self._run(main())

    def wake_ups(self, turns: int) -> float:
        async def main() -> float:
            loop = asyncio.get_running_loop()
            near.setblocking(False)
            waker = Waker(far, turns)
            took = 0.0
            for _ in range(turns):
                waker.begun()
                await loop.sock_recv(near, 1)
                took += perf_counter() - waker.sent_at
            return took

        with tcp_connection() as (near, far):
            return self._run(main())

    def accepts(self, connections: int) -> float:
        async def main() -> float:
            loop = asyncio.get_running_loop()
            listening.setblocking(False)
            address = listening.getsockname()
            began = perf_counter()
            for _ in range(connections):
                with socket.create_connection(address), (await loop.sock_accept(listening))[0]:
                    pass
            return perf_counter() - began

        with listener() as listening:
            return self._run(main())

    def udp_ping(self, turns: int, size: int) -> float:
        async def main() -> float:
            loop = asyncio.get_running_loop()

            async def call() -> None:
                message = bytes(size)
                for _ in range(turns):
                    await loop.sock_sendto(near, message, peer)
                    expect((await loop.sock_recvfrom(near, size))[0], size)

            async def answer() -> None:
                for _ in range(turns):
                    message, sender = await loop.sock_recvfrom(far, size)
                    expect(message, size)
                    await loop.sock_sendto(far, message, sender)

            with udp_ends() as (near, far):
                peer = far.getsockname()
                near.setblocking(False)
                far.setblocking(False)
                return await timed(call(), answer())

        return self._run(main())

    def send_file(self, blocks: int, size: int, path: str) -> float:
        total = blocks * size

        async def main() -> float:
            loop = asyncio.get_running_loop()
            near.setblocking(False)
            receiver = Receiver(far, total)
            began = perf_counter()
            for part in parts_of_file(total):
                await loop.sock_sendfile(near, file, 0, part)
            return await loop.run_in_executor(None, receiver.ended) - began

        with tcp_connection() as (near, far), open(path, "rb", buffering=0) as file:
            return self._run(main())


class AsyncioLoop(_OnLoop):
    """What the loop has beside I/O on sockets and pipes."""

    def spawns(self, children: int) -> float:
        async def main() -> float:
            began = perf_counter()
            for _ in range(children):
                child = await asyncio.create_subprocess_exec(*CHILD, stdout=asyncio.subprocess.PIPE)
                expect((await child.communicate())[0].strip(), 5)
            return perf_counter() - began

        return self._run(main())

    def imports(self, times: int) -> float:
        return sum(import_time("asyncio") for _ in range(times))

    def timers_kept(self, timers: int, pending: int) -> float:
        async def main() -> float:
            loop = asyncio.get_running_loop()
            kept = [loop.call_later(LATER + number, nothing) for number in range(pending)]
            began = perf_counter()
            for _ in range(timers):
                loop.call_later(LATER, nothing).cancel()
            took = perf_counter() - began
            for timer in kept:
                timer.cancel()
            return took

        return self._run(main())

    def timers_fired(self, timers: int) -> float:
        async def main() -> float:
            loop = asyncio.get_running_loop()
            left = itertools.count(timers - 1, -1)
            over = loop.create_future()

            def fired() -> None:
                if next(left) == 0:
                    over.set_result(None)

            began = perf_counter()
            for _ in range(timers):
                loop.call_later(0, fired)
            await over
            return perf_counter() - began

        return self._run(main())

    def waits(self, waits: int, together: int) -> float:
        """The proactor's wait_for_handle, which asyncio itself uses for processes."""

        async def main() -> float:
            wait_for_handle: Any = asyncio.get_running_loop()._proactor.wait_for_handle  # type: ignore[attr-defined]
            began = perf_counter()
            for wave in waves(waits, together):
                waiting = [wait_for_handle(handle) for handle in handles[:wave]]
                for handle in handles[:wave]:
                    set_event(handle)
                for future in waiting:
                    await future
            return perf_counter() - began

        with events(together) as handles:
            return self._run(main())


class AsyncioExecutor(_OnLoop):
    """For files asyncio has nothing but threads."""

    def functions(self, calls: int, depth: int) -> float:
        async def main() -> float:
            loop = asyncio.get_running_loop()
            left = iter(range(calls))

            async def call() -> None:
                for _ in left:
                    await loop.run_in_executor(executor, nothing)

            with ThreadPoolExecutor(THREADS) as executor:
                return await timed(*(call() for _ in range(depth)))

        return self._run(main())

    def file_reads(self, reads: int, size: int, depth: int, path: str) -> float:
        async def main() -> float:
            loop = asyncio.get_running_loop()

            async def read(file: int, offsets: list[int]) -> None:
                for offset in offsets:
                    expect(await loop.run_in_executor(executor, read_at, file, size, offset), size)

            with ThreadPoolExecutor(depth) as executor, contextlib.ExitStack() as stack:
                files = [stack.enter_context(open_file(path)) for _ in range(depth)]
                return await timed(*(read(file, places(slot, reads, size, depth)) for slot, file in enumerate(files)))

        return self._run(main())
