"""Child processes whose standard handles are really asynchronous.

Our end of each pipe is overlapped and private; the child's is an ordinary synchronous one, as programs expect. A child
inherits exactly its three handles, however many threads spawn at once, and lives in a job of its own: kill() ends it
with everything that it has started.
"""

from __future__ import annotations

import msvcrt
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, Self

from . import _tpio
from ._command_line import command_of, environment_of
from ._construct import NoPublicConstructor
from ._pipes import GENERIC_READ, GENERIC_WRITE, OPEN_EXISTING, Pipe, pipe
from ._steps import CANCELLED, FAILED, FINISHED, Steps, steps, timed_out
from ._tpio import Future, default_pool, timeout_seconds, wait_for_handle

PIPE = subprocess.PIPE
STDOUT = subprocess.STDOUT
DEVNULL = subprocess.DEVNULL

# CREATE_NEW_CONSOLE, DETACHED_PROCESS, CREATE_NO_WINDOW: the child has a console of its own, or none.
OWN_CONSOLE = 0x10 | 0x8 | 0x08000000

KILLED = 1  # the exit code of a process that was killed, as in subprocess
CHUNK = 65536
ANSWER = 0.25  # seconds in which the system says what our standard input is, unless it is being read
NAMES = ("stdin", "stdout", "stderr")


