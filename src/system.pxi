# The Win32 calls that make and ask handles; synchronous, with the GIL released where they may take their time.
#
# They return plain ints (HANDLEs), which the façade binds or closes.

cdef extern from *:
    """
    #include <sddl.h>
    """

cdef extern from "tpio_win32.h" nogil:
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
        THREAD_TERMINATE
        FileEndOfFileInfo
        SDDL_REVISION_1
        TOKEN_QUERY
        TokenUser
        SECURITY_SQOS_PRESENT
        SECURITY_IDENTIFICATION
        SIO_UDP_CONNRESET_ "_WSAIOW(IOC_VENDOR, 12)"
        ERROR_OUTOFMEMORY
        ERROR_NO_SYSTEM_RESOURCES

    HANDLE CreateNamedPipeW(void *name, DWORD open_mode, DWORD pipe_mode, DWORD instances, DWORD out, DWORD into,
                            DWORD timeout, SECURITY_ATTRIBUTES *security)
    HANDLE CreateFileW(void *name, DWORD access, DWORD share, SECURITY_ATTRIBUTES *security, DWORD disposition,
                       DWORD flags, HANDLE template)
    BOOL WaitNamedPipeW(void *name, DWORD timeout)
    HANDLE OpenThread(DWORD access, BOOL inherit, DWORD id)
    BOOL CancelSynchronousIo(HANDLE thread)
    BOOL SetNamedPipeHandleState(HANDLE pipe, DWORD *mode, DWORD *a, DWORD *b)
    BOOL DisconnectNamedPipe(HANDLE pipe)
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


cdef class Wide:
    """A str as the system takes it; one with a NUL inside is refused (ValueError)."""

    cdef WCHAR *text

    def __cinit__(self, object text):
        if not isinstance(text, str):  # the function below says no more than that an argument is bad
            raise TypeError(f"a str is needed, not {type(text).__name__!r}")
        self.text = PyUnicode_AsWideCharString(text, NULL)

    def __dealloc__(self):
        PyMem_Free(self.text)


cdef class Security:
    """SECURITY_ATTRIBUTES: a descriptor in SDDL (None: the system's default) and whether children inherit."""

    cdef SECURITY_ATTRIBUTES attributes

    def __cinit__(self, object sddl, bint inherit):
        cdef DWORD error
        cdef Wide text
        self.attributes.nLength = sizeof(SECURITY_ATTRIBUTES)
        self.attributes.bInheritHandle = inherit
        if sddl is not None:
            text = Wide(sddl)
            if not ConvertStringSecurityDescriptorToSecurityDescriptorW(
                    text.text, SDDL_REVISION_1, &self.attributes.lpSecurityDescriptor, NULL):
                error = GetLastError()
                self.attributes.lpSecurityDescriptor = NULL  # a failed call may leave one there that it has freed
                if error == ERROR_NOT_ENOUGH_MEMORY or error == ERROR_OUTOFMEMORY or error == ERROR_NO_SYSTEM_RESOURCES:
                    raise winerror(error)  # nothing is wrong with the text
                raise ValueError(f"not a security descriptor in SDDL: {sddl!r}") from winerror(error)

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


cdef enum:
    HANDLES_CLOSED = 676  # ERROR_HANDLES_CLOSED


def wait_named_pipe(name, DWORD milliseconds):
    """True when an instance of the pipe is free; False when the time is up, or after cancel_blocking_call; raises when
    there is no such pipe. Blocks.

    https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-waitnamedpipew
    """
    cdef Wide wide = Wide(name)
    cdef DWORD error = 0
    with nogil:
        if not WaitNamedPipeW(wide.text, milliseconds):
            error = GetLastError()
    if error == ERROR_SEM_TIMEOUT or error == WAIT_TIMEOUT or error == ERROR_OPERATION_ABORTED:
        return False
    if error != 0 and error != HANDLES_CLOSED:  # the pipe has gone meanwhile: who opens it is told so
        raise winerror(error, name)
    return True


def cancel_blocking_call(unsigned thread):
    """Ends the system call in which a thread blocks, if it is in one.

    https://learn.microsoft.com/windows/win32/fileio/cancelsynchronousio-func
    """
    cdef HANDLE handle = OpenThread(THREAD_TERMINATE, False, thread)
    if handle != NULL:
        CancelSynchronousIo(handle)
        CloseHandle(handle)


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


