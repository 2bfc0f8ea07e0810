"""`python -m tpio`: what it prints, and that it notices when something is wrong."""

import json
import subprocess
import sys

import pytest

import tpio
from support import WAIT
from tpio import __main__ as selfcheck

# what a machine that is all right may lack: an IPv6 address, a Windows that is new enough, or all that Wine has not
MAY_LACK = {"TCP over IPv6", "AF_UNIX", "socket given away"}


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-m", "tpio", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * WAIT,
    )


def test_everything_works_here():
    ran = run("--json")
    assert not ran.stderr
    report = json.loads(ran.stdout)
    assert not [row for row in report["rows"] if row["state"] == "failed"]
    assert ran.returncode == 0 and report["ok"] is True
    assert report["tpio"] == tpio.__version__
    assert [row["what"] for row in report["rows"]] == list(selfcheck.ROWS)
    for row in report["rows"]:
        assert row["state"] == "passed" or (row["state"] == "skipped" and row["what"] in MAY_LACK), row
        if row["state"] == "passed":
            assert row["rate"] > 0 and row["latency"] > 0, row


@pytest.fixture
def one_row(monkeypatch):
    def use(check):
        monkeypatch.setattr(selfcheck, "ROWS", {"the row": check})

    return use


def test_a_row_of_the_table_and_the_exit_code(one_row, capsys):
    one_row(selfcheck.check_pipe)
    assert selfcheck.main([]) == 0
    _, header, row, summary = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["what", "result"]
    assert row.split()[:3] == ["the", "row", "passed"] and len(row.split()) == 5
    assert summary == "everything works"


def test_what_is_wrong_fails_and_is_said(one_row, capsys, monkeypatch):
    def corrupt(self, n, offset=None):
        return tpio._tpio.done_future_of(b"something else")

    one_row(selfcheck.check_pipe)
    monkeypatch.setattr(tpio.Pipe, "read", corrupt, raising=False)
    assert selfcheck.main([]) == 1
    out = capsys.readouterr().out
    assert "failed" in out and "something else" in out and "1 of 1 failed" in out
    assert selfcheck.main(["--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_what_the_machine_lacks_is_skipped(one_row, capsys):
    def lacks(timed):
        raise selfcheck.Skipped("no such thing here")

    one_row(lacks)
    assert selfcheck.main([]) == 0
    assert "skipped  no such thing here" in capsys.readouterr().out
