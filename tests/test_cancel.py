"""cancel() is a request: the system decides who was faster, and nothing is lost or told twice whichever it was."""

from __future__ import annotations

import concurrent.futures
import random
import threading
import zlib
from concurrent.futures import CancelledError

import pytest

import support
import tpio
from support import WAIT, at_once, eventually
from tpio._pipes import BUFFER_SIZE


@pytest.fixture
def pair():
    reader, writer = tpio.pipe()
    with reader, writer:
        yield reader, writer


def end_of(future):
    """Waits for the end: the result, or CancelledError."""
    concurrent.futures.wait([future], WAIT)
    assert future.done()
    return CancelledError if future.cancelled() else future.result()


def tcp_pair():
    with tpio.listen(("127.0.0.1", 0)) as listener:
        accepted = listener.accept()
        client = tpio.open_connection(listener.getsockname()).result(WAIT)
        return accepted.result(WAIT)[0], client


# ---- one operation --------------------------------------------------------------------------------------------------


def test_a_pending_read_is_cancelled(pair):
    future = pair[0].read(1)
    assert future.cancel() is True
    with pytest.raises(CancelledError):
        future.result(WAIT)
    assert future.cancelled()
    assert future.done()
    assert future.cancel() is True


def test_after_a_cancelled_read_of_one_the_next_read_gets_all_three_bytes(pair):
    reader, writer = pair
    future = reader.read(1)
    future.cancel()
    assert end_of(future) is CancelledError
    writer.write(b"omg").result(WAIT)
    assert reader.read(3).result(WAIT) == b"omg"


def test_cancel_is_a_request_that_the_completion_may_outrun(pair):
    """The byte is there before the cancel: the result stands."""
    reader, writer = pair
    for _ in range(100):
        future = reader.read(1)
        writer.write(b"x").result(WAIT)
        future.cancel()
        assert end_of(future) == b"x"


def test_cancel_after_the_end_is_harmless(pair):
    reader, writer = pair
    future = reader.read(1)
    writer.write(b"x").result(WAIT)
    assert future.result(WAIT) == b"x"
    other = reader.read(1)
    assert future.cancel() is False
    writer.write(b"y").result(WAIT)
    assert other.result(WAIT) == b"y"


def test_cancel_again_and_again_from_several_threads(pair):
    reader, writer = pair
    for _ in range(20):
        future = reader.read(1)
        at_once(*[lambda future=future: [future.cancel() for _ in range(10)]] * 4)
        assert end_of(future) is CancelledError
    writer.write(b"omg").result(WAIT)
    assert reader.read(3).result(WAIT) == b"omg"


def test_cancel_of_one_operation_leaves_the_others(pair):
    reader, writer = pair
    futures = [reader.read(1) for _ in range(5)]
    futures[2].cancel()
    assert end_of(futures[2]) is CancelledError
    assert not any(futures[index].done() for index in (0, 1, 3, 4))
    writer.write(b"abcd").result(WAIT)
    assert [futures[index].result(WAIT) for index in (0, 1, 3, 4)] == [b"a", b"b", b"c", b"d"]


def test_cancel_of_a_handle_ends_all_its_operations(pair):
    reader, writer = pair
    futures = [reader.read(1) for _ in range(50)]
    reader.cancel()
    assert [end_of(future) for future in futures] == [CancelledError] * 50
    writer.write(b"omg").result(WAIT)
    assert reader.read(3).result(WAIT) == b"omg"


def test_cancel_of_a_handle_with_nothing_pending(pair):
    reader, writer = pair
    reader.cancel()
    future = reader.read(1)
    writer.write(b"x").result(WAIT)
    assert future.result(WAIT) == b"x"
    reader.close()
    reader.cancel()


def test_a_cancelled_read_into_gives_the_buffer_back(pair):
    buffer = bytearray(100)
    future = pair[0].read_into(buffer)
    with pytest.raises(BufferError):
        buffer.append(0)
    future.cancel()
    assert end_of(future) is CancelledError
    assert buffer == bytes(100)
    assert eventually(lambda: resizes(buffer))


