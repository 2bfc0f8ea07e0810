/* An echo server in C on tpio: its callbacks run on threads of the system, without the GIL, and never touch Python.
 *
 *     listener = tpio.listen(("127.0.0.1", 7000))
 *     echo_c.serve(listener)                           # until the listener is closed
 *     connections, echoed = echo_c.statistics()        # open now; bytes since the beginning
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "tpio.h"

#include <stdlib.h>

static volatile LONG connections;
static volatile LONG64 echoed;

/* ---- a connection: receives, sends the same back, receives ------------------------------------------------------- */

typedef struct connection {
    tpio_op op; /* one is enough: there is never more than one under way */
    tpio_handle *handle;
    BOOL sending;
    DWORD size, sent; /* of what is in the buffer */
    char buffer[16384];
} connection;

static void connection_free(connection *c)
{
    tpio_handle_close(c->handle);
    tpio_handle_unref(c->handle);
    free(c);
    InterlockedDecrement(&connections);
}

/* The operation is over: submits the next one. TPIO_CLOSED: there is none. */
static tpio_status connection_next(connection *c)
{
    if (c->op.error != 0)
        return TPIO_CLOSED;
    if (c->sending) {
        c->sent += c->op.bytes;
        InterlockedExchangeAdd64(&echoed, c->op.bytes);
    } else {
        c->size = c->op.bytes;
        c->sent = 0;
        if (c->size == 0) /* the client has ended */
            return TPIO_CLOSED;
    }
    c->sending = c->sent < c->size;
    if (c->sending)
        return tpio_send(&c->op, c->handle, c->buffer + c->sent, c->size - c->sent, 0);
    return tpio_recv(&c->op, c->handle, c->buffer, sizeof c->buffer, 0);
}

/* After TPIO_PENDING the connection is the next callback's, which may be running already. */
static void connection_go_on(connection *c)
{
    tpio_status status;

    do
        status = connection_next(c);
    while (status == TPIO_DONE);
    if (status == TPIO_CLOSED)
        connection_free(c);
}

static tpio_tail_fn connection_complete(tpio_op *op)
{
    connection_go_on(op->user);
    return NULL;
}

static void connection_begin(tpio_pool *pool, SOCKET socket)
{
    connection *c = calloc(1, sizeof *c);
    tpio_bind_error why;
    tpio_status status;

    if (c == NULL || tpio_handle_bind(pool, (HANDLE)socket, TPIO_OWNS | TPIO_SOCKET, &c->handle, &why) != 0) {
        closesocket(socket);
        free(c);
        return;
    }
    InterlockedIncrement(&connections);
    c->op.complete = connection_complete;
    c->op.user = c;
    status = tpio_recv(&c->op, c->handle, c->buffer, sizeof c->buffer, 0);
    if (status == TPIO_DONE)
        connection_go_on(c);
    else if (status == TPIO_CLOSED)
        connection_free(c);
}

/* ---- the server: accepts, one connection after the other ---------------------------------------------------------- */

typedef struct server {
    tpio_op op;
    tpio_handle *listener; /* a reference: somebody in Python may close the listener, or drop it */
    tpio_pool *pool;       /* likewise */
    int family;
    SOCKET candidate;      /* becomes the next connection */
    char addresses[2 * TPIO_ADDRESS_SIZE];
} server;

static void server_free(server *s)
{
    if (s->candidate != INVALID_SOCKET)
        closesocket(s->candidate);
    tpio_handle_unref(s->listener);
    tpio_pool_unref(s->pool);
    free(s);
}

static tpio_status server_accept(server *s)
{
    tpio_status status;

    s->candidate = WSASocketW(s->family, SOCK_STREAM, IPPROTO_TCP, NULL, 0,
                              WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
    if (s->candidate == INVALID_SOCKET)
        return TPIO_CLOSED;
    status = tpio_accept(&s->op, s->listener, s->candidate, s->addresses, 0);
    if (status == TPIO_DONE && s->op.error != 0 && s->op.error != WSAECONNRESET)
        return TPIO_CLOSED; /* refused, and so would be the next: the socket does not listen */
    return status;
}

static tpio_status server_next(server *s)
{
    SOCKET accepted = s->candidate;

    s->candidate = INVALID_SOCKET;
    if (s->op.error == 0 && tpio_socket_accepted(accepted, (SOCKET)tpio_handle_file(s->listener)) == 0)
        connection_begin(s->pool, accepted);
    else
        closesocket(accepted);

    if (s->op.error == ERROR_OPERATION_ABORTED)
        return TPIO_CLOSED; /* the listener was closed */
    return server_accept(s); /* after any other error too: it is that of a client which has gone again */
}

static void server_go_on(server *s, tpio_status status)
{
    while (status == TPIO_DONE)
        status = server_next(s);
    if (status == TPIO_CLOSED)
        server_free(s);
}

static tpio_tail_fn server_complete(tpio_op *op)
{
    server_go_on(op->user, TPIO_DONE);
    return NULL;
}

/* ---- Python ------------------------------------------------------------------------------------------------------- */

static PyObject *serve(PyObject *module, PyObject *listener)
{
    tpio_handle *handle = tpio_handle_of(listener);
    tpio_pool *pool;
    PyObject *pool_object;
    WSAPROTOCOL_INFOW info;
    int size = sizeof info;
    server *s;

    (void)module;
    if (handle == NULL)
        return NULL;
    if (getsockopt((SOCKET)tpio_handle_file(handle), SOL_SOCKET, SO_PROTOCOL_INFOW, (char *)&info, &size) != 0) {
        PyErr_SetString(PyExc_TypeError, "a listening socket is needed");
        return NULL;
    }
    pool_object = PyObject_GetAttrString(listener, "pool");
    if (pool_object == NULL)
        return NULL;
    pool = tpio_pool_of(pool_object);
    Py_DECREF(pool_object); /* the listener has it */
    if (pool == NULL)
        return NULL;
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return PyErr_NoMemory();
    s->op.complete = server_complete;
    s->op.user = s;
    s->family = info.iAddressFamily;
    s->listener = handle;
    s->pool = pool;
    tpio_handle_ref(handle);
    tpio_pool_ref(pool);
    server_go_on(s, server_accept(s));
    Py_RETURN_NONE;
}

static PyObject *statistics(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return Py_BuildValue("lL", connections, echoed);
}

static int execute(PyObject *module)
{
    (void)module;
    return tpio_import();
}

static PyMethodDef methods[] = {
    {"serve", serve, METH_O, "serve(listener): echoes what the clients of a tpio.Socket send, until it is closed."},
    {"statistics", statistics, METH_NOARGS, "statistics() -> (connections that are open, bytes echoed)"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)execute},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "echo_c", .m_doc = "An echo server.", .m_methods = methods, .m_slots = slots,
};

PyMODINIT_FUNC PyInit_echo_c(void)
{
    return PyModuleDef_Init(&definition);
}
