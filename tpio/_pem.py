"""Certificates and keys of PEM files, as the system takes them: DER, and a PFX (PKCS #12, RFC 7292) made here.

The PFX does not leave the process: its password is a random one, and guards nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s*(.*?)-----END \1-----", re.DOTALL)
_CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE")

_RSA = bytes.fromhex("2a864886f70d010101")
_EC = bytes.fromhex("2a8648ce3d0201")
_DATA = bytes.fromhex("2a864886f70d010701")
_SHA1 = bytes.fromhex("2b0e03021a")
_X509 = bytes.fromhex("2a864886f70d01091601")
_LOCAL_KEY_ID = bytes.fromhex("2a864886f70d010915")
_BAG = bytes.fromhex("2a864886f70d010c0a01")  # and a number: 1 a key, 2 one that is encrypted, 3 a certificate
_ROUNDS = 2048


def blocks(text: bytes) -> list[tuple[bytes, bytes]]:
    """(label, DER) of each block of a PEM file, in order."""
    found = []
    for label, body in _BLOCK.findall(text):
        if b"Proc-Type:" in body:
            raise ValueError("the key is encrypted in the old way of OpenSSL: convert it with `openssl pkcs8 -topk8`")
        try:
            found.append((label, base64.b64decode(b"".join(body.split()), validate=True)))
        except binascii.Error as error:
            raise ValueError(f"a PEM block ({label.decode()}) is damaged: {error}") from None
    return found


def certificates(data: bytes) -> list[bytes]:
    """Of a PEM file, or a single one in DER."""
    found = [der for label, der in blocks(data) if label in _CERTIFICATES]
    if not found and data[:1] == b"\x30":
        return [data]
    if not found:
        raise ValueError("there is no certificate in it, neither PEM nor DER")
    return found


def pfx(certificate_pem: bytes, key_pem: bytes, password: str | None) -> tuple[bytes, str]:
    """A PFX with the first certificate and its key, and the others; and the PFX's password.

    password: of a key that is encrypted; it is the PFX's, too.
    """
    chain = certificates(certificate_pem)
    keys = [(label, der) for label, der in blocks(key_pem) if label.endswith(b"PRIVATE KEY")]
    if len(keys) != 1:
        raise ValueError(f"there has to be one private key in PEM, not {len(keys)}")
    label, key = keys[0]
    if label == b"ENCRYPTED PRIVATE KEY":
        if password is None:
            raise ValueError("the private key is encrypted, and there is no password")
        kind = 2
    else:
        if label == b"RSA PRIVATE KEY":
            key = _pkcs8(_oid(_RSA) + _tlv(0x05, b""), key)
        elif label == b"EC PRIVATE KEY":
            key = _pkcs8(_oid(_EC) + _curve(key), key)
        elif label != b"PRIVATE KEY":
            raise ValueError(f"a private key of this kind cannot be used: {label.decode()}")
        kind = 1
        password = os.urandom(16).hex()
    identity = _sequence(_oid(_LOCAL_KEY_ID), _set(_tlv(0x04, hashlib.sha1(chain[0]).digest())))
    bags = [_bag(kind, key, identity)]
    for number, der in enumerate(chain):
        value = _sequence(_oid(_X509), _explicit(_tlv(0x04, der)))
        bags.append(_bag(3, value, identity if number == 0 else b""))
    assert password is not None
    content = _sequence(_content(_sequence(*bags)))
    return _sequence(_tlv(0x02, b"\x03"), _content(content), _mac(content, password)), password


# ---- DER


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _sequence(*parts: bytes) -> bytes:
    return _tlv(0x30, b"".join(parts))


def _set(*parts: bytes) -> bytes:
    return _tlv(0x31, b"".join(parts))


def _oid(encoded: bytes) -> bytes:
    return _tlv(0x06, encoded)


def _explicit(content: bytes) -> bytes:
    return _tlv(0xA0, content)


def _parts(content: bytes) -> list[tuple[int, bytes]]:
    """(tag, content) of what follows one another."""
    found = []
    while content:
        if len(content) < 2:
            raise ValueError("the private key is damaged")
        tag, size, start = content[0], content[1], 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(content[2:start], "big")
        if len(content) < start + size:
            raise ValueError("the private key is damaged")
        found.append((tag, content[start : start + size]))
        content = content[start + size :]
    return found


# ---- PKCS #8 and #12


def _pkcs8(algorithm: bytes, key: bytes) -> bytes:
    return _sequence(_tlv(0x02, b"\x00"), _sequence(algorithm), _tlv(0x04, key))


def _curve(key: bytes) -> bytes:
    """The curve of an ECPrivateKey (RFC 5915): what its [0] has."""
    outer = _parts(key)
    if len(outer) == 1 and outer[0][0] == 0x30:
        for tag, content in _parts(outer[0][1]):
            if tag == 0xA0:
                return content
    raise ValueError("the elliptic curve of the private key is not named in it")


def _content(data: bytes) -> bytes:
    return _sequence(_oid(_DATA), _explicit(_tlv(0x04, data)))


def _bag(kind: int, value: bytes, attributes: bytes) -> bytes:
    return _sequence(_oid(_BAG + bytes([kind])), _explicit(value), _set(attributes) if attributes else b"")


def _mac(content: bytes, password: str) -> bytes:
    salt = os.urandom(20)
    digest = hmac.new(_mac_key(password, salt), content, "sha1").digest()
    algorithm = _sequence(_oid(_SHA1), _tlv(0x05, b""))
    rounds = _ROUNDS.to_bytes(2, "big")
    return _sequence(_sequence(algorithm, _tlv(0x04, digest)), _tlv(0x04, salt), _tlv(0x02, rounds))


def _mac_key(password: str, salt: bytes) -> bytes:
    """RFC 7292, appendix B.2, with SHA-1: one block of it is all that is needed."""
    secret = password.encode("utf-16-be") + b"\0\0"
    value = b"\x03" * 64 + _repeated(salt) + _repeated(secret)
    for _ in range(_ROUNDS):
        value = hashlib.sha1(value).digest()
    return value


def _repeated(data: bytes) -> bytes:
    size = (len(data) + 63) // 64 * 64
    return (data * (size // len(data) + 1))[:size]
