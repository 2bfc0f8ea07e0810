"""Which certificates are good, and which are refused; a client's own."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import os
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pki
import support
from ends import read_exactly
from support import WAIT
from tls_peers import (
    connect,
    echo,
    require_certificate,
    serving,
    uses_keys,
)
from tpio import _pem, tls

crypt32 = ctypes.WinDLL("crypt32")

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


def shows(certificate: tls.Certificate, client: pki.Issued, server: pki.Issued, ca: pki.Authority) -> None:
    """A server that asks for it gets to see the client's certificate, and all works."""
    context = tls.Context(cadata=ca.certificate, certificate=certificate)
    seen: list[Any] = []
    with serving(server, show_peer(seen), require_certificate(ca)) as address, connect(address, context) as stream:
        stream.write(b"x").result(WAIT)
        assert read_exactly(stream, 1) == b"x"
        stream.unwrap().result(WAIT).close()
    assert seen == [client.der]


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
    shows(certificate, client, server, ca)
    del certificate
    assert support.goes(lambda: gc.collect() >= 0 and key_containers() <= before)


def test_a_server_that_wants_a_certificate_gets_none_that_was_not_given(server: pki.Issued, ca: pki.Authority) -> None:
    failures: list[BaseException] = []
    with serving(server, echo, require_certificate(ca), failures) as address:
        with pytest.raises((tls.TLSError, ConnectionError)):
            with connect(address, tls.Context(cadata=ca.certificate)) as stream:  # within TLS 1.3 this succeeds
                stream.read(1).result(WAIT)
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in str(failures[0]).upper().replace(" ", "_")


def test_a_pfx_is_imported(server: pki.Issued, ca: pki.Authority, tmp_path: Any) -> None:
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


class _Blob(ctypes.Structure):
    _fields_ = (("size", ctypes.c_ulong), ("data", ctypes.c_char_p))


class _KeyProvider(ctypes.Structure):
    """The beginning of a CRYPT_KEY_PROV_INFO."""

    _fields_ = (("container", ctypes.c_wchar_p), ("provider", ctypes.c_wchar_p), ("type", ctypes.c_ulong))


OF_THE_USER = 1 << 16  # CERT_SYSTEM_STORE_CURRENT_USER


@pytest.fixture
def stored(ca: pki.Authority) -> Iterator[tuple[str, pki.Issued]]:
    """(the name of a store of the user's, a certificate in it that has a key)."""
    client = ca.issue(f"in the store {os.getpid()}", use=pki.CLIENT_AUTH)
    pfx, password = _pem.pfx(client.certificate, client.private, None)
    name = f"tpio-test-{os.getpid()}"
    pointer = ctypes.c_void_p
    for function in (crypt32.PFXImportCertStore, crypt32.CertOpenStore, crypt32.CertEnumCertificatesInStore):
        function.restype = pointer
    imported = pointer(crypt32.PFXImportCertStore(ctypes.byref(_Blob(len(pfx), pfx)), password, 0x1000))  # for the user
    certificate = pointer(crypt32.CertEnumCertificatesInStore(imported, None))
    store = pointer(crypt32.CertOpenStore(pointer(10), 0, None, OF_THE_USER, name))  # CERT_STORE_PROV_SYSTEM_W
    assert certificate and crypt32.CertAddCertificateContextToStore(store, certificate, 3, None)
    crypt32.CertCloseStore(store, 0)  # Wine writes it down now
    yield name, client
    info, size = ctypes.create_string_buffer(4096), ctypes.c_ulong(4096)
    assert crypt32.CertGetCertificateContextProperty(certificate, 2, info, ctypes.byref(size))  # CERT_KEY_PROV_INFO
    key = _KeyProvider.from_buffer(info)
    handle = pointer()
    delete = ctypes.WinDLL("advapi32").CryptAcquireContextW
    assert delete(ctypes.byref(handle), key.container, key.provider, key.type, 0x10)  # CRYPT_DELETEKEYSET
    crypt32.CertFreeCertificateContext(certificate)
    crypt32.CertCloseStore(imported, 0)
    assert crypt32.CertOpenStore(pointer(10), 0, None, OF_THE_USER | 0x10, name) is None  # CERT_STORE_DELETE_FLAG
    with pytest.raises(tls.TLSError):
        tls.Certificate.from_store(store=name, subject="in the store")


@uses_keys
@pytest.mark.parametrize("by", ["thumbprint", "thumbprint as text", "subject"])
def test_a_certificate_of_the_windows_store_is_shown_and_keeps_its_key(
    by: str, stored: tuple[str, pki.Issued], server: pki.Issued, ca: pki.Authority
) -> None:
    name, client = stored
    thumbprint = hashlib.sha1(client.der)
    how: dict[str, Any] = {
        "thumbprint": {"thumbprint": thumbprint.digest()},
        "thumbprint as text": {"thumbprint": thumbprint.hexdigest().upper()},
        "subject": {"subject": "IN THE STORE"},
    }[by]
    for _ in range(2):  # the key is there still
        certificate = tls.Certificate.from_store(store=name, **how)
        assert certificate.der == client.der
        shows(certificate, client, server, ca)
        del certificate


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


def test_a_password_a_name_or_a_thumbprint_of_another_type_is_refused(ca: pki.Authority) -> None:
    client = ca.issue("client")
    pfx, _ = _pem.pfx(client.certificate, client.private, None)
    for password in (b"Secret", bytearray(b"Secret"), 5, ["Secret"]):
        with pytest.raises(TypeError, match="str"):
            tls.Certificate.from_pfx(pfx, password)  # type: ignore[arg-type]
    for options in (
        {"store": b"MY", "subject": "x"},
        {"store": None, "subject": "x"},
        {"subject": b"x"},
        {"subject": 5},
        {"thumbprint": bytearray(20)},
        {"thumbprint": memoryview(bytes(20))},
        {"thumbprint": [0] * 20},
    ):
        with pytest.raises(TypeError, match="str|bytes"):
            tls.Certificate.from_store(**options)  # type: ignore[arg-type]
