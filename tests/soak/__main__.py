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
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # tests/, for support

import support
import tpio
import tpio.aio

from . import counting, load, meter
from .base import WAIT, scenario, tally, workspace

THREADS, TASKS = 6, 5  # tasks of each loop
BURST = 112  # more threads than a peak of the load brings: 52 on 3.13t and 74 on 3.13 in three minutes
# Bytes a scenario that Wine keeps. It never frees the array in which a thread pool I/O object has its completions, 96 bytes
# or a multiple for each handle, and its Unix side grows too. All other blocks of the heap were the same in number after 100,000
# scenarios, when 500 bytes a scenario had been lost on 3.13 and 860 on 3.13t.
WINE_KEEPS = 1024
WARM_UP = 3  # rounds: until caches, the system's threads and the allocator have their size


class Soak:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.failures: list[str] = []
        self.samples: list[meter.Sample] = []
        self.loops: list[asyncio.AbstractEventLoop] = []
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

    def _fill_pool(self) -> None:
        """Wine keeps as many threads as there ever was work for at once, and under steady load never lets one go: the
        peaks of chance would look like growth. After this there are a few more than they need, and no more."""
        barrier = threading.Barrier(BURST)
        for function in [tpio.default_pool().submit(barrier.wait, WAIT) for _ in range(BURST)]:
            function.result(WAIT)

    def run_round(self, number: int, end: float) -> None:
        if support.wine:
            self._fill_pool()
        workers = [
            threading.Thread(
                target=self._work,
                args=(random.Random(f"{self.seed}/{number}/{index}"), end),
                name=f"worker {index}",
                daemon=True,
            )
            for index in range(THREADS)
        ]
        self.loops = []
        workers += [
            threading.Thread(target=self._loop, args=(f"{number}/{factory.__module__}", factory, end), daemon=True)
            for factory in (asyncio.ProactorEventLoop, tpio.aio.EventLoop)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(end - time.monotonic() + WAIT + 20)
            if worker.is_alive():
                self._explain_hang()
                self.fail(f"round {number}: a worker hangs")
                return

    def _explain_hang(self) -> None:
        faulthandler.dump_traceback(all_threads=True)
        print([(pool, pool.stats()) for pool in support.pools()], flush=True)
        for loop in self.loops:
            if loop.is_closed():
                continue
            print(f"{loop!r} has {len(loop._ready)} ready and {len(loop._scheduled)} scheduled", flush=True)
            for task in asyncio.all_tasks(loop):
                print(f"{task._fut_waiter!r}", flush=True)
                task.print_stack()

    def _work(self, chance: random.Random, end: float) -> None:
        while time.monotonic() < end and not self.failures:
            chosen = chance.choices(load.SCENARIOS, [weight for _, weight in load.SCENARIOS])[0][0]
            scenario.set(chosen.__name__)
            try:
                chosen(chance)
                tally.count()
            except BaseException as error:
                self.fail(error, f"in {chosen.__name__}")

    def _loop(self, name: str, factory: Callable[[], asyncio.AbstractEventLoop], end: float) -> None:
        ours = factory is tpio.aio.EventLoop
        tasks = load.TASKS + load.ASYNCIO_TASKS if ours else load.TASKS

        async def task(index: int) -> None:
            chance = random.Random(f"{self.seed}/{name}/task {index}")
            while time.monotonic() < end and not self.failures:
                chosen = chance.choice(tasks)
                scenario.set(f"{chosen.__name__} ({'tpio.aio' if ours else 'asyncio'})")
                try:
                    await chosen(chance)
                    tally.count()
                except BaseException as error:
                    self.fail(error, f"in {chosen.__name__}")

        async def main() -> None:
            self.loops.append(asyncio.get_running_loop())
            await asyncio.gather(*(task(index) for index in range(TASKS)))

        try:
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(main())
        except BaseException as error:
            self.fail(error, "in the loop")

    # ---- between two rounds

    def settle(self, number: int) -> None:
        def settled() -> bool:
            gc.collect()
            return support.pending() == 0 and support.bound_handles() == 0 and tally.started == tally.ended

        if not support.eventually(settled, WAIT):
            self.fail(
                f"round {number}: pending {support.pending()}, handles {support.bound_handles()}, futures "
                f"{tally.started} started, {tally.ended} ended: {[pool.stats() for pool in support.pools()]}"
            )
        if tally.doubled:
            self.fail(f"round {number}: {tally.doubled} futures called back more than once")
        stats = tpio.default_pool().stats()
        if stats.submitted != stats.completed + stats.cancelled + stats.failed:
            self.fail(f"round {number}: {stats}")
        sample = meter.take(time.monotonic() - self.began)
        self.samples.append(sample)
        print(
            f"{sample.seconds:7.0f} s  {sum(tally.scenarios.values()):8} scenarios  {stats.submitted:10} operations  "
            f"{stats.cancelled:8} cancelled  {sum(tally.compared.values()) / 1e6:9.1f} MB compared  "
            f"memory {sample.memory / 1e6:7.1f} MB  handles {sample.handles:4}  "
            f"threads {sample.threads:3}, {stats.threads} of the default pool  "
            f"Python objects {sample.objects}",
            flush=True,
        )

    def report(self) -> None:
        def listed(counter: Counter[str]) -> str:
            return ", ".join(f"{name} {count:,}" for name, count in sorted(counter.items()))

        stats = tpio.default_pool().stats()
        print(f"scenarios, {sum(tally.scenarios.values()):,}: {listed(tally.scenarios)}")
        print(f"operations begun by them, {sum(counting.begun.values()):,}: {listed(counting.begun)}")
        print(f"bytes compared, {sum(tally.compared.values()):,}: {listed(tally.compared)}")
        print(
            f"the default pool: {stats.submitted:,} submitted, {stats.completed:,} completed, {stats.cancelled:,} "
            f"cancelled, {stats.failed:,} failed, {stats.pending} pending, {stats.handles} handles bound"
        )
        print(
            f"futures followed: {tally.started:,}; callbacks that never came: {tally.started - tally.ended}, "
            f"that came twice: {tally.doubled}; failures: {len(self.failures)}",
            flush=True,
        )

    def judge(self) -> None:
        samples = self.samples[WARM_UP:]
        if len(samples) < 6:
            print("too short to judge whether memory, handles and threads are flat", flush=True)
            return
        third = len(samples) // 3
        for what in ("memory", "handles", "threads", "objects"):
            begin, end = getattr(samples[0], what), getattr(samples[-1], what)
            print(f"{what}: {begin} after the warm-up, {end} at the end", flush=True)
        between = sum(tally.scenarios.values()) * (2 * third) / len(self.samples)
        keeps = WINE_KEEPS * between if support.wine else 0
        allowed = {"memory": (1.10, 8e6 + keeps), "handles": (1.0, 12), "threads": (1.0, 4), "objects": (1.05, 2000)}
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
    parser.add_argument("--round", type=float, help="seconds between two looks at what is left (default: 30 or less)")
    parser.add_argument("--only", help="scenarios, by their names, separated by commas")
    options = parser.parse_args()
    options.round = options.round or min(30, options.minutes * 60 / 18)  # enough of them to judge
    counting.install()
    if options.only:
        load.choose(options.only)
    print(f"soak: Python {sys.version.split()[0]}, seed {options.seed}, {options.minutes:g} minutes", flush=True)
    faulthandler.enable()
    soak = Soak(options.seed)
    end = time.monotonic() + options.minutes * 60
    number = 0
    with workspace():
        while time.monotonic() < end and not soak.failures:
            faulthandler.dump_traceback_later(options.round + WAIT + 30)  # who hangs?
            soak.run_round(number, min(end, time.monotonic() + options.round))
            soak.settle(number)
            faulthandler.cancel_dump_traceback_later()
            number += 1
    soak.judge()
    soak.report()
    print(f"soak: {'FAILED' if soak.failures else 'clean'}, seed {options.seed}", flush=True)
    return 1 if soak.failures else 0


if __name__ == "__main__":
    sys.exit(main())
