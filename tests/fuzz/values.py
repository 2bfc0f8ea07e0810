"""Arguments that nobody should pass, and some that one may.

A list for each kind of argument; the harmless ones come first, so that hypothesis shrinks towards them. Values that are
used up by a call (buffers, objects that lie) are made by functions.
"""

from __future__ import annotations

import array
import ctypes
import math
import mmap
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tpio

WAIT = 60  # seconds: longer than anything takes that works


class Planned(Exception):
    """Raised by our own objects inside tpio."""


class Dice:
    """Decisions from a string of bytes; past its end it goes on from what it has seen."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self) -> int:
        at, self._at = self._at, self._at + 1
        if at < len(self._data):
            return self._data[at]
        return (self._data[at % len(self._data)] * 167 + at * 31) & 0xFF if any(self._data) else 0

    def pick(self, choices: Sequence[Any]) -> Any:
        number = self.number()
        if len(choices) > 256:
            number = number << 8 | self.number()
        return choices[number % len(choices)]

    def chance(self, of_256: int) -> bool:
        """Shrinks to False."""
        return self.number() >= 256 - of_256


# ---- objects that raise, or lie


class Index:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __index__(self) -> Any:
        return _say(self.value)


class Fileno:
    def __init__(self, value: Any) -> None:
        self.value = value

    def fileno(self) -> Any:
        return _say(self.value)


class Reader(Fileno):
    """Looks like a file of the C runtime."""

    def readable(self) -> bool:
        return True


class Path:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __fspath__(self) -> Any:
        return _say(self.value)


class Raising:
    """Each question about it raises."""

    def __getattr__(self, name: str) -> Any:
        raise Planned(name)

    def __eq__(self, other: object) -> bool:
        raise Planned("==")

    def __hash__(self) -> int:
        raise Planned("hash")

    def __bool__(self) -> bool:
        raise Planned("bool")

    def __float__(self) -> float:
        raise Planned("float")

    def __iter__(self) -> Any:
        raise Planned("iter")

    def __len__(self) -> int:
        raise Planned("len")


class Buffer:
    """A buffer made by Python code (PEP 688)."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __buffer__(self, flags: int) -> Any:
        return _say(self.value)


class Record(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int), ("text", ctypes.c_char * 12)]


def _say(value: Any) -> Any:
    if isinstance(value, type) and issubclass(value, BaseException):
        raise value("planned")
    return value


def _released() -> memoryview:
    view = memoryview(bytearray(8))
    view.release()
    return view


def _closed_map() -> mmap.mmap:
    memory = mmap.mmap(-1, 16)
    memory.close()
    return memory


def _closed_socket() -> socket.socket:
    closed = socket.socket()
    closed.close()
    return closed


def _closed_handle() -> tpio.Handle:
    one, other = tpio.pipe()
    other.close()
    one.close()
    return one


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


# ---- numbers

WRONG: list[Any] = [None, "3", b"3", 1.5, math.nan, math.inf, [], object(), Raising(), Index(Planned), Index("x"), len]
LIMITS = [
    -1,
    2**31 - 1,
    2**63 - 1,
    2**63 - 2,
    2**62,
    2**63,
    2**64 - 1,
    2**64,
    2**100,
    -(2**63),
    -(2**63) - 1,
    -(2**100),
]
# What would really be allocated or written, and is much, is left out: the machine is shared.
SIZES: list[Any] = [1, 0, 7, 64, 4096, 70000, True, Index(5), -1, *LIMITS[2:], *WRONG]
OFFSETS: list[Any] = [None, 0, 1, 4096, Index(2), True, -1, *LIMITS[2:], *WRONG[1:]]
# Of calls that block: nothing long.
SHORT: list[Any] = [
    0,
    0.001,
    0.02,
    5e-324,
    -1,
    -0.001,
    math.nan,
    -math.inf,
    "0",
    b"0",
    [],
    1j,
    object(),
    Raising(),
    Index(0),
]
TIMEOUTS: list[Any] = [*SHORT, None, True, 3600, math.inf, 1e308, 10**400]
COUNTS: list[Any] = [1, 2, None, 254, 255, 0, -1, 2**31, 2**32, 2**64, 1.5, math.nan, "2", Index(2), Index(Planned), []]
NUMBERS: list[Any] = [0, 1, 2, 3, 6, 17, 0xFFFF, 0x11400C, *LIMITS, *WRONG]
ANYTHING: list[Any] = [
    *WRONG,
    0,
    -1,
    2**100,
    (),
    {},
    set(),
    type,
    tpio,
    NotImplemented,
    ...,
    lambda *_: None,
    Planned("value"),
]

