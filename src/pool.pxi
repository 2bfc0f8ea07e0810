# Pools: private thread pools of the system, as executors.


cdef object _PRIORITIES = {
    "low": -1,
    "normal": 0,
    "high": 1,
}

PoolStats = namedtuple("PoolStats", "pending submitted completed cancelled failed handles threads")
PoolStats.__doc__ = """Counts of a pool: operations that are pending, and those submitted, completed, cancelled and failed
so far; handles bound; threads of the pool that have run callbacks and still exist."""


cdef int raise_closed_pool() except -1:
    if shutting_down:
        raise RuntimeError("tpio has ended: the interpreter is shutting down")
    raise RuntimeError("the pool is closed")


cdef class PoolBase:
    """A private thread pool of the operating system, on which completions are delivered and functions run.

    A `concurrent.futures.Executor` and a context manager, whose end waits for submitted functions and closes the pool.

    min_threads, max_threads: how many threads the system keeps at least and makes at most (None: its default, 500).
    name: for repr. priority: "low", "normal" or "high", against other pools of the process. long_running: callbacks take
    their time, and the system should make threads sooner.

    https://learn.microsoft.com/windows/win32/api/threadpoolapiset/nf-threadpoolapiset-createthreadpool
    """

    cdef core.tpio_pool *native
    cdef readonly object name
    cdef LONG functions          # of submit, that have not ended
    cdef LONG unended            # futures of all operations, also those that are over but not yet delivered
    cdef LONG running            # those of them that have begun
    cdef core.LONG64 raised      # and those that have ended with an exception
    cdef LONG shut               # shutdown() was called: no new functions
    cdef object __weakref__

    def __init__(self, *, min_threads=1, max_threads=None, name=None, priority="normal", long_running=False):
        cdef core.tpio_pool_options options
        cdef DWORD error
        if self.native != NULL:
            raise RuntimeError("a pool is initialized once")
        if shutting_down:
            raise_closed_pool()
        least = operator_index(min_threads)
        most = 0 if max_threads is None else operator_index(max_threads)
        if least < 0 or least > 0x7FFFFFFF:
            raise ValueError("min_threads must not be negative")
        if max_threads is not None and (most < 1 or most > 0x7FFFFFFF):
            raise ValueError("max_threads must be positive")
        if most and least > most:
            raise ValueError("min_threads must not be greater than max_threads")
        if priority not in _PRIORITIES:
            raise ValueError(f"priority must be one of {', '.join(_PRIORITIES)}, not {priority!r}")
        options.min_threads = least
        options.max_threads = most
        options.priority = _PRIORITIES[priority]
        options.runs_long = bool(long_running)
        with nogil:
            error = core.tpio_pool_create(&options, &self.native)
        if error == ERROR_NOT_ENOUGH_MEMORY:
            raise MemoryError("no memory for a thread pool")
        if error != 0:
            raise winerror(error)
        self.name = name
        _pools.add(self)

    def __dealloc__(self):
        cdef core.tpio_pool *pool = self.native
        if pool != NULL:
            # Nothing lives in it: handles and pending futures refer to their pool.
            with nogil:
                close_pool(pool)
                core.tpio_pool_unref(pool)

    cdef int require_open(self) except -1:
        if self.native == NULL:
            raise RuntimeError("the pool was not initialized")
        if core.tpio_pool_closing(self.native):
            raise_closed_pool()
        return 0

    def submit(self, fn, /, *args, **kwargs):
        """Runs fn(*args, **kwargs) on a thread of the pool and returns a Future of its result.

        RuntimeError after shutdown() or close(). A function that has not begun can be cancelled.
        https://learn.microsoft.com/windows/win32/api/threadpoolapiset/nf-threadpoolapiset-submitthreadpoolwork
        """
        cdef FutureBase future
        if not callable(fn):
            raise TypeError(f"a callable is needed, not {type(fn).__name__!r}")
        self.require_open()
        if self.shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        what = (fn, args, kwargs)
        future = self.launch(WORK)
        future.op.complete = on_work
        future.extra = what
        InterlockedIncrement(&self.functions)
        # Again, now that it is counted: shutdown() may have found nothing to wait for.
        return future.started(TPIO_CLOSED if self.shut else core.tpio_work(&future.op, self.native))

    cdef FutureBase launch(self, int kind):
        cdef FutureBase future = new_future(kind)
        self.require_open()
        future.pool = self
        InterlockedIncrement(&self.unended)
        future.submitted = True
        Py_INCREF(future)  # the system's
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        """Refuses new functions; with `wait` returns when those submitted have ended. I/O of the pool goes on.

        cancel_futures: those that have not begun are cancelled. On a thread of this pool it does not wait, since it would
        be for itself.
        """
        cdef core.tpio_thread *thread = core.tpio_thread_current()
        cdef bint own_thread = thread != NULL and thread.depth > 0 and thread.pool == self.native
        cdef LONG left
        InterlockedExchange(&self.shut, 1)
        if cancel_futures and self.native != NULL:
            with nogil:
                begin_call()
                core.tpio_pool_cancel_work(self.native)
                end_call()
        if wait and not own_thread:
            while True:
                left = self.functions
                if left == 0:
                    break
                with nogil:
                    WaitOnAddress(&self.functions, &left, sizeof(LONG), 100)
                PyErr_CheckSignals()

    def close(self, *, timeout=None):
        """Closes every handle bound to the pool, cancels everything that is pending, waits until it has ended, frees.

        timeout: seconds; TimeoutError when a submitted function is still running by then (the pool is closed
        nevertheless, and frees itself). Idempotent. Inside a callback of a pool it does not wait.
        """
        cdef double deadline = 0
        cdef LONG left
        if timeout is not None:
            deadline = monotonic() + <double>timeout
            if deadline != deadline:
                raise ValueError("the timeout is not a number")
        if self.native == NULL:
            return
        InterlockedExchange(&self.shut, 1)
        with nogil:
            close_pool(self.native)
        if inside_callback():
            return
        while not self.drain_for(50):
            PyErr_CheckSignals()
            if timeout is not None and monotonic() >= deadline:
                raise TimeoutError("operations of the pool have not ended")
        # The system has nothing any more, but threads may be on their way to say so.
        begin_impatience()
        try:
            while True:
                left = self.unended
                if left == 0:
                    return
                with nogil:
                    WaitOnAddress(&self.unended, &left, sizeof(LONG), 50)
                PyErr_CheckSignals()
                if timeout is not None and monotonic() >= deadline:
                    raise TimeoutError("a function of the pool is still running")
        finally:
            end_impatience()

    cdef bint drain_for(self, DWORD milliseconds):
        cdef bint drained
        with nogil:
            drained = core.tpio_pool_drain(self.native, milliseconds)
        return drained

    @property
    def closed(self):
        """True after close()."""
        return self.native == NULL or bool(core.tpio_pool_closing(self.native))

    def stats(self):
        """PoolStats of now. Cheap; exact when nothing is going on.

        A function is pending until it has returned (completed) or raised an exception (failed).
        """
        cdef core.tpio_pool_stats stats
        cdef LONG running
        cdef core.LONG64 raised
        if self.native == NULL:
            raise RuntimeError("the pool was not initialized")
        raised = self.raised
        running = self.running
        core.tpio_pool_get_stats(self.native, &stats)  # last: there a function has completed when it has got its thread
        return PoolStats(stats.pending + running, stats.submitted, stats.completed - running - raised, stats.cancelled,
                         stats.failed + raised, stats.handles, stats.threads)

    def __exit__(self, *exc_info):
        self.shutdown(wait=True)
        self.close()
        return False

    def __repr__(self):
        name = f" {self.name!r}" if self.name is not None else ""
        return f"<tpio.Pool{name} at {id(self):#x}{' closed' if self.closed else ''}>"


