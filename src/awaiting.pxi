# await on a Future, under any asyncio loop.
#
# A task that awaits gets an Awaiter, which is the iterator that `await` wants and the future-like object that
# asyncio.Task waits for (_asyncio_future_blocking, get_loop, add_done_callback, result, cancel). When the operation ends,
# the awaiter is put in the inbox of its loop, and the loop is woken once for all that has come.
#
# Cancel. A cancelled task goes on waiting until the operation has ended, as the system decides that. If the operation won
# the race, what it brought goes back to its handle for the next read or accept; the task is cancelled all the same.

from cpython.exc cimport PyErr_SetInterrupt

cdef LoopInbox touched = None  # inboxes that have something and whose loops are to be woken after the batch, linked
cdef bint gathering = False    # a batch is being delivered; both under the GIL


cdef object _running_loop = None  # asyncio's function


cdef object running_loop():
    """The loop that runs on this thread, or None. asyncio is not imported for it: who runs a loop has done so."""
    global _running_loop
    if _running_loop is None:
        _running_loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return None if _running_loop is None else _running_loop()


cdef object cancelled_error():
    from asyncio import CancelledError as cancelled
    return cancelled


cdef object make_awaiter(FutureBase future):
    cdef Awaiter awaiter = Awaiter.__new__(Awaiter)
    awaiter.future = future
    with cython.critical_section(future):
        awaiter.handle = future.handle  # now: the future may end before it is waited for, and the await be cancelled then
    return awaiter


cdef class Awaiter:
    cdef FutureBase future
    cdef Handle handle           # the future's, which lets go of it when it ends
    cdef LoopInbox inbox
    cdef object loop
    cdef object callback
    cdef object context
    cdef object message
    cdef bint cancelled
    cdef Awaiter next_arrived    # in its inbox
    cdef public object _asyncio_future_blocking

    def __iter__(self):
        return self

    def __next__(self):
        cdef FutureBase future = self.future
        cdef bint ended
        with cython.critical_section(future):
            ended = future.state >= CANCELLED
            if not ended:
                self.handle = future.handle
        if ended:
            raise StopIteration(self.result())
        loop = running_loop()
        if loop is None:
            raise RuntimeError("await on a tpio future needs a running asyncio event loop")
        self.loop = loop
        self.inbox = inbox_of(loop)
        self._asyncio_future_blocking = True
        return self

    def get_loop(self):
        return self.loop

    def add_done_callback(self, callback, *, context=None):
        self.callback = callback
        self.context = copy_context() if context is None else context
        if not self.attach_to(self.future):
            self.loop.call_soon(callback, self, context=context)

    cdef bint attach_to(self, FutureBase future):
        """To be put into the inbox when the future ends. False: it has ended."""
        with cython.critical_section(future):
            if future.state >= CANCELLED:
                return False
            if future.awaiters is None:
                future.awaiters = self
                if not future.shared and type(self.inbox) is ProactorInbox:
                    # From now on it comes to the port; in the moment before, it went to the others' queue, which is as good.
                    future.owner.port = (<ProactorInbox>self.inbox).port
            else:
                future.shared = True
                if type(future.awaiters) is list:
                    future.awaiters.append(self)
                else:
                    future.awaiters = [future.awaiters, self]
        if future.shared:
            future.take_from_port()
        return True

    def cancel(self, msg=None):
        """The task is being cancelled. True: it will be, once the operation has ended."""
        cdef FutureBase future = self.future
        cdef bint ended, alone
        if self.cancelled:
            return True
        self.cancelled = True
        self.message = msg
        with cython.critical_section(future):
            ended = future.state >= CANCELLED
            alone = not ended and not future.shared
            if alone:
                future.abandoned = True
        if ended:
            self.take_back()
            return True
        if alone and future.ask_to_cancel():
            return True
        # Others wait for it too, or it cannot be cancelled (a function that runs): this await alone ends.
        with cython.critical_section(future):
            if future.awaiters is self:
                future.awaiters = None
            elif type(future.awaiters) is list:
                future.awaiters = [other for other in future.awaiters if other is not self]
            else:
                ended = True
        if not ended:
            self.loop.call_soon(self.callback, self, context=self.context)
        return True

    cdef int take_back(self) except -1:
        """The operation has ended, but the task has not been told, and now will not be."""
        cdef FutureBase future = self.future
        cdef object value = None
        cdef bint taken
        with cython.critical_section(future):
            taken = future.state == FINISHED and not future.shared and future.may_be_given_back(self.handle)
            if taken:  # before it is given back: whoever looks from now on does not get it, too
                future.state = CANCELLED
                value, future.value = future.value, None
        if taken:
            taken = False
            try:
                taken = future.give_back(self.handle, value)
            finally:
                if not taken:  # or there was no memory: it stands
                    with cython.critical_section(future):
                        future.state = FINISHED
                        future.value = value
        return 0

    def result(self):
        cdef FutureBase future = self.future
        cdef int state
        if self.cancelled:
            raise cancelled_error()() if self.message is None else cancelled_error()(self.message)
        state = future.look()
        if state == CANCELLED:
            raise cancelled_error()()
        if state < CANCELLED:
            raise InvalidStateError("the operation has not ended")
        if state == FAILED and isinstance(future.value, StopIteration):  # which ends an await like a result
            raise RuntimeError("what was awaited raised StopIteration") from future.value
        return future.told(state)

    def exception(self):
        return self.future.exception(0)

    def done(self):
        return self.future.state >= CANCELLED

    def __repr__(self):
        return f"<await {self.future!r}>"


