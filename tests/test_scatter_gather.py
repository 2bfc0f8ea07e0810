"""Many buffers in one call."""

from __future__ import annotations

import array
import asyncio
from collections.abc import Iterator

import pytest

import tpio
from ends import WAIT, cancel_and_wait, closing, read_exactly, tcp_pair


@pytest.fixture
def pair() -> Iterator[tuple[tpio.Socket, tpio.Socket]]:
    ours, theirs = tcp_pair()
    with closing(ours, theirs):
        yield ours, theirs


def test_gather(pair):
    ours, theirs = pair
    buffers = [b"one", bytearray(b"two"), memoryview(b"-three-")[1:-1], b"", array.array("H", [0x3131])]
    assert theirs.sendmsg(buffers).result(WAIT) == 13
    assert read_exactly(ours, 13) == b"onetwothree11"


def test_scatter(pair):
    ours, theirs = pair
    parts = [bytearray(3), bytearray(0), bytearray(3), bytearray(100)]
    receiving = ours.recvmsg_into(parts)
    theirs.send(b"onetwothree").result(WAIT)
    assert receiving.result(WAIT) == 11
    assert (parts[0], parts[2], parts[3][:5]) == (b"one", b"two", b"three")


def test_a_thousand_buffers_and_megabytes(pair):
    ours, theirs = pair
    buffers = [bytes([number % 251]) * 4000 for number in range(1000)]
    sending = theirs.sendmsg(iter(buffers))
    assert read_exactly(ours, 4_000_000) == b"".join(buffers)
    assert sending.result(WAIT) == 4_000_000


def test_buffers_belong_to_the_system_until_the_end(pair):
    ours, theirs = pair
    parts = [bytearray(2), bytearray(2)]
    receiving = ours.recvmsg_into(parts)
    for part in parts:
        with pytest.raises(BufferError):
            part.clear()
    theirs.send(b"abc").result(WAIT)
    assert receiving.result(WAIT) == 3
    for part in parts:
        part.clear()


def test_the_end(pair):
    ours, theirs = pair
    theirs.close()
    assert ours.recvmsg_into([bytearray(5)]).result(WAIT) == 0


def test_nothing_to_do_is_done(pair):
    ours, theirs = pair
    assert theirs.sendmsg([]).result(0) == theirs.sendmsg([b"", b""]).result(0) == 0
    assert ours.recvmsg_into([]).result(0) == ours.recvmsg_into([bytearray()]).result(0) == 0


def test_cancel(pair):
    ours, theirs = pair
    parts = [bytearray(5)]
    cancel_and_wait(ours.recvmsg_into(parts))
    parts[0].clear()
    theirs.send(b"x").result(WAIT)
    assert ours.recv(5).result(WAIT) == b"x"


def test_close_while_pending(pair):
    ours, _ = pair
    receiving = ours.recvmsg_into([bytearray(5)])
    ours.close()
    assert receiving.cancelled()
    with pytest.raises(ValueError, match="closed"):
        ours.recvmsg_into([bytearray(5)])
    with pytest.raises(ValueError, match="closed"):
        ours.sendmsg([b"x"])


def test_what_a_cancelled_await_had_got_is_for_the_next(pair):
    ours, theirs = pair

    async def storm() -> bytes:
        seen = bytearray()

        async def receive() -> None:
            parts = [bytearray(1), bytearray(2), bytearray(5)]
            count = await ours.recvmsg_into(parts)
            seen.extend(b"".join(parts)[:count])

        for number in range(60):
            task = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            sending = theirs.send(b"%04d" % number)
            if number % 3:
                await sending
            if number % 2:
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await sending
        while len(seen) < 240:
            await asyncio.wait_for(receive(), WAIT)
        return bytes(seen)

    assert asyncio.run(storm()) == b"".join(b"%04d" % number for number in range(60))


def test_bad_arguments_are_refused_at_once(pair):
    ours, theirs = pair
    good = bytearray(5)
    submitted = tpio.default_pool().stats().submitted
    for bad in (None, 5, b"bytes are ints", [1], ["text"], [b"good", None]):
        with pytest.raises(TypeError):
            theirs.sendmsg(bad)
    with pytest.raises(TypeError, match="writable"):
        ours.recvmsg_into([good, b"read only"])
    with pytest.raises(BufferError):
        ours.recvmsg_into([good, memoryview(bytearray(9))[::2]])
    good.clear()  # nobody holds it
    assert tpio.default_pool().stats().submitted == submitted
