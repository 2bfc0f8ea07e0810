"""What the two sides agree on, and when they do not."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from concurrent.futures import CancelledError
from typing import Any

import pytest

import pki
import tpio
import tpio.aio
from ends import read_exactly
from support import WAIT
from tls_peers import (
    connect,
    echo,
    plain_server,
    serving,
    windows_only,
)
from tpio import tls

# ---- what was agreed on


def test_what_was_agreed_on_is_the_same_on_both_sides(server: pki.Issued, ca: pki.Authority) -> None:
    seen: dict[str, Any] = {}

    def look(connection: ssl.SSLSocket) -> None:
        seen.update(version=connection.version(), cipher=connection.cipher(), alpn=connection.selected_alpn_protocol())
        if connection.version() == "TLSv1.2":
            seen["unique"] = connection.get_channel_binding("tls-unique")
        echo(connection)

    context = tls.Context(cadata=ca.certificate, alpn=["spdy/99", "http/1.1"])
    with serving(server, look, lambda made: made.set_alpn_protocols(["h2", "http/1.1"])) as address:
        with connect(address, context) as stream:
            stream.write(b"x").result(WAIT)
            read_exactly(stream, 1)
            name, version, bits = stream.cipher
            assert (stream.version, version, bits) == (seen["version"], seen["version"], seen["cipher"][2])
            assert not name or name.startswith("TLS_")
            assert stream.alpn == seen["alpn"] == "http/1.1"
            assert stream.peer_certificate == server.der
            assert stream.channel_binding() in (hashlib.sha256(server.der).digest(), None)
            if "unique" in seen:
                assert stream.channel_binding("tls-unique") in (seen["unique"], None)
            assert stream.server_hostname == "localhost" and stream.context is context
            with pytest.raises(ValueError, match="tls-unique"):
                stream.channel_binding("other")  # type: ignore[arg-type]
            stream.unwrap().result(WAIT).close()


def test_no_common_protocol_is_none(server: pki.Issued, ca: pki.Authority) -> None:
    context = tls.Context(cadata=ca.certificate, alpn=["a"])
    with serving(server, echo, lambda made: made.set_alpn_protocols(["b"])) as address:
        with connect(address, context) as stream:
            assert stream.alpn is None
            stream.unwrap().result(WAIT).close()


def test_the_maximum_version_is_heeded(server: pki.Issued, ca: pki.Authority) -> None:
    context = tls.Context(cadata=ca.certificate, maximum_version=tls.Version.TLSv1_2)
    with serving(server) as address, connect(address, context) as stream:
        assert stream.version == "TLSv1.2"
        stream.unwrap().result(WAIT).close()


@windows_only
def test_tls_1_3_with_tickets(server: pki.Issued, ca: pki.Authority) -> None:
    context = tls.Context(cadata=ca.certificate, minimum_version=tls.Version.TLSv1_3)
    with serving(server) as address, connect(address, context) as stream:
        assert stream.version == "TLSv1.3"
        for size in (1, 100_000):
            stream.write(b"x" * size).result(WAIT)
            assert read_exactly(stream, size) == b"x" * size
        stream.unwrap().result(WAIT).close()


def test_no_common_version_is_an_error(server: pki.Issued, ca: pki.Authority) -> None:
    def newest(made: ssl.SSLContext) -> None:
        made.minimum_version = ssl.TLSVersion.TLSv1_3

    context = tls.Context(cadata=ca.certificate, maximum_version=tls.Version.TLSv1_2)
    with serving(server, echo, newest, []) as address:
        with pytest.raises(tls.TLSError) as caught:
            connect(address, context)
        assert not isinstance(caught.value, tls.CertificateVerificationError)
        assert caught.value.winerror


# ---- handshakes that do not succeed


def test_a_peer_that_does_not_speak_tls_is_an_error(context: tls.Context) -> None:
    with plain_server(lambda raw: raw.sendall(b"220 mail.example.org ESMTP ready and waiting\r\n")) as address:
        with pytest.raises(tls.TLSError):
            connect(address, context)


def test_a_peer_that_goes_within_the_handshake_is_a_truncation(context: tls.Context) -> None:
    with plain_server(lambda raw: raw.recv(100_000)) as address:
        with pytest.raises(tls.TLSTruncatedError):
            connect(address, context)


def test_a_handshake_can_be_cancelled_and_has_a_time_limit(context: tls.Context) -> None:
    began, go_on = threading.Event(), threading.Event()

    def wait(raw: socket.socket) -> None:
        raw.recv(100_000)
        began.set()
        go_on.wait(WAIT)

    for limit in (0.05, None):
        began.clear()
        go_on.clear()
        with plain_server(wait) as address:
            sock = tpio.open_connection(address).result(WAIT)
            shaking = tls.wrap(sock, context, server_hostname="localhost", timeout=limit)
            if limit is None:
                assert began.wait(WAIT)
                assert shaking.cancel()
                with pytest.raises(CancelledError):
                    shaking.result(WAIT)
            else:
                with pytest.raises(TimeoutError):
                    shaking.result(WAIT)
            assert sock.closed
            go_on.set()


def test_a_failed_handshake_closes_the_handle(server: pki.Issued, context: tls.Context) -> None:
    with serving(server, failures=[]) as address:
        sock = tpio.open_connection(address).result(WAIT)
        with pytest.raises(tls.CertificateVerificationError):
            tls.wrap(sock, context, server_hostname="other.test").result(WAIT)
        assert sock.closed


def test_a_socket_of_the_standard_library_can_be_wrapped(server: pki.Issued, context: tls.Context) -> None:
    with serving(server) as address, socket.create_connection(address) as sock:
        stream = tls.wrap(sock, context, server_hostname="localhost").result(WAIT)
        stream.write(b"x").result(WAIT)
        assert read_exactly(stream, 1) == b"x"
        stream.unwrap().result(WAIT).close()


# ---- misuse


def test_misuse_is_refused_at_once(server: pki.Issued, context: tls.Context) -> None:
    with pytest.raises(ValueError, match="needs a certificate"):
        tls.Context(server=True)
    for options, words in (
        ({"revocation": "perhaps"}, "revocation"),
        ({"alpn": [""]}, "characters"),
        ({"alpn": ["x" * 256]}, "characters"),
        ({"alpn": ["x" * 255] * 300}, "too many"),
        ({"minimum_version": tls.Version.TLSv1_3, "maximum_version": tls.Version.TLSv1_2}, "below"),
        ({"minimum_version": 3}, "not a valid"),
        ({"cadata": b"no certificate"}, "no certificate"),
        ({"cadata": ""}, "no certificate"),
    ):
        with pytest.raises(ValueError, match=words):
            tls.Context(**options)  # type: ignore[arg-type]
    with pytest.raises(tls.TLSError):
        tls.Context(cadata=b"\x30\x03\x02\x01\x01")
    with pytest.raises(FileNotFoundError):
        tls.Context(cafile="no such file")
    with pytest.raises(TypeError, match="list"):
        tls.Context(alpn="http/1.1")
    with pytest.raises(TypeError):
        tls.Context(certificate=server)  # type: ignore[arg-type]
    with tpio.Socket() as sock:
        with pytest.raises(ValueError, match="server_hostname"):
            tls.wrap(sock, context)
        with pytest.raises(TypeError):
            tls.wrap(sock, ssl.create_default_context(), server_hostname="localhost")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="closed"):
        tls.wrap(sock, context, server_hostname="localhost")  # closed
    with pytest.raises(TypeError):
        tls.wrap(5, context, server_hostname="localhost")
    with pytest.raises(ValueError, match="server"):
        tls.listen(("127.0.0.1", 0), context)  # of a client
    with serving(server) as address, connect(address, context) as stream:
        for call, error in (
            (lambda: stream.read(-1), ValueError),
            (lambda: stream.read("1"), (TypeError, AttributeError)),
            (lambda: stream.read_into(b"read only"), TypeError),
            (lambda: stream.read_into(5), TypeError),
            (lambda: stream.write("text"), TypeError),
            (lambda: stream.write(memoryview(bytes(10))[::2]), BufferError),
        ):
            with pytest.raises(error):
                call()
        assert stream.read_into(bytearray()).result(WAIT) == 0
        stream.unwrap().result(WAIT).close()
