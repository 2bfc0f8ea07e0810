"""TLS by the system, against Python's ssl (OpenSSL) on the other side.

Under Wine 8 tpio.tls is a client of TLS 1.2 at most; what its Schannel cannot do is skipped here and runs on Windows. The
messages of TLS 1.3, and every split of every record, are in tests/tls_machine.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import hashlib
import os
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

import pytest

import pki
import support
import tpio
import tpio.aio
from ends import read_exactly
from support import WAIT
from tpio import tls

_wine_version = 0
if support.wine:
    _version = ctypes.CDLL("ntdll").wine_get_version
    _version.restype = ctypes.c_char_p
    _wine_version = int(_version().decode().split(".")[0])

serves = pytest.mark.skipif(0 < _wine_version < 10, reason="Wine 8 has no server of TLS (AcceptSecurityContext)")
windows_only = pytest.mark.skipif(support.wine, reason="Wine's Schannel does not do this; Windows does")


def uses_keys(test: Any) -> Any:
    """Wine keeps a handle open for each imported key that credentials have used."""
    return pytest.mark.once(handles=4)(test) if support.wine else test


@pytest.fixture(scope="module")
def ca() -> pki.Authority:
    return pki.Authority("Test CA")


@pytest.fixture(scope="module")
def server(ca: pki.Authority) -> pki.Issued:
    return ca.issue("server", names=["localhost"], addresses=["127.0.0.1"])


@pytest.fixture
def context(ca: pki.Authority) -> tls.Context:
    return tls.Context(cadata=ca.certificate)


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


# ---- data


def test_what_is_written_comes_back(server: pki.Issued, context: tls.Context) -> None:
    with serving(server) as address, connect(address, context) as stream:
        assert stream.write(b"hello").result(WAIT) == 5
        assert read_exactly(stream, 5) == b"hello"
        assert stream.write(b"").result(WAIT) == 0
        assert stream.read(0).result(WAIT) == b""
        stream.unwrap().result(WAIT).close()


def test_more_than_a_record_each_way_with_a_checksum(server: pki.Issued, context: tls.Context) -> None:
    """300 MB with TPIO_LONG=1."""
    block = os.urandom(1 << 20)
    blocks = 300 if support.long else 8
    wanted, got = hashlib.sha256(), hashlib.sha256()
    for _ in range(blocks):
        wanted.update(block)
    with serving(server) as address, connect(address, context) as stream:

        def write() -> None:
            for _ in range(blocks):
                assert stream.write(block).result(WAIT) == len(block)

        with support.thread(write):
            left = blocks * len(block)
            while left:
                data = stream.read(min(left, 1 << 18)).result(WAIT)
                assert data
                got.update(data)
                left -= len(data)
        stream.unwrap().result(WAIT).close()
    assert got.digest() == wanted.digest()


def test_reads_smaller_than_a_record_and_into_a_buffer(server: pki.Issued, context: tls.Context) -> None:
    data = bytes(range(256)) * 40
    with serving(server) as address, connect(address, context) as stream:
        stream.write(data).result(WAIT)
        got = b"".join(read_exactly(stream, 1) for _ in range(300))
        buffer = bytearray(1000)
        while len(got) < len(data):
            count = stream.read_into(buffer).result(WAIT)
            assert 0 < count <= len(buffer)
            got += buffer[:count]
        assert got == data
        stream.unwrap().result(WAIT).close()


def test_several_records_in_one_read(server: pki.Issued, context: tls.Context) -> None:
    def send(connection: ssl.SSLSocket) -> None:
        for number in range(200):
            connection.sendall(bytes([number]) * 50)
        connection.unwrap()

    with serving(server, send) as address, connect(address, context) as stream:
        got = b""
        while data := stream.read(1 << 16).result(WAIT):
            got += data
        assert got == b"".join(bytes([number]) * 50 for number in range(200))
        assert stream.read(1).result(WAIT) == b""
        stream.unwrap().result(WAIT).close()


def test_empty_records_are_no_end(server: pki.Issued, context: tls.Context) -> None:
    def send(connection: ssl.SSLSocket) -> None:
        connection.send(b"")
        connection.sendall(b"data")
        connection.unwrap()

    with serving(server, send) as address, connect(address, context) as stream:
        assert stream.read(10).result(WAIT) == b"data"
        stream.unwrap().result(WAIT).close()


def test_many_reads_and_writes_in_flight_keep_their_order(server: pki.Issued, context: tls.Context) -> None:
    with serving(server) as address, connect(address, context) as stream:
        reads = [stream.read(1) for _ in range(300)]
        writes = [stream.write(bytes([number % 256])) for number in range(300)]
        assert [future.result(WAIT) for future in writes] == [1] * 300
        assert b"".join(future.result(WAIT) for future in reads) == bytes(number % 256 for number in range(300))
        stream.unwrap().result(WAIT).close()


def test_tasks_await_it(server: pki.Issued, context: tls.Context) -> None:
    async def main(address: Any) -> None:
        with await tls.connect(address, context=context, server_hostname="localhost") as stream:
            assert await stream.write(b"x" * 100_000) == 100_000
            got = 0
            while got < 100_000:
                got += len(await stream.read(4096))
            (await stream.unwrap()).close()

    with serving(server) as address:
        asyncio.run(main(address))


def test_it_goes_over_a_named_pipe(server: pki.Issued, context: tls.Context) -> None:
    def serve(pipe: tpio.Pipe) -> None:
        made, incoming, outgoing = server_context(server), ssl.MemoryBIO(), ssl.MemoryBIO()
        end = made.wrap_bio(incoming, outgoing, server_side=True)

        def run(step: Callable[..., Any], *args: Any) -> Any:
            while True:
                try:
                    result = step(*args)
                except ssl.SSLWantReadError:
                    result = None
                if data := outgoing.read():
                    pipe.write(data).result(WAIT)
                if result is not None:
                    return result
                incoming.write(pipe.read(65536).result(WAIT))

        run(lambda: end.do_handshake() or True)
        run(end.write, run(end.read, 100))

    name = rf"\\.\pipe\tpio-test-{os.urandom(8).hex()}"
    with tpio.PipeListener(name) as listener:
        accepted = listener.accept()
        client = tpio.open_pipe(name).result(WAIT)
        with accepted.result(WAIT) as pipe, support.thread(serve, pipe):
            with tls.wrap(client, context, server_hostname="localhost").result(WAIT) as stream:
                stream.write(b"over a pipe").result(WAIT)
                assert read_exactly(stream, 11) == b"over a pipe"


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


# ---- certificates


GOOD = {
    "name": ({"names": ["localhost"]}, "localhost"),
    "case of the name": ({"names": ["LOCALHOST"]}, "localhost"),
    "dot at the end": ({"names": ["localhost"]}, "localhost."),
    "one of several": ({"names": ["other.test", "a.test"]}, "a.test"),
    "wildcard": ({"names": ["*.wild.test"]}, "a.wild.test"),
    "IPv4": ({"addresses": ["127.0.0.1"]}, "127.0.0.1"),
    "IPv6": ({"addresses": ["::1"]}, "0:0:0:0:0:0:0:1"),
    "name in other letters": ({"names": ["xn--bcher-kva.test"]}, "bücher.test"),
}

BAD = {
    "wrong name": ({"names": ["localhost"]}, "other.test", "wrong name"),
    "wildcard for two labels": ({"names": ["*.wild.test"]}, "a.b.wild.test", "wrong name"),
    "wildcard for none": ({"names": ["*.wild.test"]}, "wild.test", "wrong name"),
    "wrong address": ({"addresses": ["127.0.0.1"]}, "127.0.0.2", "wrong IP address"),
    "address as a name": ({"names": ["127.0.0.1"]}, "127.0.0.1", "wrong IP address"),
    "no alternative name": ({}, "localhost", "wrong name"),
    "expired": ({"names": ["localhost"], "days": (-30, -1)}, "localhost", "expired or not yet valid"),
    "not yet valid": ({"names": ["localhost"], "days": (5, 30)}, "localhost", "expired or not yet valid"),
    "of a client": ({"names": ["localhost"], "use": pki.CLIENT_AUTH}, "localhost", "not for this use"),
}


def succeeds(issued: pki.Issued, context: tls.Context | None, name: str) -> None:
    with serving(issued) as address, connect(address, context, name) as stream:
        stream.write(b"secret").result(WAIT)
        assert read_exactly(stream, 6) == b"secret"
        stream.unwrap().result(WAIT).close()


def refused(issued: pki.Issued, context: tls.Context | None, name: str) -> tls.CertificateVerificationError:
    got: list[bytes] = []
    with serving(issued, lambda connection: got.append(connection.recv(100)), failures=[]) as address:
        with pytest.raises(tls.CertificateVerificationError) as caught:
            connect(address, context, name)
    assert got in ([], [b""])  # nothing of the program's was sent
    error = caught.value
    assert isinstance(error, (OSError, ValueError)) and error.winerror
    assert error.reasons and error.verify_message in str(error)
    return error


@pytest.mark.parametrize("case", GOOD)
def test_a_good_certificate_is_accepted(case: str, ca: pki.Authority, context: tls.Context) -> None:
    options, name = GOOD[case]
    succeeds(ca.issue("server", **options), context, name)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", BAD)
def test_a_bad_certificate_is_refused_and_says_why(case: str, ca: pki.Authority, context: tls.Context) -> None:
    options, name, reason = BAD[case]
    assert reason in refused(ca.issue("server", **options), context, name).reasons  # type: ignore[arg-type]


def test_a_self_signed_certificate_is_refused(context: tls.Context) -> None:
    error = refused(pki.self_signed("localhost", names=["localhost"]), context, "localhost")
    assert {"untrusted root", "no chain to a trusted root"} & set(error.reasons)


def test_the_certificate_of_another_authority_is_refused(ca: pki.Authority) -> None:
    """Also when it has the same name."""
    for name in ("Other CA", ca.name):
        other = pki.Authority(name, key_number=2)
        issued = other.issue("server", names=["localhost"])
        refused(issued, tls.Context(cadata=ca.certificate), "localhost")
        issued.issuers = other.certificate
        refused(issued, tls.Context(cadata=ca.certificate), "localhost")


def test_own_roots_are_the_only_ones_and_the_systems_are_the_default(server: pki.Issued) -> None:
    error = refused(server, None, "localhost")
    assert {"untrusted root", "no chain to a trusted root"} & set(error.reasons)


def test_an_intermediate_certificate_has_to_be_sent(ca: pki.Authority, context: tls.Context) -> None:
    between = pki.Authority("Between", ca, key_number=2)
    succeeds(between.issue("server", names=["localhost"]), context, "localhost")
    error = refused(between.issue("server", names=["localhost"], send_chain=False), context, "localhost")
    assert "no chain to a trusted root" in error.reasons


def test_an_issuer_that_is_no_authority_is_refused(ca: pki.Authority, context: tls.Context) -> None:
    leaf = ca.issue("leaf", names=["localhost"], key_number=2)
    der = pki.certificate("server", pki.key(1), "leaf", leaf.key, names=["localhost"])
    refused(pki.Issued(der, pki.key(1), leaf.certificate), context, "localhost")


def test_a_certificate_with_a_wrong_signature_is_refused(ca: pki.Authority, context: tls.Context) -> None:
    issued = ca.issue("server", names=["localhost"])
    changed = bytearray(issued.der)
    changed[-1] ^= 1
    refused(pki.Issued(bytes(changed), issued.key), context, "localhost")


def test_unverified_only_when_asked_for(server: pki.Issued, ca: pki.Authority) -> None:
    succeeds(server, tls.Context(verify=False), "other.test")
    succeeds(server, tls.Context(cadata=ca.certificate, check_hostname=False), "other.test")
    refused(server, tls.Context(check_hostname=False), "localhost")


def test_the_roots_may_be_a_file(server: pki.Issued, ca: pki.Authority, tmp_path: Any) -> None:
    for number, data in enumerate((ca.certificate, ca.der, pki.Authority("Other").certificate + ca.certificate)):
        file = tmp_path / f"{number}.pem"
        file.write_bytes(data)
        succeeds(server, tls.Context(cafile=file), "localhost")


@pytest.mark.parametrize("revocation", ["cached", "full"])
def test_revocation_that_cannot_be_checked(revocation: Any, server: pki.Issued, ca: pki.Authority) -> None:
    """The certificate does not say where to ask."""
    context = tls.Context(cadata=ca.certificate, revocation=revocation)
    if revocation == "cached":
        succeeds(server, context, "localhost")
    else:
        assert "revocation could not be checked" in refused(server, context, "localhost").reasons


# ---- a client's certificate


def key_containers() -> set[str]:
    """Where the keys of imported certificates are: files, in Wine's case keys of the registry."""
    if support.wine:
        import winreg

        try:
            with winreg.OpenKey(winreg.HKEY_CURRENT_USER, r"Software\Wine\Crypto\RSA") as parent:
                return {winreg.EnumKey(parent, index) for index in range(winreg.QueryInfoKey(parent)[0])}
        except FileNotFoundError:
            return set()
    root = os.path.join(os.environ["APPDATA"], "Microsoft", "Crypto")
    return {name for folder in ("RSA", "Keys") for _, _, names in os.walk(os.path.join(root, folder)) for name in names}


