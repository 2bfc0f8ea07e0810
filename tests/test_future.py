"""tpio.Future is a concurrent.futures.Future that an operation of the system ends.

The behaviours of the base class are those of CPython's test_concurrent_futures.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import random
import sys
import threading
import time
import weakref
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, CancelledError, InvalidStateError

import pytest

import tpio
import tpio.aio
from ends import callback_event, read_exactly
from support import WAIT, at_once, eventually, thread


@pytest.fixture
def pair():
    reader, writer = tpio.pipe()
    with reader, writer:
        yield reader, writer


class Gate:
    """Operations that are pending, to be ended one by one."""

    def __init__(self):
        self.pipes = [tpio.pipe() for _ in range(4)]
        self.futures = [reader.read(1) for reader, _ in self.pipes]

    def __getitem__(self, index):
        return self.futures[index]

    def open(self, index):
        self.pipes[index][1].write(b"x").result(WAIT)

    def fail(self, index):
        """For a future of its own: reads that fail are rare."""
        self.futures[index] = tpio.Future()
        self.futures[index].set_exception(OSError("failed"))

    def close(self):
        for reader, writer in self.pipes:
            writer.close()
            reader.close()


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.close()


def read_one(reader, writer):
    future = reader.read(1)
    writer.write(b"x").result(WAIT)
    return future


# ---- it is one ------------------------------------------------------------------------------------------------------


def test_every_operation_returns_a_concurrent_future(pair):
    reader, writer = pair
    futures = [reader.read(1), writer.write(b"x"), tpio.sleep(0), tpio.default_pool().submit(int), reader.read(0)]
    for future in futures:
        assert isinstance(future, tpio.Future)
        assert isinstance(future, concurrent.futures.Future)
        future.result(WAIT)


def test_the_lock_and_the_lists_of_the_base_class_are_made_when_asked_for(pair):
    reader, writer = pair
    future = read_one(reader, writer)
    assert future.result(WAIT) == b"x"
    assert not vars(future)
    assert sys.getsizeof(future) < 1024
    assert future._condition is future._condition
    assert future._waiters is future._waiters


def test_a_promise_can_be_made_by_hand():
    future = tpio.Future()
    assert not future.done()
    assert not future.running()
    assert not future.cancelled()
    future.set_result(42)
    assert future.done()
    assert future.result(0) == 42
    assert future.exception(0) is None


def test_set_exception():
    future = tpio.Future()
    error = ValueError("so it is")
    future.set_exception(error)
    assert future.exception(0) is error
    with pytest.raises(ValueError, match="so it is") as caught:
        future.result(0)
    assert caught.value is error


def test_set_result_with_done():
    future = tpio.Future()
    future.set_result(1)
    with pytest.raises(InvalidStateError, match="FINISHED"):
        future.set_result(2)
    with pytest.raises(InvalidStateError, match="FINISHED"):
        future.set_exception(Exception())
    assert future.result(0) == 1


def test_set_exception_with_done():
    future = tpio.Future()
    future.set_exception(ValueError())
    with pytest.raises(InvalidStateError, match="FINISHED"):
        future.set_exception(Exception())
    assert type(future.exception(0)) is ValueError


def test_nobody_sets_the_result_of_an_operation(pair):
    reader, writer = pair
    future = reader.read(1)
    with pytest.raises(InvalidStateError):
        future.set_result(b"forged")
    with pytest.raises(InvalidStateError):
        future.set_exception(OSError())
    assert not future.done()
    writer.write(b"x").result(WAIT)
    assert future.result(WAIT) == b"x"
    with pytest.raises(InvalidStateError):
        future.set_result(b"forged")


def test_cancel_of_a_promise():
    future = tpio.Future()
    assert future.cancel()
    assert future.cancelled()
    assert future.done()
    assert future.cancel()
    with pytest.raises(CancelledError):
        future.result(0)
    with pytest.raises(CancelledError):
        future.exception(0)
    assert not future.set_running_or_notify_cancel()


def test_cancel_of_a_future_that_has_ended(pair):
    future = read_one(*pair)
    assert future.result(WAIT) == b"x"
    assert not future.cancel()
    assert not future.cancelled()
    assert future.result() == b"x"


def test_running_or_notify_cancel():
    future = tpio.Future()
    assert future.set_running_or_notify_cancel()
    assert future.running()
    assert not future.done()
    assert not future.cancel()
    with pytest.raises(RuntimeError):
        future.set_running_or_notify_cancel()
    future.set_result(None)
    assert not future.running()


def test_a_running_function_cannot_be_cancelled():
    begun, go = threading.Event(), threading.Event()

    def function():
        begun.set()
        return go.wait(WAIT)

    future = tpio.default_pool().submit(function)
    assert begun.wait(WAIT)
    assert future.running()
    assert not future.cancel()
    go.set()
    assert future.result(WAIT) is True
    assert not future.cancelled()


# ---- result and exception -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["result", "exception"])
@pytest.mark.parametrize("timeout", [0, 0.02, -1])
def test_timeout(pair, method, timeout):
    reader, _ = pair
    future = reader.read(1)
    began = time.perf_counter()
    with pytest.raises(TimeoutError):
        getattr(future, method)(timeout)
    assert time.perf_counter() - began >= timeout
    assert not future.done()


@pytest.mark.parametrize("timeout", ["1", object()])
def test_a_timeout_is_a_number(pair, timeout):
    with pytest.raises(TypeError):
        pair[0].read(1).result(timeout)


@pytest.mark.parametrize("timeout", [1e300, float("inf"), 10**12])
def test_a_timeout_may_be_any_length(pair, timeout):
    future = read_one(*pair)
    assert future.result(timeout) == b"x"
    pending = pair[0].read(1)
    tpio.sleep(0.02).add_done_callback(lambda _: pair[1].write(b"y"))
    assert pending.result(timeout) == b"y"


def test_result_from_several_threads_at_once(pair):
    reader, writer = pair
    future = reader.read(1)
    tpio.sleep(0.05).add_done_callback(lambda _: writer.write(b"x"))
    assert at_once(*[lambda: future.result(WAIT)] * 6) == [b"x"] * 6


def test_result_of_a_thread_that_times_out_does_not_disturb_the_others(pair):
    reader, writer = pair
    future = reader.read(1)

    def impatient():
        for _ in range(20):
            with pytest.raises(TimeoutError):
                future.result(0.001)
        writer.write(b"x")
        return future.result(WAIT)

    assert at_once(impatient, lambda: future.result(WAIT), lambda: future.exception(WAIT)) == [b"x", b"x", None]


def test_result_times_out_against_the_completion():
    """However the two meet, the result is there in the end and the thread's next wait is not woken by this one."""
    for _ in range(300):
        future = tpio.sleep(0.001)
        try:
            future.result(0.001)
        except TimeoutError:
            pass
        other = tpio.Future()
        with pytest.raises(TimeoutError):
            other.result(0.0001)
        assert future.result(WAIT) is None


