"""What can be bound, who owns it, which buffers are taken, and the verbs for objects of others."""

import _winapi
import array
import asyncio
import contextlib
import ctypes
import gc
import msvcrt
import os
import socket
import sys
import weakref
from asyncio.windows_utils import PipeHandle
from concurrent.futures import CancelledError

import pytest

import tpio
import wines
from ends import cancel_and_wait, closing, named_pair, pipe_name, plain_tcp_pair, read_exactly, tcp_pair
from support import WAIT, at_once, pending
from tpio import _tpio

GENERIC_READ, GENERIC_WRITE = 0x80000000, 0x40000000
OPEN_EXISTING, OVERLAPPED = 3, 0x40000000
SHARE_ALL = 7


def raw_pair():
    """(server's tpio.Pipe, client's HANDLE): the client's end is overlapped, and bound to nothing."""
    with tpio.PipeListener(pipe_name()) as listener:
        client = _tpio.create_file(listener.name, GENERIC_READ | GENERIC_WRITE, 0, OPEN_EXISTING, OVERLAPPED)
        return listener.accept().result(WAIT), client


def overlapped_file(path, flags=OVERLAPPED):
    return _tpio.create_file(str(path), GENERIC_READ | GENERIC_WRITE, SHARE_ALL, OPEN_EXISTING, flags)


def works(handle, peer):
    handle.write(b"ping").result(WAIT)
    assert peer.read(10).result(WAIT) == b"ping"
    peer.write(b"pong").result(WAIT)
    assert handle.read(10).result(WAIT) == b"pong"


# ---- what can be bound


def test_an_int_is_a_handle_and_is_owned():
    peer, number = raw_pair()
    with closing(peer):
        handle = tpio.Handle(number)
        assert handle.fileno() == number
        works(handle, peer)
        handle.close()
        assert peer.read(1).result(WAIT) == b""


def test_a_handle_that_is_not_owned_stays_open():
    peer, number = raw_pair()
    with closing(peer):
        with tpio.Handle(number, owns=False) as handle:
            works(handle, peer)
        written = _winapi.WriteFile(number, b"still open", True)[0]
        assert written.GetOverlappedResult(True) == (10, 0)
        assert peer.read(100).result(WAIT) == b"still open"
        _tpio.close_handle(number)


@wines.skipif("a handle cannot be taken off its completion port")
def test_a_handle_that_is_not_owned_is_free_of_our_port_when_it_is_closed():
    peer, number = raw_pair()
    with closing(peer):
        with tpio.Handle(number, owns=False) as handle:
            pending_read = handle.read(1)
        assert pending_read.cancelled()
        reading, _ = _winapi.ReadFile(number, 4, True)  # would complete to what is not there any more
        peer.write(b"mine").result(WAIT)
        assert reading.GetOverlappedResult(True) == (4, 0)
        with tpio.Handle(number) as handle:
            works(handle, peer)


def test_the_close_of_a_handle_whose_owner_has_closed_it_leaves_the_next_of_its_value_alone():
    plain, peer = plain_tcp_pair()
    with closing(peer):
        handle = tpio.Handle(plain, owns=False)
        number = plain.fileno()
        plain.close()
        others = []
        while not others or (others[-1].fileno() != number and len(others) < 50):
            others.append(tpio.Socket())
        with closing(*others):
            handle.close()
            with tpio.listen(("127.0.0.1", 0)) as listener:
                connecting = others[-1].connect(listener.getsockname())
                accepted = listener.accept().result(WAIT)[0]
                with closing(accepted):
                    connecting.result(WAIT)


def test_a_socket_is_detached_when_it_is_owned():
    plain, peer = plain_tcp_pair()
    with closing(plain, peer):
        number = plain.fileno()
        with tpio.Handle(plain) as handle:
            assert plain.fileno() == -1 and handle.fileno() == number
            handle.write(b"ping").result(WAIT)
            assert peer.recv(10) == b"ping"
        assert peer.recv(10) == b""


def test_what_cannot_be_parted_from_its_handle_is_detached_as_a_duplicate():
    peer, number = raw_pair()
    with closing(peer):
        handle = tpio.Handle(PipeHandle(number))
        works(handle, peer)
        value = handle.detach()
        gc.collect()
        assert handle.closed and value != number
        _winapi.WriteFile(value, b"still open", True)[0].GetOverlappedResult(True)
        assert peer.read(100).result(WAIT) == b"still open"
        _tpio.close_handle(value)
        assert peer.read(1).result(WAIT) == b""


