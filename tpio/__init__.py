"""Asynchronous I/O for Windows on the operating system's own thread pool.

Any handle opened for overlapped I/O is bound once per process; every operation returns a `Future` (a
`concurrent.futures.Future` that can also be awaited). There is no loop to run. See README.md and help(tpio.Handle).
"""

import sys
from typing import TYPE_CHECKING, Any

if sys.platform != "win32":
    raise ImportError(
        "tpio is for Windows: it is a binding of the Windows thread pool. "
        "On this system use asyncio, trio or uvloop, which sit on epoll, kqueue or io_uring."
    )

try:
    from ._tpio import (
        BindError,
        Future,
        Handle,
        IncompleteReadError,
        LimitOverrunError,
        Pool,
        PoolStats,
        TruncatedError,
        default_pool,
        sleep,
        wait_for_handle,
    )
except ImportError as error:
    if "interpreter" not in str(error):
        raise
    raise ImportError(
        "tpio cannot be used in a subinterpreter: its completions are delivered to the main interpreter"
    ) from error

from ._files import File, aligned_buffer, copy_file, open
from ._pipes import Pipe, PipeListener, open_pipe, pipe
from ._processes import DEVNULL, PIPE, STDOUT, Process, spawn
from ._sockets import Socket, getaddrinfo, listen, open_connection
from ._timers import Timer
from ._verbs import accept, connect, poll_read, poll_write, pump, read, read_into, write
from ._watch import Change, Overflow, Watcher, watch

__version__ = "0.1.0"


if TYPE_CHECKING:
    from . import aio as aio
    from . import tls as tls
    from . import trio as trio


def __getattr__(name: str) -> Any:
    """Imports tpio.aio, tpio.tls and tpio.trio on first use, because that takes time."""
    if name in ("aio", "tls", "trio"):
        from importlib import import_module

        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Returns the public names, and those of the modules that are imported on first use."""
    return sorted([*__all__, "__version__", "aio", "tls", "trio"])


def get_include() -> str:
    """The folder of tpio.h, for extension modules that use the C API."""
    from pathlib import Path

    return str(Path(__file__).parent / "include")


__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "BindError",
    "Change",
    "File",
    "Future",
    "Handle",
    "IncompleteReadError",
    "LimitOverrunError",
    "Overflow",
    "Pipe",
    "PipeListener",
    "Pool",
    "PoolStats",
    "Process",
    "Socket",
    "Timer",
    "TruncatedError",
    "Watcher",
    "accept",
    "aligned_buffer",
    "connect",
    "copy_file",
    "default_pool",
    "get_include",
    "getaddrinfo",
    "listen",
    "open",
    "open_connection",
    "open_pipe",
    "pipe",
    "poll_read",
    "poll_write",
    "pump",
    "read",
    "read_into",
    "sleep",
    "spawn",
    "wait_for_handle",
    "watch",
    "write",
]
