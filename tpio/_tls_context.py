"""What tpio.tls is told: versions, certificates, and a Context for any number of connections."""

from __future__ import annotations

import atexit
import enum
import ipaddress
import os
import struct
import threading
from collections.abc import Iterable
from typing import Any, Literal
from weakref import WeakSet

from . import _pem, _tpio
from ._tpio import TLSError


class Version(enum.IntEnum):
    """Versions of TLS, by their number in the protocol."""

    TLSv1_0 = 0x0301
    TLSv1_1 = 0x0302
    TLSv1_2 = 0x0303
    TLSv1_3 = 0x0304


# SP_PROT_*, by which the system knows them: (client, server).
_PROTOCOLS = {
    Version.TLSv1_0: (0x80, 0x40),
    Version.TLSv1_1: (0x200, 0x100),
    Version.TLSv1_2: (0x800, 0x400),
    Version.TLSv1_3: (0x2000, 0x1000),
}
_REVOCATION = {"off": 0, "cached": 1, "full": 2}
_ALPN = 2  # SecApplicationProtocolNegotiationExt_ALPN


def _file(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read()


_identities: WeakSet[_tpio.TLSIdentity] = WeakSet()


@atexit.register
def _delete_keys() -> None:
    """What is still there then, nobody deletes otherwise."""
    for identity in list(_identities):
        identity.delete_keys()


class Certificate:
    """A certificate with its private key: what a server shows, or a client that is asked for one.

    From a PFX or PEM: the key is put into the user's key store, as Schannel, which works in another process, has to find it
    there; it is deleted with the last context and connection that use it, or at the interpreter's exit. The keys of
    certificates in the Windows store, those in hardware too, stay where they are.
    """

    def __init__(self, identity: _tpio.TLSIdentity) -> None:
        self._identity = identity
        _identities.add(identity)

    @classmethod
    def from_pfx(cls, data: bytes | str | os.PathLike[str], password: str | None = None) -> Certificate:
        """From a PFX (PKCS #12): its bytes, or the path of the file.
        https://learn.microsoft.com/windows/win32/api/wincrypt/nf-wincrypt-pfximportcertstore"""
        pfx = bytes(data) if isinstance(data, (bytes, bytearray, memoryview)) else _file(data)
        return cls(_tpio.TLSIdentity.from_pfx(pfx, password or ""))

    @classmethod
    def from_pem(
        cls,
        certfile: bytes | str | os.PathLike[str],
        keyfile: bytes | str | os.PathLike[str] | None = None,
        password: str | None = None,
    ) -> Certificate:
        """From PEM: bytes, or the path of a file, with the certificate and those of its issuers, and with the key, which
        may be in the same file. Keys: PKCS #8, encrypted too, PKCS #1, SEC 1."""
        certificate = certfile if isinstance(certfile, bytes) else _file(certfile)
        key = certificate if keyfile is None else keyfile if isinstance(keyfile, bytes) else _file(keyfile)
        return cls(_tpio.TLSIdentity.from_pfx(*_pem.pfx(certificate, key, password)))

    @classmethod
    def from_store(
        cls,
        *,
        thumbprint: str | bytes | None = None,
        subject: str | None = None,
        store: str = "MY",
        machine: bool = False,
    ) -> Certificate:
        """From a certificate store of the user, or of the machine: by its SHA-1 thumbprint, or by a part of its subject.
        https://learn.microsoft.com/windows/win32/api/wincrypt/nf-wincrypt-certfindcertificateinstore"""
        if (thumbprint is None) == (subject is None):
            raise ValueError("a thumbprint or a subject is needed, and not both")
        if isinstance(thumbprint, str):
            thumbprint = bytes.fromhex(thumbprint.replace(":", ""))
        if thumbprint is not None and len(thumbprint) != 20:
            raise ValueError("a thumbprint has 20 bytes (SHA-1)")
        if subject == "":
            raise ValueError("an empty subject would be in every certificate")
        return cls(_tpio.TLSIdentity.from_store(store, machine, thumbprint, subject))

    @property
    def der(self) -> bytes:
        """The certificate."""
        return self._identity.der


class Context:
    """How TLS is to be spoken, for any number of connections.

    server: for the side that accepts; it needs a certificate. minimum_version, maximum_version: None is no limit but the
    system's. alpn: names of protocols, the best first. verify: is the peer to show a certificate that is good? None: a
    server is, a client is not; True for a server: it asks clients for theirs. cafile, cadata: certificates, PEM or DER,
    that are trusted instead of the system's roots. check_hostname: the server's certificate has to be for the name.
    revocation: "off", "cached" (what the system has at hand; what it does not know counts as good) or "full" (it asks,
    over the network; what cannot be found out is refused).
    """

    def __init__(
        self,
        *,
        server: bool = False,
        certificate: Certificate | None = None,
        verify: bool | None = None,
        check_hostname: bool = True,
        cafile: str | os.PathLike[str] | None = None,
        cadata: str | bytes | None = None,
        alpn: Iterable[str] = (),
        minimum_version: Version = Version.TLSv1_2,
        maximum_version: Version | None = None,
        revocation: Literal["off", "cached", "full"] = "off",
    ) -> None:
        if server and certificate is None:
            raise ValueError("a server needs a certificate")
        if certificate is not None and not isinstance(certificate, Certificate):
            raise TypeError(f"a tpio.tls.Certificate is needed, not {type(certificate).__name__!r}")
        if revocation not in _REVOCATION:
            raise ValueError('revocation is "off", "cached" or "full"')
        self.server = bool(server)
        self.verify = not server if verify is None else bool(verify)
        self.check_hostname = bool(check_hostname) and not server
        self.certificate = certificate
        self.minimum_version = Version(minimum_version)
        self.maximum_version = None if maximum_version is None else Version(maximum_version)
        if self.maximum_version is not None and self.maximum_version < self.minimum_version:
            raise ValueError("the maximum version is below the minimum")
        if isinstance(alpn, (str, bytes)):
            raise TypeError("alpn is a list of names")
        self.alpn = tuple(alpn)
        self._protocols = _alpn_list(self.alpn)
        self._revocation = _REVOCATION[revocation]
        self._roots = self._own_roots(cafile, cadata)
        self._credentials: _tpio.TLSCredentials | None = None
        self._lock = threading.Lock()

    @staticmethod
    def _own_roots(cafile: str | os.PathLike[str] | None, cadata: str | bytes | None) -> _tpio.TLSRoots | None:
        if cafile is None and cadata is None:
            return None
        ders = []
        if cafile is not None:
            ders += _pem.certificates(_file(cafile))
        if cadata is not None:
            ders += _pem.certificates(cadata.encode("ascii") if isinstance(cadata, str) else bytes(cadata))
        return _tpio.TLSRoots(ders)

    def _acquire(self) -> _tpio.TLSCredentials:
        """May block. Connections share them, and with them the system's cache of sessions."""
        with self._lock:
            if self._credentials is None:
                allowed = 0
                for version, protocols in _PROTOCOLS.items():
                    if self.minimum_version <= version <= (self.maximum_version or version):
                        allowed |= protocols[self.server]
                newest = self.maximum_version is None
                identity = None if self.certificate is None else self.certificate._identity
                self._credentials = _tpio.TLSCredentials(self.server, allowed, newest, identity)
            return self._credentials

    def _machine(self, hostname: str | None) -> _tpio.TLSMachine:
        """For one connection. May block."""
        target = None if self.server else names(hostname)[1]
        mutual = self.server and self.verify
        return _tpio.TLSMachine(self._acquire(), mutual=mutual, target=target, protocols=self._protocols)

    def _check(self, machine: _tpio.TLSMachine, hostname: str | None, *, offline: bool = False) -> None:
        """Is what the handshake has brought good? May block, unless it is to be offline: then nothing is fetched."""
        version = version_of(machine)
        if (
            not self.minimum_version <= version <= (self.maximum_version or version)
        ):  # not every system heeds its limits
            raise TLSError(0, f"{version.name} was agreed on, which the context does not allow", None, 0)
        if self.verify:
            name, _, address = names(hostname) if self.check_hostname else (None, None, b"")
            machine.verify(self._roots, name, address, self._revocation, offline)

    def wrap_bio(
        self,
        incoming: Any,
        outgoing: Any,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: Any = None,
    ) -> Any:
        """As ssl.SSLContext.wrap_bio: what asyncio asks a context for. So this one can be the `ssl` of
        `loop.create_connection`, `asyncio.open_connection` and `start_server`, on every loop; and on tpio.aio's that of
        `start_tls`. The loop's thread does the work, and for its sake nothing is fetched over the network. Errors are
        ssl.SSLError as well as TLSError."""
        from ._ssl_object import SSLObject

        return SSLObject(self, incoming, outgoing, server_side, server_hostname)


def _alpn_list(names: tuple[str, ...]) -> bytes:
    """SEC_APPLICATION_PROTOCOLS with one list."""
    if not names:
        return b""
    encoded = [name.encode("ascii") for name in names]
    if any(not 0 < len(name) < 256 for name in encoded):
        raise ValueError("the name of a protocol has 1 to 255 characters")
    protocols = b"".join(bytes([len(name)]) + name for name in encoded)
    if len(protocols) > 0xFFFF:
        raise ValueError("there are too many protocols")
    return struct.pack("<IIH", 6 + len(protocols), _ALPN, len(protocols)) + protocols


def version_of(machine: _tpio.TLSMachine) -> Version:
    protocol = machine.protocol
    for version, bits in _PROTOCOLS.items():
        if protocol & (bits[0] | bits[1]):
            return version
    raise TLSError(0, f"the system speaks a protocol that is not known here: {protocol:#x}", None, 0)


def names(hostname: str | None) -> tuple[str | None, str | None, bytes]:
    """(what the certificate's names are compared with, what the server is told, the address that the certificate must
    have). A name may end with the dot of the root, which is in no certificate."""
    if hostname is None:
        return None, None, b""
    try:
        address = ipaddress.ip_address(hostname.partition("%")[0])
    except ValueError:
        pass
    else:
        return None, str(address), address.packed
    name = hostname.removesuffix(".")
    try:
        name.encode("ascii")
    except UnicodeEncodeError:
        name = name.encode("idna").decode("ascii")
    return name, name, b""
