"""What conftest.py does after each test: a leak is found, what only looks like one is run again with new fixtures, and what
nobody could catch is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import support

TESTS = """
import ctypes

import pytest

import tpio

runs = []


def leak():
    for _ in range(16):  # a thread of a pool that comes or goes has one too
        assert ctypes.windll.kernel32.CreateEventW(None, False, False, None)


@pytest.fixture
def pool():
    with tpio.Pool() as pool:
        yield pool


def test_a_leak_with_each_run():
    leak()


def test_a_handle_that_is_made_once(pool):
    assert tpio.sleep(0, pool=pool).result() is None
    assert pool.stats().submitted == 1
    if not runs:
        leak()
    runs.append(pool)
    if len(runs) == 2:
        print("run again")


class Exits:
    def __del__(self):
        raise SystemExit("in a destructor")


def test_an_exit_that_nobody_could_catch():
    Exits()
"""


def test_what_leaks_or_fails_unheard_fails_and_what_is_made_once_is_no_leak(tmp_path):
    (tmp_path / "test_handles.py").write_text(TESTS)
    here = str(Path(__file__).parent)
    options = ["-p", "conftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-rE", "-s"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([here, *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=support.WAIT,
    )
    assert "run again" in done.stdout
    assert "ERROR at teardown of test_a_leak_with_each_run" in done.stdout
    assert "handles leak with each run, counted" in done.stdout
    assert "exceptions that nobody could catch (1 sub-exception)" in done.stdout
    assert "SystemExit: in a destructor" in done.stdout
    assert "3 passed, 2 errors" in done.stdout, done.stdout
    assert done.returncode == 1
