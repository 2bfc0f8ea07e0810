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
        PyGILState_Ensure()  # not released: the state stays
        with gil:
            thread.attached = PyThreadState_Get()
        PyEval_SaveThread()
    return True


cdef void leave_python() noexcept nogil:
    InterlockedDecrement(&inside)


cdef DWORD __stdcall reap(void *state) noexcept nogil:
    InterlockedIncrement(&inside)
    if not exiting:
        tpio_drop_thread_state(<PyThreadState *>state)
    InterlockedDecrement(&inside)
    return 0


cdef extern from *:
    """
    /* Python's debugging allocators (-X dev) end the process when memory is freed under a state that is not the thread's
       own, as if nobody had the GIL. */
    static int tpio_needs_own_state(void)
    {
    #ifdef Py_GIL_DISABLED
        /* Without a GIL only the state that is attached gets its free lists emptied. So the state that ends is attached
           itself, unless there is something between Python and its ordinary allocator. */
        PyMemAllocatorEx allocator;
        PyMem_GetAllocator(PYMEM_DOMAIN_OBJ, &allocator);
        return allocator.ctx != NULL;
    #else
        return 1;
    #endif
    }

    /* Clears and frees the state of a thread that ends, on one that has none. */
    static void tpio_drop_thread_state(PyThreadState *state)
    {
        PyThreadState *own = state;

        if (tpio_needs_own_state()) {
            own = PyThreadState_New(PyThreadState_GetInterpreter(state));
            if (own == NULL)
                return; /* no memory: what there was stays allocated */
        }
        PyEval_RestoreThread(own);
        PyThreadState_Clear(state);
        if (own != state) {
            PyThreadState_Clear(own); /* before the other is deleted: that makes Python forget which is the thread's own */
            PyThreadState_Delete(state);
        }
        PyThreadState_DeleteCurrent();
    }
    """
    void tpio_drop_thread_state(PyThreadState *state) nogil


cdef void on_thread_exit(core.tpio_thread *thread) noexcept nogil:
    """The thread ends. It holds a lock of the system's (the loader's, or that of fiber-local storage), for which a thread
    that has the GIL may be waiting, or, without a GIL, one for which the garbage collector waits that stops the world. So
    another thread, short-lived, attaches and drops the state."""
    cdef HANDLE reaper
    if thread.attached == NULL or exiting:
        return
    reaper = CreateThread(NULL, 65536, <void *>reap, thread.attached, 0, NULL)
    if reaper != NULL:
        CloseHandle(reaper)
    thread.attached = NULL


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
            core.tpio_pool_close(pool.native)
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
    """Until no thread is inside Python on our behalf; one that is blocked in a user's function may never leave."""
    cdef LONG seen
    with nogil:
        while True:
            seen = inside
            if seen <= (1 if inside_callback() else 0) or GetTickCount64() >= deadline:
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
