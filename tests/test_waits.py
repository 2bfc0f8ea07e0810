"""tpio.wait_for_handle: any object of the system that can be waited for, many at a time on few threads."""

from __future__ import annotations

import asyncio
import ctypes
import random
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import CancelledError
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from ctypes import wintypes

import pytest

import tpio
from support import WAIT, at_once, eventually

kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
for function in (
    kernel32.CreateEventW,
    kernel32.CreateSemaphoreW,
    kernel32.CreateMutexW,
    kernel32.CreateWaitableTimerW,
    kernel32.OpenThread,
    kernel32.OpenProcess,
    kernel32.OpenEventW,
    kernel32.CreateFileMappingW,
):
    function.restype = wintypes.HANDLE
for function in (kernel32.SetEvent, kernel32.ResetEvent, kernel32.CloseHandle, kernel32.ReleaseSemaphore):
    function.argtypes = [wintypes.HANDLE] + [ctypes.c_void_p] * (2 * (function is kernel32.ReleaseSemaphore))
kernel32.SetWaitableTimer.argtypes = [wintypes.HANDLE] + [ctypes.c_void_p] * 5
kernel32.CreateFileMappingW.argtypes = [ctypes.c_void_p] * 6

SYNCHRONIZE, QUERY_LIMITED = 0x00100000, 0x1000


@contextmanager
def handle(value):
    assert value, ctypes.WinError(ctypes.get_last_error())
    try:
        yield value
    finally:
        kernel32.CloseHandle(value)


def event(manual=True, signalled=False):
    return handle(kernel32.CreateEventW(None, manual, signalled, None))


def is_signalled(value):
    return kernel32.WaitForSingleObject(wintypes.HANDLE(value), 0) == 0


def settled(futures):
    pending = wait_for(futures, WAIT).not_done
    assert not pending
    return futures


@pytest.fixture
def pool():
    with tpio.Pool() as pool:
        yield pool


# ---- what can be waited for


def test_an_event_that_is_set_later(pool):
    with event() as it:
        waiting = tpio.wait_for_handle(it, pool=pool)
        assert not waiting.done()
        kernel32.SetEvent(it)
        assert waiting.result(WAIT) is True
        assert tpio.wait_for_handle(it, pool=pool).result(WAIT) is True


def test_an_auto_reset_event_ends_one_wait_each_time(pool):
    with event(manual=False) as it:
        waits = {tpio.wait_for_handle(it, pool=pool) for _ in range(5)}
        while waits:
            kernel32.SetEvent(it)
            assert eventually(lambda: any(one.done() for one in waits))
            done = {one for one in waits if one.done()}
            assert len(done) == 1
            assert not is_signalled(it)
            waits -= done


def test_a_semaphore_is_counted_down(pool):
    with handle(kernel32.CreateSemaphoreW(None, 0, 10, None)) as it:
        waits = [tpio.wait_for_handle(it, pool=pool) for _ in range(5)]
        kernel32.ReleaseSemaphore(it, 3, None)
        assert eventually(lambda: sum(one.done() for one in waits) == 3)
        assert not is_signalled(it)
        kernel32.ReleaseSemaphore(it, 2, None)
        assert all(one.result(WAIT) for one in waits)


def test_a_waitable_timer(pool):
    with handle(kernel32.CreateWaitableTimerW(None, True, None)) as it:
        waiting = tpio.wait_for_handle(it, pool=pool)
        due = ctypes.c_longlong(-200_000)  # 20 ms from now, in 100 ns
        assert kernel32.SetWaitableTimer(it, ctypes.byref(due), None, None, None, None)
        assert waiting.result(WAIT) is True


def test_a_thread(pool):
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    with handle(kernel32.OpenThread(SYNCHRONIZE, False, thread.native_id)) as it:
        waiting = tpio.wait_for_handle(it, pool=pool)
        assert tpio.wait_for_handle(it, 0, pool=pool).result(0) is False
        go.set()
        assert waiting.result(WAIT) is True
    thread.join()


def test_a_process_of_subprocess(pool):
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        waiting = tpio.wait_for_handle(int(process._handle), pool=pool)
        assert tpio.wait_for_handle(int(process._handle), 0.01, pool=pool).result(WAIT) is False
        process.stdin.close()
        assert waiting.result(WAIT) is True


def test_an_object_with_a_handle_attribute_or_fileno(pool):
    class WithHandle:
        pass

    with event(signalled=True) as it:
        thing = WithHandle()
        thing.handle = it
        assert tpio.wait_for_handle(thing, pool=pool).result(WAIT) is True
        thing = WithHandle()
        thing.fileno = lambda: it
        assert tpio.wait_for_handle(thing, pool=pool).result(WAIT) is True


