"""The release has a wheel for every Python and every Windows that tpio supports."""

import re
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

ARCHITECTURES = ("win32", "win_amd64", "win_arm64")
PYTHONS = ("cp311", "cp312", "cp313", "cp314", "cp314t", "cp315", "cp315t")


def test_cibuildwheel_lists_every_python_and_architecture():
    listing = subprocess.run(
        [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", "windows"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    # cibuildwheel gave up 3.13t; the release workflow builds those wheels by itself.
    expected = {f"{python}-{architecture}" for python in PYTHONS for architecture in ARCHITECTURES}
    assert set(listing.stdout.split()) == expected


def test_release_workflow_builds_the_wheels_that_cibuildwheel_does_not():
    workflow = (CHECKOUT / ".github" / "workflows" / "wheels.yml").read_text(encoding="utf-8")
    job = workflow.partition("\n  wheels-313t:\n")[2].partition("\n  publish:\n")[0]
    assert "python-version: 3.13t" in job and "architecture: ${{ matrix.arch }}" in job
    assert set(re.findall(r"arch: (\w+) }", job)) == {"x86", "x64", "arm64"}
