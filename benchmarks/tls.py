"""python -m benchmarks.tls: clients of TLS, tpio.tls and asyncio's streams with ssl, in turns against the same server.

The server is a process of its own, threads with Python's ssl. TLS 1.2 for both, as Wine's Schannel has nothing newer.
"""

from __future__ import annotations

import asyncio
import pathlib
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import tpio.tls

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))
import pki

ROUNDS = 9
BLOCK = 1 << 20
PIECE = 1 << 16


# ---- the server


def serve(certificate: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    print(listener.getsockname()[1], flush=True)
    while True:
        threading.Thread(target=answer, args=(context, listener.accept()[0]), daemon=True).start()


def answer(context: ssl.SSLContext, raw: socket.socket) -> None:
    """The first byte says what is wanted: to be sent, to send, or to talk."""
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    block = bytes(BLOCK)
    try:
        with context.wrap_socket(raw, server_side=True) as connection:
            while order := connection.recv(5):
                blocks = int.from_bytes(order[1:], "big")
                if order[:1] == b"D":
                    for _ in range(blocks):
                        connection.sendall(block)
                elif order[:1] == b"U":
                    left = blocks * BLOCK
                    while left:
                        left -= len(connection.recv(PIECE))
                    connection.sendall(b"!")
                else:
                    for _ in range(blocks):
                        connection.sendall(connection.recv(100))
    except OSError:
        pass


# ---- the clients: connect, and then read, write, close


class OfTpio:
    name = "tpio.tls"

    def __init__(self, ca: bytes) -> None:
        self.context = tpio.tls.Context(cadata=ca)

    async def connect(self, port: int) -> None:
        self.stream = await tpio.tls.connect(("127.0.0.1", port), server_hostname="localhost", context=self.context)

    async def read(self, n: int) -> bytes:
        return await self.stream.read(n)

    async def write(self, data: bytes) -> None:
        await self.stream.write(data)

    async def close(self) -> None:
        self.stream.close()


class OfAsyncio:
    name = "asyncio, ssl"

    def __init__(self, ca: bytes) -> None:
        self.context = ssl.create_default_context(cadata=ca.decode())

    async def connect(self, port: int) -> None:
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=self.context, server_hostname="localhost"
        )

    async def read(self, n: int) -> bytes:
        return await self.reader.read(n)

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def close(self) -> None:
        self.writer.close()


Client = OfTpio | OfAsyncio


async def handshakes(client: Client, port: int) -> tuple[float, str]:
    count = 30
    start = time.perf_counter()
    for _ in range(count):
        await client.connect(port)
        await client.close()
    return count / (time.perf_counter() - start), "/s"


async def download(client: Client, port: int) -> tuple[float, str]:
    blocks = 32
    await client.connect(port)
    start = time.perf_counter()
    await client.write(b"D" + blocks.to_bytes(4, "big"))
    left = blocks * BLOCK
    while left:
        left -= len(await client.read(PIECE))
    elapsed = time.perf_counter() - start
    await client.close()
    return blocks / elapsed, "MiB/s"


async def upload(client: Client, port: int) -> tuple[float, str]:
    blocks, block = 32, bytes(BLOCK)
    await client.connect(port)
    start = time.perf_counter()
    await client.write(b"U" + blocks.to_bytes(4, "big"))
    for _ in range(blocks):
        await client.write(block)
    await client.read(1)
    elapsed = time.perf_counter() - start
    await client.close()
    return blocks / elapsed, "MiB/s"


async def round_trips(client: Client, port: int) -> tuple[float, str]:
    count = 500
    await client.connect(port)
    start = time.perf_counter()
    await client.write(b"T" + count.to_bytes(4, "big"))
    for _ in range(count):
        await client.write(b"x" * 100)
        got = 0
        while got < 100:
            got += len(await client.read(100 - got))
    elapsed = time.perf_counter() - start
    await client.close()
    return count / elapsed, "/s"


ROWS: dict[str, Callable[[Any, int], Awaitable[tuple[float, str]]]] = {
    "handshakes, full": handshakes,
    "download": download,
    "upload": upload,
    "round trips of 100 bytes": round_trips,
}


async def measure(port: int, ca: bytes) -> None:
    clients: list[Client] = [OfTpio(ca), OfAsyncio(ca)]
    print(f"| | {' | '.join(client.name for client in clients)} | speed, asyncio = 1 |\n|---|---:|---:|---:|")
    for name, row in ROWS.items():
        rates: list[list[float]] = [[], []]
        unit = ""
        for number in range(ROUNDS + 1):
            for client, own in zip(clients, rates, strict=True):
                rate, unit = await row(client, port)
                if number:  # the first round warms up
                    own.append(rate)
        ratios = statistics.quantiles([a / b for a, b in zip(*rates, strict=True)], n=4, method="inclusive")
        cells = [f"{statistics.median(own):,.0f} {unit}" for own in rates]
        print(f"| {name} | {' | '.join(cells)} | {ratios[1]:.2f} ({ratios[0]:.2f} to {ratios[2]:.2f}) |", flush=True)


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
        return
    ca = pki.Authority("Benchmark CA")
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "server.pem"
        file.write_bytes(ca.issue("server", names=["localhost"]).pem)
        command = [sys.executable, "-m", "benchmarks.tls", "serve", str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
            try:
                assert server.stdout is not None
                asyncio.run(measure(int(server.stdout.readline()), ca.certificate))
            finally:
                server.kill()


if __name__ == "__main__":
    main()