def test_who_is_about_to_wait_and_runs_code_that_waits_hears_of_his_own_future():
    """The main thread has one event for all its waits. In the middle of result() it delivers what has come to a loop: a write,
    whose data goes then, and has a __del__ that ends the future that result() is for, and waits for another."""
    within = []

    class Data(bytearray):
        def __del__(self):
            within.append(waiting and threading.current_thread() is threading.main_thread())
            future.set_result("heard of")
            tpio.sleep(0.01).result(WAIT)

    async def main():
        nonlocal future, waiting
        reader, writer = tpio.pipe(pool=pool)
        with reader, writer:
            future, waiting = tpio.Future(), False
            written = writer.write(Data(1 << 20))
            tasks = [asyncio.ensure_future(each) for each in (written, future)]
            await asyncio.sleep(0)  # both are the loop's
            read_exactly(reader, 1 << 20)
            assert eventually(lambda: pool.stats().pending == 0)
            waiting, begun = True, time.monotonic()
            assert future.result(WAIT) == "heard of"
            assert time.monotonic() - begun < WAIT / 2
            assert await asyncio.gather(*tasks) == [1 << 20, "heard of"]

    future, waiting = None, False
    with tpio.Pool() as pool:
        for _ in range(100):  # the write may come to the loop a moment later than the pool has counted it
            tpio.aio.run(main())
            if any(within):
                break
    assert any(within)


