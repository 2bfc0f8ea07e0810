"""Bytes from one handle to another without Python in between."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack
from time import monotonic

import pytest

import support
import tpio
import tpio.aio
from ends import WAIT, closing, named_pair, read_all, read_exactly, tcp_pair
from support import eventually, pending

DATA = os.urandom(1_000_003)
BLOCK = 65536
NO_BUFFERING = 0x20000000  # FILE_FLAG_NO_BUFFERING

Ends = tuple[tpio.Handle, tpio.Handle]  # (read from, write to)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def pipe_ends(stack: ExitStack) -> Ends:
    reader, writer = tpio.pipe()
    stack.enter_context(closing(reader, writer))
    return reader, writer


def socket_ends(stack: ExitStack) -> Ends:
    left, right = tcp_pair()
    stack.enter_context(closing(left, right))
    return left, right


STREAMS = {"pipe": pipe_ends, "socket": socket_ends}


def fill(writer: tpio.Handle, data: bytes = DATA) -> tpio.Future[int]:
    """Writes it all, and then there is an end."""
    writing = writer.write(data)
    writing.add_done_callback(lambda _: writer.close())
    return writing


# ---- every combination


@pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK + 1, len(DATA)])
@pytest.mark.parametrize("sink", [*STREAMS, "file"])
@pytest.mark.parametrize("source", [*STREAMS, "file"])
def test_all_arrives_until_the_end(stack, tmp_path, source, sink, size):
    data = DATA[:size]
    if source == "file":
        (tmp_path / "source").write_bytes(data)
        reader = stack.enter_context(tpio.open(tmp_path / "source"))
    else:
        reader, filled = STREAMS[source](stack)
        fill(filled, data)
    if sink == "file":
        writer = stack.enter_context(tpio.open(tmp_path / "sink", "wb"))
        assert tpio.pump(reader, writer).result(WAIT) == size
        assert (tmp_path / "sink").read_bytes() == data
        return
    emptied, writer = STREAMS[sink](stack)
    pumping = tpio.pump(reader, writer)
    pumping.add_done_callback(lambda _: writer.close())
    assert read_all(emptied) == data
    assert pumping.result(WAIT) == size


@pytest.mark.parametrize("block", [1, 7, 4096, 10_000_000])
def test_blocks_of_any_size(stack, block):
    data = DATA[: min(200 * block, len(DATA))]
    reader, filled = pipe_ends(stack)
    emptied, writer = socket_ends(stack)
    fill(filled, data)
    pumping = tpio.pump(reader, writer, block=block)
    assert read_exactly(emptied, len(data)) == data
    assert pumping.result(WAIT) == len(data)


@pytest.mark.parametrize("n", [0, 1, BLOCK, 2 * BLOCK, 300_000])
def test_so_many_bytes_and_not_one_more(stack, n):
    reader, filled = socket_ends(stack)
    emptied, writer = pipe_ends(stack)
    fill(filled)
    pumping = tpio.pump(reader, writer, n)
    assert read_exactly(emptied, n) == DATA[:n]
    assert pumping.result(WAIT) == n
    assert read_all(reader) == DATA[n:]


def test_the_source_may_end_before_that(stack):
    reader, filled = pipe_ends(stack)
    emptied, writer = pipe_ends(stack)
    fill(filled, b"short")
    assert tpio.pump(reader, writer, 1000).result(WAIT) == 5
    assert read_exactly(emptied, 5) == b"short"


def test_one_socket_echoes_to_itself(stack):
    near, far = socket_ends(stack)
    pumping = tpio.pump(far, far)
    for number in range(20):
        message = DATA[number : 2 * number * number + 1]
        near.write(message).result(WAIT)
        assert read_exactly(near, len(message)) == message
    near.shutdown(socket.SHUT_WR)
    assert pumping.result(WAIT) > 0
    far.close()
    assert read_all(near) == b""


def test_two_ways_at_once(stack):
    """A proxy: what two clients send goes through it both ways at the same time."""
    left, proxy_left = socket_ends(stack)
    proxy_right, right = socket_ends(stack)
    pumps = [tpio.pump(proxy_left, proxy_right), tpio.pump(proxy_right, proxy_left)]
    writes = [left.write(DATA), right.write(DATA[::-1])]
    received = support.at_once(lambda: read_exactly(right, len(DATA)), lambda: read_exactly(left, len(DATA)))
    assert received == [DATA, DATA[::-1]]
    for writing in writes:
        writing.result(WAIT)
    for end in (left, right):
        end.shutdown(socket.SHUT_WR)
    assert [pumping.result(WAIT) for pumping in pumps] == [len(DATA)] * 2


def test_a_plain_socket_and_a_child(stack):
    """What a child writes goes to a client, and neither is tpio's own socket."""
    near, far = socket.socketpair()
    with near, far, tpio.spawn(["cmd.exe", "/c", "echo hello"], stdout=tpio.PIPE) as child:
        assert tpio.pump(child.stdout, far).result(WAIT) == 7
        assert near.recv(100) == b"hello\r\n"
        assert child.wait().result(WAIT) == 0


