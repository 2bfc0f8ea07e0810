"""Every Win32 call and allocation of tpio's fails once, in each place, in each public operation.

For `python dev.py test --faults`, whose build counts the calls (src/tpio_faults.h). A scenario runs until its n-th call
is not made but fails, for n = 1, 2, ... until there is no n-th. Each time it either succeeds, as not every failure
matters, or raises the error that the call failed with. Nothing may be pending, open or leaked then, and the default pool
works.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Self

import pytest

import support
import tpio
import tpio.tls
from ends import GENERIC_READ, named_pair, pipe_name, tcp_pair

_hooks = ctypes.CDLL(tpio._tpio.__file__)
pytestmark = [
    pytest.mark.skipif(not hasattr(_hooks, "tpio_faults_arm"), reason="for the build of --faults"),
    pytest.mark.once(handles=32),  # each scenario looks for itself
]
PATIENCE = 3  # seconds, in which nothing has to be waited for
ENOUGH_MEMORY_IS = 8  # ERROR_NOT_ENOUGH_MEMORY


class Faults:
    """Arms the n-th call; afterwards tells which it was."""

    def __init__(self, nth: int) -> None:
        self.nth, self.calls, self.function, self.error = nth, 0, "", 0

    def __enter__(self) -> Self:
        _hooks.tpio_faults_function.restype = ctypes.c_char_p
        _hooks.tpio_faults_arm(self.nth)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.calls = _hooks.tpio_faults_disarm()
        self.function = _hooks.tpio_faults_function().decode()
        self.error = _hooks.tpio_faults_error()


def get(future: tpio.Future) -> object:
    return future.result(PATIENCE)


# ---- scenarios ------------------------------------------------------------------------------------------------------
# Each gets an ExitStack, in which it leaves what has to be closed.

SCENARIOS: dict[str, Callable[[contextlib.ExitStack], None]] = {}


def scenario(function: Callable[[contextlib.ExitStack], None]) -> Callable[[contextlib.ExitStack], None]:
    SCENARIOS[function.__name__] = function
    return function


def spare(stack: contextlib.ExitStack, function: bytes) -> None:
    """That function works meanwhile."""
    _hooks.tpio_faults_spare(function)
    stack.callback(_hooks.tpio_faults_spare, b"")


def kept(stack: contextlib.ExitStack, *things):
    for thing in things:
        stack.callback(thing.close)
    return things if len(things) > 1 else things[0]


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
def a_read_that_waits(stack):
    reader, writer = kept(stack, *tpio.pipe())
    reading = reader.read(4)
    get(writer.write(b"data"))
    get(reading)


@scenario
def read_into(stack):
    reader, writer = kept(stack, *tpio.pipe())
    reading = reader.read_into(bytearray(4))
    get(writer.write(b"data"))
    get(reading)


@scenario
def the_end_of_a_pipe(stack):
    reader, writer = kept(stack, *tpio.pipe())
    reading = reader.read(4)
    writer.close()
    assert get(reading) == b""


@scenario
def cancel(stack):
    reader, writer = kept(stack, *tpio.pipe())
    reading = reader.read(4)
    reading.cancel()
    get(writer.write(b"data"))  # in case that the request was lost
    with contextlib.suppress(CancelledError):
        get(reading)


@scenario
def cancel_of_a_handle(stack):
    reader, writer = kept(stack, *tpio.pipe())
    reading = reader.read(4)
    reader.cancel()
    get(writer.write(b"data"))
    with contextlib.suppress(CancelledError):
        get(reading)


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
    get(one.send_msg([b"da", b"ta"]))
    get(other.recv_msg_into([bytearray(2), bytearray(2)]))


@scenario
def poll_read(stack):
    one, other = kept(stack, *tcp_pair())
    polling = other.poll_read()
    get(one.write(b"data"))
    get(polling)
    get(other.read(4))


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
    receiving = other.recv_from(10)
    get(one.send_to(b"data", other.getsockname()))
    get(receiving)
    get(one.send_to(b"data", other.getsockname()))
    get(other.recv_from_into(bytearray(10)))


@scenario
def getaddrinfo(stack):
    get(tpio.getaddrinfo("localhost", 80))


def a_file(stack, **options):
    path = os.path.join(_folder, f"file-{next(_numbers)}")
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
    source = os.path.join(_folder, f"file-{next(_numbers)}")
    with open(source, "wb") as file:
        file.write(bytes(300000))
    get(tpio.copy_file(source, source + ".copy"))


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
    waiting = tpio.wait(event, 0.001)
    assert get(waiting) is False
    cancelled = tpio.wait(event)
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
    watcher = kept(stack, tpio.watch(_folder))
    changes = watcher.changes()
    with open(os.path.join(_folder, f"file-{next(_numbers)}"), "wb"):
        pass
    get(changes)


@scenario
def a_watch_that_is_closed(stack):
    watcher = kept(stack, tpio.watch(_folder))
    watcher.changes()


@scenario
def share(stack):
    reader, _ = kept(stack, *tpio.pipe())
    stack.callback(tpio._tpio.close_handle, reader.share(os.getpid()))


@scenario
def a_handle_of_somebody_else(stack):
    from tpio import _tpio

    name = os.path.join(_folder, f"file-{next(_numbers)}")
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


def end_child(child):
    with contextlib.suppress(OSError):
        child.kill()
    child.close()


def tpio_event(stack):
    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.CreateEventW.restype = ctypes.c_void_p
    kernel32.CloseHandle.argtypes = [ctypes.c_void_p]
    event = kernel32.CreateEventW(None, True, False, None)
    stack.callback(kernel32.CloseHandle, event)
    return event


# ---- running them ---------------------------------------------------------------------------------------------------

_numbers = itertools.count()
_folder = ""


def works() -> bool:
    """Does the default pool? A pipe's round trip."""
    reader, writer = tpio.pipe()
    with reader, writer:
        reading = reader.read(4)
        return get(writer.write(b"data")) == 4 and get(reading) == b"data"


