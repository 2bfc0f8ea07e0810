"""TCP: listening, connecting, the ends of connections, and many at once."""

import ctypes
import errno
import gc
import os
import socket
import struct
import threading
from concurrent.futures import CancelledError

import pytest

import tpio
import wines
from ends import cancel_and_wait, closing, plain_tcp_pair, read_all, read_exactly, tcp_pair
from support import WAIT


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


FAMILIES = [
    pytest.param(socket.AF_INET, id="IPv4"),
    pytest.param(
        socket.AF_INET6, id="IPv6", marks=pytest.mark.skipif(not has_ipv6(), reason="this system has no IPv6")
    ),
]
HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


@pytest.fixture
def pair():
    server, client = tcp_pair()
    with closing(server, client):
        yield server, client


@pytest.fixture
def listener():
    with tpio.listen(("127.0.0.1", 0)) as listener:
        yield listener


def reset(sock):
    """Closes a connection the hard way: its peer sees a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh", 1, 0))
    sock.close()


def free_port():
    """A port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


# ---- connections


@pytest.mark.parametrize("family", FAMILIES)
def test_connect_accept_and_talk(family):
    with tpio.listen((HOSTS[family], 0)) as listener:
        assert listener.family == family
        with tpio.Socket(family) as client:
            connecting = client.connect(listener.getsockname())
            server, address = listener.accept().result(WAIT)
            with server:
                assert connecting.result(WAIT) is None
                assert address == client.getsockname() == server.getpeername()
                assert client.getpeername() == server.getsockname()
                assert client.send(b"question").result(WAIT) == 8
                assert server.recv(100).result(WAIT) == b"question"
                assert server.write(b"answer").result(WAIT) == 6
                buffer = bytearray(10)
                assert client.recv_into(buffer).result(WAIT) == 6
                assert buffer == b"answer\0\0\0\0"


@pytest.mark.parametrize("family", FAMILIES)
def test_open_connection(family):
    with tpio.listen((HOSTS[family], 0)) as listener:
        with tpio.open_connection(listener.getsockname()[:2]).result(WAIT) as client:
            server, _ = listener.accept().result(WAIT)
            with server:
                client.send(b"x").result(WAIT)
                assert server.recv(1).result(WAIT) == b"x"


def test_a_receive_waits_for_data(pair):
    server, client = pair
    future = server.recv(10)
    assert not future.done()
    client.send(b"late").result(WAIT)
    assert future.result(WAIT) == b"late"


def test_a_receive_of_size_zero_gives_nothing_at_once(pair):
    server, _ = pair
    assert server.recv(0).result(0) == b""
    assert server.recv_into(bytearray()).result(0) == 0


def test_after_a_cancelled_receive_the_next_gets_what_comes_next(pair):
    server, client = pair
    cancel_and_wait(server.recv(1))
    client.send(b"omg").result(WAIT)
    assert server.recv(3).result(WAIT) == b"omg"


def test_polling_waits_for_data_and_takes_nothing(pair):
    server, client = pair
    polling = server.poll_read()
    assert not polling.done()
    client.send(b"data").result(WAIT)
    assert polling.result(WAIT) is None
    assert server.poll_read().result(WAIT) is None
    assert server.recv(100).result(WAIT) == b"data"
    cancel_and_wait(server.poll_read())


def test_bulk_both_ways_at_once(pair):
    data = os.urandom(4 << 20)
    results = {}

    def receive(end):
        results[end] = read_exactly(end, len(data))

    threads = [threading.Thread(target=receive, args=[end]) for end in pair]
    for thread in threads:
        thread.start()
    writes = [end.send(data) for end in pair]
    assert [future.result(WAIT) for future in writes] == [len(data)] * 2
    for thread in threads:
        thread.join(WAIT)
    assert all(results[end] == data for end in pair)


def test_sends_in_flight_arrive_in_order(pair):
    server, client = pair
    parts = [os.urandom(5000) for _ in range(100)]
    futures = [client.send(part) for part in parts]
    assert read_exactly(server, 500_000) == b"".join(parts)
    assert all(future.result(WAIT) == 5000 for future in futures)


def test_half_close(pair):
    server, client = pair
    client.send(b"the last word").result(WAIT)
    client.shutdown(socket.SHUT_WR)
    assert read_all(server) == b"the last word"
    server.send(b"heard").result(WAIT)
    assert client.recv(10).result(WAIT) == b"heard"
    with pytest.raises(OSError, match="WinError 10058"):
        client.send(b"more").result(WAIT)