def test_what_cannot_be_parted_from_its_handle_is_shared():
    peer, number = raw_pair()
    with closing(peer):
        foreign = PipeHandle(number)
        value = tpio.Handle(foreign).share(os.getpid())
        foreign.close()  # it is closed already: its number may be another's
        _winapi.WriteFile(value, b"still open", True)[0].GetOverlappedResult(True)
        assert peer.read(100).result(WAIT) == b"still open"
        _tpio.close_handle(value)


def test_fileno_while_it_is_closed():
    for kind in ("pipe", "child's"):
        for _ in range(200):
            reader, writer = tpio.pipe(inherit="read" if kind == "child's" else None)
            with closing(reader, writer):
                number = reader.fileno()

                def look(reader=reader, number=number):
                    with contextlib.suppress(ValueError):
                        while True:
                            assert reader.fileno() == number

                at_once(look, look, reader.close)


def test_the_value_that_stands_for_this_process_is_no_handle():
    for value in (-1, 2**64 - 1, 0):
        with pytest.raises(ValueError, match="is not a handle"):
            tpio.wait_for_handle(value)
        with pytest.raises(ValueError, match="is not a handle"):
            tpio.Handle(value)


def test_a_socket_that_is_not_owned_stays_whole():
    plain, peer = plain_tcp_pair()
    with closing(plain, peer):
        with tpio.Handle(plain, owns=False) as handle:
            handle.write(b"ping").result(WAIT)
            assert peer.recv(10) == b"ping"
        plain.sendall(b"pong")
        assert peer.recv(10) == b"pong"


def test_asyncios_pipe_handle_is_closed_by_itself_and_once():
    peer, number = raw_pair()
    with closing(peer):
        foreign = PipeHandle(number)
        handle = tpio.Handle(foreign)
        works(handle, peer)
        handle.close()
        assert foreign.handle is None
        assert peer.read(1).result(WAIT) == b""


def test_asyncios_pipe_handle_that_is_not_owned_stays_open():
    peer, number = raw_pair()
    with closing(peer), PipeHandle(number) as foreign:
        with tpio.Handle(foreign, owns=False) as handle:
            works(handle, peer)
        assert foreign.handle == number


@pytest.mark.parametrize("owns", [True, False])
def test_a_file_object_over_an_overlapped_handle(tmp_path, owns):
    path = tmp_path / "file"
    path.write_bytes(b"contents")
    descriptor = msvcrt.open_osfhandle(overlapped_file(path), os.O_RDONLY)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        with tpio.Handle(file, owns=owns) as handle:
            assert handle.fileno() == msvcrt.get_osfhandle(descriptor)
            assert handle.read(100, 0).result(WAIT) == b"contents"
        assert file.closed == owns


def test_an_object_is_kept_as_long_as_its_handle(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"contents")
    descriptor = msvcrt.open_osfhandle(overlapped_file(path), os.O_RDONLY)
    handle = tpio.Handle(os.fdopen(descriptor, "rb", buffering=0))
    gc.collect()
    with handle:
        assert handle.read(100, 0).result(WAIT) == b"contents"


def test_a_synchronous_handle_is_refused_and_stays_open(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"contents")
    number = overlapped_file(path, flags=0)
    with pytest.raises(tpio.BindError, match=r"not opened for overlapped I/O.*FILE_FLAG_OVERLAPPED.*Pool\.submit") as e:
        tpio.Handle(number)
    assert isinstance(e.value, OSError) and e.value.winerror == 87
    with path.open("rb") as file, pytest.raises(tpio.BindError, match="not opened for overlapped"):
        tpio.Handle(file)
    _tpio.close_handle(number)


def test_a_second_binding_is_refused_and_the_first_goes_on():
    peer, number = raw_pair()
    with closing(peer), tpio.Handle(number) as handle:
        for second in (number, handle):
            with pytest.raises(tpio.BindError, match=r"already bound to a completion port.*was bound with"):
                tpio.Handle(second)
        assert not handle.closed
        works(handle, peer)


def test_a_handle_that_asyncio_has_bound_is_refused():
    async def main():
        loop = asyncio.get_running_loop()
        with plain:
            plain.setblocking(False)
            reading = asyncio.ensure_future(loop.sock_recv(plain, 1))
            await asyncio.sleep(0)
            with pytest.raises(tpio.BindError, match="already bound"):
                tpio.read(plain, 1)
            peer.sendall(b"x")
            assert await reading == b"x"

    plain, peer = plain_tcp_pair()
    with closing(plain, peer):
        asyncio.run(main())


