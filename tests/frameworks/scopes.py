"""What trio's cancel scopes and anyio's have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

import tpio


async def end_reads_that_lose_nothing(
    move_on_after: Callable[[float], AbstractContextManager[Any]], wait: Callable[[tpio.Future], Awaitable[Any]]
) -> None:
    reader, writer = tpio.pipe()
    with reader, writer:
        for number in range(20):
            with move_on_after(0.01) as scope:
                await wait(reader.read(100))
            assert scope.cancelled_caught
            message = f"number {number}".encode()
            await wait(writer.write(message))
            assert await wait(reader.read(100)) == message
