"""uvicorn with httptools, on one loop or another: the server of devtools/bench_http.py.

    python -m benchmarks.http_server LOOP FILE

Writes its port to FILE and serves until FILE is gone.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn

import tpio.aio

HELLO = b"Hello, world!"


async def app(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(HELLO)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": HELLO})


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "winloop":
        import winloop

        factory: Callable[[], asyncio.AbstractEventLoop] = winloop.new_event_loop
        return factory
    return {"tpio": tpio.aio.EventLoop, "proactor": asyncio.ProactorEventLoop}[name]


async def main(file: Path) -> None:
    configuration = uvicorn.Config(app, port=0, http="httptools", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(configuration)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    unfinished = file.with_suffix(".part")
    unfinished.write_text(str(port), encoding="utf-8")
    unfinished.rename(file)
    while file.exists():  # noqa: ASYNC110, ASYNC240 - rarely looked at
        await asyncio.sleep(0.5)
    server.should_exit = server.force_exit = True
    await serving


if __name__ == "__main__":
    logging.disable()  # of the connections that wrk leaves in the middle
    with asyncio.Runner(loop_factory=loop_factory(sys.argv[1])) as runner:
        runner.run(main(Path(sys.argv[2])))
