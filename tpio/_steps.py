"""Operations made of several: a generator that yields futures, driven by their completions.

    @steps
    def fetch(...):
        answer = yield first_operation()    # its result, or its exception is raised here
        yield pool                          # goes on on a thread of that pool
        yield second_operation(answer)
        return answer                       # the result of the whole

Calling it returns a Future. To cancel that cancels the operation under way; if that one was faster, the generator gets
CancelledError before the next. It runs on the caller's thread up to the first pool or future that is not done, and then
on the threads that deliver.
"""

from __future__ import annotations

import errno
import functools
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError
from typing import Any, ParamSpec, TypeVar

from ._tpio import Future, Pool, done_future_of

ERROR_TIMEOUT = 1460

P = ParamSpec("P")
T = TypeVar("T")
Steps = Generator["Future[Any] | Pool", Any, T]

CANCELLED, FINISHED, FAILED = 2, 3, 4  # of Future._end


class _Run:
    """One generator under way, and the future of the whole."""

    def __init__(self, generator: Steps[Any]) -> None:
        self.whole: Future[Any] = Future()
        self.whole._on_cancel = self.cancel
        self._generator = generator
        self._step: Future[Any] | None = None
        self._cancelling = False
        self._lock = threading.Lock()  # between a cancel and the change of steps

    def cancel(self) -> bool:
        with self._lock:
            self._cancelling = True
            step = self._step
        if step is not None and not step.cancel() and not step.done():
            # A function that runs, such as a look-up of a name: it is left to itself, and what it brings to nobody.
            return self.whole._end(CANCELLED, None)
        return True

    def _hop(self, pool: Pool) -> Future[Any] | None:
        """Goes on on a thread of the pool, also when that thread is faster than this one. A failed step when it cannot."""
        closed = lambda turn: self.advance(turn) if turn.cancelled() else None  # noqa: E731  # made while nothing runs yet
        try:
            turn = pool.submit(self.advance, done_future_of(None))
        except (RuntimeError, MemoryError) as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed
        turn.add_done_callback(closed)  # with its pool
        return None

    def advance(self, done: Future[Any] | None = None) -> None:
        """Goes on after a step. Steps that are done at once are taken in a loop, not by recursion."""
        generator = self._generator
        while True:
            with self._lock:
                self._step = None
                stop = self._cancelling
            try:
                if done is None:
                    step = generator.send(None)
                elif done.cancelled() or stop:
                    step = generator.throw(CancelledError())
                elif (error := done.exception()) is not None:
                    step = generator.throw(error)
                else:
                    step = generator.send(done.result())
                if isinstance(step, Pool):
                    if (done := self._hop(step)) is not None:
                        continue
                    return
            except StopIteration as end:
                self.whole._end(FINISHED, end.value)
            except CancelledError:
                self.whole._end(CANCELLED, None)
            except BaseException as error:
                self.whole._end(FAILED, error)
            else:
                try:
                    with self._lock:
                        self._step = step
                        stop = self._cancelling
                    if stop:
                        step.cancel()
                    if not step.done():
                        step.add_done_callback(self.advance)
                        return
                    done = step
                    continue
                except MemoryError as error:
                    step.cancel()
                    generator.close()
                    self.whole._end(FAILED, error)
            self._generator = None  # type: ignore[assignment]  # no cycle through its frame
            return


def steps(function: Callable[P, Steps[T]]) -> Callable[P, Future[T]]:
    @functools.wraps(function)
    def start(*args: P.args, **kwargs: P.kwargs) -> Future[T]:
        run = _Run(function(*args, **kwargs))
        run.advance()
        return run.whole

    return start


def timed_out(message: str) -> TimeoutError:
    """For a time limit that was asked for: a TimeoutError with the code that the system has for it."""
    error = TimeoutError(message)
    error.errno, error.winerror = errno.ETIMEDOUT, ERROR_TIMEOUT
    return error
