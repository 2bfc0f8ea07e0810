# Handle: anything opened for overlapped I/O, bound to a pool.

cdef enum:
    FILE_TYPE_SOCKET = 0x100   # ours, beside FILE_TYPE_DISK, _PIPE, _CHAR
    NO_OFFSET = -1
    LARGEST = 0x7FFFF000       # bytes of one system call; longer writes are made of several
    WAITS = 1                  # of FutureBase.turn
    HAS_IT = 2
    CLOSE_PATIENCE = 5000      # ms for what has been cancelled: longer than a busy machine takes

cdef extern from *:
    """
    /* May a socket skip the completion of what is done at once? Not under a layered provider without IFS handles, which
     * may complete on its own.
     * https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-setfilecompletionnotificationmodes */
    static int tpio_has_ifs_handle(SOCKET socket)
    {
        WSAPROTOCOL_INFOW info;
        int size = sizeof info;

        return getsockopt(socket, SOL_SOCKET, SO_PROTOCOL_INFOW, (char *)&info, &size) == 0 &&
               (info.dwServiceFlags1 & XP1_IFS_HANDLES) != 0;
    }
    """
    bint tpio_has_ifs_handle(SOCKET socket) nogil

cdef Py_ssize_t as_size(object n) except -1:
    """A number of bytes. What is too large to exist stays too large, for the allocation to refuse."""
    cdef Py_ssize_t size = PyNumber_AsSsize_t(n, NULL)
    if size < 0:
        raise ValueError("the number of bytes must not be negative")
    return size


cdef object new_bytes(Py_ssize_t size):
    if size > PY_SSIZE_T_MAX - 64:
        raise MemoryError(f"no memory for {size} bytes")
    return PyBytes_FromStringAndSize(NULL, size)


