# The Future: a concurrent.futures.Future whose operation is inside it.
#
# Everything that changes a future's state goes through settle, once. Fields are guarded by the object's critical section
# (nothing with a GIL, a small lock without). Somebody who asks for the base class's _condition gets one, and from then on
# settle takes that lock too; nobody else pays for it.

cdef enum:
    PENDING = 0
    RUNNING = 1     # a work item whose function has begun
    CANCELLED = 2
    FINISHED = 3
    FAILED = 4

# How an operation's end becomes a result.
cdef enum:
    PROMISE = 0     # no operation: somebody calls set_result
    READ = 1        # bytes; b"" at the end of the file
    READ_INTO = 2   # int; 0 at the end of the file
    WRITE = 3       # int; goes on until the whole buffer is written
    COUNT = 4       # int
    NOTHING = 5     # None
    OUTPUT = 6      # bytes
    SIGNALLED = 7   # True, or False for a timeout
    WORK = 8
    CUSTOM = 9      # extra(future, error, count) decides
    DATAGRAM = 10   # (bytes, address)
    DATAGRAM_INTO = 11  # (int, address)
    SCATTERED = 12  # int; extra is the Buffers
    LOCKED = 13     # None; name is the range
    TRANSMITTED = 14    # int; goes on until that much of the file is sent, or it ends
    POLLED = 15     # None; flags are the events
    READER = 16     # bytes; extra is the Reader

cdef object _AGAIN = object()   # from outcome: submitted again, not over
cdef object _DONE_AGAIN = object()  # from outcome: submitted again, and over at once: there is another outcome
cdef object _CANCEL = object()  # from outcome: cancelled

# cython: the names that concurrent.futures.wait looks at
cdef tuple _STATES = ("PENDING", "RUNNING", "CANCELLED_AND_NOTIFIED", "FINISHED", "FINISHED")


