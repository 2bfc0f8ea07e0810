"""Cancel what is pending, bound what may take too long, and lose nothing by either."""

import asyncio
from concurrent.futures import CancelledError

import tpio

reader, writer = tpio.pipe()
with reader, writer:
    read = reader.read(1)
    read.cancel()  # a request: the future ends when the system says so
    try:
        read.result()
    except CancelledError:
        print("cancelled")

    read = reader.read(100)
    try:
        read.result(timeout=0.05)  # stops waiting; the read goes on
    except TimeoutError:
        writer.write(b"late").result()
        assert read.result() == b"late"

    async def impatient():
        try:
            return await asyncio.wait_for(reader.read(100), 0.05)  # cancels the read
        except TimeoutError:
            await writer.write(b"not lost")
            return await reader.read(100)

    assert asyncio.run(impatient()) == b"not lost"
