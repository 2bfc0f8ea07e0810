"""await on a tpio future, under any asyncio loop. A cancelled await loses nothing, whoever was faster."""

from __future__ import annotations

import abc
import asyncio
import contextvars
import gc
import random
import struct
import sys
import threading
from concurrent.futures import CancelledError as FutureCancelledError

import pytest

import support
import tpio
import tpio.aio
from support import WAIT, at_once, eventually

try:
    import winloop
except ImportError:
    winloop = None

LOOPS = {
    "proactor": asyncio.ProactorEventLoop,
    "selector": asyncio.SelectorEventLoop,
    "tpio": tpio.aio.EventLoop,
    "winloop": winloop and winloop.new_event_loop,
}


@pytest.fixture(params=LOOPS)
def run(request):
    """Runs a coroutine under the loop; what the loop's exception handler gets fails the test."""
    if LOOPS[request.param] is None:
        pytest.skip(f"{request.param} is not installed")
    reported = []

    def run(main):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.get_loop().set_exception_handler(lambda loop, context: reported.append(context))
            result = runner.run(asyncio.wait_for(main, WAIT))
        gc.collect()
        assert not reported
        return result

    return run


@pytest.fixture
def pair():
    reader, writer = tpio.pipe()
    with reader, writer:
        yield reader, writer


def name():
    return f"tpio-test-asyncio-{random.getrandbits(64):x}"


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


# ---- await ----------------------------------------------------------------------------------------------------------


def test_await_gives_the_result(run, pair):
    reader, writer = pair

    async def main():
        future = reader.read(10)
        assert await writer.write(b"omg") == 3
        assert await future == b"omg"
        assert await future == b"omg"
        return await tpio.default_pool().submit(pow, 2, 5)

    assert run(main()) == 32


def test_await_raises_the_exception(run, pair):
    reader, writer = pair
    reader.close()

    async def main():
        with pytest.raises(BrokenPipeError):
            await writer.write(b"nobody reads")
        with pytest.raises(ZeroDivisionError):
            await tpio.default_pool().submit(lambda: 1 / 0)
        result = await tpio.default_pool().submit(lambda: (1, 2))
        assert result == (1, 2)
        error = await tpio.default_pool().submit(lambda: ValueError("a result, not raised"))
        assert isinstance(error, ValueError)

    run(main())


def test_await_of_a_done_future_does_not_suspend(run, pair):
    reader, writer = pair
    future = reader.read(3)
    writer.write(b"omg").result(WAIT)
    assert future.result(WAIT) == b"omg"

    async def main():
        other = asyncio.get_running_loop().create_task(asyncio.sleep(0))
        await asyncio.sleep(0)
        ran = []
        asyncio.get_running_loop().call_soon(ran.append, 1)
        assert await future == b"omg"
        assert await reader.read(0) == b""
        assert not ran
        await other

    run(main())


def test_await_of_a_done_future_needs_no_loop(pair):
    reader, _ = pair

    async def main():
        return await reader.read(0)

    with pytest.raises(StopIteration) as end:
        main().send(None)
    assert end.value.value == b""


def test_await_of_a_pending_future_without_a_loop_says_so(pair):
    reader, writer = pair

    async def main(future):
        return await future

    future = reader.read(3)
    with pytest.raises(RuntimeError, match="running asyncio event loop"):
        main(future).send(None)
    writer.write(b"omg").result(WAIT)
    assert future.result(WAIT) == b"omg"


def test_gather_and_as_completed(run, pair):
    reader, writer = pair

    async def main():
        futures = [reader.read(1) for _ in range(5)]
        await writer.write(b"abcde")
        assert await asyncio.gather(*futures) == [b"a", b"b", b"c", b"d", b"e"]
        sleeps = [tpio.sleep(0.01) for _ in range(5)]
        done = [await each for each in asyncio.as_completed([asyncio.ensure_future(sleep) for sleep in sleeps])]
        assert done == [None] * 5

    run(main())