# ---- the inbox of a loop --------------------------------------------------------------------------------------------

# A loop has its inbox as an attribute: one dictionary for all loops would be fought over, and without a GIL a daemon thread
# that is stopped for good at the end of the interpreter may own its lock, which the main thread then waits for (CPython hands
# a lock over to whoever has waited for long, also when that thread will never run again).

_inboxes = WeakKeyDictionary()  # of loops that take no attributes
cdef LoopInbox latest = None    # saves the look-up: most programs have one loop


cdef LoopInbox inbox_of(object loop):
    """The loop's inbox, made on first use. On the thread of the loop."""
    global latest
    cdef LoopInbox inbox = latest
    if not TPIO_FREE_THREADED and inbox is not None and inbox.loop_ref() is loop:
        return inbox
    found = getattr(loop, "_tpio_inbox", None)
    if not is_inbox_of(found, loop) and _inboxes:
        found = _inboxes.get(loop)
    if is_inbox_of(found, loop):
        inbox = found
    else:
        inbox = LoopInbox.__new__(LoopInbox)
        inbox.loop_ref = ref(loop)
        inbox.lock = threading.RLock()  # a finalizer that runs inside may end a future
        try:
            loop._tpio_inbox = inbox
        except AttributeError:
            _inboxes[loop] = inbox
    if not TPIO_FREE_THREADED:
        latest = inbox
    return inbox


cdef bint is_inbox_of(object found, object loop):
    """Not that of a loop inside, nor of another copy of this module."""
    return isinstance(found, LoopInbox) and (<LoopInbox>found).loop_ref() is loop


cdef class LoopInbox:
    cdef object loop_ref         # weak: an inbox does not keep its loop
    cdef object lock             # for wake()
    cdef Awaiter first           # what has arrived, linked: that an operation has ended is told without memory
    cdef Awaiter last
    cdef LoopInbox next_touched
    cdef bint is_touched
    cdef bint woken              # drain() is scheduled
    cdef object __weakref__

    cdef int put(self, Awaiter awaiter) except -1:
        global touched
        cdef bint wake
        with cython.critical_section(self):
            if self.last is None:
                self.first = awaiter
            else:
                self.last.next_arrived = awaiter
            self.last = awaiter
            wake = not self.woken
            self.woken = True
        if wake:
            if not gathering:
                self.wake_or_report()
            elif not self.is_touched:  # it may have been awake meanwhile, and have taken what came before
                self.is_touched = True
                self.next_touched = touched
                touched = self
        return 0

    cdef void wake_or_report(self) noexcept:
        cdef bint interrupted = False
        try:
            try:
                self.wake()
            except KeyboardInterrupt as error:
                interrupted = PyThread_get_thread_ident() == main_thread
                if not interrupted:
                    report_unraisable(error, self)
                self.wake()
        except BaseException as error:
            report_unraisable(error, self)
        if interrupted:  # it is for whoever is ending a future here: Ctrl-C, once more
            PyErr_SetInterrupt()

    cdef Awaiter take(self):
        """All that has arrived, oldest first."""
        cdef Awaiter first
        with cython.critical_section(self):
            first = self.first
            self.first = self.last = None
            self.woken = False
        return first

    cdef int wake(self) except -1:
        cdef int tries = 0
        loop = self.loop_ref()
        try:
            while loop is not None:
                try:
                    # One thread at a time: a loop is woken through a non-blocking socket, and Wine lets one of two
                    # concurrent sends on that fail, which asyncio takes for a wake-up that is under way.
                    with self.lock:
                        loop.call_soon_threadsafe(self.drain)
                    return 0
                except MemoryError:
                    tries += 1
                    if tries == WAKE_TRIES:
                        raise
                with nogil:
                    Sleep(tries)
        except BaseException as error:
            if not isinstance(error, RuntimeError) or isinstance(error, RecursionError):
                with cython.critical_section(self):
                    self.woken = False  # what arrives next tries again
                raise
        self.forget()
        return 0

    cdef void forget(self) noexcept:
        """The loop is closed: nobody is left to be told."""
        drop_chain(self.take())

    def drain(self):
        """On the loop's thread: resumes the tasks, each in its own context."""
        cdef Awaiter awaiter, left = self.take()
        try:
            while left is not None:
                awaiter = left
                left = awaiter.next_arrived
                awaiter.next_arrived = None
                awaiter.context.run(awaiter.callback, awaiter)
        finally:
            if left is not None:  # KeyboardInterrupt or SystemExit in a task: the others are resumed all the same
                loop = self.loop_ref()
                while left is not None:
                    awaiter = left
                    left = awaiter.next_arrived
                    awaiter.next_arrived = None
                    loop.call_soon(awaiter.callback, awaiter, context=awaiter.context)


cdef enum:
    WAKE_TRIES = 20  # 200 ms


cdef void drop_chain(Awaiter first) noexcept:
    """One by one: a long chain that goes as a whole would use up the stack."""
    cdef Awaiter following
    while first is not None:
        following = first.next_arrived
        first.next_arrived = None
        first = following


cdef void gather_wake_ups() noexcept:
    """From now on until wake_loops, each loop gets one wake-up for all. (Without a GIL batches are rare.)"""
    global gathering
    gathering = not TPIO_FREE_THREADED


cdef int wake_loops() except -1:
    global gathering, touched
    cdef LoopInbox inbox
    gathering = False
    while touched is not None:
        inbox = touched
        touched = inbox.next_touched
        inbox.next_touched = None
        inbox.is_touched = False
        inbox.wake_or_report()
    return 0
