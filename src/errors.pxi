# Win32 error codes to exceptions, keeping the code.


class BindError(OSError):
    """The handle cannot be bound to a pool: it is not overlapped (`synchronous` is True), or it is already bound to a
    completion port.

    https://learn.microsoft.com/windows/win32/api/threadpoolapiset/nf-threadpoolapiset-createthreadpoolio
    """

    synchronous = False


# Codes for which OSError by itself does not find the right subclass, with the errno that goes with it.
import errno

cdef dict _SUBCLASSES = {
    ERROR_NETNAME_DELETED: (ConnectionResetError, errno.ECONNRESET),
    ERROR_CONNECTION_REFUSED: (ConnectionRefusedError, errno.ECONNREFUSED),
    ERROR_CONNECTION_ABORTED: (ConnectionAbortedError, errno.ECONNABORTED),
    ERROR_SEM_TIMEOUT: (TimeoutError, errno.ETIMEDOUT),
    ERROR_TIMEOUT: (TimeoutError, errno.ETIMEDOUT),
    WAIT_TIMEOUT: (TimeoutError, errno.ETIMEDOUT),
    ERROR_NO_DATA: (BrokenPipeError, errno.EPIPE),
    ERROR_BROKEN_PIPE: (BrokenPipeError, errno.EPIPE),
    ERROR_PIPE_NOT_CONNECTED: (BrokenPipeError, errno.EPIPE),
    10053: (ConnectionAbortedError, errno.ECONNABORTED),
    10054: (ConnectionResetError, errno.ECONNRESET),
    10060: (TimeoutError, errno.ETIMEDOUT),
    10061: (ConnectionRefusedError, errno.ECONNREFUSED),
}


def winerror(code, filename=None):
    """The OSError for a Win32 error code, as the right subclass and with `winerror` set.

    A code of 2**31 or more (an HRESULT, an NTSTATUS) is negative there, as OSError takes no other: -2147467259 is 0x80004005.
    """
    cdef int number = <int><unsigned int>(code & 0xFFFFFFFF)
    cdef object message = _format(number)
    if filename is not None:
        message = message.replace("%1", str(filename))  # as the system means it
    kind = _SUBCLASSES.get(number)
    if kind is None:
        return OSError(0, message, filename, number)
    error = kind[0](0, message, filename, number)
    error.errno = kind[1]
    return error


def report_unraisable(error, where):
    """Hands an exception that nobody can catch to sys.unraisablehook."""
    PyErr_SetObject(type(error), error)
    PyErr_WriteUnraisable(<PyObject *>where)


cdef object _format(int code):
    """The system's text for an error code.

    https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-formatmessagew
    """
    cdef WCHAR *text = NULL
    cdef DWORD length = FormatMessageW(FORMAT_MESSAGE_ALLOCATE_BUFFER | FORMAT_MESSAGE_FROM_SYSTEM |
                                       FORMAT_MESSAGE_IGNORE_INSERTS, NULL, code, 0, <WCHAR *>&text, 0, NULL)
    if length == 0:
        return f"Windows error {code}"
    try:
        return PyUnicode_FromWideChar(text, length).rstrip(" \r\n.")
    finally:
        LocalFree(text)


cdef extern from "tpio_win32.h" nogil:
    enum:
        FORMAT_MESSAGE_ALLOCATE_BUFFER
        FORMAT_MESSAGE_FROM_SYSTEM
        FORMAT_MESSAGE_IGNORE_INSERTS
    DWORD FormatMessageW(DWORD flags, void *source, DWORD code, DWORD language, WCHAR *text, DWORD size, void *arguments)


cdef dict _VERBS = {
    "ReadFile": TPIO_READ,
    "WriteFile": TPIO_WRITE,
    "WSARecv": TPIO_RECV,
    "WSASend": TPIO_SEND,
    "WSARecvFrom": TPIO_RECV_FROM,
    "WSASendTo": TPIO_SEND_TO,
    "ConnectNamedPipe": TPIO_CONNECT_PIPE,
    "AcceptEx": TPIO_ACCEPT,
    "ConnectEx": TPIO_CONNECT,
    "DisconnectEx": TPIO_DISCONNECT,
    "TransmitFile": TPIO_TRANSMIT,
    "DeviceIoControl": TPIO_IOCTL,
    "IOCTL_AFD_POLL": TPIO_POLL,
    "LockFileEx": TPIO_LOCK,
    "ReadDirectoryChangesW": TPIO_WATCH,
}


def classify(verb, int error, bint skip):
    """What the return of a Win32 call means (for tests): "pending", a completion comes, or "done", none comes.

    verb: the name of the call. error: its error code, 0 for success. skip: FILE_SKIP_COMPLETION_PORT_ON_SUCCESS is set.
    """
    return "pending" if core.tpio_op_classify(_VERBS[verb], error, skip) == TPIO_PENDING else "done"
