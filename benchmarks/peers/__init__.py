"""Who is measured."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import tpio.aio

from ..machine import is_wine
from .asyncio_loops import AsyncioExecutor, AsyncioLoop, AsyncioSockets, AsyncioStreams
from .base import Peer
from .floor import Floor
from .loops import LoopStreams
from .threads import BlockingThreads
from .tpio_await import TpioAwait
from .tpio_callbacks import TpioCallbacks
from .tpio_pump import TpioPump
from .tpio_result import TpioResult

try:
    import winloop  # a peer where it is installed; not a requirement
except ImportError:
    winloop = None


def _optional(module: str, name: str, *args: Any) -> list[Peer]:
    """A peer that needs another package, where that is installed."""
    try:
        return [getattr(importlib.import_module(f".{module}", __name__), name)(*args)]
    except ImportError:
        return []


# Named pipes are libuv's sockets of the Unix kind, which need AF_UNIX.
NOT_IN_LIBUV = ("udp_ping", "send_file", *(["named_pipe_echo"] if is_wine() else []))

ALL: tuple[Peer, ...] = (
    TpioCallbacks(),
    TpioAwait("tpio, await on tpio.aio", tpio.aio.EventLoop),
    TpioAwait("tpio, await on asyncio Proactor"),
    TpioResult(),
    TpioPump(),
    *_optional("tpio_capi", "TpioCapi"),
    AsyncioStreams("asyncio Proactor, streams"),
    AsyncioSockets("asyncio Proactor, sock_*"),
    AsyncioLoop("asyncio Proactor"),
    AsyncioExecutor("asyncio Proactor, run_in_executor"),
    *([AsyncioSockets("winloop, sock_*", winloop.new_event_loop, NOT_IN_LIBUV)] if winloop else []),
    *_optional("aiofiles_peer", "Aiofiles", "aiofiles"),
    *_optional("twisted_peer", "Twisted"),
    *_optional("pywin32_peer", "Pywin32"),
    BlockingThreads(),
    Floor("plain C"),
    Floor("plain C, completion port", "-port"),
    LoopStreams("tpio.aio loop", tpio.aio.EventLoop),
    LoopStreams("asyncio Proactor loop", asyncio.ProactorEventLoop),
    *([LoopStreams("winloop loop", winloop.new_event_loop, NOT_IN_LIBUV)] if winloop else []),
)

REFERENCE = TpioCallbacks.name
FLOOR = "plain C"
LOOP_REFERENCES = ("asyncio Proactor loop", "winloop loop")

__all__ = ["ALL", "FLOOR", "LOOP_REFERENCES", "REFERENCE", "Peer"]