def is_disk_file(size_t handle):
    """https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-getfiletype"""
    cdef DWORD kind, error
    SetLastError(0)
    kind = GetFileType(<HANDLE>handle)
    error = GetLastError()
    if kind == FILE_TYPE_UNKNOWN and error != 0:
        raise winerror(error)
    return kind == FILE_TYPE_DISK


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


# ---- what kind of object --------------------------------------------------------------------------------------------

cdef extern from *:
    """
    #include <winternl.h>
    typedef LONG(NTAPI *tpio_query_object_fn)(HANDLE, int, PVOID, ULONG, ULONG *);

    /* The type of a kernel object ("Event", "Mutant", ...), from ObjectTypeInformation of NtQueryObject. Negative: not
     * known, the last error says why. */
    static int tpio_object_type(HANDLE object, wchar_t *name, int size)
    {
        union { UNICODE_STRING name; BYTE space[1024]; } info;
        tpio_query_object_fn query = NULL;
        HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");
        ULONG needed = 0;
        LONG status;
        int length;

        if (ntdll != NULL)
            query = (tpio_query_object_fn)(void (*)(void))GetProcAddress(ntdll, "NtQueryObject");
        if (query == NULL)
            return -1;
        status = query(object, 2, &info, sizeof info, &needed);
        if (status < 0) {
            SetLastError(RtlNtStatusToDosError(status));
            return -1;
        }
        length = info.name.Length / (int)sizeof(wchar_t);
        if (length > size)
            length = size;
        memcpy(name, info.name.Buffer, (size_t)length * sizeof(wchar_t));
        return length;
    }
    """
    int tpio_object_type(HANDLE handle, WCHAR *name, int size) nogil


cdef object object_type(HANDLE handle):
    """https://learn.microsoft.com/windows/win32/api/winternl/nf-winternl-ntqueryobject"""
    cdef WCHAR name[64]
    cdef int length = tpio_object_type(handle, name, 64)
    if length < 0:
        raise winerror(GetLastError())
    return PyUnicode_FromWideChar(name, length)


# ---- processes ------------------------------------------------------------------------------------------------------

