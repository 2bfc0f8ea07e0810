"""A program that has everything in flight and then ends, in a way that a number decides: test_exit.py runs it.

    python exit_program.py NUMBER FOLDER

Whatever is complained of goes to stderr in one line, so that the test can tell what this program has caused.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import faulthandler
import gc
import importlib
import os
import random
import signal
import socket
import sys
import threading
import time
from concurrent.futures import CancelledError
from dataclasses import dataclass, field

INTERRUPTED = 0xC000013A  # STATUS_CONTROL_C_EXIT: what Python ends with after an unhandled KeyboardInterrupt
HANGS = 25  # seconds, after which it is told where
ENDS = (CancelledError, ValueError, RuntimeError, OSError)  # what somebody gets who goes on while everything is closed


@dataclass
class Plan:
    """What the program will do, for itself and for the test."""

    number: int
    way: str
    exit_code: int
    complaints: list[str]
    flight: list[str]
    waiting: list[str]  # how threads that hold up the exit wait; each says so when it has ended
    daemons: list[str]
    modules: str
    cleanly: bool = True  # not os._exit
    chance: random.Random = field(repr=False, default_factory=random.Random)


# ---- what is in flight: each adds futures that do not end by themselves ----------------------------------------------


class Flight:
    def __init__(self, tpio, plan, folder):
        self.tpio, self.chance, self.folder = tpio, plan.chance, folder
        self.futures = []
        self.kept = []
        self.name = f"tpio-exit-{os.getpid()}-{random.SystemRandom().getrandbits(64):x}"

    def pipe_reads(self):
        reader, writer = self.tpio.pipe()
        self.kept += [writer]
        self.futures += [reader.read(100) for _ in range(self.chance.choice([1, 50]))]
        self.futures += [reader.read_into(bytearray(10)), reader.poll_read()]

    def pipe_write(self):
        reader, writer = self.tpio.pipe()
        self.kept += [reader]
        self.futures += [writer.write(bytes(1_000_000)), writer.write(b"behind it")]

    def named_pipes(self):
        listener = self.tpio.PipeListener(self.name, max_instances=1)
        client, accepted = self.tpio.open_pipe(self.name), listener.accept()
        self.kept += [client.result(), accepted.result(), listener]
        self.futures += [listener.accept(), listener.accept(), client.result().read(5)]
        if self.chance.random() < 0.5:
            self.futures.append(self.tpio.open_pipe(self.name))  # waits for a place

    def pumps(self):
        """One that cannot go on, since nobody reads, and one that waits for something to come."""
        (reader, writer), (unread, full), (empty, silent) = (self.tpio.pipe() for _ in range(3))
        self.futures += [writer.write(bytes(1_000_000)), self.tpio.pump(reader, full), self.tpio.pump(empty, full)]
        self.kept += [unread, silent]

    def sockets(self):
        listener = self.tpio.listen(("127.0.0.1", 0))
        client, accepted = self.tpio.open_connection(listener.getsockname()), listener.accept()
        self.kept += [client.result(), accepted.result(), listener]
        self.futures += [listener.accept() for _ in range(3)]
        self.futures += [client.result().recv(10), client.result().poll_read(), accepted.result()[0].recv(10)]
        plain = socket.create_connection(listener.getsockname())
        self.kept.append(plain)
        self.futures += [self.tpio.poll_read(plain), client.result().poll_write()]
        udp = self.tpio.Socket(type=socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        self.futures += [udp.recvfrom(100) for _ in range(3)]

    def files(self):
        file = self.tpio.open(os.path.join(self.folder, "file"), "w+b")
        self.kept += [file, [file.write(bytes(10_000), at * 10_000) for at in range(50)]]
        self.kept += [[file.read(10_000, at * 10_000) for at in range(50)]]

    def copies(self):
        original = os.path.join(self.folder, "original")
        with open(original, "wb") as file:
            file.write(bytes(4_000_000))
        self.kept.append(self.tpio.copy_file(original, original + ".copy"))

    def timers(self):
        self.futures += [self.tpio.sleep(1000) for _ in range(self.chance.choice([1, 1000]))]
        self.kept += [[self.tpio.sleep(self.chance.random() / 20) for _ in range(100)]]
        self.kept += [self.tpio.Timer(lambda: None, 0, period=0.001), self.tpio.Timer(lambda: None, 1000)]

    def waits(self):
        import _winapi

        ourselves = _winapi.OpenProcess(0x00100000, False, os.getpid())  # SYNCHRONIZE
        self.futures += [self.tpio.wait_for_handle(ourselves) for _ in range(self.chance.choice([1, 100]))]

    def watching(self):
        watcher = self.tpio.watch(self.folder)
        self.kept += [watcher, watcher.changes(), watcher.changes()]  # others here make files

    def child(self):
        pipe = self.tpio.PIPE
        child = self.tpio.spawn("cmd.exe /d /c set /p x=", stdin=pipe, stdout=pipe, stderr=self.tpio.DEVNULL)
        self.kept.append(child)
        self.futures += [child.wait(), child.stdout.read(10)]
        if self.chance.random() < 0.5:
            self.futures.append(child.communicate())

    def functions(self):
        forever = self.tpio.sleep(1000)

        def blocked():
            with contextlib.suppress(CancelledError):
                forever.result()

        pool = self.tpio.Pool(max_threads=2)
        self.kept.append([pool.submit(blocked) for _ in range(20)])
        self.kept.append([self.tpio.default_pool().submit(time.sleep, 0.001) for _ in range(20)])
        self.kept.append(self.tpio.default_pool().submit(blocked))

    def stuck_function(self):
        """Nothing ends it; the exit goes on without it."""
        self.kept.append(self.tpio.default_pool().submit(threading.Event().wait, 1000))

    def stuck_callback(self):
        reader, writer = self.tpio.pipe()
        read = reader.read(1)
        read.add_done_callback(lambda _: threading.Event().wait(1000))  # not done yet: it must not block this thread
        self.kept += [reader, writer, writer.write(b"x")]

    def stuck_callback_of_a_timer(self):
        """The exit cancels it, and the callback is not the main thread's."""
        self.tpio.sleep(1000).add_done_callback(lambda _: threading.Event().wait(1000))

    def storm(self):
        """Callbacks that begin the next operation, for ever."""
        reader, writer = self.tpio.pipe()

        def again(_=None):
            with contextlib.suppress(*ENDS):
                reader.read(10).add_done_callback(again)
                writer.write(b"x")

        for _ in range(10):
            again()

    def ended(self):
        """Callbacks of futures that end because of the exit."""
        futures, ends = [self.tpio.sleep(1000) for _ in range(100)], []
        for future in futures:
            future.add_done_callback(lambda future: ends.append(future.cancelled()))


