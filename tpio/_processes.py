"""Child processes whose standard handles are really asynchronous.

Our end of each pipe is overlapped and private; the child's is an ordinary synchronous one, as programs expect. A child
inherits exactly its three handles, however many threads spawn at once, and lives in a job of its own: kill() ends it
with everything that it has started.
"""

from __future__ import annotations

import operator
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, Self

from . import _tpio
from ._construct import NoPublicConstructor
from ._pipes import GENERIC_READ, GENERIC_WRITE, OPEN_EXISTING, Pipe, pipe
from ._steps import CANCELLED, FAILED, FINISHED, Steps, steps, timed_out, with_timeout
from ._tpio import Future, default_pool, timeout_seconds, wait_for_handle

PIPE = subprocess.PIPE
STDOUT = subprocess.STDOUT
DEVNULL = subprocess.DEVNULL

KILLED = 1  # the exit code of a process that was killed, as in subprocess
CHUNK = 65536


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
        return self._in_time(with_timeout(talk, timeout, f"process {self.pid}"))

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
        """Ends the process and every process that it has started, with exit code 1. No error if it has ended already."""
        with self._lock:
            self._require_open()
            _tpio.terminate_job(self._job, KILLED)

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
        elif isinstance(what, int) and what == PIPE:
            read, write = pipe(inherit="read" if reads else "write")
            theirs, self.ends[number] = (read, write) if reads else (write, read)
            self._borrowed.append(theirs)
            self.handles[number] = theirs.fileno()
        elif isinstance(what, int) and what == DEVNULL:
            access = GENERIC_READ if reads else GENERIC_WRITE
            handle = _tpio.create_file("NUL", access, 3, OPEN_EXISTING, 0, inherit=True)
            self._temporary.append(handle)
            self.handles[number] = handle
        elif isinstance(what, int) and what == STDOUT:
            if number != 2:
                raise ValueError("STDOUT is for stderr")
            self.handles[2] = self.handles[1]
        else:
            self.handles[number] = self._inherit(_handle_of(what))

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


def _handle_of(obj: Any) -> int:
    """A HANDLE from the end of a tpio pipe, a file object, or a C runtime file descriptor (as in subprocess)."""
    if isinstance(obj, _tpio.Handle):
        if obj._overlapped:
            raise ValueError(
                f"{obj!r} is overlapped, which programs do not expect of their standard handles: "
                "use PIPE, a pipe's end made with tpio.pipe(inherit=...), or a file of the built-in open()"
            )
        return obj.fileno()
    if isinstance(obj, bool) or not (isinstance(obj, int) or hasattr(obj, "fileno")):
        raise TypeError(f"PIPE, DEVNULL, STDOUT, a tpio pipe or a file is needed, not {type(obj).__name__!r}")
    import msvcrt

    return msvcrt.get_osfhandle(obj if isinstance(obj, int) else obj.fileno())


def _environment(env: Mapping[str, str] | None) -> str | None:
    if env is None:
        return None
    if not isinstance(env, Mapping):
        raise TypeError(f"an environment is a mapping, not {type(env).__name__!r}")
    entries = {}
    for name, value in env.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError("names and values of the environment must be str")
        if "\0" in name or "\0" in value:
            raise ValueError("embedded null character")
        if not name or "=" in name[1:]:
            raise ValueError("illegal environment variable name")
        entries[name.upper()] = f"{name}={value}\0"
    return "".join(entries[name] for name in sorted(entries)) + ("\0" if entries else "\0\0")


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

    args: a list of arguments, or a command line. stdin, stdout, stderr: None (ours), PIPE, DEVNULL, STDOUT (for stderr),
    a file object or descriptor, or a tpio pipe's end for a child. env, cwd, creationflags: as for subprocess.Popen.
    """
    if isinstance(args, bytes):
        raise TypeError("a command line is a str, not bytes")
    if isinstance(args, str):
        command = args
    elif isinstance(args, os.PathLike):
        command = subprocess.list2cmdline([os.fspath(args)])
    else:
        command = subprocess.list2cmdline([os.fspath(arg) for arg in args])
    if not command:
        raise ValueError("no program to start")
    if "\0" in command:
        raise ValueError("embedded null character")
    environment = _environment(env)
    folder = None if cwd is None else os.fsdecode(cwd)
    default_pool()  # refuse before anything is made, when the interpreter is ending
    standard = _Standard()
    try:
        for number, what in enumerate((stdin, stdout, stderr)):
            standard.set(number, what)
        process, job, pid = _tpio.start_process(
            None, command, environment, folder, operator.index(creationflags), standard.handles
        )
    except BaseException:
        standard.close_ours()
        raise
    finally:
        standard.close_theirs()
    return Process._create(args, process, job, pid, standard.ends)