def test_the_same_exception_each_time_without_a_growing_cycle():
    class Failed(Exception):
        pass

    def fail():
        raise Failed

    future = tpio.default_pool().submit(fail)
    for _ in range(3):
        with pytest.raises(Failed):
            future.result(WAIT)
    gc.collect()
    gc.disable()
    try:
        kept = weakref.ref(future)
        del future
        assert eventually(lambda: kept() is None, 3)  # before the idle thread ends, which is after 5 in Wine
    finally:
        gc.enable()


def test_an_error_of_the_system_has_its_code_and_its_class(pair):
    reader, writer = pair
    reader.close()
    error = writer.write(b"nobody reads").exception(WAIT)
    assert type(error) is BrokenPipeError
    assert error.winerror in (109, 232, 233)
    assert error.errno == 32


@pytest.mark.parametrize("code", [0x80004005, 0xC0000001, 0xFFFFFFFF, 0x80000000])
def test_an_error_whose_code_needs_all_32_bits(code):
    """From a driver, or a provider of sockets. It is negative, as OSError takes no other."""
    for number in (code, code - 2**32):
        error = tpio._tpio.winerror(number, "name")
        assert type(error) is OSError
        assert (error.winerror, error.filename) == (code - 2**32, "name")
        assert f"[WinError {code - 2**32}]" in str(error)


# ---- repr -----------------------------------------------------------------------------------------------------------


def test_repr(pair):
    reader, writer = pair
    future = reader.read(1)
    assert "state=pending" in repr(future)
    future.cancel()
    with pytest.raises(CancelledError):
        future.result(WAIT)
    assert "state=cancelled" in repr(future)
    assert "state=finished returned bytes" in repr(concurrent.futures.wait([read_one(reader, writer)]).done.pop())
    failed = tpio.Future()
    failed.set_exception(OSError())
    assert "state=finished raised OSError" in repr(failed)
    running = tpio.Future()
    running.set_running_or_notify_cancel()
    assert "state=running" in repr(running)
    assert repr(future).startswith("<Future at 0x")


def test_repr_while_it_ends():
    current = [tpio.Future()]
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            assert repr(current[0]).startswith("<Future at 0x")

    with thread(look), thread(look):
        try:
            for _ in range(40_000):
                future = current[0] = tpio.Future()
                future.set_running_or_notify_cancel()
                future.set_result(None)
        finally:
            over.set()


# ---- callbacks ------------------------------------------------------------------------------------------------------


def test_a_callback_gets_its_future_on_a_pool_thread(pair):
    reader, writer = pair
    seen = tpio.Future()
    future = reader.read(1)
    future.add_done_callback(lambda done: seen.set_result((done, threading.get_ident())))
    writer.write(b"x").result(WAIT)
    done, thread = seen.result(WAIT)
    assert done is future
    assert thread != threading.get_ident()


def test_a_callback_of_a_future_that_is_done_runs_at_once(pair):
    future = read_one(*pair)
    future.result(WAIT)
    seen = []
    future.add_done_callback(lambda done: seen.append((done, threading.get_ident())))
    assert seen == [(future, threading.get_ident())]


def test_callbacks_run_in_the_order_in_which_they_were_added(pair):
    reader, writer = pair
    future, seen, last = reader.read(1), [], tpio.Future()
    for number in range(100):
        future.add_done_callback(lambda _, number=number: seen.append(number))
    future.add_done_callback(lambda _: last.set_result(None))
    writer.write(b"x").result(WAIT)
    last.result(WAIT)
    assert seen == list(range(100))


def test_callbacks_of_a_cancelled_future_run(pair):
    future, seen = pair[0].read(1), tpio.Future()
    future.add_done_callback(lambda done: seen.set_result(done.cancelled()))
    assert future.cancel()
    assert seen.result(WAIT) is True


def test_a_callback_that_raises_is_reported_and_the_next_one_runs(pair, unraisable):
    reader, writer = pair
    future, seen = reader.read(1), tpio.Future()
    error = ValueError("in a callback")

    def fail(_):
        raise error

    future.add_done_callback(fail)
    future.add_done_callback(lambda _: seen.set_result(True))
    writer.write(b"x").result(WAIT)
    assert seen.result(WAIT)
    unraisable.wait(1)
    assert list(unraisable) == [error]
    assert future.result(WAIT) == b"x"


