"""The self-check, `python -m tpio [--json]`: real pipes, sockets, files, timers and a child, and what they take.

One function for each row of ROWS. It does its operations through `timed`, which measures them, and raises when
something is wrong, or Skipped when the machine lacks what the row is about.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import platform
import secrets
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import tpio
import tpio.tls

P = ParamSpec("P")
T = TypeVar("T")
PATIENCE = 30  # seconds for one operation


class Skipped(Exception):
    pass


class Result(NamedTuple):
    what: str
    state: str  # passed, failed, skipped
    rate: float | None  # operations per second
    latency: float | None  # median, in seconds
    note: str


class Clock:
    """Measures operations."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        begin = time.perf_counter()
        result = operation(*args, **kwargs)
        self.times.append(time.perf_counter() - begin)
        return result


def result(future: tpio.Future[T]) -> T:
    return future.result(PATIENCE)


def expect(got: object, wanted: object) -> None:
    if got != wanted:
        raise AssertionError(f"{got!r:.60} instead of {wanted!r:.60}")


# ---- rows


def check_pipe(timed: Clock) -> None:
    reader, writer = tpio.pipe()
    with reader, writer:
        ping_pong(timed, writer, reader, 200)
        writer.close()
        expect(result(reader.read(1)), b"")


def check_named_pipe(timed: Clock) -> None:
    def serve(accepted: tpio.Future[tpio.Pipe]) -> None:
        echo(accepted.result())

    with tpio.PipeListener(f"tpio-check-{os.getpid()}-{secrets.token_hex(8)}") as listener:
        for _ in range(8):
            listener.accept().add_done_callback(serve)
        with contextlib.ExitStack() as stack:
            opening = [tpio.open_pipe(listener.name) for _ in range(8)]
            clients = [result(future) for future in opening]
            for client in clients:
                stack.enter_context(client)
            for _ in range(25):
                for client in clients:
                    ping_pong(timed, client, client, 1)


def check_tcp4(timed: Clock) -> None:
    check_tcp(timed, socket.AF_INET, "127.0.0.1")


def check_tcp6(timed: Clock) -> None:
    check_tcp(timed, socket.AF_INET6, "::1")


def check_tcp(timed: Clock, family: int, host: str) -> None:
    try:
        listener = tpio.listen((host, 0), family=family)
    except OSError as error:
        raise Skipped(str(error)) from error
    with listener:
        accepting = listener.accept()
        with result(tpio.open_connection(listener.getsockname()[:2])) as client:
            echo(result(accepting)[0])
            ping_pong(timed, client, client, 200)


def check_readiness(timed: Clock) -> None:
    reader, writer = tpio.pipe()
    with reader, writer:

        def turn(message: bytes) -> None:
            readable = reader.poll_read()
            result(writer.write(message))
            result(readable)

        for number in range(100):
            message = b"message %d" % number
            timed(turn, message)
            expect(result(reader.read(100)), message)


def check_socket_readiness(timed: Clock) -> None:
    """Of a socket that tpio does not bind."""
    with socket.socket(type=socket.SOCK_DGRAM) as receiver, socket.socket(type=socket.SOCK_DGRAM) as sender:
        receiver.bind(("127.0.0.1", 0))

        def turn(message: bytes) -> None:
            readable = tpio.poll_read(receiver)
            result(tpio.poll_write(sender))
            sender.sendto(message, receiver.getsockname())
            result(readable)

        for number in range(100):
            message = b"message %d" % number
            timed(turn, message)
            expect(receiver.recv(100), message)


def check_messages(timed: Clock) -> None:
    with tpio.PipeListener(f"tpio-check-{os.getpid()}-{secrets.token_hex(8)}", message=True) as listener:
        client = result(tpio.open_pipe(listener.name))
        with client, result(listener.accept()) as server:

            def turn(message: bytes) -> None:
                result(client.write(message))
                expect(result(server.read(4)), message[:4])
                expect(result(server.read_message()), message[4:])

            for number in range(100):
                timed(turn, b"message %d" % number)
            expect(server.client_pid, os.getpid())
            with server.impersonate():
                pass


