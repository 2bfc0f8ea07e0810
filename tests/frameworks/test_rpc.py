"""A JSON-RPC server on a named pipe, and eight clients, each a process."""

from __future__ import annotations

import asyncio
import json
import pathlib
import secrets
import sys

from support import WAIT
from tpio import aio

CLIENT = pathlib.Path(__file__).with_name("rpc_client.py")
CLIENTS = 8


def test_a_json_rpc_server_with_eight_clients():
    methods = {"add": lambda one, other: one + other}
    calls = 0

    async def serve(reader, writer):
        nonlocal calls
        while line := await reader.readline():
            call = json.loads(line)
            answer = {"jsonrpc": "2.0", "id": call["id"]}
            if call["method"] in methods:
                answer["result"] = methods[call["method"]](*call["params"])
            else:
                answer["error"] = {"code": -32601, "message": "Method not found"}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            calls += 1
        writer.close()

    async def client(name):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, CLIENT, name),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        return process.returncode, said.decode()

    async def main():
        async with await aio.serve_pipe(serve, f"tpio-test-rpc-{secrets.token_hex(8)}") as server:
            return await asyncio.gather(*(client(server.name) for _ in range(CLIENTS)))

    assert aio.run(asyncio.wait_for(main(), WAIT)) == [(0, "")] * CLIENTS
    assert calls == CLIENTS * 101
