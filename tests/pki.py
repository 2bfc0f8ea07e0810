"""Certificates for the tests of TLS, good and bad ones, made with nothing but the standard library.

ca = pki.Authority("Test CA")
server = ca.issue("server", names=["localhost"], addresses=["127.0.0.1"])
server.pem    # the certificate and its key
"""

from __future__ import annotations

import base64
import functools
import hashlib
import ipaddress
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from tpio import _pem

BITS = 2048
E = 65537
SERVER_AUTH, CLIENT_AUTH = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"
_SMALL = [p for p in range(3, 2000, 2) if all(p % q for q in range(3, int(p**0.5) + 1, 2))]


# ---- RSA


def _is_prime(n: int) -> bool:
    if any(n % p == 0 for p in _SMALL):
        return False
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(8):
        x = pow(secrets.randbelow(n - 3) + 2, odd, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def _prime() -> int:
    half = BITS // 2
    while True:
        n = secrets.randbits(half) | 3 << half - 2 | 1
        if n % E != 1 and _is_prime(n):
            return n


class Key:
    def __init__(self) -> None:
        self.p, self.q = _prime(), _prime()
        self.n = self.p * self.q
        self.d = pow(E, -1, (self.p - 1) * (self.q - 1))

    def sign(self, data: bytes) -> bytes:
        digest = seq(seq(oid("2.16.840.1.101.3.4.2.1"), NULL), tlv(4, hashlib.sha256(data).digest()))
        padded = b"\0\1" + b"\xff" * (BITS // 8 - 3 - len(digest)) + b"\0" + digest
        return pow(int.from_bytes(padded, "big"), self.d, self.n).to_bytes(BITS // 8, "big")

    @property
    def public(self) -> bytes:
        return seq(seq(oid("1.2.840.113549.1.1.1"), NULL), bits(seq(number(self.n), number(E))))

    @property
    def identifier(self) -> bytes:
        return hashlib.sha1(self.public).digest()

    @property
    def pkcs1(self) -> bytes:
        p, q, d = self.p, self.q, self.d
        return seq(*map(number, (0, self.n, E, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))))


@functools.cache
def key(number: int) -> Key:
    """They are slow to make, and serve more than one certificate."""
    return Key()


# ---- DER


tlv, seq = _pem._tlv, _pem._sequence


def number(n: int) -> bytes:
    return tlv(2, n.to_bytes(n.bit_length() // 8 + 1, "big"))


def bits(data: bytes) -> bytes:
    return tlv(3, b"\0" + data)


def oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    encoded = bytearray([first * 40 + second])
    for part in rest:
        groups = [part & 127]
        while part := part >> 7:
            groups.append(part & 127 | 128)
        encoded += bytes(reversed(groups))
    return tlv(6, bytes(encoded))


NULL = tlv(5, b"")
_SHA256_RSA = seq(oid("1.2.840.113549.1.1.11"), NULL)


def _name(common: str) -> bytes:
    return seq(tlv(0x31, seq(oid("2.5.4.3"), tlv(12, common.encode()))))


def _time(when: datetime) -> bytes:
    return (
        tlv(24, when.strftime("%Y%m%d%H%M%SZ").encode())
        if when.year >= 2050
        else tlv(23, when.strftime("%y%m%d%H%M%SZ").encode())
    )


def _extension(kind: str, value: bytes, critical: bool = False) -> bytes:
    return seq(oid(kind), tlv(1, b"\xff") if critical else b"", tlv(4, value))


# ---- certificates


def pem(label: str, der: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n".encode() + base64.encodebytes(der) + f"-----END {label}-----\n".encode()


class Issued:
    def __init__(self, der: bytes, key: Key, issuers: bytes = b"") -> None:
        self.der, self.key = der, key
        self.certificate = pem("CERTIFICATE", der)
        self.issuers = issuers
        self.private = pem("RSA PRIVATE KEY", key.pkcs1)
        pkcs8 = seq(number(0), seq(oid("1.2.840.113549.1.1.1"), NULL), tlv(4, key.pkcs1))
        self.pkcs8 = pem("PRIVATE KEY", pkcs8)

    @property
    def pem(self) -> bytes:
        """With the intermediate ones, and the key."""
        return self.certificate + self.issuers + self.private


class Authority(Issued):
    """A root, or with an issuer an intermediate one."""

    def __init__(self, name: str, issuer: Authority | None = None, key_number: int = 0) -> None:
        self.name = name
        own = key(key_number)
        above = self if issuer is None else issuer
        self.key = own
        der = certificate(name, own, above.name, above.key, ca=True)
        super().__init__(der, own)
        self.chain = b"" if issuer is None else self.certificate + issuer.chain

    def issue(
        self,
        subject: str,
        *,
        names: Iterable[str] = (),
        addresses: Iterable[str] = (),
        days: tuple[float, float] = (-1, 30),
        use: str = SERVER_AUTH,
        send_chain: bool = True,
        key_number: int = 1,
    ) -> Issued:
        own = key(key_number)
        der = certificate(subject, own, self.name, self.key, names=names, addresses=addresses, days=days, use=use)
        return Issued(der, own, self.chain if send_chain else b"")


def certificate(
    subject: str,
    own: Key,
    issuer: str,
    signer: Key,
    *,
    ca: bool = False,
    names: Iterable[str] = (),
    addresses: Iterable[str] = (),
    days: tuple[float, float] = (-1, 30),
    use: str = SERVER_AUTH,
) -> bytes:
    now = datetime.now(UTC)
    extensions = [
        _extension("2.5.29.19", seq(tlv(1, b"\xff")) if ca else seq(), critical=True),
        _extension("2.5.29.15", tlv(3, b"\1\6" if ca else b"\5\xa0"), critical=True),
    ]
    extensions.append(_extension("2.5.29.14", tlv(4, own.identifier)))
    extensions.append(_extension("2.5.29.35", seq(tlv(0x80, signer.identifier))))
    if not ca:
        extensions.append(_extension("2.5.29.37", seq(oid(use))))
    alternatives = [tlv(0x82, name.encode()) for name in names]
    alternatives += [tlv(0x87, ipaddress.ip_address(address).packed) for address in addresses]
    if alternatives:
        extensions.append(_extension("2.5.29.17", seq(*alternatives)))
    body = seq(
        tlv(0xA0, number(2)),
        number(secrets.randbits(64)),
        _SHA256_RSA,
        _name(issuer),
        seq(*(_time(now + timedelta(days=each)) for each in days)),
        _name(subject),
        own.public,
        tlv(0xA3, seq(*extensions)),
    )
    return seq(body, _SHA256_RSA, bits(signer.sign(body)))


def self_signed(subject: str, **options: object) -> Issued:
    own = key(1)
    return Issued(certificate(subject, own, subject, own, **options), own)  # type: ignore[arg-type]
