"""What dev.py uses of the Windows that it runs on: its Pythons, each with a virtual environment, and its compiler."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import tools
from .ui import Unavailable, run_quietly

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


# setuptools finds the compiler of any Visual Studio, without the variables of a Developer Command Prompt.
_COMPILE = """
import json, sys
import setuptools
from distutils.ccompiler import new_compiler

job = json.loads(sys.argv[1])
compiler = new_compiler()
objects = compiler.compile([job["source"]], include_dirs=job["include_dirs"], extra_preargs=job["options"])
compiler.link_executable(objects, job["name"], libraries=job["libraries"])
"""


def compile_program(
    source: Path,
    target: Path,
    *,
    options: Sequence[str] = (),
    include_dirs: Sequence[Path] = (),
    libraries: Sequence[str] = (),
) -> None:
    """Compiles one C file to a program, with the compiler that builds extensions for the Python that runs dev.py.

    `target`: the program, with its ending; files of the compiler are left beside it. `options`: of the compiler.
    """
    shutil.copy(source, target.parent)
    job = {
        "source": source.name,
        "name": target.stem,
        "options": list(options),
        "include_dirs": [str(folder) for folder in include_dirs],
        "libraries": list(libraries),
    }
    run_quietly(
        [tools.venv("build"), "-c", _COMPILE, json.dumps(job)],
        what=f"compiling {source.name}",
        advice="correct the errors above; if it is the compiler that is missing, install the Visual C++ Build Tools",
        cwd=target.parent,
    )
