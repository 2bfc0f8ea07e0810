"""A child that hangs with its output on a pipe: it can be abandoned, and nothing else notices."""

import time
from concurrent.futures import CancelledError

import pytest

import tpio
from ends import cancel_and_wait, child, closing, tcp_pair
from support import WAIT, bound_handles, eventually, os_handles, pending

HANGS = "import sys, time; print('ready', flush=True); time.sleep(600)"
WRITES = "import sys; [sys.stdout.buffer.write(bytes(65536)) for _ in range(10000)]"


@pytest.fixture
def hanging():
    """(process, our end of its stdout); it has written "ready" and hangs."""
    reader, theirs = tpio.pipe(inherit="write")
    with closing(reader, theirs):
        process = child(HANGS, stdout=theirs)
        try:
            yield process, reader
        finally:
            process.kill()
            process.wait(WAIT)


def ready(reader):
    data = b""
    while b"ready" not in data:
        part = reader.read(100).result(WAIT)
        assert part, "the child has ended"
        data += part


def test_a_child_that_hangs_can_be_abandoned_while_other_io_goes_on(hanging):
    process, output = hanging
    ready(output)
    pending_read = output.read(100)
    server, client = tcp_pair()
    reader, writer = tpio.pipe()
    with closing(server, client, reader, writer):
        for number in range(200):
            message = b"%d" % number
            reads = server.recv(100), reader.read(100)
            client.send(message)
            writer.write(message)
            assert [future.result(WAIT) for future in reads] == [message] * 2
        assert not pending_read.done()
        assert tpio.default_pool().submit(pow, 2, 10).result(WAIT) == 1024
        tpio.sleep(0.01).result(WAIT)
    cancel_and_wait(pending_read)
    output.close()
    assert process.poll() is None  # abandoned, not ended


def test_closing_our_end_ends_the_read_of_a_child_that_hangs(hanging):
    process, output = hanging
    ready(output)
    future = output.read(100)
    started = time.monotonic()
    output.close()
    assert future.cancelled()
    assert time.monotonic() - started < WAIT / 2
    assert process.poll() is None


def test_the_end_of_a_killed_child_is_the_end_of_its_output(hanging):
    process, output = hanging
    ready(output)
    future = output.read(100)
    process.kill()
    assert future.result(WAIT) == b""


def test_a_child_whose_output_nobody_reads_ends_when_our_end_is_closed():
    reader, theirs = tpio.pipe(inherit="write")
    with closing(reader, theirs):
        process = child(WRITES, stdout=theirs)
        assert reader.read(1000).result(WAIT)
        reader.close()
        assert process.wait(WAIT) != 0


def test_a_write_to_a_child_that_does_not_read_can_be_abandoned():
    theirs, writer = tpio.pipe(inherit="read")
    output, out = tpio.pipe(inherit="write")
    with closing(writer, theirs, output, out):
        process = child(HANGS, stdin=theirs, stdout=out)
        try:
            ready(output)
            future = writer.write(bytes(1 << 20))
            assert not future.done()
            future.cancel()
            with pytest.raises(CancelledError):
                future.result(WAIT)
        finally:
            process.kill()
            process.wait(WAIT)


@pytest.mark.once
def test_abandoning_many_children_leaks_nothing():
    def abandon():
        reader, theirs = tpio.pipe(inherit="write")
        with closing(reader, theirs):
            process = child(HANGS, stdout=theirs)
            try:
                ready(reader)
                future = reader.read(100)
                reader.close()
                assert future.cancelled()
            finally:
                process.kill()
                process.wait(WAIT)

    abandon()
    bound, handles = bound_handles(), os_handles()
    for _ in range(5):
        abandon()
    assert eventually(lambda: pending() == 0 and bound_handles() <= bound)
    assert eventually(lambda: os_handles() <= handles + 4, 10), (handles, os_handles())