def test_a_callback_that_raises_at_once_is_reported_and_not_raised(pair, unraisable):
    future = read_one(*pair)
    future.result(WAIT)
    error = SystemExit(3)

    def fail(_):
        raise error

    future.add_done_callback(fail)
    assert list(unraisable) == [error]


def test_a_callback_may_submit_and_add_callbacks(pair):
    reader, writer = pair
    received, end = [], tpio.Future()

    def again(done):
        received.append(done.result())
        if len(received) == 500:
            end.set_result(None)
        else:
            reader.read(1).add_done_callback(again)

    reader.read(1).add_done_callback(again)
    text = bytes(random.Random(1).randrange(256) for _ in range(500))
    for start in range(0, 500, 50):
        writer.write(text[start : start + 50]).result(WAIT)
    end.result(WAIT)
    assert b"".join(received) == text


def test_a_callback_may_block_on_another_operation(pair):
    reader, writer = pair
    seen = tpio.Future()

    def block(_):
        other_reader, other_writer = tpio.pipe()
        with other_reader, other_writer:
            seen.set_result(read_one(other_reader, other_writer).result(WAIT))

    future = reader.read(1)
    future.add_done_callback(block)
    writer.write(b"x").result(WAIT)
    assert seen.result(WAIT) == b"x"


def test_a_callback_may_close_its_handle(pair):
    reader, writer = pair
    seen = tpio.Future()

    def close(_):
        reader.close()
        seen.set_result(reader.closed)

    first = reader.read(1)
    second = reader.read(1)
    first.add_done_callback(close)
    writer.write(b"x").result(WAIT)
    assert seen.result(WAIT) is True
    assert isinstance(second.exception(WAIT) if not cancelled(second) else None, type(None))


def cancelled(future):
    concurrent.futures.wait([future], WAIT)
    return future.cancelled()


def test_a_chain_of_operations_that_are_done_at_once_does_not_recurse(tmp_path):
    path = tmp_path / "chain"
    path.write_bytes(b"x" * 100)
    count, end, deepest = 5000, tpio.Future(), 0
    with tpio.open(path) as file:

        def again(done):
            nonlocal count, deepest
            frame, depth = sys._getframe(), 0
            while frame is not None:
                frame, depth = frame.f_back, depth + 1
            deepest = max(deepest, depth)
            count -= 1
            if count:
                file.read(10, count % 90).add_done_callback(again)
            else:
                end.set_result(len(done.result()))

        file.read(10, 0).add_done_callback(again)
        assert end.result(WAIT) == 10
    assert deepest < 200


def test_callbacks_added_at_once_in_a_chain_do_not_recurse():
    count, end = 20000, tpio.Future()
    done = tpio.Future()
    done.set_result(None)

    def again(_):
        nonlocal count
        count -= 1
        if count:
            done.add_done_callback(again)
        else:
            end.set_result(None)

    done.add_done_callback(again)
    end.result(WAIT)


def test_a_callback_deep_in_a_chain_can_wait_for_the_next():
    done = tpio.Future()
    done.set_result(None)
    end = tpio.Future()
    depth = 50

    def nested(level):
        inner = threading.Event()

        def callback(_):
            if level:
                nested(level - 1)
            inner.set()

        done.add_done_callback(callback)
        assert inner.wait(WAIT)

    tpio.default_pool().submit(nested, depth).add_done_callback(lambda f: end.set_result(f.exception()))
    assert end.result(WAIT) is None


def test_a_late_callback_does_not_take_the_earlier_ones_to_its_thread():
    """The future has ended, its callbacks wait for the thread that runs them, and another is added: that one alone runs
    where it was added."""
    here = threading.get_ident()
    threads, ended, go = [], threading.Event(), threading.Event()
    future = tpio.Future()

    def block(_):
        ended.set()
        assert go.wait(WAIT)

    future.add_done_callback(block)
    future.add_done_callback(lambda _: threads.append(threading.get_ident()))
    setter = tpio.default_pool().submit(future.set_result, None)
    assert ended.wait(WAIT)
    future.add_done_callback(lambda _: threads.append(threading.get_ident()))
    assert threads == [here]
    go.set()
    setter.result(WAIT)
    assert len(threads) == 2
    assert threads[1] != here


