"""An await that is cancelled between the end of its operation and the moment when the loop would hear of it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ctypes
import socket
import sys
import threading

import pytest

import support
import tpio
import tpio.aio
from support import WAIT


async def ended_before_it_was_waited_for(future):
    """Awaits as a task does, but the operation ends after the look whether it has ended, and the cancel comes next."""
    awaiter = future.__await__()
    assert next(awaiter) is awaiter  # not yet
    yield_to = asyncio.get_running_loop().create_future()
    yield awaiter
    # The loop stands still, so that it cannot hear of the end; and nobody may look at the result, or it is his.
    assert support.eventually(future.done)
    awaiter.add_done_callback(lambda _: yield_to.set_result(None))
    assert awaiter.cancel()
    await asyncio.wait_for(yield_to, WAIT)
    with pytest.raises(asyncio.CancelledError):
        awaiter.result()


def run(begin, cause):
    async def main():
        steps = ended_before_it_was_waited_for(begin())
        await anext(steps)
        cause()
        async for _ in steps:
            pass

    asyncio.run(main())


@pytest.mark.parametrize("into", [False, True], ids=["read", "read_into"])
def test_what_a_read_has_got_is_for_the_next_one(into):
    reader, writer = tpio.pipe()
    with reader, writer:
        run(lambda: reader.read_into(bytearray(10)) if into else reader.read(10), lambda: writer.write(b"abc"))
        assert reader.read(10).result(WAIT) == b"abc"


def test_what_a_read_into_many_buffers_has_got_is_for_the_next_one():
    one, other = socket.socketpair()
    with tpio.Socket(sock=one) as one, tpio.Socket(sock=other) as other:
        run(lambda: one.recvmsg_into([bytearray(1), bytearray(9)]), lambda: other.send(b"abc"))
        assert one.recv(10).result(WAIT) == b"abc"


class Record(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int), ("text", ctypes.c_char * 12)]


class PythonBuffer:
    """Has the memory of another (PEP 688)."""

    def __init__(self) -> None:
        self.inner = bytearray(16)

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(self.inner)


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("make", [Record, lambda: memoryview(bytearray(16)).cast("i", (2, 2)), PythonBuffer])
def test_what_a_read_has_got_in_a_buffer_of_another_shape(make, scattered):
    if make is PythonBuffer and sys.version_info < (3, 12):
        pytest.skip("PEP 688 is of Python 3.12")
    one, other = socket.socketpair()
    with tpio.Socket(sock=one) as one, tpio.Socket(sock=other) as other:
        run(lambda: one.recvmsg_into([make()]) if scattered else one.recv_into(make()), lambda: other.send(b"abc"))
        assert one.recv(10).result(WAIT) == b"abc"


@pytest.mark.parametrize("into", [False, True], ids=["recvfrom", "recvfrom_into"])
def test_what_a_receive_of_a_datagram_has_got_is_for_the_next_one(into):
    with tpio.Socket(type=socket.SOCK_DGRAM) as one, tpio.Socket(type=socket.SOCK_DGRAM) as other:
        one.bind(("127.0.0.1", 0))
        run(
            lambda: one.recvfrom_into(bytearray(10)) if into else one.recvfrom(10),
            lambda: other.sendto(b"abc", one.getsockname()),
        )
        assert one.recvfrom(10).result(WAIT)[0] == b"abc"


def test_a_connection_that_an_accept_has_got_is_for_the_next_one():
    with tpio.listen(("127.0.0.1", 0)) as listener, socket.socket() as client:
        run(listener.accept, lambda: client.connect(listener.getsockname()))
        connection, address = listener.accept().result(WAIT)
        with connection:
            assert address == client.getsockname()
    assert support.eventually(lambda: support.pending() == 0)


async def await_it(future):
    return await future


LOOKS = {
    "result": lambda future: future.result(),
    "result without waiting": lambda future: future.result(0),
    "exception": lambda future: future.exception(),
    "await": lambda future: next(future.__await__(), None),
}


@pytest.mark.parametrize("run", [asyncio.run, tpio.aio.run], ids=["asyncio", "tpio"])
@pytest.mark.parametrize("into", [False, True], ids=["read", "read_into"])
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_what_somebody_has_looked_at_is_not_for_the_next_one(look, into, run):
    async def main():
        buffer = bytearray(10)
        future = reader.read_into(buffer) if into else reader.read(10)
        task = asyncio.ensure_future(await_it(future))
        await asyncio.sleep(0)
        writer.write(b"abc").result(WAIT)
        assert support.eventually(future.done)
        look(future)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert future.result(0) == (3 if into else b"abc")
        await writer.write(b"next")
        assert await reader.read(10) == b"next"

    reader, writer = tpio.pipe()
    with reader, writer:
        run(main())


def test_a_result_is_told_or_given_back_whoever_is_faster():
    """Without a GIL, a look at it and the cancel of its only await can be at the same moment."""

    async def main():
        for _ in range(200):
            future = reader.read(10)
            awaiter = future.__await__()
            next(awaiter)
            writer.write(b"abc").result(WAIT)
            assert support.eventually(future.done)
            awaiter.add_done_callback(lambda _: None)
            told, _ = support.at_once(lambda future=future: outcome(future), awaiter.cancel)
            writer.write(b"next").result(WAIT)
            if told == b"abc":
                assert future.result() == b"abc"
            else:
                assert told is concurrent.futures.CancelledError and future.cancelled()
                assert reader.read(3).result(WAIT) == b"abc"
            assert reader.read(10).result(WAIT) == b"next"

    def outcome(future):
        try:
            return future.result(WAIT)
        except concurrent.futures.CancelledError as error:
            return type(error)

    reader, writer = tpio.pipe()
    with reader, writer:
        asyncio.run(main())


def test_a_buffer_is_let_go_once_whoever_awaits(tmp_path):
    """Of a read_into that had ended before two loops, without a GIL, await it at the same moment."""
    (tmp_path / "file").write_bytes(b"x")

    def await_all():
        for future in futures:
            with pytest.raises(StopIteration):
                next(future.__await__())

    with tpio.open(tmp_path / "file") as file:
        for _ in range(5):
            buffers = [bytearray(1) for _ in range(200)]
            before = [sys.getrefcount(buffer) for buffer in buffers]
            futures = [file.read_into(buffer, 0) for buffer in buffers]
            assert support.eventually(lambda futures=futures: all(future.done() for future in futures))
            support.at_once(await_all, await_all)
            assert [sys.getrefcount(buffer) for buffer in buffers] == before


def test_an_awaiter_has_no_result_before_the_end():
    """And lets go of nothing that the system still has."""
    reader, writer = tpio.pipe()
    with reader, writer:
        future = reader.read(10)
        with pytest.raises(concurrent.futures.InvalidStateError):
            future.__await__().result()
        writer.write(b"abc").result(WAIT)
        assert future.result(WAIT) == b"abc"


# ---- wake-ups


def test_each_of_several_loops_hears_of_a_batch_that_they_all_await():
    """A loop that is awake in the middle of a batch, takes what has come, and gets more, once took the wake-up of others. Who
    waits with concurrent.futures.wait makes threads change within the batch."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(5):
            with tpio.Pool() as pool:
                all_await_the_same(pool)
    finally:
        sys.setswitchinterval(interval)


