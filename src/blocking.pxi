# Threads that wait for a future.
#
# A blocked thread waits on an address. The main thread waits on an event instead, made once, and on the interpreter's SIGINT
# event, since Python's locks cannot be interrupted on Windows before 3.14.

from time import monotonic


# A thread blocked in result(); lives on that thread's stack, linked while it waits.
cdef struct Blocked:
    HANDLE event                # NULL: waits on the address of signalled
    LONG signalled
    Blocked *next


cdef void signal_blocked(Blocked *blocked) noexcept:
    """Inside the future's critical section. Once signalled, the thread may be gone, and its stack with it."""
    cdef HANDLE event = blocked.event
    blocked.signalled = True
    if event != NULL:
        SetEvent(event)
    else:
        WakeByAddressAll(&blocked.signalled)


cdef unsigned long main_thread = threading.main_thread().ident


cdef int take_blocked(FutureBase future, Blocked *blocked) noexcept:
    """Unlinks a waiter that was not signalled. Inside the future's critical section."""
    cdef Blocked **link = &future.blocked
    while link[0] != NULL:
        if link[0] == blocked:
            link[0] = blocked.next
            return 1
        link = &link[0].next
    return 0


cdef DWORD milliseconds_left(double deadline) except? 0xFFFFFFF0:
    cdef double left = deadline - monotonic()
    if left <= 0:
        return 0
    if left >= 4000000:
        return 4000000000
    return <DWORD>(left * 1000) + 1


cdef bint block_on(FutureBase future, object timeout, bint consumes=True) except -1:
    """Blocks until the future has ended; False: the timeout (seconds; None: none) has passed.

    consumes: whoever blocks wants the result, so that it must not be given back to the handle."""
    cdef DWORD left = INFINITE
    cdef Blocked blocked
    cdef double deadline = 0, seconds
    cdef bint ended
    if timeout is not None:
        seconds = timeout
        if seconds != seconds:
            raise ValueError("the timeout is not a number")
        if seconds <= 0:
            return future.has_ended()
        deadline = monotonic() + seconds
    blocked.event = event_of_main_thread()
    while True:
        if blocked.event != NULL:
            PyErr_CheckSignals()
        if timeout is not None:
            left = milliseconds_left(deadline)
        blocked.signalled = False
        with cython.critical_section(future):
            ended = future.state >= CANCELLED
            future.shared = future.shared or consumes
            if not ended:
                blocked.next = future.blocked
                future.blocked = &blocked
        if ended:
            return True
        future.take_from_port()
        # A look first: that may have run Python code, which may have blocked, too, and so have taken the signal of the event.
        if not blocked.signalled:
            with nogil:
                if blocked.event != NULL:
                    wait_or_interrupt(blocked.event, left)
                else:
                    wait_for_signal(&blocked, left)
        with cython.critical_section(future):
            if not blocked.signalled:
                take_blocked(future, &blocked)
        if blocked.signalled:
            if blocked.event != NULL:
                ResetEvent(blocked.event)  # in case that something else has ended the wait
            return True
        if timeout is not None and milliseconds_left(deadline) == 0:
            if blocked.event != NULL:
                PyErr_CheckSignals()
            return future.state >= CANCELLED


cdef HANDLE event_of_main_thread() except? NULL:
    """The event on which the main thread waits; NULL on others."""
    cdef core.tpio_thread *thread
    if PyThread_get_thread_ident() != main_thread or _PyOS_SigintEvent() == NULL:
        return NULL
    thread = core.tpio_thread_current()
    if thread != NULL and thread.event == NULL:
        thread.event = CreateEventW(NULL, False, False, NULL)
    if thread == NULL or thread.event == NULL:
        raise MemoryError("no event to wait on")
    return thread.event


cdef void wait_or_interrupt(HANDLE event, DWORD milliseconds) noexcept nogil:
    """Until the event, Ctrl-C, or the time. The caller then checks for signals."""
    cdef HANDLE events[2]
    events[0] = event
    events[1] = _PyOS_SigintEvent()
    if WaitForMultipleObjects(2, events, False, milliseconds) == WAIT_OBJECT_0 + 1:
        ResetEvent(events[1])  # after the wait: a signal that comes before it must end it


cdef void wait_for_signal(Blocked *blocked, DWORD milliseconds) noexcept nogil:
    cdef LONG zero = 0
    while not blocked.signalled:
        if not WaitOnAddress(&blocked.signalled, &zero, sizeof(LONG), milliseconds):
            break  # the time is up


class _Event:
    """threading.Event for the waiters of concurrent.futures.wait and as_completed, so that they react to Ctrl-C too."""

    def __init__(self, is_set):
        self._future = done_future(None) if is_set else new_future(PROMISE)

    def is_set(self):
        return self._future.done()

    def set(self):
        self._future._end(FINISHED, None)

    def clear(self):
        if self._future.done():
            self._future = new_future(PROMISE)

    def wait(self, timeout=None):
        return block_on(self._future, timeout)


class _Waiters(list):
    """The waiters of a future. Those of concurrent.futures wait on an event that we can replace while nobody waits yet:
    they are appended with the conditions of all futures held."""

    def append(self, waiter):
        if type(getattr(waiter, "event", None)) is threading.Event:
            waiter.event = _Event(waiter.event.is_set())
        super().append(waiter)
