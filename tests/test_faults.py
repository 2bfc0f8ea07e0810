"""Every Win32 call and allocation of tpio's fails once, in each place, in each public operation.

For `python dev.py test --faults`, whose build counts the calls (src/tpio_faults.h). A scenario runs until its n-th call
is not made but fails, for n = 1, 2, ... until there is no n-th. Each time it either succeeds, as not every failure
matters, or raises the error that the call failed with. Nothing may be pending, open or leaked then, and the default pool
works. Likewise Python's own allocations, whose allocators are wrapped (src/tpio_faults.c): a MemoryError, or the result.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import importlib.util
import itertools
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError
from concurrent.futures import wait as wait_for_all
from typing import Any, Self

import pytest

import support
import tpio
import tpio.aio
import tpio.tls
from ends import GENERIC_READ, missing_unix, named_pair, pipe_name, plain_tcp_pair, tcp_pair
from test_capi import EXAMPLES, load

_hooks = ctypes.CDLL(tpio._tpio.__file__)
pytestmark = [
    pytest.mark.skipif(not hasattr(_hooks, "tpio_faults_arm"), reason="for the build of --faults"),
    pytest.mark.once(handles=32),  # each scenario looks for itself
    # asyncio does not close everything at once when something fails in between. What leaks is seen.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
PATIENCE = 3  # seconds, in which nothing has to be waited for
ENOUGH_MEMORY_IS = 8  # ERROR_NOT_ENOUGH_MEMORY
ERROR_INVALID_PARAMETER = 87
SAMPLE = 30  # allocations of Python's of each scenario


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


class NoMemory(Faults):
    """Python's n-th allocation fails, of this thread or (elsewhere) of all others together."""

    function = "an allocation of Python's"
    error = ENOUGH_MEMORY_IS

    def __init__(self, nth: int, elsewhere: bool) -> None:
        self.nth, self.calls, self.elsewhere = nth, 0, elsewhere

    def __enter__(self) -> Self:
        _hooks.tpio_faults_arm_memory(self.nth, self.elsewhere)
        return self

    def __exit__(self, *exc_info: object) -> None:
        while True:
            try:
                self.calls = _hooks.tpio_faults_disarm_memory()
                break
            except MemoryError:  # it was just this one
                pass
        if self.calls < self.nth:
            self.function = ""


# Functions of Python's that do not survive it when they get no memory, in any program, and how near to the allocation they
# are. A function with a closure that is not made makes Python crash later; a lock whose __exit__ gets no tuple for its
# arguments stays locked for good.
FRAIL = {"PyFunction_NewWithQualName": 24, "_PyObject_MakeTpCall": 8}


class Allocator(ctypes.Structure):
    """PyMemAllocatorEx."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("context", "malloc", "calloc", "realloc", "free")]


_spared: list[str] = []


@pytest.fixture
def wrapped_allocators() -> Iterator[None]:
    """Python's allocations can fail. The objects' domain and that of other memory; what is beneath them is the process's."""
    if not _spared:
        for name, depth in FRAIL.items():
            _hooks.tpio_faults_spare_python(ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p), depth)
            _spared.append(name)
    before = []
    for number, domain in enumerate((1, 2)):
        allocator = Allocator()
        ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(allocator))
        before.append(Allocator.from_buffer_copy(allocator))
        _hooks.tpio_faults_wrap(number, ctypes.byref(allocator))
        ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(allocator))
    yield
    for domain, allocator in zip((1, 2), before, strict=True):
        ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(allocator))


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
        tpio.wait(event, pool=pool),
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
    waiting, also = tpio.wait(event), tpio.wait(event, PATIENCE)
    signal()
    assert get(waiting) is True
    assert get(also) is True
    assert get(tpio.wait(event, 0)) is True


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


# ---- extension modules


def example(name: str) -> Any:
    if EXAMPLES is None:
        pytest.skip("the examples are not built: run the tests by dev.py")
    if name not in _examples:
        _examples[name] = load(name)
    return _examples[name]


_examples: dict[str, Any] = {}


@scenario
def a_server_in_c(stack):
    echo = example("echo_c")
    listener = kept(stack, tpio.listen(("127.0.0.1", 0)))
    echo.serve(listener)
    with socket.create_connection(listener.getsockname()) as client, contextlib.suppress(OSError):
        # What fails in C is nobody's business here: the server gives up the connection, or ends.
        client.settimeout(0.3)
        client.sendall(b"data")
        client.recv(4)
    listener.close()
    assert support.eventually(lambda: echo.statistics()[0] == 0, PATIENCE)


