"""docs/reliability.md names the test that keeps each promise: the tests have to be there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def defined(file):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_many_tests_are_named():
    assert len(NAMED) > 80
    assert PAGE.count("::") == sum(PAGE.count(f"{file}::{name}`") for file, name in NAMED)  # none is spelled otherwise


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_every_test_that_the_page_names_is_there(file):
    assert {name for where, name in NAMED if where == file} - defined(file) == set()


def test_every_promise_has_something_that_keeps_it():
    rows = [
        line
        for line in PAGE.splitlines()
        if line.startswith("| ") and not line.startswith(("| promise", "| what", "| kind"))
    ]
    promises = [row for row in rows if "python dev.py" not in row and "`-V" not in row]
    assert len(promises) > 35
    assert [row for row in promises if "::" not in row and "the simulation" not in row] == []


def test_the_commands_that_it_names_exist():
    from devtools import cli
    from devtools.variants import VARIANTS

    commands = set(re.findall(r"python dev\.py ([\w-]+)", PAGE))
    assert commands <= set(cli.COMMANDS)
    assert set(re.findall(r"python dev\.py test (--[\w-]+)`", PAGE)) <= set(VARIANTS)
