"""AF_UNIX stream sockets, which Windows has and its Python does not."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

import tpio
from ends import WAIT, closing, missing_unix, read_all
from tpio._sockets import AF_UNIX

missing = missing_unix()
needed = pytest.mark.skipif(bool(missing), reason=missing)


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = str(tmp_path / "s")
    if len(os.fsencode(path)) > 107:
        pytest.skip("the temporary folder's name is too long for a socket's path")
    return path


@needed
def test_listen_and_connect(path):
    with tpio.listen(path) as listener:
        assert listener.getsockname() == path
        accepting = listener.accept()
        client = tpio.open_connection(path, timeout=WAIT).result(WAIT)
        server, address = accepting.result(WAIT)
        with closing(client, server):
            assert address == ""  # the client is not bound
            assert client.getpeername() == path
            client.send(b"hello").result(WAIT)
            assert server.recv(100).result(WAIT) == b"hello"
            server.send(b"world").result(WAIT)
            server.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"world"


@needed
def test_megabytes_both_ways(path):
    data = os.urandom(3_000_000)
    with tpio.listen(Path(path)) as listener:
        accepting = listener.accept()
        client = tpio.open_connection(Path(path)).result(WAIT)
        server, _ = accepting.result(WAIT)
        with closing(client, server):
            sending = [client.send(data), server.send(data)]
            for end in (client, server):
                received = b""
                while len(received) < len(data):
                    received += end.recv(1 << 16).result(WAIT)
                assert received == data
            assert [future.result(WAIT) for future in sending] == [len(data)] * 2


@needed
def test_accept_with_data(path):
    with tpio.listen(path) as listener:
        accepting = listener.accept(receive=100)
        with tpio.open_connection(path).result(WAIT) as client:
            client.send(b"first").result(WAIT)
            server, _, data = accepting.result(WAIT)
            with server:
                assert data == b"first"


@needed
def test_bind_and_connect_step_by_step(path):
    with tpio.Socket(AF_UNIX) as listener, tpio.Socket(AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        accepting = listener.accept()
        client.connect(path).result(WAIT)
        accepting.result(WAIT)[0].close()
        assert client.recv(1).result(WAIT) == b""


@needed
def test_nobody_listens(path):
    with pytest.raises(OSError, match="."):
        tpio.open_connection(path).result(WAIT)


@needed
def test_a_path_that_exists_is_refused(path):
    with tpio.listen(path):
        with pytest.raises(OSError, match="."):
            tpio.listen(path)
    os.unlink(path)
    tpio.listen(path).close()


@pytest.mark.skipif(not missing, reason="AF_UNIX is here")
def test_where_there_is_none_it_says_so(path):
    for make in (lambda: tpio.Socket(AF_UNIX), lambda: tpio.listen(path), lambda: tpio.open_connection(path)):
        with pytest.raises(OSError, match="10047"):
            make()


@pytest.mark.parametrize("bad", ["", "a\0b", "x" * 108, "é" * 54])
def test_bad_paths_are_refused_at_once(bad):
    submitted = tpio.default_pool().stats().submitted
    with pytest.raises(ValueError, match="path"):
        tpio.open_connection(bad)
    with pytest.raises((ValueError, OSError)):  # OSError: there are no such sockets here
        tpio.listen(bad)
    assert tpio.default_pool().stats().submitted == submitted
