"""PEM files become a PFX that OpenSSL, an implementation that is not ours, reads: the key and the certificates are the same.

(Schannel's side is in tests/tls; Wine imports RSA keys alone.)
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

OPENSSL = shutil.which("openssl")
PASSWORD = "a pässword"
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")

# tpio itself cannot be imported on this system.
_spec = importlib.util.spec_from_file_location("_pem", Path(__file__).resolve().parents[2] / "tpio" / "_pem.py")
assert _spec is not None
assert _spec.loader is not None
_pem = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_pem)

KEYS = {
    "RSA, PKCS #8": ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "RSA, PKCS #1": ["genrsa", "-traditional", "2048"],
    "EC, PKCS #8": ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "EC, SEC 1": ["ecparam", "-name", "secp384r1", "-genkey", "-noout"],
}


def openssl(*arguments: str, given: bytes = b"") -> bytes:
    assert OPENSSL is not None
    return subprocess.run([OPENSSL, *arguments], input=given, capture_output=True, check=True).stdout


def certificate_of(key: bytes, folder: Path, name: str = "server.test") -> bytes:
    (folder / "key.pem").write_bytes(key)
    return openssl("req", "-x509", "-key", str(folder / "key.pem"), "-subj", f"/CN={name}", "-days", "10")


def read_back(pfx: bytes, password: str, folder: Path) -> tuple[bytes, list[bytes]]:
    """(the key in the form that openssl gives every key, the certificates in DER), once its MAC has been checked."""
    (folder / "file.pfx").write_bytes(pfx)
    said = openssl("pkcs12", "-in", str(folder / "file.pfx"), "-nodes", "-passin", f"pass:{password}")
    found = re.search(rb"-----BEGIN PRIVATE KEY-----.*?-----END PRIVATE KEY-----\n", said, re.DOTALL)
    assert found is not None
    return openssl("pkey", given=found[0]), [der for label, der in _pem.blocks(said) if label == b"CERTIFICATE"]


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_and_its_certificate_arrive(kind: str, tmp_path: Path) -> None:
    key = openssl(*KEYS[kind])
    certificate = certificate_of(key, tmp_path)
    got, chain = read_back(*_pem.pfx(certificate, key, None), tmp_path)
    assert got == openssl("pkey", given=key)
    assert chain == _pem.certificates(certificate)


@pytest.mark.parametrize("kind", ["RSA, PKCS #8", "EC, PKCS #8"])
def test_an_encrypted_key_arrives(kind: str, tmp_path: Path) -> None:
    key = openssl(*KEYS[kind])
    certificate = certificate_of(key, tmp_path)
    encrypted = openssl("pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", f"pass:{PASSWORD}", given=key)
    assert encrypted.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    pfx, password = _pem.pfx(certificate, encrypted, PASSWORD)
    assert password == PASSWORD
    got, _ = read_back(pfx, password, tmp_path)
    assert got == openssl("pkey", given=key)
    with pytest.raises(ValueError, match="there is no password"):
        _pem.pfx(certificate, encrypted, None)


def test_the_certificates_of_the_issuers_come_along(tmp_path: Path) -> None:
    key = openssl(*KEYS["EC, SEC 1"])
    chain = certificate_of(key, tmp_path) + certificate_of(openssl(*KEYS["EC, SEC 1"]), tmp_path, "issuer.test")
    _, got = read_back(*_pem.pfx(chain, key, None), tmp_path)
    assert sorted(got) == sorted(_pem.certificates(chain))
    assert len(got) == 2


def test_what_openssl_would_encrypt_in_its_old_way_is_refused(tmp_path: Path) -> None:
    key = openssl(*KEYS["RSA, PKCS #1"])
    certificate = certificate_of(key, tmp_path)
    old = openssl("rsa", "-traditional", "-aes128", "-passout", "pass:secret", given=key)
    with pytest.raises(ValueError, match="openssl pkcs8 -topk8"):
        _pem.pfx(certificate, old, "secret")
