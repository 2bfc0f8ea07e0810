"""Timers that call a function."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from . import _tpio
from ._tpio import Future, Pool


class Timer:
    """Calls callback() on a pool thread after `delay` seconds, and with a `period` every so many seconds from then on.

    Never early; the system's timers have a resolution of about 16 ms. Calls do not overlap: one that takes longer than
    the period makes the next ones fall away. window: seconds by which a call may be later, so that the system can serve
    several timers at once. An exception from the callback goes to sys.unraisablehook, and the timer goes on. It lives
    until it has ended, whether there is a reference to it or not.
    https://learn.microsoft.com/windows/win32/api/threadpoolapiset/nf-threadpoolapiset-setthreadpooltimer
    """

    def __init__(
        self,
        callback: Callable[[], Any],
        delay: float,
        *,
        period: float | None = None,
        window: float = 0,
        pool: Pool | None = None,
    ) -> None:
        if not callable(callback):
            raise TypeError(f"a callable is needed, not {type(callback).__name__!r}")
        if period is not None and not period > 0:
            raise ValueError("the period must be positive")
        period = _tpio.timeout_seconds(period, "the period")
        self._callback: Callable[[], Any] | None = callback
        self._period = period
        self._window = window
        self._pool = pool
        self._sleep: Future[None] | None = None
        self._lock = threading.RLock()
        self._due = time.perf_counter() + delay
        with self._lock:  # it may fire at once
            self._sleep = _tpio.call_after(self._fire, delay, window, pool)

    def cancel(self) -> bool:
        """Stops the timer; may be called anywhere, also in the callback. True: it will not call any more because of this
        (a call that is under way goes on); False: it had ended already."""
        with self._lock:
            was_active, self._callback = self.active, None
            pending, self._sleep = self._sleep, None
        if pending is not None:
            pending.cancel()
        return was_active

    @property
    def active(self) -> bool:
        """Will it call (again)?"""
        sleep = (
            self._sleep
        )  # the close of its pool has cancelled it, of which _fire hears a moment later, on another thread
        return self._callback is not None and not (sleep is not None and sleep.cancelled())

    def _fire(self, slept: Future[None]) -> None:
        over = slept.cancelled() or slept.exception() is not None  # with its pool, or for lack of memory
        with self._lock:
            callback = self._callback
            self._sleep = None
            if self._period is None or over:
                self._callback = None
        if callback is None or over:
            return
        try:
            callback()
        except BaseException as error:
            _tpio.report_unraisable(error, callback)
        if self._period is not None:
            self._again(self._period)

    def _again(self, period: float) -> None:
        now = time.perf_counter()
        self._due += period
        if self._due <= now:  # the calls that were missed fall away
            self._due = now + period - (now - self._due) % period
        with self._lock:
            if self._callback is None:
                return
            try:
                self._sleep = _tpio.call_after(self._fire, max(self._due - now, 0), self._window, self._pool)
            except RuntimeError:  # the pool was closed
                self._callback = None

    def __repr__(self) -> str:
        return f"<tpio.Timer {'active' if self.active else 'ended'}>"
