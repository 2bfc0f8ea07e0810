# cython: language_level=3, freethreading_compatible=True
"""An echo in Cython on tpio: its callbacks run on threads of the system, without the GIL, and never touch Python.

    connection = tpio.PipeListener("name").accept().result()
    echo_cython.serve(connection)       # sends back what the client writes, until either side is closed
"""
from libc.stdlib cimport calloc, free

cimport tpio

tpio.tpio_import()

cdef enum:
    SIZE = 16384

cdef struct Echo:
    tpio.tpio_op op          # one is enough: there is never more than one under way
    tpio.tpio_handle *handle  # a reference: somebody in Python may close the connection, or drop it
    bint writing
    tpio.DWORD size          # of what is in the buffer
    tpio.DWORD written
    char[SIZE] buffer


cdef tpio.tpio_status begin_next(Echo *echo) noexcept nogil:
    """The operation is over: submits the next one. TPIO_CLOSED: there is none."""
    if echo.op.error != 0:
        return tpio.TPIO_CLOSED  # the end of a pipe is an error too
    if echo.writing:
        echo.written += echo.op.bytes
    else:
        echo.size = echo.op.bytes
        echo.written = 0
        if echo.size == 0:
            return tpio.TPIO_CLOSED
    echo.writing = echo.written < echo.size
    if echo.writing:
        return tpio.tpio_write(&echo.op, echo.handle, echo.buffer + echo.written, echo.size - echo.written, 0)
    return tpio.tpio_read(&echo.op, echo.handle, echo.buffer, SIZE, 0)


cdef void go_on(Echo *echo, tpio.tpio_status status) noexcept nogil:
    """After TPIO_PENDING the echo is the next callback's, which may be running already."""
    while status == tpio.TPIO_DONE:
        status = begin_next(echo)
    if status == tpio.TPIO_CLOSED:
        tpio.tpio_handle_close(echo.handle)
        tpio.tpio_handle_unref(echo.handle)
        free(echo)


cdef tpio.tpio_tail_fn on_complete(tpio.tpio_op *op) noexcept nogil:
    go_on(<Echo *>op.user, tpio.TPIO_DONE)
    return NULL


def serve(connection):
    """Echoes what arrives on a tpio.Handle, in the background, and closes it at the end."""
    cdef tpio.tpio_handle *handle = tpio.tpio_handle_of(connection)
    cdef Echo *echo = <Echo *>calloc(1, sizeof(Echo))
    if echo == NULL:
        raise MemoryError
    tpio.tpio_handle_ref(handle)
    echo.handle = handle
    echo.op.complete = on_complete
    echo.op.user = echo
    go_on(echo, tpio.tpio_read(&echo.op, handle, echo.buffer, SIZE, 0))
