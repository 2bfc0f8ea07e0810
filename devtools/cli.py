"""The commands of dev.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import build, interpreter, pythons
from .ui import Failure, say


def demo(args: list[str]) -> int:
    """run `python -m tpio`, the self-check"""
    return python(["-m", "tpio", *args])


def python(args: list[str]) -> int:
    """[-V VERSION] ARGS...: the Windows Python with this checkout's tpio"""
    version = pythons.DEFAULT
    if args[:1] == ["-V"] and len(args) > 1:
        version, args = args[1], args[2:]
    return interpreter.get(pythons.find(version)).run(args)


def build_only(args: list[str]) -> int:
    """[-V VERSION]: compile this checkout's tpio"""
    parser = argparse.ArgumentParser(prog="dev.py build")
    parser.add_argument("-V", dest="version", default=pythons.DEFAULT)
    chosen = parser.parse_args(args)
    say(f"built {build.site(pythons.find(chosen.version))}")
    return 0


COMMANDS = {"demo": demo, "python": python, "build": build_only}


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] not in COMMANDS:
        print(__doc__)
        return 2
    try:
        return COMMANDS[argv[0]](list(argv[1:]))
    except Failure as failure:
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
