# The pump: bytes from one handle to another, block by block, without Python in between. See tpio_pump.c.

cdef extern from "tpio_pump.h" nogil:
    enum:
        TPIO_PUMP_BLOCKS
    const uint64_t TPIO_PUMP_TO_THE_END
    ctypedef struct tpio_pump
    ctypedef core.tpio_tail_fn (*tpio_pump_fn)(tpio_pump *pump) noexcept nogil
    ctypedef struct tpio_pump_end:
        core.tpio_handle *handle
        BOOL is_socket
        BOOL is_file
        uint64_t offset
    ctypedef struct tpio_pump_block:
        const char *data
        size_t size
        size_t written
    ctypedef struct tpio_pump:
        tpio_pump_end from_ "from"
        tpio_pump_end to
        char *memory
        DWORD block_size
        uint64_t left
        tpio_pump_block blocks[2]
        int filled
        int first
        void *user
        tpio_pump_fn complete
        uint64_t moved
        DWORD error
        BOOL cancelled
    core.tpio_status tpio_pump_start(tpio_pump *pump, core.tpio_pool *pool)
    void tpio_pump_cancel(tpio_pump *pump)

cdef extern from "malloc.h" nogil:
    void *_aligned_malloc(size_t size, size_t alignment)
    void _aligned_free(void *memory)

cdef enum:
    PAGE = 4096               # what unbuffered files want of addresses
    LARGEST_BLOCK = 1 << 30


cdef core.tpio_tail_fn on_pumped(tpio_pump *native) noexcept nogil:
    cdef core.tpio_op *op = <core.tpio_op *>native.user
    op.error = native.error
    op.bytes = 0
    return on_complete(op)