def test_the_end_is_empty_and_stays(pair):
    server, client = pair
    pending = server.recv(10)
    client.close()
    assert pending.result(WAIT) == b""
    assert server.recv(10).result(WAIT) == b""
    assert server.recv_into(bytearray(10)).result(WAIT) == 0


def test_a_reset_connection_says_so(pair):
    server, client = pair
    pending = server.recv(10)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh", 1, 0))
    client.close()
    with pytest.raises(ConnectionResetError) as caught:
        pending.result(WAIT)
    assert caught.value.winerror in (64, 10054)
    assert caught.value.errno == errno.ECONNRESET


def test_close_ends_pending_operations_as_cancelled(pair):
    server, _ = pair
    futures = [server.recv(10) for _ in range(5)]
    server.close()
    assert all(future.cancelled() for future in futures)


@pytest.mark.once(handles=8)
def test_a_thousand_connections_echo_at_once():
    count, rounds = 1000, 3
    done = threading.Semaphore(0)
    failures = []

    def check(function):
        def call(future):
            try:
                function(future)
            except BaseException as error:
                failures.append(error)
                done.release()

        return call

    def serve(server):
        def received(future):
            if data := future.result():
                server.send(data).add_done_callback(check(sent))
            else:
                server.close()
                done.release()

        def sent(future):
            future.result()
            server.recv(100).add_done_callback(check(received))

        server.recv(100).add_done_callback(check(received))

    def talk(client, number):
        left = rounds
        message = b"message %d" % number

        def sent(future):
            future.result()
            client.recv(100).add_done_callback(check(received))

        def received(future):
            nonlocal left
            assert future.result() == message
            left -= 1
            if left:
                client.send(message).add_done_callback(check(sent))
            else:
                client.close()
                done.release()

        client.send(message).add_done_callback(check(sent))

    with tpio.listen(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        clients = []
        for _ in range(count):
            client = tpio.open_connection(address)
            serve(listener.accept().result(WAIT)[0])
            clients.append(client.result(WAIT))
        for number, client in enumerate(clients):
            talk(client, number)
        for _ in range(2 * count):
            assert done.acquire(timeout=WAIT)
        assert not failures


# ---- accepting


def test_several_accepts_take_several_connections(listener):
    accepts = [listener.accept() for _ in range(5)]
    clients = [tpio.open_connection(listener.getsockname()).result(WAIT) for _ in range(5)]
    servers = [future.result(WAIT)[0] for future in accepts]
    with closing(*clients, *servers):
        peers = {server.getpeername() for server in servers}
        assert peers == {client.getsockname() for client in clients}


def test_a_client_that_resets_before_it_is_accepted_does_not_stop_the_listener(listener):
    for _ in range(10):
        reset(socket.create_connection(listener.getsockname()))
    with socket.create_connection(listener.getsockname()) as good:
        while True:
            server, address = listener.accept().result(WAIT)
            with server:
                if address == good.getsockname():
                    good.sendall(b"good")
                    assert server.recv(10).result(WAIT) == b"good"
                    return


def test_clients_that_reset_while_they_are_being_accepted_do_not_stop_the_listener(listener):
    stop, room = threading.Event(), threading.Semaphore(20)

    def attack():
        while not stop.is_set():
            room.acquire(timeout=0.01)  # a full queue would make everybody wait for seconds, the good client too
            reset(socket.create_connection(listener.getsockname()))

    thread = threading.Thread(target=attack)
    thread.start()
    try:
        for _ in range(30):
            connecting, accepted = tpio.open_connection(listener.getsockname()), set()
            while not (connecting.done() and connecting.result().getsockname() in accepted):
                server, address = listener.accept().result(WAIT)
                accepted.add(address)
                server.close()
                room.release()
            connecting.result().close()
    finally:
        stop.set()
        thread.join(WAIT)


def test_a_cancelled_accept_leaves_the_client_for_the_next(listener):
    cancel_and_wait(listener.accept())
    with tpio.open_connection(listener.getsockname()).result(WAIT) as client:
        server, address = listener.accept().result(WAIT)
        with server:
            assert address == client.getsockname()


def test_closing_the_listener_ends_pending_accepts():
    listener = tpio.listen(("127.0.0.1", 0))
    accepts = [listener.accept() for _ in range(3)]
    listener.close()
    assert all(future.cancelled() for future in accepts)
    with pytest.raises(ValueError, match="closed"):
        listener.accept()


def test_an_accepted_socket_outlives_its_listener():
    listener = tpio.listen(("127.0.0.1", 0))
    client = tpio.open_connection(listener.getsockname())
    server, _ = listener.accept().result(WAIT)
    listener.close()
    with server, client.result(WAIT) as client:
        server.send(b"still here").result(WAIT)
        assert client.recv(100).result(WAIT) == b"still here"


def bound_and_listening(address):
    sock = tpio.Socket()
    sock.bind(address)
    sock.listen()
    return sock


@pytest.mark.parametrize("make", [tpio.listen, bound_and_listening])
def test_a_listener_takes_its_address_exclusively(make):
    with make(("127.0.0.1", 0)) as listener:
        nobody_else_gets_the_address_of(listener)


def test_an_address_can_be_shared_by_who_wants_that():
    with tpio.Socket() as one, tpio.Socket() as other:
        for sock in (one, other):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 0))
        assert not one.getsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE)
        other.bind(one.getsockname())


