"""Pipes, connections and datagrams, with cancels, resets and closes in the middle."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
import zlib
from collections import deque
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

import support
import tpio

from .base import LENGTH, WAIT, Flow, flows, maybe_follow, outcome, pick_size, some_name, tally


def _send(chance: random.Random, end: tpio.Handle, flow: Flow, total: int) -> None:
    pending: deque[tuple[tpio.Future[int], int]] = deque()
    while total or pending:
        if total and len(pending) < 3 and (not pending or chance.random() < 0.6):
            size = min(pick_size(chance), total)
            data: Any = flow.take(size)
            kind = chance.randrange(4)
            if kind == 1:
                data = bytearray(data)
            elif kind == 2:
                data = memoryview(data)
            if kind == 3 and isinstance(end, tpio.Socket):
                half = size // 2
                future = end.sendmsg([data[:half], data[half:]])
            else:
                future = end.write(data)
            pending.append((maybe_follow(chance, future), size))
            total -= size
        else:
            future, size = pending.popleft()
            written = future.result(WAIT)
            assert written == size, f"{written} bytes written of {size}"


def _receive(chance: random.Random, end: tpio.Handle, flow: Flow, most: int = 3) -> None:
    """To the end of the file. Some reads are cancelled; what they bring in spite of that counts."""
    pending: deque[tuple[tpio.Future[Any], list[bytearray]]] = deque()
    while True:
        while len(pending) < chance.randint(1, most):
            kind = chance.randrange(9)
            if kind == 0 and not pending:
                polled = end.poll_read()
                if chance.random() < 0.3:
                    polled.cancel()
                with suppress(CancelledError):
                    polled.result(WAIT)
            if kind < 5:
                pending.append((maybe_follow(chance, end.read(pick_size(chance))), []))
            elif kind == 8 and isinstance(end, tpio.Socket):
                buffers = [bytearray(pick_size(chance)) for _ in range(chance.randint(1, 4))]
                pending.append((maybe_follow(chance, end.recvmsg_into(buffers)), buffers))
            else:
                buffer = bytearray(pick_size(chance))
                pending.append((maybe_follow(chance, end.read_into(buffer)), [buffer]))
        if chance.random() < 0.1:
            chance.choice(pending)[0].cancel()
        elif chance.random() < 0.01:
            end.cancel()
        future, into = pending.popleft()
        try:
            result = future.result(WAIT)
        except CancelledError:
            continue
        data = b"".join(into)[:result] if into else result
        if not data:
            break
        flow.check(data)
    for future, into in pending:
        with suppress(CancelledError):
            after = future.result(WAIT)
            assert not after, f"after the end at {flow.at}: {after!r:.60} {[bytes(buffer[:20]) for buffer in into]}"


def _stream(chance: random.Random, write: tpio.Handle, read: tpio.Handle, close: Any, most: int = 3) -> None:
    """All of a flow from one end to the other; `close` ends it."""
    outgoing, incoming = flows(chance)
    total = chance.choice((0, 1, 50000, 1000000))
    failure: list[BaseException] = []
    seed = chance.getrandbits(64)

    def sender() -> None:
        try:
            _send(random.Random(seed), write, outgoing, total)
        except BaseException as error:
            failure.append(error)
        close()

    thread = threading.Thread(target=sender, daemon=True)
    thread.start()
    _receive(chance, read, incoming, most)
    thread.join(WAIT)
    assert not thread.is_alive()
    if failure:
        raise failure[0]
    assert incoming.at == outgoing.at, f"{outgoing.at - incoming.at} of {total} bytes are missing"


def pipes(chance: random.Random) -> None:
    read, write = tpio.pipe()
    with read, write:
        _stream(chance, write, read, write.close)


def tcp_pair() -> tuple[tpio.Socket, tpio.Socket]:
    with tpio.listen(("127.0.0.1", 0)) as listener:
        accepting = listener.accept()
        client = tpio.open_connection(listener.getsockname()).result(WAIT)
        return accepting.result(WAIT)[0], client


def tcp(chance: random.Random) -> None:
    one, other = tcp_pair()
    with one, other:
        _stream(chance, one, other, lambda: one.shutdown(socket.SHUT_WR))
        if chance.random() < 0.5:
            # Wine ends all receives of a socket whose own sending side is shut but the first, at the peer's shutdown,
            # with nothing, or never: seen without tpio too.
            _stream(chance, other, one, lambda: other.shutdown(socket.SHUT_WR), 1 if support.wine else 3)


def _pump_on(chance: random.Random, source: tpio.Handle, sink: tpio.Handle) -> None:
    """To the end of the source, in parts; each begins on the thread that ended the one before it."""
    block = chance.choice((100, 4096, 65536, 1 << 20))

    def next_part(_: Any = None) -> None:
        part = chance.choice((None, 1000, 100_000))
        pumping = maybe_follow(chance, tpio.pump(source, sink, part, block=block))
        pumping.add_done_callback(close if part is None else on_moved)

    def on_moved(moved: tpio.Future[int]) -> None:
        if moved.result() == 0:
            sink.close()
        else:
            next_part()

    def close(_: Any) -> None:
        sink.close()

    next_part()


def pumped(chance: random.Random) -> None:
    """From a pipe to a connection or the other way round, through one pump or two."""
    first, write = tpio.pipe()
    read, last = tcp_pair()
    with first, write, read, last:
        if chance.random() < 0.5:
            _pump_on(chance, first, last)
            _stream(chance, write, read, write.close)
        else:
            middle, between = tpio.pipe()
            with middle, between:
                _pump_on(chance, first, between)
                _pump_on(chance, middle, last)
                _stream(chance, write, read, write.close)


def pump_accident(chance: random.Random) -> None:
    """A pump is cancelled, or one of its ends closed, at any moment: it ends, and so does all else."""
    source, write = tpio.pipe()
    read, sink = tcp_pair()
    futures = [maybe_follow(chance, write.write(os.urandom(pick_size(chance)))) for _ in range(chance.randint(0, 6))]
    pumping = maybe_follow(chance, tpio.pump(source, sink, block=chance.choice((1, 4096, 65536))))
    reading = maybe_follow(chance, read.read(pick_size(chance)))
    if chance.random() < 0.5:
        futures.append(maybe_follow(chance, write.write(os.urandom(pick_size(chance)))))
    ends = [source, write, read, sink]
    chance.choice([pumping.cancel, *(end.close for end in ends), source.cancel, sink.cancel])()
    chance.shuffle(ends)
    for end in ends:
        end.close()
    for future in (*futures, reading, pumping):
        outcome(future)
    assert all(future.done() for future in (*futures, reading, pumping))


def tcp_accident(chance: random.Random) -> None:
    """Somebody resets or closes in the middle of it all: what was received until then is right, and everything ends."""
    one, other = tcp_pair()
    outgoing, incoming = flows(chance)
    futures = [maybe_follow(chance, one.write(outgoing.take(pick_size(chance)))) for _ in range(chance.randint(1, 8))]
    reads = [maybe_follow(chance, other.read(pick_size(chance))) for _ in range(chance.randint(1, 5))]
    waiting = one.read(10)
    if chance.random() < 0.5:
        reads[0].result(WAIT)
    victim, survivor = (one, other) if chance.random() < 0.5 else (other, one)
    how = chance.randrange(4)
    if how == 0:
        victim.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("HH", 1, 0))
        victim.close()
    elif how == 1:
        threads = [threading.Thread(target=victim.close, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
    elif how == 2:
        victim.cancel()
        victim.shutdown(socket.SHUT_RDWR)
    else:
        survivor.close()
    for future in reads:
        incoming.check(outcome(future))
    one.close()
    other.close()
    for future in (*futures, waiting):
        outcome(future)
    assert all(future.done() for future in (*futures, *reads, waiting))


def dropped(chance: random.Random) -> None:
    """Nobody keeps anything; futures, buffers and handles live until the system is done with them."""
    read, write = tpio.pipe()
    futures = [tally.follow(read.read(pick_size(chance))) for _ in range(chance.randint(1, 4))]
    tally.follow(read.read_into(bytearray(pick_size(chance))))
    tally.follow(write.write(os.urandom(pick_size(chance))))
    del futures
    if chance.random() < 0.5:
        del read
        write.close()
    else:
        del write
        read.close()


def accepted_with_data(chance: random.Random) -> None:
    """Connections that come with the first that their clients have sent, in any order."""
    count = chance.randint(1, 4)
    size = chance.choice((1, 100, 5000))
    with tpio.listen(("127.0.0.1", 0)) as listener:
        if chance.random() < 0.3:  # before a client comes: one that has been taken in goes with the accept
            impatient = listener.accept(receive=size)
            impatient.cancel()
            with suppress(CancelledError):
                impatient.result(WAIT)
        accepting = [maybe_follow(chance, listener.accept(receive=size)) for _ in range(count)]
        clients = [tpio.open_connection(listener.getsockname()).result(WAIT) for _ in range(count)]
        sent = {}
        for client in chance.sample(clients, count):
            outgoing, incoming = flows(chance)
            data = outgoing.take(pick_size(chance))
            sent[client.getsockname()] = incoming, len(data), client.send(data)
        for client in clients:
            _, total, sending = sent[client.getsockname()]
            if total < 10000:  # more may not fit, and wait for the receiver
                assert sending.result(WAIT) == total
                client.shutdown(socket.SHUT_WR)
        for future in accepting:
            server, address, data = future.result(WAIT)
            flow, total, sending = sent.pop(address)
            begin = flow.at
            with server:
                assert 1 <= len(data) <= size
                flow.check(data)
                while flow.at - begin < total:
                    flow.check(server.recv(pick_size(chance)).result(WAIT))
                assert sending.result(WAIT) == total
        for client in clients:
            client.close()
        assert not sent


def disconnected(chance: random.Random) -> None:
    """All that was sent before a disconnect arrives, and then the end."""
    one, other = tcp_pair()
    with one, other:
        outgoing, incoming = flows(chance)
        begin = incoming.at
        sends = [maybe_follow(chance, one.send(outgoing.take(pick_size(chance)))) for _ in range(chance.randint(1, 4))]
        reads = [other.recv(1)] if chance.random() < 0.5 else []

        def end() -> None:
            for sending in sends:
                sending.result(WAIT)
            assert one.disconnect().result(WAIT) is None

        with support.thread(end):
            for read in reads:
                incoming.check(read.result(WAIT))
            while data := other.recv(pick_size(chance)).result(WAIT):
                incoming.check(data)
        assert incoming.at == outgoing.at, f"{outgoing.at - incoming.at} of {outgoing.at - begin} bytes are missing"


def handed_over(chance: random.Random) -> None:
    """A socket that goes to other code, blocking, or is shared as with another process, with data on its way."""
    outgoing, incoming = flows(chance)
    if chance.random() < 0.5 or support.wine:  # Wine: what was bound stays bound
        one, other = tcp_pair()
        pending = one.recv(10)
        with other, socket.socket(fileno=one.detach()) as plain:
            assert pending.cancelled() and one.closed
            sending = other.send(outgoing.take(pick_size(chance)))
            while incoming.at < outgoing.at:
                incoming.check(plain.recv(pick_size(chance)))
            sending.result(WAIT)
            sending = other.send(outgoing.take(1))
            assert sending.result(WAIT) == 1
            incoming.check(plain.recv(10))
    with tpio.listen(("127.0.0.1", 0)) as listener:
        plain = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept().result(WAIT)
    shared = plain.share(os.getpid())
    plain.close()
    with peer, tpio.Socket.from_share(shared) as taken:
        if chance.random() < 0.5 and not support.wine:
            taken = tpio.Socket.from_share(taken.share(os.getpid()))
        with taken:
            sending = maybe_follow(chance, peer.send(outgoing.take(pick_size(chance))))
            while incoming.at < outgoing.at:
                incoming.check(taken.recv(pick_size(chance)).result(WAIT))
            sending.result(WAIT)


PEEK = 0x11400C  # FSCTL_PIPE_PEEK


def peeked(chance: random.Random) -> None:
    """A device control that looks into a pipe, between reads."""
    with tpio.PipeListener(some_name(chance)) as listener:
        client = tpio.open_pipe(listener.name).result(WAIT)
        server = listener.accept().result(WAIT)
    with client, server:
        outgoing, incoming = flows(chance)
        for _ in range(chance.randint(1, 20)):
            data = outgoing.take(chance.choice((1, 100, 1000)))
            assert client.write(data).result(WAIT) == len(data)
            room = chance.choice((len(data), len(data) + 1, 5000))
            looking = maybe_follow(chance, server.ioctl(PEEK, output_size=16 + room))
            if chance.random() < 0.2:
                looking.cancel()
            with suppress(CancelledError):
                seen = looking.result(WAIT)
                assert struct.unpack("<4L", seen[:16])[1] == len(data)
                assert seen[16:] == data
            incoming.check(server.read(5000).result(WAIT))


def named_pipes(chance: random.Random) -> None:
    count = chance.randint(1, 4)
    with tpio.PipeListener(
        some_name(chance), max_instances=chance.choice((None, count)), listening=chance.randint(1, count)
    ) as listener:
        if chance.random() < 0.5:
            gone = listener.accept()
            gone.cancel()
        clients = [tpio.open_pipe(listener.name) for _ in range(count)]
        servers = [listener.accept() for _ in range(count)]
        starts = {}
        for client in clients:
            start = chance.randrange(LENGTH)
            pipe = client.result(WAIT)
            tag = struct.pack("<I", len(starts))
            starts[tag] = (start, pipe)
            assert pipe.write(tag).result(WAIT) == 4
        for server in servers:
            with server.result(WAIT) as end:
                tag = b""
                while len(tag) < 4:
                    tag += end.read(4 - len(tag)).result(WAIT)
                start, pipe = starts.pop(tag)
                with pipe:
                    data = Flow(start).take(pick_size(chance))
                    sending = pipe.write(data)
                    flow = Flow(start)
                    while flow.at < start + len(data):
                        flow.check(end.read(pick_size(chance)).result(WAIT))
                    assert sending.result(WAIT) == len(data)
        with suppress(CancelledError, NameError):
            gone.result(WAIT).close()
        assert not starts


def messages(chance: random.Random) -> None:
    with tpio.PipeListener(some_name(chance), message=True) as listener:
        accepting = listener.accept()
        client = tpio.open_pipe(listener.name).result(WAIT)
        server = accepting.result(WAIT)
    with client, server:
        for _ in range(chance.randint(1, 20)):
            message = chance.randbytes(chance.choice((1, 10, 500, 4000, 20000)))
            writing = client.write(message)
            size = chance.choice((10, 100, 5000, 30000))
            received = b""
            if size < len(message) and chance.random() < 0.5:  # a part first: read_message gives the rest
                received = server.read(size).result(WAIT)
                assert len(received) == size
            while True:
                reading = server.read_message()
                if chance.random() < 0.1:
                    reading.cancel()
                try:
                    received += reading.result(WAIT)
                    break
                except CancelledError:
                    continue
            assert received == message, f"{len(received)} of {len(message)} bytes, or wrong ones"
            assert writing.result(WAIT) == len(message)
            tally.moved(len(message))


def datagrams(chance: random.Random) -> None:
    with tpio.Socket(type=socket.SOCK_DGRAM) as one, tpio.Socket(type=socket.SOCK_DGRAM) as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        for number in range(chance.randint(1, 30)):
            if chance.random() < 0.2:
                reading = other.recvfrom(100)
                reading.cancel()
                with suppress(CancelledError):
                    raise AssertionError(f"a datagram that nobody sent: {reading.result(WAIT)}")
            body = chance.randbytes(chance.choice((0, 1, 100, 1400, 8000)))
            data = struct.pack("<II", number, zlib.crc32(body)) + body
            into = bytearray(9000)
            receiving: tpio.Future[Any]
            receiving = other.recvfrom(9000) if chance.random() < 0.5 else other.recvfrom_into(into)
            assert one.sendto(data, other.getsockname()).result(WAIT) == len(data)
            got, sender = receiving.result(WAIT)
            assert sender == one.getsockname()
            assert (got if isinstance(got, bytes) else bytes(into[:got])) == data
            tally.moved(len(data))


def scattered_datagrams(chance: random.Random) -> None:
    """Datagrams out of several buffers and into several; one that is too long is told to be."""
    with tpio.Socket(type=socket.SOCK_DGRAM) as one, tpio.Socket(type=socket.SOCK_DGRAM) as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        one.connect(other.getsockname()).result(WAIT)
        for _ in range(chance.randint(1, 10)):
            parts = [chance.randbytes(chance.choice((0, 1, 50, 1000))) for _ in range(chance.randint(1, 5))]
            parts.append(b"!")
            message = b"".join(parts)
            buffers = [bytearray(chance.choice((1, 100, 2000))) for _ in range(chance.randint(1, 4))]
            receiving = maybe_follow(chance, other.recvmsg_into(buffers))
            assert one.sendmsg(parts).result(WAIT) == len(message)
            room = sum(map(len, buffers))
            try:
                size = receiving.result(WAIT)
            except tpio.TruncatedError:
                assert room < len(message)
                size = room
            assert size == min(room, len(message))
            assert b"".join(buffers)[:size] == message[:size]
            tally.moved(size)
