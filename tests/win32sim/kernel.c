/* Handles, files, events and overlapped I/O.
 *
 * A handle value is used again as soon as it is closed, often by a stranger: a stale use cannot go unnoticed.
 */
#include "win32sim.h"

#include <stdio.h>
#include <stdlib.h>

#define MOST_HANDLES 256
#define MOST_BUFFERS 4
#define AFD_POLL 0x00012024
#define POLL_RECEIVE 1
#define POLL_SEND 4
#define POLL_DISCONNECT 8
#define POLL_LOCAL_CLOSE 0x20
#define POLL_NONSENSE 0xBAD0000 /* where the number of sockets says that there are no events */

typedef struct poll_info {
    int64_t timeout;
    DWORD count, exclusive;
    HANDLE socket;
    DWORD events, status;
} poll_info;

typedef struct sim_object sim_object;
typedef enum kind { FILE_OBJECT, EVENT_OBJECT, SEMAPHORE_OBJECT, STRANGER } kind;

typedef struct request {
    struct request *next;
    OVERLAPPED *overlapped, submitted; /* the second: what it looked like */
    struct {
        void *at;
        DWORD size;
    } buffers[MOST_BUFFERS];
    int count;
    DWORD size;     /* of all buffers */
    bool reads;     /* the system writes to the buffers */
    bool whole;     /* success means all of it */
    bool patient;   /* ends only when it is cancelled */
    bool cancelled; /* ends soon */
    bool slow;      /* never ends at once */
    bool connects;
    bool winsock;   /* reports errors in its own words */
    struct sockaddr *name;
    int *name_size;
    sim_object *polled; /* a poll: of which socket */
    poll_info *poll;
    DWORD asked, found; /* events */
    bool socket_closed; /* the socket's last handle, under the poll: it ends soon */
} request;

typedef struct message {
    struct message *next;
    DWORD size;
} message;

struct sim_object {
    sim_object *all;
    kind kind;
    unsigned flags;
    int refs, handles;
    bool skip;
    bool device; /* of \Device\Afd */
    bool unlingering; /* a socket that can be closed at once */
    int signals; /* of an event: 0 or 1; of a semaphore: its count, and a wait takes one */
    PTP_IO io;
    request *requests;
    /* A pipe that behaves. */
    sim_object *peer;
    message *messages;
};

static struct {
    sim_object *object;
    int waits;
} handles[MOST_HANDLES];
static sim_object *objects;

void sim_kernel_begin(void)
{
    memset(handles, 0, sizeof handles);
    objects = NULL;
}

void sim_kernel_end(void)
{
    for (int i = 0; i < MOST_HANDLES; i++)
        if (handles[i].object != NULL && handles[i].object->kind != STRANGER)
            sim_broken("handle %d leaked (a %s)", (i + 1) * 4,
                       handles[i].object->kind == FILE_OBJECT ? "file" : "duplicated event");
    while (objects != NULL) {
        sim_object *object = objects;

        if (object->requests != NULL)
            sim_broken("an I/O request is still pending");
        objects = object->all;
        while (object->messages != NULL) {
            message *gone = object->messages;

            object->messages = gone->next;
            own_free(gone);
        }
        own_free(object);
    }
}

/* ---- handles ---------------------------------------------------------------------------------------------------- */

static int handle_index(HANDLE handle)
{
    uintptr_t value = (uintptr_t)handle;

    return value % 4 == 0 && value >= 4 && value / 4 <= MOST_HANDLES ? (int)(value / 4) - 1 : -1;
}

static HANDLE new_handle(sim_object *object)
{
    int i = 0;

    while (handles[i].object != NULL)
        if (++i == MOST_HANDLES)
            sim_broken("too many handles for the simulation");
    handles[i].object = object;
    object->handles++;
    object->refs++;
    return (HANDLE)(uintptr_t)((i + 1) * 4);
}

static sim_object *new_object(kind kind, unsigned flags)
{
    sim_object *object = own_calloc(1, sizeof *object);

    object->kind = kind;
    object->flags = flags;
    object->all = objects;
    objects = object;
    return object;
}