class Process(metaclass=NoPublicConstructor, made_by="tpio.spawn()"):
    """A child started by `tpio.spawn`.

    pid; args; stdin, stdout, stderr: our ends, Pipe or None; returncode: None until wait(), poll() or communicate() has
    seen the end. Close it, use it in a `with`, or drop it: the process goes on, and nothing of it is held any more.
    """

    def __init__(self, args: Any, process: int, job: int, pid: int, ends: Sequence[Pipe | None]) -> None:
        self.args = args
        self.pid = pid
        self.stdin, self.stdout, self.stderr = ends
        self.returncode: int | None = None
        self._process = process
        self._job = job
        self._lock = threading.Lock()  # between a use of the handles and their close
        self._waits: set[Future[bool]] = set()
        self._talk: Future[None] | None = None  # of the last communicate()
        self._feed: Future[None] | None = None  # the input, which goes on when its communicate() has timed out
        self._heard: tuple[list[bytes], list[bytes]] = ([], [])

    @property
    def handle(self) -> int:
        """The process's HANDLE, which stays this object's; tpio.wait_for_handle takes the object itself."""
        with self._lock:
            self._require_open()
            return self._process

    @property
    def has_job(self) -> bool:
        """True when the process is in a job of its own, so that kill() ends what it has started, too. False where the system
        refuses that: in a job of our own whose limits forbid it, as some sandboxes and build agents have one."""
        with self._lock:
            self._require_open()
            return self._job != 0

    def wait(self, timeout: float | None = None) -> Future[int]:
        """Future of the exit code; TimeoutError when the process is still running after `timeout` seconds."""
        timeout = timeout_seconds(timeout)
        if self.returncode is None:
            self._require_open()
        return self._wait(timeout)

    @steps
    def _wait(self, timeout: float | None) -> Steps[int]:
        while (code := self.poll()) is None:
            if not (yield self._end(timeout)):
                raise timed_out(f"process {self.pid} has not ended after {timeout} seconds")
            if not self._process:  # closed in this very moment
                raise CancelledError()
        return code

    def _end(self, timeout: float | None) -> Future[bool]:
        with self._lock:
            self._require_open()
            ended = wait_for_handle(self._process, timeout)
            self._waits.add(ended)
        ended.add_done_callback(self._forget)
        return ended

    def _forget(self, ended: Future[bool]) -> None:
        with self._lock:
            self._waits.discard(ended)

    def _require_open(self) -> None:
        if not self._process:
            raise ValueError("the process object is closed")

    def communicate(self, input: Any = None, timeout: float | None = None) -> Future[tuple[bytes, bytes]]:
        """Writes `input` to stdin and closes it, reads stdout and stderr to their ends, all at the same time, and waits for
        the process. Future of (stdout, stderr), b"" for those that are not pipes; they are closed then.

        After a TimeoutError, or a cancel, nothing is lost: what was read is in its `stdout` and `stderr` (of the
        TimeoutError) and comes again, with the rest, from the next communicate(), which takes no input: writing the
        first one's goes on meanwhile. RuntimeError while another communicate() is under way.
        """
        timeout = timeout_seconds(timeout)
        if input is not None and self.stdin is None:
            raise ValueError("input needs stdin=PIPE")
        if self._talk is not None and not self._talk.done():
            raise RuntimeError("communicate() is under way already")
        if self.returncode is None:
            self._require_open()
        if input is not None and self._feed is not None:
            raise ValueError("the input was given to an earlier communicate()")
        if self.stdin is not None and self._feed is None and (input is not None or not self.stdin.closed):
            self._feed = _feed(self.stdin, self.stdin.write(b"" if input is None else input))
        self._talk = talk = self._talking()
        return self._in_time(talk._limit(timeout, f"process {self.pid}"))

    @steps
    def _in_time(self, talk: Future[None]) -> Steps[tuple[bytes, bytes]]:
        try:
            yield talk
        except TimeoutError as error:
            error.stdout, error.stderr = self._read_so_far()  # type: ignore[attr-defined]
            raise
        return self._read_so_far()

    def _read_so_far(self) -> tuple[bytes, bytes]:
        return b"".join(self._heard[0]), b"".join(self._heard[1])

    @steps
    def _talking(self) -> Steps[None]:
        ends = [
            (end, chunks)
            for end, chunks in zip((self.stdout, self.stderr), self._heard, strict=True)
            if end is not None and not end.closed
        ]
        reads = [_read_all(end, chunks) for end, chunks in ends]
        try:
            for read in reads:
                yield read
            if self._feed is not None:
                yield _unless_cancelled(self._feed)
            yield self._wait(None)
        except BaseException:
            for read in reads:
                read.cancel()
            for read in reads:  # each has ended before another communicate() can begin
                try:
                    yield read
                except BaseException:
                    pass
            raise
        for end, _ in ends:
            end.close()

    def kill(self) -> None:
        """Ends the process and every process that it has started, with exit code 1. No error if it has ended already.

        Without a job (see has_job) it ends the process alone. https://learn.microsoft.com/windows/win32/procthread/job-objects
        """
        with self._lock:
            self._require_open()
            if self._job:
                _tpio.terminate_job(self._job, KILLED)
            else:
                _tpio.terminate_process(self._process, KILLED)

    def terminate(self) -> None:
        """The same as kill(), as in subprocess on Windows."""
        self.kill()

    def send_signal(self, signal_number: int) -> None:
        """SIGTERM: terminate(). CTRL_C_EVENT and CTRL_BREAK_EVENT go to the process group that the process leads
        (creationflags=subprocess.CREATE_NEW_PROCESS_GROUP) or to our own console: see GenerateConsoleCtrlEvent. ValueError for
        another; nothing if the process has ended."""
        if signal_number not in (signal.SIGTERM, signal.CTRL_C_EVENT, signal.CTRL_BREAK_EVENT):
            raise ValueError(f"unsupported signal: {signal_number}")
        if self.poll() is not None:
            return
        if signal_number == signal.SIGTERM:
            self.terminate()
        else:
            os.kill(self.pid, signal_number)

    def poll(self) -> int | None:
        """The exit code, or None while the process runs. Does not block."""
        with self._lock:
            if self.returncode is None and self._process:
                self.returncode = _tpio.exit_code(self._process)
        return self.returncode

    def close(self) -> None:
        """Closes our ends of the pipes and the handles of the process, which goes on. What is pending ends cancelled.
        Idempotent."""
        for end in (self.stdin, self.stdout, self.stderr):
            if end is not None:
                end.close()
        self._let_go()

    def _let_go(self, close_handle: Callable[[int], None] = _tpio.close_handle) -> None:
        # close_handle is an argument: when the interpreter ends, the module's names may be gone before a Process is.
        with self._lock:
            handles = self._process, self._job
            self._process = self._job = 0
            waits = list(self._waits)
        for pending in waits:
            pending.cancel()
        for handle in handles:
            if handle:
                close_handle(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_process", 0):
            self._let_go()  # somebody may go on with our ends of the pipes

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else f"returncode={self.returncode}"
        return f"<tpio.Process pid={self.pid} {state}>"


@steps
def _read_all(end: Pipe, chunks: list[bytes]) -> Steps[None]:
    while True:
        reading = end.read(CHUNK)
        try:
            data = yield reading
        except CancelledError:
            if not reading.cancelled():  # the read was faster than the cancel
                chunks.append(reading.result())
            raise
        if not data:
            return
        chunks.append(data)


@steps
def _feed(stdin: Pipe, writing: Future[int]) -> Steps[None]:
    """Waits for the write and closes. A child that does not want to read all of it is no error, as in subprocess."""
    try:
        yield writing
    except BrokenPipeError:
        pass
    finally:
        stdin.close()


def _unless_cancelled(future: Future[None]) -> Future[None]:
    """A future that ends like the other one, and whose cancel leaves the other alone."""
    shield: Future[None] = Future()

    def ended(future: Future[None]) -> None:
        if future.cancelled():
            shield._end(CANCELLED, None)
        elif (error := future.exception()) is not None:
            shield._end(FAILED, error)
        else:
            shield._end(FINISHED, None)

    future.add_done_callback(ended)
    return shield


class _Standard:
    """The three handles for a child, and what is to be closed here once it has them."""

    def __init__(self) -> None:
        self.handles = [0, 0, 0]
        self.ends: list[Pipe | None] = [None, None, None]
        self._temporary: list[int] = []
        self._borrowed: list[Pipe] = []

    def set(self, number: int, what: Any) -> None:
        reads = number == 0  # the child reads its stdin
        if what is None:
            self.handles[number] = self._inherit_ours(number)
            if reads and self.handles[0] and _input_is_being_read():
                self._open_null(number)
        elif isinstance(what, int) and what == PIPE:
            read, write = pipe(inherit="read" if reads else "write")
            theirs, self.ends[number] = (read, write) if reads else (write, read)
            self._borrowed.append(theirs)
            self.handles[number] = theirs.fileno()
        elif isinstance(what, int) and what == DEVNULL:
            self._open_null(number)
        elif isinstance(what, int) and what == STDOUT:
            if number != 2:
                raise ValueError(f"{NAMES[number]}: STDOUT is for stderr")
            self.handles[2] = self.handles[1]
        else:
            self.handles[number] = self._inherit(_handle_of(what, NAMES[number]))

    def _open_null(self, number: int) -> None:
        access = GENERIC_READ if number == 0 else GENERIC_WRITE
        handle = _tpio.create_file("NUL", access, 3, OPEN_EXISTING, 0, inherit=True)
        self._temporary.append(handle)
        self.handles[number] = handle

    def _inherit_ours(self, number: int) -> int:
        handle = _tpio.standard_handle(number)
        try:
            return self._inherit(handle) if handle else 0
        except OSError:
            return 0  # a value that was left here by who started us, and means nothing

    def _inherit(self, handle: int) -> int:
        """An inheritable duplicate: the original stays as it is."""
        duplicate = _tpio.duplicate_handle(handle, inherit=True)
        self._temporary.append(duplicate)
        return duplicate

    def close_theirs(self) -> None:
        for handle in self._temporary:
            _tpio.close_handle(handle)
        for end in self._borrowed:
            end.close()

    def close_ours(self) -> None:
        for end in self.ends:
            if end is not None:
                end.close()


def _handle_of(obj: Any, name: str) -> int:
    """A HANDLE from the end of a tpio pipe, a file object, or a C runtime file descriptor (as in subprocess)."""
    if isinstance(obj, _tpio.Handle):
        if obj._overlapped:
            raise ValueError(f"{name}: {obj!r} is overlapped, {_SYNCHRONOUS}")
        return obj.fileno()
    # Their fileno() is a HANDLE, which would pass for some descriptor or other.
    if isinstance(obj, socket.socket) or type(obj).__module__ in _OF_HANDLES:
        raise ValueError(f"{name}: {type(obj).__name__!r} is overlapped, {_SYNCHRONOUS}")
    if isinstance(obj, bool) or not (isinstance(obj, int) or hasattr(obj, "fileno")):
        raise TypeError(f"{name} must be PIPE, DEVNULL, STDOUT, a tpio pipe or a file, not {type(obj).__name__!r}")
    descriptor = obj if isinstance(obj, int) else obj.fileno()
    if not isinstance(descriptor, int):
        raise TypeError(f"{name}: fileno() must give an int, not {type(descriptor).__name__!r}")
    try:
        return msvcrt.get_osfhandle(descriptor)
    except OSError as error:
        error.strerror = f"{name}: {descriptor} is no open file descriptor"
        raise


_OF_HANDLES = ("multiprocessing.connection", "asyncio.windows_utils")
_SYNCHRONOUS = (
    "which programs do not expect of their standard handles: "
    "use PIPE, a pipe's end made with tpio.pipe(inherit=...), or a file of the built-in open()"
)


class _Probe(threading.Thread):
    """Asks our standard input what it is. The question waits while another thread reads from a pipe, however long that is."""

    def __init__(self, handle: int) -> None:
        super().__init__(name="tpio: what is the standard input?", daemon=True)
        self.handle = handle
        self.answered = threading.Event()

    def run(self) -> None:
        try:
            _tpio.ask_type(self.handle)
        except OSError:
            pass
        self.answered.set()


_probe: _Probe | None = None  # one that has not been answered: another one would not be, either


def _input_is_being_read() -> bool:
    global _probe
    handle = _tpio.standard_handle(0)
    probe = _probe
    if probe is None or probe.handle != handle or probe.answered.is_set():
        probe = _Probe(handle)
        probe.start()
        if probe.answered.wait(ANSWER):
            return False
        _probe = probe
    return not probe.answered.is_set()


def _path(value: Any, name: str) -> str | bytes:
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"{name} must be a str, bytes or a path, not {type(value).__name__!r}")
    path: str | bytes = os.fspath(value)
    return path