def test_a_wait_can_be_awaited(pool):
    async def main():
        with event() as it:
            asyncio.get_running_loop().call_later(0.01, kernel32.SetEvent, it)
            assert await tpio.wait_for_handle(it, WAIT, pool=pool) is True
            kernel32.ResetEvent(it)
            assert await tpio.wait_for_handle(it, 0.01, pool=pool) is False
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(tpio.wait_for_handle(it, pool=pool), 0.01)

    asyncio.run(main())


# ---- timeouts


def test_a_timeout_gives_false(pool):
    with event() as it:
        assert tpio.wait_for_handle(it, 0.02, pool=pool).result(WAIT) is False
        assert tpio.wait_for_handle(it, 1e-9, pool=pool).result(WAIT) is False


def test_a_timeout_of_zero_looks_at_once_and_takes_what_is_there(pool):
    with event(manual=False, signalled=True) as it:
        first, second = tpio.wait_for_handle(it, 0, pool=pool), tpio.wait_for_handle(it, 0, pool=pool)
        assert first.done() and second.done()
        assert (first.result(), second.result()) == (True, False)


@pytest.mark.parametrize("timeout", [1e6, 1e12, float("inf")])
def test_a_very_long_timeout_does_not_end(pool, timeout):
    with event() as it:
        waiting = tpio.wait_for_handle(it, timeout, pool=pool)
        assert tpio.sleep(0.03, pool=pool).result(WAIT) is None
        assert not waiting.done()
        kernel32.SetEvent(it)
        assert waiting.result(WAIT) is True


def test_a_timeout_that_races_with_the_signal_loses_no_signal(pool):
    with handle(kernel32.CreateSemaphoreW(None, 0, 100_000, None)) as it:
        released = 500
        waits = [tpio.wait_for_handle(it, random.random() / 20, pool=pool) for _ in range(released)]
        for _ in range(released):
            kernel32.ReleaseSemaphore(it, 1, None)
        taken = sum(one.result(WAIT) for one in waits)
        while is_signalled(it):
            taken += 1
        assert taken == released


# ---- closing and cancelling


def test_the_callers_handle_may_be_closed_meanwhile(pool):
    with event() as it:
        value = ctypes.c_void_p()
        own = ctypes.c_void_p(-1)
        duplicate = kernel32.DuplicateHandle
        duplicate.argtypes = [ctypes.c_void_p] * 4 + [wintypes.DWORD, wintypes.BOOL, wintypes.DWORD]
        assert duplicate(own, it, own, ctypes.byref(value), 0, False, 2)
        waits = [tpio.wait_for_handle(value.value, pool=pool) for _ in range(10)]
        assert kernel32.CloseHandle(value.value)
        others = [kernel32.CreateEventW(None, True, False, None) for _ in range(20)]  # one gets the same value
        for other in others:
            kernel32.SetEvent(other)
        assert tpio.sleep(0.03, pool=pool).result(WAIT) is None
        assert not any(one.done() for one in waits)
        kernel32.SetEvent(it)
        assert all(one.result(WAIT) for one in waits)
        for other in others:
            kernel32.CloseHandle(other)


def test_a_cancelled_wait_takes_nothing(pool):
    with event(manual=False) as it:
        waiting = tpio.wait_for_handle(it, pool=pool)
        assert waiting.cancel()
        with pytest.raises(CancelledError):
            waiting.result(WAIT)
        assert waiting.cancel()
        kernel32.SetEvent(it)
        assert is_signalled(it)


def test_cancels_that_race_with_signals_leave_one_outcome(pool):
    def storm():
        with event() as it:
            for _ in range(150):
                kernel32.ResetEvent(it)
                waiting = tpio.wait_for_handle(it, pool=pool)
                kernel32.SetEvent(it)
                if random.random() < 0.3:
                    tpio.sleep(0, pool=pool).result(WAIT)
                asked = waiting.cancel()
                try:
                    assert waiting.result(WAIT) is True
                except CancelledError:
                    assert asked

    at_once(*[storm] * 4)
    stats = pool.stats()
    assert stats.pending == 0
    assert stats.completed + stats.cancelled == stats.submitted


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_a_wait_that_took_a_signal_before_its_end_keeps_it(end):
    """Releases of a semaphore race with cancels, or with the close of the pool: each count was taken by a wait that ended
    with True, or is there still."""
    for _ in range(8):
        released = threading.Semaphore(0)  # how far the other thread may go
        pool = tpio.Pool(max_threads=2)
        with pool, handle(kernel32.CreateSemaphoreW(None, 0, 10_000, None)) as it:
            waits = [tpio.wait_for_handle(it, pool=pool) for _ in range(60)]

            def release(it=it, released=released):
                for _ in range(60):
                    released.acquire()
                    assert kernel32.ReleaseSemaphore(it, 1, None)

            def finish(pool=pool, released=released, waits=waits):
                if end == "close":
                    released.release(30)
                    pool.close()
                    released.release(30)
                else:
                    for one in waits:
                        released.release()
                        one.cancel()

            at_once(release, finish)
            succeeded = sum(not one.cancelled() and one.result(WAIT) for one in settled(waits))
            left = 0
            while is_signalled(it):  # takes one
                left += 1
            assert (succeeded, left) == (60 - left, left)


