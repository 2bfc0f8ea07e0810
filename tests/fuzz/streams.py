"""What a reader must see: a model of one direction of a pipe or connection.

Every write is a segment of random bytes. One that ended well arrives whole; of one that was cancelled, or failed, any part
from its beginning may arrive (a cancelled write may have written a part). Nothing arrives twice, or out of order.
"""

from __future__ import annotations

import random
from collections import deque
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from typing import Any

import tpio

from .values import WAIT


class Segment:
    def __init__(self, data: bytes, future: tpio.Future[int]) -> None:
        self.data = data
        self.future = future
        self.asked_to_end = False

    @property
    def may_be_cut(self) -> bool:
        if self.asked_to_end:
            wait([self.future], WAIT)
        return self.future.done() and (self.future.cancelled() or self.future.exception() is not None)


class Stream:
    def __init__(self, reader: tpio.Handle, writer: tpio.Handle, *, messages: bool, seed: int) -> None:
        self.reader, self.writer = reader, writer
        self.messages = messages  # b"" is a message then, and no end
        self.open = True
        self._chance = random.Random(seed)
        self._segments: list[Segment] = []
        self._empty = 0  # messages of nothing
        # Where the reader may be: in which segment, and how many of its bytes have arrived. More than one as long as it
        # is not clear how much of a cancelled write was written.
        self._places = {(0, 0)}
        self._reads: deque[tuple[tpio.Future[Any], int, Any]] = deque()
        self.received = 0

    # ---- writing

    def fresh(self, size: int) -> bytes:
        return self._chance.randbytes(size)

    def wrote(self, data: bytes, future: tpio.Future[int]) -> None:
        if data:
            self._segments.append(Segment(data, future))
        else:
            self._empty += 1

    @property
    def pending_writes(self) -> list[Segment]:
        return [segment for segment in self._segments if not segment.future.done()]

    def ask_to_end(self, write: tpio.Future[int]) -> None:
        for segment in self._segments:
            if segment.future is write:
                segment.asked_to_end = True
        write.cancel()

    # ---- reading

    def reads(self, future: tpio.Future[Any], size: int, into: Any = None) -> None:
        """into: where the bytes will be; None: they are the result."""
        self._reads.append((future, size, into))

    @property
    def pending_reads(self) -> list[tpio.Future[Any]]:
        return [future for future, _, _ in self._reads if not future.done()]

    def look(self, wait: bool = False) -> int:
        """Takes what has been read, in the order of the reads; returns how many bytes."""
        before = self.received
        while self._reads and (wait or self._reads[0][0].done()):
            future, size, into = self._reads.popleft()
            try:
                result = future.result(WAIT)
            except (CancelledError, ConnectionError):
                continue
            if result is None:  # poll_read
                continue
            data = result if into is None else _first(into, result)
            assert len(data) <= size
            assert data or size == 0 or self.messages or not self.open, "the end, which nobody has made"
            self.arrived(data)
        return self.received - before

    def arrived(self, data: bytes) -> None:
        if not data:
            return
        places = set()
        for index, offset in self._places:
            places |= self._after(index, offset, data)
        assert places, (
            f"wrong bytes after {self.received}: {data[:20]!r}... ({len(data)}), expected "
            f"{[self._segments[i].data[k : k + 20] for i, k in self._places if i < len(self._segments)]}"
        )
        self._places = places
        self.received += len(data)

    def _after(self, index: int, offset: int, data: bytes) -> set[tuple[int, int]]:
        """Where the reader may be after data, beginning at a place."""
        places = set()
        starts = [(index, offset, 0)]
        seen = set(starts)
        while starts:
            index, offset, at = starts.pop()
            if at == len(data):
                places.add((index, offset))
                continue
            if index == len(self._segments):
                continue
            segment = self._segments[index]
            same = _common(segment.data, offset, data, at)
            nexts = []
            if offset + same == len(segment.data):
                nexts.append((index + 1, 0, at + same))
            elif at + same == len(data):
                places.add((index, offset + same))
            if segment.may_be_cut:  # somewhere on the way: what follows decides
                nexts += [(index + 1, 0, cut) for cut in range(at, at + same + 1)]
            for place in nexts:
                if place not in seen:
                    seen.add(place)
                    starts.append(place)
        return places

    def finish(self) -> None:
        """Reads all that was written, closes the writer, and reads the end."""
        self.reader.cancel()
        self.look(wait=True)
        while self.pending_writes:
            reading = self.reader.read(65536)
            while not reading.done() and (pending := self.pending_writes):
                ended = wait([reading, *(segment.future for segment in pending)], WAIT, FIRST_COMPLETED).done
                assert ended, f"neither a read nor {len(pending)} writes end, after {self.received} bytes"
            if not reading.done():  # the last write has ended without another byte
                reading.cancel()
            self.reads(reading, 65536)
            self.look(wait=True)
        self.writer.close()
        ends = 0
        while ends <= self._empty:
            data = self.reader.read(65536).result(WAIT)
            ends += not data
            self.arrived(data)
        self.reader.close()
        self.must_be_at_end()

    def must_be_at_end(self) -> None:
        """Everything that was written has arrived."""
        for index, offset in self._places:
            rest = self._segments[index:]
            if offset == 0 or rest[0].may_be_cut:
                if all(segment.may_be_cut for segment in rest):
                    return
        missing = [(len(segment.data), segment.may_be_cut) for segment in self._segments]
        raise AssertionError(f"after {self.received} bytes the end, at {self._places} of {missing}")


def bytes_of(buffer: Any) -> bytes:
    """Of a buffer, or many."""
    return b"".join(map(bytes_of, buffer)) if isinstance(buffer, list) else memoryview(buffer).tobytes()


def _first(into: Any, count: int) -> bytes:
    whole = bytes_of(into)
    assert count <= len(whole)
    return whole[:count]


def _common(one: bytes, at_one: int, other: bytes, at_other: int) -> int:
    """How many bytes are the same."""
    length = min(len(one) - at_one, len(other) - at_other)
    if length == 0 or one[at_one] != other[at_other]:
        return 0
    if one[at_one : at_one + length] == other[at_other : at_other + length]:
        return length
    low, high = 0, length  # the first low are the same, the first high are not
    while high - low > 1:
        middle = (low + high) // 2
        if one[at_one : at_one + middle] == other[at_other : at_other + middle]:
            low = middle
        else:
            high = middle
    return low
