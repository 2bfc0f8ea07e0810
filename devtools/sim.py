"""The C core against a simulated Windows (tests/win32sim): random schedules under sanitizers, and the proof that the
simulation notices when a protective line of the core is missing."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import cache, native, system, wine
from .ui import Failure, run_quietly, say, step

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "src"
HEADERS = ROOT / "tpio" / "include"
SIM = ROOT / "tests" / "win32sim"
ANSWERS = SIM / "conformance.txt"
REPORT = ROOT / "docs" / "mutations.md"
CORE_FILES = ("core", "op", "handle", "pool", "timer", "work", "wait", "poll", "pump")
SIM_FILES = ("scheduler", "process", "kernel", "threadpool", "memory")
PROGRAM_FILES = ("schedule", "schedule_operations", "schedule_handles", "schedule_pumps", "main")
MUTATION_SECONDS = 40
_ENVIRONMENT = {"TSAN_OPTIONS": "halt_on_error=1"}


@dataclass(frozen=True)
class Sanitizer:
    flags: tuple[str, ...]
    free: bool = False  # real threads, which nobody schedules: see tests/win32sim/scheduler.h


SANITIZERS = {
    "asan": Sanitizer(("-fsanitize=address,undefined", "-fno-sanitize-recover=all")),  # finds leaks too
    "ubsan": Sanitizer(("-fsanitize=undefined", "-fno-sanitize-recover=all")),
    "lsan": Sanitizer(("-fsanitize=leak",)),
    "tsan": Sanitizer(("-fsanitize=thread", "--param", "tsan-distinguish-volatile=1"), free=True),
    "none": Sanitizer(()),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=20, help="how long to try seeds (default: %(default)s)")
    parser.add_argument("--start", type=int, default=1, help="the first seed (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="run this one schedule, with a trace of its calls")
    parser.add_argument("--threads", type=int, help="as reported with a failing seed")
    parser.add_argument("--steps", type=int, help="as reported with a failing seed")
    parser.add_argument("--faults", type=int, help="as reported with a failing seed")
    parser.add_argument("--sanitizer", choices=[*SANITIZERS, "all"], default="asan", help="(default: %(default)s)")
    parser.add_argument("--mutations", action="store_true", help="take each protective line away; write the table")
    parser.add_argument("--only", help="with --mutations: a part of a name or file; the table stays as it is")
    parser.add_argument("--conformance", action="store_true", help="hold the simulation against Windows or Wine")
    parser.add_argument("--write", action="store_true", help="with --conformance: record the simulation's answers")


def run(options: argparse.Namespace) -> int:
    if wine.NATIVE:
        if options.conformance and not options.write:
            return _conformance(write=False)
        raise Failure("the simulation takes the place of Windows and runs on Linux only; --conformance runs here too")
    system.need("gcc", "libc6-dev", present=shutil.which("gcc") is not None)
    if options.mutations:
        return _mutations(options.only)
    if options.conformance:
        return _conformance(write=options.write)
    chosen = list(SANITIZERS)[:-1] if options.sanitizer == "all" else [options.sanitizer]
    sizes = [
        part
        for name in ("threads", "steps", "faults")
        if (value := getattr(options, name)) is not None
        for part in (f"--{name}", str(value))
    ]
    code = 0
    for name in chosen:
        program = _program(SANITIZERS[name])
        if options.seed is not None:
            code |= _start([program, "--seed", str(options.seed), *sizes]).wait()
        else:
            say(f"random schedules, sanitizer {name}, {options.seconds:g} s")
            code |= _campaign(program, options.start, options.seconds, sizes)
    return 1 if code else 0


def _start(command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([str(part) for part in command], env={**os.environ, **_ENVIRONMENT})


def _campaign(program: Path, start: int, seconds: float, sizes: Sequence[str]) -> int:
    """One process for each processor, far apart in the seeds."""
    processes = [
        _start([program, "--start", str(start + i * 1_000_000_000), "--seconds", str(seconds), *sizes])
        for i in range(os.cpu_count() or 1)
    ]
    return max([process.wait() for process in processes])


# ---- building --------------------------------------------------------------------------------------------------------


def _program(sanitizer: Sanitizer) -> Path:
    sources = [*CORE.glob("tpio_*.[ch]"), *HEADERS.glob("tpio_*.h"), *SIM.rglob("*.[ch]")]
    builds = cache.root() / "builds" / "sim"
    builds.mkdir(parents=True, exist_ok=True)
    cache.prune(builds)
    folder = builds / cache.files_fingerprint(ROOT, sources, *sanitizer.flags)
    return cache.make(folder, lambda part: _fill(part, CORE, sanitizer)) / "sim"


def _fill(folder: Path, core: Path, sanitizer: Sanitizer) -> None:
    with step("compiling the C core against the simulated Windows"):
        objects = [_compile_core(core, name, folder, sanitizer) for name in CORE_FILES]
        objects += _compile_sim((*SIM_FILES, *PROGRAM_FILES), folder, sanitizer)
        _link(objects, folder / "sim", sanitizer)


def _flags(sanitizer: Sanitizer) -> list[str]:
    flags = [
        "-std=gnu11",
        "-g",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fno-omit-frame-pointer",
        f"-I{SIM / 'include'}",
        f"-I{HEADERS}",
    ]
    return [*flags, "-DSIM_FREE"] if sanitizer.free else flags


def _compile(source: Path, target: Path, flags: Iterable[str]) -> Path:
    command = ["gcc", *flags, "-c", source, "-o", target]
    run_quietly(command, what=f"compiling {source.name}", advice="this is a mistake in tpio's sources")
    return target


def _compile_core(folder: Path, name: str, into: Path, sanitizer: Sanitizer) -> Path:
    flags = [*_flags(sanitizer), *sanitizer.flags, "-include", str(SIM / "allocator.h")]
    return _compile(folder / f"tpio_{name}.c", into / f"tpio_{name}.o", flags)


def _compile_sim(names: Iterable[str], into: Path, sanitizer: Sanitizer) -> list[Path]:
    objects = []
    for name in (*names, "free" if sanitizer.free else "coroutines"):
        # For ThreadSanitizer, memory.c alone of the simulation is instrumented: it is the system's hand.
        seen = not sanitizer.free or name == "memory"
        flags = [*_flags(sanitizer), *(sanitizer.flags if seen else ())]
        objects.append(_compile(SIM / f"{name}.c", into / f"{name}.o", flags))
    return objects


def _link(objects: Sequence[Path], program: Path, sanitizer: Sanitizer) -> None:
    command = ["gcc", *sanitizer.flags, *objects, "-o", program, "-lpthread"]
    run_quietly(command, what=f"linking {program.name}", advice="this is a mistake in tpio's sources")


# ---- mutations -------------------------------------------------------------------------------------------------------


@dataclass
class Mutation:
    name: str
    file: str
    lines: str
    instead: str
    sanitizer: str
    verdict: str = ""

    @property
    def caught(self) -> bool:
        return bool(self.verdict)


def _mutations(only: str | None) -> int:
    table = tomllib.loads((SIM / "mutations.toml").read_text())["mutation"]
    mutations = [
        Mutation(one["name"], one["file"], one["lines"], one["with"], one.get("sanitizer", "asan")) for one in table
    ]
    with tempfile.TemporaryDirectory(prefix="tpio-mutations-") as name:
        core = Path(name) / "core"
        core.mkdir()
        for file in CORE.glob("tpio_*.[ch]"):  # as it is now, whatever somebody changes meanwhile
            shutil.copy(file, core)
        for one in mutations:
            if (core / one.file).read_text().count(one.lines) != 1:
                raise Failure(f"mutations.toml: {one.name!r} does not fit {one.file} any more; correct its lines")
        if only is not None:
            mutations = [one for one in mutations if only in one.name or only in one.file]
        bases = {}
        for sanitizer in {one.sanitizer for one in mutations}:
            bases[sanitizer] = Path(name) / sanitizer
            bases[sanitizer].mkdir()
            _fill(bases[sanitizer], core, SANITIZERS[sanitizer])
        with step(f"{len(mutations)} mutations"), ThreadPoolExecutor(os.cpu_count()) as pool:
            for mutation in pool.map(lambda one: _try(one, core, bases[one.sanitizer]), mutations):
                say(f"{'caught' if mutation.caught else 'NOT CAUGHT'}: {mutation.name}: {mutation.verdict}")
    if only is None:
        _write_report(mutations)
    missed = [one for one in mutations if not one.caught]
    say(f"{len(mutations) - len(missed)} of {len(mutations)} were caught; the table is {REPORT.relative_to(ROOT)}")
    return 1 if missed else 0


def _try(mutation: Mutation, core: Path, base: Path) -> Mutation:
    sanitizer = SANITIZERS[mutation.sanitizer]
    with tempfile.TemporaryDirectory(prefix="tpio-mutation-") as name:
        folder = Path(name)
        for file in core.iterdir():
            shutil.copy(file, folder)
        target = folder / mutation.file
        text = target.read_text()
        target.write_text(text.replace(mutation.lines, mutation.instead))
        changed = mutation.file.removeprefix("tpio_").removesuffix(".c")
        objects = [file for file in base.glob("*.o") if file.name != f"tpio_{changed}.o"]
        lenient = Sanitizer((*sanitizer.flags, "-Wno-error"))
        objects.append(_compile_core(folder, changed, folder, lenient))
        _link(objects, folder / "sim", sanitizer)
        done = subprocess.run(
            [folder / "sim", "--seconds", str(MUTATION_SECONDS)],
            env={**os.environ, **_ENVIRONMENT, "SIM_NO_SHRINK": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    if done.returncode:
        mutation.verdict = _verdict(done.stdout)
    return mutation


def _verdict(output: str) -> str:
    """What was noticed, in a few words, and by which seed."""
    patterns = (
        r"BROKEN RULE \(thread [^)]*\): (.*)",
        r"runtime error: (.*)",
        r"(?:ERROR|WARNING): (\w+: [\w -]+?)(?: on| \()",
    )
    found = next((match[1] for pattern in patterns if (match := re.search(pattern, output))), "the program ended")
    found = re.sub(r"0x[0-9a-f]+", "...", re.sub(r"\b\d+ \(", "(", found))
    seed = re.search(r"--seed (\d+)", output)
    return f"{found} (seed {seed[1]})" if seed else found


def _write_report(mutations: Sequence[Mutation]) -> None:
    def cell(text: str) -> str:
        return text.replace("|", "\\|")

    rows = [f"| {cell(one.name)} | `{one.file}` | {cell(one.verdict) or '**not caught**'} |" for one in mutations]
    caught = sum(one.caught for one in mutations)
    head = f"""# What the simulation notices