def check_unix(timed: Clock) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        try:
            listener = tpio.listen(path)
        except OSError as error:
            raise Skipped(str(error)) from error
        with listener:
            accepting = listener.accept()
            with result(tpio.open_connection(path)) as client:
                echo(result(accepting)[0])
                ping_pong(timed, client, client, 200)


def check_connections(timed: Clock) -> None:
    def turn(message: bytes) -> tuple[bytes, bytes]:
        accepting = listener.accept(receive=100)
        with result(tpio.open_connection(listener.getsockname())) as client:
            result(client.send(message))
            server, _, first = result(accepting)
            with server:
                result(server.disconnect())
                return first, result(client.recv(100))

    with tpio.listen(("127.0.0.1", 0)) as listener:
        for number in range(20):
            message = b"message %d" % number
            expect(timed(turn, message), (message, b""))


def check_given_socket(timed: Clock) -> None:
    """As to another process, but to this one."""

    def turn(end: tpio.Socket) -> tpio.Socket:
        return tpio.Socket.from_share(end.share(os.getpid()))

    with tpio.listen(("127.0.0.1", 0)) as listener:
        accepting = listener.accept()
        client = result(tpio.open_connection(listener.getsockname()))
        with client, contextlib.ExitStack() as stack:
            server = result(accepting)[0]
            for number in range(20):
                try:
                    server = timed(turn, server)
                except tpio.BindError as error:
                    raise Skipped("this system cannot take a handle off its completion port") from error
                stack.push(server)
                message = b"message %d" % number
                result(client.send(message))
                expect(result(server.recv(100)), message)


def check_name(timed: Clock) -> None:
    for _ in range(20):
        found = timed(lambda: result(tpio.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)))
        expect(found[0][4], ("127.0.0.1", 80))


def check_file(timed: Clock) -> None:
    block, count = os.urandom(4096), 100
    with temporary_file() as file:
        for number in reversed(range(count)):  # backwards: every offset counts
            expect(timed(lambda offset: result(file.write(block, offset)), number * 8192), 4096)
        reads = [file.read(8192, n * 8192) for n in range(count)]
        for number, read in enumerate(reads):
            expect(result(read), block + bytes(4096 if number < count - 1 else 0))
        expect(result(file.read(1, file.size())), b"")


def check_cancel_pipe(timed: Clock) -> None:
    reader, writer = tpio.pipe()
    with reader, writer:
        check_cancel(timed, reader, writer)


def check_cancel_named_pipe(timed: Clock) -> None:
    with tpio.PipeListener(f"tpio-check-{os.getpid()}-{secrets.token_hex(8)}") as listener:
        client = result(tpio.open_pipe(listener.name))
        with client, result(listener.accept()) as server:
            check_cancel(timed, server, client)


def check_cancel_socket(timed: Clock) -> None:
    with tpio.listen(("127.0.0.1", 0)) as listener:
        accepting = listener.accept()
        client = result(tpio.open_connection(listener.getsockname()))
        with client, result(accepting)[0] as server:
            check_cancel(timed, server, client)


def check_cancel(timed: Clock, reader: tpio.Handle, writer: tpio.Handle) -> None:
    """Pending reads are cancelled, and the next read gets what comes next."""

    def cancel(read: tpio.Future[bytes]) -> None:
        read.cancel()
        try:
            expect(result(read), CancelledError)
        except CancelledError:
            pass

    for _ in range(50):
        read = reader.read(1)
        timed(cancel, read)
    result(writer.write(b"omg"))
    expect(result(reader.read(3)), b"omg")


def check_timer(timed: Clock) -> None:
    for length in [0.001, 0.005, 0.02] * 4:
        begin = time.perf_counter()
        timed(lambda seconds: result(tpio.sleep(seconds)), length)
        if time.perf_counter() - begin < length:
            raise AssertionError(f"a sleep of {length} s was early")


