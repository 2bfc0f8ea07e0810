"""A pool as a concurrent.futures.Executor."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading

import pytest

import tpio
from support import WAIT, eventually


class Gate:
    """Functions that stay inside until they are let go, and how many are inside."""

    def __init__(self):
        self.inside = 0
        self.most = 0
        self.changed = threading.Condition()
        self.open = threading.Event()

    def __call__(self):
        with self.changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.changed.notify_all()
        assert self.open.wait(WAIT)
        with self.changed:
            self.inside -= 1

    def wait(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: self.inside >= count, WAIT), f"{self.inside} of {count}"


def test_an_event_loop_takes_a_pool_as_its_executor():
    async def main(pool):
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(pool, threading.get_ident) != threading.get_ident()
        assert await asyncio.gather(*[loop.run_in_executor(pool, pow, 2, n) for n in range(200)]) == [
            2**n for n in range(200)
        ]
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(pool, divmod, 1, 0)

    with tpio.Pool() as pool:
        asyncio.run(main(pool))


def test_a_function_gets_its_arguments_whatever_their_names():
    def function(*args, **kwargs):
        return args, kwargs

    with tpio.Pool() as pool:
        assert pool.submit(function, 1, fn=2, self=3, args=4).result(WAIT) == ((1,), {"fn": 2, "self": 3, "args": 4})
        context = contextvars.copy_context()
        assert pool.submit(context.run, function, 5).result(WAIT) == ((5,), {})


def test_an_exception_comes_with_its_traceback():
    def inner():
        raise LookupError("here")

    with tpio.Pool() as pool:
        error = pool.submit(inner).exception(WAIT)
    assert isinstance(error, LookupError)
    names = []
    traceback = error.__traceback__
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert "inner" in names


def test_map_keeps_the_order_and_as_completed_does_not_need_it():
    with tpio.Pool() as pool:
        assert list(pool.map(pow, range(100), [2] * 100)) == [n * n for n in range(100)]
        futures = [pool.submit(pow, n, 3) for n in range(100)]
        done = {future.result() for future in concurrent.futures.as_completed(futures, WAIT)}
        assert done == {n**3 for n in range(100)}


def test_map_ends_with_the_first_exception_and_cancels_the_rest():
    gate = Gate()
    with tpio.Pool(max_threads=1) as pool:
        results = pool.map(lambda n: gate() if n else 1 // n, range(50))
        with pytest.raises(ZeroDivisionError):
            next(results)
        gate.open.set()
        assert eventually(lambda: pool.stats().cancelled >= 40)


def test_map_times_out():
    gate = Gate()
    with tpio.Pool() as pool:
        results = pool.map(lambda _: gate(), range(3), timeout=0.05)
        with pytest.raises(TimeoutError):
            next(results)
        gate.open.set()


@pytest.mark.parametrize("most", [1, 2, 5])
def test_no_more_functions_run_than_there_may_be_threads(most):
    gate = Gate()
    with tpio.Pool(min_threads=1, max_threads=most) as pool:
        futures = [pool.submit(gate) for _ in range(most * 4)]
        gate.wait(most)
        assert tpio.sleep(0.1).result(WAIT) is None  # on another pool: time for one too many to begin
        assert gate.inside == gate.most == most
        assert pool.stats().threads <= most
        gate.open.set()
        for future in futures:
            future.result(WAIT)
        assert gate.most == most


@pytest.mark.parametrize(
    "options",
    [{"min_threads": 16, "max_threads": 16}, {"min_threads": 16}, {"long_running": True}, {}],
    ids=["fixed", "least", "long running", "default"],
)
def test_functions_that_block_do_not_keep_others_from_running(options):
    gate = Gate()
    with tpio.Pool(**options) as pool:
        futures = [pool.submit(gate) for _ in range(16)]
        gate.wait(16)
        gate.open.set()
        for future in futures:
            future.result(WAIT)
        assert pool.stats().threads >= 1


@pytest.mark.parametrize("priority", ["low", "normal", "high"])
def test_every_priority_runs_everything(priority):
    with tpio.Pool(priority=priority) as pool:
        assert sum(pool.map(int, range(100))) == 4950
        assert tpio.sleep(0.001, pool=pool).result(WAIT) is None
        reader, writer = tpio.pipe(pool=pool)
        with reader, writer:
            writer.write(b"x").result(WAIT)
            assert reader.read(1).result(WAIT) == b"x"


def test_stats_tell_what_became_of_each_function():
    gate = Gate()
    with tpio.Pool(max_threads=2) as pool:
        running = [pool.submit(gate) for _ in range(2)]
        gate.wait(2)
        waiting = [pool.submit(int) for _ in range(10)]
        assert pool.stats()[:5] == (12, 12, 0, 0, 0)
        assert all(future.running() for future in running)
        assert waiting[0].cancel() and waiting[9].cancel()
        assert not running[0].cancel()
        assert pool.stats()[:5] == (10, 12, 0, 2, 0)
        gate.open.set()
        for future in running + waiting[1:9]:
            future.result(WAIT)
        assert pool.stats()[:5] == (0, 12, 10, 2, 0)
        assert isinstance(pool.submit(divmod, 1, 0).exception(WAIT), ZeroDivisionError)
        assert pool.stats()[:5] == (0, 13, 10, 2, 1)
        # A sleep that is over counts before its future ends, as does a function.
        tpio.sleep(0, pool=pool).result(WAIT)
        assert pool.stats()[:5] == (0, 14, 11, 2, 1)


def test_a_pool_inside_a_function_of_another_waits_for_its_own():
    gate = Gate()
    done = []

    def inner(n):
        gate()
        done.append(n)

    def outer():
        with tpio.Pool() as pool:
            for n in range(4):
                pool.submit(inner, n)
        return sorted(done)

    with tpio.Pool() as pool:
        future = pool.submit(outer)
        gate.wait(4)
        gate.open.set()
        assert future.result(WAIT) == [0, 1, 2, 3]


def test_shutdown_on_a_thread_of_the_pool_does_not_wait_for_itself():
    pool = tpio.Pool()
    assert pool.submit(pool.shutdown).result(WAIT) is None
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(int)
    pool.close()


def test_shutdown_can_cancel_what_has_not_begun():
    gate = Gate()
    pool = tpio.Pool(max_threads=1)
    first = pool.submit(gate)
    gate.wait(1)
    rest = [pool.submit(int) for _ in range(20)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in rest)
    gate.open.set()
    pool.shutdown()
    assert first.done() and not first.cancelled()
    pool.close()


def test_misuse_is_refused():
    with tpio.Pool() as pool:
        for function in (None, 1, "int"):
            with pytest.raises(TypeError, match="callable"):
                pool.submit(function)
        assert pool.stats().submitted == 0
    for options in (
        {"min_threads": -1},
        {"max_threads": 0},
        {"max_threads": -1},
        {"min_threads": 3, "max_threads": 2},
        {"min_threads": 1 << 40},
        {"priority": "urgent"},
        {"priority": None},
    ):
        with pytest.raises(ValueError, match="must"):
            tpio.Pool(**options)
    for options in ({"min_threads": "1"}, {"max_threads": 1.5}, {"priority": []}):
        with pytest.raises(TypeError):
            tpio.Pool(**options)
    with pytest.raises(TypeError):
        tpio.Pool(3)
