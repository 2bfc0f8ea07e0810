"""Real things to do I/O with: connected pipes and sockets, children, and what the system says of a handle."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import msvcrt
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

import support
import tpio
from support import WAIT
from tpio._sockets import AF_UNIX

GENERIC_READ, GENERIC_WRITE = 0x80000000, 0x40000000
OVERLAPPED = 0x40000000
_counter = itertools.count()


def pipe_name() -> str:
    return rf"\\.\pipe\tpio-test-{os.getpid()}-{next(_counter)}-{secrets.token_hex(4)}"


def named_pair(**options: object) -> tuple[tpio.Pipe, tpio.Pipe]:
    """(server's end, client's end) of a named pipe."""
    with tpio.PipeListener(pipe_name(), **options) as listener:
        client = tpio.open_pipe(listener.name).result(WAIT)
        return listener.accept().result(WAIT), client


def tcp_pair(family: int = socket.AF_INET) -> tuple[tpio.Socket, tpio.Socket]:
    """(accepted, connected)."""
    with tpio.listen(("127.0.0.1" if family == socket.AF_INET else "::1", 0)) as listener:
        accepting = listener.accept()
        client = tpio.open_connection(listener.getsockname()[:2]).result(WAIT)
        return accepting.result(WAIT)[0], client


def missing_unix() -> str:
    """Why there are no AF_UNIX sockets, or ""."""
    try:
        socket.socket(AF_UNIX).close()
    except OSError as error:
        return f"{'Wine' if support.wine else 'this Windows'} has no AF_UNIX: {error.winerror}"
    return ""


def plain_tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets of the standard library."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return listener.accept()[0], client


@contextlib.contextmanager
def closing(*things: object) -> Iterator[None]:
    try:
        yield
    finally:
        for thing in things:
            thing.close()


def read_exactly(end: tpio.Handle, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = end.read(size - len(data)).result(WAIT)
        assert part, f"the end after {len(data)} of {size} bytes"
        data += part
    return bytes(data)


def read_all(end: tpio.Handle, chunk: int = 65536) -> bytes:
    return b"".join(iter(lambda: end.read(chunk).result(WAIT), b""))


def cancel_and_wait(future: tpio.Future) -> None:
    """Cancels a future that nothing else can end."""
    assert not future.done()
    assert future.cancel()
    with pytest.raises(CancelledError):
        future.result(WAIT)
    assert future.cancelled()


def callback_event(future: tpio.Future) -> threading.Event:
    event = threading.Event()
    future.add_done_callback(lambda _: event.set())
    return event


def child(code: str, **standard: tpio.Pipe) -> subprocess.Popen[bytes]:
    """A Python child that runs code; the child's ends of pipes are its stdin, stdout or stderr, and closed here."""
    files = {name: msvcrt.open_osfhandle(end.detach(), 0) for name, end in standard.items()}
    try:
        return subprocess.Popen([sys.executable, "-I", "-c", code], **files)
    finally:
        for file in files.values():
            os.close(file)


def is_synchronous(handle: int) -> bool:
    """Was it opened without FILE_FLAG_OVERLAPPED?"""
    query = ctypes.WinDLL("ntdll").NtQueryInformationFile
    query.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int]
    status, mode = (ctypes.c_void_p * 2)(), ctypes.c_ulong()
    mode_information = 16
    assert query(handle, status, ctypes.byref(mode), ctypes.sizeof(mode), mode_information) == 0
    return bool(mode.value & 0x30)  # FILE_SYNCHRONOUS_IO_ALERT | FILE_SYNCHRONOUS_IO_NONALERT


def granted_access(handle: int) -> int:
    """What it may be used for: an access mask."""
    query = ctypes.WinDLL("ntdll").NtQueryObject
    query.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p]
    basic_information, information = 0, (ctypes.c_ulong * 14)()  # attributes, granted access, ...
    assert query(handle, basic_information, information, ctypes.sizeof(information), None) == 0
    return information[1]
