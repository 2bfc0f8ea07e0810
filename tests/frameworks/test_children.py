"""A program that is all subprocesses."""

from __future__ import annotations

import asyncio
import os
import sys

from support import WAIT
from tpio import aio

CHILDREN = 100
COPY = "import sys, shutil; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer, 65536); sys.stderr.write('done')"


def test_a_hundred_children_at_once_with_megabytes_through_their_stdio():
    data = os.urandom(2_000_000)
    together = asyncio.Semaphore(0)

    async def child():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", COPY),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            together.release()
            await started.wait()
            output, said = await process.communicate(data)
            assert said == b"done"
            assert output == data
            return process.returncode
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def main():
        nonlocal started
        started = asyncio.Event()
        children = [asyncio.create_task(child()) for _ in range(CHILDREN)]
        for _ in range(CHILDREN):
            await together.acquire()
        started.set()  # all of them run, and wait for what they are to copy
        return await asyncio.gather(*children)

    started = asyncio.Event()
    assert aio.run(asyncio.wait_for(main(), 2 * WAIT)) == [0] * CHILDREN
