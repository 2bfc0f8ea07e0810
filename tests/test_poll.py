"""Readiness of sockets: poll_read and poll_write, of tpio's objects and of sockets that are bound elsewhere or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait
from typing import Any

import pytest

import tpio
from ends import cancel_and_wait, closing, plain_tcp_pair, tcp_pair
from support import WAIT

# The two ways of a poll: through a socket's own handle, and through a device of the pool's.
WAYS = ["bound", "plain"]


@contextlib.contextmanager
def pair_of(way: str) -> Iterator[tuple[Any, socket.socket]]:
    """A connected pair: the end to be polled, and its peer."""
    ours, peer = plain_tcp_pair()
    with peer, tpio.Socket(sock=ours) if way == "bound" else ours as end:
        yield end, peer


def take(ours: Any) -> bytes:
    return ours.recv(100).result(WAIT) if isinstance(ours, tpio.Socket) else ours.recv(100)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh", 1, 0))
    sock.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_poll_waits_for_data_and_takes_nothing_and_sees_it_again(way):
    with pair_of(way) as (ours, peer):
        polling = tpio.poll_read(ours)
        assert not polling.done()
        peer.send(b"data")
        assert polling.result(WAIT) is None
        assert tpio.poll_read(ours).result(WAIT) is None
        assert take(ours) == b"data"
        again = tpio.poll_read(ours)
        assert not again.done()
        peer.send(b"more")
        assert again.result(WAIT) is None
        assert take(ours) == b"more"


@pytest.mark.parametrize("way", WAYS)
def test_a_connected_socket_is_writable_and_a_full_one_is_when_there_is_room(way):
    with pair_of(way) as (ours, peer):
        assert tpio.poll_write(ours).result(WAIT) is None
        plain = socket.socket(fileno=ours.fileno())
        plain.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += plain.send(bytes(1 << 20))
        plain.detach()
        polling = tpio.poll_write(ours)
        assert not polling.done()
        while sent > 0:
            sent -= len(peer.recv(1 << 20))
        assert polling.result(WAIT) is None


@pytest.mark.parametrize("way", WAYS)
def test_a_peer_that_sends_no_more_is_readable(way):
    with pair_of(way) as (ours, peer):
        polling = tpio.poll_read(ours)
        peer.shutdown(socket.SHUT_WR)
        assert polling.result(WAIT) is None
        assert take(ours) == b""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("poll", [tpio.poll_read, tpio.poll_write])
def test_a_reset_is_the_error_of_a_poll(way, poll):
    with pair_of(way) as (ours, peer):
        polling = tpio.poll_read(ours)
        reset(peer)
        for future in (polling, poll(ours)):
            error = future.exception(WAIT)
            assert isinstance(error, ConnectionResetError)
            assert error.winerror == 10054


@pytest.mark.parametrize("way", WAYS)
def test_a_cancelled_poll_takes_nothing(way):
    with pair_of(way) as (ours, peer):
        cancel_and_wait(tpio.poll_read(ours))
        kept = tpio.poll_read(ours)
        cancel_and_wait(tpio.poll_read(ours))
        assert not kept.done()
        peer.send(b"data")
        assert kept.result(WAIT) is None
        assert take(ours) == b"data"


@pytest.mark.parametrize("way", WAYS)
def test_a_socket_that_is_closed_here_ends_its_polls_cancelled(way):
    with pair_of(way) as (ours, _):
        polls = [tpio.poll_read(ours) for _ in range(3)]
        if way == "plain":  # its object is kept open by the poll; its handle is not
            socket.close(ours.detach())
        else:
            ours.close()
        for poll in polls:
            with pytest.raises(CancelledError):
                poll.result(WAIT)


@pytest.mark.parametrize("lent", [False, True])
def test_close_and_cancel_of_a_handle_end_its_polls(lent):
    ours, peer = plain_tcp_pair()
    with closing(ours, peer):
        handle = tpio.Handle(ours, owns=False) if lent else tpio.Handle(ours.detach())
        polls = [handle.poll_read() for _ in range(3)]
        handle.cancel()
        assert not wait(polls, WAIT).not_done
        assert all(poll.cancelled() for poll in polls)
        poll = handle.poll_read()
        handle.close()
        assert poll.cancelled()


def test_a_poll_and_a_receive_of_one_socket_are_beside_each_other():
    server, client = tcp_pair()
    with closing(server, client):
        receiving, polling = server.recv(100), server.poll_read()
        client.send(b"first").result(WAIT)
        assert receiving.result(WAIT) == b"first"
        client.send(b"second").result(WAIT)
        assert polling.result(WAIT) is None
        assert server.recv(100).result(WAIT) in (b"second", b"")


@pytest.mark.parametrize("way", WAYS)
def test_a_listening_socket_is_readable_when_there_is_a_connection(way):
    plain = socket.create_server(("127.0.0.1", 0))
    with tpio.Socket(sock=plain) if way == "bound" else plain as listener:
        polling = tpio.poll_read(listener)
        assert not polling.done()
        with socket.create_connection(listener.getsockname()):
            assert polling.result(WAIT) is None
            assert tpio.poll_read(listener).result(WAIT) is None
            accepted = listener.accept()
            connection, _ = accepted if way == "plain" else accepted.result(WAIT)
            connection.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("poll", [tpio.poll_read, tpio.poll_write])
def test_a_refused_connect_is_the_error_of_a_poll(way, poll):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    plain = socket.socket()
    plain.setblocking(False)
    with tpio.Socket(sock=plain) if way == "bound" else plain as ours:
        connecting = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, ours.fileno())
        with contextlib.suppress(BlockingIOError):
            connecting.connect(address)
        assert isinstance(poll(ours).exception(WAIT), ConnectionRefusedError)
        assert connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 10061
        connecting.detach()


@pytest.mark.parametrize("way", WAYS)
def test_a_connect_is_writable_when_it_is_made(way):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        plain = socket.socket()
        plain.setblocking(False)
        with tpio.Socket(sock=plain) if way == "bound" else plain as ours:
            connecting = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, ours.fileno())
            with contextlib.suppress(BlockingIOError):
                connecting.connect(listener.getsockname())
            assert tpio.poll_write(ours).result(WAIT) is None
            assert connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            connecting.detach()


@pytest.mark.parametrize("way", WAYS)
def test_a_datagram_socket_is_polled_and_the_datagram_stays(way):
    plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    plain.bind(("127.0.0.1", 0))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        tpio.Socket(sock=plain) if way == "bound" else plain as ours,
    ):
        assert tpio.poll_write(ours).result(WAIT) is None
        polling = tpio.poll_read(ours)
        assert not polling.done()
        sender.sendto(b"datagram", ours.getsockname())
        assert polling.result(WAIT) is None
        assert take(ours) == b"datagram"


@pytest.mark.once
def test_seven_hundred_sockets_are_polled_at_once():
    with contextlib.ExitStack() as stack:
        pairs = [plain_tcp_pair() for _ in range(350)]
        for pair in pairs:
            stack.enter_context(closing(*pair))
        polls = {end: tpio.poll_read(end) for pair in pairs for end in pair}
        assert not any(poll.done() for poll in polls.values())
        for ours, peer in pairs:
            ours.send(b"a")
            peer.send(b"b")
        assert not wait(polls.values(), WAIT).not_done
        assert {end.recv(9) for end, _ in pairs} == {b"b"}


def test_a_socket_of_asyncios_port_is_polled():
    ours, peer = plain_tcp_pair()

    async def receive_and_poll() -> None:
        loop = asyncio.get_running_loop()
        receiving = asyncio.ensure_future(loop.sock_recv(ours, 9))
        await asyncio.sleep(0)
        peer.send(b"first")
        assert await receiving == b"first"
        with pytest.raises(tpio.BindError):
            tpio.read(ours, 1)
        polling = tpio.poll_read(ours)
        assert not polling.done()
        peer.send(b"data")
        await polling
        await tpio.poll_write(ours)

    with closing(ours, peer):
        ours.setblocking(False)
        loop = asyncio.ProactorEventLoop()
        with contextlib.closing(loop):
            loop.run_until_complete(receive_and_poll())
        assert ours.recv(9) == b"data"


def test_duplicates_of_a_socket_are_polled_each():
    ours, peer = plain_tcp_pair()
    with closing(ours, peer), ours.dup() as other:
        polls = [tpio.poll_read(ours), tpio.poll_read(other)]
        peer.send(b"data")
        assert not wait(polls, WAIT).not_done
        assert other.recv(9) == b"data"


def test_bytes_that_a_cancelled_read_has_left_are_readable(tmp_path):
    server, client = tcp_pair()
    with closing(server, client):
        server._put_back(b"left")
        assert server.poll_read().result(WAIT) is None
        assert server.recv(9).result(WAIT) == b"left"


def test_what_tpio_has_bound_is_polled_by_its_binding():
    ours, peer = plain_tcp_pair()
    with closing(ours, peer):
        peer.send(b"data")
        assert tpio.read(ours, 1).result(WAIT) == b"d"
        assert tpio.poll_read(ours).result(WAIT) is None
        assert tpio.read(ours, 9).result(WAIT) == b"ata"
        cancel_and_wait(tpio.poll_read(ours))


class Wrapper:
    """An object of another library that has a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def fileno(self) -> int:
        return self._sock.fileno()


