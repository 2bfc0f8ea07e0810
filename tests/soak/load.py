"""The scenarios of the soak: each does one thing to its end, with random sizes, cancels and accidents, and compares
every byte. Functions run on threads, coroutines in an asyncio loop."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import support
import tpio

WAIT = 60  # seconds: longer than anything takes that works


class Tally:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.scenarios: Counter[str] = Counter()
        self.started = self.ended = self.doubled = self.bytes = 0

    def count(self, scenario: str) -> None:
        with self.lock:
            self.scenarios[scenario] += 1

    def moved(self, size: int) -> None:
        with self.lock:
            self.bytes += size

    def follow(self, future: tpio.Future[Any]) -> tpio.Future[Any]:
        """Its callback must be called, once."""
        calls = 0

        def called(_: object) -> None:
            nonlocal calls
            with self.lock:
                calls += 1
                if calls == 1:
                    self.ended += 1
                else:
                    self.doubled += 1

        with self.lock:
            self.started += 1
        future.add_done_callback(called)
        return future


tally = Tally()
_folder = Path()


@contextmanager
def workspace() -> Iterator[None]:
    global _folder
    _folder = Path(tempfile.mkdtemp(prefix="tpio-soak-"))
    try:
        yield
    finally:
        shutil.rmtree(_folder, ignore_errors=True)


def _path(chance: random.Random) -> Path:
    return _folder / f"{threading.get_ident()}-{chance.getrandbits(64):x}"


# ---- bytes that tell where they are from

_LENGTH = 1048573  # a prime: a block that is doubled, lost or out of place does not look right
_RANDOM = random.Random(0).randbytes(_LENGTH) * 2


class Flow:
    """A stream of known bytes; the sender and the receiver each have one from the same start."""

    def __init__(self, start: int) -> None:
        self.at = start

    def take(self, size: int) -> bytes:
        place = self.at % _LENGTH
        self.at += size
        return _RANDOM[place : place + size]

    def check(self, data: bytes) -> None:
        at = self.at
        wanted = self.take(len(data))
        if data != wanted:
            found = _RANDOM.find(data[:16])
            raise AssertionError(f"wrong bytes at {at}: {len(data)}, which begin like those at {found} (of {_LENGTH})")
        tally.moved(len(data))


def _flows(chance: random.Random) -> tuple[Flow, Flow]:
    start = chance.randrange(_LENGTH)
    return Flow(start), Flow(start)


def _size(chance: random.Random) -> int:
    return chance.choice((1, 7, 64, 1000, 4096, 8191, 8192, 8193, 20000, 65536, 200000))


def _maybe_follow(chance: random.Random, future: tpio.Future[Any]) -> tpio.Future[Any]:
    return tally.follow(future) if chance.random() < 0.5 else future


# ---- streams


def _send(chance: random.Random, end: tpio.Handle, flow: Flow, total: int) -> None:
    pending: deque[tuple[tpio.Future[int], int]] = deque()
    while total or pending:
        if total and len(pending) < 3 and (not pending or chance.random() < 0.6):
            size = min(_size(chance), total)
            data: Any = flow.take(size)
            kind = chance.randrange(4)
            if kind == 1:
                data = bytearray(data)
            elif kind == 2:
                data = memoryview(data)
            if kind == 3 and isinstance(end, tpio.Socket):
                half = size // 2
                future = end.send_msg([data[:half], data[half:]])
            else:
                future = end.write(data)
            pending.append((_maybe_follow(chance, future), size))
            total -= size
        else:
            future, size = pending.popleft()
            written = future.result(WAIT)
            assert written == size, f"{written} bytes written of {size}"


def _receive(chance: random.Random, end: tpio.Handle, flow: Flow, most: int = 3) -> None:
    """To the end of the file. Some reads are cancelled; what they bring in spite of that counts."""
    pending: deque[tuple[tpio.Future[Any], bytearray | None]] = deque()
    while True:
        while len(pending) < chance.randint(1, most):
            kind = chance.randrange(8)
            if kind == 0 and not pending:
                polled = end.poll_read()
                if chance.random() < 0.3:
                    polled.cancel()
                with suppress(CancelledError):
                    polled.result(WAIT)
            if kind < 5:
                pending.append((_maybe_follow(chance, end.read(_size(chance))), None))
            else:
                buffer = bytearray(_size(chance))
                pending.append((_maybe_follow(chance, end.read_into(buffer)), buffer))
        if chance.random() < 0.1:
            chance.choice(pending)[0].cancel()
        elif chance.random() < 0.01:
            end.cancel()
        future, into = pending.popleft()
        try:
            result = future.result(WAIT)
        except CancelledError:
            continue
        data = result if into is None else bytes(memoryview(into)[:result])
        if not data:
            break
        flow.check(data)
    for future, into in pending:
        with suppress(CancelledError):
            after = future.result(WAIT)
            assert not after, f"after the end at {flow.at}: {after!r:.60} {into and bytes(into[:20])}"


def _stream(chance: random.Random, write: tpio.Handle, read: tpio.Handle, close: Any, most: int = 3) -> None:
    """All of a flow from one end to the other; `close` ends it."""
    outgoing, incoming = _flows(chance)
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


def _tcp_pair() -> tuple[tpio.Socket, tpio.Socket]:
    with tpio.listen(("127.0.0.1", 0)) as listener:
        accepting = listener.accept()
        client = tpio.open_connection(listener.getsockname()).result(WAIT)
        return accepting.result(WAIT)[0], client


def tcp(chance: random.Random) -> None:
    one, other = _tcp_pair()
    with one, other:
        _stream(chance, one, other, lambda: one.shutdown(socket.SHUT_WR))
        if chance.random() < 0.5:
            # Wine ends all receives of a socket whose own sending side is shut but the first, at the peer's shutdown,
            # with nothing, or never: seen without tpio too.
            _stream(chance, other, one, lambda: other.shutdown(socket.SHUT_WR), 1 if support.wine else 3)


def tcp_accident(chance: random.Random) -> None:
    """Somebody resets or closes in the middle of it all: what was received until then is right, and everything ends."""
    one, other = _tcp_pair()
    outgoing, incoming = _flows(chance)
    futures = [_maybe_follow(chance, one.write(outgoing.take(_size(chance)))) for _ in range(chance.randint(1, 8))]
    reads = [_maybe_follow(chance, other.read(_size(chance))) for _ in range(chance.randint(1, 5))]
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
        incoming.check(_outcome(future))
    one.close()
    other.close()
    for future in (*futures, waiting):
        _outcome(future)
    assert all(future.done() for future in (*futures, *reads, waiting))


def _outcome(future: tpio.Future[Any]) -> Any:
    """The result; b"" for an operation that was cancelled or failed. One that does not end is an error."""
    try:
        error = future.exception(WAIT)
    except CancelledError:
        return b""
    if error is None:
        return future.result()
    assert isinstance(error, OSError), repr(error)
    return b""


def dropped(chance: random.Random) -> None:
    """Nobody keeps anything; futures, buffers and handles live until the system is done with them."""
    read, write = tpio.pipe()
    futures = [tally.follow(read.read(_size(chance))) for _ in range(chance.randint(1, 4))]
    tally.follow(read.read_into(bytearray(_size(chance))))
    tally.follow(write.write(os.urandom(_size(chance))))
    del futures
    if chance.random() < 0.5:
        del read
        write.close()
    else:
        del write
        read.close()


# ---- named pipes


def _name(chance: random.Random) -> str:
    return f"tpio-soak-{os.getpid()}-{chance.getrandbits(64):x}"


def named_pipes(chance: random.Random) -> None:
    count = chance.randint(1, 4)
    with tpio.PipeListener(_name(chance), max_instances=chance.choice((None, count))) as listener:
        if chance.random() < 0.5:
            gone = listener.accept()
            gone.cancel()
        clients = [tpio.open_pipe(listener.name) for _ in range(count)]
        servers = [listener.accept() for _ in range(count)]
        starts = {}
        for client in clients:
            start = chance.randrange(_LENGTH)
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
                    data = Flow(start).take(_size(chance))
                    sending = pipe.write(data)
                    flow = Flow(start)
                    while flow.at < start + len(data):
                        flow.check(end.read(_size(chance)).result(WAIT))
                    assert sending.result(WAIT) == len(data)
        with suppress(CancelledError, NameError):
            gone.result(WAIT).close()
        assert not starts


def messages(chance: random.Random) -> None:
    with tpio.PipeListener(_name(chance), message=True) as listener:
        accepting = listener.accept()
        client = tpio.open_pipe(listener.name).result(WAIT)
        server = accepting.result(WAIT)
    with client, server:
        for _ in range(chance.randint(1, 20)):
            message = chance.randbytes(chance.choice((1, 10, 500, 4000, 20000)))
            writing = client.write(message)
            size = chance.choice((10, 100, 5000, 30000))
            received = b""
            while True:
                reading = server.read(size)
                if chance.random() < 0.1:
                    reading.cancel()
                try:
                    part = reading.result(WAIT)
                except CancelledError:
                    continue
                assert len(part) <= size
                received += part
                if not server.more_data:
                    break
            assert received == message, f"{len(received)} of {len(message)} bytes, or wrong ones"
            assert writing.result(WAIT) == len(message)
            tally.moved(len(message))


# ---- datagrams, files, directories


def datagrams(chance: random.Random) -> None:
    with tpio.Socket(type=socket.SOCK_DGRAM) as one, tpio.Socket(type=socket.SOCK_DGRAM) as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        for number in range(chance.randint(1, 30)):
            if chance.random() < 0.2:
                reading = other.recv_from(100)
                reading.cancel()
                with suppress(CancelledError):
                    raise AssertionError(f"a datagram that nobody sent: {reading.result(WAIT)}")
            body = chance.randbytes(chance.choice((0, 1, 100, 1400, 8000)))
            data = struct.pack("<II", number, zlib.crc32(body)) + body
            into = bytearray(9000)
            receiving: tpio.Future[Any]
            receiving = other.recv_from(9000) if chance.random() < 0.5 else other.recv_from_into(into)
            assert one.send_to(data, other.getsockname()).result(WAIT) == len(data)
            got, sender = receiving.result(WAIT)
            assert sender == one.getsockname()
            assert (got if isinstance(got, bytes) else bytes(into[:got])) == data
            tally.moved(len(data))


def files(chance: random.Random) -> None:
    path = _path(chance)
    block = chance.choice((512, 4096, 50000))
    count = chance.randint(1, 12)
    content = [chance.randbytes(block) for _ in range(count)]
    with tpio.open(path, "w+b") as file:
        order = chance.sample(range(count), count)
        writes = [_maybe_follow(chance, file.write(content[i], i * block)) for i in order]
        for future in writes:
            assert future.result(WAIT) == block
        assert file.size() == count * block
        file.lock(0, block).result(WAIT)
        file.unlock(0, block)
        reads = []
        for i in chance.sample(range(count), count):
            reads.append((i, _maybe_follow(chance, file.read(block, i * block))))
            if chance.random() < 0.1:
                reads[-1][1].cancel()
        for i, future in reads:
            with suppress(CancelledError):
                assert future.result(WAIT) == content[i]
                tally.moved(block)
        for part in content:  # sequential
            assert file.read(block).result(WAIT) == part
        assert file.read(1).result(WAIT) == b""
    with tpio.open(path, "ab") as file:
        assert file.write(b"the end").result(WAIT) == 7
    if chance.random() < 0.5:
        other = path.with_suffix(".copy")
        assert tpio.copy_file(path, other, block=8192).result(WAIT) == count * block + 7
        assert other.read_bytes() == b"".join(content) + b"the end"
        other.unlink()
    if chance.random() < 0.5:
        _sendfile(chance, path, b"".join(content) + b"the end")
    path.unlink()


def _sendfile(chance: random.Random, path: Path, content: bytes) -> None:
    one, other = _tcp_pair()
    offset = chance.randrange(len(content))
    with one, other, tpio.open(path) as file:
        sending = one.sendfile(file, offset)
        received = b""
        while len(received) < len(content) - offset:
            part = other.read(65536).result(WAIT)
            assert part
            received += part
        assert sending.result(WAIT) == len(received)
    assert received == content[offset:]
    tally.moved(len(received))


def watched(chance: random.Random) -> None:
    folder = _path(chance)
    folder.mkdir()
    with tpio.watch(folder) as watcher:
        wanted = {str(folder / f"file {i}") for i in range(chance.randint(1, 10))}
        seen: set[str] = set()
        for name in wanted:
            Path(name).write_bytes(b"x")
        while not wanted <= seen:
            asked = watcher.changes()
            if chance.random() < 0.3:
                asked.cancel()
            with suppress(CancelledError):
                for change in asked.result(WAIT):
                    if isinstance(change, tpio.Overflow):
                        wanted = set()
                    seen.add(change.path)
        tally.follow(watcher.changes())
    shutil.rmtree(folder)


# ---- time, objects, functions

_kernel32 = ctypes.WinDLL("kernel32")
_kernel32.CreateEventW.restype = ctypes.c_void_p
_kernel32.SetEvent.argtypes = _kernel32.CloseHandle.argtypes = [ctypes.c_void_p]


def timers(chance: random.Random) -> None:
    sleeps = []
    for _ in range(chance.randint(1, 40)):
        length = chance.random() * 0.2
        began = time.perf_counter()
        sleeps.append((began, length, _maybe_follow(chance, tpio.sleep(length))))
    for _, _, future in chance.sample(sleeps, len(sleeps) // 3):
        future.cancel()
    for began, length, future in sleeps:
        with suppress(CancelledError):
            future.result(WAIT)
            assert time.perf_counter() - began >= length, "early"
    calls = []
    enough = threading.Event()

    def call() -> None:
        calls.append(1)
        if len(calls) == 3:
            enough.set()

    timer = tpio.Timer(call, 0.001, period=0.01)
    assert enough.wait(WAIT)
    timer.cancel()


def waits(chance: random.Random) -> None:
    events = [_kernel32.CreateEventW(None, True, False, None) for _ in range(chance.randint(1, 10))]
    futures = [_maybe_follow(chance, tpio.wait(event, chance.choice((None, WAIT)))) for event in events]
    short = [tpio.wait(event, 0.01) for event in events]
    cancelled = chance.sample(futures, len(futures) // 3)
    for future in short:
        assert future.result(WAIT) is False
    for future in cancelled:
        future.cancel()
    for event in events:
        if chance.random() < 0.5:
            _kernel32.SetEvent(event)
            _kernel32.CloseHandle(event)  # the wait has its own
        else:
            threading.Thread(target=lambda e=event: (_kernel32.SetEvent(e), _kernel32.CloseHandle(e))).start()
    for future in futures:
        with suppress(CancelledError):
            assert future.result(WAIT) is True
            assert future not in cancelled or not future.cancelled()


def functions(chance: random.Random) -> None:
    calls: Counter[int] = Counter()
    lock = threading.Lock()

    def call(number: int) -> int:
        with lock:
            calls[number] += 1
        return number

    futures = [_maybe_follow(chance, tpio.default_pool().submit(call, number)) for number in range(50)]
    for future in chance.sample(futures, 15):
        future.cancel()
    for number, future in enumerate(futures):
        if future.cancelled():
            assert calls[number] == 0, "a cancelled function ran"
        else:
            assert future.result(WAIT) == number
            assert calls[number] == 1


def private_pool(chance: random.Random) -> None:
    """A pool that is closed with everything in flight."""
    pool = tpio.Pool(max_threads=chance.choice((None, 1, 4)))
    read, write = tpio.pipe(pool=pool)
    futures = [
        tally.follow(future)
        for future in (
            read.read(10),
            read.read_into(bytearray(10)),
            tpio.sleep(60, pool=pool),
            tpio.sleep(chance.random() * 0.01, pool=pool),
            *(pool.submit(time.sleep, chance.random() * 0.01) for _ in range(5)),
        )
    ]
    listener = tpio.PipeListener(_name(chance), pool=pool)
    accepting = tally.follow(listener.accept())
    if chance.random() < 0.5:
        futures.append(write.write(b"x"))
    pool.close()
    assert all(future.done() for future in futures), "a closed pool has pending futures"
    assert pool.stats().pending == pool.stats().handles == 0
    with suppress(CancelledError):
        accepting.result(WAIT)
    listener.close()


_one_child = threading.Semaphore(1)
_ECHO = "import os\nwhile data := os.read(0, 65536): os.write(1, data)"


def children(chance: random.Random) -> None:
    if not _one_child.acquire(blocking=False):
        return
    try:
        outgoing, incoming = _flows(chance)
        kill = chance.random() < 0.5
        with tpio.spawn(
            [sys.executable, "-I", "-S", "-c", _ECHO], stdin=tpio.PIPE, stdout=tpio.PIPE, stderr=tpio.DEVNULL
        ) as child:
            ended = child.wait()
            if not kill and chance.random() < 0.5:
                data = outgoing.take(200000)
                out, _ = child.communicate(data).result(WAIT)
                incoming.check(out)
            else:
                for _ in range(chance.randint(1, 5)):
                    size = _size(chance)
                    writing = child.stdin.write(outgoing.take(size))
                    got = 0
                    while got < size:
                        part = child.stdout.read(65536).result(WAIT)
                        incoming.check(part)
                        got += len(part)
                    assert writing.result(WAIT) == size
                if kill:
                    reading = tally.follow(child.stdout.read(1))
                    child.kill()
                    assert _outcome(reading) == b""
                else:
                    child.stdin.close()
                    assert child.stdout.read(1).result(WAIT) == b""
            assert ended.result(WAIT) == (1 if kill else 0)
            assert incoming.at == outgoing.at
    finally:
        _one_child.release()


# ---- asyncio


async def _receive_impatiently(chance: random.Random, end: tpio.Handle, flow: Flow) -> None:
    """Every cancelled await leaves what it would have got to the next."""
    while True:
        try:
            async with asyncio.timeout(chance.choice((0, 0.0001, 0.001, 0.01, None))):
                if chance.random() < 0.7:
                    data = await end.read(_size(chance))
                else:
                    into = bytearray(_size(chance))
                    data = bytes(into[: await end.read_into(into)])
        except TimeoutError:
            continue
        if not data:
            return
        flow.check(data)


async def _exchange(chance: random.Random, write: tpio.Handle, read: tpio.Handle, close: Any) -> None:
    outgoing, incoming = _flows(chance)
    total = chance.choice((0, 1, 30000, 300000))
    receiver = asyncio.create_task(_receive_impatiently(chance, read, incoming))
    left = total
    while left:
        size = min(_size(chance), left)
        assert await write.write(outgoing.take(size)) == size
        left -= size
    close()
    await asyncio.wait_for(receiver, WAIT)
    assert incoming.at == outgoing.at, f"{outgoing.at - incoming.at} of {total} bytes are missing"


async def pipe_tasks(chance: random.Random) -> None:
    read, write = tpio.pipe()
    with read, write:
        await _exchange(chance, write, read, write.close)


async def tcp_tasks(chance: random.Random) -> None:
    with tpio.listen(("127.0.0.1", 0)) as listener:
        client = await tpio.open_connection(listener.getsockname(), timeout=WAIT)
        server = None
        while server is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(chance.choice((0, 0.001, None))):
                    server, _ = await listener.accept()
    with client, server:
        await _exchange(chance, client, server, lambda: client.shutdown(socket.SHUT_WR))


async def timer_tasks(chance: random.Random) -> None:
    async def nap(length: float) -> None:
        began = time.perf_counter()
        await tpio.sleep(length)
        assert time.perf_counter() - began >= length

    naps = [asyncio.create_task(nap(chance.random() * 0.1)) for _ in range(chance.randint(1, 20))]
    for task in chance.sample(naps, len(naps) // 3):
        task.cancel()
    results = await asyncio.gather(*naps, return_exceptions=True)
    for result in results:
        if result is not None and not isinstance(result, asyncio.CancelledError):
            raise result


async def function_tasks(chance: random.Random) -> None:
    results = await asyncio.gather(*(tpio.default_pool().submit(pow, 3, i) for i in range(20)))
    assert results == [3**i for i in range(20)]


SCENARIOS: list[tuple[Any, float]] = [
    (pipes, 3),
    (tcp, 3),
    (tcp_accident, 4),
    (dropped, 2),
    (named_pipes, 3),
    (messages, 2),
    (datagrams, 2),
    (files, 3),
    (watched, 1),
    (timers, 1),
    (waits, 2),
    (functions, 2),
    (private_pool, 1),
    (children, 0.3),
]
TASKS: list[Any] = [pipe_tasks, tcp_tasks, timer_tasks, function_tasks]


def choose(names: str) -> None:
    """Leaves only these scenarios, separated by commas."""
    chosen = names.split(",")
    SCENARIOS[:] = [(scenario, 1) for scenario, _ in SCENARIOS if scenario.__name__ in chosen] or [(functions, 1)]
    TASKS[:] = [scenario for scenario in TASKS if scenario.__name__ in chosen] or [timer_tasks]
