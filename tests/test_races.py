"""Two things at the same time: whoever is first, everything ends once, and nothing is lost or left."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import itertools
import random
import struct
import threading
from concurrent.futures import CancelledError

import pytest

import support
import tpio
from support import WAIT, at_once, eventually


@pytest.fixture
def pair():
    reader, writer = tpio.pipe()
    with reader, writer:
        yield reader, writer


def end_of(future):
    """Waits for the end: the result, or CancelledError."""
    concurrent.futures.wait([future], WAIT)
    assert future.done(), future
    return CancelledError if future.cancelled() else future.result()


def named_pair(**options):
    with tpio.PipeListener(f"tpio-test-races-{random.getrandbits(64):x}", **options) as listener:
        client = tpio.open_pipe(listener.name).result(WAIT)
        return listener.accept().result(WAIT), client


# ---- completion against the submit ----------------------------------------------------------------------------------


def test_a_read_completes_before_its_submit_returns():
    """The data is there, and a pipe with messages takes the way through the pool all the same."""
    server, client = named_pair(message=True)
    with server, client:
        for start in range(0, 2000, 50):
            for number in range(start, start + 50):
                client.write(b"%d" % number).result(WAIT)
            seen = threading.Semaphore(0)
            futures = [server.read(100) for _ in range(50)]
            for future in futures:
                future.add_done_callback(lambda done, seen=seen: seen.release())
            assert [future.result(WAIT) for future in futures] == [b"%d" % n for n in range(start, start + 50)]
            for _ in futures:
                assert seen.acquire(timeout=WAIT)


def test_a_function_ends_before_its_submit_returns():
    pool = tpio.default_pool()
    for _ in range(100):
        futures = [pool.submit(int, "7") for _ in range(20)]
        assert [future.result(WAIT) for future in futures] == [7] * 20


def test_a_timer_fires_before_its_submit_returns():
    seen = []
    for _ in range(1000):
        future = tpio.sleep(0)
        future.add_done_callback(seen.append)
        future.result(WAIT)
    assert eventually(lambda: len(seen) == 1000)


def test_completions_against_add_done_callback_and_result():
    """Each callback runs once, whether it came before the end, after it, or just then."""
    for _ in range(200):
        counts = [0] * 6
        future = tpio.sleep(0.0005)

        def add(index, future=future, counts=counts):
            def count(_):
                counts[index] += 1

            future.add_done_callback(count)
            return future.result(WAIT)

        at_once(*[lambda index=index, add=add: add(index) for index in range(3)])
        for index in range(3, 6):
            add(index)
        assert eventually(lambda counts=counts: counts == [1] * 6), counts


# ---- close against the rest -----------------------------------------------------------------------------------------


def submit_until_closed(submit):
    """All futures that there are; each must end."""
    futures = []
    try:
        while True:
            futures.append(submit())
            if len(futures) > 10000:
                return futures
    except ValueError:
        return futures


@pytest.mark.parametrize("round_", range(3))
def test_close_against_submit_from_other_threads(round_):
    for number in range(15):
        reader, writer = tpio.pipe()
        with reader, writer:
            closer = threading.Event()

            def submit(reader=reader, closer=closer):
                def read():
                    closer.set()
                    return reader.read(1)

                return submit_until_closed(read)

            def close(reader=reader, closer=closer, number=number):
                closer.wait(WAIT)
                for _ in range(number * 100):
                    pass
                reader.close()

            results = at_once(submit, submit, close)
            for future in itertools.chain(*results[:2]):
                assert end_of(future) is CancelledError


def test_close_against_completion():
    """Bytes come while the handle is being closed: each read has some, or is cancelled."""
    for number in range(40):
        reader, writer = tpio.pipe()
        with reader, writer:
            futures = [reader.read(1) for _ in range(20)]
            data = bytes(range(20))

            def write(writer=writer, data=data):
                for byte in data:
                    writer.write(bytes([byte]))

            def close(reader=reader, number=number):
                for _ in range(number * 50):
                    pass
                reader.close()

            at_once(write, close)
            ends = [end_of(future) for future in futures]
            got = [end for end in ends if end is not CancelledError]
            assert b"".join(got) == data[: len(got)]


def test_close_against_cancel():
    for _ in range(40):
        reader, writer = tpio.pipe()
        with reader, writer:
            futures = [reader.read(1) for _ in range(10)]
            at_once(
                reader.close,
                reader.cancel,
                lambda futures=futures: [future.cancel() for future in futures],
                lambda futures=futures: [future.cancel() for future in reversed(futures)],
            )
            assert [end_of(future) for future in futures] == [CancelledError] * 10


def test_close_from_several_threads():
    for _ in range(40):
        reader, writer = tpio.pipe()
        future = reader.read(1)
        at_once(*[reader.close] * 3, *[writer.close] * 2)
        assert reader.closed
        assert writer.closed
        assert end_of(future) in (CancelledError, b"")


def test_detach_against_close_and_submit():
    """Whoever is first has the handle, and it is closed once."""
    for _ in range(20):
        reader, writer = tpio.pipe()

        def detach(reader=reader):
            try:
                return reader.detach()
            except ValueError:
                return None

        handles = at_once(detach, detach, reader.close, lambda reader=reader: reader.closed)
        for handle in handles[:2]:
            if handle is not None:
                tpio._tpio.close_handle(handle)
        assert handles[0] is None or handles[1] is None
        writer.close()


def test_accepts_from_several_threads_of_one_connection_that_was_given_back():
    """One gets it, and the others wait for the next."""
    rounds, threads = 1000, 3

    def accept():
        futures = []
        for _ in range(rounds):
            if barrier.wait(WAIT) == 0:
                listener._give_back(accepted)
            barrier.wait(WAIT)
            futures.append(listener.accept())
            futures[-1].cancel()  # too late for one that was given a connection
        return [end for future in futures if (end := end_of(future)) is not CancelledError]

    barrier = threading.Barrier(threads)
    with tpio.listen(("127.0.0.1", 0)) as listener:
        client = tpio.open_connection(listener.getsockname()).result(WAIT)
        with client, listener.accept().result(WAIT)[0] as connection:
            accepted = (connection, client.getsockname())
            assert [*itertools.chain(*at_once(*[accept] * threads))] == [accepted] * rounds


def test_close_inside_a_callback_of_the_handle_does_not_wait_for_itself():
    for _ in range(20):
        reader, writer = tpio.pipe()
        with reader, writer:
            closed = tpio.Future()
            futures = [reader.read(1) for _ in range(5)]

            def close(_, reader=reader, closed=closed):
                reader.close()
                closed.set_result(reader.closed)

            futures[0].add_done_callback(close)
            writer.write(b"x").result(WAIT)
            assert closed.result(WAIT) is True
            assert [end_of(future) for future in futures] == [b"x"] + [CancelledError] * 4


def test_close_of_the_pool_inside_a_callback_of_it():
    pool = tpio.Pool()
    reader, writer = tpio.pipe(pool=pool)
    closed, read, slept = tpio.Future(), reader.read(1), tpio.sleep(3600, pool=pool)

    def close(_):
        pool.close()
        closed.set_result(pool.closed)

    pool.submit(int).add_done_callback(close)
    assert closed.result(WAIT) is True
    assert end_of(read) is CancelledError
    assert end_of(slept) is CancelledError
    assert reader.closed
    assert writer.closed
    pool.close()
    assert pool.stats()[:2] == (0, 3)
    assert pool.stats().handles == 0


# ---- the pool's end -------------------------------------------------------------------------------------------------


def test_a_pool_is_closed_with_everything_in_flight(tmp_path):
    with tpio.Pool() as pool:
        reader, writer = tpio.pipe(pool=pool)
        unread, full = tpio.pipe(pool=pool)
        listener = tpio.listen(("127.0.0.1", 0), pool=pool)
        pipes = tpio.PipeListener(f"tpio-test-races-{random.getrandbits(64):x}", pool=pool)
        file = tpio.open(tmp_path / "file", "w+b", pool=pool)
        go, begun = threading.Event(), threading.Barrier(3)

        def run():
            begun.wait(WAIT)
            return go.wait(WAIT)

        running = [pool.submit(run) for _ in range(2)]
        begun.wait(WAIT)  # those that have not begun are cancelled
        futures = [reader.read(100) for _ in range(100)]
        futures += [full.write(bytes(10**6)), reader.poll_read(), listener.accept(), pipes.accept()]
        futures += [tpio.sleep(3600, pool=pool) for _ in range(100)]
        functions = [pool.submit(int) for _ in range(100)]
        written = file.write(b"x" * 5000, 0)
        closer = threading.Thread(target=pool.close)
        closer.start()
        assert [end_of(future) for future in futures] == [CancelledError] * len(futures)
        assert all(end_of(future) in (0, CancelledError) for future in functions)
        go.set()
        closer.join(WAIT)
        assert not closer.is_alive()
        assert [future.result(WAIT) for future in running] == [True, True]
        assert end_of(written) in (5000, CancelledError)
        for each in (reader, writer, unread, full, listener, file):
            assert each.closed
            with pytest.raises(ValueError, match="closed"):
                each.read(1)
        pipes.close()
        stats = pool.stats()
        assert (stats.pending, stats.handles) == (0, 0)
        assert stats.submitted == stats.completed + stats.cancelled + stats.failed


def test_the_close_of_a_pool_cancels_both_ends_of_its_pipes():
    """Their handles are closed one after the other: no end fails because the other end's was first."""
    for _ in range(5):
        pool = tpio.Pool()
        futures, ends = [], []
        for _ in range(20):
            (reader, unused), (unread, writer) = tpio.pipe(pool=pool), tpio.pipe(pool=pool)
            futures += [reader.read(1), writer.write(bytes(1_000_000))]
            ends += [reader, unused, unread, writer]
        pool.close()
        assert [end_of(future) for future in futures] == [CancelledError] * len(futures)


