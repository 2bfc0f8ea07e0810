"""What CreateProcess takes: a command line, and the environment as one string."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from . import _tpio

ERROR_FILE_NOT_FOUND = 2


class Command(NamedTuple):
    """program: the whole path, or None for what the line begins with. name: the program, for error messages."""

    program: str | None
    line: str
    name: str


def command_of(args: Any) -> Command:
    """The command of spawn's `args`."""
    if isinstance(args, str):
        command = Command(None, args, _first_word(args))
    elif isinstance(args, os.PathLike):
        command = _command_of_list([args])
    elif isinstance(args, (bytes, bytearray, memoryview)) or not isinstance(args, Iterable):
        raise TypeError(f"args must be a str, a path, or a list of them, not {type(args).__name__!r}")
    else:
        command = _command_of_list(list(args))
    if not command.name.strip('" '):
        raise ValueError("args names no program: the command is empty")
    if "\0" in command.line:
        raise ValueError("args must not contain null characters")
    return command


def _command_of_list(args: list[Any]) -> Command:
    words = []
    for number, arg in enumerate(args):
        if not isinstance(arg, (str, bytes, os.PathLike)):
            raise TypeError(f"args[{number}] must be a str or a path, not {type(arg).__name__!r}")
        words.append(os.fsdecode(arg))
    if not words:
        raise ValueError("args names no program: the list is empty")
    if is_batch_file(words[0]):
        return _command_of_batch_file(words[0], words[1:])
    return Command(None, subprocess.list2cmdline(words), words[0])


def _first_word(line: str) -> str:
    """The program of a command line, for error messages: the rest may be secret."""
    line = line.lstrip()
    if line.startswith('"'):
        return line[1:].partition('"')[0]
    return line.partition(" ")[0]


# ---- batch files

# CreateProcess runs them with cmd.exe, for which the rules of other programs' arguments do not hold: `"&calc` would begin
# another command. https://learn.microsoft.com/windows-server/administration/windows-commands/cmd

_PLAIN = frozenset("#$*+-./:?@\\_")  # beside letters and digits: what cmd takes without quotes


def is_batch_file(program: str) -> bool:
    """True when Windows runs it with cmd.exe. (It ignores dots and spaces at the end of a name.)"""
    return program.rstrip(". ").lower().endswith((".bat", ".cmd"))


def _command_of_batch_file(program: str, args: list[str]) -> Command:
    path = shutil.which(program) if os.path.basename(program) == program else program
    if path is None or not os.path.isfile(path):
        raise _tpio.winerror(ERROR_FILE_NOT_FOUND, program)
    path = os.path.abspath(path)  # the child may begin in another directory
    if "%" in path:
        raise ValueError(f"args[0]: cmd.exe cannot run a batch file whose path has a percent sign: {path!r}")
    words = [f'"{path}"', *(_batch_argument(arg) for arg in args)]
    cmd = os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "cmd.exe")
    # /v:OFF: "!" is an ordinary character; /d: no programs from the registry before it.
    return Command(cmd, f'cmd.exe /v:OFF /d /c "{" ".join(words)}"', program)


def _batch_argument(arg: str) -> str:
    # cmd.exe looks variables up within quotes, too, and a batch file does so again with what it was given.
    for character, what in (("%", "a percent sign"), ("\r", "the end of a line"), ("\n", "the end of a line")):
        if character in arg:
            raise ValueError(f"args: cmd.exe cannot pass {what} to a batch file as it is: {arg!r}")
    quoted = not arg or arg.endswith("\\") or not all(_is_plain(letter) for letter in arg)
    parts = []
    backslashes = 0
    for letter in arg:
        if letter == '"':
            parts.append("\\" * backslashes + '"')  # "" is a quote inside of quotes, for cmd and for most programs
        backslashes = backslashes + 1 if letter == "\\" else 0
        parts.append(letter)
    return f'"{"".join(parts)}{chr(92) * backslashes}"' if quoted else "".join(parts)


def _is_plain(letter: str) -> bool:
    return letter.isalnum() if ord(letter) >= 0xA0 else (letter.isascii() and letter.isalnum()) or letter in _PLAIN


# ---- the environment


def environment_of(env: Mapping[str, str] | None) -> str | None:
    """The block of spawn's `env`. Names are compared as Windows does; of two that are one to it, the later counts."""
    if env is None:
        return None
    if not isinstance(env, Mapping):
        raise TypeError(f"env must be a mapping, not {type(env).__name__!r}")
    entries: list[tuple[str, str]] = []
    for name, value in env.items():
        for what, text in (("name", name), ("value", value)):
            if not isinstance(text, str):
                raise TypeError(f"each {what} in env must be a str, not {type(text).__name__!r}")
            if "\0" in text:
                raise ValueError(f"env must not contain null characters: the {what} of {name!r}")
        if not name or "=" in name[1:]:
            raise ValueError(f"env: not the name of an environment variable: {name!r}")
        entries.append((name, value))
    by_name = functools.cmp_to_key(_tpio.compare_names)
    entries.sort(key=lambda entry: by_name(entry[0]))
    kept: list[tuple[str, str]] = []
    for name, value in entries:
        if kept and _tpio.compare_names(kept[-1][0], name) == 0:
            kept.pop()
        kept.append((name, value))
    return "".join(f"{name}={value}\0" for name, value in kept) + ("\0" if kept else "\0\0")
