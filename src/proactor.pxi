# What tpio.aio's proactor is made of: the inbox in which a loop waits for its completions.
#
# An asyncio loop that runs on tpio does not wait in a selector or a completion port but on one event. Completions are put
# in its inbox by whoever delivers them, the first of a batch sets the event, and the loop, once awake, gives each
# asyncio future its result.


cdef class ProactorInbox(LoopInbox):
    """Completions for one loop. select() is for the loop's thread, wake() and the rest for any."""

    cdef HANDLE event

    def __cinit__(self):
        self.arrived = []
        self.event = CreateEventW(NULL, False, False, NULL)
        if self.event == NULL:
            raise winerror(GetLastError())

    def __dealloc__(self):
        if self.event != NULL:
            CloseHandle(self.event)

    cdef int wake(self) except -1:
        SetEvent(self.event)
        return 0

    def kick(self):
        """Makes select() return: call_soon_threadsafe has put something in the loop."""
        with cython.critical_section(self):
            kick = not self.woken
            self.woken = True
        if kick:
            SetEvent(self.event)

    def select(self, timeout):
        """Waits at most `timeout` seconds (None: for ever) and returns the Sinks that have come, oldest first. Reacts to
        Ctrl-C in the main thread."""
        cdef HANDLE events[2]
        cdef DWORD count = 1, left = INFINITE
        cdef list arrived
        if not self.woken and (timeout is None or timeout > 0):
            events[0] = self.event
            if timeout is not None:
                left = <DWORD>min(timeout * 1000 + 0.999, 4e9)
            if PyThread_get_thread_ident() == main_thread:
                events[1] = _PyOS_SigintEvent()
                if events[1] != NULL:
                    count = 2
                    ResetEvent(events[1])
                    PyErr_CheckSignals()
            with nogil:
                WaitForMultipleObjects(count, events, False, left)
            if count == 2:
                PyErr_CheckSignals()
        with cython.critical_section(self):
            if self.woken:
                ResetEvent(self.event)
                self.woken = False
            arrived = self.arrived
            if arrived:
                self.arrived = []
        return arrived


cdef class Sink(Awaiter):
    """Puts the end of a tpio future into a loop's inbox; takes the place of an await on it."""

    cdef readonly object target   # the asyncio future
    cdef readonly object source   # what the operation is on, as the program knows it

    def __init__(self, FutureBase future, ProactorInbox inbox, target, source):
        self.future = future
        self.inbox = inbox
        self.target = target
        self.source = source

    def attach(self):
        """False: the future has ended already, and nothing will be put into the inbox."""
        return self.attach_to(self.future)

    @property
    def operation(self):
        return self.future

    @property
    def reads(self):
        """The handle whose next read or accept must wait for this one's end, or None."""
        if self.future.kind in (READ, READ_INTO, DATAGRAM, DATAGRAM_INTO, CUSTOM):
            return self.handle
        return None

    def drop(self):
        """The asyncio future was cancelled. The operation is cancelled too, and what it brings goes back to its handle."""
        cdef FutureBase future = self.future
        cdef bint ended
        if self.cancelled:
            return
        self.cancelled = True
        with cython.critical_section(future):
            ended = future.state >= CANCELLED
            if not ended and not future.shared:
                future.abandoned = True
        if ended:
            self.take_back()
        else:
            future.ask_to_cancel()

    def wait_end(self, seconds):
        """Blocks until the operation, which is being cancelled, has ended, and its handle has what it brought."""
        return block_on(self.future, seconds, False)
