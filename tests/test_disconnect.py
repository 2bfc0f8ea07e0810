"""disconnect() ends a connection for both; shutdown() one direction of it."""

from __future__ import annotations

import asyncio
import socket

import pytest

import tpio
from ends import closing, tcp_pair
from support import WAIT, at_once


@pytest.fixture
def pair():
    server, client = tcp_pair()
    with closing(server, client):
        yield server, client


@pytest.mark.parametrize("which", [0, 1], ids=["accepted", "connected"])
def test_the_peer_gets_what_was_sent_and_then_the_end(pair, which):
    here, there = pair[which], pair[1 - which]
    sending = here.send(b"last words")
    assert here.disconnect().result(WAIT) is None
    assert sending.result(WAIT) == 10
    assert there.recv(100).result(WAIT) == b"last words"
    assert there.recv(100).result(WAIT) == b""


def test_a_receive_of_the_peer_that_waits_gets_the_end(pair):
    here, there = pair
    receiving = there.recv(1)
    here.disconnect().result(WAIT)
    assert receiving.result(WAIT) == b""


def test_nothing_can_be_sent_afterwards(pair):
    here, _ = pair
    here.disconnect().result(WAIT)
    with pytest.raises(OSError, match="100(5[3478])|1229|64"):
        here.send(b"x").result(WAIT)


def test_a_task_can_disconnect(pair):
    async def main():
        return await asyncio.wait_for(pair[0].disconnect(), WAIT)

    assert asyncio.run(main()) is None


def test_a_socket_that_is_not_connected_says_so():
    with tpio.Socket() as alone:
        with pytest.raises(OSError, match="10057"):  # WSAENOTCONN
            alone.disconnect().result(WAIT)


def test_a_cancel_that_races_with_it_leaves_one_outcome():
    for _ in range(20):
        server, client = tcp_pair()
        with closing(server, client):
            ending = server.disconnect()
            ending.cancel()
            assert ending.cancelled() or ending.exception(WAIT) is None


def test_a_close_that_races_with_it_ends_it():
    for _ in range(20):
        server, client = tcp_pair()
        with closing(client):
            endings = []

            def disconnect(server=server, endings=endings):
                try:
                    endings.append(server.disconnect())
                except ValueError:  # closed
                    pass

            at_once(disconnect, server.close)
            for ending in endings:
                assert ending.cancelled() or ending.exception(WAIT) is None


def test_misuse_is_refused_and_nothing_is_submitted(pair):
    here, _ = pair
    here.close()
    submitted = tpio.default_pool().stats().submitted
    with pytest.raises(ValueError, match="closed"):
        here.disconnect()
    with pytest.raises(ValueError, match="closed"):
        here.shutdown(socket.SHUT_WR)
    assert tpio.default_pool().stats().submitted == submitted


# ---- one direction


def test_shutdown_of_sending_leaves_the_other_direction(pair):
    here, there = pair
    here.send(b"question").result(WAIT)
    here.shutdown(socket.SHUT_WR)
    assert there.recv(100).result(WAIT) == b"question"
    assert there.recv(100).result(WAIT) == b""
    there.send(b"answer").result(WAIT)
    assert here.recv(100).result(WAIT) == b"answer"
    with pytest.raises(OSError, match="10058"):  # WSAESHUTDOWN
        here.send(b"more").result(WAIT)


def test_shutdown_ends_a_receive_of_the_peer(pair):
    here, there = pair
    receiving = there.recv(1)
    here.shutdown(socket.SHUT_RDWR)
    assert receiving.result(WAIT) == b""


def test_a_direction_that_is_none_is_refused(pair):
    with pytest.raises(OSError, match="10022"):  # WSAEINVAL
        pair[0].shutdown(17)
    for bad in ("both", None):
        with pytest.raises(TypeError):
            pair[0].shutdown(bad)
