"""Runs a row with every peer that can do it, in turns, so that what else the machine does meets all of them alike.

What is compared are the times of one turn, never a time of now with one of a minute ago; the ratio of two peers is the
median of the ratios of all turns, given with its quartiles.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .peers import Peer
from .rows import Row

CLOCK = 1 / 64  # seconds, in which processor time is counted


@dataclass(frozen=True)
class Plan:
    rounds: int  # turns of each peer
    seconds: float  # that a turn is to take: decides the number of its operations


@dataclass(frozen=True)
class Quartiles:
    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Quartiles:
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))


@dataclass
class Outcome:
    row: Row
    costs: dict[str, list[float]] = field(default_factory=dict)  # peer: seconds of one operation, for each turn
    operations: dict[str, int] = field(default_factory=dict)  # peer: operations of a turn
    errors: dict[str, str] = field(default_factory=dict)  # peer: why it has no costs

    def speed(self, peer: str, against: str) -> Quartiles | None:
        """How many times as fast as the other; None when one of them did not run."""
        if peer not in self.costs or against not in self.costs:
            return None
        pairs = zip(self.costs[peer], self.costs[against], strict=True)
        return Quartiles.of([other / own for own, other in pairs])


def measure(row: Row, peers: Iterable[Peer], plan: Plan, progress: Callable[[str], None]) -> Outcome:
    outcome = Outcome(row)
    racing: list[Peer] = []
    for peer in peers:
        if not peer.can(row.workload) or (row.cpu and not peer.in_this_process):
            continue
        progress(f"{row.name}: warming up {peer.name}")
        try:
            outcome.operations[peer.name] = _operations_for(row, peer, plan.seconds)
        except Exception as error:
            _failed(outcome, peer, error, progress)
        else:
            outcome.costs[peer.name] = []
            racing.append(peer)
    rounds = min(plan.rounds, row.most_rounds or plan.rounds)
    for turn in range(rounds):
        progress(f"{row.name}: round {turn + 1} of {rounds}")
        for peer in list(racing):
            operations = outcome.operations[peer.name]
            try:
                outcome.costs[peer.name].append(_run(row, peer, operations) / operations)
            except Exception as error:
                _failed(outcome, peer, error, progress)
                racing.remove(peer)
    return outcome


def _run(row: Row, peer: Peer, operations: int) -> float:
    gc.collect()  # not on the clock, and the next peer does not clean up behind the last
    used = time.process_time()
    took = peer.run(row.workload, operations, **row.parameters)
    return max(time.process_time() - used, CLOCK) if row.cpu else took


def _operations_for(row: Row, peer: Peer, seconds: float) -> int:
    """The number of operations that take about so long; warms the peer up by the way."""
    if row.cpu:
        seconds *= 4
    if row.operations is not None:
        _run(row, peer, max(1, row.operations // 64))
        return row.operations
    operations = row.least
    if row.most_rounds is not None:  # making what they are done on takes long; the rows before have warmed the peer up
        return operations
    while (took := _run(row, peer, operations)) < seconds / 4:
        operations *= max(2, min(16, int(seconds / 2 / took)))
    return max(row.least, int(operations * seconds / max(took, seconds / 100)))


def _failed(outcome: Outcome, peer: Peer, error: Exception, progress: Callable[[str], None]) -> None:
    outcome.costs.pop(peer.name, None)
    outcome.errors[peer.name] = f"{type(error).__name__}: {error}"
    progress(f"{outcome.row.name}: {peer.name} failed: {outcome.errors[peer.name]}")
