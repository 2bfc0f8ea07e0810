"""Anonymous pipes, alone and with real children."""

import ctypes
import os
import threading

import pytest

import tpio
from ends import (
    callback_event,
    cancel_and_wait,
    child,
    closing,
    granted_access,
    is_synchronous,
    read_all,
    read_exactly,
)
from support import WAIT
from tpio._pipes import BUFFER_SIZE


@pytest.fixture
def ends():
    reader, writer = tpio.pipe()
    with closing(reader, writer):
        yield reader, writer


def test_a_read_gets_what_was_written(ends):
    reader, writer = ends
    assert writer.write(b"hello").result(WAIT) == 5
    assert reader.read(100).result(WAIT) == b"hello"


def test_a_read_waits_for_data(ends):
    reader, writer = ends
    future = reader.read(100)
    assert not future.done()
    writer.write(b"late").result(WAIT)
    assert future.result(WAIT) == b"late"


def test_a_short_read_leaves_the_rest(ends):
    reader, writer = ends
    writer.write(b"abcdef").result(WAIT)
    assert [reader.read(n).result(WAIT) for n in (1, 2, 9)] == [b"a", b"bc", b"def"]


def test_a_read_of_size_zero_gives_nothing_at_once(ends):
    reader, writer = ends
    future = reader.read(0)
    assert future.done() and future.result() == b""
    assert reader.read_into(bytearray()).result(0) == 0
    assert writer.write(b"").result(0) == 0
    writer.write(b"x").result(WAIT)
    assert reader.read(0).result(0) == b""
    assert reader.read(1).result(WAIT) == b"x"


def test_the_end_of_the_file_is_empty_and_stays(ends):
    reader, writer = ends
    writer.write(b"last").result(WAIT)
    writer.close()
    assert reader.read(100).result(WAIT) == b"last"
    assert reader.read(100).result(WAIT) == b""
    assert reader.read(100).result(WAIT) == b""
    assert reader.read_into(bytearray(10)).result(WAIT) == 0


def test_a_pending_read_ends_when_the_writer_closes(ends):
    reader, writer = ends
    future = reader.read(100)
    writer.close()
    assert future.result(WAIT) == b""


def test_a_write_to_a_pipe_whose_reader_is_gone_fails(ends):
    reader, writer = ends
    reader.close()
    with pytest.raises(BrokenPipeError) as caught:
        writer.write(b"x").result(WAIT)
    assert caught.value.winerror in (109, 232)


def test_a_pending_write_fails_when_the_reader_closes(ends):
    reader, writer = ends
    future = writer.write(bytes(8 * BUFFER_SIZE))
    assert not future.done()
    reader.close()
    with pytest.raises(BrokenPipeError):
        future.result(WAIT)


def test_read_into_reports_the_count_and_touches_nothing_more(ends):
    reader, writer = ends
    buffer = bytearray(b"........")
    writer.write(b"abc").result(WAIT)
    assert reader.read_into(buffer).result(WAIT) == 3
    assert buffer == b"abc....."
    writer.write(b"XY").result(WAIT)
    assert reader.read_into(memoryview(buffer)[5:7]).result(WAIT) == 2
    assert buffer == b"abc..XY."


def test_a_buffered_read_of_many_chunks_gives_the_same_bytes(ends):
    reader, writer = ends
    data = os.urandom(100_003)
    writing = writer.write(data)
    chunks = []
    while sum(map(len, chunks)) < len(data):
        chunks.append(reader.read(1 + len(chunks) % 997).result(WAIT))
    assert b"".join(chunks) == data
    assert writing.result(WAIT) == len(data)


def test_bulk_goes_through_in_order(ends):
    reader, writer = ends
    block = os.urandom(65536)
    blocks = 128

    def write_all():
        for _ in range(blocks):
            writer.write(block).result(WAIT)
        writer.close()

    thread = threading.Thread(target=write_all)
    thread.start()
    data = read_all(reader)
    thread.join()
    assert data == block * blocks