# ---- buffers: functions, since each is used once

SOURCES: list[Callable[[], Any]] = [
    lambda: b"some bytes",
    lambda: bytearray(b"some more bytes"),
    lambda: b"",
    lambda: bytes(range(256)) * 20,
    lambda: memoryview(b"a view of bytes")[2:6],
    lambda: array.array("i", [1, -2, 3]),
    lambda: array.array("d"),
    lambda: (ctypes.c_int * 4)(1, 2, 3),
    lambda: Record(7, b"text"),
    lambda: memoryview(bytes(24)).cast("B", (2, 3, 4)),
    lambda: memoryview(bytes(24)).cast("q", (3, 1)),
    lambda: memoryview(bytes(8)).cast("?"),
    lambda: memoryview(bytes(8)).cast("d", ()),
    lambda: mmap.mmap(-1, 100),
    lambda: memoryview(b"not contiguous")[::2],
    lambda: memoryview(b"backwards")[::-1],
    lambda: memoryview(bytes(24)).cast("B", (4, 6))[::2],
    _released,
    _closed_map,
    lambda: Buffer(memoryview(b"from Python")),
    lambda: Buffer(memoryview(b"from Python")[::2]),
    lambda: Buffer(Planned),
    lambda: Buffer("no view"),
    lambda: Raising(),
    *(_constant(wrong) for wrong in (None, "text", 5, 1.5, [1, 2], (b"a", b"b"), object(), bytes, 2**100)),
]
TARGETS: list[Callable[[], Any]] = [
    lambda: bytearray(100),
    lambda: memoryview(bytearray(5000))[10:4000],
    lambda: bytearray(),
    lambda: array.array("i", [0] * 10),
    lambda: (ctypes.c_int * 4)(),
    lambda: Record(),
    lambda: memoryview(bytearray(24)).cast("B", (2, 3, 4)),
    lambda: memoryview(bytearray(24)).cast("q", (1, 3)),
    lambda: memoryview(bytearray(8)).cast("d", ()),
    lambda: mmap.mmap(-1, 100),
    lambda: tpio.aligned_buffer(4096),
    lambda: memoryview(bytearray(20))[::2],
    lambda: memoryview(bytearray(20))[::-1],
    lambda: memoryview(bytearray(20)).toreadonly(),
    lambda: b"read only",
    lambda: memoryview(b"read only")[::2],
    _released,
    _closed_map,
    lambda: Buffer(memoryview(bytearray(16))),
    lambda: Buffer(memoryview(b"read only")),
    lambda: Buffer(Planned),
    lambda: Raising(),
    *(_constant(wrong) for wrong in (None, "text", 5, [1, 2], object(), bytearray)),
]


def many(buffers: list[Callable[[], Any]]) -> Callable[[Dice], Any]:
    """For sendmsg and recvmsg_into."""

    def make(dice: Dice) -> Any:
        if dice.chance(40):
            return dice.pick([*ANYTHING, b"bytes", "text", [[b"nested"]], iter([b"a", b"b"])])
        return [dice.pick(buffers)() for _ in range(dice.pick([1, 2, 0, 3, 20]))]

    return make


# ---- names, addresses, flags