def show_peer(seen: list[Any]) -> Callable[[ssl.SSLSocket], None]:
    def handler(connection: ssl.SSLSocket) -> None:
        seen.append(connection.getpeercert(binary_form=True))
        echo(connection)

    return handler


def require_certificate(ca: pki.Authority) -> Callable[[ssl.SSLContext], None]:
    def configure(made: ssl.SSLContext) -> None:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(cadata=ca.certificate.decode())

    return configure


@uses_keys
@pytest.mark.parametrize("how", ["PKCS #1", "PKCS #8", "files"])
def test_a_client_shows_its_certificate(how: str, server: pki.Issued, ca: pki.Authority, tmp_path: Any) -> None:
    client = ca.issue("client", use=pki.CLIENT_AUTH)
    before = key_containers()
    if how == "files":
        (tmp_path / "client.pem").write_bytes(client.certificate)
        (tmp_path / "client.key").write_bytes(client.pkcs8)
        certificate = tls.Certificate.from_pem(tmp_path / "client.pem", tmp_path / "client.key")
    else:
        certificate = tls.Certificate.from_pem(client.certificate, client.private if how == "PKCS #1" else client.pkcs8)
    assert certificate.der == client.der
    context = tls.Context(cadata=ca.certificate, certificate=certificate)
    seen: list[Any] = []
    with serving(server, show_peer(seen), require_certificate(ca)) as address, connect(address, context) as stream:
        stream.write(b"x").result(WAIT)
        assert read_exactly(stream, 1) == b"x"
        stream.unwrap().result(WAIT).close()
    assert seen == [client.der]
    del context, certificate, stream
    assert support.goes(lambda: gc.collect() >= 0 and key_containers() <= before)


