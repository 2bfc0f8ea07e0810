"""aiofiles: files for asyncio, on threads."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor

import aiofiles

from ..rows import places
from .asyncio_loops import _OnLoop, timed
from .base import expect


class Aiofiles(_OnLoop):
    def file_reads(self, reads: int, size: int, depth: int, path: str) -> float:
        """Each reader has a file of its own, which has one position."""

        async def read(offsets: list[int] | range, stack: contextlib.AsyncExitStack) -> None:
            file = await stack.enter_async_context(aiofiles.open(path, "rb", buffering=0))
            for offset in offsets:
                await file.seek(offset)
                expect(await file.read(size), size)

        async def main() -> float:
            with ThreadPoolExecutor(depth) as executor:
                asyncio.get_running_loop().set_default_executor(executor)
                async with contextlib.AsyncExitStack() as stack:
                    return await timed(*(read(places(slot, reads, size, depth), stack) for slot in range(depth)))

        return self._run(main())
