"""tests/tls_machine: the state machine of TLS against scripted answers of the system, under sanitizers."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAM = CHECKOUT / "tests" / "tls_machine"
FLAGS = [
    "-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror",
    "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
    "-Dcalloc=test_calloc", "-Drealloc=test_realloc",
    *(f"-I{folder}" for folder in (PROGRAM / "include", CHECKOUT / "tests" / "win32sim" / "include",
                                   CHECKOUT / "tpio" / "include", CHECKOUT / "src")),
]  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32" or shutil.which("gcc") is None, reason="made for gcc on Linux")
def test_the_machine_keeps_the_rules(tmp_path):
    program = tmp_path / "tls_machine"
    objects = tmp_path / "tls.o"
    subprocess.run(["gcc", *FLAGS, "-c", CHECKOUT / "src" / "tpio_tls.c", "-o", objects], check=True)
    plain = [flag for flag in FLAGS if not flag.startswith("-D")]
    subprocess.run(["gcc", *plain, PROGRAM / "main.c", objects, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout == "the machine keeps the rules\n", done.stderr