def test_reads_in_flight_are_served_in_order(ends):
    reader, writer = ends
    futures = [reader.read(3) for _ in range(50)]
    data = bytes(range(150))
    writer.write(data).result(WAIT)
    assert b"".join(future.result(WAIT) for future in futures) == data


def test_a_long_write_stays_pending_and_one_behind_it_can_be_cancelled(ends):
    reader, writer = ends
    first = os.urandom(8 * BUFFER_SIZE)
    writing = writer.write(first)
    data = read_exactly(reader, 128)
    assert not writing.done()
    cancel_and_wait(writer.write(b"never"))
    data += read_exactly(reader, len(first) - 128)
    assert data == first
    assert writing.result(WAIT) == len(first)
    after = reader.read(10)
    writer.write(b"after").result(WAIT)
    assert after.result(WAIT) == b"after"


def test_after_a_cancelled_read_the_next_gets_what_comes_next(ends):
    reader, writer = ends
    cancel_and_wait(reader.read(1))
    writer.write(b"omg").result(WAIT)
    assert reader.read(3).result(WAIT) == b"omg"


def test_close_ends_pending_reads_as_cancelled(ends):
    reader, _ = ends
    futures = [reader.read(10) for _ in range(5)]
    reader.close()
    assert all(future.cancelled() for future in futures)


def test_a_closed_pipe_says_so(ends):
    reader, _ = ends
    reader.close()
    reader.close()
    assert reader.closed
    for use in (lambda: reader.read(1), lambda: reader.read_into(bytearray(1)), reader.poll_read, reader.fileno):
        with pytest.raises(ValueError, match="closed"):
            use()
    with pytest.raises(ValueError, match="closed"), reader:
        pass


# ---- readiness


def test_polling_stays_pending_until_data_comes_and_takes_nothing(ends):
    reader, writer = ends
    polling = reader.poll_read()
    assert not polling.done()
    writer.write(b"data").result(WAIT)
    assert polling.result(WAIT) is None
    assert reader.poll_read().result(WAIT) is None
    assert reader.read(100).result(WAIT) == b"data"
    again = reader.poll_read()
    assert not again.done()
    cancel_and_wait(again)


def test_polling_can_be_cancelled_and_takes_nothing(ends):
    reader, writer = ends
    cancel_and_wait(reader.poll_read())
    writer.write(b"whole").result(WAIT)
    assert reader.read(100).result(WAIT) == b"whole"


def test_polling_ends_at_the_end_of_the_file(ends):
    reader, writer = ends
    polling = reader.poll_read()
    writer.close()
    assert polling.result(WAIT) is None
    assert reader.poll_read().result(WAIT) is None
    assert reader.read(1).result(WAIT) == b""


# ---- children


@pytest.mark.parametrize("inherit", ["read", "write"])
def test_the_end_for_a_child_is_synchronous_and_inheritable_and_ours_is_neither(inherit):
    reader, writer = tpio.pipe(inherit=inherit)
    with closing(reader, writer):
        theirs, ours = (reader, writer) if inherit == "read" else (writer, reader)
        assert os.get_handle_inheritable(theirs.fileno())
        assert is_synchronous(theirs.fileno())
        assert not os.get_handle_inheritable(ours.fileno())
        assert not is_synchronous(ours.fileno())


def test_without_inherit_no_end_can_be_inherited(ends):
    assert not any(os.get_handle_inheritable(end.fileno()) for end in ends)


@pytest.mark.parametrize("inherit", ["read", "write"])
def test_the_end_for_a_child_can_be_made_non_blocking(inherit):
    """Wine sets the mode whatever the handle was opened for: there only the right to do so shows it."""
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel32.SetNamedPipeHandleState.argtypes = [ctypes.c_void_p] * 4
    reader, writer = tpio.pipe(inherit=inherit)
    with closing(reader, writer):
        theirs = reader if inherit == "read" else writer
        for mode in (1, 0):  # PIPE_NOWAIT, PIPE_WAIT
            asked = kernel32.SetNamedPipeHandleState(theirs.fileno(), ctypes.byref(ctypes.c_ulong(mode)), None, None)
            assert asked, ctypes.get_last_error()
        assert granted_access(theirs.fileno()) & 0x0100  # FILE_WRITE_ATTRIBUTES


