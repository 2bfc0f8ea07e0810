"""The test runs."""

from __future__ import annotations

from collections.abc import Sequence

from . import build, interpreter, wine
from .interpreter import Interpreter
from .pythons import Version
from .ui import Failure, say
from .variants import PLAIN, Variant


def run(versions: Sequence[Version], pytest_args: Sequence[str], variant: Variant = PLAIN) -> int:
    """Runs pytest in the checkout for each version; a Python that cannot be had here is named, not silently dropped."""
    results: dict[Version, int] = {}
    for version in interpreter.available(versions):
        python = interpreter.get(version, variant)
        _prove(python)
        say(f"testing on Python {version.name}" + (f": {variant.help}" if variant.help else ""))
        examples = wine.windows_path(build.examples(version, variant))
        command = ["-m", "pytest", *variant.pytest, *pytest_args]
        try:
            results[version] = python.run(command, cwd=build.CHECKOUT, TPIO_EXAMPLES=examples)
        except wine.ServerCrashed:  # says nothing of tpio
            say("Wine's server has crashed (it may have said why, above); the tests run once more")
            results[version] = python.run(command, cwd=build.CHECKOUT, TPIO_EXAMPLES=examples)
    if len(versions) == 1:
        return results[versions[0]]
    failed = [version for version, code in results.items() if code]
    passed = [version for version, code in results.items() if not code]
    missing = [version for version in versions if version not in results]
    for verdict, group in (("pass on", passed), ("were not run on", missing), ("FAIL on", failed)):
        if group:
            say(f"the tests {verdict} Python {', '.join(version.name for version in group)}")
    if failed or not passed:
        raise Failure("the tests do not pass everywhere; see the first failure above")
    return 0


def _prove(python: Interpreter) -> None:
    """A variant that notices nothing is worse than none: it has to notice what was planted for it."""
    for mistake in python.variant.planted:
        armed = python.with_packages(build.planted(python.version, python.variant))
        program = (
            f"import planted; print('planted', flush=True); planted.{mistake}();"
            "from devtools import noting; noting.look_at_heaps(); print('survived')"
        )
        code, output = armed.capture(["-c", program])
        # Wine's debugger may end a process that has crashed with exit code 0.
        unnoticed = not code and "survived" in output
        if unnoticed or "planted" not in output or "Traceback" in output:
            raise Failure(f"{mistake}, planted, went unnoticed on Python {python.version.name}: {output.strip()!r}")