# ---- files


def test_files_are_read_and_written_from_their_positions_on(tmp_path):
    (tmp_path / "source").write_bytes(b"0123456789")
    (tmp_path / "sink").write_bytes(b"abcdefghij")
    with tpio.open(tmp_path / "source") as source, tpio.open(tmp_path / "sink", "r+b") as sink:
        assert source.read(2).result(WAIT) == b"01"
        assert sink.write(b"AB").result(WAIT) == 2
        assert tpio.pump(source, sink, 3).result(WAIT) == 3
        assert source.read(2).result(WAIT) == b"56"
        assert sink.write(b"CD").result(WAIT) == 2
    assert (tmp_path / "sink").read_bytes() == b"AB234CDhij"


def test_a_file_that_is_appended_to(tmp_path, stack):
    path = tmp_path / "log"
    path.write_bytes(b"first\n")
    reader, filled = pipe_ends(stack)
    fill(filled, b"second\n")
    with tpio.open(path, "ab") as log:
        assert tpio.pump(reader, log).result(WAIT) == 7
    assert path.read_bytes() == b"first\nsecond\n"


def test_an_unbuffered_file_as_the_source(tmp_path, stack):
    (tmp_path / "source").write_bytes(DATA)
    emptied, writer = socket_ends(stack)
    with tpio.open(tmp_path / "source", flags=NO_BUFFERING) as source:
        pumping = tpio.pump(source, writer)
        assert read_exactly(emptied, len(DATA)) == DATA
        assert pumping.result(WAIT) == len(DATA)


# ---- the end before the end


def test_cancel_keeps_what_was_read_for_the_next_read(stack):
    """Nobody reads at the other end, so that it is stuck with two blocks."""
    reader, filled = socket_ends(stack)
    emptied, writer = pipe_ends(stack)
    writing = fill(filled)
    pumping = tpio.pump(reader, writer, block=1 << 18)
    received = read_exactly(emptied, 1000)
    assert pumping.cancel()
    with pytest.raises(CancelledError):
        pumping.result(WAIT)
    writer.close()
    received += read_all(emptied)
    rest = read_all(reader)
    # What was being written is given back whole, and a part of it may have arrived.
    assert received == DATA[: len(received)]
    assert DATA.endswith(rest)
    assert len(received) + len(rest) >= len(DATA)
    assert writing.result(WAIT) == len(DATA)


def test_a_sink_that_goes_is_an_error_and_loses_nothing(stack):
    reader, filled = socket_ends(stack)
    emptied, writer = pipe_ends(stack)
    emptied.close()
    writing = fill(filled)
    pumping = tpio.pump(reader, writer)
    with pytest.raises(BrokenPipeError):
        pumping.result(WAIT)
    assert read_all(reader) == DATA
    assert writing.result(WAIT) == len(DATA)


def test_what_came_before_a_reset_is_written_before_the_error(stack):
    reader, filled = socket_ends(stack)
    emptied, writer = pipe_ends(stack)
    pumping = tpio.pump(reader, writer)
    filled.write(b"the last words").result(WAIT)
    assert read_exactly(emptied, 14) == b"the last words"
    filled.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00")
    filled.close()
    with pytest.raises(ConnectionResetError):
        pumping.result(WAIT)


