"""Many reads and writes at once: read_many, write_many, and copies."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

import tpio
from ends import WAIT
from support import eventually

DATA = os.urandom(1_000_003)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def file(source: Path) -> Iterator[tpio.File]:
    with tpio.open(source, "r+b") as file:
        yield file


# ---- many offsets


def test_read_many(file):
    parts = [(0, 10), (999_990, 100), (500_000, 100_000), (2_000_000, 5), (7, 0)]
    assert file.read_many(parts).result(WAIT) == [DATA[at:][:n] for at, n in parts]
    assert file.read_many([]).result(WAIT) == []


def test_write_many(file, source):
    parts = [(0, b"first"), (1_000_003, bytearray(b"at the end")), (500_000, memoryview(b"middle")), (3, b"")]
    assert file.write_many(iter(parts)).result(WAIT) == [5, 10, 6, 0]
    data = source.read_bytes()
    assert data[:5] == b"first" and data[500_000:500_006] == b"middle" and data[1_000_003:] == b"at the end"


def test_hundreds_at_once(file):
    parts = [(number * 3001, 3001) for number in range(300)]
    assert b"".join(file.read_many(parts).result(WAIT)) == DATA[: 300 * 3001]


def test_one_that_fails_fails_all_after_all_have_ended(source):
    with tpio.open(source, "rb") as file, pytest.raises(PermissionError):
        file.write_many([(0, b"x"), (5, b"y")]).result(WAIT)
    assert source.read_bytes() == DATA


def test_bad_parts_are_refused_before_anything_is_done(file, source):
    submitted = tpio.default_pool().stats().submitted
    for parts in ([(0, 5), (-1, 5)], [(0, 5), (0, -5)]):
        with pytest.raises(ValueError, match="negative"):
            file.read_many(parts)
    with pytest.raises(ValueError, match="negative"):
        file.write_many([(0, b"never"), (-1, b"x")])
    for bad in (None, 5, [5], [(0, 5), ("0", 5)], [(0, 5), (0, "5")]):
        with pytest.raises(TypeError):
            file.read_many(bad)
    for bad in (None, [(0, b"never"), (0, "text")], [(0, b"never"), (0, 5)], [(0, b"never"), (None, b"x")]):
        with pytest.raises(TypeError):
            file.write_many(bad)
    for bad in ([(0,)], [(0, 1, 2)]):
        with pytest.raises(ValueError, match="unpack"):
            file.read_many(bad)
    assert tpio.default_pool().stats().submitted == submitted
    assert source.read_bytes() == DATA
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read_many([(0, 5)])


# ---- copies


@pytest.mark.parametrize("depth", [1, 3, 8, 100])
@pytest.mark.parametrize("block", [100_000, 1_000_003, 1 << 20])
def test_a_copy_is_the_same(source, tmp_path, depth, block):
    target = tmp_path / "target"
    assert tpio.copy_file(source, target, depth=depth, block=block).result(WAIT) == len(DATA)
    assert target.read_bytes() == DATA


def test_a_longer_file_is_overwritten(source, tmp_path):
    target = tmp_path / "target"
    target.write_bytes(bytes(2_000_000))
    tpio.copy_file(str(source), os.fsencode(target)).result(WAIT)
    assert target.read_bytes() == DATA


def test_an_empty_file(tmp_path):
    (tmp_path / "empty").touch()
    calls = []
    copied = tpio.copy_file(tmp_path / "empty", tmp_path / "target", progress=lambda *args: calls.append(args))
    assert copied.result(WAIT) == 0
    assert (tmp_path / "target").read_bytes() == b"" and calls == []


def test_progress_is_told_block_by_block_one_at_a_time(source, tmp_path):
    calls: list[tuple[int, int]] = []
    busy = threading.Lock()

    def progress(copied: int, total: int) -> None:
        assert busy.acquire(blocking=False), "two at a time"
        calls.append((copied, total))
        busy.release()

    tpio.copy_file(source, tmp_path / "target", block=50_000, progress=progress).result(WAIT)
    assert len(calls) == 21
    assert [copied for copied, _ in calls] == sorted({copied for copied, _ in calls})
    assert calls[-1] == (len(DATA), len(DATA)) and {total for _, total in calls} == {len(DATA)}


def test_copying_does_not_happen_on_the_callers_thread(source, tmp_path):
    threads: set[int] = set()
    copying = tpio.copy_file(
        source, tmp_path / "target", block=50_000, progress=lambda *_: threads.add(threading.get_ident())
    )
    copying.result(WAIT)
    assert threads and threading.get_ident() not in threads


def test_progress_that_raises_ends_the_copy(source, tmp_path):
    def progress(copied: int, total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tpio.copy_file(source, tmp_path / "target", block=50_000, progress=progress).result(WAIT)
    os.unlink(source)  # nobody has them open any more
    os.unlink(tmp_path / "target")


def test_cancel(source, tmp_path):
    begun, go_on = threading.Event(), threading.Event()

    def progress(copied: int, total: int) -> None:
        begun.set()
        assert go_on.wait(WAIT)

    copying = tpio.copy_file(source, tmp_path / "target", block=10_000, progress=progress)
    assert begun.wait(WAIT)
    assert copying.cancel()
    assert not copying.done()  # the blocks that are under way have yet to end
    go_on.set()
    with pytest.raises(CancelledError):
        copying.result(WAIT)
    os.unlink(source)
    os.unlink(tmp_path / "target")


def test_cancel_from_progress(source, tmp_path):
    copying: list[tpio.Future[int]] = []
    made = threading.Event()

    def progress(copied: int, total: int) -> None:
        assert made.wait(WAIT)
        copying[0].cancel()

    copying.append(tpio.copy_file(source, tmp_path / "target", block=10_000, progress=progress))
    made.set()
    with pytest.raises(CancelledError):
        copying[0].result(WAIT)


def test_a_source_that_is_cut_meanwhile_gives_what_is_left(source, tmp_path):
    cut = threading.Event()

    def progress(copied: int, total: int) -> None:
        if not cut.is_set():
            with tpio.open(source, "r+b") as file:
                file.truncate(500_000)
            cut.set()

    copied = tpio.copy_file(source, tmp_path / "target", depth=1, block=100_000, progress=progress).result(WAIT)
    assert copied == 500_000
    assert (tmp_path / "target").read_bytes() == DATA[:500_000]


def test_errors_of_opening_are_raised_at_once_and_leave_nothing_open(source, tmp_path):
    with pytest.raises(FileNotFoundError):
        tpio.copy_file(tmp_path / "none", tmp_path / "target")
    assert not (tmp_path / "target").exists()
    with pytest.raises(FileNotFoundError):
        tpio.copy_file(source, tmp_path / "none" / "target")
    with pytest.raises(ValueError, match="same"):
        tpio.copy_file(source, source)
    for options in ({"depth": 0}, {"block": 0}):
        with pytest.raises(ValueError, match="positive"):
            tpio.copy_file(source, tmp_path / "target", **options)
    with pytest.raises(TypeError, match="callable"):
        tpio.copy_file(source, tmp_path / "target", progress=5)
    for options in ({"depth": 1.5}, {"block": 1.5}, {"depth": "8"}, {"block": None}, {"pool": 5}):
        with pytest.raises(TypeError):
            tpio.copy_file(source, tmp_path / "target", **options)
    assert not (tmp_path / "target").exists()
    assert source.read_bytes() == DATA
    os.unlink(source)


def test_in_a_pool_of_its_own(source, tmp_path):
    with tpio.Pool() as pool:
        assert tpio.copy_file(source, tmp_path / "target", pool=pool).result(WAIT) == len(DATA)
        assert eventually(lambda: pool.stats().handles == 0)
        assert pool.stats().submitted > 0
