"""A named-pipe server, for the current user only, and eight clients at once."""

import os
import threading

import tpio

gone = threading.Semaphore(0)  # counts the clients that have been served to their end


def serve(connection):
    """Answers one client until it goes. Callbacks run on the pool's threads."""

    def answer(read):
        if data := read.result():  # b"": the client has gone
            connection.write(data.upper()).add_done_callback(lambda _: serve(connection))
        else:
            connection.close()
            gone.release()

    connection.read(4096).add_done_callback(answer)


def accept_next(accepted):
    if not accepted.cancelled():  # it is when the listener is closed
        listener.accept().add_done_callback(accept_next)  # first: this client may be the last
        serve(accepted.result())


with tpio.PipeListener(f"tpio-example-{os.getpid()}") as listener:
    listener.accept().add_done_callback(accept_next)

    clients = [tpio.open_pipe(listener.name) for _ in range(8)]
    for opened in clients:
        with opened.result() as client:
            client.write(b"hello").result()
            assert client.read(4096).result() == b"HELLO"
    for _ in clients:
        gone.acquire()
