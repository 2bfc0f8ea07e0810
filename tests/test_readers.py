"""readexactly, readuntil, readline, iteration and read_message: nothing that was received is lost."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

import tpio
from ends import WAIT, closing, named_pair, tcp_pair


@pytest.fixture(params=["pipe", "socket", "file"])
def stream(request, tmp_path: Path):
    """(reading end, feed(data), end())."""
    if request.param == "file":
        path = tmp_path / "stream"
        path.write_bytes(b"")
        with tpio.open(path) as reader, open(path, "ab", buffering=0) as writer:
            yield reader, writer.write, writer.close
        return
    reader, writer = tpio.pipe() if request.param == "pipe" else tcp_pair()
    with closing(reader, writer):
        yield reader, lambda data: writer.write(data).result(WAIT), writer.close


def test_readers_give_lines_parts_and_the_rest(stream):
    reader, feed, end = stream
    feed(b"first\nsecond\r\n12345678rest;and last")
    end()
    assert reader.readline().result(WAIT) == b"first\n"
    assert reader.readuntil(b"\r\n").result(WAIT) == b"second\r\n"
    assert reader.readexactly(3).result(WAIT) == b"123"
    assert reader.readexactly(0).result(WAIT) == b""
    assert reader.read(5).result(WAIT) == b"45678"
    assert reader.readuntil(b";").result(WAIT) == b"rest;"
    assert reader.readline().result(WAIT) == b"and last"
    assert reader.readline().result(WAIT) == b""
    assert reader.read(1).result(WAIT) == b""


def test_the_end_before_all_of_it_is_an_incomplete_read_error(stream):
    reader, feed, end = stream
    feed(b"abc")
    end()
    with pytest.raises(tpio.IncompleteReadError, match="after 3 bytes, before all of 10") as caught:
        reader.readexactly(10).result(WAIT)
    assert isinstance(caught.value, EOFError)
    assert (caught.value.partial, caught.value.expected) == (b"abc", 10)
    with pytest.raises(tpio.IncompleteReadError) as caught:
        reader.readuntil(b";").result(WAIT)
    assert (caught.value.partial, caught.value.expected) == (b"", None)


def test_iteration_gives_every_line(stream):
    reader, feed, end = stream
    feed(b"one\ntwo\n\nlast")
    end()
    assert list(reader) == [b"one\n", b"two\n", b"\n", b"last"]
    assert list(reader) == []


def test_async_iteration_gives_every_line(stream):
    async def lines():
        return [line async for line in reader]

    reader, feed, end = stream
    feed(b"one\ntwo\nlast")
    end()
    assert asyncio.run(lines()) == [b"one\n", b"two\n", b"last"]


def test_a_line_over_the_limit_stays_for_the_next_read(stream):
    reader, feed, end = stream
    feed(b"0123456789\nnext\n")
    end()
    with pytest.raises(tpio.LimitOverrunError, match="more than 5 bytes") as caught:
        reader.readline(limit=5).result(WAIT)
    assert caught.value.limit == 5
    assert reader.readline(limit=10).result(WAIT) == b"0123456789\n"
    assert reader.readline().result(WAIT) == b"next\n"


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda end: end.readexactly(-1), ValueError),
        (lambda end: end.readexactly("1"), TypeError),
        (lambda end: end.readuntil(b""), ValueError),
        (lambda end: end.readuntil("\n"), TypeError),
        (lambda end: end.readline(limit=0), ValueError),
        (lambda end: end.readline(limit=None), TypeError),
        (lambda end: end.readline(timeout=-1), ValueError),
    ],
)
def test_bad_input_of_a_reader_is_refused(stream, use, error):
    reader, _, _ = stream
    with pytest.raises(error):
        use(reader)
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.readline()


def test_what_has_no_stream_of_bytes_says_what_to_use():
    with tpio.Socket(type=2) as datagrams, pytest.raises(ValueError, match="recvfrom"):
        datagrams.readline()
    server, client = named_pair(message=True)
    with closing(server, client), pytest.raises(ValueError, match="read_message"):
        server.readline()
    reader, writer = tpio.pipe()
    with closing(reader, writer), pytest.raises(ValueError, match="message=True"):
        reader.read_message()


def test_a_separator_in_two_parts_is_found():
    reader, writer = tpio.pipe()
    with closing(reader, writer):
        line = reader.readuntil(b"\r\n")
        writer.write(b"abc\r").result(WAIT)
        writer.write(b"\ndef").result(WAIT)
        assert line.result(WAIT) == b"abc\r\n"
        assert reader.readexactly(3).result(WAIT) == b"def"


def test_readers_take_turns_in_the_order_of_the_calls():
    reader, writer = tpio.pipe()
    with closing(reader, writer):
        readers = [reader.readline() if number % 2 else reader.readexactly(4) for number in range(20)]
        writer.write(b"abcdline\n" * 10).result(WAIT)
        assert [each.result(WAIT) for each in readers] == [b"abcd", b"line\n"] * 10


def test_a_reader_whose_turn_has_not_come_can_be_cancelled_and_closing_ends_all():
    reader, writer = tpio.pipe()
    with closing(writer):
        first, second, third = reader.readline(), reader.readline(), reader.readline(timeout=0.02)
        assert second.cancel()
        assert second.cancelled()
        with pytest.raises(TimeoutError, match=r"readline\(\) timed out"):
            third.result(WAIT)
        writer.write(b"for the first\n").result(WAIT)
        assert first.result(WAIT) == b"for the first\n"
        last = [reader.readline() for _ in range(3)]
        reader.close()
        for each in last:
            with pytest.raises(CancelledError):
                each.result(WAIT)


def test_what_a_cancelled_reader_has_received_is_for_the_next_one():
    reader, writer = tpio.pipe()
    with closing(reader, writer):
        line = reader.readline()
        writer.write(b"half of a ").result(WAIT)
        line.cancel()
        with pytest.raises(CancelledError):
            line.result(WAIT)
        writer.write(b"line\n").result(WAIT)
        assert reader.readline().result(WAIT) == b"half of a line\n"


def test_writes_and_reads_of_a_file_go_on_where_the_last_line_ended(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\nthree\n")
    with tpio.open(path, "r+b") as file:
        assert file.readline().result(WAIT) == b"one\n"
        assert file.write(b"TWO").result(WAIT) == 3
        assert file.readline().result(WAIT) == b"\n"
        file.write(b"THREE", offset=8).result(WAIT)
        assert file.readline().result(WAIT) == b"THREE\n"
    assert path.read_bytes() == b"one\nTWO\nTHREE\n"


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_storm_of_cancels_and_timeouts_loses_no_byte(kind):
    chance = random.Random(7)
    lines = [b"%d %s\n" % (number, b"x" * chance.randrange(300)) for number in range(2000)]
    reader, writer = tpio.pipe() if kind == "pipe" else tcp_pair()

    async def send():
        data = b"".join(lines)
        while data:
            size = chance.randrange(1, 2000)
            await writer.write(data[:size])
            data = data[size:]
        writer.close()

    async def one():
        pick = chance.random()
        if pick < 0.3:
            return await reader.readline(timeout=chance.random() / 1000)
        if pick < 0.6:
            return await asyncio.wait_for(_awaited(reader.readline()), chance.random() / 1000)
        return await (reader.readline() if pick < 0.9 else reader.read(50))

    async def _awaited(future):
        return await future

    async def main():
        sending = asyncio.ensure_future(send())
        got = []
        while True:
            try:
                part = await one()
            except TimeoutError:
                continue
            if not part:
                break
            got.append(part)
        await sending
        return b"".join(got)

    with closing(reader, writer):
        assert asyncio.run(main()) == b"".join(lines)


# ---- messages


def test_an_empty_message_is_not_the_end():
    server, client = named_pair(message=True)
    with closing(server, client):
        for message in (b"one", b"", b"x" * 100_000, b"last"):
            reading = server.read_message()
            writing = client.write(message)
            assert reading.result(WAIT) == message
            assert writing.result(WAIT) == len(message)
        client.close()
        with pytest.raises(EOFError):
            server.read_message().result(WAIT)


def test_messages_are_iterated_over_until_the_end():
    async def all_of_them():
        return [message async for message in server.messages()]

    for collect in (lambda: list(server.messages()), lambda: asyncio.run(all_of_them())):
        server, client = named_pair(message=True)
        with closing(server, client):
            for message in (b"one", b"", b"three"):
                client.write(message).result(WAIT)
            client.close()
            assert collect() == [b"one", b"", b"three"]


def test_a_message_over_the_limit_is_read_with_a_higher_one():
    server, client = named_pair(message=True)
    with closing(server, client):
        writing = client.write(b"y" * 50_000)
        with pytest.raises(tpio.LimitOverrunError):
            server.read_message(limit=1000).result(WAIT)
        assert server.read_message().result(WAIT) == b"y" * 50_000
        writing.result(WAIT)


def test_a_message_that_a_read_has_begun_is_finished_by_read_message():
    server, client = named_pair(message=True)
    with closing(server, client):
        client.write(b"abcdef").result(WAIT)
        client.write(b"next").result(WAIT)
        assert server.read(2).result(WAIT) == b"ab"
        assert server.read_message().result(WAIT) == b"cdef"
        assert server.read_message().result(WAIT) == b"next"
