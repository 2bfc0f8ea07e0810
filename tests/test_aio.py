"""tpio.aio: asyncio's own streams, servers, pipes and subprocesses on the thread pool."""

from __future__ import annotations

import array
import asyncio
import concurrent.futures
import contextlib
import os
import pathlib
import secrets
import signal
import socket
import struct
import sys
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

import support
import tpio
from tpio import _verbs, aio
from tpio._blocking import blocking_file_of


def run(main: Coroutine[Any, Any, Any]) -> Any:
    async def within() -> Any:
        return await asyncio.wait_for(main, support.WAIT)

    return aio.run(within())


def connected() -> tuple[socket.socket, socket.socket]:
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    return left, right


def test_run_uses_our_loop_and_closes_it() -> None:
    async def main() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    loop = run(main())
    assert isinstance(loop, aio.EventLoop)
    assert loop.is_closed()


def test_streams_echo_many_connections_at_once() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def client(address: tuple[str, int]) -> int:
        reader, writer = await asyncio.open_connection(*address)
        sent = os.urandom(100_000)
        writer.write(sent)
        got = await reader.readexactly(len(sent))
        assert got == sent
        writer.close()
        await writer.wait_closed()
        return len(got)

    async def main() -> list[int]:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            return await asyncio.gather(*(client(server.sockets[0].getsockname()) for _ in range(20)))

    assert run(main()) == [100_000] * 20


def test_a_transport_that_has_ended_keeps_nothing_of_its_socket() -> None:
    async def main() -> None:
        left, right = connected()
        writers = []
        for end in (left, right):
            writers.append((await asyncio.open_connection(sock=end))[1])
        loop = asyncio.get_running_loop()
        datagrams, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
        datagrams.sendto(b"nobody listens", ("127.0.0.1", 9))
        bound = support.bound_handles()
        for writer in writers:
            writer.close()
            await writer.wait_closed()
        datagrams.close()
        while support.bound_handles() > bound - 3:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.001)
        assert all(writer.get_extra_info("socket") is not None for writer in writers)  # they are kept

    run(main())


def test_a_closed_loop_keeps_nothing_of_its_sockets() -> None:
    bound = support.bound_handles()
    loop = tpio.aio.EventLoop()
    server = loop.run_until_complete(asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0))
    kept = [loop._ssock, server._sockets[0]]  # as the traceback of an error in the loop does
    server.close()
    loop.run_until_complete(server.wait_closed())
    loop.close()
    assert [sock.fileno() for sock in kept] == [-1, -1]
    assert support.eventually(lambda: support.bound_handles() == bound)


def test_both_ends_of_a_connection_send_at_once() -> None:
    async def main() -> None:
        accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        server = await asyncio.start_server(lambda reader, writer: accepted.put_nowait(writer), "127.0.0.1", 0)
        async with server:
            _, near = await asyncio.open_connection(*server.sockets[0].getsockname())
            for writer in (near, await accepted.get()):
                sock = writer.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                writer.close()
                await writer.wait_closed()

    run(main())


def test_small_writes_of_one_turn_go_out_as_one() -> None:
    async def main() -> None:
        left, right = connected()
        with right:
            _, writer = await asyncio.open_connection(sock=left)
            before = tpio.default_pool().stats().submitted
            for number in range(10):
                writer.write(bytes([number]))
            assert writer.transport.get_write_buffer_size() == 10  # type: ignore[attr-defined]
            await asyncio.sleep(0)
            assert tpio.default_pool().stats().submitted == before + 1
            received = asyncio.get_running_loop().sock_recv(right, 100)
            assert await received == bytes(range(10))
            writer.close()
            await writer.wait_closed()

    run(main())