# ---- threads that wait -----------------------------------------------------------------------------------------------
# What they wait for ends cancelled, or fails because the other end of its pipe was dropped.

ENDED = (CancelledError, asyncio.CancelledError, OSError)


def wait_result(future, flight):
    with contextlib.suppress(*ENDED):
        future.result()


def wait_result_for_long(future, flight):
    with contextlib.suppress(*ENDED):
        future.result(1000)


def wait_concurrent(future, flight):
    concurrent.futures.wait([future, *flight.futures[:5]])


def wait_as_completed(future, flight):
    for _ in concurrent.futures.as_completed([future, *flight.futures[:5]]):
        pass


def wait_asyncio(future, flight):
    asyncio.run(gather(future, flight))


def wait_aio(future, flight):
    flight.tpio.aio.run(gather(future, flight))


def wait_in_pool(future, flight):
    with contextlib.suppress(CancelledError):
        flight.tpio.default_pool().submit(wait_result, future, flight).result()


async def gather(future, flight):
    async def await_one(one):
        with contextlib.suppress(*ENDED):
            await one

    await asyncio.gather(*map(await_one, [future, *flight.futures[:5]]))


# ---- ways to end -----------------------------------------------------------------------------------------------------


def by_return(plan, flight):
    pass


def by_sys_exit(plan, flight):
    sys.exit(plan.exit_code)


def by_exception(plan, flight):
    raise ZeroDivisionError


def by_return_after_a_thread_failed(plan, flight):
    def fail():
        raise ZeroDivisionError

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()


def by_os_exit(plan, flight):
    os._exit(plan.exit_code)


def by_os_exit_in_a_callback(plan, flight):
    future = flight.tpio.sleep(0.001)
    future.add_done_callback(lambda _: os._exit(plan.exit_code))
    threading.Event().wait()


def by_os_exit_in_a_function(plan, flight):
    flight.tpio.default_pool().submit(os._exit, plan.exit_code)
    threading.Event().wait()


def by_os_exit_in_a_thread(plan, flight):
    threading.Thread(target=os._exit, args=[plan.exit_code]).start()
    flight.tpio.sleep(1000).result()


def by_os_exit_at_exit(plan, flight):
    atexit.register(os._exit, plan.exit_code)


def by_interrupt(plan, flight):
    raise KeyboardInterrupt


def by_interrupt_in_result(plan, flight):
    interrupt_soon()
    flight.tpio.sleep(1000).result()


