"""Win32 error codes become the exceptions that Python programs expect, and keep their code."""

import errno
import socket
import struct

import pytest

import tpio
from ends import closing, tcp_pair
from support import WAIT
from tpio import _tpio


@pytest.mark.parametrize(
    ("code", "kind", "number"),
    [
        (2, FileNotFoundError, errno.ENOENT),
        (3, FileNotFoundError, errno.ENOENT),
        (5, PermissionError, errno.EACCES),
        (32, PermissionError, errno.EACCES),
        (64, ConnectionResetError, errno.ECONNRESET),
        (80, FileExistsError, errno.EEXIST),
        (109, BrokenPipeError, errno.EPIPE),
        (121, TimeoutError, errno.ETIMEDOUT),
        (183, FileExistsError, errno.EEXIST),
        (232, BrokenPipeError, errno.EPIPE),
        (233, BrokenPipeError, errno.EPIPE),
        (258, TimeoutError, errno.ETIMEDOUT),
        (1225, ConnectionRefusedError, errno.ECONNREFUSED),
        (1236, ConnectionAbortedError, errno.ECONNABORTED),
        (1460, TimeoutError, errno.ETIMEDOUT),
        (10013, PermissionError, errno.EACCES),
        (10053, ConnectionAbortedError, errno.ECONNABORTED),
        (10054, ConnectionResetError, errno.ECONNRESET),
        (10060, TimeoutError, errno.ETIMEDOUT),
        (10061, ConnectionRefusedError, errno.ECONNREFUSED),
    ],
)
def test_codes_with_a_class_of_their_own(code, kind, number):
    error = _tpio.winerror(code)
    assert type(error) is kind
    assert error.winerror == code
    assert error.errno == number
    assert f"[WinError {code}]" in str(error) and error.strerror


@pytest.mark.parametrize("code", [1, 6, 87, 231, 995, 1784, 10022, 10048, 123456])
def test_other_codes_are_an_os_error(code):
    error = _tpio.winerror(code)
    assert type(error) is OSError
    assert error.winerror == code
    assert f"[WinError {code}]" in str(error)


def test_the_name_of_the_file_is_told():
    error = _tpio.winerror(2, r"C:\missing")
    assert error.filename == r"C:\missing" and "missing" in str(error)
    assert _tpio.winerror(2).filename is None


def test_bind_error_is_an_os_error_with_its_code():
    error = tpio.BindError(0, "why", None, 87)
    assert isinstance(error, OSError)
    assert error.winerror == 87
    assert str(error) == "[WinError 87] why"


def test_the_end_of_a_pipe_is_an_error_for_the_writer_and_none_for_the_reader():
    reader, writer = tpio.pipe()
    with closing(reader, writer):
        reader.close()
        with pytest.raises(BrokenPipeError):
            writer.write(b"x").result(WAIT)
    reader, writer = tpio.pipe()
    with closing(reader, writer):
        writer.close()
        assert reader.read(1).result(WAIT) == b""


def test_a_reset_is_the_same_error_for_reading_and_for_writing():
    for use in (lambda end: end.recv(1), lambda end: end.recv_into(bytearray(1)), lambda end: end.poll_read()):
        server, client = tcp_pair()
        with closing(server):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh", 1, 0))
            future = use(server)
            client.close()
            error = future.exception(WAIT)
            assert isinstance(error, ConnectionResetError)
            assert error.winerror in (64, 10054)


def test_an_error_raised_twice_is_the_same():
    server, client = tcp_pair()
    with closing(server, client):
        client.shutdown(socket.SHUT_WR)
        future = client.send(b"x")
        with pytest.raises(OSError, match="WinError 10058") as first:
            future.result(WAIT)
        with pytest.raises(OSError, match="WinError 10058") as second:
            future.result(WAIT)
        assert first.value is second.value is future.exception()