cdef class FutureBase:
    """The result of an operation that has been started.

    A `concurrent.futures.Future`: `result(timeout)` (seconds), `exception`, `add_done_callback`, `cancel`, `wait`,
    `as_completed` and `asyncio.wrap_future` work. It can be awaited under any asyncio loop. Done callbacks run on a
    thread of the pool, or at once when the future is already done.

    Dropping a pending future does not cancel it.
    """

    cdef core.tpio_op op         # the operation itself: the system has it while submitted
    cdef Owner owner             # what op.user points to
    cdef Handle handle           # kept alive until the end
    cdef PoolBase pool
    cdef Py_buffer view          # the caller's buffer, pinned while it belongs to the system
    cdef object buffer           # or bytes of our own
    cdef object name             # bytes for the sender's address
    cdef object extra            # finish function, or (function, args, kwargs) of a work item
    cdef object value            # the result or the exception
    cdef object callbacks        # None, one function, or a list
    cdef object awaiters         # None, one Awaiter, or a list
    cdef object condition        # the base class's, made when somebody asks
    cdef object waiters
    cdef object on_cancel        # what cancel() means for a future without an operation of its own
    cdef Deadline deadline       # of timeout=; None: there is none
    cdef Blocked *blocked
    cdef FutureBase next_ready   # in the queue of futures whose callbacks are to run
    cdef Py_ssize_t size         # bytes asked for
    cdef Py_ssize_t moved        # bytes moved by earlier parts of the same write
    cdef int64_t position        # of a sequential file operation, else -1
    cdef uint64_t at             # where a write began
    cdef Py_ssize_t outgoing     # bytes that count as pending on the handle until the future ends
    cdef LONG generation         # of the handle's cancel() when submitted
    cdef DWORD flags             # MSG_* of a socket's
    cdef int state
    cdef int kind
    cdef bint submitted          # the operation is the system's
    cdef int turn                # of a write: WAITS or HAS_IT while it is among the handle's turns
    cdef bint cancel_asked
    cdef bint abandoned          # the only await on it was cancelled: what it brings goes back to the handle
    cdef bint shared             # others look at it: callbacks, blocked threads, a second await
    cdef bint impatient          # it has been taken from a loop's port: see take_from_port
    cdef bint has_view

    def __cinit__(self):
        self.position = -1

    def __init__(self):
        pass

    # ---- the operation ----------------------------------------------------------------------------------------------

    cdef char *address(self) noexcept:
        return <char *>self.view.buf if self.has_view else PyBytes_AS_STRING(self.buffer)

    cdef int pin(self, object data, bint writable) except -1:
        """Takes hold of the caller's buffer, until release_buffer."""
        if writable:
            try:
                PyObject_GetBuffer(data, &self.view, PyBUF_WRITABLE)
            except BufferError as error:
                try:
                    readonly = memoryview(data).readonly
                except Exception:
                    readonly = False
                if readonly:
                    raise TypeError(f"a writable buffer is needed, not {type(data).__name__!r}") from None
                raise
            self.buffer = data
            self.size = self.view.len
            self.has_view = True
        elif type(data) is bytes:
            self.buffer = data
            self.size = PyBytes_GET_SIZE(data)
        else:
            PyObject_GetBuffer(data, &self.view, PyBUF_SIMPLE)
            self.size = self.view.len
            self.has_view = True
        return 0

    cdef FutureBase started(self, core.tpio_status status):
        """What to do after a submit, for which launch() has taken the system's reference."""
        if status == TPIO_PENDING:
            return self
        self.submitted = False
        Py_DECREF(self)  # the system has nothing
        if status == TPIO_CLOSED:
            handle = self.handle
            self.release_buffer()
            self.settle(CANCELLED, None)
            if handle is None:
                raise_closed_pool()
            raise ValueError("I/O operation on closed handle")
        self.conclude()
        if self.callbacks is not None and self.state >= CANCELLED:
            self.run_callbacks()
        return self

    cdef object go_on(self, core.tpio_status status):
        """After an operation that was over was submitted again, from its outcome."""
        if status == TPIO_PENDING:
            if self.cancel_asked:  # perhaps while it was not the system's and could not be cancelled
                with nogil:
                    core.tpio_op_cancel(&self.op)
            return _AGAIN
        self.submitted = False
        Py_DECREF(self)  # the system has nothing
        return _CANCEL if status == TPIO_CLOSED else _DONE_AGAIN

    cdef void conclude(self) noexcept:
        """The operation is over. Runs on a pool thread, or on the submitting one when the call was done at once."""
        cdef object result
        cdef Handle handle = self.handle
        cdef int state = FINISHED
        self.submitted = False
        try:
            result = self.outcome()
            while result is _DONE_AGAIN:  # in a loop: a peer may cause it without end
                result = self.outcome()
            if result is _AGAIN:
                return
            if result is _CANCEL or (self.abandoned and not self.shared and self.give_back(self.handle, result)):
                state = CANCELLED
                result = None
        except BaseException as error:
            state = FAILED
            result = error
        self.release_buffer()
        self.settle(state, result)
        if self.turn != 0:
            handle.end_turn(self)

    cdef object outcome(self):
        """The result of an operation that is over: a value, _CANCEL, _AGAIN, or raises."""
        cdef DWORD error = self.op.error
        cdef Py_ssize_t count = self.op.bytes
        cdef int kind = self.kind
        cdef Handle handle = self.handle

        if kind == TRANSMITTED and error == ERROR_HANDLE_EOF:
            error = 0  # the file has become shorter: what there was is sent
            self.size = self.moved + count
        if (kind == WRITE or kind == TRANSMITTED) and error == 0:
            self.moved += count
        if self.position >= 0 and (kind != WRITE or error != 0):  # moved less than it had reserved?
            InterlockedCompareExchange64(&handle.position, self.position + (self.moved if kind == WRITE else count),
                                         self.position + self.size)
        if error == ERROR_OPERATION_ABORTED:
            if self.was_asked_to_end():
                if kind == CUSTOM:
                    try:
                        self.extra(self, error, count)  # may have something to put away
                    except OSError:
                        pass
                return _CANCEL
            if count == 0 and (kind == POLLED or self.is_of_a_connection()):
                return self.go_on(handle.receive_again(self))
        if kind == POLLED and error == 0:
            if count & TPIO_POLL_LOCAL_CLOSE:
                return _CANCEL  # the socket was closed under the poll
            if count & TPIO_POLL_ABORT:
                raise winerror(WSAECONNRESET)
            if count & TPIO_POLL_CONNECT_FAIL and self.op.args.poll.info.status != 0:
                raise winerror(RtlNtStatusToDosError(self.op.args.poll.info.status))
            if count != 0:
                return None
            self.submitted = True  # nothing is known of the socket: poll again
            Py_INCREF(self)  # the system's
            return self.go_on(submit_poll(self))
        if kind == CUSTOM:
            try:
                return self.extra(self, error, count)
            except OSError:
                if error == 0 and handle.is_closed():  # closed before what has succeeded could be finished
                    return _CANCEL
                raise
        if kind == READER:
            return handle.read_on(self, error, count)
        if kind == READ or kind == READ_INTO:
            if count == 0 and error == 0 and handle.was_nothing(self):
                return _CANCEL if self.was_asked_to_end() else self.go_on(handle.receive_again(self))
            if error == ERROR_BROKEN_PIPE or error == ERROR_HANDLE_EOF or error == ERROR_PIPE_NOT_CONNECTED:
                error = count = 0
            if error == ERROR_MORE_DATA and handle.type != FILE_TYPE_SOCKET:
                error = 0  # a part of a message: the next read gets more of it
        elif kind == SIGNALLED and error == WAIT_TIMEOUT:
            return False
        elif kind == WORK:
            return _CANCEL
        if error == ERROR_MORE_DATA or error == WSAEMSGSIZE:
            if kind in (READ, READ_INTO, DATAGRAM, DATAGRAM_INTO, SCATTERED, OUTPUT):
                raise truncated_future(self, error, count)
        if error != 0:
            raise winerror(error)
        if kind == DATAGRAM:
            return self.bytes_read(count), address_of(self)
        if kind == DATAGRAM_INTO:
            return count, address_of(self)
        if kind == READ or kind == OUTPUT:
            return self.bytes_read(count)
        if kind == WRITE or kind == TRANSMITTED:
            if self.moved < self.size and count != 0:
                return handle.write_on(self)
            return self.moved
        if kind == READ_INTO or kind == COUNT or kind == SCATTERED:
            return count
        return True if kind == SIGNALLED else None

    cdef object bytes_read(self, Py_ssize_t count):
        """The bytes object that was read into, shrunk in place."""
        cdef PyObject *data
        if PyBytes_GET_SIZE(self.buffer) == count:
            return self.buffer
        # Without a GIL only the thread that made an object may resize it. A second reference is that of the verb, which
        # has not yet returned.
        if TPIO_FREE_THREADED or Py_REFCNT(self.buffer) != 1:
            return PyBytes_FromStringAndSize(PyBytes_AS_STRING(self.buffer), count)
        data = <PyObject *>self.buffer
        Py_INCREF(self.buffer)
        self.buffer = None  # one reference left, as resizing demands
        _PyBytes_Resize(&data, count)
        result = <object>data
        Py_XDECREF(data)
        return result

    cdef bint was_asked_to_end(self):
        """Is an aborted operation our own doing: cancel() of the future or the handle, or a close of it or the pool?"""
        if self.cancel_asked or self.handle is None:
            return True
        if self.handle.cancelling != 0 or core.tpio_pool_closing(self.handle.pool_.native):
            return True
        return self.generation != self.handle.generation or self.handle.is_closed()

    cdef bint is_of_a_connection(self):
        """Is it a receive that Windows aborts when another one of its connection is cancelled? (It does so with all that are
        pending there, as .NET found too; nothing is lost by that, and those that nobody has cancelled begin anew.)"""
        if self.handle.type != FILE_TYPE_SOCKET or self.handle.datagrams:
            return False
        return self.kind in (READ, READ_INTO, SCATTERED, READER)

    cdef bint may_be_given_back(self, Handle handle) noexcept:
        """False: give_back would do nothing."""
        if self.kind == PROMISE:
            return self.extra is not None
        return handle is not None and self.kind in (READ, READ_INTO, DATAGRAM, DATAGRAM_INTO, SCATTERED, LOCKED, CUSTOM, READER)

    cdef bint give_back(self, Handle handle, object result):
        """The operation was faster than the cancel of the only await on it: what it brought is for the next one.
        False: it brought nothing that can be given back, and its result stands."""
        if self.kind == PROMISE:
            return self.extra is not None and bool(self.extra(result))
        if handle is None:
            return False
        if self.kind == CUSTOM:
            return handle._give_back(result)
        if self.kind == DATAGRAM:
            handle.keep(result[0], result[1])
            return True
        if self.kind == DATAGRAM_INTO:
            handle.keep(self.view_bytes(result[0]), result[1])
            return True
        if self.kind == READER:
            handle.keep_first(result, False)
            return True
        if self.kind == LOCKED:
            return unlock_again(handle, self.name)
        if self.kind == READ_INTO:
            result = self.view_bytes(result)
        elif self.kind == SCATTERED:
            result = (<Buffers>self.extra).collect(result)
        elif self.kind != READ:
            return False
        if self.position >= 0:
            InterlockedCompareExchange64(&handle.position, self.position, self.position + self.op.bytes)
        elif handle.type != FILE_TYPE_DISK and (result or (handle.type == FILE_TYPE_PIPE and self.op.error == 0)):
            # (Nothing at all is an empty message: a pipe without messages does not end a read with that.)
            handle.keep(result, self.op.error == ERROR_MORE_DATA if handle.type == FILE_TYPE_PIPE else None)
        return True

    cdef object view_bytes(self, Py_ssize_t count):
        """The first bytes of the caller's buffer, which may have been given back to him already."""
        if self.has_view:
            return PyBytes_FromStringAndSize(<char *>self.view.buf, count)
        return copy_of(self.buffer)[:count]

    cdef void release_buffer(self) noexcept:
        # Kept for a cancelled await, which may come only now: see Awaiter.take_back.
        if not self.has_view or self.shared or (self.kind != READ_INTO and self.kind != DATAGRAM_INTO):
            self.buffer = None
        if self.kind == SCATTERED and self.extra is not None:
            (<Buffers>self.extra).release()
        if self.has_view:
            self.has_view = False
            PyBuffer_Release(&self.view)

    def __dealloc__(self):
        if self.has_view:
            PyBuffer_Release(&self.view)

    # ---- the end ----------------------------------------------------------------------------------------------------

    cdef bint settle(self, int state, object value):
        """The one way in which a future ends. False: it had ended before."""
        cdef Blocked *blocked
        cdef Handle handle = None
        cdef PoolBase pool = self.pool
        cdef object awaiters = None, condition = None, asked_for = None
        cdef bint ended, unwanted, given_back = False
        cdef Deadline deadline = self.deadline
        while True:
            if deadline is not None and state == CANCELLED and deadline.passed:
                state = FAILED
                value = deadline.error()
            with cython.critical_section(self):
                ended = self.state >= CANCELLED
                asked_for = self.condition
                unwanted = not ended and state == FINISHED and self.abandoned and not self.shared
                if not ended and not unwanted and asked_for is condition:
                    self.value = value
                    if TPIO_FREE_THREADED:
                        hand_on(value)
                    if self.outgoing != 0:  # before the end can be seen
                        InterlockedExchangeAdd64(&self.handle.outgoing, -self.outgoing)
                    self.state = state
                    awaiters, self.awaiters = self.awaiters, None
                    handle, self.handle = self.handle, None
                    self.on_cancel = None
                    deadline, self.deadline = self.deadline, None
                    if self.kind != PROMISE and self.kind != SCATTERED:
                        self.extra = None
                    while self.blocked != NULL:
                        blocked = self.blocked
                        self.blocked = blocked.next
                        signal_blocked(blocked)
            if unwanted:  # the only await was cancelled at the last moment
                self.abandoned = False
                try:
                    given_back = self.give_back(self.handle, value)
                except BaseException as error:  # no memory
                    state = FAILED
                    value = error
                if given_back:
                    state = CANCELLED
                    value = None
                continue
            if ended or asked_for is condition:
                break
            # Somebody has asked for the base class's condition and may be looking at the state under it.
            condition = asked_for
            condition.acquire()
        if condition is not None:
            try:
                if not ended:
                    self._tell_waiters()
                    condition.notify_all()
            except BaseException as error:  # no memory: the future has ended all the same
                report_unraisable(error, self)
            finally:
                condition.release()
        if ended:
            return given_back
        if deadline is not None and deadline.timer is not None:
            deadline.timer.ask_to_cancel()
        if self.impatient:
            self.impatient = False
            end_impatience()
        if handle is not None:
            pool = handle.pool_
            if InterlockedDecrement(&handle.pending) == 0 and handle.is_closed():
                WakeByAddressAll(&handle.pending)
        if self.kind == WORK and InterlockedDecrement(&pool.functions) == 0:
            WakeByAddressAll(&pool.functions)
        if pool is not None and InterlockedDecrement(&pool.unended) == 0 and core.tpio_pool_closing(pool.native):
            WakeByAddressAll(&pool.unended)
        if awaiters is not None:
            if type(awaiters) is list:
                for awaiter in awaiters:
                    (<Awaiter>awaiter).inbox.put(<Awaiter>awaiter)
            else:
                (<Awaiter>awaiters).inbox.put(<Awaiter>awaiters)
        return True

    cdef void take_from_port(self) noexcept:
        """It is shared from now on: its end must not wait until the loop has time that was to take it."""
        cdef bint was_patient
        if self.owner.port == NULL:
            return
        with cython.critical_section(self):
            was_patient = self.state < CANCELLED and not self.impatient
            self.impatient = self.impatient or was_patient
            self.owner.port = NULL
        if was_patient:
            begin_impatience()

    cdef bint has_ended(self) noexcept:
        """For whoever looks from time to time: what has come to a loop's port has ended, although the loop is busy."""
        cdef Port *port = self.owner.port
        if self.state < CANCELLED and port != NULL:
            conclude_port(port)
        return self.state >= CANCELLED

    def _tell_waiters(self):
        for waiter in self.waiters or ():
            if self.state == CANCELLED:
                waiter.add_cancelled(self)
            elif self.state == FAILED:
                waiter.add_exception(self)
            else:
                waiter.add_result(self)

    cdef void run_callbacks(self) noexcept:
        cdef object callbacks
        while True:
            with cython.critical_section(self):
                callbacks = self.callbacks
                self.callbacks = None
            if callbacks is None:
                return
            if type(callbacks) is list:
                for callback in callbacks:
                    self.run_callback(callback)
            else:
                self.run_callback(callbacks)

    cdef void run_callback(self, object callback) noexcept:
        try:
            callback(self)
        except BaseException as error:
            report_unraisable(error, callback)

    # ---- concurrent.futures.Future ----------------------------------------------------------------------------------

    def cancel(self):
        """Asks for the operation to be cancelled; True when that was asked (or the future is cancelled already).

        The future ends when the system says so: cancelled, or with its result when the operation was faster. Until then
        its buffer belongs to the system. Callbacks of a function or timer that had not begun run at once.
        https://learn.microsoft.com/windows/win32/fileio/cancelioex-func
        """
        return self.ask_to_cancel()

    cdef bint ask_to_cancel(self):
        cdef core.tpio_status status
        cdef object hook = None
        cdef Handle handle = None
        cdef bint submitted = False
        cdef int state
        with cython.critical_section(self):
            state = self.state
            if state < RUNNING:
                self.cancel_asked = True
                submitted = self.submitted
                handle = self.handle  # kept over the call
                hook = self.on_cancel
        if state >= RUNNING:
            return state == CANCELLED
        if submitted:
            with nogil:
                status = core.tpio_op_cancel(&self.op)
            if status == TPIO_DONE:
                Py_DECREF(self)  # the system's
                self.submitted = False
                self.settle(CANCELLED, None)
                self.run_callbacks()
            return status != TPIO_CLOSED or handle is not None
        if hook is not None:
            return bool(hook())
        if self.turn == WAITS and handle is not None and handle.leave_turns(self):
            self.release_buffer()
            self.settle(CANCELLED, None)
            self.run_callbacks()
            return True
        if self.kind != PROMISE:
            return True  # between two parts: the next is not submitted any more
        if self.settle(CANCELLED, None):
            self.run_callbacks()
        return self.state == CANCELLED

    def cancelled(self):
        """True when the future has ended cancelled."""
        return self.has_ended() and self.state == CANCELLED

    def running(self):
        """True while a submitted function is being executed."""
        return self.state == RUNNING

    def done(self):
        """True when the future has ended: result, exception or cancelled."""
        return self.has_ended()

    def result(self, timeout=None):
        """The result; blocks until there is one, at most `timeout` seconds (TimeoutError).

        Raises what the operation raised, or CancelledError. Reacts to Ctrl-C in the main thread.
        """
        if self.state < CANCELLED and not block_on(self, timeout):
            raise TimeoutError()
        return self.told(self.look())

    cdef int look(self) noexcept:
        """The state, for somebody who is told what there is: what has been looked at is not given back any more."""
        cdef object buffer = None
        cdef int state
        with cython.critical_section(self):
            state = self.state
            if state > CANCELLED:
                self.shared = True
                buffer, self.buffer = self.buffer, None
        return state

    cdef object told(self, int state):
        """The result, after a look that has found the future ended."""
        if state == FINISHED:
            return self.value
        if state == CANCELLED:
            raise CancelledError()
        try:
            raise self.value
        finally:
            self = None  # the traceback refers to this frame: no cycle through it

    def exception(self, timeout=None):
        """The exception that the operation raised, or None; blocks like result()."""
        cdef int state
        if self.state < CANCELLED and not block_on(self, timeout):
            raise TimeoutError()
        state = self.look()
        if state == CANCELLED:
            raise CancelledError()
        return self.value if state == FAILED else None

    def add_done_callback(self, fn):
        """Calls fn(future) when the future has ended: on a pool thread, or at once if it has ended already.

        An exception from it goes to sys.unraisablehook. A blocking callback occupies its thread and nothing else.
        """
        cdef bint now
        if not callable(fn):
            raise TypeError(f"a callable is needed, not {type(fn).__name__!r}")
        with cython.critical_section(self):
            self.shared = True
            now = self.state >= CANCELLED
            if now:
                pass  # those that were added earlier run on their own thread, perhaps just now
            elif self.callbacks is None:
                self.callbacks = fn
            elif type(self.callbacks) is list:
                self.callbacks.append(fn)
            else:
                self.callbacks = [self.callbacks, fn]
        if now:
            run_at_once(self, fn)
        else:
            self.take_from_port()

    cdef bint is_promise(self) noexcept:
        """Is it somebody's own, and not that of an operation, a function, or something that the façade does?"""
        return self.kind == PROMISE and self.on_cancel is None

    def set_running_or_notify_cancel(self):
        """For executors: the function is about to begin. False: it was cancelled."""
        cdef int state
        cdef bint ours
        with cython.critical_section(self):
            state = self.state
            ours = self.is_promise()
            if state == PENDING and ours:
                self.state = RUNNING
        if state == PENDING and ours:
            return True
        if state == CANCELLED:
            return False
        raise RuntimeError("Future in unexpected state")

    def set_result(self, result):
        """Ends a future that is not an operation's."""
        if not self.is_promise() or not self.settle(FINISHED, result):
            raise InvalidStateError(f"{_STATES[self.state]}: {self!r}")
        self.run_callbacks()

    def set_exception(self, exception):
        """Ends a future that is not an operation's, with an exception."""
        if not self.is_promise() or not self.settle(FINISHED if exception is None else FAILED, exception):
            raise InvalidStateError(f"{_STATES[self.state]}: {self!r}")
        self.run_callbacks()

    def _end(self, int state, value):
        """For the façade: as set_result, set_exception, cancel, but a future that has ended stays as it is."""
        if self.settle(state, value):
            self.run_callbacks()
            return True
        return False

    def _settle(self, int state, value):
        """For the façade: _end inside a lock. _run_callbacks is to follow outside."""
        return self.settle(state, value)

    def _run_callbacks(self):
        self.run_callbacks()

    @property
    def _on_cancel(self):
        """For the façade: what cancel() calls while this future, which has no operation, is pending."""
        return self.on_cancel

    @_on_cancel.setter
    def _on_cancel(self, hook):
        self.on_cancel = hook

    @property
    def _on_give_back(self):
        """For the façade: takes the result of a future whose only await was cancelled just when it ended."""
        return self.extra

    @_on_give_back.setter
    def _on_give_back(self, hook):
        self.extra = hook

    def _limit(self, timeout, str what):
        """For the façade: cancels the future after `timeout` seconds (None: never); it fails then with a TimeoutError.
        `what` names the operation in the message. Returns the future."""
        return in_time(self, time_limit(timeout), what)

    # What concurrent.futures.wait and as_completed look at, made when they do.

    @property
    def _state(self):
        return _STATES[self.state]

    @property
    def _condition(self):
        condition = threading.Condition()
        with cython.critical_section(self):
            self.shared = True
            if self.condition is None:
                self.condition = condition
        self.take_from_port()
        return self.condition

    @property
    def _waiters(self):
        waiters = _Waiters()
        with cython.critical_section(self):
            if self.waiters is None:
                self.waiters = waiters
            return self.waiters

    @property
    def _done_callbacks(self):
        callbacks = self.callbacks
        if callbacks is None:
            return []
        return list(callbacks) if type(callbacks) is list else [callbacks]

    @property
    def _result(self):
        return self.value if self.state == FINISHED else None

    @property
    def _exception(self):
        return self.value if self.state == FAILED else None

    def __repr__(self):
        cdef int state = self.state  # once: it may end meanwhile
        name = type(self).__name__
        if state == FINISHED:
            return f"<{name} at {id(self):#x} state=finished returned {type(self.value).__name__}>"
        if state == FAILED:
            return f"<{name} at {id(self):#x} state=finished raised {type(self.value).__name__}>"
        return f"<{name} at {id(self):#x} state={('pending', 'running', 'cancelled')[state]}>"

    def __await__(self):
        return make_awaiter(self)


