"""What a child is given: its arguments when it is a batch file, its environment, its console, its job."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import tpio
from ends import WAIT, closing, tcp_pair
from tpio import PIPE, _command_line, _processes, _tpio

PYTHON = [sys.executable, "-I", "-c"]


# ---- batch files


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    path = tmp_path / "with space" / "show it.bat"
    path.parent.mkdir()
    path.write_text("@echo off\r\necho [%1] [%2]\r\n")
    return path


def shown(command: list[object], **options: object) -> str:
    with tpio.spawn(command, stdout=PIPE, stderr=tpio.STDOUT, **options) as process:
        data, _ = process.communicate(timeout=WAIT).result(WAIT)
        assert process.returncode == 0
    return data.decode().strip()


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ("", '""'),
        ("a&echo INJECTED", '"a&echo INJECTED"'),
        ('"&echo INJECTED', '"""&echo INJECTED"'),
        ('x" & echo INJECTED & rem "', '"x"" & echo INJECTED & rem """'),
        ("a|b>c<d^e", '"a|b>c<d^e"'),
        ("(1)", '"(1)"'),
        ("!PATH!", '"!PATH!"'),
        ("end\\", '"end\\\\"'),
        ("a=b,c;d", '"a=b,c;d"'),
    ],
)
def test_an_argument_reaches_a_batch_file_as_one_and_runs_nothing(batch, argument, expected):
    assert shown([batch, argument, "second"]) == f"[{expected}] [second]"


@pytest.mark.parametrize("argument", ["%PATH%", "100%", "a\nb", "a\r\nb"])
def test_an_argument_that_cmd_cannot_pass_on_is_refused(batch, argument):
    with pytest.raises(ValueError, match=r"args: cmd\.exe cannot pass"):
        tpio.spawn([batch, argument])
    with pytest.raises(ValueError, match="null"):
        tpio.spawn([batch, "a\0b"])


@pytest.mark.parametrize("ending", [".BAT", ".cmd", ".Cmd"])
def test_batch_files_are_known_by_their_name(tmp_path, ending):
    path = tmp_path / f"show{ending}"
    path.write_text("@echo [%1] [%2]\r\n")
    assert shown([str(path), "a&b", "c"]) == '["a&b"] [c]'
    assert _command_line.is_batch_file("x.bat. . ")  # Windows ignores such an end
    assert not _command_line.is_batch_file("bat.exe")


def test_a_batch_file_is_found_as_a_program_is(batch, monkeypatch):
    monkeypatch.setenv("PATH", f"{batch.parent}{os.pathsep}{os.environ['PATH']}")
    assert shown([batch.name, "x", "y"]) == "[x] [y]"


def test_a_batch_file_that_is_relative_is_found_from_here(batch, monkeypatch, tmp_path):
    monkeypatch.chdir(batch.parent)
    other = tmp_path / "other"
    other.mkdir()
    assert shown([os.path.join(".", batch.name), "x", "y"], cwd=other) == "[x] [y]"


def test_a_batch_file_that_is_not_there_is_not_found(tmp_path):
    for program in (tmp_path / "missing.bat", "tpio-missing.cmd"):
        with pytest.raises(FileNotFoundError) as caught:
            tpio.spawn([program, "x"])
        assert caught.value.filename == str(program)


# ---- the environment


def test_names_that_python_takes_for_one_are_two_to_windows():
    env = {**os.environ, "TPIO_\u00df": "sharp", "TPIO_SS": "ss", "TPIO_\u0131": "dotless", "TPIO_I": "i"}
    code = "import os; print([os.environ.get('TPIO_' + n) for n in ('\\u00df', 'SS', '\\u0131', 'I')])"
    with tpio.spawn([*PYTHON, code], env=env, stdout=PIPE) as process:
        data, _ = process.communicate(timeout=WAIT).result(WAIT)
    # (Python in the child asks by str.upper(), and so finds the second of each pair twice: look at the block itself.)
    assert process.returncode == 0, data
    block = _command_line.environment_of({"\u00df": "1", "SS": "2", "\u0131": "3", "I": "4"})
    assert sorted(block.rstrip("\0").split("\0")) == sorted(["\u00df=1", "SS=2", "\u0131=3", "I=4"])


