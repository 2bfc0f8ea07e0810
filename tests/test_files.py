"""Files: at offsets, in sequence, many operations at once, and how they are opened."""

import os
import pathlib
import random

import pytest

import tpio
from ends import closing, granted_access
from support import WAIT, at_once, wine

GIB = 1 << 30


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


def contents(path, data):
    path.write_bytes(data)
    return path


# ---- offsets


def test_write_and_read_at_offsets(path):
    with tpio.open(path, "w+b") as file:
        assert file.write(b"world", 5).result(WAIT) == 5
        assert file.write(b"hello", 0).result(WAIT) == 5
        assert file.read(10, 0).result(WAIT) == b"helloworld"
        assert file.read(3, 4).result(WAIT) == b"owo"
        buffer = bytearray(4)
        assert file.read_into(buffer, 1).result(WAIT) == 4
        assert buffer == b"ello"
    assert path.read_bytes() == b"helloworld"


def test_offsets_beyond_four_gib(path):
    places = {4 * GIB - 3: b"across the line", 5 * GIB + 12345: b"far out"}
    with tpio.open(path, "w+b") as file:
        file.ioctl(0x900C4).result(WAIT)  # FSCTL_SET_SPARSE: else NTFS fills what is before with zeros, inside the call
        for offset, data in places.items():
            file.write(data, offset).result(WAIT)
        assert file.size() == 5 * GIB + 12345 + 7
        for offset, data in places.items():
            assert file.read(len(data), offset).result(WAIT) == data
        assert file.read(4, 4 * GIB + 1).result(WAIT) == b"ss t"
        file.truncate(0)


def test_reading_at_the_end_gives_nothing(path):
    with tpio.open(contents(path, b"12345")) as file:
        assert file.read(100, 3).result(WAIT) == b"45"
        assert file.read(100, 5).result(WAIT) == b""
        assert file.read(100, 500).result(WAIT) == b""
        assert file.read_into(bytearray(5), 5).result(WAIT) == 0


def test_an_offset_does_not_move_the_position(path):
    with tpio.open(contents(path, b"abcdef")) as file:
        assert file.read(2).result(WAIT) == b"ab"
        assert file.read(2, 4).result(WAIT) == b"ef"
        assert file.read(2).result(WAIT) == b"cd"


@pytest.mark.parametrize("offset", [-1, -(1 << 40)])
def test_negative_offsets_are_refused(path, offset):
    with tpio.open(path, "w+b") as file:
        for use in (
            lambda: file.read(1, offset),
            lambda: file.read_into(bytearray(1), offset),
            lambda: file.write(b"x", offset),
        ):
            with pytest.raises(ValueError, match="offset must not be negative"):
                use()
        assert file.size() == 0


def test_offsets_are_integers(path):
    with tpio.open(path, "w+b") as file:
        for offset, error in (("0", TypeError), (1.0, TypeError), (1 << 64, OverflowError)):
            with pytest.raises(error):
                file.read(1, offset)


def test_pipes_have_no_offsets():
    reader, writer = tpio.pipe()
    with closing(reader, writer):
        with pytest.raises(ValueError, match="only files have offsets"):
            reader.read(1, 5)
        with pytest.raises(ValueError, match="only files have offsets"):
            writer.write(b"x", 5)


# ---- sequences


def test_sequential_writes_and_reads_follow_each_other(path):
    with tpio.open(path, "wb") as file:
        for part in (b"one ", b"two ", b"three"):
            file.write(part).result(WAIT)
    with tpio.open(path) as file:
        assert [file.read(n).result(WAIT) for n in (4, 4, 100, 100)] == [b"one ", b"two ", b"three", b""]


def test_sequential_operations_in_flight_keep_their_order(path):
    parts = [bytes([number]) * 1000 for number in range(100)]
    with tpio.open(path, "w+b") as file:
        futures = [file.write(part) for part in parts]
        assert [future.result(WAIT) for future in futures] == [1000] * 100
    with tpio.open(path) as file:
        futures = [file.read(1000) for _ in parts]
        assert [future.result(WAIT) for future in futures] == parts


def test_a_sequence_goes_on_where_a_short_read_ended(path):
    with tpio.open(contents(path, b"12345"), "r+b") as file:
        assert file.read(100).result(WAIT) == b"12345"
        assert file.read(100).result(WAIT) == b""
        file.write(b"678").result(WAIT)
        assert file.read(100).result(WAIT) == b""
        assert file.read(100, 0).result(WAIT) == b"12345678"


def test_a_buffered_read_of_many_chunks_gives_the_same_bytes(path):
    data = os.urandom(300_007)
    with tpio.open(contents(path, data)) as file:
        chunks = list(iter(lambda: file.read(4093).result(WAIT), b""))
    assert b"".join(chunks) == data
    assert {len(chunk) for chunk in chunks[:-1]} == {4093}


# ---- several at once


