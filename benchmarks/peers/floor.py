"""Plain C: the programs of floor/, compiled by dev.py, which says in TPIO_BENCH_FLOOR where they are."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from .base import PATIENCE, Peer


class Floor(Peer):
    in_this_process = False

    def __init__(self, name: str, suffix: str = "") -> None:
        self.name = name
        self._suffix = suffix

    def can(self, workload: str) -> bool:
        return self._program(workload).exists()

    def run(self, workload: str, operations: int, **parameters: Any) -> float:
        command = [self._program(workload), str(operations), *map(str, parameters.values())]
        # Not capture_output: its threads would be this process's business while the program runs.
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE)
        if done.returncode:
            raise OSError(done.stdout.strip() or f"exit code {done.returncode}")
        return float(done.stdout)

    def _program(self, workload: str) -> Path:
        return Path(os.environ.get("TPIO_BENCH_FLOOR", ".")) / f"{workload}{self._suffix}.exe"
