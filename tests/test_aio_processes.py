"""tpio.aio.create_subprocess_exec: children of tpio.spawn as asyncio's subprocesses."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import pytest

import support
import tpio
from test_processes import HANG, PYTHON, TREE, has_ended, kernel32, open_process
from tpio import DEVNULL, PIPE, STDOUT, aio


def run(main: Coroutine[Any, Any, Any]) -> Any:
    async def within() -> Any:
        return await asyncio.wait_for(main, support.WAIT)

    return aio.run(within())


def test_megabytes_both_ways_at_once() -> None:
    program = "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data[::-1]); sys.exit(5)"

    async def main() -> tuple[bytes, bytes | None, int | None]:
        child = await aio.create_subprocess_exec(*PYTHON, program, stdin=PIPE, stdout=PIPE)
        out, err = await child.communicate(data)
        return out, err, child.returncode

    data = os.urandom(1 << 20)
    assert run(main()) == (data[::-1], None, 5)


def test_lines_as_they_come_and_each_standard_handle_by_itself() -> None:
    program = """if True:
        import sys
        for line in sys.stdin:
            print(line.strip().upper(), flush=True)
            print("heard", line.strip(), file=sys.stderr, flush=True)
    """

    async def main() -> list[bytes]:
        child = await aio.create_subprocess_exec(*PYTHON, program, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        seen = []
        for word in (b"one", b"two"):
            child.stdin.write(word + b"\n")
            await child.stdin.drain()
            seen += [await child.stdout.readline(), await child.stderr.readline()]
        child.stdin.close()
        assert await child.wait() == 0
        return [line.strip() for line in [*seen, await child.stdout.read(), await child.stderr.read()]]

    assert run(main()) == [b"ONE", b"heard one", b"TWO", b"heard two", b"", b""]


def test_stderr_with_stdout_the_environment_and_the_folder(tmp_path) -> None:
    program = "import os, sys; print(os.environ['WORD'], os.getcwd(), flush=True); print('x', file=sys.stderr)"

    async def main() -> bytes:
        child = await aio.create_subprocess_exec(
            *PYTHON, program, stdout=PIPE, stderr=STDOUT, env={**os.environ, "WORD": "said"}, cwd=tmp_path
        )
        return (await child.communicate())[0]

    assert run(main()).decode().split() == ["said", str(tmp_path), "x"]


@pytest.mark.parametrize("way", ["kill", "terminate", "signal", "close"])
def test_a_hung_child_ends_with_the_grandchild_that_holds_its_output(way: str) -> None:
    """asyncio's own subprocess ends the child alone, and its reader waits for the grandchild."""

    async def main() -> tuple[int, int]:
        child = await aio.create_subprocess_exec(sys.executable, "-I", "-c", TREE, stdout=PIPE, stdin=DEVNULL)
        grandchild = open_process(int((await child.stdout.readline()).split()[1]))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(child.stdout.read(1), 0.2)
        assert not has_ended(grandchild)
        if way == "signal":
            child.send_signal(signal.SIGTERM)
        elif way == "close":
            child._transport.close()
        else:
            getattr(child, way)()
        assert await child.stdout.read() == b""
        return grandchild, await child.wait()

    grandchild, returncode = run(main())
    assert returncode == 1
    assert tpio.wait_for_handle(grandchild, support.WAIT).result(2 * support.WAIT)
    kernel32.CloseHandle(grandchild)


def test_signals_that_windows_does_not_have_are_refused() -> None:
    async def main() -> None:
        child = await aio.create_subprocess_exec(*PYTHON, HANG)
        with pytest.raises(ValueError, match="unsupported signal"):
            child.send_signal(signal.SIGINT)
        child.kill()
        assert await child.wait() == 1
        with pytest.raises(ProcessLookupError):
            child.kill()

    run(main())


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        (["no such program"], {}, FileNotFoundError),
        ([3], {}, TypeError),
        (PYTHON, {"startupinfo": None}, TypeError),
        (PYTHON, {"stdout": "file"}, TypeError),
        (PYTHON, {"cwd": "no such folder"}, OSError),
    ],
    ids=["program", "argument", "option", "stdout", "folder"],
)
def test_what_cannot_be_started_raises_and_leaves_nothing(arguments, options, error) -> None:
    async def main() -> None:
        with pytest.raises(error):
            await aio.create_subprocess_exec(*arguments, **{"stdin": PIPE, "stdout": PIPE, **options})

    run(main())


def test_a_cancel_while_it_starts_ends_the_child() -> None:
    async def main() -> int:
        loop: Any = asyncio.get_running_loop()
        spawned = []
        make = loop._make_spawned_transport
        loop._make_spawned_transport = lambda *args: spawned.append(make(*args)) or spawned[-1]
        starting = asyncio.ensure_future(aio.create_subprocess_exec(*PYTHON, HANG, stdout=PIPE))
        await asyncio.sleep(0)
        process = open_process(spawned[0].get_pid())
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        return process

    process = run(main())
    assert has_ended(process)
    kernel32.CloseHandle(process)


def test_a_hundred_children_at_once() -> None:
    async def one(number: int) -> bytes:
        child = await aio.create_subprocess_exec(*PYTHON, f"print({number})", stdout=PIPE)
        return (await child.communicate())[0]

    async def main() -> list[bytes]:
        return await asyncio.gather(*map(one, range(100)))

    assert list(map(int, run(main()))) == list(range(100))


def test_another_loop_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="tpio.aio"):
            await aio.create_subprocess_exec(*PYTHON, HANG)

    asyncio.run(main())