def by_interrupt_in_wait(plan, flight):
    interrupt_soon()
    # Futures that no other thread waits for: an interrupt at the wrong moment leaves their locks held, for ever.
    concurrent.futures.wait([flight.tpio.sleep(1000) for _ in range(50)])


def by_interrupt_from_a_callback(plan, flight):
    flight.tpio.sleep(0.01).add_done_callback(lambda _: signal.raise_signal(signal.SIGINT))
    flight.tpio.sleep(1000).result()


def by_interrupt_in_asyncio(plan, flight):
    async def main():
        interrupt_soon()
        await flight.tpio.sleep(1000)

    flight.run(main())


def by_exit_in_asyncio(plan, flight):
    async def main():
        tasks = [asyncio.ensure_future(gather(flight.tpio.sleep(1000), flight)) for _ in range(3)]
        await flight.tpio.sleep(0)
        assert not any(task.done() for task in tasks)
        sys.exit(plan.exit_code)

    flight.run(main())


def by_exception_in_asyncio(plan, flight):
    async def main():
        task = asyncio.ensure_future(gather(flight.tpio.sleep(1000), flight))
        await flight.tpio.sleep(0)
        assert not task.done()
        raise ZeroDivisionError

    flight.run(main())


def by_return_after_exit_in_a_callback(plan, flight):
    """Nobody can catch it there, so it is reported, and nothing ends."""
    called = threading.Event()
    future = flight.tpio.sleep(0.001)
    future.add_done_callback(sys.exit)
    future.add_done_callback(lambda _: called.set())
    called.wait()


def by_exit_in_a_function(plan, flight):
    flight.tpio.default_pool().submit(sys.exit, plan.exit_code).result()


def by_exit_inside_a_pool(plan, flight):
    with flight.tpio.Pool() as pool:
        flight.kept.append(flight.tpio.sleep(1000, pool=pool))
        pool.submit(int)
        sys.exit(plan.exit_code)


def by_return_and_use_at_exit(plan, flight):
    """What uses tpio when it has ended is told so."""

    def use():
        try:
            flight.tpio.sleep(0)
        except RuntimeError as error:
            assert "shutting down" in str(error)
        else:
            raise AssertionError("it goes on after the end")

    atexit.register(use)


def by_return_and_use_in_finalizers(plan, flight):
    class User:
        def __init__(self):
            self.itself = self
            self.reader, self.writer = flight.tpio.pipe()
            self.read = self.reader.read(1)

        def __del__(self):
            with contextlib.suppress(*ENDS):
                self.read.cancel()
                self.writer.write(b"x")
            self.reader.close()
            self.writer.close()

    flight.kept += [User() for _ in range(5)]


WAYS = {
    # way: (exit code, None for any; what is complained of)
    by_return: (0, []),
    by_sys_exit: (None, []),
    by_exception: (1, ["main: ZeroDivisionError()"]),
    by_return_after_a_thread_failed: (0, ["thread: ZeroDivisionError()"]),
    by_os_exit: (None, []),
    by_os_exit_in_a_callback: (None, []),
    by_os_exit_in_a_function: (None, []),
    by_os_exit_in_a_thread: (None, []),
    by_os_exit_at_exit: (None, []),
    by_interrupt: (INTERRUPTED, ["main: KeyboardInterrupt()"]),
    by_interrupt_in_result: (INTERRUPTED, ["main: KeyboardInterrupt()"]),
    by_interrupt_in_wait: (INTERRUPTED, ["main: KeyboardInterrupt()"]),
    by_interrupt_from_a_callback: (INTERRUPTED, ["main: KeyboardInterrupt()"]),
    by_interrupt_in_asyncio: (INTERRUPTED, ["main: KeyboardInterrupt()"]),
    by_exit_in_asyncio: (None, []),
    by_exception_in_asyncio: (1, ["main: ZeroDivisionError()"]),
    by_return_after_exit_in_a_callback: (0, ["unraisable: SystemExit("]),
    by_exit_in_a_function: (None, []),
    by_exit_inside_a_pool: (None, []),
    by_return_and_use_at_exit: (0, []),
    by_return_and_use_in_finalizers: (0, []),
}


def interrupt_soon():
    def interrupt():
        time.sleep(0.02)  # mostly when the main thread waits; it must do no harm either way
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()


# ---- the module ------------------------------------------------------------------------------------------------------


def imported_once():
    import tpio

    return tpio


def imported_twice():
    first = imported_once()
    old = first.sleep(1000), first.pipe()
    for name in [name for name in sys.modules if name.partition(".")[0] == "tpio"]:
        del sys.modules[name]
    second = imported_once()
    assert second is not first
    second.kept = old
    return second


def reloaded():
    tpio = imported_once()
    tpio.kept = tpio.sleep(1000), tpio.pipe()
    return importlib.reload(tpio)


