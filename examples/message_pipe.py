"""A named pipe that keeps the boundaries of its messages. An empty message is not the end."""

import os

import tpio

with tpio.PipeListener(f"tpio-messages-{os.getpid()}", message=True) as listener:
    accepting = listener.accept(timeout=10)
    client = tpio.open_pipe(listener.name, timeout=10).result()
    server = accepting.result()

with server:
    with client:
        for message in (b"first", b"", b"x" * 100_000):
            writing = client.write(message)
            assert server.read_message(limit=1 << 20, timeout=10).result() == message
            assert writing.result() == len(message)
    assert list(server.messages()) == []  # the client has closed
