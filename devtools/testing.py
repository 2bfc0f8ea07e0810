"""The test runs."""

from __future__ import annotations

from collections.abc import Sequence

from . import build, interpreter
from .pythons import Version
from .ui import Failure, Unavailable, say


def run(versions: Sequence[Version], pytest_args: Sequence[str]) -> int:
    """Runs pytest in the checkout for each version; a Python that cannot be had here is named, not silently dropped."""
    missing: dict[str, str] = {}
    failed: list[str] = []
    passed: list[str] = []
    for version in versions:
        try:
            python = interpreter.get(version)
        except Unavailable as unavailable:
            if len(versions) == 1:
                raise
            missing[version.name] = str(unavailable)
            continue
        say(f"testing on Python {version.name}")
        code = python.run(["-m", "pytest", *pytest_args], cwd=build.CHECKOUT)
        (failed if code else passed).append(version.name)
        if len(versions) == 1:
            return code
    for name, reason in missing.items():
        say(f"not tested on Python {name}: {reason}")
    if passed:
        say(f"the tests pass on Python {', '.join(passed)}")
    if failed:
        raise Failure(f"the tests fail on Python {', '.join(failed)}; see above")
    return 0 if passed else 1
