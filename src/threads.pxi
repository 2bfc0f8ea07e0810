# The pool's threads and the interpreter.
#
# A pool thread makes a Python thread state when it first needs one and keeps it: `with gil` then only takes the GIL. The
# state must go when the thread goes, which is the system's decision, told to us by tpio_thread_on_exit.
#
# `inside` counts the threads that may touch Python. At exit the gate is shut first and then the count awaited; a thread
# that comes later leaves its completion undelivered, as nobody is left to want it.

cdef LONG inside = 0
cdef LONG exiting = 0


cdef bint enter_python() noexcept nogil:
    """Before `with gil` in a callback. False: the interpreter is going away, do not touch it."""
    cdef core.tpio_thread *thread
    InterlockedIncrement(&inside)
    if exiting:
        InterlockedDecrement(&inside)
        return False
    thread = core.tpio_thread_current()
    if thread != NULL and thread.pool != NULL and thread.attached == NULL:
        begin_reaper()
        await_endings()
        PyGILState_Ensure()  # not released: the state stays
        with gil:
            thread.attached = PyThreadState_Get()
        PyEval_SaveThread()
    return True


cdef void leave_python() noexcept nogil:
    InterlockedDecrement(&inside)


cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    /* To clear any state empties the free lists of the one that is attached. Not with Python's debugging allocators (-X
       dev): they end the process when memory is freed under a state that is not the thread's own. */
    static void tpio_empty_free_lists(PyThreadState *state)
    {
        PyMemAllocatorEx allocator;
        PyThreadState *other;

        PyMem_GetAllocator(PYMEM_DOMAIN_OBJ, &allocator);
        if (allocator.ctx != NULL)
            return;
        other = PyThreadState_New(PyThreadState_GetInterpreter(state));
        if (other == NULL)
            return;
        PyEval_RestoreThread(state);
        PyThreadState_Clear(other);
        PyEval_SaveThread();
        PyThreadState_Delete(other);
    }
    #endif

    /* Clears and frees the state of a thread that ends, on one that has none. Under a state of its own: Python 3.14 knows
       for each where its thread's stack ends, and destroys nothing when it seems to be at the end of it. */
    static void tpio_drop_thread_state(PyThreadState *state)
    {
        PyThreadState *own;

    #ifdef Py_GIL_DISABLED
        tpio_empty_free_lists(state);
    #endif
        own = PyThreadState_New(PyThreadState_GetInterpreter(state));
        if (own == NULL)
            return; /* no memory: what there was stays allocated */
        PyEval_RestoreThread(own);
        PyThreadState_Clear(state);
        PyThreadState_Clear(own); /* before the other is deleted: that makes Python forget which is the thread's own */
        PyThreadState_Delete(state);
        PyThreadState_DeleteCurrent();
    }
    """
    void tpio_drop_thread_state(PyThreadState *state) nogil


# A thread that ends holds a lock of the system's (the loader's, or that of fiber-local storage), for which a thread that has
# the GIL may be waiting, or, without a GIL, one for which the garbage collector waits that stops the world. So it does not
# drop its state itself: the reaper does, a thread of ours that stays.
#
# Without a GIL each object knows the thread that made it by an address that the system gives to the next new thread as soon
# as this one is gone. Two states with one address are two owners of the same reference counts. So a thread waits in its
# end until its state is dropped, and one that makes a state until no other is being dropped: within bounds, for what runs
# when a state is dropped (__del__ of a thread-local value) may itself wait for that lock.

cdef enum:
    END_PATIENCE = 100  # ms

cdef struct Remains:
    Remains *next
    PyThreadState *state

cdef void *remains = NULL      # states of threads that end
cdef LONG ending = 0           # how many there are, with the one that is being dropped
cdef LONG has_reaper = 0


cdef void begin_reaper() noexcept nogil:
    """Before any thread ends: one that is begun by a thread that holds the loader's lock would not run before it ends."""
    cdef HANDLE reaper
    if not InterlockedExchange(&has_reaper, 1):
        reaper = CreateThread(NULL, 65536, <void *>reap, NULL, 0, NULL)
        if reaper != NULL:
            CloseHandle(reaper)
        else:
            InterlockedExchange(&has_reaper, 0)  # the next thread tries again