@pytest.mark.parametrize("stuck", [False, True])
@pytest.mark.parametrize("what", ["close", "cancel", "detach"])
@pytest.mark.parametrize("which", ["source", "sink"])
def test_either_end_ends_it_whatever_it_is_at(stack, which, what, stuck):
    """Stuck, it waits for the sink; else for the source."""
    reader, filled = pipe_ends(stack)
    emptied, writer = socket_ends(stack)
    pumping = tpio.pump(reader, writer)
    filled.write(b"begun").result(WAIT)
    assert read_exactly(emptied, 5) == b"begun"
    if stuck:
        writing = filled.write(DATA * 20)  # which nobody takes
        assert eventually(lambda: pending() == 2)  # that, and what the pump writes
    end = reader if which == "source" else writer
    began = monotonic()
    value = getattr(end, what)()
    if what == "detach":
        socket.close(value) if which == "sink" else tpio._tpio.close_handle(value)
    with pytest.raises(CancelledError):
        pumping.result(WAIT)
    assert monotonic() - began < WAIT / 2  # close did not wait in vain
    if stuck:
        writing.cancel()


def test_close_of_the_pool_cancels(stack):
    with tpio.Pool() as pool:
        reader, filled = tpio.pipe(pool=pool)
        emptied, writer = tpio.pipe(pool=pool)
        pumping = tpio.pump(reader, writer)
    for end in (reader, filled, emptied, writer):
        assert end.closed
    with pytest.raises(CancelledError):
        pumping.result(WAIT)
    with pytest.raises(ValueError, match="closed"):
        tpio.pump(reader, writer)


def test_a_pump_that_never_waits_does_not_hold_up_who_cancels_what_has_not_begun(tmp_path):
    """A file that grows as it is read: each read is done at once, and the turn that comes after some is what is cancelled."""
    path = tmp_path / "grows"
    path.write_bytes(bytes(4096))
    with tpio.Pool(max_threads=2) as pool:
        with tpio.open(path, pool=pool) as source, tpio.open(path, "ab", pool=pool) as sink:
            pumping = tpio.pump(source, sink, 1 << 28, block=512)
            pool.shutdown(wait=False, cancel_futures=True)
            pumping.cancel()
            with pytest.raises(CancelledError):
                pumping.result(WAIT)


def test_what_a_cancelled_await_had_received_goes_first(stack):
    reader, filled = socket_ends(stack)
    emptied, writer = pipe_ends(stack)
    reader._put_back(b"before ")
    reader._put_back(b"all else ")
    fill(filled, b"and the rest")
    assert tpio.pump(reader, writer, 11).result(WAIT) == 11
    assert tpio.pump(reader, writer).result(WAIT) == 17
    assert read_exactly(emptied, 28) == b"before all else and the rest"


def test_storm_of_cancels_loses_nothing(stack):
    """Each pump goes on where the one before it was stopped; what arrives twice is only what was just being written."""
    random_ = random.Random(1)
    reader, filled = pipe_ends(stack)
    emptied, writer = socket_ends(stack)
    data = DATA * 2
    fill(filled, data)
    received = bytearray()
    moved = 0
    done = threading.Event()

    def receive() -> None:
        while part := emptied.read(BLOCK).result(WAIT):
            received.extend(part)
        done.set()

    with support.thread(receive):
        for turn in itertools.count():
            pumping = tpio.pump(reader, writer, block=random_.choice([100, 4096, BLOCK]))
            if turn < 200:
                if random_.random() < 0.5:
                    eventually(lambda: len(received) > moved, 0.001)
                pumping.cancel()
            try:
                pumping.result(WAIT)
                break
            except CancelledError:
                moved = len(received)
        writer.close()
        assert done.wait(WAIT)
    assert len(received) >= len(data)
    assert received.startswith(data[:100]) and received.endswith(data[-100:])


@pytest.mark.parametrize("which", ["source", "sink"])
def test_pumps_begin_while_an_end_is_being_cancelled(stack, which):
    """Which may be when the pump knows its ends already and has not begun."""
    reader, filled = pipe_ends(stack)
    emptied, writer = socket_ends(stack)
    end = reader if which == "source" else writer
    over = threading.Event()

    def cancel() -> None:
        while not over.is_set():
            end.cancel()

    with support.thread(cancel):
        try:
            for _ in range(2000 if support.long else 300):
                with pytest.raises(CancelledError):
                    tpio.pump(reader, writer).result(WAIT)
        finally:
            over.set()
    filled.write(b"as if nothing had been").result(WAIT)
    assert tpio.pump(reader, writer, 22).result(WAIT) == 22
    assert read_exactly(emptied, 22) == b"as if nothing had been"


