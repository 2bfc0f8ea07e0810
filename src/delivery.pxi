# From the core's completion to the Future, many for each time the GIL is taken.
#
# With a GIL. Callbacks put operations in one queue; the thread that finds it empty, and nobody else on his way, takes the
# GIL and delivers all that has come until then. It does so in two passes: first every future ends (threads and tasks
# wake), then the done callbacks run, one after the other. A callback may block for as long as it likes: completions that
# come meanwhile bring a thread of their own, and for callbacks that were already waiting behind it there is the watch, a
# timer that brings another thread when nothing has moved.
#
# Without a GIL every thread ends the futures that it has, in parallel with the others. Callbacks of a batch go into the same
# queue, for as many threads as there are processors to run them; the watch is for when all of these are stuck. (To hand
# each one over by itself costs a trip to the thread pool for each: a hundred thousand timers at once took half a minute.)

cdef core.tpio_queue arrivals
cdef object ready_lock = object()      # its critical section: nothing with a GIL
cdef FutureBase ready_first = None     # futures whose callbacks are to run
cdef FutureBase ready_last = None
cdef LONG ready_count = 0              # read by the watch without the lock
cdef LONG ready_taken = 0
cdef LONG coming = 0                   # a thread is about to take the GIL for what has arrived
cdef LONG helpers = 0                  # threads that were brought to run callbacks
cdef LONG MOST_HELPERS = os.cpu_count() or 1
cdef LONG watch_armed = 0
cdef LONG watch_seen = 0
cdef void *watch_timer = NULL
cdef enum:
    WATCH_MS = 10

cdef extern from "tpio_win32.h" nogil:
    ctypedef struct FILETIME:
        DWORD dwLowDateTime
        DWORD dwHighDateTime
    void *CreateThreadpoolTimer(void *callback, void *context, void *environ)
    void SetThreadpoolTimer(void *timer, FILETIME *due, DWORD period, DWORD window)
    BOOL TrySubmitThreadpoolCallback(void *callback, void *context, void *environ)


# Where a loop of tpio.aio takes its completions itself, without anybody else having taken the GIL for them. It sleeps on an
# address: an event would cost two trips to the system's server under Wine. The memory of a port is never freed but used
# again, since a completion that is late may still put itself in after its loop has gone: then the next one takes it.
cdef struct Port:
    core.tpio_queue queue
    LONG asleep                 # the loop is, or is about to be
    LONG closed                 # nobody takes from it
    LONG taken                  # some loop's
    Port *next                  # of all there are

cdef void *ports = NULL
cdef LONG impatience = 0        # how many wait for completions that a loop was to take, which may itself be waiting for them


# What op.user points to: the Future around the operation, and the port that is to have it.
cdef struct Owner:
    void *future
    Port *port


cdef FutureBase future_of(core.tpio_op *op):
    return <FutureBase>(<Owner *>op.user).future


cdef bint arrive(core.tpio_op *op) noexcept nogil:
    """True: nobody is on his way to take what has arrived, and the caller is to go. One thread at a time waits for the GIL:
    if each that finds the queue empty did, a busy program would have a hundred of them, and a turn would never come."""
    return core.tpio_queue_put(&arrivals, op) and not InterlockedExchange(&coming, 1)


cdef Port *new_port() noexcept nogil:
    """NULL: no memory."""
    cdef Port *port = <Port *>ports
    while port != NULL:
        if InterlockedExchange(&port.taken, 1) == 0:
            InterlockedExchange(&port.closed, 0)
            return port
        port = port.next
    port = <Port *>calloc(1, sizeof(Port))
    if port != NULL:
        port.taken = 1
        while True:
            port.next = <Port *>ports
            if InterlockedCompareExchangePointer(&ports, port, port.next) == port.next:
                break
    return port


cdef void wake_port(Port *port) noexcept nogil:
    if InterlockedExchange(&port.asleep, 0):
        WakeByAddressAll(&port.asleep)


cdef core.tpio_tail_fn post(Port *port, core.tpio_op *op) noexcept nogil:
    cdef core.tpio_tail_fn tail = NULL
    cdef core.tpio_op *following
    if core.tpio_queue_put(&port.queue, op):  # from now on the operation may be gone
        wake_port(port)
    if port.closed or impatience != 0:
        op = core.tpio_queue_take(&port.queue)
        while op != NULL:
            following = op.next
            if arrive(op):
                tail = deliver
            op = following
    return tail


