"""The machine that hypothesis drives: each rule is one step, and its decisions are a string of bytes.

Two kinds of things. Victims: every public call is made on them, with any arguments. Streams and a file: they are used by
the same calls, with arguments that may be just as bad, but a model knows every byte; a call that raises must have had no
effect. What a rule draws does not depend on the state, which threads of the system have a part in.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import mmap
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, InvalidStateError
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.stateful import RuleBasedStateMachine, rule

import support
import tpio
from ends import named_pair, pipe_name, tcp_pair

from . import calls, values
from .streams import Stream, bytes_of
from .values import WAIT, Dice, Planned

set_hypothesis_home_dir(os.path.join(tempfile.gettempdir(), "tpio-hypothesis"))  # not into the checkout

# What misuse, failure and lack of memory may raise. Anything else has come from inside by mistake.
DOCUMENTED = (
    TypeError,
    ValueError,
    OverflowError,
    BufferError,
    OSError,
    MemoryError,
    CancelledError,
    TimeoutError,
    InvalidStateError,
    EOFError,
    tpio.LimitOverrunError,
    Planned,
)
_RUNTIME = (
    "closed",
    "shutdown",
    "not initialized",
    "initialized once",
    "under way",
    "running asyncio",
    "unexpected state",
)
MOST = 14  # victims at a time

DICE = st.binary(min_size=12, max_size=12).map(Dice)


def is_documented(error: BaseException) -> bool:
    if isinstance(error, RuntimeError):
        return type(error) is RuntimeError and any(text in str(error) for text in _RUNTIME)
    return isinstance(error, DOCUMENTED)


class Machine(RuleBasedStateMachine):
    tally: ClassVar[Counter[str]] = Counter()
    log: ClassVar[Callable[[str], None] | None] = None

    def __init__(self) -> None:
        super().__init__()
        Machine.tally["examples"] += 1
        self._unheard: list[BaseException] = []
        self._hooks = sys.unraisablehook, threading.excepthook
        sys.unraisablehook = threading.excepthook = self._unraisable
        self._handles = support.bound_handles()
        self._folder = tempfile.mkdtemp(prefix="tpio-fuzz-")
        self._victims: list[Any] = []
        self._futures: list[tpio.Future[Any]] = []
        self._origins: dict[int, str] = {}  # of those that do not end
        self._streams: list[Stream] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._spawned = 0
        self._names = 0
        self._path = self._new_path()
        self._file: tpio.File | None = None
        self._content = bytearray()
        self._position = 0

    def _unraisable(self, args: Any) -> None:
        error = args.exc_value
        if not isinstance(error, Planned):
            self._unheard.append(error if error is not None else args.exc_type())

    def _new_path(self) -> str:
        self._names += 1
        return os.path.join(self._folder, f"file{self._names}")

    # ---- making calls

    def _call(self, what: str, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """The result, or None when the call raised something that it may raise."""
        Machine.tally["calls"] += 1
        if Machine.log is not None:
            Machine.log(f"{what}{args!r:.200} {named!r:.200}")
        try:
            result = function(*args, **named)
        except BaseException as error:
            Machine.tally["refused"] += 1
            if not is_documented(error):
                error.add_note(f"from {what}{args!r:.300} {named!r:.300}")
                raise
            return None
        if isinstance(result, tpio.Future):
            self._origins[id(result)] = f"{what}{args!r:.300} {named!r:.300}"
        return result

    def _keep(self, result: Any, *, of: Any = None) -> None:
        """What a call has returned is ours to end."""
        if isinstance(result, tpio.Future):
            self._futures.append(result)
        elif isinstance(result, (tuple, list)):
            for each in result:
                self._keep(each)
        elif hasattr(result, "close") and result is not of and all(result is not each for each in self._victims):
            self._victims.append(result)

    def _victim(self, dice: Dice) -> Any:
        return dice.pick(self._victims) if self._victims else None

    def _misuse(self, dice: Dice, on: Any) -> None:
        """One call of a method of a victim, or of a future."""
        methods = next(methods for kind, methods in calls.BY_TYPE if isinstance(on, kind))
        chosen = dice.pick(methods)
        args, named = calls.arguments_for(chosen, dice)
        name = chosen[0]
        if name in ("result", "exception") and not args:
            args = [0]  # without a timeout it waits for ever, as it should
        is_socket = isinstance(on, tpio.Socket)
        result = self._call(f"{type(on).__name__}.{name}", getattr(on, name), *args, **named)
        if name == "detach" and result is not None:
            socket.close(result) if is_socket else tpio._tpio.close_handle(result)
        elif name == "map" and result is not None:
            self._call("map's results", list, result)
        elif name == "__await__" and result is not None and not on.done():
            self._call("await", next, result)
        elif name in ("fileno", "share"):
            pass
        else:
            self._keep(result, of=on)

    # ---- rules: victims

    @rule(dice=DICE)
    def make(self, dice: Dice) -> None:
        makers = [
            tpio.pipe,
            named_pair,
            tcp_pair,
            lambda: named_pair(message=True),
            lambda: tpio.listen(("127.0.0.1", 0)),
            lambda: tpio.Socket(),
            self._udp,
            lambda: tpio.open(self._new_path(), "w+b"),
            lambda: tpio.PipeListener(pipe_name()),
            lambda: tpio.watch(self._folder),
            lambda: tpio.Timer(
                values.callback(dice) or int, dice.pick([0, 0.01, 3600]), period=dice.pick([None, 0.01])
            ),
            lambda: tpio.pipe(inherit="read"),
            lambda: tpio.pipe(inherit="write"),
            tpio.Pool,
            self._in_a_pool,
            self._spawn,
            tpio.Future,
        ]
        maker = dice.pick(makers)
        made = self._call("make", maker)
        self._keep(made)
        if isinstance(made, tpio.Timer):
            self._victims.append(made)
        while len(self._victims) > MOST:
            self._close(self._victims.pop(0))

    def _udp(self) -> tpio.Socket:
        udp = tpio.Socket(type=socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        return udp

    def _in_a_pool(self) -> Any:
        pool = tpio.Pool(max_threads=3)
        return (pool, *tpio.pipe(pool=pool), tpio.listen(("127.0.0.1", 0), pool=pool), tpio.sleep(0.01, pool=pool))

    def _spawn(self) -> Any:
        self._spawned += 1
        if self._spawned > 1:  # processes take their time
            return None
        return tpio.spawn(["cmd", "/c", "echo", "hello"], stdin=tpio.PIPE, stdout=tpio.PIPE, stderr=tpio.STDOUT)

    @rule(dice=DICE, again=DICE)
    def misuse_a_victim(self, dice: Dice, again: Dice) -> None:
        for each in (dice, again):
            if (victim := self._victim(each)) is not None:
                self._misuse(each, victim)

    @rule(dice=DICE)
    def misuse_a_future(self, dice: Dice) -> None:
        if self._futures:
            self._misuse(dice, dice.pick(self._futures))
        if len(self._futures) > 60:
            self._forget_ended()

    @rule(dice=DICE, again=DICE)
    def misuse_a_function(self, dice: Dice, again: Dice) -> None:
        for each in (dice, again):
            chosen = each.pick(calls.MODULE)
            args, named = calls.arguments_for(chosen, each)
            result = self._call(f"tpio.{chosen[0]}", getattr(tpio, chosen[0]), *args, **named)
            if isinstance(result, memoryview):
                continue
            if result is not tpio.default_pool():
                self._keep(result)
            if isinstance(result, tpio.Timer):
                self._victims.append(result)

    @rule(dice=DICE)
    def bind_anew(self, dice: Dice) -> None:
        """A handle that has a binding, or had one."""
        victim = self._victim(dice)
        if not isinstance(victim, tpio.Handle):
            return
        number = self._call("fileno", victim.fileno)
        what = dice.pick([number, victim, values.Fileno(number)])
        bound = self._call("Handle", tpio.Handle, what, owns=False)
        assert bound is None or not victim._overlapped, "bound twice"

    @rule(dice=DICE)
    def use_by_name(self, dice: Dice) -> None:
        """The module's verbs on victims, and on sockets of the standard library."""
        what: Any = self._victim(dice)
        if dice.chance(60):
            what = socket.socket()
            self._victims.append(what)
        chosen = dice.pick(calls.MODULE[:5])
        args, named = calls.arguments_for(chosen, dice)
        self._keep(self._call(f"tpio.{chosen[0]}", getattr(tpio, chosen[0]), what, *args[1:], **named))

    @rule(dice=DICE)
    def pump_between_victims(self, dice: Dice) -> None:
        source, sink = self._victim(dice), self._victim(dice)
        block = dice.pick([1, 100, 65536, 0, -1, 2**30 + 1, None, "x"])
        self._keep(self._call("tpio.pump", tpio.pump, source, sink, n=dice.pick([None, calls.size(dice)]), block=block))

    @rule(dice=DICE)
    def send_a_victim_s_file(self, dice: Dice) -> None:
        files = [each for each in self._victims if isinstance(each, tpio.File)]
        sockets = [each for each in self._victims if isinstance(each, tpio.Socket)]
        if files and sockets:
            sock, file = dice.pick(sockets), dice.pick(files)
            self._keep(self._call("sendfile", sock.sendfile, file, calls.offset(dice), calls.size(dice)))

    @rule(dice=DICE)
    def open_in_any_mode(self, dice: Dice) -> None:
        mode, share, flags = dice.pick(values.MODES), dice.pick(values.SHARES), dice.pick(values.FLAGS)
        path = dice.pick([self._path, self._new_path(), values.Path(self._new_path()), os.fsencode(self._new_path())])
        if path == self._path:
            mode = dice.pick(["rb", "r", None])
        self._keep(self._call("tpio.open", tpio.open, path, mode, share=share, flags=flags))

    @rule(dice=DICE, one=DICE, other=DICE)
    def misuse_at_once(self, dice: Dice, one: Dice, other: Dice) -> None:
        """Two calls on the same victim by two threads."""
        victim = self._victim(dice)
        if victim is not None:
            support.at_once(lambda: self._misuse(one, victim), lambda: self._misuse(other, victim))

    @rule(dice=DICE)
    def close_a_victim(self, dice: Dice) -> None:
        if self._victims:
            self._close(dice.pick(self._victims))  # and it stays: a closed one is as good a victim

    @rule(dice=DICE)
    def drop_a_victim(self, dice: Dice) -> None:
        if self._victims:
            victim = self._victims.pop(dice.number() % len(self._victims))
            if isinstance(victim, (socket.socket, tpio.Timer, tpio.Pool)):
                self._close(victim)  # these do not end with their last reference

    def _close(self, victim: Any) -> None:
        if isinstance(victim, tpio.Timer):
            victim.cancel()
        elif isinstance(victim, tpio.Process):
            with contextlib.suppress(ValueError):
                victim.kill()
            victim.close()
        else:
            victim.close()

    # ---- rules: streams

    @rule(first=DICE, second=DICE, third=DICE)
    def use_streams(self, first: Dice, second: Dice, third: Dice) -> None:
        for dice in (first, second, third):
            self._stream(dice) or self._open_stream(dice)
            dice.pick([self._write, self._read, self._write, self._read, self._cancel_some])(dice)

    def _open_stream(self, dice: Dice) -> None:
        if len(self._streams) >= 4:
            return
        kind = dice.pick(["pipe", "tcp", "named", "message"])
        if kind == "pipe":
            reader, writer = tpio.pipe()
        elif kind == "tcp":
            reader, writer = tcp_pair()
        else:
            writer, reader = named_pair(message=kind == "message")
            if dice.chance(128):
                reader, writer = writer, reader
        self._streams.append(Stream(reader, writer, messages=kind == "message", seed=dice.number()))

    @rule(dice=DICE)
    def open_stream(self, dice: Dice) -> None:
        self._open_stream(dice)

    def _stream(self, dice: Dice) -> Stream | None:
        return dice.pick(self._streams) if self._streams else None

    def _write(self, dice: Dice) -> None:
        if (stream := self._stream(dice)) is None:
            return
        if dice.chance(80):
            data = dice.pick(values.SOURCES)()
        else:
            fresh = stream.fresh(dice.pick([8, 1, 100, 4096, 65536, 200_000]))
            wrap: list[Callable[[bytes], Any]] = [bytes, bytearray, memoryview, lambda b: memoryview(b"x" + b)[1:]]
            wrap.append(lambda b: (ctypes.c_char * len(b)).from_buffer_copy(b))
            data = dice.pick(wrap)(fresh)
        content = _content(data)
        offset = dice.pick([None, None, None, 0, 5, -1, "x"])
        verbs: list[Any] = [stream.writer.write, tpio.write]
        if isinstance(stream.writer, tpio.Socket):
            verbs.append(stream.writer.sendmsg)
        verb = dice.pick(verbs)
        args: tuple[Any, ...] = (data, offset)
        if verb == tpio.write:
            args = (stream.writer, data, offset)
        elif verb != stream.writer.write:
            half = len(content or b"") // 2
            args = ([content[:half], b"", bytearray(content[half:])] if content is not None else [data],)
        future = self._call("write", verb, *args)
        if future is not None:
            assert content is not None
            stream.wrote(content, future)
            if isinstance(data, bytearray) and verb != stream.writer.write:
                self._try_to_resize(data, future)
            if dice.chance(40):
                stream.ask_to_end(future)
        stream.look()

    def _read(self, dice: Dice) -> None:
        if (stream := self._stream(dice)) is None:
            return
        offset = dice.pick([None, None, None, 0, 7, -1, 2**64, "x"])
        kind = dice.pick(["read", "read_into", "poll", "scatter"])
        into: Any = None
        if kind == "read":
            size = dice.pick([4096, *values.SIZES])
            future = self._call("read", stream.reader.read, size, offset)
        elif kind == "read_into":
            into = dice.pick([lambda: bytearray(5000), lambda: bytearray(70000), *values.TARGETS])()
            future = self._call("read_into", stream.reader.read_into, into, offset)
        elif kind == "poll":
            future = self._call("poll_read", stream.reader.poll_read)
        elif isinstance(stream.reader, tpio.Socket):
            into = calls.targets(dice)
            future = self._call("recvmsg_into", stream.reader.recvmsg_into, into)
            into = into if isinstance(into, list) else []  # anything else that is accepted has no room
        else:
            return
        if future is not None:
            stream.reads(
                future, len(bytes_of(into)) if into is not None else _index(size) if kind == "read" else 0, into
            )
            if isinstance(into, bytearray) and into:
                self._try_to_resize(into, future)
            if dice.chance(60):
                future.cancel()
        stream.look()

    def _try_to_resize(self, buffer: bytearray, future: tpio.Future[Any]) -> None:
        """It belongs to the system as long as the operation is under way."""
        try:
            buffer.append(0)
        except BufferError:
            return
        buffer.pop()
        assert support.eventually(future.done, WAIT), "a buffer could be resized while the system has it"

    def _cancel_some(self, dice: Dice) -> None:
        if (stream := self._stream(dice)) is None:
            return
        if dice.chance(60):
            for segment in stream.pending_writes:
                segment.asked_to_end = True
            stream.writer.cancel()
        elif dice.chance(60):
            stream.reader.cancel()
        elif pending := stream.pending_reads:
            dice.pick(pending).cancel()
        elif writes := stream.pending_writes:
            stream.ask_to_end(dice.pick(writes).future)
        stream.look()

    @rule(dice=DICE)
    def cancel_an_await(self, dice: Dice) -> None:
        """Nothing of what comes in spite of the cancel is lost."""
        if (stream := self._stream(dice)) is None:
            return
        stream.reader.cancel()  # what comes back to the handle comes after what other reads have got
        stream.look(wait=True)
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        size = dice.pick([10, 5000, 1])
        buffer: Any = dice.pick([lambda: None, lambda: bytearray(size), values.Record, lambda: mmap.mmap(-1, size)])()
        fresh = stream.fresh(dice.pick([10, 3000]))
        early, late = dice.chance(128), dice.chance(128)

        async def attempt() -> None:
            async def one() -> None:
                reading = stream.reader.read(size) if buffer is None else stream.reader.read_into(buffer)
                result = await reading
                stream.arrived(result if buffer is None else bytes_of(buffer)[:result])

            task = asyncio.ensure_future(one())
            if early:
                await asyncio.sleep(0)
            writing = stream.writer.write(fresh)
            stream.wrote(fresh, writing)
            if late:
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        self._loop.run_until_complete(asyncio.wait_for(attempt(), WAIT))

    @rule(dice=DICE)
    def finish_stream(self, dice: Dice) -> None:
        """Reads all that was written, and then the end."""
        if not self._streams:
            return
        stream = self._streams.pop(dice.number() % len(self._streams))
        stream.finish()
        Machine.tally["streams read to their end"] += 1
        Machine.tally["bytes compared"] += stream.received

    @rule(dice=DICE)
    def break_stream(self, dice: Dice) -> None:
        """Closes it in the middle, one end after the other."""
        if not self._streams:
            return
        stream = self._streams.pop(dice.number() % len(self._streams))
        self._break(stream, reader_first=dice.chance(128))

    def _break(self, stream: Stream, reader_first: bool) -> None:
        stream.open = False
        ends = [stream.reader, stream.writer]
        if not reader_first:
            ends.reverse()
        for end in ends:
            end.close()
        stream.look(wait=True)
        for segment in stream.pending_writes:
            self._ended(segment.future)
        Machine.tally["bytes compared"] += stream.received

    # ---- rules: a file

    def _model_file(self) -> tpio.File:
        if self._file is None or self._file.closed:
            if not os.path.exists(self._path):
                self._content = bytearray()
            self._file = tpio.open(self._path, "r+b" if os.path.exists(self._path) else "w+b")
            self._position = 0
        return self._file

    @rule(dice=DICE)
    def write_file(self, dice: Dice) -> None:
        file = self._model_file()
        data = dice.pick([*values.SOURCES, lambda: bytes(range(200)) * dice.number()])()
        offset = dice.pick([None, 100, *values.OFFSETS])
        content = _content(data)
        future = self._call("File.write", file.write, data, offset)
        if future is None:
            return
        self._futures.append(future)
        if future.exception(WAIT) is not None:
            return
        assert content is not None and future.result() == len(content)
        if content:
            place = self._position if offset is None else _index(offset)
            if len(self._content) < place:
                self._content.extend(bytes(place - len(self._content)))
            self._content[place : place + len(content)] = content
            if offset is None:
                self._position = place + len(content)

    @rule(dice=DICE)
    def read_file(self, dice: Dice) -> None:
        file = self._model_file()
        offset = dice.pick([None, 100, *values.OFFSETS])
        into: Any = None
        if dice.chance(100):
            into = dice.pick(values.TARGETS)()
            future = self._call("File.read_into", file.read_into, into, offset)
        else:
            size = dice.pick(values.SIZES)
            future = self._call("File.read", file.read, size, offset)
        if future is None:
            return
        self._futures.append(future)
        if future.exception(WAIT) is not None:
            return
        wanted = _index(size) if into is None else len(bytes_of(into))
        place = self._position if offset is None else _index(offset)
        expected = bytes(self._content[place : place + wanted])
        got = future.result() if into is None else bytes_of(into)[: future.result()]
        assert got == expected, f"{len(got)} bytes at {place} of {len(self._content)}, expected {len(expected)}"
        if offset is None:
            self._position = place + len(got)
        Machine.tally["bytes compared"] += len(got)

    @rule(dice=DICE)
    def file_as_a_whole(self, dice: Dice) -> None:
        file = self._model_file()
        what = dice.pick(["size", "truncate", "read_many", "write_many", "copy", "append", "close"])
        if what == "truncate":
            size = dice.pick([50, 0, 3000, -1, 2**64, 1.5, None, values.Index(40), values.Index(Planned)])
            try:
                file.truncate(size)
            except BaseException as error:
                assert is_documented(error), error
            else:
                length = _index(size)
                self._content = self._content[:length] + bytes(max(length - len(self._content), 0))
        elif what == "read_many":
            parts = [(dice.number() * 20, dice.number() * 3) for _ in range(dice.pick([3, 0, 1, 20]))]
            got = file.read_many(parts).result(WAIT)
            assert got == [bytes(self._content[at : at + n]) for at, n in parts]
        elif what == "write_many":
            parts = [(1000 + 300 * i, bytes([i + 1]) * (1 + dice.number())) for i in range(dice.pick([3, 0, 1, 8]))]
            assert file.write_many(parts).result(WAIT) == [len(data) for _, data in parts]
            for at, data in parts:
                self._content.extend(bytes(max(at - len(self._content), 0)))
                self._content[at : at + len(data)] = data
        elif what == "copy":
            target = self._new_path()
            copying = tpio.copy_file(
                self._path, target, depth=dice.pick([8, 1, 3]), block=dice.pick([4096, 1 << 20, 2**62])
            )
            assert copying.result(WAIT) == len(self._content)
            with open(target, "rb") as copy:
                assert copy.read() == self._content
        elif what == "append":
            with tpio.open(self._path, "ab") as end:
                end.write(b"appended").result(WAIT)
            self._content += b"appended"
        elif what == "close":
            file.close()
            with open(self._path, "rb") as plain:
                assert plain.read() == self._content
            return
        assert file.size() == len(self._content)

    # ---- the end

    def _ended(self, future: tpio.Future[Any]) -> None:
        try:
            error = future.exception(WAIT)
        except CancelledError:
            return
        except TimeoutError:
            raise AssertionError(
                f"{future!r} of {self._origins.get(id(future))} does not end; {[pool.stats() for pool in support.pools()]}"
            ) from None
        if error is not None:
            if isinstance(error, BaseException) and not is_documented(error):
                raise error
            return  # what was given to set_exception() may be no exception, as in concurrent.futures
        result = future.result()
        for each in result if isinstance(result, tuple) else (result,):
            if isinstance(each, tpio.Handle):  # anything else, a set_result() here has given
                each.close()

    def _forget_ended(self) -> None:
        ended = [future for future in self._futures if future.done()]
        for future in ended:
            self._ended(future)
        self._futures = [future for future in self._futures if not future.done()]

    def teardown(self) -> None:
        try:
            self._end()
        finally:
            sys.unraisablehook, threading.excepthook = self._hooks
            shutil.rmtree(self._folder, ignore_errors=True)

    def _close_all(self) -> None:
        for stream in self._streams:
            self._break(stream, reader_first=False)
        self._streams.clear()
        if self._file is not None:
            self._file.close()
        if self._loop is not None:
            self._loop.close()
        while self._victims:
            self._close(self._victims.pop())
        for future in self._futures:
            future.cancel()
            if future.running():  # our own promise, or a function
                with contextlib.suppress(InvalidStateError):
                    future.set_result(None)
        for future in self._futures:
            self._ended(future)
        self._futures.clear()

    def _end(self) -> None:
        self._close_all()  # whose variables are gone then: a socket's binding goes with the socket
        gc.collect()

        def settled() -> bool:
            return support.pending() == 0 and support.bound_handles() <= self._handles

        if not support.eventually(settled, 1):
            gc.collect()
        assert support.eventually(settled, WAIT), f"left: {[(pool, pool.stats()) for pool in support.pools()]}"
        assert not self._unheard, ExceptionGroup("nobody could catch", self._unheard)


def _content(data: Any) -> bytes | None:
    try:
        return bytes_of(data)
    except Exception:
        return None


def _index(value: Any) -> int:
    return value.__index__()
