# Threads that wait for a future.
#
# A blocked thread waits on an event of its own, made once for each thread. The main thread waits on the interpreter's
# SIGINT event too, since Python's locks cannot be interrupted on Windows before 3.14.

from time import monotonic


# A thread blocked in result(); lives on that thread's stack, linked while it waits.
cdef struct Blocked:
    HANDLE event
    bint signalled
    Blocked *next


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
    cdef core.tpio_thread *thread = core.tpio_thread_current()
    cdef HANDLE events[2]
    cdef DWORD count = 1, left = INFINITE
    cdef Blocked blocked
    cdef double deadline = 0
    cdef bint ended
    if timeout is not None:
        if timeout <= 0:
            return future.state >= CANCELLED
        deadline = monotonic() + <double>timeout
    if thread != NULL and thread.event == NULL:
        thread.event = CreateEventW(NULL, False, False, NULL)
    if thread == NULL or thread.event == NULL:
        raise MemoryError("no event to wait on")
    events[0] = thread.event
    if PyThread_get_thread_ident() == main_thread:
        events[1] = _PyOS_SigintEvent()
        if events[1] != NULL:
            count = 2
    while True:
        if count == 2:
            ResetEvent(events[1])
            PyErr_CheckSignals()
        if timeout is not None:
            left = milliseconds_left(deadline)
        ResetEvent(events[0])  # of an earlier wait that timed out just when it was signalled
        blocked.event = events[0]
        blocked.signalled = False
        with cython.critical_section(future):
            ended = future.state >= CANCELLED
            future.shared = future.shared or consumes
            if not ended:
                blocked.next = future.blocked
                future.blocked = &blocked
        if ended:
            return True
        with nogil:
            WaitForMultipleObjects(count, events, False, left)
        with cython.critical_section(future):
            if not blocked.signalled:
                take_blocked(future, &blocked)
        if blocked.signalled:
            return True
        if count == 2:
            PyErr_CheckSignals()
        if timeout is not None and milliseconds_left(deadline) == 0:
            return future.state >= CANCELLED


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