def resizes(buffer):
    try:
        buffer.append(0)
    except BufferError:
        return False
    return True


def test_a_socket_read_is_cancelled():
    server, client = tcp_pair()
    with server, client:
        future = server.recv(1)
        assert future.cancel()
        assert end_of(future) is CancelledError
        client.send(b"omg").result(WAIT)
        assert server.recv(3).result(WAIT) == b"omg"


def test_an_accept_is_cancelled_and_the_next_one_works():
    with tpio.listen(("127.0.0.1", 0)) as listener:
        future = listener.accept()
        assert future.cancel()
        assert end_of(future) is CancelledError
        accepted = listener.accept()
        with tpio.open_connection(listener.getsockname()).result(WAIT) as client:
            with accepted.result(WAIT)[0] as server:
                client.send(b"omg").result(WAIT)
                assert server.recv(3).result(WAIT) == b"omg"


def test_a_named_pipe_accept_is_cancelled_and_the_next_one_works():
    with tpio.PipeListener(f"tpio-test-cancel-{random.getrandbits(64):x}") as listener:
        future = listener.accept()
        assert future.cancel()
        assert end_of(future) is CancelledError
        with tpio.open_pipe(listener.name).result(WAIT) as client, listener.accept().result(WAIT) as server:
            client.write(b"omg").result(WAIT)
            assert server.read(3).result(WAIT) == b"omg"


def test_a_poll_is_cancelled_and_takes_nothing_away(pair):
    reader, writer = pair
    poll = reader.poll_read()
    assert poll.cancel()
    assert end_of(poll) is CancelledError
    writer.write(b"omg").result(WAIT)
    reader.poll_read().result(WAIT)
    assert reader.read(3).result(WAIT) == b"omg"


def test_a_function_that_has_not_begun_is_cancelled():
    with tpio.Pool(max_threads=1) as pool:
        begun, go = threading.Event(), threading.Event()
        first = pool.submit(lambda: (begun.set(), go.wait(WAIT)))
        assert begun.wait(WAIT)
        called = []
        second = pool.submit(called.append, 1)
        third = pool.submit(called.append, 2)
        assert second.cancel() is True
        assert second.cancelled()
        assert second.done()
        go.set()
        third.result(WAIT)
        first.result(WAIT)
        assert called == [2]
        assert pool.stats().cancelled == 1


# ---- a write that is too much for the pipe --------------------------------------------------------------------------


def test_a_write_of_eight_pipe_buffers_waits_for_its_reader_and_one_behind_it_is_cancelled(pair):
    reader, writer = pair
    size = 8 * BUFFER_SIZE
    data = random.Random(8).randbytes(size)
    first = writer.write(data)
    second = writer.write(b"never written")
    received = reader.read(128).result(WAIT)
    assert len(received) == 128
    assert not first.done()
    assert not second.done()
    assert second.cancel()
    assert end_of(second) is CancelledError
    assert not first.done()
    while len(received) < size:
        part = reader.read(4096).result(WAIT)
        assert part
        received += part
    assert first.result(WAIT) == size
    assert received == data
    writer.close()
    assert reader.read(1).result(WAIT) == b""


def test_a_big_write_can_be_cancelled_and_what_arrives_is_its_beginning(pair):
    reader, writer = pair
    data = random.Random(9).randbytes(8 * BUFFER_SIZE)
    future = writer.write(data)
    received = reader.read(128).result(WAIT)
    assert future.cancel()
    assert end_of(future) is CancelledError
    writer.close()
    while part := reader.read(65536).result(WAIT):
        received += part
    assert len(received) < len(data)
    assert data.startswith(received)


# ---- the storm ------------------------------------------------------------------------------------------------------

TRIES = 100_000 if support.long else 20_000


