/* tpio_poll.c: readiness of sockets, by the request that select is made of (IOCTL_AFD_POLL).
 *
 * A poll is an overlapped device control, and needs a handle to be sent through, which is bound to the pool. Which sockets it
 * is about stands in its input. So there are two ways, and only one of them needs the socket to be bound here:
 *
 *     tpio_poll_handle   through the socket's own handle: its gate, its cancel and its close are those of any operation
 *     tpio_poll          through a handle of \Device\Afd, a device of the pool's: for any socket of this process
 *
 * A device takes at most TPIO__DEVICE_POLLS polls at once, because the system keeps the requests of a handle in a list and looks
 * through it for each that ends. Further devices are opened when all are full. They are handles of the pool like others,
 * but not counted as the program's, and stay until the pool is closed; their records stay as long as the pool's memory, so
 * that a poll that has ended can still be cancelled in vain.
 *
 * The input says "no time limit" and "not exclusive": an exclusive poll would end those of others. A socket that is closed
 * under its poll ends it with the event TPIO_POLL_LOCAL_CLOSE. Of a cancelled poll the field of the events still holds what
 * was asked for (Wine leaves the output alone), so the error and the number of sockets are looked at first.
 */
#include "tpio_internal.h"

#include <stdlib.h>

#define POLL__FOREVER INT64_MAX

/* mswsock.h has them all on Windows only. */
#ifndef SIO_BASE_HANDLE
#define SIO_BASE_HANDLE 0x48000022
#endif
#ifndef SIO_BSP_HANDLE
#define SIO_BSP_HANDLE 0x4800001B
#endif
#ifndef SIO_BSP_HANDLE_SELECT
#define SIO_BSP_HANDLE_SELECT 0x4800001C
#endif
#ifndef SIO_BSP_HANDLE_POLL
#define SIO_BSP_HANDLE_POLL 0x4800001D
#endif

/* ---- sockets ---------------------------------------------------------------------------------------------------- */

static DWORD poll__ask(SOCKET socket, DWORD code, HANDLE *base)
{
    SOCKET found = INVALID_SOCKET;
    DWORD bytes;

    if (WSAIoctl(socket, code, NULL, 0, &found, sizeof found, &bytes, NULL, NULL) != 0)
        return (DWORD)WSAGetLastError();
    *base = (HANDLE)found;
    return ERROR_SUCCESS;
}

DWORD tpio_socket_base(SOCKET socket, HANDLE *base)
{
    static const DWORD codes[] = {SIO_BSP_HANDLE_SELECT, SIO_BSP_HANDLE_POLL, SIO_BSP_HANDLE};
    DWORD error = poll__ask(socket, SIO_BASE_HANDLE, base);
    size_t i;

    if (error == ERROR_SUCCESS || error == WSAENOTSOCK)
        return error;
    /* A layered provider that hides the base handle. It may still give the handle that it uses for select, which is not
     * the socket itself: that was asked already. */
    for (i = 0; i < sizeof codes / sizeof *codes; i++)
        if (poll__ask(socket, codes[i], base) == ERROR_SUCCESS && (SOCKET)*base != socket)
            return ERROR_SUCCESS;
    return error;
}

/* ---- devices ---------------------------------------------------------------------------------------------------- */

static void poll__list_free(tpio_pool *pool, tpio_device *device)
{
    device->next_free = pool->polls.free;
    pool->polls.free = device;
}

/* Opens another device, with room taken for one poll. */
static DWORD poll__open(tpio_pool *pool, tpio_device **result)
{
    tpio_device *device = calloc(1, sizeof *device);
    tpio_bind_error why;
    HANDLE file;
    DWORD error;

    if (device == NULL)
        return ERROR_NOT_ENOUGH_MEMORY;
    /* The name after the device's is free to choose; CreateFileW reaches it by the object manager's root. */
    file = CreateFileW(L"\\\\.\\GLOBALROOT\\Device\\Afd\\Tpio", SYNCHRONIZE, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL,
                       OPEN_EXISTING, FILE_FLAG_OVERLAPPED, NULL);
    if (file == INVALID_HANDLE_VALUE) {
        error = GetLastError();
        goto failed_open;
    }
    error = tpio_handle_bind(pool, file, TPIO_OWNS | TPIO__DEVICE, &device->handle, &why);
    if (error != ERROR_SUCCESS)
        goto failed_bind;
    device->polls = 1;
    AcquireSRWLockExclusive(&pool->lock);
    device->next = pool->polls.devices;
    pool->polls.devices = device;
    poll__list_free(pool, device);
    ReleaseSRWLockExclusive(&pool->lock);
    *result = device;
    return ERROR_SUCCESS;

failed_bind:
    CloseHandle(file);
failed_open:
    free(device);
    return error;
}

/* Takes room for one poll. */
static DWORD poll__enter(tpio_pool *pool, tpio_device **result)
{
    tpio_device *device;

    AcquireSRWLockExclusive(&pool->lock);
    device = pool->polls.free;
    if (device != NULL && ++device->polls == TPIO__DEVICE_POLLS)
        pool->polls.free = device->next_free;
    ReleaseSRWLockExclusive(&pool->lock);
    *result = device;
    return device != NULL ? ERROR_SUCCESS : poll__open(pool, result);
}

static void poll__leave(tpio_pool *pool, tpio_device *device)
{
    AcquireSRWLockExclusive(&pool->lock);
    if (device->polls-- == TPIO__DEVICE_POLLS)
        poll__list_free(pool, device);
    ReleaseSRWLockExclusive(&pool->lock);
}

void tpio__polls_free(tpio_pool *pool)
{
    tpio_device *device, *next;

    for (device = pool->polls.devices; device != NULL; device = next) {
        next = device->next;
        tpio_handle_unref(device->handle);
        free(device);
    }
}

/* ---- polls ------------------------------------------------------------------------------------------------------ */

static tpio_status poll__submit(tpio_op *op, tpio_handle *handle, tpio_device *device, HANDLE base, ULONG events)
{
    op->args.poll.device = device;
    op->args.poll.info.timeout = POLL__FOREVER;
    op->args.poll.info.count = 1;
    op->args.poll.info.exclusive = FALSE;
    op->args.poll.info.socket = base;
    op->args.poll.info.events = events | TPIO_POLL_LOCAL_CLOSE;
    op->args.poll.info.status = 0;
    return tpio__op_submit(op, handle, TPIO_POLL, 0);
}

tpio_status tpio_poll_handle(tpio_op *op, tpio_handle *handle, ULONG events)
{
    return poll__submit(op, handle, NULL, handle->file, events);
}

tpio_status tpio_poll(tpio_op *op, tpio_pool *pool, HANDLE base, ULONG events)
{
    tpio_device *device;
    tpio_status status;
    DWORD error = poll__enter(pool, &device);

    if (error != ERROR_SUCCESS) {
        if (tpio_pool_closing(pool))
            return TPIO_CLOSED;
        tpio__op_begin(op, pool, TPIO_POLL);
        op->handle = NULL;
        op->args.poll.device = NULL;
        tpio__op_end(op, error, 0);
        return TPIO_DONE;
    }
    status = poll__submit(op, device->handle, device, base, events);
    if (status == TPIO_CLOSED) /* or else its end has given the room back */
        poll__leave(pool, device);
    return status;
}

DWORD tpio__poll_end(tpio_op *op, DWORD error)
{
    if (op->args.poll.device != NULL)
        poll__leave(op->pool, op->args.poll.device);
    return error == ERROR_SUCCESS && op->args.poll.info.count == 1 ? op->args.poll.info.events : 0;
}