def explains(error: BaseException, fault: Faults) -> bool:
    """Is that what a program should be told of the failure?"""
    if isinstance(error, ExceptionGroup):
        return all(explains(each, fault) for each in error.exceptions)
    if isinstance(error, MemoryError):
        return fault.error == ENOUGH_MEMORY_IS or fault.function in AS_MEMORY
    return isinstance(error, OSError) and error.winerror in (fault.error, *AS.get(fault.function, ()))


# Failures that programs are told of in other words.
AS_MEMORY = {"CreateEventW", "FlsSetValue"}  # nothing to wait on
AS: dict[str, tuple[int, ...]] = {}


def once(function: Callable[[contextlib.ExitStack], None], nth: int) -> Faults:
    """Runs a scenario whose nth call fails."""
    fault = Faults(nth)
    problem = None
    with contextlib.ExitStack() as stack:
        try:
            with fault:
                function(stack)
        except BaseException as error:
            problem = error
    if isinstance(problem, KeyboardInterrupt):
        raise problem
    if problem is not None and not (fault.function and explains(problem, fault)):
        raise AssertionError(f"call {nth}, {fault.function or 'none'}, failed") from problem
    return fault


@pytest.fixture
def folder(tmp_path) -> Iterator[None]:
    global _folder
    _folder = str(tmp_path)
    yield
    _folder = ""


def problems_of(function: Callable[[contextlib.ExitStack], None]) -> Iterator[str]:
    """Runs a scenario once for each of its calls."""
    with contextlib.ExitStack() as stack:
        function(stack)  # what is made on first use is there
    pending, bound = support.pending(), support.bound_handles()
    for nth in itertools.count(1):
        before = support.os_handles()
        what = f"call {nth}"
        try:
            fault = once(function, nth)
            if not fault.function:
                return
            what += f", {fault.function}"
        except AssertionError as error:
            yield f"{error}: {error.__cause__!r}"

        def settled(before: int = before) -> bool:
            return support.pending() <= pending and support.bound_handles() <= bound and support.os_handles() <= before

        if not support.eventually(settled, 0.2):
            # Threads of pools come and go, with handles of theirs: what leaks does it each time.
            counts = [support.os_handles()]
            for _ in range(3):
                with contextlib.suppress(AssertionError):
                    once(function, nth)
                support.eventually(lambda most=counts[-1]: support.os_handles() <= most, 1)
                counts.append(support.os_handles())
                if counts[-1] <= counts[-2]:
                    break
            else:
                yield f"{what}: handles leak, counted {counts}"
            if not support.eventually(
                lambda: support.pending() <= pending and support.bound_handles() <= bound, PATIENCE
            ):
                yield f"{what}: {support.pending() - pending} pending, {support.bound_handles() - bound} bound"
        try:
            assert works()
        except Exception as error:
            yield f"{what}: the pool does not work: {error!r}"


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_call_fails_once(name, folder):
    assert list(problems_of(SCENARIOS[name])) == []


def test_a_call_that_fails_is_the_one_that_was_asked_for():
    with Faults(0) as none:
        tpio.pipe()[0].close()
    assert none.calls > 2 and not none.function
    with pytest.raises((OSError, MemoryError)) as caught, Faults(1) as first:
        tpio.pipe()
    assert first.function and explains(caught.value, first)
