"""A client of test_rpc.py's server: adds numbers until the server agrees, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys

from tpio import aio

CALLS, DEPTH = 100, 10


async def main(name: str) -> None:
    reader, writer = await aio.open_pipe(name)
    for first in range(0, CALLS, DEPTH):
        for number in range(first, first + DEPTH):  # several calls are under way at a time
            call = {"jsonrpc": "2.0", "id": number, "method": "add", "params": [number, 1]}
            writer.write(json.dumps(call).encode() + b"\n")
        for number in range(first, first + DEPTH):
            answer = json.loads(await reader.readline())
            assert answer == {"jsonrpc": "2.0", "id": number, "result": number + 1}
    writer.write(b'{"jsonrpc": "2.0", "id": 0, "method": "subtract"}\n')
    assert json.loads(await reader.readline())["error"]["code"] == -32601
    writer.close()
    await writer.wait_closed()


aio.run(asyncio.wait_for(main(sys.argv[1]), 60))
