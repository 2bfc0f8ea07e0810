"""asyncio on tpio: its streams over a named pipe, and a file, in one event loop."""

import os
import tempfile

from tpio import aio


async def answer(reader, writer):
    while line := await reader.readline():
        writer.write(line.upper())
    writer.close()
    await writer.wait_closed()


async def main(name, path):
    async with await aio.serve_pipe(answer, name), aio.open_file(path, "w+b") as file:
        reader, writer = await aio.open_pipe(name)
        for word in (b"hello\n", b"world\n"):
            writer.write(word)
            await file.write(await reader.readline())
        writer.close()
        await writer.wait_closed()
        assert await file.read(100, 0) == b"HELLO\nWORLD\n"


with tempfile.TemporaryDirectory() as folder:
    aio.run(main(f"tpio-example-{os.getpid()}", os.path.join(folder, "answers")))
