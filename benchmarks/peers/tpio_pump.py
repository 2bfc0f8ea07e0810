"""tpio.pump: no Python for the bytes."""

from __future__ import annotations

import tpio

from .base import PATIENCE, Peer
from .tpio_ends import relayed


class TpioPump(Peer):
    name = "tpio, pump"

    def relay(self, blocks: int, size: int) -> float:
        def move(reader: tpio.Handle, sink: tpio.Socket) -> None:
            tpio.pump(reader, sink, blocks * size, block=size).result(PATIENCE)

        return relayed(blocks, size, move)
