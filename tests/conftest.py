"""Every test leaves the process as it found it: nothing pending, no handle, no thread, no unheard exception.

Markers. `once`: the test cannot be run a second time (see pytest_runtest_protocol), or takes too long for that.
Fixtures. `unraisable`: the test expects exceptions that nobody can catch, and looks at them itself.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

import support


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--twice", action="store_true", help="run each test a second time, as if its handles had grown")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "once(handles=32): may leave that many more handles; is not run again to see",
    )


def pytest_collection_finish() -> None:
    """Each test collects garbage several times: what pytest and its plugins made, which stays, need not be looked through."""
    gc.collect()
    gc.freeze()


class Unraisable(list[BaseException]):
    """Exceptions that went to sys.unraisablehook or threading.excepthook, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Condition()
        self.expected = False

    def hook(self, args: Any) -> None:
        error = args.exc_value if args.exc_value is not None else args.exc_type()
        with self.changed:
            self.append(error)
            self.changed.notify_all()

    def wait(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self) >= count, support.WAIT), f"{len(self)} of {count}"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[Unraisable]:
    caught = Unraisable()
    monkeypatch.setattr(sys, "unraisablehook", caught.hook)
    monkeypatch.setattr(threading, "excepthook", caught.hook)
    gc.collect()
    handles = support.bound_handles()
    threads = set(threading.enumerate())
    yield caught
    gc.collect()

    def left_threads() -> set[threading.Thread]:
        now = {each for each in threading.enumerate() if not isinstance(each, threading._DummyThread)}
        return now - threads

    def settled() -> bool:
        return support.pending() == 0 and support.bound_handles() <= handles and not left_threads()

    if not support.eventually(settled, 2):
        gc.collect()
        support.eventually(settled, 20)
    assert support.pending() == 0, f"operations are pending: {[(pool, pool.stats()) for pool in support.pools()]}"
    assert support.bound_handles() <= handles, f"handles are open: {[(p, p.stats()) for p in support.pools()]}"
    assert not left_threads(), "threads are left"
    errors = list(caught)
    # Their tracebacks lead to pytest's dictionary of fixtures, which is frozen and has this list: no collection would
    # find that cycle, and a test's handles and pool would stay.
    caught.clear()
    if errors and not caught.expected:
        raise BaseExceptionGroup("exceptions that nobody could catch", errors)


@pytest.fixture
def unraisable(_clean: Unraisable) -> Unraisable:
    """The exceptions that nobody could catch; the test looks at them itself."""
    _clean.expected = True
    return _clean


# The pool's threads come and go, and each has handles of its own: on Wine an event, from when it first blocks; on Windows
# what ntdll opens for it. Such a thread does not begin in each of several runs, as a leak does.
_HANDLES_OF_A_THREAD = 1 if support.wine else 4


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """A test that leaks a handle leaks one each time that it is run. What is made on first use (a module's, the event
    of a thread that blocks, the thread pool's own) is not made again: when a test ends with more handles than before,
    it is run again, with new fixtures, and again."""
    once = item.get_closest_marker("once")
    again = item.config.getoption("--twice")
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    counts = [support.os_handles()]
    threads = support.native_threads()
    for patience in (5,) if once else (0.3, 0.3, 0.3, 5):
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        if any(not report.passed for report in reports):
            break
        now = support.native_threads()
        most = counts[-1] + _HANDLES_OF_A_THREAD * len(now - threads) + (once.kwargs.get("handles", 32) if once else 0)
        threads = now
        support.eventually(lambda most=most: support.os_handles() <= most, patience)
        counts.append(support.os_handles())
        if counts[-1] <= most and (once or not again):
            break
        again = False
    else:
        reports[-1].outcome = "failed"
        reports[-1].longrepr = f"handles leak with each run, counted {counts}"
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
