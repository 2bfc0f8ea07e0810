"""The compilers that build for Windows elsewhere: MinGW's GCC, and clang in its MSVC mode.

clang takes the code as MSVC does, with its macros, its calling conventions and its C runtime, and links it with copies
of Wine's import libraries. It is not MSVC and not the real SDK, but of all that runs here it is the closest.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from . import cache, dlls, pythons, system
from .pythons import Version
from .ui import Failure, run_quietly, step

_WINE_HEADERS = Path("/usr/include/wine/wine")
_WINE_LIBRARIES = Path("/usr/lib/x86_64-linux-gnu/wine/x86_64-windows")

# To be included before all else.
MSVC_GAPS = Path(__file__).with_name("wine_gaps.h")
# MSVC has no C11 atomics unless asked. Wine's winnt.h declares an intrinsic in a way that clang refuses; under another
# name it does no harm.
MSVC_DEFINES = ("__STDC_NO_ATOMICS__=1", "_InterlockedCompareExchange128=wine_InterlockedCompareExchange128")
MSVC_HEADERS = tuple(_WINE_HEADERS / name for name in ("msvcrt", "windows"))


class Gcc:
    """Builds for a version of Python with MinGW."""

    def __init__(self, version: Version) -> None:
        self.compiler = f"ccache {system.CROSS_COMPILER}"
        # 3.11's pyconfig.h knows 64-bit Windows only by MSVC's macros.
        self.flags = "-DMS_WIN64" if version.name == "3.11" else ""
        # MinGW links against a DLL directly, without an import library.
        self.link_objects = [pythons.home(version) / version.dll]
        self.linker = f"{self.compiler} -shared"

    def need(self) -> None:
        system.need_cross_compiler()


class Msvc:
    """Builds for a version of Python with clang in MSVC mode."""

    _TARGET = "--target=x86_64-pc-windows-msvc"

    def __init__(self, version: Version) -> None:
        self.need()
        folder = self._libraries(version)
        clang = f"{_clang()} {self._TARGET}"
        headers = " ".join(f"-isystem {header}" for header in MSVC_HEADERS)
        defines = " ".join(f"-D{define}" for define in MSVC_DEFINES)
        self.compiler = f"ccache {clang} -Xclang -nobuiltininc {headers} {defines} -include {folder / MSVC_GAPS.name}"
        # What clang thinks of Cython's style is nobody's concern; by this way the words come after setup.py's -Wall.
        self.flags = "-Xclang -Wno-unused-but-set-variable -Xclang -Wno-unused-function"
        self.link_objects = [folder / name for name in ("start.obj", _import_library(version))]
        libraries = "-lucrtbase -lvcruntime140 -lkernel32"
        self.linker = f"{clang} -shared -fuse-ld={_lld_link()} -nostdlib -L{folder} {libraries}"

    def need(self) -> None:
        system.need_cross_compiler()  # for its dlltool and for ccache
        need_msvc_mode()
        system.need(system.LINKER_PACKAGE, present=_lld_link() != "")

    def _libraries(self, version: Version) -> Path:
        """A folder with everything to link with, under the names that MSVC knows, and the header of gaps."""
        dll = pythons.home(version) / version.dll
        identity = cache.fingerprint(str(dll), MSVC_GAPS.read_text(), _START, repr(_LIBRARIES))

        def fill(into: Path) -> None:
            with step(f"preparing libraries in MSVC's format for Python {version.name}"):
                for name, of_wine in _LIBRARIES.items():
                    shutil.copy(_WINE_LIBRARIES / f"lib{of_wine}.a", into / f"{name}.lib")
                shutil.copy(MSVC_GAPS, into)
                definition = into / "python.def"
                definition.write_text(f"LIBRARY {version.dll}\nEXPORTS\n" + "\n".join(dlls.exports(dll.read_bytes())))
                library = into / _import_library(version)
                command = ["x86_64-w64-mingw32-dlltool", "-d", definition, "-l", library]
                run_quietly(command, what="dlltool", advice="reinstall binutils-mingw-w64-x86-64")
                start = into / "start.c"
                start.write_text(_START)
                compile_start = [_clang(), self._TARGET, "-O2", "-c", start, "-o", into / "start.obj"]
                run_quietly(compile_start, what="clang", advice="reinstall clang")

        return cache.make(cache.root() / "builds" / f"msvc-{version.name}-{identity}", fill)


# What MSVC calls a library, and what Wine does.
_LIBRARIES = {
    **{name: name for name in ("advapi32", "kernel32", "mswsock", "ntdll", "ucrtbase", "vcruntime140", "ws2_32")},
    "synchronization": "kernelbase",
}

# The part of MSVC's static runtime that a DLL without initializers needs.
_START = """\
int _fltused = 0x9875;
int __stdcall _DllMainCRTStartup(void *module, unsigned long reason, void *reserved)
{
    (void)module;
    (void)reason;
    (void)reserved;
    return 1;
}
"""


def _import_library(version: Version) -> str:
    return Path(version.dll).with_suffix(".lib").name


def need_msvc_mode() -> None:
    wine = _WINE_HEADERS.exists() and (_WINE_LIBRARIES / "libucrtbase.a").exists()
    system.need(system.MSVC_PACKAGE, "libwine-dev", present=clang_cl() is not None and wine)


def clang_cl() -> str | None:
    return next(filter(None, (shutil.which(f"clang-cl{suffix}") for suffix in _SUFFIXES)), None)


def _clang() -> str:
    """The clang that is clang-cl when it is called so."""
    found = clang_cl()
    clang = found and shutil.which(found.replace("clang-cl", "clang"))
    if clang is None:
        raise Failure("there is a clang-cl but no clang of that version; install it")
    return clang


def _lld_link() -> str:
    """Its name, by which clang finds it; "" if there is none."""
    return next((name for suffix in _SUFFIXES if shutil.which(name := f"lld-link{suffix}")), "")


_SUFFIXES = ("-16", "-18", "-19", "")
