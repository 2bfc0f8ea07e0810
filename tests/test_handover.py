"""Handles that go elsewhere: to other code in this process, and to another process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

import support
import tpio
import wines
from ends import WAIT, closing, named_pair, pipe_name, tcp_pair
from tpio import _tpio

rebinds = wines.skipif("a handle cannot be taken off its completion port")

# Says who it is, takes what it is given, says hello through it, gives back what it reads, and waits for the end.
CHILD = """
import os, sys, tpio
print(os.getpid(), flush=True)
kind, value = sys.stdin.readline().split()
if kind == "socket":
    end = tpio.Socket.from_share(bytes.fromhex(value))
else:
    end = tpio.Pipe(int(value))
with end:
    end.write(b"hello from the child").result(60)
    while data := end.read(100).result(60):
        end.write(data.upper()).result(60)
print("end", flush=True)
"""


def real_pid(child: subprocess.Popen[str]) -> int:
    """What the child says: Popen.pid of a virtual environment's python.exe is that of a launcher, whose child is Python."""
    return int(child.stdout.readline())


@contextlib.contextmanager
def running_child() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """(the child, its process id)"""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield child, real_pid(child)
        output, errors = child.communicate(timeout=WAIT)
        assert (child.returncode, output.split(), errors) == (0, ["end"], "")
    finally:
        child.kill()
        child.communicate()


def give(child: subprocess.Popen[str], kind: str, value: object) -> None:
    child.stdin.write(f"{kind} {value}\n")
    child.stdin.flush()


def converse(end: tpio.Handle) -> None:
    """With the child, at the other end."""
    received = b""
    while len(received) < 20:
        part = end.read(100).result(WAIT)
        assert part, f"the end after {received!r}"
        received += part
    assert received == b"hello from the child"
    end.write(b"ping").result(WAIT)
    assert end.read(100).result(WAIT) == b"PING"
    end.close()


# ---- to another process


def test_a_socket_that_was_never_bound():
    with running_child() as (child, pid), tpio.listen(("127.0.0.1", 0)) as listener:
        accepting = listener.accept()
        with socket.create_connection(listener.getsockname()) as plain:
            ours, _ = accepting.result(WAIT)
            give(child, "socket", plain.share(pid).hex())
            converse(ours)


def test_a_pipe_that_was_never_bound():
    with running_child() as (child, pid), tpio.PipeListener(pipe_name()) as listener:
        accepting = listener.accept()
        theirs = _tpio.create_file(listener.name, 0xC0000000, 0, 3, 0x40000000)
        process = _tpio.open_process(pid)
        value = _tpio.duplicate_handle(theirs, process=process)
        for handle in (theirs, process):
            _tpio.close_handle(handle)
        give(child, "pipe", value)
        converse(accepting.result(WAIT))


@rebinds
def test_a_socket_that_was_used_here():
    with running_child() as (child, pid):
        ours, theirs = tcp_pair()
        with closing(ours, theirs):
            theirs.send(b"x").result(WAIT)
            assert ours.recv(1).result(WAIT) == b"x"
            pending = theirs.recv(1)
            give(child, "socket", theirs.share(pid).hex())
            assert pending.cancelled() and theirs.closed
            converse(ours)


@rebinds
@pytest.mark.parametrize("which", ["server", "client"])
def test_a_pipe_that_was_used_here(which):
    with running_child() as (child, pid):
        ends = named_pair()
        with closing(*ends):
            theirs, ours = ends if which == "server" else ends[::-1]
            theirs.write(b"x").result(WAIT)
            assert ours.read(1).result(WAIT) == b"x"
            pending = theirs.read(1)
            give(child, "pipe", theirs.share(pid))
            assert pending.cancelled() and theirs.closed
            converse(ours)


@pytest.mark.skipif(not support.wine, reason="elsewhere the handle is free")
def test_where_a_handle_stays_bound_the_other_process_is_told():
    code = "import os, sys, tpio; print(os.getpid(), flush=True); tpio.Pipe(int(sys.stdin.readline()))"
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ours, theirs = named_pair()
    with closing(ours, theirs):
        _, errors = child.communicate(f"{theirs.share(real_pid(child))}\n", timeout=WAIT)
    assert "BindError" in errors and "already bound" in errors