# ---- wait, as_completed, wrap_future --------------------------------------------------------------------------------


def test_wait_first_completed(gate):
    tpio.sleep(0.02).add_done_callback(lambda _: gate.open(1))
    done, not_done = concurrent.futures.wait(gate.futures, WAIT, FIRST_COMPLETED)
    assert done == {gate[1]}
    assert not_done == {gate[0], gate[2], gate[3]}


def test_wait_first_completed_some_already(gate):
    gate.open(2)
    gate[2].result(WAIT)
    done, _ = concurrent.futures.wait(gate.futures, WAIT, FIRST_COMPLETED)
    assert done == {gate[2]}


def test_wait_first_exception(gate):
    promise = tpio.Future()
    gate.open(0)
    tpio.sleep(0.02).add_done_callback(lambda _: promise.set_exception(OSError()))
    done, not_done = concurrent.futures.wait([promise, *gate.futures], WAIT, FIRST_EXCEPTION)
    assert promise in done
    assert gate[3] in not_done


def test_wait_first_exception_when_one_is_cancelled(gate):
    tpio.sleep(0.02).add_done_callback(lambda _: (gate.open(0), gate.open(1), gate.open(2), gate[3].cancel()))
    done, not_done = concurrent.futures.wait(gate.futures, WAIT, FIRST_EXCEPTION)
    assert gate[3] in done or not not_done


def test_wait_all_completed(gate):
    def end(_):
        gate.open(0)
        gate.open(1)
        gate[2].cancel()
        gate.open(3)

    tpio.sleep(0.02).add_done_callback(end)
    done, not_done = concurrent.futures.wait(gate.futures, WAIT, ALL_COMPLETED)
    assert done == set(gate.futures)
    assert not not_done
    assert [future.cancelled() for future in gate.futures] == [False, False, True, False]


def test_wait_times_out(gate):
    gate.open(0)
    gate[0].result(WAIT)
    done, not_done = concurrent.futures.wait(gate.futures, 0.02)
    assert done == {gate[0]}
    assert len(not_done) == 3
    assert not gate[1]._waiters


def test_wait_mixes_with_stock_futures(gate):
    stock = concurrent.futures.Future()
    tpio.sleep(0.02).add_done_callback(lambda _: (stock.set_result(1), gate.open(0)))
    done, _ = concurrent.futures.wait([stock, gate[0]], WAIT)
    assert done == {stock, gate[0]}
    done, _ = concurrent.futures.wait([gate[0], stock], WAIT)
    assert done == {stock, gate[0]}


def test_wait_from_several_threads(gate):
    def wait():
        return len(concurrent.futures.wait(gate.futures, WAIT).done)

    def end():
        for index in range(4):
            gate.open(index)

    assert at_once(wait, wait, wait, end)[:3] == [4, 4, 4]


def test_wait_against_the_completion():
    """Whoever is first, wait() sees every future end, and sees it once."""
    for _ in range(100):
        futures = [tpio.sleep(0.0005) for _ in range(5)] + [tpio.default_pool().submit(int) for _ in range(5)]
        done, not_done = concurrent.futures.wait(futures, WAIT)
        assert done == set(futures)
        assert not not_done


def test_as_completed(gate):
    order = []
    completed = concurrent.futures.as_completed(gate.futures, WAIT)
    for index in (2, 0, 3, 1):
        gate.open(index)
        order.append(next(completed))
    assert order == [gate[2], gate[0], gate[3], gate[1]]
    assert next(completed, None) is None


def test_as_completed_with_duplicates_and_one_that_is_done(gate):
    gate.open(0)
    gate[0].result(WAIT)
    gate.open(1)
    assert sorted(map(id, concurrent.futures.as_completed([gate[0], gate[0], gate[1]], WAIT))) == sorted(
        map(id, [gate[0], gate[1]])
    )


def test_as_completed_times_out(gate):
    gate.open(0)
    seen = []
    with pytest.raises(TimeoutError):
        for future in concurrent.futures.as_completed(gate.futures, 0.5):
            seen.append(future)  # noqa: PERF402 - what came before the timeout
    assert seen == [gate[0]]