cdef void close_pool(core.tpio_pool *pool) noexcept nogil:
    begin_call()
    core.tpio_pool_close(pool)
    end_call()


class Pool(PoolBase, concurrent.futures.Executor):
    __doc__ = PoolBase.__doc__
    __slots__ = ()


cdef PoolBase _default_pool = None
cdef object _default_pool_guard = object()  # its critical section: nothing with a GIL
_default_pool_lock = threading.Lock()


cdef PoolBase open_default_pool():
    """None: there is none yet, or it has been closed."""
    cdef PoolBase pool
    with cython.critical_section(_default_pool_guard):
        pool = _default_pool
    return None if pool is None or pool.closed else pool


def default_pool():
    """The process's pool, made on first use; what everything runs on that is not given a pool."""
    global _default_pool
    cdef PoolBase pool = open_default_pool()
    if pool is None:
        with _default_pool_lock:
            pool = open_default_pool()
            if pool is None:
                pool = Pool(name="default")
                with cython.critical_section(_default_pool_guard):
                    _default_pool = pool
    return pool


cpdef PoolBase pool_of(object pool):
    """The pool, or the default one for None; raises at once when it is none, or closed."""
    cdef PoolBase where
    if pool is None:
        where = default_pool()
    elif isinstance(pool, PoolBase):
        where = pool
    else:
        raise TypeError(f"a tpio.Pool is needed, not {type(pool).__name__!r}")
    where.require_open()
    return where


# ---- functions ------------------------------------------------------------------------------------------------------

cdef core.tpio_tail_fn on_work(core.tpio_op *op) noexcept nogil:
    cdef core.tpio_thread *thread
    if op.error != 0:
        return on_complete(op)  # cancelled by the close of its pool
    thread = core.tpio_thread_current()
    if thread == NULL:
        return on_complete(op)
    thread.carried = op  # this thread is the function's
    return work