def test_close_of_a_pool_against_submit_from_other_threads():
    for _ in range(10):
        pool = tpio.Pool()
        begun = threading.Event()

        def submit(pool=pool, begun=begun):
            futures = []
            try:
                while len(futures) < 20000:
                    futures.append(pool.submit(int))
                    futures.append(tpio.sleep(3600, pool=pool))
                    begun.set()
            except RuntimeError:
                pass
            return futures

        def close(pool=pool, begun=begun):
            assert begun.wait(WAIT)
            pool.close()

        results = at_once(submit, submit, close)
        for future in itertools.chain(*results[:2]):
            assert end_of(future) in (0, CancelledError)
        stats = pool.stats()
        assert stats.pending == 0
        assert stats.submitted == stats.completed + stats.cancelled


def test_close_of_a_pool_against_binding():
    for _ in range(20):
        pool = tpio.Pool()

        def bind(pool=pool):
            pairs = []
            try:
                while len(pairs) < 1000:
                    pairs.append(tpio.pipe(pool=pool))
            except (RuntimeError, ValueError):
                pass
            return pairs

        first, second, _ = at_once(bind, bind, pool.close)
        for reader, writer in first + second:
            assert reader.closed
            assert writer.closed
        assert pool.stats().handles == 0


def test_a_pool_that_nobody_has_any_more_goes():
    """Also when its last reference is dropped on one of its own threads."""
    for _ in range(20):
        pool = tpio.Pool()
        future = pool.submit(int)
        end = tpio.Future()
        future.add_done_callback(lambda _, end=end: end.set_result(None))
        del pool, future
        end.result(WAIT)
    gc.collect()
    assert support.goes(lambda: len(support.pools()) <= 1, 10)


