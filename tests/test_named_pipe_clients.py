"""Who is at the other end of a named pipe, and how many may come at once."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from concurrent.futures import CancelledError
from ctypes import wintypes

import pytest

import support
import tpio
from ends import WAIT, closing, named_pair, pipe_name
from tpio import _tpio

SQOS_PRESENT, IMPERSONATION = 0x00100000, 0x00020000

# ---- the client's process


def test_the_client_is_known_by_its_process():
    server, client = named_pair()
    with closing(server, client):
        assert server.client_pid == os.getpid()
    with pytest.raises(ValueError, match="closed"):
        _ = server.client_pid


def test_the_client_is_another_process():
    with tpio.PipeListener(pipe_name()) as listener:
        code = f"import tpio\nwith tpio.open_pipe({listener.name!r}).result(60) as p: print(p.read(1).result(60))"
        accepting = listener.accept()
        pids: list[int] = []

        def serve(_: object) -> None:
            with accepting.result() as server:
                pids.append(server.client_pid)
                server.write(b"x").result(WAIT)

        accepting.add_done_callback(serve)
        done = support.python(code + "\nimport os; print(os.getpid())")
        assert done.stderr == ""
        assert pids == [int(done.stdout.split()[-1])]


# ---- acting in its name


def thread_token() -> tuple[str, int] | None:
    """(user, impersonation level) of the calling thread's token, or None."""
    advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
    kernel32 = ctypes.WinDLL("kernel32")
    advapi32.OpenThreadToken.argtypes = [wintypes.HANDLE, wintypes.DWORD, wintypes.BOOL, ctypes.c_void_p]
    advapi32.GetTokenInformation.argtypes = [
        wintypes.HANDLE,
        ctypes.c_int,
        ctypes.c_void_p,
        wintypes.DWORD,
        ctypes.c_void_p,
    ]
    advapi32.ConvertSidToStringSidW.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    kernel32.GetCurrentThread.restype = wintypes.HANDLE
    kernel32.LocalFree.argtypes = [ctypes.c_void_p]
    token = wintypes.HANDLE()
    if not advapi32.OpenThreadToken(kernel32.GetCurrentThread(), 8, True, ctypes.byref(token)):
        assert ctypes.get_last_error() == 1008  # ERROR_NO_TOKEN
        return None
    try:
        size, level = wintypes.DWORD(), ctypes.c_int()
        user = (ctypes.c_void_p * 64)()
        assert advapi32.GetTokenInformation(token, 1, user, ctypes.sizeof(user), ctypes.byref(size))
        assert advapi32.GetTokenInformation(token, 9, ctypes.byref(level), 4, ctypes.byref(size))
        text = wintypes.LPWSTR()
        assert advapi32.ConvertSidToStringSidW(user[0], ctypes.byref(text))
        name = text.value
        kernel32.LocalFree(text)
        return name, level.value
    finally:
        _tpio.close_handle(token.value)


def test_the_server_acts_in_its_clients_name_inside_the_with():
    server, client = named_pair()
    with closing(server, client):
        client.write(b"x").result(WAIT)
        server.read(1).result(WAIT)
        assert thread_token() is None
        me = _tpio.user_sid()  # not inside: with SecurityIdentification a thread may open nothing
        with server.impersonate():
            user, level = thread_token()
            assert user == me
            if not support.wine:  # which ignores what the client allows
                assert level == 1  # SecurityIdentification
        assert thread_token() is None


def test_a_client_that_allows_it_is_impersonated():
    with tpio.PipeListener(pipe_name()) as listener:
        handle = _tpio.create_file(listener.name, 0xC0000000, 0, 3, 0x40000000 | SQOS_PRESENT | IMPERSONATION)
        with tpio.Pipe(handle) as client, listener.accept().result(WAIT) as server:
            client.write(b"x").result(WAIT)
            server.read(1).result(WAIT)
            with server.impersonate():
                assert thread_token()[1] == 2  # SecurityImpersonation
                with open(os.__file__, "rb"):
                    pass
            assert thread_token() is None


def test_an_exception_ends_it_too():
    server, client = named_pair()
    with closing(server, client):
        client.write(b"x").result(WAIT)
        server.read(1).result(WAIT)
        with pytest.raises(ZeroDivisionError), server.impersonate():
            raise ZeroDivisionError
        assert thread_token() is None


def test_other_threads_are_themselves():
    server, client = named_pair()
    with closing(server, client):
        client.write(b"x").result(WAIT)
        server.read(1).result(WAIT)
        seen: list[object] = []
        with server.impersonate(), support.thread(lambda: seen.append(thread_token())):
            pass
        assert seen == [None]


