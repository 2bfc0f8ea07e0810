"""Ctrl-C in the main thread ends a wait for a future at once, and nothing else: the operation goes on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import signal
import subprocess
import sys
import threading

import pytest

import support
import tpio
import tpio.aio
from support import WAIT

pytestmark = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals come to the main thread"
)


@pytest.fixture
def pair():
    reader, writer = tpio.pipe()
    with reader, writer:
        yield reader, writer


@contextlib.contextmanager
def ctrl_c(*, after=None):
    """Comes while the block is being executed, most probably while it waits; not before the event `after` is set."""

    def interrupt():
        assert after is None or after.wait(WAIT)
        tpio.sleep(0.05).result(WAIT)
        signal.raise_signal(signal.SIGINT)

    with support.thread(interrupt):
        yield


WAITS = {
    "result": lambda future: future.result(),
    "result with a timeout": lambda future: future.result(WAIT),
    "exception": lambda future: future.exception(WAIT),
    "wait": lambda future: concurrent.futures.wait([future, tpio.Future()], WAIT),
    "wait for the first": lambda future: concurrent.futures.wait(
        [future], WAIT, return_when=concurrent.futures.FIRST_COMPLETED
    ),
    "as_completed": lambda future: list(concurrent.futures.as_completed([future], WAIT)),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_ctrl_c_ends_the_wait_and_not_the_operation(pair, wait):
    reader, writer = pair
    for _ in range(3):
        future = reader.read(100)
        with pytest.raises(KeyboardInterrupt), ctrl_c():
            wait(future)
        assert not future.done()
        writer.write(b"omg").result(WAIT)
        assert future.result(WAIT) == b"omg"


@pytest.mark.parametrize("loop", [asyncio.ProactorEventLoop, tpio.aio.EventLoop])
def test_ctrl_c_ends_asyncio_run_and_the_read_of_its_task_loses_nothing(pair, loop):
    """(A SelectorEventLoop does not wake up for Ctrl-C on Windows, whatever its tasks wait for.)"""
    reader, writer = pair

    async def main(begun):
        begun.set()  # a loop that is interrupted while it is made is never closed
        await reader.read(100)

    for _ in range(3):
        begun = threading.Event()
        with pytest.raises(KeyboardInterrupt), ctrl_c(after=begun):
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(main(begun))
        assert support.pending() == 0
        writer.write(b"omg").result(WAIT)
        assert reader.read(100).result(WAIT) == b"omg"


@pytest.mark.parametrize("end", [tpio.Pool.close, tpio.Pool.shutdown])
def test_ctrl_c_ends_the_wait_for_the_functions_of_a_pool(end):
    with tpio.Pool() as pool:
        go, begun = threading.Event(), threading.Event()
        future = pool.submit(lambda: (begun.set(), go.wait(WAIT)))
        assert begun.wait(WAIT)
        with pytest.raises(KeyboardInterrupt), ctrl_c():
            end(pool)
        assert not future.done()
        go.set()


def test_a_handler_that_raises_nothing_does_not_end_the_wait(pair):
    reader, writer = pair
    caught = []

    def handler(*_):
        caught.append(threading.current_thread() is threading.main_thread())
        writer.write(b"from the handler")

    old = signal.signal(signal.SIGINT, handler)
    try:
        with ctrl_c():
            assert reader.read(100).result(WAIT) == b"from the handler"
    finally:
        signal.signal(signal.SIGINT, old)
    assert caught == [True]


def test_other_threads_go_on_waiting(pair):
    reader, writer = pair
    results = []
    with support.thread(lambda: results.append(reader.read(100).result(WAIT))):
        sleeping = tpio.sleep(1000)
        with pytest.raises(KeyboardInterrupt), ctrl_c():
            sleeping.result(WAIT)
        sleeping.cancel()
        writer.write(b"omg").result(WAIT)
    assert results == [b"omg"]


def test_ctrl_c_of_the_console(tmp_path):
    """As it really comes: from the console, to a thread that the system makes for it."""
    said = tmp_path / "said"
    code = f"""if True:
        import ctypes, threading, tpio
        threading.Timer(0.2, ctypes.windll.kernel32.GenerateConsoleCtrlEvent, [0, 0]).start()
        try:
            tpio.sleep(1000).result({WAIT})
        except KeyboardInterrupt:
            open({str(said)!r}, "w").write("interrupted")
    """
    hidden = subprocess.STARTUPINFO(dwFlags=subprocess.STARTF_USESHOWWINDOW, wShowWindow=subprocess.SW_HIDE)
    child = subprocess.Popen(
        [sys.executable, "-c", code], creationflags=subprocess.CREATE_NEW_CONSOLE, startupinfo=hidden
    )
    assert child.wait(2 * WAIT) == 0
    assert said.read_text() == "interrupted"