@pytest.mark.parametrize("size", [1, 16_384, 16_385, 1_000_000])
def test_what_is_written_right_before_the_end_is_sent(size: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for end in (asyncio.StreamWriter.close, asyncio.StreamWriter.write_eof):
            left, right = connected()
            with right:
                _, writer = await asyncio.open_connection(sock=left)
                writer.write(bytes(size))
                writer.write(b"!")
                end(writer)
                got = bytearray()
                while data := await loop.sock_recv(right, 65536):
                    got += data
                assert got == bytes(size) + b"!"
                writer.close()
                await writer.wait_closed()

    run(main())


def test_what_is_written_right_before_an_abort_is_not_sent() -> None:
    async def main() -> None:
        left, right = connected()
        with right:
            _, writer = await asyncio.open_connection(sock=left)
            writer.write(b"never")
            writer.transport.abort()
            assert writer.transport.get_write_buffer_size() == 0  # type: ignore[attr-defined]
            writer.write(b"never")
            assert await asyncio.get_running_loop().sock_recv(right, 100) == b""

    run(main())


def test_a_write_to_a_peer_that_has_gone_ends_the_connection() -> None:
    async def main() -> None:
        left, right = connected()
        _, writer = await asyncio.open_connection(sock=left)
        right.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh", 1, 0))
        right.close()
        with pytest.raises(ConnectionError):
            while True:
                writer.write(b"x")
                await writer.drain()
        writer.close()

    run(main())


def test_cancelled_recv_loses_nothing() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        left, right = connected()
        with left, right:
            got = b""
            for number in range(300):
                receiving = asyncio.ensure_future(loop.sock_recv(right, 100))
                await asyncio.sleep(0)
                sending = asyncio.ensure_future(loop.sock_sendall(left, struct.pack("I", number)))
                if number % 3:
                    await asyncio.sleep(0)
                receiving.cancel()
                try:
                    got += await receiving
                except asyncio.CancelledError:
                    pass
                await sending
            while len(got) < 1200:
                got += await loop.sock_recv(right, 5000)
            assert got == b"".join(struct.pack("I", number) for number in range(300))

    run(main())


def test_one_socket_from_two_loops_one_after_the_other() -> None:
    left, right = connected()
    with left, right:

        async def exchange(text: bytes) -> bytes:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(left, text)
            return await loop.sock_recv(right, 100)

        assert run(exchange(b"first")) == b"first"
        assert run(exchange(b"second")) == b"second"


def test_what_a_cancelled_recv_has_received_is_for_another_loop_too() -> None:
    left, right = connected()
    first, second = aio.EventLoop(), aio.EventLoop()
    try:
        with left, right:
            for number in range(50):
                receiving = first._proactor.recv(right, 100)  # type: ignore[attr-defined]
                left.sendall(struct.pack("I", number))
                receiving.cancel()  # and the first loop does not run again
                receive = asyncio.wait_for(second.sock_recv(right, 100), support.WAIT)
                assert second.run_until_complete(receive) == struct.pack("I", number)
    finally:
        first.close()
        second.close()


def test_one_socket_from_two_loops_at_once() -> None:
    left, right = connected()

    async def send(letter: bytes) -> None:
        for _ in range(100):
            await asyncio.get_running_loop().sock_sendall(left, letter)

    async def receive() -> bytes:
        got = b""
        while len(got) < 200:
            got += await asyncio.get_running_loop().sock_recv(right, 1000)
        return got

    with left, right:
        got, *_ = support.at_once(lambda: run(receive()), lambda: run(send(b"a")), lambda: run(send(b"b")))
    assert sorted(got) == sorted(b"a" * 100 + b"b" * 100)


def test_a_client_that_resets_does_not_stop_the_server() -> None:
    async def main() -> bytes:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                writer.write(await reader.read(100))
                await writer.drain()
            except ConnectionError:
                pass
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        async with server:
            for _ in range(20):
                sock = socket.create_connection(address)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("HH", 1, 0))
                sock.close()
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"still there")
            answer = await reader.read(100)
            writer.close()
            await writer.wait_closed()
            return answer

    assert run(main()) == b"still there"


class Reset(socket.socket):
    """Answers as Windows does when the peer has reset the connection; Wine shuts such a socket down."""

    def shutdown(self, how: int) -> None:
        raise ConnectionResetError(0, "reset", None, 10054)


def with_reports() -> tuple[Any, list[dict[str, Any]]]:
    """The running loop, and what its exception handler is told from now on."""
    loop: Any = asyncio.get_running_loop()
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: reported.append(context))
    return loop, reported


def test_a_socket_that_cannot_be_shut_down_is_closed_and_forgotten() -> None:
    async def main() -> None:
        loop, reported = with_reports()
        left, right = connected()
        left = Reset(fileno=left.detach())
        with right:
            transport, protocol = await loop.connect_accepted_socket(Hear, left)
            transport.close()
            assert await protocol.lost is None
            assert left.fileno() == -1
            assert await loop.sock_recv(right, 100) == b""
        assert not reported
        assert id(left) not in _verbs._bound

    run(main())


def test_the_end_of_what_is_written_to_a_connection_that_was_reset() -> None:
    async def main() -> None:
        loop, reported = with_reports()
        left, right = connected()
        left = Reset(fileno=left.detach())
        with right:
            transport, protocol = await loop.connect_accepted_socket(Hear, left)
            transport.write(b"last")
            transport.write_eof()
            transport.close()
            assert await loop.sock_recv(right, 100) == b"last"
            assert await protocol.lost is None
        assert not reported

    run(main())


@pytest.mark.parametrize("read", [True, False])
def test_a_server_ends_when_its_clients_have_reset(read: bool) -> None:
    """A client of which the server hears while it reads, and one of which it does not before it ends the connection."""

    async def main() -> None:
        loop, reported = with_reports()
        served: asyncio.Queue[tuple[Any, Hear]] = asyncio.Queue()

        class Serve(Hear):
            def connection_made(self, transport: Any) -> None:
                if not read:
                    transport.pause_reading()
                served.put_nowait((transport, self))

        server = await loop.create_server(Serve, "127.0.0.1", 0)
        for _ in range(5):
            client = await asyncio.to_thread(socket.create_connection, server.sockets[0].getsockname())
            transport, protocol = await served.get()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("HH", 1, 0))
            client.close()
            if not read:
                transport.close()
            await protocol.lost
        server.close()
        await server.wait_closed()
        assert not reported

    run(main())