def test_only_a_server_has_a_client():
    server, client = named_pair()
    with closing(server, client):
        with pytest.raises(OSError, match="."), client.impersonate():
            pass
        assert thread_token() is None
        server.close()
        with pytest.raises(ValueError, match="closed"):
            server.impersonate()


# ---- several at once


@pytest.mark.parametrize("most", [None, 5])
def test_several_instances_listen_without_a_wait_between_clients(most):
    with tpio.PipeListener(pipe_name(), listening=3, max_instances=most) as listener:
        clients = [  # not open_pipe, which would wait for an instance
            tpio.Pipe(_tpio.create_file(listener.name, 0xC0000000, 0, 3, 0x40000000)) for _ in range(3)
        ]
        servers = [listener.accept().result(WAIT) for _ in clients]
        with closing(*clients, *servers):
            for number, client in enumerate(clients):
                client.write(b"%d" % number).result(WAIT)
            assert sorted(server.read(1).result(WAIT) for server in servers) == [b"0", b"1", b"2"]


def test_the_limit_of_connections_holds_with_several_listening():
    with tpio.PipeListener(pipe_name(), listening=8, max_instances=2) as listener:
        clients = [tpio.open_pipe(listener.name).result(WAIT) for _ in range(2)]
        servers = [listener.accept().result(WAIT) for _ in range(2)]
        with pytest.raises(TimeoutError) as caught:
            tpio.open_pipe(listener.name, timeout=0.05).result(WAIT)
        assert caught.value.winerror == 1460  # ERROR_TIMEOUT
        waiting = [tpio.open_pipe(listener.name) for _ in range(2)]
        with closing(*clients, *servers):
            pass
        with closing(*(future.result(WAIT) for future in waiting)):
            with closing(*(listener.accept().result(WAIT) for _ in waiting)):
                with pytest.raises(TimeoutError):
                    tpio.open_pipe(listener.name, timeout=0.05).result(WAIT)


def test_a_storm_of_clients_on_several_instances():
    with tpio.PipeListener(pipe_name(), listening=4, max_instances=6) as listener:

        def serve() -> None:
            for _ in range(15):
                with listener.accept().result(WAIT) as server:
                    server.write(server.read(10).result(WAIT)).result(WAIT)
                    server.read(1).result(WAIT)  # until the client has what it wants

        def ask(number: int) -> None:
            for turn in range(15):
                with tpio.open_pipe(listener.name).result(WAIT) as client:
                    message = b"%d %d" % (number, turn)
                    client.write(message).result(WAIT)
                    assert client.read(10).result(WAIT) == message

        support.at_once(*[serve] * 4, *[lambda number=number: ask(number) for number in range(4)])


@pytest.mark.parametrize("listening", [0, -1, 255])
def test_bad_numbers_are_refused(listening):
    with pytest.raises(ValueError, match="listening"):
        tpio.PipeListener(pipe_name(), listening=listening)


def test_close_ends_every_instance():
    name = pipe_name()
    listener = tpio.PipeListener(name, listening=5)
    accepting = [listener.accept() for _ in range(7)]
    listener.close()
    assert all(future.cancelled() for future in accepting)
    with pytest.raises(FileNotFoundError):
        tpio.open_pipe(name).result(WAIT)


# ---- waiting for an instance


def test_a_cancel_ends_the_wait_for_an_instance_at_once(monkeypatch):
    """Not at the end of a slice of it."""
    from tpio import _pipes

    monkeypatch.setattr(_pipes, "WAIT_SLICE", 20_000)
    waits = threading.Semaphore(0)
    really_wait = _tpio.wait_named_pipe

    def wait(name: str, milliseconds: int) -> bool:
        waits.release()
        return really_wait(name, milliseconds)

    monkeypatch.setattr(_tpio, "wait_named_pipe", wait)
    with tpio.PipeListener(pipe_name(), max_instances=1) as listener:
        with tpio.open_pipe(listener.name).result(WAIT):
            opening = [tpio.open_pipe(listener.name) for _ in range(5)]
            for _ in opening:
                assert waits.acquire(timeout=WAIT)
            begun = time.monotonic()
            for future in opening:
                # The thread may be about to enter the system: a cancel that comes before it does is asked again.
                assert support.eventually(lambda future=future: future.cancel() and future.done())
                with pytest.raises(CancelledError):
                    future.result(WAIT)
            assert time.monotonic() - begun < 15