def check_period(timed: Clock) -> None:
    period, calls = 0.005, 10
    times: list[float] = []
    over: tpio.Future[None] = tpio.Future()

    def call() -> None:
        times.append(time.perf_counter())
        if len(times) == calls:
            timer.cancel()
            over.set_result(None)

    begin = time.perf_counter()
    timer = tpio.Timer(call, period, period=period)
    timed(result, over)
    for number, called in enumerate(times, 1):
        if called - begin < number * period:
            raise AssertionError(f"call {number} of a timer was early")


def check_event(timed: Clock) -> None:
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel32.CreateEventW.restype = ctypes.c_void_p
    kernel32.SetEvent.argtypes = kernel32.CloseHandle.argtypes = [ctypes.c_void_p]
    event = kernel32.CreateEventW(None, False, False, None)
    if not event:
        raise ctypes.WinError(ctypes.get_last_error())
    try:

        def turn() -> bool:
            waiting = tpio.wait_for_handle(event)
            kernel32.SetEvent(ctypes.c_void_p(event))
            return result(waiting)

        for _ in range(100):
            expect(timed(turn), True)
        expect(result(tpio.wait_for_handle(event, 0.01)), False)
    finally:
        kernel32.CloseHandle(event)


def check_function(timed: Clock) -> None:
    pool = tpio.default_pool()
    for number in range(200):
        expect(timed(lambda n: result(pool.submit(pow, n, 2)), number), number**2)


def check_udp(timed: Clock) -> None:
    with tpio.Socket(type=socket.SOCK_DGRAM) as here, tpio.Socket(type=socket.SOCK_DGRAM) as there:
        here.bind(("127.0.0.1", 0))
        there.bind(("127.0.0.1", 0))

        def turn(message: bytes) -> tuple[bytes, Any]:
            receiving = there.recvfrom(64)
            result(here.sendto(message, there.getsockname()))
            return result(receiving)

        for number in range(100):
            message = b"message %d" % number
            expect(timed(turn, message), (message, here.getsockname()))


def check_tls(timed: Clock) -> None:
    """The system has TLS: it begins a handshake, as far as one can without a peer."""
    context = tpio.tls.Context()
    for _ in range(20):
        machine = context._machine("localhost")
        expect(timed(machine.handshake), False)
        output = machine.take_output()
        expect(bytes(output or b"")[:1], b"\x16")  # a record of the handshake


def check_buffers(timed: Clock) -> None:
    with tpio.listen(("127.0.0.1", 0)) as listener:
        accepting = listener.accept()
        client = result(tpio.open_connection(listener.getsockname()))
        with client, result(accepting)[0] as server:

            def turn(number: int) -> list[bytearray]:
                parts = [bytearray(4), bytearray(8), bytearray(100)]
                receiving = server.recvmsg_into(parts)
                expect(result(client.sendmsg([b"here", b"", b"%08d" % number])), 12)
                expect(result(receiving), 12)
                return parts[:2]

            for number in range(100):
                expect(timed(turn, number), [b"here", b"%08d" % number])


def check_parts(timed: Clock) -> None:
    with temporary_file() as file:
        for number in range(20):
            parts = [(offset, b"%03d %03d" % (number, offset)) for offset in range(0, 1000, 10)]
            expect(timed(lambda parts: result(file.write_many(parts)), parts), [7] * 100)
            read = timed(lambda: result(file.read_many([(offset, 7) for offset in range(0, 1000, 10)])))
            expect(read, [data for _, data in parts])


def check_unbuffered(timed: Clock) -> None:
    no_buffering = 0x20000000
    block = tpio.aligned_buffer(65536)
    with (
        tempfile.TemporaryDirectory() as folder,
        tpio.open(os.path.join(folder, "file"), "x+b", flags=no_buffering) as file,
    ):
        for number in range(20):
            content = os.urandom(len(block))
            block[:] = content
            expect(timed(lambda number: result(file.write(block, number * len(block))), number), len(block))
            block[:] = bytes(len(block))
            expect(timed(lambda number: result(file.read_into(block, number * len(block))), number), len(block))
            expect(bytes(block), content)