def storm(read, write, seed):
    """One thread reads and cancels, another writes: every byte comes once and in order, whoever was faster."""
    total, received, cancelled, size = TRIES, 0, 0, 0
    checksum = expected = 0
    turn = threading.Semaphore(0)
    stop = False
    sent = 0

    def writer():
        nonlocal expected, sent
        rng = random.Random(seed)
        while turn.acquire(timeout=WAIT) and not stop:
            data = rng.randbytes(rng.randrange(1, 4))
            expected = zlib.crc32(data, expected)
            sent += len(data)
            write(data).result(WAIT)

    with support.thread(writer):
        try:
            for number in range(total):
                future = read(1 + number % 7)
                if number % 3:
                    turn.release()
                if number % 4 == 3:
                    for _ in range(number % 50):
                        pass
                future.cancel()
                try:
                    data = future.result(WAIT)
                except CancelledError:
                    cancelled += 1
                else:
                    assert data
                    received += 1
                    size += len(data)
                    checksum = zlib.crc32(data, checksum)
        finally:
            stop = True
            turn.release()
    while size < sent:
        data = read(4096).result(WAIT)
        size += len(data)
        checksum = zlib.crc32(data, checksum)
    assert (size, checksum) == (sent, expected)
    assert received + cancelled == total
    assert received > 10
    assert cancelled > 10


@pytest.mark.once
def test_storm_of_cancels_against_completions_on_a_pipe(pair):
    reader, writer = pair
    storm(reader.read, writer.write, 1)


@pytest.mark.once
def test_storm_of_cancels_against_completions_on_a_socket(monkeypatch):
    monkeypatch.setattr(f"{__name__}.TRIES", TRIES // 4)
    server, client = tcp_pair()
    with server, client:
        storm(server.recv, client.send, 2)


@pytest.mark.once
def test_storm_of_cancels_of_the_handle(pair):
    """Handle.cancel instead of the future's, from a third thread, with several reads in flight."""
    reader, writer = pair
    rounds = TRIES // 10
    data = random.Random(3).randbytes(10 * rounds)
    turn = threading.Semaphore(0)
    stop = threading.Event()
    received, ends = bytearray(), {"cancelled": 0, "read": 0}

    def cancel():
        while not stop.is_set():
            reader.cancel()

    def write():
        for start in range(0, len(data), 10):
            if not turn.acquire(timeout=WAIT) or stop.is_set():
                return
            writer.write(data[start : start + 10]).result(WAIT)

    with support.thread(cancel), support.thread(write):
        try:
            for number in range(rounds):
                if number % 2:
                    turn.release(2)
                for future in [reader.read(3) for _ in range(4)]:
                    try:
                        received += future.result(WAIT)
                    except CancelledError:
                        ends["cancelled"] += 1
                    else:
                        ends["read"] += 1
            while len(received) < rounds // 2 * 20:
                try:
                    received += reader.read(100).result(WAIT)
                except CancelledError:
                    pass
        finally:
            stop.set()
            turn.release()
    assert received == data[: rounds // 2 * 20]
    assert min(ends.values()) > 10, ends


def test_storm_of_cancels_against_timers():
    ended = cancelled = 0
    for number in range(2000):
        future = tpio.sleep((number % 4) / 2000)
        if number % 4 == 3:
            tpio.sleep(0.001).result(WAIT)
        if number % 100 == 0:
            future.result(WAIT)
        asked = future.cancel()
        if end_of(future) is CancelledError:
            assert asked
            cancelled += 1
        else:
            ended += 1
    assert ended >= 20
    assert cancelled > 10


def test_storm_of_cancels_against_functions():
    """Each function has run if and only if its future says so."""
    with tpio.Pool(max_threads=2) as pool:
        called = set()
        futures = []
        for number in range(3000):
            futures.append(pool.submit(called.add, number))
            if number % 3 == 0:
                futures[-1].cancel()
        concurrent.futures.wait(futures, WAIT)
        assert {number for number, future in enumerate(futures) if not future.cancelled()} == called
        stats = pool.stats()
        assert (stats.pending, stats.submitted) == (0, 3000)
        assert stats.cancelled == 3000 - len(called)
        assert stats.completed == len(called)