def all_await_the_same(pool):
    shared = [tpio.sleep(1000, pool=pool) for _ in range(200)]
    makers = [tpio.aio.run, tpio.aio.run, tpio.aio.run, asyncio.run]
    await_already = threading.Barrier(len(makers) + 1)

    async def await_one(future):
        with pytest.raises(asyncio.CancelledError):
            await future

    async def main():
        own = [tpio.sleep(1000, pool=pool) for _ in range(3)]
        tasks = [asyncio.ensure_future(await_one(future)) for future in own + shared[:20]]
        await asyncio.sleep(0)
        await asyncio.to_thread(await_already.wait, WAIT)
        done, _ = await asyncio.wait(tasks, timeout=WAIT)
        assert len(done) == len(tasks) and not [task.result() for task in done if task.result()]

    def close():
        await_already.wait(WAIT)
        pool.close()

    def wait_otherwise():
        assert not concurrent.futures.wait(shared, WAIT).not_done

    support.at_once(*[lambda make=make: make(main()) for make in makers], close, wait_otherwise)


class Stumbling(asyncio.SelectorEventLoop):
    """Cannot be woken as long as `failures` has something."""

    def __init__(self):
        super().__init__()
        self.failures = []

    def call_soon_threadsafe(self, *args, **kwargs):
        if self.failures:
            raise self.failures.pop()
        return super().call_soon_threadsafe(*args, **kwargs)


@contextlib.contextmanager
def stumbling(*futures):
    """Such a loop, on another thread, whose tasks await the futures; and a list for their results."""
    loop, results, they_wait = Stumbling(), [], threading.Event()

    async def result_of(future):
        return await future

    async def main():
        tasks = [asyncio.ensure_future(result_of(future)) for future in futures]
        await asyncio.sleep(0)
        they_wait.set()
        results.extend(await asyncio.gather(*tasks))

    def run():
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())

    with support.thread(run):
        assert they_wait.wait(WAIT)
        yield loop, results


@pytest.mark.parametrize("error", [OSError, SystemExit, RecursionError])
def test_a_loop_that_could_not_be_woken_once_is_woken_by_the_next_end(unraisable, error):
    one, other = tpio.Future(), tpio.Future()
    with stumbling(one, other) as (loop, results):
        loop.failures.append(error())
        one.set_result(1)
        other.set_result(2)
    assert results == [1, 2]
    assert [type(each) for each in unraisable] == [error]


def test_ctrl_c_while_a_loop_is_being_woken_comes_when_it_has_been():
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals come to the main thread")
    future = tpio.Future()
    with stumbling(future) as (loop, results):
        loop.failures.append(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            future.set_result(1)
            tpio.Future().result(WAIT)
    assert results == [1]


def test_a_keyboard_interrupt_on_another_thread_is_reported_and_the_loop_woken(unraisable):
    future = tpio.Future()
    with stumbling(future) as (loop, results):
        loop.failures.append(KeyboardInterrupt())
        with support.thread(future.set_result, 1):
            pass
    assert results == [1]
    assert [type(each) for each in unraisable] == [KeyboardInterrupt]
