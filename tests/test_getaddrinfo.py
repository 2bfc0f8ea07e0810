"""Names are looked up on a thread of the pool."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

import tpio
from support import WAIT


def test_it_gives_what_the_socket_module_gives():
    found = tpio.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM).result(WAIT)
    assert found == socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)


@pytest.mark.parametrize(
    "options",
    [
        {"family": socket.AF_INET},
        {"type": socket.SOCK_DGRAM},
        {"flags": socket.AI_PASSIVE},
        {"proto": socket.IPPROTO_TCP},
    ],
)
def test_options_reach_the_system(options):
    found = tpio.getaddrinfo(None, 80, **options).result(WAIT)
    assert found == socket.getaddrinfo(None, 80, **options)


def test_the_callers_thread_is_not_the_one_that_looks_up(monkeypatch):
    go, threads = threading.Event(), []

    def look_up(*args, **kwargs):
        threads.append(threading.get_ident())
        assert go.wait(WAIT)
        return [args]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    looking = tpio.getaddrinfo("name", 1)
    assert not looking.done()
    go.set()
    assert looking.result(WAIT) == [("name", 1, 0, 0, 0, 0)]
    assert threads != [threading.get_ident()]


def test_a_name_that_does_not_exist_is_an_error_of_the_future():
    with pytest.raises(socket.gaierror):
        tpio.getaddrinfo("no such name.invalid", 1).result(WAIT)


def test_an_await_can_be_cancelled_while_the_system_looks(monkeypatch):
    begun, go = threading.Event(), threading.Event()

    def look_up(*args, **kwargs):
        begun.set()
        assert go.wait(WAIT)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    async def main():
        looking = tpio.getaddrinfo("name", 1)
        assert begun.wait(WAIT)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(looking, 0.05)

    asyncio.run(main())
    go.set()


def test_in_a_pool_of_its_own():
    with tpio.Pool() as pool:
        assert tpio.getaddrinfo("127.0.0.1", 1, pool=pool).result(WAIT)
        assert pool.stats().completed == 1
    with pytest.raises(RuntimeError, match="closed"):
        tpio.getaddrinfo("127.0.0.1", 1, pool=pool)
