"""The interpreter ends, whatever is in flight: soon, with the right exit code, and without a word of ours."""

from __future__ import annotations

import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import exit_program
import support
import tpio

SIDE_BY_SIDE = 3
LATEST = 30  # seconds: what takes longer hangs
PROGRAMS = 10  # in one test
FIRST = int(os.environ.get("TPIO_EXIT") or random.randrange(1_000_000))  # the number of the first program


def end_of(*arguments):
    """(exit code, stdout, stderr, seconds) of an interpreter; a hang is an exit code too."""
    began = time.monotonic()
    with tpio.spawn([sys.executable, *arguments], stdin=tpio.DEVNULL, stdout=tpio.PIPE, stderr=tpio.PIPE) as process:
        late = False
        try:
            output = process.communicate(timeout=LATEST).result()
        except TimeoutError:
            late = True
            process.kill()  # with its children, which have its pipes
            output = process.communicate().result()
        stdout, stderr = (text.decode("utf-8", "backslashreplace").replace("\r\n", "\n") for text in output)
        code = "a hang" if late else process.wait().result()
    return code, stdout, stderr, time.monotonic() - began


def side_by_side(function, cases):
    """What the function says of the cases, in their order."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as executor:
        return list(executor.map(function, cases))


# ---- threads blocked in result() -------------------------------------------------------------------------------------

BLOCKED = """if True:
    import os, sys, threading
    from concurrent.futures import CancelledError
    import tpio

    def block(future):
        try:
            future.result()
        except CancelledError:
            os.write(1, b"cancelled ")

    listener = tpio.listen(("127.0.0.1", 0))
    (reader, writer), (unread, full) = tpio.pipe(), tpio.pipe()
    futures = [reader.read(1), reader.poll_read(), listener.accept(), tpio.sleep(1000), full.write(bytes(10**6))]
    for future in futures:
        threading.Thread(target=block, args=[future]).start()
        threading.Thread(target=block, args=[future], daemon=True).start()
    function = tpio.default_pool().submit(block, tpio.sleep(1000))
"""


@pytest.mark.once
def test_exits_with_operations_pending_and_threads_blocked():
    ways = [
        ("pass", 0, ""),
        ("sys.exit(7)", 7, ""),
        ("raise ZeroDivisionError", 1, "ZeroDivisionError"),
        ("raise KeyboardInterrupt", exit_program.INTERRUPTED, "KeyboardInterrupt"),
    ]

    def run(way):
        code, stdout, stderr, _ = end_of("-c", f"{BLOCKED}\n    {way[0]}")
        complaint = (stderr.splitlines() or [""])[-1]  # behind its traceback
        return code, complaint, stdout.count("cancelled") >= 5, stderr.count("Traceback") == (way[2] != "")

    cases = ways * 5
    assert side_by_side(run, cases) == [(code, complaint, True, True) for _, code, complaint in cases]


# ---- a callback that never returns, of what the exit cancels ---------------------------------------------------------

STUCK = """if True:
    import threading
    import tpio

    def wait(future):
        if not future.cancelled():
            print("it was not cancelled")
        threading.Event().wait()

    future = {future}
    future.add_done_callback(wait)
"""


@pytest.mark.once
def test_exits_while_a_callback_of_what_the_exit_cancels_never_returns():
    futures = ["tpio.sleep(1000)", "(ends := tpio.pipe())[0].read(1)", "tpio.listen(('127.0.0.1', 0)).accept()"]
    done = side_by_side(lambda future: end_of("-c", STUCK.format(future=future)), futures)
    assert [(code, stdout, stderr) for code, stdout, stderr, _ in done] == [(0, "", "")] * len(futures)


# ---- daemon threads that are stopped for good, wherever they are --------------------------------------------------------

DAEMON_LOOPS = """if True:
    import asyncio, threading
    import tpio

    async def wait_for(future):
        await future

    async def main():
        begun.wait()
        while True:
            future = tpio.Future()
            waiting = asyncio.ensure_future(wait_for(future))
            await asyncio.sleep(0)
            future.set_result(None)
            await waiting

    for _ in range(10):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(wait_for(tpio.sleep(0.001)))
        loop.close()
        loop.itself = loop  # it goes when everything goes
    begun = threading.Barrier(9)
    for _ in range(8):
        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    begun.wait()
"""


@pytest.mark.once
def test_exits_while_loops_of_daemon_threads_await(record_property):
    """Without a GIL, one of them may own a lock when it is stopped, which the end of the interpreter must not need."""
    programs = 4 if support.gil else 12
    done = side_by_side(lambda _: end_of("-c", DAEMON_LOOPS), range(programs))
    record_property("slowest", max(seconds for *_, seconds in done))
    assert [(code, stdout, stderr) for code, stdout, stderr, _ in done] == [(0, "", "")] * programs


# ---- everything in flight, every way to end --------------------------------------------------------------------------


def run_program(number, folder):
    """(seconds, what is wrong or "") of a program of exit_program.py."""
    plan = exit_program.plan(number)
    folder = folder / str(number)
    folder.mkdir()
    code, stdout, stderr, seconds = end_of(exit_program.__file__, str(number), str(folder))
    wrong = []
    if code != plan.exit_code:
        wrong.append(f"ended with {code}")
    complaints, expected = sorted(stderr.splitlines()), sorted(plan.complaints)
    if len(complaints) != len(expected) or not all(map(str.startswith, complaints, expected)):
        wrong.append(f"wrote to stderr:\n{stderr}")
    if plan.cleanly and sorted(stdout.split()) != ["ended"] * len(plan.waiting) + ["ending"]:
        wrong.append(f"its threads have not ended: {stdout.split()}")
    return seconds, f"TPIO_EXIT={number}: {', '.join(wrong)}\n{plan}" if wrong else ""


@pytest.mark.once
@pytest.mark.parametrize("part", range(20 if support.long else 2))
def test_programs_that_end_with_everything_in_flight(part, tmp_path, record_property):
    """Twenty programs, or two hundred if there is time, one way to end after the other."""
    first = FIRST + part * PROGRAMS
    numbers = range(first, first + PROGRAMS)
    done = side_by_side(lambda number: run_program(number, tmp_path), numbers)
    slowest = max(seconds for seconds, _ in done)
    record_property("slowest", slowest)
    print(f"programs {first} to {first + PROGRAMS - 1}: the slowest took {slowest:.1f} s")
    failed = [wrong for _, wrong in done if wrong]
    assert not failed, "\n\n".join(failed)
