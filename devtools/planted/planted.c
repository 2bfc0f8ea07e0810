/* Each function makes one mistake, which the variant that it is for has to notice: see devtools/testing.py. What is
 * volatile here keeps the compiler from seeing through the mistake, and from leaving it out. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <limits.h>
#include <stdlib.h>
#include <windows.h>

enum { BLOCK = 100 };

static PyObject *signed_overflow(PyObject *module, PyObject *nothing)
{
    volatile int most = INT_MAX;
    (void)module;
    (void)nothing;
    return PyLong_FromLong(most + 1);
}

static PyObject *write_past_end(PyObject *module, PyObject *nothing)
{
    volatile char *block = malloc(BLOCK);
    (void)module;
    (void)nothing;
    if (block == NULL)
        return PyErr_NoMemory();
    block[BLOCK] = 1; /* and stays, since Wine looks behind living blocks only */
    Py_RETURN_NONE;
}

static PyObject *write_past_object(PyObject *module, PyObject *nothing)
{
    volatile char *block = PyMem_Malloc(BLOCK);
    (void)module;
    (void)nothing;
    if (block == NULL)
        return PyErr_NoMemory();
    block[BLOCK] = 1;
    PyMem_Free((void *)block);
    Py_RETURN_NONE;
}

static PyObject *write_after_free(PyObject *module, PyObject *nothing)
{
    volatile char *block = malloc(BLOCK);
    (void)module;
    (void)nothing;
    if (block == NULL)
        return PyErr_NoMemory();
    free((void *)block);
    block[BLOCK / 2] = 1;
    Py_RETURN_NONE;
}

static PyObject *free_twice(PyObject *module, PyObject *nothing)
{
    char *volatile block = malloc(BLOCK);
    (void)module;
    (void)nothing;
    if (block == NULL)
        return PyErr_NoMemory();
    free(block);
    free(block);
    Py_RETURN_NONE;
}

/* Takes it for granted that a pool can be made, while the first Win32 call or allocation of tpio's fails. */
static PyObject *expect_success(PyObject *module, PyObject *nothing)
{
    PyObject *tpio = PyImport_ImportModule("tpio"), *extension, *name, *pool;
    wchar_t *file;
    void (*arm)(LONG) = NULL;

    (void)module;
    (void)nothing;
    if (tpio == NULL || (extension = PyObject_GetAttrString(tpio, "_tpio")) == NULL ||
        (name = PyObject_GetAttrString(extension, "__file__")) == NULL)
        return NULL;
    file = PyUnicode_AsWideCharString(name, NULL);
    if (file == NULL)
        return NULL;
    arm = (void (*)(LONG))(void (*)(void))GetProcAddress(GetModuleHandleW(file), "tpio_faults_arm");
    PyMem_Free(file);
    if (arm == NULL)
        Py_RETURN_NONE;
    arm(1);
    pool = PyObject_CallMethod(tpio, "Pool", NULL);
    if (pool == NULL)
        abort();
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"expect_success", expect_success, METH_NOARGS, NULL},
    {"signed_overflow", signed_overflow, METH_NOARGS, NULL},
    {"write_past_end", write_past_end, METH_NOARGS, NULL},
    {"write_past_object", write_past_object, METH_NOARGS, NULL},
    {"write_after_free", write_after_free, METH_NOARGS, NULL},
    {"free_twice", free_twice, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "planted",
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit_planted(void)
{
    return PyModuleDef_Init(&definition);
}