_BAD_NAMES = [
    "",
    "\0",
    "a\0b",
    "x" * 300,
    "x" * 40000,
    "\ud800",
    "a\udfff",
    "*",
    "?",
    "a:b:c",
    " ",
    ".",
    "..",
    "con",
    "a/b",
]
_BAD_NAMES += ["\\\\", "\\\\.\\pipe\\", "\\\\?\\", "\\\\.\\nothing", "\\\\.\\pipe\\x\\y", "\U0001f600"]
PIPE_NAMES: list[Any] = [
    *(f"tpio-fuzz-{os.getpid()}-{i}" for i in range(3)),
    *_BAD_NAMES,
    b"bytes",
    Path("x"),
    *WRONG[:8],
]
PATHS: list[Any] = [
    *_BAD_NAMES,
    b"",
    b"\0",
    b"\xff\xfe",
    Path("x\0"),
    Path(b"x"),
    Path(5),
    Path(Planned),
    *WRONG[:9],
    True,
]
HOSTS: list[Any] = ["127.0.0.1", "::1", None, b"127.0.0.1", "x" * 300, "\0", "\ud800", "1.2.3.4\0", "::1%1", 5]
HOSTS += [Raising(), [], "fe80::1%99999999999999999999"]
PORTS: list[Any] = [0, 1, -1, 65535, 65536, 2**40, None, "1", "x", b"0", 1.5, Index(0), Raising()]
FLAGS: list[Any] = [0, -1, 2**32, 2**64, 2**100, 1.5, None, "x", Index(0), Raising(), 0x20000000, 0x02000000]
MODES: list[Any] = [
    "rb",
    "r+b",
    "wb",
    "ab",
    "xb",
    "x+b",
    "w+b",
    "r",
    "",
    "br",
    "rb\0",
    "\ud800",
    None,
    5,
    b"rb",
    [],
    Raising(),
]
SHARES: list[Any] = ["rwd", "", "r", "rrr", "x", "\0", None, 5, ["r", "w"], {"d"}, [[]], b"r", Raising()]
SECURITIES: list[Any] = [
    None,
    "",
    "D:",
    "D:P(A;;GA;;;WD)",
    "garbage",
    "D:\0",
    [],
    ["BU"],
    ["S-1-5-32-545"],
    ["x"],
    [5],
    5,
]
SECURITIES += ["D:(", "\ud800", b"D:", [")(A;;GA;;;WD"], Raising()]


def address(dice: Dice) -> Any:
    if dice.chance(50):
        return dice.pick(
            [*ANYTHING, ("127.0.0.1",), ["127.0.0.1", 1], ("::1", 1, -1), ("::1", 1, 0, 2**40), ("::1", 1, 1.5)]
        )
    return (dice.pick(HOSTS), dice.pick(PORTS))


def foreign(dice: Dice) -> Any:
    """What is not a handle that can be bound."""
    return dice.pick(
        [
            lambda: None,
            lambda: 0,
            lambda: -1,
            lambda: True,
            lambda: 1.5,
            lambda: 2**64 - 1,
            lambda: 2**64,
            lambda: 0x7FFFFFF0,
            lambda: "name",
            lambda: object(),
            Raising,
            _closed_socket,
            _closed_handle,
            lambda: Fileno(Planned),
            lambda: Fileno(OSError),
            lambda: Fileno("x"),
            lambda: Fileno(None),
            lambda: Fileno(1.5),
            lambda: Fileno(-1),
            lambda: Fileno(0x7FFFFFF0),
            lambda: Reader(999),
            lambda: Reader(-5),
            lambda: Reader(2**70),
            lambda: Reader("x"),
            lambda: type("NotCallable", (), {"fileno": 5})(),
            lambda: sys.stderr,
        ]
    )()


def callback(dice: Dice) -> Any:
    def raises(*args: object) -> None:
        raise Planned("in a callback")

    def asks(future: Any = None, *args: object) -> None:
        if isinstance(future, tpio.Future):
            future.done()
            future.cancel()
            repr(future)

    return dice.pick([asks, raises, lambda *_: None, None, 5, "x", [raises], [], object()])
