"""HTTP: aiohttp's server and client, and uvicorn with httptools, as its command line starts it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import subprocess
import sys

import pytest

from support import WAIT
from tpio import aio

aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed: python dev.py frameworks")
from aiohttp import web  # noqa: E402

HERE = os.path.dirname(__file__)
CLIENTS = 32
BODY = os.urandom(3_000_001)


def run(main):
    return aio.run(asyncio.wait_for(main, WAIT))


@contextlib.asynccontextmanager
async def aiohttp_server():
    """Its address."""

    async def hello(request):
        return web.Response(text=f"hello {request.query.get('name', '')}")

    async def echo(request):
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError):  # the client has given up
            async for chunk in request.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
        return response

    async def shout(request):
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for message in websocket:
            await websocket.send_str(message.data.upper())
        return websocket

    application = web.Application(client_max_size=1 << 30)
    application.add_routes([web.get("/", hello), web.post("/", echo), web.get("/shout", shout)])
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def test_aiohttp_serves_many_aiohttp_clients():
    async def ask(session, url, number):
        async with session.get(url, params={"name": number}) as response:
            assert response.status == 200
            return await response.text()

    async def main():
        async with aiohttp_server() as url, aiohttp.ClientSession() as session:
            for _ in range(5):
                answers = await asyncio.gather(*(ask(session, url, number) for number in range(CLIENTS)))
                assert answers == [f"hello {number}" for number in range(CLIENTS)]

    run(main())


def test_aiohttp_streams_a_body_to_and_fro():
    async def main():
        async with aiohttp_server() as url, aiohttp.ClientSession() as session:
            async with session.post(url, data=io.BytesIO(BODY)) as response:
                assert await response.read() == BODY

    run(main())


def test_aiohttp_websocket():
    async def main():
        async with aiohttp_server() as url, aiohttp.ClientSession() as session:
            async with session.ws_connect(f"{url}/shout") as websocket:
                for number in range(100):
                    await websocket.send_str(f"message {number}")
                    assert await websocket.receive_str() == f"MESSAGE {number}"

    run(main())


def test_aiohttp_clients_that_give_up_do_not_disturb_the_others():
    async def main():
        async with aiohttp_server() as url, aiohttp.ClientSession() as session:

            async def body(begun):
                for at in range(0, len(BODY), 65536):
                    yield BODY[at : at + 65536]
                    begun.set()

            async def upload(begun):
                async with session.post(url, data=body(begun)) as response:
                    return await response.read() == BODY

            for _ in range(5):
                begun = [asyncio.Event() for _ in range(4)]
                uploads = [asyncio.create_task(upload(each)) for each in begun]
                await asyncio.gather(*(each.wait() for each in begun))
                for task in uploads[::2]:
                    task.cancel()
                results = await asyncio.gather(*uploads, return_exceptions=True)
                assert results[1::2] == [True, True]
            async with session.get(url) as response:
                assert response.status == 200

    run(main())


@contextlib.contextmanager
def uvicorn_process():
    """Its address."""
    command = [sys.executable, "-m", "uvicorn", "hello:app", "--loop", "tpio.aio:EventLoop", "--http", "httptools"]
    command += ["--port", "0", "--app-dir", HERE, "--no-access-log", "--no-use-colors"]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    with server:
        try:
            said = []
            for line in server.stderr:
                said.append(line)
                if running := re.search(r"running on (http://[\d.:]+)", line):
                    yield running[1]
                    return
            pytest.fail(f"uvicorn does not start: {''.join(said)}")
        finally:
            server.kill()


def test_uvicorn_from_its_command_line():
    pytest.importorskip("uvicorn", reason="uvicorn is not installed: python dev.py frameworks")
    pytest.importorskip("httptools", reason="httptools is not installed: python dev.py frameworks")

    async def main(url):
        async with aiohttp.ClientSession() as session:

            async def ask():
                async with session.get(url) as response:
                    return await response.text()

            assert set(await asyncio.gather(*(ask() for _ in range(CLIENTS)))) == {"hello from tpio.aio.EventLoop"}
            async with session.post(url, data=io.BytesIO(BODY)) as response:
                assert await response.read() == BODY

    with uvicorn_process() as url:
        run(main(url))


def test_uvicorn_ends_when_told_with_clients_connected(monkeypatch):
    uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed: python dev.py frameworks")
    monkeypatch.syspath_prepend(HERE)

    async def main():
        configuration = uvicorn.Config(
            "hello:app", port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=5
        )
        started = asyncio.Event()

        class Server(uvicorn.Server):
            async def startup(self, sockets=None):
                await super().startup(sockets=sockets)
                started.set()

        server = Server(configuration)
        serving = asyncio.create_task(server._serve())
        await started.wait()
        port = server.servers[0].sockets[0].getsockname()[1]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}") as response:
                assert await response.text() == "hello from tpio.aio.EventLoop"
            server.should_exit = True  # the client's connection is kept alive meanwhile
            await serving

    run(main())
