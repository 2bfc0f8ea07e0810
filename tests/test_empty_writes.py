"""A peer that writes nothing: no end of a stream of bytes, and a message where there are messages."""

from __future__ import annotations

import asyncio
import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import tpio
from ends import WAIT, cancel_and_wait, closing, named_pair, pipe_name, read_exactly
from tpio._processes import _read_all

MANY = 3000  # more than calls can be nested


@contextmanager
def bytes_of_messages() -> Iterator[tuple[tpio.Pipe, tpio.Pipe]]:
    """A pipe that takes messages, of which one end reads bytes: (that end, the peer). It shows an empty write as a peer's
    empty write to a pipe of bytes shows on Windows."""
    name = pipe_name()
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel32.CreateNamedPipeW.restype = ctypes.c_void_p
    duplex_overlapped, message_type = 3 | 0x40000000, 4
    handle = kernel32.CreateNamedPipeW(name, duplex_overlapped, message_type, 1, 65536, 65536, 0, None)
    ours = tpio.Pipe(handle)
    peer = tpio.open_pipe(name).result(WAIT)
    with closing(ours, peer):
        yield ours, peer


def test_a_read_of_bytes_reads_on():
    with bytes_of_messages() as (ours, peer):
        reading = ours.read(10)
        for part in (b"", b"", b"more"):
            assert peer.write(part).result(WAIT) == len(part)
        assert reading.result(WAIT) == b"more"
        peer.close()
        assert ours.read(10).result(WAIT) == b""


def test_a_read_into_a_buffer_reads_on():
    with bytes_of_messages() as (ours, peer):
        buffer = bytearray(10)
        reading = ours.read_into(buffer)
        for part in (b"", b"more"):
            peer.write(part).result(WAIT)
        assert reading.result(WAIT) == 4
        assert buffer[:4] == b"more"


def test_very_many_empty_writes_are_no_call_deeper_each():
    with bytes_of_messages() as (ours, peer):
        for _ in range(MANY):
            peer.write(b"").result(WAIT)
        peer.write(b"end").result(WAIT)
        assert ours.read(10).result(WAIT) == b"end"


def test_a_read_that_has_read_on_can_be_cancelled():
    with bytes_of_messages() as (ours, peer):
        reading = ours.read(10)
        peer.write(b"").result(WAIT)
        cancel_and_wait(reading)
        peer.write(b"kept").result(WAIT)
        assert ours.read(10).result(WAIT) == b"kept"


def test_the_reader_of_communicate_reads_on():
    with bytes_of_messages() as (ours, peer):
        chunks: list[bytes] = []
        reading = _read_all(ours, chunks)
        for part in (b"one", b"", b"two"):
            peer.write(part).result(WAIT)
        peer.close()
        reading.result(WAIT)
        assert b"".join(chunks) == b"onetwo"


def test_a_child_that_writes_nothing_now_and_then():
    code = """if True:
        import ctypes, msvcrt, sys
        handle = msvcrt.get_osfhandle(1)
        write = ctypes.windll.kernel32.WriteFile
        for part in (b"one", b"", b"", b"two", b""):
            written = ctypes.c_ulong()
            assert write(ctypes.c_void_p(handle), part, len(part), ctypes.byref(written), None)
    """
    with tpio.spawn([sys.executable, "-I", "-c", code], stdout=tpio.PIPE) as process:
        assert process.communicate(timeout=WAIT).result(WAIT) == (b"onetwo", b"")
        assert process.returncode == 0


def test_a_pump_goes_on_over_it(tmp_path: Path):
    with bytes_of_messages() as (ours, peer), tpio.open(tmp_path / "copy", "wb") as copy:
        pumping = tpio.pump(ours, copy)
        for part in (b"one", b"", b"two"):
            peer.write(part).result(WAIT)
        peer.close()
        assert pumping.result(WAIT) == 6
    assert (tmp_path / "copy").read_bytes() == b"onetwo"


def test_a_poll_for_bytes_waits_for_bytes():
    with bytes_of_messages() as (ours, peer):
        polling = ours.poll_read()
        peer.write(b"").result(WAIT)
        with pytest.raises(TimeoutError):
            polling.result(0.3)
        peer.write(b"x").result(WAIT)
        polling.result(WAIT)
        assert ours.read(10).result(WAIT) == b"x"


# ---- messages


def test_an_empty_message_is_sent_and_received():
    server, client = named_pair(message=True)
    with closing(server, client):
        for part in (b"one", b"", b"two"):
            assert client.write(part).result(WAIT) == len(part)
        assert [server.read(10).result(WAIT) for _ in range(3)] == [b"one", b"", b"two"]


def test_an_empty_message_is_sent_whatever_this_end_reads():
    with bytes_of_messages() as (ours, peer):
        assert ours.write(b"").result(WAIT) == 0
        assert ours.write(b"x").result(WAIT) == 1
        assert [peer.read(10).result(WAIT) for _ in range(2)] == [b"", b"x"]


def test_a_poll_leaves_an_empty_message_there():
    server, client = named_pair(message=True)
    with closing(server, client):
        for part in (b"", b"x"):
            client.write(part).result(WAIT)
        server.poll_read().result(WAIT)
        server.poll_read().result(WAIT)
        assert [server.read(10).result(WAIT) for _ in range(2)] == [b"", b"x"]


def test_a_pending_poll_leaves_an_empty_message_there():
    server, client = named_pair(message=True)
    with closing(server, client):
        polling = server.poll_read()
        for part in (b"", b"x"):
            client.write(part).result(WAIT)
        polling.result(WAIT)
        assert [server.read(10).result(WAIT) for _ in range(2)] == [b"", b"x"]


def test_an_empty_message_that_a_cancelled_await_had_received_is_kept():
    server, client = named_pair(message=True)

    async def main() -> None:
        async def receive() -> bytes:
            return await server.read(10)

        task = asyncio.create_task(receive())
        await asyncio.sleep(0)
        client.write(b"").result(WAIT)  # the loop does not see its end before the cancel
        client.write(b"next").result(WAIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with closing(server, client):
        asyncio.run(main())
        assert [server.read(10).result(WAIT) for _ in range(2)] == [b"", b"next"]


def test_an_empty_write_to_a_pipe_of_bytes_sends_nothing():
    server, client = named_pair()
    with closing(server, client):
        assert client.write(b"").result(WAIT) == 0
        assert client.write(b"x").result(WAIT) == 1
        assert read_exactly(server, 1) == b"x"
