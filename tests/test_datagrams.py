"""UDP: who sent what, what did not fit, and who was not there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

import support
import tpio
from ends import WAIT, cancel_and_wait, closing

HERE = ("127.0.0.1", 0)


def udp(family: int = socket.AF_INET) -> tpio.Socket:
    sock = tpio.Socket(family, socket.SOCK_DGRAM)
    sock.bind(HERE if family == socket.AF_INET else ("::1", 0))
    return sock


@pytest.fixture
def pair() -> Iterator[tuple[tpio.Socket, tpio.Socket]]:
    """(receiver, sender)."""
    receiver, sender = udp(), udp()
    with closing(receiver, sender):
        yield receiver, sender


def test_a_datagram_arrives_with_its_sender(pair):
    receiver, sender = pair
    assert sender.sendto(b"hello", receiver.getsockname()).result(WAIT) == 5
    assert receiver.recvfrom(100).result(WAIT) == (b"hello", sender.getsockname())


def test_datagrams_arrive_in_receives_that_wait(pair):
    receiver, sender = pair
    waiting = [receiver.recvfrom(100) for _ in range(20)]
    for number in range(20):
        sender.sendto(b"%d" % number, receiver.getsockname()).result(WAIT)
    received = [future.result(WAIT) for future in waiting]
    assert sorted(int(data) for data, _ in received) == list(range(20))
    assert {address for _, address in received} == {sender.getsockname()}


def test_into_a_buffer(pair):
    receiver, sender = pair
    buffer = bytearray(10)
    receiving = receiver.recvfrom_into(buffer)
    with pytest.raises(BufferError):
        buffer.clear()  # belongs to the system
    sender.sendto(bytearray(b"hello"), receiver.getsockname()).result(WAIT)
    assert receiving.result(WAIT) == (5, sender.getsockname())
    assert bytes(buffer[:5]) == b"hello"
    buffer.clear()


def test_an_empty_datagram_is_one(pair):
    receiver, sender = pair
    assert sender.sendto(b"", receiver.getsockname()).result(WAIT) == 0
    assert receiver.recvfrom(10).result(WAIT) == (b"", sender.getsockname())


def test_ipv6():
    try:
        receiver, sender = udp(socket.AF_INET6), udp(socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with closing(receiver, sender):
        sender.sendto(b"six", receiver.getsockname()).result(WAIT)
        assert receiver.recvfrom(10).result(WAIT) == (b"six", sender.getsockname())


@pytest.mark.parametrize("waiting", [False, True], ids=["has arrived", "arrives later"])
def test_a_datagram_that_does_not_fit_says_so(pair, waiting):
    receiver, sender = pair
    if waiting:
        receiving = receiver.recvfrom(4)
        sender.sendto(b"too long", receiver.getsockname()).result(WAIT)
    else:
        sender.sendto(b"too long", receiver.getsockname()).result(WAIT)
        receiving = receiver.recvfrom(4)
    with pytest.raises(tpio.TruncatedError) as caught:
        receiving.result(WAIT)
    assert caught.value.winerror == 10040
    assert caught.value.data == b"too "
    assert caught.value.address == sender.getsockname()
    sender.sendto(b"next", receiver.getsockname()).result(WAIT)
    assert receiver.recvfrom(4).result(WAIT)[0] == b"next"


@pytest.mark.parametrize("how", ["recv", "recv_into", "recvfrom_into", "recvmsg_into"])
def test_every_receive_says_what_did_not_fit(pair, how):
    receiver, sender = pair
    sender.sendto(b"too long", receiver.getsockname()).result(WAIT)
    buffers = [bytearray(3), bytearray(1)]
    argument = {"recv": 4, "recvmsg_into": buffers}.get(how, bytearray(4))
    with pytest.raises(tpio.TruncatedError) as caught:
        getattr(receiver, how)(argument).result(WAIT)
    assert caught.value.data == b"too "
    if how == "recvmsg_into":
        assert buffers == [b"too", b" "]


def test_a_datagram_that_is_too_long_to_send_is_not_a_truncated_one(pair):
    receiver, sender = pair
    sender.connect(receiver.getsockname()).result(WAIT)
    tries = [
        sender.sendto(bytes(70000), receiver.getsockname()),
        sender.send(bytes(70000)),
        sender.sendmsg([bytes(35000)] * 2),
    ]
    for sending in tries:
        error = sending.exception(WAIT)
        assert type(error) is OSError and error.winerror == 10040


def test_a_receiver_that_is_not_there_does_not_stop_the_others(pair):
    receiver, sender = pair
    with closing(gone := udp()):
        nobody = gone.getsockname()
    for _ in range(5):
        sender.sendto(b"anybody?", nobody).result(WAIT)
    receiving = sender.recvfrom(100)
    receiver.sendto(b"here", sender.getsockname()).result(WAIT)
    assert receiving.result(WAIT) == (b"here", receiver.getsockname())


def test_connected(pair):
    receiver, sender = pair
    sender.connect(receiver.getsockname()).result(WAIT)
    receiver.connect(sender.getsockname()).result(WAIT)
    sender.send(b"one").result(WAIT)
    sender.sendmsg([b"t", b"", b"wo"]).result(WAIT)
    sender.send(b"").result(WAIT)
    assert [receiver.recv(100).result(WAIT) for _ in range(3)] == [b"one", b"two", b""]


def test_to_a_name_that_is_looked_up(pair):
    receiver, sender = pair
    port = receiver.getsockname()[1]
    sender.sendto(b"hello", ("localhost", port)).result(WAIT)
    assert receiver.recvfrom(100).result(WAIT)[0] == b"hello"


def test_cancel(pair):
    receiver, sender = pair
    cancel_and_wait(receiver.recvfrom(100))
    cancel_and_wait(receiver.recvfrom_into(bytearray(100)))
    sender.sendto(b"still works", receiver.getsockname()).result(WAIT)
    assert receiver.recvfrom(100).result(WAIT)[0] == b"still works"


def test_close_ends_what_is_pending(pair):
    receiver, _ = pair
    waiting = [receiver.recvfrom(100), receiver.recvfrom_into(bytearray(9)), receiver.recvmsg_into([bytearray(9)])]
    receiver.close()
    assert all(future.cancelled() for future in waiting)
    with pytest.raises(ValueError, match="closed"):
        receiver.recvfrom(100)
    with pytest.raises(ValueError, match="closed"):
        receiver.sendto(b"x", ("127.0.0.1", 9))


@pytest.mark.parametrize("how", ["recvfrom", "recvfrom_into", "recvmsg_into"])
def test_what_a_cancelled_await_had_got_is_for_the_next(pair, how):
    """The datagram and the cancel come at the same time, in every order: none is lost, and none comes twice."""
    receiver, sender = pair
    address = receiver.getsockname()

    async def storm() -> list[bytes]:
        seen: list[bytes] = []

        async def receive() -> None:
            if how == "recvfrom":
                seen.append((await receiver.recvfrom(10))[0])
                return
            buffer = bytearray(10)
            if how == "recvfrom_into":
                count, _ = await receiver.recvfrom_into(buffer)
            else:
                count = await receiver.recvmsg_into([memoryview(buffer)[:3], memoryview(buffer)[3:]])
            seen.append(bytes(buffer[:count]))

        for number in range(60):
            task = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            sending = sender.sendto(b"%08d" % number, address)
            if number % 3:
                await sending
            if number % 2:
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await sending
        while len(seen) < 60:
            await asyncio.wait_for(receive(), WAIT)
        return seen

    assert asyncio.run(storm()) == [b"%08d" % number for number in range(60)]


def test_a_datagram_that_was_given_back_may_be_too_long_for_the_next_receive(pair):
    receiver, sender = pair
    for how, argument in (
        ("recvfrom", 4),
        ("recv", 4),
        ("recv_into", bytearray(4)),
        ("recvfrom_into", bytearray(4)),
        ("recvmsg_into", [bytearray(2), bytearray(2)]),
    ):
        receiver._put_back(b"too long")
        with pytest.raises(tpio.TruncatedError) as caught:
            getattr(receiver, how)(argument).result(WAIT)
        assert caught.value.data == b"too "
    sender.sendto(b"next", receiver.getsockname()).result(WAIT)
    assert receiver.recvfrom(9).result(WAIT)[0] == b"next"


def test_a_connection_does_not_name_its_sender():
    from ends import tcp_pair

    ours, theirs = tcp_pair()
    with closing(ours, theirs):
        theirs.send(b"abc").result(WAIT)
        assert ours.recvfrom(10).result(WAIT) == (b"abc", None)


def test_bad_arguments_are_refused_at_once(pair):
    receiver, sender = pair
    submitted = tpio.default_pool().stats().submitted
    address = receiver.getsockname()
    with pytest.raises(ValueError, match="negative"):
        receiver.recvfrom(-1)
    with pytest.raises(TypeError):
        receiver.recvfrom("10")
    with pytest.raises(TypeError, match="writable"):
        receiver.recvfrom_into(b"read only")
    with pytest.raises(TypeError):
        sender.sendto("text", address)
    with pytest.raises(TypeError):
        sender.sendto("text", ("localhost", 9))
    for bad in (None, "127.0.0.1", ("127.0.0.1",), (127, 9), ("127.0.0.1", "9")):
        with pytest.raises(TypeError):
            sender.sendto(b"x", bad)
    for port in (-1, 65536):
        with pytest.raises(OverflowError):
            sender.sendto(b"x", ("127.0.0.1", port))
    assert tpio.default_pool().stats().submitted == submitted


def test_a_host_with_a_null_character_is_no_address(pair):
    _, sender = pair
    with pytest.raises(ValueError, match="null"):
        sender.sendto(b"x", ("127.0.0.1\0.example", 9))


def test_a_storm_from_many_threads_loses_nothing(pair):
    """Loopback drops datagrams only when the receiver's buffer is full: each sender waits for its echo."""
    receiver, _ = pair
    address = receiver.getsockname()
    rounds = 50

    def echo(future: tpio.Future) -> None:
        if future.cancelled():
            return
        data, sender = future.result()
        receiver.sendto(data, sender)
        if not receiver.closed:
            receiver.recvfrom(100).add_done_callback(echo)

    for _ in range(4):
        receiver.recvfrom(100).add_done_callback(echo)

    def client() -> None:
        with udp() as mine:
            for number in range(rounds):
                mine.sendto(b"%d" % number, address).result(WAIT)
                assert mine.recvfrom(100).result(WAIT) == (b"%d" % number, address)

    support.at_once(*[client] * 4)
