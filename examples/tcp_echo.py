"""A TCP echo server with callbacks: no event loop, and no thread that waits."""

import threading

import tpio

gone = threading.Event()


def echo(connection):
    def received(future):
        if data := future.result():  # b"": the client has closed
            connection.send(data).add_done_callback(lambda _: echo(connection))
        else:
            connection.close()
            gone.set()

    connection.recv(65536).add_done_callback(received)


def accept_next(accepted):
    if not accepted.cancelled():  # it is when the listener is closed
        listener.accept().add_done_callback(accept_next)  # first: this client may be the last
        connection, _ = accepted.result()
        echo(connection)


with tpio.listen(("127.0.0.1", 0)) as listener:
    listener.accept().add_done_callback(accept_next)

    with tpio.open_connection(listener.getsockname(), timeout=10).result() as client:
        for message in (b"first", b"second"):
            client.send(message).result()
            assert client.recv(100).result() == message
    gone.wait()  # until the server has seen the end
