"""sleep() and Timer: never early, cancelled from anywhere, and any number of them."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import time
import weakref
from concurrent.futures import CancelledError

import pytest

import tpio
import wines
from support import WAIT, at_once, eventually, gil, native_threads

LONG = 1000.0  # seconds: what must not happen within a test


@pytest.fixture
def pool():
    with tpio.Pool() as pool:
        yield pool


class Calls:
    """A callback that notes when and where it is called."""

    def __init__(self):
        self.times = []
        self.threads = set()
        self.changed = threading.Condition()

    def __call__(self):
        with self.changed:
            self.times.append(time.perf_counter())
            self.threads.add(threading.get_ident())
            self.changed.notify_all()

    def wait(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.times) >= count, WAIT), f"{len(self.times)} of {count}"


# ---- sleep


def test_a_sleep_ends_with_none_and_never_early():
    lengths = [random.random() / 10 for _ in range(200)] + [0, 1e-9, 1e-6, 0.001, 0.0156]
    random.shuffle(lengths)
    early = []
    sleeps = []
    for length in lengths:
        due = time.perf_counter() + length
        sleep = tpio.sleep(length)
        sleep.add_done_callback(lambda _, due=due: time.perf_counter() < due and early.append(due))
        sleeps.append(sleep)
    assert [sleep.result(WAIT) for sleep in sleeps] == [None] * len(lengths)
    assert not early


def test_with_a_window_a_sleep_is_not_early_either(pool):
    started = time.perf_counter()
    tpio.sleep(0.05, window=0.05, pool=pool).result(WAIT)
    assert time.perf_counter() >= started + 0.05


def test_a_sleep_does_not_wait_for_one_with_a_wide_window(pool):
    wide = tpio.sleep(0.01, window=LONG, pool=pool)
    far = [tpio.sleep(LONG + n, window=LONG, pool=pool) for n in range(10)]
    assert tpio.sleep(0.02, pool=pool).result(WAIT) is None
    for sleep in [wide, *far]:
        sleep.cancel()


def test_a_shorter_sleep_that_comes_later_ends_first(pool):
    long = tpio.sleep(LONG, pool=pool)
    assert tpio.sleep(0.01, pool=pool).result(WAIT) is None
    assert not long.done()
    assert long.cancel()
    assert long.cancelled()


def test_a_cancelled_sleep_ends_at_once(pool):
    sleep = tpio.sleep(LONG, pool=pool)
    told = threading.Event()
    sleep.add_done_callback(lambda _: told.set())
    assert sleep.cancel()
    assert told.is_set()
    assert sleep.cancelled()
    assert sleep.cancel()
    with pytest.raises(CancelledError):
        sleep.result(0)
    assert pool.stats().cancelled == 1


def test_a_sleep_that_has_ended_cannot_be_cancelled(pool):
    sleep = tpio.sleep(0, pool=pool)
    sleep.result(WAIT)
    assert not sleep.cancel()
    assert not sleep.cancelled()


def test_cancels_that_race_with_the_end_leave_one_outcome(pool):
    def storm():
        for _ in range(100):
            sleeps = [tpio.sleep(random.random() / 200, pool=pool) for _ in range(10)]
            for sleep in sleeps:
                if random.random() < 0.5:
                    time.sleep(0)
                asked = sleep.cancel()
                try:
                    sleep.result(WAIT)
                    assert not sleep.cancelled()
                except CancelledError:
                    assert asked

    at_once(*[storm] * 4)
    stats = pool.stats()
    assert stats.pending == 0
    assert stats.completed + stats.cancelled == stats.submitted == 4000


@pytest.mark.parametrize("seconds", [-1, -1e-9, float("nan")])
def test_a_length_that_is_no_length_is_refused(pool, seconds):
    with pytest.raises(ValueError, match="non-negative number of seconds"):
        tpio.sleep(seconds, pool=pool)
    with pytest.raises(ValueError, match="non-negative number of seconds"):
        tpio.sleep(0, window=seconds, pool=pool)
    assert pool.stats().submitted == 0


def test_what_is_no_number_is_refused(pool):
    for seconds in ("1", None, b"1", [1]):
        with pytest.raises(TypeError):
            tpio.sleep(seconds, pool=pool)
    with pytest.raises(TypeError):
        tpio.sleep(0, pool="pool")
    assert pool.stats().submitted == 0


@pytest.mark.parametrize("seconds", [1e6, 1e10, 1e300, float("inf")])
def test_very_long_sleeps_stay_pending(pool, seconds):
    sleep = tpio.sleep(seconds, window=seconds, pool=pool)
    assert tpio.sleep(0.02, pool=pool).result(WAIT) is None
    assert not sleep.done()
    sleep.cancel()


def test_closing_the_pool_cancels_sleeps():
    pool = tpio.Pool()
    sleeps = [tpio.sleep(LONG, pool=pool) for _ in range(100)]
    pool.close()
    assert all(sleep.cancelled() for sleep in sleeps)
    with pytest.raises(RuntimeError, match="closed"):
        tpio.sleep(0, pool=pool)


def test_a_task_can_sleep():
    async def main():
        started = time.perf_counter()
        await asyncio.gather(*[tpio.sleep(0.05) for _ in range(100)])
        assert time.perf_counter() >= started + 0.05
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(tpio.sleep(LONG), 0.01)

    asyncio.run(main())


def test_a_hundred_thousand_sleeps_are_pending_at_once(pool):
    count = 100_000
    sleeps = [tpio.sleep(LONG + n % 977, pool=pool) for n in range(count)]
    assert pool.stats().pending == count
    assert tpio.sleep(0.01, pool=pool).result(WAIT) is None  # not held up
    random.shuffle(sleeps)
    assert all([sleep.cancel() for sleep in sleeps])
    stats = pool.stats()
    assert (stats.pending, stats.cancelled) == (0, count)
    assert stats.threads <= 4


def test_a_hundred_thousand_sleeps_end(pool):
    count = 100_000
    due = time.perf_counter() + 0.2
    sleeps = [tpio.sleep(max(due - time.perf_counter(), 0), pool=pool) for _ in range(count)]
    for sleep in sleeps:
        assert sleep.result(WAIT) is None
    assert time.perf_counter() >= due
    assert pool.stats().completed == count


@wines.skipif("the pool starts a thread whenever all are busy, which they are without a GIL", also=not gil)
def test_callbacks_that_are_due_together_need_few_threads(pool):
    count = 20_000
    calls = Calls()
    before = native_threads()  # on a busy machine, many of the process's pool take their turn

    due = time.perf_counter() + 0.3
    for _ in range(count):
        tpio.sleep(max(due - time.perf_counter(), 0), pool=pool).add_done_callback(lambda _: calls())
    calls.wait(count)
    assert len(calls.threads - before) <= 2 * os.cpu_count() + 4


# ---- Timer


def test_a_timer_calls_once_on_another_thread():
    calls = Calls()
    started = time.perf_counter()
    timer = tpio.Timer(calls, 0.03)
    assert timer.active
    calls.wait(1)
    assert calls.times[0] >= started + 0.03
    assert threading.get_ident() not in calls.threads
    assert not timer.active
    assert not timer.cancel()


def test_a_timer_of_no_delay_does_not_call_inside_the_constructor():
    here = threading.get_ident()
    for _ in range(500):
        calls = Calls()
        tpio.Timer(calls, 0)
        calls.wait(1)
        assert here not in calls.threads


def test_a_period_repeats_and_is_never_early():
    calls = Calls()
    started = time.perf_counter()
    timer = tpio.Timer(calls, 0.02, period=0.01)
    calls.wait(10)
    assert timer.cancel()
    assert all(at >= started + 0.02 + n * 0.01 for n, at in enumerate(calls.times))


def test_a_timer_lives_without_a_reference(pool):
    calls = Calls()
    tpio.Timer(calls, 0.01, period=0.01, pool=pool)
    gc.collect()
    calls.wait(5)
    pool.close()
    count = len(calls.times)
    assert tpio.sleep(0.05).result(WAIT) is None
    assert len(calls.times) <= count + 1  # one may have been under way


def test_calls_do_not_overlap_and_missed_ones_fall_away():
    inside = threading.Lock()
    overlaps = []
    calls = Calls()

    def slow():
        if not inside.acquire(blocking=False):
            overlaps.append(1)
            return
        with_in = tpio.sleep(0.05)
        with_in.result(WAIT)
        inside.release()
        calls()

    timer = tpio.Timer(slow, 0, period=0.001)
    calls.wait(4)
    timer.cancel()
    assert not overlaps
    assert all(b - a >= 0.045 for a, b in zip(calls.times, calls.times[1:], strict=False))
    assert inside.acquire(timeout=WAIT)


def test_a_periodic_timer_can_be_cancelled_in_its_own_callback():
    outcome = []
    ended = threading.Event()
    ready = threading.Event()

    def call():
        ready.wait(WAIT)
        outcome.append(timer.cancel())
        outcome.append(timer.cancel())
        ended.set()

    timer = tpio.Timer(call, 0, period=0.001)
    ready.set()
    assert ended.wait(WAIT)
    tpio.sleep(0.03).result(WAIT)
    assert outcome == [True, False]
    assert not timer.active


def test_a_single_timer_has_ended_in_its_own_callback():
    outcome = []
    ended = threading.Event()
    ready = threading.Event()

    def call():
        ready.wait(WAIT)
        outcome.append((timer.active, timer.cancel()))
        ended.set()

    timer = tpio.Timer(call, 0)
    ready.set()
    assert ended.wait(WAIT)
    assert outcome == [(False, False)]


def test_a_cancel_that_races_with_the_call_tells_who_won(pool):
    def storm():
        for _ in range(150):
            called = threading.Event()
            timer = tpio.Timer(called.set, random.random() / 300, pool=pool)
            if random.random() < 0.7:
                tpio.sleep(random.random() / 300, pool=pool).result(WAIT)
            if timer.cancel():
                cancelled.append(called)
            else:
                assert called.wait(WAIT)

    cancelled = []
    at_once(*[storm] * 4)
    tpio.sleep(0.05, pool=pool).result(WAIT)
    assert not any(called.is_set() for called in cancelled)


def test_a_callback_that_raises_is_reported_and_the_timer_goes_on(unraisable):
    calls = Calls()

    def fail():
        calls()
        raise LookupError("in a timer")

    timer = tpio.Timer(fail, 0, period=0.005)
    calls.wait(3)
    timer.cancel()
    unraisable.wait(3)
    assert all(isinstance(error, LookupError) for error in unraisable)
    assert all(error.__traceback__ is not None for error in unraisable)


def test_a_timer_whose_pool_is_closed_has_ended():
    pool = tpio.Pool()
    never = threading.Event()
    timers = [tpio.Timer(never.set, LONG, period=period, pool=pool) for period in (None, 1)]
    pool.close()
    assert eventually(
        lambda: not any(timer.active for timer in timers)
    )  # told by a callback, which close() need not await
    assert not any(timer.cancel() for timer in timers)
    assert not never.is_set()
    with pytest.raises(RuntimeError, match="closed"):
        tpio.Timer(never.set, 0, pool=pool)


def test_a_timer_lets_go_of_its_callback():
    for end in (lambda timer, calls: calls.wait(1), lambda timer, calls: timer.cancel()):
        calls = Calls()
        timer = tpio.Timer(calls, 0.01)
        end(timer, calls)
        reference = weakref.ref(calls)
        del calls
        assert eventually(lambda reference=reference: gc.collect() is None or reference() is None)


def test_misuse_of_a_timer_is_refused(pool):
    for callback in (None, "call", 1):
        with pytest.raises(TypeError, match="callable"):
            tpio.Timer(callback, 0, pool=pool)
    for bad in (-1, float("nan")):
        with pytest.raises(ValueError, match="non-negative"):
            tpio.Timer(print, bad, pool=pool)
        with pytest.raises(ValueError, match="non-negative"):
            tpio.Timer(print, 0, window=bad, pool=pool)
    for period in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="period must be positive"):
            tpio.Timer(print, 0, period=period, pool=pool)
    for delay in (None, "1"):
        with pytest.raises(TypeError):
            tpio.Timer(print, delay, pool=pool)
    assert pool.stats().submitted == 0


def test_a_timer_is_not_active_when_its_pool_has_been_closed():
    for period in (None, 1000):
        pool = tpio.Pool()
        timer = tpio.Timer(int, 1000, period=period, pool=pool)
        assert timer.active
        pool.close()
        assert not timer.active
        assert timer.cancel() is False
