"""What tpio's three peers work on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from time import perf_counter

import tpio

from .base import Receiver, filled, tcp_connection, tcp_connections, udp_ends

End = tuple[tpio.Handle, tpio.Handle]  # read from, write to


@contextlib.contextmanager
def tcp_ends(count: int) -> Iterator[list[tuple[End, End]]]:
    with contextlib.ExitStack() as stack:
        ends = []
        for connection in stack.enter_context(tcp_connections(count)):
            near, far = (stack.enter_context(tpio.Socket(sock=end)) for end in connection)
            ends.append(((near, near), (far, far)))
        yield ends


@contextlib.contextmanager
def pipe_ends() -> Iterator[tuple[End, End]]:
    near_reader, far_writer = tpio.pipe()
    far_reader, near_writer = tpio.pipe()
    with near_reader, far_writer, far_reader, near_writer:
        yield (near_reader, near_writer), (far_reader, far_writer)


@contextlib.contextmanager
def udp_sockets() -> Iterator[tuple[tpio.Socket, tpio.Socket]]:
    with (
        udp_ends() as (near_socket, far_socket),
        tpio.Socket(sock=near_socket) as near,
        tpio.Socket(sock=far_socket) as far,
    ):
        yield near, far


def relayed(blocks: int, size: int, move: Callable[[tpio.Handle, tpio.Socket], object]) -> float:
    """Seconds until all that a thread writes into a pipe, and `move` takes from it to a connection, has come."""
    reader, writer = tpio.pipe()
    with reader, writer, tcp_connection() as (near, far), tpio.Socket(sock=near) as sink:
        receiver = Receiver(far, blocks * size)
        began = perf_counter()
        with filled(lambda block: writer.write(block).result(), blocks, size):
            move(reader, sink)
            return receiver.ended() - began
