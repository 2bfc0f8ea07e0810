"""Byte ranges of files, locked against other handles."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import support
import tpio
import wines
from ends import WAIT, cancel_and_wait, closing

waits = wines.skipif("a LockFileEx that waits never completes")


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[tpio.File, tpio.File]]:
    """Two handles of one file."""
    path = tmp_path / "locked"
    path.write_bytes(bytes(100))
    one, other = tpio.open(path, "r+b"), tpio.open(path, "r+b")
    with closing(one, other):
        yield one, other


def test_a_lock_keeps_others_from_reading_and_writing(two):
    one, other = two
    assert one.lock(10, 20).result(WAIT) is None
    one.write(b"mine", 10).result(WAIT)
    other.write(b"beside", 40).result(WAIT)
    wines.skip("locks do not keep others from writing")
    for trying in (other.read(5, 12), other.write(b"x", 29)):
        assert trying.exception(WAIT).winerror == 33  # ERROR_LOCK_VIOLATION
    one.unlock(10, 20)
    assert other.read(4, 10).result(WAIT) == b"mine"


def test_ranges_that_do_not_touch(two):
    one, other = two
    one.lock(0, 10).result(WAIT)
    other.lock(10, 10).result(WAIT)
    one.lock(2**63, 2**32).result(WAIT)  # beyond the end of the file
    other.lock(2**63 - 1, 1).result(WAIT)
    one.unlock(0, 10)
    other.lock(0, 5).result(WAIT)


def test_shared_locks_go_together(two):
    one, other = two
    for each in two:
        each.lock(0, 10, exclusive=False).result(WAIT)
    one.unlock(0, 10)
    other.unlock(0, 10)
    one.lock(0, 10).result(WAIT)


@waits
def test_a_lock_waits_for_the_one_who_has_it(two):
    one, other = two
    one.lock(0, 10).result(WAIT)
    waiting = other.lock(5, 10)
    assert not waiting.done()
    one.unlock(0, 10)
    assert waiting.result(WAIT) is None


@waits
def test_close_gives_a_lock_back(two):
    one, other = two
    one.lock(0, 10).result(WAIT)
    waiting = other.lock(0, 10)
    one.close()
    waiting.result(WAIT)


@waits
def test_cancel_of_a_lock_that_waits(two):
    one, other = two
    one.lock(0, 10).result(WAIT)
    cancel_and_wait(other.lock(0, 10))
    one.unlock(0, 10)
    one.lock(0, 10).result(WAIT)  # the other has not got it


@waits
def test_close_while_a_lock_waits(two):
    one, other = two
    one.lock(0, 10).result(WAIT)
    waiting = other.lock(0, 10)
    other.close()
    assert waiting.cancelled()


@waits
def test_a_lock_that_only_a_cancelled_await_knows_of_is_given_back(two):
    one, other = two

    async def storm() -> None:
        for number in range(50):
            await one.lock(0, 10)
            task = asyncio.ensure_future(asyncio.wait_for(other.lock(0, 10), WAIT))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            one.unlock(0, 10)
            task.cancel()
            (await asyncio.wait([task]))[0].pop()
            if not task.cancelled():
                other.unlock(0, 10)

    asyncio.run(storm())
    one.lock(0, 10).result(WAIT)


def test_an_await_that_is_cancelled_when_it_has_the_lock_gives_it_back(two):
    one, other = two

    async def take_and_be_cancelled() -> None:
        async def take() -> None:
            await one.lock(0, 10)

        task = asyncio.ensure_future(take())
        await asyncio.sleep(0)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        else:  # was done at once: nothing to cancel
            one.unlock(0, 10)

    asyncio.run(take_and_be_cancelled())
    other.lock(0, 10).result(WAIT)


@pytest.mark.skipif(not support.wine, reason="elsewhere a lock that waits completes")
def test_a_lock_that_never_completes_hangs_neither_close_nor_exit(tmp_path):
    path = tmp_path / "locked"
    path.write_bytes(bytes(100))
    code = f"""
import tpio
one, other = tpio.open({str(path)!r}, "r+b"), tpio.open({str(path)!r}, "r+b")
one.lock(0, 10).result(30)
waiting = other.lock(0, 10)
waiting.cancel()
other.close()
print("closed", other.closed)
"""
    done = support.python(code)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["closed", "True"], "")


def test_a_range_that_is_not_locked(two):
    wines.skip("the error is a lock violation")
    with pytest.raises(OSError, match="158") as caught:
        two[0].unlock(0, 10)
    assert caught.value.winerror == 158  # ERROR_NOT_LOCKED


def test_bad_arguments_are_refused_at_once(two):
    one, _ = two
    submitted = tpio.default_pool().stats().submitted
    for offset, length in ((-1, 5), (0, 0), (0, -1), (2**64 - 1, 1), (2**63, 2**63), (2**70, 1)):
        with pytest.raises(ValueError, match="lock"):
            one.lock(offset, length)
        with pytest.raises(ValueError, match="lock"):
            one.unlock(offset, length)
    for bad in (("0", 1), (0, 1.5), (None, 1)):
        with pytest.raises(TypeError):
            one.lock(*bad)
    one.close()
    with pytest.raises(ValueError, match="closed"):
        one.lock(0, 1)
    with pytest.raises(ValueError, match="closed"):
        one.unlock(0, 1)
    assert tpio.default_pool().stats().submitted == submitted
