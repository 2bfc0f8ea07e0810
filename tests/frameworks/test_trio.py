"""tpio.trio: cancel scopes follow tpio's rule for a cancel."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from functools import partial

import pytest
import scopes

import support
import tpio
from support import WAIT

trio = pytest.importorskip("trio", reason="trio and cffi are not installed: python dev.py frameworks")
from trio._core import _io_windows  # noqa: E402
from trio.testing import wait_all_tasks_blocked  # noqa: E402

import tpio.trio  # noqa: E402


@pytest.fixture(autouse=True)
def _trio_starts(monkeypatch):
    """Wine's sockets have no layers, and no SIO_BASE_HANDLE that says so, which trio needs to start."""
    if support.wine:
        monkeypatch.setattr(_io_windows, "_get_base_socket", _handle_of)
        monkeypatch.setattr(_io_windows, "_get_underlying_socket", lambda sock, **which: _handle_of(sock))
    try:
        trio.run(trio.lowlevel.checkpoint)
    except OSError as error:
        if not support.wine:
            raise
        pytest.skip(f"trio does not start under this Wine: {error}")


def _handle_of(sock):
    number = sock if isinstance(sock, int) else sock.fileno() if hasattr(sock, "fileno") else sock
    return _io_windows._handle(number)


def run(main):
    async def within():
        with trio.fail_after(WAIT):
            return await main()

    return trio.run(within)


def test_results_and_exceptions():
    async def main():
        reader, writer = tpio.pipe()
        with reader, writer:
            read = reader.read(10)
            assert await tpio.trio.wait(writer.write(b"hello")) == 5
            assert await tpio.trio.wait(read) == b"hello"
            assert await tpio.trio.wait(read) == b"hello"
            with pytest.raises(ZeroDivisionError):
                await tpio.trio.wait(tpio.default_pool().submit(lambda: 1 / 0))
            reader.close()
            with pytest.raises(BrokenPipeError):
                await tpio.trio.wait(writer.write(b"nobody reads"))

    run(main)


def test_a_cancel_scope_ends_a_read_and_nothing_is_lost():
    run(partial(scopes.end_reads_that_lose_nothing, trio.move_on_after, tpio.trio.wait))


def test_what_was_faster_than_the_cancel_is_the_result():
    async def main():
        got = bytearray()
        sent = bytearray()
        reader, writer = tpio.pipe()
        with reader, writer:
            for number in range(200):
                with trio.CancelScope() as scope:
                    read = reader.read(100)
                    byte = bytes([number])
                    write = writer.write(byte)
                    sent += byte
                    scope.cancel()  # the read has ended, or is about to
                    got += await tpio.trio.wait(read)
                await tpio.trio.wait(write)
            with trio.move_on_after(1):
                while len(got) < len(sent):
                    got += await tpio.trio.wait(reader.read(100))
        assert got == sent

    run(main)


def test_many_tasks():
    async def main():
        async def shout(reader, writer):
            while data := await tpio.trio.wait(reader.read(100)):
                await tpio.trio.wait(writer.write(data.upper()))

        async def talk():
            ours, theirs = tpio.pipe()
            answers, answering = tpio.pipe()
            with ours, theirs, answers, answering:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(shout, ours, answering)
                    for _ in range(20):
                        await tpio.trio.wait(theirs.write(b"hello"))
                        assert await tpio.trio.wait(answers.read(100)) == b"HELLO"
                    theirs.close()

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(talk)

    run(main)


def test_a_function_that_runs_is_left_to_itself():
    started, may_end = threading.Event(), threading.Event()

    def blocks():
        started.set()
        return may_end.wait(WAIT)

    async def main():
        future = tpio.default_pool().submit(blocks)
        assert started.wait(WAIT)
        with trio.move_on_after(0.01) as scope:
            await tpio.trio.wait(future)
        assert scope.cancelled_caught
        assert not future.done()
        may_end.set()
        assert await tpio.trio.wait(future)

    run(main)


def test_the_close_of_the_handle_is_not_a_cancel_of_the_scope():
    async def main():
        reader, writer = tpio.pipe()
        with reader, writer:
            async with trio.open_nursery() as nursery:

                async def read():
                    with pytest.raises(CancelledError):
                        await tpio.trio.wait(reader.read(1))

                nursery.start_soon(read)
                await wait_all_tasks_blocked()
                reader.close()

    run(main)
