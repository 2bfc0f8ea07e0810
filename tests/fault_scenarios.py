"""What is done while something fails: each public operation once. See test_faults.py.

Each scenario gets an ExitStack, in which it leaves what has to be closed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures import wait as wait_for_all

import pytest

import support
import tpio
import tpio.aio
import tpio.tls
from ends import GENERIC_READ, missing_unix, named_pair, pipe_name, plain_tcp_pair, tcp_pair
from fault_hooks import hooks

PATIENCE = 3  # seconds, in which nothing has to be waited for


class Place:
    """Where scenarios make their files; the test says so."""

    path = ""


place = Place()
_numbers = itertools.count()


def new_path() -> str:
    return os.path.join(place.path, f"file-{next(_numbers)}")


def get(future: tpio.Future) -> object:
    return future.result(PATIENCE)


SCENARIOS: dict[str, Callable[[contextlib.ExitStack], None]] = {}


def scenario(function: Callable[[contextlib.ExitStack], None]) -> Callable[[contextlib.ExitStack], None]:
    SCENARIOS[function.__name__] = function
    return function


def spare(stack: contextlib.ExitStack, function: bytes) -> None:
    """That function works meanwhile."""
    hooks.tpio_faults_spare(function)
    stack.callback(hooks.tpio_faults_spare, b"")


def kept(stack: contextlib.ExitStack, *things):
    for thing in things:
        stack.callback(thing.close)
    return things if len(things) > 1 else things[0]


def end_child(child):
    with contextlib.suppress(OSError):
        child.kill()
    child.close()


def tpio_event(stack):
    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.CreateEventW.restype = ctypes.c_void_p
    kernel32.CloseHandle.argtypes = [ctypes.c_void_p]
    events: list[int] = []
    stack.callback(lambda: [kernel32.CloseHandle(event) for event in events])  # first: there may be no memory for it
    events += [0]
    events[0] = kernel32.CreateEventW(None, True, False, None)
    return events[0]


@scenario
def a_pool(stack):
    pool = kept(stack, tpio.Pool(max_threads=2))
    get(tpio.sleep(0, pool=pool))
    get(pool.submit(int))


@scenario
def a_pool_that_runs_long(stack):
    kept(stack, tpio.Pool(min_threads=2, max_threads=4, long_running=True))


@scenario
def an_anonymous_pipe(stack):
    reader, writer = kept(stack, *tpio.pipe())
    get(writer.write(b"data"))
    get(reader.read(4))


@scenario
def a_pipe_for_a_child(stack):
    kept(stack, *tpio.pipe(inherit="write"))


@scenario
def reads_that_wait(stack):
    reader, writer = kept(stack, *tpio.pipe())
    readings = [reader.read(4), reader.read_into(bytearray(4))]
    get(writer.write(b"datadata"))
    for reading in readings:
        get(reading)


@scenario
def the_end_of_a_pipe(stack):
    reader, writer = kept(stack, *tpio.pipe())
    reading = reader.read(4)
    writer.close()
    assert get(reading) == b""


def cancelled(stack, ask):
    reader, writer = kept(stack, *tpio.pipe())
    reading = reader.read(4)
    ask(reader, reading)
    get(writer.write(b"data"))  # in case that the request was lost
    with contextlib.suppress(CancelledError):
        get(reading)


@scenario
def cancel(stack):
    cancelled(stack, lambda _, reading: reading.cancel())


@scenario
def cancel_of_a_handle(stack):
    cancelled(stack, lambda reader, _: reader.cancel())


@scenario
def close_with_a_read_pending(stack):
    reader, _ = kept(stack, *tpio.pipe())
    reading = reader.read(4)
    reader.close()
    with contextlib.suppress(CancelledError):
        get(reading)


@scenario
def detach(stack):
    reader, _ = kept(stack, *tpio.pipe())
    value = reader.detach()
    stack.callback(tpio._tpio.close_handle, value)


@scenario
def a_named_pipe(stack):
    listener = kept(stack, tpio.PipeListener(pipe_name()))
    accepting = listener.accept()
    client = kept(stack, get(tpio.open_pipe(listener.name)))
    server = kept(stack, get(accepting))
    get(client.write(b"data"))
    get(server.read(4))
    assert server.client_pid == os.getpid()


@scenario
def a_named_pipe_with_messages(stack):
    listener = kept(stack, tpio.PipeListener(pipe_name(), message=True, max_instances=2, listening=2))
    accepting = listener.accept()
    client = kept(stack, get(tpio.open_pipe(listener.name)))
    server = kept(stack, get(accepting))
    get(client.write(b"message"))
    get(server.read(3))
    get(server.read(4))


@scenario
def a_named_pipe_for_others(stack):
    kept(stack, tpio.PipeListener(pipe_name(), security=["BU"]))


@scenario
def a_client_that_waits_for_an_instance(stack):
    listener = kept(stack, tpio.PipeListener(pipe_name(), max_instances=1))
    first = kept(stack, get(tpio.open_pipe(listener.name)))
    server = kept(stack, get(listener.accept()))
    second = tpio.open_pipe(listener.name, timeout=PATIENCE)
    stack.callback(second.cancel)
    first.close()
    server.close()
    with contextlib.suppress(FileNotFoundError):  # the listener had no new instance
        kept(stack, get(second))


@scenario
def impersonate(stack):
    listener = kept(stack, tpio.PipeListener(pipe_name()))
    client = kept(stack, get(tpio.open_pipe(listener.name)))
    server = kept(stack, get(listener.accept()))
    get(client.write(b"d"))
    get(server.read(1))
    with server.impersonate():
        pass


@scenario
def a_connection(stack):
    listener = kept(stack, tpio.listen(("127.0.0.1", 0)))
    accepting = listener.accept()
    client = kept(stack, get(tpio.open_connection(listener.getsockname())))
    server, _ = get(accepting)
    kept(stack, server)
    get(client.write(b"data"))
    get(server.read(4))
    server.getpeername()
    client.shutdown(socket.SHUT_WR)
    assert get(server.read(4)) == b""


@scenario
def a_connection_by_name(stack):
    listener = kept(stack, tpio.listen(("127.0.0.1", 0)))
    client = kept(stack, get(tpio.open_connection(("localhost", listener.getsockname()[1]))))
    server, _ = get(listener.accept())
    kept(stack, server, client)


@scenario
def accept_with_data(stack):
    listener = kept(stack, tpio.listen(("127.0.0.1", 0)))
    accepting = listener.accept(receive=4)
    client = kept(stack, get(tpio.open_connection(listener.getsockname())))
    get(client.write(b"data"))
    kept(stack, get(accepting)[0])


@scenario
def many_buffers(stack):
    one, other = kept(stack, *tcp_pair())
    get(one.sendmsg([b"da", b"ta"]))
    get(other.recvmsg_into([bytearray(2), bytearray(2)]))


@scenario
def poll_read(stack):
    one, other = kept(stack, *tcp_pair())
    polling = other.poll_read()
    get(one.write(b"data"))
    get(polling)
    get(other.read(4))


@scenario
def poll_write(stack):
    one, _ = kept(stack, *tcp_pair())
    get(one.poll_write())


@scenario
def poll_of_a_socket_that_is_not_bound(stack):
    one, other = kept(stack, *plain_tcp_pair())
    get(tpio.poll_write(one))
    polling = tpio.poll_read(one)
    other.send(b"data")
    get(polling)
    assert one.recv(4) == b"data"


@scenario
def disconnect(stack):
    one, other = kept(stack, *tcp_pair())
    get(one.disconnect())
    assert get(other.read(1)) == b""


@scenario
def sendfile(stack):
    file = kept(stack, a_file(stack))
    get(file.write(b"data", 0))
    one, other = kept(stack, *tcp_pair())
    get(one.sendfile(file, 0, 4))
    get(other.read(4))


@scenario
def datagrams(stack):
    one = kept(stack, tpio.Socket(type=socket.SOCK_DGRAM))
    other = kept(stack, tpio.Socket(type=socket.SOCK_DGRAM))
    one.bind(("127.0.0.1", 0))
    other.bind(("127.0.0.1", 0))
    receiving = other.recvfrom(10)
    get(one.sendto(b"data", other.getsockname()))
    get(receiving)
    get(one.sendto(b"data", other.getsockname()))
    get(other.recvfrom_into(bytearray(10)))


@scenario
def getaddrinfo(stack):
    get(tpio.getaddrinfo("localhost", 80))


def a_file(stack, **options):
    path = new_path()
    return kept(stack, tpio.open(path, "w+b", **options))


@scenario
def a_file_at_offsets(stack):
    file = a_file(stack)
    get(file.write(b"data", 0))
    get(file.read(4, 0))
    get(file.read(4, 100))
    file.truncate(2)
    assert file.size() == 2
    file.flush()


@scenario
def many_parts_of_a_file(stack):
    file = a_file(stack)
    get(file.write_many([(0, b"da"), (2, b"ta")]))
    get(file.read_many([(0, 2), (2, 2)]))


@scenario
def locks(stack):
    if support.wine:  # where a lock on a handle without that mode never completes
        spare(stack, b"SetFileCompletionNotificationModes")
    file = a_file(stack)
    get(file.lock(0, 10))
    file.unlock(0, 10)


@scenario
def an_unbuffered_file(stack):
    file = a_file(stack, flags=0x20000000)
    buffer = tpio.aligned_buffer(4096)
    get(file.write(buffer, 0))
    get(file.read_into(buffer, 0))


@scenario
def copy_file(stack):
    source = new_path()
    with open(source, "wb") as file:
        file.write(bytes(300000))
    get(tpio.copy_file(source, source + ".copy"))


@scenario
def pump(stack):
    reader, filled = kept(stack, *tpio.pipe())
    emptied, writer = kept(stack, *tcp_pair())
    pumping = tpio.pump(reader, writer)
    get(filled.write(b"data"))
    filled.close()
    assert get(pumping) == 4
    assert get(emptied.read(4)) == b"data"


@scenario
def a_pump_that_is_cancelled(stack):
    reader, filled = kept(stack, *tpio.pipe())
    _, writer = kept(stack, *tpio.pipe())
    pumping = tpio.pump(reader, writer)
    pumping.cancel()
    filled.close()  # in case that the request was lost
    with contextlib.suppress(CancelledError):
        get(pumping)


@scenario
def ioctl(stack):
    reader, _ = kept(stack, *named_pair())
    fsctl_pipe_peek = 0x11400C
    with contextlib.suppress(tpio.TruncatedError):
        get(reader.ioctl(fsctl_pipe_peek, output_size=64))


@scenario
def sleep(stack):
    get(tpio.sleep(0.001))
    long = tpio.sleep(1000)
    assert long.cancel()


@scenario
def a_timer(stack):
    called = threading.Event()
    timer = tpio.Timer(called.set, 0.001)
    stack.callback(timer.cancel)
    assert called.wait(PATIENCE)


@scenario
def wait(stack):
    event = tpio_event(stack)
    waiting = tpio.wait_for_handle(event, 0.001)
    assert get(waiting) is False
    cancelled = tpio.wait_for_handle(event)
    cancelled.cancel()
    with pytest.raises(CancelledError):
        get(cancelled)


@scenario
def submit(stack):
    pool = tpio.default_pool()
    assert get(pool.submit(pow, 2, 10)) == 1024
    assert list(pool.map(abs, [-1, -2], timeout=PATIENCE)) == [1, 2]


@scenario
def a_done_callback(stack):
    called = threading.Event()
    tpio.sleep(0.001).add_done_callback(lambda _: called.set())
    assert called.wait(PATIENCE)


@scenario
def a_callback_of_a_future_that_is_done(stack):
    future = tpio.sleep(0)
    get(future)
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    assert called.wait(PATIENCE)


@scenario
def watch(stack):
    watcher = kept(stack, tpio.watch(place.path))
    changes = watcher.changes()
    with open(new_path(), "wb"):
        pass
    get(changes)


@scenario
def a_watch_that_is_closed(stack):
    watcher = kept(stack, tpio.watch(place.path))
    watcher.changes()


@scenario
def share(stack):
    reader, _ = kept(stack, *tpio.pipe())
    stack.callback(tpio._tpio.close_handle, reader.share(os.getpid()))


@scenario
def a_handle_of_somebody_else(stack):
    from tpio import _tpio

    name = new_path()
    with open(name, "wb") as file:
        file.write(b"data")
    overlapped, shared, open_existing = 0x40000000, 7, 3
    value = _tpio.create_file(name, GENERIC_READ, shared, open_existing, overlapped)
    try:
        handle = tpio.Handle(value)
    except BaseException:
        _tpio.close_handle(value)
        raise
    kept(stack, handle)
    get(handle.read(4, 0))


def program(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


@scenario
def tls(stack):
    """Without a peer, whose calls would be counted too."""
    context = tpio.tls.Context(verify=False, alpn=["http/1.1"])
    machine = context._machine("localhost")
    assert not machine.handshake()
    assert bytes(machine.take_output())
    with memoryview(machine.input) as room:
        room[:3] = b"\x16\x03\x03"
    machine.received(3)
    assert not machine.handshake()


@scenario
def a_child(stack):
    child = tpio.spawn(program("import sys; sys.stdout.write(sys.stdin.read())"), stdin=tpio.PIPE, stdout=tpio.PIPE)
    stack.callback(end_child, child)
    get(child.communicate(b"hello\n"))


@scenario
def a_child_that_is_killed(stack):
    child = tpio.spawn(program("import time; time.sleep(60)"))
    stack.callback(end_child, child)
    child.kill()
    get(child.wait())


@scenario
def a_pool_that_is_closed_with_everything_in_flight(stack):
    pool = kept(stack, tpio.Pool(max_threads=2))
    reader, _ = kept(stack, *tpio.pipe(pool=pool))
    event = tpio_event(stack)
    go_on = threading.Event()
    stack.callback(go_on.set)
    pending = [
        reader.read(4),
        tpio.sleep(1000, pool=pool),
        tpio.wait_for_handle(event, pool=pool),
        pool.submit(go_on.wait, PATIENCE),
    ]
    pending += [pool.submit(int) for _ in range(3)]
    timer = tpio.Timer(int, 1000, pool=pool)
    go_on.set()
    pool.close(timeout=PATIENCE)
    assert reader.closed and not timer.active
    assert all(future.done() for future in pending)
    for future in pending:
        if not future.cancelled() and future.exception():
            raise future.exception()
    with pytest.raises(RuntimeError):
        pool.submit(int)


@scenario
def shutdown_of_a_pool(stack):
    pool = kept(stack, tpio.Pool(max_threads=1))
    begun, go_on = threading.Event(), threading.Event()
    stack.callback(go_on.set)
    running = pool.submit(lambda: begun.set() or go_on.wait(PATIENCE))
    assert begun.wait(PATIENCE)
    waiting = [pool.submit(int) for _ in range(3)]
    pool.shutdown(wait=False, cancel_futures=True)
    go_on.set()
    pool.shutdown()
    assert running.result(0) and all(future.cancelled() for future in waiting)
    get(tpio.sleep(0, pool=pool))  # I/O goes on


@scenario
def threads_that_end(stack):
    """Their states are dropped by the reaper."""
    for _ in range(3):
        pool = tpio.Pool(max_threads=2)
        try:
            get(pool.submit(int))
        finally:
            pool.close(timeout=PATIENCE)


@scenario
def a_timer_with_a_period(stack):
    called = threading.Semaphore(0)
    timer = tpio.Timer(called.release, 0.001, period=0.001)
    stack.callback(timer.cancel)
    for _ in range(3):
        if not called.acquire(timeout=0.2) and not timer.active:
            return  # it has ended, which sys.unraisablehook is told
    assert timer.cancel()


@scenario
def a_timer_that_is_cancelled(stack):
    timer = tpio.Timer(int, 1000, window=1)
    assert timer.cancel()
    get(tpio.sleep(0.001, window=0.001))


@scenario
def a_wait_that_is_signalled(stack):
    event = tpio_event(stack)
    signal = functools.partial(ctypes.WinDLL("kernel32").SetEvent, ctypes.c_void_p(event))
    stack.callback(signal)
    waiting, also = tpio.wait_for_handle(event), tpio.wait_for_handle(event, PATIENCE)
    signal()
    assert get(waiting) is True
    assert get(also) is True
    assert get(tpio.wait_for_handle(event, 0)) is True


@scenario
def waiting_for_many(stack):
    reader, writer = kept(stack, *tpio.pipe())
    futures = [reader.read(1), tpio.sleep(0.001), tpio.default_pool().submit(int)]
    get(writer.write(b"d"))
    done, left = wait_for_all(futures, PATIENCE)
    assert not left
    for future in done:
        get(future)


@scenario
def many_callbacks_at_once(stack):
    """Of one batch, where some that block must not hold up the others."""
    called = threading.Semaphore(0)
    go_on = threading.Event()
    stack.callback(go_on.set)
    for number in range(8):
        tpio.sleep(0.001).add_done_callback(
            lambda _, number=number: (called.release(), go_on.wait(PATIENCE) if number == 0 else None)
        )
    for _ in range(8):
        assert called.acquire(timeout=PATIENCE)


@scenario
def a_callback_deep_inside_others(stack):
    called = threading.Event()
    future = tpio.sleep(0)
    get(future)

    def deeper(depth: int) -> None:
        future.add_done_callback(lambda _: deeper(depth - 1) if depth else called.set())

    deeper(40)
    assert called.wait(PATIENCE)


@scenario
def the_verbs_on_sockets_of_the_standard_library(stack):
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        accepting = tpio.accept(listener)
        client.bind(("127.0.0.1", 0))
        get(tpio.connect(client, listener.getsockname()))
        server = kept(stack, get(accepting)[0])
        get(tpio.write(client, b"data"))
        get(tpio.read(server, 4))


@scenario
def a_unix_connection(stack):
    if missing := missing_unix():
        pytest.skip(missing)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = os.path.join(folder, "s")
        listener = kept(stack, tpio.listen(path))
        accepting = listener.accept()
        client = kept(stack, get(tpio.open_connection(path, timeout=PATIENCE)))
        server = kept(stack, get(accepting)[0])
        assert client.getpeername() == path
        get(client.send(b"data"))
        get(server.recv(4))


@scenario
def a_socket_that_is_given_away(stack):
    plain, other = kept(stack, *plain_tcp_pair())
    here = kept(stack, tpio.Socket.from_share(plain.share(os.getpid())))
    plain.close()
    get(here.send(b"data"))
    assert other.recv(4) == b"data"


@scenario
def a_socket_that_was_used_and_is_given_away(stack):
    ours, theirs = kept(stack, *tcp_pair())
    pending = theirs.recv(1)
    plain = kept(stack, socket.fromshare(theirs.share(os.getpid())))
    with contextlib.suppress(CancelledError):
        get(pending)
    assert theirs.closed
    if support.wine:  # a handle cannot be taken off its completion port
        return
    again = kept(stack, tpio.Socket(sock=plain))
    get(again.send(b"data"))
    get(ours.recv(4))


@scenario
def a_pipe_that_is_given_away(stack):
    listener = kept(stack, tpio.PipeListener(pipe_name()))
    value = tpio._tpio.create_file(listener.name, 0xC0000000, 0, 3, 0x40000000)
    try:
        process = tpio._tpio.open_process(os.getpid())
        try:
            given = tpio._tpio.duplicate_handle(value, process=process)
        finally:
            tpio._tpio.close_handle(process)
    finally:
        tpio._tpio.close_handle(value)
    try:
        client = kept(stack, tpio.Pipe(given))
    except BaseException:
        tpio._tpio.close_handle(given)
        raise
    server = kept(stack, get(listener.accept()))
    get(client.write(b"data"))
    get(server.read(4))
