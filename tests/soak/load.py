"""What is run: functions on threads, coroutines in a loop. Each does one thing to its end, with random sizes, cancels and
accidents, and compares every byte."""

from __future__ import annotations

from typing import Any

from . import loops, storage, streams, system

SCENARIOS: list[tuple[Any, float]] = [
    (streams.pipes, 3),
    (streams.tcp, 3),
    (streams.pumped, 2),
    (streams.pump_accident, 1),
    (streams.tcp_accident, 4),
    (streams.dropped, 2),
    (streams.accepted_with_data, 2),
    (streams.disconnected, 1),
    (streams.handed_over, 1),
    (streams.peeked, 1),
    (streams.named_pipes, 3),
    (streams.messages, 2),
    (streams.datagrams, 2),
    (streams.scattered_datagrams, 1),
    (storage.files, 3),
    (storage.many_parts, 2),
    (storage.unbuffered, 1),
    (storage.copies, 1),
    (storage.locks, 1),
    (storage.watched, 1),
    (system.timers, 1),
    (system.waits, 2),
    (system.semaphores, 1),
    (system.functions, 2),
    (system.look_ups, 1),
    (system.private_pool, 1),
    (system.children, 0.3),
]
TASKS: list[Any] = [loops.pipe_tasks, loops.tcp_tasks, loops.timer_tasks, loops.function_tasks]
ASYNCIO_TASKS: list[Any] = [loops.stream_tasks, loops.endpoint_tasks, loops.child_tasks]  # on tpio's loop only


def choose(names: str) -> None:
    """Leaves only these scenarios, separated by commas."""
    chosen = names.split(",")
    SCENARIOS[:] = [(one, 1) for one, _ in SCENARIOS if one.__name__ in chosen] or [(system.functions, 1)]
    TASKS[:] = [one for one in TASKS if one.__name__ in chosen] or [loops.timer_tasks]
    ASYNCIO_TASKS[:] = [one for one in ASYNCIO_TASKS if one.__name__ in chosen]
