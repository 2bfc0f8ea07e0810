"""Files to sockets without a way through Python."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

import support
import tpio
from ends import WAIT, closing, read_all, read_exactly, tcp_pair

DATA = bytes(range(256)) * 1000
LARGEST = 0x7FFFF000  # bytes of one system call


@pytest.fixture
def pair() -> Iterator[tuple[tpio.Socket, tpio.Socket]]:
    """(receiver, sender)."""
    ours, theirs = tcp_pair()
    with closing(ours, theirs):
        yield ours, theirs


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    return path


def sent(pair: tuple[tpio.Socket, tpio.Socket], *args: object) -> bytes:
    receiver, sender = pair
    sending = sender.sendfile(*args)
    sending.add_done_callback(lambda _: sender.shutdown(socket.SHUT_WR))
    data = read_all(receiver)
    assert sending.result(WAIT) == len(data)
    return data


def test_a_whole_file(pair, file):
    with tpio.open(file) as source:
        assert sent(pair, source) == DATA


def test_the_standard_librarys_files(pair, file):
    with open(file, "rb") as source:
        source.seek(100)  # does not matter
        assert sent(pair, source) == DATA
        assert source.tell() == 100


def test_a_raw_file(pair, file):
    with open(file, "rb", buffering=0) as source:
        assert sent(pair, source) == DATA


@pytest.mark.parametrize(
    ("offset", "count"),
    [(0, 1), (1, None), (12345, 6789), (len(DATA) - 1, None), (len(DATA) - 1, 1), (0, len(DATA)), (0, 0)],
)
def test_a_part(pair, file, offset, count):
    with tpio.open(file) as source:
        assert sent(pair, source, offset, count) == DATA[offset:][:count]


def test_a_file_that_is_too_short_sends_what_there_is(pair, file):
    with tpio.open(file) as source:
        assert sent(pair, source, 1000, 10 * len(DATA)) == DATA[1000:]


@pytest.mark.parametrize("count", [None, 0, 5])
def test_beyond_the_end_there_is_nothing(pair, file, count):
    with tpio.open(file) as source:
        assert sent(pair, source, 2 * len(DATA), count) == b""


def test_in_several_parts(pair, file):
    with support.largest_call(10_007), tpio.open(file) as source:
        assert sent(pair, source, 3) == DATA[3:]


def test_a_file_that_becomes_shorter_sends_what_there_is(pair, tmp_path):
    path = tmp_path / "large"
    sparse(path, 64 << 20)
    receiver, sender = pair
    with support.largest_call(1 << 20), tpio.open(path, "r+b") as file:
        file.write(DATA, 0).result(WAIT)
        sending = sender.sendfile(file)
        sending.add_done_callback(lambda _: sender.shutdown(socket.SHUT_WR))
        assert read_exactly(receiver, len(DATA)) == DATA
        file.truncate(12345)
        assert len(DATA) + len(read_all(receiver)) == sending.result(WAIT) < 64 << 20


@pytest.mark.parametrize("offset", [len(DATA), len(DATA) + 1000])
def test_one_transmit_beyond_the_end_of_a_file_sends_nothing(pair, file, offset):
    """As when it has become shorter by then: Windows calls that ERROR_HANDLE_EOF, Wine a success."""
    _, sender = pair
    with tpio.open(file) as source:
        assert sender._transmit(source.fileno(), offset, 100).result(WAIT) == 0


def sparse(path: Path, size: int) -> None:
    with tpio.open(path, "wb") as file:
        file.ioctl(0x900C4).result(WAIT)  # FSCTL_SET_SPARSE
        file.truncate(size)


def test_beyond_two_and_four_gigabytes(pair, tmp_path):
    path = tmp_path / "large"
    sparse(path, (5 << 30) + 7)
    with tpio.open(path, "r+b") as file:
        for place in ((2 << 30) - 2, (4 << 30) - 2, 5 << 30):
            file.write(b"mark", place).result(WAIT)
    receiver, sender = pair
    with tpio.open(path) as file:
        for place in ((2 << 30) - 2, (4 << 30) - 2):
            sending = sender.sendfile(file, place, 1000)
            assert read_exactly(receiver, 1000) == b"mark" + bytes(996)
            assert sending.result(WAIT) == 1000
        assert sent(pair, file, 5 << 30) == b"mark\0\0\0"


@pytest.mark.skipif(not support.long, reason="sends 2.2 gigabytes: TPIO_LONG=1")
def test_more_than_one_call_can_send(pair, tmp_path):
    size = LARGEST + (200 << 20)
    path = tmp_path / "large"
    sparse(path, size)
    with tpio.open(path, "r+b") as file:
        file.write(b"across", LARGEST - 3).result(WAIT)
        receiver, sender = pair
        sending = sender.sendfile(file)
        buffer = bytearray(8 << 20)
        received, digest = 0, hashlib.md5()
        while received < size:
            part = receiver.recv_into(buffer).result(WAIT)
            digest.update(memoryview(buffer)[:part])
            received += part
        assert sending.result(WAIT) == size
    expected = hashlib.md5()
    zeros = bytes(8 << 20)
    left = LARGEST - 3
    while left:
        expected.update(zeros[:left])
        left -= min(left, len(zeros))
    expected.update(b"across")
    left = size - LARGEST - 3
    while left:
        expected.update(zeros[:left])
        left -= min(left, len(zeros))
    assert digest.digest() == expected.digest()


def test_cancel_while_the_peer_does_not_read(pair, tmp_path):
    path = tmp_path / "large"
    sparse(path, 64 << 20)
    _, sender = pair
    with tpio.open(path) as file:
        sending = sender.sendfile(file)
        assert sending.cancel()
        if support.wine:  # loses a cancel that comes while it moves a part
            assert support.eventually(lambda: sending.cancel() and sending.done())
        with pytest.raises(CancelledError):
            sending.result(WAIT)


def test_the_file_may_be_closed_meanwhile(pair, tmp_path):
    path = tmp_path / "large"
    sparse(path, 16 << 20)
    receiver, sender = pair
    with tpio.open(path) as file:
        sending = sender.sendfile(file)
    assert len(read_exactly(receiver, 16 << 20)) == sending.result(WAIT)
    os.unlink(path)  # nobody has it open any more


def test_close_of_the_socket_while_pending(pair, tmp_path):
    path = tmp_path / "large"
    sparse(path, 64 << 20)
    _, sender = pair
    with tpio.open(path) as file:
        sending = sender.sendfile(file)
        assert not sending.done()
        sender.close()
        with pytest.raises(CancelledError):
            sending.result(WAIT)  # of several operations: it ends just after the last of them, for which close() waits


def test_a_peer_that_goes(pair, tmp_path):
    path = tmp_path / "large"
    sparse(path, 64 << 20)
    receiver, sender = pair
    with tpio.open(path) as file:
        sending = sender.sendfile(file)
        read_exactly(receiver, 1000)
        receiver.close()
        assert isinstance(sending.exception(WAIT), ConnectionError)


def test_bad_arguments_are_refused_at_once(pair, file):
    _, sender = pair
    submitted = tpio.default_pool().stats().submitted
    with tpio.open(file) as source:
        for bad in ((-1, None), (0, -1)):
            with pytest.raises(ValueError, match="negative"):
                sender.sendfile(source, *bad)
        for bad in (("0",), (1.5,), (0, 1.5), (0, "1")):
            with pytest.raises(TypeError):
                sender.sendfile(source, *bad)
    for no_file in (None, "name", 1.5):
        with pytest.raises(TypeError):
            sender.sendfile(no_file)
    with pytest.raises(ValueError, match="closed"):
        sender.sendfile(source)
    with pytest.raises(ValueError, match="disk"):
        sender.sendfile(sender)
    with tpio.open(file) as source:
        sender.close()
        with pytest.raises(ValueError, match="closed"):
            sender.sendfile(source)
    assert tpio.default_pool().stats().submitted == submitted


def test_a_socket_that_is_not_connected(file):
    with tpio.open(file) as source, tpio.Socket() as sock:
        assert isinstance(sock.sendfile(source).exception(WAIT), OSError)