def test_a_connection_whose_options_cannot_be_set_is_one_all_the_same() -> None:
    """A client that has reset before its transport is made: what is raised then would end the listener."""

    class Gone(socket.socket):
        def setsockopt(self, *args: Any) -> None:
            asked.append(args)
            raise OSError(0, "reset", None, 10022)

    async def main() -> None:
        loop, reported = with_reports()
        left = Gone(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            left.connect(listener.getsockname())
            right, _ = listener.accept()
        left.setblocking(False)
        right.setblocking(False)
        with right:
            transport, protocol = await loop.connect_accepted_socket(Hear, left)
            assert asked == [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
            await loop.sock_sendall(right, b"heard")
            transport.write(b"said")
            assert await loop.sock_recv(right, 100) == b"said"
            right.shutdown(socket.SHUT_WR)
            assert await protocol.lost is None
            assert protocol.data == b"heard"
        assert not reported

    asked: list[Any] = []
    run(main())


def test_datagrams_go_on_after_a_port_that_nobody_has() -> None:
    async def main() -> list[bytes]:
        received: asyncio.Queue[bytes] = asyncio.Queue()
        errors = []

        class Protocol(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                received.put_nowait(data)

            def error_received(self, exc: Exception) -> None:
                errors.append(exc)

            def connection_lost(self, exc: Exception | None) -> None:
                closed.set_result(exc)

        loop = asyncio.get_running_loop()
        closed = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
        address = transport.get_extra_info("sockname")
        with socket.socket(type=socket.SOCK_DGRAM) as unused:
            unused.bind(("127.0.0.1", 0))
            nobody = unused.getsockname()
        got = []
        for number in range(3):
            transport.sendto(b"lost", nobody)
            transport.sendto(b"%d" % number, address)
            got.append(await received.get())
        transport.close()
        assert await closed is None
        assert not errors
        return got

    assert run(main()) == [b"0", b"1", b"2"]


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()
        self.closed = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        self.errors.put_nowait(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(exc)


def test_datagrams_that_were_sent_before_close_arrive() -> None:
    async def main() -> list[bytes]:
        loop = asyncio.get_running_loop()
        there, received = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        here, sent = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        for number in range(3):
            here.sendto(b"%d" % number, there.get_extra_info("sockname"))
        here.close()
        assert await sent.closed is None
        got = [await received.received.get() for _ in range(3)]
        there.close()
        await received.closed
        return got

    assert run(main()) == [b"0", b"1", b"2"]


def test_datagrams_go_on_behind_one_that_was_too_long_to_send() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        address = transport.get_extra_info("sockname")
        transport.sendto(b"first", address)
        transport.sendto(bytes(100_000), address)
        transport.sendto(b"last", address)
        error = await protocol.errors.get()
        assert isinstance(error, OSError)
        assert error.winerror == 10040  # WSAEMSGSIZE
        assert [await protocol.received.get() for _ in range(2)] == [b"first", b"last"]
        transport.close()
        await protocol.closed

    run(main())


@pytest.mark.parametrize("address", [("example.org", 9), ("::1", 9)])
def test_datagrams_go_on_behind_one_to_the_name_of_a_host(address: Any) -> None:
    async def main() -> None:
        loop, reported = with_reports()
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        transport.sendto(b"lost", address)
        transport.sendto(b"last", transport.get_extra_info("sockname"))
        error = await protocol.errors.get()
        assert isinstance(error, OSError)
        assert error.winerror == 10022  # WSAEINVAL
        assert await protocol.received.get() == b"last"
        transport.close()
        assert await protocol.closed is None
        assert not reported

    run(main())


def test_datagrams_on_a_socket_that_was_connected_before() -> None:
    async def main() -> None:
        loop, reported = with_reports()
        there, received = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.connect(there.get_extra_info("sockname"))
        here, answered = await loop.create_datagram_endpoint(Datagrams, sock=sock)
        here.sendto(b"asked")
        assert await received.received.get() == b"asked"
        there.sendto(b"answered", sock.getsockname())
        assert await answered.received.get() == b"answered"
        for each in (there, here):
            each.close()
        assert await answered.closed is None
        assert not reported

    run(main())


def test_a_connect_to_the_name_of_a_host_fails_as_the_system_would() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            with pytest.raises(OSError, match="10022"):  # WSAEINVAL
                await loop.sock_connect(sock, ("example.org", 9))

    run(main())


def test_a_datagram_is_received_into_a_part_of_a_buffer() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(type=socket.SOCK_DGRAM) as here, socket.socket(type=socket.SOCK_DGRAM) as there:
            for each in (here, there):
                each.bind(("127.0.0.1", 0))
                each.setblocking(False)
            buffer = array.array("I", [0xFFFFFFFF] * 4)
            for nbytes, data in ((6, b"123456"), (0, b"1234567890abcdef")):
                await loop.sock_sendto(here, data, there.getsockname())
                got = await loop.sock_recvfrom_into(there, memoryview(buffer).cast("B"), nbytes)
                assert got == (len(data), here.getsockname())
                assert buffer.tobytes() == data.ljust(16, b"\xff")
            await loop.sock_sendto(here, b"too long", there.getsockname())
            with pytest.raises(tpio.TruncatedError):
                await loop.sock_recvfrom_into(there, buffer, 6)
            for bad in (17, -1):
                with pytest.raises(ValueError, match=str(bad)):
                    await loop.sock_recvfrom_into(there, buffer, bad)

    run(main())


def test_datagrams_go_on_behind_one_that_was_too_long_to_receive() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        address = transport.get_extra_info("sockname")
        transport.max_size = 1000
        for size in (10, 2000, 20, 2000, 30):  # the first is received by what was posted before
            transport.sendto(bytes(size), address)
        sizes = [len(await protocol.received.get()) for _ in range(3)]
        assert sizes == [10, 20, 30]
        assert [type(await protocol.errors.get()) for _ in range(2)] == [tpio.TruncatedError] * 2
        transport.close()
        await protocol.closed

    run(main())


async def end_in_silence(protocol: Datagrams, *transports: asyncio.BaseTransport) -> None:
    """The first transport is the protocol's, which has heard of no error."""
    for transport in transports:
        transport.close()
    await protocol.closed
    assert protocol.errors.empty()


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_datagrams_come_to_an_endpoint_that_was_given_no_address(family: int, host: str) -> None:
    """Windows refuses the read of a socket that has none; Wine lets it wait."""

    async def main() -> None:
        loop, reported = with_reports()
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, family=family)
        port = transport.get_extra_info("sockname")[1]
        assert port == transport.get_extra_info("socket").getsockname()[1] != 0
        sender, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=(host, 0))
        sender.sendto(b"here", (host, port))
        assert await protocol.received.get() == b"here"
        await end_in_silence(protocol, transport, sender)
        assert not reported

    run(main())


def test_datagrams_to_one_receiver_without_a_connection() -> None:
    """As for a broadcast, of which the answers come from elsewhere."""

    async def main() -> None:
        loop, reported = with_reports()
        there, received = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        receiver = there.get_extra_info("sockname")
        here, answered = await loop.create_datagram_endpoint(Datagrams, remote_addr=receiver, allow_broadcast=True)
        here.sendto(b"to all")
        here.sendto(b"to all", receiver)
        with pytest.raises(ValueError, match="must be None or"):
            here.sendto(b"to all", ("127.0.0.1", 9))
        assert [await received.received.get() for _ in range(2)] == [b"to all"] * 2
        other, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        other.sendto(b"answer", ("127.0.0.1", here.get_extra_info("sockname")[1]))
        assert await answered.received.get() == b"answer"
        await end_in_silence(answered, here, there, other)
        assert not reported

    run(main())


def test_reads_of_datagrams_that_are_refused_at_once_do_not_keep_the_loop_busy() -> None:
    async def main() -> None:
        loop, reported = with_reports()
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.shutdown(socket.SHUT_RD)
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=sock)
        error = await protocol.errors.get()
        assert isinstance(error, OSError)
        assert error.winerror == 10058  # WSAESHUTDOWN
        for _ in range(1000):
            await asyncio.sleep(0)
        assert protocol.errors.qsize() <= 2
        transport.close()
        await protocol.closed
        assert not reported

    run(main())


def test_sendfile_of_more_than_one_call_can_send(tmp_path: Any) -> None:
    data = os.urandom(100_000)

    async def main(file: Any) -> None:
        loop = asyncio.get_running_loop()
        left, right = connected()
        with left, right:
            sending = asyncio.ensure_future(loop.sock_sendfile(left, file, 3))
            got = b""
            while len(got) < len(data) - 3:
                got += await loop.sock_recv(right, 65536)
            assert await sending == len(data) - 3
            assert got == data[3:]
            assert file.tell() == len(data)

    (tmp_path / "file").write_bytes(data)
    submitted = tpio.default_pool().stats().submitted
    with support.largest_call(10_007), open(tmp_path / "file", "rb") as file:
        run(main(file))
    assert tpio.default_pool().stats().submitted - submitted >= 10  # parts


def test_sendfile_in_parts_is_cancelled_and_keeps_no_handle(tmp_path: Any) -> None:
    path = tmp_path / "file"
    left, right = connected()

    async def main(file: Any) -> None:
        loop = asyncio.get_running_loop()
        sending = asyncio.ensure_future(loop.sock_sendfile(left, file))
        assert await loop.sock_recv(right, 1)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    def nobody_has_it_open() -> bool:
        try:
            os.unlink(path)
        except PermissionError:
            if support.wine:  # loses a cancel that comes while it moves a part: it ends with that
                with contextlib.suppress(BlockingIOError):
                    right.recv(1 << 20)
            return False
        return True

    with left, right:
        with support.largest_call(1 << 20), open(path, "w+b") as file:
            file.truncate(16 << 20)
            run(main(file))
        assert support.eventually(nobody_has_it_open)


def test_a_protocol_that_has_closed_hears_of_nothing_that_came_behind() -> None:
    class Once(asyncio.Protocol):
        def __init__(self) -> None:
            self.heard: list[str] = []
            self.lost = asyncio.get_running_loop().create_future()

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.heard.append("data")
            self.transport.close()

        def eof_received(self) -> None:
            self.heard.append("eof")

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(exc)

    async def main() -> None:
        left, right = connected()
        left.sendall(b"one")
        left.close()  # the end of the stream is there already when the data is read
        _, protocol = await asyncio.get_running_loop().connect_accepted_socket(Once, right)
        assert await protocol.lost is None
        assert protocol.heard == ["data"]

    run(main())


def test_what_a_protocol_writes_when_it_hears_that_there_is_room_is_sent_before_the_end() -> None:
    class Talker(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def pause_writing(self) -> None:
            pass

        def resume_writing(self) -> None:
            self.transport.write(b"bye")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        left, right = connected()
        with left:
            transport, _ = await loop.connect_accepted_socket(Talker, right)
            size = 1 << 20
            while not transport.get_write_buffer_size():  # until the system takes no more
                transport.write(bytes(size))
            transport.close()
            got = b""
            while data := await loop.sock_recv(left, 1 << 20):
                got += data
            assert got.endswith(b"bye")
            assert (len(got) - 3) % size == 0

    run(main())


@pytest.mark.parametrize("left", [b"", b"left behind"])
def test_a_pipe_client_that_has_gone_is_passed_over_unless_it_has_left_something(left: bytes) -> None:
    address = rf"\\.\pipe\tpio-test-{secrets.token_hex(8)}"

    class Collect(asyncio.Protocol):
        def __init__(self) -> None:
            self.data = b""

        def data_received(self, data: bytes) -> None:
            self.data += data

        def connection_lost(self, exc: Exception | None) -> None:
            ended.put_nowait(self.data)

    ended: asyncio.Queue[bytes] = asyncio.Queue()

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        [server] = await loop.start_serving_pipe(Collect, address)
        gone = os.open(address, os.O_RDWR | os.O_BINARY)  # before the server has begun to accept
        if left:
            os.write(gone, left)
        os.close(gone)
        client = await tpio.open_pipe(address, timeout=support.WAIT)
        await client.write(b"served")
        client.close()
        got = [await ended.get() for _ in expected]
        assert sorted(got) == sorted(expected)  # they end in any order
        server.close()

    expected = [left, b"served"] if left else [b"served"]
    run(main())


def test_named_pipe_server_and_client() -> None:
    address = rf"\\.\pipe\tpio-test-{secrets.token_hex(8)}"

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

        def connection_lost(self, exc: Exception | None) -> None:
            ended.put_nowait(exc)

    ended: asyncio.Queue[Exception | None] = asyncio.Queue()

    async def client(loop: Any, text: bytes) -> bytes:
        reader = asyncio.StreamReader()
        transport, _ = await loop.create_pipe_connection(lambda: asyncio.StreamReaderProtocol(reader), address)
        transport.write(text)
        answer = await reader.readexactly(len(text))
        transport.close()
        return answer

    async def main() -> list[bytes]:
        loop: Any = asyncio.get_running_loop()
        [server] = await loop.start_serving_pipe(Echo, address)
        answers = await asyncio.gather(*(client(loop, b"%d" % n) for n in range(8)))
        assert [await ended.get() for _ in answers] == [None] * 8
        server.close()
        return answers

    assert run(main()) == [b"%d" % n for n in range(8)]


def test_a_pipe_connection_to_a_path() -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        with tpio.PipeListener(f"tpio-test-{secrets.token_hex(8)}") as listener:
            accepting = listener.accept()
            transport, protocol = await loop.create_pipe_connection(Hear, pathlib.PureWindowsPath(listener.name))
            with await accepting as connection:
                transport.write(b"data")
                assert await connection.read(100) == b"data"
            assert await protocol.lost is None

    run(main())


@pytest.mark.parametrize("address", [rb"\\.\pipe\tpio", 7, None, pathlib])
def test_a_pipe_connection_to_what_is_no_name_is_refused(address: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        with pytest.raises(TypeError):
            await loop.create_pipe_connection(Hear, address)

    run(main())


def test_pipe_streams_serve_many_clients_and_close() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def client(number: int) -> bytes:
        reader, writer = await aio.open_pipe(name)
        sent = os.urandom(100_000)
        writer.write(sent)
        got = await reader.readexactly(len(sent))
        writer.close()
        await writer.wait_closed()
        return sent if got == sent else b"different"

    async def main() -> None:
        async with await aio.serve_pipe(echo, name, listening=2) as server:
            assert server.is_serving()
            assert [len(got) for got in await asyncio.gather(*map(client, range(10)))] == [100_000] * 10
        assert not server.is_serving()
        with pytest.raises(FileNotFoundError):
            await aio.open_pipe(name)

    name = f"tpio-test-{secrets.token_hex(8)}"
    run(main())


def test_pipe_server_closes_its_clients_once_all_is_written() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(1_000_000))
        writers.append(writer)
        greeted.set()

    async def main() -> None:
        server = await aio.serve_pipe(greet, name)
        reader, writer = await aio.open_pipe(name)
        await greeted.wait()
        server.close()
        server.close_clients()
        assert len(await reader.read()) == 1_000_000
        await server.wait_closed()
        writer.close()
        await writer.wait_closed()

    name = f"tpio-test-{secrets.token_hex(8)}"
    greeted = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []
    run(main())


def test_pipe_server_that_serves_for_ever_ends_when_it_is_cancelled() -> None:
    async def main() -> None:
        server = await aio.serve_pipe(lambda reader, writer: writer.close(), name)
        serving = asyncio.ensure_future(server.serve_forever())
        reader, writer = await aio.open_pipe(name)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not server.is_serving()

    name = f"tpio-test-{secrets.token_hex(8)}"
    run(main())


class Hear(asyncio.Protocol):
    """What was received, and the end."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


def test_transports_for_both_ends_of_a_tpio_pipe() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = tpio.pipe()
        _, reader = await loop.connect_read_pipe(Hear, ours)
        writing, writer = await loop.connect_write_pipe(Hear, theirs)
        writing.write(bytes(500_000))
        writing.write(b"end")
        writing.close()
        assert [await reader.lost, await writer.lost] == [None, None]
        assert (len(reader.data), reader.data[-3:]) == (500_003, b"end")
        assert ours.closed
        assert theirs.closed

    run(main())


def test_transport_of_a_tpio_pipe_closes_with_a_read_pending() -> None:
    async def main() -> None:
        ours, theirs = tpio.pipe()
        with theirs:
            await asyncio.sleep(0)
            before = support.pending()  # the loop's own
            reading, reader = await asyncio.get_running_loop().connect_read_pipe(Hear, ours)
            await asyncio.sleep(0)
            reading.close()
            assert await reader.lost is None
            assert ours.closed
            assert support.pending() == before  # close() has waited for the read, whose end came to this loop

    run(main())


STANDARD = """
import asyncio, sys
from tpio import _verbs, aio

async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    output, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout)
    while line := await reader.readline():
        output.write(line.upper())
    output.close()

aio.run(main())
"""


def test_standard_input_and_output_that_are_ordinary_pipes() -> None:
    async def main() -> None:
        with tpio.spawn([sys.executable, "-c", STANDARD], stdin=tpio.PIPE, stdout=tpio.PIPE) as child:
            loop = asyncio.get_running_loop()
            reader = asyncio.StreamReader()
            answers, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), child.stdout)
            for word in (b"one\n", b"two\n"):  # it answers each before the next is written
                await child.stdin.write(word)
                assert await reader.readline() == word.upper()
            child.stdin.close()
            assert await reader.read() == b""
            assert await child.wait() == 0
            answers.close()

    run(main())


def test_a_file_that_is_not_overlapped_is_read_and_written(tmp_path: Any) -> None:
    async def main(source: Any, target: Any) -> None:
        loop = asyncio.get_running_loop()
        writing, writer = await loop.connect_write_pipe(Hear, target)
        for number in range(100):
            writing.write(b"%d\n" % number)
        writing.close()
        assert await writer.lost is None
        assert target.closed
        _, reader = await loop.connect_read_pipe(Hear, source)
        assert await reader.lost is None
        assert reader.data == b"".join(b"%d\n" % number for number in range(100))

    with open(tmp_path / "file", "wb") as target, open(tmp_path / "file", "rb") as source:
        run(main(source, target))


def test_a_cancelled_read_of_an_ordinary_pipe_loses_nothing() -> None:
    async def main(file: Any, writer: Any) -> None:
        proactor = asyncio.get_running_loop()._proactor  # type: ignore[attr-defined]
        got = b""
        for number in range(100):
            receiving = proactor.recv(file, 100)
            if number % 2:
                await asyncio.sleep(0)
            writer.write(struct.pack("I", number))
            if number % 3:
                await asyncio.sleep(0)
            receiving.cancel()
            if not receiving.cancelled():
                got += receiving.result()
        while len(got) < 400:
            got += await proactor.recv(file, 100)
        assert got == b"".join(struct.pack("I", number) for number in range(100))

    read, write = os.pipe()
    with open(read, "rb", buffering=0) as file, open(write, "wb", buffering=0) as writer:
        run(main(file, writer))


@pytest.mark.parametrize("into", [False, True])
def test_a_cancel_when_an_ordinary_pipe_has_been_read_but_the_read_has_not_ended(into: bool) -> None:
    async def main(file: Any, writer: Any) -> None:
        proactor = asyncio.get_running_loop()._proactor  # type: ignore[attr-defined]
        receiving = proactor.recv_into(file, bytearray(100)) if into else proactor.recv(file, 100)
        writer.write(b"first, ")
        await asyncio.to_thread(has_read.wait, support.WAIT)
        receiving.cancel()
        following = proactor.recv(file, 100)  # before the other brings back what it has got
        cancelled.set()
        assert await following == b"first, "
        writer.write(b"second")
        assert await proactor.recv(file, 100) == b"second"
        assert receiving.cancelled()

    read, write = os.pipe()
    has_read, cancelled = threading.Event(), threading.Event()
    with open(read, "rb", buffering=0) as file, open(write, "wb", buffering=0) as writer:
        blocking = blocking_file_of(file)
        end_read = blocking._end_read

        def end_late(*arguments: Any) -> None:
            has_read.set()
            assert cancelled.wait(support.WAIT)
            end_read(*arguments)

        blocking._end_read = end_late  # type: ignore[method-assign]
        run(main(file, writer))


def test_a_write_to_an_ordinary_pipe_that_has_begun_goes_on_after_an_abort(tmp_path: Any) -> None:
    """The file is closed by then, and the number of its handle another file's. Windows would wait there for the write."""
    data = os.urandom(300_000)

    def open_others() -> list[Any]:
        return [open(tmp_path / str(number), "wb", buffering=0) for number in range(8)]

    async def main(file: Any, reader: Any) -> None:
        transport, protocol = await asyncio.get_running_loop().connect_write_pipe(Hear, file)
        transport.write(data)
        begin = await asyncio.to_thread(reader.read, 1)
        transport.abort()
        assert await protocol.lost is None
        assert file.closed
        others = open_others()
        rest = await asyncio.to_thread(lambda: b"".join(iter(lambda: reader.read(65536), b"")))
        assert begin + rest == data
        for other in others:
            assert os.fstat(other.fileno()).st_size == 0
            other.close()

    read, write = os.pipe()
    with open(read, "rb", buffering=0) as reader, open(write, "wb", buffering=0) as file:
        run(main(file, reader))


def test_a_read_of_an_ordinary_pipe_is_asked_for_while_another_waits() -> None:
    """Windows answers no question about a file that has I/O under way, such as whether it is overlapped."""

    async def main(file: Any, writer: Any) -> None:
        proactor = asyncio.get_running_loop()._proactor  # type: ignore[attr-defined]
        first = proactor.recv(file, 5)
        assert await asyncio.to_thread(support.eventually, lambda: blocking_file_of(file)._thread)
        second = proactor.recv(file, 5)
        writer.write(b"12345")
        assert await first == b"12345"
        writer.write(b"67890")
        assert await second == b"67890"

    read, write = os.pipe()
    with open(read, "rb", buffering=0) as file, open(write, "wb", buffering=0) as writer:
        run(main(file, writer))


def test_nobody_has_a_file_that_is_not_overlapped_when_its_transport_has_ended(tmp_path: Any) -> None:
    def opened(mode: str) -> Any:
        return open(path, mode)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(100):
            writing, writer = await loop.connect_write_pipe(Hear, opened("wb"))
            writing.write(b"data")
            writing.close()
            assert await writer.lost is None
            _, reader = await loop.connect_read_pipe(Hear, opened("rb"))
            assert await reader.lost is None
            assert reader.data == b"data"
            os.unlink(path)

    path = tmp_path / "file"
    run(main())


def test_an_ordinary_pipe_for_which_there_is_no_thread() -> None:
    """Every read and write is told so, not only the first."""
    program = """
import atexit
import os

def after_tpio():
    for operation in [lambda: blocking._recv(1), lambda: blocking._send(b"x")] * 2:
        try:
            operation()
        except RuntimeError as error:
            print(error)

atexit.register(after_tpio)
from tpio._blocking import blocking_file_of

read, write = os.pipe()
file = open(read, "rb", buffering=0)
blocking = blocking_file_of(file)
"""
    ended = support.python(program)
    assert ended.stdout.splitlines() == ["tpio has ended: the interpreter is shutting down"] * 4
    assert ended.returncode == 0


def test_a_loop_ends_with_a_read_of_an_ordinary_pipe_pending() -> None:
    read, write = os.pipe()
    with open(read, "rb", buffering=0) as file, open(write, "wb", buffering=0) as writer:

        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            loop._proactor.recv(file, 100)

        async def again() -> bytes:
            loop: Any = asyncio.get_running_loop()
            return await loop._proactor.recv(file, 100)

        run(main())
        writer.write(b"for the next loop")
        assert run(again()) == b"for the next loop"


def test_open_file_is_awaited_or_entered(tmp_path: Any) -> None:
    async def main() -> None:
        async with aio.open_file(path, "w+b") as file:
            assert await file.write(b"0123456789", 0) == 10
            assert await file.read(4, 3) == b"3456"
        assert file.closed
        file = await aio.open_file(path)
        with file:
            assert await file.read(100) == b"0123456789"
        with pytest.raises(FileNotFoundError):
            await aio.open_file(tmp_path / "nothing")

    path = tmp_path / "file"
    run(main())


def test_open_file_that_is_cancelled_leaves_no_handle(tmp_path: Any) -> None:
    async def main() -> None:
        for _ in range(20):
            opening = asyncio.ensure_future(enter())
            await asyncio.sleep(0)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening

    async def enter() -> None:
        async with aio.open_file(tmp_path / "file", "wb"):
            await asyncio.get_running_loop().create_future()

    run(main())


def test_changes_of_a_directory_as_an_async_iterator(tmp_path: Any) -> None:
    async def main() -> set[str]:
        seen = set()
        with tpio.watch(tmp_path) as watcher:
            for name in ("one", "two"):
                (tmp_path / name).touch()
            async for change in watcher:
                if change.kind == "created":
                    seen.add(os.path.basename(change.path))
                if len(seen) == 2:
                    return seen
        return seen

    assert run(main()) == {"one", "two"}


def test_subprocess_megabytes_both_ways() -> None:
    program = "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data[::-1]); sys.exit(5)"

    async def main() -> tuple[bytes, int | None]:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdin=pipe, stdout=pipe)
        out, _ = await child.communicate(data)
        return out, child.returncode

    data = os.urandom(1 << 20)
    assert run(main()) == (data[::-1], 5)


