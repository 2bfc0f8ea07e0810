"""Running Windows programs: directly on Windows, through Wine elsewhere.

Wine's Python cannot use file handles as its standard streams, so both outputs are pipes, pumped here; that also lets
output written with Windows line ends arrive with the host's.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from . import cache, system
from .findings import Sieve
from .ui import Failure, run_quietly, say, step
from .variants import PLAIN, Variant

NATIVE = sys.platform == "win32"

_RUN_MARK = "TPIO_DEV_RUN"
# Wine's own helpers are started by whichever program comes first and serve all: killing a run must spare them.
_WINE_SERVICES = (
    "wineserver",
    "wineserver64",
    "wineserver32",
    "services.exe",
    "winedevice.exe",
    "plugplay.exe",
    "svchost.exe",
    "explorer.exe",
    "rpcss.exe",
)


_LOOK = 5.0  # seconds between one look at Wine's server and the next


class ServerCrashed(Failure):
    """Wine's server, through which its processes do everything, is gone; they would wait for ever."""


def windows_path(path: Path) -> str:
    """How a Windows program names a file of this machine."""
    return str(path) if NATIVE else "Z:" + str(path.absolute()).replace("/", "\\")


def run(
    program: Path,
    args: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    variant: Variant = PLAIN,
) -> int:
    """Runs a Windows program with this terminal's output; returns its exit code, or 1 if that is 0 in spite of a finding
    of the variant.

    Whatever ends the run, an interrupt too, ends the processes that it started.
    """
    code, found = _run([str(program), *args], env, cwd, variant, sys.stdout.buffer, sys.stderr.buffer)
    if found:
        say(f"the run said {found} times what it must not say, /{variant.findings}/: see above")
    return code


def capture(program: Path, args: Sequence[str], *, env: Mapping[str, str], variant: Variant = PLAIN) -> tuple[int, str]:
    """Like `run`, but gives standard output and error as text instead of showing them."""
    collected = io.BytesIO()
    code, _ = _run([str(program), *args], env, None, variant, collected, collected)
    return code, collected.getvalue().decode("utf-8", "replace")


def _run(
    command: list[str],
    env: Mapping[str, str],
    cwd: Path | None,
    variant: Variant,
    out: IO[bytes],
    err: IO[bytes],
) -> tuple[int, int]:
    """(exit code, number of findings)."""
    sieve = Sieve(err, variant.findings)
    environment = {**env} if NATIVE else {**env, **_wine_environment(variant)}
    code = _pump(command, environment, cwd, out, sieve)
    sieve.close()
    return code or (1 if sieve.found else 0), sieve.found


def _pump(
    command: list[str],
    env: Mapping[str, str],
    cwd: Path | None,
    out: IO[bytes],
    err: IO[bytes] | Sieve,
) -> int:
    mark = uuid.uuid4().hex
    environment = {**env, _RUN_MARK: mark}
    if not NATIVE:
        command = [*_wine(), *command]
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=None if NATIVE else _prepare,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    pumps = [
        threading.Thread(target=_copy, args=(source, sink), daemon=True)
        for source, sink in ((process.stdout, out), (process.stderr, err))
    ]
    for pump in pumps:
        pump.start()
    try:
        code = process.wait() if NATIVE else _wait(process, environment)
        for pump in pumps:
            pump.join(timeout=5)  # a child that was left behind may hold the pipes open
    finally:
        _kill_run(process, mark)
        for pump, source in zip(pumps, (process.stdout, process.stderr), strict=True):
            pump.join(timeout=5)
            if not pump.is_alive():
                source.close()
    return code if code >= 0 else 128 - code


def _wait(process: subprocess.Popen[bytes], env: Mapping[str, str]) -> int:
    """The exit code. Now and then, once in 37,000 tests, the server of Wine 8 corrupts its memory and aborts."""
    seen, missing = False, 0
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(_LOOK)
        there = _server_runs(env["WINEPREFIX"])
        seen = seen or there
        missing = 0 if there else missing + 1
        if seen and missing == 2:  # once: a run that ends takes its server with it
            raise ServerCrashed("Wine's server has crashed (it may have said why, above); run it again")