The C core runs against a simulated Windows (`tests/win32sim/`). That proves something only if the simulation notices a
mistake: so each line of the core that protects something is taken away or turned around, one at a time, and random
schedules must break a rule. `python dev.py sim --mutations` does so and writes this page; the exact lines are in
[tests/win32sim/mutations.toml](../tests/win32sim/mutations.toml).

Caught: {caught} of {len(mutations)}, each within {MUTATION_SECONDS} seconds from seed 1.

| taken away | file | what broke |
|---|---|---|
"""
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(head + "\n".join(rows) + "\n")


# ---- conformance -----------------------------------------------------------------------------------------------------


def _conformance(*, write: bool) -> int:
    """One small program gives the same answers in the simulation and on Windows or Wine.

    ANSWERS has the simulation's answers, because the simulation does not run on Windows.
    """
    if not wine.NATIVE:
        simulated = _simulated_answers()
        if write:
            ANSWERS.write_text(simulated, encoding="utf-8")
        elif _differ("conformance.txt", _expected_answers(), "the simulation", simulated):
            say("--write records the answers of the simulation")
            return 1
    code, real = _real_answers()
    print(real, end="")
    if _differ("the simulation", _expected_answers(), "the real thing", real) or code:
        say(f"the simulation and the real thing differ (exit code {code})")
        return 1
    say("the simulation and the real thing agree")
    return 0


def _expected_answers() -> str:
    return ANSWERS.read_text(encoding="utf-8")


def _differ(one_name: str, one: str, other_name: str, other: str) -> bool:
    """Whether two texts differ; prints how."""
    lines = difflib.unified_diff(one.splitlines(), other.splitlines(), one_name, other_name, lineterm="")
    difference = "\n".join(lines)
    if difference:
        print(difference)
    return bool(difference)


def _simulated_answers() -> str:
    sanitizer = SANITIZERS["asan"]
    with tempfile.TemporaryDirectory(prefix="tpio-conformance-") as name:
        folder = Path(name)
        objects = _compile_sim((*SIM_FILES, "conformance"), folder, sanitizer)
        _link(objects, folder / "simulated", sanitizer)
        return subprocess.run([folder / "simulated"], stdout=subprocess.PIPE, encoding="utf-8").stdout


def _real_answers() -> tuple[int, str]:
    """(exit code, output) of the program on Windows or Wine."""
    wine.set_up()
    source, libraries = SIM / "conformance.c", ("ws2_32", "synchronization")
    # Windows may keep the file of a program for a moment after its end.
    with tempfile.TemporaryDirectory(prefix="tpio-conformance-", ignore_cleanup_errors=True) as name:
        program = Path(name) / "conformance.exe"
        if wine.NATIVE:
            native.compile_program(source, program, options=["/std:c11", "/W3"], libraries=libraries)
        else:
            system.need_cross_compiler()
            command = [system.CROSS_COMPILER, "-O1", "-g", source, "-o", program, *(f"-l{name}" for name in libraries)]
            run_quietly(command, what=f"compiling {source.name}", advice="this is a mistake in tpio's sources")
        code, output = wine.capture(program, [], env=os.environ)
    return code, output.replace("\r\n", "\n")
