# What has been received and that no operation has claimed yet, and the readers that claim it.
#
# There is one home for such data for each handle. It has what a cancelled await had received, what a reader has received in
# advance, and what a time-out, an error or a pump left. Every receiving verb looks here first.

class IncompleteReadError(EOFError):
    """The stream ended before a reader had all that it was asked for. `partial`: the bytes received before the end;
    `expected`: the number that was asked for, or None when a separator was. Raised by readexactly() and readuntil()."""

    def __init__(self, partial, expected):
        wanted = "the separator" if expected is None else f"all of {expected} bytes"
        super().__init__(f"the stream ended after {len(partial)} bytes, before {wanted}")
        self.partial = partial
        self.expected = expected

    def __reduce__(self):
        return type(self), (self.partial, self.expected)


class LimitOverrunError(Exception):
    """A line or a message is longer than `limit`. Nothing is lost: the next read gets the bytes, and a reader with a higher
    limit gets the whole. `consumed`: the number of bytes that have been received of it so far."""

    def __init__(self, limit, consumed):
        super().__init__(f"more than {limit} bytes and no end: {consumed} have been received and are for the next read")
        self.limit = limit
        self.consumed = consumed

    def __reduce__(self):
        return type(self), (self.limit, self.consumed)


cdef extern from "Python.h":
    char *PyByteArray_AS_STRING(object array)
    Py_ssize_t PyByteArray_GET_SIZE(object array)

cdef enum:
    READ_AHEAD = 16384       # bytes of a reader's first receive
    MOST_AHEAD = 1 << 20

cdef enum:
    UNTIL = 1                # what a Reader wants
    EXACTLY = 2
    MESSAGE = 3


cdef class Unclaimed:
    """Bytes in the order of their arrival: a stream, or (with `whole`) items that keep their boundaries, each with a mark:
    the sender of a datagram, or whether more of the same message follows. The handle's lock guards it; a TLS stream, which has
    no such lock, uses the methods that Python sees."""

    cdef bytearray stream
    cdef list items
    cdef uint64_t taken          # bytes of the stream that have left; a reader counts what it has searched from there

    def __cinit__(self, bint whole=False):
        if whole:
            self.items = []
        else:
            self.stream = bytearray()

    cdef bint is_empty(self) noexcept:
        if self.items is not None:
            return len(self.items) == 0
        return PyByteArray_GET_SIZE(self.stream) == 0

    cdef int put(self, bytes data, object mark=None) except -1:
        """Adds what has arrived last."""
        if self.items is not None:
            self.items.append((data, mark))
        else:
            self.stream += data
        return 0

    cdef int put_front(self, bytes data, object mark=None) except -1:
        """Gives back what was taken and not used: it is the first to be taken."""
        if self.items is not None:
            self.items.insert(0, (data, mark))
        else:
            self.stream[0:0] = data
            self.taken = 0  # what a reader has searched is searched again
        return 0

    cdef tuple take(self, Py_ssize_t size):
        """(bytes, mark) of up to `size` bytes; None: there is nothing. Without memory for them they stay."""
        cdef tuple first
        if self.is_empty():
            return None
        if self.items is None:
            return self.take_stream(min(size, PyByteArray_GET_SIZE(self.stream))), None
        first = self.items[0]
        if len(first[0]) > size:
            result, rest = (first[0][:size], True), (first[0][size:], first[1])
            self.items[0] = rest
            return result
        del self.items[0]
        return first

    cdef bytes take_stream(self, Py_ssize_t size):
        cdef bytes data = PyBytes_FromStringAndSize(PyByteArray_AS_STRING(self.stream), size)
        del self.stream[:size]
        self.taken += size
        return data

    def give_back(self, bytes data not None):
        """put_front, with a lock."""
        with cython.critical_section(self):
            self.put_front(data)

    def claim_bytes(self, size):
        """Up to `size` bytes; None: there is nothing."""
        cdef Py_ssize_t most = as_size(size)
        cdef tuple taken
        with cython.critical_section(self):
            taken = self.take(most)
        return None if taken is None else taken[0]

    def claim(self, Reader reader not None, bytes data=None):
        """The bytes that the reader wants, after `data` has arrived; b"" is the end. None: they have not all arrived."""
        cdef object result
        with cython.critical_section(self):
            if data:
                self.put(data)
            result = reader.claim(self)
            if result is None and data is not None and not data:
                result = reader.at_end(self)
        return result

    def __len__(self):
        return len(self.stream) if self.items is None else len(self.items)


