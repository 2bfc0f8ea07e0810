"""The cache folder: everything that is downloaded, assembled or compiled lives there, none of it in the checkout.

Each thing is made in a scratch folder and renamed into place when it is complete, under a lock of its own: an
interrupted run leaves nothing half-made behind, and any number of runs, from any number of checkouts, can share it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .ui import Failure, say

_KEEP_SECONDS = 14 * 24 * 3600


def root() -> Path:
    chosen = os.environ.get("TPIO_CACHE")
    if chosen:
        path = Path(chosen).expanduser().absolute()
    elif sys.platform == "win32":
        path = Path(os.environ.get("LOCALAPPDATA", Path.home())) / "tpio-dev"
    else:
        path = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tpio"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(
            f"cannot create the cache folder {path} ({error.strerror}); set TPIO_CACHE to another one"
        ) from None
    return path


def make(path: Path, fill: Callable[[Path], None]) -> Path:
    """Returns `path`, calling `fill(scratch folder)` first if it does not exist yet."""
    if not path.exists():
        with lock(path.name):
            if not path.exists():
                scratch = path.with_name(f"{path.name}.part")
                shutil.rmtree(scratch, ignore_errors=True)
                scratch.mkdir(parents=True)
                fill(scratch)
                scratch.rename(path)
    return path


@contextmanager
def lock(name: str) -> Iterator[None]:
    """One process at a time, across checkouts; the operating system drops the lock of a process that dies."""
    folder = root() / "locks"
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.lock").open("ab+") as file:
        waited = False
        while not _try_lock(file):
            if not waited:
                say(f"waiting for another dev.py that is making {name}")
                waited = True
            time.sleep(0.2)
        yield  # closing the file unlocks it


def _try_lock(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def fingerprint(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def files_fingerprint(base: Path, files: Iterable[Path], *extra: str) -> str:
    """Changes when a file's place under `base` or its content does; independent of where `base` is."""
    digest = hashlib.sha256("\0".join(extra).encode())
    for file in sorted(files):
        digest.update(f"\0{file.relative_to(base).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def verify(file: Path, sha256: str) -> Path:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        raise Failure(f"{file.name} has sha256 {found} instead of {sha256}; delete {file} and try again")
    return file


def prune(folder: Path) -> None:
    """Drops builds that nobody used for two weeks; a use touches them."""
    for entry in folder.iterdir():
        try:
            if time.time() - entry.stat().st_mtime > _KEEP_SECONDS:
                shutil.rmtree(entry, ignore_errors=True)
        except FileNotFoundError:
            pass  # another run was faster
