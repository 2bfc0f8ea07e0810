"""The public names: what is there, what is not, and who makes an object."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

import tpio
import tpio.tls
from support import WAIT
from tpio._tpio import close_handle, create_file, file_size

MADE_BY_FUNCTIONS = [
    (tpio.Watcher, "tpio.watch"),
    (tpio.Process, "tpio.spawn"),
    (tpio.tls.TLSStream, "tpio.tls.connect"),
]


@pytest.mark.parametrize(("made", "maker"), MADE_BY_FUNCTIONS, ids=lambda value: getattr(value, "__name__", None))
def test_a_class_without_a_public_constructor_names_the_function_that_makes_it(made, maker):
    with pytest.raises(TypeError, match=rf"{made.__name__} has no public constructor: {maker}\(\)"):
        made()


def test_dir_shows_the_api_alone():
    assert set(dir(tpio)) == {*tpio.__all__, "__version__", "aio", "tls", "trio"}
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = tpio.nonsense


class PyHandle:
    """As pywin32's: an int in `handle`, and Detach() and Close() of its own."""

    def __init__(self, handle: int) -> None:
        self.handle = handle


def test_an_object_with_a_handle_is_bound_and_stays_its_owners(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    number = create_file(str(path), 0x80000000, 7, 3, 0x40000000)
    owner = PyHandle(number)
    try:
        with tpio.Handle(owner, owns=False) as handle:
            assert handle.read(3).result(WAIT) == b"abc"
        assert file_size(number) == 3  # still open
    finally:
        close_handle(number)
    with pytest.raises(TypeError, match="not 'object'"):
        tpio.Handle(object())
    with pytest.raises(TypeError):
        tpio.Handle(PyHandle("5"))


def test_a_handle_and_a_process_are_async_context_managers():
    async def main():
        reader, writer = tpio.pipe()
        async with reader, writer:
            await writer.write(b"x")
            assert await reader.read(1) == b"x"
        assert reader.closed
        assert writer.closed
        async with tpio.spawn([sys.executable, "-c", ""]) as process:
            assert await process.wait() == 0
        with pytest.raises(ValueError, match="closed"):
            _ = process.handle

    asyncio.run(main())


def test_the_names_are_those_of_the_socket_module_and_have_no_aliases():
    for name in ("recvfrom", "recvfrom_into", "sendto", "sendmsg", "recvmsg_into"):
        assert callable(getattr(tpio.Socket, name))
    for name in ("recv_from", "recv_from_into", "send_to", "send_msg", "recv_msg_into"):
        assert not hasattr(tpio.Socket, name)
    assert callable(tpio.wait_for_handle)
    assert not hasattr(tpio, "wait")
