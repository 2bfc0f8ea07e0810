"""Off Windows, tpio says why it cannot be had."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(sys.platform == "win32", reason="here tpio can be had")
def test_import_says_why_not_and_what_to_use():
    code = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); import tpio"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    complaint = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert complaint.startswith("ImportError: tpio is for Windows")
    assert "asyncio, trio or uvloop" in complaint