def test_a_pending_poll_keeps_the_object_that_it_polls():
    ours, peer = plain_tcp_pair()
    with closing(ours, peer):
        wrapper = Wrapper(ours)
        alive = weakref.ref(wrapper)
        polling = tpio.poll_read(wrapper)
        del wrapper
        gc.collect()
        assert alive() is not None
        assert not polling.done()
        peer.send(b"data")
        assert polling.result(WAIT) is None
        gc.collect()
        assert alive() is None


def test_the_devices_of_a_pool_are_no_handles_of_the_program():
    before = tpio.default_pool().stats().handles
    with pair_of("plain") as (ours, _):
        polling = tpio.poll_read(ours)
        assert tpio.default_pool().stats().handles == before
        assert tpio.default_pool().stats().pending >= 1
        cancel_and_wait(polling)


@pytest.mark.parametrize("poll", [tpio.poll_read, tpio.poll_write])
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: 4, TypeError, "wrap it in tpio.Handle"),
        (lambda: "text", TypeError, "a tpio object or one with fileno"),
        (lambda: closed_socket(), ValueError, "is the object closed"),
    ],
)
def test_what_cannot_be_polled_is_refused_with_a_reason(poll: Callable[[Any], Any], make, error, message):
    submitted = tpio.default_pool().stats().submitted
    with pytest.raises(error, match=message):
        poll(make())
    assert tpio.default_pool().stats().submitted == submitted