def nobody_else_gets_the_address_of(listener):
    assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE)
    with socket.socket() as other, pytest.raises(OSError, match=r"WinError (10013|10048)"):
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(listener.getsockname())
        other.listen()
    with pytest.raises(OSError, match=r"WinError (10013|10048)"):
        tpio.listen(listener.getsockname())


def test_listen_chooses_the_family_by_the_address():
    with tpio.listen(("localhost", 0), family=socket.AF_INET) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    with tpio.listen(("", 0)) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"


@wines.skipif("AcceptEx waits on a socket that does not listen")
def test_accept_of_a_socket_that_does_not_listen_fails():
    with tpio.Socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="WinError 10022"):
            sock.accept().result(WAIT)


# ---- connecting


def test_a_refused_connection_says_so():
    address = ("127.0.0.1", free_port())
    with pytest.raises(ConnectionRefusedError) as caught:
        tpio.open_connection(address).result(WAIT)
    assert caught.value.winerror in (1225, 10061)
    with tpio.Socket() as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(address).result(WAIT)


def test_connect_looks_names_up(listener):
    with tpio.Socket() as client:
        client.connect(("localhost", listener.getsockname()[1])).result(WAIT)
        listener.accept().result(WAIT)[0].close()


def test_connect_works_on_a_socket_that_is_bound_already(listener):
    with tpio.Socket() as client:
        client.bind(("127.0.0.1", 0))
        name = client.getsockname()
        client.connect(listener.getsockname()).result(WAIT)
        server, address = listener.accept().result(WAIT)
        server.close()
        assert address == name


def test_open_connection_tries_every_address(monkeypatch, listener):
    good = listener.getsockname()
    infos = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", free_port())),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", good),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: infos)
    with tpio.open_connection(("two.example", good[1])).result(WAIT) as client:
        assert client.getpeername() == good
        listener.accept().result(WAIT)[0].close()


def test_open_connection_reports_the_last_error(monkeypatch):
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", free_port())) for _ in range(3)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: infos)
    with pytest.raises(ConnectionRefusedError):
        tpio.open_connection(("three.example", 1)).result(WAIT)


def test_open_connection_without_any_address(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [])
    with pytest.raises(OSError, match=r"no address for 'none\.example'"):
        tpio.open_connection(("none.example", 1)).result(WAIT)


def test_a_name_that_does_not_exist():
    with pytest.raises(socket.gaierror) as caught:
        tpio.open_connection(("does-not-exist.invalid", 1)).result(WAIT)
    assert caught.value.winerror == caught.value.errno


@pytest.fixture
def slow_names(monkeypatch):
    """Name servers that do not answer before the test ends."""
    answer, asked, left = threading.Event(), threading.Event(), threading.Event()

    def getaddrinfo(*args, **kwargs):
        asked.set()
        answer.wait(WAIT)
        left.set()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield asked
    answer.set()
    if asked.is_set():
        assert left.wait(WAIT)


@pytest.mark.once  # a blocked look-up keeps its thread
def test_open_connection_times_out_while_a_name_is_looked_up(slow_names):
    with pytest.raises(TimeoutError, match=r"connecting to slow\.example:80") as caught:
        tpio.open_connection(("slow.example", 80), timeout=0.05).result(WAIT)
    assert caught.value.winerror == 1460  # ERROR_TIMEOUT


