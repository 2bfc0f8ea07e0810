"""What is measured. A workload is a method of the peers; a row is a workload with its parameters.

tcp_ping(turns, size)                a message to and fro over one TCP connection
pings(turns, size, connections)      the same over so many TCP connections at once
pipe_ping(turns, size)               the same over two one-way pipes
pipe_bulk(blocks, size)              blocks through a pipe, one write and one read in flight
relay(blocks, size)                  blocks that a thread writes into a pipe go to a TCP connection, which another empties
file_reads(reads, size, depth, path) reads here and there in a file that the system has in its cache, depth in flight
udp_ping(turns, size)                a datagram to and fro
send_file(blocks, size, path)        a file over a TCP connection to a thread that only receives
timers_kept(timers, pending)         a timer is made and cancelled, while so many others are pending
timers_fired(timers)                 timers that are due at once: made, and each has called its function
functions(calls, depth)              functions that do nothing, on four threads, depth of them submitted and not ended
waits(waits, together)               events that are waited for, so many at a time, are set, and each wait has ended
directory(files, folder)             a file is made in a directory of a thousand, and is seen
accepts(connections)                 a client connects, is accepted, and both ends are closed
spawns(children)                     a child is started, what it writes is read, and it has ended
wake_ups(turns)                      from a send of a thread that blocks until who receives goes on
imports(times)                       a new process imports the package
streams_echo(messages, size, connections)  asyncio's streams, so many clients of one server: a message to and fro
child_output(blocks, size)           what a child writes to its standard output, once it has begun
named_pipe_echo(turns, size)         asyncio's streams on a named pipe, a client and its server

A peer does it as its users would write it: what has a result is waited for where the peer's own examples do so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA_SIZE = 16 << 20
DIRECTORY_SIZE = 1000
SHORTEST = 64  # operations of one turn
STRIDE = 7919  # blocks between one read and the next: prime, so that every block has its turn


@dataclass(frozen=True)
class Row:
    name: str  # for --only
    title: str
    workload: str
    parameters: Mapping[str, Any]
    unit: str  # "µs": of one operation; "MB/s": of operations of parameters["size"] bytes
    operations: int | None = None  # of a turn, if not as many as fill the time of one
    loops: bool = False  # compares event loops
    most_rounds: int | None = None  # where it takes long to make what the operations are done on
    cpu: bool = (
        False  # not the time that passes counts, but what the process uses of the processors' (not Wine's server)
    )

    def on(self, **places: str) -> Row:
        """The row with the names of the data file and the directory, where it wants them."""
        wanted = {name: place for name, place in places.items() if name in self.parameters}
        return dataclasses.replace(self, parameters={**self.parameters, **wanted})

    @property
    def least(self) -> int:
        """Operations of one turn: so many that there are once as many at the same time as the title says."""
        at_once = (self.parameters.get(name, 0) for name in ("together", "connections", "depth"))
        return max(SHORTEST, *at_once)

    def in_unit(self, cost: float) -> float:
        return self.parameters["size"] / cost / 1e6 if self.unit == "MB/s" else cost * 1e6


def _echo(connections: int) -> Row:
    title = f"Streams echo, 64 bytes, {connections:,} connections: one message"
    parameters = {"size": 64, "connections": connections}
    return Row(f"loop-echo-{connections}", title, "streams_echo", parameters, "µs", loops=True)


def _pings(connections: int) -> Row:
    title = f"TCP ping-pong, 64 bytes, {connections:,} connections: one round trip"
    parameters = {"size": 64, "connections": connections}
    rounds = {1_000: 5, 5_000: 3}.get(connections)
    return Row(f"tcp-ping-{connections}", title, "pings", parameters, "µs", most_rounds=rounds)


def _reads(depth: int) -> Row:
    title = f"File reads of 4 KiB, {depth} in flight: one read"
    return Row(f"file-reads-{depth}", title, "file_reads", {"size": 4096, "depth": depth, "path": ""}, "µs")


ROWS = (
    Row("tcp-ping", "TCP ping-pong, 64 bytes: one round trip", "tcp_ping", {"size": 64}, "µs"),
    Row("pipe-ping", "Pipe ping-pong, 64 bytes: one round trip", "pipe_ping", {"size": 64}, "µs"),
    _pings(8),
    _pings(64),
    _pings(256),
    _pings(1_000),
    _pings(5_000),
    Row("pipe-bulk", "Pipe bulk transfer in blocks of 64 KiB", "pipe_bulk", {"size": 65536}, "MB/s"),
    Row("pipe-bulk-1m", "Pipe bulk transfer in blocks of 1 MiB", "pipe_bulk", {"size": 1 << 20}, "MB/s"),
    Row("relay", "From a pipe to a connection, in blocks of 64 KiB", "relay", {"size": 65536}, "MB/s"),
    Row("relay-4k", "From a pipe to a connection, in blocks of 4 KiB", "relay", {"size": 4096}, "MB/s"),
    _reads(1),
    _reads(8),
    _reads(32),
    _reads(128),
    Row(
        "file-reads-64k",
        "File reads of 64 KiB, one at a time",
        "file_reads",
        {"size": 65536, "depth": 1, "path": ""},
        "MB/s",
    ),
    Row("wake-up", "From a thread's send until who receives goes on", "wake_ups", {}, "µs"),
    Row("accept", "A connection made, accepted and closed", "accepts", {}, "µs"),
    Row("spawn", "A child started, read and waited for", "spawns", {}, "µs", 8),
    Row("import", "Import of the package in a new process", "imports", {}, "µs", 4),
    Row("udp-ping", "UDP ping-pong, 64 bytes: one round trip", "udp_ping", {"size": 64}, "µs"),
    Row(
        "send-file", "A file to a TCP connection, in blocks of 64 KiB", "send_file", {"size": 65536, "path": ""}, "MB/s"
    ),
    Row("timer-1k", "Timers, 1,000 pending: one made and cancelled", "timers_kept", {"pending": 1_000}, "µs"),
    Row("timer-10k", "Timers, 10,000 pending: one made and cancelled", "timers_kept", {"pending": 10_000}, "µs"),
    Row("timer-100k", "Timers, 100,000 pending: one made and cancelled", "timers_kept", {"pending": 100_000}, "µs"),
    Row("timer-fire", "Timers that are due at once: one made and fired", "timers_fired", {}, "µs"),
    Row("pool-submit", "Functions on four threads, 64 submitted: one call", "functions", {"depth": 64}, "µs"),
    Row("waits", "Waits for events, 1,000 at a time: one wait", "waits", {"together": 1_000}, "µs"),
    Row("directory", "A file in a directory of 1,000: made and seen", "directory", {"folder": ""}, "µs"),
    _echo(1),
    _echo(64),
    _echo(1_000),
    Row("loop-child", "A child's output of 256 MiB", "child_output", {"size": 65536}, "MB/s", 4096, loops=True),
    Row(
        "cpu-ping",
        "Processor time of a TCP round trip, 64 connections",
        "pings",
        {"size": 64, "connections": 64},
        "µs",
        cpu=True,
    ),
    Row(
        "cpu-file-reads",
        "Processor time of a file read of 4 KiB, 32 in flight",
        "file_reads",
        {"size": 4096, "depth": 32, "path": ""},
        "µs",
        cpu=True,
    ),
    Row("loop-pipe", "Named-pipe echo, 64 bytes: one round trip", "named_pipe_echo", {"size": 64}, "µs", loops=True),
)


def make_data_file(folder: Path) -> str:
    path = folder / "data"
    path.write_bytes(os.urandom(DATA_SIZE))
    return str(path)


def make_directory(folder: Path) -> str:
    path = folder / "directory"
    path.mkdir()
    for number in range(DIRECTORY_SIZE):
        (path / f"file {number}").touch()
    return str(path)


@contextlib.contextmanager
def new_files(count: int, folder: str) -> Iterator[list[str]]:
    """Names that are not yet in the directory; those that have become files are removed in the end."""
    names = [os.path.join(folder, f"new {number}") for number in range(count)]
    try:
        yield names
    finally:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.remove(name)


def make_file(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))


def parts_of_file(total: int) -> Iterator[int]:
    """Sizes of the data file's beginnings that together make so many bytes."""
    while total:
        part = min(total, DATA_SIZE)
        yield part
        total -= part


def places(slot: int, reads: int, size: int, depth: int) -> range | list[int]:
    """Where the reads of one of `depth` slots begin, so that all slots together make `reads`."""
    blocks = DATA_SIZE // size
    return [n * STRIDE % blocks * size for n in range(slot, reads, depth)]
