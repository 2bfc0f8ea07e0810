"""Files without the system's cache: everything is aligned, and what is not is explained."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import tpio
from ends import WAIT

NO_BUFFERING = 0x20000000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "unbuffered"
    path.write_bytes(os.urandom(10_000))
    return path


@pytest.fixture
def file(path: Path) -> Iterator[tpio.File]:
    with tpio.open(path, "r+b", flags=NO_BUFFERING) as file:
        yield file


def test_the_alignment_is_told(file, path):
    assert file.alignment >= 512 and file.alignment & (file.alignment - 1) == 0
    with tpio.open(path) as plain:
        assert plain.alignment == 1


def test_read_and_write(file, path):
    unit = file.alignment
    buffer = tpio.aligned_buffer(2 * unit)
    assert bytes(buffer) == bytes(2 * unit) and not buffer.readonly
    assert file.read_into(buffer, 0).result(WAIT) == 2 * unit
    assert bytes(buffer) == path.read_bytes()[: 2 * unit]
    buffer[:5] = b"begin"
    assert file.write(buffer[:unit], unit).result(WAIT) == unit
    assert path.read_bytes()[unit : unit + 5] == b"begin"


def test_reading_to_the_end(file, path):
    buffer = tpio.aligned_buffer(file.alignment)
    data = bytearray()
    while count := file.read_into(buffer).result(WAIT):
        data += buffer[:count]
    assert data == path.read_bytes()
    assert file.read_into(buffer).result(WAIT) == 0


def test_a_file_that_grew_behind_its_end_says_why_it_cannot_go_on(file, path):
    buffer = tpio.aligned_buffer(16384)
    assert file.read_into(buffer).result(WAIT) == 10_000
    with open(path, "ab") as other:
        other.write(bytes(20_000))
    with pytest.raises(ValueError, match="multiple"):
        file.read_into(buffer)
    assert file.read_into(buffer, 8192).result(WAIT) == 16384


def test_what_is_not_aligned_is_explained_and_not_submitted(file):
    unit = file.alignment
    buffer = tpio.aligned_buffer(2 * unit)
    submitted = tpio.default_pool().stats().submitted
    for call in (lambda offset: file.read_into(buffer, offset), lambda offset: file.write(buffer, offset)):
        with pytest.raises(ValueError, match=f"offset.*{unit}"):
            call(1)
    with pytest.raises(ValueError, match=f"size.*{unit}"):
        file.read_into(buffer[:-1], 0)
    with pytest.raises(ValueError, match=f"size.*{unit}"):
        file.write(b"short", 0)
    with pytest.raises(ValueError, match="aligned_buffer"):
        file.read_into(buffer[1 : unit + 1], 0)
    with pytest.raises(ValueError, match="aligned_buffer"):
        file.write(buffer[1 : unit + 1], 0)
    with pytest.raises(ValueError, match="read_into"):
        file.read(unit, 0)
    with pytest.raises(ValueError, match="read_into"):
        file.read_many([(0, unit)])
    with pytest.raises(ValueError, match="multiple"):
        file.write_many([(0, buffer), (1, buffer)])
    assert tpio.default_pool().stats().submitted == submitted


def test_many(file, path):
    unit = file.alignment
    one, other = tpio.aligned_buffer(unit), tpio.aligned_buffer(unit)
    one[:3], other[:5] = b"one", b"other"
    assert file.write_many([(0, one), (unit, other)]).result(WAIT) == [unit, unit]
    data = path.read_bytes()
    assert data[:3] == b"one" and data[unit : unit + 5] == b"other"


def test_a_buffer_needs_a_size():
    for size in (0, -1):
        with pytest.raises(ValueError, match="positive"):
            tpio.aligned_buffer(size)