@pytest.mark.once  # a blocked look-up keeps its thread
def test_open_connection_is_cancelled_while_a_name_is_looked_up(slow_names):
    future = tpio.open_connection(("slow.example", 80))
    assert slow_names.wait(WAIT)
    cancel_and_wait(future)


def test_open_connection_does_not_wait_for_its_time_to_be_up(listener):
    with tpio.open_connection(listener.getsockname(), timeout=3600).result(WAIT):
        listener.accept().result(WAIT)[0].close()
    with pytest.raises(ConnectionRefusedError):
        tpio.open_connection(("127.0.0.1", free_port()), timeout=3600).result(WAIT)


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_bad_timeouts_are_refused(timeout):
    with pytest.raises(ValueError, match="timeout"):
        tpio.open_connection(("127.0.0.1", 1), timeout=timeout)


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("127.0.0.1:80", TypeError),
        (("127.0.0.1",), TypeError),
        (("127.0.0.1", "x"), TypeError),
        ((None, 80), TypeError),
        (("127.0.0.1", 65536), OverflowError),
        (("127.0.0.1", -1), OverflowError),
    ],
)
def test_bad_addresses_are_refused_at_once(address, error):
    with tpio.Socket() as sock, pytest.raises(error):
        sock.connect(address)


@pytest.mark.parametrize("address", [("127.0.0.1",), (None, 80), None, 80, ["127.0.0.1", 80], ()])
def test_what_is_no_host_and_port_is_refused_at_once(address):
    submitted = tpio.default_pool().stats().submitted
    for use in (tpio.open_connection, tpio.listen):
        with pytest.raises(TypeError, match=r"an address is a tuple|a host is a str"):
            use(address)
    assert tpio.default_pool().stats().submitted == submitted


# ---- sockets of the standard library


def test_a_socket_can_be_taken_over():
    plain, peer = plain_tcp_pair()
    with closing(plain, peer):
        sock = tpio.Socket(sock=plain)
        assert plain.fileno() == -1
        with sock:
            assert sock.family == socket.AF_INET and sock.type == socket.SOCK_STREAM
            assert sock.getpeername() == peer.getsockname()
            peer.sendall(b"hello")
            assert sock.recv(10).result(WAIT) == b"hello"
        assert peer.recv(10) == b""


def test_a_socket_that_cannot_be_taken_over_stays_its_owners():
    plain, peer = plain_tcp_pair()
    with closing(plain, peer), tpio.Pool() as pool:
        pool.close()
        with pytest.raises(RuntimeError, match="closed"):
            tpio.Socket(sock=plain, pool=pool)
        peer.sendall(b"x")
        assert plain.recv(1) == b"x"


def test_verbs_on_sockets_of_the_standard_library():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        accepting = tpio.accept(listener)
        assert tpio.connect(client, listener.getsockname()).result(WAIT) is None
        server, address = accepting.result(WAIT)
        with server:
            assert address == client.getsockname() and client.getpeername() == listener.getsockname()
            assert tpio.write(client, b"hello").result(WAIT) == 5
            assert tpio.read(server, 10).result(WAIT) == b"hello"
            buffer = bytearray(3)
            reading = tpio.read_into(client, buffer)
            server.send(b"abc").result(WAIT)
            assert reading.result(WAIT) == 3 and buffer == b"abc"
            client.sendall(b"mixed")  # the standard library's own calls still work
            assert server.recv(5).result(WAIT) == b"mixed"


def test_accept_and_connect_need_a_socket():
    reader, writer = tpio.pipe()
    with closing(reader, writer):
        for use in (lambda: tpio.accept(reader), lambda: tpio.connect(reader, ("127.0.0.1", 1))):
            with pytest.raises(TypeError, match="a socket is needed"):
                use()


def test_a_dropped_socket_closes_its_connection(pair):
    server, client = tcp_pair()
    with closing(client):
        del server
        gc.collect()
        assert client.recv(1).result(WAIT) == b""


# ---- a closed socket