cdef class Reader:
    """What a reader wants, and how much of the stream it has searched."""

    cdef int mode
    cdef bint line               # the end of the stream ends a line, too
    cdef bytes separator
    cdef Py_ssize_t count        # EXACTLY
    cdef Py_ssize_t limit
    cdef uint64_t searched       # bytes of the stream, since it began

    @staticmethod
    def until(separator, limit, bint line):
        """Up to and including the separator."""
        cdef Reader reader = Reader.__new__(Reader)
        reader.mode = UNTIL
        reader.separator = copy_of(separator)
        if not reader.separator:
            raise ValueError("the separator must not be empty")
        reader.limit = positive(limit, "limit")
        reader.line = line
        return reader

    @staticmethod
    def exactly(n):
        cdef Reader reader = Reader.__new__(Reader)
        reader.mode = EXACTLY
        reader.count = as_size(n)
        return reader

    @staticmethod
    def message(limit):
        """One whole message."""
        cdef Reader reader = Reader.__new__(Reader)
        reader.mode = MESSAGE
        reader.limit = positive(limit, "limit")
        return reader

    cdef object claim(self, Unclaimed unclaimed):
        if self.mode == MESSAGE:
            return self.claim_message(unclaimed)
        if self.mode == EXACTLY:
            return unclaimed.take_stream(self.count) if PyByteArray_GET_SIZE(unclaimed.stream) >= self.count else None
        cdef Py_ssize_t length = PyBytes_GET_SIZE(self.separator), size = PyByteArray_GET_SIZE(unclaimed.stream)
        cdef Py_ssize_t at = 0, found
        if self.searched > unclaimed.taken and self.searched <= unclaimed.taken + size:
            at = <Py_ssize_t>(self.searched - unclaimed.taken) - length + 1  # a separator may have arrived in two parts
        found = unclaimed.stream.find(self.separator, max(at, 0))
        if found > self.limit or (found < 0 and size > self.limit):
            raise LimitOverrunError(self.limit, size)
        if found < 0:
            self.searched = unclaimed.taken + size
            return None
        return unclaimed.take_stream(found + length)

    cdef object claim_message(self, Unclaimed unclaimed):
        cdef Py_ssize_t total = 0, parts = 0
        cdef bint complete = False
        for data, more in unclaimed.items:
            total += len(data)
            parts += 1
            if not more:
                complete = True
                break
        if total > self.limit:
            raise LimitOverrunError(self.limit, total)
        if not complete:
            return None
        message = unclaimed.items[0][0] if parts == 1 else b"".join([data for data, _ in unclaimed.items[:parts]])
        del unclaimed.items[:parts]
        return message

    cdef object at_end(self, Unclaimed unclaimed):
        """The result when the stream has ended and cannot satisfy the reader."""
        cdef bytes partial
        if self.mode == MESSAGE:
            if unclaimed.is_empty():
                raise EOFError("the pipe has ended")
            partial = b"".join([data for data, _ in unclaimed.items])
            unclaimed.items.clear()
            raise IncompleteReadError(partial, None)
        partial = unclaimed.take_stream(PyByteArray_GET_SIZE(unclaimed.stream))
        if self.line:
            return partial
        raise IncompleteReadError(partial, self.count if self.mode == EXACTLY else None)

    cdef Py_ssize_t appetite(self, Unclaimed unclaimed) noexcept:
        """How much to receive: more, the more there is already, so that long lines need few receives."""
        cdef Py_ssize_t held = 0 if unclaimed is None or unclaimed.stream is None else PyByteArray_GET_SIZE(unclaimed.stream)
        cdef Py_ssize_t size = max(READ_AHEAD, held)
        if self.mode == EXACTLY:
            size = max(size, self.count - held)
        return min(size, MOST_AHEAD)


cdef Py_ssize_t positive(object number, str name) except -1:
    cdef Py_ssize_t value = PyNumber_AsSsize_t(number, NULL)
    if value <= 0:
        raise ValueError(f"{name} must be positive")
    return value
