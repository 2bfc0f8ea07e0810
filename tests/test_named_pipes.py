"""Named pipes: a listener that always listens, and its clients, good and bad."""

import asyncio
import gc
import threading
import time
import weakref
from concurrent.futures import CancelledError

import pytest

import tpio
from ends import cancel_and_wait, closing, named_pair, pipe_name
from support import WAIT, eventually, goes
from tpio import _tpio

NOT_FOUND = 2


@pytest.fixture
def listener():
    with tpio.PipeListener(pipe_name()) as listener:
        yield listener


def exchange(server, client):
    server.write(b"from the server").result(WAIT)
    assert client.read(100).result(WAIT) == b"from the server"
    client.write(b"from the client").result(WAIT)
    assert server.read(100).result(WAIT) == b"from the client"


def test_server_and_client_talk_both_ways(listener):
    client = tpio.open_pipe(listener.name).result(WAIT)
    server = listener.accept().result(WAIT)
    with closing(server, client):
        exchange(server, client)
        client.close()
        assert server.read(1).result(WAIT) == b""


def test_the_server_can_end_first(listener):
    client = tpio.open_pipe(listener.name).result(WAIT)
    server = listener.accept().result(WAIT)
    with closing(client):
        server.write(b"bye").result(WAIT)
        server.close()
        assert client.read(10).result(WAIT) == b"bye"
        assert client.read(10).result(WAIT) == b""
        with pytest.raises(BrokenPipeError):
            client.write(b"x").result(WAIT)


def test_accept_waits_for_a_client(listener):
    accepting = listener.accept()
    assert not accepting.done()
    with tpio.open_pipe(listener.name).result(WAIT) as client, accepting.result(WAIT) as server:
        exchange(server, client)


def test_it_listens_while_nobody_accepts(listener):
    clients = [tpio.open_pipe(listener.name).result(WAIT) for _ in range(10)]
    servers = [listener.accept().result(WAIT) for _ in range(10)]
    with closing(*clients, *servers):
        for number, client in enumerate(clients):
            client.write(b"%d" % number).result(WAIT)
        assert [server.read(10).result(WAIT) for server in servers] == [b"%d" % number for number in range(10)]