def test_of_names_that_are_one_to_windows_the_later_counts():
    block = _command_line.environment_of({"path": "1", "b": "0", "PATH": "2", "\u00e4": "3", "\u00c4": "4"})
    assert block == "b=0\0PATH=2\0\u00c4=4\0\0"


def test_the_block_is_ordered_as_windows_has_it():
    block = _command_line.environment_of({"_": "", "a": "", "B": "", "=C:": "C:\\", "Z": ""})
    assert block == "=C:=C:\\\0a=\0B=\0Z=\0_=\0\0"


# ---- consoles and handles

STANDARD = """if True:
    import ctypes, sys
    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.GetStdHandle.restype = ctypes.c_void_p
    kernel32.GetFileType.argtypes = [ctypes.c_void_p]
    kinds = [kernel32.GetFileType(kernel32.GetStdHandle(number) or 0) for number in (-10, -11, -12)]
    with open(sys.argv[1], "w") as file:
        file.write(repr(kinds))
"""
OWN_CONSOLE = [subprocess.CREATE_NEW_CONSOLE, subprocess.DETACHED_PROCESS, subprocess.CREATE_NO_WINDOW]


@pytest.mark.parametrize("flag", OWN_CONSOLE, ids=["new console", "detached", "no window"])
def test_a_child_with_its_own_console_gets_none_of_our_handles(flag, tmp_path):
    """As with subprocess. Our standard output is a pipe here, whose end would not come while the child lives."""
    program = f"""if True:
        import subprocess, sys
        import tpio
        with tpio.spawn([sys.executable, "-I", "-c", sys.argv[1], sys.argv[2]], creationflags={flag}) as process:
            process.wait({WAIT}).result()
        subprocess.run([sys.executable, "-I", "-c", sys.argv[1], sys.argv[3]], creationflags={flag})
    """
    ours, stock = tmp_path / "ours", tmp_path / "stock"
    done = subprocess.run([sys.executable, "-c", program, STANDARD, ours, stock], capture_output=True, timeout=WAIT)
    assert done.returncode == 0, done.stderr
    assert ours.read_text() == stock.read_text()
    pipe = 3
    assert pipe not in eval(ours.read_text())


@pytest.mark.parametrize("flag", [0, *OWN_CONSOLE])
def test_what_is_redirected_is_redirected_whatever_the_console(flag):
    with tpio.spawn([*PYTHON, "print(input())"], stdin=PIPE, stdout=PIPE, creationflags=flag) as process:
        assert process.communicate(b"x\n", WAIT).result(WAIT)[0].strip() == b"x"


def test_flags_may_be_negative_as_pywin32_has_them():
    assert _tpio.flags_of(-2147483648, "flags") == 0x80000000
    for value in (2**32, -(2**31) - 1):
        with pytest.raises(OverflowError, match="creationflags"):
            tpio.spawn("cmd.exe", creationflags=value)


# ---- our own standard input


