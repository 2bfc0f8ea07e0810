"""Tasks of an asyncio loop, of the stock one and of tpio."""

from __future__ import annotations

import asyncio
import random
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import tpio

from .base import WAIT, Flow, flows, pick_size, tally


async def _receive_impatiently(chance: random.Random, end: tpio.Handle, flow: Flow) -> None:
    """Every cancelled await leaves what it would have got to the next."""
    while True:
        try:
            async with asyncio.timeout(chance.choice((0, 0.0001, 0.001, 0.01, None))):
                if chance.random() < 0.7:
                    data = await end.read(pick_size(chance))
                else:
                    into = bytearray(pick_size(chance))
                    data = bytes(into[: await end.read_into(into)])
        except TimeoutError:
            continue
        if not data:
            return
        flow.check(data)


async def _exchange(chance: random.Random, write: tpio.Handle, read: tpio.Handle, close: Any) -> None:
    outgoing, incoming = flows(chance)
    total = chance.choice((0, 1, 30000, 300000))
    receiver = asyncio.create_task(_receive_impatiently(chance, read, incoming))
    left = total
    while left:
        size = min(pick_size(chance), left)
        assert await write.write(outgoing.take(size)) == size
        left -= size
    close()
    await asyncio.wait_for(receiver, WAIT)
    assert incoming.at == outgoing.at, f"{outgoing.at - incoming.at} of {total} bytes are missing"


async def pipe_tasks(chance: random.Random) -> None:
    read, write = tpio.pipe()
    with read, write:
        await _exchange(chance, write, read, write.close)


async def tcp_tasks(chance: random.Random) -> None:
    with tpio.listen(("127.0.0.1", 0)) as listener:
        client = await tpio.open_connection(listener.getsockname(), timeout=WAIT)
        server = None
        while server is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(chance.choice((0, 0.001, None))):
                    server, _ = await listener.accept()
    with client, server:
        await _exchange(chance, client, server, lambda: client.shutdown(socket.SHUT_WR))


async def timer_tasks(chance: random.Random) -> None:
    async def nap(length: float) -> None:
        began = time.perf_counter()
        await tpio.sleep(length)
        assert time.perf_counter() - began >= length

    naps = [asyncio.create_task(nap(chance.random() * 0.1)) for _ in range(chance.randint(1, 20))]
    for task in chance.sample(naps, len(naps) // 3):
        task.cancel()
    results = await asyncio.gather(*naps, return_exceptions=True)
    for result in results:
        if result is not None and not isinstance(result, asyncio.CancelledError):
            raise result


async def function_tasks(chance: random.Random) -> None:
    results = await asyncio.gather(*(tpio.default_pool().submit(pow, 3, i) for i in range(20)))
    assert results == [3**i for i in range(20)]


# ---- what asyncio itself does, on tpio's proactor


async def stream_tasks(chance: random.Random) -> None:
    """A server and a client of asyncio's streams; some connections are aborted in the middle."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):  # the client is gone
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        served.set()

    served = asyncio.Event()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    outgoing, incoming = flows(chance)
    total = chance.choice((1, 5000, 200_000))
    writer.write(outgoing.take(total))
    if chance.random() < 0.3:
        writer.transport.abort()
    else:
        while incoming.at < outgoing.at:
            data = await asyncio.wait_for(reader.read(65536), WAIT)
            assert data, f"the end, {outgoing.at - incoming.at} bytes too early"
            incoming.check(data)
        writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    await asyncio.wait_for(served.wait(), WAIT)
    server.close()
    await server.wait_closed()


class Receiver(asyncio.DatagramProtocol):
    """Not inside the task: free-threaded 3.13 never frees a class."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.came.put_nowait(data)


async def endpoint_tasks(chance: random.Random) -> None:
    """Datagrams through asyncio's endpoints, one at a time."""

    loop = asyncio.get_running_loop()
    receiving, receiver = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
    sending, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=receiving.get_extra_info("sockname")
    )
    for _ in range(chance.randint(1, 10)):
        data = chance.randbytes(chance.choice((1, 100, 1400)))
        sending.sendto(data)
        assert await asyncio.wait_for(receiver.came.get(), WAIT) == data
        tally.moved(len(data))
    receiving.close()
    sending.close()


_one_child = threading.Semaphore(1)
_ECHO = "import os\nwhile data := os.read(0, 65536): os.write(1, data)"


async def child_tasks(chance: random.Random) -> None:
    if chance.random() < 0.8 or not _one_child.acquire(blocking=False):
        await asyncio.sleep(0)
        return
    try:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _ECHO), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        if chance.random() < 0.5:
            child.kill()
            await asyncio.wait_for(child.wait(), WAIT)
            await child.communicate()
        else:
            outgoing, incoming = flows(chance)
            out, _ = await asyncio.wait_for(child.communicate(outgoing.take(pick_size(chance))), WAIT)
            incoming.check(out)
            assert incoming.at == outgoing.at
            assert child.returncode == 0
    finally:
        _one_child.release()