def spawn(
    args: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    creationflags: int = 0,
) -> Process:
    """Starts a program; raises FileNotFoundError and the like at once.

    args: a list of arguments, or a command line. Arguments in a list reach a program as they are; for a batch file
    (.bat, .cmd) they are quoted as cmd.exe needs it, and one with a percent sign or the end of a line, which cmd.exe cannot
    pass on as it is, is refused (ValueError). A command line is the caller's to escape. stdin, stdout, stderr: None (ours),
    PIPE, DEVNULL, STDOUT (for stderr), a file object or descriptor, or a tpio pipe's end for a child. env, cwd,
    creationflags: as for subprocess.Popen.

    With CREATE_NEW_CONSOLE, DETACHED_PROCESS or CREATE_NO_WINDOW, and nothing redirected, the child gets none of our
    handles. stdin=None gives the child NUL while a thread of ours reads from our own standard input, a pipe: the child's C
    runtime would wait for that read when it starts.
    """
    command = command_of(args)
    environment = environment_of(env)
    folder = None if cwd is None else os.fsdecode(_path(cwd, "cwd"))
    flags = _tpio.flags_of(creationflags, "creationflags")
    default_pool()  # refuse before anything is made, when the interpreter is ending
    standard = _Standard()
    redirected = any(what is not None for what in (stdin, stdout, stderr))
    try:
        if redirected or not flags & OWN_CONSOLE:
            for number, what in enumerate((stdin, stdout, stderr)):
                standard.set(number, what)
            handles: list[int] | None = standard.handles
        else:
            handles = None
        process, job, pid = _tpio.start_process(
            command.program, command.line, environment, folder, flags, handles, command.name
        )
    except BaseException:
        standard.close_ours()
        raise
    finally:
        standard.close_theirs()
    return Process._create(args, process, job, pid, standard.ends)
