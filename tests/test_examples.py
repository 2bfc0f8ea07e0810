"""The examples run as they are, and the README shows exactly what runs."""

import pathlib
import subprocess
import sys

import pytest

from support import WAIT

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
IN_THE_README = ["read_a_pipe", "named_pipe_server", "tcp_echo", "copy_file", "under_asyncio", "cancel_and_timeout"]

if not EXAMPLES:
    pytest.skip("the examples are not here", allow_module_level=True)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_is_silent_about_errors(example):
    ran = subprocess.run(
        # Not -X dev: asyncio then reports what takes more than 100 ms, as anything may on a loaded machine.
        [sys.executable, "-X", "faulthandler", "-W", "error", example],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT,
    )
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr


@pytest.mark.parametrize("name", IN_THE_README)
def test_the_readme_shows_the_example_that_runs(name):
    example = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    assert f"```python\n{example}```\n" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(example.splitlines()) < 40
