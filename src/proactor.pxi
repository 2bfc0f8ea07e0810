# What tpio.aio's proactor is made of: the inbox in which a loop waits for its completions.
#
# An asyncio loop that runs on tpio does not wait in a selector or a completion port but on one event. Completions are put
# in its inbox by whoever delivers them, the first of a batch sets the event, and the loop, once awake, gives each
# asyncio future its result.


cdef extern from "tpio_win32.h" nogil:
    ctypedef struct OVERLAPPED:
        pass
    bint HasOverlappedIoCompleted(OVERLAPPED *overlapped)

cdef enum:
    OVERDUE_MS = 20  # for a completion on its way: more than it ever takes, unless the pool has no thread for it


cdef class ProactorInbox(LoopInbox):
    """Completions for one loop. kick() and what delivers are for any thread, the rest for the loop's."""

    cdef Port port
    cdef list urgent             # Sinks, few: a loop that is busy looks whether their operations have ended

    def __cinit__(self):
        self.arrived = []
        self.urgent = []
        self.port.event = CreateEventW(NULL, False, False, NULL)
        if self.port.event == NULL:
            raise winerror(GetLastError())

    def __dealloc__(self):
        if self.port.event != NULL:
            self.close()
            CloseHandle(self.port.event)

    cdef int wake(self) except -1:
        SetEvent(self.port.event)
        return 0

    def kick(self):
        """Makes select() return: call_soon_threadsafe has put something in the loop."""
        cdef bint kick
        with cython.critical_section(self):
            kick = not self.woken
            self.woken = True
        if kick:
            SetEvent(self.port.event)

    cdef void conclude(self) noexcept:
        """Ends the futures whose operations have come to the port; their Sinks are then in `arrived`. Any thread."""
        cdef core.tpio_op *op = core.tpio_queue_take(&self.port.queue)
        cdef FutureBase future
        while op != NULL:
            future = future_of(op)
            op = op.next
            future.conclude()
            if future.callbacks is not None and future.state >= CANCELLED:
                hand_over(future, None)
            Py_DECREF(future)  # the system's

    cdef int await_event(self, DWORD milliseconds) except -1:
        """Until something comes, the time is up, or Ctrl-C."""
        if PyThread_get_thread_ident() == main_thread and _PyOS_SigintEvent() != NULL:
            PyErr_CheckSignals()
            with nogil:
                wait_or_interrupt(self.port.event, milliseconds)
            PyErr_CheckSignals()
        else:
            with nogil:
                WaitForMultipleObjects(1, &self.port.event, False, milliseconds)
        return 0

    cdef int await_overdue(self) except -1:
        """What is urgent and has ended, but is still on its way through a thread of the pool, is waited for."""
        cdef Sink sink
        cdef FutureBase future
        cdef int patience = OVERDUE_MS
        for sink in self.urgent:
            future = sink.future
            while (patience > 0 and future.state < CANCELLED and future.submitted and
                   HasOverlappedIoCompleted(<OVERLAPPED *>&future.op)):
                self.await_event(1)
                self.conclude()
                patience -= 1
        urgent, self.urgent = self.urgent, []
        for sink in urgent:
            if not sink.cancelled and sink.future.state < CANCELLED:
                self.urgent.append(sink)
        return 0

    def select(self, timeout):
        """Waits at most `timeout` seconds (None: for ever) and returns the Sinks that have come, oldest first. Reacts to
        Ctrl-C in the main thread."""
        cdef list arrived
        if timeout is not None and timeout < 0:
            raise ValueError("negative timeout")
        self.conclude()
        if self.urgent and timeout is not None and timeout <= 0:
            self.await_overdue()
        elif not self.woken and not self.arrived:
            if timeout is None:
                self.await_event(INFINITE)
            elif timeout > 0:
                self.await_event(<DWORD>min(timeout * 1000 + 0.999, 4e9))
            self.conclude()
        with cython.critical_section(self):
            self.woken = False
            arrived = self.arrived
            if arrived:
                self.arrived = []
        return arrived

    def await_end(self, Sink sink, seconds):
        """Blocks the loop until an operation that is being cancelled has ended, and its handle has what it brought. False:
        it has not. It may be another loop's, which perhaps does not run."""
        cdef double deadline = monotonic() + seconds
        cdef ProactorInbox other = sink.inbox
        cdef DWORD left
        while True:
            self.conclude()
            if other is not self:
                other.conclude()
            if sink.future.state >= CANCELLED:
                return True
            left = milliseconds_left(deadline)
            if left == 0:
                return False
            # This loop's event alone: the other loop needs its own. And what ends elsewhere may come without one.
            self.await_event(min(left, 20 if other is self else 1))

    def close(self):
        """What completes from now on is delivered on the pool's threads."""
        InterlockedExchange(&self.port.closed, 1)
        self.conclude()
        while self.port.users != 0:
            with nogil:
                Sleep(0)


cdef class Sink(Awaiter):
    """Puts the end of a tpio future into a loop's inbox; takes the place of an await on it."""

    cdef readonly object target   # the asyncio future
    cdef readonly object source   # what the operation is on, as the program knows it

    def __init__(self, FutureBase future, ProactorInbox inbox, target, source):
        self.future = future
        self.inbox = inbox
        self.target = target
        self.source = source
        with cython.critical_section(future):
            self.handle = future.handle  # now: a future that has ended has let go of it

    def attach(self):
        """False: the future has ended already, and nothing will be put into the inbox."""
        if not self.attach_to(self.future):
            return False
        # From now on it comes to the port; in the moment before, it went to the others' queue, which is as good.
        self.future.owner.port = &(<ProactorInbox>self.inbox).port
        return True

    def hurry(self):
        """A loop that is busy shall not see later than it must that this has ended: while it has not, clients are
        turned away."""
        (<ProactorInbox>self.inbox).urgent.append(self)

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


cdef object inbox_of_this_thread():
    """Of the loop that runs on this thread and takes its completions itself; None: there is none."""
    loop = _get_running_loop()
    inbox = getattr(getattr(loop, "_proactor", None), "_inbox", None)
    return inbox if isinstance(inbox, ProactorInbox) else None


cdef int take_in(object inbox) except -1:
    """Ends what has come to a loop's port, or waits a moment for it."""
    cdef ProactorInbox where = inbox
    where.conclude()
    where.await_event(1)
    where.conclude()
    return 0