sim_object *sim_lookup(HANDLE handle, const char *call)
{
    int i = handle_index(handle);

    if (i < 0)
        return NULL; /* a value that never was a handle: the caller gets an error */
    if (handles[i].object == NULL)
        sim_broken("%s with handle %p, which is closed", call, handle);
    if (handles[i].object->kind == STRANGER)
        sim_broken("%s with handle %p, which was closed and is somebody else's now", call, handle);
    return handles[i].object;
}

void sim_object_ref(sim_object *object)
{
    object->refs++;
}

void sim_object_unref(sim_object *object)
{
    object->refs--; /* freed at the end of the schedule, so that a use of it is seen for what it is */
}

bool sim_object_signalled(const sim_object *object)
{
    return object->signals != 0;
}

void sim_object_take(sim_object *object)
{
    if (object->kind == SEMAPHORE_OBJECT)
        object->signals--;
}

void sim_handle_watch(HANDLE handle, int change)
{
    handles[handle_index(handle)].waits += change;
}

HANDLE sim_file_open(unsigned flags)
{
    HANDLE handle;

    sim_lock();
    handle = new_handle(new_object(FILE_OBJECT, flags));
    sim_unlock();
    return handle;
}

HANDLE CreateFileW(LPCWSTR name, DWORD access, DWORD share, void *security, DWORD disposition, DWORD flags, HANDLE like)
{
    HANDLE handle;

    (void)access, (void)share, (void)security, (void)disposition, (void)like;
    sim_call("CreateFileW");
    if (wcscmp(name, L"\\\\.\\GLOBALROOT\\Device\\Afd\\Tpio") != 0 || !(flags & FILE_FLAG_OVERLAPPED))
        sim_broken("CreateFileW, but not of the sockets' device");
    if (sim_fault(ERROR_NO_SYSTEM_RESOURCES))
        return INVALID_HANDLE_VALUE;
    handle = sim_file_open(0);
    sim_lock();
    sim_lookup(handle, "CreateFileW")->device = true;
    sim_unlock();
    return handle;
}

HANDLE CreateEventW(void *security, BOOL manual, BOOL set, LPCWSTR name)
{
    (void)security, (void)manual, (void)set, (void)name; /* TRUE, FALSE, NULL: as it is wanted here */
    sim_call("CreateEventW");
    return sim_fault(ERROR_NO_SYSTEM_RESOURCES) ? NULL : sim_event_open();
}

HANDLE sim_event_open(void)
{
    HANDLE handle;

    sim_lock();
    handle = new_handle(new_object(EVENT_OBJECT, 0));
    sim_unlock();
    return handle;
}

HANDLE sim_semaphore_open(void)
{
    HANDLE handle;

    sim_lock();
    handle = new_handle(new_object(SEMAPHORE_OBJECT, 0));
    sim_unlock();
    return handle;
}

void sim_event_set(HANDLE event)
{
    sim_object *object;

    sim_lock();
    object = sim_lookup(event, "SetEvent");
    object->signals = object->kind == SEMAPHORE_OBJECT ? object->signals + 1 : 1;
    sim_unlock();
    sim_yield();
}

int sim_semaphore_count(HANDLE semaphore)
{
    int count;

    sim_lock();
    count = sim_lookup(semaphore, "WaitForSingleObject")->signals;
    sim_unlock();
    return count;
}

void sim_pipe_open(HANDLE *server, HANDLE *client, bool message)
{
    sim_object *a, *b;

    sim_lock();
    a = new_object(FILE_OBJECT, message ? SIM_MESSAGE : 0);
    b = new_object(FILE_OBJECT, message ? SIM_MESSAGE : 0);
    a->peer = b;
    b->peer = a;
    *server = new_handle(a);
    *client = new_handle(b);
    sim_unlock();
}

static void hang_up(sim_object *object);
static void polls_look(sim_object *socket, bool closed);