# ---- dropped references ---------------------------------------------------------------------------------------------


def test_ten_thousand_pending_futures_are_dropped(pair):
    reader, writer = pair
    before = support.pending()
    for _ in range(10_000):
        reader.read(1)
    gc.collect()
    assert support.pending() == before + 10_000
    writer.write(bytes(9_999)).result(WAIT)
    assert eventually(lambda: support.pending() == before + 1)
    assert writer.write(b"xy").result(WAIT) == 2
    assert reader.read(1).result(WAIT) == b"y"


def test_ten_thousand_pending_futures_are_dropped_and_their_handle_closed():
    reader, writer = tpio.pipe()
    buffers = [bytearray(10) for _ in range(10_000)]
    for buffer in buffers:
        reader.read_into(buffer)
    del buffers, buffer
    gc.collect()
    before = tpio.default_pool().stats().cancelled
    reader.close()
    writer.close()
    assert eventually(lambda: support.pending() == 0)
    assert tpio.default_pool().stats().cancelled == before + 10_000


def test_everything_is_dropped_while_a_read_is_pending():
    """Nobody has the future, the buffer, the handle or the pool: they live until the system is done with them."""
    with tpio.PipeListener(f"tpio-test-races-{random.getrandbits(64):x}") as listener:
        pool, accepted, seen = tpio.Pool(), listener.accept(), tpio.Future()
        client = tpio.open_pipe(listener.name, pool=pool).result(WAIT)
        writer = accepted.result(WAIT)
    client.read_into(bytearray(1)).add_done_callback(lambda done: seen.set_result(done.result()))
    del client, pool, accepted
    gc.collect()
    writer.write(b"x").result(WAIT)
    assert seen.result(WAIT) == 1
    assert support.goes(lambda: end_of_pipe(writer))  # its handle is closed
    writer.close()
    assert support.goes(lambda: not [pool for pool in support.pools() if pool is not tpio.default_pool()])