@pytest.mark.parametrize("value", [0, -1, -5, 1 << 70])
def test_values_that_are_no_handles(value):
    with pytest.raises(ValueError, match="is not a handle"):
        tpio.Handle(value)


def test_values_that_nobody_has_open():
    with pytest.raises(OSError, match="WinError 6"):
        tpio.Handle(0xDEAD000)


@pytest.mark.parametrize("obj", [None, "name", b"name", 1.5, True, object()])
def test_objects_that_are_no_handles(obj):
    with pytest.raises(TypeError):
        tpio.Handle(obj)


def test_closed_objects_are_refused():
    closed = socket.socket()
    closed.close()
    with pytest.raises(ValueError, match="is the object closed"):
        tpio.Handle(closed)
    with pytest.raises(ValueError, match="is the object closed"):
        tpio.read(closed, 1)
    reader, writer = tpio.pipe()
    reader.close()
    writer.close()
    for use in (tpio.Handle, lambda end: tpio.read(end, 1)):
        with pytest.raises(ValueError, match="closed"):
            use(reader)


# ---- the end


def test_detach_gives_the_handle_back_open():
    peer, number = raw_pair()
    with closing(peer):
        handle = tpio.Handle(number)
        future = handle.read(10)
        assert handle.detach() == number
        assert handle.closed and future.cancelled()
        for use in (handle.detach, handle.fileno, lambda: handle.read(1)):
            with pytest.raises(ValueError, match="closed"):
                use()
        written = _winapi.WriteFile(number, b"still open", True)[0]
        assert written.GetOverlappedResult(True) == (10, 0)
        assert peer.read(100).result(WAIT) == b"still open"
        _tpio.close_handle(number)


def test_the_context_manager_closes():
    reader, writer = tpio.pipe()
    with writer:
        with reader as same:
            assert same is reader and not reader.closed
            assert f"{reader.fileno():#x}" in repr(reader)
        assert reader.closed and "closed" in repr(reader)


def test_handles_can_be_referred_to_weakly():
    reader, writer = tpio.pipe()
    with writer:
        alive = weakref.ref(reader)
        reader.close()
        del reader
        gc.collect()
        assert alive() is None


def test_cancel_ends_everything_that_is_pending():
    server, client = named_pair()
    with closing(server, client):
        futures = [server.read(10) for _ in range(5)]
        server.cancel()
        for future in futures:
            with pytest.raises(CancelledError):
                future.result(WAIT)
            assert future.cancelled()
        works(server, client)
    server.cancel()


# ---- sizes


@pytest.fixture(params=["pipe", "socket", "file"])
def end(request, tmp_path):
    if request.param == "file":
        with tpio.open(tmp_path / "file", "w+b") as file:
            yield file
    else:
        ends = tcp_pair() if request.param == "socket" else named_pair()
        with closing(*ends):
            yield ends[0]


def test_negative_sizes_are_refused(end):
    for size in (-1, -(1 << 40), -(1 << 100)):
        with pytest.raises(ValueError, match="must not be negative"):
            end.read(size)


def test_sizes_are_integers(end):
    for size in (1.0, "1", None):
        with pytest.raises(TypeError):
            end.read(size)


def test_sizes_beyond_all_memory_are_a_memory_error_and_nothing_leaks(end):
    for size in (sys.maxsize, sys.maxsize - 32, 1 << 100, 1 << 62):
        with pytest.raises(MemoryError):
            end.read(size)
    assert pending() == 0


def test_after_refusals_the_handle_is_as_before(tmp_path):
    with tpio.open(tmp_path / "file", "w+b") as file:
        file.write(b"abc").result(WAIT)
        for size in (-1, sys.maxsize):
            with pytest.raises((ValueError, MemoryError)):
                file.read(size)
        file.write(b"def").result(WAIT)
        assert file.read(100, 0).result(WAIT) == b"abcdef"


# ---- buffers

DATA = b"0123456789abcdef"


@pytest.fixture
def ends():
    reader, writer = tpio.pipe()
    with closing(reader, writer):
        yield reader, writer


class Points(ctypes.Structure):
    _fields_ = (("x", ctypes.c_uint32), ("y", ctypes.c_uint64))


@pytest.mark.parametrize(
    "data",
    [
        DATA,
        bytearray(DATA),
        memoryview(DATA),
        memoryview(b"__" + DATA + b"__")[2:-2],
        memoryview(DATA).cast("I"),
        memoryview(bytearray(DATA)).cast("B", (4, 4)),
        array.array("B", DATA),
        array.array("d", [1.0, 2.0]),
        (ctypes.c_char * 16).from_buffer_copy(DATA),
        Points.from_buffer_copy(DATA),
    ],
    ids=lambda data: type(data).__name__,
)
def test_any_bytes_like_object_can_be_written(ends, data):
    reader, writer = ends
    wanted = memoryview(data).cast("B").tobytes() if not isinstance(data, memoryview) else data.tobytes()
    assert writer.write(data).result(WAIT) == 16
    assert read_exactly(reader, 16) == wanted


