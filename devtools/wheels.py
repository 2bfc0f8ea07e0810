"""Wheels, and the promises about them: small, complete, and needing nothing that Windows and Python do not bring."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

from . import build, cache, dlls, interpreter
from .pythons import Version
from .ui import Failure, say, step

MAX_BYTES = 600_000

_SYSTEM_DLLS = {"advapi32.dll", "bcrypt.dll", "crypt32.dll", "kernel32.dll", "mswsock.dll", "ntdll.dll", "ws2_32.dll"}
_SYSTEM_DLLS |= {"secur32.dll", "sspicli.dll"}
_C_RUNTIME = {"msvcrt.dll", "ucrtbase.dll", "vcruntime140.dll", "vcruntime140_1.dll"}


def run(versions: Sequence[Version]) -> int:
    dist = build.CHECKOUT / "dist"
    dist.mkdir(exist_ok=True)
    for version in interpreter.available(versions):
        with step(f"building the wheel for Python {version.name}"):
            wheel = _build(version, dist)
        imports = check(wheel)
        say(
            f"{wheel.relative_to(build.CHECKOUT)}: {wheel.stat().st_size:,} bytes, imports {', '.join(sorted(imports))}"
        )
    return 0


def _build(version: Version, dist: Path) -> Path:
    work = cache.root() / "builds" / f"wheel-{version.name}"
    with cache.lock(work.name):
        shutil.rmtree(work, ignore_errors=True)
        build.copy_sources(work, _package_files())
        backend = "from setuptools import build_meta; build_meta.build_wheel('wheel')"
        build.run_in_build_environment(version, ["-c", backend], work)
        (built,) = (work / "wheel").glob("*.whl")
        wheel = Path(shutil.copy2(built, dist))
        shutil.rmtree(work)
    return wheel


def _package_files() -> list[Path]:
    """The files that git knows or would take; all files where git refuses, as in a checkout of another user."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        found = subprocess.run(listing, cwd=build.CHECKOUT, capture_output=True, check=True, encoding="utf-8")
        files = [build.CHECKOUT / name for name in found.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        relative = ((path, path.relative_to(build.CHECKOUT).parts) for path in build.CHECKOUT.rglob("*"))
        files = [path for path, parts in relative if parts[0] not in (".git", "dist")]
    return [file for file in files if file.is_file()]


def check(wheel: Path) -> set[str]:
    """Fails unless the wheel keeps its promises; returns the DLLs that its extension imports."""
    if wheel.stat().st_size >= MAX_BYTES:
        raise Failure(f"{wheel.name} has {wheel.stat().st_size:,} bytes, which must be less than {MAX_BYTES:,}")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        _check_contents(wheel.name, names)
        (extension,) = (name for name in names if name.endswith(".pyd"))
        image = archive.read(extension)
    if count := dlls.symbols(image):
        raise Failure(f"{wheel.name} has {count:,} symbols, which only a debugger needs; strip {extension}")
    imports = dlls.imports(image)
    python_dll = f"python{wheel.name.split('-')[3].removeprefix('cp')}.dll"
    known = _SYSTEM_DLLS | _C_RUNTIME | {python_dll}
    strangers = {name for name in imports if name not in known and not name.startswith("api-ms-win-")}
    if strangers:
        raise Failure(f"{wheel.name} needs {', '.join(sorted(strangers))}, which neither Windows nor Python brings")
    return imports


def _check_contents(wheel: str, names: set[str]) -> None:
    package = build.CHECKOUT / "tpio"
    wanted = (".py", ".pyi", ".pxd", ".h", ".typed")
    files = {
        file.relative_to(build.CHECKOUT).as_posix()
        for file in package.rglob("*")
        if file.suffix in wanted or file.name == "py.typed"
    }
    if lost := files - names:
        raise Failure(f"{wheel} lacks {', '.join(sorted(lost))}; correct the package data in pyproject.toml")
    extra = {name for name in names - files if ".dist-info/" not in name and not name.endswith(".pyd")}
    if extra:
        raise Failure(f"{wheel} contains {', '.join(sorted(extra))}, which no user needs")
