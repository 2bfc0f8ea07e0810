"""The commands of dev.py."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from . import (
    asyncio_suite,
    bench,
    bench_http,
    bench_threads,
    build,
    frameworks,
    interpreter,
    lint,
    pythons,
    sim,
    testing,
    wheels,
)
from .interpreter import Interpreter
from .pythons import Version
from .ui import Failure, say
from .variants import COUNTING, PLAIN, VARIANTS, Variant


@dataclass
class Options:
    version: Version | None = None
    all: bool = False
    variant: Variant = PLAIN
    rest: list[str] = field(default_factory=list)  # for the program behind the command

    @property
    def one(self) -> Version:
        return self.version or pythons.default()

    @property
    def chosen(self) -> list[Version]:
        return list(pythons.SUPPORTED) if self.all else [self.one]

    @property
    def interpreter(self) -> Interpreter:
        return interpreter.get(self.one, self.variant)


@dataclass(frozen=True)
class Command:
    synopsis: str
    help: str
    run: Callable[[Options], int]
    variants: bool = False


def _build(options: Options) -> int:
    for version in interpreter.available(options.chosen):
        say(f"tpio for Python {version.name} is in {build.site(version, options.variant)}")
    return 0


COMMANDS = {
    "demo": Command(
        "[-V VERSION] [VARIANT...] [ARGS...]",
        "run the self-check, `python -m tpio`",
        lambda options: options.interpreter.run(["-m", "tpio", *options.rest]),
        variants=True,
    ),
    "test": Command(
        "[-V VERSION | --all] [VARIANT...] [PYTEST ARGS...]",
        "run the tests on the default, one or every supported Python",
        lambda options: testing.run(options.chosen, options.rest, options.variant),
        variants=True,
    ),
    "python": Command(
        "[-V VERSION] [VARIANT...] ARGS...",
        "run the Windows Python, with this checkout's tpio on its path",
        lambda options: options.interpreter.run(options.rest),
        variants=True,
    ),
    "asyncio-suite": Command(
        "[-V VERSION] [--loop tpio|stock] [--only SUBSTRING] [--everything] [MODULES...]",
        "run CPython's own tests of asyncio on tpio.aio.EventLoop",
        lambda options: asyncio_suite.run(options.one, options.rest),
    ),
    "frameworks": Command(
        "[-V VERSION | --all] [PYTEST ARGS...]",
        "run programs of aiohttp, uvicorn, websockets, redis-py, trio and others on tpio",
        lambda options: frameworks.run(options.chosen, options.rest),
    ),
    "soak": Command(
        "[-V VERSION] [VARIANT...] [--minutes N] [--seed S]",
        "put mixed load on everything, and compare every byte",
        lambda options: options.interpreter.run(["-m", "tests.soak", *options.rest]),
        variants=True,
    ),
    "fuzz": Command(
        "[-V VERSION] [--minutes N] [--seed S] [--shrink]",
        "make random calls with random arguments, and see that nothing breaks",
        lambda options: interpreter.get(options.one).run(["-m", "tests.fuzz", *options.rest]),
    ),
    "cost": Command(
        "[--write]",
        "count what operations cost inside tpio: fails when that is more than docs/cost.md says (--write: writes it)",
        lambda options: interpreter.get(pythons.find("3.13"), COUNTING).run(["-m", "tests.cost", *options.rest]),
    ),
    "bench": Command(
        "[-V VERSION] [ARGS...]",
        "run the benchmarks",
        lambda options: bench.run(options.one, options.rest),
    ),
    "bench-http": Command(
        "[-V VERSION] [--quick]",
        "compare event loops under uvicorn, with wrk on this machine for the load",
        lambda options: bench_http.run(options.one, options.rest),
    ),
    "bench-threads": Command(
        "[-V VERSION] [--quick]",
        "compare Python with a GIL and without, where callbacks compute",
        lambda options: bench_threads.run(options.one, options.rest),
    ),
    "wheel": Command(
        "[-V VERSION]",
        "build wheels into dist/ and check them, for every supported Python or one",
        lambda options: wheels.run([options.version] if options.version else list(pythons.SUPPORTED)),
    ),
    "build": Command(
        "[-V VERSION | --all] [VARIANT...]",
        "compile tpio; the commands above do so when a source changed",
        _build,
        variants=True,
    ),
    "lint": Command(
        "[--fix]",
        "run every static check (--fix: after what ruff can correct by itself)",
        lambda options: lint.run(fix="--fix" in options.rest),
    ),
    "sim": Command(
        "[--seconds N] [--seed S] [--sanitizer NAME] [--mutations | --conformance]",
        "run the C core against a simulated Windows, in random schedules",
        lambda options: sim.run(options.rest),
    ),
}


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if argv else 2
    # A request to terminate ends a run like Ctrl-C does: with its processes, and with what was half-made.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        command = COMMANDS.get(argv[0])
        if command is None:
            raise Failure(f"there is no command {argv[0]!r}; choose one of {', '.join(COMMANDS)}")
        # Python has a -V of its own: only what stands before its arguments is meant for dev.py.
        return command.run(_parse(argv[1:], leading_only=argv[0] == "python", variants=command.variants))
    except Failure as failure:
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130


def _parse(words: Sequence[str], *, leading_only: bool, variants: bool = True) -> Options:
    options, left = Options(), list(words)
    while left:
        word = left.pop(0)
        if word == "-V" and left:
            options.version = pythons.find(left.pop(0))
        elif word == "--all":
            options.all = True
        elif variants and word in VARIANTS:
            options.variant += VARIANTS[word]
        else:
            options.rest.append(word)
            if leading_only:
                options.rest += left
                break
    return options


def _usage() -> str:
    lines = ["usage: python dev.py COMMAND ...", ""]
    for name, command in COMMANDS.items():
        lines += [f"  {name} {command.synopsis}".rstrip(), f"      {command.help}"]
    versions = ", ".join(version.name for version in pythons.SUPPORTED)
    lines += [
        "",
        f"VERSION is one of {versions}; the default is {pythons.default().name}.",
        "",
        "VARIANT, one or several of them, is another way to build and run tpio:",
        *(f"  {option}  {variant.help}" for option, variant in VARIANTS.items()),
        "",
        "Environment: TPIO_CACHE, the cache folder; TPIO_WINE, the Wine command; TPIO_CFLAGS, more compiler flags.",
    ]
    return "\n".join(lines)
