"""What a run says on standard error that nobody is to overlook: sorted out from the rest, and shown with the test that
was running."""

from __future__ import annotations

import re
from typing import IO

from .noting import MARK

_SHOWN = 3  # lines for each test: a spoilt heap is reported again by each call that sees it


class Sieve:
    """Passes on a stream's lines, except that it counts those with a finding and shows only the first for each test."""

    def __init__(self, sink: IO[bytes], pattern: str) -> None:
        self._sink = sink
        self._pattern = re.compile(pattern.encode()) if pattern else None
        self._rest = b""
        self._test = ""
        self._of_test = 0
        self.found = 0

    def write(self, block: bytes) -> int:
        if self._pattern is None:
            return self._sink.write(block)
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            self._sift(line + b"\n")
        return len(block)

    def flush(self) -> None:
        self._sink.flush()

    def close(self) -> None:
        """The stream has ended, in the middle of a line perhaps."""
        if self._rest:
            self._sift(self._rest)
            self._rest = b""
        self._leave_test()
        self._sink.flush()

    def _sift(self, line: bytes) -> None:
        assert self._pattern is not None
        before, mark, test = line.partition(MARK.encode())
        if mark:
            self._sink.write(before)
            self._leave_test()
            self._test = test.strip().decode(errors="replace")
        elif self._pattern.search(line):
            self.found += 1
            self._of_test += 1
            if self._of_test == 1:
                self._sink.write(f"\ndev.py: FOUND {f'in {self._test}' if self._test else 'here'}:\n".encode())
            if self._of_test <= _SHOWN:
                self._sink.write(line)
        else:
            self._sink.write(line)

    def _leave_test(self) -> None:
        if self._of_test > _SHOWN:
            self._sink.write(f"dev.py: and {self._of_test - _SHOWN} more of the kind\n".encode())
        self._of_test = 0