def check_ioctl(timed: Clock) -> None:
    """Looks at what is in a pipe, without taking it."""
    peek, header = 0x11400C, struct.Struct("4L")
    reader, writer = tpio.pipe()
    with reader, writer:
        for number in range(100):
            message = b"message %d" % number
            result(writer.write(message))
            size = header.size + len(message)
            seen = timed(lambda size: result(reader.ioctl(peek, output_size=size)), size)
            expect((header.unpack_from(seen)[1], seen[header.size :]), (len(message), message))
            expect(result(reader.read(100)), message)


def check_sendfile(timed: Clock) -> None:
    data = os.urandom(100_000)
    with temporary_file() as file, tpio.listen(("127.0.0.1", 0)) as listener:
        result(file.write(data, 0))
        accepting = listener.accept()
        client = result(tpio.open_connection(listener.getsockname()))
        with client, result(accepting)[0] as server:

            def turn(offset: int) -> bytes:
                sending = client.sendfile(file, offset)
                received = b""
                while len(received) < len(data) - offset:
                    received += result(server.recv(65536))
                expect(result(sending), len(received))
                return received

            for offset in range(0, 50_000, 1000):
                expect(timed(turn, offset), data[offset:])


def check_lock(timed: Clock) -> None:
    with temporary_file() as file, tpio.open(file.name, "rb") as other:

        def turn(offset: int) -> None:
            result(file.lock(offset, 100))
            result(other.lock(offset + 100, 100, exclusive=False))
            file.unlock(offset, 100)
            other.unlock(offset + 100, 100)

        for offset in range(0, 10_000, 100):
            timed(turn, offset)


def check_copy(timed: Clock) -> None:
    data = os.urandom(1_000_003)
    with tempfile.TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "source"), os.path.join(folder, "target")
        with open(source, "xb") as file:
            file.write(data)
        for depth in range(1, 9):
            copied = timed(lambda depth: result(tpio.copy_file(source, target, depth=depth, block=1 << 16)), depth)
            expect(copied, len(data))
            with open(target, "rb") as file:
                expect(file.read() == data, True)


def check_process(timed: Clock) -> None:
    def wait(code: int) -> int:
        with tpio.spawn([sys.executable, "-I", "-S", "-c", f"raise SystemExit({code})"]) as child:
            return result(child.wait())

    for code in range(3):
        expect(timed(wait, code), code)


def check_communicate(timed: Clock) -> None:
    copies = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
    data = os.urandom(1 << 20)

    def talk() -> tuple[bytes, bytes]:
        arguments = [sys.executable, "-I", "-S", "-c", copies]
        with tpio.spawn(arguments, stdin=tpio.PIPE, stdout=tpio.PIPE, stderr=tpio.PIPE) as child:
            return result(child.communicate(data))

    expect(timed(talk), (data, b""))


def check_watch(timed: Clock) -> None:
    def change(path: str) -> tpio.Change:
        changing = watcher.changes()
        with open(path, "xb"):
            pass
        return result(changing)[0]

    with tempfile.TemporaryDirectory() as folder, tpio.watch(folder) as watcher:
        path = os.path.join(folder, "file")
        expect(timed(change, path)[:2], ("created", path))


def check_child(timed: Clock) -> None:
    """A child hangs with its stdout on our pipe; other handles are read meanwhile, and the child is given up."""
    hangs = "import os, time; os.write(1, b'ready'); time.sleep(3600)"
    with tpio.spawn([sys.executable, "-I", "-S", "-c", hangs], stdout=tpio.PIPE) as child:
        output = cast(tpio.Pipe, child.stdout)
        try:
            expect(result(output.read(100)), b"ready")
            stuck = output.read(100)
            check_pipe(timed)
            check_tcp4(timed)
            if stuck.done():
                raise AssertionError("the child does not hang")
            stuck.cancel()
            output.close()
            expect(stuck.cancelled(), True)
        finally:
            child.kill()
        result(child.wait())