def test_many_operations_in_flight_at_random_offsets(path):
    block, count = 4096, 256
    blocks = [os.urandom(block) for _ in range(count)]
    order = list(range(count))
    random.Random(1).shuffle(order)
    with tpio.open(path, "w+b") as file:
        writes = [file.write(blocks[number], number * block) for number in order]
        assert all(future.result(WAIT) == block for future in writes)
        random.Random(2).shuffle(order)
        reads = {number: file.read(block, number * block) for number in order}
        assert all(future.result(WAIT) == blocks[number] for number, future in reads.items())
        buffers = {number: bytearray(block) for number in order}
        futures = [file.read_into(buffer, number * block) for number, buffer in buffers.items()]
        assert all(future.result(WAIT) == block for future in futures)
        assert all(buffers[number] == blocks[number] for number in order)


def test_a_large_block(path):
    data = os.urandom(1 << 20) * 32
    with tpio.open(path, "w+b") as file:
        assert file.write(data).result(WAIT) == len(data)
        assert file.read(len(data), 0).result(WAIT) == data


# ---- modes


def test_rb_reads_only(path):
    with tpio.open(contents(path, b"data")) as file:
        assert file.read(4).result(WAIT) == b"data"
        with pytest.raises(PermissionError) as caught:
            file.write(b"x").result(WAIT)
        assert caught.value.winerror == 5


def test_wb_writes_only_and_empties(path):
    with tpio.open(contents(path, b"old contents"), "wb") as file:
        assert file.size() == 0
        file.write(b"new").result(WAIT)
        with pytest.raises(PermissionError):
            file.read(1, 0).result(WAIT)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("mode", ["r+b", "rb+"])
def test_r_plus_keeps_what_is_there(path, mode):
    with tpio.open(contents(path, b"abcdef"), mode) as file:
        file.write(b"XY", 2).result(WAIT)
        assert file.read(100, 0).result(WAIT) == b"abXYef"


@pytest.mark.parametrize("mode", ["w+b", "wb+"])
def test_w_plus_empties(path, mode):
    with tpio.open(contents(path, b"old"), mode) as file:
        file.write(b"x").result(WAIT)
        assert file.read(100, 0).result(WAIT) == b"x"


@pytest.mark.parametrize("mode", ["xb", "x+b", "xb+"])
def test_x_creates_and_never_opens(path, mode):
    with tpio.open(path, mode) as file:
        file.write(b"mine").result(WAIT)
    with pytest.raises(FileExistsError) as caught:
        tpio.open(path, mode)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"mine"


def test_appending_goes_to_the_end_whatever_the_offset(path):
    with tpio.open(contents(path, b"begin"), "ab") as file, path.open("ab") as other:
        file.write(b"1").result(WAIT)
        other.write(b"2")
        other.flush()
        file.write(b"3").result(WAIT)
        file.write(b"4", 0).result(WAIT)
    assert path.read_bytes() == b"begin1234"
    with tpio.open(path.with_name("new"), "ab") as file:
        assert file.write(b"created").result(WAIT) == 7


def test_appends_in_flight_all_arrive(path):
    with tpio.open(path, "ab") as file:
        futures = [file.write(bytes([65 + number]) * 100) for number in range(20)]
        assert all(future.result(WAIT) == 100 for future in futures)
    data = path.read_bytes()
    assert sorted(data) == sorted(b"".join(bytes([65 + number]) * 100 for number in range(20)))


def test_appenders_do_not_overwrite_each_other(path):
    def append(file, letter):
        futures = [file.write(bytes([letter]) * 100) for _ in range(200)]
        assert all(future.result(WAIT) == 100 for future in futures)

    with tpio.open(path, "ab") as one, tpio.open(path, "ab") as other:
        if wine:  # looks where the end is, and then writes
            for _ in range(200):
                for file, letter in ((one, 65), (other, 66)):
                    assert file.write(bytes([letter]) * 100).result(WAIT) == 100
        else:
            at_once(lambda: append(one, 65), lambda: append(one, 66), lambda: append(other, 67))
    data = path.read_bytes()
    parts = [data[place : place + 100] for place in range(0, len(data), 100)]
    assert all(len(set(part)) == 1 for part in parts)
    assert len(parts) == (400 if wine else 600)


def test_a_file_that_is_appended_to_can_be_truncated_and_locked(path):
    with tpio.open(contents(path, b"1234567890"), "ab") as file:
        assert granted_access(file.fileno()) & 0x0002  # FILE_WRITE_DATA, without which Windows does neither; Wine does
        file.truncate(4)
        assert file.write(b"abc").result(WAIT) == 3
        assert file.lock(0, 10).result(WAIT) is None
        assert file.write(b"def").result(WAIT) == 3
        file.unlock(0, 10)
        file.flush()
        assert file.size() == 10
        with pytest.raises(PermissionError):
            file.read(1, 0).result(WAIT)
    assert path.read_bytes() == b"1234abcdef"


def test_truncate_cuts_and_extends(path):
    with tpio.open(contents(path, b"1234567890"), "r+b") as file:
        file.truncate(4)
        assert file.size() == 4
        file.truncate(6)
        assert file.read(100, 0).result(WAIT) == b"1234\0\0"
        with pytest.raises(ValueError, match="negative"):
            file.truncate(-1)
        for bad in (1.5, "1", None):
            with pytest.raises(TypeError):
                file.truncate(bad)
        file.truncate(5 * GIB)
        assert file.size() == 5 * GIB
        file.truncate(0)


