"""A Windows Python that has this checkout's tpio, and the test dependencies, on its path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import build, cache, pythons, tools, wine
from .pythons import Version
from .ui import run_quietly, step

# The host's Python settings mean nothing to the Windows Python, or mislead it.
_HOST_ONLY = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONUSERBASE", "PYTHONEXECUTABLE", "PYTHONPLATLIBDIR")


@dataclass(frozen=True)
class Interpreter:
    version: Version
    program: Path
    path: tuple[Path, ...]

    def run(self, args: Sequence[str], **variables: str) -> int:
        return wine.run(self.program, args, env=self._environment(variables))

    def capture(self, args: Sequence[str], **variables: str) -> tuple[int, str]:
        return wine.capture(self.program, args, env=self._environment(variables))

    def _environment(self, variables: dict[str, str]) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name not in _HOST_ONLY}
        return {
            **inherited,
            "PYTHONPATH": ";".join(map(wine.windows_path, self.path)),
            # The checkout has a tpio folder too, without the extension: the current folder must not come first.
            "PYTHONSAFEPATH": "1",
            "PYTHONIOENCODING": "utf-8",
            **variables,
        }


def get(version: Version) -> Interpreter:
    """Sets up everything that it takes to run this checkout's tpio."""
    wine.set_up()
    if wine.NATIVE:
        from . import native

        program, packages = native.python(version), ()
    else:
        program, packages = pythons.home(version) / "python.exe", (_packages("test"),)
    return Interpreter(version, program, (build.site(version), *packages, build.CHECKOUT))


def _packages(name: str) -> Path:
    """Pure Python packages, the same for every version, installed for Windows by the host's pip."""
    requirements = tools.REQUIREMENTS / f"{name}.txt"

    def install(into: Path) -> None:
        options = ["--require-hashes", "--no-deps", "--only-binary=:all:", "--platform=any", "--python-version=3.11"]
        with step(f"installing {requirements.name} for the Windows Pythons"):
            run_quietly(
                [tools.venv("build"), "-m", "pip", "install", *options, "--target", into, "-r", requirements],
                what=f"installing {requirements.name}",
                advice="check the network and try again",
            )

    return cache.make(cache.root() / f"packages-{name}-{cache.fingerprint(requirements.read_text())}", install)