def test_a_wait_is_cancelled_in_a_callback_of_a_pool_whose_threads_are_all_busy():
    with tpio.Pool(max_threads=1) as pool, handle(kernel32.CreateSemaphoreW(None, 0, 100, None)) as it:
        waits = [tpio.wait_for_handle(it, pool=pool) for _ in range(20)]

        def cancel():  # on the one thread that there is: none of what is signalled now can be delivered meanwhile
            assert kernel32.ReleaseSemaphore(it, 20, None)
            return [one.cancel() for one in waits]

        asked = pool.submit(cancel).result(WAIT)
        cancelled = [one.cancelled() for one in settled(waits)]
        assert all(asked[i] for i in range(20) if cancelled[i])
        left = 0
        while is_signalled(it):
            left += 1
        assert left == sum(cancelled)


def test_closing_the_pool_cancels_waits():
    pool = tpio.Pool()
    with event() as it:
        waits = [tpio.wait_for_handle(it, pool=pool) for _ in range(100)]
        pool.close()
        assert all(one.cancelled() for one in waits)
        with pytest.raises(RuntimeError, match="closed"):
            tpio.wait_for_handle(it, pool=pool)
        with pytest.raises(RuntimeError, match="closed"):
            tpio.wait_for_handle(it, 0, pool=pool)


def test_a_thousand_waits_need_few_threads():
    events = [kernel32.CreateEventW(None, True, False, None) for _ in range(1000)]
    order = list(range(1000))
    random.shuffle(order)
    try:
        with tpio.Pool(max_threads=4) as pool:
            waits = [tpio.wait_for_handle(it, pool=pool) for it in events]
            assert pool.stats().pending == 1000
            assert pool.stats().threads <= 1  # waiting needs none of them
            for n in order[:500]:
                kernel32.SetEvent(events[n])
            for n in order[:500]:
                assert waits[n].result(WAIT) is True
            assert not any(waits[n].done() for n in order[500:])
            for n in order[500:]:
                kernel32.SetEvent(events[n])
            assert all(one.result(WAIT) for one in waits)
            assert pool.stats().threads <= 4
    finally:
        for it in events:
            kernel32.CloseHandle(it)


# ---- misuse


def test_a_mutex_is_refused(pool):
    with handle(kernel32.CreateMutexW(None, False, None)) as it:
        with pytest.raises(ValueError, match="a mutex cannot be waited for"):
            tpio.wait_for_handle(it, pool=pool)
        with pytest.raises(ValueError, match="a mutex cannot be waited for"):
            tpio.wait_for_handle(it, 0, pool=pool)
    assert pool.stats().submitted == 0


def test_what_cannot_be_signalled_is_refused(pool):
    with handle(kernel32.CreateFileMappingW(-1, None, 4, 0, 4096, None)) as it:
        with pytest.raises(ValueError, match="Section cannot be waited for"):
            tpio.wait_for_handle(it, pool=pool)
    with tempfile.TemporaryFile() as file, pytest.raises(ValueError, match="File cannot be waited for"):
        tpio.wait_for_handle(file, pool=pool)
    assert pool.stats().submitted == 0


def test_what_is_no_handle_is_refused(pool):
    for value in (0, -1, 1 << 70):
        with pytest.raises(ValueError, match="not a handle"):
            tpio.wait_for_handle(value, pool=pool)
    for value in (None, "1", True, 1.5, object()):
        with pytest.raises(TypeError):
            tpio.wait_for_handle(value, pool=pool)
    with event() as it:
        for timeout in (-1, float("nan")):
            with pytest.raises(ValueError, match="non-negative"):
                tpio.wait_for_handle(it, timeout, pool=pool)
        with pytest.raises(TypeError):
            tpio.wait_for_handle(it, "1", pool=pool)
    assert pool.stats().submitted == 0


def test_a_handle_that_is_closed_is_an_error_at_once(pool):
    with pytest.raises(OSError, match=".") as caught:
        tpio.wait_for_handle(0x7FFFFF0, pool=pool)
    assert caught.value.winerror == 6
    assert pool.stats().submitted == 0


def test_a_handle_without_the_right_to_wait_does_no_harm(pool):
    """The system's function raises a structured exception, which nobody survives, for such a handle."""
    command = [sys.executable, "-I", "-S", "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        with handle(kernel32.OpenProcess(QUERY_LIMITED, False, process.pid)) as it:
            waiting = tpio.wait_for_handle(it, 1, pool=pool)
            try:
                assert waiting.result(WAIT) is False  # we may duplicate it with that right
            except PermissionError as error:
                assert error.winerror == 5
        process.stdin.close()
