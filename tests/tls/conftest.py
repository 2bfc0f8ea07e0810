"""An authority, a server's certificate from it, and a client that trusts it."""

from __future__ import annotations

import pytest

import pki
from tpio import tls


@pytest.fixture(scope="module")
def ca() -> pki.Authority:
    return pki.Authority("Test CA")


@pytest.fixture(scope="module")
def server(ca: pki.Authority) -> pki.Issued:
    return ca.issue("server", names=["localhost"], addresses=["127.0.0.1"])


@pytest.fixture
def context(ca: pki.Authority) -> tls.Context:
    return tls.Context(cadata=ca.certificate)
