"""A Pool is a private thread pool of the system and a concurrent.futures.Executor.

test_executor.py has more of what an executor must do, test_timers.py more of sleep().
"""

from __future__ import annotations

import _winapi
import concurrent.futures
import contextlib
import ctypes
import gc
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError

import pytest

import support
import tpio
from support import WAIT, at_once, eventually


@pytest.fixture
def pool():
    with tpio.Pool() as pool:
        yield pool


class Blocker:
    """A function that blocks until it may go on."""

    def __init__(self):
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self):
        self.begun.release()
        return self.go.wait(WAIT)

    def wait_for(self, count):
        for _ in range(count):
            assert self.begun.acquire(timeout=WAIT)


# ---- an executor ----------------------------------------------------------------------------------------------------


def test_it_is_an_executor(pool):
    assert isinstance(pool, concurrent.futures.Executor)
    assert pool.submit(pow, 2, 10).result(WAIT) == 1024
    assert pool.submit(pow, 2, exp=5).result(WAIT) == 32
    assert list(pool.map(pow, range(10), range(10))) == [number**number for number in range(10)]


def test_functions_run_on_threads_of_the_pool(pool):
    here = threading.get_ident()
    for each in (pool, tpio.default_pool()):
        assert all(thread != here for thread in each.map(lambda _: threading.get_ident(), range(100)))
        assert each.stats().threads >= 1


def test_the_exception_of_a_function_is_its_futures(pool):
    error = ZeroDivisionError("by hand")

    def fail():
        raise error

    assert pool.submit(fail).exception(WAIT) is error


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, CancelledError])
def test_no_exception_escapes_from_a_function(pool, kind):
    def fail():
        raise kind

    assert type(pool.submit(fail).exception(WAIT)) is kind
    assert pool.submit(int).result(WAIT) == 0


def test_a_context_ends_when_its_functions_have_ended():
    blocker = Blocker()
    with tpio.Pool() as pool:
        futures = [pool.submit(blocker), pool.submit(int)]
        blocker.wait_for(1)
        tpio.sleep(0.05).add_done_callback(lambda _: blocker.go.set())
    assert all(future.done() for future in futures)
    assert futures[0].result() is True
    assert pool.closed


def test_a_context_that_is_left_by_an_exception_closes():
    with pytest.raises(ZeroDivisionError), tpio.Pool() as pool:
        raise ZeroDivisionError
    assert pool.closed


def test_shutdown_refuses_functions_but_not_operations():
    with tpio.Pool() as pool:
        reader, writer = tpio.pipe(pool=pool)
        pool.submit(int).result(WAIT)
        pool.shutdown()
        pool.shutdown()
        with pytest.raises(RuntimeError, match="shutdown"):
            pool.submit(int)
        future = reader.read(3)
        writer.write(b"omg").result(WAIT)
        assert future.result(WAIT) == b"omg"
        assert not pool.closed


def test_shutdown_without_waiting():
    with tpio.Pool() as pool:
        blocker = Blocker()
        future = pool.submit(blocker)
        blocker.wait_for(1)
        pool.shutdown(wait=False)
        assert not future.done()
        blocker.go.set()
        assert future.result(WAIT) is True


def test_shutdown_cancels_futures():
    with tpio.Pool(max_threads=1) as pool:
        blocker, called, told = Blocker(), [], []
        first = pool.submit(blocker)
        blocker.wait_for(1)
        futures = [pool.submit(called.append, number) for number in range(20)]
        for future in futures:
            future.add_done_callback(lambda future: told.append(future.cancelled()))
        pool.shutdown(wait=False, cancel_futures=True)
        assert all(future.cancelled() for future in futures)
        assert concurrent.futures.wait(futures, WAIT).done == set(futures)
        blocker.go.set()
        assert first.result(WAIT) is True
        assert called == []
        assert eventually(lambda: told == [True] * 20)
        assert pool.stats()[:5] == (0, 21, 1, 20, 0)


# ---- callbacks of what a close cancels: not on the closing thread, which may hold what they wait for


def cancelled_by_a_close(kind, pool, callback):
    if kind == "timer":
        future = tpio.sleep(1000, pool=pool)
    else:
        pool.submit(blocker := Blocker())
        blocker.wait_for(1)
        future = pool.submit(abs, 1)  # behind it
        future.add_done_callback(lambda _: blocker.go.set())
    future.add_done_callback(callback)
    return future


