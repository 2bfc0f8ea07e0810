"""A write of more bytes than one system call takes is several calls: its bytes stand together, and writes stay in order.

The limit is lowered: two gigabytes take a while.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

import support
import tpio
from ends import WAIT, closing, named_pair, read_all, read_exactly, tcp_pair

PART = 1 << 16  # bytes of one system call here
LONG = 20 * PART + 7
STUCK = 32 << 20  # more than the system takes while the peer does not read


@pytest.fixture(autouse=True)
def short_calls() -> Iterator[None]:
    with support.largest_call(PART):
        yield


@pytest.fixture(params=["socket", "pipe"])
def ends(request) -> Iterator[tuple[tpio.Handle, tpio.Handle]]:
    """(a writer, its reader)"""
    writer, reader = tcp_pair() if request.param == "socket" else named_pair()
    with closing(writer, reader):
        yield writer, reader


def test_writes_after_a_long_one_come_after_all_its_bytes(ends):
    writer, reader = ends
    parts = [b"a" * LONG, b"b" * 10, b"", b"c" * LONG, b"d"]
    writes = [writer.write(part) for part in parts]
    assert read_exactly(reader, sum(map(len, parts))) == b"".join(parts)
    assert [write.result(WAIT) for write in writes] == [len(part) for part in parts]


def test_a_short_write_before_a_long_one_comes_first(ends):
    writer, reader = ends
    first, second = writer.write(b"first"), writer.write(b"x" * LONG)
    assert read_exactly(reader, 5 + LONG) == b"first" + b"x" * LONG
    assert (first.result(WAIT), second.result(WAIT)) == (5, LONG)


def test_the_futures_of_writes_end_in_their_order(ends):
    writer, reader = ends
    ended: list[int] = []
    all_ended = threading.Event()
    writes = [writer.write(bytes([number]) * (LONG if number % 2 == 0 else 3)) for number in range(8)]

    def look(_: object) -> None:
        # Callbacks may run at the same time: what counts is that no later write has ended before an earlier one.
        states = [write.done() for write in writes]
        ended.append(states != sorted(states, reverse=True))
        if len(ended) == len(writes):
            all_ended.set()

    for write in writes:
        write.add_done_callback(look)
    read_exactly(reader, 4 * LONG + 4 * 3)
    assert all_ended.wait(WAIT)
    assert not any(ended)


def test_a_write_that_waits_for_its_turn_can_be_cancelled_alone(ends):
    writer, reader = ends
    long, waits, last = writer.write(b"l" * STUCK), writer.write(b"never sent"), writer.write(b"last")
    assert waits.cancel()
    assert waits.cancelled()
    assert read_exactly(reader, STUCK + 4) == b"l" * STUCK + b"last"
    assert (long.result(WAIT), last.result(WAIT)) == (STUCK, 4)


def test_the_cancel_of_a_long_write_lets_the_next_one_go(ends):
    writer, reader = ends
    long = writer.write(b"l" * STUCK)
    last = writer.write(b"last")
    assert long.cancel()
    writer_side = threading.Event()
    last.add_done_callback(lambda _: writer_side.set())
    received = bytearray()
    while not received.endswith(b"last"):
        received += reader.read(1 << 20).result(WAIT)
    assert writer_side.wait(WAIT)
    assert last.result(0) == 4
    assert set(received[:-4]) <= {ord("l")}
    assert long.cancelled()


@pytest.mark.parametrize("how", ["close", "cancel"])
def test_close_and_cancel_end_all_that_wait_for_their_turn(ends, how):
    writer, _ = ends
    writes = [writer.write(b"l" * STUCK), *(writer.write(b"x") for _ in range(20)), writer.write(b"l" * LONG)]
    getattr(writer, how)()
    for write in writes:
        with pytest.raises(CancelledError):
            write.result(WAIT)


def test_an_awaited_write_that_waits_is_cancelled_with_its_task(ends):
    writer, reader = ends

    async def main() -> None:
        long = writer.write(b"l" * STUCK)

        async def send() -> None:
            await writer.write(b"never sent")

        task = asyncio.create_task(send())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        receiving = asyncio.create_task(asyncio.to_thread(read_exactly, reader, STUCK))
        assert await long == STUCK
        await receiving

    asyncio.run(main())
    writer.write(b"next").result(WAIT)
    assert read_exactly(reader, 4) == b"next"


def test_a_callback_may_wait_for_a_later_write(ends):
    """Of a write that was done at once when its turn came."""
    writer, reader = ends
    written = threading.Event()
    long, short = writer.write(b"l" * LONG), writer.write(b"short")

    def write_more(_: tpio.Future[int]) -> None:
        writer.write(b"l" * LONG).result(WAIT)
        writer.write(b"more").result(WAIT)
        written.set()

    short.add_done_callback(write_more)
    read_exactly(reader, 2 * LONG + 5)
    assert read_exactly(reader, 4) == b"more"
    assert written.wait(WAIT)
    assert long.result(0) == LONG


def test_appends_stand_together(tmp_path: Path):
    path = tmp_path / "log"
    with tpio.open(path, "ab") as one:
        writes = [one.write(bytes([65 + number]) * (LONG if number % 3 == 0 else 11)) for number in range(9)]
        for write in writes:
            write.result(WAIT)
    expected = b"".join(bytes([65 + number]) * (LONG if number % 3 == 0 else 11) for number in range(9))
    assert path.read_bytes() == expected


def test_a_long_write_of_a_file_keeps_its_place(tmp_path: Path):
    path = tmp_path / "file"
    with tpio.open(path, "w+b") as file:
        writes = [file.write(b"a" * LONG), file.write(b"b" * 3), file.write(b"c" * LONG, LONG + 3)]
        for write in writes:
            write.result(WAIT)
    assert path.read_bytes() == b"a" * LONG + b"bbb" + b"c" * LONG


def test_a_long_file_and_other_writes_are_sent_in_order(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"f" * LONG)
    sender, receiver = tcp_pair()
    with closing(sender, receiver), tpio.open(path) as file:
        writes = [
            sender.send(b"s" * LONG),
            sender.sendfile(file),
            sender.send(b"between"),
            sender.sendfile(file, 3, 10),
            sender.send(b"end"),
        ]
        data = b"s" * LONG + b"f" * LONG + b"between" + b"f" * 10 + b"end"
        assert read_exactly(receiver, len(data)) == data
        assert [write.result(WAIT) for write in writes] == [LONG, LONG, 7, 10, 3]


def test_gathered_writes_take_their_turn():
    sender, receiver = tcp_pair()
    with closing(sender, receiver):
        writes = [sender.send(b"s" * LONG), sender.sendmsg([b"one", b"two"]), sender.send(b"end")]
        assert read_exactly(receiver, LONG + 9) == b"s" * LONG + b"onetwoend"
        assert [write.result(WAIT) for write in writes] == [LONG, 6, 3]


def test_long_writes_from_many_threads_stand_together(ends):
    writer, reader = ends
    count = 6
    sizes = [LONG if number % 2 == 0 else 5 for number in range(count)]
    barrier = threading.Barrier(count)

    def write(number: int) -> None:
        barrier.wait(WAIT)
        assert writer.write(bytes([number]) * sizes[number]).result(WAIT) == sizes[number]

    threads = [threading.Thread(target=write, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    data = read_exactly(reader, sum(sizes))
    for thread in threads:
        thread.join(WAIT)
    runs = [data[0]]
    for number in range(1, len(data), 1):
        if data[number] != data[number - 1]:
            runs.append(data[number])
    assert sorted(runs) == list(range(count)), "the bytes of a write are parted"


def test_the_end_of_a_connection_fails_what_waits(ends):
    writer, reader = ends
    writes = [writer.write(b"l" * STUCK), writer.write(b"x")]
    reader.close()
    for write in writes:
        assert isinstance(write.exception(WAIT), ConnectionError)


def test_a_file_that_is_cut_while_it_is_sent_ends_the_send(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"f" * LONG)
    sender, receiver = tcp_pair()
    with closing(receiver), tpio.open(path, "r+b") as file:
        with closing(sender):
            sent = sender._transmit(file.fileno(), 0, 2 * LONG)  # more than there is
            data = read_exactly(receiver, LONG)
            assert sent.result(WAIT) == LONG
        assert data + read_all(receiver) == b"f" * LONG
