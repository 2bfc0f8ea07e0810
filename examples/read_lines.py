"""Lines from a connection: with a time limit, one by one, and an exact number of bytes."""

import tpio

with tpio.listen(("127.0.0.1", 0)) as listener:
    accepting = listener.accept(timeout=10)
    client = tpio.open_connection(listener.getsockname(), timeout=10).result()
    server, _ = accepting.result()

with client, server:
    client.send(b"SIZE 5\nhello" + b"one\ntwo\n").result()
    client.shutdown(1)  # SHUT_WR: nothing more will come

    header = server.readline(timeout=10).result()
    size = int(header.split()[1])
    assert server.readexactly(size, timeout=10).result() == b"hello"
    assert list(server) == [b"one\n", b"two\n"]
