"""How many operations of each kind were begun."""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import tpio
import tpio.aio

begun: Counter[str] = Counter()
_lock = threading.Lock()

_METHODS: dict[type, str] = {
    tpio.Pipe: "read read_into write poll_read ioctl",
    tpio.PipeListener: "accept",
    tpio.Socket: "read read_into write poll_read poll_write accept connect sendmsg recvmsg_into recvfrom recvfrom_into "
    "sendto sendfile disconnect detach share",
    tpio.File: "read read_into write read_many write_many lock ioctl",
    tpio.Watcher: "changes",
    tpio.Process: "wait communicate",
    tpio.Pool: "submit",
    tpio.aio.Proactor: "recv recv_into send recvfrom recvfrom_into sendto accept connect wait_for_handle",
}
_FUNCTIONS = "open_pipe open_connection getaddrinfo copy_file pump sleep wait spawn"


def _counted(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        with _lock:
            begun[kind] += 1
        return function(*args, **kwargs)

    return counted


def install() -> None:
    for owner, names in _METHODS.items():
        for name in names.split():
            setattr(owner, name, _counted(f"{owner.__name__}.{name}", getattr(owner, name)))
    for name in _FUNCTIONS.split():
        setattr(tpio, name, _counted(name, getattr(tpio, name)))
