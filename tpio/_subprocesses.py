"""Children of `tpio.spawn` as asyncio's subprocesses, for tpio.aio."""

from __future__ import annotations

import asyncio
from asyncio import base_subprocess
from typing import Any

from ._pipe_streams import LIMIT
from ._processes import Process, spawn

_standard: Any = base_subprocess  # the type stubs do not know what this class is made of


class SpawnedTransport(_standard.BaseSubprocessTransport):  # type: ignore[misc]
    """asyncio's own, on a tpio.Process: its end is that of everything that the child has started."""

    _proc: Process | None
    _loop: Any

    def _start(
        self, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, bufsize: int, **options: Any
    ) -> None:
        process = spawn(args, stdin=stdin, stdout=stdout, stderr=stderr, **options)
        try:
            ended = self._loop._proactor.wait_for_handle(process._process)
        except BaseException:
            process.kill()
            process.close()
            raise
        self._proc = process
        ended.add_done_callback(lambda _: self._process_exited(process.poll()))

    def _call_connection_lost(self, exc: Any) -> None:
        process = self._proc
        super()._call_connection_lost(exc)
        if process is not None:
            process._let_go()


async def create_subprocess_exec(
    program: Any,
    *args: Any,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    limit: int = LIMIT,
    **options: Any,
) -> asyncio.subprocess.Process:
    """asyncio.create_subprocess_exec on tpio.spawn: the child gets its three handles and nothing else, and kill() and
    terminate() end everything that it has started too, so that who reads from it gets the end of the file.

    stdin, stdout, stderr and the options env, cwd and creationflags: see tpio.spawn, which also says what is raised. limit:
    bytes that a StreamReader holds. RuntimeError under another loop than tpio.aio's.
    """
    loop: Any = asyncio.get_running_loop()
    make = getattr(loop, "_make_spawned_transport", None)
    if make is None:
        raise RuntimeError(
            "this needs tpio.aio's event loop; with another one, await what tpio.spawn's Process returns"
        )
    protocol = asyncio.subprocess.SubprocessStreamProtocol(limit=limit, loop=loop)
    connected = loop.create_future()
    transport = make(protocol, (program, *args), stdin, stdout, stderr, connected, options)
    try:
        await connected
    except BaseException:
        transport.close()
        await transport._wait()
        raise
    return asyncio.subprocess.Process(transport, protocol, loop)
