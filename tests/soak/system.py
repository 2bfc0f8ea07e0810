"""Time, objects of the system, functions, pools and children."""

from __future__ import annotations

import ctypes
import random
import socket
import sys
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError
from contextlib import suppress

import support
import tpio

from .base import WAIT, flows, maybe_follow, outcome, pick_size, some_name, tally

_kernel32 = ctypes.WinDLL("kernel32")
_kernel32.CreateEventW.restype = _kernel32.CreateSemaphoreW.restype = ctypes.c_void_p
_kernel32.SetEvent.argtypes = _kernel32.CloseHandle.argtypes = [ctypes.c_void_p]
_kernel32.ReleaseSemaphore.argtypes = [ctypes.c_void_p] * 3
_kernel32.WaitForSingleObject.argtypes = [ctypes.c_void_p, ctypes.c_ulong]


def timers(chance: random.Random) -> None:
    sleeps = []
    for _ in range(chance.randint(1, 40)):
        length = chance.random() * 0.2
        began = time.perf_counter()
        sleeps.append((began, length, maybe_follow(chance, tpio.sleep(length))))
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
    futures = [maybe_follow(chance, tpio.wait_for_handle(event, chance.choice((None, WAIT)))) for event in events]
    short = [tpio.wait_for_handle(event, 0.01) for event in events]
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


def semaphores(chance: random.Random) -> None:
    """Each count that is released is taken by one wait that succeeds, or is left: also when waits are cancelled."""
    semaphore = _kernel32.CreateSemaphoreW(None, 0, 1000, None)
    released = chance.randint(1, 30)
    waits = [maybe_follow(chance, tpio.wait_for_handle(semaphore)) for _ in range(30)]
    doomed = chance.sample(waits, 20)

    def release() -> None:
        for _ in range(released):
            assert _kernel32.ReleaseSemaphore(semaphore, 1, None)

    support.at_once(release, lambda: [wait.cancel() for wait in doomed])
    for wait in waits:
        wait.cancel()
    succeeded = 0
    for wait in waits:
        with suppress(CancelledError):
            assert wait.result(WAIT) is True
            succeeded += 1
    left = 0
    while _kernel32.WaitForSingleObject(semaphore, 0) == 0:
        left += 1
    assert succeeded + left == released, f"{released} released, {succeeded} waits succeeded, {left} left"
    _kernel32.CloseHandle(semaphore)


def functions(chance: random.Random) -> None:
    calls: Counter[int] = Counter()
    lock = threading.Lock()

    def call(number: int) -> int:
        with lock:
            calls[number] += 1
        return number

    futures = [maybe_follow(chance, tpio.default_pool().submit(call, number)) for number in range(50)]
    for future in chance.sample(futures, 15):
        future.cancel()
    for number, future in enumerate(futures):
        if future.cancelled():
            assert calls[number] == 0, "a cancelled function ran"
        else:
            assert future.result(WAIT) == number
            assert calls[number] == 1
    assert list(tpio.default_pool().map(str, range(9))) == list("012345678")


def look_ups(chance: random.Random) -> None:
    """Names, some of which nobody wants any more."""
    wanted = [
        (host, port, {"type": socket.SOCK_STREAM, "family": socket.AF_INET})
        for host in ("127.0.0.1", "localhost")
        for port in (80, chance.randrange(1, 65536))
    ]
    looking = [(each, maybe_follow(chance, tpio.getaddrinfo(*each[:2], **each[2]))) for each in wanted]
    if chance.random() < 0.5:
        chance.choice(looking)[1].cancel()
    for (host, port, options), future in looking:
        with suppress(CancelledError):
            assert future.result(WAIT) == socket.getaddrinfo(host, port, **options)
    with suppress(socket.gaierror, CancelledError):
        raise AssertionError(tpio.getaddrinfo("256.256.256.256", 80, flags=socket.AI_NUMERICHOST).result(WAIT))


def private_pool(chance: random.Random) -> None:
    """A pool that is closed with everything in flight."""
    pool = tpio.Pool(max_threads=chance.choice((None, 1, 4)))
    read, write = tpio.pipe(pool=pool)
    datagrams = tpio.Socket(type=socket.SOCK_DGRAM, pool=pool)
    datagrams.bind(("127.0.0.1", 0))
    event = _kernel32.CreateEventW(None, False, False, None)
    futures = [
        tally.follow(future)
        for future in (
            read.read(10),
            read.read_into(bytearray(10)),
            datagrams.recvfrom(10),
            tpio.wait_for_handle(event, pool=pool),
            tpio.wait_for_handle(event, 0.001, pool=pool),
            tpio.sleep(60, pool=pool),
            tpio.sleep(chance.random() * 0.01, pool=pool),
            *(pool.submit(time.sleep, chance.random() * 0.01) for _ in range(5)),
        )
    ]
    listener = tpio.PipeListener(some_name(chance), pool=pool)
    accepting = tally.follow(listener.accept())
    if chance.random() < 0.5:
        futures.append(write.write(b"x"))
    if chance.random() < 0.5:
        _kernel32.SetEvent(event)
    pool.close()
    _kernel32.CloseHandle(event)
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
        outgoing, incoming = flows(chance)
        kill = chance.random() < 0.5
        with tpio.spawn(
            [sys.executable, "-I", "-S", "-c", _ECHO], stdin=tpio.PIPE, stdout=tpio.PIPE, stderr=tpio.DEVNULL
        ) as child:
            ended = child.wait()
            impatient = child.wait()
            impatient.cancel()
            outcome(impatient)
            if not kill and chance.random() < 0.5:
                data = outgoing.take(200000)
                out, _ = child.communicate(data).result(WAIT)
                incoming.check(out)
            else:
                for _ in range(chance.randint(1, 5)):
                    size = pick_size(chance)
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
                    assert outcome(reading) == b""
                else:
                    child.stdin.close()
                    assert child.stdout.read(1).result(WAIT) == b""
            assert ended.result(WAIT) == (1 if kill else 0)
            assert incoming.at == outgoing.at
    finally:
        _one_child.release()
