"""Every function of Windows, and every allocation, that the sources call can be made to fail, or is listed with a reason.

So that `python dev.py test --faults` forgets none: src/tpio_faults.h has the hooks.
"""

import re
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src"
HOOKS = (SOURCES / "tpio_faults.h").read_text(encoding="utf-8")
HOOKED = set(re.findall(r"#define (\w+)\(\.\.\.\)", HOOKS))

# What cannot fail, or not so that a program could go on.
NEVER_FAILS = {
    "it returns nothing": """AcquireSRWLockExclusive ReleaseSRWLockExclusive InitializeSRWLock CancelThreadpoolIo
        CloseThreadpool CloseThreadpoolIo CloseThreadpoolTimer CloseThreadpoolWait CloseThreadpoolWork
        DeleteProcThreadAttributeList DestroyThreadpoolEnvironment DisassociateCurrentThreadFromCallback
        InitializeThreadpoolEnvironment SetLastError SetThreadpoolCallbackPool SetThreadpoolCallbackPriority
        SetThreadpoolCallbackRunsLong SetThreadpoolThreadMaximum SetThreadpoolTimer SetThreadpoolWait Sleep
        StartThreadpoolIo SubmitThreadpoolWork WaitForThreadpoolIoCallbacks WaitForThreadpoolTimerCallbacks
        WaitForThreadpoolWaitCallbacks WaitForThreadpoolWorkCallbacks WakeByAddressAll _aligned_free free""",
    "it only computes or copies": """CopyMemory ZeroMemory HasOverlappedIoCompleted InterlockedCompareExchange
        InterlockedCompareExchange64 InterlockedCompareExchangePointer InterlockedDecrement InterlockedExchange
        InterlockedExchange64 InterlockedExchangeAdd64 InterlockedExchangePointer InterlockedIncrement
        InterlockedIncrement64 InterlockedOr RtlNtStatusToDosError htonl htons inet_ntop inet_pton memcmp memcpy memmove memset
        ntohl ntohs wcslen""",
    "it reads a word of the process or the thread": """GetCurrentProcess GetLastError GetProcessHeap GetTickCount64
        WSAGetLastError FlsGetValue""",
    "its page says that it does not fail on any Windows that we support": """QueryPerformanceCounter
        QueryPerformanceFrequency""",
    "called once, at import, which fails then": "FlsAlloc GetModuleHandleExW",
    "on a handle that is open and ours it does not fail": "SetEvent ResetEvent",
    "it gives something back: if that fails nobody can do more, and what was to go stays": """CloseHandle closesocket
        HeapFree LocalFree""",
    "a thread that goes on in another's name is a danger: the error is raised, and the program must end": "RevertToSelf",
}
EXEMPT = {name for names in NEVER_FAILS.values() for name in names.split()}

WORDS = {"if", "for", "while", "switch", "return", "sizeof", "defined"}
OURS = re.compile(r"tpio_|[a-z]+__")  # the core's own, and the binding's
CALL = re.compile(r"(?<![\w.>])([A-Za-z_]\w*)\(")


def without_comments(text):
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)


def calls_of_c(text):
    text = re.sub(r"^\s*#.*$", "", without_comments(text), flags=re.MULTILINE)
    return {name for name in CALL.findall(text) if name not in WORDS and not OURS.match(name)}


def calls_of_the_core():
    files = [file for file in SOURCES.glob("tpio_*.[ch]") if not file.name.startswith(("tpio_faults", "tpio_counts"))]
    return set().union(*(calls_of_c(file.read_text(encoding="utf-8")) for file in files))


def calls_of_the_binding():
    """What it declares of Windows, and what the C inside it calls."""
    found = set()
    for file in (*SOURCES.glob("*.pxi"), *SOURCES.glob("*.pxd"), *SOURCES.glob("*.pyx")):
        text = file.read_text(encoding="utf-8")
        for block in re.findall(r'^cdef extern from \*[^:]*:\n    """\n(.*?)    """', text, re.DOTALL | re.MULTILINE):
            found |= calls_of_c(block)
        declared = r'^cdef extern from (?!"Python)(?:"[\w.]+"|\*)[^:]*:\n((?:    .*\n|\n)+)'
        for block in re.findall(declared, text, re.MULTILINE):
            block = re.sub(r'""".*?"""', "", block, flags=re.DOTALL)
            block = re.sub(r'"[^"]*"', "", block)
            functions = re.findall(r"^    (?!ctypedef).*?(\w+)\(", block, re.MULTILINE)
            found |= {name for name in functions if not OURS.match(name)}
        for names in re.findall(r"^from libc\.std(?:lib|io) cimport (.*)$", text, re.MULTILINE):
            found |= set(names.split(", "))
    return {name for name in found if not re.match(r"_?Py", name)}


# Names in C that look like calls and are none of Windows'.
NOT_CALLED = {
    "NTSTATUS", "LONG", "void", "fn", "complete", "tail", "table", "submit", "ended",  # pointers to functions
    "F", "CRYPT32", "ADVAPI32", "NCRYPT", "offsetof",  # macros
}  # fmt: skip


def test_the_sources_are_read():
    assert {"ReadFile", "CreateThreadpoolIo", "calloc", "transmit"} <= calls_of_the_core()
    assert {"CreateProcessW", "CreateNamedPipeW", "WaitOnAddress", "bind"} <= calls_of_the_binding()


@pytest.mark.parametrize("calls", [calls_of_the_core, calls_of_the_binding])
def test_every_call_can_be_made_to_fail_or_says_why_not(calls):
    assert sorted(calls() - HOOKED - EXEMPT - NOT_CALLED) == []


def test_no_hook_and_no_exemption_is_left_over():
    called = calls_of_the_core() | calls_of_the_binding()
    assert sorted(EXEMPT - called) == []
    assert sorted(HOOKED - called - {name for name in HOOKED if name.startswith("Py")}) == []
    assert not HOOKED & EXEMPT