@pytest.mark.parametrize(
    "make",
    [
        lambda: bytearray(16),
        lambda: memoryview(bytearray(16)),
        lambda: memoryview(bytearray(20))[2:-2],
        lambda: memoryview(bytearray(16)).cast("I"),
        lambda: array.array("Q", [0, 0]),
        lambda: (ctypes.c_char * 16)(),
        Points,
    ],
    ids=["bytearray", "memoryview", "slice", "cast", "array", "ctypes", "structure"],
)
def test_any_writable_buffer_can_be_read_into(ends, make):
    reader, writer = ends
    buffer = make()
    future = reader.read_into(buffer)
    writer.write(DATA).result(WAIT)
    assert future.result(WAIT) == 16
    assert bytes(buffer) == DATA


@pytest.mark.parametrize("buffer", [b"constant", memoryview(b"constant"), memoryview(bytearray(4)).toreadonly()])
def test_a_read_only_buffer_is_refused_for_reading_into(ends, buffer):
    reader, writer = ends
    with pytest.raises(TypeError, match="writable buffer is needed"):
        reader.read_into(buffer)
    writer.write(b"x").result(WAIT)
    assert reader.read(10).result(WAIT) == b"x"


@pytest.mark.parametrize("data", ["text", 7, None, [1, 2], object()])
def test_what_is_no_buffer_is_refused(ends, data):
    reader, writer = ends
    with pytest.raises(TypeError):
        writer.write(data)
    with pytest.raises(TypeError):
        reader.read_into(data)


def test_a_buffer_with_gaps_is_refused(ends):
    reader, writer = ends
    gaps = memoryview(bytearray(16))[::2]
    with pytest.raises(BufferError, match="contiguous"):
        writer.write(gaps)
    with pytest.raises(BufferError, match="contiguous"):
        reader.read_into(gaps)


def test_a_buffer_belongs_to_the_system_while_the_operation_is_pending(ends):
    reader, writer = ends
    buffer = bytearray(10)
    future = reader.read_into(buffer)
    with pytest.raises(BufferError):
        buffer.extend(b"more")
    writer.write(b"x").result(WAIT)
    future.result(WAIT)
    buffer.extend(b"more")
    reading = reader.read_into(buffer)
    cancel_and_wait(reading)
    buffer.clear()


def test_a_refused_buffer_is_not_held(ends):
    reader, _ = ends
    buffer = bytearray(10)
    reader.close()
    for use in (reader.read_into, reader.write):
        with pytest.raises(ValueError, match="closed"):
            use(buffer)
    buffer.extend(b"free")


# ---- device control


def test_ioctl_asks_a_device(tmp_path):
    get_compression = 0x0009003C  # FSCTL_GET_COMPRESSION: two bytes
    with tpio.open(tmp_path / "file", "w+b") as file:
        asked = file.ioctl(get_compression, output_size=2)
        error = asked.exception(WAIT)
        if isinstance(error, OSError) and error.winerror in (1, 50):
            pytest.skip("this file system does not compress")
        assert asked.result() == b"\0\0"


def test_ioctl_of_a_pipe():
    peek = 0x0011400C  # FSCTL_PIPE_PEEK: 16 bytes of FILE_PIPE_PEEK_BUFFER, then data
    server, client = named_pair()
    with closing(server, client):
        client.write(b"hello").result(WAIT)
        data = server.ioctl(peek, output_size=100).result(WAIT)
        assert data[16:] == b"hello"
        assert server.read(100).result(WAIT) == b"hello"


def test_ioctl_refuses_bad_input(end):
    with pytest.raises((OSError, ValueError)):
        end.ioctl(0xFFFFFFFF).result(WAIT)
    for use, error in (
        (lambda: end.ioctl(-(1 << 31) - 1), OverflowError),
        (lambda: end.ioctl(1 << 32), OverflowError),
        (lambda: end.ioctl("1"), TypeError),
        (lambda: end.ioctl(1.5), TypeError),
        (lambda: end.ioctl(1, "text"), TypeError),
        (lambda: end.ioctl(1, b"", -1), ValueError),
        (lambda: end.ioctl(1, b"", 1 << 31), ValueError),
        (lambda: end.ioctl(1, b"", "1"), TypeError),
    ):
        with pytest.raises(error):
            use()
    end.close()
    with pytest.raises(ValueError, match="closed"):
        end.ioctl(1)


