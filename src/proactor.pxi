# What tpio.aio's proactor is made of: the inbox in which a loop waits for its completions.
#
# An asyncio loop that runs on tpio does not wait in a selector or a completion port but on an address, until something comes
# to its port (see delivery.pxi) or to its inbox. The first of a batch wakes it, and the loop, once awake, ends the operations
# itself, resumes the tasks that await them and gives each asyncio future its result.


cdef extern from "tpio_win32.h" nogil:
    ctypedef struct OVERLAPPED:
        pass
    bint HasOverlappedIoCompleted(OVERLAPPED *overlapped)

cdef enum:
    OVERDUE_MS = 20  # for a completion on its way: more than it ever takes, unless the pool has no thread for it


# Ctrl-C has to wake the main thread, whose loop sleeps on an address. So a wait of the thread pool's watches the event that the
# interpreter sets; it is armed anew when the main thread has seen that.

cdef extern from "tpio_win32.h" nogil:
    void *CreateThreadpoolWait(void *callback, void *context, void *environ)
    void SetThreadpoolWait(void *wait, HANDLE handle, FILETIME *timeout)
    void CloseThreadpoolWait(void *wait)

cdef void *interrupt_watch = NULL
cdef HANDLE interrupt_event = NULL     # the interpreter's, by a handle that it does not close
cdef LONG interrupted = 1              # nothing watches it: it has been set, or the watch has not begun
cdef Port *sleeping_port = NULL        # the main thread's


cdef int watch_interrupts() except -1:
    global interrupt_watch, interrupt_event
    cdef HANDLE event = _PyOS_SigintEvent(), copy = NULL
    if interrupt_watch != NULL or event == NULL:
        return 0
    if not DuplicateHandle(GetCurrentProcess(), event, GetCurrentProcess(), &copy, 0, False, DUPLICATE_SAME_ACCESS):
        raise winerror(GetLastError())
    watch = CreateThreadpoolWait(<void *>on_interrupt, NULL, NULL)
    if watch == NULL:
        error = GetLastError()
        CloseHandle(copy)
        raise winerror(error)
    if InterlockedCompareExchangePointer(&interrupt_watch, watch, NULL) != NULL:  # another thread was faster
        CloseThreadpoolWait(watch)
        CloseHandle(copy)
    else:
        interrupt_event = copy
    return 0


cdef void __stdcall on_interrupt(void *instance, void *context, void *wait, DWORD result) noexcept nogil:
    cdef Port *port
    InterlockedExchange(&interrupted, 1)
    port = sleeping_port
    if port != NULL:
        wake_port(port)


cdef int heed_interrupts() except -1:
    """On the main thread. The event is reset before the look: what comes later sets it again."""
    if interrupted and interrupt_event != NULL:
        ResetEvent(interrupt_event)
        InterlockedExchange(&interrupted, 0)
        SetThreadpoolWait(interrupt_watch, interrupt_event, NULL)
    PyErr_CheckSignals()
    return 0


cdef class ProactorInbox(LoopInbox):
    """Completions for one loop. kick() and what delivers are for any thread, the rest for the loop's."""

    cdef Port *port
    cdef list urgent             # Sinks, few: a loop that is busy looks whether their operations have ended
    cdef bint closed

    def __cinit__(self):
        self.urgent = []
        self.port = new_port()
        if self.port == NULL:
            raise MemoryError("no memory for a loop's port")
        watch_interrupts()

    def __dealloc__(self):
        if self.port != NULL:
            self.close()
            InterlockedExchange(&self.port.taken, 0)

    def set_loop(self, loop):
        """Its tasks that await tpio's futures are resumed by select()."""
        self.loop_ref = ref(loop)
        loop._tpio_inbox = self

    cdef int wake(self) except -1:
        if self.closed:
            self.forget()
        else:
            wake_port(self.port)
        return 0

    def kick(self):
        """Makes select() return: call_soon_threadsafe has put something in the loop."""
        cdef bint kick
        with cython.critical_section(self):
            kick = not self.woken
            self.woken = True
        if kick:
            wake_port(self.port)

    cdef void conclude(self) noexcept:
        """Ends the futures whose operations have come to the port; their Sinks have then arrived. Any thread."""
        conclude_port(self.port)

    cdef int await_port(self, DWORD milliseconds, bint heed_kicks) except -1:
        """Until something comes to the port (or, with heed_kicks, to the inbox), the time is up, or Ctrl-C."""
        global sleeping_port
        cdef LONG asleep = 1
        cdef bint is_main = PyThread_get_thread_ident() == main_thread
        if is_main:
            sleeping_port = self.port
            heed_interrupts()
        # First it says so, then it looks: who puts something in does it in the other order.
        InterlockedExchange(&self.port.asleep, 1)
        if self.port.queue.top == NULL and not (heed_kicks and self.woken) and not (is_main and interrupted):
            with nogil:
                WaitOnAddress(&self.port.asleep, &asleep, sizeof(LONG), milliseconds)
        InterlockedExchange(&self.port.asleep, 0)
        if is_main:
            heed_interrupts()
            sleeping_port = NULL
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
                self.await_port(1, False)
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
        cdef list arrived = []
        cdef Awaiter each
        if timeout is not None and timeout < 0:
            raise ValueError("negative timeout")
        self.conclude()
        if self.urgent and timeout is not None and timeout <= 0:
            self.await_overdue()
        elif not self.woken and self.first is None:
            if timeout is None:
                self.await_port(INFINITE, True)
            elif timeout > 0:
                self.await_port(<DWORD>min(timeout * 1000 + 0.999, 4e9), True)
            self.conclude()
        with cython.critical_section(self):
            self.woken = False
            each = self.first
            while each is not None:
                arrived.append(each)  # without memory they stay for the next time
                each = each.next_arrived
            each, self.first, self.last = self.first, None, None
        drop_chain(each)
        if arrived:
            self.resume_tasks(arrived)
        return arrived

    cdef int resume_tasks(self, list arrived) except -1:
        """Leaves only the Sinks in the list."""
        cdef Awaiter awaiter
        cdef Py_ssize_t sinks = 0
        cdef object loop = None
        for awaiter in arrived:
            if type(awaiter) is Sink:
                arrived[sinks] = awaiter
                sinks += 1
            else:
                if loop is None:
                    loop = self.loop_ref()
                loop.call_soon(awaiter.callback, awaiter, context=awaiter.context)
        del arrived[sinks:]
        return 0

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
            # At this loop's port alone: the other loop sleeps at its own. And what ends elsewhere may come to none.
            self.await_port(min(left, 20 if other is self else 1), False)

    def close(self):
        """What completes from now on is delivered on the pool's threads."""
        self.closed = True
        InterlockedExchange(&self.port.closed, 1)
        self.conclude()
        self.forget()
        self.urgent = []


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