BOOL CloseHandle(HANDLE handle)
{
    sim_object *object;
    int i = handle_index(handle);

    sim_call("CloseHandle");
    sim_lock();
    object = sim_lookup(handle, "CloseHandle");
    if (object == NULL) {
        sim_unlock();
        return sim_result(ERROR_INVALID_HANDLE);
    }
    sim_trace("    handle %p", handle);
    if (handles[i].waits != 0)
        sim_broken("handle %p is closed while a wait is set on it", handle);
    handles[i].object = NULL;
    object->refs--;
    if (--object->handles == 0 && !(object->flags & SIM_HELD)) {
        hang_up(object);
        polls_look(object, true);
    }
    if (sim_chance(2))
        new_handle(new_object(STRANGER, 0)); /* somebody opens something at this very moment */
    sim_unlock();
    sim_yield();
    return TRUE;
}

int closesocket(SOCKET socket)
{
    sim_object *object;
    bool lingers;

    sim_lock();
    object = sim_lookup((HANDLE)socket, "closesocket");
    lingers = object != NULL && !object->unlingering && sim_chance(8);
    sim_unlock();
    if (lingers)
        return sim_result(WSAEWOULDBLOCK) ? 0 : -1;
    return CloseHandle((HANDLE)socket) ? 0 : -1;
}

HANDLE GetCurrentProcess(void)
{
    return INVALID_HANDLE_VALUE;
}

BOOL DuplicateHandle(HANDLE from_process, HANDLE from, HANDLE to_process, HANDLE *to, DWORD access, BOOL inherit,
                     DWORD options)
{
    sim_object *object;

    (void)from_process, (void)to_process, (void)access, (void)inherit, (void)options;
    sim_call("DuplicateHandle");
    if (sim_fault(ERROR_NO_SYSTEM_RESOURCES))
        return FALSE;
    sim_lock();
    object = sim_lookup(from, "DuplicateHandle");
    if (object != NULL)
        *to = new_handle(object);
    sim_unlock();
    return sim_result(object != NULL ? 0 : ERROR_INVALID_HANDLE);
}

NTSTATUS NtQueryInformationFile(HANDLE file, void *status, PVOID into, ULONG size, int what);
NTSTATUS NtQueryInformationFile(HANDLE file, void *status, PVOID into, ULONG size, int what)
{
    sim_object *object;

    (void)status, (void)size;
    sim_call("NtQueryInformationFile");
    sim_lock();
    object = sim_lookup(file, "NtQueryInformationFile");
    sim_unlock();
    if (object == NULL || sim_fault(ERROR_NOT_ENOUGH_MEMORY))
        return -1;
    if (what == 41) /* FileIoCompletionNotificationInformation */
        *(ULONG *)into = object->skip;
    else
        *(ULONG *)into = object->flags & SIM_SYNCHRONOUS ? 0x20 : 0;
    return 0;
}

NTSTATUS NtSetInformationFile(HANDLE file, void *status, PVOID from, ULONG size, int what);
NTSTATUS NtSetInformationFile(HANDLE file, void *status, PVOID from, ULONG size, int what)
{
    sim_object *object;

    (void)status, (void)from, (void)size, (void)what;
    sim_call("NtSetInformationFile");
    sim_lock();
    object = sim_lookup(file, "NtSetInformationFile");
    if (object != NULL && object->requests != NULL)
        sim_broken("the completion port was taken off a handle that has requests pending");
    sim_unlock();
    return object == NULL ? -1 : 0;
}

sim_object *sim_file_bind(HANDLE file, PTP_IO io)
{
    sim_object *object = sim_lookup(file, "CreateThreadpoolIo");

    if (object == NULL) {
        sim_self()->last_error = ERROR_INVALID_HANDLE;
        return NULL;
    }
    if (object->io != NULL || (object->flags & SIM_SYNCHRONOUS) || object->kind != FILE_OBJECT) {
        sim_self()->last_error = ERROR_INVALID_PARAMETER;
        return NULL;
    }
    object->io = io;
    return object;
}

