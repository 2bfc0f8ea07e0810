"""Every public function and method, with the kinds of arguments that it takes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import tpio

from . import values
from .values import Dice

Kind = Callable[[Dice], Any]


def one_of(choices: list[Any]) -> Kind:
    return lambda dice: dice.pick(choices)


def made_by(makers: list[Callable[[], Any]]) -> Kind:
    return lambda dice: dice.pick(makers)()


size, offset, number = one_of(values.SIZES), one_of(values.OFFSETS), one_of(values.NUMBERS)
timeout, short, count = one_of(values.TIMEOUTS), one_of(values.SHORT), one_of(values.COUNTS)
source, target = made_by(values.SOURCES), made_by(values.TARGETS)
sources, targets = values.many(values.SOURCES), values.many(values.TARGETS)
anything, flags, flag = (
    one_of(values.ANYTHING),
    one_of(values.FLAGS),
    one_of([True, False, 0, None, "x", values.Raising()]),
)
wrong = one_of(values.WRONG)
pool = one_of([None, None, None, 5, "pool", tpio.Pool.__new__(tpio.Pool), object(), values.Raising()])
control = one_of(
    [0, 0x11400C, 2**32 - 1, *values.WRONG, -1, 2**32, 2**100]
)  # FSCTL_PIPE_PEEK; nothing that changes anything
pairs = one_of(
    [
        [],
        [(0, 10), (5, 10)],
        [(0, b"part"), (4, b"part")],
        [(2**63, 1)],
        [(0, 1), (2**64, 1)],
        [(0, 1), (-1, 1)],
        [(0, 1), (0, -1)],
        [(0, 1.5)],
        [(1.5, 1)],
        [(0, 2**100)],
        [(0, b"x"), (0, memoryview(b"not contiguous")[::2])],
        [(0,)],
        [5],
        [(0, "text")],
        iter([(0, 3)]),
        None,
        5,
        {0: 5},
        values.Raising(),
    ]
)
names, paths = one_of(values.PIPE_NAMES), one_of(values.PATHS)
arguments = one_of(
    [
        [],
        "",
        None,
        5,
        b"program",
        [5],
        ["x", None],
        "\0",
        ["a\0b"],
        "\ud800",
        "x" * 40000,
        ["no such program"],
        values.Raising(),
    ]
)
environment = one_of(
    [None, {}, 5, {"": "x"}, {"a=b": "c"}, {"a": 5}, {5: "a"}, {"a\0": "b"}, [("a", "b")], values.Raising()]
)

# A call: (name, positional kinds, keyword kinds). Each keyword argument is left out three times of four.
Call = tuple[str, tuple[Kind, ...], dict[str, Kind]]

HANDLE: list[Call] = [
    ("read", (size, offset), {}),
    ("read_into", (target, offset), {}),
    ("write", (source, offset), {}),
    ("poll_read", (), {}),
    ("readexactly", (size,), {"timeout": short}),
    ("readuntil", (source,), {"limit": size, "timeout": short}),
    ("readline", (), {"limit": size, "timeout": short}),
    ("poll_write", (), {}),
    ("ioctl", (control, source, size), {}),
    ("cancel", (), {}),
    ("fileno", (), {}),
    ("__enter__", (), {}),
    ("__repr__", (), {}),
    ("__init__", (anything,), {}),
    ("share", (one_of([0, -1, 2**32, 2**64, 0xFFFFFFF0, *values.WRONG]),), {}),
    ("detach", (), {}),
    ("close", (), {}),
]
PIPE: list[Call] = [*HANDLE, ("read_message", (), {"limit": size, "timeout": short})]
SOCKET: list[Call] = [
    *HANDLE,
    ("recv", (size,), {}),
    ("recv_into", (target,), {}),
    ("send", (source,), {}),
    ("recvfrom", (size,), {}),
    ("recvfrom_into", (target,), {}),
    ("sendto", (source, values.address), {}),
    ("sendmsg", (sources,), {}),
    ("recvmsg_into", (targets,), {}),
    ("sendfile", (values.foreign, offset, size), {}),
    ("accept", (), {"receive": size}),
    ("connect", (values.address,), {}),
    ("disconnect", (), {}),
    ("shutdown", (number,), {}),
    ("bind", (values.address,), {}),
    ("listen", (one_of([1, None, 0, -1, 2**31, 2**64, *values.WRONG]),), {}),
    ("getsockname", (), {}),
    ("getpeername", (), {}),
    ("setsockopt", (number, anything, anything), {}),
    ("getsockopt", (number, anything), {}),
]
FILE: list[Call] = [
    *(call for call in HANDLE if call[0] not in ("poll_read", "poll_write")),
    ("read_many", (pairs,), {}),
    ("write_many", (pairs,), {}),
    ("size", (), {}),
    ("truncate", (one_of([100, 0, 5000, values.Index(3), *values.LIMITS[2:], *values.WRONG]),), {}),
    ("flush", (), {}),
    # A range that is locked already would be waited for: those that can be locked are all at different places.
    ("lock", (offset, one_of([0, -1, 2**64, 2**100, *values.WRONG])), {"exclusive": flag}),
    ("unlock", (offset, size), {}),
]
LISTENER: list[Call] = [("accept", (), {}), ("__repr__", (), {}), ("close", (), {})]
WATCHER: list[Call] = [("changes", (), {}), ("__repr__", (), {}), ("close", (), {})]
TIMER: list[Call] = [("cancel", (), {}), ("__repr__", (), {})]
POOL: list[Call] = [
    ("submit", (values.callback, anything), {}),
    ("map", (values.callback, one_of([[], [1, 2], None, 5, values.Raising()])), {"timeout": short, "chunksize": count}),
    ("stats", (), {}),
    ("__repr__", (), {}),
    ("__init__", (), {}),
    ("shutdown", (), {"wait": flag, "cancel_futures": flag}),
    ("close", (), {"timeout": short}),
]
PROCESS: list[Call] = [
    ("wait", (timeout,), {}),
    ("communicate", (source, timeout), {}),
    ("poll", (), {}),
    ("__repr__", (), {}),
    ("kill", (), {}),
    ("close", (), {}),
]
FUTURE: list[Call] = [
    ("cancel", (), {}),
    ("done", (), {}),
    ("running", (), {}),
    ("cancelled", (), {}),
    ("result", (short,), {}),
    ("exception", (short,), {}),
    ("add_done_callback", (values.callback,), {}),
    ("__repr__", (), {}),
    ("__await__", (), {}),
    ("set_running_or_notify_cancel", (), {}),
    ("set_result", (anything,), {}),
    ("set_exception", (one_of([None, ValueError("set"), ValueError, 5, "x"]),), {}),
]
BY_TYPE: list[tuple[type, list[Call]]] = [
    (tpio.Socket, SOCKET),
    (tpio.File, FILE),
    (tpio.Pipe, PIPE),
    (tpio.Handle, HANDLE),
    (tpio.PipeListener, LISTENER),
    (tpio.Watcher, WATCHER),
    (tpio.Timer, TIMER),
    (tpio.Pool, POOL),
    (tpio.Process, PROCESS),
    (tpio.Future, FUTURE),
    (socket.socket, [("close", (), {}), ("__repr__", (), {})]),  # one that tpio's verbs have bound
]

_family = one_of([socket.AF_INET, socket.AF_INET6, 0, 1, 999, -1, 2**40, None, "x", values.Raising()])
_sock = one_of([None, None, "x", 5, values.Fileno(5), values.Fileno(None), values.Raising()])

# On anything: for things that can be read and written, and for what cannot.
MODULE: list[Call] = [
    ("read", (values.foreign, size, offset), {}),
    ("read_into", (values.foreign, target, offset), {}),
    ("write", (values.foreign, source, offset), {}),
    ("poll_read", (values.foreign,), {}),
    ("poll_write", (values.foreign,), {}),
    ("accept", (values.foreign,), {}),
    ("connect", (values.foreign, values.address), {}),
    ("pump", (values.foreign, values.foreign), {"n": size, "block": size}),
    ("Handle", (values.foreign,), {"pool": pool, "owns": lambda dice: False}),
    ("Pipe", (values.foreign,), {"pool": pool, "owns": lambda dice: False}),
    ("File", (values.foreign,), {"pool": pool, "owns": lambda dice: False, "name": anything}),
    ("Socket", (_family, number, number), {"sock": _sock, "pool": pool}),
    ("pipe", (), {"inherit": anything, "pool": pool}),
    (
        "PipeListener",
        (names,),
        {
            "message": flag,
            "max_instances": count,
            "listening": count,
            "security": one_of(values.SECURITIES),
            "pool": pool,
        },
    ),
    ("open_pipe", (names,), {"timeout": timeout, "pool": pool}),
    ("listen", (values.address,), {"backlog": size, "family": _family, "pool": pool}),
    ("open_connection", (values.address,), {"timeout": timeout, "pool": pool}),
    ("getaddrinfo", (one_of(values.HOSTS), one_of(values.PORTS)), {"family": _family, "flags": number, "pool": pool}),
    ("open", (paths, one_of(values.MODES[:1])), {"share": one_of(values.SHARES), "flags": flags, "pool": pool}),
    ("aligned_buffer", (one_of([1, 0, -1, *values.LIMITS[2:], *values.WRONG]),), {}),
    ("copy_file", (paths, paths), {"depth": count, "block": size, "progress": values.callback, "pool": pool}),
    ("watch", (paths,), {"recursive": flag, "pool": pool}),
    ("sleep", (timeout,), {"window": timeout, "pool": pool}),
    ("Timer", (values.callback, timeout), {"period": timeout, "window": timeout, "pool": pool}),
    ("wait_for_handle", (values.foreign,), {"timeout": timeout, "pool": pool}),
    (
        "spawn",
        (arguments,),
        {"stdin": values.foreign, "stdout": values.foreign, "stderr": values.foreign, "env": environment},
    ),
    (
        "spawn",
        (one_of(["no such program"]),),
        {"cwd": paths, "env": environment, "creationflags": one_of(values.WRONG)},
    ),
    (
        "Pool",
        (),
        {"min_threads": one_of([0, 1, *values.LIMITS[2:], *values.WRONG]), "max_threads": count, "name": anything},
    ),
    ("Pool", (), {"priority": anything, "long_running": flag}),
    ("Future", (), {}),
    ("default_pool", (), {}),
    ("get_include", (), {}),
]


def arguments_for(call: Call, dice: Dice) -> tuple[list[Any], dict[str, Any]]:
    _, positional, keywords = call
    args = [kind(dice) for kind in positional]
    named = {name: kind(dice) for name, kind in keywords.items() if dice.chance(80)}
    if dice.chance(12):  # and now and then too many, too few
        args = args[:-1] if dice.chance(128) else [*args, None]
    return args, named
