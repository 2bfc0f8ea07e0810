"""The websockets library: server and clients."""

from __future__ import annotations

import asyncio
import os

import pytest

from support import WAIT
from tpio import aio

websockets = pytest.importorskip("websockets", reason="websockets is not installed: python dev.py frameworks")
from websockets.asyncio.client import connect  # noqa: E402
from websockets.asyncio.server import serve  # noqa: E402

CLIENTS = 20


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


def run(main):
    return aio.run(asyncio.wait_for(main, WAIT))


def address(server):
    return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def test_many_clients_and_messages_of_all_sizes():
    async def talk(url, number):
        async with connect(url, compression=None, max_size=None) as websocket:
            for size in (0, 1, 125, 126, 65_536, 300_000):
                message = os.urandom(size)
                await websocket.send(message)
                assert await websocket.recv() == message
            await websocket.send(f"text of {number}")
            assert await websocket.recv() == f"text of {number}"

    async def main():
        async with serve(echo, "127.0.0.1", 0, compression=None, max_size=None) as server:
            await asyncio.gather(*(talk(address(server), number) for number in range(CLIENTS)))

    run(main())


def test_a_client_that_vanishes_and_a_server_that_closes():
    async def main():
        async with serve(echo, "127.0.0.1", 0) as server:
            gone = await connect(address(server))
            gone.transport.abort()
            async with connect(address(server)) as websocket:
                await websocket.send("still here")
                assert await websocket.recv() == "still here"
                server.close()
                with pytest.raises(websockets.exceptions.ConnectionClosed):
                    await websocket.recv()
            await gone.wait_closed()

    run(main())
