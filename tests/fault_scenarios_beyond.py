"""The same as fault_scenarios.py, for what is built on tpio: extension modules, loops of asyncio, trio."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import support
import tpio
import tpio.aio
import tpio.tls
from ends import named_pair, pipe_name, plain_tcp_pair
from fault_scenarios import PATIENCE, get, kept, new_path, program, scenario
from test_capi import EXAMPLES, load

# ---- extension modules


def example(name: str) -> Any:
    if EXAMPLES is None:
        pytest.skip("the examples are not built: run the tests by dev.py")
    if name not in _examples:
        _examples[name] = load(name)
    return _examples[name]


_examples: dict[str, Any] = {}


@scenario
def a_server_in_c(stack):
    echo = example("echo_c")
    listener = kept(stack, tpio.listen(("127.0.0.1", 0)))
    echo.serve(listener)
    with socket.create_connection(listener.getsockname()) as client, contextlib.suppress(OSError):
        # What fails in C is nobody's business here: the server gives up the connection, or ends.
        client.settimeout(0.3)
        client.sendall(b"data")
        client.recv(4)
    listener.close()
    assert support.eventually(lambda: echo.statistics()[0] == 0, PATIENCE)


@scenario
def an_echo_in_cython(stack):
    ours, theirs = kept(stack, *named_pair())
    example("echo_cython").serve(theirs)
    reading = ours.read(4)
    with contextlib.suppress(BrokenPipeError):  # what fails in the extension closes its end
        get(ours.write(b"data"))
    try:
        reading.result(0.3)
    except TimeoutError:
        assert reading.cancel()


# ---- asyncio


def in_a_loop(main: Callable[[contextlib.AsyncExitStack], Coroutine[Any, Any, Any]], run: Any = tpio.aio.run) -> None:
    """Runs it in a loop of tpio's. What asyncio only logs is raised."""

    async def heeding() -> None:
        told = []

        def heard(loop: Any, context: dict[str, Any]) -> None:
            told.append(context.get("exception"))
            task.cancel()

        async def whole() -> None:
            async with asyncio.timeout(PATIENCE), contextlib.AsyncExitStack() as stack:
                await main(stack)

        task = asyncio.ensure_future(whole())
        asyncio.get_running_loop().set_exception_handler(heard)
        await asyncio.wait([task])
        if told and told[0] is not None:
            raise told[0]
        await task

    heedful = heeding()
    try:
        run(heedful)
    finally:
        heedful.close()  # there may have been no loop