def test_as_completed_with_many():
    futures = [tpio.default_pool().submit(pow, number, 2) for number in range(500)]
    assert sorted(future.result() for future in concurrent.futures.as_completed(futures, WAIT)) == [
        number * number for number in range(500)
    ]


def test_wrap_future(gate):
    async def main():
        wrapped = asyncio.wrap_future(gate[0])
        gate.open(0)
        assert await wrapped == b"x"
        cancelled = asyncio.wrap_future(gate[1])
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    asyncio.run(main())
    concurrent.futures.wait([gate[1]], WAIT)
    assert gate[1].cancelled()


@pytest.mark.parametrize("run", [asyncio.run, tpio.aio.run], ids=["asyncio", "tpio"])
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "pending"])
def test_stop_iteration_is_no_result_of_an_await(run, ended):
    """As with asyncio's futures; result() and exception() tell it as it is."""

    async def main():
        go = threading.Event()
        future = tpio.default_pool().submit(lambda: go.wait(WAIT) and next(iter([])))
        if ended:
            go.set()
            assert eventually(future.done)
        else:
            asyncio.get_running_loop().call_soon(go.set)
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            await future
        assert type(caught.value.__cause__) is StopIteration
        assert caught.value.__cause__ is future.exception()
        with pytest.raises(StopIteration):
            future.result()

    run(main())


def test_the_lock_asked_for_while_the_operation_ends():
    """wait() takes the condition of a future that ends just then; the end is seen under it or after it."""
    for _ in range(300):
        future = tpio.sleep(0.0005)
        with future._condition:
            before = future._state
        assert before in ("PENDING", "FINISHED")
        done, _ = concurrent.futures.wait([future], WAIT)
        assert done == {future}


def test_nothing_is_kept_when_a_future_has_ended(pair):
    """Its buffer, its callbacks and its handle are let go, and the future itself once nobody has it."""
    reader, writer = pair

    class Buffer(bytearray):
        pass

    class Callback:
        def __call__(self, future):
            pass

    buffer, callback = Buffer(1), Callback()
    future = reader.read_into(buffer)
    future.add_done_callback(callback)
    writer.write(b"x").result(WAIT)
    assert future.result(WAIT) == 1
    kept = [weakref.ref(buffer), weakref.ref(callback)]
    del buffer, callback
    gc.collect()
    assert eventually(lambda: not any(each() for each in kept), 10)
    alive = weakref.ref(future)
    del future
    assert eventually(lambda: alive() is None, 10)


def test_an_await_keeps_nothing_once_it_has_its_result(pair):
    reader, writer = pair

    class Buffer(bytearray):
        pass

    async def main():
        buffer = Buffer(1)
        kept = weakref.ref(buffer)
        future = reader.read_into(buffer)
        writer.write(b"x")
        assert await future == 1
        del buffer
        gc.collect()
        return kept, future

    kept, future = asyncio.run(main())
    assert eventually(lambda: kept() is None, 10)
    assert future.done()


def test_a_result_goes_with_its_last_reference_though_the_thread_that_made_it_idles():
    """Without a GIL, an object is otherwise kept until the thread that made it runs again, or the collector comes."""

    class Made:
        pass

    with tpio.Pool() as pool:
        gc.disable()
        try:
            for make in (Made, lambda: (1, Made())):
                result = pool.submit(make).result(WAIT)
                kept = weakref.ref(result if type(result) is Made else result[1])
                del result
                assert eventually(lambda: kept() is None, 3)  # before the idle thread ends, which is after 5 in Wine
        finally:
            gc.enable()


def test_a_future_whose_condition_is_held_holds_up_no_other():
    """As concurrent.futures.wait leaves it when it is interrupted at the wrong moment."""
    with tpio.Pool() as pool:
        futures = [tpio.sleep(1000, pool=pool) for _ in range(100)]
        held = futures.pop(50)
        called = callback_event(held)
        held._condition.acquire()
        with thread(pool.close):  # cancels all at once
            for future in futures:
                with pytest.raises(CancelledError):
                    future.result(WAIT)
            assert not held.done()
            held._condition.release()
        assert called.wait(WAIT)
        assert held.cancelled()
