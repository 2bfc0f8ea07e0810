"""Every Win32 call and allocation of tpio's fails once, in each place, in each public operation.

For `python dev.py test --faults`, whose build counts the calls (src/tpio_faults.h). A scenario runs until its n-th call
is not made but fails, for n = 1, 2, ... until there is no n-th. Each time it either succeeds, as not every failure
matters, or raises the error that the call failed with. Nothing may be pending, open or leaked then, and the default pool
works. Likewise Python's own allocations, whose allocators are wrapped (src/tpio_faults.c): a MemoryError, or the result.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator

import pytest

import fault_scenarios_beyond  # noqa: F401 - adds its own
import support
import tpio
import tpio.aio
import tpio.tls
from fault_hooks import ENOUGH_MEMORY_IS, Faults, NoMemory, hooks, wrapped_allocators
from fault_scenarios import PATIENCE, SCENARIOS, get, place

pytestmark = [
    pytest.mark.skipif(not hasattr(hooks, "tpio_faults_arm"), reason="for the build of --faults"),
    pytest.mark.once(handles=32),  # each scenario looks for itself
    # asyncio does not close everything at once when something fails in between. What leaks is seen.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
ERROR_INVALID_PARAMETER = 87
SAMPLE = 30  # allocations of Python's of each scenario


def works() -> bool:
    """Does the default pool? A pipe's round trip."""
    reader, writer = tpio.pipe()
    with reader, writer:
        reading = reader.read(4)
        return get(writer.write(b"data")) == 4 and get(reading) == b"data"


def explains(error: BaseException, fault: Faults) -> bool:
    """Is that what a program should be told of the failure?"""
    if isinstance(error, ExceptionGroup):
        return all(explains(each, fault) for each in error.exceptions)
    if type(error) is ConnectionResetError and str(error) == "Connection lost":
        return True  # asyncio, of a connection whose transport, or whose peer's, has been told of the failure
    if isinstance(fault, NoMemory) and repr(error) == "SystemError('error return without exception set')":
        return True  # the interpreter, of a pure Python program too, when there is no memory for what an error needs
    if isinstance(error, MemoryError):
        return fault.error == ENOUGH_MEMORY_IS or fault.function in AS_MEMORY
    if isinstance(error, tpio.BindError):
        return False  # it would say which mistake the program has made
    return isinstance(error, OSError) and error.winerror in (fault.error, *AS.get(fault.function, ()))


# Failures that programs are told of in other words.
AS_MEMORY = {"CreateEventW", "FlsSetValue"}  # nothing to wait on
AS: dict[str, tuple[int, ...]] = {
    # Why a handle cannot be bound stays unknown: what CreateThreadpoolIo has said of it.
    **dict.fromkeys(("GetModuleHandleW", "GetProcAddress", "NtQuery..."), (ERROR_INVALID_PARAMETER,)),
}


def once(function: Callable[[contextlib.ExitStack], None], fault: Faults) -> None:
    """Runs a scenario with that fault."""
    problem = None
    with contextlib.ExitStack() as stack:
        try:
            with fault:
                function(stack)
        except BaseException as error:
            problem = error
    if isinstance(problem, KeyboardInterrupt):
        raise problem
    if problem is not None and not (fault.function and explains(problem, fault)):
        raise AssertionError(f"call {fault.nth}, {fault.function or 'none'}, failed") from problem


@pytest.fixture
def allocators() -> Iterator[None]:
    with wrapped_allocators():
        yield


@pytest.fixture
def folder(tmp_path) -> Iterator[None]:
    place.path = str(tmp_path)
    yield
    place.path = ""


def problems_of(
    function: Callable[[contextlib.ExitStack], None],
    fault_of: Callable[[int], Faults] = Faults,
    numbers: Iterable[int] | None = None,
    unheard: list[BaseException] | None = None,
) -> Iterator[str]:
    """Runs a scenario once for each of its calls."""
    with contextlib.ExitStack() as stack:
        function(stack)  # what is made on first use is there
    pending, bound = support.pending(), support.bound_handles()
    for nth in numbers or itertools.count(1):
        before = support.os_handles()
        what = f"call {nth}"
        fault = fault_of(nth)
        try:
            once(function, fault)
            if not fault.function:
                return
            what += f", {fault.function}"
        except AssertionError as error:
            yield f"{error}: {error.__cause__!r}"
        if unheard is not None:
            for error in unheard:
                if not explains(error, fault):
                    yield f"{what}: nobody could catch {error!r}"
            unheard.clear()  # their frames

        def settled(before: int = before) -> bool:
            return support.pending() <= pending and support.bound_handles() <= bound and support.os_handles() <= before

        if not support.eventually(settled, 0.2):
            # Threads of pools come and go, with handles of theirs: what leaks does it each time.
            counts = [support.os_handles()]
            for _ in range(3):
                with contextlib.suppress(AssertionError):
                    once(function, fault_of(nth))
                if unheard is not None:
                    unheard.clear()
                support.eventually(lambda most=counts[-1]: support.os_handles() <= most, 1)
                counts.append(support.os_handles())
                if counts[-1] <= counts[-2]:
                    break
            else:
                yield f"{what}: handles leak, counted {counts}"
            if not support.eventually(
                lambda: support.pending() <= pending and support.bound_handles() <= bound, PATIENCE
            ):
                yield f"{what}: {support.pending() - pending} pending, {support.bound_handles() - bound} bound"
        try:
            assert works()
        except Exception as error:
            yield f"{what}: the pool does not work: {error!r}"


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_call_fails_once(name, folder):
    assert list(problems_of(SCENARIOS[name])) == []


# Not those that go through Python's locks: a `with lock` that gets no memory for the arguments of __exit__ leaves it locked for
# good, in any program. FRAIL does not catch all of that.
WITHOUT_LOCKS = (
    "a_pool",
    "a_pool_that_runs_long",
    "an_anonymous_pipe",
    "a_pipe_for_a_child",
    "reads_that_wait",
    "the_end_of_a_pipe",
    "cancel",
    "cancel_of_a_handle",
    "close_with_a_read_pending",
    "detach",
    "datagrams",
    "a_file_at_offsets",
    "an_unbuffered_file",
    "sleep",
    "submit",
)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["caller", "pool"])
@pytest.mark.parametrize("name", WITHOUT_LOCKS)
def test_every_allocation_of_python_fails_once(name, elsewhere, folder, allocators, unraisable):
    """Some of them, that is, unless TPIO_LONG=1."""
    fault_of = functools.partial(NoMemory, elsewhere=elsewhere)
    with contextlib.ExitStack() as stack:
        SCENARIOS[name](stack)  # what is made on first use is there
    with contextlib.ExitStack() as stack, fault_of(0) as none:
        SCENARIOS[name](stack)
    assert none.calls > 0 or elsewhere
    numbers = range(1, none.calls + 1, 1 if support.long else max(1, none.calls // SAMPLE))
    assert list(problems_of(SCENARIOS[name], fault_of, numbers, unraisable)) == []


def test_a_call_that_fails_is_the_one_that_was_asked_for():
    with Faults(0) as none:
        tpio.pipe()[0].close()
    assert none.calls > 2 and not none.function
    with pytest.raises((OSError, MemoryError)) as caught, Faults(1) as first:
        tpio.pipe()
    assert first.function and explains(caught.value, first)