def test_several_tasks_await_one_future(run, pair):
    reader, writer = pair

    async def main():
        future = reader.read(3)

        async def wait():
            return await future

        tasks = [asyncio.create_task(wait()) for _ in range(5)]
        await turns()
        tasks[1].cancel()
        await turns()
        assert tasks[1].cancelled()
        assert not future.done()
        await writer.write(b"omg")
        assert await asyncio.gather(*tasks, return_exceptions=True) == [
            b"omg",
            AnyCancelled(),
            b"omg",
            b"omg",
            b"omg",
        ]

    run(main())


class AnyCancelled:
    def __eq__(self, other):
        return isinstance(other, asyncio.CancelledError)

    __hash__ = None


def test_a_task_and_a_blocked_thread_and_a_callback_wait_for_one_future(run, pair):
    reader, writer = pair

    async def main():
        loop = asyncio.get_running_loop()
        future, told = reader.read(3), asyncio.Event()
        blocked = loop.run_in_executor(None, future.result, WAIT)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(told.set))

        async def wait():
            return await future

        task = asyncio.create_task(wait())
        await turns()
        await writer.write(b"omg")
        assert await task == await blocked == b"omg"
        await told.wait()

    run(main())


def test_contexts_are_those_of_the_tasks(run, pair):
    reader, writer = pair
    variable = contextvars.ContextVar("variable", default="outside")

    async def main():
        async def task(number):
            variable.set(number)
            future = reader.read(1)
            writer.write(b"x")
            await future
            assert variable.get() == number
            await tpio.sleep(0.001)
            assert variable.get() == number

        await asyncio.gather(*[task(number) for number in range(20)])
        assert variable.get() == "outside"

    run(main())
    assert variable.get() == "outside"


def test_tasks_resume_on_the_thread_of_their_loop(run):
    async def main():
        here = threading.get_ident()
        for _ in range(20):
            await tpio.sleep(0)
            assert threading.get_ident() == here

    run(main())


def test_a_task_that_raises_base_exceptions_does_not_hold_up_the_others(pair):
    """Several are resumed in one batch, and the first one leaves the loop."""
    reader, writer = pair
    received = []

    async def wait(future):
        received.append(await future)
        raise SystemExit(3)

    async def collect(future):
        received.append(await future)

    with asyncio.Runner() as runner:
        futures = [reader.read(1) for _ in range(4)]
        loop = runner.get_loop()
        tasks = [loop.create_task(wait(futures[0])), *[loop.create_task(collect(each)) for each in futures[1:]]]

        async def main():
            await turns()
            writer.write(b"abcd").result(WAIT)
            for future in futures:
                future.result(WAIT)
            await asyncio.sleep(WAIT)

        with pytest.raises(SystemExit):
            runner.run(main())
        runner.run(asyncio.wait(tasks))
        assert sorted(received) == [b"a", b"b", b"c", b"d"]
        assert isinstance(tasks[0].exception(), SystemExit)


def test_one_wake_up_for_a_batch():
    """However many operations end together, their loop is woken once."""
    count = 40

    async def main():
        loop = asyncio.get_running_loop()
        calls = []
        original = loop.call_soon_threadsafe

        def call_soon_threadsafe(callback, *args, **kwargs):
            calls.append(callback)
            return original(callback, *args, **kwargs)

        loop.call_soon_threadsafe = call_soon_threadsafe
        futures = [tpio.Future() for _ in range(count)]
        tasks = [asyncio.create_task(wait(future)) for future in futures]
        await turns()
        # The loop's thread is busy here, so that nothing is taken from its inbox meanwhile.
        tpio.default_pool().submit(lambda: [future.set_result(None) for future in futures]).result(WAIT)
        assert all(future.done() for future in futures)
        await asyncio.gather(*tasks)
        assert len(calls) == 1
        calls.clear()
        tasks = [asyncio.create_task(wait(tpio.sleep(0.05))) for _ in range(count)]
        await asyncio.gather(*tasks)
        assert 1 <= len(calls) <= count // 2

    async def wait(future):
        return await future

    asyncio.run(main())


def test_wait_for_times_out_and_the_read_is_over(run, pair):
    reader, writer = pair

    async def main():
        future = reader.read(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.02)
        assert future.cancelled()
        await writer.write(b"omg")
        assert await reader.read(3) == b"omg"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await reader.read(1)
        await writer.write(b"omg")
        async with asyncio.timeout(WAIT):
            assert await reader.read(3) == b"omg"

    run(main())


