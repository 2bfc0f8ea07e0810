"""Random calls with random arguments on everything there is: `python dev.py fuzz --minutes 10`.

The seed decides every call; what the system's threads make of them differs from run to run.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # tests/, for support

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

import support

from .machine import Machine
from .values import WAIT

EXAMPLES = 40  # between two looks at what is left
WARM_UP = 3  # rounds: until what is made on first use has been made
GROWTH = 40  # handles: threads of the system come and go, with a few each


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--steps", type=int, default=60, help="rules of an example")
    parser.add_argument("--shrink", action="store_true", help="look for the shortest run that fails: takes its time")
    parser.add_argument("--verbose", action="store_true", help="print every call before it is made")
    options = parser.parse_args()
    faulthandler.enable()
    if options.verbose:
        Machine.log = staticmethod(lambda line: print(line, flush=True))
    print(f"fuzz: Python {sys.version.split()[0]}, seed {options.seed}, {options.minutes:g} minutes", flush=True)
    limits = settings(
        max_examples=EXAMPLES,
        stateful_step_count=options.steps,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink] if options.shrink else [Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    began = time.monotonic()
    handles: list[int] = []
    number = 0
    while time.monotonic() < began + options.minutes * 60:
        print(f"round {number}: python dev.py fuzz --minutes 0.01 --seed {options.seed + number}", flush=True)
        faulthandler.dump_traceback_later(30 * WAIT, exit=True)  # nothing blocks for longer than WAIT
        run_state_machine_as_test(seed(options.seed + number)(_fresh()), settings=limits)
        faulthandler.cancel_dump_traceback_later()
        handles.append(support.os_handles())
        number += 1
        counts = ", ".join(f"{count} {what}" for what, count in Machine.tally.items())
        print(f"{time.monotonic() - began:7.0f} s  {counts}; {handles[-1]} handles", flush=True)
        if len(handles) > WARM_UP and handles[-1] > handles[WARM_UP - 1] + GROWTH:
            print(f"handles leak: {handles}", flush=True)
            return 1
    print(f"fuzz: clean, seed {options.seed}", flush=True)
    return 0


def _fresh() -> type[Machine]:
    """hypothesis keeps what it knows of a machine with its class."""
    return type("Machine", (Machine,), {})


if __name__ == "__main__":
    sys.exit(main())
