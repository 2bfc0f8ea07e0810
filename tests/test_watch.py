"""watch: every change of a directory, in order, or an Overflow that says that some are lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import random
import threading
import time
import weakref
from concurrent.futures import CancelledError

import pytest

import tpio
import wines
from support import WAIT, at_once, eventually, os_handles
from tpio import Change, Overflow

pytestmark = pytest.mark.once  # the directory is no longer empty then; see the test of many watchers for leaks


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "watched"
    path.mkdir()
    return path


@pytest.fixture
def watcher(folder):
    with tpio.watch(folder) as watcher:
        yield watcher


def until(watcher, *wanted):
    """All changes up to the one in which the last of the wanted (kind, path) has come."""
    changes = []
    left = {(kind, str(path)) for kind, path in wanted}
    while left:
        changes += watcher.changes().result(WAIT)
        left -= {(change.kind, change.path) for change in changes}
    return changes


def kinds(changes, *, but=("modified",)):
    return [change for change in changes if change.kind not in but]


# ---- kinds


def test_created_modified_renamed_removed(folder, watcher):
    old, new = folder / "old", folder / "new"
    old.write_bytes(b"")
    until(watcher, ("created", old))
    with open(old, "ab") as file:
        file.write(b"more")
    until(watcher, ("modified", old))
    old.rename(new)
    changes = until(watcher, ("renamed", new))
    assert Change("renamed", str(new), str(old)) in changes
    new.unlink()
    changes = until(watcher, ("removed", new))
    assert Change("removed", str(new)) in changes


def test_changes_come_in_the_order_in_which_they_were_made(folder, watcher):
    wanted = []
    for n in range(100):
        path = folder / f"file {n}"
        path.touch()
        wanted.append(("created", str(path)))
        if n % 3 == 0:
            path.unlink()
            wanted.append(("removed", str(path)))
        elif n % 3 == 1:
            path.rename(folder / f"moved {n}")
            wanted.append(("renamed", str(folder / f"moved {n}")))
    changes = []
    while len(changes) < len(wanted):
        changes += [change for change in watcher.changes().result(WAIT) if change.kind != "modified"]
    assert [(change.kind, change.path) for change in changes] == wanted


def test_below_only_when_asked(folder):
    below = folder / "below"
    with tpio.watch(folder) as deep, tpio.watch(folder, recursive=False) as flat:
        below.mkdir()
        until(deep, ("created", below))
        (below / "file").touch()
        until(deep, ("created", below / "file"))
        (folder / "file").touch()
        changes = until(flat, ("created", folder / "file"))
        assert not [change for change in changes if change.path == str(below / "file")]


@wines.skipif("only directories below that were made while it watches are seen")
def test_directories_that_were_there_before_are_watched_too(folder):
    below = folder / "below" / "and below"
    below.mkdir(parents=True)
    with tpio.watch(folder) as watcher:
        (below / "file").touch()
        until(watcher, ("created", below / "file"))


def test_a_move_into_another_directory_of_the_watched(folder, watcher):
    for name in ("one", "two"):
        (folder / name).mkdir()
        until(watcher, ("created", folder / name))
    (folder / "one" / "file").touch()
    until(watcher, ("created", folder / "one" / "file"))
    (folder / "one" / "file").rename(folder / "two" / "file")
    changes = []
    while not any(change.path == str(folder / "two" / "file") for change in changes):
        changes += kinds(watcher.changes().result(WAIT))
    assert changes in (
        [Change("removed", str(folder / "one" / "file")), Change("created", str(folder / "two" / "file"))],
        [Change("renamed", str(folder / "two" / "file"), str(folder / "one" / "file"))],
    )


def test_a_file_that_comes_from_or_goes_elsewhere(tmp_path, folder, watcher):
    outside = tmp_path / "outside"
    outside.touch()
    outside.rename(folder / "inside")
    changes = []
    while not changes:
        changes = kinds(watcher.changes().result(WAIT))
    assert (changes[0].path, changes[0].old_path) == (str(folder / "inside"), None)
    (folder / "inside").rename(outside)
    changes = []
    while not changes:
        changes = kinds(watcher.changes().result(WAIT))
    assert changes[0].path == str(folder / "inside") and changes[0].kind == "removed"


@pytest.mark.parametrize("name", ["ä ö ü ß", "日本語", "emoji 😀", "x" * 100, "a.b.c", "semi;colon & more"], ids=ascii)
def test_names_come_as_they_are(folder, watcher, name):
    path = folder / name
    path.touch()
    until(watcher, ("created", path))
    path.rename(folder / (name[::-1] + "!"))
    until(watcher, ("renamed", folder / (name[::-1] + "!")))


def test_paths_longer_than_260_characters(folder):
    deep = "\\\\?\\" + str(folder)
    with tpio.watch(deep) as watcher:
        for _ in range(3):
            deep = os.path.join(deep, "d" * 120)
            os.mkdir(deep)
            until(watcher, ("created", deep))
        with tpio.watch(deep) as inner:
            path = os.path.join(deep, "file")
            with open(path, "w"):
                pass
            until(inner, ("created", path))
            until(watcher, ("created", path))


def test_a_relative_path_stays_what_it_was(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with tpio.watch("watched") as watcher:
        monkeypatch.chdir(folder)
        (folder / "file").touch()
        until(watcher, ("created", folder / "file"))


# ---- nothing is lost


def test_what_happens_between_two_calls_is_kept(folder, watcher):
    paths = [folder / f"{n}" for n in range(200)]
    for path in paths:
        path.touch()
    assert tpio.sleep(0.05).result(WAIT) is None  # nobody asks
    changes = until(watcher, *[("created", path) for path in paths])
    assert [change.path for change in changes if change.kind == "created"] == [str(path) for path in paths]


def test_changes_while_a_callback_is_busy_are_kept(folder, watcher):
    go_on = threading.Event()
    entered = threading.Event()
    first = watcher.changes()

    def busy(_):
        entered.set()
        go_on.wait(WAIT)

    first.add_done_callback(busy)
    (folder / "first").touch()
    assert entered.wait(WAIT)
    paths = [folder / f"{n}" for n in range(50)]
    for path in paths:
        path.touch()
    until(watcher, *[("created", path) for path in paths])
    go_on.set()


def test_many_writers_and_readers_lose_nothing(folder, watcher):
    count, writers = 100, 4
    seen = []
    missing = {str(folder / f"{writer} {n}") for writer in range(writers) for n in range(count)}
    lock = threading.Lock()

    def write(writer):
        for n in range(count):
            (folder / f"{writer} {n}").touch()

    def read():
        while True:
            with lock:
                if not missing:
                    return
            future = watcher.changes()
            if random.random() < 0.5:
                future.cancel()
            try:
                changes = future.result(0.5)
            except CancelledError:
                continue
            except TimeoutError:
                future.cancel()
                if future.cancelled():
                    continue
                changes = future.result(WAIT)
            with lock:
                for change in changes:
                    assert change.kind != "overflow"
                    if change.kind == "created":
                        seen.append(change.path)
                        missing.discard(change.path)

    at_once(*[lambda writer=writer: write(writer) for writer in range(writers)], read, read)
    assert len(seen) == len(set(seen)) == count * writers


def test_a_cancelled_await_gives_its_changes_back(folder):
    async def main():
        seen = []
        with tpio.watch(folder) as watcher:

            async def read():
                seen.extend(await watcher.changes())

            for n in range(100):
                task = asyncio.create_task(read())
                await asyncio.sleep(0)
                (folder / f"{n}").touch()
                await asyncio.sleep(random.random() / 500)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            (folder / "last").touch()
            while not any(change.path.endswith("last") for change in seen):
                await asyncio.wait_for(read(), WAIT)
        created = [os.path.basename(change.path) for change in seen if change.kind == "created"]
        assert created == [*map(str, range(100)), "last"]

    asyncio.run(main())


def test_too_many_changes_are_an_overflow_and_watching_goes_on(folder, monkeypatch):
    """A buffer for a few changes only: some do not fit, which must be said."""
    monkeypatch.setattr("tpio._watch.BUFFER_SIZE", 256)
    with tpio.watch(folder) as watcher:
        for n in range(300):
            (folder / f"a rather long name of a file, number {n:04}").touch()
        (folder / "marker").touch()
        seen = set()
        overflow = None
        deadline = time.monotonic() + WAIT
        while "marker" not in seen and overflow is None and time.monotonic() < deadline:
            for change in watcher.changes().result(WAIT):
                seen.add(os.path.basename(change.path))
                if isinstance(change, Overflow):
                    overflow = change
        if overflow is None:
            assert len(seen) == 301  # the system was fast enough
            pytest.skip("every change fitted" + (": Wine keeps them in a buffer of its own" if wines.major else ""))
        assert overflow == Change("overflow", str(folder), None)
        while True:  # and goes on
            (folder / f"after {random.random()}").touch()
            if any(os.path.basename(change.path).startswith("after") for change in watcher.changes().result(WAIT)):
                break


def test_changes_that_nobody_asks_for_are_an_overflow_in_the_end_and_watching_goes_on(folder, watcher, monkeypatch):
    monkeypatch.setattr("tpio._watch.MOST_KEPT", 50)
    overflow = Change("overflow", str(folder), None)
    for n in range(10):
        (folder / f"few {n}").touch()
    assert eventually(lambda: len(kinds(watcher._ready)) == 10)
    for n in range(100):
        (folder / f"many {n}").touch()
        with watcher._lock:
            assert len(watcher._ready) <= 50
    assert eventually(lambda: overflow in watcher._ready)
    changes = watcher.changes().result(WAIT)
    assert changes[0] == overflow and isinstance(changes[0], Overflow)
    assert len(changes) <= 50
    monkeypatch.undo()  # the rest of the hundred may be on its way still, and is not to be an overflow again
    (folder / "after").touch()
    until(watcher, ("created", folder / "after"))
    (folder / "later").touch()  # and nothing of what follows is lost
    assert kinds(until(watcher, ("created", folder / "later"))) == [Change("created", str(folder / "later"))]


def test_an_overflow_of_what_is_iterated_over_slowly(folder, watcher, monkeypatch):
    monkeypatch.setattr("tpio._watch.MOST_KEPT", 50)

    async def main():
        (folder / "first").touch()
        first = await anext(watcher)
        assert first == Change("created", str(folder / "first"))
        for n in range(100):
            (folder / f"{n}").touch()
        assert eventually(lambda: any(change.kind == "overflow" for change in watcher._ready))
        assert (await anext(watcher)).kind == "overflow"
        later = itertools.count()
        (folder / f"later {next(later)}").touch()
        async for change in watcher:
            if change.kind == "overflow":  # of what had come in the meantime
                (folder / f"later {next(later)}").touch()
            elif change.kind == "created" and "later" in change.path:
                break

    asyncio.run(asyncio.wait_for(main(), WAIT))


def test_an_empty_notification_is_an_overflow(folder, watcher):
    """What the system reports when its own buffer was too small: success without a byte, or error 1022."""
    directory = watcher._directory
    directory._half = "left over"
    for error in (0, 1022):
        assert directory._seen(None, error, 0) == [Overflow("overflow", str(folder))]
    assert directory._half is None


def test_a_look_that_brings_nothing_yet_is_no_end(watcher, folder):
    """As on Wine, when the thread that has asked ends just then."""
    directory = watcher._directory
    directory._half = str(folder / "old")
    assert directory._seen(None, 739, 0) == []
    assert directory._half == str(folder / "old")
    directory._half = None
    looking = tpio.Future()
    looking.set_result([])
    watcher._looked(looking)
    (folder / "x").touch()
    assert ("created", str(folder / "x")) in {(change.kind, change.path) for change in watcher.changes().result(WAIT)}


def test_a_rename_in_two_notifications_is_one_change(watcher, folder):
    def record(action, name):
        data = name.encode("utf-16-le")
        return (0).to_bytes(4, "little") + action.to_bytes(4, "little") + len(data).to_bytes(4, "little") + data

    parse = watcher._directory._parse
    assert parse(record(4, "old")) == []
    assert parse(record(5, "new")) == [Change("renamed", str(folder / "new"), str(folder / "old"))]
    assert parse(record(5, "new")) == [Change("renamed", str(folder / "new"), None)]
    assert parse(record(4, "old")) == []
    assert parse(record(1, "x")) == [Change("removed", str(folder / "old")), Change("created", str(folder / "x"))]


# ---- the end


def test_closing_ends_what_is_pending(folder):
    watcher = tpio.watch(folder)
    pending = [watcher.changes() for _ in range(3)]
    assert not watcher.closed
    watcher.close()
    watcher.close()
    assert watcher.closed
    assert all(future.cancelled() for future in pending)
    with pytest.raises(ValueError, match="closed"):
        watcher.changes()
    assert repr(watcher) == f"<tpio.Watcher {str(folder)!r} closed>"


def test_closing_the_pool_ends_what_is_pending(folder):
    pool = tpio.Pool()
    watcher = tpio.watch(folder, pool=pool)
    pending = watcher.changes()
    pool.close()
    with pytest.raises(CancelledError):
        pending.result(WAIT)
    with pytest.raises(ValueError, match="closed"):
        watcher.changes()
    with pytest.raises(RuntimeError, match="closed"):
        tpio.watch(folder, pool=pool)


def test_a_cancelled_call_takes_nothing(folder, watcher):
    future = watcher.changes()
    assert future.cancel()
    assert future.cancelled()
    (folder / "file").touch()
    until(watcher, ("created", folder / "file"))


def test_a_dropped_watcher_stops_watching(folder):
    handles = tpio.default_pool().stats().handles
    watcher = tpio.watch(folder)
    gone = weakref.ref(watcher)
    assert tpio.default_pool().stats().handles == handles + 1
    del watcher
    gc.collect()
    assert gone() is None
    assert eventually(lambda: tpio.default_pool().stats().handles == handles)


def test_many_watchers_leave_no_handles(folder):
    def use():
        for n in range(20):
            with tpio.watch(folder) as watcher:
                waiting = watcher.changes()
                (folder / f"{n} {random.random()}").touch()
                assert waiting.result(WAIT)
                watcher.changes()
            tpio.watch(folder)
        gc.collect()

    use()
    before = os_handles()
    use()
    assert eventually(lambda: os_handles() <= before + 4)


def test_a_watcher_lives_while_it_is_waited_for(folder):
    future = tpio.watch(folder).changes()
    told = threading.Event()
    future.add_done_callback(lambda _: told.set())
    reference = weakref.ref(future)
    gc.collect()
    (folder / "file").touch()
    assert told.wait(WAIT)
    assert future.result(WAIT)[0].path == str(folder / "file")
    assert reference() is future


@wines.skipif("the removal of a watched directory is not reported")
def test_the_removal_of_the_directory_is_a_clear_end(folder):
    with tpio.watch(folder) as watcher:
        pending = watcher.changes()
        folder.rmdir()
        with pytest.raises(FileNotFoundError, match="the watched directory was removed"):
            pending.result(WAIT)
        with pytest.raises(FileNotFoundError):
            watcher.changes().result(WAIT)


@pytest.mark.parametrize("error", [5, 303])
def test_the_error_of_a_removed_directory_is_told_as_such_after_the_last_changes(folder, error):
    with tpio.watch(folder) as watcher:
        (folder / "file").touch()
        assert eventually(lambda: len(watcher._ready) >= 1)
        watcher._finish(tpio._tpio.winerror(error))
        assert watcher.changes().result(WAIT)[0] == Change("created", str(folder / "file"))
        for _ in range(2):
            with pytest.raises(FileNotFoundError, match="removed") as caught:
                watcher.changes().result(WAIT)
            assert caught.value.filename == str(folder)


# ---- async iteration


def test_iterating_gives_every_change_and_ends_with_a_close(folder):
    async def main():
        with tpio.watch(folder) as watcher:
            seen = []
            all_there = asyncio.Event()

            async def iterate():
                async for change in watcher:
                    seen.append(change)
                    if len([change for change in seen if change.kind == "created"]) == 20:
                        all_there.set()

            task = asyncio.create_task(iterate())
            for n in range(20):
                (folder / f"{n}").touch()
                await asyncio.sleep(0)
            await asyncio.wait_for(all_there.wait(), WAIT)
            watcher.close()
            await asyncio.wait_for(task, WAIT)
            assert [change.path for change in seen if change.kind == "created"] == [
                str(folder / f"{n}") for n in range(20)
            ]

    asyncio.run(main())


def test_an_iteration_that_is_left_loses_nothing(folder):
    async def main():
        with tpio.watch(folder) as watcher:
            for n in range(10):
                (folder / f"{n}").touch()
            names = []
            while len(names) < 10:
                async for change in watcher:  # anew for each
                    if change.kind == "created":
                        names.append(os.path.basename(change.path))
                        break
            assert names == [str(n) for n in range(10)]

    asyncio.run(asyncio.wait_for(main(), WAIT))


def test_an_iteration_that_is_cancelled_says_so(folder):
    async def main():
        with tpio.watch(folder) as watcher:

            async def iterate():
                async for _ in watcher:
                    pass

            task = asyncio.create_task(iterate())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            (folder / "file").touch()
            assert (await watcher.changes())[0].path == str(folder / "file")

    asyncio.run(main())


# ---- misuse


def test_what_is_no_directory_is_refused(folder):
    file = folder / "file"
    file.touch()
    handles = tpio.default_pool().stats().handles
    with pytest.raises(NotADirectoryError):
        tpio.watch(file)
    for missing in (folder / "missing", ""):
        with pytest.raises(FileNotFoundError):
            tpio.watch(missing)
    with pytest.raises(ValueError, match="null"):
        tpio.watch("a\0b")
    for wrong in (None, 3, object()):
        with pytest.raises(TypeError):
            tpio.watch(wrong)
    assert tpio.default_pool().stats().handles == handles