cdef DWORD __stdcall reap(void *nothing) noexcept nogil:
    cdef Remains *first
    cdef Remains *each
    cdef void *none = NULL
    core.tpio_thread_current()  # its record is made now, when nobody waits for it
    while True:
        first = <Remains *>InterlockedExchangePointer(&remains, NULL)
        if first == NULL:
            WaitOnAddress(&remains, &none, sizeof(remains), INFINITE)
        while first != NULL:
            each, first = first, first.next
            InterlockedIncrement(&inside)
            if not exiting:
                tpio_drop_thread_state(each.state)
            InterlockedDecrement(&inside)
            free(each)
            if InterlockedDecrement(&ending) == 0:
                WakeByAddressAll(&ending)


cdef void await_endings() noexcept nogil:
    cdef unsigned long long now = GetTickCount64()
    cdef unsigned long long deadline = now + END_PATIENCE
    cdef LONG seen
    while TPIO_FREE_THREADED:
        seen = ending
        if seen == 0 or now >= deadline:
            break
        WaitOnAddress(&ending, &seen, sizeof(ending), <DWORD>(deadline - now))
        now = GetTickCount64()


cdef void on_thread_exit(core.tpio_thread *thread) noexcept nogil:
    cdef Remains *mine
    if thread.attached == NULL or exiting:
        return
    mine = <Remains *>malloc(sizeof(Remains))
    if mine != NULL:  # else the state stays allocated
        mine.state = <PyThreadState *>thread.attached
        thread.attached = NULL
        InterlockedIncrement(&ending)
        while True:
            mine.next = <Remains *>remains
            if InterlockedCompareExchangePointer(&remains, mine, mine.next) == mine.next:
                break
        WakeByAddressAll(&remains)
        await_endings()


core.tpio_thread_on_exit(on_thread_exit)


cdef bint inside_callback() noexcept nogil:
    cdef core.tpio_thread *thread = core.tpio_thread_current()
    return thread != NULL and thread.depth > 0


# ---- exit -----------------------------------------------------------------------------------------------------------
# threading._register_atexit, as in concurrent.futures: before the program's other threads are joined, since they may be
# blocked in result(). Every pool is closed, which ends every future; the last step shuts the gate for good.

_pools = WeakSet()
cdef bint shutting_down = False
cdef DWORD _EXIT_PATIENCE = 1500  # ms for each step


def _end_pools():
    """Closes every pool and waits, within bounds, until all futures have ended."""
    global shutting_down
    cdef PoolBase pool
    shutting_down = True
    pools = list(_pools)
    for pool in pools:
        with nogil:
            close_pool(pool.native)
    deadline = GetTickCount64() + _EXIT_PATIENCE
    for pool in pools:
        if not inside_callback():
            _drain_until(pool, deadline)
    _await_threads(deadline)


cdef int _drain_until(PoolBase pool, unsigned long long deadline) except -1:
    cdef unsigned long long now = GetTickCount64()
    cdef DWORD left = <DWORD>(deadline - now) if deadline > now else 0
    with nogil:
        core.tpio_pool_drain(pool.native, left)
    return 0


cdef int _await_threads(unsigned long long deadline) except -1:
    """Until no thread is inside Python on our behalf, or about to be; one that is blocked in a user's function may never
    leave."""
    cdef LONG own = 1 if inside_callback() else 0
    with nogil:
        while True:
            if (inside <= own and helpers <= own) or GetTickCount64() >= deadline:
                break
            Sleep(1)
    return 0


def _leave_interpreter():
    _end_pools()
    InterlockedExchange(&exiting, 1)
    _await_threads(GetTickCount64() + _EXIT_PATIENCE)


threading._register_atexit(_end_pools)
import atexit
atexit.register(_leave_interpreter)
