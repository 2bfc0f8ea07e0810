"""Building tpio for a Windows Python, so that it can be imported there: by cross compilation, or natively on Windows.

A build is named by a hash of what went into it, so it is made once, whichever checkout asks; a change in Python files
alone reuses the compiled extension.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from . import cache, native, pythons, toolchains, tools, wine
from .pythons import Version
from .ui import run_quietly, say, step
from .variants import PLAIN, Variant

CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Cross:
    """What makes the host's setuptools produce an extension for `version`."""

    version: Version
    variant: Variant

    @cached_property
    def toolchain(self) -> toolchains.Gcc | toolchains.Msvc:
        return (toolchains.Msvc if self.variant.msvc else toolchains.Gcc)(self.version)

    @property
    def suffix(self) -> str:
        return f".{self.version.abi}-win_amd64.pyd"

    def sysconfig(self) -> str:
        """The source of the module in which a Python for a foreign platform describes itself."""
        home = pythons.home(self.version)
        extra = " ".join([*(f"-D{define}" for define in self.variant.defines), *self.variant.flags, _more_flags()])
        # The symbol table is dropped unless somebody wants to debug.
        shared = f"{self.toolchain.linker} {extra}" + ("" if "-g" in extra.split() else " -s")
        defines = "-DPy_GIL_DISABLED=1" if self.version.free_threaded else ""
        variables = {
            "CC": self.toolchain.compiler,
            "CXX": self.toolchain.compiler,  # there is no C++
            "LDSHARED": shared,
            "BLDSHARED": shared,
            "LDCXXSHARED": shared,
            "CFLAGS": f"-O2 -fno-strict-aliasing {self.toolchain.flags} {defines} {extra}",
            "CCSHARED": "",
            "AR": "x86_64-w64-mingw32-ar",
            "ARFLAGS": "rcs",
            "SHLIB_SUFFIX": ".pyd",
            "EXT_SUFFIX": self.suffix,
            "SOABI": f"{self.version.abi}-win_amd64",
            "VERSION": self.version.number,
            "py_version_nodot": self.version.nodot,
            "INCLUDEPY": str(home / "include"),
            "Py_GIL_DISABLED": int(self.version.free_threaded),
            "Py_DEBUG": 0,
        }
        return f"build_time_vars = {variables!r}\n"

    def environment(self, folder: Path) -> dict[str, str]:
        return {
            **{
                name: value for name, value in os.environ.items() if name not in ("CC", "CFLAGS", "LDFLAGS", "LDSHARED")
            },
            "_PYTHON_SYSCONFIGDATA_NAME": "_sysconfigdata_cross",
            "_PYTHON_HOST_PLATFORM": "win-amd64",
            "PYTHONPATH": str(folder),
            "SETUPTOOLS_EXT_SUFFIX": self.suffix,
            "CCACHE_DIR": str(cache.root() / "ccache"),
            "CCACHE_BASEDIR": str(folder),
            "CCACHE_NOHASHDIR": "1",
        }

    def prepare(self, folder: Path) -> None:
        """Adds the cross configuration to a copy of the sources."""
        home = pythons.home(self.version)
        (folder / "_sysconfigdata_cross.py").write_text(self.sysconfig())
        objects = " ".join(map(str, self.toolchain.link_objects))
        (folder / "setup.cfg").write_text(f"[build_ext]\ninclude_dirs = {home / 'include'}\nlink_objects = {objects}\n")


def site(version: Version, variant: Variant = PLAIN) -> Path:
    """A folder that, on the Windows Python's path, makes this checkout's tpio importable."""
    extension = _extension(version, variant)
    package = [file for file in (CHECKOUT / "tpio").rglob("*") if _is_source(file)]
    identity = cache.files_fingerprint(CHECKOUT, package, extension.name, _project_version())

    def fill(into: Path) -> None:
        for file in package:
            target = into / file.relative_to(CHECKOUT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
        (into / "tpio").mkdir(exist_ok=True)
        for file in extension.glob("*.pyd"):
            shutil.copy2(file, into / "tpio")
        # Enough metadata for importlib.metadata to find the version.
        metadata = into / f"tpio-{_project_version()}.dist-info/METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: tpio\nVersion: {_project_version()}\n")

    folder = cache.make(cache.root() / "builds" / f"site-{version.name}-{identity}", fill)
    for used in (extension, folder):
        os.utime(used)
    cache.prune(folder.parent)
    return folder


def _extension(version: Version, variant: Variant) -> Path:
    """A folder with the compiled extension."""
    sources = extension_sources()
    identity = cache.files_fingerprint(CHECKOUT, sources, _recipe(version, variant), _build_tools())

    def fill(into: Path) -> None:
        generated = generated_c()
        with step(f"compiling tpio for Python {version.name}"):
            work = into / "work"
            copy_sources(work, sources)
            shutil.copy(generated, work / "src")  # newer than its sources, so not made again
            command = ["setup.py", "build_ext", "--build-lib", "lib", "--build-temp", "temp"]
            log = run_in_build_environment(version, command, work, variant)
            (built,) = (work / "lib").rglob("*.pyd")
            built.rename(into / built.name)
            shutil.rmtree(work)
        for line in log.splitlines():
            if "warning" in line and line.startswith("src"):
                say(line)

    return cache.make(cache.root() / "builds" / f"extension-{version.name}-{identity}", fill)


