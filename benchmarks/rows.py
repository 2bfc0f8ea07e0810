"""What is measured. A workload is a method of the peers; a row is a workload with its parameters.

tcp_ping(turns, size)                a message to and fro over one TCP connection
pipe_ping(turns, size)               the same over two one-way pipes
pipe_bulk(blocks, size)              blocks through a pipe, one write and one read in flight
file_reads(reads, size, depth, path) reads here and there in a file that the system has in its cache, depth in flight

A peer does it as its users would write it: what has a result is waited for where the peer's own examples do so.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA_SIZE = 16 << 20
STRIDE = 7919  # blocks between one read and the next: prime, so that every block has its turn


@dataclass(frozen=True)
class Row:
    name: str  # for --only
    title: str
    workload: str
    parameters: Mapping[str, Any]
    unit: str  # "µs": of one operation; "MB/s": of operations of parameters["size"] bytes

    def on(self, data: str) -> Row:
        """The row with the name of the data file, where it wants one."""
        if "path" not in self.parameters:
            return self
        return dataclasses.replace(self, parameters={**self.parameters, "path": data})

    def in_unit(self, cost: float) -> float:
        return self.parameters["size"] / cost / 1e6 if self.unit == "MB/s" else cost * 1e6


ROWS = (
    Row("tcp-ping", "TCP ping-pong, 64 bytes: one round trip", "tcp_ping", {"size": 64}, "µs"),
    Row("pipe-ping", "Pipe ping-pong, 64 bytes: one round trip", "pipe_ping", {"size": 64}, "µs"),
    Row("pipe-bulk", "Pipe bulk transfer in blocks of 64 KiB", "pipe_bulk", {"size": 65536}, "MB/s"),
    Row(
        "file-reads",
        "File reads of 4 KiB, 32 in flight: one read",
        "file_reads",
        {"size": 4096, "depth": 32, "path": ""},
        "µs",
    ),
)


def make_data_file(folder: Path) -> str:
    path = folder / "data"
    path.write_bytes(os.urandom(DATA_SIZE))
    return str(path)


def places(slot: int, reads: int, size: int, depth: int) -> range | list[int]:
    """Where the reads of one of `depth` slots begin, so that all slots together make `reads`."""
    blocks = DATA_SIZE // size
    return [n * STRIDE % blocks * size for n in range(slot, reads, depth)]
