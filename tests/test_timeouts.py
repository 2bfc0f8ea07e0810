"""timeout= cancels the operation and fails its future; pending_bytes counts what is being written."""

from __future__ import annotations

import asyncio
import math
import socket
from concurrent.futures import CancelledError, wait
from pathlib import Path

import pytest

import tpio
from ends import WAIT, closing, pipe_name, tcp_pair

SOON = 0.02


def _udp() -> tpio.Socket:
    sock = tpio.Socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def _waiting(tmp_path: Path):
    """(name, closers, an operation that never ends by itself)."""
    reader, writer = tpio.pipe()
    near, far = tcp_pair()
    udp, listener, pipes, watcher = (
        _udp(),
        tpio.listen(("127.0.0.1", 0)),
        tpio.PipeListener(pipe_name()),
        tpio.watch(tmp_path),
    )
    operations = {
        "Pipe.read": lambda t: reader.read(1, timeout=t),
        "Pipe.read_into": lambda t: reader.read_into(bytearray(1), timeout=t),
        "Pipe.poll_read": lambda t: reader.poll_read(timeout=t),
        "Pipe.write": lambda t: writer.write(bytes(1 << 20), timeout=t),
        "tpio.read": lambda t: tpio.read(near, 1, timeout=t),
        "Socket.recv": lambda t: near.recv(1, timeout=t),
        "Socket.recv_into": lambda t: near.recv_into(bytearray(1), timeout=t),
        "Socket.recvmsg_into": lambda t: near.recvmsg_into([bytearray(1)], timeout=t),
        "Socket.recvfrom": lambda t: udp.recvfrom(1, timeout=t),
        "Socket.recvfrom_into": lambda t: udp.recvfrom_into(bytearray(1), timeout=t),
        "Socket.accept": lambda t: listener.accept(timeout=t),
        "Socket.accept(receive)": lambda t: listener.accept(receive=10, timeout=t),
        "PipeListener.accept": lambda t: pipes.accept(timeout=t),
        "Watcher.changes": lambda t: watcher.changes(timeout=t),
    }
    return (reader, writer, near, far, udp, listener, pipes, watcher), operations


def test_an_operation_that_waits_ends_with_a_timeout_error(tmp_path: Path):
    ends, operations = _waiting(tmp_path)
    with closing(*ends):
        for name, begin in operations.items():
            future = begin(SOON)
            error = future.exception(WAIT)
            assert isinstance(error, TimeoutError), name
            assert "timed out after 0.02 seconds" in str(error)
            assert error.winerror == 1460
            assert not future.cancelled()


def test_a_wrong_timeout_is_refused_before_anything_is_submitted(tmp_path: Path):
    ends, operations = _waiting(tmp_path)
    with closing(*ends):
        before = tpio.default_pool().stats().submitted
        for begin in operations.values():
            for wrong in (-1, math.nan, "1"):
                with pytest.raises((TypeError, ValueError), match="timeout|str|number"):
                    begin(wrong)
        assert tpio.default_pool().stats().submitted == before


def test_what_arrives_after_a_timeout_is_for_the_next_read():
    reader, writer = tpio.pipe()
    with closing(reader, writer):
        with pytest.raises(TimeoutError):
            reader.read(10, timeout=SOON).result(WAIT)
        writer.write(b"later").result(WAIT)
        assert reader.read(10, timeout=WAIT).result(WAIT) == b"later"


def test_a_timeout_that_does_not_pass_changes_nothing():
    reader, writer = tpio.pipe()
    with closing(reader, writer):
        read = reader.read(10, timeout=math.inf)
        writer.write(b"in time").result(WAIT)
        assert read.result(WAIT) == b"in time"
        cancelled = reader.read(10, timeout=WAIT)
        assert cancelled.cancel()
        with pytest.raises(CancelledError):
            cancelled.result(WAIT)


def test_closing_cancels_an_operation_with_a_timeout():
    reader, writer = tpio.pipe()
    read = reader.read(10, timeout=WAIT)
    reader.close()
    writer.close()
    assert read.cancelled()


def test_a_task_gets_the_timeout_error():
    async def main():
        with pytest.raises(TimeoutError, match="a read timed out"):
            await reader.read(1, timeout=SOON)
        task = asyncio.ensure_future(_await(reader.read(1, timeout=WAIT)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def _await(future):
        return await future

    reader, writer = tpio.pipe()
    with closing(reader, writer):
        asyncio.run(main())


def test_timeouts_that_race_with_arrivals_lose_no_byte():
    """Reads that time out at about the moment when their data arrives."""
    reader, writer = tpio.pipe()
    sent = received = 0
    with closing(reader, writer):
        for number in range(300):
            read = reader.read(100, timeout=number % 3 / 1000)
            writer.write(b"x").result(WAIT)
            sent += 1
            try:
                received += len(read.result(WAIT))
            except TimeoutError:
                pass
        writer.close()
        while data := reader.read(1000).result(WAIT):
            received += len(data)
    assert received == sent


def test_pending_bytes_are_those_of_the_writes_that_have_not_ended():
    reader, writer = tpio.pipe()
    with closing(reader, writer):
        assert writer.pending_bytes == 0
        writes = [writer.write(bytes(100_000)) for _ in range(3)]
        assert writer.pending_bytes == 300_000 or writes[0].done()
        left = 300_000
        while left:
            left -= len(reader.read(left).result(WAIT))
        assert [write.result(WAIT) for write in writes] == [100_000] * 3
        assert writer.pending_bytes == 0
        assert reader.pending_bytes == 0
        with pytest.raises(AttributeError):
            writer.pending_bytes = 1


@pytest.mark.parametrize("how", ["send", "sendmsg"])
def test_pending_bytes_of_a_cancelled_write_are_no_longer_counted(how):
    near, far = tcp_pair()
    with closing(near, far):
        data = bytes(1 << 20)
        writes = []
        while all(write.done() for write in writes):
            writes.append(near.send(data) if how == "send" else near.sendmsg([data]))
        assert near.pending_bytes == len(data)
        near.cancel()
        assert not wait(writes, WAIT).not_done
        assert near.pending_bytes == 0