def test_a_closed_socket_says_so(pair):
    server, _ = pair
    server.close()
    server.close()
    assert server.closed and "closed" in repr(server)
    uses = [
        lambda: server.recv(1),
        lambda: server.recv_into(bytearray(1)),
        lambda: server.send(b"x"),
        lambda: server.connect(("127.0.0.1", 1)),
        lambda: server.bind(("127.0.0.1", 0)),
        lambda: server.shutdown(socket.SHUT_WR),
        lambda: server.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        lambda: server.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        server.accept,
        server.listen,
        server.poll_read,
        server.disconnect,
        server.getsockname,
        server.getpeername,
        server.fileno,
    ]
    for use in uses:
        with pytest.raises(ValueError, match="closed"):
            use()
    assert server.family == socket.AF_INET


def test_a_detached_socket_goes_on_elsewhere():
    server, client = tcp_pair()
    with closing(client):
        number = server.detach()
        assert server.closed
        with socket.socket(fileno=number) as plain:
            client.send(b"x").result(WAIT)
            assert plain.recv(1) == b"x"


def test_the_close_of_its_pool_closes_a_socket():
    with tpio.Pool() as pool:
        with tpio.listen(("127.0.0.1", 0), pool=pool) as listener:
            accepting = listener.accept()
            pool.close()
            with pytest.raises(CancelledError):
                accepting.result(WAIT)
            assert listener.closed
            with pytest.raises(ValueError, match="closed"):
                listener.getsockname()


def test_a_socket_that_is_not_overlapped_cannot_be_bound():
    make = ctypes.WinDLL("ws2_32").WSASocketW
    make.restype = ctypes.c_size_t
    number = make(socket.AF_INET, socket.SOCK_STREAM, 0, None, 0, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, number) as plain:
        with pytest.raises(tpio.BindError, match="not opened for overlapped"):
            tpio.read(plain, 1)


# ---- cancels of others


def cancels_all_receives(sock):
    """What Windows does with every receive of a connection when one of them is cancelled."""
    handle = ctypes.c_void_p(sock.fileno())
    assert ctypes.windll.kernel32.CancelIoEx(handle, None)


@pytest.mark.parametrize("how", ["recv", "recv_into", "recvmsg_into"])
def test_a_receive_survives_the_cancel_of_another(pair, how):
    server, client = pair
    buffer = bytearray(4)
    if how == "recv":
        future = server.recv(4)
    else:
        future = server.recv_into(buffer) if how == "recv_into" else server.recvmsg_into([buffer])
    cancels_all_receives(server)
    client.send(b"data").result(WAIT)
    assert future.result(WAIT) == (b"data" if how == "recv" else 4)
    assert how == "recv" or buffer == b"data"


def test_a_poll_survives_the_cancel_of_a_receive(pair):
    server, client = pair
    future = server.poll_read()
    cancels_all_receives(server)
    client.send(b"data").result(WAIT)
    assert future.result(WAIT) is None
    assert server.recv(4).result(WAIT) == b"data"


def test_a_pump_survives_the_cancel_of_a_receive(pair):
    server, client = pair
    reader, writer = tpio.pipe()
    with reader, writer:
        future = tpio.pump(server, writer, 8)
        client.send(b"some").result(WAIT)
        assert read_exactly(reader, 4) == b"some"
        cancels_all_receives(server)
        client.send(b"data").result(WAIT)
        assert read_exactly(reader, 4) == b"data"
        assert future.result(WAIT) == 8


def test_cancel_of_one_receive_leaves_the_others(pair):
    server, client = pair
    first, second, third = server.recv(4), server.recv(4), server.recv(4)
    cancel_and_wait(second)
    client.send(b"datadata").result(WAIT)
    assert sorted([first.result(WAIT), third.result(WAIT)]) == [b"data", b"data"]


def test_a_receive_that_began_anew_can_be_cancelled(pair):
    server, client = pair
    future = server.recv(4)
    cancels_all_receives(server)
    cancel_and_wait(future)
    client.send(b"data").result(WAIT)
    assert server.recv(4).result(WAIT) == b"data"


def test_a_close_ends_receives_that_begin_anew(pair):
    server, _ = pair
    future = server.recv(4)
    cancels_all_receives(server)
    server.close()
    with pytest.raises(CancelledError):
        future.result(WAIT)


def test_a_socket_that_lingers_and_does_not_block_is_closed():
    plain, peer = plain_tcp_pair()
    with peer:
        plain.setblocking(False)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh", 1, 30))
        with tpio.Socket(sock=plain) as sock:
            assert sock.send(bytes(100_000)).result(WAIT) == 100_000
        received = 0
        while part := peer.recv(65536):
            received += len(part)
        assert received == 100_000