cdef extern from *:
    """
    typedef struct tpio_child {
        HANDLE process, job;
        DWORD id;
    } tpio_child;

    /* Starts a process with just three inherited handles (standard NULL: none, and no standard handles), in a job of its own
     * from its first instruction on. The job lets the child start processes outside of it, as daemons want to be. A parent
     * job with limits of its own may refuse ours: then the child has none. */
    static DWORD tpio_start_process(const wchar_t *program, wchar_t *command, wchar_t *environment, const wchar_t *folder,
                                    DWORD flags, HANDLE *standard, tpio_child *child)
    {
        STARTUPINFOEXW startup;
        PROCESS_INFORMATION process;
        SIZE_T size = 0;
        JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits;
        DWORD error = 0, count = 0, i, j;
        HANDLE inherited[3];

        ZeroMemory(&startup, sizeof startup);
        ZeroMemory(child, sizeof *child);
        startup.StartupInfo.cb = sizeof startup;
        if (standard != NULL) {
            startup.StartupInfo.dwFlags = STARTF_USESTDHANDLES;
            startup.StartupInfo.hStdInput = standard[0];
            startup.StartupInfo.hStdOutput = standard[1];
            startup.StartupInfo.hStdError = standard[2];
        }
        for (i = 0; standard != NULL && i < 3; i++) { /* the list must not name a handle twice */
            for (j = 0; j < count && inherited[j] != standard[i]; j++)
                ;
            if (j == count && standard[i] != NULL)
                inherited[count++] = standard[i];
        }
        /* It fails, saying how much it needs. */
        if (!InitializeProcThreadAttributeList(NULL, 1, 0, &size) && GetLastError() != ERROR_INSUFFICIENT_BUFFER)
            return GetLastError();
        startup.lpAttributeList = HeapAlloc(GetProcessHeap(), 0, size);
        if (startup.lpAttributeList == NULL)
            return ERROR_NOT_ENOUGH_MEMORY;
        if (!InitializeProcThreadAttributeList(startup.lpAttributeList, 1, 0, &size)) {
            error = GetLastError();
            goto free_list;
        }
        if (count != 0 && !UpdateProcThreadAttribute(startup.lpAttributeList, 0, PROC_THREAD_ATTRIBUTE_HANDLE_LIST,
                                                     inherited, count * sizeof *inherited, NULL, NULL)) {
            error = GetLastError();
            goto delete_list;
        }
        child->job = CreateJobObjectW(NULL, NULL);
        if (child->job == NULL) {
            error = GetLastError();
            goto delete_list;
        }
        ZeroMemory(&limits, sizeof limits);
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_BREAKAWAY_OK;
        if (!SetInformationJobObject(child->job, JobObjectExtendedLimitInformation, &limits, sizeof limits)) {
            error = GetLastError();
            goto close_job;
        }
        if (!CreateProcessW(program, command, NULL, NULL, count != 0,
                            flags | EXTENDED_STARTUPINFO_PRESENT | CREATE_UNICODE_ENVIRONMENT | CREATE_SUSPENDED,
                            environment, folder, &startup.StartupInfo, &process)) {
            error = GetLastError();
            goto close_job;
        }
        if (!AssignProcessToJobObject(child->job, process.hProcess)) {
            error = GetLastError();
            if (error == ERROR_ACCESS_DENIED) {
                CloseHandle(child->job);
                child->job = NULL;
                error = 0;
            }
        }
        /* Running, unless it is the caller's wish that it is not. */
        if (error == 0 && !(flags & CREATE_SUSPENDED) && ResumeThread(process.hThread) == (DWORD)-1)
            error = GetLastError();
        if (error != 0) {
            TerminateProcess(process.hProcess, 1);
            CloseHandle(process.hThread);
            CloseHandle(process.hProcess);
            goto close_job;
        }
        CloseHandle(process.hThread);
        child->process = process.hProcess;
        child->id = process.dwProcessId;
        goto delete_list;

    close_job:
        if (child->job != NULL)
            CloseHandle(child->job);
    delete_list:
        DeleteProcThreadAttributeList(startup.lpAttributeList);
    free_list:
        HeapFree(GetProcessHeap(), 0, startup.lpAttributeList);
        return error;
    }
    """
    ctypedef struct tpio_child:
        HANDLE process
        HANDLE job
        DWORD id
    DWORD tpio_start_process(WCHAR *program, WCHAR *command, WCHAR *environment, WCHAR *folder, DWORD flags,
                             HANDLE *standard, tpio_child *child) nogil
    BOOL TerminateJobObject(HANDLE job, unsigned code) nogil
    BOOL TerminateProcess(HANDLE process, unsigned code) nogil
    int CompareStringOrdinal(const WCHAR *one, int length, const WCHAR *other, int other_length, BOOL ignore_case) nogil
    BOOL GetExitCodeProcess(HANDLE process, DWORD *code) nogil
    BOOL DuplicateHandle(HANDLE from_process, HANDLE handle, HANDLE to_process, HANDLE *result, DWORD access, BOOL inherit,
                         DWORD options) nogil
    HANDLE GetStdHandle(DWORD which) nogil
    HANDLE OpenProcess(DWORD access, BOOL inherit, DWORD id)
    enum:
        CSTR_EQUAL
        DUPLICATE_SAME_ACCESS
        PROCESS_DUP_HANDLE
        ERROR_DIRECTORY


def compare_names(one, other):
    """-1, 0 or 1: how Windows orders names of files and of environment variables, for which the case of letters does not count.

    https://learn.microsoft.com/windows/win32/api/stringapiset/nf-stringapiset-comparestringordinal
    """
    cdef Wide first = Wide(one), second = Wide(other)
    cdef int order = CompareStringOrdinal(first.text, -1, second.text, -1, True)
    if order == 0:
        raise winerror(GetLastError())
    return order - CSTR_EQUAL


