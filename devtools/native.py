"""Pythons of the Windows that dev.py runs on: a virtual environment with the build and test tools for each."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from . import tools
from .ui import Unavailable

if TYPE_CHECKING:
    from .pythons import Version


def running() -> str:
    """The version, as tpio names them, of the Python that runs dev.py."""
    suffix = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return f"{sys.version_info.major}.{sys.version_info.minor}{suffix}"


def python(version: Version) -> Path:
    return tools.venv("build", "test", interpreter=_installed(version))


def _installed(version: Version) -> Path:
    if version.name == running():
        return Path(sys.executable)
    try:
        found = subprocess.run(
            ["py", f"-V:{version.name}", "-c", "import sys; print(sys.executable)"],
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        found = None
    if found is None or found.returncode:
        raise Unavailable(
            f"Python {version.name} is not installed here; install it from python.org, with the py launcher"
        )
    return Path(found.stdout.strip())
