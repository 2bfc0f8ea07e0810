"""spawn: children on real pipes, who inherit nothing else, and end with all that they have started."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import msvcrt
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import CancelledError
from ctypes import wintypes

import pytest

import tpio
import wines
from support import WAIT, at_once, eventually, long, os_handles, python
from tpio import DEVNULL, PIPE, STDOUT

PYTHON = [sys.executable, "-I", "-S", "-c"]
ECHO = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
STAY = "import os; os.read(0, 1)"  # until its stdin is closed or gets something
HANG = "import time; time.sleep(1000)"

kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
kernel32.OpenProcess.restype = wintypes.HANDLE


def run(code, *args, **options):
    return tpio.spawn([*PYTHON, code, *args], **options)


def output(code, *args, **options):
    with run(code, *args, stdout=PIPE, **options) as process:
        out, _ = process.communicate().result(WAIT)
        assert process.returncode == 0
        return out.decode().replace("\r\n", "\n")


def open_process(pid):
    """A handle that tells when the process has ended."""
    handle = kernel32.OpenProcess(0x00100000, False, pid)  # SYNCHRONIZE
    assert handle, ctypes.WinError(ctypes.get_last_error())
    return handle


def has_ended(handle):
    return kernel32.WaitForSingleObject(wintypes.HANDLE(handle), 0) == 0


# ---- arguments


@pytest.mark.parametrize(
    "args",
    [[], [""], ["a b", "c"], ['say "hi"'], ["back\\slash\\", 'q\\"'], ["%PATH%", "^&|<>"], ["ä€😀"], ["\t"]],
    ids=ascii,
)
def test_a_list_arrives_as_it_is(args):
    code = "import sys; sys.stdout.buffer.write(ascii(sys.argv[1:]).encode())"
    assert output(code, *args) == ascii(args)


def test_a_command_line_is_taken_as_it_is():
    with tpio.spawn(f'"{sys.executable}" -I -S -c "print(1 + 1)"', stdout=PIPE) as process:
        assert process.communicate().result(WAIT)[0].strip() == b"2"


def test_a_path_alone_and_paths_in_a_list():
    # Not Python: without arguments it reads its standard input, and on Wine 10 it takes NUL for a console and fails.
    alone = pathlib.Path(os.environ["SYSTEMROOT"], "System32", "hostname.exe")
    with tpio.spawn(alone, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL) as process:
        assert process.communicate().result(WAIT)[0].strip().lower() == os.environ["COMPUTERNAME"].lower().encode()
        assert process.wait(WAIT).result(WAIT) == 0
    with tpio.spawn([pathlib.Path(sys.executable), b"-c", "print(3)"], stdout=PIPE) as process:
        assert process.communicate().result(WAIT)[0].strip() == b"3"


def test_the_environment_is_ours_or_the_one_given(monkeypatch):
    code = "import os; print(os.environ.get('TPIO_A'), os.environ.get('TPIO_B'))"
    monkeypatch.setenv("TPIO_A", "ours")
    assert output(code) == "ours None\n"
    env = {**os.environ, "TPIO_B": "theirs ="}
    del env["TPIO_A"]
    assert output(code, env=env) == "None theirs =\n"


def test_an_empty_environment_is_an_environment():
    with tpio.spawn("cmd.exe /c exit 3", env={}) as process:
        assert process.wait(WAIT).result(WAIT) == 3


def test_the_working_directory(tmp_path):
    for folder in (tmp_path, str(tmp_path)):
        assert os.path.samefile(output("import os; print(os.getcwd())", cwd=folder).strip(), tmp_path)


def test_creation_flags_reach_the_system():
    suspended = 4
    with run("pass", creationflags=suspended) as process:
        with pytest.raises(TimeoutError):
            process.wait(0.2).result(WAIT)
        process.kill()
        assert process.wait(WAIT).result(WAIT) == 1


# ---- standard handles


def test_pipes_in_both_directions():
    with run(ECHO, stdin=PIPE, stdout=PIPE) as process:
        assert process.stderr is None
        assert process.stdin.write(b"hello").result(WAIT) == 5
        process.stdin.close()
        assert process.stdout.read(100).result(WAIT) == b"hello"
        assert process.stdout.read(100).result(WAIT) == b""
        assert process.wait().result(WAIT) == 0


def test_devnull_is_empty_and_swallows():
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(len(sys.stdin.buffer.read()))"
    with run(code, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL) as process:
        assert (process.stdin, process.stdout, process.stderr) == (None, None, None)
        assert process.communicate().result(WAIT) == (b"", b"")
        assert process.returncode == 0


def test_stderr_may_go_with_stdout():
    code = "import os; os.write(1, b'out'); os.write(2, b'err'); os.write(1, b'out')"
    with run(code, stdout=PIPE, stderr=STDOUT) as process:
        assert process.stderr is None
        assert process.communicate().result(WAIT) == (b"outerrout", b"")


def test_stderr_alone():
    with run("import os; os.write(2, b'err')", stderr=PIPE) as process:
        assert process.communicate().result(WAIT) == (b"", b"err")


def test_file_objects_and_descriptors():
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
        source.write(b"from a file")
        source.flush()
        source.seek(0)
        with run(ECHO, stdin=source, stdout=target.fileno()) as process:
            assert process.wait().result(WAIT) == 0
        target.seek(0)
        assert target.read() == b"from a file"
        assert not os.get_handle_inheritable(msvcrt.get_osfhandle(target.fileno()))


def test_a_tpio_pipe_made_for_a_child_and_a_chain_of_two_children():
    theirs, writer = tpio.pipe(inherit="read")
    reader, output_end = tpio.pipe(inherit="write")
    with run(ECHO, stdin=theirs, stdout=PIPE) as first:
        theirs.close()
        with run(ECHO, stdin=PIPE, stdout=output_end) as second:
            output_end.close()
            writer.write(b"through two").result(WAIT)
            writer.close()
            data = first.stdout.read(100).result(WAIT)
            second.communicate(data).result(WAIT)
            assert reader.read(100).result(WAIT) == b"through two"
            assert reader.read(100).result(WAIT) == b""
    reader.close()


def test_without_anything_said_the_child_has_our_handles():
    code = """if True:
        import subprocess, sys, tpio
        with tpio.spawn([sys.executable, "-I", "-S", "-c", "import os; os.write(1, os.read(0, 9)); os.write(2, b'e')"]) as p:
            sys.exit(p.wait().result(60))
    """
    done = subprocess.run(
        [sys.executable, "-c", code], input=b"our stdin", capture_output=True, timeout=WAIT, check=True
    )
    assert (done.stdout, done.stderr) == (b"our stdin", b"e")


def test_overlapped_handles_are_no_standard_handles(tmp_path):
    reader, writer = tpio.pipe()
    with reader, writer, tpio.open(tmp_path / "file", "wb") as file:
        for end in (writer, file):
            with pytest.raises(ValueError, match="overlapped"):
                run("pass", stdout=end)


# ---- who inherits what


def test_a_child_inherits_its_three_handles_and_nothing_else():
    """Every value that is a handle of ours, or of a pipe's other end, must mean nothing to the child."""
    inheritable = [os.pipe() for _ in range(5)]
    for pair in inheritable:
        for end in pair:
            os.set_inheritable(end, True)
    reader, writer = tpio.pipe(inherit="write")
    with reader, writer, run(STAY, stdin=PIPE, stdout=PIPE) as other:
        ours = [msvcrt.get_osfhandle(end) for pair in inheritable for end in pair]
        ours += [reader.fileno(), writer.fileno(), other.stdin.fileno(), other.stdout.fileno()]
        code = """if True:
            import ctypes, sys
            from ctypes import wintypes
            kernel32 = ctypes.WinDLL("kernel32")
            pipes = 0
            for value in range(4, 8192, 4):
                if kernel32.GetFileType(wintypes.HANDLE(value)) == 3:
                    pipes += 1
            print(pipes)
        """
        # The python.exe of a virtual environment is a launcher, which gives Python inheritable handles of its own.
        real_python = getattr(sys, "_base_executable", sys.executable)
        with tpio.spawn([real_python, "-I", "-c", code], stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
            out, err = process.communicate().result(WAIT)
        assert int(out) == 3, (out, err, ours)
    for pair in inheritable:
        for end in pair:
            os.close(end)


@pytest.mark.once
def test_a_storm_of_spawns_leaks_no_pipe_into_another_child():
    """8 threads, 400 children; 160 unless TPIO_LONG=1. Some stay meanwhile: if one of those had another's pipe, that one's
    end of file would not come. Each batch ends before those that stay do."""
    threads, batches, batch = 8, 5 if long else 2, 9
    ended = []

    def storm():
        for _ in range(batches):
            stays = tpio.spawn("cmd.exe /d /c set /p x=", stdin=PIPE, stdout=PIPE, stderr=PIPE)
            for _ in range(batch):
                word = f"{random.getrandbits(64):x}"
                with tpio.spawn(f"cmd.exe /d /c echo {word}", stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
                    out, err = process.communicate(timeout=WAIT).result(2 * WAIT)
                    assert (out.strip(), err, process.returncode) == (word.encode(), b"", 0)
                ended.append(process.pid)
            assert stays.poll() is None
            with stays:
                stays.communicate(b"\r\n", timeout=WAIT).result(2 * WAIT)
            ended.append(stays.pid)

    at_once(*[storm] * threads)
    assert len(ended) == threads * batches * (batch + 1)


# ---- the end


@pytest.mark.parametrize("code", [0, 1, 259, 0x7FFFFFFF, 0xC0000005])
def test_the_exit_code_whatever_it_is(code):
    with run("import os, sys; os._exit(int(sys.argv[1]))", str(code - (1 << 32) if code >> 31 else code)) as process:
        assert process.wait().result(WAIT) == code
        assert process.returncode == code
        assert process.poll() == code
        assert process.wait(0).result(WAIT) == code


def test_wait_times_out_and_can_be_asked_again():
    with run(STAY, stdin=PIPE) as process:
        for timeout in (0, 0.02):
            with pytest.raises(TimeoutError, match=f"process {process.pid} has not ended") as caught:
                process.wait(timeout).result(WAIT)
            assert caught.value.winerror == 1460  # ERROR_TIMEOUT
        assert process.poll() is None and process.returncode is None
        waits = [process.wait() for _ in range(10)]
        process.stdin.close()
        assert [wait.result(WAIT) for wait in waits] == [0] * 10


def test_a_cancelled_wait_leaves_the_process_alone():
    with run(STAY, stdin=PIPE) as process:
        waiting = process.wait()
        assert waiting.cancel()
        with pytest.raises(CancelledError):
            waiting.result(WAIT)
        assert process.poll() is None
        process.stdin.close()
        assert process.wait().result(WAIT) == 0


def test_closing_the_object_ends_what_is_pending_and_leaves_the_process():
    process = run(STAY, stdin=PIPE, stdout=PIPE)
    handle = open_process(process.pid)
    pending = [process.wait(), process.wait(WAIT), process.stdout.read(1)]
    stdin, process.stdin = process.stdin, None
    process.close()
    process.close()
    for future in pending:
        with pytest.raises(CancelledError):
            future.result(WAIT)
    assert not has_ended(handle)
    for use in (process.wait, process.kill, process.communicate):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert process.poll() is None
    stdin.close()
    assert tpio.wait_for_handle(handle, WAIT).result(2 * WAIT)
    kernel32.CloseHandle(wintypes.HANDLE(handle))


def test_a_dropped_object_leaves_its_pipes_to_who_has_them():
    out = run("import os; os.write(1, b'still')", stdout=PIPE).stdout
    gc.collect()
    with out:
        assert out.read(100).result(WAIT) == b"still"
        assert out.read(100).result(WAIT) == b""


def test_kill_ends_the_process_and_is_no_error_afterwards():
    with run(HANG) as process:
        process.kill()
        assert process.wait().result(WAIT) == 1
        process.kill()
        assert process.wait().result(WAIT) == 1


def test_a_process_can_be_waited_for_as_any_other_object():
    with run(STAY, stdin=PIPE) as process:
        assert tpio.wait_for_handle(process, 0.01).result(WAIT) is False
        ended = tpio.wait_for_handle(process, WAIT)
        process.stdin.close()
        assert ended.result(2 * WAIT) is True
        assert has_ended(process.handle)
    with pytest.raises(ValueError, match="the process object is closed"):
        tpio.wait_for_handle(process)


def test_signals_of_a_process():
    with run(STAY, stdin=PIPE) as process:
        with pytest.raises(ValueError, match="unsupported signal: 2"):
            process.send_signal(signal.SIGINT)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait().result(WAIT) == 1
        for number in (signal.SIGTERM, signal.CTRL_BREAK_EVENT):
            process.send_signal(number)  # it has ended: nothing
        process.terminate()


@wines.skipif("a program that is started by a pipe, as here, has no console")
def test_ctrl_break_goes_to_the_group_that_a_process_leads():
    code = """if True:
        import os, signal, time
        signal.signal(signal.SIGBREAK, lambda number, frame: os._exit(42))
        print("ready", flush=True)
        while True:
            time.sleep(0.01)
    """
    with run(code, stdout=PIPE, creationflags=subprocess.CREATE_NEW_PROCESS_GROUP) as process:
        assert process.stdout.read(100).result(WAIT).split() == [b"ready"]
        process.send_signal(signal.CTRL_BREAK_EVENT)
        assert process.wait().result(WAIT) == 42


TREE = """if True:
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(1000)"],
                             stdin=subprocess.DEVNULL, stdout=sys.stdout, stderr=subprocess.DEVNULL)
    print("started", child.pid, flush=True)
    time.sleep(1000)
"""


def test_kill_ends_the_grandchildren_too():
    with tpio.spawn([sys.executable, "-I", "-c", TREE], stdout=PIPE) as process:
        grandchild = open_process(int(process.stdout.read(100).result(WAIT).split()[1]))
        assert not has_ended(grandchild)
        process.kill()
        assert tpio.wait_for_handle(grandchild, WAIT).result(2 * WAIT)
        assert process.wait().result(WAIT) == 1
    kernel32.CloseHandle(wintypes.HANDLE(grandchild))


def test_a_hung_child_with_a_grandchild_on_the_same_pipe():
    """What tpio is for: with blocking reads nobody would come back from this."""
    before = os_handles()
    with tpio.spawn([sys.executable, "-I", "-c", TREE], stdout=PIPE, stderr=STDOUT) as process:
        child = open_process(process.pid)
        line = process.stdout.read(1000).result(WAIT)
        assert line.startswith(b"started ")
        grandchild = open_process(int(line.split()[1]))
        with pytest.raises(TimeoutError):
            process.stdout.read(1000).result(0.2)
        process.stdout.cancel()
        with pytest.raises(TimeoutError) as caught:
            process.communicate(timeout=0.2).result(WAIT)
        assert (caught.value.stdout, caught.value.stderr) == (b"", b"")
        assert not has_ended(child) and not has_ended(grandchild)
        process.kill()
        assert process.communicate().result(WAIT) == (b"", b"")
        assert process.returncode == 1
        assert tpio.wait_for_handle(child, WAIT).result(2 * WAIT)
        assert tpio.wait_for_handle(grandchild, WAIT).result(2 * WAIT)
    kernel32.CloseHandle(wintypes.HANDLE(child))
    kernel32.CloseHandle(wintypes.HANDLE(grandchild))
    del process, caught
    assert eventually(lambda: os_handles() <= before + 8, 10)  # + what is made on first use


def test_the_example_of_the_hung_child():
    example = pathlib.Path(__file__).parent.parent / "examples" / "hung_child.py"
    if not example.exists():
        pytest.skip("the examples are not here: tests of an installed tpio")
    done = python(f"import runpy; runpy.run_path({str(example)!r}, run_name='__main__')")
    assert done.returncode == 0, done.stderr
    assert "goes on" in done.stdout


def test_a_child_that_outlives_us_does_not_hold_up_our_exit():
    code = """if True:
        import sys, tpio
        child = tpio.spawn([sys.executable, "-I", "-S", "-c", "import os; os.read(0, 1)"],
                           stdin=tpio.PIPE, stdout=tpio.PIPE)
        forgotten = tpio.spawn([sys.executable, "-I", "-S", "-c", "import time; time.sleep(1000)"],
                               stdin=tpio.DEVNULL, stdout=tpio.DEVNULL, stderr=tpio.DEVNULL)
        pending = child.stdout.read(1), child.wait(), child.communicate(timeout=1000), forgotten.wait()
        print(forgotten.pid, flush=True)
    """
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    pid = int(done.stdout)
    handle = kernel32.OpenProcess(0x00100001, False, pid)  # SYNCHRONIZE | PROCESS_TERMINATE
    assert handle and not has_ended(handle)
    assert kernel32.TerminateProcess(wintypes.HANDLE(handle), 1)
    assert tpio.wait_for_handle(handle, WAIT).result(2 * WAIT)
    kernel32.CloseHandle(wintypes.HANDLE(handle))


# ---- communicate


def test_megabytes_go_both_ways_at_once():
    code = """if True:
        import os, threading
        def copy(source, *targets):
            while data := os.read(source, 65536):
                for target in targets:
                    view = memoryview(data)
                    while view:
                        view = view[os.write(target, view):]
        copy(0, 1, 2)
    """
    data = random.randbytes(4_000_000)
    with run(code, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        out, err = process.communicate(data).result(WAIT)
        assert out == data and err == data
        assert process.returncode == 0
        assert process.communicate().result(WAIT) == (out, err)
        assert process.stdin.closed and process.stdout.closed and process.stderr.closed


@pytest.mark.parametrize("make", [bytearray, memoryview, lambda data: memoryview(bytearray(data))])
def test_any_bytes_like_input(make):
    with run(ECHO, stdin=PIPE, stdout=PIPE) as process:
        assert process.communicate(make(b"abc" * 1000)).result(WAIT)[0] == b"abc" * 1000


def test_a_child_that_does_not_read_its_input_is_no_error():
    with run("pass", stdin=PIPE, stdout=PIPE) as process:
        assert process.communicate(bytes(1_000_000)).result(WAIT) == (b"", b"")
        assert process.returncode == 0


def test_after_a_timeout_nothing_is_lost():
    code = """if True:
        import os
        os.write(1, b"first ")
        os.write(2, b"error ")
        data = b""
        while not data.endswith(b"!"):
            data += os.read(0, 65536)
        os.write(1, str(len(data)).encode())
    """
    with run(code, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        first = process.stdout.read(6).result(WAIT)
        assert first == b"first "
        seen = b""
        while seen != b"error ":
            seen += process.stderr.read(6).result(WAIT)
        with pytest.raises(TimeoutError) as caught:
            process.communicate(bytes(1_000_000), timeout=0.1).result(WAIT)
        assert caught.value.stdout == b""
        with pytest.raises(ValueError, match="earlier communicate"):
            process.communicate(b"more")
        process.kill()
        assert process.communicate().result(WAIT) == (b"", b"")


def test_what_was_read_before_a_timeout_comes_again_with_the_rest():
    theirs, go = tpio.pipe(inherit="read")
    code = """if True:
        import os
        for n in range(100):
            os.write(1, b"out%02d" % n)
            os.write(2, b"err%02d" % n)
        os.read(0, 1)
        os.write(1, b"last")
    """
    out = b"".join(b"out%02d" % n for n in range(100))
    err = b"".join(b"err%02d" % n for n in range(100))
    with go, run(code, stdin=theirs, stdout=PIPE, stderr=PIPE) as process:
        theirs.close()
        seen = b"", b""
        while seen != (out, err):  # in many slices, each of which ends with a cancel that races with data
            with pytest.raises(TimeoutError) as caught:
                process.communicate(timeout=random.random() / 50).result(WAIT)
            assert len(caught.value.stdout) >= len(seen[0]) and len(caught.value.stderr) >= len(seen[1])
            seen = caught.value.stdout, caught.value.stderr
        go.write(b"x").result(WAIT)
        assert process.communicate().result(WAIT) == (out + b"last", err)


def test_input_that_was_on_its_way_at_a_timeout_arrives():
    data = random.randbytes(500_000)
    theirs, go = tpio.pipe(inherit="read")
    code = "import os, sys; os.read(2, 1); sys.stdout.buffer.write(sys.stdin.buffer.read())"  # stderr: to be told when
    with go, run(code, stdin=PIPE, stdout=PIPE, stderr=theirs) as process:
        theirs.close()
        with pytest.raises(TimeoutError):
            process.communicate(data, timeout=0.05).result(WAIT)
        with pytest.raises(TimeoutError):
            process.communicate(timeout=0.05).result(WAIT)
        go.write(b"x").result(WAIT)
        assert process.communicate().result(WAIT) == (data, b"")


def test_a_cancelled_communicate_can_be_repeated():
    with run(ECHO, stdin=PIPE, stdout=PIPE) as process:
        process.stdin.write(b"early ").result(WAIT)
        stdin, process.stdin = process.stdin, None
        talking = process.communicate()
        with pytest.raises(RuntimeError, match="under way"):
            process.communicate()
        assert talking.cancel()
        with pytest.raises(CancelledError):
            talking.result(WAIT)
        stdin.write(b"late").result(WAIT)
        stdin.close()
        assert process.communicate().result(WAIT) == (b"early late", b"")


def test_a_task_communicates_and_times_out():
    async def main():
        with run(ECHO, stdin=PIPE, stdout=PIPE) as process:
            assert await process.communicate(b"hello") == (b"hello", b"")
            assert await process.wait() == 0
        with run(HANG, stdout=PIPE) as process:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(process.communicate(), 0.05)
            with pytest.raises(TimeoutError):
                await process.wait(0.05)
            process.kill()
            assert await process.communicate() == (b"", b"")

    asyncio.run(main())


def test_many_processes_are_waited_for_by_few_threads():
    with tpio.Pool():
        processes = [tpio.spawn("cmd.exe /d /c set /p x=", stdin=PIPE, stdout=DEVNULL) for _ in range(20)]
        waits = [process.wait() for process in processes]
        assert not any(wait.done() for wait in waits)
        for process in processes:
            process.stdin.close()
        for wait in waits:
            wait.result(WAIT)
        for process in processes:
            process.close()


# ---- misuse


def test_a_program_that_is_not_there_or_is_none(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        tpio.spawn(["tpio-no-such-program", "x"], stdin=PIPE, stdout=PIPE)
    assert caught.value.winerror == 2
    text = tmp_path / "text.exe"
    text.write_text("no program")
    with pytest.raises(OSError, match=".") as caught:
        tpio.spawn([text], stdin=PIPE, stdout=PIPE)
    assert caught.value.winerror in (193, 216, 5)


def test_a_working_directory_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match=".") as caught:
        run("pass", cwd=tmp_path / "nowhere")
    assert caught.value.winerror in (267, 2, 3)


@pytest.mark.parametrize("args", ["", [], "a\0b", ["a\0b"]], ids=ascii)
def test_a_command_that_is_none(args):
    with pytest.raises(ValueError, match=r"no program|null"):
        tpio.spawn(args)


@pytest.mark.parametrize("args", [None, 1, b"cmd", [1], [None], object()], ids=ascii)
def test_a_command_of_the_wrong_type(args):
    with pytest.raises(TypeError):
        tpio.spawn(args)


@pytest.mark.parametrize(
    ("env", "error"),
    [
        ({"A": "x\0"}, ValueError),
        ({"A\0": "x"}, ValueError),
        ({"A=B": "x"}, ValueError),
        ({"": "x"}, ValueError),
        ({"A": 1}, TypeError),
        ({b"A": b"x"}, TypeError),
        ([("A", "x")], TypeError),
        ("A=x", TypeError),
    ],
)
def test_an_environment_that_is_none(env, error):
    with pytest.raises(error):
        run("pass", env=env)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"stdin": "PIPE"}, TypeError),
        ({"stdout": 1.5}, TypeError),
        ({"stdout": True}, TypeError),
        ({"stdout": object()}, TypeError),
        ({"stdin": STDOUT}, ValueError),
        ({"stdout": STDOUT}, ValueError),
        ({"stdout": 12345}, OSError),
        ({"stdout": -77}, OSError),
        ({"cwd": 1}, TypeError),
        ({"cwd": "a\0b"}, ValueError),
        ({"creationflags": "x"}, TypeError),
    ],
    ids=ascii,
)
def test_misuse_is_refused_and_nothing_is_left(options, error):
    with pytest.raises(error):
        run("pass", **{"stderr": PIPE, "stdin": PIPE, **options})


