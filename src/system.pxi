# The Win32 calls that make and ask handles; synchronous, with the GIL released where they may take their time.
#
# They return plain ints (HANDLEs), which the façade binds or closes.

cdef extern from *:
    """
    #include <sddl.h>
    """

cdef extern from "tpio_win32.h" nogil:
    ctypedef unsigned short WCHAR "wchar_t"
    ctypedef struct SECURITY_ATTRIBUTES:
        DWORD nLength
        void *lpSecurityDescriptor
        BOOL bInheritHandle
    ctypedef union LARGE_INTEGER:
        long long QuadPart
    ctypedef struct FILE_END_OF_FILE_INFO:
        LARGE_INTEGER EndOfFile
    enum:
        FILE_FLAG_OVERLAPPED
        FILE_FLAG_FIRST_PIPE_INSTANCE
        FILE_FLAG_BACKUP_SEMANTICS
        PIPE_TYPE_BYTE
        PIPE_TYPE_MESSAGE
        PIPE_REJECT_REMOTE_CLIENTS
        PIPE_ACCESS_INBOUND
        PIPE_ACCESS_OUTBOUND
        PIPE_ACCESS_DUPLEX
        OPEN_EXISTING
        FileEndOfFileInfo
        SDDL_REVISION_1
        TOKEN_QUERY
        TokenUser
        SECURITY_SQOS_PRESENT
        SECURITY_IDENTIFICATION
        SIO_UDP_CONNRESET_ "_WSAIOW(IOC_VENDOR, 12)"

    HANDLE CreateNamedPipeW(void *name, DWORD open_mode, DWORD pipe_mode, DWORD instances, DWORD out, DWORD into,
                            DWORD timeout, SECURITY_ATTRIBUTES *security)
    HANDLE CreateFileW(void *name, DWORD access, DWORD share, SECURITY_ATTRIBUTES *security, DWORD disposition,
                       DWORD flags, HANDLE template)
    BOOL WaitNamedPipeW(void *name, DWORD timeout)
    BOOL SetNamedPipeHandleState(HANDLE pipe, DWORD *mode, DWORD *a, DWORD *b)
    BOOL DisconnectNamedPipe(HANDLE pipe)
    BOOL GetNamedPipeInfo(HANDLE pipe, DWORD *flags, DWORD *a, DWORD *b, DWORD *c)
    BOOL GetFileSizeEx(HANDLE file, LARGE_INTEGER *size)
    BOOL SetFileInformationByHandle(HANDLE file, int what, void *info, DWORD size)
    BOOL FlushFileBuffers(HANDLE file)
    HANDLE GetCurrentProcess()
    BOOL OpenProcessToken(HANDLE process, DWORD access, HANDLE *token)
    BOOL GetTokenInformation(HANDLE token, int what, void *info, DWORD size, DWORD *needed)
    void *LocalFree(void *memory)
    int WSAIoctl(SOCKET socket, DWORD code, void *input, DWORD input_size, void *output, DWORD output_size,
                 DWORD *bytes, void *overlapped, void *routine)

cdef extern from *:
    """
    /* The user of this process, as "S-1-5-...". Freed with LocalFree. */
    static DWORD tpio_user_sid(wchar_t **text)
    {
        union { TOKEN_USER user; BYTE space[sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE]; } info;
        DWORD size, error = 0;
        HANDLE token;

        if (!OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token))
            return GetLastError();
        if (!GetTokenInformation(token, TokenUser, &info, sizeof info, &size) ||
            !ConvertSidToStringSidW(info.user.User.Sid, text))
            error = GetLastError();
        CloseHandle(token);
        return error;
    }
    """
    DWORD tpio_user_sid(WCHAR **text) nogil
    BOOL ConvertStringSecurityDescriptorToSecurityDescriptorW(void *text, DWORD revision, void **descriptor, DWORD *size) nogil

cdef extern from "Python.h":
    WCHAR *PyUnicode_AsWideCharString(object text, Py_ssize_t *size) except NULL
    object PyUnicode_FromWideChar(WCHAR *text, Py_ssize_t size)
    void PyMem_Free(void *memory)


cdef class Wide:
    """A str as the system takes it; one with a NUL inside is refused (ValueError)."""

    cdef WCHAR *text

    def __cinit__(self, object text):
        self.text = PyUnicode_AsWideCharString(text, NULL)

    def __dealloc__(self):
        PyMem_Free(self.text)


cdef class Security:
    """SECURITY_ATTRIBUTES: a descriptor in SDDL (None: the system's default) and whether children inherit."""

    cdef SECURITY_ATTRIBUTES attributes

    def __cinit__(self, object sddl, bint inherit):
        cdef Wide text
        self.attributes.nLength = sizeof(SECURITY_ATTRIBUTES)
        self.attributes.bInheritHandle = inherit
        if sddl is not None:
            text = Wide(sddl)
            if not ConvertStringSecurityDescriptorToSecurityDescriptorW(
                    text.text, SDDL_REVISION_1, &self.attributes.lpSecurityDescriptor, NULL):
                raise ValueError(f"not a security descriptor in SDDL: {sddl!r}") from winerror(GetLastError())

    def __dealloc__(self):
        LocalFree(self.attributes.lpSecurityDescriptor)