@scenario
def an_echo_in_cython(stack):
    ours, theirs = kept(stack, *named_pair())
    example("echo_cython").serve(theirs)
    reading = ours.read(4)
    with contextlib.suppress(BrokenPipeError):  # what fails in the extension closes its end
        get(ours.write(b"data"))
    try:
        reading.result(0.3)
    except TimeoutError:
        assert reading.cancel()


# ---- asyncio


def in_a_loop(main: Callable[[contextlib.AsyncExitStack], Coroutine[Any, Any, Any]], run: Any = tpio.aio.run) -> None:
    """Runs it in a loop of tpio's. What asyncio only logs is raised."""

    async def heeding() -> None:
        told = []

        def heard(loop: Any, context: dict[str, Any]) -> None:
            told.append(context.get("exception"))
            task.cancel()

        async def whole() -> None:
            async with asyncio.timeout(PATIENCE), contextlib.AsyncExitStack() as stack:
                await main(stack)

        task = asyncio.ensure_future(whole())
        asyncio.get_running_loop().set_exception_handler(heard)
        await asyncio.wait([task])
        if told and told[0] is not None:
            raise told[0]
        await task

    heedful = heeding()
    try:
        run(heedful)
    finally:
        heedful.close()  # there may have been no loop


def scenario_in_a_loop(main: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[[contextlib.ExitStack], None]:
    """A scenario that is a coroutine: it gets the stack of all, and one that is left inside the loop."""

    @functools.wraps(main)
    def function(stack: contextlib.ExitStack) -> None:
        in_a_loop(functools.partial(main, stack))

    return scenario(function)


@scenario
def a_loop(stack):
    async def main(_):
        loop = asyncio.get_running_loop()
        called = asyncio.Event()
        timer = threading.Timer(0.001, loop.call_soon_threadsafe, [called.set])
        timer.start()
        try:
            await called.wait()
            await asyncio.sleep(0.001)
        finally:
            timer.join()

    in_a_loop(main)


@scenario
def awaits_in_a_loop(stack):
    async def main(_):
        reader, writer = kept(stack, *tpio.pipe())
        reading = reader.read(4)
        await writer.write(b"data")
        await reading
        await asyncio.gather(*[tpio.sleep(0.001) for _ in range(5)])
        await asyncio.wrap_future(tpio.default_pool().submit(int))
        cancelled = asyncio.ensure_future(the_end_of(reader.read(4)))
        await asyncio.sleep(0)
        cancelled.cancel()
        await writer.write(b"data")  # in case that the request was lost
        await asyncio.wait([cancelled])

    in_a_loop(main)


async def the_end_of(future):
    return await future


@scenario
def awaits_in_another_loop(stack):
    async def main(_):
        reader, writer = kept(stack, *tpio.pipe())
        reading = reader.read(4)
        await writer.write(b"data")
        await reading
        await asyncio.gather(*[tpio.sleep(0.001) for _ in range(5)])

    in_a_loop(main, functools.partial(tpio.aio.run, loop_factory=asyncio.SelectorEventLoop))


@scenario_in_a_loop
async def streams_in_a_loop(stack, inside):
    async def serve(reader, writer):
        writer.write(await reader.read(4))
        await writer.drain()
        writer.close()

    # A start_server that is cancelled leaks what it listens on.
    listener = inside.enter_context(socket.create_server(("127.0.0.1", 0)))
    server = await asyncio.start_server(serve, sock=listener)
    inside.callback(server.close)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    inside.callback(writer.close)
    writer.write(b"data")
    await writer.drain()
    await reader.read()


@scenario_in_a_loop
async def a_read_in_a_loop_that_is_cancelled(stack, inside):
    loop = asyncio.get_running_loop()
    ours, theirs = plain_tcp_pair()
    with ours, theirs:
        ours.setblocking(False)
        reading = asyncio.ensure_future(loop.sock_recv(ours, 4))
        await asyncio.sleep(0)
        reading.cancel()
        theirs.sendall(b"data")
        await loop.sock_recv(ours, 4)


@scenario_in_a_loop
async def datagrams_in_a_loop(stack, inside):
    loop = asyncio.get_running_loop()
    received = loop.create_future()

    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            received.set_result(data)

        def error_received(self, error):
            if not received.done():
                received.set_exception(error)

    one, _ = await loop.create_datagram_endpoint(Receiver, ("127.0.0.1", 0))
    inside.callback(one.close)
    other, _ = await loop.create_datagram_endpoint(Receiver, remote_addr=one.get_extra_info("sockname"))
    inside.callback(other.close)
    other.sendto(b"data")
    await received


@scenario
def sendfile_in_a_loop(stack):
    file = stack.enter_context(open(os.path.join(_folder, f"file-{next(_numbers)}"), "w+b"))
    file.write(b"data")
    file.flush()

    async def main(inside):
        loop = asyncio.get_running_loop()
        ours, theirs = plain_tcp_pair()
        with ours, theirs:
            ours.setblocking(False)
            await loop.sock_sendfile(ours, file, fallback=False)
            assert theirs.recv(4) == b"data"

    in_a_loop(main)


@scenario_in_a_loop
async def pipe_streams_in_a_loop(stack, inside):
    async def serve(reader, writer):
        writer.write(await reader.read(4))
        await writer.drain()
        writer.close()

    server = await inside.enter_async_context(await tpio.aio.serve_pipe(serve, pipe_name()))
    inside.callback(server.close_clients)
    reader, writer = await tpio.aio.open_pipe(server.name)
    inside.callback(writer.close)
    writer.write(b"data")
    await writer.drain()
    await reader.read(4)


@scenario_in_a_loop
async def pipes_of_asyncio_in_a_loop(stack, inside):
    loop = asyncio.get_running_loop()
    name = pipe_name()
    (server,) = await loop.start_serving_pipe(asyncio.Protocol, name)
    inside.callback(server.close)
    client, _ = await loop.create_pipe_connection(asyncio.Protocol, name)
    client.write(b"data")
    client.close()
    await asyncio.sleep(0.001)


@scenario_in_a_loop
async def the_ends_of_a_pipe_in_a_loop(stack, inside):
    loop = asyncio.get_running_loop()
    reader, writer = kept(stack, *tpio.pipe())
    stream = asyncio.StreamReader()
    reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), reader)
    inside.callback(reading.close)
    writing, _ = await loop.connect_write_pipe(asyncio.Protocol, writer)
    inside.callback(writing.close)
    writing.write(b"data")
    await stream.read(4)


