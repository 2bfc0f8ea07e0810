"""What takes a pool refuses what is none, or is closed, before anything has happened."""

from __future__ import annotations

import pytest

import tpio
from ends import pipe_name

USES = {
    "sleep": lambda pool, path: tpio.sleep(0, pool=pool),
    "Timer": lambda pool, path: tpio.Timer(print, 0, pool=pool),
    "wait_for_handle": lambda pool, path: tpio.wait_for_handle(1 << 20, pool=pool),
    "open": lambda pool, path: tpio.open(path, "wb", pool=pool),
    "copy_file": lambda pool, path: tpio.copy_file(__file__, path, pool=pool),
    "watch": lambda pool, path: tpio.watch(path.parent, pool=pool),
    "pipe": lambda pool, path: tpio.pipe(pool=pool),
    "PipeListener": lambda pool, path: tpio.PipeListener(pipe_name(), pool=pool),
    "open_pipe": lambda pool, path: tpio.open_pipe(pipe_name(), pool=pool),
    "Socket": lambda pool, path: tpio.Socket(pool=pool),
    "listen": lambda pool, path: tpio.listen(("127.0.0.1", 0), pool=pool),
    "open_connection": lambda pool, path: tpio.open_connection(("127.0.0.1", 1), pool=pool),
    "getaddrinfo": lambda pool, path: tpio.getaddrinfo("127.0.0.1", 1, pool=pool),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"what is there")
    return path


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("pool", [5, "pool", object(), False])
def test_what_is_no_pool(use, pool, path):
    submitted = tpio.default_pool().stats().submitted
    with pytest.raises(TypeError, match="a tpio.Pool is needed"):
        use(pool, path)
    assert tpio.default_pool().stats().submitted == submitted
    assert path.read_bytes() == b"what is there"


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_pool_that_is_closed(use, path):
    pool = tpio.Pool()
    pool.close()
    submitted = tpio.default_pool().stats().submitted
    with pytest.raises(RuntimeError, match="closed"):
        use(pool, path)
    assert tpio.default_pool().stats().submitted == submitted
    assert path.read_bytes() == b"what is there"
