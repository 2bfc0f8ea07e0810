"""await on tpio's futures under trio, with cancel scopes that follow tpio's rule for a cancel.

    with trio.move_on_after(1):
        data = await tpio.trio.wait(pipe.read(4096))

Importing this module imports trio; tpio itself does not need it.
"""

from __future__ import annotations

from typing import Any, TypeVar

import trio

from ._tpio import Future

__all__ = ["wait"]

T = TypeVar("T")


async def wait(future: Future[T]) -> T:
    """The future's result, or its exception. A checkpoint, for any future of tpio's: operations, Pool.submit, steps.

    When the surrounding cancel scope is cancelled, so is the operation, and the task goes on waiting until the system says
    how it has ended. Only what was aborted raises trio.Cancelled. If the operation was faster, its result is returned: no
    byte and no connection is lost, and the next checkpoint raises trio.Cancelled. What cannot be cancelled (a function that
    runs) is left to itself, and trio.Cancelled is raised at once.

    A future that somebody else has cancelled, by closing its handle, say, raises concurrent.futures.CancelledError.
    """
    if future.done():
        # A cancel here would lose the result.
        await trio.lowlevel.cancel_shielded_checkpoint()
        return future.result()

    task = trio.lowlevel.current_task()
    token = trio.lowlevel.current_trio_token()
    raise_cancel: Any = None
    waiting = True

    def ended(_: Future[T]) -> None:  # on a thread of the pool
        try:
            token.run_sync_soon(resume)
        except trio.RunFinishedError:
            pass

    def resume() -> None:
        nonlocal waiting
        if waiting:
            waiting = False
            trio.lowlevel.reschedule(task)

    def abort(raise_it: Any) -> trio.lowlevel.Abort:
        nonlocal raise_cancel, waiting
        if future.cancel() or future.done():
            raise_cancel = raise_it
            return trio.lowlevel.Abort.FAILED  # not yet: its end, which comes, decides
        waiting = False
        return trio.lowlevel.Abort.SUCCEEDED

    future.add_done_callback(ended)
    await trio.lowlevel.wait_task_rescheduled(abort)
    if raise_cancel is not None and future.cancelled():
        raise_cancel()
    return future.result()
