"""A Windows Python that has this checkout's tpio, and the test dependencies, on its path."""

from __future__ import annotations

import os
import sysconfig
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
    pure = ["--platform=any", "--implementation=py", "--abi=none", "--python-version=3.11"]
    requirements = tools.REQUIREMENTS / f"{name}.txt"

    def install(into: Path) -> None:
        with step(f"installing {requirements.name} for Windows Pythons"):
            _install(requirements, pure, into)

    return cache.make(cache.root() / f"packages-{name}-{cache.fingerprint(requirements.read_text())}", install)


def compiled_packages(name: str, version: Version) -> Path:
    """What requirements/<name>.txt lists and has a wheel for a version; the tests of what has none are skipped."""
    requirements = tools.REQUIREMENTS / f"{name}.txt"
    platform = [f"--platform={sysconfig.get_platform().replace('-', '_')}" if wine.NATIVE else "--platform=win_amd64"]
    abis = (version.abi, *([] if version.free_threaded else ["abi3"]), "none")
    wheels = [*platform, "--implementation=cp", f"--python-version={version.number}", *(f"--abi={abi}" for abi in abis)]

    def install(into: Path) -> None:
        with step(f"installing {requirements.name} for Python {version.name}"):
            try:
                _install(requirements, wheels, into)
            except Failure:
                _install_each(requirements, wheels, into)

    identity = cache.fingerprint(requirements.read_text(), version.name)
    return cache.make(cache.root() / f"packages-{name}-{version.name}-{identity}", install)


def _install(requirements: Path, platform: Sequence[str], into: Path) -> None:
    run_quietly(
        [
            *(tools.venv("build"), "-m", "pip", "install", "--require-hashes", "--no-deps", "--only-binary=:all:"),
            *(*platform, "--target", into, "-r", requirements),
        ],
        what=f"installing {requirements.name}",
        advice="check the network and try again",
    )


def _install_each(requirements: Path, platform: Sequence[str], into: Path) -> None:
    """pip installs all of a list or nothing."""
    lines = requirements.read_text().replace("\\\n", " ").splitlines()
    one = into / "requirement.txt"
    installed = 0
    for line in lines:
        if not line.startswith("#"):
            one.write_text(line)
            try:
                _install(one, platform, into)
                installed += 1
            except Failure:
                say(f"there is no wheel of {line.split()[0]}")
    one.unlink()
    if not installed:
        raise Failure(f"nothing of {requirements.name} could be installed; check the network and try again")