cdef void conclude_port(Port *port) noexcept:
    """Ends the futures whose operations have come to a port. Any thread."""
    cdef core.tpio_op *op = core.tpio_queue_take(&port.queue)
    cdef FutureBase future
    while op != NULL:
        future = future_of(op)
        op = op.next
        future.conclude()
        if future.callbacks is not None and future.state >= CANCELLED:
            hand_over(future, None)
        Py_DECREF(future)  # the system's


cdef void begin_impatience() noexcept:
    """Until end_impatience no completion waits for a loop: what has come to their ports is delivered now, and what comes
    from now on by the pool's threads."""
    cdef Port *port = <Port *>ports
    InterlockedIncrement(&impatience)
    while port != NULL:
        conclude_port(port)
        port = port.next


cdef void end_impatience() noexcept nogil:
    InterlockedDecrement(&impatience)


cdef core.tpio_tail_fn on_complete(core.tpio_op *op) noexcept nogil:
    cdef core.tpio_thread *thread
    cdef Port *port = (<Owner *>op.user).port
    if port != NULL:
        return post(port, op)
    if TPIO_FREE_THREADED:
        thread = core.tpio_thread_current()
        if thread != NULL:
            op.next = thread.carried
            thread.carried = op
            return deliver
    if arrive(op):
        return deliver
    return NULL


cdef core.tpio_op *take_arrivals() noexcept nogil:
    cdef core.tpio_thread *thread
    cdef core.tpio_op *op
    if TPIO_FREE_THREADED:
        thread = core.tpio_thread_current()
        if thread != NULL and thread.carried != NULL:
            op = thread.carried
            thread.carried = NULL
            return op
    return core.tpio_queue_take(&arrivals)


# Around a call of the core that completes operations on the thread that makes it: the close of a pool, the cancel of a pump.
# Their futures end there, but their callbacks run on a thread of the system's: ours may hold what they wait for, and they may
# wait for what the call is yet to do.

cdef void begin_call() noexcept nogil:
    cdef core.tpio_thread *thread = core.tpio_thread_current()
    if thread != NULL:
        thread.calling += 1


cdef void end_call() noexcept nogil:
    cdef core.tpio_thread *thread = core.tpio_thread_current()
    if thread != NULL:
        thread.calling -= 1


cdef void deliver() noexcept nogil:
    cdef core.tpio_thread *thread = core.tpio_thread_current()
    if enter_python():
        with gil:
            InterlockedExchange(&coming, 0)  # before the queue is taken: what arrives after it brings another thread
            deliver_all(thread == NULL or thread.calling != 0)
        leave_python()


cdef void deliver_all(bint elsewhere) noexcept:
    """elsewhere: the callbacks are for another thread."""
    cdef core.tpio_op *op
    cdef FutureBase future, alone = None
    cdef bint is_alone
    while True:
        op = take_arrivals()
        if op == NULL:
            break
        gather_wake_ups()
        is_alone = TPIO_FREE_THREADED and op.next == NULL and not elsewhere
        while op != NULL:
            future = future_of(op)
            op = op.next
            if future.condition is not None and is_held(future.condition):
                hand_over(future, _CONCLUDE)
            else:
                future.conclude()
            if future.callbacks is not None and future.state >= CANCELLED:
                if is_alone:
                    alone = future
                else:
                    make_ready(future)
            Py_DECREF(future)  # the system's
        future = None
        wake_loops()
        if alone is not None:
            future, alone = alone, None
            may_block()
            future.run_callbacks()
            future = None
        if elsewhere:
            run_elsewhere()
        else:
            run_ready()
        if not TPIO_FREE_THREADED:
            break  # what has arrived meanwhile has brought a thread of its own


cdef bint is_held(condition) noexcept:
    """By another thread, perhaps for ever: concurrent.futures.wait leaves conditions so when Ctrl-C comes at the wrong moment.
    What else has arrived must not wait for that."""
    try:
        if not condition.acquire(blocking=False):
            return True
        condition.release()
    except BaseException:  # no memory: conclude tries again
        pass
    return False


cdef void may_block() noexcept nogil:
    cdef core.tpio_thread *thread = core.tpio_thread_current()
    if thread != NULL:
        core.tpio_callback_may_block(thread.instance)


cdef void make_ready(FutureBase future) noexcept:
    """A future has ended and has callbacks: they run when no other future of the batch waits for its end behind them."""
    global ready_first, ready_last, ready_count
    with cython.critical_section(ready_lock):
        if future.next_ready is None and ready_last is not future:  # not in the queue
            if ready_last is None:
                ready_first = future
            else:
                ready_last.next_ready = future
            ready_last = future
            ready_count += 1


