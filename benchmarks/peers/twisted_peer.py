"""Twisted on its reactor for completion ports, which runs on a thread of its own, since it runs only once."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from time import perf_counter
from typing import Any

from twisted.internet import iocpreactor  # before anything imports the default reactor

iocpreactor.reactor.install()

from twisted.internet import protocol, reactor  # noqa: E402

from .base import PATIENCE, Peer, shares  # noqa: E402

_reactor: Any = reactor


class Twisted(Peer):
    name = "twisted, iocpreactor"

    def __init__(self) -> None:
        self._started = False

    def tcp_ping(self, turns: int, size: int) -> float:
        return self.pings(turns, size, 1)

    def pings(self, turns: int, size: int, connections: int) -> float:
        if not self._started:
            self._started = True
            threading.Thread(target=_reactor.run, args=[False], daemon=True).start()
        pings = _Pings(turns, size, connections)
        _reactor.callFromThread(pings.begin)
        return pings.done.result(PATIENCE)


class _Pings:
    def __init__(self, turns: int, size: int, connections: int) -> None:
        self.left = turns
        self.shares = shares(turns, connections)
        self.size = size
        self.done: Future[float] = Future()
        self.calls: list[_Call] = []
        self.began = 0.0
        self.port: Any = None

    def begin(self) -> None:
        answers = protocol.Factory.forProtocol(_Answer)
        self.port = _reactor.listenTCP(0, answers, backlog=1024, interface="127.0.0.1")
        calls = protocol.ClientFactory()
        calls.protocol = lambda: _Call(self)  # type: ignore[assignment]
        for _ in self.shares:
            _reactor.connectTCP("127.0.0.1", self.port.getHost().port, calls)

    def connected(self, call: _Call) -> None:
        self.calls.append(call)
        if len(self.calls) == len(self.shares):
            self.began = perf_counter()
            for each, share in zip(self.calls, self.shares, strict=True):
                each.begin(share)

    def answered(self) -> None:
        self.left -= 1
        if self.left == 0:
            took = perf_counter() - self.began
            for call in self.calls:
                call.transport.loseConnection()
            self.port.stopListening()
            self.done.set_result(took)


class _Answer(protocol.Protocol):
    transport: Any

    def connectionMade(self) -> None:  # noqa: N802
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.transport.write(data)


class _Call(protocol.Protocol):
    transport: Any

    def __init__(self, pings: _Pings) -> None:
        self.pings = pings
        self.message = bytes(pings.size)
        self.left = self.got = 0

    def connectionMade(self) -> None:  # noqa: N802
        self.transport.setTcpNoDelay(True)
        self.pings.connected(self)

    def begin(self, turns: int) -> None:
        self.left = turns
        if turns:
            self.transport.write(self.message)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.got += len(data)
        if self.got == len(self.message):
            self.got = 0
            self.left -= 1
            if self.left:
                self.transport.write(self.message)
            self.pings.answered()
