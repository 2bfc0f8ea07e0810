"""What is shown of a run: Markdown for people, JSON for programs."""

from __future__ import annotations

from typing import Any

from .harness import Outcome, Plan, Quartiles
from .peers import FLOOR, LOOP_REFERENCES, REFERENCE


def heading(facts: dict[str, str], plan: Plan) -> str:
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    lines.append(f"- {plan.rounds} rounds; speeds are medians of the ratios within a round (quartiles in parentheses)")
    return "\n".join(["# tpio benchmarks", "", *lines, ""])


def references(outcome: Outcome) -> tuple[str, str]:
    """The peers that the others are compared with; another of ours, and of theirs, where these do not do the workload."""
    if outcome.row.loops:
        return LOOP_REFERENCES
    ours = [REFERENCE, *(peer for peer in outcome.costs if peer.startswith("tpio"))]
    theirs = [FLOOR, *(peer for peer in reversed(outcome.costs) if not peer.startswith("tpio"))]
    return next(filter(outcome.costs.get, ours), REFERENCE), next(filter(outcome.costs.get, theirs), FLOOR)


def table(outcome: Outcome) -> str:
    row = outcome.row
    one, other = references(outcome)
    lines = [
        f"## {row.title}",
        "",
        f"| | {row.unit} | speed, {one} = 1 | speed, {other} = 1 |",
        "|---|---:|---:|---:|",
    ]
    for peer, costs in outcome.costs.items():
        median = row.in_unit(Quartiles.of(costs).median)
        against = [_speed(outcome.speed(peer, each), peer == each) for each in (one, other)]
        lines.append(f"| {peer} | {_number(median)} | {' | '.join(against)} |")
    lines.extend(f"| {peer} | failed | {error} | |" for peer, error in outcome.errors.items())
    return "\n".join([*lines, ""])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _speed(speed: Quartiles | None, is_itself: bool) -> str:
    if speed is None:
        return "-"
    if is_itself:
        return "1"
    return f"{speed.median:.2f} ({speed.low:.2f} to {speed.high:.2f})"


def as_json(facts: dict[str, str], plan: Plan, outcomes: list[Outcome]) -> dict[str, Any]:
    return {
        "machine": facts,
        "rounds": plan.rounds,
        "rows": [
            {
                "name": outcome.row.name,
                "title": outcome.row.title,
                "unit": outcome.row.unit,
                "parameters": {
                    name: value for name, value in outcome.row.parameters.items() if name not in ("path", "folder")
                },
                "peers": {
                    peer: {
                        "operations": outcome.operations[peer],
                        "seconds_per_operation": costs,
                        "median": outcome.row.in_unit(Quartiles.of(costs).median),
                        "speed": {
                            other: [speed.low, speed.median, speed.high]
                            for other in references(outcome)
                            if (speed := outcome.speed(peer, other)) is not None
                        },
                    }
                    for peer, costs in outcome.costs.items()
                },
                "errors": outcome.errors,
            }
            for outcome in outcomes
        ],
    }
