"""Child processes whose standard handles are really asynchronous.

Our end of each pipe is overlapped and private; the child's is an ordinary synchronous one, as programs expect. A child
inherits exactly its three handles, however many threads spawn at once, and lives in a job of its own: kill() ends it
with everything that it has started.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from . import _tpio
from ._pipes import GENERIC_READ, GENERIC_WRITE, OPEN_EXISTING, Pipe, pipe
from ._steps import Steps, steps, with_timeout
from ._tpio import Future, default_pool, wait

PIPE = subprocess.PIPE
STDOUT = subprocess.STDOUT
DEVNULL = subprocess.DEVNULL

KILLED = 1  # the exit code of a process that was killed, as in subprocess
CHUNK = 65536


class Process:
    """A child started by `tpio.spawn`.

    pid; args; stdin, stdout, stderr: our ends, Pipe or None; returncode: None until a wait() has seen the end.
    """

    def __init__(self, args: Any, process: int, job: int, pid: int, ends: Sequence[Pipe | None]) -> None:
        self.args = args
        self.pid = pid
        self.stdin, self.stdout, self.stderr = ends
        self.returncode: int | None = None
        self._process = process
        self._job = job

    def wait(self, timeout: float | None = None) -> Future[int]:
        """Future of the exit code; TimeoutError when the process is still running after `timeout` seconds."""
        return self._wait(timeout)

    @steps
    def _wait(self, timeout: float | None) -> Steps[int]:
        if self.returncode is None:
            if not (yield wait(self._process_handle(), timeout)):
                raise TimeoutError(f"process {self.pid} has not ended after {timeout} seconds")
            if self.returncode is None:
                self.returncode = _tpio.exit_code(self._process_handle())
        return self.returncode

    def _process_handle(self) -> int:
        if not self._process:
            raise ValueError("the process object is closed")
        return self._process

    def communicate(self, input: Any = None, timeout: float | None = None) -> Future[tuple[bytes, bytes]]:
        """Writes `input` to stdin and closes it, reads stdout and stderr to their ends, all at the same time, and waits for
        the process. Future of (stdout, stderr), b"" for those that are not pipes.

        After a TimeoutError, or a cancel, nothing is lost: what was read is in its `stdout` and `stderr` (of the
        TimeoutError) and comes again, with the rest, from the next communicate().
        """
        if input is not None and self.stdin is None:
            raise ValueError("input needs stdin=PIPE")
        if timeout is not None and not timeout >= 0:
            raise ValueError("the timeout must not be negative")
        talk = self._talk(b"" if input is None else input)
        return self._in_time(with_timeout(talk, timeout, f"process {self.pid}"))

    @steps
    def _in_time(self, talk: Future[tuple[bytes, bytes]]) -> Steps[tuple[bytes, bytes]]:
        try:
            return (yield talk)
        except TimeoutError as error:
            error.stdout, error.stderr = self._read_so_far()  # type: ignore[attr-defined]
            raise

    def _read_so_far(self) -> tuple[bytes, bytes]:
        heard = self.__dict__.get("_heard", ([], []))
        return b"".join(heard[0]), b"".join(heard[1])

    @steps
    def _talk(self, input: Any) -> Steps[tuple[bytes, bytes]]:
        heard = self.__dict__.setdefault("_heard", ([], []))
        parts = [
            _read_all(end, chunks)
            for end, chunks in zip((self.stdout, self.stderr), heard, strict=True)
            if end is not None
        ]
        if self.stdin is not None and not self.stdin.closed:
            parts.append(_feed(self.stdin, input))
        try:
            for part in parts:
                yield part
            yield self._wait(None)
        except BaseException:
            for part in parts:
                part.cancel()
            for part in parts:  # each has ended before another communicate() can begin
                try:
                    yield part
                except BaseException:
                    pass
            raise
        return self._read_so_far()

    def kill(self) -> None:
        """Ends the process and every process that it has started. No error if it has ended already."""
        if self._job:
            _tpio.terminate_job(self._job, KILLED)

    def poll(self) -> int | None:
        """The exit code, or None while the process runs. Does not block."""
        if self.returncode is None and self._process:
            code = _tpio.exit_code(self._process)
            if code != 259 or wait(self._process, 0).result():  # 259: STILL_ACTIVE, or a program's own code
                self.returncode = code
        return self.returncode

    def close(self) -> None:
        """Closes our ends of the pipes and the handles of the process, which goes on. Idempotent."""
        for end in (self.stdin, self.stdout, self.stderr):
            if end is not None:
                end.close()
        process, self._process = self._process, 0
        job, self._job = self._job, 0
        for handle in (process, job):
            if handle:
                _tpio.close_handle(handle)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_process", 0):
            self.close()

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else f"returncode={self.returncode}"
        return f"<tpio.Process pid={self.pid} {state}>"


@steps
def _read_all(end: Pipe, chunks: list[bytes]) -> Steps[None]:
    while data := (yield end.read(CHUNK)):
        chunks.append(data)


@steps
def _feed(stdin: Pipe, data: Any) -> Steps[None]:
    """Writes and closes. A child that does not want to read all of it is no error, as in subprocess."""
    try:
        if len(data):
            yield stdin.write(data)
    except (BrokenPipeError, ValueError):
        pass
    stdin.close()


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
            ours = (sys.__stdin__, sys.__stdout__, sys.__stderr__)[number]
            self.handles[number] = self._inherit(_handle_of(ours)) if ours is not None else 0
        elif what == PIPE and isinstance(what, int):
            read, write = pipe(inherit="read" if reads else "write")
            theirs, self.ends[number] = (read, write) if reads else (write, read)
            self._borrowed.append(theirs)
            self.handles[number] = theirs.fileno()
        elif what == DEVNULL and isinstance(what, int):
            access = GENERIC_READ if reads else GENERIC_WRITE
            handle = _tpio.create_file("NUL", access, 3, OPEN_EXISTING, 0, inherit=True)
            self._temporary.append(handle)
            self.handles[number] = handle
        elif what == STDOUT and isinstance(what, int):
            if number != 2:
                raise ValueError("STDOUT is for stderr")
            self.handles[2] = self.handles[1]
        else:
            self.handles[number] = self._inherit(_handle_of(what))

    def _inherit(self, handle: int) -> int:
        """An inheritable duplicate: the original stays as it is."""
        if not handle:
            return 0
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
    """A HANDLE from a tpio object, a file object, or a C runtime file descriptor (as in subprocess)."""
    if isinstance(obj, _tpio.Handle):
        return obj.fileno()
    if isinstance(obj, bool) or not (isinstance(obj, int) or hasattr(obj, "fileno")):
        raise TypeError(
            f"PIPE, DEVNULL, STDOUT, a tpio pipe or a file is needed, not {type(obj).__name__!r}"
        )
    import msvcrt

    try:
        return msvcrt.get_osfhandle(obj if isinstance(obj, int) else obj.fileno())
    except OSError:
        if obj in (sys.__stdin__, sys.__stdout__, sys.__stderr__):
            return 0  # a program without standard handles
        raise


def _environment(env: Mapping[str, str] | None) -> str | None:
    if env is None:
        return None
    entries = {}
    for name, value in env.items():
        name, value = os.fspath(name), os.fspath(value)
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
    folder = None if cwd is None else os.fspath(cwd)
    default_pool()  # refuse before anything is made, when the interpreter is ending
    standard = _Standard()
    try:
        for number, what in enumerate((stdin, stdout, stderr)):
            standard.set(number, what)
        process, job, pid = _tpio.start_process(
            None, command, environment, folder, creationflags, standard.handles
        )
    except BaseException:
        standard.close_ours()
        raise
    finally:
        standard.close_theirs()
    return Process(args, process, job, pid, standard.ends)
