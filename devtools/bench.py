"""The benchmark runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from . import build, cache, frameworks, interpreter, native, system, wine
from .pythons import Version
from .ui import run_quietly, step

_HEADERS = build.CHECKOUT / "tpio" / "include"


def run(version: Version, args: Sequence[str]) -> int:
    """Runs benchmarks/, which finds the compiled plain C programs it compares with in TPIO_BENCH_FLOOR."""
    # Peers: winloop is among the frameworks.
    peers = interpreter.compiled_packages("bench", version)
    # What pywin32 would add to the path, if it were installed in the ordinary way.
    packages = (peers, peers / "win32", peers / "win32" / "lib")
    python = frameworks.get(version).with_packages(*packages, build.benchmarks(version))
    return python.run(["-m", "benchmarks", *args], TPIO_BENCH_FLOOR=wine.windows_path(_floor()))


def _floor() -> Path:
    folder = build.CHECKOUT / "benchmarks" / "floor"
    sources = sorted(folder.glob("*.[ch]")) + sorted(_HEADERS.glob("*.h"))

    def compile_all(into: Path) -> None:
        with step("compiling the C programs of the benchmarks"):
            for source in sorted(folder.glob("*.c")):
                _compile(source, into / f"{source.stem}.exe")
                _compile(source, into / f"{source.stem}-port.exe", "FLOOR_PORT")

    return cache.make(
        cache.root() / "builds" / f"floor-{cache.files_fingerprint(build.CHECKOUT, sources)}", compile_all
    )


def _compile(source: Path, target: Path, *more_defines: str) -> None:
    libraries = ("ws2_32", "mswsock", "advapi32", "ntdll", "synchronization")
    defines = ("WIN32_LEAN_AND_MEAN", "_WIN32_WINNT=0x0A00", "NOMINMAX", "UNICODE", *more_defines)
    if wine.NATIVE:
        options = ("/std:c11", *(f"/D{name}" for name in defines))
        native.compile_program(source, target, options=options, include_dirs=[_HEADERS], libraries=libraries)
        return
    system.need_cross_compiler()
    options = ("-std=gnu11", "-O2", "-s", "-static-libgcc", *(f"-D{name}" for name in defines), f"-I{_HEADERS}")
    command = [system.CROSS_COMPILER, *options, source, "-o", target, *(f"-l{name}" for name in libraries)]
    run_quietly(command, what=f"compiling {source.name}", advice="correct the errors above", cwd=target.parent)
