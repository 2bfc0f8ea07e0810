"""Ways to build and run tpio that show what the ordinary way hides.

A variant is one value: the build reads what it says of compilers, the run what it says of running. Several are added to
one, so that `--heap --ubsan` is a variant too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Variant:
    help: str = ""
    # Built by clang in its MSVC mode, not by GCC.
    msvc: bool = False
    # Macros that every C file is compiled with: the core, the binding and the examples.
    defines: tuple[str, ...] = ()
    # More flags for the compiler that builds for Windows elsewhere, GCC or clang.
    flags: tuple[str, ...] = ()
    # For the processes of the run.
    environment: Mapping[str, str] = field(default_factory=dict)
    # On top of that, if the Python is a free-threaded one.
    free_threaded: Mapping[str, str] = field(default_factory=dict)
    # The Wine prefix of the run has these values in its registry: (key, name, number). It is one of its own.
    registry: tuple[tuple[str, str, int], ...] = ()
    # Channels of Wine's diagnostics that are switched on, and what in them, or in anything on standard error, fails the run.
    wine_debug: tuple[str, ...] = ()
    findings: str = ""
    # Arguments of pytest, before those that the caller has.
    pytest: tuple[str, ...] = ()
    # Why there is no such variant on Windows itself, and what to do instead.
    on_windows: str = ""
    # Functions of devtools/planted, each a mistake: before the tests, one run of each has to fail.
    planted: tuple[str, ...] = ()

    def __add__(self, other: Variant) -> Variant:
        return Variant(
            help=" and ".join(filter(None, (self.help, other.help))),
            msvc=self.msvc or other.msvc,
            defines=self.defines + other.defines,
            flags=self.flags + other.flags,
            environment={**self.environment, **other.environment},
            free_threaded={**self.free_threaded, **other.free_threaded},
            registry=self.registry + other.registry,
            wine_debug=self.wine_debug + other.wine_debug,
            findings="|".join(filter(None, (self.findings, other.findings))),
            pytest=self.pytest + other.pytest,
            on_windows=self.on_windows or other.on_windows,
            planted=self.planted + other.planted,
        )


PLAIN = Variant()

_IMAGE_OPTIONS = r"HKLM\Software\Microsoft\Windows NT\CurrentVersion\Image File Execution Options"

# For `python dev.py cost`.
COUNTING = Variant("what operations cost is counted: tests/cost.py", defines=("TPIO_COUNTS",))

# By the option of dev.py that asks for it.
VARIANTS = {
    "--heap": Variant(
        "a write past a block of the heap, or to a freed one, or freeing it twice, fails the run",
        # So that Python's objects are such blocks: an operation lives in its future. Without a GIL they cannot be. Either
        # way Python itself looks at what is before and behind an object when that is freed.
        environment={"PYTHONMALLOC": "malloc_debug"},
        free_threaded={"PYTHONMALLOC": "debug"},
        # Check the bytes behind a block (0x10), those of a free one (0x20), and parameters (0x40). The whole heap in each
        # of its calls (0x80) would be too much: pytest alone then takes minutes to start.
        registry=((f"{_IMAGE_OPTIONS}\\python.exe", "GlobalFlag", 0x70),),
        wine_debug=("err+heap", "warn+heap"),
        # That there is no room for what somebody asked for is no mistake.
        findings=r"err:heap:|warn:heap:(?!\w+ Could not)|Debug memory block at address",
        # Python's last words before it aborts are not to be captured.
        pytest=("-p", "devtools.noting", "--capture=sys"),
        on_windows="let `gflags /p /enable python.exe /full`, as administrator, do it, and run the ordinary tests",
        planted=("write_past_end", "write_past_object", "write_after_free", "free_twice"),
    ),
    "--ubsan": Variant(
        "undefined behaviour in the C ends the process",
        # GCC's words, which clang understands too.
        flags=("-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"),
        on_windows="MSVC has no such check",
        planted=("signed_overflow",),
    ),
    "--faults": Variant(
        "each Win32 call of tpio, and each allocation, can be made to fail: tests/test_faults.py",
        defines=("TPIO_FAULTS",),
        planted=("expect_success",),
    ),
    "--msvc": Variant(
        "built as MSVC would take the code, by clang",
        msvc=True,
        on_windows="every build is MSVC's",
    ),
}
