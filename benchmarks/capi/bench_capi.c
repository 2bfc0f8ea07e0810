/* Workloads of the benchmarks on tpio's C API: Python makes the handles, everything else happens in C, on the pool's threads
 * and without the GIL. Each function returns how many seconds its operations took.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "tpio.h"

#include <stdlib.h>

enum { PATIENCE = 60000 /* ms */, STRIDE = 7919 /* as in rows.py */ };

/* ---- a job: lanes, of which each does one operation after the other ------------------------------------------------- */

typedef struct job job;
typedef struct lane lane;

/* The lane's operation is over: submits the next. TPIO_CLOSED: there is none. */
typedef tpio_status (*lane_next_fn)(lane *l);

struct lane {
    tpio_op op, writing;
    volatile LONG is_writing; /* `writing` is the system's */
    job *job;
    lane_next_fn next;
    tpio_handle *reader, *writer; /* references: a job that is given up may outlive the Python objects */
    char *buffer;
    DWORD size;
    LONG64 left;            /* operations, or bytes */
    BOOL calls;             /* of a ping: writes first, and does not answer the last */
    LONG64 number, lanes;   /* of file reads: this one, and what it is to the lane's next */
    LONG64 blocks;          /* of the file */
};

struct job {
    volatile LONG under_way; /* lanes, and writes beside them; one for the job itself until it has begun all */
    volatile LONG error;
    BOOL sockets;
    LARGE_INTEGER began, ended;
    HANDLE done;
    Py_ssize_t lanes;
    lane lane[1];
};

static void job_leave(job *j)
{
    if (InterlockedDecrement(&j->under_way) == 0) {
        QueryPerformanceCounter(&j->ended);
        SetEvent(j->done);
    }
}

static tpio_status lane_fail(lane *l, DWORD error)
{
    InterlockedCompareExchange(&l->job->error, (LONG)error, 0);
    return TPIO_CLOSED;
}

/* After TPIO_PENDING the lane is the next callback's, which may be running already. */
static void lane_run(lane *l, tpio_status status)
{
    while (status == TPIO_DONE)
        status = l->op.error != 0 ? lane_fail(l, l->op.error) : l->next(l);
    if (status == TPIO_CLOSED)
        job_leave(l->job);
}

static tpio_tail_fn lane_complete(tpio_op *op)
{
    lane_run(op->user, TPIO_DONE);
    return NULL;
}

static tpio_status lane_read(lane *l)
{
    if (l->job->sockets)
        return tpio_recv(&l->op, l->reader, l->buffer, l->size, 0);
    return tpio_read(&l->op, l->reader, l->buffer, l->size, 0);
}

static void lane_written(lane *l)
{
    if (l->writing.error != 0)
        lane_fail(l, l->writing.error);
    InterlockedExchange(&l->is_writing, FALSE);
    job_leave(l->job);
}

static tpio_tail_fn lane_write_complete(tpio_op *op)
{
    lane_written(op->user);
    return NULL;
}

/* Beside the lane's own operation. */
static void lane_write(lane *l)
{
    tpio_status status;

    while (l->is_writing) /* the last one; its answer is here, so it is done or about to be */
        YieldProcessor();
    l->is_writing = TRUE;
    InterlockedIncrement(&l->job->under_way);
    if (l->job->sockets)
        status = tpio_send(&l->writing, l->writer, l->buffer, l->size, 0);
    else
        status = tpio_write(&l->writing, l->writer, l->buffer, l->size, 0);
    if (status == TPIO_CLOSED)
        l->writing.error = ERROR_OPERATION_ABORTED;
    if (status != TPIO_PENDING)
        lane_written(l);
}

/* ---- the workloads -------------------------------------------------------------------------------------------------- */

static tpio_status ping_next(lane *l)
{
    if (l->op.bytes != l->size)
        return lane_fail(l, ERROR_HANDLE_EOF);
    l->left--;
    if (!l->calls || l->left != 0)
        lane_write(l);
    return l->left != 0 ? lane_read(l) : TPIO_CLOSED;
}

static tpio_status receive_next(lane *l)
{
    if (l->op.bytes == 0)
        return lane_fail(l, ERROR_HANDLE_EOF);
    l->left -= l->op.bytes;
    return l->left != 0 ? lane_read(l) : TPIO_CLOSED;
}

