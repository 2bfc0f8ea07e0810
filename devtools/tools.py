"""Virtual environments with the tools in requirements/*.txt, pinned by version and hash."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from . import cache, system
from .ui import run_quietly, step

REQUIREMENTS = Path(__file__).with_name("requirements")


def venv(*names: str, interpreter: Path | None = None) -> Path:
    """The Python of the virtual environment with everything in requirements/<name>.txt, for each name."""
    interpreter = interpreter or Path(sys.executable)
    requirements = [REQUIREMENTS / f"{name}.txt" for name in names]
    identity = cache.fingerprint(str(interpreter), sys.version, *(file.read_text() for file in requirements))
    # A virtual environment cannot be renamed (its scripts hold its path), so it is complete when its stamp is there.
    folder = cache.root() / f"venv-{'-'.join(names)}-{identity}"
    stamp = folder / "complete"
    if not stamp.exists():
        with cache.lock(folder.name):
            if not stamp.exists():
                with step(f"installing the {' and '.join(names)} tools"):
                    _install(interpreter, folder, requirements)
                stamp.touch()
    return _python(folder)


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _install(interpreter: Path, folder: Path, requirements: list[Path]) -> None:
    if sys.platform != "win32":
        # Debian takes the venv machinery out of its own Python; any other Python on that machine has it.
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        present = importlib.util.find_spec("ensurepip") is not None
        system.need(f"python{version}-venv", present=present)
    create = [interpreter, "-m", "venv", "--clear", folder]
    run_quietly(create, what="creating a virtual environment", advice="check that this Python's venv module works")
    listed = [part for file in requirements for part in ("-r", file)]
    run_quietly(
        [_python(folder), "-m", "pip", "install", "--require-hashes", "--only-binary=:all:", *listed],
        what=f"installing {', '.join(file.name for file in requirements)}",
        advice="check the network (and pip's own configuration) and try again",
    )