def test_a_child_gets_nul_while_our_standard_input_is_being_read(monkeypatch):
    """Windows does not say what a pipe is while another thread reads from it, and the child's C runtime asks."""
    answer, asked = threading.Event(), threading.Event()

    def ask(handle: int) -> int:
        asked.set()
        assert answer.wait(WAIT)
        return 3

    reader, writer = tpio.pipe(inherit="read")
    with closing(reader, writer):
        standard = _tpio.standard_handle
        monkeypatch.setattr(_tpio, "standard_handle", lambda n: reader.fileno() if n == 0 else standard(n))
        code = "import sys; print(len(sys.stdin.read()))"
        with tpio.spawn([*PYTHON, code], stdout=PIPE) as process:  # an answer at once: it is ours
            writer.write(b"four").result(WAIT)
            writer.close()
            assert process.communicate(timeout=WAIT).result(WAIT)[0].strip() == b"4"
        monkeypatch.setattr(_tpio, "ask_type", ask)
        try:
            for _ in range(2):  # the question is asked once
                with tpio.spawn([*PYTHON, code], stdout=PIPE) as process:
                    assert asked.is_set()
                    assert process.communicate(timeout=WAIT).result(WAIT)[0].strip() == b"0"
            probes = [each for each in threading.enumerate() if isinstance(each, _processes._Probe)]
            assert len(probes) == 1
        finally:
            answer.set()
        probes[0].join(WAIT)


# ---- jobs

DAEMON = """if True:
    import subprocess, sys
    flags = subprocess.CREATE_BREAKAWAY_FROM_JOB
    daemon = subprocess.Popen([sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE, creationflags=flags)
    print(daemon.pid, flush=True)
    input()
"""


def test_a_childs_child_may_break_away_and_outlives_kill():
    with tpio.spawn([*PYTHON, DAEMON], stdin=PIPE, stdout=PIPE) as process:
        assert process.has_job
        line = b""
        while not line.endswith(b"\n"):
            line += process.stdout.read(100).result(WAIT)
        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.OpenProcess.restype = ctypes.c_void_p
        all_access = 0x1FFFFF
        handle = kernel32.OpenProcess(all_access, False, int(line))
        assert handle
        job_of_daemon = ctypes.c_int()
        assert kernel32.IsProcessInJob(
            ctypes.c_void_p(handle), ctypes.c_void_p(process._job), ctypes.byref(job_of_daemon)
        )
        assert not job_of_daemon.value
        process.kill()
        process.wait(WAIT).result(WAIT)
        kernel32.TerminateProcess(ctypes.c_void_p(handle), 0)
        kernel32.CloseHandle(ctypes.c_void_p(handle))


def test_a_process_without_a_job_is_ended_alone():
    """As where the system refuses the job."""
    command = subprocess.list2cmdline([*PYTHON, "input()"])
    read, write = tpio.pipe(inherit="read")
    with closing(read, write):
        handles = [read.fileno(), 0, 0]
        process, job, pid = _tpio.start_process(None, command, None, None, 0, handles, "python")
        _tpio.close_handle(job)
        with _processes.Process._create(command, process, 0, pid, (None, None, None)) as child:
            assert not child.has_job
            child.kill()
            assert child.wait(WAIT).result(WAIT) == 1
            child.kill()  # no error: it has ended
        with pytest.raises(ValueError, match="closed"):
            _ = child.has_job


# ---- what is no standard handle


def test_objects_whose_fileno_is_no_descriptor_are_refused():
    ours, theirs = tcp_pair()
    one, other = multiprocessing.Pipe()
    plain = socket.socket()
    with closing(ours, theirs, one, other, plain):
        for name in ("stdin", "stdout", "stderr"):
            for wrong in (ours, one, plain):
                with pytest.raises(ValueError, match=f"{name}: .*overlapped.*PIPE"):
                    tpio.spawn(PYTHON, **{name: wrong})


def test_the_error_of_a_program_names_it_and_not_its_arguments(tmp_path):
    for command in (["tpio-missing", "secret"], "tpio-missing secret", '"tpio-missing" secret'):
        with pytest.raises(FileNotFoundError) as caught:
            tpio.spawn(command)
        assert caught.value.filename == "tpio-missing"
        assert "secret" not in str(caught.value)
    text = tmp_path / "text.exe"
    text.write_text("no program")
    with pytest.raises(OSError, match=r"text\.exe") as caught:
        tpio.spawn([text])
    assert "%1" not in str(caught.value)