cdef class Pump:
    """A pump under way. Its future has it, as what makes the result, until the end."""

    cdef tpio_pump native
    cdef Handle source
    cdef Handle sink
    cdef object head          # bytes that the source had received before
    cdef LONG generation      # of the sink's cancel() when it began
    cdef bint started
    cdef bint cancelled       # before that

    def __cinit__(self, Handle source, Handle sink, object n, Py_ssize_t block):
        cdef Handle handle
        source.require_bound()
        sink.require_bound()
        for handle in (source, sink):
            if handle.datagrams or handle.is_message_pipe():
                raise ValueError("what is pumped is a stream: datagrams and messages would lose their boundaries")
        self.source = source
        self.sink = sink
        self.native.memory = <char *>_aligned_malloc(TPIO_PUMP_BLOCKS * block, PAGE)
        if self.native.memory == NULL:
            raise MemoryError(f"no memory for {TPIO_PUMP_BLOCKS} blocks of {block} bytes")
        self.native.block_size = <DWORD>block
        self.native.left = TPIO_PUMP_TO_THE_END if n is None else <uint64_t>n
        self.native.complete = on_pumped
        fill_end(&self.native.from_, source)
        fill_end(&self.native.to, sink)
        if sink.appends:
            self.native.to.offset = TPIO_APPEND

    def __dealloc__(self):
        _aligned_free(self.native.memory)

    cdef int take_head(self) except -1:
        """What the source has received already is written first."""
        cdef uint64_t left = self.native.left
        cdef list parts = []
        try:
            while left > 0 and (kept := self.source.take_leftover(<Py_ssize_t>min(left, <uint64_t>PY_SSIZE_T_MAX))) is not None:
                parts.append(kept[0])
                left -= len(parts[-1])
            if not parts:
                return 0
            self.head = b"".join(parts)
        except BaseException:  # no memory
            for part in reversed(parts):
                self.source.keep_first(part, False)
            raise
        if self.native.left != TPIO_PUMP_TO_THE_END:
            self.native.left = left
        self.native.blocks[0].data = PyBytes_AS_STRING(self.head)
        self.native.blocks[0].size = PyBytes_GET_SIZE(self.head)
        self.native.filled = 1 if self.head else 0
        return 0

    cdef int put_back(self) except -1:
        """What was read and not written is for the source's next read."""
        cdef tpio_pump_block *block
        cdef list parts = []
        cdef int number
        for number in range(self.native.filled):
            block = &self.native.blocks[(self.native.first + number) % TPIO_PUMP_BLOCKS]
            parts.append(PyBytes_FromStringAndSize(block.data + block.written, block.size - block.written))
        self.native.filled = 0
        if parts and self.source.type != FILE_TYPE_DISK and not self.source.is_closed():
            self.source.keep_first(b"".join(parts), False)
        return 0

    cdef int hold(self) except -1:
        """While this has not ended, its ends know of it: they may have nothing pending that they could cancel."""
        cdef Handle handle
        InterlockedIncrement(&self.sink.pending)
        for handle in (self.source, self.sink):
            with cython.critical_section(handle):
                if handle.pumps is None:
                    handle.pumps = set()
                handle.pumps.add(self)
        return 0

    cdef void let_go(self) noexcept:
        """As hold; and the files' positions."""
        cdef Handle handle
        for handle in (self.source, self.sink):
            with cython.critical_section(handle):
                if handle.pumps is not None:
                    handle.pumps.discard(self)
        if self.source.type == FILE_TYPE_DISK:
            InterlockedExchangeAdd64(&self.source.position, self.native.moved)
        if self.sink.type == FILE_TYPE_DISK and not self.sink.appends:
            InterlockedExchangeAdd64(&self.sink.position, self.native.moved)
        if InterlockedDecrement(&self.sink.pending) == 0 and self.sink.is_closed():
            WakeByAddressAll(&self.sink.pending)

    cdef bint sink_was_asked_to_end(self):
        """As FutureBase.was_asked_to_end, which is about the source."""
        cdef Handle sink = self.sink
        if sink.cancelling != 0 or core.tpio_pool_closing(sink.pool_.native):
            return True
        return self.generation != sink.generation or sink.is_closed()

    def __call__(self, FutureBase future, DWORD error, count):
        """The result."""
        try:
            self.put_back()
        finally:
            self.let_go()
        if error == ERROR_OPERATION_ABORTED and (self.native.cancelled or self.sink_was_asked_to_end()):
            return _CANCEL
        if error != 0:
            raise winerror(error)
        return self.native.moved

    def cancel(self):
        cdef bint started
        with cython.critical_section(self):
            started = self.started
            self.cancelled = True
        if started:
            with nogil:
                begin_call()
                tpio_pump_cancel(&self.native)
                end_call()
        return True

    cdef core.tpio_status start(self):
        """Its ends know it by now, and may be cancelled or closed at the same time."""
        cdef core.tpio_status status = tpio_pump_start(&self.native, self.source.pool_.native)
        cdef bint cancelled
        if status == TPIO_PENDING:
            with cython.critical_section(self):
                self.started = True
                cancelled = self.cancelled
            if cancelled or self.sink.is_closed():  # before it knew us: a source says so when it is read from
                self.cancel()
        return status


cdef int cancel_pumps(Handle handle) except -1:
    cdef Pump pump
    cdef list pumps = None
    if handle.pumps is None:
        return 0
    with cython.critical_section(handle):
        pumps = list(handle.pumps)
    for pump in pumps:
        pump.cancel()
    return 0


cdef void fill_end(tpio_pump_end *end, Handle handle) noexcept:
    end.handle = handle.native
    end.is_socket = handle.type == FILE_TYPE_SOCKET
    end.is_file = handle.type == FILE_TYPE_DISK
    handle.rewind()
    end.offset = <uint64_t>handle.position if end.is_file else 0


def pump_between(Handle source, Handle sink, n, block):
    """For the façade: see tpio.pump."""
    cdef Py_ssize_t size = as_size(block)
    cdef FutureBase future
    cdef core.tpio_status status
    cdef Pump pump
    if n is not None:
        n = as_size(n)
    if size == 0 or size > LARGEST_BLOCK:
        raise ValueError("a block is of 1 byte to 1 GiB")
    pump = Pump(source, sink, n, size)
    future = source.begin(CUSTOM)
    try:
        pump.hold()
        pump.generation = sink.generation
        pump.native.user = &future.op
        future.on_cancel = pump.cancel
        pump.take_head()
    except BaseException:
        pump.let_go()
        future.settle(CANCELLED, None)
        raise
    future.extra = pump
    Py_INCREF(future)  # the system's
    status = pump.start()
    if status == TPIO_CLOSED:
        pump.put_back()
        pump.let_go()
    return future.started(status)