def end_of_pipe(writer):
    try:
        writer.write(b"x").result(WAIT)
    except BrokenPipeError:
        return True
    return False


def test_a_dropped_future_is_not_cancelled(pair):
    reader, writer = pair
    reader.read(1)
    gc.collect()
    writer.write(b"xy").result(WAIT)
    assert reader.read(1).result(WAIT) == b"y"


# ---- buffers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resize", ["append", "clear", "extend", "pop"])
def test_a_buffer_cannot_be_resized_while_it_is_being_read_into(pair, resize):
    reader, writer = pair
    buffer = bytearray(b"old")
    future = reader.read_into(buffer)
    arguments = {"append": (1,), "extend": (b"more",)}.get(resize, ())
    with pytest.raises(BufferError):
        getattr(buffer, resize)(*arguments)
    writer.write(b"new").result(WAIT)
    assert future.result(WAIT) == 3
    assert buffer == b"new"
    assert eventually(lambda: resized(buffer))


def test_a_buffer_cannot_be_resized_while_it_is_being_written(pair):
    reader, writer = pair
    size = 20 * tpio._pipes.BUFFER_SIZE
    data = bytearray(random.Random(4).randbytes(size))
    expected = bytes(data)
    future = writer.write(data)
    with pytest.raises(BufferError):
        data.append(1)
    received = bytearray()
    while len(received) < size:
        received += reader.read(65536).result(WAIT)
    assert future.result(WAIT) == size
    assert received == expected
    assert eventually(lambda: resized(data))


def resized(buffer):
    try:
        buffer.append(1)
    except BufferError:
        return False
    return True


def test_a_buffer_is_free_when_the_future_tells_its_end(pair):
    """A done callback, and a thread that was blocked, may resize it."""
    reader, writer = pair
    for _ in range(100):
        buffer, seen = bytearray(1), tpio.Future()
        future = reader.read_into(buffer)
        future.add_done_callback(lambda _, buffer=buffer, seen=seen: seen.set_result(resized(buffer)))
        writer.write(b"x").result(WAIT)
        assert future.result(WAIT) == 1
        buffer.append(2)
        assert seen.result(WAIT) is True


# ---- many users of one handle ---------------------------------------------------------------------------------------


def test_many_operations_in_flight_on_one_handle(pair):
    reader, writer = pair
    reads = [reader.read(4) for _ in range(200)]
    writes = [writer.write(struct.pack("I", number)) for number in range(200)]
    assert [struct.unpack("I", read.result(WAIT))[0] for read in reads] == list(range(200))
    assert [write.result(WAIT) for write in writes] == [4] * 200


def test_many_operations_in_flight_on_one_file(tmp_path):
    data = random.Random(5).randbytes(256 * 1024)
    with tpio.open(tmp_path / "file", "w+b") as file:
        writes = [file.write(data[at : at + 4096], at) for at in range(0, len(data), 4096)]
        assert [write.result(WAIT) for write in writes] == [4096] * 64
        places = [random.Random(6).randrange(len(data) - 100) for _ in range(500)]
        reads = [file.read(100, at) for at in places]
        assert [read.result(WAIT) for read in reads] == [data[at : at + 100] for at in places]


