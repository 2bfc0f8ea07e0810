"""A Windows Python that has this checkout's tpio, and the test dependencies, on its path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import build, cache, native, pythons, tools, wine
from .pythons import Version
from .ui import Failure, Unavailable, run_quietly, say, step
from .variants import PLAIN, Variant

# The host's Python settings mean nothing to the Windows Python, or mislead it.
_HOST_ONLY = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONUSERBASE", "PYTHONEXECUTABLE", "PYTHONPLATLIBDIR")


@dataclass(frozen=True)
class Interpreter:
    version: Version
    program: Path
    path: tuple[Path, ...]
    variant: Variant = PLAIN

    def with_packages(self, *folders: Path) -> Interpreter:
        return replace(self, path=(*self.path, *folders))

    def run(self, args: Sequence[str], *, cwd: Path | None = None, **variables: str) -> int:
        return wine.run(self.program, args, env=self._environment(variables), cwd=cwd, variant=self.variant)

    def capture(self, args: Sequence[str], **variables: str) -> tuple[int, str]:
        return wine.capture(self.program, args, env=self._environment(variables), variant=self.variant)

    def _environment(self, variables: dict[str, str]) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name not in _HOST_ONLY}
        return {
            **inherited,
            "PYTHONPATH": ";".join(map(wine.windows_path, self.path)),
            # The checkout has a tpio folder too, without the extension: the current folder must not come first.
            "PYTHONSAFEPATH": "1",
            "PYTHONIOENCODING": "utf-8",
            **self.variant.environment,
            **(self.variant.free_threaded if self.version.free_threaded else {}),
            **variables,
        }


def available(versions: Sequence[Version]) -> list[Version]:
    """Those that this machine can provide. The others are named; if only one was asked for, that is a failure."""
    found = []
    for version in versions:
        try:
            _ = native.python(version) if wine.NATIVE else pythons.home(version)
            found.append(version)
        except Unavailable as reason:
            if len(versions) == 1:
                raise
            say(f"left out: {reason}")
    return found


def get(version: Version, variant: Variant = PLAIN) -> Interpreter:
    """Sets up everything that it takes to run this checkout's tpio."""
    if wine.NATIVE and variant.on_windows:
        raise Failure(f"on Windows itself there is no such run; {variant.on_windows}")
    site = build.site(version, variant)
    if wine.NATIVE:
        return Interpreter(version, native.python(version), (site, build.CHECKOUT), variant)
    wine.set_up(variant)
    program = pythons.home(version) / "python.exe"
    return Interpreter(version, program, (site, packages("test"), build.CHECKOUT), variant)


def packages(name: str) -> Path:
    """What requirements/<name>.txt lists, installed for Windows by the host's pip.

    All of it is pure Python, so that it serves every version.
    """
    requirements = tools.REQUIREMENTS / f"{name}.txt"

    def install(into: Path) -> None:
        pure = ["--platform=any", "--implementation=py", "--abi=none", "--python-version=3.11", "--only-binary=:all:"]
        with step(f"installing {requirements.name} for Windows Pythons"):
            run_quietly(
                [
                    *(tools.venv("build"), "-m", "pip", "install", "--require-hashes", "--no-deps"),
                    *(*pure, "--target", into, "-r", requirements),
                ],
                what=f"installing {requirements.name}",
                advice="check the network and try again",
            )

    return cache.make(cache.root() / f"packages-{name}-{cache.fingerprint(requirements.read_text())}", install)