cdef bytes copy_of(object data):
    """The bytes of a buffer, of whatever format and shape (a ctypes structure's cannot be cast)."""
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return PyBytes_FromStringAndSize(<char *>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


cdef DWORD largest_call = LARGEST


cdef DWORD one_call(uint64_t size) noexcept nogil:
    return <DWORD>size if size < largest_call else largest_call


def set_largest_call(DWORD size):
    """For tests: how many bytes one system call moves at most. Returns the previous number."""
    global largest_call
    cdef DWORD previous = largest_call
    largest_call = size
    return previous


cdef int file_type(HANDLE file, int *socket_type) except -1:
    cdef int size = sizeof(int)
    cdef DWORD kind, error
    cdef bint is_socket
    with nogil:  # of a pipe that is not overlapped, while somebody reads from it, such a question waits
        SetLastError(0)
        kind = GetFileType(file)
        error = GetLastError() if kind == FILE_TYPE_UNKNOWN else 0
        is_socket = kind == FILE_TYPE_PIPE and getsockopt(<SOCKET>file, SOL_SOCKET, SO_TYPE, <char *>socket_type,
                                                          &size) == 0
    if error != 0:
        raise winerror(error)
    return FILE_TYPE_SOCKET if is_socket else kind


cdef bint is_c_file(object obj):
    """Is its fileno() a descriptor of the C runtime? So it is for Python's files, and for what wraps them without being
    one of their classes (tempfile, codecs), whose descriptor would pass for some handle or other."""
    return isinstance(obj, io.IOBase) or (not isinstance(obj, Handle) and hasattr(obj, "readable"))


def handle_value(obj):
    """Returns the HANDLE of an int, of an object with fileno() or handle (as pywin32's PyHANDLE), or of a C runtime file,
    whose fileno() is not a HANDLE."""
    if isinstance(obj, int):
        if isinstance(obj, bool):
            raise TypeError("a handle is needed, not a bool")
        return obj
    fileno = getattr(obj, "fileno", None)
    if fileno is None:
        value = getattr(obj, "handle", None)
        if value is None:
            raise TypeError(f"a handle or an object with fileno() is needed, not {type(obj).__name__!r}")
        return operator_index(value)
    value = fileno()
    if is_c_file(obj):
        import msvcrt
        value = msvcrt.get_osfhandle(value)
    return operator_index(value)


def flags_of(value, name):
    """A DWORD of flags, or a control code. One with the highest bit may be negative, as pywin32 has them."""
    number = operator_index(value) if hasattr(value, "__index__") else None
    if number is None:
        raise TypeError(f"{name} must be an int, not {type(value).__name__!r}")
    if not -0x80000000 <= number <= 0xFFFFFFFF:
        raise OverflowError(f"{name} must be a number of 32 bits, not {number}")
    return number & 0xFFFFFFFF


cdef unsigned longest_datagram(SOCKET socket) noexcept:
    """https://learn.microsoft.com/windows/win32/winsock/sol-socket-socket-options"""
    cdef unsigned longest = 0
    cdef int size = sizeof(unsigned)
    if getsockopt(socket, SOL_SOCKET, SO_MAX_MSG_SIZE, <char *>&longest, &size) != 0 or longest == 0:
        return LARGEST
    return longest


cdef object check_handle(object value):
    if value <= 0 or value >= <uintptr_t>-1:
        raise ValueError(f"{value} is not a handle: is the object closed?")
    return value


cdef class Turns:
    """Operations of one direction of a handle that must not overlap: each is submitted when the one before it has ended."""

    cdef list queue              # futures, the oldest first
    cdef bint turning            # a thread is submitting them

    def __cinit__(self):
        self.queue = []


cdef class Handle:
    """A file, pipe, socket or device that was opened for overlapped I/O, bound to a pool of the operating system.

    obj: an int HANDLE, or an object with fileno() (a socket, asyncio's PipeHandle) or handle (pywin32's PyHANDLE).
    pool: the default one if None.
    owns: close() closes the system's handle; an object with detach() is detached from it. Else close() leaves the handle open
    and, since Windows 8.1, free of tpio: close this object before the handle. See docs/handover.md for what else its owner
    may do with it meanwhile.

    Every operation returns a Future at once and may be cancelled; any number may be in flight. Those that may wait take
    timeout=seconds: the operation is cancelled then, and its future fails with TimeoutError; one that has ended in spite of
    the cancel keeps its result. Misuse raises at once:
    ValueError (closed, negative size), TypeError (wrong type, read-only buffer), BindError. Failures of the operation
    come through the future, as OSError with `winerror` set.

    https://learn.microsoft.com/windows/win32/api/threadpoolapiset/nf-threadpoolapiset-createthreadpoolio
    """

    cdef core.tpio_handle *native
    cdef HANDLE plain            # instead: one that is not overlapped, only to be passed on (PipeHandle._adopt)
    cdef PoolBase pool_
    cdef object owner            # the foreign object whose handle this is
    cdef Unclaimed unclaimed     # what has been received and not claimed; None: there has been nothing yet
    cdef bint has_leftover       # there is some, or was a moment ago
    cdef Turns reads             # of readers; None: there has been none yet
    cdef set pumps               # that have this end; None: none yet
    cdef core.LONG64 position    # of sequential reads and writes; files only
    cdef LONG pending            # futures that have not ended
    cdef core.LONG64 outgoing    # bytes of writes that have not ended
    cdef LONG generation         # counts cancel()s that are over
    cdef LONG cancelling         # and those under way
    cdef Turns writes            # of those that take several system calls; None: there has been none yet
    cdef int submitting          # writes that take one, and are in it
    cdef int type
    cdef bint owns
    cdef bint lent               # the system's handle is not closed with ours
    cdef bint appends
    cdef bint datagrams
    cdef unsigned longest        # datagram that can be sent
    cdef object __weakref__

    _may_skip = True  # a file, not a directory

    def __init__(self, obj, *, pool=None, owns=True):
        self._require_new()
        value = check_handle(handle_value(obj))
        # What cannot be detached from its handle keeps it, and is what close() closes.
        ours = isinstance(obj, int) or (hasattr(obj, "detach") and not is_c_file(obj))
        self._bind(value, pool, owns and ours)
        self.owns = owns
        if not isinstance(obj, int):
            if owns and ours:
                obj.detach()
            else:
                self.owner = obj  # keeps it open

    def _require_new(self):
        """For subclasses, before they prepare for a handle what is the handle's already."""
        if self.native != NULL:
            raise RuntimeError("a handle is initialized once")

    def _bind(self, value, pool, owns):
        cdef PoolBase where = pool_of(pool)
        cdef HANDLE file = <HANDLE><uintptr_t>value
        cdef unsigned flags = TPIO_OWNS if owns else 0
        cdef core.tpio_bind_error why
        cdef DWORD state = 0, error
        cdef int socket_type = 0
        self.type = file_type(file, &socket_type)
        self.datagrams = self.type == FILE_TYPE_SOCKET and socket_type != SOCK_STREAM
        if self.datagrams:
            self.longest = longest_datagram(<SOCKET>file)
        if self.type == FILE_TYPE_SOCKET:
            flags |= TPIO_SOCKET
            if self._may_skip and not self.datagrams and tpio_has_ifs_handle(<SOCKET>file):
                flags |= TPIO_SKIP
        elif self.type == FILE_TYPE_DISK:
            if self._may_skip:
                flags |= TPIO_SKIP
        elif self.type == FILE_TYPE_PIPE:
            # Not with messages: whether a completion follows ERROR_MORE_DATA under skip is not documented. The question
            # fails for an end that is for writing only, to which that cannot happen.
            with nogil:
                GetNamedPipeHandleStateW(file, &state, NULL, NULL, NULL, NULL, 0)
            if not state & PIPE_READMODE_MESSAGE:
                flags |= TPIO_SKIP
        with nogil:
            error = core.tpio_handle_bind(where.native, file, flags, &self.native, &why)
        if error == ERROR_NOT_ENOUGH_MEMORY:
            raise MemoryError("no memory to bind a handle")
        if error != 0:
            if core.tpio_pool_closing(where.native):
                raise_closed_pool()
            if why == TPIO_BIND_NOT_OVERLAPPED:
                refusal = BindError(0, "the handle was not opened for overlapped I/O: open it with FILE_FLAG_OVERLAPPED, or "
                                    "use the system's blocking calls on it in Pool.submit", None, error)
                refusal.synchronous = True
                raise refusal
            if why == TPIO_BIND_ALREADY_BOUND:
                raise BindError(0, "the handle is already bound to a completion port, of tpio, asyncio or another "
                                "library: use the object that it was bound with, or open the file again", None, error)
            raise winerror(error)
        self.pool_ = where
        self.owns = owns
        self.lent = not owns

    def __dealloc__(self):
        cdef core.tpio_handle *handle = self.native
        if self.plain != NULL:
            CloseHandle(self.plain)
        if handle != NULL:
            # Nothing is pending: futures refer to their handle.
            with nogil:
                core.tpio_handle_close(handle)
                core.tpio_handle_unref(handle)

    cdef bint is_closed(self) noexcept:
        if self.plain != NULL:
            return False
        return self.native == NULL or core.tpio_handle_file(self.native) == INVALID_HANDLE_VALUE

    cdef int require_open(self) except -1:
        if self.is_closed():
            raise ValueError("I/O operation on closed handle")
        return 0

    cdef int require_bound(self) except -1:
        self.require_open()
        if self.native == NULL:
            raise BindError(0, "this end of the pipe is for a child process and not overlapped: read and write the other",
                            None, 87)
        return 0

    # ---- submitting -------------------------------------------------------------------------------------------------

    cdef FutureBase begin(self, int kind):
        cdef FutureBase future
        self.require_bound()
        future = new_future(kind)
        future.handle = self
        future.generation = self.generation
        InterlockedIncrement(&self.pending)
        InterlockedIncrement(&self.pool_.unended)
        return future

    cdef void count_outgoing(self, FutureBase future) noexcept:
        """Counts a write in pending_bytes until its future ends."""
        cdef Py_ssize_t size = (<Buffers>future.extra).total if future.extra is not None else future.size
        future.outgoing = size
        InterlockedExchangeAdd64(&self.outgoing, size)

    cdef bint is_too_long(self, FutureBase future, Py_ssize_t size):
        """A datagram that is too long to send fails here. The system would say the same; but while it is certain that the
        failure of a send brings no completion, Wine has one for this."""
        if not self.datagrams or size <= self.longest:
            return False
        future.release_buffer()
        future.settle(FAILED, winerror(WSAEMSGSIZE))
        return True

    cdef int64_t check_offset(self, object offset) except? -2:
        """An offset, or NO_OFFSET."""
        cdef int64_t at
        if offset is None:
            return NO_OFFSET
        at = operator_index(offset)  # a float would be cut off
        if at < 0:
            raise ValueError("the offset must not be negative")
        if at != 0 and (self.type == FILE_TYPE_PIPE or self.type == FILE_TYPE_SOCKET):
            raise ValueError("only files have offsets")
        return at

    cdef int64_t place(self, FutureBase future, int64_t offset) noexcept:
        """Where a file operation of future.size bytes is to happen. Without an offset it is sequential: after the last,
        at a position that is reserved now and corrected when fewer bytes were moved."""
        if offset != NO_OFFSET:
            return offset
        if self.type != FILE_TYPE_DISK:
            return 0
        self.rewind()
        future.position = InterlockedExchangeAdd64(&self.position, future.size)
        return future.position

    cdef FutureBase receive(self, FutureBase future, char *address, Py_ssize_t size, int64_t offset):
        """Submits a read into address."""
        cdef core.tpio_status status
        cdef int64_t at = self.place(future, offset)
        future.submitted = True
        Py_INCREF(future)  # the system's
        if self.type == FILE_TYPE_SOCKET:
            status = core.tpio_recv(&future.op, self.native, address, one_call(size), future.flags)
        elif self.type == FILE_TYPE_DISK:
            with nogil:  # may wait for the disk: see File
                status = core.tpio_read(&future.op, self.native, address, one_call(size), at)
        else:
            status = core.tpio_read(&future.op, self.native, address, one_call(size), at)
        return future.started(status)

    cdef core.tpio_status receive_again(self, FutureBase future):
        """Submits a receive or a poll again: another one's cancel has ended it, or the peer has written nothing."""
        cdef char *address = b""
        cdef Buffers list
        future.submitted = True
        Py_INCREF(future)  # the system's
        if future.kind == POLLED:
            return submit_poll(future)
        if future.kind == READER:
            return self.receive_more(future)
        if future.kind == SCATTERED:
            list = future.extra
            return core.tpio_recv_list(&future.op, self.native, list.list, list.count, 0)
        if future.size != 0:
            address = future.address()
        if self.type == FILE_TYPE_SOCKET:
            return core.tpio_recv(&future.op, self.native, address, one_call(future.size), future.flags)
        return core.tpio_read(&future.op, self.native, address, one_call(future.size), 0)

    cdef bint was_nothing(self, FutureBase future):
        """True when a read has ended with an empty write of the peer, which means nothing in a stream of bytes."""
        return self.type == FILE_TYPE_PIPE and future.size != 0 and not self.is_message_pipe()

    cdef core.tpio_status transmit(self, FutureBase future):
        """Submits what is left of a write."""
        cdef DWORD size = one_call(future.size - future.moved)
        cdef core.tpio_status status
        cdef uint64_t at = future.at
        cdef char *address
        cdef Buffers list
        if at != TPIO_APPEND:
            at += future.moved
        future.submitted = True
        Py_INCREF(future)  # the system's
        if future.kind == TRANSMITTED:
            return core.tpio_transmit(&future.op, self.native, (<Duplicate>future.buffer).handle, size, at)
        if future.kind == COUNT:
            list = future.extra
            return core.tpio_send_list(&future.op, self.native, list.list, list.count, 0)
        address = future.address() + future.moved
        if self.type == FILE_TYPE_SOCKET:
            status = core.tpio_send(&future.op, self.native, address, size, future.flags)
        elif self.type == FILE_TYPE_DISK:
            with nogil:
                status = core.tpio_write(&future.op, self.native, address, size, at)
        else:
            status = core.tpio_write(&future.op, self.native, address, size, at)
        return status

    cdef object write_on(self, FutureBase future):
        """The next part of a write, on the thread that completed the last."""
        if future.was_asked_to_end():
            return _CANCEL
        return future.go_on(self.transmit(future))

    # A write of more bytes than one system call takes is several calls, and no other write of this handle may come between
    # them. While there is such a write, all of them take turns: each is submitted when the one before it has ended. (A file
    # needs that only for appending: other writes have their place.)

    cdef FutureBase begin_write(self, FutureBase future):
        cdef bint waits = False
        self.count_outgoing(future)
        if self.type == FILE_TYPE_DISK and not self.appends:
            return future.started(self.transmit(future))
        with cython.critical_section(self):
            if (self.writes is not None and self.writes.queue) or future.size > largest_call:
                if self.writes is None:
                    self.writes = Turns()
                self.writes.queue.append(future)
                future.turn = WAITS
                waits = True
            else:
                self.submitting += 1
        if waits:
            self.take_turns(self.writes)
            return future
        try:
            status = self.transmit(future)
            with cython.critical_section(self):
                self.submitting -= 1
            return future.started(status)
        finally:
            if self.writes is not None:
                self.take_turns(self.writes)

    cdef void take_turns(self, Turns turns) noexcept:
        """Submits the operations whose turn it is. One thread at a time, in a loop: an operation that is done at once is no
        call deeper."""
        cdef FutureBase future
        cdef bint turning
        with cython.critical_section(self):
            turning = turns.turning
            turns.turning = True
        while not turning:
            future = None
            with cython.critical_section(self):
                if turns.queue and (turns is self.reads or self.submitting == 0) and \
                        (<FutureBase>turns.queue[0]).turn == WAITS:
                    future = turns.queue[0]
                    future.turn = HAS_IT
                else:
                    turns.turning = False
            if future is None:
                break
            self.begin_turn(future)

    cdef void begin_turn(self, FutureBase future) noexcept:
        cdef core.tpio_status status = TPIO_CLOSED
        cdef object result = None
        cdef int state = FINISHED
        if not future.was_asked_to_end():
            try:
                if future.kind == READER:
                    result = self.claim(future.extra)
                if result is None:
                    status = self.receive_more(future) if future.kind == READER else self.transmit(future)
            except BaseException as error:
                state = FAILED
                result = error
            if status == TPIO_PENDING:
                if future.cancel_asked:  # perhaps while it was not the system's and could not be cancelled
                    with nogil:
                        core.tpio_op_cancel(&future.op)
                return
            if future.submitted:
                future.submitted = False
                Py_DECREF(future)  # the system has nothing
        if result is None and status != TPIO_CLOSED:
            future.conclude()
        else:
            future.release_buffer()
            future.settle(CANCELLED if result is None else state, result)
            self.end_turn(future)
        if future.callbacks is not None and future.state >= CANCELLED:
            hand_over(future, None)  # they may wait for an operation whose turn it is not yet

    cdef void end_turn(self, FutureBase future) noexcept:
        with cython.critical_section(self):
            self.drop_turn(future)
        self.take_turns(self.turns_of(future))

    cdef bint leave_turns(self, FutureBase future) noexcept:
        """False: its turn has come."""
        cdef bint left = False
        with cython.critical_section(self):
            if future.turn == WAITS:
                self.drop_turn(future)
                left = True
        return left

    cdef void drop_turn(self, FutureBase future) noexcept:
        cdef Turns turns = self.turns_of(future)
        future.turn = 0
        del turns.queue[turns.queue.index(future)]

    cdef Turns turns_of(self, FutureBase future):
        return self.reads if future.kind == READER else self.writes

    # ---- received, and not claimed

    cdef Unclaimed home(self):
        """Where such data is kept, made when there is some. With the lock."""
        if self.unclaimed is None:
            self.unclaimed = Unclaimed(self.datagrams or self.is_message_pipe())
        return self.unclaimed

    cdef int keep(self, bytes data, object mark) except -1:
        """What a cancelled await had received; the next read gets it."""
        with cython.critical_section(self):
            self.home().put(data, mark)
            self.has_leftover = True
        return 0

    cdef int keep_first(self, bytes data, object mark) except -1:
        """What was taken and not used: it comes before all else."""
        with cython.critical_section(self):
            self.home().put_front(data, mark)
            self.has_leftover = True
        return 0

    cdef tuple take_leftover(self, Py_ssize_t size):
        """(bytes, sender) of the oldest of it, or TruncatedError; None: there is none. When there is no memory for it, it stays
        for the next read."""
        cdef tuple taken = None
        cdef bint cut = False
        if self.has_leftover and self.type != FILE_TYPE_DISK:
            with cython.critical_section(self):
                if self.unclaimed is not None and not self.unclaimed.is_empty():
                    cut = self.datagrams and len(self.unclaimed.items[0][0]) > size
                    if cut:
                        taken = self.unclaimed.items.pop(0)
                    else:
                        taken = self.unclaimed.take(size)
                self.has_leftover = self.unclaimed is not None and not self.unclaimed.is_empty()
            if cut:
                raise truncated(WSAEMSGSIZE, taken[0][:size], taken[1])
        return taken

    cdef FutureBase read_leftover(self, Py_ssize_t size, bint with_sender):
        """A future of it; None: there is nothing."""
        cdef FutureBase future
        cdef tuple taken
        if not self.has_leftover:
            return None
        future = done_future(None)  # before it is taken, for which there may be no memory
        try:
            taken = self.take_leftover(size)
            if taken is None:
                return None
            if with_sender:
                future.value = taken if self.datagrams else (taken[0], None)
            else:
                future.value = taken[0]
        except TruncatedError as error:
            future.value = error
            future.state = FAILED
        return future

    cdef bint end_with_leftover(self, FutureBase future, bint with_sender) except -1:
        """As read_leftover, for a receive into a buffer. False: there is nothing."""
        cdef tuple taken = None
        cdef object failure = None
        if self.has_leftover:
            try:
                taken = self.take_leftover(future.size)
            except TruncatedError as error:
                failure = error
                taken = (error.data, error.address)
        if taken is None:
            return False
        memcpy(future.address(), PyBytes_AS_STRING(taken[0]), PyBytes_GET_SIZE(taken[0]))
        future.release_buffer()
        if failure is not None:
            future.settle(FAILED, failure)
        else:
            future.settle(FINISHED, (len(taken[0]), taken[1]) if with_sender else len(taken[0]))
        return True

    cdef void rewind(self) noexcept:
        """Drops what readers have read of a file in advance: the next operation begins where the last line ended."""
        if self.type != FILE_TYPE_DISK or not self.has_leftover:
            return
        with cython.critical_section(self):
            if self.unclaimed is not None:
                InterlockedExchangeAdd64(&self.position, -PyByteArray_GET_SIZE(self.unclaimed.stream))
                self.unclaimed = None
                self.has_leftover = False

    # ---- readers: one at a time, in the order of the calls

    cdef FutureBase begin_reader(self, Reader reader):
        cdef FutureBase future
        self.require_bound()
        if self.datagrams:
            raise ValueError("a datagram socket has no stream of bytes: use recvfrom()")
        if reader.mode != MESSAGE and self.is_message_pipe():
            raise ValueError("a message pipe has no stream of bytes: use read_message()")
        if self.has_leftover and (future := self.claimed(reader)) is not None:
            return future
        future = self.begin(READER)
        future.extra = reader
        future.turn = WAITS
        try:
            with cython.critical_section(self):
                if self.reads is None:
                    self.reads = Turns()
                self.home()
                self.reads.queue.append(future)
        except BaseException:
            future.turn = 0
            future.settle(CANCELLED, None)
            raise
        self.take_turns(self.reads)
        return future

    cdef FutureBase claimed(self, Reader reader):
        """A future of what the reader wants, if all of it is there and no other reader waits."""
        cdef FutureBase future = done_future(None)
        cdef object result = None
        try:
            with cython.critical_section(self):
                if self.reads is None or not self.reads.queue:
                    result = reader.claim(self.home())
                    self.has_leftover = not self.unclaimed.is_empty()
        except LimitOverrunError as error:
            future.value = error
            future.state = FAILED
            return future
        future.value = result
        return None if result is None else future

    cdef object claim(self, Reader reader):
        with cython.critical_section(self):
            result = reader.claim(self.home())
            self.has_leftover = not self.unclaimed.is_empty()
        return result

    cdef core.tpio_status receive_more(self, FutureBase future):
        """Submits a reader's receive."""
        cdef Py_ssize_t size
        cdef core.tpio_status status
        cdef int64_t at = 0
        cdef char *address
        with cython.critical_section(self):
            size = (<Reader>future.extra).appetite(self.unclaimed)
        if future.buffer is None or future.size < size:
            future.buffer = new_bytes(size)
            future.size = size
        if self.type == FILE_TYPE_DISK:
            future.position = at = InterlockedExchangeAdd64(&self.position, future.size)
        address = PyBytes_AS_STRING(future.buffer)
        future.submitted = True
        Py_INCREF(future)  # the system's
        if self.type == FILE_TYPE_SOCKET:
            return core.tpio_recv(&future.op, self.native, address, <DWORD>future.size, 0)
        with nogil:
            status = core.tpio_read(&future.op, self.native, address, <DWORD>future.size, at)
        return status

    cdef object read_on(self, FutureBase future, DWORD error, Py_ssize_t count):
        """The outcome of a reader's receive: the bytes that it wants, or the next receive."""
        cdef Reader reader = future.extra
        cdef bint message = reader.mode == MESSAGE
        if error == ERROR_BROKEN_PIPE or error == ERROR_HANDLE_EOF or error == ERROR_PIPE_NOT_CONNECTED or (
                error == 0 and count == 0 and self.type != FILE_TYPE_PIPE):
            with cython.critical_section(self):
                result = reader.at_end(self.home())
                self.has_leftover = not self.unclaimed.is_empty()
            return result
        if error != 0 and error != ERROR_MORE_DATA:
            raise winerror(error)
        if count != 0 or message:
            self.keep(PyBytes_FromStringAndSize(PyBytes_AS_STRING(future.buffer), count), error == ERROR_MORE_DATA)
        result = self.claim(reader)
        if result is not None:
            return result
        return _CANCEL if future.was_asked_to_end() else future.go_on(self.receive_more(future))

    @property
    def _has_leftover(self):
        """For the façade: received, and not read."""
        return bool(self.has_leftover)

    @property
    def _position(self):
        """For the façade: where the next sequential read or write of a file begins."""
        self.rewind()
        return self.position

    def _put_back(self, data):
        """For the façade: bytes that were received and are for the next read."""
        self.keep(data, None)

    cdef bint is_message_pipe(self):
        cdef DWORD state = 0
        if self.type != FILE_TYPE_PIPE:
            return False
        GetNamedPipeHandleStateW(core.tpio_handle_file(self.native), &state, NULL, NULL, NULL, NULL, 0)
        return (state & PIPE_READMODE_MESSAGE) != 0

    cdef bint takes_empty(self):
        """True when an empty write is sent: as a datagram, or as a message, however this end reads."""
        cdef DWORD flags = 0
        if self.type != FILE_TYPE_PIPE:
            return self.datagrams
        GetNamedPipeInfo(core.tpio_handle_file(self.native), &flags, NULL, NULL, NULL)
        return (flags & PIPE_TYPE_MESSAGE) != 0

    @property
    def _appends(self):
        """For the façade: every write goes to the end of the file."""
        return self.appends

    @_appends.setter
    def _appends(self, bint appends):
        self.appends = appends

    def _give_back(self, result):
        """For the façade: takes what a cancelled await would have got; False when it can do nothing with it."""
        return False

    # ---- verbs ------------------------------------------------------------------------------------------------------

    def read(self, n, offset=None, *, timeout=None):
        """Reads up to n bytes. Future of bytes: b"" at the end of the file, or when the peer has closed.

        offset: where in a file; None: after the last sequential read or write of this object. At most 2 GiB at once.
        https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-readfile
        """
        cdef double limit = time_limit(timeout)
        return in_time(self.read_flagged(n, offset, 0), limit, "a read")

    cdef FutureBase read_flagged(self, object n, object offset, DWORD flags):
        cdef Py_ssize_t size = as_size(n)
        cdef FutureBase future
        cdef char *address
        cdef int64_t at
        self.require_bound()
        at = self.check_offset(offset)
        if size == 0:
            return done_future(b"")
        if (future := self.read_leftover(size, False)) is not None:
            return future
        future = self.begin(READ)
        future.flags = flags
        try:
            future.buffer = new_bytes(size)  # no other reference, so that it can be shrunk in place
            future.size = size
            address = PyBytes_AS_STRING(future.buffer)
            return self.receive(future, address, size, at)
        except BaseException:
            future.settle(CANCELLED, None)
            raise

    def read_into(self, buffer, offset=None, *, timeout=None):
        """Reads into a writable buffer, which belongs to the system until the future ends. Future of the number of bytes:
        0 at the end of the file."""
        cdef double limit = time_limit(timeout)
        return in_time(self.read_into_flagged(buffer, offset, 0), limit, "a read")

    cdef FutureBase read_into_flagged(self, object buffer, object offset, DWORD flags):
        cdef FutureBase future = self.begin(READ_INTO)
        cdef int64_t at
        future.flags = flags
        try:
            at = self.check_offset(offset)
            future.pin(buffer, True)
            if future.size == 0:
                future.release_buffer()
                future.settle(FINISHED, 0)
                return future
            if self.end_with_leftover(future, False):
                return future
            return self.receive(future, future.address(), future.size, at)
        except BaseException:
            future.release_buffer()
            future.settle(CANCELLED, None)
            raise

    def write(self, data, offset=None, *, timeout=None):
        """Writes the whole of a bytes-like object, which belongs to the system until the future ends, or fails. Future of
        the number of bytes.

        Writes reach the peer in the order of the calls, and the bytes of each stand together, whatever their number. An
        empty write sends an empty message or datagram; to any other handle it does nothing. A cancelled write may have
        written a part. https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-writefile
        """
        cdef double limit = time_limit(timeout)
        return in_time(self.write_flagged(data, offset, 0), limit, "a write")

    cdef FutureBase write_flagged(self, object data, object offset, DWORD flags):
        cdef FutureBase future = self.begin(WRITE)
        cdef int64_t at
        future.flags = flags
        try:
            at = self.check_offset(offset)
            future.pin(data, False)
            if self.is_too_long(future, future.size):
                return future
            if future.size == 0 and not self.takes_empty():
                future.release_buffer()
                future.settle(FINISHED, 0)
                return future
            self.rewind()  # a reader may have read in advance what this changes
            if self.appends:
                future.at = TPIO_APPEND
            else:
                future.at = self.place(future, at)
            return self.begin_write(future)
        except BaseException:
            future.release_buffer()
            future.settle(CANCELLED, None)
            raise

    def readexactly(self, n, *, timeout=None):
        """Reads n bytes, however many receives that takes. Future of bytes; IncompleteReadError when the stream ends before,
        with what there was in its `partial`.

        This and the other readers are for streams of bytes: byte pipes, stream sockets, files from their position on. They
        take turns, in the order of the calls. A cancel, a time-out or an error loses nothing: what has been received is for
        the next reader or read.
        """
        cdef double limit = time_limit(timeout)
        return in_time(self.begin_reader(Reader.exactly(n)), limit, "readexactly()")

    def readuntil(self, separator=b"\n", *, limit=65536, timeout=None):
        """Reads up to and including the separator, a bytes-like object. Future of bytes; IncompleteReadError when the stream
        ends before; LimitOverrunError when `limit` bytes have come without it, which are then for the next read."""
        cdef double seconds = time_limit(timeout)
        return in_time(self.begin_reader(Reader.until(separator, limit, False)), seconds, "readuntil()")

    def readline(self, *, limit=65536, timeout=None):
        """Reads a line with its b"\\n", which the last line of a stream may lack. Future of bytes: b"" at the end;
        LimitOverrunError for a line of more than `limit` bytes. `for line in stream` and `async for` do the same."""
        cdef double seconds = time_limit(timeout)
        return in_time(self.begin_reader(Reader.until(b"\n", limit, True)), seconds, "readline()")

    def __iter__(self):
        return self

    def __next__(self):
        line = self.readline().result()
        if not line:
            raise StopIteration
        return line

    def __aiter__(self):
        return self

    async def __anext__(self):
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    # For tpio.aio: with the flags of recv and send (MSG_*), which mean nothing to what is not a socket.

    def _recv(self, n, DWORD flags):
        return self.read_flagged(n, None, flags)

    def _recv_into(self, buffer, DWORD flags):
        return self.read_into_flagged(buffer, None, flags)

    def _send(self, data, DWORD flags):
        return self.write_flagged(data, None, flags)

    def poll_read(self, *, timeout=None):
        """Returns a Future of None that ends when a read would not wait. Takes nothing away.

        Sockets: there is data, a datagram, a connection to accept, or the end. Pipes: there is data, or the end; an empty
        message that has arrived counts, and stays for the next read. A poll looks at the state as it is when it begins: poll
        again after a read. Fails with an OSError when the connection was reset or its connect failed, and is cancelled when
        the socket is closed. Done callbacks run on a thread of the pool.

        Raises ValueError for files, which are always readable.
        """
        cdef double limit = time_limit(timeout)
        cdef FutureBase future
        self.require_bound()
        if self.has_leftover:
            return done_future(None)
        if self.type == FILE_TYPE_SOCKET:
            return in_time(self.poll(TPIO_POLL_READABLE), limit, "poll_read()")
        if self.type != FILE_TYPE_PIPE:
            raise ValueError("only pipes and sockets can be polled")
        future = self.begin(CUSTOM)
        future.extra = _poll_result
        return in_time(self.receive(future, b"", 0, NO_OFFSET), limit, "poll_read()")

    def poll_write(self, *, timeout=None):
        """Returns a Future of None that ends when a send would not wait because there is room.

        A socket that is connecting becomes writable when the connection is made. Errors, cancel and callbacks are as for
        poll_read.

        Raises ValueError for what is not a socket: Windows cannot tell when a pipe has room. A write waits for that.
        """
        cdef double limit = time_limit(timeout)
        self.require_bound()
        if self.type != FILE_TYPE_SOCKET:
            raise ValueError("only sockets can be polled for writing: write, and wait for the future")
        return in_time(self.poll(TPIO_POLL_WRITABLE), limit, "poll_write()")

    cdef FutureBase poll(self, DWORD events):
        cdef FutureBase future = self.begin(POLLED)
        future.flags = events
        future.submitted = True
        Py_INCREF(future)  # the system's
        return future.started(submit_poll(future))

    def ioctl(self, code, data=b"", output_size=0, *, timeout=None):
        """DeviceIoControl: sends a copy of `data`, a bytes-like object, with the control code. Future of the bytes put out,
        at most output_size; TruncatedError when that was only a part. Can be cancelled, as far as the driver lets it be.

        https://learn.microsoft.com/windows/win32/api/ioapiset/nf-ioapiset-deviceiocontrol
        """
        cdef double limit = time_limit(timeout)
        cdef DWORD number = flags_of(code, "code"), input_size
        cdef Py_ssize_t size = as_size(output_size)
        cdef core.tpio_status status
        cdef FutureBase future
        data = copy_of(data)
        if size > LARGEST or len(data) > LARGEST:
            raise ValueError("the data of a device control is at most 2 GiB")
        buffer = new_bytes(size)
        future = self.begin(OUTPUT)
        future.buffer = buffer
        future.extra = data  # kept as long as the operation
        input_size = len(data)
        future.submitted = True
        Py_INCREF(future)
        status = core.tpio_ioctl(&future.op, self.native, number, PyBytes_AS_STRING(data), input_size,
                                 PyBytes_AS_STRING(buffer), <DWORD>size)
        return in_time(future.started(status), limit, "ioctl()")

    def _connect_pipe(self, finish):
        """ConnectNamedPipe: ends when a client has opened this instance.

        https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-connectnamedpipe
        """
        cdef FutureBase future = self.begin(CUSTOM)
        future.extra = finish
        future.submitted = True
        Py_INCREF(future)  # the system's
        return future.started(core.tpio_connect_pipe(&future.op, self.native))

    # ---- the end ----------------------------------------------------------------------------------------------------

    def cancel(self):
        """Asks the system to cancel every pending operation. Each future ends when the system says so.

        https://learn.microsoft.com/windows/win32/fileio/cancelioex-func
        """
        if self.native == NULL:
            return
        InterlockedIncrement(&self.cancelling)
        try:
            with nogil:
                core.tpio_handle_cancel(self.native)
            cancel_pumps(self)
        finally:
            InterlockedIncrement(&self.generation)  # in this order: was_asked_to_end sees one or the other
            InterlockedDecrement(&self.cancelling)

    def close(self):
        """Refuses new operations, cancels the pending ones and closes the handle. Idempotent.

        Returns when the pending futures have ended (cancelled), which is at once as far as the system is concerned; a
        device that does not heed cancels is left to end by itself after five seconds. Inside a callback it does not wait.
        """
        cdef HANDLE plain
        with cython.critical_section(self):
            plain, self.plain = self.plain, NULL
        if plain != NULL:
            CloseHandle(plain)
        if self.native == NULL:
            return
        try:
            # What stays open is to be free of our port, of which nothing may be left that a completion could come to.
            if self.lent and self.owner_has_it():
                self.give_up()
        finally:
            with nogil:
                core.tpio_handle_close(self.native)
            try:
                cancel_pumps(self)
            finally:
                self._let_go(self.take_owner())

    cdef bint owner_has_it(self):
        """Is the value still that of the handle that was bound? The owner may have closed it, and it be another's by now. Of a
        number without an owner the program knows that."""
        try:
            return self.owner is None or handle_value(self.owner) == self.fileno()
        except (OSError, ValueError):
            return False

    cdef HANDLE give_up(self) except? NULL:
        """Unbinds the system's handle and leaves it open. INVALID_HANDLE_VALUE: it was closed."""
        cdef HANDLE file
        if self.pending != 0:  # the port can be taken off when nothing is pending any more
            self.cancel()
            self.await_pending()
        with nogil:
            file = core.tpio_handle_detach(self.native)
        return file

    cdef object take_owner(self):
        owner = None
        with cython.critical_section(self):
            owner, self.owner = self.owner, None
        return owner

    def _let_go(self, owner):
        with cython.critical_section(self):
            self.unclaimed = None
            self.has_leftover = False
        self.await_pending()
        if owner is not None and self.owns:
            owner.close()

    cdef void await_pending(self) noexcept:
        """Waits for what has been cancelled, which a device may not heed: for a bounded time."""
        cdef unsigned long long end
        cdef LONG pending
        if self.pending != 0 and not inside_callback():
            end = GetTickCount64() + CLOSE_PATIENCE
            begin_impatience()  # of a loop that waits here, for one
            with nogil:
                while True:
                    pending = self.pending
                    if pending <= 0 or GetTickCount64() >= end:
                        break
                    WaitOnAddress(&self.pending, &pending, sizeof(LONG), 100)
            end_impatience()

    def detach(self):
        """Gives the system's handle up and returns it, open: pending operations are cancelled and this object is closed.

        Since Windows 8.1 the handle is free of tpio's completion port, if nothing was pending, and may be bound again, here
        or in another process: see docs/handover.md. Inside a callback what is pending is not waited for. An object that was
        taken over and cannot be parted from its handle is closed, and what is returned is a duplicate.
        """
        cdef HANDLE file
        cdef object value
        self.require_open()
        with cython.critical_section(self):
            file, self.plain = self.plain, NULL
        if file != NULL:
            return <uintptr_t>file
        self.require_bound()
        file = self.give_up()
        if file == INVALID_HANDLE_VALUE:
            raise ValueError("I/O operation on closed handle")
        value = <uintptr_t>file
        owner = self.take_owner()
        try:
            if owner is not None and self.owns:
                value = duplicate_handle(value)
        finally:
            self._let_go(owner)
        self.owns = False
        return value

    def share(self, pid):
        """Gives the handle to another process, and up here: the int that it has there, for tpio.Handle(...) or tpio.Pipe(...).

        pid: of a process that this one may open with PROCESS_DUP_HANDLE. See detach() and docs/handover.md.
        https://learn.microsoft.com/windows/win32/api/handleapi/nf-handleapi-duplicatehandle
        """
        self.require_open()
        if self.has_leftover:
            raise ValueError("data that was received has not been read")
        owns = self.owns
        process = open_process(operator_index(pid))
        try:
            value = duplicate_handle(self.fileno(), process=process)
        finally:
            close_handle(process)
        number = self.detach()
        if owns:
            close_handle(number)
        return value

    def fileno(self):
        """The HANDLE or SOCKET, as an int; ValueError when closed."""
        cdef HANDLE file = self.plain  # once, and the other: it may be closed meanwhile
        if file == NULL and self.native != NULL:
            file = core.tpio_handle_file(self.native)
        if file == NULL or file == INVALID_HANDLE_VALUE:
            raise ValueError("I/O operation on closed handle")
        return <uintptr_t>file

    @property
    def pending_bytes(self):
        """The bytes of the writes that have not ended: what a program that writes without waiting may look at, to slow down."""
        return self.outgoing

    @property
    def closed(self):
        """True after close() or detach(), or the close of its pool."""
        return self.is_closed()

    @property
    def pool(self):
        """The pool that it is bound to."""
        return self.pool_

    @property
    def _overlapped(self):
        """For the façade: False for the end of a pipe that is for a child process."""
        return self.native != NULL

    def __enter__(self):
        self.require_open()
        return self

    def __exit__(self, *exc_info):
        self.close()

    async def __aenter__(self):
        return self.__enter__()

    async def __aexit__(self, *exc_info):
        self.close()

    def __repr__(self):
        try:
            where = f"handle={self.fileno():#x}"
        except ValueError:
            where = "closed"
        return f"<tpio.{type(self).__name__} {where}>"


def _poll_result(FutureBase future, error, count):
    """A read of nothing: an end of the file is readable, and so is a message that did not fit."""
    cdef Handle handle = future.handle
    cdef DWORD available = 0
    if error not in (0, ERROR_MORE_DATA, ERROR_BROKEN_PIPE, ERROR_HANDLE_EOF, ERROR_PIPE_NOT_CONNECTED):
        raise winerror(error)
    if error != 0:
        return None
    if handle.is_message_pipe():  # it has taken an empty message, which is for the next read
        handle.keep_first(b"", False)
    elif PeekNamedPipe(core.tpio_handle_file(handle.native), NULL, 0, NULL, &available, NULL) and available == 0:
        return future.go_on(handle.receive_again(future))  # the peer has written nothing
    return None