def _server_runs(prefix: str) -> bool:
    for process in _processes_with(f"WINEPREFIX={prefix}"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().startswith("wineserver"):
                return True
    return False


def _processes_with(setting: str) -> Iterator[Path]:
    """Folders of /proc: of the processes that have this in their environment, NAME=VALUE."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if setting.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    yield entry


def _prepare() -> None:
    """Runs in the child, before it becomes Wine; what is inherited goes on to all that Wine starts."""
    libc = ctypes.CDLL(None)
    # It shall not survive a dev.py that is killed outright and cannot clean up.
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG
    libc.prctl(set_parent_death_signal, signal.SIGKILL)
    # Wine's loader is at 0x7d000000, and the kernel begins the heap somewhere in the gigabyte behind it: in one of some
    # thousand processes where Wine 8 needs the page at 0x7ffe0000. That process ends at once ("Internal error", 1359).
    no_randomization = 0x0040000  # ADDR_NO_RANDOMIZE; refused in some containers
    libc.personality(libc.personality(0xFFFFFFFF) | no_randomization)


def _copy(source: IO[bytes], sink: IO[bytes] | Sieve) -> None:
    held = b""  # a carriage return at the end of a block may be half of a line end
    while block := os.read(source.fileno(), 65536):
        if not NATIVE:
            block = (held + block).replace(b"\r\n", b"\n")
            held = b"\r" if block.endswith(b"\r") else b""
            block = block[: len(block) - len(held)]
        _write(sink, block)
    _write(sink, held)


def _write(sink: IO[bytes] | Sieve, block: bytes) -> None:
    # Whoever reads our output may have had enough of it; the program's pipe is emptied all the same.
    with contextlib.suppress(BrokenPipeError):
        sink.write(block)
        sink.flush()


def _kill_run(process: subprocess.Popen[bytes], mark: str) -> None:
    """Ends what is left of a run: children of a Wine process are not children of ours, but they inherit the mark."""
    if NATIVE:
        if process.poll() is None:
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True)
        return
    if process.poll() is None:
        process.kill()
        process.wait()
    for entry in _processes_with(f"{_RUN_MARK}={mark}"):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace").lower()
            if not command.endswith(_WINE_SERVICES):
                os.kill(int(entry.name), signal.SIGKILL)


def _wine() -> list[str]:
    return shlex.split(os.environ.get("TPIO_WINE", "wine"))


def _wine_environment(variant: Variant) -> dict[str, str]:
    # Each Wine has a prefix of its own: a newer one would convert an older one's for good.
    prefix = cache.root() / f"prefix-{cache.fingerprint(*_wine(), *map(repr, variant.registry))}"
    # No diagnostics, and none of the parts that would ask about Mono, Gecko or a desktop menu.
    quiet = {"WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe="}
    environment = {"WINEPREFIX": str(prefix)} | {name: os.environ.get(name, value) for name, value in quiet.items()}
    environment["WINEDEBUG"] = ",".join((environment["WINEDEBUG"], *variant.wine_debug))
    return environment


def set_up(variant: Variant = PLAIN) -> None:
    """Installs Wine if need be and makes its prefix."""
    if NATIVE:
        return
    command = _wine()
    if "TPIO_WINE" in os.environ:
        if not command or shutil.which(command[0]) is None:
            raise Failure("the command in TPIO_WINE cannot be found; correct it, or unset it to use the system's Wine")
    else:
        system.need("wine", "wine64", present=shutil.which("wine") is not None)
    environment = _wine_environment(variant)
    prefix = Path(environment["WINEPREFIX"])
    stamp = prefix / "complete"
    if not stamp.exists():
        with cache.lock(prefix.name):
            if not stamp.exists():
                with step("creating the Wine prefix"):
                    shutil.rmtree(prefix, ignore_errors=True)
                    settings = [
                        ["reg", "add", key, "/v", name, "/t", "REG_DWORD", "/d", str(number), "/f"]
                        for key, name, number in variant.registry
                    ]
                    for each in (["wineboot", "--init"], *settings):
                        run_quietly(
                            [*command, *each],
                            env={**os.environ, **environment},
                            what=each[0],
                            advice="check that this Wine runs 64-bit programs",
                        )
                    stamp.touch()
