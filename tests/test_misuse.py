"""Misuse raises at once, as what it is, and before anything has happened. Most of these the fuzzer has found."""

from __future__ import annotations

import ctypes
import math
import socket
import threading
from concurrent.futures import InvalidStateError
from pathlib import Path

import pytest

import support
import tpio
from ends import WAIT, closing, pipe_name, tcp_pair


class Record(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int), ("text", ctypes.c_char * 12)]


# ---- timeouts


@pytest.mark.parametrize("timeout", [math.nan, "1", b"1", 1j, [], 10**400], ids=repr)
def test_what_is_no_time_is_refused(timeout, tmp_path: Path):
    wrong = (TypeError, ValueError, OverflowError)
    future = tpio.Future()
    uses = [
        lambda: future.result(timeout),
        lambda: future.exception(timeout),
        lambda: tpio.sleep(timeout),
        lambda: tpio.sleep(0, window=timeout),
        lambda: tpio.Timer(print, timeout),
        lambda: tpio.Timer(print, 0, period=timeout),
        lambda: tpio.wait_for_handle(threading.get_native_id(), timeout),
        lambda: tpio.open_connection(("127.0.0.1", 1), timeout=timeout),
        lambda: tpio.open_pipe("no-such-pipe", timeout=timeout),
    ]
    for use in uses:
        with pytest.raises(wrong):
            use()
    with tpio.Pool() as pool:
        with pytest.raises(wrong):
            pool.close(timeout=timeout)
        assert not pool.closed
        assert pool.submit(int).result(WAIT) == 0


def test_a_pipe_is_waited_for_without_an_end():
    """timeout=inf, while every instance is busy."""
    with tpio.PipeListener(pipe_name(), max_instances=1) as listener:
        accepting = listener.accept()
        first = tpio.open_pipe(listener.name).result(WAIT)
        with first, accepting.result(WAIT) as connection:
            second = tpio.open_pipe(listener.name, timeout=math.inf)
            with pytest.raises(TimeoutError):
                second.result(0.5)
            connection.close()
            second.result(WAIT).close()


def test_a_timer_with_the_shortest_period_goes_on():
    """The calls that it has missed are more than a float can tell."""
    calls = threading.Semaphore(0)
    timer = tpio.Timer(calls.release, 0, period=5e-324)
    try:
        for _ in range(5):
            assert calls.acquire(timeout=WAIT)
    finally:
        timer.cancel()


def test_a_period_of_nothing_is_refused():
    for period in (0, 0.0, -1):
        with pytest.raises(ValueError, match="period"):
            tpio.Timer(print, 1, period=period)


# ---- numbers


