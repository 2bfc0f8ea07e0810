"""Await tpio's futures under any asyncio loop: Proactor, Selector, or another library's."""

import asyncio

import tpio


async def shout(reader, writer):
    while data := await reader.read(4096):
        await writer.write(data.upper())
    writer.close()


async def main():
    ours, theirs = tpio.pipe()
    answers, answering = tpio.pipe()
    task = asyncio.create_task(shout(ours, answering))
    async with asyncio.timeout(10):
        await asyncio.gather(theirs.write(b"hello "), theirs.write(b"world"))
        received = b""
        while len(received) < 11:
            received += await answers.read(4096)
        assert received == b"HELLO WORLD"
        theirs.close()
        await task
        assert await answers.read(1) == b""
    ours.close()
    answers.close()


asyncio.run(main())