cdef object made(HANDLE handle, object name):
    if handle == INVALID_HANDLE_VALUE:
        raise winerror(GetLastError(), name)
    return <uintptr_t>handle


def user_sid():
    """The SID of the user that this process runs as, as a str.

    https://learn.microsoft.com/windows/win32/api/sddl/nf-sddl-convertsidtostringsidw
    """
    cdef WCHAR *text = NULL
    cdef DWORD error = tpio_user_sid(&text)
    if error != 0:
        raise winerror(error)
    try:
        return PyUnicode_FromWideChar(text, -1)
    finally:
        LocalFree(text)


def create_named_pipe(name, access, *, bint first, bint message, DWORD instances, DWORD buffer_size, sddl):
    """The server's end of a new instance of a named pipe, overlapped, for local clients; access: "r", "w" or "rw".

    https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew
    """
    cdef Wide wide = Wide(name)
    cdef Security security = Security(sddl, False)
    cdef DWORD mode = FILE_FLAG_OVERLAPPED
    cdef DWORD kind = PIPE_REJECT_REMOTE_CLIENTS
    cdef HANDLE handle
    mode |= {"r": PIPE_ACCESS_INBOUND, "w": PIPE_ACCESS_OUTBOUND, "rw": PIPE_ACCESS_DUPLEX}[access]
    if first:
        mode |= FILE_FLAG_FIRST_PIPE_INSTANCE
    if message:
        kind |= PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE
    with nogil:
        handle = CreateNamedPipeW(wide.text, mode, kind, instances, buffer_size, buffer_size, 0, &security.attributes)
    return made(handle, name)


def create_file(name, DWORD access, DWORD share, DWORD disposition, DWORD flags, *, bint inherit=False):
    """CreateFileW. A pipe that is opened so can at most be identified by its server, not impersonated, when flags say so.

    https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew
    """
    cdef Wide wide = Wide(name)
    cdef Security security = Security(None, inherit)
    cdef HANDLE handle
    with nogil:
        handle = CreateFileW(wide.text, access, share, &security.attributes, disposition, flags, NULL)
    return made(handle, name)


def wait_named_pipe(name, DWORD milliseconds):
    """True when an instance of the pipe is free; False when the time is up; raises when there is no such pipe. Blocks.

    https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-waitnamedpipew
    """
    cdef Wide wide = Wide(name)
    cdef DWORD error = 0
    with nogil:
        if not WaitNamedPipeW(wide.text, milliseconds):
            error = GetLastError()
    if error == ERROR_SEM_TIMEOUT or error == WAIT_TIMEOUT:
        return False
    if error != 0:
        raise winerror(error, name)
    return True


def set_message_mode(size_t handle):
    """Lets a pipe's client read message by message.

    https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-setnamedpipehandlestate
    """
    cdef DWORD mode = PIPE_READMODE_MESSAGE
    if not SetNamedPipeHandleState(<HANDLE>handle, &mode, NULL, NULL):
        raise winerror(GetLastError())


def is_message_pipe(size_t handle):
    """Was the pipe made for messages?

    https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-getnamedpipeinfo
    """
    cdef DWORD flags = 0
    if not GetNamedPipeInfo(<HANDLE>handle, &flags, NULL, NULL, NULL):
        raise winerror(GetLastError())
    return (flags & PIPE_TYPE_MESSAGE) != 0


def close_handle(size_t handle):
    """CloseHandle."""
    if not CloseHandle(<HANDLE>handle):
        raise winerror(GetLastError())


def file_size(size_t handle):
    """https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-getfilesizeex"""
    cdef LARGE_INTEGER size
    if not GetFileSizeEx(<HANDLE>handle, &size):
        raise winerror(GetLastError())
    return size.QuadPart


def set_file_size(size_t handle, long long size):
    """https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-setfileinformationbyhandle"""
    cdef FILE_END_OF_FILE_INFO info
    cdef DWORD error = 0
    info.EndOfFile.QuadPart = size
    with nogil:
        if not SetFileInformationByHandle(<HANDLE>handle, FileEndOfFileInfo, &info, sizeof(info)):
            error = GetLastError()
    if error != 0:
        raise winerror(error)


def flush_file(size_t handle):
    """https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-flushfilebuffers"""
    cdef DWORD error = 0
    with nogil:
        if not FlushFileBuffers(<HANDLE>handle):
            error = GetLastError()
    if error != 0:
        raise winerror(error)


def ignore_port_unreachable(size_t handle):
    """A datagram that found no receiver does not make later receives fail (SIO_UDP_CONNRESET off).

    https://learn.microsoft.com/windows/win32/winsock/winsock-ioctls
    """
    cdef BOOL off = False
    cdef DWORD bytes
    WSAIoctl(<SOCKET>handle, SIO_UDP_CONNRESET_, &off, sizeof(off), NULL, 0, &bytes, NULL, NULL)