def test_eight_clients_at_once(listener):
    rounds = 50

    def serve(accepted):
        def echo(read):
            if data := read.result():
                server.write(data).add_done_callback(lambda _: server.read(4096).add_done_callback(echo))
            else:
                server.close()

        server = accepted.result()
        server.read(4096).add_done_callback(echo)

    def talk(number):
        with tpio.open_pipe(listener.name).result(WAIT) as client:
            for turn in range(rounds):
                message = b"%d:%d" % (number, turn)
                client.write(message).result(WAIT)
                assert client.read(4096).result(WAIT) == message
        talked.append(number)

    talked = []
    for _ in range(8):
        listener.accept().add_done_callback(serve)
    threads = [threading.Thread(target=talk, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert sorted(talked) == list(range(8))


def test_clients_that_connect_and_go_never_stop_it(listener):
    for _ in range(100):
        _tpio.close_handle(tpio.open_pipe(listener.name).result(WAIT).detach())
    good = tpio.open_pipe(listener.name).result(WAIT)
    good.write(b"good").result(WAIT)
    ended = 0
    while (data := (server := listener.accept().result(WAIT)).read(10).result(WAIT)) == b"":
        server.close()
        ended += 1
    with closing(good, server):
        assert data == b"good"
        assert ended == 100


def test_what_a_client_wrote_before_it_went_can_be_read(listener):
    for number in range(20):
        with tpio.open_pipe(listener.name).result(WAIT) as client:
            client.write(b"testament %d" % number).result(WAIT)
        with listener.accept().result(WAIT) as server:
            assert server.read(100).result(WAIT) == b"testament %d" % number
            assert server.read(100).result(WAIT) == b""


def test_a_cancelled_accept_leaves_the_connection_for_the_next(listener):
    cancel_and_wait(listener.accept())
    client = tpio.open_pipe(listener.name).result(WAIT)
    with client, listener.accept().result(WAIT) as server:
        exchange(server, client)


def test_cancelled_accepts_race_with_clients_and_none_is_lost(listener):
    clients = []
    served = []
    for _ in range(50):
        accepting = listener.accept()
        opening = tpio.open_pipe(listener.name)
        accepting.cancel()
        clients.append(opening.result(WAIT))
        try:
            served.append(accepting.result(WAIT))
        except CancelledError:
            served.append(listener.accept().result(WAIT))
    with closing(*clients, *served):
        for number, client in enumerate(clients):
            client.write(b"%d" % number).result(WAIT)
        assert {server.read(10).result(WAIT) for server in served} == {b"%d" % number for number in range(50)}


def test_a_cancelled_await_of_accept_gives_the_connection_back(listener):
    async def main():
        task = asyncio.ensure_future(_await(listener.accept()))
        await asyncio.sleep(0)
        client = tpio.open_pipe(listener.name).result(WAIT)  # blocks the loop: the accept ends behind its back
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return client

    client = asyncio.run(main())
    with listener.accept().result(WAIT) as server, client:
        exchange(server, client)


async def _await(future):
    return await future


def test_accepts_are_served_in_order(listener):
    futures = [listener.accept() for _ in range(5)]
    for future in futures:
        with tpio.open_pipe(listener.name).result(WAIT), future.result(WAIT):
            pass


# ---- messages


def test_messages_keep_their_boundaries():
    server, client = named_pair(message=True)
    with closing(server, client):
        for end, other in ((server, client), (client, server)):
            other.write(b"one").result(WAIT)
            other.write(b"twotwo").result(WAIT)
            assert end.read(100).result(WAIT) == b"one"
            assert end.read(4).result(WAIT) == b"twot"
            assert end.read(100).result(WAIT) == b"wo"
            assert not hasattr(end, "more_data")


def test_the_rest_of_a_message_longer_than_a_pending_read_is_for_the_next_read():
    server, client = named_pair(message=True)
    with closing(server, client):
        buffer = bytearray(4)
        future = server.read_into(buffer)
        client.write(b"abcdef").result(WAIT)
        assert future.result(WAIT) == 4 and buffer == b"abcd"
        client.write(b"next").result(WAIT)
        assert server.read_message().result(WAIT) == b"ef"
        assert server.read_message().result(WAIT) == b"next"


def test_without_messages_there_are_no_boundaries():
    server, client = named_pair()
    with closing(server, client):
        client.write(b"one").result(WAIT)
        client.write(b"two").result(WAIT)
        assert server.read(100).result(WAIT) == b"onetwo"


def test_polling_a_message_pipe_takes_nothing():
    server, client = named_pair(message=True)
    with closing(server, client):
        polling = server.poll_read()
        assert not polling.done()
        client.write(b"message").result(WAIT)
        polling.result(WAIT)
        server.poll_read().result(WAIT)
        assert server.read(100).result(WAIT) == b"message"


def test_a_message_that_a_cancelled_await_got_in_part_is_read_whole():
    async def main():
        task = asyncio.ensure_future(_await(server.read(3)))
        await asyncio.sleep(0)
        client.write(b"abcdef").result(WAIT)  # blocks the loop: the read ends behind its back
        server.write(b"sync").result(WAIT)
        client.read(4).result(WAIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    server, client = named_pair(message=True)
    with closing(server, client):
        asyncio.run(main())
        client.write(b"next").result(WAIT)
        assert server.read_message().result(WAIT) == b"abcdef"
        assert server.read_message().result(WAIT) == b"next"


# ---- the limit of connections


def test_busy_clients_wait_until_a_connection_is_closed():
    with tpio.PipeListener(pipe_name(), max_instances=2) as listener:
        first, second = (tpio.open_pipe(listener.name).result(WAIT) for _ in range(2))
        servers = [listener.accept().result(WAIT) for _ in range(2)]
        third = tpio.open_pipe(listener.name)
        accepting = listener.accept()
        with pytest.raises(TimeoutError):
            third.result(0.3)
        assert not accepting.done()
        servers[0].close()
        client, server = third.result(WAIT), accepting.result(WAIT)
        with closing(first, second, client, server, servers[1]):
            exchange(server, client)


def test_one_connection_at_a_time_never_lets_the_name_vanish():
    """Clients that wait while the only connection is closed get the next one, and never "not found"."""

    def leave(opening):
        if opening.exception() is None:
            client = opening.result()
            client.read(5).add_done_callback(lambda _: client.close())

    with tpio.PipeListener(pipe_name(), max_instances=1) as listener:
        openings = [tpio.open_pipe(listener.name) for _ in range(20)]
        for opening in openings:
            opening.add_done_callback(leave)
        for _ in openings:
            with listener.accept().result(WAIT) as server:
                server.write(b"hello").result(WAIT)
                assert server.read(1).result(WAIT) == b""  # the client has gone
        for opening in openings:
            opening.result(WAIT)


@pytest.mark.parametrize("in_a_cycle", [False, True])
def test_a_connection_that_is_dropped_makes_room_for_another(in_a_cycle):
    with tpio.PipeListener(pipe_name(), max_instances=1) as listener:
        for _ in range(3):
            with tpio.open_pipe(listener.name, timeout=WAIT).result(WAIT) as client:
                server = listener.accept().result(WAIT)
                exchange(server, client)
                left = weakref.ref(server)
                if in_a_cycle:
                    server.itself = server
                    del server
                    gc.collect()
                else:
                    del server
                assert goes(lambda: (last := left()) is None or last.closed)


def test_waiting_while_busy_times_out():
    with tpio.PipeListener(pipe_name(), max_instances=1) as listener:
        with tpio.open_pipe(listener.name).result(WAIT):
            started = time.monotonic()
            with pytest.raises(TimeoutError, match="busy"):
                tpio.open_pipe(listener.name, timeout=0.1).result(WAIT)
            assert time.monotonic() - started >= 0.1
            with pytest.raises(TimeoutError):
                tpio.open_pipe(listener.name, timeout=0).result(WAIT)


def test_waiting_while_busy_can_be_cancelled():
    with tpio.PipeListener(pipe_name(), max_instances=1) as listener:
        with tpio.open_pipe(listener.name).result(WAIT):
            cancel_and_wait(tpio.open_pipe(listener.name))


def test_a_client_that_waits_on_a_small_pool_does_not_block_its_server():
    with tpio.Pool(max_threads=1) as pool, tpio.PipeListener(pipe_name(), max_instances=1, pool=pool) as listener:
        first = tpio.open_pipe(listener.name, pool=pool).result(WAIT)
        waiting = tpio.open_pipe(listener.name, pool=pool)
        server = listener.accept().result(WAIT)
        exchange(server, first)
        server.close()
        with closing(first, waiting.result(WAIT)):
            pass


# ---- errors


def test_a_pipe_that_does_not_exist_is_not_found():
    with pytest.raises(FileNotFoundError) as caught:
        tpio.open_pipe(pipe_name(), timeout=WAIT).result(WAIT)
    assert caught.value.winerror == NOT_FOUND
    assert caught.value.filename


def test_the_short_form_of_a_name():
    short = pipe_name().rpartition("\\")[2]
    with tpio.PipeListener(short) as listener:
        assert listener.name == rf"\\.\pipe\{short}"
        with tpio.open_pipe(short).result(WAIT), listener.accept().result(WAIT):
            pass


@pytest.mark.parametrize("use", [tpio.PipeListener, tpio.open_pipe])
@pytest.mark.parametrize(
    ("name", "error"),
    [("", ValueError), ("a\0b", ValueError), (b"bytes", TypeError), (None, TypeError), (7, TypeError)],
)
def test_bad_names_are_refused_at_once(use, name, error):
    with pytest.raises(error):
        use(name)


@pytest.mark.parametrize("limit", [0, -1, 255, 1000])
def test_bad_limits_are_refused(limit):
    with pytest.raises(ValueError, match="1 to 254"):
        tpio.PipeListener(pipe_name(), max_instances=limit)


@pytest.mark.parametrize("limit", [1.5, "1"])
def test_limits_are_integers(limit):
    for options in ({"max_instances": limit}, {"listening": limit}):
        with pytest.raises(TypeError):
            tpio.PipeListener(pipe_name(), **options)


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_bad_timeouts_are_refused(timeout):
    with pytest.raises(ValueError, match="timeout"):
        tpio.open_pipe(pipe_name(), timeout=timeout)


# ---- the end


def test_close_ends_pending_accepts_and_keeps_connections():
    listener = tpio.PipeListener(pipe_name())
    client = tpio.open_pipe(listener.name).result(WAIT)
    server = listener.accept().result(WAIT)
    with closing(client, server):
        pending = [listener.accept() for _ in range(3)]
        listener.close()
        listener.close()
        assert all(future.cancelled() for future in pending)
        assert listener.closed and "closed" in repr(listener)
        with pytest.raises(ValueError, match="closed"):
            listener.accept()
        exchange(server, client)
    with pytest.raises(FileNotFoundError):
        tpio.open_pipe(listener.name).result(WAIT)


def test_close_closes_connections_that_nobody_took():
    listener = tpio.PipeListener(pipe_name())
    with tpio.open_pipe(listener.name).result(WAIT) as client:
        listener.close()
        assert client.read(1).result(WAIT) == b""


def test_the_close_of_its_pool_ends_the_listener():
    pool = tpio.Pool()
    listener = tpio.PipeListener(pipe_name(), pool=pool)
    pending = listener.accept()
    pool.close()
    with pytest.raises(CancelledError):
        pending.result(WAIT)
    with pytest.raises(ValueError, match="closed"):
        while True:  # until the pool's threads have told it
            listener.accept().result(WAIT)
    with pytest.raises(FileNotFoundError):
        tpio.open_pipe(listener.name).result(WAIT)


def test_the_close_of_its_pool_ends_accepts_at_the_limit_of_connections():
    """Nothing listens then, so no operation of the system tells."""
    pool = tpio.Pool()
    listener = tpio.PipeListener(pipe_name(), max_instances=1, pool=pool)
    client = tpio.open_pipe(listener.name).result(WAIT)
    with client, listener.accept().result(WAIT) as server:
        accepts = [listener.accept() for _ in range(3)]
        accepts[1].cancel()
        exchange(server, client)
        pool.close()
        for accept in accepts:
            with pytest.raises(CancelledError):
                accept.result(WAIT)
        assert eventually(lambda: listener.closed)


def test_accepts_at_the_limit_of_connections_leave_nothing_pending():
    with tpio.Pool() as pool, tpio.PipeListener(pipe_name(), max_instances=1, pool=pool) as listener:
        for _ in range(5):
            client = tpio.open_pipe(listener.name).result(WAIT)
            server = listener.accept().result(WAIT)
            accept = listener.accept()
            assert pool.stats().pending == 1
            accept.cancel()
            assert pool.stats().pending == 0
            accept = listener.accept()
            client.close()
            server.close()
            client = tpio.open_pipe(listener.name).result(WAIT)
            accept.result(WAIT).close()
            client.close()
            assert eventually(lambda: pool.stats().pending == 1)  # the next instance listens


def test_a_dropped_listener_stops_listening():
    listener = tpio.PipeListener(pipe_name())
    name = listener.name
    del listener
    gc.collect()
    with pytest.raises(FileNotFoundError):
        tpio.open_pipe(name).result(WAIT)


def test_a_dropped_listener_with_a_pending_accept_goes_on():
    name = pipe_name()
    accepted = []
    event = threading.Event()

    def take(future):
        accepted.append(future.result())
        event.set()

    tpio.PipeListener(name).accept().add_done_callback(take)
    gc.collect()
    with tpio.open_pipe(name).result(WAIT) as client:
        assert event.wait(WAIT)
        with accepted.pop() as server:
            exchange(server, client)


def test_closing_while_clients_come_ends_every_future():
    for _ in range(20):
        listener = tpio.PipeListener(pipe_name())
        accepts = [listener.accept() for _ in range(3)]
        opens = [tpio.open_pipe(listener.name) for _ in range(3)]
        listener.close()
        for future in (*accepts, *opens):
            try:
                future.result(WAIT).close()
            except (CancelledError, FileNotFoundError):
                pass
