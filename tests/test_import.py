"""What `import tpio` brings, at once and when it is used."""

from __future__ import annotations

import pytest

import support
import tpio


def test_asyncio_and_tls_come_when_they_are_used():
    done = support.python(
        "import sys, tpio\n"
        "assert not {'asyncio', 'ssl', 'tpio.aio', 'tpio.tls'} & set(sys.modules), 'they take their time'\n"
        "async def main(): return 5\n"
        "assert tpio.aio.run(main()) == 5\n"
        "assert tpio.tls.Context().verify\n"
        "from tpio import aio, tls\n"
        "assert tpio.aio is aio and tpio.tls is tls\n"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'tpio' has no attribute 'nothing'"):
        tpio.nothing  # noqa: B018


def test_all_names_are_there():
    assert [name for name in tpio.__all__ if not hasattr(tpio, name)] == []
    assert sorted(tpio.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)) == tpio.__all__