def test_await_on_a_tpio_future() -> None:
    async def main() -> bytes:
        reader, writer = tpio.pipe()
        with reader, writer:
            reading = asyncio.ensure_future(asyncio.wait_for(reader.read(10), support.WAIT))
            await asyncio.sleep(0)
            await writer.write(b"awaited")
            return await reading

    assert run(main()) == b"awaited"


@pytest.mark.parametrize(
    "look",
    [
        lambda future: future.result(support.WAIT),
        lambda future: future.exception(support.WAIT),
        lambda future: concurrent.futures.wait([future], support.WAIT),
        lambda future: future.add_done_callback(lambda _: None) or support.eventually(future.done),
        lambda future: support.eventually(lambda: future.result(0) if future.done() else False),
    ],
    ids=["result", "exception", "wait", "callback", "polling"],
)
@pytest.mark.parametrize("before", [True, False], ids=["before the end", "after the end"])
def test_who_else_waits_for_what_a_task_awaits_does_not_wait_for_its_loop(look: Any, before: bool) -> None:
    """The loop takes what its tasks await by itself. It may be busy for long, perhaps until the others have got it."""

    async def main() -> tuple[bytes, bytes]:
        awaiting = asyncio.ensure_future(awaited(future))
        await asyncio.sleep(0)
        begun = threading.Event()
        seen: list[bytes] = []

        def other() -> None:
            begun.set()
            look(future)
            seen.append(future.result(0))

        if not before:
            writer.write(b"omg").result(support.WAIT)
        with support.thread(other):  # waits at its end, and the loop with it
            assert begun.wait(support.WAIT)
            if before:
                writer.write(b"omg").result(support.WAIT)
        return seen[0], await awaiting

    async def awaited(future: tpio.Future[bytes]) -> bytes:
        return await future

    reader, writer = tpio.pipe()
    with reader, writer:
        future = reader.read(10)
        assert run(main()) == (b"omg", b"omg")