cdef FutureBase take_ready():
    global ready_first, ready_last, ready_count, ready_taken
    cdef FutureBase future = None
    with cython.critical_section(ready_lock):
        if ready_first is not None:
            future = ready_first
            ready_first = future.next_ready
            future.next_ready = None
            if ready_first is None:
                ready_last = None
            ready_count -= 1
            ready_taken += 1
    return future


cdef void run_ready() noexcept:
    """Runs queued callbacks until there are none, or another thread has begun to."""
    cdef FutureBase future
    cdef LONG taken
    if ready_count != 0:
        may_block()
    while ready_count != 0:
        future = take_ready()
        if future is None:
            break
        if ready_count != 0:
            bring_helper()
            arm_watch()
        taken = ready_taken
        future.run_callbacks()
        if not TPIO_FREE_THREADED and taken != ready_taken:
            break  # somebody goes on with them: whoever took the last does not come here before he has run it


cdef void run_elsewhere() noexcept:
    """As run_ready, on another thread if there is one."""
    if ready_count != 0 and not submit_helper():
        run_ready()


cdef void bring_helper() noexcept nogil:
    """Without a GIL: another thread for the callbacks that wait."""
    if TPIO_FREE_THREADED and helpers < MOST_HELPERS:  # a few more do no harm
        submit_helper()


cdef bint submit_helper() noexcept nogil:
    InterlockedIncrement(&helpers)
    if TrySubmitThreadpoolCallback(<void *>on_helper, NULL, NULL):
        return True
    InterlockedDecrement(&helpers)
    return False


cdef void __stdcall on_helper(void *instance, void *context) noexcept nogil:
    if enter_python():
        begin_callback(instance)
        with gil:
            run_ready()
        end_callback()
        leave_python()
    InterlockedDecrement(&helpers)


cdef void arm_watch() noexcept nogil:
    global watch_seen
    cdef FILETIME due
    cdef int64_t relative = -<int64_t>WATCH_MS * 10000
    if watch_timer == NULL or InterlockedExchange(&watch_armed, 1):
        return
    watch_seen = ready_taken
    due.dwLowDateTime = <DWORD>relative
    due.dwHighDateTime = <DWORD>(relative >> 32)
    SetThreadpoolTimer(watch_timer, &due, 0, WATCH_MS)


cdef void __stdcall on_watch(void *instance, void *context, void *timer) noexcept nogil:
    """Callbacks wait: does somebody still work on them, or is he stuck in one?"""
    InterlockedExchange(&watch_armed, 0)
    if ready_count == 0 or exiting:
        return
    if ready_taken != watch_seen:
        arm_watch()
    elif enter_python():
        begin_callback(instance)
        with gil:
            arm_watch()  # we may get stuck too
            run_ready()
        end_callback()
        leave_python()


# Threads of the process's own pool, which belong to no pool of ours.

cdef void begin_callback(void *instance) noexcept nogil:
    cdef core.tpio_thread *thread = core.tpio_thread_current()
    if thread != NULL:
        thread.depth += 1
        thread.instance = instance


cdef void end_callback() noexcept nogil:
    cdef core.tpio_thread *thread = core.tpio_thread_current()
    if thread != NULL:
        thread.depth -= 1
        thread.instance = NULL


cdef void __stdcall on_handed_over(void *instance, void *context) noexcept nogil:
    if enter_python():
        begin_callback(instance)
        core.tpio_callback_may_block(instance)
        with gil:
            run_handed_over((<tuple>context)[0], (<tuple>context)[1])
            Py_DECREF(<object>context)
        end_callback()
        leave_python()


cdef object _CONCLUDE = object()


cdef void run_handed_over(FutureBase future, object callback) noexcept:
    if callback is _CONCLUDE:
        future.conclude()
        if future.state >= CANCELLED:  # else it has been submitted anew
            future.run_callbacks()
    elif callback is None:
        future.run_callbacks()
    else:
        future.run_callback(callback)


cdef void hand_over(FutureBase future, object callback) noexcept:
    """A callback of a future that is done, or all of them (None), or its end (_CONCLUDE), on another thread."""
    try:
        what = (future, callback)
    except MemoryError:
        run_handed_over(future, callback)
        return
    Py_INCREF(what)
    if not TrySubmitThreadpoolCallback(<void *>on_handed_over, <PyObject *>what, NULL):
        Py_DECREF(what)
        run_handed_over(future, callback)


watch_timer = CreateThreadpoolTimer(<void *>on_watch, NULL, NULL)
