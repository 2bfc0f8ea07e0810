"""The C API, from other extension modules: the examples in C and in Cython, which dev.py builds."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import socket
import struct
from pathlib import Path
from types import ModuleType

import pytest

import support
import tpio
from ends import WAIT, closing, named_pair, tcp_pair
from tpio import _tpio

EXAMPLES = os.environ.get("TPIO_EXAMPLES")
built = pytest.mark.skipif(EXAMPLES is None, reason="the examples are not built: run the tests by dev.py")


def load(name: str) -> ModuleType:
    (path,) = Path(EXAMPLES).glob(f"{name}.*.pyd")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def echo_c() -> ModuleType:
    return load("echo_c")


@pytest.fixture(scope="module")
def echo_cython() -> ModuleType:
    return load("echo_cython")


def echo(sock: socket.socket, data: bytes) -> bytes:
    """What comes back, while all of it is still being sent."""
    received = bytearray()
    with support.thread(sock.sendall, data):
        while len(received) < len(data):
            part = sock.recv(65536)
            assert part
            received += part
    return bytes(received)


def test_the_headers_are_where_get_include_says():
    folder = Path(tpio.get_include())
    assert {"tpio.h", "tpio_core.h", "tpio_win32.h"} <= {file.name for file in folder.iterdir()}
    assert (folder.parent / "__init__.pxd").exists()


def api_header() -> tuple[int, int, int]:
    """version, size, and size of an operation: the beginning of what the capsule has."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return struct.unpack("III", ctypes.string_at(get(_tpio._C_API, b"tpio._tpio._C_API"), 12))


def test_the_capsule_says_what_it_is():
    version, size, op_size = api_header()
    assert version == 1
    assert size % struct.calcsize("P") == 0 and size > 30 * struct.calcsize("P")
    assert op_size > 64


# ---- in C


@built
def test_an_echo_server_in_c(echo_c):
    _, before = echo_c.statistics()
    with tpio.listen(("127.0.0.1", 0)) as listener:
        echo_c.serve(listener)
        data = os.urandom(3_000_000)
        with socket.create_connection(listener.getsockname()) as client:
            assert echo(client, data) == data
            assert echo_c.statistics()[0] == 1
        assert echo_c.statistics()[1] - before == len(data)
        assert support.eventually(lambda: echo_c.statistics()[0] == 0)


@built
def test_many_clients_of_the_server_in_c(echo_c):
    with tpio.listen(("127.0.0.1", 0)) as listener:
        echo_c.serve(listener)

        def client() -> None:
            for size in (1, 1000, 100_000):
                with socket.create_connection(listener.getsockname()) as sock:
                    data = os.urandom(size)
                    assert echo(sock, data) == data

        support.at_once(*[client] * 6)
        assert support.eventually(lambda: echo_c.statistics()[0] == 0)


@built
@pytest.mark.skipif(not support.gil, reason="there is no GIL")
@pytest.mark.parametrize("which", ["echo_c", "echo_cython"])
def test_callbacks_do_not_need_the_gil(which, request):
    """The answer comes while this thread has the GIL and does not let go of it."""
    module = request.getfixturevalue(which)
    # PyDLL: calls that keep the GIL. Without an answer it would be kept for good, hence the time limit.
    recv = ctypes.PyDLL("ws2_32").recv
    recv.argtypes = (ctypes.c_size_t, ctypes.c_char_p, ctypes.c_int, ctypes.c_int)
    with tpio.listen(("127.0.0.1", 0)) as listener:
        if which == "echo_c":
            module.serve(listener)
        else:
            accepting = listener.accept()
        with socket.create_connection(listener.getsockname()) as client:
            if which == "echo_cython":
                module.serve(accepting.result(WAIT)[0])
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 1000 * WAIT)
            buffer = ctypes.create_string_buffer(10)
            for number in range(20):
                message = b"%05d" % number
                client.sendall(message)
                assert recv(client.fileno(), buffer, 10, 0) == 5
                assert buffer.raw[:5] == message


@built
def test_closing_the_listener_ends_the_server_and_not_its_connections(echo_c):
    with tpio.listen(("127.0.0.1", 0)) as listener:
        echo_c.serve(listener)
        with socket.create_connection(listener.getsockname()) as client:
            assert echo(client, b"one") == b"one"
            listener.close()
            assert echo(client, b"two") == b"two"
        assert support.eventually(lambda: echo_c.statistics()[0] == 0)


@built
def test_clients_that_reset_do_not_stop_the_server(echo_c):
    with tpio.listen(("127.0.0.1", 0)) as listener:
        echo_c.serve(listener)
        for _ in range(10):
            with socket.create_connection(listener.getsockname()) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("HH", 1, 0))
        with socket.create_connection(listener.getsockname()) as client:
            assert echo(client, b"still here") == b"still here"
        assert support.eventually(lambda: echo_c.statistics()[0] == 0)


@built
def test_in_a_pool_of_its_own_whose_close_ends_it(echo_c):
    with tpio.Pool() as pool:
        listener = tpio.listen(("127.0.0.1", 0), pool=pool)
        echo_c.serve(listener)
        client = socket.create_connection(listener.getsockname())
        assert echo(client, b"hello") == b"hello"
        assert pool.stats().handles == 2
        # An accept, and a receive, which follows the send that the client has seen.
        assert support.eventually(lambda: pool.stats().pending == 2)
    with client:
        assert client.recv(1) == b""
    assert support.eventually(lambda: echo_c.statistics()[0] == 0)  # its last callback may be on its way
    listener.close()


@built
def test_what_is_no_listener_is_refused(echo_c):
    for bad in (None, 5, "listener", socket):
        with pytest.raises(TypeError):
            echo_c.serve(bad)
    reader, writer = tpio.pipe()
    with closing(reader, writer), pytest.raises(TypeError, match="socket"):
        echo_c.serve(reader)
    with tpio.Socket() as not_listening:
        echo_c.serve(not_listening)  # the accept fails, and that is all
    with pytest.raises(ValueError, match="closed"):
        echo_c.serve(not_listening)
    assert support.eventually(lambda: echo_c.statistics()[0] == 0)


# ---- in Cython


@built
@pytest.mark.parametrize("make", [named_pair, tcp_pair])
def test_an_echo_in_cython(echo_cython, make):
    ours, theirs = make()
    with closing(ours, theirs):
        echo_cython.serve(theirs)
        data = os.urandom(1_000_000)
        writing = ours.write(data)
        received = b""
        while len(received) < len(data):
            received += ours.read(65536).result(WAIT)
        assert received == data
        assert writing.result(WAIT) == len(data)


@built
def test_the_echo_in_cython_closes_at_the_end(echo_cython):
    ours, theirs = named_pair()
    echo_cython.serve(theirs)
    ours.close()
    assert support.eventually(lambda: theirs.closed)


@built
def test_the_echo_in_cython_outlives_the_object_in_python(echo_cython):
    ours, theirs = tcp_pair()
    with closing(ours):
        echo_cython.serve(theirs)
        theirs.close()
        assert ours.recv(1).result(WAIT) == b""
    ours, theirs = named_pair()
    with closing(ours):
        echo_cython.serve(theirs)
        del theirs  # which closes it too
        gc.collect()
        assert ours.read(1).result(WAIT) == b""


@built
def test_what_is_no_handle_is_refused(echo_cython):
    with pytest.raises(TypeError):
        echo_cython.serve(5)
    ours, theirs = named_pair()
    ours.close()
    theirs.close()
    with pytest.raises(ValueError, match="closed"):
        echo_cython.serve(ours)


# ---- the process


@built
def test_exit_with_servers_running_is_silent():
    code = f"""
import sys; sys.path.insert(0, {EXAMPLES!r})
import echo_c, echo_cython, socket, tpio
listener = tpio.listen(("127.0.0.1", 0))
echo_c.serve(listener)
client = socket.create_connection(listener.getsockname())
client.sendall(b"x"); assert client.recv(1) == b"x"
pipes = tpio.PipeListener("tpio-test-exit-" + __import__("secrets").token_hex(8))
accepting = pipes.accept()
ours = tpio.open_pipe(pipes.name).result(60)
echo_cython.serve(accepting.result(60))
ours.write(b"y").result(60); assert ours.read(1).result(60) == b"y"
print("done")
"""
    done = support.python(code)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["done"], "")


@built
@pytest.mark.parametrize(("field", "value"), [(0, 2), (1, 8), (2, 7)], ids=["version", "size", "operations"])
def test_another_version_is_refused(field, value):
    code = f"""
import ctypes, sys; sys.path.insert(0, {EXAMPLES!r})
from tpio import _tpio
get = ctypes.pythonapi.PyCapsule_GetPointer
get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
ctypes.c_uint.from_address(get(_tpio._C_API, b"tpio._tpio._C_API") + 4 * {field}).value = {value}
for name in ("echo_c", "echo_cython"):
    try:
        __import__(name)
    except ImportError as error:
        print(error)
"""
    done = support.python(code)
    assert done.stderr == ""
    assert done.stdout.count("built for 1") == 2