def examples(version: Version, variant: Variant = PLAIN) -> Path:
    """A folder with the compiled extension modules of examples/, which use the C API."""
    folders = sorted(setup.parent for setup in (CHECKOUT / "examples").glob("*/setup.py"))
    return _small_extensions("the examples of the C API", folders, version, variant)


def benchmarks(version: Version) -> Path:
    """A folder with the extension module that does the benchmarks' workloads on the C API."""
    return _small_extensions("the benchmarks on the C API", [CHECKOUT / "benchmarks" / "capi"], version, PLAIN)


def planted(version: Version, variant: Variant) -> Path:
    """A folder with the extension module whose functions are mistakes that a variant has to notice."""
    return _small_extensions("the planted mistakes", [CHECKOUT / "devtools" / "planted"], version, variant)


def _small_extensions(what: str, folders: list[Path], version: Version, variant: Variant) -> Path:
    api = [*(CHECKOUT / "tpio" / "include").glob("*.h"), *(CHECKOUT / "tpio").glob("*.pxd")]
    api.append(CHECKOUT / "tpio" / "__init__.py")  # makes it a package for Cython, and is not run
    sources = [file for folder in folders for file in folder.iterdir() if _is_source(file)]
    identity = cache.files_fingerprint(CHECKOUT, [*sources, *api], _recipe(version, variant), _build_tools())

    def fill(into: Path) -> None:
        with step(f"compiling {what} for Python {version.name}"):
            for folder in folders:
                work = into / "work"
                copy_sources(work, api)
                for file in filter(_is_source, folder.iterdir()):
                    shutil.copy2(file, work)
                command = ["setup.py", "build_ext", "--build-lib", "lib", "--build-temp", "temp"]
                run_in_build_environment(version, command, work, variant)
                for built in (work / "lib").glob("*.pyd"):
                    built.rename(into / built.name)
                shutil.rmtree(work)

    return cache.make(cache.root() / "builds" / f"{folders[0].parent.name}-{version.name}-{identity}", fill)


def _more_flags() -> str:
    return os.environ.get("TPIO_CFLAGS", "")


def _recipe(version: Version, variant: Variant) -> str:
    """Whatever makes the compiled code another one, besides its sources."""
    return repr(_msvc_flags(variant)) if wine.NATIVE else Cross(version, variant).sysconfig()


def _msvc_flags(variant: Variant) -> str:
    return " ".join([*(f"/D{define}" for define in variant.defines), _more_flags()])


def run_in_build_environment(version: Version, command: list[str], work: Path, variant: Variant = PLAIN) -> str:
    """Runs the Python of the build tools in `work`, a copy of the sources, set up to build for `version`."""
    if wine.NATIVE:
        python = native.python(version)
        environment = {**os.environ, "CL": _msvc_flags(variant)}
        tools_of_windows = "the Visual C++ Build Tools (MSVC and the Windows SDK)"
        advice = f"correct the errors above; if it is the compiler that is missing, install {tools_of_windows}"
    else:
        python = tools.venv("build")
        cross = Cross(version, variant)
        cross.toolchain.need()
        cross.prepare(work)
        environment = cross.environment(work)
        advice = "correct the errors above"
    return run_quietly([python, *command], what="the build", advice=advice, cwd=work, env=environment)


def generated_c() -> Path:
    """What Cython makes of the binding: the same C file for every Python."""
    sources = extension_sources()
    cython = [file for file in sources if file.suffix in (".pyx", ".pxd", ".pxi", ".py")]
    identity = cache.files_fingerprint(CHECKOUT, cython, _build_tools())

    def fill(into: Path) -> None:
        with step("translating the binding with Cython"):
            copy_sources(into, sources)
            # setup.py calls Cython before it looks at its command.
            command = [tools.venv("build"), "setup.py", "--quiet", "--version"]
            log = run_quietly(command, what="Cython", advice="correct the errors above", cwd=into)
        for line in log.splitlines():
            if line.startswith(("warning", "performance hint")):
                say(line)

    return cache.make(cache.root() / "builds" / f"cython-{identity}", fill) / "src" / "_tpio.c"


def extension_sources() -> list[Path]:
    folders = [CHECKOUT / "src", CHECKOUT / "tpio" / "include"]
    sources = [file for folder in folders for file in folder.rglob("*") if _is_source(file)]
    return [*sources, *(CHECKOUT / "tpio").glob("*.pxd"), CHECKOUT / "setup.py"]


def _build_tools() -> str:
    return (tools.REQUIREMENTS / "build.txt").read_text()


def copy_sources(work: Path, sources: list[Path]) -> None:
    for file in sources:
        target = work / file.relative_to(CHECKOUT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)


def _is_source(file: Path) -> bool:
    generated = file.suffix in (".pyc", ".pyd", ".html", ".o", ".obj") or file.name == "_tpio.c"
    return file.is_file() and not generated


def _project_version() -> str:
    """Returns `__version__` of the package, which the packaging reads too."""
    text = (CHECKOUT / "tpio" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    assert found is not None
    return found[1]
