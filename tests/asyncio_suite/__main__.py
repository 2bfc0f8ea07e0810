"""Runs modules of CPython's test.test_asyncio on an event loop of our choice: the worker of `dev.py asyncio-suite`.

    python -m tests.asyncio_suite [--loop tpio|stock] [--journal FILE] [--only FILE] [--patience SECONDS] MODULE...

What happens is written to the journal, one JSON object a line: {"began": id}, then {"ended": id, "how": ..., "why": ...,
"loops": how many it made}, and {"complete": true} at the very end. An id is module.Class.method. Tests that the journal
knows already are not run, so that after a crash or a hang (a test that exceeds the patience ends the process, with every
thread's stack on stderr) the same command goes on behind it.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import importlib
import json
import logging
import os
import sys
import traceback
import unittest
from asyncio import windows_events
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, cast

PACKAGE = "test.test_asyncio."
# Of what happened within one test, the worst counts.
OUTCOMES = ("passed", "skipped", "failed")

ErrorInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


def put_in_place(loop_class: type[asyncio.AbstractEventLoop]) -> None:
    """Lets everybody who asks asyncio for a proactor loop have one of loop_class.

    To be called before a test module is imported. The tests name the class, or ask the default policy, which they also
    reset: setting a policy would not last.
    """
    for namespace in (asyncio, windows_events):
        for name in ("ProactorEventLoop", "EventLoop"):
            if hasattr(namespace, name):
                setattr(namespace, name, loop_class)
    for name in ("WindowsProactorEventLoopPolicy", "_WindowsProactorEventLoopPolicy"):
        if hasattr(windows_events, name):
            getattr(windows_events, name)._loop_factory = loop_class


def count_loops(loop_class: type[asyncio.AbstractEventLoop]) -> Iterator[int]:
    """How many loops of the class have been made, each time that it is asked."""
    made = 0
    initialize = loop_class.__init__

    def counted(self: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal made
        made += 1
        initialize(self, *args, **kwargs)

    loop_class.__init__ = counted  # type: ignore[method-assign]
    while True:
        yield made


class Journal:
    def __init__(self, path: str | None) -> None:
        self.path = path
        self.known = set()
        if path is not None and os.path.exists(path):
            with open(path, encoding="utf-8") as lines:
                self.known = {entry["ended"] for entry in map(json.loads, lines) if "ended" in entry}

    def note(self, **entry: Any) -> None:
        if self.path is not None:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")


class Recorder(unittest.TestResult):
    """Writes each test's outcome into the journal, and what went wrong to stderr at once."""

    def __init__(self, journal: Journal, patience: float, loops: Iterator[int]) -> None:
        super().__init__()
        self.journal = journal
        self.loops = loops
        self.made = 0
        self.patience = patience
        self.worst = 0
        self.why = ""

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        self.worst, self.why = 0, ""
        self.made = next(self.loops)
        self.journal.note(began=short_id(test))
        faulthandler.dump_traceback_later(self.patience, exit=True)

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        faulthandler.cancel_dump_traceback_later()
        made = next(self.loops) - self.made
        self.journal.note(ended=short_id(test), how=OUTCOMES[self.worst], why=self.why, loops=made)
        super().stopTest(test)

    def _happened(self, test: unittest.TestCase, outcome: str, why: str) -> None:
        if OUTCOMES.index(outcome) >= self.worst:
            self.worst, self.why = OUTCOMES.index(outcome), why
        if not isinstance(test, unittest.TestCase):
            # The fixture of a class or a module: its tests do not begin at all.
            self.journal.note(ended=short_id(test), how=outcome, why=why, loops=0)

    def _wrong(self, test: unittest.TestCase, error: ErrorInfo) -> None:
        print(f"\n======== {short_id(test)}", file=sys.stderr)
        traceback.print_exception(*error)
        self._happened(test, "failed", "".join(traceback.format_exception_only(*error[:2])).strip().splitlines()[0])

    def addError(self, test: unittest.TestCase, err: ErrorInfo) -> None:  # noqa: N802
        super().addError(test, err)
        self._wrong(test, err)

    def addFailure(self, test: unittest.TestCase, err: ErrorInfo) -> None:  # noqa: N802
        super().addFailure(test, err)
        self._wrong(test, err)

    def addSubTest(self, test: Any, subtest: Any, err: ErrorInfo | None) -> None:  # noqa: N802
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._wrong(test, err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        self._happened(test, "skipped", reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: ErrorInfo) -> None:  # noqa: N802
        super().addExpectedFailure(test, err)
        self._happened(test, "skipped", "is expected to fail")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().addUnexpectedSuccess(test)
        self._happened(test, "failed", "was expected to fail")


def short_id(test: Any) -> str:
    return str(test.id()).removeprefix(PACKAGE)


def each_test(suite: unittest.TestSuite) -> Iterator[Any]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from each_test(test)
        else:
            yield test


def collect(modules: list[str], wanted: set[str] | None, known: set[str]) -> unittest.TestSuite:
    """In the order of the modules, so that class and module fixtures are made once."""
    suite = unittest.TestSuite()
    for name in modules:
        module = importlib.import_module(PACKAGE + name)
        for test in each_test(unittest.defaultTestLoader.loadTestsFromModule(module)):
            if short_id(test) not in known and (wanted is None or short_id(test) in wanted):
                suite.addTest(test)
    return suite


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.asyncio_suite")
    parser.add_argument("--loop", choices=("tpio", "stock"), default="tpio")
    parser.add_argument("--journal")
    parser.add_argument("--only", help="a file with the ids of the tests to run, one a line")
    parser.add_argument("--patience", type=float, default=60, help="seconds for one test")
    parser.add_argument("modules", nargs="+")
    options = parser.parse_args()
    faulthandler.enable()
    cast(logging.Handler, logging.lastResort).setLevel(logging.ERROR)  # not: what took how long
    journal = Journal(options.journal)
    if options.loop == "tpio":
        from tpio import aio

        put_in_place(aio.EventLoop)
    wanted = set(Path(options.only).read_text(encoding="utf-8").split()) if options.only else None
    faulthandler.dump_traceback_later(options.patience, exit=True)  # importing may hang too
    from test import support

    support.use_resources = ["cpu", "walltime", "subprocess"]  # what else there is needs the network
    support.set_memlimit("3G")  # what the largest tests say that they take; they take less
    suite = collect(options.modules, wanted, journal.known)
    result = Recorder(journal, options.patience, count_loops(asyncio.ProactorEventLoop))
    with support.SuppressCrashReport():
        suite.run(result)
    journal.note(complete=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what a test left behind must not keep the process


if __name__ == "__main__":
    main()