ROWS: dict[str, Callable[[Clock], None]] = {
    "pipe": check_pipe,
    "named pipe, 8 clients": check_named_pipe,
    "messages, and who sends them": check_messages,
    "readable, nothing taken": check_readiness,
    "readiness of a plain socket": check_socket_readiness,
    "TCP over IPv4": check_tcp4,
    "TCP over IPv6": check_tcp6,
    "accept with data, disconnect": check_connections,
    "socket given away": check_given_socket,
    "AF_UNIX": check_unix,
    "UDP": check_udp,
    "name looked up": check_name,
    "TLS begun": check_tls,
    "many buffers": check_buffers,
    "file at offsets": check_file,
    "many parts of a file": check_parts,
    "file, unbuffered": check_unbuffered,
    "device control": check_ioctl,
    "file to a socket": check_sendfile,
    "locked part of a file": check_lock,
    "copy of a file": check_copy,
    "cancel: pipe": check_cancel_pipe,
    "cancel: named pipe": check_cancel_named_pipe,
    "cancel: socket": check_cancel_socket,
    "timer": check_timer,
    "timer with a period": check_period,
    "function on the pool": check_function,
    "wait for an event": check_event,
    "wait for a process": check_process,
    "megabyte through a child": check_communicate,
    "directory changes": check_watch,
    "I/O beside a hanging child": check_child,
}


# ---- what rows share


def ping_pong(timed: Clock, writer: tpio.Handle, reader: tpio.Handle, rounds: int) -> None:
    """What is written at one end is read at the other."""

    def turn(message: bytes) -> bytes:
        reading = reader.read(64)
        result(writer.write(message))
        return result(reading)

    for number in range(rounds):
        message = b"message %d" % number

        expect(timed(turn, message), message)


def echo(end: tpio.Handle) -> None:
    """Answers what comes with the same, until the peer closes."""

    def received(read: tpio.Future[bytes]) -> None:
        if data := read.result():
            end.write(data).add_done_callback(lambda _: echo(end))
        else:
            end.close()

    end.read(4096).add_done_callback(received)


@contextlib.contextmanager
def temporary_file() -> Iterator[tpio.File]:
    with tempfile.TemporaryDirectory() as folder, tpio.open(os.path.join(folder, "file"), "x+b") as file:
        yield file


# ---- the table


def run(what: str, check: Callable[[Clock], None]) -> Result:
    clock = Clock()
    try:
        check(clock)
    except Skipped as reason:
        return Result(what, "skipped", None, None, str(reason))
    except Exception as error:
        return Result(what, "failed", None, None, f"{type(error).__name__}: {error}")
    return Result(what, "passed", len(clock.times) / sum(clock.times), statistics.median(clock.times), "")


def line(row: Result) -> str:
    if row.rate is None or row.latency is None:
        return f"{row.what:<29} {row.state:<8} {row.note}"
    return f"{row.what:<29} {row.state:<8} {row.rate:>11,.0f} {row.latency * 1e6:>13,.0f}"


def about() -> dict[str, Any]:
    return {
        "tpio": tpio.__version__,
        "python": platform.python_version(),
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "system": platform.platform(),
        "machine": platform.machine(),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tpio", description="Checks that tpio works on this machine.")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    results = []
    if not options.json:
        print(", ".join(f"{name} {value}" for name, value in about().items()))
        print(f"{'what':<29} {'result':<8} {'per second':>11} {'median, us':>13}")
    for what, check in ROWS.items():
        results.append(run(what, check))
        if not options.json:
            print(line(results[-1]), flush=True)
    failed = sum(row.state == "failed" for row in results)
    if options.json:
        print(json.dumps({**about(), "ok": not failed, "rows": [row._asdict() for row in results]}, indent=1))
    else:
        print(f"{failed} of {len(results)} failed" if failed else "everything works")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
