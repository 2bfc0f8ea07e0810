/* tpio_faults.c: which call fails. Nothing of it is in an ordinary build: see tpio_faults.h. */
#include "tpio_win32.h"

#ifdef TPIO_FAULTS

#include <string.h>

#include "tpio_faults.h"

static const char *volatile faults__spared = "";
static volatile LONG faults__nth; /* 0: none */
static volatile LONG faults__calls = -1; /* negative: not armed */
static const char *volatile faults__function;
static volatile unsigned faults__error;

int tpio_fault(const char *function, unsigned error)
{
    DWORD last = GetLastError();
    LONG calls = faults__calls, seen;

    if (calls >= 0 && strcmp(function, faults__spared) == 0)
        return FALSE;
    for (;;) {
        if (calls < 0)
            return FALSE;
        seen = InterlockedCompareExchange(&faults__calls, calls + 1, calls);
        if (seen == calls)
            break;
        calls = seen;
    }
    if (calls + 1 != faults__nth) {
        SetLastError(last); /* as if nobody had been here */
        return FALSE;
    }
    faults__function = function;
    faults__error = error;
    SetLastError(error);
    return TRUE;
}

/* For tests/test_faults.py, which calls them through ctypes. */

/* From now on calls are counted, and the n-th fails; 0: none. */
__declspec(dllexport) void tpio_faults_arm(LONG n)
{
    faults__function = "";
    faults__error = 0;
    faults__nth = n;
    InterlockedExchange(&faults__calls, 0);
}

/* A function that does not fail, and is not counted; "" for none. The name has to stay. */
__declspec(dllexport) void tpio_faults_spare(const char *function)
{
    faults__spared = function;
}

/* How many there were. */
__declspec(dllexport) LONG tpio_faults_disarm(void)
{
    return InterlockedExchange(&faults__calls, -1);
}

/* What failed: the function's name and its error; "" when nothing did. */
__declspec(dllexport) const char *tpio_faults_function(void)
{
    return faults__function;
}

__declspec(dllexport) unsigned tpio_faults_error(void)
{
    return faults__error;
}

#else
typedef int tpio_no_faults; /* a file of C has a declaration */
#endif
