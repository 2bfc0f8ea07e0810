"""Virtual environments of the host: one to build and fetch with, one to lint with. Versions are pinned by requirements files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from . import cache, system
from .ui import run_quietly, step

REQUIREMENTS = Path(__file__).with_name("requirements")


def venv(name: str) -> Path:
    """The Python of the virtual environment with everything in requirements/<name>.txt."""
    requirements = REQUIREMENTS / f"{name}.txt"
    identity = cache.fingerprint(requirements.read_text(), sys.version, sys.executable)
    folder = cache.root() / f"venv-{name}-{identity}"
    # A virtual environment cannot be renamed (its scripts hold its path), so it is complete when its stamp is there.
    stamp = folder / "complete"
    scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")
    if not stamp.exists():
        with cache.lock(folder.name):
            if not stamp.exists():
                with step(f"installing the {name} tools ({requirements.name})"):
                    _install(folder, scripts, requirements)
                stamp.touch()
    return scripts / ("python.exe" if sys.platform == "win32" else "python")


def _install(folder: Path, scripts: Path, requirements: Path) -> None:
    if sys.platform != "win32":
        # Debian takes the venv machinery out of its own Python; another Python on that machine has it.
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        present = importlib.util.find_spec("ensurepip") is not None
        system.need(f"python{version}-venv", present=present)
    advice = "check the network and try again"
    create = [sys.executable, "-m", "venv", "--clear", folder]
    run_quietly(create, what="creating a virtual environment", advice="check that this Python's venv module works")
    python = scripts / ("python.exe" if sys.platform == "win32" else "python")
    install = [python, "-m", "pip", "install", "--require-hashes", "--only-binary=:all:", "-r", requirements]
    run_quietly(install, what=f"installing {requirements.name}", advice=advice)