@scenario_in_a_loop
async def blocking_pipes_in_a_loop(stack, inside):
    loop = asyncio.get_running_loop()
    number, other = os.pipe()
    reader = kept(stack, os.fdopen(number, "rb", 0))
    writer = kept(stack, os.fdopen(other, "wb", 0))
    stream = asyncio.StreamReader()
    writing, _ = await loop.connect_write_pipe(asyncio.Protocol, writer)
    inside.callback(writing.close)
    reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), reader)
    inside.callback(reading.close)
    writing.write(b"data")
    await stream.read(4)
    writing.close()
    await stream.read(4)


@scenario_in_a_loop
async def a_child_in_a_loop(stack, inside):
    child = await asyncio.create_subprocess_exec(*program("pass"))
    await child.wait()


@scenario_in_a_loop
async def a_file_in_a_loop(stack, inside):
    async with tpio.aio.open_file(os.path.join(_folder, f"file-{next(_numbers)}"), "w+b") as file:
        await file.write(b"data", 0)
        await file.read(4, 0)


@scenario
def a_wait_in_trio(stack):
    if importlib.util.find_spec("trio") is None:
        pytest.skip("trio is not installed: python dev.py frameworks")
    import trio

    import tpio.trio

    async def main():
        with trio.fail_after(PATIENCE):
            reader, writer = kept(stack, *tpio.pipe())
            reading = reader.read(4)
            await tpio.trio.wait(writer.write(b"data"))
            await tpio.trio.wait(reading)
            with trio.move_on_after(0.001):
                await tpio.trio.wait(reader.read(4))

    trio.run(main)


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
    if type(error) is ConnectionResetError and str(error) == "Connection lost":
        return True  # asyncio, of a connection whose transport, or whose peer's, has been told of the failure
    if isinstance(fault, NoMemory) and repr(error) == "SystemError('error return without exception set')":
        return True  # the interpreter, of a pure Python program too, when there is no memory for what an error needs
    if isinstance(error, MemoryError):
        return fault.error == ENOUGH_MEMORY_IS or fault.function in AS_MEMORY
    if isinstance(error, tpio.BindError):
        return False  # it would say which mistake the program has made
    return isinstance(error, OSError) and error.winerror in (fault.error, *AS.get(fault.function, ()))


