/* tpio_core.c: what exists once in a process: the pinned module, the record of each thread, winsock's extensions. */
#include "tpio_internal.h"

#include <stdlib.h>

static DWORD core__fls = FLS_OUT_OF_INDEXES;
static void (*core__on_exit)(tpio_thread *thread);
static BOOL core__on_wine;

/* ---- threads ----------------------------------------------------------------------------------------------------
 * A record lives in fiber-local storage because that has a destructor: the pool's threads end when the system thinks
 * that there are too many of them, and then something must be told.
 */
static void NTAPI core__thread_ended(PVOID value)
{
    tpio_thread *thread = value;

    if (thread == NULL)
        return;
    if (core__on_exit != NULL)
        core__on_exit(thread);
    if (thread->event != NULL)
        CloseHandle(thread->event);
    if (thread->pool != NULL) {
        InterlockedDecrement(&thread->pool->thread_count);
        tpio_pool_unref(thread->pool);
    }
    free(thread);
}

tpio_thread *tpio_thread_current(void)
{
    tpio_thread *thread = FlsGetValue(core__fls);

    if (thread != NULL)
        return thread;
    thread = calloc(1, sizeof *thread);
    if (thread != NULL && !FlsSetValue(core__fls, thread)) {
        free(thread);
        thread = NULL;
    }
    return thread;
}

void tpio_thread_on_exit(void (*fn)(tpio_thread *thread))
{
    core__on_exit = fn;
}

tpio_thread *tpio__thread_enter(tpio_pool *pool, PTP_CALLBACK_INSTANCE instance)
{
    tpio_thread *thread = tpio_thread_current();

    if (thread == NULL)
        return NULL;
    if (thread->pool == NULL) {
        thread->pool = pool;
        tpio_pool_ref(pool);
        InterlockedIncrement(&pool->thread_count);
    }
    thread->depth++;
    thread->instance = instance;
    return thread;
}

void tpio__thread_leave(tpio_thread *thread)
{
    if (thread == NULL)
        return;
    thread->depth--;
    thread->instance = NULL;
}

BOOL tpio__on_wine(void)
{
    return core__on_wine;
}

void tpio_callback_may_block(PTP_CALLBACK_INSTANCE instance)
{
    /* Wine starts a thread when something is queued and all threads are busy, and one that has been woken but has not
     * yet begun is not busy for it: of a few callbacks queued at once, some wait behind the first however long that
     * takes. When the first begins it is busy, and this call starts the thread that was missed. */
    if (core__on_wine && instance != NULL)
        CallbackMayRunLong(instance);
}

void tpio__environ_runs_long(TP_CALLBACK_ENVIRON *environ_)
{
    /* For Wine this makes the call above do nothing, and brings no thread itself. */
    if (!core__on_wine)
        SetThreadpoolCallbackRunsLong(environ_);
}

DWORD tpio_init(void)
{
    HMODULE self;

    /* A callback may be on its way for as long as the process lives, and its code must be there. */
    if (!GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS,
                            (LPCWSTR)(void *)&core__fls, &self))
        return GetLastError();
    core__on_wine = GetProcAddress(GetModuleHandleW(L"ntdll.dll"), "wine_get_version") != NULL;
    core__fls = FlsAlloc(core__thread_ended);
    return core__fls != FLS_OUT_OF_INDEXES ? ERROR_SUCCESS : GetLastError();
}

/* ---- queue ------------------------------------------------------------------------------------------------------
 * A stack that is always emptied as a whole: no operation is ever taken from its middle, so there is no ABA.
 */
BOOL tpio_queue_put(tpio_queue *queue, tpio_op *op)
{
    PVOID top = queue->top, seen;

    for (;;) {
        op->next = top;
        seen = InterlockedCompareExchangePointer(&queue->top, op, top);
        if (seen == top)
            return top == NULL; /* not op->next: the operation may have been taken by now */
        top = seen;
    }
}

tpio_op *tpio_queue_take(tpio_queue *queue)
{
    tpio_op *op = InterlockedExchangePointer(&queue->top, NULL), *next, *oldest = NULL;

    for (; op != NULL; op = next) {
        next = op->next;
        op->next = oldest;
        oldest = op;
    }
    return oldest;
}

/* ---- winsock ----------------------------------------------------------------------------------------------------
 * Extension functions are asked for through a socket of the provider. They are the same for every socket of Windows'
 * own providers; a pointer that two threads store at once is the same pointer.
 */
static struct core__extension {
    tpio_verb verb;
    GUID guid;
    PVOID volatile function;
} core__extensions[] = {
    {TPIO_ACCEPT, WSAID_ACCEPTEX, NULL},
    {TPIO_CONNECT, WSAID_CONNECTEX, NULL},
    {TPIO_DISCONNECT, WSAID_DISCONNECTEX, NULL},
    {TPIO_TRANSMIT, WSAID_TRANSMITFILE, NULL},
};

static struct core__extension *core__extension_of(tpio_verb verb)
{
    struct core__extension *one = core__extensions;

    for (; one != core__extensions + sizeof core__extensions / sizeof *core__extensions; one++)
        if (one->verb == verb)
            return one;
    return NULL;
}

DWORD tpio__extension_find(tpio_verb verb, SOCKET socket)
{
    struct core__extension *wanted = core__extension_of(verb);
    void *found = NULL;
    DWORD bytes;

    if (wanted == NULL || wanted->function != NULL)
        return ERROR_SUCCESS;
    if (WSAIoctl(socket, SIO_GET_EXTENSION_FUNCTION_POINTER, &wanted->guid, sizeof wanted->guid, &found, sizeof found,
                 &bytes, NULL, NULL) != 0)
        return (DWORD)WSAGetLastError();
    wanted->function = found;
    return ERROR_SUCCESS;
}

void tpio__extension_get(tpio_verb verb, void *function, size_t size)
{
    struct core__extension *wanted = core__extension_of(verb);
    PVOID found = wanted != NULL ? wanted->function : NULL;

    CopyMemory(function, &found, size);
}

int tpio_socket_accepted(SOCKET socket, SOCKET listener)
{
    if (setsockopt(socket, SOL_SOCKET, SO_UPDATE_ACCEPT_CONTEXT, (const char *)&listener, sizeof listener) == 0)
        return 0;
    return WSAGetLastError();
}

int tpio_socket_connected(SOCKET socket)
{
    if (setsockopt(socket, SOL_SOCKET, SO_UPDATE_CONNECT_CONTEXT, NULL, 0) == 0)
        return 0;
    return WSAGetLastError();
}
