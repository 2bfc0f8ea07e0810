"""Named pipes as asyncio's streams, for tpio.aio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Self

from . import _pipes
from ._pipes import Pipe, PipeListener

LIMIT = 65536  # bytes that a StreamReader holds, as asyncio.open_connection has it

Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


async def open_pipe(name: str, *, limit: int = LIMIT) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Opens a named pipe as its client: (reader, writer). FileNotFoundError if there is no such pipe; waits while every
    instance is busy. See tpio.open_pipe."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = connect(loop, await _pipes.open_pipe(name), protocol)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def connect(loop: Any, pipe: Pipe, protocol: asyncio.BaseProtocol) -> Any:
    """The transport of a pipe that is open."""
    try:
        return loop._make_duplex_pipe_transport(pipe, protocol, extra={"pipe": pipe})
    except BaseException:
        pipe.close()
        raise


async def serve_pipe(
    client_connected_cb: Connected,
    name: str,
    *,
    limit: int = LIMIT,
    listening: int = 1,
    max_instances: int | None = None,
    security: str | Iterable[str] | None = None,
) -> PipeServer:
    """Serves a named pipe: client_connected_cb(reader, writer) for each client, as for asyncio.start_server; a coroutine
    function runs as a task. Who may connect and how many at a time: see tpio.PipeListener.
    """
    listener = PipeListener(name, listening=listening, max_instances=max_instances, security=security)
    return PipeServer(asyncio.get_running_loop(), listener, client_connected_cb, limit)


class PipeServer:
    """The server of a named pipe, made by serve_pipe. `async with` closes it and waits until its last client has gone."""

    def __init__(self, loop: Any, listener: PipeListener, connected: Connected, limit: int) -> None:
        self.name = listener.name
        self._loop = loop
        self._listener = listener
        self._connected = connected
        self._limit = limit
        self._transports: set[Any] = set()
        self._gone = asyncio.Event()
        self._accepting = loop.create_task(self._accept())

    async def _accept(self) -> None:
        try:
            while True:
                try:
                    pipe = await self._listener.accept()
                except OSError as error:
                    message = "accepting a client of a named pipe failed"
                    self._loop.call_exception_handler({"message": message, "exception": error})
                    return
                reader = asyncio.StreamReader(limit=self._limit, loop=self._loop)
                protocol = _ServerProtocol(reader, self._connected, self)
                self._transports.add(connect(self._loop, pipe, protocol))
        finally:
            self._listener.close()

    def _left(self, transport: Any) -> None:
        self._transports.discard(transport)
        if not self._transports and self._listener.closed:
            self._gone.set()

    def is_serving(self) -> bool:
        """Until close()."""
        return not self._listener.closed

    async def serve_forever(self) -> None:
        """Until it is cancelled, which closes the server."""
        try:
            await self._accepting
        finally:
            self.close()
            await self.wait_closed()

    def close(self) -> None:
        """Stops listening. Clients that are connected stay. Idempotent."""
        self._listener.close()
        self._accepting.cancel()
        if not self._transports:
            self._gone.set()

    def close_clients(self) -> None:
        """Closes the connections, once what was written to them has been sent."""
        for transport in list(self._transports):
            transport.close()

    async def wait_closed(self) -> None:
        """Until it is closed and the last client has gone."""
        await self._gone.wait()
        await asyncio.wait([self._accepting])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()
        await self.wait_closed()

    def __repr__(self) -> str:
        return f"<tpio.aio.PipeServer {self.name!r}{' closed' if self._listener.closed else ''}>"


class _ServerProtocol(asyncio.StreamReaderProtocol):
    def __init__(self, reader: asyncio.StreamReader, connected: Connected, server: PipeServer) -> None:
        super().__init__(reader, connected, loop=server._loop)
        self._server = server
        self._transport_of_ours: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport_of_ours = transport
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._server._left(self._transport_of_ours)