def test_a_childs_output_comes_through_a_pipe():
    reader, theirs = tpio.pipe(inherit="write")
    with closing(reader, theirs):
        process = child("import sys; sys.stdout.buffer.write(b'from the child' * 10000)", stdout=theirs)
        assert read_all(reader) == b"from the child" * 10000
        assert process.wait(WAIT) == 0


def test_a_child_reads_its_input_from_a_pipe():
    theirs, writer = tpio.pipe(inherit="read")
    reader, output = tpio.pipe(inherit="write")
    with closing(reader, writer, theirs, output):
        code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"
        process = child(code, stdin=theirs, stdout=output)
        writer.write(b"abc" * 5000).result(WAIT)
        writer.close()
        assert read_all(reader) == b"cba" * 5000
        assert process.wait(WAIT) == 0


def test_a_write_to_a_child_that_is_gone_fails():
    theirs, writer = tpio.pipe(inherit="read")
    with closing(writer, theirs):
        assert child("", stdin=theirs).wait(WAIT) == 0
        with pytest.raises(BrokenPipeError):
            writer.write(bytes(8 * BUFFER_SIZE)).result(WAIT)


@pytest.mark.parametrize("inherit", ["read", "write"])
def test_the_childs_end_cannot_be_used_here_and_says_why(inherit):
    reader, writer = tpio.pipe(inherit=inherit)
    with closing(reader, writer):
        theirs = reader if inherit == "read" else writer
        uses = [
            lambda: theirs.read(1),
            lambda: theirs.read_into(bytearray(1)),
            lambda: theirs.write(b"x"),
            theirs.poll_read,
            lambda: theirs.ioctl(1),
        ]
        for use in uses:
            with pytest.raises(tpio.BindError, match="child process and not overlapped: read and write the other"):
                use()
        assert "handle=0x" in repr(theirs)
        theirs.cancel()
        theirs.close()
        theirs.close()
        assert theirs.closed
        if inherit == "write":
            assert reader.read(1).result(WAIT) == b""
        else:
            with pytest.raises(BrokenPipeError):
                writer.write(b"x").result(WAIT)
        with pytest.raises(ValueError, match="closed"):
            theirs.read(1)


def test_a_blocking_pipe_cannot_be_bound_and_the_error_says_what_to_do():
    ends = os.pipe()
    try:
        import msvcrt

        for end in ends:
            with pytest.raises(tpio.BindError, match=r"not opened for overlapped I/O.*FILE_FLAG_OVERLAPPED"):
                tpio.Handle(msvcrt.get_osfhandle(end), owns=False)
            with os.fdopen(end, "rb", closefd=False) as file, pytest.raises(tpio.BindError, match="not opened"):
                tpio.read(file, 1)
    finally:
        for end in ends:
            os.close(end)


# ---- misuse and leaks


def test_inherit_is_read_or_write():
    with pytest.raises(ValueError, match="'read', 'write' or None"):
        tpio.pipe(inherit="both")


def test_a_pipe_that_cannot_be_made_leaks_nothing():
    pool = tpio.Pool()
    pool.close()
    for inherit in (None, "read", "write"):
        with pytest.raises(RuntimeError, match="closed"):
            tpio.pipe(inherit=inherit, pool=pool)


def test_a_dropped_pipe_closes_its_handle():
    reader, writer = tpio.pipe()
    with closing(writer):
        del reader
        with pytest.raises(BrokenPipeError):
            writer.write(b"x").result(WAIT)


def test_a_done_callback_sees_the_bytes(ends):
    reader, writer = ends
    seen = []
    future = reader.read(10)
    future.add_done_callback(lambda done: seen.append(done.result()))
    event = callback_event(future)
    writer.write(b"bytes").result(WAIT)
    assert event.wait(WAIT)
    assert seen == [b"bytes"]
