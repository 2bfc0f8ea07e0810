# cython: language_level=3, freethreading_compatible=True, binding=True, embedsignature=True
# cython: auto_pickle=False, autotestdict=False
"""The binding: Python objects around the C core.

One read, from here to there and back:

    Handle.read              handle.pxi     makes a Future (the operation is inside it) and submits it
    tpio_read, ...           tpio_op.c      the Win32 call
    tpio__op_io_callback     tpio_op.c      on a pool thread, without the GIL
    on_complete, deliver     delivery.pxi   many completions for each time the GIL is taken
    FutureBase.conclude      future.pxi     result or error; wakes threads, tasks, callbacks

While an operation is submitted, the system holds one reference to its Future: taken before the call (started), dropped
after the delivery.
"""
cimport cython
cimport tpio_core as core
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF, PyObject
from cpython.exc cimport PyErr_CheckSignals
from libc.stdlib cimport calloc, free, malloc
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from cpython.pycapsule cimport PyCapsule_New
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.string cimport memcpy
from tpio_core cimport *

import concurrent.futures
import io
import os
import sys
import threading
from collections import namedtuple
from contextvars import copy_context
from operator import index as operator_index
from weakref import WeakKeyDictionary, WeakSet, ref

cdef extern from *:
    """
    #ifdef TPIO_FAULTS
    #include "tpio_faults.h"
    #endif
    #ifdef TPIO_COUNTS
    #include "tpio_counts.h"
    #endif
    #ifdef Py_GIL_DISABLED
    #define TPIO_FREE_THREADED 1
    /* Turns one reference to an object that this thread has made into one of the kind that other threads have. Otherwise an
     * object whose last reference another thread drops is kept until the thread that made it runs Python code again, and a
     * thread of a pool may never. */
    static inline void tpio_hand_on(PyObject *object)
    {
        if (_Py_IsOwnedByCurrentThread(object) && !_Py_IsImmortal(object)) {
            _Py_atomic_add_ssize(&object->ob_ref_shared, (Py_ssize_t)1 << _Py_REF_SHARED_SHIFT);
            Py_DECREF(object);
        }
    }
    #else
    #define TPIO_FREE_THREADED 0
    #define tpio_hand_on(object) ((void)(object))
    #endif
    /* The event that the interpreter's SIGINT handler sets; multiprocessing waits on it in the same way. */
    PyAPI_FUNC(void *) _PyOS_SigintEvent(void);
    """
    const bint TPIO_FREE_THREADED
    void tpio_hand_on(PyObject *object)
    HANDLE _PyOS_SigintEvent() nogil

cdef extern from "Python.h":
    ctypedef struct PyThreadState:
        pass
    ctypedef int PyGILState_STATE
    PyGILState_STATE PyGILState_Ensure() nogil
    PyThreadState *PyThreadState_Get()
    PyThreadState *PyEval_SaveThread() nogil
    void PyErr_SetObject(object type, object value)
    void PyErr_WriteUnraisable(PyObject *where)
    const Py_ssize_t PY_SSIZE_T_MAX
    Py_ssize_t Py_REFCNT(object o)
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t size) except -1
    object PyErr_SetExcFromWindowsErr(object type, int error)
    Py_ssize_t PyNumber_AsSsize_t(object number, PyObject *exception) except? -1
    unsigned long PyThread_get_thread_ident() nogil

CancelledError = concurrent.futures.CancelledError
InvalidStateError = concurrent.futures.InvalidStateError

if core.tpio_init() != 0:
    raise ImportError("tpio: the process has no fiber-local storage left")

cdef class PoolBase      # pool.pxi
cdef class FutureBase    # future.pxi
cdef class Handle        # handle.pxi
cdef class Awaiter       # awaiting.pxi
cdef class Deadline      # future.pxi
cdef class Unclaimed     # unclaimed.pxi
cdef class Reader        # unclaimed.pxi
cdef class LoopInbox     # awaiting.pxi
cdef struct Blocked      # blocking.pxi

include "errors.pxi"
include "threads.pxi"
include "delivery.pxi"
include "future.pxi"
include "blocking.pxi"
include "awaiting.pxi"
include "pool.pxi"
include "unclaimed.pxi"
include "handle.pxi"
include "sockets.pxi"
include "pump.pxi"
include "system.pxi"
include "capi.pxi"
include "proactor.pxi"
include "tls.pxi"
