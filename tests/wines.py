"""Skips of tests that a version of Wine cannot pass. Each names the newest Wine that was seen to fail; a newer one runs it."""

from __future__ import annotations

import ctypes

import pytest

import support

_NEWEST = 10  # of those that the tests are run on: 8 and 10


def _major() -> int:
    if not support.wine:
        return 0
    version = ctypes.CDLL("ntdll").wine_get_version
    version.restype = ctypes.c_char_p
    return int(version().decode().split(".")[0])


major = _major()  # 0 on Windows


def _reason(reason: str, through: int) -> str:
    return f"Wine up to {through}: {reason}"


def skipif(reason: str, *, through: int = _NEWEST, also: bool = True) -> pytest.MarkDecorator:
    """Returns the mark of a test that Wine fails up to the version `through`. `also`: a further condition of the skip."""
    return pytest.mark.skipif(also and 0 < major <= through, reason=_reason(reason, through))


def skip(reason: str, *, through: int = _NEWEST) -> None:
    """Skips the rest of a test on Wine up to the version `through`."""
    if 0 < major <= through:
        pytest.skip(_reason(reason, through))
