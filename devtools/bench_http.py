"""HTTP "hello" under uvicorn and httptools, with a load that comes from wrk, a program of this machine."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from . import build, frameworks, system, wine
from .pythons import Version
from .ui import Failure, say

_LOOPS = {"tpio.aio": "tpio", "asyncio Proactor": "proactor", "winloop": "winloop"}
_PATIENCE = 60  # seconds for a server to start


def run(version: Version, *, quick: bool) -> int:
    """The loops take turns, and what is compared are the turns of one round, as in benchmarks/harness.py."""
    if wine.NATIVE:
        raise Failure("there is no wrk for Windows; run this on Debian or Ubuntu")
    rounds, seconds = (3, 1) if quick else (9, 2)
    system.need("wrk", present=shutil.which("wrk") is not None)
    python = frameworks.get(version)
    with tempfile.TemporaryDirectory(prefix="tpio-http-") as folder:
        files = {name: Path(folder) / loop for name, loop in _LOOPS.items()}
        servers = [
            threading.Thread(
                target=python.run,
                args=[["-m", "benchmarks.http_server", loop, wine.windows_path(files[name])]],
                kwargs={"cwd": build.CHECKOUT},
            )
            for name, loop in _LOOPS.items()
        ]
        for server in servers:
            server.start()
        try:
            ports = {name: _port(file) for name, file in files.items()}
            for connections in (32, 256):
                print(_table(connections, _measure(ports, connections, rounds, seconds)), flush=True)
        finally:
            for file in files.values():
                file.unlink(missing_ok=True)
            for server in servers:
                server.join()
    return 0


def _port(file: Path) -> int:
    deadline = time.monotonic() + _PATIENCE
    while not file.exists():
        if time.monotonic() > deadline:
            raise Failure(f"the server on {file.name} does not start")
        time.sleep(0.05)
    return int(file.read_text(encoding="utf-8"))


def _measure(ports: dict[str, int], connections: int, rounds: int, seconds: int) -> dict[str, list[float]]:
    """Requests a second of each turn; the first round is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in ports}
    for number in range(rounds + 1):
        say(f"wrk -c{connections}: round {number} of {rounds}")
        for name, port in ports.items():
            rate = _wrk(port, connections, seconds)
            if number:
                rates[name].append(rate)
    return rates


def _wrk(port: int, connections: int, seconds: int) -> float:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if found is None or "Non-2xx" in said:
        raise Failure(f"wrk says {said!r}")
    return float(found[1])


def _table(connections: int, rates: dict[str, list[float]]) -> str:
    others = [name for name in rates if name != "tpio.aio"]
    lines = [
        f"## HTTP hello under uvicorn and httptools, wrk -c{connections}",
        "",
        f"| | requests/s | {' | '.join(f'speed, {name} = 1' for name in others)} |",
        f"|---|---:|{'---:|' * len(others)}",
    ]
    for name, own in rates.items():
        cells = [f"{statistics.median(own):,.0f}", *(_speed(own, rates[other]) for other in others)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _speed(own: list[float], other: list[float]) -> str:
    low, median, high = statistics.quantiles([a / b for a, b in zip(own, other, strict=True)], n=4, method="inclusive")
    return f"{median:.2f} ({low:.2f} to {high:.2f})"
