"""anyio, through asyncio on tpio's loop; its cancel scopes follow tpio's rule for a cancel."""

from __future__ import annotations

import os
import sys
from functools import partial

import pytest
import scopes

import tpio
import tpio.aio
from support import WAIT

anyio = pytest.importorskip("anyio", reason="anyio is not installed: python dev.py frameworks")


def run(main):
    async def within():
        with anyio.fail_after(WAIT):
            return await main()

    return anyio.run(within, backend="asyncio", backend_options={"loop_factory": tpio.aio.EventLoop})


def test_tcp_streams():
    data = os.urandom(1_000_001)

    async def echo(stream):
        async with stream:
            async for chunk in stream:
                await stream.send(chunk)

    async def client(port):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            async with anyio.create_task_group() as group:
                group.start_soon(stream.send, data)
                got = bytearray()
                while len(got) < len(data):
                    got += await stream.receive()
            assert got == data

    async def main():
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with anyio.create_task_group() as clients:
                for _ in range(10):
                    clients.start_soon(client, port)
            group.cancel_scope.cancel()

    run(main)


def test_a_process():
    async def main():
        ended = await anyio.run_process([sys.executable, "-c", "print(input().upper())"], input=b"hello")
        assert ended.stdout.strip() == b"HELLO"

    run(main)


def test_a_cancel_scope_ends_a_read_and_nothing_is_lost():
    run(partial(scopes.end_reads_that_lose_nothing, anyio.move_on_after, lambda future: future))