# Failures that programs are told of in other words.
AS_MEMORY = {"CreateEventW", "FlsSetValue"}  # nothing to wait on
AS: dict[str, tuple[int, ...]] = {
    # Why a handle cannot be bound stays unknown: what CreateThreadpoolIo has said of it.
    **dict.fromkeys(("GetModuleHandleW", "GetProcAddress", "NtQuery..."), (ERROR_INVALID_PARAMETER,)),
}


def once(function: Callable[[contextlib.ExitStack], None], fault: Faults) -> None:
    """Runs a scenario with that fault."""
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
        raise AssertionError(f"call {fault.nth}, {fault.function or 'none'}, failed") from problem


@pytest.fixture
def folder(tmp_path) -> Iterator[None]:
    global _folder
    _folder = str(tmp_path)
    yield
    _folder = ""


def problems_of(
    function: Callable[[contextlib.ExitStack], None],
    fault_of: Callable[[int], Faults] = Faults,
    numbers: Iterable[int] | None = None,
    unheard: list[BaseException] | None = None,
) -> Iterator[str]:
    """Runs a scenario once for each of its calls."""
    with contextlib.ExitStack() as stack:
        function(stack)  # what is made on first use is there
    pending, bound = support.pending(), support.bound_handles()
    for nth in numbers or itertools.count(1):
        before = support.os_handles()
        what = f"call {nth}"
        fault = fault_of(nth)
        try:
            once(function, fault)
            if not fault.function:
                return
            what += f", {fault.function}"
        except AssertionError as error:
            yield f"{error}: {error.__cause__!r}"
        if unheard is not None:
            for error in unheard:
                if not explains(error, fault):
                    yield f"{what}: nobody could catch {error!r}"
            unheard.clear()  # their frames

        def settled(before: int = before) -> bool:
            return support.pending() <= pending and support.bound_handles() <= bound and support.os_handles() <= before

        if not support.eventually(settled, 0.2):
            # Threads of pools come and go, with handles of theirs: what leaks does it each time.
            counts = [support.os_handles()]
            for _ in range(3):
                with contextlib.suppress(AssertionError):
                    once(function, fault_of(nth))
                if unheard is not None:
                    unheard.clear()
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


# Not those that go through Python's locks: a `with lock` that gets no memory for the arguments of __exit__ leaves it locked for
# good, in any program. FRAIL does not catch all of that.
WITHOUT_LOCKS = (
    a_pool,
    a_pool_that_runs_long,
    an_anonymous_pipe,
    a_pipe_for_a_child,
    reads_that_wait,
    the_end_of_a_pipe,
    cancel,
    cancel_of_a_handle,
    close_with_a_read_pending,
    detach,
    datagrams,
    a_file_at_offsets,
    an_unbuffered_file,
    sleep,
    submit,
)


@pytest.mark.skipif(not support.gil, reason="without a GIL it crashed once: Python or tpio, not known")
@pytest.mark.parametrize("elsewhere", [False, True], ids=["caller", "pool"])
@pytest.mark.parametrize("name", [function.__name__ for function in WITHOUT_LOCKS])
def test_every_allocation_of_python_fails_once(name, elsewhere, folder, wrapped_allocators, unraisable):
    """Some of them, that is, unless TPIO_LONG=1."""
    fault_of = functools.partial(NoMemory, elsewhere=elsewhere)
    with contextlib.ExitStack() as stack:
        SCENARIOS[name](stack)  # what is made on first use is there
    with contextlib.ExitStack() as stack, fault_of(0) as none:
        SCENARIOS[name](stack)
    numbers = range(1, none.calls + 1, 1 if support.long else max(1, none.calls // SAMPLE))
    assert list(problems_of(SCENARIOS[name], fault_of, numbers, unraisable)) == []


def test_a_call_that_fails_is_the_one_that_was_asked_for():
    with Faults(0) as none:
        tpio.pipe()[0].close()
    assert none.calls > 2 and not none.function
    with pytest.raises((OSError, MemoryError)) as caught, Faults(1) as first:
        tpio.pipe()
    assert first.function and explains(caught.value, first)