def closed_socket() -> socket.socket:
    sock = socket.socket()
    sock.close()
    return sock


def test_a_pipe_has_no_poll_for_writing_and_a_file_has_none(tmp_path):
    reader, writer = tpio.pipe()
    with closing(reader, writer):
        with pytest.raises(ValueError, match="only sockets can be polled for writing"):
            tpio.poll_write(writer)
        polling = tpio.poll_read(reader)
        writer.write(b"data").result(WAIT)
        assert polling.result(WAIT) is None
    with tpio.open(tmp_path / "file", "wb") as file:
        for poll in (tpio.poll_read, tpio.poll_write):
            with pytest.raises(ValueError, match="a file cannot be polled"):
                poll(file)
        assert not hasattr(file, "poll_write")


def test_a_closed_handle_is_not_polled():
    server, client = tcp_pair()
    with closing(client):
        server.close()
        for poll in (server.poll_read, server.poll_write, lambda: tpio.poll_read(server)):
            with pytest.raises(ValueError, match="closed"):
                poll()


@pytest.mark.parametrize("way", WAYS)
def test_polls_cancels_data_and_closes_race(way):
    for i in range(60):
        with pair_of(way) as (ours, peer):
            polls = [tpio.poll_read(ours) for _ in range(4)]
            actions: list[Callable[[], Any]] = [polls[0].cancel, lambda peer=peer: peer.send(b"x"), polls[1].cancel]
            actions = actions[i % 3 :] + actions[: i % 3]
            runs = [tpio.default_pool().submit(action) for action in actions]
            for poll in polls[2:]:
                assert poll.result(WAIT) is None
            assert not wait(polls, WAIT).not_done
            assert all(poll.cancelled() or poll.result() is None for poll in polls)
            for run in runs:
                run.result(WAIT)
            assert take(ours) == b"x"
