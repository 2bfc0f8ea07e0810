"""tpio from C: Python makes the handles, and the callbacks never touch it (capi/bench_capi.c)."""

from __future__ import annotations

import bench_capi

import tpio

from .base import Peer, shares
from .tpio_ends import End, pipe_ends, tcp_ends


class TpioCapi(Peer):
    name = "tpio, C API"

    def tcp_ping(self, turns: int, size: int) -> float:
        return self.pings(turns, size, 1)

    def pings(self, turns: int, size: int, connections: int) -> float:
        with tcp_ends(connections) as ends:
            return _ping(list(zip(ends, shares(turns, connections), strict=True)), size, sockets=True)

    def pipe_ping(self, turns: int, size: int) -> float:
        with pipe_ends() as ends:
            return _ping([(ends, turns)], size, sockets=False)

    def pipe_bulk(self, blocks: int, size: int) -> float:
        reader, writer = tpio.pipe()
        with reader, writer:
            return bench_capi.bulk(reader, writer, blocks, size)

    def file_reads(self, reads: int, size: int, depth: int, path: str) -> float:
        with tpio.open(path) as file:
            return bench_capi.file_reads(file, reads, size, depth)


def _ping(connections: list[tuple[tuple[End, End], int]], size: int, *, sockets: bool) -> float:
    return bench_capi.ping([(*far, *near, turns) for (near, far), turns in connections], size, sockets)