@pytest.mark.parametrize("make", [tcp_pair, named_pair])
def test_what_cannot_be_given_stays(make):
    ours, theirs = make()
    with closing(ours, theirs):
        with pytest.raises(OSError, match=r"."):
            ours.share(0x7FFFFFF0)  # no such process
        theirs.write(b"abc").result(WAIT)
        ours._put_back(b"xyz")
        with pytest.raises(ValueError, match="has not been read|have not been taken"):
            ours.share(os.getpid())
        assert ours.read(3).result(WAIT) + ours.read(3).result(WAIT) == b"xyzabc"
        ours.close()
        with pytest.raises(ValueError, match="closed"):
            ours.share(os.getpid())


# ---- to other code in this process


def test_detach_leaves_the_handle_open_and_the_object_closed():
    ours, theirs = tcp_pair()
    with closing(theirs):
        pending = [ours.recv(10), ours.recv(10)]
        number = ours.detach()
        assert ours.closed and all(future.cancelled() for future in pending)
        with pytest.raises(ValueError, match="closed"):
            ours.detach()
        with pytest.raises(ValueError, match="closed"):
            ours.recv(10)
        with socket.socket(fileno=number) as plain:
            plain.sendall(b"blocking")
            assert theirs.recv(100).result(WAIT) == b"blocking"
            theirs.send(b"works").result(WAIT)
            assert plain.recv(100) == b"works"
        assert theirs.recv(1).result(WAIT) == b""


def test_a_child_end_can_be_detached():
    ours, theirs = tpio.pipe(inherit="write")
    number = theirs.detach()
    assert theirs.closed
    _tpio.close_handle(number)
    assert ours.read(1).result(WAIT) == b""
    ours.close()


@rebinds
@pytest.mark.parametrize("make", [tcp_pair, named_pair])
def test_a_handle_can_be_bound_again(make):
    ours, theirs = make()
    with closing(theirs):
        for _ in range(3):
            pending = ours.read(10)
            ours = type(ours)(ours.detach()) if make is named_pair else _again(ours)
            assert pending.cancelled()
            theirs.write(b"one").result(WAIT)
            assert ours.read(10).result(WAIT) == b"one"
        ours.close()


@rebinds
def test_detach_inside_a_callback_of_the_last_operation():
    ours, theirs = tcp_pair()
    numbers: list[int] = []
    reading = ours.recv(10)
    reading.add_done_callback(lambda _: numbers.append(ours.detach()))
    theirs.send(b"x").result(WAIT)
    assert support.eventually(lambda: numbers)
    with tpio.Socket(sock=socket.socket(fileno=numbers[0])) as again, theirs:
        theirs.send(b"y").result(WAIT)
        assert again.recv(10).result(WAIT) == b"y"


def _again(sock: tpio.Socket) -> tpio.Socket:
    return tpio.Socket(sock=socket.socket(fileno=sock.detach()))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_handle_whose_last_owner_wanted_no_completions_of_what_is_done_at_once(kind, monkeypatch):
    """FILE_SKIP_COMPLETION_PORT_ON_SUCCESS stays set for good, whoever has the handle then."""
    monkeypatch.setattr(tpio.Socket, "_may_skip", False)
    if kind == socket.SOCK_STREAM:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            plain = socket.create_connection(listener.getsockname())
            other, _ = listener.accept()
    else:
        plain, other = socket.socket(type=kind), socket.socket(type=kind)
        for each in (plain, other):
            each.bind(("127.0.0.1", 0))
        plain.connect(other.getsockname())
    with other:
        kernel32 = ctypes.WinDLL("kernel32")
        assert kernel32.SetFileCompletionNotificationModes(ctypes.c_void_p(plain.fileno()), 1)
        with tpio.Socket(sock=plain) as ours:
            assert ours.send(b"abc").result(WAIT) == 3
            assert other.recv(100) == b"abc"
