"""Peers that reset, vanish, flood, stall, dribble, and send what does not fit: sockets and named pipes must not mind.

Every decision comes from a seed that the test's name has.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from pathlib import Path

import pytest

import support
import tpio
from ends import WAIT, cancel_and_wait, closing, named_pair, pipe_name, read_all, read_exactly, tcp_pair

TRIES = 1000 if support.long else 120
# How a call may end when the peer breaks the connection at some time or other. A write may also be done already.
BROKEN = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)

seeds = pytest.mark.parametrize("seed", range(2))


@pytest.fixture
def chance(request: pytest.FixtureRequest, seed: int) -> random.Random:
    return random.Random(f"{request.node.originalname} {seed}")


def reset(plain: socket.socket) -> None:
    """Closes with a RST instead of a FIN."""
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("HH", 1, 0))
    plain.close()


def connected(listener: tpio.Socket) -> tuple[tpio.Socket, socket.socket]:
    """(ours, the hostile peer's)"""
    plain = socket.create_connection(listener.getsockname())
    return listener.accept().result(WAIT)[0], plain


@pytest.fixture
def listener() -> tpio.Socket:
    with tpio.listen(("127.0.0.1", 0)) as listener:
        yield listener


def outcome(future: tpio.Future) -> object:
    """Its result; None when the connection is broken, which is how it may end; anything else is raised."""
    try:
        return future.result(WAIT)
    except BROKEN:
        return None


# ---- resets


@seeds
def test_reset_while_it_is_accepted(listener, chance):
    """The listener goes on, and every client that did not reset is served."""
    for _ in range(TRIES // 10):
        accepts = [listener.accept() for _ in range(chance.randint(0, 3))]
        kinds = [chance.random() < 0.3 for _ in range(8)]
        good = []
        for is_good in kinds:
            plain = socket.create_connection(listener.getsockname())
            if is_good:
                plain.sendall(b"good")
                good.append(plain)
            else:
                reset(plain)
        served = 0
        while served < len(good):  # an accept that had to pass somebody over is behind those that came after it
            accepts = accepts or [listener.accept()]
            done, waiting = wait(accepts, WAIT, FIRST_COMPLETED)
            assert done
            accepts = list(waiting)
            for future in done:
                with future.result(WAIT)[0] as connection:
                    served += outcome(connection.recv(10)) == b"good"
        for plain in good:
            plain.close()
        for future in accepts:
            future.cancel()
        for future in accepts:
            with contextlib.suppress(CancelledError):
                future.result(WAIT)[0].close()


@seeds
def test_reset_while_reading(listener, chance):
    for _ in range(TRIES):
        ours, plain = connected(listener)
        with ours:
            reads = [ours.recv(100) if chance.random() < 0.5 else ours.recv_into(bytearray(100)) for _ in range(3)]
            sent = chance.choice([b"", b"some"])
            if sent:
                plain.sendall(sent)
            if chance.random() < 0.3:
                reads.append(ours.poll_read())
            reset(plain)
            results = [outcome(read) for read in reads]
            # What was sent may have been overtaken by the reset, but nothing else arrives.
            assert all(result in (None, sent, len(sent)) for result in results)
            assert len([result for result in results if result]) <= 1
            assert not outcome(ours.recv(1))


@seeds
def test_reset_while_writing(listener, chance):
    for _ in range(TRIES):
        ours, plain = connected(listener)
        with ours:
            size = chance.choice([1, 1000, 300_000, 3_000_000])
            writes = [ours.send(bytes(size)) for _ in range(chance.randint(1, 4))]
            if chance.random() < 0.5:
                plain.recv(chance.choice([1, 1000, 100_000]))
            reset(plain)
            assert all(outcome(write) in (None, size) for write in writes)
            with pytest.raises(BROKEN):  # sooner or later
                for _ in range(1000):
                    ours.send(b"more").result(WAIT)


@seeds
def test_reset_while_a_file_is_sent(listener, chance, tmp_path: Path):
    path = tmp_path / "big"
    path.write_bytes(bytes(4_000_000))
    with tpio.open(path) as file:
        for _ in range(TRIES // 3):
            ours, plain = connected(listener)
            with ours:
                sending = ours.sendfile(file)
                if chance.random() < 0.7:
                    plain.recv(chance.choice([1, 1000, 100_000]))
                reset(plain)
                assert outcome(sending) in (None, 4_000_000)
        assert file.read(10, 0).result(WAIT) == bytes(10)


@seeds
def test_reset_while_connecting(chance):
    """A server that resets everybody at once."""
    with socket.create_server(("127.0.0.1", 0)) as hostile:
        with support.thread(_reset_all, hostile, TRIES):
            for _ in range(TRIES):
                connecting = tpio.open_connection(hostile.getsockname())
                try:
                    ours = connecting.result(WAIT)
                except BROKEN:
                    continue
                with ours:
                    if chance.random() < 0.5:
                        assert outcome(ours.send(b"x")) in (None, 1)
                    assert not outcome(ours.recv(10))


def _reset_all(hostile: socket.socket, count: int) -> None:
    for _ in range(count):
        reset(hostile.accept()[0])


# ---- half-closes, floods, stalls


@seeds
def test_half_close_in_both_orders(listener, chance):
    for _ in range(TRIES):
        ours, plain = connected(listener)
        with ours, plain:
            question, answer = (
                chance.randbytes(chance.choice([0, 1, 5000])),
                chance.randbytes(chance.choice([0, 1, 70_000])),
            )
            if chance.random() < 0.5:  # the peer first: it can be answered all the same
                plain.sendall(question)
                plain.shutdown(socket.SHUT_WR)
                assert read_all(ours, 1000) == question
                ours.send(answer).result(WAIT)
                ours.shutdown(socket.SHUT_WR)
                assert _plain_read_all(plain) == answer
            else:  # we first: and hear the rest
                ours.send(question).result(WAIT)
                ours.shutdown(socket.SHUT_WR)
                assert _plain_read_all(plain) == question
                plain.sendall(answer)
                plain.shutdown(socket.SHUT_WR)
                assert read_all(ours, 1000) == answer
            assert ours.recv(1).result(WAIT) == b""  # and again
            assert isinstance(ours.send(b"x").exception(WAIT), OSError)  # we have said that nothing more comes


def _plain_read_all(plain: socket.socket) -> bytes:
    return b"".join(iter(lambda: plain.recv(65536), b""))


@seeds
def test_flood_of_small_writes(listener, chance):
    """Nothing is kept for a program that does not read: the flooder has to wait. What was sent arrives when it does."""
    ours, plain = connected(listener)
    sent = bytearray()
    with ours, plain:
        plain.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(100_000):
                part = chance.randbytes(chance.choice([1, 10, 1000]))
                sent += part[: plain.send(part)]
        plain.close()
        assert read_all(ours, chance.choice([1000, 65536])) == sent


@pytest.mark.parametrize("end_it", ["cancel", "close"])
@pytest.mark.parametrize("kind", ["tcp", "pipe", "message"])
def test_a_peer_that_never_reads(kind, end_it):
    """Writes are pending for good; each can be cancelled, and a close ends them all."""
    ours, theirs = tcp_pair() if kind == "tcp" else named_pair(message=kind == "message")
    with closing(ours, theirs):
        writes = []
        while not writes or writes[-1].done():
            writes.append(ours.write(bytes(1 << 20)))
            wait(writes[-1:], 0.2)
        writes += [ours.write(b"behind it") for _ in range(20)]
        if end_it == "cancel":
            for write in reversed(writes):  # those behind first: none of them goes on instead
                if not write.done():
                    cancel_and_wait(write)
        else:
            ours.close()
        assert all(write.cancelled() or write.result(WAIT) == 1 << 20 for write in writes)
        assert any(write.cancelled() for write in writes)


@pytest.mark.parametrize("kind", ["tcp", "pipe"])
def test_a_peer_that_reads_one_byte_at_a_time(kind):
    ours, theirs = tcp_pair() if kind == "tcp" else named_pair()
    data = random.Random(kind).randbytes(1000)
    with closing(ours, theirs):
        writes = [ours.write(data[at : at + 100]) for at in range(0, 1000, 100)]
        assert b"".join(theirs.read(1).result(WAIT) for _ in range(1000)) == data
        assert [write.result(WAIT) for write in writes] == [100] * 10


@pytest.mark.parametrize("kind", ["tcp", "pipe"])
def test_a_peer_that_writes_one_byte_at_a_time(kind):
    ours, theirs = tcp_pair() if kind == "tcp" else named_pair()
    data = random.Random(kind).randbytes(500)
    with closing(ours, theirs):
        for at in range(500):
            theirs.write(data[at : at + 1]).result(WAIT)
        assert read_exactly(ours, 500) == data


def test_clients_that_open_and_never_send(listener):
    """They keep their reads pending, and nobody else from being served."""
    silent = [connected(listener) for _ in range(50)]
    reads = [ours.recv(10) for ours, _ in silent]
    ours, plain = connected(listener)
    with ours, plain:
        plain.sendall(b"served")
        assert read_exactly(ours, 6) == b"served"
    assert not any(read.done() for read in reads)
    for (ours, plain), read in zip(silent, reads, strict=True):
        cancel_and_wait(read)
        ours.close()
        plain.close()


# ---- named pipes


@seeds
def test_named_pipe_clients_that_go_at_once(chance):
    """Thousands of them: the listener goes on, and a good one among them is served."""
    count = 20 * TRIES
    with tpio.PipeListener(pipe_name(), listening=4) as listener:
        accepted = 0
        for _ in range(count // 8):
            kinds = [chance.random() < 0.1 for _ in range(8)]
            good = []
            for is_good in kinds:
                plain = _open_plainly(listener.name)
                if is_good:
                    plain.write(b"good")
                    good.append(plain)
                else:
                    plain.close()
            served = 0
            while served < len(good):
                with listener.accept().result(WAIT) as connection:
                    accepted += 1
                    served += outcome(connection.read(10)) == b"good"
            for plain in good:
                plain.close()
        accept = listener.accept()
        client = tpio.open_pipe(listener.name).result(WAIT)
        with client:
            client.write(b"last").result(WAIT)
            while True:
                with accept.result(WAIT) as connection:
                    if outcome(connection.read(10)) == b"last":
                        break
                accept = listener.accept()


def _open_plainly(name: str):
    """As any program would: while every instance is busy it waits for one."""
    while True:
        try:
            return open(name, "r+b", buffering=0)
        except OSError as error:
            if error.winerror != 231 and error.errno != 22:  # ERROR_PIPE_BUSY
                raise
        tpio._tpio.wait_named_pipe(name, 1000)


@seeds
def test_named_pipe_closed_at_any_moment(chance):
    for _ in range(TRIES):
        ours, theirs = named_pair()
        if chance.random() < 0.5:
            ours, theirs = theirs, ours
        with closing(ours, theirs):
            sent = chance.choice([b"", b"some", bytes(70_000)])
            theirs_writing = theirs.write(sent)
            reads = [ours.read(100_000) for _ in range(chance.randint(0, 2))]
            writes = [ours.write(bytes(size)) for size in (10, 200_000)[: chance.randint(0, 2)]]
            if chance.random() < 0.3:
                reads.append(ours.poll_read())
            theirs.close()
            for write in writes:
                assert outcome(write) in (None, 10, 200_000)
            for read in reads:
                assert len(outcome(read) or b"") <= len(sent)
            assert theirs_writing.cancelled() or theirs_writing.exception(WAIT) is None
            read_all(ours)
            with pytest.raises(BROKEN):
                ours.write(b"x").result(WAIT)


@seeds
def test_messages_of_the_wrong_size(chance):
    """Of nothing, longer than the read, and longer than all that the pipe keeps: each arrives whole and by itself."""
    ours, theirs = named_pair(message=True)
    with closing(ours, theirs):
        for _ in range(TRIES):
            messages = [chance.randbytes(chance.choice([0, 1, 100, 4096, 65536, 65537, 200_000])) for _ in range(4)]
            writes = [theirs.write(message) for message in messages]
            for message in messages:
                got = b""
                if chance.random() < 0.5:  # a part first: read_message gives the rest
                    size = chance.choice([1000, 65536])
                    if size < len(message):
                        got = ours.read(size).result(WAIT)
                        assert len(got) == size
                assert got + ours.read_message().result(WAIT) == message
            assert [write.result(WAIT) for write in writes] == [len(message) for message in messages]


# ---- datagrams


@seeds
def test_datagrams_of_the_wrong_size(chance):
    """Of nothing, longer than the receive, longer than can be sent: each is received once, or told as truncated."""
    with tpio.Socket(type=socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as plain:
        ours.bind(("127.0.0.1", 0))
        plain.bind(("127.0.0.1", 0))
        sender = plain.getsockname()
        for _ in range(TRIES):
            data = chance.randbytes(chance.choice([0, 1, 99, 100, 101, 5000, 65507]))
            kind = chance.choice(["recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg_into"])
            buffers = [bytearray(60), bytearray(40)]
            early = chance.random() < 0.5
            if not early:
                plain.sendto(data, ours.getsockname())
            if kind == "recvmsg_into":
                future = ours.recvmsg_into(buffers)
            elif kind.endswith("into"):
                buffers = [bytearray(100)]
                future = getattr(ours, kind)(buffers[0])
            else:
                future = getattr(ours, kind)(100)
            if early:
                plain.sendto(data, ours.getsockname())
            if len(data) > 100:
                with pytest.raises(tpio.TruncatedError) as caught:
                    future.result(WAIT)
                assert caught.value.data == data[:100]
                continue
            result = future.result(WAIT)
            if kind.startswith("recvfrom"):
                result, address = result
                assert address == sender
            assert result == (len(data) if kind.endswith("into") else data)
            if kind.endswith("into"):
                assert b"".join(buffers)[: len(data)] == data
        too_long = ours.sendto(bytes(70_000), sender).exception(WAIT)
        assert too_long.winerror == 10040  # WSAEMSGSIZE
        assert ours.sendto(b"", sender).result(WAIT) == 0
        assert plain.recvfrom(10) == (b"", ours.getsockname())