def test_a_closed_file_or_pipe_is_refused(tmp_path):
    file = open(tmp_path / "file", "wb")
    file.close()
    reader, writer = tpio.pipe(inherit="write")
    reader.close()
    writer.close()
    for stdout in (file, writer):
        with pytest.raises(ValueError, match="closed"):
            run("pass", stdin=PIPE, stdout=stdout)


def test_misuse_of_wait_and_communicate_is_refused_at_once():
    with run(STAY, stdin=PIPE, stdout=PIPE) as process:
        for timeout in (-1, float("nan")):
            with pytest.raises(ValueError, match="negative"):
                process.wait(timeout)
            with pytest.raises(ValueError, match="negative"):
                process.communicate(timeout=timeout)
        for bad in ("text", 1, [b"x"]):
            with pytest.raises(TypeError):
                process.communicate(bad)
        assert not process.stdin.closed
        assert process.communicate(b"x").result(WAIT) == (b"", b"")
    with run("pass") as process:
        with pytest.raises(ValueError, match="stdin=PIPE"):
            process.communicate(b"x")
        assert process.wait().result(WAIT) == 0
    with run("pass", stdin=PIPE) as process:
        process.stdin.close()
        with pytest.raises(ValueError, match="closed"):
            process.communicate(b"x")
        assert process.communicate().result(WAIT) == (b"", b"")


def test_threads_that_close_kill_and_wait_at_once():
    for _ in range(5):
        process = tpio.spawn("cmd.exe /d /c set /p x=", stdin=PIPE, stdout=PIPE)
        handle = open_process(process.pid)

        def use(function):
            def used():
                for _ in range(20):
                    try:
                        function()
                    except (ValueError, CancelledError):
                        return

            return used

        at_once(
            use(lambda process=process: process.wait(0.01).exception(WAIT)),
            use(process.poll),
            use(process.kill),
            process.close,
        )
        assert tpio.wait_for_handle(handle, WAIT).result(2 * WAIT)  # its stdin is closed, if it was not killed
        kernel32.CloseHandle(wintypes.HANDLE(handle))


def test_a_process_says_who_it_is():
    with run(STAY, stdin=PIPE) as process:
        assert repr(process) == f"<tpio.Process pid={process.pid} running>"
        assert process.args == [*PYTHON, STAY]
        process.stdin.close()
        assert process.wait().result(WAIT) == 0
        assert repr(process) == f"<tpio.Process pid={process.pid} returncode=0>"