@pytest.mark.parametrize("kind", ["timer", "function"])
def test_a_callback_of_what_a_close_cancels_may_close_the_pool_too(kind):
    pool, closed = tpio.Pool(max_threads=1), threading.Event()
    cancelled_by_a_close(kind, pool, lambda _: (pool.close(), closed.set()))
    pool.close()
    assert closed.wait(WAIT)


@pytest.mark.parametrize("kind", ["timer", "function"])
def test_a_callback_of_what_a_close_cancels_may_want_the_lock_of_who_closes(kind):
    pool, lock, threads = tpio.Pool(max_threads=1), threading.Lock(), []

    def callback(future):
        with lock:
            threads.append(threading.get_ident())

    with lock:
        future = cancelled_by_a_close(kind, pool, callback)
        pool.close()
        assert future.cancelled() and threads == []
    assert eventually(lambda: len(threads) == 1) and threads[0] != threading.get_ident()


def test_a_callback_of_what_a_close_cancels_may_wait_for_what_it_cancels_later():
    pool, ended = tpio.Pool(), []
    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.CreateEventW.restype = ctypes.c_void_p
    event = kernel32.CreateEventW(None, True, False, None)
    later = tpio.wait_for_handle(event, pool=pool)
    _winapi.CloseHandle(event)  # tpio has its own
    cancelled_by_a_close("timer", pool, lambda _: ended.append(concurrent.futures.wait([later], WAIT).done == {later}))
    pool.close()
    assert eventually(lambda: ended == [True])


def test_a_close_inside_a_callback_does_not_run_the_callbacks_of_others_there():
    outer, inner, lock, ran = tpio.Pool(), tpio.Pool(), threading.Lock(), threading.Event()
    tpio.sleep(1000, pool=inner).add_done_callback(lambda _: (lock.acquire(), lock.release(), ran.set()))

    def closes(_):
        with lock:
            inner.close()

    with outer:
        done = threading.Event()
        tpio.sleep(0.01, pool=outer).add_done_callback(lambda future: (closes(future), done.set()))
        assert done.wait(WAIT) and ran.wait(WAIT)


def test_no_function_runs_after_a_shutdown_that_waited():
    for _ in range(50):
        with tpio.Pool() as pool:
            over, late = threading.Event(), []

            def submits(pool=pool, over=over, late=late):
                with contextlib.suppress(RuntimeError):
                    while True:
                        pool.submit(lambda: late.append(over.is_set())).result(
                            WAIT
                        )  # one at a time, or all take their turn

            with support.thread(submits), support.thread(submits):
                assert eventually(lambda late=late: late)
                pool.shutdown(wait=True)
                over.set()
        assert not any(late)


def test_map_that_is_not_read_to_its_end_cancels(pool):
    results = pool.map(abs, range(-5, 0))
    assert next(results) == 5
    results.close()


def test_a_function_and_its_arguments_are_let_go(pool):
    class Thing:
        def method(self, other):
            return None

    thing, argument = Thing(), Thing()
    kept = weakref.ref(thing), weakref.ref(argument)
    future = pool.submit(thing.method, argument)
    assert future.result(WAIT) is None
    del thing, argument
    assert eventually(lambda: gc.collect() >= 0 and [each() for each in kept] == [None, None])


# ---- threads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3])
def test_there_are_never_more_threads_than_the_maximum(most):
    with tpio.Pool(max_threads=most) as pool:
        blocker = Blocker()
        futures = [pool.submit(blocker) for _ in range(10)]
        blocker.wait_for(most)
        assert not blocker.begun.acquire(timeout=0.1)
        assert pool.stats().threads <= most
        blocker.go.set()
        assert [future.result(WAIT) for future in futures] == [True] * 10


def test_there_are_as_many_threads_as_functions_block():
    with tpio.Pool() as pool:
        blocker = Blocker()
        futures = [pool.submit(blocker) for _ in range(24)]
        blocker.wait_for(24)
        assert pool.stats().threads >= 24
        blocker.go.set()
        assert all(future.result(WAIT) for future in futures)