def beside_a_subinterpreter():
    """Which cannot have it, and is told so; it still exists when the program ends."""
    return refused_to_a_subinterpreter(lambda other: None)


def after_a_subinterpreter():
    return refused_to_a_subinterpreter(lambda other: interpreters().destroy(other))


def interpreters():
    try:
        import _interpreters
    except ImportError:
        import _xxsubinterpreters as _interpreters
    return _interpreters


def refused_to_a_subinterpreter(then):
    tpio = imported_once()
    other = interpreters().create()
    answer, told = os.path.join(sys.argv[2], "answer"), "tpio cannot be used in a subinterpreter"
    code = f"""if True:
        try:
            import tpio
        except ImportError as error:
            with open({answer!r}, "w") as file:
                file.write(str(error))
    """
    interpreters().run_string(other, code)
    with open(answer) as file:
        answered = file.read()
    assert told in answered, answered
    then(other)
    return tpio


MODULES = {
    function.__name__: function
    for function in (imported_once, imported_twice, reloaded, beside_a_subinterpreter, after_a_subinterpreter)
}
# For them the exit waits as long as it waits for anything.
RARE = ["stuck_function", "stuck_callback", "stuck_callback_of_a_timer"]
FLIGHT = [name for name in vars(Flight) if not name.startswith("_") and name not in RARE]
WAITING = {
    function.__name__: function
    for function in (
        wait_result,
        wait_result_for_long,
        wait_concurrent,
        wait_as_completed,
        wait_asyncio,
        wait_aio,
        wait_in_pool,
    )
}


def plan(number):
    """What the program of that number does. One number after the other has one way after the other."""
    chance = random.Random(number)
    way = list(WAYS)[number % len(WAYS)]
    code, complaints = WAYS[way]
    flight = chance.sample(FLIGHT, chance.choice([1, 4, len(FLIGHT)])) + [
        each for each in RARE if chance.random() < 0.05
    ]
    made = Plan(
        number=number,
        way=way.__name__,
        exit_code=chance.randrange(2, 256) if code is None else code,
        complaints=complaints,
        flight=flight,
        waiting=chance.choices(list(WAITING), k=chance.choice([0, 2, 6])),
        daemons=chance.choices(list(WAITING), k=chance.choice([0, 0, 4])),
        modules=chance.choice(["imported_once"] * 3 + list(MODULES)),
        cleanly="os_exit" not in way.__name__,
        chance=chance,
    )
    if made.modules == "beside_a_subinterpreter" and made.cleanly and sys.version_info >= (3, 14):
        # Python's own, about what this program has left.
        made.complaints = [*complaints, "<sys>:0: RuntimeWarning: remaining subinterpreters"]
    return made


def complain(where, error, *, write=os.write):  # with what it needs: at the very end modules lose their names
    write(2, f"{where}: {error!r}\n".encode())


def run(plan, folder):
    sys.excepthook = lambda kind, error, trace: complain("main", error)
    threading.excepthook = lambda args: complain("thread", args.exc_value)
    sys.unraisablehook = lambda args, complain=complain: complain("unraisable", args.exc_value or args.exc_type)
    faulthandler.dump_traceback_later(HANGS, exit=True)
    tpio = MODULES[plan.modules]()
    importlib.import_module("tpio.aio")
    flight = Flight(tpio, plan, folder)
    flight.run = plan.chance.choice([asyncio.run, tpio.aio.run])
    for name in plan.flight:
        getattr(flight, name)()
    begun = threading.Barrier(1 + len(plan.waiting) + len(plan.daemons))

    def wait(kind, future, daemon):
        begun.wait()
        try:
            WAITING[kind](future, flight)
        except RuntimeError as error:
            if "shutting down" not in str(error):  # it may come too late to begin anything
                raise
        if not daemon:
            os.write(1, b"ended\n")

    flight.futures.append(tpio.sleep(1000))
    for daemon, kinds in ((False, plan.waiting), (True, plan.daemons)):
        for kind in kinds:
            future = plan.chance.choice([tpio.sleep(1000), *flight.futures[-3:]])
            threading.Thread(target=wait, args=[kind, future, daemon], daemon=daemon).start()
    begun.wait()
    time.sleep(plan.chance.choice([0, 0, 0.01, 0.1]))
    if plan.chance.random() < 0.3:
        flight.kept.clear()
        gc.collect()
    if plan.chance.random() < 0.2:
        gc.disable()
    globals()["flight"] = flight  # goes with the module, not before
    os.write(1, b"ending\n")
    globals()[plan.way](plan, flight)


if __name__ == "__main__":
    run(plan(int(sys.argv[1])), sys.argv[2])
