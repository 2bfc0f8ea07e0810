"""Packages of the Debian or Ubuntu this runs on, installed when they are missing."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import cache
from .ui import Failure, run_captured, run_quietly, say, step

CROSS_COMPILER = "x86_64-w64-mingw32-gcc"
# clang-cl, which is clang that is called like MSVC's compiler: of Debian 12, Debian 13, Ubuntu 24.04.
MSVC_PACKAGE = "clang-tools-16 | clang-tools-19 | clang-tools-18"
LINKER_PACKAGE = "lld-16 | lld-19 | lld-18"


def need(*packages: str, present: bool) -> None:
    """Installs `packages` unless the caller found what they provide.

    "one | other", as in the dependencies of a package, is the first that this system has.
    """
    if present:
        return
    wanted = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise Failure(f"this machine lacks {wanted}, and it has no apt-get; install the equivalent and try again")
    with cache.lock("apt"), step(f"installing {wanted} with apt-get (needs root)"):
        _apt_get(wanted, "update")
        chosen = [_choose(alternatives.split(" | ")) for alternatives in packages]
        _apt_get(wanted, "install", "--yes", "--no-install-recommends", *chosen)


def _apt_get(wanted: str, verb: str, *arguments: str) -> None:
    """Runs apt-get as root. Waits while another package manager holds a lock: a fresh Ubuntu runs its own upgrades."""
    command = [*_as_root(wanted), "apt-get", verb, *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    what, advice = f"apt-get {verb}", f"install {wanted} by hand and try again"
    deadline = time.monotonic() + _LOCK_SECONDS
    waits = False
    while True:
        code, output = run_captured(command, what=what, advice=advice, env=environment)
        if not code:
            return
        held = _HELD.search(output)
        if held is None or time.monotonic() > deadline:
            sys.stderr.write(output)
            raise Failure(f"{what} failed with exit code {code} (output above); {advice}")
        if not waits:
            say(f"waiting for another package manager, {held[2] or 'which'} holds {held[1]} ...")
            waits = True
        time.sleep(_LOCK_PAUSE)


# What apt-get says of a lock, and of the process that holds it, with LC_ALL=C.
_HELD = re.compile(r"Could not get lock (/[\w/.-]*[\w-])(?:\. It is held by (process \d+ \([^)]*\)))?")
_LOCK_SECONDS = 1800.0
_LOCK_PAUSE = 3.0


def _choose(alternatives: Sequence[str]) -> str:
    """Returns the first package that this system's index has; the last of all if it has none of the others."""
    for package in alternatives[:-1]:
        code, output = run_captured(
            ["apt-cache", "policy", package],
            what="apt-cache policy",
            advice="check this machine's apt",
            env={**os.environ, "LC_ALL": "C"},
        )
        if not code and "Candidate: " in output and "Candidate: (none)" not in output:
            return package
    return alternatives[-1]


def _as_root(wanted: str) -> list[str]:
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo"):
        return ["sudo", "--preserve-env=DEBIAN_FRONTEND,LC_ALL"]
    raise Failure(f"this machine lacks {wanted}; run `apt-get install {wanted}` as root and try again")


def need_cross_compiler() -> None:
    present = all(map(shutil.which, (CROSS_COMPILER, "ccache")))
    need("gcc-mingw-w64-x86-64", "ccache", present=present)


def fetch_binary_package(package: str, into: Path, suites: Sequence[str] = ("testing", "unstable")) -> Path:
    """Downloads a package of another Debian, without installing it or touching this machine's apt configuration.

    apt checks the file against the suite's signed index; a pinned hash of our own would break with every update of it.
    The first of the suites that has the package is taken.
    """
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    need("debian-archive-keyring", present=keyring.exists())
    for suite in suites[:-1]:
        try:
            return _fetch_from_suite(suite, keyring, package, into / suite)
        except Failure:
            pass
    return _fetch_from_suite(suites[-1], keyring, package, into / suites[-1])


def _fetch_from_suite(suite: str, keyring: Path, package: str, into: Path) -> Path:
    for folder in ("lists/partial", "archives/partial"):
        (into / folder).mkdir(parents=True)
    sources = into / "sources.list"
    sources.write_text(f"deb [arch=amd64 signed-by={keyring}] http://deb.debian.org/debian {suite} main\n")
    options = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": into / "lists",
        "Dir::State::Status": "/dev/null",
        "Dir::Cache": into,
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        # A mirror that lags behind will do; what it has is signed all the same.
        "Acquire::Check-Valid-Until": "false",
    }
    apt = ["apt-get", *(f"--option={name}={value}" for name, value in options.items())]
    advice = "check the network and try again"
    run_quietly([*apt, "update"], what="reading Debian's package index", advice=advice)
    run_quietly([*apt, "download", package], what=f"downloading {package} from Debian", advice=advice, cwd=into)
    (file,) = into.glob("*.deb")
    return file