cdef void work() noexcept nogil:
    cdef core.tpio_thread *thread = core.tpio_thread_current()
    cdef core.tpio_op *op = thread.carried
    thread.carried = NULL
    core.tpio_callback_may_block(thread.instance)
    if enter_python():
        with gil:
            future = future_of(op)
            run_function(future)
            Py_DECREF(future)
        leave_python()


cdef void run_function(FutureBase future) noexcept:
    cdef PoolBase pool = future.pool
    cdef object fn, args, kwargs, result
    cdef int state = FINISHED
    cdef bint begin
    with cython.critical_section(future):
        begin = future.state == PENDING
        if begin:
            future.state = RUNNING
        future.submitted = False
    if begin:
        InterlockedIncrement(&pool.running)
        fn, args, kwargs = future.extra
        future.extra = None
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            state = FAILED
            result = error
        fn = args = kwargs = None
        if state == FAILED:
            InterlockedIncrement64(&pool.raised)
        InterlockedDecrement(&pool.running)
        future.settle(state, result)
        result = None
        future.run_callbacks()


# ---- time and waiting -----------------------------------------------------------------------------------------------

cdef double _seconds(object value, what) except -1:
    cdef double seconds = value
    if not seconds >= 0:
        raise ValueError(f"{what} must be a non-negative number of seconds")
    return seconds


def timeout_seconds(timeout, what="the timeout"):
    """For the façade: a timeout as a float, or None; ValueError for a negative one and for NaN."""
    return None if timeout is None else _seconds(timeout, what)


def sleep(seconds, *, window=0, pool=None):
    """A Future that ends, with None, after at least that many seconds; never early. 0 is a trip through the pool.

    The system's timers have a resolution of about 16 ms, so it may end that much later. window: seconds that it may be
    later still, so that the system can serve several timers at once. Can be cancelled.
    https://learn.microsoft.com/windows/win32/api/threadpoolapiset/nf-threadpoolapiset-setthreadpooltimer
    """
    return call_after(None, seconds, window, pool)


def call_after(callback, seconds, window, pool):
    """sleep(), with a done callback that is there from the beginning: it never runs inside this call."""
    cdef double length = _seconds(seconds, "the length of a sleep")
    cdef double late = min(_seconds(window, "the window"), 4e6)
    cdef PoolBase where = pool_of(pool)
    cdef FutureBase future = where.launch(NOTHING)
    if callback is not None:
        future.shared = True
        future.callbacks = callback
    cdef int64_t nanoseconds = <int64_t>(length * 1e9) + 1 if length < 9e9 else <int64_t>9e18
    return future.started(core.tpio_sleep(&future.op, where.native, nanoseconds if length > 0 else 0,
                                          <DWORD>(late * 1000)))


def wait_for_handle(handle, timeout=None, *, pool=None):
    """Waits for an object of the system to be signalled: a process, thread, event, semaphore or waitable timer. Future of
    True, or of False when `timeout` seconds have passed.

    handle: an int HANDLE or an object with fileno() or handle; it may be closed meanwhile. A mutex is refused, since it
    would belong to a thread of the pool (ValueError). Thousands of waits need few threads.

    An event that resets itself, or a semaphore, is taken from exactly once for each wait that ends with True, and not for
    any other. So a wait that was satisfied before the system knew of its cancel ends with True in spite of it. A task that
    is cancelled while it awaits one is not told: keep the Future, and look at its result.
    https://learn.microsoft.com/windows/win32/api/threadpoolapiset/nf-threadpoolapiset-setthreadpoolwait
    """
    cdef DWORD milliseconds = INFINITE
    cdef PoolBase where = pool_of(pool)
    cdef FutureBase future
    cdef HANDLE object
    cdef DWORD signalled
    if timeout is not None:
        milliseconds = <DWORD>min(_seconds(timeout, "the timeout") * 1000 + 0.999, 4e9)
    object = <HANDLE><uintptr_t>check_handle(handle_value(handle))
    kind = object_type(object)
    if kind == "Mutant":
        raise ValueError("a mutex cannot be waited for: it would belong to a thread of the pool, which cannot release it")
    if kind not in _WAITABLE:
        raise ValueError(f"an object of type {kind} cannot be waited for")
    if milliseconds == 0:  # just a look
        signalled = WaitForSingleObject(object, 0)
        if signalled == WAIT_FAILED:
            raise winerror(GetLastError())
        return done_future(signalled == WAIT_OBJECT_0)
    future = where.launch(SIGNALLED)
    return future.started(core.tpio_wait(&future.op, where.native, object, milliseconds))


cdef frozenset _WAITABLE = frozenset(["Process", "Thread", "Event", "Semaphore", "Timer", "Job"])