def test_flush_and_size(path):
    with tpio.open(path, "wb") as file:
        file.write(b"x" * 1000).result(WAIT)
        file.flush()
        assert file.size() == path.stat().st_size == 1000


# ---- opening


def test_a_file_that_does_not_exist(path):
    for mode in ("rb", "r+b"):
        with pytest.raises(FileNotFoundError) as caught:
            tpio.open(path, mode)
        assert caught.value.winerror == 2 and caught.value.filename == str(path)
    with pytest.raises(FileNotFoundError) as caught:
        tpio.open(path / "below" / "nothing", "wb")
    assert caught.value.winerror == 3


def test_a_folder_is_not_a_file(tmp_path):
    for mode in ("rb", "wb"):
        with pytest.raises(PermissionError):
            tpio.open(tmp_path, mode)


@pytest.mark.parametrize("mode", ["", "r", "w", "rt", "rb+b", "bogus", "a+b", None])
def test_bad_modes_are_refused(path, mode):
    with pytest.raises(ValueError, match="invalid mode"):
        tpio.open(path, mode)


def test_nul_in_a_path_is_refused(path):
    for name in ("a\0b", b"a\0b", str(path) + "\0"):
        with pytest.raises(ValueError, match="null character"):
            tpio.open(name, "wb")


def test_a_path_is_a_str_bytes_or_path_like(path):
    contents(path, b"x")
    for name in (str(path), os.fsencode(path), path, pathlib.PureWindowsPath(path)):
        with tpio.open(name) as file:
            assert file.read(1).result(WAIT) == b"x"
            assert file.name == os.fsdecode(name)
    for name in (1, None, 1.5):
        with pytest.raises(TypeError):
            tpio.open(name)


@pytest.mark.parametrize("name", ["Größe", "файл", "日本語", "emoji \U0001f600", "with space and 'quotes'"])
def test_names_of_every_script(tmp_path, name):
    with tpio.open(tmp_path / name, "xb") as file:
        file.write(name.encode()).result(WAIT)
    assert os.listdir(tmp_path) == [name]
    with tpio.open(tmp_path / name) as file:
        assert file.read(100).result(WAIT).decode() == name


def test_what_is_not_shared_is_refused_to_others(path):
    contents(path, b"x")
    with tpio.open(path, share="r"):
        tpio.open(path).close()
        with pytest.raises(PermissionError) as caught:
            tpio.open(path, "r+b")
        assert caught.value.winerror == 32
    with tpio.open(path, share=""), pytest.raises(PermissionError):
        tpio.open(path)
    with tpio.open(path), tpio.open(path, "r+b") as second:  # everything is shared by default
        second.write(b"y").result(WAIT)
    for share in ("x", "rwx", "R"):
        with pytest.raises(ValueError, match="invalid share"):
            tpio.open(path, share=share)


def test_a_file_can_be_deleted_while_open(path):
    with tpio.open(contents(path, b"x")) as file:
        path.unlink()
        assert file.read(1).result(WAIT) == b"x"
    assert not path.exists()


def test_flags_are_passed_on(path):
    delete_on_close = 0x04000000
    with tpio.open(path, "w+b", flags=delete_on_close) as file:
        file.write(b"x").result(WAIT)
        assert path.exists()
    assert not path.exists()


def test_a_file_opened_on_a_closed_pool_leaks_nothing(path):
    contents(path, b"x")
    pool = tpio.Pool()
    pool.close()
    for _ in range(3):
        with pytest.raises(RuntimeError, match="closed"):
            tpio.open(path, pool=pool)
    path.rename(path.with_name("renamed"))


# ---- the end


def test_a_closed_file_says_so(path):
    file = tpio.open(path, "w+b")
    assert str(path) in repr(file).replace("\\\\", "\\")
    file.close()
    file.close()
    assert file.closed and "closed" in repr(file)
    uses = [
        lambda: file.read(1),
        lambda: file.read_into(bytearray(1)),
        lambda: file.write(b"x"),
        lambda: file.truncate(0),
        file.size,
        file.flush,
        file.fileno,
    ]
    for use in uses:
        with pytest.raises(ValueError, match="closed"):
            use()


def test_closing_at_once_loses_no_write(path):
    """A write whose future has a result is in the file, however soon the file is closed."""
    file = tpio.open(path, "wb")
    parts = [bytes([1 + number]) * 10 for number in range(20)]  # from 1: a hole is of zeros
    futures = [file.write(part) for part in parts]
    file.close()
    data = path.read_bytes()
    assert len(data) <= 200
    for number, (part, future) in enumerate(zip(parts, futures, strict=True)):
        assert future.done()
        if not future.cancelled():
            assert future.result() == 10
            assert data[10 * number :][:10] == part


def test_a_file_has_no_readiness(path):
    with tpio.open(contents(path, b"x")) as file:
        assert not hasattr(tpio.File, "poll_read")
        assert not hasattr(file, "poll_read")
        with pytest.raises(ValueError, match="only pipes and sockets"):
            tpio.Handle.poll_read(file)