BOOL SetFileCompletionNotificationModes(HANDLE file, unsigned char flags)
{
    sim_object *object;

    (void)flags;
    sim_call("SetFileCompletionNotificationModes");
    sim_lock();
    object = sim_lookup(file, "SetFileCompletionNotificationModes");
    if (object == NULL || sim_fault(ERROR_INVALID_PARAMETER)) {
        sim_unlock();
        return FALSE;
    }
    object->skip = true;
    sim_unlock();
    return TRUE;
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

static void add_buffer(request *new, const void *at, DWORD size)
{
    if (new->count == MOST_BUFFERS)
        sim_broken("too many buffers for the simulation");
    new->buffers[new->count].at = (void *)at;
    new->buffers[new->count++].size = size;
    new->size += size;
}

/* What the system does to the program's memory when a request ends. */
static void transfer(const request *one, DWORD error, DWORD bytes)
{
    DWORD left = error == 0 || error == ERROR_MORE_DATA ? bytes : 0;

    for (int i = 0; i < one->count && left != 0; i++) {
        DWORD part = left < one->buffers[i].size ? left : one->buffers[i].size;

        if (one->reads)
            sim_touch_fill(one->buffers[i].at, part);
        else
            sim_touch_read(one->buffers[i].at, part);
        left -= part;
    }
    if (one->poll != NULL && error == 0) {
        bool known = one->found != 0;

        sim_touch_word(&one->poll->count, known);
        sim_touch_word(&one->poll->events, known ? one->found : POLL_NONSENSE);
    }
    if (one->name != NULL && error == 0) {
        sim_touch_fill(one->name, sizeof *one->name);
        sim_touch_word(one->name_size, sizeof *one->name);
    }
    sim_touch_end(one->overlapped, error, bytes);
}

static void end_request(sim_object *file, request *one, DWORD error, DWORD bytes)
{
    request **at = &file->requests;

    while (*at != one)
        at = &(*at)->next;
    *at = one->next;
    sim_acquire(one->overlapped);
    if (one->overlapped->Offset != one->submitted.Offset || one->overlapped->OffsetHigh != one->submitted.OffsetHigh ||
        one->overlapped->hEvent != one->submitted.hEvent || one->overlapped->Internal != STATUS_PENDING)
        sim_broken("the OVERLAPPED of a pending request was changed");
    sim_trace("    request %p ends: error %u, %u bytes", (void *)one->overlapped, error, bytes);
    transfer(one, error, bytes);
    sim_io_ended(file->io, one->overlapped, error, bytes);
    sim_object_unref(file);
    own_free(one);
}

static DWORD random_bytes(const request *one)
{
    return one->whole || sim_chance(2) ? one->size : sim_random(one->size + 1);
}

#define BROKEN_PIPE (SIM_HELD << 8)

/* ---- polls: a request about another object ---------------------------------------------------------------------- */

static bool behaves(const sim_object *object)
{
    return object->peer != NULL || (object->flags & BROKEN_PIPE);
}

static DWORD poll_events(const sim_object *socket)
{
    return (socket->messages != NULL ? POLL_RECEIVE : 0) | (socket->peer != NULL ? POLL_SEND : 0) |
           (socket->flags & BROKEN_PIPE ? POLL_DISCONNECT : 0);
}

/* Some of the events; 0: the system reports no socket, as when another poll has displaced this one. */
static DWORD random_events(const request *one)
{
    return one->socket_closed ? POLL_LOCAL_CLOSE : sim_chance(8) ? 0 : one->asked & ~(DWORD)POLL_LOCAL_CLOSE & sim_random(0x200);
}

/* A socket has changed: what polls wait for it? */
static void polls_look(sim_object *socket, bool closed)
{
    request *next;

    for (sim_object *file = objects; file != NULL; file = file->all)
        for (request *one = file->requests; one != NULL; one = next) {
            next = one->next;
            if (one->polled != socket)
                continue;
            one->socket_closed = closed;
            one->found = closed ? POLL_LOCAL_CLOSE : poll_events(socket) & one->asked;
            if (behaves(socket) && one->found != 0)
                end_request(file, one, 0, sizeof *one->poll);
        }
}

static void end_somehow(sim_object *file, request *one)
{
    static const DWORD errors[] = {ERROR_BROKEN_PIPE, ERROR_NETNAME_DELETED, ERROR_NO_DATA};

    if (one->cancelled && !sim_chance(4))
        end_request(file, one, ERROR_OPERATION_ABORTED, 0);
    else if (sim_chance(6))
        end_request(file, one, errors[sim_random(3)], 0);
    else if ((file->flags & SIM_MESSAGE) && one->reads && sim_chance(3))
        end_request(file, one, ERROR_MORE_DATA, one->size);
    else if (one->poll != NULL) {
        one->found = random_events(one);
        end_request(file, one, 0, one->size);
    } else
        end_request(file, one, 0, random_bytes(one));
}

/* Any one request may end. */
bool sim_kernel_outside(bool quiet)
{
    request *chosen = NULL;
    sim_object *file = NULL;
    uint32_t candidates = 0;

    (void)quiet;
    for (sim_object *object = objects; object != NULL; object = object->all) {
        if (object->kind == STRANGER && object->handles != 0 && sim_chance(6)) {
            for (int i = 0; i < MOST_HANDLES; i++)
                if (handles[i].object == object)
                    handles[i].object = NULL;
            object->handles = 0;
        }
        if (object->peer != NULL)
            continue; /* ends by what is written */
        for (request *one = object->requests; one != NULL; one = one->next)
            if ((!one->patient || one->cancelled || one->socket_closed) && (one->polled == NULL || !behaves(one->polled)) &&
                sim_random(++candidates) == 0) {
                chosen = one;
                file = object;
            }
    }
    if (chosen == NULL)
        return false;
    end_somehow(file, chosen);
    return true;
}

/* The last handle of a file is closed. */
static void hang_up(sim_object *object)
{
    request *next;

    for (request *one = object->requests; one != NULL; one = next) {
        next = one->next;
        if (object->peer != NULL)
            end_request(object, one, ERROR_OPERATION_ABORTED, 0);
        else
            one->cancelled = true;
    }
    if (object->peer == NULL)
        return;
    for (request *one = object->peer->requests; one != NULL; one = next) {
        next = one->next;
        if (one->poll == NULL)
            end_request(object->peer, one, ERROR_BROKEN_PIPE, 0);
    }
    object->peer->peer = NULL;
    object->peer->flags |= BROKEN_PIPE;
    polls_look(object->peer, false);
    object->peer = NULL;
}

/* One end of a pipe that behaves: an error or success at once, or ERROR_IO_PENDING. */
static DWORD pipe_call(sim_object *file, const request *new, DWORD *bytes)
{
    if (new->connects)
        return ERROR_PIPE_CONNECTED;
    *bytes = new->size;
    if (new->reads) {
        message *first = file->messages;

        if (first == NULL)
            return file->flags & BROKEN_PIPE ? ERROR_BROKEN_PIPE : ERROR_IO_PENDING;
        if (first->size > new->size) {
            first->size -= new->size;
            return file->flags & SIM_MESSAGE ? ERROR_MORE_DATA : 0;
        }
        *bytes = first->size;
        file->messages = first->next;
        own_free(first);
        return 0;
    }
    if (file->peer == NULL)
        return ERROR_NO_DATA;
    request *reader = NULL; /* the first that came */
    for (request *one = file->peer->requests; one != NULL; one = one->next)
        if (one->poll == NULL)
            reader = one;
    if (reader != NULL) {
        end_request(file->peer, reader, 0, new->size < reader->size ? new->size : reader->size);
    } else {
        message *last = own_calloc(1, sizeof *last), **at = &file->peer->messages;

        last->size = new->size;
        while (*at != NULL)
            at = &(*at)->next;
        *at = last;
        polls_look(file->peer, false);
    }
    return 0;
}

static DWORD chance_call(const sim_object *file, const request *new, DWORD *bytes)
{
    static const DWORD errors[] = {ERROR_BROKEN_PIPE, ERROR_NO_SYSTEM_RESOURCES, WSAECONNRESET};

    if (new->winsock && !new->reads && sim_chance(20))
        return WSAEMSGSIZE; /* too long to be sent: a failure, unlike the same error of a receive */
    if (sim_fault(ERROR_NOT_ENOUGH_MEMORY))
        return ERROR_NOT_ENOUGH_MEMORY;
    if (sim_chance(10))
        return errors[sim_random(3)];
    if (new->slow || !sim_chance(4))
        return ERROR_IO_PENDING;
    *bytes = random_bytes(new);
    if ((file->flags & SIM_MESSAGE) && new->reads && sim_chance(2)) {
        *bytes = new->size;
        return ERROR_MORE_DATA;
    }
    return 0;
}

static DWORD poll_call(const sim_object *file, request *new, DWORD *bytes)
{
    DWORD error, pending = 0;

    for (const request *one = file->requests; one != NULL; one = one->next)
        pending++;
    if (file->device && pending >= TPIO__DEVICE_POLLS)
        sim_broken("more polls than %d on one device", TPIO__DEVICE_POLLS);
    if (behaves(new->polled)) {
        new->found = poll_events(new->polled) & new->asked;
        error = new->found != 0 ? 0 : ERROR_IO_PENDING;
    } else {
        error = chance_call(file, new, bytes);
        new->found = random_events(new);
    }
    *bytes = new->size;
    return error;
}

/* Every overlapped call. late: what the system's own code, on the caller's thread, writes when the call has succeeded at
 * once, which may be after the completion has been delivered. */
static BOOL io_call(const char *name, HANDLE handle, OVERLAPPED *overlapped, request new, DWORD *late)
{
    sim_thread *self = sim_self();
    PTP_IO io = self->started;
    sim_object *file;
    DWORD error, bytes = 0;

    self->started = NULL; /* sim_call would object to what stands before it */
    sim_call(name);
    sim_lock();
    file = sim_lookup(handle, name);
    if (io == NULL)
        sim_broken("%s without StartThreadpoolIo right before it", name);
    if (file == NULL || file->io != io)
        sim_broken("%s on a handle that is not the one of StartThreadpoolIo", name);
    new.overlapped = overlapped;
    sim_touch_begin(overlapped);
    new.submitted = *overlapped;
    sim_release(overlapped);
    error = file->flags & SIM_SYNCHRONOUS ? ERROR_INVALID_PARAMETER
            : new.poll != NULL ? poll_call(file, &new, &bytes)
            : file->peer != NULL || (file->flags & BROKEN_PIPE) ? pipe_call(file, &new, &bytes)
                                                                : chance_call(file, &new, &bytes);
    sim_trace("    handle %p, request %p: %u", handle, (void *)overlapped, error);
    if (error == ERROR_IO_PENDING) {
        request *one = own_calloc(1, sizeof *one);

        *one = new;
        one->patient = sim_chance(3);
        one->next = file->requests;
        file->requests = one;
        sim_object_ref(file);
    } else if (error == 0 || error == ERROR_MORE_DATA) {
        transfer(&new, error, bytes);
        if (file->skip)
            sim_io_refused(io);
        else
            sim_io_ended(io, overlapped, error, bytes);
    } else {
        sim_io_refused(io);
    }
    sim_unlock();
    sim_yield();
    if (late != NULL && error == 0)
        sim_touch_word(late, 0);
    if (new.winsock && error == ERROR_MORE_DATA)
        error = WSAEMSGSIZE;
    return sim_result(error);
}

BOOL ReadFile(HANDLE file, void *buffer, DWORD size, DWORD *bytes, OVERLAPPED *overlapped)
{
    request new = {.reads = true};

    (void)bytes;
    add_buffer(&new, buffer, size);
    return io_call("ReadFile", file, overlapped, new, NULL);
}

BOOL WriteFile(HANDLE file, const void *buffer, DWORD size, DWORD *bytes, OVERLAPPED *overlapped)
{
    request new = {.whole = true};

    (void)bytes;
    add_buffer(&new, buffer, size);
    return io_call("WriteFile", file, overlapped, new, NULL);
}

BOOL ConnectNamedPipe(HANDLE file, OVERLAPPED *overlapped)
{
    BOOL ok = io_call("ConnectNamedPipe", file, overlapped, (request){.connects = true}, NULL);

    /* An error like any other, only with another name. */
    return !ok && GetLastError() == WSAECONNRESET ? sim_result(ERROR_PIPE_CONNECTED) : ok;
}

BOOL DeviceIoControl(HANDLE file, DWORD code, void *input, DWORD input_size, void *output, DWORD output_size,
                     DWORD *bytes, OVERLAPPED *overlapped)
{
    request new = {.reads = true};

    (void)bytes;
    sim_touch_read(input, input_size);
    if (code == AFD_POLL) {
        poll_info *info = input;

        if (input != output || input_size != sizeof *info || output_size != sizeof *info || info->timeout != INT64_MAX ||
            info->count != 1 || info->exclusive || !(info->events & POLL_LOCAL_CLOSE))
            sim_broken("a poll that asks for something else");
        sim_lock();
        new = (request){.poll = info, .asked = info->events, .size = sizeof *info, .whole = true};
        new.polled = sim_lookup(info->socket, "IOCTL_AFD_POLL");
        sim_unlock();
        return io_call("DeviceIoControl", file, overlapped, new, NULL);
    }
    add_buffer(&new, output, output_size);
    return io_call("DeviceIoControl", file, overlapped, new, NULL);
}

BOOL LockFileEx(HANDLE file, DWORD flags, DWORD reserved, DWORD low, DWORD high, OVERLAPPED *overlapped)
{
    uint64_t length = low | (uint64_t)high << 32, offset = overlapped->Offset | (uint64_t)overlapped->OffsetHigh << 32;

    (void)flags, (void)reserved;
    if (length != 0 && offset + (length - 1) < offset)
        sim_broken("LockFileEx past the end, which fails and completes");
    return io_call("LockFileEx", file, overlapped, (request){0}, NULL);
}

BOOL ReadDirectoryChangesW(HANDLE file, void *buffer, DWORD size, BOOL recursive, DWORD filter, DWORD *bytes,
                           OVERLAPPED *overlapped, void *routine)
{
    request new = {.reads = true};

    (void)recursive, (void)filter, (void)bytes, (void)routine;
    BOOL ok;

    add_buffer(&new, buffer, size);
    new.slow = true; /* nothing changes at once */
    ok = io_call("ReadDirectoryChangesW", file, overlapped, new, NULL);
    return !ok && GetLastError() == ERROR_IO_PENDING ? sim_result(0) : ok; /* it means: the request was accepted */
}

static int message_call(const char *name, SOCKET socket, WSABUF *list, DWORD count, request new, DWORD *late,
                        OVERLAPPED *overlapped)
{
    for (DWORD i = 0; i < count; i++)
        add_buffer(&new, list[i].buf, list[i].len);
    new.winsock = true;
    return io_call(name, (HANDLE)socket, overlapped, new, late) ? 0 : -1;
}

int WSARecv(SOCKET socket, WSABUF *list, DWORD count, DWORD *bytes, DWORD *flags, OVERLAPPED *overlapped, void *routine)
{
    (void)bytes, (void)routine;
    return message_call("WSARecv", socket, list, count, (request){.reads = true}, flags, overlapped);
}

int WSASend(SOCKET socket, WSABUF *list, DWORD count, DWORD *bytes, DWORD flags, OVERLAPPED *overlapped, void *routine)
{
    (void)bytes, (void)flags, (void)routine;
    return message_call("WSASend", socket, list, count, (request){.whole = true}, NULL, overlapped);
}

int WSARecvFrom(SOCKET socket, WSABUF *list, DWORD count, DWORD *bytes, DWORD *flags, struct sockaddr *name,
                int *name_size, OVERLAPPED *overlapped, void *routine)
{
    request new = {.reads = true, .name = name, .name_size = name_size};

    (void)bytes, (void)routine;
    return message_call("WSARecvFrom", socket, list, count, new, flags, overlapped);
}

int WSASendTo(SOCKET socket, WSABUF *list, DWORD count, DWORD *bytes, DWORD flags, const struct sockaddr *name,
              int name_size, OVERLAPPED *overlapped, void *routine)
{
    (void)bytes, (void)flags, (void)routine;
    sim_touch_read(name, (size_t)name_size);
    return message_call("WSASendTo", socket, list, count, (request){.whole = true}, NULL, overlapped);
}

static BOOL accept_ex(SOCKET listener, SOCKET socket, void *buffer, DWORD data, DWORD local, DWORD remote, DWORD *bytes,
                      OVERLAPPED *overlapped)
{
    request new = {.reads = true};

    (void)socket;
    add_buffer(&new, buffer, data + local + remote);
    return io_call("AcceptEx", (HANDLE)listener, overlapped, new, bytes);
}

static BOOL connect_ex(SOCKET socket, const struct sockaddr *name, int size, void *data, DWORD data_size, DWORD *bytes,
                       OVERLAPPED *overlapped)
{
    (void)data, (void)data_size, (void)bytes;
    sim_touch_read(name, (size_t)size);
    return io_call("ConnectEx", (HANDLE)socket, overlapped, (request){0}, NULL);
}

static BOOL disconnect_ex(SOCKET socket, OVERLAPPED *overlapped, DWORD flags, DWORD reserved)
{
    (void)flags, (void)reserved;
    return io_call("DisconnectEx", (HANDLE)socket, overlapped, (request){0}, NULL);
}

static BOOL transmit_file(SOCKET socket, HANDLE file, DWORD size, DWORD each, OVERLAPPED *overlapped, void *buffers,
                          DWORD flags)
{
    (void)file, (void)size, (void)each, (void)buffers, (void)flags;
    return io_call("TransmitFile", (HANDLE)socket, overlapped, (request){0}, NULL);
}

int WSAIoctl(SOCKET socket, DWORD code, void *input, DWORD input_size, void *output, DWORD output_size, DWORD *bytes,
             OVERLAPPED *overlapped, void *routine)
{
    static const GUID accept = WSAID_ACCEPTEX, connect = WSAID_CONNECTEX, disconnect = WSAID_DISCONNECTEX;
    const GUID *wanted = input;
    void *found;

    (void)input_size, (void)overlapped, (void)routine;
    sim_call("WSAIoctl");
    sim_lock();
    sim_lookup((HANDLE)socket, "WSAIoctl");
    sim_unlock();
    if (sim_fault(WSAENOBUFS))
        return -1;
    if (code != SIO_GET_EXTENSION_FUNCTION_POINTER) { /* a base handle, which is the socket; or a provider hides it */
        memcpy(output, &socket, output_size);
        *bytes = output_size;
        return sim_chance(2) ? 0 : (sim_result(WSAEOPNOTSUPP), -1);
    }
    found = wanted->Data1 == accept.Data1       ? (void *)accept_ex
            : wanted->Data1 == connect.Data1    ? (void *)connect_ex
            : wanted->Data1 == disconnect.Data1 ? (void *)disconnect_ex
                                                : (void *)transmit_file;
    memcpy(output, &found, output_size);
    *bytes = output_size;
    return 0;
}

int setsockopt(SOCKET socket, int level, int name, const char *value, int size)
{
    sim_object *object;

    (void)level, (void)size;
    sim_call("setsockopt");
    sim_lock();
    object = sim_lookup((HANDLE)socket, "setsockopt");
    if (object != NULL && name == SO_LINGER)
        object->unlingering = ((const struct linger *)(const void *)value)->l_onoff == 0;
    sim_unlock();
    return name != SO_LINGER && sim_fault(WSAENOTSOCK) ? -1 : 0;
}

static bool is_receive(const request *one)
{
    return one->winsock && one->reads;
}

BOOL CancelIoEx(HANDLE handle, OVERLAPPED *overlapped)
{
    sim_object *file;
    bool found = false, receives = false; /* of a connection, all end with one */
    request *next;

    sim_call("CancelIoEx");
    sim_lock();
    file = sim_lookup(handle, "CancelIoEx");
    if (file == NULL) {
        sim_unlock();
        return sim_result(ERROR_INVALID_HANDLE);
    }
    sim_trace("    handle %p, request %p", handle, (void *)overlapped);
    for (request *one = file->requests; one != NULL; one = one->next)
        if (one->overlapped == overlapped)
            receives = is_receive(one) && sim_chance(2);
    for (request *one = file->requests; one != NULL; one = next) {
        next = one->next;
        if (overlapped != NULL && one->overlapped != overlapped && !(receives && is_receive(one)))
            continue;
        found = true;
        one->cancelled = true;
        if (file->peer != NULL || (one->polled != NULL && behaves(one->polled)) || sim_chance(2))
            end_request(file, one, ERROR_OPERATION_ABORTED, 0);
    }
    sim_unlock();
    sim_yield();
    return sim_result(found ? 0 : ERROR_NOT_FOUND);
}