def start_process(program, command, str environment, folder, DWORD flags, standard, name):
    """CreateProcess with three standard handles (0: none), which alone are inherited, in a job object of its own. standard
    None: the child finds its own, those of its console. Returns (process handle, job handle, process id); the job is 0 where
    the system refuses it. program: the whole path, or None: what the command line begins with. name: for errors.

    environment: None, or "NAME=value\\0..." with a NUL at the end.
    https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-createprocessw
    https://learn.microsoft.com/windows/win32/procthread/job-objects
    """
    cdef Wide line = Wide(command), program_wide = None, folder_wide = None
    cdef WCHAR *program_text = NULL
    cdef WCHAR *folder_text = NULL
    cdef WCHAR *block = NULL
    cdef Py_ssize_t length
    cdef HANDLE handles[3]
    cdef HANDLE *three = NULL
    cdef tpio_child child
    cdef DWORD error
    cdef int i
    if standard is not None:
        for i in range(3):
            handles[i] = <HANDLE><uintptr_t>standard[i]
        three = handles
    if program is not None:
        program_wide = Wide(program)
        program_text = program_wide.text
    if folder is not None:
        folder_wide = Wide(folder)
        folder_text = folder_wide.text
    if environment is not None:
        block = PyUnicode_AsWideCharString(environment, &length)
    with nogil:
        error = tpio_start_process(program_text, line.text, block, folder_text, flags, three, &child)
    PyMem_Free(block)
    if error != 0:
        raise winerror(error, folder if error == ERROR_DIRECTORY else name)
    return <uintptr_t>child.process, <uintptr_t>child.job, child.id


def terminate_job(size_t job, unsigned code):
    """Ends every process of a job. https://learn.microsoft.com/windows/win32/api/jobapi2/nf-jobapi2-terminatejobobject"""
    if not TerminateJobObject(<HANDLE>job, code):
        raise winerror(GetLastError())


def terminate_process(size_t process, unsigned code):
    """https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-terminateprocess"""
    if not TerminateProcess(<HANDLE>process, code):
        error = GetLastError()
        if exit_code(process) is None:  # that it has ended is refused, too
            raise winerror(error)


def ask_type(size_t handle):
    """GetFileType, which waits while another thread reads from a pipe that is not overlapped. Without the GIL.

    https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-getfiletype
    """
    cdef int socket_type = 0
    return file_type(<HANDLE>handle, &socket_type)


def standard_handle(int number):
    """The HANDLE of this process's stdin (0), stdout (1) or stderr (2); 0 where there is none.

    https://learn.microsoft.com/windows/console/getstdhandle
    """
    cdef HANDLE handle = GetStdHandle(<DWORD>(-10 - number))
    return 0 if handle == INVALID_HANDLE_VALUE else <uintptr_t>handle


def exit_code(size_t process):
    """The exit code of a process, None while it runs."""
    cdef DWORD code
    if WaitForSingleObject(<HANDLE>process, 0) == WAIT_TIMEOUT:
        return None
    if not GetExitCodeProcess(<HANDLE>process, &code):
        raise winerror(GetLastError())
    return code


def open_process(unsigned pid):
    """A handle with which handles can be given to a process.

    https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-openprocess
    """
    cdef HANDLE process = OpenProcess(PROCESS_DUP_HANDLE, False, pid)
    if process == NULL:
        raise winerror(GetLastError())
    return <uintptr_t>process


def duplicate_handle(size_t handle, *, bint inherit=False, size_t process=0):
    """A second handle of the same object, in this process or (a process handle) in another.

    https://learn.microsoft.com/windows/win32/api/handleapi/nf-handleapi-duplicatehandle
    """
    cdef HANDLE result = NULL
    cdef HANDLE target = <HANDLE>process if process else GetCurrentProcess()
    if not DuplicateHandle(GetCurrentProcess(), <HANDLE>handle, target, &result, 0, inherit, DUPLICATE_SAME_ACCESS):
        raise winerror(GetLastError())
    return <uintptr_t>result


# ---- files and directories ------------------------------------------------------------------------------------------

cdef extern from "tpio_win32.h" nogil:
    BOOL UnlockFile(HANDLE file, DWORD low, DWORD high, DWORD length_low, DWORD length_high)
    BOOL GetNamedPipeClientProcessId(HANDLE pipe, unsigned long *process)
    BOOL ImpersonateNamedPipeClient(HANDLE pipe)
    BOOL RevertToSelf()
    BOOL GetFileInformationByHandleEx(HANDLE file, int what, void *info, DWORD size)
    ctypedef struct FILE_STORAGE_INFO:
        unsigned long LogicalBytesPerSector
    enum:
        FileStorageInfo