def test_one_handle_from_two_event_loops_and_four_threads(pair):
    reader, writer = pair
    total, loops, threads = 1200, 2, 4
    each = total // (loops + threads)
    numbers = []

    async def task(count):
        return [await reader.read(4) for _ in range(count)]

    async def main():
        parts = await asyncio.gather(*[task(each // 4) for _ in range(4)])
        return [number for part in parts for number in part]

    def block():
        return [reader.read(4).result(WAIT) for _ in range(each)]

    def write():
        for start in range(0, total, 5):
            writer.write(struct.pack("5I", *range(start, start + 5)))
        return []

    results = at_once(*[lambda: asyncio.run(main())] * loops, *[block] * threads, write)
    numbers = [struct.unpack("I", data)[0] for result in results for data in result]
    assert sorted(numbers) == list(range(total))


def test_operations_survive_the_thread_that_began_them(pair):
    """When a thread ends, the system cancels what it has begun, but for handles that belong to a completion port."""
    reader, writer = pair
    with tpio.listen(("127.0.0.1", 0)) as listener:
        began = []

        def begin():
            began.append((reader.read(3), listener.accept()))

        for _ in range(5):
            thread = threading.Thread(target=begin)
            thread.start()
            thread.join(WAIT)
        assert not any(future.done() for futures in began for future in futures)
        for read, accept in began:
            writer.write(b"omg").result(WAIT)
            assert read.result(WAIT) == b"omg"
            with tpio.open_connection(listener.getsockname()).result(WAIT), accept.result(WAIT)[0] as server:
                assert server.getpeername()


# ---- callbacks that block -------------------------------------------------------------------------------------------


def test_a_blocking_callback_does_not_hold_up_other_operations(pair):
    reader, writer = pair
    go, blocked = threading.Event(), threading.Event()

    def block(_):
        blocked.set()
        assert go.wait(WAIT)

    future = reader.read(1)
    future.add_done_callback(block)
    writer.write(b"x").result(WAIT)
    assert blocked.wait(WAIT)
    for number in range(20):
        seen, read = tpio.Future(), reader.read(1)
        read.add_done_callback(lambda done, seen=seen: seen.set_result(done.result()))
        writer.write(bytes([number])).result(WAIT)
        assert seen.result(WAIT) == bytes([number])
        assert tpio.sleep(0.001).result(WAIT) is None
    go.set()


@pytest.mark.parametrize("blocking", [1, 3, 7])
def test_blocking_callbacks_do_not_hold_up_those_of_the_same_batch(blocking):
    """Timers that are due together complete together. The first callbacks block until the last one has run."""
    for _ in range(5):
        go = threading.Event()
        ran = threading.Semaphore(0)

        def block(_, go=go, ran=ran):
            assert go.wait(WAIT)
            ran.release()

        futures = [tpio.sleep(0.03) for _ in range(8)]
        for future in futures[:blocking]:
            future.add_done_callback(block)
        for future in futures[blocking:-1]:
            future.add_done_callback(lambda _, ran=ran: ran.release())
        futures[-1].add_done_callback(lambda _, ran=ran, go=go: (ran.release(), go.set()))
        for _ in range(8):
            assert ran.acquire(timeout=WAIT)


def test_blocking_callbacks_do_not_hold_up_reads_that_completed_together(pair):
    reader, writer = pair
    go = threading.Event()
    futures = [reader.read(1) for _ in range(10)]
    ends = [tpio.Future() for _ in futures]
    for index, (future, end) in enumerate(zip(futures, ends, strict=True)):

        def callback(_, index=index, end=end):
            if index < 9:
                assert go.wait(WAIT)
            else:
                go.set()
            end.set_result(None)

        future.add_done_callback(callback)
    writer.write(bytes(10)).result(WAIT)
    for end in ends:
        end.result(WAIT)


def test_as_many_functions_as_there_are_block_at_once():
    barrier = threading.Barrier(17)
    futures = [tpio.default_pool().submit(barrier.wait, WAIT) for _ in range(16)]
    barrier.wait(WAIT)
    assert sorted(future.result(WAIT) for future in futures) != [0] * 16  # each came to a place of its own


def test_results_do_not_wait_for_blocking_callbacks():
    """A thread that blocks in result() is woken before any callback of the same batch runs."""
    go = threading.Event()
    futures = [tpio.sleep(0.02) for _ in range(5)]
    for future in futures[:4]:
        future.add_done_callback(lambda _: go.wait(WAIT))
    assert futures[4].result(WAIT) is None
    assert all(future.result(WAIT) is None for future in futures)
    go.set()


def test_callbacks_that_begin_the_next_operation_for_ever_need_few_threads():
    """A thread for each completion that came while others waited for the GIL: there were hundreds, and nobody's turn came."""
    turns, ended = itertools.count(), threading.Semaphore(0)
    with tpio.Pool() as pool:
        reader, writer = tpio.pipe(pool=pool)

        def again(_=None):
            if next(turns) >= 5000:
                ended.release()
                return
            reader.read(1).add_done_callback(again)
            writer.write(b"x")

        with reader, writer:
            for _ in range(10):
                again()
            assert all(ended.acquire(timeout=WAIT) for _ in range(10))
            assert pool.stats().threads <= 20