static tpio_status send_next(lane *l)
{
    l->left -= l->op.bytes;
    return l->left != 0 ? tpio_write(&l->op, l->writer, l->buffer, l->size, 0) : TPIO_CLOSED;
}

static tpio_status file_read(lane *l)
{
    uint64_t offset = (uint64_t)(l->number * STRIDE % l->blocks * l->size);

    return tpio_read(&l->op, l->reader, l->buffer, l->size, offset);
}

static tpio_status file_next(lane *l)
{
    if (l->op.bytes != l->size)
        return lane_fail(l, ERROR_HANDLE_EOF);
    l->number += l->lanes;
    return --l->left != 0 ? file_read(l) : TPIO_CLOSED;
}

/* ---- Python --------------------------------------------------------------------------------------------------------- */

static void job_free(job *j)
{
    for (Py_ssize_t i = 0; i < j->lanes; i++) {
        if (j->lane[i].reader != NULL)
            tpio_handle_unref(j->lane[i].reader);
        if (j->lane[i].writer != NULL)
            tpio_handle_unref(j->lane[i].writer);
        free(j->lane[i].buffer);
    }
    CloseHandle(j->done);
    free(j);
}

static job *job_new(Py_ssize_t lanes, DWORD size)
{
    job *j = calloc(1, sizeof *j + (size_t)lanes * sizeof j->lane[0]);

    if (j == NULL || (j->done = CreateEventW(NULL, TRUE, FALSE, NULL)) == NULL) {
        free(j);
        PyErr_NoMemory();
        return NULL;
    }
    j->under_way = 1;
    j->lanes = lanes;
    for (Py_ssize_t i = 0; i < lanes; i++) {
        lane *l = &j->lane[i];

        l->job = j;
        l->size = size;
        l->op.complete = lane_complete;
        l->writing.complete = lane_write_complete;
        l->op.user = l->writing.user = l;
        l->buffer = calloc(1, size);
        if (l->buffer == NULL) {
            job_free(j);
            PyErr_NoMemory();
            return NULL;
        }
    }
    return j;
}

/* A new reference; NULL with an exception set. */
static tpio_handle *new_handle_of(PyObject *object)
{
    tpio_handle *handle = tpio_handle_of(object);

    if (handle != NULL)
        tpio_handle_ref(handle);
    return handle;
}

/* FALSE: a ValueError is set. */
static BOOL is_some(Py_ssize_t count)
{
    if (count < 1)
        PyErr_SetString(PyExc_ValueError, "there is nothing to do");
    return count >= 1;
}

/* Begins every lane and waits until all have ended. Takes the job. */
static PyObject *job_run(job *j, tpio_status (*begin)(lane *l))
{
    LARGE_INTEGER frequency;
    DWORD waited, error;
    double seconds;

    Py_BEGIN_ALLOW_THREADS
    QueryPerformanceCounter(&j->began);
    for (Py_ssize_t i = 0; i < j->lanes; i++) {
        InterlockedIncrement(&j->under_way);
        lane_run(&j->lane[i], begin(&j->lane[i]));
    }
    job_leave(j);
    waited = WaitForSingleObject(j->done, PATIENCE);
    Py_END_ALLOW_THREADS

    if (waited != WAIT_OBJECT_0) { /* the job stays: its operations are the system's */
        PyErr_Format(PyExc_TimeoutError, "not done after %d ms", PATIENCE);
        return NULL;
    }
    error = (DWORD)j->error;
    QueryPerformanceFrequency(&frequency);
    seconds = (double)(j->ended.QuadPart - j->began.QuadPart) / (double)frequency.QuadPart;
    job_free(j);
    return error != 0 ? PyErr_SetFromWindowsErr((int)error) : PyFloat_FromDouble(seconds);
}

static tpio_status ping_begin(lane *l)
{
    if (l->calls)
        lane_write(l);
    return lane_read(l);
}