def scenario_in_a_loop(main: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[[contextlib.ExitStack], None]:
    """A scenario that is a coroutine: it gets the stack of all, and one that is left inside the loop."""

    @functools.wraps(main)
    def function(stack: contextlib.ExitStack) -> None:
        in_a_loop(functools.partial(main, stack))

    return scenario(function)


@scenario
def a_loop(stack):
    async def main(_):
        loop = asyncio.get_running_loop()
        called = asyncio.Event()
        timer = threading.Timer(0.001, loop.call_soon_threadsafe, [called.set])
        timer.start()
        try:
            await called.wait()
            await asyncio.sleep(0.001)
        finally:
            timer.join()

    in_a_loop(main)


async def some_awaits(stack):
    reader, writer = kept(stack, *tpio.pipe())
    reading = reader.read(4)
    await writer.write(b"data")
    await reading
    await asyncio.gather(*[tpio.sleep(0.001) for _ in range(5)])
    return reader, writer


@scenario
def awaits_in_a_loop(stack):
    async def main(_):
        reader, writer = await some_awaits(stack)
        await asyncio.wrap_future(tpio.default_pool().submit(int))
        cancelled = asyncio.ensure_future(the_end_of(reader.read(4)))
        await asyncio.sleep(0)
        cancelled.cancel()
        await writer.write(b"data")  # in case that the request was lost
        await asyncio.wait([cancelled])

    in_a_loop(main)


async def the_end_of(future):
    return await future


@scenario
def awaits_in_another_loop(stack):
    async def main(_):
        await some_awaits(stack)

    in_a_loop(main, functools.partial(tpio.aio.run, loop_factory=asyncio.SelectorEventLoop))


@scenario_in_a_loop
async def streams_in_a_loop(stack, inside):
    async def serve(reader, writer):
        writer.write(await reader.read(4))
        await writer.drain()
        writer.close()

    # A start_server that is cancelled leaks what it listens on.
    listener = inside.enter_context(socket.create_server(("127.0.0.1", 0)))
    server = await asyncio.start_server(serve, sock=listener)
    inside.callback(server.close)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    inside.callback(writer.close)
    writer.write(b"data")
    await writer.drain()
    await reader.read()


@scenario_in_a_loop
async def a_read_in_a_loop_that_is_cancelled(stack, inside):
    loop = asyncio.get_running_loop()
    ours, theirs = plain_tcp_pair()
    with ours, theirs:
        ours.setblocking(False)
        reading = asyncio.ensure_future(loop.sock_recv(ours, 4))
        await asyncio.sleep(0)
        reading.cancel()
        theirs.sendall(b"data")
        await loop.sock_recv(ours, 4)


@scenario_in_a_loop
async def datagrams_in_a_loop(stack, inside):
    loop = asyncio.get_running_loop()
    received = loop.create_future()

    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            received.set_result(data)

        def error_received(self, error):
            if not received.done():
                received.set_exception(error)

    one, _ = await loop.create_datagram_endpoint(Receiver, ("127.0.0.1", 0))
    inside.callback(one.close)
    other, _ = await loop.create_datagram_endpoint(Receiver, remote_addr=one.get_extra_info("sockname"))
    inside.callback(other.close)
    other.sendto(b"data")
    await received


@scenario
def sendfile_in_a_loop(stack):
    file = stack.enter_context(open(new_path(), "w+b"))
    file.write(b"data")
    file.flush()

    async def main(inside):
        loop = asyncio.get_running_loop()
        ours, theirs = plain_tcp_pair()
        with ours, theirs:
            ours.setblocking(False)
            await loop.sock_sendfile(ours, file, fallback=False)
            assert theirs.recv(4) == b"data"

    in_a_loop(main)


@scenario_in_a_loop
async def pipe_streams_in_a_loop(stack, inside):
    async def serve(reader, writer):
        writer.write(await reader.read(4))
        await writer.drain()
        writer.close()

    server = await inside.enter_async_context(await tpio.aio.serve_pipe(serve, pipe_name()))
    inside.callback(server.close_clients)
    reader, writer = await tpio.aio.open_pipe(server.name)
    inside.callback(writer.close)
    writer.write(b"data")
    await writer.drain()
    await reader.read(4)


@scenario_in_a_loop
async def pipes_of_asyncio_in_a_loop(stack, inside):
    loop = asyncio.get_running_loop()
    name = pipe_name()
    (server,) = await loop.start_serving_pipe(asyncio.Protocol, name)
    inside.callback(server.close)
    client, _ = await loop.create_pipe_connection(asyncio.Protocol, name)
    client.write(b"data")
    client.close()
    await asyncio.sleep(0.001)


@scenario_in_a_loop
async def the_ends_of_a_pipe_in_a_loop(stack, inside):
    loop = asyncio.get_running_loop()
    reader, writer = kept(stack, *tpio.pipe())
    stream = asyncio.StreamReader()
    reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), reader)
    inside.callback(reading.close)
    writing, _ = await loop.connect_write_pipe(asyncio.Protocol, writer)
    inside.callback(writing.close)
    writing.write(b"data")
    await stream.read(4)


@scenario_in_a_loop
async def blocking_pipes_in_a_loop(stack, inside):
    loop = asyncio.get_running_loop()
    number, other = os.pipe()
    reader = kept(stack, os.fdopen(number, "rb", 0))
    writer = kept(stack, os.fdopen(other, "wb", 0))
    stream = asyncio.StreamReader()
    writing, _ = await loop.connect_write_pipe(asyncio.Protocol, writer)
    inside.callback(writing.close)
    reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), reader)
    inside.callback(reading.close)
    writing.write(b"data")
    await stream.read(4)
    writing.close()
    await stream.read(4)


@scenario_in_a_loop
async def a_child_in_a_loop(stack, inside):
    child = await asyncio.create_subprocess_exec(*program("pass"))
    await child.wait()


@scenario_in_a_loop
async def a_file_in_a_loop(stack, inside):
    async with tpio.aio.open_file(new_path(), "w+b") as file:
        await file.write(b"data", 0)
        await file.read(4, 0)


@scenario
def a_wait_in_trio(stack):
    if importlib.util.find_spec("trio") is None:
        pytest.skip("trio is not installed: python dev.py frameworks")
    import trio

    import tpio.trio

    async def main():
        with trio.fail_after(PATIENCE):
            reader, writer = kept(stack, *tpio.pipe())
            reading = reader.read(4)
            await tpio.trio.wait(writer.write(b"data"))
            await tpio.trio.wait(reading)
            with trio.move_on_after(0.001):
                await tpio.trio.wait(reader.read(4))

    trio.run(main)
