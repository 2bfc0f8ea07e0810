"""Programs that people write with other libraries, on tpio: aiohttp, uvicorn, websockets, redis-py, trio and the like."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence

from . import build, interpreter, system, wine
from .pythons import Version
from .ui import Failure, say, step

_REDIS = (
    "redis-check-rdb"  # the server's program, which Debian's tools have too, without the service; named so, it serves
)

# Trio tells Hypothesis of its random numbers, in a way that Hypothesis warns of.
_OPTIONS = ("-p", "no:hypothesispytest")
_TESTS = ("tests/frameworks", "tests/test_asyncio.py", "-k", "frameworks or winloop")


def run(versions: Sequence[Version], pytest_args: Sequence[str]) -> int:
    """Runs tests/frameworks/ in the checkout, with a real Redis server of this machine, but on Windows."""
    failed = []
    with _redis() as variables:
        for version in interpreter.available(versions):
            python = get(version)
            say(f"testing frameworks on Python {version.name}")
            command = ["-m", "pytest", *_OPTIONS, *(pytest_args or _TESTS)]
            if python.run(command, cwd=build.CHECKOUT, **variables):
                failed.append(version.name)
    if failed:
        raise Failure(f"the tests FAIL on Python {', '.join(failed)}")
    return 0


def get(version: Version) -> interpreter.Interpreter:
    """A Windows Python with the frameworks."""
    return interpreter.get(version).with_packages(interpreter.compiled_packages("frameworks", version))


@contextlib.contextmanager
def _redis() -> Iterator[dict[str, str]]:
    if wine.NATIVE:
        yield {}
        return
    system.need("redis-tools", present=shutil.which(_REDIS) is not None)
    with tempfile.TemporaryDirectory(prefix="tpio-redis-") as folder:
        for _ in range(5):
            port = _free_port()
            command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder]
            with subprocess.Popen(
                command, executable=shutil.which(_REDIS), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            ) as server:
                try:
                    if _serves(server, port):
                        yield {"TPIO_TEST_REDIS": str(port)}
                        return
                finally:
                    server.terminate()
    raise Failure("the Redis server does not start; run redis-server by hand to see why")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _serves(server: subprocess.Popen[bytes], port: int) -> bool:
    """Once it answers. False: it has ended, since another program was faster to take the port."""
    with step("starting a Redis server"):
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=10).close()
            except ConnectionRefusedError:
                pass
            else:
                return server.poll() is None
            try:
                server.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            return False