def test_operations_complete_while_functions_block():
    with tpio.Pool() as pool:
        blocker = Blocker()
        futures = [pool.submit(blocker) for _ in range(8)]
        blocker.wait_for(8)
        reader, writer = tpio.pipe(pool=pool)
        with reader, writer:
            for _ in range(10):
                future = reader.read(3)
                writer.write(b"omg").result(WAIT)
                assert future.result(WAIT) == b"omg"
        blocker.go.set()
        assert all(future.result(WAIT) for future in futures)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"min_threads": -1}, ValueError),
        ({"max_threads": 0}, ValueError),
        ({"max_threads": -5}, ValueError),
        ({"min_threads": 3, "max_threads": 2}, ValueError),
        ({"max_threads": 2**40}, ValueError),
        ({"min_threads": "1"}, TypeError),
        ({"min_threads": 1.0}, TypeError),
        ({"min_threads": None}, TypeError),
        ({"workers": 3}, TypeError),
    ],
)
def test_bad_options(options, error):
    with pytest.raises(error):
        tpio.Pool(**options)


def test_a_pool_that_was_not_initialized_is_refused_everywhere():
    pool = tpio.Pool.__new__(tpio.Pool)
    for use in (lambda: pool.submit(int), pool.stats, lambda: tpio.sleep(0, pool=pool), lambda: tpio.pipe(pool=pool)):
        with pytest.raises(RuntimeError):
            use()
    pool.shutdown(cancel_futures=True)
    pool.close()
    assert pool.closed
    with pytest.raises(TypeError):
        tpio.sleep(0, pool="the pool")


def test_names():
    with tpio.Pool(name="disk") as pool:
        assert pool.name == "disk"
        assert "'disk'" in repr(pool)
        assert "closed" not in repr(pool)
    assert "closed" in repr(pool)


# ---- close ----------------------------------------------------------------------------------------------------------


def test_close_cancels_and_drains():
    pool = tpio.Pool()
    reader, writer = tpio.pipe(pool=pool)
    futures = [reader.read(1), tpio.sleep(3600, pool=pool)]
    pool.close()
    assert all(future.cancelled() for future in futures)
    assert reader.closed
    assert writer.closed
    assert pool.stats()[:6] == (0, 2, 0, 2, 0, 0)
    pool.close()
    pool.shutdown()
    for use in (lambda: pool.submit(int), lambda: tpio.sleep(0, pool=pool), lambda: tpio.pipe(pool=pool)):
        with pytest.raises(RuntimeError, match="closed"):
            use()


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_close_with_a_timeout_while_a_function_runs(timeout):
    pool = tpio.Pool()
    blocker = Blocker()
    future = pool.submit(blocker)
    blocker.wait_for(1)
    waiting = tpio.sleep(3600, pool=pool)
    began = time.perf_counter()
    with pytest.raises(TimeoutError):
        pool.close(timeout=timeout)
    assert time.perf_counter() - began >= timeout
    assert pool.closed
    assert concurrent.futures.wait([waiting], WAIT).done
    assert waiting.cancelled()
    assert not future.done()
    blocker.go.set()
    assert future.result(WAIT) is True
    pool.close(timeout=WAIT)
    assert pool.stats()[:5] == (0, 2, 1, 1, 0)


def test_close_from_several_threads():
    for _ in range(10):
        pool = tpio.Pool()
        futures = [pool.submit(int) for _ in range(10)]
        at_once(*[pool.close] * 4)
        assert all(future.done() for future in futures)


def test_close_of_one_pool_leaves_the_others(pool):
    future = tpio.sleep(3600, pool=pool)
    with tpio.Pool() as other:
        other.submit(int).result(WAIT)
    assert not future.done()
    future.cancel()


# ---- the default pool -----------------------------------------------------------------------------------------------


def test_there_is_one_default_pool():
    assert at_once(*[tpio.default_pool] * 4) == [tpio.default_pool()] * 4
    reader, writer = tpio.pipe()
    with reader, writer:
        assert reader.pool is tpio.default_pool()


def test_a_closed_default_pool_is_replaced():
    """The process goes on."""
    old = tpio.default_pool()
    old.close()
    assert tpio.sleep(0).result(WAIT) is None
    assert tpio.default_pool() is not old
    assert not tpio.default_pool().closed


# ---- stats ----------------------------------------------------------------------------------------------------------


