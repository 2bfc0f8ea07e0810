"""tpio.tls as a server."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest

import pki
import support
from ends import read_exactly
from support import WAIT
from tls_peers import (
    LOOPS,
    connect,
    run,
    server_side,
    serves,
    ssl_client,
    uses_keys,
    windows_only,
)
from tpio import tls


@serves
@uses_keys
def test_a_server_serves(server: pki.Issued, ca: pki.Authority) -> None:
    got: list[bytes] = []
    data = os.urandom(300_000)

    def client() -> None:
        with ssl_client(listener.getsockname(), ca) as connection:
            connection.sendall(data)
            while len(b"".join(got)) < len(data):
                got.append(connection.recv(65536))
            connection.unwrap()

    with tls.listen(("127.0.0.1", 0), server_side(server)) as listener, support.thread(client):
        stream, address = listener.accept().result(WAIT)
        assert address[0] == "127.0.0.1"
        with stream:
            left = len(data)
            while left:
                part = stream.read(65536).result(WAIT)
                stream.write(part).result(WAIT)
                left -= len(part)
            assert stream.read(1).result(WAIT) == b""
            stream.unwrap().result(WAIT).close()
    assert b"".join(got) == data


@serves
@uses_keys
def test_a_client_that_does_not_speak_tls_is_passed_over(server: pki.Issued, ca: pki.Authority) -> None:
    def clients() -> None:
        with socket.create_connection(listener.getsockname()) as raw:
            raw.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while raw.recv(100):
                pass
        with ssl_client(listener.getsockname(), ca) as connection:
            connection.sendall(b"x")
            connection.recv(1)

    with tls.listen(("127.0.0.1", 0), server_side(server)) as listener, support.thread(clients):
        stream, _ = listener.accept().result(WAIT)
        with stream:
            assert stream.read(1).result(WAIT) == b"x"


@serves
@uses_keys
def test_a_server_chooses_the_protocol(server: pki.Issued, ca: pki.Authority) -> None:
    chosen: list[Any] = []

    def client() -> None:
        with ssl_client(
            listener.getsockname(), ca, alpn=lambda made: made.set_alpn_protocols(["h2", "http/1.1"])
        ) as one:
            chosen.append(one.selected_alpn_protocol())
            one.unwrap()

    with tls.listen(("127.0.0.1", 0), server_side(server, alpn=["http/1.1"])) as listener, support.thread(client):
        stream, _ = listener.accept().result(WAIT)
        assert stream.alpn == "http/1.1"
        stream.unwrap().result(WAIT).close()
    assert chosen == ["http/1.1"]


@serves
@uses_keys
@LOOPS
def test_the_context_serves_a_server_of_asyncio(loop: Any, server: pki.Issued, ca: pki.Authority) -> None:
    ended: asyncio.Event

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(100_000))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        ended.set()

    def client(address: Any) -> None:
        with ssl_client(address, ca) as connection:
            connection.sendall(b"x" * 100_000)
            got = 0
            while part := connection.recv(65536):
                got += len(part)
            assert got == 100_000

    async def main() -> None:
        nonlocal ended
        ended = asyncio.Event()
        serving = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_side(server))  # type: ignore[arg-type]
        async with serving:
            await asyncio.to_thread(client, serving.sockets[0].getsockname())
            await ended.wait()

    run(loop, main())


@windows_only
def test_a_server_verifies_its_clients(server: pki.Issued, ca: pki.Authority, tmp_path: Any) -> None:
    client = ca.issue("client", use=pki.CLIENT_AUTH)
    (tmp_path / "client.pem").write_bytes(client.pem)

    def clients() -> None:
        for certificate in (False, True):
            try:
                with ssl_client(
                    listener.getsockname(),
                    ca,
                    load=lambda made, own=certificate: own and made.load_cert_chain(tmp_path / "client.pem"),
                ) as connection:
                    connection.sendall(b"x")
                    connection.recv(1)
            except OSError:
                assert not certificate

    context = server_side(server, verify=True, cadata=ca.certificate)
    with tls.listen(("127.0.0.1", 0), context) as listener, support.thread(clients):
        stream, _ = listener.accept().result(WAIT)
        with stream:
            assert stream.peer_certificate == client.der
            assert stream.read(1).result(WAIT) == b"x"


@windows_only
@pytest.mark.parametrize("version", [tls.Version.TLSv1_2, tls.Version.TLSv1_3])
def test_both_sides_are_the_systems(version: tls.Version, server: pki.Issued, ca: pki.Authority) -> None:
    limits = {"minimum_version": version, "maximum_version": version}
    with tls.listen(("127.0.0.1", 0), server_side(server, **limits)) as listener:
        accepting = listener.accept()
        context = tls.Context(cadata=ca.certificate, **limits)
        with connect(listener.getsockname(), context) as client:
            stream, _ = accepting.result(WAIT)
            with stream:
                assert stream.version == client.version == version.name.replace("_", ".")
                client.write(b"x" * 100_000).result(WAIT)
                assert read_exactly(stream, 100_000) == b"x" * 100_000
                ends = client.unwrap(), stream.unwrap()
                for end in ends:
                    end.result(WAIT).close()