# timeout= of an operation. There is one mechanism for every future: a timer cancels it, and `settle` turns the end that this
# cancel causes into a TimeoutError. An operation that wins the race keeps its result.

cdef enum:
    NO_LIMIT = -1

cdef double time_limit(object timeout) except? -2:
    """Seconds, or NO_LIMIT for None. Raises before anything is submitted."""
    return NO_LIMIT if timeout is None else _seconds(timeout, "the timeout")


cdef class Deadline:
    """The time limit of a future. The timer calls it."""

    cdef FutureBase future
    cdef FutureBase timer
    cdef str what
    cdef double seconds
    cdef bint passed

    def __call__(self, timer):
        future, self.future = self.future, None
        if not timer.cancelled():
            self.passed = True
            (<FutureBase>future).ask_to_cancel()

    cdef object error(self):
        error = TimeoutError(f"{self.what} timed out after {self.seconds:g} seconds")
        error.errno = errno.ETIMEDOUT
        error.winerror = ERROR_TIMEOUT
        return error


cdef FutureBase in_time(FutureBase future, double limit, str what):
    """The same future, which is cancelled when `limit` seconds have passed."""
    cdef Deadline deadline
    cdef FutureBase timer
    cdef Handle handle
    cdef PoolBase pool
    cdef bint ended = False
    if limit == NO_LIMIT or future.state >= CANCELLED:
        return future
    deadline = Deadline.__new__(Deadline)
    deadline.future = future
    deadline.what = what
    deadline.seconds = limit
    with cython.critical_section(future):
        handle = future.handle
        pool = future.pool if handle is None else handle.pool_
        future.deadline = deadline  # first, because the timer may fire before this call returns
    try:
        timer = call_after(deadline, limit, 0, pool)
    except BaseException:
        future.ask_to_cancel()
        raise
    with cython.critical_section(future):
        ended = future.state >= CANCELLED
        deadline.timer = timer
    if ended:
        timer.ask_to_cancel()
    return future


