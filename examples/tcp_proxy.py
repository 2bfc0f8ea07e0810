"""A TCP proxy: what comes goes on to another server, and back. No event loop, no thread that waits, no Python for the bytes."""

import contextlib
import socket
from functools import partial

import tpio


def relay(client, server):
    """Both ways at once; each end is told when the other has nothing more to say."""
    ways = []
    for source, sink in ((client, server), (server, client)):
        way = tpio.pump(source, sink)
        way.add_done_callback(partial(end, sink))
        ways.append(way)
    return ways


def end(sink, way):
    """On a thread of the pool: both ways may have ended by now, and the sockets be closed."""
    with contextlib.suppress(OSError, ValueError):
        sink.shutdown(socket.SHUT_WR)


with tpio.listen(("127.0.0.1", 0)) as front, tpio.listen(("127.0.0.1", 0)) as back:
    accepting, serving = front.accept(), back.accept()

    with tpio.open_connection(front.getsockname()).result(10) as user:
        client, _ = accepting.result(10)
        with client, tpio.open_connection(back.getsockname()).result(10) as onward:
            ways = relay(client, onward)
            with serving.result(10)[0] as service:
                user.send(b"a question").result(10)
                assert service.recv(100).result(10) == b"a question"
                service.send(b"the answer").result(10)
                assert user.recv(100).result(10) == b"the answer"
                user.shutdown(socket.SHUT_WR)
                service.shutdown(socket.SHUT_WR)
            assert [way.result(10) for way in ways] == [10, 10]
