"""tpio.pump: no Python for the bytes."""

from __future__ import annotations

from time import perf_counter

import tpio

from .base import PATIENCE, Peer, Receiver, filled, tcp_connection


class TpioPump(Peer):
    name = "tpio, pump"

    def relay(self, blocks: int, size: int) -> float:
        reader, writer = tpio.pipe()
        with reader, writer, tcp_connection() as (near, far), tpio.Socket(sock=near) as sink:
            receiver = Receiver(far, blocks * size)
            began = perf_counter()
            with filled(lambda block: writer.write(block).result(), blocks, size):
                tpio.pump(reader, sink, blocks * size, block=size).result(PATIENCE)
                return receiver.ended() - began