@pytest.mark.parametrize("end", ["handle", "pool"])
@pytest.mark.parametrize("here", [True, False], ids=["in the loop", "on another thread"])
def test_a_close_waits_for_no_loop_whose_task_awaits(end: str, here: bool) -> None:
    async def main() -> None:
        async def read() -> None:
            await reader.read(10)

        reading = asyncio.ensure_future(read())
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        if here:
            close()
        else:
            with support.thread(close):
                pass
        assert asyncio.get_running_loop().time() - began < 4  # a close is patient for five seconds
        with pytest.raises(asyncio.CancelledError):
            await reading

    near, far = connected()
    with tpio.Pool() as pool, far, tpio.Socket(sock=near, pool=pool) as reader:
        close = reader.close if end == "handle" else pool.close
        run(main())


def test_an_await_in_a_loop_that_has_stopped_is_taken_by_who_closes_its_handle() -> None:
    reader, writer = tpio.pipe()
    loop = aio.EventLoop()
    with reader, writer:

        async def read() -> bytes:
            return await reader.read(10)

        reading = loop.create_task(read())
        loop.run_until_complete(asyncio.sleep(0))
        began = loop.time()
        reader.close()
        assert loop.time() - began < 4
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(reading)
    loop.close()


def test_call_soon_threadsafe_wakes_the_loop() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(200):
            done = loop.create_future()
            threading.Thread(target=loop.call_soon_threadsafe, args=(done.set_result, None)).start()
            await done

    run(main())