def test_a_fraction_is_no_number_of_anything(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(bytes(100))

    class Fileno:
        def fileno(self):
            return 1.5

    with tpio.open(path, "r+b") as file, tpio.Socket() as sock, tpio.Socket(socket.AF_INET6) as six:
        uses = [
            lambda: file.truncate(1.5),
            lambda: file.read(0, 1.5),
            lambda: file.write(b"", 1.5),
            lambda: file.read_into(bytearray(), 1.5),
            lambda: file.share(1.5),
            lambda: sock.sendfile(file, 1.5),
            lambda: sock.sendfile(file, math.nan),
            lambda: sock.sendfile(file, 0, 1.5),
            lambda: sock.accept(receive=1.5),
            lambda: six.connect(("::1", 1, 1.5, 0)),
            lambda: six.connect(("::1", 1, 0, 1.5)),
            lambda: tpio.PipeListener(pipe_name(), max_instances=1.5),
            lambda: tpio.PipeListener(pipe_name(), listening=1.5),
            lambda: tpio.copy_file(path, tmp_path / "copy", depth=1.5),
            lambda: tpio.copy_file(path, tmp_path / "copy", block=1.5),
            lambda: tpio.Handle(Fileno()),
            lambda: tpio.wait_for_handle(Fileno()),
            lambda: tpio.spawn("no such program", creationflags=1.5),
        ]
        for use in uses:
            with pytest.raises(TypeError):
                use()
        assert file.size() == 100
    assert not (tmp_path / "copy").exists()


def test_a_bad_offset_is_refused_whatever_the_size(tmp_path: Path):
    with tpio.open(tmp_path / "file", "w+b") as file, tpio.open(tmp_path / "file", "ab") as end:
        for offset, error in (("3", TypeError), (-1, ValueError), (2**63, OverflowError)):
            for use in (
                lambda: file.read(0, offset),
                lambda: file.read_into(bytearray(), offset),
                lambda: file.write(b"", offset),
                lambda: end.write(b"x", offset),
            ):
                with pytest.raises(error):
                    use()
        assert file.size() == 0


def test_an_offset_is_refused_before_what_was_kept_is_taken():
    """Of a read that would get what a cancelled await had received."""
    ours, theirs = tcp_pair()
    with closing(ours, theirs):
        ours._put_back(b"kept")
        with pytest.raises(ValueError, match="offset"):
            ours.read(4, -1)
        assert ours.read(4).result(WAIT) == b"kept"


def test_a_block_longer_than_the_file(tmp_path: Path):
    """Needs no more memory than the file has bytes."""
    for content in (b"", b"content"):
        (tmp_path / "from").write_bytes(content)
        assert tpio.copy_file(tmp_path / "from", tmp_path / "to", block=2**62).result(WAIT) == len(content)
        assert (tmp_path / "to").read_bytes() == content


# ---- sockets


def test_what_is_no_socket_is_refused():
    class Fileno:
        def fileno(self):
            return 5

    with tpio.Socket() as ours:
        for wrong in ("socket", 5, Fileno(), ours):
            with pytest.raises(TypeError):
                tpio.Socket(sock=wrong)


# ---- futures


def test_a_callback_that_cannot_be_called_is_refused():
    future = tpio.Future()
    for wrong in (None, 5, "callback", [], [print]):
        with pytest.raises(TypeError):
            future.add_done_callback(wrong)
    future.set_result(None)
    for wrong in (None, [print]):
        with pytest.raises(TypeError):
            future.add_done_callback(wrong)


def test_an_exception_of_none_is_a_result():
    """As in concurrent.futures."""
    future = tpio.Future()
    future.set_exception(None)
    assert future.result(0) is None
    assert future.exception(0) is None


def test_only_who_made_a_future_ends_it_or_starts_it(tmp_path: Path):
    """Those of operations, of functions, and of what is made of several operations are tpio's own."""
    reader, writer = tpio.pipe()
    listener = tpio.PipeListener(pipe_name())
    with closing(reader, writer, listener), tpio.watch(tmp_path) as watcher:
        futures = [reader.read(1), listener.accept(), watcher.changes(), tpio.sleep(3600)]
        for future in futures:
            with pytest.raises(RuntimeError):
                future.set_running_or_notify_cancel()
            with pytest.raises(InvalidStateError):
                future.set_result(None)
            with pytest.raises(InvalidStateError):
                future.set_exception(OSError())
            assert not future.running()
            assert future.cancel()
            assert support.eventually(future.cancelled)


# ---- buffers of other shapes


def test_a_structure_is_a_buffer(tmp_path: Path):
    """Of a format that memoryview does not understand."""
    with tpio.open(tmp_path / "file", "w+b") as file:
        record = Record(7, b"text")
        assert file.write(record, 0).result(WAIT) == ctypes.sizeof(record)
        other = Record()
        assert file.read_into(other, 0).result(WAIT) == ctypes.sizeof(record)
        assert (other.number, other.text) == (7, b"text")
        assert isinstance(file.ioctl(0, record).exception(WAIT), OSError)  # refused by the system, not before


def test_recvfrom_on_a_connection_loses_nothing():
    """Of what was kept: that is a stream, not a datagram."""
    ours, theirs = tcp_pair()
    with closing(ours, theirs):
        ours._put_back(b"0123456789")
        assert ours.recvfrom(4).result(WAIT)[0] == b"0123"
        buffer = bytearray(4)
        assert ours.recvfrom_into(buffer).result(WAIT)[0] == 4
        assert buffer == b"4567"
        assert ours.recv(10).result(WAIT) == b"89"


def test_a_connection_that_was_kept_survives_misuse():
    with tpio.listen(("127.0.0.1", 0)) as listener:
        client = tpio.open_connection(listener.getsockname())
        connection, address = listener.accept().result(WAIT)
        listener._give_back((connection, address))
        for wrong, error in ((1.5, TypeError), (-1, ValueError), ("x", TypeError)):
            with pytest.raises(error):
                listener.accept(receive=wrong)
        assert listener.accept().result(WAIT) == (connection, address)
        with closing(connection, client.result(WAIT)):
            pass


def test_a_handle_that_is_initialized_again_stays_as_it_was():
    one, other = tcp_pair()
    with closing(one, other):
        with pytest.raises(RuntimeError, match="once"):
            one.__init__()
        with pytest.raises(RuntimeError, match="once"), socket.socket() as another:
            one.__init__(sock=another)
        one.send(b"omg").result(WAIT)
        assert other.recv(10).result(WAIT) == b"omg"
    with tpio.PipeListener(pipe_name(), max_instances=1) as listener:
        for _ in range(2):  # its place is free again when it is closed
            accepting = listener.accept()
            with tpio.open_pipe(listener.name).result(WAIT), accepting.result(WAIT) as connection:
                with pytest.raises(RuntimeError, match="once"):
                    connection.__init__(1)
