"""Programs as people write them with other libraries, for `python dev.py frameworks`, which has them.

What a library makes on first use stays: these tests are not run again to look for leaks of handles.
"""

from __future__ import annotations

import pathlib

import pytest

HERE = pathlib.Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "frameworks: a program of another library")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.frameworks)
            item.add_marker(pytest.mark.once(handles=64))
