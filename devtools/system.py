"""Packages of the Debian or Ubuntu this runs on, installed when they are missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from . import cache
from .ui import Failure, run_quietly, step

CROSS_COMPILER = "x86_64-w64-mingw32-gcc"
MSVC_PACKAGE = "clang-tools-16"  # clang-cl, clang that is called like MSVC's compiler


def need(*packages: str, present: bool) -> None:
    """Installs `packages` unless the caller found what they provide."""
    if present:
        return
    wanted = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise Failure(f"this machine lacks {wanted}, and it has no apt-get; install the equivalent and try again")
    with cache.lock("apt"), step(f"installing {wanted} with apt-get (needs root)"):
        advice = f"install {wanted} by hand and try again"
        run_quietly([*_as_root(wanted), "apt-get", "update"], what="apt-get update", advice=advice)
        install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
        noninteractive = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run_quietly([*_as_root(wanted), *install], what="apt-get install", advice=advice, env=noninteractive)


def _as_root(wanted: str) -> list[str]:
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo"):
        return ["sudo", "--preserve-env=DEBIAN_FRONTEND"]
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
