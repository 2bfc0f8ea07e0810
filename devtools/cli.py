"""The commands of dev.py."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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

Arguments = Callable[[argparse.ArgumentParser], object]


class Options(argparse.Namespace):
    """What the words after a command say; the options of a single command are further attributes."""

    version: Version | None = None
    all: bool = False
    variants: list[Variant] | None = None
    rest: list[str]  # for the program behind the command

    @property
    def one(self) -> Version:
        return self.version or pythons.default()

    @property
    def chosen(self) -> list[Version]:
        return list(pythons.SUPPORTED) if self.all else [self.one]

    @property
    def variant(self) -> Variant:
        return sum(self.variants or [], PLAIN)

    @property
    def interpreter(self) -> Interpreter:
        return interpreter.get(self.one, self.variant)


@dataclass(frozen=True)
class Command:
    help: str
    run: Callable[[Options], int]
    # Which options it takes: -V, --all beside it, the variants.
    version: bool = True
    all: bool = False
    variants: bool = False
    # Adds its other options.
    arguments: Arguments = lambda parser: None
    # The program that gets each word that is not an option of dev.py; without one, such a word is an error.
    passes_to: str = ""
    # Python has a -V of its own, so that only what stands before its arguments is an option of dev.py.
    leading_only: bool = False


def _build(options: Options) -> int:
    for version in interpreter.available(options.chosen):
        say(f"tpio for Python {version.name} is in {build.site(version, options.variant)}")
    return 0


def _flag(name: str, help: str) -> Arguments:
    return lambda parser: parser.add_argument(name, action="store_true", help=help)


COMMANDS = {
    "demo": Command(
        "run the self-check, `python -m tpio`",
        lambda options: options.interpreter.run(["-m", "tpio", *options.rest]),
        variants=True,
        passes_to="python -m tpio",
    ),
    "test": Command(
        "run the tests on the default, one or every supported Python",
        lambda options: testing.run(options.chosen, options.rest, options.variant),
        all=True,
        variants=True,
        passes_to="pytest",
    ),
    "python": Command(
        "run the Windows Python, with this checkout's tpio on its path",
        lambda options: options.interpreter.run(options.rest),
        variants=True,
        passes_to="python",
        leading_only=True,
    ),
    "asyncio-suite": Command(
        "run CPython's own tests of asyncio on tpio.aio.EventLoop",
        lambda options: asyncio_suite.run(options.one, options),
        arguments=asyncio_suite.add_arguments,
    ),
    "frameworks": Command(
        "run programs of aiohttp, uvicorn, websockets, redis-py, trio and others on tpio",
        lambda options: frameworks.run(options.chosen, options.rest),
        all=True,
        passes_to="pytest",
    ),
    "soak": Command(
        "put mixed load on everything, and compare every byte",
        lambda options: options.interpreter.run(["-m", "tests.soak", *options.rest]),
        variants=True,
        passes_to="tests.soak",
    ),
    "fuzz": Command(
        "make random calls with random arguments, and see that nothing breaks",
        lambda options: interpreter.get(options.one).run(["-m", "tests.fuzz", *options.rest]),
        passes_to="tests.fuzz",
    ),
    "cost": Command(
        "count what operations cost inside tpio; fail when that is more than docs/cost.md says",
        lambda options: interpreter.get(pythons.find("3.13"), COUNTING).run(
            ["-m", "tests.cost", *(["--write"] if options.write else [])]
        ),
        version=False,
        arguments=_flag("--write", "write docs/cost.md"),
    ),
    "bench": Command(
        "run the benchmarks",
        lambda options: bench.run(options.one, options.rest),
        passes_to="benchmarks",
    ),
    "bench-http": Command(
        "compare event loops under uvicorn, with wrk on this machine for the load",
        lambda options: bench_http.run(options.one, quick=options.quick),
        arguments=_flag("--quick", "fewer and shorter rounds: more noise"),
    ),
    "bench-threads": Command(
        "compare Python with a GIL and without, where callbacks compute",
        lambda options: bench_threads.run(options.one, quick=options.quick),
        arguments=_flag("--quick", "fewer and shorter rounds: more noise"),
    ),
    "wheel": Command(
        "build wheels into dist/ and check them, for every supported Python or one",
        lambda options: wheels.run([options.version] if options.version else list(pythons.SUPPORTED)),
    ),
    "build": Command(
        "compile tpio; the commands above do so when a source changed",
        _build,
        all=True,
        variants=True,
    ),
    "lint": Command(
        "run every static check",
        lambda options: lint.run(fix=options.fix),
        version=False,
        arguments=_flag("--fix", "correct first what ruff can correct by itself"),
    ),
    "sim": Command(
        "run the C core against a simulated Windows, in random schedules",
        sim.run,
        version=False,
        arguments=sim.add_arguments,
    ),
}


def main(argv: Sequence[str]) -> int:
    if not argv:
        _parser().print_help(sys.stderr)
        return 2
    # A request to terminate ends a run like Ctrl-C does: with its processes, and with what was half-made.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options = parse(argv)
        return COMMANDS[argv[0]].run(options)
    except Failure as failure:
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130


def parse(argv: Sequence[str]) -> Options:
    """Returns the options of the command `argv[0]`; ends the program for `-h` and for what it does not know."""
    parser = _parser()
    command = COMMANDS.get(argv[0])
    own, rest = _split(argv[1:], leading_only=command is not None and command.leading_only)
    options, unknown = parser.parse_known_args([argv[0], *own], namespace=Options())
    options.rest = [*unknown, *rest]
    if options.rest and command is not None and not command.passes_to:
        parser.error(f"{argv[0]} does not know {' '.join(options.rest)}; see `dev.py {argv[0]} -h`")
    return options


def _split(words: Sequence[str], *, leading_only: bool) -> tuple[list[str], list[str]]:
    """(words that may be dev.py's, words that are not). A "--" separates the two, and is in neither."""
    end = 0
    if leading_only:
        while end < len(words) and (words[end] in ("-V", "-h", "--help") or words[end] in VARIANTS):
            end += 2 if words[end] == "-V" else 1
    else:
        end = words.index("--") if "--" in words else len(words)
    rest = list(words[end:])
    return list(words[:end]), rest[1:] if rest[:1] == ["--"] else rest


def _parser() -> argparse.ArgumentParser:
    versions = ", ".join(version.name for version in pythons.SUPPORTED)
    parser = argparse.ArgumentParser(
        prog="dev.py",
        description="Does everything that a developer of tpio does. `dev.py COMMAND -h` lists the options of a command.",
        epilog=f"Pythons: {versions}; the default is {pythons.default().name}. Environment: TPIO_CACHE, the cache"
        " folder; TPIO_WINE, the Wine command; TPIO_CFLAGS, more compiler flags.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        passed = f" Each other argument goes to {command.passes_to}, and so does all that follows `--`."
        _add_arguments(
            commands.add_parser(
                name,
                help=command.help,
                description=f"{command.help[0].upper()}{command.help[1:]}.{passed if command.passes_to else ''}",
                usage=f"dev.py {name} [options]{' [ARGUMENT ...]' if command.passes_to else ''}",
                allow_abbrev=False,
            ),
            command,
        )
    return parser


def _add_arguments(parser: argparse.ArgumentParser, command: Command) -> None:
    if command.version:
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "-V", dest="version", metavar="VERSION", type=pythons.find, help="the Python, 3.13t for instance"
        )
        if command.all:
            which.add_argument("--all", action="store_true", help="every supported Python")
    command.arguments(parser)
    if command.variants:
        ways = parser.add_argument_group("variants", "Other ways to build and run tpio, one or several of them.")
        for option, variant in VARIANTS.items():
            ways.add_argument(option, dest="variants", action="append_const", const=variant, help=variant.help)