def test_a_task_group_cancels_its_reads(run, pair):
    reader, writer = pair

    async def main():
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                for _ in range(5):
                    group.create_task(wait(reader.read(1)))
                await turns()
                raise ZeroDivisionError
        assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
        await writer.write(b"omg")
        assert await reader.read(3) == b"omg"

    async def wait(future):
        return await future

    run(main())


def test_a_shielded_read_goes_on(run, pair):
    reader, writer = pair

    async def main():
        task = asyncio.ensure_future(reader.read(3))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), 0.02)
        await writer.write(b"omg")
        assert await task == b"omg"

    run(main())


def test_a_running_function_is_not_waited_for_by_a_cancelled_task(run):
    begun, go = threading.Event(), threading.Event()

    def function():
        begun.set()
        return go.wait(WAIT)

    async def main():
        future = tpio.default_pool().submit(function)
        task = asyncio.create_task(wait(future))
        await turns()
        assert begun.wait(WAIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not future.done()
        go.set()
        assert await future is True

    async def wait(future):
        return await future

    run(main())


def test_the_message_of_a_cancel_arrives(run, pair):
    async def main():
        task = asyncio.create_task(wait())
        await turns()
        task.cancel("because")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert "because" in str(caught.value) or "because" in repr(caught.value.__context__)

    async def wait():
        try:
            await pair[0].read(1)
        except asyncio.CancelledError as error:
            assert error.args == ("because",)
            raise

    run(main())


def test_a_task_may_refuse_to_be_cancelled(run, pair):
    reader, writer = pair

    async def main():
        async def stubborn():
            for _ in range(3):
                try:
                    return await reader.read(3)
                except asyncio.CancelledError:
                    pass
            return b"given up"

        task = asyncio.create_task(stubborn())
        for _ in range(2):
            await turns()
            task.cancel()
            await asyncio.sleep(0.02)
        assert not task.done()
        await writer.write(b"omg")
        assert await task == b"omg"

    run(main())


def test_a_future_that_somebody_else_cancels(run, pair):
    async def main():
        task = asyncio.create_task(wait(future := pair[0].read(1)))
        await turns()
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        task = asyncio.create_task(wait(pair[0].read(1)))
        await turns()
        pair[0].close()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def wait(future):
        return await future

    run(main())


# ---- a cancelled await loses nothing --------------------------------------------------------------------------------
# Three ways: the cancel wins; the completion wins before the cancel is asked for, while the task has not been resumed;
# the two meet (the storms).


class Subject(abc.ABC):
    """Something that can be awaited, what makes it end, and what the next one should get."""

    @abc.abstractmethod
    def open(self, tmp_path): ...

    @abc.abstractmethod
    def close(self): ...

    @abc.abstractmethod
    def begin(self): ...

    @abc.abstractmethod
    def send(self, data): ...

    def value(self, result):
        return result


class PipeRead(Subject):
    def open(self, tmp_path):
        self.reader, self.writer = tpio.pipe()

    def close(self):
        self.reader.close()
        self.writer.close()

    def begin(self):
        return self.reader.read(4)

    def send(self, data):
        self.writer.write(data).result(WAIT)


class PipeReadInto(PipeRead):
    def begin(self):
        self.buffer = bytearray(4)
        return self.reader.read_into(self.buffer)

    def value(self, result):
        return bytes(self.buffer[:result])


class MessageRead(PipeRead):
    def open(self, tmp_path):
        with tpio.PipeListener(name(), message=True) as listener:
            self.writer = tpio.open_pipe(listener.name).result(WAIT)
            self.reader = listener.accept().result(WAIT)


class SocketRead(PipeRead):
    def open(self, tmp_path):
        with tpio.listen(("127.0.0.1", 0)) as listener:
            accepted = listener.accept()
            self.writer = tpio.open_connection(listener.getsockname()).result(WAIT)
            self.reader = accepted.result(WAIT)[0]


class SocketReadInto(SocketRead, PipeReadInto):
    pass


class Accept(Subject):
    def open(self, tmp_path):
        self.listener = tpio.listen(("127.0.0.1", 0))
        self.clients = []

    def close(self):
        self.listener.close()
        for client in self.clients:
            client.close()

    def begin(self):
        return self.listener.accept()

    def send(self, data):
        self.clients.append(client := tpio.open_connection(self.listener.getsockname()).result(WAIT))
        client.send(data).result(WAIT)

    def value(self, result):
        assert eventually(lambda: self.clients)
        with result[0] as connection, self.clients.pop(0):
            assert connection.getpeername() == result[1]
            return connection.recv(4).result(WAIT)


class PipeAccept(Accept):
    def open(self, tmp_path):
        self.listener = tpio.PipeListener(name())
        self.clients = []

    def send(self, data):
        self.clients.append(client := tpio.open_pipe(self.listener.name).result(WAIT))
        client.write(data).result(WAIT)

    def value(self, result):
        assert eventually(lambda: self.clients)
        with result, self.clients.pop(0):
            return result.read(4).result(WAIT)


SUBJECTS = [PipeRead, PipeReadInto, MessageRead, SocketRead, SocketReadInto, Accept, PipeAccept]


@pytest.fixture(params=SUBJECTS, ids=lambda subject: subject.__name__)
def subject(request, tmp_path):
    subject = request.param()
    subject.open(tmp_path)
    yield subject
    subject.close()


async def cancelled(task):
    try:
        await task
    except asyncio.CancelledError:
        return task.cancelled()
    return False


async def wait(future):
    return await future


def test_the_cancel_wins(subject):
    async def main():
        for number in range(5):
            task = asyncio.create_task(wait(subject.begin()))
            await turns()
            task.cancel()
            assert await cancelled(task)
            subject.send(b"%04d" % number)
            assert subject.value(await subject.begin()) == b"%04d" % number

    asyncio.run(main())


def test_the_completion_wins_and_the_task_is_cancelled_before_it_is_resumed(subject):
    async def main():
        for number in range(5):
            future = subject.begin()
            task = asyncio.create_task(wait(future))
            await turns()
            subject.send(b"%04d" % number)  # the loop's thread is busy here: the task cannot be resumed
            assert eventually(future.done)
            task.cancel()
            assert await cancelled(task)
            assert future.cancelled()
            assert subject.value(await subject.begin()) == b"%04d" % number

    asyncio.run(main())


def test_what_was_given_back_is_not_held_up_by_a_poll(pair):
    reader, writer = pair

    async def main():
        future = reader.read(3)
        task = asyncio.create_task(wait(future))
        await turns()
        writer.write(b"omg").result(WAIT)
        assert eventually(future.done)
        task.cancel()
        assert await cancelled(task)
        await reader.poll_read()
        assert await reader.read(1) == b"o"
        buffer = bytearray(10)
        assert await reader.read_into(buffer) == 2
        assert buffer[:2] == b"mg"
        poll = reader.poll_read()
        await asyncio.sleep(0.01)
        assert not poll.done()
        poll.cancel()

    asyncio.run(main())


def test_what_several_cancelled_reads_brought_comes_in_order(pair):
    reader, writer = pair

    async def main():
        futures = [reader.read(2) for _ in range(5)]
        tasks = [asyncio.create_task(wait(future)) for future in futures]
        await turns()
        writer.write(b"0123456789").result(WAIT)
        assert eventually(lambda: all(future.done() for future in futures))
        for task in tasks:
            task.cancel()
        for task in tasks:
            assert await cancelled(task)
        received = b""
        while len(received) < 10:
            received += await reader.read(3)
        assert received == b"0123456789"

    asyncio.run(main())


def test_a_result_that_others_have_seen_is_not_given_back(pair):
    """A callback has the bytes: the next read must not get them a second time."""
    reader, writer = pair

    async def main():
        future, seen = reader.read(3), tpio.Future()
        future.add_done_callback(lambda future: seen.set_result(future.result()))
        task = asyncio.create_task(wait(future))
        await turns()
        writer.write(b"omg").result(WAIT)
        assert seen.result(WAIT) == b"omg"
        task.cancel()
        assert await cancelled(task)
        assert future.result(0) == b"omg"
        writer.write(b"abc").result(WAIT)
        assert await reader.read(3) == b"abc"

    asyncio.run(main())


@pytest.mark.parametrize("into", [False, True])
def test_sequential_file_reads_go_on_where_the_cancelled_one_began(tmp_path, into):
    data = random.Random(7).randbytes(50_000)
    (tmp_path / "file").write_bytes(data)

    async def main():
        rng = random.Random(8)
        received = b""
        gone = 0
        with tpio.open(tmp_path / "file") as file:
            while True:
                size = rng.randrange(1, 500)
                buffer = bytearray(size)

                async def read(size=size, buffer=buffer):
                    if into:
                        return bytes(buffer[: await file.read_into(buffer)])
                    return await file.read(size)

                task = asyncio.create_task(read())
                if rng.randrange(2):
                    await asyncio.sleep(0)
                    task.cancel()
                try:
                    part = await task
                except asyncio.CancelledError:
                    gone += 1
                    continue
                if not part:
                    break
                received += part
        assert received == data

    asyncio.run(main())


@pytest.mark.once
@pytest.mark.parametrize("loop", ["proactor", "selector"])
@pytest.mark.parametrize("make", [PipeRead, PipeReadInto, SocketRead])
def test_storm_of_cancelled_awaits_loses_nothing(make, loop, tmp_path):
    """Reads with a timeout that is about as long as the next bytes need: every byte comes once and in order."""
    tries = 10_000 if support.long else 600
    subject = make()
    subject.open(tmp_path)
    sent, received, ends = 0, [], {"cancelled": 0, "read": 0}
    stop = threading.Event()

    def write():
        nonlocal sent
        rng = random.Random(10)
        while not stop.is_set():
            subject.send(struct.pack("I", sent))
            sent += 1
            if rng.randrange(3) == 0:
                stop.wait(rng.random() / 500)

    async def main():
        rng = random.Random(11)

        async def one():
            return subject.value(await subject.begin())

        for number in range(tries):
            task = asyncio.create_task(one())
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            if number % 2:
                task.cancel()
            try:
                received.append(await task)
            except asyncio.CancelledError:
                ends["cancelled"] += 1
            else:
                ends["read"] += 1
        stop.set()
        await asyncio.get_running_loop().run_in_executor(None, writer.join)
        while sum(map(len, received)) < 4 * sent:
            received.append(await one())

    try:
        with support.thread(write) as writer:
            try:
                with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
                    runner.run(asyncio.wait_for(main(), 2 * WAIT))
            finally:
                stop.set()
        assert b"".join(received) == b"".join(struct.pack("I", number) for number in range(sent))
        assert min(ends.values()) > 10, ends
    finally:
        subject.close()


@pytest.mark.once
@pytest.mark.parametrize("make", [Accept, PipeAccept])
def test_storm_of_cancelled_accepts_loses_no_connection(make, tmp_path):
    count = 1000 if support.long else 100
    subject = make()
    subject.open(tmp_path)
    received, tries, gone = [], 0, 0

    def connect():
        for number in range(count):
            subject.send(b"%04d" % number)

    async def begin_and_wait():
        return await subject.begin()

    async def main():
        nonlocal tries, gone
        rng = random.Random(12)
        while len(received) < count:
            tries += 1
            task = asyncio.create_task(begin_and_wait())  # what has begun is awaited
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(rng.choice([0, 0, 0.001]))
            if tries % 3:
                task.cancel()
            try:
                connection = await task
            except asyncio.CancelledError:
                gone += 1
            else:
                received.append(subject.value(connection))

    try:
        with support.thread(connect):
            asyncio.run(asyncio.wait_for(main(), 2 * WAIT))
        assert sorted(received) == [b"%04d" % number for number in range(count)]
        assert gone > 10
    finally:
        subject.close()


# ---- loops that come and go -----------------------------------------------------------------------------------------


def test_one_handle_under_one_loop_after_the_other(run, pair):
    reader, writer = pair

    async def main(number):
        future = reader.read(4)
        await writer.write(b"%04d" % number)
        return await future

    for number in range(5):
        assert run(main(number)) == b"%04d" % number


def test_a_loop_is_closed_while_an_operation_is_pending(pair, capfd):
    """The completion comes later and finds nobody: no noise, and no harm to others that wait for the same."""
    reader, writer = pair
    loop = asyncio.new_event_loop()
    future = reader.read(3)

    async def main():
        return await future

    coroutine = main()
    task = loop.create_task(coroutine)
    loop.run_until_complete(turns())
    loop.close()
    writer.write(b"omg").result(WAIT)
    assert future.result(WAIT) == b"omg"
    task._log_destroy_pending = False  # that asyncio complains about
    with pytest.raises(RuntimeError):
        coroutine.throw(RuntimeError)
    del task, coroutine
    gc.collect()
    captured = capfd.readouterr()
    assert captured.err == ""
    assert captured.out == ""


def test_closed_loops_are_forgotten(pair):
    before = len(tpio._tpio._inboxes)
    for _ in range(5):

        async def main():
            await tpio.sleep(0)

        asyncio.run(main())
    gc.collect()
    assert eventually(lambda: gc.collect() >= 0 and len(tpio._tpio._inboxes) <= before + 1)


def test_asyncio_run_cancels_what_is_left(run, pair):
    reader, writer = pair

    async def main():
        asyncio.create_task(wait(reader.read(3)))  # noqa: RUF006 - left behind on purpose
        await turns()

    run(main())
    writer.write(b"omg").result(WAIT)
    assert reader.read(3).result(WAIT) == b"omg"


def test_loops_in_several_threads_at_once(pair):
    reader, writer = pair

    async def main():
        return [await reader.read(1) for _ in range(100)]

    def write():
        for _ in range(30):
            writer.write(bytes(10)).result(WAIT)
        return []

    results = at_once(*[lambda: asyncio.run(main())] * 3, write)
    assert [len(result) for result in results] == [100, 100, 100, 0]


def test_a_future_of_one_loop_is_awaited_in_another(pair):
    reader, writer = pair
    future = reader.read(3)

    def run():
        return asyncio.run(asyncio.wait_for(wait(future), WAIT))

    def write():
        writer.write(b"omg").result(WAIT)

    assert at_once(run, run, run, write)[:3] == [b"omg"] * 3


def test_eager_tasks(pair):
    if sys.version_info < (3, 12):
        pytest.skip("eager tasks came with Python 3.12")
    reader, writer = pair

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(wait(reader.read(3)))
        assert await asyncio.create_task(wait(reader.read(0))) == b""
        await writer.write(b"omg")
        assert await task == b"omg"
        cancelled_task = asyncio.create_task(wait(reader.read(3)))
        cancelled_task.cancel()
        assert await cancelled(cancelled_task)

    asyncio.run(main())


def test_the_python_implementation_of_tasks(pair):
    """asyncio without its C accelerator, as debuggers and other implementations have it."""
    reader, writer = pair

    async def main():
        task = asyncio.tasks._PyTask(wait(reader.read(3)), loop=asyncio.get_running_loop())
        await turns()
        await writer.write(b"omg")
        assert await task == b"omg"
        task = asyncio.tasks._PyTask(wait(reader.read(3)), loop=asyncio.get_running_loop())
        await turns()
        task.cancel()
        assert await cancelled(task)

    asyncio.run(main())


def test_debug_mode(pair):
    reader, writer = pair

    async def main():
        future = reader.read(3)
        await writer.write(b"omg")
        assert await future == b"omg"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.02)

    asyncio.run(main(), debug=True)


def test_result_inside_a_task_blocks_as_anywhere(pair):
    """Nobody needs the loop for an operation to complete."""
    reader, writer = pair

    async def main():
        future = reader.read(3)
        writer.write(b"omg")
        return future.result(WAIT)

    assert asyncio.run(main()) == b"omg"


def test_the_cancelled_future_of_a_cancelled_await(pair):
    async def main():
        future = pair[0].read(1)
        task = asyncio.create_task(wait(future))
        await turns()
        task.cancel()
        assert await cancelled(task)
        with pytest.raises(FutureCancelledError):
            future.result(0)

    asyncio.run(main())