/* A connection's far end and its near one. FALSE: an exception is set. */
static BOOL ping_lanes(PyObject *connection, lane *pair)
{
    PyObject *handle[4];
    Py_ssize_t turns;

    if (!PyArg_ParseTuple(connection, "OOOOn", &handle[0], &handle[1], &handle[2], &handle[3], &turns) || !is_some(turns))
        return FALSE;
    for (int i = 0; i < 2; i++) {
        pair[i].reader = new_handle_of(handle[2 * i]);
        pair[i].writer = pair[i].reader != NULL ? new_handle_of(handle[2 * i + 1]) : NULL;
        if (pair[i].writer == NULL)
            return FALSE;
        pair[i].left = turns;
        pair[i].calls = i == 1;
        pair[i].next = ping_next;
    }
    return TRUE;
}

static PyObject *ping(PyObject *module, PyObject *args)
{
    PyObject *connections;
    unsigned long size;
    int sockets;
    job *j;

    (void)module;
    if (!PyArg_ParseTuple(args, "O!kp", &PyList_Type, &connections, &size, &sockets))
        return NULL;
    j = job_new(2 * PyList_GET_SIZE(connections), size);
    if (j == NULL)
        return NULL;
    j->sockets = sockets;
    for (Py_ssize_t i = 0; i < j->lanes / 2; i++)
        if (!ping_lanes(PyList_GET_ITEM(connections, i), &j->lane[2 * i])) {
            job_free(j);
            return NULL;
        }
    return job_run(j, ping_begin);
}

static tpio_status bulk_begin(lane *l)
{
    return l->reader != NULL ? lane_read(l) : tpio_write(&l->op, l->writer, l->buffer, l->size, 0);
}

static PyObject *bulk(PyObject *module, PyObject *args)
{
    PyObject *reader, *writer;
    unsigned long size;
    Py_ssize_t blocks;
    job *j;

    (void)module;
    if (!PyArg_ParseTuple(args, "OOnk", &reader, &writer, &blocks, &size) || !is_some(blocks))
        return NULL;
    j = job_new(2, size);
    if (j == NULL)
        return NULL;
    j->lane[0].reader = new_handle_of(reader);
    j->lane[0].next = receive_next;
    j->lane[1].writer = j->lane[0].reader != NULL ? new_handle_of(writer) : NULL;
    j->lane[1].next = send_next;
    j->lane[0].left = j->lane[1].left = (LONG64)blocks * size;
    if (j->lane[1].writer == NULL) {
        job_free(j);
        return NULL;
    }
    return job_run(j, bulk_begin);
}

static PyObject *file_reads(PyObject *module, PyObject *args)
{
    PyObject *file;
    Py_ssize_t reads, depth;
    unsigned long size;
    LARGE_INTEGER length;
    tpio_handle *handle;
    job *j;

    (void)module;
    if (!PyArg_ParseTuple(args, "Onkn", &file, &reads, &size, &depth))
        return NULL;
    handle = tpio_handle_of(file);
    if (handle == NULL)
        return NULL;
    if (!GetFileSizeEx(tpio_handle_file(handle), &length))
        return PyErr_SetFromWindowsErr(0);
    if (depth < 1 || reads < depth || size == 0 || length.QuadPart < size) {
        PyErr_SetString(PyExc_ValueError, "each of the reads in flight needs a block of the file");
        return NULL;
    }
    j = job_new(depth, size);
    if (j == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < depth; i++) {
        tpio_handle_ref(handle);
        j->lane[i].reader = handle;
        j->lane[i].next = file_next;
        j->lane[i].left = (reads - i + depth - 1) / depth;
        j->lane[i].number = i;
        j->lane[i].lanes = depth;
        j->lane[i].blocks = length.QuadPart / size;
    }
    return job_run(j, file_read);
}

static int execute(PyObject *module)
{
    (void)module;
    return tpio_import();
}

static PyMethodDef methods[] = {
    {"ping", ping, METH_VARARGS,
     "ping([(far reader, far writer, near reader, near writer, turns), ...], size, sockets) -> seconds"},
    {"bulk", bulk, METH_VARARGS, "bulk(reader, writer, blocks, size) -> seconds"},
    {"file_reads", file_reads, METH_VARARGS, "file_reads(file, reads, size, depth) -> seconds"},
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
    PyModuleDef_HEAD_INIT, .m_name = "bench_capi", .m_doc = "Workloads on tpio's C API.", .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit_bench_capi(void)
{
    return PyModuleDef_Init(&definition);
}
