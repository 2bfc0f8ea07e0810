"""What is read and written over TLS, what ends it, and what a cancel leaves."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import pytest

import pki
import support
import tpio
import tpio.aio
from ends import read_exactly
from support import WAIT
from tls_peers import (
    connect,
    echo,
    server_context,
    serving,
)
from tpio import tls

# ---- data


def test_what_is_written_comes_back(server: pki.Issued, context: tls.Context) -> None:
    with serving(server) as address, connect(address, context) as stream:
        assert stream.write(b"hello").result(WAIT) == 5
        assert read_exactly(stream, 5) == b"hello"
        assert stream.write(b"").result(WAIT) == 0
        assert stream.read(0).result(WAIT) == b""
        stream.unwrap().result(WAIT).close()


def test_more_than_a_record_each_way_with_a_checksum(server: pki.Issued, context: tls.Context) -> None:
    """300 MB with TPIO_LONG=1."""
    block = os.urandom(1 << 20)
    blocks = 300 if support.long else 8
    wanted, got = hashlib.sha256(), hashlib.sha256()
    for _ in range(blocks):
        wanted.update(block)
    with serving(server) as address, connect(address, context) as stream:

        def write() -> None:
            for _ in range(blocks):
                assert stream.write(block).result(WAIT) == len(block)

        with support.thread(write):
            left = blocks * len(block)
            while left:
                data = stream.read(min(left, 1 << 18)).result(WAIT)
                assert data
                got.update(data)
                left -= len(data)
        stream.unwrap().result(WAIT).close()
    assert got.digest() == wanted.digest()


def test_reads_smaller_than_a_record_and_into_a_buffer(server: pki.Issued, context: tls.Context) -> None:
    data = bytes(range(256)) * 40
    with serving(server) as address, connect(address, context) as stream:
        stream.write(data).result(WAIT)
        got = b"".join(read_exactly(stream, 1) for _ in range(300))
        buffer = bytearray(1000)
        while len(got) < len(data):
            count = stream.read_into(buffer).result(WAIT)
            assert 0 < count <= len(buffer)
            got += buffer[:count]
        assert got == data
        stream.unwrap().result(WAIT).close()


def test_readers_give_lines_parts_and_the_rest(server: pki.Issued, context: tls.Context) -> None:
    with serving(server) as address, connect(address, context) as stream:
        waiting = stream.readline()
        stream.write(b"first\nsecond\r\n12345rest").result(WAIT)
        assert waiting.result(WAIT) == b"first\n"
        assert stream.readuntil(b"\r\n").result(WAIT) == b"second\r\n"
        assert stream.readexactly(5).result(WAIT) == b"12345"
        with pytest.raises(tpio.LimitOverrunError):
            stream.readline(limit=3).result(WAIT)
        with pytest.raises(TimeoutError, match="timed out after"):
            stream.readline(timeout=0.02).result(WAIT)
        assert stream.read(100).result(WAIT) == b"rest"
        with pytest.raises(ValueError, match="separator"):
            stream.readuntil(b"")
        stream.write(b"one\ntwo\n").result(WAIT)
        assert next(stream) == b"one\n"
        assert asyncio.run(_next_line(stream)) == b"two\n"


async def _next_line(stream: tls.TLSStream) -> bytes:
    return await anext(stream)


def test_several_records_in_one_read(server: pki.Issued, context: tls.Context) -> None:
    def send(connection: ssl.SSLSocket) -> None:
        for number in range(200):
            connection.sendall(bytes([number]) * 50)
        connection.unwrap()

    with serving(server, send) as address, connect(address, context) as stream:
        got = b""
        while data := stream.read(1 << 16).result(WAIT):
            got += data
        assert got == b"".join(bytes([number]) * 50 for number in range(200))
        assert stream.read(1).result(WAIT) == b""
        stream.unwrap().result(WAIT).close()


def test_empty_records_are_no_end(server: pki.Issued, context: tls.Context) -> None:
    def send(connection: ssl.SSLSocket) -> None:
        connection.send(b"")
        connection.sendall(b"data")
        connection.unwrap()

    with serving(server, send) as address, connect(address, context) as stream:
        assert stream.read(10).result(WAIT) == b"data"
        stream.unwrap().result(WAIT).close()


def test_many_reads_and_writes_in_flight_keep_their_order(server: pki.Issued, context: tls.Context) -> None:
    with serving(server) as address, connect(address, context) as stream:
        reads = [stream.read(1) for _ in range(300)]
        writes = [stream.write(bytes([number % 256])) for number in range(300)]
        assert [future.result(WAIT) for future in writes] == [1] * 300
        assert b"".join(future.result(WAIT) for future in reads) == bytes(number % 256 for number in range(300))
        stream.unwrap().result(WAIT).close()


def test_tasks_await_it(server: pki.Issued, context: tls.Context) -> None:
    async def main(address: Any) -> None:
        with await tls.connect(address, context=context, server_hostname="localhost") as stream:
            assert await stream.write(b"x" * 100_000) == 100_000
            got = 0
            while got < 100_000:
                got += len(await stream.read(4096))
            (await stream.unwrap()).close()

    with serving(server) as address:
        asyncio.run(main(address))


def test_it_goes_over_a_named_pipe(server: pki.Issued, context: tls.Context) -> None:
    def serve(pipe: tpio.Pipe) -> None:
        made, incoming, outgoing = server_context(server), ssl.MemoryBIO(), ssl.MemoryBIO()
        end = made.wrap_bio(incoming, outgoing, server_side=True)

        def run(step: Callable[..., Any], *args: Any) -> Any:
            while True:
                try:
                    result = step(*args)
                except ssl.SSLWantReadError:
                    result = None
                if data := outgoing.read():
                    pipe.write(data).result(WAIT)
                if result is not None:
                    return result
                incoming.write(pipe.read(65536).result(WAIT))

        run(lambda: end.do_handshake() or True)
        run(end.write, run(end.read, 100))

    name = rf"\\.\pipe\tpio-test-{os.urandom(8).hex()}"
    with tpio.PipeListener(name) as listener:
        accepted = listener.accept()
        client = tpio.open_pipe(name).result(WAIT)
        with accepted.result(WAIT) as pipe, support.thread(serve, pipe):
            with tls.wrap(client, context, server_hostname="localhost").result(WAIT) as stream:
                stream.write(b"over a pipe").result(WAIT)
                assert read_exactly(stream, 11) == b"over a pipe"


# ---- ends


def test_an_end_without_close_notify_is_a_truncation(server: pki.Issued, context: tls.Context) -> None:
    def cut(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"all there is")
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)

    with serving(server, cut, failures=[]) as address, connect(address, context) as stream:
        assert read_exactly(stream, 12) == b"all there is"
        for _ in range(2):
            with pytest.raises(tls.TLSTruncatedError):
                stream.read(1).result(WAIT)
        with pytest.raises(tls.TLSTruncatedError):
            stream.read_into(bytearray(1)).result(WAIT)


def test_a_record_that_was_forged_is_an_error(server: pki.Issued, context: tls.Context) -> None:
    def forge(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"true")
        with socket.socket(fileno=connection.detach()) as raw:
            raw.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
            raw.recv(1)

    with serving(server, forge, failures=[]) as address, connect(address, context) as stream:
        assert read_exactly(stream, 4) == b"true"
        for _ in range(2):
            with pytest.raises(tls.TLSError) as caught:
                stream.read(1).result(WAIT)
            assert caught.value.winerror and not isinstance(caught.value, tls.TLSTruncatedError)


def test_a_reset_connection_is_a_reset(server: pki.Issued, context: tls.Context) -> None:
    def reset(connection: ssl.SSLSocket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("HH", 1, 0))
        socket.close(connection.detach())

    with serving(server, reset, failures=[]) as address, connect(address, context) as stream:
        reading = stream.read(1)
        stream.write(b"x").result(WAIT)
        with pytest.raises(ConnectionResetError):
            reading.result(WAIT)


def test_unwrap_gives_the_handle_for_plain_talk(server: pki.Issued, context: tls.Context) -> None:
    def plain(connection: ssl.SSLSocket) -> None:
        assert connection.recv(100) == b"secret"
        raw = connection.unwrap()
        raw.sendall(b"plain")
        assert raw.recv(100) == b"answer"

    with serving(server, plain) as address:
        stream = connect(address, context)
        stream.write(b"secret").result(WAIT)
        with stream.unwrap().result(WAIT) as sock:
            assert sock.read(100).result(WAIT) == b"plain"
            sock.write(b"answer").result(WAIT)
            assert stream.closed
            with pytest.raises(ValueError, match="unwrapped"):
                stream.read(1)
            stream.close()
            assert not sock.closed


def test_unwrap_with_data_that_was_not_read_is_an_error(server: pki.Issued, context: tls.Context) -> None:
    def send(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"data")
        echo(connection)

    with serving(server, send) as address, connect(address, context) as stream:
        with pytest.raises(tls.TLSError, match="not read"):
            stream.unwrap().result(WAIT)
        assert read_exactly(stream, 4) == b"data"
        assert stream.read(1).result(WAIT) == b""


def test_close_tells_the_peer(server: pki.Issued, ca: pki.Authority) -> None:
    """Not within TLS 1.3, whose tickets nobody reads here: to close a socket with unread data resets it."""
    context = tls.Context(cadata=ca.certificate, maximum_version=tls.Version.TLSv1_2)
    ended: list[bytes] = []

    def wait(connection: ssl.SSLSocket) -> None:
        ended.append(connection.recv(100))  # an SSLEOFError without close_notify

    with serving(server, wait) as address:
        stream = connect(address, context)
        stream.close()
        stream.close()
        assert stream.closed
    assert ended == [b""]


def test_close_cancels_what_is_pending(server: pki.Issued, context: tls.Context) -> None:
    with serving(server, failures=[]) as address:
        stream = connect(address, context)
        reads = [stream.read(1) for _ in range(3)]
        stream.close()
        for future in reads:
            with pytest.raises((CancelledError, ValueError)):
                future.result(WAIT)
        for verb in (lambda: stream.read(1), lambda: stream.read_into(bytearray(1)), lambda: stream.write(b"x")):
            with pytest.raises(ValueError, match="closed"):
                verb()
        assert "closed" in repr(stream)


def test_what_the_system_may_have_is_not_moved(context: tls.Context) -> None:
    machine: Any = context._machine("localhost")
    with memoryview(machine.input):
        with pytest.raises(BufferError, match="being received"):
            memoryview(machine.input)
    memoryview(machine.input).release()
    assert not machine.handshake()
    output = machine.take_output()
    with memoryview(output) as hello:
        before = bytes(hello)
        with pytest.raises(BufferError, match="being sent"):
            machine.take_output()
        assert hello == before
    assert machine.take_output() is None
    with pytest.raises(BufferError, match="since"):
        memoryview(output)


# ---- cancels


def test_a_cancelled_read_loses_nothing(server: pki.Issued, context: tls.Context) -> None:
    with serving(server) as address, connect(address, context) as stream:
        for number in range(50):
            data = os.urandom(100)
            reading = stream.read(100)
            writing = stream.write(data) if number % 2 else None
            reading.cancel()
            try:
                got = reading.result(WAIT)
            except CancelledError:
                got = b""
            (writing or stream.write(data)).result(WAIT)
            assert got + read_exactly(stream, len(data) - len(got)) == data
        stream.unwrap().result(WAIT).close()


class Odd(ctypes.BigEndianStructure):
    """A buffer of a format that memoryview cannot cast."""

    _fields_ = (("number", ctypes.c_uint32), ("rest", ctypes.c_uint8 * 4))


def test_a_cancelled_await_loses_nothing(server: pki.Issued, context: tls.Context) -> None:
    async def main(address: Any) -> None:
        with await tls.connect(address, context=context, server_hostname="localhost") as stream:
            sent, got = b"", b""
            for number in range(100):
                data = bytes([number]) * 10
                task = asyncio.ensure_future(one(stream) if number % 2 else another(stream))
                await stream.write(data)
                sent += data
                for _ in range(number % 5):
                    await asyncio.sleep(0)
                task.cancel()
                try:
                    got += await task
                except asyncio.CancelledError:
                    pass
            while len(got) < len(sent):
                got += await stream.read(1000)
            assert got == sent
            (await stream.unwrap()).close()

    async def one(stream: tls.TLSStream) -> bytes:
        return await stream.read(7)

    async def another(stream: tls.TLSStream) -> bytes:
        buffer = Odd()
        count = await stream.read_into(buffer)
        return bytes(buffer)[:count]

    with serving(server) as address:
        asyncio.run(main(address))


def test_a_write_that_is_cut_off_closes_the_stream_and_says_so(server: pki.Issued, context: tls.Context) -> None:
    go_on = threading.Event()
    with serving(server, lambda connection: go_on.wait(WAIT), failures=[]) as address:
        stream = connect(address, context)
        try:
            writes = [stream.write(bytes(1 << 24)) for _ in range(3)]  # more than is taken without a reader
            waiting = stream.write(b"waits for its turn")
            waiting.cancel()
            with pytest.raises(CancelledError):
                waiting.result(WAIT)
            assert not stream.closed  # that one had not begun
            assert not any(write.done() for write in writes[1:])
            for _ in range(1000):
                writes[0].cancel()
                with pytest.raises(CancelledError):
                    writes[0].result(WAIT)
                if stream.closed:
                    break
                writes = [*writes[1:], stream.write(bytes(1 << 24))]  # it fell between records: the next goes on
            assert stream.closed
            with pytest.raises(ValueError, match="cancelled within a record"):
                stream.write(b"x")
            for write in writes[1:]:
                with pytest.raises((CancelledError, ValueError)):
                    write.result(WAIT)
        finally:
            go_on.set()
            stream.close()