# ---- verbs for the objects of others


class Foreign:
    """An object with a handle, as of some other library."""

    def __init__(self, number):
        self.number = number

    def fileno(self):
        return self.number

    def close(self):
        _tpio.close_handle(self.number)
        self.number = -1


def test_verbs_bind_an_object_once_and_remember_it():
    peer, number = raw_pair()
    with closing(peer):
        foreign = Foreign(number)
        assert tpio.write(foreign, b"one").result(WAIT) == 3
        tpio.write(foreign, b"two").result(WAIT)
        assert peer.read(100).result(WAIT) == b"onetwo"
        buffer = bytearray(5)
        peer.write(b"three").result(WAIT)
        assert tpio.read_into(foreign, buffer).result(WAIT) == 5 and buffer == b"three"
        future = tpio.read(foreign, 1)
        cancel_and_wait(future)
        foreign.close()
        assert peer.read(1).result(WAIT) == b""
        with pytest.raises(ValueError, match="is the object closed"):
            tpio.read(foreign, 1)


def test_verbs_bind_anew_when_the_object_has_another_handle():
    first_peer, first = raw_pair()
    second_peer, second = raw_pair()
    with closing(first_peer, second_peer):
        foreign = Foreign(first)
        tpio.write(foreign, b"first").result(WAIT)
        foreign.close()
        foreign.number = second
        tpio.write(foreign, b"second").result(WAIT)
        assert first_peer.read(100).result(WAIT) == b"first"
        assert first_peer.read(100).result(WAIT) == b""
        assert second_peer.read(100).result(WAIT) == b"second"
        foreign.close()


def test_verbs_forget_an_object_that_is_gone():
    peer, number = raw_pair()
    with closing(peer):
        foreign = Foreign(number)
        tpio.write(foreign, b"x").result(WAIT)
        alive = weakref.ref(foreign)
        del foreign
        gc.collect()
        assert alive() is None
        _tpio.close_handle(number)


def test_verbs_refuse_a_bare_int():
    reader, writer = tpio.pipe()
    with closing(reader, writer):
        for use in (
            lambda: tpio.read(reader.fileno(), 1),
            lambda: tpio.read_into(reader.fileno(), bytearray(1)),
            lambda: tpio.write(writer.fileno(), b"x"),
            lambda: tpio.accept(1),
            lambda: tpio.connect(1, ("127.0.0.1", 1)),
        ):
            with pytest.raises(TypeError, match=r"wrap it in tpio\.Handle"):
                use()


def test_verbs_refuse_what_has_no_handle_and_what_cannot_be_remembered():
    class Slotted:
        __slots__ = ()

        def fileno(self):
            return 1

    for obj in (None, "name", 1.5, object()):
        with pytest.raises(TypeError, match="fileno"):
            tpio.read(obj, 1)
    with pytest.raises(TypeError, match="weak reference"):
        tpio.read(Slotted(), 1)


def test_verbs_take_tpios_own_objects(tmp_path):
    reader, writer = tpio.pipe()
    with closing(reader, writer):
        tpio.write(writer, b"x").result(WAIT)
        assert tpio.read(reader, 1).result(WAIT) == b"x"
    with tpio.open(tmp_path / "file", "w+b") as file:
        tpio.write(file, b"0123456789", 0).result(WAIT)
        assert tpio.read(file, 3, 4).result(WAIT) == b"456"
        buffer = bytearray(2)
        tpio.read_into(file, buffer, offset=8).result(WAIT)
        assert buffer == b"89"


def test_a_forgotten_binding_cancels_nothing_of_the_handle_that_took_its_value():
    """The value of a closed handle is used again. What still remembers the closed one must not touch the new one."""
    plain, peer = plain_tcp_pair()
    tpio.write(plain, b"x").result(WAIT)
    number = plain.fileno()
    plain.close()
    peer.close()
    others = []
    with tpio.listen(("127.0.0.1", 0)) as listener:
        while len(others) < 200:
            others.append(other := socket.socket())
            if other.fileno() == number:
                break
        else:
            pytest.skip("the value was not used again")
        tpio.connect(other, listener.getsockname()).result(WAIT)
        server, _ = listener.accept().result(WAIT)
        with closing(server, *others):
            future = tpio.read(other, 10)
            del plain
            gc.collect()
            server.write(b"mine").result(WAIT)
            assert future.result(WAIT) == b"mine"