def test_ctrl_c_wakes_the_loop_at_once() -> None:
    async def main() -> None:
        threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()
        await asyncio.get_running_loop().create_future()  # for ever

    with pytest.raises(KeyboardInterrupt):
        run(main())


def test_shutdown_with_operations_pending_is_silent() -> None:
    complaints: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: complaints.append(context))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for _ in range(5):
            reader, writer = await asyncio.open_connection(*address)
            readers.append(asyncio.ensure_future(reader.read()))
            writers.append(writer)
        await asyncio.sleep(0)
        for writer in writers:
            writer.close()
        server.close()

    writers: list[asyncio.StreamWriter] = []
    readers: list[asyncio.Future[bytes]] = []
    run(main())
    assert not complaints


def test_pending_operation_is_cancelled_by_the_loop_that_closes() -> None:
    left, right = connected()
    with left, right:
        loop = aio.EventLoop()
        receiving = loop._proactor.recv(right, 10)  # type: ignore[attr-defined]
        loop.close()
        assert receiving.cancelled()


def test_operations_on_a_closed_proactor_are_refused() -> None:
    proactor = aio.Proactor()
    proactor.close()
    proactor.close()
    with pytest.raises(RuntimeError):
        proactor.select(0)


def test_what_is_closed_is_refused_as_the_system_would() -> None:
    """A server that is closed just when a client has come goes on to the next accept; asyncio expects an OSError there."""

    async def main() -> None:
        proactor = asyncio.get_running_loop()._proactor  # type: ignore[attr-defined]
        closed = socket.socket()
        closed.close()
        for begin in (proactor.accept, lambda sock: proactor.recv(sock, 1), lambda sock: proactor.send(sock, b"x")):
            with pytest.raises(OSError, match="6") as caught:
                begin(closed)
            assert caught.value.winerror == 6

    run(main())
