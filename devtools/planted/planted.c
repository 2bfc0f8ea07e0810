/* Each function makes one mistake, which the variant that it is for has to notice: see devtools/testing.py. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <limits.h>

static PyObject *signed_overflow(PyObject *module, PyObject *nothing)
{
    volatile int most = INT_MAX; /* volatile: the compiler must not see through it */
    (void)module;
    (void)nothing;
    return PyLong_FromLong(most + 1);
}

static PyMethodDef functions[] = {
    {"signed_overflow", signed_overflow, METH_NOARGS, NULL},
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