def test_a_server_that_wants_a_certificate_gets_none_that_was_not_given(server: pki.Issued, ca: pki.Authority) -> None:
    failures: list[BaseException] = []
    with serving(server, echo, require_certificate(ca), failures) as address:
        with pytest.raises((tls.TLSError, ConnectionError)):
            with connect(address, tls.Context(cadata=ca.certificate)) as stream:  # within TLS 1.3 this succeeds
                stream.read(1).result(WAIT)
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in str(failures[0]).upper().replace(" ", "_")


def test_a_pfx_is_imported(server: pki.Issued, ca: pki.Authority, tmp_path: Any) -> None:
    from tpio import _pem

    client = ca.issue("client", use=pki.CLIENT_AUTH)
    pfx, password = _pem.pfx(client.certificate + ca.certificate, client.private, None)
    (tmp_path / "client.pfx").write_bytes(pfx)
    for source in (pfx, tmp_path / "client.pfx"):
        assert tls.Certificate.from_pfx(source, password).der == client.der
    if not support.wine:  # Wine needs the password only for what is encrypted
        with pytest.raises(tls.TLSError):
            tls.Certificate.from_pfx(pfx, "wrong")
    with pytest.raises(tls.TLSError):
        tls.Certificate.from_pfx(b"no PFX", "")


