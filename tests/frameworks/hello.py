"""An ASGI application, for uvicorn."""

from __future__ import annotations

from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """GET says hello, on which loop; POST gives back what it is sent, as it comes."""
    assert scope["type"] == "http"
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
    if scope["method"] == "GET":
        import asyncio

        kind = type(asyncio.get_running_loop())
        body = f"hello from {kind.__module__}.{kind.__name__}".encode()
        await send({**start, "headers": [*start["headers"], (b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})
        return
    await send(start)
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})