def test_stats_count_exactly(pool):
    assert pool.stats()[:6] == (0, 0, 0, 0, 0, 0)
    reader, writer = tpio.pipe(pool=pool)
    assert pool.stats().handles == 2
    read = reader.read(1)
    assert pool.stats()[:5] == (1, 1, 0, 0, 0)
    writer.write(b"x").result(WAIT)
    assert read.result(WAIT) == b"x"
    assert pool.stats()[:5] == (0, 2, 2, 0, 0)
    cancelled = reader.read(1)
    cancelled.cancel()
    concurrent.futures.wait([cancelled], WAIT)
    assert pool.stats()[:5] == (0, 3, 2, 1, 0)
    writer.close()
    assert pool.stats().handles == 1
    assert reader.read(1).result(WAIT) == b""
    assert pool.stats()[:5] == (0, 4, 2, 1, 1)  # the system calls the end of a pipe an error
    reader.close()
    assert pool.stats()[:6] == (0, 4, 2, 1, 1, 0)


def test_stats_are_consistent_while_much_goes_on(pool):
    stop = threading.Event()

    def work():
        while not stop.is_set():
            pool.submit(int).result(WAIT)
            tpio.sleep(0, pool=pool).cancel()

    with support.thread(work), support.thread(work):
        for _ in range(2000):
            stats = pool.stats()
            assert min(stats) >= 0
            assert stats.pending <= 64
        stop.set()
    assert eventually(lambda: pool.stats().pending == 0)
    stats = pool.stats()
    assert stats.submitted == stats.completed + stats.cancelled + stats.failed


# ---- sleep ----------------------------------------------------------------------------------------------------------


def test_sleep_is_never_early():
    for length in (0, 1e-9, 0.0001, 0.001, 0.0149, 0.02, 0.1):
        began = time.perf_counter()
        assert tpio.sleep(length).result(WAIT) is None
        assert time.perf_counter() - began >= length


def test_many_sleeps_end_in_their_order():
    ends = []
    futures = []
    for length in (0.3, 0.1, 0.2):
        futures.append(tpio.sleep(length))
        futures[-1].add_done_callback(lambda _, length=length: ends.append(length))
    concurrent.futures.wait(futures, WAIT)
    assert eventually(lambda: len(ends) == 3)
    assert ends == [0.1, 0.2, 0.3]


def test_a_cancelled_sleep_ends_at_once():
    futures = [tpio.sleep(3600) for _ in range(1000)]
    assert all(future.cancel() for future in futures)
    assert all(future.cancelled() for future in futures)


@pytest.mark.parametrize("length", [-1, -1e-9, float("nan"), float("-inf")])
def test_bad_lengths(length):
    with pytest.raises(ValueError):  # noqa: PT011
        tpio.sleep(length)


@pytest.mark.parametrize("length", ["1", None, b"1", 1j])
def test_lengths_are_numbers(length):
    with pytest.raises(TypeError):
        tpio.sleep(length)


@pytest.mark.parametrize("length", [1e9, 1e18, 1e300, float("inf")])
def test_endless_sleeps(length):
    future = tpio.sleep(length)
    assert tpio.sleep(0.02).result(WAIT) is None
    assert not future.done()
    assert future.cancel()


@pytest.mark.parametrize("options", [[], ["-X", "dev"]], ids=["plain", "dev"])
def test_what_a_thread_of_a_pool_had_goes_with_it(options):
    """Another thread clears its state. The allocator of -X dev must not think that it does so without the GIL, nor Python
    3.14 that its stack is at its end: then it destroyed nothing."""
    code = """
import threading, tpio
local, gone = threading.local(), threading.Event()

class Thing:
    def __del__(self):
        gone.set()

def work():
    local.thing, local.more = Thing(), [{}, [1.5], (1.5, "text")]

for _ in range(30):
    gone.clear()
    with tpio.Pool() as pool:
        future = pool.submit(work)
        future.result()
    assert gone.wait(60), "the thread of a closed pool does not end"
print("gone")
"""
    done = support.python(code, *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, "gone\n", "")


# ---- free-threaded Python -------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(sys, "_is_gil_enabled"), reason="Python before 3.13 has a GIL")
def test_the_gil_stays_off():
    import sysconfig

    assert sys._is_gil_enabled() is not bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    code = "import sys, tpio; tpio.sleep(0).result(); print(sys._is_gil_enabled())"
    done = support.python(code)
    assert (done.stdout.strip(), done.returncode) == (str(sys._is_gil_enabled()), 0), done.stderr
