"""Two builds of one Python, with a GIL and without: callbacks that compute."""

from __future__ import annotations

import json
import statistics

from . import interpreter, pythons
from .pythons import Version
from .ui import Failure, say


def run(version: Version, *, quick: bool) -> int:
    """They take turns, each turn a process; what is compared are the turns of one round, as in benchmarks/harness.py."""
    rounds, seconds = (3, "0.5") if quick else (9, "1.5")
    name = version.name.removesuffix("t")
    builds = {build: interpreter.get(pythons.find(build)) for build in (name, f"{name}t")}
    rates: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds + 1):
        say(f"round {number} of {rounds}")
        for build, python in builds.items():
            code, said = python.capture(["-m", "benchmarks.free_threaded", seconds])
            if code:
                raise Failure(f"the benchmark failed on {build}: {said}")
            for row, rate in json.loads(said.splitlines()[-1]).items():
                if number:  # the first round is for the disk
                    rates.setdefault(row, {}).setdefault(build, []).append(rate)
    print(f"| a callback that computes | {name}, /s | {name}t, /s | {name}t, {name} = 1 |\n|---|---:|---:|---:|")
    for row, of in rates.items():
        ratios = [free / gil for gil, free in zip(of[name], of[f"{name}t"], strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        gil, free = (statistics.median(of[build]) for build in builds)
        print(f"| {row} | {gil:,.0f} | {free:,.0f} | {median:.2f} ({low:.2f} to {high:.2f}) |")
    return 0
