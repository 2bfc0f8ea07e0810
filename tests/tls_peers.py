"""What tpio.tls talks with in the tests: Python's ssl (OpenSSL), or somebody who does not speak TLS.

Under Wine 8 tpio.tls is a client of TLS 1.2 at most; what its Schannel cannot do is skipped and runs on Windows. The messages
of TLS 1.3, and every split of every record, are in tests/tls_machine.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import pki
import support
import tpio
import tpio.aio
import wines
from support import WAIT
from tpio import tls

serves = wines.skipif("there is no server of TLS (AcceptSecurityContext)", through=9)
windows_only = wines.skipif("Schannel does not do this; Windows does")


def uses_keys(test: Any) -> Any:
    """Wine keeps a handle open for each imported key that credentials have used."""
    return pytest.mark.once(handles=4)(test) if support.wine else test


LOOPS = pytest.mark.parametrize("loop", [tpio.aio.EventLoop, asyncio.ProactorEventLoop])


def server_context(issued: pki.Issued) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile(delete=False, suffix=".pem") as file:
        file.write(issued.pem)
    made.load_cert_chain(file.name)
    os.unlink(file.name)
    return made


def echo(connection: ssl.SSLSocket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.unwrap()


@contextmanager
def serving(
    issued: pki.Issued,
    handler: Callable[[ssl.SSLSocket], object] = echo,
    configure: Callable[[ssl.SSLContext], object] = lambda context: None,
    failures: list[BaseException] | None = None,
) -> Iterator[Any]:
    """The address of a server that handles one connection with ssl. What the client makes it fail with goes to `failures`."""
    made = server_context(issued)
    configure(made)

    def serve() -> None:
        try:
            raw, _ = listener.accept()
        except OSError:
            return
        raw.settimeout(WAIT)
        with raw:
            try:
                with made.wrap_socket(raw, server_side=True) as connection:
                    handler(connection)
            except OSError as error:
                if failures is None:
                    raise
                failures.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        with support.thread(serve):
            try:
                yield listener.getsockname()
            finally:
                with socket.socket() as waker:  # for the thread that still accepts
                    waker.connect_ex(listener.getsockname())


def connect(address: Any, context: tls.Context | None, name: str = "localhost") -> tls.TLSStream:
    return tls.connect(address, context=context, server_hostname=name).result(WAIT)


@contextmanager
def plain_server(handler: Callable[[socket.socket], object]) -> Iterator[Any]:
    def serve() -> None:
        raw, _ = listener.accept()
        raw.settimeout(WAIT)
        with raw:
            try:
                handler(raw)
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener, support.thread(serve):
        yield listener.getsockname()


def require_certificate(ca: pki.Authority) -> Callable[[ssl.SSLContext], None]:
    def configure(made: ssl.SSLContext) -> None:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(cadata=ca.certificate.decode())

    return configure


def server_side(issued: pki.Issued, **options: Any) -> tls.Context:
    return tls.Context(server=True, certificate=tls.Certificate.from_pem(issued.pem), **options)


def ssl_client(address: Any, ca: pki.Authority, **options: Any) -> ssl.SSLSocket:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(cadata=ca.certificate.decode())
    for name, value in options.items():
        value(made) if callable(value) else setattr(made, name, value)
    return made.wrap_socket(socket.create_connection(address, WAIT), server_hostname="localhost")


def run(loop: Any, main: Any) -> Any:
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main)