def test_bad_certificates_and_keys_say_what_is_wrong(ca: pki.Authority) -> None:
    client = ca.issue("client")
    for certificate, key, words in (
        (b"", client.private, "no certificate"),
        (client.certificate, b"", "one private key"),
        (client.certificate, client.private + client.pkcs8, "one private key"),
        (client.certificate, b"-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n", "of this kind"),
        (client.certificate, b"-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n", "not named"),
        (client.certificate, b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n",
         "no password"),
        (client.certificate, b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n"
         b"-----END RSA PRIVATE KEY-----\n", "openssl pkcs8"),
        (client.certificate, b"-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n", "damaged"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            tls.Certificate.from_pem(certificate, key)
    with pytest.raises(tls.TLSError):
        tls.Certificate.from_pem(client.certificate, b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n")
    with pytest.raises(FileNotFoundError):
        tls.Certificate.from_pem("no such file")
    with pytest.raises(tls.TLSError):
        tls.Certificate.from_store(thumbprint="00" * 20)
    with pytest.raises(tls.TLSError):
        tls.Certificate.from_store(subject="nobody has this name")
    for options in ({}, {"thumbprint": "00" * 20, "subject": "x"}, {"thumbprint": "00"}, {"subject": ""}):
        with pytest.raises(ValueError, match="thumbprint|subject"):
            tls.Certificate.from_store(**options)  # type: ignore[arg-type]


# ---- ends


def test_an_end_without_close_notify_is_a_truncation(server: pki.Issued, context: tls.Context) -> None:
    def cut(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"all there is")
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)

    with serving(server, cut, failures=[]) as address, connect(address, context) as stream:
        assert read_exactly(stream, 12) == b"all there is"
        for _ in range(2):
            with pytest.raises(tls.TLSTruncatedError):
                stream.read(1).result(WAIT)
        with pytest.raises(tls.TLSTruncatedError):
            stream.read_into(bytearray(1)).result(WAIT)


def test_a_record_that_was_forged_is_an_error(server: pki.Issued, context: tls.Context) -> None:
    def forge(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"true")
        with socket.socket(fileno=connection.detach()) as raw:
            raw.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
            raw.recv(1)

    with serving(server, forge, failures=[]) as address, connect(address, context) as stream:
        assert read_exactly(stream, 4) == b"true"
        for _ in range(2):
            with pytest.raises(tls.TLSError) as caught:
                stream.read(1).result(WAIT)
            assert caught.value.winerror and not isinstance(caught.value, tls.TLSTruncatedError)


def test_a_reset_connection_is_a_reset(server: pki.Issued, context: tls.Context) -> None:
    def reset(connection: ssl.SSLSocket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("HH", 1, 0))
        socket.close(connection.detach())

    with serving(server, reset, failures=[]) as address, connect(address, context) as stream:
        reading = stream.read(1)
        stream.write(b"x").result(WAIT)
        with pytest.raises(ConnectionResetError):
            reading.result(WAIT)


def test_unwrap_gives_the_handle_for_plain_talk(server: pki.Issued, context: tls.Context) -> None:
    def plain(connection: ssl.SSLSocket) -> None:
        assert connection.recv(100) == b"secret"
        raw = connection.unwrap()
        raw.sendall(b"plain")
        assert raw.recv(100) == b"answer"

    with serving(server, plain) as address:
        stream = connect(address, context)
        stream.write(b"secret").result(WAIT)
        with stream.unwrap().result(WAIT) as sock:
            assert sock.read(100).result(WAIT) == b"plain"
            sock.write(b"answer").result(WAIT)
            assert stream.closed
            with pytest.raises(ValueError, match="unwrapped"):
                stream.read(1)
            stream.close()
            assert not sock.closed


def test_unwrap_with_data_that_was_not_read_is_an_error(server: pki.Issued, context: tls.Context) -> None:
    def send(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"data")
        echo(connection)

    with serving(server, send) as address, connect(address, context) as stream:
        with pytest.raises(tls.TLSError, match="not read"):
            stream.unwrap().result(WAIT)
        assert read_exactly(stream, 4) == b"data"
        assert stream.read(1).result(WAIT) == b""


def test_close_tells_the_peer(server: pki.Issued, ca: pki.Authority) -> None:
    """Not within TLS 1.3, whose tickets nobody reads here: to close a socket with unread data resets it."""
    context = tls.Context(cadata=ca.certificate, maximum_version=tls.Version.TLSv1_2)
    ended: list[bytes] = []

    def wait(connection: ssl.SSLSocket) -> None:
        ended.append(connection.recv(100))  # an SSLEOFError without close_notify

    with serving(server, wait) as address:
        stream = connect(address, context)
        stream.close()
        stream.close()
        assert stream.closed
    assert ended == [b""]


def test_close_cancels_what_is_pending(server: pki.Issued, context: tls.Context) -> None:
    with serving(server, failures=[]) as address:
        stream = connect(address, context)
        reads = [stream.read(1) for _ in range(3)]
        stream.close()
        for future in reads:
            with pytest.raises((CancelledError, ValueError)):
                future.result(WAIT)
        for verb in (lambda: stream.read(1), lambda: stream.read_into(bytearray(1)), lambda: stream.write(b"x")):
            with pytest.raises(ValueError, match="closed"):
                verb()
        assert "closed" in repr(stream)


def test_what_the_system_may_have_is_not_moved(context: tls.Context) -> None:
    machine: Any = context._machine("localhost")
    with memoryview(machine.input):
        with pytest.raises(BufferError, match="being received"):
            memoryview(machine.input)
    memoryview(machine.input).release()
    assert not machine.handshake()
    output = machine.take_output()
    with memoryview(output) as hello:
        before = bytes(hello)
        with pytest.raises(BufferError, match="being sent"):
            machine.take_output()
        assert hello == before
    assert machine.take_output() is None
    with pytest.raises(BufferError, match="since"):
        memoryview(output)


# ---- cancels


def test_a_cancelled_read_loses_nothing(server: pki.Issued, context: tls.Context) -> None:
    with serving(server) as address, connect(address, context) as stream:
        for number in range(50):
            data = os.urandom(100)
            reading = stream.read(100)
            writing = stream.write(data) if number % 2 else None
            reading.cancel()
            try:
                got = reading.result(WAIT)
            except CancelledError:
                got = b""
            (writing or stream.write(data)).result(WAIT)
            assert got + read_exactly(stream, len(data) - len(got)) == data
        stream.unwrap().result(WAIT).close()


class Odd(ctypes.BigEndianStructure):
    """A buffer of a format that memoryview cannot cast."""

    _fields_ = (("number", ctypes.c_uint32), ("rest", ctypes.c_uint8 * 4))


def test_a_cancelled_await_loses_nothing(server: pki.Issued, context: tls.Context) -> None:
    async def main(address: Any) -> None:
        with await tls.connect(address, context=context, server_hostname="localhost") as stream:
            sent, got = b"", b""
            for number in range(100):
                data = bytes([number]) * 10
                task = asyncio.ensure_future(one(stream) if number % 2 else another(stream))
                await stream.write(data)
                sent += data
                for _ in range(number % 5):
                    await asyncio.sleep(0)
                task.cancel()
                try:
                    got += await task
                except asyncio.CancelledError:
                    pass
            while len(got) < len(sent):
                got += await stream.read(1000)
            assert got == sent
            (await stream.unwrap()).close()

    async def one(stream: tls.TLSStream) -> bytes:
        return await stream.read(7)

    async def another(stream: tls.TLSStream) -> bytes:
        buffer = Odd()
        count = await stream.read_into(buffer)
        return bytes(buffer)[:count]

    with serving(server) as address:
        asyncio.run(main(address))


def test_a_write_that_is_cut_off_closes_the_stream_and_says_so(server: pki.Issued, context: tls.Context) -> None:
    go_on = threading.Event()
    with serving(server, lambda connection: go_on.wait(WAIT), failures=[]) as address:
        stream = connect(address, context)
        try:
            writes = [stream.write(bytes(1 << 24)) for _ in range(3)]  # more than is taken without a reader
            waiting = stream.write(b"waits for its turn")
            waiting.cancel()
            with pytest.raises(CancelledError):
                waiting.result(WAIT)
            assert not stream.closed  # that one had not begun
            assert not any(write.done() for write in writes[1:])
            for _ in range(1000):
                writes[0].cancel()
                with pytest.raises(CancelledError):
                    writes[0].result(WAIT)
                if stream.closed:
                    break
                writes = [*writes[1:], stream.write(bytes(1 << 24))]  # it fell between records: the next goes on
            assert stream.closed
            with pytest.raises(ValueError, match="cancelled within a record"):
                stream.write(b"x")
            for write in writes[1:]:
                with pytest.raises((CancelledError, ValueError)):
                    write.result(WAIT)
        finally:
            go_on.set()
            stream.close()


# ---- handshakes that do not succeed


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


# ---- asyncio

LOOPS = pytest.mark.parametrize("loop", [tpio.aio.EventLoop, asyncio.ProactorEventLoop])


def run(loop: Any, main: Any) -> Any:
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main)


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


# ---- servers


def server_side(issued: pki.Issued, **options: Any) -> tls.Context:
    return tls.Context(server=True, certificate=tls.Certificate.from_pem(issued.pem), **options)


def ssl_client(address: Any, ca: pki.Authority, **options: Any) -> ssl.SSLSocket:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(cadata=ca.certificate.decode())
    for name, value in options.items():
        value(made) if callable(value) else setattr(made, name, value)
    return made.wrap_socket(socket.create_connection(address, WAIT), server_hostname="localhost")


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