def unlock_file(size_t handle, offset, length):
    """https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-unlockfile"""
    check_range(offset, length)
    unlock_range(handle, offset, length)


cdef int unlock_range(size_t handle, uint64_t offset, uint64_t length) except -1:
    if not UnlockFile(<HANDLE>handle, <DWORD>offset, <DWORD>(offset >> 32), <DWORD>length, <DWORD>(length >> 32)):
        raise winerror(GetLastError())


def sector_size(size_t handle):
    """What offsets, sizes and addresses of unbuffered I/O must be multiples of; 4096 where the system does not say.

    https://learn.microsoft.com/windows/win32/fileio/file-buffering
    """
    cdef FILE_STORAGE_INFO info
    if GetFileInformationByHandleEx(<HANDLE>handle, FileStorageInfo, &info, sizeof(info)) and info.LogicalBytesPerSector:
        return info.LogicalBytesPerSector
    return 4096


def pipe_client_pid(size_t handle):
    """https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-getnamedpipeclientprocessid"""
    cdef unsigned long process = 0
    if not GetNamedPipeClientProcessId(<HANDLE>handle, &process):
        raise winerror(GetLastError())
    return process


def impersonate_pipe_client(size_t handle):
    """https://learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-impersonatenamedpipeclient"""
    if not ImpersonateNamedPipeClient(<HANDLE>handle):
        raise winerror(GetLastError())


def revert_to_self():
    """https://learn.microsoft.com/windows/win32/api/securitybaseapi/nf-securitybaseapi-reverttoself"""
    if not RevertToSelf():
        raise winerror(GetLastError())


cdef int check_range(object offset, object length) except -1:
    if operator_index(offset) < 0 or operator_index(length) <= 0:
        raise ValueError("a lock begins at 0 or later, and locks at least one byte")
    if offset + length > 0xFFFFFFFFFFFFFFFF:
        raise ValueError("the range of a lock must end before 2**64")
    return 0


cdef bint unlock_again(Handle handle, tuple range):
    """The await on a lock was cancelled, but the lock was faster: nobody knows that he has it."""
    try:
        unlock_file(handle.fileno(), range[0], range[1])
    except (OSError, ValueError):
        pass  # closed, which has unlocked it
    return True


cdef class FileHandle(Handle):
    """What tpio.File and tpio.Watcher add to Handle."""

    def lock(self, offset, length, *, bint exclusive=True, timeout=None):
        """Locks a range of bytes against other handles, waiting for those that have it: Future of None. Can be cancelled.

        Shared locks (exclusive=False) go together. unlock() gives it back, as does close().
        https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-lockfileex
        """
        cdef double limit = time_limit(timeout)
        cdef FutureBase future
        cdef core.tpio_status status
        cdef uint64_t start, count
        self.require_bound()
        check_range(offset, length)
        start = offset
        count = length
        range = (offset, length)
        future = self.begin(LOCKED)
        future.name = range
        future.submitted = True
        Py_INCREF(future)  # the system's
        with nogil:
            status = core.tpio_lock(&future.op, self.native, start, count, exclusive)
        return in_time(future.started(status), limit, "lock()")

    def _watch(self, size_t size, DWORD filter, bint recursive, finish):
        """ReadDirectoryChangesW; `finish` finds what was received with _watched."""
        cdef FutureBase future = self.begin(CUSTOM)
        future.extra = finish
        try:
            future.buffer = new_bytes(size)
            future.size = size
        except MemoryError:
            future.settle(CANCELLED, None)
            raise
        future.submitted = True
        Py_INCREF(future)  # the system's
        return future.started(core.tpio_watch(&future.op, self.native, PyBytes_AS_STRING(future.buffer), <DWORD>size,
                                              filter, recursive))

    def _watched(self, FutureBase future, Py_ssize_t count):
        """The bytes that a _watch has received, from its finish function."""
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(future.buffer), count)


def address_of_buffer(data):
    """Where the memory of a bytes-like object begins."""
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    address = <uintptr_t>view.buf
    PyBuffer_Release(&view)
    return address
