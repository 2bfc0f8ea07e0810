"""CPython's own tests of asyncio, on tpio's event loop in place of the standard one.

Each module is a process of its own. One that crashes or hangs is started again behind the test that did it. What has to
pass is in tests/asyncio_suite/expected-VERSION.txt.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import build, interpreter, test_package, wine
from .interpreter import Interpreter
from .pythons import Version
from .ui import Failure, say

_FOLDER = build.CHECKOUT / "tests" / "asyncio_suite"
_MODULES = (
    "test_windows_events",
    "test_windows_utils",
    "test_proactor_events",
    "test_buffered_proto",
    "test_server",
    "test_sendfile",
    "test_sock_lowlevel",
    "test_transports",
    "test_sslproto",
    "test_streams",
    "test_ssl",
    "test_subprocess",
    "test_events",
)


@dataclass
class _Outcome:
    test: str
    how: str
    why: str
    loops: int  # that the test has made


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--loop", choices=("tpio", "stock"), default="tpio", help="(default: %(default)s)")
    parser.add_argument("--only", default="", metavar="PART", help="run only tests with PART in their names")
    parser.add_argument("--everything", action="store_true", help="run also what is not in the list")
    parser.add_argument("--names", action="store_true", help="print what passed and made a loop, for a new list")
    parser.add_argument("--patience", default="60", metavar="SECONDS", help="for one test (default: %(default)s)")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="test_streams for instance (default: all)")


def run(version: Version, options: argparse.Namespace) -> int:
    """Returns 0 if every test of the list passes. Runs the tests of the list, or with --everything all tests."""
    expected = _expected(version)
    if not expected and not options.everything:
        raise Failure(f"there is no list of tests for Python {version.name}; add --everything")
    python = interpreter.get(version).with_packages(*test_package.folders(version))
    outcomes: list[_Outcome] = []
    for module in options.modules or _MODULES:
        wanted = [test for test in expected if test.startswith(f"{module}.") and options.only in test]
        if wanted or options.everything:
            start = time.monotonic()
            found = _run_module(python, module, None if options.everything else wanted, options)
            found = [outcome for outcome in found if options.only in outcome.test]
            outcomes += found
            say(f"{module}: {_counted(found)}, {time.monotonic() - start:.0f} s")
    return _report(expected, outcomes, options)


def _expected(version: Version) -> list[str]:
    """The ids in the list of a version; what follows a # is a comment."""
    file = _FOLDER / f"expected-{version.number}.txt"
    if not file.exists():
        return []
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def _run_module(
    python: Interpreter, module: str, wanted: list[str] | None, options: argparse.Namespace
) -> list[_Outcome]:
    with tempfile.TemporaryDirectory(prefix="tpio-asyncio-suite-") as scratch:
        folder = Path(scratch)
        journal = folder / "journal"
        command = ["-m", "tests.asyncio_suite", "--loop", options.loop, "--patience", options.patience]
        command += ["--journal", wine.windows_path(journal)]
        if wanted is not None:
            (folder / "only").write_text("\n".join(wanted), encoding="utf-8")
            command += ["--only", wine.windows_path(folder / "only")]
        while True:
            begun = len(_entries(journal))
            code = python.run([*command, module], cwd=folder)
            entries = _entries(journal)
            if entries and "complete" in entries[-1]:
                return _outcomes(entries)
            if len(entries) == begun or "began" not in entries[-1]:
                advice = "install the test suite of this Python" if wine.NATIVE else "see the output above"
                raise Failure(f"{module} cannot be run (exit code {code}); {advice}")
            # The process ended within a test; faulthandler has said where, on stderr.
            why = f"the process ended with exit code {code}: a hang or a crash"
            with journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"ended": entries[-1]["began"], "how": "failed", "why": why, "loops": 0}) + "\n")


def _entries(journal: Path) -> list[dict[str, Any]]:
    if not journal.exists():
        return []
    return [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]


def _outcomes(entries: list[dict[str, Any]]) -> list[_Outcome]:
    return [
        _Outcome(entry["ended"], entry["how"], entry["why"], entry["loops"]) for entry in entries if "ended" in entry
    ]


def _counted(outcomes: list[_Outcome]) -> str:
    count = Counter(outcome.how for outcome in outcomes)
    skipped = f", {count['skipped']} skipped" if count["skipped"] else ""
    return f"{count['passed']} passed, {count['failed']} failed{skipped}"


def _report(expected: list[str], outcomes: list[_Outcome], options: argparse.Namespace) -> int:
    passed = {outcome.test for outcome in outcomes if outcome.how == "passed"}
    if options.names:
        print(*(outcome.test for outcome in outcomes if outcome.test in passed and outcome.loops), sep="\n")
    for outcome in outcomes:
        if outcome.how == "failed":
            listed = "" if outcome.test in expected else " (not in the list)"
            say(f"FAILED {outcome.test}{listed}: {outcome.why}")
    modules = options.modules or _MODULES
    wanted = [test for test in expected if options.only in test and test.partition(".")[0] in modules]
    missing = [test for test in wanted if test not in passed]
    failed = {outcome.test for outcome in outcomes if outcome.how == "failed"}
    for test in missing:
        if test not in failed:
            why = next((outcome.why for outcome in outcomes if outcome.test == test), "there is no such test")
            say(f"NOT PASSED {test}: {why}")
    say(f"{len(wanted) - len(missing)} of the {len(wanted)} tests in the list pass")
    print(_counted(outcomes), flush=True)
    return 1 if missing or not outcomes else 0
