"""A short run of the fuzzer, always the same: `python dev.py fuzz` goes on from there."""

from __future__ import annotations

import gc

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

import support
from fuzz.machine import Machine

EXAMPLES = 400 if support.long else 80


@pytest.fixture(autouse=True)
def _thawed():
    """Hypothesis asks the collector who refers to its random numbers; what conftest.py has frozen is not looked at."""
    gc.unfreeze()
    yield
    gc.collect()
    gc.freeze()


@pytest.mark.once
def test_random_calls():
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # dev.py fuzz --shrink looks for the shortest run that fails
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )
