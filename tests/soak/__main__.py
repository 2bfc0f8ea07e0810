"""Mixed load on everything there is, for as long as asked: `python dev.py soak --minutes 30`.

Threads and asyncio tasks run the scenarios of load.py, chosen by the seed, in rounds. Between two rounds nothing may be
left: no pending operation, no bound handle, no future whose callback did not run exactly once. Over all rounds memory,
handles and threads must stay flat. Every byte that is moved is compared.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import random
import statistics
import sys
import threading
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # tests/, for support

import support
import tpio

from . import load, meter

THREADS, TASKS = 6, 8
WARM_UP = 3  # rounds: until caches, the system's threads and the allocator have their size


class Soak:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.failures: list[str] = []
        self.samples: list[meter.Sample] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.began = time.monotonic()
        sys.unraisablehook = self._unraisable
        threading.excepthook = lambda args: self.fail(args.exc_value)

    def fail(self, error: BaseException | str | None, where: str = "") -> None:
        text = error if isinstance(error, str) else "".join(traceback.format_exception(error))
        self.failures.append(text)
        print(f"FAILURE {where}\n{text}", flush=True)

    def _unraisable(self, args: object) -> None:
        self.fail(getattr(args, "exc_value", None), f"unraisable: {getattr(args, 'err_msg', '')} {args!r}")

    # ---- one round

    def run_round(self, number: int, end: float) -> None:
        workers = [
            threading.Thread(target=self._work, args=(random.Random(f"{self.seed}/{number}/{index}"), end), daemon=True)
            for index in range(THREADS)
        ]
        workers.append(threading.Thread(target=self._loop, args=(number, end), daemon=True))
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(end - time.monotonic() + load.WAIT + 20)
            if worker.is_alive():
                self._explain_hang()
                self.fail(f"round {number}: a worker hangs")
                return

    def _explain_hang(self) -> None:
        faulthandler.dump_traceback(all_threads=True)
        print([(pool, pool.stats()) for pool in support.pools()], flush=True)
        if self.loop is not None and not self.loop.is_closed():
            print(f"the loop has {len(self.loop._ready)} ready and {len(self.loop._scheduled)} scheduled", flush=True)
            for task in asyncio.all_tasks(self.loop):
                print(f"{task._fut_waiter!r}", flush=True)
                task.print_stack()

    def _work(self, chance: random.Random, end: float) -> None:
        while time.monotonic() < end and not self.failures:
            scenario = chance.choices(load.SCENARIOS, [weight for _, weight in load.SCENARIOS])[0][0]
            started = chance.getstate()
            try:
                scenario(chance)
                load.tally.count(scenario.__name__)
            except BaseException as error:
                self.fail(error, f"in {scenario.__name__}; state {hash(started):#x}")

    def _loop(self, number: int, end: float) -> None:
        async def task(index: int) -> None:
            chance = random.Random(f"{self.seed}/{number}/task {index}")
            while time.monotonic() < end and not self.failures:
                scenario = chance.choice(load.TASKS)
                try:
                    await scenario(chance)
                    load.tally.count(scenario.__name__)
                except BaseException as error:
                    self.fail(error, f"in {scenario.__name__}")

        async def main() -> None:
            self.loop = asyncio.get_running_loop()
            await asyncio.gather(*(task(index) for index in range(TASKS)))

        try:
            asyncio.run(main())
        except BaseException as error:
            self.fail(error, "in the loop")

    # ---- between two rounds

    def settle(self, number: int) -> None:
        def settled() -> bool:
            gc.collect()
            return support.pending() == 0 and support.bound_handles() == 0 and load.tally.started == load.tally.ended

        if not support.eventually(settled, load.WAIT):
            self.fail(
                f"round {number}: pending {support.pending()}, handles {support.bound_handles()}, futures "
                f"{load.tally.started} started, {load.tally.ended} ended: {[pool.stats() for pool in support.pools()]}"
            )
        if load.tally.doubled:
            self.fail(f"round {number}: {load.tally.doubled} futures called back more than once")
        stats = tpio.default_pool().stats()
        if stats.submitted != stats.completed + stats.cancelled + stats.failed:
            self.fail(f"round {number}: {stats}")
        sample = meter.take(time.monotonic() - self.began)
        self.samples.append(sample)
        tally = load.tally
        print(
            f"{sample.seconds:7.0f} s  {sum(tally.scenarios.values()):8} scenarios  {stats.submitted:10} operations  "
            f"{stats.cancelled:8} cancelled  {tally.bytes / 1e6:9.1f} MB compared  "
            f"memory {sample.memory / 1e6:7.1f} MB  handles {sample.handles:4}  threads {sample.threads:3}  "
            f"Python objects {sample.objects}",
            flush=True,
        )

    def judge(self) -> None:
        samples = self.samples[WARM_UP:]
        if len(samples) < 6:
            print("too short to judge whether memory, handles and threads are flat", flush=True)
            return
        third = len(samples) // 3
        allowed = {"memory": (1.10, 8e6), "handles": (1.0, 12), "threads": (1.0, 4), "objects": (1.05, 2000)}
        for what, (factor, more) in allowed.items():
            first = statistics.median(getattr(sample, what) for sample in samples[:third])
            last = statistics.median(getattr(sample, what) for sample in samples[-third:])
            verdict = "flat" if last <= first * factor + more else "GROWS"
            print(f"{what}: {first:.0f} in the first third, {last:.0f} in the last: {verdict}", flush=True)
            if verdict != "flat":
                self.failures.append(what)


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--round", type=float, default=30, help="seconds between two looks at what is left")
    parser.add_argument("--only", help="scenarios, by their names, separated by commas")
    options = parser.parse_args()
    if options.only:
        load.choose(options.only)
    print(f"soak: Python {sys.version.split()[0]}, seed {options.seed}, {options.minutes:g} minutes", flush=True)
    faulthandler.enable()
    soak = Soak(options.seed)
    end = time.monotonic() + options.minutes * 60
    number = 0
    with load.workspace():
        while time.monotonic() < end and not soak.failures:
            faulthandler.dump_traceback_later(options.round + load.WAIT + 30)  # who hangs?
            soak.run_round(number, min(end, time.monotonic() + options.round))
            soak.settle(number)
            faulthandler.cancel_dump_traceback_later()
            number += 1
    soak.judge()
    print(
        "scenarios: " + ", ".join(f"{name} {count}" for name, count in sorted(load.tally.scenarios.items())), flush=True
    )
    print(f"soak: {'FAILED' if soak.failures else 'clean'}, seed {options.seed}", flush=True)
    return 1 if soak.failures else 0


if __name__ == "__main__":
    sys.exit(main())
