"""Talking to the person at the terminal: steps with their duration on stderr, failures in one line."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class Failure(Exception):
    """Something is missing or went wrong; the message says what, and what to do about it, in one line."""


def say(text: str) -> None:
    print(f"dev.py: {text}", file=sys.stderr, flush=True)


class Unavailable(Failure):
    """A Python that this machine cannot provide; the others go on without it."""


@contextmanager
def step(label: str) -> Iterator[None]:
    """Announces a long step before it starts, so that nobody stares at a silent terminal."""
    say(f"{label} ...")
    start = time.monotonic()
    yield
    say(f"{label}: done in {time.monotonic() - start:.1f} s")


def run_quietly(
    command: Sequence[object],
    *,
    what: str,
    advice: str,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> str:
    """Runs a tool and returns its output; shows the output only if the tool fails."""
    code, output = run_captured(command, what=what, advice=advice, cwd=cwd, env=env)
    if code:
        sys.stderr.write(output)
        raise Failure(f"{what} failed with exit code {code} (output above); {advice}")
    return output


def run_captured(
    command: Sequence[object],
    *,
    what: str,
    advice: str,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Runs a tool and returns its exit code and its output."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise Failure(f"{what} failed: cannot run {command[0]} ({error.strerror}); {advice}") from None
    return done.returncode, done.stdout