cdef void hand_on(object value) noexcept:
    """A future's value, which another thread will drop, or the members of a tuple that is one."""
    tpio_hand_on(<PyObject *>value)
    if type(value) is tuple:
        for member in <tuple>value:
            tpio_hand_on(<PyObject *>member)


cdef enum:
    DEEPEST = 32


cdef int run_at_once(FutureBase future, object callback) except -1:
    """The callback of a future that is done when it is added. A chain of operations that all complete at once would
    recurse without end: from some depth on it goes on on another thread. (Not later on this one: what it is inside of
    may be waiting for it.)"""
    cdef core.tpio_thread *thread = core.tpio_thread_current()
    if thread == NULL:
        future.run_callback(callback)
    elif thread.nested >= DEEPEST:
        hand_over(future, callback)
    else:
        thread.nested += 1
        future.run_callback(callback)
        thread.nested -= 1
    return 0


class Future(FutureBase, concurrent.futures.Future):
    __doc__ = FutureBase.__doc__
    __slots__ = ()


cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        object (*tp_new)(PyTypeObject *type, object args, PyObject *kwargs)

cdef PyTypeObject *future_type = <PyTypeObject *>Future
cdef tuple no_arguments = ()


cdef FutureBase new_future(int kind):
    """A Future without the ceremony of a call."""
    cdef FutureBase future = <FutureBase>future_type.tp_new(future_type, no_arguments, NULL)
    future.kind = kind
    future.owner.future = <void *>future
    future.op.user = &future.owner
    future.op.complete = on_complete
    return future


cdef FutureBase done_future(object value):
    cdef FutureBase future = new_future(PROMISE)
    future.value = value
    future.state = FINISHED
    return future


def done_future_of(value):
    """A future that has ended with a result."""
    return done_future(value)
