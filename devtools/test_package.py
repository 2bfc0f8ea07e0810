"""CPython's own `test` package, which Windows installations have and the assembled Pythons do not.

It comes from a Debian that has the same minor version, or from such a Python on this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import cache, system, wine
from .pythons import Version
from .ui import Failure, Unavailable, run_quietly, step

# The Debian whose package of a version stays the same but for corrections. None has 3.12.
_SUITES = {"3.11": "bookworm", "3.13": "trixie", "3.14": "testing"}
_RECIPE = "1"  # to be counted up when what is taken changes


def folders(version: Version) -> list[Path]:
    """What to put on the path of a Python for `import test` to work."""
    if wine.NATIVE:
        return []
    number = version.number
    return [cache.make(cache.root() / f"test-package-{number}-{_RECIPE}", lambda into: _fill(number, into))]


def _fill(number: str, into: Path) -> None:
    with step(f"fetching the test package of Python {number}"):
        host = _host_library(number)
        try:
            if number in _SUITES:
                _from_debian(number, into)
            elif host is not None:
                _copy(host, into)
            else:
                raise Failure("no Debian has it")
        except Failure as failure:
            if host is None:
                message = f"the test package of Python {number} is missing ({failure}); install a Python {number}"
                raise Unavailable(message) from None
            _copy(host, into)


def _from_debian(number: str, into: Path) -> None:
    """Two packages share it."""
    scratch = into / "debian"
    for part in ("stdlib", "testsuite"):
        folder = scratch / part
        package = system.fetch_binary_package(f"libpython{number}-{part}", folder, suites=(_SUITES[number],))
        run_quietly(["dpkg-deb", "-x", package, scratch / "files"], what="unpacking the tests", advice="install dpkg")
    _copy(scratch / f"files/usr/lib/python{number}/test", into)
    shutil.rmtree(scratch)


def _copy(source: Path, into: Path) -> None:
    """The tests of asyncio, with what they import and read."""
    target = into / "test"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name in ("support", "libregrtest", "test_asyncio", "certdata"):
        if (source / name).exists():
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in source.iterdir():
        if file.suffix == ".pem" or file.name == "__init__.py":
            shutil.copy2(file, target)


def _host_library(number: str) -> Path | None:
    """The test package of a Python of this machine."""
    candidates = [f"python{number}", *map(str, _pyenv(number))]
    if sys.version_info[:2] == tuple(map(int, number.split("."))):
        candidates.insert(0, sys.executable)
    code = "import os, test.test_asyncio, test; print(os.path.dirname(test.__file__))"
    for python in candidates:
        try:
            done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        except OSError:
            continue
        if done.returncode == 0:
            return Path(done.stdout.strip())
    return None


def _pyenv(number: str) -> list[Path]:
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return sorted(root.glob(f"versions/{number}.*/bin/python{number}"))
