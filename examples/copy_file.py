"""Copy a file with up to eight reads in flight."""

import os
import tempfile
from collections import deque

import tpio

BLOCK, DEPTH = 65536, 8


def copy(source_path, target_path):
    with tpio.open(source_path) as source, tpio.open(target_path, "wb") as target:
        reads, writes = deque(), deque()
        for offset in range(0, source.size(), BLOCK):
            reads.append((offset, source.read(BLOCK, offset)))
            if len(reads) == DEPTH:
                write_oldest(target, reads, writes)
        while reads:
            write_oldest(target, reads, writes)
        return sum(written.result() for written in writes)


def write_oldest(target, reads, writes):
    offset, read = reads.popleft()
    writes.append(target.write(read.result(), offset))


with tempfile.TemporaryDirectory() as folder:
    original, duplicate = os.path.join(folder, "original"), os.path.join(folder, "duplicate")
    with open(original, "wb") as file:
        file.write(os.urandom(3_000_001))
    assert copy(original, duplicate) == 3_000_001
    with open(original, "rb") as one, open(duplicate, "rb") as other:
        assert one.read() == other.read()
