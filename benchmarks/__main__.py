"""python -m benchmarks: runs the rows and prints their tables. Exit code 1 when a peer failed."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import harness, machine, peers, plot, report
from .rows import ROWS, make_data_file, make_directory

FULL = harness.Plan(rounds=11, seconds=0.2)
QUICK = harness.Plan(rounds=5, seconds=0.08)


def main() -> int:
    options = _arguments()
    plan = QUICK if options.quick else FULL
    if options.rounds:
        plan = harness.Plan(options.rounds, plan.seconds)
    rows = [row for row in ROWS if not options.only or any(name in row.name for name in options.only)]
    if not rows:
        print(f"no such row; there are {', '.join(row.name for row in ROWS)}", file=sys.stderr)
        return 2

    facts = machine.describe()
    print(report.heading(facts, plan))
    with tempfile.TemporaryDirectory() as folder:
        places = {"path": make_data_file(Path(folder)), "folder": make_directory(Path(folder))}
        outcomes = []
        for row in rows:
            outcome = harness.measure(row.on(**places), peers.ALL, plan, progress=_progress)
            outcomes.append(outcome)
            print(report.table(outcome), flush=True)
    run = report.as_json(facts, plan, outcomes)
    if options.json:
        options.json.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    if options.docs:
        _write_docs(options.docs, report.heading(facts, plan), run, outcomes)
    return 1 if any(outcome.errors for outcome in outcomes) else 0


def _write_docs(folder: Path, heading: str, run: dict[str, Any], outcomes: list[harness.Outcome]) -> None:
    """benchmarks.md with the tables, benchmarks.json with every sample, benchmarks.svg."""
    tables = "\n".join(map(report.table, outcomes))
    page = f"{heading}\n![The same as bars](benchmarks.svg)\n\n{tables}"
    files = {
        "benchmarks.md": page.rstrip() + "\n",
        "benchmarks.json": json.dumps(run, indent=1) + "\n",
        "benchmarks.svg": plot.svg(run, "tpio and its peers", run["rows"]),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python dev.py bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: a minute, more noise")
    parser.add_argument("--only", action="append", metavar="NAME", help="only rows with NAME in their name; repeatable")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"turns of each peer (default {FULL.rounds})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    parser.add_argument("--docs", type=Path, metavar="FOLDER", help="write benchmarks.md, .json and .svg into FOLDER")
    return parser.parse_args()


def _progress(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
