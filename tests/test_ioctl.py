"""DeviceIoControl."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import support
import tpio
import wines
from ends import WAIT, cancel_and_wait, closing, named_pair, pipe_name

SET_SPARSE, SET_ZERO_DATA, QUERY_ALLOCATED_RANGES = 0x900C4, 0x980C8, 0x940CF
LISTEN, PEEK = 0x110008, 0x11400C  # FSCTL_PIPE_*
# FSCTL_GET_OBJECT_ID, as Wine's files have one from the beginning; FSCTL_CREATE_OR_GET_OBJECT_ID, which Wine has not
OBJECT_ID = 0x9009C if support.wine else 0x900C0


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tpio.File]:
    with tpio.open(tmp_path / "file", "w+b") as file:
        yield file


def test_a_code_without_data(file):
    assert file.ioctl(SET_SPARSE).result(WAIT) == b""


def test_output_is_as_long_as_what_was_put_out(file):
    number = file.ioctl(OBJECT_ID, output_size=100).result(WAIT)
    assert len(number) == 64 and number != bytes(64)
    assert file.ioctl(OBJECT_ID, output_size=64).result(WAIT) == number


def test_input(file):
    wines.skip("FSCTL_SET_ZERO_DATA is not there")
    file.write(b"x" * 100, 0).result(WAIT)
    assert file.ioctl(SET_ZERO_DATA, struct.pack("qq", 10, 20)).result(WAIT) == b""
    assert file.read(30, 0).result(WAIT) == b"x" * 10 + bytes(10) + b"x" * 10


@pytest.mark.parametrize("data", [b"", bytearray(8), memoryview(bytes(16))[4:12]])
def test_any_buffer_will_do(file, data):
    assert file.ioctl(SET_SPARSE, data).result(WAIT) == b""


def test_what_does_not_fit_says_so(file):
    wines.skip("no control code puts out a part")
    file.ioctl(SET_SPARSE).result(WAIT)
    for place in range(0, 1 << 24, 1 << 20):
        file.write(b"here", place).result(WAIT)
    everything = struct.pack("qq", 0, 1 << 24)
    with pytest.raises(tpio.TruncatedError) as caught:
        file.ioctl(QUERY_ALLOCATED_RANGES, everything, 16).result(WAIT)
    assert caught.value.winerror == 234
    assert struct.unpack("qq", caught.value.data)[0] == 0
    assert len(file.ioctl(QUERY_ALLOCATED_RANGES, everything, 4096).result(WAIT)) >= 16


def test_a_code_that_the_device_does_not_have(file):
    assert file.ioctl(0x222000).exception(WAIT).winerror


def test_output_that_is_too_small(file):
    assert isinstance(file.ioctl(OBJECT_ID, output_size=1).exception(WAIT), OSError)


def test_many_at_once(file):
    futures = [file.ioctl(OBJECT_ID, output_size=64) for _ in range(100)]
    assert len({future.result(WAIT) for future in futures}) == 1


def test_a_pipe_has_other_codes():
    ours, theirs = named_pair()
    with closing(ours, theirs):
        assert isinstance(ours.ioctl(0x222000, b"data", 10).exception(WAIT), OSError)


@pytest.fixture
def unconnected() -> Iterator[tpio.Pipe]:
    """A pipe's server's end without a client: the code LISTEN waits for one."""
    handle = tpio._tpio.create_named_pipe(
        pipe_name(), "rw", first=True, message=False, instances=1, buffer_size=4096, sddl=None
    )
    with tpio.Pipe(handle) as pipe:
        yield pipe


def test_cancel_of_one_that_waits(unconnected):
    cancel_and_wait(unconnected.ioctl(LISTEN))
    assert isinstance(unconnected.ioctl(PEEK, output_size=16).exception(WAIT), OSError)  # and the handle goes on


def test_close_while_one_waits(unconnected):
    listening = unconnected.ioctl(LISTEN)
    assert not listening.done()
    unconnected.close()
    assert listening.cancelled()


def test_a_cancelled_await_leaves_the_handle_usable(unconnected):
    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(unconnected.ioctl(LISTEN), 0.05)

    asyncio.run(main())
    cancel_and_wait(unconnected.ioctl(LISTEN))


def test_the_input_is_copied(unconnected):
    data = bytearray(8)
    listening = unconnected.ioctl(LISTEN, data)
    data.clear()
    cancel_and_wait(listening)


def test_what_is_in_a_pipe_can_be_looked_at():
    ours, theirs = named_pair()
    with closing(ours, theirs):
        theirs.write(b"here").result(WAIT)
        seen = ours.ioctl(PEEK, output_size=20).result(WAIT)
        assert (struct.unpack("4L", seen[:16])[1], seen[16:]) == (4, b"here")
        assert ours.read(10).result(WAIT) == b"here"


def test_bad_arguments_are_refused_at_once(file):
    submitted = tpio.default_pool().stats().submitted
    for code in (-(1 << 31) - 1, 1 << 32):  # a negative DWORD is one as pywin32 writes it
        with pytest.raises(OverflowError):
            file.ioctl(code)
    with pytest.raises(ValueError, match="negative"):
        file.ioctl(SET_SPARSE, b"", -1)
    for bad in (("code",), (SET_SPARSE, "text"), (SET_SPARSE, 5), (SET_SPARSE, b"", "10"), (SET_SPARSE, b"", None)):
        with pytest.raises(TypeError):
            file.ioctl(*bad)
    with pytest.raises((ValueError, MemoryError)):
        file.ioctl(SET_SPARSE, b"", 1 << 40)
    assert tpio.default_pool().stats().submitted == submitted
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.ioctl(SET_SPARSE)