@pytest.mark.parametrize("which", ["source", "sink"])
def test_pumps_begin_while_an_end_is_being_closed(which):
    for _ in range(200 if support.long else 40):
        with ExitStack() as stack:
            reader, _ = pipe_ends(stack)
            _, writer = pipe_ends(stack)
            end = reader if which == "source" else writer
            pumping, _ = support.at_once(lambda: begin(reader, writer), end.close)
            if pumping is not None:
                with pytest.raises(CancelledError):
                    pumping.result(WAIT)


def begin(source: tpio.Handle, sink: tpio.Handle) -> tpio.Future[int] | None:
    try:
        return tpio.pump(source, sink)
    except ValueError:  # it is closed
        return None


def test_a_dropped_future_goes_on(stack):
    reader, filled = pipe_ends(stack)
    emptied, writer = pipe_ends(stack)
    tpio.pump(reader, writer)
    fill(filled)
    assert read_exactly(emptied, len(DATA)) == DATA


def test_await_and_a_cancelled_task(stack):
    reader, filled = socket_ends(stack)
    emptied, writer = pipe_ends(stack)

    async def main() -> None:
        pumping = asyncio.ensure_future(wait_for(tpio.pump(reader, writer)))
        await asyncio.sleep(0)  # the task has begun, and waits: what follows may all be done at once
        await filled.write(b"begun")
        assert await emptied.read(5) == b"begun"
        pumping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pumping
        await filled.write(b"afterwards")
        assert await reader.read(100) == b"afterwards"
        await filled.write(b"last")
        filled.shutdown(socket.SHUT_WR)
        assert await tpio.pump(reader, writer) == 4
        assert await emptied.read(100) == b"last"

    async def wait_for(future: tpio.Future[int]) -> int:
        return await future

    tpio.aio.run(main())


def test_a_callback_may_begin_the_next(stack):
    reader, filled = pipe_ends(stack)
    emptied, writer = pipe_ends(stack)
    over = threading.Event()
    parts: list[int] = []

    def on_moved(future: tpio.Future[int]) -> None:
        parts.append(future.result())
        if len(parts) == 10:
            over.set()
        else:
            tpio.pump(reader, writer, 1000).add_done_callback(on_moved)

    fill(filled, DATA[:10_000])
    tpio.pump(reader, writer, 1000).add_done_callback(on_moved)
    assert read_exactly(emptied, 10_000) == DATA[:10_000]
    assert over.wait(WAIT)
    assert parts == [1000] * 10


# ---- bad input


def test_bad_arguments_are_refused(stack, tmp_path):
    reader, filled = pipe_ends(stack)
    emptied, writer = pipe_ends(stack)
    refusals: list[tuple[Callable[[], object], type[Exception]]] = [
        (lambda: tpio.pump(reader, writer, -1), ValueError),
        (lambda: tpio.pump(reader, writer, 1.5), TypeError),
        (lambda: tpio.pump(reader, writer, block=0), ValueError),
        (lambda: tpio.pump(reader, writer, block=-1), ValueError),
        (lambda: tpio.pump(reader, writer, block=1 << 40), ValueError),
        (lambda: tpio.pump(reader, writer, block="1"), TypeError),
        (lambda: tpio.pump(reader, 5), TypeError),
        (lambda: tpio.pump(b"data", writer), TypeError),
        (lambda: tpio.pump(reader, None), TypeError),
    ]
    for refused, error in refusals:
        with pytest.raises(error):
            refused()
    fill(filled, b"still there")
    assert tpio.pump(reader, writer).result(WAIT) == 11
    assert read_exactly(emptied, 11) == b"still there"
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        tpio.pump(reader, writer)
    with pytest.raises(ValueError, match="closed"):
        tpio.pump(emptied, reader)


def test_datagrams_and_messages_are_no_streams(stack):
    reader, writer = pipe_ends(stack)
    with tpio.Socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        for source, sink in ((datagrams, writer), (reader, datagrams)):
            with pytest.raises(ValueError, match="stream"):
                tpio.pump(source, sink)
    for end in named_pair(message=True):
        with end:
            for source, sink in ((end, writer), (reader, end)):
                with pytest.raises(ValueError, match="stream"):
                    tpio.pump(source, sink)


def test_the_wrong_direction_is_the_systems_error(stack, tmp_path):
    _, writer = pipe_ends(stack)
    with pytest.raises(PermissionError):
        tpio.pump(writer, writer).result(WAIT)
    (tmp_path / "file").write_bytes(b"data")
    with tpio.open(tmp_path / "file") as file, pytest.raises(PermissionError):
        tpio.pump(file, file).result(WAIT)
