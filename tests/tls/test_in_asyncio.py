"""A tpio.tls.Context in the place of an ssl.SSLContext."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import Any

import pytest

import pki
import tpio
import tpio.aio
from tls_peers import (
    LOOPS,
    echo,
    plain_server,
    run,
    server_context,
    serving,
)
from tpio import tls


@LOOPS
def test_the_context_serves_the_streams_of_asyncio(loop: Any, server: pki.Issued, ca: pki.Authority) -> None:
    context = tls.Context(cadata=ca.certificate, alpn=["http/1.1"])
    data = os.urandom(1 << 20)

    async def main(address: Any) -> None:
        reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname="localhost")
        end = writer.get_extra_info("ssl_object")
        assert end.getpeercert(True) == server.der and end.selected_alpn_protocol() == "http/1.1"
        assert writer.get_extra_info("cipher")[1] == end.version()
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        writer.close()
        await writer.wait_closed()

    with serving(server, echo, lambda made: made.set_alpn_protocols(["http/1.1"]), []) as address:
        run(loop, main(address))


@LOOPS
def test_what_the_context_refuses_is_an_error_of_ssl_to_asyncio(
    loop: Any, server: pki.Issued, context: tls.Context
) -> None:
    async def main(address: Any) -> None:
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await asyncio.open_connection(*address, ssl=context, server_hostname="other.test")
        assert isinstance(caught.value, tls.CertificateVerificationError)
        assert caught.value.reasons == ("wrong name",) and caught.value.winerror

    with serving(server, failures=[]) as address:
        run(loop, main(address))


@LOOPS
def test_the_end_of_the_peer_is_the_end_of_the_stream(loop: Any, server: pki.Issued, context: tls.Context) -> None:
    async def main(address: Any) -> None:
        reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname="localhost")
        assert await reader.read() == b"all"
        writer.close()
        await writer.wait_closed()

    def send(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"all")
        connection.unwrap()

    with serving(server, send, failures=[]) as address:
        run(loop, main(address))


def test_start_tls_takes_the_context(server: pki.Issued, context: tls.Context) -> None:
    made = server_context(server)

    def serve(raw: socket.socket) -> None:
        assert raw.recv(8) == b"STARTTLS"
        raw.sendall(b"go")
        with made.wrap_socket(raw, server_side=True) as connection:
            echo(connection)

    async def main(address: Any) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"STARTTLS")
        assert await reader.readexactly(2) == b"go"
        await writer.start_tls(context, server_hostname="localhost")
        writer.write(b"secret")
        assert await reader.readexactly(6) == b"secret"
        writer.close()
        await writer.wait_closed()

    with plain_server(serve) as address:
        run(tpio.aio.EventLoop, main(address))


def test_what_would_block_the_loop_is_refused(context: tls.Context) -> None:
    bios = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ValueError, match="block the event loop"):
        tls.Context(revocation="full").wrap_bio(*bios, server_hostname="localhost")
    with pytest.raises(ValueError, match="server_hostname"):
        context.wrap_bio(*bios)
    with pytest.raises(ValueError, match="for a server"):
        context.wrap_bio(*bios, server_side=True)
