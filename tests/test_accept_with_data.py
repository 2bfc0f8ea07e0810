"""accept(receive=n): the connection comes with the first that the client has sent."""

from __future__ import annotations

import asyncio
import socket

import pytest

import tpio
from ends import cancel_and_wait, closing
from support import WAIT, eventually


@pytest.fixture
def listener():
    with tpio.listen(("127.0.0.1", 0)) as listener:
        yield listener


def connect(listener):
    return tpio.open_connection(listener.getsockname()).result(WAIT)


def test_the_first_data_comes_with_the_connection(listener):
    accepting = listener.accept(receive=100)
    with connect(listener) as client:
        client.send(b"first").result(WAIT)
        server, address, data = accepting.result(WAIT)
        with server:
            assert (data, address) == (b"first", client.getsockname())
            client.send(b"second").result(WAIT)
            assert server.recv(100).result(WAIT) == b"second"
            server.send(b"answer").result(WAIT)
            assert client.recv(100).result(WAIT) == b"answer"


def test_more_than_asked_for_is_for_the_next_receive(listener):
    accepting = listener.accept(receive=3)
    with connect(listener) as client:
        client.send(b"abcdef").result(WAIT)
        server, _, data = accepting.result(WAIT)
        with server:
            assert data == b"abc"
            assert server.recv(100).result(WAIT) == b"def"


def test_it_waits_for_a_client_that_has_sent_nothing_yet(listener):
    accepting = listener.accept(receive=100)
    with connect(listener) as client:
        with pytest.raises(TimeoutError):
            accepting.result(0.05)
        client.send(b"late").result(WAIT)
        server, _, data = accepting.result(WAIT)
        with server:
            assert data == b"late"


def test_a_client_that_closes_without_a_word_gives_nothing(listener):
    accepting = listener.accept(receive=100)
    connect(listener).close()
    server, _, data = accepting.result(WAIT)
    with server:
        assert data == b""


def test_a_client_that_is_silent_does_not_hold_up_another_accept(listener):
    one, other = listener.accept(receive=10), listener.accept(receive=10)
    with connect(listener) as silent, connect(listener) as client:
        client.send(b"here").result(WAIT)
        assert eventually(lambda: one.done() or other.done())
        done, waiting = (one, other) if one.done() else (other, one)
        server, _, data = done.result(WAIT)
        with server:
            assert data == b"here"
        silent.send(b"too").result(WAIT)
        server, _, data = waiting.result(WAIT)
        with server:
            assert data == b"too"


def test_megabytes_that_follow_are_in_order(listener):
    message = bytes(range(256)) * 8192
    accepting = listener.accept(receive=1 << 20)
    with connect(listener) as client:
        sending = client.send(message)
        server, _, data = accepting.result(WAIT)
        with server:
            received = bytearray(data)
            while len(received) < len(message):
                received += server.recv(1 << 16).result(WAIT)
            assert received == message
        assert sending.result(WAIT) == len(message)


def test_cancel(listener):
    cancel_and_wait(listener.accept(receive=100))


def test_after_a_cancel_the_next_client_is_accepted(listener):
    cancel_and_wait(listener.accept(receive=100))
    accepting = listener.accept(receive=100)
    with connect(listener) as client:
        client.send(b"x").result(WAIT)
        server, _, data = accepting.result(WAIT)
        with server:
            assert data == b"x"


def test_close_of_the_listener_ends_it():
    with tpio.listen(("127.0.0.1", 0)) as listener:
        accepting = [listener.accept(receive=100) for _ in range(3)]
    assert all(future.cancelled() for future in accepting)


@pytest.mark.parametrize("receive", [0, 100])
def test_what_a_cancelled_await_had_got_is_for_the_next_accept(listener, receive):
    async def main():
        accepting = listener.accept(receive=100)
        task = asyncio.ensure_future(asyncio.wait_for(accepting, WAIT))
        await asyncio.sleep(0)
        client = socket.create_connection(listener.getsockname())
        client.sendall(b"hello")
        task.cancel()  # the accept may be faster, or not: either way nothing is lost
        await asyncio.wait([task])
        if task.cancelled():
            return client, listener.accept(receive=receive)
        return client, task  # before Python 3.12 wait_for lets a result that has come stand

    client, accepting = asyncio.run(main())
    with client:
        server, *rest = accepting.result() if isinstance(accepting, asyncio.Task) else accepting.result(WAIT)
        with server:
            if receive or isinstance(accepting, asyncio.Task):
                assert rest == [client.getsockname(), b"hello"]
            else:
                assert rest == [client.getsockname()]
                assert server.recv(100).result(WAIT) == b"hello"


def test_bad_sizes_are_refused_at_once_and_nothing_is_left(listener):
    submitted, handles = tpio.default_pool().stats().submitted, tpio.default_pool().stats().handles
    for receive, error in ((-1, ValueError), (1 << 40, ValueError), ("1", TypeError), (1.5, TypeError)):
        with pytest.raises(error):
            listener.accept(receive=receive)
    stats = tpio.default_pool().stats()
    assert (stats.submitted, stats.handles, stats.pending) == (submitted, handles, 0)
    with connect(listener) as client, closing(listener.accept().result(WAIT)[0]):
        assert client.getpeername() == listener.getsockname()
